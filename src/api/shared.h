/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared: the inside of a manta_buffer, and documents with values whose bytes lie in buffers.
 *
 * In a document such a value is an extension that begins with a place (value_tensor.h).  In this
 * process its owner is the buffer, and the cookie proves that this process wrote it: a document
 * that somebody made up names no memory.  On its way the owner is the index of a piece of the
 * parcel.
 *
 *     args, pack --shared_collect--> document with indices, pieces --parcel--> shared_resolve -->
 * value
 */
#ifndef MANTA_API_SHARED_H
#define MANTA_API_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/buffer.h>
#include <manta/tensor.h>

#include "bytes.h"
#include "error.h"
#include "slots.h"
#include "text.h"
#include "value_tensor.h"

enum {
    SHARED_PIECE_LIMIT = 64, /* buffers that one value may refer to */
    SHARED_ALIGNMENT = 64,   /* of a buffer's first byte */
};

struct manta_buffer {
    atomic_uint references;
    uint8_t *at;
    size_t size;
    bool written_here;            /* made in this process: its maker may write */
    struct slot *slot;            /* where it lies, so that it can be lent; null: plain memory */
    void (*release)(void *owner); /* ends what holds the bytes; null: they are on the heap */
    void *owner;
};

/* Bytes that somebody else holds until release(owner) is called, from any thread; null: memory
 * (nothing is released). */
struct manta_buffer *shared_wrap(struct bytes bytes, bool written_here,
                                 void (*release)(void *owner), void *owner);

/* On the heap, aligned; null: memory. */
struct manta_buffer *shared_new_plain(size_t size);
/* The same for bytes of a slot, whose reference goes along; null: memory, and the reference is
 * gone. */
struct manta_buffer *shared_wrap_slot(struct slot *take_slot, struct bytes bytes,
                                      bool written_here);
/* From now on, or no longer, manta_buffer_new takes memory from this pool.  Any thread. */
void shared_use_pool(struct slot_pool *pool);
void shared_leave_pool(struct slot_pool *pool);

/* Writing into documents.  ERROR_INVALID for a tensor or a size that does not fit its buffer. */
int shared_write_buffer(struct text *out, const struct manta_arg *arg, struct error *reterr);
int shared_write_tensor(struct text *out, const struct manta_arg *arg, struct error *reterr);

/* The place of a buffer or tensor of this process: 0, or ERROR_TYPE for any other value. */
int shared_place(struct bytes document, struct value_place *ret_place,
                 struct manta_buffer **ret_buffer);

/* The document with its buffers as binary and its tensors as arrays (shared_plain.c). */
void shared_write_plain(struct text *out, struct bytes document);
/* Its JSON, buffers and tensors with it. */
void shared_print(struct bytes document, struct text *out);

/* Whether a document refers to buffers at all. */
bool shared_has_references(struct bytes document);
/*
 * Puts indices in place of buffers into `document` (a copy of the caller's, changed in place), and
 * each buffer once into `buffers` (borrowed), which has SHARED_PIECE_LIMIT places.  ERROR_LIMIT
 * when there are more, ERROR_INVALID for a place that this process did not write.
 */
int shared_collect(void *document, size_t size, struct manta_buffer **buffers, uint32_t *ret_count,
                   struct error *reterr);
/*
 * Puts buffers in place of indices into a checked document.  ERROR_PROTOCOL when an index, a range
 * or a tensor is wrong; with no buffers that is any reference at all.
 */
int shared_resolve(void *document, size_t size, struct manta_buffer *const *buffers, uint32_t count,
                   struct error *reterr);

#endif
