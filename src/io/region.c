/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region: memfds that a reader can trust as far as their size goes.
 *
 * A mapping of a file that shrinks kills its reader with SIGBUS, so a reader maps nothing that is
 * not sealed against shrinking.  The writer also seals against further writable mappings: who gets
 * the descriptor can only look.  Pages are brought in with an answer (MADV_POPULATE_WRITE): a
 * machine without memory refuses there, where somebody can handle it.
 */
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ensure.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; the C library's headers may be older */
#endif

enum { REGION_SEALS_NEEDED = F_SEAL_SHRINK | F_SEAL_GROW };

static const struct region no_region = {.descriptor = -1};

int region_create(struct region *region, size_t size)
{
    ensure(size > 0);
    *region = no_region;
    void *at = MAP_FAILED;
    int descriptor = memfd_create("manta-payload", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0)
        return -errno;
    if (ftruncate(descriptor, (off_t)size) != 0)
        goto failed;
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (at == MAP_FAILED)
        goto failed;
    if (fcntl(descriptor, F_ADD_SEALS, REGION_SEALS_NEEDED | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) !=
        0)
        goto failed;
    *region = (struct region){.descriptor = descriptor, .at = at, .size = size};
    return 0;
failed:;
    int error = errno;
    if (at != MAP_FAILED)
        munmap(at, size);
    close(descriptor);
    return -error;
}

int region_fill(const struct region *region, size_t offset, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ensure(size > 0 && offset <= region->size && size <= region->size - offset);
    size_t start = offset & ~(page - 1);
    int rc;
    while ((rc = madvise(region->at + start, offset + size - start, MADV_POPULATE_WRITE)) != 0 &&
           (errno == EINTR || errno == EAGAIN))
        ;
    /* An older kernel knows no such advice (EINVAL): the pages come when they are written. */
    return rc == 0 || errno == EINVAL ? 0 : -errno;
}

int region_map(struct region *region, int descriptor, size_t size)
{
    struct stat file;
    ensure(size > 0 && descriptor >= 0);
    int error = EPERM, seals = fcntl(descriptor, F_GET_SEALS);
    *region = no_region;
    if (seals < 0 || (seals & REGION_SEALS_NEEDED) != REGION_SEALS_NEEDED)
        goto failed;
    error = EMSGSIZE;
    if (fstat(descriptor, &file) != 0 || file.st_size < 0 || (size_t)file.st_size != size)
        goto failed;
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    error = errno;
    if (at == MAP_FAILED)
        goto failed;
    *region = (struct region){.descriptor = descriptor, .at = at, .size = size};
    return 0;
failed:
    close(descriptor);
    return -error;
}

int region_duplicate(const struct region *region)
{
    int descriptor = fcntl(region->descriptor, F_DUPFD_CLOEXEC, 0);
    return descriptor >= 0 ? descriptor : -errno;
}

void region_close(struct region *region)
{
    if (region->at) {
        munmap(region->at, region->size);
        close(region->descriptor);
    }
    *region = no_region;
}
