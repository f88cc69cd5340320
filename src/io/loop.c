/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: turns over libuv.
 *
 * libuv waits and tells which descriptors are ready (uv_poll); everything else of a turn is ours:
 * the clock in nanoseconds, read once when the wait is over; the timers (loop_timer.c); the turn
 * functions at the end.
 *
 *     run_turn:  tell libuv about changed watches -> wait -> ready functions -> timers -> turn
 * functions
 *
 * Watches.  libuv closes a handle asynchronously, but the owner of a watch may vanish right after
 * loop_watch_close.  So the uv_poll_t lives in a watch_handle of ours, which is cut from its watch
 * at once, given to libuv to close, and reused for another watch afterwards.  Changes of events are
 * kept until the end of the turn, since uv_poll_start costs two epoll_ctl each time and many
 * changes are undone within a turn.
 *
 * Time.  libuv has no hook between its wait and the first ready function, so the first one of a
 * turn reads the clock.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "ensure.h"
#include "loop_inside.h"
#include "mem.h"

enum { NS_PER_MS = 1000000 };

struct watch_handle {
    uv_poll_t poll;
    struct list_link link; /* on free_handles or changed, or on none */
    struct loop *loop;
    struct loop_watch *watch; /* null once closed */
    int applied;              /* the events that libuv waits for */
};

struct signal_handle {
    uv_signal_t signal;
    struct list_link link;
    struct loop *loop;
    void (*fire)(void *owner, int signal_number);
    void *owner;
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* ---- life ---- */

static void do_nothing_async(uv_async_t *handle)
{
}

/*
 * Its due timers are fired by run_turn, whatever ended the wait.  libuv looks at its timers before
 * it waits, too: an alarm that rings there must keep it from waiting, for nothing would end that
 * wait.
 */
static void alarm_rang(uv_timer_t *handle)
{
    struct loop *loop = handle->data;
    loop->alarm_due_ns = 0;
    uv_stop(&loop->uv);
}

struct loop *loop_new(void)
{
    struct loop *loop = mem_try(sizeof(*loop));
    if (!loop)
        return NULL;
    if (uv_loop_init(&loop->uv) != 0)
        return mem_free(loop);
    if (uv_async_init(&loop->uv, &loop->wake, do_nothing_async) != 0) {
        uv_loop_close(&loop->uv);
        return mem_free(loop);
    }
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->alarm.data = loop;
    loop->now_ns = clock_ns(CLOCK_MONOTONIC);
    loop->waited_due_ns = INT64_MAX;
    list_init(&loop->free_handles);
    list_init(&loop->changed);
    list_init(&loop->signals);
    list_init(&loop->turns);
    list_init(&loop->last_turns);
    return loop;
}

static void poll_closed(uv_handle_t *handle)
{
    struct watch_handle *watch_handle = handle->data;
    if (watch_handle->loop->freed)
        mem_free(watch_handle);
    else
        list_push_front(&watch_handle->loop->free_handles, &watch_handle->link);
}

static void signal_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void close_left_over(uv_handle_t *handle, void *owner)
{
    if (uv_is_closing(handle))
        return;
    if (handle->type == UV_POLL) {
        struct watch_handle *watch_handle = handle->data;
        list_remove(&watch_handle->link);
        uv_close(handle, poll_closed); /* its owner may be gone already */
    } else if (handle->type == UV_SIGNAL) {
        struct signal_handle *signal_handle = handle->data;
        list_remove(&signal_handle->link);
        uv_close(handle, signal_closed);
    } else {
        uv_close(handle, NULL);
    }
}

struct loop *loop_free(struct loop *loop)
{
    if (!loop)
        return NULL;
    loop->freed = true;
    uv_walk(&loop->uv, close_left_over, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    ensure(uv_loop_close(&loop->uv) == 0);

    struct list_link *link;
    while ((link = list_pop_front(&loop->free_handles)) != NULL)
        mem_free(list_entry(link, struct watch_handle, link));
    mem_free(loop->timers.at);
    return mem_free(loop);
}

/* ---- turns ---- */

static void begin_turn(struct loop *loop)
{
    int64_t before_ns = loop->now_ns;
    const struct loop_timer *first = timer_heap_first(&loop->timers);

    loop->begun = true;
    loop->now_ns = clock_ns(CLOCK_MONOTONIC);
    loop->late_ns = 0;
    if (first) {
        /* A timer that was set to the past was due when it was set, not before. */
        int64_t due_ns = first->due_ns > before_ns ? first->due_ns : before_ns;
        if (loop->now_ns > due_ns)
            loop->late_ns = loop->now_ns - due_ns;
    }
}

static void set_alarm(struct loop *loop)
{
    const struct loop_timer *first = timer_heap_first(&loop->timers);
    int64_t due_ns = first ? first->due_ns : 0;
    if (due_ns == loop->alarm_due_ns)
        return;
    loop->alarm_due_ns = due_ns;
    if (due_ns == 0) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    /* libuv's milliseconds are those of CLOCK_MONOTONIC too. */
    uint64_t due_ms = ((uint64_t)due_ns + NS_PER_MS - 1) / NS_PER_MS, now_ms = uv_now(&loop->uv);
    uv_timer_start(&loop->alarm, alarm_rang, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void fire_timers(struct loop *loop)
{
    struct loop_timer *timer;
    /* One that sets itself to the past again waits for the next turn. */
    uint64_t newest = loop->timer_order;
    while ((timer = timer_heap_first(&loop->timers)) != NULL && timer->due_ns <= loop->now_ns) {
        if (timer->order > newest) {
            loop->again = true;
            break;
        }
        timer_heap_remove(&loop->timers, timer);
        timer->fire(timer->owner);
    }
}

static void poll_ready(uv_poll_t *poll, int status, int uv_events);

/* Fails only when another watch has the same descriptor. */
static int apply(struct watch_handle *handle)
{
    int events = handle->watch->events;
    int uv_events =
        (events & LOOP_READ ? UV_READABLE : 0) | (events & LOOP_WRITE ? UV_WRITABLE : 0);
    handle->applied = events;
    return uv_poll_start(&handle->poll, uv_events, poll_ready);
}

static void apply_changes(struct loop *loop)
{
    struct list_link *link;
    while ((link = list_pop_front(&loop->changed)) != NULL) {
        struct watch_handle *handle = list_entry(link, struct watch_handle, link);
        if (handle->applied != handle->watch->events) {
            int rc = apply(handle);
            ensure(rc == 0);
        }
    }
}

static void run_turn(struct loop *loop, bool waits)
{
    apply_changes(loop);
    waits = waits && !loop->again;
    loop->again = false;
    loop->begun = false;
    if (waits)
        set_alarm(loop);
    uv_run(&loop->uv, waits ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    if (!loop->begun)
        begin_turn(loop);
    fire_timers(loop);
    loop_end_turn(loop);
}

static void call_turns(struct loop *loop, struct list *turns)
{
    for (struct list_link *link = turns->head.next; link != &turns->head; link = loop->next_turn) {
        struct loop_turn *turn = list_entry(link, struct loop_turn, link);
        loop->next_turn = link->next;
        turn->turn(turn->owner);
    }
    loop->next_turn = NULL;
}

void loop_end_turn(struct loop *loop)
{
    ensure(!loop->ending_turn);
    loop->ending_turn = true;
    call_turns(loop, &loop->turns);
    call_turns(loop, &loop->last_turns);
    loop->ending_turn = false;
}

void loop_run(struct loop *loop)
{
    loop_turn_again(loop); /* what was put into channels before is flushed by a turn */
    while (!loop->stopped)
        run_turn(loop, true);
    loop->stopped = false;
}

void loop_run_once(struct loop *loop)
{
    run_turn(loop, false);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
    loop_turn_again(loop);
}

void loop_wake(struct loop *loop)
{
    uv_async_send(&loop->wake);
}

void loop_turn_again(struct loop *loop)
{
    if (loop->again)
        return;
    loop->again = true;
    loop->changes++;
}

void loop_turn_add(struct loop *loop, struct loop_turn *turn)
{
    list_push_back(&loop->turns, &turn->link);
    turn->loop = loop;
}

void loop_turn_add_last(struct loop *loop, struct loop_turn *turn)
{
    list_push_back(&loop->last_turns, &turn->link);
    turn->loop = loop;
}

void loop_turn_remove(struct loop_turn *turn)
{
    if (!list_linked(&turn->link))
        return;
    if (turn->loop->next_turn == &turn->link)
        turn->loop->next_turn = turn->link.next;
    list_remove(&turn->link);
}

/* ---- time ---- */

int64_t loop_now_ns(const struct loop *loop)
{
    return loop->now_ns;
}

int64_t loop_wall_ns(const struct loop *loop)
{
    return clock_ns(CLOCK_REALTIME);
}

int64_t loop_refresh_now_ns(struct loop *loop)
{
    return loop->now_ns = clock_ns(CLOCK_MONOTONIC);
}

bool loop_turn_late(const struct loop *loop, int64_t late_ms)
{
    return loop->late_ns >= late_ms * NS_PER_MS;
}

int loop_descriptor(const struct loop *loop)
{
    return uv_backend_fd(&loop->uv);
}

int loop_timeout_ms(struct loop *loop)
{
    const struct loop_timer *first = timer_heap_first(&loop->timers);
    loop->waited_due_ns = first ? first->due_ns : INT64_MAX;
    if (loop->again || !list_empty(&loop->changed) || uv_backend_timeout(&loop->uv) == 0)
        return 0;
    if (!first)
        return -1;
    int64_t wait_ns = first->due_ns - clock_ns(CLOCK_MONOTONIC);
    if (wait_ns <= 0)
        return 0;
    int64_t wait_ms = (wait_ns + NS_PER_MS - 1) / NS_PER_MS;
    return wait_ms < INT32_MAX ? (int)wait_ms : INT32_MAX;
}

uint64_t loop_changes(const struct loop *loop)
{
    return loop->changes;
}

/* ---- watches ---- */

static void poll_ready(uv_poll_t *poll, int status, int uv_events)
{
    struct watch_handle *handle = poll->data;
    struct loop_watch *watch = handle->watch;
    struct loop *loop = handle->loop;
    ensure(watch != NULL); /* libuv calls no closed handle */

    if (!loop->begun)
        begin_turn(loop);
    int events =
        (uv_events & UV_READABLE ? LOOP_READ : 0) | (uv_events & UV_WRITABLE ? LOOP_WRITE : 0);
    events &= watch->events;
    if (status < 0) {
        /* libuv stops a handle whose descriptor has an error; ours stays until its owner closes it.
         */
        events = watch->events ? LOOP_READ | LOOP_WRITE : 0;
        apply(handle);
    }
    if (events)
        watch->ready(watch->owner, events);
}

static void note_change(struct watch_handle *handle)
{
    if (!list_linked(&handle->link))
        list_push_back(&handle->loop->changed, &handle->link);
    handle->loop->changes++;
}

int loop_watch_open(struct loop *loop, struct loop_watch *watch, int descriptor, int events,
                    void (*ready)(void *owner, int events), void *owner)
{
    ensure(!watch->handle && ready && (events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    if (descriptor < 0)
        return -EBADF;

    struct list_link *link = list_pop_front(&loop->free_handles);
    struct watch_handle *handle =
        link ? list_entry(link, struct watch_handle, link) : mem_try(sizeof(*handle));
    if (!handle)
        return -ENOMEM;
    int rc = uv_poll_init(&loop->uv, &handle->poll, descriptor);
    if (rc != 0) {
        list_push_front(&loop->free_handles, &handle->link);
        return rc;
    }
    handle->loop = loop;
    handle->watch = watch;
    handle->applied = 0;
    *watch = (struct loop_watch){.handle = handle,
                                 .descriptor = descriptor,
                                 .events = events,
                                 .ready = ready,
                                 .owner = owner};
    handle->poll.data = handle;
    rc = events ? apply(handle) : 0;
    if (rc != 0) {
        loop_watch_close(watch);
        return rc;
    }
    loop->changes++;
    return 0;
}

void loop_watch_change(struct loop_watch *watch, int events)
{
    ensure(watch->handle && (events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    if (watch->events == events)
        return;
    watch->events = events;
    note_change(watch->handle);
}

void loop_watch_close(struct loop_watch *watch)
{
    struct watch_handle *handle = watch->handle;
    if (!handle)
        return;
    ensure(handle->watch == watch);
    list_remove(&handle->link);
    handle->watch = NULL;
    watch->handle = NULL;
    watch->descriptor = -1;
    uv_close((uv_handle_t *)&handle->poll, poll_closed);
}

/* ---- signals ---- */

static void signal_came(uv_signal_t *signal, int signal_number)
{
    struct signal_handle *handle = signal->data;
    if (!handle->loop->begun)
        begin_turn(handle->loop);
    handle->fire(handle->owner, signal_number);
}

/*
 * The handler writes to a pipe that a forked child shares: a signal for the child would be told to
 * the parent.  So the child has the standard way again for each signal whose handler is still ours.
 */
typedef void signal_handler(int);
static _Atomic(signal_handler *) our_handlers[NSIG]; /* null: none of ours was set */

static _Thread_local sigset_t mask_before_fork;

/* A signal that comes to the child before it has done the below waits. */
static void hold_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &mask_before_fork);
}

static void let_signals(void)
{
    pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}

static void forget_signals_in_child(void)
{
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    struct sigaction now;
    for (int i = 1; i < NSIG; i++)
        if (our_handlers[i] && sigaction(i, NULL, &now) == 0 && now.sa_handler == our_handlers[i])
            sigaction(i, &standard, NULL);
    let_signals();
}

static void watch_forks(void)
{
    pthread_atfork(hold_signals, let_signals, forget_signals_in_child);
}

static void note_handler(int signal_number)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct sigaction now;
    pthread_once(&once, watch_forks);
    if (sigaction(signal_number, NULL, &now) == 0)
        our_handlers[signal_number] = now.sa_handler;
}

int loop_on_signal(struct loop *loop, int signal_number,
                   void (*fire)(void *owner, int signal_number), void *owner)
{
    struct signal_handle *handle = mem_try(sizeof(*handle));
    if (!handle)
        return -ENOMEM;
    handle->loop = loop;
    handle->fire = fire;
    handle->owner = owner;
    int rc = uv_signal_init(&loop->uv, &handle->signal);
    if (rc != 0) {
        mem_free(handle);
        return rc;
    }
    handle->signal.data = handle;
    list_push_back(&loop->signals, &handle->link);
    rc = uv_signal_start(&handle->signal, signal_came, signal_number);
    if (rc != 0) {
        list_remove(&handle->link);
        uv_close((uv_handle_t *)&handle->signal, signal_closed);
        return rc;
    }
    note_handler(signal_number);
    return 0;
}
