/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door: from the taker to user code and back.
 *
 *     take the helm -> taker_take? -> give the helm, user code, take the helm -> ...
 *                         | nothing is due: flush, then wait, which means steering the loop
 *
 * With one thread the same thread reads the request, runs it and writes the answer: no hand-over
 * between threads.  While user code runs longer than a moment the helm's standby thread steers:
 * pings, rejections, cancels and drains go on (helm.h).
 */
#include "door.h"

#include <time.h>

#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "request_inner.h"

static const int64_t FLUSH_NS = 50000; /* an answer waits at most so long for others */

static _Thread_local struct manta_taker *door_waits; /* this thread's, once it waits for work */
static _Thread_local struct manta_taker *door_keeps; /* whose answers wait for a flush */
static _Thread_local struct manta_taker *door_held;  /* whose calls do, too */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static struct helm *helm_of(const struct manta_taker *taker)
{
    return taker->replica.runtime->helm;
}

struct manta_taker *door_of(struct manta_replica *replica)
{
    return (struct manta_taker *)((char *)replica - offsetof(struct manta_taker, replica));
}

/* ---- sending
 * ------------------------------------------------------------------------------------ */

static void send_all(struct manta_taker *taker)
{
    taker->unflushed_ns = 0;
    channel_set_flush(&taker->replica.runtime->channels);
}

void door_flush(struct manta_replica *replica)
{
    struct manta_taker *taker = door_of(replica);
    ensure(helm_held(replica->runtime->helm));
    if (door_keeps == taker)
        return;
    if (door_waits == taker && taker->average_ns < FLUSH_NS) {
        int64_t now = clock_ns();
        if (!taker->unflushed_ns)
            taker->unflushed_ns = now;
        if (now - taker->unflushed_ns < FLUSH_NS)
            return;
    }
    send_all(taker);
}

void manta_taker_hold(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    door_keeps = door_held = taker;
    loop_turn_again(taker->replica.runtime->loop); /* the attendant is rung, or the standby turns */
    runtime_leave(taker->replica.runtime, nested);
}

bool door_holds(const struct runtime *runtime)
{
    return door_held && door_held->replica.runtime == runtime;
}

void manta_taker_flush(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    door_keeps = door_held = NULL;
    send_all(taker);
    runtime_leave(taker->replica.runtime, nested);
}

/* ---- user code runs
 * ----------------------------------------------------------------------------- */

/* The oldest running user code, for pongs. */
static void note_running(struct manta_taker *taker)
{
    int64_t oldest = 0;
    struct list_link *link;
    list_each (link, &taker->threads) {
        int64_t since = list_entry(link, struct manta_taker_thread, link)->since_ns;
        if (since && (!oldest || since < oldest))
            oldest = since;
    }
    taker_running(taker->replica.taker, oldest);
}

void door_thread_begin(struct manta_taker_thread *thread)
{
    ensure(!thread->since_ns);
    thread->since_ns = clock_ns();
    note_running(thread->taker);
    helm_enter_user_code(helm_of(thread->taker));
}

void door_thread_end(struct manta_taker_thread *thread)
{
    struct manta_taker *taker = thread->taker;
    ensure(thread->since_ns);
    helm_leave_user_code(helm_of(taker));
    taker->average_ns += (clock_ns() - thread->since_ns - taker->average_ns) / 8;
    thread->since_ns = 0;
    note_running(taker);
    for (uint32_t i = 0; i < thread->count; i++)
        taker_returned(taker->replica.taker, thread->ids[i]);
    thread->count = 0;
    if (thread->batched) {
        taker_batch_done(taker->replica.taker);
        metric_add(replica_batches_total, 1);
    }
    thread->batched = false;
}

void manta_taker_enter(struct manta_taker_thread *thread)
{
    bool nested = runtime_enter(thread->taker->replica.runtime);
    door_thread_begin(thread);
    runtime_leave(thread->taker->replica.runtime, nested);
}

void manta_taker_leave(struct manta_taker_thread *thread)
{
    bool nested = runtime_enter(thread->taker->replica.runtime);
    door_thread_end(thread);
    runtime_leave(thread->taker->replica.runtime, nested);
}

/* ---- taking
 * ------------------------------------------------------------------------------------- */

/* Turns taken requests into public ones; those that do not fit into memory are answered here. */
static uint32_t prepare(struct manta_taker *taker, struct taker_request **taken, uint32_t count,
                        struct manta_request **requests)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct manta_request *request = request_new(&taker->replica, taken[i]);
        if (request)
            requests[ready++] = request;
        else
            taker_answer(taker->replica.taker, taken[i],
                         &(struct taker_answer){
                             .code = ERROR_MEMORY, .status = 503, .text = BYTES("no memory")});
    }
    metric_add(replica_requests_total, ready);
    return ready;
}

struct work {
    struct manta_taker *taker;
    struct taker_request **taken;
    uint32_t room, count;
    bool batched;
    bool configures; /* a new configuration ends the wait, too */
};

/* Takes at once when something is due, so that a waiting thread comes back with its work. */
static bool take(void *owner)
{
    struct work *work = owner;
    if (work->configures && door_configure_due(work->taker))
        return true;
    if (!work->count && !work->taker->stopping)
        work->count =
            taker_take(work->taker->replica.taker, work->taken, work->room, &work->batched);
    return work->count > 0 || work->taker->stopping;
}

/* Waits for work; false when the time is over. */
static bool await(struct work *work, double timeout_s)
{
    work->count = 0;
    if (take(work))
        return true;
    send_all(work->taker);
    return helm_wait(helm_of(work->taker), take, work,
                     runtime_due_ns(work->taker->replica.runtime, timeout_s));
}

static uint32_t thread_take(struct manta_taker_thread *thread, struct manta_request **requests,
                            uint32_t room, double timeout_s, struct error *reterr)
{
    struct manta_taker *taker = thread->taker;
    struct work work = {.taker = taker, .taken = thread->taken, .room = room, .configures = true};
    while (!taker->stopping) {
        if (!await(&work, timeout_s)) {
            error_set(reterr, ERROR_TIMEOUT, "no work came in %g s", timeout_s);
            return 0;
        }
        if (!work.count && door_configure_due(taker)) {
            door_configure_run(thread);
            continue;
        }
        uint32_t count = prepare(taker, thread->taken, work.count, requests);
        if (!count) {
            if (work.batched && work.count)
                taker_batch_done(taker->replica.taker);
            continue;
        }
        for (uint32_t i = 0; i < count; i++)
            thread->ids[i] = requests[i]->taken->id;
        thread->count = count;
        thread->batched = work.batched;
        return count;
    }
    return 0;
}

size_t manta_taker_wait(struct manta_taker_thread *thread, struct manta_request **ret_requests,
                        size_t room, bool *ret_batched, double timeout_s,
                        struct manta_error *reterr)
{
    struct manta_taker *taker = thread->taker;
    struct error error = {0};
    if (helm_held(helm_of(taker))) {
        manta_error_set(reterr, MANTA_EINVALID, "a callback may not wait");
        return 0;
    }
    door_waits = taker;
    helm_take(helm_of(taker));
    if (thread->since_ns)
        door_thread_end(thread);
    uint32_t limit = room < MANTA_TAKER_ROOM ? (uint32_t)room : MANTA_TAKER_ROOM;
    uint32_t count = thread_take(thread, ret_requests, limit, timeout_s, &error);
    if (count) {
        *ret_batched = thread->batched;
        door_thread_begin(thread);
    } else {
        send_all(taker);
    }
    helm_give(helm_of(taker));
    if (error.code)
        runtime_error(reterr, &error);
    return count;
}

struct manta_taker_thread *manta_taker_thread_new(struct manta_taker *taker)
{
    struct manta_taker_thread *thread = mem_try(sizeof *thread);
    if (!thread)
        return NULL;
    thread->taker = taker;
    bool nested = runtime_enter(taker->replica.runtime);
    list_push_back(&taker->threads, &thread->link);
    runtime_leave(taker->replica.runtime, nested);
    return thread;
}

struct manta_taker_thread *manta_taker_thread_free(struct manta_taker_thread *thread)
{
    if (!thread)
        return NULL;
    struct runtime *runtime = thread->taker->replica.runtime;
    bool nested = runtime_enter(runtime);
    if (thread->since_ns)
        door_thread_end(thread);
    list_remove(&thread->link);
    if (door_waits == thread->taker)
        door_waits = NULL;
    runtime_leave(runtime, nested);
    return mem_free(thread);
}

size_t manta_taker_take(struct manta_taker *taker, struct manta_request **ret_requests, size_t room,
                        bool *ret_batched)
{
    struct taker_request *taken[MANTA_TAKER_ROOM];
    struct work work = {.taker = taker, .taken = taken};
    uint32_t count = 0;
    work.room = room < MANTA_TAKER_ROOM ? (uint32_t)room : MANTA_TAKER_ROOM;
    bool nested = runtime_enter(taker->replica.runtime);
    while (!count) {
        work.count = 0;
        if (!take(&work) || !work.count)
            break;
        count = prepare(taker, taken, work.count, ret_requests);
        if (!count && work.batched)
            taker_batch_done(taker->replica.taker);
    }
    if (count) {
        door_keeps = taker;
        *ret_batched = work.batched;
    }
    runtime_leave(taker->replica.runtime, nested);
    return count;
}

uint64_t manta_taker_number(const struct manta_request *request)
{
    return request->taken->id;
}

const char *manta_taker_method(const struct manta_request *request, size_t *ret_length)
{
    *ret_length = request->taken->method.size;
    return (const char *)request->taken->method.at;
}

void manta_taker_returned(struct manta_taker *taker, uint64_t number)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker_returned(taker->replica.taker, number);
    runtime_leave(taker->replica.runtime, nested);
}

void manta_taker_batch_returned(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker_batch_done(taker->replica.taker);
    metric_add(replica_batches_total, 1);
    runtime_leave(taker->replica.runtime, nested);
}

void manta_taker_set_owner(struct manta_request *request, void *owner)
{
    request->owner = owner;
}

void *manta_taker_owner(const struct manta_request *request)
{
    return request->owner;
}

/* ---- events
 * ------------------------------------------------------------------------------------- */

/* Fills in the public event, and does what is due whoever is told; false: it is of no request any
 * more. */
static bool act(struct manta_taker *taker, const struct taker_event *event,
                struct manta_taker_event *ret_event)
{
    struct manta_request *request = event->request ? event->request->owner : NULL;
    *ret_event = (struct manta_taker_event){.request = request};
    taker->replica.told = request;
    if (request)
        ret_event->owner = request->owner;
    switch (event->type) {
    case TAKER_CANCELLED:
        ret_event->type = MANTA_TAKER_CANCELLED;
        if (request)
            request_on_cancelled(request);
        break;
    case TAKER_ROOM:
        ret_event->type = MANTA_TAKER_HAS_ROOM;
        if (request)
            request_on_room(request);
        break;
    case TAKER_BODY:
        ret_event->type = MANTA_TAKER_BODY;
        if (request)
            request_on_body(request);
        break;
    case TAKER_CONFIGURE:
        ret_event->type = MANTA_TAKER_CONFIGURE;
        door_configure(taker, event->body, ret_event);
        break;
    case TAKER_DRAINED:
        ret_event->type = MANTA_TAKER_DRAINED;
        taker->stopping = true;
        break;
    default:
        break;
    }
    ret_event->request = taker->replica.told;
    taker->replica.told = NULL;
    return !event->request || request;
}

void door_wake(void *owner)
{
    struct manta_taker *taker = owner;
    struct taker_event event;
    struct manta_taker_event told;
    if (taker->leader->turning != taker) /* else the one behind the turn looks for itself alone */
        door_ring(taker);
    while (!taker->events && taker_next(taker->replica.taker, &event))
        act(taker, &event, &told);
    helm_changed(helm_of(taker));
}

bool manta_taker_next(struct manta_taker *taker, struct manta_taker_event *ret_event)
{
    struct taker_event event;
    bool found = false;
    bool nested = runtime_enter(taker->replica.runtime);
    while (!found && taker->events && taker_next(taker->replica.taker, &event))
        found = act(taker, &event, ret_event);
    if (found)
        helm_changed(helm_of(taker));
    runtime_leave(taker->replica.runtime, nested);
    return found;
}

bool manta_taker_ended(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    bool stopping = taker->stopping;
    runtime_leave(taker->replica.runtime, nested);
    return stopping;
}

void manta_taker_stop(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker->stopping = true;
    helm_changed(helm_of(taker));
    runtime_leave(taker->replica.runtime, nested);
}
