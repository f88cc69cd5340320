/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange: one request on its way: route, submit, body parts, events of the dispatch.
 *
 * What becomes of the answer's bytes is exchange_answer.c.  An exchange lives on its connection's
 * list from its head to the end of its answer; its call in the dispatch ends before it does (R1).
 */
#include <string.h>

#include "ensure.h"
#include "log.h"
#include "metrics.h"
#include "proxy.h"
#include "wire.h"

enum { FIELD_SIZES = 4 }; /* bytes of a wire field before its name */

struct exchange *exchange_new(struct connection *connection)
{
    struct proxy *proxy = connection->proxy;
    struct exchange *exchange = pool_take(&proxy->exchanges);
    if (!exchange)
        return NULL;
    exchange->connection = connection;
    exchange->begin_ns = loop_now_ns(proxy->loop);
    exchange->minor = 1;
    list_init(&exchange->segments);
    list_push_back(&connection->exchanges, &exchange->link);
    return exchange;
}

void exchange_free(struct exchange *exchange)
{
    ensure_tag(R1, !exchange->call);
    list_remove(&exchange->link);
    exchange_drop_slot(exchange);
    upgrade_drop(exchange);
    exchange_drop_segments(exchange);
    parcel_unref(exchange->tail);
    buffer_unref(exchange->pending);
    pool_give(&exchange->connection->proxy->exchanges, exchange);
}

void exchange_drop_call(struct exchange *exchange, int code)
{
    if (exchange->dialogue && exchange->dialogue->engine) {
        dialogue_lose(exchange);
        return;
    }
    if (!exchange->call)
        return;
    dispatch_cancel(exchange->call, code);
    exchange->call = NULL;
    exchange->status = 499;
    access_log(exchange);
}

/* ---- the request
 * --------------------------------------------------------------------------------------- */

/* A random UUID (version 4, RFC 9562 5.4): for logs, not a secret. */
static void make_request_id(struct exchange *exchange)
{
    static const char DIGITS[] = "0123456789abcdef";
    uint64_t random[2] = {rng_next(&exchange->connection->proxy->rng),
                          rng_next(&exchange->connection->proxy->rng)};
    char *at = exchange->request_id;
    random[0] = (random[0] & ~0xf000ull) | 0x4000ull;
    random[1] = (random[1] & ~(3ull << 62)) | (2ull << 62);
    for (int i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *at++ = '-';
        *at++ = DIGITS[random[i / 16] >> (60 - 4 * (i % 16)) & 15];
    }
    exchange->request_id_size = 36;
}

static void take_request_id(struct exchange *exchange, const struct http1_head *head)
{
    const struct http1_header *header = http1_find(head, BYTES("x-request-id"));
    if (header && header->value.size && header->value.size <= REQUEST_ID_SIZE) {
        memcpy(exchange->request_id, header->value.at, header->value.size);
        exchange->request_id_size = (uint8_t)header->value.size;
    } else {
        make_request_id(exchange);
    }
}

/* Does a Connection field say more than keep-alive? */
static bool connection_has_names(const struct http1_head *head)
{
    for (uint32_t i = 0; i < head->header_count; i++)
        if (bytes_equal_nocase(head->headers[i].name, BYTES("connection")) &&
            !bytes_equal_nocase(head->headers[i].value, BYTES("keep-alive")))
            return true;
    return false;
}

/* The request's fields for the replica, names in lower case.  Hop-by-hop ones end here, and those
 * that the client's Connection fields name (RFC 9110 7.6.1); a websocket's handshake is seen. */
static struct bytes write_fields(struct proxy *proxy, const struct http1_head *head,
                                 bool is_websocket)
{
    bool named = connection_has_names(head);
    size_t used = 0;
    for (uint32_t i = 0; i < head->header_count; i++) {
        struct bytes given = head->headers[i].name;
        bool is_handshake = is_websocket && (bytes_equal_nocase(given, BYTES("upgrade")) ||
                                             bytes_equal_nocase(given, BYTES("connection")));
        if (!is_handshake &&
            (http1_hop_by_hop(given) || (named && http1_connection_names(head, given))))
            continue;
        uint8_t *at = proxy->scratch + used;
        size_t size = wire_field_write(at, SCRATCH_SIZE - used, given, head->headers[i].value);
        ensure(size > 0);
        for (uint8_t *name = at + FIELD_SIZES; name < at + FIELD_SIZES + given.size; name++)
            if (*name >= 'A' && *name <= 'Z')
                *name |= 32;
        used += size;
    }
    return bytes_of(proxy->scratch, used);
}

static struct bytes field_of(const struct http1_head *head, struct bytes name)
{
    const struct http1_header *header = http1_find(head, name);
    return header ? header->value : (struct bytes){0};
}

static void copy_text(char *at, size_t room, struct bytes bytes)
{
    size_t size = bytes.size < room - 1 ? bytes.size : room - 1;
    if (size)
        memcpy(at, bytes.at, size);
    at[size] = 0;
}

void exchange_submit(struct exchange *exchange, const struct http1_head *head,
                     struct deployment_id deployment, struct bytes prefix, struct bytes body,
                     struct parcel *parcel, bool whole)
{
    struct proxy *proxy = exchange->connection->proxy;
    int64_t timeout_ms = proxy->settings.http_request_timeout_ms;
    struct error error = {0};
    struct dispatch_request request = {
        .deployment = deployment,
        .kind = exchange->dialogue ? WIRE_KIND_WEBSOCKET : WIRE_KIND_HTTP,
        .http_minor = head->minor,
        .deadline_ns = timeout_ms ? exchange->begin_ns + timeout_ms * 1000000 : 0,
        .stream = true,
        .body_whole = whole,
        .body_size = head->body_kind == HTTP1_BODY_CHUNKED || exchange->dialogue ? UINT64_MAX
                                                                                 : head->body_size,
        .method = head->method_name,
        .path = head->path,
        .query = head->query,
        .route_prefix = prefix,
        .content_type = field_of(head, BYTES("content-type")),
        .request_id = bytes_of(exchange->request_id, exchange->request_id_size),
        .trace = field_of(head, BYTES("traceparent")),
        .model_id = field_of(head, BYTES("serve_multiplexed_model_id")),
        .headers = write_fields(proxy, head, exchange->dialogue),
        .body = body,
        .parcel = parcel,
    };
    exchange->call = dispatch_submit(proxy->dispatch, &request, exchange, &error);
    if (!exchange->call)
        local_error(exchange, error.code, bytes_of_string(error.text));
}

void exchange_begin(struct exchange *exchange, const struct http1_head *head, struct bytes body,
                    bool whole)
{
    const struct router *router = dispatch_router(exchange->connection->proxy->dispatch);
    struct deployment_id deployment;
    struct bytes prefix, app;
    exchange->method = head->method;
    exchange->minor = head->minor;
    exchange->safe = head->safe;
    exchange->keep_alive = !exchange->connection->closing;
    copy_text(exchange->method_name, sizeof exchange->method_name,
              upgrade_is_asked(head) ? BYTES("WS") : head->method_name);
    take_request_id(exchange, head);
    if (head->method == HTTP1_CONNECT) {
        local_refused(exchange, 501, "CONNECT is not supported (RFC 9110 9.3.6)");
        return;
    }
    if (bytes_equal(head->path, BYTES("*"))) {
        exchange_answer(exchange, 200, (struct bytes){0}, (struct bytes){0}, (struct bytes){0});
        return;
    }
    if (local_answer(exchange, head->path))
        return;
    if (!router_route(router, head->path, &deployment, &prefix, &app)) {
        copy_text(exchange->route, sizeof exchange->route, BYTES("-"));
        local_not_found(exchange, head->path);
        return;
    }
    copy_text(exchange->route, sizeof exchange->route, prefix);
    if (upgrade_is_asked(head))
        upgrade_begin(exchange, head, deployment, prefix, !whole || body.size);
    else if (whole || !exchange_take_slot(exchange, head, deployment))
        exchange_submit(exchange, head, deployment, prefix, body, NULL, whole);
}

/* ---- the request's body
 * ---------------------------------------------------------------------------------- */

bool exchange_has_body_room(struct exchange *exchange)
{
    if (exchange->discard || exchange->slot || !exchange->call ||
        dispatch_write_room(exchange->call) > 0)
        return true;
    /* Others may have filled the replica's channel since the last part: DISPATCH_ROOM comes only to
     * those who have tried to write. */
    dispatch_write(exchange->call, (struct bytes){0}, false);
    return false;
}

size_t exchange_body(struct exchange *exchange, struct bytes data)
{
    if (exchange->discard || !exchange->call)
        return data.size;
    return dispatch_write(exchange->call, data, false);
}

void exchange_body_end(struct exchange *exchange)
{
    exchange->body_done = true;
    if (exchange->slot && !exchange->discard)
        exchange_send_slot(exchange);
    else if (exchange->call && !exchange->discard)
        dispatch_write(exchange->call, (struct bytes){0}, true);
    if (exchange->over)
        connection_dirty(exchange->connection);
}

/* ---- events of the dispatch
 * -------------------------------------------------------------------------------- */

/* The client waits for no byte more. */
static bool answer_is_whole(const struct exchange *exchange)
{
    return exchange->answered &&
           (exchange->framing == HTTP1_FRAMING_NONE ||
            (exchange->framing == HTTP1_FRAMING_LENGTH && exchange->answer_left == 0));
}

/* The request ended with an error, before, inside or behind its answer. */
static void exchange_fail(struct exchange *exchange, int code, struct bytes text)
{
    upgrade_drop(exchange);
    if (answer_is_whole(exchange))
        exchange_write_end(exchange, (struct bytes){0});
    else if (exchange->answered)
        exchange_break(exchange);
    else
        local_error(exchange, code, text);
}

static void exchange_on_reply(struct exchange *exchange, const struct dispatch_event *event)
{
    if (event->end)
        exchange->call = NULL;
    if (event->code < 0) {
        exchange_fail(exchange, event->code, event->text);
        return;
    }
    if (exchange->dialogue && event->status == 101 && !event->end) {
        upgrade_accept(exchange, event->headers);
        return;
    }
    upgrade_drop(exchange);
    uint64_t size = event->body_size;
    if (event->end)
        size = event->body.size;
    uint16_t status = event->status >= 200 && event->status <= 599 ? event->status : 200;
    if (event->end)
        exchange_leave_body(exchange);
    exchange_write_head(exchange, status, size, event->content_type, event->headers);
    if (event->parcel)
        exchange_write_parcel(exchange, event->parcel, 0);
    else
        exchange_write_body(exchange, event->body);
    if (event->end)
        exchange_write_end(exchange, (struct bytes){0});
}

void exchange_event(struct exchange *exchange, const struct dispatch_event *event)
{
    bool is_dialogue = exchange->dialogue && exchange->dialogue->engine;
    switch (event->type) {
    case DISPATCH_REPLY:
        exchange_on_reply(exchange, event);
        break;
    case DISPATCH_DATA:
        if (is_dialogue)
            dialogue_tell(exchange, event->body);
        else if (event->parcel)
            exchange_write_parcel(exchange, event->parcel, event->cost);
        else
            exchange_write_body(exchange, event->body);
        break;
    case DISPATCH_LEAVE:
        if (exchange->dialogue)
            dialogue_leave(exchange);
        break;
    case DISPATCH_ROOM:
        connection_dirty(exchange->connection);
        break;
    case DISPATCH_END:
        exchange->call = NULL;
        if (is_dialogue)
            dialogue_end(exchange, event);
        else if (event->code < 0)
            exchange_fail(exchange, event->code, event->text);
        else
            exchange_write_end(exchange, event->trailers);
        break;
    default:
        break;
    }
}

/* What was written for it has left: as much may come again. */
void exchange_granted(struct exchange *exchange)
{
    if (exchange->ungranted && exchange->call)
        dispatch_grant(exchange->call, exchange->ungranted);
    exchange->ungranted = 0;
}

void exchange_granted_part(struct exchange *exchange, size_t cost)
{
    cost = cost < exchange->ungranted ? cost : exchange->ungranted;
    exchange->ungranted -= cost;
    if (cost && exchange->call)
        dispatch_grant(exchange->call, cost);
}

void exchange_promote(struct exchange *exchange)
{
    struct connection *connection = exchange->connection;
    struct buffer *pending = exchange->pending;
    struct parcel *tail = exchange->tail;
    if (!pending)
        return;
    uint8_t *room = connection_room(connection, exchange, exchange->pending_size);
    if (!room)
        return; /* the connection is closed */
    memcpy(room, pending->data, exchange->pending_size);
    connection_wrote(connection, exchange, exchange->pending_size);
    exchange->pending = buffer_unref(pending);
    exchange->pending_size = 0;
    exchange->tail = NULL;
    if (tail)
        connection_write_tail(connection, exchange, tail, 0);
}
