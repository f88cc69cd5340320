/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller: the mind that keeps every application at its declared target.
 *
 * Facts, then reconcile: an event only updates facts (target set, replica ready, replica gone, time passed); then one
 * function per deployment derives effects from target, facts and now.  Level-triggered: a lost or doubled event
 * heals.  Store first: nothing after a STORE effect is performed before the event STORED with its token (C1).
 * A step cannot fail.  Only the life of a replica is a state machine (tables/states.def):
 *
 *   WANTED -> STARTING -> RUNNING -> DRAINING -> STOPPING -> GONE
 *     ^          |           |                      ^
 *     |          +-- failed -+--- gone -------> GONE|
 *     +--- back-off ---------+   STARTING, RUNNING -+ (not wanted any more; a failed start)
 *
 * A deployment's version is a content hash given with the target; another version means other replicas: new ones start
 * and prove themselves before old ones drain (C2).  A version whose replicas keep failing to start stops its rollout, the
 * old version serves on, and the status says why.
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
    struct settings     settings; /* back-off, limits, timeouts */
    const struct trace *trace;
};

/* What an application should be.  The mind copies what it keeps. */
struct controller_deployment_target {
    struct bytes name;
    uint64_t     version;                     /* content hash of what needs other processes when it changes */
    uint32_t     replicas;                    /* num_replicas */
    uint32_t     max_ongoing;                 /* LightWeight: changes touch no process but are told to replicas */
    int64_t      max_queued;
    int64_t      graceful_shutdown_timeout_ns;
    int64_t      health_check_period_ns, health_check_timeout_ns;
    bool         streams_body;
    struct bytes body;                        /* opaque to the mind: what the engine needs to start a replica (MessagePack) */
};
struct controller_app_target {
    struct bytes name, route_prefix;          /* prefix empty: none */
    struct bytes ingress;                     /* deployment name */
    const struct controller_deployment_target *deployments;
    uint32_t     deployment_count;
};

/* ---- effects ---------------------------------------------------------------------------------- */

enum controller_effect_type {
    CONTROLLER_STORE,        /* make the target of `app` durable (its deletion when target is null); then event stored(token) */
    CONTROLLER_START,        /* engine: start `replica` of `deployment` with `body` */
    CONTROLLER_STOP,         /* engine: end its process; `kill`: SIGKILL */
    CONTROLLER_DRAIN,        /* tell the replica: accept nothing more, finish within timeout_ns, then end */
    CONTROLLER_CONFIGURE,    /* tell the replica its new max_ongoing */
    CONTROLLER_PUBLISH,      /* the routing snapshot changed: publish controller_snapshot */
    CONTROLLER_OUTCOME,      /* the operation `token` ended with `code` and `message` */
    CONTROLLER_PROGRESS,     /* a line for whoever waits for the operation `token` */
    CONTROLLER_ENDED,        /* everything is gone after a shutdown: end the instance */
    CONTROLLER_EFFECT_COUNT
};
struct controller_effect {
    enum controller_effect_type type;
    uint64_t              token;
    struct application_id app;
    struct deployment_id  deployment;
    struct replica_id     replica;
    struct bytes          app_name, deployment_name, body; /* valid until the next step */
    int64_t               timeout_ns;
    uint32_t              max_ongoing;
    bool                  kill;
    int                   code;
    char                  message[480];
};
struct controller_effects {
    struct controller_effect *at;
    uint32_t count, capacity;
};
void controller_effects_done(struct controller_effects *effects);

/* ---- events ----------------------------------------------------------------------------------- */

enum controller_event_type {
    CONTROLLER_DEPLOY,       /* target; token of the operation (0: nobody waits) */
    CONTROLLER_DELETE,       /* app name, empty: all; token */
    CONTROLLER_SHUTDOWN,     /* token: delete all, refuse what comes, then ENDED */
    CONTROLLER_STORED,       /* token of the STORE effect, code */
    CONTROLLER_STARTED,      /* engine: replica's process runs, pid (informative) */
    CONTROLLER_READY,        /* replica: constructed and checked, address */
    CONTROLLER_FAILED,       /* replica or engine: its start failed, code, text */
    CONTROLLER_GONE,         /* engine: its process is gone, exit_code, signal, text */
    CONTROLLER_ADOPT,        /* engine or replica after a controller restart: this one runs (app, deployment, version, address, draining) */
    CONTROLLER_HEALTH,       /* replica: check_health said, healthy, text */
    CONTROLLER_TIME,         /* time passed */
    CONTROLLER_EVENT_COUNT
};
struct controller_event {
    enum controller_event_type type;
    uint64_t          token;
    const struct controller_app_target *target;
    struct bytes      app, deployment;   /* names */
    struct replica_id replica;
    uint64_t          version;
    struct bytes      address, text;
    int               code, exit_code, signal_number;
    int32_t           pid;
    bool              healthy, draining;
    bool              late;              /* TIME: a turn that came too late: suspend verdicts */
};

struct controller *controller_new(const struct controller_config *config, uint64_t seed);
struct controller *controller_free(struct controller *controller);
/* Bad targets (names, duplicates, route in use, no ingress) yield an OUTCOME with ERROR_INVALID or ERROR_EXISTS and change nothing. */
void    controller_step(struct controller *controller, int64_t now_ns, const struct controller_event *event,
                        struct controller_effects *effects);
int64_t controller_deadline_ns(const struct controller *controller); /* 0: none */

/* ---- questions -------------------------------------------------------------------------------- */

/* Rows of the routing snapshot in id order; addresses and names valid until the next step. */
struct controller_snapshot_row { /* one replica */
    struct replica_id replica; struct deployment_id deployment; struct bytes address;
};
uint64_t controller_version(const struct controller *controller);
struct controller_deployment_view {
    struct deployment_id    id;
    struct bytes            app, name, message;
    enum deployment_status  status;
    enum deployment_trigger trigger;
    uint32_t                replica_count[REPLICA_STATE_COUNT]; /* by state */
    uint32_t                target_replicas, max_ongoing;
    int64_t                 max_queued;
    bool                    available, streams_body;
};
struct controller_app_view {
    struct application_id   id;
    struct bytes            name, route_prefix, message;
    enum application_status status;
    struct deployment_id    ingress;
    int64_t                 deployed_ns; /* monotonic time of the last deploy */
};
struct controller_replica_view {
    struct replica_id    id;
    struct deployment_id deployment;
    enum replica_state   state;
    uint64_t             version;
    int32_t              pid;
    struct bytes         address;
};
/* Index from 0 until false; order of creation. */
bool controller_app_at(const struct controller *controller, uint32_t index, struct controller_app_view *ret_view);
bool controller_deployment_at(const struct controller *controller, uint32_t index, struct controller_deployment_view *ret_view);
bool controller_replica_at(const struct controller *controller, uint32_t index, struct controller_replica_view *ret_view);
/* The word of the table: "HEALTHY", "CONFIG_UPDATE_COMPLETED", "STARTING". */
const char *deployment_status_word(enum deployment_status status);
const char *deployment_trigger_word(enum deployment_trigger trigger);
const char *application_status_word(enum application_status status);
const char *replica_state_word(enum replica_state state);

void controller_check(const struct controller *controller); /* C1 C2 C3 C4, R4 */
void controller_dump(const struct controller *controller, struct text *out);

#endif
