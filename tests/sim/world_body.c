/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_body: what bodies look like.
 *
 * Each byte follows from a key (of a request its number) and its place, so that both ends can tell
 * a byte that is missing, doubled, or another request's, without anybody keeping a copy.
 */
#include "world.h"

static uint8_t byte_at(uint32_t key, uint64_t at)
{
    return (uint8_t)(key * 31 + at * 7 + (at >> 8) * 13 + (at >> 16));
}

void world_body_fill(uint32_t key, uint64_t at, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = byte_at(key, at + i);
}

bool world_body_equal(uint32_t key, uint64_t at, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++)
        if (bytes.at[i] != byte_at(key, at + i))
            return false;
    return true;
}
