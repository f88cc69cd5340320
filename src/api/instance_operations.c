/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance_operations: <manta/instance.h>: running and deleting applications, the status, handles.
 *
 * Each operation is one question to the controller (control.c); handles are found in the snapshot of
 * the program's own dispatch.
 */
#include <stdio.h>

#include "bind.h"
#include "call.h"
#include "control.h"
#include "instance_inner.h"
#include "library.h"
#include "mem.h"
#include "pack.h"
#include "value.h"
#include "wire.h"

enum { STATUS_WAIT_MS = 10000, SIGHT_WAIT_S = 5, OUTCOME_LIMIT = 64 };

/* ---- applications
 * ------------------------------------------------------------------------------------------- */

struct sight {
    struct runtime *runtime;
    uint64_t version;
};

static bool is_in_sight(void *owner)
{
    const struct sight *sight = owner;
    return sight->runtime->closed ||
           router_version(dispatch_router(sight->runtime->dispatch)) >= sight->version;
}

/* What was done shows in a snapshot; the next call of this program shall go by it.  `outcome` names
 * its version.  Nothing is awaited where no handle has been used, or by a callback. */
static void await_sight(struct manta_instance *instance, struct bytes outcome)
{
    struct runtime *runtime = instance->runtime;
    struct value_reader reader;
    struct value version;
    struct sight sight = {.runtime = runtime};
    value_read_init(&reader, outcome);
    if (helm_held(runtime->helm) || value_check(outcome, NULL) < 0 ||
        !value_next(&reader, &version) || version.type != VALUE_INT)
        return;
    sight.version = (uint64_t)version.integer;
    helm_take(runtime->helm);
    if (runtime->dispatch)
        helm_wait(runtime->helm, is_in_sight, &sight,
                  loop_refresh_now_ns(runtime->loop) + SIGHT_WAIT_S * 1000000000LL);
    helm_give(runtime->helm);
}

int instance_ask(struct manta_instance *instance, const struct control_question *question,
                 struct error *reterr)
{
    struct text outcome;
    text_init(&outcome, OUTCOME_LIMIT);
    int code = control_ask(instance->place.controller_socket, question, 0, &outcome, reterr);
    if (code == 0)
        await_sight(instance, text_bytes(&outcome));
    text_done(&outcome);
    return code;
}

int instance_deploy(struct manta_instance *instance, const struct manta_run_options *options,
                    struct bytes target, struct error *reterr)
{
    struct wire_deploy frame = {.app = bytes_of_string(options->name),
                                .route_prefix = bytes_of_string(options->route_prefix),
                                .body = target};
    size_t size = wire_deploy_size(&frame);
    uint8_t *room = mem_try(size);
    if (!room)
        return error_set(reterr, ERROR_MEMORY, "no memory for the application's target");
    wire_deploy_write(&frame, 0, 0, false, room);
    struct control_question question = {.type = WIRE_DEPLOY_FRAME,
                                        .frame = bytes_of(room, size),
                                        .no_wait = options->no_wait,
                                        .progress = options->progress,
                                        .owner = options->owner};
    int code = instance_ask(instance, &question, reterr);
    mem_free(room);
    return code;
}

static int keep_own(void *inside, uint64_t version, const struct manta_deployment *deployment)
{
    return inside_keep(inside, version, deployment);
}

/* Builds by the function, or by what the target names, and deploys. */
static int run(struct manta_instance *instance, const char *target, manta_builder *builder,
               const struct manta_run_options *given, struct manta_error *reterr)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct error error = {0};
    struct text document;
    take_options(&options, sizeof options, given, given ? given->size : 0);
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (!options.name || !*options.name)
        return manta_error_set(reterr, MANTA_EINVALID, "an application needs a name");
    text_init(&document, INSTANCE_TARGET_LIMIT);
    struct app_own own = {.builder = builder, .keep = keep_own, .owner = instance->inside};
    int code =
        builder ? app_build_own(&own, options.name, options.arguments, &document, &error)
                : app_build(target, options.name, options.arguments, NULL, &document, &error);
    if (code == 0)
        code = instance_deploy(instance, &options, text_bytes(&document), &error);
    text_done(&document);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}

int manta_run_builder(struct manta_instance *instance, manta_builder *builder,
                      const struct manta_run_options *options, struct manta_error *reterr)
{
    if (!builder)
        return manta_error_set(reterr, MANTA_EINVALID, "no builder is given");
    if (!instance->inside)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "the deployments of a program run in it alone (local_testing): put "
                               "them into a shared object");
    return run(instance, NULL, builder, options, reterr);
}

int manta_run(struct manta_instance *instance, const char *target,
              const struct manta_run_options *options, struct manta_error *reterr)
{
    struct error error = {0};
    library_builder *builder = NULL;
    if (!target)
        return manta_error_set(reterr, MANTA_EINVALID, "no path/to/lib.so:application is given");
    if (target[0] != ':')
        return run(instance, target, NULL, options, reterr);
    if (library_own_application(target + 1, &builder, &error) < 0)
        return runtime_error(reterr, &error);
    return manta_run_builder(instance, builder, options, reterr);
}

int manta_delete(struct manta_instance *instance, const char *name, struct manta_error *reterr)
{
    struct wire_delete frame = {.app = bytes_of_string(name)};
    struct error error = {0};
    uint8_t room[512];
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (!name || !*name || wire_delete_size(&frame) > sizeof room)
        return manta_error_set(reterr, MANTA_EINVALID, "an application's name has 1 to 400 bytes");
    struct control_question question = {
        .type = WIRE_DELETE_FRAME,
        .frame = bytes_of(room, wire_delete_write(&frame, 0, 0, false, room))};
    int code = instance_ask(instance, &question, &error);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}

int manta_status(struct manta_instance *instance, struct manta_pack *pack,
                 struct manta_error *reterr)
{
    struct wire_status frame = {.detail = 1};
    struct error error = {0};
    uint8_t room[64];
    struct control_question question = {.type = WIRE_STATUS_FRAME};
    struct manta_pack found = {0};
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    text_init(&found.document, PACK_LIMIT);
    question.frame = bytes_of(room, wire_status_write(&frame, 0, 0, false, room));
    int code = control_ask(instance->place.controller_socket, &question,
                           control_now_ns() + STATUS_WAIT_MS * 1000000LL, &found.document, &error);
    if (code == 0 && found.document.failed)
        code = error_set(&error, ERROR_MEMORY, "no memory for the status");
    /* What the caller had stays if this fails. */
    struct manta_pack spare = code < 0 ? found : *pack;
    if (code == 0)
        *pack = found;
    text_done(&spare.document);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}

/* ---- handles
 * ------------------------------------------------------------------------------------------------
 */

struct find {
    struct runtime *runtime;
    struct bytes app, deployment;
};

static bool is_known(void *owner)
{
    struct find *find = owner;
    const struct router *router = dispatch_router(find->runtime->dispatch);
    struct deployment_id id;
    if (find->runtime->closed)
        return true;
    return find->deployment.size ? router_find_deployment(router, find->app, find->deployment, &id)
                                 : router_find_app(router, find->app, &id);
}

/* An application that has just been deployed is at most one snapshot away. */
static int await_known(struct find *find, struct error *reterr)
{
    struct runtime *runtime = find->runtime;
    bool nested = runtime_enter(runtime);
    int code = runtime_dispatch(runtime, reterr) ? 0 : reterr->code;
    if (code == 0 && !is_known(find) &&
        (nested || !helm_wait(runtime->helm, is_known, find,
                              loop_refresh_now_ns(runtime->loop) + 1000000000)))
        code = error_set(reterr, ERROR_NOT_FOUND, "there is no %s '%.*s' in application '%.*s'",
                         find->deployment.size ? "deployment" : "ingress",
                         BYTES_PRINT(find->deployment), BYTES_PRINT(find->app));
    runtime_leave(runtime, nested);
    return code;
}

int manta_get_deployment_handle(struct manta_instance *instance, const char *app,
                                const char *deployment, struct manta_handle **ret_handle,
                                struct manta_error *reterr)
{
    struct error error = {0};
    struct find find = {.runtime = instance->runtime,
                        .app = bytes_of_string(app),
                        .deployment = bytes_of_string(deployment)};
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (await_known(&find, &error) < 0)
        return runtime_error(reterr, &error);
    struct manta_handle *handle = handle_new(instance->runtime, find.app, find.deployment);
    if (!handle)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a handle");
    *ret_handle = handle;
    return 0;
}

int manta_get_app_handle(struct manta_instance *instance, const char *app,
                         struct manta_handle **ret_handle, struct manta_error *reterr)
{
    return manta_get_deployment_handle(instance, app, "", ret_handle, reterr);
}

const char *manta_version(void)
{
    return MANTA_VERSION;
}
