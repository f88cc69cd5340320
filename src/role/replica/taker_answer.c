/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_answer: answers as frames.
 *
 * The common answer is one frame.  A larger body leaves in parts as the sender's credit and the
 * channel's room allow; the taker keeps what could not leave yet and goes on when credit or room
 * comes.  A streamed answer is written by user code part by part: all of a part or nothing.  A
 * request is free once its last frame has been put.
 */
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "taker_inner.h"

size_t answer_part_size(const struct request *request)
{
    size_t own = (size_t)request->taker->config.settings->wire_part_size;
    size_t most = request->session->frame_limit > 1024 ? request->session->frame_limit - 1024 : own;
    return own < most ? own : most;
}

/* The queue length that rides on an answer counts without the request that it ends. */
static uint32_t queue_length_after(const struct request *request)
{
    uint32_t ongoing = replica_ongoing(request->taker->mind);
    return ongoing ? ongoing - 1 : 0;
}

struct wire_reply answer_reply(const struct request *request, const struct taker_answer *answer)
{
    return (struct wire_reply){.code = answer->code,
                               .status = answer->status,
                               .queue_length = queue_length_after(request),
                               .body_size = answer->body_size,
                               .content_type = answer->content_type,
                               .headers = answer->headers,
                               .error = answer->text};
}

static bool put_reply(struct request *request, const struct taker_answer *answer, struct bytes body,
                      uint8_t flags, bool must)
{
    struct channel *channel = &request->session->channel;
    struct wire_reply reply = answer_reply(request, answer);
    reply.body = body;
    size_t size = wire_reply_size(&reply);
    uint8_t *room = must ? session_room(request->session, size) : channel_put_room(channel, size);
    if (!room)
        return false;
    channel_put_done(channel, wire_reply_write(&reply, flags, request->stream, false, room));
    return true;
}

/* The bytes of a parcel are not in one place: body.at is null. */
static bool put_part(struct request *request, struct bytes body, uint8_t flags)
{
    struct channel *channel = &request->session->channel;
    struct wire_part part = {.queue_length = queue_length_after(request), .body = body};
    uint8_t *room = channel_put_room(channel, wire_part_size(&part));
    if (!room)
        return false;
    bool apart = body.size > 0 && !body.at;
    size_t size = wire_part_write(&part, flags, request->stream, apart, room);
    if (apart) {
        answer_copy(request, room + size, body.size);
        size += body.size;
    }
    channel_put_done(channel, size);
    request->credit -= body.size;
    return true;
}

static void put_half_close(struct request *request, int code, struct bytes text,
                           struct bytes trailers)
{
    struct wire_half_close frame = {.code = code,
                                    .queue_length = queue_length_after(request),
                                    .trailers = trailers,
                                    .text = bytes_head(text, UINT16_MAX)};
    uint8_t *room = session_room(request->session, wire_half_close_size(&frame));
    if (room)
        channel_put_done(&request->session->channel,
                         wire_half_close_write(&frame, WIRE_END, request->stream, false, room));
}

/* ---- whole answers
 * -------------------------------------------------------------------------------------- */

void answer_enter_answered(struct request *request)
{
    request->phase = REQUEST_ANSWERED;
    request->events = 0;
    list_remove(&request->event_link);
}

/* Sends what may leave of the kept rest; false when some of it stays. */
static bool send_rest(struct request *request)
{
    size_t most = answer_part_size(request);
    while (request->rest_start < request->rest_end && request->credit) {
        size_t size = request->rest_end - request->rest_start;
        size = size < most ? size : most;
        size = size < request->credit ? size : (size_t)request->credit;
        bool last = request->rest_start + size == request->rest_end;
        uint8_t flags = request->begun ? (last ? 0 : WIRE_MORE) : (last ? WIRE_END : 0);
        const uint8_t *at = request->out ? NULL : request->rest->data + request->rest_start;
        if (!put_part(request, bytes_of(at, size),
                      flags | (request->rest_attached ? WIRE_ATTACHED : 0)))
            return false;
        request->rest_attached = false;
        request->rest_start += size;
    }
    return request->rest_start == request->rest_end;
}

/* Credit or room came: the kept rest goes on, and behind it the end, or the writer. */
void answer_continue(struct request *request)
{
    enum answer_put put = request->head.size ? answer_put_head(request) : ANSWER_BEGUN;
    bool whole = put == ANSWER_PUT ||
                 (put == ANSWER_BEGUN && ((!request->rest && !request->out) || send_rest(request)));
    if (!whole) {
        if (!list_linked(&request->unsent_link))
            list_push_back(&request->session->unsent, &request->unsent_link);
        return;
    }
    list_remove(&request->unsent_link);
    request->rest = buffer_unref(request->rest);
    request->rest_start = request->rest_end = 0;
    if (request->phase == REQUEST_ANSWERED) {
        if (request->begun)
            put_half_close(request, 0, (struct bytes){0}, request->trailers);
        request_free(request);
    } else if (request->room_wanted && request->credit) {
        request->room_wanted = false;
        request_tell(request, EVENT_ROOM);
    }
}

/* A copy of what cannot leave yet, counted against the process's budget. */
static int keep_rest(struct request *request, struct bytes rest)
{
    struct buffer_store *buffers = request->taker->config.channels->buffers;
    if (!parcel_desk_has_budget(request->taker->desk, rest.size))
        return ERROR_LIMIT;
    if (!(request->rest = buffer_try_new(buffers, rest.size)))
        return ERROR_MEMORY;
    memcpy(request->rest->data, rest.at, rest.size);
    request->rest_start = 0;
    request->rest_end = rest.size;
    return 0;
}

/* A body that does not leave in one frame: the head now, the rest kept. */
static int answer_in_parts(struct request *request, const struct taker_answer *answer)
{
    int code = keep_rest(request, answer->body);
    if (code < 0) {
        answer_error(request, code, BYTES("the answer is too large for what the replica may hold"));
        return code;
    }
    answer_enter_answered(request);
    struct taker_answer head = *answer;
    head.body_size = answer->body.size;
    if (put_reply(request, &head, (struct bytes){0}, 0, true))
        answer_continue(request);
    return 0;
}

int taker_answer(struct taker *taker, struct taker_request *public,
                 const struct taker_answer *answer)
{
    struct request *request = (struct request *)public;
    ensure_tag(R1, request->taker == taker && request->phase == REQUEST_TAKEN && !request->begun);
    if (answer->code < 0)
        metric_add(replica_errors_total, 1);
    if (!request->session) {
        request_free(request);
        return ERROR_CANCELLED;
    }
    if (answer->parcel)
        return answer_parcel(request, answer, parcel_ref(answer->parcel));
    struct parcel *parcel = request->session->parcels.region_limit && !public->cancelled
                                ? parcel_of_bytes(taker->desk, answer->body)
                                : NULL;
    if (parcel)
        return answer_parcel(request, answer, parcel);
    struct taker_answer whole = *answer;
    whole.body_size = answer->body.size;
    if (answer->body.size <= answer_part_size(request) && answer->body.size <= request->credit &&
        put_reply(request, &whole, answer->body, WIRE_END, !answer->body.size)) {
        bool cancelled = public->cancelled;
        request_free(request);
        return cancelled ? ERROR_CANCELLED : 0;
    }
    if (request->session->closing) {
        request_free(request);
        return ERROR_CANCELLED;
    }
    if (public->cancelled) { /* no credit would come for the rest, and its place stay taken (R2) */
        answer_error(request, ERROR_CANCELLED, (struct bytes){0});
        return ERROR_CANCELLED;
    }
    return answer_in_parts(request, answer);
}

void answer_last_word(struct request *request, int code, struct bytes text)
{
    if (request->session && request->begun)
        put_half_close(request, code, text, (struct bytes){0});
    else if (request->session && request->phase == REQUEST_ANSWERED && !request->head.size &&
             (request->rest || request->out))
        put_half_close(request, code, text, (struct bytes){0});
    else if (request->session)
        put_reply(request,
                  &(struct taker_answer){
                      .code = code, .status = (uint16_t)error_http_status(code), .text = text},
                  (struct bytes){0}, WIRE_END, true);
}

void answer_error(struct request *request, int code, struct bytes text)
{
    answer_last_word(request, code, text);
    request_free(request);
}

/* ---- streamed answers
 * ------------------------------------------------------------------------------------- */

int taker_begin(struct taker *taker, struct taker_request *public,
                const struct taker_answer *answer)
{
    struct request *request = (struct request *)public;
    ensure_tag(R1, request->taker == taker && request->phase == REQUEST_TAKEN && !request->begun);
    request->begun = true;
    if (!request->session)
        return 0; /* writes will say so */
    put_reply(request, answer, (struct bytes){0}, 0, true);
    return 0;
}

/* Whether a part is taken now.  Of its window a caller holds back less than half (it tells credit
 * half a window at a time), so that waiting for more than the other half might never end: a part
 * that is larger than what may be sent then is taken, and what is too much of it kept. */
static bool may_write(struct request *request, struct bytes part)
{
    uint32_t window = request->session->stream_credit;
    struct channel *channel = &request->session->channel;
    size_t queue_limit = (size_t)request->taker->config.settings->wire_queue_limit;
    if (request->rest || (part.size > request->credit && request->credit < window - window / 2))
        return false;
    if (channel_unsent(channel) > 0 && channel_unsent(channel) + part.size > queue_limit) {
        channel_put_room(channel, SIZE_MAX / 2); /* asks for CHANNEL_ROOM */
        return false;
    }
    return true;
}

static int write_rest(struct request *request, struct bytes rest)
{
    int code = keep_rest(request, rest);
    if (code == 0)
        answer_continue(request);
    return code;
}

int taker_write(struct taker *taker, struct taker_request *public, struct bytes part)
{
    struct request *request = (struct request *)public;
    ensure(request->taker == taker && request->begun);
    if (!request->session || public->cancelled)
        return ERROR_CANCELLED;
    int code = answer_lend_part(request, part);
    return code == ERROR_UNAVAILABLE ? answer_write(request, part, false) : code;
}

int answer_write(struct request *request, struct bytes part, bool attached)
{
    if (!may_write(request, part)) {
        request->room_wanted = true;
        return ERROR_AGAIN;
    }
    if (part.size > request->credit) {
        request->rest_attached = attached;
        return write_rest(request, part);
    }
    struct bytes left = part;
    do {
        struct bytes piece = bytes_head(left, answer_part_size(request));
        uint8_t flags = (piece.size < left.size ? WIRE_MORE : 0) |
                        (attached && left.size == part.size ? WIRE_ATTACHED : 0);
        if (!put_part(request, piece, flags)) {
            request->room_wanted = true;
            if (!part.size)
                return ERROR_AGAIN;
            request->rest_attached = attached && left.size == part.size;
            break;
        }
        left = bytes_skip(left, piece.size);
    } while (left.size);
    int code = left.size ? write_rest(request, left) : 0;
    if (code < 0 && left.size < part.size) /* in the middle of an item */
        session_end_broken(request->session);
    return code;
}

void taker_finish(struct taker *taker, struct taker_request *public, int code,
                  struct bytes trailers)
{
    struct request *request = (struct request *)public;
    ensure_tag(R1, request->taker == taker && request->phase == REQUEST_TAKEN && request->begun);
    if (code < 0)
        metric_add(replica_errors_total, 1);
    if (request->session && request->rest && code == 0 && !public->cancelled) {
        /* The end follows what is still leaving. */
        request->trailers = arena_copy(&public->arena, trailers);
        request->trailers.size = request->trailers.at ? request->trailers.size : 0;
        answer_enter_answered(request);
        return;
    }
    if (request->session)
        put_half_close(request, code, (struct bytes){0}, trailers);
    request_free(request);
}

void taker_break(struct taker *taker, struct taker_request *public, int code, struct bytes text)
{
    struct request *request = (struct request *)public;
    ensure_tag(R1, request->taker == taker && request->phase == REQUEST_TAKEN && request->begun);
    ensure(code < 0);
    metric_add(replica_errors_total, 1);
    if (request->session)
        put_half_close(request, code, text, (struct bytes){0});
    request_free(request);
}
