/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: a piece of memory that one process writes and others read (memfd).
 *
 * The system calls of slots.h and nothing else; what lies where in a region, and who may look at it
 * when, is decided there.  (Second implementation: tests/sim/io_sim_region.c.)
 */
#ifndef MANTA_IO_REGION_H
#define MANTA_IO_REGION_H

#include <stddef.h>
#include <stdint.h>

struct region {
    int descriptor; /* memfd; -1: none */
    uint8_t *at;    /* mapped, writable only for its maker; null: none */
    size_t size;    /* bytes */
};

/*
 * For the writer: mapped, then sealed against shrinking, growing and every further writable
 * mapping. No page of it is there yet (region_fill).  0 or -errno.
 */
int region_create(struct region *region, size_t size);
/* Brings the pages of a part in, so that the first who writes does not pay page by page: 0, or
 * -errno when the machine has none. */
int region_fill(const struct region *region, size_t offset, size_t size);
/*
 * For a reader: maps `descriptor` read-only.  0 or -errno (EPERM: not sealed, it could shrink under
 * its readers; EMSGSIZE: not of this size).  The descriptor is the region's, and closed when it is
 * refused.
 */
int region_map(struct region *region, int descriptor, size_t size);
/* Another descriptor of the same memory, to be sent; or -errno. */
int region_duplicate(const struct region *region);
void region_close(struct region *region); /* also one that is zeroed or closed */

#endif
