/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: memory that lives as long as a request, or as the replica.
 *
 * It comes from an arena while that has room, which is the case that matters for speed, and from
 * the heap for what is larger.  Zero-terminated copies of slices are made on first use and found
 * again, so that asking for a path or an argument a thousand times costs one copy.
 */
#ifndef MANTA_API_KEEP_H
#define MANTA_API_KEEP_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"
#include "bytes.h"

struct keep_copy;
struct keep_block;

/* Guarded by whoever guards the arena; zeroed but for `arena` before first use. */
struct keep {
    struct arena *arena;
    struct keep_copy *copies;  /* newest first */
    struct keep_block *blocks; /* on the heap */
};

/* Zeroed; null when memory lacks. */
void *keep_memory(struct keep *keep, size_t size);
/* release(owner) is called when the blocks are freed; false: memory, and it is not. */
bool keep_hold(struct keep *keep, void (*release)(void *owner), void *owner);
/* The copy made before, or null.  Touches no allocator. */
const char *keep_find(const struct keep *keep, struct bytes slice);
/* That copy, or a new one; null when memory lacks. */
const char *keep_string(struct keep *keep, struct bytes slice);
/* The blocks on the heap become the caller's, who frees them when nobody looks at them any more. */
struct keep_block *keep_detach(struct keep *keep);
void keep_free(struct keep_block *blocks); /* all of them; null is fine */

#endif
