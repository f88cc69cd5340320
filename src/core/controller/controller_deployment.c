/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_deployment: a deployment's record, and what becomes of its goal.
 *
 * A goal is what the deployment is steered to.  A new target sets it; too many failed starts set it
 * back to the last one that was reached, so that the old version serves on and is even restarted;
 * going clears it.  What is done about a goal is controller_reconcile.c's.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

void controller_deployment_touch(struct controller *controller,
                                 struct controller_deployment *deployment)
{
    if (!list_linked(&deployment->dirty_link))
        list_push_back(&controller->dirty_deployments, &deployment->dirty_link);
}

struct controller_deployment *
controller_deployment_new(struct controller *controller, struct controller_app *app,
                          const struct controller_deployment_target *target)
{
    struct controller_deployment *deployment = mem_new(sizeof(*deployment) + target->name.size + 1);
    memcpy(deployment + 1, target->name.at, target->name.size);
    deployment->name = bytes_of(deployment + 1, target->name.size);
    deployment->id = target->id;
    deployment->app = app;
    deployment->status = DEPLOYMENT_STATUS_UPDATING;
    deployment->trigger = DEPLOYMENT_TRIGGER_CONFIG_UPDATE_STARTED;
    controller_replicas_init(&deployment->replicas);
    list_push_back(&app->by_status[deployment->status], &deployment->app_link);
    controller_index_insert(&controller->deployments, deployment->id.v, deployment);
    int put = map_try_put_name(&app->names, deployment->name, deployment);
    ensure(put == 0);
    controller->view_changed = true;
    return deployment;
}

/* ---- counts ---- */

bool controller_replica_fits(const struct controller_replica *replica)
{
    const struct controller_deployment *deployment = replica->deployment;
    ensure(deployment && deployment->goal.target);
    return !replica->version_known || replica->version == deployment->goal.target->version;
}

uint32_t controller_deployment_ready(const struct controller_deployment *deployment)
{
    const struct list *running = &deployment->replicas.in[REPLICA_STATE_RUNNING];
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, running) {
        const struct controller_replica *replica =
            list_entry(link, struct controller_replica, state_link);
        count += !replica->unhealthy && !replica->silent;
    }
    return count;
}

uint32_t controller_deployment_fitting(const struct controller_deployment *deployment,
                                       enum replica_state state)
{
    const struct list *list = &deployment->replicas.in[state];
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, list) {
        const struct controller_replica *replica =
            list_entry(link, struct controller_replica, state_link);
        count += !replica->unhealthy && controller_replica_fits(replica);
    }
    return count;
}

uint32_t controller_deployment_retry_limit(const struct controller *controller,
                                           const struct controller_deployment *deployment)
{
    const struct controller_deployment_target *target = deployment->goal.target;
    int64_t limit = controller->config.settings.start_retry_limit * (int64_t)target->replicas;
    int64_t most =
        target->rollout.retry_limit ? target->rollout.retry_limit : CONTROLLER_RETRY_LIMIT;
    if (limit > most)
        limit = most;
    return limit < 1 ? 1 : (uint32_t)limit;
}

/* ---- rollouts ---- */

uint32_t controller_deployment_share(const struct controller_deployment *deployment)
{
    const struct controller_deployment_target *target = deployment->goal.target;
    uint64_t share = (uint64_t)target->rollout.share_millionths * target->replicas / 1000000;
    return share > 1 ? (uint32_t)share : 1;
}

uint32_t controller_deployment_surge(const struct controller_deployment *deployment)
{
    const struct controller_deployment_target *target = deployment->goal.target;
    return (uint32_t)(((uint64_t)target->rollout.max_surge_percent * target->replicas + 99) / 100);
}

uint32_t controller_deployment_outdated(const struct controller_deployment *deployment)
{
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        const struct controller_replica *replica =
            list_entry(link, struct controller_replica, state_link);
        count += !replica->unhealthy && !controller_replica_fits(replica);
    }
    return count;
}

uint32_t controller_deployment_floor(const struct controller_deployment *deployment)
{
    uint32_t wanted = deployment->goal.target->replicas;
    uint32_t share = controller_deployment_share(deployment);
    if (controller_deployment_surge(deployment) > 0)
        return wanted;
    return wanted > share ? wanted - share : 0;
}

/* ---- goals ---- */

/* The total of what is wanted goes with it (replica_limit). */
static void set_goal(struct controller *controller, struct controller_deployment *deployment,
                     struct controller_plan *plan,
                     const struct controller_deployment_target *target, bool proven)
{
    struct controller_goal *goal = &deployment->goal;
    uint32_t before = goal->plan ? goal->target->replicas : 0;
    ensure(controller->wanted_replicas >= before);
    controller->wanted_replicas += (uint64_t)target->replicas - before;
    controller_goal_set(controller, goal, plan, target, proven);
}

static void clear_goals(struct controller *controller, struct controller_deployment *deployment)
{
    uint32_t before = deployment->goal.plan ? deployment->goal.target->replicas : 0;
    ensure(controller->wanted_replicas >= before);
    controller->wanted_replicas -= before;
    controller_goal_clear(controller, &deployment->goal);
    controller_goal_clear(controller, &deployment->good);
}

bool controller_deployment_options_equal(const struct controller_deployment_target *a,
                                         const struct controller_deployment_target *b)
{
    return a->configuration == b->configuration && a->max_ongoing == b->max_ongoing &&
           a->max_queued == b->max_queued && a->streams_body == b->streams_body &&
           a->graceful_shutdown_timeout_ns == b->graceful_shutdown_timeout_ns &&
           a->health_check_period_ns == b->health_check_period_ns &&
           a->health_check_timeout_ns == b->health_check_timeout_ns &&
           a->rollout.max_surge_percent == b->rollout.max_surge_percent &&
           a->rollout.share_millionths == b->rollout.share_millionths &&
           a->rollout.retry_limit == b->rollout.retry_limit &&
           a->rollout.start_timeout_ns == b->rollout.start_timeout_ns;
}

/* The same processes may run it as they are. */
static bool same_content(const struct controller_deployment_target *a,
                         const struct controller_deployment_target *b)
{
    return a->version == b->version && a->configuration == b->configuration;
}

static bool runs(const struct controller_replica *replica,
                 const struct controller_deployment_target *target)
{
    return replica->version == target->version && replica->configuration == target->configuration;
}

static bool has_run(const struct controller_deployment *deployment,
                    const struct controller_deployment_target *target)
{
    const struct controller_goal *goal = &deployment->goal, *good = &deployment->good;
    struct list_link *link;
    if ((goal->plan && goal->proven && same_content(goal->target, target)) ||
        (good->plan && good->proven && same_content(good->target, target)))
        return true;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING])
        if (runs(list_entry(link, struct controller_replica, state_link), target))
            return true;
    return false;
}

/* What is new about the target, in the words of the status table; COUNT: nothing. */
static enum controller_signal news_of(const struct controller_deployment *deployment,
                                      const struct controller_deployment_target *target)
{
    const struct controller_deployment_target *old = deployment->goal.target;
    if (!old || old->version != target->version ||
        !controller_deployment_options_equal(old, target) || deployment->failed ||
        deployment->status == DEPLOYMENT_STATUS_DEPLOY_FAILED)
        return CONTROLLER_SIGNAL_CONFIG;
    if (old->replicas == target->replicas)
        return CONTROLLER_SIGNAL_COUNT;
    return old->replicas < target->replicas ? CONTROLLER_SIGNAL_SCALE_UP
                                            : CONTROLLER_SIGNAL_SCALE_DOWN;
}

/* Ray Serve's words. */
static void say_scale(struct controller_deployment *deployment, uint32_t before, uint32_t now)
{
    if (deployment->status == DEPLOYMENT_STATUS_UPSCALING && now > before)
        controller_status_say(deployment, "Upscaling from %u to %u replicas.", before, now);
    if (deployment->status == DEPLOYMENT_STATUS_DOWNSCALING && now < before)
        controller_status_say(deployment, "Downscaling from %u to %u replicas.", before, now);
}

/* Another goal may promise less. */
static void lower_floor(struct controller_deployment *deployment)
{
    uint32_t floor = controller_deployment_floor(deployment);
    if (deployment->ready_floor > floor)
        deployment->ready_floor = floor;
}

/* Whoever deploys again does not want to wait for a back-off that an earlier target earned. */
static void forgive(struct controller *controller, struct controller_deployment *deployment)
{
    struct list_link *link;
    deployment->failures = 0;
    deployment->failed = false;
    deployment->last_failure[0] = '\0';
    list_each (link, &deployment->replicas.in[REPLICA_STATE_WANTED]) {
        struct controller_replica *replica =
            list_entry(link, struct controller_replica, state_link);
        replica->attempt = 0;
        controller_deadline_clear(controller, replica);
    }
}

void controller_deployment_aim(struct controller *controller,
                               struct controller_deployment *deployment,
                               struct controller_plan *plan,
                               const struct controller_deployment_target *target)
{
    struct controller_goal *goal = &deployment->goal, *good = &deployment->good;
    enum controller_signal news = news_of(deployment, target);
    bool proven = has_run(deployment, target);
    uint32_t before = goal->plan ? goal->target->replicas : 0;
    if (deployment->leaving) {
        deployment->leaving = false;
        list_remove(&deployment->app_link);
        list_push_back(&deployment->app->by_status[deployment->status], &deployment->app_link);
    }
    if (goal->plan && !good->plan && goal->proven && !same_content(goal->target, target))
        controller_goal_set(controller, good, goal->plan, goal->target, goal->proven);
    forgive(controller, deployment);
    set_goal(controller, deployment, plan, target, proven);
    deployment->drain_ns = target->graceful_shutdown_timeout_ns;
    lower_floor(deployment);
    if (news != CONTROLLER_SIGNAL_COUNT) {
        if (news == CONTROLLER_SIGNAL_CONFIG || deployment->status != DEPLOYMENT_STATUS_UNHEALTHY)
            deployment->message[0] = '\0';
        controller_status_signal(controller, deployment, news);
        say_scale(deployment, before, target->replicas);
    }
    controller_deployment_touch(controller, deployment);
}

void controller_deployment_leave(struct controller *controller,
                                 struct controller_deployment *deployment)
{
    if (deployment->leaving)
        return;
    deployment->leaving = true;
    list_remove(&deployment->app_link);
    list_push_back(&deployment->app->leaving, &deployment->app_link);
    controller_deployment_touch(controller, deployment);
}

void controller_deployment_go(struct controller *controller,
                              struct controller_deployment *deployment)
{
    ensure(deployment->leaving);
    clear_goals(controller, deployment);
    deployment->ready_floor = 0;
    deployment->message[0] = '\0';
    forgive(controller, deployment);
    controller_status_signal(controller, deployment, CONTROLLER_SIGNAL_DELETE);
    controller_deployment_touch(controller, deployment);
}

bool controller_deployment_halted(const struct controller_deployment *deployment)
{
    return deployment->failed && !deployment->goal.proven;
}

void controller_deployment_prove(struct controller_deployment *deployment,
                                 const struct controller_replica *replica)
{
    struct controller_goal *goals[] = {&deployment->goal, &deployment->good};
    for (int i = 0; i < 2; i++)
        if (goals[i]->plan && runs(replica, goals[i]->target))
            goals[i]->proven = true;
}

void controller_deployment_fail(struct controller *controller,
                                struct controller_deployment *deployment)
{
    struct controller_goal *goal = &deployment->goal, *good = &deployment->good;
    ensure(goal->plan && !goal->proven && goal->target != good->target);
    deployment->failed = true;
    bool serves = controller_deployment_ready(deployment) > 0;
    controller_status_say(deployment, "The deployment failed to start %u time%s in a row%s: %s",
                          deployment->failures, deployment->failures == 1 ? "" : "s",
                          serves ? ", what ran before serves on" : "", deployment->last_failure);
    controller_status_signal(controller, deployment, CONTROLLER_SIGNAL_STARTUP_FAILED);
    if (good->plan)
        set_goal(controller, deployment, good->plan, good->target, good->proven);
    lower_floor(deployment);
    controller_deployment_touch(controller, deployment);
}

void controller_deployment_free(struct controller *controller,
                                struct controller_deployment *deployment)
{
    ensure(controller_replicas_count(&deployment->replicas) == 0);
    clear_goals(controller, deployment);
    list_remove(&deployment->app_link);
    list_remove(&deployment->dirty_link);
    controller_ranks_done(&deployment->ranks);
    map_remove_name(&deployment->app->names, deployment->name);
    controller_index_remove(&controller->deployments, deployment->id.v);
    controller->view_changed = true;
    controller_trash_add(controller, deployment);
}
