/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: a deployment whose models tell when they are loaded, used and unloaded.
 *
 *     bad...        cannot be loaded
 *     gate:PATH...  says "entered <replica id> <process id> <model id>\n" to the Unix socket PATH when it is being loaded,
 *                   and is loaded when it hears "a"; anything else, and the load fails
 *     others        are there at once
 *
 * A request is answered with "<replica id> <model id> <number of the load>", the id as the model itself knows it, which is
 * overwritten when it is unloaded.  ?gate=PATH: with the model in hand it says "entered ..." as puppet.c does, and answers
 * when it hears a byte.  ?late: a thread of its own gets the model and answers, after the entry point has returned.
 * ?more=ID: it gets that model too.  ?who: no model, only the replica's id.
 *
 * Applications: models; batches (answers "<model id> <size of the batch> <models in it>"); caller (asks models for the
 * model of the path, through a handle).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <manta/manta.h>

#include "options.h"

struct model {
    char id[256];
    int number; /* of the load */
};

static atomic_int load_count;
static const char *replica_id; /* one replica per process */

/* Connects to the Unix socket whose path ends with `end` or the string, says who it is and waits for a word; 0: nobody there. */
static char ask_gate(const char *path, const char *end, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char line[512], word = 0;
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s", (int)strcspn(path, end), path);
    int gate = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (gate >= 0 && connect(gate, (struct sockaddr *)&address, sizeof address) == 0) {
        int size = snprintf(line, sizeof line, "entered %s %d %s\n", replica_id, (int)getpid(), name);
        if (send(gate, line, (size_t)size, MSG_NOSIGNAL) < 0 || recv(gate, &word, 1, 0) != 1)
            word = 0;
    }
    close(gate);
    return word;
}

static int models_load(void *state, const char *model_id, void **ret_model, struct manta_error *reterr)
{
    (void)state;
    if (strncmp(model_id, "bad", 3) == 0)
        return manta_error_set(reterr, MANTA_EUSER, "no file of that name");
    if (strncmp(model_id, "gate:", 5) == 0 && ask_gate(model_id + 5, "#", model_id) != 'a')
        return manta_error_set(reterr, MANTA_EUSER, "the gate stayed shut");
    struct model *model = calloc(1, sizeof *model);
    snprintf(model->id, sizeof model->id, "%s", model_id);
    model->number = atomic_fetch_add(&load_count, 1) + 1;
    *ret_model = model;
    return 0;
}

static void models_unload(void *state, const char *model_id, void *object)
{
    struct model *model = object;
    (void)state;
    if (strcmp(model->id, model_id) != 0)
        abort();
    memset(model->id, '!', sizeof model->id - 1);
    free(model);
}

static int models_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    (void)ret_state;
    (void)reterr;
    replica_id = manta_replica_id(replica);
    return 0;
}

static void answer(struct manta_request *request)
{
    struct model *model;
    void *object, *again, *more;
    struct manta_error error;
    char text[400];
    const char *gate = strstr(manta_request_query(request), "gate="), *other = strstr(manta_request_query(request), "more=");
    if (strstr(manta_request_query(request), "who")) {
        manta_request_reply_string(request, replica_id);
        return;
    }
    int code = manta_model_get(request, &object, &error);
    if (code == 0)
        code = manta_model_get(request, &again, &error); /* is held once */
    if (code == 0 && other)
        code = manta_model_load(request, other + 5, &more, &error);
    if (code < 0) {
        manta_request_fail(request, code, "%s", error.text);
        return;
    }
    model = object;
    if (gate)
        ask_gate(gate + 5, "&", manta_request_id(request));
    snprintf(text, sizeof text, "%s %s %d", replica_id, model->id, again == object ? model->number : -1);
    manta_request_reply_string(request, text);
}

static void *answer_late(void *request)
{
    answer(request);
    return NULL;
}

static void models_call(void *state, struct manta_request *request)
{
    pthread_t thread;
    (void)state;
    if (!strstr(manta_request_query(request), "late")) {
        answer(request);
        return;
    }
    if (pthread_create(&thread, NULL, answer_late, request) != 0)
        abort();
    pthread_detach(thread);
}

static void name_call(void *state, struct manta_request *request)
{
    (void)state;
    answer(request);
}

static const struct manta_method models_methods[] = {{"named", name_call}};

MANTA_DEPLOYMENT(models, .open = models_open, .call = models_call, .methods = models_methods, .method_count = 1,
                 .load_model = models_load, .unload_model = models_unload, .max_models = 2, .threads = 8,
                 .max_ongoing_requests = 8, .graceful_shutdown_timeout_s = 2);

MANTA_APPLICATION(models)
{
    return bind_with_options(app, &models);
}

/* ---- batches ---- */

static void batches_call(void *state, struct manta_request **requests, size_t count)
{
    int different = 1;
    char text[400];
    (void)state;
    for (size_t i = 1; i < count; i++)
        different += strcmp(manta_request_model_id(requests[i]), manta_request_model_id(requests[0])) != 0;
    for (size_t i = 0; i < count; i++) {
        void *object;
        struct manta_error error;
        int code = manta_model_get(requests[i], &object, &error);
        if (code < 0) {
            manta_request_fail(requests[i], code, "%s", error.text);
            continue;
        }
        snprintf(text, sizeof text, "%s %zu %d", ((struct model *)object)->id, count, different);
        manta_request_reply_string(requests[i], text);
    }
}

MANTA_DEPLOYMENT(batches, .open = models_open, .call_batch = batches_call, .load_model = models_load,
                 .unload_model = models_unload, .max_models = 2, .max_batch_size = 8, .batch_wait_timeout_s = 0.02,
                 .max_ongoing_requests = 64);

MANTA_APPLICATION(batches)
{
    return bind_with_options(app, &batches);
}

/* ---- through a handle ---- */

static int caller_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct manta_handle *handle;
    int code = manta_args_handle(manta_replica_args(replica), 0, &handle, reterr);
    *ret_state = code < 0 ? NULL : handle;
    return code;
}

static void caller_close(void *state)
{
    manta_handle_free(state);
}

static void caller_call(void *state, struct manta_request *request)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .parent = request, .method = "named",
                                         .model_id = manta_request_path(request) + 1};
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    int code = manta_call(state, &options, NULL, 0, &call, &error);
    if (code == 0)
        code = manta_call_wait(call, -1, &error);
    if (code < 0)
        manta_request_fail(request, code, "models: %s", error.text);
    else
        manta_request_reply_arg(request, manta_copied(manta_call_value(call)));
    manta_call_free(call);
}

MANTA_DEPLOYMENT(caller, .open = caller_open, .close = caller_close, .call = caller_call, .threads = 4);

MANTA_APPLICATION(caller)
{
    return manta_bind(app, &caller, bind_with_options(app, &models));
}

/* ---- what is refused ---- */

MANTA_DEPLOYMENT(no_model, .call = models_call, .max_models = 0);
MANTA_DEPLOYMENT(below, .call = models_call, .load_model = models_load, .max_models = -2);
MANTA_DEPLOYMENT(unloads_only, .call = models_call, .unload_model = models_unload);
MANTA_DEPLOYMENT(backwards, .call = models_call, .load_model = models_load, .model_load_timeout_s = -1);
MANTA_DEPLOYMENT(none, .name = "none", .open = models_open, .call = models_call);

MANTA_APPLICATION(none)
{
    return manta_bind(app, &none);
}
