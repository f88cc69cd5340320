/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: calls that go well, that are sent elsewhere, that are given up, and what they cost.
 */
#include <criterion/criterion.h>

#include "dispatch_world.h"

TestSuite(dispatch_calls, .timeout = 60);

static int owner_a, owner_b, owner_c;

Test(dispatch_calls, first_snapshot_and_a_call)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct wire_request heard;
    struct bytes payload;
    cr_assert(dispatch_connected(world->dispatch));

    struct dispatch_call *call = world_call(world, &owner_a);
    struct wire_header header = peer_take(replica, WIRE_REQUEST_FRAME, &payload);
    cr_assert_eq(header.stream, dispatch_call_id(call));
    cr_assert_eq(header.flags, WIRE_END);
    cr_assert_eq(wire_request_read(&heard, payload), 0);
    cr_assert_eq(heard.deployment, WORLD_DEPLOYMENT);
    cr_assert_eq(heard.deadline_us, 0);
    cr_assert_eq(heard.body_size, 8);
    cr_assert(bytes_equal(heard.method, BYTES("predict")));
    cr_assert(bytes_equal(heard.content_type, BYTES("text/plain")));
    cr_assert(bytes_equal(heard.request_id, BYTES("r-1")));
    cr_assert(bytes_equal(heard.body, BYTES("question")));
    cr_assert_eq(metric_get(requests_in_flight), 1);

    peer_say_reply(replica, header.stream, WIRE_END, 200, "answer");
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert_eq(event->owner, &owner_a);
    cr_assert_eq(event->call, call);
    cr_assert(event->end);
    cr_assert_eq(event->code, 0);
    cr_assert_eq(event->status, 200);
    cr_assert_eq(event->body_size, 6);
    cr_assert(bytes_equal(event->body, BYTES("answer")));
    cr_assert(bytes_equal(event->content_type, BYTES("text/plain")));
    cr_assert_eq(event->headers.size, 6);
    world_idle(world);
    cr_assert(!world_has_event(world), "a call ends once (R1)");
    cr_assert_eq(metric_get(requests_in_flight), 0);
    world_free(world);
}

Test(dispatch_calls, an_error_of_the_code_ends_the_call_with_its_text)
{
    struct world *world = world_serving(1);
    world_call(world, &owner_a);
    uint64_t stream = peer_take_request(&world->replicas[0]);
    peer_say_error(&world->replicas[0], stream, ERROR_USER, "division by zero");
    const struct dispatch_event *event = world_event(world, DISPATCH_END);
    cr_assert_eq(event->code, ERROR_USER);
    cr_assert(bytes_equal(event->text, BYTES("division by zero")));
    world_free(world);
}

Test(dispatch_calls, a_call_before_any_replica_is_ready_waits_for_it)
{
    struct world *world = world_new();
    struct bytes payload;

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    peer_take(&world->controller, WIRE_SUBSCRIBE_FRAME, &payload);
    world_serve(world, 1);
    world_call(world, &owner_a);
    cr_assert_eq(metric_get(requests_waiting), 1);
    world_idle(world); /* nobody listens yet: the link is tried again and again */
    peer_listen(&world->replicas[0]);
    peer_take(&world->replicas[0], WIRE_HELLO_FRAME, &payload);
    uint64_t stream = peer_take_request(&world->replicas[0]);
    peer_say_reply(&world->replicas[0], stream, WIRE_END, 0, "late");
    world_event(world, DISPATCH_REPLY);
    cr_assert_eq(metric_get(requests_waiting), 0);
    world_free(world);
}

Test(dispatch_calls, a_rejected_call_goes_to_the_other_replica)
{
    struct world *world = world_serving(2);
    uint64_t first_stream, second_stream, retried = metric_get(requests_retried_total);

    world_call(world, &owner_a);
    struct peer *first = world_take_request(world, &first_stream);
    peer_say_reject(first, first_stream, ERROR_LIMIT, 4);
    struct peer *second = world_take_request(world, &second_stream);
    cr_assert_neq(first, second);
    cr_assert_eq(first_stream, second_stream, "the stream is the call's id");
    cr_assert_eq(metric_get(requests_retried_total), retried + 1);
    peer_say_reply(second, second_stream, WIRE_END, 0, "answer");
    cr_assert_eq(world_event(world, DISPATCH_REPLY)->owner, &owner_a);
    world_free(world);
}

Test(dispatch_calls, calls_beyond_the_replicas_limit_wait_and_follow)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    uint64_t streams[6];

    for (int i = 0; i < 6; i++)
        world_call(world, &owner_a);
    cr_assert_eq(metric_get(requests_in_flight), 4, "R2");
    cr_assert_eq(metric_get(requests_waiting), 2);
    for (int i = 0; i < 4; i++)
        streams[i] = peer_take_request(replica);
    world_idle(world);
    cr_assert(!peer_has_frame(replica));
    for (int i = 0; i < 6; i++) {
        if (i >= 4)
            streams[i] = peer_take_request(replica);
        peer_say_reply(replica, streams[i], WIRE_END, 0, "answer");
        world_event(world, DISPATCH_REPLY);
    }
    world_free(world);
}

Test(dispatch_calls, a_full_queue_refuses_with_busy)
{
    struct world *world = world_new();
    struct bytes payload;

    world->max_ongoing = 1;
    world->max_queued = 1;
    world_start(world);
    peer_listen(&world->replicas[0]);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    world_await_ready(world, 1);
    uint64_t refused = metric_get(requests_refused_total);
    world_call(world, &owner_a);
    world_call(world, &owner_b);
    world_call(world, &owner_c);
    world_ends(world, &owner_c, ERROR_BUSY);
    cr_assert_eq(metric_get(requests_refused_total), refused + 1);
    world_free(world);
}

Test(dispatch_calls, a_call_to_a_deployment_that_is_not_there_ends_with_not_found)
{
    struct world *world = world_serving(1);
    struct dispatch_request request = world_request("question");
    request.deployment.v = 99;
    world_submit(world, &request, &owner_a);
    world_ends(world, &owner_a, ERROR_NOT_FOUND);
    world_free(world);
}

Test(dispatch_calls, no_more_calls_than_the_limit_on_requests)
{
    struct world *world = world_serving(1);
    struct dispatch_request request = world_request("question");
    struct error error = {0};

    for (int i = 0; i < 256; i++)
        world_call(world, &owner_a);
    cr_assert_null(dispatch_submit(world->dispatch, &request, &owner_b, &error));
    cr_assert_eq(error.code, ERROR_LIMIT);
    world_free(world); /* calls that are out end silently */
}

Test(dispatch_calls, what_the_wire_cannot_carry_is_refused_at_once)
{
    struct world *world = world_serving(1);
    struct dispatch_request request = world_request("question");
    struct error error = {0};
    static uint8_t large[70000], larger[300000];

    request.path = bytes_of(large, sizeof large);
    cr_assert_null(dispatch_submit(world->dispatch, &request, &owner_a, &error));
    cr_assert_eq(error.code, ERROR_LIMIT);
    request.path = BYTES("/");
    request.headers = bytes_of(larger, sizeof larger);
    cr_assert_null(dispatch_submit(world->dispatch, &request, &owner_a, &error));
    cr_assert_eq(error.code, ERROR_LIMIT);
    dispatch_check(world->dispatch);
    world_free(world);
}

/* ---- given up ---- */

Test(dispatch_calls, a_cancelled_call_that_waits_is_forgotten)
{
    struct world *world = world_serving(1);
    struct dispatch_call *calls[5];

    for (int i = 0; i < 5; i++)
        calls[i] = world_call(world, &owner_a);
    dispatch_cancel(calls[4], ERROR_CANCELLED);
    dispatch_check(world->dispatch);
    for (int i = 0; i < 4; i++) {
        uint64_t stream = peer_take_request(&world->replicas[0]);
        peer_say_reply(&world->replicas[0], stream, WIRE_END, 0, "answer");
        world_event(world, DISPATCH_REPLY);
    }
    world_idle(world);
    cr_assert(!peer_has_frame(&world->replicas[0]));
    world_free(world);
}

Test(dispatch_calls, a_cancelled_call_in_flight_keeps_its_slot_until_the_replicas_last_word)
{
    struct world *world = world_new();
    struct peer *replica = &world->replicas[0];
    struct wire_cancel cancel;
    struct bytes payload;

    world->max_ongoing = 1;
    world_start(world);
    peer_listen(replica);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1);
    peer_take(replica, WIRE_HELLO_FRAME, &payload);
    world_await_ready(world, 1);

    struct dispatch_call *call = world_call(world, &owner_a);
    uint64_t stream = peer_take_request(replica);
    dispatch_cancel(call, ERROR_CANCELLED);
    dispatch_check(world->dispatch);
    struct wire_header header = peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    cr_assert_eq(header.stream, stream);
    cr_assert_eq(wire_cancel_read(&cancel, payload), 0);
    cr_assert_eq(cancel.code, ERROR_CANCELLED);

    struct dispatch_call *next = world_call(world, &owner_b);
    cr_assert_neq(dispatch_call_id(next), stream,
                  "an id is not used twice while a replica may speak of it");
    world_idle(world);
    cr_assert(!peer_has_frame(replica), "R2: the slot is taken until the replica is done");
    uint64_t glitches = metric_get(peer_glitches_total);
    peer_say_reply(replica, stream, 0, 0, "a late");
    peer_say_part(replica, stream, WIRE_END, BYTES("answer"));
    uint64_t second = peer_take_request(replica);
    peer_say_reply(replica, second, WIRE_END, 0, "answer");
    cr_assert_eq(world_event(world, DISPATCH_REPLY)->owner, &owner_b,
                 "nothing of the cancelled one is told");
    cr_assert_eq(metric_get(peer_glitches_total), glitches);
    world_free(world);
}

Test(dispatch_calls, a_cancelled_call_that_crosses_a_rejection_is_over)
{
    struct world *world = world_serving(2);
    uint64_t stream;

    struct dispatch_call *call = world_call(world, &owner_a);
    struct peer *replica = world_take_request(world, &stream);
    peer_say_reject(replica, stream, ERROR_LIMIT, 4);
    dispatch_cancel(call, ERROR_CANCELLED);
    struct bytes payload;
    peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    world_idle(world);
    for (int i = 0; i < WORLD_REPLICAS; i++)
        cr_assert(!peer_has_frame(&world->replicas[i]), "nobody wants it any more");
    cr_assert_eq(metric_get(requests_in_flight), 0);
    world_free(world);
}

Test(dispatch_calls, a_cancelled_call_of_which_a_half_close_is_the_last_word_is_over)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct bytes payload;

    struct dispatch_call *calls[4];
    for (int i = 0; i < 4; i++)
        calls[i] = world_call(world, &owner_a);
    world_call(world, &owner_b); /* waits for a slot */
    for (int i = 0; i < 4; i++) {
        uint64_t stream = peer_take_request(replica);
        if (i > 0)
            continue;
        dispatch_cancel(calls[0], ERROR_CLOSED);
        peer_say_reply(replica, stream, 0, 200, "begun");
        peer_say_credit(replica, stream, 1000);
        peer_say_half_close(replica, stream, ERROR_CANCELLED, (struct bytes){0});
    }
    peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    peer_take_request(replica);
    cr_assert(!world_has_event(world));
    world_free(world);
}

Test(dispatch_calls, a_cancel_before_the_end_event_was_taken_swallows_it)
{
    struct world *world = world_serving(1);
    struct dispatch_request request = world_request("question");
    request.deployment.v = 99;
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    dispatch_cancel(call, ERROR_CANCELLED);
    world_idle(world);
    cr_assert(!world_has_event(world));
    world_free(world);
}

Test(dispatch_calls, the_deadline_of_a_call_in_flight_ends_it_and_tells_the_replica)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_request request = world_request("question");
    struct wire_request heard;
    struct wire_cancel cancel;
    struct bytes payload;

    request.deadline_ns = loop_refresh_now_ns(world->loop) + 30 * 1000000;
    world_submit(world, &request, &owner_a);
    uint64_t stream = peer_take(replica, WIRE_REQUEST_FRAME, &payload).stream;
    cr_assert_eq(wire_request_read(&heard, payload), 0);
    cr_assert_gt(heard.deadline_us, 0);
    cr_assert_leq(heard.deadline_us, 30000);
    world_ends(world, &owner_a, ERROR_TIMEOUT);
    peer_take(replica, WIRE_CANCEL_FRAME, &payload);
    cr_assert_eq(wire_cancel_read(&cancel, payload), 0);
    cr_assert_eq(cancel.code, ERROR_TIMEOUT);
    peer_say_error(replica, stream, ERROR_CANCELLED, "as you like");
    world_idle(world);
    cr_assert(!world_has_event(world));
    world_free(world);
}

Test(dispatch_calls, the_deadline_of_a_call_that_waits_ends_it)
{
    struct world *world = world_new();
    struct bytes payload;

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    world_serve(world, 1); /* which never listens */
    struct dispatch_request request = world_request("question");
    for (int i = 0; i < 100; i++) { /* in an order that is not that of their deadlines */
        request.deadline_ns = loop_refresh_now_ns(world->loop) + (1 + i * 37 % 100) * 100000;
        world_submit(world, &request, &owner_a);
    }
    for (int i = 0; i < 100; i++)
        world_ends(world, &owner_a, ERROR_TIMEOUT);
    world_free(world);
}

Test(dispatch_calls, calls_with_deadlines_that_are_answered_in_time_leave_no_trace)
{
    struct world *world = world_serving(3);
    struct dispatch_request request = world_request("question");
    uint64_t stream;

    for (int i = 0; i < 12; i++) {
        request.deadline_ns =
            loop_refresh_now_ns(world->loop) + (int64_t)(60 + i * 7 % 12) * 1000000000;
        world_submit(world, &request, &owner_a);
    }
    for (int i = 0; i < 12; i++) {
        struct peer *replica = world_take_request(world, &stream);
        peer_say_reply(replica, stream, WIRE_END, 0, "in time");
    }
    for (int i = 0; i < 12; i++)
        world_event(world, DISPATCH_REPLY);
    world_free(world);
}

/* ---- what it costs ---- */

/* 64 calls out at a time; replicas answer all that arrived. */
static void rounds(struct world *world, int count)
{
    struct dispatch_request request = world_request("question");
    uint64_t stream;

    for (int i = 0; i < count; i++) {
        for (int j = 0; j < 64; j++)
            world_submit(world, &request, &owner_a);
        for (int j = 0; j < 64; j++) {
            struct peer *replica = world_take_request(world, &stream);
            peer_say_reply(replica, stream, WIRE_END, 0, "answer");
        }
        for (int j = 0; j < 64; j++)
            world_event(world, DISPATCH_REPLY);
    }
}

Test(dispatch_calls, after_warm_up_a_call_allocates_nothing)
{
    struct world *world = world_serving(3);
    rounds(world, 50);
    uint64_t before = mem_count().allocations;
    rounds(world, 50);
    cr_assert_eq(mem_count().allocations - before, 0);
    world_free(world);
}

Test(dispatch_calls, every_allocation_may_fail_and_each_call_still_ends_once)
{
    for (uint64_t nth = 1; nth <= 120; nth++) {
        struct world *world = world_serving(2);
        struct dispatch_request request = world_request("question");
        struct error error = {0};
        uint64_t stream;
        int open = 0;

        mem_fail_at(nth);
        for (int i = 0; i < 8; i++) {
            request.deadline_ns = i % 2 ? loop_now_ns(world->loop) + (int64_t)60 * 1000000000 : 0;
            open += dispatch_submit(world->dispatch, &request, &owner_a, &error) != NULL;
            dispatch_check(world->dispatch);
        }
        mem_fail_at(0);
        int refused = 0;
        world_idle(world);
        while (world_has_event(world)) {
            world_event(world, DISPATCH_END);
            refused++;
        }
        for (int i = refused; i < open; i++) {
            struct peer *replica = world_take_request(world, &stream);
            peer_say_reply(replica, stream, WIRE_END, 0, "answer");
            world_event(world, DISPATCH_REPLY);
        }
        world_free(world);
    }
}

static bool is_woken(struct world *world)
{
    return world->woken;
}

Test(dispatch_calls, the_slices_of_an_event_stand_until_the_next_is_taken)
{
    struct world *world = world_serving(1);
    struct peer *replica = &world->replicas[0];
    struct dispatch_event event;

    world_call(world, &owner_a);
    world_call(world, &owner_b);
    world->pauses = true;
    uint64_t first = peer_take_request(replica), second = peer_take_request(replica);
    peer_say_reply(replica, first, WIRE_END, 0, "first answer");
    peer_say_reply(replica, second, WIRE_END, 0, "second answer");
    cr_assert(world_until(world, is_woken));
    cr_assert(dispatch_next(world->dispatch, &event));
    cr_assert_eq(event.owner, &owner_a);
    world_idle(world); /* turns go by, channels give back what they do not need */
    cr_assert(bytes_equal(event.body, BYTES("first answer")));
    struct buffer *kept = buffer_ref(event.buffer);
    struct bytes body = event.body;
    cr_assert(dispatch_next(world->dispatch, &event));
    cr_assert_eq(event.owner, &owner_b);
    cr_assert(!dispatch_next(world->dispatch, &event));
    cr_assert(bytes_equal(body, BYTES("first answer")), "kept by a reference");
    buffer_unref(kept);
    world_free(world);
}

Test(dispatch_calls, a_dispatch_for_which_memory_lacks_is_not_made_and_leaves_nothing)
{
    bool made = false;
    for (uint64_t nth = 1; !made; nth++) {
        struct world *world = world_new();
        struct error error = {0};
        cr_assert_leq(nth, 100);
        world->fail_at = nth;
        made = world_try_start(world, &error);
        cr_assert(made || error.code == ERROR_MEMORY);
        world_free(world);
    }
}

/* ---- models ---- */

static void say_models(struct peer *peer, const char *id)
{
    uint8_t block[256], frame[512];
    struct wire_models models = {0};
    size_t size =
        id ? wire_field_write(block, sizeof block, bytes_of_string(id), (struct bytes){0}) : 0;
    models.ids = bytes_of(block, size);
    peer_say(peer, frame, wire_models_write(&models, 0, 0, false, frame));
}

Test(dispatch_calls, calls_for_a_model_go_where_it_is)
{
    struct world *world = world_serving(2);
    struct dispatch_request request = world_request("question");
    uint64_t stream;
    say_models(&world->replicas[0], NULL);
    say_models(&world->replicas[1], "llama");
    world_idle(world);
    request.model_id = BYTES("llama");
    for (int i = 0; i < 2; i++) {
        world_submit(world, &request, &owner_a);
        cr_assert_eq(world_take_request(world, &stream), &world->replicas[1]);
        peer_say_reply(&world->replicas[1], stream, WIRE_END, 200, "answer");
        world_event(world, DISPATCH_REPLY);
    }
    say_models(&world->replicas[0], "llama");
    say_models(&world->replicas[1], NULL);
    world_idle(world);
    world_submit(world, &request, &owner_a);
    cr_assert_eq(world_take_request(world, &stream), &world->replicas[0]);
    peer_say_reply(&world->replicas[0], stream, WIRE_END, 200, "answer");
    world_event(world, DISPATCH_REPLY);
    world_free(world);
}

Test(dispatch_calls, a_broken_block_of_models_ends_the_link)
{
    struct world *world = world_serving(1);
    uint8_t frame[64];
    struct wire_models models = {.ids = BYTES("\x09\0\0\0abc")};
    peer_say(&world->replicas[0], frame, wire_models_write(&models, 0, 0, false, frame));
    world_await_ready(world, 0);
    world_free(world);
}

/* An accepted websocket: the answer has begun, with a deadline that was one for that. */
static struct dispatch_call *converse(struct world *world, uint64_t *ret_stream)
{
    struct dispatch_request request = world_request("");
    request.kind = WIRE_KIND_WEBSOCKET;
    request.stream = true;
    request.body_whole = false;
    request.body_size = UINT64_MAX;
    request.deadline_ns = loop_now_ns(world->loop) + 50 * 1000000LL;
    struct dispatch_call *call = world_submit(world, &request, &owner_a);
    *ret_stream = peer_take_request(&world->replicas[0]);
    world_event(world, DISPATCH_ROOM); /* for messages */
    peer_say_reply(&world->replicas[0], *ret_stream, 0, 101, "");
    world_event(world, DISPATCH_REPLY);
    return call;
}

static bool deadline_has_passed(struct world *world)
{
    static int64_t begin_ns;
    begin_ns = begin_ns ? begin_ns : loop_now_ns(world->loop);
    return loop_now_ns(world->loop) > begin_ns + 100 * 1000000LL;
}

Test(dispatch_calls, a_websocket_outlives_its_deadline_and_tells_how_it_closed)
{
    struct world *world = world_serving(1);
    struct wire_cancel cancel;
    struct bytes payload;
    uint64_t stream;
    struct dispatch_call *call = converse(world, &stream);
    dispatch_lift_deadline(call);
    cr_assert(world_until(world, deadline_has_passed));
    cr_assert(!world_has_event(world), "it was lifted");
    dispatch_close(call, 4001, BYTES("enough"));
    peer_take(&world->replicas[0], WIRE_CANCEL_FRAME, &payload);
    cr_assert_eq(wire_cancel_read(&cancel, payload), 0);
    cr_assert_eq(cancel.close_code, 4001);
    cr_assert(bytes_equal(cancel.reason, BYTES("enough")));
    peer_say_half_close(&world->replicas[0], stream, 0, (struct bytes){0});
    world_idle(world);
    cr_assert(!world_has_event(world), "who has closed hears no more");
    cr_assert_eq(metric_get(requests_in_flight), 0);
    world_free(world);
}

Test(dispatch_calls, a_replica_that_wants_a_websocket_to_leave_is_heard)
{
    struct world *world = world_serving(1);
    struct wire_leave leave = {0};
    uint8_t at[64];
    uint64_t stream;
    struct dispatch_call *call = converse(world, &stream);
    size_t size = wire_leave_write(&leave, 0, stream, false, at);
    peer_say(&world->replicas[0], at, size);
    const struct dispatch_event *event = world_event(world, DISPATCH_LEAVE);
    cr_assert_eq(event->owner, &owner_a);
    dispatch_cancel(call, ERROR_CANCELLED);
    peer_say(&world->replicas[0], at, size); /* crossed: nobody minds */
    peer_say_half_close(&world->replicas[0], stream, ERROR_CANCELLED, (struct bytes){0});
    world_idle(world);
    world_free(world);
}
