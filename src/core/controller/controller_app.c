/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_app: an application's life, from its first target to the end of its last replica.
 *
 * A target in force names deployments: those become wanted or are aimed anew; those that it lacks
 * leave, but only once the others have reached theirs, because until then the old ones may still be
 * called.  The published ingress follows for the same reason when the new one can serve.  Work per
 * step is bounded by what changed: the wanted deployments hang on lists by status, so that the
 * application's own status is a matter of lengths.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

struct controller_app *controller_app_find(const struct controller *controller, struct bytes name)
{
    return map_get_name(&controller->app_names, name);
}

void controller_app_touch(struct controller *controller, struct controller_app *app)
{
    if (!list_linked(&app->dirty_link))
        list_push_back(&controller->dirty_apps, &app->dirty_link);
}

struct controller_app *controller_app_new(struct controller *controller, struct bytes name,
                                          struct application_id id)
{
    struct controller_app *app = mem_new(sizeof(*app) + name.size + 1);
    memcpy(app + 1, name.at, name.size);
    app->name = bytes_of(app + 1, name.size);
    app->id = id;
    app->status = APPLICATION_STATUS_NOT_STARTED;
    list_init(&app->stores);
    list_init(&app->waits);
    list_init(&app->leaving);
    for (int status = 0; status < DEPLOYMENT_STATUS_COUNT; status++)
        list_init(&app->by_status[status]);
    map_init(&app->names, SIZE_MAX); /* deployment_limit is checked for all applications together */
    controller_index_insert(&controller->apps, id.v, app);
    int put = map_try_put_name(&controller->app_names, app->name, app);
    ensure(put == 0);
    return app;
}

void controller_app_free(struct controller *controller, struct controller_app *app)
{
    ensure(map_count(&app->names) == 0 && list_empty(&app->stores) && list_empty(&app->waits));
    controller_plan_unref(controller, app->plan);
    map_done(&app->names);
    list_remove(&app->dirty_link);
    map_remove_name(&controller->app_names, app->name);
    controller_index_remove(&controller->apps, app->id.v);
    controller_trash_add(controller, app);
}

/* ---- a target comes into force ---- */

static bool claims_route(const struct controller_app *app, struct bytes route)
{
    struct list_link *link;
    if (app->plan && bytes_equal(app->plan->target.route_prefix, route))
        return true;
    list_each (link, &app->stores) {
        const struct controller_store *store = list_entry(link, struct controller_store, link);
        if (store->plan && bytes_equal(store->plan->target.route_prefix, route))
            return true;
    }
    return false;
}

void controller_app_release_route(struct controller *controller, struct controller_app *app,
                                  struct bytes route)
{
    if (route.size && !claims_route(app, route) && map_get_name(&controller->routes, route) == app)
        map_remove_name(&controller->routes, route);
}

void controller_app_return_route(struct controller *controller, struct bytes route)
{
    if (route.size == 0 || map_get_name(&controller->routes, route))
        return;
    for (uint32_t i = 0; i < controller->apps.count; i++) {
        struct controller_app *app = controller->apps.at[i].object;
        if (!claims_route(app, route))
            continue;
        int put = map_try_put_name(&controller->routes, route, app);
        ensure(put == 0);
        return;
    }
}

/* Whoever waited for what is no longer wanted. */
static void cancel_waits(struct controller *controller, struct controller_app *app,
                         struct list *waits, bool deletion)
{
    char message[CONTROLLER_MESSAGE_SIZE];
    controller_print(message, sizeof(message), "application '%.*s' %s", BYTES_PRINT(app->name),
                     deletion ? "is being deleted" : "was deployed anew");
    controller_waits_end(controller, waits, ERROR_CANCELLED, message);
}

/* Older targets that were under way to the store are overtaken. */
static void drop_older(struct controller *controller, struct controller_app *app,
                       struct controller_store *store)
{
    struct list_link *link;
    while ((link = list_first(&app->stores)) != &store->link) {
        struct controller_store *older = list_entry(link, struct controller_store, link);
        cancel_waits(controller, app, &older->waits, !store->plan);
        controller_store_drop(controller, older);
    }
}

static void aim_deployments(struct controller *controller, struct controller_app *app,
                            uint64_t token)
{
    struct map_entry *entry;
    for (uint32_t i = 0; i < app->plan->target.deployment_count; i++) {
        const struct controller_deployment_target *row = app->plan->target.deployments + i;
        struct controller_deployment *deployment = map_get_name(&app->names, row->name);
        bool is_new = !deployment;
        if (is_new)
            deployment = controller_deployment_new(controller, app, row);
        ensure(deployment_id_equal(deployment->id, row->id));
        deployment->seen = token;
        controller_deployment_aim(controller, deployment, app->plan, row);
        if (is_new)
            controller_claim_strays(controller, deployment);
    }
    map_each (entry, &app->names) {
        struct controller_deployment *deployment = entry->value;
        if (deployment->seen != token)
            controller_deployment_leave(controller, deployment);
    }
}

static void let_all_go(struct controller *controller, struct controller_app *app)
{
    struct map_entry *entry;
    map_each (entry, &app->names) {
        controller_deployment_leave(controller, entry->value);
        controller_deployment_go(controller, entry->value);
    }
}

void controller_app_commit(struct controller *controller, struct controller_app *app,
                           struct controller_store *store)
{
    struct controller_plan *old_plan = app->plan;
    struct bytes old_route = old_plan ? old_plan->target.route_prefix : (struct bytes){0};
    uint64_t token = store->transaction->token;
    drop_older(controller, app, store);
    cancel_waits(controller, app, &app->waits, !store->plan);
    controller_waits_move(&app->waits, &store->waits);
    app->plan = store->plan ? controller_plan_ref(store->plan) : NULL;
    app->deleting = !app->plan;
    app->build_failed = false;
    app->declarative = app->plan ? app->plan->target.declarative : app->declarative;
    controller_store_drop(controller, store);
    controller_plan_unref(controller, old_plan);
    if (old_plan)
        controller_app_release_route(controller, app, old_route);
    if (!old_plan != !app->plan ||
        (app->plan && !bytes_equal(old_route, app->plan->target.route_prefix)))
        controller->view_changed = true;
    trace_print(controller->config.trace, "%.*s: target %s", BYTES_PRINT(app->name),
                app->plan ? "in force" : "deleted");
    if (app->plan) {
        app->deployed_ns = controller->now_ns;
        aim_deployments(controller, app, token);
    } else {
        let_all_go(controller, app);
    }
    controller_app_touch(controller, app);
}

/* ---- reconcile ---- */

/* The new ingress takes over when it can serve, or when nothing else can. */
static void choose_ingress(struct controller *controller, struct controller_app *app)
{
    const struct controller_deployment *wanted =
        map_get_name(&app->names, app->plan->target.ingress);
    const struct controller_deployment *now =
        controller_index_find(&controller->deployments, app->ingress.v);
    ensure(wanted && !wanted->leaving);
    if (wanted == now)
        return;
    if (now && now->goal.plan && wanted->status != DEPLOYMENT_STATUS_HEALTHY &&
        list_empty(&wanted->replicas.in[REPLICA_STATE_RUNNING]))
        return;
    app->ingress = wanted->id;
    controller->view_changed = true;
}

static bool all_healthy(const struct controller_app *app)
{
    return app->by_status[DEPLOYMENT_STATUS_HEALTHY].length == app->plan->target.deployment_count;
}

/* A deployment failed, or is unhealthy and will not get better by itself. */
static bool any_failed(const struct controller_app *app)
{
    struct list_link *link;
    if (!list_empty(&app->by_status[DEPLOYMENT_STATUS_DEPLOY_FAILED]))
        return true;
    list_each (link, &app->by_status[DEPLOYMENT_STATUS_UNHEALTHY])
        if (list_entry(link, struct controller_deployment, app_link)->failed)
            return true;
    return false;
}

static void reconcile_target(struct controller *controller, struct controller_app *app)
{
    struct list_link *link;
    choose_ingress(controller, app);
    controller_status_app(controller, app);
    if (any_failed(app))
        controller_waits_end(controller, &app->waits, ERROR_DEPLOY_FAILED, app->message);
    if (!all_healthy(app) || controller->recovering) /* then routers do not know of it yet */
        return;
    controller_waits_end(controller, &app->waits, ERROR_OK, "");
    list_each (link, &app->leaving) {
        struct controller_deployment *deployment =
            list_entry(link, struct controller_deployment, app_link);
        if (deployment->goal.plan)
            controller_deployment_go(controller, deployment);
    }
}

void controller_app_reconcile(struct controller *controller, struct controller_app *app)
{
    controller->visits++;
    if (app->plan) {
        reconcile_target(controller, app);
        return;
    }
    controller_status_app(controller, app);
    if (map_count(&app->names) > 0)
        return;
    if (app->deleting)
        controller_waits_end(controller, &app->waits, ERROR_OK, "");
    if (list_empty(&app->stores) && !app->build_failed)
        controller_app_free(controller, app);
}
