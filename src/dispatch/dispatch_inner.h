/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_inner: what the files of this folder share with each other and with nobody else.
 *
 *     dispatch.c           the whole: submit, effects of the router, events for the owner, timer
 *     dispatch_snapshot.c  the connection to the controller; rows become snapshots
 *     dispatch_link.c      the connection to one replica, from connecting to its end
 *     dispatch_frame.c     what a replica's frames mean to the calls they are for
 *     dispatch_call.c      the life of a call: where it is, how it ends
 *     dispatch_request.c   the request's way out: encoding, keeping it for a retry, credit
 *     dispatch_parcel.c    bodies by reference, out and in
 *     dispatch_block.c     bytes of a call, counted against the budget
 *
 * A call has two lives that end independently.  Towards its owner: OPEN, then OVER (its END event
 * waits to be taken), then GONE.  Towards replicas: a state is the list it is on.
 *
 *                 SEND                       final frame, or the link's end
 *     waiting ------------> link->flying ---------------------------------> on none
 *        ^                    |      | given up (cancel, deadline, limit)
 *        +--------------------+      +------> link->ghosts ---------------> on none
 *          rejected, or never taken                        final frame, or the link's end
 *
 * Its slot in the pool, and with it its id, is given back when both are over: the id on the wire
 * never means two requests at once, and the router counts the slot at the replica until the replica
 * is really done.
 */
#ifndef MANTA_DISPATCH_INNER_H
#define MANTA_DISPATCH_INNER_H

#include "arena.h"
#include "dispatch.h"
#include "heap.h"
#include "list.h"
#include "map.h"
#include "page.h"
#include "pool.h"
#include "wire.h"

enum {
    DISPATCH_ROW_LIMIT = 65536,          /* rows of each kind in one snapshot */
    DISPATCH_ROW_BYTES_LIMIT = 16 << 20, /* texts of one snapshot */
    DISPATCH_ARENA_REQUEST = 7680,       /* a request up to this size lies in one arena block */
    DISPATCH_CONTROL_SIZE = 192,         /* no control frame that we send is larger */
    DISPATCH_BLOCK_KEEP = 2048,          /* free arena blocks kept for reuse */
    DISPATCH_DEADLINES_LEAST = 64,       /* room for deadlines at first; doubles */
    DISPATCH_TAKEN_LIMIT = 1 << 22,      /* marks in a page that we map */
};

/* ---- calls ---- */

enum call_side { CALL_OPEN, CALL_OVER, CALL_GONE };
enum call_answer { ANSWER_NONE, ANSWER_HEAD, ANSWER_ENDED };

/* Bytes in a growing block that the process's byte budget counts. */
struct dispatch_block {
    struct buffer *buffer; /* null: nothing */
    size_t size;           /* bytes used */
};

struct dispatch_call {
    struct dispatch *dispatch;
    void *owner;
    struct dispatch_link *link; /* where it flies or haunts; null on neither list */
    struct list_link place;     /* dispatch->waiting, link->flying or link->ghosts */
    struct list_link due;       /* dispatch->over or dispatch->rooms */
    struct list_link backlog;   /* link->backlog: something to write, no room; or link->awaiting */
    enum call_side side;        /* towards the owner */
    int end_code;               /* OVER: what END says */

    int64_t deadline_ns;       /* 0: none */
    struct heap_link deadline; /* in dispatch->deadlines */
    bool streams;              /* the owner takes the answer in parts */
    bool sent_before;          /* this SEND is a retry */

    /* The request.  `frame` and `held` are kept while it may have to go elsewhere. */
    struct arena arena;
    struct bytes frame;          /* encoded: head and the first of the body */
    struct dispatch_block large; /* holds `frame` when the arena does not */
    struct dispatch_block held;  /* the body behind `frame` */
    struct parcel *parcel;       /* the body instead of `held`; null: none */
    size_t held_sent;            /* bytes of `held`, or of the parcel's form, that left */
    bool retryable;              /* `frame` and `held` are all that was said of the request */
    bool body_ended;             /* the owner has no more */
    int body_code;               /* why it ended early; 0: it is whole */

    /* At the replica that has it now. */
    bool sent;       /* `frame` left */
    bool end_sent;   /* so did the body's end */
    bool lent;       /* the parcel went by reference */
    bool awaits;     /* the peer is to map something before it can */
    bool starved;    /* the owner waits for DISPATCH_ROOM */
    uint64_t credit; /* parts that the replica still takes, bytes */
    int cancel_code; /* GHOST: owes (or has sent) a cancel with this code */
    bool cancel_sent;
    uint16_t close_code; /* of a websocket, goes with the cancel; 0: none */
    uint8_t close_reason_size;
    uint8_t close_reason[123];

    /* The answer. */
    enum call_answer answer;
    uint64_t window;                 /* parts that the replica may still send, bytes */
    size_t unconsumed;               /* given to the owner, not granted yet */
    size_t owed;                     /* granted, not yet told to the replica */
    struct dispatch_block collected; /* head and body of an answer that is not streamed */
    bool attached;                   /* what is collected is a body with attachments */
    uint16_t content_type_size;
    uint16_t status;
    uint32_t headers_size;
    uint64_t body_size;
};

/* ---- links ---- */

enum link_state {
    LINK_RESERVED, /* the router has not asked for it yet */
    LINK_PAUSED,   /* not connected; the timer says when to try */
    LINK_HELLO,    /* connected; the timer says how long its hello may take */
    LINK_READY,    /* the router may choose it */
    LINK_ENDED     /* out of the map; freed by the next dispatch_next */
};

struct dispatch_link {
    struct dispatch *dispatch;
    struct replica_id replica;
    enum link_state state;
    char *address;
    struct channel channel;
    struct page taken; /* the replica's marks: which of our requests user code may have seen */
    struct parcel_link parcels; /* while the channel is open */
    struct list awaiting;       /* calls whose body the replica is to map first (call->backlog) */
    struct loop_timer timer;
    struct list_link ready; /* dispatch->ready: frames may wait */
    struct list_link ended; /* dispatch->ended */
    struct list flying;     /* calls at the replica */
    struct list ghosts;     /* given up by us, not yet ended by the replica */
    struct list backlog;    /* calls that could not write, first come first served */
    bool receive_due;       /* the channel said that there is something to read */
    bool over;              /* all was received: it ends once the last frame is taken */
    bool full;              /* nothing more fits until CHANNEL_ROOM */
    uint32_t frame_limit;   /* of the peer, payload bytes */
    uint32_t stream_credit; /* that each of our requests begins with */
    size_t part_limit;      /* body bytes in one part */
};

/* ---- the controller ---- */

enum controller_state { CONTROLLER_AWAY, CONTROLLER_HELLO, CONTROLLER_STANDS };

struct dispatch_controller {
    enum controller_state state;
    char *address;
    struct channel channel;
    struct loop_timer timer; /* AWAY: when to try again; HELLO: how long it may take */
    /* The snapshot that is being received. */
    bool open;
    uint64_t version;
    struct arena_blocks blocks;
    struct arena texts;
    struct router_snapshot_app *apps;
    struct router_snapshot_deployment *deployments;
    struct router_snapshot_replica *replicas;
    uint32_t app_limit, deployment_limit, replica_limit; /* rows announced */
    uint32_t app_count, deployment_count, replica_count; /* rows received */
};

/* ---- the whole ---- */

struct dispatch {
    struct dispatch_config config;
    char *name;
    struct router *router;
    struct router_effects effects;
    bool performing;   /* effects are being walked: new ones join the same walk */
    bool woken;        /* the owner knows, or is taking events */
    bool snapshot_due; /* DISPATCH_SNAPSHOT is to be said */
    struct pool calls;
    struct arena_blocks blocks;
    struct list waiting;        /* calls in the router's queue */
    struct list over;           /* calls whose END waits */
    struct list rooms;          /* calls whose ROOM waits */
    struct list ready;          /* links with frames */
    struct list ended;          /* links to be freed */
    struct map links;           /* replica id -> struct dispatch_link */
    uint32_t flying_count;      /* calls on all flying lists */
    size_t held_bytes;          /* in blocks of calls */
    struct buffer *lent;        /* the last event's slices lie in it */
    struct parcel *lent_parcel; /* or here */
    struct parcel_desk *desk;
    struct heap deadlines; /* of open calls that have one */
    struct loop_timer timer;
    struct dispatch_controller controller;
};

/* dispatch.c */
int64_t dispatch_now_ns(const struct dispatch *dispatch);
void dispatch_signal(struct dispatch *dispatch);  /* something is to be taken */
void dispatch_perform(struct dispatch *dispatch); /* what the router wants */
void dispatch_settle(struct dispatch *dispatch);  /* timer and gauges follow the state */

/* dispatch_block.c */
/* Room for `more` bytes behind what is used, at most `limit` in all; false: limit, budget or
 * memory. */
bool dispatch_block_grow(struct dispatch *dispatch, struct dispatch_block *block, size_t more,
                         size_t limit);
void dispatch_block_add(struct dispatch_block *block, struct bytes bytes); /* after grow */
struct buffer *
dispatch_block_take(struct dispatch *dispatch,
                    struct dispatch_block *block); /* now the caller's; may be null */
void dispatch_block_drop(struct dispatch *dispatch, struct dispatch_block *block);

/* dispatch_call.c */
struct dispatch_call *dispatch_call_new(struct dispatch *dispatch, void *owner);
void dispatch_call_drop_request(
    struct dispatch_call *call); /* no retry any more; what was not sent yet stays */
void dispatch_call_wait(struct dispatch_call *call); /* (again) in the router's queue */
void dispatch_call_fly(struct dispatch_call *call, struct dispatch_link *link);
void dispatch_call_land(struct dispatch_call *call);           /* off its list and link */
void dispatch_call_over(struct dispatch_call *call, int code); /* END is due */
void dispatch_call_gone(
    struct dispatch_call *call); /* the owner knows of the end, or does not want to */
void dispatch_call_give_up(struct dispatch_call *call,
                           int code); /* flying: cancel there, haunt; not towards the owner */
void dispatch_call_fail(struct dispatch_call *call, int code); /* give up and END with `code` */
void dispatch_call_release(struct dispatch_call *call); /* frees it when both lives are over */
void dispatch_call_free(struct dispatch_call *call);
void dispatch_call_lose(struct dispatch_call *call); /* its link ended */
void dispatch_call_return(struct dispatch_call *call, uint32_t queue_length,
                          bool draining); /* not taken: elsewhere, or END */
void dispatch_call_room(
    struct dispatch_call *call); /* ROOM is due when the owner waits for it and there is some */

/* dispatch_request.c */
int dispatch_request_encode(struct dispatch_call *call, const struct dispatch_request *request,
                            struct error *reterr);
/* Time left, never 0: that would mean none. */
uint64_t dispatch_request_deadline_us(const struct dispatch_call *call);
void dispatch_request_start(struct dispatch_call *call, struct dispatch_link *link);
void dispatch_request_pump(
    struct dispatch_call *call); /* writes what is due and fits; else onto the backlog */

/* dispatch_parcel.c */
/* The request's body as a parcel when it is to be one. */
void dispatch_parcel_keep(struct dispatch_call *call, const struct dispatch_request *request);
void dispatch_parcel_drop(struct dispatch_call *call);
/* Bytes of the call's parcel when it goes through the socket. */
uint64_t dispatch_parcel_size(const struct dispatch_call *call);
/* The request frame, with the body when that goes by reference or is short.  False: no room, or
 * (call->awaits) the peer is to map something first. */
bool dispatch_parcel_put(struct dispatch_call *call);
/* `size` bytes of a body that goes through the socket, from held_sent on. */
void dispatch_parcel_copy(const struct dispatch_call *call, uint8_t *at, size_t size);
/* The peer has spoken of a region: calls that waited for that try again. */
void dispatch_parcel_progress(struct dispatch_link *link);

/* dispatch_frame.c */
/* What the frame means.  0, or -1: the peer broke the protocol.  ret_event->type stays NONE when
 * the owner need not know. */
int dispatch_frame_take(struct dispatch_link *link, struct bytes frame,
                        struct dispatch_event *ret_event);

/* dispatch_link.c */
int dispatch_link_reserve(struct dispatch *dispatch, struct replica_id replica,
                          struct bytes address);
void dispatch_link_drop_reserved(struct dispatch *dispatch);
void dispatch_link_connect(struct dispatch *dispatch, struct replica_id replica);
void dispatch_link_disconnect(struct dispatch *dispatch, struct replica_id replica);
void dispatch_link_ping(struct dispatch *dispatch, struct replica_id replica);
void dispatch_link_reap(struct dispatch *dispatch);
struct dispatch_link *dispatch_link_find(struct dispatch *dispatch, struct replica_id replica);
/* The next event of a link on the ready list; type NONE: it has no more. */
void dispatch_link_next(struct dispatch_link *link, struct dispatch_event *ret_event);
void dispatch_link_free(struct dispatch_link *link);
void dispatch_link_check(const struct dispatch_link *link);
bool dispatch_put_control(struct channel *channel, const uint8_t *frame, size_t size);

/* dispatch_snapshot.c */
void dispatch_controller_init(struct dispatch *dispatch);
int dispatch_controller_start(struct dispatch *dispatch); /* 0 or ERROR_MEMORY */
void dispatch_controller_done(struct dispatch *dispatch);

#endif
