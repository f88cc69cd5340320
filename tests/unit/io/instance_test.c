/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an instance lives, and what it refuses to live in.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "instance.h"
#include "socket.h"

static char base[] = "/tmp/manta-instance-XXXXXX";

static const char *below(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(base));
    setenv("XDG_RUNTIME_DIR", base, 1);
    setenv("XDG_STATE_HOME", base, 1);
    unsetenv("TMPDIR");
    unsetenv("MANTA_LIBEXEC");
}

static void tear_down(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(instance, .init = set_up, .fini = tear_down);

static int create(struct instance *instance, struct error *reterr)
{
    int rc = instance_locate(instance, "shop", true, reterr);
    cr_assert_eq(rc, 0, "%s", reterr->text);
    return instance_create(instance, reterr);
}

Test(instance, names_are_checked)
{
    static const char *const good[] = {"a", "default", "A-b_c.9",
                                       "123456789012345678901234567890123456789"};
    static const char *const bad[] = {
        "", ".hidden", "..", "a/b", "a b", "\xc3\xa4", "1234567890123456789012345678901234567890"};
    struct instance instance;
    struct error error;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_assert_eq(instance_locate(&instance, good[i], false, NULL), 0, "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(instance_locate(&instance, bad[i], false, &error), ERROR_INVALID, "%s",
                     bad[i]);
}

Test(instance, everything_lies_below_the_runtime_directory)
{
    struct instance instance;
    char path[INSTANCE_PATH_SIZE];
    cr_assert_eq(instance_locate(&instance, "shop", true, NULL), 0);
    cr_assert_str_eq(instance.directory, below("manta/shop"));
    cr_assert_str_eq(instance.node_socket, below("manta/shop/node.sock"));
    cr_assert_str_eq(instance.controller_socket, below("manta/shop/controller.sock"));
    cr_assert_str_eq(instance.log_directory, below("manta/shop/logs"));
    cr_assert_str_eq(instance.state_directory, "");
    instance_replica_socket(&instance, 17, path);
    cr_assert_str_eq(path, below("manta/shop/replica-17.sock"));
}

Test(instance, a_service_has_a_state_directory_that_outlives_it)
{
    struct instance instance;
    struct error error;
    struct stat file;
    setenv("XDG_STATE_HOME", below("state"), 1);
    cr_assert_eq(instance_locate(&instance, "shop", false, &error), 0, "%s", error.text);
    cr_assert_str_eq(instance.state_directory, below("state/manta/shop"));
    snprintf(instance.log_directory, sizeof(instance.log_directory), "%s", below("logs"));
    cr_assert_eq(instance_create(&instance, &error), 0, "%s", error.text);
    instance_remove(&instance);
    cr_assert_eq(lstat(below("state/manta/shop"), &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", base, 1);
    cr_assert_eq(instance_locate(&instance, "shop", false, &error), 0, "%s", error.text);
    cr_assert_str_eq(instance.state_directory,
                     geteuid() == 0 ? "/var/lib/manta/shop" : below(".local/state/manta/shop"));
}

Test(instance, without_a_runtime_directory_the_user_has_one_below_tmp)
{
    struct instance instance;
    char wanted[64];
    setenv("XDG_RUNTIME_DIR", "relative/is/ignored", 1);
    cr_assert_eq(instance_locate(&instance, "shop", true, NULL), 0);
    snprintf(wanted, sizeof(wanted), "/tmp/manta-%u/manta/shop", (unsigned)geteuid());
    cr_assert_str_eq(instance.directory, wanted);
    setenv("TMPDIR", base, 1);
    cr_assert_eq(instance_locate(&instance, "shop", true, NULL), 0);
    snprintf(wanted, sizeof(wanted), "%s/manta-%u/manta/shop", base, (unsigned)geteuid());
    cr_assert_str_eq(instance.directory, wanted);
}

Test(instance, a_path_that_is_too_long_for_a_socket_is_refused_in_words)
{
    struct instance instance;
    struct error error;
    char path[128];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[80] = 0;
    setenv("XDG_RUNTIME_DIR", path, 1);
    cr_assert_eq(instance_locate(&instance, "shop", true, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "XDG_RUNTIME_DIR"));
}

Test(instance, its_directories_are_for_its_user_alone)
{
    static const char *const names[] = {"manta", "manta/shop", "manta/shop/metrics",
                                        "manta/shop/logs"};
    struct instance instance;
    struct error error;
    struct stat file;
    umask(0);
    cr_assert_eq(create(&instance, &error), 0, "%s", error.text);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cr_assert_eq(lstat(below(names[i]), &file), 0);
        cr_assert_eq(file.st_mode & 07777, 0700, "%s", names[i]);
    }
    cr_assert_eq(create(&instance, &error), 0, "it may be there already");
}

Test(instance, a_directory_that_others_could_enter_is_closed_to_them)
{
    struct instance instance;
    struct error error;
    struct stat file;
    cr_assert_eq(mkdir(below("manta"), 0777), 0);
    cr_assert_eq(create(&instance, &error), 0);
    cr_assert_eq(lstat(below("manta"), &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
}

Test(instance, a_symbolic_link_is_refused)
{
    struct instance instance;
    struct error error;
    cr_assert_eq(mkdir(below("elsewhere"), 0700), 0);
    char target[4096];
    snprintf(target, sizeof(target), "%s", below("elsewhere"));
    cr_assert_eq(symlink(target, below("manta")), 0);
    cr_assert_eq(create(&instance, &error), ERROR_PERMISSION);
    cr_assert_not_null(strstr(error.text, "symbolic link"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "remove it"));
}

Test(instance, a_directory_of_somebody_else_is_refused)
{
    struct instance instance;
    struct error error;
    if (geteuid() != 0) {
        /* Only root can make one; /proc/1 belongs to root. */
        setenv("XDG_RUNTIME_DIR", "/proc/1", 1);
        cr_assert_eq(instance_locate(&instance, "shop", true, &error), 0);
        cr_assert_neq(instance_create(&instance, &error), 0);
        return;
    }
    cr_assert_eq(mkdir(below("manta"), 0700), 0);
    cr_assert_eq(chown(below("manta"), 12345, 12345), 0);
    cr_assert_eq(create(&instance, &error), ERROR_PERMISSION);
    cr_assert_not_null(strstr(error.text, "12345"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "XDG_RUNTIME_DIR"));
}

static void touch(const char *name)
{
    int file = open(below(name), O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(file, 0);
    close(file);
}

Test(instance, removing_it_takes_what_is_its_own_and_nothing_else)
{
    struct instance instance;
    struct error error;
    struct stat file;
    cr_assert_eq(create(&instance, &error), 0);
    touch("manta/shop/node.sock");
    touch("manta/shop/replica-4.sock");
    touch("manta/shop/controller.store");
    touch("manta/shop/controller.store-wal");
    touch("manta/shop/controller.lock");
    touch("manta/shop/instance.json");
    touch("manta/shop/metrics/proxy.page");
    touch("manta/shop/logs/proxy.log");
    touch("manta/shop/logs/proxy.log.1");
    touch("manta/shop/letter.txt");
    instance_remove(&instance);
    cr_assert_neq(lstat(below("manta/shop/node.sock"), &file), 0);
    cr_assert_neq(lstat(below("manta/shop/metrics"), &file), 0);
    cr_assert_neq(lstat(below("manta/shop/logs"), &file), 0);
    cr_assert_eq(lstat(below("manta/shop/letter.txt"), &file), 0);
    unlink(below("manta/shop/letter.txt"));
    instance_remove(&instance);
    cr_assert_neq(lstat(below("manta/shop"), &file), 0);
    instance_remove(&instance);
}

Test(instance, it_runs_when_somebody_answers_on_its_node_socket)
{
    struct instance instance;
    struct error error;
    cr_assert_eq(create(&instance, &error), 0);
    cr_assert_not(instance_running(&instance));
    int listener = socket_listen_unix(instance.node_socket, 4, &error);
    cr_assert_geq(listener, 0);
    cr_assert(instance_running(&instance));
    socket_close(listener);
    cr_assert_not(instance_running(&instance), "a path that nobody listens on");
}

Test(instance, private_names_are_good_names_and_differ)
{
    char one[INSTANCE_NAME_SIZE], two[INSTANCE_NAME_SIZE];
    struct instance instance;
    instance_private_name(one);
    instance_private_name(two);
    cr_assert_str_neq(one, two);
    cr_assert_eq(strncmp(one, "private-", 8), 0);
    cr_assert_eq(instance_locate(&instance, one, true, NULL), 0);
}

Test(instance, the_programs_are_where_the_environment_says)
{
    char path[4096];
    struct error error;
    setenv("MANTA_LIBEXEC", base, 1);
    cr_assert_eq(instance_libexec(path, sizeof(path), &error), 0);
    cr_assert_str_eq(path, base);
    setenv("MANTA_LIBEXEC", "/nonexistent", 1);
    cr_assert_eq(instance_libexec(path, sizeof(path), &error), ERROR_NOT_FOUND);
    cr_assert_not_null(strstr(error.text, "/nonexistent"));
}

/* ---- processes ---- */

struct found {
    pid_t wanted;
    struct instance_process process; /* the one that was wanted */
    int count;
};

static void note(void *owner, const struct instance_process *process)
{
    struct found *found = owner;
    found->count++;
    if (process->pid == found->wanted)
        found->process = *process;
}

/* Sleeps under that name with those arguments; leads a session, or does not. */
static pid_t sleep_as(const char *const *arguments, bool leads)
{
    int told[2];
    char byte;
    cr_assert_eq(pipe2(told, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (leads)
            setsid();
        execv("/bin/sh", (char *const *)arguments);
        _exit(127);
    }
    close(told[1]);
    cr_assert_eq(read(told[0], &byte, 1), 0); /* closed by its exec */
    close(told[0]);
    return pid;
}

static void end_process(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

#define SLEEP "-c", "while :; do sleep 1; done"

Test(instance, its_processes_are_known_by_their_arguments_and_sessions)
{
    struct instance instance;
    struct error error;
    struct found found = {0};
    create(&instance, &error);
    const char *proxy[] = {"/x/manta-proxy", SLEEP, "--instance", instance.directory,
                           "--number",       "3",   NULL};
    const char *replica[] = {"python",    SLEEP, "--instance", instance.directory,
                             "--replica", "41",  NULL};
    const char *controller[] = {"manta-controller", SLEEP, "--instance", instance.directory, NULL};
    const char *other[] = {"manta-controller", SLEEP, "--instance", "/elsewhere/shop", NULL};
    const char *nameless[] = {"python", SLEEP, "--instance", instance.directory, NULL};
    pid_t pids[] = {sleep_as(proxy, true),   sleep_as(replica, true),  sleep_as(controller, true),
                    sleep_as(other, true),   sleep_as(nameless, true), sleep_as(proxy, false),
                    sleep_as(replica, false)};
    found.wanted = pids[0];
    instance_each_process(&instance, note, &found);
    cr_assert_eq(found.count, 3);
    cr_assert(found.process.role == INSTANCE_PROXY && found.process.number == 3);
    cr_assert_eq(found.process.started, child_start_time(pids[0]));
    found = (struct found){.wanted = pids[1]};
    instance_each_process(&instance, note, &found);
    cr_assert(found.process.role == INSTANCE_REPLICA && found.process.number == 41);
    for (size_t i = 0; i < sizeof(pids) / sizeof(pids[0]); i++)
        end_process(pids[i]);
    found = (struct found){0};
    instance_each_process(&instance, note, &found);
    cr_assert_eq(found.count, 0);
}
