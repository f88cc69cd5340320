/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading values: a cursor over a MessagePack document, without allocation and without trust.
 *
 * One function, item_read, knows the format: it decodes the head of one item (and the payload of
 * strings, binaries and extensions), with every length compared with what is left first.  The rest
 * are loops over it.  item_walk steps over an item and everything inside it with a stack of counts
 * of fixed depth: the same walk checks a document, skips an item and finds where one ends.  Writing
 * is msgpack-c's (value_write.c), and printing is value_print.c.
 *
 * The format: https://github.com/msgpack/msgpack/blob/master/spec.md.
 */
#include "value.h"

#include "ensure.h"

/* A cursor that does not move past its end: once something does not fit it is broken. */
struct cursor {
    const uint8_t *at;
    size_t size; /* bytes left */
    bool broken;
};

/* The next `width` bytes, at most 8, as a big-endian number. */
static uint64_t cursor_number(struct cursor *cursor, unsigned width)
{
    uint64_t number = 0;
    ensure(width >= 1 && width <= 8);
    if (cursor->size < width) {
        cursor->broken = true;
        return 0;
    }
    for (unsigned i = 0; i < width; i++)
        number = number << 8 | cursor->at[i];
    cursor->at += width;
    cursor->size -= width;
    return number;
}

static struct bytes cursor_slice(struct cursor *cursor, uint64_t size)
{
    if (cursor->size < size) {
        cursor->broken = true;
        return (struct bytes){NULL, 0};
    }
    struct bytes slice = {cursor->at, (size_t)size};
    cursor->at += size;
    cursor->size -= size;
    return slice;
}

/* One value of a type and what it takes to set it. */

static void set_bool(struct value *value, bool boolean)
{
    value->type = VALUE_BOOL;
    value->boolean = boolean;
}

static void set_int(struct value *value, int64_t integer)
{
    value->type = VALUE_INT;
    value->integer = integer;
}

static void set_uint(struct value *value, uint64_t number)
{
    value->type = number > INT64_MAX ? VALUE_UINT : VALUE_INT;
    value->unsigned_integer = number; /* the same bytes as `integer` up to INT64_MAX */
}

static void set_float(struct value *value, uint64_t bits, unsigned width)
{
    ensure(width == 4 || width == 8);
    value->type = VALUE_FLOAT;
    if (width == 8) {
        memcpy(&value->number, &bits, sizeof(value->number));
        return;
    }
    uint32_t bits_32 = (uint32_t)bits;
    float number;
    memcpy(&number, &bits_32, sizeof(number));
    value->number = (double)number;
}

static void set_bytes(struct value *value, enum value_type type, struct cursor *cursor,
                      uint64_t size)
{
    value->type = type;
    value->bytes = cursor_slice(cursor, size);
}

static void set_extension(struct value *value, struct cursor *cursor, uint64_t size)
{
    value->type = VALUE_EXTENSION;
    value->extension = (int8_t)cursor_number(cursor, 1);
    value->bytes = cursor_slice(cursor, size);
}

/* Every item takes a byte at least: a count beyond what is left is refused before any loop. */
static void set_count(struct value *value, enum value_type type, struct cursor *cursor,
                      uint64_t count)
{
    uint64_t items = type == VALUE_MAP ? 2 * count : count;
    ensure((type == VALUE_MAP || type == VALUE_ARRAY) && count <= UINT32_MAX);
    value->type = type;
    value->count = (uint32_t)count;
    cursor->broken |= items > cursor->size;
}

/* 0xc0 to 0xdf: the formats with a byte of their own, one a line. */
/* clang-format off */
static void item_read_other(struct cursor *cursor, uint8_t format, struct value *value)
{
    switch (format) {
    case 0xc0: value->type = VALUE_NIL; return;
    case 0xc1: cursor->broken = true; return; /* never used */
    case 0xc2: set_bool(value, false); return;
    case 0xc3: set_bool(value, true); return;
    case 0xc4: set_bytes(value, VALUE_BINARY, cursor, cursor_number(cursor, 1)); return;
    case 0xc5: set_bytes(value, VALUE_BINARY, cursor, cursor_number(cursor, 2)); return;
    case 0xc6: set_bytes(value, VALUE_BINARY, cursor, cursor_number(cursor, 4)); return;
    case 0xc7: set_extension(value, cursor, cursor_number(cursor, 1)); return;
    case 0xc8: set_extension(value, cursor, cursor_number(cursor, 2)); return;
    case 0xc9: set_extension(value, cursor, cursor_number(cursor, 4)); return;
    case 0xca: set_float(value, cursor_number(cursor, 4), 4); return;
    case 0xcb: set_float(value, cursor_number(cursor, 8), 8); return;
    case 0xcc: set_uint(value, cursor_number(cursor, 1)); return;
    case 0xcd: set_uint(value, cursor_number(cursor, 2)); return;
    case 0xce: set_uint(value, cursor_number(cursor, 4)); return;
    case 0xcf: set_uint(value, cursor_number(cursor, 8)); return;
    case 0xd0: set_int(value, (int8_t)cursor_number(cursor, 1)); return;
    case 0xd1: set_int(value, (int16_t)cursor_number(cursor, 2)); return;
    case 0xd2: set_int(value, (int32_t)cursor_number(cursor, 4)); return;
    case 0xd3: set_int(value, (int64_t)cursor_number(cursor, 8)); return;
    case 0xd4: set_extension(value, cursor, 1); return;
    case 0xd5: set_extension(value, cursor, 2); return;
    case 0xd6: set_extension(value, cursor, 4); return;
    case 0xd7: set_extension(value, cursor, 8); return;
    case 0xd8: set_extension(value, cursor, 16); return;
    case 0xd9: set_bytes(value, VALUE_STRING, cursor, cursor_number(cursor, 1)); return;
    case 0xda: set_bytes(value, VALUE_STRING, cursor, cursor_number(cursor, 2)); return;
    case 0xdb: set_bytes(value, VALUE_STRING, cursor, cursor_number(cursor, 4)); return;
    case 0xdc: set_count(value, VALUE_ARRAY, cursor, cursor_number(cursor, 2)); return;
    case 0xdd: set_count(value, VALUE_ARRAY, cursor, cursor_number(cursor, 4)); return;
    case 0xde: set_count(value, VALUE_MAP, cursor, cursor_number(cursor, 2)); return;
    default:   set_count(value, VALUE_MAP, cursor, cursor_number(cursor, 4)); return; /* 0xdf */
    }
}
/* clang-format on */

/* One item without its children, *rest moved behind it; false when broken or nothing is left. */
static bool item_read(struct bytes *rest, struct value *ret_value)
{
    struct cursor cursor = {.at = rest->at, .size = rest->size};
    struct value value = {0};
    if (rest->size == 0)
        return false;
    uint8_t format = (uint8_t)cursor_number(&cursor, 1);
    if (format <= 0x7f)
        set_int(&value, format);
    else if (format <= 0x8f)
        set_count(&value, VALUE_MAP, &cursor, format & 0x0f);
    else if (format <= 0x9f)
        set_count(&value, VALUE_ARRAY, &cursor, format & 0x0f);
    else if (format <= 0xbf)
        set_bytes(&value, VALUE_STRING, &cursor, format & 0x1f);
    else if (format <= 0xdf)
        item_read_other(&cursor, format, &value);
    else
        set_int(&value, (int8_t)format);
    if (cursor.broken)
        return false;
    ensure(cursor.size < rest->size);
    value.raw = bytes_of(rest->at, rest->size - cursor.size);
    *rest = bytes_of(cursor.at, cursor.size);
    *ret_value = value;
    return true;
}

/* How many items are inside this one, one level down. */
static uint64_t item_children(const struct value *value)
{
    if (value->type == VALUE_MAP)
        return 2 * (uint64_t)value->count;
    return value->type == VALUE_ARRAY ? value->count : 0;
}

/*
 * Steps over one item and everything inside it.  `left[d]` counts the items not yet seen at nesting
 * depth d; each turn of the loop takes one item, so it ends with the input.  On failure *rest stays
 * at the item that broke it.
 */
static bool item_walk(struct bytes *rest)
{
    uint64_t left[VALUE_DEPTH_LIMIT + 1];
    unsigned depth = 0;
    left[0] = 1;
    for (;;) {
        struct bytes before = *rest;
        struct value value;
        if (!item_read(rest, &value))
            return false;
        ensure(depth <= VALUE_DEPTH_LIMIT && left[depth] > 0);
        ensure(rest->size < before.size);
        left[depth]--;
        if (value.type == VALUE_ARRAY || value.type == VALUE_MAP) {
            if (depth == VALUE_DEPTH_LIMIT) {
                *rest = before;
                return false;
            }
            left[++depth] = item_children(&value);
        }
        while (depth > 0 && left[depth] == 0)
            depth--;
        if (left[depth] == 0)
            return true;
    }
}

int value_check(struct bytes document, size_t *ret_offset)
{
    struct bytes rest = document;
    bool whole = item_walk(&rest);
    ensure(rest.size <= document.size);
    if (ret_offset)
        *ret_offset = document.size - rest.size;
    return whole && rest.size == 0 ? 0 : -1;
}

void value_read_init(struct value_reader *reader, struct bytes document)
{
    reader->rest = document;
}

bool value_next(struct value_reader *reader, struct value *ret_value)
{
    struct bytes rest = reader->rest;
    struct value value;
    if (!item_read(&rest, &value))
        return false;
    if (item_children(&value) > 0) {
        struct bytes behind = reader->rest;
        if (!item_walk(&behind))
            return false;
        value.raw = bytes_head(reader->rest, reader->rest.size - behind.size);
    }
    ensure(value.raw.at == reader->rest.at && value.raw.size <= reader->rest.size);
    reader->rest = rest;
    *ret_value = value;
    return true;
}

bool value_next_outside(struct value_reader *reader, struct value *ret_value)
{
    struct value value;
    while (item_read(&reader->rest, &value)) {
        if (value.type == VALUE_EXTENSION && (value.extension == VALUE_EXTENSION_BUFFER ||
                                              value.extension == VALUE_EXTENSION_TENSOR)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool value_skip(struct value_reader *reader)
{
    struct bytes rest = reader->rest;
    if (!item_walk(&rest))
        return false;
    reader->rest = rest;
    return true;
}

bool value_map_find(struct bytes map_document, struct bytes key, struct value *ret_value)
{
    struct bytes rest = map_document;
    struct value map;
    if (!item_read(&rest, &map) || map.type != VALUE_MAP)
        return false;
    struct value_reader reader = {.rest = rest};
    for (uint32_t i = 0; i < map.count; i++) {
        struct bytes at = reader.rest;
        struct value found;
        if (!value_skip(&reader))
            return false;
        if (item_read(&at, &found) && found.type == VALUE_STRING && bytes_equal(found.bytes, key))
            return value_next(&reader, ret_value);
        if (!value_skip(&reader))
            return false;
    }
    return false;
}

bool value_array_at(struct bytes array_document, uint32_t index, struct value *ret_value)
{
    struct bytes rest = array_document;
    struct value array;
    if (!item_read(&rest, &array) || array.type != VALUE_ARRAY || index >= array.count)
        return false;
    struct value_reader reader = {.rest = rest};
    for (uint32_t i = 0; i < index; i++)
        if (!value_skip(&reader))
            return false;
    return value_next(&reader, ret_value);
}
