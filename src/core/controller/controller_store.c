/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_store: what users ask for, and store first (C1).
 *
 * A deploy or a delete that is found right becomes an entry under way to the store and a STORE
 * effect, nothing else.  Its STORED event brings it into force; with an error it is dropped and
 * what was in force stays.  Several may be under way for one application; stores are performed in
 * order, so the newest that was stored is what a restart would find, and it is what comes into
 * force: an entry that was stored while a newer one is under way waits for that one's fate.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

/* ---- entries ---- */

/* Takes the caller's reference of the plan (null: deletion). */
static struct controller_store *store_new(struct controller *controller, struct controller_app *app,
                                          struct controller_plan *plan)
{
    struct controller_store *store = mem_new(sizeof(*store));
    store->app = app;
    store->plan = plan;
    store->token = ++controller->store_last;
    list_init(&store->waits);
    list_push_back(&app->stores, &store->link);
    int put = map_try_put(&controller->store_tokens, store->token, store);
    ensure(put == 0);
    return store;
}

static void emit(struct controller *controller, const struct controller_store *store)
{
    struct controller_effect *effect = controller_effect_add(&controller->stores, CONTROLLER_STORE);
    effect->token = store->token;
    effect->app = store->app->id;
    effect->app_name = store->app->name;
    effect->target = store->plan ? &store->plan->target : NULL;
}

void controller_store_drop(struct controller *controller, struct controller_store *store)
{
    struct controller_app *app = store->app;
    ensure(list_empty(&store->waits));
    ensure(controller->promised_deployments >= store->new_deployments &&
           controller->promised_replicas >= store->new_replicas);
    controller->promised_deployments -= store->new_deployments;
    controller->promised_replicas -= store->new_replicas;
    list_remove(&store->link);
    map_remove(&controller->store_tokens, store->token);
    if (store->plan)
        controller_app_release_route(controller, app, store->plan->target.route_prefix);
    controller_plan_unref(controller, store->plan);
    controller_app_touch(controller, app);
    mem_free(store);
}

static struct controller_store *newest(struct controller_app *app)
{
    struct list_link *link = list_last(&app->stores);
    return link ? list_entry(link, struct controller_store, link) : NULL;
}

/* The newest entry is durable: it is in force now. */
static void commit(struct controller *controller, struct controller_store *store)
{
    if (store->plan)
        store->plan->stored = true;
    controller_app_commit(controller, store->app, store);
}

/* A shutdown goes on without the store: it is told at its end that the application will be back. */
static bool shutdown_goes_on(struct controller *controller, const struct controller_store *store,
                             const struct controller_event *event)
{
    if (!controller->shutting_down || store->plan)
        return false;
    if (controller->shutdown_error.code == 0)
        error_set(&controller->shutdown_error, event->code,
                  "the deletion of application '%.*s' could not be stored, it will be back: %s",
                  BYTES_PRINT(store->app->name), error_text(event->code));
    return true;
}

void controller_stored(struct controller *controller, const struct controller_event *event)
{
    struct controller_store *store = map_get(&controller->store_tokens, event->token);
    if (!store || store->done)
        return;
    struct controller_app *app = store->app;
    if (event->code == 0 || shutdown_goes_on(controller, store, event)) {
        store->done = true;
    } else {
        char message[CONTROLLER_MESSAGE_SIZE], text[CONTROLLER_TEXT_SIZE];
        controller_copy_tail(text, sizeof(text), event->text);
        controller_print(message, sizeof(message), "application '%.*s' could not be stored: %s",
                         BYTES_PRINT(app->name), text[0] ? text : error_text(event->code));
        controller_waits_end(controller, &store->waits, event->code, message);
        controller_store_drop(controller, store);
    }
    store = newest(app);
    if (store && store->done)
        commit(controller, store);
}

/* ---- deploy ---- */

/* What the target adds to what there is. */
struct addition {
    uint64_t deployments, replicas;
};

static struct addition addition_of(const struct controller_app *app,
                                   const struct controller_app_target *target)
{
    struct addition addition = {0};
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        const struct controller_deployment_target *row = target->deployments + i;
        const struct controller_deployment *old = app ? map_get_name(&app->names, row->name) : NULL;
        const struct controller_deployment_target *now = old ? old->goal.target : NULL;
        uint32_t kept = now && now->version == row->version ? now->replicas : 0;
        addition.deployments += !old;
        addition.replicas += row->replicas > kept ? row->replicas - kept : 0;
    }
    return addition;
}

/* Whether it fits beside everything else that there is or that was promised. */
static int check_room(const struct controller *controller, const struct controller_app *app,
                      const struct controller_app_target *target, char *ret_message)
{
    const struct settings *settings = &controller->config.settings;
    struct addition addition = addition_of(app, target);
    addition.deployments += controller->deployments.count + controller->promised_deployments;
    /* Those that there are: some drain, or belong to a version that is on its way out.  Those that
     * are wanted: some may not have begun. */
    uint64_t there = controller->replicas.count, wanted = controller->wanted_replicas;
    addition.replicas += (there > wanted ? there : wanted) + controller->promised_replicas;
    const char *what = NULL;
    if (!app && controller->apps.count >= settings->application_limit)
        what = "application_limit";
    else if (addition.deployments > (uint64_t)settings->deployment_limit)
        what = "deployment_limit";
    else if (addition.replicas > (uint64_t)settings->replica_limit)
        what = "replica_limit";
    else if (app && app->stores.length >= CONTROLLER_STORE_LIMIT)
        what = "targets of one application under way";
    if (!what)
        return 0;
    controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                     "application '%.*s' does not fit: the limit is reached (%s)",
                     BYTES_PRINT(target->name), what);
    return ERROR_LIMIT;
}

static int check_route(const struct controller *controller, const struct controller_app *app,
                       const struct controller_app_target *target, char *ret_message)
{
    const struct controller_app *other = map_get_name(&controller->routes, target->route_prefix);
    if (target->route_prefix.size == 0 || !other || other == app)
        return 0;
    controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                     "the route prefix '%.*s' is used by application '%.*s'",
                     BYTES_PRINT(target->route_prefix), BYTES_PRINT(other->name));
    return ERROR_EXISTS;
}

static int check(const struct controller *controller, const struct controller_app *app,
                 const struct controller_app_target *target, char *ret_message)
{
    if (controller->shutting_down) {
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "the instance is shutting down");
        return ERROR_CLOSED;
    }
    int code = controller_target_check(&controller->config.settings, target, ret_message);
    if (code == 0)
        code = check_route(controller, app, target, ret_message);
    if (code == 0)
        code = check_room(controller, app, target, ret_message);
    return code;
}

/* The id that a stored target brings if nobody has it, else the next one. */
static uint64_t pick_id(const struct controller_index *index, uint64_t stored, uint64_t *last)
{
    uint64_t id = stored && !controller_index_find(index, stored) ? stored : *last + 1;
    if (*last < id)
        *last = id;
    return id;
}

/* Only a stored target brings ids, each of them once. */
static void forget_doubtful_ids(struct controller_plan *plan, bool stored)
{
    struct controller_deployment_target *rows = controller_plan_rows(plan);
    struct map taken;
    map_init(&taken, SIZE_MAX);
    for (uint32_t i = 0; i < plan->target.deployment_count; i++) {
        if (!stored || map_get(&taken, rows[i].id.v))
            rows[i].id.v = 0;
        if (rows[i].id.v == 0)
            continue;
        int put = map_try_put(&taken, rows[i].id.v, rows);
        ensure(put == 0);
    }
    map_done(&taken);
}

/* A deployment keeps its id as long as one target after the other names it. */
static void give_ids(struct controller *controller, struct controller_app *app,
                     struct controller_plan *plan)
{
    struct controller_deployment_target *rows = controller_plan_rows(plan);
    struct controller_store *older = newest(app);
    struct map names; /* rows of the target that is under way before this one */
    map_init(&names, SIZE_MAX);
    for (uint32_t i = 0; older && older->plan && i < older->plan->target.deployment_count; i++) {
        int put = map_try_put_name(&names, older->plan->target.deployments[i].name,
                                   controller_plan_rows(older->plan) + i);
        ensure(put == 0);
    }
    for (uint32_t i = 0; i < plan->target.deployment_count; i++) {
        const struct controller_deployment *now = map_get_name(&app->names, rows[i].name);
        const struct controller_deployment_target *earlier = map_get_name(&names, rows[i].name);
        if (now || earlier)
            rows[i].id = now ? now->id : earlier->id;
        else
            rows[i].id.v =
                pick_id(&controller->deployments, rows[i].id.v, &controller->deployment_last);
    }
    map_done(&names);
    plan->target.id = app->id;
}

static void claim_route(struct controller *controller, struct controller_app *app,
                        struct bytes route)
{
    if (route.size == 0)
        return;
    int put = map_try_put_name(&controller->routes, route, app);
    ensure(put == 0);
}

void controller_deploy(struct controller *controller, const struct controller_event *event)
{
    const struct controller_app_target *target = event->target;
    char message[CONTROLLER_MESSAGE_SIZE];
    ensure(target);
    struct controller_app *app = controller_app_find(controller, target->name);
    int code = check(controller, app, target, message);
    struct controller_plan *plan = code == 0 ? controller_plan_try_new(target) : NULL;
    if (code == 0 && !plan) {
        code = ERROR_MEMORY;
        controller_print(message, sizeof(message), "%s", error_text(code));
    }
    if (code) {
        controller_outcome(controller, event->token, code, message);
        if (event->token == 0)
            trace_print(controller->config.trace, "deploy refused: %s", message);
        return;
    }
    bool refused;
    struct controller_operation *operation =
        controller_operation_new(controller, CONTROLLER_DEPLOY, event->token, &refused);
    if (refused) {
        controller_plan_unref(controller, plan);
        return;
    }
    if (!app) {
        uint64_t stored_id = event->stored ? target->id.v : 0;
        struct application_id id = {
            pick_id(&controller->apps, stored_id, &controller->application_last)};
        app = controller_app_new(controller, target->name, id);
    }
    forget_doubtful_ids(plan, event->stored);
    give_ids(controller, app, plan);
    claim_route(controller, app, plan->target.route_prefix);
    struct controller_store *store = store_new(controller, app, plan);
    struct addition addition = addition_of(app, target);
    store->new_deployments = addition.deployments;
    store->new_replicas = addition.replicas;
    controller->promised_deployments += addition.deployments;
    controller->promised_replicas += addition.replicas;
    controller_wait_add(&store->waits, operation);
    if (!event->stored) {
        emit(controller, store);
        return;
    }
    app->restored = !controller->loaded;
    controller->recovering = controller->recovering || !controller->loaded;
    store->done = true;
    commit(controller, store);
}

/* ---- delete, shut down ---- */

/* Joins a deletion that is under way, or begins one. */
static void delete_app(struct controller *controller, struct controller_app *app,
                       struct controller_operation *operation)
{
    struct controller_store *store = newest(app);
    if (!store && app->deleting) {
        controller_wait_add(&app->waits, operation);
        return;
    }
    if (!store || store->plan) {
        store = store_new(controller, app, NULL);
        emit(controller, store);
    }
    controller_wait_add(&store->waits, operation);
}

void controller_delete(struct controller *controller, const struct controller_event *event)
{
    struct controller_app *app =
        event->app.size ? controller_app_find(controller, event->app) : NULL;
    if (event->app.size && !app) {
        char message[CONTROLLER_MESSAGE_SIZE];
        controller_print(message, sizeof(message), "there is no application '%.*s'",
                         BYTES_PRINT(event->app));
        controller_outcome(controller, event->token, ERROR_NOT_FOUND, message);
        return;
    }
    bool refused;
    struct controller_operation *operation =
        controller_operation_new(controller, CONTROLLER_DELETE, event->token, &refused);
    if (refused)
        return;
    struct list hold; /* keeps the operation open until every application was asked */
    list_init(&hold);
    controller_wait_add(&hold, operation);
    if (app)
        delete_app(controller, app, operation);
    for (uint32_t i = 0; !app && i < controller->apps.count; i++)
        delete_app(controller, controller->apps.at[i].object, operation);
    controller_waits_end(controller, &hold, ERROR_OK, "");
}

/* A shutdown that has less time than a deployment does not wait longer for what drains already. */
static void cap_drains(struct controller *controller)
{
    int64_t limit_ns = controller_after(controller, controller->drain_cap_ns);
    for (uint32_t i = 0; i < controller->replicas.count; i++) {
        struct controller_replica *replica = controller->replicas.at[i].object;
        if (replica->state == REPLICA_STATE_DRAINING &&
            controller_replica_deadline_ns(replica) > limit_ns)
            controller_deadline_set(controller, replica, limit_ns);
    }
}

static void stop_strays(struct controller *controller)
{
    struct list_link *link, *after;
    for (int state = 0; state < REPLICA_STATE_STOPPING; state++)
        list_each_safe (link, after, &controller->strays.in[state])
            controller_replica_stop(controller,
                                    list_entry(link, struct controller_replica, state_link),
                                    CONTROLLER_STOP_POLITELY);
}

void controller_shutdown(struct controller *controller, const struct controller_event *event)
{
    bool refused;
    struct controller_operation *operation =
        controller_operation_new(controller, CONTROLLER_SHUTDOWN, event->token, &refused);
    controller_wait_add(&controller->shutdown_waits, operation);
    if (event->timeout_ns > 0)
        controller->drain_cap_ns = event->timeout_ns;
    if (controller->drain_cap_ns)
        cap_drains(controller);
    if (controller->shutting_down)
        return;
    controller->shutting_down = true;
    controller_loaded(controller,
                      &(struct controller_event){0}); /* a recovery that was under way is over */
    controller->view_changed = controller->view_changed || controller->recovering;
    controller->recovering = false;
    for (uint32_t i = 0; i < controller->apps.count; i++)
        delete_app(controller, controller->apps.at[i].object, NULL);
    stop_strays(controller);
}
