/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_kernel: the clock, the processes and whose turn it is.
 *
 * Nothing runs side by side.  For each process the time of its next turn is when its loop has
 * something to do, but not before its last turn is over and not while it is stopped; the earliest
 * comes next, with the events of the world in between.  The clock only moves here.
 *
 * A turn happens at one moment of the clock; what it costs only delays the next one of the same
 * process.
 */
#include "io_sim_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"

enum { SIM_EVENTS_FIRST = 64, SIM_LATE_ONE_IN = 64 };
static const int64_t WALL_FIRST = 1700000000 * INT64_C(1000000000);

static struct sim {
    struct sim_config config;
    struct rng rng;
    int64_t now_ns;
    int64_t wall_ns; /* of the wall clock at time 0 */
    uint64_t event_order;
    uint32_t process_number;
    struct list processes;
    struct heap events; /* struct sim_event */
    struct sim_process *current;
} sim;

/* ---- life ---- */

void sim_begin(const struct sim_config *config, uint64_t seed)
{
    sim = (struct sim){.config = *config, .now_ns = 1000000000, .wall_ns = WALL_FIRST};
    rng_init(&sim.rng, seed);
    list_init(&sim.processes);
    int bad = heap_reserve(&sim.events, SIM_EVENTS_FIRST);
    ensure(bad == 0);
    sim_sockets_begin();
}

void sim_end(void)
{
    ensure_tag(M1, list_empty(&sim.processes));
    ensure_tag(M1, sim.events.count == 0);
    sim_sockets_end();
    heap_done(&sim.events);
}

int64_t sim_now_ns(void)
{
    return sim.now_ns;
}

const struct sim_config *sim_configuration(void)
{
    return &sim.config;
}

/* ---- chance ---- */

struct rng *sim_rng(void)
{
    return &sim.rng;
}

int64_t sim_between(int64_t least, int64_t most)
{
    ensure(least <= most);
    return least + (int64_t)rng_below(&sim.rng, (uint64_t)(most - least) + 1);
}

bool sim_one_in(uint32_t count)
{
    return count && rng_chance(&sim.rng, 1, count);
}

/* ---- the story ---- */

void sim_say(const char *format, ...)
{
    char line[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    story_say(sim.config.story, sim.now_ns, sim.current ? sim.current->name : NULL, "%s", line);
}

/* ---- processes ---- */

void sim_process_begin(struct sim_process *process, const char *name)
{
    *process = (struct sim_process){.number = ++sim.process_number,
                                    .descriptor_limit = UINT32_MAX,
                                    .latency_ns = sim_between(0, sim.config.latency_ns)};
    snprintf(process->name, sizeof process->name, "%s", name);
    list_push_back(&sim.processes, &process->link);
}

void sim_process_end(struct sim_process *process)
{
    ensure(!process->loop && sim.current != process);
    ensure_tag(M1, process->descriptor_count == 0);
    list_remove(&process->link);
}

void sim_enter(struct sim_process *process)
{
    ensure(!sim.current && process);
    sim.current = process;
}

void sim_leave(void)
{
    ensure(sim.current);
    sim.current = NULL;
}

struct sim_process *sim_current(void)
{
    return sim.current;
}

void sim_process_stop(struct sim_process *process, int64_t until_ns)
{
    if (process->stopped_until_ns < until_ns)
        process->stopped_until_ns = until_ns;
}

void sim_process_isolate(struct sim_process *process, int64_t until_ns)
{
    if (process->isolated_until_ns < until_ns)
        process->isolated_until_ns = until_ns;
}

void sim_wall_jump(int64_t by_ns)
{
    sim.wall_ns += by_ns;
}

int64_t sim_wall_ns(void)
{
    return sim.wall_ns + sim.now_ns;
}

void sim_process_signal(struct sim_process *process, int signal_number)
{
    if (process->loop)
        sim_loop_signal(process->loop, signal_number);
}

/* ---- events of the world ---- */

void sim_event_set(struct sim_event *event, int64_t at_ns, void (*happen)(void *owner), void *owner)
{
    sim_event_clear(event);
    if (sim.events.count == sim.events.capacity) {
        int bad = heap_reserve(&sim.events, 2 * sim.events.capacity);
        ensure(bad == 0);
    }
    event->happen = happen;
    event->owner = owner;
    heap_put(&sim.events, &event->due, at_ns > sim.now_ns ? at_ns : sim.now_ns, ++sim.event_order);
}

void sim_event_clear(struct sim_event *event)
{
    heap_remove(&sim.events, &event->due);
}

/* ---- whose turn it is ---- */

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t turn_due_ns(struct sim_process *process)
{
    if (!process->loop || process->ended || process->doomed)
        return SIM_NEVER;
    int64_t ready_ns = sim_loop_ready_ns(process->loop);
    if (ready_ns == SIM_NEVER)
        return SIM_NEVER;
    ready_ns = latest(ready_ns + process->latency_ns, process->stopped_until_ns);
    return latest(latest(ready_ns, process->busy_until_ns), sim.now_ns);
}

static struct sim_process *next_process(int64_t *ret_due_ns)
{
    struct sim_process *first = NULL;
    struct list_link *link;
    *ret_due_ns = SIM_NEVER;
    list_each (link, &sim.processes) {
        struct sim_process *process = list_entry(link, struct sim_process, link);
        int64_t due_ns = turn_due_ns(process);
        if (due_ns < *ret_due_ns) {
            *ret_due_ns = due_ns;
            first = process;
        }
    }
    return first;
}

static void take_turn(struct sim_process *process)
{
    sim_enter(process);
    sim_loop_turn(process->loop);
    sim_leave();
    process->busy_until_ns = sim.now_ns + sim_between(0, sim.config.turn_cost_ns);
    process->latency_ns = sim_between(0, sim.config.latency_ns);
    if (sim_one_in(SIM_LATE_ONE_IN)) /* the machine was busy with somebody else */
        process->latency_ns *= sim_between(1, 50);
    if (process->loop && sim_loop_stopped(process->loop))
        process->ended = true;
}

struct sim_process *sim_step(int64_t until_ns, bool *ret_any)
{
    int64_t turn_ns;
    struct sim_process *process = next_process(&turn_ns);
    struct heap_link *first = heap_first(&sim.events);
    int64_t event_ns = first ? first->key : SIM_NEVER;
    int64_t due_ns = event_ns <= turn_ns ? event_ns : turn_ns;

    *ret_any = due_ns <= until_ns;
    if (!*ret_any) {
        sim.now_ns = latest(sim.now_ns, until_ns);
        return NULL;
    }
    sim.now_ns = latest(sim.now_ns, due_ns);
    if (event_ns <= turn_ns) {
        struct sim_event *event = heap_entry(first, struct sim_event, due);
        heap_remove(&sim.events, first);
        event->happen(event->owner);
        return NULL;
    }
    take_turn(process);
    return process;
}
