/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_body: the bodies of requests: collected, streamed, or by reference.
 *
 * A body in parts is collected until it is whole, or, where user code streams, given as it comes
 * within the window that its sender has.  One with attachments (parcel.h) is whole in its frame
 * when it is by reference; one that comes in parts is collected and opened at its end.
 */
#include <string.h>

#include "ensure.h"
#include "taker_inner.h"

static int64_t now_of(const struct taker *taker)
{
    return loop_now_ns(taker->config.loop);
}

/* User code reads the body as it comes.  One with attachments is waited for in any case. */
bool body_is_streamed(const struct request *request)
{
    return (request->taker->config.streams_body || request->public.kind == WIRE_KIND_WEBSOCKET) &&
           !request->attached;
}

/* Appends to the collected body: 0, or why not. */
int body_collect(struct request *request, struct bytes part)
{
    struct taker *taker = request->taker;
    size_t used = request->body_end - request->body_start;
    size_t limit = (size_t)taker->config.settings->body_collect_limit;
    if (body_is_streamed(request))
        limit = (size_t)taker->config.settings->wire_stream_credit * 2;
    if (part.size > limit || used > limit - part.size)
        return ERROR_TOO_LARGE;
    if (!request->body || request->body->capacity - request->body_end < part.size) {
        size_t wanted = used + part.size, known = (size_t)request->public.body_size;
        wanted =
            known >= wanted && known <= limit && !body_is_streamed(request) ? known : wanted * 2;
        /* What is read as it comes is bounded by its window. */
        if (!body_is_streamed(request) && !parcel_desk_has_budget(taker->desk, wanted))
            return ERROR_LIMIT;
        struct buffer *larger = buffer_try_new(taker->config.channels->buffers, wanted);
        if (!larger)
            return ERROR_MEMORY;
        if (used)
            memcpy(larger->data, request->body->data + request->body_start, used);
        buffer_unref(request->body);
        request->body = larger;
        request->body_start = 0;
        request->body_end = used;
    }
    if (part.size)
        memcpy(request->body->data + request->body_end, part.at, part.size);
    request->body_end += part.size;
    request->public.body = bytes_of(request->body->data + request->body_start,
                                    request->body_end - request->body_start);
    return 0;
}

void body_grant(struct request *request, size_t size)
{
    struct session *session = request->session;
    struct wire_credit credit;
    request->body_owed += size;
    if (!session || request->public.body_ended ||
        request->body_owed < (size_t)request->taker->config.settings->wire_stream_credit / 2)
        return;
    credit.size = (uint32_t)request->body_owed;
    credit.body = (struct bytes){0};
    uint8_t *room = session_room(session, wire_credit_size(&credit));
    if (room)
        channel_put_done(&session->channel,
                         wire_credit_write(&credit, 0, request->stream, false, room));
    request->body_credit += request->body_owed;
    request->body_owed = 0;
}

void taker_consume(struct taker *taker, struct taker_request *public, size_t size)
{
    struct request *request = (struct request *)public;
    (void)taker;
    ensure(size <= public->body.size);
    public->body = bytes_skip(public->body, size);
    if (request->body)
        request->body_start += size;
    if (request->body && request->body_start == request->body_end) {
        /* Nothing is held for one that waits, perhaps for long. */
        request->body = buffer_unref(request->body);
        request->body_start = request->body_end = 0;
        public->body = (struct bytes){0};
    }
    body_grant(request, size);
}

/* An admitted request whose body cannot be had: answered, never given to user code. */
static void request_refuse(struct request *request, int code, struct bytes text)
{
    replica_cancel(request->taker->mind, now_of(request->taker),
                   (struct request_id){request->public.id});
    answer_error(request, code, text);
}

void body_refuse(struct request *request, int code)
{
    request_refuse(request, code,
                   code == ERROR_TOO_LARGE ? BYTES("the body is too large for this deployment")
                                           : BYTES("the replica holds too many bodies already"));
}

/* Larger than a handler that does not stream may get; told before it is sent. */
static bool is_too_large(const struct request *request)
{
    uint64_t size = request->public.body_size;
    bool is_here = request->public.body_ended && !request->public.parcel;
    return !is_here && !body_is_streamed(request) && size != UINT64_MAX &&
           size > (uint64_t)request->taker->config.settings->body_collect_limit;
}

void body_begin(struct request *request)
{
    int code = is_too_large(request) ? ERROR_TOO_LARGE : 0;
    if (code == 0 && !request->public.body_ended) {
        struct bytes first = request->public.body;
        request->public.body = (struct bytes){0};
        code = body_collect(request, first);
    }
    if (code < 0)
        body_refuse(request, code);
}

void body_set_parcel(struct request *request, struct parcel *parcel)
{
    if (!parcel)
        return;
    request->public.parcel = parcel;
    request->public.body = parcel->value;
    request->public.body_size = parcel->size;
}

/* A body with attachments is whole: 0, or why it is none. */
static int request_open_collected(struct request *request)
{
    struct parcel *parcel;
    int code = parcel_open(NULL, request->public.body, request->body, &parcel);
    if (code == 0)
        body_set_parcel(request, parcel);
    return code;
}

void body_end(struct request *request, int code)
{
    if (code == 0 && request->attached)
        code = request_open_collected(request);
    request->public.body_ended = true;
    request->public.body_error = code;
    if (request->phase == REQUEST_RECEIVING) {
        if (code < 0) {
            request_refuse(request, code, BYTES("the body broke off"));
            return;
        }
        request->phase = REQUEST_READY;
        replica_release(request->taker->mind, now_of(request->taker),
                        (struct request_id){request->public.id}, request->public.model_id);
    }
    request_tell(request, EVENT_BODY);
}
