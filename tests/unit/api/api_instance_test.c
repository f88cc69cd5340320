/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/instance.h> with real processes: starting, running, replacing, looking, deleting, ending.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api_world.h"

/* ---- starting
 * ------------------------------------------------------------------------------------ */

static void assert_no_start(const struct manta_start_options *options, const char *words)
{
    struct manta_instance *instance = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_start(options, &instance, &error), MANTA_EINVALID, "%s", words);
    cr_assert_not_null(strstr(error.text, words), "%s", error.text);
    cr_assert_null(instance);
}

Test(api_instance, options_out_of_range_are_named)
{
    const struct manta_start_options good = {MANTA_START_OPTIONS};
    struct manta_start_options options = good;
    world_prepare();
    options.http_port = -2;
    assert_no_start(&options, "http_port is -2");
    options.http_port = 65536;
    assert_no_start(&options, "http_port is 65536");
    options = good;
    options.proxies = -1;
    assert_no_start(&options, "proxies");
    options.proxies = 65;
    assert_no_start(&options, "proxies");
    options = good;
    options.request_timeout_s = -1;
    assert_no_start(&options, "request_timeout_s");
    options.request_timeout_s = (double)NAN;
    assert_no_start(&options, "request_timeout_s");
    options = good;
    options.keep_alive_timeout_s = 86401;
    assert_no_start(&options, "keep_alive_timeout_s");
    options = good;
    options.name = "no/name";
    assert_no_start(&options, "no/name");
    rmdir(world.directory);
}

Test(api_instance, any_free_port_is_told)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    world_prepare();
    options.http_port = 0;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    int port = manta_http_port(world.instance);
    cr_assert(port > 0 && port < 65536);
    /* Whoever wants the same one is told that it is taken. */
    struct manta_instance *second = NULL;
    options.http_port = port;
    cr_assert_eq(manta_start(&options, &second, &error), MANTA_EEXISTS, "%s", error.text);
    cr_assert_null(second);
    cr_assert_eq(world_instances(), 1, "the one that did not start left nothing behind");
    world_end();
}

Test(api_instance, without_http_there_is_no_port)
{
    world_start();
    cr_assert_eq(manta_http_port(world.instance), -1);
    world_end();
}

Test(api_instance, options_of_an_older_header_are_enough)
{
    struct manta_start_options options;
    struct manta_error error = {0};
    world_prepare();
    memset(&options, 0xa5, sizeof options);
    options.size = offsetof(struct manta_start_options, request_timeout_s);
    options.name = NULL;
    options.http_host = "127.0.0.1";
    options.http_port = -1;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    /* The same of manta_run: only a name. */
    struct manta_run_options run;
    memset(&run, 0xa5, sizeof run);
    run.size = offsetof(struct manta_run_options, route_prefix);
    run.name = "older";
    cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &run, &error), 0, "%s",
                 error.text);
    struct manta_handle *echo = world_handle("older");
    cr_assert_str_eq(ask(echo, "x"), "[\"x\"]");
    manta_handle_free(echo);
    world_end();
}

Test(api_instance, programs_without_their_processes_are_told)
{
    struct manta_instance *instance = NULL;
    struct manta_error error = {0};
    world_prepare();
    setenv("MANTA_LIBEXEC", "/no/such/place", 1);
    cr_assert_eq(manta_start(NULL, &instance, &error), MANTA_ENOTFOUND);
    cr_assert_not_null(strstr(error.text, "/no/such/place"), "%s", error.text);
    setenv("MANTA_LIBEXEC", "/tmp", 1);
    cr_assert_lt(manta_start(NULL, &instance, &error), 0);
    cr_assert_not_null(strstr(error.text, "manta-node"), "%s", error.text);
    cr_assert_null(instance);
    rmdir(world.directory);
}

Test(api_instance, nobody_joins_what_does_not_run)
{
    struct manta_instance *instance = NULL;
    struct manta_error error = {0};
    world_prepare();
    cr_assert_eq(manta_connect("elsewhere", &instance, &error), MANTA_ENOTRUNNING);
    cr_assert_not_null(strstr(error.text, "elsewhere"), "%s", error.text);
    cr_assert_eq(manta_connect(NULL, &instance, &error), MANTA_ENOTRUNNING);
    cr_assert_not_null(strstr(error.text, "default"), "%s", error.text);
    setenv("MANTA_INSTANCE", "chosen", 1);
    cr_assert_eq(manta_connect(NULL, &instance, &error), MANTA_ENOTRUNNING);
    cr_assert_not_null(strstr(error.text, "chosen"), "%s", error.text);
    cr_assert_null(instance);
    rmdir(world.directory);
}

/* The name of the only instance. */
static const char *instance_name(void)
{
    static char name[256];
    char path[64];
    snprintf(path, sizeof path, "%s/manta", world.directory);
    DIR *directory = opendir(path);
    cr_assert_not_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            snprintf(name, sizeof name, "%s", entry->d_name);
    closedir(directory);
    return name;
}

Test(api_instance, one_that_runs_is_joined_by_name_and_goes_on_without_the_guest)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_instance *guest = NULL;
    struct manta_error error = {0};
    world_prepare();
    options.http_port = 0;
    cr_assert_eq(manta_start(&options, &world.instance, &error), 0, "%s", error.text);
    world_run(OBJECT("answer") "echo", NULL);
    cr_assert_eq(manta_connect(instance_name(), &guest, &error), 0, "%s", error.text);
    cr_assert_eq(manta_http_port(guest), manta_http_port(world.instance));
    struct manta_handle *handle = NULL;
    cr_assert_eq(manta_get_app_handle(guest, "echo", &handle, &error), 0, "%s", error.text);
    cr_assert_str_eq(ask(handle, "guest"), "[\"guest\"]");
    manta_handle_free(handle);
    cr_assert_null(manta_disconnect(guest));
    handle = world_handle("echo");
    cr_assert_str_eq(ask(handle, "host"), "[\"host\"]");
    manta_handle_free(handle);
    world_end();
}

/* ---- ending
 * --------------------------------------------------------------------------------------- */

Test(api_instance, disconnecting_from_ones_own_ends_it)
{
    world_start();
    world_run(OBJECT("answer") "echo", NULL);
    cr_assert_null(manta_disconnect(world.instance));
    world.instance = NULL;
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; world_instances() > 0; i++) {
        cr_assert_lt(i, PATIENCE_S * 1000);
        nanosleep(&pause, NULL);
    }
    world_end();
}

Test(api_instance, shutting_nothing_down_is_fine)
{
    struct manta_error error = {0};
    cr_assert_eq(manta_shutdown(NULL, &error), 0);
    cr_assert_eq(error.code, 0);
}

Test(api_instance, the_descriptor_tells_that_the_instance_has_ended_by_itself)
{
    char path[400];
    struct manta_error error = {0};
    world_start();
    struct pollfd gone = {.fd = manta_instance_descriptor(world.instance), .events = POLLIN};
    cr_assert_eq(poll(&gone, 1, 0), 0, "it runs");
    /* Somebody else shuts it down. */
    struct manta_instance *guest = NULL;
    cr_assert_eq(manta_connect(instance_name(), &guest, &error), 0, "%s", error.text);
    cr_assert_eq(manta_shutdown(guest, &error), 0, "%s", error.text);
    cr_assert_eq(poll(&gone, 1, PATIENCE_S * 1000), 1);
    cr_assert_null(manta_disconnect(world.instance));
    world.instance = NULL;
    snprintf(path, sizeof path, "%s", world.directory);
    world_end();
}

/* ---- running
 * -------------------------------------------------------------------------------------- */

static struct manta_error run_wrong(const char *target, const struct manta_run_options *options,
                                    int code)
{
    struct manta_error error = {0};
    cr_assert_eq(manta_run(world.instance, target, options, &error), code, "%s: %d %s", target,
                 error.code, error.text);
    return error;
}

Test(api_instance, what_cannot_run_is_told_before_anything_happens)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    world_start();
    run_wrong("/no/such.so:app", NULL, MANTA_ENOTFOUND);
    run_wrong("no target", NULL, MANTA_EINVALID);
    run_wrong(OBJECT("unresolved") "unresolved", NULL, MANTA_ELOAD);
    run_wrong(OBJECT("answer") "missing", NULL, MANTA_ENOTFOUND);
    run_wrong(OBJECT("versions") "newer", NULL, MANTA_EVERSION);
    options.name = "";
    run_wrong(OBJECT("answer") "echo", &options, MANTA_EINVALID);
    options.name = NULL;
    run_wrong(OBJECT("answer") "echo", &options, MANTA_EINVALID);
    /* Nothing of it is there. */
    struct manta_pack *pack = manta_pack_new();
    struct manta_value status, applications;
    cr_assert_eq(manta_status(world.instance, pack, NULL), 0);
    cr_assert_eq(manta_pack_value(pack, &status, NULL), 0);
    cr_assert_eq(manta_value_get(&status, "applications", &applications, NULL), 0);
    cr_assert_eq(manta_value_count(&applications), 0);
    manta_pack_free(pack);
    world_end();
}

Test(api_instance, a_route_belongs_to_one_application)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_error error = {0};
    world_start();
    options.name = "first";
    cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &options, &error), 0, "%s",
                 error.text);
    options.name = "second";
    error = run_wrong(OBJECT("answer") "echo", &options, MANTA_EEXISTS);
    cr_assert_not_null(strstr(error.text, "first"), "%s", error.text);
    options.route_prefix = "/second";
    cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &options, &error), 0, "%s",
                 error.text);
    options.route_prefix = "no slash";
    run_wrong(OBJECT("answer") "echo", &options, MANTA_EINVALID);
    world_end();
}

Test(api_instance, a_replica_that_does_not_start_fails_the_run_with_its_own_words)
{
    world_start();
    struct manta_error error = run_wrong(OBJECT("life") "open_fails", NULL, MANTA_EDEPLOYFAILED);
    cr_assert_not_null(strstr(error.text, "no model today"), "%s", error.text);
    error = run_wrong(OBJECT("life") "open_crashes", NULL, MANTA_EDEPLOYFAILED);
    cr_assert_not_null(strstr(error.text, "signal"), "%s", error.text);
    world_end();
}

Test(api_instance, a_replica_that_starts_at_the_third_try_serves)
{
    char file[64], times[] = "times=2", argument[80];
    world_start();
    snprintf(file, sizeof file, "%s/tries", world.directory);
    snprintf(argument, sizeof argument, "file=%s", file);
    const char *const arguments[] = {argument, times, NULL};
    world_run(OBJECT("life") "open_fails_first", arguments);
    struct manta_handle *handle = world_handle("open_fails_first");
    cr_assert_gt(atoi(ask(handle, "")), 0);
    manta_handle_free(handle);
    unlink(file);
    world_end();
}

/* The process that answers: liblife's deployments say it. */
static int process_of(struct manta_handle *handle)
{
    return atoi(ask(handle, ""));
}

Test(api_instance, running_again_replaces_only_what_changed)
{
    static const char *const WIDER[] = {"max_ongoing_requests=50", NULL};
    static const char *const OTHER[] = {"threads=2", NULL};
    world_start();
    world_run(OBJECT("life") "call_crashes", NULL);
    struct manta_handle *handle = world_handle("call_crashes");
    int process = process_of(handle);
    world_run(OBJECT("life") "call_crashes", NULL);
    cr_assert_eq(process_of(handle), process, "nothing changed");
    world_run(OBJECT("life") "call_crashes", WIDER);
    cr_assert_eq(process_of(handle), process, "it was only told");
    world_run(OBJECT("life") "call_crashes", OTHER);
    /* Another number of threads needs another process; this one hears of it a moment later. */
    for (int i = 0; process_of(handle) == process; i++)
        cr_assert_lt(i, 100000);
    manta_handle_free(handle);
    world_end();
}

static void note_progress(void *owner, const char *line)
{
    char *lines = owner;
    if (strlen(lines) + strlen(line) < 900)
        sprintf(lines + strlen(lines), "%s\n", line);
}

Test(api_instance, progress_is_told_line_by_line)
{
    char lines[1000] = "";
    struct manta_run_options options = {MANTA_RUN_OPTIONS, .progress = note_progress,
                                        .owner = lines};
    struct manta_error error = {0};
    world_start();
    cr_assert_eq(manta_run(world.instance, OBJECT("answer") "echo", &options, &error), 0);
    cr_assert_str_eq(lines, "deploying 1 deployment\necho: 1 of 1 replicas ready\n");
    world_end();
}

/* The word of an application's status, "" when there is none. */
static const char *status_of(const char *app)
{
    static char word[64];
    struct manta_pack *pack = manta_pack_new();
    struct manta_value status, applications, application, value;
    struct manta_error error = {0};
    const char *at;
    size_t size;
    word[0] = 0;
    cr_assert_eq(manta_status(world.instance, pack, &error), 0, "%s", error.text);
    cr_assert_eq(manta_pack_value(pack, &status, &error), 0, "%s", error.text);
    cr_assert_eq(manta_value_get(&status, "applications", &applications, &error), 0);
    if (manta_value_get(&applications, app, &application, NULL) == 0) {
        cr_assert_eq(manta_value_get(&application, "status", &value, &error), 0, "%s", error.text);
        cr_assert_eq(manta_value_string(&value, &at, &size, NULL), 0);
        snprintf(word, sizeof word, "%.*s", (int)size, at);
    }
    manta_pack_free(pack);
    return word;
}

Test(api_instance, a_run_that_does_not_wait_returns_while_it_deploys)
{
    char file[64], argument[80];
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_error error = {0};
    world_start();
    snprintf(file, sizeof file, "%s/go", world.directory);
    snprintf(argument, sizeof argument, "file=%s", file);
    options.arguments = (const char *const[]){argument, NULL};
    options.no_wait = true;
    cr_assert_eq(manta_run(world.instance, OBJECT("life") "open_waits", &options, &error), 0, "%s",
                 error.text);
    cr_assert_str_eq(status_of("default"), "DEPLOYING");
    fclose(fopen(file, "w"));
    struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; strcmp(status_of("default"), "RUNNING") != 0; i++) {
        cr_assert_lt(i, PATIENCE_S * 1000);
        nanosleep(&pause, NULL);
    }
    unlink(file);
    world_end();
}

Test(api_instance, status_speaks_ray_serves_words)
{
    char json[2000];
    world_start();
    world_run(OBJECT("answer") "echo", NULL);
    struct manta_pack *pack = manta_pack_new();
    struct manta_value status;
    cr_assert_eq(manta_status(world.instance, pack, NULL), 0);
    cr_assert_eq(manta_pack_value(pack, &status, NULL), 0);
    cr_assert_lt(manta_value_json(&status, json, sizeof json), sizeof json);
    static const char *const WORDS[] = {"\"applications\"",
                                        "\"echo\"",
                                        "\"status\":\"RUNNING\"",
                                        "\"route_prefix\":null",
                                        "\"deployments\"",
                                        "\"status\":\"HEALTHY\"",
                                        "\"status_trigger\"",
                                        "\"replica_states\":{",
                                        "\"RUNNING\":1",
                                        "\"last_deployed_time_s\"",
                                        "\"proxies\""};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        cr_assert_not_null(strstr(json, WORDS[i]), "%s is not in %s", WORDS[i], json);
    manta_pack_free(pack);
    world_end();
}

Test(api_instance, deleting_waits_until_the_last_replica_is_gone)
{
    struct manta_error error = {0};
    char large[600];
    world_start();
    struct manta_handle *handle = world_serve(OBJECT("life") "call_crashes");
    int process = process_of(handle);
    cr_assert_eq(manta_delete(world.instance, "call_crashes", &error), 0, "%s", error.text);
    cr_assert_str_eq(status_of("call_crashes"), "");
    cr_assert_eq(kill(process, 0), -1, "process %d still lives", process);
    cr_assert_eq(manta_delete(world.instance, "call_crashes", &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_delete(world.instance, "", &error), MANTA_EINVALID);
    cr_assert_eq(manta_delete(world.instance, NULL, &error), MANTA_EINVALID);
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    cr_assert_eq(manta_delete(world.instance, large, &error), MANTA_EINVALID);
    manta_handle_free(handle);
    world_end();
}

Test(api_instance, a_crash_in_close_is_nobodys_problem)
{
    world_start();
    struct manta_handle *handle = world_serve(OBJECT("life") "close_crashes");
    cr_assert_gt(process_of(handle), 0);
    manta_handle_free(handle);
    world_end();
}
