/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_silence: replicas that run and do not answer.
 *
 *                  OWES                  silence_limit_ms, and somebody else answers
 *     answers ------------> owes ------------------------------------------------> silent
 *        ^                   |                                                        |
 *        |      ANSWERS      |                        ANSWERS                         |
 *        +-------------------+--------------------------------------------------------+
 *
 *     owes or silent --- as long as three failed health checks take ---> unhealthy, replaced
 *
 * A stopped or starved process is not a dead one: what it has accepted it may still answer.  So a
 * silent replica leaves the snapshot, and nothing else happens to it: it keeps its place, its
 * requests wait, and it is back in the snapshot in the step in which it answers.  Only the limits
 * of its health checks end it, as Ray Serve's controller would, whose checks it does not answer:
 * three of them, each begun when the one before has run out of time and its period has passed.
 *
 * Silence is judged by a witness: while no replica of the instance answers, it may be the observer
 * that is deaf, and nobody is called silent.  Neither is anybody in a late turn.  The last rule
 * needs no witness: a deaf observer is no reason to leave a dead replica for ever.
 */
#include "controller_state.h"
#include "ensure.h"

static int64_t nanoseconds(int64_t ms)
{
    return ms * 1000000;
}

static bool serves(const struct controller_replica *replica)
{
    return replica->deployment && replica->state == REPLICA_STATE_RUNNING;
}

void controller_silence_enter(struct controller *controller, struct controller_replica *replica)
{
    ensure(serves(replica) && !replica->owes_ns && !replica->silent);
    replica->heard_ns = controller->now_ns;
    controller->answering++;
    controller_index_insert(&controller->routable, replica->id.v, replica);
    controller->view_changed = true;
}

void controller_silence_leave(struct controller *controller, struct controller_replica *replica)
{
    ensure(serves(replica) && (replica->owes_ns || controller->answering > 0));
    controller->answering -= !replica->owes_ns;
    if (!replica->silent) {
        controller_index_remove(&controller->routable, replica->id.v);
        controller->view_changed = true;
    }
    replica->owes_ns = 0;
    replica->silent = false;
}

/* ---- what it says, or does not say ---- */

void controller_owes(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica =
        controller_index_find(&controller->replicas, event->replica.v);
    if (!replica || !serves(replica) || replica->owes_ns)
        return;
    /* Not from before it was heard last, nor from while we slept. */
    int64_t since_ns = event->late ? controller->now_ns : event->since_ns;
    since_ns = since_ns > replica->heard_ns ? since_ns : replica->heard_ns;
    replica->owes_ns = since_ns > 0 ? since_ns : 1;
    controller->answering--;
    if (!replica->unhealthy)
        controller_deadline_set(controller, replica,
                                replica->owes_ns +
                                    nanoseconds(controller->config.settings.silence_limit_ms));
}

void controller_answers(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica =
        controller_index_find(&controller->replicas, event->replica.v);
    if (replica)
        controller_silence_end(controller, replica);
}

void controller_silence_end(struct controller *controller, struct controller_replica *replica)
{
    if (!serves(replica))
        return;
    replica->heard_ns = controller->now_ns;
    if (!replica->owes_ns)
        return;
    replica->owes_ns = 0;
    controller->answering++;
    controller_deadline_clear(controller, replica);
    controller_telling_watch(controller, replica);
    controller_deployment_touch(controller, replica->deployment);
    if (!replica->silent)
        return;
    replica->silent = false;
    controller_index_insert(&controller->routable, replica->id.v, replica);
    controller->view_changed = true;
    trace_print(controller->config.trace, "r%llu answers again", (unsigned long long)replica->id.v);
}

/* ---- verdicts ---- */

/* How long three health checks take that nobody answers. */
static int64_t health_span_ns(const struct controller_replica *replica)
{
    const struct controller_goal *goal = &replica->deployment->goal;
    const struct controller_deployment_target *target = goal->target;
    if (!target) /* it is being deleted and will be drained */
        return INT64_MAX / 4;
    int64_t timeout_ns = target->health_check_timeout_ns;
    int64_t round_ns = target->health_check_period_ns;
    round_ns = round_ns > timeout_ns ? round_ns : timeout_ns;
    if (round_ns < 0 || timeout_ns < 0 || round_ns > INT64_MAX / 16)
        return INT64_MAX / 4;
    return (CONTROLLER_HEALTH_FAILURES - 1) * round_ns + timeout_ns;
}

static void fall_silent(struct controller *controller, struct controller_replica *replica)
{
    struct controller_deployment *deployment = replica->deployment;
    replica->silent = true;
    controller_index_remove(&controller->routable, replica->id.v);
    controller->view_changed = true;
    uint32_t ready = controller_deployment_ready(deployment);
    if (deployment->ready_floor > ready)
        deployment->ready_floor = ready;
    trace_print(controller->config.trace, "r%llu is silent", (unsigned long long)replica->id.v);
    controller_progress(controller, deployment->app, "%.*s: replica %llu does not answer",
                        BYTES_PRINT(deployment->name), (unsigned long long)replica->id.v);
    controller_deployment_touch(controller, deployment);
}

static void fail_checks(struct controller *controller, struct controller_replica *replica)
{
    char text[CONTROLLER_TEXT_SIZE];
    controller_print(text, sizeof(text),
                     "is unhealthy: it has been silent for %lld s, as long as %d failed health "
                     "checks take",
                     (long long)(controller->now_ns - replica->owes_ns) / 1000000000,
                     CONTROLLER_HEALTH_FAILURES);
    controller_replica_unhealthy(controller, replica, text);
}

void controller_silence_due(struct controller *controller, struct controller_replica *replica,
                            bool late)
{
    const struct settings *settings = &controller->config.settings;
    int64_t pause_ns = nanoseconds(settings->late_turn_ms);
    int64_t next_ns = controller_after(controller, pause_ns);
    ensure(serves(replica) && replica->owes_ns && !replica->unhealthy);
    int64_t first_ns = replica->owes_ns + nanoseconds(settings->silence_limit_ms);
    int64_t end_ns = replica->owes_ns + health_span_ns(replica);
    if (late) { /* we slept: what it said meanwhile is about to be read */
        controller_deadline_set(controller, replica, next_ns);
        return;
    }
    if (controller->now_ns >= end_ns) {
        fail_checks(controller, replica);
        return;
    }
    if (!replica->silent && controller->answering > 0)
        fall_silent(controller, replica);
    else if (!replica->silent && controller->now_ns < first_ns + pause_ns) /* said once */
        trace_print(controller->config.trace, "r%llu owes an answer, but nobody answers: is it us?",
                    (unsigned long long)replica->id.v);
    controller_deadline_set(controller, replica,
                            replica->silent || end_ns < next_ns ? end_ns : next_ns);
}
