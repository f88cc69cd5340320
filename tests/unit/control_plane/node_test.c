/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta-node as a process, with stand-ins for what it starts: shell scripts in a directory of the
 * test's own, and the test itself as the controller.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "error.h"
#include "instance.h"
#include "line.h"
#include "socket.h"

enum { WAIT_STEPS = 4000, STEP_US = 5000 };

static struct {
    char directory[64], name[40];
    struct instance instance;
    pid_t node;
    int link;
} scene;

/* ---- the scene ---- */

static void write_script(const char *program, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", scene.directory, program);
    FILE *file = fopen(path, "w");
    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    chmod(path, 0700);
}

static void begin(void)
{
    struct error error = {0};
    snprintf(scene.directory, sizeof scene.directory, "/tmp/manta-node-XXXXXX");
    cr_assert(mkdtemp(scene.directory));
    setenv("MANTA_LIBEXEC", scene.directory, 1);
    setenv("XDG_RUNTIME_DIR", scene.directory, 1);
    setenv("XDG_STATE_HOME", scene.directory, 1);
    setenv("MANTA_STOP_GRACE_MS", "300", 1);
    setenv("SCENE", scene.directory, 1);
    instance_private_name(scene.name);
    cr_assert_eq(instance_locate(&scene.instance, scene.name, true, &error), 0, "%s", error.text);
    /* The controllers write down their process ids; the test is the one that speaks. */
    write_script("manta-controller", "echo $$ >>$SCENE/controllers; exec sleep 100");
    write_script("manta-proxy", "echo $$ $* >>$SCENE/proxies; exec sleep 100");
    write_script("manta-replica", "exec sleep 100");
    scene.link = -1;
}

/* A service's logs go where the test may write, whoever runs it. */
static void run_node(const char *port, const char *proxies, bool is_private)
{
    int pair[2];
    cr_assert_eq(socket_pair(pair), 0);
    scene.node = fork();
    if (scene.node == 0) {
        dup2(pair[1], 3);
        fcntl(3, F_SETFD, 0);
        setsid();
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO); /* replicas write much */
        execl(NODE_EXECUTABLE, "manta-node", "--name", scene.name, "--parent-descriptor", "3",
              "--http-port", port, "--proxies", proxies,
              is_private ? "--private" : "--log-directory", is_private ? NULL : scene.directory,
              NULL);
        _exit(127);
    }
    socket_close(pair[1]);
    scene.link = pair[0];
}

static void start_node(const char *port, const char *proxies)
{
    run_node(port, proxies, true);
}

static const char *read_link(void)
{
    static char line[512];
    size_t size = 0;
    memset(line, 0, sizeof line);
    for (int i = 0; i < WAIT_STEPS && !strchr(line, '\n'); i++) {
        struct pollfd wanted = {.fd = scene.link, .events = POLLIN};
        poll(&wanted, 1, 10);
        ssize_t got = socket_read(scene.link, line + size, sizeof line - 1 - size);
        if (got == 0)
            break;
        size += got > 0 ? (size_t)got : 0;
    }
    line[strcspn(line, "\n")] = 0;
    return line;
}

static void wait_until(bool (*holds)(long), long argument, const char *what)
{
    for (int i = 0; i < WAIT_STEPS; i++) {
        if (holds(argument))
            return;
        usleep(STEP_US);
    }
    cr_assert_fail("waited in vain until %s", what);
}

/* Not instance_running: a controller that is about to die answers, too. */
static bool socket_there(long unused)
{
    int descriptor = socket_connect_unix(scene.instance.node_socket);
    (void)unused;
    if (descriptor >= 0)
        socket_close(descriptor);
    return descriptor >= 0;
}

static bool process_gone(long pid)
{
    return kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static bool node_gone(long unused)
{
    (void)unused;
    if (waitpid(scene.node, NULL, WNOHANG) != scene.node)
        return false;
    scene.node = 0;
    return true;
}

static bool directory_there(void)
{
    return access(scene.instance.directory, F_OK) == 0;
}

static long line_count(const char *file)
{
    char path[128];
    int c, count = 0;
    snprintf(path, sizeof path, "%s/%s", scene.directory, file);
    FILE *lines = fopen(path, "r");
    while (lines && (c = getc(lines)) != EOF)
        count += c == '\n';
    if (lines)
        fclose(lines);
    return count;
}

static bool controllers_reached(long wanted)
{
    return line_count("controllers") >= wanted;
}

static bool proxies_reached(long wanted)
{
    return line_count("proxies") >= wanted;
}

static long last_number(const char *file)
{
    char path[128], line[512];
    long number = 0;
    snprintf(path, sizeof path, "%s/%s", scene.directory, file);
    FILE *lines = fopen(path, "r");
    while (lines && fgets(line, sizeof line, lines))
        number = atol(line);
    if (lines)
        fclose(lines);
    return number;
}

static struct line be_controller(void)
{
    struct line line;
    wait_until(socket_there, 0, "the node listens");
    line_connect(&line, scene.instance.node_socket, NULL, NULL);
    line_hello(&line, WIRE_ROLE_CONTROLLER, 0, "controller");
    line_await(&line, WIRE_HELLO_FRAME);
    return line;
}

/* A node that is ready, and its controller. */
static struct line ready(void)
{
    start_node("-1", "0");
    struct line line = be_controller();
    cr_assert_str_eq(read_link(), "ready -1");
    return line;
}

static uint32_t start_replica(struct line *line, uint64_t id)
{
    struct wire_replica_here here;
    line_say(line, replica_start, .replica = id, .app = BYTES("app"), .deployment = BYTES("adder"),
             .runner = BYTES("c"), .version = 0xabc, .body = BYTES("document"));
    line_await(line, WIRE_REPLICA_HERE_FRAME);
    cr_assert_eq(line->header.stream, id);
    cr_assert_eq(wire_replica_here_read(&here, line->payload), 0);
    cr_assert(here.replica == id && here.pid > 0);
    return here.pid;
}

static struct wire_replica_exit await_exit(struct line *line)
{
    struct wire_replica_exit gone;
    line_await(line, WIRE_REPLICA_EXIT_FRAME);
    cr_assert_eq(wire_replica_exit_read(&gone, line->payload), 0);
    return gone;
}

/* By its own means, so that no stand-in stays behind. */
static void end(void)
{
    char command[128];
    socket_close(scene.link);
    if (scene.node > 0)
        wait_until(node_gone, 0, "the node ends");
    snprintf(command, sizeof command, "rm -rf %s", scene.directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(node, .init = begin, .fini = end);

/* ---- the beginning ---- */

Test(node, it_is_ready_when_the_controller_stands)
{
    char path[256], text[512] = "";
    start_node("0", "2");
    wait_until(socket_there, 0, "the node listens");
    struct pollfd silent = {.fd = scene.link, .events = POLLIN};
    cr_assert_eq(poll(&silent, 1, 0), 0);
    struct line line = be_controller();
    int port = 0;
    cr_assert_eq(sscanf(read_link(), "ready %d", &port), 1);
    cr_assert_gt(port, 0);
    snprintf(path, sizeof path, "%s/instance.json", scene.instance.directory);
    FILE *file = fopen(path, "r");
    cr_assert(file && fgets(text, sizeof text, file));
    fclose(file);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"http_port\":%d", port);
    cr_assert(strstr(text, wanted) && strstr(text, scene.name), "%s", text);
    wait_until(proxies_reached, 2, "both proxies run");
    line_close(&line);
}

Test(node, a_port_in_use_is_told_to_who_started_it)
{
    struct error error = {0};
    char port[16], wanted[128];
    int listener = socket_listen_tcp("127.0.0.1", 0, 8, &error);
    snprintf(port, sizeof port, "%u", socket_local_port(listener));
    start_node(port, "1");
    snprintf(wanted, sizeof wanted, "error %d port %s on 127.0.0.1 is in use", ERROR_EXISTS, port);
    cr_assert_str_eq(read_link(), wanted);
    wait_until(node_gone, 0, "the node ends");
    cr_assert_not(directory_there());
    socket_close(listener);
}

Test(node, a_second_instance_of_a_name_leaves_the_first_alone)
{
    char wanted[128];
    struct line line = ready();
    pid_t first = scene.node;
    int first_link = scene.link;
    start_node("-1", "0");
    snprintf(wanted, sizeof wanted, "error %d instance '%s' runs already", ERROR_EXISTS,
             scene.name);
    cr_assert_str_eq(read_link(), wanted);
    wait_until(node_gone, 0, "the second ends");
    cr_assert(instance_running(&scene.instance));
    cr_assert(start_replica(&line, 1) > 0);
    socket_close(scene.link);
    scene.node = first;
    scene.link = first_link;
    line_close(&line);
}

Test(node, a_controller_that_never_starts_is_told_to_who_started_it)
{
    write_script("manta-controller", "exit 3");
    start_node("-1", "0");
    const char *line = read_link();
    cr_assert(strstr(line, "error ") == line && strstr(line, "exit code 3"), "%s", line);
    wait_until(node_gone, 0, "the node ends");
    cr_assert_not(directory_there());
}

/* ---- roles ---- */

Test(node, the_controller_and_proxies_are_started_again)
{
    start_node("0", "1");
    struct line line = be_controller();
    wait_until(controllers_reached, 1, "the controller runs");
    wait_until(proxies_reached, 1, "the proxy runs");
    kill((pid_t)last_number("controllers"), SIGKILL);
    wait_until(controllers_reached, 2, "another controller runs");
    kill((pid_t)last_number("proxies"), SIGKILL);
    wait_until(proxies_reached, 2, "another proxy runs");
    line_close(&line);
}

/* ---- replicas ---- */

Test(node, a_replica_gets_its_document_and_its_last_words_are_told)
{
    write_script("manta-replica", "echo \"$*\" >&2; cat /proc/self/fd/3 >&2; echo >&2; exit 7");
    struct line line = ready();
    uint32_t pid = start_replica(&line, 42);
    struct wire_replica_exit gone = await_exit(&line);
    char text[4096];
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(gone.text));
    cr_assert(gone.replica == 42 && gone.pid == pid && gone.exit_code == 7 && gone.signal == 0);
    cr_assert(strstr(text, "--replica 42 --version-hash abc --document-descriptor 3"), "%s", text);
    cr_assert(strstr(text, "\ndocument\n"), "%s", text);
    line_close(&line);
}

Test(node, of_many_words_the_last_lines_are_kept)
{
    write_script("manta-replica",
                 "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; kill -9 $$");
    struct line line = ready();
    start_replica(&line, 1);
    struct wire_replica_exit gone = await_exit(&line);
    cr_assert(gone.signal == SIGKILL && gone.exit_code == -1);
    cr_assert_leq(gone.text.size, 2048);
    cr_assert(bytes_starts_with(gone.text, BYTES("line ")));
    cr_assert(bytes_equal(bytes_skip(gone.text, gone.text.size - 10), BYTES("line 4999\n")));
    line_close(&line);
}

Test(node, a_stop_ends_a_replica_and_what_it_started)
{
    write_script("manta-replica", "sleep 100 & echo $! >$SCENE/below; trap '' TERM; wait; wait");
    struct line line = ready();
    uint32_t pid = start_replica(&line, 1);
    for (int i = 0; i < WAIT_STEPS && line_count("below") == 0; i++)
        usleep(STEP_US);
    long below = last_number("below");
    cr_assert_gt(below, 0);
    line_say(&line, replica_stop, .replica = 1, .kill = 1);
    struct wire_replica_exit gone = await_exit(&line);
    cr_assert(gone.pid == pid && gone.signal == SIGKILL);
    wait_until(process_gone, below, "its child is gone");
    line_close(&line);
}

Test(node, a_stop_of_an_unknown_replica_is_answered_with_its_end)
{
    struct line line = ready();
    line_say(&line, replica_stop, .replica = 99);
    struct wire_replica_exit gone = await_exit(&line);
    cr_assert(gone.replica == 99 && gone.pid == 0 && gone.exit_code == -1);
    line_close(&line);
}

Test(node, a_start_that_cannot_be_is_told_with_its_reason)
{
    struct line line = ready();
    struct wire_outcome outcome;
    line_say(&line, replica_start, .replica = 5, .runner = BYTES("fortran"), .body = BYTES("x"));
    line_await(&line, WIRE_OUTCOME_FRAME);
    cr_assert_eq(wire_outcome_read(&outcome, line.payload), 0);
    cr_assert(line.header.stream == 5 && outcome.code == ERROR_INVALID);
    cr_assert(strstr((const char *)outcome.text.at, "fortran"));
    cr_assert_eq(await_exit(&line).replica, 5);
    line_close(&line);
}

Test(node, replicas_outlive_the_controller_and_what_it_missed_is_told)
{
    struct line line = ready();
    uint32_t first = start_replica(&line, 1), second = start_replica(&line, 2);
    line_close(&line);
    kill((pid_t)first, SIGKILL);
    wait_until(process_gone, first, "the first is gone");
    line = be_controller();
    cr_assert_eq(await_exit(&line).replica, 1);
    struct wire_replica_here here;
    line_say(&line, replica_list);
    line_await(&line, WIRE_REPLICA_HERE_FRAME);
    cr_assert_eq(wire_replica_here_read(&here, line.payload), 0);
    cr_assert(here.replica == 2 && here.pid == second && line.header.stream == 0);
    line_take(&line);
    cr_assert_eq(line.header.type, WIRE_OUTCOME_FRAME);
    line_close(&line);
}

Test(node, only_a_controller_may_command)
{
    struct line line = ready(), other;
    line_connect(&other, scene.instance.node_socket, NULL, NULL);
    line_hello(&other, WIRE_ROLE_PROXY, 0, "proxy");
    line_await_end(&other);
    line_close(&other);
    line_connect(&other, scene.instance.node_socket, NULL, NULL);
    line_say(&other, instance_end);
    line_await_end(&other);
    line_close(&other);
    cr_assert(start_replica(&line, 1) > 0);
    line_close(&line);
}

/* ---- the end ---- */

Test(node, with_its_parent_everything_of_a_private_instance_ends)
{
    struct line line = ready();
    uint32_t replica = start_replica(&line, 1);
    wait_until(controllers_reached, 1, "the controller runs");
    long controller = last_number("controllers");
    socket_close(scene.link);
    scene.link = -1;
    wait_until(node_gone, 0, "the node ends");
    cr_assert(process_gone(replica) && process_gone(controller));
    cr_assert_not(directory_there());
    line_close(&line);
}

Test(node, what_does_not_end_politely_is_killed)
{
    write_script("manta-replica", "trap '' TERM; while :; do sleep 100; done");
    struct line line = ready();
    uint32_t replica = start_replica(&line, 1);
    socket_close(scene.link);
    scene.link = -1;
    wait_until(node_gone, 0, "the node ends");
    cr_assert(process_gone(replica));
    cr_assert_not(directory_there());
    line_close(&line);
}

Test(node, what_left_its_session_ends_with_the_instance)
{
    write_script("manta-replica", "setsid sh -c 'echo $$ >$SCENE/below; exec sleep 100' & wait");
    struct line line = ready();
    start_replica(&line, 1);
    for (int i = 0; i < WAIT_STEPS && line_count("below") == 0; i++)
        usleep(STEP_US);
    long below = last_number("below");
    line_say(&line, instance_end);
    wait_until(node_gone, 0, "the node ends");
    wait_until(process_gone, below, "the one that left is gone");
    line_close(&line);
}

Test(node, a_second_signal_ends_it_at_once)
{
    setenv("MANTA_STOP_GRACE_MS", "600000", 1);
    write_script("manta-replica", "trap '' TERM; while :; do sleep 100; done");
    struct line line = ready();
    uint32_t replica = start_replica(&line, 1);
    wait_until(controllers_reached, 1, "the controller runs");
    long controller = last_number("controllers");
    kill(scene.node, SIGTERM);
    wait_until(process_gone, controller, "the controller is gone");
    kill(scene.node, SIGTERM);
    wait_until(node_gone, 0, "the node ends");
    cr_assert(process_gone(replica));
    line_close(&line);
}

/* ---- after an earlier node ---- */

/* A service's node that is ready, and its controller. */
static struct line ready_service(void)
{
    run_node("-1", "1", false);
    struct line line = be_controller();
    cr_assert_str_eq(read_link(), "ready -1");
    return line;
}

static void end_service(struct line *controller)
{
    line_say(controller, instance_end);
    wait_until(node_gone, 0, "the node ends");
    line_close(controller);
}

/* What this process would say if an earlier node had started it. */
static void greet(struct line *line, enum wire_role role, uint64_t number, uint64_t started)
{
    struct wire_role_here here = {.role = (uint8_t)role, .number = number, .started = started};
    uint8_t bytes[512];
    size_t size = wire_return_write(&here, (uint32_t)getpid(), bytes, sizeof bytes);
    cr_assert_gt(size, 0);
    line_connect(line, scene.instance.node_socket, NULL, NULL);
    line_put(line, bytes_of(bytes, size));
}

Test(node, a_process_that_is_not_the_one_that_was_started_is_refused)
{
    struct line controller = ready_service(), line;
    greet(&line, WIRE_ROLE_REPLICA, 7, child_start_time(getpid()) + 1);
    line_await_end(&line);
    line_close(&line);
    greet(&line, WIRE_ROLE_REPLICA, 7, 0);
    line_await_end(&line);
    line_close(&line);
    end_service(&controller);
}

/* In a process of its own, since it does not survive: the signal that ended it. */
static int signal_of_greeting(enum wire_role role, uint64_t number)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct line line;
        setsid();
        greet(&line, role, number, child_start_time(getpid()));
        line_await_end(&line);
        pause();
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

Test(node, who_comes_too_late_or_to_a_place_that_is_taken_is_killed)
{
    struct line controller = ready_service();
    uint32_t replica = start_replica(&controller, 1);
    cr_assert_eq(signal_of_greeting(WIRE_ROLE_REPLICA, 1), SIGKILL);
    cr_assert_eq(signal_of_greeting(WIRE_ROLE_REPLICA, 2), SIGKILL);
    cr_assert_eq(signal_of_greeting(WIRE_ROLE_CONTROLLER, 0), SIGKILL);
    cr_assert_eq(signal_of_greeting(WIRE_ROLE_PROXY, 1), SIGKILL);
    cr_assert_not(process_gone(replica));
    end_service(&controller);
}

Test(node, a_private_instance_takes_nobody_back)
{
    struct line controller = ready(), line;
    greet(&line, WIRE_ROLE_REPLICA, 7, child_start_time(getpid()));
    line_await_end(&line);
    line_close(&line);
    line_close(&controller);
}

/* The stand-in is known by its arguments, and says nothing. */
Test(node, a_list_waits_until_the_silent_are_gone)
{
    struct wire_replica_exit gone;
    setenv("MANTA_NODE_RETURN_MS", "300", 1);
    write_script("manta-replica", "while :; do sleep 1; done");
    struct line line = ready_service();
    uint32_t silent = start_replica(&line, 7);
    kill(scene.node, SIGKILL);
    wait_until(node_gone, 0, "the node is dead");
    line_close(&line);
    cr_assert_not(process_gone(silent));
    long former = last_number("controllers");
    kill((pid_t)former, SIGKILL);
    wait_until(process_gone, former, "the former controller is gone"); /* its place is free */
    socket_close(scene.link);
    run_node("-1", "0", false);
    line = be_controller();
    line_say(&line, replica_list);
    line_take(&line);
    cr_assert_eq(line.header.type, WIRE_REPLICA_EXIT_FRAME);
    cr_assert_eq(wire_replica_exit_read(&gone, line.payload), 0);
    cr_assert(gone.replica == 7 && gone.pid == silent && gone.exit_code == -1 && gone.signal == 0);
    line_take(&line);
    cr_assert_eq(line.header.type, WIRE_OUTCOME_FRAME);
    cr_assert_str_eq(read_link(), "ready -1");
    end_service(&line);
}
