/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_schema: the tables of the store, and how an older store becomes a newer one.
 *
 * The version stands in the file's header (PRAGMA user_version) and counts the steps that were
 * taken; application_id says that the file is ours.  A step that was ever released is never
 * changed: what is to be different is the next step.
 *
 * Unsigned numbers of 64 bits (ids, versions) are stored as the signed ones with the same bits.
 */
#include <stdio.h>

#include "store_inside.h"

enum { STORE_MARK = 1299084385 /* "Mnta" */ };

const char *const store_schema_steps[] = {
    /* 1 */
    "PRAGMA application_id = 1299084385;"
    "CREATE TABLE numbers ("
    "  name TEXT PRIMARY KEY,"
    "  value INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE applications ("
    "  id INTEGER PRIMARY KEY,"
    "  name BLOB NOT NULL UNIQUE,"
    "  route_prefix BLOB NOT NULL,"
    "  ingress BLOB NOT NULL"
    ") STRICT;"
    "CREATE TABLE deployments ("
    "  application INTEGER NOT NULL REFERENCES applications (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  name BLOB NOT NULL,"
    "  id INTEGER NOT NULL,"
    "  version INTEGER NOT NULL,"
    "  replicas INTEGER NOT NULL,"
    "  max_ongoing INTEGER NOT NULL,"
    "  max_queued INTEGER NOT NULL,"
    "  graceful_shutdown_timeout_ns INTEGER NOT NULL,"
    "  health_check_period_ns INTEGER NOT NULL,"
    "  health_check_timeout_ns INTEGER NOT NULL,"
    "  streams_body INTEGER NOT NULL,"
    "  body BLOB NOT NULL,"
    "  PRIMARY KEY (application, position)"
    ") STRICT;",
    /* 2: came with a whole target, and goes when a later one lacks it */
    "ALTER TABLE applications ADD COLUMN declarative INTEGER NOT NULL DEFAULT 0;",
    /* 3: what is told to running replicas has a hash of its own; 0 is another one than any has */
    "ALTER TABLE deployments ADD COLUMN configuration INTEGER NOT NULL DEFAULT 0;",
    /* 4: how a rollout goes; the defaults are what was done before */
    "ALTER TABLE deployments ADD COLUMN max_surge_percent INTEGER NOT NULL DEFAULT 100;"
    "ALTER TABLE deployments ADD COLUMN share_millionths INTEGER NOT NULL DEFAULT 200000;"
    "ALTER TABLE deployments ADD COLUMN retry_limit INTEGER NOT NULL DEFAULT 20;"
    "ALTER TABLE deployments ADD COLUMN start_timeout_ns INTEGER NOT NULL DEFAULT 0;",
};
const int store_schema_count = sizeof store_schema_steps / sizeof *store_schema_steps;

static int ask_number(sqlite3 *database, const char *sql, int *ret_number)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(database, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        *ret_number = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

static int take_step(sqlite3 *database, const char *step, int version)
{
    char finish[64];
    snprintf(finish, sizeof finish, "PRAGMA user_version = %d; COMMIT", version);
    int rc = sqlite3_exec(database, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(database, step, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(database, finish, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        sqlite3_exec(database, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int store_schema_bring(sqlite3 *database, const char *const *steps, int count, int *ret_version)
{
    int mark = 0, version = 0, tables = 0;
    int rc = ask_number(database, "PRAGMA application_id", &mark);
    if (rc == SQLITE_OK)
        rc = ask_number(database, "PRAGMA user_version", &version);
    if (rc == SQLITE_OK)
        rc = ask_number(database, "SELECT count(*) FROM sqlite_schema", &tables);
    if (rc != SQLITE_OK)
        return rc;
    bool fresh = mark == 0 && version == 0 && tables == 0;
    *ret_version = fresh || (mark == STORE_MARK && version > 0) ? version : STORE_FOREIGN;
    for (int i = *ret_version; i >= 0 && i < count && rc == SQLITE_OK; i++)
        rc = take_step(database, steps[i], i + 1);
    return rc;
}
