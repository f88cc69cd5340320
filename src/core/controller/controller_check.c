/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_check: every invariant of the mind at rest, that is between two steps.
 *
 * For tests and the simulated world: it walks everything.  C5 (actual equals target in bounded
 * time) is about a run, not about a moment; the random test ends with it.
 */
#include "controller_state.h"
#include "ensure.h"

/* Sorted, without gaps in the objects. */
static void check_index(const struct controller_index *index)
{
    ensure(index->count <= index->capacity);
    for (uint32_t i = 0; i < index->count; i++) {
        ensure(index->at[i].object && index->at[i].id);
        ensure(i == 0 || index->at[i - 1].id < index->at[i].id);
    }
}

/* Every state but the last leads on, nobody leads to birth only, GONE is the end. */
static void check_tables(void)
{
    for (int from = 0; from < REPLICA_STATE_COUNT; from++) {
        bool reached = replica_state_born(from), leads = false;
        for (int to = 0; to < REPLICA_STATE_COUNT; to++) {
            reached = reached || replica_state_follows(to, from);
            leads = leads || replica_state_follows(from, to);
        }
        ensure(reached && leads == (from != REPLICA_STATE_GONE));
        ensure(from == REPLICA_STATE_GONE || replica_state_follows(from, REPLICA_STATE_GONE));
        ensure(replica_state_routable(from) == (from == REPLICA_STATE_RUNNING));
    }
}

/* C3: whatever has a process belongs to a record, and a record that must end has a time at which it
 * is pressed. */
static void check_replica(const struct controller *controller,
                          const struct controller_replica *replica)
{
    const struct controller_replicas *owner =
        replica->deployment ? &replica->deployment->replicas : &controller->strays;
    ensure_tag(C3, replica->state_link.list == &owner->in[replica->state]);
    ensure_tag(C3, controller_index_find(&controller->replicas, replica->id.v) == replica);
    ensure_tag(C3, replica->id.v <= controller->replica_last);
    bool ends =
        replica->state == REPLICA_STATE_DRAINING || replica->state == REPLICA_STATE_STOPPING;
    bool stray_after_load = !replica->deployment && controller->loaded;
    bool found = list_linked(&replica->found_link);
    if ((ends && replica->deployment) || stray_after_load || (found && controller->loaded))
        ensure_tag(C3, heap_linked(&replica->deadline));
    ensure(!found || replica->state == REPLICA_STATE_STARTING);
    ensure(replica->version_known || found || !replica->deployment || ends);
    bool serves = replica->deployment && replica_state_routable(replica->state);
    ensure(serves || (!replica->owes_ns && !replica->silent));
    ensure(replica->owes_ns || !replica->silent);
    ensure_tag(C3, !replica->owes_ns || replica->unhealthy || heap_linked(&replica->deadline));
    bool in_snapshot = serves && !replica->silent;
    ensure(in_snapshot == (controller_index_find(&controller->routable, replica->id.v) == replica));
    ensure(!replica->telling || serves);
    if (replica->state == REPLICA_STATE_WANTED)
        ensure(replica->deployment && replica->pid == 0 && replica->address.size == 0);
}

static size_t check_replicas(const struct controller *controller,
                             const struct controller_replicas *replicas)
{
    size_t count = 0;
    for (int state = 0; state < REPLICA_STATE_COUNT; state++) {
        struct list_link *link;
        list_each (link, &replicas->in[state])
            check_replica(controller, list_entry(link, struct controller_replica, state_link));
        count += replicas->in[state].length;
    }
    ensure(replicas->in[REPLICA_STATE_GONE].length == 0);
    return count;
}

/* C4: as many places as wanted, or as a rollout leaves room for, each held by one replica; no
 * second version starts beside the goal's. */
static void check_places(const struct controller *controller,
                         const struct controller_deployment *deployment)
{
    const struct list *in = deployment->replicas.in;
    uint32_t wanted = deployment->goal.target->replicas;
    uint32_t outdated = controller_deployment_outdated(deployment);
    uint32_t most = wanted + controller_deployment_surge(deployment);
    bool held = deployment->app->restored && !controller->loaded;
    uint32_t fitting = controller_deployment_fitting(deployment, REPLICA_STATE_WANTED) +
                       controller_deployment_fitting(deployment, REPLICA_STATE_STARTING);
    ensure_tag(C4, held || fitting ==
                               in[REPLICA_STATE_WANTED].length + in[REPLICA_STATE_STARTING].length);
    fitting += controller_deployment_fitting(deployment, REPLICA_STATE_RUNNING);
    if (held || controller->recovering)
        return;
    if (controller_deployment_halted(deployment))
        ensure_tag(C4, in[REPLICA_STATE_WANTED].length + in[REPLICA_STATE_STARTING].length == 0);
    else
        ensure_tag(C4, fitting == wanted || (fitting < wanted && fitting + outdated >= most));
}

static void check_deployment(const struct controller *controller,
                             const struct controller_deployment *deployment)
{
    const struct controller_app *app = deployment->app;
    const struct controller_goal *goals[] = {&deployment->goal, &deployment->good};
    ensure(map_get_name(&app->names, deployment->name) == deployment);
    ensure(controller_index_find(&controller->deployments, deployment->id.v) == deployment);
    ensure(deployment->id.v <= controller->deployment_last);
    ensure(deployment->app_link.list ==
           (deployment->leaving ? &app->leaving : &app->by_status[deployment->status]));
    for (int i = 0; i < 2; i++) {
        ensure(!goals[i]->plan == !goals[i]->target);
        ensure_tag(C1,
                   !goals[i]->plan || (goals[i]->plan->stored && goals[i]->plan->references > 0));
    }
    check_replicas(controller, &deployment->replicas);
    controller_ranks_check(deployment);
    ensure_tag(C2, controller_deployment_ready(deployment) >= deployment->ready_floor);
    if (!deployment->goal.plan) {
        ensure(deployment->leaving);
        ensure(controller->recovering ||
               deployment->replicas.in[REPLICA_STATE_RUNNING].length == 0);
        return;
    }
    ensure_tag(C2, deployment->ready_floor <= controller_deployment_floor(deployment));
    check_places(controller, deployment);
}

/* It is the application's, or one has it in sight to which the application gives it up. */
static void check_route(const struct controller *controller, const struct controller_app *app,
                        struct bytes route)
{
    const struct controller_app *owner = map_get_name(&controller->routes, route);
    struct list_link *link;
    bool claimed = owner == app;
    ensure(owner);
    list_each (link, &owner->stores) {
        const struct controller_store *store = list_entry(link, struct controller_store, link);
        claimed |= store->plan && bytes_equal(store->plan->target.route_prefix, route);
    }
    ensure(claimed);
}

static void check_app(const struct controller *controller, const struct controller_app *app)
{
    size_t wanted = 0;
    struct list_link *link;
    ensure(controller_app_find(controller, app->name) == app &&
           app->id.v <= controller->application_last);
    for (int status = 0; status < DEPLOYMENT_STATUS_COUNT; status++)
        wanted += app->by_status[status].length;
    ensure(map_count(&app->names) == wanted + app->leaving.length);
    ensure(wanted == (app->plan ? app->plan->target.deployment_count : 0));
    ensure(!(app->plan && app->deleting));
    ensure_tag(C1, !app->plan || app->plan->stored);
    if (app->plan && app->plan->target.route_prefix.size)
        check_route(controller, app, app->plan->target.route_prefix);
    list_each (link, &app->stores) {
        const struct controller_store *store = list_entry(link, struct controller_store, link);
        ensure(map_get(&controller->transactions, store->transaction->token) == store->transaction);
        ensure(store->app == app && store->transaction_link.list == &store->transaction->stores);
        ensure_tag(C1,
                   !store->done ||
                       link->next != &app->stores.head); /* the newest is in force or on its way */
    }
    ensure(app->plan || map_count(&app->names) > 0 || app->build_failed ||
           !list_empty(&app->stores)); /* else it is forgotten */
}

static uint64_t count_answering(const struct controller_deployment *deployment)
{
    struct list_link *link;
    uint64_t count = 0;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING])
        count += list_entry(link, struct controller_replica, state_link)->owes_ns == 0;
    return count;
}

void controller_check(const struct controller *controller)
{
    size_t replicas = check_replicas(controller, &controller->strays);
    uint64_t wanted = 0, answering = 0;
    check_tables();
    check_index(&controller->apps);
    check_index(&controller->deployments);
    check_index(&controller->replicas);
    check_index(&controller->routable);
    heap_check(&controller->deadlines);
    for (uint32_t i = 0; i < controller->apps.count; i++)
        check_app(controller, controller->apps.at[i].object);
    for (uint32_t i = 0; i < controller->deployments.count; i++) {
        const struct controller_deployment *deployment = controller->deployments.at[i].object;
        check_deployment(controller, deployment);
        wanted += deployment->goal.plan ? deployment->goal.target->replicas : 0;
        replicas += controller_replicas_count(&deployment->replicas);
        answering += count_answering(deployment);
    }
    ensure(answering == controller->answering);
    ensure_tag(C4, wanted == controller->wanted_replicas);
    ensure_tag(C3, replicas == controller->replicas.count);
    ensure_tag(C4, replicas <= 2 * (uint64_t)controller->config.settings.replica_limit + 1);
    ensure_tag(R4, controller->version >= controller->config.snapshot_last);
    ensure(controller->view_changed ? controller->recovering
                                    : true); /* else it would have been published */
    ensure(list_empty(&controller->dirty_deployments) && list_empty(&controller->dirty_apps));
    ensure(!controller->ended || (controller->apps.count == 0 && controller->shutting_down));
}
