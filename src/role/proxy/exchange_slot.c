/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange_slot: a large body of known length, received where the replica will read it.
 *
 * For a deployment that takes bodies whole the request waits until its body is here, so that a slow
 * client holds no place at a replica; the bytes go from the socket straight into a slot and are not
 * copied again.  The request's head is parsed a second time then, from the buffer that it came in,
 * and routed by the snapshot that is in force then.
 *
 * Slots take at most half of the process's byte budget: what is promised to bodies that are still
 * on their way must not keep everybody else from being read.  Where there is no slot the body is
 * streamed on as it comes.
 */
#include "ensure.h"
#include "proxy.h"

enum { READ_MOST = 1 << 20 }; /* of one body per turn, so that others have theirs */

static struct parcel_desk *desk_of(const struct exchange *exchange)
{
    return dispatch_desk(exchange->connection->proxy->dispatch);
}

static bool is_wanted(const struct exchange *exchange, const struct http1_head *head,
                      struct deployment_id deployment)
{
    const struct proxy *proxy = exchange->connection->proxy;
    const struct settings *settings = &proxy->settings;
    const struct router_snapshot_deployment *row =
        router_deployment(dispatch_router(proxy->dispatch), deployment);
    if (!row || row->streams_body || head->body_kind != HTTP1_BODY_LENGTH ||
        head->body_size > (uint64_t)settings->body_collect_limit || /* the replica refuses it */
        !parcel_desk_wants(desk_of(exchange), head->body_size))
        return false;
    uint64_t half = (uint64_t)settings->process_byte_budget / 2;
    uint64_t used = slot_pool_used_bytes(parcel_desk_slots(desk_of(exchange)));
    return head->body_size <= half && used <= half - head->body_size;
}

bool exchange_take_slot(struct exchange *exchange, const struct http1_head *head,
                        struct deployment_id deployment)
{
    if (!is_wanted(exchange, head, deployment))
        return false;
    exchange->slot = slot_take(parcel_desk_slots(desk_of(exchange)), (size_t)head->body_size);
    exchange->slot_size = (size_t)head->body_size;
    exchange->slot_filled = 0;
    return exchange->slot != NULL;
}

void exchange_keep_head(struct exchange *exchange, struct buffer *buffer, size_t start, size_t size)
{
    ensure(exchange->slot && !exchange->head);
    exchange->head = buffer_ref(buffer);
    exchange->head_start = start;
    exchange->head_size = size;
}

uint8_t *exchange_slot_room(struct exchange *exchange, size_t *ret_size)
{
    size_t left = exchange->slot_size - exchange->slot_filled;
    ensure(exchange->slot && left > 0);
    *ret_size = left < READ_MOST ? left : READ_MOST;
    return exchange->slot->at + exchange->slot_filled;
}

void exchange_slot_filled(struct exchange *exchange, size_t size)
{
    ensure(exchange->slot && size <= exchange->slot_size - exchange->slot_filled);
    exchange->slot_filled += size;
}

void exchange_drop_slot(struct exchange *exchange)
{
    exchange->slot = slot_unref(exchange->slot);
    exchange->head = buffer_unref(exchange->head);
}

void exchange_send_slot(struct exchange *exchange)
{
    struct proxy *proxy = exchange->connection->proxy;
    struct http1_head *head = &proxy->head;
    struct http1_refusal refusal;
    struct deployment_id deployment;
    struct bytes prefix, app;
    size_t scanned = 0, size;
    ensure(exchange->slot && exchange->slot_filled == exchange->slot_size);
    struct parcel *parcel = parcel_of_slot(exchange->slot, exchange->slot_size);
    exchange->slot = NULL;
    struct bytes bytes = bytes_of(exchange->head->data + exchange->head_start, exchange->head_size);
    enum http1_result result =
        http1_head_parse(head, bytes, &scanned, &proxy->limits, &size, &refusal);
    ensure(result == HTTP1_DONE && size == exchange->head_size);
    if (!parcel)
        local_error(exchange, ERROR_MEMORY, BYTES("no memory for a request"));
    else if (router_route(dispatch_router(proxy->dispatch), head->path, &deployment, &prefix, &app))
        exchange_submit(exchange, head, deployment, prefix, (struct bytes){0}, parcel, true);
    else
        local_not_found(exchange, head->path);
    parcel_unref(parcel);
    exchange_drop_slot(exchange);
}
