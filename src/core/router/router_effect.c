/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_effect: how a decision is told, to the caller as an effect and to the trace as a line.
 *
 * One place for both, so that the story and the deeds cannot disagree.  The list is the caller's
 * and grows here; when it cannot, nothing is told and the router remembers that it is stuck:
 * whoever decided leaves its state as it was and decides again at the next event.
 */
#include <stdio.h>

#include "error.h"
#include "mem.h"
#include "pool.h"
#include "router_inner.h"

enum { EFFECTS_LEAST = 16 };

void router_effects_done(struct router_effects *effects)
{
    mem_free(effects->at);
    *effects = (struct router_effects){0};
}

int router_effects_reserve(struct router_effects *effects, uint32_t more)
{
    ensure(effects->count <= effects->capacity);
    uint64_t wanted = (uint64_t)effects->count + more;
    if (wanted <= effects->capacity)
        return 0;
    uint64_t capacity = effects->capacity ? effects->capacity : EFFECTS_LEAST;
    while (capacity < wanted)
        capacity *= 2;
    if (capacity > UINT32_MAX)
        return -1;
    struct router_effect *at =
        mem_try_resize(effects->at, effects->capacity * sizeof(*at), capacity * sizeof(*at));
    if (!at)
        return -1;
    effects->at = at;
    effects->capacity = (uint32_t)capacity;
    return 0;
}

static struct router_effect *add(struct router *router, struct router_effects *effects,
                                 enum router_effect_type type)
{
    if (router_effects_reserve(effects, 1) != 0) {
        router->stuck = true;
        return NULL;
    }
    struct router_effect *effect = &effects->at[effects->count++];
    *effect = (struct router_effect){.type = type};
    return effect;
}

struct router_name router_request_name(struct request_id id)
{
    struct router_name name;
    unsigned index = pool_id_index(id.v), generation = pool_id_generation(id.v);
    if (generation <= 1)
        snprintf(name.text, sizeof(name.text), "q%u", index);
    else
        snprintf(name.text, sizeof(name.text), "q%u.%u", index, generation);
    return name;
}

bool router_say_send(struct router *router, struct router_request *request,
                     struct router_replica *replica, struct router_effects *effects)
{
    struct router_effect *effect = add(router, effects, ROUTER_SEND);
    if (!effect)
        return false;
    effect->request = request->id;
    effect->replica = replica->id;
    if (router->trace)
        trace_print(router->trace, "send %s to r%llu (%u of %u)",
                    router_request_name(request->id).text, (unsigned long long)replica->id.v,
                    router_held(replica) + replica->others, replica->deployment->max_ongoing);
    return true;
}

bool router_say_refuse(struct router *router, struct request_id request, int code,
                       struct router_effects *effects)
{
    struct router_effect *effect = add(router, effects, ROUTER_REFUSE);
    if (!effect)
        return false;
    effect->request = request;
    effect->code = code;
    if (router->trace)
        trace_print(router->trace, "refuse %s %s", router_request_name(request).text,
                    error_name(code));
    return true;
}

bool router_say_connect(struct router *router, struct router_replica *replica, struct bytes address,
                        struct router_effects *effects)
{
    struct router_effect *effect = add(router, effects, ROUTER_CONNECT);
    if (!effect)
        return false;
    effect->replica = replica->id;
    effect->address = address;
    if (router->trace)
        trace_print(router->trace, "connect r%llu of d%llu at %.*s",
                    (unsigned long long)replica->id.v,
                    (unsigned long long)replica->deployment->id.v, BYTES_PRINT(address));
    return true;
}

bool router_say_disconnect(struct router *router, struct router_replica *replica,
                           struct router_effects *effects)
{
    struct router_effect *effect = add(router, effects, ROUTER_DISCONNECT);
    if (!effect)
        return false;
    effect->replica = replica->id;
    if (router->trace)
        trace_print(router->trace, "disconnect r%llu", (unsigned long long)replica->id.v);
    return true;
}

bool router_say_probe(struct router *router, struct router_replica *replica,
                      struct router_effects *effects)
{
    struct router_effect *effect = add(router, effects, ROUTER_PROBE);
    if (!effect)
        return false;
    effect->replica = replica->id;
    if (router->trace)
        trace_print(router->trace, "probe r%llu (%u of %u)", (unsigned long long)replica->id.v,
                    router_held(replica) + replica->others, replica->deployment->max_ongoing);
    return true;
}
