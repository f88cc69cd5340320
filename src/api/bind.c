/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind: from a builder's manta_bind calls to the application's target document.
 *
 * Each binding becomes one deployment of the target with its constructor arguments; a bound
 * deployment among them becomes a handle by name.  The version of a deployment is a hash of the
 * shared object's bytes, its arguments and the options that need other processes, so that running
 * the same application again restarts nothing.
 */
#include "bind.h"

#include <manta/sys/deploy.h>

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "ensure.h"
#include "library.h"
#include "mem.h"
#include "target.h"
#include "value.h"

/* ---- binding
 * ------------------------------------------------------------------------------------------ */

static struct manta_arg app_stop(struct manta_app *app)
{
    ensure(app->error.code);
    return manta_nil();
}

struct manta_arg manta_app_fail(struct manta_app *app, const char *format, ...)
{
    char text[ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!app->error.code)
        error_set(&app->error, ERROR_DEPLOY_FAILED, "%s", text);
    return app_stop(app);
}

const char *manta_app_argument(struct manta_app *app, const char *key, const char *fallback)
{
    size_t length = strlen(key);
    for (const char *const *argument = app->arguments; argument && *argument; argument++)
        if (!strncmp(*argument, key, length) && (*argument)[length] == '=')
            return *argument + length + 1;
    return fallback;
}

static bool name_is_taken(const struct manta_app *app, const char *name)
{
    for (uint32_t i = 0; i < app->deployment_count; i++)
        if (!strcmp(app->deployments[i].name, name))
            return true;
    return false;
}

/* Ray Serve's rule: the second binding of "model" is "model_1". */
static void choose_name(const struct manta_app *app, struct app_deployment *bound)
{
    snprintf(bound->name, sizeof bound->name, "%s", bound->deployment.name);
    for (unsigned n = 1; name_is_taken(app, bound->name); n++)
        snprintf(bound->name, sizeof bound->name, "%s_%u", bound->deployment.name, n);
}

static void write_handle(struct manta_app *app, struct text *out, uint32_t index)
{
    struct text name;
    text_init(&name, 1024);
    value_write_array(&name, 2);
    value_write_string(&name, bytes_of_string(app->name));
    value_write_string(&name, bytes_of_string(app->deployments[index].name));
    value_write_extension(out, VALUE_EXTENSION_HANDLE, text_bytes(&name));
    text_done(&name);
}

static void write_args(struct manta_app *app, struct text *out, const struct manta_arg *args,
                       size_t count)
{
    value_write_array(out, (uint32_t)count);
    for (size_t i = 0; i < count && !app->error.code; i++) {
        if (args[i].type == MANTA_ARG_BOUND && args[i].index < app->deployment_count)
            write_handle(app, out, args[i].index);
        else
            args_write_one(out, &args[i], &app->error);
    }
    if (out->failed)
        error_set(&app->error, ERROR_LIMIT,
                  "the constructor arguments have more than %d MiB, or memory is exhausted",
                  APP_ARGUMENT_BYTES >> 20);
}

static struct app_deployment *app_add(struct manta_app *app)
{
    if (app->deployment_count == APP_DEPLOYMENT_LIMIT) {
        error_set(&app->error, ERROR_LIMIT, "more than %d deployments in one application",
                  APP_DEPLOYMENT_LIMIT);
        return NULL;
    }
    if (app->deployment_count == app->deployment_capacity) {
        uint32_t capacity = app->deployment_capacity ? app->deployment_capacity * 2 : 8;
        struct app_deployment *grown = mem_try_resize(
            app->deployments, app->deployment_capacity * sizeof *grown, capacity * sizeof *grown);
        if (!grown) {
            error_set(&app->error, ERROR_MEMORY, "no memory for the application");
            return NULL;
        }
        app->deployments = grown;
        app->deployment_capacity = capacity;
    }
    return &app->deployments[app->deployment_count];
}

/* The target is written when the builder, and a text that it made, may be gone. */
static void keep_user_config(struct manta_app *app, struct app_deployment *bound)
{
    text_init(&bound->user_config, APP_ARGUMENT_BYTES);
    if (!bound->deployment.user_config)
        return;
    text_add_string(&bound->user_config, bound->deployment.user_config);
    bound->deployment.user_config = text_string(&bound->user_config);
    if (bound->user_config.failed && !app->error.code)
        error_set(&app->error, ERROR_LIMIT, "the user_config of '%s' is too large", bound->name);
}

struct manta_arg manta_bind_array(struct manta_app *app, const struct manta_deployment *deployment,
                                  const struct manta_arg *args, size_t count)
{
    struct app_deployment *bound = app->error.code ? NULL : app_add(app);
    if (!bound || library_check_deployment(deployment, &bound->deployment, &app->error) < 0)
        return app_stop(app);
    choose_name(app, bound);
    text_init(&bound->args, APP_ARGUMENT_BYTES);
    write_args(app, &bound->args, args, count);
    keep_user_config(app, bound);
    if (app->error.code) {
        text_done(&bound->args);
        text_done(&bound->user_config);
        return app_stop(app);
    }
    return (struct manta_arg){.type = MANTA_ARG_BOUND, .index = app->deployment_count++};
}

struct manta_arg manta_bind_list(struct manta_app *app, const struct manta_deployment *deployment,
                                 ...)
{
    struct manta_arg args[APP_ARGUMENT_LIMIT];
    size_t count = 0;
    va_list list;
    va_start(list, deployment);
    for (struct manta_arg arg = va_arg(list, struct manta_arg); arg.type != MANTA_ARG_END;
         arg = va_arg(list, struct manta_arg)) {
        if (count == APP_ARGUMENT_LIMIT) {
            manta_app_fail(app, "more than %d constructor arguments: use manta_bind_array",
                           APP_ARGUMENT_LIMIT);
            break;
        }
        args[count++] = arg;
    }
    va_end(list);
    return manta_bind_array(app, deployment, args, count);
}

/* ---- the target
 * --------------------------------------------------------------------------------------- */

static int64_t to_us(double seconds)
{
    return seconds > 0 ? (int64_t)(seconds * 1e6 + 0.5) : 0;
}

static int64_t to_millionths(double part)
{
    int64_t millionths = (int64_t)(part * 1e6 + 0.5);
    return millionths > 0 ? millionths : 1;
}

static struct target_replica replica_target(const struct manta_app *app,
                                            const struct app_deployment *bound)
{
    const struct manta_deployment *deployment = &bound->deployment;
    return (struct target_replica){
        .app = bytes_of_string(app->name),
        .deployment = bytes_of_string(bound->name),
        .library = bytes_of_string(app->library),
        .symbol = bytes_of_string(deployment->symbol),
        .user_config = bytes_of_string(deployment->user_config),
        .args = text_bytes(&bound->args),
        .threads = (uint32_t)deployment->threads,
        .max_ongoing_requests = (uint32_t)deployment->max_ongoing_requests,
        .max_batch_size = deployment->call_batch ? (uint32_t)deployment->max_batch_size : 1,
        .max_concurrent_batches = (uint32_t)deployment->max_concurrent_batches,
        .batch_wait_us = to_us(deployment->batch_wait_timeout_s),
        .health_check_period_us = to_us(deployment->health_check_period_s),
        .health_check_timeout_us = to_us(deployment->health_check_timeout_s),
        .graceful_shutdown_timeout_us = to_us(deployment->graceful_shutdown_timeout_s),
        .stream_body = deployment->stream_body,
        .max_models = deployment->max_models,
        .model_load_timeout_us = to_us(deployment->model_load_timeout_s),
    };
}

/* Of the program itself, whose bytes are the same as long as it runs. */
static uint64_t hash_functions(uint64_t hash, const struct manta_deployment *deployment)
{
    uintptr_t functions[] = {
        (uintptr_t)deployment->open,        (uintptr_t)deployment->close,
        (uintptr_t)deployment->call,        (uintptr_t)deployment->call_batch,
        (uintptr_t)deployment->methods,     (uintptr_t)deployment->method_count,
        (uintptr_t)deployment->reconfigure, (uintptr_t)deployment->check_health,
        (uintptr_t)deployment->load_model,  (uintptr_t)deployment->unload_model};
    return library_hash_more(hash, bytes_of(functions, sizeof functions));
}

/* What needs another process when it changes.  The configuration does not (target.h): it is told to
 * running ones. */
static uint64_t version_of(const struct manta_app *app, const struct manta_deployment *deployment,
                           const struct target_replica *replica)
{
    uint64_t hash = app->library_hash;
    int64_t numbers[] = {replica->threads,
                         replica->max_batch_size,
                         replica->max_concurrent_batches,
                         replica->batch_wait_us,
                         replica->stream_body,
                         replica->max_models,
                         replica->model_load_timeout_us};
    hash = library_hash_more(hash, replica->app);
    hash = library_hash_more(hash, replica->library);
    hash = library_hash_more(hash, replica->symbol);
    hash = library_hash_more(hash, replica->args);
    hash = library_hash_more(hash, bytes_of(numbers, sizeof numbers));
    if (!replica->library.size)
        hash = hash_functions(hash, deployment);
    return hash & INT64_MAX;
}

static void write_target(const struct manta_app *app, uint32_t ingress, struct text *out)
{
    struct target_deployment *targets = mem_new(app->deployment_count * sizeof *targets);
    struct text *documents = mem_new(app->deployment_count * sizeof *documents);
    for (uint32_t i = 0; i < app->deployment_count; i++) {
        const struct app_deployment *bound = &app->deployments[i];
        struct target_replica replica = replica_target(app, bound);
        text_init(&documents[i], INT32_MAX);
        target_write_replica(&documents[i], &replica);
        out->failed |= documents[i].failed;
        targets[i] = (struct target_deployment){
            .name = bytes_of_string(bound->name),
            .runner = BYTES("c"),
            .replica = text_bytes(&documents[i]),
            .version = version_of(app, &bound->deployment, &replica),
            .num_replicas = (uint32_t)bound->deployment.num_replicas,
            .max_ongoing_requests = replica.max_ongoing_requests,
            .max_queued_requests = bound->deployment.max_queued_requests,
            .graceful_shutdown_timeout_us = replica.graceful_shutdown_timeout_us,
            .health_check_period_us = replica.health_check_period_us,
            .health_check_timeout_us = replica.health_check_timeout_us,
            .max_surge_percent = bound->deployment.max_surge_percent,
            .rolling_update_millionths = to_millionths(bound->deployment.rolling_update_percentage),
            .max_constructor_retry_count = bound->deployment.max_constructor_retry_count,
            .start_timeout_us = to_us(bound->deployment.start_timeout_s),
            .stream_body = replica.stream_body,
        };
    }
    target_write_app(out, bytes_of_string(app->deployments[ingress].name), targets,
                     app->deployment_count);
    for (uint32_t i = 0; i < app->deployment_count; i++)
        text_done(&documents[i]);
    mem_free(documents);
    mem_free(targets);
}

static void app_done(struct manta_app *app)
{
    for (uint32_t i = 0; i < app->deployment_count; i++) {
        text_done(&app->deployments[i].args);
        text_done(&app->deployments[i].user_config);
    }
    mem_free(app->deployments);
}

/* "path:application"; the last colon counts. */
static int split_target(const char *target, char *path, size_t path_size, const char **ret_name,
                        struct error *reterr)
{
    const char *colon = strrchr(target, ':');
    if (!colon || colon == target || !colon[1])
        return error_set(reterr, ERROR_INVALID, "'%s' is not path/to/lib.so:application", target);
    char *given = mem_copy_string(target, (size_t)(colon - target));
    char *absolute = realpath(given, NULL);
    int code = 0;
    if (!absolute)
        code = error_set(reterr, ERROR_NOT_FOUND, "there is no shared object '%s'", given);
    else if ((size_t)snprintf(path, path_size, "%s", absolute) >= path_size)
        code = error_set(reterr, ERROR_INVALID, "the path of '%s' is too long", given);
    free(absolute);
    mem_free(given);
    *ret_name = colon + 1;
    return code;
}

/* ---- options from outside the code ---- */

static struct app_deployment *find_bound(struct manta_app *app, const char *name)
{
    struct text names;
    for (uint32_t i = 0; i < app->deployment_count; i++)
        if (strcmp(app->deployments[i].name, name) == 0)
            return &app->deployments[i];
    text_init(&names, 512);
    for (uint32_t i = 0; i < app->deployment_count; i++)
        text_print(&names, "%s'%s'", i ? ", " : "", app->deployments[i].name);
    error_set(&app->error, ERROR_INVALID, "Deployment '%.128s' does not exist. Available: [%s]",
              name, text_string(&names));
    text_done(&names);
    return NULL;
}

static void override_one(struct manta_app *app, const struct manta_deploy_override *override)
{
    struct app_deployment *bound = find_bound(app, override->name ? override->name : "");
    struct manta_deployment changed;
    if (!bound)
        return;
    changed = bound->deployment;
    if (override->num_replicas >= 0)
        changed.num_replicas = override->num_replicas;
    if (override->max_ongoing_requests != 0)
        changed.max_ongoing_requests = override->max_ongoing_requests;
    if (override->max_queued_requests != -2)
        changed.max_queued_requests = override->max_queued_requests;
    if (override->graceful_shutdown_timeout_s >= 0)
        changed.graceful_shutdown_timeout_s = override->graceful_shutdown_timeout_s;
    if (override->health_check_period_s >= 0)
        changed.health_check_period_s = override->health_check_period_s;
    if (override->health_check_timeout_s >= 0)
        changed.health_check_timeout_s = override->health_check_timeout_s;
    if (override->user_config)
        changed.user_config = override->user_config;
    if (override->max_surge_percent >= 0)
        changed.max_surge_percent = override->max_surge_percent;
    if (override->rolling_update_percentage >= 0)
        changed.rolling_update_percentage = override->rolling_update_percentage;
    if (override->max_constructor_retry_count >= 0)
        changed.max_constructor_retry_count = override->max_constructor_retry_count;
    if (library_check_deployment(&changed, &bound->deployment, &app->error) == 0 &&
        override->user_config) {
        text_done(&bound->user_config);
        keep_user_config(app, bound);
    }
}

static void override_all(struct manta_app *app, const struct app_overrides *overrides)
{
    for (size_t i = 0; overrides && i < overrides->count && !app->error.code; i++) {
        struct manta_deploy_override override = {MANTA_DEPLOY_OVERRIDE};
        size_t size = overrides->at->size;
        memcpy(&override, (const char *)overrides->at + i * size,
               size < sizeof override ? size : sizeof override);
        override_one(app, &override);
    }
}

/* Calls the builder and checks what it bound; app_done ends it, whatever comes of it. */
static int app_run_builder(struct manta_app *app, library_builder *builder, const char *application,
                           const struct app_overrides *overrides, struct text *out)
{
    struct manta_arg ingress = builder(app);
    if (!app->error.code &&
        (ingress.type != MANTA_ARG_BOUND || ingress.index >= app->deployment_count))
        error_set(&app->error, ERROR_INVALID, "application '%s' did not return a bound deployment",
                  application);
    if (!app->error.code)
        override_all(app, overrides);
    if (!app->error.code)
        write_target(app, ingress.index, out);
    if (!app->error.code && out->failed)
        error_set(&app->error, ERROR_MEMORY, "no memory for the application's target");
    return app->error.code;
}

int app_build(const char *target, const char *name, const char *const *arguments,
              const struct app_overrides *overrides, struct text *out, struct error *reterr)
{
    char path[PATH_MAX];
    const char *application = NULL;
    void *library = NULL;
    library_builder *builder;
    struct manta_app app = {.name = name, .library = path, .arguments = arguments};
    if (split_target(target, path, sizeof path, &application, reterr) < 0 ||
        library_open(path, &library, reterr) < 0)
        return reterr->code;
    if (library_application(library, path, application, &builder, reterr) == 0 &&
        library_hash(path, &app.library_hash, reterr) == 0) {
        if (app_run_builder(&app, builder, application, overrides, out) < 0)
            *reterr = app.error;
        app_done(&app);
    }
    library_close(library);
    return reterr->code;
}

int app_build_own(const struct app_own *own, const char *name, const char *const *arguments,
                  struct text *out, struct error *reterr)
{
    struct manta_app app = {.name = name, .library = "", .arguments = arguments};
    if (app_run_builder(&app, own->builder, name, NULL, out) < 0)
        *reterr = app.error;
    for (uint32_t i = 0; i < app.deployment_count && !reterr->code; i++) {
        const struct app_deployment *bound = &app.deployments[i];
        struct target_replica replica = replica_target(&app, bound);
        if (own->keep(own->owner, version_of(&app, &bound->deployment, &replica),
                      &bound->deployment) < 0)
            error_set(reterr, ERROR_MEMORY, "no memory for the application");
    }
    app_done(&app);
    return reterr->code;
}
