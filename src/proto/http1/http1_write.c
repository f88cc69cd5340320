/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_write: answers, chunks and trailers as bytes.
 *
 * An answer's head is copied together from pieces that are ready: the status line from a table,
 * names as literals, fields as they stand in the wire's block.  http1_answer_room bounds the whole
 * once, so no piece is measured against the room again.  What an application hands us is not
 * trusted: a field that would break the message (name no token, control in the value) or contradict
 * our framing is left out.
 */
#include "ensure.h"
#include "http1_scan.h"

/* Registered with IANA; a status that is missing here is sent without a phrase. */
/* clang-format off */
#define STATUSES(X) \
    X(200, "OK") X(201, "Created") X(202, "Accepted") X(203, "Non-Authoritative Information") \
    X(204, "No Content") X(205, "Reset Content") X(206, "Partial Content") \
    X(207, "Multi-Status") X(208, "Already Reported") X(226, "IM Used") \
    X(300, "Multiple Choices") X(301, "Moved Permanently") X(302, "Found") X(303, "See Other") \
    X(304, "Not Modified") X(305, "Use Proxy") X(307, "Temporary Redirect") \
    X(308, "Permanent Redirect") X(400, "Bad Request") X(401, "Unauthorized") \
    X(402, "Payment Required") X(403, "Forbidden") X(404, "Not Found") \
    X(405, "Method Not Allowed") X(406, "Not Acceptable") \
    X(407, "Proxy Authentication Required") X(408, "Request Timeout") X(409, "Conflict") \
    X(410, "Gone") X(411, "Length Required") X(412, "Precondition Failed") \
    X(413, "Content Too Large") X(414, "URI Too Long") X(415, "Unsupported Media Type") \
    X(416, "Range Not Satisfiable") X(417, "Expectation Failed") X(421, "Misdirected Request") \
    X(422, "Unprocessable Content") X(423, "Locked") X(424, "Failed Dependency") \
    X(425, "Too Early") X(426, "Upgrade Required") X(428, "Precondition Required") \
    X(429, "Too Many Requests") X(431, "Request Header Fields Too Large") \
    X(451, "Unavailable For Legal Reasons") X(500, "Internal Server Error") \
    X(501, "Not Implemented") X(502, "Bad Gateway") X(503, "Service Unavailable") \
    X(504, "Gateway Timeout") X(505, "HTTP Version Not Supported") \
    X(506, "Variant Also Negotiates") X(507, "Insufficient Storage") X(508, "Loop Detected") \
    X(510, "Not Extended") X(511, "Network Authentication Required")
/* clang-format on */

enum {
    STATUS_FIRST = 200,
    STATUS_LAST = 599,
    DATE_SIZE = 29,
    SIZE_DIGITS_MOST = 20, /* of 2^64 - 1 */
    CHUNK_DIGITS_MOST = 16,
    /* The longest status line, Date, the longest framing and Connection fields, all CRLFs and the
       last one. */
    FIXED_SIZE = 64 + (6 + DATE_SIZE + 2) + (16 + SIZE_DIGITS_MOST + 2) + 28 + 24 + 2,
};

static const struct {
    uint8_t size;
    char line[61];
} status_lines[STATUS_LAST - STATUS_FIRST + 1] = {
#define STATUS_LINE(status, phrase)                                                                \
    [(status)-STATUS_FIRST] = {sizeof("HTTP/1.1 " #status " " phrase "\r\n") - 1,                  \
                               "HTTP/1.1 " #status " " phrase "\r\n"},
    STATUSES(STATUS_LINE)
#undef STATUS_LINE
};

const char *http1_reason(int status)
{
    switch (status) {
    case 100:
        return "Continue";
    case 101:
        return "Switching Protocols";
#define STATUS_REASON(status, phrase)                                                              \
    case status:                                                                                   \
        return phrase;
        STATUSES(STATUS_REASON)
#undef STATUS_REASON
    default:
        return "";
    }
}

/* Two decimal digits. */
static char *put_two(char *at, unsigned number)
{
    ensure(number <= 99);
    *at++ = (char)('0' + number / 10);
    *at++ = (char)('0' + number % 10);
    return at;
}

void http1_date(int64_t unix_seconds, char ret_date[30])
{
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1 January 1970 was a Thursday */
    static const char months[] = "MarAprMayJunJulAugSepOctNovDecJanFeb";
    const int64_t most = 253402300799; /* 31 December 9999, the last with four digits */

    int64_t seconds = unix_seconds < 0 ? 0 : unix_seconds > most ? most : unix_seconds;
    uint32_t day = (uint32_t)(seconds / 86400), second = (uint32_t)(seconds % 86400);
    /* The civil calendar in years that begin in March and eras of 400 of them, 146097 days each. */
    uint32_t era_day = (day + 719468) % 146097, era = (day + 719468) / 146097;
    uint32_t era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    uint32_t year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    uint32_t month = (5 * year_day + 2) / 153; /* 0: March */
    uint32_t year = era * 400 + era_year + (month >= 10);
    ensure(month < 12 && year >= 1970 && year <= 9999);

    char *at = ret_date;
    memcpy(at, days + day % 7 * 3, 3);
    memcpy(at + 3, ", ", 2);
    at = put_two(at + 5, year_day - (153 * month + 2) / 5 + 1);
    *at++ = ' ';
    memcpy(at, months + month * 3, 3);
    at[3] = ' ';
    at = put_two(put_two(at + 4, year / 100), year % 100);
    *at++ = ' ';
    at = put_two(at, second / 3600);
    *at++ = ':';
    at = put_two(at, second / 60 % 60);
    *at++ = ':';
    at = put_two(at, second % 60);
    memcpy(at, " GMT", 5);
    ensure(at + 4 == ret_date + DATE_SIZE);
}

/* ---- pieces of a head ------------------------------------------------------------------------ */

static uint8_t *put(uint8_t *at, struct bytes bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.at, bytes.size);
    return at + bytes.size;
}

static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    uint8_t digits[SIZE_DIGITS_MOST], *first = digits + sizeof(digits);

    do
        *--first = (uint8_t)('0' + number % 10);
    while ((number /= 10) > 0);
    return put(at, bytes_of(first, (size_t)(digits + sizeof(digits) - first)));
}

/* `start` is "name: ". */
static uint8_t *put_field(uint8_t *at, struct bytes start, struct bytes value)
{
    return put(put(put(at, start), value), BYTES("\r\n"));
}

static uint8_t *put_status(uint8_t *at, int status)
{
    unsigned row = (unsigned)(status - STATUS_FIRST);
    ensure(row <= STATUS_LAST - STATUS_FIRST);

    if (status_lines[row].size > 0)
        return put(at, bytes_of(status_lines[row].line, status_lines[row].size));
    at = put(at, BYTES("HTTP/1.1 "));
    at = put_number(at, (uint64_t)status);
    return put(at, BYTES(" \r\n"));
}

/* May this field of an application go out, given what we write ourselves? */
static bool may_pass(const struct http1_answer *answer, const struct http1_header *field)
{
    struct bytes name = field->name;

    if (!http1_is_token(name) || !http1_is_value(field->value) || http1_hop_by_hop(name))
        return false;
    switch (name.size) {
    case 4:
        return answer->date.size == 0 || !http1_name_is(name, BYTES("date"));
    case 12:
        if (answer->content_type.size > 0 && http1_name_is(name, BYTES("content-type")))
            return false;
        return answer->request_id.size == 0 || !http1_name_is(name, BYTES("x-request-id"));
    case 14:
        return !http1_name_is(name, BYTES("content-length"));
    default:
        return true;
    }
}

static uint8_t *put_block(uint8_t *at, const struct http1_answer *answer)
{
    struct bytes rest = answer->headers;
    struct http1_header field;

    while (http1_block_next(&rest, &field)) {
        if (!may_pass(answer, &field))
            continue;
        at = put(at, field.name);
        at = put_field(at, BYTES(": "), bytes_trim(field.value));
    }
    return at;
}

/* ---- framing --------------------------------------------------------------------------------- */

/* What an application said about the length, for answers without content that may tell it (RFC
 * 9110 8.6). */
static bool find_length(struct bytes block, uint64_t *ret_length)
{
    struct http1_header field;
    unsigned count = 0;

    while (http1_block_next(&block, &field))
        if (http1_name_is(field.name, BYTES("content-length")) &&
            (count++ || !bytes_to_u64(field.value, ret_length)))
            return false;
    return count == 1;
}

/* How the body travels, and whether a Content-Length is told. */
static enum http1_framing decide(const struct http1_answer *answer, int status, bool *ret_told,
                                 uint64_t *ret_length)
{
    *ret_length = answer->body_size;
    *ret_told = false;
    if (status == 204)
        return HTTP1_FRAMING_NONE;
    if (status == 205) { /* never content, and that must be visible: RFC 9110 15.3.6 */
        *ret_length = 0;
        *ret_told = true;
        return HTTP1_FRAMING_NONE;
    }
    if (status == 304 || answer->head_request) {
        *ret_told = find_length(answer->headers, ret_length);
        if (!*ret_told && status != 304 && answer->body_size > 0 &&
            answer->body_size != UINT64_MAX) {
            *ret_length = answer->body_size;
            *ret_told = true;
        }
        return HTTP1_FRAMING_NONE;
    }
    *ret_told = answer->body_size != UINT64_MAX;
    if (*ret_told)
        return HTTP1_FRAMING_LENGTH;
    return answer->minor == 0 ? HTTP1_FRAMING_CLOSE : HTTP1_FRAMING_CHUNKED;
}

size_t http1_answer_room(const struct http1_answer *answer)
{
    /* A field of the block takes 4 bytes of sizes there and as many of ": " and CRLF here. */
    return FIXED_SIZE + answer->headers.size + sizeof("content-type: \r\n") +
           answer->content_type.size + sizeof("x-request-id: \r\n") + answer->request_id.size +
           sizeof("upgrade: \r\nupgrade, ") + answer->upgrade.size;
}

size_t http1_write_answer(const struct http1_answer *answer, uint8_t *room, size_t room_size,
                          enum http1_framing *ret_framing)
{
    uint64_t length = 0;
    bool told = false;
    int status =
        answer->status >= STATUS_FIRST && answer->status <= STATUS_LAST ? answer->status : 500;

    if (room_size < http1_answer_room(answer))
        return 0;
    ensure(answer->date.size == 0 || answer->date.size == DATE_SIZE);
    enum http1_framing framing = decide(answer, status, &told, &length);

    uint8_t *at = put_status(room, status);
    if (answer->date.size > 0)
        at = put_field(at, BYTES("date: "), answer->date);
    if (answer->content_type.size > 0 && http1_is_value(answer->content_type))
        at = put_field(at, BYTES("content-type: "), bytes_trim(answer->content_type));
    if (told)
        at = put(put_number(put(at, BYTES("content-length: ")), length), BYTES("\r\n"));
    else if (framing == HTTP1_FRAMING_CHUNKED)
        at = put(at, BYTES("transfer-encoding: chunked\r\n"));
    if (answer->upgrade.size > 0)
        at = put_field(at, BYTES("upgrade: "), answer->upgrade);
    if (answer->upgrade.size > 0 && !answer->keep_alive)
        at = put(at, BYTES("connection: upgrade, close\r\n"));
    else if (!answer->keep_alive || framing == HTTP1_FRAMING_CLOSE)
        at = put(at, BYTES("connection: close\r\n"));
    else if (answer->minor == 0)
        at = put(at, BYTES("connection: keep-alive\r\n"));
    if (answer->request_id.size > 0 && http1_is_value(answer->request_id))
        at = put_field(at, BYTES("x-request-id: "), bytes_trim(answer->request_id));
    at = put(put_block(at, answer), BYTES("\r\n"));

    *ret_framing = framing;
    ensure((size_t)(at - room) <= room_size);
    return (size_t)(at - room);
}

static uint8_t *put_own_fields(uint8_t *at, struct bytes fields)
{
    struct http1_header field;
    while (http1_block_next(&fields, &field))
        at = put_field(put(put(at, field.name), BYTES(": ")), (struct bytes){0}, field.value);
    return at;
}

size_t http1_write_upgrade(const struct http1_answer *answer, struct bytes protocol,
                           struct bytes fields, uint8_t *room, size_t room_size)
{
    if (room_size < http1_answer_room(answer) + fields.size + protocol.size)
        return 0;
    ensure(answer->date.size == 0 || answer->date.size == DATE_SIZE);
    uint8_t *at = put(room, BYTES("HTTP/1.1 101 Switching Protocols\r\n"));
    at = put_field(at, BYTES("upgrade: "), protocol);
    at = put(at, BYTES("connection: upgrade\r\n"));
    at = put_own_fields(at, fields);
    if (answer->date.size > 0)
        at = put_field(at, BYTES("date: "), answer->date);
    if (answer->request_id.size > 0 && http1_is_value(answer->request_id))
        at = put_field(at, BYTES("x-request-id: "), bytes_trim(answer->request_id));
    at = put(put_block(at, answer), BYTES("\r\n"));
    ensure((size_t)(at - room) <= room_size);
    return (size_t)(at - room);
}

/* ---- chunks and trailers --------------------------------------------------------------------- */

size_t http1_write_chunk_head(uint64_t size, uint8_t room[18])
{
    static const char digits[] = "0123456789abcdef";
    unsigned bit_count = size > 0 ? 64 - (unsigned)__builtin_clzll(size) : 1;
    size_t count = (bit_count + 3) / 4;
    ensure(count >= 1 && count <= CHUNK_DIGITS_MOST);

    for (size_t i = count; i > 0; i--, size >>= 4)
        room[i - 1] = (uint8_t)digits[size & 15];
    memcpy(room + count, "\r\n", 2);
    return count + 2;
}

size_t http1_write_trailers(struct bytes trailers, uint8_t *room, size_t room_size)
{
    struct http1_header field;
    uint8_t *at = room;

    if (room_size < sizeof("0\r\n\r\n") - 1 + trailers.size)
        return 0;
    at = put(at, BYTES("0\r\n"));
    while (http1_block_next(&trailers, &field)) {
        if (!http1_is_token(field.name) || !http1_is_value(field.value) ||
            http1_trailer_forbidden(field.name))
            continue;
        at = put(at, field.name);
        at = put_field(at, BYTES(": "), bytes_trim(field.value));
    }
    at = put(at, BYTES("\r\n"));
    ensure((size_t)(at - room) <= room_size);
    return (size_t)(at - room);
}
