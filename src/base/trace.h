/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace: how minds narrate.
 *
 * Minds never log.  They tell what they decided, one plain line per decision, to a trace that is
 * off unless somebody asks: tests compare it, the simulated world prints it, a role can show it.
 * The text of a line depends on nothing but the seed and the events (D1).
 */
#ifndef MANTA_BASE_TRACE_H
#define MANTA_BASE_TRACE_H

#include <stdint.h>

struct trace {
    void (*line)(void *owner, const char *line); /* null: off */
    void *owner;
};

/* Formats and tells one line (at most 255 bytes); does nothing when the trace is null or off. */
void trace_print(const struct trace *trace, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
