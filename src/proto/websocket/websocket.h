/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket: the server's side of WebSocket (RFC 6455) with permessage-deflate (RFC 7692), as a
 * pure engine.
 *
 * Give bytes, take events: a message comes in parts as its bytes come, unmasked, inflated and
 * (text) checked to be UTF-8, so that nobody has to hold more of it than he wants; pings, pongs and
 * the close come whole.  What breaks the protocol is refused once, with the code that the
 * connection must be closed with.  Frames are taken apart and put together by wslay, deflate is
 * zlib's; what a sequence of frames may be is judged here.  No socket, no clock.
 *
 *     websocket_offer_*    the client's handshake fields -> what was agreed | status, reason
 *     websocket_next       bytes -> part, ping, pong, close ... | refused(code, reason)
 *     websocket_write_*    pieces of messages, control frames -> bytes
 *     websocket_record_*   the same messages between a proxy and a replica (see below)
 */
#ifndef MANTA_PROTO_WEBSOCKET_H
#define MANTA_PROTO_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum {
    WEBSOCKET_FRAME_HEAD_MOST = 10, /* bytes before the payload of a frame that we send */
    WEBSOCKET_CONTROL_MOST = 125,   /* payload of a control frame (RFC 6455 5.5) */
    WEBSOCKET_REASON_MOST = 123,    /* of that, behind a close code */
    WEBSOCKET_ACCEPT_SIZE = 28,
    WEBSOCKET_EXTENSIONS_MOST = 128,
};

/* RFC 6455 7.4.1, and IANA's registry. */
enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_NO_CODE = 1005,  /* never sent: the close had no code */
    WEBSOCKET_ABNORMAL = 1006, /* never sent: there was no close */
    WEBSOCKET_BAD_PAYLOAD = 1007,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_INTERNAL_ERROR = 1011,
    WEBSOCKET_RESTART = 1012,
};
/* May a close frame carry it? */
bool websocket_code_may_be_sent(unsigned code);

/* ---- the handshake (RFC 6455 4.2, RFC 7692 7.1) ---------------------------------------------- */

/* permessage-deflate as it was agreed. */
struct websocket_deflate {
    bool on;
    uint8_t client_bits, server_bits;    /* window sizes, 9 to 15 */
    bool client_forgets, server_forgets; /* no context takeover from message to message */
};

/* What the client's header fields say; zeroed at first, then each field is shown. */
struct websocket_offer {
    struct bytes key, version; /* slices of the fields */
    uint32_t key_count, version_count;
    struct websocket_deflate deflate; /* of the first offer that can be taken */
};
/* One header field of the request.  `window_bits` (9 to 15): of the windows that we want; 0: no
 * compression. */
void websocket_offer_field(struct websocket_offer *offer, struct bytes name, struct bytes value,
                           uint8_t window_bits);
/* 0, or the HTTP status to refuse it with: 400, 426 (then Sec-WebSocket-Version: 13 must be told).
 */
int websocket_offer_judge(const struct websocket_offer *offer, const char **ret_reason);
/* The value of Sec-WebSocket-Accept for an offer that was judged to be good; not zero-terminated.
 */
void websocket_offer_accept(const struct websocket_offer *offer,
                            uint8_t ret_accept[WEBSOCKET_ACCEPT_SIZE]);
/* The value of Sec-WebSocket-Extensions; its size, 0: there is none. */
size_t websocket_extensions_write(const struct websocket_deflate *deflate,
                                  char ret_value[WEBSOCKET_EXTENSIONS_MOST]);

/* ---- what comes ------------------------------------------------------------------------------ */

struct websocket;

struct websocket_config {
    struct websocket_deflate deflate;
    uint64_t message_limit; /* bytes of a message, inflated; larger ones are refused with 1009 */
};
/* Null: memory is exhausted.  The windows of compression are allocated when they are first used. */
struct websocket *websocket_new(const struct websocket_config *config);
struct websocket *websocket_free(struct websocket *websocket); /* null is fine; returns null */

enum websocket_event_type {
    WEBSOCKET_MORE, /* nothing more in this input */
    WEBSOCKET_PART, /* the next bytes of a message; perhaps none, with `last` */
    WEBSOCKET_PING, /* to be answered by a pong with the same payload */
    WEBSOCKET_PONG,
    WEBSOCKET_CLOSE,  /* the client closes: code (1005 without one), reason in `bytes` */
    WEBSOCKET_REFUSED /* a breach: code, reason in `bytes` */
};
struct websocket_event {
    enum websocket_event_type type;
    bool text, last; /* PART */
    uint16_t code;
    struct bytes bytes; /* valid until the next call of websocket_next */
};
/*
 * The next event; *input moves over what was read.  Up to 4 KiB are read ahead and kept, so that
 * events may still come when the input is empty; one call without input tells.  After a close or a
 * refusal there is nothing more.
 */
enum websocket_event_type websocket_next(struct websocket *websocket, struct bytes *input,
                                         struct websocket_event *ret_event);

/* ---- what goes ------------------------------------------------------------------------------- */

/* Bytes that websocket_write_piece needs at most for a piece of this size. */
size_t websocket_write_room(struct websocket *websocket, bool squeeze, size_t size);
/*
 * Writes the next piece of a message as one frame and returns its size; 0: no memory for a
 * compressor.  The first piece of a message decides by `squeeze` whether the message is compressed
 * (where that was agreed).  Control frames may be written between two pieces.
 */
size_t websocket_write_piece(struct websocket *websocket, bool text, bool last, bool squeeze,
                             struct bytes piece, uint8_t *room);
/* Control frames; at most WEBSOCKET_FRAME_HEAD_MOST + WEBSOCKET_CONTROL_MOST bytes. */
size_t websocket_write_ping(struct websocket *websocket, struct bytes payload, uint8_t *room);
size_t websocket_write_pong(struct websocket *websocket, struct bytes payload, uint8_t *room);
/* A code that may not be sent (1005) leaves the frame empty; a reason that is too long is cut where
 * a character ends. */
size_t websocket_write_close(struct websocket *websocket, unsigned code, struct bytes reason,
                             uint8_t *room);

/* ---- records --------------------------------------------------------------------------------- */

/*
 * Between a proxy and a replica a websocket is a request with two streamed bodies, and each of them
 * a sequence of records, cut into parts wherever that suits:
 *
 *     0        1             5
 *     | kind   | size        | bytes ...
 *
 * `size` is little-endian.  A message is one record or several of its kind, of which the last says
 * so (WEBSOCKET_RECORD_LAST).  How the conversation ends is not told in records: a client's close
 * comes with the cancel of the request, user code's as trailers behind its answer.
 */
enum { WEBSOCKET_RECORD_HEAD = 5, WEBSOCKET_RECORD_LAST = 0x80 };
enum websocket_kind { WEBSOCKET_KIND_TEXT = 1, WEBSOCKET_KIND_BINARY = 2 };
/* The fields of these trailers: the code in decimal digits, and the reason. */
#define WEBSOCKET_CLOSE_CODE BYTES("close-code")
#define WEBSOCKET_CLOSE_REASON BYTES("close-reason")

void websocket_record_write_head(enum websocket_kind kind, bool last, size_t size,
                                 uint8_t at[WEBSOCKET_RECORD_HEAD]);

/* Zeroed at first. */
struct websocket_record_reader {
    uint8_t head[WEBSOCKET_RECORD_HEAD];
    uint8_t head_size;
    bool inside;   /* a message began and is not whole */
    uint32_t left; /* of the record */
    uint8_t kind;  /* of the message */
};
struct websocket_record {
    enum websocket_kind kind;
    bool first, last; /* of its message */
    uint32_t left;    /* bytes of the record that are still to come behind these */
    struct bytes bytes;
};
/* The next piece: 1; 0: more input is needed; -1: the sequence is broken.  *input moves on. */
int websocket_record_next(struct websocket_record_reader *reader, struct bytes *input,
                          struct websocket_record *ret_record);

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Zeroed at first: between two characters. */
struct websocket_utf8 {
    uint8_t left;        /* bytes that the character still has */
    uint8_t least, most; /* of the next of them */
};
/* False: these bytes cannot continue a text (RFC 3629). */
bool websocket_utf8_check(struct websocket_utf8 *utf8, struct bytes bytes);

#endif
