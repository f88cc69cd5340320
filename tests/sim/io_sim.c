/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim: loop.h on the simulated kernel.
 *
 * A turn is that of io/loop.c: the clock is read, watchers whose descriptors are ready are told,
 * due timers fire in the order of their due times, the turn functions are called.  What differs is
 * only who waits: the kernel asks each loop when it would have something to do (sim_loop_ready_ns).
 *
 * Ready watchers are told in an order that chance decides: nobody may rely on the kernel's.
 */
#include <errno.h>
#include <string.h>

#include "ensure.h"
#include "io_sim_inside.h"
#include "mem.h"

enum { NS_PER_MS = 1000000, TIMERS_FIRST = 16 };

/* What a loop_watch's handle points to. */
struct watch {
    struct list_link link;       /* on loop->watches */
    struct list_link ready_link; /* on loop->ready while a turn tells */
    int ready_events;
    struct loop_watch *watch;
    struct loop *loop;
};

struct signal_watch {
    struct list_link link;
    int number;
    bool pending;
    void (*fire)(void *owner, int signal_number);
    void *owner;
};

struct loop {
    struct sim_process *process;
    struct list watches, ready;
    struct list signals;
    struct loop_timer **timers; /* in order of (due_ns, order) */
    uint32_t timer_count, timer_capacity;
    uint64_t timer_order, changes;
    int64_t now_ns, late_ns, woken_ns; /* woken_ns: 0 when nobody did */
    struct list turns, last_turns;
    struct list_link *next_turn;
    bool again, ending_turn, stopped;
};

/* ---- life ---- */

struct loop *loop_new(void)
{
    struct sim_process *process = sim_current();
    ensure(process && !process->loop);
    struct loop *loop = mem_try(sizeof *loop);
    if (!loop)
        return NULL;
    loop->process = process;
    loop->now_ns = sim_now_ns();
    list_init(&loop->watches);
    list_init(&loop->ready);
    list_init(&loop->signals);
    list_init(&loop->turns);
    list_init(&loop->last_turns);
    loop->again = true; /* what was put into channels before the first turn leaves at once */
    process->loop = loop;
    return loop;
}

struct loop *loop_free(struct loop *loop)
{
    struct list_link *link;
    if (!loop)
        return NULL;
    while ((link = list_pop_front(&loop->watches)))
        mem_free(list_entry(link, struct watch, link));
    while ((link = list_pop_front(&loop->signals)))
        mem_free(list_entry(link, struct signal_watch, link));
    loop->process->loop = NULL;
    mem_free(loop->timers);
    return mem_free(loop);
}

/* ---- when there is something to do ---- */

int64_t sim_loop_ready_ns(struct loop *loop)
{
    struct list_link *link;
    int64_t due_ns = loop->again ? loop->now_ns : SIM_NEVER;
    int events;
    if (loop->woken_ns && loop->woken_ns < due_ns)
        due_ns = loop->woken_ns;
    if (loop->timer_count && loop->timers[0]->due_ns < due_ns)
        due_ns = loop->timers[0]->due_ns;
    list_each (link, &loop->watches) {
        const struct loop_watch *watch = list_entry(link, struct watch, link)->watch;
        int64_t ready_ns = sim_descriptor_ready_ns(watch->descriptor, watch->events, &events);
        if (ready_ns < due_ns)
            due_ns = ready_ns;
    }
    return due_ns;
}

bool sim_loop_stopped(const struct loop *loop)
{
    return loop->stopped;
}

/* ---- turns ---- */

static void begin_turn(struct loop *loop)
{
    int64_t before_ns = loop->now_ns;
    loop->now_ns = sim_now_ns();
    loop->late_ns = 0;
    if (!loop->timer_count)
        return;
    int64_t due_ns = loop->timers[0]->due_ns;
    due_ns = due_ns > before_ns ? due_ns : before_ns;
    if (loop->now_ns > due_ns)
        loop->late_ns = loop->now_ns - due_ns;
}

static void find_ready(struct loop *loop)
{
    struct list_link *link;
    list_each (link, &loop->watches) {
        struct watch *watch = list_entry(link, struct watch, link);
        int64_t ready_ns = sim_descriptor_ready_ns(watch->watch->descriptor, watch->watch->events,
                                                   &watch->ready_events);
        if (ready_ns > loop->now_ns)
            continue;
        if (sim_one_in(2))
            list_push_front(&loop->ready, &watch->ready_link);
        else
            list_push_back(&loop->ready, &watch->ready_link);
    }
}

static void tell_ready(struct loop *loop)
{
    struct list_link *link;
    while ((link = list_pop_front(&loop->ready))) {
        struct watch *watch = list_entry(link, struct watch, ready_link);
        int events = watch->ready_events & watch->watch->events;
        if (events)
            watch->watch->ready(watch->watch->owner, events);
    }
}

static void tell_signals(struct loop *loop)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &loop->signals) {
        struct signal_watch *watch = list_entry(link, struct signal_watch, link);
        if (watch->pending) {
            watch->pending = false;
            watch->fire(watch->owner, watch->number);
        }
    }
}

static void fire_timers(struct loop *loop)
{
    uint64_t newest = loop->timer_order; /* one that sets itself to the past waits a turn */
    while (loop->timer_count && loop->timers[0]->due_ns <= loop->now_ns) {
        struct loop_timer *timer = loop->timers[0];
        if (timer->order > newest) {
            loop->again = true;
            break;
        }
        loop_timer_clear(timer);
        timer->fire(timer->owner);
    }
}

void sim_loop_turn(struct loop *loop)
{
    loop->again = false;
    loop->woken_ns = 0;
    begin_turn(loop);
    find_ready(loop);
    tell_signals(loop);
    tell_ready(loop);
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

/* The world takes the turns (sim_step): nobody in it may run a loop by himself. */
void loop_run(struct loop *loop)
{
    ensure(!"a simulated loop is run by the world");
}

void loop_run_once(struct loop *loop)
{
    ensure(!"a simulated loop is run by the world");
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

void loop_wake(struct loop *loop)
{
    if (!loop->woken_ns)
        loop->woken_ns = sim_now_ns();
}

void loop_turn_again(struct loop *loop)
{
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
    return sim_wall_ns();
}

int64_t loop_refresh_now_ns(struct loop *loop)
{
    return loop->now_ns = sim_now_ns();
}

bool loop_turn_late(const struct loop *loop, int64_t late_ms)
{
    return loop->late_ns >= late_ms * NS_PER_MS;
}

int loop_descriptor(const struct loop *loop)
{
    return -1; /* there is nothing a foreign loop could wait for */
}

int loop_timeout_ms(struct loop *loop)
{
    int64_t due_ns = sim_loop_ready_ns(loop), now_ns = sim_now_ns();
    if (due_ns == SIM_NEVER)
        return -1;
    return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

uint64_t loop_changes(const struct loop *loop)
{
    return loop->changes;
}

/* ---- watches ---- */

int loop_watch_open(struct loop *loop, struct loop_watch *watch, int descriptor, int events,
                    void (*ready)(void *owner, int events), void *owner)
{
    struct list_link *link;
    ensure(!watch->handle && ready && (events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    if (descriptor < 0)
        return -EBADF;
    list_each (link, &loop->watches)
        if (list_entry(link, struct watch, link)->watch->descriptor == descriptor)
            return -EEXIST;
    struct watch *handle = mem_try(sizeof *handle);
    if (!handle)
        return -ENOMEM;
    *watch = (struct loop_watch){.handle = handle,
                                 .descriptor = descriptor,
                                 .events = events,
                                 .ready = ready,
                                 .owner = owner};
    handle->watch = watch;
    handle->loop = loop;
    list_push_back(&loop->watches, &handle->link);
    loop->changes++;
    return 0;
}

void loop_watch_change(struct loop_watch *watch, int events)
{
    ensure(watch->handle && (events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    watch->events = events;
}

void loop_watch_close(struct loop_watch *watch)
{
    struct watch *handle = watch->handle;
    if (!handle)
        return;
    ensure(handle->watch == watch);
    list_remove(&handle->link);
    list_remove(&handle->ready_link);
    mem_free(handle);
    watch->handle = NULL;
    watch->descriptor = -1;
}

/* ---- timers: few per loop, so an array in order does ---- */

void loop_timer_init(struct loop *loop, struct loop_timer *timer, void (*fire)(void *owner),
                     void *owner)
{
    ensure(loop && fire);
    *timer = (struct loop_timer){.fire = fire, .owner = owner, .loop = loop};
}

void loop_timer_set(struct loop_timer *timer, int64_t due_ns)
{
    struct loop *loop = timer->loop;
    ensure(loop && due_ns >= 0);
    if (due_ns && due_ns == timer->due_ns)
        return;
    loop_timer_clear(timer);
    if (due_ns == 0)
        return;
    if (loop->timer_count == loop->timer_capacity) {
        uint32_t capacity = loop->timer_capacity ? loop->timer_capacity * 2 : TIMERS_FIRST;
        struct loop_timer **larger = mem_new(capacity * sizeof(*larger));
        if (loop->timer_count)
            memcpy(larger, loop->timers, loop->timer_count * sizeof(*larger));
        mem_free(loop->timers);
        loop->timers = larger;
        loop->timer_capacity = capacity;
    }
    uint32_t at = loop->timer_count++;
    for (; at > 0 && loop->timers[at - 1]->due_ns > due_ns; at--)
        loop->timers[at] = loop->timers[at - 1];
    loop->timers[at] = timer;
    timer->due_ns = due_ns;
    timer->order = ++loop->timer_order;
}

void loop_timer_clear(struct loop_timer *timer)
{
    struct loop *loop = timer->loop;
    uint32_t at = 0;
    if (!timer->due_ns)
        return;
    while (at < loop->timer_count && loop->timers[at] != timer)
        at++;
    ensure(at < loop->timer_count);
    loop->timer_count--;
    memmove(loop->timers + at, loop->timers + at + 1,
            (loop->timer_count - at) * sizeof(*loop->timers));
    timer->due_ns = 0;
}

/* ---- signals ---- */

int loop_on_signal(struct loop *loop, int signal_number,
                   void (*fire)(void *owner, int signal_number), void *owner)
{
    struct signal_watch *watch = mem_try(sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct signal_watch){.number = signal_number, .fire = fire, .owner = owner};
    list_push_back(&loop->signals, &watch->link);
    return 0;
}

void sim_loop_signal(struct loop *loop, int signal_number)
{
    struct list_link *link;
    list_each (link, &loop->signals) {
        struct signal_watch *watch = list_entry(link, struct signal_watch, link);
        if (watch->number == signal_number) {
            watch->pending = true;
            loop_wake(loop);
        }
    }
}
