/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_field: what fields mean for framing and for the connection (RFC 9110 7 to 10, RFC 9112 6,
 * 9).
 *
 * A head is read line by line; each field that matters here is noted in a struct http1_facts.  Only
 * when the head is whole is it judged, so that a verdict never depends on how the bytes were cut.
 * Where the RFC lets a server choose between repairing and refusing what could smuggle a request,
 * we refuse:
 *
 *     Content-Length twice, even alike; with Transfer-Encoding; signed, a list, empty   400
 *     Transfer-Encoding in HTTP/1.0; chunked not last, twice, or with parameters        400
 *     a coding other than chunked under a final chunked                                 501
 *     Host missing in HTTP/1.1, twice, or not host[:port]                               400
 */
#include "ensure.h"
#include "http1_scan.h"

/* Keeps the first. */
static void note_refusal(struct http1_facts *facts, const char *reason)
{
    if (facts->refusal.status == 0)
        facts->refusal = (struct http1_refusal){400, reason};
}

static void note_length(struct http1_facts *facts, struct bytes value)
{
    facts->length_count++;
    if (!bytes_to_u64(value, &facts->length))
        note_refusal(facts, "Content-Length is not one number (RFC 9112 6.3)");
    else if (facts->length_count > 1)
        note_refusal(facts, "Content-Length more than once (RFC 9112 6.3)");
}

/* transfer-coding = token *( OWS ";" OWS parameter ), RFC 9110 10.1.4 */
static void note_coding(struct http1_facts *facts, struct bytes coding)
{
    size_t name = 0;

    while (name < coding.size && http1_is(coding.at[name], HTTP1_TOKEN))
        name++;
    struct bytes parameters = bytes_trim(bytes_skip(coding, name));
    if (name == 0 || (parameters.size > 0 && parameters.at[0] != ';')) {
        note_refusal(facts, "malformed Transfer-Encoding (RFC 9112 6.1)");
        return;
    }
    if (facts->chunked)
        note_refusal(facts, "chunked is not the last transfer coding (RFC 9112 6.1)");
    facts->chunked = http1_name_is(bytes_head(coding, name), BYTES("chunked"));
    if (!facts->chunked)
        facts->strange = true;
    else if (parameters.size > 0)
        note_refusal(facts, "chunked with parameters (RFC 9112 7.1)");
}

static void note_connection(struct http1_facts *facts, struct bytes value)
{
    struct bytes option;

    while (http1_list_next(&value, &option)) {
        if (!http1_is_token(option))
            note_refusal(facts, "connection option is not a token (RFC 9110 7.6.1)");
        else if (http1_name_is(option, BYTES("close")))
            facts->close = true;
        else if (http1_name_is(option, BYTES("keep-alive")))
            facts->keep_alive = true;
        else if (http1_name_is(option, BYTES("upgrade")))
            facts->upgrade = true;
        else if (http1_name_is(option, BYTES("host")) ||
                 http1_name_is(option, BYTES("content-length")))
            note_refusal(facts, "Connection names a field that is for everyone (RFC 9110 7.6.1)");
    }
}

/* Upgrade = #( token [ "/" token ] ), RFC 9110 7.8 */
static void note_upgrade(struct http1_facts *facts, struct bytes value)
{
    struct bytes protocol;

    while (http1_list_next(&value, &protocol)) {
        ptrdiff_t slash = bytes_find(protocol, '/');
        size_t name = slash < 0 ? protocol.size : (size_t)slash;
        if (!http1_is_token(bytes_head(protocol, name)) ||
            (slash >= 0 && !http1_is_token(bytes_skip(protocol, name + 1))))
            note_refusal(facts, "malformed Upgrade (RFC 9110 7.8)");
        if (facts->protocol.size == 0)
            facts->protocol = protocol;
    }
}

static void note_expect(struct http1_facts *facts, struct bytes value)
{
    struct bytes expectation;

    while (http1_list_next(&value, &expectation)) {
        if (http1_name_is(expectation, BYTES("100-continue")))
            facts->expect_continue = true;
        else
            facts->expect_other = true;
    }
}

static void note_transfer_encoding(struct http1_facts *facts, struct bytes value)
{
    struct bytes coding;

    facts->coded = true;
    while (http1_list_next(&value, &coding))
        note_coding(facts, coding);
}

void http1_facts_note(struct http1_facts *facts, const struct http1_header *field)
{
    struct bytes name = field->name;
    ensure(name.size > 0);

    switch (name.size) {
    case 4:
        if (http1_name_is(name, BYTES("host"))) {
            facts->host = field->value;
            facts->host_count++;
        }
        break;
    case 6:
        if (http1_name_is(name, BYTES("expect")))
            note_expect(facts, field->value);
        break;
    case 7:
        if (http1_name_is(name, BYTES("upgrade")))
            note_upgrade(facts, field->value);
        break;
    case 10:
        if (http1_name_is(name, BYTES("connection")))
            note_connection(facts, field->value);
        break;
    case 14:
        if (http1_name_is(name, BYTES("content-length")))
            note_length(facts, field->value);
        break;
    case 17:
        if (http1_name_is(name, BYTES("transfer-encoding")))
            note_transfer_encoding(facts, field->value);
        break;
    default:
        break;
    }
}

static enum http1_result judge_host(const struct http1_facts *facts, struct http1_head *head,
                                    struct http1_refusal *reterr)
{
    if (facts->host_count > 1)
        return http1_refuse(reterr, 400, "Host more than once (RFC 9112 3.2)");
    if (facts->host_count == 0)
        return head->minor == 0 ? HTTP1_DONE : http1_refuse(reterr, 400, "no Host (RFC 9112 3.2)");
    if (facts->host.size == 0) {
        if (head->authority.size > 0)
            return http1_refuse(reterr, 400,
                                "empty Host, but the target has an authority (RFC 9112 3.2)");
        return HTTP1_DONE;
    }
    if (!http1_authority_is(facts->host, HTTP1_PORT_OPTIONAL))
        return http1_refuse(reterr, 400, "Host is not host[:port] (RFC 9110 7.2)");
    if (head->authority.size == 0)
        head->authority = facts->host;
    return HTTP1_DONE;
}

static enum http1_result judge_framing(const struct http1_facts *facts, struct http1_head *head,
                                       const struct http1_limits *limits,
                                       struct http1_refusal *reterr)
{
    head->body_kind = HTTP1_BODY_NONE;
    head->body_size = 0;
    if (!facts->coded && facts->length_count == 0)
        return HTTP1_DONE;
    if (facts->coded && facts->length_count > 0)
        return http1_refuse(reterr, 400, "Content-Length with Transfer-Encoding (RFC 9112 6.1)");
    if (facts->coded && head->minor == 0)
        return http1_refuse(reterr, 400, "Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)");
    if (facts->coded && !facts->chunked)
        return http1_refuse(reterr, 400, "chunked is not the last transfer coding (RFC 9112 6.3)");
    if (head->method == HTTP1_TRACE || head->method == HTTP1_CONNECT)
        return http1_refuse(reterr, 400, "this method has no content (RFC 9110 9.3.6, 9.3.8)");
    if (facts->strange)
        return http1_refuse(reterr, 501, "transfer coding not implemented (RFC 9112 6.1)");

    if (facts->coded) {
        head->body_kind = HTTP1_BODY_CHUNKED;
        return HTTP1_DONE;
    }
    ensure(facts->length_count == 1);
    head->body_kind = HTTP1_BODY_LENGTH;
    head->body_size = facts->length;
    if (facts->length > limits->body_size)
        return http1_refuse(reterr, 413, "body over the limit (RFC 9110 15.5.14)");
    return HTTP1_DONE;
}

enum http1_result http1_facts_judge(const struct http1_facts *facts, struct http1_head *head,
                                    const struct http1_limits *limits, struct http1_refusal *reterr)
{
    ensure(head->minor <= 1);
    if (facts->refusal.status != 0)
        return http1_refuse(reterr, facts->refusal.status, facts->refusal.reason);
    enum http1_result result = judge_host(facts, head, reterr);
    if (result == HTTP1_DONE)
        result = judge_framing(facts, head, limits, reterr);
    if (result != HTTP1_DONE)
        return result;
    if (facts->expect_other)
        return http1_refuse(reterr, 417, "expectation other than 100-continue (RFC 9110 10.1.1)");

    bool body = head->body_kind == HTTP1_BODY_CHUNKED || head->body_size > 0;
    /* HTTP/1.0 knows neither 100-continue (RFC 9110 10.1.1) nor Upgrade (RFC 9110 7.8). */
    head->expect_continue = facts->expect_continue && head->minor == 1 && body;
    head->upgrade = facts->upgrade && facts->protocol.size > 0 && head->minor == 1;
    head->upgrade_protocol = head->upgrade ? facts->protocol : bytes_of(NULL, 0);
    head->keep_alive = !facts->close && (head->minor == 1 || facts->keep_alive);
    return HTTP1_DONE;
}

/* ---- fields by name -------------------------------------------------------------------------- */

const struct http1_header *http1_find(const struct http1_head *head, struct bytes name)
{
    ensure(head->header_count <= HTTP1_HEADER_COUNT_MOST);
    for (uint32_t i = 0; i < head->header_count; i++)
        if (bytes_equal_nocase(head->headers[i].name, name))
            return &head->headers[i];
    return NULL;
}

bool http1_hop_by_hop(struct bytes name)
{
    switch (name.size) {
    case 2:
        return http1_name_is(name, BYTES("te"));
    case 7:
        return http1_name_is(name, BYTES("trailer")) || http1_name_is(name, BYTES("upgrade"));
    case 10:
        return http1_name_is(name, BYTES("connection")) || http1_name_is(name, BYTES("keep-alive"));
    case 16:
        return http1_name_is(name, BYTES("proxy-connection"));
    case 17:
        return http1_name_is(name, BYTES("transfer-encoding"));
    case 18:
        return http1_name_is(name, BYTES("proxy-authenticate"));
    case 19:
        return http1_name_is(name, BYTES("proxy-authorization"));
    default:
        return false;
    }
}

bool http1_connection_names(const struct http1_head *head, struct bytes name)
{
    ensure(head->header_count <= HTTP1_HEADER_COUNT_MOST);
    for (uint32_t i = 0; i < head->header_count; i++) {
        struct bytes value = head->headers[i].value, option;
        if (!http1_name_is(head->headers[i].name, BYTES("connection")))
            continue;
        while (http1_list_next(&value, &option))
            if (bytes_equal_nocase(option, name))
                return true;
    }
    return false;
}

bool http1_trailer_forbidden(struct bytes name)
{
    static const char *const forbidden[] = {
        /* routing, request modifiers and conditions */
        "host",
        "max-forwards",
        "expect",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "cache-control",
        "pragma",
        "forwarded",
        "via",
        /* authentication */
        "authorization",
        "cookie",
        "set-cookie",
        "www-authenticate",
        /* response control */
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
    };

    if (http1_hop_by_hop(name))
        return true;
    /* content-length, -encoding, -type, -range: framing, and how content is to be read */
    if (name.size > 8 && http1_name_is(bytes_head(name, 8), BYTES("content-")))
        return true;
    if (name.size > 6 && http1_name_is(bytes_head(name, 6), BYTES("proxy-")))
        return true;
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
        if (bytes_equal_nocase(name, bytes_of_string(forbidden[i])))
            return true;
    return false;
}
