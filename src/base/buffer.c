/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer: the store of free buffers and the count of references.
 *
 * The free list is last-in first-out, so that the warmest buffer comes back first.  Its lock is
 * held for a handful of instructions and never around the heap.  The last reference may fall on any
 * thread; the order of the count makes every other holder's reads and writes happen before the
 * reuse.
 */
#include "buffer.h"

#include <pthread.h>
#include <stdbool.h>

#include "ensure.h"
#include "mem.h"
#include "poison.h"

struct buffer_store {
    size_t standard_size;     /* capacity of the buffers that are kept */
    uint32_t free_limit;      /* buffers kept at most */
    atomic_size_t live_bytes; /* capacity of the buffers that are referenced */
    atomic_size_t live_count; /* buffers that are referenced */
    pthread_mutex_t lock;     /* guards the two below */
    struct buffer *free;      /* newest first */
    uint32_t free_count;
};

struct buffer_store *buffer_store_new(size_t standard_size, uint32_t free_limit)
{
    ensure(standard_size > 0);
    struct buffer_store *store = mem_new(sizeof(*store));
    store->standard_size = standard_size;
    store->free_limit = free_limit;
    ensure(pthread_mutex_init(&store->lock, NULL) == 0);
    return store;
}

static void heap_free(struct buffer *buffer)
{
    poison_lift(buffer->data, buffer->capacity);
    mem_free(buffer);
}

struct buffer_store *buffer_store_free(struct buffer_store *store)
{
    if (!store)
        return NULL;
    ensure_tag(M1, atomic_load(&store->live_count) == 0);
    ensure_tag(M1, atomic_load(&store->live_bytes) == 0);
    while (store->free) {
        struct buffer *buffer = store->free;
        store->free = buffer->next_free;
        store->free_count--;
        heap_free(buffer);
    }
    ensure(store->free_count == 0);
    pthread_mutex_destroy(&store->lock);
    return mem_free(store);
}

size_t buffer_store_live_bytes(const struct buffer_store *store)
{
    return atomic_load_explicit(&store->live_bytes, memory_order_relaxed);
}

/* The newest free buffer, or null. */
static struct buffer *store_pop(struct buffer_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct buffer *buffer = store->free;
    if (buffer) {
        ensure(store->free_count > 0);
        store->free = buffer->next_free;
        store->free_count--;
    }
    pthread_mutex_unlock(&store->lock);
    return buffer;
}

/* False when the store keeps enough. */
static bool store_push(struct buffer_store *store, struct buffer *buffer)
{
    pthread_mutex_lock(&store->lock);
    bool kept = store->free_count < store->free_limit;
    if (kept) {
        buffer->next_free = store->free;
        store->free = buffer;
        store->free_count++;
    }
    pthread_mutex_unlock(&store->lock);
    return kept;
}

struct buffer *buffer_try_new(struct buffer_store *store, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    bool standard = size <= store->standard_size;
    size_t capacity = standard ? store->standard_size : size;
    struct buffer *buffer = standard ? store_pop(store) : NULL;
    if (!buffer)
        buffer = mem_try_raw(sizeof(*buffer) + capacity); /* a used one is not zeroed either */
    if (!buffer)
        return NULL;
    poison_lift(buffer->data, capacity);
    buffer->store = store;
    buffer->next_free = NULL;
    buffer->capacity = capacity;
    atomic_store_explicit(&buffer->references, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->live_bytes, capacity, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->live_count, 1, memory_order_relaxed);
    return buffer;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
    unsigned before = atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    ensure(before > 0 && before < UINT32_MAX);
    return buffer;
}

struct buffer *buffer_unref(struct buffer *buffer)
{
    if (!buffer)
        return NULL;
    unsigned before = atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel);
    ensure(before > 0);
    if (before > 1)
        return NULL;
    struct buffer_store *store = buffer->store;
    size_t capacity = buffer->capacity;
    bool kept = false;
    if (capacity == store->standard_size) {
        poison_lay(buffer->data, capacity);
        kept = store_push(store, buffer);
    }
    if (!kept)
        heap_free(buffer);
    /* Last: from here on the store itself may be freed by whoever waited for this buffer. */
    atomic_fetch_sub_explicit(&store->live_bytes, capacity, memory_order_relaxed);
    size_t live = atomic_fetch_sub_explicit(&store->live_count, 1, memory_order_release);
    ensure(live > 0);
    return NULL;
}
