/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_node: what the node does in a real instance: it holds the listening sockets, starts
 * processes, reaps them, and tells the controller; and the simulated engine, through which the
 * controller asks for that.
 *
 * A node that is lost (FAULT_NODE_LOST) is followed by another one, which takes everything back: of
 * the node's own part in that there is nothing here, only what the roles notice: until then nothing
 * is started, and who ends is not started again.  Otherwise a start takes a while, in which it can
 * be taken back; a process that is to be killed ends a moment later.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"
#include "target.h"
#include "world.h"

struct world *world_now;

struct world_start {       /* asked for, its process is not there yet */
    struct list_link link; /* on world->starts */
    struct world *world;
    uint64_t id;
    uint32_t app;
    struct world_app options;
    struct sim_event event;
};

struct engine_news {
    struct list_link link;
    struct engine_event event;
};

struct world_engine {
    struct engine engine; /* first */
    struct world *world;
    struct loop *loop;
    struct list news; /* struct engine_news */
    void (*wake)(void *owner);
    void *owner;
};

/* When there is a node: now, or later. */
int64_t world_node_ns(const struct world *world)
{
    int64_t now_ns = sim_now_ns();
    return now_ns < world->node_away_until_ns ? world->node_away_until_ns : now_ns;
}

/* ---- news for the controller ---- */

static void tell(struct world *world, struct engine_event event)
{
    struct world_engine *engine = world->engine;
    if (!engine)
        return; /* the next one asks for a list */
    struct engine_news *news = mem_new(sizeof *news);
    news->event = event;
    list_push_back(&engine->news, &news->link);
    engine->wake(engine->owner);
    loop_wake(engine->loop);
}

void world_node_gone(struct world *world, uint64_t replica, int exit_code, int signal_number)
{
    tell(world, (struct engine_event){.type = ENGINE_GONE,
                                      .replica = replica,
                                      .exit_code = signal_number ? -1 : exit_code,
                                      .signal_number = signal_number});
}

struct world_replica *world_replica_find(struct world *world, uint64_t id)
{
    struct list_link *link;
    list_each (link, &world->replicas)
        if (list_entry(link, struct world_replica, link)->id == id)
            return list_entry(link, struct world_replica, link);
    return NULL;
}

static struct world_start *find_start(struct world *world, uint64_t id)
{
    struct list_link *link;
    list_each (link, &world->starts)
        if (list_entry(link, struct world_start, link)->id == id)
            return list_entry(link, struct world_start, link);
    return NULL;
}

static void drop_start(struct world_start *start)
{
    sim_event_clear(&start->event);
    list_remove(&start->link);
    mem_free(start);
}

/* ---- operations ---- */

static void start_due(void *owner)
{
    struct world_start *start = owner;
    struct world *world = start->world;
    struct world_replica *replica =
        world_replica_start(world, start->id, start->app, &start->options);
    tell(world, (struct engine_event){
                    .type = ENGINE_STARTED, .replica = start->id, .pid = replica->process.number});
    drop_start(start);
}

/* The document that world_command.c wrote. */
static void read_document(struct world *world, struct bytes document, struct world_start *ret_start)
{
    char text[256];
    unsigned app, replicas, max_ongoing, slots;
    unsigned long long version;
    struct target_replica replica;
    struct error error = {0};
    int code = target_read_replica(document, &replica, &error);
    ensure(code == 0 && replica.world_size > 0);
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(replica.code));
    int fields = sscanf(text, "app=%u version=%llu replicas=%u max=%u slots=%u", &app, &version,
                        &replicas, &max_ongoing, &slots);
    ensure(fields == 5 && app < WORLD_APPS);
    ret_start->app = app;
    ret_start->options = world->apps[app];
    ret_start->options.version = version;
    ret_start->options.max_ongoing = max_ongoing;
    ret_start->options.slots = slots;
    ret_start->options.config = world_config_number(replica.user_config);
    ret_start->options.configuration = (uint64_t)replica.configuration;
    ret_start->options.rank = (uint32_t)replica.rank + 1;
    ret_start->options.world_size = (uint32_t)replica.world_size;
}

static int engine_start(struct engine *engine, const struct engine_start *order,
                        struct error *reterr)
{
    struct world *world = ((struct world_engine *)(void *)engine)->world;
    bool slow = world->fault_on[FAULT_SLOW_START] && !world->calm && world_one_in(world, 3);
    if (world->fault_on[FAULT_START_FAILS] && !world->calm && world_one_in(world, 12))
        return error_set(reterr, ERROR_UNAVAILABLE, "the node does not listen");
    if (find_start(world, order->replica) || world_replica_find(world, order->replica))
        world_fail(world, "C3: replica %llu is started twice", (unsigned long long)order->replica);
    struct world_start *start = mem_new(sizeof *start);
    start->world = world;
    start->id = order->replica;
    read_document(world, order->body, start);
    if (start->options.version != order->version)
        world_fail(world, "W2: replica %llu is started with another version than it is to say",
                   (unsigned long long)order->replica);
    list_push_back(&world->starts, &start->link);
    int64_t most_ns = slow ? 3 * WORLD_SECOND : 20 * WORLD_MS;
    sim_event_set(&start->event, world_node_ns(world) + world_between(world, 0, most_ns), start_due,
                  start);
    return 0;
}

static void kill_due(void *owner)
{
    world_replica_crash(owner);
}

static void engine_stop(struct engine *engine, uint64_t id, bool kill)
{
    struct world *world = ((struct world_engine *)(void *)engine)->world;
    struct world_replica *replica = world_replica_find(world, id);
    struct world_start *start = find_start(world, id);
    if (replica && kill) {
        sim_event_set(&replica->kill, sim_now_ns() + world_between(world, 0, WORLD_MS), kill_due,
                      replica);
    } else if (replica) {
        sim_process_signal(&replica->process, SIGTERM);
    } else {
        if (start)
            drop_start(start);
        world_node_gone(world, id, start ? 0 : -1, 0);
    }
}

static void answer_list(void *owner)
{
    struct world *world = owner;
    struct list_link *link;
    list_each (link, &world->replicas) {
        const struct world_replica *replica = list_entry(link, struct world_replica, link);
        struct bytes name = bytes_of_string(world->apps[replica->app].name);
        tell(world, (struct engine_event){.type = ENGINE_HERE,
                                          .replica = replica->id,
                                          .pid = replica->process.number,
                                          .app = name,
                                          .deployment = name});
    }
    list_each (link, &world->starts) {
        const struct world_start *start = list_entry(link, struct world_start, link);
        struct bytes name = bytes_of_string(world->apps[start->app].name);
        tell(world,
             (struct engine_event){
                 .type = ENGINE_HERE, .replica = start->id, .app = name, .deployment = name});
    }
    tell(world, (struct engine_event){.type = ENGINE_LISTED});
}

/* A node that has just come answers once it knows itself who lives. */
static void engine_list(struct engine *engine)
{
    struct world *world = ((struct world_engine *)(void *)engine)->world;
    if (world_node_ns(world) == sim_now_ns())
        answer_list(world);
    else
        sim_event_set(&world->list_event, world_node_ns(world), answer_list, world);
}

static bool engine_end_instance(struct engine *engine)
{
    struct world *world = ((struct world_engine *)(void *)engine)->world;
    if (!list_empty(&world->replicas) || !list_empty(&world->starts))
        world_fail(world, "C3: the instance ends while replicas run");
    world->ending = true;
    return true;
}

static bool engine_next(struct engine *engine, struct engine_event *ret_event)
{
    struct list_link *link = list_pop_front(&((struct world_engine *)(void *)engine)->news);
    if (!link)
        return false;
    struct engine_news *news = list_entry(link, struct engine_news, link);
    *ret_event = news->event;
    mem_free(news);
    return true;
}

static struct engine *engine_free(struct engine *engine)
{
    struct world_engine *own = (struct world_engine *)(void *)engine;
    struct engine_event event;
    while (engine_next(engine, &event))
        ;
    own->world->engine = NULL;
    sim_event_clear(&own->world->list_event);
    mem_free(own);
    return NULL;
}

struct engine *world_engine_new(struct loop *loop, struct channel_set *channels, const char *node,
                                void (*wake)(void *owner), void *owner, struct error *reterr)
{
    static const struct engine_operations operations = {.start = engine_start,
                                                        .stop = engine_stop,
                                                        .list = engine_list,
                                                        .end_instance = engine_end_instance,
                                                        .next = engine_next,
                                                        .free = engine_free};
    struct world_engine *engine = mem_new(sizeof *engine);
    ensure(world_now && !world_now->engine);
    *engine = (struct world_engine){.engine.operations = &operations,
                                    .world = world_now,
                                    .loop = loop,
                                    .wake = wake,
                                    .owner = owner};
    list_init(&engine->news);
    world_now->engine = engine;
    return &engine->engine;
}

/* ---- processes ---- */

static struct world_replica *replica_of(struct world *world, const struct sim_process *process)
{
    struct list_link *link;
    list_each (link, &world->replicas)
        if (&list_entry(link, struct world_replica, link)->process == process)
            return list_entry(link, struct world_replica, link);
    return NULL;
}

void world_node_reap(struct world *world, struct sim_process *process)
{
    if (!process->doomed && !process->ended)
        return;
    struct world_replica *replica = replica_of(world, process);
    if (replica) {
        world_replica_end(replica);
        return;
    }
    for (uint32_t i = 0; i < world->proxy_count; i++)
        if (&world->proxies[i].process == process)
            world_proxy_kill(&world->proxies[i], world->ending ? -1 : 5 * WORLD_MS);
}

void world_node_begin(struct world *world)
{
    struct error error = {0};
    list_init(&world->replicas);
    list_init(&world->starts);
    sim_process_begin(&world->node, "node");
    sim_enter(&world->node);
    world->listener = sim_listen_tcp(WORLD_PORT);
    world->controller_listener = socket_listen_unix(WORLD_CONTROLLER_PATH, 1024, &error);
    ensure(world->listener >= 0 && world->controller_listener >= 0);
    sim_leave();
}

void world_node_end(struct world *world)
{
    struct list_link *link;
    while ((link = list_first(&world->starts)))
        drop_start(list_entry(link, struct world_start, link));
    while ((link = list_first(&world->replicas)))
        world_replica_crash(list_entry(link, struct world_replica, link));
    sim_enter(&world->node);
    socket_close(world->listener);
    socket_unlisten_unix(world->controller_listener, WORLD_CONTROLLER_PATH);
    sim_leave();
    sim_process_end(&world->node);
}
