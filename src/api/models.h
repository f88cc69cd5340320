/* SPDX-License-Identifier: Apache-2.0 */
/*
 * models: the models that a replica holds: loaded on demand, unloaded when the next needs the room.
 *
 * Between the runner, which knows the deployment's load_model and unload_model, and the requests
 * that use what they give.  Guarded by the runtime's helm; user code runs without it.
 */
#ifndef MANTA_API_MODELS_H
#define MANTA_API_MODELS_H

#include <manta/model.h>

#include "runtime.h"
#include "taker.h"

struct models;

struct models_config {
    struct runtime *runtime;
    struct taker *taker;
    manta_load_model_function *load;
    manta_unload_model_function *unload; /* or null */
    void *state;                         /* of the replica, for both */
    int32_t most;                        /* -1: no limit */
    int64_t load_limit_ns; /* a load that runs longer makes the replica unhealthy; 0: none */
};

/* Tells the senders that there are models, none yet (helm not held); null: memory. */
struct models *models_new(const struct models_config *config);
/*
 * Unloads all; nothing is loaded any more (helm not held).  False when a request still holds one,
 * or user code is still loading: then the memory is left as it is.  Null is fine.
 */
bool models_close(struct models *take_models);

/* One request's hold on a model; in the request's arena. */
struct models_use;
/* The request is answered: gives back what it held (helm held). */
void models_release(struct models *models, struct models_use *uses);

#endif
