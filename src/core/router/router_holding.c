/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_holding: which replica holds which model.
 *
 * A replica that serves many models tells its senders which it holds (router_models).  Until it has
 * said so of a model that a request of ours was sent for, we presume it, so that a burst for a new
 * model does not load it everywhere.  A holding lives while it is told or one of our requests for
 * the model is there; a model lives while somebody holds it or a request names it.  Both are kept
 * and used again: a warm router allocates nothing for them.
 *
 * Deployments that never told a set know no holdings, whatever ids the requests carry.
 */
#include <string.h>

#include "mem.h"
#include "router_inner.h"

enum {
    BUCKETS_LEAST = 64, /* a power of two */
    MODEL_ID_ROOM = 64, /* bytes, so that a spare model fits nearly every id */
    SPARE_MODELS = 1024,
    SPARE_HOLDINGS = 4096,
};

static const uint64_t SPREAD = 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio */

/* ---- models ---- */

static struct list *bucket_of(const struct router *router, uint64_t hash)
{
    return &router->buckets[(hash * SPREAD) >> 32 & (router->bucket_count - 1)];
}

/* Twice as many buckets when there are none or they are full; when memory lacks, chains get longer.
 */
static void widen(struct router *router)
{
    uint32_t count = router->bucket_count ? 2 * router->bucket_count : BUCKETS_LEAST;
    if (router->model_count < router->bucket_count || count == 0)
        return;
    struct list *buckets = mem_try(count * sizeof(*buckets)), *before = router->buckets;
    uint32_t before_count = router->bucket_count;
    if (!buckets)
        return;
    for (uint32_t i = 0; i < count; i++)
        list_init(&buckets[i]);
    router->buckets = buckets;
    router->bucket_count = count;
    for (uint32_t i = 0; i < before_count; i++) {
        struct list_link *link;
        while ((link = list_pop_front(&before[i])) != NULL)
            list_push_back(bucket_of(router, list_entry(link, struct router_model, link)->hash),
                           link);
    }
    mem_free(before);
}

static int name_model(struct router_model *model, struct bytes id)
{
    if (id.size > model->id_capacity) {
        size_t capacity = id.size > MODEL_ID_ROOM ? id.size : MODEL_ID_ROOM;
        uint8_t *copy = mem_try_resize(model->id, model->id_capacity, capacity);
        if (!copy)
            return -1;
        model->id = copy;
        model->id_capacity = capacity;
    }
    memcpy(model->id, id.at, id.size);
    model->id_size = id.size;
    return 0;
}

static void free_model(struct router_model *model)
{
    mem_free(model->holders);
    mem_free(model->id);
    mem_free(model);
}

static int reserve_wanted(struct router_deployment *deployment)
{
    uint32_t wanted = deployment->wanted.capacity ? deployment->wanted.capacity : 4;
    while (wanted <= deployment->model_count)
        wanted *= 2;
    return heap_reserve(&deployment->wanted, wanted);
}

static struct router_model *new_model(struct router *router, struct router_deployment *deployment,
                                      struct bytes id, uint64_t hash)
{
    widen(router);
    if (!router->buckets || reserve_wanted(deployment) != 0)
        return NULL;
    struct list_link *link = list_pop_front(&router->spare_models);
    struct router_model *model =
        link ? list_entry(link, struct router_model, link) : mem_try(sizeof(*model));
    if (!model)
        return NULL;
    if (!link)
        list_init(&model->waiting.requests);
    if (name_model(model, id) != 0) {
        list_push_front(&router->spare_models, &model->link);
        return NULL;
    }
    model->hash = hash;
    model->deployment = deployment;
    list_push_back(bucket_of(router, hash), &model->link);
    router->model_count++;
    deployment->model_count++;
    return model;
}

struct router_model *router_model_for(struct router *router, struct router_deployment *deployment,
                                      struct bytes id)
{
    uint64_t hash = bytes_hash(id) ^ deployment->id.v * SPREAD;
    struct list_link *link;
    ensure(id.size > 0 && id.size <= ROUTER_MODEL_ID_LIMIT);
    if (router->buckets) {
        list_each (link, bucket_of(router, hash)) {
            struct router_model *model = list_entry(link, struct router_model, link);
            if (model->hash == hash && model->deployment == deployment &&
                bytes_equal(bytes_of(model->id, model->id_size), id))
                return model;
        }
    }
    return new_model(router, deployment, id, hash);
}

void router_model_release(struct router *router, struct router_model *model)
{
    if (model->request_count > 0 || model->holder_count > 0)
        return;
    ensure(list_empty(&model->waiting.requests) && !heap_linked(&model->wanted));
    ensure(router->model_count > 0 && model->deployment->model_count > 0);
    list_remove(&model->link);
    router->model_count--;
    model->deployment->model_count--;
    model->deployment = NULL;
    list_push_front(&router->spare_models, &model->link);
    if (router->spare_models.length > SPARE_MODELS) {
        struct list_link *last = list_last(&router->spare_models);
        list_remove(last);
        free_model(list_entry(last, struct router_model, link));
    }
}

/* ---- holdings ---- */

static struct router_holding *find_holding(const struct router_replica *replica,
                                           const struct router_model *model)
{
    if (model->holder_count <= replica->holdings.length) {
        for (uint32_t i = 0; i < model->holder_count; i++) {
            if (model->holders[i]->replica == replica)
                return model->holders[i];
        }
        return NULL;
    }
    const struct list_link *link;
    list_each (link, &replica->holdings) {
        struct router_holding *holding = list_entry(link, struct router_holding, link);
        if (holding->model == model)
            return holding;
    }
    return NULL;
}

/* Null when memory lacks. */
static struct router_holding *new_holding(struct router *router, struct router_replica *replica,
                                          struct router_model *model)
{
    if (model->holder_count == model->holder_capacity) {
        uint32_t capacity = model->holder_capacity ? 2 * model->holder_capacity : 4;
        struct router_holding **holders = mem_try_resize(
            model->holders, model->holder_capacity * sizeof(*holders), capacity * sizeof(*holders));
        if (!holders)
            return NULL;
        model->holders = holders;
        model->holder_capacity = capacity;
    }
    struct list_link *link = list_pop_front(&router->spare_holdings);
    struct router_holding *holding =
        link ? list_entry(link, struct router_holding, link) : mem_try(sizeof(*holding));
    if (!holding)
        return NULL;
    holding->replica = replica;
    holding->model = model;
    holding->index = model->holder_count;
    holding->in_flight = 0;
    holding->told = holding->fresh = false;
    model->holders[model->holder_count++] = holding;
    list_push_back(&replica->holdings, &holding->link);
    return holding;
}

/* Nothing happens while it is told or a request of ours is there for it. */
static void drop_holding(struct router *router, struct router_holding *holding)
{
    struct router_model *model = holding->model;
    if (holding->told || holding->in_flight > 0)
        return;
    ensure(model->holder_count > 0 && model->holders[holding->index] == holding);
    struct router_holding *last = model->holders[--model->holder_count];
    model->holders[holding->index] = last;
    last->index = holding->index;
    list_remove(&holding->link);
    list_push_front(&router->spare_holdings, &holding->link);
    if (router->spare_holdings.length > SPARE_HOLDINGS) {
        struct list_link *oldest = list_last(&router->spare_holdings);
        list_remove(oldest);
        mem_free(list_entry(oldest, struct router_holding, link));
    }
    router_model_release(router, model);
}

void router_presume(struct router *router, struct router_request *request,
                    struct router_replica *replica)
{
    ensure(!request->holding);
    if (!request->model || !replica->tells)
        return;
    struct router_holding *holding = find_holding(replica, request->model);
    if (!holding)
        holding = new_holding(router, replica, request->model);
    if (!holding)
        return; /* memory lacks: nobody presumes, the replica will tell */
    holding->in_flight++;
    request->holding = holding;
}

void router_presume_no_more(struct router *router, struct router_request *request)
{
    struct router_holding *holding = request->holding;
    if (!holding)
        return;
    ensure(holding->in_flight > 0 && holding->model == request->model);
    request->holding = NULL;
    holding->in_flight--;
    drop_holding(router, holding);
}

/* Ends what was told and is not in the set that was just read; `fresh` is false everywhere after.
 */
static void drop_stale(struct router *router, struct router_replica *replica)
{
    struct list_link *link, *after;
    uint32_t told = 0;
    list_each_safe (link, after, &replica->holdings) {
        struct router_holding *holding = list_entry(link, struct router_holding, link);
        holding->told = holding->fresh;
        holding->fresh = false;
        told += holding->told;
        drop_holding(router, holding);
    }
    if (told != replica->told_count)
        router_shift(replica->deployment);
    replica->told_count = told;
}

void router_forget_models(struct router *router, struct router_replica *replica)
{
    drop_stale(router, replica);
    if (!replica->tells)
        return;
    ensure(replica->deployment->teller_count > 0);
    replica->tells = false;
    replica->deployment->teller_count--;
}

static void hear_model(struct router *router, struct router_replica *replica, struct bytes id)
{
    if (id.size == 0 || id.size > ROUTER_MODEL_ID_LIMIT)
        return;
    struct router_model *model = router_model_for(router, replica->deployment, id);
    if (!model)
        return;
    struct router_holding *holding = find_holding(replica, model);
    if (!holding)
        holding = new_holding(router, replica, model);
    if (holding)
        holding->told = holding->fresh = true;
    else
        router_model_release(router, model);
}

void router_hear_models(struct router *router, struct router_replica *replica,
                        const struct bytes *ids, uint32_t count)
{
    if (!replica->tells) {
        replica->tells = true;
        replica->deployment->teller_count++;
        router_shift(replica->deployment);
    }
    for (uint32_t i = 0; i < count && i < ROUTER_MODELS_LIMIT; i++)
        hear_model(router, replica, ids[i]);
    drop_stale(router, replica);
    if (router->trace)
        trace_print(router->trace, "r%llu holds %u models", (unsigned long long)replica->id.v,
                    replica->told_count);
}

void router_models_done(struct router *router)
{
    struct list_link *link;
    for (uint32_t i = 0; i < router->bucket_count; i++) {
        while ((link = list_pop_front(&router->buckets[i])) != NULL) {
            struct router_model *model = list_entry(link, struct router_model, link);
            for (uint32_t at = 0; at < model->holder_count; at++)
                mem_free(model->holders[at]);
            free_model(model);
        }
    }
    while ((link = list_pop_front(&router->spare_models)) != NULL)
        free_model(list_entry(link, struct router_model, link));
    while ((link = list_pop_front(&router->spare_holdings)) != NULL)
        mem_free(list_entry(link, struct router_holding, link));
    mem_free(router->buckets);
}

/* ---- who holds the fewest ---- */

void router_shift(struct router_deployment *deployment)
{
    deployment->fewest_stale = deployment->shifted = true;
}

uint32_t router_fewest(struct router_deployment *deployment)
{
    static const enum router_place places[] = {ROUTER_PLACE_OPEN, ROUTER_PLACE_FULL,
                                               ROUTER_PLACE_CROWDED};
    if (!deployment->fewest_stale)
        return deployment->fewest;
    uint32_t fewest = UINT32_MAX;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const struct list_link *link;
        list_each (link, &deployment->places[places[i]]) {
            const struct router_replica *replica = list_entry(link, struct router_replica, link);
            fewest = replica->told_count < fewest ? replica->told_count : fewest;
        }
    }
    deployment->fewest = fewest;
    deployment->fewest_stale = false;
    return fewest;
}
