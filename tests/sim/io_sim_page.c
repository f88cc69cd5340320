/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_page: page.h and log.h on the simulated kernel.
 *
 * A page is memory that several processes refer to, which is what a memfd is.  It outlives its
 * writer as long as somebody maps it: that is what taken marks are for.  Lines of the log become
 * lines of the story.
 */
#include "page.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "ensure.h"
#include "io_sim_inside.h"
#include "log.h"
#include "mem.h"

static const struct page no_page = {.descriptor = -1};

int page_create(struct page *page, const char *name, size_t size)
{
    struct sim_page *made = mem_new(sizeof *made + size);
    ensure(size > 0);
    made->object = (struct sim_object){.kind = SIM_PAGE, .references = 1};
    made->size = size;
    *page = no_page;
    int descriptor = sim_descriptor_open(sim_object_ref(&made->object), sim_current());
    if (descriptor < 0) {
        mem_free(made);
        return descriptor;
    }
    *page = (struct page){.descriptor = descriptor, .at = made->at, .size = size};
    return 0;
}

int page_map(struct page *page, int descriptor, size_t size_wanted)
{
    struct sim_page *made = (struct sim_page *)sim_descriptor_object(descriptor, SIM_PAGE);
    int error = !made ? EPERM : made->size < size_wanted ? EMSGSIZE : 0;
    *page = no_page;
    if (error) {
        sim_descriptor_close(descriptor);
        return -error;
    }
    sim_object_ref(&made->object);
    *page = (struct page){.descriptor = descriptor, .at = made->at, .size = size_wanted};
    return 0;
}

void page_close(struct page *page)
{
    if (page->at) {
        sim_object_unref(
            &((struct sim_page *)(void *)((char *)page->at - offsetof(struct sim_page, at)))
                 ->object);
        if (page->descriptor >= 0)
            sim_descriptor_close(page->descriptor);
    }
    *page = no_page;
}

/* ---- the log ---- */

int log_open(const struct log_config *config, struct error *reterr)
{
    return 0;
}

void log_close(void)
{
}

bool log_enabled(enum log_level level)
{
    return true;
}

uint64_t log_dropped(void)
{
    return 0;
}

void log_print(enum log_level level, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sim_say("log %d: %s", level, line);
}

void log_request(enum log_level level, struct bytes request_id, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sim_say("log %d [%.*s]: %s", level, BYTES_PRINT(request_id), line);
}

void log_request_line(enum log_level level, struct bytes request_id, struct bytes message)
{
    log_request(level, request_id, "%.*s", BYTES_PRINT(message));
}
