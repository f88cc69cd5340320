/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_page: what runs, in Ray Serve's words, as one MessagePack document.
 *
 *     {"applications": {name: {"status", "message", "route_prefix" (nil: none),
 *                              "last_deployed_time_s",
 *                              "deployments": {name: {"status", "status_trigger", "message",
 *                                                     "target_num_replicas",
 *                                                     "replica_states": {word: count},
 *                                                     "replicas": [{"replica_id", "state", "pid",
 *                                                                   "address", "silent"}]
 *                                                                  (detail)}}}},
 *      "proxies": {name: "HEALTHY"},
 *      "store": {"path" (nil: nothing is kept), "notice", "trouble"}}     (store.h)
 *
 * Two passes over the mind's tables: the first threads the rows of each owner together, so that the
 * second writes each owner's rows without searching for them.
 */
#include <string.h>

#include "conduct.h"
#include "ensure.h"
#include "map.h"
#include "mem.h"
#include "value.h"

/* Rows of one table by their owner: chains of indexes plus one, in the order of the table. */
struct chains {
    uint32_t *next; /* by row */
    struct chain {
        uint32_t first, last, count;
    } * of; /* by owner */
};

struct page {
    const struct controller *mind;
    const struct status_names *names;
    struct text *out;
    uint32_t app_count, deployment_count, replica_count;
    struct chains deployments; /* by application */
    struct chains replicas;    /* by deployment */
};

/* ---- threading ---- */

static void chains_init(struct chains *chains, uint32_t row_count, uint32_t owner_count)
{
    chains->next = mem_new((row_count + 1) * sizeof *chains->next);
    chains->of = mem_new((owner_count + 1) * sizeof *chains->of);
}

static void chains_done(struct chains *chains)
{
    mem_free(chains->next);
    mem_free(chains->of);
}

static void chains_add(struct chains *chains, uint32_t owner, uint32_t row)
{
    struct chain *chain = chains->of + owner;
    if (chain->last)
        chains->next[chain->last - 1] = row + 1;
    else
        chain->first = row + 1;
    chain->last = row + 1;
    chain->count++;
}

/* Views of a table, in the order of ids: rows of an owner are found by bisection. */
static uint32_t find_deployment(const struct page *page, uint64_t id)
{
    uint32_t low = 0, high = page->deployment_count;
    struct controller_deployment_view view;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        controller_deployment_at(page->mind, middle, &view);
        if (view.id.v < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < page->deployment_count && controller_deployment_at(page->mind, low, &view) &&
                   view.id.v == id
               ? low
               : page->deployment_count;
}

static void count_rows(struct page *page)
{
    struct controller_app_view app;
    struct controller_deployment_view deployment;
    struct controller_replica_view replica;
    while (controller_app_at(page->mind, page->app_count, &app))
        page->app_count++;
    while (controller_deployment_at(page->mind, page->deployment_count, &deployment))
        page->deployment_count++;
    while (page->names->detail && controller_replica_at(page->mind, page->replica_count, &replica))
        page->replica_count++;
}

static void thread_rows(struct page *page)
{
    struct controller_app_view app;
    struct controller_deployment_view deployment;
    struct controller_replica_view replica;
    struct map apps; /* index plus one by name */
    chains_init(&page->deployments, page->deployment_count, page->app_count);
    chains_init(&page->replicas, page->replica_count, page->deployment_count);
    map_init(&apps, (size_t)page->app_count + 1);
    for (uint32_t i = 0; i < page->app_count; i++) {
        controller_app_at(page->mind, i, &app);
        int put = map_try_put_name(&apps, app.name, (void *)(uintptr_t)(i + 1));
        ensure(put == 0);
    }
    for (uint32_t i = 0; i < page->deployment_count; i++) {
        controller_deployment_at(page->mind, i, &deployment);
        uintptr_t owner = (uintptr_t)map_get_name(&apps, deployment.app);
        ensure(owner > 0);
        chains_add(&page->deployments, (uint32_t)owner - 1, i);
    }
    for (uint32_t i = 0; i < page->replica_count; i++) {
        controller_replica_at(page->mind, i, &replica);
        uint32_t owner = find_deployment(page, replica.deployment.v);
        if (owner < page->deployment_count) /* else nobody's: it is about to end */
            chains_add(&page->replicas, owner, i);
    }
    map_done(&apps);
}

/* ---- writing ---- */

static void write_text(struct text *out, const char *key, struct bytes text)
{
    value_write_string(out, bytes_of_string(key));
    value_write_string(out, text);
}

/* Several states may have one public word; words without a replica are left out. */
static void write_states(struct text *out, const uint32_t counts[REPLICA_STATE_COUNT])
{
    uint32_t of_word[REPLICA_STATE_COUNT] = {0}, words = 0;
    for (int state = 0; state < REPLICA_STATE_COUNT; state++) {
        int first = 0; /* the first state with this word stands for all */
        while (strcmp(replica_state_word((enum replica_state)first),
                      replica_state_word((enum replica_state)state)) != 0)
            first++;
        words += of_word[first] == 0 && counts[state] > 0;
        of_word[first] += counts[state];
    }
    value_write_string(out, BYTES("replica_states"));
    value_write_map(out, words);
    for (int state = 0; state < REPLICA_STATE_COUNT; state++)
        if (of_word[state]) {
            value_write_string(out, bytes_of_string(replica_state_word((enum replica_state)state)));
            value_write_uint(out, of_word[state]);
        }
}

static void write_replicas(struct page *page, uint32_t deployment)
{
    struct text *out = page->out;
    const struct chain *chain = page->replicas.of + deployment;
    struct controller_replica_view view;
    value_write_string(out, BYTES("replicas"));
    value_write_array(out, chain->count);
    for (uint32_t row = chain->first; row; row = page->replicas.next[row - 1]) {
        controller_replica_at(page->mind, row - 1, &view);
        value_write_map(out, 6);
        value_write_string(out, BYTES("rank"));
        if (view.rank < 0)
            value_write_nil(out);
        else
            value_write_int(out, view.rank);
        value_write_string(out, BYTES("replica_id"));
        value_write_uint(out, view.id.v);
        write_text(out, "state",
                   view.updating ? BYTES("UPDATING")
                                 : bytes_of_string(replica_state_word(view.state)));
        value_write_string(out, BYTES("pid"));
        value_write_int(out, view.pid);
        write_text(out, "address", view.address);
        value_write_string(out, BYTES("silent"));
        value_write_bool(out, view.silent);
    }
}

static void write_deployment(struct page *page, uint32_t index)
{
    struct text *out = page->out;
    struct controller_deployment_view view;
    controller_deployment_at(page->mind, index, &view);
    value_write_string(out, view.name);
    value_write_map(out, page->names->detail ? 6 : 5);
    write_text(out, "status", bytes_of_string(deployment_status_word(view.status)));
    write_text(out, "status_trigger", bytes_of_string(deployment_trigger_word(view.trigger)));
    write_text(out, "message", view.message);
    value_write_string(out, BYTES("target_num_replicas"));
    value_write_uint(out, view.target_replicas);
    write_states(out, view.replica_count);
    if (page->names->detail)
        write_replicas(page, index);
}

static void write_app(struct page *page, uint32_t index)
{
    struct text *out = page->out;
    const struct status_names *names = page->names;
    const struct chain *chain = page->deployments.of + index;
    struct controller_app_view view;
    controller_app_at(page->mind, index, &view);
    value_write_string(out, view.name);
    value_write_map(out, 6);
    write_text(out, "status", bytes_of_string(application_status_word(view.status)));
    write_text(out, "message", view.message);
    value_write_string(out, BYTES("route_prefix"));
    if (view.route_prefix.size)
        value_write_string(out, view.route_prefix);
    else
        value_write_nil(out);
    write_text(out, "source", view.declarative ? BYTES("declarative") : BYTES("imperative"));
    value_write_string(out, BYTES("last_deployed_time_s"));
    value_write_float(out, (double)(names->wall_ns - (names->now_ns - view.deployed_ns)) / 1e9);
    value_write_string(out, BYTES("deployments"));
    value_write_map(out, chain->count);
    for (uint32_t row = chain->first; row; row = page->deployments.next[row - 1])
        write_deployment(page, row - 1);
}

/* A proxy that is away for a moment is not told. */
static void write_proxies(struct page *page)
{
    const struct list *peers = page->names->peers;
    struct list_link *link;
    uint32_t count = 0;
    list_each (link, peers)
        count += list_entry(link, struct peer, link)->role == WIRE_ROLE_PROXY;
    value_write_string(page->out, BYTES("proxies"));
    value_write_map(page->out, count);
    list_each (link, peers) {
        const struct peer *peer = list_entry(link, struct peer, link);
        if (peer->role == WIRE_ROLE_PROXY)
            write_text(page->out, peer->name, BYTES("HEALTHY"));
    }
}

static void write_store(struct page *page)
{
    const struct store *store = page->names->store;
    value_write_string(page->out, BYTES("store"));
    value_write_map(page->out, 3);
    value_write_string(page->out, BYTES("path"));
    if (store->path[0])
        value_write_string(page->out, bytes_of_string(store->path));
    else
        value_write_nil(page->out);
    write_text(page->out, "notice", bytes_of_string(store->notice));
    write_text(page->out, "trouble", bytes_of_string(store->trouble));
}

void status_write(const struct controller *mind, const struct status_names *names, struct text *out)
{
    struct page page = {.mind = mind, .names = names, .out = out};
    count_rows(&page);
    thread_rows(&page);
    value_write_map(out, 3);
    value_write_string(out, BYTES("applications"));
    value_write_map(out, page.app_count);
    for (uint32_t i = 0; i < page.app_count; i++)
        write_app(&page, i);
    write_proxies(&page);
    write_store(&page);
    chains_done(&page.deployments);
    chains_done(&page.replicas);
}
