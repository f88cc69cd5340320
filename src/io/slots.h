/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots: large bodies in memory that other processes can look at.
 *
 * A pool makes regions (region.h) and cuts them into slots.  Its process writes into a slot; once
 * it has lent it to a peer (src/parcel) it only reads.  Making memory and bringing its pages in
 * costs more than copying through a socket, so everything is reused: the slot given back last is
 * taken first, a region is shared by slots of one size up to SLOT_SHARED_MOST, a larger slot is a
 * region of its own with a size that another body is likely to fit into.  Regions that nobody used
 * for a while go back (slot_pool_trim).
 *
 * A peer's region, and the slots in it that the peer lends us, are the same structs with another
 * origin, so that whoever holds a slot need not know whose it is, and can lend it on.
 *
 * Threads: slot_take, slot_ref and slot_unref may be called from any.  The last slot_unref of a
 * borrowed slot only puts it on the pool's list of returned ones (slot_pool_returned), from which
 * the loop's thread tells its owner.  Everything else belongs to the loop's thread.
 */
#ifndef MANTA_IO_SLOTS_H
#define MANTA_IO_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "list.h"
#include "region.h"

enum {
    SLOT_LEAST = 64 * 1024,         /* smallest slot */
    SLOT_SHARED_MOST = 1024 * 1024, /* largest slot that shares its region */
    SLOT_REGION_SIZE = 4 << 20,     /* of a region with several slots */
    SLOT_FILL_MOST = 4 << 20,       /* of a slot that is taken, as much is brought in at once */
    SLOT_CLASS_COUNT = 5,           /* 64, 128, 256, 512 KiB, 1 MiB */
};

struct slot_pool;

struct slot_region {
    struct region memory;
    struct slot_pool *pool;
    struct list_link
        link;           /* of our own: on the pool's regions; given away: on a list of the loop's */
    struct list told;   /* the loop's thread: the links of parcel.h that know of it */
    struct slot *slots; /* of our own: all of them */
    uint32_t slot_count;
    uint32_t used_count; /* guarded by the pool: slots that are out */
    uint32_t id;         /* in our numbering, never used again */
    uint32_t references; /* a peer's, the loop's thread: its table entry and its slots */
    int64_t idle_ns;     /* guarded: since when none is out; 0: not noticed yet */
    bool borrowed;       /* a peer's */
    bool retired;        /* guarded: somebody may still look at it: it is never written again */
};

struct slot {
    struct slot_region *region;
    uint8_t *at; /* its holder may write while it is of our own and not lent */
    size_t size; /* of our own: the size of its class, at least what was asked for */
    atomic_uint references;
    struct list_link link; /* guarded: among the free or the returned ones */
    size_t filled;         /* guarded: bytes from `at` whose pages are here */
    /* Of a peer's: */
    void *origin;                 /* who is told of its return; null: nobody any more */
    struct list_link origin_link; /* the loop's thread: origin's list */
    uint32_t loan;                /* under which number it was lent */
    atomic_bool abandoned;        /* somebody we lent it to may still look at it */
};

struct slot_pool_config {
    size_t byte_limit;         /* of all regions; 0: no slot is ever given */
    uint32_t region_limit;     /* regions, each with a descriptor */
    void (*wake)(void *owner); /* any thread: something came back, or there is something to trim */
    void *owner;
};

struct slot_pool *slot_pool_new(const struct slot_pool_config *config); /* null: no memory */
/*
 * Nobody is woken any more.  Slots that are still out stay valid; the last of them takes the pool
 * along.  Every region that is told of is forgotten before.
 */
struct slot_pool *slot_pool_free(struct slot_pool *pool);

/* At least `size` bytes, contents undefined; null: the limit is reached or the machine lacks
 * something.  Then the body travels another way. */
struct slot *slot_take(struct slot_pool *pool, size_t size);
struct slot *slot_ref(struct slot *slot);
struct slot *slot_unref(struct slot *slot); /* null is fine; returns null */

size_t slot_pool_bytes(const struct slot_pool *pool); /* of all regions of our own */
size_t
slot_pool_used_bytes(const struct slot_pool *pool); /* of the slots of our own that are out */

/* ---- the loop's thread ---- */

/*
 * Gives back the regions that are unused since `idle_ns` or longer; when a slot could not be had
 * since the last time, all that are unused.  `gone` is told of each before.  True while regions
 * are left that may once be given back.
 */
bool slot_pool_trim(struct slot_pool *pool, int64_t now_ns, int64_t idle_ns,
                    void (*gone)(void *owner, struct slot_region *region), void *owner);
bool slot_pool_pressed(const struct slot_pool *pool); /* a trim is wanted now */
/* Of our own and lent to somebody who went away and may still look at it, or a peer's. */
void slot_abandon(struct slot *slot);

/* A peer's region; the descriptor is taken over.  Null and *ret_code: region_map's, or -ENOMEM. */
struct slot_region *slot_region_borrow(struct slot_pool *pool, int descriptor, size_t size,
                                       int *ret_code);
struct slot_region *slot_region_unref(struct slot_region *region); /* only a peer's */
/* Bytes of a peer's region; null when memory lacks. */
struct slot *slot_borrow(struct slot_region *region, uint64_t offset, uint64_t size, uint32_t loan,
                         void *origin);
/* The next borrowed slot that nobody holds any more; null: none.  slot_forget ends it. */
struct slot *slot_pool_returned(struct slot_pool *pool);
void slot_forget(struct slot *slot);
void slot_pool_check(struct slot_pool *pool);

#endif
