/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public door: a program with an event loop of its own is a replica (door_replica.c); this test
 * is its node, its controller and its callers, frame by frame.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "line.h"
#include "mem.h"
#include "socket.h"
#include "target.h"
#include "value.h"

enum { REPLICA = 7, DOCUMENT = 9 };

static struct {
    char directory[64], controller[108], replica[108];
    int listener;
    pid_t pid;
    struct line desk;   /* the controller's end */
    struct line caller; /* a sender's end */
} scene;

/* ---- the scene ------------------------------------------------------------------------------ */

static int document_of(const struct target_replica *target)
{
    struct text text;
    text_init(&text, 1 << 16);
    target_write_replica(&text, target);
    int descriptor = memfd_create("document", 0);
    cr_assert_eq(write(descriptor, text.at, text.size), (ssize_t)text.size);
    text_done(&text);
    return descriptor;
}

static struct target_replica target_with(struct text *args)
{
    text_init(args, 64);
    value_write_array(args, 1);
    value_write_int(args, 42);
    return (struct target_replica){.app = BYTES("app"),
                                   .deployment = BYTES("model"),
                                   .runner = BYTES("loop"),
                                   .code = BYTES("good"),
                                   .user_config = BYTES("{\"a\":1}"),
                                   .args = text_bytes(args),
                                   .threads = 1,
                                   .max_ongoing_requests = 3,
                                   .max_batch_size = 1,
                                   .max_concurrent_batches = 1,
                                   .health_check_period_us = 10000000,
                                   .health_check_timeout_us = 30000000,
                                   .graceful_shutdown_timeout_us = 20000000};
}

static void start_program(int document)
{
    char number[16];
    snprintf(number, sizeof number, "%d", DOCUMENT);
    scene.pid = fork();
    if (scene.pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails nothing stays */
    dup2(document, DOCUMENT);
    dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    execl(DOOR_REPLICA, "door_replica", "--instance", scene.directory, "--controller",
          scene.controller, "--replica", "7", "--version-hash", "ab", "--document-descriptor",
          number, "--log-directory", scene.directory, NULL);
    _exit(127);
}

static void accept_desk(void)
{
    struct pollfd wanted = {.fd = scene.listener, .events = POLLIN};
    cr_assert_eq(poll(&wanted, 1, LINE_WAIT_MS), 1, "the replica does not come");
    line_take_over(&scene.desk, socket_accept(scene.listener), NULL, NULL);
    line_hello(&scene.desk, WIRE_ROLE_CONTROLLER, 0, "controller");
    line_await(&scene.desk, WIRE_HELLO_FRAME);
}

static void begin(const struct target_replica *target)
{
    struct error error = {0};
    strcpy(scene.directory, "/tmp/manta-door-XXXXXX");
    cr_assert(mkdtemp(scene.directory));
    snprintf(scene.controller, sizeof scene.controller, "%s/controller.sock", scene.directory);
    snprintf(scene.replica, sizeof scene.replica, "%s/replica-7.sock", scene.directory);
    scene.listener = socket_listen_unix(scene.controller, 4, &error);
    cr_assert_geq(scene.listener, 0, "%s", error.text);
    int document = document_of(target);
    start_program(document);
    close(document);
    accept_desk();
}

static void begin_ready(const struct target_replica *target)
{
    struct wire_replica_ready ready;
    begin(target);
    line_await(&scene.desk, WIRE_REPLICA_READY_FRAME);
    cr_assert_eq(wire_replica_ready_read(&ready, scene.desk.payload), 0);
    cr_assert_eq(ready.replica, REPLICA);
    cr_assert_eq(ready.version, 0xab);
    cr_assert(bytes_equal(ready.address, bytes_of_string(scene.replica)));
    line_connect(&scene.caller, scene.replica, NULL, NULL);
    line_hello(&scene.caller, WIRE_ROLE_HANDLE, 0, "caller");
    line_await(&scene.caller, WIRE_HELLO_FRAME);
}

static void begin_plainly(void)
{
    struct text args;
    struct target_replica target = target_with(&args);
    begin_ready(&target);
    text_done(&args);
}

static int exit_status(void)
{
    int status = 0;
    cr_assert_eq(waitpid(scene.pid, &status, 0), scene.pid);
    cr_assert(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void end(void)
{
    char command[128];
    line_say(&scene.desk, drain, .timeout_us = 20000000);
    cr_assert_eq(exit_status(), 0);
    cr_assert_neq(access(scene.replica, F_OK), 0, "the socket stays behind");
    snprintf(command, sizeof command, "rm -r %s", scene.directory);
    cr_assert_eq(system(command), 0);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static uint64_t stream_of(uint32_t index)
{
    return 1ULL << 32 | index;
}

/* flags: WIRE_STREAM to get the answer in parts */
static void ask(uint32_t index, const char *word, uint8_t flags)
{
    struct text args;
    text_init(&args, 256);
    value_write_array(&args, 1);
    value_write_string(&args, bytes_of_string(word));
    struct wire_request request = {.deployment = 1,
                                   .body_size = args.size,
                                   .method = BYTES("__call__"),
                                   .content_type = BYTES(VALUE_CONTENT_TYPE),
                                   .request_id = BYTES("id"),
                                   .body = text_bytes(&args)};
    uint8_t *room = line_room(wire_request_size(&request));
    line_put(&scene.caller, bytes_of(room, wire_request_write(&request, flags | WIRE_END,
                                                              stream_of(index), false, room)));
    text_done(&args);
}

static struct wire_reply answer(uint32_t index)
{
    struct wire_reply reply = {0};
    do /* of a cancelled one a last word may come */
        line_await(&scene.caller, WIRE_REPLY_FRAME);
    while (scene.caller.header.stream != stream_of(index));
    cr_assert_eq(wire_reply_read(&reply, scene.caller.payload), 0);
    return reply;
}

static const char *answer_json(uint32_t index)
{
    static struct text json;
    struct wire_reply reply = answer(index);
    cr_assert_eq(reply.code, 0, "%.*s", BYTES_PRINT(reply.error));
    text_done(&json);
    text_init(&json, 4096);
    value_print(reply.body, &json);
    return text_string(&json);
}

static const char *say(const char *word)
{
    ask(1, word, 0);
    return answer_json(1);
}

/* ---- stories --------------------------------------------------------------------------------- */

Test(door, what_the_document_says_reaches_the_runner, .timeout = 60)
{
    begin_plainly();
    cr_assert_str_eq(say("facts"),
                     "[\"app\",\"model\",\"7\",\"loop\",\"Z29vZA==\",42,\"{\\\"a\\\":1}\",3]");
    end();
}

Test(door, requests_are_answered_on_the_loop, .timeout = 60)
{
    begin_plainly();
    for (int i = 0; i < 200; i++)
        cr_assert_str_eq(say("hello"), "\"hello\"");
    end();
}

Test(door, a_failure_reaches_the_caller_with_its_text, .timeout = 60)
{
    begin_plainly();
    ask(1, "fail", 0);
    struct wire_reply reply = answer(1);
    cr_assert_eq(reply.code, ERROR_USER);
    cr_assert(bytes_equal(reply.error, BYTES("as asked")));
    end();
}

Test(door, a_streamed_answer_comes_in_parts, .timeout = 60)
{
    struct wire_part part;
    begin_plainly();
    ask(1, "stream", WIRE_STREAM);
    struct wire_reply head = answer(1);
    cr_assert_eq(head.code, 0);
    for (int i = 0; i < 3; i++) {
        line_await(&scene.caller, WIRE_PART_FRAME);
        cr_assert_eq(wire_part_read(&part, scene.caller.payload), 0);
        cr_assert(part.body.size > 0);
    }
    line_await(&scene.caller, WIRE_HALF_CLOSE_FRAME);
    end();
}

Test(door, a_writer_without_credit_goes_on_when_told_of_room, .timeout = 60)
{
    size_t received = 0;
    begin_plainly();
    ask(1, "flood", WIRE_STREAM);
    answer(1);
    while (true) {
        struct wire_part part;
        line_take(&scene.caller);
        if (scene.caller.header.type == WIRE_HALF_CLOSE_FRAME)
            break;
        cr_assert_eq(scene.caller.header.type, WIRE_PART_FRAME);
        cr_assert_eq(wire_part_read(&part, scene.caller.payload), 0);
        received += part.body.size;
        uint32_t size = (uint32_t)part.body.size;
        line_say_on(&scene.caller, stream_of(1), credit, .size = size);
    }
    cr_assert_geq(received, 64 * 4096);
    end();
}

Test(door, a_cancel_is_an_event_with_the_owner_of_the_request, .timeout = 60)
{
    begin_plainly();
    ask(1, "wait", 0);
    cr_assert_str_eq((ask(2, "cancels", 0), answer_json(2)), "0");
    line_say_on(&scene.caller, stream_of(1), cancel, .code = ERROR_CANCELLED);
    do
        ask(2, "cancels", 0);
    while (strcmp(answer_json(2), "1") != 0);
    end(); /* with the waiting request answered, it closes well */
}

Test(door, the_models_that_a_runner_holds_are_told_before_its_answer, .timeout = 60)
{
    struct wire_models models;
    struct bytes id, empty;
    char code[16];
    begin_plainly();
    ask(1, "hold", 0);
    line_take(&scene.caller);
    cr_assert_eq(scene.caller.header.type, WIRE_MODELS_FRAME);
    cr_assert_eq(wire_models_read(&models, scene.caller.payload), 0);
    cr_assert(wire_field_next(&models.ids, &id, &empty) && bytes_equal(id, BYTES("llama")));
    cr_assert(wire_field_next(&models.ids, &id, &empty) && bytes_equal(id, BYTES("bert")));
    cr_assert_eq(models.ids.size, 0);
    snprintf(code, sizeof code, "%d", ERROR_INVALID);
    cr_assert_str_eq(answer_json(1), code);
    end();
}

/* The first pong may still come from the loop; some pong tells of running code. */
static void await_running(void)
{
    struct wire_pong pong = {0};
    for (uint64_t token = 1; !pong.running_ms && token < 20000; token++) {
        line_say(&scene.desk, ping, .token = token);
        line_await(&scene.desk, WIRE_PONG_FRAME);
        cr_assert_eq(wire_pong_read(&pong, scene.desk.payload), 0);
        cr_assert_eq(pong.token, token);
    }
    cr_assert_gt(pong.running_ms, 0, "no pong told how long the code has been running");
}

Test(door, pings_are_answered_while_user_code_keeps_the_loop, .timeout = 60)
{
    begin_plainly();
    ask(1, "work", 0);
    await_running();
    cr_assert_not(line_has_frame(&scene.caller), "the pong waited for the code");
    cr_assert_str_eq(answer_json(1), "\"worked\"");
    end();
}

Test(door, what_is_too_much_is_rejected_while_user_code_keeps_the_loop, .timeout = 60)
{
    begin_plainly();
    for (uint32_t i = 1; i <= 4; i++)
        ask(i, "work", 0);
    line_take(&scene.caller);
    cr_assert_eq(scene.caller.header.type, WIRE_REJECT_FRAME, "a %s came",
                 wire_frame_name(scene.caller.header.type));
    cr_assert_eq(scene.caller.header.stream, stream_of(4));
    for (uint32_t i = 1; i <= 3; i++)
        cr_assert_str_eq(answer_json(i), "\"worked\"");
    end();
}

Test(door, requests_come_in_batches_when_the_runner_wants_them, .timeout = 60)
{
    struct text args;
    struct target_replica target = target_with(&args);
    target.max_batch_size = 3;
    target.batch_wait_us = 20000000; /* the batch is full long before */
    begin_ready(&target);
    text_done(&args);
    for (uint32_t i = 1; i <= 3; i++)
        ask(i, "batches", 0);
    for (uint32_t i = 1; i <= 3; i++)
        cr_assert_str_eq(answer_json(i), "0"); /* counted once the batch is over */
    for (uint32_t i = 1; i <= 3; i++)
        ask(i, "batches", 0);
    for (uint32_t i = 1; i <= 3; i++)
        cr_assert_str_eq(answer_json(i), "1");
    end();
}

Test(door, a_health_report_reaches_the_controller, .timeout = 60)
{
    struct wire_report report;
    begin_plainly();
    say("unwell");
    line_await(&scene.desk, WIRE_REPORT_FRAME);
    cr_assert_eq(wire_report_read(&report, scene.desk.payload), 0);
    cr_assert_eq(report.healthy, 0);
    cr_assert(bytes_equal(report.text, BYTES("unwell as asked")));
    end();
}

/* ---- what may change while it runs ---- */

static void tell(uint64_t stream, const char *user_config, int64_t hash, int64_t rank)
{
    struct target_configuration configuration = {.user_config = bytes_of_string(user_config),
                                                 .max_ongoing_requests = 2,
                                                 .health_check_period_us = 10000000,
                                                 .health_check_timeout_us = 30000000,
                                                 .configuration = hash,
                                                 .rank = rank,
                                                 .world_size = 4};
    struct text body;
    text_init(&body, 1 << 16);
    target_write_configuration(&body, &configuration);
    line_say_on(&scene.desk, stream, reconfigure, .max_ongoing = 2, .body = text_bytes(&body));
    text_done(&body);
}

/* The outcome on the stream: its code, and the text that came with it. */
static int outcome_on(uint64_t stream, const char *text)
{
    struct wire_outcome outcome;
    line_await(&scene.desk, WIRE_OUTCOME_FRAME);
    cr_assert_eq(scene.desk.header.stream, stream);
    cr_assert_eq(wire_outcome_read(&outcome, scene.desk.payload), 0);
    cr_assert(bytes_equal(outcome.text, bytes_of_string(text)), "%.*s", BYTES_PRINT(outcome.text));
    return outcome.code;
}

/* What is told comes on another connection than requests do. */
static void await_configuration(uint32_t index, const char *json)
{
    for (int waited = 0;; waited++) {
        ask(index + (uint32_t)waited, "configuration", 0);
        if (strcmp(answer_json(index + (uint32_t)waited), json) == 0)
            return;
        cr_assert_lt(waited, LINE_WAIT_MS, "it is not told: %s", json);
        usleep(1000);
    }
}

Test(door, a_configuration_is_in_force_before_its_outcome, .timeout = 60)
{
    begin_plainly();
    ask(1, "configuration", 0);
    cr_assert_str_eq(answer_json(1), "\"0 {\\\"a\\\":1} rank -1 of 0\"");
    tell(5, "{\"a\":2}", 77, 3);
    cr_assert_eq(outcome_on(5, ""), 0);
    ask(2, "configuration", 0);
    cr_assert_str_eq(answer_json(2), "\"1 {\\\"a\\\":2} rank 3 of 4\"");
    tell(6, "{\"a\":2}", 77, 3); /* nothing new for user code */
    cr_assert_eq(outcome_on(6, ""), 0);
    ask(3, "configuration", 0);
    cr_assert_str_eq(answer_json(3), "\"1 {\\\"a\\\":2} rank 3 of 4\"");
    tell(7, "refuse", 78, 3);
    cr_assert_eq(outcome_on(7, "refused as asked"), ERROR_USER);
    end();
}

Test(door, a_broken_configuration_is_refused_and_changes_nothing, .timeout = 60)
{
    begin_plainly();
    line_say_on(&scene.desk, 5, reconfigure, .max_ongoing = 2, .body = BYTES("\xc1"));
    cr_assert_eq(outcome_on(5, "configuration: no MessagePack at byte 0"), ERROR_INVALID);
    ask(1, "configuration", 0);
    cr_assert_str_eq(answer_json(1), "\"0 {\\\"a\\\":1} rank -1 of 0\"");
    end();
}

Test(door, the_last_of_several_configurations_counts, .timeout = 60)
{
    begin_plainly();
    tell(5, "later", 71, 0);
    await_configuration(10, "\"1 later rank 0 of 4\"");
    tell(6, "skipped", 72, 0);
    tell(7, "last", 73, 1);
    line_say(&scene.desk, ping, .token = 1);
    line_await(&scene.desk, WIRE_PONG_FRAME); /* they have come */
    ask(1, "configured", 0); /* the first is over; of the others user code sees the last */
    cr_assert_eq(outcome_on(7, ""), 0);
    ask(2, "configuration", 0);
    cr_assert_str_eq(answer_json(2), "\"2 last rank 1 of 4\"");
    end();
}

Test(door, another_controller_hears_what_is_in_force_and_nothing_of_what_was_asked_before,
     .timeout = 60)
{
    struct wire_replica_ready ready;
    begin_plainly();
    tell(5, "first", 71, 2);
    cr_assert_eq(outcome_on(5, ""), 0);
    tell(6, "later", 72, 2);
    await_configuration(10, "\"2 later rank 2 of 4\"");
    line_close(&scene.desk);
    accept_desk();
    line_await(&scene.desk, WIRE_REPLICA_READY_FRAME);
    cr_assert_eq(wire_replica_ready_read(&ready, scene.desk.payload), 0);
    cr_assert_eq(ready.configuration, 71);
    cr_assert_eq(ready.rank, 3);
    cr_assert_eq(ready.world_size, 4);
    tell(9, "later", 72, 2); /* it asks for the same, which is under way */
    line_say(&scene.desk, ping, .token = 1);
    line_await(&scene.desk, WIRE_PONG_FRAME);
    ask(2, "configured", 0);
    cr_assert_eq(outcome_on(9, ""), 0);
    ask(3, "configuration", 0);
    cr_assert_str_eq(answer_json(3), "\"2 later rank 2 of 4\"");
    end();
}

Test(door, a_drain_lets_what_runs_end, .timeout = 60)
{
    begin_plainly();
    ask(1, "work", 0);
    await_running();
    line_say(&scene.desk, drain, .timeout_us = 20000000);
    cr_assert_str_eq(answer_json(1), "\"worked\"");
    cr_assert_eq(exit_status(), 0);
}

Test(door, what_is_not_answered_when_the_time_is_up_keeps_its_memory, .timeout = 60)
{
    begin_plainly();
    ask(1, "wait", 0);
    cr_assert_str_eq((ask(2, "hello", 0), answer_json(2)), "\"hello\"");
    line_say(&scene.desk, drain, .timeout_us = 1000);
    cr_assert_eq(exit_status(), 3);
}

Test(door, a_terminated_replica_drains, .timeout = 60)
{
    begin_plainly();
    kill(scene.pid, SIGTERM);
    cr_assert_eq(exit_status(), 0);
}

Test(door, a_failed_start_is_reported_with_its_words, .timeout = 60)
{
    struct text args;
    struct wire_replica_failed failed;
    struct target_replica target = target_with(&args);
    target.code = BYTES("bad");
    begin(&target);
    text_done(&args);
    line_await(&scene.desk, WIRE_REPLICA_FAILED_FRAME);
    cr_assert_eq(wire_replica_failed_read(&failed, scene.desk.payload), 0);
    cr_assert_eq(failed.code, ERROR_USER);
    cr_assert(bytes_equal(failed.text, BYTES("bad as asked")));
    cr_assert_eq(exit_status(), 1);
}

/* ---- two replicas in one process ------------------------------------------------------------- */

static struct line accept_ready(uint64_t *ret_replica)
{
    struct wire_replica_ready ready;
    accept_desk();
    line_await(&scene.desk, WIRE_REPLICA_READY_FRAME);
    cr_assert_eq(wire_replica_ready_read(&ready, scene.desk.payload), 0);
    *ret_replica = ready.replica;
    return scene.desk;
}

static void begin_both(struct line desks[2], struct line callers[2])
{
    struct error error = {0};
    struct text args;
    struct target_replica target = target_with(&args);
    char documents[2][16], path[108];
    strcpy(scene.directory, "/tmp/manta-door-XXXXXX");
    cr_assert(mkdtemp(scene.directory));
    snprintf(scene.controller, sizeof scene.controller, "%s/controller.sock", scene.directory);
    scene.listener = socket_listen_unix(scene.controller, 4, &error);
    cr_assert_geq(scene.listener, 0, "%s", error.text);
    for (int i = 0; i < 2; i++) {
        int document = document_of(&target), kept = dup(document); /* without close-on-exec */
        close(document);
        snprintf(documents[i], sizeof documents[i], "%d", kept);
    }
    scene.pid = fork();
    if (scene.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        execl(DOOR_REPLICA, "door_replica", "--instance", scene.directory, "--controller",
              scene.controller, "--replica", "7", "--version-hash", "ab", "--document-descriptor",
              documents[0], "--log-directory", scene.directory, "--and", "--instance",
              scene.directory, "--controller", scene.controller, "--replica", "8", "--version-hash",
              "cd", "--document-descriptor", documents[1], "--log-directory", scene.directory,
              NULL);
        _exit(127);
    }
    for (int i = 0; i < 2; i++) {
        uint64_t replica = 0;
        desks[i] = accept_ready(&replica);
        cr_assert_eq(replica, REPLICA + i);
        snprintf(path, sizeof path, "%s/replica-%d.sock", scene.directory, REPLICA + i);
        line_connect(&callers[i], path, NULL, NULL);
        line_hello(&callers[i], WIRE_ROLE_HANDLE, 0, "caller");
        line_await(&callers[i], WIRE_HELLO_FRAME);
        close(atoi(documents[i]));
    }
    text_done(&args);
}

Test(door, a_taker_beside_another_is_a_replica_of_its_own, .timeout = 60)
{
    struct line desks[2], callers[2];
    char command[128];
    begin_both(desks, callers);
    for (int round = 0; round < 20; round++)
        for (int i = 0; i < 2; i++) {
            char facts[128];
            scene.caller = callers[i];
            snprintf(facts, sizeof facts,
                     "[\"app\",\"model\",\"%d\",\"loop\",\"Z29vZA==\",42,\"{\\\"a\\\":1}\",3]",
                     REPLICA + i);
            cr_assert_str_eq(say("facts"), facts);
            callers[i] = scene.caller;
        }
    /* The second one drains and goes; the first one, whose loop it borrowed, serves on. */
    line_say(&desks[1], drain, .timeout_us = 20000000);
    snprintf(command, sizeof command, "%s/replica-8.sock", scene.directory);
    for (int waited = 0; access(command, F_OK) == 0; waited++) {
        cr_assert_lt(waited, LINE_WAIT_MS, "the socket of the second one stays");
        usleep(1000);
    }
    scene.caller = callers[0];
    cr_assert_str_eq(say("hello"), "\"hello\"");
    line_say(&desks[0], drain, .timeout_us = 20000000);
    cr_assert_eq(exit_status(), 0);
    snprintf(command, sizeof command, "rm -r %s", scene.directory);
    cr_assert_eq(system(command), 0);
}
