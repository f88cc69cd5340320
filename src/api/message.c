/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: the border between values with buffers and parcels with pieces.
 *
 * The pieces of a parcel are the buffers of its document, in the order of their indices; before
 * them stands the document itself when it is large (a flat parcel).
 */
#include "message.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "value.h"

/* ---- on their way out ---- */

/* A slot of another instance's pool is not known to this one's peers. */
static struct parcel_piece piece_of(const struct manta_buffer *buffer, const struct slot_pool *pool,
                                    size_t size)
{
    bool lends = buffer->slot && buffer->slot->region->pool == pool;
    return (struct parcel_piece){.slot = lends ? buffer->slot : NULL,
                                 .bytes = bytes_of(buffer->at, size)};
}

int message_seal(struct parcel_desk *desk, struct text *document, struct parcel **ret_parcel,
                 struct error *reterr)
{
    struct manta_buffer *buffers[SHARED_PIECE_LIMIT];
    struct parcel_piece pieces[SHARED_PIECE_LIMIT];
    uint32_t count = 0;
    int code;
    *ret_parcel = NULL;
    if (!shared_has_references(text_bytes(document)))
        return 0;
    code = shared_collect(document->at, document->size, buffers, &count, reterr);
    if (code < 0)
        return code;
    for (uint32_t i = 0; i < count; i++)
        pieces[i] = piece_of(buffers[i], parcel_desk_slots(desk), buffers[i]->size);
    *ret_parcel = parcel_new(desk, text_bytes(document), pieces, count, &code);
    return *ret_parcel ? 0 : error_set(reterr, code, "no room for a value with %u buffers", count);
}

struct parcel *message_seal_buffer(struct parcel_desk *desk, const struct manta_buffer *buffer,
                                   size_t size)
{
    struct parcel_piece piece = piece_of(buffer, parcel_desk_slots(desk), size);
    /* parcel_of_slot begins at the slot's first byte; a part of a received one may lie behind it.
     */
    return piece.slot && size > 0 && buffer->at == piece.slot->at
               ? parcel_of_slot(slot_ref(piece.slot), size)
               : NULL;
}

/* ---- on their way in ---- */

static void release_parcel(void *owner)
{
    parcel_unref(owner);
}

/* What came through the socket lies where the frame happened to be: elements want better. */
static struct manta_buffer *copy_piece(const struct parcel_piece *piece)
{
    struct manta_buffer *buffer = shared_new_plain(piece->bytes.size);
    if (buffer) {
        memcpy(buffer->at, piece->bytes.at, piece->bytes.size);
        buffer->written_here = false;
    }
    return buffer;
}

/* A buffer over one piece, which holds the slot, or the parcel where there is none. */
static struct manta_buffer *open_piece(struct parcel *parcel, const struct parcel_piece *piece)
{
    if (piece->slot)
        return shared_wrap_slot(slot_ref(piece->slot), piece->bytes, false);
    if (piece->bytes.size > 0 && (uintptr_t)piece->bytes.at % SHARED_ALIGNMENT != 0)
        return copy_piece(piece);
    struct manta_buffer *buffer =
        shared_wrap(piece->bytes, false, release_parcel, parcel_ref(parcel));
    if (!buffer)
        parcel_unref(parcel);
    return buffer;
}

struct manta_buffer *message_buffer(struct parcel *parcel)
{
    return parcel && parcel->flat && parcel->pieces[0].slot ? open_piece(parcel, &parcel->pieces[0])
                                                            : NULL;
}

/* The document where it can be changed: the value of a flat parcel lies in memory of others. */
static uint8_t *changeable(struct message *message)
{
    const struct parcel *parcel = message->parcel;
    if (!parcel->flat)
        return (uint8_t *)(uintptr_t)parcel->value.at;
    message->copy = mem_try(parcel->value.size);
    if (message->copy)
        memcpy(message->copy, parcel->value.at, parcel->value.size);
    return message->copy;
}

static int open_document(struct message *message, struct bytes *ret_document, struct error *reterr)
{
    struct parcel *parcel = message->parcel;
    uint32_t first = parcel->flat;
    uint8_t *document = (uint8_t *)(uintptr_t)parcel->value.at;
    size_t offset;
    for (uint32_t i = first; i < parcel->count; i++) {
        struct manta_buffer *buffer = open_piece(parcel, &parcel->pieces[i]);
        if (!buffer)
            return error_set(reterr, ERROR_MEMORY, "no memory for a value");
        message->buffers[message->count++] = buffer;
    }
    if (message->count > 0 && !(document = changeable(message)))
        return error_set(reterr, ERROR_MEMORY, "no memory for a value");
    *ret_document = bytes_of(document, parcel->value.size);
    if (value_check(*ret_document, &offset) < 0)
        return error_set(reterr, ERROR_PROTOCOL, "it is no MessagePack at byte %zu", offset);
    return message->count ? shared_resolve(document, parcel->value.size, message->buffers,
                                           message->count, reterr)
                          : 0;
}

int message_open(struct parcel *parcel, struct message **ret_message, struct bytes *ret_document,
                 struct error *reterr)
{
    struct message *message =
        mem_try(sizeof *message + parcel->count * sizeof(struct manta_buffer *));
    if (!message)
        return error_set(reterr, ERROR_MEMORY, "no memory for a value");
    message->parcel = parcel_ref(parcel);
    int code = open_document(message, ret_document, reterr);
    if (code < 0)
        message_free(message);
    else
        *ret_message = message;
    return code;
}

struct message *message_free(struct message *message)
{
    if (!message)
        return NULL;
    for (uint32_t i = 0; i < message->count; i++)
        manta_buffer_free(message->buffers[i]);
    parcel_unref(message->parcel);
    mem_free(message->copy);
    return mem_free(message);
}
