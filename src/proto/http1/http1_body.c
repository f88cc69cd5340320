/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_body: framed bytes in, data slices out (RFC 9112 6.3, 7.1).
 *
 *                      size > 0              left = 0
 *      +--> CHUNK_SIZE ---------> CHUNK_DATA ---------> CHUNK_END
 *      |        | size = 0                                 | CRLF
 *      |        v                                          |
 *      |     TRAILER --- empty line ---> ENDED             |
 *      +---------------------------------------------------+
 *
 * A body with a length only counts down.  Data is handed out as it comes, without a copy; a line of
 * framing is taken when it is whole, and `scanned` remembers how much of it was looked at.
 *
 * The grammar is taken at its word: hex digits alone, 16 at most, extensions parsed to the end,
 * CRLF and nothing else behind data.  Extensions that outweigh the data by more than a head are
 * refused: a peer could otherwise make us read line after line for one byte of body each.
 */
#include "ensure.h"
#include "http1_scan.h"

enum body_state { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, ENDED };

enum { SIZE_DIGITS_MOST = 16 };

static const struct http1_refusal chunk_too_long = {
    400, "chunk extension over the limit (RFC 9112 7.1.1)"};
static const struct http1_refusal trailer_too_long = {
    431, "trailer section over the limit (RFC 6585 5)"};

void http1_body_init(struct http1_body *body, const struct http1_head *head,
                     const struct http1_limits *limits)
{
    *body = (struct http1_body){
        .kind = head->body_kind, .limit = limits->body_size, .state = CHUNK_SIZE};
    if (head->body_kind == HTTP1_BODY_LENGTH)
        body->left = head->body_size;
}

void http1_body_init_answer(struct http1_body *body, const struct http1_answer_head *head,
                            const struct http1_limits *limits)
{
    *body = (struct http1_body){
        .kind = HTTP1_BODY_NONE, .limit = limits->body_size, .state = CHUNK_SIZE};
    if (head->framing == HTTP1_FRAMING_CHUNKED)
        body->kind = HTTP1_BODY_CHUNKED;
    if (head->framing == HTTP1_FRAMING_LENGTH || head->framing == HTTP1_FRAMING_CLOSE) {
        body->kind = HTTP1_BODY_LENGTH;
        body->left = head->framing == HTTP1_FRAMING_LENGTH ? head->body_size : UINT64_MAX;
    }
}

/* ---- chunk-size line ------------------------------------------------------------------------- */

/* Behind optional whitespace, which a recipient must take here (RFC 9112 7.1.1). */
static const uint8_t *skip_blanks(const uint8_t *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* Behind a quoted-string (RFC 9110 5.6.4) that begins at `at`; null when it does not end. */
static const uint8_t *skip_quoted(const uint8_t *at)
{
    for (at++; *at != '"'; at++) {
        if (*at == '\\')
            at++; /* any byte of a line but its CR may be quoted */
        else if (!http1_is(*at, HTTP1_QUOTED))
            return NULL;
        if (*at == '\r')
            return NULL;
    }
    return at + 1;
}

static const uint8_t *skip_token(const uint8_t *at)
{
    while (http1_is(*at, HTTP1_TOKEN))
        at++;
    return at;
}

/* *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ), up to the CR at `end` */
static bool extensions_valid(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        at = skip_blanks(at);
        if (*at != ';')
            return false;
        at = skip_blanks(at + 1);
        const uint8_t *name = at;
        at = skip_token(at);
        if (at == name)
            return false;
        const uint8_t *equals = skip_blanks(at);
        if (*equals != '=')
            continue;
        const uint8_t *value = skip_blanks(equals + 1);
        at = *value == '"' ? skip_quoted(value) : skip_token(value);
        if (!at || at == value)
            return false;
    }
    ensure(at == end);
    return true;
}

/* As much of a size as is here, so that garbage is refused before its line ends. */
static enum http1_result check_size(struct bytes line, size_t *ret_digits,
                                    struct http1_refusal *reterr)
{
    size_t digits = 0;

    while (digits < line.size && digits <= SIZE_DIGITS_MOST && http1_is(line.at[digits], HTTP1_HEX))
        digits++;
    *ret_digits = digits;
    if (digits > SIZE_DIGITS_MOST)
        return http1_refuse(reterr, 400, "chunk size overflows (RFC 9112 7.1)");
    if (digits == line.size)
        return HTTP1_MORE;
    uint8_t stop = line.at[digits];
    if (digits > 0 && (stop == '\r' || stop == ';' || stop == ' ' || stop == '\t'))
        return HTTP1_DONE;
    return http1_refuse(reterr, 400, "chunk size is not a hex number (RFC 9112 7.1)");
}

/* Counts what extensions cost beyond the data they come with. */
static bool extensions_affordable(struct http1_body *body, size_t size,
                                  const struct http1_limits *limits)
{
    body->extension_excess += size;
    body->extension_excess -=
        body->left < body->extension_excess ? body->left : body->extension_excess;
    return body->extension_excess <= limits->head_size;
}

/* The line before a chunk's data, or before the trailer section. */
static enum http1_result read_size(struct http1_body *body, struct bytes input,
                                   const struct http1_limits *limits, size_t *consumed,
                                   struct http1_refusal *reterr)
{
    size_t digits = 0;

    struct bytes window = bytes_head(input, http1_line_window(input.size, limits->line_size));
    if (check_size(window, &digits, reterr) == HTTP1_REFUSED)
        return HTTP1_REFUSED;
    if (input.size == 0)
        return HTTP1_MORE;
    enum http1_result found = http1_line_find(input.at, input.at + input.size, &body->scanned,
                                              limits->line_size, &chunk_too_long, reterr);
    if (found != HTTP1_DONE)
        return found;
    ensure(digits > 0 && digits <= body->scanned);
    if (!extensions_valid(input.at + digits, input.at + body->scanned))
        return http1_refuse(reterr, 400, "malformed chunk extension (RFC 9112 7.1.1)");

    uint64_t size = 0;
    for (size_t i = 0; i < digits; i++)
        size = size << 4 | http1_hex_value(input.at[i]);
    ensure(body->total <= body->limit);
    if (size > body->limit - body->total)
        return http1_refuse(reterr, 413, "body over the limit (RFC 9110 15.5.14)");
    body->left = size;
    if (!extensions_affordable(body, body->scanned - digits, limits))
        return http1_refuse(reterr, 400, "more chunk extensions than data (RFC 9112 7.1.1)");

    *consumed += body->scanned + 2;
    body->scanned = 0;
    body->state = size > 0 ? CHUNK_DATA : TRAILER;
    return HTTP1_DONE;
}

/* The CRLF behind a chunk's data. */
static enum http1_result read_chunk_end(struct http1_body *body, struct bytes input,
                                        size_t *consumed, struct http1_refusal *reterr)
{
    ensure(body->left == 0);
    if (!bytes_starts_with(HTTP1_CHUNK_END, bytes_head(input, 2)))
        return http1_refuse(reterr, 400, "chunk data without CRLF behind it (RFC 9112 7.1)");
    if (input.size < 2)
        return HTTP1_MORE;
    *consumed += 2;
    body->state = CHUNK_SIZE;
    return HTTP1_DONE;
}

/* ---- data and trailers ----------------------------------------------------------------------- */

static enum http1_body_event refuse(struct http1_refusal *reterr, int status, const char *reason)
{
    http1_refuse(reterr, status, reason);
    return HTTP1_BODY_REFUSED;
}

/* The next slice of data, counted. */
static enum http1_body_event read_data(struct http1_body *body, struct bytes input,
                                       size_t *consumed, struct bytes *ret_data,
                                       struct http1_refusal *reterr)
{
    size_t size = input.size < body->left ? input.size : (size_t)body->left;

    if (size == 0)
        return HTTP1_BODY_MORE;
    ensure(body->total <= body->limit);
    if (size > body->limit - body->total)
        return refuse(reterr, 413, "body over the limit (RFC 9110 15.5.14)");
    *ret_data = bytes_of(input.at, size);
    *consumed += size;
    body->left -= size;
    body->total += size;
    return HTTP1_BODY_DATA;
}

/* One line of the trailer section: a field (also a forbidden one), or the end. */
static enum http1_body_event read_trailer(struct http1_body *body, struct bytes input,
                                          const struct http1_limits *limits, size_t *consumed,
                                          struct http1_header *ret_trailer,
                                          struct http1_refusal *reterr)
{
    ensure(body->left == 0);
    if (input.size == 0 || bytes_equal(input, BYTES("\r")))
        return HTTP1_BODY_MORE;
    if (input.at[0] == '\r') {
        if (input.at[1] != '\n')
            return refuse(reterr, 400, "CR without LF (RFC 9112 2.2)");
        *consumed += 2;
        body->state = ENDED;
        return HTTP1_BODY_END;
    }
    if (http1_field_check_start(input.at[0], reterr) != HTTP1_DONE)
        return HTTP1_BODY_REFUSED;
    if (body->trailer_count >= limits->header_count)
        return refuse(reterr, 431, "more trailer fields than the limit (RFC 6585 5)");

    size_t room = http1_line_room(limits->line_size, limits->head_size, body->trailer_size);
    enum http1_result found = http1_line_find(input.at, input.at + input.size, &body->scanned, room,
                                              &trailer_too_long, reterr);
    if (found == HTTP1_DONE)
        found = http1_field_parse(input.at, body->scanned, ret_trailer, reterr);
    if (found != HTTP1_DONE)
        return found == HTTP1_MORE ? HTTP1_BODY_MORE : HTTP1_BODY_REFUSED;
    body->trailer_count++;
    body->trailer_size += body->scanned + 2;
    *consumed += body->scanned + 2;
    body->scanned = 0;
    return HTTP1_BODY_TRAILER;
}

/* Chunks up to the next event for the caller. */
static enum http1_body_event next_chunked(struct http1_body *body, struct bytes input,
                                          const struct http1_limits *limits, size_t *consumed,
                                          struct bytes *ret_data, struct http1_header *ret_trailer,
                                          struct http1_refusal *reterr)
{
    while (body->state != ENDED) {
        struct bytes rest = bytes_skip(input, *consumed);
        enum http1_body_event event;
        enum http1_result result;
        ensure(*consumed <= input.size);

        switch ((enum body_state)body->state) {
        case CHUNK_DATA:
            event = read_data(body, rest, consumed, ret_data, reterr);
            if (event == HTTP1_BODY_DATA && body->left == 0)
                body->state = CHUNK_END;
            return event;
        case TRAILER:
            event = read_trailer(body, rest, limits, consumed, ret_trailer, reterr);
            if (event == HTTP1_BODY_TRAILER && http1_trailer_forbidden(ret_trailer->name))
                continue;
            return event;
        case CHUNK_SIZE:
            result = read_size(body, rest, limits, consumed, reterr);
            break;
        case CHUNK_END:
        default:
            result = read_chunk_end(body, rest, consumed, reterr);
            break;
        }
        if (result != HTTP1_DONE)
            return result == HTTP1_MORE ? HTTP1_BODY_MORE : HTTP1_BODY_REFUSED;
    }
    return HTTP1_BODY_END;
}

enum http1_body_event http1_body_next(struct http1_body *body, struct bytes input,
                                      const struct http1_limits *limits, size_t *ret_consumed,
                                      struct bytes *ret_data, struct http1_header *ret_trailer,
                                      struct http1_refusal *reterr)
{
    *ret_consumed = 0;
    switch (body->kind) {
    case HTTP1_BODY_LENGTH:
        if (body->left == 0)
            return HTTP1_BODY_END;
        return read_data(body, input, ret_consumed, ret_data, reterr);
    case HTTP1_BODY_CHUNKED:
        return next_chunked(body, input, limits, ret_consumed, ret_data, ret_trailer, reterr);
    case HTTP1_BODY_NONE:
    default:
        return HTTP1_BODY_END;
    }
}
