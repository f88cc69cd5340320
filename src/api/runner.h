/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner: the C runner of a replica: loads the shared object, calls its entry points on threads.
 *
 *     runner.c         threads that take requests and call the entry points
 *     runner_life.c    load, construct, serve, close; the process manta-replica
 *     runner_health.c  check_health in its rhythm
 *
 * It stands on <manta/sys/taker.h> alone, as any other runner does.  Nothing of it is static: a
 * process may run several.
 */
#ifndef MANTA_API_RUNNER_H
#define MANTA_API_RUNNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <manta/sys/taker.h>

#include "error.h"

struct runner;

struct runner_thread {
    struct runner *runner;
    struct manta_taker_thread *taker_thread;
    struct manta_request *requests[MANTA_TAKER_ROOM];
    pthread_t thread; /* of all but the first */
};

/* What the rhythm of health checks needs.  Guarded by `lock`. */
struct runner_health {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread; /* of the rhythm */
    bool running;     /* it is there */
    bool stopping;
    bool checking;     /* user code is in check_health */
    bool hangs;        /* it was still in there a second after the end */
    bool counted;      /* the running check was already counted as failed */
    int failure_count; /* in a row */
    uint64_t changes;  /* of the rhythm */
};

/* A replica of a C deployment. */
struct runner {
    struct manta_taker *taker;
    struct manta_replica *replica;
    struct manta_taker_document document;
    const struct manta_deployment
        *own; /* of the program itself; null: it is in the document's library */
    void *library;
    struct manta_deployment deployment; /* checked copy of the descriptor */
    void *state;                        /* what open made */
    bool opened;
    struct runner_thread *threads;
    uint32_t thread_count;
    struct runner_health health;
    bool hangs; /* a check_health did not return: the state is in its hands */
};

/* Loads and constructs, serves until the taker has ended: 0, or the code of what failed, which was
 * reported. */
int runner_live(struct runner *runner, struct manta_taker *taker);
/* Ends the deployment's state and the taker.  False: user code is still in there; the process
 * should end by _exit, and the runner must stay where it is. */
bool runner_close(struct runner *runner);

/* Serves on this thread and the document's other ones until the taker has ended. */
int runner_serve(struct runner *runner, struct error *reterr);

/* One check now, on this thread: 0 or the user's code. */
int runner_check_health(struct runner *runner, struct error *reterr);
/* Checks every health_check_period on a thread of its own; reports unhealthy after three failures
 * in a row. */
void runner_health_start(struct runner *runner);
/* Another rhythm, from the next check on. */
void runner_health_change(struct runner *runner, double period_s, double timeout_s);
/* False: a check has not returned after a second, and holds the replica's state. */
bool runner_health_stop(struct runner *runner);

#endif
