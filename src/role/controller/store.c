/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: targets as rows.
 *
 * A target is saved whole: its old rows go, its new ones come; several in one transaction.  One
 * table below names the columns of a deployment for the writer and the reader; what it says must be
 * what the newest schema says (store_schema.c).  Reading copies a target into one arena, because
 * its rows are needed together.
 */
#include "store.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "ensure.h"
#include "mem.h"
#include "store_inside.h"
#include "target.h"

enum { STORE_APPS_LIMIT = 100000 };

/* ---- SQLite ---- */

bool store_is_broken(int rc)
{
    return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

int store_failed(const struct store *store, int rc, const char *what, struct error *reterr)
{
    int number = store->database ? sqlite3_system_errno(store->database) : 0;
    bool system = number != 0 && ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN);
    /* What was rolled back since has taken the database's own words. */
    bool told = store->database && sqlite3_errcode(store->database) != SQLITE_OK;
    const char *own = told ? sqlite3_errmsg(store->database) : sqlite3_errstr(rc);
    const char *reason = (rc & 0xff) == SQLITE_BUSY ? "another process holds it" : own;
    return error_set(reterr, ERROR_SYSTEM, "the store %s %s: %s%s%s", store->path, what, reason,
                     system ? ": " : "", system ? strerror(number) : "");
}

static int execute(const struct store *store, const char *sql)
{
    return sqlite3_exec(store->database, sql, NULL, NULL, NULL);
}

static int prepare(const struct store *store, const char *sql, sqlite3_stmt **ret_statement)
{
    return sqlite3_prepare_v2(store->database, sql, -1, ret_statement, NULL);
}

/* Of a statement without rows; it is used up. */
static int finish(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* May be too large.  An empty one has perhaps no address, which would be bound as NULL. */
static int bind_bytes(sqlite3_stmt *statement, int index, struct bytes bytes)
{
    return bytes.size ? sqlite3_bind_blob64(statement, index, bytes.at, bytes.size, SQLITE_STATIC)
                      : sqlite3_bind_zeroblob(statement, index, 0);
}

static struct bytes column_bytes(sqlite3_stmt *statement, int index)
{
    const void *at = sqlite3_column_blob(statement, index);
    return bytes_of(at, (size_t)sqlite3_column_bytes(statement, index));
}

/* ---- lives ---- */

int store_read_lives(const struct store *store, uint64_t *ret_lives)
{
    sqlite3_stmt *statement;
    int rc = prepare(store, "SELECT value FROM numbers WHERE name = 'lives'", &statement);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    *ret_lives = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int store_write_lives(const struct store *store, uint64_t lives)
{
    sqlite3_stmt *statement;
    int rc = prepare(store, "INSERT OR REPLACE INTO numbers VALUES ('lives', ?)", &statement);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)lives);
    return finish(statement);
}

/* ---- columns of a deployment ---- */

enum column_kind { COLUMN_BYTES, COLUMN_U32, COLUMN_BITS /* 64 of them */, COLUMN_BOOL };

static const struct column {
    const char *name;
    enum column_kind kind;
    size_t offset;
} columns[] = {
#define COLUMN(kind, column_name, member)                                                          \
    {                                                                                              \
        column_name, kind, offsetof(struct controller_deployment_target, member)                   \
    }
    COLUMN(COLUMN_BYTES, "name", name),
    COLUMN(COLUMN_BITS, "id", id.v),
    COLUMN(COLUMN_BITS, "version", version),
    COLUMN(COLUMN_BITS, "configuration", configuration),
    COLUMN(COLUMN_U32, "replicas", replicas),
    COLUMN(COLUMN_U32, "max_ongoing", max_ongoing),
    COLUMN(COLUMN_BITS, "max_queued", max_queued),
    COLUMN(COLUMN_BITS, "graceful_shutdown_timeout_ns", graceful_shutdown_timeout_ns),
    COLUMN(COLUMN_BITS, "health_check_period_ns", health_check_period_ns),
    COLUMN(COLUMN_BITS, "health_check_timeout_ns", health_check_timeout_ns),
    COLUMN(COLUMN_U32, "max_surge_percent", rollout.max_surge_percent),
    COLUMN(COLUMN_U32, "share_millionths", rollout.share_millionths),
    COLUMN(COLUMN_U32, "retry_limit", rollout.retry_limit),
    COLUMN(COLUMN_BITS, "start_timeout_ns", rollout.start_timeout_ns),
    COLUMN(COLUMN_BOOL, "streams_body", streams_body),
    COLUMN(COLUMN_BYTES, "body", body),
#undef COLUMN
};
enum { COLUMN_COUNT = sizeof columns / sizeof *columns, SQL_SIZE = 1024 };

/* "name, id, ..."; "?3, ?4, ..." when `first` is above 0. */
static void print_columns(char sql[SQL_SIZE], size_t size, int first)
{
    for (int i = 0; i < COLUMN_COUNT; i++) {
        const char *comma = i ? ", " : "";
        int length = first ? snprintf(sql + size, SQL_SIZE - size, "%s?%d", comma, first + i)
                           : snprintf(sql + size, SQL_SIZE - size, "%s%s", comma, columns[i].name);
        size += (size_t)length;
        ensure(size < SQL_SIZE);
    }
}

static int bind_column(sqlite3_stmt *statement, int index, const struct column *column,
                       const void *row)
{
    const void *member = (const char *)row + column->offset;
    switch (column->kind) {
    case COLUMN_BYTES:
        return bind_bytes(statement, index, *(const struct bytes *)member);
    case COLUMN_U32:
        return sqlite3_bind_int64(statement, index, *(const uint32_t *)member);
    case COLUMN_BITS:
        return sqlite3_bind_int64(statement, index, *(const int64_t *)member);
    case COLUMN_BOOL:
        return sqlite3_bind_int64(statement, index, *(const bool *)member);
    }
    return SQLITE_MISUSE;
}

/* False: out of range, or no memory. */
static bool read_column(sqlite3_stmt *statement, int index, const struct column *column, void *row,
                        struct arena *arena)
{
    void *member = (char *)row + column->offset;
    int64_t number = sqlite3_column_int64(statement, index);
    switch (column->kind) {
    case COLUMN_BYTES:
        *(struct bytes *)member = arena_copy(arena, column_bytes(statement, index));
        return ((struct bytes *)member)->at != NULL;
    case COLUMN_U32:
        *(uint32_t *)member = (uint32_t)number;
        return number >= 0 && number <= UINT32_MAX;
    case COLUMN_BITS:
        *(int64_t *)member = number;
        return true;
    case COLUMN_BOOL:
        *(bool *)member = number != 0;
        return number == 0 || number == 1;
    }
    return false;
}

/* ---- writing ---- */

static int insert_app(const struct store *store, const struct controller_app_target *target)
{
    sqlite3_stmt *statement;
    int rc = prepare(store, "INSERT INTO applications VALUES (?, ?, ?, ?, ?)", &statement);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)target->id.v);
    bind_bytes(statement, 2, target->name);
    bind_bytes(statement, 3, target->route_prefix);
    bind_bytes(statement, 4, target->ingress);
    sqlite3_bind_int64(statement, 5, target->declarative);
    return finish(statement);
}

static int insert_rows(const struct store *store, const struct controller_app_target *target)
{
    char sql[SQL_SIZE] = "INSERT INTO deployments (application, position, ";
    sqlite3_stmt *statement;
    print_columns(sql, strlen(sql), 0);
    strcat(sql, ") VALUES (?1, ?2, ");
    print_columns(sql, strlen(sql), 3);
    strcat(sql, ")");
    int rc = prepare(store, sql, &statement);
    for (uint32_t i = 0; i < target->deployment_count && rc == SQLITE_OK; i++) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)target->id.v);
        sqlite3_bind_int64(statement, 2, i);
        for (int j = 0; j < COLUMN_COUNT && rc == SQLITE_OK; j++)
            rc = bind_column(statement, 3 + j, &columns[j], target->deployments + i);
        if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_DONE)
            rc = sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* Its deployments go with it.  A name is there once: who bears it under another id is of the past.
 */
static int remove_app(const struct store *store, struct application_id app, struct bytes name)
{
    sqlite3_stmt *statement;
    int rc = prepare(store, "DELETE FROM applications WHERE id = ? OR name = ?", &statement);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)app.v);
    if (name.size)
        bind_bytes(statement, 2, name);
    return finish(statement);
}

void store_begin(struct store *store)
{
    ensure(!store->open);
    store->open = true;
    store->rc = store->database ? execute(store, "BEGIN IMMEDIATE") : SQLITE_OK;
}

int store_commit(struct store *store, struct error *reterr)
{
    int rc = store->rc;
    ensure(store->open);
    store->open = false;
    if (!store->database)
        return 0;
    if (rc == SQLITE_OK)
        rc = execute(store, "COMMIT");
    if (rc == SQLITE_OK) {
        store->trouble[0] = '\0';
        return 0;
    }
    struct error error = {0};
    store_failed(store, rc, "takes nothing", &error);
    execute(store, "ROLLBACK"); /* which is an error where SQLite has done it already */
    memcpy(store->trouble, error.text, sizeof store->trouble);
    return error_set(reterr, error.code, "%s", error.text);
}

/* A change without a transaction around it is one by itself. */
static bool begin_alone(struct store *store)
{
    bool alone = !store->open;
    if (alone)
        store_begin(store);
    return alone;
}

int store_save_app(struct store *store, const struct controller_app_target *target,
                   struct error *reterr)
{
    ensure(target->id.v != 0);
    if (!store->database)
        return 0;
    bool alone = begin_alone(store);
    if (store->rc == SQLITE_OK)
        store->rc = remove_app(store, target->id, target->name);
    if (store->rc == SQLITE_OK)
        store->rc = insert_app(store, target);
    if (store->rc == SQLITE_OK)
        store->rc = insert_rows(store, target);
    return alone ? store_commit(store, reterr) : 0;
}

int store_delete_app(struct store *store, struct application_id app, struct error *reterr)
{
    if (!store->database)
        return 0;
    bool alone = begin_alone(store);
    if (store->rc == SQLITE_OK)
        store->rc = remove_app(store, app, (struct bytes){0});
    return alone ? store_commit(store, reterr) : 0;
}

/* ---- reading ---- */

struct ids {
    uint64_t *at;
    size_t count, capacity;
};

static void add_id(struct ids *ids, uint64_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? 2 * ids->capacity : 16;
        ids->at =
            mem_try_resize(ids->at, ids->capacity * sizeof *ids->at, capacity * sizeof *ids->at);
        ensure(ids->at);
        ids->capacity = capacity;
    }
    ids->at[ids->count++] = id;
}

static int find_ids(const struct store *store, struct ids *ids)
{
    sqlite3_stmt *statement;
    int rc = prepare(store, "SELECT id FROM applications ORDER BY id", &statement);
    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW && ids->count < STORE_APPS_LIMIT)
        add_id(ids, (uint64_t)sqlite3_column_int64(statement, 0));
    sqlite3_finalize(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* 0, or an error that has its text already. */
static int read_app(const struct store *store, struct controller_app_target *target,
                    struct arena *arena, struct error *reterr)
{
    sqlite3_stmt *statement;
    int rc = prepare(
        store, "SELECT name, route_prefix, ingress, declarative FROM applications WHERE id = ?",
        &statement);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)target->id.v);
        rc = sqlite3_step(statement);
    }
    struct bytes *members[] = {&target->name, &target->route_prefix, &target->ingress};
    bool copied = true;
    for (int i = 0; rc == SQLITE_ROW && i < 3; i++) {
        *members[i] = arena_copy(arena, column_bytes(statement, i));
        copied = copied && members[i]->at;
    }
    if (rc == SQLITE_ROW)
        target->declarative = sqlite3_column_int(statement, 3) != 0;
    sqlite3_finalize(statement);
    if (!copied)
        return error_set(reterr, ERROR_MEMORY, "no memory for a stored application");
    return rc == SQLITE_ROW ? 0 : store_failed(store, rc, "has an application lost", reterr);
}

static int read_row(sqlite3_stmt *statement, struct controller_app_target *target,
                    struct controller_deployment_target *rows, struct arena *arena,
                    struct error *reterr)
{
    struct controller_deployment_target *row = rows + target->deployment_count;
    *row = (struct controller_deployment_target){0};
    if (target->deployment_count++ >= TARGET_DEPLOYMENT_LIMIT)
        return error_set(reterr, ERROR_INVALID,
                         "stored application '%.*s' has too many deployments",
                         BYTES_PRINT(bytes_head(target->name, 100)));
    for (int i = 0; i < COLUMN_COUNT; i++)
        if (!read_column(statement, i, &columns[i], row, arena))
            return error_set(reterr, ERROR_INVALID,
                             "stored application '%.*s' is broken: %s of deployment %u",
                             BYTES_PRINT(bytes_head(target->name, 100)), columns[i].name,
                             target->deployment_count - 1);
    return 0;
}

static int read_rows(const struct store *store, struct controller_app_target *target,
                     struct controller_deployment_target *rows, struct arena *arena,
                     struct error *reterr)
{
    char sql[SQL_SIZE] = "SELECT ";
    sqlite3_stmt *statement;
    int code = 0;
    print_columns(sql, strlen(sql), 0);
    strcat(sql, " FROM deployments WHERE application = ? ORDER BY position");
    int rc = prepare(store, sql, &statement);
    if (rc == SQLITE_OK)
        sqlite3_bind_int64(statement, 1, (sqlite3_int64)target->id.v);
    while (rc == SQLITE_OK && code == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        code = read_row(statement, target, rows, arena, reterr);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    if (code == 0 && rc != SQLITE_DONE)
        code = store_failed(store, rc, "has a deployment lost", reterr);
    return code;
}

void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner)
{
    struct arena_blocks blocks;
    struct arena arena;
    struct ids ids = {0};
    struct error error = {0};
    if (!store->database)
        return;
    int rc = find_ids(store, &ids);
    size_t rows_size = (TARGET_DEPLOYMENT_LIMIT + 1) * sizeof(struct controller_deployment_target);
    struct controller_deployment_target *rows = ids.count ? mem_new(rows_size) : NULL;
    arena_blocks_init(&blocks, 1);
    arena_init(&arena, &blocks, SIZE_MAX / 2); /* SQLite limits what a row may hold */
    for (size_t i = 0; i < ids.count; i++) {
        struct controller_app_target target = {.id = {ids.at[i]}, .deployments = rows};
        error = (struct error){0};
        int code = read_app(store, &target, &arena, &error);
        if (code == 0)
            code = read_rows(store, &target, rows, &arena, &error);
        take(owner, code == 0 ? &target : NULL, &error);
        arena_clear(&arena);
    }
    if (rc != SQLITE_OK) {
        store_failed(store, rc, "does not say which applications there are", &error);
        take(owner, NULL, &error);
    }
    arena_blocks_done(&blocks);
    mem_free(rows);
    mem_free(ids.at);
}
