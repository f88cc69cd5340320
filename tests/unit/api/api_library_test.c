/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening shared objects and judging what is in them: everything that a user may get wrong has an
 * error that says so.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "library.h"

#define OBJECT(name) TEST_OBJECTS "/lib" name ".so"

static void *open_object(const char *path)
{
    void *library = NULL;
    struct error error = {0};
    cr_assert_eq(library_open(path, &library, &error), 0, "%s", error.text);
    return library;
}

/* ---- the file ------------------------------------------------------------------------------ */

static void assert_not_opened(const char *path, int code, const char *words)
{
    void *library = NULL;
    struct error error = {0};
    cr_assert_eq(library_open(path, &library, &error), code, "%s: %s", path, error.text);
    cr_assert_not_null(strstr(error.text, words), "%s", error.text);
    cr_assert_null(library);
}

Test(api_library, a_missing_file_is_not_found)
{
    assert_not_opened("/no/such/file.so", ERROR_NOT_FOUND, "/no/such/file.so");
    assert_not_opened("missing.so", ERROR_NOT_FOUND, "./missing.so");
}

Test(api_library, a_directory_is_no_shared_object)
{
    assert_not_opened("/tmp", ERROR_LOAD, "'/tmp' is not a file");
}

Test(api_library, a_file_that_is_no_elf_is_refused_in_the_loaders_words)
{
    char path[] = "/tmp/manta-test-XXXXXX";
    int file = mkstemp(path);
    cr_assert_eq(write(file, "#!/bin/sh\n", 10), 10);
    close(file);
    assert_not_opened(path, ERROR_LOAD, path);
    truncate(path, 0);
    assert_not_opened(path, ERROR_LOAD, "too short");
    unlink(path);
}

Test(api_library, a_shared_object_that_is_not_whole_is_refused_wherever_it_ends)
{
    static char bytes[1 << 20];
    char path[] = "/tmp/manta-test-XXXXXX";
    FILE *whole = fopen(OBJECT("plain"), "rb");
    size_t size = fread(bytes, 1, sizeof bytes, whole);
    fclose(whole);
    cr_assert(size > 4096 && size < sizeof bytes);
    int file = mkstemp(path);
    for (size_t length = 0; length < size; length += length < 1200 ? 1 : 997) {
        struct error error = {0};
        void *library = NULL;
        cr_assert_eq(ftruncate(file, 0), 0);
        cr_assert_eq(pwrite(file, bytes, length, 0), (ssize_t)length);
        int code = library_open(path, &library, &error);
        /* Behind the last segment lie only sections, which nobody needs to run it. */
        cr_assert(code == ERROR_LOAD || (code == 0 && length > 4096), "%zu: %d", length, code);
        library_close(library);
    }
    close(file);
    unlink(path);
}

Test(api_library, a_missing_symbol_is_named)
{
    assert_not_opened(OBJECT("unresolved"), ERROR_LOAD, "a_function_that_nobody_has");
}

Test(api_library, a_name_without_a_slash_is_looked_for_here_and_not_in_system_directories)
{
    cr_assert_eq(chdir(TEST_OBJECTS), 0);
    library_close(open_object("libplain.so"));
    assert_not_opened("libc.so.6", ERROR_NOT_FOUND, "./libc.so.6");
}

/* ---- what is in it -------------------------------------------------------------------------- */

Test(api_library, deployments_and_applications_are_found_by_name)
{
    void *library = open_object(OBJECT("answer"));
    struct manta_deployment deployment;
    library_builder *builder = NULL;
    struct error error = {0};
    cr_assert_eq(library_deployment(library, "gate", &deployment, &error), 0, "%s", error.text);
    cr_assert_str_eq(deployment.name, "gate");
    cr_assert_str_eq(deployment.symbol, "gate");
    cr_assert_eq(deployment.max_ongoing_requests, 64);
    cr_assert_not_null(deployment.open);
    cr_assert_eq(library_application(library, OBJECT("answer"), "gate", &builder, &error), 0);
    cr_assert_not_null(builder);
    library_close(library);
    library_close(NULL);
}

Test(api_library, defaults_are_ray_serves)
{
    void *library = open_object(OBJECT("no_application"));
    struct manta_deployment deployment;
    struct error error = {0};
    cr_assert_eq(library_deployment(library, "alone", &deployment, &error), 0, "%s", error.text);
    cr_assert_eq(deployment.num_replicas, 1);
    cr_assert_eq(deployment.max_ongoing_requests, 5);
    cr_assert_eq(deployment.max_queued_requests, -1);
    cr_assert_eq(deployment.threads, 1);
    cr_assert_eq(deployment.max_batch_size, 10);
    cr_assert_eq(deployment.batch_wait_timeout_s, 0.01);
    cr_assert_eq(deployment.graceful_shutdown_wait_loop_s, 2);
    cr_assert_eq(deployment.graceful_shutdown_timeout_s, 20);
    cr_assert_eq(deployment.health_check_period_s, 10);
    cr_assert_eq(deployment.health_check_timeout_s, 30);
    cr_assert_null(deployment.user_config);
    cr_assert_not(deployment.stream_body);
    library_close(library);
}

static void assert_no_application(const char *path, const char *name, const char *words)
{
    void *library = open_object(path);
    library_builder *builder = NULL;
    struct error error = {0};
    cr_assert_eq(library_application(library, path, name, &builder, &error), ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, words), "%s", error.text);
    cr_assert_null(builder);
    library_close(library);
}

Test(api_library, an_unknown_application_is_answered_with_those_that_are_there)
{
    void *library = open_object(OBJECT("versions"));
    library_builder *builder;
    struct error error = {0};
    cr_assert_eq(library_application(library, OBJECT("versions"), "older", &builder, &error),
                 ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "has no application 'older'"), "%s", error.text);
    static const char *const THERE[] = {"newer", "longer", "shorter", "handmade"};
    for (size_t i = 0; i < 4; i++)
        cr_assert_not_null(strstr(error.text, THERE[i]), "%s", error.text);
    library_close(library);
}

Test(api_library, an_object_without_applications_says_so)
{
    assert_no_application(OBJECT("no_application"), "alone", "it has: none");
    assert_no_application(OBJECT("plain"), "plain", "it has: none");
    assert_no_application(OBJECT("answer"), "", "it has: ");
}

Test(api_library, an_unknown_deployment_is_not_found)
{
    void *library = open_object(OBJECT("plain"));
    struct manta_deployment deployment = {.size = 5};
    struct error error = {0};
    char long_name[5000];
    cr_assert_eq(library_deployment(library, "plain", &deployment, &error), ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "has no deployment 'plain'"), "%s", error.text);
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    cr_assert_eq(library_deployment(library, long_name, &deployment, &error), ERROR_NOT_FOUND);
    cr_assert_eq(deployment.size, 5);
    library_close(library);
}

/* ---- versions -------------------------------------------------------------------------------- */

static int judge_version(const char *symbol, struct error *reterr)
{
    void *library = open_object(OBJECT("versions"));
    struct manta_deployment deployment;
    int code = library_deployment(library, symbol, &deployment, reterr);
    library_close(library);
    return code;
}

Test(api_library, a_newer_header_is_refused_with_advice)
{
    struct error error = {0};
    cr_assert_eq(judge_version("newer", &error), ERROR_VERSION);
    cr_assert_not_null(strstr(error.text, "header version 2, this is version 1"), "%s", error.text);
    cr_assert_eq(judge_version("longer", &error), ERROR_VERSION);
}

Test(api_library, a_descriptor_that_no_header_made_is_refused)
{
    struct error error = {0};
    cr_assert_eq(judge_version("shorter", &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "MANTA_DEPLOYMENT"), "%s", error.text);
    cr_assert_eq(judge_version("handmade", &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "its size is 0"), "%s", error.text);
}

static void nobody_calls(void *state, struct manta_request *request)
{
    (void)state, (void)request;
}

Test(api_library, a_descriptor_of_an_older_header_is_read_as_far_as_it_goes)
{
    void *library = open_object(OBJECT("older_header"));
    struct manta_deployment deployment;
    struct error error = {0};
    cr_assert_eq(library_deployment(library, "older", &deployment, &error), 0, "%s", error.text);
    cr_assert_eq(deployment.size, sizeof deployment);
    cr_assert_eq(deployment.max_ongoing_requests, 5);
    cr_assert_null(deployment.load_model);
    cr_assert_null(deployment.unload_model);
    cr_assert_eq(deployment.max_models, 3);
    cr_assert_eq(deployment.model_load_timeout_s, 0);
    cr_assert_eq(deployment.max_surge_percent, 100);
    cr_assert_float_eq(deployment.rolling_update_percentage, 0.2, 1e-9);
    cr_assert_eq(deployment.max_constructor_retry_count, 20);
    cr_assert_eq(deployment.start_timeout_s, 0);
    library_close(library);
}

Test(api_library, what_it_says_of_rollouts_is_checked)
{
    static const char *const words[] = {
        "max_surge_percent must be 0 to 100", "rolling_update_percentage must be above 0, up to 1",
        "max_constructor_retry_count must be at least 1", "start_timeout_s must be at least 0"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct manta_deployment given = {MANTA_DEPLOYMENT_DEFAULTS(a)}, checked;
        struct error error = {0};
        given.call = nobody_calls;
        cr_assert_eq(library_check_deployment(&given, &checked, &error), 0, "%s", error.text);
        given.max_surge_percent = i == 0 ? 101 : 0;
        given.rolling_update_percentage = i == 1 ? 1.5 : 1;
        given.max_constructor_retry_count = i == 2 ? 0 : 1;
        given.start_timeout_s = i == 3 ? -1 : 0.5;
        cr_assert_eq(library_check_deployment(&given, &checked, &error), ERROR_INVALID);
        cr_assert_not_null(strstr(error.text, words[i]), "%s", error.text);
    }
}

/* ---- models ---------------------------------------------------------------------------------- */

static void assert_models_refused(const char *symbol, const char *words)
{
    void *library = open_object(OBJECT("models"));
    struct manta_deployment deployment;
    struct error error = {0};
    cr_assert_eq(library_deployment(library, symbol, &deployment, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, words), "%s", error.text);
    library_close(library);
}

Test(api_library, what_it_says_of_models_is_checked)
{
    assert_models_refused("no_model", "max_models must be at least 1, or -1");
    assert_models_refused("below", "max_models must be at least 1, or -1");
    assert_models_refused("unloads_only", "has an unload_model but no load_model");
    assert_models_refused("backwards", "model_load_timeout_s must be at least 0");
}

/* ---- options --------------------------------------------------------------------------------- */

static void any_call(void *state, struct manta_request *request)
{
    (void)state;
    (void)request;
}

static const struct manta_deployment GOOD = {MANTA_DEPLOYMENT_DEFAULTS(good), .call = any_call};

static void assert_refused(const struct manta_deployment *deployment, const char *words)
{
    struct manta_deployment checked = {.size = 5};
    struct error error = {0};
    cr_assert_eq(library_check_deployment(deployment, &checked, &error), ERROR_INVALID, "%s",
                 words);
    cr_assert_not_null(strstr(error.text, words), "'%s' says nothing of %s", error.text, words);
    cr_assert_eq(checked.size, 5, "outputs are untouched on failure");
}

static void assert_accepted(const struct manta_deployment *deployment, const char *what)
{
    struct manta_deployment checked;
    struct error error = {0};
    cr_assert_eq(library_check_deployment(deployment, &checked, &error), 0, "%s: %s", what,
                 error.text);
}

/* A number of the struct: what is accepted at both ends, and what lies just beyond. */
struct range {
    const char *name;
    size_t offset;
    int32_t accepted[2], refused[3];
};

Test(api_library, whole_numbers_out_of_range_are_named)
{
#define MEMBER(name) #name, offsetof(struct manta_deployment, name)
    static const struct range RANGES[] = {
        {MEMBER(num_replicas), {0, 100000}, {-1, 100001, INT32_MIN}},
        {MEMBER(max_ongoing_requests), {1, 1000000}, {0, 1000001, -1}},
        {MEMBER(max_queued_requests), {-1, INT32_MAX}, {0, -2, INT32_MIN}},
        {MEMBER(threads), {1, 256}, {0, 257, -1}},
        {MEMBER(max_batch_size), {1, 4096}, {0, 4097, -1}},
        {MEMBER(max_concurrent_batches), {1, 256}, {0, 257, -1}},
    };
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        struct manta_deployment deployment = GOOD;
        int32_t *member = (int32_t *)(void *)((char *)&deployment + RANGES[i].offset);
        for (size_t n = 0; n < 2; n++) {
            *member = RANGES[i].accepted[n];
            assert_accepted(&deployment, RANGES[i].name);
        }
        for (size_t n = 0; n < 3; n++) {
            *member = RANGES[i].refused[n];
            assert_refused(&deployment, RANGES[i].name);
        }
    }
}

/* As above, for seconds; NaN is always refused. */
struct range_s {
    const char *name;
    size_t offset;
    double accepted[2], refused[2];
};

Test(api_library, seconds_out_of_range_are_named)
{
    static const struct range_s RANGES[] = {
        {MEMBER(batch_wait_timeout_s), {0, 86400}, {-0.001, 86401}},
        {MEMBER(graceful_shutdown_timeout_s), {0, 1e9}, {-1, 2e9}},
        {MEMBER(graceful_shutdown_wait_loop_s), {0, 1e9}, {-1, -0.001}},
        {MEMBER(health_check_period_s), {0.001, 1e9}, {0, -1}},
        {MEMBER(health_check_timeout_s), {0.001, 1e9}, {0, -1}},
    };
#undef MEMBER
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        struct manta_deployment deployment = GOOD;
        double *member = (double *)(void *)((char *)&deployment + RANGES[i].offset);
        for (size_t n = 0; n < 2; n++) {
            *member = RANGES[i].accepted[n];
            assert_accepted(&deployment, RANGES[i].name);
            *member = RANGES[i].refused[n];
            assert_refused(&deployment, RANGES[i].name);
        }
        *member = (double)NAN;
        assert_refused(&deployment, RANGES[i].name);
    }
}

Test(api_library, names_have_letters_digits_and_three_signs)
{
    static const char *const REFUSED[] = {"", "a b", "a/b", "a#b", "\xc3\xa4", "a\n", NULL};
    struct manta_deployment deployment = GOOD;
    char name[130];
    deployment.name = "A-z_0.9";
    assert_accepted(&deployment, "all signs");
    memset(name, 'x', sizeof name);
    name[128] = 0;
    deployment.name = name;
    assert_accepted(&deployment, "128");
    name[128] = 'x';
    name[129] = 0;
    assert_refused(&deployment, "name");
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        deployment.name = REFUSED[i];
        assert_refused(&deployment, "name");
    }
}

Test(api_library, entry_points_that_lack_are_named)
{
    static const struct manta_method GOOD_METHODS[] = {{"scale", any_call}};
    static const struct manta_method BAD_METHODS[][1] = {
        {{NULL, any_call}}, {{"", any_call}}, {{"__call__", any_call}}, {{"scale", NULL}}};
    struct manta_deployment deployment = GOOD;
    deployment.call = NULL;
    assert_refused(&deployment, "neither call nor call_batch");
    deployment = GOOD;
    deployment.user_config = "{}";
    assert_refused(&deployment, "reconfigure");
    deployment = GOOD;
    deployment.method_count = 1;
    assert_refused(&deployment, "methods");
    deployment.methods = GOOD_METHODS;
    assert_accepted(&deployment, "a method");
    for (size_t i = 0; i < sizeof BAD_METHODS / sizeof *BAD_METHODS; i++) {
        deployment.methods = BAD_METHODS[i];
        assert_refused(&deployment, "method 0");
    }
}

/* ---- hashes ---------------------------------------------------------------------------------- */

Test(api_library, the_hash_of_a_file_is_that_of_its_bytes)
{
    char path[] = "/tmp/manta-test-XXXXXX";
    uint64_t first = 0, second = 0, third = 0;
    struct error error = {0};
    int file = mkstemp(path);
    cr_assert_eq(write(file, "one", 3), 3);
    cr_assert_eq(library_hash(path, &first, &error), 0);
    cr_assert_eq(pwrite(file, "one", 3, 0), 3);
    cr_assert_eq(library_hash(path, &second, &error), 0);
    cr_assert_eq(first, second, "when it was written does not count");
    cr_assert_eq(pwrite(file, "two", 3, 0), 3);
    cr_assert_eq(library_hash(path, &third, &error), 0);
    cr_assert_neq(first, third);
    close(file);
    unlink(path);
    cr_assert_eq(library_hash(path, &first, &error), ERROR_NOT_FOUND);
}

Test(api_library, hashes_go_on_from_hashes)
{
    uint64_t one = library_hash_more(1, BYTES("a"));
    cr_assert_neq(one, library_hash_more(2, BYTES("a")));
    cr_assert_neq(one, library_hash_more(1, BYTES("b")));
    cr_assert_neq(library_hash_more(one, BYTES("b")), library_hash_more(one, BYTES("")));
    cr_assert_eq(library_hash_more(1, (struct bytes){0}), library_hash_more(1, BYTES("")));
}
