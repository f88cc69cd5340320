/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_world: the simulated role, store and engine (controller_world.h).
 *
 * The durations are short and drawn from the seed; the order of what falls due at the same time is
 * the order of slots.
 */
#include "controller_world.h"

#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "error.h"
#include "mem.h"

enum { SECOND_MS = 1000, WORLD_HEALTH_S = 12 /* three health checks that nobody answers */ };
static const int64_t ms_ns = 1000000, SECOND_NS = 1000000000;

static int64_t some_ms(struct world *world, uint64_t least, uint64_t most)
{
    return world->now_ns + (int64_t)(least + rng_below(&world->rng, most - least + 1)) * ms_ns;
}

/* ---- the mind's voice ---- */

static void remember(struct world *world, const void *at, size_t size)
{
    world->fingerprint =
        (world->fingerprint ^ bytes_hash(bytes_of(at, size))) * UINT64_C(0x9E3779B97F4A7C15);
}

static void hear(void *owner, const char *line)
{
    remember(owner, line, strlen(line));
}

/* ---- names ---- */

static uint32_t number_of(struct bytes name, char letter)
{
    uint64_t number = 0;
    ensure(name.size > 1 && name.at[0] == letter && bytes_to_u64(bytes_skip(name, 1), &number));
    return (uint32_t)number;
}

struct names {
    char app[16], route[16], rows[WORLD_ROW_LIMIT][16];
    struct controller_deployment_target deployments[WORLD_ROW_LIMIT];
    struct controller_app_target target;
};

static void spell(struct names *names, const struct world_target *target)
{
    memset(names, 0, sizeof(*names));
    snprintf(names->app, sizeof(names->app), "a%u", target->app);
    if (target->route)
        snprintf(names->route, sizeof(names->route), "/r%u", target->route);
    for (uint32_t i = 0; i < target->row_count; i++) {
        const struct world_row *row = target->rows + i;
        snprintf(names->rows[i], sizeof(names->rows[i]), "d%u", row->name);
        names->deployments[i] = (struct controller_deployment_target){
            .name = bytes_of_string(names->rows[i]),
            .id = {row->id},
            .version = row->version,
            .configuration = row->max_ongoing,
            .replicas = row->replicas,
            .max_ongoing = row->max_ongoing,
            .max_queued = -1,
            .rollout = {.max_surge_percent = row->surge, .share_millionths = 200000},
            .graceful_shutdown_timeout_ns = 2 * SECOND_NS,
            .health_check_period_ns = 2 * SECOND_NS,
            .health_check_timeout_ns = WORLD_HEALTH_S / 3 * SECOND_NS,
            .body = bytes_of_string(names->rows[i]),
        };
    }
    names->target = (struct controller_app_target){
        .id = {target->id},
        .name = bytes_of_string(names->app),
        .route_prefix = bytes_of_string(names->route),
        .ingress = names->deployments[0].name,
        .deployments = names->deployments,
        .deployment_count = target->row_count,
        .declarative = target->declarative,
        .build_failure = target->unbuilt ? BYTES("Traceback") : (struct bytes){0},
    };
}

static void read_target(struct world_target *ret_target, const struct controller_app_target *target)
{
    memset(ret_target, 0, sizeof(*ret_target));
    ret_target->app = number_of(target->name, 'a');
    ret_target->id = target->id.v;
    ret_target->row_count = target->deployment_count;
    ret_target->declarative = target->declarative;
    if (target->route_prefix.size)
        ret_target->route = number_of(bytes_skip(target->route_prefix, 1), 'r');
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        const struct controller_deployment_target *row = target->deployments + i;
        ensure(!deployment_id_none(row->id));
        ret_target->rows[i] = (struct world_row){.name = number_of(row->name, 'd'),
                                                 .id = row->id.v,
                                                 .version = row->version,
                                                 .replicas = row->replicas,
                                                 .max_ongoing = row->max_ongoing,
                                                 .surge = row->rollout.max_surge_percent};
    }
}

/* ---- processes ---- */

static struct world_process *process_find(struct world *world, uint64_t id)
{
    for (uint32_t i = 0; i < world->process_top; i++)
        if (world->processes[i].id == id)
            return world->processes + i;
    return NULL;
}

static struct world_process *process_new(struct world *world, uint64_t id)
{
    struct world_process *process = process_find(world, 0);
    if (!process) {
        ensure(world->process_top < WORLD_PROCESS_LIMIT);
        process = world->processes + world->process_top++;
    }
    memset(process, 0, sizeof(*process));
    process->id = id;
    return process;
}

struct world_process *world_running(struct world *world, uint32_t start)
{
    for (uint32_t i = 0; i < world->process_top; i++) {
        struct world_process *process = world->processes + (start + i) % world->process_top;
        if (process->id && process->state == WORLD_RUNNING)
            return process;
    }
    return NULL;
}

static void event_twice_perhaps(struct world *world, const struct controller_event *event)
{
    world_step(world, event);
    if (rng_chance(&world->rng, world->faults.double_event, 1000))
        world_step(world, event);
}

void world_kill(struct world *world, struct world_process *process, int signal_number)
{
    struct controller_event event = {.type = CONTROLLER_GONE,
                                     .replica = {process->id},
                                     .signal_number = signal_number,
                                     .text = BYTES("last words")};
    process->id = 0;
    event_twice_perhaps(world, &event);
}

static void say_hello(struct world *world, const struct world_process *process, bool adoption)
{
    char app[16], name[16], address[32];
    struct controller_event event = {.type = adoption ? CONTROLLER_ADOPT : CONTROLLER_READY};
    snprintf(app, sizeof(app), "a%u", process->app);
    snprintf(name, sizeof(name), "d%u", process->name);
    snprintf(address, sizeof(address), "/run/r%llu", (unsigned long long)process->id);
    event.replica.v = process->id;
    event.app = bytes_of_string(app);
    event.deployment = bytes_of_string(name);
    event.version = process->version;
    event.configuration = process->configuration;
    event.rank = process->rank + 1;
    event.world_size = process->world_size;
    event.draining = process->state == WORLD_DRAINING;
    bool says_itself = process->state == WORLD_RUNNING || process->state == WORLD_DRAINING;
    if (says_itself && !process->silent)
        event.address = bytes_of_string(address);
    if (adoption && (process->silent || !says_itself))
        event.version = event.configuration = event.rank = 0;
    event_twice_perhaps(world, &event);
}

static bool constructor_fails(struct world *world, const struct world_process *process)
{
    return process->version == WORLD_BAD ||
           (process->version == WORLD_FLAKY && rng_chance(&world->rng, 1, 2));
}

static void process_started(struct world *world, struct world_process *process)
{
    if (constructor_fails(world, process)) {
        struct controller_event event = {.type = CONTROLLER_FAILED,
                                         .replica = {process->id},
                                         .code = ERROR_USER,
                                         .text = BYTES("it does not work")};
        process->due_ns = 0; /* it waits to be ended */
        event_twice_perhaps(world, &event);
        return;
    }
    process->state = WORLD_RUNNING;
    bool dies = process->version == WORLD_CRASHING && rng_chance(&world->rng, 1, 2);
    process->due_ns = dies ? some_ms(world, 1, 5000) : 0;
    say_hello(world, process, false);
}

/* What it was about to do is done. */
static void process_due(struct world *world, struct world_process *process)
{
    process->due_ns = 0;
    switch (process->state) {
    case WORLD_STARTING:
        process_started(world, process);
        break;
    case WORLD_RUNNING:
        if (process->silent) {
            process->silent = false;
            say_hello(world, process, false);
        } else {
            world_kill(world, process, 11);
        }
        break;
    case WORLD_DRAINING:
    case WORLD_ENDING:
    case WORLD_STUCK:
        world_kill(world, process, process->state == WORLD_DRAINING ? 0 : 15);
        break;
    }
}

/* ---- performing effects ---- */

/* The numbers given out, as the role keeps them for the next mind. */
static void raise_to(uint64_t *last, uint64_t id)
{
    if (*last < id)
        *last = id;
}

static void perform_store(struct world *world, const struct controller_effect *effect)
{
    ensure(world->store_count < WORLD_STORE_LIMIT);
    uint32_t at = world->store_count++;
    memset(world->stores + at, 0, sizeof(world->stores[at]));
    world->stores[at].token = effect->token;
    world->stores[at].more = effect->more;
    world->stores[at].due_ns = some_ms(world, 0, 20);
    if (effect->target) {
        const struct world_target *target = &world->stores[at].target;
        read_target(&world->stores[at].target, effect->target);
        for (uint32_t i = 0; i < target->row_count; i++)
            raise_to(&world->config.deployment_last, target->rows[i].id);
        raise_to(&world->config.application_last, target->id);
        ensure(world->config.deployment_last < WORLD_DEPLOYMENT_LIMIT);
    } else
        world->stores[at].target.app = number_of(effect->app_name, 'a');
}

/* It answers some time later, or refuses (a version that is flaky). */
static void perform_configure(struct world *world, const struct controller_effect *effect)
{
    struct world_process *process = process_find(world, effect->replica.v);
    if (!process || process->state != WORLD_RUNNING)
        return; /* it was away: it will say what it is, or is gone */
    process->told = effect->token;
    process->told_configuration = effect->configuration;
    process->told_rank = effect->rank;
    process->world_size = effect->world_size;
    process->told_due_ns = some_ms(world, 0, 2000);
}

static void answer_told(struct world *world, struct world_process *process)
{
    struct controller_event event = {.type = CONTROLLER_CONFIGURED,
                                     .replica = {process->id},
                                     .token = process->told,
                                     .text = BYTES("it does not like that")};
    process->told_due_ns = 0;
    if (process->state != WORLD_RUNNING)
        return;
    if (process->version == WORLD_FLAKY && rng_chance(&world->rng, 1, 2)) {
        event.code = ERROR_USER;
    } else {
        process->configuration = process->told_configuration;
        process->rank = process->told_rank;
    }
    event_twice_perhaps(world, &event);
}

static void perform_start(struct world *world, const struct controller_effect *effect)
{
    ensure_tag(C3, effect->replica.v < WORLD_REPLICA_LIMIT && !world->used[effect->replica.v]);
    world->used[effect->replica.v] = 1;
    ensure_tag(C3, !process_find(world, effect->replica.v));
    ensure(bytes_equal(effect->body, effect->deployment_name));
    if (world->started_last < effect->replica.v)
        world->started_last = effect->replica.v;
    struct world_process *process = process_new(world, effect->replica.v);
    process->app = number_of(effect->app_name, 'a');
    process->name = number_of(effect->deployment_name, 'd');
    process->version = effect->version;
    process->configuration = effect->configuration;
    process->rank = effect->rank;
    process->world_size = effect->world_size;
    process->due_ns = some_ms(world, 1, 3000);
}

static void perform_stop(struct world *world, const struct controller_effect *effect)
{
    struct world_process *process = process_find(world, effect->replica.v);
    if (!process) { /* as engines do: it is gone */
        process = process_new(world, effect->replica.v);
        process->state = WORLD_ENDING;
        process->due_ns = some_ms(world, 1, 5);
        return;
    }
    bool stuck = !effect->kill && rng_chance(&world->rng, world->faults.stuck_end, 1000);
    process->state = stuck ? WORLD_STUCK : WORLD_ENDING;
    process->due_ns = stuck ? 0 : some_ms(world, 1, 500);
}

static void perform_drain(struct world *world, const struct controller_effect *effect)
{
    struct world_process *process = process_find(world, effect->replica.v);
    struct controller_snapshot_row row;
    for (uint32_t i = 0; controller_snapshot_at(world->controller, i, &row); i++)
        ensure_tag(R3, !replica_id_equal(row.replica, effect->replica));
    if (!process || process->state != WORLD_RUNNING)
        return;
    bool stuck = rng_chance(&world->rng, world->faults.stuck_end, 1000);
    process->state = WORLD_DRAINING;
    process->due_ns = stuck ? 0 : some_ms(world, 1, 3000);
}

static void perform(struct world *world, const struct controller_effect *effect)
{
    switch (effect->type) {
    case CONTROLLER_STORE:
        perform_store(world, effect);
        break;
    case CONTROLLER_START:
        perform_start(world, effect);
        break;
    case CONTROLLER_STOP:
        perform_stop(world, effect);
        break;
    case CONTROLLER_DRAIN:
        perform_drain(world, effect);
        break;
    case CONTROLLER_OUTCOME:
        ensure(effect->token < WORLD_TOKEN_LIMIT && world->asked[effect->token]);
        ensure(world->outcomes[effect->token] == 0); /* once */
        world->outcomes[effect->token]++;
        world->codes[effect->token] = effect->code;
        break;
    case CONTROLLER_ENDED:
        ensure(!world->ended);
        world->ended = true;
        break;
    case CONTROLLER_CONFIGURE:
        perform_configure(world, effect);
        break;
    case CONTROLLER_PUBLISH:
    case CONTROLLER_PROGRESS:
    case CONTROLLER_EFFECT_COUNT:
        break;
    }
}

/* C2: but for the replica that the event is about, nobody goes below the target by decision. */
static void check_ready(struct world *world)
{
    struct controller_deployment_view row;
    struct controller_snapshot_row replica;
    static uint32_t counts[WORLD_DEPLOYMENT_LIMIT];
    memset(counts, 0, (world->config.deployment_last + 1) * sizeof(counts[0]));
    for (uint32_t i = 0; controller_snapshot_at(world->controller, i, &replica); i++)
        counts[replica.deployment.v] +=
            !world->condemned[replica.replica.v] && !world->owing_ns[replica.replica.v];
    for (uint32_t i = 0; controller_deployment_at(world->controller, i, &row); i++) {
        uint32_t before = world->routable[row.id.v], lost = row.id.v == world->lost_deployment;
        uint32_t least = before < row.ready_least ? before : row.ready_least;
        uint32_t share = row.target_replicas / 5 > 1 ? row.target_replicas / 5 : 1;
        ensure_tag(C2, row.ready_least + share >= row.target_replicas);
        ensure_tag(C2, counts[row.id.v] + lost >= least);
    }
    memcpy(world->routable, counts, (world->config.deployment_last + 1) * sizeof(counts[0]));
}

/* Those that the limits of their health checks end in this turn. */
static void condemn_silent(struct world *world)
{
    for (uint32_t i = 0; i < world->process_top; i++) {
        uint64_t id = world->processes[i].id;
        if (world->owing_ns[id] &&
            world->now_ns - world->owing_ns[id] >= WORLD_HEALTH_S * SECOND_NS)
            world->condemned[id] = WORLD_SILENT;
    }
}

/* Whom the event takes away, if it takes somebody. */
static uint64_t find_lost(struct world *world, const struct controller_event *event)
{
    struct controller_snapshot_row row;
    bool owes = event->type == CONTROLLER_OWES;
    bool takes = event->type == CONTROLLER_GONE || event->draining || owes ||
                 (event->type == CONTROLLER_HEALTH && !event->healthy) ||
                 (event->type == CONTROLLER_CONFIGURED && event->code);
    int64_t *owing_ns = &world->owing_ns[event->replica.v];
    if (event->type == CONTROLLER_TIME)
        condemn_silent(world);
    if (event->type == CONTROLLER_ANSWERS || event->type == CONTROLLER_READY)
        *owing_ns = 0;
    if (*owing_ns == 0 && world->condemned[event->replica.v] == WORLD_SILENT)
        world->condemned[event->replica.v] = 0; /* the mind may have had a reason to wait */
    if (takes && *owing_ns) { /* counted out already, and perhaps in no snapshot */
        world->condemned[event->replica.v] |= !owes;
        return 0;
    }
    for (uint32_t i = 0; takes && controller_snapshot_at(world->controller, i, &row); i++) {
        if (!replica_id_equal(row.replica, event->replica) || world->condemned[row.replica.v])
            continue;
        if (owes)
            *owing_ns = event->since_ns > 0 ? event->since_ns : 1;
        else
            world->condemned[row.replica.v] = 1;
        return row.deployment.v;
    }
    return 0;
}

void world_step(struct world *world, const struct controller_event *event)
{
    bool storing = false;
    world->steps++;
    world->lost_deployment = find_lost(world, event);
    controller_step(world->controller, world->now_ns, event, &world->effects);
    controller_check(world->controller);
    check_ready(world);
    struct controller_effects effects = world->effects;
    for (uint32_t i = 0; i < effects.count; i++) {
        const struct controller_effect *effect = effects.at + i;
        ensure_tag(R4, effect->type != CONTROLLER_PUBLISH || i == 0);
        ensure_tag(C1, !storing || effect->type == CONTROLLER_STORE);
        storing = effect->type == CONTROLLER_STORE;
        if (effect->type == CONTROLLER_PUBLISH)
            ensure_tag(R4, controller_version(world->controller) == ++world->snapshot);
        remember(world, &effect->type, sizeof(effect->type));
        remember(world, &effect->replica.v, sizeof(effect->replica.v));
        remember(world, effect->message, strlen(effect->message));
        perform(world, effect);
    }
    ensure(world->effects.at == effects.at); /* performing does not step */
}

/* ---- users and the store ---- */

static uint64_t next_token(struct world *world)
{
    ensure(world->token_last + 1 < WORLD_TOKEN_LIMIT);
    world->asked[++world->token_last] = 1;
    return world->token_last;
}

uint64_t world_deploy(struct world *world, const struct world_target *target)
{
    struct names names;
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &names.target};
    spell(&names, target);
    event.token = next_token(world);
    world_step(world, &event);
    return event.token;
}

uint64_t world_apply(struct world *world, const struct world_target *targets, uint32_t count,
                     bool declarative)
{
    struct names names[WORLD_APP_LIMIT];
    struct controller_app_target given[WORLD_APP_LIMIT];
    struct controller_event event = {.type = CONTROLLER_APPLY,
                                     .targets = given,
                                     .target_count = count,
                                     .declarative = declarative};
    ensure(count <= WORLD_APP_LIMIT);
    for (uint32_t i = 0; i < count; i++) {
        struct world_target target = targets[i];
        target.declarative = declarative;
        spell(&names[i], &target);
        given[i] = names[i].target;
    }
    event.token = next_token(world);
    world_step(world, &event);
    return event.token;
}

uint64_t world_delete(struct world *world, uint32_t app)
{
    char name[16];
    struct controller_event event = {.type = CONTROLLER_DELETE};
    snprintf(name, sizeof(name), "a%u", app);
    event.app = bytes_of_string(app < WORLD_APP_LIMIT ? name : "");
    event.token = next_token(world);
    world_step(world, &event);
    return event.token;
}

uint64_t world_shutdown(struct world *world)
{
    struct controller_event event = {.type = CONTROLLER_SHUTDOWN};
    event.token = next_token(world);
    world_step(world, &event);
    return event.token;
}

/* Of the oldest transaction. */
static uint32_t transaction_size(const struct world *world, uint32_t from)
{
    uint32_t size = 1;
    while (world->stores[from + size - 1].more)
        size++;
    ensure(from + size <= world->store_count);
    return size;
}

bool world_store_answers(struct world *world)
{
    if (world->store_count == 0)
        return false;
    uint32_t size = transaction_size(world, 0);
    struct controller_event event = {.type = CONTROLLER_STORED, .token = world->stores[0].token};
    if (rng_chance(&world->rng, world->faults.store_failure, 1000))
        event.code = ERROR_SYSTEM;
    for (uint32_t i = 0; i < size && event.code == 0; i++)
        world->durable[world->stores[i].target.app] = world->stores[i].target;
    world->store_count -= size;
    memmove(world->stores, world->stores + size, world->store_count * sizeof(world->stores[0]));
    event_twice_perhaps(world, &event);
    return true;
}

/* ---- a restart ---- */

struct world *world_new(uint64_t seed)
{
    struct world *world = mem_new(sizeof(*world));
    rng_init(&world->rng, seed);
    world->now_ns = 1;
    world->trace = (struct trace){.line = hear, .owner = world};
    settings_init(&world->config.settings);
    world->config.settings.start_backoff_limit_ms = 2000;
    world->config.trace = &world->trace;
    world->controller = controller_new(&world->config, rng_next(&world->rng));
    ensure(world->controller);
    return world;
}

struct world *world_free(struct world *world)
{
    controller_free(world->controller);
    controller_effects_done(&world->effects);
    return mem_free(world);
}

/* Who waited is told by the role that the connection is lost; nobody hears of it from the new mind.
 */
static void forget_waiting(struct world *world)
{
    for (uint64_t token = 1; token <= world->token_last; token++)
        if (world->asked[token] && !world->outcomes[token])
            world->outcomes[token] = 1;
}

static void tell_stored(struct world *world)
{
    for (uint32_t app = 0; app < WORLD_APP_LIMIT; app++) {
        struct names names;
        struct controller_event event = {
            .type = CONTROLLER_DEPLOY, .target = &names.target, .stored = true};
        if (world->durable[app].row_count == 0)
            continue;
        spell(&names, &world->durable[app]);
        world_step(world, &event);
    }
}

static void tell_running(struct world *world)
{
    for (uint32_t i = 0; i < world->process_top; i++) {
        struct world_process *process = world->processes + i;
        if (process->id == 0)
            continue;
        if (process->told_due_ns && rng_chance(&world->rng, 1, 2)) { /* nobody hears of it */
            process->configuration = process->told_configuration;
            process->rank = process->told_rank;
        }
        process->told_due_ns = 0;
        process->silent = process->state == WORLD_RUNNING && rng_chance(&world->rng, 1, 2);
        if (process->silent)
            process->due_ns = some_ms(world, 1, 12000);
        say_hello(world, process, true);
    }
}

void world_restart(struct world *world)
{
    struct controller_event loaded = {.type = CONTROLLER_LOADED, .version = world->snapshot};
    controller_free(world->controller);
    /* Of what was under way to the store some was performed, in order, and nobody was told. */
    uint32_t performed = (uint32_t)rng_below(&world->rng, world->store_count + 1u);
    for (uint32_t i = 0; i < performed;) /* a transaction whole */
        for (uint32_t end = i + transaction_size(world, i); i < end; i++)
            world->durable[world->stores[i].target.app] = world->stores[i].target;
    world->store_count = 0;
    forget_waiting(world);
    world->config.replica_last = world->started_last;
    world->controller = controller_new(&world->config, rng_next(&world->rng));
    ensure(world->controller);
    memset(world->routable, 0, sizeof(world->routable));
    memset(world->condemned, 0, sizeof(world->condemned));
    memset(world->owing_ns, 0, sizeof(world->owing_ns));
    tell_stored(world);
    tell_running(world);
    world_step(world, &loaded);
}

/* ---- time ---- */

static int64_t next_time(const struct world *world)
{
    int64_t next_ns = controller_deadline_ns(world->controller);
    if (world->store_count && (!next_ns || world->stores[0].due_ns < next_ns))
        next_ns = world->stores[0].due_ns;
    for (uint32_t i = 0; i < world->process_top; i++) {
        const struct world_process *process = world->processes + i;
        if (process->id && process->due_ns && (!next_ns || process->due_ns < next_ns))
            next_ns = process->due_ns;
        if (process->id && process->told_due_ns && (!next_ns || process->told_due_ns < next_ns))
            next_ns = process->told_due_ns;
    }
    return next_ns;
}

bool world_pass_time(struct world *world, bool late)
{
    int64_t next_ns = next_time(world), deadline_ns;
    if (next_ns == 0)
        return false;
    if (world->now_ns < next_ns)
        world->now_ns = next_ns;
    if (late)
        world->now_ns += 700 * ms_ns;
    if (world->store_count && world->stores[0].due_ns <= world->now_ns)
        world_store_answers(world);
    for (uint32_t i = 0; i < world->process_top; i++) {
        struct world_process *process = world->processes + i;
        if (process->id && process->told_due_ns && process->told_due_ns <= world->now_ns)
            answer_told(world, process);
        if (process->id && process->due_ns && process->due_ns <= world->now_ns)
            process_due(world, process);
    }
    deadline_ns = controller_deadline_ns(world->controller);
    if (deadline_ns && deadline_ns <= world->now_ns) {
        struct controller_event event = {.type = CONTROLLER_TIME, .late = late};
        world_step(world, &event);
    }
    return true;
}

void world_rest(struct world *world, int64_t limit_ns)
{
    int64_t end_ns = world->now_ns + limit_ns;
    world->faults = (struct world_faults){0};
    for (uint32_t i = 0; i < world->process_top; i++) {
        struct controller_event answers = {.type = CONTROLLER_ANSWERS,
                                           .replica = {world->processes[i].id}};
        if (world->processes[i].id)
            world_step(world, &answers);
    }
    while (world_pass_time(world, false))
        ensure_tag(C5, world->now_ns <= end_ns);
}

/* ---- C5 ---- */

static uint32_t count_processes(const struct world *world, uint32_t app,
                                const struct world_row *row)
{
    uint32_t count = 0;
    uint64_t ranks = 0;
    ensure(row->replicas < 64);
    for (uint32_t i = 0; i < world->process_top; i++) {
        const struct world_process *process = world->processes + i;
        if (process->id && process->app == app && process->name == row->name) {
            ensure_tag(C5, process->state == WORLD_RUNNING && process->version == row->version);
            ensure_tag(C5, process->configuration == row->max_ongoing && !process->told_due_ns);
            ensure_tag(C5, process->rank < row->replicas && !(ranks >> process->rank & 1));
            ensure_tag(C5, process->world_size == row->replicas);
            ranks |= UINT64_C(1) << process->rank;
            count++;
        }
    }
    return count;
}

void world_check_rest(struct world *world)
{
    struct controller_app_view app;
    struct controller_deployment_view row;
    struct controller_snapshot_row replica;
    uint32_t processes = 0, apps = 0, rows = 0, wanted = 0, published = 0;
    for (uint32_t i = 0; i < world->process_top; i++)
        processes += world->processes[i].id != 0;
    for (uint32_t i = 0; i < WORLD_APP_LIMIT; i++) {
        const struct world_target *target = world->durable + i;
        apps += target->row_count > 0;
        for (uint32_t j = 0; j < target->row_count; j++) {
            ensure_tag(C5, count_processes(world, i, target->rows + j) == target->rows[j].replicas);
            wanted += target->rows[j].replicas;
            rows++;
        }
    }
    ensure_tag(C3, processes == wanted); /* and none that nobody wants */
    for (uint32_t i = 0; controller_app_at(world->controller, i, &app); i++, apps--)
        ensure_tag(C5, app.status == APPLICATION_STATUS_RUNNING);
    for (uint32_t i = 0; controller_deployment_at(world->controller, i, &row); i++, rows--)
        ensure_tag(C5, row.status == DEPLOYMENT_STATUS_HEALTHY && row.available);
    for (uint32_t i = 0; controller_snapshot_at(world->controller, i, &replica); i++)
        published++;
    ensure_tag(C5, apps == 0 && rows == 0 && published == wanted);
    for (uint64_t token = 1; token <= world->token_last; token++)
        ensure(world->outcomes[token] == 1);
}
