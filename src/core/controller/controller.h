/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller: the mind that keeps every application at its declared target.
 *
 * Facts, then reconcile: an event only updates facts (target set, replica ready, replica gone, time
 * passed); then one function per deployment derives effects from target, facts and now.
 * Level-triggered: a lost or doubled event heals.  Store first: nothing after a STORE effect is
 * performed before the event STORED with its token (C1). A step cannot fail.  Only the life of a
 * replica is a state machine (tables/states.def):
 *
 *   WANTED --> STARTING --> RUNNING --> DRAINING --> STOPPING --> GONE
 *     |          |  |          |           |            ^          ^
 *     |          |  |          |           +-- timeout -+          |
 *     |          |  +- failed start, not wanted any more +          |
 *     +----------+-------------+--- its process is gone, or it never had one
 *
 * A replica that failed is never started again: another one, with an id of its own, is WANTED in
 * its place and waits out the back-off there.
 *
 * Options change in three ways.  What the target alone holds (num_replicas, max_queued_requests) is
 * the controller's affair.  What lies in `configuration`, a content hash like the version, is told
 * to the running replicas (CONFIGURE), a few at a time, and a deployment is UPDATING until all have
 * answered; one that answers with an error is replaced (controller_configure.c).  And
 * a deployment's version is a content hash given with the target; another version means other
 * replicas: new ones start and prove themselves before old ones drain (C2).  A version whose
 * replicas keep failing to start stops its rollout, the deployment goes back to the last goal that
 * it reached, and the status says why.  An application's deployments that its new target lacks
 * serve on until the others have reached theirs; so does the old ingress until the new one can.
 *
 * A replica that does not answer leaves the snapshot until it does; only the limits of its health
 * checks end it, and while nobody answers nobody is judged (controller_silence.c).
 *
 * At every start: DEPLOY with `stored` for each stored target (with a token, to hear of one that
 * is refused), ADOPT for each replica that runs, then LOADED, also when there was nothing.  Until
 * then nothing of a stored target is started or stopped, and nothing is published before every
 * adopted replica has said who it is (or adopt_grace_ms passed): readers keep the snapshot that
 * they have.  A replica that no target names is stopped after adopt_grace_ms (C3).
 *
 * Memory: the copy of a target may fail (ERROR_MEMORY, nothing changes); everything else is small
 * and dies on exhaustion, so that a step cannot fail.
 */
#ifndef MANTA_CORE_CONTROLLER_H
#define MANTA_CORE_CONTROLLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "id.h"
#include "settings.h"
#include "text.h"
#include "trace.h"

struct controller;

enum replica_state {
#define REPLICA_STATE(name, word, routable) REPLICA_STATE_##name,
#include "states.def"
#undef REPLICA_STATE
    REPLICA_STATE_COUNT
};
enum deployment_status {
#define DEPLOYMENT_STATUS(name, word) DEPLOYMENT_STATUS_##name,
#include "states.def"
#undef DEPLOYMENT_STATUS
    DEPLOYMENT_STATUS_COUNT
};
enum deployment_trigger {
#define DEPLOYMENT_TRIGGER(name) DEPLOYMENT_TRIGGER_##name,
#include "states.def"
#undef DEPLOYMENT_TRIGGER
    DEPLOYMENT_TRIGGER_COUNT
};
enum application_status {
#define APPLICATION_STATUS(name) APPLICATION_STATUS_##name,
#include "states.def"
#undef APPLICATION_STATUS
    APPLICATION_STATUS_COUNT
};

struct controller_config {
    struct settings settings; /* back-off, limits, timeouts */
    const struct trace *trace;
    /* The highest numbers given out before a restart, as far as known: what is given out now lies
     * above.  Zero at first. */
    uint64_t application_last, deployment_last, replica_last, snapshot_last;
};

/* How replicas are replaced, and how long a start is believed in (Ray Serve's options). */
struct controller_rollout {
    /* Replicas of another version beside the wanted number, percent of it, rounded up: they start
     * before old ones stop.  0: old ones stop first, the share below at a time. */
    uint32_t max_surge_percent;
    uint32_t share_millionths; /* rolling_update_percentage; at least one replica at a time */
    uint32_t retry_limit;      /* max_constructor_retry_count; 0: its default */
    int64_t start_timeout_ns;  /* of one start; 0: start_timeout_ms */
};

/* What an application should be.  The mind copies what it keeps. */
struct controller_deployment_target {
    struct bytes name;
    struct deployment_id id; /* as it was stored with; none: a new one or that of the name */
    uint64_t version;        /* content hash of what needs other processes when it changes */
    uint64_t configuration;  /* content hash of what is told to running ones; 0: not known */
    uint32_t replicas;       /* num_replicas */
    uint32_t max_ongoing;
    int64_t max_queued;
    int64_t graceful_shutdown_timeout_ns;
    int64_t health_check_period_ns, health_check_timeout_ns;
    struct controller_rollout rollout;
    bool streams_body;
    struct bytes body; /* opaque: what the engine needs to start a replica (MessagePack) */
};
struct controller_app_target {
    struct application_id id; /* as it was stored with; none: a new one or that of the name */
    struct bytes name, route_prefix; /* prefix empty: none */
    struct bytes ingress;            /* deployment name */
    bool declarative; /* it came with a whole target, and goes when a later one lacks it */
    /* Of a whole target: it could not be built, and why; then it has no deployments. */
    struct bytes build_failure;
    const struct controller_deployment_target *deployments;
    uint32_t deployment_count;
};

/* ---- effects ---- */

enum controller_effect_type {
    /* Make `target` of `app` durable (its deletion when null), ids included; then event STORED with
     * the token.  `more`: the next effect is of the same transaction and has the same token; there
     * is one STORED for all.  Always last in a list: what stands before it does not depend on it.
     */
    CONTROLLER_STORE,
    /* Engine: start `replica` of `deployment` with `body`; it is to say that it runs `version`. */
    CONTROLLER_START,
    /* Engine: end its process; `kill`: SIGKILL.  Repeated until GONE: an engine that does not know
     * the replica answers GONE. */
    CONTROLLER_STOP,
    /* Tell the replica: accept nothing more, finish within timeout_ns, then end. */
    CONTROLLER_DRAIN,
    /* Tell the replica its configuration (max_ongoing, and what else `body` says), rank and
     * world_size; then event CONFIGURED with the token. */
    CONTROLLER_CONFIGURE,
    /* The routing snapshot changed: publish it; token: its version.  Always first in its list, so
     * that nobody is drained before its readers could learn it (R3). */
    CONTROLLER_PUBLISH,
    /* The operation `token` ended with `code` and `message`; each operation has exactly one. */
    CONTROLLER_OUTCOME,
    /* A line for whoever waits for the operation `token`. */
    CONTROLLER_PROGRESS,
    /* Everything is gone after a shutdown: end the instance. */
    CONTROLLER_ENDED,
    CONTROLLER_EFFECT_COUNT
};
struct controller_effect {
    enum controller_effect_type type;
    uint64_t token;
    struct application_id app;
    struct deployment_id deployment;
    struct replica_id replica;
    struct bytes app_name, deployment_name, body; /* valid until the next step */
    const struct controller_app_target *target;   /* STORE; valid until the next step */
    uint64_t version;                             /* START: what the replica is to say it runs */
    uint64_t configuration;                       /* START, CONFIGURE: as the version */
    int64_t timeout_ns;
    uint32_t max_ongoing;
    uint32_t rank, world_size; /* START, CONFIGURE: place among the deployment's replicas */
    bool kill;
    bool more; /* STORE */
    int code;
    char message[480];
};
struct controller_effects {
    struct controller_effect *at;
    uint32_t count, capacity;
};
/* A zeroed list is empty; a step replaces what is in it. */
void controller_effects_done(struct controller_effects *effects);

/* ---- events ---- */

enum controller_event_type {
    /* target; token of the operation (0: nobody waits).  Ends with 0 when every deployment is
     * HEALTHY, DEPLOY_FAILED when one cannot be, CANCELLED when a newer target is in force, the
     * error of the store, or at once: INVALID, EXISTS (route), LIMIT, MEMORY, CLOSED. */
    CONTROLLER_DEPLOY,
    /* targets, target_count; token; declarative: applications that came so before and are not among
     * these are deleted.  Accepted whole or refused whole (as DEPLOY); those that are in force
     * already are left alone; one that could not be built is DEPLOY_FAILED and what it was before
     * serves on.  Ends when all of them have ended, the deleted ones too, with the first error. */
    CONTROLLER_APPLY,
    /* app name, empty: all; token.  Ends when the last replica is gone; NOT_FOUND. */
    CONTROLLER_DELETE,
    /* token: delete all, refuse what comes, then ENDED. */
    CONTROLLER_SHUTDOWN,
    /* token of the STORE effect, code, text; in the order of the STOREs. */
    CONTROLLER_STORED,
    /* Engine: replica's process runs, pid (informative). */
    CONTROLLER_STARTED,
    /* Replica: constructed and checked; address.  One that is not known is adopted (before LOADED)
     * or ended (after it: GONE may have overtaken its word). */
    CONTROLLER_READY,
    /* Replica or engine: its start failed; code, text.  When there is no process either, GONE
     * follows. */
    CONTROLLER_FAILED,
    /* Engine: its process is gone; exit_code (-1: not known), signal_number, text. */
    CONTROLLER_GONE,
    /* Engine or replica after a controller restart: this one runs; app, deployment, version,
     * draining, address.  Without an address it only exists, and has not said what it runs. */
    CONTROLLER_ADOPT,
    /* Replica: check_health said, healthy, text. */
    CONTROLLER_HEALTH,
    /* Replica: what CONFIGURE told is in force, or could not be brought into force; token, code,
     * text. */
    CONTROLLER_CONFIGURED,
    /* Role: the replica has not answered since since_ns (late: we slept ourselves).  Said again and
     * again while that lasts. */
    CONTROLLER_OWES,
    /* Role: it answers (again). */
    CONTROLLER_ANSWERS,
    /* Time passed: controller_deadline_ns has come. */
    CONTROLLER_TIME,
    /* Every stored target and every running replica was told; version: the highest snapshot version
     * that a reader has, 0: not known. */
    CONTROLLER_LOADED,
    CONTROLLER_EVENT_COUNT
};
struct controller_event {
    enum controller_event_type type;
    uint64_t token;
    const struct controller_app_target *target;
    const struct controller_app_target *targets; /* APPLY */
    uint32_t target_count;
    struct bytes app, deployment; /* names */
    struct replica_id replica;
    uint64_t version;
    uint64_t configuration; /* READY, ADOPT: what it runs with; 0: not said */
    uint32_t rank;          /* READY, ADOPT: its rank plus one; 0: not said */
    uint32_t world_size;    /* READY, ADOPT: with the rank */
    struct bytes address, text;
    int code, exit_code, signal_number;
    int32_t pid;
    bool healthy, draining;
    bool late;          /* TIME, OWES: a turn that came too late: suspend verdicts */
    bool declarative;   /* APPLY */
    bool stored;        /* DEPLOY: the target comes from the store, it is durable already */
    int64_t timeout_ns; /* SHUTDOWN: longest drain; 0: each deployment's own */
    int64_t since_ns;   /* OWES */
};

struct controller *controller_new(const struct controller_config *config, uint64_t seed);
struct controller *controller_free(struct controller *controller);
/* Slices and the target of the event are the caller's; what is kept is copied. */
void controller_step(struct controller *controller, int64_t now_ns,
                     const struct controller_event *event, struct controller_effects *effects);
int64_t controller_deadline_ns(const struct controller *controller); /* 0: none */

/* ---- questions ---- */

/*
 * The routing snapshot: the apps and deployments below that are `published`, and these rows, all in
 * id order; addresses and names valid until the next step.
 */
struct controller_snapshot_row { /* one replica */
    struct replica_id replica;
    struct deployment_id deployment;
    struct bytes address;
};
/* Grows by one with each PUBLISH (R4). */
uint64_t controller_version(const struct controller *controller);
struct controller_deployment_view {
    struct deployment_id id;
    struct bytes app, name, message;
    enum deployment_status status;
    enum deployment_trigger trigger;
    uint32_t replica_count[REPLICA_STATE_COUNT]; /* by state */
    uint32_t updating; /* of those RUNNING: being told their configuration */
    uint32_t target_replicas, max_ongoing;
    uint32_t
        ready_least; /* ready replicas fall below by accident only, once they were there (C2) */
    int64_t max_queued;
    bool available, streams_body;
    bool published; /* belongs to the routing snapshot */
};
struct controller_app_view {
    struct application_id id;
    struct bytes name, route_prefix, message;
    enum application_status status;
    struct deployment_id
        ingress; /* who gets its requests; in a rollout perhaps still the old one */
    bool
        published; /* in the routing snapshot: not while deleted, nor before its target is stored */
    bool declarative;
    int64_t deployed_ns; /* monotonic time of the last deploy */
};
struct controller_replica_view {
    struct replica_id id;
    struct deployment_id deployment;
    enum replica_state state;
    uint64_t version;
    int32_t pid;
    struct bytes address;
    int32_t rank;  /* among the deployment's replicas, from 0; -1: none (yet) */
    bool silent;   /* does not answer: not in the routing snapshot */
    bool updating; /* RUNNING, and being told its configuration: UPDATING, in Ray Serve's words */
};
/* Index from 0 until false; order of ids, which is that of creation.  Each is one look into a
 * table. */
bool controller_snapshot_at(const struct controller *controller, uint32_t index,
                            struct controller_snapshot_row *ret_row);
bool controller_app_at(const struct controller *controller, uint32_t index,
                       struct controller_app_view *ret_view);
bool controller_deployment_at(const struct controller *controller, uint32_t index,
                              struct controller_deployment_view *ret_view);
bool controller_replica_at(const struct controller *controller, uint32_t index,
                           struct controller_replica_view *ret_view);
/* The word of the table: "HEALTHY", "CONFIG_UPDATE_COMPLETED", "STARTING". */
const char *deployment_status_word(enum deployment_status status);
const char *deployment_trigger_word(enum deployment_trigger trigger);
const char *application_status_word(enum application_status status);
const char *replica_state_word(enum replica_state state);

/* How many deployments and applications were looked at since the beginning: what the steps cost
 * (O(changes)). */
uint64_t controller_visits(const struct controller *controller);

/* C1 C2 C3 C4, R4; walks everything: for tests and simulation. */
void controller_check(const struct controller *controller);
void controller_dump(const struct controller *controller, struct text *out);

#endif
