/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_effect: the list of effects of one step, and what must outlive it.
 *
 * Order in the list is order of performance.  PUBLISH goes to the front, so that nobody is drained
 * or stopped before its readers could learn that (R3); STOREs go to the end, because nothing behind
 * a store may be performed before it is confirmed (C1).  Everything else stays as it was decided.
 */
#include <string.h>

#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

enum { FIRST_CAPACITY = 8 };

static void effects_reserve(struct controller_effects *effects, uint32_t count)
{
    uint32_t capacity = effects->capacity ? effects->capacity : FIRST_CAPACITY;
    while (capacity < effects->count + count)
        capacity *= 2;
    if (capacity == effects->capacity)
        return;
    effects->at = mem_try_resize(effects->at, effects->capacity * sizeof(*effects->at),
                                 capacity * sizeof(*effects->at));
    ensure(effects->at);
    effects->capacity = capacity;
}

void controller_effects_done(struct controller_effects *effects)
{
    mem_free(effects->at);
    *effects = (struct controller_effects){0};
}

struct controller_effect *controller_effect_add(struct controller_effects *effects,
                                                enum controller_effect_type type)
{
    ensure(effects && type < CONTROLLER_EFFECT_COUNT);
    effects_reserve(effects, 1);
    struct controller_effect *effect = effects->at + effects->count++;
    *effect = (struct controller_effect){.type = type};
    return effect;
}

struct controller_effect *controller_effect_replica(struct controller *controller,
                                                    enum controller_effect_type type,
                                                    const struct controller_replica *replica)
{
    const struct controller_deployment *deployment = replica->deployment;
    struct controller_effect *effect = controller_effect_add(controller->effects, type);
    effect->token = replica->id.v;
    effect->replica = replica->id;
    if (deployment) {
        effect->deployment = deployment->id;
        effect->deployment_name = deployment->name;
        effect->app = deployment->app->id;
        effect->app_name = deployment->app->name;
    }
    return effect;
}

void controller_effects_publish(struct controller *controller)
{
    struct controller_effects *effects = controller->effects;
    effects_reserve(effects, 1);
    memmove(effects->at + 1, effects->at, effects->count * sizeof(*effects->at));
    effects->count++;
    controller->version++;
    effects->at[0] =
        (struct controller_effect){.type = CONTROLLER_PUBLISH, .token = controller->version};
    trace_print(controller->config.trace, "publish %llu", (unsigned long long)controller->version);
}

void controller_effects_close(struct controller *controller)
{
    struct controller_effects *effects = controller->effects, *stores = &controller->stores;
    if (stores->count == 0)
        return;
    effects_reserve(effects, stores->count);
    memcpy(effects->at + effects->count, stores->at, stores->count * sizeof(*stores->at));
    effects->count += stores->count;
    stores->count = 0;
}

void controller_trash_add(struct controller *controller, void *memory)
{
    struct controller_trash *trash = &controller->trash;
    if (trash->count == trash->capacity) {
        uint32_t capacity = trash->capacity ? trash->capacity * 2 : FIRST_CAPACITY;
        trash->at = mem_try_resize(trash->at, trash->capacity * sizeof(*trash->at),
                                   capacity * sizeof(*trash->at));
        ensure(trash->at);
        trash->capacity = capacity;
    }
    trash->at[trash->count++] = memory;
}

void controller_trash_empty(struct controller *controller)
{
    struct controller_trash *trash = &controller->trash;
    while (trash->count)
        mem_free(trash->at[--trash->count]);
}
