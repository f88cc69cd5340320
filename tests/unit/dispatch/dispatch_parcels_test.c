/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch and taker together: bodies by reference, both ways, and what becomes of them when
 * somebody rejects, cancels, dies, keeps, or lacks something.
 *
 * The controller is scripted; the replicas are takers as they are, each with channels and a desk of
 * its own, on the world's loop.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "dispatch_world.h"
#include "rng.h"
#include "taker.h"

TestSuite(dispatch_parcels, .timeout = 60);

enum { MIB = 1 << 20, TAKEN_MOST = 64 };

struct replica_process {
    struct channel_set channels;
    struct settings settings;
    struct taker *taker;
};

static struct world *world;
static struct replica_process replicas[2];
static struct settings given; /* of the replicas and of the dispatch */
static uint32_t max_ongoing;

static void ignore(void *owner)
{
    (void)owner;
}

static void replica_start(int index)
{
    struct replica_process *replica = &replicas[index];
    struct error error = {0};
    struct channel_config channels = {.frame_limit = (size_t)given.wire_frame_limit,
                                      .queue_limit = (size_t)given.wire_queue_limit,
                                      .turn_limit = (size_t)given.wire_turn_limit,
                                      .buffer_keep = 8};
    replica->settings = given;
    cr_assert_eq(channel_set_init(&replica->channels, world->loop, &channels), 0);
    struct taker_config config = {.loop = world->loop,
                                  .channels = &replica->channels,
                                  .settings = &replica->settings,
                                  .controller_socket = world->controller.path,
                                  .replica = (uint64_t)index + 1,
                                  .app = BYTES("app"),
                                  .deployment = BYTES("deployment"),
                                  .max_ongoing = max_ongoing,
                                  .wake = ignore};
    config.controller_socket = NULL;
    replica->taker = taker_new(&config, &error);
    cr_assert_not_null(replica->taker, "%s", error.text);
    cr_assert_eq(taker_listen(replica->taker, world->replicas[index].path, &error), 0, "%s",
                 error.text);
}

static void replica_end(int index)
{
    struct replica_process *replica = &replicas[index];
    if (!replica->taker)
        return;
    taker_check(replica->taker);
    replica->taker = taker_free(replica->taker);
    channel_set_done(&replica->channels);
}

static void begin(int count)
{
    struct bytes payload;
    world = world_new();
    world->settings = given;
    world->max_ongoing = max_ongoing;
    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    peer_take(&world->controller, WIRE_SUBSCRIBE_FRAME, &payload);
    for (int i = 0; i < count; i++)
        replica_start(i);
    world_serve(world, (1u << count) - 1);
    world_await_ready(world, (uint32_t)count);
}

static void prepare(void)
{
    settings_init(&given);
    given.reconnect_ms = 1;
    given.request_limit = 256;
    max_ongoing = 4;
}

static size_t used_bytes(void)
{
    return slot_pool_used_bytes(parcel_desk_slots(dispatch_desk(world->dispatch)));
}

static bool nothing_is_used(struct world *of)
{
    (void)of;
    for (int i = 0; i < 2; i++)
        if (replicas[i].taker &&
            slot_pool_used_bytes(parcel_desk_slots(taker_desk(replicas[i].taker))) > 0)
            return false;
    return used_bytes() == 0;
}

/* Every slot comes home. */
static void finish(void)
{
    world_drop_events(world);
    cr_assert(world_until(world, nothing_is_used), "a slot is still out");
    for (int i = 0; i < 2; i++)
        replica_end(i);
    world_idle(world);
    world_free(world);
}

/* ---- bodies ---- */

static uint8_t byte_of(size_t i, uint32_t seed)
{
    return (uint8_t)(seed + i * 31 + (i >> 8) * 7);
}

static struct bytes pattern(size_t size, uint32_t seed)
{
    static uint8_t at[8 * MIB];
    cr_assert_leq(size, sizeof at);
    for (size_t i = 0; i < size; i++)
        at[i] = byte_of(i, seed);
    return bytes_of(at, size);
}

static bool looks_like(struct bytes bytes, size_t size, uint32_t seed)
{
    bool same = bytes.size == size;
    for (size_t i = 0; same && i < size; i++)
        same = bytes.at[i] == byte_of(i, seed);
    return same;
}

static struct dispatch_request request_of(struct bytes body)
{
    struct dispatch_request request = world_request("");
    request.body = body;
    return request;
}

static struct parcel *born_in_a_slot(struct parcel_desk *desk, size_t size, uint32_t seed)
{
    struct slot *slot = slot_take(parcel_desk_slots(desk), size);
    cr_assert_not_null(slot);
    memcpy(slot->at, pattern(size, seed).at, size);
    return parcel_of_slot(slot, size);
}

/* ---- the replicas' user code ---- */

static struct taker_request *taken;
static int taken_by;

static bool some_takes(struct world *of)
{
    bool batched;
    (void)of;
    for (int i = 0; i < 2; i++)
        if (replicas[i].taker && taker_take(replicas[i].taker, &taken, 1, &batched) == 1) {
            taken_by = i;
            return true;
        }
    return false;
}

static struct taker_request *take(void)
{
    cr_assert(world_until(world, some_takes), "no replica got a request");
    return taken;
}

static void answer(struct taker_request *request, struct bytes body)
{
    struct taker_answer all = {.status = 200, .content_type = BYTES("text/plain"), .body = body};
    taker_answer(replicas[taken_by].taker, request, &all);
}

static void answer_parcel(struct taker_request *request, struct parcel *parcel)
{
    struct taker_answer all = {
        .status = 200, .content_type = BYTES("text/plain"), .parcel = parcel};
    taker_answer(replicas[taken_by].taker, request, &all);
}

/* ---- whole bodies ---- */

Test(dispatch_parcels, a_large_body_and_a_large_answer_are_copied_once_and_read_in_place)
{
    prepare();
    begin(1);
    for (uint32_t i = 0; i < 20; i++) {
        struct dispatch_request request = request_of(pattern(MIB + i, i));
        world_submit(world, &request, &given);
        struct taker_request *got = take();
        cr_assert(looks_like(got->body, MIB + i, i));
        cr_assert(got->parcel && got->parcel->pieces[0].slot->region->borrowed);
        cr_assert_eq(got->body_size, MIB + i);
        answer(got, pattern(3 * MIB - i, i + 100));
        const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
        cr_assert(event->end && event->parcel && event->owner == &given);
        cr_assert_eq(event->status, 200);
        cr_assert(bytes_equal(event->content_type, BYTES("text/plain")));
        cr_assert(looks_like(event->parcel->value, 3 * MIB - i, i + 100));
        cr_assert(looks_like(event->body, 3 * MIB - i, i + 100));
        dispatch_check(world->dispatch);
    }
    finish();
}

Test(dispatch_parcels, a_body_born_in_a_slot_is_not_copied_and_may_come_back)
{
    prepare();
    begin(1);
    struct parcel *parcel = born_in_a_slot(dispatch_desk(world->dispatch), 5 * MIB, 7);
    struct dispatch_request request = request_of((struct bytes){0});
    request.parcel = parcel;
    world_submit(world, &request, &given);
    parcel_unref(parcel);
    struct taker_request *got = take();
    cr_assert(looks_like(got->body, 5 * MIB, 7));
    answer_parcel(got, got->parcel);
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert(looks_like(event->parcel->value, 5 * MIB, 7));
    cr_assert_eq(slot_pool_bytes(parcel_desk_slots(taker_desk(replicas[0].taker))), 0,
                 "nothing was copied");
    struct parcel *kept = parcel_ref(event->parcel);
    world_drop_events(world);
    world_idle(world);
    cr_assert(looks_like(kept->value, 5 * MIB, 7), "it may be kept");
    parcel_unref(kept);
    finish();
}

Test(dispatch_parcels, a_value_with_pieces_goes_and_comes)
{
    prepare();
    begin(1);
    struct parcel_piece pieces[2] = {{.bytes = pattern(2 * MIB, 1)}, {.bytes = BYTES("small")}};
    int code;
    struct parcel *parcel =
        parcel_new(dispatch_desk(world->dispatch), BYTES("value"), pieces, 2, &code);
    struct dispatch_request request = request_of((struct bytes){0});
    request.parcel = parcel;
    world_submit(world, &request, &given);
    parcel_unref(parcel);
    struct taker_request *got = take();
    cr_assert(bytes_equal(got->body, BYTES("value")));
    cr_assert_eq(got->parcel->count, 2);
    cr_assert(looks_like(got->parcel->pieces[0].bytes, 2 * MIB, 1));
    parcel =
        parcel_new(taker_desk(replicas[0].taker), BYTES("answer"), got->parcel->pieces, 2, &code);
    answer_parcel(got, parcel);
    parcel_unref(parcel);
    const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
    cr_assert(bytes_equal(event->body, BYTES("answer")));
    cr_assert(bytes_equal(event->parcel->pieces[1].bytes, BYTES("small")));
    cr_assert(looks_like(event->parcel->pieces[0].bytes, 2 * MIB, 1));
    finish();
}

static void goes_through_the_socket(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct parcel_piece pieces[2] = {{.bytes = pattern(MIB + i, 1)}, {.bytes = BYTES("small")}};
        int code;
        struct parcel *parcel =
            parcel_new(dispatch_desk(world->dispatch), BYTES("value"), pieces, 2, &code);
        struct dispatch_request request = request_of((struct bytes){0});
        request.parcel = parcel;
        world_submit(world, &request, &given);
        parcel_unref(parcel);
        struct taker_request *got = take();
        cr_assert(bytes_equal(got->body, BYTES("value")));
        cr_assert(looks_like(got->parcel->pieces[0].bytes, MIB + i, 1));
        cr_assert_null(got->parcel->pieces[0].slot);
        parcel =
            parcel_new(taker_desk(replicas[0].taker), BYTES("back"), got->parcel->pieces, 2, &code);
        answer_parcel(got, parcel);
        parcel_unref(parcel);
        const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
        cr_assert(bytes_equal(event->body, BYTES("back")));
        cr_assert(looks_like(event->parcel->pieces[0].bytes, MIB + i, 1));
        cr_assert_null(event->parcel->pieces[0].slot);

        request = request_of(pattern(MIB + i, i));
        world_submit(world, &request, &given);
        got = take();
        cr_assert(looks_like(got->body, MIB + i, i));
        cr_assert_null(got->parcel);
        answer(got, pattern(2 * MIB, 5));
        event = world_event(world, DISPATCH_REPLY);
        cr_assert_null(event->parcel);
        cr_assert(looks_like(event->body, 2 * MIB, 5));
    }
    finish();
}

Test(dispatch_parcels, without_shared_memory_everything_goes_through_the_socket)
{
    prepare();
    given.payload_byte_limit = 0;
    begin(1);
    goes_through_the_socket();
}

Test(dispatch_parcels, a_peer_that_may_hold_nothing_gets_everything_through_the_socket)
{
    prepare();
    given.payload_peer_limit = 0;
    begin(1);
    goes_through_the_socket();
}

/* ---- somebody cannot, or will not ---- */

Test(dispatch_parcels, a_rejected_request_goes_elsewhere_from_the_same_slot)
{
    prepare();
    max_ongoing = 1;
    begin(2);
    struct taker_request *got[2];
    int by[2], owners[3];
    for (int i = 0; i < 2; i++) {
        struct dispatch_request small = request_of(BYTES("small"));
        world_submit(world, &small, &owners[i]);
    }
    for (int i = 0; i < 2; i++) {
        got[i] = take();
        by[i] = taken_by;
    }
    struct dispatch_request request = request_of((struct bytes){0});
    request.parcel = born_in_a_slot(dispatch_desk(world->dispatch), 2 * MIB, 3);
    world_submit(world, &request, &owners[2]);
    parcel_unref(request.parcel);
    world_idle(world);
    for (int i = 0; i < 2; i++) {
        taken_by = by[i];
        answer(got[i], BYTES("done"));
    }
    struct taker_request *large = take();
    cr_assert(looks_like(large->body, 2 * MIB, 3));
    answer(large, pattern(100000, 9));
    for (int i = 0; i < 3; i++)
        cr_assert(world_event(world, DISPATCH_REPLY)->end);
    finish();
}

Test(dispatch_parcels, a_replica_that_dies_before_it_took_it_leaves_it_to_another)
{
    prepare();
    begin(1);
    struct dispatch_request request = request_of((struct bytes){0});
    request.parcel = born_in_a_slot(dispatch_desk(world->dispatch), 2 * MIB, 3);
    world_submit(world, &request, &given);
    parcel_unref(request.parcel);
    world_idle(world);
    replica_end(0);
    world_idle(world);
    replica_start(0);
    struct taker_request *got = take();
    cr_assert(looks_like(got->body, 2 * MIB, 3));
    answer(got, BYTES("done"));
    cr_assert(world_event(world, DISPATCH_REPLY)->end);
    finish();
}

Test(dispatch_parcels, a_replica_that_dies_with_it_ends_the_call_and_frees_the_slot)
{
    prepare();
    begin(1);
    struct dispatch_request request = request_of(pattern(MIB, 3));
    world_submit(world, &request, &given);
    struct parcel *kept = parcel_ref(take()->parcel);
    replica_end(0);
    world_ends(world, &given, ERROR_REPLICA_DIED);
    cr_assert_eq(used_bytes(), 0);
    cr_assert(looks_like(kept->value, MIB, 3), "who reads it still may go on");
    request.body = pattern(MIB, 4);
    world_submit(world, &request, &given);
    replica_start(0);
    struct taker_request *got = take();
    cr_assert(looks_like(got->body, MIB, 4));
    cr_assert(looks_like(kept->value, MIB, 3), "and sees nothing else");
    parcel_unref(kept);
    answer(got, BYTES("done"));
    cr_assert(world_event(world, DISPATCH_REPLY)->end);
    finish();
}

Test(dispatch_parcels, a_cancelled_request_keeps_its_slot_until_the_replica_lets_go)
{
    prepare();
    begin(1);
    struct dispatch_request request = request_of(pattern(MIB, 3));
    struct dispatch_call *call = world_submit(world, &request, &given);
    struct taker_request *got = take();
    dispatch_cancel(call, ERROR_CANCELLED);
    world_idle(world);
    cr_assert_geq(used_bytes(), MIB);
    cr_assert(got->cancelled && looks_like(got->body, MIB, 3));
    answer(got, pattern(MIB, 8));
    world_idle(world);
    cr_assert_not(world_has_event(world));
    finish();
}

Test(dispatch_parcels, a_cancel_that_crosses_the_answer_leaves_no_slot_behind)
{
    prepare();
    begin(1);
    for (int turns = 0; turns < 6; turns++) {
        struct dispatch_request request = request_of(pattern(MIB, 3));
        struct dispatch_call *call = world_submit(world, &request, &given);
        struct taker_request *got = take();
        world->pauses = true; /* what comes is not looked at */
        answer(got, pattern(MIB, 8));
        for (int i = 0; i < turns; i++)
            world_turn(world);
        dispatch_cancel(call, ERROR_CANCELLED);
        world->pauses = false;
        world_idle(world);
        world_drop_events(world);
        cr_assert(world_until(world, nothing_is_used));
    }
    finish();
}

Test(dispatch_parcels, a_body_over_the_replicas_limit_is_refused_and_given_back)
{
    prepare();
    given.body_collect_limit = MIB;
    begin(1);
    struct dispatch_request request = request_of(pattern(MIB + 1, 3));
    world_submit(world, &request, &given);
    world_ends(world, &given, ERROR_TOO_LARGE);
    finish();
}

Test(dispatch_parcels, an_owner_that_keeps_answers_gets_the_next_through_the_socket)
{
    prepare();
    given.payload_peer_limit = 3 * MIB;
    given.process_byte_budget = 64 * MIB;
    begin(1);
    struct parcel *kept[5] = {0};
    for (uint32_t i = 0; i < 5; i++) {
        struct dispatch_request request = request_of(BYTES("more"));
        world_submit(world, &request, &given);
        answer(take(), pattern(MIB, i));
        const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
        cr_assert(looks_like(event->body, MIB, i));
        cr_assert_eq(event->parcel != NULL, i < 3, "answer %u", i);
        kept[i] = event->parcel ? parcel_ref(event->parcel) : NULL;
    }
    for (int i = 0; i < 5; i++)
        parcel_unref(kept[i]);
    finish();
}

/* ---- streams ---- */

static bool item_is_taken(struct world *of);
static struct parcel *item;
static struct taker_request *streaming;
static bool item_is_taken(struct world *of)
{
    struct taker_event event;
    (void)of;
    while (taker_next(replicas[0].taker, &event))
        ;
    int code = taker_write_parcel(replicas[0].taker, streaming, item);
    cr_assert(code == 0 || code == ERROR_AGAIN, "code %d", code);
    return code == 0;
}

/* Items come as they were written, by reference or in bytes. */
static void stream_items(bool lent)
{
    begin(1);
    struct dispatch_request request = request_of(BYTES("a stream"));
    request.stream = true;
    struct dispatch_call *call = world_submit(world, &request, &given);
    streaming = take();
    taker_begin(replicas[0].taker, streaming, &(struct taker_answer){.body_size = UINT64_MAX});
    cr_assert_not(world_event(world, DISPATCH_REPLY)->end);
    for (uint32_t i = 0; i < 5; i++) {
        struct parcel_piece piece = {.bytes = pattern(MIB, i)};
        int code;
        item = parcel_new(taker_desk(replicas[0].taker), BYTES("item"), &piece, 1, &code);
        cr_assert(world_until(world, item_is_taken));
        parcel_unref(item);
        struct parcel *opened = NULL;
        uint8_t *bytes = NULL;
        size_t size = 0;
        bool attached = false, more = true;
        while (more) {
            const struct dispatch_event *event = world_event(world, DISPATCH_DATA);
            more = event->more;
            attached |= event->attached;
            opened = event->parcel ? parcel_ref(event->parcel) : NULL;
            bytes = realloc(bytes, size + event->body.size + 1);
            memcpy(bytes + size, event->body.at, event->body.size);
            size += event->body.size;
            dispatch_grant(call, event->cost);
        }
        cr_assert_eq(opened != NULL, lent);
        cr_assert_eq(attached, !lent);
        if (!opened)
            cr_assert_eq(parcel_open(NULL, bytes_of(bytes, size), NULL, &opened), 0);
        cr_assert(bytes_equal(opened->value, BYTES("item")));
        cr_assert(looks_like(opened->pieces[0].bytes, MIB, i));
        parcel_unref(opened);
        free(bytes);
    }
    taker_finish(replicas[0].taker, streaming, 0, (struct bytes){0});
    world_ends(world, &given, 0);
    finish();
}

Test(dispatch_parcels, items_of_a_stream_come_by_reference)
{
    prepare();
    stream_items(true);
}

Test(dispatch_parcels, items_of_a_stream_come_through_the_socket_where_they_must)
{
    prepare();
    given.payload_peer_limit = 0;
    stream_items(false);
}

/* A slow reader of a stream of large parts is lent two, whatever their size; the writer hears of room
 * when one has been used. */
Test(dispatch_parcels, large_parts_of_an_http_answer_are_lent_as_credit_allows)
{
    prepare();
    begin(1);
    struct dispatch_request request = request_of(BYTES("a stream"));
    request.stream = true;
    request.kind = WIRE_KIND_HTTP;
    struct dispatch_call *call = world_submit(world, &request, &given);
    struct taker *taker = replicas[0].taker;
    streaming = take();
    taker_begin(taker, streaming, &(struct taker_answer){.body_size = UINT64_MAX});
    cr_assert_not(world_event(world, DISPATCH_REPLY)->end);
    uint32_t written = 0, read = 0, lent = 0;
    while (read < 12) {
        struct taker_event event;
        while (taker_next(taker, &event))
            ;
        while (written < 12 && taker_write(taker, streaming, pattern(MIB, written)) == 0)
            written++;
        cr_assert_leq(slot_pool_used_bytes(parcel_desk_slots(taker_desk(taker))), 3 * MIB);
        const struct dispatch_event *part = world_event(world, DISPATCH_DATA);
        if (part->parcel) { /* else the reader had not mapped the region yet */
            lent++;
            cr_assert_eq(part->cost, (size_t)given.wire_stream_credit / 2);
            cr_assert(looks_like(part->body, MIB, read++));
        } else {
            size_t size = part->body.size;
            bool more = part->more;
            dispatch_grant(call, part->cost);
            while (more) {
                part = world_event(world, DISPATCH_DATA);
                size += part->body.size;
                more = part->more;
                if (more)
                    dispatch_grant(call, part->cost);
            }
            cr_assert_eq(size, MIB);
            read++;
        }
        dispatch_grant(call, part->cost);
    }
    cr_assert_geq(lent, 8);
    taker_finish(taker, streaming, 0, (struct bytes){0});
    world_ends(world, &given, 0);
    finish();
}

/* ---- all at once ---- */

Test(dispatch_parcels, many_calls_of_many_sizes_all_end_and_leave_nothing)
{
    struct rng rng;
    prepare();
    given.payload_byte_limit = 24 * MIB;
    given.payload_peer_limit = 8 * MIB;
    begin(2);
    rng_init(&rng, 3);
    struct {
        struct taker_request *request;
        int by;
    } held[TAKEN_MOST];
    uint32_t held_count = 0, out = 0, done = 0;
    for (uint32_t sent = 0; sent < 600 || out > 0;) {
        bool batched;
        if (sent < 600 && out < 20) {
            size_t size = (size_t)(rng_next(&rng) % (rng_next(&rng) % 4 ? 300000 : 3 * MIB)) + 1;
            struct dispatch_request request = request_of(pattern(size, (uint32_t)size));
            struct dispatch_call *call = world_submit(world, &request, &given);
            out++;
            sent++;
            if (rng_next(&rng) % 10 == 0) {
                dispatch_cancel(call, ERROR_CANCELLED);
                out--;
            }
        }
        for (int k = 0; k < 2; k++)
            while (held_count < TAKEN_MOST &&
                   taker_take(replicas[k].taker, &held[held_count].request, 1, &batched) == 1)
                held[held_count++].by = k;
        if (held_count > 0 && rng_next(&rng) % 2) {
            uint32_t which = (uint32_t)(rng_next(&rng) % held_count);
            struct taker_request *request = held[which].request;
            cr_assert(looks_like(request->body, request->body.size, (uint32_t)request->body.size));
            taken_by = held[which].by;
            held[which] = held[--held_count];
            if (request->parcel && rng_next(&rng) % 3 == 0)
                answer_parcel(request, request->parcel);
            else
                answer(request, pattern(request->body.size, (uint32_t)request->body.size));
        }
        world_turn(world);
        while (world_has_event(world)) {
            const struct dispatch_event *event = world_event(world, DISPATCH_REPLY);
            cr_assert(looks_like(event->body, event->body.size, (uint32_t)event->body.size));
            out--;
            done++;
        }
        parcel_desk_check(dispatch_desk(world->dispatch));
        taker_check(replicas[0].taker);
    }
    cr_assert_gt(done, 400);
    while (held_count > 0) { /* those that were cancelled */
        taken_by = held[--held_count].by;
        answer(held[held_count].request, BYTES("late"));
    }
    finish();
}
