/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door: the inner face of <manta/sys/taker.h>: a replica as everything above the taker sees it.
 *
 *     door.c         taking, running, events, flushing
 *     door_open.c    arguments, document, log, reports, the end
 *     door_watch.c   event loops of others
 *     door_configure.c  a new configuration
 *     door_models.c  many models in one replica
 *
 * A replica is its taker, what its document says, and the memory that lives as long as it does.
 * Nothing of it is static: a process may have several, each with a runtime of its own or together
 * in one.
 */
#ifndef MANTA_API_DOOR_H
#define MANTA_API_DOOR_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <manta/sys/taker.h>

#include "arena.h"
#include "args.h"
#include "instance.h"
#include "keep.h"
#include "list.h"
#include "parent.h"
#include "runtime.h"
#include "taker.h"
#include "target.h"

/* What a replica may ask about itself.  Guarded by the runtime's helm where it changes. */
struct manta_replica {
    struct runtime *runtime; /* a reference */
    struct taker *taker;
    struct target_replica target; /* slices of `document` */
    uint8_t *document;
    size_t document_size;
    struct arena_blocks arena_blocks;
    struct arena arena;
    struct keep keep; /* constructor arguments' strings */
    struct manta_args args;
    char app[136], name[136], id[32];
    _Atomic(const char *) user_config; /* JSON; "" when there is none */
    char *old_user_config;             /* somebody may still read it; or null */
    _Atomic int32_t rank, world_size;  /* -1 and 0: none */
    void *state;                       /* the runner's */
    struct models *models;             /* null: user code has no load_model */
    uint32_t held_count;               /* requests that user code has and has not answered */
    struct manta_request *told; /* the one that an event is being told of; null once it is gone */
};

struct manta_taker {
    struct manta_replica replica;
    struct manta_taker *leader; /* whose loop this one shares; itself when it has one of its own */
    struct list followers;      /* of the leader: those that share its loop */
    struct list_link follower_link;
    uint64_t number, version; /* id of the replica, content hash */
    char socket[INSTANCE_PATH_SIZE];
    char controller[INSTANCE_PATH_SIZE]; /* empty: none */
    struct list threads;                 /* of manta_taker_thread.link */
    int64_t average_ns;                  /* moving average of a call of user code */
    int64_t unflushed_ns;                /* when the oldest unflushed answer was given; 0: none */
    bool events;                         /* they wait for manta_taker_next */
    bool stopping;                       /* drained or stopped: nothing is taken any more */
    bool kept;                           /* user code may come back: nothing is freed */
    bool process;   /* log, metric page and signals of the process are its own */
    int terminated; /* SIGTERMs so far */
    struct parent parent;
    int bell, descriptor; /* of the leader: an eventfd, and the epoll that holds it; -1: none */
    bool rung;            /* the bell is readable */
    /* A configuration that user code is to take: by a thread that waits for work, or by an event.
     */
    struct bytes configuration; /* of the taker, until taker_configured; empty: none */
    bool configuring;           /* a thread is at it */
    manta_taker_configure_function *configure; /* null: user code is told nothing */
    void *configure_owner;
    struct manta_taker *turning; /* of the leader: whose manta_taker_turn it is in; or null */
};

struct manta_taker_thread {
    struct list_link link; /* on taker->threads */
    struct manta_taker *taker;
    int64_t since_ns; /* user code runs since; 0: it does not */
    uint32_t count;   /* of the requests that it runs */
    bool batched;
    uint64_t ids[MANTA_TAKER_ROOM];
    struct taker_request *taken[MANTA_TAKER_ROOM];
};

/* How a replica opens, wherever it does. */
struct door_config {
    struct manta_taker *beside; /* shares its runtime; or null */
    const char *directory;      /* of the instance: its socket lies there */
    const char *controller;     /* socket; null: none */
    uint64_t replica, version;
    uint8_t *document; /* taken over, whatever happens: from the heap (mem.h) */
    size_t document_size;
    bool events;
};

/* Everything but what a process has once (log, metric page, signals): 0, or an error. */
int door_open(const struct door_config *config, struct manta_taker **ret_taker,
              struct error *reterr);
struct manta_taker *door_of(struct manta_replica *replica);
/*
 * After an answer (helm held): a thread that takes by manta_taker_take keeps it for its flush; when
 * user code is quick, a waiting thread's answers are flushed together, before it waits or after at
 * most 50 us; else at once.
 */
void door_flush(struct manta_replica *replica);
/* This thread's calls are kept until the next turn or flush (manta_taker_hold). */
bool door_holds(const struct runtime *runtime);
/* Events of the taker, acted upon (helm held). */
void door_wake(void *taker);
/*
 * A configuration came (helm held): brought into force in the replica as far as that is Manta's,
 * and told by the event.
 */
void door_configure(struct manta_taker *taker, struct bytes body, struct manta_taker_event *event);
/* A thread that waits should take one. */
bool door_configure_due(const struct manta_taker *taker);
/* It does (helm held; given back while user code runs). */
void door_configure_run(struct manta_taker_thread *thread);
/* User code of a thread begins and ends (helm held). */
void door_thread_begin(struct manta_taker_thread *thread);
void door_thread_end(struct manta_taker_thread *thread);
/* The attendant of the loop should look (helm held). */
void door_ring(void *taker);
void door_unwatch(struct manta_taker *taker);

#endif
