/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_scan: byte classes, lines, fields and lists.
 *
 * See http1_scan.h for the idea.  Nothing here knows what a field means; http1_field.c does.
 */
#include "http1_scan.h"

#include "ensure.h"

/* Shorthands for the table below only. */
enum {
    T = HTTP1_TOKEN,
    P = HTTP1_PATH,
    Q = HTTP1_QUERY,
    N = HTTP1_REG_NAME,
    S = HTTP1_QUOTED,
    C = HTTP1_CONTROL,
    /* the groups of RFC 3986 2.2, 2.3 as they appear in a target and a host */
    UNRESERVED = P | Q | N | S,
    LETTER = T | UNRESERVED,
};

/* clang-format off */
const uint8_t http1_classes[256] = {
    [0 ... 8] = C, ['\t'] = S, [10 ... 31] = C, [127] = C,
    [' '] = S,           ['!'] = T | UNRESERVED,  ['"'] = 0,               ['#'] = T | S,
    ['$'] = LETTER,      ['%'] = T | S,           ['&'] = LETTER,          ['\''] = LETTER,
    ['('] = UNRESERVED,  [')'] = UNRESERVED,      ['*'] = LETTER,          ['+'] = LETTER,
    [','] = UNRESERVED,  ['-'] = LETTER,          ['.'] = LETTER,          ['/'] = P | Q | S,
    ['0' ... '9'] = LETTER | HTTP1_DIGIT | HTTP1_HEX,
    [':'] = P | Q | S,   [';'] = UNRESERVED,      ['<'] = S,               ['='] = UNRESERVED,
    ['>'] = S,           ['?'] = Q | S,           ['@'] = P | Q | S,
    ['A' ... 'F'] = LETTER | HTTP1_HEX,           ['G' ... 'Z'] = LETTER,
    ['['] = P | Q | S,   ['\\'] = Q,              [']'] = P | Q | S,       ['^'] = T | P | Q | S,
    ['_'] = LETTER,      ['`'] = T | Q | S,
    ['a' ... 'f'] = LETTER | HTTP1_HEX,           ['g' ... 'z'] = LETTER,
    ['{'] = Q | S,       ['|'] = T | P | Q | S,   ['}'] = Q | S,           ['~'] = LETTER,
    [128 ... 255] = S,
};
/* clang-format on */

enum http1_result http1_line_find(const uint8_t *line, const uint8_t *end, size_t *at, size_t limit,
                                  const struct http1_refusal *too_long,
                                  struct http1_refusal *reterr)
{
    size_t have = (size_t)(end - line);
    size_t window = http1_line_window(have, limit);
    ensure(line <= end);
    ensure(*at <= window);

    const uint8_t *hit = http1_find_control(line + *at, line + window);
    *at = (size_t)(hit - line);
    if (*at == window)
        return window > limit ? http1_refuse(reterr, too_long->status, too_long->reason)
                              : HTTP1_MORE;
    if (*hit == '\n')
        return http1_refuse(reterr, 400, "LF without CR (RFC 9112 2.2)");
    if (*hit != '\r')
        return http1_refuse(reterr, 400, "control character in a line (RFC 9110 5.5)");
    if (*at + 1 == have)
        return HTTP1_MORE;
    if (hit[1] != '\n')
        return http1_refuse(reterr, 400, "CR without LF (RFC 9112 2.2)");
    return HTTP1_DONE;
}

enum http1_result http1_field_check_start(uint8_t first, struct http1_refusal *reterr)
{
    if (http1_is(first, HTTP1_TOKEN))
        return HTTP1_DONE;
    if (first == ' ' || first == '\t')
        return http1_refuse(reterr, 400, "folded field line (RFC 9112 5.2)");
    if (first == ':')
        return http1_refuse(reterr, 400, "field without a name (RFC 9110 5.1)");
    if (first == '\n')
        return http1_refuse(reterr, 400, "LF without CR (RFC 9112 2.2)");
    return http1_refuse(reterr, 400, "field name is not a token (RFC 9110 5.1)");
}

enum http1_result http1_field_parse(const uint8_t *line, size_t size,
                                    struct http1_header *ret_field, struct http1_refusal *reterr)
{
    const uint8_t *at = line, *end = line + size;
    ensure(size > 0 && *end == '\r');

    while (http1_is(*at, HTTP1_TOKEN))
        at++;
    if (*at != ':') {
        if (*at == ' ' || *at == '\t')
            return http1_refuse(reterr, 400, "space between field name and colon (RFC 9112 5.1)");
        if (at == end)
            return http1_refuse(reterr, 400, "field line without a colon (RFC 9112 5)");
        return http1_refuse(reterr, 400, "field name is not a token (RFC 9110 5.1)");
    }
    ensure(at > line);
    ret_field->name = bytes_of(line, (size_t)(at - line));

    at++;
    while (*at == ' ' || *at == '\t')
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    ret_field->value = bytes_of(at, (size_t)(end - at));
    return HTTP1_DONE;
}

bool http1_list_next(struct bytes *rest, struct bytes *ret_item)
{
    while (rest->size > 0) {
        const uint8_t *comma = memchr(rest->at, ',', rest->size);
        size_t size = comma ? (size_t)(comma - rest->at) : rest->size;
        ensure(size <= rest->size);
        *ret_item = bytes_trim(bytes_head(*rest, size));
        *rest = bytes_skip(*rest, size + 1);
        if (ret_item->size > 0)
            return true;
    }
    return false;
}

bool http1_is_token(struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++)
        if (!http1_is(bytes.at[i], HTTP1_TOKEN))
            return false;
    return bytes.size > 0;
}

bool http1_is_value(struct bytes bytes)
{
    if (bytes.size == 0)
        return true;
    return http1_find_control(bytes.at, bytes.at + bytes.size) == bytes.at + bytes.size;
}

bool http1_block_next(struct bytes *rest, struct http1_header *ret_field)
{
    uint16_t sizes[2];

    if (rest->size < sizeof(sizes))
        return false;
    memcpy(sizes, rest->at, sizeof(sizes));
    size_t name_size = le16toh(sizes[0]), value_size = le16toh(sizes[1]);
    if (rest->size - sizeof(sizes) < name_size + value_size)
        return false;

    ret_field->name = bytes_of(rest->at + sizeof(sizes), name_size);
    ret_field->value = bytes_of(rest->at + sizeof(sizes) + name_size, value_size);
    *rest = bytes_skip(*rest, sizeof(sizes) + name_size + value_size);
    return true;
}

bool http1_name_is(struct bytes name, struct bytes known)
{
    if (name.size != known.size)
        return false;
    /* Of the token characters only letters change under 0x20 into what stands in a known name. */
    for (size_t i = 0; i < name.size; i++)
        if ((name.at[i] | 0x20) != known.at[i])
            return false;
    return true;
}
