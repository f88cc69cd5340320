/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng: chance as an argument.
 *
 * A small seeded generator (xoshiro256**, seeded through splitmix64).  The same seed gives the same
 * numbers on every machine (D1).  Not for secrets.
 */
#ifndef MANTA_BASE_RNG_H
#define MANTA_BASE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* Uniform in [0, bound), without modulo bias; bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* True with probability numerator / denominator. */
bool rng_chance(struct rng *rng, uint32_t numerator, uint32_t denominator);

#endif
