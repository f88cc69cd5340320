/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Narration: a line goes to whoever asked, and to nobody else.
 */
#include "trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct listener {
    char last[512];
    int count;
};

static void hear(void *owner, const char *line)
{
    struct listener *listener = owner;
    snprintf(listener->last, sizeof(listener->last), "%s", line);
    listener->count++;
}

Test(trace, a_line_is_told_once)
{
    struct listener listener = {0};
    struct trace trace = {.line = hear, .owner = &listener};
    trace_print(&trace, "request %d goes to replica %d", 7, 2);
    cr_assert_str_eq(listener.last, "request 7 goes to replica 2");
    cr_assert_eq(listener.count, 1);
}

Test(trace, nobody_listens)
{
    struct trace off = {0};
    trace_print(NULL, "a %s", "b");
    trace_print(&off, "a %s", "b");
}

Test(trace, a_long_line_is_cut_to_255_bytes)
{
    struct listener listener = {0};
    struct trace trace = {.line = hear, .owner = &listener};
    char name[400];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    trace_print(&trace, "%s", name);
    cr_assert_eq(strlen(listener.last), 255);
    cr_assert_eq(strncmp(listener.last, name, 255), 0);
}
