/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics: where the cells live.
 *
 *     0        4         8      12    16
 *     | magic  | version | count | pid | cell 0 | cell 1 | ...      cells of 64 bits, in the order
 * of metrics.def
 *
 * Rows of the table are only ever appended, so a reader takes as many cells as both sides know. The
 * file's blocks are allocated when it is made: writing to a hole of a full file system would be a
 * SIGBUS.
 */
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ensure.h"

enum { METRICS_MAGIC = 0x7274654D /* "Metr" */, METRICS_VERSION = 1 };

struct metrics_page {
    uint32_t magic, version, count, pid;
    _Atomic uint64_t cells[METRIC_COUNT];
};

static _Atomic uint64_t private_cells[METRIC_COUNT];
static struct metrics_page *page; /* null: none is open */
static char page_path[PATH_MAX];

_Atomic uint64_t *metrics_cells = private_cells;

static void move_cells(_Atomic uint64_t *to)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        atomic_store_explicit(&to[i], atomic_load_explicit(&metrics_cells[i], memory_order_relaxed),
                              memory_order_relaxed);
    metrics_cells = to;
}

static int make_file(const char *directory, const char *name)
{
    char metrics[PATH_MAX];
    if (snprintf(metrics, sizeof(metrics), "%s/metrics", directory) >= (int)sizeof(metrics) ||
        snprintf(page_path, sizeof(page_path), "%s/metrics/%s.page", directory, name) >=
            (int)sizeof(page_path))
        return -ENAMETOOLONG;
    if (mkdir(metrics, 0700) != 0 && errno != EEXIST)
        return -errno;
    unlink(page_path); /* of a process of the same name that did not end well */
    int file = open(page_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return file >= 0 ? file : -errno;
}

int metrics_open(const char *directory, const char *name)
{
    ensure(!page && strchr(name, '/') == NULL);
    int file = make_file(directory, name);
    if (file < 0)
        return file;
    int rc = posix_fallocate(file, 0, sizeof(*page));
    if (rc == 0) {
        void *at = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        rc = at == MAP_FAILED ? errno : 0;
        page = at == MAP_FAILED ? NULL : at;
    }
    close(file);
    if (rc != 0) {
        unlink(page_path);
        return -rc;
    }
    page->version = METRICS_VERSION;
    page->count = METRIC_COUNT;
    page->pid = (uint32_t)getpid();
    move_cells(page->cells);
    page->magic = METRICS_MAGIC;
    return 0;
}

void metrics_close(void)
{
    if (!page)
        return;
    move_cells(private_cells);
    munmap(page, sizeof(*page));
    page = NULL;
    unlink(page_path);
}

int metrics_read(const char *path, uint64_t ret_values[METRIC_COUNT])
{
    struct metrics_page read_page = {.magic = 0};
    memset(ret_values, 0, METRIC_COUNT * sizeof(*ret_values));
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return -errno;
    ssize_t got =
        pread(file, &read_page, sizeof(read_page), 0); /* a mapping could be cut off under us */
    int error = errno;
    close(file);
    if (got < 0)
        return -error;
    size_t header = offsetof(struct metrics_page, cells);
    if ((size_t)got < header || read_page.magic != METRICS_MAGIC ||
        read_page.version != METRICS_VERSION)
        return -EBADMSG;
    size_t count = ((size_t)got - header) / sizeof(uint64_t);
    if (count > read_page.count)
        count = read_page.count;
    for (size_t i = 0; i < count; i++)
        ret_values[i] = atomic_load_explicit(&read_page.cells[i], memory_order_relaxed);
    return 0;
}
