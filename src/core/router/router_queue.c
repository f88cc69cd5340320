/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_queue: the requests that the router knows, by the index of their id, and the queue of each
 * deployment.
 *
 * A queue is several lines: one of the requests that any replica may get, and one per model of
 * those that insist on it (picky).  Each line is in strict order of arrival, and whatever replica
 * becomes free gets the oldest that may have it.  A request that a replica did not take goes back
 * to the place that its arrival gives it.  When that makes the queue longer than max_queued, the
 * youngest is refused: it was let in to a place that was not free (R2).
 */
#include "error.h"
#include "pool.h"
#include "router_inner.h"

struct router_request *router_slot(const struct router *router, uint32_t index)
{
    uint32_t chunk = index / ROUTER_CHUNK_COUNT;
    if (chunk >= router->chunk_capacity || !router->chunks[chunk])
        return NULL;
    return &router->chunks[chunk][index % ROUTER_CHUNK_COUNT];
}

struct router_request *router_find(const struct router *router, struct request_id id)
{
    struct router_request *request = router_slot(router, pool_id_index(id.v));
    return request && request->state != ROUTER_REQUEST_NONE && request_id_equal(request->id, id)
               ? request
               : NULL;
}

/* Memory for the chunk of `index`, and in `deadlines` for all requests that chunks hold. */
static int grow(struct router *router, uint32_t index)
{
    uint32_t chunk = index / ROUTER_CHUNK_COUNT;
    ensure(chunk < router->chunk_capacity && !router->chunks[chunk]);
    if (heap_reserve(&router->deadlines, (router->chunk_count + 1) * ROUTER_CHUNK_COUNT) != 0)
        return ERROR_MEMORY;
    router->chunks[chunk] = mem_try(ROUTER_CHUNK_COUNT * sizeof(struct router_request));
    if (!router->chunks[chunk])
        return ERROR_MEMORY;
    router->chunk_count++;
    return 0;
}

struct router_request *router_remember(struct router *router, const struct router_submit *submit,
                                       struct router_deployment *deployment)
{
    uint32_t index = pool_id_index(submit->request.v);
    if (!router_slot(router, index) && grow(router, index) != 0)
        return NULL;
    struct router_request *request = router_slot(router, index);
    ensure_tag(R1, request->state == ROUTER_REQUEST_NONE);
    ensure(!list_linked(&request->link) && !heap_linked(&request->due));
    ensure(!request->model && !request->holding);
    if (submit->model_id.size > 0 && submit->model_id.size <= ROUTER_MODEL_ID_LIMIT) {
        request->model = router_model_for(router, deployment, submit->model_id);
        if (!request->model)
            return NULL;
        request->model->request_count++;
        request->relaxed = router->model_wait_ns == 0;
        request->window_ns = 0;
    }
    request->id = submit->request;
    request->arrival = ++router->arrival;
    request->deployment = deployment;
    request->replica = NULL;
    request->deadline_ns = submit->deadline_ns;
    request->state = ROUTER_REQUEST_WAITING;
    router->known_count++;
    return request;
}

static struct router_request *waiting_entry(struct list_link *link)
{
    return list_entry(link, struct router_request, link);
}

static struct router_request *line_first(struct router_line *line)
{
    struct list_link *link = list_first(&line->requests);
    return link ? waiting_entry(link) : NULL;
}

static bool picky(const struct router_request *request)
{
    return request->model && request->link.list == &request->model->waiting.requests;
}

/* Where a model stands among the wanted ones follows from the first on its line. */
static void sort_wanted(struct router_model *model)
{
    struct heap *wanted = &model->deployment->wanted;
    struct router_request *first = line_first(&model->waiting);
    heap_remove(wanted, &model->wanted);
    if (first)
        heap_put(wanted, &model->wanted, (int64_t)first->arrival, 0);
}

/* Off the line it waits on. */
static void leave_line(struct router *router, struct router_request *request)
{
    struct router_deployment *deployment = request->deployment;
    bool was_picky = picky(request);
    struct router_line *line = was_picky ? &request->model->waiting : &deployment->waiting;
    ensure(request->link.list == &line->requests && router->waiting_count > 0);
    list_remove(&request->link);
    heap_remove(&router->deadlines, &request->due);
    router->waiting_count--;
    if (line->returned == request)
        line->returned = NULL;
    if (was_picky) {
        ensure(deployment->picky_count > 0);
        deployment->picky_count--;
        sort_wanted(request->model);
    }
    if (deployment->overhang > router_waits(deployment))
        deployment->overhang = router_waits(deployment);
}

static void leave_model(struct router *router, struct router_request *request)
{
    struct router_model *model = request->model;
    if (!model)
        return;
    ensure(model->request_count > 0 && !request->holding);
    request->model = NULL;
    model->request_count--;
    router_model_release(router, model);
}

void router_forget(struct router *router, struct router_request *request)
{
    ensure(request->state != ROUTER_REQUEST_NONE && router->known_count > 0);
    if (request->replica)
        router_land(router, request);
    else if (list_linked(&request->link))
        leave_line(router, request);
    leave_model(router, request);
    request->id = (struct request_id){0};
    request->state = ROUTER_REQUEST_NONE;
    router->known_count--;
}

/* Requests come back in about their order of arrival, so the search begins where the last one was
 * put. */
static void insert_by_arrival(struct router_line *line, struct router_request *request)
{
    struct list *waiting = &line->requests;
    struct list_link *after = line->returned ? &line->returned->link : waiting->head.next;
    while (after != &waiting->head && waiting_entry(after)->arrival < request->arrival)
        after = after->next;
    while (after->prev != &waiting->head && waiting_entry(after->prev)->arrival > request->arrival)
        after = after->prev;
    if (after == &waiting->head)
        list_push_back(waiting, &request->link);
    else
        list_insert_before(after, &request->link);
    line->returned = request;
}

static void join_line(struct router_line *line, struct router_request *request)
{
    struct list_link *last = list_last(&line->requests);
    if (!last || waiting_entry(last)->arrival < request->arrival)
        list_push_back(&line->requests, &request->link);
    else
        insert_by_arrival(line, request);
}

/* Whether it still insists on its model.  How long it does is drawn when it first has to wait. */
static bool insists(struct router *router, int64_t now_ns, struct router_request *request)
{
    if (!request->model || request->relaxed)
        return false;
    if (request->window_ns == 0)
        request->window_ns = request->since_ns + router->model_wait_ns +
                             (int64_t)rng_below(&router->rng, (uint64_t)router->model_wait_ns);
    request->relaxed = request->deployment->teller_count == 0 || request->window_ns <= now_ns;
    return !request->relaxed;
}

void router_wait(struct router *router, int64_t now_ns, struct router_request *request)
{
    struct router_deployment *deployment = request->deployment;
    bool insisting = insists(router, now_ns, request);
    ensure_tag(R1, !request->replica && !list_linked(&request->link));
    request->state = ROUTER_REQUEST_WAITING;
    router->waiting_count++;
    join_line(insisting ? &request->model->waiting : &deployment->waiting, request);
    int64_t due_ns = request->deadline_ns;
    if (insisting) {
        deployment->picky_count++;
        sort_wanted(request->model);
        if (due_ns == 0 || request->window_ns < due_ns)
            due_ns = request->window_ns;
    }
    if (due_ns)
        heap_put(&router->deadlines, &request->due, due_ns, request->arrival);
}

void router_relax(struct router *router, int64_t now_ns, struct router_request *request,
                  struct router_effects *effects)
{
    struct router_deployment *deployment = request->deployment;
    ensure(picky(request) && request->window_ns <= now_ns);
    if (router->trace)
        trace_print(router->trace, "relax %s", router_request_name(request->id).text);
    uint64_t overhang = deployment->overhang;
    leave_line(router, request);
    request->relaxed = true;
    router_wait(router, now_ns, request);
    deployment->overhang = overhang; /* it did not leave */
    ensure(!picky(request));
    if (deployment->open_count > 0)
        router_flush(router, now_ns, deployment, deployment->open[0], effects);
}

bool router_send(struct router *router, int64_t now_ns, struct router_request *request,
                 struct router_replica *replica, struct router_effects *effects)
{
    ensure_tag(R3, replica->in_snapshot && replica->place == ROUTER_PLACE_OPEN);
    ensure_tag(R2, router_held(replica) < replica->deployment->max_ongoing);
    ensure(request->deployment == replica->deployment);
    if (!router_say_send(router, request, replica, effects))
        return false;
    if (list_linked(&request->link))
        leave_line(router, request);
    if (router_held(replica) == 0 && !replica->probed)
        replica->quiet_ns = now_ns;
    list_push_back(&replica->requests, &request->link);
    request->replica = replica;
    request->state = ROUTER_REQUEST_IN_FLIGHT;
    request->deployment->in_flight++;
    router_presume(router, request, replica);
    router_settle(router, replica);
    return true;
}

void router_land(struct router *router, struct router_request *request)
{
    ensure_tag(R1, request->replica && request->link.list == &request->replica->requests);
    ensure(request->deployment->in_flight > 0);
    list_remove(&request->link);
    request->replica = NULL;
    request->deployment->in_flight--;
    router_presume_no_more(router, request);
}

bool router_refuse(struct router *router, struct router_request *request, int code,
                   struct router_effects *effects)
{
    ensure_tag(R1, request->state == ROUTER_REQUEST_WAITING);
    if (!router_say_refuse(router, request->id, code, effects))
        return false;
    router_forget(router, request);
    return true;
}

/* Of all that wait for the deployment. */
static struct router_request *youngest(struct router_deployment *deployment)
{
    struct list_link *last = list_last(&deployment->waiting.requests);
    struct router_request *youngest = last ? waiting_entry(last) : NULL;
    for (uint32_t i = 0; i < deployment->wanted.count; i++) {
        struct router_model *model =
            heap_entry(deployment->wanted.at[i], struct router_model, wanted);
        struct router_request *request = waiting_entry(list_last(&model->waiting.requests));
        if (!youngest || youngest->arrival < request->arrival)
            youngest = request;
    }
    return youngest;
}

/* R2: the queue is not longer than its limit, but for those who were in it when the limit was
 * lowered. */
static void trim(struct router *router, struct router_deployment *deployment,
                 struct router_effects *effects)
{
    if (deployment->row->max_queued < 0)
        return;
    uint64_t limit = (uint64_t)deployment->row->max_queued;
    if (limit < deployment->overhang)
        limit = deployment->overhang;
    while (router_waits(deployment) > limit) {
        if (!router_refuse(router, youngest(deployment), ERROR_BUSY, effects))
            return;
    }
}

static struct router_request *older(struct router_request *a, struct router_request *b)
{
    if (!a || !b)
        return a ? a : b;
    return a->arrival < b->arrival ? a : b;
}

static struct router_request *first_wanted(struct router_deployment *deployment)
{
    struct heap_link *link = heap_first(&deployment->wanted);
    return link ? line_first(&heap_entry(link, struct router_model, wanted)->waiting) : NULL;
}

/* The oldest request that this OPEN replica may get; null: none. */
static struct router_request *next_for(struct router_replica *replica)
{
    struct router_deployment *deployment = replica->deployment;
    struct router_request *request = line_first(&deployment->waiting);
    if (deployment->picky_count == 0)
        return request;
    if (replica->told_count <= router_fewest(deployment))
        return older(request, first_wanted(deployment));
    struct list_link *link;
    list_each (link, &replica->holdings) {
        struct router_holding *holding = list_entry(link, struct router_holding, link);
        request = older(request, line_first(&holding->model->waiting));
    }
    return request;
}

/* While the replica is OPEN and somebody may get it; false: memory lacked, or nobody may. */
static bool serve_one(struct router *router, int64_t now_ns, struct router_replica *replica,
                      struct router_effects *effects)
{
    struct router_request *request = next_for(replica);
    if (!request)
        return false;
    if (request->deadline_ns && request->deadline_ns <= now_ns)
        return router_refuse(router, request, ERROR_TIMEOUT, effects);
    return router_send(router, now_ns, request,
                       router_choose(router, now_ns, replica->deployment, request), effects);
}

/* Any replica may have become better: goes round until nobody gets anything. */
static void serve_all(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                      struct router_effects *effects)
{
    bool served = true;
    while (served && !router->stuck) {
        served = false;
        for (uint32_t i = 0; i < deployment->open_count && router_waits(deployment) > 0;) {
            struct router_replica *replica = deployment->open[i];
            if (serve_one(router, now_ns, replica, effects))
                served = true;
            else
                i++;
        }
    }
}

/* The deployment is not to be had. */
static void refuse_all(struct router *router, struct router_deployment *deployment,
                       struct router_effects *effects)
{
    while (router_waits(deployment) > 0) {
        struct router_request *request =
            older(line_first(&deployment->waiting), first_wanted(deployment));
        if (!router_refuse(router, request, ERROR_UNAVAILABLE, effects))
            return;
    }
}

void router_flush(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                  struct router_replica *replica, struct router_effects *effects)
{
    bool all = !replica || deployment->shifted;
    deployment->shifted = false;
    if (router_waits(deployment) == 0)
        return;
    if (!deployment->row || !deployment->row->available) {
        refuse_all(router, deployment, effects);
        return;
    }
    if (all)
        serve_all(router, now_ns, deployment, effects);
    while (!all && replica->place == ROUTER_PLACE_OPEN) {
        if (!serve_one(router, now_ns, replica, effects))
            break;
    }
    if (!router->stuck)
        trim(router, deployment, effects);
}

void router_unstick(struct router *router, int64_t now_ns, struct router_effects *effects)
{
    if (!router->stuck)
        return;
    router->stuck = false;
    struct list_link *link, *after;
    list_each (link, &router->deployments)
        router_flush(router, now_ns, list_entry(link, struct router_deployment, link), NULL,
                     effects);
    list_each_safe (link, after, &router->leaving)
        router_release(router, list_entry(link, struct router_replica, link), effects);
    list_each_safe (link, after, &router->vanished) {
        struct router_deployment *deployment = list_entry(link, struct router_deployment, link);
        router_flush(router, now_ns, deployment, NULL, effects);
        router_release_deployment(router, deployment);
    }
}
