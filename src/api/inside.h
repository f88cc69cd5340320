/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside: an instance inside the calling process: local testing.
 *
 * The real controller runs on a thread of the program, and its engine starts replicas as threads
 * instead of processes: each has its taker, its runtime and its runner, as a process would have.
 * Everything speaks over Unix sockets in a private directory, so that handles, deploys, rollouts,
 * statuses, drains and errors are those of a real instance; only HTTP is missing, and what a process
 * of its own gives: a replica that crashes takes the program with it, and one that never returns
 * cannot be ended.
 *
 *     inside.c           the controller's thread
 *     inside_replica.c   the engine: replicas as threads
 */
#ifndef MANTA_API_INSIDE_H
#define MANTA_API_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <manta/deployment.h>

#include "conduct.h"
#include "engine.h"
#include "error.h"
#include "instance.h"
#include "list.h"

/* A deployment of the program itself, by its version. */
struct inside_own {
    struct list_link link;
    uint64_t version;
    struct manta_deployment deployment;
};

struct inside {
    struct conduct conduct; /* the controller's thread's */
    struct instance place;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum { INSIDE_BEGINS, INSIDE_RUNS, INSIDE_OVER } state;
    bool ends;          /* it was asked to */
    struct error error; /* why it did not begin */
    struct list own;    /* struct inside_own */
    struct loop_turn turn;
};

struct inside_options {
    const char *log_directory; /* null: no file */
    int log_level;             /* enum log_level */
    bool log_to_stderr, log_json;
};

/* Waits until its controller answers in place's directory, which it makes. */
int inside_start(const struct instance *place, const struct inside_options *options,
                 struct inside **ret_inside, struct error *reterr);
/* Waits until all of it has ended, and frees it; null is fine; returns null. */
struct inside *inside_end(struct inside *inside);
/* Replicas of this version run this deployment of the program (its name may be gone afterwards, its
 * functions and methods not). */
int inside_keep(struct inside *inside, uint64_t version, const struct manta_deployment *own);
/* Copies what was kept; false: nothing was. */
bool inside_find(struct inside *inside, uint64_t version, struct manta_deployment *ret_own);

/* The engine, in the shape that the controller wants; `owner` is inside->conduct. */
struct engine *inside_engine_new(struct loop *loop, struct channel_set *channels, const char *node,
                                 void (*wake)(void *owner), void *owner, struct error *reterr);

#endif
