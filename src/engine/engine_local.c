/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_local: this machine's node as an engine.
 *
 *     AWAY --timer--> HELLO --its hello--> STANDS      both fall back to AWAY
 *
 * Words to the node are frames, and what it says becomes events; the slices of an event point into
 * a copy that lives until the next one is taken.  A start that is asked for while the node is away
 * waits for it; a stop that is lost is repeated by the controller.  After every reconnection the
 * node is asked what runs, and a replica that was started before and is missing is told as gone.
 *
 * Replicas of a service live on without a node.  From its end until the next one has told its list
 * they are watched, and stopped, from here.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "channel.h"
#include "child.h"
#include "engine.h"
#include "ensure.h"
#include "list.h"
#include "loop.h"
#include "map.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"
#include "wire.h"

enum {
    ENGINE_RECONNECT_MS = 20,
    ENGINE_HELLO_MS = 5000,
    ENGINE_REPLICA_LIMIT = 1 << 21,
};

static const int64_t NS_PER_MS = 1000000;

enum node_state { NODE_AWAY, NODE_HELLO, NODE_STANDS };

/* A replica that was asked for and is not known to be gone. */
struct known {
    struct engine_local *local;
    uint64_t id;
    uint32_t round; /* the last list that had it, or the one that was new when it was started */
    pid_t pid;      /* 0: its node has not said */
    uint64_t started;
    struct child child; /* while no node watches it */
};

/* A start that waits for the node. */
struct order {
    struct list_link link; /* on local->orders */
    struct engine_start start;
    char texts[]; /* its slices */
};

struct pending {
    struct list_link link; /* on local->events */
    struct engine_event event;
    char texts[]; /* app, deployment and text of the event */
};

struct engine_local {
    struct engine engine; /* first: the engine is this struct */
    struct loop *loop;
    struct channel_set *channels;
    struct channel channel;
    struct loop_timer timer; /* AWAY: the next attempt; HELLO: it is silent for too long */
    enum node_state state;
    char path[108];
    struct list events;    /* of struct pending */
    struct pending *taken; /* the one whose slices are out */
    struct map replicas;   /* struct known by id */
    struct list orders;    /* struct order, oldest first */
    uint32_t round;        /* of lists asked for */
    bool met;              /* a node has said hello before */
    bool list_wanted;      /* the owner waits for ENGINE_LISTED */
    bool listing;          /* an answer to REPLICA_LIST is under way */
    bool list_again;       /* and was asked for again meanwhile */
    void (*wake)(void *owner);
    void *owner;
};

static struct engine_local *local_of(struct engine *engine)
{
    return (struct engine_local *)(void *)engine;
}

/* ---- events ---- */

static struct bytes copy_text(char **at, struct bytes text)
{
    struct bytes copy = bytes_of(*at, text.size);
    if (text.size)
        memcpy(*at, text.at, text.size);
    *at += text.size;
    return copy;
}

static void add_event(struct engine_local *local, const struct engine_event *event)
{
    struct pending *pending =
        mem_new(sizeof *pending + event->app.size + event->deployment.size + event->text.size);
    char *at = pending->texts;
    pending->event = *event;
    pending->event.app = copy_text(&at, event->app);
    pending->event.deployment = copy_text(&at, event->deployment);
    pending->event.text = copy_text(&at, event->text);
    bool first = list_empty(&local->events);
    list_push_back(&local->events, &pending->link);
    if (first)
        local->wake(local->owner);
}

static bool local_next(struct engine *engine, struct engine_event *ret_event)
{
    struct engine_local *local = local_of(engine);
    struct list_link *link = list_pop_front(&local->events);
    local->taken = mem_free(local->taken);
    if (!link)
        return false;
    local->taken = list_entry(link, struct pending, link);
    *ret_event = local->taken->event;
    return true;
}

/* ---- what is known ---- */

static struct known *know(struct engine_local *local, uint64_t replica, uint32_t round)
{
    struct known *known = map_get(&local->replicas, replica);
    if (!known) {
        known = mem_new(sizeof *known);
        *known = (struct known){.local = local, .id = replica, .child.pidfd = -1};
        int put = map_try_put(&local->replicas, replica, known);
        ensure(put == 0);
    }
    known->round = round;
    return known;
}

static void known_free(struct known *known)
{
    if (known && known->child.pid)
        child_close(&known->child);
    mem_free(known);
}

static void forget(struct engine_local *local, uint64_t replica)
{
    known_free(map_remove(&local->replicas, replica));
}

static void tell_gone(struct engine_local *local, uint64_t replica, int exit_code,
                      int signal_number)
{
    struct engine_event event = {.type = ENGINE_GONE,
                                 .replica = replica,
                                 .exit_code = exit_code,
                                 .signal_number = signal_number};
    forget(local, replica);
    add_event(local, &event);
}

/* ---- without a node ---- */

static void known_exit(void *owner, struct child *child, int exit_code, int signal_number)
{
    struct known *known = owner;
    ensure(child == &known->child);
    tell_gone(known->local, known->id, exit_code, signal_number);
}

/* What cannot be watched is missed at the latest in the next node's list. */
static void watch_known(struct engine_local *local)
{
    struct map_entry *entry;
    struct error error;
    map_each (entry, &local->replicas) {
        struct known *known = entry->value;
        if (!known->pid || known->child.pid)
            continue;
        int code = child_adopt(&known->child, local->loop, known->pid, known_exit, known, &error);
        if (code == ERROR_NOT_FOUND ||
            (code == 0 && child_start_time(known->pid) != known->started))
            tell_gone(local, known->id, -1, 0);
    }
}

static void unwatch_known(struct engine_local *local)
{
    struct map_entry *entry;
    map_each (entry, &local->replicas) {
        struct known *known = entry->value;
        if (known->child.pid)
            child_close(&known->child);
    }
}

static void put_start(struct engine_local *local, const struct engine_start *start)
{
    struct wire_replica_start frame = {.replica = start->replica,
                                       .app = start->app,
                                       .deployment = start->deployment,
                                       .runner = start->runner,
                                       .version = start->version,
                                       .body = start->body};
    uint8_t *room = channel_put_room(&local->channel, wire_replica_start_size(&frame));
    if (!room) {
        struct engine_event event = {.type = ENGINE_FAILED,
                                     .replica = start->replica,
                                     .code = ERROR_UNAVAILABLE,
                                     .text = BYTES("the node does not listen")};
        add_event(local, &event);
        tell_gone(local, start->replica, -1, 0);
        return;
    }
    channel_put_done(&local->channel,
                     wire_replica_start_write(&frame, 0, start->replica, false, room));
    /* A list that was asked for before does not have it. */
    know(local, start->replica, local->round);
}

static void keep_order(struct engine_local *local, const struct engine_start *start)
{
    struct order *order = mem_new(sizeof *order + start->app.size + start->deployment.size +
                                  start->runner.size + start->body.size);
    char *at = order->texts;
    order->start = *start;
    order->start.app = copy_text(&at, start->app);
    order->start.deployment = copy_text(&at, start->deployment);
    order->start.runner = copy_text(&at, start->runner);
    order->start.body = copy_text(&at, start->body);
    list_push_back(&local->orders, &order->link);
}

static void put_orders(struct engine_local *local)
{
    struct list_link *link;
    while ((link = list_pop_front(&local->orders))) {
        struct order *order = list_entry(link, struct order, link);
        put_start(local, &order->start);
        mem_free(order);
    }
}

/* False: none waits for this replica. */
static bool drop_order(struct engine_local *local, uint64_t replica)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &local->orders) {
        struct order *order = list_entry(link, struct order, link);
        if (order->start.replica != replica)
            continue;
        list_remove(link);
        mem_free(order);
        return true;
    }
    return false;
}

/* The node was away, and does not have them any more. */
static void tell_missing(struct engine_local *local)
{
    struct map_entry *entry;
    map_each (entry, &local->replicas) {
        const struct known *known = entry->value;
        if (known->round != local->round)
            tell_gone(local, entry->number, -1, 0);
    }
}

/* ---- frames in ---- */

static int on_here(struct engine_local *local, struct bytes payload, uint64_t stream)
{
    struct wire_replica_here here;
    if (wire_replica_here_read(&here, payload) < 0)
        return -1;
    struct engine_event event = {.type = stream ? ENGINE_STARTED : ENGINE_HERE,
                                 .replica = here.replica,
                                 .pid = here.pid,
                                 .app = here.app,
                                 .deployment = here.deployment};
    struct known *known = know(local, here.replica, local->round);
    known->pid = (pid_t)here.pid;
    known->started = child_start_time(known->pid);
    if (stream || local->list_wanted)
        add_event(local, &event);
    return 0;
}

static void ask_list(struct engine_local *local);

static void on_listed(struct engine_local *local)
{
    struct engine_event event = {.type = ENGINE_LISTED};
    local->listing = false;
    tell_missing(local);
    unwatch_known(local);
    if (local->list_again) {
        local->list_again = false;
        ask_list(local);
        return;
    }
    if (local->list_wanted)
        add_event(local, &event);
    local->list_wanted = false;
}

static int on_outcome(struct engine_local *local, struct bytes payload, uint64_t stream)
{
    struct wire_outcome outcome;
    if (wire_outcome_read(&outcome, payload) < 0)
        return -1;
    struct engine_event event = {
        .type = ENGINE_FAILED, .replica = stream, .code = outcome.code, .text = outcome.text};
    if (stream)
        add_event(local, &event); /* a replica_exit follows */
    else
        on_listed(local);
    return 0;
}

static int on_exit_frame(struct engine_local *local, struct bytes payload)
{
    struct wire_replica_exit gone;
    if (wire_replica_exit_read(&gone, payload) < 0)
        return -1;
    struct engine_event event = {.type = ENGINE_GONE,
                                 .replica = gone.replica,
                                 .pid = gone.pid,
                                 .exit_code = gone.exit_code,
                                 .signal_number = gone.signal,
                                 .text = gone.text};
    forget(local, gone.replica);
    add_event(local, &event);
    return 0;
}

static int on_hello(struct engine_local *local, struct bytes payload)
{
    struct wire_hello hello;
    uint16_t version;
    const char *reason;
    if (wire_hello_read(&hello, payload) < 0 || wire_hello_check(&hello, &version, &reason) < 0 ||
        hello.role != WIRE_ROLE_NODE)
        return -1;
    local->state = NODE_STANDS;
    local->met = true;
    loop_timer_clear(&local->timer);
    put_orders(local);
    return 0;
}

static int on_frame(struct engine_local *local, struct bytes frame)
{
    struct wire_header header;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (local->state == NODE_HELLO)
        return header.type == WIRE_HELLO_FRAME ? on_hello(local, payload) : -1;
    switch (header.type) {
    case WIRE_REPLICA_HERE_FRAME:
        return on_here(local, payload, header.stream);
    case WIRE_OUTCOME_FRAME:
        return on_outcome(local, payload, header.stream);
    case WIRE_REPLICA_EXIT_FRAME:
        return on_exit_frame(local, payload);
    default:
        return 0; /* of a newer version */
    }
}

/* ---- the connection ---- */

static void leave(struct engine_local *local)
{
    channel_close(&local->channel);
    if (local->state == NODE_STANDS)
        watch_known(local);
    local->state = NODE_AWAY;
    local->listing = false;
    loop_timer_set(&local->timer, loop_now_ns(local->loop) + ENGINE_RECONNECT_MS * NS_PER_MS);
}

static void local_event(void *owner, struct channel *channel, int events)
{
    struct engine_local *local = owner;
    enum channel_taken taken;
    struct bytes frame;
    ssize_t size;
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)))
        return;
    do {
        size = channel_receive(channel);
        while ((taken = channel_take(channel, &frame)) == CHANNEL_FRAME)
            if (on_frame(local, frame) < 0) {
                taken = CHANNEL_BROKEN;
                break;
            }
    } while (size > 0 && taken != CHANNEL_BROKEN);
    if (taken == CHANNEL_BROKEN)
        metric_add(peer_glitches_total, 1);
    if (size < 0 || taken == CHANNEL_BROKEN || events & CHANNEL_CLOSED)
        leave(local);
}

static void ask_list(struct engine_local *local)
{
    struct wire_replica_list frame = {0};
    if (!channel_is_open(&local->channel))
        return; /* asked for at the next connection */
    uint8_t *room = channel_put_room_always(&local->channel, wire_replica_list_size(&frame));
    if (!room)
        return;
    channel_put_done(&local->channel, wire_replica_list_write(&frame, 0, 0, false, room));
    local->listing = true;
    local->round++;
}

static int connect_node(struct engine_local *local)
{
    struct wire_hello hello;
    int descriptor = socket_connect_unix(local->path);
    if (descriptor < 0 ||
        channel_open(&local->channel, local->channels, descriptor, local_event, local) < 0)
        return -1;
    wire_hello_fill(&hello, WIRE_ROLE_CONTROLLER, 0, BYTES("controller"));
    hello.pid = (uint32_t)getpid();
    uint8_t *room = channel_put_room_always(&local->channel, wire_hello_size(&hello));
    if (!room)
        return -1;
    channel_put_done(&local->channel, wire_hello_write(&hello, 0, 0, false, room));
    local->state = NODE_HELLO;
    loop_timer_set(&local->timer, loop_now_ns(local->loop) + ENGINE_HELLO_MS * NS_PER_MS);
    return 0;
}

static void timer_fired(void *owner)
{
    struct engine_local *local = owner;
    if (local->state == NODE_HELLO || connect_node(local) < 0) {
        leave(local);
        return;
    }
    /* What became of what was started? */
    if (local->list_wanted || map_count(&local->replicas) > 0)
        ask_list(local);
}

/* ---- operations ---- */

static int local_start(struct engine *engine, const struct engine_start *start,
                       struct error *reterr)
{
    struct engine_local *local = local_of(engine);
    if (map_count(&local->replicas) + local->orders.length >= ENGINE_REPLICA_LIMIT)
        return error_set(reterr, ERROR_LIMIT, "too many replicas");
    if (local->state == NODE_STANDS)
        put_start(local, start);
    else
        keep_order(local, start);
    return 0;
}

static void local_stop(struct engine *engine, uint64_t replica, bool kill)
{
    struct engine_local *local = local_of(engine);
    struct wire_replica_stop frame = {.replica = replica, .kill = kill};
    struct known *known = map_get(&local->replicas, replica);
    if (drop_order(local, replica)) {
        tell_gone(local, replica, -1, 0);
        return;
    }
    if (known && known->child.pid) {
        child_signal(&known->child, kill ? SIGKILL : SIGTERM, kill);
        return;
    }
    uint8_t *room = channel_is_open(&local->channel)
                        ? channel_put_room_always(&local->channel, wire_replica_stop_size(&frame))
                        : NULL;
    if (room)
        channel_put_done(&local->channel, wire_replica_stop_write(&frame, 0, 0, false, room));
}

static void local_list(struct engine *engine)
{
    struct engine_local *local = local_of(engine);
    local->list_again = local->listing;
    local->list_wanted = true;
    if (!local->listing)
        ask_list(local);
}

static bool local_end_instance(struct engine *engine)
{
    struct engine_local *local = local_of(engine);
    struct wire_instance_end frame = {0};
    /* The first node, whose hello has not come yet, reads it behind ours. */
    bool comes = local->state == NODE_HELLO && !local->met;
    uint8_t *room = local->state == NODE_STANDS || comes
                        ? channel_put_room_always(&local->channel, wire_instance_end_size(&frame))
                        : NULL;
    if (room)
        channel_put_done(&local->channel, wire_instance_end_write(&frame, 0, 0, false, room));
    return room != NULL;
}

static struct engine *local_free(struct engine *engine)
{
    struct engine_local *local = local_of(engine);
    struct map_entry *entry;
    struct list_link *link;
    loop_timer_clear(&local->timer);
    channel_close(&local->channel);
    while ((link = list_pop_front(&local->events)))
        mem_free(list_entry(link, struct pending, link));
    mem_free(local->taken);
    while ((link = list_pop_front(&local->orders)))
        mem_free(list_entry(link, struct order, link));
    map_each (entry, &local->replicas)
        known_free(entry->value);
    map_done(&local->replicas);
    mem_free(local);
    return NULL;
}

struct engine *engine_local_new(struct loop *loop, struct channel_set *channels,
                                const char *node_socket, void (*wake)(void *owner), void *owner,
                                struct error *reterr)
{
    static const struct engine_operations operations = {.start = local_start,
                                                        .stop = local_stop,
                                                        .list = local_list,
                                                        .end_instance = local_end_instance,
                                                        .next = local_next,
                                                        .free = local_free};
    struct engine_local *local = mem_new(sizeof *local);
    ensure(wake);
    if (strlen(node_socket) >= sizeof local->path) {
        mem_free(local);
        error_set(reterr, ERROR_INVALID, "the socket path %s is too long", node_socket);
        return NULL;
    }
    *local = (struct engine_local){.engine.operations = &operations,
                                   .loop = loop,
                                   .channels = channels,
                                   .channel.descriptor = -1,
                                   .wake = wake,
                                   .owner = owner};
    snprintf(local->path, sizeof local->path, "%s", node_socket);
    list_init(&local->events);
    list_init(&local->orders);
    map_init(&local->replicas, ENGINE_REPLICA_LIMIT * 2);
    loop_timer_init(loop, &local->timer, timer_fired, local);
    timer_fired(local);
    return &local->engine;
}
