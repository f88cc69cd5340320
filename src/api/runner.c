/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner: worker threads that take requests and call the deployment's entry points.
 *
 *     take the helm -> taker_take? -> give the helm, user code, take the helm -> ...
 *                         | nothing is due: flush, then wait, which means steering the loop
 *
 * With one thread the same thread reads the request, runs it and writes the answer: no hand-over
 * between threads. While user code runs longer than a moment the helm's standby thread steers:
 * pings, rejections, cancels and drains go on (helm.h).
 */
#include "runner.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "request_inner.h"
#include "runner_health.h"

static const int64_t FLUSH_NS = 50000; /* an answer waits at most so long for others */

static _Thread_local struct runner_thread *runner_this_thread; /* set in workers only */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void runner_flush(struct manta_replica *replica)
{
    ensure(helm_held(replica->runtime->helm));
    if (runner_this_thread && replica->average_ns < FLUSH_NS) {
        int64_t now = clock_ns();
        if (!replica->unflushed_ns)
            replica->unflushed_ns = now;
        if (now - replica->unflushed_ns < FLUSH_NS)
            return;
    }
    replica->unflushed_ns = 0;
    channel_set_flush(&replica->runtime->channels);
}

/* The oldest running user code, for pongs. */
static void runner_note_running(struct manta_replica *replica)
{
    int64_t oldest = 0;
    for (uint32_t i = 0; i < replica->thread_count; i++) {
        int64_t since = replica->threads[i].since_ns;
        if (since && (!oldest || since < oldest))
            oldest = since;
    }
    taker_running(replica->taker, oldest);
}

static manta_call_function *runner_find_method(const struct manta_replica *replica,
                                               struct bytes method)
{
    const struct manta_deployment *deployment = &replica->deployment;
    for (size_t i = 0; i < deployment->method_count; i++)
        if (bytes_equal(method, bytes_of_string(deployment->methods[i].name)))
            return deployment->methods[i].call;
    return bytes_equal(method, BYTES("__call__")) ? deployment->call : NULL;
}

/* What a caller of an unknown method is told: the ones that exist. */
static void runner_refuse_method(struct manta_request *request)
{
    const struct manta_deployment *deployment = &request->replica->deployment;
    struct text names;
    text_init(&names, ERROR_TEXT_SIZE / 2);
    text_add_string(&names, "__call__");
    for (size_t i = 0; i < deployment->method_count; i++)
        text_print(&names, ", %s", deployment->methods[i].name);
    manta_request_fail(request, MANTA_ENOTFOUND, "deployment '%s' has no method '%.*s'; it has: %s",
                       request->replica->name, BYTES_PRINT(request->taken->method),
                       text_string(&names));
    text_done(&names);
}

static void runner_call_one(struct manta_replica *replica, struct manta_request *request)
{
    manta_call_function *call = replica->deployment.call;
    if (request->taken->kind == 0)
        call = runner_find_method(replica, request->taken->method);
    if (call)
        call(replica->state, request);
    else if (bytes_equal(request->taken->method, BYTES("__call__")) || request->taken->kind)
        replica->deployment.call_batch(replica->state, &request, 1);
    else
        runner_refuse_method(request);
}

/* Turns taken requests into public ones; those that do not fit into memory are answered here. */
static uint32_t runner_prepare(struct manta_replica *replica, struct taker_request **taken,
                               uint32_t count, struct manta_request **requests)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct manta_request *request = request_new(replica, taken[i]);
        if (request)
            requests[ready++] = request;
        else
            taker_answer(replica->taker, taken[i],
                         &(struct taker_answer){
                             .code = ERROR_MEMORY, .status = 503, .text = BYTES("no memory")});
    }
    metric_add(replica_requests_total, ready);
    return ready;
}

/* Runs what was taken: helm held on entry and return, not in between. */
static void runner_run(struct runner_thread *thread, struct manta_request **requests,
                       uint32_t count, bool batched)
{
    struct manta_replica *replica = thread->replica;
    int64_t begin = clock_ns();
    for (uint32_t i = 0; i < count; i++)
        thread->ids[i] = requests[i]->taken->id;
    thread->since_ns = begin;
    runner_note_running(replica);
    helm_enter_user_code(replica->runtime->helm);
    helm_give(replica->runtime->helm);
    if (batched)
        replica->deployment.call_batch(replica->state, requests, count);
    else
        runner_call_one(replica, requests[0]);
    helm_take(replica->runtime->helm);
    helm_leave_user_code(replica->runtime->helm);
    thread->since_ns = 0;
    replica->average_ns += (clock_ns() - begin - replica->average_ns) / 8;
    runner_note_running(replica);
    for (uint32_t i = 0; i < count; i++)
        taker_returned(replica->taker, thread->ids[i]);
    if (batched) {
        taker_batch_done(replica->taker);
        metric_add(replica_batches_total, 1);
    }
}

struct runner_work {
    struct manta_replica *replica;
    struct taker_request **taken;
    uint32_t room, count;
    bool batched;
};

/* Takes at once when something is due, so that a waiting thread comes back with its work. */
static bool runner_take(void *owner)
{
    struct runner_work *work = owner;
    if (!work->count && !work->replica->stopping)
        work->count = taker_take(work->replica->taker, work->taken, work->room, &work->batched);
    return work->count > 0 || work->replica->stopping;
}

static void runner_work(struct runner_thread *thread)
{
    struct manta_replica *replica = thread->replica;
    uint32_t room = replica->target.max_batch_size > 1 ? replica->target.max_batch_size : 1;
    struct taker_request **taken = mem_new(room * sizeof(struct taker_request *));
    struct manta_request **requests = mem_new(room * sizeof(struct manta_request *));
    struct runner_work work = {.replica = replica, .taken = taken, .room = room};
    runner_this_thread = thread;
    thread->ids = mem_new(room * sizeof *thread->ids);
    helm_take(replica->runtime->helm);
    while (!replica->stopping) {
        work.count = 0;
        if (!runner_take(&work)) {
            replica->unflushed_ns = 0;
            channel_set_flush(&replica->runtime->channels);
            helm_wait(replica->runtime->helm, runner_take, &work, 0);
        }
        uint32_t count = runner_prepare(replica, taken, work.count, requests);
        if (count)
            runner_run(thread, requests, count, work.batched);
        else if (work.batched && work.count)
            taker_batch_done(replica->taker);
    }
    channel_set_flush(&replica->runtime->channels);
    helm_give(replica->runtime->helm);
    mem_free(taken);
    mem_free(requests);
    mem_free(thread->ids);
}

static void *runner_thread_main(void *owner)
{
    runner_work(owner);
    return NULL;
}

void runner_on_event(struct manta_replica *replica, const struct taker_event *event)
{
    switch (event->type) {
    case TAKER_CANCELLED:
        if (event->request->owner)
            request_on_cancelled(event->request->owner);
        break;
    case TAKER_ROOM:
        if (event->request->owner)
            request_on_room(event->request->owner);
        break;
    case TAKER_DRAINED:
        replica->stopping = true;
        break;
    default:
        break;
    }
    helm_changed(replica->runtime->helm);
}

/* Runs workers on this thread and thread_count - 1 others until the replica is drained. */
int runner_serve(struct manta_replica *replica, struct error *reterr)
{
    uint32_t started = 1;
    sigset_t before;
    replica->threads = mem_new(replica->target.threads * sizeof *replica->threads);
    replica->thread_count = replica->target.threads;
    helm_block_signals(&before);
    for (uint32_t i = 0; i < replica->thread_count; i++)
        replica->threads[i].replica = replica;
    for (; started < replica->thread_count; started++)
        if (pthread_create(&replica->threads[started].thread, NULL, runner_thread_main,
                           &replica->threads[started]))
            break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    int code = 0;
    if (started < replica->thread_count) {
        code = error_set(reterr, ERROR_SYSTEM, "only %u of %u threads could be started", started,
                         replica->thread_count);
        helm_take(replica->runtime->helm);
        replica->stopping = true;
        helm_changed(replica->runtime->helm);
        helm_give(replica->runtime->helm);
    }
    runner_work(&replica->threads[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(replica->threads[i].thread, NULL);
    return code;
}
