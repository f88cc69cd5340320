/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim: the simulated kernel, as the world that lives on it sees it.
 *
 * The roles know loop.h, socket.h, page.h and log.h; here those are implemented in memory, in one
 * thread, on a clock that jumps to the next thing that happens.  What chance decides (delays, short
 * reads and writes, the order in which ready descriptors are told) comes from one seed.
 *
 * A process owns descriptors and at most one loop.  sim_step lets the process whose turn is due
 * next take one turn, or an event of the world happen.  Whatever calls into a role outside of a
 * turn stands between sim_enter and sim_leave, so that descriptors and the story know whose they
 * are.
 *
 *     io_sim_kernel.c   the clock, processes, whose turn it is
 *     io_sim.c          loop.h
 *     io_sim_socket.c   socket.h: descriptors, listeners, accept and connect
 *     io_sim_stream.c   the bytes of a connection on their way
 *     io_sim_page.c     pages of memory that processes share, and log lines: page.h, log.h
 *     io_sim_region.c   larger pieces of it, for bodies: region.h
 */
#ifndef MANTA_SIM_IO_SIM_H
#define MANTA_SIM_IO_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "heap.h"
#include "list.h"
#include "rng.h"
#include "story.h"

struct loop;

enum { SIM_NAME_SIZE = 32 };

struct sim_config {
    size_t capacity_least, capacity_most; /* bytes that a direction of a connection holds */
    int64_t local_delay_ns;               /* longest usual way of bytes between processes */
    int64_t client_delay_ns;              /* the same between clients and proxies */
    int64_t turn_cost_ns;                 /* most that a turn lasts */
    int64_t latency_ns;                   /* most usually between being ready and the turn */
    uint32_t short_one_in;                /* reads and writes cut short: one in so many; 0: none */
    struct story *story;
    /* Told of bytes that left a process on a local connection; null: nobody listens. */
    void (*tap)(void *owner, const void *stream, bool from_connector, struct bytes bytes);
    void *owner;
};

struct sim_process {
    char name[SIM_NAME_SIZE];
    struct list_link link;     /* on the kernel's list, in order of birth */
    struct loop *loop;         /* null: none */
    uint32_t number;           /* its process id */
    uint32_t descriptor_count; /* open */
    uint32_t descriptor_limit; /* at most; UINT32_MAX: none */
    int64_t stopped_until_ns;  /* takes no turn before */
    int64_t isolated_until_ns; /* nothing passes between it and another process before */
    int64_t busy_until_ns;     /* the last turn lasts until then */
    int64_t latency_ns;        /* of its next turn */
    bool doomed;               /* ends with this turn: what it still writes is lost */
    bool ended;                /* wants to end (after loop_stop, or by its own will) */
};

/* ---- the kernel ---- */

void sim_begin(const struct sim_config *config, uint64_t seed);
void sim_end(void); /* every process has ended; ensures that nothing is left (M1) */
int64_t sim_now_ns(void);
struct rng *sim_rng(void);
/* Uniform in [least, most]. */
int64_t sim_between(int64_t least, int64_t most);
/* A line of the story in the name of the process whose turn it is. */
void sim_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One turn or event, not later than `until_ns`; returns the process, or null for an event. *ret_any
 * is false when nothing was due: then it is `until_ns` now. */
struct sim_process *sim_step(int64_t until_ns, bool *ret_any);

/* Something of the world's own at a time; cleared with sim_event_clear, set again any time. */
struct sim_event {
    struct heap_link due;
    void (*happen)(void *owner);
    void *owner;
};
void sim_event_set(struct sim_event *event, int64_t at_ns, void (*happen)(void *owner),
                   void *owner);
void sim_event_clear(struct sim_event *event);

/* ---- processes ---- */

void sim_process_begin(struct sim_process *process, const char *name);
/* Its descriptors are closed by the kernel; whatever its memory holds is the caller's affair. */
void sim_process_end(struct sim_process *process);
void sim_enter(struct sim_process *process);
void sim_leave(void);
struct sim_process *sim_current(void);
/* SIGSTOP until then. */
void sim_process_stop(struct sim_process *process, int64_t until_ns);
/* Cut off from every other process until then. */
void sim_process_isolate(struct sim_process *process, int64_t until_ns);
/* The wall clock goes ahead or back; the monotonic one knows nothing of it. */
void sim_wall_jump(int64_t by_ns);
int64_t sim_wall_ns(void);
void sim_process_signal(struct sim_process *process, int signal_number);

/* ---- connections ---- */

/* A listening TCP socket, and another descriptor of it in another process. */
int sim_listen_tcp(uint16_t port);
int sim_share(int descriptor, struct sim_process *with);
/* A client's connection: a descriptor; bytes may be written at once. */
int sim_connect_tcp(uint16_t port);
/* Who has the other end of this connection; null while it waits to be accepted, or when closed. */
struct sim_process *sim_peer(int descriptor);
/* RST in both directions. */
void sim_reset(int descriptor);
/* Nothing arrives at either end of a random local connection of `process` until then; false: it has
 * none. */
bool sim_stall(struct sim_process *process, int64_t until_ns);
/* Both ends of a random local connection that `process` accepted find it broken, and what was on
 * its way is lost; false: it has none. */
bool sim_cut(struct sim_process *process);
void sim_stall_descriptor(int descriptor, int64_t until_ns);
/* "proxy-1>r4" for a stream that the tap was told of. */
const char *sim_stream_name(const void *stream);
/* A number of the connection, never used again. */
uint32_t sim_stream_number(const void *stream);

#endif
