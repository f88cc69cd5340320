/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_open: the file of the store, from finding it to trusting it.
 *
 *     lock --> open --> schema --> whole? --> count this life
 *                |         |          |
 *                +---------+----------+-- broken: put aside, a new one with what can be read
 *
 * A database that somebody else wrote, or a newer version of us, is refused and stays as it is.  A
 * life that cannot be counted (disk full, read only) is no reason to stay away: what can be read is
 * served, the number is above the others anyway, and writes are refused until they succeed.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "ensure.h"
#include "store_inside.h"

enum { ASIDE_LIMIT = 10000 /* broken files that lie there */, ASIDE_SIZE = STORE_PATH_SIZE + 32 };

/* ---- the lock ---- */

static int take_lock(struct store *store, const char *directory, struct error *reterr)
{
    char path[STORE_PATH_SIZE + 32];
    snprintf(path, sizeof path, "%s/controller.lock", directory);
    store->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock < 0)
        return error_set(reterr, ERROR_SYSTEM, "%s cannot be opened: %s", path, strerror(errno));
    if (flock(store->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return error_set(reterr, ERROR_EXISTS,
                     "the store %s belongs to another controller that runs (%s is locked)",
                     store->path, path);
}

/* ---- the file ---- */

/* SQLite would make it readable for everybody, within the mask. */
static void make_file(const char *path)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor >= 0)
        close(descriptor);
}

static int open_file(struct store *store, const char *path)
{
    int rc =
        sqlite3_open_v2(path, &store->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return rc;
    size_t limit = store->size_limit < INT32_MAX / 2 ? store->size_limit : INT32_MAX / 2;
    sqlite3_limit(store->database, SQLITE_LIMIT_LENGTH, (int)limit + 65536);
    sqlite3_extended_result_codes(store->database, 1);
    sqlite3_busy_timeout(store->database, STORE_BUSY_MS);
    /* What may be broken is not written to, not even by its being closed. */
    sqlite3_db_config(store->database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return SQLITE_OK;
}

/* `synchronous` first: a change of the journal's mode is a commit. */
static int prepare_file(struct store *store, bool durable)
{
    int rc = sqlite3_exec(store->database,
                          durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF", NULL,
                          NULL, NULL);
    return rc != SQLITE_OK ? rc
                           : sqlite3_exec(store->database,
                                          "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON",
                                          NULL, NULL, NULL);
}

static int check_whole(struct store *store)
{
    sqlite3_stmt *statement;
    int rc = sqlite3_prepare_v2(store->database, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(statement);
    const void *verdict = rc == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
    bool whole = verdict && strcmp(verdict, "ok") == 0;
    sqlite3_finalize(statement);
    return rc != SQLITE_ROW ? rc : whole ? SQLITE_OK : SQLITE_CORRUPT;
}

static int check_version(const struct store *store, int version, struct error *reterr)
{
    if (version == STORE_FOREIGN)
        return error_set(reterr, ERROR_INVALID,
                         "%s is a database, but not a store of Manta: it is left alone; move it "
                         "away to begin without it",
                         store->path);
    if (version > store_schema_count)
        return error_set(reterr, ERROR_VERSION,
                         "the store %s was written by a newer version of Manta (its version is %d, "
                         "this one knows up to %d): it is left alone; start the newer one",
                         store->path, version, store_schema_count);
    return 0;
}

/* *ret_broken: the error is that of a file that is not whole. */
static int open_database(struct store *store, bool durable, bool *ret_broken, struct error *reterr)
{
    int version = 0;
    make_file(store->path);
    int rc = open_file(store, store->path);
    if (rc == SQLITE_OK)
        rc = prepare_file(store, durable);
    if (rc == SQLITE_OK)
        rc = store_schema_bring(store->database, store_schema_steps, store_schema_count, &version);
    /* Only the machine's fall can tear it, and what it would tear is not read again. */
    if (rc == SQLITE_OK && durable && version > 0 && version <= store_schema_count)
        rc = check_whole(store);
    *ret_broken = store_is_broken(rc);
    if (*ret_broken && sqlite3_errcode(store->database) == SQLITE_OK)
        return error_set(reterr, ERROR_SYSTEM, "the store %s is broken", store->path);
    if (rc != SQLITE_OK)
        return store_failed(store, rc, *ret_broken ? "is broken" : "cannot be opened", reterr);
    int code = check_version(store, version, reterr);
    if (code == 0)
        sqlite3_db_config(store->database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return code;
}

static void close_database(struct store *store)
{
    int rc = sqlite3_close(store->database);
    ensure(rc == SQLITE_OK); /* every statement was finished */
    store->database = NULL;
}

/* ---- a broken one ---- */

/* The log of what was written last goes with it; its index is made anew. */
static int put_aside(const struct store *store, char ret_aside[ASIDE_SIZE], struct error *reterr)
{
    char from[ASIDE_SIZE], to[ASIDE_SIZE + 8];
    int number = 1;
    do
        snprintf(ret_aside, ASIDE_SIZE, "%s.broken-%d", store->path, number);
    while (access(ret_aside, F_OK) == 0 && ++number < ASIDE_LIMIT);
    snprintf(from, sizeof from, "%s-wal", store->path);
    snprintf(to, sizeof to, "%s-wal", ret_aside);
    if (rename(from, to) != 0 && errno != ENOENT)
        return error_set(reterr, ERROR_SYSTEM, "%s cannot be put aside: %s", from, strerror(errno));
    if (rename(store->path, ret_aside) != 0)
        return error_set(reterr, ERROR_SYSTEM, "the broken store %s cannot be put aside: %s",
                         store->path, strerror(errno));
    snprintf(from, sizeof from, "%s-shm", store->path);
    unlink(from);
    return 0;
}

struct rescue {
    struct store *into;
    uint32_t saved, lost;
};

static void take_rescued(void *owner, const struct controller_app_target *target,
                         const struct error *error)
{
    struct rescue *rescue = owner;
    (void)error;
    if (target && store_save_app(rescue->into, target, NULL) == 0)
        rescue->saved++;
    else
        rescue->lost++;
}

/* Copies what can be read.  *ret_lives stays as it is where that cannot. */
static struct rescue rescue_rows(struct store *store, const char *aside, uint64_t *ret_lives)
{
    struct store broken = {.lock = -1, .size_limit = store->size_limit};
    struct rescue rescue = {.into = store};
    uint64_t lives = 0;
    snprintf(broken.path, sizeof broken.path, "%.*s", STORE_PATH_SIZE - 1, aside);
    if (open_file(&broken, aside) == SQLITE_OK) {
        int version = 0; /* rows of an older one are read with today's columns */
        store_schema_bring(broken.database, store_schema_steps, store_schema_count, &version);
        store_each(&broken, take_rescued, &rescue);
        if (store_read_lives(&broken, &lives) == SQLITE_OK && lives)
            *ret_lives = lives;
    }
    close_database(&broken);
    return rescue;
}

static int replace_broken(struct store *store, bool durable, uint64_t *ret_lives,
                          struct error *reterr)
{
    char aside[ASIDE_SIZE], reason[ERROR_TEXT_SIZE];
    bool broken;
    snprintf(reason, sizeof reason, "%s", reterr->text);
    close_database(store);
    if (put_aside(store, aside, reterr) < 0 || open_database(store, durable, &broken, reterr) < 0)
        return reterr->code;
    struct rescue rescue = rescue_rows(store, aside, ret_lives);
    snprintf(store->notice, sizeof store->notice,
             "%.200s; it is kept as %.200s; %u applications could be read from it%s", reason, aside,
             rescue.saved, rescue.lost ? ", others could not" : "");
    return 0;
}

/* Of an earlier life; whoever has seen to it removes the file. */
static void notice_earlier(struct store *store)
{
    char pattern[ASIDE_SIZE];
    glob_t found = {0};
    snprintf(pattern, sizeof pattern, "%s.broken-*[0-9]", store->path);
    if (!store->notice[0] && glob(pattern, 0, NULL, &found) == 0)
        snprintf(store->notice, sizeof store->notice,
                 "the store was broken once; what was left of it is kept as %.400s",
                 found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
}

/* ---- lives ---- */

/*
 * R4: `start` counts the controllers of this node, so that the number grows even where it could not
 * be written.  A store that lost its count while readers and replicas live takes the time, which
 * is above every count.
 */
static int count_life(struct store *store, uint64_t lives, uint32_t start)
{
    uint64_t kept = 0;
    struct error error = {0};
    int rc = store_read_lives(store, &kept);
    if (kept > lives)
        lives = kept;
    if (lives == 0 && start > 0)
        lives = (uint64_t)time(NULL);
    store->life = lives + start;
    if (rc == SQLITE_OK)
        rc = store_write_lives(store, store->life + 1);
    if (rc == SQLITE_OK)
        return 0;
    store_failed(store, rc, "takes nothing", &error);
    memcpy(store->trouble, error.text, sizeof store->trouble);
    return error.code;
}

int store_open(struct store *store, const struct store_config *config, struct error *reterr)
{
    bool broken = false;
    uint64_t lives = 0;
    *store = (struct store){.lock = -1, .life = config->start, .size_limit = config->size_limit};
    if (!config->directory)
        return 0;
    if (strlen(config->directory) > sizeof store->path - 64)
        return error_set(reterr, ERROR_INVALID, "the path of the store's directory is too long");
    snprintf(store->path, sizeof store->path, "%s/controller.store", config->directory);
    if (take_lock(store, config->directory, reterr) < 0)
        return reterr->code;
    int code = open_database(store, config->durable, &broken, reterr);
    if (code < 0 && broken)
        code = replace_broken(store, config->durable, &lives, reterr);
    if (code < 0)
        return code;
    count_life(store, lives, config->start);
    notice_earlier(store);
    return 0;
}

void store_close(struct store *store)
{
    if (store->database)
        close_database(store);
    if (store->lock >= 0)
        close(store->lock);
    store->lock = -1;
}
