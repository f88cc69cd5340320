/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_world: see api_world.h.
 */
#include "api_world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct world world;

void world_prepare(void)
{
    strcpy(world.directory, "/tmp/manta-XXXXXX");
    cr_assert_not_null(mkdtemp(world.directory));
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", world.directory, 1), 0);
    unsetenv("MANTA_INSTANCE");
}

void world_start(void)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    world_prepare();
    options.http_port = -1;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
}

bool world_is_local(void)
{
    return getenv("MANTA_LOCAL_TESTING") != NULL;
}

int world_instances(void)
{
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "%s/manta", world.directory);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

void world_end(void)
{
    char path[64];
    struct manta_error error = {0};
    if (world.instance)
        cr_assert_eq(manta_shutdown(world.instance, &error), 0, "%s", error.text);
    world.instance = NULL;
    cr_assert_eq(world_instances(), 0);
    snprintf(path, sizeof path, "%s/manta", world.directory);
    rmdir(path);
    cr_assert_eq(rmdir(world.directory), 0, "%s is not empty", world.directory);
}

void world_run(const char *target, const char *const *arguments)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_error error = {0};
    options.name = strrchr(target, ':') + 1;
    options.route_prefix = NULL;
    options.arguments = arguments;
    cr_assert_eq(manta_run(world.instance, target, &options, &error), 0, "%s: %s", target,
                 error.text);
}

struct manta_handle *world_handle(const char *app)
{
    struct manta_handle *handle = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_get_app_handle(world.instance, app, &handle, &error), 0, "%s", error.text);
    return handle;
}

struct manta_handle *world_serve(const char *target)
{
    world_run(target, NULL);
    return world_handle(strrchr(target, ':') + 1);
}

/* ---- calls ---------------------------------------------------------------------------------- */

struct manta_call *call_begin(struct manta_handle *handle, const struct manta_call_options *options,
                              const struct manta_arg *args, size_t count)
{
    struct manta_call *call = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_call(handle, options, args, count, &call, &error), 0, "%s", error.text);
    cr_assert_not_null(call);
    return call;
}

struct manta_call *call_word(struct manta_handle *handle, const char *word)
{
    return call_begin(handle, NULL, (struct manta_arg[]){manta_string(word)}, 1);
}

const char *call_result(struct manta_call *call)
{
    static char json[10000];
    struct manta_error error = {0};
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), 0, "%s", error.text);
    cr_assert(manta_call_over(call));
    cr_assert_lt(manta_value_json(manta_call_value(call), json, sizeof json), sizeof json);
    return json;
}

struct manta_error call_failure(struct manta_call *call)
{
    struct manta_error error = {0};
    int code = manta_call_wait(call, PATIENCE_S, &error);
    cr_assert_lt(code, 0, "the call should have failed");
    cr_assert_eq(error.code, code);
    cr_assert(manta_call_over(call), "it only did not end: %s", error.text);
    cr_assert_eq(manta_value_type(manta_call_value(call)), MANTA_NIL);
    manta_call_free(call);
    return error;
}

const char *ask(struct manta_handle *handle, const char *word)
{
    struct manta_call *call = call_word(handle, word);
    const char *json = call_result(call);
    manta_call_free(call);
    return json;
}

void ask_until(struct manta_handle *handle, const char *word, const char *expected)
{
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; strcmp(ask(handle, word), expected) != 0; i++) {
        cr_assert_lt(i, PATIENCE_S * 1000, "'%s' never answers %s", word, expected);
        nanosleep(&pause, NULL);
    }
}
