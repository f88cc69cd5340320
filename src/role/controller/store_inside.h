/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_inside: what the files of the store share: SQLite's codes in our words, and the schema.
 */
#ifndef MANTA_ROLE_STORE_INSIDE_H
#define MANTA_ROLE_STORE_INSIDE_H

#include <sqlite3.h>

#include "store.h"

/* store.c: "<path> <what>: <SQLite's words, and the system's>"; ERROR_SYSTEM. */
int store_failed(const struct store *store, int rc, const char *what, struct error *reterr);
/* The code says that the file's content is not what SQLite wrote. */
bool store_is_broken(int rc);
/* The count of lives, 0: none was written.  A code of SQLite's. */
int store_read_lives(const struct store *store, uint64_t *ret_lives);
int store_write_lives(const struct store *store, uint64_t lives);

/*
 * store_schema.c: brings a database to the newest version, one step and one transaction after the
 * other: step i makes version i + 1 of version i.  *ret_version is what was found: STORE_FOREIGN
 * for a database of another program; above `count`: of a newer version; neither is touched.
 * Returns a code of SQLite's; after a failure the database has the version of the last good step.
 */
enum { STORE_FOREIGN = -1 };
int store_schema_bring(struct sqlite3 *database, const char *const *steps, int count,
                       int *ret_version);
extern const char *const store_schema_steps[];
extern const int store_schema_count;

#endif
