/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_check: invariants, after every turn and at rest.
 *
 * The roles' own checks walk their structures; what stands here looks from outside, from what
 * passed on the wire and what user code had, and at what only holds between turns: that whoever has
 * something to do will be called.
 */
#include <stdio.h>
#include <string.h>

#include "dispatch_inner.h"
#include "ensure.h"
#include "map.h"
#include "mem.h"
#include "taker_inner.h"
#include "world.h"

enum { VERSIONS_MOST = 1 << 20, SENDERS_MOST = 1 << 16 };
static const int64_t VOICE_NS = 10 * 1000000000LL; /* the longest standstill, a ping, and its way */

struct snapshot {              /* R3: which replicas a version holds */
    uint64_t apps[WORLD_APPS]; /* ids of their deployments; 0: none that is available */
    uint32_t count;
    uint64_t replicas[];
};

struct sender {         /* somebody with a dispatch */
    uint64_t version;   /* R4: the newest that it had */
    uint64_t noted;     /* up to which its snapshots were looked at for missing applications */
    struct map leaving; /* replica -> 1 + requests in flight there when it left the snapshot */
};

struct world_check {
    struct map snapshots; /* by version */
    struct map senders;   /* by process number */
    char why[128];
};

struct world_check *world_check_new(struct world *world)
{
    struct world_check *check = mem_new(sizeof *check);
    map_init(&check->snapshots, VERSIONS_MOST);
    map_init(&check->senders, SENDERS_MOST);
    return check;
}

struct world_check *world_check_free(struct world_check *check)
{
    struct map_entry *entry;
    map_each (entry, &check->snapshots)
        mem_free(entry->value);
    map_each (entry, &check->senders) {
        struct sender *sender = entry->value;
        map_done(&sender->leaving);
        mem_free(sender);
    }
    map_done(&check->snapshots);
    map_done(&check->senders);
    return mem_free(check);
}

/* ---- R3, R4 ---- */

void world_check_snapshot(struct world *world, uint64_t version, const uint64_t apps[WORLD_APPS],
                          const uint64_t *replicas, uint32_t count)
{
    struct map *snapshots = &world->check->snapshots;
    struct snapshot *known = map_get(snapshots, version);
    if (known) {
        if (known->count != count || memcmp(known->replicas, replicas, count * 8) != 0)
            world_fail(world, "R4: two snapshots of version %llu", (unsigned long long)version);
        return;
    }
    struct snapshot *snapshot = mem_new(sizeof *snapshot + count * sizeof(uint64_t));
    memcpy(snapshot->apps, apps, sizeof snapshot->apps);
    snapshot->count = count;
    if (count)
        memcpy(snapshot->replicas, replicas, count * sizeof(uint64_t));
    int bad = map_try_put(snapshots, version, snapshot);
    ensure(bad == 0);
}

static struct sender *find_sender(struct world *world, const struct sim_process *process)
{
    struct sender *sender = map_get(&world->check->senders, process->number);
    if (sender)
        return sender;
    sender = mem_new(sizeof *sender);
    map_init(&sender->leaving, VERSIONS_MOST);
    int bad = map_try_put(&world->check->senders, process->number, sender);
    ensure(bad == 0);
    return sender;
}

static bool holds(const struct snapshot *snapshot, uint64_t replica)
{
    for (uint32_t i = 0; i < snapshot->count; i++)
        if (snapshot->replicas[i] == replica)
            return true;
    return false;
}

/* What is in flight at a replica that is not in the sender's snapshot may only become less. */
static void check_leaving(struct world *world, struct sender *sender,
                          const struct dispatch *dispatch, const struct sim_process *process)
{
    const struct snapshot *snapshot = map_get(&world->check->snapshots, sender->version);
    struct map_entry *entry;
    if (!snapshot)
        world_fail(world, "R4: %s has a snapshot that nobody sent", process->name);
    map_each (entry, &dispatch->links) {
        const struct dispatch_link *link = entry->value;
        uintptr_t flying = link->flying.length + 1;
        if (holds(snapshot, link->replica.v)) {
            map_remove(&sender->leaving, link->replica.v);
            continue;
        }
        uintptr_t before = (uintptr_t)map_get(&sender->leaving, link->replica.v);
        if (before && flying > before)
            world_fail(world, "R3: %s sent to r%llu, which is not in its snapshot %llu",
                       process->name, (unsigned long long)link->replica.v,
                       (unsigned long long)sender->version);
        int bad = map_try_put(&sender->leaving, link->replica.v, (void *)flying);
        ensure(bad == 0);
    }
}

/* Applications that the sender could not reach at some time since it was last asked, or that became
 * others: several snapshots may have passed meanwhile. */
void world_check_missing(struct world *world, const struct dispatch *dispatch,
                         const struct sim_process *process, uint32_t first_app)
{
    struct sender *sender = find_sender(world, process);
    uint64_t newest = router_version(dispatch_router(dispatch));
    const struct snapshot *old = map_get(&world->check->snapshots, sender->noted);
    const struct map_entry *entry;
    for (uint32_t i = first_app; i < WORLD_APPS; i++)
        if (!old || !old->apps[i])
            world->apps[i].missing_ns = sim_now_ns();
    map_each (entry, &world->check->snapshots) {
        const struct snapshot *snapshot = entry->value;
        if (entry->number <= sender->noted || entry->number > newest)
            continue;
        for (uint32_t i = first_app; i < WORLD_APPS; i++)
            if (!snapshot->apps[i] || (old && snapshot->apps[i] != old->apps[i]))
                world->apps[i].missing_ns = sim_now_ns();
    }
    sender->noted = newest;
}

static void check_queues(struct world *world, const struct router *router,
                         const struct sim_process *process)
{
    for (uint32_t i = 0; i < WORLD_APPS; i++) {
        const struct world_app *app = &world->apps[i];
        struct deployment_id id;
        if (app->max_queued < 0 || app->queue_changed ||
            !router_find_app(router, bytes_of_string(app->name), &id))
            continue;
        if (router_waiting(router, id) > app->max_queued)
            world_fail(world, "R2: %u requests wait in %s for %s, at most %lld may",
                       router_waiting(router, id), process->name, app->name,
                       (long long)app->max_queued);
    }
}

static void check_dispatch(struct world *world, const struct dispatch *dispatch,
                           const struct sim_process *process, uint32_t first_app)
{
    struct sender *sender = find_sender(world, process);
    const struct router *router = dispatch_router(dispatch);
    dispatch_check(dispatch);
    if (router_version(router) < sender->version)
        world_fail(world, "R4: %s went back from snapshot %llu to %llu", process->name,
                   (unsigned long long)sender->version, (unsigned long long)router_version(router));
    sender->version = router_version(router);
    if (sender->version)
        check_leaving(world, sender, dispatch, process);
    world_check_missing(world, dispatch, process, first_app);
    check_queues(world, router, process);
}

/* ---- replicas ---- */

/* A higher limit counts at once, a lower one once so many have ended. */
uint32_t world_check_limit(const struct world_replica *replica)
{
    uint32_t limit = replica->taker->config.max_ongoing;
    return limit > replica->allowed ? limit : replica->allowed;
}

static void check_replica(struct world *world, struct world_replica *replica)
{
    const struct taker *taker = replica->taker;
    uint32_t ongoing = taker_ongoing(taker), limit = taker->config.max_ongoing;
    taker_check(taker);
    if (ongoing > world_check_limit(replica))
        world_fail(world, "R2: r%llu accepted %u requests, at most %u may be",
                   (unsigned long long)replica->id, ongoing, limit);
    /* A lower limit throws nobody out. */
    replica->allowed = ongoing < limit ? limit : ongoing;
    if (replica->dispatch)
        check_dispatch(world, replica->dispatch, &replica->process, WORLD_APPS - 1);
    /* Where another turn follows at once, it sees what came at the end of this one. */
    if (replica->process.doomed || replica->process.ended ||
        loop_timeout_ms(replica->process.loop) == 0)
        return;
    int64_t now_ns = loop_now_ns(replica->process.loop);
    int64_t due_ns = replica_deadline_ns(taker->mind);
    if (replica->running < replica->options.slots && replica_due(taker->mind, now_ns))
        world_fail(world, "B1: something is due in r%llu and nobody was woken",
                   (unsigned long long)replica->id);
    if (due_ns && (!taker->timer.due_ns || taker->timer.due_ns > due_ns) && due_ns > now_ns)
        world_fail(world, "B1: r%llu will not be called in time", (unsigned long long)replica->id);
}

static uint64_t find_silent(const struct world *world)
{
    struct controller_replica_view view;
    for (uint32_t i = 0; controller_replica_at(world->controller.conduct->mind, i, &view); i++)
        if (view.silent)
            return view.id.v;
    return 0;
}

/* C5: who stood still goes on by then, and nobody is missed any more. */
static void check_controller(struct world *world)
{
    controller_check(world->controller.conduct->mind);
    uint64_t silent = find_silent(world);
    if (silent && world->calm && sim_now_ns() > world->calm_ns + VOICE_NS)
        world_fail(world, "C5: r%llu is still called silent", (unsigned long long)silent);
}

void world_check_turn(struct world *world, struct sim_process *process)
{
    struct list_link *link;
    if (world->controller.living && process == &world->controller.process) {
        check_controller(world);
        return;
    }
    for (uint32_t i = 0; i < world->proxy_count; i++)
        if (world->proxies[i].living && process == &world->proxies[i].process) {
            proxy_check(world->proxies[i].proxy);
            check_dispatch(world, world->proxies[i].proxy->dispatch, process, 0);
        }
    list_each (link, &world->replicas) {
        struct world_replica *replica = list_entry(link, struct world_replica, link);
        if (process == &replica->process)
            check_replica(world, replica);
    }
}

/* ---- rest ---- */

static const char *say_why(struct world *world, const char *tag, const char *who, const char *what)
{
    snprintf(world->check->why, sizeof world->check->why, "%s: %s %s", tag, who, what);
    return world->check->why;
}

static const char *dispatch_rest(const struct dispatch *dispatch)
{
    if (dispatch->calls.used_count)
        return "has requests out";
    if (dispatch->held_bytes || dispatch->blocks.live_count)
        return "keeps bytes of requests";
    return NULL;
}

static const char *proxy_rest(struct world *world, const struct world_proxy *own)
{
    const struct proxy *proxy = own->proxy;
    const char *why = NULL;
    if (!own->living)
        return say_why(world, "C5", own->process.name, "is away");
    if (proxy->connections.used_count || proxy->exchanges.used_count)
        why = "has connections";
    else if (buffer_store_live_bytes(proxy->buffers) ||
             buffer_store_live_bytes(proxy->channels.buffers))
        why = "keeps buffers";
    else
        why = dispatch_rest(proxy->dispatch);
    return why ? say_why(world, "M1", own->process.name, why) : NULL;
}

static const char *replica_rest(struct world *world, const struct world_replica *replica)
{
    const char *why = NULL;
    if (replica->sick)
        return say_why(world, "C5", replica->process.name, "is sick and still runs");
    if (replica->taker->requests.used_count || !list_empty(&replica->calls))
        why = "has requests";
    else if (replica->taker->arena_blocks.live_count)
        why = "keeps memory of requests";
    else if (buffer_store_live_bytes(replica->channels.buffers))
        why = "keeps buffers";
    else if (replica->dispatch)
        why = dispatch_rest(replica->dispatch);
    return why ? say_why(world, "M1", replica->process.name, why) : NULL;
}

/* C5: what runs is what is wanted. */
static const char *target_rest(struct world *world)
{
    struct controller_deployment_view view;
    size_t wanted = 0, apps = 0;
    if (!world->controller.living)
        return "C5: the controller is away";
    for (uint32_t i = 0; controller_deployment_at(world->controller.conduct->mind, i, &view); i++) {
        wanted += view.target_replicas;
        if (view.status != DEPLOYMENT_STATUS_HEALTHY)
            return say_why(world, "C5", deployment_status_word(view.status),
                           "is a deployment's status");
    }
    if (find_silent(world))
        return "C5: a replica is called silent";
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        if (world->apps[i].wanted)
            apps += world->apps[i].replicas;
    if (!list_empty(&world->starts) || world->replicas.length != wanted || wanted != apps)
        return "C5: other replicas run than are wanted";
    return NULL;
}

/* C5: every sender knows which models each replica holds. */
static const char *models_rest(struct world *world)
{
    struct list_link *link;
    list_each (link, &world->replicas) {
        const struct world_replica *replica = list_entry(link, struct world_replica, link);
        for (uint32_t i = 0; i < world->proxy_count; i++)
            if (!world_models_believed(replica, dispatch_router(world->proxies[i].proxy->dispatch)))
                return say_why(world, "C5", world->proxies[i].process.name,
                               "takes a replica's models for others");
    }
    return NULL;
}

/* C5: each replica has its application's user_config, and its ranks are 0, 1, ... */
static const char *configured_rest(struct world *world)
{
    uint64_t ranks[WORLD_APPS] = {0};
    struct list_link *link;
    list_each (link, &world->replicas) {
        const struct world_replica *replica = list_entry(link, struct world_replica, link);
        const struct world_app *app = &world->apps[replica->app];
        uint32_t rank = replica->options.rank; /* plus one */
        if (replica->options.config != app->config)
            return say_why(world, "C5", replica->process.name, "has an old user_config");
        if (rank == 0 || rank > app->replicas || (ranks[replica->app] >> rank & 1))
            return say_why(world, "C5", replica->process.name, "has a wrong rank");
        if (replica->options.world_size != app->replicas)
            return say_why(world, "C5", replica->process.name, "has a wrong world size");
        ranks[replica->app] |= UINT64_C(1) << rank;
    }
    return NULL;
}

static bool is_behind(const struct world *world, const struct dispatch *dispatch)
{
    return router_version(dispatch_router(dispatch)) < world->controller.conduct->snapshot_version;
}

/* C5: every reader has the newest snapshot. */
static const char *readers_rest(struct world *world)
{
    struct list_link *link;
    for (uint32_t i = 0; i < world->proxy_count; i++)
        if (is_behind(world, world->proxies[i].proxy->dispatch))
            return say_why(world, "C5", world->proxies[i].process.name, "has an old snapshot");
    list_each (link, &world->replicas) {
        const struct world_replica *replica = list_entry(link, struct world_replica, link);
        if (replica->dispatch && is_behind(world, replica->dispatch))
            return say_why(world, "C5", replica->process.name, "has an old snapshot");
    }
    return NULL;
}

const char *world_check_rest(struct world *world)
{
    struct list_link *link;
    const char *why = NULL;
    if (world->clients_done < world->client_count)
        return "R1: some clients are not done";
    if (!world_command_idle(world))
        return "C5: an operation has no outcome";
    for (uint32_t i = 0; !why && i < world->proxy_count; i++)
        why = proxy_rest(world, &world->proxies[i]);
    if (!why)
        why = target_rest(world);
    for (link = world->replicas.head.next; !why && link != &world->replicas.head; link = link->next)
        why = replica_rest(world, list_entry(link, struct world_replica, link));
    if (!why)
        why = models_rest(world);
    if (!why)
        why = configured_rest(world);
    return why ? why : readers_rest(world);
}
