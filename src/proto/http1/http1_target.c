/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_target: the four forms of a request-target (RFC 9112 3.2) and the syntax of an authority.
 *
 *     origin-form     /where?q=now               every method but CONNECT
 *     absolute-form   http://host:port/where?q   every method but CONNECT; its authority wins over
 * Host authority-form  host:port                  CONNECT only asterisk-form   * OPTIONS only
 *
 * Stricter than a URI library: no fragment, no userinfo, no broken escape, no escaped NUL in a path
 * (RFC 3986 7.3), nothing but http and https.  Nothing is decoded or normalised: "." and ".." and
 * escapes pass as they came, because a route is matched on the bytes that the application will see.
 */
#include "ensure.h"
#include "http1_scan.h"

/* Behind the bytes of `class` and whole escapes; a broken one stops it at its "%". */
static const uint8_t *skip(const uint8_t *at, enum http1_class class)
{
    for (;;) {
        while (http1_is(*at, class))
            at++;
        if (*at != '%' || !http1_is(at[1], HTTP1_HEX) || !http1_is(at[2], HTTP1_HEX))
            return at;
        if (class == HTTP1_PATH && at[1] == '0' && at[2] == '0')
            return at;
        at += 3;
    }
}

/* The target ended at a byte that may not follow it. */
static enum http1_result refuse_byte(uint8_t byte, struct http1_refusal *reterr)
{
    if (byte == '#')
        return http1_refuse(reterr, 400, "fragment in the request-target (RFC 9112 3.2)");
    if (byte == '%')
        return http1_refuse(reterr, 400,
                            "broken or NUL escape in the request-target (RFC 3986 2.1, 7.3)");
    if (byte == '\r')
        return http1_refuse(reterr, 400, "request line without a version (RFC 9112 3)");
    return http1_refuse(reterr, 400,
                        "byte in the request-target that must be escaped (RFC 9112 3.2)");
}

/* Path and query at `at`, up to the space; target.at is set. */
static enum http1_result parse_path(struct http1_head *head, const uint8_t *at,
                                    struct http1_refusal *reterr)
{
    const uint8_t *start = at;

    at = skip(at, HTTP1_PATH);
    head->path = bytes_of(start, (size_t)(at - start));
    if (*at == '?') {
        start = at + 1;
        at = skip(start, HTTP1_QUERY);
        head->query = bytes_of(start, (size_t)(at - start));
    }
    if (*at != ' ')
        return refuse_byte(*at, reterr);
    head->target.size = (size_t)(at - head->target.at);
    return HTTP1_DONE;
}

/* The first byte that cannot be in an authority because it ends one, or ends the target. */
static const uint8_t *authority_end(const uint8_t *at)
{
    while (*at != '/' && *at != '?' && *at != '#' && *at != ' ' && *at != '\r')
        at++;
    return at;
}

static enum http1_result parse_authority(struct http1_head *head, const uint8_t *at,
                                         struct http1_refusal *reterr)
{
    const uint8_t *end = authority_end(at);

    if (*end != ' ')
        return *end == '\r' ? refuse_byte(*end, reterr)
                            : http1_refuse(reterr, 400, "CONNECT needs host:port (RFC 9112 3.2.3)");
    head->target = head->authority = bytes_of(at, (size_t)(end - at));
    if (!http1_authority_is(head->authority, HTTP1_PORT_NEEDED))
        return http1_refuse(reterr, 400, "CONNECT needs host:port (RFC 9112 3.2.3)");
    return HTTP1_DONE;
}

/* `at` is behind "http://" or "https://". */
static enum http1_result parse_absolute(struct http1_head *head, const uint8_t *at,
                                        struct http1_refusal *reterr)
{
    const uint8_t *end = authority_end(at);

    head->authority = bytes_of(at, (size_t)(end - at));
    if (!http1_authority_is(head->authority, HTTP1_PORT_OPTIONAL))
        return http1_refuse(reterr, 400, "bad authority in the request-target (RFC 9110 4.2)");
    if (*end == '/')
        return parse_path(head, end, reterr);

    enum http1_result result = parse_path(head, end, reterr);
    ensure(result != HTTP1_DONE || head->path.size == 0);
    head->path = bytes_of(at - 1, 1); /* the last "/" of "://" lends itself to the empty path */
    ensure(*head->path.at == '/');
    return result;
}

/* How long the "http://" or "https://" at `at` is, 0 when it is neither. */
static size_t scheme_size(const uint8_t *at)
{
    static const char scheme[] = "http";

    for (size_t i = 0; i < sizeof(scheme) - 1; i++)
        if ((at[i] | 0x20) != scheme[i])
            return 0;
    at += 4;
    size_t secure = (*at | 0x20) == 's';
    at += secure;
    return at[0] == ':' && at[1] == '/' && at[2] == '/' ? 4 + secure + 3 : 0;
}

enum http1_result http1_target_parse(struct http1_head *head, const uint8_t *at,
                                     struct http1_refusal *reterr)
{
    head->target = bytes_of(at, 0);
    head->path = bytes_of(at, 0);
    head->query = bytes_of(at, 0);
    head->authority = bytes_of(at, 0);

    if (head->method == HTTP1_CONNECT)
        return parse_authority(head, at, reterr);
    if (*at == '/')
        return parse_path(head, at, reterr);
    if (*at == '*' && (at[1] == ' ' || at[1] == '\r')) {
        if (head->method != HTTP1_OPTIONS)
            return http1_refuse(reterr, 400, "* is for OPTIONS alone (RFC 9112 3.2.4)");
        head->target = head->path = bytes_of(at, 1);
        return at[1] == ' ' ? HTTP1_DONE : refuse_byte(at[1], reterr);
    }
    if (*at == ' ')
        return http1_refuse(reterr, 400, "more than one space in the request line (RFC 9112 3)");
    size_t scheme = scheme_size(at);
    if (scheme > 0)
        return parse_absolute(head, at + scheme, reterr);
    return http1_refuse(reterr, 400, "request-target has no known form (RFC 9112 3.2)");
}

/* ---- authority ------------------------------------------------------------------------------- */

/* dec-octet "." dec-octet "." dec-octet "." dec-octet, RFC 3986 3.2.2. */
static bool is_ipv4(struct bytes text)
{
    unsigned octets = 0, value = 0;
    size_t digits = 0;

    for (size_t i = 0; i <= text.size; i++) {
        if (i < text.size && http1_is(text.at[i], HTTP1_DIGIT)) {
            if (digits > 0 && value == 0)
                return false; /* a leading zero */
            value = value * 10 + (text.at[i] - '0');
            if (++digits > 3)
                return false;
            continue;
        }
        if (digits == 0 || value > 255 || (i < text.size && text.at[i] != '.'))
            return false;
        octets++;
        value = 0, digits = 0;
    }
    return octets == 4;
}

/* Eight groups of up to four hex digits, the last two perhaps as IPv4, one "::" for the groups left
 * out. */
static bool is_ipv6(struct bytes text)
{
    unsigned groups = 0;
    bool gap = false;
    size_t i = 0;

    if (text.size < 2 || (text.at[0] == ':' && text.at[1] != ':'))
        return false;
    while (i < text.size) {
        if (text.at[i] == ':' && i + 1 < text.size && text.at[i + 1] == ':') {
            if (gap)
                return false;
            gap = true;
            i += 2;
            continue;
        }
        if (i > 0 && !(gap && text.at[i - 1] == ':')) {
            if (text.at[i] != ':' || ++i == text.size)
                return false;
        }
        size_t digits = 0;
        while (i + digits < text.size && digits < 5 && http1_is(text.at[i + digits], HTTP1_HEX))
            digits++;
        if (i + digits < text.size && text.at[i + digits] == '.') {
            if (!is_ipv4(bytes_skip(text, i)))
                return false;
            groups += 2;
            break;
        }
        if (digits == 0 || digits > 4)
            return false;
        groups++;
        i += digits;
    }
    return gap ? groups <= 7 : groups == 8;
}

/* "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" ) */
static bool is_ip_future(struct bytes text)
{
    size_t i = 1;

    if (text.size < 4 || (text.at[0] | 0x20) != 'v')
        return false;
    while (i < text.size && http1_is(text.at[i], HTTP1_HEX))
        i++;
    if (i == 1 || i + 1 >= text.size || text.at[i] != '.')
        return false;
    for (i++; i < text.size; i++)
        if (!http1_is(text.at[i], HTTP1_REG_NAME) && text.at[i] != ':')
            return false;
    return true;
}

/* How many bytes at the start are a reg-name; IPv4 is one too. */
static size_t reg_name_size(struct bytes text)
{
    size_t i = 0;

    while (i < text.size) {
        if (http1_is(text.at[i], HTTP1_REG_NAME))
            i++;
        else if (text.at[i] == '%' && text.size - i >= 3 && http1_is(text.at[i + 1], HTTP1_HEX) &&
                 http1_is(text.at[i + 2], HTTP1_HEX))
            i += 3;
        else
            break;
    }
    return i;
}

/* ":" and up to 65535; ":" alone is an empty port, RFC 3986 3.2.3. */
static bool is_port(struct bytes text, enum http1_port port)
{
    uint64_t number = 0;

    if (text.size == 0)
        return port == HTTP1_PORT_OPTIONAL;
    if (text.at[0] != ':')
        return false;
    if (text.size == 1)
        return port == HTTP1_PORT_OPTIONAL;
    return bytes_to_u64(bytes_skip(text, 1), &number) && number <= 65535 &&
           (number > 0 || port == HTTP1_PORT_OPTIONAL);
}

bool http1_authority_is(struct bytes authority, enum http1_port port)
{
    size_t host = 0;

    if (authority.size > 0 && authority.at[0] == '[') {
        const uint8_t *close = memchr(authority.at, ']', authority.size);
        if (!close)
            return false;
        struct bytes literal = bytes_of(authority.at + 1, (size_t)(close - authority.at) - 1);
        if (!is_ipv6(literal) && !is_ip_future(literal))
            return false;
        host = literal.size + 2;
    } else {
        host = reg_name_size(authority);
    }
    ensure(host <= authority.size);
    return host > 0 && is_port(bytes_skip(authority, host), port);
}
