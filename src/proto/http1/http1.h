/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1: HTTP/1.1 and 1.0, server side, as a pure engine (RFC 9110, RFC 9112).
 *
 * Give bytes, take slices: the head is parsed whole from the caller's buffer, the body is a small
 * machine that turns framed bytes into data slices, the writer fills the caller's memory.  No
 * allocation, no callback, no socket, no clock.  What could smuggle a request is refused with a
 * status and the connection must be closed behind the answer.
 *
 *     http1_head_parse   bytes -> head | more | refused(status, reason)
 *     http1_body_next    bytes -> data slices ... end | more | refused
 *     http1_write_*      status, fields, sizes -> bytes
 */
#ifndef MANTA_PROTO_HTTP1_H
#define MANTA_PROTO_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

/* Room in struct http1_head; the setting may be less, and is capped by it. */
enum { HTTP1_HEADER_COUNT_MOST = 256 };

struct http1_limits {
    size_t line_size;      /* request line, one field line */
    size_t head_size;      /* the whole head, the whole trailer section */
    uint32_t header_count; /* fields of a head, of a trailer section */
    uint64_t body_size;    /* bytes of a body; longer: 413 */
};

struct http1_header {
    struct bytes name;  /* as sent */
    struct bytes value; /* trimmed */
};

enum http1_body_kind { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED };

/* Well-known methods; everything else that is a token is HTTP1_OTHER. */
enum http1_method {
    HTTP1_OTHER,
    HTTP1_GET,
    HTTP1_HEAD,
    HTTP1_POST,
    HTTP1_PUT,
    HTTP1_DELETE,
    HTTP1_CONNECT,
    HTTP1_OPTIONS,
    HTTP1_TRACE,
    HTTP1_PATCH
};

/* One request head.  Every slice points into the input of http1_head_parse. */
struct http1_head {
    struct bytes method_name; /* as sent */
    enum http1_method method;
    bool safe;           /* RFC 9110 9.2.1: pipelined ones may run side by side */
    uint8_t minor;       /* 1 or 0 */
    struct bytes target; /* request-target as sent */
    struct bytes path;   /* absolute, without query; "*" for OPTIONS *; "/" where absolute-form
                            leaves it empty; empty for CONNECT */
    struct bytes query;  /* without "?" */
    /* Of absolute-form, which wins over Host (RFC 9112 3.2.2), or of CONNECT; else Host's value. */
    struct bytes authority;
    struct http1_header headers[HTTP1_HEADER_COUNT_MOST];
    uint32_t header_count;
    enum http1_body_kind body_kind;
    uint64_t body_size;   /* of HTTP1_BODY_LENGTH */
    bool keep_alive;      /* may the connection carry another request behind this one */
    bool expect_continue; /* Expect: 100-continue, HTTP/1.1 and a body */
    /* Connection: upgrade with an Upgrade field, HTTP/1.1.  The caller may accept it or not, a body
       stays a body; the protocol is the first of the field. */
    bool upgrade;
    struct bytes upgrade_protocol;
};

/* Why bytes were refused. */
struct http1_refusal {
    int status;         /* 400, 413, 414, 417, 431, 501, 505; 502 on the client side */
    const char *reason; /* static, one line, with the section of the RFC */
};

enum http1_result {
    HTTP1_MORE = 0,    /* not whole yet: call again with the same bytes and more behind them */
    HTTP1_DONE = 1,    /* one head parsed, *ret_size bytes of the input */
    HTTP1_REFUSED = -1 /* answer with refusal->status and close */
};

/*
 * Parses one request head at the start of `input` (leading CRLF before the request line are
 * skipped, at most four, RFC 9112 2.2).  `*scanned` keeps how far earlier calls got, in a form of
 * its own, so that a slow sender cannot make us look at a byte again and again; start with 0; it is
 * 0 again after HTTP1_DONE.  The bytes may move between calls.  `head` and *ret_size hold something
 * only after HTTP1_DONE.  Limits, and all that cannot be a head, are judged as early as the bytes
 * allow; the outcome does not depend on how they were cut.  head_size counts from the request line
 * to the empty line; 16 MiB of it is the most.
 */
enum http1_result http1_head_parse(struct http1_head *head, struct bytes input, size_t *scanned,
                                   const struct http1_limits *limits, size_t *ret_size,
                                   struct http1_refusal *reterr);

/* First field with this name in any case, or null. */
const struct http1_header *http1_find(const struct http1_head *head, struct bytes name);
/*
 * Must a forwarder keep this field to itself?  Connection, Keep-Alive, Proxy-Connection,
 * Transfer-Encoding, TE, Trailer, Upgrade, Proxy-Authenticate, Proxy-Authorization; and what a
 * Connection field of this head names (RFC 9110 7.6.1).
 */
bool http1_hop_by_hop(struct bytes name);
bool http1_connection_names(const struct http1_head *head, struct bytes name);

/* ---- body ------------------------------------------------------------------------------------ */

struct http1_body {
    enum http1_body_kind kind;
    uint64_t left;  /* of the length, or of the chunk */
    uint64_t total; /* data bytes so far */
    uint64_t limit;
    /* Private, see http1_body.c. */
    uint8_t state;
    uint32_t trailer_count;
    size_t trailer_size;
    size_t scanned;            /* bytes of an unfinished line that are known to be clean */
    uint64_t extension_excess; /* bytes of chunk extensions beyond the data they came with */
};

enum http1_body_event {
    HTTP1_BODY_MORE = 0,    /* nothing more in this input */
    HTTP1_BODY_DATA = 1,    /* *ret_data holds the next bytes, a slice of the input */
    HTTP1_BODY_TRAILER = 2, /* *ret_trailer holds one; RFC 9110 6.5.1 forbids some: dropped */
    HTTP1_BODY_END = 3, /* the body is whole; what was not consumed belongs to the next request */
    HTTP1_BODY_REFUSED = -1
};

void http1_body_init(struct http1_body *body, const struct http1_head *head,
                     const struct http1_limits *limits);
/*
 * Takes the next event from `input`; *ret_consumed says how many bytes to skip before the next
 * call.  A line of chunked framing is only consumed when it is whole, so the caller must be able to
 * hold one (limits->line_size and its CRLF); what was not consumed must come again, with more
 * behind it.  Refused stays refused.
 */
enum http1_body_event http1_body_next(struct http1_body *body, struct bytes input,
                                      const struct http1_limits *limits, size_t *ret_consumed,
                                      struct bytes *ret_data, struct http1_header *ret_trailer,
                                      struct http1_refusal *reterr);

/* ---- writing --------------------------------------------------------------------------------- */

/* "Bad Request" for 400; "" when there is none. */
const char *http1_reason(int status);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (29 bytes, RFC 9110 5.6.7) for seconds since 1970. */
void http1_date(int64_t unix_seconds, char ret_date[30]);

enum http1_framing {
    HTTP1_FRAMING_LENGTH,
    HTTP1_FRAMING_CHUNKED,
    HTTP1_FRAMING_CLOSE,
    HTTP1_FRAMING_NONE
};

struct http1_answer {
    int status;        /* 200..599, others go out as 500; 204, 205, 304 and HEAD carry no body */
    uint8_t minor;     /* of the request: 1.0 gets no chunks */
    bool head_request; /* answer to HEAD */
    bool keep_alive;   /* what the connection will do */
    /* UINT64_MAX: not known -> chunked, or close for 1.0.  For HEAD that of the answer to GET: 0
       tells nothing then, and a Content-Length in `headers` wins. */
    uint64_t body_size;
    struct bytes date;         /* 29 bytes or empty */
    struct bytes content_type; /* empty: no field */
    /* Wire field block, (u16 name length, u16 value length, name, value)*.  Dropped from it:
       framing and hop-by-hop fields; Date, Content-Type and X-Request-Id where they are given
       beside it; a bad name, a control in a value.  A broken block ends where it breaks. */
    struct bytes headers;
    struct bytes request_id; /* x-request-id to echo; empty: none */
    struct bytes upgrade; /* of a 426: the protocol to upgrade to (RFC 9110 15.5.22); empty: none */
};

/*
 * Writes the head of an answer into `room` and decides the framing; returns its size, or 0 when
 * `room` is smaller than http1_answer_room says.  HTTP1_FRAMING_CLOSE ends the connection, whatever
 * keep_alive says.
 */
size_t http1_write_answer(const struct http1_answer *answer, uint8_t *room, size_t room_size,
                          enum http1_framing *ret_framing);
size_t http1_answer_room(const struct http1_answer *answer);
/*
 * 101 Switching Protocols (RFC 9110 15.2.2): `protocol` goes into Upgrade, and `fields`, a block
 * that is ours and trusted, before the application's.  Of the answer only date, headers and
 * request_id count.  The same room and `fields.size` are enough.
 */
size_t http1_write_upgrade(const struct http1_answer *answer, struct bytes protocol,
                           struct bytes fields, uint8_t *room, size_t room_size);
/* "1a2b\r\n" before a chunk's data, at most 18 bytes; what comes behind it stands below. */
size_t http1_write_chunk_head(uint64_t size, uint8_t room[18]);
#define HTTP1_CHUNK_END BYTES("\r\n")
#define HTTP1_LAST_CHUNK BYTES("0\r\n\r\n")
#define HTTP1_CONTINUE BYTES("HTTP/1.1 100 Continue\r\n\r\n")
/* "0\r\n", trailer fields from a wire field block, "\r\n"; 0 when `room` is too small. */
size_t http1_write_trailers(struct bytes trailers, uint8_t *room, size_t room_size);

/* ---- client side, for the command line, tests and the bench ---------------------------------- */

struct http1_answer_head {
    int status;
    uint8_t minor;
    struct http1_header headers[HTTP1_HEADER_COUNT_MOST];
    uint32_t header_count;
    enum http1_framing framing;
    uint64_t body_size;
    bool keep_alive;
};
/* One answer head.  An interim one (1xx) has no body; the next call reads what comes behind it. */
enum http1_result http1_answer_parse(struct http1_answer_head *head, struct bytes input,
                                     bool head_request, const struct http1_limits *limits,
                                     size_t *ret_size, struct http1_refusal *reterr);
/* A body machine for an answer: HTTP1_FRAMING_CLOSE ends where the caller sees the connection end.
 */
void http1_body_init_answer(struct http1_body *body, const struct http1_answer_head *head,
                            const struct http1_limits *limits);

#endif
