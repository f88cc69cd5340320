/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects: mistakes made on purpose (defects.def), to see that the world notices them.
 *
 * The program world makes none (defects_none.c).  world_with_defects is the same program, but calls
 * between files of the roles pass through wrappers (defects_taker.c, defects_sender.c,
 * defects_control.c), and one defect is chosen by name.
 */
#ifndef MANTA_SIM_DEFECTS_H
#define MANTA_SIM_DEFECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "invariants.h"

enum defect {
    DEFECT_NONE,
#define DEFECT(name, invariant, sentence) DEFECT_##name,
#include "defects.def"
#undef DEFECT
    DEFECT_COUNT
};

/* Whether this program makes any. */
bool defects_linked(void);
const char *defect_name(enum defect defect);
const char *defect_sentence(enum defect defect);
enum invariant defect_invariant(enum defect defect); /* that it breaks */
void defects_choose(enum defect defect);
void defects_begin(void); /* a life begins: each makes the same mistakes again */

/* For the wrappers. */
bool defect_is(enum defect defect);
uint32_t defects_life(void); /* what a wrapper kept from another one is to be forgotten */
/* One call in so many, when this one was chosen: what breaks everything would be found by any test.
 */
bool defect_now(enum defect defect, uint32_t one_in);

#endif
