/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets that are kept, and found again as they were; what a disk does to them.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_inside.h"

enum { LIMIT = 1 << 20, APPS = 200 };

static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/manta-store-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(store, .init = make_directory, .fini = remove_directory);

static const struct controller_deployment_target rows[] = {
    {.name = {(const uint8_t *)"adder", 5},
     .id = {7},
     .version = UINT64_MAX,
     .configuration = UINT64_MAX - 1,
     .replicas = 2,
     .max_ongoing = 5,
     .max_queued = -1,
     .graceful_shutdown_timeout_ns = 20000000000,
     .health_check_period_ns = 10000000000,
     .health_check_timeout_ns = INT64_MAX,
     .rollout = {.max_surge_percent = 33,
                 .share_millionths = 123456,
                 .retry_limit = 7,
                 .start_timeout_ns = INT64_MAX - 1},
     .streams_body = true,
     .body = {(const uint8_t *)"\0body", 5}},
    {.name = {(const uint8_t *)"other", 5}, .id = {UINT64_MAX}, .replicas = UINT32_MAX},
};
static const struct controller_app_target target = {
    .id = {3},
    .name = {(const uint8_t *)"math", 4},
    .route_prefix = {(const uint8_t *)"/m", 2},
    .ingress = {(const uint8_t *)"adder", 5},
    .declarative = true,
    .deployments = rows,
    .deployment_count = 2,
};

struct found {
    uint32_t count, broken;
    uint64_t ids[APPS];
    char text[ERROR_TEXT_SIZE];
};

static void check_equal(const struct controller_app_target *is)
{
    cr_assert_eq(is->id.v, target.id.v);
    cr_assert(bytes_equal(is->name, target.name));
    cr_assert(bytes_equal(is->route_prefix, target.route_prefix));
    cr_assert(bytes_equal(is->ingress, target.ingress));
    cr_assert_eq(is->declarative, target.declarative);
    cr_assert_eq(is->deployment_count, target.deployment_count);
    for (uint32_t i = 0; i < is->deployment_count; i++) {
        const struct controller_deployment_target *row = is->deployments + i;
        cr_assert(bytes_equal(row->name, rows[i].name));
        cr_assert(bytes_equal(row->body, rows[i].body));
        cr_assert_eq(row->id.v, rows[i].id.v);
        cr_assert_eq(row->version, rows[i].version);
        cr_assert_eq(row->configuration, rows[i].configuration);
        cr_assert_eq(row->rollout.max_surge_percent, rows[i].rollout.max_surge_percent);
        cr_assert_eq(row->rollout.share_millionths, rows[i].rollout.share_millionths);
        cr_assert_eq(row->rollout.retry_limit, rows[i].rollout.retry_limit);
        cr_assert_eq(row->rollout.start_timeout_ns, rows[i].rollout.start_timeout_ns);
        cr_assert_eq(row->replicas, rows[i].replicas);
        cr_assert_eq(row->max_ongoing, rows[i].max_ongoing);
        cr_assert_eq(row->max_queued, rows[i].max_queued);
        cr_assert_eq(row->graceful_shutdown_timeout_ns, rows[i].graceful_shutdown_timeout_ns);
        cr_assert_eq(row->health_check_period_ns, rows[i].health_check_period_ns);
        cr_assert_eq(row->health_check_timeout_ns, rows[i].health_check_timeout_ns);
        cr_assert_eq(row->streams_body, rows[i].streams_body);
    }
}

static void take(void *owner, const struct controller_app_target *is, const struct error *error)
{
    struct found *found = owner;
    if (!is) {
        found->broken++;
        snprintf(found->text, sizeof found->text, "%s", error->text);
        return;
    }
    found->ids[found->count++] = is->id.v;
    if (is->id.v == target.id.v)
        check_equal(is);
}

static int try_open(struct store *store, uint32_t start, struct error *reterr)
{
    struct store_config config = {
        .directory = directory, .durable = true, .start = start, .size_limit = LIMIT};
    return store_open(store, &config, reterr);
}

static struct store open_store(void)
{
    struct store store;
    struct error error = {0};
    cr_assert_eq(try_open(&store, 0, &error), 0, "%s", error.text);
    return store;
}

static struct found find_all(const struct store *store)
{
    static struct found found;
    found = (struct found){0};
    store_each(store, take, &found);
    return found;
}

static int save(struct store *store, uint64_t id, const char *name, size_t body_size,
                struct error *reterr)
{
    struct controller_deployment_target row = rows[0];
    uint8_t *body = calloc(1, body_size + 1);
    memset(body, (int)id, body_size);
    row.body = bytes_of(body, body_size);
    struct controller_app_target app = target;
    app.id.v = id;
    app.name = bytes_of_string(name);
    app.deployments = &row;
    app.deployment_count = 1;
    int code = store_save_app(store, &app, reterr);
    free(body);
    return code;
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

/* ---- rows ---- */

Test(store, a_target_is_found_again_as_it_was)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0, "%s", error.text);
    store_close(&store);
    store = open_store();
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.broken, 0);
    store_close(&store);
}

Test(store, the_last_one_saved_counts)
{
    struct store store = open_store();
    struct error error = {0};
    struct controller_app_target before = target;
    before.deployment_count = 1;
    cr_assert_eq(store_save_app(&store, &before, &error), 0);
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(find_all(&store).count, 1);
    store_close(&store);
}

Test(store, a_name_is_there_once)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(save(&store, 8, "math", 3, &error), 0);
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.ids[0], target.id.v);
    store_close(&store);
}

Test(store, applications_come_in_the_order_of_their_ids)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(save(&store, 11, "a", 3, &error), 0);
    cr_assert_eq(save(&store, 2, "b", 3, &error), 0);
    cr_assert_eq(save(&store, 1048577, "c", 3, &error), 0);
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 3);
    cr_assert(found.ids[0] == 2 && found.ids[1] == 11 && found.ids[2] == 1048577);
    store_close(&store);
}

Test(store, a_deleted_one_is_gone_and_may_be_deleted_again)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(find_all(&store).count, 0);
    int left = -1;
    sqlite3_stmt *statement;
    cr_assert_eq(sqlite3_prepare_v2(store.database, "SELECT count(*) FROM deployments", -1,
                                    &statement, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
    left = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    cr_assert_eq(left, 0);
    store_close(&store);
}

Test(store, a_transaction_is_kept_whole_or_not_at_all)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(save(&store, 9, "before", 3, &error), 0);
    store_begin(&store);
    cr_assert_eq(store_delete_app(&store, (struct application_id){9}, &error), 0);
    cr_assert_eq(save(&store, 1, "large", 2 * LIMIT, &error), 0); /* is told at the end */
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_commit(&store, &error), ERROR_SYSTEM);
    cr_assert(strstr(error.text, "too big"), "%s", error.text);
    struct found found = find_all(&store);
    cr_assert(found.count == 1 && found.ids[0] == 9);
    store_begin(&store);
    cr_assert_eq(store_delete_app(&store, (struct application_id){9}, &error), 0);
    cr_assert_eq(save(&store, 1, "small", 3, &error), 0);
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_commit(&store, &error), 0);
    cr_assert_str_empty(store.trouble);
    found = find_all(&store);
    cr_assert(found.count == 2 && found.ids[0] == 1 && found.ids[1] == target.id.v);
    store_close(&store);
}

Test(store, without_a_directory_nothing_is_kept)
{
    struct store store;
    struct store_config config = {.start = 2};
    struct error error = {0};
    cr_assert_eq(store_open(&store, &config, &error), 0);
    cr_assert_eq(store.life, 2);
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(find_all(&store).count, 0);
    store_close(&store);
}

Test(store, a_directory_that_is_not_there_is_an_error)
{
    struct store store;
    struct error error = {0};
    struct store_config config = {.directory = path_of("gone")};
    cr_assert_eq(store_open(&store, &config, &error), ERROR_SYSTEM);
    cr_assert(strstr(error.text, "gone"));
    store_close(&store);
}

Test(store, a_target_over_the_limit_is_refused)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(save(&store, 3, "math", 2 * LIMIT, &error), ERROR_SYSTEM);
    cr_assert(strstr(error.text, "too big"), "%s", error.text);
    cr_assert_eq(find_all(&store).count, 0);
    store_close(&store);
}

Test(store, a_row_that_makes_no_sense_hides_no_other)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(save(&store, 9, "odd", 3, &error), 0);
    cr_assert_eq(sqlite3_exec(store.database,
                              "UPDATE deployments SET replicas = -1 WHERE application = 9", NULL,
                              NULL, NULL),
                 SQLITE_OK);
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.broken, 1);
    cr_assert(strstr(found.text, "'odd' is broken: replicas"), "%s", found.text);
    store_close(&store);
}

/* ---- lives ---- */

static uint64_t next_life(uint32_t start)
{
    struct store store;
    struct error error = {0};
    cr_assert_eq(try_open(&store, start, &error), 0, "%s", error.text);
    store_close(&store);
    return store.life;
}

Test(store, lives_are_counted)
{
    cr_assert_eq(next_life(0), 0);
    cr_assert_eq(next_life(0), 1);
    uint64_t last = next_life(1);
    cr_assert_gt(last, 1);
    cr_assert_gt(next_life(0), last);
}

/* R4: a life whose number could not be written is followed by a higher one all the same. */
Test(store, lives_grow_without_being_written)
{
    struct store store = open_store();
    cr_assert_eq(sqlite3_exec(store.database,
                              "CREATE TRIGGER never BEFORE INSERT ON numbers BEGIN SELECT "
                              "RAISE(ABORT, 'the disk is full'); END",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    uint64_t last = store.life;
    store_close(&store);
    for (uint32_t start = 1; start < 5; start++) {
        struct error error = {0};
        cr_assert_eq(try_open(&store, start, &error), 0, "%s", error.text);
        cr_assert(strstr(store.trouble, "the disk is full"), "%s", store.trouble);
        cr_assert_gt(store.life, last);
        last = store.life;
        store_close(&store);
    }
}

/* ---- who else is there ---- */

Test(store, a_store_belongs_to_one_controller)
{
    struct store store = open_store(), other;
    struct error error = {0};
    cr_assert_eq(try_open(&other, 0, &error), ERROR_EXISTS);
    cr_assert(strstr(error.text, "another controller"), "%s", error.text);
    store_close(&other);
    store_close(&store);
}

Test(store, while_another_process_holds_it_nothing_is_saved)
{
    struct store store = open_store();
    struct error error = {0};
    sqlite3 *shell;
    cr_assert_eq(save(&store, 1, "before", 3, &error), 0);
    cr_assert_eq(sqlite3_open(path_of("controller.store"), &shell), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(shell, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(save(&store, 2, "meanwhile", 3, &error), ERROR_SYSTEM);
    cr_assert(strstr(error.text, "takes nothing: another process holds it"), "%s", error.text);
    cr_assert_str_eq(store.trouble, error.text);
    cr_assert_eq(find_all(&store).count, 1);
    sqlite3_close(shell);
    cr_assert_eq(save(&store, 2, "after", 3, &error), 0);
    cr_assert_str_empty(store.trouble);
    cr_assert_eq(find_all(&store).count, 2);
    store_close(&store);
}

Test(store, only_its_user_may_read_it)
{
    struct store store = open_store();
    struct stat file;
    cr_assert_eq(stat(path_of("controller.store"), &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
    cr_assert_eq(stat(path_of("controller.store-wal"), &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
    store_close(&store);
}

/* ---- a disk that is full ---- */

static void limit_files(size_t size)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size ? size : limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(store, what_does_not_fit_on_the_disk_changes_nothing)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    limit_files(128 * 1024);
    int code = save(&store, target.id.v, "math", 512 * 1024, &error);
    struct found found = find_all(&store); /* compares with what was saved first */
    limit_files(0);
    cr_assert_eq(code, ERROR_SYSTEM);
    cr_assert(strstr(error.text, "takes nothing"), "%s", error.text);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.broken, 0);
    cr_assert_eq(save(&store, 4, "later", 512 * 1024, &error), 0, "%s", error.text);
    cr_assert_str_empty(store.trouble);
    store_close(&store);
    store = open_store();
    cr_assert_eq(find_all(&store).count, 2);
    cr_assert_str_empty(store.notice);
    store_close(&store);
}

/* ---- versions ---- */

static void change_file(const char *sql)
{
    sqlite3 *database;
    cr_assert_eq(sqlite3_open(path_of("controller.store"), &database), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_close(database), SQLITE_OK);
}

Test(store, one_of_a_newer_version_is_refused_and_kept)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    store_close(&store);
    change_file("PRAGMA user_version = 999");
    cr_assert_eq(try_open(&store, 0, &error), ERROR_VERSION);
    cr_assert(strstr(error.text, "newer version of Manta"), "%s", error.text);
    store_close(&store);
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", store_schema_count);
    change_file(sql);
    store = open_store();
    cr_assert_eq(find_all(&store).count, 1);
    store_close(&store);
}

/* What earlier steps wrote is found with the values that the later ones give. */
Test(store, one_of_the_first_version_is_brought_forward)
{
    char path[128];
    sqlite3 *database;
    int version;
    snprintf(path, sizeof path, "%s", path_of("controller.store"));
    cr_assert_eq(sqlite3_open(path, &database), SQLITE_OK);
    cr_assert_eq(store_schema_bring(database, store_schema_steps, 1, &version), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(database,
                              "INSERT INTO applications VALUES (5, x'61', x'', x'62');"
                              "INSERT INTO deployments VALUES (5, 0, x'62', 6, 1, 1, 5, -1, 0, 1, "
                              "1, 0, x'63')",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_close(database), SQLITE_OK);
    struct store store = open_store();
    struct found found = find_all(&store);
    cr_assert(found.count == 1 && found.broken == 0 && found.ids[0] == 5, "%s", found.text);
    store_close(&store);
}

Test(store, the_database_of_another_program_is_left_alone)
{
    struct store store;
    struct error error = {0};
    change_file("CREATE TABLE birds (name TEXT)");
    cr_assert_eq(try_open(&store, 0, &error), ERROR_INVALID);
    cr_assert(strstr(error.text, "not a store of Manta"), "%s", error.text);
    store_close(&store);
    change_file("INSERT INTO birds VALUES ('wren')");
}

static sqlite3 *memory_database(void)
{
    sqlite3 *database;
    cr_assert_eq(sqlite3_open(":memory:", &database), SQLITE_OK);
    return database;
}

Test(store, a_step_after_the_other_makes_the_newest_version)
{
    static const char *const steps[] = {
        "PRAGMA application_id = 1299084385; CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD COLUMN b INTEGER; UPDATE t SET b = a + 1",
        "UPDATE t SET b = b * 10",
        "UPDATE t SET b = nonsense",
    };
    sqlite3 *database = memory_database();
    int version = -9;
    cr_assert_eq(store_schema_bring(database, steps, 1, &version), SQLITE_OK);
    cr_assert_eq(version, 0);
    cr_assert_eq(store_schema_bring(database, steps, 3, &version), SQLITE_OK);
    cr_assert_eq(version, 1);
    cr_assert_eq(store_schema_bring(database, steps, 3, &version), SQLITE_OK);
    cr_assert_eq(version, 3);
    /* One that fails leaves the version before it. */
    cr_assert_neq(store_schema_bring(database, steps, 4, &version), SQLITE_OK);
    cr_assert_eq(store_schema_bring(database, steps, 2, &version), SQLITE_OK);
    cr_assert_eq(version, 3);
    sqlite3_stmt *statement;
    cr_assert_eq(sqlite3_prepare_v2(database, "SELECT b FROM t", -1, &statement, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
    cr_assert_eq(sqlite3_column_int(statement, 0), 20);
    sqlite3_finalize(statement);
    sqlite3_close(database);
}

/* ---- a file that is not whole ---- */

static void overwrite(size_t offset, size_t size)
{
    uint8_t noise[4096];
    int descriptor = open(path_of("controller.store"), O_WRONLY);
    cr_assert_geq(descriptor, 0);
    memset(noise, 0xa5, sizeof noise);
    for (size_t done = 0; done < size; done += sizeof noise) {
        size_t part = size - done < sizeof noise ? size - done : sizeof noise;
        cr_assert_eq(pwrite(descriptor, noise, part, (off_t)(offset + done)), (ssize_t)part);
    }
    close(descriptor);
}

static void fill(uint32_t count)
{
    struct store store = open_store();
    struct error error = {0};
    for (uint32_t i = 101; i <= 100 + count; i++) {
        char name[16];
        snprintf(name, sizeof name, "app%u", i);
        cr_assert_eq(save(&store, i, name, 2000, &error), 0);
    }
    store_close(&store);
}

Test(store, one_that_is_no_database_any_more_is_put_aside_and_told)
{
    fill(3);
    overwrite(0, 4096);
    struct store store = open_store();
    cr_assert(strstr(store.notice, "controller.store.broken-1"), "%s", store.notice);
    cr_assert_eq(access(path_of("controller.store.broken-1"), F_OK), 0);
    cr_assert_eq(find_all(&store).count, 0);
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0, "%s", error.text);
    store_close(&store);
    store = open_store(); /* told for as long as it lies there */
    cr_assert(strstr(store.notice, "controller.store.broken-1"), "%s", store.notice);
    cr_assert_eq(find_all(&store).count, 1);
    store_close(&store);
    cr_assert_eq(unlink(path_of("controller.store.broken-1")), 0);
    store = open_store();
    cr_assert_str_empty(store.notice);
    store_close(&store);
}

Test(store, what_can_be_read_of_a_broken_one_is_kept)
{
    struct stat file;
    fill(100);
    uint64_t lives = 1;
    cr_assert_eq(stat(path_of("controller.store"), &file), 0);
    overwrite((size_t)file.st_size - 5 * 4096, 4096); /* a page of deployments */
    struct store store = open_store();
    struct found found = find_all(&store);
    cr_assert(strstr(store.notice, "broken-1"), "%s", store.notice);
    cr_assert_gt(found.count, 50);
    cr_assert_lt(found.count, 100);
    cr_assert_eq(found.broken, 0);
    cr_assert_geq(store.life, lives);
    store_close(&store);
}

Test(store, a_second_broken_one_does_not_replace_the_first)
{
    fill(1);
    overwrite(0, 4096);
    fill(1);
    overwrite(0, 4096);
    struct store store = open_store();
    cr_assert(strstr(store.notice, "broken-2"), "%s", store.notice);
    cr_assert_eq(access(path_of("controller.store.broken-1"), F_OK), 0);
    store_close(&store);
}

/* Readers of a snapshot of the lost life must take the next one for newer (R4). */
Test(store, a_lost_count_is_replaced_by_a_higher_one_while_others_live)
{
    fill(1);
    overwrite(0, 4096);
    cr_assert_gt(next_life(1), 1000000);
}

/* Every page of the file turned to noise, and every tail cut off: an answer, never a crash. */
Test(store, no_broken_page_ends_the_controller, .timeout = 100)
{
    struct stat file;
    fill(4);
    cr_assert_eq(stat(path_of("controller.store"), &file), 0);
    size_t size = (size_t)file.st_size;
    uint8_t *whole = malloc(size);
    int descriptor = open(path_of("controller.store"), O_RDWR);
    cr_assert_eq(pread(descriptor, whole, size, 0), (ssize_t)size);
    for (size_t at = 0; at < size; at += 1024)
        for (int cut = 0; cut < 2; cut++) {
            struct store store;
            struct error error = {0};
            descriptor = open(path_of("controller.store"), O_RDWR | O_TRUNC);
            cr_assert_eq(pwrite(descriptor, whole, cut ? at : size, 0), (ssize_t)(cut ? at : size));
            close(descriptor);
            if (!cut)
                overwrite(at, 1024);
            cr_assert_eq(try_open(&store, 0, &error), 0, "%s", error.text);
            find_all(&store);
            store_close(&store);
            char command[128];
            snprintf(command, sizeof command, "rm -f %s/*.broken-*", directory);
            cr_assert_eq(system(command), 0);
        }
    free(whole);
}
