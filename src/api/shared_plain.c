/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared_plain: a document with buffers as one without, for JSON: a buffer becomes binary, a tensor
 * nested arrays of numbers.
 */
#include "shared.h"

#include <math.h>
#include <string.h>

#include "value.h"

static double half_of(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                       : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                      : ldexp(fraction, -24);
    return bits >> 15 ? -magnitude : magnitude;
}

static void write_float(struct text *out, const struct value_tensor *tensor, const uint8_t *at)
{
    float single;
    double number;
    uint16_t half;
    uint32_t bits;
    memcpy(&half, at, sizeof half);
    if (tensor->kind == VALUE_TENSOR_BFLOAT) {
        bits = (uint32_t)half << 16;
        memcpy(&single, &bits, sizeof single);
        number = (double)single;
    } else if (tensor->bits == 16) {
        number = half_of(half);
    } else if (tensor->bits == 32) {
        memcpy(&single, at, sizeof single);
        number = (double)single;
    } else {
        memcpy(&number, at, sizeof number);
    }
    value_write_float(out, number);
}

/* Little-endian, as the machines are that this runs on. */
static void write_integer(struct text *out, const struct value_tensor *tensor, const uint8_t *at)
{
    uint64_t number = 0;
    unsigned size = tensor->bits / 8u;
    memcpy(&number, at, size);
    if (tensor->kind == VALUE_TENSOR_UINT)
        value_write_uint(out, number);
    else
        value_write_int(out, (int64_t)(number << (64 - tensor->bits)) >> (64 - tensor->bits));
}

static void write_element(struct text *out, const struct value_tensor *tensor, const uint8_t *at)
{
    if (tensor->kind == VALUE_TENSOR_BOOL)
        value_write_bool(out, *at != 0);
    else if (tensor->kind == VALUE_TENSOR_FLOAT || tensor->kind == VALUE_TENSOR_BFLOAT)
        write_float(out, tensor, at);
    else
        write_integer(out, tensor, at);
}

/* Numbers of sixty-four bits at most; all others go as they lie. */
static bool is_number(const struct value_tensor *tensor)
{
    bool power =
        tensor->bits == 8 || tensor->bits == 16 || tensor->bits == 32 || tensor->bits == 64;
    if (tensor->lanes != 1 || !power || tensor->kind == VALUE_TENSOR_COMPLEX)
        return false;
    if (tensor->kind == VALUE_TENSOR_BFLOAT)
        return tensor->bits == 16;
    return tensor->kind != VALUE_TENSOR_FLOAT || tensor->bits != 8;
}

static void write_dimension(struct text *out, const struct value_tensor *tensor, uint32_t dimension,
                            const uint8_t *at)
{
    int64_t element = tensor->bits / 8;
    if (dimension == tensor->ndim) {
        write_element(out, tensor, at);
        return;
    }
    if (tensor->shape[dimension] > UINT32_MAX)
        out->failed = true;
    value_write_array(out, (uint32_t)tensor->shape[dimension]);
    for (int64_t i = 0; i < tensor->shape[dimension] && !out->failed; i++)
        write_dimension(out, tensor, dimension + 1, at + i * tensor->strides[dimension] * element);
}

static void write_outside(struct text *out, const struct value *item)
{
    struct value_place place;
    struct value_tensor tensor;
    struct manta_buffer *buffer;
    const char *wrong;
    if (shared_place(item->raw, &place, &buffer) < 0)
        text_add(out, item->raw);
    else if (item->extension == VALUE_EXTENSION_TENSOR &&
             value_tensor_read(&tensor, item->bytes, &wrong) == 0 && is_number(&tensor))
        write_dimension(out, &tensor, 0, buffer->at + place.offset);
    else
        value_write_binary(out, bytes_of(buffer->at + place.offset, (size_t)place.size));
}

void shared_write_plain(struct text *out, struct bytes document)
{
    struct value_reader reader;
    struct value item;
    value_read_init(&reader, document);
    while (!out->failed && value_next(&reader, &item)) {
        if (item.type == VALUE_ARRAY)
            value_write_array(out, item.count);
        else if (item.type == VALUE_MAP)
            value_write_map(out, item.count);
        else if (item.type == VALUE_EXTENSION && (item.extension == VALUE_EXTENSION_BUFFER ||
                                                  item.extension == VALUE_EXTENSION_TENSOR))
            write_outside(out, &item);
        else
            text_add(out, item.raw);
    }
}

void shared_print(struct bytes document, struct text *out)
{
    struct text plain;
    if (!shared_has_references(document)) {
        value_print(document, out);
        return;
    }
    text_init(&plain, out->limit);
    shared_write_plain(&plain, document);
    if (plain.failed)
        out->failed = true;
    else
        value_print(text_bytes(&plain), out);
    text_done(&plain);
}
