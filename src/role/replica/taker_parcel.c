/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_parcel: answers that are parcels (parcel.h).
 *
 * The usual one is lent: head and table leave in one frame, and the request is free.  While the
 * sender has not mapped what it is about to be told of, or the channel is full, the head is kept as
 * a frame without its body and goes on when the sender's word or room comes.  What cannot be lent
 * leaves through the socket, like any long answer, straight from the parcel.
 */
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "taker_inner.h"

void answer_copy(const struct request *request, uint8_t *at, size_t size)
{
    struct parcel_form form;
    parcel_inline(request->out, &form);
    parcel_copy(request->out, &form, request->rest_start, at, size);
}

/* How it travels now, and whether all of it goes in one frame with the head. */
static enum parcel_way choose_form(const struct request *request, const struct wire_reply *reply,
                                   struct parcel_form *form, bool *ret_whole)
{
    struct session *session = request->session;
    size_t head = wire_reply_size(reply) - WIRE_HEADER_SIZE;
    size_t room = session->frame_limit > head ? session->frame_limit - head : 0;
    enum parcel_way way = parcel_lend(&session->parcels, request->out, form);
    if (way == PARCEL_LENT && form->size > room) {
        parcel_unlend(&session->parcels, form);
        parcel_inline(request->out, form);
        way = PARCEL_INLINE;
    }
    *ret_whole = form->lent || (form->size <= answer_part_size(request) && form->size <= room &&
                                form->size <= request->credit);
    return way;
}

static bool put_frame(struct request *request, const struct wire_reply *given,
                      const struct parcel_form *form, bool whole)
{
    struct channel *channel = &request->session->channel;
    struct wire_reply reply = *given;
    reply.body_size = form->lent ? request->out->size : form->size;
    reply.body = bytes_of(NULL, whole ? (size_t)form->size : 0);
    size_t size = wire_reply_size(&reply);
    uint8_t *room = whole ? channel_put_room(channel, size) : session_room(request->session, size);
    if (!room)
        return false;
    uint8_t flags = (whole ? WIRE_END : 0) | (form->attached ? WIRE_ATTACHED : 0);
    size_t head = wire_reply_write(&reply, flags, request->stream, true, room);
    parcel_copy(request->out, form, 0, room + head, reply.body.size);
    channel_put_done(channel, size);
    return true;
}

enum answer_put answer_put_parcel(struct request *request, const struct wire_reply *reply)
{
    struct session *session = request->session;
    struct parcel_form form;
    bool whole;
    if (choose_form(request, reply, &form, &whole) == PARCEL_LATER)
        return ANSWER_WAITS;
    if (!put_frame(request, reply, &form, whole)) {
        if (form.lent)
            parcel_unlend(&session->parcels, &form);
        return ANSWER_WAITS;
    }
    request->head = (struct bytes){0};
    request->rest_start = 0;
    request->rest_end = (size_t)form.size;
    return whole ? ANSWER_PUT : ANSWER_BEGUN;
}

enum answer_put answer_put_head(struct request *request)
{
    struct wire_reply reply;
    int bad = wire_reply_read(&reply, bytes_skip(request->head, WIRE_HEADER_SIZE));
    ensure(bad == 0 && reply.body.size == 0);
    return answer_put_parcel(request, &reply);
}

/* The head as a frame, for as long as it must wait.  False: no room in the request's arena. */
static bool keep_head(struct request *request, const struct wire_reply *reply)
{
    size_t size = wire_reply_size(reply);
    uint8_t *at = arena_try(&request->public.arena, size);
    if (!at)
        return false;
    wire_reply_write(reply, 0, request->stream, false, at);
    request->head = bytes_of(at, size);
    return true;
}

int answer_parcel(struct request *request, const struct taker_answer *answer, struct parcel *parcel)
{
    struct session *session = request->session;
    struct wire_reply reply = answer_reply(request, answer);
    bool cancelled = request->public.cancelled;
    request->out = parcel;
    enum answer_put put = answer_put_parcel(request, &reply);
    if (put == ANSWER_PUT || session->closing) {
        request_free(request);
        return cancelled || put != ANSWER_PUT ? ERROR_CANCELLED : 0;
    }
    if (cancelled) { /* no credit would come for the rest, and its place stay taken (R2) */
        answer_enter_answered(request);
        answer_error(request, ERROR_CANCELLED, (struct bytes){0});
        return ERROR_CANCELLED;
    }
    if (put == ANSWER_WAITS && !keep_head(request, &reply)) {
        answer_error(request, ERROR_MEMORY, BYTES("no memory for an answer that must wait"));
        return ERROR_MEMORY;
    }
    answer_enter_answered(request);
    answer_continue(request);
    return 0;
}

/* ---- items of a streamed answer ---- */

static int write_inline(struct request *request, const struct parcel *parcel,
                        const struct parcel_form *form)
{
    struct taker *taker = request->taker;
    if (!form->attached)
        return answer_write(request, parcel->value, false);
    if (!parcel_desk_has_budget(taker->desk, form->size))
        return ERROR_LIMIT;
    struct buffer *buffer = buffer_try_new(taker->config.channels->buffers, (size_t)form->size);
    if (!buffer)
        return ERROR_MEMORY;
    parcel_copy(parcel, form, 0, buffer->data, (size_t)form->size);
    int code = answer_write(request, bytes_of(buffer->data, (size_t)form->size), true);
    buffer_unref(buffer);
    return code;
}

/* One that is to be lent, as a part by itself.  False: no room for it. */
static bool put_lent(struct request *request, const struct parcel *parcel,
                     const struct parcel_form *form)
{
    struct channel *channel = &request->session->channel;
    struct wire_part part = {.body = bytes_of(NULL, (size_t)form->size)};
    size_t cost =
        parcel_cost((size_t)form->size, parcel->size, request->session->stream_credit);
    uint8_t *room = cost <= request->credit ? channel_put_room(channel, wire_part_size(&part)) : NULL;
    if (!room)
        return false;
    size_t head = wire_part_write(&part, WIRE_ATTACHED, request->stream, true, room);
    parcel_copy(parcel, form, 0, room + head, (size_t)form->size);
    channel_put_done(channel, head + (size_t)form->size);
    request->credit -= cost;
    return true;
}

int taker_write_parcel(struct taker *taker, struct taker_request *public, struct parcel *parcel)
{
    struct request *request = (struct request *)public;
    struct session *session = request->session;
    struct parcel_form form;
    ensure(request->taker == taker && request->begun);
    if (!session || public->cancelled)
        return ERROR_CANCELLED;
    if (request->rest) { /* what came before it goes first */
        request->room_wanted = true;
        return ERROR_AGAIN;
    }
    enum parcel_way way = parcel_lend(&session->parcels, parcel, &form);
    if (way == PARCEL_INLINE)
        return write_inline(request, parcel, &form);
    if (way == PARCEL_LENT && put_lent(request, parcel, &form))
        return 0;
    if (way == PARCEL_LENT)
        parcel_unlend(&session->parcels, &form);
    request->room_wanted = true;
    return ERROR_AGAIN;
}

/* ---- large parts of an HTTP answer ---- */

int answer_lend_part(struct request *request, struct bytes part)
{
    struct session *session = request->session;
    struct parcel_form form;
    size_t cost = parcel_cost(0, part.size, session->stream_credit);
    if (request->public.kind != WIRE_KIND_HTTP || !session->parcels.region_limit ||
        !parcel_desk_wants(request->taker->desk, part.size))
        return ERROR_UNAVAILABLE;
    if (request->rest || request->credit < cost) { /* looked at before anything is copied */
        request->room_wanted = true;
        return ERROR_AGAIN;
    }
    struct parcel *parcel = parcel_of_bytes(request->taker->desk, part);
    if (!parcel)
        return ERROR_UNAVAILABLE;
    enum parcel_way way = parcel_lend(&session->parcels, parcel, &form);
    bool put = way == PARCEL_LENT && put_lent(request, parcel, &form);
    if (way == PARCEL_LENT && !put)
        parcel_unlend(&session->parcels, &form);
    parcel_unref(parcel);
    return put ? 0 : ERROR_UNAVAILABLE;
}
