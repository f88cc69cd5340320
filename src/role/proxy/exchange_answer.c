/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_answer: an answer as bytes: head, framed body, end.
 *
 * The framing is chosen with the head: a known length, chunks, or the end of the connection for
 * HTTP/1.0.  Body bytes are copied once, from the received frame into what the connection writes at
 * the end of the turn; their credit goes back when they have left.  An answer whose length comes
 * out wrong is broken off: the client must be able to see it.
 */
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "proxy.h"

static void count_answer(uint16_t status)
{
    if (status < 300)
        metric_add(http_answers_2xx_total, 1);
    else if (status < 400)
        metric_add(http_answers_3xx_total, 1);
    else if (status < 500)
        metric_add(http_answers_4xx_total, 1);
    else
        metric_add(http_answers_5xx_total, 1);
}

void exchange_write_head(struct exchange *exchange, uint16_t status, uint64_t body_size,
                         struct bytes content_type, struct bytes headers)
{
    struct connection *connection = exchange->connection;
    struct proxy *proxy = connection->proxy;
    bool last = list_last(&connection->exchanges) == &exchange->link;
    if (last && (connection->closing || proxy->draining))
        exchange->keep_alive = false;
    struct http1_answer answer = {
        .status = status,
        .minor = exchange->minor,
        .head_request = exchange->method == HTTP1_HEAD,
        .keep_alive = exchange->keep_alive,
        .body_size = body_size,
        .date = proxy_date(proxy),
        .content_type = content_type,
        .headers = headers,
        .request_id = bytes_of(exchange->request_id, exchange->request_id_size),
        .upgrade = exchange->tells_upgrade ? BYTES("websocket") : (struct bytes){0},
    };
    size_t wanted = http1_answer_room(&answer);
    uint8_t *room = connection_room(connection, exchange, wanted);
    if (!room)
        return;
    size_t size = http1_write_answer(&answer, room, wanted, &exchange->framing);
    ensure(size > 0);
    if (exchange->framing == HTTP1_FRAMING_CLOSE)
        exchange->keep_alive = false;
    connection->closing |= !exchange->keep_alive;
    exchange->answered = true;
    exchange->status = status;
    exchange->answer_left = exchange->framing == HTTP1_FRAMING_LENGTH ? body_size : 0;
    count_answer(status);
    connection_wrote(connection, exchange, size);
}

static void write_bytes(struct exchange *exchange, struct bytes bytes)
{
    uint8_t *room = connection_room(exchange->connection, exchange, bytes.size);
    if (room && bytes.size) {
        memcpy(room, bytes.at, bytes.size);
        connection_wrote(exchange->connection, exchange, bytes.size);
    }
}

static void write_chunk(struct exchange *exchange, struct bytes part)
{
    struct connection *connection = exchange->connection;
    uint8_t *room = connection_room(connection, exchange, part.size + 20);
    if (!room)
        return;
    size_t size = http1_write_chunk_head(part.size, room);
    memcpy(room + size, part.at, part.size);
    memcpy(room + size + part.size, "\r\n", 2);
    connection_wrote(connection, exchange, size + part.size + 2);
}

/*
 * Behind an unanswered request nothing leaves, yet its user code must come to an end: it may hold
 * the place that the earlier request waits for.  So what it writes is kept, up to a limit; past
 * that the connection has a time limit (connection_judge).
 */
static void exchange_keep_going(struct exchange *exchange)
{
    const struct connection *connection = exchange->connection;
    size_t limit = (size_t)connection->proxy->settings.http_pending_limit;
    if (connection->exchanges.head.next == &exchange->link)
        return;
    if (exchange->pending_size <= limit)
        exchange_granted(exchange);
    else
        connection_dirty(exchange->connection); /* its phase is another one now */
}

static void write_part(struct exchange *exchange, struct bytes part, size_t cost)
{
    if (!part.size || exchange->connection->closed || exchange->over)
        return;
    exchange->ungranted += cost;
    switch (exchange->framing) {
    case HTTP1_FRAMING_NONE:
        exchange_granted(exchange); /* an answer to HEAD: nobody wants it */
        break;
    case HTTP1_FRAMING_LENGTH:
        if (part.size > exchange->answer_left) {
            exchange_break(exchange);
            break;
        }
        exchange->answer_left -= part.size;
        write_bytes(exchange, part);
        break;
    case HTTP1_FRAMING_CHUNKED:
        write_chunk(exchange, part);
        break;
    case HTTP1_FRAMING_CLOSE:
        write_bytes(exchange, part);
        break;
    }
    if (!exchange->connection->closed)
        exchange_keep_going(exchange);
}

void exchange_write_body(struct exchange *exchange, struct bytes part)
{
    write_part(exchange, part, part.size);
}

static void write_lent(struct exchange *exchange, struct parcel *parcel, size_t cost)
{
    struct connection *connection = exchange->connection;
    uint8_t head[18];
    bool chunked = exchange->framing == HTTP1_FRAMING_CHUNKED;
    exchange->ungranted += cost;
    if (exchange->framing == HTTP1_FRAMING_LENGTH)
        exchange->answer_left -= parcel->value.size;
    if (chunked)
        write_bytes(exchange,
                    bytes_of(head, http1_write_chunk_head(parcel->value.size, head)));
    connection_write_tail(connection, exchange, parcel_ref(parcel), cost);
    if (chunked)
        write_bytes(exchange, BYTES("\r\n"));
}

/* Where it cannot be written from where it lies it is copied, as any part is.  Of an exchange that
 * waits for its turn only the last part stays where it is. */
void exchange_write_parcel(struct exchange *exchange, struct parcel *parcel, size_t cost)
{
    struct connection *connection = exchange->connection;
    bool first = list_first(&connection->exchanges) == &exchange->link;
    bool with_length = exchange->framing == HTTP1_FRAMING_LENGTH;
    size_t size = parcel->value.size;
    if (connection->closed || exchange->over)
        return;
    if (size < SLOT_LEAST || exchange->framing == HTTP1_FRAMING_NONE ||
        (with_length && size > exchange->answer_left) ||
        (!first && !(with_length && size == exchange->answer_left))) {
        write_part(exchange, parcel->value, cost);
        return;
    }
    if (first) {
        write_lent(exchange, parcel, cost);
        return;
    }
    exchange->answer_left = 0;
    exchange->ungranted += cost;
    exchange->tail = parcel_ref(parcel);
    exchange_keep_going(exchange);
}

/* Whether the connection goes on is decided here, when the answer's head can still say so.  A rest
 * that is short, or may be, is read and dropped; a long one ends the connection, and so does one of
 * which nobody knows whether the client will send it (RFC 9110 10.1.1). */
void exchange_leave_body(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    struct http1_body *body = &connection->body;
    if (!connection->in_body || exchange->discard ||
        list_last(&connection->exchanges) != &exchange->link)
        return;
    exchange->discard = true;
    exchange_drop_slot(exchange);
    connection->in_start += connection->held;
    connection->held = 0;
    if (exchange->broken || exchange->expects ||
        (body->kind == HTTP1_BODY_LENGTH && body->left > DISCARD_LIMIT))
        exchange->keep_alive = false;
    if (body->limit - body->total > DISCARD_LIMIT)
        body->limit = body->total + DISCARD_LIMIT;
    if (!exchange->keep_alive) {
        connection->in_body = false;
        connection->closing = connection->linger = true;
    }
}

static void exchange_finish(struct exchange *exchange)
{
    exchange->over = true;
    exchange_leave_body(exchange);
    access_log(exchange);
    connection_dirty(exchange->connection);
}

void exchange_write_end(struct exchange *exchange, struct bytes trailers)
{
    struct connection *connection = exchange->connection;
    if (connection->closed || exchange->over)
        return;
    if (exchange->framing == HTTP1_FRAMING_LENGTH && exchange->answer_left) {
        exchange_break(exchange);
        return;
    }
    if (exchange->framing == HTTP1_FRAMING_CHUNKED) {
        size_t wanted = trailers.size * 2 + 16;
        uint8_t *room = connection_room(connection, exchange, wanted);
        if (!room)
            return;
        size_t size = trailers.size ? http1_write_trailers(trailers, room, wanted) : 0;
        if (!size) {
            memcpy(room, HTTP1_LAST_CHUNK.at, HTTP1_LAST_CHUNK.size);
            size = HTTP1_LAST_CHUNK.size;
        }
        connection_wrote(connection, exchange, size);
    }
    exchange_finish(exchange);
}

void exchange_break(struct exchange *exchange)
{
    if (exchange->connection->closed || exchange->over)
        return;
    if (exchange->call)
        dispatch_cancel(exchange->call, ERROR_CANCELLED);
    exchange->call = NULL;
    exchange->broken = true;
    exchange_finish(exchange);
}

void exchange_answer(struct exchange *exchange, uint16_t status, struct bytes content_type,
                     struct bytes headers, struct bytes body)
{
    if (exchange->call)
        dispatch_cancel(exchange->call, ERROR_CANCELLED);
    exchange->call = NULL;
    exchange_leave_body(exchange);
    exchange_write_head(exchange, status, body.size, content_type, headers);
    exchange_write_body(exchange, body);
    exchange_write_end(exchange, (struct bytes){0});
}
