/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection_output: what a client is sent.
 *
 * Only the oldest exchange of a connection writes to `out`; what the others have to say waits with
 * them until their turn comes, so that answers leave in the order of the requests.  `out` is
 * written once per turn, by connection_flush, which then looks at what the connection may do next:
 * end exchanges that are over, let the next one write, parse what waited, close.
 *
 * A large part of an answer is not copied into `out`: it is the connection's tail, written behind
 * `out` from the memory that the replica lent.  What comes behind it waits in segments of the
 * exchange, bytes and perhaps another large part each, until it has left and goes back.  Credit
 * bounds them.
 */
#include <errno.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "proxy.h"
#include "socket.h"

size_t connection_unsent(const struct connection *connection)
{
    size_t tail = connection->tail ? connection->tail->value.size - connection->tail_start : 0;
    return connection->out_end - connection->out_start + tail;
}

/* Null: no memory, and the connection is closed. */
static struct output_segment *open_segment(struct connection *connection,
                                           struct exchange *exchange)
{
    struct list_link *link = list_last(&exchange->segments);
    struct output_segment *segment =
        link ? list_entry(link, struct output_segment, link) : NULL;
    if (segment && !segment->parcel)
        return segment;
    if (!(segment = mem_try(sizeof *segment))) {
        connection_close(connection);
        return NULL;
    }
    list_push_back(&exchange->segments, &segment->link);
    return segment;
}

static void segment_free(struct output_segment *segment)
{
    list_remove(&segment->link);
    buffer_unref(segment->bytes);
    parcel_unref(segment->parcel);
    mem_free(segment);
}

void exchange_drop_segments(struct exchange *exchange)
{
    struct list_link *link;
    while ((link = list_first(&exchange->segments)))
        segment_free(list_entry(link, struct output_segment, link));
}

/* Something that has not left stands before what the oldest exchange writes now. */
static bool writes_behind(const struct connection *connection, const struct exchange *exchange)
{
    return exchange && (connection->tail || !list_empty(&exchange->segments));
}

void connection_write_tail(struct connection *connection, struct exchange *exchange,
                           struct parcel *parcel, size_t cost)
{
    struct output_segment *segment = NULL;
    if (!connection->closed && writes_behind(connection, exchange))
        segment = open_segment(connection, exchange);
    if (connection->closed) {
        parcel_unref(parcel);
        return;
    }
    if (segment) {
        segment->parcel = parcel;
        segment->cost = cost;
    } else {
        connection->tail = parcel;
        connection->tail_start = 0;
        connection->tail_cost = cost;
    }
    connection_dirty(connection);
}

/* A buffer with `size` bytes free behind *end, what it holds kept; null when memory lacks. */
static struct buffer *buffer_extend(struct proxy *proxy, struct buffer *buffer, size_t *start,
                                    size_t *end, size_t size)
{
    size_t used = *end - *start;
    size_t capacity = CONNECTION_IN_SIZE;
    if (buffer && buffer->capacity - *end >= size)
        return buffer;
    if (buffer && buffer->capacity - used >= size) {
        memmove(buffer->data, buffer->data + *start, used);
    } else {
        while (capacity - used < size || capacity < used)
            capacity *= 2;
        struct buffer *larger = buffer_try_new(proxy->buffers, capacity);
        if (!larger)
            return NULL;
        if (used)
            memcpy(larger->data, buffer->data + *start, used);
        buffer_unref(buffer);
        buffer = larger;
    }
    *start = 0;
    *end = used;
    return buffer;
}

/* Null exchange: the connection's own words (100 Continue). */
static bool writes_now(const struct connection *connection, const struct exchange *exchange)
{
    return !exchange || connection->exchanges.head.next == &exchange->link;
}

uint8_t *connection_room(struct connection *connection, struct exchange *exchange, size_t size)
{
    struct buffer *buffer;
    size_t zero = 0;
    if (connection->closed)
        return NULL;
    if (writes_now(connection, exchange) && writes_behind(connection, exchange)) {
        struct output_segment *segment = open_segment(connection, exchange);
        if (!segment)
            return NULL;
        buffer = buffer_extend(connection->proxy, segment->bytes, &zero, &segment->size, size);
        if (buffer) {
            segment->bytes = buffer;
            return buffer->data + segment->size;
        }
    } else if (writes_now(connection, exchange)) {
        buffer = buffer_extend(connection->proxy, connection->out, &connection->out_start,
                               &connection->out_end, size);
        if (buffer) {
            connection->out = buffer;
            return buffer->data + connection->out_end;
        }
    } else {
        buffer = buffer_extend(connection->proxy, exchange->pending, &zero, &exchange->pending_size,
                               size);
        if (buffer) {
            exchange->pending = buffer;
            return buffer->data + exchange->pending_size;
        }
    }
    connection_close(connection);
    return NULL;
}

void connection_wrote(struct connection *connection, struct exchange *exchange, size_t size)
{
    if (writes_now(connection, exchange) && writes_behind(connection, exchange)) {
        struct list_link *link = list_last(&exchange->segments);
        list_entry(link, struct output_segment, link)->size += size;
    } else if (writes_now(connection, exchange)) {
        connection->out_end += size;
        connection_dirty(connection);
    } else {
        exchange->pending_size += size;
    }
}

/* Everything is written: what comes next. */
static void connection_drained(struct connection *connection)
{
    connection->out_start = connection->out_end = 0;
    connection->out = buffer_unref(connection->out);
    connection->blocked = false;
    struct list_link *link = list_first(&connection->exchanges);
    if (link)
        exchange_granted(list_entry(link, struct exchange, link));
    else if (connection->closing && !connection->linger)
        connection_close(connection);
    else if (connection->closing && connection->phase != PHASE_LINGER) {
        socket_shutdown_write(connection->descriptor);
        connection_enter(connection, PHASE_LINGER);
    }
}

/* What is to be written next: `out`, and the tail behind it. */
static int connection_parts(const struct connection *connection, struct iovec parts[2])
{
    int count = 0;
    if (connection->out_end > connection->out_start)
        parts[count++] = (struct iovec){connection->out->data + connection->out_start,
                                        connection->out_end - connection->out_start};
    if (connection->tail)
        parts[count++] =
            (struct iovec){(uint8_t *)connection->tail->value.at + connection->tail_start,
                           connection->tail->value.size - connection->tail_start};
    return count;
}

static void connection_sent(struct connection *connection, size_t size)
{
    size_t out = connection->out_end - connection->out_start;
    size_t from_out = size < out ? size : out;
    connection->out_start += from_out;
    if (!connection->tail)
        return;
    connection->tail_start += size - from_out;
    if (connection->tail_start < connection->tail->value.size)
        return;
    connection->tail = parcel_unref(connection->tail);
    struct list_link *link = list_first(&connection->exchanges);
    if (link && connection->tail_cost)
        exchange_granted_part(list_entry(link, struct exchange, link), connection->tail_cost);
    connection->tail_cost = 0;
}

/* What waited behind a tail that has left: its bytes follow what is in `out`. */
static void take_segment(struct connection *connection, struct exchange *exchange)
{
    struct output_segment *segment =
        list_entry(list_first(&exchange->segments), struct output_segment, link);
    if (segment->size && connection->out_end == connection->out_start) {
        buffer_unref(connection->out);
        connection->out = segment->bytes;
        connection->out_start = 0;
        connection->out_end = segment->size;
        segment->bytes = NULL;
    } else if (segment->size) {
        struct buffer *buffer =
            buffer_extend(connection->proxy, connection->out, &connection->out_start,
                          &connection->out_end, segment->size);
        if (!buffer) {
            connection_close(connection);
            return;
        }
        connection->out = buffer;
        memcpy(buffer->data + connection->out_end, segment->bytes->data, segment->size);
        connection->out_end += segment->size;
    }
    connection->tail = segment->parcel;
    connection->tail_start = 0;
    connection->tail_cost = segment->cost;
    segment->parcel = NULL;
    segment_free(segment);
}

static bool connection_write(struct connection *connection)
{
    struct iovec parts[2];
    ssize_t sent = socket_write(connection->descriptor, parts, connection_parts(connection, parts));
    if (sent < 0 && sent != -EAGAIN && sent != -EINTR) {
        connection_lost(connection);
        return false;
    }
    if (sent > 0) {
        connection_sent(connection, (size_t)sent);
        if (connection->phase == PHASE_WRITE)
            connection_enter(connection, PHASE_WRITE);
    }
    connection->blocked = connection_unsent(connection) > 0;
    return true;
}

/* Nothing of them will be written any more. */
static void connection_drop_exchanges(struct connection *connection)
{
    struct list_link *link;
    while ((link = list_first(&connection->exchanges))) {
        struct exchange *exchange = list_entry(link, struct exchange, link);
        exchange_drop_call(exchange, ERROR_CANCELLED);
        exchange_free(exchange);
    }
}

/* The oldest exchange was the connection's last.  A client that may still be sending is given time
 * to read the answer: closing over unread bytes would reset the connection (RFC 9112 9.6). */
static void connection_end(struct connection *connection, const struct exchange *exchange)
{
    connection->linger |= !connection->client_closes || exchange->broken || connection->in_body ||
                          connection->in_end > connection->in_start;
    connection->closing = true;
    connection->in_body = false;
    connection_drop_exchanges(connection);
}

/* Ends the exchanges that are over, in order, and lets the next ones write. */
static void connection_advance(struct connection *connection)
{
    struct list_link *link;
    while (!connection->closed && (link = list_first(&connection->exchanges))) {
        struct exchange *exchange = list_entry(link, struct exchange, link);
        bool last = connection->exchanges.length == 1;
        while (!connection->tail && !connection->closed && !list_empty(&exchange->segments))
            take_segment(connection, exchange);
        if (connection->closed || !exchange->over || connection->tail || (last && connection->in_body))
            return;
        if (exchange->broken || !exchange->keep_alive ||
            (last && (connection->closing || connection->proxy->draining))) {
            connection_end(connection, exchange);
            return;
        }
        exchange_free(exchange);
        if ((link = list_first(&connection->exchanges))) {
            exchange = list_entry(link, struct exchange, link);
            exchange_promote(exchange);
            connection_say_continue(connection, exchange);
        }
    }
}

void connection_flush(struct connection *connection)
{
    bool again;
    do {
        connection_advance(connection);
        if (connection->closed)
            return;
        again = connection->tail != NULL;
        if (connection_unsent(connection) && !connection_write(connection))
            return;
    } while (again && !connection->tail); /* what waited behind it goes on */
    if (!connection_unsent(connection))
        connection_drained(connection);
    if (connection->closed)
        return;
    if (connection->in_end > connection->in_start || connection->in_body || dialogue_of(connection))
        connection_process(connection);
    if (connection->closed)
        return;
    connection_watch(connection);
    connection_settle(connection, false);
}
