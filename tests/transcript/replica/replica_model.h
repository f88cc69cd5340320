/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_model: the replica mind told twice, the second time as plainly as possible.
 *
 * The account is an array of requests that is searched from end to end for every question: which
 * are accepted, what is due, what comes first.  Each event is given to both, and every answer must
 * be the same, down to the order of requests in a batch and to the next deadline.
 */
#ifndef MANTA_TESTS_REPLICA_MODEL_H
#define MANTA_TESTS_REPLICA_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "replica.h"
#include "rng.h"
#include "text.h"

enum { MODEL_REQUESTS = 24 };

enum model_state { MODEL_NONE, MODEL_READY, MODEL_TAKEN };

struct model_request {
    struct request_id id;
    enum model_state state;
    uint64_t arrival;
    int64_t came_ns, deadline_ns; /* deadline 0: none */
    bool batched, cancelled;
    uint64_t method;
    const char *model_id;
    void *object; /* in the pool */
};

struct model {
    struct replica *replica;
    struct replica_config config;
    struct trace trace;
    struct rng rng;
    struct pool pool;
    struct text story; /* the narration (D1) */
    int64_t now_ns;
    uint64_t arrival;
    uint64_t accepted, ended;
    uint32_t batches_out;
    bool draining;
    int64_t drain_due_ns;
    bool memory_fails; /* a rejection needs no other reason */
    struct model_request requests[MODEL_REQUESTS];
};

/* False when memory lacks. */
bool model_init(struct model *model, uint64_t seed, const struct replica_config *config);
void model_done(struct model *model);

/* Events; false when it made no sense now and nothing happened. */
bool model_admit(struct model *model, const struct replica_admit *like);
bool model_take(struct model *model, uint32_t room); /* once */
void model_turn(struct model *model);                /* everything that is due, expired ones too */
bool model_answer(struct model *model, uint32_t request);
bool model_cancel(struct model *model, uint32_t request);
bool model_batch_done(struct model *model);
void model_drain(struct model *model, int64_t for_ns);
void model_reconfigure(struct model *model, const struct replica_config *config);
void model_time(struct model *model, int64_t by_ns); /* a turn at each deadline on the way */
/* The clock moves on while user code takes nothing; nothing is told twice because of that. */
void model_busy(struct model *model, int64_t by_ns);
/* User code answers all; nothing is left. */
void model_rest(struct model *model);

#endif
