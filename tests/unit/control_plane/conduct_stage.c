/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conduct_stage: the scripted engine, and what peers say.
 */
#include "conduct_stage.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "socket.h"
#include "target.h"

enum { TURNS = 20000, DOCUMENT_LIMIT = 1 << 20 };

struct stage stage;

/* ---- the engine ---- */

static struct engine engine;

static void copy(char *to, struct bytes from)
{
    snprintf(to, STAGE_TEXT, "%.*s", BYTES_PRINT(from));
}

static struct order *add_order(enum order_kind kind, uint64_t replica)
{
    struct order *order = stage.orders + stage.last++ % STAGE_ORDERS;
    *order = (struct order){.kind = kind, .replica = replica};
    return order;
}

void stage_say(const struct engine_event *event)
{
    stage.events[stage.event_last++ % STAGE_ORDERS] = *event;
    loop_turn_again(stage.conduct.loop);
}

static int engine_start(struct engine *self, const struct engine_start *start, struct error *reterr)
{
    (void)self;
    if (stage.start_code)
        return error_set(reterr, stage.start_code, "the engine says no");
    struct order *order = add_order(ORDER_START, start->replica);
    order->version = start->version;
    copy(order->app, start->app);
    copy(order->deployment, start->deployment);
    copy(order->runner, start->runner);
    struct target_replica *told = &stage.told[start->replica % STAGE_ORDERS];
    struct error error = {0};
    cr_assert_eq(target_read_replica(start->body, told, &error), 0, "%s", error.text);
    copy(order->body, told->deployment);
    return 0;
}

void stage_write_document(struct text *out, const char *deployment, uint32_t max_ongoing)
{
    struct target_replica replica = {.app = BYTES("app"),
                                     .deployment = bytes_of_string(deployment),
                                     .args = BYTES("\x90"),
                                     .threads = 1,
                                     .max_ongoing_requests = max_ongoing,
                                     .max_batch_size = 1,
                                     .max_concurrent_batches = 1,
                                     .graceful_shutdown_timeout_us = 20000000,
                                     .health_check_period_us = 10000000,
                                     .health_check_timeout_us = 30000000};
    text_init(out, DOCUMENT_LIMIT);
    target_write_replica(out, &replica);
}

static void engine_stop(struct engine *self, uint64_t replica, bool kill)
{
    (void)self;
    add_order(ORDER_STOP, replica)->kill = kill;
}

static void engine_list(struct engine *self)
{
    (void)self;
    add_order(ORDER_LIST, 0);
    if (!stage.lists_nothing)
        stage_say(&(struct engine_event){.type = ENGINE_LISTED});
}

static bool engine_end(struct engine *self)
{
    (void)self;
    add_order(ORDER_END, 0);
    return true;
}

static bool engine_next(struct engine *self, struct engine_event *ret_event)
{
    (void)self;
    if (stage.event_first == stage.event_last)
        return false;
    *ret_event = stage.events[stage.event_first++ % STAGE_ORDERS];
    return true;
}

static struct engine *engine_free(struct engine *self)
{
    (void)self;
    return NULL;
}

static struct engine *engine_new(struct loop *loop, struct channel_set *channels, const char *node,
                                 void (*wake)(void *owner), void *owner, struct error *reterr)
{
    static const struct engine_operations operations = {.start = engine_start,
                                                        .stop = engine_stop,
                                                        .list = engine_list,
                                                        .end_instance = engine_end,
                                                        .next = engine_next,
                                                        .free = engine_free};
    (void)loop, (void)channels, (void)node, (void)wake, (void)owner, (void)reterr;
    engine.operations = &operations;
    return &engine;
}

/* ---- life ---- */

void stage_open(void)
{
    struct error error = {0};
    unlink(stage.path);
    int listener = socket_listen_unix(stage.path, 64, &error);
    cr_assert_geq(listener, 0, "%s", error.text);
    struct conduct_options options = {.directory = stage.directory,
                                      .node = "",
                                      .listen_descriptor = listener,
                                      .bond.descriptor = -1,
                                      .engine = engine_new};
    memset(&stage.conduct, 0, sizeof stage.conduct);
    settings_init(&stage.conduct.settings);
    cr_assert_eq(conduct_open(&stage.conduct, &options, 1, &error), 0, "%s", error.text);
    stage.open = true;
}

void stage_close(void)
{
    if (stage.open)
        conduct_close(&stage.conduct);
    stage.open = false;
}

void stage_begin(void)
{
    snprintf(stage.directory, sizeof stage.directory, "/tmp/manta-conduct-XXXXXX");
    cr_assert(mkdtemp(stage.directory));
    snprintf(stage.path, sizeof stage.path, "%s/controller.sock", stage.directory);
    stage_open();
}

void stage_end(void)
{
    char command[128];
    stage_close();
    snprintf(command, sizeof command, "rm -r %s", stage.directory);
    cr_assert_eq(system(command), 0);
}

void stage_turn(void *owner)
{
    (void)owner;
    loop_run_once(stage.conduct.loop);
    controller_check(stage.conduct.mind);
}

/* ---- orders ---- */

bool stage_has_order(enum order_kind kind)
{
    for (uint32_t i = stage.first; i != stage.last; i++)
        if (stage.orders[i % STAGE_ORDERS].kind == kind)
            return true;
    return false;
}

struct order stage_await_order(enum order_kind kind)
{
    for (int i = 0; i < TURNS; i++) {
        while (stage.first != stage.last) {
            struct order order = stage.orders[stage.first++ % STAGE_ORDERS];
            if (order.kind == kind)
                return order;
        }
        stage_turn(NULL);
        usleep(stage.first == stage.last ? 100 : 0); /* time of the mind's deadlines passes */
    }
    cr_assert_fail("the engine was not told");
    return (struct order){0};
}

/* ---- peers ---- */

struct line stage_peer(enum wire_role role, uint64_t id, const char *name)
{
    struct line line;
    struct wire_hello hello;
    line_connect(&line, stage.path, stage_turn, NULL);
    line_hello(&line, role, id, name);
    line_await(&line, WIRE_HELLO_FRAME);
    cr_assert_eq(wire_hello_read(&hello, line.payload), 0);
    cr_assert_eq(hello.role, WIRE_ROLE_CONTROLLER);
    return line;
}

struct line stage_ready(uint64_t replica, const char *deployment, uint64_t version)
{
    char address[STAGE_TEXT];
    struct line line = stage_peer(WIRE_ROLE_REPLICA, replica, deployment);
    snprintf(address, sizeof address, "/replica-%llu.sock", (unsigned long long)replica);
    const struct target_replica *told = &stage.told[replica % STAGE_ORDERS];
    line_say(&line, replica_ready, .replica = replica, .address = bytes_of_string(address),
             .version = version, .app = BYTES("app"), .deployment = bytes_of_string(deployment),
             .configuration = (uint64_t)told->configuration, .rank = (uint32_t)told->rank + 1,
             .world_size = (uint32_t)told->world_size);
    return line;
}

static void write_document(struct text *out, const struct stage_deployment *deployments,
                           uint32_t count)
{
    struct target_deployment rows[8];
    struct text documents[8];
    cr_assert_leq(count, 8);
    for (uint32_t i = 0; i < count; i++) {
        stage_write_document(&documents[i], deployments[i].name, 5);
        rows[i] = (struct target_deployment){.name = bytes_of_string(deployments[i].name),
                                             .runner = BYTES("c"),
                                             .replica = text_bytes(&documents[i]),
                                             .version = deployments[i].version,
                                             .num_replicas = deployments[i].replicas,
                                             .max_ongoing_requests = 5,
                                             .max_queued_requests = -1,
                                             TARGET_ROLLOUT_DEFAULTS,
                                             .graceful_shutdown_timeout_us = 20000000,
                                             .health_check_period_us = 10000000,
                                             .health_check_timeout_us = 30000000};
    }
    text_init(out, DOCUMENT_LIMIT);
    target_write_app(out, rows[0].name, rows, count);
    for (uint32_t i = 0; i < count; i++)
        text_done(&documents[i]);
}

void stage_deploy(struct line *command, const char *app, const char *route,
                  const struct stage_deployment *deployments, uint32_t count)
{
    struct text document;
    write_document(&document, deployments, count);
    line_say(command, deploy, .app = bytes_of_string(app), .route_prefix = bytes_of_string(route),
             .body = text_bytes(&document));
    text_done(&document);
}

void stage_apply(struct line *command, const struct stage_app *apps, uint32_t count)
{
    struct target_app rows[8];
    struct text documents[8], whole;
    cr_assert_leq(count, 8);
    for (uint32_t i = 0; i < count; i++) {
        write_document(&documents[i], &apps[i].deployment, 1);
        rows[i] = (struct target_app){.name = bytes_of_string(apps[i].name),
                                      .route_prefix = bytes_of_string(apps[i].route),
                                      .build_failure = bytes_of_string(apps[i].build_failure)};
        if (!apps[i].build_failure)
            rows[i].document = text_bytes(&documents[i]);
    }
    text_init(&whole, DOCUMENT_LIMIT);
    target_write_whole(&whole, rows, count);
    line_say(command, apply, .declarative = 1, .body = text_bytes(&whole));
    text_done(&whole);
    for (uint32_t i = 0; i < count; i++)
        text_done(&documents[i]);
}

struct wire_outcome stage_outcome(struct line *command)
{
    struct wire_outcome outcome;
    line_await(command, WIRE_OUTCOME_FRAME);
    cr_assert_eq(wire_outcome_read(&outcome, command->payload), 0);
    return outcome;
}

static void take_row(struct line *reader, struct stage_snapshot *snapshot)
{
    struct wire_snapshot_app app;
    struct wire_snapshot_deployment deployment;
    struct wire_snapshot_replica replica;
    line_take(reader);
    if (reader->header.type == WIRE_SNAPSHOT_APP_FRAME) {
        cr_assert_eq(wire_snapshot_app_read(&app, reader->payload), 0);
        snapshot->apps++;
    } else if (reader->header.type == WIRE_SNAPSHOT_DEPLOYMENT_FRAME) {
        cr_assert_eq(wire_snapshot_deployment_read(&deployment, reader->payload), 0);
        uint32_t at = snapshot->deployments++ % STAGE_ROWS;
        snapshot->deployment_ids[at] = deployment.id;
        copy(snapshot->names[at], deployment.name);
    } else {
        cr_assert_eq(reader->header.type, WIRE_SNAPSHOT_REPLICA_FRAME);
        cr_assert_eq(wire_snapshot_replica_read(&replica, reader->payload), 0);
        uint32_t at = snapshot->replicas++ % STAGE_ROWS;
        snapshot->replica_ids[at] = replica.id;
        copy(snapshot->addresses[at], replica.address);
    }
}

struct stage_snapshot stage_snapshot(struct line *reader)
{
    struct stage_snapshot snapshot = {0};
    struct wire_snapshot head;
    struct wire_snapshot_end end;
    line_await(reader, WIRE_SNAPSHOT_FRAME);
    cr_assert_eq(wire_snapshot_read(&head, reader->payload), 0);
    snapshot.version = head.version;
    for (uint32_t rows = head.app_count + head.deployment_count + head.replica_count; rows; rows--)
        take_row(reader, &snapshot);
    cr_assert(snapshot.apps == head.app_count && snapshot.deployments == head.deployment_count &&
              snapshot.replicas == head.replica_count);
    line_take(reader);
    cr_assert_eq(reader->header.type, WIRE_SNAPSHOT_END_FRAME);
    cr_assert_eq(wire_snapshot_end_read(&end, reader->payload), 0);
    cr_assert_eq(end.version, head.version);
    return snapshot;
}
