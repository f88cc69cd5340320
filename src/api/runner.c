/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner: threads that take requests and call the deployment's entry points.
 *
 * How a thread waits, and what goes on while it is in user code, is the taker's affair
 * (<manta/sys/taker.h>); here it is only chosen what is called.
 */
#include "runner.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "helm.h"
#include <manta/websocket.h>
#include "mem.h"

static manta_call_function *find_method(const struct runner *runner, struct bytes method)
{
    const struct manta_deployment *deployment = &runner->deployment;
    for (size_t i = 0; i < deployment->method_count; i++)
        if (bytes_equal(method, bytes_of_string(deployment->methods[i].name)))
            return deployment->methods[i].call;
    return NULL;
}

/* What a caller of an unknown method is told: the ones that exist. */
static void refuse_method(struct runner *runner, struct manta_request *request)
{
    char names[256] = "__call__";
    size_t size = strlen(names);
    for (size_t i = 0; i < runner->deployment.method_count && size < sizeof names; i++)
        size += (size_t)snprintf(names + size, sizeof names - size, ", %s",
                                 runner->deployment.methods[i].name);
    manta_request_fail(request, MANTA_ENOTFOUND, "deployment '%s' has no method '%s'; it has: %s",
                       manta_replica_deployment(runner->replica), manta_request_method(request),
                       names);
}

static void take_websocket(struct runner *runner, struct manta_request *request)
{
    static const char TEXT[] = "this deployment takes no websockets";
    if (runner->deployment.websocket)
        runner->deployment.websocket(runner->state, request);
    else
        manta_request_reply_http(request, 501, "text/plain; charset=utf-8", TEXT, sizeof TEXT - 1);
}

static void call_one(struct runner *runner, struct manta_request *request)
{
    manta_call_function *call = runner->deployment.call;
    if (manta_request_is_websocket(request)) {
        take_websocket(runner, request);
        return;
    }
    if (!manta_request_is_http(request)) {
        size_t length;
        const char *at = manta_taker_method(request, &length);
        struct bytes method = bytes_of(at, length);
        if (!bytes_equal(method, BYTES("__call__"))) {
            call = find_method(runner, method);
            if (!call) {
                refuse_method(runner, request);
                return;
            }
        }
    }
    if (call)
        call(runner->state, request);
    else
        runner->deployment.call_batch(runner->state, &request, 1);
}

static void serve_on(struct runner_thread *thread)
{
    struct runner *runner = thread->runner;
    size_t room = runner->document.max_batch_size > 1 ? (size_t)runner->document.max_batch_size : 1;
    size_t count;
    bool batched;
    while ((count = manta_taker_wait(thread->taker_thread, thread->requests, room, &batched, -1,
                                     NULL)) > 0) {
        if (batched)
            runner->deployment.call_batch(runner->state, thread->requests, count);
        else
            call_one(runner, thread->requests[0]);
    }
}

static void *thread_main(void *owner)
{
    struct runner_thread *thread = owner;
    serve_on(thread);
    thread->taker_thread = manta_taker_thread_free(thread->taker_thread);
    return NULL;
}

static bool make_threads(struct runner *runner)
{
    runner->thread_count = (uint32_t)runner->document.threads;
    runner->threads = mem_try(runner->thread_count * sizeof *runner->threads);
    for (uint32_t i = 0; runner->threads && i < runner->thread_count; i++) {
        runner->threads[i].runner = runner;
        runner->threads[i].taker_thread = manta_taker_thread_new(runner->taker);
        if (!runner->threads[i].taker_thread)
            return false;
    }
    return runner->threads != NULL;
}

static void free_threads(struct runner *runner)
{
    for (uint32_t i = 0; runner->threads && i < runner->thread_count; i++)
        manta_taker_thread_free(runner->threads[i].taker_thread);
    runner->threads = mem_free(runner->threads);
}

static uint32_t start_threads(struct runner *runner)
{
    uint32_t started = 1;
    sigset_t before;
    helm_block_signals(&before);
    for (; started < runner->thread_count; started++)
        if (pthread_create(&runner->threads[started].thread, NULL, thread_main,
                           &runner->threads[started]))
            break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

int runner_serve(struct runner *runner, struct error *reterr)
{
    int code = 0;
    if (!make_threads(runner)) {
        free_threads(runner);
        return error_set(reterr, ERROR_MEMORY, "no memory for %u threads", runner->thread_count);
    }
    uint32_t started = start_threads(runner);
    if (started < runner->thread_count) {
        code = error_set(reterr, ERROR_SYSTEM, "only %u of %u threads could be started", started,
                         runner->thread_count);
        manta_taker_stop(runner->taker);
    }
    serve_on(&runner->threads[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(runner->threads[i].thread, NULL);
    free_threads(runner);
    return code;
}
