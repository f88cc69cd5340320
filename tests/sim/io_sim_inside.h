/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_inside: what the files of the simulated kernel know of each other.
 *
 * Objects are what descriptors refer to: counted, gone with the last reference.  A reference is a
 * descriptor, a descriptor on its way inside a stream, or a mapping.
 */
#ifndef MANTA_SIM_IO_SIM_INSIDE_H
#define MANTA_SIM_IO_SIM_INSIDE_H

#include <sys/types.h>
#include <sys/uio.h>

#include "io_sim.h"
#include "loop.h"

enum { SIM_PATH_SIZE = 108, SIM_FIRST_DESCRIPTOR = 1000 /* a real one is never meant */ };
static const int64_t SIM_NEVER = INT64_MAX;

/* ---- objects ---- */

enum sim_kind { SIM_STREAM, SIM_LISTENER, SIM_PAGE, SIM_RESERVE };
struct sim_object {
    enum sim_kind kind;
    uint32_t references;
};
struct sim_object *sim_object_ref(struct sim_object *object);
void sim_object_unref(struct sim_object *object);
/* Lowest free number; -EMFILE past the process's limit (then the reference is the caller's still).
 */
int sim_descriptor_open(struct sim_object *object, struct sim_process *process);
/* Null: not open, or not this process's. */
struct sim_object *sim_descriptor_object(int descriptor, enum sim_kind kind);
void sim_descriptor_close(int descriptor);
/* When it is ready for any of `events` (enum loop_events), and for which; SIM_NEVER: not yet known.
 */
int64_t sim_descriptor_ready_ns(int descriptor, int events, int *ret_events);

/* ---- streams: one end of a connection each ---- */

struct sim_segment {
    struct list_link link;     /* on stream->in */
    int64_t at_ns;             /* when it arrives */
    struct sim_object *passed; /* a descriptor that travels with its first byte; null: none */
    size_t start, size;
    uint8_t at[];
};
struct sim_stream {
    struct sim_object object;
    struct sim_stream *peer;     /* null: closed */
    struct sim_process *process; /* who has the descriptor; null: not accepted yet */
    struct list in;              /* struct sim_segment: on their way or here */
    size_t in_size, capacity;    /* bytes in it; most it takes */
    int64_t last_ns;             /* arrival of the last segment */
    int64_t end_ns;              /* end of file, or the error, arrives; SIM_NEVER: not in sight */
    int64_t stalled_until_ns;    /* nothing of `in` is seen before */
    int64_t room_ns;             /* since when its peer may write; SIM_NEVER: it is full */
    int64_t delay_ns;            /* longest usual */
    int end_error;               /* 0: end of file, or -errno behind what is readable */
    bool local, connector;
    bool write_shut; /* by socket_shutdown_write */
    uint32_t number; /* of the connection, both ends */
    char name[2 * SIM_NAME_SIZE + 4];
};
/* A connected pair, one reference each; the connector's end. */
struct sim_stream *sim_stream_pair(bool local, uint32_t number, const char *name);
ssize_t sim_stream_write(struct sim_stream *stream, const struct iovec *parts, int part_count,
                         struct sim_object *passed);
ssize_t sim_stream_read(struct sim_stream *stream, void *at, size_t size,
                        struct sim_object **ret_passed);
void sim_stream_shut(struct sim_stream *stream);
void sim_stream_reset(struct sim_stream *stream);
void sim_stream_free(struct sim_stream *stream); /* its last reference went */
int64_t sim_stream_read_ns(const struct sim_stream *stream);
int64_t sim_stream_write_ns(const struct sim_stream *stream);

/* ---- pages ---- */

struct sim_page {
    struct sim_object object;
    size_t size;
    _Alignas(16) uint8_t at[];
};

/* ---- the kernel ---- */

const struct sim_config *sim_configuration(void);
bool sim_one_in(uint32_t count); /* false when count is 0 */
void sim_sockets_begin(void);
void sim_sockets_end(void);

/* ---- loops ---- */

int64_t sim_loop_ready_ns(struct loop *loop);
void sim_loop_turn(struct loop *loop);
void sim_loop_signal(struct loop *loop, int signal_number);
bool sim_loop_stopped(const struct loop *loop);

#endif
