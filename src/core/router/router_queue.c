/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_queue: the requests that the router knows, by the index of their id, and the queue of each
 * deployment.
 *
 * The queue is in strict order of arrival.  A request that a replica did not take goes back to the
 * place that its arrival gives it.  When that makes the queue longer than max_queued, the youngest
 * is refused: it was let in to a place that was not free (R2).
 */
#include <string.h>

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
    request->model_id = (struct bytes){0};
    if (submit->model_id.size) {
        uint8_t *copy = mem_try(submit->model_id.size);
        if (!copy)
            return NULL;
        memcpy(copy, submit->model_id.at, submit->model_id.size);
        request->model_id = bytes_of(copy, submit->model_id.size);
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

/* Off the queue of its deployment. */
static void leave_queue(struct router *router, struct router_request *request)
{
    struct router_deployment *deployment = request->deployment;
    ensure(request->link.list == &deployment->waiting);
    list_remove(&request->link);
    heap_remove(&router->deadlines, &request->due);
    router->waiting_count--;
    if (deployment->returned == request)
        deployment->returned = NULL;
    if (deployment->overhang > deployment->waiting.length)
        deployment->overhang = deployment->waiting.length;
}

void router_forget(struct router *router, struct router_request *request)
{
    ensure(request->state != ROUTER_REQUEST_NONE && router->known_count > 0);
    if (request->replica)
        router_land(router, request);
    else if (list_linked(&request->link))
        leave_queue(router, request);
    if (request->model_id.size)
        mem_free((void *)request->model_id.at);
    request->model_id = (struct bytes){0};
    request->id = (struct request_id){0};
    request->state = ROUTER_REQUEST_NONE;
    router->known_count--;
}

static struct router_request *waiting_entry(struct list_link *link)
{
    return list_entry(link, struct router_request, link);
}

/* Requests come back in about their order of arrival, so the search begins where the last one was
 * put. */
static void insert_by_arrival(struct router_deployment *deployment, struct router_request *request)
{
    struct list *waiting = &deployment->waiting;
    struct list_link *after =
        deployment->returned ? &deployment->returned->link : waiting->head.next;
    while (after != &waiting->head && waiting_entry(after)->arrival < request->arrival)
        after = after->next;
    while (after->prev != &waiting->head && waiting_entry(after->prev)->arrival > request->arrival)
        after = after->prev;
    if (after == &waiting->head)
        list_push_back(waiting, &request->link);
    else
        list_insert_before(after, &request->link);
    deployment->returned = request;
}

void router_wait(struct router *router, struct router_request *request)
{
    struct router_deployment *deployment = request->deployment;
    struct list_link *last = list_last(&deployment->waiting);
    ensure_tag(R1, !request->replica && !list_linked(&request->link));
    request->state = ROUTER_REQUEST_WAITING;
    if (!last || waiting_entry(last)->arrival < request->arrival)
        list_push_back(&deployment->waiting, &request->link);
    else
        insert_by_arrival(deployment, request);
    if (request->deadline_ns)
        heap_put(&router->deadlines, &request->due, request->deadline_ns, request->arrival);
    router->waiting_count++;
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
        leave_queue(router, request);
    if (router_held(replica) == 0 && !replica->probed)
        replica->quiet_ns = now_ns;
    list_push_back(&replica->requests, &request->link);
    request->replica = replica;
    request->state = ROUTER_REQUEST_IN_FLIGHT;
    request->deployment->in_flight++;
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
    while (deployment->waiting.length > limit) {
        if (!router_refuse(router, waiting_entry(list_last(&deployment->waiting)), ERROR_BUSY,
                           effects))
            return;
    }
}

void router_flush(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                  struct router_effects *effects)
{
    if (list_empty(&deployment->waiting))
        return;
    bool available = deployment->row && deployment->row->available;
    struct list_link *link;
    while ((link = list_first(&deployment->waiting)) != NULL) {
        struct router_request *request = waiting_entry(link);
        bool moved;
        if (!available)
            moved = router_refuse(router, request, ERROR_UNAVAILABLE, effects);
        else if (request->deadline_ns && request->deadline_ns <= now_ns)
            moved = router_refuse(router, request, ERROR_TIMEOUT, effects);
        else if (deployment->open_count > 0)
            moved = router_send(router, now_ns, request,
                                router_choose(router, now_ns, deployment, request), effects);
        else
            break;
        if (!moved)
            return;
    }
    if (available)
        trim(router, deployment, effects);
}

void router_unstick(struct router *router, int64_t now_ns, struct router_effects *effects)
{
    if (!router->stuck)
        return;
    router->stuck = false;
    struct list_link *link, *after;
    list_each (link, &router->deployments)
        router_flush(router, now_ns, list_entry(link, struct router_deployment, link), effects);
    list_each_safe (link, after, &router->leaving)
        router_release(router, list_entry(link, struct router_replica, link), effects);
    list_each_safe (link, after, &router->vanished) {
        struct router_deployment *deployment = list_entry(link, struct router_deployment, link);
        router_flush(router, now_ns, deployment, effects);
        router_release_deployment(router, deployment);
    }
}
