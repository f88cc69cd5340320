/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_replica: the life of one replica, the only state machine of this mind.
 *
 *   (new) ----> WANTED ------ not wanted ----------------------------> GONE
 *                 |
 *                 | its time came: START
 *                 v
 *   (found) --> STARTING ---- failed, not wanted any more: STOP -----> STOPPING ---> GONE
 *                 |     +---- found draining ------------------------> DRAINING
 *                 | ready
 *                 v
 *   (found) --> RUNNING ----- a stray that nobody wants: STOP -------> STOPPING
 *                 |
 *                 | surplus, unhealthy, deleted: DRAIN
 *                 v
 *   (found) --> DRAINING ---- its time is over: STOP ----------------> STOPPING
 *
 *   every one but WANTED ---- its process is gone -------------------> GONE
 *
 *    WANTED    Decided; no process.  Its deadline: when it may start (back-off).
 *    STARTING  The engine was asked; or found after a restart, and has not said what it is.
 *              Its deadline: the next warning, its time limit, or the end of what was found.
 *    RUNNING   Proved itself; in the snapshot when it has a deployment and answers.  No deadline,
 *              unless it is a stray or owes an answer (controller_silence.c).
 *    DRAINING  Out of the snapshot; finishes what it accepted.  Its deadline: the end of that.
 *    STOPPING  Its process was told to end.  Its deadline: the next, more forceful, time that it
 *              is told.
 *    GONE      Nothing is left but the record, and that until the next step.
 *
 * Every move goes through controller_replica_move, which checks the table, hangs the replica on the
 * list of its new state, keeps the rows of the snapshot, and narrates.  Why a replica moves is
 * decided elsewhere.
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

#define TO(state) (1u << REPLICA_STATE_##state)

/* The one table of the machine: who may be created in it, and what follows it. */
static const struct replica_life {
    uint32_t successors; /* bits of enum replica_state */
    bool born;           /* a record may begin here: decided (WANTED), or found */
} lives[REPLICA_STATE_COUNT] = {
    [REPLICA_STATE_WANTED] = {.born = true, .successors = TO(STARTING) | TO(GONE)},
    [REPLICA_STATE_STARTING] = {.born = true,
                                .successors = TO(RUNNING) | TO(DRAINING) | TO(STOPPING) | TO(GONE)},
    [REPLICA_STATE_RUNNING] = {.born = true, .successors = TO(DRAINING) | TO(STOPPING) | TO(GONE)},
    [REPLICA_STATE_DRAINING] = {.born = true, .successors = TO(STOPPING) | TO(GONE)},
    [REPLICA_STATE_STOPPING] = {.born = false, .successors = TO(GONE)},
    [REPLICA_STATE_GONE] = {.born = false, .successors = 0},
};

/* The public word and whether routers may know it come from the house's table. */
static const struct replica_word {
    const char *name, *word;
    bool routable;
} words[REPLICA_STATE_COUNT] = {
#define REPLICA_STATE(state, public_word, in_snapshot)                                             \
    [REPLICA_STATE_##state] = {.name = #state, .word = public_word, .routable = in_snapshot},
#include "states.def"
#undef REPLICA_STATE
};

const char *replica_state_word(enum replica_state state)
{
    ensure(state < REPLICA_STATE_COUNT);
    return words[state].word;
}

const char *replica_state_name(enum replica_state state)
{
    ensure(state < REPLICA_STATE_COUNT);
    return words[state].name;
}

bool replica_state_follows(enum replica_state from, enum replica_state to)
{
    ensure(from < REPLICA_STATE_COUNT && to < REPLICA_STATE_COUNT);
    return lives[from].successors >> to & 1;
}

bool replica_state_born(enum replica_state state)
{
    ensure(state < REPLICA_STATE_COUNT);
    return lives[state].born;
}

bool replica_state_routable(enum replica_state state)
{
    ensure(state < REPLICA_STATE_COUNT);
    return words[state].routable;
}

void controller_replicas_init(struct controller_replicas *replicas)
{
    for (int state = 0; state < REPLICA_STATE_COUNT; state++)
        list_init(&replicas->in[state]);
}

uint32_t controller_replicas_count(const struct controller_replicas *replicas)
{
    size_t count = 0;
    for (int state = 0; state < REPLICA_STATE_COUNT; state++)
        count += replicas->in[state].length;
    return (uint32_t)count;
}

static struct list *list_of(struct controller *controller, struct controller_replica *replica,
                            enum replica_state state)
{
    struct controller_replicas *owner =
        replica->deployment ? &replica->deployment->replicas : &controller->strays;
    return &owner->in[state];
}

/* Onto the list of its state, into the snapshot if it belongs there. */
static void enter(struct controller *controller, struct controller_replica *replica)
{
    list_push_back(list_of(controller, replica, replica->state), &replica->state_link);
    if (!replica->deployment)
        return;
    if (replica_state_routable(replica->state))
        controller_silence_enter(controller, replica);
    controller_deployment_touch(controller, replica->deployment);
}

static void leave(struct controller *controller, struct controller_replica *replica)
{
    list_remove(&replica->state_link);
    controller_deadline_clear(controller, replica);
    if (!replica->deployment)
        return;
    controller_telling_end(controller, replica);
    if (replica_state_routable(replica->state))
        controller_silence_leave(controller, replica);
    controller_deployment_touch(controller, replica->deployment);
}

/* "r3 app/model", or "r3" alone for a stray. */
static void narrate(struct controller *controller, const struct controller_replica *replica,
                    const char *from)
{
    const struct controller_deployment *deployment = replica->deployment;
    struct bytes app = deployment ? deployment->app->name : replica->app_name;
    struct bytes name = deployment ? deployment->name : replica->deployment_name;
    trace_print(controller->config.trace, "r%llu %.*s/%.*s: %s -> %s",
                (unsigned long long)replica->id.v, BYTES_PRINT(app), BYTES_PRINT(name), from,
                words[replica->state].name);
}

struct controller_replica *controller_replica_new(struct controller *controller,
                                                  struct controller_deployment *deployment,
                                                  struct replica_id id, enum replica_state state)
{
    ensure(replica_state_born(state));
    struct controller_replica *replica = mem_new(sizeof(*replica));
    replica->id = id;
    replica->deployment = deployment;
    replica->state = state;
    replica->since_ns = controller->now_ns;
    replica->rank = replica->told_rank = CONTROLLER_NO_RANK;
    if (controller->replica_last < id.v)
        controller->replica_last = id.v;
    controller_index_insert(&controller->replicas, id.v, replica);
    controller_deadline_reserve(controller);
    enter(controller, replica);
    narrate(controller, replica, deployment ? "new" : "stray");
    return replica;
}

void controller_replica_free(struct controller *controller, struct controller_replica *replica)
{
    mem_free((void *)replica->address.at);
    mem_free((void *)replica->app_name.at);
    mem_free((void *)replica->deployment_name.at);
    controller_trash_add(controller, replica);
}

void controller_replica_move(struct controller *controller, struct controller_replica *replica,
                             enum replica_state state)
{
    enum replica_state from = replica->state;
    ensure(replica_state_follows(from, state));
    leave(controller, replica);
    list_remove(&replica->found_link);
    replica->state = state;
    replica->since_ns = controller->now_ns;
    replica->limit_ns = 0;
    narrate(controller, replica, words[from].name);
    if (state != REPLICA_STATE_GONE) {
        enter(controller, replica);
        return;
    }
    controller_rank_release(replica);
    controller_index_remove(&controller->replicas, replica->id.v);
    controller_replica_free(controller, replica);
}

void controller_replica_own(struct controller *controller, struct controller_replica *replica,
                            struct controller_deployment *deployment)
{
    ensure(!replica->deployment && replica->state != REPLICA_STATE_STOPPING);
    int64_t deadline_ns = controller_replica_deadline_ns(replica);
    leave(controller, replica);
    replica->deployment = deployment;
    enter(controller, replica);
    if (deadline_ns &&
        replica->state != REPLICA_STATE_RUNNING) /* a stray's grace is over when it has an owner */
        controller_deadline_set(controller, replica, deadline_ns);
    narrate(controller, replica, "stray");
}

void controller_replica_set_address(struct controller *controller,
                                    struct controller_replica *replica, struct bytes address)
{
    if (address.size == 0 || bytes_equal(replica->address, address))
        return;
    mem_free((void *)replica->address.at);
    replica->address =
        bytes_of(mem_copy_string((const char *)address.at, address.size), address.size);
    if (replica->deployment && replica_state_routable(replica->state))
        controller->view_changed = true;
}

/* ---- what moves it, with the effect that belongs to the move ---- */

static int64_t nanoseconds(int64_t ms)
{
    return ms * 1000000;
}

void controller_replica_want(struct controller *controller,
                             struct controller_deployment *deployment, uint32_t attempt,
                             int64_t pause_ns)
{
    struct replica_id id = {controller->replica_last + 1};
    struct controller_replica *replica =
        controller_replica_new(controller, deployment, id, REPLICA_STATE_WANTED);
    replica->version = deployment->goal.target->version;
    replica->version_known = true;
    replica->attempt = attempt;
    if (pause_ns > 0)
        controller_deadline_set(controller, replica, controller_after(controller, pause_ns));
}

int64_t controller_start_timeout_ns(const struct controller *controller,
                                    const struct controller_deployment *deployment)
{
    int64_t own_ns =
        deployment->goal.target ? deployment->goal.target->rollout.start_timeout_ns : 0;
    return own_ns ? own_ns : nanoseconds(controller->config.settings.start_timeout_ms);
}

void controller_replica_start(struct controller *controller, struct controller_replica *replica)
{
    const struct settings *settings = &controller->config.settings;
    struct controller_deployment *deployment = replica->deployment;
    ensure_tag(C1, deployment && deployment->goal.plan && deployment->goal.plan->stored);
    controller_replica_move(controller, replica, REPLICA_STATE_STARTING);
    int64_t warn_ns = controller_after(controller, nanoseconds(settings->start_slow_ms));
    int64_t limit_ns = controller_start_timeout_ns(controller, deployment);
    if (limit_ns > 0)
        replica->limit_ns = controller_after(controller, limit_ns);
    bool limit_first = replica->limit_ns && replica->limit_ns < warn_ns;
    controller_deadline_set(controller, replica, limit_first ? replica->limit_ns : warn_ns);
    const struct controller_deployment_target *target = deployment->goal.target;
    struct controller_effect *effect =
        controller_effect_replica(controller, CONTROLLER_START, replica);
    controller_rank_give(replica);
    replica->configuration = target->configuration;
    replica->told_rank = replica->rank;
    replica->told_world_size = target->replicas;
    effect->body = target->body;
    effect->version = replica->version;
    effect->configuration = target->configuration;
    effect->max_ongoing = target->max_ongoing;
    effect->rank = replica->rank;
    effect->world_size = target->replicas;
}

void controller_replica_tell_drain(struct controller *controller,
                                   struct controller_replica *replica, int64_t timeout_ns)
{
    struct controller_effect *effect =
        controller_effect_replica(controller, CONTROLLER_DRAIN, replica);
    effect->timeout_ns = timeout_ns;
}

void controller_replica_drain(struct controller *controller, struct controller_replica *replica)
{
    ensure(!controller->recovering); /* its readers could not be told (R3) */
    int64_t timeout_ns = replica->deployment ? replica->deployment->drain_ns : 0;
    if (controller->drain_cap_ns && timeout_ns > controller->drain_cap_ns)
        timeout_ns = controller->drain_cap_ns;
    controller_replica_move(controller, replica, REPLICA_STATE_DRAINING);
    controller_deadline_set(controller, replica, controller_after(controller, timeout_ns));
    controller_replica_tell_drain(controller, replica, timeout_ns);
}

/* The pause until it is told again doubles, so that what cannot die is no flood. */
void controller_replica_stop(struct controller *controller, struct controller_replica *replica,
                             enum controller_stop how)
{
    enum { DOUBLINGS = 5 };
    if (replica->state != REPLICA_STATE_STOPPING)
        controller_replica_move(controller, replica, REPLICA_STATE_STOPPING);
    struct controller_effect *effect =
        controller_effect_replica(controller, CONTROLLER_STOP, replica);
    effect->kill = how == CONTROLLER_STOP_BY_FORCE;
    int64_t pause_ns = nanoseconds(controller->config.settings.stop_grace_ms)
                       << (replica->stops < DOUBLINGS ? replica->stops : DOUBLINGS);
    replica->stops++;
    controller_deadline_set(controller, replica, controller_after(controller, pause_ns));
}
