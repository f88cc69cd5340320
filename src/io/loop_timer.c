/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_timer: the timers of a loop, a binary heap of timers that live in their owners.
 *
 * libuv has timers of its own with milliseconds and one handle each; ours have nanoseconds, need no
 * closing, and cost nothing to embed in every connection.  loop.c fires them and keeps one libuv
 * timer set for the earliest.
 */
#include "ensure.h"
#include "loop_inside.h"
#include "mem.h"

enum { TIMER_HEAP_FIRST_CAPACITY = 64 };

static bool earlier(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void place(struct timer_heap *heap, struct loop_timer *timer, uint32_t index)
{
    heap->at[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct timer_heap *heap, struct loop_timer *timer, uint32_t index)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!earlier(timer, heap->at[parent]))
            break;
        place(heap, heap->at[parent], index);
        index = parent;
    }
    place(heap, timer, index);
}

static void sift_down(struct timer_heap *heap, struct loop_timer *timer, uint32_t index)
{
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && earlier(heap->at[child + 1], heap->at[child]))
            child++;
        if (!earlier(heap->at[child], timer))
            break;
        place(heap, heap->at[child], index);
        index = child;
    }
    place(heap, timer, index);
}

/* The timer at `index` has a new due time. */
static void restore(struct timer_heap *heap, struct loop_timer *timer, uint32_t index)
{
    if (index > 0 && earlier(timer, heap->at[(index - 1) / 2]))
        sift_up(heap, timer, index);
    else
        sift_down(heap, timer, index);
}

static void put(struct timer_heap *heap, struct loop_timer *timer)
{
    if (heap->count == heap->capacity) {
        uint32_t capacity = heap->capacity ? heap->capacity * 2 : TIMER_HEAP_FIRST_CAPACITY;
        void *at = mem_try_resize(heap->at, heap->capacity * sizeof(*heap->at),
                                  capacity * sizeof(*heap->at));
        ensure(at != NULL); /* eight bytes a timer: the timer itself took more */
        heap->at = at;
        heap->capacity = capacity;
    }
    sift_up(heap, timer, heap->count++);
}

struct loop_timer *timer_heap_first(const struct timer_heap *heap)
{
    return heap->count ? heap->at[0] : NULL;
}

void timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer)
{
    uint32_t index = timer->heap_index;
    ensure(index < heap->count && heap->at[index] == timer);

    struct loop_timer *last = heap->at[--heap->count];
    timer->due_ns = 0;
    if (last != timer)
        restore(heap, last, index);
}

void loop_timer_init(struct loop *loop, struct loop_timer *timer, void (*fire)(void *owner),
                     void *owner)
{
    ensure(loop && fire);
    *timer = (struct loop_timer){.fire = fire, .owner = owner, .loop = loop};
}

void loop_timer_set(struct loop_timer *timer, int64_t due_ns)
{
    struct loop *loop = timer->loop;
    ensure(loop && due_ns >= 0);
    if (due_ns == 0) {
        loop_timer_clear(timer);
        return;
    }
    if (due_ns == timer->due_ns)
        return;
    timer->order = ++loop->timer_order;
    bool set = timer->due_ns != 0;
    timer->due_ns = due_ns;
    if (set)
        restore(&loop->timers, timer, timer->heap_index);
    else
        put(&loop->timers, timer);
    if (due_ns < loop->waited_due_ns)
        loop->changes++;
}

void loop_timer_clear(struct loop_timer *timer)
{
    if (timer->due_ns)
        timer_heap_remove(&timer->loop->timers, timer);
}
