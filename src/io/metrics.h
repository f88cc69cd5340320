/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics: this process's metric page (tables/metrics.def) and reading those of others.
 *
 * A counter is a relaxed atomic add in shared memory, a file under the instance directory that everybody of the same
 * user can map: `manta status` and the controller read it without asking the process.
 */
#ifndef MANTA_IO_METRICS_H
#define MANTA_IO_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

enum metric {
#define METRIC(name, kind, help) METRIC_##name,
#include "metrics.def"
#undef METRIC
    METRIC_COUNT
};

extern _Atomic uint64_t *metrics_cells; /* never null: a private array until metrics_open */

#define metric_add(name, amount) \
    atomic_fetch_add_explicit(&metrics_cells[METRIC_##name], (uint64_t)(amount), memory_order_relaxed)
#define metric_set(name, amount) \
    atomic_store_explicit(&metrics_cells[METRIC_##name], (uint64_t)(amount), memory_order_relaxed)
#define metric_get(name) atomic_load_explicit(&metrics_cells[METRIC_##name], memory_order_relaxed)

/* Moves this process's cells into <directory>/metrics/<name>.page; counts so far are kept.  Before other threads count.
 * 0 or -errno. */
int metrics_open(const char *directory, const char *name);
void metrics_close(void); /* removes the file */
/* Reads one process's page: fills METRIC_COUNT values (missing ones 0).  0 or -errno (EBADMSG: no such page). */
int metrics_read(const char *path, uint64_t ret_values[METRIC_COUNT]);

#endif
