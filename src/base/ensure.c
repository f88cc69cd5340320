/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ensure: the end of a process that found a mistake of ours.
 *
 * The line goes to stderr at once and the process aborts, so that a core or a debugger shows the
 * spot.  Nothing is cleaned up: the state is known to be wrong.  Whoever watches the process (the
 * node) keeps the line.
 */
#include "ensure.h"

#include <stdio.h>
#include <stdlib.h>

void ensure_failed(const char *file, int line, const char *function, const char *expression)
{
    fprintf(stderr, "%s:%d: %s: ensured, but false: %s\n", file, line, function, expression);
    fflush(stderr);
    abort();
}
