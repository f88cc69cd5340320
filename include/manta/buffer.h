/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/buffer.h>: large bytes that travel by reference.
 *
 *     struct manta_buffer *picture;
 *     if (manta_buffer_new(width * height * 3, &picture, &error) == 0) {
 *         paint(manta_buffer_at(picture));
 *         manta_request_reply_arg(request, manta_by_reference(picture));
 *         manta_buffer_free(picture);
 *     }
 *
 * A buffer lies in memory that the processes of one machine share: whoever gets it reads it where it is, without a copy.
 * Its first byte is aligned to 64.  When that memory is used up the bytes are copied as any others: nothing changes but the time.  To its reader it is a
 * value of the type MANTA_BINARY.
 *
 * A buffer is written by whoever made it, before it is sent for the first time; after that nobody writes to it.
 * It lives as long as somebody holds it (reference counted): its maker, a call or an answer on its way, whoever
 * received it until the request is answered or the call freed, and whoever keeps it with manta_value_buffer.  Functions are safe from any thread.
 */
#ifndef MANTA_BUFFER_H
#define MANTA_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include <manta/error.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_buffer;
struct manta_request;

/* A buffer of `size` bytes, 1 to 1 TiB less one, contents undefined, aligned to 64: MANTA_EMEMORY, MANTA_EINVALID.  The caller owns a reference. */
MANTA_EXPORT int manta_buffer_new(size_t size, struct manta_buffer **ret_buffer, struct manta_error *reterr);
/* One more reference; returns `buffer`. */
MANTA_EXPORT struct manta_buffer *manta_buffer_ref(struct manta_buffer *buffer);
/* Gives a reference back; null is fine; returns null. */
MANTA_EXPORT struct manta_buffer *manta_buffer_free(struct manta_buffer *buffer);
/* Its bytes, to be written by whoever made it; null for a received one, which can only be read. */
MANTA_EXPORT void *manta_buffer_at(struct manta_buffer *buffer);
/* Its bytes, to be read. */
MANTA_EXPORT const void *manta_buffer_data(const struct manta_buffer *buffer);
/* Bytes. */
MANTA_EXPORT size_t manta_buffer_size(const struct manta_buffer *buffer);

/* The buffer as a binary value, whole or its first `size` bytes (more than it has: the arg is refused where it is used).  Borrows: it is held by whoever takes the arg. */
MANTA_EXPORT struct manta_arg manta_by_reference(struct manta_buffer *buffer);
MANTA_EXPORT struct manta_arg manta_by_reference_head(struct manta_buffer *buffer, size_t size);
/*
 * The buffer behind a binary value that came by reference, to keep it longer than its request or call, or to send it on: the
 * caller owns a reference.  The value's bytes are *ret_size bytes at *ret_offset (null is fine).  MANTA_ENOTFOUND for a value whose bytes came in the message itself.
 */
MANTA_EXPORT int manta_value_buffer(const struct manta_value *value, struct manta_buffer **ret_buffer,
                                    size_t *ret_offset, size_t *ret_size, struct manta_error *reterr);

/* The whole body of a request as a buffer, to keep it or to send it on: the caller owns a reference.  MANTA_ENOTFOUND when the body came in the message itself (small ones do). */
MANTA_EXPORT int manta_request_body_buffer(struct manta_request *request, struct manta_buffer **ret_buffer, struct manta_error *reterr);
/* As manta_request_reply_http with the first `size` bytes of a buffer, without a copy; it is held until the client has them. */
MANTA_EXPORT int manta_request_reply_buffer(struct manta_request *request, int status, const char *content_type,
                                            struct manta_buffer *buffer, size_t size);

#ifdef __cplusplus
}
#endif
#endif
