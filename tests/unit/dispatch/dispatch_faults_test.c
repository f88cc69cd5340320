/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: replicas that die, and replicas that do not keep to the protocol.
 */
#include <criterion/criterion.h>

#include "dispatch_world.h"
#include "socket.h"

TestSuite(dispatch_faults, .timeout = 60);

static int owner_a, owner_b;

/* ---- death ---- */

Test(dispatch_faults, an_untaken_call_of_a_dead_replica_goes_to_another)
{
    struct world *world = world_serving(2);
    uint64_t stream, again;

    world_call(world, &owner_a);
    struct peer *first = world_take_request(world, &stream);
    peer_deafen(first);
    peer_hang_up(first);
    struct peer *second = world_take_request(world, &again);
    cr_assert_neq(first, second);
    peer_say_reply(second, again, WIRE_END, 0, "answer");
    cr_assert_eq(world_event(world, DISPATCH_REPLY)->owner, &owner_a);
    world_await_ready(world, 1);
    world_free(world);
}

Test(dispatch_faults, a_taken_call_of_a_dead_replica_ends_with_replica_died)
{
    struct world *world = world_serving(2);
    uint64_t stream, lost = metric_get(requests_lost_total);

    world_call(world, &owner_a);
    struct peer *replica = world_take_request(world, &stream);
    peer_mark_taken(replica, stream);
    peer_deafen(replica);
    peer_hang_up(replica);
    world_ends(world, &owner_a, ERROR_REPLICA_DIED);
    cr_assert_eq(metric_get(requests_lost_total), lost + 1);
    world_idle(world);
    cr_assert(!peer_has_frame(&world->replicas[0]) && !peer_has_frame(&world->replicas[1]));
    world_free(world);
}

Test(dispatch_faults, an_answer_said_just_before_death_is_delivered)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];

    world_call(world, &owner_a);
    world_call(world, &owner_b);
    uint64_t first = peer_take_request(replica), second = peer_take_request(replica);
    peer_mark_taken(replica, first);
    peer_mark_taken(replica, second);
    peer_say_reply(replica, first, WIRE_END, 0, "last words");
    peer_hang_up(replica);
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert_eq(event->owner, &owner_a);
    cr_assert(bytes_equal(event->body, BYTES("last words")));
    world_ends(world, &owner_b, ERROR_REPLICA_DIED);
    world_free(world);
}

Test(dispatch_faults, an_answer_that_has_begun_is_not_repeated_elsewhere)
{
    struct world *world = world_serving(2);
    struct dispatch_request request = world_request("question");
    uint64_t stream;

    request.stream = true;
    world_submit(world, &request, &owner_a);
    struct peer *replica = world_take_request(world, &stream);
    peer_say_reply(replica, stream, 0, 200, "half an ");
    peer_hang_up(replica);
    world_event(world, DISPATCH_REPLY);
    world_ends(world, &owner_a, ERROR_REPLICA_DIED);
    world_free(world);
}

Test(dispatch_faults, a_call_waits_for_its_only_replica_to_come_back)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct bytes payload;

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_hang_up(replica);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(replica->accepted_count, 2);
    cr_assert_eq(peer_take_request(replica), stream);
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}

Test(dispatch_faults, a_streamed_call_finds_its_way_after_a_death)
{
    struct world *world = world_serving(2);
    struct dispatch_request request = world_request("");
    struct bytes payload;
    struct wire_part part;
    uint64_t stream;

    request.body_whole = false;
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    cr_assert_eq(dispatch_write(call, BYTES("all of it"), true), 9);
    struct peer *first = world_take_request(world, &stream);
    peer_take(first, WIRE_PART_FRAME, &payload);
    peer_deafen(first);
    peer_hang_up(first);
    struct peer *second = world_take_request(world, &stream);
    cr_assert_eq(peer_take(second, WIRE_PART_FRAME, &payload).flags, WIRE_END);
    cr_assert_eq(wire_part_read(&part, payload), 0);
    cr_assert(bytes_equal(part.body, BYTES("all of it")));
    world_free(world);
}

Test(dispatch_faults, the_slot_of_a_cancelled_call_is_free_when_its_replica_dies)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_call *calls[4];
    struct bytes payload;

    for (int i = 0; i < 4; i++)
        calls[i] = world_call(world, &owner_a);
    for (int i = 0; i < 4; i++) {
        peer_take_request(replica);
        dispatch_cancel(calls[i], ERROR_CANCELLED);
    }
    for (int i = 0; i < 4; i++)
        peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    peer_hang_up(replica);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    for (int i = 0; i < 4; i++) {
        world_call(world, &owner_b);
        peer_take_request(replica);
    }
    cr_assert(!world_has_event(world));
    world_free(world);
}

/* ---- a hello that is not right ---- */

/* The replica misbehaves, is not used, is told right, is used. */
static void is_refused_until(struct world *world, void (*lie)(struct peer *peer),
                             void (*behave)(struct peer *peer))
{
    struct peer *replica = &world->replicas[0];
    uint64_t glitches = metric_get(peer_glitches_total);
    struct bytes payload;

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    lie(replica);
    peer_listen(replica);
    world_serve(world, 1);
    world_call(world, &owner_a);
    for (int i = 0; i < 3; i++)
        peer_take(replica, WIRE_HELLO_FRAME,
                  &payload); /* it comes again, and says no more than its hello */
    cr_assert_geq(metric_get(peer_glitches_total), glitches + 2);
    cr_assert_eq(router_ready_replicas(dispatch_router(world->dispatch),
                                       (struct deployment_id){WORLD_DEPLOYMENT}),
                 0);
    behave(replica);
    world_await_ready(world, 1);
    while (peer_next(replica) == WIRE_HELLO_FRAME) /* of further attempts that failed */
        peer_take(replica, WIRE_HELLO_FRAME, &payload);
    uint64_t stream = peer_take_request(replica);
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}

static void wrong_id(struct peer *peer)
{
    peer->id = 42;
}
static void right_id(struct peer *peer)
{
    peer->id = 1;
}

Test(dispatch_faults, a_replica_with_another_id_is_not_used)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct bytes payload;

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    wrong_id(replica); /* after the snapshot named it */
    peer_listen(replica);
    for (int i = 0; i < 3; i++)
        peer_take(replica, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(router_ready_replicas(dispatch_router(world->dispatch),
                                       (struct deployment_id){WORLD_DEPLOYMENT}),
                 0);
    right_id(replica);
    world_await_ready(world, 1);
    world_free(world);
}

static void controller_role(struct peer *peer)
{
    peer->role = WIRE_ROLE_CONTROLLER;
}
static void replica_role(struct peer *peer)
{
    peer->role = WIRE_ROLE_REPLICA;
}

Test(dispatch_faults, a_peer_in_another_role_is_not_used)
{
    is_refused_until(world_new(), controller_role, replica_role);
}

static void no_page(struct peer *peer)
{
    peer->without_page = true;
}
static void with_page(struct peer *peer)
{
    peer->without_page = false;
}

Test(dispatch_faults, a_replica_without_a_page_of_marks_is_not_used)
{
    is_refused_until(world_new(), no_page, with_page);
}

static void small_page(struct peer *peer)
{
    peer->taken_count = 255;
}
static void large_page(struct peer *peer)
{
    peer->taken_count = 256;
}

Test(dispatch_faults, a_page_with_fewer_marks_than_requests_is_not_used)
{
    is_refused_until(world_new(), small_page, large_page);
}

static void huge_page(struct peer *peer)
{
    peer->taken_count = UINT32_MAX / 4; /* said, not there */
    peer->without_page = true;
}
static void small_again(struct peer *peer)
{
    peer->taken_count = 256;
    peer->without_page = false;
}

Test(dispatch_faults, a_page_of_any_size_is_not_believed)
{
    is_refused_until(world_new(), huge_page, small_again);
}

static void silent(struct peer *peer)
{
    peer->silent = true;
}
static void talkative(struct peer *peer)
{
    peer->silent = false;
}

Test(dispatch_faults, a_replica_that_says_no_hello_is_left_and_tried_again)
{
    struct world *world = world_new();
    world->settings.wire_hello_timeout_ms = 10;
    is_refused_until(world, silent, talkative);
}

/* ---- frames that are not right ---- */

/* One call at the only replica; what it then says ends the connection. */
struct breach {
    struct world *world;
    struct peer *replica;
    uint64_t stream, glitches;
};

static struct breach breach_begin(bool stream)
{
    struct dispatch_request request = world_request("question");
    struct breach breach = {.world = world_serving(1)};

    request.stream = stream;
    breach.replica = &breach.world->replicas[0];
    world_submit(breach.world, &request, &owner_a);
    breach.stream = peer_take_request(breach.replica);
    breach.glitches = metric_get(peer_glitches_total);
    return breach;
}

/* `code`: how the call ends; 0: it is sent again over the next connection. */
static void breach_ends(struct breach *breach, int code)
{
    struct bytes payload;

    peer_take(breach->replica, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(breach->replica->accepted_count, 2, "the link was closed and opened again");
    cr_assert_eq(metric_get(peer_glitches_total), breach->glitches + 1);
    if (code)
        world_ends(breach->world, &owner_a, code);
    else
        cr_assert_eq(peer_take_request(breach->replica), breach->stream);
    world_free(breach->world);
}

Test(dispatch_faults, more_than_the_credit_is_a_breach)
{
    struct breach breach = breach_begin(true);
    static uint8_t body[65536];

    peer_say_reply(breach.replica, breach.stream, 0, 200, "");
    world_event(breach.world, DISPATCH_REPLY);
    for (int i = 0; i < 4; i++) {
        peer_say_part(breach.replica, breach.stream, 0, bytes_of(body, sizeof body));
        world_event(breach.world, DISPATCH_DATA);
    }
    peer_say_part(breach.replica, breach.stream, 0, BYTES("!"));
    breach_ends(&breach, ERROR_REPLICA_DIED);
}

Test(dispatch_faults, more_than_the_credit_is_a_breach_for_a_cancelled_call_too)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    static uint8_t body[65536];
    struct bytes payload;

    struct dispatch_call *call = world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    dispatch_cancel(call, ERROR_CANCELLED);
    peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    peer_say_reply(replica, stream, 0, 200, "");
    for (int i = 0; i < 5; i++)
        peer_say_part(replica, stream, 0, bytes_of(body, sizeof body));
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(replica->accepted_count, 2);
    world_free(world);
}

Test(dispatch_faults, a_part_before_the_answers_head_is_a_breach)
{
    struct breach breach = breach_begin(false);
    peer_say_part(breach.replica, breach.stream, WIRE_END, BYTES("body"));
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_second_head_is_a_breach)
{
    struct breach breach = breach_begin(true);
    peer_say_reply(breach.replica, breach.stream, 0, 200, "one");
    peer_say_reply(breach.replica, breach.stream, WIRE_END, 200, "two");
    world_event(breach.world, DISPATCH_REPLY);
    breach_ends(&breach, ERROR_REPLICA_DIED);
}

Test(dispatch_faults, a_rejection_after_the_answers_head_is_a_breach)
{
    struct breach breach = breach_begin(true);
    peer_say_reply(breach.replica, breach.stream, 0, 200, "one");
    peer_say_reject(breach.replica, breach.stream, ERROR_LIMIT, 0);
    world_event(breach.world, DISPATCH_REPLY);
    breach_ends(&breach, ERROR_REPLICA_DIED);
}

Test(dispatch_faults, an_end_without_an_answer_is_a_breach)
{
    struct breach breach = breach_begin(true);
    peer_say_half_close(breach.replica, breach.stream, 0, (struct bytes){0});
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_positive_error_is_a_breach)
{
    struct breach breach = breach_begin(false);
    peer_say_error(breach.replica, breach.stream, 7, "what is this");
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_request_from_a_replica_is_a_breach)
{
    struct breach breach = breach_begin(false);
    uint8_t at[128];
    struct wire_request request = {.deployment = 1};
    peer_say(breach.replica, at, wire_request_write(&request, WIRE_END, breach.stream, false, at));
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_second_hello_is_a_breach)
{
    struct breach breach = breach_begin(false);
    peer_say_hello(breach.replica);
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_length_that_points_outside_its_frame_is_a_breach)
{
    struct breach breach = breach_begin(false);
    uint8_t at[64];
    struct wire_reply reply = {.error = BYTES("long enough")};
    size_t size = wire_reply_write(&reply, WIRE_END, breach.stream, false, at);
    at[0] -= 4; /* the payload's size, little-endian */
    peer_say(breach.replica, at, size - 4);
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_frame_over_the_limit_is_a_breach)
{
    struct breach breach = breach_begin(false);
    uint8_t at[WIRE_HEADER_SIZE];
    struct wire_header header = {.size = 300000, .type = WIRE_REPLY_FRAME, .stream = breach.stream};
    wire_header_write(&header, at);
    peer_say(breach.replica, at, sizeof at);
    breach_ends(&breach, 0);
}

Test(dispatch_faults, credit_beyond_counting_is_a_breach)
{
    struct breach breach = breach_begin(false);
    peer_say_credit(breach.replica, breach.stream, UINT32_MAX);
    breach_ends(&breach, 0);
}

Test(dispatch_faults, a_frame_cut_short_by_death_is_no_answer)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    uint8_t at[256];
    struct bytes payload;
    struct wire_reply reply = {.body = BYTES("never whole")};

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    size_t size = wire_reply_write(&reply, WIRE_END, stream, false, at);
    peer_say(replica, at, size - 1);
    peer_hang_up(replica);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(peer_take_request(replica), stream);
    world_free(world);
}

Test(dispatch_faults, frames_for_streams_that_nobody_knows_are_counted_and_dropped)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    uint64_t glitches = metric_get(peer_glitches_total);
    const uint64_t strange[] = {1, UINT64_MAX, (uint64_t)1 << 33, ((uint64_t)9 << 32) | 3,
                                0xffffffff};

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        cr_assert_neq(strange[i], stream);
        peer_say_reply(replica, strange[i], WIRE_END, 200, "for whom");
    }
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    cr_assert(bytes_equal(world_event(world, DISPATCH_REPLY)->body, BYTES("answer")));
    cr_assert_eq(metric_get(peer_glitches_total), glitches + sizeof strange / sizeof strange[0]);
    peer_say_reply(replica, stream, WIRE_END, 0, "once more");
    world_idle(world);
    cr_assert(!world_has_event(world), "R1");
    cr_assert(channel_is_open(&replica->channel));
    world_free(world);
}

Test(dispatch_faults, a_replica_cannot_answer_for_another)
{
    struct world *world = world_serving(2);
    uint64_t stream;

    world_call(world, &owner_a);
    struct peer *asked = world_take_request(world, &stream);
    struct peer *other = asked == &world->replicas[0] ? &world->replicas[1] : &world->replicas[0];
    peer_say_reply(other, stream, WIRE_END, 0, "forged");
    world_idle(world);
    cr_assert(!world_has_event(world));
    peer_say_reply(asked, stream, WIRE_END, 0, "true");
    cr_assert(bytes_equal(world_event(world, DISPATCH_REPLY)->body, BYTES("true")));
    world_free(world);
}

Test(dispatch_faults, a_frame_of_a_newer_version_is_skipped)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    uint8_t at[WIRE_HEADER_SIZE + 4] = {0};
    struct wire_header header = {.size = 4, .type = 200, .stream = 0};

    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    wire_header_write(&header, at);
    peer_say(replica, at, sizeof at);
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}

Test(dispatch_faults, a_request_larger_than_a_replica_accepts_is_refused)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");
    static uint8_t headers[100000];
    struct bytes payload;

    world_start(world);
    replica->frame_limit = 65536;
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    request.headers = bytes_of(headers, sizeof headers);
    world_submit(world, &request, &owner_a);
    world_ends(world, &owner_a, ERROR_LIMIT);
    world_call(world, &owner_b);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    peer_take_request(replica);
    world_free(world);
}

/* ---- signs of life ---- */

Test(dispatch_faults, a_ping_is_answered_with_its_token)
{
    struct world *world = world_serving(1);
    uint8_t at[64];
    struct wire_ping ping = {.token = 12345};
    struct wire_pong pong;
    struct bytes payload;

    peer_say(&world->replicas[0], at, wire_ping_write(&ping, 0, 0, false, at));
    peer_take(&world->replicas[0], WIRE_PONG_FRAME, &payload);
    cr_assert_eq(wire_pong_read(&pong, payload), 0);
    cr_assert_eq(pong.token, 12345);
    world_free(world);
}

Test(dispatch_faults, a_replica_that_owes_an_answer_is_pinged_and_left_out_while_it_is_silent)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct wire_ping ping;
    struct bytes payload;

    world->settings.silence_limit_ms = 50;
    world_start(world);
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    world_await_ready(world, 1);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    peer_take(replica, WIRE_PING_FRAME, &payload);
    cr_assert_eq(wire_ping_read(&ping, payload), 0);
    world_await_ready(world, 0);
    peer_say_pong(replica, ping.token);
    world_await_ready(world, 1);
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}
