/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_world: the scripted peers and the waiting (dispatch_world.h).
 */
#include "dispatch_world.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "socket.h"

enum { PATIENCE_SECONDS = 20, IDLE_TURNS = 20, FRAME_MOST = 1 << 20 };

static struct bytes copy_of(struct bytes bytes)
{
    uint8_t *at = malloc(bytes.size + 1);
    cr_assert_not_null(at);
    if (bytes.size)
        memcpy(at, bytes.at, bytes.size);
    at[bytes.size] = 0;
    return bytes_of(at, bytes.size);
}

/* ---- peers ---- */

static void peer_receive(struct peer *peer)
{
    struct bytes frame;
    enum channel_taken taken;

    ssize_t size = channel_receive(&peer->channel);
    while ((taken = channel_take(&peer->channel, &frame)) == CHANNEL_FRAME) {
        struct peer_frame *slot = &peer->pending[peer->last++ % WORLD_PENDING];
        cr_assert_leq(peer->last - peer->first, WORLD_PENDING);
        wire_header_read(&slot->header, frame.at);
        slot->payload = copy_of(bytes_skip(frame, WIRE_HEADER_SIZE));
    }
    cr_assert_eq(taken, CHANNEL_NO_FRAME, "the dispatch sent a broken frame");
    if (size < 0)
        channel_close(&peer->channel);
}

static void peer_event(void *owner, struct channel *channel, int events)
{
    struct peer *peer = owner;
    cr_assert(channel == &peer->channel);
    if (peer->reads_nothing)
        channel_pause(channel, true);
    else if (events & (CHANNEL_READABLE | CHANNEL_CLOSED))
        peer_receive(peer);
}

void peer_say(struct peer *peer, const uint8_t *frame, size_t size)
{
    cr_assert(channel_is_open(&peer->channel), "%s has no connection", peer->path);
    uint8_t *at = channel_put_room(&peer->channel, size);
    cr_assert_not_null(at);
    memcpy(at, frame, size);
    channel_put_done(&peer->channel, size);
}

void peer_say_hello(struct peer *peer)
{
    uint8_t at[512];
    struct wire_hello hello;

    if (!channel_put_room(&peer->channel, sizeof at)) {
        channel_close(&peer->channel); /* a test makes allocations fail: the dispatch comes again */
        return;
    }
    wire_hello_fill(&hello, peer->role, peer->role == WIRE_ROLE_REPLICA ? peer->id : 0,
                    BYTES("scripted"));
    hello.frame_limit = peer->frame_limit;
    hello.stream_credit = peer->stream_credit;
    hello.taken_count = peer->taken_count;
    uint8_t flags = 0;
    if (peer->role == WIRE_ROLE_REPLICA && !peer->without_page) {
        page_close(&peer->taken);
        cr_assert_eq(page_create(&peer->taken, "taken", (size_t)peer->taken_count * 4 + 4), 0);
        channel_put_descriptor(&peer->channel, dup(peer->taken.descriptor));
        flags = WIRE_DESCRIPTOR;
    }
    peer_say(peer, at, wire_hello_write(&hello, flags, 0, false, at));
}

static void peer_accept(void *owner, int events)
{
    struct peer *peer = owner;
    int descriptor = socket_accept(peer->listener);
    if (descriptor < 0)
        return;
    channel_close(&peer->channel);
    if (channel_open(&peer->channel, &peer->world->channels, descriptor, peer_event, peer) < 0)
        return; /* a test makes allocations fail */
    peer->accepted_count++;
    if (!peer->silent)
        peer_say_hello(peer);
}

void peer_listen(struct peer *peer)
{
    struct error error = {0};
    peer->listener = socket_listen_unix(peer->path, 64, &error);
    cr_assert_geq(peer->listener, 0, "%s", error.text);
    cr_assert_eq(loop_watch_open(peer->world->loop, &peer->watch, peer->listener, LOOP_READ,
                                 peer_accept, peer),
                 0);
}

void peer_deafen(struct peer *peer)
{
    if (peer->listener < 0)
        return;
    loop_watch_close(&peer->watch);
    socket_close(peer->listener);
    unlink(peer->path);
    peer->listener = -1;
}

void peer_hang_up(struct peer *peer)
{
    channel_flush(&peer->channel);
    channel_close(&peer->channel);
}

void peer_read_again(struct peer *peer)
{
    peer->reads_nothing = false;
    channel_pause(&peer->channel, false);
}

bool peer_has_frame(const struct peer *peer)
{
    return peer->first != peer->last;
}

/* ---- waiting ---- */

static void keep_event(struct world *world, const struct dispatch_event *event)
{
    struct world_event *slot = &world->events[world->last++ % WORLD_PENDING];
    cr_assert_leq(world->last - world->first, WORLD_PENDING);
    size_t size = event->content_type.size + event->headers.size + event->body.size +
                  event->trailers.size + event->text.size;
    slot->is = *event;
    slot->is.parcel = event->parcel ? parcel_ref(event->parcel) : NULL;
    slot->copy = malloc(size + 1);
    cr_assert_not_null(slot->copy);
    uint8_t *at = slot->copy;
    struct bytes *slices[] = {&slot->is.content_type, &slot->is.headers, &slot->is.body,
                              &slot->is.trailers, &slot->is.text};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        if (slices[i]->size)
            memcpy(at, slices[i]->at, slices[i]->size);
        slices[i]->at = at;
        at += slices[i]->size;
    }
}

static void world_wake(void *owner)
{
    struct world *world = owner;
    cr_assert(!world->woken, "woken twice before everything was taken");
    world->woken = true;
}

void world_turn(struct world *world)
{
    struct dispatch_event event;

    loop_run_once(world->loop);
    dispatch_check(world->dispatch);
    if (!world->woken || world->pauses)
        return;
    while (dispatch_next(world->dispatch, &event)) {
        keep_event(world, &event);
        dispatch_check(world->dispatch);
    }
    world->woken = false;
    dispatch_check(world->dispatch);
}

static int64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Until `done`, turn by turn; between them the kernel says when there is something.  False:
 * patience is over. */
bool world_until(struct world *world, bool (*done)(struct world *world))
{
    int64_t give_up = seconds_now() + PATIENCE_SECONDS;

    for (uint32_t turn = 0; !done(world); turn++) {
        if (seconds_now() >= give_up)
            return false;
        if (turn % 8 == 7) {
            struct pollfd ready = {.fd = loop_descriptor(world->loop), .events = POLLIN};
            int wait_ms = loop_timeout_ms(world->loop);
            poll(&ready, 1, wait_ms < 0 || wait_ms > 20 ? 20 : wait_ms);
        }
        world_turn(world);
    }
    return true;
}

void world_idle(struct world *world)
{
    for (int i = 0; i < IDLE_TURNS; i++)
        world_turn(world);
}

bool world_has_event(const struct world *world)
{
    return world->first != world->last;
}

static bool has_event(struct world *world)
{
    return world_has_event(world);
}

const struct dispatch_event *world_any_event(struct world *world)
{
    cr_assert(world_until(world, has_event), "no event came");
    free(world->held.copy);
    parcel_unref(world->held.is.parcel);
    world->held = world->events[world->first++ % WORLD_PENDING];
    return &world->held.is;
}

const struct dispatch_event *world_event(struct world *world, enum dispatch_event_type type)
{
    world_any_event(world);
    cr_assert_eq(world->held.is.type, type, "event %d instead of %d (code %d)", world->held.is.type,
                 type, world->held.is.code);
    return &world->held.is;
}

void world_ends(struct world *world, void *owner, int code)
{
    const struct dispatch_event *event = world_event(world, DISPATCH_END);
    cr_assert_eq(event->owner, owner);
    cr_assert_eq(event->code, code, "code %d instead of %d", event->code, code);
    cr_assert(code == 0 || event->text.size > 0);
}

static struct peer *awaited;
static bool peer_has_something(struct world *world)
{
    return peer_has_frame(awaited);
}

enum wire_frame peer_next(struct peer *peer)
{
    awaited = peer;
    cr_assert(world_until(peer->world, peer_has_something), "%s heard nothing", peer->path);
    return peer->pending[peer->first % WORLD_PENDING].header.type;
}

struct wire_header peer_take(struct peer *peer, enum wire_frame type, struct bytes *ret_payload)
{
    awaited = peer;
    cr_assert(world_until(peer->world, peer_has_something), "%s heard nothing, waited for %s",
              peer->path, wire_frame_name(type));
    struct peer_frame frame = peer->pending[peer->first++ % WORLD_PENDING];
    free((void *)peer->held.at);
    peer->held = frame.payload;
    cr_assert_eq(frame.header.type, type, "%s heard %s instead of %s", peer->path,
                 wire_frame_name(frame.header.type), wire_frame_name(type));
    *ret_payload = frame.payload;
    return frame.header;
}

uint64_t peer_take_request(struct peer *peer)
{
    struct bytes payload;
    return peer_take(peer, WIRE_REQUEST_FRAME, &payload).stream;
}

static bool some_replica_has_frame(struct world *world)
{
    for (int i = 0; i < WORLD_REPLICAS; i++)
        if (peer_has_frame(&world->replicas[i]))
            return true;
    return false;
}

struct peer *world_take_request(struct world *world, uint64_t *ret_stream)
{
    cr_assert(world_until(world, some_replica_has_frame), "no replica heard of a request");
    for (int i = 0; i < WORLD_REPLICAS; i++)
        if (peer_has_frame(&world->replicas[i])) {
            *ret_stream = peer_take_request(&world->replicas[i]);
            return &world->replicas[i];
        }
    return NULL;
}

/* ---- serving ---- */

static bool has_version(struct world *world)
{
    return router_version(dispatch_router(world->dispatch)) == world->version;
}

void world_serve(struct world *world, uint32_t replica_bits)
{
    world_publish(world, replica_bits);
    cr_assert(world_until(world, has_version), "the snapshot did not arrive");
    world_event(world, DISPATCH_SNAPSHOT);
}

static uint32_t awaited_count;
static bool replicas_ready(struct world *world)
{
    struct deployment_id id = {WORLD_DEPLOYMENT};
    return router_ready_replicas(dispatch_router(world->dispatch), id) == awaited_count;
}

void world_await_ready(struct world *world, uint32_t count)
{
    awaited_count = count;
    cr_assert(world_until(world, replicas_ready), "never %u replicas ready", count);
}

/* ---- the world ---- */

static void peer_init(struct world *world, struct peer *peer, const char *name, uint8_t role,
                      uint64_t id)
{
    snprintf(peer->path, sizeof peer->path, "%.60s/%s", world->directory, name);
    peer->world = world;
    peer->listener = -1;
    peer->channel.descriptor = -1;
    peer->taken.descriptor = -1;
    peer->role = role;
    peer->id = id;
    peer->frame_limit = (uint32_t)world->settings.wire_frame_limit;
    peer->stream_credit = (uint32_t)world->settings.wire_stream_credit;
    peer->taken_count = (uint32_t)world->settings.request_limit;
}

static void peer_done(struct peer *peer)
{
    channel_close(&peer->channel);
    peer_deafen(peer);
    page_close(&peer->taken);
    while (peer->first != peer->last)
        free((void *)peer->pending[peer->first++ % WORLD_PENDING].payload.at);
    free((void *)peer->held.at);
}

/* Descriptors that this process has open. */
static uint32_t open_count(void)
{
    uint32_t count = 0;
    for (int descriptor = 0; descriptor < 1024; descriptor++)
        count += fcntl(descriptor, F_GETFD) >= 0;
    return count;
}

struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    cr_assert_not_null(world);
    world->mem_live = mem_count().live;
    loop_free(loop_new()); /* libuv opens a few for the whole process */
    world->open_count = open_count();
    strcpy(world->directory, "/tmp/dispatch-XXXXXX");
    cr_assert_not_null(mkdtemp(world->directory));
    settings_init(&world->settings);
    world->settings.reconnect_ms = 1;
    world->settings.request_limit = 256;
    world->max_ongoing = 4;
    world->max_queued = -1;
    world->loop = loop_new();
    cr_assert_not_null(world->loop);
    peer_init(world, &world->controller, "controller.sock", WIRE_ROLE_CONTROLLER, 0);
    for (int i = 0; i < WORLD_REPLICAS; i++) {
        char name[32];
        snprintf(name, sizeof name, "replica-%d.sock", i + 1);
        peer_init(world, &world->replicas[i], name, WIRE_ROLE_REPLICA, (uint64_t)i + 1);
    }
    return world;
}

bool world_try_start(struct world *world, struct error *reterr)
{
    struct channel_config config = {
        .frame_limit = (size_t)world->settings.wire_frame_limit,
        .queue_limit = (size_t)world->settings.wire_queue_limit,
        .turn_limit = (size_t)world->settings.wire_turn_limit,
        .buffer_keep = 64,
    };
    struct dispatch_config dispatch = {
        .loop = world->loop,
        .channels = &world->channels,
        .settings = &world->settings,
        .controller_socket = world->controller.path,
        .role = WIRE_ROLE_HANDLE,
        .name = "test",
        .seed = 1,
        .takes_parcels = true,
        .wake = world_wake,
        .owner = world,
    };
    if (!world->channels.loop)
        cr_assert_eq(channel_set_init(&world->channels, world->loop, &config), 0);
    if (world->controller.listener < 0)
        peer_listen(&world->controller);
    mem_fail_at(world->fail_at);
    world->dispatch = dispatch_new(&dispatch, reterr);
    mem_fail_at(0);
    return world->dispatch != NULL;
}

void world_start(struct world *world)
{
    struct error error = {0};
    cr_assert(world_try_start(world, &error), "%s", error.text);
}

struct world *world_serving(uint32_t replica_count)
{
    struct world *world = world_new();
    struct bytes payload;

    world_start(world);
    peer_take(&world->controller, WIRE_HELLO_FRAME, &payload);
    peer_take(&world->controller, WIRE_SUBSCRIBE_FRAME, &payload);
    for (uint32_t i = 0; i < replica_count; i++)
        peer_listen(&world->replicas[i]);
    world_serve(world, (1u << replica_count) - 1);
    world_await_ready(world, replica_count);
    for (uint32_t i = 0; i < replica_count; i++)
        peer_take(&world->replicas[i], WIRE_HELLO_FRAME, &payload);
    return world;
}

void world_drop_events(struct world *world)
{
    for (; world->first != world->last; world->first++) {
        free(world->events[world->first % WORLD_PENDING].copy);
        parcel_unref(world->events[world->first % WORLD_PENDING].is.parcel);
    }
    free(world->held.copy);
    parcel_unref(world->held.is.parcel);
    world->held = (struct world_event){0};
}

void world_free(struct world *world)
{
    world_drop_events(world);
    dispatch_free(world->dispatch);
    peer_done(&world->controller);
    for (int i = 0; i < WORLD_REPLICAS; i++)
        peer_done(&world->replicas[i]);
    cr_assert_eq(buffer_store_live_bytes(world->channels.buffers), 0,
                 "M1: buffers are still referenced");
    channel_set_done(&world->channels);
    loop_free(world->loop);
    rmdir(world->directory);
    cr_assert_eq(mem_count().live, world->mem_live, "M1: memory is left");
    cr_assert_eq(open_count(), world->open_count, "a descriptor is left open");
    free(world);
}

/* ---- requests ---- */

struct dispatch_request world_request(const char *body)
{
    return (struct dispatch_request){
        .deployment = {WORLD_DEPLOYMENT},
        .kind = WIRE_KIND_CALL,
        .body_whole = true,
        .method = BYTES("predict"),
        .content_type = BYTES("text/plain"),
        .request_id = BYTES("r-1"),
        .body = bytes_of_string(body),
    };
}

struct dispatch_call *world_submit(struct world *world, const struct dispatch_request *request,
                                   void *owner)
{
    struct error error = {0};
    struct dispatch_call *call = dispatch_submit(world->dispatch, request, owner, &error);
    cr_assert_not_null(call, "%s", error.text);
    dispatch_check(world->dispatch);
    return call;
}

struct dispatch_call *world_call(struct world *world, void *owner)
{
    struct dispatch_request request = world_request("question");
    return world_submit(world, &request, owner);
}
