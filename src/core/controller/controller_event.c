/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_event: what the engine and the replicas say, and what passing time says about them.
 *
 * Facts only: a replica is moved to where it is, a failure is counted, and when a place became
 * empty by accident its next holder is put there at once, with the back-off that the accident
 * earns.  How many replicas there should be is controller_reconcile.c's.  Whatever is said twice,
 * late, or about a replica that is not known must do no harm: a process nobody knows becomes a
 * stray and is ended after a grace (C3).
 */
#include <stdio.h>
#include <string.h>

#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

static struct controller_replica *find(const struct controller *controller, struct replica_id id)
{
    return replica_id_none(id) ? NULL : controller_index_find(&controller->replicas, id.v);
}

static int64_t nanoseconds(int64_t ms)
{
    return ms * 1000000;
}

static struct bytes copy_of(struct bytes text)
{
    return text.size ? bytes_of(mem_copy_string((const char *)text.at, text.size), text.size)
                     : (struct bytes){0};
}

/* ---- accidents ---- */

/* Doubles with each attempt up to the limit; a quarter of it is chance, so that failures do not
 * march in step. */
static int64_t backoff_ns(struct controller *controller, uint32_t attempt)
{
    int64_t pause_ms = controller->config.settings.start_backoff_ms;
    int64_t limit_ms = controller->config.settings.start_backoff_limit_ms;
    if (attempt == 0)
        return 0;
    while (--attempt > 0 && pause_ms < limit_ms)
        pause_ms *= 2;
    int64_t pause_ns = nanoseconds(pause_ms < limit_ms ? pause_ms : limit_ms);
    return pause_ns - (int64_t)rng_below(&controller->rng, (uint64_t)pause_ns / 4 + 1);
}

static void say_retry(struct controller_deployment *deployment, uint32_t limit, long long pause_ms,
                      const char *what, const char *text)
{
    if (deployment->goal.proven)
        controller_status_say(deployment,
                              "A replica failed to %s, the next attempt follows in %lld ms: %s",
                              what, pause_ms, text);
    else
        controller_status_say(deployment, "A replica failed to %s (%u of at most %u times): %s",
                              what, deployment->failures, limit, text);
}

void controller_deployment_count_failure(struct controller *controller,
                                         struct controller_deployment *deployment, uint32_t attempt,
                                         const char *what, const char *text)
{
    uint32_t limit = controller_deployment_retry_limit(controller, deployment);
    deployment->failures++;
    controller_print(deployment->last_failure, sizeof(deployment->last_failure), "%s", text);
    struct bytes line = controller_last_line(text);
    if (!deployment->goal.proven && deployment->failures >= limit) {
        controller_deployment_fail(controller, deployment);
        return;
    }
    int64_t pause_ns = backoff_ns(controller, attempt + 1);
    long long pause_ms = pause_ns / 1000000;
    controller_replica_want(controller, deployment, attempt + 1, pause_ns);
    if (!deployment->failed) /* else its message says why it went back */
        say_retry(deployment, limit, pause_ms, what, text);
    controller_progress(controller, deployment->app,
                        "%.*s: a replica failed to %s, the next attempt follows in %lld ms: %.*s",
                        BYTES_PRINT(deployment->name), what, pause_ms, BYTES_PRINT(line));
}

/* What a failed start is blamed on; only starts of what is wanted now count. */
static struct controller_deployment *blamed(const struct controller_replica *replica)
{
    struct controller_deployment *deployment = replica->deployment;
    bool counts = deployment && deployment->goal.plan && !list_linked(&replica->found_link) &&
                  controller_replica_current(replica) && !controller_deployment_halted(deployment);
    return counts ? deployment : NULL;
}

/* `text` may be a slice of the event. */
static void start_failed(struct controller *controller, struct controller_replica *replica,
                         const char *text, enum controller_stop how)
{
    struct controller_deployment *deployment = blamed(replica);
    controller_replica_stop(controller, replica, how);
    if (deployment)
        controller_deployment_count_failure(controller, deployment, replica->attempt, "start",
                                            text);
}

/* A RUNNING replica is lost or must go: `replica` is out of the running ones already, or marked
 * unhealthy. */
static void running_lost(struct controller *controller, struct controller_deployment *deployment,
                         const struct controller_replica *replica, int64_t life_ns,
                         const char *text)
{
    uint32_t ready = controller_deployment_ready(deployment);
    if (deployment->ready_floor > ready)
        deployment->ready_floor = ready;
    if (!deployment->goal.plan || !controller_replica_fits(replica))
        return;
    bool short_life = life_ns < nanoseconds(controller->config.settings.start_backoff_limit_ms);
    uint32_t attempt = short_life ? replica->attempt + 1 : 0;
    controller_print(deployment->last_failure, sizeof(deployment->last_failure), "%s", text);
    if (!deployment->failed) { /* else it is of the version before, and what failed is told */
        controller_status_say(deployment, "Replica %llu %s", (unsigned long long)replica->id.v,
                              text);
        controller_status_signal(controller, deployment, CONTROLLER_SIGNAL_HEALTH_FAILED);
    }
    controller_progress(controller, deployment->app, "%.*s: replica %llu %.*s",
                        BYTES_PRINT(deployment->name), (unsigned long long)replica->id.v,
                        BYTES_PRINT(controller_last_line(text)));
    /* A version that has proven itself is replaced at once the first time. */
    uint32_t pauses = attempt > 0 && deployment->goal.proven ? attempt - 1 : attempt;
    controller_replica_want(controller, deployment, attempt, backoff_ns(controller, pauses));
}

void controller_replica_unhealthy(struct controller *controller, struct controller_replica *replica,
                                  const char *text)
{
    struct controller_deployment *deployment = replica->deployment;
    if (replica->state != REPLICA_STATE_RUNNING || !deployment || replica->unhealthy)
        return;
    replica->unhealthy = true;
    controller_deadline_clear(controller, replica); /* nothing worse can be said of it */
    controller_deployment_touch(controller, deployment);
    running_lost(controller, deployment, replica, controller->now_ns - replica->since_ns, text);
}

/* ---- replicas found ---- */

/* After a restart: how long to wait for somebody to want it, or for it to say what it is. */
static void set_grace(struct controller *controller, struct controller_replica *replica)
{
    int64_t grace_ns = nanoseconds(controller->config.settings.adopt_grace_ms);
    if (controller->loaded)
        controller_deadline_set(controller, replica, controller_after(controller, grace_ns));
}

/* It runs: constructed and checked. */
static void prove(struct controller *controller, struct controller_replica *replica)
{
    struct controller_deployment *deployment = replica->deployment;
    controller_replica_move(controller, replica, REPLICA_STATE_RUNNING);
    if (!deployment) {
        set_grace(controller, replica);
        return;
    }
    controller_deployment_prove(deployment, replica);
    if (deployment->goal.plan && controller_replica_fits(replica))
        controller_progress(controller, deployment->app, "%.*s: %u of %u replicas ready",
                            BYTES_PRINT(deployment->name),
                            controller_deployment_fitting(deployment, REPLICA_STATE_RUNNING),
                            deployment->goal.target->replicas);
}

static struct controller_deployment *find_deployment(const struct controller *controller,
                                                     struct bytes app_name, struct bytes name)
{
    const struct controller_app *app = controller_app_find(controller, app_name);
    return app ? map_get_name(&app->names, name) : NULL;
}

/* What it was last told may have been lost with its connection: it is told again if need be. */
static void hear_configuration(struct controller *controller, struct controller_replica *replica,
                               const struct controller_event *event)
{
    if (event->configuration)
        replica->configuration = event->configuration;
    if (event->rank && event->rank <= 2 * (uint64_t)controller->config.settings.replica_limit) {
        replica->told_rank = event->rank - 1;
        replica->told_world_size = event->world_size;
    }
    controller_telling_end(controller, replica);
    if (replica->deployment)
        controller_deployment_touch(controller, replica->deployment);
}

/* A process that runs and has no record here. */
static void find_new(struct controller *controller, const struct controller_event *event,
                     enum replica_state state)
{
    struct controller_deployment *deployment =
        find_deployment(controller, event->app, event->deployment);
    struct controller_replica *replica =
        controller_replica_new(controller, deployment, event->replica, state);
    replica->pid = event->pid;
    replica->version = event->version;
    replica->version_known = event->version != 0 || state == REPLICA_STATE_RUNNING;
    controller_replica_set_address(controller, replica, event->address);
    hear_configuration(controller, replica, event);
    if (state == REPLICA_STATE_STARTING)
        list_push_back(&controller->found, &replica->found_link);
    if (!deployment) {
        replica->app_name = copy_of(event->app);
        replica->deployment_name = copy_of(event->deployment);
    } else if (state == REPLICA_STATE_RUNNING) {
        controller_deployment_prove(deployment, replica);
    }
    if (controller->shutting_down && !deployment)
        controller_replica_stop(controller, replica, CONTROLLER_STOP_POLITELY);
    else if (state == REPLICA_STATE_DRAINING && deployment)
        controller_deadline_set(controller, replica,
                                controller_after(controller, deployment->drain_ns));
    else if (state != REPLICA_STATE_RUNNING || !deployment)
        set_grace(controller, replica);
}

/* What a known replica says of itself. */
static void hear(struct controller *controller, struct controller_replica *replica,
                 const struct controller_event *event)
{
    if (!replica->version_known && event->version) {
        replica->version = event->version;
        replica->version_known = true;
    }
    controller_replica_set_address(controller, replica, event->address);
    hear_configuration(controller, replica, event);
    controller_silence_end(controller, replica);
    int64_t left_ns = controller_replica_deadline_ns(replica) - controller->now_ns;
    switch (replica->state) {
    case REPLICA_STATE_STARTING:
        replica->version_known = true;
        if (!event->draining) {
            prove(controller, replica);
            break;
        }
        controller_replica_move(controller, replica, REPLICA_STATE_DRAINING);
        if (replica->deployment)
            controller_deadline_set(controller, replica,
                                    controller_after(controller, replica->deployment->drain_ns));
        else
            set_grace(controller, replica);
        break;
    case REPLICA_STATE_RUNNING: /* somebody else told it to end */
        if (event->draining)
            controller_replica_unhealthy(controller, replica, "drains without being told to");
        break;
    case REPLICA_STATE_DRAINING: /* the word was lost with a connection */
        if (!event->draining && replica->deployment)
            controller_replica_tell_drain(controller, replica, left_ns > 0 ? left_ns : 0);
        break;
    case REPLICA_STATE_STOPPING: /* it will be told again anyway */
    case REPLICA_STATE_WANTED:
    case REPLICA_STATE_GONE:
    case REPLICA_STATE_COUNT:
        break;
    }
}

/* ---- events ---- */

static bool room_for_another(struct controller *controller, struct replica_id id)
{
    if (controller->replicas.count < 2 * (uint64_t)controller->config.settings.replica_limit)
        return true;
    struct controller_effect *effect = controller_effect_add(controller->effects, CONTROLLER_STOP);
    effect->token = id.v;
    effect->replica = id;
    effect->kill = true;
    return false;
}

/*
 * C3: the engine told of everything that ran when this life began, and what was started since is
 * known.  So this is the last word of a replica whose end was told first (they come over different
 * connections), or a process that nobody can account for: the engine knows which, and ends it.
 */
static void end_unknown(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica =
        controller_replica_new(controller, NULL, event->replica, REPLICA_STATE_STARTING);
    replica->pid = event->pid;
    controller_replica_stop(controller, replica, CONTROLLER_STOP_POLITELY);
}

void controller_adopt(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica = find(controller, event->replica);
    bool says_itself = event->type == CONTROLLER_READY || event->address.size > 0;
    if (replica && replica->state == REPLICA_STATE_WANTED)
        return; /* it has no process that could have said this */
    if (replica) {
        if (event->pid)
            replica->pid = event->pid;
        if (says_itself)
            hear(controller, replica, event);
        return;
    }
    if (replica_id_none(event->replica) || !room_for_another(controller, event->replica))
        return;
    if (controller->loaded && says_itself) {
        end_unknown(controller, event);
        return;
    }
    enum replica_state state = says_itself ? REPLICA_STATE_RUNNING : REPLICA_STATE_STARTING;
    find_new(controller, event, event->draining ? REPLICA_STATE_DRAINING : state);
}

void controller_ready(struct controller *controller, const struct controller_event *event)
{
    controller_adopt(controller, event);
}

void controller_started(struct controller *controller, const struct controller_event *event)
{
    controller_adopt(controller, event);
}

void controller_failed(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica = find(controller, event->replica);
    char text[CONTROLLER_TEXT_SIZE];
    if (!replica || replica->state != REPLICA_STATE_STARTING)
        return;
    controller_copy_tail(text, sizeof(text), event->text);
    start_failed(controller, replica, text[0] ? text : error_text(event->code),
                 CONTROLLER_STOP_POLITELY);
}

/* "was ended by signal 11 (SIGSEGV): last words" */
static void print_end(char *ret_text, size_t size, const char *who,
                      const struct controller_event *event)
{
    char words[CONTROLLER_TEXT_SIZE - 64];
    controller_copy_tail(words, sizeof(words), event->text);
    const char *colon = words[0] ? ": " : "";
    const char *name = event->signal_number ? sigabbrev_np(event->signal_number) : NULL;
    if (event->signal_number)
        controller_print(ret_text, size, "%swas ended by signal %d (SIG%s)%s%s", who,
                         event->signal_number, name ? name : "?", colon, words);
    else if (event->exit_code >= 0)
        controller_print(ret_text, size, "%sended with exit code %d%s%s", who, event->exit_code,
                         colon, words);
    else
        controller_print(ret_text, size, "%sended, nobody knows how%s%s", who, colon, words);
}

void controller_gone(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica = find(controller, event->replica);
    char text[CONTROLLER_TEXT_SIZE];
    if (!replica || replica->state == REPLICA_STATE_WANTED)
        return;
    enum replica_state from = replica->state;
    struct controller_deployment *deployment = replica->deployment;
    struct controller_deployment *to_blame = blamed(replica);
    int64_t life_ns = controller->now_ns - replica->since_ns;
    bool counted = replica->unhealthy;
    print_end(text, sizeof(text), from == REPLICA_STATE_STARTING ? "its process " : "", event);
    controller_replica_move(controller, replica, REPLICA_STATE_GONE);
    if (from == REPLICA_STATE_STARTING && to_blame)
        controller_deployment_count_failure(controller, to_blame, replica->attempt, "start", text);
    else if (from == REPLICA_STATE_RUNNING && deployment && !counted)
        running_lost(controller, deployment, replica, life_ns, text);
}

void controller_health(struct controller *controller, const struct controller_event *event)
{
    struct controller_replica *replica = find(controller, event->replica);
    char words[CONTROLLER_TEXT_SIZE - 64], text[CONTROLLER_TEXT_SIZE];
    if (!replica || event->healthy)
        return;
    controller_copy_tail(words, sizeof(words), event->text);
    controller_print(text, sizeof(text), "is unhealthy%s%s", words[0] ? ": " : "", words);
    controller_replica_unhealthy(controller, replica, text);
}

void controller_loaded(struct controller *controller, const struct controller_event *event)
{
    struct list_link *link;
    controller->loaded = true;
    if (event->version > controller->version)
        controller->version = event->version;
    for (int state = 0; state < REPLICA_STATE_STOPPING; state++)
        list_each (link, &controller->strays.in[state])
            set_grace(controller, list_entry(link, struct controller_replica, state_link));
    list_each (link, &controller->found)
        set_grace(controller, list_entry(link, struct controller_replica, found_link));
    for (uint32_t i = 0; i < controller->deployments.count; i++)
        controller_deployment_touch(controller, controller->deployments.at[i].object);
}

void controller_claim_strays(struct controller *controller,
                             struct controller_deployment *deployment)
{
    struct list_link *link, *after;
    for (int state = 0; state < REPLICA_STATE_STOPPING; state++) {
        list_each_safe (link, after, &controller->strays.in[state]) {
            struct controller_replica *replica =
                list_entry(link, struct controller_replica, state_link);
            if (!bytes_equal(replica->deployment_name, deployment->name) ||
                !bytes_equal(replica->app_name, deployment->app->name))
                continue;
            controller_replica_own(controller, replica, deployment);
            if (state == REPLICA_STATE_RUNNING)
                controller_deployment_prove(deployment, replica);
            else if (state == REPLICA_STATE_DRAINING)
                controller_deadline_set(controller, replica,
                                        controller_after(controller, deployment->drain_ns));
        }
    }
}

/* ---- deadlines ---- */

/* It is still constructing: a warning, again each time that start_slow_ms pass. */
static void warn_slow(struct controller *controller, struct controller_replica *replica)
{
    struct controller_deployment *deployment = replica->deployment;
    int64_t next_ns =
        controller_after(controller, nanoseconds(controller->config.settings.start_slow_ms));
    if (replica->limit_ns && replica->limit_ns < next_ns)
        next_ns = replica->limit_ns;
    controller_deadline_set(controller, replica, next_ns);
    long long seconds = (controller->now_ns - replica->since_ns) / 1000000000;
    if (!deployment || deployment->failed || !deployment->goal.plan ||
        !controller_replica_fits(replica))
        return;
    controller_say_slow(controller, deployment);
    controller_progress(controller, deployment->app,
                        "%.*s: replica %llu has been starting for %lld s",
                        BYTES_PRINT(deployment->name), (unsigned long long)replica->id.v, seconds);
}

static bool is_slow(const struct controller *controller, int64_t since_ns)
{
    return controller->now_ns - since_ns >= nanoseconds(controller->config.settings.start_slow_ms);
}

/* Ray Serve's words, and its rule: what failed is told rather than what is slow. */
void controller_say_slow(struct controller *controller, struct controller_deployment *deployment)
{
    struct list_link *link;
    uint32_t count = 0;
    if (deployment->status == DEPLOYMENT_STATUS_UNHEALTHY ||
        deployment->status == DEPLOYMENT_STATUS_DEPLOY_FAILED)
        return;
    list_each (link, &deployment->replicas.in[REPLICA_STATE_STARTING])
        count +=
            is_slow(controller, list_entry(link, struct controller_replica, state_link)->since_ns);
    list_each (link, &deployment->replicas.in[REPLICA_STATE_RUNNING]) {
        const struct controller_replica *replica =
            list_entry(link, struct controller_replica, state_link);
        count += replica->telling && is_slow(controller, replica->told_ns);
    }
    controller_status_say(
        deployment,
        "Deployment '%.*s' in application '%.*s' has %u replicas that have taken more than %llds "
        "to initialize.\nThis may be caused by a slow __init__ or reconfigure method.",
        BYTES_PRINT(deployment->name), BYTES_PRINT(deployment->app->name), count,
        (long long)controller->config.settings.start_slow_ms / 1000);
}

static void start_timed_out(struct controller *controller, struct controller_replica *replica)
{
    char text[CONTROLLER_TEXT_SIZE];
    const struct controller_deployment *deployment = replica->deployment;
    bool own = deployment && deployment->goal.target &&
               deployment->goal.target->rollout.start_timeout_ns > 0;
    controller_print(text, sizeof(text), "it was not ready after %lld ms (%s)",
                     (long long)(controller->now_ns - replica->since_ns) / 1000000,
                     own ? "start_timeout_s" : "start_timeout_ms");
    start_failed(controller, replica, text, CONTROLLER_STOP_BY_FORCE);
}

void controller_replica_due(struct controller *controller, struct controller_replica *replica,
                            bool late)
{
    bool starting = replica->state == REPLICA_STATE_STARTING && !list_linked(&replica->found_link);
    bool limit_passed = starting && replica->limit_ns && controller->now_ns >= replica->limit_ns;
    if (replica->state == REPLICA_STATE_WANTED) {
        controller_deployment_touch(controller, replica->deployment);
    } else if (replica->owes_ns) {
        controller_silence_due(controller, replica, late);
    } else if (replica->telling) {
        controller_telling_due(controller, replica, late);
    } else if (starting && !limit_passed) {
        warn_slow(controller, replica);
    } else if (late) { /* we slept, not the replica: judge it by a new turn */
        int64_t pause_ns = nanoseconds(controller->config.settings.late_turn_ms);
        replica->limit_ns =
            limit_passed ? controller_after(controller, pause_ns) : replica->limit_ns;
        controller_deadline_set(controller, replica, controller_after(controller, pause_ns));
    } else if (starting) {
        start_timed_out(controller, replica);
    } else {
        bool by_force = replica->state == REPLICA_STATE_STOPPING;
        controller_replica_stop(controller, replica,
                                by_force ? CONTROLLER_STOP_BY_FORCE : CONTROLLER_STOP_POLITELY);
    }
}
