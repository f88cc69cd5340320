/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/instance.h>: a whole Manta instance, started from or joined by this program.
 *
 *     struct manta_instance *instance;
 *     manta_start(NULL, &instance, &error);
 *     manta_run(instance, "./libmath.so:math", NULL, &error);
 *     manta_get_app_handle(instance, "default", &handle, &error);
 *     ...
 *     manta_shutdown(instance, &error);
 *
 * What a program made before it forks is dead in the child: calls on it give MANTA_ECLOSED, ending it does nothing, and the
 * parent notices nothing.  The child may start or join an instance of its own.  The same code comes from handles and calls
 * that outlive their instance.
 *
 * A private instance ends with the program that started it, however that ends.  Role executables are found beside
 * libmanta or by MANTA_LIBEXEC.  Libraries change no signal dispositions.  Any thread.
 */
#ifndef MANTA_INSTANCE_H
#define MANTA_INSTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>
#include <manta/handle.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_instance;
struct manta_app;

/* How an instance starts. */
struct manta_start_options {
    size_t      size;                  /* set by MANTA_START_OPTIONS */
    const char *name;                  /* default null: a private instance; else a service of that name is joined, or started */
    const char *http_host;             /* default "127.0.0.1" */
    int32_t     http_port;             /* default 8000; 0: any free one (manta_http_port); -1: no HTTP */
    double      request_timeout_s;     /* default 0: none */
    double      keep_alive_timeout_s;  /* default 90 */
    int32_t     proxies;               /* default 0: by the number of usable cores */
    const char *log_level;             /* default "INFO" */
    const char *log_encoding;          /* default "TEXT"; "JSON" */
    const char *log_directory;         /* default null: below the instance's directory */
    bool        log_to_stderr;         /* default false: warnings and errors only */
    bool        local_testing;         /* default false; true: everything runs inside this process, see below */
};
#define MANTA_START_OPTIONS .size = sizeof(struct manta_start_options), .http_host = "127.0.0.1", .http_port = 8000, \
    .keep_alive_timeout_s = 90, .log_level = "INFO", .log_encoding = "TEXT"

/*
 * Local testing: no other process, so that a debugger, valgrind and sanitizers see all of it.  Deployments, handles,
 * composition, batches, streams, deadlines, statuses and drains are as ever: a controller and the replicas run on
 * threads of this program.  There is no HTTP, `name` is ignored, nobody else can join, replicas of one shared object share its
 * static variables, one that crashes takes the program along, and one that does not return from user code a second after
 * its time is up is left alone.  The environment asks for it too: MANTA_LOCAL_TESTING=1, or Ray Serve's
 * RAY_SERVE_FORCE_LOCAL_TESTING_MODE=1.
 */

/* Starts an instance and waits until it serves. options may be null. MANTA_EEXISTS: the port is in use. */
MANTA_EXPORT int manta_start(const struct manta_start_options *options, struct manta_instance **ret_instance, struct manta_error *reterr);
/* Joins the running instance of that name (null: MANTA_INSTANCE, else "default"); MANTA_ENOTRUNNING. */
MANTA_EXPORT int manta_connect(const char *name, struct manta_instance **ret_instance, struct manta_error *reterr);
/* Drains and ends the instance, then frees it.  0 when all ended in time. */
MANTA_EXPORT int manta_shutdown(struct manta_instance *take_instance, struct manta_error *reterr);
/* Frees the connection; a private instance of this program ends as by manta_shutdown without waiting, one that was joined goes on. Returns null. */
MANTA_EXPORT struct manta_instance *manta_disconnect(struct manta_instance *take_instance);
/* The port that its proxies listen on; -1: no HTTP, or not known. */
MANTA_EXPORT int manta_http_port(const struct manta_instance *instance);
/* Readable when the instance has ended by itself (a private one), for poll; owned by the instance. */
MANTA_EXPORT int manta_instance_descriptor(const struct manta_instance *instance);

/* How an application runs. */
struct manta_run_options {
    size_t      size;          /* set by MANTA_RUN_OPTIONS */
    const char *name;          /* default "default" */
    const char *route_prefix;  /* default "/"; null: not reachable over HTTP */
    const char *const *arguments; /* default null: "key=value" strings for the builder, null-terminated */
    bool        no_wait;       /* default false: return when the application runs or has failed */
    void      (*progress)(void *owner, const char *line); /* default null */
    void       *owner;
};
#define MANTA_RUN_OPTIONS .size = sizeof(struct manta_run_options), .name = "default", .route_prefix = "/"

/* Runs or replaces an application: "path/to/lib.so:application".  What did not change is not restarted.
   MANTA_ELOAD, MANTA_ENOTFOUND (no such application), MANTA_EVERSION, MANTA_EEXISTS (route), MANTA_EDEPLOYFAILED with the reason. */
MANTA_EXPORT int manta_run(struct manta_instance *instance, const char *target, const struct manta_run_options *options, struct manta_error *reterr);
/* What MANTA_APPLICATION(identifier) defines is called manta_application_identifier and has this type. */
typedef struct manta_arg (manta_builder)(struct manta_app *app);
/*
 * The same for an application of the program itself, in local testing only (else MANTA_EINVALID: an executable cannot be loaded by
 * other processes).  manta_run with ":application" finds the builder by name, if the program exports its symbols (-rdynamic).
 */
MANTA_EXPORT int manta_run_builder(struct manta_instance *instance, manta_builder *builder, const struct manta_run_options *options,
                                   struct manta_error *reterr);
/* Deletes one application and waits until its last replica is gone. */
MANTA_EXPORT int manta_delete(struct manta_instance *instance, const char *name, struct manta_error *reterr);

/* The status as one value (Ray Serve's words): {"applications": {name: {"status", "message", "route_prefix", "last_deployed_time_s",
   "deployments": {name: {"status", "status_trigger", "message", "replica_states": {word: count}}}}}, "proxies": {...}}. The pack is the caller's. */
MANTA_EXPORT int manta_status(struct manta_instance *instance, struct manta_pack *pack, struct manta_error *reterr);

/* A handle to the ingress of an application, or to any deployment; MANTA_ENOTFOUND. The caller owns it. */
MANTA_EXPORT int manta_get_app_handle(struct manta_instance *instance, const char *app, struct manta_handle **ret_handle, struct manta_error *reterr);
MANTA_EXPORT int manta_get_deployment_handle(struct manta_instance *instance, const char *app, const char *deployment, struct manta_handle **ret_handle, struct manta_error *reterr);

/* The version of the library, "0.1.0". */
MANTA_EXPORT const char *manta_version(void);

#ifdef __cplusplus
}
#endif
#endif
