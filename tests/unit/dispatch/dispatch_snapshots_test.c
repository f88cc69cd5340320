/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: snapshots that come, change, break off; a controller that goes away and comes back.
 */
#include <criterion/criterion.h>

#include "dispatch_world.h"

TestSuite(dispatch_snapshots, .timeout = 60);

static int owner_a, owner_b;

static uint64_t take_subscribe(struct world *world)
{
    struct wire_subscribe subscribe;
    struct bytes payload;
    peer_take(&world->controller, WIRE_SUBSCRIBE_FRAME, &payload);
    cr_assert_eq(wire_subscribe_read(&subscribe, payload), 0);
    return subscribe.version;
}

static uint64_t take_hello_and_subscribe(struct world *world)
{
    struct bytes payload;
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    return take_subscribe(world);
}

static bool is_disconnected(struct world *world)
{
    return !dispatch_connected(world->dispatch);
}

static bool is_connected(struct world *world)
{
    return dispatch_connected(world->dispatch);
}

static void answer_one(struct world *world, void *owner)
{
    uint64_t stream;
    struct peer *replica = world_take_request(world, &stream);
    peer_say_reply(replica, stream, WIRE_END, 0, "answer");
    cr_assert_eq(world_event(world, DISPATCH_REPLY)->owner, owner);
}

Test(dispatch_snapshots, the_first_hello_and_subscription)
{
    struct world *world = world_new();
    struct wire_hello hello;
    struct bytes payload;

    world_start(world);
    cr_assert(!dispatch_connected(world->dispatch));
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    cr_assert_eq(wire_hello_read(&hello, payload), 0);
    cr_assert_eq(hello.role, WIRE_ROLE_HANDLE);
    cr_assert(bytes_equal(hello.name, BYTES("test")));
    cr_assert_eq(take_subscribe(world), 0);
    cr_assert(dispatch_connected(world->dispatch));
    world_serve(world, 0);
    struct bytes prefix, app;
    struct deployment_id deployment;
    cr_assert(
        router_route(dispatch_router(world->dispatch), BYTES("/x"), &deployment, &prefix, &app));
    cr_assert_eq(deployment.v, WORLD_DEPLOYMENT);
    cr_assert(bytes_equal(app, BYTES("app")));
    world_free(world);
}

Test(dispatch_snapshots, calls_go_on_while_the_controller_is_away_and_it_is_found_again)
{
    struct world *world = world_serving(2);

    peer_deafen(&world->controller);
    peer_hang_up(&world->controller);
    cr_assert(world_until(world, is_disconnected));
    for (int i = 0; i < 10; i++) {
        world_call(world, &owner_a);
        answer_one(world, &owner_a);
    }
    peer_listen(&world->controller);
    cr_assert_eq(take_hello_and_subscribe(world), 1, "it says which snapshot it has");
    world_call(world, &owner_a);
    answer_one(world, &owner_a);
    world_serve(world, 1);
    cr_assert_eq(router_version(dispatch_router(world->dispatch)), 2);
    world_free(world);
}

Test(dispatch_snapshots, a_controller_that_is_not_there_yet_is_waited_for)
{
    struct world *world = world_new();

    world_start(world);
    cr_assert_eq(take_hello_and_subscribe(world), 0);
    peer_deafen(&world->controller);
    peer_hang_up(&world->controller);
    world_idle(world);
    peer_listen(&world->controller);
    cr_assert_eq(take_hello_and_subscribe(world), 0);
    world_free(world);
}

static struct peer *drained;
static bool is_let_go(struct world *world)
{
    return !channel_is_open(&drained->channel);
}

Test(dispatch_snapshots, a_new_snapshot_drains_a_replica_and_lets_it_go_after_its_last_answer)
{
    struct world *world = world_serving(2);
    uint64_t stream;

    world_call(world, &owner_a);
    drained = world_take_request(world, &stream);
    struct peer *other = drained == &world->replicas[0] ? &world->replicas[1] : &world->replicas[0];
    world_serve(world, drained == &world->replicas[0] ? 2 : 1);
    for (int i = 0; i < 4; i++)
        world_call(world, &owner_b);
    for (int i = 0; i < 4; i++) {
        uint64_t next = peer_take_request(other);
        peer_say_reply(other, next, WIRE_END, 0, "answer");
        world_event(world, DISPATCH_REPLY);
    }
    cr_assert(!peer_has_frame(drained), "R3");
    cr_assert(channel_is_open(&drained->channel), "it still owes an answer");
    peer_say_reply(drained, stream, WIRE_END, 0, "the last");
    cr_assert(bytes_equal(world_event(world, DISPATCH_REPLY)->body, BYTES("the last")));
    cr_assert(world_until(world, is_let_go));
    world_idle(world);
    cr_assert_eq(drained->accepted_count, 1, "it is not tried again");
    world_free(world);
}

Test(dispatch_snapshots, a_replica_that_comes_back_is_connected_to_again)
{
    struct world *world = world_serving(2);

    drained = &world->replicas[1];
    world_serve(world, 1);
    cr_assert(world_until(world, is_let_go));
    world_serve(world, 3);
    world_await_ready(world, 2);
    cr_assert_eq(drained->accepted_count, 2);
    cr_assert_eq(world->replicas[0].accepted_count, 1, "who stays is not disturbed");
    world_free(world);
}

Test(dispatch_snapshots, calls_of_a_deployment_that_becomes_unavailable_are_refused)
{
    struct world *world = world_new();

    world_start(world);
    take_hello_and_subscribe(world);
    world_serve(world, 1); /* which never listens */
    world_call(world, &owner_a);
    world_publish_unavailable(world);
    world_event(world, DISPATCH_SNAPSHOT);
    world_ends(world, &owner_a, ERROR_UNAVAILABLE);
    world_call(world, &owner_b);
    world_ends(world, &owner_b, ERROR_UNAVAILABLE);
    world_free(world);
}

Test(dispatch_snapshots, an_older_snapshot_is_ignored)
{
    struct world *world = world_serving(1);

    world->version = 0;
    world_publish(world, 0); /* version 1 again */
    world_idle(world);
    cr_assert(!world_has_event(world), "R4");
    world_call(world, &owner_a);
    answer_one(world, &owner_a);
    world_free(world);
}

/* ---- what is not a snapshot ---- */

static void say_begin(struct world *world, uint64_t version, uint32_t apps, uint32_t deployments,
                      uint32_t replicas)
{
    uint8_t at[128];
    struct wire_snapshot snapshot = {.version = version,
                                     .app_count = apps,
                                     .deployment_count = deployments,
                                     .replica_count = replicas};
    peer_say(&world->controller, at, wire_snapshot_write(&snapshot, 0, 0, false, at));
}

static void say_replica(struct world *world, uint64_t id, uint64_t deployment, const char *address)
{
    uint8_t at[256];
    struct wire_snapshot_replica row = {
        .id = id, .deployment = deployment, .address = bytes_of_string(address)};
    peer_say(&world->controller, at, wire_snapshot_replica_write(&row, 0, 0, false, at));
}

static void say_deployment(struct world *world, uint64_t id)
{
    uint8_t at[256];
    struct wire_snapshot_deployment row = {.id = id,
                                           .app = BYTES("app"),
                                           .name = BYTES("model"),
                                           .max_ongoing = 1,
                                           .max_queued = -1,
                                           .available = 1};
    peer_say(&world->controller, at, wire_snapshot_deployment_write(&row, 0, 0, false, at));
}

static void say_end(struct world *world, uint64_t version)
{
    uint8_t at[64];
    struct wire_snapshot_end end = {.version = version};
    peer_say(&world->controller, at, wire_snapshot_end_write(&end, 0, 0, false, at));
}

/* The controller is left and asked again; nothing was swapped; calls go on. */
static void is_left(struct world *world, uint64_t glitches)
{
    cr_assert_eq(take_hello_and_subscribe(world), 1);
    cr_assert_eq(metric_get(peer_glitches_total), glitches + 1);
    cr_assert_eq(router_version(dispatch_router(world->dispatch)), 1);
    world_call(world, &owner_a);
    answer_one(world, &owner_a);
    world_serve(world, 1);
    world_free(world);
}

Test(dispatch_snapshots, a_snapshot_with_fewer_rows_than_announced_is_not_swapped)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_begin(world, 2, 0, 0, 1);
    say_end(world, 2);
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_snapshot_with_more_rows_than_announced_is_not_swapped)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_begin(world, 2, 0, 0, 1);
    say_replica(world, 1, WORLD_DEPLOYMENT, "/x");
    say_replica(world, 2, WORLD_DEPLOYMENT, "/y");
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_row_without_a_snapshot_is_a_breach)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_deployment(world, 9);
    is_left(world, glitches);
}

Test(dispatch_snapshots, an_end_of_another_version_is_a_breach)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_begin(world, 2, 0, 0, 0);
    say_end(world, 3);
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_snapshot_of_more_rows_than_the_limit_is_a_breach)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_begin(world, 2, 0, UINT32_MAX, 0);
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_frame_that_no_controller_says_is_a_breach)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    peer_say_reject(&world->controller, 5, ERROR_LIMIT, 0);
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_snapshot_cut_short_by_the_controllers_death_is_not_swapped)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    say_begin(world, 2, 0, 1, 1);
    say_deployment(world, 9);
    peer_hang_up(&world->controller);
    is_left(world, glitches - 1);
}

Test(dispatch_snapshots, rows_that_make_no_sense_are_as_if_they_were_not_there)
{
    struct world *world = world_serving(1);

    say_begin(world, 2, 0, 1, 4);
    say_deployment(world, WORLD_DEPLOYMENT);
    say_replica(world, 0, WORLD_DEPLOYMENT, "/nobody");
    say_replica(world, 1, WORLD_DEPLOYMENT, world->replicas[0].path);
    say_replica(world, 1, WORLD_DEPLOYMENT, "/twice");
    say_replica(world, 5, 99, "/of-no-deployment");
    say_end(world, 2);
    world_event(world, DISPATCH_SNAPSHOT);
    world_call(world, &owner_a);
    answer_one(world, &owner_a);
    world_free(world);
}

Test(dispatch_snapshots, a_frame_of_the_controller_over_the_limit_is_a_breach)
{
    struct world *world = world_serving(1);
    uint64_t glitches = metric_get(peer_glitches_total);
    uint8_t at[WIRE_HEADER_SIZE];
    struct wire_header header = {.size = 300000, .type = WIRE_SNAPSHOT_FRAME};
    wire_header_write(&header, at);
    peer_say(&world->controller, at, sizeof at);
    is_left(world, glitches);
}

Test(dispatch_snapshots, a_ping_of_the_controller_is_answered)
{
    struct world *world = world_serving(1);
    uint8_t at[64];
    struct wire_ping ping = {.token = 77};
    struct wire_pong pong;
    struct bytes payload;

    peer_say(&world->controller, at, wire_ping_write(&ping, 0, 0, false, at));
    peer_take(&world->controller, WIRE_PONG_FRAME, &payload);
    cr_assert_eq(wire_pong_read(&pong, payload), 0);
    cr_assert_eq(pong.token, 77);
    world_free(world);
}

/* ---- a peer that is no controller ---- */

Test(dispatch_snapshots, a_peer_in_another_role_is_not_listened_to)
{
    struct world *world = world_new();
    struct bytes payload;

    world->controller.role = WIRE_ROLE_NODE;
    world_start(world);
    for (int i = 0; i < 3; i++)
        peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    cr_assert(!dispatch_connected(world->dispatch));
    world->controller.role = WIRE_ROLE_CONTROLLER;
    cr_assert(world_until(world, is_connected));
    world_free(world);
}

Test(dispatch_snapshots, a_controller_that_says_no_hello_is_left_and_tried_again)
{
    struct world *world = world_new();
    struct bytes payload;

    world->settings.wire_hello_timeout_ms = 10;
    world->controller.silent = true;
    world_start(world);
    for (int i = 0; i < 3; i++)
        peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    cr_assert(!dispatch_connected(world->dispatch));
    world_free(world);
}

/* ---- memory ---- */

static bool serves_two(struct world *world)
{
    struct peer *controller = &world->controller;
    struct bytes payload;

    while (peer_has_frame(controller)) {
        enum wire_frame type = controller->pending[controller->first % WORLD_PENDING].header.type;
        peer_take(controller, type, &payload);
        if (type == WIRE_SUBSCRIBE_FRAME && router_version(dispatch_router(world->dispatch)) == 0) {
            world->version = 0;
            world_publish(world, 3); /* asked again: said again */
        }
    }
    return router_ready_replicas(dispatch_router(world->dispatch),
                                 (struct deployment_id){WORLD_DEPLOYMENT}) == 2;
}

Test(dispatch_snapshots, every_allocation_of_a_swap_may_fail_and_it_is_asked_for_again)
{
    for (uint64_t nth = 1; nth <= 80; nth++) {
        struct world *world = world_new();

        world_start(world);
        peer_listen(&world->replicas[0]);
        peer_listen(&world->replicas[1]);
        take_hello_and_subscribe(world);
        world_publish(world, 3);
        mem_fail_at(nth);
        world_idle(world);
        mem_fail_at(0);
        cr_assert(world_until(world, serves_two), "lost its way after failing allocation %d",
                  (int)nth);
        world_free(world);
    }
}
