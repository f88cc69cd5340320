/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_world_say: what the scripted peers can say: answers of replicas, snapshots of the
 * controller.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "dispatch_world.h"

/* ---- what peers say ---- */

void peer_say_reply(struct peer *peer, uint64_t stream, uint8_t flags, uint16_t status,
                    const char *body)
{
    uint8_t at[1024];
    struct wire_reply reply = {
        .status = status,
        .body_size = flags & WIRE_END ? strlen(body) : UINT64_MAX,
        .content_type = BYTES("text/plain"),
        .headers = BYTES("\x01\x00\x01\x00xy"),
        .body = bytes_of_string(body),
    };
    cr_assert_leq(wire_reply_size(&reply), sizeof at);
    peer_say(peer, at, wire_reply_write(&reply, flags, stream, false, at));
}

void peer_say_error(struct peer *peer, uint64_t stream, int code, const char *text)
{
    uint8_t at[512];
    struct wire_reply reply = {.code = code, .error = bytes_of_string(text)};
    cr_assert_leq(wire_reply_size(&reply), sizeof at);
    peer_say(peer, at, wire_reply_write(&reply, WIRE_END, stream, false, at));
}

void peer_say_part(struct peer *peer, uint64_t stream, uint8_t flags, struct bytes body)
{
    struct wire_part part = {.body = body};
    uint8_t *at = malloc(wire_part_size(&part));
    cr_assert_not_null(at);
    peer_say(peer, at, wire_part_write(&part, flags, stream, false, at));
    free(at);
}

void peer_say_half_close(struct peer *peer, uint64_t stream, int code, struct bytes trailers)
{
    uint8_t at[256];
    struct wire_half_close close = {.code = code, .trailers = trailers};
    cr_assert_leq(wire_half_close_size(&close), sizeof at);
    peer_say(peer, at, wire_half_close_write(&close, 0, stream, false, at));
}

void peer_say_credit(struct peer *peer, uint64_t stream, uint32_t size)
{
    uint8_t at[64];
    struct wire_credit credit = {.size = size};
    peer_say(peer, at, wire_credit_write(&credit, 0, stream, false, at));
}

void peer_say_reject(struct peer *peer, uint64_t stream, int code, uint32_t queue_length)
{
    uint8_t at[64];
    struct wire_reject reject = {.code = code, .queue_length = queue_length};
    peer_say(peer, at, wire_reject_write(&reject, 0, stream, false, at));
}

void peer_say_pong(struct peer *peer, uint64_t token)
{
    uint8_t at[64];
    struct wire_pong pong = {.token = token};
    peer_say(peer, at, wire_pong_write(&pong, 0, 0, false, at));
}

void peer_mark_taken(struct peer *peer, uint64_t stream)
{
    page_mark_taken(&peer->taken, stream);
}

/* ---- snapshots ---- */

static void say_app(struct peer *controller)
{
    uint8_t at[256];
    struct wire_snapshot_app app = {
        .id = 3, .name = BYTES("app"), .route_prefix = BYTES("/"), .ingress = WORLD_DEPLOYMENT};
    peer_say(controller, at, wire_snapshot_app_write(&app, 0, 0, false, at));
}

static void say_deployment(struct world *world, bool available)
{
    uint8_t at[256];
    struct wire_snapshot_deployment deployment = {
        .id = WORLD_DEPLOYMENT,
        .app = BYTES("app"),
        .name = BYTES("model"),
        .max_ongoing = world->max_ongoing,
        .max_queued = world->max_queued,
        .available = available,
    };
    peer_say(&world->controller, at, wire_snapshot_deployment_write(&deployment, 0, 0, false, at));
}

static void say_replica(struct world *world, const struct peer *replica)
{
    uint8_t at[256];
    struct wire_snapshot_replica row = {.id = replica->id,
                                        .deployment = WORLD_DEPLOYMENT,
                                        .address = bytes_of_string(replica->path)};
    peer_say(&world->controller, at, wire_snapshot_replica_write(&row, 0, 0, false, at));
}

static void publish(struct world *world, uint32_t replica_bits, bool available)
{
    uint8_t at[128];
    struct wire_snapshot snapshot = {
        .version = ++world->version, .app_count = 1, .deployment_count = 1};
    struct wire_snapshot_end end = {.version = snapshot.version};

    for (int i = 0; i < WORLD_REPLICAS; i++)
        snapshot.replica_count += replica_bits >> i & 1;
    peer_say(&world->controller, at, wire_snapshot_write(&snapshot, 0, 0, false, at));
    say_app(&world->controller);
    say_deployment(world, available);
    for (int i = 0; i < WORLD_REPLICAS; i++)
        if (replica_bits >> i & 1)
            say_replica(world, &world->replicas[i]);
    peer_say(&world->controller, at, wire_snapshot_end_write(&end, 0, 0, false, at));
}

void world_publish(struct world *world, uint32_t replica_bits)
{
    publish(world, replica_bits, true);
}

void world_publish_unavailable(struct world *world)
{
    publish(world, 0, false);
}
