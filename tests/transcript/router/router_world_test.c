/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_world: all short orders of events, long random ones, and both with memory failing.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mem.h"
#include "router_model.h"
#include "torture.h"

/* ---- every order of five events ---- */

static bool submit_first(struct model *model)
{
    return model_submit(model, 0, 0);
}
static bool submit_with_deadline(struct model *model)
{
    return model_submit(model, 0, model->now_ns + 7000000);
}
static bool answer_one(struct model *model)
{
    return model_finished(model, model_in_flight(model, MODEL_REPLICAS), 0);
}
static bool reject_one(struct model *model)
{
    return model_rejected(model, model_in_flight(model, MODEL_REPLICAS), 2, false);
}
static bool reject_draining(struct model *model)
{
    return model_rejected(model, model_in_flight(model, MODEL_REPLICAS), 1, true);
}
static bool lose_first(struct model *model)
{
    return model_gone(model, 0, false);
}
static bool drop_first(struct model *model)
{
    model->replicas[0].wanted = !model->replicas[0].wanted;
    return model_snapshot(model);
}
static bool delete_deployment(struct model *model)
{
    model->deployments[0].wanted = !model->deployments[0].wanted;
    return model_snapshot(model);
}
static bool cancel_one(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
        if (model_cancel(model, i))
            return true;
    }
    return false;
}
static bool connect_second(struct model *model)
{
    return model_connect(model, 1);
}
static bool tell_first(struct model *model)
{
    return model_names(model, 0, 1 << 1);
}
static bool pass_time(struct model *model)
{
    model_time(model, 8000000, false);
    return true;
}

static bool (*const alphabet[])(struct model *) = {
    submit_first, submit_with_deadline, answer_one, reject_one,     reject_draining, lose_first,
    drop_first,   delete_deployment,    cancel_one, connect_second, pass_time,       tell_first,
};
enum { ALPHABET_SIZE = sizeof(alphabet) / sizeof(alphabet[0]), EVENTS = 5 };

static void play_order(uint32_t order, uint32_t max_ongoing, int64_t max_queued)
{
    struct model model;
    cr_assert(model_init(&model, order, 1, 2));
    model.deployments[0].max_ongoing = max_ongoing;
    model.deployments[0].max_queued = max_queued;
    cr_assert(model_snapshot(&model) && model_connect(&model, 0));
    cr_assert(model_submit(&model, 0, 0));
    for (uint32_t i = 0; i < EVENTS; i++, order /= ALPHABET_SIZE)
        alphabet[order % ALPHABET_SIZE](&model);
    model_rest(&model);
    model_done(&model);
}

static uint32_t order_count(void)
{
    uint32_t count = 1;
    for (uint32_t i = 0; i < EVENTS; i++)
        count *= ALPHABET_SIZE;
    return count;
}

Test(router_orders, every_order_of_five_events_keeps_the_invariants, .timeout = 240)
{
    for (uint32_t order = 0; order < order_count(); order++)
        play_order(order, 1, -1);
}

Test(router_orders, every_third_order_with_a_short_queue, .timeout = 240)
{
    for (uint32_t order = 0; order < order_count(); order += 3)
        play_order(order, 2, 1);
}

/* ---- long random ones ---- */

static uint32_t some_length(struct model *model)
{
    return (uint32_t)rng_below(&model->rng, 5);
}

static void change_snapshot(struct model *model)
{
    uint32_t at = (uint32_t)rng_below(&model->rng, MODEL_DEPLOYMENTS);
    struct model_deployment *deployment = &model->deployments[at];
    switch (rng_below(&model->rng, 6)) {
    case 0:
        deployment->wanted = rng_chance(&model->rng, 3, 4);
        break;
    case 1:
        deployment->available = rng_chance(&model->rng, 3, 4);
        break;
    case 2:
        deployment->max_ongoing = 1 + (uint32_t)rng_below(&model->rng, 4);
        break;
    case 3:
        deployment->max_queued = (int64_t)rng_below(&model->rng, 12) - 1;
        break;
    default:
        at = (uint32_t)rng_below(&model->rng, MODEL_REPLICAS);
        model->replicas[at].wanted = rng_chance(&model->rng, 2, 3);
    }
    model_snapshot(model);
}

static void step_replica(struct model *model)
{
    uint32_t replica = (uint32_t)rng_below(&model->rng, MODEL_REPLICAS);
    switch (rng_below(&model->rng, 8)) {
    case 0:
        model_gone(model, replica, rng_chance(&model->rng, 1, 2));
        break;
    case 1:
    case 2:
        model_pong(model, replica, some_length(model));
        break;
    case 3:
    case 4:
        model_names(model, replica, (uint32_t)rng_below(&model->rng, 1 << MODEL_NAMES));
        break;
    default:
        model_connect(model, replica);
    }
}

static void step_request(struct model *model)
{
    uint32_t request = (uint32_t)rng_below(&model->rng, MODEL_REQUESTS);
    switch (rng_below(&model->rng, 8)) {
    case 0:
        model_cancel(model, request);
        break;
    case 1:
        model_accepted(model, request, some_length(model));
        break;
    case 2:
    case 3:
        model_rejected(model, request, some_length(model), rng_chance(&model->rng, 1, 10));
        break;
    default:
        model_finished(model, request, some_length(model));
    }
}

static void step(struct model *model)
{
    uint64_t chance = rng_below(&model->rng, 100);
    if (chance < 25) {
        bool hurried = rng_chance(&model->rng, 1, 3);
        int64_t within = (int64_t)rng_below(&model->rng, 60000000);
        model_submit(model, (uint32_t)rng_below(&model->rng, MODEL_DEPLOYMENTS),
                     hurried ? model->now_ns + within : 0);
    } else if (chance < 75) {
        step_request(model);
    } else if (chance < 85) {
        step_replica(model);
    } else if (chance < 88) {
        change_snapshot(model);
    } else {
        model_time(model, (int64_t)rng_below(&model->rng, 20000000),
                   rng_chance(&model->rng, 1, 50));
        if (rng_chance(&model->rng, 1, 100))
            model_time(model, 3000000000, false);
    }
}

/* False: no memory for a router. */
static bool play_random(uint64_t seed, uint32_t steps, struct text *ret_story)
{
    struct model model;
    bool made = model_init(&model, seed, MODEL_DEPLOYMENTS, MODEL_REPLICAS);
    if (made) {
        model_snapshot(&model);
        for (uint32_t i = 0; i < steps; i++)
            step(&model);
        model_rest(&model);
        if (ret_story)
            text_add(ret_story, text_bytes(&model.story));
    }
    model_done(&model);
    return made;
}

Test(router_random, ten_thousand_steps_end_every_request_once, .timeout = 240)
{
    for (uint64_t seed = 1; seed <= 20; seed++)
        cr_assert(play_random(seed, 10000, NULL));
}

Test(router_random, the_same_seed_tells_the_same_story, .timeout = 240)
{
    struct text first, second;
    text_init(&first, 1 << 22);
    text_init(&second, 1 << 22);
    cr_assert(play_random(7, 3000, &first) && play_random(7, 3000, &second));
    cr_assert(first.size > 10000 && !first.failed);
    cr_assert(bytes_equal(text_bytes(&first), text_bytes(&second))); /* D1 */
    text_done(&first);
    text_done(&second);
}

/* ---- memory ---- */

static uint64_t torture_seed;

static bool play_short(void)
{
    return play_random(torture_seed, 300, NULL);
}

Test(router_memory, every_request_ends_once_whatever_allocation_fails, .timeout = 240)
{
    for (torture_seed = 1; torture_seed <= 5; torture_seed++)
        torture(play_short);
}
