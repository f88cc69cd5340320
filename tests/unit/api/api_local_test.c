/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local testing: what is different inside the program.  What is the same is told by the tests of calls
 * and by tests/local, which run both ways.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api_world.h"

/* ---- deployments of the program itself --------------------------------------------------------- */

static void answer_process(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_int(request, getpid());
}

static void never_answer(void *state, struct manta_request *request)
{
    (void)state, (void)request;
}

/* Does not return before the test is over. */
static void hang(void *state, struct manta_request *request)
{
    struct timespec pause = {.tv_sec = 20};
    (void)state, (void)request;
    nanosleep(&pause, NULL);
}

MANTA_DEPLOYMENT(process, .call = answer_process);
MANTA_DEPLOYMENT(silent, .call = never_answer, .graceful_shutdown_timeout_s = 0.05);
MANTA_DEPLOYMENT(hanging, .call = hang, .graceful_shutdown_timeout_s = 0.05);

MANTA_APPLICATION(process)
{
    struct manta_deployment renamed = process;
    char name[32];
    snprintf(name, sizeof name, "%s", manta_app_argument(app, "name", "process"));
    renamed.name = name;
    return manta_bind(app, &renamed);
}

MANTA_APPLICATION(silent)
{
    return manta_bind(app, &silent);
}

MANTA_APPLICATION(hanging)
{
    return manta_bind(app, &hanging);
}

static void begin(void)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    world_prepare();
    options.local_testing = true;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
}

static void run_own(const char *name, manta_builder *builder)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_error error = {0};
    options.name = name;
    cr_assert_eq(manta_run_builder(world.instance, builder, &options, &error), 0, "%s", error.text);
}

/* ---- stories ---------------------------------------------------------------------------------- */

Test(api_local, a_builder_of_the_program_runs_in_the_program, .timeout = 60)
{
    begin();
    run_own("process", manta_application_process);
    struct manta_handle *handle = world_handle("process");
    cr_assert_eq(atoi(ask(handle, "")), getpid());
    manta_handle_free(handle);
    world_end();
}

Test(api_local, a_builder_of_the_program_is_found_by_its_name, .timeout = 60)
{
    struct manta_error error = {0};
    begin();
    world_run(":process", (const char *const[]){"name=renamed", NULL});
    struct manta_handle *handle = NULL;
    cr_assert_eq(
        manta_get_deployment_handle(world.instance, "process", "renamed", &handle, &error), 0, "%s",
        error.text);
    cr_assert_eq(atoi(ask(handle, "")), getpid());
    manta_handle_free(handle);
    cr_assert_eq(manta_run(world.instance, ":absent", NULL, &error), MANTA_ENOTFOUND);
    cr_assert_not_null(strstr(error.text, "manta_run_builder"), "%s", error.text);
    world_end();
}

Test(api_local, other_instances_refuse_builders_of_the_program, .timeout = 60)
{
    struct manta_error error = {0};
    world_start();
    cr_assert_eq(manta_run_builder(world.instance, manta_application_process, NULL, &error),
                 MANTA_EINVALID);
    cr_assert_not_null(strstr(error.text, "local_testing"), "%s", error.text);
    cr_assert_eq(manta_run(world.instance, ":process", NULL, &error), MANTA_EINVALID);
    world_end();
}

Test(api_local, a_shared_object_runs_in_the_program, .timeout = 60)
{
    begin();
    struct manta_handle *handle = world_serve(OBJECT("life") "call_crashes");
    cr_assert_eq(atoi(ask(handle, "")), getpid());
    manta_handle_free(handle);
    world_end();
}

Test(api_local, there_is_no_http, .timeout = 60)
{
    begin();
    cr_assert_eq(manta_http_port(world.instance), -1);
    cr_assert_eq(manta_instance_descriptor(world.instance), -1);
    world_end();
}

static void start_by(const char *variable, const char *value, bool local)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    setenv(variable, value, 1);
    options.http_port = -1;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    bool builders = manta_run_builder(world.instance, manta_application_process, NULL, NULL) == 0;
    cr_assert_eq(builders, local, "%s=%s", variable, value);
    unsetenv(variable);
    cr_assert_eq(manta_shutdown(world.instance, &error), 0, "%s", error.text);
    world.instance = NULL;
}

Test(api_local, the_environment_asks_for_it_too, .timeout = 60)
{
    world_prepare();
    start_by("MANTA_LOCAL_TESTING", "1", true);
    start_by("RAY_SERVE_FORCE_LOCAL_TESTING_MODE", "1", true);
    start_by("MANTA_LOCAL_TESTING", "0", false);
    world_end();
}

Test(api_local, two_of_them_know_nothing_of_each_other, .timeout = 60)
{
    begin();
    struct manta_instance *first = world.instance;
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    struct manta_handle *handle = NULL;
    options.local_testing = true;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    run_own("process", manta_application_process);
    cr_assert_eq(manta_get_app_handle(first, "process", &handle, &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_shutdown(first, &error), 0, "%s", error.text);
    handle = world_handle("process");
    cr_assert_eq(atoi(ask(handle, "")), getpid());
    manta_handle_free(handle);
    world_end();
}

Test(api_local, a_request_that_nobody_answers_does_not_keep_it_from_ending, .timeout = 60)
{
    begin();
    run_own("silent", manta_application_silent);
    struct manta_handle *handle = world_handle("silent");
    struct manta_call *call = call_word(handle, "");
    cr_assert_eq(manta_delete(world.instance, "silent", NULL), 0);
    manta_call_free(call);
    manta_handle_free(handle);
    world_end();
}

Test(api_local, code_that_does_not_return_is_left_alone, .timeout = 60)
{
    begin();
    run_own("hanging", manta_application_hanging);
    struct manta_handle *handle = world_handle("hanging");
    struct manta_call *call = call_word(handle, "");
    cr_assert_eq(manta_delete(world.instance, "hanging", NULL), 0);
    manta_call_free(call);
    manta_handle_free(handle);
    world_end();
}

Test(api_local, it_ends_by_itself_when_it_is_only_disconnected, .timeout = 60)
{
    begin();
    run_own("process", manta_application_process);
    world.instance = manta_disconnect(world.instance);
    for (int i = 0; world_instances() > 0; i++) {
        cr_assert_lt(i, 20000);
        usleep(1000);
    }
    world_end();
}
