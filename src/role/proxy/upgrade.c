/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upgrade: the handshake of a websocket (RFC 6455 4.2).
 *
 * A handshake that is none is refused here; a good one goes to a replica like any other request, as
 * one of the kind websocket, and what user code says decides: 101 makes it a dialogue, anything
 * else is an ordinary answer, behind which the connection closes, since nobody knows what the
 * client has sent meanwhile.
 */
#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "proxy.h"
#include "wire.h"

bool upgrade_is_asked(const struct http1_head *head)
{
    return head->upgrade && head->method == HTTP1_GET &&
           bytes_equal_nocase(head->upgrade_protocol, BYTES("websocket"));
}

/* Sec-WebSocket-Version is told with a 426, which is about nothing else (RFC 6455 4.4). */
static void refuse(struct exchange *exchange, int status, const char *reason)
{
    uint8_t block[64];
    struct bytes fields = {0};
    exchange->keep_alive = false;
    if (status == 426) {
        exchange->tells_upgrade = true;
        fields = bytes_of(block, wire_field_write(block, sizeof block,
                                                  BYTES("sec-websocket-version"), BYTES("13")));
    }
    metric_add(http_refused_total, 1);
    exchange_answer(exchange, (uint16_t)status, BYTES("text/plain; charset=utf-8"), fields,
                    bytes_of_string(reason));
}

void upgrade_begin(struct exchange *exchange, const struct http1_head *head,
                   struct deployment_id deployment, struct bytes prefix, bool has_body)
{
    int64_t bits = exchange->connection->proxy->settings.websocket_window_bits;
    struct websocket_offer offer = {0};
    const char *reason;
    for (uint32_t i = 0; i < head->header_count; i++)
        websocket_offer_field(&offer, head->headers[i].name, head->headers[i].value,
                              bits < 9 ? 0 : (uint8_t)bits);
    int status = websocket_offer_judge(&offer, &reason);
    if (!status && has_body) {
        status = 400;
        reason = "a websocket's handshake has no body";
    }
    if (status) {
        refuse(exchange, status, reason);
        return;
    }
    if (!(exchange->dialogue = mem_try(sizeof *exchange->dialogue))) {
        local_error(exchange, ERROR_MEMORY, BYTES("no memory for a websocket"));
        return;
    }
    exchange->dialogue->deflate = offer.deflate;
    websocket_offer_accept(&offer, exchange->dialogue->accept);
    exchange->keep_alive = exchange->safe = false;
    exchange_submit(exchange, head, deployment, prefix, (struct bytes){0}, NULL, false);
}

static void write_head(struct exchange *exchange, struct bytes headers)
{
    struct dialogue *dialogue = exchange->dialogue;
    uint8_t block[64 + WEBSOCKET_ACCEPT_SIZE + WEBSOCKET_EXTENSIONS_MOST];
    char extensions[WEBSOCKET_EXTENSIONS_MOST];
    size_t size = wire_field_write(block, sizeof block, BYTES("sec-websocket-accept"),
                                   bytes_of(dialogue->accept, WEBSOCKET_ACCEPT_SIZE));
    size_t extension = websocket_extensions_write(&dialogue->deflate, extensions);
    if (extension)
        size +=
            wire_field_write(block + size, sizeof block - size, BYTES("sec-websocket-extensions"),
                             bytes_of(extensions, extension));
    struct http1_answer answer = {.date = proxy_date(exchange->connection->proxy),
                                  .headers = headers,
                                  .request_id =
                                      bytes_of(exchange->request_id, exchange->request_id_size)};
    struct bytes protocol = BYTES("websocket");
    size_t wanted = http1_answer_room(&answer) + size + protocol.size;
    uint8_t *room = connection_room(exchange->connection, exchange, wanted);
    if (!room)
        return;
    size_t written = http1_write_upgrade(&answer, protocol, bytes_of(block, size), room, wanted);
    ensure(written > 0);
    connection_wrote(exchange->connection, exchange, written);
}

void upgrade_accept(struct exchange *exchange, struct bytes headers)
{
    struct proxy *proxy = exchange->connection->proxy;
    struct dialogue *dialogue = exchange->dialogue;
    struct websocket_config config = {.deflate = dialogue->deflate,
                                      .message_limit =
                                          (uint64_t)proxy->settings.websocket_message_limit};
    if (exchange->connection->closed)
        return;
    if (!(dialogue->engine = websocket_new(&config))) {
        upgrade_drop(exchange);
        local_error(exchange, ERROR_MEMORY, BYTES("no memory for a websocket"));
        return;
    }
    exchange->answered = true;
    exchange->status = 101;
    dispatch_lift_deadline(exchange->call); /* it was one for the answer */
    write_head(exchange, headers);
    metric_add(websockets_total, 1);
    metric_set(websockets, ++proxy->dialogue_count);
    if (dialogue->leaves || proxy->draining)
        dialogue_leave(exchange);
    connection_dirty(exchange->connection);
}

void upgrade_drop(struct exchange *exchange)
{
    struct dialogue *dialogue = exchange->dialogue;
    struct proxy *proxy = exchange->connection->proxy;
    if (!dialogue)
        return;
    if (dialogue->engine)
        metric_set(websockets, --proxy->dialogue_count);
    websocket_free(dialogue->engine);
    buffer_unref(dialogue->rest);
    exchange->dialogue = mem_free(dialogue);
}
