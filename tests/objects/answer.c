/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: deployments that show how a request arrived, and that answer in unusual ways.
 *
 *     echo    what was asked, as JSON; a caller with a handle gets its arguments back.  Methods:
 * see METHODS gate    /wait is answered when somebody asks /open; /waiting tells how many wait late
 * answers from another thread, after the entry point has returned never   never answers twice
 * begins a streamed answer and then gives a whole one batch   a batch is answered with its size
 * and, for every request, its place in it reads   reads a streamed body in small parts and answers
 * with its size and its sum (stream_body=1)
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <manta/manta.h>

#include "options.h"

/* ---- echo --------------------------------------------------------------------------------- */

static void pack_text(struct manta_pack *pack, const char *key, const char *text)
{
    manta_pack_arg(pack, manta_string(key));
    manta_pack_arg(pack, manta_string(text));
}

static void pack_headers(struct manta_pack *pack, struct manta_request *request)
{
    const char *name, *value;
    uint32_t count = 0;
    while (manta_request_header_at(request, count, &name, &value))
        count++;
    manta_pack_arg(pack, manta_string("headers"));
    manta_pack_array(pack, count);
    for (uint32_t i = 0; i < count && manta_request_header_at(request, i, &name, &value); i++) {
        manta_pack_array(pack, 2);
        manta_pack_arg(pack, manta_string(name));
        manta_pack_arg(pack, manta_string(value));
    }
}

static void pack_request(struct manta_pack *pack, struct manta_request *request)
{
    size_t size;
    const void *body = manta_request_body(request, &size);
    manta_pack_map(pack, 10);
    pack_text(pack, "method", manta_request_method(request));
    pack_text(pack, "path", manta_request_path(request));
    pack_text(pack, "query", manta_request_query(request));
    pack_text(pack, "route_prefix", manta_request_route_prefix(request));
    pack_text(pack, "content_type", manta_request_content_type(request));
    pack_text(pack, "id", manta_request_id(request));
    pack_text(pack, "replica", manta_replica_id(manta_request_replica(request)));
    manta_pack_arg(pack, manta_string("process"));
    manta_pack_arg(pack, manta_int(getpid()));
    pack_headers(pack, request);
    manta_pack_arg(pack, manta_string("body"));
    manta_pack_arg(pack, (struct manta_arg){.type = MANTA_ARG_STRING, .u.at = body, .size = size});
}

static void pack_args(struct manta_pack *pack, const struct manta_args *args)
{
    struct manta_value value;
    size_t count = manta_args_count(args);
    manta_pack_array(pack, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        if (manta_args_value(args, i, &value, NULL) == 0)
            manta_pack_arg(pack, manta_copied(&value));
}

static void echo_call(void *state, struct manta_request *request)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_error error;
    const char *wanted = manta_request_header(request, "x-answer");
    (void)state;
    if (wanted && manta_request_add_header(request, "x-answer", wanted, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        manta_pack_free(pack);
        return;
    }
    if (manta_request_is_http(request))
        pack_request(pack, request);
    else
        pack_args(pack, manta_request_args(request));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

/* fail(code, text) */
static void echo_fail(void *state, struct manta_request *request)
{
    const char *text = "";
    int64_t code = MANTA_EUSER;
    (void)state;
    manta_args_int(manta_request_args(request), 0, &code, NULL);
    manta_args_string(manta_request_args(request), 1, &text, NULL);
    manta_request_fail(request, (int)code, "%s", text);
}

/* count(n): a stream of 0, 1, ... n - 1; count(n, text) breaks off after it with that text. */
static void echo_count(void *state, struct manta_request *request)
{
    struct manta_error error;
    const char *text = NULL;
    int64_t count = 0;
    int code = manta_args_int(manta_request_args(request), 0, &count, &error);
    (void)state;
    manta_args_string(manta_request_args(request), 1, &text, NULL);
    if (code == 0)
        code = manta_request_begin(request, 200, NULL, NULL, NULL, &error);
    if (code < 0) {
        manta_request_fail(request, code, "%s", error.text);
        return;
    }
    for (int64_t i = 0; i < count && code == 0; i++)
        while ((code = manta_request_write_arg(request, manta_int(i))) == MANTA_EAGAIN)
            manta_request_wait_room(request, -1);
    if (text)
        manta_request_fail(request, MANTA_EUSER, "%s", text);
    else
        manta_request_finish(request);
}

static void echo_nil(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

/* How many seconds the caller still waits; infinity is nil. */
static void echo_time_left(void *state, struct manta_request *request)
{
    double left_s = manta_request_time_left_s(request);
    (void)state;
    if (left_s > 1e9)
        manta_request_reply_nil(request);
    else
        manta_request_reply_float(request, left_s);
}

/* An answer in HTTP's form, which a caller gets as bytes. */
static void echo_page(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_http(request, 200, "text/html", "<p>page", 7);
}

static const struct manta_method METHODS[] = {{"fail", echo_fail},
                                              {"count", echo_count},
                                              {"nil", echo_nil},
                                              {"time_left", echo_time_left},
                                              {"page", echo_page}};

MANTA_DEPLOYMENT(echo, .call = echo_call, .methods = METHODS,
                 .method_count = sizeof METHODS / sizeof *METHODS, .threads = 4,
                 .max_ongoing_requests = 100);

MANTA_APPLICATION(echo)
{
    return bind_with_options(app, &echo);
}

/* ---- gate --------------------------------------------------------------------------------- */

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned opened;  /* how often; guarded by lock, as are all below */
    unsigned waiting; /* requests */
};

struct gate_wait {
    struct gate *gate;
    bool cancelled; /* guarded by the gate's lock */
};

static int gate_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct gate *gate = calloc(1, sizeof *gate);
    (void)replica;
    if (!gate)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a gate");
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    *ret_state = gate;
    return 0;
}

static void gate_close(void *state)
{
    free(state);
}

static void gate_cancelled(void *owner)
{
    struct gate_wait *wait = owner;
    pthread_mutex_lock(&wait->gate->lock);
    wait->cancelled = true;
    pthread_cond_broadcast(&wait->gate->changed);
    pthread_mutex_unlock(&wait->gate->lock);
}

static void gate_wait(struct gate *gate, struct manta_request *request)
{
    struct gate_wait wait = {.gate = gate};
    manta_request_on_cancel(request, gate_cancelled, &wait);
    pthread_mutex_lock(&gate->lock);
    unsigned opened = gate->opened;
    gate->waiting++;
    while (gate->opened == opened && !wait.cancelled)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->waiting--;
    pthread_mutex_unlock(&gate->lock);
    manta_request_reply_string(request, "through");
}

static unsigned gate_look(struct gate *gate, bool open)
{
    pthread_mutex_lock(&gate->lock);
    unsigned waiting = gate->waiting;
    gate->opened += open;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
    return waiting;
}

/* The last word of the path, or the first argument of a call: "wait", "open" or "waiting". */
static void gate_call(void *state, struct manta_request *request)
{
    const char *word = NULL;
    struct manta_error error;
    if (manta_request_is_http(request)) {
        const char *slash = strrchr(manta_request_path(request), '/');
        word = slash ? slash + 1 : "";
    } else if (manta_args_string(manta_request_args(request), 0, &word, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    if (!strcmp(word, "wait"))
        gate_wait(state, request);
    else if (!strcmp(word, "open") || !strcmp(word, "waiting"))
        manta_request_reply_int(request, gate_look(state, !strcmp(word, "open")));
    else
        manta_request_fail(request, MANTA_ENOTFOUND, "a gate has no '%s'", word);
}

MANTA_DEPLOYMENT(gate, .open = gate_open, .close = gate_close, .call = gate_call, .threads = 64,
                 .max_ongoing_requests = 64);

MANTA_APPLICATION(gate)
{
    return bind_with_options(app, &gate);
}

/* ---- late, never, twice -------------------------------------------------------------------- */

static void *late_main(void *owner)
{
    manta_request_reply_string(owner, "late");
    return NULL;
}

static void late_call(void *state, struct manta_request *request)
{
    pthread_t thread;
    (void)state;
    if (pthread_create(&thread, NULL, late_main, request) != 0)
        manta_request_fail(request, MANTA_ESYSTEM, "no thread");
    else
        pthread_detach(thread);
}

MANTA_DEPLOYMENT(late, .call = late_call, .max_ongoing_requests = 100);

MANTA_APPLICATION(late)
{
    return bind_with_options(app, &late);
}

static void never_call(void *state, struct manta_request *request)
{
    (void)state;
    (void)request;
}

MANTA_DEPLOYMENT(never, .call = never_call);

MANTA_APPLICATION(never)
{
    return bind_with_options(app, &never);
}

static void twice_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_begin(request, 200, "text/plain", NULL, NULL, NULL);
    manta_request_write(request, "begun", 5);
    manta_request_reply_string(request, "again");
}

MANTA_DEPLOYMENT(twice, .call = twice_call);

MANTA_APPLICATION(twice)
{
    return bind_with_options(app, &twice);
}

/* ---- batch -------------------------------------------------------------------------------- */

static void batch_call_batch(void *state, struct manta_request **requests, size_t count)
{
    (void)state;
    for (size_t i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "%zu of %zu", i + 1, count);
        manta_request_reply_string(requests[i], text);
    }
}

MANTA_DEPLOYMENT(batch, .call_batch = batch_call_batch, .max_ongoing_requests = 100);

MANTA_APPLICATION(batch)
{
    return bind_with_options(app, &batch);
}

/* ---- reads -------------------------------------------------------------------------------- */

static void reads_call(void *state, struct manta_request *request)
{
    uint8_t part[1000];
    struct manta_error error = {0};
    uint64_t size = 0, sum = 0;
    int64_t got;
    char text[64];
    (void)state;
    while ((got = manta_request_read(request, part, sizeof part, 20, &error)) > 0) {
        size += (uint64_t)got;
        for (int64_t i = 0; i < got; i++)
            sum += part[i];
    }
    if (got < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    snprintf(text, sizeof text, "%llu %llu", (unsigned long long)size, (unsigned long long)sum);
    manta_request_reply_string(request, text);
}

MANTA_DEPLOYMENT(reads, .call = reads_call, .threads = 4);

MANTA_APPLICATION(reads)
{
    return bind_with_options(app, &reads);
}
