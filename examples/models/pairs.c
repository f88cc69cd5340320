/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pairs: many models behind one route, each loaded when somebody asks for it.
 *
 *     POST /  serve_multiplexed_model_id: 3-8  {"rows": [[64 pixels], ...]}
 *             {"predictions": [3, 8, ...], "probabilities": [0.002, 0.998, ...]}
 *
 * A model tells two digits apart (train.c made the files).  A replica holds a few of them; requests go to a replica that holds
 * theirs already.  A batch is always for one model, so its rows are predicted together.  Two batches run side
 * by side, so that one model can be loaded while another answers.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>
#include <xgboost/c_api.h>

#include "pairs.h"

enum { BATCH_LIMIT = 32, ROW_LIMIT = 64 }; /* requests of a batch, rows of a request */

struct pairs {
    char folder[PATH_ROOM - 16];
};

struct pair {
    BoosterHandle booster;
    int first, second;
};

/* ---- life of the replica and of its models -------------------------------------------------- */

static int pairs_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const char *folder;
    int code = manta_args_string(manta_replica_args(replica), 0, &folder, reterr);
    struct pairs *pairs = code < 0 ? NULL : calloc(1, sizeof *pairs);
    if (code < 0)
        return code;
    if (!pairs)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory");
    snprintf(pairs->folder, sizeof pairs->folder, "%s", folder);
    *ret_state = pairs;
    return 0;
}

static void pairs_close(void *state)
{
    free(state);
}

static void pairs_unload(void *state, const char *model_id, void *model)
{
    struct pair *pair = model;
    (void)state;
    (void)model_id;
    if (pair->booster)
        XGBoosterFree(pair->booster);
    free(pair);
}

static int pairs_load(void *state, const char *model_id, void **ret_model, struct manta_error *reterr)
{
    struct pairs *pairs = state;
    struct pair *pair = calloc(1, sizeof *pair);
    char path[PATH_ROOM];
    if (!pair)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory");
    if (!pair_read(model_id, &pair->first, &pair->second)) {
        free(pair); /* and no path is made of what a client sent */
        return manta_error_set(reterr, MANTA_EINVALID, "a model is called by two digits, as 3-8");
    }
    snprintf(path, sizeof path, "%s/%s.ubj", pairs->folder, model_id);
    if (XGBoosterCreate(NULL, 0, &pair->booster) != 0 || XGBoosterLoadModel(pair->booster, path) != 0 ||
        XGBoosterSetParam(pair->booster, "nthread", "1") != 0) {
        const char *why = XGBGetLastError();
        pairs_unload(state, model_id, pair);
        return manta_error_set(reterr, MANTA_ENOTFOUND, "%.*s", (int)strcspn(why, "\n"), why);
    }
    *ret_model = pair;
    return 0;
}

/* ---- what is asked ---------------------------------------------------------------------------- */

struct job {
    struct manta_request *request;
    size_t first_row, row_count;
};

/* Copies the request's rows to `pixels`; how many, or an error. */
static int64_t read_rows(struct manta_request *request, float *pixels, struct manta_error *reterr)
{
    struct manta_value body, rows, row = {0};
    double numbers[PIXEL_COUNT];
    size_t count;
    struct manta_error error;
    int code = manta_request_value(request, &body, reterr);
    if (code < 0)
        return code;
    if (manta_value_get(&body, "rows", &rows, &error) < 0 || manta_value_type(&rows) != MANTA_ARRAY ||
        manta_value_count(&rows) < 1 || manta_value_count(&rows) > ROW_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID, "expected {\"rows\": [[%d pixels], ...]}, 1 to %d of them", PIXEL_COUNT,
                               ROW_LIMIT);
    for (; manta_value_next(&rows, &row); pixels += PIXEL_COUNT) {
        if (manta_value_floats(&row, numbers, PIXEL_COUNT, &count, &error) < 0 || count != PIXEL_COUNT)
            return manta_error_set(reterr, MANTA_EINVALID, "a row is not %d numbers", PIXEL_COUNT);
        for (size_t i = 0; i < PIXEL_COUNT; i++)
            pixels[i] = (float)numbers[i];
    }
    return manta_value_count(&rows);
}

/* One probability per row, valid until this thread predicts again. */
static int predict(const struct pair *pair, const float *pixels, size_t rows, const float **ret_probabilities,
                   struct manta_error *reterr)
{
    static const char CONFIG[] = "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,"
                                 "\"strict_shape\":false,\"missing\":NaN,\"cache_id\":0}";
    char matrix[160];
    const bst_ulong *shape;
    bst_ulong dimensions;
    snprintf(matrix, sizeof matrix, "{\"data\":[%zu,true],\"shape\":[%zu,%d],\"typestr\":\"<f4\",\"version\":3}", (size_t)pixels,
             rows, PIXEL_COUNT);
    if (XGBoosterPredictFromDense(pair->booster, matrix, CONFIG, NULL, &shape, &dimensions, ret_probabilities) != 0)
        return manta_error_set(reterr, MANTA_EUSER, "the prediction failed: %.200s", XGBGetLastError());
    return 0;
}

static void answer(const struct job *job, const struct pair *pair, const float *probabilities, size_t batch_size)
{
    char size[24];
    struct manta_pack *pack = manta_pack_new();
    if (!pack) {
        manta_request_fail(job->request, MANTA_EMEMORY, "no memory for the answer");
        return;
    }
    manta_pack_map(pack, 2);
    manta_pack_arg(pack, manta_string("predictions"));
    manta_pack_array(pack, (uint32_t)job->row_count);
    for (size_t row = 0; row < job->row_count; row++)
        manta_pack_arg(pack, manta_int(probabilities[row] > 0.5f ? pair->second : pair->first));
    manta_pack_arg(pack, manta_string("probabilities"));
    manta_pack_array(pack, (uint32_t)job->row_count);
    for (size_t row = 0; row < job->row_count; row++)
        manta_pack_arg(pack, manta_float(round((double)probabilities[row] * 1e6) / 1e6));
    /* For the curious: who answered, and how many requests together. */
    snprintf(size, sizeof size, "%zu", batch_size);
    manta_request_add_header(job->request, "x-batch-size", size, NULL);
    manta_request_add_header(job->request, "x-replica", manta_replica_id(manta_request_replica(job->request)), NULL);
    manta_request_reply_pack(job->request, pack);
    manta_pack_free(pack);
}

/* The model is the same for all; each request holds it until it is answered. */
static void pairs_call_batch(void *state, struct manta_request **requests, size_t count)
{
    struct job jobs[BATCH_LIMIT];
    size_t job_count = 0, row_count = 0;
    const float *probabilities = NULL;
    struct manta_error error;
    void *model = NULL;
    float *pixels = malloc(count * ROW_LIMIT * PIXEL_COUNT * sizeof *pixels);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        int64_t code = pixels ? manta_model_get(requests[i], &model, &error)
                              : manta_error_set(&error, MANTA_EMEMORY, "no memory for a batch");
        if (code == 0)
            code = read_rows(requests[i], pixels + row_count * PIXEL_COUNT, &error);
        if (code < 0) {
            manta_request_fail(requests[i], (int)code, "%s", error.text);
            continue;
        }
        jobs[job_count++] = (struct job){requests[i], row_count, (size_t)code};
        row_count += (size_t)code;
    }
    int code = job_count ? predict(model, pixels, row_count, &probabilities, &error) : 0;
    for (size_t i = 0; i < job_count; i++) {
        if (code < 0)
            manta_request_fail(jobs[i].request, code, "%s", error.text);
        else
            answer(&jobs[i], model, probabilities + jobs[i].first_row, job_count);
    }
    free(pixels);
}

MANTA_DEPLOYMENT(pairs, .open = pairs_open, .close = pairs_close, .call_batch = pairs_call_batch, .load_model = pairs_load,
                 .unload_model = pairs_unload, .max_models = 4, .threads = 2, .max_concurrent_batches = 2,
                 .max_batch_size = BATCH_LIMIT, .batch_wait_timeout_s = 0.002, .max_ongoing_requests = 4 * BATCH_LIMIT);

/* manta run libpairs.so:pairs folder=path/to/models [replicas=1] [models=4] */
MANTA_APPLICATION(pairs)
{
    const char *given = manta_app_argument(app, "folder", NULL);
    struct manta_deployment deployment = pairs;
    char *folder = given ? realpath(given, NULL) : NULL; /* replicas run in another directory */
    if (!folder || strlen(folder) >= sizeof((struct pairs *)0)->folder) {
        free(folder);
        return manta_app_fail(app, "say where the models are: folder=path/to/models (train_pairs)");
    }
    deployment.num_replicas = atoi(manta_app_argument(app, "replicas", "1"));
    deployment.max_models = atoi(manta_app_argument(app, "models", "4"));
    struct manta_arg bound = manta_bind(app, &deployment, manta_string(folder));
    free(folder);
    return bound;
}
