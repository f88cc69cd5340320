/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seeds: many seeds, tried on all processors.
 */
#ifndef MANTA_SIM_SEEDS_H
#define MANTA_SIM_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

#include "defects.h"

enum { SEEDS_JOBS_MOST = 64 };

struct seeds_order {
    const char *path;     /* a file of seeds; null: none */
    uint64_t from, count; /* and so many more, from this one on */
    uint32_t jobs;        /* processes that try them; 0: one a processor */
    enum defect defect;   /* mistake that is made on purpose */
    bool tells_hashes;
};

/* Says what fails, then how many did.  The exit status: 0 all is well, 1 some failed, 2 the seeds
 * cannot be read, or a process that tried them ended. */
int seeds_try(const struct seeds_order *order);

#endif
