/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_check: every invariant of the router, and how it looks.
 *
 * The check walks everything and is for tests, the simulated world and debugging; the dump is one
 * printer for the dashboard, for tests and for a person with a core dump.
 */
#include "pool.h"
#include "router_inner.h"

static const char *const place_words[] = {"apart",  "open",     "full",   "crowded",
                                          "silent", "draining", "leaving"};

struct tally {
    uint64_t waiting, in_flight, replicas, due; /* due: requests in `deadlines` */
};

static void check_replica(const struct router *router, const struct router_replica *replica,
                          const struct router_deployment *deployment)
{
    const struct list_link *link;
    uint32_t held = router_held(replica);
    ensure(replica->deployment == deployment);
    ensure(router_index_get(&router->block->by_replica, replica->id.v) == replica);
    ensure_tag(R3, replica->in_snapshot == (replica->place != ROUTER_PLACE_LEAVING));
    ensure(replica->announced);
    list_each (link, &replica->requests) {
        const struct router_request *request = list_entry(link, struct router_request, link);
        ensure_tag(R1, request->replica == replica && request->deployment == deployment);
        ensure(request->state == ROUTER_REQUEST_IN_FLIGHT ||
               request->state == ROUTER_REQUEST_GIVEN_UP);
        ensure(!heap_linked(&request->due));
    }
    bool open = replica->place == ROUTER_PLACE_OPEN;
    if (open) {
        ensure_tag(R2, held < deployment->max_ongoing);
        ensure_tag(R3, replica->connected && !replica->draining && !replica->silent);
        ensure(replica->open_index < deployment->open_count &&
               deployment->open[replica->open_index] == replica);
    }
    int64_t due = router_replica_due_ns(router, replica);
    ensure(due == 0 || (heap_linked(&replica->due) && replica->due.key <= due));
}

static void check_waiting(const struct router_deployment *deployment, struct tally *tally)
{
    const struct list_link *link;
    uint64_t before = 0;
    list_each (link, &deployment->waiting) {
        const struct router_request *request = list_entry(link, struct router_request, link);
        ensure_tag(R1,
                   request->state == ROUTER_REQUEST_WAITING && request->deployment == deployment);
        ensure(!request->replica && request->arrival > before);
        ensure(heap_linked(&request->due) == (request->deadline_ns != 0));
        before = request->arrival;
        tally->due += heap_linked(&request->due);
    }
    tally->waiting += deployment->waiting.length;
}

static void check_deployment(const struct router *router,
                             const struct router_deployment *deployment, struct tally *tally)
{
    const struct list_link *link;
    uint64_t replicas = 0;
    for (int place = 0; place < ROUTER_PLACE_COUNT; place++) {
        list_each (link, &deployment->places[place]) {
            const struct router_replica *replica = list_entry(link, struct router_replica, link);
            ensure(replica->place == place);
            check_replica(router, replica, deployment);
            replicas++;
            tally->in_flight += router_held(replica);
        }
    }
    tally->replicas += replicas;
    ensure(replicas <= deployment->replica_count);
    ensure(deployment->open_count == deployment->places[ROUTER_PLACE_OPEN].length);
    ensure(deployment->open_count <= deployment->open_capacity);
    check_waiting(deployment, tally);
    if (router->stuck)
        return;
    ensure(list_empty(&deployment->waiting) || deployment->open_count == 0); /* no lost wake-up */
    if (deployment->row && deployment->row->max_queued >= 0) {
        uint64_t limit = (uint64_t)deployment->row->max_queued;
        limit = limit > deployment->overhang ? limit : deployment->overhang;
        ensure_tag(R2, deployment->waiting.length <= limit);
    }
}

/* Each slot that holds a request is on the list of its state. */
static uint64_t count_requests(const struct router *router)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < router->chunk_capacity * ROUTER_CHUNK_COUNT; i++) {
        const struct router_request *request = router_slot(router, i);
        if (!request || request->state == ROUTER_REQUEST_NONE)
            continue;
        count++;
        ensure(pool_id_index(request->id.v) == i);
        const struct list *list =
            request->replica ? &request->replica->requests : &request->deployment->waiting;
        ensure_tag(R1, request->link.list == list);
    }
    return count;
}

void router_check(const struct router *router)
{
    struct tally tally = {0};
    const struct list_link *link;
    list_each (link, &router->deployments) {
        const struct router_deployment *deployment =
            list_entry(link, struct router_deployment, link);
        ensure(deployment->row && deployment_id_equal(deployment->row->id, deployment->id));
        check_deployment(router, deployment, &tally);
    }
    list_each (link, &router->vanished) {
        const struct router_deployment *deployment =
            list_entry(link, struct router_deployment, link);
        ensure(!deployment->row && (router->stuck || list_empty(&deployment->waiting)));
        check_deployment(router, deployment, &tally);
    }
    list_each (link, &router->leaving) {
        const struct router_replica *replica = list_entry(link, struct router_replica, link);
        ensure(replica->place == ROUTER_PLACE_LEAVING &&
               (router->stuck || router_held(replica) > 0));
        check_replica(router, replica, replica->deployment);
        tally.replicas++;
        tally.in_flight += router_held(replica);
    }
    ensure_tag(R1, tally.waiting + tally.in_flight == router->known_count);
    ensure_tag(R1, count_requests(router) == router->known_count);
    ensure(tally.waiting == router->waiting_count && tally.replicas == router->replica_count);
    ensure(tally.due == router->deadlines.count);
    ensure(router->known_count <= router->request_limit);
    heap_check(&router->deadlines);
    heap_check(&router->replica_dues);
    if (router->known_count == 0 && !router->stuck) /* M1: at rest nothing is left over */
        ensure_tag(M1, list_empty(&router->leaving) && list_empty(&router->vanished));
}

static void dump_replica(const struct router_replica *replica, struct text *out)
{
    text_print(out, "  r%llu %s, ours %u, others %u%s\n", (unsigned long long)replica->id.v,
               place_words[replica->place], router_held(replica), replica->others,
               replica->probed ? ", probed" : "");
}

void router_dump(const struct router *router, struct text *out)
{
    const struct list_link *link, *of;
    text_print(out, "snapshot %llu, %u requests\n", (unsigned long long)router_version(router),
               router->known_count);
    list_each (link, &router->deployments) {
        const struct router_deployment *deployment =
            list_entry(link, struct router_deployment, link);
        text_print(out, "d%llu %.*s/%.*s, %zu waiting, %u in flight, limit %u each%s\n",
                   (unsigned long long)deployment->id.v, BYTES_PRINT(deployment->row->app),
                   BYTES_PRINT(deployment->row->name), deployment->waiting.length,
                   deployment->in_flight, deployment->max_ongoing,
                   deployment->row->available ? "" : ", unavailable");
        for (int place = 0; place < ROUTER_PLACE_COUNT; place++) {
            list_each (of, &deployment->places[place])
                dump_replica(list_entry(of, struct router_replica, link), out);
        }
    }
    list_each (link, &router->leaving)
        dump_replica(list_entry(link, struct router_replica, link), out);
}
