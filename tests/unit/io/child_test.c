/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Children: real processes, mostly /bin/sh and /bin/cat, whose output comes back through a pipe.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

struct stage {
    struct loop *loop;
    struct child child, other;
    int output[2];
    int exits, wanted_exits;
    int exit_code, signal_number;
    struct child *last;
    int orphans, orphan_status;
    char text[4096];
};

static void on_exit_of(void *owner, struct child *child, int exit_code, int signal_number)
{
    struct stage *stage = owner;
    stage->last = child;
    stage->exit_code = exit_code;
    stage->signal_number = signal_number;
    cr_assert_eq(child->pid, 0);
    if (++stage->exits == stage->wanted_exits)
        loop_stop(stage->loop);
}

static struct stage *begin(void)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    stage->loop = loop_new();
    stage->wanted_exits = 1;
    cr_assert_not_null(stage->loop);
    cr_assert_eq(pipe2(stage->output, O_CLOEXEC), 0);
    return stage;
}

static void finish(struct stage *stage)
{
    child_close(&stage->child);
    child_close(&stage->other);
    loop_free(stage->loop);
    close(stage->output[0]);
    close(stage->output[1]);
    free(stage);
}

static struct child_spawn spawn_of(struct stage *stage, const char *const *arguments)
{
    return (struct child_spawn){.path = arguments[0],
                                .arguments = arguments,
                                .output = stage->output[1],
                                .error_output = -1};
}

static void start(struct stage *stage, struct child *child, const struct child_spawn *spawn)
{
    struct error error = {0};
    cr_assert_eq(child_start(child, stage->loop, spawn, on_exit_of, stage, &error), 0, "%s",
                 error.text);
    cr_assert_gt(child->pid, 0);
}

static void start_shell(struct stage *stage, struct child *child, const char *script)
{
    const char *arguments[] = {"/bin/sh", "-c", script, NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    start(stage, child, &spawn);
}

/* What the child wrote until its exit. */
static const char *run(struct stage *stage, const struct child_spawn *spawn)
{
    start(stage, &stage->child, spawn);
    loop_run(stage->loop);
    fcntl(stage->output[0], F_SETFL, O_NONBLOCK);
    ssize_t got = read(stage->output[0], stage->text, sizeof(stage->text) - 1);
    stage->text[got > 0 ? got : 0] = 0;
    return stage->text;
}

static const char *run_shell(struct stage *stage, const char *script)
{
    const char *arguments[] = {"/bin/sh", "-c", script, NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    return run(stage, &spawn);
}

/* A number that a shell printed, while it runs on. */
static pid_t read_pid(struct stage *stage)
{
    char line[32] = "";
    for (size_t i = 0; i < sizeof(line) - 1; i++) {
        cr_assert_eq(read(stage->output[0], line + i, 1), 1);
        if (line[i] == '\n')
            break;
    }
    return (pid_t)atoi(line);
}

Test(child, an_exit_code_is_told)
{
    struct stage *stage = begin();
    start_shell(stage, &stage->child, "exit 7");
    loop_run(stage->loop);
    cr_assert_eq(stage->last, &stage->child);
    cr_assert_eq(stage->exit_code, 7);
    cr_assert_eq(stage->signal_number, 0);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "it was reaped");
    finish(stage);
}

Test(child, a_death_by_signal_is_told)
{
    struct stage *stage = begin();
    start_shell(stage, &stage->child, "kill -9 $$");
    loop_run(stage->loop);
    cr_assert_eq(stage->exit_code, -1);
    cr_assert_eq(stage->signal_number, SIGKILL);
    finish(stage);
}

Test(child, a_program_that_does_not_exist_is_an_error_and_no_exit)
{
    struct stage *stage = begin();
    struct error error = {0};
    const char *arguments[] = {"/nonexistent/program", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    int code = child_start(&stage->child, stage->loop, &spawn, on_exit_of, stage, &error);
    cr_assert_eq(code, ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "/nonexistent/program"));
    cr_assert_eq(stage->child.pid, 0);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->exits, 0);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
    cr_assert_eq(errno, ECHILD);
    finish(stage);
}

Test(child, a_file_that_is_no_program_and_a_missing_directory_are_errors)
{
    struct stage *stage = begin();
    struct error error = {0};
    const char *arguments[] = {"/etc/passwd", NULL}, *shell[] = {"/bin/sh", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    cr_assert_eq(child_start(&stage->child, stage->loop, &spawn, on_exit_of, stage, &error),
                 ERROR_PERMISSION);
    spawn = spawn_of(stage, shell);
    spawn.directory = "/nonexistent";
    cr_assert_eq(child_start(&stage->child, stage->loop, &spawn, on_exit_of, stage, &error),
                 ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "/nonexistent"));
    finish(stage);
}

Test(child, output_environment_and_directory_are_what_was_asked_for)
{
    struct stage *stage = begin();
    const char *arguments[] = {"/bin/sh", "-c", "echo $COLOUR; pwd; echo err >&2; cat", NULL};
    const char *environment[] = {"COLOUR=blue", "PATH=/bin:/usr/bin", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.environment = environment;
    spawn.directory = "/usr";
    spawn.error_output = stage->output[1];
    cr_assert_str_eq(run(stage, &spawn), "blue\n/usr\nerr\n");
    cr_assert_eq(stage->exit_code, 0);
    finish(stage);
}

Test(child, descriptors_may_change_places)
{
    struct stage *stage = begin();
    int one[2], two[2];
    cr_assert_eq(pipe2(one, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(two, O_CLOEXEC), 0);
    cr_assert_eq(write(one[1], "one\n", 4), 4);
    cr_assert_eq(write(two[1], "two\n", 4), 4);
    char script[96];
    snprintf(script, sizeof(script), "head -n1 /dev/fd/%d; head -n1 /dev/fd/%d", one[0], two[0]);
    const struct child_descriptor descriptors[] = {{one[0], two[0]}, {two[0], one[0]}};
    const char *arguments[] = {"/bin/sh", "-c", script, NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.descriptors = descriptors;
    spawn.descriptor_count = 2;
    cr_assert_str_eq(run(stage, &spawn), "two\none\n");
    finish(stage);
}

Test(child, nothing_else_is_open_in_it)
{
    struct stage *stage = begin();
    int careless = open("/dev/null", O_RDONLY); /* not close-on-exec */
    cr_assert_eq(dup2(careless, 77), 77);
    const struct child_descriptor descriptors[] = {{stage->output[1], 5}};
    const char *script = "i=0; while [ $i -lt 100 ]; do [ -e /proc/$$/fd/$i ] && echo $i; "
                         "i=$((i + 1)); done";
    const char *arguments[] = {"/bin/sh", "-c", script, NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.descriptors = descriptors;
    spawn.descriptor_count = 1;
    cr_assert_str_eq(run(stage, &spawn), "0\n1\n2\n5\n");
    close(careless);
    close(77);
    finish(stage);
}

Test(child, too_many_descriptors_are_refused)
{
    struct stage *stage = begin();
    struct error error = {0};
    struct child_descriptor descriptors[CHILD_DESCRIPTOR_LIMIT + 1];
    for (int i = 0; i <= CHILD_DESCRIPTOR_LIMIT; i++)
        descriptors[i] = (struct child_descriptor){stage->output[1], 3 + i};
    const char *arguments[] = {"/bin/true", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.descriptors = descriptors;
    spawn.descriptor_count = CHILD_DESCRIPTOR_LIMIT;
    start(stage, &stage->child, &spawn);
    loop_run(stage->loop);
    cr_assert_eq(stage->exit_code, 0);
    spawn.descriptor_count++;
    cr_assert_eq(child_start(&stage->child, stage->loop, &spawn, on_exit_of, stage, &error),
                 ERROR_LIMIT);
    finish(stage);
}

Test(child, signals_are_as_a_fresh_program_expects_them)
{
    struct stage *stage = begin();
    sigset_t blocked;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    const char *arguments[] = {"/bin/cat", "/proc/self/status", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    const char *status = run(stage, &spawn);
    cr_assert_not_null(strstr(status, "SigBlk:\t0000000000000000"), "%s", status);
    cr_assert_not_null(strstr(status, "SigIgn:\t0000000000000000"), "%s", status);
    finish(stage);
}

Test(child, it_leads_a_session_of_its_own)
{
    struct stage *stage = begin();
    const char *arguments[] = {"/bin/cat", "/proc/self/stat", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    int pid, group, session;
    cr_assert_eq(sscanf(run(stage, &spawn), "%d (cat) %*c %*d %d %d", &pid, &group, &session), 3);
    cr_assert_eq(group, pid);
    cr_assert_eq(session, pid);
    finish(stage);
}

Test(child, limits_are_what_was_asked_for)
{
    struct stage *stage = begin();
    const char *arguments[] = {"/bin/sh", "-c",
                               "ulimit -Sn; ulimit -Sc; cat /proc/self/oom_score_adj", NULL};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.nofile_soft = 200;
    spawn.oom_score_adj = 300;
    cr_assert_str_eq(run(stage, &spawn), "200\n0\n300\n");
    finish(stage);
}

Test(child, the_raised_descriptor_limit_stays_here)
{
    struct stage *stage = begin();
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 500;
    cr_assert_gt(limit.rlim_max, 500);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    child_raise_nofile();
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(limit.rlim_cur, limit.rlim_max);
    cr_assert_str_eq(run_shell(stage, "ulimit -Sn"), "500\n");
    finish(stage);
}

/* ---- the end ---- */

Test(child, a_signal_to_the_session_ends_grandchildren)
{
    struct stage *stage = begin();
    struct error error = {0};
    start_shell(stage, &stage->child, "sleep 1000 & echo $!; wait");
    pid_t grandchild = read_pid(stage);
    cr_assert_eq(child_adopt(&stage->other, stage->loop, grandchild, on_exit_of, stage, &error), 0);
    stage->wanted_exits = 2;
    child_signal(&stage->child, SIGTERM, true);
    loop_run(stage->loop); /* ends only when both are gone */
    cr_assert_eq(stage->exits, 2);
    finish(stage);
}

Test(child, grandchildren_end_with_a_child_that_ends_by_itself)
{
    struct stage *stage = begin();
    struct error error = {0};
    int gate[2];
    cr_assert_eq(pipe2(gate, O_CLOEXEC), 0);
    const char *arguments[] = {"/bin/sh", "-c", "sleep 1000 & echo $!; read line <&5", NULL};
    const struct child_descriptor descriptors[] = {{gate[0], 5}};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.descriptors = descriptors;
    spawn.descriptor_count = 1;
    start(stage, &stage->child, &spawn);
    pid_t grandchild = read_pid(stage);
    cr_assert_eq(child_adopt(&stage->other, stage->loop, grandchild, on_exit_of, stage, &error), 0);
    stage->wanted_exits = 2;
    close(gate[1]);
    close(gate[0]);
    loop_run(stage->loop);
    cr_assert_eq(stage->exits, 2);
    finish(stage);
}

Test(child, a_signal_to_the_process_alone_spares_grandchildren_until_it_ends)
{
    struct stage *stage = begin();
    start_shell(stage, &stage->child,
                "trap 'kill -0 $! && echo alive; exit 3' TERM; sleep 1000 & echo ready; wait");
    char word[8];
    cr_assert_eq(read(stage->output[0], word, 6), 6);
    child_signal(&stage->child, SIGTERM, false);
    loop_run(stage->loop);
    cr_assert_eq(stage->exit_code, 3);
    cr_assert_eq(read(stage->output[0], word, 6), 6);
    cr_assert_eq(memcmp(word, "alive\n", 6), 0);
    finish(stage);
}

Test(child, an_adopted_process_ends_with_an_unknown_status)
{
    struct stage *stage = begin();
    struct error error = {0};
    start_shell(stage, &stage->child, "sleep 1000 & echo $!; wait; sleep 1000");
    pid_t grandchild = read_pid(stage);
    cr_assert_eq(child_adopt(&stage->other, stage->loop, grandchild, on_exit_of, stage, &error), 0);
    child_signal(&stage->other, SIGKILL, false);
    loop_run(stage->loop);
    cr_assert_eq(stage->last, &stage->other);
    cr_assert_eq(stage->exit_code, -1);
    cr_assert_eq(stage->signal_number, 0);
    child_signal(&stage->child, SIGKILL, true);
    finish(stage);
}

Test(child, nobody_can_adopt_a_process_that_is_not_there)
{
    struct stage *stage = begin();
    struct error error = {0};
    pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    cr_assert_eq(waitpid(gone, NULL, 0), gone);
    cr_assert_eq(child_adopt(&stage->child, stage->loop, gone, on_exit_of, stage, &error),
                 ERROR_NOT_FOUND);
    cr_assert_eq(child_adopt(&stage->child, stage->loop, 0, on_exit_of, stage, &error),
                 ERROR_NOT_FOUND);
    finish(stage);
}

Test(child, a_closed_child_runs_on_and_is_not_told_of)
{
    struct stage *stage = begin();
    start_shell(stage, &stage->child, "exit 4");
    pid_t pid = stage->child.pid;
    child_close(&stage->child);
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->exits, 0);
    finish(stage);
}

/* ---- orphans ---- */

static void on_orphan(void *owner, pid_t pid, int status)
{
    struct stage *stage = owner;
    stage->orphans++;
    stage->orphan_status = status;
    loop_stop(stage->loop);
}

static void on_sigchld(void *owner, int signal_number)
{
    child_reap_orphans(on_orphan, owner);
}

Test(child, orphans_come_to_a_subreaper_and_are_reaped)
{
    struct stage *stage = begin();
    int gates[2][2];
    cr_assert_eq(pipe2(gates[0], O_CLOEXEC), 0);
    cr_assert_eq(pipe2(gates[1], O_CLOEXEC), 0);
    cr_assert_eq(child_become_subreaper(), 0);
    cr_assert_eq(loop_on_signal(stage->loop, SIGCHLD, on_sigchld, stage), 0);
    /* A session of its own saves it from ending with its parent. */
    const char *script = "setsid sh -c 'echo $$; read line <&6; exit 5' & read line <&5; exit 6";
    const char *arguments[] = {"/bin/sh", "-c", script, NULL};
    const struct child_descriptor descriptors[] = {{gates[0][0], 5}, {gates[1][0], 6}};
    struct child_spawn spawn = spawn_of(stage, arguments);
    spawn.descriptors = descriptors;
    spawn.descriptor_count = 2;
    start(stage, &stage->child, &spawn);
    read_pid(stage);
    close(gates[0][1]);
    while (stage->exits == 0)
        loop_run(stage->loop);
    cr_assert_eq(stage->exit_code, 6);
    cr_assert_eq(stage->orphans, 0);
    close(gates[1][1]);
    while (stage->orphans == 0)
        loop_run(stage->loop);
    cr_assert_eq(stage->exits, 1);
    cr_assert_eq(stage->orphans, 1);
    cr_assert_eq(WEXITSTATUS(stage->orphan_status), 5);
    close(gates[0][0]);
    close(gates[1][0]);
    finish(stage);
}

Test(child, a_known_child_is_not_taken_for_an_orphan)
{
    struct stage *stage = begin();
    siginfo_t status;
    start_shell(stage, &stage->child, "exit 3");
    cr_assert_eq(waitid(P_PID, (id_t)stage->child.pid, &status, WEXITED | WNOWAIT), 0);
    pid_t stranger = fork();
    if (stranger == 0)
        _exit(9);
    cr_assert_eq(waitid(P_PID, (id_t)stranger, &status, WEXITED | WNOWAIT), 0);
    child_reap_orphans(on_orphan, stage);
    cr_assert_eq(stage->exits, 1);
    cr_assert_eq(stage->exit_code, 3);
    cr_assert_eq(stage->orphans, 1);
    cr_assert_eq(WEXITSTATUS(stage->orphan_status), 9);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
    finish(stage);
}
