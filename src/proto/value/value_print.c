/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A MessagePack document as JSON for people and logs.
 *
 * One-way: what JSON cannot say (binary, extensions, keys that are no strings, NaN) is shown the
 * nearest way, and no reader is meant to turn it back.  The document is checked first, so the walk
 * below meets neither broken items nor more than VALUE_DEPTH_LIMIT levels, and may recurse.  All
 * output goes to a text with a limit; as soon as it fails the walk ends.
 */
#include "value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ensure.h"
#include "value_tensor.h"

static void print_base64(struct bytes bytes, struct text *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text_add_byte(out, '"');
    for (size_t i = 0; i < bytes.size && !out->failed; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)bytes.at[i] << 16;
        group |= left > 1 ? (uint32_t)bytes.at[i + 1] << 8 : 0;
        group |= left > 2 ? bytes.at[i + 2] : 0;
        const char quad[4] = {digits[group >> 18], digits[group >> 12 & 63],
                              left > 1 ? digits[group >> 6 & 63] : '=',
                              left > 2 ? digits[group & 63] : '='};
        text_add(out, bytes_of(quad, sizeof(quad)));
    }
    text_add_byte(out, '"');
}

/* The fewest digits that read back as the same number, and always a sign that it is no integer. */
static void print_float(double number, struct text *out)
{
    char digits[40];
    if (!isfinite(number)) {
        text_add_string(out, "null");
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof(digits), "%.*g", precision, number);
        if (strtod(digits, NULL) == number)
            break;
    }
    text_add_string(out, digits);
    if (!strpbrk(digits, ".e"))
        text_add_string(out, ".0");
}

static void print_item(struct value_reader *reader, struct text *out);

static void print_array(struct value_reader *reader, uint32_t count, struct text *out)
{
    text_add_byte(out, '[');
    for (uint32_t i = 0; i < count && !out->failed; i++) {
        ensure(reader->rest.size > 0);
        if (i > 0)
            text_add_byte(out, ',');
        print_item(reader, out);
    }
    text_add_byte(out, ']');
}

/* A key whose JSON is a string stands as it is; the JSON of any other becomes a string. */
static void print_key(struct value_reader *reader, struct text *out)
{
    struct value_reader ahead = *reader;
    struct value key;
    bool found = value_next(&ahead, &key);
    ensure(found);
    if (key.type == VALUE_STRING || key.type == VALUE_BINARY) {
        print_item(reader, out);
        return;
    }
    struct text json;
    text_init(&json, out->limit - out->size);
    print_item(reader, &json);
    out->failed |= json.failed;
    text_add_json(out, text_bytes(&json));
    text_done(&json);
}

static void print_map(struct value_reader *reader, uint32_t count, struct text *out)
{
    text_add_byte(out, '{');
    for (uint32_t i = 0; i < count && !out->failed; i++) {
        if (i > 0)
            text_add_byte(out, ',');
        print_key(reader, out);
        text_add_byte(out, ':');
        if (!out->failed)
            print_item(reader, out);
    }
    text_add_byte(out, '}');
}

static void print_item(struct value_reader *reader, struct text *out)
{
    struct value value;
    bool found = value_next(reader, &value);
    ensure(found);
    switch (value.type) {
    case VALUE_NIL:
        text_add_string(out, "null");
        break;
    case VALUE_BOOL:
        text_add_string(out, value.boolean ? "true" : "false");
        break;
    case VALUE_INT:
        text_print(out, "%" PRId64, value.integer);
        break;
    case VALUE_UINT:
        text_print(out, "%" PRIu64, value.unsigned_integer);
        break;
    case VALUE_FLOAT:
        print_float(value.number, out);
        break;
    case VALUE_STRING:
        text_add_json(out, value.bytes);
        break;
    case VALUE_BINARY:
        print_base64(value.bytes, out);
        break;
    case VALUE_ARRAY:
        print_array(reader, value.count, out);
        break;
    case VALUE_MAP:
        print_map(reader, value.count, out);
        break;
    case VALUE_EXTENSION:
        if ((value.extension == VALUE_EXTENSION_BUFFER ||
             value.extension == VALUE_EXTENSION_TENSOR) &&
            value.bytes.size >= VALUE_PLACE_SIZE) {
            /* What it refers to is not here, and where it lies is nobody's business. */
            text_print(out, "{\"ext\":%d}", value.extension);
            break;
        }
        text_print(out, "{\"ext\":%d,\"data\":", value.extension);
        print_base64(value.bytes, out);
        text_add_byte(out, '}');
        break;
    case VALUE_TYPE_COUNT:
        ensure(value.type < VALUE_TYPE_COUNT);
    }
}

void value_print(struct bytes document, struct text *out)
{
    size_t offset;
    struct value_reader reader;
    if (value_check(document, &offset) < 0) {
        text_print(out, "{\"broken_at\":%zu}", offset);
        return;
    }
    value_read_init(&reader, document);
    print_item(&reader, out);
    ensure(out->failed || reader.rest.size == 0);
}
