/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_world: a small world around one controller mind: a store, an engine, replicas, faults.
 *
 * Everything is in one thread on a simulated clock; a seed chooses how long things take and what
 * goes wrong.  The world performs effects as the role would, answers each of them some time later,
 * and holds the mind to its word at every step: the order of the list (C1, R3, R4), ready replicas
 * (C2), one process for each START and none that nobody knows (C3), one outcome for each operation.
 * A restart throws the mind away and tells a new one what the store and the engine have.
 *
 * Versions decide how replicas behave: see enum world_version.
 */
#ifndef MANTA_TESTS_CONTROLLER_WORLD_H
#define MANTA_TESTS_CONTROLLER_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "controller.h"
#include "rng.h"

enum {
    WORLD_APP_LIMIT = 4,
    WORLD_ROW_LIMIT = 4, /* deployments of a target */
    WORLD_PROCESS_LIMIT = 512,
    WORLD_STORE_LIMIT = 128,     /* store effects not answered */
    WORLD_TOKEN_LIMIT = 1 << 13, /* operations */
    WORLD_DEPLOYMENT_LIMIT = 1 << 14,
    WORLD_REPLICA_LIMIT = 1 << 16,
    WORLD_SILENT = 2, /* condemned, because it has been silent for as long as failed checks take */
};

enum world_version {
    WORLD_GOOD = 1,      /* 1, 2, ...: starts and runs */
    WORLD_BAD = 100,     /* its constructor always fails */
    WORLD_FLAKY = 101,   /* its constructor fails half of the time */
    WORLD_CRASHING = 102 /* dies soon after it became ready, half of the time */
};

struct world_row {
    uint32_t name; /* 0: "d0" */
    uint64_t id;
    uint64_t version;
    uint32_t replicas, max_ongoing;
    uint32_t surge; /* percent */
};
/* A target as the world thinks of it. */
struct world_target {
    uint32_t app; /* 0: "a0" */
    uint32_t row_count;
    uint32_t route; /* 0: none */
    bool declarative, unbuilt; /* unbuilt: of a whole target, and it could not be built */
    uint64_t id;
    struct world_row rows[WORLD_ROW_LIMIT];
};

struct world_process {
    uint64_t id; /* 0: free slot */
    uint32_t app, name;
    uint64_t version;
    enum { WORLD_STARTING, WORLD_RUNNING, WORLD_DRAINING, WORLD_ENDING, WORLD_STUCK } state;
    int64_t due_ns;                             /* when its next thing happens; 0: nothing */
    bool silent;                                /* after a restart it has not said hello yet */
    uint64_t configuration, told_configuration; /* what it runs with, and is about to */
    uint32_t rank, told_rank, world_size;
    uint64_t told;       /* token of what it was told last */
    int64_t told_due_ns; /* when it answers; 0: it has */
};

struct world_faults {
    uint32_t store_failure, double_event, stuck_end; /* in a thousand */
};

struct world {
    struct controller *controller;
    struct controller_config config;
    struct controller_effects effects;
    struct rng rng;
    int64_t now_ns;
    struct world_faults faults;
    struct world_target durable[WORLD_APP_LIMIT]; /* row_count 0: not in the store */
    struct world_process processes[WORLD_PROCESS_LIMIT];
    uint32_t process_top; /* slots below may be in use */
    struct {
        uint64_t token;
        int64_t due_ns;
        bool more;                  /* the next one is of the same transaction */
        struct world_target target; /* row_count 0: deletion */
    } stores[WORLD_STORE_LIMIT];    /* oldest first; performed in order */
    uint32_t store_count;
    uint64_t snapshot;                         /* newest published */
    uint32_t routable[WORLD_DEPLOYMENT_LIMIT]; /* by deployment id, as published */
    uint64_t lost_deployment;                  /* of the replica that this event is about */
    uint64_t started_last;                     /* highest replica id of a START */
    uint8_t used[WORLD_REPLICA_LIMIT];         /* replica ids of STARTs: never twice */
    uint8_t condemned[WORLD_REPLICA_LIMIT];    /* dead or unhealthy: nobody counts on them */
    int64_t owing_ns[WORLD_REPLICA_LIMIT];     /* nor on those that do not answer, since then */
    uint8_t outcomes[WORLD_TOKEN_LIMIT];       /* by token */
    uint8_t asked[WORLD_TOKEN_LIMIT];
    int codes[WORLD_TOKEN_LIMIT];
    uint64_t token_last;
    uint64_t fingerprint; /* of everything that the mind said (D1) */
    uint64_t steps;
    bool ended;
    struct trace trace;
};

struct world *world_new(uint64_t seed);
struct world *world_free(struct world *world);
/* One event, its effects performed, everything checked. */
void world_step(struct world *world, const struct controller_event *event);
/* Returns the token. */
uint64_t world_deploy(struct world *world, const struct world_target *target);
/* Several at once, of different applications; a declarative whole target, or not. */
uint64_t world_apply(struct world *world, const struct world_target *targets, uint32_t count,
                     bool declarative);
uint64_t world_delete(struct world *world, uint32_t app); /* WORLD_APP_LIMIT: all */
uint64_t world_shutdown(struct world *world);
/* The oldest store effect is answered now; false: there is none. */
bool world_store_answers(struct world *world);
/* The process in this slot ends by itself. */
void world_kill(struct world *world, struct world_process *process, int signal_number);
/* A running process, counted from `start`, or null. */
struct world_process *world_running(struct world *world, uint32_t start);
void world_restart(struct world *world);
/* To the next time at which something happens; false: nothing ever will.  `late`: the turn came too
 * late. */
bool world_pass_time(struct world *world, bool late);
/* Nothing goes wrong any more; time passes until nothing happens, at most for `limit_ns` (C5). */
void world_rest(struct world *world, int64_t limit_ns);
/* C5: processes, snapshot and statuses are what the store's targets say, for apps whose versions
 * are all good. */
void world_check_rest(struct world *world);

#endif
