/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariants: a failure names the invariant that was broken by its tag, "R1: ...": so the world's
 * own words do, and those of the roles' assertions (ensure_tag).
 */
#include "invariants.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *tag, *sentence;
} invariants[] = {
    {"?", "Some assertion without a tag, or the end of the process."},
#define INVARIANT(tag, sentence) {#tag, sentence},
#include "invariants.def"
#undef INVARIANT
};

const char *invariant_tag(enum invariant invariant)
{
    return invariants[invariant].tag;
}

const char *invariant_sentence(enum invariant invariant)
{
    return invariants[invariant].sentence;
}

enum invariant invariant_in(const char *words)
{
    for (const char *at = strchr(words, ':'); at; at = strchr(at + 1, ':'))
        for (int i = INVARIANT_NONE + 1; i < INVARIANT_COUNT; i++) {
            size_t size = strlen(invariants[i].tag);
            bool fits =
                (size_t)(at - words) >= size && strncmp(at - size, invariants[i].tag, size) == 0;
            if (fits && (at - size == words || isspace((unsigned char)at[-(ptrdiff_t)size - 1])))
                return (enum invariant)i;
        }
    return INVARIANT_NONE;
}
