/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MessagePack format, byte by byte: what is accepted, as what, and what is refused where.
 *
 * msgpack-c's own unpacker is the second opinion: every input of one and two bytes, and many of
 * more, must be judged and understood the same by both.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <msgpack.h>

#include "mem.h"
#include "rng.h"
#include "value.h"

/* Reads a copy of exactly the document's size, so that ASan sees a byte read too many. */
static int check_exactly(struct bytes document, size_t *ret_offset)
{
    uint8_t *memory = mem_new(document.size ? document.size : 1);
    if (document.size)
        memcpy(memory, document.at, document.size);
    int result = value_check(bytes_of(memory, document.size), ret_offset);
    mem_free(memory);
    return result;
}

static void assert_accepted(struct bytes document)
{
    size_t offset = 99999;
    cr_assert_eq(check_exactly(document, &offset), 0, "first byte 0x%02x, size %zu", document.at[0],
                 document.size);
    cr_assert_eq(offset, document.size);
}

static void assert_refused(struct bytes document, size_t expected_offset)
{
    size_t offset = 99999;
    cr_assert_eq(check_exactly(document, &offset), -1, "first byte 0x%02x, size %zu",
                 document.size ? document.at[0] : 0, document.size);
    cr_assert_eq(offset, expected_offset, "offset %zu, expected %zu", offset, expected_offset);
}

/* The smallest well-formed document that begins with each byte, by the specification. */
struct format {
    uint8_t first, last; /* format bytes of this row */
    enum value_type type;
    size_t head;  /* bytes in front of payload or children */
    bool counted; /* the format byte's low bits count payload or children */
    uint8_t mask; /* these bits */
    size_t fixed; /* payload when not counted and not in the length field (which is zero here) */
};
/* clang-format off */
static const struct format formats[] = {
    {0x00, 0x7f, VALUE_INT, 1, false, 0, 0},       {0x80, 0x8f, VALUE_MAP, 1, true, 0x0f, 0},
    {0x90, 0x9f, VALUE_ARRAY, 1, true, 0x0f, 0},   {0xa0, 0xbf, VALUE_STRING, 1, true, 0x1f, 0},
    {0xc0, 0xc0, VALUE_NIL, 1, false, 0, 0},       {0xc2, 0xc3, VALUE_BOOL, 1, false, 0, 0},
    {0xc4, 0xc4, VALUE_BINARY, 2, false, 0, 0},    {0xc5, 0xc5, VALUE_BINARY, 3, false, 0, 0},
    {0xc6, 0xc6, VALUE_BINARY, 5, false, 0, 0},    {0xc7, 0xc7, VALUE_EXTENSION, 3, false, 0, 0},
    {0xc8, 0xc8, VALUE_EXTENSION, 4, false, 0, 0}, {0xc9, 0xc9, VALUE_EXTENSION, 6, false, 0, 0},
    {0xca, 0xca, VALUE_FLOAT, 5, false, 0, 0},     {0xcb, 0xcb, VALUE_FLOAT, 9, false, 0, 0},
    {0xcc, 0xcc, VALUE_INT, 2, false, 0, 0},       {0xcd, 0xcd, VALUE_INT, 3, false, 0, 0},
    {0xce, 0xce, VALUE_INT, 5, false, 0, 0},       {0xcf, 0xcf, VALUE_INT, 9, false, 0, 0},
    {0xd0, 0xd0, VALUE_INT, 2, false, 0, 0},       {0xd1, 0xd1, VALUE_INT, 3, false, 0, 0},
    {0xd2, 0xd2, VALUE_INT, 5, false, 0, 0},       {0xd3, 0xd3, VALUE_INT, 9, false, 0, 0},
    {0xd4, 0xd4, VALUE_EXTENSION, 2, false, 0, 1}, {0xd5, 0xd5, VALUE_EXTENSION, 2, false, 0, 2},
    {0xd6, 0xd6, VALUE_EXTENSION, 2, false, 0, 4}, {0xd7, 0xd7, VALUE_EXTENSION, 2, false, 0, 8},
    {0xd8, 0xd8, VALUE_EXTENSION, 2, false, 0, 16}, {0xd9, 0xd9, VALUE_STRING, 2, false, 0, 0},
    {0xda, 0xda, VALUE_STRING, 3, false, 0, 0},    {0xdb, 0xdb, VALUE_STRING, 5, false, 0, 0},
    {0xdc, 0xdc, VALUE_ARRAY, 3, false, 0, 0},     {0xdd, 0xdd, VALUE_ARRAY, 5, false, 0, 0},
    {0xde, 0xde, VALUE_MAP, 3, false, 0, 0},       {0xdf, 0xdf, VALUE_MAP, 5, false, 0, 0},
    {0xe0, 0xff, VALUE_INT, 1, false, 0, 0},
};
/* clang-format on */

Test(value_format, every_first_byte_has_its_type_and_every_cut_and_every_trailing_byte_is_refused)
{
    int seen[256] = {0};
    for (size_t row = 0; row < sizeof(formats) / sizeof(formats[0]); row++) {
        const struct format *format = &formats[row];
        for (unsigned byte = format->first; byte <= format->last; byte++) {
            uint8_t document[64] = {(uint8_t)byte};
            struct value_reader reader;
            struct value value;
            size_t inside = format->counted ? byte & format->mask : format->fixed;
            size_t size = format->head + (format->type == VALUE_MAP ? 2 * inside : inside);

            assert_accepted(bytes_of(document, size));
            value_read_init(&reader, bytes_of(document, size));
            cr_assert(value_next(&reader, &value), "0x%02x", byte);
            cr_assert_eq(value.type, format->type, "0x%02x", byte);
            cr_assert_eq(value.raw.size, size, "0x%02x", byte);
            for (size_t cut = 0; cut < size; cut++)
                cr_assert_eq(check_exactly(bytes_of(document, cut), NULL), -1, "0x%02x cut at %zu",
                             byte, cut);
            assert_refused(bytes_of(document, size + 1), size);
            seen[byte]++;
        }
    }
    for (unsigned byte = 0; byte < 256; byte++)
        cr_assert_eq(seen[byte], byte != 0xc1, "0x%02x", byte);
}

Test(value_format, the_byte_that_is_never_used_is_refused_wherever_it_stands)
{
    assert_refused(BYTES("\xc1"), 0);
    assert_refused(BYTES("\x92\x01\xc1"), 2);
    assert_refused(BYTES("\x81\xc1\x01"), 1);
    assert_refused(BYTES("\x81\x01\xc1"), 2);
}

Test(value_format, nothing_at_all_is_no_document)
{
    assert_refused(bytes_of(NULL, 0), 0);
}

Test(value_format, lengths_beyond_the_input_are_refused)
{
    static const struct bytes documents[] = {
        BYTES("\xa2x"),
        BYTES("\xbfx"),
        BYTES("\xd9\x02x"),
        BYTES("\xd9\xffx"),
        BYTES("\xda\xff\xffx"),
        BYTES("\xdb\xff\xff\xff\xffx"),
        BYTES("\xc4\x02x"),
        BYTES("\xc5\x01\x00x"),
        BYTES("\xc6\xff\xff\xff\xffx"),
        BYTES("\xc7\x02\x01x"),
        BYTES("\xc8\xff\xff\x01x"),
        BYTES("\xc9\xff\xff\xff\xff\x01x"),
        BYTES("\xd5\x01x"),
        BYTES("\xdc\xff\xff\x01"),
        BYTES("\xdd\xff\xff\xff\xff\x01"),
        BYTES("\xde\xff\xff\x01\x01"),
        BYTES("\xdf\xff\xff\xff\xff\x01\x01"),
        BYTES("\xdf\x80\x00\x00\x01\x01\x01"),
        BYTES("\x92\x01"),
        BYTES("\x82\x01\x01\x01"),
    };
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        assert_refused(documents[i], 0);
}

/* `depth` containers around one nil, each holding the next as an item, a value or a key. */
enum nesting { NEST_ARRAY, NEST_MAP_VALUE, NEST_MAP_KEY, NEST_COUNT };
static struct bytes nested(enum nesting nesting, size_t depth, uint8_t *memory)
{
    size_t size = 0, behind = 0;
    for (size_t i = 0; i < depth; i++) {
        memory[size++] = nesting == NEST_ARRAY ? 0x91 : 0x81;
        if (nesting == NEST_MAP_VALUE)
            memory[size++] = 0x01;
        behind += nesting == NEST_MAP_KEY;
    }
    memory[size++] = 0xc0;
    memset(memory + size, 0x02, behind);
    return bytes_of(memory, size + behind);
}

Test(value_format, sixty_four_levels_are_accepted_and_one_more_is_refused_where_it_begins)
{
    uint8_t memory[512];
    for (enum nesting nesting = 0; nesting < NEST_COUNT; nesting++) {
        size_t step = nesting == NEST_MAP_VALUE ? 2 : 1;
        assert_accepted(nested(nesting, VALUE_DEPTH_LIMIT - 1, memory));
        assert_accepted(nested(nesting, VALUE_DEPTH_LIMIT, memory));
        assert_refused(nested(nesting, VALUE_DEPTH_LIMIT + 1, memory), VALUE_DEPTH_LIMIT * step);
    }
}

Test(value_format, an_empty_container_counts_as_a_level_too)
{
    uint8_t memory[VALUE_DEPTH_LIMIT + 1];
    memset(memory, 0x91, sizeof(memory));
    memory[VALUE_DEPTH_LIMIT - 1] = 0x90;
    assert_accepted(bytes_of(memory, VALUE_DEPTH_LIMIT));
    memory[VALUE_DEPTH_LIMIT - 1] = 0x91;
    memory[VALUE_DEPTH_LIMIT] = 0x80;
    assert_refused(bytes_of(memory, VALUE_DEPTH_LIMIT + 1), VALUE_DEPTH_LIMIT);
}

Test(value_format, depth_is_given_back_when_a_container_ends)
{
    uint8_t memory[2000] = {0xdc, 0x03, 0xe8}; /* 1000 items, each an array inside an array */
    size_t size = 3;
    for (int i = 0; i < 1000 - 4; i++)
        memory[size++] = 0x90;
    for (int i = 0; i < 4; i++) {
        memory[size++] = 0x91;
        memory[size++] = 0x90;
    }
    assert_accepted(bytes_of(memory, size));
}

/* The second opinion. */

static void assert_same(const msgpack_object *object, struct value_reader *reader)
{
    struct value value;
    cr_assert(value_next(reader, &value));
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        cr_assert_eq(value.type, VALUE_NIL);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        cr_assert(value.type == VALUE_BOOL && value.boolean == object->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        cr_assert_eq(value.type, object->via.u64 > INT64_MAX ? VALUE_UINT : VALUE_INT);
        cr_assert_eq(value.unsigned_integer, object->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        cr_assert(value.type == VALUE_INT && value.integer == object->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        cr_assert_eq(value.type, VALUE_FLOAT);
        cr_assert(value.number == object->via.f64 ||
                  (isnan(value.number) && isnan(object->via.f64)));
        break;
    case MSGPACK_OBJECT_STR:
        cr_assert_eq(value.type, VALUE_STRING);
        cr_assert(bytes_equal(value.bytes, bytes_of(object->via.str.ptr, object->via.str.size)));
        break;
    case MSGPACK_OBJECT_BIN:
        cr_assert_eq(value.type, VALUE_BINARY);
        cr_assert(bytes_equal(value.bytes, bytes_of(object->via.bin.ptr, object->via.bin.size)));
        break;
    case MSGPACK_OBJECT_EXT:
        cr_assert(value.type == VALUE_EXTENSION && value.extension == object->via.ext.type);
        cr_assert(bytes_equal(value.bytes, bytes_of(object->via.ext.ptr, object->via.ext.size)));
        break;
    case MSGPACK_OBJECT_ARRAY:
        cr_assert(value.type == VALUE_ARRAY && value.count == object->via.array.size);
        for (uint32_t i = 0; i < value.count; i++)
            assert_same(&object->via.array.ptr[i], reader);
        break;
    case MSGPACK_OBJECT_MAP:
        cr_assert(value.type == VALUE_MAP && value.count == object->via.map.size);
        for (uint32_t i = 0; i < value.count; i++) {
            assert_same(&object->via.map.ptr[i].key, reader);
            assert_same(&object->via.map.ptr[i].val, reader);
        }
        break;
    }
}

/* Both accept the document and understand the same, or both refuse it; 1 when accepted. */
static int assert_agreement(struct bytes document)
{
    size_t offset = 0;
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    msgpack_unpack_return result =
        msgpack_unpack_next(&unpacked, (const char *)document.at, document.size, &offset);
    bool theirs = result == MSGPACK_UNPACK_SUCCESS && offset == document.size;
    bool ours = check_exactly(document, NULL) == 0;
    cr_assert_eq(ours, theirs, "%02x %02x %02x, size %zu", document.at[0],
                 document.size > 1 ? document.at[1] : 0, document.size > 2 ? document.at[2] : 0,
                 document.size);
    if (ours) {
        struct value_reader reader;
        value_read_init(&reader, document);
        assert_same(&unpacked.data, &reader);
        cr_assert_eq(reader.rest.size, 0);
    }
    msgpack_unpacked_destroy(&unpacked);
    return ours;
}

Test(value_format, all_inputs_of_one_and_two_bytes_are_judged_as_msgpack_c_does)
{
    int accepted = 0;
    for (unsigned first = 0; first < 256; first++) {
        accepted += assert_agreement(bytes_of((uint8_t[]){(uint8_t)first}, 1));
        for (unsigned second = 0; second < 256; second++)
            accepted += assert_agreement(bytes_of((uint8_t[]){(uint8_t)first, (uint8_t)second}, 2));
    }
    cr_assert_gt(accepted, 500);
}

Test(value_format, random_inputs_are_judged_as_msgpack_c_does)
{
    struct rng rng;
    int accepted = 0;
    rng_init(&rng, 21);
    for (int round = 0; round < 60000; round++) {
        uint8_t document[24];
        size_t size = 1 + rng_below(&rng, sizeof(document));
        for (size_t i = 0; i < size; i++)
            document[i] = (uint8_t)(rng_chance(&rng, 1, 2)   ? rng_below(&rng, 4)
                                    : rng_chance(&rng, 1, 2) ? 0x80 + rng_below(&rng, 0x60)
                                                             : rng_below(&rng, 256));
        /* Counts of 32 bits make msgpack-c ask for memory before it looks at the input. */
        if (memchr(document, 0xdd, size) || memchr(document, 0xdf, size))
            continue;
        accepted += assert_agreement(bytes_of(document, size));
    }
    cr_assert_gt(accepted, 1000);
}
