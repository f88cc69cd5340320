/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value_public: <manta/value.h>: args in, values out.  Packs are pack.c, JSON is json.c.
 *
 * A manta_value is a slice of a document that was checked when it came in, so reading walks without
 * checking again.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <manta/value.h>

#include "bytes.h"
#include "ensure.h"
#include "error.h"
#include "shared.h"
#include "text.h"
#include "value.h"

const char *manta_error_text(int code)
{
    return error_text(code);
}

int manta_error_set(struct manta_error *reterr, int code, const char *format, ...)
{
    va_list arguments;
    if (!reterr)
        return code;
    reterr->code = code;
    va_start(arguments, format);
    vsnprintf(reterr->text, sizeof reterr->text, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- args
 * ------------------------------------------------------------------------------------------ */

struct manta_arg manta_nil(void)
{
    return (struct manta_arg){.type = MANTA_ARG_NIL};
}

struct manta_arg manta_bool(bool value)
{
    return (struct manta_arg){.type = MANTA_ARG_BOOL, .u.boolean = value};
}

struct manta_arg manta_int(int64_t value)
{
    return (struct manta_arg){.type = MANTA_ARG_INT, .u.integer = value};
}

struct manta_arg manta_float(double value)
{
    return (struct manta_arg){.type = MANTA_ARG_FLOAT, .u.number = value};
}

struct manta_arg manta_string(const char *string)
{
    if (!string)
        return manta_nil();
    return (struct manta_arg){.type = MANTA_ARG_STRING, .u.at = string, .size = strlen(string)};
}

struct manta_arg manta_binary(const void *at, size_t size)
{
    return (struct manta_arg){.type = MANTA_ARG_BINARY, .u.at = at, .size = size};
}

/* A pack that is not one value makes an arg that is refused where it is used. */
struct manta_arg manta_packed(const struct manta_pack *pack)
{
    struct manta_value value = {0};
    if (manta_pack_value(pack, &value, NULL) < 0)
        return (struct manta_arg){.type = MANTA_ARG_VALUE};
    return manta_copied(&value);
}

struct manta_arg manta_copied(const struct manta_value *value)
{
    return (struct manta_arg){.type = MANTA_ARG_VALUE, .u.at = value->at, .size = value->size};
}

struct manta_arg manta_end(void)
{
    return (struct manta_arg){.type = MANTA_ARG_END};
}

/* ---- reading
 * --------------------------------------------------------------------------------------- */

static const char *const TYPE_NAMES[VALUE_TYPE_COUNT] = {
    [VALUE_NIL] = "nil",       [VALUE_BOOL] = "a bool",
    [VALUE_INT] = "an int",    [VALUE_UINT] = "an int",
    [VALUE_FLOAT] = "a float", [VALUE_STRING] = "a string",
    [VALUE_BINARY] = "binary", [VALUE_ARRAY] = "an array",
    [VALUE_MAP] = "a map",     [VALUE_EXTENSION] = "an extension"};

/* The value's own item; nil for {0}. */
static struct value item_of(const struct manta_value *value)
{
    struct value item = {.type = VALUE_NIL};
    struct value_reader reader;
    if (value->size) {
        value_read_init(&reader, bytes_of(value->at, value->size));
        value_next(&reader, &item);
    }
    return item;
}

static int wrong_type(const struct value *item, const char *wanted, struct manta_error *reterr)
{
    return manta_error_set(reterr, MANTA_ETYPE, "the value is %s, not %s", TYPE_NAMES[item->type],
                           wanted);
}

enum manta_type manta_value_type(const struct manta_value *value)
{
    static const enum manta_type TYPES[VALUE_TYPE_COUNT] = {
        [VALUE_NIL] = MANTA_NIL,       [VALUE_BOOL] = MANTA_BOOL,
        [VALUE_INT] = MANTA_INT,       [VALUE_UINT] = MANTA_INT,
        [VALUE_FLOAT] = MANTA_FLOAT,   [VALUE_STRING] = MANTA_STRING,
        [VALUE_BINARY] = MANTA_BINARY, [VALUE_ARRAY] = MANTA_ARRAY,
        [VALUE_MAP] = MANTA_MAP,       [VALUE_EXTENSION] = MANTA_EXTENSION};
    struct value item = item_of(value);
    if (item.type == VALUE_EXTENSION && item.extension == VALUE_EXTENSION_HANDLE)
        return MANTA_HANDLE;
    struct manta_buffer *buffer;
    struct value_place place;
    if (item.type == VALUE_EXTENSION && shared_place(item.raw, &place, &buffer) == 0)
        return item.extension == VALUE_EXTENSION_TENSOR ? MANTA_TENSOR : MANTA_BINARY;
    return TYPES[item.type];
}

int manta_value_bool(const struct manta_value *value, bool *ret_value, struct manta_error *reterr)
{
    struct value item = item_of(value);
    if (item.type != VALUE_BOOL)
        return wrong_type(&item, "a bool", reterr);
    *ret_value = item.boolean;
    return 0;
}

int manta_value_int(const struct manta_value *value, int64_t *ret_value, struct manta_error *reterr)
{
    struct value item = item_of(value);
    if (item.type != VALUE_INT)
        return wrong_type(&item, "an int of 64 bits", reterr);
    *ret_value = item.integer;
    return 0;
}

static bool number_of(const struct value *item, double *ret_value)
{
    switch (item->type) {
    case VALUE_INT:
        *ret_value = (double)item->integer;
        return true;
    case VALUE_UINT:
        *ret_value = (double)item->unsigned_integer;
        return true;
    case VALUE_FLOAT:
        *ret_value = item->number;
        return true;
    default:
        return false;
    }
}

int manta_value_float(const struct manta_value *value, double *ret_value,
                      struct manta_error *reterr)
{
    struct value item = item_of(value);
    return number_of(&item, ret_value) ? 0 : wrong_type(&item, "a number", reterr);
}

int manta_value_string(const struct manta_value *value, const char **ret_at, size_t *ret_size,
                       struct manta_error *reterr)
{
    struct value item = item_of(value);
    if (item.type != VALUE_STRING)
        return wrong_type(&item, "a string", reterr);
    *ret_at = (const char *)item.bytes.at;
    *ret_size = item.bytes.size;
    return 0;
}

int manta_value_binary(const struct manta_value *value, const void **ret_at, size_t *ret_size,
                       struct manta_error *reterr)
{
    struct value item = item_of(value);
    struct manta_buffer *buffer;
    struct value_place place;
    if (item.type == VALUE_EXTENSION && item.extension == VALUE_EXTENSION_BUFFER &&
        shared_place(item.raw, &place, &buffer) == 0)
        item = (struct value){.type = VALUE_BINARY,
                              .bytes = bytes_of(buffer->at + place.offset, (size_t)place.size)};
    if (item.type != VALUE_BINARY)
        return wrong_type(&item, "binary", reterr);
    *ret_at = item.bytes.at;
    *ret_size = item.bytes.size;
    return 0;
}

int64_t manta_value_count(const struct manta_value *value)
{
    struct value item = item_of(value);
    return item.type == VALUE_ARRAY || item.type == VALUE_MAP ? (int64_t)item.count : MANTA_ETYPE;
}

int manta_value_at(const struct manta_value *value, size_t index, struct manta_value *ret_item,
                   struct manta_error *reterr)
{
    struct value item = item_of(value), found;
    if (item.type != VALUE_ARRAY)
        return wrong_type(&item, "an array", reterr);
    if (index >= item.count || !value_array_at(item.raw, (uint32_t)index, &found))
        return manta_error_set(reterr, MANTA_ENOTFOUND, "the array has %u items, none at %zu",
                               item.count, index);
    *ret_item = (struct manta_value){found.raw.at, found.raw.size};
    return 0;
}

int manta_value_pair(const struct manta_value *value, size_t index, struct manta_value *ret_key,
                     struct manta_value *ret_item, struct manta_error *reterr)
{
    struct value_reader reader;
    struct value item = item_of(value), key, found;
    if (item.type != VALUE_MAP)
        return wrong_type(&item, "a map", reterr);
    if (index >= item.count)
        return manta_error_set(reterr, MANTA_ENOTFOUND, "the map has %u pairs, none at %zu",
                               item.count, index);
    value_read_init(&reader, item.raw);
    value_next(&reader, &item);
    for (size_t i = 0; i < index * 2; i++)
        value_skip(&reader);
    struct value_reader at_key = reader;
    value_next(&at_key, &key);
    value_skip(&reader);
    value_next(&reader, &found);
    *ret_key = (struct manta_value){key.raw.at, key.raw.size};
    *ret_item = (struct manta_value){found.raw.at, found.raw.size};
    return 0;
}

int manta_value_get(const struct manta_value *value, const char *key, struct manta_value *ret_item,
                    struct manta_error *reterr)
{
    struct value item = item_of(value), found;
    if (item.type != VALUE_MAP)
        return wrong_type(&item, "a map", reterr);
    if (!value_map_find(item.raw, bytes_of_string(key), &found))
        return manta_error_set(reterr, MANTA_ENOTFOUND, "the map has no '%s'", key);
    *ret_item = (struct manta_value){found.raw.at, found.raw.size};
    return 0;
}

bool manta_value_next(const struct manta_value *value, struct manta_value *item)
{
    struct value_reader reader;
    struct value head;
    value_read_init(&reader, bytes_of(value->at, value->size));
    if (item->at) {
        size_t used = (size_t)((const uint8_t *)item->at - (const uint8_t *)value->at) + item->size;
        ensure(used <= value->size);
        reader.rest = bytes_skip(reader.rest, used);
    } else if (!value_next(&reader, &head) ||
               (head.type != VALUE_ARRAY && head.type != VALUE_MAP)) {
        return false;
    }
    struct bytes rest = reader.rest;
    if (!value_skip(&reader))
        return false;
    *item = (struct manta_value){rest.at, rest.size - reader.rest.size};
    return true;
}

int manta_value_floats(const struct manta_value *value, double *at, size_t room, size_t *ret_count,
                       struct manta_error *reterr)
{
    struct value_reader reader;
    struct value item = item_of(value);
    size_t count = 0;
    double number;
    if (item.type != VALUE_ARRAY)
        return wrong_type(&item, "an array", reterr);
    value_read_init(&reader, item.raw);
    while (value_next(&reader, &item)) {
        if (item.type == VALUE_ARRAY)
            continue;
        if (!number_of(&item, &number))
            return wrong_type(&item, "a number", reterr);
        if (count == room)
            return manta_error_set(reterr, MANTA_ELIMIT, "the array has more than %zu numbers",
                                   room);
        at[count++] = number;
    }
    *ret_count = count;
    return 0;
}
