/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard edges of embedding: what outlives its instance, forks, several instances, the death of the
 * program, answers that are none.  Most run both ways: with processes and inside the program.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_world.h"

/* ---- after the end ------------------------------------------------------------------------------ */

Test(api_edges, handles_and_calls_outlive_their_instance, .timeout = 60)
{
    struct manta_error error = {0};
    struct manta_value item;
    world_start();
    struct manta_handle *handle = world_serve(OBJECT("answer") "echo");
    struct manta_call *over = call_word(handle, "kept");
    struct manta_call *waiting = NULL, *none = NULL;
    struct manta_call_options stream = {MANTA_CALL_OPTIONS};
    stream.stream = true;
    cr_assert_str_eq(call_result(over), "[\"kept\"]");
    cr_assert_eq(manta_call(handle, &stream, NULL, 0, &waiting, &error), 0, "%s", error.text);
    cr_assert_eq(manta_shutdown(world.instance, &error), 0, "%s", error.text);
    world.instance = NULL;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(manta_call(handle, NULL, NULL, 0, &none, &error), MANTA_ECLOSED, "%s",
                     error.text);
        cr_assert_null(none);
    }
    cr_assert_str_eq(call_result(over), "[\"kept\"]"); /* what came stays */
    cr_assert(manta_call_over(waiting));
    while (manta_call_next(waiting, 1, &item, &error) > 0)
        ;
    manta_call_cancel(waiting);
    manta_call_free(waiting);
    cr_assert_str_eq(manta_handle_application(handle), "echo");
    manta_handle_free(handle);
    manta_call_free(over);
    world_end();
}

/* ---- forks -------------------------------------------------------------------------------------- */

struct made {
    struct manta_handle *handle;
    struct manta_call *call;
};

/* In the child: everything of the parent is dead, nothing hangs.  The number of the first lie. */
static int child_story(const struct made *made)
{
    struct manta_error error = {0};
    struct manta_pack *pack = manta_pack_new();
    struct manta_handle *handle = NULL;
    struct manta_call *call = NULL;
    struct manta_value item;
    alarm(30);
    if (manta_call(made->handle, NULL, NULL, 0, &call, &error) != MANTA_ECLOSED ||
        !strstr(error.text, "fork"))
        return 1;
    if (manta_call_wait(made->call, -1, &error) != MANTA_ECLOSED)
        return 2;
    if (manta_call_next(made->call, -1, &item, &error) != MANTA_ECLOSED)
        return 3;
    if (manta_value_type(manta_call_value(made->call)) != MANTA_NIL)
        return 4;
    if (manta_run(world.instance, OBJECT("answer") "echo", NULL, &error) != MANTA_ECLOSED)
        return 5;
    if (manta_delete(world.instance, "echo", &error) != MANTA_ECLOSED)
        return 6;
    if (manta_status(world.instance, pack, &error) != MANTA_ECLOSED)
        return 7;
    if (manta_get_app_handle(world.instance, "echo", &handle, &error) != MANTA_ECLOSED)
        return 8;
    manta_call_cancel(made->call);
    manta_call_free(made->call);
    manta_handle_free(made->handle);
    if (manta_shutdown(world.instance, &error) != MANTA_ECLOSED)
        return 9;
    manta_disconnect(world.instance);
    manta_pack_free(pack);
    return 0;
}

Test(api_edges, a_fork_can_do_nothing_to_its_parent, .timeout = 60)
{
    int status = 0;
    world_start();
    struct made made = {.handle = world_serve(OBJECT("answer") "echo")};
    made.call = call_word(made.handle, "x");
    pid_t child = fork();
    if (child == 0)
        _exit(child_story(&made));
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "lie %d", WEXITSTATUS(status));
    cr_assert_str_eq(call_result(made.call), "[\"x\"]");
    cr_assert_str_eq(ask(made.handle, "y"), "[\"y\"]");
    manta_call_free(made.call);
    manta_handle_free(made.handle);
    world_end();
}

Test(api_edges, a_fork_may_have_an_instance_of_its_own, .timeout = 60)
{
    int status = 0;
    world_start();
    pid_t child = fork();
    if (child == 0) {
        struct manta_start_options options = {MANTA_START_OPTIONS};
        options.http_port = -1;
        alarm(30);
        if (manta_start(&options, &world.instance, NULL) < 0)
            _exit(1);
        struct manta_handle *handle = world_serve(OBJECT("answer") "echo");
        int good = strcmp(ask(handle, "own"), "[\"own\"]") == 0;
        manta_handle_free(handle);
        _exit(good && manta_shutdown(world.instance, NULL) == 0 ? 0 : 2);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    world_end();
}

/* ---- the death of the program --------------------------------------------------------------------- */

/* With a child of it still there, which has the descriptors that it had when it forked. */
Test(api_edges, a_killed_program_takes_its_private_instance_along, .timeout = 60)
{
    int ready[2], status;
    char byte;
    if (world_is_local())
        cr_skip_test("there is nothing but the program");
    world_prepare();
    cr_assert_eq(pipe(ready), 0);
    pid_t program = fork();
    if (program == 0) {
        struct manta_start_options options = {MANTA_START_OPTIONS};
        options.http_port = -1;
        if (manta_start(&options, &world.instance, NULL) < 0)
            _exit(1);
        world_serve(OBJECT("answer") "echo");
        pid_t child = fork();
        if (child == 0) {
            close(ready[0]);
            close(ready[1]);
            alarm(20);
            pause();
            _exit(0);
        }
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1, "the program did not come up");
    cr_assert_eq(world_instances(), 1);
    kill(program, SIGKILL);
    cr_assert_eq(waitpid(program, &status, 0), program);
    for (int i = 0; world_instances() > 0; i++) {
        cr_assert_lt(i, 15000, "the instance outlives its program");
        usleep(1000);
    }
    close(ready[0]);
    world_end();
}

/* ---- several ------------------------------------------------------------------------------------- */

Test(api_edges, two_instances_of_one_program_are_strangers, .timeout = 60)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    struct manta_handle *handle = NULL;
    world_start();
    struct manta_instance *first = world.instance;
    options.http_port = -1;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    world_run(OBJECT("answer") "echo", NULL);
    cr_assert_eq(manta_get_app_handle(first, "echo", &handle, &error), MANTA_ENOTFOUND);
    handle = world_handle("echo");
    cr_assert_eq(manta_shutdown(first, &error), 0, "%s", error.text);
    cr_assert_str_eq(ask(handle, "second"), "[\"second\"]");
    manta_handle_free(handle);
    world_end();
}

/* ---- what is run is what answers ---------------------------------------------------------------- */

Test(api_edges, the_call_after_a_run_reaches_what_was_run, .timeout = 120)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_error error = {0};
    options.name = "swap";
    options.route_prefix = NULL;
    world_start();
    cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &options, &error), 0, "%s",
                 error.text);
    struct manta_handle *handle = world_handle("swap");
    for (int i = 0; i < 10; i++) {
        cr_assert_str_eq(ask(handle, "x"), "[\"x\"]", "round %d", i);
        cr_assert_eq(manta_run(world.instance, OBJECT("life") "call_crashes", &options, &error), 0,
                     "%s", error.text);
        cr_assert_gt(atoi(ask(handle, "x")), 0, "round %d", i);
        cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &options, &error), 0, "%s",
                     error.text);
    }
    manta_handle_free(handle);
    world_end();
}
