/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_scan: what the engine's files share: byte classes, lines, fields, lists, refusals.
 *
 * A line is judged in two steps, and the order is what makes a head that comes in one piece and one
 * that comes byte by byte end the same way.  First http1_line_find looks for its CRLF, eight bytes
 * at a time, and refuses what no line may hold (controls, a CR or LF alone, too many bytes); it can
 * stop anywhere and go on there.  Only a whole line is then taken apart.  Since a whole line always
 * has its CR behind it, the loops that take it apart need no end: a CR belongs to no class.
 *
 * Private to proto/http1.
 */
#ifndef MANTA_PROTO_HTTP1_SCAN_H
#define MANTA_PROTO_HTTP1_SCAN_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "bytes.h"
#include "ensure.h"
#include "http1.h"

/* What a byte may be part of. */
enum http1_class {
    HTTP1_TOKEN = 1,    /* tchar, RFC 9110 5.6.2 */
    HTTP1_PATH = 2,     /* pchar and "/", RFC 3986 3.3; and [ ] ^ |, which browsers leave bare */
    HTTP1_QUERY = 4,    /* the same for a query, RFC 3986 3.4, with \ ` { } besides */
    HTTP1_REG_NAME = 8, /* unreserved and sub-delims, RFC 3986 3.2.2; an escape is not one byte */
    HTTP1_DIGIT = 16,
    HTTP1_HEX = 32,
    HTTP1_QUOTED = 64,  /* qdtext, RFC 9110 5.6.4 */
    HTTP1_CONTROL = 128 /* CTL, the tab left out: never inside a line */
};

extern const uint8_t http1_classes[256];

static inline bool http1_is(uint8_t byte, unsigned classes)
{
    return http1_classes[byte] & classes;
}

/* 0..15 of a byte that is HTTP1_HEX. */
static inline unsigned http1_hex_value(uint8_t digit)
{
    ensure(http1_is(digit, HTTP1_HEX));
    return http1_is(digit, HTTP1_DIGIT) ? digit - '0' : (digit | 0x20) - 'a' + 10u;
}

/* Null `reterr` is fine. */
static inline enum http1_result http1_refuse(struct http1_refusal *reterr, int status,
                                             const char *reason)
{
    if (reterr)
        *reterr = (struct http1_refusal){status, reason};
    return HTTP1_REFUSED;
}

/*
 * The first CTL but the tab, or `end`.  In the word test a byte below 0x20 and a byte 0x7f leave
 * their high bit set; a borrow can only set it wrongly above a true hit, so the lowest one is
 * right.
 */
static inline const uint8_t *http1_find_control(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = 0x0101010101010101u;

    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word = le64toh(word);
        uint64_t deleted = word ^ (ones * 0x7f);
        uint64_t hits =
            (((word - ones * 0x20) & ~word) | ((deleted - ones) & ~deleted)) & (ones * 0x80);
        if (hits == 0) {
            at += 8;
            continue;
        }
        at += __builtin_ctzll(hits) >> 3;
        if (*at != '\t')
            return at;
        at++;
    }
    while (at < end && !http1_is(*at, HTTP1_CONTROL))
        at++;
    return at;
}

/*
 * How many of `have` bytes of a line may be judged: its `limit` and the one behind, which shows
 * that it is too long.  A look further ahead would make the outcome depend on how the bytes were
 * cut.
 */
static inline size_t http1_line_window(size_t have, size_t limit)
{
    return have <= limit ? have : limit + 1;
}

/*
 * Looks for the CRLF of the line at `line`, at most `limit` bytes in; *at is how many bytes of it
 * are known to be clean, in and out.  Done: *at is its length.  More: the input ends at `end`
 * before it does.
 */
enum http1_result http1_line_find(const uint8_t *line, const uint8_t *end, size_t *at, size_t limit,
                                  const struct http1_refusal *too_long,
                                  struct http1_refusal *reterr);

/* How long a line may be that starts `used` bytes into a section, its own CRLF and the last one
 * kept free. */
static inline size_t http1_line_room(size_t line_size, size_t section_size, size_t used)
{
    size_t left = section_size > used + 4 ? section_size - used - 4 : 0;
    return line_size < left ? line_size : left;
}

/* The first byte of a field line, before anything else of it is here. */
enum http1_result http1_field_check_start(uint8_t first, struct http1_refusal *reterr);
/* Takes a whole line apart; line[size] is its CR. */
enum http1_result http1_field_parse(const uint8_t *line, size_t size,
                                    struct http1_header *ret_field, struct http1_refusal *reterr);

/* Next element of a comma-separated list, trimmed; empty ones are skipped (RFC 9110 5.6.1.2). */
bool http1_list_next(struct bytes *rest, struct bytes *ret_item);
bool http1_is_token(struct bytes bytes);
/* A value that may stand in a field: no CTL but tabs. */
bool http1_is_value(struct bytes bytes);
/* Next field of a wire field block; false at its end and where it is broken. */
bool http1_block_next(struct bytes *rest, struct http1_header *ret_field);
/* `name` (a token) is the lower-case `known`. */
bool http1_name_is(struct bytes name, struct bytes known);

/* ---- http1_head.c ---- */

/* HTTP-version, RFC 9112 2.3; *ret_minor is 0 or 1. */
enum http1_result http1_version_parse(struct bytes version, uint8_t *ret_minor,
                                      struct http1_refusal *reterr);

/* ---- http1_target.c ---- */

/* Parses the request-target at `at`, in a line that ends in CR; fills target, path, query,
 * authority. */
enum http1_result http1_target_parse(struct http1_head *head, const uint8_t *at,
                                     struct http1_refusal *reterr);
/* host [":" port] without userinfo, the host not empty (RFC 9110 4.2, 7.2). */
enum http1_port { HTTP1_PORT_OPTIONAL, HTTP1_PORT_NEEDED };
bool http1_authority_is(struct bytes authority, enum http1_port port);

/* ---- http1_field.c ---- */

/* What the fields of one head said about framing and the connection, gathered line by line. */
struct http1_facts {
    struct http1_refusal refusal; /* the first field that was wrong by itself; status 0: none */
    struct bytes host;            /* Host */
    uint32_t host_count;
    uint32_t length_count; /* Content-Length */
    uint64_t length;
    bool coded;                      /* there is a Transfer-Encoding */
    bool chunked;                    /* its last coding so far is chunked */
    bool strange;                    /* it names a coding that is not ours */
    bool close, keep_alive, upgrade; /* options of Connection */
    bool expect_continue;
    bool expect_other;     /* an expectation that is not 100-continue */
    struct bytes protocol; /* first of Upgrade */
};

void http1_facts_note(struct http1_facts *facts, const struct http1_header *field);
/* The verdict over a whole head: fills the rest of `head`. */
enum http1_result http1_facts_judge(const struct http1_facts *facts, struct http1_head *head,
                                    const struct http1_limits *limits,
                                    struct http1_refusal *reterr);
/* A trailer field that must not be merged or acted upon (RFC 9110 6.5.1). */
bool http1_trailer_forbidden(struct bytes name);

#endif
