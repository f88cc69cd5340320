/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap: what is due next, in O(log n) and without an allocation on the way.
 *
 * An intrusive binary heap: an object embeds one `struct heap_link` per heap it may be in.  The
 * smallest key comes first; equal keys come in the order of their second key, so that the order
 * never depends on how the heap was built (determinism).  Room is made before it is needed
 * (heap_reserve is the only call that may lack memory), because the minds that use it must not fail
 * in the middle of a step.
 */
#ifndef MANTA_BASE_HEAP_H
#define MANTA_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ensure.h"
#include "mem.h"

struct heap_link {
    int64_t key;    /* smallest first: a time */
    uint64_t order; /* decides between equal keys: an arrival number or an id */
    uint32_t place; /* 1 + index in the heap; 0: in none */
};

struct heap {
    struct heap_link **at; /* children of i are 2i + 1 and 2i + 2 */
    uint32_t count;        /* links in the heap */
    uint32_t capacity;     /* links it has room for */
};

#define heap_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void heap_done(struct heap *heap)
{
    heap->at = mem_free(heap->at);
    heap->count = heap->capacity = 0;
}

/* Room for `capacity` links in all; 0, or -1 when memory lacks. */
static inline int heap_reserve(struct heap *heap, uint32_t capacity)
{
    if (capacity <= heap->capacity)
        return 0;
    struct heap_link **at =
        mem_try_resize(heap->at, heap->capacity * sizeof(*at), capacity * sizeof(*at));
    if (!at)
        return -1;
    heap->at = at;
    heap->capacity = capacity;
    return 0;
}

static inline bool heap_linked(const struct heap_link *link)
{
    return link->place != 0;
}

/* Null when empty. */
static inline struct heap_link *heap_first(const struct heap *heap)
{
    return heap->count ? heap->at[0] : NULL;
}

static inline bool heap_before(const struct heap_link *a, const struct heap_link *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

static inline void heap_place(struct heap *heap, struct heap_link *link, uint32_t index)
{
    heap->at[index] = link;
    link->place = index + 1;
}

/* Moves `link`, which stands at `index` or will, to where its key belongs. */
static inline void heap_sift(struct heap *heap, struct heap_link *link, uint32_t index)
{
    while (index > 0 && heap_before(link, heap->at[(index - 1) / 2])) {
        heap_place(heap, heap->at[(index - 1) / 2], index);
        index = (index - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap_before(heap->at[child + 1], heap->at[child]))
            child++;
        if (!heap_before(heap->at[child], link))
            break;
        heap_place(heap, heap->at[child], index);
        index = child;
    }
    heap_place(heap, link, index);
}

/* Puts a link that is in no heap. */
static inline void heap_put(struct heap *heap, struct heap_link *link, int64_t key, uint64_t order)
{
    ensure(link->place == 0);
    ensure(heap->count < heap->capacity);
    link->key = key;
    link->order = order;
    heap_sift(heap, link, heap->count++);
}

/* Another key for a link that is in the heap. */
static inline void heap_move(struct heap *heap, struct heap_link *link, int64_t key)
{
    ensure(link->place > 0 && heap->at[link->place - 1] == link);
    link->key = key;
    heap_sift(heap, link, link->place - 1);
}

/* Nothing happens to a link that is in no heap. */
static inline void heap_remove(struct heap *heap, struct heap_link *link)
{
    if (link->place == 0)
        return;
    ensure(link->place <= heap->count && heap->at[link->place - 1] == link);
    uint32_t index = link->place - 1;
    struct heap_link *last = heap->at[--heap->count];
    link->place = 0;
    if (last != link)
        heap_sift(heap, last, index);
}

/* Every link stands where it says, and no child is before its parent. */
static inline void heap_check(const struct heap *heap)
{
    ensure(heap->count <= heap->capacity);
    for (uint32_t i = 0; i < heap->count; i++) {
        ensure(heap->at[i]->place == i + 1);
        ensure(i == 0 || !heap_before(heap->at[i], heap->at[(i - 1) / 2]));
    }
}

#endif
