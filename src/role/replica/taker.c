/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker: life of the taker; requests go out by taker_take, events by taker_next.
 *
 * Everything is pulled: frames are handled when the loop says that a channel is readable, and at
 * the end of a turn the owner is woken once if there is something to take or an event.
 */
#include "taker_inner.h"

#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"

enum { BACKLOG = 1024 };

static int64_t now_of(const struct taker *taker)
{
    return loop_now_ns(taker->config.loop);
}

/* ---- requests
 * ---------------------------------------------------------------------------------------- */

/* Its sender hears no more of it. */
static void request_detach(struct request *request)
{
    if (request->session && request->session->slots[pool_id_index(request->stream)] == request)
        request->session->slots[pool_id_index(request->stream)] = NULL;
    list_remove(&request->session_link);
    list_remove(&request->unsent_link);
    request->session = NULL;
}

void request_free(struct request *request)
{
    struct taker *taker = request->taker;
    replica_answered(taker->mind, now_of(taker), (struct request_id){request->public.id});
    metric_set(replica_ongoing, replica_ongoing(taker->mind));
    request_detach(request);
    list_remove(&request->event_link);
    buffer_unref(request->frame);
    buffer_unref(request->body);
    buffer_unref(request->rest);
    parcel_unref(request->public.parcel);
    parcel_unref(request->out);
    arena_clear(&request->public.arena);
    pool_give(&taker->requests, request);
    session_tell_refused(taker);
}

void request_tell(struct request *request, enum request_event event)
{
    if (request->phase != REQUEST_TAKEN)
        return;
    request->events |= event;
    if (!list_linked(&request->event_link))
        list_push_back(&request->taker->events, &request->event_link);
}

/* Frees the place, here and at the sender; not the memory: user code may still answer. */
static void request_leave(struct request *request)
{
    struct taker *taker = request->taker;
    answer_last_word(request, ERROR_CANCELLED, (struct bytes){0});
    request_detach(request);
    replica_answered(taker->mind, now_of(taker), (struct request_id){request->public.id});
    metric_set(replica_ongoing, replica_ongoing(taker->mind));
    session_tell_refused(taker);
}

void request_give_up(struct request *request)
{
    ensure(request->phase == REQUEST_TAKEN && request->public.cancelled);
    request_tell(request, EVENT_CANCELLED);
    if (request->returned)
        request_leave(request);
}

void taker_returned(struct taker *taker, uint64_t id)
{
    struct request *request = pool_find(&taker->requests, id);
    if (!request || request->phase != REQUEST_TAKEN)
        return; /* answered, as nearly always */
    request->returned = true;
    if (request->public.cancelled)
        request_leave(request);
}

static void taker_expire(struct taker *taker)
{
    struct request_id id;
    while (replica_expired(taker->mind, now_of(taker), &id)) {
        struct request *request = pool_find(&taker->requests, id.v);
        ensure(request);
        answer_error(request, ERROR_TIMEOUT,
                     BYTES("the deadline passed before the deployment took the request"));
    }
}

/* B1: the mind is asked again when time makes something due. */
static void taker_arm(struct taker *taker)
{
    int64_t due = replica_deadline_ns(taker->mind);
    if (due && due <= now_of(taker))
        due = now_of(taker) + 1;
    if (due != taker->timer.due_ns)
        loop_timer_set(&taker->timer, due);
}

uint32_t taker_take(struct taker *taker, struct taker_request **ret_requests, uint32_t room,
                    bool *ret_batched)
{
    struct request_id ids[256];
    if (room > sizeof ids / sizeof *ids)
        room = sizeof ids / sizeof *ids;
    taker_expire(taker);
    uint32_t count = replica_take(taker->mind, now_of(taker), ids, room, ret_batched);
    for (uint32_t i = 0; i < count; i++) {
        struct request *request = pool_find(&taker->requests, ids[i].v);
        ensure_tag(R1, request && request->phase == REQUEST_READY);
        request->phase = REQUEST_TAKEN;
        ret_requests[i] = &request->public;
        if (request->session && request->session->page.at)
            page_mark_taken(&request->session->page, request->stream);
    }
    taker_arm(taker); /* of what stays another may be the first; this may not be inside a turn */
    return count;
}

void taker_batch_done(struct taker *taker)
{
    replica_batch_done(taker->mind, now_of(taker));
    taker_arm(taker);
}

void taker_running(struct taker *taker, int64_t since_ns)
{
    taker->running_since_ns = since_ns;
}

struct parcel_desk *taker_desk(const struct taker *taker)
{
    return taker->desk;
}

uint32_t taker_ongoing(const struct taker *taker)
{
    return replica_ongoing(taker->mind);
}

/* ---- events
 * ------------------------------------------------------------------------------------------- */

static bool next_request_event(struct taker *taker, struct taker_event *ret_event)
{
    struct list_link *link = list_first(&taker->events);
    if (!link)
        return false;
    struct request *request = list_entry(link, struct request, event_link);
    *ret_event = (struct taker_event){.request = &request->public};
    if (request->events & EVENT_CANCELLED) {
        ret_event->type = TAKER_CANCELLED;
        request->events &= ~EVENT_CANCELLED;
    } else if (request->events & EVENT_BODY) {
        ret_event->type = TAKER_BODY;
        request->events &= ~EVENT_BODY;
    } else {
        ret_event->type = TAKER_ROOM;
        request->events &= ~EVENT_ROOM;
    }
    if (!request->events)
        list_remove(link);
    return true;
}

static bool drain_is_over(const struct taker *taker)
{
    return !taker->drained_told && replica_draining(taker->mind) &&
           replica_drained(taker->mind, now_of(taker));
}

bool taker_next(struct taker *taker, struct taker_event *ret_event)
{
    if (next_request_event(taker, ret_event))
        return true;
    if (configure_due(taker)) {
        *ret_event = (struct taker_event){.type = TAKER_CONFIGURE, .body = configure_next(taker)};
        return true;
    }
    if (drain_is_over(taker)) {
        taker->drained_told = true;
        *ret_event = (struct taker_event){.type = TAKER_DRAINED};
        return true;
    }
    return false;
}

/* ---- the turn
 * ------------------------------------------------------------------------------------------ */

static void taker_turn(void *owner)
{
    struct taker *taker = owner;
    session_close_broken(taker);
    taker_expire(taker);
    if (!list_empty(&taker->events) || configure_due(taker) || drain_is_over(taker) ||
        replica_due(taker->mind, now_of(taker)))
        taker->config.wake(taker->config.owner);
    taker_arm(taker);
}

static void taker_on_timer(void *owner)
{
    (void)owner; /* the turn behind it asks the mind */
}

/* ---- draining
 * ------------------------------------------------------------------------------ */

/* A websocket would go on for as long as its client likes. */
static void request_ask_to_leave(struct request *request)
{
    struct wire_leave leave = {0};
    uint8_t *room = session_room(request->session, wire_leave_size(&leave));
    if (room)
        channel_put_done(&request->session->channel,
                         wire_leave_write(&leave, 0, request->stream, false, room));
}

void taker_apply_drain(struct taker *taker, int64_t timeout_ns)
{
    if (replica_draining(taker->mind))
        return;
    replica_drain(taker->mind, now_of(taker), now_of(taker) + timeout_ns);
    for (uint32_t i = 0; i < taker->requests.slot_count; i++) {
        struct request *request = pool_at(&taker->requests, i);
        if (request && request->session && request->public.kind == WIRE_KIND_WEBSOCKET)
            request_ask_to_leave(request);
    }
}

void taker_drain(struct taker *taker, int64_t timeout_ns)
{
    taker_apply_drain(taker, timeout_ns);
}

/* ---- life
 * ---------------------------------------------------------------------------------------------- */

struct taker *taker_new(const struct taker_config *config, struct error *reterr)
{
    struct replica_config mind = configure_mind(config);
    struct taker *taker = mem_try(sizeof *taker);
    if (!taker || !(taker->mind = replica_new(&mind))) {
        mem_free(taker);
        error_set(reterr, ERROR_MEMORY, "no memory for a replica");
        return NULL;
    }
    taker->desk = parcel_desk_ref(config->channels, config->settings);
    if (!taker->desk) {
        replica_free(taker->mind);
        mem_free(taker);
        error_set(reterr, ERROR_MEMORY, "no memory for a replica");
        return NULL;
    }
    taker->config = *config;
    taker->listen_descriptor = -1;
    taker->controller.descriptor = -1;
    taker->app = mem_copy_string((const char *)config->app.at, config->app.size);
    taker->deployment =
        mem_copy_string((const char *)config->deployment.at, config->deployment.size);
    taker->config.app = bytes_of_string(taker->app);
    taker->config.deployment = bytes_of_string(taker->deployment);
    list_init(&taker->sessions);
    list_init(&taker->refused);
    list_init(&taker->events);
    pool_init(&taker->requests, sizeof(struct request), (uint32_t)config->settings->request_limit);
    arena_blocks_init(&taker->arena_blocks, 64);
    taker->turn = (struct loop_turn){.turn = taker_turn, .owner = taker};
    loop_turn_add(config->loop, &taker->turn);
    loop_timer_init(config->loop, &taker->timer, taker_on_timer, taker);
    control_open(taker);
    return taker;
}

void taker_set_batched(struct taker *taker, bool batched)
{
    ensure(taker->listen_descriptor < 0);
    taker->config.batched = batched;
}

static void taker_on_connection(void *owner, int events)
{
    (void)events;
    session_accept(owner);
}

int taker_listen(struct taker *taker, const char *path, struct error *reterr)
{
    ensure(taker->listen_descriptor < 0);
    int descriptor = socket_listen_unix(path, BACKLOG, reterr);
    if (descriptor < 0)
        return reterr->code;
    if (loop_watch_open(taker->config.loop, &taker->listener, descriptor, LOOP_READ,
                        taker_on_connection, taker) < 0) {
        socket_close(descriptor);
        return error_set(reterr, ERROR_SYSTEM, "the replica's socket cannot be watched");
    }
    taker->listen_descriptor = descriptor;
    snprintf(taker->path, sizeof taker->path, "%s", path);
    return 0;
}

struct taker *taker_free(struct taker *taker)
{
    struct list_link *link;
    if (!taker)
        return NULL;
    control_close(taker);
    while ((link = list_first(&taker->sessions)))
        session_close(list_entry(link, struct session, link));
    for (uint32_t i = 0; i < taker->requests.slot_count; i++) {
        struct request *request = pool_at(&taker->requests, i);
        if (request)
            request_free(request);
    }
    if (taker->listen_descriptor >= 0) {
        loop_timer_clear(&taker->accept_timer);
        loop_watch_close(&taker->listener);
        socket_unlisten_unix(taker->listen_descriptor, taker->path);
    }
    loop_turn_remove(&taker->turn);
    loop_timer_clear(&taker->timer);
    pool_done(&taker->requests);
    parcel_desk_unref(taker->desk);
    arena_blocks_done(&taker->arena_blocks);
    replica_free(taker->mind);
    mem_free(taker->app);
    mem_free(taker->deployment);
    configure_free(taker);
    mem_free(taker->models);
    return mem_free(taker);
}

void taker_check(const struct taker *taker)
{
    uint32_t live = 0;
    replica_check(taker->mind);
    parcel_desk_check(taker->desk);
    for (uint32_t i = 0; i < taker->requests.slot_count; i++)
        live += pool_at(&taker->requests, i) != NULL;
    ensure_tag(M1, live == taker->requests.used_count);
    ensure_tag(R2, replica_ongoing(taker->mind) <= live);
}
