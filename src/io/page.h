/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page: small shared memory (memfd) with one writer and many readers: taken marks and metric pages.
 *
 * A replica makes a taken page per connection: one 32-bit cell per slot index of the sender's request ids; before user code
 * sees a request the replica stores the id's generation into the cell of its index.  When the replica dies the sender
 * looks: mark equal to the generation means user code may have run (500); anything else means it was never seen
 * (send it elsewhere).
 */
#ifndef MANTA_IO_PAGE_H
#define MANTA_IO_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page {
    int    descriptor; /* memfd; -1: none */
    void  *at;         /* mapped; null: none */
    size_t size;       /* bytes */
};

/* For the writer; sealed against shrinking and growing.  0 or -errno. */
int  page_create(struct page *page, const char *name, size_t size);
/* For a reader: checks the seals and the size, maps read-only.  0 or -errno (EPERM: not sealed;
 * EMSGSIZE: too small).  The descriptor is the page's, and closed when it is refused. */
int  page_map(struct page *page, int descriptor, size_t size_wanted);
void page_close(struct page *page); /* also one that is zeroed or closed */

static inline void page_mark_taken(struct page *page, uint64_t request_id)
{
    atomic_store_explicit(&((_Atomic uint32_t *)page->at)[(uint32_t)request_id], (uint32_t)(request_id >> 32),
                          memory_order_release);
}
/* False for an index beyond the page: its size was agreed in the hello. */
static inline bool page_is_taken(const struct page *page, uint64_t request_id)
{
    uint32_t index = (uint32_t)request_id;
    if (!page->at || index >= page->size / sizeof(uint32_t))
        return false;
    return atomic_load_explicit(&((_Atomic uint32_t *)page->at)[index], memory_order_acquire) ==
           (uint32_t)(request_id >> 32);
}

#endif
