/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial: one seed, lived through in a process of its own.
 *
 * What is wrong may end the process, so the world lives in a child; here is what it left: its words
 * and the invariant that they name.
 */
#ifndef MANTA_SIM_TRIAL_H
#define MANTA_SIM_TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "defects.h"

enum { TRIAL_WORDS_SIZE = 8192, TRIAL_LINE_SIZE = 512 };

struct trial {
    uint64_t seed;
    enum defect defect; /* mistake that is made on purpose */
    FILE *story;        /* where its lines go; null: nowhere */
    bool twice;         /* two lives, whose stories must be the same (D1) */
    bool tells_hash;    /* prints "seed N: L lines, hash H" when it went well */
};

struct trial_verdict {
    bool good;
    enum invariant broken;        /* when it is not good */
    char words[TRIAL_WORDS_SIZE]; /* what the child said; ends with a newline, or empty */
    char line[TRIAL_LINE_SIZE];   /* the one of them that names the invariant, or the last */
};

void trial_run(const struct trial *trial, struct trial_verdict *ret_verdict);
/* Lives once more and prints the end of the story. */
void trial_print_end(const struct trial *trial, FILE *out);

#endif
