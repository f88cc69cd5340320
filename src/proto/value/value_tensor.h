/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value_tensor: the payload of the extensions VALUE_EXTENSION_BUFFER and VALUE_EXTENSION_TENSOR.
 *
 * Their bytes lie outside the document, in a buffer that travels by reference.  Both begin with a
 * place: which buffer, from where, how many bytes.  A tensor goes on with its element type, its
 * shape and its strides:
 *
 *     0        8        16       24       32     33     34      36      40
 *     | cookie | owner  | offset | size   | kind | bits | lanes | ndim  | shape[ndim] |
 * strides[ndim]
 *
 * all little-endian, so that the payload is the same on the wire and in memory but for the first
 * two: on the wire `cookie` is 0 and `owner` the index of an attachment; in memory `owner` is what
 * the process makes of it and `cookie` a proof that it was this process that wrote it.
 *
 * Strides count elements, as DLPack's do; they may be negative or 0.  value_tensor_read accepts
 * only what stays inside the place.
 */
#ifndef MANTA_PROTO_VALUE_TENSOR_H
#define MANTA_PROTO_VALUE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum {
    VALUE_PLACE_SIZE = 32,
    VALUE_TENSOR_DIMENSIONS = 16,
    VALUE_TENSOR_HEAD = 40,
    VALUE_TENSOR_SIZE_MOST = VALUE_TENSOR_HEAD + VALUE_TENSOR_DIMENSIONS * 16,
};

struct value_place {
    uint64_t cookie, owner, offset, size;
};

/* Element types by DLPack's numbers. */
enum value_tensor_kind {
    VALUE_TENSOR_INT = 0,
    VALUE_TENSOR_UINT = 1,
    VALUE_TENSOR_FLOAT = 2,
    VALUE_TENSOR_BFLOAT = 4,
    VALUE_TENSOR_COMPLEX = 5,
    VALUE_TENSOR_BOOL = 6,
};

struct value_tensor {
    struct value_place place; /* offset: of the element with index 0, 0, ... */
    uint8_t kind, bits;
    uint16_t lanes;
    uint32_t ndim;
    int64_t shape[VALUE_TENSOR_DIMENSIONS], strides[VALUE_TENSOR_DIMENSIONS];
};

/* `at` holds VALUE_PLACE_SIZE bytes. */
void value_place_write(const struct value_place *place, uint8_t *at);
/* 0, or -1 when the payload is too short to hold one. */
int value_place_read(struct value_place *place, struct bytes payload);

/* Bytes written to `at`, which holds VALUE_TENSOR_SIZE_MOST. */
size_t value_tensor_write(const struct value_tensor *tensor, uint8_t *at);
/* 0, or -1 and what is wrong with it. */
int value_tensor_read(struct value_tensor *tensor, struct bytes payload, const char **ret_wrong);

/* Strides of a compact tensor, last dimension fastest. */
void value_tensor_compact(struct value_tensor *tensor);
/* Bytes of one element, lanes included; 0 when it does not fill whole bytes. */
size_t value_tensor_element(const struct value_tensor *tensor);
/*
 * The bytes that the elements span, relative to the one with index 0, 0, ...: from *ret_low (<= 0)
 * up to *ret_high.  False when a number overflows or the tensor is malformed; an empty tensor spans
 * nothing.
 */
bool value_tensor_span(const struct value_tensor *tensor, int64_t *ret_low, int64_t *ret_high);

#endif
