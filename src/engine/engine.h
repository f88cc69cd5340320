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
    struct bytes app, deployment, runner, body; /* body: what the replica's executable needs (MessagePack) */
};
enum engine_event_type { ENGINE_NONE, ENGINE_STARTED, ENGINE_FAILED, ENGINE_GONE, ENGINE_HERE /* adoption */, ENGINE_LISTED };
struct engine_event {
    enum engine_event_type type;
    uint64_t     replica;
    uint32_t     pid;
    int          code, exit_code, signal_number;
    struct bytes app, deployment, text; /* valid until the next engine_next */
};
struct engine_operations {
    int  (*start)(struct engine *engine, const struct engine_start *start, struct error *reterr);
    void (*stop)(struct engine *engine, uint64_t replica, bool kill);
    void (*list)(struct engine *engine);          /* ENGINE_HERE for each, then ENGINE_LISTED */
    void (*end_instance)(struct engine *engine);  /* everything ends, the node too */
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
