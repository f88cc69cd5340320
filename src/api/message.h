/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: documents with buffers as parcels, and parcels as documents with buffers.
 *
 *     args, pack --message_seal--> parcel ... parcel --message_open--> document, message_free
 */
#ifndef MANTA_API_MESSAGE_H
#define MANTA_API_MESSAGE_H

#include "bytes.h"
#include "error.h"
#include "parcel.h"
#include "shared.h"
#include "text.h"

/* What a document that came in a parcel refers to, held until nobody reads it any more. */
struct message {
    struct parcel *parcel;
    uint8_t *copy; /* of a document that could not be changed where it lies */
    uint32_t count;
    struct manta_buffer *buffers[];
};

/*
 * The parcel of a document with references (which is changed), or null when it has none: then it
 * travels as it is.  ERROR_LIMIT, ERROR_MEMORY, ERROR_INVALID.  The loop's thread.
 */
int message_seal(struct parcel_desk *desk, struct text *document, struct parcel **ret_parcel,
                 struct error *reterr);
/* One buffer as a whole body, its first `size` bytes; null when it can only be copied. */
struct parcel *message_seal_buffer(struct parcel_desk *desk, const struct manta_buffer *buffer,
                                   size_t size);
/* The buffer in which the whole body of a flat parcel lies, a reference; null: it lies in none. */
struct manta_buffer *message_buffer(struct parcel *parcel);

/*
 * The document of a parcel, checked, and what holds it (taking a reference of its own).
 * ERROR_PROTOCOL: it is no document, or a reference in it is wrong; ERROR_MEMORY.
 */
int message_open(struct parcel *parcel, struct message **ret_message, struct bytes *ret_document,
                 struct error *reterr);
struct message *message_free(struct message *message); /* null is fine; returns null */

#endif
