/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_deflate: permessage-deflate (RFC 7692) by zlib, both directions of one connection.
 *
 * What is inflated comes out in pieces of 8 KiB, so that a bomb is counted before it is large. Each
 * piece that is compressed ends on a byte (a sync flush); of a message's last the four bytes 00 00
 * ff ff are left out, which the reader puts back (7.2.1, 7.2.2).
 */
#include <zlib.h>

#include "ensure.h"
#include "mem.h"
#include "websocket_inner.h"

enum {
    INFLATED_SIZE = 8192,
    LEVEL = 3,       /* messages are short: speed counts */
    MEMORY_LEVEL = 5 /* 16 KiB beside the window */
};

struct squeezer {
    struct websocket_deflate deflate;
    z_stream in, out;
    bool in_open, out_open;
    bool last, tail_put; /* of the message that is being inflated */
    uint8_t inflated[INFLATED_SIZE];
};

static const uint8_t TAIL[4] = {0, 0, 0xff, 0xff};

static void *take_memory(void *owner, unsigned count, unsigned size)
{
    (void)owner;
    return mem_try((size_t)count * size);
}

static void give_memory(void *owner, void *memory)
{
    (void)owner;
    mem_free(memory);
}

struct squeezer *squeezer_new(const struct websocket_deflate *deflate)
{
    struct squeezer *squeezer = mem_try(sizeof *squeezer);
    if (!squeezer)
        return NULL;
    squeezer->deflate = *deflate;
    squeezer->in.zalloc = squeezer->out.zalloc = take_memory;
    squeezer->in.zfree = squeezer->out.zfree = give_memory;
    return squeezer;
}

struct squeezer *squeezer_free(struct squeezer *squeezer)
{
    if (!squeezer)
        return NULL;
    if (squeezer->in_open)
        inflateEnd(&squeezer->in);
    if (squeezer->out_open)
        deflateEnd(&squeezer->out);
    return mem_free(squeezer);
}

/* ---- what comes ------------------------------------------------------------------------------ */

bool squeezer_put(struct squeezer *squeezer, struct bytes bytes, bool last)
{
    ensure(squeezer->in.avail_in == 0);
    if (!squeezer->in_open) {
        if (inflateInit2(&squeezer->in, -(int)squeezer->deflate.client_bits) != Z_OK)
            return false;
        squeezer->in_open = true;
    }
    squeezer->in.next_in = (uint8_t *)bytes.at;
    squeezer->in.avail_in = (unsigned)bytes.size;
    squeezer->last = last;
    squeezer->tail_put = false;
    return true;
}

static enum squeezer_taken end_message(struct squeezer *squeezer)
{
    if (!squeezer->last)
        return SQUEEZER_EMPTY;
    if (!squeezer->tail_put) {
        squeezer->tail_put = true;
        squeezer->in.next_in = (uint8_t *)TAIL;
        squeezer->in.avail_in = sizeof TAIL;
        return SQUEEZER_BYTES;
    }
    if (squeezer->deflate.client_forgets)
        inflateReset(&squeezer->in);
    return SQUEEZER_DONE;
}

/* A sender may end its blocks with a final one (RFC 7692 7.2.3.4): what follows begins anew. */
enum squeezer_taken squeezer_take(struct squeezer *squeezer, struct bytes *ret_bytes)
{
    z_stream *in = &squeezer->in;
    *ret_bytes = (struct bytes){squeezer->inflated, 0};
    for (;;) {
        in->next_out = squeezer->inflated;
        in->avail_out = INFLATED_SIZE;
        int code = inflate(in, Z_SYNC_FLUSH);
        if (code == Z_STREAM_END) {
            inflateReset(in);
            if (squeezer->tail_put)
                in->avail_in = 0;
        }
        ret_bytes->size = INFLATED_SIZE - in->avail_out;
        if (ret_bytes->size)
            return SQUEEZER_BYTES; /* also what comes before broken bytes: the next call finds them
                                    */
        if (code != Z_STREAM_END && code != Z_OK && code != Z_BUF_ERROR)
            return SQUEEZER_BROKEN;
        if (in->avail_in)
            continue;
        enum squeezer_taken taken = end_message(squeezer);
        if (taken != SQUEEZER_BYTES)
            return taken;
    }
}

/* ---- what goes ------------------------------------------------------------------------------- */

static bool open_out(struct squeezer *squeezer)
{
    if (!squeezer->out_open)
        squeezer->out_open =
            deflateInit2(&squeezer->out, LEVEL, Z_DEFLATED, -(int)squeezer->deflate.server_bits,
                         MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
    return squeezer->out_open;
}

/* Five bytes for each stored block of what cannot be compressed, and the flush. */
size_t squeezer_bound(struct squeezer *squeezer, size_t size)
{
    size_t bound = size + size / 256 * 5 + 64;
    if (!open_out(squeezer))
        return bound;
    size_t told = deflateBound(&squeezer->out, size) + 16;
    return told > bound ? told : bound;
}

size_t squeezer_squeeze(struct squeezer *squeezer, struct bytes piece, bool last, uint8_t *room)
{
    z_stream *out = &squeezer->out;
    if (!open_out(squeezer))
        return SIZE_MAX;
    size_t bound = squeezer_bound(squeezer, piece.size);
    if (!piece.size) {
        room[0] = 0; /* an empty block, but for its length (7.2.3.6) */
        return last ? 1 : 0;
    }
    out->next_in = (uint8_t *)piece.at;
    out->avail_in = (unsigned)piece.size;
    out->next_out = room;
    out->avail_out = (unsigned)bound;
    int code = deflate(out, Z_SYNC_FLUSH);
    ensure(code == Z_OK && out->avail_in == 0 && out->avail_out > 0);
    size_t size = bound - out->avail_out;
    ensure(size >= sizeof TAIL);
    if (last && squeezer->deflate.server_forgets)
        deflateReset(out);
    return last ? size - sizeof TAIL : size;
}
