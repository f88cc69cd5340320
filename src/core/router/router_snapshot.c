/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_snapshot: how a new routing snapshot takes the place of the old one.
 *
 * Two halves.  The first makes everything that needs memory and changes nothing: one block with
 * copies of all rows and the tables to find them by, objects for deployments and replicas that are
 * new, room for effects and timers.  When memory lacks it is all given back and the old snapshot
 * stays.  The second half cannot fail: it swaps, and then derives from the rows where each replica
 * stands and what becomes of each waiting request.
 *
 * Rows come from a peer.  One that makes no sense (no id, a second time the same id, a replica of
 * no deployment) is as if it were not there.
 */
#include <string.h>

#include "error.h"
#include "mem.h"
#include "router_inner.h"

/* Cuts pieces off one block; with `at` null it only counts. */
struct carver {
    uint8_t *at; /* the block */
    size_t size; /* bytes cut off */
};

static void *carve(struct carver *carver, size_t size)
{
    void *piece = carver->at ? carver->at + carver->size : NULL;
    carver->size += (size + 15) / 16 * 16;
    return piece;
}

static struct router_index carve_index(struct carver *carver, uint64_t count)
{
    uint64_t slots = 4;
    while (slots < 2 * count)
        slots *= 2;
    return (struct router_index){.slots = carve(carver, slots * sizeof(struct router_slot)),
                                 .mask = slots - 1};
}

static size_t text_size(const struct router_snapshot *snapshot)
{
    size_t size = 0;
    for (uint32_t i = 0; i < snapshot->app_count; i++)
        size += snapshot->apps[i].name.size + snapshot->apps[i].route_prefix.size;
    for (uint32_t i = 0; i < snapshot->deployment_count; i++)
        size += snapshot->deployments[i].app.size + snapshot->deployments[i].name.size;
    for (uint32_t i = 0; i < snapshot->replica_count; i++)
        size += snapshot->replicas[i].address.size;
    return size;
}

/* Where everything lies in the block; returns where its text goes. */
static uint8_t *lay_out(struct router_block *block, struct carver *carver,
                        const struct router_snapshot *snapshot, uint32_t known_replicas)
{
    uint32_t apps = snapshot->app_count, deployments = snapshot->deployment_count,
             replicas = snapshot->replica_count;
    block->apps = carve(carver, apps * sizeof(*block->apps));
    block->deployments = carve(carver, deployments * sizeof(*block->deployments));
    block->replicas = carve(carver, replicas * sizeof(*block->replicas));
    block->live_deployments = carve(carver, deployments * sizeof(*block->live_deployments));
    block->live_replicas = carve(carver, replicas * sizeof(*block->live_replicas));
    block->open = carve(carver, replicas * sizeof(*block->open));
    block->by_deployment = carve_index(carver, deployments);
    block->by_replica = carve_index(carver, (uint64_t)replicas + known_replicas);
    block->by_name = carve_index(carver, deployments);
    block->by_app = carve_index(carver, apps);
    block->by_prefix = carve_index(carver, apps);
    return carve(carver, text_size(snapshot));
}

static struct bytes keep(uint8_t **text, struct bytes bytes)
{
    struct bytes copy = bytes_of(*text, bytes.size);
    if (bytes.size)
        memcpy(*text, bytes.at, bytes.size);
    *text += bytes.size;
    return copy;
}

static void copy_rows(struct router_block *block, const struct router_snapshot *snapshot,
                      uint8_t *text)
{
    block->version = snapshot->version;
    block->app_count = snapshot->app_count;
    block->deployment_count = snapshot->deployment_count;
    block->replica_count = snapshot->replica_count;
    for (uint32_t i = 0; i < block->app_count; i++) {
        block->apps[i] = snapshot->apps[i];
        block->apps[i].name = keep(&text, snapshot->apps[i].name);
        block->apps[i].route_prefix = keep(&text, snapshot->apps[i].route_prefix);
    }
    for (uint32_t i = 0; i < block->deployment_count; i++) {
        block->deployments[i] = snapshot->deployments[i];
        block->deployments[i].app = keep(&text, snapshot->deployments[i].app);
        block->deployments[i].name = keep(&text, snapshot->deployments[i].name);
    }
    for (uint32_t i = 0; i < block->replica_count; i++) {
        block->replicas[i] = snapshot->replicas[i];
        block->replicas[i].address = keep(&text, snapshot->replicas[i].address);
    }
}

static void index_apps(struct router_block *block)
{
    for (uint32_t i = 0; i < block->app_count; i++) {
        struct router_snapshot_app *app = &block->apps[i];
        struct bytes prefix = app->route_prefix;
        router_index_put(&block->by_app, router_name_key(app->name, (struct bytes){0}), app);
        if (prefix.size == 0)
            continue;
        router_index_put(&block->by_prefix, router_prefix_key(prefix), app);
        block->prefix_sizes |= (uint64_t)1 << (prefix.size % 64);
        if (prefix.size > block->prefix_longest)
            block->prefix_longest = prefix.size;
    }
}

static struct router_block *block_new(const struct router *router,
                                      const struct router_snapshot *snapshot)
{
    struct router_block sizes = {0};
    struct carver counter = {0};
    carve(&counter, sizeof(struct router_block));
    lay_out(&sizes, &counter, snapshot, router->replica_count);
    struct carver carver = {.at = mem_try(counter.size)};
    struct router_block *block = carve(&carver, sizeof(*block));
    if (!block)
        return NULL;
    uint8_t *text = lay_out(block, &carver, snapshot, router->replica_count);
    ensure(carver.size == counter.size);
    copy_rows(block, snapshot, text);
    index_apps(block);
    return block;
}

/* ---- the first half: what needs memory ---- */

static struct router_deployment *deployment_new(struct deployment_id id)
{
    struct router_deployment *deployment = mem_try(sizeof(*deployment));
    if (!deployment)
        return NULL;
    deployment->id = id;
    for (int place = 0; place < ROUTER_PLACE_COUNT; place++)
        list_init(&deployment->places[place]);
    list_init(&deployment->waiting.requests);
    router_shift(deployment);
    return deployment;
}

static struct router_deployment *known_deployment(const struct router *router,
                                                  struct deployment_id id)
{
    struct router_deployment *deployment =
        router->block ? router_index_get(&router->block->by_deployment, id.v) : NULL;
    const struct list_link *link;
    if (deployment)
        return deployment;
    list_each (link, &router->vanished) {
        deployment = list_entry(link, struct router_deployment, link);
        if (deployment_id_equal(deployment->id, id))
            return deployment;
    }
    return NULL;
}

static int meet_deployments(struct router *router, struct router_block *block)
{
    for (uint32_t i = 0; i < block->deployment_count; i++) {
        struct router_snapshot_deployment *row = &block->deployments[i];
        if (deployment_id_none(row->id) || router_index_get(&block->by_deployment, row->id.v))
            continue;
        struct router_deployment *deployment = known_deployment(router, row->id);
        if (!deployment)
            deployment = deployment_new(row->id);
        if (!deployment)
            return ERROR_MEMORY;
        block->live_deployments[i] = deployment;
        router_index_put(&block->by_deployment, row->id.v, deployment);
        router_index_put(&block->by_name, router_name_key(row->app, row->name), row);
    }
    return 0;
}

static int meet_replicas(struct router *router, struct router_block *block)
{
    for (uint32_t i = 0; i < block->replica_count; i++) {
        struct router_snapshot_replica *row = &block->replicas[i];
        struct router_deployment *deployment =
            router_index_get(&block->by_deployment, row->deployment.v);
        if (replica_id_none(row->id) || !deployment ||
            router_index_get(&block->by_replica, row->id.v))
            continue;
        struct router_replica *replica =
            router->block ? router_index_get(&router->block->by_replica, row->id.v) : NULL;
        if (replica && replica->deployment != deployment)
            continue;
        if (!replica) {
            replica = mem_try(sizeof(*replica));
            if (!replica)
                return ERROR_MEMORY;
            replica->id = row->id;
            replica->deployment = deployment;
            list_init(&replica->requests);
            list_init(&replica->holdings);
        }
        block->live_replicas[i] = replica;
        router_index_put(&block->by_replica, row->id.v, replica);
    }
    return 0;
}

/* Gives the block back, and the objects that only it knows: those that are on no list. */
static void abandon(struct router_block *block)
{
    for (uint32_t i = 0; i < block->replica_count; i++) {
        struct router_replica *replica = block->live_replicas[i];
        if (replica && !list_linked(&replica->link))
            mem_free(replica);
    }
    for (uint32_t i = 0; i < block->deployment_count; i++) {
        struct router_deployment *deployment = block->live_deployments[i];
        if (deployment && !list_linked(&deployment->link))
            mem_free(deployment);
    }
    mem_free(block);
}

/* One effect at most for each request that waits and each replica that comes or goes. */
static int reserve(struct router *router, const struct router_block *block,
                   struct router_effects *effects)
{
    uint32_t replicas = router->replica_count + block->replica_count;
    if (heap_reserve(&router->replica_dues, replicas) != 0)
        return ERROR_MEMORY;
    return router_effects_reserve(effects, router->waiting_count + replicas) == 0 ? 0
                                                                                  : ERROR_MEMORY;
}

/* ---- the second half: the swap ---- */

/* All deployments among the vanished, all their replicas on `former`: as if the new snapshot were
 * empty. */
static void empty_out(struct router *router, struct list *former)
{
    struct list_link *link;
    while ((link = list_pop_front(&router->deployments)) != NULL) {
        struct router_deployment *deployment = list_entry(link, struct router_deployment, link);
        struct list_link *of;
        list_push_back(&router->vanished, link);
        deployment->row = NULL;
        deployment->open = NULL;
        deployment->open_count = deployment->open_capacity = 0;
        for (int place = 0; place < ROUTER_PLACE_COUNT; place++) {
            while ((of = list_pop_front(&deployment->places[place])) != NULL) {
                struct router_replica *replica = list_entry(of, struct router_replica, link);
                replica->in_snapshot = false;
                replica->place = ROUTER_PLACE_APART;
                list_push_back(former, of);
            }
        }
    }
}

static void place_deployments(struct router *router, struct router_block *block)
{
    for (uint32_t i = 0; i < block->replica_count; i++) {
        if (block->live_replicas[i])
            block->live_replicas[i]->deployment->open_capacity++;
    }
    struct router_replica **open = block->open;
    for (uint32_t i = 0; i < block->deployment_count; i++) {
        struct router_deployment *deployment = block->live_deployments[i];
        const struct router_snapshot_deployment *row = &block->deployments[i];
        if (!deployment)
            continue;
        list_remove(&deployment->link);
        list_push_back(&router->deployments, &deployment->link);
        deployment->row = row;
        deployment->max_ongoing = row->max_ongoing > 0 ? row->max_ongoing : 1;
        deployment->open = open;
        router_shift(deployment);
        open += deployment->open_capacity;
        bool over = row->max_queued >= 0 && router_waits(deployment) > (uint64_t)row->max_queued;
        deployment->overhang = over ? router_waits(deployment) : 0;
    }
    ensure(open <= block->open + block->replica_count);
}

static void place_replicas(struct router *router, struct router_block *block,
                           struct router_effects *effects)
{
    for (uint32_t i = 0; i < block->replica_count; i++) {
        struct router_replica *replica = block->live_replicas[i];
        if (!replica)
            continue;
        if (!list_linked(&replica->link)) {
            router->replica_count++;
            replica->deployment->replica_count++;
        }
        replica->in_snapshot = true;
        router_settle(router, replica);
        if (!replica->announced) {
            bool said = router_say_connect(router, replica, block->replicas[i].address, effects);
            ensure(said);
            replica->announced = true;
        }
    }
}

/* Those that no row names: no more is sent to them (R3), and when they hold nothing of ours they
 * are let go. */
static void let_go(struct router *router, struct router_block *block, struct list *former,
                   struct router_effects *effects)
{
    struct list_link *link, *after;
    while ((link = list_first(former)) != NULL)
        router_settle(router, list_entry(link, struct router_replica, link));
    list_each_safe (link, after, &router->leaving) {
        struct router_replica *replica = list_entry(link, struct router_replica, link);
        router_index_put(&block->by_replica, replica->id.v, replica);
        if (router->trace && router_held(replica) > 0)
            trace_print(router->trace, "leave r%llu when its %u are done",
                        (unsigned long long)replica->id.v, router_held(replica));
        router_release(router, replica, effects);
    }
}

void router_release_deployment(struct router *router, struct router_deployment *deployment)
{
    if (deployment->row || deployment->in_flight > 0 || deployment->replica_count > 0 ||
        router_waits(deployment) > 0)
        return;
    ensure(deployment->link.list == &router->vanished && deployment->model_count == 0);
    list_remove(&deployment->link);
    heap_done(&deployment->wanted);
    mem_free(deployment);
}

static void swap(struct router *router, int64_t now_ns, struct router_block *block,
                 struct router_effects *effects)
{
    struct router_block *old = router->block;
    struct list former;
    struct list_link *link, *after;
    list_init(&former);
    ensure_tag(R4, !old || block->version > old->version);
    router->block = block;
    empty_out(router, &former);
    place_deployments(router, block);
    place_replicas(router, block, effects);
    let_go(router, block, &former, effects);
    list_each (link, &router->deployments)
        router_flush(router, now_ns, list_entry(link, struct router_deployment, link), NULL,
                     effects);
    list_each_safe (link, after, &router->vanished) {
        struct router_deployment *deployment = list_entry(link, struct router_deployment, link);
        router_flush(router, now_ns, deployment, NULL, effects);
        router_release_deployment(router, deployment);
    }
    ensure(!router->stuck);
    mem_free(old);
}

int router_snapshot(struct router *router, int64_t now_ns, const struct router_snapshot *snapshot,
                    struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    if (snapshot->version <= router_version(router))
        return 0;
    struct router_block *block = block_new(router, snapshot);
    if (!block)
        return ERROR_MEMORY;
    if (meet_deployments(router, block) != 0 || meet_replicas(router, block) != 0 ||
        reserve(router, block, effects) != 0) {
        abandon(block);
        return ERROR_MEMORY;
    }
    if (router->trace)
        trace_print(router->trace, "snapshot %llu: %u apps, %u deployments, %u replicas",
                    (unsigned long long)block->version, block->app_count, block->deployment_count,
                    block->replica_count);
    swap(router, now_ns, block, effects);
    return 0;
}
