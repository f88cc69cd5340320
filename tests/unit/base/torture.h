/* SPDX-License-Identifier: Apache-2.0 */
/*
 * torture: a scenario rerun with the first, second, third ... allocation failing, until none fails.
 *
 * A scenario returns true when it went through whole.  It may return true although an allocation
 * failed, where that is the promise (a map with longer chains).  However it ends it frees what it
 * made, and it checks for itself that what refused to work was left as it had been.
 */
#ifndef MANTA_TESTS_TORTURE_H
#define MANTA_TESTS_TORTURE_H

#include <criterion/criterion.h>
#include <stdbool.h>

#include "mem.h"

enum { TORTURE_LIMIT = 10000 }; /* allocations that a scenario may make */

/* Returns how many of the runs did not go through. */
static inline unsigned torture(bool (*scenario)(void))
{
    unsigned failed_count = 0;
    for (unsigned nth = 1; nth <= TORTURE_LIMIT; nth++) {
        uint64_t live = mem_count().live;
        mem_fail_at(nth);
        bool whole = scenario();
        bool reached = mem_fail_at(0) == 0;
        cr_assert_eq(mem_count().live, live, "allocation %u failed and something was left behind",
                     nth);
        failed_count += !whole;
        if (!reached) {
            cr_assert(whole, "no allocation failed, and yet the scenario did");
            return failed_count;
        }
    }
    cr_assert_fail("the scenario allocates without end");
    return failed_count;
}

#endif
