/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Targets that are kept, and found again as they were.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store.h"

enum { LIMIT = 1 << 20 };

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
     .replicas = 2,
     .max_ongoing = 5,
     .max_queued = -1,
     .graceful_shutdown_timeout_ns = 20000000000,
     .health_check_period_ns = 10000000000,
     .health_check_timeout_ns = INT64_MAX,
     .streams_body = true,
     .body = {(const uint8_t *)"\0body", 5}},
    {.name = {(const uint8_t *)"other", 5}, .id = {8}},
};
static const struct controller_app_target target = {
    .id = {3},
    .name = {(const uint8_t *)"math", 4},
    .route_prefix = {(const uint8_t *)"/m", 2},
    .ingress = {(const uint8_t *)"adder", 5},
    .deployments = rows,
    .deployment_count = 2,
};

struct found {
    uint32_t count, broken;
    uint64_t ids[8];
    char text[ERROR_TEXT_SIZE];
};

static void check_equal(const struct controller_app_target *is)
{
    cr_assert_eq(is->id.v, target.id.v);
    cr_assert(bytes_equal(is->name, target.name));
    cr_assert(bytes_equal(is->route_prefix, target.route_prefix));
    cr_assert(bytes_equal(is->ingress, target.ingress));
    cr_assert_eq(is->deployment_count, target.deployment_count);
    for (uint32_t i = 0; i < is->deployment_count; i++) {
        const struct controller_deployment_target *row = is->deployments + i;
        cr_assert(bytes_equal(row->name, rows[i].name));
        cr_assert(bytes_equal(row->body, rows[i].body));
        cr_assert_eq(row->id.v, rows[i].id.v);
        cr_assert_eq(row->version, rows[i].version);
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

static struct store open_store(void)
{
    struct store store;
    struct error error = {0};
    cr_assert_eq(store_open(&store, directory, LIMIT, &error), 0, "%s", error.text);
    return store;
}

static struct found find_all(const struct store *store)
{
    struct found found = {0};
    store_each(store, take, &found);
    return found;
}

Test(store, a_target_is_found_again_as_it_was)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0, "%s", error.text);
    store = open_store();
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.broken, 0);
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
}

Test(store, applications_come_in_the_order_of_their_ids)
{
    struct store store = open_store();
    struct error error = {0};
    static const uint64_t ids[] = {11, 2, 1048577};
    for (int i = 0; i < 3; i++) {
        struct controller_app_target app = target;
        app.id.v = ids[i];
        cr_assert_eq(store_save_app(&store, &app, &error), 0);
    }
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 3);
    cr_assert(found.ids[0] == 2 && found.ids[1] == 11 && found.ids[2] == 1048577);
}

Test(store, a_deleted_one_is_gone_and_may_be_deleted_again)
{
    struct store store = open_store();
    struct error error = {0};
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(find_all(&store).count, 0);
}

Test(store, lives_are_counted)
{
    cr_assert_eq(open_store().life, 0);
    cr_assert_eq(open_store().life, 1);
    cr_assert_eq(open_store().life, 2);
}

Test(store, without_a_directory_nothing_is_kept)
{
    struct store store;
    struct error error = {0};
    cr_assert_eq(store_open(&store, NULL, LIMIT, &error), 0);
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    cr_assert_eq(store_delete_app(&store, target.id, &error), 0);
    cr_assert_eq(find_all(&store).count, 0);
}

Test(store, a_directory_that_is_gone_is_an_error)
{
    struct store store = open_store();
    struct error error = {0};
    snprintf(store.directory, sizeof store.directory, "%s/gone", directory);
    cr_assert_eq(store_save_app(&store, &target, &error), ERROR_SYSTEM);
    cr_assert(strstr(error.text, "gone"));
}

Test(store, a_target_over_the_limit_is_refused)
{
    struct store store = open_store();
    struct error error = {0};
    struct controller_deployment_target row = rows[0];
    struct controller_app_target large = target;
    row.body = bytes_of(calloc(1, 2 * LIMIT), 2 * LIMIT);
    large.deployments = &row;
    large.deployment_count = 1;
    cr_assert_eq(store_save_app(&store, &large, &error), ERROR_MEMORY);
    free((void *)row.body.at);
}

/* Every prefix of a document and every byte of it turned: an error or a target, never a crash. */
Test(store, broken_documents_are_refused)
{
    struct text document;
    text_init(&document, LIMIT);
    store_write_target(&document, &target);
    for (size_t size = 0; size < document.size; size++) {
        struct controller_deployment_target read_rows[4];
        struct controller_app_target is;
        struct error error = {0};
        cr_assert_eq(store_read_target(bytes_of(document.at, size), &is, read_rows, 4, &error),
                     ERROR_INVALID);
        cr_assert_neq(error.text[0], 0);
    }
    for (size_t at = 0; at < document.size; at++) {
        struct controller_deployment_target read_rows[4];
        struct controller_app_target is;
        struct error error = {0};
        document.at[at] ^= 0x55;
        int code = store_read_target(text_bytes(&document), &is, read_rows, 4, &error);
        cr_assert(code == 0 || code == ERROR_INVALID);
        document.at[at] ^= 0x55;
    }
    text_done(&document);
}

Test(store, one_broken_file_hides_no_other)
{
    struct store store = open_store();
    struct error error = {0};
    char path[128];
    cr_assert_eq(store_save_app(&store, &target, &error), 0);
    snprintf(path, sizeof path, "%s/2.app.store", directory);
    int descriptor = open(path, O_CREAT | O_WRONLY, 0600);
    cr_assert_eq(write(descriptor, "nonsense", 8), 8);
    close(descriptor);
    struct found found = find_all(&store);
    cr_assert_eq(found.count, 1);
    cr_assert_eq(found.broken, 1);
    cr_assert(strstr(found.text, "broken"));
}
