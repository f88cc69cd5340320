/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: the bytes of one client.
 *
 * Reads when there is room for what is read, parses one request after the other, and writes the
 * answers of its exchanges in the order of the requests, once per turn.  Pipelined requests run
 * side by side only when their methods are safe (RFC 9112 9.3.2).  A small body is waited for
 * before its request is sent on, so that a slow client holds no place at a replica; a larger one is
 * streamed as credit allows, and the client is not read while there is none.
 *
 * The end of the client's half is taken as its leaving, as Ray Serve does: requests that are out
 * are cancelled.
 */
#include <errno.h>
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "proxy.h"
#include "socket.h"

static void connection_ready(void *owner, int events);

/* ---- life
 * ------------------------------------------------------------------------------------------- */

void connection_open(struct proxy *proxy, int descriptor)
{
    struct connection *connection = pool_take(&proxy->connections);
    if (!connection) {
        metric_add(accept_full_total, 1);
        socket_close(descriptor);
        return;
    }
    connection->proxy = proxy;
    connection->descriptor = descriptor;
    connection->reading = true;
    list_init(&connection->exchanges);
    connection->phase = PHASE_IDLE;
    list_push_back(&proxy->phases[PHASE_IDLE], &connection->phase_link);
    connection->phase_ns = loop_now_ns(proxy->loop);
    if (loop_watch_open(proxy->loop, &connection->watch, descriptor, LOOP_READ, connection_ready,
                        connection) < 0) {
        metric_add(accept_full_total, 1);
        connection_close(connection);
        return;
    }
    metric_add(http_connections_total, 1);
    metric_set(http_connections, proxy->connections.used_count);
}

/* Shuts it now; its memory and that of its exchanges goes at the end of the turn, so that callers
 * up the stack may still look. */
void connection_close(struct connection *connection)
{
    struct list_link *link;
    if (connection->closed)
        return;
    connection->closed = true;
    loop_watch_close(&connection->watch);
    socket_close(connection->descriptor);
    connection->descriptor = -1;
    list_each (link, &connection->exchanges)
        exchange_drop_call(list_entry(link, struct exchange, link), ERROR_CANCELLED);
    list_remove(&connection->dirty_link);
    list_remove(&connection->starved_link);
    list_remove(&connection->phase_link);
    list_push_back(&connection->proxy->closed, &connection->phase_link);
}

void connection_free(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    struct list_link *link;
    ensure(connection->closed);
    while ((link = list_first(&connection->exchanges)))
        exchange_free(list_entry(link, struct exchange, link));
    list_remove(&connection->phase_link);
    buffer_unref(connection->in);
    buffer_unref(connection->out);
    parcel_unref(connection->tail);
    pool_give(&proxy->connections, connection);
    metric_set(http_connections, proxy->connections.used_count);
    listener_resume(proxy);
}

void connection_dirty(struct connection *connection)
{
    if (!connection->closed && !list_linked(&connection->dirty_link))
        list_push_back(&connection->proxy->dirty, &connection->dirty_link);
}

/* ---- phases
 * ------------------------------------------------------------------------------------------- */

void connection_enter(struct connection *connection, enum phase phase)
{
    struct proxy *proxy = connection->proxy;
    connection->phase = phase;
    connection->phase_ns = loop_now_ns(proxy->loop);
    list_remove(&connection->phase_link);
    list_push_back(&proxy->phases[phase], &connection->phase_link);
}

/* An answer is too long to be kept while an earlier request is not answered (exchange_keep_going).
 */
static bool connection_stalls(const struct connection *connection)
{
    const struct list_link *link = connection->exchanges.head.next;
    size_t limit = (size_t)connection->proxy->settings.http_pending_limit;
    for (; link != &connection->exchanges.head; link = link->next)
        if (list_entry(link, struct exchange, link)->pending_size > limit)
            return true;
    return false;
}

static enum phase connection_judge(const struct connection *connection)
{
    const struct exchange *dialogue = dialogue_of(connection);
    if (connection->blocked || connection_stalls(connection))
        return PHASE_WRITE;
    if (dialogue)
        return dialogue_phase(dialogue);
    if (connection->linger && connection->closing && list_empty(&connection->exchanges))
        return PHASE_LINGER;
    if (connection->in_body && connection->reading)
        return PHASE_BODY;
    if (connection->needed && list_empty(&connection->exchanges))
        return PHASE_BODY; /* a small body is waited for before its request begins */
    if (!list_empty(&connection->exchanges))
        return PHASE_BUSY;
    return connection->in_end > connection->in_start ? PHASE_HEAD : PHASE_IDLE;
}

void connection_settle(struct connection *connection, bool progress)
{
    enum phase phase = connection_judge(connection);
    bool renew = progress && (phase == PHASE_BODY || phase == PHASE_IDLE || phase == PHASE_OPEN);
    if (connection->closed)
        return;
    if (phase == PHASE_IDLE && connection->proxy->draining)
        connection_close(connection);
    else if (phase != connection->phase || renew)
        connection_enter(connection, phase);
}

void connection_timeout(struct connection *connection)
{
    struct exchange *exchange;
    if (connection->phase == PHASE_IDLE || connection->phase == PHASE_LINGER ||
        connection->phase == PHASE_WRITE) {
        if (connection->phase == PHASE_WRITE)
            metric_add(http_timeouts_total, 1);
        connection_close(connection);
        return;
    }
    if ((exchange = dialogue_of(connection))) {
        dialogue_timeout(exchange);
        return;
    }
    metric_add(http_timeouts_total, 1);
    struct list_link *link = list_last(&connection->exchanges);
    exchange = link ? list_entry(link, struct exchange, link) : exchange_new(connection);
    if (!exchange || exchange->answered) {
        connection_close(connection);
        return;
    }
    connection->in_body = false;
    connection->closing = connection->linger = true;
    local_refused(exchange, 408, "the request did not arrive in time");
    connection_dirty(connection);
}

/* ---- input
 * -------------------------------------------------------------------------------------------- */

/* Room behind in_end: by moving what is unread to the front, or by a larger buffer. */
static bool connection_make_room(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    struct buffer *in = connection->in;
    size_t unread = connection->in_end - connection->in_start;
    size_t wanted = connection->needed > unread ? connection->needed : unread + 1;
    if (in && connection->in_end < in->capacity && connection->in_start + wanted <= in->capacity)
        return true;
    if (in && wanted <= in->capacity) {
        memmove(in->data, in->data + connection->in_start, unread);
    } else {
        size_t capacity = CONNECTION_IN_SIZE;
        while (capacity < wanted)
            capacity *= 2;
        struct buffer *larger = buffer_try_new(proxy->buffers, capacity);
        if (!larger)
            return false;
        if (unread)
            memcpy(larger->data, in->data + connection->in_start, unread);
        buffer_unref(in);
        connection->in = larger;
    }
    connection->in_start = 0;
    connection->in_end = unread;
    return true;
}

/* An idle connection holds no buffer. */
static void connection_trim(struct connection *connection)
{
    if (connection->in && connection->in_start == connection->in_end) {
        connection->in_start = connection->in_end = 0;
        connection->in = buffer_unref(connection->in);
    }
}

void connection_lost(struct connection *connection)
{
    if (!list_empty(&connection->exchanges))
        metric_add(http_client_gone_total, connection->exchanges.length);
    connection_close(connection);
}

static void connection_read(struct connection *connection)
{
    if (!connection_make_room(connection)) {
        connection_close(connection);
        return;
    }
    ssize_t size = socket_read(connection->descriptor, connection->in->data + connection->in_end,
                               connection->in->capacity - connection->in_end);
    if (size == -EAGAIN || size == -EINTR)
        return;
    if (size <= 0) {
        connection_lost(connection);
        return;
    }
    connection->in_end += (size_t)size;
    if (connection->closing && !connection->in_body) {
        connection->in_start = connection->in_end; /* lingering: read and drop */
        connection_trim(connection);
        return;
    }
    connection_process(connection);
    connection_settle(connection, true);
}

/* The newest exchange, when its body is received into a slot. */
static struct exchange *connection_slot_exchange(struct connection *connection)
{
    if (!connection->in_body)
        return NULL;
    struct exchange *newest = list_entry(list_last(&connection->exchanges), struct exchange, link);
    return newest->slot ? newest : NULL;
}

/* So much of the body is in the slot. */
static void connection_slot_took(struct connection *connection, struct exchange *exchange,
                                 size_t size)
{
    connection->body.left -= size;
    connection->body.total += size;
    exchange->expects = false; /* it did not wait to be told, or was */
    exchange_slot_filled(exchange, size);
    if (connection->body.left > 0)
        return;
    connection->in_body = false;
    exchange_body_end(exchange);
}

/* Straight from the socket. */
static void connection_read_slot(struct connection *connection, struct exchange *exchange)
{
    struct proxy *proxy = connection->proxy;
    int64_t timeout_ns = proxy->settings.http_request_timeout_ms * 1000000;
    size_t room;
    uint8_t *at = exchange_slot_room(exchange, &room);
    ssize_t size = socket_read(connection->descriptor, at, room);
    if (size == -EAGAIN || size == -EINTR)
        return;
    if (size <= 0) {
        connection_lost(connection);
        return;
    }
    if (timeout_ns && loop_now_ns(proxy->loop) - exchange->begin_ns > timeout_ns) {
        connection_timeout(connection);
        return;
    }
    connection_slot_took(connection, exchange, (size_t)size);
    connection_process(connection);
    connection_settle(connection, true);
}

static void connection_ready(void *owner, int events)
{
    struct connection *connection = owner;
    if (events & LOOP_WRITE)
        connection_flush(connection);
    if (connection->closed || !(events & LOOP_READ) || !connection->reading)
        return;
    struct exchange *into_slot = connection_slot_exchange(connection);
    if (into_slot)
        connection_read_slot(connection, into_slot);
    else
        connection_read(connection);
}

void connection_watch(struct connection *connection)
{
    bool room = !connection->held && connection_unsent(connection) < OUT_HIGH;
    struct exchange *dialogue = dialogue_of(connection);
    if (dialogue) {
        room = room && dialogue_has_room(dialogue);
    } else if (connection->in_body) {
        struct exchange *newest =
            list_entry(list_last(&connection->exchanges), struct exchange, link);
        room = room && exchange_has_body_room(newest);
    } else if (!connection->closing) {
        /* The next request waits in the socket while this one's turn is not over and its first
         * bytes are here. */
        room = room && (list_empty(&connection->exchanges) ||
                        connection->in_end - connection->in_start < CONNECTION_IN_SIZE);
    }
    list_remove(&connection->starved_link);
    /* What goes into a slot has its room already. */
    if (room && !connection_slot_exchange(connection) && !proxy_has_budget(connection->proxy)) {
        list_push_back(&connection->proxy->starved, &connection->starved_link);
        room = false;
    }
    connection->reading = room;
    loop_watch_change(&connection->watch,
                      (room ? LOOP_READ : 0) | (connection->blocked ? LOOP_WRITE : 0));
}

void connection_feed(struct connection *connection)
{
    connection_watch(connection);
    connection_settle(connection, false);
}

/* ---- parsing
 * ------------------------------------------------------------------------------------------- */

struct bytes connection_input(const struct connection *connection)
{
    if (!connection->in)
        return (struct bytes){0};
    return bytes_of(connection->in->data + connection->in_start,
                    connection->in_end - connection->in_start);
}

static void connection_refuse(struct connection *connection, const struct http1_refusal *refusal)
{
    struct exchange *exchange = exchange_new(connection);
    metric_add(http_refused_total, 1);
    connection->closing = connection->linger = true;
    connection->in_start = connection->in_end;
    if (exchange)
        local_refused(exchange, refusal->status, refusal->reason);
    else
        connection_close(connection);
}

static void connection_write_continue(struct connection *connection)
{
    uint8_t *room = connection_room(connection, NULL, HTTP1_CONTINUE.size);
    if (!room)
        return;
    memcpy(room, HTTP1_CONTINUE.at, HTTP1_CONTINUE.size);
    connection_wrote(connection, NULL, HTTP1_CONTINUE.size);
}

/* The body is small and not whole: waits for it; says 100 Continue first when asked for, which must
 * itself wait for the answers before it. */
static void connection_await_body(struct connection *connection, const struct http1_head *head,
                                  size_t head_size)
{
    bool asked = head->expect_continue && !connection->continued &&
                 connection->in_end - connection->in_start == head_size;
    if (asked && !list_empty(&connection->exchanges)) {
        connection->waits = true;
        return;
    }
    connection->needed = head_size + (size_t)head->body_size;
    if (!asked)
        return;
    connection->continued = true;
    connection_write_continue(connection);
}

void connection_say_continue(struct connection *connection, struct exchange *exchange)
{
    if (!exchange->expects || exchange->answered ||
        list_first(&connection->exchanges) != &exchange->link)
        return;
    exchange->expects = false;
    connection_write_continue(connection);
}

/* Beside others only when all are safe (RFC 9112 9.3.2), and while the process has room for more.
 */
static bool connection_may_begin(const struct connection *connection, const struct http1_head *head)
{
    const struct proxy *proxy = connection->proxy;
    const struct list *exchanges = &connection->exchanges;
    if (list_empty(exchanges))
        return true;
    return head->safe && !upgrade_is_asked(head) &&
           list_entry(exchanges->head.prev, struct exchange, link)->safe &&
           proxy->exchanges.used_count < (uint32_t)proxy->settings.request_limit;
}

/* A whole head is here.  False: it must wait. */
static bool connection_begin(struct connection *connection, const struct http1_head *head,
                             size_t head_size)
{
    struct proxy *proxy = connection->proxy;
    struct bytes input = connection_input(connection);
    bool small = head->body_kind == HTTP1_BODY_LENGTH &&
                 head->body_size <= (uint64_t)proxy->settings.wire_part_size;
    if (!connection_may_begin(connection, head)) {
        connection->waits = true;
        return false;
    }
    if (small && input.size - head_size < head->body_size) {
        connection_await_body(connection, head, head_size);
        return false;
    }
    struct exchange *exchange = exchange_new(connection);
    if (!exchange) {
        connection_close(connection);
        return false;
    }
    metric_add(http_requests_total, 1);
    connection->client_closes = !head->keep_alive && !upgrade_is_asked(head);
    /* Nothing behind such a request is looked at (RFC 9112 9.6). */
    if ((!head->keep_alive || proxy->settings.http_keep_alive_ms == 0) && !upgrade_is_asked(head))
        connection->closing = true;
    connection->scanned = connection->needed = 0;
    connection->continued = connection->waits = false;
    connection->in_start += head_size;
    bool whole = small || head->body_kind == HTTP1_BODY_NONE;
    if (whole) {
        struct bytes body =
            bytes_head(bytes_skip(input, head_size), small ? (size_t)head->body_size : 0);
        connection->in_start += body.size;
        exchange->body_done = true;
        exchange_begin(exchange, head, body, true);
    } else {
        http1_body_init(&connection->body, head, &proxy->limits);
        connection->in_body = true;
        exchange->expects = head->expect_continue && connection->in_end == connection->in_start;
        exchange_begin(exchange, head, (struct bytes){0}, false);
        if (exchange->slot)
            exchange_keep_head(exchange, connection->in, connection->in_start - head_size,
                               head_size);
        connection_say_continue(connection, exchange);
    }
    return true;
}

static bool connection_parse_head(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    struct http1_refusal refusal;
    size_t size;
    struct bytes input = connection_input(connection);
    size_t before = connection->exchanges.length;
    if (!input.size || input.size < connection->needed ||
        before >= (size_t)proxy->settings.http_pipeline_limit ||
        (before && (connection->waits || proxy->draining)))
        return false;
    switch (http1_head_parse(&proxy->head, input, &connection->scanned, &proxy->limits, &size,
                             &refusal)) {
    case HTTP1_DONE:
        return connection_begin(connection, &proxy->head, size);
    case HTTP1_REFUSED:
        connection_refuse(connection, &refusal);
        return false;
    default:
        return false;
    }
}

/* The body broke the framing, or is too large. */
static void connection_refuse_body(struct connection *connection, struct exchange *exchange,
                                   const struct http1_refusal *refusal)
{
    metric_add(http_refused_total, 1);
    connection->in_body = false;
    connection->closing = connection->linger = true;
    connection->in_start = connection->in_end;
    if (exchange->over)
        connection_dirty(connection); /* the body was only dropped, and is too long for that */
    else if (exchange->answered)
        exchange_break(exchange);
    else
        local_refused(exchange, refusal->status, refusal->reason);
}

/* What the exchange had no room for goes first.  False: it still has none. */
static bool connection_push_held(struct connection *connection, struct exchange *exchange)
{
    if (connection->held) {
        size_t used = exchange_body(
            exchange, bytes_of(connection->in->data + connection->in_start, connection->held));
        connection->in_start += used;
        connection->held -= used;
    }
    return connection->held == 0;
}

/* What came with the head.  True: the body is whole. */
static bool connection_fill_slot(struct connection *connection, struct exchange *exchange)
{
    size_t room;
    uint8_t *at = exchange_slot_room(exchange, &room);
    struct bytes here = bytes_head(connection_input(connection), room);
    if (here.size == 0)
        return false;
    memcpy(at, here.at, here.size);
    connection->in_start += here.size;
    connection_slot_took(connection, exchange, here.size);
    return true;
}

static bool connection_parse_body(struct connection *connection)
{
    struct exchange *exchange =
        list_entry(list_last(&connection->exchanges), struct exchange, link);
    struct http1_refusal refusal;
    struct http1_header trailer;
    struct bytes data;
    size_t consumed = 0;
    if (exchange->slot)
        return connection_fill_slot(connection, exchange);
    if (!connection_push_held(connection, exchange))
        return false;
    switch (http1_body_next(&connection->body, connection_input(connection),
                            &connection->proxy->limits, &consumed, &data, &trailer, &refusal)) {
    case HTTP1_BODY_DATA:
        exchange->expects = false; /* it did not wait to be told */
        connection->in_start += consumed - data.size;
        connection->held = data.size;
        return connection_push_held(connection, exchange);
    case HTTP1_BODY_TRAILER:
        connection->in_start += consumed;
        return true;
    case HTTP1_BODY_END:
        connection->in_start += consumed;
        connection->in_body = false;
        exchange_body_end(exchange);
        return true;
    case HTTP1_BODY_REFUSED:
        connection_refuse_body(connection, exchange, &refusal);
        return false;
    default:
        connection->in_start += consumed;
        return false;
    }
}

/* What comes is no HTTP any more, or waits for a replica to say so. */
static bool connection_is_upgraded(const struct connection *connection)
{
    return !list_empty(&connection->exchanges) &&
           list_entry(connection->exchanges.head.next, struct exchange, link)->dialogue;
}

void connection_process(struct connection *connection)
{
    struct exchange *dialogue = dialogue_of(connection);
    bool more = true;
    if (dialogue)
        dialogue_hear(dialogue);
    while (more && !connection->closed && !connection_is_upgraded(connection)) {
        if (connection->in_body)
            more = connection_parse_body(connection);
        else
            more = !connection->closing && connection_parse_head(connection);
    }
    if (connection->closed)
        return;
    connection_trim(connection);
    connection_watch(connection);
}
