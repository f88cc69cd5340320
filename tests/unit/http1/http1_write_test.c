/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer: golden bytes, what it leaves out, dates against the C library, and the round trip
 * through the client side, where the parser is the writer's oracle.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http1_talk.h"
#include "rng.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

struct block {
    uint8_t at[8192];
    size_t size;
};

static void block_add(struct block *block, struct bytes name, struct bytes value)
{
    uint8_t *at = block->at + block->size;

    cr_assert(block->size + 4 + name.size + value.size <= sizeof(block->at));
    at[0] = (uint8_t)name.size, at[1] = (uint8_t)(name.size >> 8);
    at[2] = (uint8_t)value.size, at[3] = (uint8_t)(value.size >> 8);
    memcpy(at + 4, name.at, name.size);
    if (value.size > 0)
        memcpy(at + 4 + name.size, value.at, value.size);
    block->size += 4 + name.size + value.size;
}

static void expect_written(const struct http1_answer *answer, const char *expected,
                           enum http1_framing framing)
{
    enum http1_framing found;
    size_t room = http1_answer_room(answer);
    uint8_t *at = malloc(room);

    size_t size = http1_write_answer(answer, at, room, &found);
    cr_expect(bytes_equal(bytes_of(at, size), bytes_of_string(expected)),
              "wrote:\n%.*s\nexpected:\n%s", (int)size, (const char *)at, expected);
    cr_expect_eq(found, framing, "framing %d of:\n%s", found, expected);
    cr_expect_eq(http1_write_answer(answer, at, room - 1, &found), 0, "a byte less is too small");
    free(at);
}

Test(http1_write, answer_is_written_in_a_fixed_order)
{
    struct block block = {.size = 0};

    block_add(&block, BYTES("Server"), BYTES("mine"));
    block_add(&block, BYTES("X-Empty"), BYTES(""));
    expect_written(&(struct http1_answer){.status = 200,
                                          .minor = 1,
                                          .keep_alive = true,
                                          .body_size = 5,
                                          .date = BYTES(DATE),
                                          .content_type = BYTES("text/plain"),
                                          .request_id = BYTES("r1"),
                                          .headers = bytes_of(block.at, block.size)},
                   "HTTP/1.1 200 OK\r\ndate: " DATE
                   "\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n"
                   "x-request-id: r1\r\nServer: mine\r\nX-Empty: \r\n\r\n",
                   HTTP1_FRAMING_LENGTH);
}

/* What is asked for, what is written, how the body travels. */
static const struct {
    struct http1_answer answer;
    const char *expected;
    enum http1_framing framing;
} framing_rows[] = {
    {{.status = 200, .minor = 1, .keep_alive = true, .body_size = 0},
     "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 200, .minor = 1, .keep_alive = true, .body_size = UINT64_MAX - 1},
     "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551614\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 200, .minor = 1, .keep_alive = true, .body_size = UINT64_MAX},
     "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
     HTTP1_FRAMING_CHUNKED},
    {{.status = 200, .minor = 1, .body_size = UINT64_MAX},
     "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
     HTTP1_FRAMING_CHUNKED},
    {{.status = 200, .minor = 0, .keep_alive = true, .body_size = UINT64_MAX},
     "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
     HTTP1_FRAMING_CLOSE},
    {{.status = 200, .minor = 0, .keep_alive = true, .body_size = 1},
     "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 503, .minor = 0, .body_size = 1},
     "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1\r\nconnection: close\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 204, .minor = 1, .keep_alive = true, .body_size = 7},
     "HTTP/1.1 204 No Content\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 204, .minor = 0, .keep_alive = true, .body_size = UINT64_MAX},
     "HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 205, .minor = 1, .keep_alive = true, .body_size = 7},
     "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 304, .minor = 1, .keep_alive = true, .body_size = 7},
     "HTTP/1.1 304 Not Modified\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 200, .minor = 1, .keep_alive = true, .head_request = true, .body_size = 7},
     "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 200, .minor = 1, .keep_alive = true, .head_request = true, .body_size = 0},
     "HTTP/1.1 200 OK\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 200, .minor = 0, .keep_alive = true, .head_request = true, .body_size = UINT64_MAX},
     "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n",
     HTTP1_FRAMING_NONE},
    {{.status = 299, .minor = 1, .keep_alive = true},
     "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 700, .minor = 1, .keep_alive = true},
     "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
    {{.status = 0, .minor = 1, .keep_alive = true},
     "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
     HTTP1_FRAMING_LENGTH},
};

Test(http1_write, framing_follows_size_status_version_and_method)
{
    for (size_t i = 0; i < sizeof(framing_rows) / sizeof(framing_rows[0]); i++)
        expect_written(&framing_rows[i].answer, framing_rows[i].expected, framing_rows[i].framing);
}

Test(http1_write, fields_that_would_break_the_message_are_left_out)
{
    static const struct {
        struct bytes name, value;
    } bad[] = {
        {BYTES("Content-Length"), BYTES("9")},
        {BYTES("transfer-ENCODING"), BYTES("chunked")},
        {BYTES("Connection"), BYTES("close")},
        {BYTES("Keep-Alive"), BYTES("1")},
        {BYTES("Date"), BYTES("now")},
        {BYTES("content-type"), BYTES("text/html")},
        {BYTES("X-Request-Id"), BYTES("r2")},
        {BYTES("Upgrade"), BYTES("x")},
        {BYTES("X"), BYTES("a\r\nEvil: b")},
        {BYTES("X"), BYTES("a\nb")},
        {BYTES("X"), BYTES("a\rb")},
        {BYTES("X"), BYTES("a\0b")},
        {BYTES("X"), BYTES("a\x1b")},
        {BYTES("X Y"), BYTES("a")},
        {BYTES(""), BYTES("a")},
        {BYTES("X:"), BYTES("a")},
        {BYTES("X\r\nEvil: b"), BYTES("a")},
        {BYTES("Trailer"), BYTES("a")},
    };
    struct block block = {.size = 0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        block_add(&block, bad[i].name, bad[i].value);
    block_add(&block, BYTES("Good"), BYTES(" \ttrimmed \xe4\t"));
    struct http1_answer answer = {.status = 200,
                                  .minor = 1,
                                  .keep_alive = true,
                                  .date = BYTES(DATE),
                                  .content_type = BYTES("a/b"),
                                  .request_id = BYTES("r1"),
                                  .headers = bytes_of(block.at, block.size)};
    expect_written(&answer,
                   "HTTP/1.1 200 OK\r\ndate: " DATE "\r\ncontent-type: a/b\r\ncontent-length: 0\r\n"
                   "x-request-id: r1\r\nGood: trimmed \xe4\r\n\r\n",
                   HTTP1_FRAMING_LENGTH);
    answer.content_type = BYTES("a\r\nb");
    answer.request_id = BYTES("r\n1");
    expect_written(&answer,
                   "HTTP/1.1 200 OK\r\ndate: " DATE
                   "\r\ncontent-length: 0\r\nGood: trimmed \xe4\r\n\r\n",
                   HTTP1_FRAMING_LENGTH);
}

Test(http1_write, fields_pass_when_they_are_not_given_otherwise)
{
    struct block block = {.size = 0};

    block_add(&block, BYTES("Date"), BYTES(DATE));
    block_add(&block, BYTES("Content-Type"), BYTES("a/b"));
    block_add(&block, BYTES("X-Request-Id"), BYTES("r2"));
    block_add(&block, BYTES("Set-Cookie"), BYTES("a"));
    block_add(&block, BYTES("Set-Cookie"), BYTES("b"));
    expect_written(&(struct http1_answer){.status = 404,
                                          .minor = 1,
                                          .keep_alive = true,
                                          .headers = bytes_of(block.at, block.size)},
                   "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nDate: " DATE
                   "\r\nContent-Type: a/b\r\n"
                   "X-Request-Id: r2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
                   HTTP1_FRAMING_LENGTH);
}

Test(http1_write, length_told_by_the_application_counts_where_there_is_no_content)
{
    struct block block = {.size = 0};
    struct http1_answer answer = {
        .status = 200, .minor = 1, .keep_alive = true, .head_request = true};

    block_add(&block, BYTES("Content-Length"), BYTES("123"));
    answer.headers = bytes_of(block.at, block.size);
    expect_written(&answer, "HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n", HTTP1_FRAMING_NONE);
    answer.status = 304;
    answer.head_request = false;
    expect_written(&answer, "HTTP/1.1 304 Not Modified\r\ncontent-length: 123\r\n\r\n",
                   HTTP1_FRAMING_NONE);

    block_add(&block, BYTES("content-length"), BYTES("124"));
    answer.headers = bytes_of(block.at, block.size);
    expect_written(&answer, "HTTP/1.1 304 Not Modified\r\n\r\n", HTTP1_FRAMING_NONE);
}

Test(http1_write, broken_block_ends_where_it_breaks)
{
    struct block block = {.size = 0};

    block_add(&block, BYTES("A"), BYTES("b"));
    size_t good = block.size;
    block_add(&block, BYTES("C"), BYTES("defgh"));
    for (size_t size = good; size < block.size; size++)
        expect_written(
            &(struct http1_answer){
                .status = 200, .minor = 1, .keep_alive = true, .headers = bytes_of(block.at, size)},
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nA: b\r\n\r\n", HTTP1_FRAMING_LENGTH);
}

Test(http1_write, reasons_and_status_lines_say_the_same)
{
    enum http1_framing framing;
    uint8_t room[512];
    char expected[100];
    int phrases = 0;

    for (int status = 200; status <= 599; status++) {
        struct http1_answer answer = {.status = status, .minor = 1, .keep_alive = true};
        size_t size = http1_write_answer(&answer, room, sizeof(room), &framing);
        snprintf(expected, sizeof(expected), "HTTP/1.1 %d %s\r\n", status, http1_reason(status));
        cr_expect(bytes_starts_with(bytes_of(room, size), bytes_of_string(expected)), "%s",
                  expected);
        phrases += *http1_reason(status) != 0;
    }
    cr_expect(phrases > 55);
    cr_expect_str_eq(http1_reason(100), "Continue");
    cr_expect_str_eq(http1_reason(101), "Switching Protocols");
    cr_expect_str_eq(http1_reason(-1), "");
    cr_expect_str_eq(http1_reason(418), "");
}

Test(http1_write, dates_agree_with_the_c_library)
{
    char found[30], expected[30];
    struct rng rng;

    http1_date(784111777, found);
    cr_expect_str_eq(found, DATE);
    http1_date(-5, found);
    cr_expect_str_eq(found, "Thu, 01 Jan 1970 00:00:00 GMT");
    http1_date(INT64_MAX, found);
    cr_expect_str_eq(found, "Fri, 31 Dec 9999 23:59:59 GMT");
    rng_init(&rng, 7);
    for (int i = 0; i < 200000; i++) {
        /* every day of 400 years, then anywhere */
        time_t seconds =
            i < 150000 ? (time_t)i * 86400 + i % 86400 : (time_t)rng_below(&rng, 253402300800);
        struct tm broken;
        gmtime_r(&seconds, &broken);
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &broken);
        http1_date(seconds, found);
        cr_assert_str_eq(found, expected);
    }
}

Test(http1_write, chunk_heads_are_plain_hex)
{
    static const uint64_t sizes[] = {0,   1,   9,    10,    15,         16,
                                     255, 256, 4095, 65536, 0xdeadbeef, UINT64_MAX};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char expected[20];
        uint8_t room[18];
        snprintf(expected, sizeof(expected), "%" PRIx64 "\r\n", sizes[i]);
        size_t size = http1_write_chunk_head(sizes[i], room);
        cr_expect(bytes_equal(bytes_of(room, size), bytes_of_string(expected)), "%s", expected);
    }
}

Test(http1_write, trailers_are_written_without_the_forbidden_ones)
{
    struct block block = {.size = 0};
    uint8_t room[200];

    block_add(&block, BYTES("X"), BYTES("y "));
    block_add(&block, BYTES("Content-Length"), BYTES("1"));
    block_add(&block, BYTES("Evil"), BYTES("a\r\nb"));
    block_add(&block, BYTES("Set-Cookie"), BYTES("a"));
    block_add(&block, BYTES("Grpc-Status"), BYTES("0"));
    size_t size = http1_write_trailers(bytes_of(block.at, block.size), room, sizeof(room));
    cr_expect(bytes_equal(bytes_of(room, size), BYTES("0\r\nX: y\r\nGrpc-Status: 0\r\n\r\n")),
              "%.*s", (int)size, (const char *)room);
    size_t enough = HTTP1_LAST_CHUNK.size + block.size;
    cr_expect_eq(http1_write_trailers(bytes_of(block.at, block.size), room, enough - 1), 0);
    cr_expect_eq(http1_write_trailers(bytes_of(block.at, block.size), room, enough), size);
    size = http1_write_trailers(bytes_of(NULL, 0), room, sizeof(room));
    cr_expect(bytes_equal(bytes_of(room, size), HTTP1_LAST_CHUNK));
}

/* A name or value of random bytes of which most are fine. */
static struct bytes random_bytes(struct rng *rng, uint8_t *room, size_t most, const char *fine)
{
    size_t size = (size_t)rng_below(rng, most + 1);

    for (size_t i = 0; i < size; i++)
        room[i] = rng_chance(rng, 1, 200) ? (uint8_t)rng_next(rng)
                                          : (uint8_t)fine[rng_below(rng, strlen(fine))];
    return bytes_of(room, size);
}

static void round_trip(struct rng *rng)
{
    struct http1_answer answer = {.status = (int)(200 + rng_below(rng, 400)),
                                  .minor = (uint8_t)rng_below(rng, 2),
                                  .head_request = rng_chance(rng, 1, 5),
                                  .keep_alive = rng_chance(rng, 1, 2),
                                  .body_size =
                                      rng_chance(rng, 1, 3) ? UINT64_MAX : rng_below(rng, 1000)};
    struct block block = {.size = 0};
    uint8_t name[24], value[64], type[32], id[32], room[16384];
    struct http1_limits limits = http1_talk_limits();
    struct http1_refusal refusal = {0};
    struct http1_answer_head head;
    enum http1_framing framing;
    size_t parsed = 0;

    for (uint64_t i = rng_below(rng, 20); i > 0; i--)
        block_add(&block, random_bytes(rng, name, sizeof(name), "abcXYZ-_09"),
                  random_bytes(rng, value, sizeof(value), "abc \t,;=\"\x80\xff/"));
    answer.headers = bytes_of(block.at, block.size);
    answer.content_type = random_bytes(rng, type, sizeof(type), "texplain/;=");
    answer.request_id = random_bytes(rng, id, sizeof(id), "0123456789abcdef-");
    if (rng_chance(rng, 1, 2))
        answer.date = BYTES(DATE);

    size_t size = http1_write_answer(&answer, room, sizeof(room), &framing);
    cr_assert(size > 0);
    cr_assert_eq(http1_answer_parse(&head, bytes_of(room, size), answer.head_request, &limits,
                                    &parsed, &refusal),
                 HTTP1_DONE, "%s:\n%.*s", refusal.reason, (int)size, (const char *)room);
    cr_expect_eq(parsed, size);
    cr_expect_eq(head.status, answer.status);
    if (head.status == 205) /* for the reader a body of no bytes */
        cr_expect(framing == HTTP1_FRAMING_NONE && head.body_size == 0);
    else
        cr_expect_eq(head.framing, framing);
    if (framing == HTTP1_FRAMING_LENGTH)
        cr_expect_eq(head.body_size, answer.body_size);
    /* What the client reads from the bytes is what the caller meant, but for HTTP/1.0 without
     * keep-alive. */
    cr_expect_eq(head.keep_alive, answer.keep_alive && framing != HTTP1_FRAMING_CLOSE);
}

Test(http1_write, what_is_written_is_read_back)
{
    struct rng rng;

    rng_init(&rng, 1);
    for (int i = 0; i < 20000; i++)
        round_trip(&rng);
}
