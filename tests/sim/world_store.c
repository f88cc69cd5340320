/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_store: store.h in memory: what survives the controller.
 *
 * Targets are kept as copies.  A write may be refused (FAULT_STORE_FAILS); what was confirmed is
 * found again by every later life.
 */
#include "store.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "world.h"

enum { STORE_ROWS = 8 };

struct kept {
    struct list_link link; /* on store->apps, in the order of ids */
    struct controller_app_target target;
    struct controller_deployment_target rows[STORE_ROWS];
};

struct world_store {
    uint64_t lives;
    struct list apps;
    struct error refusal; /* of the transaction that is open */
};

struct world_store *world_store_new(void)
{
    struct world_store *store = mem_new(sizeof *store);
    list_init(&store->apps);
    return store;
}

static struct bytes copy_of(struct bytes bytes)
{
    return bytes_of(mem_copy_string((const char *)bytes.at, bytes.size), bytes.size);
}

static void free_bytes(struct bytes bytes)
{
    mem_free((void *)bytes.at);
}

static void kept_free(struct kept *kept)
{
    for (uint32_t i = 0; i < kept->target.deployment_count; i++) {
        free_bytes(kept->rows[i].name);
        free_bytes(kept->rows[i].body);
    }
    free_bytes(kept->target.name);
    free_bytes(kept->target.route_prefix);
    free_bytes(kept->target.ingress);
    list_remove(&kept->link);
    mem_free(kept);
}

struct world_store *world_store_free(struct world_store *store)
{
    struct list_link *link;
    while ((link = list_first(&store->apps)))
        kept_free(list_entry(link, struct kept, link));
    return mem_free(store);
}

static struct kept *find(struct world_store *store, struct application_id id)
{
    struct list_link *link;
    list_each (link, &store->apps)
        if (application_id_equal(list_entry(link, struct kept, link)->target.id, id))
            return list_entry(link, struct kept, link);
    return NULL;
}

bool world_store_has(const struct world_store *store, const char *app, uint64_t version)
{
    struct list_link *link;
    list_each (link, &store->apps) {
        const struct kept *kept = list_entry(link, struct kept, link);
        if (bytes_equal(kept->target.name, bytes_of_string(app)) &&
            kept->rows[0].version == version)
            return true;
    }
    return false;
}

static bool refuses(struct error *reterr)
{
    if (sim_now_ns() < world_now->disk_full_until_ns && !world_now->calm) {
        error_set(reterr, ERROR_SYSTEM, "the disk is full");
        return true;
    }
    if (!world_now->fault_on[FAULT_STORE_FAILS] || world_now->calm || !world_one_in(world_now, 3))
        return false;
    error_set(reterr, ERROR_SYSTEM, "the disk is full");
    return true;
}

/* ---- store.h ---- */

int store_open(struct store *store, const struct store_config *config, struct error *reterr)
{
    *store = (struct store){.life = world_now->store->lives++, .size_limit = config->size_limit};
    return 0;
}

void store_close(struct store *store)
{
}

static void insert(struct world_store *store, struct kept *kept)
{
    struct list_link *link;
    list_each (link, &store->apps)
        if (list_entry(link, struct kept, link)->target.id.v > kept->target.id.v) {
            list_insert_before(link, &kept->link);
            return;
        }
    list_push_back(&store->apps, &kept->link);
}

/* The disk takes a transaction or it does not: that is known at once. */
void store_begin(struct store *store)
{
    ensure(!store->open);
    store->open = true;
    world_now->store->refusal = (struct error){0};
    refuses(&world_now->store->refusal);
}

int store_commit(struct store *store, struct error *reterr)
{
    const struct error *refusal = &world_now->store->refusal;
    ensure(store->open);
    store->open = false;
    return refusal->code ? error_set(reterr, refusal->code, "%s", refusal->text) : 0;
}

int store_save_app(struct store *store, const struct controller_app_target *target,
                   struct error *reterr)
{
    ensure(store->open); /* the role opens one for every change */
    if (world_now->store->refusal.code)
        return 0;
    struct kept *old = find(world_now->store, target->id), *kept = mem_new(sizeof *kept);
    ensure(target->deployment_count <= STORE_ROWS);
    ensure_tag(C1, target->id.v != 0);
    kept->target = *target;
    kept->target.deployments = kept->rows;
    kept->target.name = copy_of(target->name);
    kept->target.route_prefix = copy_of(target->route_prefix);
    kept->target.ingress = copy_of(target->ingress);
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        kept->rows[i] = target->deployments[i];
        kept->rows[i].name = copy_of(target->deployments[i].name);
        kept->rows[i].body = copy_of(target->deployments[i].body);
    }
    if (old)
        kept_free(old);
    insert(world_now->store, kept);
    return 0;
}

int store_delete_app(struct store *store, struct application_id app, struct error *reterr)
{
    ensure(store->open);
    if (world_now->store->refusal.code)
        return 0;
    struct kept *kept = find(world_now->store, app);
    if (kept)
        kept_free(kept);
    return 0;
}

void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner)
{
    struct list_link *link;
    list_each (link, &world_now->store->apps)
        take(owner, &list_entry(link, struct kept, link)->target, NULL);
}
