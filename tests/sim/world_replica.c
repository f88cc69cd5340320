/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_replica: a replica's process: the real taker (and dispatch, where user code calls others)
 * and a runner that does what the C runner does, without threads: it takes while fewer calls of
 * user code run than it has slots, and asks again only when it was woken or a call has ended.
 *
 *     begin -> constructor (a timer) -> ready, or failed and gone -> drained, killed or crashed
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "target.h"
#include "world.h"

enum { REPORT_WAIT_MS = 2000, HEALTH_PERIOD_MS = 700 };

static void exit_with(struct world_replica *replica, int exit_code)
{
    if (replica->process.ended)
        return;
    sim_say("exits with %d", exit_code);
    channel_set_flush(&replica->channels);
    replica->exit_code = exit_code;
    replica->process.ended = true;
}

/* ---- what changes while it runs ---- */

uint32_t world_config_number(struct bytes user_config)
{
    char text[64];
    unsigned number;
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(bytes_head(user_config, sizeof text - 1)));
    int fields = sscanf(text, "{\"n\": %u}", &number);
    ensure(fields == 1);
    return number;
}

/* User code is at it for a while. */
static void begin_configure(struct world_replica *replica, struct bytes body)
{
    struct target_configuration told;
    struct error error = {0};
    if (target_read_configuration(body, &told, &error) < 0)
        world_fail(replica->world, "W3: a configuration that cannot be read: %s", error.text);
    replica->told = replica->options;
    replica->told.config = world_config_number(told.user_config);
    replica->told.rank = (uint32_t)told.rank + 1;
    replica->told.world_size = (uint32_t)told.world_size;
    loop_timer_set(&replica->configure,
                   sim_now_ns() + world_between(replica->world, 1, 100 * WORLD_MS));
}

static void configured(void *owner)
{
    struct world_replica *replica = owner;
    struct world *world = replica->world;
    bool fails = replica->told.config != replica->options.config &&
                 world->fault_on[FAULT_RECONFIGURE_FAILS] && !world->calm && world_one_in(world, 3);
    sim_say("user code %s user_config %u, rank %u of %u", fails ? "refuses" : "takes",
            replica->told.config, replica->told.rank - 1, replica->told.world_size);
    if (!fails)
        replica->options = replica->told;
    taker_configured(replica->taker, fails ? ERROR_USER : 0,
                     fails ? BYTES("not this one") : BYTES(""));
}

/* ---- the turn ---- */

static void take_events(struct world_replica *replica)
{
    struct dispatch_event dispatch_event;
    struct taker_event event;
    while (replica->dispatch && dispatch_next(replica->dispatch, &dispatch_event))
        if (dispatch_event.type == DISPATCH_SNAPSHOT)
            world_check_missing(replica->world, replica->dispatch, &replica->process,
                                WORLD_APPS - 1);
        else
            world_user_nested(replica, &dispatch_event);
    if (!replica->woken)
        return;
    while (taker_next(replica->taker, &event)) {
        if (event.type == TAKER_DRAINED && replica->deaf)
            sim_say("is drained, and stays");
        else if (event.type == TAKER_DRAINED)
            exit_with(replica, 0);
        else if (event.type == TAKER_CONFIGURE)
            begin_configure(replica, event.body);
        else
            world_user_event(replica, &event);
    }
}

static void take_requests(struct world_replica *replica)
{
    struct taker_request *requests[WORLD_BATCH];
    bool batched;
    while (replica->woken && replica->running < replica->options.slots && !replica->process.ended &&
           !replica->process.doomed) {
        uint32_t count = taker_take(replica->taker, requests, WORLD_BATCH, &batched);
        if (count)
            world_user_take(replica, requests, count, batched);
        else
            replica->woken = false;
    }
}

static void replica_turn(void *owner)
{
    struct world_replica *replica = owner;
    take_events(replica);
    take_requests(replica);
    while (replica->freed_model && !replica->process.doomed) {
        replica->freed_model = false;
        world_user_go_on(replica);
        take_requests(replica);
    }
    if (replica->reported_failure &&
        (taker_reports_sent(replica->taker) || sim_now_ns() >= replica->report_until_ns))
        exit_with(replica, 1);
}

static void replica_wake(void *owner)
{
    struct world_replica *replica = owner;
    replica->woken = true;
}

void world_replica_call_over(struct world_call *call)
{
    struct world_replica *replica = call->replica;
    ensure(replica->running > 0 && replica->taken >= call->count);
    replica->running--;
    replica->taken -= call->count;
    replica->woken = true; /* its thread asks for more */
    loop_timer_clear(&call->timer);
    list_remove(&call->link);
    world_models_give_back(call);
    mem_free(call);
    replica->freed_model = true;
}

/* ---- the beginning ---- */

static void fail_to_start(struct world_replica *replica)
{
    if (world_one_in(replica->world, 3)) {
        sim_say("crashes in its constructor");
        replica->process.doomed = true;
        replica->signal_number = SIGSEGV;
        return;
    }
    sim_say("fails to start");
    taker_report_failed(replica->taker, ERROR_USER, BYTES("the constructor failed"));
    replica->reported_failure = true;
    replica->report_until_ns = sim_now_ns() + REPORT_WAIT_MS * WORLD_MS;
    loop_timer_set(&replica->timer, replica->report_until_ns);
}

static void constructed(void *owner)
{
    struct world_replica *replica = owner;
    struct error error = {0};
    if (replica->reported_failure)
        return; /* the turn behind this sees that the time is up */
    if (replica->fails_to_start) {
        fail_to_start(replica);
        return;
    }
    if (replica->options.models)
        world_models_tell(replica);
    if (taker_listen(replica->taker, replica->path, &error) < 0)
        world_fail(replica->world, "W3: %s cannot listen: %s", replica->process.name, error.text);
    taker_report_ready(replica->taker);
    replica->is_serving = true;
}

static void say_again(void *owner)
{
    world_replica_say_health(owner, false);
}

void world_replica_say_health(struct world_replica *replica, bool healthy)
{
    replica->sick = !healthy;
    if (healthy)
        sim_event_clear(&replica->health);
    else
        sim_event_set(&replica->health, sim_now_ns() + HEALTH_PERIOD_MS * WORLD_MS, say_again,
                      replica);
    if (replica->process.ended || replica->process.doomed)
        return;
    sim_enter(&replica->process);
    sim_say("user code says that it is %s", healthy ? "healthy" : "sick");
    taker_report_health(replica->taker, healthy,
                        healthy ? (struct bytes){0} : BYTES("not feeling well"));
    loop_wake(replica->process.loop);
    sim_leave();
}

static void on_terminate(void *owner, int signal_number)
{
    struct world_replica *replica = owner;
    sim_say("is told to end%s", replica->deaf ? ", and does not hear it" : "");
    if (replica->deaf)
        return;
    taker_drain(replica->taker, replica->options.grace_ns);
}

static void narrate(void *owner, const char *line)
{
    sim_say("%s", line);
}

static void open_taker(struct world_replica *replica)
{
    const struct world_app *options = &replica->options;
    struct error error = {0};
    struct taker_config config = {.loop = replica->process.loop,
                                  .channels = &replica->channels,
                                  .settings = &replica->world->settings,
                                  .controller_socket = WORLD_CONTROLLER_PATH,
                                  .replica = replica->id,
                                  .version = options->version,
                                  .configuration = options->configuration,
                                  .rank = options->rank,
                                  .world_size = options->world_size,
                                  .app = bytes_of_string(options->name),
                                  .deployment = bytes_of_string(options->name),
                                  .max_ongoing = options->max_ongoing,
                                  .batch_size = options->batch_size,
                                  .batch_concurrency = options->batch_concurrency,
                                  .batch_wait_ns = options->batch_wait_ns,
                                  .batched = options->batched,
                                  .streams_body = options->streams_body,
                                  .trace = &replica->trace,
                                  .wake = replica_wake,
                                  .owner = replica};
    replica->taker = taker_new(&config, &error);
    ensure(replica->taker);
}

static void open_dispatch(struct world_replica *replica)
{
    struct error error = {0};
    struct dispatch_config config = {.loop = replica->process.loop,
                                     .channels = &replica->channels,
                                     .settings = &replica->world->settings,
                                     .controller_socket = WORLD_CONTROLLER_PATH,
                                     .role = WIRE_ROLE_HANDLE,
                                     .name = replica->process.name,
                                     .seed = rng_next(sim_rng()),
                                     .trace = &replica->trace,
                                     .wake = replica_wake,
                                     .owner = replica};
    replica->dispatch = dispatch_new(&config, &error);
    ensure(replica->dispatch);
}

static void open_channels(struct world_replica *replica)
{
    const struct settings *settings = &replica->world->settings;
    struct channel_config config = {.frame_limit = (size_t)settings->wire_frame_limit,
                                    .queue_limit = (size_t)settings->wire_queue_limit,
                                    .turn_limit = (size_t)settings->wire_turn_limit,
                                    .buffer_keep = 4};
    struct loop *loop = loop_new();
    ensure(loop);
    int code = channel_set_init(&replica->channels, loop, &config);
    ensure(code == 0);
}

struct world_replica *world_replica_start(struct world *world, uint64_t id, uint32_t app,
                                          const struct world_app *options)
{
    struct world_replica *replica = mem_new(sizeof *replica);
    bool slow = world->fault_on[FAULT_SLOW_START] && !world->calm && world_one_in(world, 2);
    char name[SIM_NAME_SIZE];
    replica->world = world;
    replica->id = id;
    replica->app = app;
    replica->options = *options;
    replica->allowed = options->max_ongoing;
    replica->trace = (struct trace){.line = narrate};
    replica->fails_to_start =
        world->fault_on[FAULT_START_FAILS] && !world->calm && world_one_in(world, 3);
    replica->deaf = world->fault_on[FAULT_REPLICA_DEAF] && !world->calm && world_one_in(world, 4);
    replica->hangs = world->fault_on[FAULT_START_HANGS] && !world->calm && world_one_in(world, 5);
    list_init(&replica->calls);
    snprintf(name, sizeof name, "r%llu", (unsigned long long)id);
    snprintf(replica->path, sizeof replica->path, "/sim/%s", name);
    sim_process_begin(&replica->process, name);
    list_push_back(&world->replicas, &replica->link);
    sim_enter(&replica->process);
    sim_say("begins: %s version %llu", options->name, (unsigned long long)options->version);
    open_channels(replica);
    if (options->calls)
        open_dispatch(replica);
    open_taker(replica);
    world_models_begin(replica);
    loop_on_signal(replica->process.loop, SIGTERM, on_terminate, replica);
    replica->turn = (struct loop_turn){.turn = replica_turn, .owner = replica};
    loop_turn_add(replica->process.loop, &replica->turn);
    loop_timer_init(replica->process.loop, &replica->timer, constructed, replica);
    loop_timer_init(replica->process.loop, &replica->configure, configured, replica);
    int64_t most_ns = slow ? 4 * WORLD_SECOND : 50 * WORLD_MS;
    int64_t begun_ns = sim_now_ns() + world_between(world, 0, most_ns);
    if (!replica->hangs)
        loop_timer_set(&replica->timer, begun_ns);
    sim_leave();
    return replica;
}

/* ---- the end ---- */

/* Of whatever it had and did not answer the client may hear that it died. */
static void mark_ended(struct world_replica *replica)
{
    struct world *world = replica->world;
    for (uint32_t i = 1; i < world->request_count; i++)
        if (world->requests[i]->taken_by == replica->id)
            world->requests[i]->replica_ended = true;
}

void world_replica_end(struct world_replica *replica)
{
    struct world *world = replica->world;
    struct list_link *link;
    mark_ended(replica);
    world->replica_ended_ns = sim_now_ns();
    sim_event_clear(&replica->kill);
    sim_event_clear(&replica->health);
    sim_enter(&replica->process);
    sim_say("is gone: %s", replica->process.doomed ? "killed" : "by itself");
    replica->process.doomed = true;
    while ((link = list_first(&replica->calls)))
        world_user_free(list_entry(link, struct world_call, link));
    replica->dispatch = dispatch_free(replica->dispatch);
    replica->taker = taker_free(replica->taker);
    loop_turn_remove(&replica->turn);
    loop_timer_clear(&replica->timer);
    loop_timer_clear(&replica->configure);
    world_models_end(replica);
    struct loop *loop = replica->process.loop;
    channel_set_done(&replica->channels);
    loop_free(loop);
    sim_leave();
    sim_process_end(&replica->process);
    list_remove(&replica->link);
    world_node_gone(world, replica->id, replica->exit_code, replica->signal_number);
    mem_free(replica);
}

void world_replica_crash(struct world_replica *replica)
{
    replica->process.doomed = true;
    replica->signal_number = SIGKILL;
    world_replica_end(replica);
}
