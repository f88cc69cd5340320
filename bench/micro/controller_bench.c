/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_bench: what a controller costs with 1,000 deployments and 4,000 replicas.
 *
 *     controller_bench [DEPLOYMENTS [REPLICAS OF EACH [SECONDS OF REST]]]
 *
 * The controller is the real one with its store and sockets, in a process of its own, whose CPU
 * time is read from its clock.  Its engine starts nothing: it writes down what it is told, and this
 * process plays the replicas, each with a connection that says ready and answers pings, and one
 * reader of snapshots.
 *
 *     start      from the first deploy until the last has its outcome
 *     rest       CPU of the controller while nothing happens but heartbeats, percent of a core
 *     told       one deployment's user_config changes: from the deploy to the RECONFIGURE at its
 * replica redeploy   another version: from the deploy to the start of its first replica recovery
 * the controller is killed, another one begins: until the reader has every replica again
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "conduct.h"
#include "socket.h"
#include "target.h"

enum {
    REPLICA_LIMIT = 100000,
    TRIES = 21,
    REPLICA_ROOM = 4096, /* bytes of the largest frame that a replica gets here */
    READER_ROOM = 64 << 20,
    PATIENCE_S = 120
};

/* ---- what the engine was told ---- */

struct started {
    uint64_t id, version;
    int64_t configuration;
    uint32_t rank, world_size;
    char name[32]; /* of the application and of its deployment */
};
struct shared {
    _Atomic uint32_t count;
    struct started at[REPLICA_LIMIT];
};
static struct shared *shared; /* written by the controller's process */

static struct {
    struct engine engine;
    bool listing;
    uint32_t listed, gone_count;
    uint64_t gone[REPLICA_LIMIT];
} bench_engine;

static int engine_start(struct engine *engine, const struct engine_start *start,
                        struct error *reterr)
{
    struct target_replica replica;
    uint32_t count = shared->count;
    (void)engine;
    if (count == REPLICA_LIMIT || target_read_replica(start->body, &replica, reterr) < 0)
        return error_set(reterr, ERROR_LIMIT, "no more replicas");
    struct started *started = &shared->at[count];
    *started = (struct started){.id = start->replica,
                                .version = start->version,
                                .configuration = replica.configuration,
                                .rank = (uint32_t)replica.rank,
                                .world_size = (uint32_t)replica.world_size};
    snprintf(started->name, sizeof started->name, "%.*s", BYTES_PRINT(start->app));
    shared->count = count + 1;
    return 0;
}

static void engine_stop(struct engine *engine, uint64_t replica, bool kill)
{
    (void)engine, (void)kill;
    if (bench_engine.gone_count < REPLICA_LIMIT)
        bench_engine.gone[bench_engine.gone_count++] = replica;
}

static void engine_list(struct engine *engine)
{
    (void)engine;
    bench_engine.listing = true;
}

static bool engine_end(struct engine *engine)
{
    (void)engine;
    return true;
}

/* All that was started runs, but what was stopped since. */
static bool engine_next(struct engine *engine, struct engine_event *ret_event)
{
    (void)engine;
    if (bench_engine.gone_count > 0) {
        *ret_event = (struct engine_event){.type = ENGINE_GONE,
                                           .replica = bench_engine.gone[--bench_engine.gone_count]};
        return true;
    }
    if (!bench_engine.listing)
        return false;
    if (bench_engine.listed < shared->count) {
        const struct started *started = &shared->at[bench_engine.listed++];
        *ret_event = (struct engine_event){.type = ENGINE_HERE,
                                           .replica = started->id,
                                           .app = bytes_of_string(started->name),
                                           .deployment = bytes_of_string(started->name)};
        return true;
    }
    bench_engine.listing = false;
    *ret_event = (struct engine_event){.type = ENGINE_LISTED};
    return true;
}

static struct engine *engine_free(struct engine *engine)
{
    (void)engine;
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
    bench_engine.engine.operations = &operations;
    return &bench_engine.engine;
}

/* ---- the controller's process ---- */

static char directory[64], path[96];
static int listener;

static void die(const char *what)
{
    fprintf(stderr, "controller_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void be_controller(uint32_t start)
{
    static struct conduct conduct;
    struct error error = {0};
    struct conduct_options options = {.directory = directory,
                                      .start = start,
                                      .node = "",
                                      .listen_descriptor = listener,
                                      .bond.descriptor = -1,
                                      .engine = engine_new};
    settings_init(&conduct.settings);
    if (conduct_open(&conduct, &options, 1, &error) < 0) {
        fprintf(stderr, "controller_bench: %s\n", error.text);
        _exit(1);
    }
    loop_run(conduct.loop);
    _exit(0);
}

static pid_t begin_controller(uint32_t start)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        be_controller(start);
    return pid;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu_s(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
        die("the controller's clock");
    return (double)used.tv_sec + (double)used.tv_nsec * 1e-9;
}

/* ---- connections ---- */

struct line {
    int descriptor;
    enum wire_role role;
    const struct started *started; /* of a replica */
    uint8_t *in;
    size_t size, room;
};
static struct line *lines; /* command, reader, then replicas */
static uint32_t line_count;
static int poller;
static uint32_t outcomes, failures, rows,
    rows_whole;          /* of the snapshot that comes; of the last whole one */
static pid_t controller; /* its process */
static double told_s, told_cpu_s;
static bool cut; /* the controller has gone */

enum { COMMAND, READER, FIRST_REPLICA };

static void put(struct line *line, const uint8_t *at, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(line->descriptor, at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return; /* it has gone: the reader of this end hears of it */
        at += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
}

#define SAY(line, stream, name, ...)                                                               \
    do {                                                                                           \
        struct wire_##name frame_ = {__VA_ARGS__};                                                 \
        uint8_t *at_ = malloc(wire_##name##_size(&frame_));                                        \
        put(line, at_, wire_##name##_write(&frame_, 0, stream, false, at_));                       \
        free(at_);                                                                                 \
    } while (0)

static void say_hello(struct line *line, uint64_t id)
{
    struct wire_hello hello;
    uint8_t at[256];
    wire_hello_fill(&hello, line->role, id, BYTES("bench"));
    put(line, at, wire_hello_write(&hello, 0, 0, false, at));
}

static void say_ready(struct line *line)
{
    const struct started *started = line->started;
    SAY(line, 0, replica_ready, .replica = started->id, .address = BYTES("/run/replica.sock"),
        .version = started->version, .app = bytes_of_string(started->name),
        .deployment = bytes_of_string(started->name),
        .configuration = (uint64_t)started->configuration, .rank = started->rank + 1,
        .world_size = started->world_size);
}

static void open_line(struct line *line)
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.u32 = (uint32_t)(line - lines)};
    line->descriptor = socket_connect_unix(path);
    if (line->descriptor < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, line->descriptor, &wanted) < 0)
        die("connecting to the controller");
    line->size = 0;
    say_hello(line, line->started ? line->started->id : 0);
    if (line->started)
        say_ready(line);
    if (line->role == WIRE_ROLE_HANDLE)
        SAY(line, 0, subscribe, .version = 0);
}

static void add_line(enum wire_role role, const struct started *started, size_t room)
{
    struct line *line = &lines[line_count++];
    *line = (struct line){.role = role, .started = started, .room = room, .in = malloc(room)};
    open_line(line);
}

static void on_frame(struct line *line, const struct wire_header *header, struct bytes payload)
{
    struct wire_ping ping;
    struct wire_outcome outcome;
    switch (header->type) {
    case WIRE_PING_FRAME:
        if (wire_ping_read(&ping, payload) == 0)
            SAY(line, 0, pong, .token = ping.token);
        break;
    case WIRE_RECONFIGURE_FRAME:
        if (told_s <= 0) {
            told_s = now_s();
            told_cpu_s = cpu_s(controller);
        }
        SAY(line, header->stream, outcome, .code = 0);
        break;
    case WIRE_OUTCOME_FRAME:
        outcomes++;
        failures += wire_outcome_read(&outcome, payload) < 0 || outcome.code < 0;
        break;
    case WIRE_SNAPSHOT_FRAME:
        rows = 0;
        break;
    case WIRE_SNAPSHOT_REPLICA_FRAME:
        rows++;
        break;
    case WIRE_SNAPSHOT_END_FRAME:
        rows_whole = rows;
        break;
    default:
        break;
    }
}

static void read_line(struct line *line)
{
    ssize_t got = recv(line->descriptor, line->in + line->size, line->room - line->size, 0);
    size_t used = 0;
    if (got <= 0) {
        cut = cut || got == 0 || errno != EAGAIN;
        if (got == 0 || errno != EAGAIN)
            epoll_ctl(poller, EPOLL_CTL_DEL, line->descriptor, NULL);
        return;
    }
    line->size += (size_t)got;
    while (line->size - used >= WIRE_HEADER_SIZE) {
        struct wire_header header;
        wire_header_read(&header, line->in + used);
        if (line->size - used < WIRE_HEADER_SIZE + header.size)
            break;
        on_frame(line, &header, bytes_of(line->in + used + WIRE_HEADER_SIZE, header.size));
        used += WIRE_HEADER_SIZE + header.size;
    }
    memmove(line->in, line->in + used, line->size - used);
    line->size -= used;
}

/* What has come is read; what was started meanwhile is connected. */
static void pump(int timeout_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, timeout_ms);
    for (int i = 0; i < count; i++)
        read_line(&lines[events[i].data.u32]);
    while (line_count - FIRST_REPLICA < shared->count && line_count > READER)
        add_line(WIRE_ROLE_REPLICA, &shared->at[line_count - FIRST_REPLICA], REPLICA_ROOM);
}

#define PUMP_UNTIL(condition, what)                                                                \
    do {                                                                                           \
        double due_ = now_s() + PATIENCE_S;                                                        \
        while (!(condition)) {                                                                     \
            pump(1);                                                                               \
            if (now_s() > due_) {                                                                  \
                fprintf(stderr, "controller_bench: not within %d s: %s\n", PATIENCE_S, what);      \
                exit(1);                                                                           \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* ---- what is measured ---- */

static void deploy(uint32_t number, uint32_t replicas, uint64_t version, const char *user_config)
{
    char name[32], route[40];
    struct text document, whole;
    snprintf(name, sizeof name, "app%u", number);
    snprintf(route, sizeof route, "/%s", name);
    struct target_replica replica = {.app = bytes_of_string(name),
                                     .deployment = bytes_of_string(name),
                                     .args = BYTES("\x90"),
                                     .user_config = bytes_of_string(user_config),
                                     .threads = 1,
                                     .max_ongoing_requests = 5,
                                     .max_batch_size = 1,
                                     .max_concurrent_batches = 1,
                                     .health_check_period_us = 10000000,
                                     .health_check_timeout_us = 30000000};
    text_init(&document, 1 << 20);
    target_write_replica(&document, &replica);
    struct target_deployment row = {.name = bytes_of_string(name),
                                    .runner = BYTES("c"),
                                    .replica = text_bytes(&document),
                                    .version = version,
                                    .num_replicas = replicas,
                                    .max_ongoing_requests = 5,
                                    .max_queued_requests = -1,
                                    TARGET_ROLLOUT_DEFAULTS,
                                    .health_check_period_us = 10000000,
                                    .health_check_timeout_us = 30000000};
    text_init(&whole, 1 << 20);
    target_write_app(&whole, row.name, &row, 1);
    SAY(&lines[COMMAND], number + 1, deploy, .app = bytes_of_string(name),
        .route_prefix = bytes_of_string(route), .body = text_bytes(&whole));
    text_done(&whole);
    text_done(&document);
}

static void start_all(uint32_t deployments, uint32_t replicas)
{
    double begun = now_s();
    for (uint32_t i = 0; i < deployments; i++) {
        deploy(i, replicas, 1, "0");
        pump(0);
    }
    PUMP_UNTIL(outcomes == deployments, "every deployment is healthy");
    PUMP_UNTIL(rows_whole == deployments * replicas, "the reader has every replica");
    printf("start      %8.2f s   %u deployments, %u replicas\n", now_s() - begun, deployments,
           deployments * replicas);
}

static void rest(double seconds)
{
    for (double end = now_s() + 1; now_s() < end;)
        pump(10);
    double begun = now_s(), cpu = cpu_s(controller);
    while (now_s() < begun + seconds)
        pump(10);
    printf("rest       %8.2f %%   of a core, over %.0f s\n",
           100 * (cpu_s(controller) - cpu) / (now_s() - begun), seconds);
}

/* What follows an outcome (drains, snapshots) is not a part of the next one. */
static void rest_a_moment(void)
{
    for (double end = now_s() + 0.1; now_s() < end;)
        pump(1);
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static void print_times(const char *what, double *times, double *cpus, const char *words)
{
    qsort(times, TRIES, sizeof *times, compare);
    qsort(cpus, TRIES, sizeof *cpus, compare);
    printf("%-10s %8.2f ms  median, %.2f at most; CPU %.2f, %.2f at most: %s\n", what,
           times[TRIES / 2] * 1e3, times[TRIES - 1] * 1e3, cpus[TRIES / 2] * 1e3,
           cpus[TRIES - 1] * 1e3, words);
}

static void tell_one(uint32_t number, uint32_t replicas)
{
    double times[TRIES], cpus[TRIES];
    for (int i = 0; i < TRIES; i++) {
        char config[16];
        uint32_t before = outcomes;
        snprintf(config, sizeof config, "%d", i + 1);
        told_s = 0;
        double begun = now_s(), cpu = cpu_s(controller);
        deploy(number, replicas, 1, config);
        PUMP_UNTIL(outcomes > before, "a user_config is in force");
        times[i] = told_s - begun;
        cpus[i] = told_cpu_s - cpu;
        rest_a_moment();
    }
    print_times("told", times, cpus, "a user_config at its first replica");
}

static void redeploy_one(uint32_t number, uint32_t replicas)
{
    double times[TRIES], cpus[TRIES];
    for (int i = 0; i < TRIES; i++) {
        uint32_t before = outcomes, count = shared->count;
        double begun = now_s(), cpu = cpu_s(controller);
        deploy(number, replicas, 2 + (uint64_t)i, "0");
        while (shared->count == count && now_s() < begun + PATIENCE_S)
            sched_yield();
        times[i] = now_s() - begun;
        cpus[i] = cpu_s(controller) - cpu;
        PUMP_UNTIL(outcomes > before, "another version runs");
        rest_a_moment();
    }
    print_times("redeploy", times, cpus, "the first replica of another version is started");
}

static void recover(uint32_t replicas)
{
    kill(controller, SIGKILL);
    waitpid(controller, NULL, 0);
    PUMP_UNTIL(cut, "the controller is gone");
    for (uint32_t i = 0; i < line_count; i++)
        close(lines[i].descriptor);
    rows_whole = 0;
    double begun = now_s();
    controller = begin_controller(1);
    for (uint32_t i = 0; i < line_count; i++) {
        open_line(&lines[i]);
        if (i % 64 == 0)
            pump(0);
    }
    PUMP_UNTIL(rows_whole == replicas, "the reader has every replica again");
    printf("recovery   %8.2f s   CPU %.2f s\n", now_s() - begun, cpu_s(controller));
}

int main(int argc, char **argv)
{
    uint32_t deployments = argc > 1 ? (uint32_t)atoi(argv[1]) : 1000;
    uint32_t replicas = argc > 2 ? (uint32_t)atoi(argv[2]) : 4;
    double seconds = argc > 3 ? atof(argv[3]) : 10;
    struct error error = {0};
    char command[96];
    if (deployments < 1 || replicas < 1 ||
        (uint64_t)deployments * replicas > REPLICA_LIMIT - 2 * TRIES * replicas)
        return fprintf(stderr, "controller_bench: so many cannot be measured\n"), 2;
    child_raise_nofile();
    signal(SIGPIPE, SIG_IGN);
    snprintf(directory, sizeof directory, "/tmp/manta-bench-XXXXXX");
    if (!mkdtemp(directory))
        die("a directory");
    snprintf(path, sizeof path, "%s/controller.sock", directory);
    listener = socket_listen_unix(path, 8192, &error);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    lines = calloc(REPLICA_LIMIT + FIRST_REPLICA, sizeof *lines);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || shared == MAP_FAILED || !lines || poller < 0)
        die("a place");
    controller = begin_controller(0);
    add_line(WIRE_ROLE_COMMAND, NULL, READER_ROOM);
    add_line(WIRE_ROLE_HANDLE, NULL, READER_ROOM);
    start_all(deployments, replicas);
    rest(seconds);
    tell_one(deployments / 2, replicas);
    recover(deployments * replicas);
    redeploy_one(deployments / 2, replicas);
    printf("failures   %8u\n", failures);
    kill(controller, SIGKILL);
    waitpid(controller, NULL, 0);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command) == 0 && failures == 0 ? 0 : 1;
}
