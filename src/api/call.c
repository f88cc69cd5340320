/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call: from manta_call to its result.
 *
 * The arguments become one MessagePack array, the dispatch carries it, and its events come back
 * through runtime_pull (call_result.c keeps what they bring).  Waiting means steering the loop on
 * the waiting thread (helm.h).
 */
#include "call.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "door.h"
#include "ensure.h"
#include "forks.h"
#include "mem.h"
#include "message.h"
#include "request_inner.h"
#include "value.h"
#include "wire.h"

static const int64_t SECOND_NS = 1000000000;

enum { FIELDS_LIMIT = 16 << 10 };

/* ---- the end ------------------------------------------------------------------------------------
 */

static void call_release(struct manta_call *call)
{
    call_result_free(call);
    list_remove(&call->link);
    list_remove(&call->parent_link);
    mem_free(call);
}

/* The call may be gone afterwards: `done` may free it. */
static void call_end(struct manta_call *call)
{
    struct runtime *runtime = call->runtime;
    ensure_tag(R1, !call->over);
    call->over = true;
    call->dispatch_call = NULL;
    list_remove(&call->link);
    list_remove(&call->parent_link);
    if (call->background)
        helm_steer_in_background(runtime->helm, false);
    call->background = false;
    helm_changed(runtime->helm);
    if (!call->done)
        return;
    call->in_done = true;
    call->done(call, call->owner);
    call->in_done = false;
    if (call->freed) {
        call_release(call);
        runtime_drop(runtime); /* a runtime with calls that are not over is held by its owner too */
    }
}

static void call_fail(struct manta_call *call, int code, struct bytes text)
{
    if (text.size)
        error_set(&call->error, code, "%.*s", BYTES_PRINT(text));
    else
        error_set(&call->error, code, "%s", error_text(code));
    call_end(call);
}

static void call_give_up(struct manta_call *call, int code, struct bytes text)
{
    if (call->over)
        return;
    if (call->dispatch_call)
        dispatch_cancel(call->dispatch_call, code);
    call_fail(call, code, text);
}

void call_cancel(struct manta_call *call, int code)
{
    call_give_up(call, code, (struct bytes){0});
}

void call_close(struct manta_call *call)
{
    call_give_up(call, ERROR_CLOSED, BYTES("the instance is shut down"));
}

static bool call_has_item(void *owner)
{
    struct manta_call *call = owner;
    return call->over || call->items.length > (call->item_open ? 1 : 0);
}

/* Tells of the first item that can be taken. */
static void call_tell_item(struct manta_call *call, bool had_item)
{
    if (!had_item && call->item_came && call_has_item(call))
        call->item_came(call, call->owner);
}

static void call_on_reply(struct manta_call *call, const struct dispatch_event *event)
{
    call->stream_typed = bytes_equal(event->content_type, BYTES(VALUE_CONTENT_TYPE));
    if (event->end)
        call->dispatch_call = NULL;
    if (!call->stream)
        call_result_keep(call, event);
    else if ((event->body.size || event->parcel) && !call_item_add(call, event, true))
        return;
    if (event->end)
        call_end(call);
    else
        call_tell_item(call, false);
}

static void call_on_part(struct manta_call *call, const struct dispatch_event *event)
{
    bool begins = !call->item_open, had_item = call_has_item(call);
    call->item_open = event->more;
    /* An empty part pays no credit: it may not grow the list. */
    if ((event->body.size || event->more || event->parcel) &&
        !call_item_add(call, event, begins))
        return;
    call_tell_item(call, had_item);
}

void call_event(struct manta_call *call, const struct dispatch_event *event)
{
    switch (event->type) {
    case DISPATCH_REPLY:
        call_on_reply(call, event);
        return;
    case DISPATCH_DATA:
        call_on_part(call, event);
        return;
    case DISPATCH_END:
        call->dispatch_call = NULL;
        if (event->code < 0)
            call_fail(call, event->code, event->text);
        else
            call_end(call);
        return;
    default:
        return;
    }
}

/* ---- the public face ----------------------------------------------------------------------------
 */

static bool call_find_deployment(struct manta_handle *handle, struct dispatch *dispatch,
                                 struct deployment_id *ret_id)
{
    const struct router *router = dispatch_router(dispatch);
    struct bytes app = bytes_of_string(handle->app);
    if (!handle->deployment[0])
        return router_find_app(router, app, ret_id);
    return router_find_deployment(router, app, bytes_of_string(handle->deployment), ret_id);
}

struct snapshot_wait {
    struct manta_handle *handle;
    struct dispatch *dispatch;
    struct deployment_id id;
};

static bool snapshot_has_deployment(void *owner)
{
    struct snapshot_wait *wait = owner;
    return call_find_deployment(wait->handle, wait->dispatch, &wait->id) ||
           wait->handle->runtime->closed;
}

static bool snapshot_came(void *owner)
{
    struct snapshot_wait *wait = owner;
    return router_version(dispatch_router(wait->dispatch)) > 0 || wait->handle->runtime->closed;
}

/* The first call of a process waits for the first snapshot; an application just deployed may be one
 * snapshot away.  Inside a callback nobody waits. */
static int call_resolve(struct manta_handle *handle, struct dispatch *dispatch, bool nested,
                        struct deployment_id *ret_id, struct error *reterr)
{
    struct runtime *runtime = handle->runtime;
    struct snapshot_wait wait = {.handle = handle, .dispatch = dispatch};
    if (!nested && !call_find_deployment(handle, dispatch, &wait.id)) {
        int64_t due = loop_refresh_now_ns(runtime->loop) + 5 * SECOND_NS;
        if (router_version(dispatch_router(dispatch)) == 0)
            helm_wait(runtime->helm, snapshot_came, &wait, due);
        helm_wait(runtime->helm, snapshot_has_deployment, &wait,
                  loop_refresh_now_ns(runtime->loop) + SECOND_NS / 4);
    }
    if (runtime->closed)
        return error_set(reterr, ERROR_CLOSED, "the instance is shut down");
    if (!call_find_deployment(handle, dispatch, ret_id))
        return error_set(reterr, ERROR_UNAVAILABLE,
                         "deployment '%s' of application '%s' is not running", handle->deployment,
                         handle->app);
    return 0;
}

static struct manta_call_options options_of(const struct manta_call_options *given)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    if (given)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    return options;
}

/* The caller's fields as a block, which the dispatch copies. */
static int call_write_fields(const struct manta_call_options *options, uint8_t *room,
                             struct bytes *ret_block, struct error *reterr)
{
    size_t used = 0;
    for (size_t i = 0; i < options->field_count; i++) {
        size_t size = wire_field_write(room + used, FIELDS_LIMIT - used,
                                       bytes_of_string(options->fields[i].name),
                                       bytes_of_string(options->fields[i].value));
        if (!size)
            return error_set(reterr, ERROR_LIMIT, "the fields of a call have more than %d KiB",
                             FIELDS_LIMIT >> 10);
        used += size;
    }
    *ret_block = bytes_of(room, used);
    return 0;
}

static int call_submit(struct manta_call *call, struct manta_handle *handle,
                       const struct manta_call_options *options, struct text *body, bool nested,
                       struct error *reterr)
{
    struct runtime *runtime = call->runtime;
    struct dispatch *dispatch = runtime_dispatch(runtime, reterr);
    uint8_t fields[FIELDS_LIMIT];
    if (!dispatch)
        return reterr->code;
    struct dispatch_request request = {
        .kind = WIRE_KIND_CALL,
        .stream = options->stream,
        .body_whole = true,
        .method = options->method ? bytes_of_string(options->method) : BYTES("__call__"),
        .content_type = BYTES(VALUE_CONTENT_TYPE),
        .request_id = bytes_of_string(options->request_id),
        .model_id = bytes_of_string(options->model_id),
        .deadline_ns = runtime_due_ns(runtime, options->timeout_s),
    };
    if (call_write_fields(options, fields, &request.headers, reterr) < 0 ||
        call_resolve(handle, dispatch, nested, &request.deployment, reterr) < 0)
        return reterr->code;
    /* Nothing waits from here on: the parent cannot end in between. */
    if (options->parent && request_adopt(options->parent, call, &request) < 0)
        return error_set(reterr, ERROR_CANCELLED, "the parent request is cancelled");
    if (message_seal(dispatch_desk(dispatch), body, &request.parcel, reterr) < 0)
        return reterr->code;
    request.body = request.parcel ? (struct bytes){0} : text_bytes(body);
    request.body_size = request.parcel ? request.parcel->size : body->size;
    call->dispatch_call = dispatch_submit(dispatch, &request, call, reterr);
    parcel_unref(request.parcel);
    return call->dispatch_call ? 0 : reterr->code;
}

int manta_call(struct manta_handle *handle, const struct manta_call_options *given,
               const struct manta_arg *args, size_t count, struct manta_call **ret_call,
               struct manta_error *reterr)
{
    struct runtime *runtime = handle->runtime;
    struct error error = {0};
    struct manta_call_options options = options_of(given);
    struct text body;
    if (runtime_is_foreign(runtime))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    struct manta_call *call = mem_try(sizeof *call);
    text_init(&body, UINT32_MAX);
    if (!call || args_write(&body, args, count, &error) < 0) {
        if (!error.code)
            error_set(&error, ERROR_MEMORY, "no memory for the call");
        text_done(&body);
        mem_free(call);
        return runtime_error(reterr, &error);
    }
    bool nested = runtime_enter(runtime);
    *call = (struct manta_call){.runtime = runtime_ref(runtime),
                                .stream = options.stream,
                                .item_came = options.item,
                                .owner = options.owner};
    list_init(&call->items);
    list_push_back(&runtime->calls, &call->link);
    int code = call_submit(call, handle, &options, &body, nested, &error);
    if (code < 0) {
        call_release(call);
        runtime_drop(runtime);
    } else {
        call->done = options.done;
        if (call->done) {
            call->background = true;
            helm_steer_in_background(runtime->helm, true);
        }
        *ret_call = call;
        if (!door_holds(runtime))
            channel_set_flush(&runtime->channels);
        runtime_pull(runtime); /* it may be over already, and freed by `done`, the handle too */
    }
    runtime_leave(runtime, nested);
    text_done(&body);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}

static bool call_is_over(void *owner)
{
    return ((struct manta_call *)owner)->over;
}

/* Waits unless this thread is inside a callback, which would wait for itself. */
static int call_wait(struct manta_call *call, bool nested, bool (*done)(void *), double timeout_s,
                     struct error *reterr)
{
    if (done(call))
        return 0;
    if (nested)
        return error_set(reterr, ERROR_INVALID, "a callback may not wait");
    channel_set_flush(&call->runtime->channels);
    if (!helm_wait(call->runtime->helm, done, call, runtime_due_ns(call->runtime, timeout_s)))
        return error_set(reterr, ERROR_TIMEOUT, "the call is not over after %g s", timeout_s);
    return 0;
}

int manta_call_wait(struct manta_call *call, double timeout_s, struct manta_error *reterr)
{
    struct error error = {0};
    if (runtime_is_foreign(call->runtime))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    bool nested = runtime_enter(call->runtime);
    if (call_wait(call, nested, call_is_over, timeout_s, &error) == 0 && call->error.code)
        error = call->error;
    runtime_leave(call->runtime, nested);
    return error.code ? runtime_error(reterr, &error) : 0;
}

bool manta_call_over(struct manta_call *call)
{
    if (runtime_is_foreign(call->runtime))
        return true;
    bool nested = runtime_enter(call->runtime);
    bool over = call->over;
    runtime_leave(call->runtime, nested);
    return over;
}

const struct manta_value *manta_call_value(const struct manta_call *call)
{
    static const struct manta_value NIL;
    if (runtime_is_foreign(call->runtime))
        return &NIL;
    bool nested = runtime_enter(call->runtime);
    bool over = call->over; /* nothing of it changes any more */
    runtime_leave(call->runtime, nested);
    return over ? &call->value : &NIL;
}

int manta_call_next(struct manta_call *call, double timeout_s, struct manta_value *ret_item,
                    struct manta_error *reterr)
{
    struct error error = {0};
    if (runtime_is_foreign(call->runtime))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    bool nested = runtime_enter(call->runtime);
    int result = -1;
    if (!call->stream)
        error_set(&error, ERROR_INVALID, "the call was made without .stream");
    else if (call_wait(call, nested, call_has_item, timeout_s, &error) == 0)
        result = call_item_take(call, ret_item, &error);
    runtime_leave(call->runtime, nested);
    return error.code ? runtime_error(reterr, &error) : result;
}

void manta_call_cancel(struct manta_call *call)
{
    struct runtime *runtime = call->runtime;
    if (runtime_is_foreign(runtime))
        return;
    bool nested = runtime_enter(runtime);
    call_cancel(call, ERROR_CANCELLED);
    channel_set_flush(&runtime->channels);
    runtime_leave(runtime, nested);
}

struct manta_call *manta_call_free(struct manta_call *call)
{
    if (!call || runtime_is_foreign(call->runtime))
        return NULL;
    struct runtime *runtime = call->runtime;
    bool nested = runtime_enter(runtime);
    if (call->in_done) {
        call->freed = true;
        runtime_leave(runtime, nested);
        return NULL;
    }
    call->done = NULL;
    call_cancel(call, ERROR_CANCELLED);
    call_release(call);
    channel_set_flush(&runtime->channels);
    runtime_leave(runtime, nested);
    if (nested)
        runtime_drop(runtime); /* the call whose callback this is holds one */
    else
        runtime_unref(runtime);
    return NULL;
}

/* ---- handles ------------------------------------------------------------------------------------
 */

static char *copy_name(struct bytes name)
{
    char *copy = mem_try(name.size + 1);
    if (copy && name.size)
        memcpy(copy, name.at, name.size);
    return copy;
}

struct manta_handle *handle_new(struct runtime *runtime, struct bytes app, struct bytes deployment)
{
    struct manta_handle *handle = mem_try(sizeof *handle);
    if (!handle)
        return NULL;
    handle->runtime = runtime_ref(runtime);
    handle->app = copy_name(app);
    handle->deployment = copy_name(deployment);
    return handle->app && handle->deployment ? handle : manta_handle_free(handle);
}

struct manta_handle *manta_handle_free(struct manta_handle *handle)
{
    if (!handle || runtime_is_foreign(handle->runtime))
        return NULL;
    if (helm_held(handle->runtime->helm))
        runtime_drop(handle->runtime);
    else
        runtime_unref(handle->runtime);
    mem_free(handle->app);
    mem_free(handle->deployment);
    return mem_free(handle);
}

const char *manta_handle_application(const struct manta_handle *handle)
{
    return handle->app;
}

const char *manta_handle_deployment(const struct manta_handle *handle)
{
    return handle->deployment;
}
