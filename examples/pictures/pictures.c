/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pictures: an ingress in front of a pipeline of three deployments, pictures passed by reference.
 *
 *     POST / (a PNG of a handwritten digit)      {"digit": 7, "probability": 0.98, "size": [1600,
 * 1600]}
 *
 *     ingress --PNG--> decode --[height][width] grey--> shrink --[8][8]--> classify
 *
 * A picture of ten megabytes is written once, by libpng, into memory that the processes of this
 * machine share; every other stage reads it where it lies.  The ingress passes on what it was
 * answered without looking at it.
 *
 * The classifier is the model of examples/xgboost: train_digits writes it.
 */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>
#include <xgboost/c_api.h>

enum { SIDE = 8, PIXEL_COUNT = SIDE * SIDE, DIGIT_COUNT = 10 };

static const double CALL_TIMEOUT_S = 10;
static const png_alloc_size_t PICTURE_LIMIT = 256 << 20; /* bytes of a decoded picture */

static int failed(const char *what, struct manta_error *reterr)
{
    const char *why = XGBGetLastError();
    return manta_error_set(reterr, MANTA_EUSER, "%s: %.*s", what, (int)strcspn(why, "\n"), why);
}

/* ---- decode ------------------------------------------------------------------------------- */

/* A tensor of bytes, 0 black to 255 white; ended by manta_tensor_done. */
static int decode_png(const void *at, size_t size, struct manta_tensor *ret_tensor,
                      struct manta_error *reterr)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    void *pixels;
    if (!png_image_begin_read_from_memory(&image, at, size))
        return manta_error_set(reterr, MANTA_EINVALID, "this is no PNG: %s", image.message);
    image.format = PNG_FORMAT_GRAY;
    if (PNG_IMAGE_SIZE(image) > PICTURE_LIMIT) {
        png_image_free(&image);
        return manta_error_set(reterr, MANTA_ETOOLARGE, "a picture of %u x %u is too large",
                               image.width, image.height);
    }
    int64_t shape[] = {image.height, image.width};
    int code = manta_tensor_new(MANTA_TENSOR_UINT, 8, shape, 2, ret_tensor, &pixels, reterr);
    if (code < 0) {
        png_image_free(&image);
        return code;
    }
    png_color white = {255, 255, 255}; /* behind what is transparent */
    if (!png_image_finish_read(&image, &white, pixels, 0, NULL)) {
        manta_tensor_done(ret_tensor);
        return manta_error_set(reterr, MANTA_EINVALID, "this PNG is damaged: %s", image.message);
    }
    return 0;
}

static void decode_call(void *state, struct manta_request *request)
{
    const void *at;
    size_t size;
    struct manta_tensor picture;
    struct manta_error error = {0};
    (void)state;
    if (manta_args_binary(manta_request_args(request), 0, &at, &size, &error) < 0 ||
        decode_png(at, size, &picture, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    manta_request_reply_arg(request, manta_tensor_arg(&picture));
    manta_tensor_done(&picture);
}

MANTA_DEPLOYMENT(decode, .call = decode_call);

/* ---- shrink ------------------------------------------------------------------------------- */

/* The mean of each of SIDE x SIDE fields, as ink: 0 white to 16 black, what the model knows. */
static void shrink_picture(const struct manta_tensor *picture, float *ink)
{
    const uint8_t *pixels = picture->data;
    int64_t height = picture->shape[0], width = picture->shape[1];
    for (int row = 0; row < SIDE; row++) {
        for (int column = 0; column < SIDE; column++) {
            int64_t top = row * height / SIDE, bottom = (row + 1) * height / SIDE;
            int64_t left = column * width / SIDE, right = (column + 1) * width / SIDE;
            uint64_t sum = 0;
            for (int64_t y = top; y < bottom; y++)
                for (int64_t x = left; x < right; x++)
                    sum += pixels[y * picture->strides[0] + x * picture->strides[1]];
            double mean = (double)sum / (double)((bottom - top) * (right - left));
            ink[row * SIDE + column] = (float)(16 * (255 - mean) / 255);
        }
    }
}

static int check_picture(const struct manta_tensor *picture, struct manta_error *reterr)
{
    if (picture->ndim != 2 || picture->kind != MANTA_TENSOR_UINT || picture->bits != 8)
        return manta_error_set(reterr, MANTA_ETYPE, "a picture is a matrix of bytes");
    if (picture->shape[0] < SIDE || picture->shape[1] < SIDE)
        return manta_error_set(reterr, MANTA_EINVALID, "a picture has at least %d x %d pixels",
                               SIDE, SIDE);
    return 0;
}

static void shrink_call(void *state, struct manta_request *request)
{
    static const int64_t SHAPE[] = {SIDE, SIDE};
    struct manta_value value;
    struct manta_tensor picture, small;
    struct manta_error error = {0};
    void *ink;
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_tensor(&value, &picture, &error) < 0 || check_picture(&picture, &error) < 0 ||
        manta_tensor_new(MANTA_TENSOR_FLOAT, 32, SHAPE, 2, &small, &ink, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    shrink_picture(&picture, ink);
    manta_request_reply_arg(request, manta_tensor_arg(&small));
    manta_tensor_done(&small);
}

MANTA_DEPLOYMENT(shrink, .call = shrink_call);

/* ---- classify ----------------------------------------------------------------------------- */

static void classify_close(void *state)
{
    XGBoosterFree(state);
}

static int classify_open(struct manta_replica *replica, void **ret_state,
                         struct manta_error *reterr)
{
    const char *path;
    BoosterHandle booster = NULL;
    bst_ulong feature_count = 0;
    int code = manta_args_string(manta_replica_args(replica), 0, &path, reterr);
    if (code < 0)
        return code;
    if (XGBoosterCreate(NULL, 0, &booster) != 0)
        return failed("no model", reterr);
    if (XGBoosterLoadModel(booster, path) != 0 || XGBoosterSetParam(booster, "nthread", "1") != 0 ||
        XGBoosterGetNumFeature(booster, &feature_count) != 0)
        code = failed(path, reterr);
    else if (feature_count != PIXEL_COUNT)
        code = manta_error_set(reterr, MANTA_EUSER, "the model %s is not for %d pixels", path,
                               PIXEL_COUNT);
    if (code < 0) {
        classify_close(booster);
        return code;
    }
    *ret_state = booster;
    return 0;
}

/* DIGIT_COUNT probabilities, valid until the next prediction. */
static int predict(BoosterHandle booster, const void *ink, const float **ret_probabilities,
                   struct manta_error *reterr)
{
    static const char CONFIG[] =
        "{\"type\":0,\"training\":false,\"iteration_begin\":0,"
        "\"iteration_end\":0,\"strict_shape\":true,\"missing\":NaN,\"cache_id\":0}";
    char matrix[160];
    const bst_ulong *shape;
    bst_ulong dimensions;
    snprintf(matrix, sizeof matrix,
             "{\"data\":[%zu,true],\"shape\":[1,%d],\"typestr\":\"<f4\",\"version\":3}",
             (size_t)ink, PIXEL_COUNT);
    if (XGBoosterPredictFromDense(booster, matrix, CONFIG, NULL, &shape, &dimensions,
                                  ret_probabilities) != 0)
        return failed("the prediction failed", reterr);
    if (dimensions != 2 || shape[1] != DIGIT_COUNT)
        return manta_error_set(reterr, MANTA_EUSER, "the model does not tell %d digits apart",
                               DIGIT_COUNT);
    return 0;
}

static void classify_call(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_tensor small;
    struct manta_error error = {0};
    const float *probabilities;
    struct manta_pack *pack = manta_pack_new();
    int best = 0;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_tensor(&value, &small, &error) < 0 ||
        (!pack && manta_error_set(&error, MANTA_EMEMORY, "no memory for the answer") < 0) ||
        (manta_tensor_count(&small) != PIXEL_COUNT &&
         manta_error_set(&error, MANTA_EINVALID, "not %d pixels", PIXEL_COUNT) < 0) ||
        predict(state, small.data, &probabilities, &error) < 0) {
        manta_pack_free(pack);
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    for (int digit = 1; digit < DIGIT_COUNT; digit++)
        best = probabilities[digit] > probabilities[best] ? digit : best;
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, manta_int(best));
    manta_pack_arg(pack, manta_float((double)probabilities[best]));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

MANTA_DEPLOYMENT(classify, .open = classify_open, .call = classify_call, .close = classify_close);

/* ---- the ingress -------------------------------------------------------------------------- */

struct pipeline {
    struct manta_handle *decode, *shrink, *classify;
};

static void pictures_close(void *state)
{
    struct pipeline *pipeline = state;
    manta_handle_free(pipeline->decode);
    manta_handle_free(pipeline->shrink);
    manta_handle_free(pipeline->classify);
    free(pipeline);
}

static int pictures_open(struct manta_replica *replica, void **ret_state,
                         struct manta_error *reterr)
{
    const struct manta_args *args = manta_replica_args(replica);
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    int code;
    if (!pipeline)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a pipeline");
    if ((code = manta_args_handle(args, 0, &pipeline->decode, reterr)) < 0 ||
        (code = manta_args_handle(args, 1, &pipeline->shrink, reterr)) < 0 ||
        (code = manta_args_handle(args, 2, &pipeline->classify, reterr)) < 0) {
        pictures_close(pipeline);
        return code;
    }
    *ret_state = pipeline;
    return 0;
}

/* One stage: its answer lives in *ret_call, to be freed. */
static int ask(struct manta_request *request, struct manta_handle *handle, struct manta_arg arg,
               struct manta_call **ret_call, struct manta_error *reterr)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .parent = request};
    int code = manta_call(handle, &options, &arg, 1, ret_call, reterr);
    return code < 0 ? code : manta_call_wait(*ret_call, CALL_TIMEOUT_S, reterr);
}

/* The body as an arg: by reference when it came by reference. */
static struct manta_arg body_of(struct manta_request *request, struct manta_buffer **ret_buffer)
{
    size_t size;
    const void *body = manta_request_body(request, &size);
    if (manta_request_body_buffer(request, ret_buffer, NULL) == 0)
        return manta_by_reference_head(*ret_buffer, size);
    return manta_binary(body, size);
}

static int answer(struct manta_request *request, const struct manta_call *decoded,
                  const struct manta_call *classified, struct manta_error *reterr)
{
    struct manta_value digit, probability;
    struct manta_tensor picture;
    struct manta_pack *pack;
    int code;
    if ((code = manta_value_tensor(manta_call_value(decoded), &picture, reterr)) < 0 ||
        (code = manta_value_at(manta_call_value(classified), 0, &digit, reterr)) < 0 ||
        (code = manta_value_at(manta_call_value(classified), 1, &probability, reterr)) < 0)
        return code;
    if (!(pack = manta_pack_new()))
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for the answer");
    manta_pack_map(pack, 3);
    manta_pack_arg(pack, manta_string("digit"));
    manta_pack_arg(pack, manta_copied(&digit));
    manta_pack_arg(pack, manta_string("probability"));
    manta_pack_arg(pack, manta_copied(&probability));
    manta_pack_arg(pack, manta_string("size"));
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, manta_int(picture.shape[1]));
    manta_pack_arg(pack, manta_int(picture.shape[0]));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
    return 0;
}

static void pictures_call(void *state, struct manta_request *request)
{
    struct pipeline *pipeline = state;
    struct manta_call *decoded = NULL, *shrunk = NULL, *classified = NULL;
    struct manta_buffer *body = NULL;
    struct manta_error error = {0};
    if (strcmp(manta_request_method(request), "POST") != 0) {
        static const char WORDS[] = "a PNG is asked about by POST\n";
        manta_request_add_header(request, "allow", "POST", NULL);
        manta_request_reply_http(request, 405, "text/plain", WORDS, sizeof WORDS - 1);
        return;
    }
    struct manta_arg png = body_of(request, &body);
    if (ask(request, pipeline->decode, png, &decoded, &error) < 0 ||
        ask(request, pipeline->shrink, manta_copied(manta_call_value(decoded)), &shrunk, &error) <
            0 ||
        ask(request, pipeline->classify, manta_copied(manta_call_value(shrunk)), &classified,
            &error) < 0 ||
        answer(request, decoded, classified, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    manta_buffer_free(body);
    manta_call_free(decoded);
    manta_call_free(shrunk);
    manta_call_free(classified);
}

MANTA_DEPLOYMENT(pictures, .open = pictures_open, .call = pictures_call, .close = pictures_close,
                 .threads = 4);

MANTA_APPLICATION(pictures)
{
    const char *model = manta_app_argument(app, "model", NULL);
    if (!model)
        return manta_app_fail(app, "model=FILE is missing: train_digits writes one");
    return manta_bind(app, &pictures, manta_bind(app, &decode), manta_bind(app, &shrink),
                      manta_bind(app, &classify, manta_string(model)));
}
