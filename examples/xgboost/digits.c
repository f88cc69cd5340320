/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digits: a real model behind the XGBoost C API, with dynamic batching.
 *
 *     POST /predict  {"rows": [[64 pixels], ...]}
 *                    {"predictions": [3, ...], "probabilities": [[10 numbers], ...]}
 *
 * XGBoost is much faster on many rows at once than on one after the other, so requests that come at
 * about the same time are answered together: call_batch gets up to 64 of them, copies the rows of
 * all into one matrix, predicts once and gives every request its part.  A request that makes no
 * sense is answered 400 and leaves the batch; the others do not notice.
 *
 * The model is a file that train.c wrote; every replica loads it once, in `open`.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <manta/manta.h>
#include <xgboost/c_api.h>

#include "digits.h"

enum { BATCH_LIMIT = 64, ROW_LIMIT = 256 }; /* requests of a batch, rows of a request */

struct digits {
    BoosterHandle booster;
    /* The matrix of one batch; room for the largest, of which only what is used is ever touched. */
    float pixels[BATCH_LIMIT * ROW_LIMIT * PIXEL_COUNT];
};

/* A request of the batch and where its rows are. */
struct job {
    struct manta_request *request;
    size_t first_row, row_count;
};

/* What XGBoost says went wrong, its first line: a stack trace follows it. */
static int failed(const char *what, const char *object, struct manta_error *reterr)
{
    const char *why = XGBGetLastError();
    return manta_error_set(reterr, MANTA_EUSER, "%s%s: %.*s", what, object, (int)strcspn(why, "\n"),
                           why);
}

/* ---- life --------------------------------------------------------------------------------- */

static void digits_close(void *state)
{
    struct digits *digits = state;
    if (digits->booster)
        XGBoosterFree(digits->booster);
    free(digits);
}

static int load_model(struct digits *digits, const char *path, struct manta_error *reterr)
{
    bst_ulong feature_count = 0;
    if (XGBoosterCreate(NULL, 0, &digits->booster) != 0 ||
        XGBoosterLoadModel(digits->booster, path) != 0 ||
        /* Replicas are the way to use more cores: a thread pool in each would fight the others. */
        XGBoosterSetParam(digits->booster, "nthread", "1") != 0 ||
        XGBoosterGetNumFeature(digits->booster, &feature_count) != 0)
        return failed("this model cannot be loaded: ", path, reterr);
    if (feature_count != PIXEL_COUNT)
        return manta_error_set(reterr, MANTA_EUSER, "the model %s is for %lu features, not %d",
                               path, (unsigned long)feature_count, PIXEL_COUNT);
    return 0;
}

static int digits_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const char *path;
    struct digits *digits = calloc(1, sizeof *digits);
    if (!digits)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a batch");
    int code = manta_args_string(manta_replica_args(replica), 0, &path, reterr);
    if (code == 0)
        code = load_model(digits, path, reterr);
    if (code < 0) {
        digits_close(digits);
        return code;
    }
    *ret_state = digits;
    return 0;
}

/* ---- what is asked ------------------------------------------------------------------------ */

/* What follows the application's own prefix: "/predict" of "/digits/predict". */
static const char *own_path(struct manta_request *request)
{
    const char *path = manta_request_path(request), *prefix = manta_request_route_prefix(request);
    size_t length = strlen(prefix);
    if (length > 1 && strncmp(path, prefix, length) == 0)
        path += length;
    return path;
}

/* Answers what is no prediction; true when it did. */
static bool refuse_other_routes(struct manta_request *request)
{
    static const char NOT_ALLOWED[] = "predictions are asked for by POST\n";
    if (!manta_request_is_http(request))
        return false;
    if (strcmp(own_path(request), "/predict") != 0) {
        manta_request_fail(request, MANTA_ENOTFOUND, "there is only /predict");
        return true;
    }
    if (strcmp(manta_request_method(request), "POST") != 0) {
        manta_request_add_header(request, "allow", "POST", NULL);
        manta_request_reply_http(request, 405, "text/plain", NOT_ALLOWED, sizeof NOT_ALLOWED - 1);
        return true;
    }
    return false;
}

static int read_row(const struct manta_value *row, size_t index, float *pixels,
                    struct manta_error *reterr)
{
    double numbers[PIXEL_COUNT];
    size_t count = 0;
    struct manta_error error = {0};
    int code = manta_value_floats(row, numbers, PIXEL_COUNT, &count, &error);
    if (code == MANTA_ELIMIT || (code == 0 && count != PIXEL_COUNT))
        return manta_error_set(reterr, MANTA_EINVALID, "row %zu has not exactly %d pixels", index,
                               PIXEL_COUNT);
    if (code < 0)
        return manta_error_set(reterr, MANTA_EINVALID, "row %zu is no array of numbers: %.200s",
                               index, error.text);
    for (size_t i = 0; i < PIXEL_COUNT; i++) {
        if (!(numbers[i] >= 0 && numbers[i] <= PIXEL_LIMIT))
            return manta_error_set(reterr, MANTA_EINVALID, "row %zu: pixel %zu is not 0 to %d",
                                   index, i, PIXEL_LIMIT);
        pixels[i] = (float)numbers[i];
    }
    return 0;
}

/* The rows of the body, or of the first argument of a call. */
static int find_rows(struct manta_request *request, struct manta_value *rows,
                     struct manta_error *reterr)
{
    struct manta_value body;
    struct manta_error error = {0};
    int code;
    if (manta_request_is_http(request)) {
        code = manta_request_value(request, &body, reterr);
        if (code < 0)
            return code;
        code = manta_value_get(&body, "rows", rows, &error);
    } else {
        code = manta_args_value(manta_request_args(request), 0, rows, &error);
    }
    if (code < 0 || manta_value_type(rows) != MANTA_ARRAY)
        return manta_error_set(reterr, MANTA_EINVALID, "expected {\"rows\": [[%d pixels], ...]}",
                               PIXEL_COUNT);
    return 0;
}

/* Copies the request's rows to `pixels`; how many, or an error. */
static int64_t read_rows(struct manta_request *request, float *pixels, struct manta_error *reterr)
{
    struct manta_value rows, row = {0};
    size_t index = 0;
    int code = find_rows(request, &rows, reterr);
    if (code < 0)
        return code;
    int64_t count = manta_value_count(&rows);
    if (count < 1 || count > ROW_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID, "a request has 1 to %d rows, not %lld",
                               ROW_LIMIT, (long long)count);
    for (; manta_value_next(&rows, &row); index++, pixels += PIXEL_COUNT)
        if ((code = read_row(&row, index, pixels, reterr)) < 0)
            return code;
    return count;
}

/* ---- the prediction ----------------------------------------------------------------------- */

/* `rows` times DIGIT_COUNT probabilities, valid until the next prediction. */
static int predict(struct digits *digits, size_t rows, const float **ret_probabilities,
                   struct manta_error *reterr)
{
    static const char CONFIG[] =
        "{\"type\":0,\"training\":false,\"iteration_begin\":0,"
        "\"iteration_end\":0,\"strict_shape\":true,\"missing\":NaN,\"cache_id\":0}";
    char matrix[160];
    const bst_ulong *shape;
    bst_ulong dimensions;
    snprintf(matrix, sizeof matrix,
             "{\"data\":[%zu,true],\"shape\":[%zu,%d],\"typestr\":\"<f4\",\"version\":3}",
             (size_t)digits->pixels, rows, PIXEL_COUNT);
    if (XGBoosterPredictFromDense(digits->booster, matrix, CONFIG, NULL, &shape, &dimensions,
                                  ret_probabilities) != 0)
        return failed("the prediction failed", "", reterr);
    if (dimensions != 2 || shape[0] != rows || shape[1] != DIGIT_COUNT)
        return manta_error_set(reterr, MANTA_EUSER, "the model does not tell %d digits apart",
                               DIGIT_COUNT);
    return 0;
}

static int best_digit(const float *probabilities)
{
    int best = 0;
    for (int digit = 1; digit < DIGIT_COUNT; digit++)
        best = probabilities[digit] > probabilities[best] ? digit : best;
    return best;
}

/* Six decimals, which is more than a float of XGBoost's is good for. */
static double rounded(float probability)
{
    return round((double)probability * 1e6) / 1e6;
}

static void answer(const struct job *job, const float *probabilities, size_t batch_size)
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
        manta_pack_arg(pack, manta_int(best_digit(probabilities + row * DIGIT_COUNT)));
    manta_pack_arg(pack, manta_string("probabilities"));
    manta_pack_array(pack, (uint32_t)job->row_count);
    for (size_t row = 0; row < job->row_count; row++) {
        manta_pack_array(pack, DIGIT_COUNT);
        for (size_t digit = 0; digit < DIGIT_COUNT; digit++)
            manta_pack_arg(pack, manta_float(rounded(probabilities[row * DIGIT_COUNT + digit])));
    }
    /* For the curious: how many requests were answered together. */
    snprintf(size, sizeof size, "%zu", batch_size);
    manta_request_add_header(job->request, "x-batch-size", size, NULL);
    manta_request_reply_pack(job->request, pack);
    manta_pack_free(pack);
}

static void digits_call_batch(void *state, struct manta_request **requests, size_t count)
{
    struct digits *digits = state;
    struct job jobs[BATCH_LIMIT];
    struct manta_error error = {0};
    const float *probabilities;
    size_t job_count = 0, row_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (refuse_other_routes(requests[i]))
            continue;
        int64_t rows = read_rows(requests[i], digits->pixels + row_count * PIXEL_COUNT, &error);
        if (rows < 0) {
            manta_request_fail(requests[i], (int)rows, "%s", error.text);
            continue;
        }
        jobs[job_count++] = (struct job){requests[i], row_count, (size_t)rows};
        row_count += (size_t)rows;
    }
    int code = row_count ? predict(digits, row_count, &probabilities, &error) : 0;
    for (size_t i = 0; i < job_count; i++) {
        if (code < 0)
            manta_request_fail(jobs[i].request, code, "%s", error.text);
        else
            answer(&jobs[i], probabilities + jobs[i].first_row * DIGIT_COUNT, job_count);
    }
}

/* Room for a batch that runs and one that gathers meanwhile. */
MANTA_DEPLOYMENT(digits, .open = digits_open, .close = digits_close,
                 .call_batch = digits_call_batch, .max_batch_size = BATCH_LIMIT,
                 .batch_wait_timeout_s = 0.002, .max_ongoing_requests = 2 * BATCH_LIMIT);

/*
 * manta run libdigits.so:digits model=path/to/model [replicas=1]
 *
 * The second constructor argument is when the model was written: a model trained anew is another
 * version, so that running the application again replaces the replicas without losing a request.
 */
MANTA_APPLICATION(digits)
{
    const char *given = manta_app_argument(app, "model", NULL);
    const char *replicas = manta_app_argument(app, "replicas", "1");
    struct manta_deployment deployment = digits;
    struct stat about;
    if (!given)
        return manta_app_fail(app, "say where the model is: model=path/to/model (train_digits)");
    char *path = realpath(given, NULL); /* replicas run in another directory */
    if (!path || stat(path, &about) < 0) {
        free(path);
        return manta_app_fail(app, "there is no model %s: train it with train_digits", given);
    }
    deployment.num_replicas = atoi(replicas);
    struct manta_arg bound =
        manta_bind(app, &deployment, manta_string(path),
                   manta_int(about.st_mtim.tv_sec * 1000000000LL + about.st_mtim.tv_nsec));
    free(path);
    return bound;
}
