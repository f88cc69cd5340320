/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_apply: targets that users ask for: one application, or a whole target of several.
 *
 * What is asked for is found right as a whole before anything of it is accepted: each target by
 * itself, then against the others and against what there is (names, routes, limits).  A whole
 * target is compared with what is in force: what is equal is left alone, what differs is one
 * transaction of the store.  A declarative one also ends what came so before and is not in it any
 * more; a route may go from one application to another within it.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

/* ---- is it right ---- */

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

/* Whether so many more fit beside everything else that there is or that was promised. */
static int check_room(const struct controller *controller, uint64_t new_apps,
                      struct addition addition, char *ret_message)
{
    const struct settings *settings = &controller->config.settings;
    addition.deployments += controller->deployments.count + controller->promised_deployments;
    /* Those that there are: some drain, or belong to a version that is on its way out.  Those that
     * are wanted: some may not have begun. */
    uint64_t there = controller->replicas.count, wanted = controller->wanted_replicas;
    addition.replicas += (there > wanted ? there : wanted) + controller->promised_replicas;
    const char *what = NULL;
    if (new_apps && controller->apps.count + new_apps > (uint64_t)settings->application_limit)
        what = "application_limit";
    else if (addition.deployments > (uint64_t)settings->deployment_limit)
        what = "deployment_limit";
    else if (addition.replicas > (uint64_t)settings->replica_limit)
        what = "replica_limit";
    if (!what)
        return 0;
    controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "%s", what);
    return ERROR_LIMIT;
}

static int route_taken(struct bytes route, struct bytes by, struct bytes app, char *ret_message)
{
    controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                     "Prefix %.*s is being used by application \"%.*s\". Failed to deploy "
                     "application \"%.*s\".",
                     BYTES_PRINT(route), BYTES_PRINT(by), BYTES_PRINT(app));
    return ERROR_EXISTS;
}

/* What is asked for at once; a deploy is a whole target of one that deletes nothing. */
struct whole {
    const struct controller_app_target *targets;
    uint32_t count;
    bool declarative, stored;
    struct map names, routes;      /* struct controller_app_target, of those before */
    struct controller_plan **plans; /* by target; null: in force already, or not built */
};

/* A whole target lacks it, and it came with an earlier one. */
static bool goes(const struct whole *whole, struct controller_app *app)
{
    struct controller_store *store = controller_store_newest(app);
    if (!whole->declarative || map_get_name(&whole->names, app->name))
        return false;
    if (store)
        return store->plan && store->plan->target.declarative;
    return !app->deleting && app->declarative;
}

/* The route prefix of `app` is free as soon as the target is in force. */
static bool gives_up_route(const struct whole *whole, struct controller_app *app,
                           struct bytes route)
{
    const struct controller_app_target *target = map_get_name(&whole->names, app->name);
    return target ? !target->build_failure.size && !bytes_equal(target->route_prefix, route)
                  : goes(whole, app);
}

static int note_names(const struct controller *controller, struct whole *whole, char *ret_message)
{
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct controller_app_target *target = whole->targets + i;
        int code = controller_target_check(&controller->config.settings, target, ret_message);
        if (code)
            return code;
        if (map_get_name(&whole->names, target->name)) {
            controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                             "application '%.*s' is there twice", BYTES_PRINT(target->name));
            return ERROR_INVALID;
        }
        if (map_try_put_name(&whole->names, target->name, (void *)target) != 0)
            return ERROR_MEMORY;
    }
    return 0;
}

static int check_routes(const struct controller *controller, struct whole *whole,
                        char *ret_message)
{
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct controller_app_target *target = whole->targets + i, *before;
        struct bytes route = target->route_prefix;
        if (route.size == 0 || target->build_failure.size)
            continue;
        if ((before = map_get_name(&whole->routes, route)))
            return route_taken(route, before->name, target->name, ret_message);
        struct controller_app *owner = map_get_name(&controller->routes, route);
        if (owner && !bytes_equal(owner->name, target->name) &&
            !gives_up_route(whole, owner, route))
            return route_taken(route, owner->name, target->name, ret_message);
        if (map_try_put_name(&whole->routes, route, (void *)target) != 0)
            return ERROR_MEMORY;
    }
    return 0;
}

/* It is in force, nothing else is under way, and none of it failed: whoever asks again after a
 * failure wants another attempt. */
static bool is_in_force(struct controller_app *app, const struct controller_app_target *target)
{
    struct map_entry *entry;
    if (!app || !app->plan || app->build_failed || !list_empty(&app->stores) ||
        !list_empty(&app->by_status[DEPLOYMENT_STATUS_DEPLOY_FAILED]) ||
        !list_empty(&app->by_status[DEPLOYMENT_STATUS_UNHEALTHY]))
        return false;
    map_each (entry, &app->names) {
        const struct controller_deployment *deployment = entry->value;
        if (deployment->failed || deployment->failures)
            return false;
    }
    return controller_target_equal(&app->plan->target, target);
}

static int check_limits(const struct controller *controller, const struct whole *whole,
                        char *ret_message)
{
    struct addition total = {0};
    uint64_t new_apps = 0;
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct controller_app_target *target = whole->targets + i;
        struct controller_app *app = controller_app_find(controller, target->name);
        struct addition addition = addition_of(app, target);
        char limit[CONTROLLER_MESSAGE_SIZE] = "targets of one application under way";
        new_apps += !app;
        if (!is_in_force(app, target)) {
            total.deployments += addition.deployments;
            total.replicas += addition.replicas;
        }
        int code = app && app->stores.length >= CONTROLLER_STORE_LIMIT
                       ? ERROR_LIMIT
                       : check_room(controller, new_apps, total, limit);
        if (code == 0)
            continue;
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE,
                         "application '%.*s' does not fit: the limit is reached (%s)",
                         BYTES_PRINT(target->name), limit);
        return code;
    }
    return 0;
}

static int copy_plans(const struct controller *controller, struct whole *whole)
{
    whole->plans = mem_try((whole->count + 1) * sizeof(struct controller_plan *));
    for (uint32_t i = 0; whole->plans && i < whole->count; i++) {
        const struct controller_app_target *target = whole->targets + i;
        if (target->build_failure.size || (!whole->stored &&
            is_in_force(controller_app_find(controller, target->name), target)))
            continue;
        if (!(whole->plans[i] = controller_plan_try_new(target)))
            return ERROR_MEMORY;
    }
    return whole->plans ? 0 : ERROR_MEMORY;
}

static int check(const struct controller *controller, struct whole *whole, char *ret_message)
{
    ret_message[0] = '\0';
    if (controller->shutting_down) {
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "the instance is shutting down");
        return ERROR_CLOSED;
    }
    int code = note_names(controller, whole, ret_message);
    if (code == 0)
        code = check_routes(controller, whole, ret_message);
    if (code == 0)
        code = check_limits(controller, whole, ret_message);
    if (code == 0)
        code = copy_plans(controller, whole);
    if (code && !ret_message[0])
        controller_print(ret_message, CONTROLLER_MESSAGE_SIZE, "%s", error_text(code));
    return code;
}

/* ---- ids ---- */

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
    struct controller_store *older = controller_store_newest(app);
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

/* ---- accepted ---- */

/* Perhaps from an application that gives it up with the same target. */
static void claim_route(struct controller *controller, struct controller_store *store)
{
    struct bytes route = store->plan->target.route_prefix;
    if (route.size == 0)
        return;
    int put = map_try_put_name(&controller->routes, route, store->app);
    ensure(put == 0);
}

static struct controller_app *find_or_new(struct controller *controller, struct bytes name,
                                          uint64_t stored_id)
{
    struct controller_app *app = controller_app_find(controller, name);
    if (app)
        return app;
    struct application_id id = {
        pick_id(&controller->apps, stored_id, &controller->application_last)};
    return controller_app_new(controller, name, id);
}

/* Takes the plan. */
static struct controller_store *accept(struct controller *controller,
                                       struct controller_transaction *transaction,
                                       const struct controller_app_target *target,
                                       struct controller_plan *plan, bool stored)
{
    struct controller_app *app =
        find_or_new(controller, target->name, stored ? target->id.v : 0);
    forget_doubtful_ids(plan, stored);
    give_ids(controller, app, plan);
    struct addition addition = addition_of(app, target);
    struct controller_store *store = controller_store_new(controller, transaction, app, plan);
    claim_route(controller, store);
    store->new_deployments = addition.deployments;
    store->new_replicas = addition.replicas;
    controller->promised_deployments += addition.deployments;
    controller->promised_replicas += addition.replicas;
    return store;
}

/* What was in force serves on; the status says why the newest target is not. */
static void fail_build(struct controller *controller, const struct controller_app_target *target,
                       struct controller_operation *operation)
{
    struct controller_app *app = find_or_new(controller, target->name, 0);
    struct list waits;
    if (!app->plan)
        app->deployed_ns = controller->now_ns;
    app->build_failed = app->declarative = true;
    controller_copy_tail(app->message, sizeof(app->message), target->build_failure);
    list_init(&waits);
    controller_wait_add(&waits, operation);
    controller_waits_end(controller, &waits, ERROR_DEPLOY_FAILED, app->message);
    controller_app_touch(controller, app);
}

static void accept_whole(struct controller *controller, struct whole *whole,
                         struct controller_operation *operation)
{
    struct controller_transaction *transaction = controller_transaction_new(controller);
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct controller_app_target *target = whole->targets + i;
        struct controller_app *app = controller_app_find(controller, target->name);
        if (target->build_failure.size) {
            fail_build(controller, target, operation);
        } else if (whole->plans[i]) {
            struct controller_store *store =
                accept(controller, transaction, target, whole->plans[i], whole->stored);
            whole->plans[i] = NULL;
            controller_wait_add(&store->waits, operation);
        } else {
            app->deployed_ns = controller->now_ns;
            controller_wait_add(&app->waits, operation);
            controller_app_touch(controller, app);
        }
    }
    for (uint32_t i = 0; whole->declarative && i < controller->apps.count; i++) {
        struct controller_app *app = controller->apps.at[i].object;
        if (goes(whole, app))
            controller_delete_app(controller, transaction, app, operation);
    }
    if (whole->stored)
        controller_transaction_restore(controller, transaction);
    else
        controller_transaction_emit(controller, transaction);
}

static void take_whole(struct controller *controller, struct whole *whole,
                       const struct controller_event *event)
{
    char message[CONTROLLER_MESSAGE_SIZE];
    struct controller_operation *operation = NULL;
    struct list hold; /* keeps the operation open until every application was asked */
    bool refused = false;
    map_init(&whole->names, SIZE_MAX);
    map_init(&whole->routes, SIZE_MAX);
    int code = check(controller, whole, message);
    if (code) {
        controller_outcome(controller, event->token, code, message);
        if (event->token == 0)
            trace_print(controller->config.trace, "deploy refused: %s", message);
    } else {
        operation = controller_operation_new(controller, event->type, event->token, &refused);
    }
    if (code == 0 && !refused) {
        list_init(&hold);
        controller_wait_add(&hold, operation);
        accept_whole(controller, whole, operation);
        controller_waits_end(controller, &hold, ERROR_OK, "");
    }
    for (uint32_t i = 0; whole->plans && i < whole->count; i++)
        controller_plan_unref(controller, whole->plans[i]);
    mem_free(whole->plans);
    map_done(&whole->names);
    map_done(&whole->routes);
}

void controller_deploy(struct controller *controller, const struct controller_event *event)
{
    struct whole whole = {.targets = event->target, .count = 1, .stored = event->stored};
    ensure(event->target && !event->target->build_failure.size);
    take_whole(controller, &whole, event);
}

void controller_apply(struct controller *controller, const struct controller_event *event)
{
    struct whole whole = {.targets = event->targets,
                          .count = event->target_count,
                          .declarative = event->declarative};
    take_whole(controller, &whole, event);
}
