/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conduct: events into the mind, one after the other.
 *
 * Beginning: the stored targets are told, then the engine is asked what runs, and what it lists is
 * told too; with its last row the mind knows everything and begins to act (LOADED).  Replicas that
 * ran before come back by themselves and say what they are.
 *
 * Numbers given out in this life lie above those of earlier ones (store.h), so that readers never
 * take an old snapshot, or an id, for a new one (R4).
 */
#include "conduct.h"

#include <string.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"

enum {
    LIFE_SHIFT_ID = 20,       /* ids of one life */
    LIFE_SHIFT_SNAPSHOT = 32, /* snapshots of one life */
};

static const int64_t NS_PER_MS = 1000000;

/* ---- the mind ---- */

static void narrate(void *owner, const char *line)
{
    (void)owner;
    log_print(LOG_DEBUG, "%s", line);
}

static void step(struct conduct *conduct, const struct controller_event *event)
{
    ensure(!conduct->performing);
    conduct->performing = true;
    controller_step(conduct->mind, loop_now_ns(conduct->loop), event, &conduct->effects);
    for (uint32_t i = 0; i < conduct->effects.count; i++)
        perform(conduct, &conduct->effects.at[i]);
    conduct->performing = false;
}

void conduct_take(struct conduct *conduct, const struct controller_event *event)
{
    struct list_link *link;
    step(conduct, event);
    while ((link = list_pop_front(&conduct->follow_ups))) {
        struct follow_up *follow_up = list_entry(link, struct follow_up, link);
        struct controller_event next = {.type = follow_up->type,
                                        .token = follow_up->token,
                                        .replica = follow_up->replica,
                                        .code = follow_up->code,
                                        .exit_code = -1,
                                        .text = bytes_of_string(follow_up->text)};
        step(conduct, &next);
        mem_free(follow_up);
    }
    loop_timer_set(&conduct->mind_timer, controller_deadline_ns(conduct->mind));
}

void conduct_follow_up(struct conduct *conduct, enum controller_event_type type, uint64_t token,
                       struct replica_id replica, const struct error *error)
{
    struct follow_up *follow_up = mem_new(sizeof *follow_up);
    ensure(conduct->performing);
    *follow_up =
        (struct follow_up){.type = type, .token = token, .replica = replica, .code = error->code};
    memcpy(follow_up->text, error->text, sizeof follow_up->text);
    list_push_back(&conduct->follow_ups, &follow_up->link);
}

static void mind_due(void *owner)
{
    struct conduct *conduct = owner;
    struct controller_event event = {.type = CONTROLLER_TIME};
    event.late = loop_turn_late(conduct->loop, conduct->settings.late_turn_ms);
    if (event.late)
        metric_add(turns_late_total, 1);
    conduct_take(conduct, &event);
}

/* ---- the engine ---- */

static void take_engine_event(struct conduct *conduct, const struct engine_event *from)
{
    static const enum controller_event_type types[] = {[ENGINE_STARTED] = CONTROLLER_STARTED,
                                                       [ENGINE_FAILED] = CONTROLLER_FAILED,
                                                       [ENGINE_GONE] = CONTROLLER_GONE,
                                                       [ENGINE_HERE] = CONTROLLER_ADOPT,
                                                       [ENGINE_LISTED] = CONTROLLER_LOADED};
    if (from->type == ENGINE_LISTED) {
        if (conduct->loaded)
            return;
        conduct->loaded = true;
    }
    struct controller_event event = {.type = types[from->type],
                                     .app = from->app,
                                     .deployment = from->deployment,
                                     .replica = {from->replica},
                                     .text = from->text,
                                     .code = from->code,
                                     .exit_code = from->exit_code,
                                     .signal_number = from->signal_number,
                                     .pid = (int32_t)from->pid};
    if (from->type == ENGINE_GONE)
        log_print(LOG_DEBUG, "replica %llu is gone: exit code %d, signal %d",
                  (unsigned long long)from->replica, from->exit_code, from->signal_number);
    conduct_take(conduct, &event);
    /* Readers learn that there is nothing yet; what was restored is published when it stands. */
    if (from->type == ENGINE_LISTED && !conduct->restored && conduct->snapshot_version == 0)
        publish_note(conduct);
}

static void engine_wake(void *owner)
{
    (void)owner; /* every turn takes the events */
}

static void turn(void *owner)
{
    struct conduct *conduct = owner;
    struct engine_event event;
    while (conduct->engine->operations->next(conduct->engine, &event))
        take_engine_event(conduct, &event);
    publish_flush(conduct);
    peers_close_broken(conduct);
}

/* ---- set-up ---- */

static int open_loop(struct conduct *conduct, struct error *reterr)
{
    const struct settings *settings = &conduct->settings;
    /* Targets come in one frame, and replica documents leave in one. */
    struct channel_config config = {.frame_limit = (size_t)settings->target_size_limit + 65536,
                                    .queue_limit = (size_t)settings->wire_queue_limit,
                                    .turn_limit = (size_t)settings->wire_turn_limit,
                                    .buffer_keep = 4};
    struct channel_config engine_config = config;
    /* What waits there is bounded by the replicas that the mind starts. */
    engine_config.queue_limit = SIZE_MAX / 2;
    conduct->loop = loop_new();
    if (!conduct->loop || channel_set_init(&conduct->channels, conduct->loop, &config) < 0 ||
        channel_set_init(&conduct->engine_channels, conduct->loop, &engine_config) < 0)
        return error_set(reterr, ERROR_SYSTEM,
                         "no event loop: descriptors or memory are exhausted");
    conduct->turn = (struct loop_turn){.turn = turn, .owner = conduct};
    loop_turn_add(conduct->loop, &conduct->turn);
    loop_timer_init(conduct->loop, &conduct->mind_timer, mind_due, conduct);
    loop_timer_init(conduct->loop, &conduct->ping_timer, peers_ping, conduct);
    return 0;
}

static int open_store(struct conduct *conduct, struct error *reterr)
{
    const struct conduct_options *options = &conduct->options;
    struct store *store = &conduct->store;
    struct store_config config = {.directory = options->store_directory ? options->store_directory
                                                                        : options->directory,
                                  .durable = options->store_directory != NULL,
                                  .start = options->start,
                                  .size_limit = (size_t)conduct->settings.target_size_limit};
    if (store_open(store, &config, reterr) < 0)
        return reterr->code;
    if (store->notice[0])
        log_print(LOG_CRITICAL, "%s", store->notice);
    if (store->trouble[0])
        log_print(LOG_ERROR, "%s; nothing can be deployed until it does", store->trouble);
    return 0;
}

static int open_mind(struct conduct *conduct, uint64_t seed, struct error *reterr)
{
    const struct settings *settings = &conduct->settings;
    if (open_store(conduct, reterr) < 0)
        return reterr->code;
    uint64_t first_id = conduct->store.life << LIFE_SHIFT_ID;
    conduct->trace = (struct trace){.line = log_enabled(LOG_DEBUG) ? narrate : NULL};
    struct controller_config config = {.settings = *settings,
                                       .trace = &conduct->trace,
                                       .application_last = first_id,
                                       .deployment_last = first_id,
                                       .replica_last = first_id,
                                       /* From 1 on: a reader that has nothing has version 0. */
                                       .snapshot_last =
                                           (conduct->store.life << LIFE_SHIFT_SNAPSHOT) + 1};
    conduct->mind = controller_new(&config, seed);
    return conduct->mind ? 0 : error_set(reterr, ERROR_MEMORY, "no memory for the controller");
}

static void take_stored(void *owner, const struct controller_app_target *target,
                        const struct error *error)
{
    struct conduct *conduct = owner;
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = target, .stored = true};
    if (!target) {
        log_print(LOG_ERROR, "a stored application is lost: %s", error->text);
        return;
    }
    log_print(LOG_INFO, "application '%.*s' is found in the store", BYTES_PRINT(target->name));
    conduct->restored = true;
    conduct_take(conduct, &event);
}

static void prepare(struct conduct *conduct, const struct conduct_options *options)
{
    conduct->options = *options;
    list_init(&conduct->follow_ups);
    list_init(&conduct->peers);
    list_init(&conduct->readers);
    list_init(&conduct->pinged);
    map_init(&conduct->replicas, CONDUCT_PEER_LIMIT);
    map_init(&conduct->questions, CONDUCT_PEER_LIMIT);
    text_init(&conduct->snapshot, CONDUCT_SNAPSHOT_LIMIT);
}

int conduct_open(struct conduct *conduct, const struct conduct_options *options, uint64_t seed,
                 struct error *reterr)
{
    prepare(conduct, options);
    if (open_loop(conduct, reterr) < 0 || open_mind(conduct, seed, reterr) < 0)
        return reterr->code;
    conduct->engine = options->engine ? options->engine(conduct->loop, &conduct->engine_channels,
                                                        options->node, engine_wake, conduct, reterr)
                                      : NULL;
    if (!conduct->engine)
        return reterr->code;
    store_each(&conduct->store, take_stored, conduct);
    conduct->engine->operations->list(conduct->engine);
    if (peers_open(conduct, reterr) < 0)
        return reterr->code;
    loop_timer_set(&conduct->ping_timer,
                   loop_now_ns(conduct->loop) + conduct->settings.ping_period_ms * NS_PER_MS);
    return 0;
}

void conduct_close(struct conduct *conduct)
{
    struct list_link *link;
    peers_close(conduct);
    if (conduct->engine)
        conduct->engine = conduct->engine->operations->free(conduct->engine);
    while ((link = list_pop_front(&conduct->follow_ups)))
        mem_free(list_entry(link, struct follow_up, link));
    conduct->mind = controller_free(conduct->mind);
    controller_effects_done(&conduct->effects);
    store_close(&conduct->store);
    map_done(&conduct->replicas);
    map_done(&conduct->questions);
    text_done(&conduct->snapshot);
    if (!conduct->loop)
        return;
    loop_timer_clear(&conduct->mind_timer);
    loop_timer_clear(&conduct->ping_timer);
    loop_turn_remove(&conduct->turn);
    channel_set_done(&conduct->engine_channels);
    channel_set_done(&conduct->channels);
    conduct->loop = loop_free(conduct->loop);
}
