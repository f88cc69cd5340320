/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensors: values between this language and others.
 *
 *     tensors   `numbers`, which others call: it looks at tensors and other values, and makes them
 *     relay     `relay`, which calls: GET ?METHOD asks another application's deployment, all three
 *               named by arguments (application, deployment)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* ---- called ---- */

static double element(const struct manta_tensor *tensor, const int64_t *index)
{
    int64_t at = 0;
    for (uint32_t i = 0; i < tensor->ndim; i++)
        at += index[i] * tensor->strides[i];
    if (tensor->kind == MANTA_TENSOR_FLOAT && tensor->bits == 64)
        return ((const double *)tensor->data)[at];
    if (tensor->kind == MANTA_TENSOR_FLOAT && tensor->bits == 32)
        return (double)((const float *)tensor->data)[at];
    return tensor->kind == MANTA_TENSOR_UINT && tensor->bits == 8
               ? ((const uint8_t *)tensor->data)[at]
               : 0;
}

/* By its strides: whatever the order in memory is. */
static double sum_of(const struct manta_tensor *tensor)
{
    int64_t index[MANTA_TENSOR_DIMENSIONS] = {0};
    double sum = 0;
    size_t count = manta_tensor_count(tensor);
    for (size_t i = 0; i < count; i++) {
        sum += element(tensor, index);
        for (uint32_t axis = tensor->ndim; axis-- > 0;) {
            if (++index[axis] < tensor->shape[axis])
                break;
            index[axis] = 0;
        }
    }
    return sum;
}

/* __call__(tensor) -> [kind, bits, compact, sum, shape...] */
static void numbers_call(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_tensor tensor;
    struct manta_error error = {0};
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_tensor(&value, &tensor, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    struct manta_pack *pack = manta_pack_new();
    manta_pack_array(pack, 4 + tensor.ndim);
    manta_pack_arg(pack, manta_int(tensor.kind));
    manta_pack_arg(pack, manta_int(tensor.bits));
    manta_pack_arg(pack, manta_bool(manta_tensor_is_compact(&tensor)));
    manta_pack_arg(pack, manta_float(sum_of(&tensor)));
    for (uint32_t i = 0; i < tensor.ndim; i++)
        manta_pack_arg(pack, manta_int(tensor.shape[i]));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

/* echo(value) -> value */
static void numbers_echo(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_error error = {0};
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_arg(request, manta_copied(&value));
}

/* types(...) -> the type of each argument, as a number */
static void numbers_types(void *state, struct manta_request *request)
{
    const struct manta_args *args = manta_request_args(request);
    struct manta_pack *pack = manta_pack_new();
    struct manta_value value;
    struct manta_error error = {0};
    size_t count = manta_args_count(args);
    (void)state;
    manta_pack_array(pack, (uint32_t)count);
    for (size_t i = 0; i < count && manta_args_value(args, i, &value, &error) == 0; i++)
        manta_pack_arg(pack, manta_int(manta_value_type(&value)));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

static int make_tensor(enum manta_tensor_kind kind, int bits, int64_t rows, int64_t columns,
                       struct manta_tensor *ret_tensor, void **ret_data, struct manta_error *reterr)
{
    int64_t shape[2] = {rows, columns};
    return manta_tensor_new(kind, bits, shape, 2, ret_tensor, ret_data, reterr);
}

/* items(n): a stream of n tensors of one row, 0 to 9999, each multiplied by its place */
static void numbers_items(void *state, struct manta_request *request)
{
    enum { COLUMNS = 10000 };
    struct manta_tensor tensor;
    struct manta_error error = {0};
    int64_t count;
    void *data;
    (void)state;
    if (manta_args_int(manta_request_args(request), 0, &count, &error) < 0 ||
        manta_request_begin(request, 200, NULL, NULL, NULL, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (make_tensor(MANTA_TENSOR_FLOAT, 64, 1, COLUMNS, &tensor, &data, &error) < 0)
            break;
        for (int64_t column = 0; column < COLUMNS; column++)
            ((double *)data)[column] = (double)(i * column);
        while (manta_request_write_arg(request, manta_tensor_arg(&tensor)) == MANTA_EAGAIN &&
               manta_request_wait_room(request, -1) == 0)
            ;
        manta_tensor_done(&tensor);
    }
    manta_request_finish(request);
}

/* brain() -> four numbers of a type that not everybody has: 1.0 as a bfloat16 */
static void numbers_brain(void *state, struct manta_request *request)
{
    struct manta_tensor tensor;
    struct manta_error error = {0};
    void *data;
    (void)state;
    if (make_tensor(MANTA_TENSOR_BFLOAT, 16, 2, 2, &tensor, &data, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    for (int i = 0; i < 4; i++)
        ((uint16_t *)data)[i] = 0x3f80;
    manta_request_reply_arg(request, manta_tensor_arg(&tensor));
    manta_tensor_done(&tensor);
}

static void numbers_fail(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_fail(request, MANTA_EUSER, "no numbers today");
}

static const struct manta_method numbers_methods[] = {{"echo", numbers_echo},
                                                      {"types", numbers_types},
                                                      {"items", numbers_items},
                                                      {"brain", numbers_brain},
                                                      {"fail", numbers_fail}};

MANTA_DEPLOYMENT(numbers, .call = numbers_call, .methods = numbers_methods,
                 .method_count = sizeof numbers_methods / sizeof *numbers_methods);

MANTA_APPLICATION(tensors)
{
    return manta_bind(app, &numbers);
}

/* ---- calling ---- */

struct relay {
    struct manta_instance *instance;
    struct manta_handle *python;
};

/* The other application is in the same instance. */
static int relay_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct relay *relay = calloc(1, sizeof *relay);
    const char *application, *deployment;
    const struct manta_args *args = manta_replica_args(replica);
    int code = relay ? 0 : manta_error_set(reterr, MANTA_EMEMORY, "no memory");
    if (code == 0)
        code = manta_args_string(args, 0, &application, reterr);
    if (code == 0)
        code = manta_args_string(args, 1, &deployment, reterr);
    if (code == 0)
        code = manta_connect(NULL, &relay->instance, reterr); /* the one that this is a part of */
    if (code == 0)
        code = manta_get_deployment_handle(relay->instance, application, deployment, &relay->python,
                                           reterr);
    *ret_state = relay;
    return code;
}

static void relay_close(void *state)
{
    struct relay *relay = state;
    manta_handle_free(relay->python);
    manta_disconnect(relay->instance);
    free(relay);
}

/* The sum of the first number of each item. */
static void relay_stream(struct manta_call *call, struct manta_request *request)
{
    struct manta_value item;
    struct manta_tensor tensor;
    struct manta_error error = {0};
    double sum = 0;
    int code;
    while ((code = manta_call_next(call, -1, &item, &error)) == 1)
        if (manta_value_tensor(&item, &tensor, &error) == 0 && tensor.bits == 64)
            sum += *(const double *)tensor.data;
    if (code < 0)
        manta_request_fail(request, code, "%s", error.text);
    else
        manta_request_reply_float(request, sum);
}

static void relay_call(void *state, struct manta_request *request)
{
    enum { COLUMNS = 50000 };
    struct relay *relay = state;
    const char *method = manta_request_query(request);
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = method,
                                         .stream = !strcmp(method, "items")};
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    struct manta_tensor tensor;
    void *data;
    int code = make_tensor(MANTA_TENSOR_FLOAT, 64, 2, COLUMNS, &tensor, &data, &error);
    if (code < 0) {
        manta_request_fail(request, code, "%s", error.text);
        return;
    }
    for (int i = 0; i < 2 * COLUMNS; i++)
        ((double *)data)[i] = i;
    struct manta_arg args[] = {manta_tensor_arg(&tensor), manta_string("x"), manta_int(2)};
    code = manta_call(relay->python, &options, args, 3, &call, &error);
    if (code == 0 && options.stream) {
        relay_stream(call, request);
    } else if (code < 0 || (code = manta_call_wait(call, -1, &error)) < 0) {
        manta_request_reply_http(request, 500, "text/plain", error.text, strlen(error.text));
    } else {
        manta_request_reply_arg(request, manta_copied(manta_call_value(call)));
    }
    manta_call_free(call);
    manta_tensor_done(&tensor);
}

MANTA_DEPLOYMENT(relay, .open = relay_open, .close = relay_close, .call = relay_call);

MANTA_APPLICATION(relay)
{
    return manta_bind(app, &relay, manta_string(manta_app_argument(app, "application", "python")),
                      manta_string(manta_app_argument(app, "deployment", "Numbers")));
}
