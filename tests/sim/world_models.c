/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_models: a replica that holds models, as src/api/models.c does without its threads.
 *
 *     (none) --asked for--> loading (a timer) --> loaded, held by calls --> (none), when another
 *                              |                                            needs its room
 *                              +--> (none): the load has failed, and those who waited with it
 *
 * A call of user code that needs a model holds it, or waits for it or for room.  Senders are told
 * of every change, always with the whole set.  At rest every sender must believe what is so.
 */
#include <stdio.h>

#include "ensure.h"
#include "router_inner.h"
#include "wire.h"
#include "world.h"

static uint32_t count_held(const struct world_replica *replica)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= WORLD_MODELS; i++)
        count += replica->models[i].state != WORLD_MODEL_NONE;
    return count;
}

void world_models_tell(struct world_replica *replica)
{
    char names[WORLD_MODELS][8];
    struct bytes ids[WORLD_MODELS];
    size_t count = 0;
    for (uint32_t i = 1; i <= WORLD_MODELS; i++) {
        if (replica->models[i].state == WORLD_MODEL_NONE)
            continue;
        snprintf(names[count], sizeof names[count], "m%u", i);
        ids[count] = bytes_of_string(names[count]);
        count++;
    }
    int code = taker_models(replica->taker, ids, count);
    ensure(code == 0);
}

/* ---- loading ---- */

static void model_over(void *owner)
{
    struct world_model *model = owner;
    struct world_replica *replica = model->replica;
    struct world *world = replica->world;
    bool fails = world->fault_on[FAULT_MODEL_FAILS] && !world->calm && world_one_in(world, 4);
    struct list_link *link;
    sim_say("model m%u %s", model->number, fails ? "cannot be loaded" : "is loaded");
    model->state = fails ? WORLD_MODEL_NONE : WORLD_MODEL_LOADED;
    model->used = ++replica->models_used;
    list_each (link, &replica->calls) {
        struct world_call *call = list_entry(link, struct world_call, link);
        if (fails && call->waits_for_model && call->known[0]->model == model->number)
            call->known[0]->model_failed = true;
    }
    world_models_tell(replica);
    world_user_go_on(replica);
}

static void begin_load(struct world_replica *replica, struct world_model *model)
{
    struct world *world = replica->world;
    bool slow = world->fault_on[FAULT_SLOW_START] && !world->calm && world_one_in(world, 4);
    int64_t most_ns = slow ? 2 * WORLD_SECOND : 30 * WORLD_MS;
    sim_say("loads model m%u", model->number);
    model->state = WORLD_MODEL_LOADING;
    loop_timer_set(&model->timer, sim_now_ns() + world_between(world, 1, most_ns));
    world_models_tell(replica);
}

/* Of those that nobody holds the one that was not used for the longest time; null: all are held. */
static struct world_model *find_victim(struct world_replica *replica)
{
    struct world_model *victim = NULL;
    for (uint32_t i = 1; i <= WORLD_MODELS; i++) {
        struct world_model *model = &replica->models[i];
        if (model->state == WORLD_MODEL_LOADED && model->users == 0 &&
            (!victim || model->used < victim->used))
            victim = model;
    }
    return victim;
}

bool world_models_take(struct world_call *call)
{
    struct world_replica *replica = call->replica;
    uint32_t number = call->known[0]->model;
    struct world_model *model = &replica->models[number], *victim;
    if (!replica->options.models || number == 0 || call->holds_model ||
        call->known[0]->model_failed)
        return true;
    call->waits_for_model = true;
    if (model->state == WORLD_MODEL_NONE) {
        if (count_held(replica) >= replica->options.models) {
            victim = find_victim(replica);
            if (!victim)
                return false; /* somebody will give one back */
            sim_say("unloads model m%u", victim->number);
            victim->state = WORLD_MODEL_NONE;
        }
        begin_load(replica, model);
    }
    if (model->state != WORLD_MODEL_LOADED)
        return false;
    model->users++;
    model->used = ++replica->models_used;
    call->waits_for_model = false;
    call->holds_model = true;
    return true;
}

void world_models_give_back(struct world_call *call)
{
    struct world_model *model = &call->replica->models[call->known[0]->model];
    if (!call->holds_model)
        return;
    ensure(model->state == WORLD_MODEL_LOADED && model->users > 0);
    model->users--;
    call->holds_model = false;
}

/* ---- life ---- */

void world_models_begin(struct world_replica *replica)
{
    for (uint32_t i = 1; i <= WORLD_MODELS; i++) {
        struct world_model *model = &replica->models[i];
        *model = (struct world_model){.replica = replica, .number = i};
        loop_timer_init(replica->process.loop, &model->timer, model_over, model);
    }
}

void world_models_end(struct world_replica *replica)
{
    for (uint32_t i = 1; i <= WORLD_MODELS; i++)
        loop_timer_clear(&replica->models[i].timer);
}

/* ---- rest ---- */

static uint32_t model_of(const struct router_model *model)
{
    char text[16];
    unsigned number = 0;
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(bytes_of(model->id, model->id_size)));
    return sscanf(text, "m%u", &number) == 1 && number <= WORLD_MODELS ? number : 0;
}

static bool believes_what_is(const struct router_replica *known,
                             const struct world_replica *replica)
{
    const struct list_link *link;
    uint32_t told = 0;
    list_each (link, &known->holdings) {
        const struct router_holding *holding = list_entry(link, struct router_holding, link);
        uint32_t number = model_of(holding->model);
        if (!number || replica->models[number].state == WORLD_MODEL_NONE)
            return false;
        told += holding->told;
    }
    return told == count_held(replica);
}

bool world_models_believed(const struct world_replica *replica, const struct router *router)
{
    if (!replica->options.models)
        return true;
    const struct router_replica *known =
        router->block ? router_index_get(&router->block->by_replica, replica->id) : NULL;
    return !known || !known->tells || believes_what_is(known, replica);
}
