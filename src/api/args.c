/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args: writing argument lists, and reading them (manta_args_*).
 */
#include "args.h"

#include "call.h"
#include "shared.h"
#include "value.h"

int args_write_one(struct text *out, const struct manta_arg *arg, struct error *reterr)
{
    size_t offset;
    switch (arg->type) {
    case MANTA_ARG_NIL:
        value_write_nil(out);
        break;
    case MANTA_ARG_BOOL:
        value_write_bool(out, arg->u.boolean);
        break;
    case MANTA_ARG_INT:
        value_write_int(out, arg->u.integer);
        break;
    case MANTA_ARG_FLOAT:
        value_write_float(out, arg->u.number);
        break;
    case MANTA_ARG_STRING:
        value_write_string(out, bytes_of(arg->u.at, arg->size));
        break;
    case MANTA_ARG_BINARY:
        value_write_binary(out, bytes_of(arg->u.at, arg->size));
        break;
    case MANTA_ARG_VALUE:
        if (value_check(bytes_of(arg->u.at, arg->size), &offset) < 0)
            return error_set(reterr, ERROR_INVALID, "an argument is not exactly one packed value");
        text_add(out, bytes_of(arg->u.at, arg->size));
        break;
    case MANTA_ARG_BUFFER:
        return shared_write_buffer(out, arg, reterr);
    case MANTA_ARG_TENSOR:
        return shared_write_tensor(out, arg, reterr);
    case MANTA_ARG_BOUND:
        return error_set(reterr, ERROR_INVALID,
                         "a bound deployment can only be a constructor argument");
    default:
        return error_set(reterr, ERROR_INVALID, "an argument has the unknown type %u", arg->type);
    }
    return out->failed ? error_set(reterr, ERROR_MEMORY, "no memory for the arguments") : 0;
}

int args_write(struct text *out, const struct manta_arg *args, size_t count, struct error *reterr)
{
    value_write_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        int code = args_write_one(out, &args[i], reterr);
        if (code < 0)
            return code;
    }
    return 0;
}

/* ---- reading
 * ---------------------------------------------------------------------------------------- */

size_t manta_args_count(const struct manta_args *args)
{
    struct manta_value list = {args->document.at, args->document.size};
    return args->document.size ? (size_t)manta_value_count(&list) : 0;
}

int manta_args_value(const struct manta_args *args, size_t index, struct manta_value *ret_value,
                     struct manta_error *reterr)
{
    struct value item;
    size_t count = manta_args_count(args);
    if (index >= count || !value_array_at(args->document, (uint32_t)index, &item))
        return manta_error_set(reterr, MANTA_EINVALID, "argument %zu is missing: there are %zu",
                               index, count);
    *ret_value = (struct manta_value){item.raw.at, item.raw.size};
    return 0;
}

/* Says which argument is wrong, in front of what is wrong with it. */
static int name_argument(size_t index, int code, const struct manta_error *error,
                         struct manta_error *reterr)
{
    return manta_error_set(reterr, code, "argument %zu: %.400s", index, error->text);
}

int manta_args_bool(const struct manta_args *args, size_t index, bool *ret_value,
                    struct manta_error *reterr)
{
    struct manta_value value;
    struct manta_error error = {0};
    int code = manta_args_value(args, index, &value, reterr);
    if (code == 0 && (code = manta_value_bool(&value, ret_value, &error)) < 0)
        return name_argument(index, code, &error, reterr);
    return code;
}

int manta_args_int(const struct manta_args *args, size_t index, int64_t *ret_value,
                   struct manta_error *reterr)
{
    struct manta_value value;
    struct manta_error error = {0};
    int code = manta_args_value(args, index, &value, reterr);
    if (code == 0 && (code = manta_value_int(&value, ret_value, &error)) < 0)
        return name_argument(index, code, &error, reterr);
    return code;
}

int manta_args_float(const struct manta_args *args, size_t index, double *ret_value,
                     struct manta_error *reterr)
{
    struct manta_value value;
    struct manta_error error = {0};
    int code = manta_args_value(args, index, &value, reterr);
    if (code == 0 && (code = manta_value_float(&value, ret_value, &error)) < 0)
        return name_argument(index, code, &error, reterr);
    return code;
}

int manta_args_string(const struct manta_args *args, size_t index, const char **ret_value,
                      struct manta_error *reterr)
{
    struct manta_value value;
    struct manta_error error = {0};
    const char *at = NULL;
    size_t size = 0;
    int code = manta_args_value(args, index, &value, reterr);
    if (code < 0)
        return code;
    if ((code = manta_value_string(&value, &at, &size, &error)) < 0)
        return name_argument(index, code, &error, reterr);
    bool nested = runtime_enter(args->runtime);
    const char *string = keep_string(args->keep, bytes_of(at, size));
    runtime_leave(args->runtime, nested);
    if (!string)
        return manta_error_set(reterr, MANTA_EMEMORY,
                               "argument %zu: no memory for a string of %zu bytes", index, size);
    *ret_value = string;
    return 0;
}

int manta_args_binary(const struct manta_args *args, size_t index, const void **ret_at,
                      size_t *ret_size, struct manta_error *reterr)
{
    struct manta_value value;
    struct manta_error error = {0};
    int code = manta_args_value(args, index, &value, reterr);
    if (code == 0 && (code = manta_value_binary(&value, ret_at, ret_size, &error)) < 0)
        return name_argument(index, code, &error, reterr);
    return code;
}

int manta_args_handle(const struct manta_args *args, size_t index, struct manta_handle **ret_handle,
                      struct manta_error *reterr)
{
    struct manta_value value;
    struct value item, app, deployment;
    struct value_reader reader;
    size_t offset;
    int code = manta_args_value(args, index, &value, reterr);
    if (code < 0)
        return code;
    value_read_init(&reader, bytes_of(value.at, value.size));
    if (!value_next(&reader, &item) || item.type != VALUE_EXTENSION ||
        item.extension != VALUE_EXTENSION_HANDLE)
        return manta_error_set(reterr, MANTA_ETYPE, "argument %zu is not a bound deployment",
                               index);
    if (value_check(item.bytes, &offset) < 0 || !value_array_at(item.bytes, 0, &app) ||
        !value_array_at(item.bytes, 1, &deployment) || app.type != VALUE_STRING ||
        deployment.type != VALUE_STRING)
        return manta_error_set(reterr, MANTA_EPROTOCOL, "argument %zu is a damaged handle", index);
    struct manta_handle *handle = handle_new(args->runtime, app.bytes, deployment.bytes);
    if (!handle)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a handle");
    *ret_handle = handle;
    return 0;
}
