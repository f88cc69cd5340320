/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a builder's manta_bind calls to the target document: names, handles, arguments, errors that
 * stick, and versions that change exactly when a replica must be replaced.
 *
 * The builders are those of tests/objects/graphs.c.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <manta/sys/deploy.h>

#include "bind.h"
#include "target.h"
#include "value.h"

#define GRAPHS TEST_OBJECTS "/libgraphs.so:"

/* The target of an application, as its deployments. */
struct built {
    struct text document;
    struct bytes ingress;
    uint32_t count;
    struct target_deployment deployments[8];
    struct target_replica replicas[8];
};

static void read_target(struct built *built)
{
    struct error error = {0};
    cr_assert_eq(
        target_read_app(text_bytes(&built->document), &built->ingress, &built->count, &error), 0,
        "%s", error.text);
    cr_assert_leq(built->count, 8);
    for (uint32_t i = 0; i < built->count; i++) {
        cr_assert_eq(
            target_read_deployment(text_bytes(&built->document), i, &built->deployments[i], &error),
            0, "%s", error.text);
        cr_assert_eq(
            target_read_replica(built->deployments[i].replica, &built->replicas[i], &error), 0,
            "%s", error.text);
    }
}

/* Builds what must be right; `arguments` ends with null. */
static struct built build_as(const char *target, const char *name, const char *const *arguments)
{
    struct built built = {0};
    struct error error = {0};
    text_init(&built.document, 1 << 26);
    cr_assert_eq(app_build(target, name, arguments, NULL, &built.document, &error), 0, "%s: %s",
                 target, error.text);
    read_target(&built);
    return built;
}

static struct built build(const char *target)
{
    return build_as(target, "app", NULL);
}

static struct error build_wrong(const char *target, int code)
{
    struct text document;
    struct error error = {0};
    text_init(&document, 1 << 26);
    cr_assert_eq(app_build(target, "app", NULL, NULL, &document, &error), code, "%s: %s", target,
                 error.text);
    cr_assert_eq(error.code, code);
    text_done(&document);
    return error;
}

/* With one override of it; `code` 0: it must be right. */
static struct built build_over(const char *target, struct manta_deploy_override override, int code,
                               struct error *ret_error)
{
    struct built built = {0};
    struct app_overrides overrides = {.at = &override, .count = 1};
    text_init(&built.document, 1 << 26);
    cr_assert_eq(app_build(target, "app", NULL, &overrides, &built.document, ret_error), code, "%s",
                 ret_error->text);
    if (code == 0)
        read_target(&built);
    return built;
}

static bool named(const struct target_deployment *deployment, const char *name)
{
    return bytes_equal(deployment->name, bytes_of_string(name));
}

static const struct target_deployment *find(const struct built *built, const char *name,
                                            const struct target_replica **ret_replica)
{
    for (uint32_t i = 0; i < built->count; i++)
        if (named(&built->deployments[i], name)) {
            if (ret_replica)
                *ret_replica = &built->replicas[i];
            return &built->deployments[i];
        }
    cr_assert_fail("there is no deployment '%s'", name);
    return NULL;
}

/* The deployment that an argument is a handle to. */
static struct bytes handle_to(struct bytes args, uint32_t index)
{
    struct value item, app, deployment;
    cr_assert(value_array_at(args, index, &item));
    cr_assert_eq(item.type, VALUE_EXTENSION);
    cr_assert_eq(item.extension, VALUE_EXTENSION_HANDLE);
    cr_assert(value_array_at(item.bytes, 0, &app));
    cr_assert(value_array_at(item.bytes, 1, &deployment));
    cr_assert(bytes_equal(app.bytes, BYTES("app")));
    return deployment.bytes;
}

static void assert_json(struct bytes document, const char *expected)
{
    struct text json;
    text_init(&json, 10000);
    value_print(document, &json);
    cr_assert_str_eq(text_string(&json), expected);
    text_done(&json);
}

/* ---- options from outside the code ---- */

Test(api_bind, options_from_outside_stand_above_those_of_the_code)
{
    static const char *const ARGUMENTS[] = {"max_queued_requests=9", NULL};
    struct built before = build_as(GRAPHS "single", "app", ARGUMENTS);
    struct error error = {0};
    struct built after = build_over(GRAPHS "single",
                                    (struct manta_deploy_override){
                                        MANTA_DEPLOY_OVERRIDE,
                                        .name = "leaf",
                                        .num_replicas = 0,
                                        .max_ongoing_requests = 17,
                                        .graceful_shutdown_timeout_s = 0,
                                        .health_check_period_s = 3,
                                        .user_config = "{\"a\":2}",
                                        .max_surge_percent = 0,
                                        .rolling_update_percentage = 0.25,
                                    },
                                    0, &error);
    const struct target_deployment *deployment = &after.deployments[0];
    cr_assert_eq(deployment->num_replicas, 0);
    cr_assert_eq(deployment->max_ongoing_requests, 17);
    cr_assert_eq(deployment->max_queued_requests, -1);
    cr_assert_eq(deployment->graceful_shutdown_timeout_us, 0);
    cr_assert_eq(deployment->health_check_period_us, 3000000);
    cr_assert_eq(deployment->max_surge_percent, 0);
    cr_assert_eq(deployment->rolling_update_millionths, 250000);
    cr_assert_eq(deployment->max_constructor_retry_count, 20);
    cr_assert_eq(deployment->health_check_timeout_us,
                 before.deployments[0].health_check_timeout_us);
    cr_assert(bytes_equal(after.replicas[0].user_config, BYTES("{\"a\":2}")));
    text_done(&before.document);
    text_done(&after.document);
}

Test(api_bind, options_from_outside_that_are_wrong_are_named)
{
    struct error error = {0};
    struct built built = build_over(
        GRAPHS "single", (struct manta_deploy_override){MANTA_DEPLOY_OVERRIDE, .name = "nobody"},
        ERROR_INVALID, &error);
    cr_assert_str_eq(error.text, "Deployment 'nobody' does not exist. Available: ['leaf']");
    text_done(&built.document);
    error = (struct error){0};
    built = build_over(GRAPHS "single",
                       (struct manta_deploy_override){MANTA_DEPLOY_OVERRIDE, .name = "leaf",
                                                      .max_ongoing_requests = -4},
                       ERROR_INVALID, &error);
    cr_assert(strstr(error.text, "max_ongoing_requests"), "%s", error.text);
    text_done(&built.document);
}

/* ---- graphs ---------------------------------------------------------------------------------- */

Test(api_bind, one_deployment_with_its_options)
{
    static const char *const ARGUMENTS[] = {"num_replicas=3",
                                            "max_ongoing_requests=7",
                                            "max_queued_requests=9",
                                            "threads=2",
                                            "graceful_shutdown_timeout_s=1.5",
                                            "health_check_period_s=0.25",
                                            "health_check_timeout_s=0.5",
                                            "user_config={\"a\":1}",
                                            "stream_body=1",
                                            "number=5",
                                            "text=hello=there",
                                            NULL};
    struct built built = build_as(GRAPHS "single", "sums", ARGUMENTS);
    const struct target_replica *replica;
    const struct target_deployment *leaf = find(&built, "leaf", &replica);
    cr_assert_eq(built.count, 1);
    cr_assert(bytes_equal(built.ingress, BYTES("leaf")));
    cr_assert(bytes_equal(leaf->runner, BYTES("c")));
    cr_assert_eq(leaf->num_replicas, 3);
    cr_assert_eq(leaf->max_ongoing_requests, 7);
    cr_assert_eq(leaf->max_queued_requests, 9);
    cr_assert_eq(leaf->graceful_shutdown_timeout_us, 1500000);
    cr_assert_eq(leaf->health_check_period_us, 250000);
    cr_assert_eq(leaf->health_check_timeout_us, 500000);
    cr_assert(leaf->stream_body);
    cr_assert(bytes_equal(replica->app, BYTES("sums")));
    cr_assert(bytes_equal(replica->deployment, BYTES("leaf")));
    cr_assert(bytes_equal(replica->symbol, BYTES("leaf")));
    cr_assert_eq(replica->library.at[0], '/');
    cr_assert_eq(replica->threads, 2);
    cr_assert_eq(replica->max_ongoing_requests, 7);
    cr_assert_eq(replica->max_batch_size, 1, "without call_batch nothing is batched");
    cr_assert(bytes_equal(replica->user_config, BYTES("{\"a\":1}")));
    assert_json(replica->args, "[5,\"hello=there\"]");
    text_done(&built.document);
}

Test(api_bind, a_name_that_is_taken_gets_a_number)
{
    struct built built = build(GRAPHS "same_names");
    const struct target_replica *root;
    cr_assert_eq(built.count, 4);
    cr_assert(bytes_equal(built.ingress, BYTES("root")));
    find(&built, "leaf", NULL);
    find(&built, "leaf_1", NULL);
    find(&built, "leaf_2", NULL);
    find(&built, "root", &root);
    /* C does not say in which order arguments are evaluated: each leaf is there once. */
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t other = 0; other < i; other++)
            cr_assert_not(bytes_equal(handle_to(root->args, i), handle_to(root->args, other)));
    text_done(&built.document);
}

Test(api_bind, a_deployment_that_is_given_twice_is_one_deployment)
{
    struct built built = build(GRAPHS "diamond");
    const struct target_replica *left, *right, *root;
    cr_assert_eq(built.count, 4);
    find(&built, "left", &left);
    cr_assert_eq(find(&built, "right", &right)->num_replicas, 3);
    find(&built, "root", &root);
    cr_assert(bytes_equal(handle_to(left->args, 0), BYTES("leaf")));
    cr_assert(bytes_equal(handle_to(right->args, 0), BYTES("leaf")));
    cr_assert(bytes_equal(handle_to(root->args, 0), BYTES("left")));
    cr_assert(bytes_equal(handle_to(root->args, 1), BYTES("right")));
    /* A copy under another name still finds its entry points by the identifier. */
    cr_assert(bytes_equal(left->symbol, BYTES("root")));
    text_done(&built.document);
}

Test(api_bind, arguments_of_every_type_arrive)
{
    struct built built = build(GRAPHS "all_values");
    const struct target_replica *root;
    struct value item;
    find(&built, "root", &root);
    cr_assert(bytes_equal(handle_to(root->args, 7), BYTES("leaf")));
    cr_assert(value_array_at(root->args, 6, &item));
    assert_json(item.raw, "{\"list\":[1,null]}");
    static const enum value_type TYPES[] = {VALUE_NIL,   VALUE_BOOL,      VALUE_INT,
                                            VALUE_FLOAT, VALUE_STRING,    VALUE_BINARY,
                                            VALUE_MAP,   VALUE_EXTENSION, VALUE_NIL};
    for (uint32_t i = 0; i < 9; i++) {
        cr_assert(value_array_at(root->args, i, &item));
        cr_assert_eq(item.type, TYPES[i], "argument %u", i);
    }
    cr_assert_not(value_array_at(root->args, 9, &item));
    text_done(&built.document);
}

Test(api_bind, an_array_may_hold_more_arguments_than_a_list)
{
    struct built built = build(GRAPHS "array");
    struct value last;
    cr_assert(value_array_at(built.replicas[0].args, 299, &last));
    cr_assert_eq(last.integer, 299);
    text_done(&built.document);
    struct error error = build_wrong(GRAPHS "list", ERROR_DEPLOY_FAILED);
    cr_assert_not_null(strstr(error.text, "manta_bind_array"), "%s", error.text);
}

/* ---- what is wrong ----------------------------------------------------------------------------
 */

Test(api_bind, the_first_failure_of_a_builder_is_told)
{
    struct error error = build_wrong(GRAPHS "two_failures", ERROR_DEPLOY_FAILED);
    cr_assert_str_eq(error.text, "the first failure of 2");
    error = build_wrong(GRAPHS "goes_on", ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "'no name'"), "%s", error.text);
}

Test(api_bind, a_builder_must_return_a_bound_deployment)
{
    struct error error = build_wrong(GRAPHS "nothing", ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "'nothing' did not return"), "%s", error.text);
    build_wrong(GRAPHS "number", ERROR_INVALID);
}

Test(api_bind, arguments_that_make_no_sense_are_refused)
{
    struct error error = build_wrong(GRAPHS "bad_pack", ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "packed value"), "%s", error.text);
    error = build_wrong(GRAPHS "self_made", ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "77"), "%s", error.text);
    error = build_wrong(GRAPHS "large", ERROR_LIMIT);
    cr_assert_not_null(strstr(error.text, "16 MiB"), "%s", error.text);
}

Test(api_bind, an_application_has_at_most_1024_deployments)
{
    struct error error = build_wrong(GRAPHS "one_too_many", ERROR_LIMIT);
    cr_assert_not_null(strstr(error.text, "1024"), "%s", error.text);
}

Test(api_bind, a_target_is_a_path_and_a_name)
{
    static const char *const WRONG[] = {"", ":", "lib.so", "lib.so:", ":app", GRAPHS};
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        struct error error = build_wrong(WRONG[i], ERROR_INVALID);
        cr_assert_not_null(strstr(error.text, "path/to/lib.so:application"), "%s", error.text);
    }
    build_wrong("/no/such.so:app", ERROR_NOT_FOUND);
    build_wrong("/tmp:app", ERROR_LOAD);
    build_wrong(GRAPHS "missing", ERROR_NOT_FOUND);
    build_wrong(TEST_OBJECTS "/libversions.so:newer", ERROR_VERSION);
    build_wrong(TEST_OBJECTS "/libversions.so:shorter", ERROR_INVALID);
    build_wrong(TEST_OBJECTS "/libunresolved.so:unresolved", ERROR_LOAD);
}

Test(api_bind, a_path_may_have_colons)
{
    char path[] = "/tmp/manta:test-XXXXXX", target[100];
    cr_assert_not_null(mkdtemp(path));
    snprintf(target, sizeof target, "%s/lib:graphs.so", path);
    cr_assert_eq(symlink(TEST_OBJECTS "/libgraphs.so", target), 0);
    snprintf(target, sizeof target, "%s/lib:graphs.so:diamond", path);
    struct built built = build(target);
    cr_assert_eq(built.count, 4);
    text_done(&built.document);
    snprintf(target, sizeof target, "%s/lib:graphs.so", path);
    unlink(target);
    rmdir(path);
}

/* ---- arguments of the command line -------------------------------------------------------------
 */

Test(api_bind, the_first_argument_of_a_key_counts)
{
    static const char *const ARGUMENTS[] = {"number=1", "numbers=9", "number=2", "num=8", NULL};
    struct built built = build_as(GRAPHS "single", "app", ARGUMENTS);
    assert_json(built.replicas[0].args, "[1,null]");
    text_done(&built.document);
}

Test(api_bind, an_argument_may_be_empty)
{
    static const char *const ARGUMENTS[] = {"text=", NULL};
    struct built built = build_as(GRAPHS "single", "app", ARGUMENTS);
    assert_json(built.replicas[0].args, "[0,\"\"]");
    text_done(&built.document);
}

/* ---- versions -----------------------------------------------------------------------------------
 */

static uint64_t version_with(const char *argument)
{
    const char *arguments[] = {argument, NULL};
    struct built built = build_as(GRAPHS "single", "app", arguments);
    uint64_t version = built.deployments[0].version;
    text_done(&built.document);
    return version;
}

Test(api_bind, what_is_told_to_running_replicas_does_not_change_the_version)
{
    static const char *const KEEP[] = {"num_replicas=4",
                                       "max_ongoing_requests=9",
                                       "max_queued_requests=3",
                                       "unknown=1",
                                       "number=0",
                                       "user_config={}",
                                       "graceful_shutdown_timeout_s=1",
                                       "health_check_period_s=1",
                                       "health_check_timeout_s=1"};
    uint64_t version = version_with(NULL);
    for (size_t i = 0; i < sizeof KEEP / sizeof *KEEP; i++)
        cr_assert_eq(version_with(KEEP[i]), version, "%s", KEEP[i]);
}

Test(api_bind, what_needs_another_process_changes_the_version)
{
    static const char *const CHANGE[] = {"number=1", "number=2",  "text=a",
                                         "text=",    "threads=2", "stream_body=1"};
    enum { COUNT = sizeof CHANGE / sizeof *CHANGE };
    uint64_t versions[COUNT + 1] = {version_with(NULL)};
    for (size_t i = 0; i < COUNT; i++) {
        versions[i + 1] = version_with(CHANGE[i]);
        for (size_t other = 0; other <= i; other++)
            cr_assert_neq(versions[i + 1], versions[other], "%s", CHANGE[i]);
    }
}

static int64_t configuration_with(const char *option)
{
    const char *const options[] = {option, NULL};
    struct built built = build_as(GRAPHS "single", "app", options);
    struct target_configuration configuration;
    struct error error = {0};
    int code = target_read_configuration_of(built.deployments[0].replica, &configuration, &error);
    cr_assert_eq(code, 0, "%s", error.text);
    text_done(&built.document);
    return configuration.configuration;
}

Test(api_bind, what_is_told_to_running_replicas_changes_the_configuration)
{
    static const char *const CHANGE[] = {
        "user_config={}",          "user_config={ }",          "graceful_shutdown_timeout_s=1",
        "health_check_period_s=1", "health_check_timeout_s=1", "max_ongoing_requests=9"};
    static const char *const KEEP[] = {"num_replicas=4", "max_queued_requests=3", "text=a",
                                       "threads=2"};
    enum { COUNT = sizeof CHANGE / sizeof *CHANGE };
    int64_t configurations[COUNT + 1] = {configuration_with(NULL)};
    for (size_t i = 0; i < COUNT; i++) {
        configurations[i + 1] = configuration_with(CHANGE[i]);
        cr_assert_neq(configurations[i + 1], 0);
        for (size_t other = 0; other <= i; other++)
            cr_assert_neq(configurations[i + 1], configurations[other], "%s", CHANGE[i]);
    }
    for (size_t i = 0; i < sizeof KEEP / sizeof *KEEP; i++)
        cr_assert_eq(configuration_with(KEEP[i]), configurations[0], "%s", KEEP[i]);
}

Test(api_bind, neighbouring_members_are_not_confused)
{
    static const char *const ONE[] = {"text=ab", "threads=1", NULL};
    static const char *const OTHER[] = {"text=a", "threads=1", NULL};
    struct built one = build_as(GRAPHS "single", "app", ONE);
    struct built other = build_as(GRAPHS "single", "app", OTHER);
    cr_assert_neq(one.deployments[0].version, other.deployments[0].version);
    text_done(&one.document);
    text_done(&other.document);
}

/* Copies the shared object, with `more` bytes behind it that the loader does not look at. */
static void copy_object(const char *path, size_t more)
{
    char bytes[65536] = {0};
    size_t size;
    FILE *from = fopen(TEST_OBJECTS "/libgraphs.so", "rb"), *to = fopen(path, "wb");
    while ((size = fread(bytes, 1, sizeof bytes, from)) > 0)
        cr_assert_eq(fwrite(bytes, 1, size, to), size);
    cr_assert_eq(fwrite("more bytes", 1, more, to), more);
    fclose(from);
    fclose(to);
}

Test(api_bind, the_bytes_of_the_library_are_part_of_the_version)
{
    char directory[] = "/tmp/manta-test-XXXXXX", path[64], target[96];
    uint64_t versions[3];
    static const size_t MORE[] = {0, 3, 0};
    /* With it libmanta is loaded, which a copy in another directory would not find. */
    void *original = dlopen(TEST_OBJECTS "/libgraphs.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(original);
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/libgraphs.so", directory);
    snprintf(target, sizeof target, "%s:single", path);
    for (size_t i = 0; i < 3; i++) {
        copy_object(path, MORE[i]);
        struct built built = build(target);
        versions[i] = built.deployments[0].version;
        text_done(&built.document);
    }
    dlclose(original);
    cr_assert_neq(versions[0], versions[1]);
    cr_assert_eq(versions[0], versions[2], "the same bytes again are the same version");
    unlink(path);
    rmdir(directory);
}

Test(api_bind, deployments_of_one_application_have_versions_of_their_own)
{
    struct built built = build(GRAPHS "diamond");
    const struct target_replica *replica;
    uint64_t leaf = find(&built, "leaf", &replica)->version;
    uint64_t left = find(&built, "left", &replica)->version;
    uint64_t root = find(&built, "root", &replica)->version;
    cr_assert(leaf != left && left != root && root != leaf);
    /* They differ in nothing but their names, which no process needs to know. */
    cr_assert_eq(find(&built, "right", &replica)->version, left);
    text_done(&built.document);
}
