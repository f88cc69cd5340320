/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local engine against a scripted node.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "engine.h"
#include "line.h"
#include "loop.h"
#include "socket.h"

enum { TURNS = 20000 };

struct scene {
    char path[64];
    int listener;
    struct loop *loop;
    struct channel_set channels;
    struct engine *engine;
    struct line node;
    uint32_t wakes;
};

static struct scene scene;

static void turn(void *owner)
{
    (void)owner;
    loop_run_once(scene.loop);
}

static void wake(void *owner)
{
    (void)owner;
    scene.wakes++;
}

/* The node takes the engine's connection and its hello. */
static void accept_engine(void)
{
    int descriptor;
    do
        turn(NULL);
    while ((descriptor = socket_accept(scene.listener)) < 0);
    line_take_over(&scene.node, descriptor, turn, NULL);
    line_await(&scene.node, WIRE_HELLO_FRAME);
    struct wire_hello hello;
    cr_assert_eq(wire_hello_read(&hello, scene.node.payload), 0);
    cr_assert_eq(hello.role, WIRE_ROLE_CONTROLLER);
    line_hello(&scene.node, WIRE_ROLE_NODE, 0, "node");
}

static void begin(void)
{
    struct channel_config config = {
        .frame_limit = 1 << 20, .queue_limit = 1 << 20, .turn_limit = 1 << 20};
    struct error error = {0};
    snprintf(scene.path, sizeof scene.path, "/tmp/manta-engine-%d.sock", (int)getpid());
    scene.listener = socket_listen_unix(scene.path, 8, &error);
    cr_assert_geq(scene.listener, 0, "%s", error.text);
    scene.loop = loop_new();
    cr_assert_eq(channel_set_init(&scene.channels, scene.loop, &config), 0);
    scene.engine = engine_local_new(scene.loop, &scene.channels, scene.path, wake, NULL, &error);
    cr_assert(scene.engine);
    accept_engine();
}

static void end(void)
{
    cr_assert_null(scene.engine->operations->free(scene.engine));
    line_close(&scene.node);
    channel_set_done(&scene.channels);
    loop_free(scene.loop);
    socket_close(scene.listener);
    unlink(scene.path);
}

TestSuite(engine_local, .init = begin, .fini = end);

static struct engine_event next(void)
{
    struct engine_event event = {0};
    for (int i = 0; i < TURNS && !scene.engine->operations->next(scene.engine, &event); i++)
        turn(NULL);
    return event;
}

static void start(uint64_t replica)
{
    struct engine_start order = {.replica = replica,
                                 .version = 99,
                                 .app = BYTES("app"),
                                 .deployment = BYTES("adder"),
                                 .runner = BYTES("c"),
                                 .body = BYTES("document")};
    struct error error = {0};
    cr_assert_eq(scene.engine->operations->start(scene.engine, &order, &error), 0, "%s",
                 error.text);
}

Test(engine_local, a_start_is_told_whole_and_answered_with_the_process)
{
    struct wire_replica_start frame;
    start(5);
    line_await(&scene.node, WIRE_REPLICA_START_FRAME);
    cr_assert_eq(wire_replica_start_read(&frame, scene.node.payload), 0);
    cr_assert_eq(frame.replica, 5);
    cr_assert_eq(frame.version, 99);
    cr_assert(bytes_equal(frame.app, BYTES("app")));
    cr_assert(bytes_equal(frame.deployment, BYTES("adder")));
    cr_assert(bytes_equal(frame.runner, BYTES("c")));
    cr_assert(bytes_equal(frame.body, BYTES("document")));
    line_say_on(&scene.node, 5, replica_here, .replica = 5, .pid = 123, .app = BYTES("app"),
                .deployment = BYTES("adder"));
    struct engine_event event = next();
    cr_assert_eq(event.type, ENGINE_STARTED);
    cr_assert(event.replica == 5 && event.pid == 123);
    cr_assert_geq(scene.wakes, 1);
}

Test(engine_local, a_failed_start_is_told_before_the_replica_is_gone)
{
    start(5);
    line_say_on(&scene.node, 5, outcome, .code = ERROR_NOT_FOUND, .text = BYTES("no such file"));
    line_say_on(&scene.node, 5, replica_exit, .replica = 5, .exit_code = -1);
    struct engine_event event = next();
    cr_assert_eq(event.type, ENGINE_FAILED);
    cr_assert(event.replica == 5 && event.code == ERROR_NOT_FOUND);
    cr_assert(bytes_equal(event.text, BYTES("no such file")));
    event = next();
    cr_assert(event.type == ENGINE_GONE && event.replica == 5 && event.exit_code == -1);
}

Test(engine_local, an_exit_carries_its_code_and_last_words)
{
    line_say_on(&scene.node, 9, replica_exit, .replica = 9, .pid = 4, .exit_code = -1, .signal = 11,
                .text = BYTES("words"));
    struct engine_event event = next();
    cr_assert_eq(event.type, ENGINE_GONE);
    cr_assert(event.signal_number == 11 && bytes_equal(event.text, BYTES("words")));
}

Test(engine_local, a_list_ends_with_its_own_event)
{
    scene.engine->operations->list(scene.engine);
    line_await(&scene.node, WIRE_REPLICA_LIST_FRAME);
    line_say(&scene.node, replica_here, .replica = 1, .pid = 10, .app = BYTES("a"),
             .deployment = BYTES("d"));
    line_say(&scene.node, replica_here, .replica = 2, .pid = 11, .app = BYTES("a"),
             .deployment = BYTES("e"));
    line_say(&scene.node, outcome, .code = 0);
    struct engine_event event = next();
    cr_assert(event.type == ENGINE_HERE && event.replica == 1);
    cr_assert(bytes_equal(event.app, BYTES("a")) && bytes_equal(event.deployment, BYTES("d")));
    cr_assert_eq(next().replica, 2);
    cr_assert_eq(next().type, ENGINE_LISTED);
}

Test(engine_local, stop_and_the_end_of_the_instance_reach_the_node)
{
    struct wire_replica_stop stop;
    scene.engine->operations->stop(scene.engine, 7, true);
    line_await(&scene.node, WIRE_REPLICA_STOP_FRAME);
    cr_assert_eq(wire_replica_stop_read(&stop, scene.node.payload), 0);
    cr_assert(stop.replica == 7 && stop.kill == 1);
    scene.engine->operations->end_instance(scene.engine);
    line_await(&scene.node, WIRE_INSTANCE_END_FRAME);
}

Test(engine_local, what_a_node_lost_while_it_was_away_is_gone)
{
    start(5);
    start(6);
    line_await(&scene.node, WIRE_REPLICA_START_FRAME);
    line_close(&scene.node);
    accept_engine();
    line_await(&scene.node, WIRE_REPLICA_LIST_FRAME);
    line_say(&scene.node, replica_here, .replica = 6, .pid = 1);
    line_say(&scene.node, outcome, .code = 0);
    struct engine_event event = next();
    cr_assert(event.type == ENGINE_GONE && event.replica == 5);
    cr_assert_not(line_has_frame(&scene.node));
    cr_assert_not(scene.engine->operations->next(scene.engine, &event));
}

/* The node dies, and stays away until accept_engine: the next connection waits in the queue. */
static void lose_node(void)
{
    struct pollfd queue = {.fd = scene.listener, .events = POLLIN};
    line_close(&scene.node);
    while (poll(&queue, 1, 0) == 0)
        turn(NULL);
}

/* A process that ends when it is told to. */
static pid_t start_process(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("sleep", "sleep", "100", NULL);
        _exit(127);
    }
    return pid;
}

static void tell_it_runs(uint64_t replica, pid_t pid)
{
    start(replica);
    line_await(&scene.node, WIRE_REPLICA_START_FRAME);
    line_say_on(&scene.node, replica, replica_here, .replica = replica, .pid = (uint32_t)pid);
    cr_assert_eq(next().type, ENGINE_STARTED);
}

Test(engine_local, a_start_that_is_asked_for_without_a_node_is_the_next_ones)
{
    struct wire_replica_start frame;
    struct engine_event event;
    lose_node();
    start(5);
    start(6);
    scene.engine->operations->stop(scene.engine, 6, false);
    event = next();
    cr_assert(event.type == ENGINE_GONE && event.replica == 6);
    accept_engine();
    line_await(&scene.node, WIRE_REPLICA_START_FRAME);
    cr_assert_eq(wire_replica_start_read(&frame, scene.node.payload), 0);
    cr_assert(frame.replica == 5 && bytes_equal(frame.body, BYTES("document")));
    cr_assert_not(line_has_frame(&scene.node));
    cr_assert_not(scene.engine->operations->next(scene.engine, &event));
}

Test(engine_local, a_replica_that_dies_without_a_node_is_gone_at_once)
{
    pid_t pid = start_process();
    tell_it_runs(5, pid);
    lose_node();
    kill(pid, SIGKILL);
    struct engine_event event = next();
    cr_assert(event.type == ENGINE_GONE && event.replica == 5);
    accept_engine();
    for (int i = 0; i < 50; i++)
        turn(NULL);
    cr_assert_not(scene.engine->operations->next(scene.engine, &event));
}

Test(engine_local, a_stop_reaches_a_replica_without_a_node)
{
    pid_t pid = start_process();
    tell_it_runs(5, pid);
    lose_node();
    scene.engine->operations->stop(scene.engine, 5, false);
    struct engine_event event = next();
    cr_assert(event.type == ENGINE_GONE && event.replica == 5);
    cr_assert_eq(event.signal_number, SIGTERM);
    cr_assert_not(scene.engine->operations->end_instance(scene.engine));
}

Test(engine_local, the_next_node_watches_the_replicas_again)
{
    pid_t pid = start_process();
    struct engine_event event;
    tell_it_runs(5, pid);
    lose_node();
    accept_engine();
    line_await(&scene.node, WIRE_REPLICA_LIST_FRAME);
    line_say(&scene.node, replica_here, .replica = 5, .pid = (uint32_t)pid);
    line_say(&scene.node, outcome, .code = 0);
    for (int i = 0; i < 50; i++)
        turn(NULL);
    kill(pid, SIGKILL);
    for (int i = 0; i < 50; i++)
        turn(NULL);
    cr_assert_not(scene.engine->operations->next(scene.engine, &event));
    line_say(&scene.node, replica_exit, .replica = 5, .pid = (uint32_t)pid, .signal = 9);
    event = next();
    cr_assert(event.type == ENGINE_GONE && event.signal_number == 9);
    waitpid(pid, NULL, 0);
}

Test(engine_local, a_node_that_speaks_nonsense_is_left_and_tried_again)
{
    line_put(&scene.node,
             bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16));
    line_await_end(&scene.node);
    line_close(&scene.node);
    accept_engine();
}
