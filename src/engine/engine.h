/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: starts and stops replicas somewhere, and says what became of them.
 *
 * A table of functions, because there are three: local (asks this machine's node), ray (later), and the simulated one.  Events are pulled
 * by the controller role after `wake`.
 */
#ifndef MANTA_ENGINE_H
#define MANTA_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "error.h"

struct engine;

struct engine_start {
    uint64_t     replica;
    uint64_t     version;                       /* what it is to say it runs */
    struct bytes app, deployment, runner, body; /* body: what the replica's executable needs (MessagePack) */
};
enum engine_event_type {
    ENGINE_NONE,
    ENGINE_STARTED, /* its process runs: pid */
    ENGINE_FAILED,  /* it could not be started: code, text; ENGINE_GONE follows */
    ENGINE_GONE,    /* there is no process (any more): exit_code, signal_number, text */
    ENGINE_HERE,    /* in answer to list: it runs (adoption) */
    ENGINE_LISTED   /* the list is whole */
};
struct engine_event {
    enum engine_event_type type;
    uint64_t     replica;
    uint32_t     pid;
    int          code, exit_code, signal_number;
    struct bytes app, deployment, text; /* valid until the next engine_next */
};
struct engine_operations {
    /* An error: nothing was begun, and no event follows. */
    int  (*start)(struct engine *engine, const struct engine_start *start, struct error *reterr);
    /* An engine that does not know the replica answers ENGINE_GONE. */
    void (*stop)(struct engine *engine, uint64_t replica, bool kill);
    void (*list)(struct engine *engine);          /* ENGINE_HERE for each, then ENGINE_LISTED */
    /* Everything ends, the node too.  False: there is none now, and the rest is the caller's to end. */
    bool (*end_instance)(struct engine *engine);
    bool (*next)(struct engine *engine, struct engine_event *ret_event);
    struct engine *(*free)(struct engine *engine);
};
struct engine {
    const struct engine_operations *operations;
};

struct loop;
struct channel_set;
/* The engine of this machine: speaks wire frames with the node at `node_socket`, reconnects by itself. */
struct engine *engine_local_new(struct loop *loop, struct channel_set *channels, const char *node_socket,
                                void (*wake)(void *owner), void *owner, struct error *reterr);

#endif
