/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: see its header.  A copy is found by where its slice lies, not by what it says: the slices
 * are those of one document that does not move.
 */
#include "keep.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"

struct keep_copy {
    struct keep_copy *next;
    struct bytes slice;
    char text[];
};

struct keep_block {
    struct keep_block *next;
    void (*release)(void *owner); /* null: the block is only memory */
    void *owner;
    _Alignas(16) uint8_t data[];
};

static struct keep_block *add_block(struct keep *keep, size_t size)
{
    struct keep_block *block = mem_try(sizeof *block + size);
    if (!block)
        return NULL;
    block->next = keep->blocks;
    keep->blocks = block;
    return block;
}

void *keep_memory(struct keep *keep, size_t size)
{
    ensure(size < SIZE_MAX / 2);
    void *memory = arena_try(keep->arena, size);
    if (memory)
        return memory;
    struct keep_block *block = add_block(keep, size);
    return block ? block->data : NULL;
}

bool keep_hold(struct keep *keep, void (*release)(void *owner), void *owner)
{
    struct keep_block *block = add_block(keep, 0);
    if (!block)
        return false;
    block->release = release;
    block->owner = owner;
    return true;
}

const char *keep_find(const struct keep *keep, struct bytes slice)
{
    for (const struct keep_copy *copy = keep->copies; copy; copy = copy->next)
        if (copy->slice.at == slice.at && copy->slice.size == slice.size)
            return copy->text;
    return NULL;
}

const char *keep_string(struct keep *keep, struct bytes slice)
{
    const char *found = keep_find(keep, slice);
    if (found)
        return found;
    struct keep_copy *copy = keep_memory(keep, sizeof *copy + slice.size + 1);
    if (!copy)
        return NULL;
    copy->next = keep->copies;
    copy->slice = slice;
    if (slice.size)
        memcpy(copy->text, slice.at, slice.size);
    keep->copies = copy;
    return copy->text;
}

struct keep_block *keep_detach(struct keep *keep)
{
    struct keep_block *blocks = keep->blocks;
    keep->blocks = NULL;
    return blocks;
}

void keep_free(struct keep_block *block)
{
    while (block) {
        struct keep_block *next = block->next;
        if (block->release)
            block->release(block->owner);
        mem_free(block);
        block = next;
    }
}
