/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle_object: two deployments that behave as the tests of handles need them to.
 *
 *     leaf    echo(x) -> x; hold() -> never, until cancelled; items(n) -> a stream of 0..n-1;
 * large(n) -> n bytes; told() -> how many holds were cancelled front   (leaf)  relay(): calls
 * leaf.hold for its caller, and answers from the call's callback; writes(): streams until there is
 * no room, then only waits to be called; ended() -> how many of these have ended; every other word
 * tries one wrong answer
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <manta/manta.h>

/* ---- leaf ---- */

static atomic_int held, told;

static void on_hold_cancelled(void *owner)
{
    (void)owner;
    atomic_fetch_add(&told, 1);
}

static void leaf_echo(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_error error = {0};
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_arg(request, manta_copied(&value));
}

static void leaf_hold(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_on_cancel(request, on_hold_cancelled, NULL);
    atomic_fetch_add(&held, 1);
}

static void leaf_held(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_int(request, atomic_load(&held));
}

static void leaf_told(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_int(request, atomic_load(&told));
}

static void leaf_items(void *state, struct manta_request *request)
{
    int64_t count = 0;
    (void)state;
    manta_args_int(manta_request_args(request), 0, &count, NULL);
    manta_request_begin(request, 200, NULL, NULL, NULL, NULL);
    for (int64_t i = 0; i < count; i++) {
        int code = manta_request_write_arg(request, manta_int(i));
        if (code == MANTA_EAGAIN && manta_request_wait_room(request, 10) == 0)
            i--;
        else if (code < 0)
            break;
    }
    manta_request_finish(request);
}

static void leaf_large(void *state, struct manta_request *request)
{
    int64_t size = 0;
    (void)state;
    manta_args_int(manta_request_args(request), 0, &size, NULL);
    char *bytes = malloc((size_t)size + 1);
    memset(bytes, 'x', (size_t)size);
    manta_request_reply_binary(request, bytes, (size_t)size);
    free(bytes);
}

static const struct manta_method LEAF_METHODS[] = {{"echo", leaf_echo},   {"hold", leaf_hold},
                                                   {"held", leaf_held},   {"told", leaf_told},
                                                   {"items", leaf_items}, {"large", leaf_large}};

MANTA_DEPLOYMENT(leaf, .call = leaf_echo, .methods = LEAF_METHODS, .method_count = 6,
                 .max_ongoing_requests = 100);

/* ---- front ---- */

struct front {
    struct manta_handle *leaf;
    const char *word; /* constructor argument */
};

static atomic_int ended;

static int front_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct front *front = calloc(1, sizeof *front);
    *ret_state = front;
    return manta_args_handle(manta_replica_args(replica), 0, &front->leaf, reterr);
}

static void front_close(void *state)
{
    struct front *front = state;
    manta_handle_free(front->leaf);
    free(front);
}

static void on_relay_done(struct manta_call *call, void *owner)
{
    struct manta_error error = {0};
    if (manta_call_wait(call, 0, &error) < 0)
        manta_request_fail(owner, error.code, "%s", error.text);
    else
        manta_request_reply_nil(owner);
    manta_call_free(call);
    atomic_fetch_add(&ended, 1);
}

/* Two of them.  The callback of the second may answer at once, on another thread: the request is
 * not touched after it. */
static void front_relay(void *state, struct manta_request *request)
{
    struct front *front = state;
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "hold", .parent = request};
    struct manta_error error = {0};
    struct manta_call *first, *second;
    manta_call(front->leaf, &options, NULL, 0, &first, &error);
    options.done = on_relay_done;
    options.owner = request;
    if (manta_call(front->leaf, &options, NULL, 0, &second, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
}

static void write_more(void *owner)
{
    static char part[60000];
    int code;
    while ((code = manta_request_write(owner, part, sizeof part)) == 0)
        ;
    if (code == MANTA_EAGAIN)
        return; /* it is called again */
    manta_request_finish(owner);
    atomic_fetch_add(&ended, 1);
}

static void front_writes(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_begin(request, 200, NULL, write_more, request, NULL);
    write_more(request);
}

static void front_ended(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_int(request, atomic_load(&ended));
}

/* What the answering function said goes into the next answer. */
static int said;

static void front_wrong(void *state, struct manta_request *request)
{
    const char *what = "";
    static char long_text[200000];
    struct manta_error error = {0};
    (void)state;
    manta_args_string(manta_request_args(request), 0, &what, NULL);
    memset(long_text, 'x', sizeof long_text - 1);
    if (!strcmp(what, "status"))
        said = manta_request_reply_http(request, 99, NULL, NULL, 0);
    else if (!strcmp(what, "type"))
        said = manta_request_reply_http(request, 200, long_text, NULL, 0);
    else if (!strcmp(what, "value"))
        said = manta_request_reply_arg(request, (struct manta_arg){.type = MANTA_ARG_VALUE});
    else if (!strcmp(what, "headers")) {
        said = 0;
        for (int i = 0; i < 10 && said == 0; i++)
            said = manta_request_add_header(request, "x-long", long_text + 190000, &error);
        manta_request_reply_nil(request);
    } else if (!strcmp(what, "part")) {
        manta_request_begin(request, 200, NULL, NULL, NULL, NULL);
        said = manta_request_write(request, long_text, sizeof long_text);
        manta_request_finish(request);
    } else {
        manta_request_reply_int(request, said);
    }
}

/* An HTTP request: what a body says as a value, and a path that is asked for again and again. */
static void front_http(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_error error = {0};
    const char *path = manta_request_path(request);
    (void)state;
    for (int i = 0; i < 20000; i++)
        if (manta_request_path(request) != path || !manta_request_header(request, "host")) {
            manta_request_fail(request, MANTA_EUSER, "the path moved");
            return;
        }
    if (manta_request_value(request, &value, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_int(request, manta_value_count(&value));
}

static const struct manta_method FRONT_METHODS[] = {{"relay", front_relay},
                                                    {"writes", front_writes},
                                                    {"ended", front_ended},
                                                    {"wrong", front_wrong}};

MANTA_DEPLOYMENT(front, .open = front_open, .close = front_close, .call = front_http,
                 .methods = FRONT_METHODS, .method_count = 4, .max_ongoing_requests = 100);

MANTA_APPLICATION(pair)
{
    return manta_bind(app, &front, manta_bind(app, &leaf));
}

/* ---- a check that hangs ---- */

static int hang(void *state, struct manta_error *reterr)
{
    static atomic_int times;
    (void)state;
    (void)reterr;
    while (atomic_fetch_add(&times, 1) > 0)
        for (;;)
            pause();
    return 0;
}

static void touched_close(void *state)
{
    *(volatile int *)state = 1;
    free(state);
}

static int touched_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    (void)replica;
    (void)reterr;
    *ret_state = malloc(sizeof(int));
    return 0;
}

MANTA_DEPLOYMENT(sick, .open = touched_open, .close = touched_close, .call = leaf_echo,
                 .check_health = hang, .health_check_period_s = 0.01);

MANTA_APPLICATION(hanging)
{
    return manta_bind(app, &sick);
}
