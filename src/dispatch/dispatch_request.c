/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_request: a request's way out: encoded once, kept while it may have to go elsewhere, paid
 * by credit.
 *
 * A request is encoded when it comes in, into its own arena, and each SEND is one copy from there
 * into the channel. A body that fits one frame travels in it; the rest of a longer one, and what
 * dispatch_write brings, is kept in `held` and leaves in parts.  A replica can never have been sent
 * more than its first credit before it has spoken, so keeping just that much makes every streamed
 * request repeatable until somebody really consumes it; when more flows, or the answer begins, the
 * copy is dropped and parts go straight from the owner into the channel.
 *
 * request_pump is level-triggered: it writes whatever is due and fits.  What does not fit stands on
 * the link's backlog until the channel has room.
 */
#include "dispatch_inner.h"
#include "ensure.h"

static const int64_t NS_PER_US = 1000;

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- encoding ---- */

uint64_t dispatch_request_deadline_us(const struct dispatch_call *call)
{
    if (call->deadline_ns == 0)
        return 0;
    int64_t left_ns = call->deadline_ns - dispatch_now_ns(call->dispatch);
    return left_ns > NS_PER_US ? (uint64_t)(left_ns / NS_PER_US) : 1;
}

/* The wire would cut them silently. */
static int check_texts(const struct dispatch_request *request, struct error *reterr)
{
    const struct bytes texts[] = {request->method,       request->path,         request->query,
                                  request->route_prefix, request->content_type, request->request_id,
                                  request->trace,        request->model_id};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].size > UINT16_MAX)
            return error_set(reterr, ERROR_LIMIT,
                             "a field of the request has %zu bytes, at most %d travel",
                             texts[i].size, UINT16_MAX);
    return 0;
}

static uint8_t *frame_memory(struct dispatch_call *call, size_t size)
{
    if (size <= DISPATCH_ARENA_REQUEST)
        return arena_try(&call->arena, size);
    if (!dispatch_block_grow(call->dispatch, &call->large, size, SIZE_MAX))
        return NULL;
    call->large.size = size;
    return call->large.buffer->data;
}

static int keep_body(struct dispatch_call *call, struct bytes body, struct error *reterr)
{
    if (body.size == 0)
        return 0;
    if (!dispatch_block_grow(call->dispatch, &call->held, body.size, SIZE_MAX))
        return error_set(reterr, ERROR_LIMIT,
                         "no room for a request's body of %zu bytes beside %zu bytes of others",
                         body.size, call->dispatch->held_bytes);
    dispatch_block_add(&call->held, body);
    return 0;
}

int dispatch_request_encode(struct dispatch_call *call, const struct dispatch_request *request,
                            struct error *reterr)
{
    const struct settings *settings = call->dispatch->config.settings;
    dispatch_parcel_keep(call, request);
    bool apart = call->parcel || request->body.size > (size_t)settings->wire_part_size;
    uint64_t whole_size = call->parcel ? dispatch_parcel_size(call) : request->body.size;
    struct wire_request wire = {
        .deployment = request->deployment.v,
        .deadline_us = dispatch_request_deadline_us(call),
        .kind = request->kind,
        .http_minor = request->http_minor,
        .body_size = request->body_whole ? whole_size : request->body_size,
        .method = request->method,
        .path = request->path,
        .query = request->query,
        .route_prefix = request->route_prefix,
        .content_type = request->content_type,
        .request_id = request->request_id,
        .trace = request->trace,
        .model_id = request->model_id,
        .headers = request->headers,
        .body = apart ? (struct bytes){0} : request->body,
    };
    int code = check_texts(request, reterr);
    if (code < 0)
        return code;
    size_t size = wire_request_size(&wire);
    if (size - WIRE_HEADER_SIZE > (size_t)settings->wire_frame_limit)
        return error_set(reterr, ERROR_LIMIT,
                         "the request's frame would have %zu bytes, the limit is %lld", size,
                         (long long)settings->wire_frame_limit);
    uint8_t *at = frame_memory(call, size);
    if (!at)
        return error_set(reterr, ERROR_MEMORY, "no memory for a request of %zu bytes", size);
    uint8_t flags =
        (request->stream ? WIRE_STREAM : 0) | (request->body_whole && !apart ? WIRE_END : 0);
    wire_request_write(&wire, flags, dispatch_call_id(call), false, at);
    call->frame = bytes_of(at, size);
    call->body_ended = request->body_whole;
    return keep_body(call, apart && !call->parcel ? request->body : (struct bytes){0}, reterr);
}

/* ---- writing ---- */

static bool put_frame(struct dispatch_call *call)
{
    struct channel *channel = &call->link->channel;
    struct wire_header header;
    struct wire_request wire;

    if (call->parcel)
        return dispatch_parcel_put(call);
    uint8_t *at = channel_put_room(channel, call->frame.size);
    if (!at)
        return false;
    wire_header_read(&header, call->frame.at);
    if (call->deadline_ns == 0) {
        memcpy(at, call->frame.at, call->frame.size);
    } else { /* it may have waited since it was encoded */
        int bad = wire_request_read(&wire, bytes_skip(call->frame, WIRE_HEADER_SIZE));
        ensure(bad == 0);
        wire.deadline_us = dispatch_request_deadline_us(call);
        size_t size = wire_request_write(&wire, header.flags, header.stream, false, at);
        ensure(size == call->frame.size);
    }
    channel_put_done(channel, call->frame.size);
    call->sent = true;
    call->end_sent = header.flags & WIRE_END;
    return true;
}

/* Bytes of the body that is kept here and leaves in parts. */
static size_t kept_size(const struct dispatch_call *call)
{
    if (!call->parcel)
        return call->held.size;
    return call->lent ? call->held_sent : (size_t)dispatch_parcel_size(call);
}

/* False: no room in the channel.  The bytes of a parcel are not in one place: body.at is null. */
static bool put_part(struct dispatch_call *call, struct bytes body, bool end)
{
    struct wire_part part = {.body = body};
    size_t size = wire_part_size(&part);

    ensure(body.size > 0 && body.size <= call->credit && body.size <= call->link->part_limit);
    uint8_t *at = channel_put_room(&call->link->channel, size);
    if (!at)
        return false;
    size_t written =
        wire_part_write(&part, end ? WIRE_END : 0, dispatch_call_id(call), !body.at, at);
    if (!body.at)
        dispatch_parcel_copy(call, at + written, body.size);
    channel_put_done(&call->link->channel, size);
    call->credit -= body.size;
    if (end)
        call->end_sent = true;
    return true;
}

static bool put_half_close(struct dispatch_call *call)
{
    uint8_t at[DISPATCH_CONTROL_SIZE];
    struct wire_half_close close = {.code = call->body_code};
    ensure(wire_half_close_size(&close) <= sizeof at);
    size_t size = wire_half_close_write(&close, 0, dispatch_call_id(call), false, at);
    return call->end_sent = dispatch_put_control(&call->link->channel, at, size);
}

static bool put_cancel(struct dispatch_call *call)
{
    uint8_t at[DISPATCH_CONTROL_SIZE];
    struct wire_cancel cancel = {.code = call->cancel_code,
                                 .close_code = call->close_code,
                                 .reason = bytes_of(call->close_reason, call->close_reason_size)};
    ensure(wire_cancel_size(&cancel) <= sizeof at);
    size_t size = wire_cancel_write(&cancel, 0, dispatch_call_id(call), false, at);
    return call->cancel_sent = dispatch_put_control(&call->link->channel, at, size);
}

/* Half a window at a time: few frames, and the sender never runs dry while the owner keeps up. */
static bool put_credit(struct dispatch_call *call)
{
    uint8_t at[DISPATCH_CONTROL_SIZE];
    if (call->owed < (size_t)call->dispatch->config.settings->wire_stream_credit / 2)
        return true;
    struct wire_credit credit = {.size = (uint32_t)call->owed};
    ensure(wire_credit_size(&credit) <= sizeof at);
    size_t size = wire_credit_write(&credit, 0, dispatch_call_id(call), false, at);
    if (!dispatch_put_control(&call->link->channel, at, size))
        return false;
    call->window += call->owed;
    call->owed = 0;
    return true;
}

static bool put_held(struct dispatch_call *call)
{
    size_t all = kept_size(call);
    while (call->held_sent < all && call->credit > 0) {
        size_t left = all - call->held_sent;
        size_t size = least(left, least(call->link->part_limit, call->credit));
        bool end = call->body_ended && size == left;
        const uint8_t *at = call->parcel ? NULL : call->held.buffer->data + call->held_sent;
        if (!put_part(call, bytes_of(at, size), end))
            return false;
        call->held_sent += size;
    }
    return true;
}

/* False: the channel has no room for something that is due. */
static bool put_due(struct dispatch_call *call)
{
    if (call->cancel_code != 0)
        return call->cancel_sent || put_cancel(call);
    if (!put_credit(call))
        return false;
    if (call->link->full) /* those on the backlog come first */
        return false;
    if (!call->sent && !put_frame(call))
        return false;
    if (call->body_code == 0 && !put_held(call))
        return false;
    if (!call->retryable)
        dispatch_call_drop_request(call);
    bool done = call->body_ended && (call->body_code != 0 || call->held_sent == kept_size(call));
    return !done || call->end_sent || put_half_close(call);
}

void dispatch_request_pump(struct dispatch_call *call)
{
    struct dispatch_link *link = call->link;

    ensure(link && link->state == LINK_READY);
    if (put_due(call)) {
        list_remove(&call->backlog);
        return;
    }
    if (call->awaits) {
        call->awaits = false;
        list_remove(&call->backlog);
        list_push_back(&link->awaiting, &call->backlog);
        return;
    }
    link->full = true;
    if (call->backlog.list != &link->backlog) {
        list_remove(&call->backlog);
        list_push_back(&link->backlog, &call->backlog);
    }
}

void dispatch_request_start(struct dispatch_call *call, struct dispatch_link *link)
{
    struct dispatch *dispatch = call->dispatch;
    struct request_id id = {dispatch_call_id(call)};

    if (call->frame.size - WIRE_HEADER_SIZE > link->frame_limit) {
        dispatch_call_land(call);
        router_done(dispatch->router, dispatch_now_ns(dispatch), id, ROUTER_LENGTH_UNKNOWN,
                    &dispatch->effects);
        dispatch_call_over(call, ERROR_LIMIT);
        return;
    }
    dispatch_call_fly(call, link);
    dispatch_request_pump(call);
    dispatch_call_room(call);
}

/* ---- the owner's parts ---- */

size_t dispatch_write_room(const struct dispatch_call *call)
{
    if (call->side != CALL_OPEN)
        return SIZE_MAX; /* all of it is dropped */
    if (!call->link || call->link->full)
        return 0;
    size_t unsent = call->held.size - call->held_sent;
    return call->credit > unsent ? call->credit - unsent : 0;
}

/* Keeps a copy and sends from there.  False: the copy cannot be kept whole. */
static bool write_held(struct dispatch_call *call, struct bytes part, size_t *ret_taken)
{
    struct bytes taken = bytes_head(part, dispatch_write_room(call));
    size_t limit = (size_t)call->dispatch->config.settings->wire_stream_credit;

    *ret_taken = 0;
    if (!dispatch_block_grow(call->dispatch, &call->held, taken.size, limit))
        return false;
    dispatch_block_add(&call->held, taken);
    *ret_taken = taken.size;
    return true;
}

/* From the owner straight into the channel. */
static size_t write_through(struct dispatch_call *call, struct bytes part, bool end)
{
    size_t taken = 0;
    while (taken < part.size && !call->link->full) {
        size_t size = least(part.size - taken, least(call->link->part_limit, call->credit));
        bool last = end && taken + size == part.size;
        if (size == 0)
            break;
        if (put_part(call, bytes_of(part.at + taken, size), last))
            taken += size;
        else
            call->link->full = true;
    }
    return taken;
}

size_t dispatch_write(struct dispatch_call *call, struct bytes part, bool end)
{
    size_t taken = 0;

    if (call->side != CALL_OPEN)
        return part.size;
    ensure(!call->body_ended);
    if (call->link && call->retryable && !write_held(call, part, &taken)) {
        call->retryable = false;
        dispatch_request_pump(call);
    }
    if (call->link && !call->retryable && call->held.size == 0 && call->sent)
        taken = write_through(call, part, end);
    if (taken == part.size && end)
        call->body_ended = true;
    if (call->link)
        dispatch_request_pump(call);
    if (!call->body_ended && (taken < part.size || dispatch_write_room(call) == 0))
        call->starved = true;
    return taken;
}

void dispatch_write_abort(struct dispatch_call *call, int code)
{
    ensure(code < 0);
    if (call->side != CALL_OPEN)
        return;
    ensure(!call->body_ended);
    call->body_ended = true;
    call->body_code = code;
    if (call->link)
        dispatch_request_pump(call);
}

void dispatch_grant(struct dispatch_call *call, size_t size)
{
    size_t granted = least(size, call->unconsumed);
    call->unconsumed -= granted;
    call->owed += granted;
    if (call->link && call->side == CALL_OPEN)
        dispatch_request_pump(call);
}
