/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_frame: what a replica's frames mean to the calls they are for.
 *
 * One function per frame.  Each first asks whether the peer may say this now; what it may not is a
 * breach and ends the link (-1).  An answer that comes in one frame goes to the owner as slices of
 * the received buffer; one that comes in parts goes on part by part, or is collected into a block
 * when the owner wants it whole.
 *
 * Frames for calls that we gave up only tell when the replica is done with them.  Frames for
 * streams that nobody knows are counted and dropped: an answer and the end of our interest may have
 * crossed.
 */
#include "dispatch_inner.h"
#include "ensure.h"
#include "metrics.h"

/* A frame with the call it is for and the event it may become. */
struct arrival {
    struct dispatch_link *link;
    struct dispatch_call *call;
    struct wire_header header;
    struct bytes payload;
    struct dispatch_event *event;
    struct parcel *parcel; /* the body, when it came with attachments and whole */
    int parcel_code;       /* why it could not be had; 0 */
};

static bool ends(const struct arrival *arrival)
{
    return arrival->header.flags & WIRE_END;
}

/* ---- ends ---- */

/* The replica's last word on a call: its slot there is free. */
static void finish(struct dispatch_call *call, uint32_t queue_length)
{
    struct dispatch *dispatch = call->dispatch;
    struct request_id id = {dispatch_call_id(call)};

    call->answer = ANSWER_ENDED;
    if (!call->end_sent && call->cancel_code == 0) {
        /* Answered before it was sent whole: the rest does not come. */
        call->cancel_code = ERROR_CLOSED;
        dispatch_request_pump(call);
    }
    dispatch_call_land(call);
    router_done(dispatch->router, dispatch_now_ns(dispatch), id, queue_length, &dispatch->effects);
}

/* `buffer` holds the slices (its reference comes along); it stands until the next dispatch_next. */
static struct dispatch_event *event_of(const struct arrival *arrival, enum dispatch_event_type type,
                                       struct buffer *buffer)
{
    struct dispatch_call *call = arrival->call;

    ensure(call->dispatch->lent == NULL && call->dispatch->lent_parcel == NULL);
    call->dispatch->lent = buffer;
    *arrival->event = (struct dispatch_event){
        .type = type,
        .call = call,
        .owner = call->owner,
        .status = call->status,
        .body_size = call->body_size,
        .buffer = buffer,
    };
    return arrival->event;
}

static struct dispatch_event *event_of_frame(const struct arrival *arrival,
                                             enum dispatch_event_type type)
{
    return event_of(arrival, type, buffer_ref(channel_buffer(&arrival->link->channel)));
}

/* The event's body: that of the frame, or the parcel that it became. */
static void put_body(struct arrival *arrival, struct dispatch_event *event, struct bytes body)
{
    event->body = arrival->parcel ? arrival->parcel->value : body;
    event->parcel = arrival->parcel;
    arrival->call->dispatch->lent_parcel = arrival->parcel;
    arrival->parcel = NULL;
}

/* The event just made was the call's last. */
static void part_from(struct dispatch_call *call)
{
    dispatch_call_gone(call);
    dispatch_call_release(call);
}

static int end_with(const struct arrival *arrival, int code, struct bytes text,
                    struct bytes trailers)
{
    struct dispatch_event *event = event_of_frame(arrival, DISPATCH_END);
    event->code = code;
    event->text = code && text.size == 0 ? bytes_of_string(error_text(code)) : text;
    event->trailers = trailers;
    part_from(arrival->call);
    return 0;
}

/* ---- answers that the owner wants whole ---- */

static bool collect(struct dispatch_call *call, struct bytes bytes)
{
    size_t head = (size_t)call->content_type_size + call->headers_size;
    size_t limit = head + (size_t)call->dispatch->config.settings->body_collect_limit;
    if (!dispatch_block_grow(call->dispatch, &call->collected, bytes.size, limit))
        return false;
    dispatch_block_add(&call->collected, bytes);
    return true;
}

static bool collect_head(struct dispatch_call *call, const struct wire_reply *reply)
{
    uint64_t limit = (uint64_t)call->dispatch->config.settings->body_collect_limit;
    if (reply->body_size != UINT64_MAX && reply->body_size > limit)
        return false;
    call->content_type_size = (uint16_t)reply->content_type.size;
    call->headers_size = (uint32_t)reply->headers.size;
    return collect(call, reply->content_type) && collect(call, reply->headers) &&
           collect(call, reply->body);
}

/* The replica is done with it.  Trailers travel in the block too, so that one reference holds every
 * slice. */
static int deliver_collected(struct arrival *arrival, struct bytes trailers)
{
    struct dispatch_call *call = arrival->call;
    struct dispatch *dispatch = call->dispatch;
    size_t head = (size_t)call->content_type_size + call->headers_size;
    size_t body_end = call->collected.size;

    if (!dispatch_block_grow(dispatch, &call->collected, trailers.size, SIZE_MAX)) {
        dispatch_call_over(call, ERROR_LIMIT);
        return 0;
    }
    dispatch_block_add(&call->collected, trailers);
    struct bytes all = {NULL, call->collected.size};
    struct buffer *buffer = dispatch_block_take(dispatch, &call->collected);
    all.at = buffer ? buffer->data : NULL;
    struct bytes body = bytes_skip(bytes_head(all, body_end), head);
    if (call->attached &&
        (arrival->parcel_code = parcel_open(NULL, body, buffer, &arrival->parcel)) < 0) {
        buffer_unref(buffer);
        dispatch_call_over(call, arrival->parcel_code);
        return 0;
    }
    struct dispatch_event *event = event_of(arrival, DISPATCH_REPLY, buffer);
    event->end = true;
    event->content_type = bytes_head(all, call->content_type_size);
    event->headers = bytes_head(bytes_skip(all, call->content_type_size), call->headers_size);
    put_body(arrival, event, body);
    event->trailers = bytes_skip(all, body_end);
    part_from(call);
    return 0;
}

/* Larger than we are willing to keep.  `over`: the replica is done with it anyway. */
static int refuse_size(struct dispatch_call *call, bool over)
{
    if (over)
        dispatch_call_over(call, ERROR_LIMIT);
    else
        dispatch_call_fail(call, ERROR_LIMIT);
    return 0;
}

/* ---- frames of a call in flight ---- */

static int take_whole_reply(struct arrival *arrival, const struct wire_reply *reply)
{
    finish(arrival->call, reply->queue_length);
    if (reply->code < 0)
        return end_with(arrival, reply->code, reply->error, (struct bytes){0});
    if (arrival->parcel_code < 0)
        return end_with(arrival, arrival->parcel_code, (struct bytes){0}, (struct bytes){0});
    struct dispatch_event *event = event_of_frame(arrival, DISPATCH_REPLY);
    event->end = true;
    event->content_type = reply->content_type;
    event->headers = reply->headers;
    put_body(arrival, event, reply->body);
    part_from(arrival->call);
    return 0;
}

static int take_reply(struct arrival *arrival)
{
    struct dispatch_call *call = arrival->call;
    struct dispatch *dispatch = call->dispatch;
    struct wire_reply reply;

    if (call->answer != ANSWER_NONE || !call->sent ||
        wire_reply_read(&reply, arrival->payload) < 0 || reply.code > 0)
        return -1;
    call->status = reply.status;
    call->body_size = reply.body_size;
    if (ends(arrival) || reply.code < 0)
        return take_whole_reply(arrival, &reply);
    call->answer = ANSWER_HEAD;
    call->attached = arrival->header.flags & WIRE_ATTACHED;
    router_accepted(dispatch->router, dispatch_now_ns(dispatch),
                    (struct request_id){dispatch_call_id(call)}, reply.queue_length,
                    &dispatch->effects);
    dispatch_call_drop_request(call);
    if (!call->streams)
        return collect_head(call, &reply) ? 0 : refuse_size(call, false);
    struct dispatch_event *event = event_of_frame(arrival, DISPATCH_REPLY);
    event->content_type = reply.content_type;
    event->headers = reply.headers;
    event->body = reply.body;
    event->attached = call->attached;
    return 0;
}

/* Collected parts count as used at once: their limit is another one. */
static int take_collected_part(struct arrival *arrival, const struct wire_part *part, size_t cost)
{
    struct dispatch_call *call = arrival->call;
    bool kept = collect(call, part->body);

    if (ends(arrival))
        finish(call, part->queue_length);
    if (!kept)
        return refuse_size(call, ends(arrival));
    if (ends(arrival))
        return deliver_collected(arrival, (struct bytes){0});
    call->owed += cost;
    dispatch_request_pump(call);
    return 0;
}

static int take_part(struct arrival *arrival)
{
    struct dispatch_call *call = arrival->call;
    struct wire_part part;

    if (call->answer != ANSWER_HEAD || wire_part_read(&part, arrival->payload) < 0)
        return -1;
    size_t window = (size_t)call->dispatch->config.settings->wire_stream_credit;
    size_t cost = arrival->parcel ? parcel_cost(part.body.size, arrival->parcel->size, window)
                                  : part.body.size;
    if (cost > call->window)
        return -1;
    call->window -= cost;
    if (!call->streams)
        return take_collected_part(arrival, &part, cost);
    if (ends(arrival))
        finish(call, part.queue_length);
    if (arrival->parcel_code < 0) {
        if (ends(arrival))
            dispatch_call_over(call, arrival->parcel_code);
        else
            dispatch_call_fail(call, arrival->parcel_code);
        return 0;
    }
    if (ends(arrival) && part.body.size == 0)
        return end_with(arrival, 0, (struct bytes){0}, (struct bytes){0});
    call->unconsumed += cost;
    struct dispatch_event *event =
        event_of_frame(arrival, DISPATCH_DATA); /* an item may be empty */
    event->cost = cost;
    event->more = arrival->header.flags & WIRE_MORE;
    event->attached = event->more && (arrival->header.flags & WIRE_ATTACHED);
    put_body(arrival, event, part.body);
    if (ends(arrival))
        dispatch_call_over(call, 0); /* END comes next */
    return 0;
}

static int take_half_close(struct arrival *arrival)
{
    struct dispatch_call *call = arrival->call;
    struct wire_half_close close;

    if (wire_half_close_read(&close, arrival->payload) < 0 || close.code > 0)
        return -1;
    if (!call->sent || (call->answer == ANSWER_NONE && close.code == 0))
        return -1;
    finish(call, close.queue_length);
    if (call->streams || close.code < 0)
        return end_with(arrival, close.code, close.text, close.trailers);
    return deliver_collected(arrival, close.trailers);
}

static int take_credit(const struct arrival *arrival)
{
    struct dispatch_call *call = arrival->call;
    struct wire_credit credit;

    if (wire_credit_read(&credit, arrival->payload) < 0 || call->credit + credit.size > UINT32_MAX)
        return -1;
    call->credit += credit.size;
    dispatch_request_pump(call);
    dispatch_call_room(call);
    return 0;
}

static int take_reject(const struct arrival *arrival)
{
    struct dispatch_call *call = arrival->call;
    struct wire_reject reject;

    if (!call->sent || call->answer != ANSWER_NONE ||
        wire_reject_read(&reject, arrival->payload) < 0)
        return -1;
    dispatch_call_return(call, reject.queue_length, reject.code == ERROR_CLOSED);
    return 0;
}

static int take_for_call(struct arrival *arrival)
{
    switch (arrival->header.type) {
    case WIRE_REPLY_FRAME:
        return take_reply(arrival);
    case WIRE_PART_FRAME:
        return take_part(arrival);
    case WIRE_HALF_CLOSE_FRAME:
        return take_half_close(arrival);
    case WIRE_CREDIT_FRAME:
        return take_credit(arrival);
    case WIRE_REJECT_FRAME:
        return take_reject(arrival);
    case WIRE_LEAVE_FRAME:
        event_of_frame(arrival, DISPATCH_LEAVE);
        return 0;
    default:
        return -1; /* known, but not for a replica to say about a request of ours */
    }
}

/* ---- frames of calls that are no more ---- */

static int take_ghost_reply(const struct arrival *arrival)
{
    struct wire_reply reply;
    if (wire_reply_read(&reply, arrival->payload) < 0)
        return -1;
    if (ends(arrival) || reply.code < 0)
        finish(arrival->call, reply.queue_length);
    return 0;
}

/* No credit is given for it any more, so that an answer without end stops soon. */
static int take_ghost_part(const struct arrival *arrival)
{
    struct wire_part part;
    if (wire_part_read(&part, arrival->payload) < 0 || part.body.size > arrival->call->window)
        return -1;
    arrival->call->window -= part.body.size;
    if (ends(arrival))
        finish(arrival->call, part.queue_length);
    return 0;
}

static int take_ghost_half_close(const struct arrival *arrival)
{
    struct wire_half_close close;
    if (wire_half_close_read(&close, arrival->payload) < 0)
        return -1;
    finish(arrival->call, close.queue_length);
    return 0;
}

static int take_ghost_reject(const struct arrival *arrival)
{
    struct dispatch *dispatch = arrival->link->dispatch;
    struct request_id id = {dispatch_call_id(arrival->call)};
    struct wire_reject reject;

    if (wire_reject_read(&reject, arrival->payload) < 0)
        return -1;
    dispatch_call_land(arrival->call);
    router_rejected(dispatch->router, dispatch_now_ns(dispatch), id, reject.queue_length,
                    reject.code == ERROR_CLOSED, &dispatch->effects);
    return 0;
}

static int take_for_ghost(const struct arrival *arrival)
{
    int code;
    switch (arrival->header.type) {
    case WIRE_REPLY_FRAME:
        code = take_ghost_reply(arrival);
        break;
    case WIRE_PART_FRAME:
        code = take_ghost_part(arrival);
        break;
    case WIRE_HALF_CLOSE_FRAME:
        code = take_ghost_half_close(arrival);
        break;
    case WIRE_REJECT_FRAME:
        code = take_ghost_reject(arrival);
        break;
    case WIRE_CREDIT_FRAME:
    case WIRE_LEAVE_FRAME:
        return 0;
    default:
        return -1;
    }
    dispatch_call_release(arrival->call); /* when that was the replica's last word */
    return code;
}

/* ---- the connection itself ---- */

_Static_assert((int)WIRE_MODELS_LIMIT == (int)ROUTER_MODELS_LIMIT &&
                   (int)WIRE_MODEL_ID_LIMIT == (int)ROUTER_MODEL_ID_LIMIT,
               "the wire carries what the router believes");

/* What is past the limit is not looked at: a replica tells what it used last first. */
static int take_models(const struct arrival *arrival)
{
    struct dispatch *dispatch = arrival->link->dispatch;
    struct bytes ids[ROUTER_MODELS_LIMIT], rest, empty;
    struct wire_models models;
    uint32_t count = 0;

    if (wire_models_read(&models, arrival->payload) < 0)
        return -1;
    rest = models.ids;
    while (count < ROUTER_MODELS_LIMIT && wire_field_next(&rest, &ids[count], &empty))
        count++;
    if (count < ROUTER_MODELS_LIMIT && rest.size > 0)
        return -1;
    router_models(dispatch->router, dispatch_now_ns(dispatch), arrival->link->replica, ids, count,
                  &dispatch->effects);
    return 0;
}

static int take_for_link(const struct arrival *arrival)
{
    struct dispatch_link *link = arrival->link;
    struct dispatch *dispatch = link->dispatch;
    uint8_t at[DISPATCH_CONTROL_SIZE];
    struct wire_ping ping;
    struct wire_pong pong;
    bool progress;

    if (parcel_is_frame(arrival->header.type)) {
        int code = parcel_link_frame(&link->parcels, &arrival->header, arrival->payload, &progress);
        if (code == 0 && progress)
            dispatch_parcel_progress(link);
        return code;
    }
    switch (arrival->header.type) {
    case WIRE_PING_FRAME:
        if (wire_ping_read(&ping, arrival->payload) < 0)
            return -1;
        pong = (struct wire_pong){.token = ping.token};
        ensure(wire_pong_size(&pong) <= sizeof at);
        /* No room: the peer does not read, and a pong would not reach it sooner either. */
        dispatch_put_control(&link->channel, at, wire_pong_write(&pong, 0, 0, false, at));
        return 0;
    case WIRE_PONG_FRAME:
        if (wire_pong_read(&pong, arrival->payload) < 0)
            return -1;
        router_replica_alive(dispatch->router, dispatch_now_ns(dispatch), link->replica,
                             pong.queue_length, &dispatch->effects);
        return 0;
    case WIRE_MODELS_FRAME:
        return take_models(arrival);
    default:
        return -1;
    }
}

/* A body that is whole in its frame and has attachments: what is lent in it is ours, whoever waits
 * for the frame.  -1: a breach. */
static int open_parcel(struct arrival *arrival)
{
    struct dispatch_link *link = arrival->link;
    uint8_t flags = arrival->header.flags;
    struct wire_reply reply = {0};
    struct wire_part part = {0};
    bool is_reply = arrival->header.type == WIRE_REPLY_FRAME;

    if (!(flags & WIRE_ATTACHED))
        return 0;
    if (!is_reply && arrival->header.type != WIRE_PART_FRAME)
        return -1;
    if (is_reply ? !(flags & WIRE_END) : flags & WIRE_MORE)
        return 0; /* it comes in parts */
    if (is_reply ? wire_reply_read(&reply, arrival->payload) < 0
                 : wire_part_read(&part, arrival->payload) < 0)
        return -1;
    int code = parcel_open(&link->parcels, is_reply ? reply.body : part.body,
                           channel_buffer(&link->channel), &arrival->parcel);
    arrival->parcel_code = code;
    return code == ERROR_PROTOCOL ? -1 : 0;
}

static int take_for_stream(struct arrival *arrival)
{
    struct dispatch_link *link = arrival->link;
    arrival->call = pool_find(&link->dispatch->calls, arrival->header.stream);
    if (arrival->call && arrival->call->link == link)
        return arrival->call->place.list == &link->ghosts ? take_for_ghost(arrival)
                                                          : take_for_call(arrival);
    if (arrival->header.type !=
        WIRE_CREDIT_FRAME) /* credit for a request that was answered early is no fault */
        metric_add(peer_glitches_total, 1);
    return 0;
}

int dispatch_frame_take(struct dispatch_link *link, struct bytes frame,
                        struct dispatch_event *ret_event)
{
    struct arrival arrival = {.link = link, .event = ret_event};

    ensure(frame.size >= WIRE_HEADER_SIZE);
    wire_header_read(&arrival.header, frame.at);
    arrival.payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (arrival.header.type == WIRE_NO_FRAME || arrival.header.type >= WIRE_FRAME_COUNT)
        return 0; /* of a newer version */
    if (arrival.header.stream == 0)
        return take_for_link(&arrival);
    if (open_parcel(&arrival) < 0)
        return -1;
    int code = take_for_stream(&arrival);
    parcel_unref(arrival.parcel); /* nobody wanted it */
    return code;
}
