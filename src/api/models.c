/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: loading, finding, holding and unloading.
 *
 *     (none) --asked for--> LOADING ----> LOADED ----> UNLOADING ----> (none)
 *                              |           |  ^         no users, and another needs the room,
 *                              |           +--+         or the replica ends
 *                              +-- failed  users come and go
 *                                    |
 *                                    +--> (none), once who waited has read the error
 *
 * A model is in the map from LOADING to the end of UNLOADING, so that one id is never loaded twice
 * at a time and never loaded while it is unloaded.  Whoever finds it LOADING or UNLOADING waits.
 * LOADING and LOADED ones count against the limit; a loader that needs room marks its victim, takes
 * the place, unloads and then loads, so that never more than the limit are in memory.
 */
#include "models.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "door.h"
#include "ensure.h"
#include "log.h"
#include "map.h"
#include "mem.h"
#include "metrics.h"
#include "request_inner.h"
#include "wire.h"

enum { MODELS_MOST = 1 << 20 };

enum model_state { MODEL_LOADING, MODEL_LOADED, MODEL_UNLOADING, MODEL_GONE };

struct model {
    struct list_link link; /* LOADING: on models->loading; LOADED: on models->recent */
    enum model_state state;
    uint32_t users;   /* requests that hold it */
    uint32_t waiters; /* threads that wait for its state to change; GONE: the last one frees it */
    int64_t since_ns; /* of the load */
    bool hangs;       /* the replica was called unhealthy because of it */
    void *object;     /* what load_model gave */
    int code;         /* GONE: why it could not be loaded, or 0 */
    struct manta_error *error; /* of a failed load, or null */
    char id[WIRE_MODEL_ID_LIMIT + 1];
};

struct models_use {
    struct models_use *next;
    struct model *model;
};

struct models {
    struct models_config config;
    struct map by_id;    /* struct model, all but the GONE */
    struct list loading; /* oldest first */
    struct list recent;  /* LOADED, the one used last is the last */
    uint32_t room_waiters;
    struct loop_timer timer; /* set while a load may run too long */
    bool closed;
};

static struct helm *helm_of(const struct models *models)
{
    return models->config.runtime->helm;
}

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ---- telling ---- */

/* Loading ones first, then those used last: a sender hears only so many. */
static void models_tell(struct models *models)
{
    struct bytes ids[WIRE_MODELS_LIMIT];
    size_t count = 0;
    struct list_link *link;
    list_each (link, &models->loading) {
        if (count < WIRE_MODELS_LIMIT)
            ids[count++] = bytes_of_string(list_entry(link, struct model, link)->id);
    }
    for (link = models->recent.head.prev; link != &models->recent.head; link = link->prev) {
        if (count == WIRE_MODELS_LIMIT)
            break;
        ids[count++] = bytes_of_string(list_entry(link, struct model, link)->id);
    }
    metric_set(num_multiplexed_models, models->recent.length);
    if (taker_models(models->config.taker, ids, count) == 0)
        channel_set_flush(&models->config.runtime->channels);
}

/* ---- loads that take too long ---- */

static void models_arm(struct models *models)
{
    struct list_link *link;
    int64_t limit = models->config.load_limit_ns, due = 0;
    list_each (link, &models->loading) {
        struct model *model = list_entry(link, struct model, link);
        if (limit && !model->hangs && (!due || model->since_ns + limit < due))
            due = model->since_ns + limit;
    }
    loop_timer_set(&models->timer, due);
}

static void models_on_timer(void *owner)
{
    struct models *models = owner;
    struct list_link *link;
    int64_t now = clock_ns();
    list_each (link, &models->loading) {
        struct model *model = list_entry(link, struct model, link);
        if (model->hangs || model->since_ns + models->config.load_limit_ns > now)
            continue;
        char text[320];
        snprintf(text, sizeof text, "load_model of '%s' has not returned after %.1f s", model->id,
                 (double)(now - model->since_ns) * 1e-9);
        log_print(LOG_ERROR, "unhealthy: %s", text);
        model->hangs = true;
        taker_report_health(models->config.taker, false, bytes_of_string(text));
    }
    models_arm(models);
}

/* ---- ends ---- */

/* Whoever waited has gone. */
static void model_free(struct model *model)
{
    if (model->state != MODEL_GONE || model->waiters > 0)
        return;
    mem_free(model->error);
    mem_free(model);
}

static void model_leave(struct models *models, struct model *model)
{
    ensure(model->users == 0);
    list_remove(&model->link);
    map_remove_name(&models->by_id, bytes_of_string(model->id));
    model->state = MODEL_GONE;
    model_free(model);
    helm_changed(helm_of(models));
}

/* Nobody uses it, and it is on no list any more: user code ends it.  The helm is given meanwhile.
 */
static void model_unload(struct models *models, struct model *model)
{
    int64_t begin = clock_ns();
    ensure(model->state == MODEL_UNLOADING && model->users == 0);
    helm_give(helm_of(models));
    if (models->config.unload)
        models->config.unload(models->config.state, model->id, model->object);
    int64_t took_ms = (clock_ns() - begin) / 1000000;
    log_print(LOG_INFO, "unloaded model '%s' in %lld ms", model->id, (long long)took_ms);
    helm_take(helm_of(models));
    metric_add(multiplexed_models_unload_total, 1);
    metric_add(multiplexed_model_unload_ms_total, took_ms);
    model_leave(models, model);
}

/* ---- room ---- */

static bool has_room(const struct models *models)
{
    size_t held = models->recent.length + models->loading.length;
    return models->config.most < 0 ? held < MODELS_MOST : held < (size_t)models->config.most;
}

/* The one that was not used for the longest time and that nobody holds; null: all are held. */
static struct model *find_victim(const struct models *models)
{
    const struct list_link *link;
    list_each (link, &models->recent) {
        struct model *model = list_entry(link, struct model, link);
        if (model->users == 0)
            return model;
    }
    return NULL;
}

/* A new LOADING model in its place; *ret_victim must be unloaded first.  Null: memory. */
static struct model *begin_load(struct models *models, struct bytes id, struct model **ret_victim)
{
    struct model *model = mem_try(sizeof *model);
    if (!model || map_try_put_name(&models->by_id, id, model) < 0) {
        mem_free(model);
        return NULL;
    }
    *ret_victim = has_room(models) ? NULL : find_victim(models);
    if (*ret_victim) {
        (*ret_victim)->state = MODEL_UNLOADING;
        list_remove(&(*ret_victim)->link);
    }
    memcpy(model->id, id.at, id.size);
    model->since_ns = clock_ns();
    list_push_back(&models->loading, &model->link);
    models_tell(models);
    models_arm(models);
    return model;
}

/* ---- loading ---- */

static void fail_load(struct models *models, struct model *model, int code,
                      const struct manta_error *error)
{
    model->code = code < 0 ? code : MANTA_EUSER;
    model->error = mem_try(sizeof *model->error);
    if (model->error)
        manta_error_set(model->error, model->code, "model '%s' could not be loaded: %s", model->id,
                        error->text[0] ? error->text : manta_error_text(code));
    log_print(LOG_ERROR, "model '%s' could not be loaded: %s", model->id,
              error->text[0] ? error->text : manta_error_text(code));
}

/* Runs user code for a LOADING model, without the helm.  It is LOADED or GONE then. */
static void model_load(struct models *models, struct model *model)
{
    struct manta_error error = {0};
    void *object = NULL;
    helm_give(helm_of(models));
    int64_t begin = clock_ns();
    int code = models->config.load(models->config.state, model->id, &object, &error);
    int64_t took_ms = (clock_ns() - begin) / 1000000;
    helm_take(helm_of(models));
    list_remove(&model->link);
    models_arm(models);
    metric_add(multiplexed_models_load_total, 1);
    metric_add(multiplexed_model_load_ms_total, took_ms);
    if (code < 0) {
        fail_load(models, model, code, &error);
        model_leave(models, model);
    } else {
        log_print(LOG_INFO, "loaded model '%s' in %lld ms", model->id, (long long)took_ms);
        model->object = object;
        model->state = MODEL_LOADED;
        list_push_back(&models->recent, &model->link);
        helm_changed(helm_of(models));
    }
    models_tell(models);
}

/* ---- waiting ---- */

struct models_wait {
    struct models *models;
    struct manta_request *request;
    struct model *model; /* whose state must change; null: for room */
};

static bool wait_is_over(void *owner)
{
    const struct models_wait *wait = owner;
    const struct models *models = wait->models;
    if (wait->request->taken->cancelled || models->closed)
        return true;
    if (wait->model)
        return wait->model->state == MODEL_LOADED || wait->model->state == MODEL_GONE;
    return has_room(models) || find_victim(models);
}

/* Negative: the request's time is up, or nobody wants its answer any more. */
static int models_wait(struct models_wait *wait, struct manta_error *reterr)
{
    struct models *models = wait->models;
    struct manta_request *request = wait->request;
    channel_set_flush(&models->config.runtime->channels);
    bool over = helm_wait(helm_of(models), wait_is_over, wait, request->taken->deadline_ns);
    if (request->taken->cancelled)
        return manta_error_set(reterr, MANTA_ECANCELLED, "the caller has given the request up");
    if (models->closed)
        return manta_error_set(reterr, MANTA_ECLOSED, "the replica ends");
    if (over)
        return 0;
    if (wait->model)
        return manta_error_set(reterr, MANTA_ETIMEOUT,
                               "the deadline passed while model '%s' was being loaded",
                               wait->model->id);
    return manta_error_set(reterr, MANTA_ETIMEOUT,
                           "the deadline passed while all %d models were in use",
                           models->config.most);
}

static int wait_for_model(struct models *models, struct manta_request *request, struct model *model,
                          struct manta_error *reterr)
{
    struct models_wait wait = {.models = models, .request = request, .model = model};
    model->waiters++;
    int code = models_wait(&wait, reterr);
    model->waiters--;
    if (code == 0 && model->state == MODEL_GONE && model->code < 0) {
        code = model->code;
        manta_error_set(reterr, code, "%s",
                        model->error ? model->error->text : manta_error_text(code));
    }
    model_free(model);
    return code;
}

static int wait_for_room(struct models *models, struct manta_request *request,
                         struct manta_error *reterr)
{
    struct models_wait wait = {.models = models, .request = request};
    int32_t own = 0;
    for (struct models_use *use = request->models; use; use = use->next)
        own++;
    if (own >= models->config.most)
        return manta_error_set(reterr, MANTA_ELIMIT,
                               "the request holds %d models already, which is max_models", own);
    models->room_waiters++;
    int code = models_wait(&wait, reterr);
    models->room_waiters--;
    return code;
}

/* ---- getting ---- */

/* Holds the model for the request, once. */
static int use_model(struct models *models, struct manta_request *request, struct model *model,
                     struct manta_error *reterr)
{
    ensure(model->state == MODEL_LOADED);
    list_remove(&model->link);
    list_push_back(&models->recent, &model->link);
    for (struct models_use *use = request->models; use; use = use->next) {
        if (use->model == model)
            return 0;
    }
    struct models_use *use = arena_try(&request->taken->arena, sizeof *use);
    if (!use)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory to hold a model");
    *use = (struct models_use){.next = request->models, .model = model};
    request->models = use;
    model->users++;
    return 0;
}

/* Not there: loads it, perhaps in the place of another. 0: look again. */
static int load_model(struct models *models, struct manta_request *request, struct bytes id,
                      struct manta_error *reterr)
{
    struct model *victim = NULL;
    if (!has_room(models) && !find_victim(models))
        return wait_for_room(models, request, reterr);
    struct model *model = begin_load(models, id, &victim);
    if (!model)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for another model");
    model->waiters++; /* it stays until its error is read */
    if (victim)
        model_unload(models, victim);
    model_load(models, model);
    model->waiters--;
    int code = model->state == MODEL_GONE ? model->code : 0;
    if (code < 0)
        manta_error_set(reterr, code, "%s",
                        model->error ? model->error->text : manta_error_text(code));
    model_free(model);
    return code;
}

/* Helm held; `nested`: by a callback, which must not wait. */
static int get_model(struct models *models, struct manta_request *request, struct bytes id,
                     bool nested, void **ret_model, struct manta_error *reterr)
{
    metric_add(multiplexed_get_model_requests_total, 1);
    for (;;) {
        struct model *model = map_get_name(&models->by_id, id);
        int code = 0;
        if (model && model->state == MODEL_LOADED) {
            code = use_model(models, request, model, reterr);
            if (code == 0)
                *ret_model = model->object;
            return code;
        }
        if (models->closed)
            return manta_error_set(reterr, MANTA_ECLOSED, "the replica ends");
        if (nested)
            return manta_error_set(reterr, MANTA_EINVALID,
                                   "model '%.*s' is not loaded, and a callback cannot wait for it",
                                   BYTES_PRINT(id));
        code = model ? wait_for_model(models, request, model, reterr)
                     : load_model(models, request, id, reterr);
        if (code < 0)
            return code;
    }
}

static int get(struct manta_request *request, struct bytes id, void **ret_model,
               struct manta_error *reterr)
{
    struct models *models = request->replica->models;
    if (!models)
        return manta_error_set(reterr, MANTA_EUSER, "deployment '%s' has no load_model",
                               manta_replica_deployment(request->replica));
    if (id.size > WIRE_MODEL_ID_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "a model id of %zu bytes; at most %d are allowed", id.size,
                               WIRE_MODEL_ID_LIMIT);
    bool nested = runtime_enter(models->config.runtime);
    int code = get_model(models, request, id, nested, ret_model, reterr);
    runtime_leave(models->config.runtime, nested);
    return code;
}

int manta_model_get(struct manta_request *request, void **ret_model, struct manta_error *reterr)
{
    struct bytes id = request->taken->model_id;
    if (request->replica->models && id.size == 0)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "the request names no model: set the header "
                               "serve_multiplexed_model_id, or model_id in the call's options");
    return get(request, id, ret_model, reterr);
}

int manta_model_load(struct manta_request *request, const char *model_id, void **ret_model,
                     struct manta_error *reterr)
{
    struct bytes id = bytes_of_string(model_id);
    if (id.size == 0)
        return manta_error_set(reterr, MANTA_EINVALID, "a model id must not be empty");
    return get(request, id, ret_model, reterr);
}

void models_release(struct models *models, struct models_use *uses)
{
    bool unused = false;
    for (struct models_use *use = uses; use; use = use->next) {
        ensure(use->model->users > 0);
        unused |= --use->model->users == 0;
    }
    if (unused && models->room_waiters > 0)
        helm_changed(helm_of(models));
}

/* ---- life ---- */

struct models *models_new(const struct models_config *config)
{
    struct models *models = mem_try(sizeof *models);
    ensure(config->load && (config->most == -1 || config->most >= 1));
    if (!models)
        return NULL;
    models->config = *config;
    map_init(&models->by_id, 2 * MODELS_MOST);
    list_init(&models->loading);
    list_init(&models->recent);
    helm_take(helm_of(models));
    loop_timer_init(config->runtime->loop, &models->timer, models_on_timer, models);
    models_tell(models);
    helm_give(helm_of(models));
    return models;
}

bool models_close(struct models *models)
{
    struct model *model;
    if (!models)
        return true;
    helm_take(helm_of(models));
    models->closed = true;
    helm_changed(helm_of(models));
    while ((model = find_victim(models)) != NULL) {
        model->state = MODEL_UNLOADING;
        list_remove(&model->link);
        model_unload(models, model);
    }
    bool free = map_count(&models->by_id) == 0;
    metric_set(num_multiplexed_models, models->recent.length);
    loop_timer_clear(&models->timer);
    helm_give(helm_of(models));
    if (free) {
        map_done(&models->by_id);
        mem_free(models);
    }
    return free;
}
