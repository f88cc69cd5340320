/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_region: region.h on the simulated kernel.
 *
 * Like a page (io_sim_page.c) a region is memory that several processes refer to, here by several
 * descriptors of each.  Every page of it is there from the start.
 */
#include "region.h"

#include <errno.h>

#include "ensure.h"
#include "io_sim_inside.h"
#include "mem.h"

static const struct region no_region = {.descriptor = -1};

static struct sim_page *page_of(const struct region *region)
{
    return (struct sim_page *)(void *)(region->at - offsetof(struct sim_page, at));
}

int region_create(struct region *region, size_t size)
{
    struct sim_page *made = mem_new(sizeof *made + size);
    ensure(size > 0);
    made->object = (struct sim_object){.kind = SIM_PAGE, .references = 1};
    made->size = size;
    *region = no_region;
    int descriptor = sim_descriptor_open(sim_object_ref(&made->object), sim_current());
    if (descriptor < 0) {
        mem_free(made);
        return descriptor;
    }
    *region = (struct region){.descriptor = descriptor, .at = made->at, .size = size};
    return 0;
}

int region_fill(const struct region *region, size_t offset, size_t size)
{
    ensure(offset <= region->size && size <= region->size - offset);
    return 0;
}

int region_map(struct region *region, int descriptor, size_t size)
{
    struct sim_page *made = (struct sim_page *)sim_descriptor_object(descriptor, SIM_PAGE);
    int error = !made ? EPERM : made->size != size ? EMSGSIZE : 0;
    *region = no_region;
    if (error) {
        sim_descriptor_close(descriptor);
        return -error;
    }
    sim_object_ref(&made->object);
    *region = (struct region){.descriptor = descriptor, .at = made->at, .size = size};
    return 0;
}

int region_duplicate(const struct region *region)
{
    struct sim_object *object = sim_object_ref(&page_of(region)->object);
    int descriptor = sim_descriptor_open(object, sim_current());
    if (descriptor < 0)
        sim_object_unref(object);
    return descriptor;
}

void region_close(struct region *region)
{
    if (region->at) {
        int descriptor = region->descriptor;
        sim_object_unref(&page_of(region)->object);
        if (descriptor >= 0)
            sim_descriptor_close(descriptor);
    }
    *region = no_region;
}
