/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_test: a replica's server side: admission, taking, answers, credit, cancels, drains, and
 * senders that lie.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "metrics.h"
#include "taker_stage.h"

static struct stage stage;
static struct sender sender;

static void open_all(void)
{
    stage_open(&stage, NULL);
    sender_open(&sender, &stage);
}

static void close_all(void)
{
    sender_close(&sender);
    stage_turns(&stage, 3);
    stage_close(&stage);
}

TestSuite(taker, .fini = close_all);

static struct wire_reply expect_reply(uint64_t stream)
{
    struct wire_header header;
    struct wire_reply reply;
    struct bytes payload = sender_expect(&sender, WIRE_REPLY_FRAME, &header);
    cr_assert_eq(header.stream, stream);
    cr_assert_eq(wire_reply_read(&reply, payload), 0);
    return reply;
}

Test(taker, a_request_is_taken_and_answered_on_its_stream)
{
    open_all();
    sender_request(&sender, stream_id(3, 1), BYTES("hello"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    cr_assert(bytes_equal(request->body, BYTES("hello")));
    cr_assert(bytes_equal(request->request_id, BYTES("id-1")));
    cr_assert_eq(taker_ongoing(stage.taker), 1);
    stage_answer(&stage, request, BYTES("world"));
    struct wire_reply reply = expect_reply(stream_id(3, 1));
    cr_assert(bytes_equal(reply.body, BYTES("world")));
    cr_assert_eq(reply.queue_length, 0);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, the_taken_mark_is_set_only_when_user_code_takes)
{
    open_all();
    uint64_t stream = stream_id(9, 5);
    sender_request(&sender, stream, BYTES("x"), WIRE_END);
    stage_turns(&stage, 50);
    cr_assert_not(page_is_taken(&sender.page, stream));
    struct taker_request *request = stage_take(&stage);
    cr_assert(page_is_taken(&sender.page, stream));
    cr_assert_not(page_is_taken(&sender.page, stream_id(9, 4)));
    stage_answer(&stage, request, BYTES(""));
    expect_reply(stream);
}

Test(taker, what_is_above_max_ongoing_is_rejected_with_the_queue_length)
{
    struct wire_header header;
    struct wire_reject reject;
    struct taker_config config = {.max_ongoing = 1};
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    sender_request(&sender, stream_id(1, 1), BYTES("b"), WIRE_END);
    cr_assert_eq(wire_reject_read(&reject, sender_expect(&sender, WIRE_REJECT_FRAME, &header)), 0);
    cr_assert_eq(header.stream, stream_id(1, 1));
    cr_assert_eq(reject.code, ERROR_LIMIT);
    cr_assert_eq(reject.queue_length, 1);
    stage_answer(&stage, stage_take(&stage), BYTES("done"));
    expect_reply(stream_id(0, 1));
}

Test(taker, a_rejected_sender_is_told_when_a_place_is_free)
{
    struct wire_header header;
    struct wire_pong pong;
    struct taker_config config = {.max_ongoing = 1};
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    sender_request(&sender, stream_id(1, 1), BYTES("b"), WIRE_END);
    sender_expect(&sender, WIRE_REJECT_FRAME, &header);
    stage_answer(&stage, stage_take(&stage), BYTES("done"));
    expect_reply(stream_id(0, 1));
    cr_assert_eq(wire_pong_read(&pong, sender_expect(&sender, WIRE_PONG_FRAME, &header)), 0);
    cr_assert_eq(pong.queue_length, 0);
}

Test(taker, a_body_in_parts_is_collected_before_user_code_sees_it)
{
    struct taker_request *request;
    bool batched;
    open_all();
    sender_request(&sender, stream_id(2, 1), BYTES("one "), 0);
    stage_turns(&stage, 50);
    cr_assert_eq(taker_take(stage.taker, &request, 1, &batched), 0);
    cr_assert_eq(taker_ongoing(stage.taker), 1, "its place is taken from the head on");
    sender_part(&sender, stream_id(2, 1), BYTES("two "), 0);
    sender_part(&sender, stream_id(2, 1), BYTES("three"), WIRE_END);
    request = stage_take(&stage);
    cr_assert(bytes_equal(request->body, BYTES("one two three")));
    stage_answer(&stage, request, BYTES(""));
    expect_reply(stream_id(2, 1));
}

Test(taker, a_collected_body_gets_new_credit_and_one_over_the_limit_is_refused)
{
    struct wire_header header;
    static uint8_t part[65536];
    open_all();
    stage.settings.body_collect_limit = 400000;
    sender_request(&sender, stream_id(0, 1), (struct bytes){0}, 0);
    for (int i = 0; i < 3; i++)
        sender_part(&sender, stream_id(0, 1), bytes_of(part, sizeof(part)), 0);
    sender_expect(&sender, WIRE_CREDIT_FRAME, &header);
    for (int i = 0; i < 4; i++)
        sender_part(&sender, stream_id(0, 1), bytes_of(part, sizeof(part)), 0);
    for (int i = 0; i < 2; i++)
        sender_expect(&sender, WIRE_CREDIT_FRAME, &header);
    struct wire_reply reply = expect_reply(stream_id(0, 1));
    cr_assert_eq(reply.code, ERROR_TOO_LARGE);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, a_body_past_the_byte_budget_is_refused_and_its_connection_goes_on)
{
    static uint8_t part[65536];
    open_all();
    stage.settings.process_byte_budget = 300000;
    sender_request(&sender, stream_id(0, 1), (struct bytes){0}, 0);
    for (int i = 0; i < 4; i++)
        sender_part(&sender, stream_id(0, 1), bytes_of(part, sizeof(part)), 0);
    cr_assert_eq(expect_reply(stream_id(0, 1)).code, ERROR_LIMIT);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
    sender_request(&sender, stream_id(1, 1), BYTES("small"), WIRE_END);
    stage_answer(&stage, stage_take(&stage), BYTES("b"));
    expect_reply(stream_id(1, 1));
}

Test(taker, a_large_answer_leaves_in_parts_as_credit_comes)
{
    static uint8_t body[1000000];
    struct wire_header header;
    struct wire_part part;
    size_t received = 0;
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (uint8_t)(i * 7);
    open_all();
    sender_request(&sender, stream_id(4, 1), BYTES("x"), WIRE_END);
    stage_answer(&stage, stage_take(&stage), bytes_of(body, sizeof(body)));
    struct wire_reply reply = expect_reply(stream_id(4, 1));
    cr_assert_eq(reply.body_size, sizeof(body));
    while (received < sizeof(body)) {
        cr_assert_eq(wire_part_read(&part, sender_expect(&sender, WIRE_PART_FRAME, &header)), 0);
        cr_assert(bytes_equal(part.body, bytes_of(body + received, part.body.size)));
        received += part.body.size;
        if (received % 262144 == 0)
            sender_credit(&sender, stream_id(4, 1), 262144);
    }
    cr_assert(header.flags & WIRE_END);
    cr_assert_eq(taker_ongoing(stage.taker), 0, "its place is free when the last part has left");
}

Test(taker, a_streamed_answer_waits_for_credit_and_room_is_told)
{
    static uint8_t piece[65536];
    struct wire_header header;
    struct taker_event event;
    open_all();
    sender_request(&sender, stream_id(4, 1), BYTES("x"), WIRE_END | WIRE_STREAM);
    struct taker_request *request = stage_take(&stage);
    cr_assert_eq(taker_begin(stage.taker, request, &(struct taker_answer){.body_size = UINT64_MAX}),
                 0);
    int written = 0;
    while (taker_write(stage.taker, request, bytes_of(piece, sizeof(piece))) == 0)
        written++;
    cr_assert_eq(written, 4, "the stream's credit is 256 KiB");
    expect_reply(stream_id(4, 1));
    for (int i = 0; i < written; i++)
        sender_expect(&sender, WIRE_PART_FRAME, &header);
    cr_assert_not(taker_next(stage.taker, &event));
    sender_credit(&sender, stream_id(4, 1), 65536);
    stage_turns(&stage, 50);
    cr_assert(taker_next(stage.taker, &event));
    cr_assert_eq(event.type, TAKER_ROOM);
    cr_assert_eq(taker_write(stage.taker, request, bytes_of(piece, sizeof(piece))), 0);
    taker_finish(stage.taker, request, 0, (struct bytes){0});
    sender_expect(&sender, WIRE_PART_FRAME, &header);
    sender_expect(&sender, WIRE_HALF_CLOSE_FRAME, &header);
}

Test(taker, the_end_of_a_batch_sets_the_time_of_the_next)
{
    struct taker_config config = {.max_ongoing = 8,
                                  .batched = true,
                                  .batch_size = 2,
                                  .batch_concurrency = 1,
                                  .batch_wait_ns = 50000000};
    struct taker_request *requests[2];
    bool batched;
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    for (uint32_t i = 0; i < 3; i++)
        sender_request(&sender, stream_id(i, 1), BYTES("x"), WIRE_END);
    while (taker_ongoing(stage.taker) < 3)
        stage_turns(&stage, 1);
    cr_assert_eq(taker_take(stage.taker, requests, 2, &batched), 2);
    stage_turns(&stage, 1);
    for (int i = 0; i < 2; i++)
        stage_answer(&stage, requests[i], BYTES("y"));
    taker_batch_done(stage.taker);
    cr_assert_eq(taker_take(stage.taker, requests, 2, &batched), 0, "it waits for a second one");
    /* No turn in between: whoever waits now must be woken for it (B1). */
    int wait_ms = loop_timeout_ms(stage.loop);
    cr_assert(wait_ms >= 0 && wait_ms <= 50, "%d", wait_ms);
    stage_answer(&stage, stage_take(&stage), BYTES("y"));
    taker_batch_done(stage.taker);
}

/* A caller tells credit half a window at a time: of 256 KiB it may hold back 131071 bytes for ever.
 */
Test(taker, a_part_larger_than_what_a_caller_surely_grants_leaves_nevertheless)
{
    enum { HELD_BACK = 131071, WINDOW = 262144, PART = 200000 };
    static uint8_t part[PART];
    struct wire_header header;
    struct wire_part piece;
    struct taker_event event;
    size_t received = 0;
    for (size_t i = 0; i < PART; i++)
        part[i] = (uint8_t)(i * 13);
    open_all();
    sender_request(&sender, stream_id(4, 1), BYTES("x"), WIRE_END | WIRE_STREAM);
    struct taker_request *request = stage_take(&stage);
    taker_begin(stage.taker, request, &(struct taker_answer){.body_size = UINT64_MAX});
    expect_reply(stream_id(4, 1));
    cr_assert_eq(taker_write(stage.taker, request, bytes_of(part, HELD_BACK)), 0);
    cr_assert_eq(taker_write(stage.taker, request, bytes_of(part, PART)), 0);
    cr_assert_eq(taker_write(stage.taker, request, BYTES("x")), ERROR_AGAIN, "one part at a time");
    while (received < WINDOW) {
        cr_assert_eq(wire_part_read(&piece, sender_expect(&sender, WIRE_PART_FRAME, &header)), 0);
        received += piece.body.size;
    }
    cr_assert_eq(received, WINDOW);
    cr_assert(header.flags & WIRE_MORE, "the rest of the part is not here yet");
    cr_assert_not(taker_next(stage.taker, &event));
    sender_credit(&sender, stream_id(4, 1), WINDOW - HELD_BACK);
    cr_assert_eq(wire_part_read(&piece, sender_expect(&sender, WIRE_PART_FRAME, &header)), 0);
    cr_assert(bytes_equal(piece.body, bytes_of(part + (WINDOW - HELD_BACK), piece.body.size)));
    while (header.flags & WIRE_MORE)
        sender_expect(&sender, WIRE_PART_FRAME, &header);
    cr_assert(taker_next(stage.taker, &event));
    cr_assert_eq(event.type, TAKER_ROOM);
    taker_finish(stage.taker, request, 0, (struct bytes){0});
    sender_expect(&sender, WIRE_HALF_CLOSE_FRAME, &header);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, the_end_of_a_streamed_answer_follows_what_is_still_leaving)
{
    static uint8_t part[300000];
    struct wire_header header;
    struct wire_half_close end;
    struct taker_event event;
    open_all();
    sender_request(&sender, stream_id(4, 1), BYTES("x"), WIRE_END | WIRE_STREAM);
    struct taker_request *request = stage_take(&stage);
    taker_begin(stage.taker, request, &(struct taker_answer){.body_size = UINT64_MAX});
    expect_reply(stream_id(4, 1));
    cr_assert_eq(taker_write(stage.taker, request, bytes_of(part, sizeof(part))), 0);
    taker_finish(stage.taker, request, 0, BYTES("trailers"));
    for (size_t received = 0; received < 262144; received += 65536)
        sender_expect(&sender, WIRE_PART_FRAME, &header);
    cr_assert_eq(taker_ongoing(stage.taker), 1);
    sender_credit(&sender, stream_id(4, 1), 131072);
    sender_expect(&sender, WIRE_PART_FRAME, &header);
    cr_assert_eq(wire_half_close_read(&end, sender_expect(&sender, WIRE_HALF_CLOSE_FRAME, &header)),
                 0);
    cr_assert(bytes_equal(end.trailers, BYTES("trailers")));
    cr_assert_eq(taker_ongoing(stage.taker), 0);
    cr_assert_not(taker_next(stage.taker, &event));
}

Test(taker, a_large_answer_to_somebody_who_cancelled_frees_its_place)
{
    static uint8_t body[1000000];
    struct taker_event event;
    open_all();
    sender_request(&sender, stream_id(4, 1), BYTES("x"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    sender_cancel(&sender, stream_id(4, 1));
    while (!taker_next(stage.taker, &event))
        stage_turns(&stage, 1);
    cr_assert_eq(event.type, TAKER_CANCELLED);
    stage_answer(&stage, request, bytes_of(body, sizeof(body)));
    cr_assert_eq(expect_reply(stream_id(4, 1)).code, ERROR_CANCELLED);
    cr_assert_eq(taker_ongoing(stage.taker), 0, "no credit would ever come for it");
}

Test(taker, a_request_that_is_answered_is_not_spoken_of_any_more)
{
    static uint8_t body[1000000];
    struct taker_config config = {.max_ongoing = 4, .streams_body = true};
    struct taker_event event;
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    sender_request(&sender, stream_id(4, 1), (struct bytes){0}, 0);
    struct taker_request *request = stage_take(&stage);
    sender_part(&sender, stream_id(4, 1), BYTES("unread"), 0);
    while (request->body.size == 0)
        stage_turns(&stage, 1);
    stage_answer(&stage, request, bytes_of(body, sizeof(body)));
    expect_reply(stream_id(4, 1));
    cr_assert_eq(taker_ongoing(stage.taker), 1, "most of the answer waits for credit");
    cr_assert_not(taker_next(stage.taker, &event));
}

Test(taker, a_cancel_ends_a_streamed_body_that_is_not_whole)
{
    struct taker_config config = {.max_ongoing = 4, .streams_body = true};
    struct taker_event event;
    bool ended = false;
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    sender_request(&sender, stream_id(4, 1), (struct bytes){0}, 0);
    struct taker_request *request = stage_take(&stage);
    sender_part(&sender, stream_id(4, 1), BYTES("the first half"), 0);
    sender_cancel(&sender, stream_id(4, 1));
    while (!request->cancelled)
        stage_turns(&stage, 1);
    while (taker_next(stage.taker, &event))
        ended |= event.type == TAKER_BODY && request->body_ended;
    cr_assert(ended);
    cr_assert_eq(request->body_error, ERROR_CANCELLED, "half of a body is not all of it");
}

Test(taker, a_cancel_before_taking_ends_it_and_after_taking_is_told)
{
    struct taker_event event;
    struct taker_request *request;
    bool batched;
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    sender_cancel(&sender, stream_id(0, 1));
    cr_assert_eq(expect_reply(stream_id(0, 1)).code, ERROR_CANCELLED);
    cr_assert_eq(taker_take(stage.taker, &request, 1, &batched), 0);
    sender_request(&sender, stream_id(0, 2), BYTES("b"), WIRE_END);
    request = stage_take(&stage);
    sender_cancel(&sender, stream_id(0, 2));
    while (!taker_next(stage.taker, &event))
        stage_turns(&stage, 1);
    cr_assert_eq(event.type, TAKER_CANCELLED);
    cr_assert_eq(event.request, request);
    cr_assert(request->cancelled);
    stage_answer(&stage, request, BYTES("too late"));
    expect_reply(stream_id(0, 2));
}

Test(taker, a_sender_that_leaves_frees_what_waits_and_tells_what_is_taken)
{
    struct taker_event event;
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    sender_request(&sender, stream_id(1, 1), BYTES("b"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    sender_close(&sender);
    while (!taker_next(stage.taker, &event))
        stage_turns(&stage, 1);
    cr_assert_eq(event.type, TAKER_CANCELLED);
    cr_assert_eq(taker_ongoing(stage.taker), 1);
    cr_assert_eq(taker_answer(stage.taker, request, &(struct taker_answer){0}), ERROR_CANCELLED);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

/* The request is cancelled and its entry point has returned, in either order. */
static void forget_one(uint32_t generation, bool returns_first)
{
    struct taker_event event;
    sender_request(&sender, stream_id(0, generation), BYTES("a"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    if (returns_first)
        taker_returned(stage.taker, request->id);
    cr_assert_eq(taker_ongoing(stage.taker), 1);
    sender_cancel(&sender, stream_id(0, generation));
    while (!taker_next(stage.taker, &event))
        stage_turns(&stage, 1);
    cr_assert_eq(event.type, TAKER_CANCELLED);
    if (!returns_first) {
        cr_assert_eq(taker_ongoing(stage.taker), 1);
        taker_returned(stage.taker, request->id);
    }
    cr_assert_eq(taker_ongoing(stage.taker), 0);
    taker_check(stage.taker);
    /* The sender hears the last word now; an answer that comes after all goes nowhere. */
    cr_assert_eq(expect_reply(stream_id(0, generation)).code, ERROR_CANCELLED);
    cr_assert_eq(taker_answer(stage.taker, request, &(struct taker_answer){0}), ERROR_CANCELLED);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, a_request_that_nobody_answers_and_nobody_wants_frees_its_place)
{
    open_all();
    forget_one(1, true);
    forget_one(2, false);
}

Test(taker, a_streamed_answer_that_nobody_ends_and_nobody_wants_is_ended)
{
    struct wire_header header;
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END | WIRE_STREAM);
    struct taker_request *request = stage_take(&stage);
    taker_begin(stage.taker, request, &(struct taker_answer){.body_size = UINT64_MAX});
    expect_reply(stream_id(0, 1));
    taker_returned(stage.taker, request->id);
    sender_cancel(&sender, stream_id(0, 1));
    sender_expect(&sender, WIRE_HALF_CLOSE_FRAME, &header);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
    cr_assert_eq(taker_write(stage.taker, request, BYTES("more")), ERROR_CANCELLED);
    taker_finish(stage.taker, request, 0, (struct bytes){0});
}

Test(taker, an_entry_point_that_returned_leaves_an_answered_request_alone)
{
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    uint64_t id = request->id;
    stage_answer(&stage, request, BYTES("b"));
    taker_returned(stage.taker, id);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
    sender_request(&sender, stream_id(1, 1), BYTES("c"), WIRE_END);
    request = stage_take(&stage);
    taker_returned(stage.taker, request->id);
    cr_assert_eq(taker_ongoing(stage.taker), 1);
    stage_answer(&stage, request, BYTES("later, from elsewhere"));
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, a_deadline_that_passes_in_the_queue_is_answered_and_never_taken)
{
    struct taker_request *request;
    bool batched;
    struct wire_request frame = {.deployment = 1, .deadline_us = 1000, .method = BYTES("__call__")};
    uint8_t room[256];
    open_all();
    sender_send(&sender, room, wire_request_write(&frame, WIRE_END, stream_id(0, 1), false, room));
    cr_assert_eq(expect_reply(stream_id(0, 1)).code, ERROR_TIMEOUT);
    cr_assert_eq(taker_take(stage.taker, &request, 1, &batched), 0);
}

Test(taker, a_drain_rejects_finishes_and_tells_once)
{
    struct taker_event event;
    struct wire_header header;
    struct wire_reject reject;
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    taker_drain(stage.taker, 60LL * 1000000000);
    sender_request(&sender, stream_id(1, 1), BYTES("b"), WIRE_END);
    cr_assert_eq(wire_reject_read(&reject, sender_expect(&sender, WIRE_REJECT_FRAME, &header)), 0);
    cr_assert_eq(reject.code, ERROR_CLOSED);
    cr_assert_not(taker_next(stage.taker, &event));
    stage_answer(&stage, request, BYTES("done"));
    expect_reply(stream_id(0, 1));
    cr_assert(taker_next(stage.taker, &event));
    cr_assert_eq(event.type, TAKER_DRAINED);
    cr_assert_not(taker_next(stage.taker, &event));
}

static void sender_websocket(struct sender *from, uint64_t stream)
{
    struct wire_request frame = {.deployment = 1,
                                 .kind = WIRE_KIND_WEBSOCKET,
                                 .body_size = UINT64_MAX,
                                 .method = BYTES("GET")};
    uint8_t room[256];
    sender_send(from, room, wire_request_write(&frame, WIRE_STREAM, stream, false, room));
}

Test(taker, a_websocket_is_taken_at_once_and_a_drain_asks_its_sender_to_leave)
{
    struct taker_answer accepts = {.status = 101, .body_size = UINT64_MAX};
    struct taker_event event;
    struct wire_header header;
    open_all();
    sender_websocket(&sender, stream_id(0, 1));
    struct taker_request *request = stage_take(&stage);
    cr_assert_eq(request->kind, WIRE_KIND_WEBSOCKET);
    cr_assert_not(request->body_ended, "its messages come later, whatever the deployment says");
    sender_request(&sender, stream_id(1, 1), BYTES("b"), WIRE_END);
    struct taker_request *plain = stage_take(&stage);
    taker_begin(stage.taker, request, &accepts);
    taker_drain(stage.taker, 60LL * 1000000000);
    sender_expect(&sender, WIRE_REPLY_FRAME, &header);
    sender_expect(&sender, WIRE_LEAVE_FRAME, &header);
    cr_assert_eq(header.stream, stream_id(0, 1), "the plain request is not asked");
    stage_answer(&stage, plain, BYTES("done"));
    expect_reply(stream_id(1, 1));
    taker_finish(stage.taker, request, 0, (struct bytes){0});
    cr_assert(taker_next(stage.taker, &event));
    cr_assert_eq(event.type, TAKER_DRAINED);
}

Test(taker, what_the_client_of_a_websocket_closed_with_comes_behind_its_messages)
{
    struct wire_cancel cancel = {
        .code = ERROR_CANCELLED, .close_code = 4001, .reason = BYTES("enough")};
    struct taker_answer accepts = {.status = 101, .body_size = UINT64_MAX};
    uint8_t room[256];
    open_all();
    sender_websocket(&sender, stream_id(0, 1));
    struct taker_request *request = stage_take(&stage);
    taker_begin(stage.taker, request, &accepts);
    sender_part(&sender, stream_id(0, 1), BYTES("a message"), 0);
    sender_send(&sender, room, wire_cancel_write(&cancel, 0, stream_id(0, 1), false, room));
    while (!request->cancelled)
        stage_turns(&stage, 1);
    cr_assert(bytes_equal(request->body, BYTES("a message")), "what came before is there");
    cr_assert_eq(request->close_code, 4001);
    cr_assert(bytes_equal(request->close_reason, BYTES("enough")));
    taker_consume(stage.taker, request, request->body.size);
    cr_assert_eq(taker_write(stage.taker, request, BYTES("too late")), ERROR_CANCELLED);
    taker_finish(stage.taker, request, 0, (struct bytes){0});
}

Test(taker, a_websocket_that_waits_holds_no_buffer)
{
    enum { COUNT = 20 };
    struct taker_config config = {.max_ongoing = COUNT};
    struct taker_answer accepts = {.status = 101, .body_size = UINT64_MAX};
    struct taker_request *requests[COUNT];
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    size_t before = buffer_store_live_bytes(stage.channels.buffers), one = 65536;
    for (uint32_t i = 0; i < COUNT; i++) {
        sender_websocket(&sender, stream_id(i, 1));
        requests[i] = stage_take(&stage);
        taker_begin(stage.taker, requests[i], &accepts);
        sender_part(&sender, stream_id(i, 1), BYTES("a message"), 0);
        while (!requests[i]->body.size)
            stage_turns(&stage, 1);
        taker_consume(stage.taker, requests[i], requests[i]->body.size);
        cr_assert(bytes_equal(requests[i]->method, BYTES("GET")), "what was asked stays");
    }
    cr_assert_leq(buffer_store_live_bytes(stage.channels.buffers), before + 4 * one);
    for (uint32_t i = 0; i < COUNT; i++)
        taker_finish(stage.taker, requests[i], 0, (struct bytes){0});
}

Test(taker, a_websocket_whose_sender_is_gone_ended_without_a_close)
{
    struct taker_answer accepts = {.status = 101, .body_size = UINT64_MAX};
    open_all();
    sender_websocket(&sender, stream_id(0, 1));
    struct taker_request *request = stage_take(&stage);
    taker_begin(stage.taker, request, &accepts);
    sender_close(&sender);
    while (!request->cancelled)
        stage_turns(&stage, 1);
    cr_assert_eq(request->close_code, 1006);
    taker_finish(stage.taker, request, 0, (struct bytes){0});
}

Test(taker, pings_are_answered_while_user_code_runs)
{
    struct wire_header header;
    struct wire_pong pong;
    struct wire_ping ping = {.token = 77};
    uint8_t room[64];
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    taker_running(stage.taker, loop_now_ns(stage.loop) - 5000000000LL);
    sender_send(&sender, room, wire_ping_write(&ping, 0, 0, false, room));
    cr_assert_eq(wire_pong_read(&pong, sender_expect(&sender, WIRE_PONG_FRAME, &header)), 0);
    cr_assert_eq(pong.token, 77);
    cr_assert_eq(pong.queue_length, 1);
    cr_assert_geq(pong.running_ms, 5000);
    stage_answer(&stage, request, BYTES(""));
    expect_reply(stream_id(0, 1));
}

/* ---- senders that lie ---- */

static void expect_breach(const void *at, size_t size)
{
    uint64_t before = metric_get(peer_glitches_total);
    open_all();
    sender_send(&sender, at, size);
    cr_assert(sender_has_ended(&sender));
    cr_assert_gt(metric_get(peer_glitches_total), before);
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, a_request_before_the_hello_ends_the_connection)
{
    stage_open(&stage, NULL);
    sender_connect(&sender, &stage);
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    cr_assert(sender_has_ended(&sender));
}

Test(taker, a_stream_beyond_the_marks_ends_the_connection)
{
    struct wire_request frame = {.method = BYTES("__call__")};
    uint8_t room[256];
    expect_breach(room, wire_request_write(&frame, WIRE_END, stream_id(16384, 1), false, room));
}

Test(taker, a_stream_used_twice_ends_the_connection)
{
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    sender_request(&sender, stream_id(0, 1), BYTES("b"), WIRE_END);
    cr_assert(sender_has_ended(&sender));
    cr_assert_eq(taker_ongoing(stage.taker), 0);
}

Test(taker, a_frame_with_a_length_outside_ends_the_connection)
{
    struct wire_header header = {.size = 6, .type = WIRE_REQUEST_FRAME, .stream = stream_id(0, 1)};
    uint8_t room[64] = {0};
    wire_header_write(&header, room);
    expect_breach(room, WIRE_HEADER_SIZE + 6);
}

Test(taker, a_frame_over_the_limit_ends_the_connection)
{
    struct wire_header header = {
        .size = UINT32_MAX, .type = WIRE_PART_FRAME, .stream = stream_id(0, 1)};
    uint8_t room[WIRE_HEADER_SIZE];
    wire_header_write(&header, room);
    expect_breach(room, sizeof(room));
}

Test(taker, more_body_than_credit_ends_the_connection)
{
    static uint8_t part[65536];
    struct taker_config config = {.max_ongoing = 4, .streams_body = true};
    stage_open(&stage, &config);
    sender_open(&sender, &stage);
    sender_request(&sender, stream_id(0, 1), (struct bytes){0}, 0);
    for (int i = 0; i < 6; i++)
        sender_part(&sender, stream_id(0, 1), bytes_of(part, sizeof(part)), 0);
    cr_assert(sender_has_ended(&sender));
}

Test(taker, frames_of_a_newer_peer_and_for_unknown_streams_are_passed_over)
{
    struct wire_header newer = {.size = 3, .type = 250};
    uint8_t room[64] = {0};
    open_all();
    wire_header_write(&newer, room);
    sender_send(&sender, room, WIRE_HEADER_SIZE + 3);
    sender_cancel(&sender, stream_id(11, 4));
    sender_credit(&sender, stream_id(11, 4), 10);
    sender_part(&sender, stream_id(11, 4), BYTES("late"), WIRE_END);
    sender_request(&sender, stream_id(0, 1), BYTES("a"), WIRE_END);
    stage_answer(&stage, stage_take(&stage), BYTES("b"));
    expect_reply(stream_id(0, 1));
}

/* ---- memory ---- */

Test(taker, after_warm_up_a_request_allocates_nothing)
{
    uint64_t before = 0;
    open_all();
    for (uint32_t i = 1; i <= 200; i++) {
        if (i == 100)
            before = mem_count().allocations;
        sender_request(&sender, stream_id(0, i), BYTES("ping"), WIRE_END);
        stage_answer(&stage, stage_take(&stage), BYTES("pong"));
        expect_reply(stream_id(0, i));
    }
    cr_assert_eq(mem_count().allocations, before, "%d more",
                 (int)(mem_count().allocations - before));
}

/* ---- models ---- */

/* The ids of the next frame, one after the other with a space behind each. */
static const char *expect_models(struct sender *from)
{
    static char words[4096];
    struct wire_header header;
    struct wire_models models;
    struct bytes id, empty;
    size_t size = 0;
    struct bytes payload = sender_expect(from, WIRE_MODELS_FRAME, &header);
    cr_assert_eq(header.stream, 0);
    cr_assert_eq(wire_models_read(&models, payload), 0);
    words[0] = 0;
    while (wire_field_next(&models.ids, &id, &empty)) {
        cr_assert_eq(empty.size, 0);
        size += (size_t)snprintf(words + size, sizeof words - size, "%.*s ", BYTES_PRINT(id));
    }
    cr_assert_eq(models.ids.size, 0);
    return words;
}

Test(taker, every_sender_hears_which_models_there_are)
{
    struct bytes ids[] = {BYTES("llama"), BYTES("bert"), BYTES("m3")};
    static struct sender other;
    stage_open(&stage, NULL);
    cr_assert_eq(taker_models(stage.taker, NULL, 0), 0);
    sender_open(&sender, &stage);
    cr_assert_str_eq(expect_models(&sender), "");
    cr_assert_eq(taker_models(stage.taker, ids, 2), 0);
    cr_assert_str_eq(expect_models(&sender), "llama bert ");
    sender_open(&other, &stage);
    cr_assert_str_eq(expect_models(&other), "llama bert ");
    cr_assert_eq(taker_models(stage.taker, ids + 1, 2), 0);
    cr_assert_str_eq(expect_models(&other), "bert m3 ");
    cr_assert_str_eq(expect_models(&sender), "bert m3 ");
    sender_close(&other);
}

Test(taker, the_models_are_told_before_the_answers_given_after)
{
    struct bytes id = BYTES("llama");
    stage_open(&stage, NULL);
    cr_assert_eq(taker_models(stage.taker, NULL, 0), 0);
    sender_open(&sender, &stage);
    expect_models(&sender);
    sender_request(&sender, stream_id(0, 1), BYTES("x"), WIRE_END);
    struct taker_request *request = stage_take(&stage);
    cr_assert_eq(taker_models(stage.taker, &id, 1), 0);
    stage_answer(&stage, request, BYTES("y"));
    cr_assert_str_eq(expect_models(&sender), "llama ");
    expect_reply(stream_id(0, 1));
}

Test(taker, who_never_said_a_model_tells_none)
{
    open_all();
    sender_request(&sender, stream_id(0, 1), BYTES("x"), WIRE_END);
    stage_answer(&stage, stage_take(&stage), BYTES("y"));
    expect_reply(stream_id(0, 1)); /* the first frame behind the hello */
}
