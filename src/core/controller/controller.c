/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller: the step, and the mind's birth and end.
 *
 * One step: the event updates facts and marks what they touch dirty; each dirty deployment is
 * reconciled once, then each dirty application; then the list of effects is closed: the snapshot's
 * publication to the front if routers must know, stores to the end, and the end of a shutdown when
 * nothing is left.  Between steps nothing is dirty.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

struct controller *controller_new(const struct controller_config *config, uint64_t seed)
{
    struct controller *controller = mem_try(sizeof(*controller));
    if (!controller)
        return NULL;
    controller->config = *config;
    controller->application_last = config->application_last;
    controller->deployment_last = config->deployment_last;
    controller->replica_last = config->replica_last;
    controller->version = config->snapshot_last;
    rng_init(&controller->rng, seed);
    map_init(&controller->app_names, (size_t)config->settings.application_limit);
    map_init(&controller->routes,
             SIZE_MAX); /* at most one for each target, in force or under way */
    map_init(&controller->transactions,
             SIZE_MAX); /* CONTROLLER_STORE_LIMIT + 1 for each application */
    controller_replicas_init(&controller->strays);
    list_init(&controller->found);
    list_init(&controller->dirty_deployments);
    list_init(&controller->dirty_apps);
    list_init(&controller->shutdown_waits);
    return controller;
}

/* Everything of it but the record, which app_free takes. */
static void empty_app(struct controller *controller, struct controller_app *app)
{
    struct map_entry *entry;
    controller_waits_free(controller, &app->waits);
    for (struct list_link *link; (link = list_first(&app->stores));) {
        struct controller_store *store = list_entry(link, struct controller_store, link);
        controller_waits_free(controller, &store->waits);
        controller_store_drop(controller, store);
    }
    map_each (entry, &app->names)
        controller_deployment_free(controller, entry->value);
}

struct controller *controller_free(struct controller *controller)
{
    if (!controller)
        return NULL;
    while (controller->replicas.count) {
        struct controller_replica *replica =
            controller->replicas.at[controller->replicas.count - 1].object;
        list_remove(&replica->state_link);
        list_remove(&replica->found_link);
        controller_index_remove(&controller->replicas, replica->id.v);
        controller_replica_free(controller, replica);
    }
    while (controller->apps.count) {
        struct controller_app *app = controller->apps.at[controller->apps.count - 1].object;
        empty_app(controller, app);
        controller_app_free(controller, app);
    }
    controller_waits_free(controller, &controller->shutdown_waits);
    ensure(controller->operation_count == 0);
    controller_trash_empty(controller);
    mem_free(controller->trash.at);
    heap_done(&controller->deadlines);
    controller_effects_done(&controller->stores);
    controller_index_done(&controller->apps);
    controller_index_done(&controller->deployments);
    controller_index_done(&controller->replicas);
    controller_index_done(&controller->routable);
    map_done(&controller->app_names);
    map_done(&controller->routes);
    map_done(&controller->transactions);
    return mem_free(controller);
}

/* ---- the step ---- */

static void pass_time(struct controller *controller, const struct controller_event *event)
{
    for (struct controller_replica *replica; (replica = controller_deadline_take(controller));)
        controller_replica_due(controller, replica, event->late);
}

static void take(struct controller *controller, const struct controller_event *event)
{
    static void (*const takers[CONTROLLER_EVENT_COUNT])(struct controller *,
                                                        const struct controller_event *) = {
        [CONTROLLER_DEPLOY] = controller_deploy,
        [CONTROLLER_APPLY] = controller_apply,
        [CONTROLLER_DELETE] = controller_delete,
        [CONTROLLER_SHUTDOWN] = controller_shutdown,
        [CONTROLLER_STORED] = controller_stored,
        [CONTROLLER_STARTED] = controller_started,
        [CONTROLLER_READY] = controller_ready,
        [CONTROLLER_FAILED] = controller_failed,
        [CONTROLLER_GONE] = controller_gone,
        [CONTROLLER_ADOPT] = controller_adopt,
        [CONTROLLER_HEALTH] = controller_health,
        [CONTROLLER_CONFIGURED] = controller_configured,
        [CONTROLLER_OWES] = controller_owes,
        [CONTROLLER_ANSWERS] = controller_answers,
        [CONTROLLER_TIME] = pass_time,
        [CONTROLLER_LOADED] = controller_loaded,
    };
    ensure(event->type < CONTROLLER_EVENT_COUNT);
    takers[event->type](controller, event);
}

/* All that runs has said what it is: from now on routers are told, and what waited for that is
 * done. */
static bool recovery_ends(struct controller *controller)
{
    if (!controller->recovering || !controller->loaded || !list_empty(&controller->found))
        return false;
    controller->recovering = false;
    controller->view_changed = true;
    for (uint32_t i = 0; i < controller->deployments.count; i++)
        controller_deployment_touch(controller, controller->deployments.at[i].object);
    return true;
}

/* An object stays on its list while it is reconciled, so that its own moves do not bring it back.
 */
static void reconcile(struct controller *controller)
{
    do {
        struct list_link *link;
        while ((link = list_first(&controller->dirty_deployments))) {
            controller_reconcile(controller,
                                 list_entry(link, struct controller_deployment, dirty_link));
            list_remove(link);
        }
        while (list_empty(&controller->dirty_deployments) &&
               (link = list_first(&controller->dirty_apps))) {
            controller_app_reconcile(controller,
                                     list_entry(link, struct controller_app, dirty_link));
            list_remove(link);
        }
    } while (!list_empty(&controller->dirty_deployments) || recovery_ends(controller));
}

static void end_shutdown(struct controller *controller)
{
    if (!controller->shutting_down || controller->apps.count || controller->replicas.count)
        return;
    controller_waits_end(controller, &controller->shutdown_waits, controller->shutdown_error.code,
                         controller->shutdown_error.text);
    if (!controller->ended)
        controller_effect_add(controller->effects, CONTROLLER_ENDED);
    controller->ended = true;
}

void controller_step(struct controller *controller, int64_t now_ns,
                     const struct controller_event *event, struct controller_effects *effects)
{
    ensure(controller && event && effects && !controller->effects);
    controller_trash_empty(controller);
    effects->count = 0;
    controller->effects = effects;
    if (controller->now_ns < now_ns)
        controller->now_ns = now_ns;
    take(controller, event);
    reconcile(controller);
    end_shutdown(controller);
    if (controller->view_changed && !controller->recovering) {
        controller->view_changed = false;
        controller_effects_publish(controller);
    }
    controller_effects_close(controller);
    controller->effects = NULL;
    ensure(list_empty(&controller->dirty_deployments) && list_empty(&controller->dirty_apps));
}
