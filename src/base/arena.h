/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: memory that is freed all at once, one per request or message.
 *
 * Blocks come from an arena_blocks store that keeps returned blocks for reuse, so that after
 * warm-up a request that fits one block allocates nothing.  Bounded: an arena has a limit in bytes.
 */
#ifndef MANTA_BASE_ARENA_H
#define MANTA_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum { ARENA_BLOCK_SIZE = 8192 }; /* bytes, the block's header included */

struct arena_block;

/* A store of free blocks, shared by the arenas of one thread (or one lock). */
struct arena_blocks {
    struct arena_block *free; /* kept for reuse */
    uint32_t free_count, free_limit;
    uint32_t live_count; /* blocks out in arenas (M1: zero at rest) */
};

struct arena {
    struct arena_blocks *blocks;
    struct arena_block *first; /* newest block */
    size_t used;               /* bytes handed out */
    size_t limit;              /* bytes at most */
};

void arena_blocks_init(struct arena_blocks *blocks, uint32_t free_limit);
void arena_blocks_done(struct arena_blocks *blocks);

void arena_init(struct arena *arena, struct arena_blocks *blocks, size_t limit);
/* Zeroed, aligned to 16; null past the limit or when memory lacks. */
void *arena_try(struct arena *arena, size_t size);
/* A copy with a zero byte behind it; .at is null when it did not fit. */
struct bytes arena_copy(struct arena *arena, struct bytes bytes);
char *arena_copy_string(struct arena *arena, struct bytes bytes);
/* Gives every block back; the arena may be used again. */
void arena_clear(struct arena *arena);

#endif
