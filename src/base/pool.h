/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: objects of one hot type, with ids that go stale.
 *
 * A slot is reused last-in first-out, so the hottest memory comes back first.  An id is a slot
 * index and the slot's generation; the generation grows each time a slot is given back, so an old
 * id finds nothing.  Ids, not pointers, cross every border (frames, minds, threads).  Objects never
 * move. Grows in chunks up to the limit given at init and never shrinks by itself.  Objects are
 * zeroed by pool_take.  Under AddressSanitizer given-back slots are poisoned.  One thread, or the
 * caller's lock.
 */
#ifndef MANTA_BASE_POOL_H
#define MANTA_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool {
    void **chunks;        /* chunk i holds pool_chunk_count objects */
    uint32_t *free_slots; /* stack of free indices */
    size_t object_size;   /* bytes, the header included */
    uint32_t chunk_count, free_count, slot_count;
    uint32_t used_count; /* taken and not given back */
    uint32_t limit;      /* objects at most */
};

/* An id is never 0: generation in the high 32 bits (from 1), slot index in the low 32. */
static inline uint32_t pool_id_index(uint64_t id)
{
    return (uint32_t)id;
}
static inline uint32_t pool_id_generation(uint64_t id)
{
    return (uint32_t)(id >> 32);
}

void pool_init(struct pool *pool, size_t object_size, uint32_t limit);
void pool_done(struct pool *pool);
/* Room for `count` more objects without a later allocation; -1: memory lacks, or past the limit. */
int pool_reserve(struct pool *pool, uint32_t count);
/* A zeroed object; null at the limit or when memory lacks. */
void *pool_take(struct pool *pool);
/* Null is fine; returns null.  The object's id is stale from here on. */
void *pool_give(struct pool *pool, void *object);
uint64_t pool_id(const void *object);
/* The object with this id, or null when the id is stale or was never given out. */
void *pool_find(const struct pool *pool, uint64_t id);
/* The live object at a slot index, or null: to iterate, index from 0 to pool->slot_count. */
void *pool_at(const struct pool *pool, uint32_t index);

#endif
