/* SPDX-License-Identifier: Apache-2.0 */
/*
 * math: two deployments composed by handles: x * factor + increment.
 *
 *     client --HTTP--> adder (2 replicas) --handle--> multiplier (2 replicas)
 *
 * The adder is the ingress.  It reads x from the query or from a JSON body, lets the multiplier
 * multiply, adds its increment and answers JSON.  A program or another deployment calls the same
 * adder through a handle, with x as the first argument, and gets the number alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* ---- multiplier --------------------------------------------------------------------------- */

struct multiplier {
    int64_t factor;
};

static int multiplier_open(struct manta_replica *replica, void **ret_state,
                           struct manta_error *reterr)
{
    struct multiplier *multiplier = calloc(1, sizeof *multiplier);
    if (!multiplier)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a multiplier");
    int code = manta_args_int(manta_replica_args(replica), 0, &multiplier->factor, reterr);
    if (code < 0) {
        free(multiplier);
        return code;
    }
    *ret_state = multiplier;
    return 0;
}

static void multiplier_close(void *state)
{
    free(state);
}

static void multiplier_call(void *state, struct manta_request *request)
{
    struct multiplier *multiplier = state;
    struct manta_error error;
    int64_t x, product;
    if (manta_args_int(manta_request_args(request), 0, &x, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else if (__builtin_mul_overflow(x, multiplier->factor, &product))
        manta_request_fail(request, MANTA_EINVALID, "the product has more than 64 bits");
    else
        manta_request_reply_int(request, product);
}

MANTA_DEPLOYMENT(multiplier, .open = multiplier_open, .close = multiplier_close,
                 .call = multiplier_call, .num_replicas = 2, .max_ongoing_requests = 64);

/* ---- adder -------------------------------------------------------------------------------- */

struct adder {
    struct manta_handle *multiplier;
    int64_t increment;
};

static void adder_close(void *state)
{
    struct adder *adder = state;
    manta_handle_free(adder->multiplier);
    free(adder);
}

static int adder_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const struct manta_args *args = manta_replica_args(replica);
    struct adder *adder = calloc(1, sizeof *adder);
    if (!adder)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for an adder");
    int code = manta_args_handle(args, 0, &adder->multiplier, reterr);
    if (code == 0)
        code = manta_args_int(args, 1, &adder->increment, reterr);
    if (code < 0) {
        adder_close(adder);
        return code;
    }
    *ret_state = adder;
    return 0;
}

/* The number of "x=4" in a query such as "a=1&x=4". */
static int query_number(const char *query, int64_t *ret_x, struct manta_error *reterr)
{
    while (query && strncmp(query, "x=", 2) != 0) {
        query = strchr(query, '&');
        query = query ? query + 1 : NULL;
    }
    if (!query)
        return manta_error_set(reterr, MANTA_EINVALID, "say ?x=4, or post {\"x\": 4}");
    char *end;
    errno = 0;
    long long x = strtoll(query + 2, &end, 10);
    if (end == query + 2 || (*end && *end != '&') || errno)
        return manta_error_set(reterr, MANTA_EINVALID, "x must be a whole number of 64 bits");
    *ret_x = x;
    return 0;
}

static int read_x(struct manta_request *request, int64_t *ret_x, struct manta_error *reterr)
{
    struct manta_value body, x;
    size_t size;
    if (!manta_request_is_http(request))
        return manta_args_int(manta_request_args(request), 0, ret_x, reterr);
    manta_request_body(request, &size);
    if (!size)
        return query_number(manta_request_query(request), ret_x, reterr);
    int code = manta_request_value(request, &body, reterr);
    if (code == 0)
        code = manta_value_get(&body, "x", &x, reterr);
    if (code == 0)
        code = manta_value_int(&x, ret_x, reterr);
    /* Whatever is wrong with the body is the client's mistake: 400, "not found" included. */
    return code < 0 ? MANTA_EINVALID : 0;
}

/*
 * Waits for the multiplier.  With .parent the call inherits this request's id and deadline, and is
 * cancelled when our client leaves.
 */
static int multiply(struct adder *adder, struct manta_request *request, int64_t x,
                    int64_t *ret_product, struct manta_error *reterr)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .parent = request};
    struct manta_arg args[] = {manta_int(x)};
    struct manta_call *call;
    int code = manta_call(adder->multiplier, &options, args, 1, &call, reterr);
    if (code < 0)
        return code;
    code = manta_call_wait(call, -1, reterr);
    if (code == 0)
        code = manta_value_int(manta_call_value(call), ret_product, reterr);
    manta_call_free(call);
    return code;
}

static void reply_result(struct manta_request *request, int64_t result)
{
    struct manta_pack *pack;
    if (!manta_request_is_http(request)) {
        manta_request_reply_int(request, result);
        return;
    }
    pack = manta_pack_new();
    if (!pack) {
        manta_request_fail(request, MANTA_EMEMORY, "no memory for the answer");
        return;
    }
    manta_pack_map(pack, 1);
    manta_pack_arg(pack, manta_string("result"));
    manta_pack_arg(pack, manta_int(result));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

static void adder_call(void *state, struct manta_request *request)
{
    struct adder *adder = state;
    struct manta_error error = {0};
    int64_t x, product, sum;
    int code = read_x(request, &x, &error);
    if (code == 0)
        code = multiply(adder, request, x, &product, &error);
    if (code < 0)
        manta_request_fail(request, code, "%s", error.text);
    else if (__builtin_add_overflow(product, adder->increment, &sum))
        manta_request_fail(request, MANTA_EINVALID, "the sum has more than 64 bits");
    else
        reply_result(request, sum);
}

/* Each thread waits for one multiplication at a time, so that there are as many threads as calls.
 */
MANTA_DEPLOYMENT(adder, .open = adder_open, .close = adder_close, .call = adder_call,
                 .num_replicas = 2, .threads = 8, .max_ongoing_requests = 8);

/* ---- the graph ---------------------------------------------------------------------------- */

static bool number_argument(struct manta_app *app, const char *key, const char *fallback,
                            int64_t *ret_number)
{
    const char *text = manta_app_argument(app, key, fallback);
    char *end;
    errno = 0;
    *ret_number = strtoll(text, &end, 10);
    if (*text && !*end && !errno)
        return true;
    manta_app_fail(app, "%s=%s is not a whole number", key, text);
    return false;
}

/* manta run libmath.so:math factor=2 increment=3 */
MANTA_APPLICATION(math)
{
    int64_t factor, increment;
    if (!number_argument(app, "factor", "2", &factor) ||
        !number_argument(app, "increment", "3", &increment))
        return manta_nil();
    return manta_bind(app, &adder, manta_bind(app, &multiplier, manta_int(factor)),
                      manta_int(increment));
}
