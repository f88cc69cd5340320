/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_route: the table of prefixes agrees with a plain scan over all of them; the heap gives
 * what is due in order.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "heap.h"
#include "rng.h"
#include "router.h"

enum { APPS = 200, PATHS = 20000 };

/* A path of few letters and many slashes, so that prefixes of prefixes are common. */
static struct bytes random_path(struct rng *rng, char *at, size_t most)
{
    size_t size = 1 + rng_below(rng, most);
    at[0] = '/';
    for (size_t i = 1; i < size; i++)
        at[i] = "//ab"[rng_below(rng, 4)];
    return bytes_of(at, size);
}

static bool matches(struct bytes prefix, struct bytes path)
{
    if (prefix.size == 0 || !bytes_starts_with(path, prefix))
        return false;
    return prefix.at[prefix.size - 1] == '/' || path.size == prefix.size ||
           path.at[prefix.size] == '/';
}

static const struct router_snapshot_app *scan(const struct router_snapshot *snapshot,
                                              struct bytes path)
{
    const struct router_snapshot_app *best = NULL;
    for (uint32_t i = 0; i < snapshot->app_count; i++) {
        const struct router_snapshot_app *app = &snapshot->apps[i];
        if (matches(app->route_prefix, path) &&
            (!best || app->route_prefix.size > best->route_prefix.size))
            best = app;
    }
    return best;
}

Test(router_route, agrees_with_a_scan_over_all_prefixes)
{
    static char prefixes[APPS][16], names[APPS][16];
    struct router_snapshot_app apps[APPS];
    struct router_config config = {.request_limit = 1};
    struct router_effects effects = {0};
    struct rng rng;
    rng_init(&rng, 3);
    for (uint32_t i = 0; i < APPS; i++) {
        snprintf(names[i], sizeof(names[i]), "app%u", i);
        apps[i] = (struct router_snapshot_app){.id = {i + 1},
                                               .name = bytes_of_string(names[i]),
                                               .route_prefix = random_path(&rng, prefixes[i], 8),
                                               .ingress = {i + 1}};
        if (i % 10 == 0)
            apps[i].route_prefix.size = 0;
    }
    struct router_snapshot snapshot = {.version = 1, .apps = apps, .app_count = APPS};
    struct router *router = router_new(&config, 1);
    cr_assert_eq(router_snapshot(router, 1, &snapshot, &effects), 0);
    uint32_t found_count = 0;
    for (uint32_t i = 0; i < PATHS; i++) {
        char at[16];
        struct bytes path = random_path(&rng, at, 12), prefix, name;
        struct deployment_id id;
        const struct router_snapshot_app *app = scan(&snapshot, path);
        bool found = router_route(router, path, &id, &prefix, &name);
        cr_assert_eq(found, app != NULL, "%.*s", BYTES_PRINT(path));
        if (!found)
            continue;
        found_count++;
        cr_assert_eq(id.v, app->ingress.v, "%.*s", BYTES_PRINT(path));
        cr_assert(bytes_equal(prefix, app->route_prefix) && bytes_equal(name, app->name));
    }
    cr_assert(found_count > PATHS / 10);
    for (uint32_t i = 0; i < APPS; i++) {
        struct deployment_id id;
        cr_assert(router_find_app(router, apps[i].name, &id));
        cr_assert_eq(id.v, i + 1);
    }
    router_free(router);
    router_effects_done(&effects);
}

Test(heap, gives_links_by_key_and_then_by_order)
{
    static struct heap_link links[1000];
    struct heap heap = {0};
    struct rng rng;
    rng_init(&rng, 5);
    cr_assert_eq(heap_reserve(&heap, 1000), 0);
    for (uint32_t i = 0; i < 1000; i++)
        heap_put(&heap, &links[i], (int64_t)rng_below(&rng, 100), i);
    for (uint32_t i = 0; i < 1000; i += 3)
        heap_move(&heap, &links[i], (int64_t)rng_below(&rng, 100));
    for (uint32_t i = 0; i < 1000; i += 7)
        heap_remove(&heap, &links[i]);
    heap_remove(&heap, &links[0]);
    heap_check(&heap);
    uint32_t count = 0;
    for (struct heap_link *last = NULL, *first; (first = heap_first(&heap)) != NULL;
         last = first, count++) {
        cr_assert(!last || last->key < first->key ||
                  (last->key == first->key && last->order < first->order));
        heap_remove(&heap, first);
        cr_assert(!heap_linked(first));
    }
    cr_assert_eq(count, 1000 - 143);
    heap_done(&heap);
}
