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

static size_t part_size(const struct request *request)
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

static bool put_reply(struct request *request, const struct taker_answer *answer, struct bytes body,
                      uint8_t flags, bool must)
{
    struct channel *channel = &request->session->channel;
    struct wire_reply reply = {.code = answer->code,
                               .status = answer->status,
                               .queue_length = queue_length_after(request),
                               .body_size = answer->body_size,
                               .content_type = answer->content_type,
                               .headers = answer->headers,
                               .error = answer->text,
                               .body = body};
    size_t size = wire_reply_size(&reply);
    uint8_t *room = must ? session_room(request->session, size) : channel_put_room(channel, size);
    if (!room)
        return false;
    channel_put_done(channel, wire_reply_write(&reply, flags, request->stream, false, room));
    return true;
}

static bool put_part(struct request *request, struct bytes body, uint8_t flags)
{
    struct channel *channel = &request->session->channel;
    struct wire_part part = {.queue_length = queue_length_after(request), .body = body};
    uint8_t *room = channel_put_room(channel, wire_part_size(&part));
    if (!room)
        return false;
    channel_put_done(channel, wire_part_write(&part, flags, request->stream, false, room));
    request->credit -= body.size;
    return true;
}

static void put_half_close(struct request *request, int code, struct bytes trailers)
{
    struct wire_half_close frame = {
        .code = code, .queue_length = queue_length_after(request), .trailers = trailers};
    uint8_t *room = session_room(request->session, wire_half_close_size(&frame));
    if (room)
        channel_put_done(&request->session->channel,
                         wire_half_close_write(&frame, WIRE_END, request->stream, false, room));
}

/* ---- whole answers
 * -------------------------------------------------------------------------------------- */

/* Sends what may leave of the kept rest; frees the request behind the last part. */
void answer_continue(struct request *request)
{
    if (request->phase != REQUEST_ANSWERED) {
        if (request->room_wanted && request->credit) {
            request->room_wanted = false;
            request_tell(request, EVENT_ROOM);
        }
        return;
    }
    size_t most = part_size(request);
    while (request->rest_start < request->rest_end && request->credit) {
        size_t size = request->rest_end - request->rest_start;
        size = size < most ? size : most;
        size = size < request->credit ? size : (size_t)request->credit;
        bool last = request->rest_start + size == request->rest_end;
        if (!put_part(request, bytes_of(request->rest->data + request->rest_start, size),
                      last ? WIRE_END : 0))
            break;
        request->rest_start += size;
        if (last) {
            request_free(request);
            return;
        }
    }
    if (!list_linked(&request->unsent_link))
        list_push_back(&request->session->unsent, &request->unsent_link);
}

/* A body that does not leave in one frame: the head now, the rest kept. */
static int answer_in_parts(struct request *request, const struct taker_answer *answer)
{
    size_t limit = (size_t)request->taker->config.settings->process_byte_budget;
    size_t live = buffer_store_live_bytes(request->taker->config.channels->buffers);
    int code = 0;
    if (answer->body.size > limit || live > limit - answer->body.size)
        code = ERROR_LIMIT;
    else if (!(request->rest =
                   buffer_try_new(request->taker->config.channels->buffers, answer->body.size)))
        code = ERROR_MEMORY;
    if (code < 0) {
        answer_error(request, code, BYTES("the answer is too large for what the replica may hold"));
        return code;
    }
    memcpy(request->rest->data, answer->body.at, answer->body.size);
    request->rest_end = answer->body.size;
    request->phase = REQUEST_ANSWERED;
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
    struct taker_answer whole = *answer;
    whole.body_size = answer->body.size;
    if (answer->body.size <= part_size(request) && answer->body.size <= request->credit &&
        put_reply(request, &whole, answer->body, WIRE_END, !answer->body.size)) {
        bool cancelled = public->cancelled;
        request_free(request);
        return cancelled ? ERROR_CANCELLED : 0;
    }
    if (request->session->closing) {
        request_free(request);
        return ERROR_CANCELLED;
    }
    return answer_in_parts(request, answer);
}

void answer_last_word(struct request *request, int code, struct bytes text)
{
    if (request->session && request->begun)
        put_half_close(request, code, (struct bytes){0});
    else if (request->session && request->phase == REQUEST_ANSWERED && request->rest)
        put_half_close(request, code, (struct bytes){0});
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

int taker_write(struct taker *taker, struct taker_request *public, struct bytes part)
{
    struct request *request = (struct request *)public;
    ensure(request->taker == taker && request->begun);
    if (!request->session || public->cancelled)
        return ERROR_CANCELLED;
    size_t most = part_size(request);
    /* All or nothing: the credit is asked first, and the channel holds its queue limit at least. */
    if (part.size > request->credit && request->credit < request->session->stream_credit) {
        request->room_wanted = true;
        return ERROR_AGAIN;
    }
    if (part.size > request->credit)
        return ERROR_LIMIT; /* larger than the whole window: the writer must cut it */
    if (channel_unsent(&request->session->channel) + part.size >
        (size_t)taker->config.settings->wire_queue_limit) {
        request->room_wanted = true;
        channel_put_room(&request->session->channel, SIZE_MAX / 2); /* asks for CHANNEL_ROOM */
        return ERROR_AGAIN;
    }
    do {
        struct bytes piece = bytes_head(part, most);
        part = bytes_skip(part, piece.size);
        if (!put_part(request, piece, part.size ? WIRE_MORE : 0)) {
            request->session->closing = taker->has_closing =
                true; /* memory lacks in the middle of an item */
            return ERROR_MEMORY;
        }
    } while (part.size);
    return 0;
}

void taker_finish(struct taker *taker, struct taker_request *public, int code,
                  struct bytes trailers)
{
    struct request *request = (struct request *)public;
    ensure_tag(R1, request->taker == taker && request->phase == REQUEST_TAKEN && request->begun);
    if (code < 0)
        metric_add(replica_errors_total, 1);
    if (request->session)
        put_half_close(request, code, trailers);
    request_free(request);
}
