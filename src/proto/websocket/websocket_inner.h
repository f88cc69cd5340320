/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_inner: what the files of the engine share.
 *
 *     websocket.c          what comes: frames -> events
 *     websocket_write.c    what goes
 *     websocket_deflate.c  the compressor and the decompressor
 *     websocket_offer.c    the handshake
 *     websocket_record.c   records between proxy and replica
 *     websocket_utf8.c     UTF-8 as it comes
 */
#ifndef MANTA_PROTO_WEBSOCKET_INNER_H
#define MANTA_PROTO_WEBSOCKET_INNER_H

#include <wslay/wslay.h>

#include "websocket.h"

struct squeezer; /* both directions of permessage-deflate */

struct websocket {
    struct websocket_config config;
    wslay_frame_context_ptr frames;
    struct bytes *input;       /* during websocket_next */
    uint8_t *out;              /* during a write: where the next byte goes */
    struct squeezer *squeezer; /* null until one is needed */
    bool ended;                /* closed or refused: nothing more comes */

    /* The frame that is being read. */
    bool in_frame;
    uint64_t frame_left;
    uint8_t opcode;
    bool fin;
    uint8_t control[WEBSOCKET_CONTROL_MOST];
    uint8_t control_size;

    /* The message that is being read. */
    bool in_message, text, squeezed;
    bool inflating; /* the decompressor has more to give */
    uint64_t message_size;
    struct websocket_utf8 utf8;

    /* The message that is being written. */
    bool writing, write_squeezed;
};

/* websocket_deflate.c */
struct squeezer *squeezer_new(const struct websocket_deflate *deflate);
struct squeezer *squeezer_free(struct squeezer *squeezer);
/* Gives compressed bytes of a message, `last`: all of it is there; they must stay until all was
 * taken.  False: memory. */
bool squeezer_put(struct squeezer *squeezer, struct bytes bytes, bool last);
enum squeezer_taken {
    SQUEEZER_EMPTY, /* all that was put is out; more must be put */
    SQUEEZER_BYTES, /* some bytes, and perhaps more */
    SQUEEZER_DONE,  /* the message is whole */
    SQUEEZER_BROKEN
};
enum squeezer_taken squeezer_take(struct squeezer *squeezer, struct bytes *ret_bytes);
size_t squeezer_bound(struct squeezer *squeezer, size_t size);
/* Compresses a piece into `room` of squeezer_bound bytes; SIZE_MAX: memory. */
size_t squeezer_squeeze(struct squeezer *squeezer, struct bytes piece, bool last, uint8_t *room);

#endif
