/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_deadline: the nearest times at which something is to be done, one per replica.
 *
 * A binary heap of replicas; each knows its place, so that a deadline is moved or taken out without
 * a search.  What a deadline means depends on the replica's state (controller_event.c).  Equal
 * times come in the order of ids (D1).
 */
#include "controller_state.h"
#include "ensure.h"
#include "mem.h"

enum { FIRST_CAPACITY = 16 };

int64_t controller_after(const struct controller *controller, int64_t span_ns)
{
    ensure(span_ns >= 0);
    int64_t then =
        controller->now_ns > INT64_MAX - span_ns ? INT64_MAX : controller->now_ns + span_ns;
    return then > 0 ? then : 1; /* 0 means none */
}

static bool sooner(const struct controller_replica *a, const struct controller_replica *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->id.v < b->id.v;
}

static void put(struct controller_deadlines *heap, uint32_t place,
                struct controller_replica *replica)
{
    heap->at[place - 1] = replica;
    replica->deadline_place = place;
}

/* Up or down until it lies right; places count from 1. */
static void settle(struct controller_deadlines *heap, uint32_t place)
{
    struct controller_replica *replica = heap->at[place - 1];
    for (; place > 1 && sooner(replica, heap->at[place / 2 - 1]); place /= 2)
        put(heap, place, heap->at[place / 2 - 1]);
    for (uint32_t below; (below = place * 2) <= heap->count; place = below) {
        if (below < heap->count && sooner(heap->at[below], heap->at[below - 1]))
            below++;
        if (!sooner(heap->at[below - 1], replica))
            break;
        put(heap, place, heap->at[below - 1]);
    }
    put(heap, place, replica);
}

void controller_deadline_set(struct controller *controller, struct controller_replica *replica,
                             int64_t deadline_ns)
{
    struct controller_deadlines *heap = &controller->deadlines;
    ensure(deadline_ns > 0);
    replica->deadline_ns = deadline_ns;
    if (replica->deadline_place == 0) {
        if (heap->count == heap->capacity) {
            uint32_t capacity = heap->capacity ? heap->capacity * 2 : FIRST_CAPACITY;
            heap->at = mem_try_resize(heap->at, heap->capacity * sizeof(*heap->at),
                                      capacity * sizeof(*heap->at));
            ensure(heap->at);
            heap->capacity = capacity;
        }
        put(heap, ++heap->count, replica);
    }
    settle(heap, replica->deadline_place);
}

void controller_deadline_clear(struct controller *controller, struct controller_replica *replica)
{
    struct controller_deadlines *heap = &controller->deadlines;
    uint32_t place = replica->deadline_place;
    if (place == 0)
        return;
    ensure(place <= heap->count && heap->at[place - 1] == replica);
    replica->deadline_place = 0;
    struct controller_replica *last = heap->at[--heap->count];
    if (last == replica)
        return;
    put(heap, place, last);
    settle(heap, place);
}

struct controller_replica *controller_deadline_take(struct controller *controller)
{
    struct controller_deadlines *heap = &controller->deadlines;
    if (heap->count == 0 || heap->at[0]->deadline_ns > controller->now_ns)
        return NULL;
    struct controller_replica *replica = heap->at[0];
    controller_deadline_clear(controller, replica);
    return replica;
}

int64_t controller_deadline_ns(const struct controller *controller)
{
    return controller->deadlines.count ? controller->deadlines.at[0]->deadline_ns : 0;
}
