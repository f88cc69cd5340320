/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime: life of a process's share of an instance, and the pump of its dispatch's events.
 *
 * The events of the dispatch are pulled at the end of each turn of the loop by whoever steers, and
 * by the thread that submits a call (a refusal is known at once).  What an event means is the
 * call's business (call.c).
 */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <manta/error.h>

#include "call.h"
#include "ensure.h"
#include "forks.h"
#include "mem.h"
#include "parcel.h"
#include "shared.h"
#include "wire.h"

static void runtime_turn(void *owner)
{
    runtime_pull(owner);
}

static void runtime_wake(void *owner)
{
    (void)owner; /* every turn pulls, and so does every submitter */
}

static uint64_t runtime_seed(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)now.tv_sec;
}

struct runtime *runtime_new(const char *controller_socket, uint8_t role, const char *name,
                            struct error *reterr)
{
    struct runtime *runtime = mem_try(sizeof *runtime);
    if (!runtime) {
        error_set(reterr, ERROR_MEMORY, "no memory for a runtime");
        return NULL;
    }
    atomic_init(&runtime->references, 1);
    list_init(&runtime->calls);
    runtime->role = role;
    runtime->forks = forks_seen();
    snprintf(runtime->name, sizeof runtime->name, "%s", name);
    snprintf(runtime->controller_socket, sizeof runtime->controller_socket, "%s",
             controller_socket);
    settings_init(&runtime->settings);
    if (settings_read_environment(&runtime->settings, (const char *(*)(const char *))getenv,
                                  reterr) < 0)
        goto fail;
    runtime->loop = loop_new();
    runtime->helm = runtime->loop ? helm_new(runtime->loop) : NULL;
    struct channel_config config = {.frame_limit = (size_t)runtime->settings.wire_frame_limit,
                                    .queue_limit = (size_t)runtime->settings.wire_queue_limit,
                                    .turn_limit = (size_t)runtime->settings.wire_turn_limit,
                                    .buffer_keep = 16};
    if (!runtime->helm || channel_set_init(&runtime->channels, runtime->loop, &config) < 0) {
        error_set(reterr, ERROR_SYSTEM, "no event loop: descriptors or memory are exhausted");
        goto fail;
    }
    runtime->turn = (struct loop_turn){.turn = runtime_turn, .owner = runtime};
    helm_take(runtime->helm);
    loop_turn_add(runtime->loop, &runtime->turn);
    runtime->desk = parcel_desk_ref(&runtime->channels, &runtime->settings);
    if (runtime->desk)
        shared_use_pool(parcel_desk_slots(runtime->desk));
    helm_give(runtime->helm);
    if (!runtime->desk) {
        error_set(reterr, ERROR_MEMORY, "no memory for a runtime");
        goto fail;
    }
    return runtime;
fail:
    runtime_unref(runtime);
    return NULL;
}

bool runtime_is_foreign(const struct runtime *runtime)
{
    return runtime->forks != forks_seen();
}

struct runtime *runtime_ref(struct runtime *runtime)
{
    atomic_fetch_add(&runtime->references, 1);
    return runtime;
}

struct runtime *runtime_unref(struct runtime *runtime)
{
    if (!runtime || atomic_fetch_sub(&runtime->references, 1) != 1)
        return NULL;
    ensure(list_empty(&runtime->calls)); /* a call holds a reference */
    if (runtime->helm) {
        helm_take(runtime->helm);
        runtime->dispatch = dispatch_free(runtime->dispatch);
        if (runtime->desk)
            shared_leave_pool(parcel_desk_slots(runtime->desk));
        runtime->desk = parcel_desk_unref(runtime->desk);
        if (runtime->turn.turn)
            loop_turn_remove(&runtime->turn);
        if (runtime->channels.loop)
            channel_set_done(&runtime->channels);
        helm_give(runtime->helm);
        helm_free(runtime->helm);
    }
    loop_free(runtime->loop);
    return mem_free(runtime);
}

void runtime_drop(struct runtime *runtime)
{
    unsigned before = atomic_fetch_sub(&runtime->references, 1);
    ensure(before > 1);
}

struct dispatch *runtime_dispatch(struct runtime *runtime, struct error *reterr)
{
    ensure(helm_held(runtime->helm));
    if (runtime->closed) {
        error_set(reterr, ERROR_CLOSED, "the instance is shut down");
        return NULL;
    }
    if (!runtime->dispatch) {
        struct dispatch_config config = {.loop = runtime->loop,
                                         .channels = &runtime->channels,
                                         .settings = &runtime->settings,
                                         .controller_socket = runtime->controller_socket,
                                         .role = WIRE_ROLE_HANDLE,
                                         .name = runtime->name,
                                         .seed = runtime_seed(),
                                         .takes_parcels = true,
                                         .wake = runtime_wake,
                                         .owner = runtime};
        runtime->dispatch = dispatch_new(&config, reterr);
    }
    return runtime->dispatch;
}

bool runtime_enter(struct runtime *runtime)
{
    if (helm_held(runtime->helm))
        return true;
    helm_take(runtime->helm);
    return false;
}

void runtime_leave(struct runtime *runtime, bool nested)
{
    if (!nested)
        helm_give(runtime->helm);
}

void runtime_pull(struct runtime *runtime)
{
    struct dispatch_event event;
    if (!runtime->dispatch || runtime->pulling)
        return;
    runtime->pulling = true;
    while (dispatch_next(runtime->dispatch, &event))
        if (event.owner)
            call_event(event.owner, &event);
    runtime->pulling = false;
    helm_changed(runtime->helm);
}

void runtime_close(struct runtime *runtime)
{
    struct list_link *link;
    ensure(helm_held(runtime->helm));
    runtime->closed = true;
    while ((link = list_first(&runtime->calls)))
        call_close(list_entry(link, struct manta_call, link));
    helm_changed(runtime->helm); /* somebody may wait for a snapshot */
}

int64_t runtime_due_ns(struct runtime *runtime, double timeout_s)
{
    if (!(timeout_s >= 0 && timeout_s <= 1e9))
        return 0;
    return loop_refresh_now_ns(runtime->loop) + (int64_t)(timeout_s * 1e9) + 1;
}

int runtime_error(struct manta_error *reterr, const struct error *error)
{
    if (reterr) {
        reterr->code = error->code;
        snprintf(reterr->text, sizeof reterr->text, "%s", error->text);
    }
    return error->code;
}
