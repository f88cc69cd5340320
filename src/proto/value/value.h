/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value: MessagePack for values that cross a language, on msgpack-c.
 *
 * The writer appends to a text; the reader is a cursor over a slice: value_check looks at the
 * whole document once (nesting, lengths, trailing bytes), and then it is walked without allocation.
 * Extensions of our own: a handle, and values whose bytes lie outside the document, a buffer and a
 * tensor (value_tensor.h).  A deployment's call arguments are an
 * array of positional values, or an array [positional array, keyword map] marked by content type
 * (see VALUE_CONTENT_TYPE).
 */
#ifndef MANTA_PROTO_VALUE_H
#define MANTA_PROTO_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "text.h"

#define VALUE_CONTENT_TYPE "application/msgpack"
enum {
    VALUE_DEPTH_LIMIT = 64,
    VALUE_EXTENSION_TENSOR = 1,
    VALUE_EXTENSION_HANDLE = 2,
    VALUE_EXTENSION_BUFFER = 3,
};

enum value_type {
    VALUE_NIL,
    VALUE_BOOL,
    VALUE_INT,  /* fits int64_t */
    VALUE_UINT, /* above INT64_MAX */
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_BINARY,
    VALUE_ARRAY,
    VALUE_MAP,
    VALUE_EXTENSION,
    VALUE_TYPE_COUNT
};

/* Writing.  Failure (limit, memory, a payload of 4 GiB and more) shows in out->failed. */
void value_write_nil(struct text *out);
void value_write_bool(struct text *out, bool value);
void value_write_int(struct text *out, int64_t value);
void value_write_uint(struct text *out, uint64_t value);
void value_write_float(struct text *out, double value);
void value_write_string(struct text *out, struct bytes value);
void value_write_binary(struct text *out, struct bytes value);
void value_write_array(struct text *out, uint32_t count); /* then `count` values */
void value_write_map(struct text *out, uint32_t count);   /* then `count` pairs key, value */
void value_write_extension(struct text *out, int8_t type, struct bytes value);

/* One decoded item.  Arrays and maps: `count`; their items follow in the cursor. */
struct value {
    enum value_type type;
    union {
        bool boolean;
        int64_t integer;
        uint64_t unsigned_integer;
        double number;
    };
    struct bytes bytes; /* string, binary, extension payload: slices of the input */
    uint32_t count;     /* array items, map pairs */
    int8_t extension;   /* extension type */
    struct bytes raw;   /* the item whole, its children included */
};

struct value_reader {
    struct bytes rest;
};

/*
 * Checks that `document` is exactly one well-formed value, at most VALUE_DEPTH_LIMIT arrays and
 * maps inside each other: 0, or -1 and *ret_offset, where the first item that breaks it begins
 * (null is fine).  Strings are not checked to be UTF-8.
 *
 * The functions below take documents that were checked; on others they stay inside the slice and
 * say false early.
 */
int value_check(struct bytes document, size_t *ret_offset);
void value_read_init(struct value_reader *reader, struct bytes document); /* checked before */
/* The next item; false at the end.  `raw` of an array or a map costs a walk over what is inside. */
bool value_next(struct value_reader *reader, struct value *ret_value);
/* The next item with everything inside it. */
bool value_skip(struct value_reader *reader);
/* The next buffer or tensor at any depth; false when there is none. */
bool value_next_outside(struct value_reader *reader, struct value *ret_value);
/* Looks a string key up in a map document; the first one counts; false when absent or not a map. */
bool value_map_find(struct bytes map_document, struct bytes key, struct value *ret_value);
/* The item at an index of an array document; false beyond its end or when it is not an array. */
bool value_array_at(struct bytes array_document, uint32_t index, struct value *ret_value);
/*
 * JSON for people and logs.  What JSON lacks: binary is base64, an extension
 * {"ext":type,"data":base64}, a float that is not finite null, a map key that is no string the
 * string of its JSON.  A document that value_check refuses prints as {"broken_at":offset}.
 */
void value_print(struct bytes document, struct text *out);

#endif
