/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heaps: the smallest first, equal keys in their second order, and links that know their place.
 */
#include "heap.h"

#include <signal.h>

#include "rng.h"
#include "torture.h"

struct timer {
    int number;
    struct heap_link due;
};

static int pop(struct heap *heap)
{
    struct heap_link *first = heap_first(heap);
    heap_remove(heap, first);
    heap_check(heap);
    return heap_entry(first, struct timer, due)->number;
}

Test(heap, the_smallest_comes_first_and_equal_ones_in_their_order)
{
    struct heap heap = {0};
    struct timer timers[5] = {{1}, {2}, {3}, {4}, {5}};
    cr_assert_null(heap_first(&heap));
    cr_assert_eq(heap_reserve(&heap, 5), 0);
    heap_put(&heap, &timers[4].due, 30, 1);
    heap_put(&heap, &timers[2].due, 20, 3);
    heap_put(&heap, &timers[1].due, 20, 2);
    heap_put(&heap, &timers[3].due, 20, 4);
    heap_put(&heap, &timers[0].due, -10, 9);
    for (int i = 1; i <= 5; i++)
        cr_assert_eq(pop(&heap), i);
    cr_assert_null(heap_first(&heap));
    heap_done(&heap);
}

Test(heap, a_link_moves_with_its_key_and_leaves_from_anywhere)
{
    struct heap heap = {0};
    struct timer timers[4] = {{1}, {2}, {3}, {4}};
    heap_reserve(&heap, 4);
    for (int i = 0; i < 4; i++)
        heap_put(&heap, &timers[i].due, 10 * i, 0);
    heap_move(&heap, &timers[3].due, -1);
    cr_assert_eq(heap_first(&heap), &timers[3].due);
    heap_move(&heap, &timers[3].due, 100);
    heap_remove(&heap, &timers[1].due);
    heap_check(&heap);
    cr_assert(!heap_linked(&timers[1].due));
    heap_remove(&heap, &timers[1].due);
    cr_assert_eq(pop(&heap), 1);
    cr_assert_eq(pop(&heap), 3);
    cr_assert_eq(pop(&heap), 4);
    heap_done(&heap);
}

Test(heap, a_long_random_life_agrees_with_a_plain_search)
{
    enum { COUNT = 60 };
    struct heap heap = {0};
    struct timer timers[COUNT] = {0};
    struct rng rng;
    rng_init(&rng, 8);
    heap_reserve(&heap, COUNT);
    for (int step = 0; step < 20000; step++) {
        struct heap_link *link = &timers[rng_below(&rng, COUNT)].due;
        if (!heap_linked(link))
            heap_put(&heap, link, (int64_t)rng_below(&rng, 20), rng_next(&rng));
        else if (rng_chance(&rng, 1, 3))
            heap_remove(&heap, link);
        else
            heap_move(&heap, link, (int64_t)rng_below(&rng, 20));
        heap_check(&heap);
        const struct heap_link *smallest = NULL;
        for (int i = 0; i < COUNT; i++)
            if (heap_linked(&timers[i].due) && (!smallest || heap_before(&timers[i].due, smallest)))
                smallest = &timers[i].due;
        cr_assert_eq(heap_first(&heap), smallest);
    }
    heap_done(&heap);
}

static bool two_reservations(void)
{
    struct heap heap = {0};
    struct timer timer = {0};
    bool whole = heap_reserve(&heap, 1) == 0;
    if (whole) {
        heap_put(&heap, &timer.due, 5, 0);
        whole = heap_reserve(&heap, 1) == 0 && heap_reserve(&heap, 100) == 0;
        cr_assert_eq(heap_first(&heap), &timer.due, "what was in it stays");
    }
    heap_done(&heap);
    return whole;
}

Test(heap, only_making_room_can_lack_memory)
{
    cr_assert_eq(torture(two_reservations), 2);
}

Test(heap, putting_without_room_is_our_mistake, .signal = SIGABRT)
{
    struct heap heap = {0};
    struct timer timer = {0};
    heap_put(&heap, &timer.due, 1, 1);
}
