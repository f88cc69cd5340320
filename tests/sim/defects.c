/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects: which one is chosen, and when it happens.
 *
 * Counted, not drawn: a defect takes nothing from the generators, so that up to its first mistake a
 * seed tells the same story as without it.
 */
#include "defects.h"

static const struct {
    const char *name, *sentence;
    enum invariant invariant;
} defects[] = {
    {"NONE", "", INVARIANT_NONE},
#define DEFECT(name, invariant, sentence) {#name, sentence, INVARIANT_##invariant},
#include "defects.def"
#undef DEFECT
};

static enum defect chosen;
static uint32_t life, calls; /* calls: that the chosen one could have spoilt in this life */

const char *defect_name(enum defect defect)
{
    return defects[defect].name;
}

const char *defect_sentence(enum defect defect)
{
    return defects[defect].sentence;
}

enum invariant defect_invariant(enum defect defect)
{
    return defects[defect].invariant;
}

void defects_choose(enum defect defect)
{
    chosen = defect;
}

bool defect_is(enum defect defect)
{
    return chosen == defect;
}

void defects_begin(void)
{
    life++;
    calls = 0;
}

uint32_t defects_life(void)
{
    return life;
}

bool defect_now(enum defect defect, uint32_t one_in)
{
    return defect_is(defect) && ++calls % one_in == 0;
}
