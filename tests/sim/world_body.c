/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_body: what bodies look like.
 *
 * Each byte follows from a key (of a request its number) and its place, so that both ends can tell
 * a byte that is missing, doubled, or another request's, without anybody keeping a copy.
 */
#include <string.h>

#include "world.h"

/*
 * Byte `at` is key * 31 + at * 7 + (at >> 8) * 13 + (at >> 16), of which the lowest eight bits.  So
 * 256 bytes that begin at a multiple of 256 are a piece of the ramp 0, 7, 14, ..., from where its
 * first byte stands there: 183 is the inverse of 7.
 */
enum { RUN = 256, INVERSE = 183 };

static const uint8_t *ramp_from(uint32_t key, uint64_t at)
{
    static uint8_t ramp[2 * RUN];
    uint8_t first = (uint8_t)(key * 31 + at * 7 + (at >> 8) * 13 + (at >> 16));
    if (ramp[1] == 0)
        for (uint32_t i = 0; i < sizeof ramp; i++)
            ramp[i] = (uint8_t)(i * 7);
    return ramp + (uint8_t)(first * INVERSE);
}

/* Up to the end of the run in which `at` lies. */
static size_t run_size(uint64_t at, size_t most)
{
    size_t size = RUN - at % RUN;
    return size < most ? size : most;
}

void world_body_fill(uint32_t key, uint64_t at, uint8_t *to, size_t size)
{
    for (size_t part; size > 0; at += part, to += part, size -= part) {
        part = run_size(at, size);
        memcpy(to, ramp_from(key, at), part);
    }
}

bool world_body_equal(uint32_t key, uint64_t at, struct bytes bytes)
{
    for (size_t part; bytes.size > 0; at += part, bytes = bytes_skip(bytes, part)) {
        part = run_size(at, bytes.size);
        if (memcmp(bytes.at, ramp_from(key, at), part) != 0)
            return false;
    }
    return true;
}
