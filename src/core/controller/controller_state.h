/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_state: the facts that the controller's mind holds, for the files of this folder only.
 *
 *     controller
 *      +-- applications (by id, by name) ---- waits: who waits for the target in force
 *      |    +-- stores: targets under way to the store, oldest first ---- waits
 *      |    +-- deployments: wanted ones on the list of their status, leaving ones apart
 *      |         +-- replicas: on the list of their state
 *      +-- strays: replicas found after a restart that no target names (yet)
 *      +-- dirty lists: what the facts of this step touched
 *      +-- deadlines: the nearest times, one per replica
 *
 * A step updates facts (controller_event.c, controller_store.c), which mark deployments and
 * applications dirty; then each dirty one is reconciled once (controller_reconcile.c,
 * controller_app.c); then the step is closed (controller.c).  Memory of what dies in a step is
 * freed at the beginning of the next one, because effects hold slices of it.
 */
#ifndef MANTA_CORE_CONTROLLER_STATE_H
#define MANTA_CORE_CONTROLLER_STATE_H

#include "controller.h"
#include "controller_index.h"
#include "error.h"
#include "heap.h"
#include "list.h"
#include "map.h"
#include "rng.h"

enum {
    CONTROLLER_MESSAGE_SIZE = 480,  /* of a status, an outcome, a progress line; as in the effect */
    CONTROLLER_TEXT_SIZE = 320,     /* what is kept of the text that came with a failure */
    CONTROLLER_NAME_LIMIT = 255,    /* bytes of an application's or a deployment's name */
    CONTROLLER_ROUTE_LIMIT = 1024,  /* bytes of a route prefix */
    CONTROLLER_STORE_LIMIT = 16,    /* targets of one application under way to the store at once */
    CONTROLLER_WAIT_LIMIT = 4096,   /* operations that somebody waits for */
    CONTROLLER_HEALTH_FAILURES = 3, /* checks in a row that end a replica (Ray Serve) */
    CONTROLLER_RETRY_LIMIT = 20, /* failed starts at most, whatever the replica count (Ray Serve) */
    CONTROLLER_NO_RANK = UINT32_MAX >> 1,
};

struct controller_app;
struct controller_deployment;

/* ---- what is wanted ---- */

/* A target, copied whole into one allocation; counted, because goals outlive the target they came
 * with. */
struct controller_plan {
    uint32_t references;
    bool stored;                         /* C1: durable, may be acted upon */
    struct controller_app_target target; /* its slices and rows lie behind */
};
/* What one deployment is steered to. */
struct controller_goal {
    struct controller_plan *plan; /* holds a reference; null: no replica is wanted */
    const struct controller_deployment_target *target; /* inside the plan */
    bool proven; /* a replica of its version has run with its configuration */
};

/* Somebody waits for the end of an operation that may concern several applications. */
struct controller_operation {
    enum controller_event_type type; /* DEPLOY or DELETE */
    uint64_t token;
    uint32_t waits; /* applications that have not ended it yet */
    int code;       /* the first that was not 0 */
    char message[CONTROLLER_MESSAGE_SIZE];
};
/* One application's share of an operation: on the list of the store entry, then of the application.
 */
struct controller_wait {
    struct list_link link;
    struct controller_operation *operation;
};

/* What reaches the store together, or not at all. */
struct controller_transaction {
    uint64_t token;
    struct list stores; /* struct controller_store, in the order of their effects */
    bool answered;      /* STORED came; those that are left wait for a newer one's fate */
    bool held;          /* is being gone through */
};
/* A target, or a deletion, that is under way to the store. */
struct controller_store {
    struct list_link link;             /* on app->stores */
    struct list_link transaction_link; /* on transaction->stores */
    struct controller_transaction *transaction;
    struct controller_app *app;
    struct controller_plan *plan;    /* null: deletion */
    bool done;                       /* stored, but a newer one is still under way */
    uint64_t new_deployments,
        new_replicas; /* what it adds to what there was when it was accepted */
    struct list waits;
};

/* ---- what is ---- */

/* Replicas of one owner: a state is the list you are on. */
struct controller_replicas {
    struct list in[REPLICA_STATE_COUNT];
};

struct controller_replica {
    struct list_link state_link; /* on owner's replicas.in[state] */
    struct list_link found_link; /* on controller->found until it proves itself or is stopped */
    struct replica_id id;
    struct controller_deployment *deployment; /* null: a stray */
    enum replica_state state;
    bool version_known; /* false: found, has not said what it runs */
    bool unhealthy;     /* RUNNING, but to be drained and replaced */
    bool silent;        /* RUNNING, but not in the snapshot until it answers */
    uint64_t version;
    uint32_t attempt;       /* failed starts and short lives in a row before it, in its place */
    uint32_t stops;         /* STOP effects sent */
    uint64_t configuration; /* what it runs with, as far as it has said; 0: not known */
    uint64_t telling;       /* token of the CONFIGURE that it has not answered; 0: none */
    uint64_t told;          /* the configuration in that CONFIGURE */
    int64_t told_ns;        /* when it was told */
    uint32_t rank;          /* its place; CONTROLLER_NO_RANK: none (yet) */
    uint32_t told_rank, told_world_size;    /* what it knows of that */
    struct heap_link deadline;              /* in controller->deadlines, or in none */
    int32_t pid;                            /* 0: not known */
    int64_t since_ns;                       /* when it entered its state */
    int64_t limit_ns;                       /* STARTING: counts as failed at; 0: no limit */
    int64_t owes_ns;                        /* RUNNING: has not answered since; 0: it answers */
    int64_t heard_ns;                       /* RUNNING: when it last gave a sign that was told */
    struct bytes address;                   /* owned */
    struct bytes app_name, deployment_name; /* owned; of a stray */
};

/* What routers were last told; compared to see whether they must be told again. */
struct controller_published {
    uint32_t max_ongoing;
    int64_t max_queued;
    bool available, streams_body;
};

/* Which ranks are held, a bit each. */
struct controller_ranks {
    uint64_t *bits;
    uint32_t words; /* allocated */
    uint32_t held;
    uint32_t low; /* every rank below is held */
};

struct controller_deployment {
    struct list_link app_link;   /* on app->by_status[status], or app->leaving */
    struct list_link dirty_link; /* on controller->dirty_deployments */
    struct deployment_id id;
    struct controller_app *app;
    struct controller_goal goal; /* what it is steered to */
    struct controller_goal good; /* the last that it reached; where a failed rollout goes back to */
    struct controller_replicas replicas;
    struct controller_ranks ranks;
    struct controller_published published;
    enum deployment_status status;
    enum deployment_trigger trigger;
    uint32_t updating;    /* replicas that are being told their configuration */
    uint32_t failures;    /* failed starts since it was HEALTHY or deployed */
    uint32_t ready_floor; /* C2: ready replicas may fall below by accident only */
    int64_t drain_ns;     /* graceful shutdown timeout of the newest target that had it */
    bool failed;          /* the newest target failed for good: no further start of its version */
    bool leaving;         /* the application's target lacks it */
    uint64_t seen;        /* store token of the newest target that names it */
    char message[CONTROLLER_MESSAGE_SIZE];
    char last_failure[CONTROLLER_TEXT_SIZE];
    struct bytes name; /* lies behind */
};

struct controller_app {
    struct list_link dirty_link; /* on controller->dirty_apps */
    struct application_id id;
    struct controller_plan *plan; /* the target in force; null: none yet, or deleting */
    struct list stores;           /* struct controller_store, oldest first */
    struct list waits; /* struct controller_wait, for the target in force or the deletion */
    struct map names;  /* struct controller_deployment by name, the leaving ones too */
    struct list by_status[DEPLOYMENT_STATUS_COUNT]; /* wanted deployments */
    struct list leaving;                            /* the other ones */
    enum application_status status;
    struct deployment_id ingress; /* as published */
    int64_t deployed_ns;
    bool deleting, declarative;
    bool build_failed; /* the newest target could not be built: `message` says why, what was in
                          force stays */
    bool restored;     /* its target came from the store: hands off until LOADED */
    char message[CONTROLLER_MESSAGE_SIZE];
    struct bytes name; /* lies behind */
};

/* What is freed when the next step begins. */
struct controller_trash {
    void **at;
    uint32_t count, capacity;
};

struct controller {
    struct controller_config config;
    struct rng rng;
    int64_t now_ns; /* of the step in progress, else of the last one */
    struct controller_index apps, deployments, replicas; /* replicas: strays too */
    struct controller_index routable; /* replicas in the snapshot: RUNNING ones of a deployment */
    struct map app_names;             /* struct controller_app */
    struct map routes;       /* struct controller_app, by the route prefixes that it claims */
    struct map transactions; /* struct controller_transaction, by token */
    struct controller_replicas strays;
    struct list found; /* replicas that exist and have not said what they are */
    struct list dirty_deployments, dirty_apps;
    struct heap deadlines; /* of struct controller_replica */
    struct controller_trash trash;
    struct controller_effects *effects; /* of the step in progress; null between steps */
    struct controller_effects stores;   /* STORE effects of the step in progress */
    uint64_t application_last, deployment_last, replica_last, store_last, telling_last;
    uint64_t version;   /* of the newest snapshot */
    uint32_t answering; /* RUNNING replicas of deployments that owe no answer */
    uint64_t visits;
    uint64_t wanted_replicas;                         /* by all goals together */
    uint64_t promised_deployments, promised_replicas; /* by targets under way to the store */
    uint32_t operation_count;                         /* that somebody waits for */
    struct list shutdown_waits;                       /* struct controller_wait */
    struct error shutdown_error; /* the first deletion that could not be stored */
    int64_t drain_cap_ns;        /* of the shutdown; 0: none */
    bool view_changed;           /* since the newest snapshot */
    bool loaded;                 /* LOADED came */
    bool recovering; /* restored, and not everything found is known: nothing is published or drained
                      */
    bool shutting_down, ended;
};

/* ---- controller_target.c: a target is valid; its copy ---- */

/* 0, or ERROR_INVALID or ERROR_LIMIT with a message of CONTROLLER_MESSAGE_SIZE. */
int controller_target_check(const struct settings *settings,
                            const struct controller_app_target *target, char *ret_message);
/* One reference; null when memory lacks. */
struct controller_plan *controller_plan_try_new(const struct controller_app_target *target);
/* Its rows, to be written before it is used: the ids. */
struct controller_deployment_target *controller_plan_rows(struct controller_plan *plan);
/* Whether they ask for the same, whatever ids they bring. */
bool controller_target_equal(const struct controller_app_target *a,
                             const struct controller_app_target *b);
struct controller_plan *controller_plan_ref(struct controller_plan *plan);
/* Null is fine.  The memory goes with the next step. */
void controller_plan_unref(struct controller *controller, struct controller_plan *plan);
void controller_goal_set(struct controller *controller, struct controller_goal *goal,
                         struct controller_plan *plan,
                         const struct controller_deployment_target *target, bool proven);
void controller_goal_clear(struct controller *controller, struct controller_goal *goal);

/* ---- controller_apply.c: targets that users ask for ---- */

void controller_deploy(struct controller *controller, const struct controller_event *event);
void controller_apply(struct controller *controller, const struct controller_event *event);

/* ---- controller_store.c: store first (C1) ---- */

struct controller_transaction *controller_transaction_new(struct controller *controller);
/* STORE effects of all its entries; one without entries is forgotten. */
void controller_transaction_emit(struct controller *controller,
                                 struct controller_transaction *transaction);
/* Its one entry came from the store: it is in force. */
void controller_transaction_restore(struct controller *controller,
                                    struct controller_transaction *transaction);
/* Takes the caller's reference of the plan (null: deletion). */
struct controller_store *controller_store_new(struct controller *controller,
                                              struct controller_transaction *transaction,
                                              struct controller_app *app,
                                              struct controller_plan *plan);
struct controller_store *controller_store_newest(struct controller_app *app);
/* Joins a deletion that is under way, or begins one. */
void controller_delete_app(struct controller *controller,
                           struct controller_transaction *transaction, struct controller_app *app,
                           struct controller_operation *operation);
void controller_delete(struct controller *controller, const struct controller_event *event);
void controller_shutdown(struct controller *controller, const struct controller_event *event);
void controller_stored(struct controller *controller, const struct controller_event *event);
/* Out of the way of the application; its waits have ended or moved on. */
void controller_store_drop(struct controller *controller, struct controller_store *store);

/* ---- controller_app.c: an application's life ---- */

struct controller_app *controller_app_find(const struct controller *controller, struct bytes name);
struct controller_app *controller_app_new(struct controller *controller, struct bytes name,
                                          struct application_id id);
/* The target (null: deletion) is in force from now on. */
void controller_app_commit(struct controller *controller, struct controller_app *app,
                           struct controller_store *store);
/* Gives up the route prefix unless another target of the application claims it. */
void controller_app_release_route(struct controller *controller, struct controller_app *app,
                                  struct bytes route);
/* A claim that came to nothing: who had the route before, and still claims it, has it again. */
void controller_app_return_route(struct controller *controller, struct bytes route);
void controller_app_touch(struct controller *controller, struct controller_app *app);
void controller_app_reconcile(struct controller *controller, struct controller_app *app);
void controller_app_free(struct controller *controller, struct controller_app *app);

/* ---- controller_deployment.c: a deployment's record and its goals ---- */

struct controller_deployment *
controller_deployment_new(struct controller *controller, struct controller_app *app,
                          const struct controller_deployment_target *target);
/* A new target: what changed, and so what is to be done. */
void controller_deployment_aim(struct controller *controller,
                               struct controller_deployment *deployment,
                               struct controller_plan *plan,
                               const struct controller_deployment_target *target);
/* The application's target lacks it; it serves on until told to go. */
void controller_deployment_leave(struct controller *controller,
                                 struct controller_deployment *deployment);
/* Options that touch no process are equal. */
bool controller_deployment_options_equal(const struct controller_deployment_target *a,
                                         const struct controller_deployment_target *b);
/* No replica is wanted any more; it is forgotten with the last of them. */
void controller_deployment_go(struct controller *controller,
                              struct controller_deployment *deployment);
void controller_deployment_touch(struct controller *controller,
                                 struct controller_deployment *deployment);
/* The newest target failed too often: back to the last goal that was reached, or nothing more is
 * started. */
void controller_deployment_fail(struct controller *controller,
                                struct controller_deployment *deployment);
/* Failed, and there is nothing to go back to. */
bool controller_deployment_halted(const struct controller_deployment *deployment);
/* A replica of its version runs. */
void controller_deployment_prove(struct controller_deployment *deployment,
                                 const struct controller_replica *replica);
/* Failed starts of a version that never ran, until it is given up. */
uint32_t controller_deployment_retry_limit(const struct controller *controller,
                                           const struct controller_deployment *deployment);
/* Replicas that a rollout may replace or reconfigure at a time (Ray Serve's rolling update). */
uint32_t controller_deployment_share(const struct controller_deployment *deployment);
/* Replicas that may be there beside the wanted number; 0: old ones stop before new ones start. */
uint32_t controller_deployment_surge(const struct controller_deployment *deployment);
/* RUNNING ones of another version. */
uint32_t controller_deployment_outdated(const struct controller_deployment *deployment);
/* Below it ready replicas fall by accident only (C2). */
uint32_t controller_deployment_floor(const struct controller_deployment *deployment);
/* Of the version that it is steered to (a found one of unknown version is taken to be). */
bool controller_replica_fits(const struct controller_replica *replica);
uint32_t
controller_deployment_ready(const struct controller_deployment *deployment); /* of any version, and
                                                                                they answer */
uint32_t controller_deployment_fitting(const struct controller_deployment *deployment,
                                       enum replica_state state);
/* A start, or a reconfigure, of what is wanted came to nothing: `what` failed, with the `text`. */
void controller_deployment_count_failure(struct controller *controller,
                                         struct controller_deployment *deployment, uint32_t attempt,
                                         const char *what, const char *text);
void controller_deployment_free(struct controller *controller,
                                struct controller_deployment *deployment);

/* ---- controller_reconcile.c ---- */

void controller_reconcile(struct controller *controller, struct controller_deployment *deployment);

/* ---- controller_configure.c: what is told to replicas that run ---- */

/* Tells those that run with something else, as many as may be at it at once. */
void controller_configure(struct controller *controller, struct controller_deployment *deployment);
void controller_configured(struct controller *controller, const struct controller_event *event);
/* No answer is waited for any more. */
void controller_telling_end(struct controller *controller, struct controller_replica *replica);
/* The next look at one that is at it; nothing while it owes an answer to a ping. */
void controller_telling_watch(struct controller *controller, struct controller_replica *replica);
void controller_telling_due(struct controller *controller, struct controller_replica *replica,
                            bool late);
/* It runs with what its deployment is steered to. */
bool controller_replica_current(const struct controller_replica *replica);

/* ---- controller_rank.c: places 0 to n - 1 among the replicas of a deployment ---- */

/* The lowest free one. */
void controller_rank_give(struct controller_replica *replica);
void controller_rank_release(struct controller_replica *replica);
/* Who runs and has none gets one; at rest the ranks are made contiguous. */
void controller_ranks_settle(struct controller *controller,
                             struct controller_deployment *deployment);
void controller_ranks_done(struct controller_ranks *ranks);
void controller_ranks_check(const struct controller_deployment *deployment);

/* ---- controller_event.c: facts about replicas, and deadlines that passed ---- */

void controller_started(struct controller *controller, const struct controller_event *event);
void controller_ready(struct controller *controller, const struct controller_event *event);
void controller_failed(struct controller *controller, const struct controller_event *event);
void controller_gone(struct controller *controller, const struct controller_event *event);
void controller_adopt(struct controller *controller, const struct controller_event *event);
void controller_health(struct controller *controller, const struct controller_event *event);
/* To be drained and replaced, with what is said of it. */
void controller_replica_unhealthy(struct controller *controller, struct controller_replica *replica,
                                  const char *text);
void controller_loaded(struct controller *controller, const struct controller_event *event);
/* The deployment has a record now: replicas found before are its own. */
void controller_claim_strays(struct controller *controller,
                             struct controller_deployment *deployment);
/* How many replicas take long to start or to be reconfigured, as the deployment's message. */
void controller_say_slow(struct controller *controller, struct controller_deployment *deployment);
void controller_replica_due(struct controller *controller, struct controller_replica *replica,
                            bool late);

/* ---- controller_replica.c: the life of a replica ---- */

/* A new record in `state`; deployment null: a stray. */
struct controller_replica *controller_replica_new(struct controller *controller,
                                                  struct controller_deployment *deployment,
                                                  struct replica_id id, enum replica_state state);
/* The only way from one state to another.  GONE: the record is forgotten. */
void controller_replica_move(struct controller *controller, struct controller_replica *replica,
                             enum replica_state state);
void controller_replica_own(struct controller *controller, struct controller_replica *replica,
                            struct controller_deployment *deployment);
void controller_replica_set_address(struct controller *controller,
                                    struct controller_replica *replica, struct bytes address);
/* Another one of the goal's version, not to be started before the pause is over. */
void controller_replica_want(struct controller *controller,
                             struct controller_deployment *deployment, uint32_t attempt,
                             int64_t pause_ns);
/* Of one start or reconfigure; 0: none. */
int64_t controller_start_timeout_ns(const struct controller *controller,
                                    const struct controller_deployment *deployment);
void controller_replica_start(struct controller *controller, struct controller_replica *replica);
void controller_replica_drain(struct controller *controller, struct controller_replica *replica);
void controller_replica_tell_drain(struct controller *controller,
                                   struct controller_replica *replica, int64_t timeout_ns);
enum controller_stop { CONTROLLER_STOP_POLITELY, CONTROLLER_STOP_BY_FORCE };
void controller_replica_stop(struct controller *controller, struct controller_replica *replica,
                             enum controller_stop how);
void controller_replica_free(struct controller *controller, struct controller_replica *replica);
void controller_replicas_init(struct controller_replicas *replicas);
uint32_t controller_replicas_count(const struct controller_replicas *replicas); /* of every state */
const char *
replica_state_name(enum replica_state state); /* ours, where the word is the public one */
bool replica_state_follows(enum replica_state from, enum replica_state to);
bool replica_state_born(enum replica_state state);
bool replica_state_routable(enum replica_state state);

/* ---- controller_silence.c: replicas that run and do not answer ---- */

void controller_owes(struct controller *controller, const struct controller_event *event);
void controller_answers(struct controller *controller, const struct controller_event *event);
/* Of a deployment's replica that comes to RUNNING, and that leaves it: its row of the snapshot. */
void controller_silence_enter(struct controller *controller, struct controller_replica *replica);
void controller_silence_leave(struct controller *controller, struct controller_replica *replica);
/* It gave a sign of life. */
void controller_silence_end(struct controller *controller, struct controller_replica *replica);
void controller_silence_due(struct controller *controller, struct controller_replica *replica,
                            bool late);

/* ---- controller_deadline.c ---- */

/* Room for as many as there are replicas. */
void controller_deadline_reserve(struct controller *controller);
void controller_deadline_set(struct controller *controller, struct controller_replica *replica,
                             int64_t deadline_ns);
int64_t controller_replica_deadline_ns(const struct controller_replica *replica); /* 0: none */
void controller_deadline_clear(struct controller *controller, struct controller_replica *replica);
/* The replica with the nearest deadline if that has come, taken out; else null. */
struct controller_replica *controller_deadline_take(struct controller *controller);
/* now + span, without overflow; never 0. */
int64_t controller_after(const struct controller *controller, int64_t span_ns);

/* ---- controller_status.c ---- */

enum controller_signal {
    CONTROLLER_SIGNAL_CONFIG,         /* a new target asks for other replicas or options */
    CONTROLLER_SIGNAL_SCALE_UP,       /* a new target asks for more */
    CONTROLLER_SIGNAL_SCALE_DOWN,     /* a new target asks for fewer */
    CONTROLLER_SIGNAL_REACHED,        /* actual equals target */
    CONTROLLER_SIGNAL_HEALTH_FAILED,  /* a replica of the target's version died or is unhealthy */
    CONTROLLER_SIGNAL_STARTUP_FAILED, /* too many failed starts */
    CONTROLLER_SIGNAL_DELETE,         /* it is being deleted */
    CONTROLLER_SIGNAL_COUNT
};
void controller_status_signal(struct controller *controller,
                              struct controller_deployment *deployment,
                              enum controller_signal signal);
void controller_status_say(struct controller_deployment *deployment, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The application's status and message, from its deployments. */
void controller_status_app(struct controller *controller, struct controller_app *app);
/* Formats at most size - 1 bytes and cuts at a character of UTF-8. */
void controller_print(char *ret_text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The end of a text, where an exception names itself; without trailing newlines. */
void controller_copy_tail(char *ret_text, size_t size, struct bytes text);
/* The last line of it. */
struct bytes controller_last_line(const char *text);

/* ---- controller_operation.c ---- */

/* Null for token 0: nobody waits.  Null also past the limit: then the outcome was given, and
 * *ret_refused is true. */
struct controller_operation *controller_operation_new(struct controller *controller,
                                                      enum controller_event_type type,
                                                      uint64_t token, bool *ret_refused);
/* Null operation: nothing happens. */
void controller_wait_add(struct list *waits, struct controller_operation *operation);
/* Each wait of the list ends so. */
void controller_waits_end(struct controller *controller, struct list *waits, int code,
                          const char *message);
void controller_waits_move(struct list *target_waits, struct list *source_waits);
void controller_progress(struct controller *controller, struct controller_app *app,
                         const char *format, ...) __attribute__((format(printf, 3, 4)));
void controller_outcome(struct controller *controller, uint64_t token, int code,
                        const char *message);
void controller_waits_free(struct controller *controller, struct list *waits);

/* ---- controller_effect.c ---- */

/* A zeroed effect at the end of the list; valid until the next one. */
struct controller_effect *controller_effect_add(struct controller_effects *effects,
                                                enum controller_effect_type type);
/* With the replica's ids and names filled in. */
struct controller_effect *controller_effect_replica(struct controller *controller,
                                                    enum controller_effect_type type,
                                                    const struct controller_replica *replica);
/* PUBLISH to the front, STOREs to the end. */
void controller_effects_close(struct controller *controller);
void controller_effects_publish(struct controller *controller);
/* Freed when the next step begins. */
void controller_trash_add(struct controller *controller, void *memory);
void controller_trash_empty(struct controller *controller);

/* ---- controller_view.c ---- */

/* Compares what routers should know of the deployment with what they know. */
void controller_view_compare(struct controller *controller,
                             struct controller_deployment *deployment);

#endif
