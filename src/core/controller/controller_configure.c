/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_configure: what is told to replicas that run.
 *
 *     RUNNING, with what is wanted <---------- CONFIGURED, code 0 ----------+
 *        |                                                                  |
 *        |  the target's configuration, its rank or the world size changed  |
 *        v                                                                  |
 *     RUNNING, with something else ------------- CONFIGURE ------------> is told
 *        ^                                                                  |
 *        +---- READY again: what it was told was lost with its connection --+
 *                                                                           |
 *     unhealthy: drained, replaced <----- CONFIGURED with an error ---------+
 *
 * It stays in the snapshot meanwhile: user code takes a new configuration while requests run (Ray
 * Serve takes it out, and a deployment of one replica stands still).  As in a rollout of Ray
 * Serve's, no more are at it at a time than the rolling update's share of the target, places that
 * are empty counted; a configuration that user code refuses therefore costs the share and not the
 * deployment.  A refusal counts as a failed start: the replacement proves the configuration or
 * fails in turn, and after too many the deployment goes back to what it ran with before.  A rank or
 * a world size alone is told to all at once, and nobody's status waits for that.
 */
#include "controller_state.h"
#include "ensure.h"

static struct controller_replica *replica_of(struct list_link *link)
{
    return list_entry(link, struct controller_replica, state_link);
}

bool controller_replica_current(const struct controller_replica *replica)
{
    return controller_replica_fits(replica) &&
           replica->configuration == replica->deployment->goal.target->configuration;
}

void controller_telling_end(struct controller *controller, struct controller_replica *replica)
{
    if (!replica->telling)
        return;
    ensure(replica->deployment->updating > 0);
    replica->telling = 0;
    replica->deployment->updating--;
    if (!replica->owes_ns)
        controller_deadline_clear(controller, replica);
}

/* The next warning, or the end of its patience (start_timeout_s, which holds for this too). */
void controller_telling_watch(struct controller *controller, struct controller_replica *replica)
{
    if (!replica->telling || replica->owes_ns || replica->unhealthy)
        return;
    int64_t slow_ns = controller->config.settings.start_slow_ms * 1000000;
    int64_t limit_ns = controller_start_timeout_ns(controller, replica->deployment);
    int64_t spent_ns = controller->now_ns - replica->told_ns;
    int64_t next_ns = slow_ns - spent_ns % slow_ns;
    if (limit_ns > 0 && limit_ns - spent_ns < next_ns)
        next_ns = limit_ns > spent_ns ? limit_ns - spent_ns : 0;
    controller_deadline_set(controller, replica, controller_after(controller, next_ns));
}

/* ---- telling ---- */

static void tell(struct controller *controller, struct controller_replica *replica)
{
    struct controller_deployment *deployment = replica->deployment;
    const struct controller_deployment_target *target = deployment->goal.target;
    replica->telling = ++controller->telling_last;
    replica->told_ns = controller->now_ns;
    replica->told = target->configuration;
    replica->told_rank = replica->rank;
    replica->told_world_size = target->replicas;
    deployment->updating++;
    controller_telling_watch(controller, replica);
    struct controller_effect *effect =
        controller_effect_replica(controller, CONTROLLER_CONFIGURE, replica);
    effect->token = replica->telling;
    effect->configuration = target->configuration;
    effect->max_ongoing = target->max_ongoing;
    effect->rank = replica->rank;
    effect->world_size = target->replicas;
    effect->body = target->body;
}

/* How many may still begin: the share, less those that are at it and places that are empty. */
static uint32_t count_room(const struct controller_deployment *deployment)
{
    uint32_t share = controller_deployment_share(deployment);
    uint32_t busy = controller_deployment_fitting(deployment, REPLICA_STATE_WANTED) +
                    controller_deployment_fitting(deployment, REPLICA_STATE_STARTING);
    struct list_link *link;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        const struct controller_replica *replica = replica_of(link);
        busy += replica->telling && replica->told != replica->configuration;
    }
    return share > busy ? share - busy : 0;
}

void controller_configure(struct controller *controller, struct controller_deployment *deployment)
{
    const struct controller_deployment_target *target = deployment->goal.target;
    uint32_t room = count_room(deployment);
    struct list_link *link;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        struct controller_replica *replica = replica_of(link);
        bool current = replica->configuration == target->configuration;
        if (replica->telling || replica->unhealthy || !controller_replica_fits(replica) ||
            replica->rank == CONTROLLER_NO_RANK)
            continue;
        if (current && replica->told_rank == replica->rank &&
            replica->told_world_size == target->replicas)
            continue;
        if (!current && room == 0)
            continue;
        room -= !current;
        tell(controller, replica);
    }
}

/* ---- the answer ---- */

/* Nobody knows what state user code is in: it is replaced. */
static void refuse(struct controller *controller, struct controller_replica *replica,
                   const struct controller_event *event)
{
    struct controller_deployment *deployment = replica->deployment;
    const struct controller_goal *goal = &deployment->goal;
    char words[CONTROLLER_TEXT_SIZE];
    bool counts = goal->plan && controller_replica_fits(replica) &&
                  replica->told == goal->target->configuration &&
                  !controller_deployment_halted(deployment);
    controller_copy_tail(words, sizeof(words), event->text);
    replica->unhealthy = true;
    controller_deadline_clear(controller, replica);
    uint32_t ready = controller_deployment_ready(deployment);
    if (deployment->ready_floor > ready)
        deployment->ready_floor = ready;
    if (counts)
        controller_deployment_count_failure(controller, deployment, replica->attempt, "reconfigure",
                                            words[0] ? words : error_text(event->code));
}

void controller_telling_due(struct controller *controller, struct controller_replica *replica,
                            bool late)
{
    struct controller_deployment *deployment = replica->deployment;
    int64_t limit_ns = controller_start_timeout_ns(controller, deployment);
    int64_t spent_ns = controller->now_ns - replica->told_ns;
    if (limit_ns == 0 || spent_ns < limit_ns) {
        controller_say_slow(controller, deployment);
        controller_progress(controller, deployment->app,
                            "%.*s: replica %llu has been reconfigured for %lld s",
                            BYTES_PRINT(deployment->name), (unsigned long long)replica->id.v,
                            (long long)spent_ns / 1000000000);
        controller_telling_watch(controller, replica);
        return;
    }
    if (late) { /* we slept: its answer may be about to be read */
        controller_deadline_set(
            controller, replica,
            controller_after(controller, controller->config.settings.late_turn_ms * 1000000));
        return;
    }
    char text[CONTROLLER_TEXT_SIZE];
    controller_print(text, sizeof(text), "it was not reconfigured after %lld ms (start_timeout_s)",
                     (long long)spent_ns / 1000000);
    struct controller_event event = {.code = ERROR_TIMEOUT, .text = bytes_of_string(text)};
    controller_telling_end(controller, replica);
    controller_deployment_touch(controller, deployment);
    refuse(controller, replica, &event);
}

void controller_configured(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica =
        replica_id_none(event->replica)
            ? NULL
            : controller_index_find(&controller->replicas, event->replica.v);
    if (!replica || !replica->telling || replica->telling != event->token)
        return;
    controller_telling_end(controller, replica);
    controller_deployment_touch(controller, replica->deployment);
    if (replica->unhealthy)
        return;
    if (event->code) {
        refuse(controller, replica, event);
        return;
    }
    replica->configuration = replica->told;
    controller_deployment_prove(replica->deployment, replica);
}
