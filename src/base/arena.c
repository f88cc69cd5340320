/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: a chain of blocks, cut from the front.
 *
 *     arena -> newest block -> older block -> ...
 *              | head | used | free        |
 *
 * A piece that does not fit an ordinary block gets a block of its own, which goes behind the newest
 * one, so that the rest of that one is not lost; such a block is not kept for reuse.  Under
 * AddressSanitizer the free part of a block is poisoned and a gap stands between two pieces.
 */
#include "arena.h"

#include "ensure.h"
#include "mem.h"
#include "poison.h"

enum {
    ALIGNMENT = 16,
    GAP = POISON_ON ? 16 : 0, /* poisoned bytes behind every piece */
};

struct arena_block {
    struct arena_block *next;
    size_t capacity; /* bytes at data */
    size_t used;     /* of them, handed out */
    _Alignas(ALIGNMENT) uint8_t data[];
};

enum { ORDINARY_CAPACITY = ARENA_BLOCK_SIZE - sizeof(struct arena_block) };

_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "pieces stand on their alignment");
_Static_assert(ORDINARY_CAPACITY % ALIGNMENT == 0, "no block ends with a part of a piece");

static struct arena_block *block_new(size_t capacity)
{
    struct arena_block *block = mem_try(sizeof(*block) + capacity);
    if (!block)
        return NULL;
    block->capacity = capacity;
    poison_lay(block->data, capacity);
    return block;
}

static void block_free(struct arena_block *block)
{
    poison_lift(block->data, block->capacity);
    mem_free(block);
}

void arena_blocks_init(struct arena_blocks *blocks, uint32_t free_limit)
{
    *blocks = (struct arena_blocks){.free_limit = free_limit};
}

void arena_blocks_done(struct arena_blocks *blocks)
{
    ensure_tag(M1, blocks->live_count == 0);
    while (blocks->free) {
        struct arena_block *block = blocks->free;
        blocks->free = block->next;
        blocks->free_count--;
        block_free(block);
    }
    ensure(blocks->free_count == 0);
}

static struct arena_block *blocks_take(struct arena_blocks *blocks)
{
    struct arena_block *block = blocks->free;
    if (!block)
        return block_new(ORDINARY_CAPACITY);
    ensure(blocks->free_count > 0);
    ensure(block->used == 0);
    blocks->free = block->next;
    blocks->free_count--;
    block->next = NULL;
    return block;
}

static void blocks_give(struct arena_blocks *blocks, struct arena_block *block)
{
    ensure(blocks->live_count > 0);
    blocks->live_count--;
    if (block->capacity != ORDINARY_CAPACITY || blocks->free_count >= blocks->free_limit) {
        block_free(block);
        return;
    }
    poison_lay(block->data, block->capacity);
    block->used = 0;
    block->next = blocks->free;
    blocks->free = block;
    blocks->free_count++;
}

void arena_init(struct arena *arena, struct arena_blocks *blocks, size_t limit)
{
    ensure(blocks);
    *arena = (struct arena){.blocks = blocks, .limit = limit};
}

/* A block of the arena with `room` bytes still to be cut; null when memory lacks. */
static struct arena_block *block_with_room(struct arena *arena, size_t room)
{
    struct arena_block *first = arena->first;
    if (first && first->capacity - first->used >= room)
        return first;
    bool ordinary = room <= ORDINARY_CAPACITY;
    struct arena_block *block = ordinary ? blocks_take(arena->blocks) : block_new(room);
    if (!block)
        return NULL;
    arena->blocks->live_count++;
    if (ordinary || !first) {
        block->next = first;
        arena->first = block;
    } else {
        block->next = first->next;
        first->next = block;
    }
    return block;
}

void *arena_try(struct arena *arena, size_t size)
{
    ensure(arena->used <= arena->limit);
    if (size > arena->limit || size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = size ? (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    if (rounded > arena->limit - arena->used)
        return NULL;
    struct arena_block *block = block_with_room(arena, rounded + GAP);
    if (!block)
        return NULL;
    uint8_t *piece = block->data + block->used;
    block->used += rounded + GAP;
    arena->used += rounded;
    ensure(block->used <= block->capacity);
    poison_lift(piece, size);
    return memset(piece, 0, size); /* a reused block holds old bytes */
}

struct bytes arena_copy(struct arena *arena, struct bytes bytes)
{
    char *copy = arena_copy_string(arena, bytes);
    return copy ? bytes_of(copy, bytes.size) : bytes_of(NULL, 0);
}

char *arena_copy_string(struct arena *arena, struct bytes bytes)
{
    if (bytes.size >= arena->limit)
        return NULL;
    char *copy = arena_try(arena, bytes.size + 1);
    if (copy && bytes.size)
        memcpy(copy, bytes.at, bytes.size);
    return copy;
}

void arena_clear(struct arena *arena)
{
    while (arena->first) {
        struct arena_block *block = arena->first;
        arena->first = block->next;
        blocks_give(arena->blocks, block);
    }
    arena->used = 0;
}
