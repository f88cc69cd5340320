/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor: <manta/tensor.h>: tensors over buffers, in and out of values and DLPack.
 *
 * The arithmetic that keeps a tensor inside its bytes is value_tensor.h's; here it only meets
 * buffers.
 */
#include <manta/tensor.h>

#include <assert.h>
#include <dlpack/dlpack.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "shared.h"
#include "value.h"

static_assert((int)MANTA_TENSOR_DIMENSIONS == (int)VALUE_TENSOR_DIMENSIONS, "one limit");
static_assert((int)MANTA_TENSOR_INT == (int)kDLInt && (int)MANTA_TENSOR_UINT == (int)kDLUInt &&
                  (int)MANTA_TENSOR_FLOAT == (int)kDLFloat &&
                  (int)MANTA_TENSOR_BFLOAT == (int)kDLBfloat &&
                  (int)MANTA_TENSOR_COMPLEX == (int)kDLComplex,
              "DLPack's numbers");

static struct value_tensor inner_of(const struct manta_tensor *tensor)
{
    struct value_tensor inner = {
        .kind = tensor->kind, .bits = tensor->bits, .lanes = tensor->lanes, .ndim = tensor->ndim};
    ensure(tensor->ndim <= MANTA_TENSOR_DIMENSIONS);
    memcpy(inner.shape, tensor->shape, sizeof inner.shape);
    memcpy(inner.strides, tensor->strides, sizeof inner.strides);
    return inner;
}

static void outer_of(const struct value_tensor *inner, struct manta_buffer *buffer,
                     struct manta_tensor *ret_tensor)
{
    *ret_tensor = (struct manta_tensor){.data = buffer->at + inner->place.offset,
                                        .buffer = buffer,
                                        .kind = inner->kind,
                                        .bits = inner->bits,
                                        .lanes = inner->lanes,
                                        .ndim = inner->ndim};
    memcpy(ret_tensor->shape, inner->shape, inner->ndim * sizeof *inner->shape);
    memcpy(ret_tensor->strides, inner->strides, inner->ndim * sizeof *inner->strides);
}

/* ---- made here ---- */

static int fill(struct value_tensor *inner, int kind, int bits, const int64_t *shape,
                const int64_t *strides, size_t ndim, struct manta_error *reterr)
{
    if (ndim > VALUE_TENSOR_DIMENSIONS)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "a tensor has at most %d dimensions, not %zu",
                               VALUE_TENSOR_DIMENSIONS, ndim);
    if (bits <= 0 || bits > UINT8_MAX || kind < 0 || kind > UINT8_MAX)
        return manta_error_set(reterr, MANTA_EINVALID, "elements of %d bits cannot be", bits);
    *inner = (struct value_tensor){
        .kind = (uint8_t)kind, .bits = (uint8_t)bits, .lanes = 1, .ndim = (uint32_t)ndim};
    if (ndim)
        memcpy(inner->shape, shape, ndim * sizeof *shape);
    if (!strides)
        value_tensor_compact(inner);
    else if (ndim)
        memcpy(inner->strides, strides, ndim * sizeof *strides);
    return 0;
}

/* Whether it is a tensor and fits into `place`. */
static int check(struct value_tensor *inner, struct manta_error *reterr)
{
    uint8_t payload[VALUE_TENSOR_SIZE_MOST];
    const char *wrong;
    if (value_tensor_read(inner, bytes_of(payload, value_tensor_write(inner, payload)), &wrong) < 0)
        return manta_error_set(reterr, MANTA_EINVALID, "a tensor is refused: %s", wrong);
    return 0;
}

int manta_tensor_new(enum manta_tensor_kind kind, int bits, const int64_t *shape, size_t ndim,
                     struct manta_tensor *ret_tensor, void **ret_data, struct manta_error *reterr)
{
    struct value_tensor inner;
    struct manta_buffer *buffer;
    int64_t low, high;
    int code = fill(&inner, (int)kind, bits, shape, NULL, ndim, reterr);
    if (code < 0)
        return code;
    if (!value_tensor_span(&inner, &low, &high))
        return manta_error_set(reterr, MANTA_EINVALID, "the shape of a tensor is impossible");
    inner.place.size = (uint64_t)high;
    if ((code = check(&inner, reterr)) < 0 ||
        (code = manta_buffer_new(high > 0 ? (size_t)high : 1, &buffer, reterr)) < 0)
        return code;
    outer_of(&inner, buffer, ret_tensor);
    *ret_data = buffer->at;
    return 0;
}

int manta_tensor_of(struct manta_buffer *buffer, size_t offset, enum manta_tensor_kind kind,
                    int bits, const int64_t *shape, const int64_t *strides, size_t ndim,
                    struct manta_tensor *ret_tensor, struct manta_error *reterr)
{
    struct value_tensor inner;
    int code = fill(&inner, (int)kind, bits, shape, strides, ndim, reterr);
    if (code < 0)
        return code;
    if (offset > buffer->size)
        return manta_error_set(reterr, MANTA_EINVALID, "a tensor begins behind its buffer");
    inner.place.offset = offset;
    inner.place.size = buffer->size - offset;
    if ((code = check(&inner, reterr)) < 0)
        return code;
    outer_of(&inner, manta_buffer_ref(buffer), ret_tensor);
    return 0;
}

void manta_tensor_done(struct manta_tensor *tensor)
{
    tensor->buffer = manta_buffer_free(tensor->buffer);
    tensor->data = NULL;
}

void manta_tensor_keep(struct manta_tensor *tensor)
{
    manta_buffer_ref(tensor->buffer);
}

/* ---- looked at ---- */

size_t manta_tensor_count(const struct manta_tensor *tensor)
{
    size_t count = 1;
    for (uint32_t i = 0; i < tensor->ndim; i++)
        count *= (size_t)tensor->shape[i];
    return count;
}

size_t manta_tensor_element_size(const struct manta_tensor *tensor)
{
    return (size_t)tensor->bits * tensor->lanes / 8;
}

bool manta_tensor_is_compact(const struct manta_tensor *tensor)
{
    struct value_tensor inner = inner_of(tensor);
    value_tensor_compact(&inner);
    for (uint32_t i = 0; i < tensor->ndim; i++)
        if (tensor->shape[i] > 1 && inner.strides[i] != tensor->strides[i])
            return manta_tensor_count(tensor) == 0;
    return true;
}

/* ---- values ---- */

struct manta_arg manta_tensor_arg(const struct manta_tensor *tensor)
{
    return (struct manta_arg){.type = MANTA_ARG_TENSOR, .u.at = tensor, .size = sizeof *tensor};
}

int manta_value_tensor(const struct manta_value *value, struct manta_tensor *ret_tensor,
                       struct manta_error *reterr)
{
    struct value_place place;
    struct value_tensor inner;
    struct value_reader reader;
    struct value item;
    struct manta_buffer *buffer;
    const char *wrong;
    struct bytes document = bytes_of(value->at, value->size);
    value_read_init(&reader, document);
    if (!document.size || !value_next(&reader, &item) || item.type != VALUE_EXTENSION ||
        item.extension != VALUE_EXTENSION_TENSOR || shared_place(document, &place, &buffer) < 0)
        return manta_error_set(reterr, MANTA_ETYPE, "the value is no tensor");
    if (value_tensor_read(&inner, item.bytes, &wrong) < 0)
        return manta_error_set(reterr, MANTA_ETYPE, "the value is no tensor: %s", wrong);
    outer_of(&inner, buffer, ret_tensor);
    return 0;
}

/* ---- DLPack ---- */

/* What a consumer of DLPack holds. */
struct lent_tensor {
    DLManagedTensor managed;
    struct manta_buffer *buffer;
    int64_t shape[MANTA_TENSOR_DIMENSIONS], strides[MANTA_TENSOR_DIMENSIONS];
};

static void end_lent(DLManagedTensor *managed)
{
    struct lent_tensor *lent = (struct lent_tensor *)managed; /* its first member */
    manta_buffer_free(lent->buffer);
    mem_free(lent);
}

int manta_tensor_to_dlpack(const struct manta_tensor *tensor, struct DLManagedTensor **ret_managed,
                           struct manta_error *reterr)
{
    struct lent_tensor *lent = mem_try(sizeof *lent);
    if (!lent)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a tensor");
    memcpy(lent->shape, tensor->shape, sizeof lent->shape);
    memcpy(lent->strides, tensor->strides, sizeof lent->strides);
    lent->buffer = manta_buffer_ref(tensor->buffer);
    lent->managed =
        (DLManagedTensor){.dl_tensor = {.data = (void *)(uintptr_t)tensor->data,
                                        .device = {.device_type = kDLCPU},
                                        .ndim = (int)tensor->ndim,
                                        .dtype = {tensor->kind, tensor->bits, tensor->lanes},
                                        .shape = lent->shape,
                                        .strides = lent->strides},
                          .deleter = end_lent};
    *ret_managed = &lent->managed;
    return 0;
}

static void end_taken(void *owner)
{
    DLManagedTensor *managed = owner;
    if (managed->deleter)
        managed->deleter(managed);
}

int manta_tensor_from_dlpack(struct DLManagedTensor *managed, struct manta_tensor *ret_tensor,
                             struct manta_error *reterr)
{
    const DLTensor *from = &managed->dl_tensor;
    struct value_tensor inner;
    int64_t low, high;
    if (from->device.device_type != kDLCPU && from->device.device_type != kDLCUDAHost)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "the tensor is in the memory of device type %d, not the CPU's",
                               (int)from->device.device_type);
    int code = fill(&inner, from->dtype.code, from->dtype.bits, from->shape, from->strides,
                    from->ndim < 0 ? SIZE_MAX : (size_t)from->ndim, reterr);
    if (code < 0)
        return code;
    inner.lanes = from->dtype.lanes;
    if (!value_tensor_span(&inner, &low, &high))
        return manta_error_set(reterr, MANTA_EINVALID, "the shape of a tensor is impossible");
    inner.place.offset = (uint64_t)-low;
    inner.place.size = (uint64_t)high;
    if ((code = check(&inner, reterr)) < 0)
        return code;
    uint8_t *begin = (uint8_t *)from->data + from->byte_offset + low;
    struct manta_buffer *buffer =
        shared_wrap(bytes_of(begin, (size_t)(high - low)), false, end_taken, managed);
    if (!buffer)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a tensor");
    outer_of(&inner, buffer, ret_tensor);
    return 0;
}
