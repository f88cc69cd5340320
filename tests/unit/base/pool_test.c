/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: ids that go stale, warm slots first, limits, and iteration by index.
 */
#include "pool.h"

#include <signal.h>
#include <string.h>

#include "poison.h"
#include "rng.h"
#include "torture.h"

struct order {
    uint64_t number;
    char note[40];
};

Test(pool, an_id_finds_its_object_until_it_is_given_back)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 100);
    struct order *order = pool_take(&pool);
    uint64_t id = pool_id(order);
    cr_assert_neq(id, 0);
    cr_assert_eq(pool_find(&pool, id), order);
    cr_assert_null(pool_give(&pool, order));
    cr_assert_null(pool_find(&pool, id));
    struct order *next = pool_take(&pool);
    cr_assert_eq(next, order, "the warm slot comes back first");
    cr_assert_null(pool_find(&pool, id), "the old id is stale for ever");
    cr_assert_neq(pool_id(next), id);
    cr_assert_eq(pool_id_index(pool_id(next)), pool_id_index(id));
    cr_assert_eq(pool_id_generation(pool_id(next)), pool_id_generation(id) + 1);
    pool_give(&pool, next);
    pool_done(&pool);
}

Test(pool, ids_that_were_never_given_out_find_nothing)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 100);
    cr_assert_null(pool_find(&pool, 0));
    cr_assert_null(pool_find(&pool, UINT64_C(1) << 32), "an empty pool has no slot 0");
    struct order *order = pool_take(&pool);
    uint64_t id = pool_id(order);
    cr_assert_null(pool_find(&pool, 0));
    cr_assert_null(pool_find(&pool, id + 1), "a free slot whose next id is guessed");
    cr_assert_null(pool_find(&pool, id + (UINT64_C(1) << 32)), "a generation to come");
    cr_assert_null(pool_find(&pool, UINT64_MAX));
    cr_assert_null(pool_find(&pool, (id & ~UINT64_C(0xFFFFFFFF)) | 100), "past the limit");
    pool_give(&pool, order);
    pool_done(&pool);
}

Test(pool, a_taken_object_is_zero_and_aligned)
{
    struct pool pool;
    pool_init(&pool, 33, 70);
    for (int round = 0; round < 2; round++) {
        uint8_t *objects[70];
        for (int i = 0; i < 70; i++) {
            objects[i] = pool_take(&pool);
            cr_assert_eq((uintptr_t)objects[i] % 16, 0);
            for (int j = 0; j < 33; j++)
                cr_assert_eq(objects[i][j], 0);
            memset(objects[i], 0xFF, 33);
        }
        for (int i = 0; i < 70; i++)
            pool_give(&pool, objects[i]);
    }
    pool_done(&pool);
}

Test(pool, the_limit_is_exact_whatever_the_chunks)
{
    static const uint32_t LIMITS[] = {0, 1, 63, 64, 65, 200};
    for (size_t i = 0; i < sizeof(LIMITS) / sizeof(LIMITS[0]); i++) {
        struct pool pool;
        pool_init(&pool, 8, LIMITS[i]);
        void *last = NULL;
        for (uint32_t n = 0; n < LIMITS[i]; n++)
            cr_assert_not_null(last = pool_take(&pool));
        cr_assert_null(pool_take(&pool));
        cr_assert_eq(pool.used_count, LIMITS[i]);
        if (last) {
            pool_give(&pool, last);
            cr_assert_eq(pool_take(&pool), last);
        }
        pool_done(&pool);
    }
}

Test(pool, what_is_reserved_needs_no_allocation_later)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 300);
    cr_assert_eq(pool_reserve(&pool, 301), -1);
    cr_assert_eq(pool_reserve(&pool, 200), 0);
    uint64_t before = mem_count().allocations;
    for (int i = 0; i < 200; i++)
        cr_assert_not_null(pool_take(&pool));
    cr_assert_eq(mem_count().allocations, before);
    cr_assert_eq(pool_reserve(&pool, 101), -1, "100 are left to the limit");
    cr_assert_eq(pool_reserve(&pool, 100), 0);
    pool_done(&pool);
}

Test(pool, walking_the_slots_meets_every_live_object_once)
{
    struct pool pool;
    struct order *orders[150];
    pool_init(&pool, sizeof(struct order), 1000);
    for (int i = 0; i < 150; i++) {
        orders[i] = pool_take(&pool);
        orders[i]->number = (uint64_t)i;
    }
    for (int i = 0; i < 150; i += 3)
        pool_give(&pool, orders[i]);
    uint64_t sum = 0, count = 0;
    for (uint32_t i = 0; i < pool.slot_count; i++) {
        struct order *order = pool_at(&pool, i);
        if (!order)
            continue;
        cr_assert_eq(order->number, i, "fresh slots are given out from the lowest");
        sum += order->number;
        count++;
    }
    cr_assert_eq(count, 100);
    cr_assert_eq(sum, 149 * 150 / 2 - 3 * (49 * 50 / 2));
    cr_assert_null(pool_at(&pool, pool.slot_count));
    pool_done(&pool);
}

Test(pool, a_long_random_life_agrees_with_a_plain_table)
{
    enum { LIMIT = 200 };
    struct pool pool;
    struct rng rng;
    uint64_t ids[LIMIT] = {0}, stale[LIMIT] = {0};
    unsigned live = 0;
    rng_init(&rng, 5);
    pool_init(&pool, sizeof(struct order), LIMIT);
    for (int step = 0; step < 20000; step++) {
        size_t at = rng_below(&rng, LIMIT);
        struct order *order = pool_find(&pool, ids[at]);
        cr_assert_eq(order != NULL, ids[at] != 0);
        cr_assert_null(pool_find(&pool, stale[at]));
        if (order) {
            cr_assert_eq(order->number, at);
            stale[at] = ids[at];
            ids[at] = 0;
            pool_give(&pool, order);
            live--;
        } else {
            order = pool_take(&pool);
            order->number = at;
            ids[at] = pool_id(order);
            live++;
        }
        cr_assert_eq(pool.used_count, live);
    }
    pool_done(&pool);
}

Test(pool, a_generation_that_wraps_skips_zero)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 1);
    struct order *order = pool_take(&pool);
    /* The generation stands 12 bytes in front of the object; counting there takes too long. */
    ((uint32_t *)(void *)order)[-3] = UINT32_MAX;
    cr_assert_eq(pool_id_generation(pool_id(order)), UINT32_MAX);
    pool_give(&pool, order);
    order = pool_take(&pool);
    cr_assert_eq(pool_id_generation(pool_id(order)), 1);
    pool_give(&pool, order);
    pool_done(&pool);
}

static bool many_orders(void)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 400);
    bool whole = true;
    uint32_t taken = 0;
    for (int i = 0; i < 300; i++) {
        struct order *order = pool_take(&pool);
        whole = whole && order;
        taken += order != NULL;
        cr_assert_eq(pool.used_count, taken);
    }
    whole = pool_reserve(&pool, 400 - taken) == 0 && whole;
    pool_done(&pool);
    return whole;
}

Test(pool, any_failing_allocation_is_only_a_refusal)
{
    cr_assert_gt(torture(many_orders), 5);
}

Test(pool, the_sanitizer_sees_objects_that_were_given_back)
{
#if POISON_ON
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 10);
    struct order *order = pool_take(&pool), *other = pool_take(&pool);
    cr_assert(!__asan_address_is_poisoned(order));
    pool_give(&pool, order);
    cr_assert(__asan_address_is_poisoned(order));
    cr_assert(__asan_address_is_poisoned(order->note));
    cr_assert(!__asan_address_is_poisoned(other));
    cr_assert_null(pool_find(&pool, 7), "the heads may be looked at");
    pool_give(&pool, other);
    pool_done(&pool);
#else
    cr_skip_test("needs AddressSanitizer");
#endif
}

Test(pool, giving_back_twice_is_our_mistake, .signal = SIGABRT)
{
    struct pool pool;
    pool_init(&pool, sizeof(struct order), 10);
    struct order *order = pool_take(&pool);
    pool_give(&pool, order);
    pool_give(&pool, order);
}

Test(pool, giving_to_another_pool_is_our_mistake, .signal = SIGABRT)
{
    struct pool a, b;
    pool_init(&a, sizeof(struct order), 10);
    pool_init(&b, sizeof(struct order), 10);
    cr_assert_not_null(pool_take(&b));
    pool_give(&b, pool_take(&a));
}
