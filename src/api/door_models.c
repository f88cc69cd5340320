/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_models: what <manta/sys/taker.h> says about models.
 *
 * A runner either lends its load and unload functions (models.c does the rest) or holds models in
 * its own way and tells us which.
 */
#include <string.h>

#include "door.h"
#include "ensure.h"
#include "models.h"
#include "wire.h"

static const double NS = 1e9;

int manta_taker_set_models(struct manta_taker *taker, manta_load_model_function *load,
                           manta_unload_model_function *unload, int32_t max_models,
                           double load_timeout_s, struct manta_error *reterr)
{
    struct manta_replica *replica = &taker->replica;
    ensure(!replica->models && load);
    replica->models = models_new(&(struct models_config){
        .runtime = replica->runtime,
        .taker = replica->taker,
        .load = load,
        .unload = unload,
        .state = replica->state,
        .most = max_models,
        .load_limit_ns = load_timeout_s > 0 ? (int64_t)(load_timeout_s * NS) : 0});
    return replica->models ? 0 : manta_error_set(reterr, MANTA_EMEMORY, "no memory for models");
}

bool manta_taker_end_models(struct manta_taker *taker)
{
    bool ended = models_close(taker->replica.models);
    if (ended)
        taker->replica.models = NULL;
    else
        manta_taker_keep(taker);
    return ended;
}

int manta_taker_tell_models(struct manta_taker *taker, const char *const *ids, size_t count,
                            struct manta_error *reterr)
{
    struct bytes slices[WIRE_MODELS_LIMIT];
    if (count > WIRE_MODELS_LIMIT)
        count = WIRE_MODELS_LIMIT;
    for (size_t i = 0; i < count; i++) {
        slices[i] = bytes_of_string(ids[i]);
        if (slices[i].size == 0 || slices[i].size > WIRE_MODEL_ID_LIMIT)
            return manta_error_set(reterr, MANTA_EINVALID,
                                   "a model id of %zu bytes; 1 to %d are allowed", slices[i].size,
                                   WIRE_MODEL_ID_LIMIT);
    }
    bool nested = runtime_enter(taker->replica.runtime);
    int code = taker_models(taker->replica.taker, slices, count);
    if (code == 0)
        channel_set_flush(&taker->replica.runtime->channels);
    runtime_leave(taker->replica.runtime, nested);
    return code < 0 ? manta_error_set(reterr, MANTA_EMEMORY, "no memory to tell of models") : 0;
}
