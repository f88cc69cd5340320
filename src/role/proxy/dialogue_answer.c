/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialogue_answer: an accepted websocket: what the replica says.
 *
 * Each piece of a record is a frame of its own, so that a message of any size needs no room here;
 * the credit goes back when the bytes have left.  Behind a close nothing is written.
 */
#include <string.h>

#include "ensure.h"
#include "log.h"
#include "metrics.h"
#include "proxy.h"
#include "wire.h"

void dialogue_finish(struct exchange *exchange)
{
    if (exchange->over || exchange->connection->closed)
        return;
    exchange->over = true;
    access_log(exchange);
    connection_dirty(exchange->connection);
}

void dialogue_close(struct exchange *exchange, unsigned code, struct bytes reason)
{
    struct connection *connection = exchange->connection;
    if (exchange->dialogue->close_sent || connection->closed)
        return;
    exchange->dialogue->close_sent = true;
    exchange->status = (uint16_t)code;
    uint8_t *room =
        connection_room(connection, exchange, WEBSOCKET_FRAME_HEAD_MOST + WEBSOCKET_CONTROL_MOST);
    if (room)
        connection_wrote(connection, exchange,
                         websocket_write_close(exchange->dialogue->engine, code, reason, room));
}

static void write_piece(struct exchange *exchange, const struct websocket_record *record)
{
    struct connection *connection = exchange->connection;
    struct websocket *engine = exchange->dialogue->engine;
    uint64_t least = (uint64_t)connection->proxy->settings.websocket_deflate_least;
    bool squeeze = (uint64_t)record->bytes.size + record->left >= least || !record->last;
    size_t wanted = websocket_write_room(engine, squeeze, record->bytes.size);
    uint8_t *room = connection_room(connection, exchange, wanted);
    if (!room)
        return;
    size_t size = websocket_write_piece(engine, record->kind == WEBSOCKET_KIND_TEXT, record->last,
                                        squeeze, record->bytes, room);
    if (size == 0) {
        dialogue_drop_call(exchange, WEBSOCKET_INTERNAL_ERROR, (struct bytes){0});
        connection_close(connection); /* in the middle of a message, without memory */
        return;
    }
    metric_add(websocket_sent_total, record->last);
    connection_wrote(connection, exchange, size);
}

void dialogue_tell(struct exchange *exchange, struct bytes part)
{
    struct dialogue *dialogue = exchange->dialogue;
    struct websocket_record record;
    int code = 1;
    exchange->ungranted += part.size;
    while (!dialogue->close_sent && !exchange->over && !exchange->connection->closed &&
           (code = websocket_record_next(&dialogue->reader, &part, &record)) == 1)
        write_piece(exchange, &record);
    if (code < 0) {
        metric_add(peer_glitches_total, 1);
        dialogue_drop_call(exchange, WEBSOCKET_INTERNAL_ERROR, (struct bytes){0});
        dialogue_close(exchange, WEBSOCKET_INTERNAL_ERROR, (struct bytes){0});
    }
    if (dialogue->close_sent)
        exchange_granted(exchange); /* nobody will read it */
}

/* What user code closed with, or 1000 when it just ended. */
static unsigned read_close(struct bytes trailers, struct bytes *ret_reason)
{
    struct bytes digits;
    uint64_t code;
    *ret_reason = (struct bytes){0};
    if (!wire_field_find(trailers, WEBSOCKET_CLOSE_CODE, &digits) || !bytes_to_u64(digits, &code) ||
        code > UINT16_MAX)
        return WEBSOCKET_NORMAL;
    wire_field_find(trailers, WEBSOCKET_CLOSE_REASON, ret_reason);
    return (unsigned)code;
}

void dialogue_end(struct exchange *exchange, const struct dispatch_event *event)
{
    struct bytes reason = {0};
    exchange->call = NULL;
    if (exchange->over || exchange->connection->closed || exchange->dialogue->close_sent)
        return;
    unsigned code =
        event->code < 0 ? WEBSOCKET_INTERNAL_ERROR : read_close(event->trailers, &reason);
    if (event->code < 0)
        log_request(LOG_ERROR, bytes_of(exchange->request_id, exchange->request_id_size),
                    "websocket %s: %s: %.*s", exchange->route, error_name(event->code),
                    BYTES_PRINT(event->text));
    dialogue_close(exchange, code, reason);
}
