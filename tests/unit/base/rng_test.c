/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chance: the published numbers of the generator (D1), and fair bounds.
 */
#include "rng.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>

Test(rng, a_seed_gives_the_published_numbers)
{
    /* xoshiro256** seeded with splitmix64(0), as the reference code prints them. */
    static const uint64_t EXPECTED[] = {
        UINT64_C(11091344671253066420), UINT64_C(13793997310169335082),
        UINT64_C(1900383378846508768), UINT64_C(7684712102626143532)};
    struct rng rng;
    rng_init(&rng, 0);
    for (int i = 0; i < 4; i++) {
        uint64_t number = rng_next(&rng);
        cr_assert_eq(number, EXPECTED[i], "%d: %" PRIu64, i, number);
    }
}

Test(rng, the_same_seed_gives_the_same_run_and_another_does_not)
{
    struct rng a, b, c;
    rng_init(&a, 17);
    rng_init(&b, 17);
    rng_init(&c, 18);
    int alike = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t number = rng_next(&a);
        cr_assert_eq(number, rng_next(&b));
        alike += number == rng_next(&c);
    }
    cr_assert_eq(alike, 0);
}

Test(rng, every_result_below_a_bound_is_as_likely)
{
    enum { BOUND = 7, DRAWS = 70000 };
    struct rng rng;
    unsigned counts[BOUND] = {0};
    rng_init(&rng, 1);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t number = rng_below(&rng, BOUND);
        cr_assert_lt(number, BOUND);
        counts[number]++;
    }
    for (int i = 0; i < BOUND; i++) /* 10000 expected, deviation 93; the seed is fixed */
        cr_assert(counts[i] > 9500 && counts[i] < 10500, "%d came %u times", i, counts[i]);
}

Test(rng, a_bound_that_does_not_divide_the_word_stays_fair)
{
    /* Bound 3 * 2^62: without the second draw the lowest third would come twice as often. */
    enum { DRAWS = 30000 };
    const uint64_t THIRD = UINT64_C(1) << 62;
    struct rng rng;
    unsigned counts[3] = {0};
    rng_init(&rng, 2);
    for (int i = 0; i < DRAWS; i++)
        counts[rng_below(&rng, 3 * THIRD) / THIRD]++;
    for (int i = 0; i < 3; i++)
        cr_assert(counts[i] > 9500 && counts[i] < 10500, "third %d came %u times", i, counts[i]);
}

Test(rng, certain_is_certain_and_never_is_never)
{
    struct rng rng;
    rng_init(&rng, 3);
    int quarter = 0;
    for (int i = 0; i < 10000; i++) {
        cr_assert(rng_chance(&rng, 5, 5));
        cr_assert(!rng_chance(&rng, 0, 5));
        cr_assert_eq(rng_below(&rng, 1), 0);
        quarter += rng_chance(&rng, 1, 4);
    }
    cr_assert(quarter > 2300 && quarter < 2700, "%d", quarter);
}

Test(rng, a_bound_of_zero_is_our_mistake, .signal = SIGABRT)
{
    struct rng rng;
    rng_init(&rng, 4);
    rng_below(&rng, 0);
}
