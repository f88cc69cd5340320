/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/deployment.h>: deployments and applications in a shared object.
 *
 *     MANTA_DEPLOYMENT(adder, .open = adder_open, .call = adder_call, .close = adder_close, .num_replicas = 2);
 *     MANTA_APPLICATION(math) { return manta_bind(app, &adder, manta_int(3)); }
 *
 * `manta run ./libmath.so:math` calls the application's builder, which binds deployments into a graph and returns
 * the ingress.  Each replica is a process that loads the shared object and calls `open` once.
 */
#ifndef MANTA_DEPLOYMENT_H
#define MANTA_DEPLOYMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>
#include <manta/request.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_replica;
struct manta_app;

/* Version of this header; a shared object built against a newer one is refused with MANTA_EVERSION. */
#define MANTA_HEADER_VERSION 1

/* Constructs one replica's state.  May block; runs once, before any request.  A negative return is a failed start. */
typedef int (manta_open_function)(struct manta_replica *replica, void **ret_state, struct manta_error *reterr);
/* Ends a replica's state, after the last request was answered. */
typedef void (manta_close_function)(void *state);
/* One request.  May block, may answer later from another thread, may stream. */
typedef void (manta_call_function)(void *state, struct manta_request *request);
/* A batch: 1..max_batch_size requests of one method; each is answered by itself.  The array is the callee's until it returns. */
typedef void (manta_call_batch_function)(void *state, struct manta_request **requests, size_t count);
/*
 * A new user_config (JSON, zero-terminated): after `open`, and while the replica serves, when the user_config or the rank of
 * the replica changed.  Then one of the replica's threads calls it between two requests, so that with one thread nothing
 * else of the deployment's runs.  Negative: the replica is replaced, and the deployment's status says why.
 */
typedef int (manta_reconfigure_function)(void *state, const char *user_config, struct manta_error *reterr);
/* Whether the replica is well. Negative three times in a row: it is replaced. */
typedef int (manta_check_health_function)(void *state, struct manta_error *reterr);

/*
 * Loads a model for <manta/model.h>, on the thread that asks for it; several threads may load different ones at the same time.
 * *ret_model is what manta_model_get gives.  Negative: the text goes to all who wait for it, and nothing is remembered.
 */
typedef int (manta_load_model_function)(void *state, const char *model_id, void **ret_model, struct manta_error *reterr);
/* Ends a model that no request holds: to make room, and before `close`. */
typedef void (manta_unload_model_function)(void *state, const char *model_id, void *model);

/* A named method beside `call`; callers choose it by name. */
struct manta_method {
    const char          *name; /* not "__call__" */
    manta_call_function *call;
};

/* A deployment: entry points and options.  Ray Serve's names and defaults; members are only ever appended. */
struct manta_deployment {
    size_t      size;            /* sizeof, set by the macro */
    uint32_t    header_version;  /* MANTA_HEADER_VERSION, set by the macro */
    const char *symbol;          /* the C identifier, set by the macro: entry points are found by it */
    const char *name;            /* of the deployment; default: the identifier; [A-Za-z0-9_.-]+ */

    manta_open_function         *open;         /* optional */
    manta_close_function        *close;        /* optional */
    manta_call_function         *call;         /* this or call_batch is required */
    manta_call_batch_function   *call_batch;   /* optional: requests to __call__ come in batches */
    const struct manta_method   *methods;      /* optional, method_count of them */
    size_t                       method_count;
    manta_reconfigure_function  *reconfigure;  /* optional; required when user_config is set */
    manta_check_health_function *check_health; /* optional */

    int32_t     num_replicas;                  /* default 1; 0 is allowed: none */
    int32_t     max_ongoing_requests;          /* default 5, >= 1: accepted and not yet answered, per replica */
    int32_t     max_queued_requests;           /* default -1: no limit; >= 1: waiting per handle or proxy, beyond it MANTA_EBUSY (503) */
    int32_t     threads;                       /* default 1: threads that run entry points side by side, 1..256 */
    int32_t     max_batch_size;                /* default 10 with call_batch */
    int32_t     max_concurrent_batches;        /* default 1 */
    double      batch_wait_timeout_s;          /* default 0.01: from the first request of a batch */
    double      graceful_shutdown_wait_loop_s; /* default 2; accepted for compatibility, drains end at once when idle */
    double      graceful_shutdown_timeout_s;   /* default 20 */
    double      health_check_period_s;         /* default 10 */
    double      health_check_timeout_s;        /* default 30 */
    const char *user_config;                   /* JSON, or null */
    bool        stream_body;                   /* default false: call gets the whole body; true: read it by manta_request_read */

    manta_load_model_function   *load_model;   /* optional: many models in one replica, see <manta/model.h> */
    manta_unload_model_function *unload_model; /* optional */
    int32_t     max_models;                    /* default 3: models that a replica holds; -1: no limit (Ray Serve's max_num_models_per_replica) */
    double      model_load_timeout_s;          /* default 0: none; a replica whose load_model takes longer is unhealthy and replaced */

    manta_call_function         *websocket;    /* optional: clients' websockets, see <manta/websocket.h>; without it they are refused with 501 */

    /*
     * A rollout: so many new replicas start before old ones stop, percent of num_replicas, rounded up.  Default 100: all of
     * them; 0 (Ray Serve's default): old ones stop first.
     */
    int32_t     max_surge_percent;
    double      rolling_update_percentage;     /* default 0.2: the part that stops, or takes a new user_config, at a time; at least one replica */
    int32_t     max_constructor_retry_count;   /* default 20: failed starts until the deployment has failed; at most 3 for each replica */
    double      start_timeout_s;               /* default 0: none; a replica that is not ready then has failed to start */
};

#define MANTA_DEPLOYMENT_DEFAULTS(identifier)                                                        \
    .size = sizeof(struct manta_deployment), .header_version = MANTA_HEADER_VERSION,                 \
    .symbol = #identifier, .name = #identifier, .num_replicas = 1, .max_ongoing_requests = 5,        \
    .max_queued_requests = -1, .threads = 1, .max_batch_size = 10, .max_concurrent_batches = 1,      \
    .batch_wait_timeout_s = 0.01, .graceful_shutdown_wait_loop_s = 2, .graceful_shutdown_timeout_s = 20, \
    .health_check_period_s = 10, .health_check_timeout_s = 30, .max_models = 3, .max_surge_percent = 100, \
    .rolling_update_percentage = 0.2, .max_constructor_retry_count = 20

#ifndef __cplusplus
/* Defines and exports a deployment; a designated initialiser replaces a default. */
#define MANTA_DEPLOYMENT(identifier, ...)                                                            \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wpragmas\"")                   \
    _Pragma("GCC diagnostic ignored \"-Wunknown-warning-option\"")                                   \
    _Pragma("GCC diagnostic ignored \"-Woverride-init\"")                                            \
    _Pragma("GCC diagnostic ignored \"-Winitializer-overrides\"")                                    \
    static const struct manta_deployment identifier = {MANTA_DEPLOYMENT_DEFAULTS(identifier), __VA_ARGS__}; \
    _Pragma("GCC diagnostic pop")                                                                    \
    extern MANTA_EXPORT const struct manta_deployment *const manta_deployment_##identifier;          \
    MANTA_EXPORT const struct manta_deployment *const manta_deployment_##identifier = &identifier
#endif

/* ---- applications -------------------------------------------------------------------------------- */

#ifdef __cplusplus
#define MANTA_C_LINKAGE extern "C"
#else
#define MANTA_C_LINKAGE
#endif

/* Declares and begins a builder: it gets `struct manta_app *app` and returns the bound ingress. */
#define MANTA_APPLICATION(identifier)                                                                \
    MANTA_C_LINKAGE MANTA_EXPORT struct manta_arg manta_application_##identifier(struct manta_app *app); \
    MANTA_C_LINKAGE MANTA_EXPORT struct manta_arg manta_application_##identifier(struct manta_app *app)

/*
 * Binds a deployment with its constructor arguments; the result is itself an argument: the deployment that is bound to it gets
 * a handle.  Errors stick to the app: the builder need not check.  Options are changed on a copy:
 *     struct manta_deployment big = adder;  big.name = "big_adder";  big.num_replicas = 4;  manta_bind(app, &big, ...)
 * The name and the user_config of a copy are copied in turn.
 * The name must be unique in the application (a second binding of one name gets "_1", "_2" ... as Ray Serve does).
 */
#define manta_bind(app, ...) manta_bind_list(app, __VA_ARGS__, manta_end())
MANTA_EXPORT struct manta_arg manta_bind_list(struct manta_app *app, const struct manta_deployment *deployment, ...);
MANTA_EXPORT struct manta_arg manta_bind_array(struct manta_app *app, const struct manta_deployment *deployment,
                                               const struct manta_arg *args, size_t count);
/* An argument of `manta run lib.so:app key=value`, or `fallback`. */
MANTA_EXPORT const char *manta_app_argument(struct manta_app *app, const char *key, const char *fallback);
/* The builder failed: the application is not deployed and the text is shown. Returns an arg to return. */
MANTA_EXPORT struct manta_arg manta_app_fail(struct manta_app *app, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- inside a replica ------------------------------------------------------------------------------ */

/* What a replica knows about itself. Valid from `open` until `close` returned; any thread. */
MANTA_EXPORT const struct manta_args *manta_replica_args(const struct manta_replica *replica);
MANTA_EXPORT const char *manta_replica_application(const struct manta_replica *replica);
MANTA_EXPORT const char *manta_replica_deployment(const struct manta_replica *replica);
MANTA_EXPORT const char *manta_replica_id(const struct manta_replica *replica);
/* JSON, "null" when none.  The newest one; a text stays valid until it has been replaced twice. */
MANTA_EXPORT const char *manta_replica_user_config(const struct manta_replica *replica);
/*
 * The replica's place among those of its deployment, 0 to n - 1 when all is at rest (Ray Serve's ReplicaContext.rank): the
 * controller gives it to no other process.  It may change when replicas come and go; `reconfigure` is called then, if there
 * is a user_config.  -1: the replica is not of an instance.
 */
MANTA_EXPORT int32_t manta_replica_rank(const struct manta_replica *replica);
/* How many replicas the deployment wants (num_replicas; Ray Serve's ReplicaContext.world_size); 0: not of an instance. */
MANTA_EXPORT int32_t manta_replica_world_size(const struct manta_replica *replica);
MANTA_EXPORT void *manta_replica_state(const struct manta_replica *replica);
/* One line into the replica's log. level: 10 debug, 20 info, 30 warning, 40 error. */
MANTA_EXPORT void manta_replica_log(struct manta_replica *replica, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif
#endif
