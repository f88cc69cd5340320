/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_world: all short orders of events, long random ones, and both with memory failing.
 */
#include <criterion/criterion.h>

#include "mem.h"
#include "replica_model.h"
#include "torture.h"

enum { MS = 1000000 };

/* ---- every order of five events ---- */

static void admit_alone(struct model *model)
{
    model_admit(model, &(struct replica_admit){0});
}
static void admit_batched(struct model *model)
{
    model_admit(model, &(struct replica_admit){.batched = true});
}
static void admit_with_deadline(struct model *model)
{
    model_admit(model,
                &(struct replica_admit){.batched = true, .deadline_ns = model->now_ns + 5 * MS});
}
static void take_some(struct model *model)
{
    model_take(model, 2);
}
static void turn(struct model *model)
{
    model_turn(model);
}
static void pass_time(struct model *model)
{
    model_time(model, 7 * MS);
}
static void look_away(struct model *model)
{
    model_busy(model, 12 * MS);
}
static void answer_first(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_REQUESTS && !model_answer(model, i); i++)
        ;
}
static void cancel_last(struct model *model)
{
    for (uint32_t i = MODEL_REQUESTS; i > 0 && !model_cancel(model, i - 1); i--)
        ;
}
static void end_batch(struct model *model)
{
    model_batch_done(model);
}
static void drain(struct model *model)
{
    model_drain(model, 20 * MS);
}

static void (*const alphabet[])(struct model *) = {
    admit_alone, admit_batched, admit_with_deadline, take_some, turn,  pass_time,
    look_away,   answer_first,  cancel_last,         end_batch, drain,
};
enum {
    ALPHABET_SIZE = sizeof(alphabet) / sizeof(alphabet[0]),
    ORDERS = 161051 /* ALPHABET_SIZE to the fifth power */
};

static void play_order(uint32_t order, const struct replica_config *config)
{
    struct model model;
    cr_assert(model_init(&model, order, config));
    model_admit(&model, &(struct replica_admit){.batched = true});
    for (uint32_t i = 0; i < 5; i++, order /= ALPHABET_SIZE)
        alphabet[order % ALPHABET_SIZE](&model);
    model_rest(&model);
    model_done(&model);
}

Test(replica_orders, every_order_of_five_events_without_a_wait, .timeout = 240)
{
    struct replica_config config = {.max_ongoing = 3, .batch_size = 2, .batch_concurrency = 1};
    for (uint32_t order = 0; order < ORDERS; order++)
        play_order(order, &config);
}

Test(replica_orders, every_order_of_five_events_with_a_wait, .timeout = 240)
{
    struct replica_config config = {
        .max_ongoing = 4, .batch_size = 3, .batch_wait_ns = 10 * MS, .batch_concurrency = 1};
    for (uint32_t order = 0; order < ORDERS; order++)
        play_order(order, &config);
}

/* ---- long random ones ---- */

static struct replica_config random_config(struct rng *rng)
{
    return (struct replica_config){.max_ongoing = 1 + (uint32_t)rng_below(rng, 20),
                                   .batch_size = 1 + (uint32_t)rng_below(rng, 5),
                                   .batch_wait_ns = (int64_t)rng_below(rng, 3) * 10 * MS,
                                   .batch_concurrency = 1 + (uint32_t)rng_below(rng, 3)};
}

static void admit_any(struct model *model)
{
    int64_t within = (int64_t)rng_below(&model->rng, 40 * MS);
    struct replica_admit admit = {.batched = rng_chance(&model->rng, 3, 4),
                                  .method_hash = rng_below(&model->rng, 2),
                                  .deadline_ns =
                                      rng_chance(&model->rng, 1, 4) ? model->now_ns + within : 0};
    model_admit(model, &admit);
}

static void step(struct model *model)
{
    uint64_t chance = rng_below(&model->rng, 1000);
    uint32_t request = (uint32_t)rng_below(&model->rng, MODEL_REQUESTS);
    if (chance < 350) {
        admit_any(model);
    } else if (chance < 450) {
        model_take(model, (uint32_t)rng_below(&model->rng, 4));
    } else if (chance < 750) {
        model_answer(model, request);
    } else if (chance < 800) {
        model_cancel(model, request);
    } else if (chance < 880) {
        model_batch_done(model);
    } else if (chance < 920) {
        model_busy(model, (int64_t)rng_below(&model->rng, 20 * MS));
    } else if (chance < 995) {
        model_time(model, (int64_t)rng_below(&model->rng, 8 * MS));
    } else {
        struct replica_config config = random_config(&model->rng);
        model_reconfigure(model, &config);
    }
}

/* False: no memory for a replica. */
static bool play_random(uint64_t seed, uint32_t steps, bool memory_fails, struct text *ret_story)
{
    struct model model;
    struct replica_config config = {
        .max_ongoing = 10, .batch_size = 3, .batch_wait_ns = 10 * MS, .batch_concurrency = 1};
    bool made = model_init(&model, seed, &config);
    if (made) {
        model.memory_fails = memory_fails;
        for (uint32_t i = 0; i < steps; i++)
            step(&model);
        model_drain(&model, 20 * MS);
        for (uint32_t i = 0; i < steps / 100; i++)
            step(&model);
        model_rest(&model);
        if (ret_story)
            text_add(ret_story, text_bytes(&model.story));
    }
    model_done(&model);
    return made;
}

Test(replica_random, ten_thousand_steps_agree_with_the_plain_account, .timeout = 240)
{
    for (uint64_t seed = 1; seed <= 10; seed++)
        cr_assert(play_random(seed, 10000, false, NULL));
}

Test(replica_random, the_same_seed_tells_the_same_story, .timeout = 240)
{
    struct text first, second;
    text_init(&first, 1 << 22);
    text_init(&second, 1 << 22);
    cr_assert(play_random(7, 3000, false, &first) && play_random(7, 3000, false, &second));
    cr_assert(first.size > 10000 && !first.failed);
    cr_assert(bytes_equal(text_bytes(&first), text_bytes(&second))); /* D1 */
    text_done(&first);
    text_done(&second);
}

/* ---- memory ---- */

static bool play_short(void)
{
    return play_random(3, 200, true, NULL);
}

Test(replica_memory, every_request_ends_once_whatever_allocation_fails, .timeout = 240)
{
    cr_assert_geq(torture(play_short), 1);
}

/* Requests of two methods and two models come, are batched, one is cancelled, all end. */
static void busy_round(struct replica *replica, uint64_t round)
{
    struct request_id requests[32];
    int64_t now_ns = (int64_t)(round + 1) * 1000 * MS;
    bool batched;
    for (uint64_t i = 0; i < 32; i++) {
        struct replica_admit admit = {.request = {(round + 1) << 32 | i},
                                      .deadline_ns = now_ns + 100 * MS,
                                      .batched = i % 4 != 0,
                                      .method_hash = i % 2,
                                      .model_id = bytes_of("model", i % 3 ? 5 : 4)};
        cr_assert_eq(replica_admit(replica, now_ns, &admit), REPLICA_ACCEPTED);
    }
    replica_cancel(replica, now_ns, (struct request_id){(round + 1) << 32 | 5});
    while (replica_take(replica, now_ns + 20 * MS, requests, 32, &batched) > 0) {
        if (batched)
            replica_batch_done(replica, now_ns + 20 * MS);
    }
    for (uint64_t i = 0; i < 32; i++)
        replica_answered(replica, now_ns, (struct request_id){(round + 1) << 32 | i});
    cr_assert_eq(replica_ongoing(replica), 0);
}

Test(replica_memory, a_warm_replica_allocates_nothing)
{
    struct replica_config config = {
        .max_ongoing = 32, .batch_size = 4, .batch_wait_ns = 10 * MS, .batch_concurrency = 2};
    struct replica *replica = replica_new(&config);
    busy_round(replica, 0);
    uint64_t before = mem_count().allocations;
    for (uint64_t round = 1; round < 100; round++)
        busy_round(replica, round);
    cr_assert_eq(mem_count().allocations, before);
    replica_check(replica);
    replica_free(replica);
}

Test(replica_memory, slots_of_any_index_are_found)
{
    struct replica_config config = {.max_ongoing = 100, .batch_size = 1, .batch_concurrency = 1};
    struct replica *replica = replica_new(&config);
    for (uint64_t index = 1; index < 20000; index *= 3) {
        struct replica_admit admit = {.request = {(uint64_t)5 << 32 | index}};
        cr_assert_eq(replica_admit(replica, 1, &admit), REPLICA_ACCEPTED);
    }
    replica_check(replica);
    replica_answered(replica, 1,
                     (struct request_id){(uint64_t)4 << 32 | 3}); /* an old owner of the slot */
    uint32_t before = replica_ongoing(replica);
    for (uint64_t index = 1; index < 20000; index *= 3)
        replica_answered(replica, 1, (struct request_id){(uint64_t)5 << 32 | index});
    cr_assert(before == 10 && replica_ongoing(replica) == 0);
    replica_free(replica);
}
