/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool: chunks of slots, each slot a head and an object.
 *
 *     chunks[index / 64] -> | head | object | head | object | ...      index % 64 within the chunk
 *
 * A head keeps the slot's index and generation for ever and says whether the object is out.  Heads
 * are never poisoned, so that pool_find on a stale id is allowed to look.  Chunk memory is never
 * moved or given back before pool_done; only the two small tables grow, doubling.
 */
#include "pool.h"

#include <stdbool.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "poison.h"

enum { CHUNK_COUNT = 64, ALIGNMENT = 16 };

struct slot_head {
    uint32_t index;      /* of the slot in the pool */
    uint32_t generation; /* from 1, one more each time the object is given back */
    uint32_t live;       /* 1 while the object is out */
    uint32_t mark;       /* SLOT_MARK: tells an object of a pool from any other pointer */
};

static const uint32_t SLOT_MARK = 0x736C6F74;

_Static_assert(sizeof(struct slot_head) == ALIGNMENT, "objects stand on their alignment");

static struct slot_head *head_at(const struct pool *pool, uint32_t index)
{
    uint8_t *chunk = pool->chunks[index / CHUNK_COUNT];
    return (struct slot_head *)(void *)(chunk + (size_t)(index % CHUNK_COUNT) * pool->object_size);
}

static struct slot_head *head_of(const void *object)
{
    struct slot_head *head = (struct slot_head *)object - 1;
    ensure(head->mark == SLOT_MARK);
    return head;
}

static size_t body_size(const struct pool *pool)
{
    return pool->object_size - sizeof(struct slot_head);
}

void pool_init(struct pool *pool, size_t object_size, uint32_t limit)
{
    ensure(object_size > 0 && object_size <= SIZE_MAX / (2 * CHUNK_COUNT));
    size_t rounded = (object_size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    *pool = (struct pool){.object_size = rounded + sizeof(struct slot_head), .limit = limit};
}

void pool_done(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->chunk_count; i++) {
        poison_lift(pool->chunks[i], pool->object_size * CHUNK_COUNT);
        mem_free(pool->chunks[i]);
    }
    mem_free(pool->chunks);
    mem_free(pool->free_slots);
    *pool = (struct pool){.object_size = pool->object_size, .limit = pool->limit};
}

/* Both tables double whenever the number of chunks is a power of two; -1 when memory lacks. */
static int tables_grow(struct pool *pool)
{
    size_t count = pool->chunk_count;
    if (count & (count - 1))
        return 0;
    size_t room = count ? count * 2 : 1;
    void **chunks = mem_try_resize(pool->chunks, count * sizeof(*chunks), room * sizeof(*chunks));
    if (!chunks)
        return -1;
    pool->chunks = chunks;
    size_t slot = sizeof(*pool->free_slots) * CHUNK_COUNT;
    uint32_t *free_slots = mem_try_resize(pool->free_slots, count * slot, room * slot);
    if (!free_slots)
        return -1; /* `chunks` is larger than it had to be until the next try */
    pool->free_slots = free_slots;
    return 0;
}

static int chunk_add(struct pool *pool)
{
    if (pool->slot_count >= pool->limit || tables_grow(pool) != 0)
        return -1;
    void *chunk = mem_try(pool->object_size * CHUNK_COUNT);
    if (!chunk)
        return -1;
    uint32_t first = pool->slot_count;
    uint32_t count = pool->limit - first < CHUNK_COUNT ? pool->limit - first : CHUNK_COUNT;
    pool->chunks[pool->chunk_count++] = chunk;
    pool->slot_count = first + count;
    for (uint32_t i = 0; i < count; i++) {
        struct slot_head *head = head_at(pool, first + i);
        *head = (struct slot_head){.index = first + i, .generation = 1, .mark = SLOT_MARK};
        poison_lay(head + 1, body_size(pool));
    }
    /* Free slots wait below the new ones; the lowest new index comes out first. */
    for (uint32_t i = count; i > 0; i--)
        pool->free_slots[pool->free_count++] = first + i - 1;
    ensure(pool->free_count + pool->used_count == pool->slot_count);
    return 0;
}

int pool_reserve(struct pool *pool, uint32_t count)
{
    if (count > pool->limit - pool->used_count)
        return -1;
    while (pool->free_count < count)
        if (chunk_add(pool) != 0)
            return -1;
    return 0;
}

void *pool_take(struct pool *pool)
{
    if (pool->free_count == 0 && chunk_add(pool) != 0)
        return NULL;
    struct slot_head *head = head_at(pool, pool->free_slots[--pool->free_count]);
    ensure(!head->live && head->generation > 0);
    head->live = 1;
    pool->used_count++;
    poison_lift(head + 1, body_size(pool));
    return memset(head + 1, 0, body_size(pool));
}

void *pool_give(struct pool *pool, void *object)
{
    if (!object)
        return NULL;
    struct slot_head *head = head_of(object);
    ensure(head->live);
    ensure(head->index < pool->slot_count && head_at(pool, head->index) == head);
    ensure(pool->used_count > 0);
    head->live = 0;
    if (++head->generation == 0)
        head->generation = 1; /* an id is never 0 */
    pool->used_count--;
    pool->free_slots[pool->free_count++] = head->index;
    poison_lay(object, body_size(pool));
    return NULL;
}

uint64_t pool_id(const void *object)
{
    const struct slot_head *head = head_of(object);
    ensure(head->live);
    return (uint64_t)head->generation << 32 | head->index;
}

void *pool_find(const struct pool *pool, uint64_t id)
{
    uint32_t index = pool_id_index(id);
    if (index >= pool->slot_count)
        return NULL;
    struct slot_head *head = head_at(pool, index);
    return head->live && head->generation == pool_id_generation(id) ? head + 1 : NULL;
}

void *pool_at(const struct pool *pool, uint32_t index)
{
    if (index >= pool->slot_count)
        return NULL;
    struct slot_head *head = head_at(pool, index);
    return head->live ? head + 1 : NULL;
}
