/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference_object: deployments that take, make and pass on large values, for the tests of buffers.
 *
 *     echo(x) -> x            make(n) -> n patterned bytes by reference
 *     sum(x) -> bytes added   scale(tensor of float) -> another tensor, twice each element
 *     items(n, size) -> a stream of n values by reference; raw(n, size): as bytes
 *     keep(x) -> bytes added, of what the call before gave; die() -> the process ends
 *     HTTP: the body comes back
 */
#include <signal.h>
#include <unistd.h>

#include <manta/manta.h>

static bool fill(int64_t seed, int64_t size, struct manta_buffer **ret_buffer,
                 struct manta_error *reterr)
{
    if (manta_buffer_new((size_t)size, ret_buffer, reterr) < 0)
        return false;
    uint8_t *at = manta_buffer_at(*ret_buffer);
    for (int64_t i = 0; i < size; i++)
        at[i] = (uint8_t)(seed + i * 7);
    return true;
}

static void fail(struct manta_request *request, const struct manta_error *error)
{
    manta_request_fail(request, error->code, "%s", error->text);
}

static void echo(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_error error = {0};
    struct manta_buffer *body;
    size_t size;
    (void)state;
    if (!manta_request_is_http(request)) {
        if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0)
            fail(request, &error);
        else
            manta_request_reply_arg(request, manta_copied(&value));
    } else if (manta_request_body_buffer(request, &body, NULL) == 0) {
        manta_request_add_header(request, "x-way", "reference", NULL);
        manta_request_reply_buffer(request, 200, "application/octet-stream", body,
                                   manta_buffer_size(body));
        manta_buffer_free(body);
    } else {
        const void *at = manta_request_body(request, &size);
        manta_request_add_header(request, "x-way", "copy", NULL);
        manta_request_reply_http(request, 200, "application/octet-stream", at, size);
    }
}

static void make(void *state, struct manta_request *request)
{
    struct manta_error error = {0};
    struct manta_buffer *buffer;
    int64_t size;
    (void)state;
    if (manta_args_int(manta_request_args(request), 0, &size, &error) < 0 ||
        !fill(0, size, &buffer, &error)) {
        fail(request, &error);
        return;
    }
    manta_request_reply_arg(request, manta_by_reference(buffer));
    manta_buffer_free(buffer);
}

static int64_t sum_of(const void *at, size_t size)
{
    int64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)at)[i];
    return sum;
}

static void sum(void *state, struct manta_request *request)
{
    struct manta_error error = {0};
    const void *at;
    size_t size;
    (void)state;
    if (manta_args_binary(manta_request_args(request), 0, &at, &size, &error) < 0)
        fail(request, &error);
    else
        manta_request_reply_int(request, sum_of(at, size));
}

static void scale(void *state, struct manta_request *request)
{
    struct manta_error error = {0};
    struct manta_tensor given, doubled;
    struct manta_value value;
    void *data;
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_tensor(&value, &given, &error) < 0 ||
        manta_tensor_new(MANTA_TENSOR_FLOAT, 32, given.shape, given.ndim, &doubled, &data, &error) <
            0) {
        fail(request, &error);
        return;
    }
    for (size_t i = 0; i < manta_tensor_count(&given); i++)
        ((float *)data)[i] = 2 * ((const float *)given.data)[i];
    manta_request_reply_arg(request, manta_tensor_arg(&doubled));
    manta_tensor_done(&doubled);
}

static void stream(struct manta_request *request, bool raw)
{
    struct manta_error error = {0};
    struct manta_buffer *buffer;
    int64_t count, size;
    int code = 0;
    if (manta_args_int(manta_request_args(request), 0, &count, &error) < 0 ||
        manta_args_int(manta_request_args(request), 1, &size, &error) < 0 ||
        manta_request_begin(request, 200, raw ? "text/plain" : NULL, NULL, NULL, &error) < 0) {
        fail(request, &error);
        return;
    }
    for (int64_t i = 0; i < count && code == 0; i++) {
        if (!fill(i, size, &buffer, &error))
            break;
        struct manta_arg item = raw ? manta_binary(manta_buffer_data(buffer), (size_t)size)
                                    : manta_by_reference(buffer);
        while ((code = manta_request_write_arg(request, item)) == MANTA_EAGAIN)
            if (manta_request_wait_room(request, 30) < 0)
                break;
        manta_buffer_free(buffer);
    }
    manta_request_finish(request);
}

static void items(void *state, struct manta_request *request)
{
    (void)state;
    stream(request, false);
}

static void raw(void *state, struct manta_request *request)
{
    (void)state;
    stream(request, true);
}

static void keep(void *state, struct manta_request *request)
{
    static struct manta_buffer *kept;
    struct manta_error error = {0};
    struct manta_value value;
    struct manta_buffer *fresh;
    (void)state;
    int64_t before = kept ? sum_of(manta_buffer_data(kept), manta_buffer_size(kept)) : 0;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_buffer(&value, &fresh, NULL, NULL, &error) < 0) {
        fail(request, &error);
        return;
    }
    manta_buffer_free(kept);
    kept = fresh;
    manta_request_reply_int(request, before);
}

static void die(void *state, struct manta_request *request)
{
    (void)state;
    (void)request;
    kill(getpid(), SIGKILL);
}

static const struct manta_method METHODS[] = {{"make", make},   {"sum", sum}, {"scale", scale},
                                              {"items", items}, {"raw", raw}, {"keep", keep},
                                              {"die", die}};

MANTA_DEPLOYMENT(first, .call = echo, .methods = METHODS,
                 .method_count = sizeof METHODS / sizeof *METHODS);
MANTA_DEPLOYMENT(second, .call = echo, .methods = METHODS,
                 .method_count = sizeof METHODS / sizeof *METHODS);

MANTA_APPLICATION(references)
{
    return manta_bind(app, &first, manta_bind(app, &second));
}
