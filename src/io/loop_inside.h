/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_inside: what loop.c and loop_timer.c know of each other.  Nobody else includes it.
 *
 * The heap is an array of pointers to timers that their owners embed; each timer knows its place, so that it is
 * cleared without a search.  Order is (due_ns, order): equal due times fire in the order in which they were set.
 */
#ifndef MANTA_IO_LOOP_INSIDE_H
#define MANTA_IO_LOOP_INSIDE_H

#include <uv.h>

#include "list.h"
#include "loop.h"

struct timer_heap {
    struct loop_timer **at;
    uint32_t            count, capacity;
};

struct loop {
    uv_loop_t         uv;
    uv_async_t        wake;
    uv_timer_t        alarm;          /* the one libuv timer: for the earliest of ours */
    int64_t           alarm_due_ns;   /* what it is set to; 0: not set */
    struct timer_heap timers;
    uint64_t          timer_order;    /* last order given out */
    int64_t           now_ns;         /* read at the start of the turn */
    int64_t           late_ns;        /* how much later than its earliest timer this turn came */
    int64_t           waited_due_ns;  /* earliest timer at the last loop_timeout_ms; INT64_MAX: none */
    uint64_t          changes;        /* see loop_changes */
    struct list       free_handles;   /* struct watch_handle that libuv has closed */
    struct list       changed;        /* struct watch_handle whose events libuv does not know yet */
    struct list       signals;        /* struct signal_handle */
    struct list       turns;          /* struct loop_turn, in the order of registration */
    struct list       last_turns;     /* struct loop_turn, after all of `turns` */
    struct list_link *next_turn;      /* the one to be called next, moved on when it is removed */
    bool              begun;          /* the turn's clock was read */
    bool              again;          /* the next turn waits for nothing */
    bool              ending_turn;    /* turn functions are being called */
    bool              stopped;
    bool              freed;          /* loop_free: closed handles go back to the heap */
};

struct loop_timer *timer_heap_first(const struct timer_heap *heap); /* null when empty */
void               timer_heap_remove(struct timer_heap *heap, struct loop_timer *timer);

#endif
