/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_index: one sorted array, doubled when it is full.
 *
 * Its size is bounded by the limits that the mind checks before it accepts a target; growing it is
 * one of the allocations that may not fail (controller.h, "Memory").
 */
#include "controller_index.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"

enum { FIRST_CAPACITY = 16 };

void controller_index_done(struct controller_index *index)
{
    mem_free(index->at);
    *index = (struct controller_index){0};
}

/* Where the id is, or where it would be. */
static uint32_t place_of(const struct controller_index *index, uint64_t id)
{
    uint32_t low = 0, high = index->count;
    if (high && index->at[high - 1].id < id)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->at[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *controller_index_find(const struct controller_index *index, uint64_t id)
{
    uint32_t place = place_of(index, id);
    return place < index->count && index->at[place].id == id ? index->at[place].object : NULL;
}

void controller_index_insert(struct controller_index *index, uint64_t id, void *object)
{
    ensure(id && object);
    if (index->count == index->capacity) {
        uint32_t capacity = index->capacity ? index->capacity * 2 : FIRST_CAPACITY;
        index->at = mem_try_resize(index->at, index->capacity * sizeof(*index->at),
                                   capacity * sizeof(*index->at));
        ensure(index->at);
        index->capacity = capacity;
    }
    uint32_t place = place_of(index, id);
    ensure(place == index->count || index->at[place].id != id);
    memmove(index->at + place + 1, index->at + place, (index->count - place) * sizeof(*index->at));
    index->at[place] = (struct controller_index_row){.id = id, .object = object};
    index->count++;
}

void controller_index_remove(struct controller_index *index, uint64_t id)
{
    uint32_t place = place_of(index, id);
    ensure(place < index->count && index->at[place].id == id);
    index->count--;
    memmove(index->at + place, index->at + place + 1, (index->count - place) * sizeof(*index->at));
}
