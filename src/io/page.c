/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page: memfd pages that a reader can trust as far as their size goes.
 *
 * A mapping of a file that shrinks kills its reader with SIGBUS, so a reader maps nothing that is
 * not sealed against shrinking.  The writer also seals against further writable mappings: who gets
 * the descriptor can only look.
 */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ensure.h"

enum { PAGE_SEALS_NEEDED = F_SEAL_SHRINK | F_SEAL_GROW };

static const struct page no_page = {.descriptor = -1};

int page_create(struct page *page, const char *name, size_t size)
{
    ensure(size > 0);
    *page = no_page;
    void *at = MAP_FAILED;
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0)
        return -errno;
    if (ftruncate(descriptor, (off_t)size) != 0)
        goto failed;
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (at == MAP_FAILED)
        goto failed;
    if (fcntl(descriptor, F_ADD_SEALS, PAGE_SEALS_NEEDED | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        goto failed;
    *page = (struct page){.descriptor = descriptor, .at = at, .size = size};
    return 0;
failed:;
    int error = errno;
    if (at != MAP_FAILED)
        munmap(at, size);
    close(descriptor);
    return -error;
}

int page_map(struct page *page, int descriptor, size_t size_wanted)
{
    ensure(size_wanted > 0);
    struct stat file;
    int error = EPERM, seals = fcntl(descriptor, F_GET_SEALS);
    *page = no_page;
    if (seals < 0 || (seals & PAGE_SEALS_NEEDED) != PAGE_SEALS_NEEDED)
        goto failed;
    error = EMSGSIZE;
    if (fstat(descriptor, &file) != 0 || file.st_size < 0 || (size_t)file.st_size < size_wanted)
        goto failed;
    void *at = mmap(NULL, size_wanted, PROT_READ, MAP_SHARED, descriptor, 0);
    error = errno;
    if (at == MAP_FAILED)
        goto failed;
    *page = (struct page){.descriptor = descriptor, .at = at, .size = size_wanted};
    return 0;
failed:
    if (descriptor >= 0)
        close(descriptor);
    return -error;
}

void page_close(struct page *page)
{
    if (page->at) {
        munmap(page->at, page->size);
        close(page->descriptor);
    }
    *page = no_page;
}
