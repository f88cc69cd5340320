/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_reconcile: from goal, facts and now to what is done about one deployment.
 *
 * Derived anew each time the deployment is touched, from nothing but what is, so that a lost or
 * doubled event heals.  In order: what is not wanted goes, places are filled, what may start
 * starts, running ones learn their limit, the surplus of old ones drains, and the result is judged.
 *
 * A rollout (C2): as many replicas of the new version are wanted beside the old ones as the surge
 * allows; an old one drains only while more are ready than are wanted.  So at every moment
 *
 *     ready replicas >= min(target, ready replicas when the target came)
 *
 * but for those that die by themselves; ready_floor keeps the right side and is checked.  Without a
 * surge old ones stop first, the rolling update's share at a time (Ray Serve's default), and the
 * target on the right side is less by that share.
 *
 * DRAINING and STOPPING replicas belong to nobody's count: they neither fill a place nor keep the
 * deployment from being HEALTHY.  (Ray Serve waits for them; here a deployer need not wait for the
 * last request of the old version.)
 */
#include "controller_state.h"
#include "ensure.h"

static struct controller_replica *replica_of(struct list_link *link)
{
    return list_entry(link, struct controller_replica, state_link);
}

/* Not started yet, or not proved: no request of anybody is there. */
static void withdraw(struct controller *controller, struct controller_replica *replica)
{
    if (replica->state == REPLICA_STATE_WANTED)
        controller_replica_move(controller, replica, REPLICA_STATE_GONE);
    else
        controller_replica_stop(controller, replica, CONTROLLER_STOP_POLITELY);
}

/* What waits to start or starts, of another version or of one that failed for good. */
static void withdraw_unwanted(struct controller *controller,
                              struct controller_deployment *deployment)
{
    const enum replica_state states[] = {REPLICA_STATE_WANTED, REPLICA_STATE_STARTING};
    bool nothing = controller_deployment_halted(deployment);
    struct list_link *link, *after;
    for (int i = 0; i < 2; i++)
        list_each_safe (link, after, &deployment->replicas.in[states[i]])
            if (nothing || !controller_replica_fits(replica_of(link)))
                withdraw(controller, replica_of(link));
}

static void drain_unhealthy(struct controller *controller, struct controller_deployment *deployment)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &deployment->replicas.in[REPLICA_STATE_RUNNING])
        if (replica_of(link)->unhealthy && !controller->recovering)
            controller_replica_drain(controller, replica_of(link));
}

/* The newest first: at most `count` of the state that fit.  Returns how many are still to go. */
static uint32_t shrink_state(struct controller *controller,
                             struct controller_deployment *deployment, enum replica_state state,
                             uint32_t count, bool (*goes)(const struct controller_replica *))
{
    struct list *list = &deployment->replicas.in[state];
    struct list_link *before;
    for (struct list_link *link = list_last(list); count > 0 && link && link != &list->head;
         link = before) {
        struct controller_replica *replica = replica_of(link);
        before = link->prev;
        if (replica->unhealthy || !controller_replica_fits(replica) || !goes(replica))
            continue;
        if (state == REPLICA_STATE_RUNNING)
            controller_replica_drain(controller, replica);
        else
            withdraw(controller, replica);
        count--;
    }
    return count;
}

static bool is_silent(const struct controller_replica *replica)
{
    return replica->silent;
}

static bool is_owing(const struct controller_replica *replica)
{
    return replica->owes_ns != 0;
}

static bool is_any(const struct controller_replica *replica)
{
    return replica != NULL;
}

/* Too many of the version: those that serve least go first, the newest before the older (Ray
 * Serve's order). */
static void shrink(struct controller *controller, struct controller_deployment *deployment,
                   uint32_t count)
{
    count = shrink_state(controller, deployment, REPLICA_STATE_WANTED, count, is_any);
    count = shrink_state(controller, deployment, REPLICA_STATE_STARTING, count, is_any);
    if (controller->recovering)
        return;
    count = shrink_state(controller, deployment, REPLICA_STATE_RUNNING, count, is_silent);
    count = shrink_state(controller, deployment, REPLICA_STATE_RUNNING, count, is_owing);
    shrink_state(controller, deployment, REPLICA_STATE_RUNNING, count, is_any);
}

/* C4: exactly the wanted number of places, each with a replica that waits, starts or runs; fewer as
 * long as old ones leave no more room. */
static void fill(struct controller *controller, struct controller_deployment *deployment)
{
    uint32_t wanted = deployment->goal.target->replicas;
    uint32_t most = wanted + controller_deployment_surge(deployment);
    uint32_t outdated = controller_deployment_outdated(deployment);
    uint32_t held = controller_deployment_fitting(deployment, REPLICA_STATE_WANTED) +
                    controller_deployment_fitting(deployment, REPLICA_STATE_STARTING) +
                    controller_deployment_fitting(deployment, REPLICA_STATE_RUNNING);
    if (held > wanted)
        shrink(controller, deployment, held - wanted);
    for (; held < wanted && held + outdated < most && !controller_deployment_halted(deployment);
         held++)
        controller_replica_want(controller, deployment, 0, 0);
}

/* Those whose back-off is over. */
static void start_due(struct controller *controller, struct controller_deployment *deployment)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &deployment->replicas.in[REPLICA_STATE_WANTED])
        if (!heap_linked(&replica_of(link)->deadline))
            controller_replica_start(controller, replica_of(link));
}

/* Those that run with what is wanted. */
static uint32_t count_current(const struct controller_deployment *deployment)
{
    const struct list *running = &deployment->replicas.in[REPLICA_STATE_RUNNING];
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, running)
        count += !replica_of(link)->unhealthy && controller_replica_current(replica_of(link));
    return count;
}

/* Ready, and none of their answers is due. */
static uint32_t count_answering(const struct controller_deployment *deployment)
{
    const struct list *running = &deployment->replicas.in[REPLICA_STATE_RUNNING];
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, running)
        count += !replica_of(link)->unhealthy && !replica_of(link)->owes_ns;
    return count;
}

/*
 * Without a surge: the oldest outdated ones make room, no more at a time than the share, places
 * that are empty or start counted, and replicas that owe an answer.  One that is silent gives
 * nothing up.
 */
static void make_room(struct controller *controller, struct controller_deployment *deployment)
{
    uint32_t wanted = deployment->goal.target->replicas;
    uint32_t share = controller_deployment_share(deployment);
    uint32_t answering = count_answering(deployment);
    uint32_t missing = wanted > answering ? wanted - answering : 0;
    struct list_link *link, *after;
    if (controller_deployment_surge(deployment) > 0 || controller->recovering ||
        controller_deployment_halted(deployment))
        return;
    uint32_t count = share > missing ? share - missing : 0;
    list_each_safe (link, after, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        struct controller_replica *replica = replica_of(link);
        if (replica->unhealthy || controller_replica_fits(replica) ||
            (!replica->silent && (count == 0 || replica->owes_ns)))
            continue;
        count -= !replica->silent;
        controller_replica_drain(controller, replica);
    }
    uint32_t ready = controller_deployment_ready(deployment);
    if (deployment->ready_floor > ready)
        deployment->ready_floor = ready;
}

/*
 * C2: old ones drain, the oldest first, only while more are ready than are wanted.  One that owes
 * an answer is not relied upon: it makes no other one dispensable, and is dispensable itself as
 * soon as enough others answer.
 */
static void drain_surplus(struct controller *controller, struct controller_deployment *deployment)
{
    uint32_t wanted = deployment->goal.target->replicas;
    uint32_t answering = count_answering(deployment);
    struct list_link *link, *after;
    list_each_safe (link, after, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        struct controller_replica *replica = replica_of(link);
        uint32_t loss = replica->owes_ns == 0;
        if (replica->unhealthy || controller_replica_fits(replica) || answering < wanted + loss ||
            controller->recovering)
            continue;
        answering -= loss;
        ensure_tag(C2, answering >= deployment->ready_floor);
        controller_replica_drain(controller, replica);
    }
}

static void judge(struct controller *controller, struct controller_deployment *deployment)
{
    struct controller_goal *goal = &deployment->goal;
    const struct list *in = deployment->replicas.in;
    uint32_t wanted = goal->target->replicas;
    uint32_t ready = controller_deployment_ready(deployment);
    uint32_t most = controller_deployment_floor(deployment);
    uint32_t floor = ready < most ? ready : most;
    if (deployment->ready_floor < floor)
        deployment->ready_floor = floor;
    bool complete =
        in[REPLICA_STATE_WANTED].length == 0 && in[REPLICA_STATE_STARTING].length == 0 &&
        in[REPLICA_STATE_RUNNING].length == wanted && count_current(deployment) == wanted;
    if (!complete || deployment->failed)
        return;
    if (ready < wanted) {
        controller_status_say(
            deployment, "%u of %u replicas do not answer; requests go to the others, or wait.",
            wanted - ready, wanted);
        return;
    }
    deployment->failures = 0;
    deployment->message[0] = '\0';
    controller_goal_set(controller, &deployment->good, goal->plan, goal->target, goal->proven);
    controller_status_signal(controller, deployment, CONTROLLER_SIGNAL_REACHED);
}

static void steer(struct controller *controller, struct controller_deployment *deployment)
{
    withdraw_unwanted(controller, deployment);
    drain_unhealthy(controller, deployment);
    make_room(controller, deployment);
    fill(controller, deployment);
    start_due(controller, deployment);
    controller_ranks_settle(controller, deployment);
    controller_configure(controller, deployment);
    drain_surplus(controller, deployment);
    fill(controller, deployment); /* what has gone may have left room */
    start_due(controller, deployment);
    judge(controller, deployment);
}

/* No replica is wanted any more. */
static void let_go(struct controller *controller, struct controller_deployment *deployment)
{
    const enum replica_state states[] = {REPLICA_STATE_WANTED, REPLICA_STATE_STARTING};
    struct list_link *link, *after;
    for (int i = 0; i < 2; i++)
        list_each_safe (link, after, &deployment->replicas.in[states[i]])
            withdraw(controller, replica_of(link));
    list_each_safe (link, after, &deployment->replicas.in[REPLICA_STATE_RUNNING])
        if (!controller->recovering)
            controller_replica_drain(controller, replica_of(link));
}

void controller_reconcile(struct controller *controller, struct controller_deployment *deployment)
{
    struct controller_app *app = deployment->app;
    bool held = app->restored && !controller->loaded; /* not all that runs has been told */
    controller->visits++;
    controller_app_touch(controller, app);
    if (!deployment->goal.plan)
        let_go(controller, deployment);
    else if (!held)
        steer(controller, deployment);
    controller_view_compare(controller, deployment);
    if (!deployment->goal.plan && controller_replicas_count(&deployment->replicas) == 0)
        controller_deployment_free(controller, deployment);
}
