/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies: data in place, trailers, limits, and where a body ends.
 * Malformed chunks stand in tests/conform/http1_cases.txt.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "http1_talk.h"

#define CHUNKED "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct http1_body chunked(const struct http1_limits *limits)
{
    struct http1_head head = {.body_kind = HTTP1_BODY_CHUNKED};
    struct http1_body body;

    http1_body_init(&body, &head, limits);
    return body;
}

Test(http1_body, data_is_handed_out_where_it_lies)
{
    const char *input = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET";
    struct http1_limits limits = http1_talk_limits();
    struct http1_body body = chunked(&limits);
    struct bytes rest = bytes_of_string(input), data;
    struct http1_header trailer;
    struct http1_refusal refusal;
    size_t consumed;

    cr_assert_eq(http1_body_next(&body, rest, &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_DATA);
    cr_expect(data.at == (const uint8_t *)input + 3 && data.size == 3);
    rest = bytes_skip(rest, consumed);
    cr_assert_eq(http1_body_next(&body, rest, &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_DATA);
    cr_expect(data.at == (const uint8_t *)input + 15 && data.size == 2);
    rest = bytes_skip(rest, consumed);
    cr_assert_eq(http1_body_next(&body, rest, &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_END);
    rest = bytes_skip(rest, consumed);
    cr_expect(bytes_equal(rest, BYTES("GET")), "what follows is left");
    cr_assert_eq(http1_body_next(&body, rest, &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_END);
    cr_expect_eq(consumed, 0, "the end stays the end");
    cr_expect_eq(body.total, 5);
}

Test(http1_body, length_counts_down_to_the_byte)
{
    struct http1_limits limits = http1_talk_limits();
    struct http1_head head = {.body_kind = HTTP1_BODY_LENGTH, .body_size = 5};
    struct http1_body body;
    struct bytes data;
    struct http1_header trailer;
    struct http1_refusal refusal;
    size_t consumed;

    http1_body_init(&body, &head, &limits);
    cr_expect_eq(http1_body_next(&body, BYTES(""), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_MORE);
    cr_expect_eq(http1_body_next(&body, BYTES("ab"), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_DATA);
    cr_expect(consumed == 2 && data.size == 2);
    cr_expect_eq(
        http1_body_next(&body, BYTES("cdefg"), &limits, &consumed, &data, &trailer, &refusal),
        HTTP1_BODY_DATA);
    cr_expect(consumed == 3 && data.size == 3);
    cr_expect_eq(http1_body_next(&body, BYTES("fg"), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_END);
    cr_expect_eq(consumed, 0);
}

Test(http1_body, body_of_nothing_ends_at_once)
{
    static const struct http1_head heads[] = {{.body_kind = HTTP1_BODY_NONE},
                                              {.body_kind = HTTP1_BODY_LENGTH}};
    struct http1_limits limits = http1_talk_limits();

    for (size_t i = 0; i < 2; i++) {
        struct http1_body body;
        struct bytes data;
        struct http1_header trailer;
        struct http1_refusal refusal;
        size_t consumed = 1;
        http1_body_init(&body, &heads[i], &limits);
        cr_expect_eq(
            http1_body_next(&body, BYTES("x"), &limits, &consumed, &data, &trailer, &refusal),
            HTTP1_BODY_END);
        cr_expect_eq(consumed, 0);
    }
}

static void expect_said(const char *input, const char *expected)
{
    struct http1_limits limits = http1_talk_limits();
    struct http1_talk *talk = malloc(sizeof(*talk));

    http1_talk_init(talk, &limits);
    http1_talk_step(talk, bytes_of_string(input));
    const char *said = strstr(text_string(&talk->said), "\nbody ");
    cr_expect(said && strcmp(said, expected) == 0, "said%s", text_string(&talk->said));
    http1_talk_done(talk);
    free(talk);
}

Test(http1_body, trailers_come_after_the_data_and_forbidden_ones_not_at_all)
{
    expect_said(CHUNKED "1\r\na\r\n0\r\nX: y\r\n\r\n", "\nbody a\ntrailer X=y\nend 1\n");
    expect_said(
        CHUNKED
        "0\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX: y\r\nTrailer: x\r\n"
        "Authorization: b\r\nContent-Type: c\r\nCONTENT-encoding: d\r\nSet-Cookie: e\r\n"
        "Cache-Control: f\r\nProxy-Status: g\r\nTE: h\r\nConnection: i\r\nIf-Match: "
        "j\r\nZ:\r\n\r\n",
        "\nbody \ntrailer X=y\ntrailer Z=\nend 0\n");
    expect_said(CHUNKED "0\r\nContent: a\r\nProxy: b\r\nDigest: c\r\n\r\n",
                "\nbody \ntrailer Content=a\ntrailer Proxy=b\ntrailer Digest=c\nend 0\n");
}

Test(http1_body, limit_holds_to_the_byte_over_all_chunks)
{
    for (uint64_t most = 0; most <= 8; most++) {
        struct http1_limits limits = http1_talk_limits();
        struct http1_talk *talk = malloc(sizeof(*talk));
        limits.body_size = most;
        http1_talk_init(talk, &limits);
        http1_talk_step(talk, BYTES(CHUNKED "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"));
        cr_expect_eq(talk->refusal.status, most < 7 ? 413 : 0, "limit %d", (int)most);
        http1_talk_done(talk);

        http1_talk_init(talk, &limits);
        http1_talk_step(talk, BYTES("PUT / HTTP/1.0\r\nContent-Length: 7\r\n\r\nabcdefg"));
        cr_expect_eq(talk->refusal.status, most < 7 ? 413 : 0, "limit %d", (int)most);
        http1_talk_done(talk);
        free(talk);
    }
}

Test(http1_body, trailer_section_has_the_limits_of_a_head)
{
    static const char section[] = "Abc: def\r\nG: h\r\n\r\n";

    for (size_t most = 1; most <= sizeof(section); most++) {
        struct http1_limits limits = {
            .line_size = 100, .head_size = most, .header_count = 2, .body_size = 9};
        struct http1_body body = chunked(&limits);
        struct bytes rest = BYTES("0\r\nAbc: def\r\nG: h\r\n\r\n"), data;
        struct http1_header trailer;
        struct http1_refusal refusal = {0};
        size_t consumed;
        enum http1_body_event event;
        while ((event = http1_body_next(&body, rest, &limits, &consumed, &data, &trailer,
                                        &refusal)) == HTTP1_BODY_TRAILER)
            rest = bytes_skip(rest, consumed);
        cr_expect_eq(event, most >= sizeof(section) - 1 ? HTTP1_BODY_END : HTTP1_BODY_REFUSED,
                     "head_size %zu", most);
        cr_expect_eq(refusal.status, most >= sizeof(section) - 1 ? 0 : 431, "head_size %zu", most);
    }
}

Test(http1_body, refused_stays_refused)
{
    struct http1_limits limits = http1_talk_limits();
    struct http1_body body = chunked(&limits);
    struct bytes data;
    struct http1_header trailer;
    struct http1_refusal refusal = {0};
    size_t consumed;

    for (int i = 0; i < 3; i++)
        cr_expect_eq(
            http1_body_next(&body, BYTES("x\r\n"), &limits, &consumed, &data, &trailer, &refusal),
            HTTP1_BODY_REFUSED);
    cr_expect_eq(refusal.status, 400);
}

Test(http1_body, garbage_in_a_size_is_refused_before_its_line_ends)
{
    static const struct {
        const char *input;
        size_t after;
    } rows[] = {{"x", 1},  {"\n", 1}, {"1g", 2}, {"-1", 1}, {"\r", 1}, {"11111111111111111", 17},
                {"1\n", 2}};
    struct http1_limits limits = http1_talk_limits();

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http1_body body = chunked(&limits);
        for (size_t size = 0; size <= rows[i].after; size++) {
            struct bytes data;
            struct http1_header trailer;
            struct http1_refusal refusal;
            size_t consumed;
            enum http1_body_event event =
                http1_body_next(&body, bytes_of(rows[i].input, size), &limits, &consumed, &data,
                                &trailer, &refusal);
            cr_expect_eq(event, size == rows[i].after ? HTTP1_BODY_REFUSED : HTTP1_BODY_MORE,
                         "row %zu, %zu bytes", i, size);
        }
    }
}

/* The reason of the refusal, or null; the input comes in steps of `step` bytes. */
static const char *reason_in_steps(struct bytes input, size_t step,
                                   const struct http1_limits *limits)
{
    struct http1_body body = chunked(limits);
    struct http1_refusal refusal = {0};
    size_t taken = 0;

    for (size_t have = 0; have < input.size && refusal.status == 0;) {
        enum http1_body_event event;
        have = have + step < input.size ? have + step : input.size;
        do {
            struct bytes rest = bytes_skip(bytes_head(input, have), taken), data;
            struct http1_header trailer;
            size_t consumed;
            event = http1_body_next(&body, rest, limits, &consumed, &data, &trailer, &refusal);
            taken += consumed;
        } while (event == HTTP1_BODY_DATA || event == HTTP1_BODY_TRAILER);
    }
    return refusal.reason;
}

Test(http1_body, no_line_limit_makes_the_outcome_depend_on_the_cut)
{
    static const char *const inputs[] = {
        "3\r\nabc\r\n0\r\n\r\n",       "000000000000003\r\nabc\r\n0\r\n\r\n",
        "11111111111111111\r\nabc",    "ffffffffffffffff\r\nabc",
        "12345x\r\nabc\r\n0\r\n\r\n",  "3;aaaaaaaaa\r\nabc\r\n0\r\n\r\n",
        "3;aaaaa\x01\r\nabc\r\n0\r\n", "0\r\nAbcdefgh: y\r\n\r\n",
        "0\r\nAbcde fgh: y\r\n\r\n",   "0\r\nA: b\nC: d\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
        for (size_t most = 0; most <= 24; most++) {
            struct http1_limits limits = {most, 100, 4, 100};
            struct bytes input = bytes_of_string(inputs[i]);
            const char *whole = reason_in_steps(input, input.size, &limits);
            for (size_t step = 1; step < input.size; step++)
                cr_expect_eq(reason_in_steps(input, step, &limits), whole,
                             "%s in steps of %zu with lines of %zu", inputs[i], step, most);
        }
}

Test(http1_body, extensions_may_outweigh_the_data_by_a_head_and_no_more)
{
    /* Each chunk brings 10 bytes of extension for 1 of data. */
    static const char chunk[] = "1;aaaaaaaaa\r\nb\r\n";
    struct http1_limits limits = {.line_size = 100, .head_size = 45, .header_count = 1};
    char input[10 * sizeof(chunk)] = "";

    limits.body_size = 10;
    for (int chunks = 1; chunks <= 8; chunks++) {
        strcat(input, chunk);
        const char *reason = reason_in_steps(bytes_of_string(input), strlen(input), &limits);
        cr_expect_eq(reason != NULL, 9 * chunks > 45, "%d chunks", chunks);
    }
}

Test(http1_body, answer_has_the_body_its_framing_says)
{
    static const struct {
        enum http1_framing framing;
        const char *input, *data;
        size_t consumed;
    } rows[] = {
        {HTTP1_FRAMING_CHUNKED, "2\r\nab\r\n0\r\n\r\n", "ab", 12},
        {HTTP1_FRAMING_LENGTH, "abcdef", "abc", 3},
        {HTTP1_FRAMING_NONE, "abcdef", "", 0},
    };
    struct http1_limits limits = http1_talk_limits();

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http1_answer_head head = {.framing = rows[i].framing, .body_size = 3};
        struct http1_body body;
        struct bytes rest = bytes_of_string(rows[i].input), data = {0}, first = {0};
        struct http1_header trailer;
        struct http1_refusal refusal;
        size_t consumed, taken = 0;

        http1_body_init_answer(&body, &head, &limits);
        while (http1_body_next(&body, rest, &limits, &consumed, &data, &trailer, &refusal) ==
               HTTP1_BODY_DATA) {
            rest = bytes_skip(rest, consumed);
            taken += consumed;
            first = data;
        }
        cr_expect(bytes_equal(first, bytes_of_string(rows[i].data)), "row %zu", i);
        cr_expect_eq(taken + consumed, rows[i].consumed, "row %zu", i);
    }
}

Test(http1_body, answer_without_length_takes_everything)
{
    struct http1_answer_head head = {.status = 200, .framing = HTTP1_FRAMING_CLOSE};
    struct http1_limits limits = http1_talk_limits();
    struct http1_body body;
    struct bytes data;
    struct http1_header trailer;
    struct http1_refusal refusal;
    size_t consumed;

    limits.body_size = 4;
    http1_body_init_answer(&body, &head, &limits);
    cr_expect_eq(
        http1_body_next(&body, BYTES("abc"), &limits, &consumed, &data, &trailer, &refusal),
        HTTP1_BODY_DATA);
    cr_expect_eq(http1_body_next(&body, BYTES(""), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_MORE);
    cr_expect_eq(http1_body_next(&body, BYTES("d"), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_DATA);
    cr_expect_eq(http1_body_next(&body, BYTES("e"), &limits, &consumed, &data, &trailer, &refusal),
                 HTTP1_BODY_REFUSED);
    cr_expect_eq(refusal.status, 413);
}
