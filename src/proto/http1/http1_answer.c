/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_answer: the client side: one answer head, for the command line, the tests and the bench.
 *
 * It reads lines with the same functions as the server side, so a round trip through http1_write.c
 * tests both.  No peer of ours is hostile here, but a broken answer is still refused and never
 * guessed at; the status of the refusal is then always 502.
 */
#include "ensure.h"
#include "http1_scan.h"

static const struct http1_refusal line_too_long = {502, "line or head of an answer over the limit"};

/* Passes a refusal on as 502. */
static enum http1_result as_bad_answer(enum http1_result result, struct http1_refusal *reterr)
{
    if (result == HTTP1_REFUSED && reterr)
        reterr->status = 502;
    return result;
}

/* HTTP-version SP 3DIGIT SP [ reason-phrase ], RFC 9112 4 */
static enum http1_result parse_status_line(struct http1_answer_head *head, const uint8_t *line,
                                           size_t size, struct http1_refusal *reterr)
{
    ensure(line[size] == '\r');
    if (size < sizeof("HTTP/1.1 200 ") - 1 || line[8] != ' ' || line[12] != ' ')
        return http1_refuse(reterr, 502, "malformed status line (RFC 9112 4)");
    enum http1_result result = http1_version_parse(bytes_of(line, 8), &head->minor, reterr);
    if (result != HTTP1_DONE)
        return result;
    for (size_t i = 9; i < 12; i++)
        if (!http1_is(line[i], HTTP1_DIGIT))
            return http1_refuse(reterr, 502, "status is not three digits (RFC 9112 4)");
    head->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    if (head->status < 100 || head->status > 599)
        return http1_refuse(reterr, 502, "status out of range (RFC 9110 15)");
    return HTTP1_DONE;
}

/* RFC 9112 6.3 for answers. */
static enum http1_result judge(const struct http1_facts *facts, struct http1_answer_head *head,
                               bool head_request, struct http1_refusal *reterr)
{
    if (facts->refusal.status != 0)
        return http1_refuse(reterr, 502, facts->refusal.reason);
    if (facts->coded && facts->length_count > 0)
        return http1_refuse(reterr, 502, "Content-Length with Transfer-Encoding (RFC 9112 6.1)");
    if (facts->coded && facts->strange)
        return http1_refuse(reterr, 502, "transfer coding not implemented (RFC 9112 6.1)");

    head->body_size = 0;
    if (head_request || head->status < 200 || head->status == 204 || head->status == 304) {
        head->framing = HTTP1_FRAMING_NONE;
    } else if (facts->chunked) {
        head->framing = HTTP1_FRAMING_CHUNKED;
    } else if (facts->length_count > 0) {
        head->framing = HTTP1_FRAMING_LENGTH;
        head->body_size = facts->length;
    } else {
        head->framing = HTTP1_FRAMING_CLOSE;
    }
    head->keep_alive = !facts->close && (head->minor == 1 || facts->keep_alive) &&
                       head->framing != HTTP1_FRAMING_CLOSE;
    return HTTP1_DONE;
}

/* One field line at `line`; *ret_size is what it takes with its CRLF. */
static enum http1_result read_field(struct http1_answer_head *head, const uint8_t *line,
                                    const uint8_t *end, size_t room, uint32_t most,
                                    size_t *ret_size, struct http1_refusal *reterr)
{
    size_t size = 0;

    enum http1_result result = http1_field_check_start(*line, reterr);
    if (result != HTTP1_DONE)
        return result;
    if (head->header_count >= most)
        return http1_refuse(reterr, 502, "more fields than the limit");
    ensure(head->header_count < HTTP1_HEADER_COUNT_MOST);
    result = http1_line_find(line, end, &size, room, &line_too_long, reterr);
    if (result == HTTP1_DONE)
        result = http1_field_parse(line, size, &head->headers[head->header_count], reterr);
    if (result != HTTP1_DONE)
        return result;
    head->header_count++;
    *ret_size = size + 2;
    return HTTP1_DONE;
}

enum http1_result http1_answer_parse(struct http1_answer_head *head, struct bytes input,
                                     bool head_request, const struct http1_limits *limits,
                                     size_t *ret_size, struct http1_refusal *reterr)
{
    struct http1_facts facts = {0};
    const uint8_t *end = input.at + input.size;
    size_t at = 0, size = 0;
    uint32_t most = limits->header_count < HTTP1_HEADER_COUNT_MOST ? limits->header_count
                                                                   : HTTP1_HEADER_COUNT_MOST;

    head->header_count = 0;
    if (input.size == 0)
        return HTTP1_MORE;
    enum http1_result result = http1_line_find(
        input.at, end, &size, http1_line_room(limits->line_size, limits->head_size, 0),
        &line_too_long, reterr);
    if (result == HTTP1_DONE)
        result = parse_status_line(head, input.at, size, reterr);
    if (result != HTTP1_DONE)
        return as_bad_answer(result, reterr);

    for (at = size + 2; at < input.size && input.at[at] != '\r'; at += size) {
        size_t room = http1_line_room(limits->line_size, limits->head_size, at);
        result = read_field(head, input.at + at, end, room, most, &size, reterr);
        if (result != HTTP1_DONE)
            return as_bad_answer(result, reterr);
        http1_facts_note(&facts, &head->headers[head->header_count - 1]);
    }
    if (input.size < at + 2)
        return HTTP1_MORE;
    ensure(input.at[at] == '\r');
    if (input.at[at + 1] != '\n')
        return http1_refuse(reterr, 502, "CR without LF (RFC 9112 2.2)");
    *ret_size = at + 2;
    return judge(&facts, head, head_request, reterr);
}
