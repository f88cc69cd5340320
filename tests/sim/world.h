/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: what lives on the simulated kernel, and what the files of the world know of each other.
 *
 *     world.c            one life: begin, traffic and faults, calm, rest, end
 *     world_plan.c       what chance decides before it begins: sizes, settings, applications
 *     world_node.c       the node's part: starts and reaps processes; the simulated engine
 *     world_store.c      the controller's store
 *     world_process.c    the proxies' and the controller's processes
 *     world_replica.c    a replica's process: the real taker and a runner
 *     world_user.c       user code: does with a request what its plan says
 *     world_models.c     models that a replica loads and unloads
 *     world_body.c       what bodies look like
 *     world_command.c    deploys and deletes, as a command would
 *     world_client.c     clients: what they send, how fast, and when they leave
 *     world_answer.c     clients: what comes back
 *     world_judge.c      which answers a request may get
 *     world_fault.c      faults
 *     world_tap.c        reads along on local connections
 *     world_check.c      invariants, after every step and at rest
 *     trial.c            one seed in a process of its own
 *     world_main.c       the program
 *
 * The roles are the real ones; only user code, clients, the node and the store are the world's own.
 * A request is known to all of them by its number, which travels in its query: so user code knows
 * its plan, and the client knows what may come back.
 */
#ifndef MANTA_SIM_WORLD_H
#define MANTA_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "conduct.h"
#include "dispatch.h"
#include "http1.h"
#include "io_sim.h"
#include "loop.h"
#include "proxy.h"
#include "taker.h"

enum {
    WORLD_PROXIES = 2,
    WORLD_APPS = 5,   /* one deployment each; the last is reached by calls alone */
    WORLD_MODELS = 6, /* that requests may name */
    WORLD_PORT = 8000,
    WORLD_BATCH = 16,        /* most requests of one call of user code */
    WORLD_PIPELINE = 8,      /* most requests of a client that are out */
    WORLD_ANSWER_KEY = 7919, /* added to the number of a request: the key of its answer's body */
};
#define WORLD_CONTROLLER_PATH "/sim/controller"
static const int64_t WORLD_MS = 1000000;
static const int64_t WORLD_SECOND = 1000000000;

struct world;

/* ---- faults ---- */

enum world_fault {
#define FAULT(name, sentence) FAULT_##name,
#include "faults.def"
#undef FAULT
    FAULT_COUNT
};

/* ---- what is deployed ---- */

struct world_app {
    const char *name, *route; /* route empty: none */
    uint64_t version;
    uint32_t replicas, max_ongoing, slots; /* slots: calls of user code at a time */
    uint32_t config;                       /* user_config: {"n": config} */
    uint64_t configuration;                /* of a replica, with what its document says */
    uint32_t rank, world_size;             /* the same; rank plus one */
    int64_t max_queued, grace_ns;
    bool batched, streams_body;
    bool calls; /* its user code may call the last application */
    uint32_t batch_size, batch_concurrency;
    int64_t batch_wait_ns;
    uint32_t models;    /* most that a replica holds; 0: it knows nothing of models */
    bool wanted;        /* deployed, as far as the command is concerned */
    bool queue_changed; /* max_queued was lowered at some time */
    /* Last moment when some proxy had no route to it, or its snapshot said unavailable. */
    int64_t missing_ns;
};

/* ---- requests ---- */

enum world_kind {
    WORLD_NORMAL,
    WORLD_MISSING,   /* a path that nobody has */
    WORLD_HEALTH,    /* /-/healthz */
    WORLD_ROUTES,    /* /-/routes */
    WORLD_MALFORMED, /* what must be refused */
    WORLD_NESTED,    /* a call that user code made */
};
enum world_plan {
    PLAN_WHOLE,  /* one answer */
    PLAN_STREAM, /* an answer in parts */
    PLAN_FAIL,   /* user code fails */
    PLAN_BREAK,  /* the answer in parts breaks off */
    PLAN_SILENT, /* no answer while there are faults */
};
enum world_crash { CRASH_NOT, CRASH_WHEN_TAKEN, CRASH_BEFORE_ANSWER, CRASH_IN_ANSWER };

struct world_request {
    uint32_t number;
    enum world_kind kind;
    uint32_t app;
    uint32_t nested; /* number of the call that user code makes for it; 0: none */
    uint32_t client; /* 0: user code made it */
    uint32_t model;  /* that it names; 0: none */
    bool head_only;  /* HEAD */
    bool old;        /* HTTP/1.0 */
    uint64_t body_size, answer_size;
    uint16_t status; /* of a good answer */
    enum world_plan plan;
    enum world_crash crash;
    uint32_t parts; /* of PLAN_STREAM and PLAN_BREAK */
    bool heeds_cancel;
    bool answers_early;           /* before its body is whole, where bodies are streamed */
    int64_t service_ns, pause_ns; /* pause: between parts */
    /* What became of it. */
    int64_t made_ns;
    uint32_t taken_count; /* how often user code saw it */
    uint64_t taken_by;    /* replica */
    bool replica_ended;   /* that one ended before the answer was out */
    bool nested_failed, model_failed;
    bool over; /* the client has its answer, or has given up */
};

/* ---- processes ---- */

struct world_call {        /* user code that runs: for one request, or for a batch */
    struct list_link link; /* on replica->calls */
    struct world_replica *replica;
    struct taker_request *requests[WORLD_BATCH];
    struct world_request *known[WORLD_BATCH];
    uint32_t count;
    bool batched;
    struct loop_timer timer;
    struct dispatch_call *nested;
    uint32_t parts_left;
    uint64_t written, read;          /* bytes of the answer, of a streamed body */
    bool begun, waits_for_room, due; /* due: the service time is over */
    bool waits_for_model, holds_model;
};

enum world_model_state { WORLD_MODEL_NONE, WORLD_MODEL_LOADING, WORLD_MODEL_LOADED };
struct world_model {
    struct world_replica *replica;
    uint32_t number; /* "m3" */
    enum world_model_state state;
    uint32_t users;
    uint64_t used; /* replica->models_used of its last use */
    struct loop_timer timer;
};

struct world_replica {
    struct list_link link; /* on world->replicas */
    struct world *world;
    struct sim_process process;
    uint64_t id;
    struct world_app options; /* as it was started with */
    uint32_t app;
    struct channel_set channels;
    struct taker *taker;       /* null: not constructed yet */
    struct dispatch *dispatch; /* null: its user code calls nobody */
    struct list calls;
    uint32_t running; /* calls of user code */
    uint32_t taken;   /* requests in them */
    uint32_t allowed; /* R2: most that may be accepted now */
    bool woken;       /* the taker has something */
    bool fails_to_start, reported_failure;
    bool deaf;       /* ignores that it is to end */
    bool hangs;      /* its constructor never returns */
    bool is_serving; /* it has said that it is ready */
    bool sick;       /* says so again and again */
    /* What user code knows: options.config, rank and world_size, brought up to date by these. */
    struct loop_timer configure;
    struct world_app told;
    struct sim_event health;
    int64_t report_until_ns;
    struct loop_turn turn;
    struct loop_timer timer; /* the constructor */
    struct sim_event kill;
    struct world_model models[WORLD_MODELS + 1]; /* by number */
    uint64_t models_used;
    bool freed_model; /* a call has ended, for which another may wait */
    struct trace trace;
    char path[64];
    int exit_code, signal_number;
};

struct world_proxy {
    struct world *world;
    struct sim_process process;
    bool living;
    struct proxy *proxy;
    struct sim_event restart;
    struct trace trace;
    uint32_t number;
};

struct world_controller {
    struct sim_process process;
    bool living;
    struct conduct *conduct;
    struct sim_event restart;
    uint32_t lives;
};

/* ---- clients ---- */

struct world_client {
    struct list_link link; /* on world->clients */
    struct world *world;
    uint32_t number;
    /* How it behaves. */
    uint32_t wanted, depth;         /* requests in all, and out at a time */
    int64_t think_ns, patience_ns;  /* patience 0: without end */
    size_t write_piece, read_piece; /* 0: all at once */
    int64_t piece_pause_ns;
    uint32_t leaves_one_in, half_closes_one_in, malformed_one_in; /* 0: never */
    /* What it does. */
    uint32_t made; /* requests */
    bool done;
    struct loop_timer timer;
    int64_t next_request_ns;
    /* The connection. */
    int descriptor; /* -1: none */
    struct loop_watch watch;
    int64_t connected_ns, next_write_ns, next_read_ns, leave_ns /* 0: it stays */, idle_ns;
    bool blocked; /* the kernel took no more */
    struct text out, in;
    size_t out_start;
    struct world_request *sent[WORLD_PIPELINE]; /* oldest first */
    uint32_t sent_count;
    /* The body of the newest request, written piece by piece. */
    uint32_t body_number;
    uint64_t body_at, body_left;
    bool body_chunked, half_closes;
    int64_t continue_ns; /* until when it waits for 100 Continue; 0: it does not */
    /* The answer that is coming. */
    struct http1_answer_head head;
    struct http1_body body;
    bool in_answer;
    uint64_t body_seen;
    /* Why the connection may end without answers; null: it may not. */
    const char *excuse;
    bool ends; /* nothing more is asked over this connection */
};

/* ---- the world ---- */

struct world {
    uint64_t seed;
    struct rng rng; /* of plans; the kernel has its own */
    struct story story;
    struct settings settings;
    bool fault_on[FAULT_COUNT];
    int64_t fault_pause_ns, faults_end_ns;
    bool busy;       /* many clients that ask much: limits, batches and windows fill */
    bool calm;       /* no more faults */
    int64_t calm_ns; /* since when */
    bool ending;
    struct world_app apps[WORLD_APPS];
    uint32_t app_count, proxy_count;

    struct world_request **requests; /* by number; [0] is null */
    uint32_t request_count, request_capacity;

    struct sim_process node, clients_process, command_process;
    int listener, controller_listener; /* the node's descriptors */
    struct world_proxy proxies[WORLD_PROXIES];
    struct world_controller controller;
    struct list replicas;        /* struct world_replica: processes that run */
    struct list starts;          /* struct world_start: asked for, not there yet */
    struct world_engine *engine; /* of the living controller; null: none */
    struct world_store *store;
    struct world_command *command;
    struct world_tap *tap;
    struct world_check *check;
    struct list clients; /* struct world_client */
    uint32_t client_count, clients_done;
    uint32_t answers_good, answers_other, answers_none; /* of clients, for the last line */
    struct sim_event fault_event, calm_event;
    int64_t disk_full_until_ns, node_away_until_ns;
    struct sim_event list_event; /* a list that the next node answers */
    int64_t descriptors_ns;      /* last moment when a proxy was short of descriptors */
    int64_t replica_ended_ns;    /* last moment when a replica's process ended */
};

/* Prints what is wrong, with the simulated time, and ends the process. */
_Noreturn void world_fail(const struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* One whole life; the story is the caller's to compare and to free. */
void world_run(uint64_t seed, FILE *out, struct story *ret_story);

/* world_plan.c */
void world_plan(struct world *world);
void world_plan_client(struct world *world, struct world_client *client);
struct world_request *world_plan_request(struct world *world, uint32_t client, uint32_t app);
struct world_request *world_request_at(struct world *world, uint64_t number); /* or null */
int64_t world_between(struct world *world, int64_t least, int64_t most);
bool world_one_in(struct world *world, uint32_t count);
/* Mostly small, sometimes up to `most`. */
uint64_t world_size(struct world *world, uint64_t most);

/* world_node.c */
void world_node_begin(struct world *world);
int64_t world_node_ns(const struct world *world); /* when there is a node: now, or later */
void world_node_end(struct world *world);
void world_node_reap(struct world *world, struct sim_process *process); /* after its turn */
struct engine *world_engine_new(struct loop *loop, struct channel_set *channels, const char *node,
                                void (*wake)(void *owner), void *owner, struct error *reterr);
void world_node_gone(struct world *world, uint64_t replica, int exit_code, int signal_number);
struct world_replica *world_replica_find(struct world *world, uint64_t id);
extern struct world *world_now; /* the one that lives: the engine and the store are found by it */

/* world_process.c */
void world_proxy_start(struct world_proxy *proxy);
void world_proxy_kill(struct world_proxy *proxy, int64_t back_after_ns); /* negative: for good */
void world_proxy_terminate(struct world_proxy *proxy); /* SIGTERM: it drains and comes back */
void world_controller_start(struct world *world);
void world_controller_kill(struct world *world, int64_t back_after_ns);

/* world_replica.c */
struct world_replica *world_replica_start(struct world *world, uint64_t id, uint32_t app,
                                          const struct world_app *options);
void world_replica_end(struct world_replica *replica);
uint32_t world_config_number(struct bytes user_config);  /* the n of {"n": n} */
void world_replica_crash(struct world_replica *replica); /* outside of its turn */
void world_replica_say_health(struct world_replica *replica,
                              bool healthy); /* outside of its turn */
void world_replica_call_over(struct world_call *call);

/* world_user.c */
void world_user_take(struct world_replica *replica, struct taker_request **requests, uint32_t count,
                     bool batched);
void world_user_event(struct world_replica *replica, const struct taker_event *event);
void world_user_nested(struct world_replica *replica, const struct dispatch_event *event);
void world_user_free(struct world_call *call); /* its replica ends */

/* Whoever waited for a model may have it now. */
void world_user_go_on(struct world_replica *replica);

/* world_models.c */
void world_models_begin(struct world_replica *replica);
void world_models_end(struct world_replica *replica);
void world_models_tell(struct world_replica *replica);
/* The call has the model that its request names, or needs none; false: it waits. */
bool world_models_take(struct world_call *call);
void world_models_give_back(struct world_call *call);
/* At rest: the sender knows which models the replica holds. */
bool world_models_believed(const struct world_replica *replica, const struct router *router);

/* world_body.c */
void world_body_fill(uint32_t key, uint64_t at, uint8_t *to, size_t size);
bool world_body_equal(uint32_t key, uint64_t at, struct bytes bytes);

/* world_command.c */
void world_command_begin(struct world *world);
void world_command_end(struct world *world);
/* As apps[app] says, or deleted; in a world of whole targets with all others of its target. */
void world_command_deploy(struct world *world, uint32_t app);
void world_command_shut_down(struct world *world);
bool world_command_idle(const struct world *world); /* every operation has its outcome */

/* world_client.c */
void world_clients_begin(struct world *world);
void world_clients_end(struct world *world);
void world_client_over(struct world_client *client, const char *how); /* the oldest request ended */
void world_client_excuse(struct world_client *client, const char *excuse);
/* Connections that this process has may end any time. */
void world_clients_lose(struct world *world, const struct sim_process *server);

/* world_answer.c */
void world_answer_take(struct world_client *client);   /* what is in client->in */
bool world_answer_at_end(struct world_client *client); /* does the end of the connection end it? */

/* world_judge.c: null, or what is wrong. */
const char *world_judge_status(const struct world_client *client,
                               const struct world_request *request, int status);
/* The connection ended before the answer was whole. */
const char *world_judge_loss(const struct world_client *client,
                             const struct world_request *request);
const char *world_judge_nested(const struct world *world, const struct world_request *request,
                               int code);

/* world_fault.c */
void world_faults_begin(struct world *world);
void world_faults_end(struct world *world);
const char *world_fault_name(int fault);
const char *world_fault_sentence(int fault);

/* world_tap.c */
struct world_tap *world_tap_new(struct world *world);
struct world_tap *world_tap_free(struct world_tap *tap);
void world_tap_bytes(void *owner, const void *stream, bool from_connector, struct bytes bytes);

/* world_check.c */
struct world_check *world_check_new(struct world *world);
struct world_check *world_check_free(struct world_check *check);
void world_check_turn(struct world *world, struct sim_process *process);
/* R2: how many requests may be accepted there at this moment. */
uint32_t world_check_limit(const struct world_replica *replica);
/* Notes which applications, from `first_app` on, this sender could not reach lately. */
void world_check_missing(struct world *world, const struct dispatch *dispatch,
                         const struct sim_process *process, uint32_t first_app);
/* A reader was told which replicas a snapshot holds, and the ids of the applications' deployments
 * (0 where there is none that is available). */
void world_check_snapshot(struct world *world, uint64_t version, const uint64_t apps[WORLD_APPS],
                          const uint64_t *replicas, uint32_t count);
/* Null when the world is at rest (M1, C5), else what is not. */
const char *world_check_rest(struct world *world);

/* world_store.c */
struct world_store *world_store_new(void);
struct world_store *world_store_free(struct world_store *store);
/* Whether the application's target with this version is in it. */
bool world_store_has(const struct world_store *store, const char *app, uint64_t version);

#endif
