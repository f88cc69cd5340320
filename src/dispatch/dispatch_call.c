/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_call: the life of a call: on which list it is, how it leaves it, how it ends towards its
 * owner.
 *
 * The two lives (dispatch_inner.h) meet in dispatch_call_release: the call is given back when its
 * owner is done with it and no replica can speak of it any more.  The functions here keep the
 * router's view and ours the same: whoever takes a call off a link tells the router in the same
 * breath whether the slot is free (router_done), the request comes back (router_rejected), or
 * nobody waits for it (router_cancel).
 */
#include "dispatch_inner.h"
#include "ensure.h"
#include "metrics.h"

struct dispatch_call *dispatch_call_new(struct dispatch *dispatch, void *owner)
{
    struct dispatch_call *call = pool_take(&dispatch->calls);
    if (!call)
        return NULL;
    call->dispatch = dispatch;
    call->owner = owner;
    call->retryable = true;
    arena_init(&call->arena, &dispatch->blocks,
               (size_t)dispatch->config.settings->request_arena_limit);
    return call;
}

static struct request_id id_of(const struct dispatch_call *call)
{
    return (struct request_id){dispatch_call_id(call)};
}

/* ---- where it is ---- */

void dispatch_call_land(struct dispatch_call *call)
{
    if (call->link && call->place.list == &call->link->flying) {
        ensure_tag(R2, call->dispatch->flying_count > 0);
        call->dispatch->flying_count--;
    }
    list_remove(&call->place);
    list_remove(&call->backlog);
    call->link = NULL;
}

void dispatch_call_wait(struct dispatch_call *call)
{
    ensure_tag(R1, call->side == CALL_OPEN && call->retryable);
    ensure(call->answer == ANSWER_NONE);
    call->sent = call->end_sent = call->lent = call->awaits = false;
    call->held_sent = 0;
    call->credit = 0;
    call->starved = !call->body_ended;
    list_push_back(&call->dispatch->waiting, &call->place);
}

void dispatch_call_fly(struct dispatch_call *call, struct dispatch_link *link)
{
    ensure_tag(R3, link->state == LINK_READY);
    dispatch_call_land(call);
    call->link = link;
    call->credit = link->stream_credit;
    call->window = (uint64_t)call->dispatch->config.settings->wire_stream_credit;
    list_push_back(&link->flying, &call->place);
    call->dispatch->flying_count++;
}

/* What the router must not see again; a replica may still speak of it. */
static void haunt(struct dispatch_call *call)
{
    struct dispatch_link *link = call->link;
    dispatch_call_land(call);
    call->link = link;
    list_push_back(&link->ghosts, &call->place);
    dispatch_block_drop(call->dispatch, &call->large);
    dispatch_block_drop(call->dispatch, &call->held);
    dispatch_block_drop(call->dispatch, &call->collected);
    dispatch_parcel_drop(call);
    call->held_sent = 0;
    call->frame = (struct bytes){0};
    call->retryable = false;
    arena_clear(&call->arena);
}

void dispatch_call_drop_request(struct dispatch_call *call)
{
    call->retryable = false;
    if (call->sent) {
        dispatch_block_drop(call->dispatch, &call->large);
        call->frame = (struct bytes){0};
        arena_clear(&call->arena);
    }
    if (call->parcel) {
        if (call->end_sent)
            dispatch_parcel_drop(call);
        return;
    }
    if (call->held_sent == call->held.size) {
        dispatch_block_drop(call->dispatch, &call->held);
        call->held_sent = 0;
    }
}

/* ---- the owner's side ---- */

void dispatch_call_over(struct dispatch_call *call, int code)
{
    ensure_tag(R1, call->side == CALL_OPEN);
    heap_remove(&call->dispatch->deadlines, &call->deadline);
    list_remove(&call->due);
    call->side = CALL_OVER;
    call->end_code = code;
    list_push_back(&call->dispatch->over, &call->due);
    dispatch_signal(call->dispatch);
}

void dispatch_call_gone(struct dispatch_call *call)
{
    ensure_tag(R1, call->side != CALL_GONE);
    heap_remove(&call->dispatch->deadlines, &call->deadline);
    list_remove(&call->due);
    call->side = CALL_GONE;
}

void dispatch_call_room(struct dispatch_call *call)
{
    if (!call->starved || call->body_ended || call->side != CALL_OPEN || list_linked(&call->due) ||
        dispatch_write_room(call) == 0)
        return;
    list_push_back(&call->dispatch->rooms, &call->due);
    dispatch_signal(call->dispatch);
}

/* ---- ends ---- */

void dispatch_call_free(struct dispatch_call *call)
{
    struct dispatch *dispatch = call->dispatch;

    dispatch_call_land(call);
    heap_remove(&dispatch->deadlines, &call->deadline);
    list_remove(&call->due);
    dispatch_block_drop(dispatch, &call->large);
    dispatch_block_drop(dispatch, &call->held);
    dispatch_block_drop(dispatch, &call->collected);
    dispatch_parcel_drop(call);
    arena_clear(&call->arena);
    pool_give(&dispatch->calls, call);
}

void dispatch_call_release(struct dispatch_call *call)
{
    if (call->side == CALL_GONE && !list_linked(&call->place))
        dispatch_call_free(call);
}

/*
 * Nobody wants the answer.  A request that a replica may have seen haunts until the replica's last
 * word, and so does its slot at the router; one that never left is simply forgotten.
 */
void dispatch_call_give_up(struct dispatch_call *call, int code)
{
    struct dispatch *dispatch = call->dispatch;
    int64_t now_ns = dispatch_now_ns(dispatch);

    bool flies = router_cancel(dispatch->router, now_ns, id_of(call), &dispatch->effects);
    ensure_tag(R1, flies == (call->link != NULL));
    if (!flies) {
        dispatch_call_land(call);
        return;
    }
    if (!call->sent) {
        dispatch_call_land(call);
        router_done(dispatch->router, now_ns, id_of(call), ROUTER_LENGTH_UNKNOWN,
                    &dispatch->effects);
        return;
    }
    haunt(call);
    call->cancel_code = code == ERROR_TIMEOUT || code == ERROR_CLOSED ? code : ERROR_CANCELLED;
    dispatch_request_pump(call);
}

void dispatch_call_fail(struct dispatch_call *call, int code)
{
    dispatch_call_give_up(call, code);
    dispatch_call_over(call, code);
}

/* Not taken.  It goes elsewhere unless something of it is already lost: then nobody can repeat it.
 */
void dispatch_call_return(struct dispatch_call *call, uint32_t queue_length, bool draining)
{
    struct dispatch *dispatch = call->dispatch;
    int64_t now_ns = dispatch_now_ns(dispatch);

    dispatch_call_land(call);
    if (call->retryable) {
        dispatch_call_wait(call);
        router_rejected(dispatch->router, now_ns, id_of(call), queue_length, draining,
                        &dispatch->effects);
        return;
    }
    router_done(dispatch->router, now_ns, id_of(call), queue_length, &dispatch->effects);
    metric_add(requests_refused_total, 1);
    dispatch_call_over(call, ERROR_UNAVAILABLE);
}

/* Everything that the replica had said was read before: what is still here has no answer. */
void dispatch_call_lose(struct dispatch_call *call)
{
    struct dispatch *dispatch = call->dispatch;
    struct dispatch_link *link = call->link;

    bool haunts = call->place.list == &link->ghosts;
    bool taken = call->answer != ANSWER_NONE ||
                 (call->sent && page_is_taken(&link->taken, dispatch_call_id(call)));
    if (!haunts && !taken) {
        dispatch_call_return(call, ROUTER_LENGTH_UNKNOWN, false);
        return;
    }
    dispatch_call_land(call);
    router_done(dispatch->router, dispatch_now_ns(dispatch), id_of(call), ROUTER_LENGTH_UNKNOWN,
                &dispatch->effects);
    if (haunts) {
        dispatch_call_release(call);
        return;
    }
    metric_add(requests_lost_total, 1);
    dispatch_call_over(call, ERROR_REPLICA_DIED);
}
