/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helm: who steers, who sleeps, who wakes whom.
 *
 * One mutex guards the loop and everything that hangs on it.  `steersman` names who runs turns:
 * nobody, a waiter (a thread in helm_wait), or the standby.  Only the steersman calls loop_run_once
 * and only it waits in the kernel.
 *
 *                       +--------------------- steersman ----------------------+
 *                       |  [lock]  time-out, note of the loop's changes        |
 *                       |  unlock                                              |
 *                       |     poll(loop_descriptor)      others take the helm  |
 *                       |  lock                                                |
 *                       |  loop_run_once; call the waiters that are done       |
 *                       +------------------------------------------------------+
 *
 * Exactly one steersman.  `steersman` is set only with the lock held and only when it is null
 * (steer, stand_in), and cleared only by the thread that set it.  While it waits the lock is free
 * but `steersman` stays set, so nobody else begins; whoever takes the lock meanwhile may touch loop
 * and channels, since poll looks at nothing but the descriptor.
 *
 * No wake-up is lost.  Three kinds of news can come while the steersman waits:
 * 1. From the kernel: poll sees it.
 * 2. A watch, a timer or a turn asked for by another thread: loop_changes then differs from the
 * note taken before the lock was given up.  That thread still holds the lock when it finds out, in
 * helm_give or before it sleeps in helm_wait, and calls loop_wake.  The wake is a counter in the
 * kernel (eventfd) that is only reset by loop_run_once, that is by the steersman with the lock
 * held, after which it takes everything into account. A wake that comes too late, when the
 * steersman was awake anyway, costs one turn.
 * 3. A condition that became true: helm_changed, called with the lock held, calls the waiters whose
 * `done` holds, and wakes the steersman if it is its own. A sleeping waiter is on `waiters` before
 * the lock is released (pthread_cond_wait does both at once), and is called with the lock held: it
 * cannot miss its call.
 *
 * Somebody steers whenever somebody waits.  W: if `waiters` is not empty and nobody steers, then at
 * least one waiter has been called and has not come back from its sleep.  It holds because a thread
 * goes to sleep only while there is a steersman, and because everybody who leaves -- the steersman
 * that stops, and every waiter that returns from helm_wait while nobody steers -- calls hand_over,
 * which calls a waiter (the heir), or the standby when there is background work.  A called waiter
 * that finds its condition true, or its time over, returns and so hands over; else it steers if
 * nobody does.
 *
 * The standby.  Steers for those who are in user code and cannot.  It looks every HELM_STANDBY_MS
 * as long as user code is entered, and steers when somebody is inside and nobody has begun to steer
 * since its last look.  Then it is the lesser steersman: a waiter that comes wakes it, and it hands
 * over after its turn -- a thread that waits for a request should read it itself instead of being
 * called by another thread.  In the background (asynchronous calls are out) it stays: waiters come
 * and go, and two switches for each would cost more than one call.
 *
 * The attendant.  An event loop that is not ours cannot be the steersman: nobody knows when it waits.
 * It is told by a bell of its own (a wake of the loop could be taken away by whoever steers just
 * then) whenever the loop's changes differ from its note of them.  With an attendant the standby
 * never waits in the kernel; at its looks it runs a turn if something is due that nobody attended to.
 *
 * Fairness.  A steersman that never has to wait would take the lock again before a blocked thread
 * has woken up.  So blocked takers are counted, and a steersman that has run a few turns over their
 * heads waits at the turnstile until those that were blocked have had the helm.
 */
#include "helm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "ensure.h"
#include "list.h"
#include "mem.h"

enum {
    TURNS_OVER_HEADS = 4, /* turns that a steersman runs while others are blocked in helm_take */
    NS_PER_MS = 1000000,
    NS_PER_SECOND = 1000000000,
};

/* A thread in helm_wait; lives on its stack. */
struct waiter {
    struct list_link link; /* on helm->waiters while it sleeps */
    pthread_cond_t call;
    bool called; /* since it went to sleep */
    bool (*done)(void *owner);
    void *owner;
};

struct helm {
    struct loop *loop;
    pthread_mutex_t lock;
    _Atomic(const void *) holder; /* mark of the thread that holds `lock` */
    atomic_uint_fast64_t blocked; /* takers that had to wait, ever */
    pthread_condattr_t monotonic;
    pthread_t standby_thread;
    /* Everything below is guarded by `lock`. */
    const void
        *steersman; /* null: nobody steers; else its waiter, or the helm itself for the standby */
    struct waiter *heir;     /* called to steer, not yet awake */
    const void *turner;      /* mark of the thread inside a turn */
    bool polling;            /* the steersman waits in the kernel */
    uint64_t polled_changes; /* loop_changes when it began to */
    struct list waiters;     /* struct waiter, asleep, longest first */
    uint64_t passed;         /* of the blocked takers: came through */
    uint64_t
        pass_target; /* the steersman waits at the turnstile until so many have; 0: it does not */
    uint32_t turns_over_heads;
    pthread_cond_t turnstile;
    pthread_cond_t standby_call;
    bool standby_asleep; /* without a time limit */
    uint32_t inside;     /* threads in user code */
    uint64_t entries;    /* into user code, ever */
    uint64_t spells;     /* times that somebody began to steer */
    uint32_t background; /* helm_steer_in_background */
    bool ends;
    void (*ring)(void *owner); /* wakes the attendant; null: there is none */
    void *ring_owner;
    uint64_t attended_changes; /* loop_changes that the attendant knows of */
};

static _Thread_local char thread_mark;

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * NS_PER_SECOND + at.tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS_PER_SECOND, .tv_nsec = ns % NS_PER_SECOND};
}

/* ---- the lock ---- */

bool helm_held(const struct helm *helm)
{
    return atomic_load_explicit(&helm->holder, memory_order_relaxed) == &thread_mark;
}

static void note_held(struct helm *helm)
{
    atomic_store_explicit(&helm->holder, &thread_mark, memory_order_relaxed);
}

static void note_given(struct helm *helm)
{
    atomic_store_explicit(&helm->holder, NULL, memory_order_relaxed);
}

bool helm_try(struct helm *helm)
{
    ensure(!helm_held(helm));
    if (pthread_mutex_trylock(&helm->lock) != 0)
        return false;
    note_held(helm);
    return true;
}

void helm_take(struct helm *helm)
{
    if (helm_try(helm))
        return;
    atomic_fetch_add(&helm->blocked, 1);
    pthread_mutex_lock(&helm->lock);
    note_held(helm);
    helm->passed++;
    if (helm->pass_target && helm->passed >= helm->pass_target) {
        helm->pass_target = 0;
        pthread_cond_signal(&helm->turnstile);
    }
}

/* The steersman waits for something else than what is wanted now; true once for each difference. */
static bool steersman_is_behind(struct helm *helm)
{
    uint64_t changes = loop_changes(helm->loop);
    if (!helm->polling || changes == helm->polled_changes)
        return false;
    helm->polled_changes = changes;
    return true;
}

/* The attendant waits for something else than what is wanted now: rings, once for each difference. */
static void tell_attendant(struct helm *helm)
{
    uint64_t changes = loop_changes(helm->loop);
    if (!helm->ring || changes == helm->attended_changes)
        return;
    helm->attended_changes = changes;
    helm->ring(helm->ring_owner);
}

void helm_give(struct helm *helm)
{
    ensure(helm_held(helm) && helm->turner != &thread_mark);
    struct loop *loop = helm->loop;
    bool wakes = steersman_is_behind(helm);
    tell_attendant(helm);
    note_given(helm);
    pthread_mutex_unlock(&helm->lock);
    if (wakes)
        loop_wake(loop);
}

/* Sleeps on `call` with the helm given back; false when the time is over (due_ns 0: never). */
static bool sleep_on(struct helm *helm, pthread_cond_t *call, int64_t due_ns)
{
    struct timespec due = timespec_of(due_ns);
    note_given(helm);
    int rc = due_ns ? pthread_cond_timedwait(call, &helm->lock, &due)
                    : pthread_cond_wait(call, &helm->lock);
    note_held(helm);
    return rc != ETIMEDOUT;
}

/* Lets those go first that are blocked in helm_take for several turns. */
static void pass_turnstile(struct helm *helm)
{
    uint64_t blocked = atomic_load(&helm->blocked);
    if (helm->passed >= blocked)
        helm->turns_over_heads = 0;
    else if (++helm->turns_over_heads >= TURNS_OVER_HEADS) {
        helm->turns_over_heads = 0;
        helm->pass_target = blocked;
        while (helm->pass_target)
            sleep_on(helm, &helm->turnstile, 0);
    }
}

/* ---- calls ---- */

static void call(struct waiter *waiter)
{
    waiter->called = true;
    pthread_cond_signal(&waiter->call);
}

static void call_done_waiters(struct helm *helm)
{
    struct list_link *link;
    list_each (link, &helm->waiters) {
        struct waiter *waiter = list_entry(link, struct waiter, link);
        if (!waiter->called && waiter->done(waiter->owner))
            call(waiter);
    }
}

/* Nobody steers: who is to? */
static void hand_over(struct helm *helm)
{
    struct list_link *link;
    ensure(!helm->steersman);
    tell_attendant(helm);
    call_done_waiters(helm);
    if (helm->heir)
        return;
    list_each (link, &helm->waiters) {
        struct waiter *waiter = list_entry(link, struct waiter, link);
        if (!waiter->called) {
            helm->heir = waiter;
            call(waiter);
            return;
        }
    }
    if (list_empty(&helm->waiters) && helm->background > 0 && !helm->ring)
        pthread_cond_signal(&helm->standby_call);
}

/* ---- steering ---- */

static int poll_timeout_ms(struct helm *helm, int64_t due_ns)
{
    int timeout_ms = loop_timeout_ms(helm->loop);
    if (due_ns == 0 || timeout_ms == 0)
        return timeout_ms;
    int64_t wait_ms = (due_ns - now_ns() + NS_PER_MS - 1) / NS_PER_MS;
    if (wait_ms <= 0)
        return 0;
    if (timeout_ms < 0 || wait_ms < timeout_ms)
        timeout_ms = wait_ms < INT32_MAX ? (int)wait_ms : INT32_MAX;
    return timeout_ms;
}

static void run_turn(struct helm *helm)
{
    helm->turner = &thread_mark;
    loop_run_once(helm->loop);
    helm->turner = NULL;
}

/* One turn of the steersman.  The helm is given back while it waits. */
static void steer_turn(struct helm *helm, int64_t due_ns)
{
    int timeout_ms = poll_timeout_ms(helm, due_ns);
    if (timeout_ms != 0) {
        struct pollfd news = {.fd = loop_descriptor(helm->loop), .events = POLLIN};
        helm->polled_changes = loop_changes(helm->loop);
        helm->polling = true;
        note_given(helm);
        pthread_mutex_unlock(&helm->lock);
        poll(&news, 1, timeout_ms); /* whatever it says, the turn finds out */
        pthread_mutex_lock(&helm->lock);
        note_held(helm);
        helm->polling = false;
    }
    pass_turnstile(helm);
    run_turn(helm);
}

static bool is_over(int64_t due_ns)
{
    return due_ns != 0 && now_ns() >= due_ns;
}

/* Until the condition holds or the time is over.  The others learn of theirs from hand_over when
 * this one leaves. */
static bool steer(struct helm *helm, struct waiter *waiter, int64_t due_ns)
{
    bool done;
    helm->steersman = waiter;
    helm->spells++;
    for (;;) {
        steer_turn(helm, due_ns);
        done = waiter->done(waiter->owner);
        if (done || is_over(due_ns))
            break;
        call_done_waiters(helm);
    }
    ensure(helm->steersman == waiter);
    helm->steersman = NULL;
    return done;
}

/* Until it is called or the time is over. */
static void sleep_until_called(struct helm *helm, struct waiter *waiter, int64_t due_ns)
{
    bool standby_steers = helm->steersman == helm;
    ensure(helm->steersman);
    if (steersman_is_behind(helm) || (standby_steers && helm->background == 0 && helm->polling))
        loop_wake(helm->loop);
    waiter->called = false;
    list_push_back(&helm->waiters, &waiter->link);
    while (!waiter->called && sleep_on(helm, &waiter->call, due_ns))
        ;
    list_remove(&waiter->link);
    if (helm->heir == waiter)
        helm->heir = NULL;
}

bool helm_wait(struct helm *helm, bool (*done)(void *owner), void *owner, int64_t due_ns)
{
    struct waiter waiter = {.done = done, .owner = owner};
    ensure(helm_held(helm) && due_ns >= 0);
    if (helm->turner == &thread_mark)
        return done(owner);
    loop_refresh_now_ns(helm->loop);
    helm->turner = &thread_mark;
    loop_end_turn(helm->loop);
    helm->turner = NULL;

    pthread_cond_init(&waiter.call, &helm->monotonic);
    bool is_done = done(owner);
    while (!is_done && !is_over(due_ns)) {
        if (helm->steersman) {
            sleep_until_called(helm, &waiter, due_ns);
            is_done = done(owner);
        } else
            is_done = steer(helm, &waiter, due_ns);
    }
    if (!helm->steersman)
        hand_over(helm);
    pthread_cond_destroy(&waiter.call);
    return is_done;
}

void helm_changed(struct helm *helm)
{
    ensure(helm_held(helm));
    call_done_waiters(helm);
    if (!helm->polling || helm->steersman == helm)
        return;
    const struct waiter *steersman = helm->steersman;
    if (steersman->done(steersman->owner))
        loop_wake(helm->loop);
}

/* ---- the standby ---- */

/* Until a waiter wants to steer itself, or there is nothing to stand in for. */
static void stand_in(struct helm *helm)
{
    helm->steersman = helm;
    helm->spells++;
    do {
        steer_turn(helm, 0);
        call_done_waiters(helm);
    } while (!helm->ends && !helm->ring &&
             (helm->background > 0 || (helm->inside > 0 && list_empty(&helm->waiters))));
    ensure(helm->steersman == helm);
    helm->steersman = NULL;
    hand_over(helm);
}

/* The attendant has not come since the last look: one turn, if there is anything to do. */
static void attend_once(struct helm *helm)
{
    struct pollfd news = {.fd = loop_descriptor(helm->loop), .events = POLLIN};
    if (loop_timeout_ms(helm->loop) != 0 && poll(&news, 1, 0) <= 0)
        return;
    helm->steersman = helm;
    helm->spells++;
    run_turn(helm);
    helm->steersman = NULL;
    hand_over(helm);
}

static bool may_stand_in(const struct helm *helm)
{
    return !helm->ends && !helm->steersman && list_empty(&helm->waiters);
}

static void *stand_by(void *argument)
{
    struct helm *helm = argument;
    uint64_t entries_seen = 0;
    helm_take(helm);
    while (!helm->ends) {
        if (helm->background > 0 && !helm->ring && may_stand_in(helm)) {
            stand_in(helm);
            continue;
        }
        /* One look after the last user code was left finds nothing new, and the clock stops. */
        bool ticks = helm->inside > 0 || helm->entries != entries_seen;
        uint64_t spells = helm->spells;
        entries_seen = helm->entries;
        helm->standby_asleep = !ticks;
        bool called =
            sleep_on(helm, &helm->standby_call, ticks ? now_ns() + HELM_STANDBY_MS * NS_PER_MS : 0);
        helm->standby_asleep = false;
        if (called || helm->inside == 0 || helm->spells != spells || !may_stand_in(helm))
            continue;
        if (helm->ring)
            attend_once(helm);
        else
            stand_in(helm);
    }
    helm_give(helm);
    return NULL;
}

void helm_enter_user_code(struct helm *helm)
{
    ensure(helm_held(helm));
    helm->inside++;
    helm->entries++;
    if (helm->standby_asleep) {
        helm->standby_asleep = false;
        pthread_cond_signal(&helm->standby_call);
    }
}

void helm_leave_user_code(struct helm *helm)
{
    ensure(helm_held(helm) && helm->inside > 0);
    helm->inside--;
}

void helm_steer_in_background(struct helm *helm, bool wanted)
{
    ensure(helm_held(helm) && (wanted || helm->background > 0));
    helm->background += wanted ? 1 : -1;
    if (wanted && !helm->steersman && !helm->ring) /* an attendant steers: it is watching */
        pthread_cond_signal(&helm->standby_call);
}

/* ---- the attendant ---- */

void helm_attend(struct helm *helm, void (*ring)(void *owner), void *owner)
{
    ensure(helm_held(helm));
    helm->ring = ring;
    helm->ring_owner = owner;
    helm->attended_changes = loop_changes(helm->loop);
    if (ring && helm->steersman == helm && helm->polling)
        loop_wake(helm->loop); /* the standby leaves it to the attendant */
    if (!ring && !helm->steersman)
        hand_over(helm);
}

int helm_timeout_ms(struct helm *helm)
{
    ensure(helm_held(helm));
    helm->attended_changes = loop_changes(helm->loop);
    return loop_timeout_ms(helm->loop);
}

void helm_turn(struct helm *helm)
{
    ensure(helm_held(helm) && !helm->turner);
    helm->spells++;
    run_turn(helm);
    helm->attended_changes = loop_changes(helm->loop);
    if (helm->steersman)
        helm_changed(helm);
    else
        hand_over(helm);
}

/* ---- life ---- */

void helm_block_signals(sigset_t *ret_before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, ret_before);
}

static int start_standby(struct helm *helm)
{
    sigset_t before;
    helm_block_signals(&before);
    int rc = pthread_create(&helm->standby_thread, NULL, stand_by, helm);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes,
                              PTHREAD_MUTEX_ADAPTIVE_NP); /* held for microseconds: spin a little */
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static struct helm *destroy(struct helm *helm)
{
    pthread_cond_destroy(&helm->turnstile);
    pthread_cond_destroy(&helm->standby_call);
    pthread_condattr_destroy(&helm->monotonic);
    pthread_mutex_destroy(&helm->lock);
    return mem_free(helm);
}

struct helm *helm_new(struct loop *loop)
{
    struct helm *helm = mem_try(sizeof(*helm));
    if (!helm)
        return NULL;
    helm->loop = loop;
    list_init(&helm->waiters);
    init_lock(&helm->lock);
    pthread_condattr_init(&helm->monotonic);
    pthread_condattr_setclock(&helm->monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&helm->turnstile, &helm->monotonic);
    pthread_cond_init(&helm->standby_call, &helm->monotonic);
    return start_standby(helm) == 0 ? helm : destroy(helm);
}

struct helm *helm_free(struct helm *helm)
{
    if (!helm)
        return NULL;
    helm_take(helm);
    ensure(list_empty(&helm->waiters) && (!helm->steersman || helm->steersman == helm));
    helm->ends = true;
    pthread_cond_signal(&helm->standby_call);
    bool wakes = helm->polling;
    helm_give(helm);
    if (wakes)
        loop_wake(helm->loop);
    pthread_join(helm->standby_thread, NULL);
    return destroy(helm);
}
