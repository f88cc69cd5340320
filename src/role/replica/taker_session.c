/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_session: a sender's connection: hello, requests, body parts, credit, cancels, pings.
 *
 * A frame is handled whole before the next.  Every number in it is judged before it is used: a
 * sender that breaks the protocol is counted and its connection closed; its requests end as if it
 * had left.
 */
#include <errno.h>
#include <string.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"
#include "taker_inner.h"

static const int64_t ACCEPT_PAUSE_NS = 50 * 1000000;

static void session_event(void *owner, struct channel *channel, int events);

static int64_t now_of(const struct taker *taker)
{
    return loop_now_ns(taker->config.loop);
}

/* ---- life
 * -----------------------------------------------------------------------------------------------
 */

static bool session_greet(struct session *session)
{
    struct taker *taker = session->taker;
    struct wire_hello hello = {0};
    uint32_t marks = (uint32_t)taker->config.settings->request_limit;
    if (page_create(&session->page, "manta-taken", marks * sizeof(uint32_t)) < 0)
        return false;
    wire_hello_fill(&hello, WIRE_ROLE_REPLICA, taker->config.replica, taker->config.deployment);
    hello.frame_limit = (uint32_t)taker->config.settings->wire_frame_limit;
    hello.stream_credit = (uint32_t)taker->config.settings->wire_stream_credit;
    hello.stream_limit = marks;
    hello.taken_count = marks;
    parcel_link_greet(&session->parcels, &hello);
    uint8_t *room = session_room(session, wire_hello_size(&hello));
    if (!room)
        return false;
    channel_put_descriptor(&session->channel, session->page.descriptor);
    session->page.descriptor = -1; /* the channel closes it once sent; the mapping stays */
    channel_put_done(&session->channel, wire_hello_write(&hello, WIRE_DESCRIPTOR, 0, false, room));
    return true;
}

static void accept_again(void *owner)
{
    struct taker *taker = owner;
    loop_watch_change(&taker->listener, LOOP_READ);
}

void session_accept(struct taker *taker)
{
    int descriptor = socket_accept(taker->listen_descriptor);
    if (descriptor == -EAGAIN)
        return;
    if (descriptor < 0) { /* descriptors or memory lack: whoever waits goes on waiting */
        metric_add(accept_full_total, 1);
        loop_watch_change(&taker->listener, 0);
        loop_timer_init(taker->config.loop, &taker->accept_timer, accept_again, taker);
        loop_timer_set(&taker->accept_timer, now_of(taker) + ACCEPT_PAUSE_NS);
        return;
    }
    struct session *session =
        taker->sessions.length < SESSION_LIMIT ? mem_try(sizeof *session) : NULL;
    if (!session || socket_check_peer(descriptor, NULL) < 0) {
        metric_add(peer_glitches_total, 1);
        mem_free(session);
        socket_close(descriptor);
        return;
    }
    session->taker = taker;
    session->page.descriptor = -1;
    list_init(&session->requests);
    list_init(&session->unsent);
    if (channel_open(&session->channel, taker->config.channels, descriptor, session_event,
                     session) < 0) {
        mem_free(session);
        return;
    }
    list_push_back(&taker->sessions, &session->link);
    parcel_link_open(&session->parcels, taker->desk, &session->channel);
    if (!session_greet(session))
        session_close(session);
}

/* User code has it.  No more of a streamed body comes, and what has come is not to be taken for all
 * of it. */
static void request_tell_cancelled(struct request *request)
{
    if (!request->public.body_ended) {
        request->public.body_ended = true;
        request->public.body_error = ERROR_CANCELLED;
        request_tell(request, EVENT_BODY);
    }
    request_give_up(request);
}

/* What the client of a websocket closed with; without memory the reason is left out. */
static void request_note_close(struct request *request, uint16_t code, struct bytes reason)
{
    if (request->public.kind != WIRE_KIND_WEBSOCKET)
        return;
    request->public.close_code = code;
    request->public.close_reason = arena_copy(&request->public.arena, reason);
    if (!request->public.close_reason.at)
        request->public.close_reason.size = 0;
}

/* The sender is gone: what user code has not seen is forgotten, what it has is told. */
static void request_lose_sender(struct request *request)
{
    struct taker *taker = request->taker;
    request->session = NULL;
    request->public.cancelled = true;
    request_note_close(request, CLOSE_ABNORMAL, (struct bytes){0});
    list_remove(&request->session_link);
    list_remove(&request->unsent_link);
    if (request->phase == REQUEST_TAKEN) {
        replica_cancel(taker->mind, now_of(taker), (struct request_id){request->public.id});
        request_tell_cancelled(request);
        return;
    }
    if (request->phase != REQUEST_ANSWERED)
        replica_cancel(taker->mind, now_of(taker), (struct request_id){request->public.id});
    request_free(request);
}

void session_close(struct session *session)
{
    struct list_link *link;
    while ((link = list_first(&session->requests)))
        request_lose_sender(list_entry(link, struct request, session_link));
    parcel_link_close(&session->parcels);
    channel_close(&session->channel);
    page_close(&session->page);
    mem_free(session->slots);
    list_remove(&session->refused_link);
    list_remove(&session->link);
    mem_free(session);
}

void session_close_broken(struct taker *taker)
{
    struct list_link *link, *after;
    if (!taker->has_closing)
        return;
    taker->has_closing = false;
    list_each_safe (link, after, &taker->sessions) {
        struct session *session = list_entry(link, struct session, link);
        if (session->closing)
            session_close(session);
    }
}

void session_end_broken(struct session *session)
{
    session->closing = session->taker->has_closing = true;
}

uint8_t *session_room(struct session *session, size_t size)
{
    uint8_t *room = channel_put_room_always(&session->channel, size);
    if (!room)
        session_end_broken(session);
    return room;
}

/* An unasked pong: it carries the queue length, which is what a router waits for. */
void session_tell_refused(struct taker *taker)
{
    struct list_link *link;
    if (replica_ongoing(taker->mind) >= taker->config.max_ongoing)
        return;
    while ((link = list_pop_front(&taker->refused))) {
        struct session *session = list_entry(link, struct session, refused_link);
        struct wire_pong pong = {.queue_length = replica_ongoing(taker->mind)};
        uint8_t *room = session_room(session, wire_pong_size(&pong));
        if (room)
            channel_put_done(&session->channel, wire_pong_write(&pong, 0, 0, false, room));
    }
}

static bool session_breach(struct session *session)
{
    if (session->parcels.reason)
        log_print(LOG_WARNING, "%s said %s: its connection ends", session->name,
                  session->parcels.reason);
    metric_add(peer_glitches_total, 1);
    session->closing = true;
    return false;
}

/* ---- frames: requests
 * -------------------------------------------------------------------------------------- */

static void session_reject(struct session *session, uint64_t stream, int code)
{
    struct wire_reject reject = {.code = code,
                                 .queue_length = replica_ongoing(session->taker->mind)};
    uint8_t *room = session_room(session, wire_reject_size(&reject));
    metric_add(replica_rejected_total, 1);
    if (code == ERROR_LIMIT && !list_linked(&session->refused_link))
        list_push_back(&session->taker->refused, &session->refused_link);
    if (room)
        channel_put_done(&session->channel, wire_reject_write(&reject, 0, stream, false, room));
}

/* Stale ids, and ids beyond what was ever used, find nothing. */
static struct request *session_find(struct session *session, uint64_t stream)
{
    uint32_t index = pool_id_index(stream);
    struct request *request = index < session->slot_count ? session->slots[index] : NULL;
    return request && request->stream == stream ? request : NULL;
}

/* Senders reuse their lowest ids first, so that the table stays as small as what they have out. */
static bool session_make_slot(struct session *session, uint32_t index)
{
    uint32_t count = session->slot_count ? session->slot_count : 16;
    if (index < session->slot_count)
        return true;
    while (count <= index)
        count *= 2;
    struct request **slots =
        mem_try_resize(session->slots, session->slot_count * sizeof *slots, count * sizeof *slots);
    if (!slots)
        return false;
    session->slots = slots;
    session->slot_count = count;
    return true;
}

/* The slices of the request's frame. */
static void request_show(struct request *request, const struct wire_request *frame)
{
    struct taker_request *public = &request->public;
    public->method = frame->method;
    public->path = frame->path;
    public->query = frame->query;
    public->route_prefix = frame->route_prefix;
    public->content_type = frame->content_type;
    public->request_id = frame->request_id;
    public->trace = frame->trace;
    public->model_id = frame->model_id;
    public->headers = frame->headers;
    public->body = frame->body;
}

/*
 * A websocket lives long and its frame is small: it is copied, so that it does not hold the
 * channel's buffer.  Without memory it does.
 */
static void request_own_frame(struct request *request, struct bytes payload)
{
    struct wire_request frame;
    struct bytes copy = arena_copy(&request->public.arena, payload);
    if (!copy.at)
        return;
    ensure(wire_request_read(&frame, copy) == 0);
    request_show(request, &frame);
    request->frame = buffer_unref(request->frame);
}

static struct request *request_new(struct session *session, const struct wire_request *frame,
                                   uint8_t flags, uint64_t stream)
{
    struct taker *taker = session->taker;
    uint32_t index = pool_id_index(stream);
    struct request *request =
        session_make_slot(session, index) ? pool_take(&taker->requests) : NULL;
    if (!request)
        return NULL;
    session->slots[index] = request;
    request->taker = taker;
    request->session = session;
    request->stream = stream;
    request->credit = session->stream_credit;
    request->body_credit = (size_t)taker->config.settings->wire_stream_credit;
    request->attached = (flags & WIRE_ATTACHED) && !(flags & WIRE_END);
    request->frame = buffer_ref(channel_buffer(&session->channel));
    request->public = (struct taker_request){
        .id = pool_id(request),
        .kind = frame->kind,
        .http_minor = frame->http_minor,
        .stream = flags & WIRE_STREAM,
        .body_ended = flags & WIRE_END,
        .deadline_ns = frame->deadline_us
                           ? now_of(taker) + (int64_t)(frame->deadline_us < INT64_MAX / 2000
                                                           ? frame->deadline_us * 1000
                                                           : INT64_MAX / 2)
                           : 0,
        .body_size = frame->body_size,
    };
    request_show(request, frame);
    arena_init(&request->public.arena, &taker->arena_blocks,
               (size_t)taker->config.settings->request_arena_limit);
    list_push_back(&session->requests, &request->session_link);
    return request;
}

static bool request_is_batched(const struct taker *taker, const struct wire_request *frame)
{
    return taker->config.batched &&
           (frame->kind == WIRE_KIND_HTTP || bytes_equal(frame->method, BYTES("__call__")));
}

/* Of a body that is whole in its frame; what is lent in it is ours from here on.  False: a breach.
 */
static bool session_open_parcel(struct session *session, const struct wire_header *header,
                                const struct wire_request *frame, struct parcel **ret_parcel,
                                int *ret_code)
{
    *ret_parcel = NULL;
    *ret_code = 0;
    if (!(header->flags & WIRE_ATTACHED) || !(header->flags & WIRE_END))
        return true;
    *ret_code =
        parcel_open(&session->parcels, frame->body, channel_buffer(&session->channel), ret_parcel);
    return *ret_code != ERROR_PROTOCOL;
}

static bool session_on_request(struct session *session, const struct wire_header *header,
                               struct bytes payload)
{
    struct taker *taker = session->taker;
    struct wire_request frame;
    struct parcel *parcel;
    int code;
    if (wire_request_read(&frame, payload) < 0 || !header->stream ||
        pool_id_index(header->stream) >= session->page.size / sizeof(uint32_t) ||
        session_find(session, header->stream) || frame.kind >= WIRE_KIND_COUNT)
        return session_breach(session);
    if (!session_open_parcel(session, header, &frame, &parcel, &code))
        return session_breach(session);
    struct request *request =
        code == 0 ? request_new(session, &frame, header->flags, header->stream) : NULL;
    if (!request) {
        parcel_unref(parcel);
        session_reject(session, header->stream, ERROR_LIMIT);
        return true;
    }
    if (frame.kind == WIRE_KIND_WEBSOCKET)
        request_own_frame(request, payload);
    body_set_parcel(request, parcel);
    bool held = !request->public.body_ended && !body_is_streamed(request);
    struct replica_admit admit = {.request = {request->public.id},
                                  .deadline_ns = request->public.deadline_ns,
                                  .batched = request_is_batched(taker, &frame),
                                  .held = held,
                                  .method_hash = bytes_hash(frame.method),
                                  .model_id = frame.model_id};
    enum replica_verdict verdict = replica_admit(taker->mind, now_of(taker), &admit);
    if (verdict != REPLICA_ACCEPTED) {
        session_reject(session, header->stream,
                       verdict == REPLICA_REJECTED_FULL ? ERROR_LIMIT : ERROR_CLOSED);
        request_free(request);
        return true;
    }
    metric_set(replica_ongoing, replica_ongoing(taker->mind));
    request->phase = held ? REQUEST_RECEIVING : REQUEST_READY;
    body_begin(request);
    return true;
}

static bool session_on_part(struct session *session, const struct wire_header *header,
                            struct bytes payload)
{
    struct wire_part part;
    struct request *request = session_find(session, header->stream);
    if (wire_part_read(&part, payload) < 0)
        return session_breach(session);
    if (!request || request->public.body_ended || request->phase == REQUEST_ANSWERED)
        return true; /* late: the answer is on its way */
    if (part.body.size > request->body_credit)
        return session_breach(session);
    request->body_credit -= part.body.size;
    int code = body_collect(request, part.body);
    if (code < 0) {
        if (request->phase == REQUEST_TAKEN)
            return session_breach(session);
        body_refuse(request, code);
        return true;
    }
    if (header->flags & WIRE_END)
        body_end(request, 0);
    else if (!body_is_streamed(request))
        body_grant(request, part.body.size);
    else
        request_tell(request, EVENT_BODY);
    return true;
}

static bool session_on_half_close(struct session *session, const struct wire_header *header,
                                  struct bytes payload)
{
    struct wire_half_close frame;
    struct request *request = session_find(session, header->stream);
    if (wire_half_close_read(&frame, payload) < 0)
        return session_breach(session);
    if (request && !request->public.body_ended && request->phase != REQUEST_ANSWERED)
        body_end(request, frame.code);
    return true;
}

/* ---- frames: the rest
 * ----------------------------------------------------------------------------------------- */

static bool session_on_hello(struct session *session, struct bytes payload)
{
    struct wire_hello hello;
    uint16_t version;
    const char *reason;
    if (session->greeted || wire_hello_read(&hello, payload) < 0 ||
        wire_hello_check(&hello, &version, &reason) < 0)
        return session_breach(session);
    session->greeted = true;
    parcel_link_meet(&session->parcels, &hello);
    session->stream_credit = hello.stream_credit;
    session->frame_limit = hello.frame_limit;
    size_t size = hello.name.size < SESSION_NAME_SIZE - 1 ? hello.name.size : SESSION_NAME_SIZE - 1;
    if (size)
        memcpy(session->name, hello.name.at, size);
    session->models_owed = true;
    session_tell_models(session);
    return true;
}

static bool session_on_credit(struct session *session, const struct wire_header *header,
                              struct bytes payload)
{
    struct wire_credit credit;
    struct request *request = session_find(session, header->stream);
    if (wire_credit_read(&credit, payload) < 0)
        return session_breach(session);
    if (!request)
        return true;
    if (request->credit > UINT32_MAX)
        return session_breach(session); /* more than anybody could have used */
    request->credit += credit.size;
    answer_continue(request);
    return true;
}

static bool session_on_cancel(struct session *session, const struct wire_header *header,
                              struct bytes payload)
{
    struct wire_cancel cancel;
    struct request *request = session_find(session, header->stream);
    if (wire_cancel_read(&cancel, payload) < 0)
        return session_breach(session);
    if (!request)
        return true;
    struct taker *taker = session->taker;
    request->public.cancelled = true;
    request_note_close(request, cancel.close_code, cancel.reason);
    if (request->phase == REQUEST_ANSWERED) {
        answer_error(request, ERROR_CANCELLED, (struct bytes){0});
        return true;
    }
    enum replica_cancel verdict =
        replica_cancel(taker->mind, now_of(taker), (struct request_id){request->public.id});
    if (verdict == REPLICA_CANCEL_NOTED)
        request_tell_cancelled(request);
    else
        answer_error(request, ERROR_CANCELLED, (struct bytes){0});
    return true;
}

static bool session_on_ping(struct session *session, struct bytes payload)
{
    struct taker *taker = session->taker;
    struct wire_ping ping;
    if (wire_ping_read(&ping, payload) < 0)
        return session_breach(session);
    int64_t running =
        taker->running_since_ns ? (now_of(taker) - taker->running_since_ns) / 1000000 : 0;
    struct wire_pong pong = {.token = ping.token,
                             .queue_length = replica_ongoing(taker->mind),
                             .running_ms = (uint32_t)(running > 0 ? running : 0)};
    uint8_t *room = session_room(session, wire_pong_size(&pong));
    if (room)
        channel_put_done(&session->channel, wire_pong_write(&pong, 0, 0, false, room));
    return true;
}

/* Answers that waited for room, or for the sender's word, go on. */
static void session_continue(struct session *session)
{
    struct list_link *link;
    for (size_t left = session->unsent.length; left > 0; left--)
        if ((link = list_pop_front(&session->unsent)))
            answer_continue(list_entry(link, struct request, unsent_link));
    list_each (link, &session->requests) {
        struct request *request = list_entry(link, struct request, session_link);
        if (request->room_wanted && request->credit) {
            request->room_wanted = false;
            request_tell(request, EVENT_ROOM);
        }
    }
}

static bool session_on_parcels(struct session *session, const struct wire_header *header,
                               struct bytes payload)
{
    bool progress;
    if (parcel_link_frame(&session->parcels, header, payload, &progress) < 0)
        return session_breach(session);
    if (progress)
        session_continue(session);
    return true;
}

static bool session_on_frame(struct session *session, struct bytes frame)
{
    struct wire_header header;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (!session->greeted && header.type != WIRE_HELLO_FRAME)
        return session_breach(session);
    if (parcel_is_frame(header.type))
        return session_on_parcels(session, &header, payload);
    switch (header.type) {
    case WIRE_HELLO_FRAME:
        return session_on_hello(session, payload);
    case WIRE_REQUEST_FRAME:
        return session_on_request(session, &header, payload);
    case WIRE_PART_FRAME:
        return session_on_part(session, &header, payload);
    case WIRE_HALF_CLOSE_FRAME:
        return session_on_half_close(session, &header, payload);
    case WIRE_CREDIT_FRAME:
        return session_on_credit(session, &header, payload);
    case WIRE_CANCEL_FRAME:
        return session_on_cancel(session, &header, payload);
    case WIRE_PING_FRAME:
        return session_on_ping(session, payload);
    case WIRE_PONG_FRAME:
        return true;
    default:
        return header.type >= WIRE_FRAME_COUNT ? true /* a newer peer's */
                                               : session_breach(session);
    }
}

static void session_on_room(struct session *session)
{
    session_tell_models(session);
    parcel_link_room(&session->parcels);
    session_continue(session);
}

static void session_event(void *owner, struct channel *channel, int events)
{
    struct session *session = owner;
    struct bytes frame;
    enum channel_taken taken = CHANNEL_NO_FRAME;
    bool ended = events & CHANNEL_CLOSED;
    if (events & (CHANNEL_READABLE | CHANNEL_CLOSED)) {
        ended |= channel_receive(channel) < 0;
        while (!session->closing && (taken = channel_take(channel, &frame)) == CHANNEL_FRAME)
            session_on_frame(session, frame);
    }
    if (taken == CHANNEL_BROKEN)
        session_breach(session);
    if (events & CHANNEL_ROOM && !session->closing)
        session_on_room(session);
    if (session->closing || ended)
        session_close(session);
}
