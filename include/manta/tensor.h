/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/tensor.h>: arrays of numbers with a shape, read where they lie.
 *
 *     struct manta_tensor image;
 *     if (manta_value_tensor(&value, &image, &error) == 0 && manta_tensor_is_compact(&image))
 *         classify(image.data, image.shape[0], image.shape[1]);
 *
 * A tensor is a value like others; its elements lie in a buffer (<manta/buffer.h>) and travel by reference.  On the wire it
 * is a MessagePack extension; in Python it is a numpy array.  DLPack's tensors (dlpack/dlpack.h) come in and go out without a copy.
 */
#ifndef MANTA_TENSOR_H
#define MANTA_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/buffer.h>
#include <manta/error.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most dimensions of a tensor. */
#define MANTA_TENSOR_DIMENSIONS 16

/* What an element is; DLPack's numbers. */
enum manta_tensor_kind {
    MANTA_TENSOR_INT = 0, MANTA_TENSOR_UINT = 1, MANTA_TENSOR_FLOAT = 2, MANTA_TENSOR_BFLOAT = 4,
    MANTA_TENSOR_COMPLEX = 5, MANTA_TENSOR_BOOL = 6
};

/* A tensor. */
struct manta_tensor {
    const void          *data;   /* the element with index 0, 0, ... */
    struct manta_buffer *buffer; /* where the elements lie */
    uint8_t              kind;   /* enum manta_tensor_kind */
    uint8_t              bits;   /* of one lane: 8, 16, 32, 64, 128 */
    uint16_t             lanes;  /* 1 but for vector types */
    uint32_t             ndim;   /* 0 is a scalar */
    int64_t              shape[MANTA_TENSOR_DIMENSIONS];
    int64_t              strides[MANTA_TENSOR_DIMENSIONS]; /* in elements; may be negative or 0 */
};

/* A compact tensor of a new buffer, last dimension fastest, elements undefined: *ret_data is where to write them.  MANTA_EINVALID for an impossible type or shape, MANTA_EMEMORY.  End it with manta_tensor_done. */
MANTA_EXPORT int manta_tensor_new(enum manta_tensor_kind kind, int bits, const int64_t *shape, size_t ndim,
                                  struct manta_tensor *ret_tensor, void **ret_data, struct manta_error *reterr);
/* A tensor that lies `offset` bytes into a buffer; strides null: compact.  Takes a reference of its own.  MANTA_EINVALID when it does not fit into the buffer. */
MANTA_EXPORT int manta_tensor_of(struct manta_buffer *buffer, size_t offset, enum manta_tensor_kind kind, int bits,
                                 const int64_t *shape, const int64_t *strides, size_t ndim,
                                 struct manta_tensor *ret_tensor, struct manta_error *reterr);
/* Gives back the reference to the buffer; not for a tensor of manta_value_tensor unless it was kept. */
MANTA_EXPORT void manta_tensor_done(struct manta_tensor *tensor);
/* How many elements; bytes of one; whether they lie one behind the other, last dimension fastest. */
MANTA_EXPORT size_t manta_tensor_count(const struct manta_tensor *tensor);
MANTA_EXPORT size_t manta_tensor_element_size(const struct manta_tensor *tensor);
MANTA_EXPORT bool   manta_tensor_is_compact(const struct manta_tensor *tensor);

/* The tensor as an arg; borrows: its buffer is held by whoever takes the arg. */
MANTA_EXPORT struct manta_arg manta_tensor_arg(const struct manta_tensor *tensor);
/* A value as a tensor, valid as long as the value; MANTA_ETYPE when it is none. */
MANTA_EXPORT int manta_value_tensor(const struct manta_value *value, struct manta_tensor *ret_tensor, struct manta_error *reterr);
/* Takes a reference to the buffer, so that the tensor lives until manta_tensor_done. */
MANTA_EXPORT void manta_tensor_keep(struct manta_tensor *tensor);

/* ---- DLPack -------------------------------------------------------------------------------------- */

struct DLManagedTensor; /* dlpack/dlpack.h */

/* The tensor for a consumer of DLPack, who calls its deleter; it holds the buffer by itself.  A consumer must not write to it. */
MANTA_EXPORT int manta_tensor_to_dlpack(const struct manta_tensor *tensor, struct DLManagedTensor **ret_managed, struct manta_error *reterr);
/* A producer's tensor in the CPU's memory, taken over: its deleter is called when nobody holds the buffer any more.  MANTA_EINVALID (another device, an impossible shape) leaves it with the caller.  Its bytes are copied when it is sent. */
MANTA_EXPORT int manta_tensor_from_dlpack(struct DLManagedTensor *managed, struct manta_tensor *ret_tensor, struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
