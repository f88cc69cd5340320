/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads that are accepted: what was understood; limits to the byte; how early a refusal comes.
 * Heads that are refused stand in tests/conform/http1_cases.txt.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http1_talk.h"

static enum http1_result parse(struct http1_head *head, struct bytes input,
                               const struct http1_limits *limits, size_t *ret_size,
                               struct http1_refusal *reterr)
{
    size_t scanned = 0;
    return http1_head_parse(head, input, &scanned, limits, ret_size, reterr);
}

static void parse_ok(struct http1_head *head, const char *input)
{
    struct http1_limits limits = http1_talk_limits();
    struct http1_refusal refusal = {0};
    size_t size = 0;

    cr_assert_eq(parse(head, bytes_of_string(input), &limits, &size, &refusal), HTTP1_DONE,
                 "%s: %s", input, refusal.reason);
    cr_assert_eq(size, strlen(input));
}

static void check_text(const char *input, const char *what, struct bytes bytes,
                       const char *expected)
{
    cr_expect(bytes_equal(bytes, bytes_of_string(expected)), "%s: %s is '%.*s', not '%s'", input,
              what, BYTES_PRINT(bytes), expected);
    if (bytes.size > 0)
        cr_expect(bytes.at >= (const uint8_t *)input &&
                      bytes.at + bytes.size <= (const uint8_t *)input + strlen(input),
                  "%s: %s lies outside the input", input, what);
}

Test(http1_head, target_is_taken_apart_in_all_its_forms)
{
    static const struct {
        const char *input, *target, *path, *query, *authority;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "/", "", "a"},
        {"GET /a/b?c=d&e HTTP/1.1\r\nHost: a:80\r\n\r\n", "/a/b?c=d&e", "/a/b", "c=d&e", "a:80"},
        {"GET /a? HTTP/1.1\r\nHost: \ta \r\n\r\n", "/a?", "/a", "", "a"},
        {"GET /a?b?c HTTP/1.1\r\nHost:\r\n\r\n", "/a?b?c", "/a", "b?c", ""},
        {"GET /%41%2fb HTTP/1.0\r\n\r\n", "/%41%2fb", "/%41%2fb", "", ""},
        {"GET http://b:1/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "http://b:1/c?d", "/c", "d", "b:1"},
        {"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", "HTTPS://b", "/", "", "b"},
        {"GET http://b?d HTTP/1.1\r\nHost: a\r\n\r\n", "http://b?d", "/", "d", "b"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "*", "", "a"},
        {"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n", "[::1]:443", "", "", "[::1]:443"},
    };
    struct http1_head head;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        parse_ok(&head, rows[i].input);
        check_text(rows[i].input, "target", head.target, rows[i].target);
        check_text(rows[i].input, "path", head.path, rows[i].path);
        check_text(rows[i].input, "query", head.query, rows[i].query);
        check_text(rows[i].input, "authority", head.authority, rows[i].authority);
    }
}

Test(http1_head, methods_are_known_by_their_exact_names)
{
    static const struct {
        const char *name;
        enum http1_method method;
        bool safe;
    } rows[] = {
        {"GET", HTTP1_GET, true},         {"HEAD", HTTP1_HEAD, true},
        {"POST", HTTP1_POST, false},      {"PUT", HTTP1_PUT, false},
        {"DELETE", HTTP1_DELETE, false},  {"OPTIONS", HTTP1_OPTIONS, true},
        {"TRACE", HTTP1_TRACE, true},     {"PATCH", HTTP1_PATCH, false},
        {"get", HTTP1_OTHER, false},      {"GETT", HTTP1_OTHER, false},
        {"PURGE", HTTP1_OTHER, false},    {"QUERY", HTTP1_OTHER, false},
        {"PROPFIND", HTTP1_OTHER, false}, {"POSTED", HTTP1_OTHER, false},
        {"X", HTTP1_OTHER, false},        {"OPTION2", HTTP1_OTHER, false},
        {"HEAL", HTTP1_OTHER, false},     {"PUP", HTTP1_OTHER, false},
    };
    struct http1_head head;
    char input[100];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(input, sizeof(input), "%s / HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].name);
        parse_ok(&head, input);
        cr_expect_eq(head.method, rows[i].method, "%s", rows[i].name);
        cr_expect_eq(head.safe, rows[i].safe, "%s", rows[i].name);
        check_text(input, "method", head.method_name, rows[i].name);
    }
}

Test(http1_head, fields_come_trimmed_in_order_with_their_names_as_sent)
{
    const char *input = "GET / HTTP/1.1\r\nhOsT: a\r\nX:\r\nY: \t b\tc \t\r\nX:d:e\r\n\r\n";
    struct http1_head head;

    parse_ok(&head, input);
    cr_assert_eq(head.header_count, 4);
    check_text(input, "name 0", head.headers[0].name, "hOsT");
    check_text(input, "value 0", head.headers[0].value, "a");
    check_text(input, "name 1", head.headers[1].name, "X");
    check_text(input, "value 1", head.headers[1].value, "");
    check_text(input, "value 2", head.headers[2].value, "b\tc");
    check_text(input, "value 3", head.headers[3].value, "d:e");
    cr_expect_eq(http1_find(&head, BYTES("x")), &head.headers[1], "the first of two");
    cr_expect_eq(http1_find(&head, BYTES("HOST")), &head.headers[0]);
    cr_expect_null(http1_find(&head, BYTES("z")));
    parse_ok(&head, "GET / HTTP/1.0\r\n\r\n");
    cr_expect_null(http1_find(&head, BYTES("host")), "nothing of the head before it");
}

Test(http1_head, connection_framing_and_expectations_follow_the_fields)
{
    static const struct {
        const char *input;
        bool keep_alive, expect, upgrade;
        enum http1_body_kind kind;
        uint64_t size;
        const char *protocol;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false, false, HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.0\r\n\r\n", false, false, false, HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false, false, HTTP1_BODY_NONE, 0,
         ""},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x,, CLOSE\r\n\r\n", false, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false,
         false, false, HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.7\r\nHost: a\r\n\r\n", true, false, false, HTTP1_BODY_NONE, 0, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n", true, false, false,
         HTTP1_BODY_LENGTH, 18, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true, false, false,
         HTTP1_BODY_LENGTH, 0, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", true, false, false,
         HTTP1_BODY_CHUNKED, 0, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n", true,
         true, false, HTTP1_BODY_LENGTH, 1, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
         true, true, false, HTTP1_BODY_CHUNKED, 0, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n", true,
         false, false, HTTP1_BODY_LENGTH, 0, ""},
        {"PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", false, false, false,
         HTTP1_BODY_LENGTH, 1, ""},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket, "
         "x/2\r\n\r\n",
         true, false, true, HTTP1_BODY_NONE, 0, "websocket"},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", true, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", true, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false, false,
         HTTP1_BODY_NONE, 0, ""},
        {"PUT / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x/2\r\nContent-Length: "
         "3\r\n\r\n",
         true, false, true, HTTP1_BODY_LENGTH, 3, "x/2"},
    };
    struct http1_head head;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        parse_ok(&head, rows[i].input);
        cr_expect_eq(head.keep_alive, rows[i].keep_alive, "%s", rows[i].input);
        cr_expect_eq(head.expect_continue, rows[i].expect, "%s", rows[i].input);
        cr_expect_eq(head.upgrade, rows[i].upgrade, "%s", rows[i].input);
        cr_expect_eq(head.body_kind, rows[i].kind, "%s", rows[i].input);
        cr_expect_eq(head.body_size, rows[i].size, "%s", rows[i].input);
        check_text(rows[i].input, "protocol", head.upgrade_protocol, rows[i].protocol);
    }
}

Test(http1_head, limits_hold_to_the_byte)
{
    static const char input[] =
        "POST /target HTTP/1.1\r\nHost: abc\r\nA-longer-field: value value\r\nB: c\r\n\r\n";
    enum { SIZE = sizeof(input) - 1, REQUEST_LINE = 21, FIELD_LINE = 27, FIELDS = 3 };
    struct http1_head head;
    struct http1_refusal refusal;
    size_t size;

    for (size_t line = 1; line <= FIELD_LINE + 1; line++) {
        struct http1_limits limits = {.line_size = line, .head_size = SIZE, .header_count = FIELDS};
        enum http1_result result = parse(&head, bytes_of(input, SIZE), &limits, &size, &refusal);
        cr_expect_eq(result, line >= FIELD_LINE ? HTTP1_DONE : HTTP1_REFUSED, "line_size %zu",
                     line);
        if (result == HTTP1_REFUSED)
            cr_expect_eq(refusal.status, line < REQUEST_LINE ? 414 : 431, "line_size %zu", line);
    }
    for (size_t most = 1; most <= SIZE + 1; most++) {
        struct http1_limits limits = {.line_size = SIZE, .head_size = most, .header_count = FIELDS};
        enum http1_result result = parse(&head, bytes_of(input, SIZE), &limits, &size, &refusal);
        cr_expect_eq(result, most >= SIZE ? HTTP1_DONE : HTTP1_REFUSED, "head_size %zu", most);
        if (result == HTTP1_REFUSED)
            cr_expect_eq(refusal.status, most < REQUEST_LINE + 4 ? 414 : 431, "head_size %zu",
                         most);
    }
    for (uint32_t count = 0; count <= FIELDS + 1; count++) {
        struct http1_limits limits = {.line_size = SIZE, .head_size = SIZE, .header_count = count};
        enum http1_result result = parse(&head, bytes_of(input, SIZE), &limits, &size, &refusal);
        cr_expect_eq(result, count >= FIELDS ? HTTP1_DONE : HTTP1_REFUSED, "header_count %u",
                     count);
        if (result == HTTP1_REFUSED)
            cr_expect_eq(refusal.status, 431);
    }
}

Test(http1_head, limits_beyond_the_room_of_a_head_are_capped)
{
    struct http1_limits limits = {
        .line_size = SIZE_MAX, .head_size = SIZE_MAX, .header_count = UINT32_MAX};
    struct http1_refusal refusal = {0};
    struct http1_head head;
    struct text text;
    size_t size;

    text_init(&text, 1 << 20);
    text_add_string(&text, "GET / HTTP/1.0\r\n");
    for (int i = 0; i < HTTP1_HEADER_COUNT_MOST; i++)
        text_add_string(&text, "A: b\r\n");
    text_add_string(&text, "\r\n");
    cr_expect_eq(parse(&head, text_bytes(&text), &limits, &size, &refusal), HTTP1_DONE);
    cr_expect_eq(head.header_count, HTTP1_HEADER_COUNT_MOST);

    text.size -= 2;
    text_add_string(&text, "A: b\r\n\r\n");
    cr_expect_eq(parse(&head, text_bytes(&text), &limits, &size, &refusal), HTTP1_REFUSED);
    cr_expect_eq(refusal.status, 431);
    text_done(&text);
}

/* The length of the shortest prefix that is refused. */
static size_t refused_after(const char *input, const struct http1_limits *limits, int *ret_status)
{
    struct http1_head head;
    struct http1_refusal refusal = {0};
    size_t scanned = 0, ignored = 0;

    for (size_t size = 0; size <= strlen(input); size++) {
        enum http1_result result =
            http1_head_parse(&head, bytes_of(input, size), &scanned, limits, &ignored, &refusal);
        *ret_status = refusal.status;
        if (result == HTTP1_REFUSED)
            return size;
        cr_assert_eq(result, HTTP1_MORE, "%s", input);
    }
    return 0;
}

Test(http1_head, refusals_come_with_the_first_byte_that_shows_them)
{
    static const struct {
        const char *input;
        size_t after;
        int status;
    } rows[] = {
        {"\x16\x03\x01\x02", 1, 400},
        {"\nGET", 1, 400},
        {" GET", 1, 400},
        {"GE\x01 /", 3, 400},
        {"G(T / HTTP", 2, 400},
        {"\r\n\r\n\r\n\r\n\r\n", 9, 400},
        {"\rG", 2, 400},
        {"GET /a\nb", 7, 400},
        {"GET /a\rb", 8, 400},
        {"GET / HTTP/2.0\r\nHost", 16, 505},
        {"GET a HTTP/1.1\r\nHost", 16, 400},
        {"GET / HTTP/1.1\r\n Host", 17, 400},
        {"GET / HTTP/1.1\r\n:Host", 17, 400},
        {"GET / HTTP/1.1\r\nHost: a\x01", 24, 400},
        {"GET / HTTP/1.1\r\nHost: a\nB", 24, 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nB : c\r\nD: e", 32, 400},
        {"GET / HTTP/1.1\r\nA:b\r\nA:b\r\nA:b\r\nA", 32, 431},
        {"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 41, 414},
        {"GET / HTTP/1.1\r\nA: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 16 + 41, 431},
        {"GET / HTTP/1.1\r\nA:aaaaaaaaaaaaaaaaa\r\nA:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         16 + 21 + 39 - 16 + 1, 431},
        {"MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM", 0, 0},
    };
    struct http1_limits limits = {.line_size = 40, .head_size = 64, .header_count = 3};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int status = 0;
        cr_expect_eq(refused_after(rows[i].input, &limits, &status), rows[i].after,
                     "row %zu: after %zu", i, refused_after(rows[i].input, &limits, &status));
        cr_expect_eq(status, rows[i].status, "row %zu: %d", i, status);
    }
}

Test(http1_head, the_reason_says_what_was_wrong)
{
#define BEFORE "GET / HTTP/1.1\r\nHost: a\r\n"
    static const struct {
        const char *input, *word;
    } rows[] = {
        {"\x16\x03\x01", "TLS"},
        {"\x03", "method"},
        {"G(T", "method"},
        {"\n", "method"},
        {"GET /#a HTTP/1.1\r\n", "fragment"},
        {"GET /%4 HTTP/1.1\r\n", "NUL escape"},
        {"GET /\"a HTTP/1.1\r\n", "must be escaped"},
        {"GET /\r\n", "without a version"},
        {"OPTIONS *\r\n", "without a version"},
        {"CONNECT a:1\r\n", "without a version"},
        {"CONNECT a:1/b HTTP/1.1\r\n", "host:port"},
        {"GET  / HTTP/1.1\r\n", "one space"},
        {"GET * HTTP/1.1\r\n", "OPTIONS alone"},
        {"GET a HTTP/1.1\r\n", "known form"},
        {"GET http://a@b/ HTTP/1.1\r\n", "authority"},
        {"GET / HTTP/1.1\n", "LF without CR"},
        {"GET / HTTP/1.1\rX", "CR without LF"},
        {"GET / HTTP/1.1\r\nA: \x01", "control"},
        {BEFORE " A: b\r\n", "folded"},
        {BEFORE "\tA: b\r\n", "folded"},
        {BEFORE ": b\r\n", "without a name"},
        {BEFORE "\n", "LF without CR"},
        {BEFORE "(: b\r\n", "not a token"},
        {BEFORE "A : b\r\n", "space between"},
        {BEFORE "A\t: b\r\n", "space between"},
        {BEFORE "A\r\n", "without a colon"},
        {BEFORE "A(: b\r\n", "not a token"},
    };
#undef BEFORE
    struct http1_limits limits = http1_talk_limits();
    struct http1_head head;
    size_t size = 0;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bytes input = bytes_of_string(rows[i].input);
        struct http1_refusal refusal = {.reason = ""};
        cr_expect_eq(parse(&head, input, &limits, &size, &refusal), HTTP1_REFUSED, "%s",
                     rows[i].input);
        cr_expect_not_null(strstr(refusal.reason, rows[i].word), "%s: %s", rows[i].input,
                           refusal.reason);
        cr_expect_eq(parse(&head, input, &limits, &size, NULL), HTTP1_REFUSED, "no reason wanted");
    }
}

Test(http1_head, bytes_that_were_scanned_are_not_looked_at_again)
{
    char input[] =
        "GET /........................................................................ HTTP/1.1\r\n"
        "Host: a\r\nX: ........................................................ y\r\n\r\n";
    struct http1_limits limits = http1_talk_limits();
    struct http1_refusal refusal = {0};
    struct http1_head head;
    size_t scanned = 0, size = 0, whole = strlen(input);
    size_t line = (size_t)(strstr(input, "X: ") - input);

    /* Whatever lies in the part that was scanned: it is not seen before the head is whole. */
    cr_assert_eq(http1_head_parse(&head, bytes_of(input, 76), &scanned, &limits, &size, &refusal),
                 HTTP1_MORE);
    memset(input + 66, 1, 9);
    cr_assert_eq(http1_head_parse(&head, bytes_of(input, 77), &scanned, &limits, &size, &refusal),
                 HTTP1_MORE);
    memset(input + 66, '.', 9);
    cr_assert_eq(
        http1_head_parse(&head, bytes_of(input, whole - 4), &scanned, &limits, &size, &refusal),
        HTTP1_MORE);
    memset(input + 1, 1, whole - 4 - 1);
    input[line] = 'X'; /* the first byte of the current line alone is judged each time */
    cr_assert_eq(
        http1_head_parse(&head, bytes_of(input, whole - 3), &scanned, &limits, &size, &refusal),
        HTTP1_MORE);
}

Test(http1_head, head_that_came_in_pieces_points_to_where_the_bytes_are_now)
{
    static const char input[] = "GET /path HTTP/1.1\r\nHost: abc\r\n\r\n";
    struct http1_limits limits = http1_talk_limits();
    struct http1_refusal refusal = {0};
    struct http1_head head;
    size_t scanned = 0, size = 0;

    for (size_t have = 0; have < sizeof(input) - 1; have++) {
        char *copy = malloc(have + 1);
        memcpy(copy, input, have);
        cr_assert_eq(
            http1_head_parse(&head, bytes_of(copy, have), &scanned, &limits, &size, &refusal),
            HTTP1_MORE);
        free(copy);
    }
    cr_assert_eq(http1_head_parse(&head, bytes_of(input, sizeof(input) - 1), &scanned, &limits,
                                  &size, &refusal),
                 HTTP1_DONE);
    cr_expect_eq(scanned, 0, "ready for the next head");
    check_text(input, "path", head.path, "/path");
    check_text(input, "authority", head.authority, "abc");
    check_text(input, "value", head.headers[0].value, "abc");
}

Test(http1_head, what_follows_a_head_is_left_alone)
{
    const char *input = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\x01\n garbage";
    struct http1_limits limits = http1_talk_limits();
    struct http1_refusal refusal = {0};
    struct http1_head head;
    size_t size = 0;

    cr_assert_eq(parse(&head, bytes_of_string(input), &limits, &size, &refusal), HTTP1_DONE);
    cr_expect_str_eq(input + size, "\x01\n garbage");
}

Test(http1_head, fields_of_one_hop_are_known)
{
    static const char *const hop[] = {
        "Connection", "KEEP-ALIVE", "proxy-connection",   "Transfer-Encoding",  "te",
        "Trailer",    "upgrade",    "Proxy-Authenticate", "proxy-authorization"};
    static const char *const end[] = {"host",          "x",         "",         "content-length",
                                      "authorization", "te2",       "trailers", "upgrades",
                                      "connections",   "keep_alive"};
    struct http1_head head;

    for (size_t i = 0; i < sizeof(hop) / sizeof(hop[0]); i++)
        cr_expect(http1_hop_by_hop(bytes_of_string(hop[i])), "%s", hop[i]);
    for (size_t i = 0; i < sizeof(end) / sizeof(end[0]); i++)
        cr_expect_not(http1_hop_by_hop(bytes_of_string(end[i])), "%s", end[i]);

    parse_ok(&head, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-One\r\nX-One: "
                    "1\r\nConnection: x-two\r\n\r\n");
    cr_expect(http1_connection_names(&head, BYTES("x-one")));
    cr_expect(http1_connection_names(&head, BYTES("X-Two")));
    cr_expect_not(http1_connection_names(&head, BYTES("x-three")));
}
