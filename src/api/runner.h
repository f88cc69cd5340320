/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner: the C runner of a replica: loads the shared object, calls its entry points on worker
 * threads.
 */
#ifndef MANTA_API_RUNNER_H
#define MANTA_API_RUNNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <manta/deployment.h>

#include "arena.h"
#include "args.h"
#include "instance.h"
#include "runtime.h"
#include "taker.h"
#include "target.h"

enum { RUNNER_THREAD_LIMIT = 256, RUNNER_BATCH_LIMIT = 4096 };

struct runner_thread {
    struct manta_replica *replica;
    pthread_t thread;
    int64_t since_ns; /* user code runs since; 0: it does not */
    uint64_t *ids;    /* of the requests that it was given; as many as a batch may have */
};

/* A replica of a C deployment: one per process.  Guarded by the runtime's helm once threads run. */
struct manta_replica {
    struct runtime *runtime;
    struct taker *taker;
    struct target_replica target; /* slices of `document` */
    uint8_t *document;
    size_t document_size;
    void *library;
    struct manta_deployment deployment; /* checked copy of the descriptor */
    void *state;                        /* what open made */
    bool opened;
    struct arena_blocks arena_blocks;
    struct arena arena;
    struct keep keep; /* constructor arguments' strings */
    struct manta_args args;
    char app[136], name[136], id[32];
    char socket[INSTANCE_PATH_SIZE]; /* where senders come; empty: it does not listen yet */
    char *user_config;               /* JSON */
    struct runner_thread *threads;
    uint32_t thread_count;
    int64_t average_ns;   /* moving average of a call of user code */
    int64_t unflushed_ns; /* when the oldest unflushed answer was given; 0: none */
    uint32_t held_count;  /* requests that user code has and has not answered */
    bool stopping;        /* drained: workers leave */
    bool check_hangs;     /* a check_health did not return: the state is in its hands */
    pthread_t health_thread;
    bool health_running;
};

/*
 * After an answer (helm held): when user code is quick, a worker's answers are flushed together,
 * before it waits or after at most 50 us; when it is slow, or the answer comes from another thread,
 * at once.
 */
void runner_flush(struct manta_replica *replica);

#endif
