/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_malloc: counts what a process asks of the heap; for LD_PRELOAD.
 *
 * Every process that has MANTA_COUNT_DIRECTORY in its environment keeps two counters in the file
 * <directory>/<pid>, a shared mapping: allocations and frees as little-endian 64 bit numbers.  A test
 * reads the file before and after and sees what happened between, without asking the process
 * anything.  The allocator itself stays the C library's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* The C library's own names for them (glibc). */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *at, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *at);

EXPORT void *malloc(size_t size);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *realloc(void *at, size_t size);
EXPORT void *memalign(size_t alignment, size_t size);
EXPORT void *aligned_alloc(size_t alignment, size_t size);
EXPORT int posix_memalign(void **ret_at, size_t alignment, size_t size);
EXPORT void free(void *at);

struct counters {
    _Atomic uint64_t allocations, frees;
};

static struct counters early; /* until the file is mapped, and where there is none */
static struct counters *counters = &early;

__attribute__((constructor)) static void open_counters(void)
{
    char path[4096];
    const char *directory = getenv("MANTA_COUNT_DIRECTORY");
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/%d", directory, (int)getpid());
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || ftruncate(descriptor, sizeof *counters) < 0) {
        perror(path);
        abort();
    }
    void *at = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (at == MAP_FAILED)
        abort();
    counters = at;
}

static void count_allocation(void)
{
    atomic_fetch_add_explicit(&counters->allocations, 1, memory_order_relaxed);
}

void *malloc(size_t size)
{
    count_allocation();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    count_allocation();
    return __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    count_allocation();
    return __libc_realloc(at, size);
}

void *memalign(size_t alignment, size_t size)
{
    count_allocation();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count_allocation();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_at, size_t alignment, size_t size)
{
    count_allocation();
    *ret_at = __libc_memalign(alignment, size);
    return *ret_at ? 0 : ENOMEM;
}

void free(void *at)
{
    if (at)
        atomic_fetch_add_explicit(&counters->frees, 1, memory_order_relaxed);
    __libc_free(at);
}
