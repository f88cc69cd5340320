/* SPDX-License-Identifier: Apache-2.0 */
/*
 * story: what happened in a simulated world, one line per decision, with simulated time.
 *
 *     1.204113 proxy-1: send 12.3 to r4 (2 of 5)
 *
 * A story depends on the seed alone (D1).  Of each line the hash is kept, so that two runs of a
 * seed can be compared and the first difference named; the lines themselves go to a stream when
 * somebody wants to read them.
 */
#ifndef MANTA_SIM_STORY_H
#define MANTA_SIM_STORY_H

#include <stdint.h>
#include <stdio.h>

struct story {
    FILE *out;        /* null: nobody reads */
    uint64_t *hashes; /* one per line */
    uint32_t count, capacity;
};

void story_done(struct story *story);
/* `who` may be null. */
void story_say(struct story *story, int64_t now_ns, const char *who, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The first line (from 1) in which two stories differ; 0: they are the same. */
uint32_t story_compare(const struct story *story, const struct story *other);
uint64_t story_hash(const struct story *story); /* of all lines */

#endif
