/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_choose: which of the open replicas gets a request.
 *
 * The power of two choices: of two that are drawn at random, the one with the smaller load.  Who is
 * drawn from depends on the request's model, in Ray Serve's order:
 *
 *     1. replicas that hold the model;
 *     2. replicas that hold the fewest models of all that are routable;
 *     3. any replica, but only after the request has waited its time (relaxed).
 *
 * A request without a model, or for a deployment whose replicas tell no sets, is drawn from all at
 * once and pays for none of this.
 */
#include "router_inner.h"

enum { DRAWS = 8 }; /* at random, before a scan takes the first two that fit */

/* Whom to draw from: the holders of a model, or the open replicas of a deployment. */
struct candidates {
    const struct router_model *model; /* null: the deployment's */
    const struct router_deployment *deployment;
    uint32_t count;
    uint32_t models_most; /* told models that a candidate may hold */
};

static uint64_t load_of(const struct router_replica *replica, int64_t now_ns)
{
    bool known = now_ns - replica->told_ns < ROUTER_KNOWLEDGE_NS;
    uint64_t load = router_held(replica);
    return known ? load + replica->others : load;
}

static struct router_replica *lighter(struct router_replica *first, struct router_replica *second,
                                      int64_t now_ns)
{
    return load_of(second, now_ns) < load_of(first, now_ns) ? second : first;
}

/* Null: that one does not fit. */
static struct router_replica *candidate(const struct candidates *from, uint32_t index)
{
    struct router_replica *replica =
        from->model ? from->model->holders[index]->replica : from->deployment->open[index];
    bool fits = replica->place == ROUTER_PLACE_OPEN && replica->told_count <= from->models_most;
    return fits ? replica : NULL;
}

/* Whoever fits, two of them when there are two, is found: first by chance, then by looking at all.
 */
static struct router_replica *draw(struct router *router, int64_t now_ns,
                                   const struct candidates *from)
{
    struct router_replica *first = NULL, *next;
    if (from->count == 0)
        return NULL;
    if (from->count == 1)
        return candidate(from, 0);
    for (int i = 0; i < DRAWS; i++) {
        next = candidate(from, (uint32_t)rng_below(&router->rng, from->count));
        if (next && first && next != first)
            return lighter(first, next, now_ns);
        first = first ? first : next;
    }
    uint32_t start = (uint32_t)rng_below(&router->rng, from->count);
    for (uint32_t i = 0; i < from->count; i++) {
        next = candidate(from, (start + i) % from->count);
        if (next && first && next != first)
            return lighter(first, next, now_ns);
        first = first ? first : next;
    }
    return first;
}

static struct router_replica *choose_any(struct router *router, int64_t now_ns,
                                         const struct router_deployment *deployment)
{
    uint32_t count = deployment->open_count;
    if (count == 1)
        return deployment->open[0];
    uint32_t a = (uint32_t)rng_below(&router->rng, count);
    uint32_t b = (uint32_t)rng_below(&router->rng, count - 1);
    if (b >= a)
        b++;
    return lighter(deployment->open[a], deployment->open[b], now_ns);
}

struct router_replica *router_choose(struct router *router, int64_t now_ns,
                                     struct router_deployment *deployment,
                                     const struct router_request *request)
{
    const struct router_model *model = request->model;
    if (deployment->open_count == 0)
        return NULL;
    if (!model || deployment->teller_count == 0)
        return choose_any(router, now_ns, deployment);
    struct candidates holders = {
        .model = model, .count = model->holder_count, .models_most = UINT32_MAX};
    struct router_replica *replica = draw(router, now_ns, &holders);
    if (replica)
        return replica;
    struct candidates open = {.deployment = deployment,
                              .count = deployment->open_count,
                              .models_most = router_fewest(deployment)};
    replica = draw(router, now_ns, &open);
    if (replica || !request->relaxed)
        return replica;
    return choose_any(router, now_ns, deployment);
}
