/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_head: one request head, from its first byte to the empty line.
 *
 *      input   \r\n \r\n GET /path HTTP/1.1\r\n Host: a\r\n Accept: *\r\n \r\n body...
 *              `-skip--' `-request line-------' `-field--' `-field----' `end'
 *
 * The common head comes in one piece and is read in one run.  When the input ends inside it,
 * *scanned keeps where the run stopped (bytes known to be clean, where the line began, how many
 * fields are behind it), and the next call goes on there: each byte is looked at once, and what is
 * wrong is refused with the bytes that show it.  A head that came in pieces is read once more from
 * its start when its end is there, because the bytes may have moved and the slices must point to
 * where they are now.
 *
 * What is refused line by line is syntax and limits; the meaning of fields is noted on the way and
 * judged at the end (http1_field.c).  Both orders are fixed, so that the outcome depends on the
 * bytes alone.
 */
#include "ensure.h"
#include "http1_scan.h"

enum {
    EMPTY_LINES_MOST = 4,      /* before the request line, RFC 9112 2.2 */
    METHOD_SIZE_MOST = 64,     /* longer ones are not known to anybody: 501, RFC 9112 3 */
    VERSION_SIZE = 8,          /* HTTP/1.1 */
    HEAD_SIZE_MOST = 0xFFFFFF, /* of a head, so that *scanned can tell of it */
};

static const struct http1_refusal line_too_long = {
    414, "request line over the limit (RFC 9110 15.5.15)"};
static const struct http1_refusal field_too_long = {
    431, "field line or head over the limit (RFC 6585 5)"};

/* One run over the lines of a head. */
struct run {
    const uint8_t *start; /* first byte of the request line */
    const uint8_t *end;   /* of the input */
    size_t line;          /* where the current line begins, from start; 0: the request line */
    size_t clean;         /* bytes of the current line that were scanned already */
    uint32_t count;       /* fields behind us */
    size_t head_size;
    const struct http1_limits *limits;
    struct http1_refusal *reterr;
};

_Static_assert(sizeof(size_t) == 8, "*scanned holds three numbers of 24, 24 and 16 bits");
_Static_assert(HTTP1_HEADER_COUNT_MOST <= 0xFFFF, "the count of fields has 16 bits");

static size_t run_pack(const struct run *run)
{
    ensure(run->line <= HEAD_SIZE_MOST && run->clean <= HEAD_SIZE_MOST && run->count <= 0xFFFF);
    return run->clean | run->line << 24 | (size_t)run->count << 48;
}

static void run_unpack(struct run *run, size_t scanned)
{
    run->clean = scanned & HEAD_SIZE_MOST;
    run->line = scanned >> 24 & HEAD_SIZE_MOST;
    run->count = (uint32_t)(scanned >> 48);
    ensure(run->line + run->clean <= (size_t)(run->end - run->start));
}

/* ---- request line ---------------------------------------------------------------------------- */

/* The method, as far as it is here: garbage and other protocols are told by their first bytes. */
static enum http1_result check_method(const struct run *run, size_t room)
{
    const uint8_t *at = run->start;
    size_t have = http1_line_window((size_t)(run->end - at), room);
    size_t size = 0;
    ensure(have > 0);

    while (size < have && size <= METHOD_SIZE_MOST && http1_is(at[size], HTTP1_TOKEN))
        size++;
    if (size > METHOD_SIZE_MOST)
        return http1_refuse(run->reterr, 501, "method longer than any (RFC 9112 3)");
    if (size == have || (size > 0 && at[size] == ' '))
        return HTTP1_DONE;
    if (size == 0 && at[0] == 0x16)
        return http1_refuse(run->reterr, 400, "a TLS hello where HTTP is spoken (RFC 9112 3)");
    return http1_refuse(run->reterr, 400, "method is not a token and a space (RFC 9112 3.1)");
}

static enum http1_method method_of(struct bytes name)
{
    switch (name.size) {
    case 3:
        return bytes_equal(name, BYTES("GET"))   ? HTTP1_GET
               : bytes_equal(name, BYTES("PUT")) ? HTTP1_PUT
                                                 : HTTP1_OTHER;
    case 4:
        return bytes_equal(name, BYTES("POST"))   ? HTTP1_POST
               : bytes_equal(name, BYTES("HEAD")) ? HTTP1_HEAD
                                                  : HTTP1_OTHER;
    case 5:
        return bytes_equal(name, BYTES("PATCH"))   ? HTTP1_PATCH
               : bytes_equal(name, BYTES("TRACE")) ? HTTP1_TRACE
                                                   : HTTP1_OTHER;
    case 6:
        return bytes_equal(name, BYTES("DELETE")) ? HTTP1_DELETE : HTTP1_OTHER;
    case 7:
        return bytes_equal(name, BYTES("OPTIONS"))   ? HTTP1_OPTIONS
               : bytes_equal(name, BYTES("CONNECT")) ? HTTP1_CONNECT
                                                     : HTTP1_OTHER;
    default:
        return HTTP1_OTHER;
    }
}

enum http1_result http1_version_parse(struct bytes version, uint8_t *ret_minor,
                                      struct http1_refusal *reterr)
{
    const uint8_t *at = version.at;

    if (version.size != VERSION_SIZE || memcmp(at, "HTTP/", 5) != 0 ||
        !http1_is(at[5], HTTP1_DIGIT) || at[6] != '.' || !http1_is(at[7], HTTP1_DIGIT))
        return http1_refuse(reterr, 400, "malformed HTTP version (RFC 9112 2.3)");
    if (at[5] != '1')
        return http1_refuse(reterr, 505, "HTTP version not supported (RFC 9110 15.6.6)");
    *ret_minor = at[7] != '0'; /* a later 1.x is taken for the highest we know, RFC 9110 2.5 */
    return HTTP1_DONE;
}

/* Does the line end in a version that is well formed but not ours? */
static bool is_other_version(const uint8_t *line, size_t size)
{
    struct http1_refusal refusal = {0};
    uint8_t minor = 0;

    if (size <= VERSION_SIZE || line[size - VERSION_SIZE - 1] != ' ')
        return false;
    http1_version_parse(bytes_of(line + size - VERSION_SIZE, VERSION_SIZE), &minor, &refusal);
    return refusal.status == 505;
}

/* The whole request line, `size` bytes before its CR. */
static enum http1_result parse_request_line(const struct run *run, struct http1_head *head,
                                            size_t size)
{
    const uint8_t *at = run->start, *end = at + size;
    ensure(*end == '\r');

    while (http1_is(*at, HTTP1_TOKEN))
        at++;
    head->method_name = bytes_of(run->start, (size_t)(at - run->start));
    if (head->method_name.size == 0 || *at != ' ')
        return http1_refuse(run->reterr, 400, "method is not a token and a space (RFC 9112 3.1)");
    head->method = method_of(head->method_name);
    head->safe = head->method == HTTP1_GET || head->method == HTTP1_HEAD ||
                 head->method == HTTP1_OPTIONS || head->method == HTTP1_TRACE;

    enum http1_result result = http1_target_parse(head, at + 1, run->reterr);
    if (result != HTTP1_DONE && is_other_version(run->start, size))
        /* Its targets are not ours to judge: "PRI * HTTP/2.0" begins an HTTP/2 connection. */
        return http1_refuse(run->reterr, 505, "HTTP version not supported (RFC 9110 15.6.6)");
    if (result != HTTP1_DONE)
        return result;
    at = head->target.at + head->target.size;
    ensure(head->target.size > 0 && at < end && *at == ' ');
    at++;
    return http1_version_parse(bytes_of(at, (size_t)(end - at)), &head->minor, run->reterr);
}

static enum http1_result read_request_line(struct run *run, struct http1_head *head)
{
    size_t room = http1_line_room(run->limits->line_size, run->head_size, 0);

    enum http1_result result = check_method(run, room);
    if (result == HTTP1_DONE)
        result =
            http1_line_find(run->start, run->end, &run->clean, room, &line_too_long, run->reterr);
    if (result == HTTP1_DONE)
        result = parse_request_line(run, head, run->clean);
    if (result != HTTP1_DONE)
        return result;
    run->line = run->clean + 2;
    run->clean = 0;
    return HTTP1_DONE;
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* One field line; its first byte is here and is no CR. */
static enum http1_result read_field(struct run *run, struct http1_head *head)
{
    const uint8_t *line = run->start + run->line;
    uint32_t most = run->limits->header_count < HTTP1_HEADER_COUNT_MOST ? run->limits->header_count
                                                                        : HTTP1_HEADER_COUNT_MOST;

    enum http1_result result = http1_field_check_start(*line, run->reterr);
    if (result != HTTP1_DONE)
        return result;
    if (run->count >= most)
        return http1_refuse(run->reterr, 431, "more fields than the limit (RFC 6585 5)");
    ensure(run->line > 0 && run->count < HTTP1_HEADER_COUNT_MOST);
    size_t room = http1_line_room(run->limits->line_size, run->head_size, run->line);
    result = http1_line_find(line, run->end, &run->clean, room, &field_too_long, run->reterr);
    if (result == HTTP1_DONE)
        result = http1_field_parse(line, run->clean, &head->headers[run->count], run->reterr);
    if (result != HTTP1_DONE)
        return result;
    run->count++;
    run->line += run->clean + 2;
    run->clean = 0;
    return HTTP1_DONE;
}

/* All lines from where the run stands to behind the empty one. */
static enum http1_result read_lines(struct run *run, struct http1_head *head,
                                    struct http1_facts *facts)
{
    if (run->line == 0) {
        enum http1_result result = read_request_line(run, head);
        if (result != HTTP1_DONE)
            return result;
    }
    for (;;) {
        const uint8_t *line = run->start + run->line;
        ensure(line <= run->end);
        if (line == run->end)
            return HTTP1_MORE;
        if (*line == '\r')
            break;
        enum http1_result result = read_field(run, head);
        if (result != HTTP1_DONE)
            return result;
        http1_facts_note(facts, &head->headers[run->count - 1]);
    }
    if (run->end - run->start < (ptrdiff_t)run->line + 2)
        return HTTP1_MORE;
    if (run->start[run->line + 1] != '\n')
        return http1_refuse(run->reterr, 400, "CR without LF (RFC 9112 2.2)");
    run->line += 2;
    return HTTP1_DONE;
}

/* Steps over empty lines in front of the request line. */
static enum http1_result skip_empty_lines(struct bytes input, size_t *ret_skip,
                                          struct http1_refusal *reterr)
{
    size_t at = 0;

    while (at < input.size && input.at[at] == '\r') {
        if (at == 2 * EMPTY_LINES_MOST)
            return http1_refuse(reterr, 400,
                                "too many empty lines before a request (RFC 9112 2.2)");
        if (at + 1 == input.size)
            return HTTP1_MORE;
        if (input.at[at + 1] != '\n')
            return http1_refuse(reterr, 400, "CR without LF (RFC 9112 2.2)");
        at += 2;
    }
    *ret_skip = at;
    return at < input.size ? HTTP1_DONE : HTTP1_MORE;
}

enum http1_result http1_head_parse(struct http1_head *head, struct bytes input, size_t *scanned,
                                   const struct http1_limits *limits, size_t *ret_size,
                                   struct http1_refusal *reterr)
{
    struct http1_facts facts = {0};
    struct run run = {.limits = limits, .reterr = reterr};
    size_t skip = 0;

    enum http1_result result = skip_empty_lines(input, &skip, reterr);
    if (result != HTTP1_DONE)
        return result;
    run.start = input.at + skip;
    run.end = input.at + input.size;
    run.head_size = limits->head_size < HEAD_SIZE_MOST ? limits->head_size : HEAD_SIZE_MOST;

    run_unpack(&run, *scanned);
    result = read_lines(&run, head, &facts);
    if (result == HTTP1_DONE && *scanned != 0) {
        facts = (struct http1_facts){0};
        run.line = 0;
        run.count = 0;
        result = read_lines(&run, head, &facts);
        ensure(result == HTTP1_DONE);
    }
    if (result == HTTP1_MORE)
        *scanned = run_pack(&run);
    if (result != HTTP1_DONE)
        return result;

    head->header_count = run.count;
    *scanned = 0;
    *ret_size = skip + run.line;
    ensure(*ret_size <= input.size);
    return http1_facts_judge(&facts, head, limits, reterr);
}
