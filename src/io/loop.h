/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: readiness, timers and turns; with socket.h the only door of a role to the kernel's clock and
 * descriptors.  (tests/sim/io_sim.c is a second implementation of loop.h and socket.h, chosen at link time.)
 *
 * A turn: wait until something is ready, call the watchers and timers that are due, then call the turn
 * functions in the order of registration: that is where a role steps its mind and flushes its channels once.
 * Level-triggered.  One thread at a time (see helm.h for sharing).
 */
#ifndef MANTA_IO_LOOP_H
#define MANTA_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

struct loop; /* over libuv */

struct loop *loop_new(void);          /* null when the machine lacks something */
struct loop *loop_free(struct loop *loop);
/* Runs turns until loop_stop; the first waits for nothing. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* One turn that waits for nothing. */
void loop_run_once(struct loop *loop);
/* For a foreign loop or the helm: readable when a turn is due; and ms until the next timer (-1: none, 0: now). */
int  loop_descriptor(const struct loop *loop);
int  loop_timeout_ms(struct loop *loop);
/*
 * Grows with every change that somebody who already waits on loop_descriptor for loop_timeout_ms would miss: a watch
 * opened, changed or closed, a timer due before that time-out, loop_turn_again.
 */
uint64_t loop_changes(const struct loop *loop);
/* Monotonic, cached at the start of the turn.  Wall clock only for dates and logs. */
int64_t loop_now_ns(const struct loop *loop);
int64_t loop_wall_ns(const struct loop *loop);
/* Reads the clock again (after user code ran, or on a foreign thread under the helm). */
int64_t loop_refresh_now_ns(struct loop *loop);
/* True in a turn that came `late_ms` or more after it was due: nobody may be judged by time in it. */
bool loop_turn_late(const struct loop *loop, int64_t late_ms);

/* Wakes a waiting turn from any thread, also a signal handler. */
void loop_wake(struct loop *loop);

enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2 };
/* Embedded in the owner's struct; zeroed before first use. */
struct loop_watch {
    void *handle; /* private; null while closed */
    int   descriptor;
    int   events; /* enum loop_events asked for */
    void (*ready)(void *owner, int events); /* errors show as both events; the next call tells */
    void *owner;
};
/* 0, or a negative errno. */
int  loop_watch_open(struct loop *loop, struct loop_watch *watch, int descriptor, int events,
                     void (*ready)(void *owner, int events), void *owner);
void loop_watch_change(struct loop_watch *watch, int events); /* cheap when nothing changes */
void loop_watch_close(struct loop_watch *watch);              /* never called again; the descriptor stays open */

/* One-shot timers in a heap: O(log n), no allocation but for the heap's own growth. */
struct loop_timer {
    int64_t      due_ns; /* 0: not set */
    void       (*fire)(void *owner);
    void        *owner;
    struct loop *loop;       /* private */
    uint64_t     order;      /* private: of two timers due at once the one set first fires first */
    uint32_t     heap_index; /* private: place in the loop's heap while due_ns is set */
};
void loop_timer_init(struct loop *loop, struct loop_timer *timer, void (*fire)(void *owner), void *owner);
void loop_timer_set(struct loop_timer *timer, int64_t due_ns); /* replaces; 0 clears */
void loop_timer_clear(struct loop_timer *timer);

/* Called at the end of every turn. */
struct loop_turn {
    struct list_link link;
    void (*turn)(void *owner);
    void *owner;
    struct loop *loop; /* private */
};
void loop_turn_add(struct loop *loop, struct loop_turn *turn);
/* After all those of loop_turn_add, whenever they register: where a turn's output is flushed. */
void loop_turn_add_last(struct loop *loop, struct loop_turn *turn);
void loop_turn_remove(struct loop_turn *turn);
/* The next turn waits for nothing: something is left to do. */
void loop_turn_again(struct loop *loop);
/* Calls the turn functions now: for a thread that takes part in a loop without running it (helm.h). */
void loop_end_turn(struct loop *loop);

/* Signals as events (roles only; a library changes no signal dispositions).  A forked child has the standard way again.
 * 0, or a negative errno. */
int loop_on_signal(struct loop *loop, int signal_number, void (*fire)(void *owner, int signal_number), void *owner);

#endif
