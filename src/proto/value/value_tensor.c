/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value_tensor: places and tensors as bytes, and the arithmetic that keeps a tensor inside its
 * place.
 */
#include "value_tensor.h"

#include <string.h>

#include "ensure.h"

static void put_number(uint8_t *at, uint64_t number, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        at[i] = (uint8_t)(number >> (8 * i));
}

static uint64_t get_number(const uint8_t *at, unsigned width)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < width; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

void value_place_write(const struct value_place *place, uint8_t *at)
{
    put_number(at, place->cookie, 8);
    put_number(at + 8, place->owner, 8);
    put_number(at + 16, place->offset, 8);
    put_number(at + 24, place->size, 8);
}

int value_place_read(struct value_place *place, struct bytes payload)
{
    if (payload.size < VALUE_PLACE_SIZE)
        return -1;
    *place = (struct value_place){get_number(payload.at, 8), get_number(payload.at + 8, 8),
                                  get_number(payload.at + 16, 8), get_number(payload.at + 24, 8)};
    return 0;
}

size_t value_tensor_write(const struct value_tensor *tensor, uint8_t *at)
{
    ensure(tensor->ndim <= VALUE_TENSOR_DIMENSIONS);
    uint8_t *numbers = at + VALUE_TENSOR_HEAD;
    value_place_write(&tensor->place, at);
    at[32] = tensor->kind;
    at[33] = tensor->bits;
    put_number(at + 34, tensor->lanes, 2);
    put_number(at + 36, tensor->ndim, 4);
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        put_number(numbers + 8 * (size_t)i, (uint64_t)tensor->shape[i], 8);
        put_number(numbers + 8 * (size_t)(tensor->ndim + i), (uint64_t)tensor->strides[i], 8);
    }
    return VALUE_TENSOR_HEAD + 16 * (size_t)tensor->ndim;
}

/* ---- reading ---- */

static const char *judge(const struct value_tensor *tensor)
{
    int64_t low, high;
    uint64_t before, behind;
    if (tensor->kind > VALUE_TENSOR_BOOL || tensor->kind == 3)
        return "its element type is unknown";
    if (!value_tensor_element(tensor))
        return "its elements do not fill whole bytes";
    if (!value_tensor_span(tensor, &low, &high))
        return "its shape is impossible";
    ensure(low <= 0 && high >= 0);
    before = (uint64_t)-low;
    behind = (uint64_t)high;
    if (tensor->place.offset < before)
        return "it begins before its bytes";
    if (tensor->place.size < behind)
        return "it goes on behind its bytes";
    return NULL;
}

int value_tensor_read(struct value_tensor *tensor, struct bytes payload, const char **ret_wrong)
{
    *ret_wrong = "it is cut short";
    if (payload.size < VALUE_TENSOR_HEAD || value_place_read(&tensor->place, payload) < 0)
        return -1;
    tensor->kind = payload.at[32];
    tensor->bits = payload.at[33];
    tensor->lanes = (uint16_t)get_number(payload.at + 34, 2);
    tensor->ndim = (uint32_t)get_number(payload.at + 36, 4);
    if (tensor->ndim > VALUE_TENSOR_DIMENSIONS) {
        *ret_wrong = "it has more than 16 dimensions";
        return -1;
    }
    if (payload.size != VALUE_TENSOR_HEAD + 16 * (size_t)tensor->ndim)
        return -1;
    const uint8_t *numbers = payload.at + VALUE_TENSOR_HEAD;
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        tensor->shape[i] = (int64_t)get_number(numbers + 8 * (size_t)i, 8);
        tensor->strides[i] = (int64_t)get_number(numbers + 8 * (size_t)(tensor->ndim + i), 8);
    }
    *ret_wrong = judge(tensor);
    return *ret_wrong ? -1 : 0;
}

/* ---- arithmetic ---- */

void value_tensor_compact(struct value_tensor *tensor)
{
    int64_t step = 1;
    ensure(tensor->ndim <= VALUE_TENSOR_DIMENSIONS);
    for (uint32_t i = tensor->ndim; i-- > 0;) {
        tensor->strides[i] = step;
        if (__builtin_mul_overflow(step, tensor->shape[i] > 0 ? tensor->shape[i] : 1, &step))
            step = INT64_MAX; /* value_tensor_span refuses it */
    }
}

size_t value_tensor_element(const struct value_tensor *tensor)
{
    uint32_t bits = (uint32_t)tensor->bits * tensor->lanes;
    return bits % 8 == 0 ? bits / 8 : 0;
}

bool value_tensor_span(const struct value_tensor *tensor, int64_t *ret_low, int64_t *ret_high)
{
    int64_t low = 0, high = 0, element = (int64_t)value_tensor_element(tensor), reach;
    bool empty = false;
    ensure(tensor->ndim <= VALUE_TENSOR_DIMENSIONS);
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        if (tensor->shape[i] < 0)
            return false;
        if (tensor->shape[i] == 0) {
            empty = true;
            continue;
        }
        if (__builtin_mul_overflow(tensor->shape[i] - 1, tensor->strides[i], &reach) ||
            __builtin_add_overflow(reach < 0 ? low : high, reach, reach < 0 ? &low : &high))
            return false;
    }
    *ret_low = *ret_high = 0;
    if (empty)
        return true;
    return !__builtin_mul_overflow(low, element, ret_low) && *ret_low > INT64_MIN &&
           !__builtin_add_overflow(high, 1, &high) &&
           !__builtin_mul_overflow(high, element, ret_high);
}
