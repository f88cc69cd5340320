/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel_inner: what the files of this folder share.
 *
 *     parcel.c        parcels: made, written as a form, opened
 *     parcel_desk.c   what a process's links share: pool, returned slots, idle regions
 *     parcel_lend.c   the lender's half of a link: regions told, loans
 *     parcel_link.c   a link's life, and the borrower's half: regions mapped, slots given back
 */
#ifndef MANTA_PARCEL_INNER_H
#define MANTA_PARCEL_INNER_H

#include "parcel.h"

enum {
    PARCEL_PLAIN_MOST = 32 * 1024, /* value and plain pieces that stay in the frame */
    PARCEL_LENT_MOST = 40 * 1024,  /* with table and padding: the body of a frame that lends */
    PARCEL_LOAN_LIMIT = 64 * 1024, /* attachments lent to one peer at once */
    PARCEL_CONTROL_SIZE = 64,      /* no frame of a link is larger */
};

struct parcel_desk {
    struct channel_set *channels;
    const struct settings *settings;
    uint32_t references;
    struct slot_pool *pool;
    struct list links; /* struct parcel_link */
    struct list owing; /* of parcel_link.owing: those that have something to tell */
    struct loop_turn turn;
    struct loop_timer timer; /* idle regions; set while there are regions */
};

enum parcel_told_state { TOLD_OFFERED, TOLD_KNOWN, TOLD_REFUSED };
/* A region that a peer has heard of. */
struct parcel_told {
    struct list_link region_link; /* on region->told; off it when the region is gone */
    struct list_link gone_link;   /* on link->gone */
    struct parcel_link *link;
    uint64_t size;
    uint32_t id;
    enum parcel_told_state state;
};

struct parcel_loan {
    struct slot *slot; /* null: free */
    uint64_t size;
    uint32_t next_free;
};

/* parcel_lend.c */
int parcel_take_region_taken(struct parcel_link *link, struct bytes payload);
int parcel_take_release(struct parcel_link *link, struct bytes payload);
/* The links that were told of it hear that it is gone. */
void parcel_region_gone(struct slot_region *region);
bool parcel_put_gone(struct parcel_link *link); /* false: no room */
void parcel_lend_close(struct parcel_link *link);

/* parcel_link.c */
bool parcel_put(struct parcel_link *link, const uint8_t *frame, size_t size);
bool parcel_put_release(struct parcel_link *link, uint32_t loan, bool abandoned);
int parcel_breach(struct parcel_link *link, const char *reason);
void parcel_forget(struct slot *slot); /* a borrowed slot that nobody holds */

#endif
