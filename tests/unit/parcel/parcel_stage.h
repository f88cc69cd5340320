/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel_stage: two, three ends of links on one loop, each with a desk of its own as if it were a
 * process of its own.
 *
 * A message is a part frame: one that carries a parcel says so by WIRE_ATTACHED.  What arrives is
 * opened and kept until the test lets go.
 */
#ifndef MANTA_TESTS_PARCEL_STAGE_H
#define MANTA_TESTS_PARCEL_STAGE_H

#include "parcel.h"

enum { STAGE_KEPT = 64, KIB = 1024, MIB = 1024 * 1024 };

struct party {
    struct channel_set set;
    struct settings settings;
    struct parcel_desk *desk;
};

struct end {
    struct party *party;
    struct channel channel;
    struct parcel_link link;
    int code;      /* of the last frame that was no success */
    bool progress; /* since it was last cleared */
    bool closed;
    uint32_t count;                  /* messages that came */
    uint64_t bytes;                  /* of them */
    struct parcel *kept[STAGE_KEPT]; /* of those that came attached, the last ones */
    uint32_t kept_count;
};

extern struct loop *stage_loop;

void stage_begin(void);
void stage_end(void);
void party_begin(struct party *party); /* settings: defaults, or as they were set before */
void party_end(struct party *party);
/* Both ends of a connection; each has heard the other's hello. */
void ends_join(struct end *a, struct party *of_a, struct end *b, struct party *of_b);
/* One end, and a descriptor for whoever plays the other. */
int end_join_alone(struct end *end, struct party *party);
void end_close(struct end *end);
void end_drop(struct end *end); /* lets go of what it keeps */
/* Sends it by reference, or (after waiting for the peer's word) inline; which way it went. */
enum parcel_way end_send(struct end *end, const struct parcel *parcel);
void turns(int count);

/* A flat parcel in a slot of this desk, filled from `seed`; and whether one looks like that. */
struct parcel *flat_parcel(struct party *party, size_t size, uint8_t seed);
bool looks_like(struct bytes bytes, size_t size, uint8_t seed);

#endif
