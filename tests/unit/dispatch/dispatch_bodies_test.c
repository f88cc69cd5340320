/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: bodies in parts, both ways: credit, collecting, keeping for a retry, channels that are
 * full.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "dispatch_world.h"

TestSuite(dispatch_bodies, .timeout = 60);

enum { CREDIT = 262144, PART = 65536 };

static int owner_a;

/* A body whose every byte depends on its place. */
static struct bytes pattern(size_t size)
{
    static uint8_t at[4 << 20];
    cr_assert_leq(size, sizeof at);
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
    return bytes_of(at, size);
}

/* Parts of one stream into `ret_body`, until `size` bytes are there; the flags of the last. */
static uint8_t take_parts(struct peer *peer, uint64_t stream, uint8_t *ret_body, size_t size)
{
    struct bytes payload;
    struct wire_part part;
    struct wire_header header = {0};

    for (size_t got = 0; got < size; got += part.body.size) {
        header = peer_take(peer, WIRE_PART_FRAME, &payload);
        cr_assert_eq(header.stream, stream);
        cr_assert_eq(wire_part_read(&part, payload), 0);
        cr_assert_leq(part.body.size, PART);
        cr_assert_leq(got + part.body.size, size);
        memcpy(ret_body + got, part.body.at, part.body.size);
    }
    return header.flags;
}

static uint32_t take_credit(struct peer *peer, uint64_t stream)
{
    struct bytes payload;
    struct wire_credit credit;
    cr_assert_eq(peer_take(peer, WIRE_CREDIT_FRAME, &payload).stream, stream);
    cr_assert_eq(wire_credit_read(&credit, payload), 0);
    return credit.size;
}

static struct dispatch_request streamed_request(void)
{
    struct dispatch_request request = world_request("");
    request.body_whole = false;
    request.body_size = UINT64_MAX;
    request.stream = true;
    return request;
}

/* ---- answers ---- */

Test(dispatch_bodies, an_answer_in_parts_is_collected_into_one_reply)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 201, "one ");
    peer_say_part(replica, stream, 0, BYTES("two "));
    peer_say_part(replica, stream, 0, (struct bytes){0});
    peer_say_part(replica, stream, WIRE_END, BYTES("three"));
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert_eq(event->owner, &owner_a);
    cr_assert(event->end);
    cr_assert_eq(event->status, 201);
    cr_assert(bytes_equal(event->body, BYTES("one two three")));
    cr_assert(bytes_equal(event->content_type, BYTES("text/plain")));
    cr_assert(bytes_equal(event->headers, BYTES("\x01\x00\x01\x00xy")));
    cr_assert_not_null(event->buffer);
    world_free(world);
}

Test(dispatch_bodies, trailers_come_with_the_collected_reply)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "body");
    peer_say_half_close(replica, stream, 0, BYTES("\x01\x00\x01\x00tv"));
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert(bytes_equal(event->body, BYTES("body")));
    cr_assert(bytes_equal(event->trailers, BYTES("\x01\x00\x01\x00tv")));
    world_free(world);
}

Test(dispatch_bodies, a_collected_answer_that_breaks_off_is_an_error)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "body");
    peer_say_half_close(replica, stream, ERROR_USER, (struct bytes){0});
    world_ends(world, &owner_a, ERROR_USER);
    world_free(world);
}

Test(dispatch_bodies, a_large_answer_is_collected_under_credit)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct bytes body = pattern(3 << 20);
    size_t sent = 0, credit = CREDIT;

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "");
    while (sent < body.size) {
        while (credit < PART)
            credit += take_credit(replica, stream);
        struct bytes part = bytes_head(bytes_skip(body, sent), PART);
        peer_say_part(replica, stream, sent + part.size == body.size ? WIRE_END : 0, part);
        sent += part.size;
        credit -= part.size;
        world_turn(world);
    }
    cr_assert(bytes_equal(world_event(world, DISPATCH_REPLY)->body, body));
    world_free(world);
}

Test(dispatch_bodies, an_answer_over_the_limit_ends_the_call_and_stops_the_replica)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct bytes payload;

    world->settings.body_collect_limit = 1000;
    world_start(world);
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "");
    peer_say_part(replica, stream, 0, pattern(1000));
    world_idle(world);
    cr_assert(!world_has_event(world));
    peer_say_part(replica, stream, 0, BYTES("!"));
    world_ends(world, &owner_a, ERROR_LIMIT);
    cr_assert_eq(peer_take(replica, WIRE_CANCEL_FRAME, &payload).stream, stream);
    peer_say_part(replica, stream, WIRE_END, BYTES("the rest"));
    world_idle(world);
    cr_assert(!world_has_event(world));

    world_call(world, &owner_a); /* the last part may be the one too many */
    stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "x");
    peer_say_part(replica, stream, WIRE_END, pattern(1000));
    world_ends(world, &owner_a, ERROR_LIMIT);
    world_free(world);
}

Test(dispatch_bodies, a_streamed_answer_comes_part_by_part_with_trailers_at_its_end)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");
    struct bytes payload;

    request.stream = true;
    world_submit(world, &request, &owner_a);
    struct wire_header header = peer_take(replica, WIRE_REQUEST_FRAME, &payload);
    cr_assert_eq(header.flags, WIRE_END | WIRE_STREAM);
    peer_say_reply(replica, header.stream, 0, 200, "head");
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert(!event->end);
    cr_assert_eq(event->body_size, UINT64_MAX);
    cr_assert(bytes_equal(event->body, BYTES("head")));
    peer_say_part(replica, header.stream, 0, BYTES("one"));
    cr_assert(bytes_equal(world_event(world, DISPATCH_DATA)->body, BYTES("one")));
    peer_say_part(replica, header.stream, 0, BYTES("two"));
    cr_assert(bytes_equal(world_event(world, DISPATCH_DATA)->body, BYTES("two")));
    peer_say_half_close(replica, header.stream, 0, BYTES("\x01\x00\x01\x00tv"));
    event = world_event(world, DISPATCH_END);
    cr_assert_eq(event->code, 0);
    cr_assert(bytes_equal(event->trailers, BYTES("\x01\x00\x01\x00tv")));
    world_free(world);
}

Test(dispatch_bodies, the_last_part_of_a_streamed_answer_is_data_and_then_the_end)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");

    request.stream = true;
    world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "");
    peer_say_part(replica, stream, WIRE_END, BYTES("last"));
    world_event(world, DISPATCH_REPLY);
    cr_assert(bytes_equal(world_event(world, DISPATCH_DATA)->body, BYTES("last")));
    world_ends(world, &owner_a, 0);
    world_free(world);
}

Test(dispatch_bodies, what_the_owner_has_used_is_granted_again_by_half_windows)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");

    request.stream = true;
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "");
    world_event(world, DISPATCH_REPLY);
    for (int i = 0; i < CREDIT / PART; i++) {
        peer_say_part(replica, stream, 0, pattern(PART));
        cr_assert(bytes_equal(world_event(world, DISPATCH_DATA)->body, pattern(PART)));
    }
    world_idle(world);
    cr_assert(!peer_has_frame(replica), "no credit before something was used");
    dispatch_grant(call, PART);
    world_idle(world);
    cr_assert(!peer_has_frame(replica), "less than half of the window is not worth a frame");
    dispatch_grant(call, PART);
    cr_assert_eq(take_credit(replica, stream), 2 * PART);
    dispatch_grant(call, 100 * PART); /* more than was given: counts as all of it */
    cr_assert_eq(take_credit(replica, stream), 2 * PART);
    world_free(world);
}

/* ---- requests ---- */

Test(dispatch_bodies, a_long_whole_body_travels_in_parts_as_credit_comes)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("");
    struct wire_request heard;
    struct bytes body = pattern(1 << 20), payload;
    uint8_t *got = malloc(body.size);

    request.body = body;
    world_submit(world, &request, &owner_a);
    struct wire_header header = peer_take(replica, WIRE_REQUEST_FRAME, &payload);
    cr_assert_eq(header.flags, 0);
    cr_assert_eq(wire_request_read(&heard, payload), 0);
    cr_assert_eq(heard.body_size, body.size);
    cr_assert_eq(heard.body.size, 0);
    take_parts(replica, header.stream, got, CREDIT);
    world_idle(world);
    cr_assert(!peer_has_frame(replica), "never more than the credit");
    peer_say_credit(replica, header.stream, 1000);
    take_parts(replica, header.stream, got + CREDIT, 1000);
    peer_say_credit(replica, header.stream, 1 << 20);
    uint8_t flags =
        take_parts(replica, header.stream, got + CREDIT + 1000, body.size - CREDIT - 1000);
    cr_assert_eq(flags, WIRE_END);
    cr_assert(bytes_equal(bytes_of(got, body.size), body));
    peer_say_reply(replica, header.stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    free(got);
    world_free(world);
}

Test(dispatch_bodies, a_body_that_fits_one_frame_but_not_a_block_is_sent_whole)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("");
    struct wire_request heard;
    struct bytes payload;

    request.body = pattern(PART);
    world_submit(world, &request, &owner_a);
    struct wire_header header = peer_take(replica, WIRE_REQUEST_FRAME, &payload);
    cr_assert_eq(header.flags, WIRE_END);
    cr_assert_eq(wire_request_read(&heard, payload), 0);
    cr_assert(bytes_equal(heard.body, pattern(PART)));
    peer_say_reply(replica, header.stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}

Test(dispatch_bodies, a_streamed_body_is_written_as_far_as_credit_goes_and_room_is_told)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = streamed_request();
    struct bytes body = pattern(1 << 20), payload;
    uint8_t *got = malloc(body.size);
    size_t taken = 0;

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take(replica, WIRE_REQUEST_FRAME, &payload).stream;
    world_event(world, DISPATCH_ROOM);
    cr_assert_eq(dispatch_write_room(call), CREDIT);
    taken = dispatch_write(call, body, true);
    cr_assert_eq(taken, CREDIT);
    cr_assert_eq(dispatch_write_room(call), 0);
    take_parts(replica, stream, got, CREDIT);
    while (taken < body.size) {
        world_idle(world);
        cr_assert(!world_has_event(world));
        peer_say_credit(replica, stream, 100000);
        world_event(world, DISPATCH_ROOM);
        size_t more = dispatch_write(call, bytes_skip(body, taken), true);
        cr_assert_eq(more, body.size - taken < 100000 ? body.size - taken : 100000);
        uint8_t flags = take_parts(replica, stream, got + taken, more);
        taken += more;
        cr_assert_eq(flags, taken == body.size ? WIRE_END : 0);
        dispatch_check(world->dispatch);
    }
    cr_assert(bytes_equal(bytes_of(got, body.size), body));
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    free(got);
    world_free(world);
}

Test(dispatch_bodies, a_streamed_body_that_ends_without_data_is_half_closed)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = streamed_request();
    struct wire_half_close close;
    struct bytes payload;
    uint8_t got[4];

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    cr_assert_eq(dispatch_write(call, BYTES("data"), false), 4);
    cr_assert_eq(dispatch_write(call, (struct bytes){0}, true), 0);
    take_parts(replica, stream, got, 4);
    cr_assert_eq(peer_take(replica, WIRE_HALF_CLOSE_FRAME, &payload).stream, stream);
    cr_assert_eq(wire_half_close_read(&close, payload), 0);
    cr_assert_eq(close.code, 0);
    world_free(world);
}

Test(dispatch_bodies, a_body_that_breaks_off_is_told_to_the_replica)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = streamed_request();
    struct wire_half_close close;
    struct bytes payload;
    uint8_t got[4];

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    cr_assert_eq(dispatch_write(call, BYTES("data"), false), 4);
    dispatch_write_abort(call, ERROR_CANCELLED);
    take_parts(replica, stream, got, 4);
    peer_take(replica, WIRE_HALF_CLOSE_FRAME, &payload);
    cr_assert_eq(wire_half_close_read(&close, payload), 0);
    cr_assert_eq(close.code, ERROR_CANCELLED);
    peer_say_error(replica, stream, ERROR_INVALID, "the body broke off");
    world_event(world, DISPATCH_ROOM); /* the one of the beginning */
    world_ends(world, &owner_a, ERROR_INVALID);
    world_free(world);
}

Test(dispatch_bodies, nothing_is_taken_of_a_body_while_the_call_waits)
{
    struct world *world = world_new();
    struct dispatch_request request = streamed_request();
    struct bytes payload;
    uint8_t got[4];

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    cr_assert_eq(dispatch_write_room(call), 0);
    cr_assert_eq(dispatch_write(call, BYTES("data"), true), 0);
    peer_listen(&world->replicas[0]);
    world_event(world, DISPATCH_ROOM);
    cr_assert_eq(dispatch_write(call, BYTES("data"), true), 4);
    peer_take(&world->replicas[0], WIRE_HELLO_FRAME, &payload);
    uint64_t stream = peer_take_request(&world->replicas[0]);
    cr_assert_eq(take_parts(&world->replicas[0], stream, got, 4), WIRE_END);
    world_free(world);
}

Test(dispatch_bodies, a_rejected_streamed_body_is_repeated_elsewhere_from_its_first_byte)
{
    struct world *world = world_serving(2);
    struct dispatch_request request = streamed_request();
    struct bytes body = pattern(200000);
    uint8_t *got = malloc(body.size);
    uint64_t stream;

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    cr_assert_eq(dispatch_write(call, bytes_head(body, 150000), false), 150000);
    struct peer *first = world_take_request(world, &stream);
    take_parts(first, stream, got, 150000);
    peer_say_reject(first, stream, ERROR_LIMIT, 4);
    struct peer *second = world_take_request(world, &stream);
    cr_assert_neq(first, second);
    take_parts(second, stream, got, 150000);
    cr_assert_eq(dispatch_write(call, bytes_skip(body, 150000), true), 50000);
    cr_assert_eq(take_parts(second, stream, got + 150000, 50000), WIRE_END);
    cr_assert(bytes_equal(bytes_of(got, body.size), body));
    peer_say_reply(second, stream, WIRE_END, 0, "answer");
    while (world_any_event(world)->type != DISPATCH_REPLY)
        ;
    free(got);
    world_free(world);
}

Test(dispatch_bodies, a_rejected_body_of_which_more_has_flowed_than_is_kept_cannot_be_repeated)
{
    struct world *world = world_serving(2);
    struct dispatch_request request = streamed_request();
    uint8_t *got = malloc(2 * CREDIT);
    uint64_t stream;

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    world_event(world, DISPATCH_ROOM);
    struct peer *replica = world_take_request(world, &stream);
    peer_say_credit(replica, stream, PART);
    world_idle(world);
    cr_assert_eq(dispatch_write(call, pattern(2 * CREDIT), false), CREDIT + PART);
    take_parts(replica, stream, got, CREDIT + PART);
    peer_say_reject(replica, stream, ERROR_LIMIT, 4);
    world_ends(world, &owner_a, ERROR_UNAVAILABLE);
    free(got);
    world_free(world);
}

Test(dispatch_bodies, an_answer_before_the_body_is_whole_ends_the_call_and_stops_the_body)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = streamed_request();
    struct bytes payload;
    uint8_t got[4];

    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    world_event(world, DISPATCH_ROOM);
    cr_assert_eq(dispatch_write(call, BYTES("data"), false), 4);
    uint64_t stream = peer_take_request(replica);
    take_parts(replica, stream, got, 4);
    peer_say_reply(replica, stream, WIRE_END, 413, "enough");
    cr_assert_eq(world_event(world, DISPATCH_REPLY)->status, 413);
    cr_assert_eq(peer_take(replica, WIRE_CANCEL_FRAME, &payload).stream, stream);
    peer_say_credit(replica, stream, 1000); /* crossed: no fault */
    world_idle(world);
    cr_assert(channel_is_open(&replica->channel));
    world_free(world);
}

Test(dispatch_bodies, bodies_wait_for_a_replica_that_does_not_read_and_all_arrive)
{
    enum { CALLS = 100 };
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("");
    struct dispatch_call *streamed;
    struct bytes payload;
    uint64_t stream;

    world->settings.wire_queue_limit = 65536;
    world->max_ongoing = CALLS + 2;
    world_start(world);
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    world_await_ready(world, 1);
    replica->reads_nothing = true;
    request.body = pattern(20000);
    for (int i = 0; i < CALLS; i++)
        world_submit(world, &request, &owner_a);
    world_idle(world);
    request = streamed_request();
    streamed = world_submit(world, &request, &owner_a);
    world_idle(world);
    cr_assert_eq(dispatch_write(streamed, BYTES("data"), false), 0, "its head is not even sent");

    struct dispatch_call *unsent = world_call(world, &owner_a);
    dispatch_cancel(unsent, ERROR_CANCELLED); /* of this one nothing has left, nor will */
    dispatch_check(world->dispatch);

    peer_read_again(replica);
    for (int i = 0; i < CALLS; i++) {
        stream = peer_take_request(replica);
        peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    }
    peer_take_request(replica);
    int replies = 0, rooms = 0;
    while (replies < CALLS || rooms == 0) {
        const struct dispatch_event *event = world_any_event(world);
        replies += event->type == DISPATCH_REPLY;
        rooms += event->type == DISPATCH_ROOM;
    }
    dispatch_cancel(streamed, ERROR_CANCELLED);
    world_free(world);
}

Test(dispatch_bodies, a_body_over_the_budget_of_the_process_is_refused)
{
    struct world *world = world_new();
    struct dispatch_request request = world_request("");
    struct error error = {0};

    world->settings.process_byte_budget = 1 << 20;
    world_start(world);
    request.body = pattern(2 << 20);
    cr_assert_null(dispatch_submit(world->dispatch, &request, &owner_a, &error));
    cr_assert_eq(error.code, ERROR_LIMIT);
    dispatch_check(world->dispatch);
    world_free(world);
}

Test(dispatch_bodies, items_of_a_stream_keep_their_borders_the_empty_ones_too)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");
    const struct dispatch_event *event;

    request.stream = true;
    world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 0, "");
    peer_say_part(replica, stream, WIRE_MORE, BYTES("half an "));
    peer_say_part(replica, stream, 0, BYTES("item"));
    peer_say_part(replica, stream, 0, (struct bytes){0});
    peer_say_half_close(replica, stream, 0, (struct bytes){0});
    world_event(world, DISPATCH_REPLY);
    cr_assert(world_event(world, DISPATCH_DATA)->more);
    cr_assert(!world_event(world, DISPATCH_DATA)->more);
    event = world_event(world, DISPATCH_DATA);
    cr_assert(event->body.size == 0 && !event->more);
    world_ends(world, &owner_a, 0);
    world_free(world);
}

Test(dispatch_bodies, an_empty_last_part_is_just_the_end)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");

    request.stream = true;
    world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, 0, 200, "all");
    peer_say_part(replica, stream, WIRE_END, (struct bytes){0});
    world_event(world, DISPATCH_REPLY);
    world_ends(world, &owner_a, 0);
    world_free(world);
}

Test(dispatch_bodies, parts_written_straight_wait_for_room_in_the_channel)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = streamed_request();
    struct bytes body = pattern(4 << 20), payload;
    uint8_t *got = malloc(body.size);
    size_t taken = 0, heard = 0;

    world->settings.wire_queue_limit = 65536;
    world_start(world);
    replica->stream_credit = 16 << 20; /* never what is lacking */
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take_request(replica);
    while (heard < body.size) {
        if (taken < body.size)
            taken += dispatch_write(call, bytes_skip(body, taken), true);
        dispatch_check(world->dispatch);
        world_turn(world);
        while (peer_has_frame(replica)) {
            struct wire_part part;
            struct wire_header header = peer_take(replica, WIRE_PART_FRAME, &payload);
            cr_assert_eq(header.stream, stream);
            cr_assert_eq(wire_part_read(&part, payload), 0);
            memcpy(got + heard, part.body.at, part.body.size);
            heard += part.body.size;
            cr_assert_eq(header.flags, heard == body.size ? WIRE_END : 0);
        }
    }
    cr_assert(bytes_equal(bytes_of(got, heard), body));
    free(got);
    world_free(world);
}
