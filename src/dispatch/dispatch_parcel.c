/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_parcel: requests whose body is a parcel (parcel.h).
 *
 * The request's frame is kept without a body.  Each SEND asks the link anew how the parcel may
 * travel: by reference, in the frame; or through the socket, in the frame or in parts like any long
 * body.  A call whose region the replica has not mapped yet waits on the link's awaiting list for
 * its word. The parcel is kept while the request may have to go elsewhere; what a replica has been
 * lent stays its own until it lets go.
 */
#include "dispatch_inner.h"
#include "ensure.h"

void dispatch_parcel_keep(struct dispatch_call *call, const struct dispatch_request *request)
{
    if (request->parcel) {
        ensure(request->body_whole && request->body.size == 0);
        call->parcel = parcel_ref(request->parcel);
    } else if (request->body_whole) {
        call->parcel = parcel_of_bytes(call->dispatch->desk, request->body);
    }
}

void dispatch_parcel_drop(struct dispatch_call *call)
{
    if (!call->parcel)
        return;
    call->parcel = parcel_unref(call->parcel);
    call->held_sent = 0;
}

uint64_t dispatch_parcel_size(const struct dispatch_call *call)
{
    struct parcel_form form;
    parcel_inline(call->parcel, &form);
    return form.size;
}

void dispatch_parcel_copy(const struct dispatch_call *call, uint8_t *at, size_t size)
{
    struct parcel_form form;
    parcel_inline(call->parcel, &form);
    parcel_copy(call->parcel, &form, call->held_sent, at, size);
}

/* How it travels now, and whether the body goes in the request's frame. */
static bool choose_form(struct dispatch_call *call, struct parcel_form *form, bool *ret_whole)
{
    struct dispatch_link *link = call->link;
    size_t room = (size_t)link->frame_limit - (call->frame.size - WIRE_HEADER_SIZE);
    enum parcel_way way = parcel_lend(&link->parcels, call->parcel, form);
    if (way == PARCEL_LATER) {
        call->awaits = true;
        return false;
    }
    if (way == PARCEL_LENT && form->size > room) {
        parcel_unlend(&link->parcels, form);
        parcel_inline(call->parcel, form);
    }
    *ret_whole = form->lent || (form->size <= room && form->size <= link->part_limit);
    return true;
}

bool dispatch_parcel_put(struct dispatch_call *call)
{
    struct dispatch_link *link = call->link;
    struct wire_header header;
    struct wire_request wire;
    struct parcel_form form;
    bool whole;

    if (!choose_form(call, &form, &whole))
        return false;
    size_t size = call->frame.size + (whole ? (size_t)form.size : 0);
    uint8_t *at = channel_put_room(&link->channel, size);
    if (!at) {
        if (form.lent)
            parcel_unlend(&link->parcels, &form);
        return false;
    }
    wire_header_read(&header, call->frame.at);
    int bad = wire_request_read(&wire, bytes_skip(call->frame, WIRE_HEADER_SIZE));
    ensure(bad == 0 && wire.body.size == 0);
    wire.deadline_us = dispatch_request_deadline_us(call);
    wire.body.size = size - call->frame.size;
    uint8_t flags =
        (header.flags & WIRE_STREAM) | (whole ? WIRE_END : 0) | (form.attached ? WIRE_ATTACHED : 0);
    size_t head = wire_request_write(&wire, flags, header.stream, true, at);
    ensure(head == call->frame.size);
    parcel_copy(call->parcel, &form, 0, at + head, wire.body.size);
    channel_put_done(&link->channel, size);
    call->sent = true;
    call->end_sent = whole;
    call->lent = form.lent;
    call->held_sent = whole ? (size_t)dispatch_parcel_size(call) : 0;
    return true;
}

/* A call that must wait again goes to the end of the same list. */
void dispatch_parcel_progress(struct dispatch_link *link)
{
    for (size_t left = link->awaiting.length; left > 0; left--) {
        struct list_link *place = list_first(&link->awaiting);
        if (place)
            dispatch_request_pump(list_entry(place, struct dispatch_call, backlog));
    }
}
