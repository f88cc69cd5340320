/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_tap: reads along on local connections.
 *
 * It knows frames by their headers and the first bytes behind them, tells the story of what was
 * said, and keeps for every request on the wire how far its answer is: an answer that begins twice,
 * goes on after its end, or answers nothing is seen here, whatever the sender makes of it (R1).
 * From the snapshots that pass it learns which replicas a version holds (R3, R4).
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "map.h"
#include "mem.h"
#include "wire.h"
#include "world.h"

enum {
    PAYLOAD_SEEN = 64,
    SEEN_SIZE = WIRE_HEADER_SIZE + PAYLOAD_SEEN,
    CONNECTIONS_MOST = 1 << 20,
    ROWS_MOST = 256
};

enum answer_state { ANSWER_AWAITED = 1, ANSWER_BEGUN };

struct side { /* one direction */
    uint8_t seen[SEEN_SIZE];
    size_t have;   /* bytes of `seen` */
    uint64_t left; /* of the frame, behind what was seen */
};

struct tapped {
    uint32_t number;
    char name[80];
    struct side sides[2];
    struct map answers; /* stream id -> enum answer_state */
    uint64_t version;   /* of the snapshot that passes */
    uint64_t rows[ROWS_MOST];
    uint32_t row_count;
    uint64_t apps[WORLD_APPS]; /* ids of their deployments, where those are available; or 0 */
};

struct world_tap {
    struct world *world;
    struct map connections; /* struct tapped by number */
};

struct world_tap *world_tap_new(struct world *world)
{
    struct world_tap *tap = mem_new(sizeof *tap);
    tap->world = world;
    map_init(&tap->connections, CONNECTIONS_MOST);
    return tap;
}

struct world_tap *world_tap_free(struct world_tap *tap)
{
    struct map_entry *entry;
    map_each (entry, &tap->connections) {
        struct tapped *tapped = entry->value;
        map_done(&tapped->answers);
        mem_free(tapped);
    }
    map_done(&tap->connections);
    return mem_free(tap);
}

static struct tapped *find(struct world_tap *tap, const void *stream)
{
    uint32_t number = sim_stream_number(stream);
    struct tapped *tapped = map_get(&tap->connections, number);
    if (tapped)
        return tapped;
    tapped = mem_new(sizeof *tapped);
    tapped->number = number;
    snprintf(tapped->name, sizeof tapped->name, "%s", sim_stream_name(stream));
    map_init(&tapped->answers, CONNECTIONS_MOST);
    int bad = map_try_put(&tap->connections, number, tapped);
    ensure(bad == 0);
    return tapped;
}

/* ---- what frames mean ---- */

static uint64_t number_at(const struct side *side, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
        value = value << 8 | side->seen[WIRE_HEADER_SIZE + i];
    return value;
}

static void put_state(struct tapped *tapped, uint64_t stream, enum answer_state state)
{
    int bad = map_try_put(&tapped->answers, stream, (void *)(uintptr_t)state);
    ensure(bad == 0);
}

static void on_request(struct world_tap *tap, struct tapped *tapped, uint64_t stream)
{
    if (map_get(&tapped->answers, stream))
        world_fail(tap->world, "R1: on %s the id of a request is used while it is out",
                   tapped->name);
    put_state(tapped, stream, ANSWER_AWAITED);
}

/* `begins`, `ends`: what the frame does to the answer. */
static void on_answer(struct world_tap *tap, struct tapped *tapped, uint64_t stream, bool begins,
                      bool needs_begin, bool ends)
{
    uintptr_t state = (uintptr_t)map_get(&tapped->answers, stream);
    if (!state)
        world_fail(tap->world, "R1: on %s an answer that nobody waits for, to %u.%u", tapped->name,
                   (uint32_t)stream, (uint32_t)(stream >> 32));
    if ((begins && state != ANSWER_AWAITED) || (needs_begin && state != ANSWER_BEGUN))
        world_fail(tap->world, "R1: on %s an answer to %u.%u that begins twice, or not at all",
                   tapped->name, (uint32_t)stream, (uint32_t)(stream >> 32));
    if (ends)
        map_remove(&tapped->answers, stream);
    else if (begins)
        put_state(tapped, stream, ANSWER_BEGUN);
}

static void note_deployment(struct world_tap *tap, struct tapped *tapped, const struct side *side)
{
    struct wire_snapshot_deployment row;
    int bad = wire_snapshot_deployment_read(
        &row, bytes_of(side->seen + WIRE_HEADER_SIZE, side->have - WIRE_HEADER_SIZE));
    ensure(bad == 0);
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        if (row.available && bytes_equal(row.name, bytes_of_string(tap->world->apps[i].name)))
            tapped->apps[i] = row.id;
}

static void on_snapshot_frame(struct world_tap *tap, struct tapped *tapped, const struct side *side,
                              uint8_t type)
{
    if (type == WIRE_SNAPSHOT_FRAME) {
        tapped->version = number_at(side, 8);
        tapped->row_count = 0;
        memset(tapped->apps, 0, sizeof tapped->apps);
    } else if (type == WIRE_SNAPSHOT_DEPLOYMENT_FRAME) {
        note_deployment(tap, tapped, side);
    } else if (type == WIRE_SNAPSHOT_REPLICA_FRAME) {
        ensure(tapped->row_count < ROWS_MOST);
        tapped->rows[tapped->row_count++] = number_at(side, 8);
    } else if (type == WIRE_SNAPSHOT_END_FRAME) {
        world_check_snapshot(tap->world, tapped->version, tapped->apps, tapped->rows,
                             tapped->row_count);
    }
}

static void on_replica_frame(struct world_tap *tap, struct tapped *tapped, const struct side *side,
                             const struct wire_header *header)
{
    bool ends = header->flags & WIRE_END;
    switch (header->type) {
    case WIRE_REPLY_FRAME:
        on_answer(tap, tapped, header->stream, true, false,
                  ends || (int32_t)number_at(side, 4) < 0);
        break;
    case WIRE_PART_FRAME:
        on_answer(tap, tapped, header->stream, false, true, ends);
        break;
    case WIRE_HALF_CLOSE_FRAME:
        on_answer(tap, tapped, header->stream, false, false, true);
        break;
    case WIRE_REJECT_FRAME:
        on_answer(tap, tapped, header->stream, true, false, true);
        break;
    default:
        break;
    }
}

/* Heartbeats and the rows of snapshots would fill the story. */
static bool is_news(uint8_t type)
{
    return type != WIRE_PING_FRAME && type != WIRE_PONG_FRAME && type != WIRE_SNAPSHOT_APP_FRAME &&
           type != WIRE_SNAPSHOT_DEPLOYMENT_FRAME && type != WIRE_SNAPSHOT_REPLICA_FRAME &&
           type != WIRE_SNAPSHOT_END_FRAME;
}

static void on_frame(struct world_tap *tap, struct tapped *tapped, const struct side *side,
                     bool from_connector)
{
    struct wire_header header;
    wire_header_read(&header, side->seen);
    if (is_news(header.type))
        sim_say("%s %s: %s %u.%u%s, %u bytes", tapped->name, from_connector ? "->" : "<-",
                wire_frame_name(header.type), (uint32_t)header.stream,
                (uint32_t)(header.stream >> 32), header.flags & WIRE_END ? " end" : "",
                header.size);
    if (from_connector && header.type == WIRE_REQUEST_FRAME)
        on_request(tap, tapped, header.stream);
    if (!from_connector) {
        on_replica_frame(tap, tapped, side, &header);
        on_snapshot_frame(tap, tapped, side, header.type);
    }
}

/* ---- bytes ---- */

/* How much of a frame's front is kept: the header, and of short frames what there is. */
static size_t wanted(const struct side *side)
{
    struct wire_header header;
    if (side->have < WIRE_HEADER_SIZE)
        return WIRE_HEADER_SIZE;
    wire_header_read(&header, side->seen);
    return WIRE_HEADER_SIZE + (header.size < PAYLOAD_SEEN ? header.size : PAYLOAD_SEEN);
}

static struct bytes see(struct side *side, struct bytes bytes)
{
    while (side->have < wanted(side) && bytes.size) {
        size_t part = wanted(side) - side->have;
        part = part < bytes.size ? part : bytes.size;
        memcpy(side->seen + side->have, bytes.at, part);
        side->have += part;
        bytes = bytes_skip(bytes, part);
    }
    return bytes;
}

void world_tap_bytes(void *owner, const void *stream, bool from_connector, struct bytes bytes)
{
    struct world_tap *tap = owner;
    struct tapped *tapped = find(tap, stream);
    struct side *side = &tapped->sides[from_connector];
    struct wire_header header;
    while (bytes.size) {
        if (side->left) {
            size_t part = side->left < bytes.size ? (size_t)side->left : bytes.size;
            side->left -= part;
            bytes = bytes_skip(bytes, part);
            continue;
        }
        bytes = see(side, bytes);
        if (side->have < WIRE_HEADER_SIZE || side->have < wanted(side))
            break;
        on_frame(tap, tapped, side, from_connector);
        wire_header_read(&header, side->seen);
        side->left = WIRE_HEADER_SIZE + header.size - side->have;
        side->have = 0;
    }
}
