/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd_bench: the controller's process with many deployments: what it costs at rest, how soon it
 * acts on one redeploy, how soon it knows everything again after its death.
 *
 *     crowd_bench CONTROLLER DIRECTORY [DEPLOYMENTS [REPLICAS]]      default 1,000 with 4 each
 *
 * The controller is the real executable with its store.  All others are played here, in one
 * process: the node, every replica (a connection that says ready and answers pings), the command
 * that deploys (what it sends: crowd_target.c), and a reader of snapshots.  Prints one line of
 * JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "crowd_target.h"
#include "ensure.h"
#include "loop.h"
#include "map.h"
#include "mem.h"
#include "socket.h"
#include "target.h"
#include "wire.h"

enum {
    APP_DEPLOYMENTS = 100, /* of one application */
    REDEPLOYS = 15,
    REST_S = 5,
    PATIENCE_S = 120,
    BACKLOG = 16384,
    FRAME_MOST = 16 << 20,
    MEMBERS_MOST = 1 << 20
};
static const int64_t SECOND = 1000000000;

struct member { /* a replica */
    struct list_link link;
    struct channel channel;
    struct loop_timer timer; /* connects again */
    uint64_t id, version;
    int64_t configuration, rank, world_size;
    char app[CROWD_NAME_SIZE], deployment[CROWD_NAME_SIZE];
};

static struct crowd {
    const char *controller, *directory;
    char controller_path[108], node_path[108];
    uint32_t deployments, replicas;
    int listener;
    pid_t pid;
    struct loop *loop;
    struct channel_set channels;
    struct loop_watch node_watch;
    struct channel node, command, reader;
    struct list members;
    struct map by_id;
    uint64_t versions; /* given out so far */
    uint32_t outcomes, bad_outcomes;
    uint32_t starts;                           /* ordered so far */
    int64_t start_ns, snapshot_ns, outcome_ns; /* the last time each came */
    uint32_t snapshot_rows;                    /* replicas of the last whole snapshot */
    uint32_t rows;
} crowd;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "crowd_bench: %s\n", what);
    if (crowd.pid > 0)
        kill(crowd.pid, SIGKILL);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

/* PUT(channel, stream, drain, .timeout_us = 5): one frame. */
#define PUT(channel, stream, frame_name, ...)                                                      \
    do {                                                                                           \
        struct wire_##frame_name frame_ = {__VA_ARGS__};                                           \
        uint8_t *room_ = channel_put_room_always(channel, wire_##frame_name##_size(&frame_));      \
        if (room_)                                                                                 \
            channel_put_done(channel,                                                              \
                             wire_##frame_name##_write(&frame_, 0, stream, false, room_));         \
    } while (0)

static void put_hello(struct channel *channel, enum wire_role role, uint64_t id, const char *name)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, role, id, bytes_of_string(name));
    uint8_t *room = channel_put_room_always(channel, wire_hello_size(&hello));
    if (room)
        channel_put_done(channel, wire_hello_write(&hello, 0, 0, false, room));
}

/* Every whole frame that came; false: the channel has ended. */
static bool take_frames(struct channel *channel, int events,
                        void (*take)(void *owner, const struct wire_header *header,
                                     struct bytes payload),
                        void *owner)
{
    struct wire_header header;
    struct bytes frame;
    ssize_t size;
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)))
        return true;
    do {
        size = channel_receive(channel);
        while (channel_is_open(channel) && channel_take(channel, &frame) == CHANNEL_FRAME) {
            wire_header_read(&header, frame.at);
            take(owner, &header, bytes_skip(frame, WIRE_HEADER_SIZE));
        }
    } while (size > 0);
    return size >= 0 && !(events & CHANNEL_CLOSED);
}

/* ---- replicas ---- */

static void member_connect(void *owner);

static void member_again(struct member *member)
{
    channel_close(&member->channel);
    loop_timer_set(&member->timer, loop_now_ns(crowd.loop) + 100000000);
}

static void member_free(struct member *member)
{
    channel_close(&member->channel);
    loop_timer_clear(&member->timer);
    map_remove(&crowd.by_id, member->id);
    list_remove(&member->link);
    mem_free(member);
}

static void member_exit(struct member *member)
{
    PUT(&crowd.node, 0, replica_exit, .replica = member->id, .pid = (uint32_t)getpid());
    member_free(member);
}

static void member_ready(struct member *member)
{
    char address[128];
    snprintf(address, sizeof address, "%s/r%llu", crowd.directory, (unsigned long long)member->id);
    PUT(&member->channel, 0, replica_ready, .replica = member->id,
        .address = bytes_of_string(address), .version = member->version,
        .app = bytes_of_string(member->app), .deployment = bytes_of_string(member->deployment),
        .configuration = (uint64_t)member->configuration, .rank = (uint32_t)member->rank + 1,
        .world_size = (uint32_t)member->world_size);
}

static void member_configure(struct member *member, uint64_t stream, struct bytes payload)
{
    struct wire_reconfigure frame;
    struct target_configuration told;
    struct error error = {0};
    if (wire_reconfigure_read(&frame, payload) < 0 ||
        target_read_configuration(frame.body, &told, &error) < 0)
        die("a configuration that cannot be read");
    member->configuration = told.configuration;
    member->rank = told.rank;
    member->world_size = told.world_size;
    PUT(&member->channel, stream, outcome, .code = 0);
}

static void member_take(void *owner, const struct wire_header *header, struct bytes payload)
{
    struct member *member = owner;
    struct wire_ping ping;
    if (header->type == WIRE_HELLO_FRAME)
        member_ready(member);
    else if (header->type == WIRE_PING_FRAME && wire_ping_read(&ping, payload) == 0)
        PUT(&member->channel, 0, pong, .token = ping.token);
    else if (header->type == WIRE_RECONFIGURE_FRAME)
        member_configure(member, header->stream, payload);
    else if (header->type == WIRE_DRAIN_FRAME)
        member->version = 0; /* it goes when this event is over */
}

static void member_event(void *owner, struct channel *channel, int events)
{
    struct member *member = owner;
    bool good = take_frames(channel, events, member_take, member);
    if (member->version == 0)
        member_exit(member);
    else if (!good)
        member_again(member);
}

static void member_connect(void *owner)
{
    struct member *member = owner;
    int descriptor = socket_connect_unix(crowd.controller_path);
    if (descriptor < 0 ||
        channel_open(&member->channel, &crowd.channels, descriptor, member_event, member) < 0) {
        loop_timer_set(&member->timer, loop_now_ns(crowd.loop) + 20000000);
        return;
    }
    put_hello(&member->channel, WIRE_ROLE_REPLICA, member->id, member->deployment);
}

static void put_here(const struct member *member, uint64_t stream)
{
    PUT(&crowd.node, stream, replica_here, .replica = member->id, .pid = (uint32_t)getpid(),
        .app = bytes_of_string(member->app), .deployment = bytes_of_string(member->deployment));
}

/* ---- the node ---- */

static void node_start(struct bytes payload)
{
    struct wire_replica_start start;
    struct target_replica document;
    struct error error = {0};
    if (wire_replica_start_read(&start, payload) < 0 ||
        target_read_replica(start.body, &document, &error) < 0)
        die("a start that cannot be read");
    struct member *member = mem_new(sizeof *member);
    member->id = start.replica;
    member->version = start.version;
    member->configuration = document.configuration;
    member->rank = document.rank;
    member->world_size = document.world_size;
    member->channel.descriptor = -1;
    snprintf(member->app, CROWD_NAME_SIZE, "%.*s", BYTES_PRINT(start.app));
    snprintf(member->deployment, CROWD_NAME_SIZE, "%.*s", BYTES_PRINT(start.deployment));
    list_push_back(&crowd.members, &member->link);
    int bad = map_try_put(&crowd.by_id, member->id, member);
    ensure(bad == 0);
    loop_timer_init(crowd.loop, &member->timer, member_connect, member);
    crowd.starts++;
    crowd.start_ns = now_ns();
    put_here(member, member->id);
    member_connect(member);
}

static void node_stop(struct bytes payload)
{
    struct wire_replica_stop stop;
    if (wire_replica_stop_read(&stop, payload) < 0)
        die("a stop that cannot be read");
    struct member *member = map_get(&crowd.by_id, stop.replica);
    if (member)
        member_exit(member);
    else
        PUT(&crowd.node, 0, replica_exit, .replica = stop.replica, .exit_code = -1);
}

static void node_take(void *owner, const struct wire_header *header, struct bytes payload)
{
    struct list_link *link;
    (void)owner;
    switch (header->type) {
    case WIRE_HELLO_FRAME:
        put_hello(&crowd.node, WIRE_ROLE_NODE, 0, "crowd");
        break;
    case WIRE_REPLICA_START_FRAME:
        node_start(payload);
        break;
    case WIRE_REPLICA_STOP_FRAME:
        node_stop(payload);
        break;
    case WIRE_REPLICA_LIST_FRAME:
        list_each (link, &crowd.members)
            put_here(list_entry(link, struct member, link), 0);
        PUT(&crowd.node, 0, outcome, .code = 0);
        break;
    default:
        break;
    }
}

static void node_event(void *owner, struct channel *channel, int events)
{
    (void)owner;
    if (!take_frames(channel, events, node_take, NULL))
        channel_close(channel);
}

static void node_ready(void *owner, int events)
{
    (void)owner;
    (void)events;
    int descriptor = socket_accept(crowd.node_watch.descriptor);
    if (descriptor < 0)
        return;
    channel_close(&crowd.node);
    if (channel_open(&crowd.node, &crowd.channels, descriptor, node_event, NULL) < 0)
        die("no memory for the node's connection");
}

/* ---- the command and the reader ---- */

static void command_take(void *owner, const struct wire_header *header, struct bytes payload)
{
    struct wire_outcome outcome;
    (void)owner;
    if (header->type != WIRE_OUTCOME_FRAME || wire_outcome_read(&outcome, payload) < 0)
        return;
    crowd.outcomes++;
    crowd.outcome_ns = now_ns();
    if (outcome.code < 0) {
        crowd.bad_outcomes++;
        fprintf(stderr, "crowd_bench: %.*s\n", BYTES_PRINT(outcome.text));
    }
}

static void command_event(void *owner, struct channel *channel, int events)
{
    (void)owner;
    if (!take_frames(channel, events, command_take, NULL))
        channel_close(channel);
}

static void reader_take(void *owner, const struct wire_header *header, struct bytes payload)
{
    (void)owner;
    (void)payload;
    if (header->type == WIRE_HELLO_FRAME)
        PUT(&crowd.reader, 0, subscribe, .version = 0);
    else if (header->type == WIRE_SNAPSHOT_FRAME)
        crowd.rows = 0;
    else if (header->type == WIRE_SNAPSHOT_REPLICA_FRAME)
        crowd.rows++;
    if (header->type != WIRE_SNAPSHOT_END_FRAME)
        return;
    crowd.snapshot_rows = crowd.rows;
    crowd.snapshot_ns = now_ns();
}

static void reader_event(void *owner, struct channel *channel, int events)
{
    (void)owner;
    if (!take_frames(channel, events, reader_take, NULL))
        channel_close(channel);
}

static bool open_peer(struct channel *channel, enum wire_role role, const char *name,
                      void (*event)(void *owner, struct channel *channel, int events))
{
    int descriptor = socket_connect_unix(crowd.controller_path);
    if (descriptor < 0 || channel_open(channel, &crowd.channels, descriptor, event, NULL) < 0)
        return false;
    put_hello(channel, role, 0, name);
    return true;
}

/* Application `app`, all of version 1 but `changed`, which gets `version`. */
static void put_deploy(uint32_t app, uint32_t changed, uint64_t version)
{
    char name[CROWD_NAME_SIZE], prefix[CROWD_NAME_SIZE];
    struct text document;
    uint32_t count = crowd.deployments - app * APP_DEPLOYMENTS;
    count = count < APP_DEPLOYMENTS ? count : APP_DEPLOYMENTS;
    snprintf(name, sizeof name, "app-%u", app);
    snprintf(prefix, sizeof prefix, "/app-%u", app);
    text_init(&document, FRAME_MOST);
    crowd_target_write(&document, name, count, crowd.replicas, changed, version);
    struct wire_deploy frame = {.app = bytes_of_string(name),
                                .route_prefix = bytes_of_string(prefix),
                                .body = text_bytes(&document)};
    uint8_t *room = channel_put_room(&crowd.command, wire_deploy_size(&frame));
    ensure(room);
    channel_put_done(&crowd.command, wire_deploy_write(&frame, 0, ++crowd.versions, false, room));
    channel_set_flush(&crowd.channels); /* now, not behind the next turn */
    text_done(&document);
}

/* ---- the controller's process ---- */

static void start_controller(uint32_t start)
{
    char descriptor[16], count[16];
    snprintf(descriptor, sizeof descriptor, "%d", crowd.listener);
    snprintf(count, sizeof count, "%u", start);
    crowd.pid = fork();
    if (crowd.pid < 0)
        die("cannot fork");
    if (crowd.pid > 0)
        return;
    fcntl(crowd.listener, F_SETFD, 0);
    execl(crowd.controller, crowd.controller, "--instance", crowd.directory, "--node",
          crowd.node_path, "--listen-descriptor", descriptor, "--start", count, "--log-level", "30",
          (char *)NULL);
    _exit(127);
}

static double cpu_s(pid_t pid)
{
    char path[64], text[1024], *at;
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[size] = '\0';
    at = strrchr(text, ')');
    if (!at ||
        sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        die("the controller has ended");
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* ---- waiting ---- */

static void tick(void *owner)
{
    loop_timer_set(owner, loop_now_ns(crowd.loop) + 10000000);
}

static void await(bool (*over)(uint64_t wanted), uint64_t wanted, const char *what)
{
    int64_t limit = now_ns() + PATIENCE_S * SECOND;
    while (!over(wanted)) {
        loop_run_once(crowd.loop);
        if (now_ns() > limit) {
            fprintf(stderr, "crowd_bench: %u outcomes, %u starts, %u rows\n", crowd.outcomes,
                    crowd.starts, crowd.snapshot_rows);
            die(what);
        }
    }
}

static bool has_outcomes(uint64_t wanted)
{
    return crowd.outcomes >= wanted;
}

static bool has_starts(uint64_t wanted)
{
    return crowd.starts >= wanted;
}

static bool has_rows(uint64_t wanted)
{
    return crowd.snapshot_rows == wanted;
}

static bool is_past(uint64_t wanted)
{
    return (uint64_t)now_ns() >= wanted;
}

static bool has_peers(uint64_t wanted)
{
    (void)wanted;
    if (!channel_is_open(&crowd.command))
        open_peer(&crowd.command, WIRE_ROLE_COMMAND, "command", command_event);
    if (!channel_is_open(&crowd.reader))
        open_peer(&crowd.reader, WIRE_ROLE_HANDLE, "reader", reader_event);
    return channel_is_open(&crowd.command) && channel_is_open(&crowd.reader);
}

/* ---- what is measured ---- */

static int compare(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static double measure_deploy(void)
{
    uint32_t apps = (crowd.deployments + APP_DEPLOYMENTS - 1) / APP_DEPLOYMENTS;
    int64_t began = now_ns();
    for (uint32_t i = 0; i < apps; i++)
        put_deploy(i, UINT32_MAX, 0);
    await(has_outcomes, apps, "the deploys have no outcome");
    if (crowd.bad_outcomes)
        die("a deploy has failed");
    await(has_rows, (uint64_t)crowd.deployments * crowd.replicas, "no snapshot has every replica");
    return (double)(now_ns() - began) / 1e6;
}

/* Of a core, per cent. */
static double measure_rest(void)
{
    await(is_past, (uint64_t)(now_ns() + 2 * SECOND), "time");
    double before = cpu_s(crowd.pid);
    int64_t began = now_ns();
    await(is_past, (uint64_t)(now_ns() + REST_S * SECOND), "time");
    return (cpu_s(crowd.pid) - before) / ((double)(now_ns() - began) / 1e9) * 100;
}

/* From the command's frame to the first order that the node gets. */
static void measure_redeploys(double *ret_decided_ms, double *ret_done_ms)
{
    double decided[REDEPLOYS], done[REDEPLOYS];
    for (uint32_t i = 0; i < REDEPLOYS; i++) {
        uint32_t starts = crowd.starts, outcomes = crowd.outcomes;
        put_deploy(0, 7, 100 + i);
        int64_t began = now_ns(); /* the frame is in the controller's socket */
        await(has_starts, starts + 1, "a redeploy starts nothing");
        decided[i] = (double)(crowd.start_ns - began) / 1e6;
        await(has_outcomes, outcomes + 1, "a redeploy has no outcome");
        done[i] = (double)(crowd.outcome_ns - began) / 1e6;
        await(is_past, (uint64_t)(now_ns() + SECOND / 10), "time");
    }
    qsort(decided, REDEPLOYS, sizeof *decided, compare);
    qsort(done, REDEPLOYS, sizeof *done, compare);
    *ret_decided_ms = decided[REDEPLOYS / 2];
    *ret_done_ms = done[REDEPLOYS / 2];
}

/* From the new process to the first snapshot with every replica. */
static double measure_recovery(void)
{
    uint32_t starts = crowd.starts;
    kill(crowd.pid, SIGKILL);
    waitpid(crowd.pid, NULL, 0);
    channel_close(&crowd.command); /* what the dead one still said is not to be read */
    channel_close(&crowd.reader);
    crowd.snapshot_rows = 0;
    int64_t began = now_ns();
    start_controller(1);
    await(is_past, (uint64_t)(now_ns() + SECOND / 50), "time");
    await(has_peers, 0, "the new controller does not listen");
    await(has_rows, (uint64_t)crowd.deployments * crowd.replicas, "it does not know everybody");
    if (crowd.starts != starts)
        die("the new controller has started replicas");
    return (double)(crowd.snapshot_ns - began) / 1e6;
}

static void begin(void)
{
    static struct loop_timer timer;
    struct channel_config config = {.frame_limit = FRAME_MOST,
                                    .queue_limit = FRAME_MOST,
                                    .turn_limit = FRAME_MOST,
                                    .buffer_keep = 64};
    struct rlimit files;
    struct error error = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    snprintf(crowd.controller_path, sizeof crowd.controller_path, "%s/controller.sock",
             crowd.directory);
    snprintf(crowd.node_path, sizeof crowd.node_path, "%s/node.sock", crowd.directory);
    crowd.loop = loop_new();
    list_init(&crowd.members);
    map_init(&crowd.by_id, MEMBERS_MOST);
    crowd.node.descriptor = crowd.command.descriptor = crowd.reader.descriptor = -1;
    crowd.listener = socket_listen_unix(crowd.controller_path, BACKLOG, &error);
    int node = socket_listen_unix(crowd.node_path, BACKLOG, &error);
    if (!crowd.loop || channel_set_init(&crowd.channels, crowd.loop, &config) < 0 ||
        crowd.listener < 0 || node < 0 ||
        loop_watch_open(crowd.loop, &crowd.node_watch, node, LOOP_READ, node_ready, NULL) < 0)
        die(error.text[0] ? error.text : "the beginning");
    loop_timer_init(crowd.loop, &timer, tick, &timer);
    tick(&timer);
    start_controller(0);
    await(has_peers, 0, "the controller does not listen");
}

int main(int argument_count, char **arguments)
{
    double decided_ms, done_ms;
    if (argument_count < 3) {
        fprintf(stderr, "usage: crowd_bench CONTROLLER DIRECTORY [DEPLOYMENTS [REPLICAS]]\n");
        return 2;
    }
    crowd.controller = arguments[1];
    crowd.directory = arguments[2];
    crowd.deployments = argument_count > 3 ? (uint32_t)atoi(arguments[3]) : 1000;
    crowd.replicas = argument_count > 4 ? (uint32_t)atoi(arguments[4]) : 4;
    begin();
    double deploy_ms = measure_deploy();
    double rest = measure_rest();
    measure_redeploys(&decided_ms, &done_ms);
    double recovery_ms = measure_recovery();
    if (crowd.bad_outcomes)
        die("a deploy has failed");
    printf("{\"deployments\": %u, \"replicas\": %u, \"deploy_ms\": %.0f, \"rest_percent\": %.1f, "
           "\"decided_ms\": %.2f, \"redeploy_ms\": %.1f, \"recovery_ms\": %.0f}\n",
           crowd.deployments, crowd.deployments * crowd.replicas, deploy_ms, rest, decided_ms,
           done_ms, recovery_ms);
    kill(crowd.pid, SIGKILL);
    waitpid(crowd.pid, NULL, 0);
    return 0;
}
