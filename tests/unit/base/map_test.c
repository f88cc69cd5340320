/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps: both faces, the order of insertion, the limit, and growth without memory.
 */
#include "map.h"

#include <signal.h>
#include <stdio.h>

#include "rng.h"
#include "torture.h"

static int values[1000]; /* something to point to */

Test(map, a_number_is_put_found_replaced_and_removed)
{
    struct map map;
    map_init(&map, 10);
    cr_assert_null(map_get(&map, 7));
    cr_assert_null(map_remove(&map, 7));
    cr_assert_eq(map_try_put(&map, 7, &values[1]), 0);
    cr_assert_eq(map_try_put(&map, 0, &values[0]), 0);
    cr_assert_eq(map_get(&map, 7), &values[1]);
    cr_assert_eq(map_get(&map, 0), &values[0]);
    cr_assert_eq(map_try_put(&map, 7, &values[2]), 0);
    cr_assert_eq(map_count(&map), 2);
    cr_assert_eq(map_remove(&map, 7), &values[2]);
    cr_assert_null(map_get(&map, 7));
    cr_assert_eq(map_count(&map), 1);
    map_done(&map);
}

Test(map, a_name_may_hold_any_byte_and_is_copied)
{
    struct map map;
    char name[] = "shop";
    map_init(&map, 10);
    cr_assert_eq(map_try_put_name(&map, bytes_of_string(name), &values[0]), 0);
    name[0] = 'X';
    cr_assert_eq(map_get_name(&map, BYTES("shop")), &values[0]);
    cr_assert_null(map_get_name(&map, BYTES("Xhop")));
    cr_assert_eq(map_try_put_name(&map, BYTES(""), &values[1]), 0);
    cr_assert_eq(map_try_put_name(&map, BYTES("a\0b"), &values[2]), 0);
    cr_assert_eq(map_try_put_name(&map, BYTES("a\0c"), &values[3]), 0);
    cr_assert_eq(map_get_name(&map, bytes_of(NULL, 0)), &values[1]);
    cr_assert_eq(map_get_name(&map, BYTES("a\0b")), &values[2]);
    cr_assert_eq(map_remove_name(&map, BYTES("a\0c")), &values[3]);
    cr_assert_null(map_remove_name(&map, BYTES("a\0c")));
    struct map_entry *entry;
    map_each (entry, &map)
        cr_assert_eq(entry->name.at[entry->name.size], 0, "terminated");
    map_done(&map);
}

Test(map, entries_come_in_the_order_of_insertion)
{
    struct map map;
    struct map_entry *entry;
    map_init(&map, 1000);
    for (uint64_t i = 0; i < 300; i++)
        cr_assert_eq(map_try_put(&map, i * 7919 % 300 + 1000, &values[i]), 0);
    cr_assert_eq(map_try_put(&map, 1000, &values[500]), 0); /* replaced in its place */
    size_t i = 0;
    map_each (entry, &map) {
        cr_assert_eq(entry->number, i * 7919 % 300 + 1000);
        cr_assert_eq(entry->value, i == 0 ? &values[500] : &values[i]);
        i++;
    }
    cr_assert_eq(i, 300);
    map_remove(&map, 1000);
    cr_assert_eq(map_try_put(&map, 1000, &values[0]), 0);
    cr_assert_eq(list_entry(list_last(&map.order), struct map_entry, link)->number, 1000,
                 "back at the end");
    map_done(&map);
}

Test(map, the_current_entry_may_be_removed_while_the_map_is_walked)
{
    struct map map;
    struct map_entry *entry;
    map_init(&map, 1000);
    for (uint64_t i = 1; i <= 100; i++)
        map_try_put(&map, i, &values[i]);
    size_t met = 0;
    map_each (entry, &map) {
        met++;
        if (entry->number % 2 == 0)
            map_remove(&map, entry->number);
    }
    cr_assert_eq(met, 100);
    cr_assert_eq(map_count(&map), 50);
    map_each (entry, &map)
        map_remove(&map, entry->number);
    cr_assert_eq(map_count(&map), 0);
    map_each (entry, &map)
        cr_assert_fail("it is empty");
    map_done(&map);
}

Test(map, every_pair_of_entries_is_met_in_a_walk_within_a_walk)
{
    struct map map;
    struct map_entry *outer, *inner;
    map_init(&map, 10);
    for (uint64_t i = 1; i <= 5; i++)
        map_try_put(&map, i, &values[i]);
    uint64_t sum = 0;
    map_each (outer, &map)
        map_each (inner, &map)
            sum += outer->number * inner->number;
    cr_assert_eq(sum, 15 * 15);
    map_done(&map);
}

Test(map, past_the_limit_nothing_is_added_but_replacing_goes_on)
{
    struct map map;
    map_init(&map, 2);
    cr_assert_eq(map_try_put_name(&map, BYTES("a"), &values[0]), 0);
    cr_assert_eq(map_try_put_name(&map, BYTES("b"), &values[1]), 0);
    cr_assert_eq(map_try_put_name(&map, BYTES("c"), &values[2]), -1);
    cr_assert_null(map_get_name(&map, BYTES("c")));
    cr_assert_eq(map_try_put_name(&map, BYTES("a"), &values[3]), 0);
    map_remove_name(&map, BYTES("b"));
    cr_assert_eq(map_try_put_name(&map, BYTES("c"), &values[2]), 0);
    map_done(&map);
}

Test(map, a_long_random_life_agrees_with_a_plain_table)
{
    enum { KEYS = 500 };
    struct map map;
    struct rng rng;
    int *table[KEYS] = {0};
    size_t count = 0;
    rng_init(&rng, 6);
    map_init(&map, KEYS);
    for (int step = 0; step < 30000; step++) {
        size_t key = rng_below(&rng, KEYS);
        char name[32];
        int length = snprintf(name, sizeof(name), "deployment-%zu", key);
        struct bytes bytes = bytes_of(name, (size_t)length);
        cr_assert_eq(map_get_name(&map, bytes), table[key]);
        if (rng_chance(&rng, 1, 2)) {
            int *value = &values[rng_below(&rng, 1000)];
            cr_assert_eq(map_try_put_name(&map, bytes, value), 0);
            count += !table[key];
            table[key] = value;
        } else {
            cr_assert_eq(map_remove_name(&map, bytes), table[key]);
            count -= table[key] != NULL;
            table[key] = NULL;
        }
        cr_assert_eq(map_count(&map), count);
    }
    map_done(&map);
}

Test(map, ids_in_steps_of_a_power_of_two_do_not_share_a_bucket)
{
    struct map map;
    map_init(&map, 1000);
    for (uint64_t i = 0; i < 1000; i++)
        cr_assert_eq(map_try_put(&map, i << 32, &values[i]), 0);
    size_t longest = 0;
    for (size_t i = 0; i < map.bucket_count; i++) {
        size_t length = 0;
        for (struct map_entry *entry = map.buckets[i]; entry; entry = entry->chain)
            length++;
        longest = length > longest ? length : longest;
    }
    cr_assert_leq(longest, 8, "%zu", longest);
    map_done(&map);
}

static bool forty_names(void)
{
    struct map map;
    map_init(&map, 100);
    bool whole = true;
    size_t count = 0;
    for (int i = 0; i < 40; i++) {
        char name[16];
        struct bytes bytes = bytes_of(name, (size_t)snprintf(name, sizeof(name), "app-%d", i));
        bool put = map_try_put_name(&map, bytes, &values[i]) == 0;
        count += put;
        whole = whole && put;
        cr_assert_eq(map_get_name(&map, bytes), put ? &values[i] : NULL);
        cr_assert_eq(map_count(&map), count);
    }
    map_done(&map);
    return whole;
}

Test(map, without_memory_a_put_is_refused_and_growth_waits)
{
    /* 40 entries and the first table can refuse; the three larger tables cannot. */
    cr_assert_eq(torture(forty_names), 41);
}

Test(map, a_null_value_is_our_mistake, .signal = SIGABRT)
{
    struct map map;
    map_init(&map, 10);
    map_try_put(&map, 1, NULL);
}
