/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/value.h>: values that cross deployments and languages.
 *
 * A value is MessagePack: nil, bool, int, float, string, binary, array, map.
 *
 * - `struct manta_arg` is one value on its way in: what manta_int(2) or manta_bind(...) returns, passed by value, owning
 *   nothing.  A string or binary arg borrows its bytes until the function that takes the arg returns.
 * - `struct manta_value` is one value on its way out: a slice of a checked document, passed by value.  It is
 *   valid as long as what it came from (the request, the call, the args).
 * - `struct manta_pack` builds composite values.
 *
 * Reading a value as another type is MANTA_ETYPE; an int is accepted where a float is asked for.  Any thread, one at a time per object.
 */
#ifndef MANTA_VALUE_H
#define MANTA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a value is. */
enum manta_type {
    MANTA_NIL, MANTA_BOOL, MANTA_INT, MANTA_FLOAT, MANTA_STRING, MANTA_BINARY, MANTA_ARRAY, MANTA_MAP,
    MANTA_HANDLE,    /* a handle to a deployment, as a constructor argument */
    MANTA_EXTENSION, /* any other MessagePack extension */
    MANTA_TENSOR     /* <manta/tensor.h> */
};

/* ---- in: arguments ---------------------------------------------------------------------------- */

/* What an arg is. */
enum manta_arg_type { MANTA_ARG_END, MANTA_ARG_NIL, MANTA_ARG_BOOL, MANTA_ARG_INT, MANTA_ARG_FLOAT, MANTA_ARG_STRING,
                      MANTA_ARG_BINARY, MANTA_ARG_VALUE /* a document of MessagePack */, MANTA_ARG_BOUND /* a bound deployment */,
                      MANTA_ARG_BUFFER /* <manta/buffer.h> */, MANTA_ARG_TENSOR /* <manta/tensor.h> */ };

/* One value on its way in, made by the functions below. */
struct manta_arg { /* 24 bytes for ever */
    uint32_t type; /* enum manta_arg_type */
    uint32_t index;/* of a bound deployment in its application */
    union {
        bool        boolean;
        int64_t     integer;
        double      number;
        const void *at; /* string, binary, value */
    } u;
    size_t size; /* bytes at `at` */
};

/* One arg of each type. */
MANTA_EXPORT struct manta_arg manta_nil(void);
MANTA_EXPORT struct manta_arg manta_bool(bool value);
MANTA_EXPORT struct manta_arg manta_int(int64_t value);
MANTA_EXPORT struct manta_arg manta_float(double value);
MANTA_EXPORT struct manta_arg manta_string(const char *string);                /* zero-terminated UTF-8; null is nil */
MANTA_EXPORT struct manta_arg manta_binary(const void *at, size_t size);
struct manta_value;
struct manta_pack;
MANTA_EXPORT struct manta_arg manta_packed(const struct manta_pack *pack);     /* borrows */
MANTA_EXPORT struct manta_arg manta_copied(const struct manta_value *value);   /* borrows */
MANTA_EXPORT struct manta_arg manta_end(void);                                 /* ends a variadic list */

/* ---- out: reading ------------------------------------------------------------------------------ */

/* One value on its way out. */
struct manta_value { /* 16 bytes for ever; {0} reads as nil */
    const void *at;
    size_t      size;
};

/* The type of a value. */
MANTA_EXPORT enum manta_type manta_value_type(const struct manta_value *value);
/* What a value holds; MANTA_ETYPE when it is of another type. */
MANTA_EXPORT int manta_value_bool(const struct manta_value *value, bool *ret_value, struct manta_error *reterr);
MANTA_EXPORT int manta_value_int(const struct manta_value *value, int64_t *ret_value, struct manta_error *reterr);
MANTA_EXPORT int manta_value_float(const struct manta_value *value, double *ret_value, struct manta_error *reterr);
/* A string's or binary's bytes, not zero-terminated: *ret_size of them. */
MANTA_EXPORT int manta_value_string(const struct manta_value *value, const char **ret_at, size_t *ret_size, struct manta_error *reterr);
MANTA_EXPORT int manta_value_binary(const struct manta_value *value, const void **ret_at, size_t *ret_size, struct manta_error *reterr);
/* Items of an array, pairs of a map; MANTA_ETYPE as a negative number for others. */
MANTA_EXPORT int64_t manta_value_count(const struct manta_value *value);
/* Array item, or the n-th key and value of a map; MANTA_ENOTFOUND past the end. O(index). */
MANTA_EXPORT int manta_value_at(const struct manta_value *value, size_t index, struct manta_value *ret_item, struct manta_error *reterr);
MANTA_EXPORT int manta_value_pair(const struct manta_value *value, size_t index, struct manta_value *ret_key, struct manta_value *ret_item, struct manta_error *reterr);
/* Map item under a string key; MANTA_ENOTFOUND when absent. */
MANTA_EXPORT int manta_value_get(const struct manta_value *value, const char *key, struct manta_value *ret_item, struct manta_error *reterr);
/* Walks an array's items, or a map's keys and values in turn, each looked at once: struct manta_value item = {0};
   while (manta_value_next(&list, &item)) ...  False at the end, and for what is neither array nor map. */
MANTA_EXPORT bool manta_value_next(const struct manta_value *value, struct manta_value *item);
/* An array of numbers copied as doubles (nested arrays row by row): how many in *ret_count; MANTA_ELIMIT when more than `room`. */
MANTA_EXPORT int manta_value_floats(const struct manta_value *value, double *at, size_t room, size_t *ret_count, struct manta_error *reterr);

/* ---- building ---------------------------------------------------------------------------------- */

/* Builds a document. Appends in order; arrays and maps announce their count first.  Failure (memory, more than 1 GiB) sticks and shows in manta_pack_value. */
MANTA_EXPORT struct manta_pack *manta_pack_new(void);                          /* null: memory */
MANTA_EXPORT struct manta_pack *manta_pack_free(struct manta_pack *pack);      /* null is fine; returns null */
MANTA_EXPORT void manta_pack_clear(struct manta_pack *pack);
MANTA_EXPORT void manta_pack_arg(struct manta_pack *pack, struct manta_arg arg); /* manta_pack_arg(pack, manta_int(3)) */
MANTA_EXPORT void manta_pack_array(struct manta_pack *pack, uint32_t count);   /* then `count` values */
MANTA_EXPORT void manta_pack_map(struct manta_pack *pack, uint32_t count);     /* then `count` keys and values in turn */
/* The document, valid until the pack changes: MANTA_EINVALID when it is not exactly one value. */
MANTA_EXPORT int manta_pack_value(const struct manta_pack *pack, struct manta_value *ret_value, struct manta_error *reterr);

/* ---- JSON -------------------------------------------------------------------------------------- */

/* The value as JSON into `at` (zero-terminated when room allows); returns its length without terminator, which may exceed room. Binary becomes base64. */
MANTA_EXPORT size_t manta_value_json(const struct manta_value *value, char *at, size_t room);
/* Parses JSON (RFC 8259, UTF-8, at most 64 deep) and appends it as one value: MANTA_EINVALID with line and column. */
MANTA_EXPORT int manta_pack_json(struct manta_pack *pack, const char *json, size_t size, struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
