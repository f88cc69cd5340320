/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller's process among scripted peers: what it tells whom, and in which order.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conduct_stage.h"
#include "value.h"

TestSuite(conduct, .init = stage_begin, .fini = stage_end);

static const struct stage_deployment one = {"adder", 11, 1};

/* An application of one replica that runs; the replica's connection. */
static struct line run_one(struct line *command, uint64_t *ret_replica)
{
    stage_deploy(command, "app", "/", &one, 1);
    struct order start = stage_await_order(ORDER_START);
    stage_say(&(struct engine_event){.type = ENGINE_STARTED,
                                     .replica = start.replica,
                                     .pid = 100,
                                     .app = BYTES("app"),
                                     .deployment = BYTES("adder")});
    struct line replica = stage_ready(start.replica, "adder", 11);
    cr_assert_eq(stage_outcome(command).code, 0);
    *ret_replica = start.replica;
    return replica;
}

static struct line subscribe(void)
{
    struct line reader = stage_peer(WIRE_ROLE_PROXY, 0, "proxy-1");
    line_say(&reader, subscribe, .version = 0);
    return reader;
}

static bool map_text(struct bytes map, const char *key, const char *wanted)
{
    struct value value;
    return value_map_find(map, bytes_of_string(key), &value) && value.type == VALUE_STRING &&
           bytes_equal(value.bytes, bytes_of_string(wanted));
}

static struct bytes inner(struct bytes map, const char *key)
{
    struct value value;
    cr_assert(value_map_find(map, bytes_of_string(key), &value), "no '%s'", key);
    return value.raw;
}

/* ---- deploy ---- */

Test(conduct, a_deploy_starts_replicas_and_ends_when_they_are_ready)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    stage_deploy(&command, "app", "/", &one, 1);
    struct order start = stage_await_order(ORDER_START);
    cr_assert_str_eq(start.app, "app");
    cr_assert_str_eq(start.deployment, "adder");
    cr_assert_str_eq(start.runner, "c");
    cr_assert_str_eq(start.body, "adder");
    cr_assert_eq(start.version, 11);
    struct line replica = stage_ready(start.replica, "adder", 11);
    line_await(&command, WIRE_PROGRESS_FRAME);
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, 0, "%.*s", BYTES_PRINT(outcome.text));
    line_close(&replica);
    line_close(&command);
}

Test(conduct, readers_know_an_application_before_its_outcome_is_told)
{
    uint64_t id;
    struct line reader = subscribe(), command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    cr_assert_eq(stage_snapshot(&reader).apps, 0);
    struct line replica = run_one(&command, &id);
    /* Nothing runs between the outcome and this look: what the reader has, it had before. */
    reader.turn = NULL;
    struct stage_snapshot snapshot;
    do
        snapshot = stage_snapshot(&reader);
    while (snapshot.replicas == 0);
    cr_assert(snapshot.apps == 1 && snapshot.deployments == 1 && snapshot.replicas == 1);
    cr_assert_eq(snapshot.replica_ids[0], id);
    cr_assert_str_eq(snapshot.names[0], "adder");
    reader.turn = stage_turn;
    line_close(&replica);
    line_close(&reader);
    line_close(&command);
}

Test(conduct, a_target_that_is_wrong_is_answered_with_the_key)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    line_say(&command, deploy, .app = BYTES("app"), .body = BYTES("\x81\xa1x\x01"));
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, ERROR_INVALID);
    cr_assert(strstr((const char *)outcome.text.at, "ingress"));
    line_say(&command, deploy, .app = BYTES("app"), .body = BYTES("\xc1"));
    cr_assert_eq(stage_outcome(&command).code, ERROR_INVALID);
    struct stage_deployment two[] = {{"a", 1, 1}, {"a", 1, 1}};
    stage_deploy(&command, "app", "/", two, 2);
    cr_assert_eq(stage_outcome(&command).code, ERROR_INVALID);
    cr_assert_not(stage_has_order(ORDER_START));
    line_close(&command);
}

Test(conduct, a_whole_target_starts_what_differs_and_ends_what_it_lacks)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct stage_app apps[] = {{"one", "/one", NULL, {"adder", 11, 1}},
                               {"two", "/two", NULL, {"adder", 12, 1}}};
    stage_apply(&command, apps, 2);
    struct order first = stage_await_order(ORDER_START), second = stage_await_order(ORDER_START);
    cr_assert_str_eq(first.app, "one");
    cr_assert_str_eq(second.app, "two");
    struct line one_replica = stage_ready(first.replica, "adder", 11);
    struct line two_replica = stage_ready(second.replica, "adder", 12);
    cr_assert_eq(stage_outcome(&command).code, 0);
    stage_apply(&command, apps, 2);
    cr_assert_eq(stage_outcome(&command).code, 0);
    cr_assert_not(stage_has_order(ORDER_START));
    apps[0].build_failure = "Traceback: no module named nope";
    stage_apply(&command, apps, 1); /* two is gone, one cannot be built */
    line_await(&two_replica, WIRE_DRAIN_FRAME);
    stage_say(&(struct engine_event){.type = ENGINE_GONE, .replica = second.replica});
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, ERROR_DEPLOY_FAILED);
    cr_assert(strstr((const char *)outcome.text.at, "no module named nope"));
    cr_assert_not(stage_has_order(ORDER_STOP)); /* what one was before serves on */
    line_close(&one_replica);
    line_close(&two_replica);
    line_close(&command);
}

Test(conduct, a_whole_target_that_is_wrong_is_answered_with_the_part)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    line_say(&command, apply, .body = BYTES("\x81\xa1x\x01"));
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, ERROR_INVALID);
    cr_assert(strstr((const char *)outcome.text.at, "not an array"));
    line_say(&command, apply, .body = BYTES("\x91\x81\xa4name\xa1x"));
    outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, ERROR_INVALID);
    cr_assert(strstr((const char *)outcome.text.at, "'route_prefix' is missing"));
    line_say(&command, apply, .body = BYTES("\x91\x82\xa4name\xa1x\xacroute_prefix\xa0"));
    outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, ERROR_INVALID);
    cr_assert(strstr((const char *)outcome.text.at, "application 0 has not either"));
    line_close(&command);
}

Test(conduct, starts_that_the_engine_refuses_end_the_deploy_with_its_reason)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    stage.conduct.settings.start_backoff_ms = 1;
    stage.start_code = ERROR_UNAVAILABLE;
    stage_deploy(&command, "app", "/", &one, 1);
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_lt(outcome.code, 0);
    char text[512];
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(outcome.text));
    cr_assert(strstr(text, "the engine says no"), "%s", text);
    line_close(&command);
}

Test(conduct, whoever_leaves_has_nevertheless_asked)
{
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    stage_deploy(&command, "app", "/", &one, 1);
    struct order start = stage_await_order(ORDER_START);
    line_close(&command);
    struct line replica = stage_ready(start.replica, "adder", 11);
    struct line reader = subscribe();
    while (stage_snapshot(&reader).replicas == 0)
        ;
    line_close(&reader);
    line_close(&replica);
}

/* ---- the end of replicas ---- */

Test(conduct, a_deleted_replica_is_told_to_drain_over_its_connection)
{
    uint64_t id;
    struct wire_drain drain;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_say(&command, delete, .app = BYTES("app"));
    line_await(&replica, WIRE_DRAIN_FRAME);
    cr_assert_eq(wire_drain_read(&drain, replica.payload), 0);
    cr_assert_eq(drain.timeout_us, 20000000);
    cr_assert_not(stage_has_order(ORDER_STOP));
    stage_say(&(struct engine_event){.type = ENGINE_GONE, .replica = id});
    cr_assert_eq(stage_outcome(&command).code, 0);
    line_close(&replica);
    line_close(&command);
}

Test(conduct, a_replica_without_a_connection_is_told_by_the_engine)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_close(&replica);
    cr_assert_not(line_has_frame(&command)); /* the controller sees that it left */
    line_say(&command, delete, .app = BYTES("app"));
    struct order stop = stage_await_order(ORDER_STOP);
    cr_assert(stop.replica == id && !stop.kill);
    line_close(&command);
}

Test(conduct, a_dead_replica_is_replaced)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_close(&replica);
    stage_say(&(struct engine_event){.type = ENGINE_GONE, .replica = id, .signal_number = 9});
    cr_assert_gt(stage_await_order(ORDER_START).replica, id);
    line_close(&command);
}

Test(conduct, a_shutdown_ends_the_instance_after_its_outcome)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_say(&command, shutdown, .timeout_us = 0);
    line_await(&replica, WIRE_DRAIN_FRAME);
    stage_say(&(struct engine_event){.type = ENGINE_GONE, .replica = id});
    stage_await_order(ORDER_END);
    command.turn = NULL; /* what is told has been told by now */
    cr_assert_eq(stage_outcome(&command).code, 0);
    command.turn = stage_turn;
    line_close(&replica);
    line_close(&command);
}

/* ---- options ---- */

static enum deployment_status status_of_first(void)
{
    struct controller_deployment_view view;
    cr_assert(controller_deployment_at(stage.conduct.mind, 0, &view));
    return view.status;
}

Test(conduct, a_lighter_change_reaches_replicas_that_run)
{
    uint64_t id;
    struct wire_reconfigure frame;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    struct controller_deployment_target row = {.name = BYTES("adder"),
                                               .version = 11,
                                               .configuration = 4711,
                                               .replicas = 1,
                                               .max_ongoing = 77,
                                               .max_queued = -1,
                                               .health_check_period_ns = 1000000000,
                                               .health_check_timeout_ns = 1000000000};
    struct text body, document;
    stage_write_document(&document, "adder", 77);
    text_init(&body, 4096);
    perform_write_body(&body, BYTES("c"), text_bytes(&document));
    row.body = text_bytes(&body);
    struct controller_app_target target = {.name = BYTES("app"),
                                           .route_prefix = BYTES("/"),
                                           .ingress = BYTES("adder"),
                                           .deployments = &row,
                                           .deployment_count = 1};
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &target};
    conduct_take(&stage.conduct, &event);
    line_await(&replica, WIRE_RECONFIGURE_FRAME);
    cr_assert_eq(wire_reconfigure_read(&frame, replica.payload), 0);
    cr_assert_eq(frame.max_ongoing, 77);
    struct target_configuration told;
    struct error error = {0};
    cr_assert_eq(target_read_configuration(frame.body, &told, &error), 0, "%s", error.text);
    cr_assert_eq(told.configuration, 4711);
    cr_assert_eq(told.max_ongoing_requests, 77);
    cr_assert_eq(told.rank, 0);
    cr_assert_eq(told.world_size, 1);
    cr_assert_not(stage_has_order(ORDER_START));
    /* UPDATING until it has answered. */
    cr_assert_eq(status_of_first(), DEPLOYMENT_STATUS_UPDATING);
    line_say_on(&replica, replica.header.stream, outcome, .code = 0);
    for (int turn = 0; turn < 10000 && status_of_first() != DEPLOYMENT_STATUS_HEALTHY; turn++) {
        stage_turn(NULL);
        usleep(100);
    }
    cr_assert_eq(status_of_first(), DEPLOYMENT_STATUS_HEALTHY);
    text_done(&body);
    text_done(&document);
    line_close(&replica);
    line_close(&command);
}

/* ---- snapshots ---- */

Test(conduct, a_reader_of_an_empty_instance_is_told_that_there_is_nothing)
{
    struct line reader = subscribe();
    struct stage_snapshot snapshot = stage_snapshot(&reader);
    cr_assert_gt(snapshot.version, 0);
    cr_assert(snapshot.apps == 0 && snapshot.deployments == 0 && snapshot.replicas == 0);
    line_close(&reader);
}

/* Its queue holds nothing of what it missed: room for the newest is found when it reads again. */
Test(conduct, a_slow_reader_gets_the_newest_snapshot_when_it_reads_again)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command"), reader = subscribe();
    struct line replica = run_one(&command, &id);
    stage.conduct.channels.queue_limit = 4096;
    const struct peer *slow =
        list_entry(list_first(&stage.conduct.readers), struct peer, reader_link);
    for (int i = 0; i < 100000 && !slow->behind; i++) {
        struct stage_deployment none = {"adder", 11, 0};
        char name[16], route[16];
        snprintf(name, sizeof name, "other-%d", i % 30);
        snprintf(route, sizeof route, "/%d", i % 30);
        stage_deploy(&command, name, route, &none, 1);
        cr_assert_eq(stage_outcome(&command).code, 0);
        line_say(&command, delete, .app = bytes_of_string(name));
        cr_assert_eq(stage_outcome(&command).code, 0);
    }
    cr_assert(slow->behind, "the reader's socket took everything");
    cr_assert_leq(channel_unsent(&slow->channel), 4096);
    for (int i = 0; i < 3; i++) { /* it misses these */
        struct stage_deployment none = {"adder", 11, 0};
        stage_deploy(&command, "missed", "", &none, 1);
        cr_assert_eq(stage_outcome(&command).code, 0);
        line_say(&command, delete, .app = BYTES("missed"));
        cr_assert_eq(stage_outcome(&command).code, 0);
    }
    uint64_t seen = 0, before = 0, newest = controller_version(stage.conduct.mind);
    while (seen < newest) {
        before = seen;
        seen = stage_snapshot(&reader).version;
        cr_assert_gt(seen, before);
    }
    cr_assert_gt(newest - before, 1, "versions were passed over");
    line_close(&reader);
    line_close(&replica);
    line_close(&command);
}

/* ---- status ---- */

Test(conduct, the_status_speaks_the_public_words)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command"), reader = subscribe();
    struct line replica = run_one(&command, &id);
    line_say(&command, status, .detail = 1);
    struct wire_outcome outcome = stage_outcome(&command);
    cr_assert_eq(outcome.code, 0);
    cr_assert_eq(value_check(outcome.body, NULL), 0);
    struct bytes app = inner(inner(outcome.body, "applications"), "app");
    cr_assert(map_text(app, "status", "RUNNING"));
    cr_assert(map_text(app, "route_prefix", "/"));
    struct bytes deployment = inner(inner(app, "deployments"), "adder");
    cr_assert(map_text(deployment, "status", "HEALTHY"));
    cr_assert(map_text(deployment, "status_trigger", "CONFIG_UPDATE_COMPLETED"));
    struct value value;
    cr_assert(value_map_find(inner(deployment, "replica_states"), BYTES("RUNNING"), &value));
    cr_assert_eq(value.integer, 1);
    cr_assert(value_array_at(inner(deployment, "replicas"), 0, &value));
    cr_assert(map_text(value.raw, "state", "RUNNING"));
    cr_assert(map_text(inner(outcome.body, "proxies"), "proxy-1", "HEALTHY"));
    line_close(&replica);
    line_close(&reader);
    line_close(&command);
}

Test(conduct, a_short_status_tells_no_replicas)
{
    uint64_t id;
    struct value value;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_say(&command, status, .detail = 0);
    struct wire_outcome outcome = stage_outcome(&command);
    struct bytes app = inner(inner(outcome.body, "applications"), "app");
    cr_assert_not(
        value_map_find(inner(inner(app, "deployments"), "adder"), BYTES("replicas"), &value));
    line_close(&replica);
    line_close(&command);
}

/* ---- a new life ---- */

Test(conduct, a_new_controller_takes_back_what_runs)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command"), reader = subscribe();
    struct line replica = run_one(&command, &id);
    struct stage_snapshot before;
    do
        before = stage_snapshot(&reader);
    while (before.replicas == 0);
    stage_close();
    line_close(&command);
    line_close(&reader);
    line_close(&replica);

    stage.lists_nothing = true;
    stage.first = stage.last;
    stage_open();
    reader = subscribe();
    stage_say(&(struct engine_event){.type = ENGINE_HERE,
                                     .replica = id,
                                     .pid = 100,
                                     .app = BYTES("app"),
                                     .deployment = BYTES("adder")});
    stage_say(&(struct engine_event){.type = ENGINE_LISTED});
    cr_assert_not(line_has_frame(&reader)); /* not before the replica has said what it is */
    replica = stage_ready(id, "adder", 11);
    struct stage_snapshot after = stage_snapshot(&reader);
    cr_assert_gt(after.version, before.version);
    cr_assert_eq(after.replicas, 1);
    cr_assert_eq(after.replica_ids[0], id);
    cr_assert_eq(after.deployment_ids[0], before.deployment_ids[0]);
    cr_assert_not(stage_has_order(ORDER_START));
    cr_assert_not(stage_has_order(ORDER_STOP));
    line_close(&reader);
    line_close(&replica);
}

Test(conduct, a_new_controller_replaces_what_died_meanwhile)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    stage_close();
    line_close(&command);
    line_close(&replica);
    stage_open(); /* and the engine lists nothing */
    struct order start = stage_await_order(ORDER_START);
    cr_assert_str_eq(start.deployment, "adder");
    cr_assert_gt(start.replica, id);
}

Test(conduct, a_deleted_application_does_not_come_back)
{
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_say(&command, delete, .app = BYTES("app"));
    line_await(&replica, WIRE_DRAIN_FRAME);
    stage_say(&(struct engine_event){.type = ENGINE_GONE, .replica = id});
    cr_assert_eq(stage_outcome(&command).code, 0);
    stage_close();
    line_close(&command);
    line_close(&replica);
    stage_open();
    struct line reader = subscribe();
    cr_assert_eq(stage_snapshot(&reader).apps, 0);
    cr_assert_not(stage_has_order(ORDER_START));
    line_close(&reader);
}

/* ---- peers that misbehave ---- */

Test(conduct, a_first_frame_that_is_no_hello_ends_the_connection)
{
    struct line line;
    line_connect(&line, stage.path, stage_turn, NULL);
    line_say(&line, status, .detail = 1);
    line_await_end(&line);
    line_close(&line);
}

Test(conduct, a_role_that_has_no_business_here_is_refused)
{
    struct line line;
    line_connect(&line, stage.path, stage_turn, NULL);
    line_hello(&line, WIRE_ROLE_NODE, 0, "node");
    line_await_end(&line);
    line_close(&line);
}

Test(conduct, a_replica_speaks_only_for_itself)
{
    struct line replica = stage_peer(WIRE_ROLE_REPLICA, 5, "adder");
    line_say(&replica, replica_ready, .replica = 6, .address = BYTES("/x.sock"));
    line_await_end(&replica);
    line_close(&replica);
}

Test(conduct, a_reader_cannot_command)
{
    struct line reader = stage_peer(WIRE_ROLE_HANDLE, 0, "handle");
    line_say(&reader, shutdown, .timeout_us = 0);
    line_await_end(&reader);
    cr_assert_not(stage_has_order(ORDER_END));
    line_close(&reader);
}

Test(conduct, replicas_are_asked_whether_they_live)
{
    struct wire_ping ping;
    uint64_t id;
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command");
    struct line replica = run_one(&command, &id);
    line_await(&replica, WIRE_PING_FRAME);
    cr_assert_eq(wire_ping_read(&ping, replica.payload), 0);
    line_say(&replica, pong, .token = ping.token);
    line_await(&replica, WIRE_PING_FRAME); /* the next one comes after an answer only */
    line_close(&replica);
    line_close(&command);
}

static void answer_ping(struct line *replica)
{
    struct wire_ping ping;
    line_take(replica);
    if (replica->header.type != WIRE_PING_FRAME)
        return;
    cr_assert_eq(wire_ping_read(&ping, replica->payload), 0);
    line_say(replica, pong, .token = ping.token);
}

/* The next snapshot with so many replicas, while this one answers its pings. */
static void await_replicas(struct line *reader, struct line *witness, uint32_t count)
{
    for (;;) {
        while (!line_has_frame(reader))
            if (line_has_frame(witness))
                answer_ping(witness);
        if (stage_snapshot(reader).replicas == count)
            return;
    }
}

Test(conduct, a_replica_that_does_not_answer_leaves_the_snapshot_until_it_does, .timeout = 60)
{
    static const struct stage_deployment two = {"adder", 11, 2};
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command"), reader = subscribe();
    stage_deploy(&command, "app", "/", &two, 1);
    struct line stopped = stage_ready(stage_await_order(ORDER_START).replica, "adder", 11);
    struct line witness = stage_ready(stage_await_order(ORDER_START).replica, "adder", 11);
    cr_assert_eq(stage_outcome(&command).code, 0);
    await_replicas(&reader, &witness, 2);
    await_replicas(&reader, &witness, 1);
    cr_assert_not(stage_has_order(ORDER_STOP));
    answer_ping(&stopped); /* it was asked once, and its answer is enough */
    await_replicas(&reader, &witness, 2);
    line_close(&reader);
    line_close(&stopped);
    line_close(&witness);
    line_close(&command);
}

/* A frozen process cannot come back over a new connection. */
Test(conduct, a_replica_whose_connection_is_gone_leaves_the_snapshot_until_it_is_back,
     .timeout = 60)
{
    static const struct stage_deployment two = {"adder", 11, 2};
    struct line command = stage_peer(WIRE_ROLE_COMMAND, 0, "command"), reader = subscribe();
    stage_deploy(&command, "app", "/", &two, 1);
    uint64_t lost = stage_await_order(ORDER_START).replica;
    struct line away = stage_ready(lost, "adder", 11);
    struct line witness = stage_ready(stage_await_order(ORDER_START).replica, "adder", 11);
    cr_assert_eq(stage_outcome(&command).code, 0);
    await_replicas(&reader, &witness, 2);
    line_close(&away);
    await_replicas(&reader, &witness, 1);
    away = stage_ready(lost, "adder", 11);
    await_replicas(&reader, &witness, 2);
    line_close(&reader);
    line_close(&away);
    line_close(&witness);
    line_close(&command);
}
