/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a document: items, raw extents, skipping, looking up; and staying inside documents that
 * nobody checked.
 */
#include <criterion/criterion.h>

#include "mem.h"
#include "rng.h"
#include "value.h"

/* {"name": "x", 7: [1, {"deep": true}], "list": [10, [20, 21], 30], [1]: nil, "name": "second"} */
static const struct bytes sample = BYTES("\x85"
                                         "\xa4name\xa1x"
                                         "\x07\x92\x01\x81\xa4"
                                         "deep\xc3"
                                         "\xa4list\x93\x0a\x92\x14\x15\x1e"
                                         "\x91\x01\xc0"
                                         "\xa4name\xa6second");

static struct value first_item(struct bytes document)
{
    struct value_reader reader;
    struct value value;
    cr_assert_eq(value_check(document, NULL), 0);
    value_read_init(&reader, document);
    cr_assert(value_next(&reader, &value));
    return value;
}

Test(value_read, items_come_in_order_with_containers_before_their_children)
{
    static const enum value_type types[] = {
        VALUE_MAP,   VALUE_STRING, VALUE_STRING, VALUE_INT,    VALUE_ARRAY, VALUE_INT,
        VALUE_MAP,   VALUE_STRING, VALUE_BOOL,   VALUE_STRING, VALUE_ARRAY, VALUE_INT,
        VALUE_ARRAY, VALUE_INT,    VALUE_INT,    VALUE_INT,    VALUE_ARRAY, VALUE_INT,
        VALUE_NIL,   VALUE_STRING, VALUE_STRING};
    struct value_reader reader;
    struct value value;
    value_read_init(&reader, sample);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        cr_assert(value_next(&reader, &value), "item %zu", i);
        cr_assert_eq(value.type, types[i], "item %zu", i);
    }
    cr_assert_not(value_next(&reader, &value));
    cr_assert_eq(reader.rest.size, 0);
}

Test(value_read, raw_is_the_item_with_everything_inside_it)
{
    struct value value;
    cr_assert(bytes_equal(first_item(sample).raw, sample));
    cr_assert(value_map_find(sample, BYTES("list"), &value));
    cr_assert(bytes_equal(value.raw, BYTES("\x93\x0a\x92\x14\x15\x1e")));
    cr_assert_eq(value_check(value.raw, NULL), 0);
    cr_assert(value_array_at(value.raw, 1, &value));
    cr_assert(bytes_equal(value.raw, BYTES("\x92\x14\x15")));
    cr_assert(bytes_equal(first_item(BYTES("\xa3"
                                           "abc"))
                              .raw,
                          BYTES("\xa3"
                                "abc")));
}

Test(value_read, skipping_lands_where_walking_does)
{
    struct value_reader reader;
    struct value value;
    value_read_init(&reader, sample);
    cr_assert(value_next(&reader, &value));
    for (int i = 0; i < 10; i++) {
        struct value_reader ahead = reader;
        cr_assert(value_next(&ahead, &value));
        cr_assert(value_skip(&reader), "item %d", i);
        cr_assert(reader.rest.at == value.raw.at + value.raw.size, "item %d", i);
    }
    cr_assert_eq(reader.rest.size, 0);
    cr_assert_not(value_skip(&reader));
}

Test(value_read, a_key_is_found_the_first_counts_and_the_absent_is_absent)
{
    struct value value;
    cr_assert(value_map_find(sample, BYTES("name"), &value));
    cr_assert(value.type == VALUE_STRING && bytes_equal(value.bytes, BYTES("x")));
    cr_assert_not(value_map_find(sample, BYTES("deep"), &value),
                  "keys of inner maps are not this map's");
    cr_assert_not(value_map_find(sample, BYTES("x"), &value), "values are not keys");
    cr_assert_not(value_map_find(sample, BYTES(""), &value));
    cr_assert_not(value_map_find(sample, BYTES("nam"), &value));
    cr_assert(value_map_find(BYTES("\x81\xa0\x05"), BYTES(""), &value));
    cr_assert_eq(value.integer, 5);
    cr_assert_not(value_map_find(BYTES("\x81\xc4\x01k\x05"), BYTES("k"), &value),
                  "binary is no string");
    cr_assert_not(value_map_find(BYTES("\x80"), BYTES("k"), &value));
    cr_assert_not(value_map_find(BYTES("\x92\xa1k\x05"), BYTES("k"), &value), "an array is no map");
    cr_assert_not(value_map_find(bytes_of(NULL, 0), BYTES("k"), &value));
}

Test(value_read, an_index_is_found_up_to_the_end)
{
    struct bytes document = BYTES("\x94\x01\x92\x02\x03\x81\x04\x05\x06");
    struct value value;
    cr_assert(value_array_at(document, 0, &value) && value.integer == 1);
    cr_assert(value_array_at(document, 1, &value) && value.type == VALUE_ARRAY && value.count == 2);
    cr_assert(value_array_at(document, 2, &value) && value.type == VALUE_MAP && value.count == 1);
    cr_assert(value_array_at(document, 3, &value) && value.integer == 6);
    cr_assert_not(value_array_at(document, 4, &value));
    cr_assert_not(value_array_at(document, UINT32_MAX, &value));
    cr_assert_not(value_array_at(BYTES("\x90"), 0, &value));
    cr_assert_not(value_array_at(BYTES("\x81\x01\x02"), 0, &value), "a map is no array");
    cr_assert_not(value_array_at(bytes_of(NULL, 0), 0, &value));
}

Test(value_read, numbers_of_every_width_have_their_value)
{
    static const struct {
        struct bytes document;
        int64_t integer;
    } rows[] = {
        {BYTES("\x00"), 0},
        {BYTES("\x7f"), 127},
        {BYTES("\xff"), -1},
        {BYTES("\xe0"), -32},
        {BYTES("\xcc\xff"), 255},
        {BYTES("\xcd\xff\xfe"), 65534},
        {BYTES("\xce\xff\xff\xff\xff"), UINT32_MAX},
        {BYTES("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX},
        {BYTES("\xd0\x80"), -128},
        {BYTES("\xd0\x05"), 5},
        {BYTES("\xd1\x80\x00"), -32768},
        {BYTES("\xd2\x80\x00\x00\x00"), INT32_MIN},
        {BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), INT64_MIN},
        {BYTES("\xd3\x00\x00\x00\x00\x00\x00\x00\x01"), 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct value value = first_item(rows[i].document);
        cr_assert(value.type == VALUE_INT && value.integer == rows[i].integer, "row %zu", i);
    }
    struct value large = first_item(BYTES("\xcf\x80\x00\x00\x00\x00\x00\x00\x01"));
    cr_assert(large.type == VALUE_UINT && large.unsigned_integer == (uint64_t)INT64_MAX + 2);
    cr_assert_eq(first_item(BYTES("\xca\x3f\xc0\x00\x00")).number, 1.5);
    cr_assert_eq(first_item(BYTES("\xcb\xbf\xb9\x99\x99\x99\x99\x99\x9a")).number, -0.1);
}

Test(value_read, extensions_show_type_and_payload)
{
    struct value value = first_item(BYTES("\xd6\xff"
                                          "abcd"));
    cr_assert(value.type == VALUE_EXTENSION && value.extension == -1 &&
              bytes_equal(value.bytes, BYTES("abcd")));
    value = first_item(BYTES("\xc7\x00\x01"));
    cr_assert(value.type == VALUE_EXTENSION && value.extension == VALUE_EXTENSION_TENSOR &&
              value.bytes.size == 0);
}

Test(value_read, reading_allocates_nothing)
{
    struct mem_count before = mem_count();
    struct value_reader reader;
    struct value value;
    cr_assert_eq(value_check(sample, NULL), 0);
    value_read_init(&reader, sample);
    while (value_next(&reader, &value))
        ;
    cr_assert(value_map_find(sample, BYTES("list"), &value));
    cr_assert_eq(mem_count().allocations, before.allocations);
}

/* Every function on a document that nobody checked, in a block of exactly its size: ASan watches.
 */
Test(value_read, unchecked_documents_are_left_at_the_first_broken_item)
{
    struct rng rng;
    size_t items = 0;
    rng_init(&rng, 31);
    for (int round = 0; round < 40000; round++) {
        size_t size = rng_below(&rng, 40);
        uint8_t *memory = mem_new(size ? size : 1);
        struct value_reader reader;
        struct value value;
        for (size_t i = 0; i < size; i++)
            memory[i] = (uint8_t)(rng_chance(&rng, 1, 2) ? 0x80 + rng_below(&rng, 0x60)
                                                         : rng_below(&rng, 256));
        struct bytes document = bytes_of(memory, size);
        value_read_init(&reader, document);
        while (value_next(&reader, &value)) {
            cr_assert(value.raw.at >= memory && value.raw.at + value.raw.size <= memory + size);
            items++;
        }
        value_read_init(&reader, document);
        while (value_skip(&reader))
            ;
        if (value_map_find(document, BYTES("\x01"), &value) || value_array_at(document, 2, &value))
            cr_assert(value.raw.at + value.raw.size <= memory + size);
        mem_free(memory);
    }
    cr_assert_gt(items, 1000);
}
