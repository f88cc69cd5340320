/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_command: deploys and deletes applications and shuts the instance down, as a command would:
 * over the wire, as a peer of the controller.
 *
 * What an application should be stands in world->apps; an operation says that, of one application
 * or of all (a whole target).  One is asked at a time per application, in haste several; when the
 * controller is lost before it said the outcome of the newest, or could not store the target, it is
 * asked again.
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"
#include "target.h"
#include "wire.h"
#include "world.h"

enum {
    RETRY_MS = 30,
    SHUTDOWN = WORLD_APPS,
    WHOLE,
    OPERATIONS,
    OPEN_MOST = 16,
    FRAME_MOST = 1 << 20
};

struct asked { /* has no outcome yet */
    uint32_t number;
    uint64_t versions[WORLD_APPS]; /* that were asked for; 0: none */
    uint32_t wishes[OPERATIONS];   /* `wanted` of each operation by then */
};

struct operation {
    uint32_t wanted, sent, done; /* how often something else was wanted, asked for, settled */
    int64_t again_ns;            /* not before */
    struct asked open[OPEN_MOST];
    uint32_t open_count;
};

struct world_command {
    struct world *world;
    struct channel_set channels;
    struct channel channel;
    bool open;
    struct loop_timer timer;
    struct operation operations[OPERATIONS];
};

/* ---- frames out ---- */

static void put(struct world_command *command, const uint8_t *frame, size_t size)
{
    uint8_t *room = channel_put_room(&command->channel, size);
    ensure(room);
    memcpy(room, frame, size);
    channel_put_done(&command->channel, size);
}

static void put_hello(struct world_command *command)
{
    uint8_t at[512];
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_COMMAND, 0, BYTES("command"));
    ensure(wire_hello_size(&hello) <= sizeof at);
    put(command, at, wire_hello_write(&hello, 0, 0, false, at));
}

/* An application's document; in it the one that world_node.c reads back. */
static void write_target(struct text *out, const struct world_app *app, uint32_t index)
{
    char code[160], config[32];
    struct text document;
    snprintf(config, sizeof config, "{\"n\": %u}", app->config);
    snprintf(code, sizeof code, "app=%u version=%llu replicas=%u max=%u slots=%u", index,
             (unsigned long long)app->version, app->replicas, app->max_ongoing, app->slots);
    struct target_replica replica = {.app = bytes_of_string(app->name),
                                     .deployment = bytes_of_string(app->name),
                                     .args = BYTES("\x90"),
                                     .code = bytes_of_string(code),
                                     .user_config = bytes_of_string(config),
                                     .threads = 1,
                                     .max_ongoing_requests = app->max_ongoing,
                                     .max_batch_size = 1,
                                     .max_concurrent_batches = 1,
                                     .health_check_period_us = 10000000,
                                     .health_check_timeout_us = 30000000,
                                     .graceful_shutdown_timeout_us = app->grace_ns / 1000};
    text_init(&document, FRAME_MOST);
    target_write_replica(&document, &replica);
    struct target_deployment row = {.name = bytes_of_string(app->name),
                                    .runner = BYTES("c"),
                                    .replica = text_bytes(&document),
                                    .version = app->version,
                                    .num_replicas = app->replicas,
                                    .max_ongoing_requests = app->max_ongoing,
                                    .max_queued_requests = app->max_queued,
                                    .max_surge_percent = (int64_t)(app->version % 3) * 50,
                                    .rolling_update_millionths = TARGET_ROLLING_UPDATE_DEFAULT,
                                    .max_constructor_retry_count = TARGET_RETRY_DEFAULT,
                                    .graceful_shutdown_timeout_us = app->grace_ns / 1000,
                                    .health_check_period_us = 10000000,
                                    .health_check_timeout_us = 30000000,
                                    .stream_body = app->streams_body};
    target_write_app(out, row.name, &row, 1);
    text_done(&document);
}

static void put_deploy(struct world_command *command, uint32_t index, uint64_t stream)
{
    const struct world_app *app = &command->world->apps[index];
    struct text document;
    text_init(&document, FRAME_MOST);
    write_target(&document, app, index);
    struct wire_deploy frame = {.app = bytes_of_string(app->name),
                                .route_prefix = bytes_of_string(app->route),
                                .body = text_bytes(&document)};
    uint8_t *at = mem_new(wire_deploy_size(&frame));
    put(command, at, wire_deploy_write(&frame, 0, stream, false, at));
    mem_free(at);
    text_done(&document);
    sim_say("deploys %s version %llu, %u replicas of %u", app->name,
            (unsigned long long)app->version, app->replicas, app->max_ongoing);
}

static void put_apply(struct world_command *command, uint64_t stream)
{
    struct world *world = command->world;
    struct text documents[WORLD_APPS], whole;
    struct target_app rows[WORLD_APPS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORLD_APPS; i++) {
        const struct world_app *app = &world->apps[i];
        text_init(&documents[i], FRAME_MOST);
        if (!app->wanted || i == WORLD_APPS - 1)
            continue;
        write_target(&documents[i], app, i);
        rows[count++] = (struct target_app){.name = bytes_of_string(app->name),
                                            .route_prefix = bytes_of_string(app->route),
                                            .document = text_bytes(&documents[i])};
    }
    text_init(&whole, FRAME_MOST);
    target_write_whole(&whole, rows, count);
    struct wire_apply frame = {.declarative = 1, .body = text_bytes(&whole)};
    uint8_t *at = mem_new(wire_apply_size(&frame));
    put(command, at, wire_apply_write(&frame, 0, stream, false, at));
    mem_free(at);
    text_done(&whole);
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        text_done(&documents[i]);
    sim_say("deploys a whole target of %u applications", count);
}

static void put_delete(struct world_command *command, uint32_t index, uint64_t stream)
{
    uint8_t at[256];
    struct wire_delete frame = {.app = bytes_of_string(command->world->apps[index].name)};
    put(command, at, wire_delete_write(&frame, 0, stream, false, at));
    sim_say("deletes %s", command->world->apps[index].name);
}

static void put_shutdown(struct world_command *command, uint64_t stream)
{
    uint8_t at[64];
    struct wire_shutdown frame = {.timeout_us = 0};
    put(command, at, wire_shutdown_write(&frame, 0, stream, false, at));
    sim_say("shuts the instance down");
}

static bool in_haste(const struct world *world)
{
    return world->fault_on[FAULT_HASTE] || world->fault_on[FAULT_START_HANGS];
}

static bool may_ask(const struct world_command *command, const struct operation *operation)
{
    if (operation->sent == operation->wanted || operation->again_ns > sim_now_ns())
        return false;
    /* There is room for what is wanted at last. */
    uint32_t most = command->world->calm ? OPEN_MOST : OPEN_MOST / 2;
    return operation->open_count == 0 || (operation->open_count < most && in_haste(command->world));
}

static void note_asked(struct world_command *command, uint32_t index)
{
    const struct world *world = command->world;
    struct operation *operation = &command->operations[index];
    struct asked *asked = &operation->open[operation->open_count++];
    *asked = (struct asked){.number = operation->sent};
    for (uint32_t i = 0; i < OPERATIONS; i++)
        asked->wishes[i] = command->operations[i].wanted;
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        if (world->apps[i].wanted && (i == index || (index == WHOLE && i < WORLD_APPS - 1)))
            asked->versions[i] = world->apps[i].version;
}

static void ask(struct world_command *command)
{
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        struct operation *operation = &command->operations[i];
        if (!may_ask(command, operation))
            continue;
        operation->sent = operation->wanted;
        note_asked(command, i);
        uint64_t stream = (uint64_t)(i + 1) << 32 | operation->sent;
        if (i == SHUTDOWN)
            put_shutdown(command, stream);
        else if (i == WHOLE)
            put_apply(command, stream);
        else if (command->world->apps[i].wanted)
            put_deploy(command, i, stream);
        else
            put_delete(command, i, stream);
    }
}

/* ---- frames in ---- */

static void ask_again(struct operation *operation)
{
    operation->sent = operation->done;
    operation->again_ns = sim_now_ns() + RETRY_MS * WORLD_MS;
}

/* What is said to run is stored, unless something else was wanted since. */
static void check_stored(const struct world_command *command, const struct asked *asked)
{
    const struct world *world = command->world;
    for (uint32_t i = 0; i < WORLD_APPS; i++) {
        const struct world_app *app = &world->apps[i];
        uint64_t version = asked->versions[i];
        if (version && app->version == version &&
            command->operations[i].wanted == asked->wishes[i] &&
            command->operations[WHOLE].wanted == asked->wishes[WHOLE] &&
            !world_store_has(world->store, app->name, version))
            world_fail(world, "C1: %s version %llu is said to run, and is not stored", app->name,
                       (unsigned long long)version);
    }
}

static struct asked take_asked(struct world_command *command, struct operation *operation,
                               uint32_t number)
{
    for (uint32_t i = 0; i < operation->open_count; i++)
        if (operation->open[i].number == number) {
            struct asked asked = operation->open[i];
            operation->open[i] = operation->open[--operation->open_count];
            return asked;
        }
    world_fail(command->world, "R1: a second outcome of one operation");
}

static const char *name_of(const struct world *world, uint32_t index)
{
    return index == SHUTDOWN ? "the instance"
           : index == WHOLE  ? "a whole target"
                             : world->apps[index].name;
}

static void take_outcome(struct world_command *command, uint64_t stream, struct bytes payload)
{
    struct wire_outcome outcome;
    uint32_t index = (uint32_t)(stream >> 32) - 1;
    if (wire_outcome_read(&outcome, payload) < 0 || index >= OPERATIONS)
        world_fail(command->world, "R1: an outcome that nobody waits for");
    struct operation *operation = &command->operations[index];
    sim_say("outcome for %s: %s %.*s", name_of(command->world, index),
            outcome.code ? error_name(outcome.code) : "OK", BYTES_PRINT(outcome.text));
    struct asked asked = take_asked(command, operation, (uint32_t)stream);
    if (outcome.code == ERROR_INVALID || outcome.code == ERROR_EXISTS)
        world_fail(command->world, "W3: a good target was refused: %.*s",
                   BYTES_PRINT(outcome.text));
    if (outcome.code == ERROR_SYSTEM && asked.number == operation->sent)
        ask_again(operation);
    else if (outcome.code != ERROR_SYSTEM && asked.number > operation->done)
        operation->done = asked.number;
    if (outcome.code == 0)
        check_stored(command, &asked);
}

static void command_event(void *owner, struct channel *channel, int events)
{
    struct world_command *command = owner;
    struct wire_header header;
    struct bytes frame;
    bool ended = events & CHANNEL_CLOSED;
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)))
        return;
    ended |= channel_receive(channel) < 0;
    while (channel_take(channel, &frame) == CHANNEL_FRAME) {
        wire_header_read(&header, frame.at);
        if (header.type == WIRE_OUTCOME_FRAME)
            take_outcome(command, header.stream, bytes_skip(frame, WIRE_HEADER_SIZE));
    }
    if (!ended)
        return;
    channel_close(channel);
    command->open = false;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        command->operations[i].open_count = 0;
        if (command->operations[i].sent != command->operations[i].done)
            ask_again(&command->operations[i]);
    }
}

/* ---- life ---- */

static bool has_wish(const struct world_command *command)
{
    for (uint32_t i = 0; i < OPERATIONS; i++)
        if (command->operations[i].wanted != command->operations[i].done)
            return true;
    return false;
}

static void timer_fired(void *owner)
{
    struct world_command *command = owner;
    if (!command->open && has_wish(command)) {
        int descriptor = socket_connect_unix(WORLD_CONTROLLER_PATH);
        command->open = descriptor >= 0 && channel_open(&command->channel, &command->channels,
                                                        descriptor, command_event, command) == 0;
        if (command->open)
            put_hello(command);
    }
    if (command->open)
        ask(command);
    if (has_wish(command))
        loop_timer_set(&command->timer, sim_now_ns() + RETRY_MS * WORLD_MS);
}

bool world_command_idle(const struct world *world)
{
    for (uint32_t i = 0; i < OPERATIONS; i++)
        if (world->command->operations[i].open_count)
            return false;
    return !has_wish(world->command);
}

static void want(struct world_command *command, uint32_t index)
{
    command->operations[index].wanted++;
    sim_enter(&command->world->command_process);
    loop_timer_set(&command->timer, sim_now_ns() + 1);
    sim_leave();
}

/* The last one does not belong to the whole target, and is not to be touched by it. */
static bool is_declared(const struct world *world, uint32_t app)
{
    return world->fault_on[FAULT_WHOLE_TARGET] && app < WORLD_APPS - 1;
}

void world_command_deploy(struct world *world, uint32_t app)
{
    want(world->command, is_declared(world, app) ? (uint32_t)WHOLE : app);
}

void world_command_shut_down(struct world *world)
{
    want(world->command, SHUTDOWN);
}

void world_command_begin(struct world *world)
{
    struct world_command *command = mem_new(sizeof *command);
    struct channel_config config = {.frame_limit = FRAME_MOST,
                                    .queue_limit = FRAME_MOST,
                                    .turn_limit = FRAME_MOST,
                                    .buffer_keep = 1};
    world->command = command;
    command->world = world;
    command->channel.descriptor = -1;
    sim_process_begin(&world->command_process, "command");
    sim_enter(&world->command_process);
    struct loop *loop = loop_new();
    int code = channel_set_init(&command->channels, loop, &config);
    ensure(code == 0);
    loop_timer_init(loop, &command->timer, timer_fired, command);
    sim_leave();
}

void world_command_end(struct world *world)
{
    struct world_command *command = world->command;
    struct loop *loop = world->command_process.loop;
    sim_enter(&world->command_process);
    loop_timer_clear(&command->timer);
    channel_close(&command->channel);
    channel_set_done(&command->channels);
    loop_free(loop);
    sim_leave();
    sim_process_end(&world->command_process);
    world->command = mem_free(command);
}
