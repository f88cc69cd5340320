/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/sys/deploy.h>: running an application that was not built from a shared object.
 *
 * manta_run finds deployments in a shared object.  The run time of another language knows its own:
 * it describes each one here, with what its runner needs to make replicas of it, and they run by the
 * same engine, with the same rollouts, as those of manta_run.
 *
 *     struct manta_deploy_entry entry = {MANTA_DEPLOY_ENTRY, .name = "model",
 *         .runner = "python:/usr/bin/python3", .code = pickle, .code_size = size, .version = hash};
 *     manta_deploy(instance, &(struct manta_deploy_options){MANTA_DEPLOY_OPTIONS, .name = "app",
 *         .ingress = "model"}, &entry, 1, &error);
 *
 * The weaker promise: everything below <manta/sys/> may change with any release.
 */
#ifndef MANTA_SYS_DEPLOY_H
#define MANTA_SYS_DEPLOY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/instance.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One deployment.  Everything is borrowed until manta_deploy returns; members are only ever appended. */
struct manta_deploy_entry {
    size_t             size;   /* set by MANTA_DEPLOY_ENTRY */
    const char        *name;   /* unique in the application; 1 to 128 bytes, no control characters, no '#' */
    /*
     * Who runs its replicas: "python:" and the absolute path of an interpreter, which is started as
     * `INTERPRETER -m manta._private.replica_main` with the arguments of a replica.
     */
    const char        *runner;
    const void        *code;    /* for the runner; null: none */
    size_t             code_size;
    struct manta_value options; /* for the runner, any value; {0}: none */
    struct manta_value args;    /* the constructor's arguments, an array; {0}: none */
    const char        *user_config; /* JSON; null: none */
    /*
     * What replicas are known by: those of the same version stay, others are replaced.  A hash of all
     * that needs a new process when it changes; below 2^63.
     */
    uint64_t           version;
    int32_t            num_replicas;
    int32_t            max_ongoing_requests;
    int32_t            max_queued_requests; /* -1: no limit */
    int32_t            threads;
    double             graceful_shutdown_timeout_s;
    double             health_check_period_s;
    double             health_check_timeout_s;
    bool               stream_body; /* requests come before their body is whole */
    int32_t            max_surge_percent; /* this and the following as in struct manta_deployment */
    double             rolling_update_percentage;
    int32_t            max_constructor_retry_count;
    double             start_timeout_s;
};
#define MANTA_DEPLOY_ENTRY .size = sizeof(struct manta_deploy_entry), .num_replicas = 1, .max_ongoing_requests = 5, \
    .max_queued_requests = -1, .threads = 1, .graceful_shutdown_timeout_s = 20, .health_check_period_s = 10,        \
    .health_check_timeout_s = 30, .max_surge_percent = 100, .rolling_update_percentage = 0.2,                       \
    .max_constructor_retry_count = 20

/* How the application runs; as in manta_run_options. */
struct manta_deploy_options {
    size_t      size;         /* set by MANTA_DEPLOY_OPTIONS */
    const char *name;         /* default "default" */
    const char *route_prefix; /* default "/"; null: not reachable over HTTP */
    const char *ingress;      /* name of the deployment that HTTP requests and its handle reach; required */
    bool        no_wait;      /* default false: return when the application runs or has failed */
    void      (*progress)(void *owner, const char *line); /* default null; called by this thread */
    void       *owner;
};
#define MANTA_DEPLOY_OPTIONS .size = sizeof(struct manta_deploy_options), .name = "default", .route_prefix = "/"

/* Runs or replaces an application.  MANTA_EINVALID says which deployment and member; MANTA_EEXISTS (route),
   MANTA_EDEPLOYFAILED with the reason. */
MANTA_EXPORT int manta_deploy(struct manta_instance *instance, const struct manta_deploy_options *options,
                              const struct manta_deploy_entry *entries, size_t count, struct manta_error *reterr);

/* ---- whole targets ------------------------------------------------------------------------------- */

/*
 * Several applications at once: each is described as a document first, by whatever process builds it, and then they are made
 * the wanted state together.  A document is opaque, and good for this release only.
 */

/* The document of what manta_deploy would run (of the options, name and ingress).  The pack's value is replaced. */
MANTA_EXPORT int manta_deploy_document(const struct manta_deploy_options *options, const struct manta_deploy_entry *entries,
                                       size_t count, struct manta_pack *pack, struct manta_error *reterr);

/* Options of one deployment that stand above those of its code; what is not given stays as the code has it. */
struct manta_deploy_override {
    size_t      size;                        /* set by MANTA_DEPLOY_OVERRIDE */
    const char *name;                        /* of the deployment */
    int32_t     num_replicas;                /* -1: not given; so in all below */
    int32_t     max_ongoing_requests;        /* 0 */
    int32_t     max_queued_requests;         /* -2 */
    double      graceful_shutdown_timeout_s; /* -1 */
    double      health_check_period_s;       /* -1 */
    double      health_check_timeout_s;      /* -1 */
    const char *user_config;                 /* JSON; null */
    int32_t     max_surge_percent;           /* -1 */
    double      rolling_update_percentage;   /* -1 */
    int32_t     max_constructor_retry_count; /* -1 */
};
#define MANTA_DEPLOY_OVERRIDE .size = sizeof(struct manta_deploy_override), .num_replicas = -1, .max_queued_requests = -2, \
    .graceful_shutdown_timeout_s = -1, .health_check_period_s = -1, .health_check_timeout_s = -1, .max_surge_percent = -1, \
    .rolling_update_percentage = -1, .max_constructor_retry_count = -1

/*
 * The document of what manta_run would run of "path/to/lib.so:application": its builder is called in this process.  `options`
 * give name and arguments.  Errors as of manta_run; MANTA_EINVALID: an override names no deployment, or is out of range.
 */
MANTA_EXPORT int manta_library_document(const char *target, const struct manta_run_options *options,
                                        const struct manta_deploy_override *overrides, size_t count,
                                        struct manta_pack *pack, struct manta_error *reterr);

/* One application of a whole target. */
struct manta_apply_app {
    size_t             size;          /* set by MANTA_APPLY_APP */
    const char        *name;          /* default "default" */
    const char        *route_prefix;  /* default "/"; null: not reachable over HTTP */
    struct manta_value document;      /* or {0} with */
    const char        *build_failure; /* why there is none: the application is DEPLOY_FAILED, and what it was before serves on */
};
#define MANTA_APPLY_APP .size = sizeof(struct manta_apply_app), .name = "default", .route_prefix = "/"

struct manta_apply_options {
    size_t      size;        /* set by MANTA_APPLY_OPTIONS */
    bool        declarative; /* default false; true: applications that came with such a call before and are not in this one are deleted */
    bool        no_wait;     /* default false: return when all run, or have failed, and the deleted ones are gone */
    void      (*progress)(void *owner, const char *line); /* default null; called by this thread */
    void       *owner;
};
#define MANTA_APPLY_OPTIONS .size = sizeof(struct manta_apply_options)

/*
 * Makes them the wanted state: accepted whole or refused whole (MANTA_EINVALID names the part, MANTA_EEXISTS the route), stored
 * in one transaction; only what differs from what runs is touched.  MANTA_EDEPLOYFAILED: one of them could not be deployed,
 * with its reason; the others run all the same (manta_status).
 */
MANTA_EXPORT int manta_apply(struct manta_instance *instance, const struct manta_apply_options *options,
                             const struct manta_apply_app *apps, size_t count, struct manta_error *reterr);

/*
 * Starts the process of a node in a way of its own: it executes `path` with `arguments` (ended by null, the first is the
 * program's name) in a new session and with `parent_descriptor` open under this number, and returns the id of that
 * process, a child of this one; below 0 when it cannot.  What the process forked before it became the node stays its
 * child: so a program hands over a copy of itself that makes replicas (manta-node --zygote).
 */
typedef int manta_launch_function(void *owner, const char *path, const char *const *arguments, int parent_descriptor);
/* As manta_start; `launch` is called once, by this thread, unless the instance lives inside the program. */
MANTA_EXPORT int manta_start_by(const struct manta_start_options *options, manta_launch_function *launch, void *owner,
                                struct manta_instance **ret_instance, struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
