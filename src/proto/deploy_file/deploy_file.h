/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_file: the file of `manta deploy`: Ray Serve's configuration (ServeDeploySchema), in YAML 1.1
 * as PyYAML's safe_load reads it, or JSON, which is YAML.
 *
 *     deploy_file.c    the whole file: parsed, checked, taken apart into applications
 *     deploy_schema.c  what may stand where: one table per kind of map
 *     deploy_node.c    maps with merges (<<), aliases, complaints with line and path, JSON
 *     deploy_scalar.c  what a word without quotes means
 *
 * libyaml makes the text a tree; nothing here asks the system.  Everything that is wrong is said,
 * up to a limit, one line each: "FILE:LINE: PATH: what is wrong and what is allowed".  Unlike Ray
 * Serve, which ignores them, unknown keys and keys that are there twice are errors; so is what
 * would be accepted and left undone.
 *
 * Limits: a file has at most DEPLOY_FILE_SIZE_LIMIT bytes, DEPLOY_FILE_DEPTH_LIMIT levels and
 * DEPLOY_FILE_VALUE_LIMIT values, each alias counted as what it stands for.
 */
#ifndef MANTA_PROTO_DEPLOY_FILE_H
#define MANTA_PROTO_DEPLOY_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "text.h"

enum {
    DEPLOY_FILE_SIZE_LIMIT = 4 << 20,
    DEPLOY_FILE_DEPTH_LIMIT = 64,
    DEPLOY_FILE_VALUE_LIMIT = 200000,
    DEPLOY_FILE_COMPLAINT_LIMIT = 20, /* lines; then one that says so */
    DEPLOY_FILE_APP_LIMIT = 4096,
};

/* Options of a deployment of C that stand above those of its code; the values of
 * <manta/sys/deploy.h> where they are not given. */
struct deploy_file_override {
    const char *name;
    int32_t num_replicas, max_ongoing_requests, max_queued_requests;
    double graceful_shutdown_timeout_s, health_check_period_s, health_check_timeout_s;
    const char *user_config; /* JSON, or null */
    int32_t max_surge_percent;
    double rolling_update_percentage;
};

struct deploy_file_app {
    const char *name;
    const char *route_prefix; /* null: not reachable over HTTP */
    const char *import_path;  /* "module:app", "module.app" or "path/lib.so:app" */
    uint32_t line;
    bool is_library;   /* a shared object; else Python's */
    const char *json;  /* this application whole, as JSON: for Python, which knows the rest */
    char **arguments;  /* of a library: "key=value", null-terminated */
    struct deploy_file_override *overrides; /* of a library */
    uint32_t override_count;
};

/* What is not given: null, 0 or -1. */
struct deploy_file {
    const char *http_host;
    int32_t http_port;
    double request_timeout_s, keep_alive_timeout_s;
    bool no_http;             /* proxy_location: Disabled */
    bool has_start_options;   /* any of the above is given */
    const char *log_level, *log_encoding, *log_directory;
    struct deploy_file_app *apps;
    uint32_t app_count;
    struct deploy_file_memory *memory; /* of all of it */
};

/*
 * Null: it is wrong, and *complaints (an initialised text) says where.  `name` is what the file is
 * called in them.
 */
struct deploy_file *deploy_file_read(struct bytes text, const char *name, struct text *complaints);
struct deploy_file *deploy_file_free(struct deploy_file *file);

#endif
