/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialogue: an accepted websocket: what its client says, and the ways in which it ends.
 *
 *     client's bytes -> engine -> parts of messages -> records -> the call's streamed body
 *
 * A part that the replica has no room for stays with the engine, and the client is not read before
 * it has gone: the application that reads sets the pace.  Pings are answered here.  However it
 * ends, the replica's code is told what happened, and is not cancelled (Ray Serve's rule): the
 * client's own close, the code that a breach was answered with, 1012 when replica or proxy drain,
 * 1006 when the client vanished.
 */
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "proxy.h"

struct exchange *dialogue_of(const struct connection *connection)
{
    const struct list_link *link = connection->exchanges.head.next;
    if (list_empty(&connection->exchanges))
        return NULL;
    struct exchange *exchange = list_entry(link, struct exchange, link);
    return exchange->dialogue && exchange->dialogue->engine ? exchange : NULL;
}

/* ---- to the replica -------------------------------------------------------------------------- */

/* What the replica's channel did not take of a record goes first.  False: it waits. */
static bool push_rest(struct exchange *exchange)
{
    struct dialogue *dialogue = exchange->dialogue;
    if (!dialogue->rest)
        return true;
    struct bytes rest = bytes_of(dialogue->rest->data + dialogue->rest_start,
                                 dialogue->rest_end - dialogue->rest_start);
    dialogue->rest_start += dispatch_write(exchange->call, rest, false);
    if (dialogue->rest_start < dialogue->rest_end)
        return false;
    dialogue->rest = buffer_unref(dialogue->rest);
    return true;
}

static bool keep_rest(struct exchange *exchange, struct bytes rest)
{
    struct dialogue *dialogue = exchange->dialogue;
    ensure(!dialogue->rest);
    dialogue->rest = buffer_try_new(exchange->connection->proxy->buffers, rest.size);
    if (!dialogue->rest) {
        connection_close(exchange->connection);
        return false;
    }
    memcpy(dialogue->rest->data, rest.at, rest.size);
    dialogue->rest_start = 0;
    dialogue->rest_end = rest.size;
    return true;
}

/* As much of the held part as there is credit for, as one record.  False: it waits. */
static bool push_record(struct exchange *exchange)
{
    struct websocket_event *part = &exchange->dialogue->part;
    uint8_t *record = exchange->connection->proxy->scratch;
    size_t room = dispatch_write_room(exchange->call);
    if (room == 0) {
        dispatch_write(exchange->call, (struct bytes){0}, false); /* DISPATCH_ROOM comes */
        return false;
    }
    size_t most = room > 2 * WEBSOCKET_RECORD_HEAD ? room - WEBSOCKET_RECORD_HEAD : room;
    struct bytes bytes = bytes_head(part->bytes, most);
    bool all = bytes.size == part->bytes.size;
    ensure(bytes.size <= SCRATCH_SIZE - WEBSOCKET_RECORD_HEAD);
    websocket_record_write_head(part->text ? WEBSOCKET_KIND_TEXT : WEBSOCKET_KIND_BINARY,
                                all && part->last, bytes.size, record);
    if (bytes.size)
        memcpy(record + WEBSOCKET_RECORD_HEAD, bytes.at, bytes.size);
    part->bytes = bytes_skip(part->bytes, bytes.size);
    exchange->dialogue->part_held = !all;
    size_t size = WEBSOCKET_RECORD_HEAD + bytes.size;
    size_t taken = dispatch_write(exchange->call, bytes_of(record, size), false);
    return taken == size ||
           (keep_rest(exchange, bytes_of(record + taken, size - taken)) && push_rest(exchange));
}

/* True: nothing is held any more. */
static bool push(struct exchange *exchange)
{
    struct dialogue *dialogue = exchange->dialogue;
    if (!exchange->call) {
        dialogue->part_held = false;
        dialogue->rest = buffer_unref(dialogue->rest);
        return true;
    }
    if (!push_rest(exchange))
        return false;
    while (dialogue->part_held)
        if (!push_record(exchange))
            return false;
    return true;
}

bool dialogue_has_room(struct exchange *exchange)
{
    return !exchange->dialogue->part_held && !exchange->dialogue->rest &&
           exchange_has_body_room(exchange);
}

void dialogue_drop_call(struct exchange *exchange, uint16_t code, struct bytes reason)
{
    if (!exchange->call)
        return;
    exchange->status = code;
    dispatch_close(exchange->call, code, reason);
    exchange->call = NULL;
}

/* ---- from the client ------------------------------------------------------------------------- */

static void answer_ping(struct exchange *exchange, struct bytes payload)
{
    size_t most = WEBSOCKET_FRAME_HEAD_MOST + WEBSOCKET_CONTROL_MOST;
    uint8_t *room = exchange->dialogue->close_sent
                        ? NULL
                        : connection_room(exchange->connection, exchange, most);
    if (room)
        connection_wrote(exchange->connection, exchange,
                         websocket_write_pong(exchange->dialogue->engine, payload, room));
}

static void take_event(struct exchange *exchange, const struct websocket_event *event)
{
    struct dialogue *dialogue = exchange->dialogue;
    switch (event->type) {
    case WEBSOCKET_PART:
        metric_add(websocket_received_total, event->last);
        dialogue->part = *event;
        dialogue->part_held = true;
        break;
    case WEBSOCKET_PING:
        answer_ping(exchange, event->bytes);
        break;
    case WEBSOCKET_CLOSE:
        dialogue_close(exchange, event->code, (struct bytes){0}); /* the same code back */
        dialogue_drop_call(exchange, event->code, event->bytes);
        exchange->connection->client_closes = true;
        dialogue_finish(exchange);
        break;
    case WEBSOCKET_REFUSED:
        metric_add(websocket_refused_total, 1);
        dialogue_close(exchange, event->code, event->bytes);
        dialogue_drop_call(exchange, event->code, event->bytes);
        dialogue_finish(exchange);
        break;
    default:
        break;
    }
}

void dialogue_hear(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    struct dialogue *dialogue = exchange->dialogue;
    struct websocket_event event;
    enum websocket_event_type type = WEBSOCKET_PART;
    while (type != WEBSOCKET_MORE && !connection->closed && !exchange->over && push(exchange)) {
        struct bytes before = connection_input(connection), input = before;
        dialogue->pinged = dialogue->pinged && !input.size;
        type = websocket_next(dialogue->engine, &input, &event);
        connection->in_start += before.size - input.size;
        if (type != WEBSOCKET_MORE)
            take_event(exchange, &event);
    }
}

/* ---- time and ends --------------------------------------------------------------------------- */

enum phase dialogue_phase(const struct exchange *exchange)
{
    const struct dialogue *dialogue = exchange->dialogue;
    const struct connection *connection = exchange->connection;
    if (dialogue->close_sent)
        return PHASE_CLOSING;
    /* Of a client that is not read nobody knows whether it answers. */
    if (!connection->reading || !connection->proxy->settings.websocket_ping_interval_ms)
        return PHASE_BUSY;
    return dialogue->pinged ? PHASE_PING : PHASE_OPEN;
}

static void ping(struct exchange *exchange)
{
    uint8_t *room = connection_room(exchange->connection, exchange, WEBSOCKET_FRAME_HEAD_MOST);
    if (!room)
        return;
    exchange->dialogue->pinged = true;
    connection_wrote(exchange->connection, exchange,
                     websocket_write_ping(exchange->dialogue->engine, (struct bytes){0}, room));
}

void dialogue_timeout(struct exchange *exchange)
{
    switch (exchange->connection->phase) {
    case PHASE_OPEN:
        ping(exchange);
        break;
    case PHASE_PING:
        metric_add(websocket_vanished_total, 1);
        dialogue_close(exchange, WEBSOCKET_INTERNAL_ERROR, BYTES("no answer to a ping"));
        dialogue_drop_call(exchange, WEBSOCKET_ABNORMAL, (struct bytes){0});
        dialogue_finish(exchange);
        break;
    default:
        metric_add(http_timeouts_total, 1);
        connection_close(exchange->connection);
    }
}

void dialogue_lose(struct exchange *exchange)
{
    if (exchange->over)
        return;
    metric_add(websocket_vanished_total, 1);
    dialogue_drop_call(exchange, WEBSOCKET_ABNORMAL, (struct bytes){0});
    exchange->over = true;
    access_log(exchange);
}

void dialogue_leave(struct exchange *exchange)
{
    struct bytes reason = BYTES("service restart");
    struct dialogue *dialogue = exchange->dialogue;
    dialogue->leaves = true;
    if (!dialogue->engine || exchange->over || exchange->connection->closed)
        return;
    if (!dialogue->close_sent)
        dialogue_close(exchange, WEBSOCKET_RESTART, reason);
    dialogue_drop_call(exchange, WEBSOCKET_RESTART, reason);
}
