/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariants: what must be true in every world (invariants.def), for whoever reads a failure.
 */
#ifndef MANTA_SIM_INVARIANTS_H
#define MANTA_SIM_INVARIANTS_H

enum invariant {
    INVARIANT_NONE, /* an assertion without a tag, a signal */
#define INVARIANT(tag, sentence) INVARIANT_##tag,
#include "invariants.def"
#undef INVARIANT
    INVARIANT_COUNT
};

const char *invariant_tag(enum invariant invariant); /* "R1" */
const char *invariant_sentence(enum invariant invariant);
/* Whose tag, with a colon behind it, comes first in the words of a failure. */
enum invariant invariant_in(const char *words);

#endif
