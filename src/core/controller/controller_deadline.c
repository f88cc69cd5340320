/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_deadline: the nearest times at which something is to be done, one per replica.
 *
 * What a deadline means depends on the replica's state (controller_event.c).  Equal times come in
 * the order of ids (D1).  Room in the heap is made when a replica is born, so that setting a
 * deadline never allocates.
 */
#include "controller_state.h"
#include "ensure.h"

int64_t controller_after(const struct controller *controller, int64_t span_ns)
{
    ensure(span_ns >= 0);
    bool beyond = controller->now_ns > INT64_MAX - span_ns;
    int64_t then_ns = beyond ? INT64_MAX : controller->now_ns + span_ns;
    return then_ns > 0 ? then_ns : 1; /* 0 means none */
}

void controller_deadline_reserve(struct controller *controller)
{
    enum { FIRST_CAPACITY = 16 };
    struct heap *heap = &controller->deadlines;
    if (heap->capacity >= controller->replicas.count)
        return;
    int reserved = heap_reserve(heap, heap->capacity ? heap->capacity * 2 : FIRST_CAPACITY);
    ensure(reserved == 0 && heap->capacity >= controller->replicas.count);
}

void controller_deadline_set(struct controller *controller, struct controller_replica *replica,
                             int64_t deadline_ns)
{
    ensure(deadline_ns > 0);
    if (heap_linked(&replica->deadline))
        heap_move(&controller->deadlines, &replica->deadline, deadline_ns);
    else
        heap_put(&controller->deadlines, &replica->deadline, deadline_ns, replica->id.v);
}

void controller_deadline_clear(struct controller *controller, struct controller_replica *replica)
{
    heap_remove(&controller->deadlines, &replica->deadline);
}

int64_t controller_replica_deadline_ns(const struct controller_replica *replica)
{
    return heap_linked(&replica->deadline) ? replica->deadline.key : 0;
}

struct controller_replica *controller_deadline_take(struct controller *controller)
{
    struct heap_link *link = heap_first(&controller->deadlines);
    if (!link || link->key > controller->now_ns)
        return NULL;
    heap_remove(&controller->deadlines, link);
    return heap_entry(link, struct controller_replica, deadline);
}

int64_t controller_deadline_ns(const struct controller *controller)
{
    const struct heap_link *link = heap_first(&controller->deadlines);
    return link ? link->key : 0;
}
