/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_table: finding things in the newest snapshot: routes, names, ids.
 *
 * Routes: a prefix can end only where a segment of the path ends, or just behind a slash.  So one
 * pass over the path, hashing as it goes and looking at each such place into a table of prefixes,
 * finds the longest match: O(path), not O(applications).  It ends at the length of the longest
 * prefix, and skips lengths that no prefix has.
 */
#include "router_inner.h"

static const uint64_t SPREAD = 0x9E3779B97F4A7C15u;    /* 2^64 / golden ratio */
static const uint64_t FNV_BASIS = 0xCBF29CE484222325u; /* FNV-1a, 64 bits */
static const uint64_t FNV_PRIME = 0x00000100000001B3u;

static uint64_t first_slot(const struct router_index *index, uint64_t key)
{
    return ((key * SPREAD) >> 24) & index->mask;
}

void router_index_put(struct router_index *index, uint64_t key, void *value)
{
    ensure(key != 0 && value && index->slots);
    uint64_t at = first_slot(index, key);
    for (uint64_t steps = 0; index->slots[at].key != 0; at = (at + 1) & index->mask)
        ensure(steps++ < index->mask);
    index->slots[at] = (struct router_slot){key, value};
}

void *router_index_next(const struct router_index *index, uint64_t key, uint64_t *cursor)
{
    if (!index->slots || key == 0)
        return NULL;
    uint64_t first = first_slot(index, key);
    while (*cursor <= index->mask) {
        const struct router_slot *slot = &index->slots[(first + (*cursor)++) & index->mask];
        if (slot->key == 0)
            return NULL;
        if (slot->key == key && slot->value)
            return slot->value;
    }
    return NULL;
}

void router_index_drop(struct router_index *index, uint64_t key, const void *value)
{
    if (!index->slots)
        return;
    uint64_t at = first_slot(index, key);
    for (uint64_t steps = 0; steps <= index->mask && index->slots[at].key != 0; steps++) {
        if (index->slots[at].key == key && index->slots[at].value == value) {
            index->slots[at].value = NULL;
            return;
        }
        at = (at + 1) & index->mask;
    }
}

uint64_t router_name_key(struct bytes app, struct bytes name)
{
    return (bytes_hash(app) * SPREAD ^ bytes_hash(name)) | 1;
}

uint64_t router_prefix_key(struct bytes prefix)
{
    uint64_t hash = FNV_BASIS;
    for (size_t i = 0; i < prefix.size; i++)
        hash = (hash ^ prefix.at[i]) * FNV_PRIME;
    return hash | 1;
}

static const struct router_snapshot_app *app_with_prefix(const struct router_block *block,
                                                         uint64_t hash, struct bytes prefix)
{
    if ((block->prefix_sizes >> (prefix.size % 64) & 1) == 0)
        return NULL;
    uint64_t cursor = 0;
    const struct router_snapshot_app *app;
    while ((app = router_index_next(&block->by_prefix, hash | 1, &cursor)) != NULL) {
        if (bytes_equal(app->route_prefix, prefix))
            return app;
    }
    return NULL;
}

bool router_route(const struct router *router, struct bytes path,
                  struct deployment_id *ret_deployment, struct bytes *ret_prefix,
                  struct bytes *ret_app)
{
    const struct router_block *block = router->block;
    if (!block)
        return false;
    const struct router_snapshot_app *best = NULL;
    uint64_t hash = FNV_BASIS;
    for (size_t size = 1; size <= path.size && size <= block->prefix_longest; size++) {
        uint8_t last = path.at[size - 1];
        hash = (hash ^ last) * FNV_PRIME;
        if (last != '/' && size != path.size && path.at[size] != '/')
            continue;
        const struct router_snapshot_app *app =
            app_with_prefix(block, hash, bytes_head(path, size));
        best = app ? app : best;
    }
    if (!best)
        return false;
    *ret_deployment = best->ingress;
    *ret_prefix = best->route_prefix;
    *ret_app = best->name;
    return true;
}

bool router_find_deployment(const struct router *router, struct bytes app, struct bytes name,
                            struct deployment_id *ret_deployment)
{
    uint64_t cursor = 0;
    const struct router_snapshot_deployment *row;
    if (!router->block)
        return false;
    while ((row = router_index_next(&router->block->by_name, router_name_key(app, name),
                                    &cursor)) != NULL) {
        if (bytes_equal(row->app, app) && bytes_equal(row->name, name)) {
            *ret_deployment = row->id;
            return true;
        }
    }
    return false;
}

bool router_find_app(const struct router *router, struct bytes app,
                     struct deployment_id *ret_ingress)
{
    uint64_t cursor = 0;
    const struct router_snapshot_app *row;
    if (!router->block)
        return false;
    while ((row = router_index_next(&router->block->by_app, router_name_key(app, (struct bytes){0}),
                                    &cursor)) != NULL) {
        if (bytes_equal(row->name, app)) {
            *ret_ingress = row->ingress;
            return true;
        }
    }
    return false;
}

static const struct router_deployment *live(const struct router *router, struct deployment_id id)
{
    return router->block ? router_index_get(&router->block->by_deployment, id.v) : NULL;
}

const struct router_snapshot_deployment *router_deployment(const struct router *router,
                                                           struct deployment_id id)
{
    const struct router_deployment *deployment = live(router, id);
    return deployment ? deployment->row : NULL;
}

uint64_t router_version(const struct router *router)
{
    return router->block ? router->block->version : 0;
}

uint32_t router_app_count(const struct router *router)
{
    return router->block ? router->block->app_count : 0;
}

const struct router_snapshot_app *router_app_at(const struct router *router, uint32_t index)
{
    ensure(index < router_app_count(router));
    return &router->block->apps[index];
}

uint32_t router_waiting(const struct router *router, struct deployment_id id)
{
    const struct router_deployment *deployment = live(router, id);
    return deployment ? (uint32_t)router_waits(deployment) : 0;
}

uint32_t router_in_flight(const struct router *router, struct deployment_id id)
{
    const struct router_deployment *deployment = live(router, id);
    return deployment ? deployment->in_flight : 0;
}

uint32_t router_ready_replicas(const struct router *router, struct deployment_id id)
{
    const struct router_deployment *deployment = live(router, id);
    if (!deployment)
        return 0;
    return (uint32_t)(deployment->places[ROUTER_PLACE_OPEN].length +
                      deployment->places[ROUTER_PLACE_FULL].length +
                      deployment->places[ROUTER_PLACE_CROWDED].length);
}
