/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_ring: a queue of calls from Manta's threads to the one that holds the interpreter.
 *
 * A call is on it at most once, so it never grows beyond the calls that are out, and pushing needs
 * no memory.
 */
#include "native.h"

#include <pthread.h>

struct native_ring {
    pthread_mutex_t lock;
    struct native_call *first, *last; /* guarded by lock */
    bool hushed;                      /* guarded by lock */
    void (*bell)(void *owner);
    void *owner;
};

struct native_ring *native_ring_new(void (*bell)(void *owner), void *owner)
{
    struct native_ring *ring = PyMem_RawCalloc(1, sizeof *ring);
    if (!ring)
        return NULL;
    pthread_mutex_init(&ring->lock, NULL);
    ring->bell = bell;
    ring->owner = owner;
    return ring;
}

struct native_ring *native_ring_free(struct native_ring *ring)
{
    if (ring) {
        pthread_mutex_destroy(&ring->lock);
        PyMem_RawFree(ring);
    }
    return NULL;
}

void native_ring_push(struct native_ring *ring, struct native_call *call)
{
    pthread_mutex_lock(&ring->lock);
    bool ring_it = !ring->first && !ring->hushed;
    if (!call->queued) {
        call->queued = true;
        call->next = NULL;
        if (ring->last)
            ring->last->next = call;
        else
            ring->first = call;
        ring->last = call;
    }
    pthread_mutex_unlock(&ring->lock);
    if (ring_it)
        ring->bell(ring->owner);
}

struct native_call *native_ring_pop(struct native_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    struct native_call *call = ring->first;
    if (call) {
        ring->first = call->next;
        if (!ring->first)
            ring->last = NULL;
        call->next = NULL;
        call->queued = false;
    }
    pthread_mutex_unlock(&ring->lock);
    return call;
}

void native_ring_remove(struct native_ring *ring, struct native_call *call)
{
    pthread_mutex_lock(&ring->lock);
    struct native_call *before = NULL;
    for (struct native_call *at = call->queued ? ring->first : NULL; at; before = at, at = at->next) {
        if (at != call)
            continue;
        if (before)
            before->next = call->next;
        else
            ring->first = call->next;
        if (ring->last == call)
            ring->last = before;
        call->next = NULL;
        call->queued = false;
        break;
    }
    pthread_mutex_unlock(&ring->lock);
}

void native_ring_hush(struct native_ring *ring, bool hushed)
{
    pthread_mutex_lock(&ring->lock);
    ring->hushed = hushed;
    pthread_mutex_unlock(&ring->lock);
}
