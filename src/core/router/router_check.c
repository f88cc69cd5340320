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

static void check_holdings(const struct router_replica *replica)
{
    const struct list_link *link;
    uint32_t told = 0, in_flight = 0, counted = 0;
    list_each (link, &replica->holdings) {
        const struct router_holding *holding = list_entry(link, struct router_holding, link);
        ensure(holding->replica == replica && (holding->told || holding->in_flight > 0));
        ensure(holding->model->deployment == replica->deployment && !holding->fresh);
        ensure(holding->index < holding->model->holder_count &&
               holding->model->holders[holding->index] == holding);
        told += holding->told;
        in_flight += holding->in_flight;
    }
    list_each (link, &replica->requests) {
        const struct router_request *request = list_entry(link, struct router_request, link);
        ensure(!request->holding ||
               (request->holding->replica == replica && request->holding->model == request->model));
        counted += request->holding != NULL;
    }
    ensure(told == replica->told_count && told <= ROUTER_MODELS_LIMIT && in_flight == counted);
    ensure(replica->tells || told == 0);
}

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
    check_holdings(replica);
}

/* One line; `model`: whose, null for the line of those whom any replica may serve. */
static void check_line(const struct router_deployment *deployment, const struct router_line *line,
                       const struct router_model *model, struct tally *tally)
{
    const struct list_link *link;
    uint64_t before = 0;
    list_each (link, &line->requests) {
        const struct router_request *request = list_entry(link, struct router_request, link);
        ensure_tag(R1,
                   request->state == ROUTER_REQUEST_WAITING && request->deployment == deployment);
        ensure(!request->replica && !request->holding && request->arrival > before);
        ensure(!model || (request->model == model && !request->relaxed && request->window_ns > 0));
        ensure(model || !request->model || request->relaxed);
        ensure(heap_linked(&request->due) == (model || request->deadline_ns != 0));
        before = request->arrival;
        tally->due += heap_linked(&request->due);
    }
    tally->waiting += line->requests.length;
}

/* No request waits for a model beside an OPEN replica that holds it or holds the fewest. */
static void check_wanted(const struct router *router, const struct router_deployment *deployment,
                         struct tally *tally)
{
    size_t picky = 0;
    heap_check(&deployment->wanted);
    for (uint32_t i = 0; i < deployment->wanted.count; i++) {
        const struct router_model *model =
            heap_entry(deployment->wanted.at[i], struct router_model, wanted);
        const struct list_link *first = model->waiting.requests.head.next;
        ensure(model->deployment == deployment && model->waiting.requests.length > 0);
        ensure(model->wanted.key ==
               (int64_t)list_entry(first, struct router_request, link)->arrival);
        check_line(deployment, &model->waiting, model, tally);
        picky += model->waiting.requests.length;
        for (uint32_t at = 0; at < model->holder_count && !router->stuck; at++)
            ensure(model->holders[at]->replica->place != ROUTER_PLACE_OPEN);
    }
    ensure(picky == deployment->picky_count);
    for (uint32_t i = 0; i < deployment->open_count && picky > 0 && !router->stuck; i++)
        ensure(deployment->fewest_stale || deployment->open[i]->told_count > deployment->fewest);
}

static void check_models(const struct router *router)
{
    uint64_t models = 0, named = 0, expected = 0;
    for (uint32_t i = 0; i < router->bucket_count; i++) {
        const struct list_link *link;
        list_each (link, &router->buckets[i]) {
            const struct router_model *model = list_entry(link, struct router_model, link);
            ensure(model->request_count > 0 || model->holder_count > 0);
            ensure(model->id_size > 0 && model->id_size <= ROUTER_MODEL_ID_LIMIT);
            named += model->request_count;
            models++;
        }
    }
    for (uint32_t i = 0; i < router->chunk_capacity * ROUTER_CHUNK_COUNT; i++) {
        const struct router_request *request = router_slot(router, i);
        expected += request && request->model;
    }
    ensure(models == router->model_count && named == expected);
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
    check_line(deployment, &deployment->waiting, NULL, tally);
    check_wanted(router, deployment, tally);
    if (router->stuck)
        return;
    ensure(list_empty(&deployment->waiting.requests) ||
           deployment->open_count == 0); /* no lost wake-up */
    if (deployment->row && deployment->row->max_queued >= 0) {
        uint64_t limit = (uint64_t)deployment->row->max_queued;
        limit = limit > deployment->overhang ? limit : deployment->overhang;
        ensure_tag(R2, router_waits(deployment) <= limit);
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
            request->replica ? &request->replica->requests : &request->deployment->waiting.requests;
        const struct list *other = request->model ? &request->model->waiting.requests : list;
        ensure_tag(R1, request->link.list == list ||
                           (!request->replica && request->link.list == other));
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
        ensure(!deployment->row && (router->stuck || router_waits(deployment) == 0));
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
    check_models(router);
    heap_check(&router->deadlines);
    heap_check(&router->replica_dues);
    if (router->known_count == 0 && !router->stuck) /* M1: at rest nothing is left over */
        ensure_tag(M1, list_empty(&router->leaving) && list_empty(&router->vanished));
}

static void dump_replica(const struct router_replica *replica, struct text *out)
{
    const struct list_link *link;
    text_print(out, "  r%llu %s, ours %u, others %u%s", (unsigned long long)replica->id.v,
               place_words[replica->place], router_held(replica), replica->others,
               replica->probed ? ", probed" : "");
    if (replica->tells)
        text_print(out, ", %u models:", replica->told_count);
    list_each (link, &replica->holdings) {
        const struct router_holding *holding = list_entry(link, struct router_holding, link);
        text_print(out, holding->told ? " %.*s" : " (%.*s)", (int)holding->model->id_size,
                   (const char *)holding->model->id);
    }
    text_add_byte(out, '\n');
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
                   BYTES_PRINT(deployment->row->name), router_waits(deployment),
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
