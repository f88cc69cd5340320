/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel: bodies whose large pieces travel by reference.
 *
 * A parcel is a body: a value, and pieces that belong to it (a tensor's bytes, a pickle's buffers;
 * the only piece of a flat one is the value itself, as an HTTP body is).  A large piece lies in a
 * slot (slots.h): on one machine it is lent to the receiver, who reads it where it lies, instead of
 * being copied through the socket.
 *
 *     sender                                     receiver
 *     region, with a descriptor -------------->  checks, maps
 *              <-------------------------------  region_taken
 *     request: table {region, loan, ...} ----->  reads in place, for as long as it likes
 *              <-------------------------------  slot_release {loan}
 *
 * A parcel_link is this conversation on one channel, both ways.  A lent slot is held for the peer
 * until the peer gives it back or its channel ends; then the memory is not written again
 * (slot_abandon), as the peer may still be reading.  When anything lacks -- slots, descriptors,
 * what the peer may hold -- the body goes through the socket: the parcel is written as one run of
 * bytes (its form). What was lent to us can be lent on to a third process: we hold it until that
 * one lets go.
 *
 * A desk is what the links of one process share: the pool of slots, and the way of slots back from
 * threads of user code to the loop.
 *
 * Threads: parcel_new, parcel_of_bytes, parcel_of_slot, parcel_ref, parcel_unref and the slots
 * themselves: any. Everything else: the loop's.
 */
#ifndef MANTA_PARCEL_H
#define MANTA_PARCEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "bytes.h"
#include "channel.h"
#include "list.h"
#include "map.h"
#include "settings.h"
#include "slots.h"
#include "wire.h"
#include "wire_attach.h"

/* ---- parcels ---- */

struct parcel_piece {
    struct slot *slot; /* `bytes` lies in it; null: plain memory */
    struct bytes bytes;
};

struct parcel {
    atomic_uint references;
    bool flat;      /* the value is piece 0 */
    uint16_t count; /* of pieces */
    struct bytes value;
    struct buffer *buffer; /* holds value and plain pieces; null: there are none */
    uint64_t size;         /* value and pieces */
    struct parcel_piece pieces[];
};

struct parcel_desk;

/*
 * A parcel of `value` and at most WIRE_ATTACH_LIMIT pieces, with a reference of its own on their
 * slots. Plain memory is copied: into slots, as far as it is worth one and there are any.  Null:
 * ERROR_LIMIT (too many pieces, or the process holds too many bytes already) or ERROR_MEMORY in
 * *ret_code.
 */
struct parcel *parcel_new(struct parcel_desk *desk, struct bytes value,
                          const struct parcel_piece *pieces, uint32_t count, int *ret_code);
/* A flat one: `bytes` copied into a slot; null when it is too small for one or none is left. */
struct parcel *parcel_of_bytes(struct parcel_desk *desk, struct bytes bytes);
/* A flat one: the first `size` bytes of a slot, whose reference goes along in any case; null: no
 * memory. */
struct parcel *parcel_of_slot(struct slot *slot, size_t size);
struct parcel *parcel_ref(struct parcel *parcel);
struct parcel *parcel_unref(struct parcel *parcel); /* null is fine; returns null */

/* ---- desks ---- */

/* The one of these channels, made at first; null: no memory. */
struct parcel_desk *parcel_desk_ref(struct channel_set *channels, const struct settings *settings);
struct parcel_desk *parcel_desk_unref(struct parcel_desk *desk); /* null is fine; returns null */
struct slot_pool *parcel_desk_slots(struct parcel_desk *desk);
/* A body of this size is worth a slot. */
bool parcel_desk_wants(const struct parcel_desk *desk, uint64_t size);
/* The process's byte budget has room for so much: in the buffers of its channels and in its slots. */
bool parcel_desk_has_budget(const struct parcel_desk *desk, uint64_t size);
/* Tells peers now what nobody here holds any more; every turn of the loop does so by itself. */
void parcel_desk_settle(struct parcel_desk *desk);
void parcel_desk_check(struct parcel_desk *desk);

/* ---- links ---- */

struct parcel_loan;

struct parcel_link {
    struct parcel_desk *desk;
    struct channel *channel;
    struct list_link link;  /* on desk->links */
    struct list_link owing; /* on desk->owing: something is to be told */
    const char *reason;     /* of a breach; null: none */
    /* What we lend. */
    uint32_t region_limit;     /* regions that the peer takes; 0: nothing is lent */
    uint64_t region_bytes;     /* bytes of them together */
    struct map told;           /* our number of a region -> struct parcel_told */
    uint64_t told_bytes;       /* of regions told of */
    uint32_t offered_count;    /* of them, those that the peer has not answered for */
    struct list gone;          /* struct parcel_told: the peer is to be told that they are gone */
    struct parcel_loan *loans; /* by number; free ones make a list */
    uint32_t loan_capacity, loan_count, loan_free;
    uint64_t lent_bytes;
    /* What we borrow. */
    struct map regions; /* the peer's number -> struct slot_region */
    uint64_t mapped_bytes;
    struct list borrowed; /* slots that somebody here holds */
    struct list returned; /* slots that are to be given back */
};

/* Zeroed before; nothing is lent before parcel_link_meet. */
void parcel_link_open(struct parcel_link *link, struct parcel_desk *desk, struct channel *channel);
/* Our limits for our hello, and the peer's from its. */
void parcel_link_greet(const struct parcel_link *link, struct wire_hello *hello);
void parcel_link_meet(struct parcel_link *link, const struct wire_hello *hello);
/* Before the channel is closed; slots that are still held here stay valid.  Also one never opened.
 */
void parcel_link_close(struct parcel_link *link);
static inline bool parcel_link_is_open(const struct parcel_link *link)
{
    return link->desk != NULL;
}

bool parcel_is_frame(uint8_t type); /* for parcel_link_frame */
/*
 * 0, or -1: the peer broke the protocol, link->reason says how, and the channel must end.
 * *ret_progress: what was PARCEL_LATER is worth another try.
 */
int parcel_link_frame(struct parcel_link *link, const struct wire_header *header,
                      struct bytes payload, bool *ret_progress);
void parcel_link_room(struct parcel_link *link); /* the channel has room again */
void parcel_link_check(const struct parcel_link *link);

/* ---- sending ---- */

/* How a parcel travels: the bytes of the frame's body, or of the parts that follow it. */
struct parcel_form {
    bool attached; /* WIRE_ATTACHED is to be set */
    bool lent;     /* by reference: the body must travel whole in its frame */
    uint64_t size; /* bytes of the body */
    struct wire_attach table;
};

enum parcel_way {
    PARCEL_LENT,   /* put the frame now, or parcel_unlend */
    PARCEL_LATER,  /* the peer is to map something first: again after its word (ret_progress) */
    PARCEL_INLINE, /* through the socket */
};
enum parcel_way parcel_lend(struct parcel_link *link, const struct parcel *parcel,
                            struct parcel_form *ret_form);
/* What a part of a stream costs of its credit, on both sides.  One that is lent has only a table in
 * its frame, but its bytes are held until it is used: so it costs them, up to half of the window, so
 * that one of any size can leave and a slow reader is lent no more than two. */
size_t parcel_cost(size_t frame_size, uint64_t size, size_t window);
void parcel_unlend(struct parcel_link *link, const struct parcel_form *form);
void parcel_inline(const struct parcel *parcel, struct parcel_form *ret_form);
/* `size` bytes of the form from `from` on. */
void parcel_copy(const struct parcel *parcel, const struct parcel_form *form, uint64_t from,
                 uint8_t *to, size_t size);

/* ---- receiving ---- */

/*
 * The body of a frame with WIRE_ATTACHED; `buffer` holds it.  Every loan in it is ours from here
 * on: a frame that nobody waits for is opened and dropped, too.  0; ERROR_PROTOCOL: a breach,
 * link->reason says how; ERROR_MEMORY: it was given back.  Link null: a body that came in parts, in
 * which nothing may lie in a region.
 */
int parcel_open(struct parcel_link *link, struct bytes body, struct buffer *buffer,
                struct parcel **ret_parcel);

#endif
