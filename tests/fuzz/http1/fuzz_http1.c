/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http1: any bytes, taken as what a client sent, as what a server answered, and as what an
 * application wants written.  What must hold:
 *
 *     requests   the transcript is the same whole, byte by byte and cut somewhere, under wide and
 * narrow limits; a head that is accepted and written out again plainly is understood the same way
 *     answers    an answer head that is whole is not whole without its last byte
 *     writing    whatever the fields are, the client side reads the answer back with the framing
 * meant
 *
 * The talk checks that slices lie inside the input and that limits hold; sanitizers do the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ensure.h"
#include "http1_talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BLOCK_SIZE_MOST = 1024, /* of fields to write: fewer than HTTP1_HEADER_COUNT_MOST fit in */
    MOVE_SIZE_MOST = 256,   /* longer inputs do not move with each byte */
};

static struct http1_talk whole, part; /* too large for a stack frame each */

/* ---- requests -------------------------------------------------------------------------------- */

static void expect_same(const char *how)
{
    bool same = whole.refusal.status == part.refusal.status &&
                whole.refusal.reason == part.refusal.reason && whole.taken == part.taken &&
                whole.in_body == part.in_body &&
                bytes_equal(text_bytes(&whole.said), text_bytes(&part.said));
    if (!same)
        fprintf(stderr, "%s:\n%s\nwhole:\n%s\n", how, text_string(&part.said),
                text_string(&whole.said));
    ensure(same);
}

/* One step with the first `have` bytes, in a block of their own. */
static void step_moved(const uint8_t *data, size_t have)
{
    uint8_t *copy = malloc(have + 1);

    ensure(copy);
    memcpy(copy + 1, data, have); /* not at the block's aligned start */
    http1_talk_step(&part, bytes_of(copy + 1, have));
    free(copy);
}

static void check_requests(const uint8_t *data, size_t size, const struct http1_limits *limits,
                           size_t cut)
{
    http1_talk_init(&whole, limits);
    http1_talk_step(&whole, bytes_of(data, size));

    http1_talk_init(&part, limits);
    for (size_t have = 0; have <= size; have++)
        if (size <= MOVE_SIZE_MOST)
            step_moved(data, have);
        else
            http1_talk_step(&part, bytes_of(data, have));
    expect_same("byte by byte");
    http1_talk_done(&part);

    http1_talk_init(&part, limits);
    step_moved(data, cut);
    http1_talk_step(&part, bytes_of(data, size));
    expect_same("cut in two");
    http1_talk_done(&part);
    http1_talk_done(&whole);
}

/* Writes an accepted head in its plainest form and reads it again. */
static void check_plain_form(const uint8_t *data, size_t size, const struct http1_limits *limits)
{
    struct http1_refusal refusal;
    struct text plain;
    size_t scanned = 0, taken = 0;

    if (http1_head_parse(&whole.head, bytes_of(data, size), &scanned, limits, &taken, &refusal) !=
        HTTP1_DONE)
        return;
    const struct http1_head *head = &whole.head;
    text_init(&plain, 1 << 20);
    text_add(&plain, head->method_name);
    text_add_byte(&plain, ' ');
    text_add(&plain, head->target);
    text_print(&plain, " HTTP/1.%u\r\n", head->minor);
    for (uint32_t i = 0; i < head->header_count; i++) {
        text_add(&plain, head->headers[i].name);
        text_add_string(&plain, ": ");
        text_add(&plain, head->headers[i].value);
        text_add_string(&plain, "\r\n");
    }
    text_add_string(&plain, "\r\n");
    ensure(!plain.failed);

    /* "X:y" has grown to "X: y", so the limits must have grown with it. */
    struct http1_limits wider = *limits;
    wider.line_size += 1;
    wider.head_size += HTTP1_HEADER_COUNT_MOST;
    http1_talk_init(&whole, &wider);
    http1_talk_step(&whole, bytes_of(data, taken));
    http1_talk_init(&part, &wider);
    http1_talk_step(&part, text_bytes(&plain));
    ensure(whole.requests == 1 && part.requests == 1 && part.taken == plain.size);
    part.taken = whole.taken;
    expect_same("in plain form");
    http1_talk_done(&whole);
    http1_talk_done(&part);
    text_done(&plain);
}

/* ---- answers --------------------------------------------------------------------------------- */

static struct http1_answer_head answer_head;

static void check_answers(const uint8_t *data, size_t size, const struct http1_limits *limits)
{
    struct http1_refusal refusal;
    size_t taken = 0, ignored = 0;

    enum http1_result result =
        http1_answer_parse(&answer_head, bytes_of(data, size), false, limits, &taken, &refusal);
    if (result != HTTP1_DONE)
        return;
    ensure(taken >= 4 && taken <= size && memcmp(data + taken - 4, "\r\n\r\n", 4) == 0);
    ensure(answer_head.header_count <= limits->header_count);
    result = http1_answer_parse(&answer_head, bytes_of(data, taken - 1), false, limits, &ignored,
                                &refusal);
    ensure(result == HTTP1_MORE);
}

/* The same bytes as a field block, and some of them as the other parts of an answer. */
static void check_writing(const uint8_t *data, size_t size)
{
    const struct http1_limits wide = {SIZE_MAX, SIZE_MAX, UINT32_MAX, UINT64_MAX};
    struct http1_refusal refusal;
    enum http1_framing framing;
    size_t taken = 0;

    if (size < 4)
        return;
    struct http1_answer answer = {
        .status = 200 + (data[0] | data[1] << 8) % 400,
        .minor = data[2] & 1,
        .head_request = data[2] & 2,
        .keep_alive = data[2] & 4,
        .body_size = data[2] & 8 ? UINT64_MAX : data[3],
        .content_type = bytes_head(bytes_of(data, size), data[3] & 15),
        .request_id = bytes_head(bytes_of(data, size), data[3] >> 4),
        .headers = bytes_head(bytes_of(data + 4, size - 4), BLOCK_SIZE_MOST),
    };
    size_t room = http1_answer_room(&answer);
    uint8_t *at = malloc(room);
    ensure(at);
    size_t written = http1_write_answer(&answer, at, room, &framing);
    ensure(written > 0 && written <= room);

    enum http1_result result = http1_answer_parse(&answer_head, bytes_of(at, written),
                                                  answer.head_request, &wide, &taken, &refusal);
    ensure(result == HTTP1_DONE && taken == written && answer_head.status == answer.status);
    ensure(answer_head.framing == framing || answer.status == 205);
    ensure(framing != HTTP1_FRAMING_LENGTH || answer_head.body_size == answer.body_size);
    ensure(answer_head.keep_alive == (answer.keep_alive && framing != HTTP1_FRAMING_CLOSE));
    free(at);
}

/* Trailers are written behind a body of no chunks and read back. */
static void check_trailers(const uint8_t *data, size_t size)
{
    static const char start[] = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct http1_limits limits = {1 << 20, 1 << 20, UINT32_MAX, 0};
    struct bytes block = bytes_head(bytes_of(data, size), BLOCK_SIZE_MOST);
    uint8_t room[sizeof(start) + BLOCK_SIZE_MOST + 8];

    memcpy(room, start, sizeof(start) - 1);
    size_t written =
        http1_write_trailers(block, room + sizeof(start) - 1, sizeof(room) - sizeof(start) + 1);
    ensure(written >= HTTP1_LAST_CHUNK.size);
    http1_talk_init(&whole, &limits);
    http1_talk_step(&whole, bytes_of(room, sizeof(start) - 1 + written));
    ensure(http1_talk_whole(&whole, sizeof(start) - 1 + written));
    http1_talk_done(&whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct http1_limits wide = http1_talk_limits();
    const struct http1_limits narrow = {
        .line_size = 48, .head_size = 120, .header_count = 3, .body_size = 20};
    size_t cut = size > 0 ? (size_t)(bytes_hash(bytes_of(data, size)) % size) : 0;

    if (!data) /* libFuzzer's empty input */
        return 0;
    check_requests(data, size, &wide, cut);
    check_requests(data, size, &narrow, cut);
    check_plain_form(data, size, &wide);
    check_answers(data, size, &wide);
    check_answers(data, size, &narrow);
    check_writing(data, size);
    check_trailers(data, size);
    return 0;
}
