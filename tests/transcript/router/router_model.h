/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_model: a small world around a router mind that knows what must be true.
 *
 * It plays owner, replicas and controller: it keeps its own simple account of every request and
 * every replica, performs the effects and compares.  Each step ends with the router's own check.
 * What it holds the router to:
 *
 *     every request ends exactly once (R1); sends go to connected replicas of the newest snapshot
 * (R3), never more than max_ongoing (R2), in strict order of arrival among those that the replica
 * may have; queues stay within max_queued (R2); no request waits while a replica is idle by
 * everybody's account, but for its model and no longer than its time; CONNECT and DISCONNECT
 * come in pairs; one probe is out per replica.
 */
#ifndef MANTA_TESTS_ROUTER_MODEL_H
#define MANTA_TESTS_ROUTER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "rng.h"
#include "router.h"
#include "text.h"

enum {
    MODEL_REQUESTS = 64,
    MODEL_REPLICAS = 8,
    MODEL_DEPLOYMENTS = 3,
    MODEL_NAMES = 5, /* of models that requests may name; 0 is none */
};

enum model_state { MODEL_NONE, MODEL_WAITING, MODEL_IN_FLIGHT, MODEL_GIVEN_UP };

struct model_request {
    struct request_id id; /* of the pool */
    enum model_state state;
    uint64_t arrival;    /* order of submission */
    uint32_t deployment; /* index */
    uint32_t replica;    /* index, while in flight */
    int64_t deadline_ns; /* 0: none */
    int64_t came_ns;
    uint32_t name; /* of its model; 0: none */
    void *object;  /* in the pool */
};

struct model_replica {
    uint64_t id; /* grows each time the replica is replaced by another */
    uint32_t deployment;
    bool wanted;      /* goes into the next snapshot */
    bool in_snapshot; /* the router has been told */
    bool announced;   /* CONNECT came */
    bool connected;
    bool draining;
    bool dying;        /* its connection is gone; the router hears of its requests first */
    bool probed;       /* since its last sign of life */
    int64_t probed_ns; /* when */
    uint32_t probes;   /* out */
    uint32_t in_flight;
    uint32_t told; /* its last word; UINT32_MAX after a rejection */
    bool tells;    /* it said which models it holds */
    bool names[MODEL_NAMES];
};

struct model_deployment {
    /* For the next snapshot. */
    bool wanted, available;
    uint32_t max_ongoing;
    int64_t max_queued;
    /* What the router has been told. */
    bool in_snapshot, told_available;
    uint32_t told_max_ongoing;
    int64_t told_max_queued;
};

struct model {
    struct router *router;
    struct router_effects effects;
    struct trace trace;
    struct rng rng;
    struct pool pool;
    struct text story; /* the narration (D1) */
    int64_t now_ns;
    uint64_t version, arrival, replica_id;
    uint64_t submitted, ended;
    struct model_request requests[MODEL_REQUESTS];
    struct model_replica replicas[MODEL_REPLICAS];
    struct model_deployment deployments[MODEL_DEPLOYMENTS];
};

/* False when memory lacks.  Replicas i belongs to deployment i % deployment_count; all are wanted.
 */
bool model_init(struct model *model, uint64_t seed, uint32_t deployment_count,
                uint32_t replica_count);
void model_done(struct model *model);

/* Events; each returns false when it made no sense now and nothing happened. */
bool model_submit(struct model *model, uint32_t deployment, int64_t deadline_ns);
bool model_accepted(struct model *model, uint32_t request, uint32_t queue_length);
bool model_finished(struct model *model, uint32_t request, uint32_t queue_length);
bool model_rejected(struct model *model, uint32_t request, uint32_t queue_length, bool draining);
bool model_cancel(struct model *model, uint32_t request);
bool model_connect(struct model *model, uint32_t replica);
bool model_gone(struct model *model, uint32_t replica, bool told_last);
/* The replica says that it holds the models whose bits are set. */
bool model_names(struct model *model, uint32_t replica, uint32_t bits);
bool model_pong(struct model *model, uint32_t replica, uint32_t queue_length);
bool model_snapshot(struct model *model); /* of what is wanted */
void model_time(struct model *model, int64_t by_ns, bool late);

/* The first request in flight, at `replica` or anywhere (MODEL_REPLICAS); MODEL_REQUESTS: none. */
uint32_t model_in_flight(const struct model *model, uint32_t replica);
uint32_t model_waiting(const struct model *model, uint32_t deployment);
/* Faults stop: everything wanted is there and answers.  All requests must end in bounded time, then
 * all is torn down. */
void model_rest(struct model *model);

#endif
