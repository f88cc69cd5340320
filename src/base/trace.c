/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace: one line on the stack, told and forgotten.
 *
 * When the trace is off nothing is formatted.  A line that is too long is cut.
 */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>

#include "ensure.h"

enum { LINE_SIZE = 256 }; /* the terminator included */

void trace_print(const struct trace *trace, const char *format, ...)
{
    ensure(format);
    if (!trace || !trace->line)
        return;
    char line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (length >= 0)
        trace->line(trace->owner, line);
}
