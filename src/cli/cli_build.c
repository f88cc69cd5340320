/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_build: applications of a deploy file built side by side, each in a process of its own.
 *
 * A shared object's builder runs in a fork of this process, a Python application's in an
 * interpreter (manta._private.build_main), which gets the application as JSON on its standard
 * input.  Either answers over a pipe: a byte, 'D' and the document or 'F' and the reason, then its
 * end.  A process that ends without a word has a reason, too: how it ended.  What user code prints
 * goes to standard error.
 */
#include "cli_build.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum {
    BUILD_SIDE_BY_SIDE = 4,
    BUILD_DOCUMENT_LIMIT = 256 << 20,
    BUILD_DESCRIPTOR = 3, /* where the child answers */
    BUILD_PATH_SIZE = 4096,
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ---- in the child ---- */

static _Noreturn void answer(char kind, const void *at, size_t size)
{
    const char *from = at;
    ssize_t put = write(BUILD_DESCRIPTOR, &kind, 1);
    while (put > 0 && size > 0)
        if ((put = write(BUILD_DESCRIPTOR, from, size)) > 0) {
            from += put;
            size -= (size_t)put;
        }
    _exit(put > 0 && kind == 'D' ? 0 : 1);
}

static _Noreturn void build_library(const struct deploy_file_app *app, const char *directory)
{
    struct manta_error error = {0};
    struct manta_value document;
    struct manta_run_options options = {
        MANTA_RUN_OPTIONS, .arguments = (const char *const *)app->arguments};
    struct manta_deploy_override *overrides = calloc(app->override_count + 1, sizeof *overrides);
    struct manta_pack *pack = manta_pack_new();
    char target[2 * BUILD_PATH_SIZE];
    if (!overrides || !pack)
        answer('F', "memory is exhausted", strlen("memory is exhausted"));
    options.name = app->name;
    for (uint32_t i = 0; i < app->override_count; i++) {
        const struct deploy_file_override *given = &app->overrides[i];
        overrides[i] = (struct manta_deploy_override){
            .size = sizeof *overrides,
            .name = given->name,
            .num_replicas = given->num_replicas,
            .max_ongoing_requests = given->max_ongoing_requests,
            .max_queued_requests = given->max_queued_requests,
            .graceful_shutdown_timeout_s = given->graceful_shutdown_timeout_s,
            .health_check_period_s = given->health_check_period_s,
            .health_check_timeout_s = given->health_check_timeout_s,
            .user_config = given->user_config,
            .max_surge_percent = given->max_surge_percent,
            .rolling_update_percentage = given->rolling_update_percentage,
            .max_constructor_retry_count = -1};
    }
    bool absolute = app->import_path[0] == '/';
    snprintf(target, sizeof target, "%s%s%s", absolute ? "" : directory, absolute ? "" : "/",
             app->import_path);
    if (manta_library_document(target, &options, overrides, app->override_count, pack, &error) < 0 ||
        manta_pack_value(pack, &document, &error) < 0)
        answer('F', error.text, strlen(error.text));
    answer('D', document.at, document.size);
}

static _Noreturn void build_python(const char *directory)
{
    char descriptor[16], words[512];
    snprintf(descriptor, sizeof descriptor, "%d", BUILD_DESCRIPTOR);
    const char *python = cli_python();
    execlp(python, python, "-m", "manta._private.build_main", "--app-dir", directory,
           "--answer", descriptor, (char *)NULL);
    int length = snprintf(words, sizeof words,
                          "the interpreter '%.300s' could not be run: %s (MANTA_PYTHON names "
                          "another)",
                          python, strerror(errno));
    answer('F', words, (size_t)length < sizeof words ? (size_t)length : sizeof words - 1);
}

/* The JSON lies in a file that nobody else sees, so that nothing waits for its reader. */
static int open_input(const char *json)
{
    FILE *file = json ? tmpfile() : NULL;
    if (!json)
        return open("/dev/null", O_RDONLY);
    if (!file || fwrite(json, strlen(json), 1, file) != 1 || fflush(file) != 0)
        return -1;
    lseek(fileno(file), 0, SEEK_SET);
    return fileno(file);
}

static _Noreturn void child(const struct deploy_file_app *app, const char *directory, int output)
{
    int input = open_input(app->json);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0); /* a limit that passed ends what it has started, too */
    if (input < 0 || dup2(input, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
        dup2(output, BUILD_DESCRIPTOR) < 0)
        _exit(1);
    close_range(BUILD_DESCRIPTOR + 1, ~0U, 0);
    if (app->is_library)
        build_library(app, directory);
    build_python(directory);
}

/* ---- in the parent ---- */

static void begin(struct build *build, const struct build_options *options)
{
    int ends[2];
    cli_say("application '%s': building %s", build->app->name, build->app->import_path);
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        text_print(&build->failure, "no pipe for its builder: %s", strerror(errno));
        return;
    }
    build->pid = fork();
    if (build->pid == 0)
        child(build->app, options->directory, ends[1]);
    close(ends[1]);
    if (build->pid < 0) {
        text_print(&build->failure, "no process for its builder: %s", strerror(errno));
        close(ends[0]);
        return;
    }
    build->descriptor = ends[0];
    build->due_ns = options->limit_s ? now_ns() + options->limit_s * 1000000000LL : 0;
}

static void say_end(struct build *build, int status)
{
    text_clear(&build->failure);
    if (WIFSIGNALED(status))
        text_print(&build->failure, "its builder was ended by signal %d (SIG%s)", WTERMSIG(status),
                   sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        text_print(&build->failure, "its builder ended with exit code %d before it was done",
                   WEXITSTATUS(status));
}

/* Its answer is whole: "D..." or "F...". */
static void end(struct build *build)
{
    int status = 0;
    struct bytes answer = text_bytes(&build->document);
    while (waitpid(build->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(build->descriptor);
    build->descriptor = -1;
    bool whole = WIFEXITED(status) && answer.size > 1 && !build->document.failed;
    if (build->document.failed) {
        text_print(&build->failure, "it is larger than %d MiB", BUILD_DOCUMENT_LIMIT >> 20);
    } else if (whole && answer.at[0] == 'F') {
        text_add(&build->failure, bytes_skip(answer, 1));
    } else if (!whole || WEXITSTATUS(status) != 0) {
        say_end(build, status);
    }
}

static void give_up(struct build *build, const struct build_options *options)
{
    kill(-build->pid, SIGKILL);
    kill(build->pid, SIGKILL);
    while (waitpid(build->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(build->descriptor);
    build->descriptor = -1;
    text_print(&build->failure, "it was not built within %lld s (--build-timeout-s)",
               (long long)options->limit_s);
}

static void receive(struct build *build)
{
    uint8_t room[65536];
    ssize_t size = read(build->descriptor, room, sizeof room);
    if (size > 0)
        text_add(&build->document, bytes_of(room, (size_t)size));
    else if (size == 0 || errno != EINTR)
        end(build);
}

/* Until one of them has something to say, or its time is up. */
static void await(struct build *builds, uint32_t count, const struct build_options *options)
{
    struct pollfd wanted[BUILD_SIDE_BY_SIDE];
    struct build *of[BUILD_SIDE_BY_SIDE];
    nfds_t running = 0;
    int64_t due_ns = 0;
    for (uint32_t i = 0; i < count && running < BUILD_SIDE_BY_SIDE; i++)
        if (builds[i].descriptor >= 0) {
            wanted[running] = (struct pollfd){.fd = builds[i].descriptor, .events = POLLIN};
            of[running++] = &builds[i];
            if (builds[i].due_ns && (!due_ns || builds[i].due_ns < due_ns))
                due_ns = builds[i].due_ns;
        }
    int64_t left_ms = due_ns ? (due_ns - now_ns()) / 1000000 + 1 : -1;
    if (left_ms > 3600000)
        left_ms = 3600000;
    poll(wanted, running, (int)(due_ns && left_ms < 0 ? 0 : left_ms));
    for (nfds_t i = 0; i < running; i++) {
        if (wanted[i].revents)
            receive(of[i]);
        if (of[i]->descriptor >= 0 && of[i]->due_ns && now_ns() >= of[i]->due_ns)
            give_up(of[i], options);
    }
}

void cli_build_all(struct build *builds, uint32_t count, const struct build_options *options)
{
    uint32_t next = 0, running;
    cli_python(); /* what it puts into the environment, every child finds there */
    for (uint32_t i = 0; i < count; i++) {
        text_init(&builds[i].document, BUILD_DOCUMENT_LIMIT);
        text_init(&builds[i].failure, 1 << 20);
        builds[i].descriptor = -1;
    }
    do {
        running = 0;
        for (uint32_t i = 0; i < next; i++)
            running += builds[i].descriptor >= 0;
        for (; next < count && running < BUILD_SIDE_BY_SIDE; next++) {
            begin(&builds[next], options);
            running += builds[next].descriptor >= 0;
        }
        if (running)
            await(builds, next, options);
    } while (running || next < count);
}
