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
    const char        *name;   /* unique in the application, [A-Za-z0-9_.-]+, at most 128 */
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
};
#define MANTA_DEPLOY_ENTRY .size = sizeof(struct manta_deploy_entry), .num_replicas = 1, .max_ongoing_requests = 5, \
    .max_queued_requests = -1, .threads = 1, .graceful_shutdown_timeout_s = 20, .health_check_period_s = 10,        \
    .health_check_timeout_s = 30

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

#ifdef __cplusplus
}
#endif
#endif
