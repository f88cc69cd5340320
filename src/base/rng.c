/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng: xoshiro256** (Blackman and Vigna, 2018), its state filled by splitmix64 as its authors
 * advise.
 *
 * Only integers and only shifts, rotations and products modulo 2^64: the numbers are the same on
 * every machine and compiler (D1), and rng_test.c pins the first of them.
 */
#include "rng.h"

#include "ensure.h"

static uint64_t rotate(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

void rng_init(struct rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        uint64_t mixed = seed;
        mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
        rng->state[i] = mixed ^ mixed >> 31;
    }
    ensure(rng->state[0] | rng->state[1] | rng->state[2] | rng->state[3]);
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *state = rng->state;
    uint64_t result = rotate(state[1] * 5, 7) * 9;
    uint64_t low = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= low;
    state[3] = rotate(state[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    ensure(bound > 0);
    /* The first (2^64 mod bound) numbers would make the small results likelier: drawn again. */
    uint64_t unfair = (0 - bound) % bound;
    uint64_t number = rng_next(rng);
    while (number < unfair)
        number = rng_next(rng);
    return number % bound;
}

bool rng_chance(struct rng *rng, uint32_t numerator, uint32_t denominator)
{
    ensure(denominator > 0);
    return rng_below(rng, denominator) < numerator;
}
