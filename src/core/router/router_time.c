/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_time: deadlines of waiting requests, silence, and when to ask a crowded replica again.
 *
 * Silence is proved by an unanswered probe and by nothing else: a handler may run for an hour while
 * its process answers pings.  A replica that owes a sign of life (it holds a request of ours) is
 * probed after a quarter of the limit without one, and judged silent when all of it has passed.
 *
 *     owes ---- limit/4 ---> probe ---- 3/4 limit ---> silent ---- limit ---> probe again ...
 *
 * Any sign begins anew.  A silent replica is probed again and again, because a probe may be lost in
 * a full channel.
 *
 * When two or more would be silent and no replica of the process gave a sign in the last half of
 * the limit, the observer is suspected, and nobody is judged.  Neither is anybody after a late
 * turn.
 *
 * A replica's timer is lazy: it may fire too early, never too late.  So the hot path touches the
 * heap only when a replica begins to owe something.
 */
#include "error.h"
#include "router_inner.h"

static bool owes(const struct router_replica *replica)
{
    return replica->probed || router_held(replica) > 0;
}

static bool judged_by_time(const struct router_replica *replica)
{
    return replica->place == ROUTER_PLACE_OPEN || replica->place == ROUTER_PLACE_FULL ||
           replica->place == ROUTER_PLACE_CROWDED;
}

/* When an unanswered probe becomes silence: never less than three quarters of the limit after it
 * was sent. */
static int64_t verdict_ns(const struct router *router, const struct router_replica *replica)
{
    int64_t limit = router->silence_limit_ns;
    int64_t by_quiet = replica->quiet_ns + limit;
    int64_t by_probe = replica->probed_ns + limit - limit / 4;
    return by_quiet > by_probe ? by_quiet : by_probe;
}

/* When to ask a CROWDED replica again, while requests wait for its deployment; INT64_MAX: not by
 * time. */
static int64_t ask_ns(const struct router_replica *replica)
{
    if (replica->place != ROUTER_PLACE_CROWDED || router_waits(replica->deployment) == 0)
        return INT64_MAX;
    if (replica->probed && router_held(replica) > 0)
        return INT64_MAX;
    return replica->told_ns +
           (replica->patience_ns ? replica->patience_ns : ROUTER_PATIENCE_LEAST_NS);
}

int64_t router_replica_due_ns(const struct router *router, const struct router_replica *replica)
{
    if (replica->place == ROUTER_PLACE_SILENT)
        return replica->probed_ns + router->silence_limit_ns;
    if (!judged_by_time(replica))
        return 0;
    int64_t due = ask_ns(replica);
    if (router->silence_limit_ns > 0 && owes(replica)) {
        int64_t sign = replica->probed ? verdict_ns(router, replica)
                                       : replica->quiet_ns + router->silence_limit_ns / 4;
        due = sign < due ? sign : due;
    }
    return due == INT64_MAX ? 0 : due;
}

void router_arm(struct router *router, struct router_replica *replica)
{
    int64_t due = router_replica_due_ns(router, replica);
    if (due == 0)
        return;
    if (!heap_linked(&replica->due))
        heap_put(&router->replica_dues, &replica->due, due, replica->id.v);
    else if (due < replica->due.key)
        heap_move(&router->replica_dues, &replica->due, due);
}

/* Gives every replica that owes something its whole time again. */
static void forgive(struct router *router, int64_t now_ns)
{
    struct list_link *of, *link;
    list_each (of, &router->deployments) {
        struct router_deployment *deployment = list_entry(of, struct router_deployment, link);
        for (int place = 0; place < ROUTER_PLACE_COUNT; place++) {
            list_each (link, &deployment->places[place]) {
                struct router_replica *replica = list_entry(link, struct router_replica, link);
                replica->quiet_ns = now_ns;
                replica->probed_ns = now_ns;
            }
        }
    }
}

/* Replicas that owe a sign of life for half the limit. */
static uint32_t count_quiet(const struct router *router, int64_t now_ns)
{
    uint32_t count = 0;
    const struct list_link *of, *link;
    list_each (of, &router->deployments) {
        const struct router_deployment *deployment = list_entry(of, struct router_deployment, link);
        for (int place = 0; place < ROUTER_PLACE_COUNT; place++) {
            list_each (link, &deployment->places[place]) {
                const struct router_replica *replica =
                    list_entry(link, struct router_replica, link);
                if (judged_by_time(replica) && owes(replica) &&
                    now_ns - replica->quiet_ns >= router->silence_limit_ns / 2)
                    count++;
            }
        }
    }
    return count;
}

static void judge(struct router *router, int64_t now_ns, struct router_replica *replica,
                  struct router_effects *effects)
{
    if (now_ns - router->sign_ns >= router->silence_limit_ns / 2 &&
        count_quiet(router, now_ns) >= 2) {
        if (router->trace)
            trace_print(router->trace, "suspect ourselves: nobody gives a sign of life");
        forgive(router, now_ns);
        return;
    }
    if (router->trace)
        trace_print(router->trace, "silent r%llu", (unsigned long long)replica->id.v);
    replica->silent = true;
    replica->probed_ns = now_ns; /* the next one a whole limit from here */
    router_settle(router, replica);
    router_flush(router, now_ns, replica->deployment, NULL, effects);
}

/* Something is due for this replica now. */
static void fire(struct router *router, int64_t now_ns, struct router_replica *replica,
                 struct router_effects *effects)
{
    bool judgeable = router->silence_limit_ns > 0 && replica->probed && !replica->silent;
    if (judgeable && verdict_ns(router, replica) <= now_ns) {
        judge(router, now_ns, replica, effects);
        return;
    }
    if (ask_ns(replica) <= now_ns) {
        router_ask(router, now_ns, replica, effects);
        router_flush(router, now_ns, replica->deployment, replica, effects);
        return;
    }
    ensure(replica->place == ROUTER_PLACE_SILENT || (!replica->probed && router_held(replica) > 0));
    if (router_say_probe(router, replica, effects)) {
        replica->probed = true;
        replica->probed_ns = now_ns;
    }
}

static void expire(struct router *router, int64_t now_ns, struct router_effects *effects)
{
    struct heap_link *first;
    while ((first = heap_first(&router->deadlines)) != NULL && first->key <= now_ns) {
        struct router_request *request = heap_entry(first, struct router_request, due);
        bool over = request->deadline_ns && request->deadline_ns <= now_ns;
        if (!over)
            router_relax(router, now_ns, request, effects);
        else if (!router_refuse(router, request, ERROR_TIMEOUT, effects))
            return;
    }
}

void router_timer(struct router *router, int64_t now_ns, bool late, struct router_effects *effects)
{
    router_unstick(router, now_ns, effects);
    if (late)
        forgive(router, now_ns);
    expire(router, now_ns, effects);
    struct heap_link *first;
    for (uint32_t turns = router->replica_dues.count; turns > 0; turns--) {
        first = heap_first(&router->replica_dues);
        if (!first || first->key > now_ns)
            break;
        struct router_replica *replica = heap_entry(first, struct router_replica, due);
        int64_t due = router_replica_due_ns(router, replica);
        if (due != 0 && due <= now_ns) {
            fire(router, now_ns, replica, effects);
            due = router_replica_due_ns(router, replica);
        }
        if (due == 0)
            heap_remove(&router->replica_dues, &replica->due);
        else
            heap_move(&router->replica_dues, &replica->due, due);
    }
}

int64_t router_deadline_ns(const struct router *router)
{
    if (router->stuck)
        return 1;
    const struct heap_link *request = heap_first(&router->deadlines),
                           *replica = heap_first(&router->replica_dues);
    int64_t due = INT64_MAX;
    if (request)
        due = request->key;
    if (replica && replica->key < due)
        due = replica->key;
    if (due == INT64_MAX)
        return 0;
    return due > 0 ? due : 1;
}
