/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for values: one MessagePack document, from anybody.
 *
 * Three opinions must agree on a document that value_check accepts: msgpack-c unpacks it too,
 * value_skip ends where it ends, and the document written again item by item prints as the same
 * JSON.  One that is refused is still walked, printed and searched, to see that nothing reads past
 * its end.
 */
#include <msgpack.h>

#include "ensure.h"
#include "text.h"
#include "value.h"

enum {
    THEIR_DEPTH_LIMIT = 30,  /* msgpack-c's parser has a stack of 32 */
    PRINT_LIMIT = 16 * 1024, /* keys in keys double with each level: more would only be slow */
};

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

/* Writes the next item as it was understood. */
static void write_again(const struct value *value, struct text *out)
{
    switch (value->type) {
    case VALUE_NIL:
        value_write_nil(out);
        break;
    case VALUE_BOOL:
        value_write_bool(out, value->boolean);
        break;
    case VALUE_INT:
        value_write_int(out, value->integer);
        break;
    case VALUE_UINT:
        value_write_uint(out, value->unsigned_integer);
        break;
    case VALUE_FLOAT:
        value_write_float(out, value->number);
        break;
    case VALUE_STRING:
        value_write_string(out, value->bytes);
        break;
    case VALUE_BINARY:
        value_write_binary(out, value->bytes);
        break;
    case VALUE_ARRAY:
        value_write_array(out, value->count);
        break;
    case VALUE_MAP:
        value_write_map(out, value->count);
        break;
    default:
        value_write_extension(out, value->extension, value->bytes);
    }
}

/* Walks the document item by item; returns how deep it is nested. */
static unsigned walk(struct bytes document, struct text *out)
{
    uint64_t left[VALUE_DEPTH_LIMIT + 1] = {1};
    unsigned depth = 0, deepest = 0;
    struct value_reader reader;
    struct value value;
    value_read_init(&reader, document);
    while (value_next(&reader, &value)) {
        struct value_reader inside;
        value_read_init(&inside, value.raw);
        ensure(value_skip(&inside) && inside.rest.size == 0);
        write_again(&value, out);
        left[depth]--;
        if (value.type == VALUE_ARRAY || value.type == VALUE_MAP) {
            ensure(depth < VALUE_DEPTH_LIMIT);
            left[++depth] = (uint64_t)value.count * (value.type == VALUE_MAP ? 2 : 1);
        }
        deepest = depth > deepest ? depth : deepest;
        while (depth > 0 && left[depth] == 0)
            depth--;
    }
    ensure(reader.rest.size == 0 && depth == 0 && left[0] == 0);
    return deepest;
}

static void check_against_msgpack(struct bytes document)
{
    size_t offset = 0;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    ensure(msgpack_unpack_next(&unpacked, (const char *)document.at, document.size, &offset) ==
           MSGPACK_UNPACK_SUCCESS);
    ensure(offset == document.size);
    msgpack_unpacked_destroy(&unpacked);
}

static void check_accepted(struct bytes document)
{
    struct text again, json, json_again;
    text_init(&again, 16 * document.size); /* a float of 5 bytes becomes 9, nothing else grows */
    text_init(&json, PRINT_LIMIT);
    text_init(&json_again, PRINT_LIMIT);
    unsigned depth = walk(document, &again);
    ensure(!again.failed && value_check(text_bytes(&again), NULL) == 0);
    if (depth <= THEIR_DEPTH_LIMIT)
        check_against_msgpack(document);
    value_print(document, &json);
    value_print(text_bytes(&again), &json_again);
    ensure(json.failed == json_again.failed);
    ensure(json.failed || bytes_equal(text_bytes(&json), text_bytes(&json_again)));
    text_done(&json_again);
    text_done(&json);
    text_done(&again);
}

static void check_refused(struct bytes document)
{
    struct value_reader reader;
    struct value value;
    struct text json;
    value_read_init(&reader, document);
    while (value_next(&reader, &value))
        ensure(value.raw.at >= document.at &&
               value.raw.at + value.raw.size <= document.at + document.size);
    text_init(&json, PRINT_LIMIT);
    value_print(document, &json);
    ensure(bytes_starts_with(text_bytes(&json), BYTES("{\"broken_at\":")));
    text_done(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct bytes document = bytes_of(at, size);
    struct value value;
    size_t offset = 0;
    if (value_check(document, &offset) == 0)
        check_accepted(document);
    else
        check_refused(document);
    ensure(offset <= size);
    if (value_map_find(document, BYTES("k"), &value) || value_array_at(document, 1, &value))
        ensure(value.raw.at >= at && value.raw.at + value.raw.size <= at + size);
    return 0;
}
