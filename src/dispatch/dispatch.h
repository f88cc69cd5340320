/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch: carries calls to replicas and answers back; the hands of the router mind.
 *
 * Every owner of handles has one: a proxy, a program that embeds Manta, a replica whose code calls
 * others.  It subscribes to the controller's snapshots, keeps one channel per replica, asks the
 * router where a call goes, writes the request, meters its parts by credit, matches answers by id,
 * and when a replica dies looks at its taken marks: an untaken call goes elsewhere, a taken one
 * ends with ERROR_REPLICA_DIED.
 *
 * It never calls upward: whoever owns it pulls events (dispatch_next) after each turn of the loop,
 * when dispatch_wake said that there are some.  Every call ends with exactly one DISPATCH_END event
 * (R1), unless the owner gave it up with dispatch_cancel, after which no event of it comes.  One
 * thread at a time (a helm guards it where there are several).
 */
#ifndef MANTA_DISPATCH_H
#define MANTA_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "bytes.h"
#include "channel.h"
#include "error.h"
#include "id.h"
#include "loop.h"
#include "parcel.h"
#include "router.h"
#include "settings.h"
#include "trace.h"

struct dispatch;

struct dispatch_config {
    struct loop *loop;
    struct channel_set *channels;
    const struct settings *settings;
    const char *controller_socket; /* path */
    uint8_t role;                  /* enum wire_role of the hello; a replica's handles say HANDLE */
    const char *name;              /* for the hello */
    uint64_t seed;
    const struct trace *trace; /* for the router; null: off; must outlive the dispatch */
    bool takes_parcels;        /* answers may come by reference: the owner looks at event->parcel */
    /* Events are waiting: called at most once until all are taken.  It only notes so: the call may
     * come from any function here, dispatch_submit included. */
    void (*wake)(void *owner);
    void *owner;
};

struct dispatch *dispatch_new(const struct dispatch_config *config, struct error *reterr);
struct dispatch *dispatch_free(struct dispatch *dispatch); /* calls that are out end silently */
const struct router *dispatch_router(const struct dispatch *dispatch);
/* True while the controller's channel stands. */
bool dispatch_connected(const struct dispatch *dispatch);
/* Where bodies are born that need no copy: parcel_desk_slots, parcel_new.  Stands as long as the
 * dispatch does. */
struct parcel_desk *dispatch_desk(const struct dispatch *dispatch);

struct dispatch_call; /* one request on its way; ends with its DISPATCH_END or dispatch_cancel */

/* What to send.  Slices are copied into the call where they must outlive this function (it may wait
 * in the queue). */
struct dispatch_request {
    struct deployment_id deployment;
    uint8_t kind; /* enum wire_request_kind */
    uint8_t http_minor;
    int64_t deadline_ns; /* monotonic; 0: none */
    bool stream; /* the owner takes the answer in parts as they come; else one DISPATCH_REPLY with
                    the whole body up to a limit, and END */
    bool body_whole;    /* `body` is all of it; else dispatch_write follows */
    uint64_t body_size; /* UINT64_MAX: not known */
    struct bytes method, path, query, route_prefix, content_type, request_id, trace, model_id,
        headers, body;
    /* The whole body instead of `body`, by reference where that can be; the call keeps a reference
     * of its own, also for a retry.  A whole `body` that is large is copied into a slot by itself.
     */
    struct parcel *parcel;
};

/* Null when no room is left (LIMIT, MEMORY in *reterr).  `owner` comes back with every event.
 * Refusals come as DISPATCH_END. */
struct dispatch_call *dispatch_submit(struct dispatch *dispatch,
                                      const struct dispatch_request *request, void *owner,
                                      struct error *reterr);
/* A part of the request's body; returns how many bytes were taken now (credit, queue);
 * DISPATCH_ROOM comes when more may be taken.  `end` counts only when all of `part` was taken.
 * After the call's answer ended, everything is taken and dropped. */
size_t dispatch_write(struct dispatch_call *call, struct bytes part, bool end);
size_t dispatch_write_room(const struct dispatch_call *call);
/* The body ends early: the client left or broke the framing. */
void dispatch_write_abort(struct dispatch_call *call, int code);
/* The owner has used DISPATCH_DATA of so much `cost`: gives the sender as much credit again.  More
 * than was given to the owner counts as all of it. */
void dispatch_grant(struct dispatch_call *call, size_t size);
/* Wants nothing more; no event comes after.  code: CANCELLED, TIMEOUT or CLOSED. */
void dispatch_cancel(struct dispatch_call *call, int code);
/* The same for a websocket that was accepted: the replica's code is told what its client closed
 * with, `reason` at most 123 bytes, and is not cancelled. */
void dispatch_close(struct dispatch_call *call, uint16_t close_code, struct bytes reason);
/* Its deadline was one for the answer's beginning. */
void dispatch_lift_deadline(struct dispatch_call *call);
uint64_t dispatch_call_id(const struct dispatch_call *call);

enum dispatch_event_type {
    DISPATCH_NONE,
    DISPATCH_REPLY, /* head of the answer: status, content_type, headers, body_size; perhaps data
                       with it (body, and `end`) */
    DISPATCH_DATA,  /* a part; slices valid until the next dispatch_next */
    DISPATCH_ROOM,  /* dispatch_write may go on */
    DISPATCH_END,   /* over: code 0 or why (text); trailers.  The call is gone after this event. */
    DISPATCH_LEAVE, /* of a websocket: its replica drains, the conversation should end */
    DISPATCH_SNAPSHOT /* a new snapshot is in force (owner and call are null) */
};
struct dispatch_event {
    enum dispatch_event_type type;
    struct dispatch_call *call;
    void *owner;
    int code;
    uint16_t status;
    uint64_t body_size;
    bool more; /* DATA: the item goes on in the next one (WIRE_MORE) */
    bool end; /* REPLY: its body is whole; a DISPATCH_END with code 0 is folded into it: the call is
                 gone */
    struct bytes content_type, headers, body, trailers, text;
    struct buffer *buffer; /* holds the slices; buffer_ref it to keep them; null: static text */
    size_t cost; /* DATA: credit that it holds until it is granted; more than its bytes where they lie
                    in memory that was lent */
    /* REPLY with `end`, DATA: the body or item came with pieces, `body` is its value; parcel_ref it
     * to keep both (from any thread it may be given back).  Null: `body` is all. */
    struct parcel *parcel;
    /* A streamed answer (REPLY without `end`) or item (DATA with `more`) whose bytes together are a
     * body with attachments: to be collected and given to parcel_open, without a link. */
    bool attached;
};
/* Takes the next event; false when there is none.  Whoever was woken takes all of them: frames are
 * read and timers are set on the way. */
bool dispatch_next(struct dispatch *dispatch, struct dispatch_event *ret_event);
void dispatch_check(const struct dispatch *dispatch);

#endif
