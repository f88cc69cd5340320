/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_place: where each replica stands and what it said.
 *
 * The load of a replica is what we have there plus what others have there by its last word.  With
 * each word `others` is computed anew (its number less our own requests), so that our sends and
 * answers in between adjust the load by themselves.
 */
#include "router_inner.h"

static enum router_place place_of(const struct router_replica *replica)
{
    uint32_t held = router_held(replica), most = replica->deployment->max_ongoing;
    if (!replica->in_snapshot)
        return ROUTER_PLACE_LEAVING;
    if (!replica->connected)
        return ROUTER_PLACE_APART;
    if (replica->draining)
        return ROUTER_PLACE_DRAINING;
    if (replica->silent)
        return ROUTER_PLACE_SILENT;
    if (held >= most)
        return ROUTER_PLACE_FULL;
    if ((uint64_t)held + replica->others >= most)
        return ROUTER_PLACE_CROWDED;
    return ROUTER_PLACE_OPEN;
}

static void close_place(struct router_replica *replica)
{
    struct router_deployment *deployment = replica->deployment;
    ensure(deployment->open_count > 0 && deployment->open[replica->open_index] == replica);
    struct router_replica *last = deployment->open[--deployment->open_count];
    deployment->open[replica->open_index] = last;
    last->open_index = replica->open_index;
}

static void open_place(struct router_replica *replica)
{
    struct router_deployment *deployment = replica->deployment;
    ensure(deployment->open_count < deployment->open_capacity);
    replica->open_index = deployment->open_count;
    deployment->open[deployment->open_count++] = replica;
}

static bool routable(enum router_place place)
{
    return place == ROUTER_PLACE_OPEN || place == ROUTER_PLACE_FULL ||
           place == ROUTER_PLACE_CROWDED;
}

void router_settle(struct router *router, struct router_replica *replica)
{
    enum router_place place = place_of(replica);
    struct list *target =
        place == ROUTER_PLACE_LEAVING ? &router->leaving : &replica->deployment->places[place];
    if (replica->link.list != target) {
        if (list_linked(&replica->link) && replica->place == ROUTER_PLACE_OPEN)
            close_place(replica);
        list_remove(&replica->link);
        list_push_back(target, &replica->link);
        if (routable(place) != routable(replica->place))
            router_shift(replica->deployment);
        replica->place = place;
        if (place == ROUTER_PLACE_OPEN)
            open_place(replica);
    }
    router_arm(router, replica);
}

void router_reset(struct router *router, struct router_replica *replica, int64_t now_ns)
{
    router_forget_models(router, replica);
    replica->others = 0;
    replica->told_ns = now_ns;
    replica->quiet_ns = now_ns;
    replica->patience_ns = 0;
    replica->probed = false;
    replica->draining = false;
    replica->silent = false;
}

void router_learn(struct router *router, int64_t now_ns, struct router_replica *replica,
                  uint32_t queue_length)
{
    if (!replica->connected || queue_length == ROUTER_LENGTH_UNKNOWN)
        return;
    if (replica->silent && router->trace)
        trace_print(router->trace, "awake r%llu", (unsigned long long)replica->id.v);
    uint32_t held = router_held(replica);
    replica->silent = false;
    replica->probed = false;
    replica->quiet_ns = now_ns;
    router->sign_ns = now_ns;
    replica->told_ns = now_ns;
    replica->others = queue_length > held ? queue_length - held : 0;
    if ((uint64_t)held + replica->others < replica->deployment->max_ongoing)
        replica->patience_ns = 0;
}

void router_lose_patience(struct router_replica *replica)
{
    int64_t patience = ROUTER_PATIENCE_LEAST_NS;
    if (replica->patience_ns)
        patience = replica->asked ? 2 * replica->patience_ns : replica->patience_ns;
    replica->patience_ns = patience < ROUTER_PATIENCE_MOST_NS ? patience : ROUTER_PATIENCE_MOST_NS;
    replica->asked = false;
}

void router_ask(struct router *router, int64_t now_ns, struct router_replica *replica,
                struct router_effects *effects)
{
    ensure(replica->place == ROUTER_PLACE_CROWDED);
    replica->asked = true;
    if (router_held(replica) > 0) {
        if (!replica->probed && router_say_probe(router, replica, effects)) {
            replica->probed = true;
            replica->probed_ns = now_ns;
        }
        router_arm(router, replica);
        return;
    }
    /* Nobody of ours is there whose answer would tell: guess that one slot is free, and let a
     * request find out. */
    if (router->trace)
        trace_print(router->trace, "try r%llu (%u of %u, %lld us ago)",
                    (unsigned long long)replica->id.v, replica->others,
                    replica->deployment->max_ongoing,
                    (long long)(now_ns - replica->told_ns) / 1000);
    replica->others = replica->deployment->max_ongoing - 1;
    replica->told_ns = now_ns;
    router_settle(router, replica);
    ensure(replica->place == ROUTER_PLACE_OPEN);
}

void router_hunt(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                 struct router_effects *effects)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &deployment->places[ROUTER_PLACE_CROWDED]) {
        struct router_replica *replica = list_entry(link, struct router_replica, link);
        int64_t patience = replica->patience_ns ? replica->patience_ns : ROUTER_PATIENCE_LEAST_NS;
        if (replica->told_ns + patience <= now_ns)
            router_ask(router, now_ns, replica, effects);
        if (deployment->open_count > 0 && deployment->picky_count == 0)
            return;
        router_arm(router, replica);
    }
}

void router_release(struct router *router, struct router_replica *replica,
                    struct router_effects *effects)
{
    if (replica->place != ROUTER_PLACE_LEAVING || router_held(replica) > 0)
        return;
    if (replica->announced && !router_say_disconnect(router, replica, effects))
        return;
    struct router_deployment *deployment = replica->deployment;
    router_forget_models(router, replica);
    ensure(list_empty(&replica->holdings));
    list_remove(&replica->link);
    heap_remove(&router->replica_dues, &replica->due);
    if (router->block)
        router_index_drop(&router->block->by_replica, replica->id.v, replica);
    ensure(deployment->replica_count > 0 && router->replica_count > 0);
    deployment->replica_count--;
    router->replica_count--;
    mem_free(replica);
}
