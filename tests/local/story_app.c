/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deployments of the story: everything that an entry point can do.  Compiled twice: into the
 * program that tells the story, and as a shared object.
 *
 *   story      a front that calls `model` for every word, and asks the batcher
 *   bad_open   does not construct
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <manta/manta.h>

struct model {
    struct manta_replica *replica;
    int64_t factor;
    atomic_int cancels;
    char config[32];
};

static int model_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct model *model = calloc(1, sizeof *model);
    *ret_state = model;
    model->replica = replica;
    return manta_args_int(manta_replica_args(replica), 0, &model->factor, reterr);
}

static void model_close(void *state)
{
    free(state);
}

static int model_reconfigure(void *state, const char *user_config, struct manta_error *reterr)
{
    struct model *model = state;
    (void)reterr;
    strncpy(model->config, user_config, sizeof model->config - 1);
    return 0;
}

static int model_check_health(void *state, struct manta_error *reterr)
{
    const struct model *model = state;
    return model->factor ? 0 : manta_error_set(reterr, MANTA_EUSER, "the factor is 0");
}

static void model_call(void *state, struct manta_request *request)
{
    const struct model *model = state;
    struct manta_error error = {0};
    int64_t value = 0;
    if (manta_args_int(manta_request_args(request), 0, &value, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_int(request, value * model->factor);
}

static void model_config(void *state, struct manta_request *request)
{
    manta_request_reply_string(request, ((struct model *)state)->config);
}

/* As many items as it is asked for. */
static void model_count(void *state, struct manta_request *request)
{
    int64_t count = 0;
    (void)state;
    manta_args_int(manta_request_args(request), 0, &count, NULL);
    if (manta_request_begin(request, 200, NULL, NULL, NULL, NULL) < 0)
        return;
    for (int64_t i = 0; i < count; i++) {
        int code;
        while ((code = manta_request_write_arg(request, manta_int(i))) == MANTA_EAGAIN)
            manta_request_wait_room(request, -1);
        if (code < 0)
            break;
    }
    manta_request_finish(request);
}

/* Until nobody wants it any more. */
static void model_hold(void *state, struct manta_request *request)
{
    struct timespec pause = {.tv_nsec = 1000000};
    while (!manta_request_cancelled(request) && manta_request_time_left_s(request) > 0)
        nanosleep(&pause, NULL);
    atomic_fetch_add(&((struct model *)state)->cancels, 1);
    manta_request_reply_nil(request);
}

static void model_cancels(void *state, struct manta_request *request)
{
    manta_request_reply_int(request, atomic_load(&((struct model *)state)->cancels));
}

static const struct manta_method MODEL_METHODS[] = {{"config", model_config},
                                                    {"count", model_count},
                                                    {"hold", model_hold},
                                                    {"cancels", model_cancels}};

MANTA_DEPLOYMENT(model, .open = model_open, .close = model_close, .call = model_call,
                 .reconfigure = model_reconfigure, .check_health = model_check_health,
                 .methods = MODEL_METHODS, .method_count = 4, .threads = 3,
                 .max_ongoing_requests = 16, .health_check_period_s = 0.05);

/* Answers each with the size of its batch. */
static void batcher_call(void *state, struct manta_request **requests, size_t count)
{
    (void)state;
    for (size_t i = 0; i < count; i++)
        manta_request_reply_int(requests[i], (int64_t)count);
}

MANTA_DEPLOYMENT(batcher, .call_batch = batcher_call, .max_batch_size = 4,
                 .batch_wait_timeout_s = 20, .max_ongoing_requests = 16);

struct front {
    struct manta_handle *model, *batcher;
};

static int front_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const struct manta_args *args = manta_replica_args(replica);
    struct front *front = calloc(1, sizeof *front);
    *ret_state = front;
    int code = manta_args_handle(args, 0, &front->model, reterr);
    return code < 0 ? code : manta_args_handle(args, 1, &front->batcher, reterr);
}

static void front_close(void *state)
{
    struct front *front = state;
    manta_handle_free(front->model);
    manta_handle_free(front->batcher);
    free(front);
}

/* f(x) = model(x) + 1, asked on behalf of the request. */
static void front_call(void *state, struct manta_request *request)
{
    struct front *front = state;
    struct manta_error error = {0};
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    struct manta_call *call = NULL;
    struct manta_arg arg;
    int64_t value;
    options.parent = request;
    if (manta_args_int(manta_request_args(request), 0, &value, &error) == 0) {
        arg = manta_int(value);
        if (manta_call(front->model, &options, &arg, 1, &call, &error) == 0 &&
            manta_call_wait(call, -1, &error) == 0)
            manta_value_int(manta_call_value(call), &value, &error);
    }
    if (error.code)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_int(request, value + 1);
    manta_call_free(call);
}

struct join {
    struct manta_request *request;
    int64_t sum;
    int left;
};

static void on_part(struct manta_call *call, void *owner)
{
    struct join *join = owner;
    int64_t value = 0;
    manta_value_int(manta_call_value(call), &value, NULL);
    join->sum += value;
    manta_call_free(call);
    if (--join->left > 0)
        return;
    manta_request_reply_int(join->request, join->sum);
    free(join);
}

/* Four calls at once, joined by their completions: each gets the size of the batch it was in. */
static void front_batch(void *state, struct manta_request *request)
{
    struct front *front = state;
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    struct join *join = calloc(1, sizeof *join);
    join->request = request;
    join->left = 4;
    options.done = on_part;
    options.owner = join;
    for (int i = 0; i < 4; i++) {
        struct manta_call *call;
        manta_call(front->batcher, &options, NULL, 0, &call, NULL);
    }
}

static const struct manta_method FRONT_METHODS[] = {{"batch", front_batch}};

MANTA_DEPLOYMENT(front, .open = front_open, .close = front_close, .call = front_call,
                 .methods = FRONT_METHODS, .method_count = 1, .num_replicas = 2, .threads = 2,
                 .max_ongoing_requests = 32);

MANTA_APPLICATION(story)
{
    struct manta_deployment configured = model;
    configured.user_config = manta_app_argument(app, "config", "\"plain\"");
    int64_t factor = atoll(manta_app_argument(app, "factor", "3"));
    return manta_bind(app, &front, manta_bind(app, &configured, manta_int(factor)),
                      manta_bind(app, &batcher));
}

static int bad_open_open(struct manta_replica *replica, void **ret_state,
                         struct manta_error *reterr)
{
    (void)replica, (void)ret_state;
    return manta_error_set(reterr, MANTA_EUSER, "no weights at hand");
}

static void nothing(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

MANTA_DEPLOYMENT(bad_open, .open = bad_open_open, .call = nothing);

MANTA_APPLICATION(bad)
{
    return manta_bind(app, &bad_open);
}
