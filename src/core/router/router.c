/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router: the events, one function each.
 *
 * Every event does the same: change the facts, settle the replica that they are about, then derive
 * what the waiting requests of its deployment get from that (router_flush).  The common case, an
 * open replica and an empty queue, goes straight through without touching a heap or the allocator.
 */
#include "error.h"
#include "mem.h"
#include "pool.h"
#include "router_inner.h"

struct router *router_new(const struct router_config *config, uint64_t seed)
{
    ensure(config->request_limit >= 1 && config->silence_limit_ns >= 0 &&
           config->model_wait_ns >= 0);
    struct router *router = mem_try(sizeof(*router));
    if (!router)
        return NULL;
    router->chunk_capacity = config->request_limit / ROUTER_CHUNK_COUNT + 1;
    router->chunks = mem_try(router->chunk_capacity * sizeof(*router->chunks));
    if (!router->chunks) {
        mem_free(router);
        return NULL;
    }
    router->request_limit = config->request_limit;
    router->silence_limit_ns = config->silence_limit_ns;
    router->model_wait_ns = config->model_wait_ns;
    router->trace = config->trace && config->trace->line ? config->trace : NULL;
    rng_init(&router->rng, seed);
    list_init(&router->deployments);
    list_init(&router->vanished);
    list_init(&router->leaving);
    list_init(&router->spare_models);
    list_init(&router->spare_holdings);
    return router;
}

static void free_replicas(struct list *list)
{
    struct list_link *link;
    while ((link = list_pop_front(list)) != NULL)
        mem_free(list_entry(link, struct router_replica, link));
}

static void free_deployments(struct list *list)
{
    struct list_link *link;
    while ((link = list_pop_front(list)) != NULL) {
        struct router_deployment *deployment = list_entry(link, struct router_deployment, link);
        for (int place = 0; place < ROUTER_PLACE_COUNT; place++)
            free_replicas(&deployment->places[place]);
        heap_done(&deployment->wanted);
        mem_free(deployment);
    }
}

struct router *router_free(struct router *router)
{
    if (!router)
        return NULL;
    for (uint32_t i = 0; i < router->chunk_capacity; i++)
        mem_free(router->chunks[i]);
    mem_free(router->chunks);
    router_models_done(router);
    free_replicas(&router->leaving);
    free_deployments(&router->deployments);
    free_deployments(&router->vanished);
    heap_done(&router->deadlines);
    heap_done(&router->replica_dues);
    mem_free(router->block);
    return mem_free(router);
}

static struct router_deployment *find_deployment(const struct router *router,
                                                 struct deployment_id id)
{
    return router->block ? router_index_get(&router->block->by_deployment, id.v) : NULL;
}

static struct router_replica *find_replica(const struct router *router, struct replica_id id)
{
    return router->block ? router_index_get(&router->block->by_replica, id.v) : NULL;
}

/* Why a request cannot be let in at all; 0: it may be sent or wait. */
static int refusal_of(const struct router *router, int64_t now_ns,
                      const struct router_submit *submit,
                      const struct router_deployment *deployment)
{
    if (!deployment)
        return ERROR_NOT_FOUND;
    if (!deployment->row->available)
        return ERROR_UNAVAILABLE;
    if (submit->deadline_ns && submit->deadline_ns <= now_ns)
        return ERROR_TIMEOUT;
    if (router->known_count >= router->request_limit ||
        pool_id_index(submit->request.v) >= router->request_limit)
        return ERROR_LIMIT;
    return 0;
}

static bool queue_full(const struct router_deployment *deployment)
{
    int64_t limit = deployment->row->max_queued;
    return limit >= 0 && router_waits(deployment) >= (uint64_t)limit;
}

/* Who can take a request that is not yet on a line; null: it must wait. */
static struct router_replica *room_for(struct router *router, int64_t now_ns,
                                       const struct router_request *request)
{
    struct router_deployment *deployment = request->deployment;
    if (!list_empty(&deployment->waiting.requests))
        return NULL; /* those were before it */
    if (request->model && !list_empty(&request->model->waiting.requests))
        return NULL;
    return router_choose(router, now_ns, deployment, request);
}

/* Nobody can take it now.  The first that waits sees that replicas are asked in time. */
static void begin_to_wait(struct router *router, int64_t now_ns, struct router_request *request,
                          struct router_effects *effects)
{
    struct router_deployment *deployment = request->deployment;
    size_t before = router_waits(deployment);
    router_wait(router, now_ns, request);
    if (router->trace) {
        struct router_name name = router_request_name(request->id);
        if (request->model && !request->relaxed)
            trace_print(router->trace, "wait %s behind %zu, for %.*s", name.text, before,
                        (int)request->model->id_size, (const char *)request->model->id);
        else
            trace_print(router->trace, "wait %s behind %zu", name.text, before);
    }
    if (before > 0)
        return;
    router_hunt(router, now_ns, deployment, effects);
    if (deployment->open_count > 0)
        router_flush(router, now_ns, deployment, NULL, effects);
}

int router_submit(struct router *router, int64_t now_ns, const struct router_submit *submit,
                  struct router_effects *effects)
{
    ensure(!request_id_none(submit->request));
    router_unstick(router, now_ns, effects);
    struct router_deployment *deployment = find_deployment(router, submit->deployment);
    int code = refusal_of(router, now_ns, submit, deployment);
    if (router_effects_reserve(effects, 1) != 0)
        return ERROR_MEMORY;
    struct router_request *request = code == 0 ? router_remember(router, submit, deployment) : NULL;
    struct router_replica *replica = NULL;
    if (code == 0 && !request)
        code = ERROR_MEMORY;
    if (request) {
        request->since_ns = now_ns;
        replica = room_for(router, now_ns, request);
    }
    if (request && !replica && router_waits(deployment) == 0) {
        router_hunt(router, now_ns, deployment, effects);
        replica = room_for(router, now_ns, request);
    }
    bool reserved = router_effects_reserve(effects, 1) == 0; /* the hunt may have used it up */
    if (request && !replica && queue_full(deployment))
        code = ERROR_BUSY;
    if (request && (code != 0 || !reserved))
        router_forget(router, request);
    if (!reserved)
        return ERROR_MEMORY;
    if (code != 0) {
        bool said = router_say_refuse(router, submit->request, code, effects);
        ensure(said);
        return 0;
    }
    if (!replica) {
        begin_to_wait(router, now_ns, request, effects);
        return 0;
    }
    bool sent = router_send(router, now_ns, request, replica, effects);
    ensure(sent);
    return 0;
}

/* The request when some replica has it; null for what a peer or the past made up. */
static struct router_request *find_in_flight(const struct router *router, struct request_id id)
{
    struct router_request *request = router_find(router, id);
    return request && request->replica ? request : NULL;
}

void router_accepted(struct router *router, int64_t now_ns, struct request_id id,
                     uint32_t queue_length, struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_request *request = find_in_flight(router, id);
    if (!request)
        return;
    router_learn(router, now_ns, request->replica, queue_length);
    router_settle(router, request->replica);
    router_flush(router, now_ns, request->deployment, request->replica, effects);
}

void router_done(struct router *router, int64_t now_ns, struct request_id id, uint32_t queue_length,
                 struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_request *request = find_in_flight(router, id);
    if (!request)
        return;
    struct router_replica *replica = request->replica;
    struct router_deployment *deployment = request->deployment;
    router_forget(router, request);
    router_learn(router, now_ns, replica, queue_length);
    router_settle(router, replica);
    router_flush(router, now_ns, deployment, replica, effects);
    router_release(router, replica, effects);
    router_release_deployment(router, deployment);
}

/* A rejection closes the replica whatever number came with it, or the same request would go there
 * again and again. */
static void learn_rejection(struct router *router, int64_t now_ns, struct router_replica *replica,
                            uint32_t queue_length, bool draining)
{
    router_learn(router, now_ns, replica, queue_length);
    uint32_t held = router_held(replica), most = replica->deployment->max_ongoing;
    if (draining && !replica->draining && router->trace)
        trace_print(router->trace, "avoid r%llu: it drains", (unsigned long long)replica->id.v);
    replica->draining = replica->draining || draining;
    replica->told_ns = now_ns;
    if ((uint64_t)held + replica->others < most)
        replica->others = most - held;
    router_lose_patience(replica);
    router_settle(router, replica);
}

void router_rejected(struct router *router, int64_t now_ns, struct request_id id,
                     uint32_t queue_length, bool draining, struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_request *request = find_in_flight(router, id);
    if (!request)
        return;
    struct router_replica *replica = request->replica;
    struct router_deployment *deployment = request->deployment;
    bool given_up = request->state == ROUTER_REQUEST_GIVEN_UP;
    if (given_up)
        router_forget(router, request);
    else
        router_land(router, request);
    learn_rejection(router, now_ns, replica, queue_length, draining);
    if (!given_up) {
        bool first = router_waits(deployment) == 0;
        router_wait(router, now_ns, request);
        if (router->trace)
            trace_print(router->trace, "back %s from r%llu", router_request_name(id).text,
                        (unsigned long long)replica->id.v);
        bool late = request->deadline_ns && request->deadline_ns <= now_ns;
        if (late)
            router_refuse(router, request, ERROR_TIMEOUT, effects);
        else if (first && (deployment->open_count == 0 || deployment->picky_count > 0))
            router_hunt(router, now_ns, deployment, effects);
    }
    router_flush(router, now_ns, deployment, NULL, effects);
    router_release(router, replica, effects);
    router_release_deployment(router, deployment);
}

bool router_cancel(struct router *router, int64_t now_ns, struct request_id id,
                   struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_request *request = router_find(router, id);
    if (!request || request->state == ROUTER_REQUEST_GIVEN_UP)
        return false;
    if (router->trace)
        trace_print(router->trace, "give up %s", router_request_name(id).text);
    if (request->replica) {
        request->state = ROUTER_REQUEST_GIVEN_UP;
        return true;
    }
    router_forget(router, request);
    return false;
}

void router_connected(struct router *router, int64_t now_ns, struct replica_id id,
                      struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_replica *replica = find_replica(router, id);
    if (!replica)
        return;
    router_reset(router, replica, now_ns);
    replica->connected = true;
    router_settle(router, replica);
    router_flush(router, now_ns, replica->deployment, replica, effects);
}

void router_replica_gone(struct router *router, int64_t now_ns, struct replica_id id,
                         struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_replica *replica = find_replica(router, id);
    if (!replica)
        return;
    if (router->trace)
        trace_print(router->trace, "lost r%llu", (unsigned long long)id.v);
    router_reset(router, replica, now_ns);
    replica->connected = false;
    router_settle(router, replica);
    router_flush(router, now_ns, replica->deployment, replica, effects);
}

void router_replica_alive(struct router *router, int64_t now_ns, struct replica_id id,
                          uint32_t queue_length, struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_replica *replica = find_replica(router, id);
    if (!replica || !replica->connected)
        return;
    replica->probed = false;
    router_learn(router, now_ns, replica, queue_length);
    router_settle(router, replica);
    if (replica->place == ROUTER_PLACE_CROWDED)
        router_lose_patience(replica);
    router_flush(router, now_ns, replica->deployment, replica, effects);
}

void router_models(struct router *router, int64_t now_ns, struct replica_id id,
                   const struct bytes *ids, uint32_t count, struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    struct router_replica *replica = find_replica(router, id);
    if (!replica || !replica->connected)
        return;
    router_hear_models(router, replica, ids, count);
    router_flush(router, now_ns, replica->deployment, replica, effects);
}
