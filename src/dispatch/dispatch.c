/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: the whole: how calls come in, how the router's decisions are performed, how events go
 * out.
 *
 * Nothing is decided here: each thing that happens (a submit, a frame, a lost link, a deadline)
 * becomes one call of the router, whose effects dispatch_perform then carries out in order.
 * Performing one may ask the router again; its answer joins the same walk, so that there is no
 * recursion and the order stays the router's.
 *
 * Events are made lazily: dispatch_next looks for the oldest thing to say and stops there, so that
 * a frame's slices go to the owner without a copy and no queue of events exists.  Links whose ends
 * are due are freed at the start of dispatch_next, when no slice of theirs is out any more.
 */
#include "dispatch.h"

#include "dispatch_inner.h"
#include "ensure.h"
#include "mem.h"
#include "metrics.h"

static const int64_t NS_PER_MS = 1000000;

int64_t dispatch_now_ns(const struct dispatch *dispatch)
{
    return loop_now_ns(dispatch->config.loop);
}

const struct router *dispatch_router(const struct dispatch *dispatch)
{
    return dispatch->router;
}

bool dispatch_connected(const struct dispatch *dispatch)
{
    return dispatch->controller.state == CONTROLLER_STANDS;
}

struct parcel_desk *dispatch_desk(const struct dispatch *dispatch)
{
    return dispatch->desk;
}

/* The owner's function only notes that there is something to take: it may be called from any
 * function here. */
void dispatch_signal(struct dispatch *dispatch)
{
    if (dispatch->woken)
        return;
    dispatch->woken = true;
    dispatch->config.wake(dispatch->config.owner);
}

/* ---- effects ---- */

static struct dispatch_call *call_find(struct dispatch *dispatch, struct request_id request)
{
    struct dispatch_call *call = pool_find(&dispatch->calls, request.v);
    ensure_tag(R1, call != NULL);
    ensure_tag(R1, call->place.list == &dispatch->waiting);
    return call;
}

static void perform_send(struct dispatch *dispatch, const struct router_effect *effect)
{
    struct dispatch_call *call = call_find(dispatch, effect->request);
    struct dispatch_link *link = dispatch_link_find(dispatch, effect->replica);
    ensure_tag(R3, link && link->state == LINK_READY);
    if (call->sent_before)
        metric_add(requests_retried_total, 1);
    call->sent_before = true;
    dispatch_request_start(call, link);
}

static void perform_refuse(struct dispatch *dispatch, const struct router_effect *effect)
{
    ensure(effect->code < 0);
    if (effect->code != ERROR_TIMEOUT)
        metric_add(requests_refused_total, 1);
    struct dispatch_call *call = call_find(dispatch, effect->request);
    dispatch_call_land(call);
    dispatch_call_over(call, effect->code);
}

static void perform_one(struct dispatch *dispatch, const struct router_effect *effect)
{
    switch (effect->type) {
    case ROUTER_SEND:
        perform_send(dispatch, effect);
        return;
    case ROUTER_REFUSE:
        perform_refuse(dispatch, effect);
        return;
    case ROUTER_CONNECT:
        dispatch_link_connect(dispatch, effect->replica);
        return;
    case ROUTER_DISCONNECT:
        dispatch_link_disconnect(dispatch, effect->replica);
        return;
    case ROUTER_PROBE:
        dispatch_link_ping(dispatch, effect->replica);
        return;
    }
    ensure(!"an effect of the router that nobody performs");
}

void dispatch_perform(struct dispatch *dispatch)
{
    if (dispatch->performing)
        return;
    dispatch->performing = true;
    for (uint32_t i = 0; i < dispatch->effects.count; i++) {
        struct router_effect effect =
            dispatch->effects.at[i]; /* the list may move while it grows */
        perform_one(dispatch, &effect);
    }
    dispatch->effects.count = 0;
    dispatch->performing = false;
}

/* ---- time ---- */

/* The timer is only ever moved forward: one that fires for nothing is cheaper than moving it at
 * each request. */
void dispatch_settle(struct dispatch *dispatch)
{
    int64_t due_ns = router_deadline_ns(dispatch->router);
    const struct heap_link *first = heap_first(&dispatch->deadlines);
    if (first && (due_ns == 0 || first->key < due_ns))
        due_ns = first->key;
    if (due_ns != 0 && (dispatch->timer.due_ns == 0 || due_ns < dispatch->timer.due_ns))
        loop_timer_set(&dispatch->timer, due_ns);
    metric_set(requests_waiting, dispatch->waiting.length);
    metric_set(requests_in_flight, dispatch->flying_count);
}

static void timer_fired(void *owner)
{
    struct dispatch *dispatch = owner;
    int64_t now_ns = dispatch_now_ns(dispatch);
    bool late = loop_turn_late(dispatch->config.loop, dispatch->config.settings->late_turn_ms);
    struct heap_link *first;

    router_timer(dispatch->router, now_ns, late, &dispatch->effects);
    dispatch_perform(dispatch);
    while ((first = heap_first(&dispatch->deadlines)) && first->key <= now_ns)
        dispatch_call_fail(heap_entry(first, struct dispatch_call, deadline), ERROR_TIMEOUT);
    dispatch_perform(dispatch);
    dispatch_settle(dispatch);
}

/* ---- construction ---- */

struct dispatch *dispatch_new(const struct dispatch_config *config, struct error *reterr)
{
    ensure(config->loop && config->channels && config->settings && config->controller_socket &&
           config->wake);
    ensure(config->role !=
           WIRE_ROLE_REPLICA); /* its hello needs an id; a replica's handles say HANDLE */

    const struct settings *settings = config->settings;
    struct dispatch *dispatch = mem_try(sizeof *dispatch);
    if (!dispatch) {
        error_set(reterr, ERROR_MEMORY, "no memory for the connections to replicas");
        return NULL;
    }
    dispatch->config = *config;
    pool_init(&dispatch->calls, sizeof(struct dispatch_call), (uint32_t)settings->request_limit);
    arena_blocks_init(&dispatch->blocks, DISPATCH_BLOCK_KEEP);
    list_init(&dispatch->waiting);
    list_init(&dispatch->over);
    list_init(&dispatch->rooms);
    list_init(&dispatch->ready);
    list_init(&dispatch->ended);
    map_init(&dispatch->links, 2 * DISPATCH_ROW_LIMIT);
    loop_timer_init(config->loop, &dispatch->timer, timer_fired, dispatch);
    dispatch_controller_init(dispatch);
    dispatch->desk = parcel_desk_ref(config->channels, settings);

    struct router_config router = {
        .request_limit = (uint32_t)settings->request_limit,
        .silence_limit_ns = settings->silence_limit_ms * NS_PER_MS,
        .model_wait_ns = settings->model_matching_timeout_ms * NS_PER_MS,
        .trace = config->trace,
    };
    dispatch->router = router_new(&router, config->seed);
    const char *name = config->name ? config->name : "";
    dispatch->name = mem_try(strlen(name) + 1);
    if (dispatch->name)
        memcpy(dispatch->name, name, strlen(name));
    if (!dispatch->router || !dispatch->name || !dispatch->desk ||
        dispatch_controller_start(dispatch) < 0) {
        error_set(reterr, ERROR_MEMORY, "no memory for the connections to replicas");
        return dispatch_free(dispatch);
    }
    return dispatch;
}

struct dispatch *dispatch_free(struct dispatch *dispatch)
{
    struct list_link *place;
    struct map_entry *entry;

    if (!dispatch)
        return NULL;
    dispatch->woken = true; /* nobody is told of what ends here */
    for (uint32_t i = 0; i < dispatch->calls.slot_count; i++) {
        struct dispatch_call *call = pool_at(&dispatch->calls, i);
        if (call)
            dispatch_call_free(call);
    }
    map_each (entry, &dispatch->links) {
        struct dispatch_link *link = entry->value;
        map_remove(&dispatch->links, link->replica.v);
        dispatch_link_free(link);
    }
    while ((place = list_first(&dispatch->ended)))
        dispatch_link_free(list_entry(place, struct dispatch_link, ended));
    dispatch_controller_done(dispatch);
    loop_timer_clear(&dispatch->timer);
    dispatch->lent = buffer_unref(dispatch->lent);
    dispatch->lent_parcel = parcel_unref(dispatch->lent_parcel);
    dispatch->desk = parcel_desk_unref(dispatch->desk);
    ensure_tag(M1, dispatch->held_bytes == 0);
    ensure_tag(M1, dispatch->calls.used_count == 0);
    ensure_tag(M1, dispatch->blocks.live_count == 0);
    router_effects_done(&dispatch->effects);
    router_free(dispatch->router);
    heap_done(&dispatch->deadlines);
    map_done(&dispatch->links);
    arena_blocks_done(&dispatch->blocks);
    pool_done(&dispatch->calls);
    mem_free(dispatch->name);
    return mem_free(dispatch);
}

/* ---- calls ---- */

static int keep_deadline(struct dispatch_call *call)
{
    struct heap *deadlines = &call->dispatch->deadlines;

    if (call->deadline_ns == 0)
        return 0;
    if (deadlines->count == deadlines->capacity &&
        heap_reserve(deadlines,
                     deadlines->capacity ? 2 * deadlines->capacity : DISPATCH_DEADLINES_LEAST) < 0)
        return ERROR_MEMORY;
    heap_put(deadlines, &call->deadline, call->deadline_ns, dispatch_call_id(call));
    return 0;
}

/* Says nothing to the owner when it fails: the call is as if it had not been. */
static int submit(struct dispatch_call *call, const struct dispatch_request *request,
                  struct error *reterr)
{
    struct dispatch *dispatch = call->dispatch;
    struct router_submit submit = {
        .request = {dispatch_call_id(call)},
        .deployment = request->deployment,
        .deadline_ns = request->deadline_ns,
        .model_id = request->model_id,
    };
    int code = dispatch_request_encode(call, request, reterr);
    if (code < 0)
        return code;
    if (keep_deadline(call) < 0)
        return error_set(reterr, ERROR_MEMORY, "no memory for a deadline");
    dispatch_call_wait(call);
    if (router_submit(dispatch->router, dispatch_now_ns(dispatch), &submit, &dispatch->effects) < 0)
        return error_set(reterr, ERROR_MEMORY, "no memory to find a replica for a request");
    return 0;
}

struct dispatch_call *dispatch_submit(struct dispatch *dispatch,
                                      const struct dispatch_request *request, void *owner,
                                      struct error *reterr)
{
    struct dispatch_call *call = dispatch_call_new(dispatch, owner);
    if (!call) {
        if (dispatch->calls.used_count >= dispatch->calls.limit)
            error_set(reterr, ERROR_LIMIT, "%u requests are waiting or in flight already",
                      dispatch->calls.used_count);
        else
            error_set(reterr, ERROR_MEMORY, "no memory for a request beside %u others",
                      dispatch->calls.used_count);
        return NULL;
    }
    call->streams = request->stream;
    call->deadline_ns = request->deadline_ns;
    if (submit(call, request, reterr) < 0) {
        dispatch_call_free(call);
        call = NULL;
    }
    dispatch_perform(dispatch);
    dispatch_settle(dispatch);
    return call;
}

void dispatch_cancel(struct dispatch_call *call, int code)
{
    struct dispatch *dispatch = call->dispatch;

    ensure(call->side != CALL_GONE);
    ensure(code < 0);
    bool open = call->side == CALL_OPEN;
    dispatch_call_gone(call);
    if (open)
        dispatch_call_give_up(call, code);
    dispatch_call_release(call);
    dispatch_perform(dispatch);
    dispatch_settle(dispatch);
}

void dispatch_close(struct dispatch_call *call, uint16_t close_code, struct bytes reason)
{
    ensure(close_code != 0);
    call->close_code = close_code;
    call->close_reason_size =
        (uint8_t)(reason.size < sizeof call->close_reason ? reason.size
                                                          : sizeof call->close_reason);
    if (call->close_reason_size)
        memcpy(call->close_reason, reason.at, call->close_reason_size);
    dispatch_cancel(call, ERROR_CANCELLED);
}

void dispatch_lift_deadline(struct dispatch_call *call)
{
    heap_remove(&call->dispatch->deadlines, &call->deadline);
    call->deadline_ns = 0;
    dispatch_settle(call->dispatch);
}

uint64_t dispatch_call_id(const struct dispatch_call *call)
{
    return pool_id(call);
}

/* ---- events ---- */

static void event_end(struct dispatch_call *call, struct dispatch_event *ret_event)
{
    ensure_tag(R1, call->side == CALL_OVER);
    *ret_event = (struct dispatch_event){
        .type = DISPATCH_END,
        .call = call,
        .owner = call->owner,
        .code = call->end_code,
        .text = call->end_code ? bytes_of_string(error_text(call->end_code)) : (struct bytes){0},
    };
    dispatch_call_gone(call);
    dispatch_call_release(call);
}

/* False: the room is gone again; another ROOM comes. */
static bool event_room(struct dispatch_call *call, struct dispatch_event *ret_event)
{
    list_remove(&call->due);
    if (dispatch_write_room(call) == 0)
        return false;
    call->starved = false;
    *ret_event = (struct dispatch_event){.type = DISPATCH_ROOM, .call = call, .owner = call->owner};
    return true;
}

/* What is to be said without looking at any link. */
static bool event_pending(struct dispatch *dispatch, struct dispatch_event *ret_event)
{
    struct list_link *due;

    if (dispatch->snapshot_due) {
        dispatch->snapshot_due = false;
        *ret_event = (struct dispatch_event){.type = DISPATCH_SNAPSHOT};
        return true;
    }
    if ((due = list_first(&dispatch->over))) {
        event_end(list_entry(due, struct dispatch_call, due), ret_event);
        return true;
    }
    while ((due = list_first(&dispatch->rooms)))
        if (event_room(list_entry(due, struct dispatch_call, due), ret_event))
            return true;
    return false;
}

bool dispatch_next(struct dispatch *dispatch, struct dispatch_event *ret_event)
{
    struct list_link *first;

    dispatch->woken = true; /* whoever takes events needs no waking */
    dispatch->lent = buffer_unref(dispatch->lent);
    dispatch->lent_parcel = parcel_unref(dispatch->lent_parcel);
    dispatch_link_reap(dispatch);
    *ret_event = (struct dispatch_event){.type = DISPATCH_NONE};
    for (;;) {
        if (event_pending(dispatch, ret_event))
            return true;
        if (!(first = list_first(&dispatch->ready)))
            break;
        /* Each link is read once per turn, up to the channel's turn limit: nobody starves. */
        dispatch_link_next(list_entry(first, struct dispatch_link, ready), ret_event);
        if (ret_event->type != DISPATCH_NONE)
            return true;
    }
    dispatch_link_reap(dispatch);
    dispatch_settle(dispatch);
    dispatch->woken = false;
    return false;
}

/* ---- invariants ---- */

static size_t check_call(const struct dispatch *dispatch, const struct dispatch_call *call)
{
    bool waits = call->place.list == &dispatch->waiting;
    bool flies = call->link && call->place.list == &call->link->flying;
    bool haunts = call->link && call->place.list == &call->link->ghosts;

    ensure_tag(R1, waits + flies + haunts == (call->place.list != NULL));
    ensure_tag(R1, (call->link != NULL) == (flies || haunts));
    ensure_tag(R1, (call->side == CALL_OPEN) == (waits || flies));
    ensure_tag(R1, (call->side == CALL_OVER) == (call->due.list == &dispatch->over));
    ensure(call->due.list != &dispatch->rooms || call->side == CALL_OPEN);
    ensure(call->held_sent <=
           (call->parcel ? dispatch_parcel_size(call) : (uint64_t)call->held.size));
    ensure(!call->parcel || !call->held.buffer);
    ensure(heap_linked(&call->deadline) == (call->deadline_ns != 0 && call->side == CALL_OPEN));
    ensure(!haunts || call->cancel_code != 0);
    size_t bytes = 0;
    const struct dispatch_block *blocks[] = {&call->large, &call->held, &call->collected};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        bytes += blocks[i]->buffer ? blocks[i]->buffer->capacity : 0;
    return bytes;
}

void dispatch_check(const struct dispatch *dispatch)
{
    size_t bytes = 0, flying = 0;
    struct map_entry *entry;

    for (uint32_t i = 0; i < dispatch->calls.slot_count; i++) {
        const struct dispatch_call *call = pool_at(&dispatch->calls, i);
        if (call)
            bytes += check_call(dispatch, call);
    }
    map_each (entry, &dispatch->links) {
        const struct dispatch_link *link = entry->value;
        dispatch_link_check(link);
        flying += link->flying.length;
    }
    ensure_tag(M1, bytes == dispatch->held_bytes);
    ensure_tag(M1, dispatch->calls.used_count > 0 || dispatch->blocks.live_count == 0);
    ensure_tag(R2, flying == dispatch->flying_count);
    ensure(!dispatch->performing && dispatch->effects.count == 0);
    heap_check(&dispatch->deadlines);
    router_check(dispatch->router);
}
