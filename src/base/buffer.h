/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer: ref-counted bytes that cross parts.
 *
 * A reader keeps a slice of a buffer alive by a reference instead of a copy.  Buffers of the
 * store's standard size are kept for reuse; larger ones go back to the heap.  Reference counts are
 * atomic: a buffer may be released on another thread than the one that took it; the store has a
 * small lock of its own for that.
 */
#ifndef MANTA_BASE_BUFFER_H
#define MANTA_BASE_BUFFER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct buffer_store; /* where free buffers of the standard size wait */

struct buffer {
    struct buffer_store *store;
    struct buffer *next_free;
    atomic_uint references;
    size_t capacity; /* bytes at `data` */
    uint8_t data[];
};

struct buffer_store *buffer_store_new(size_t standard_size, uint32_t free_limit);
struct buffer_store *buffer_store_free(struct buffer_store *store); /* every buffer must be back */
/* Bytes in live (referenced) buffers: what the byte budget counts. */
size_t buffer_store_live_bytes(const struct buffer_store *store);

/* At least `size` bytes, contents undefined, one reference; null when memory lacks. */
struct buffer *buffer_try_new(struct buffer_store *store, size_t size);
struct buffer *buffer_ref(struct buffer *buffer);
struct buffer *buffer_unref(struct buffer *buffer); /* null is fine; returns null */
static inline unsigned buffer_references(struct buffer *buffer)
{
    return atomic_load_explicit(&buffer->references, memory_order_acquire);
}

#endif
