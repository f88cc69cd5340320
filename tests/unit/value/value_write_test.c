/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: the shortest forms, round trips at every edge, and failure that shows in one place.
 */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>

#include "mem.h"
#include "rng.h"
#include "value.h"

static struct text out;

static void setup(void)
{
    text_init(&out, 1 << 20);
}

static void teardown(void)
{
    text_done(&out);
}

TestSuite(value_write, .init = setup, .fini = teardown);

/* The one item that was written, checked; the text is cleared by the next write's caller. */
static struct value written_item(void)
{
    struct value_reader reader;
    struct value value;
    cr_assert_not(out.failed);
    cr_assert_eq(value_check(text_bytes(&out), NULL), 0);
    value_read_init(&reader, text_bytes(&out));
    cr_assert(value_next(&reader, &value));
    cr_assert_eq(value.raw.size, out.size);
    return value;
}

static void assert_int(int64_t integer)
{
    text_clear(&out);
    value_write_int(&out, integer);
    struct value value = written_item();
    cr_assert(value.type == VALUE_INT && value.integer == integer);
}

static void assert_uint(uint64_t number)
{
    text_clear(&out);
    value_write_uint(&out, number);
    struct value value = written_item();
    cr_assert_eq(value.type, number > INT64_MAX ? VALUE_UINT : VALUE_INT);
    cr_assert_eq(value.unsigned_integer, number);
}

Test(value_write, integers_around_every_power_of_two_come_back)
{
    for (unsigned bit = 0; bit < 64; bit++)
        for (int64_t near = -2; near <= 2; near++) {
            uint64_t number = ((uint64_t)1 << bit) + (uint64_t)near;
            assert_uint(number);
            assert_int((int64_t)number);
            assert_int((int64_t)-number);
        }
}

Test(value_write, floats_come_back_bit_by_bit)
{
    static const double numbers[] = {0.0,      -0.0,    1.0,    -1.5,     0.1,       DBL_MAX,
                                     -DBL_MAX, DBL_MIN, 5e-324, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        text_clear(&out);
        value_write_float(&out, numbers[i]);
        struct value value = written_item();
        cr_assert_eq(value.type, VALUE_FLOAT);
        cr_assert_eq(memcmp(&value.number, &numbers[i], sizeof(double)), 0, "row %zu", i);
    }
}

Test(value_write, payloads_of_every_length_class_come_back)
{
    static const size_t sizes[] = {0,  1,  2,  3,   4,   5,     8,     15,   16,
                                   17, 31, 32, 255, 256, 65535, 65536, 70000};
    uint8_t *payload = mem_new(70000);
    memset(payload, 'p', 70000);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct bytes bytes = bytes_of(payload, sizes[i]);
        text_clear(&out);
        value_write_string(&out, bytes);
        struct value value = written_item();
        cr_assert(value.type == VALUE_STRING && bytes_equal(value.bytes, bytes), "string of %zu",
                  sizes[i]);
        text_clear(&out);
        value_write_binary(&out, bytes);
        value = written_item();
        cr_assert(value.type == VALUE_BINARY && bytes_equal(value.bytes, bytes), "binary of %zu",
                  sizes[i]);
        text_clear(&out);
        value_write_extension(&out, -7, bytes);
        value = written_item();
        cr_assert(value.type == VALUE_EXTENSION && value.extension == -7 &&
                      bytes_equal(value.bytes, bytes),
                  "extension of %zu", sizes[i]);
    }
    mem_free(payload);
}

Test(value_write, containers_of_every_count_class_come_back)
{
    static const uint32_t counts[] = {0, 1, 15, 16, 65535, 65536};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        text_clear(&out);
        value_write_array(&out, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++)
            value_write_nil(&out);
        struct value value = written_item();
        cr_assert(value.type == VALUE_ARRAY && value.count == counts[i]);
        text_clear(&out);
        value_write_map(&out, counts[i]);
        for (uint32_t k = 0; k < 2 * counts[i]; k++)
            value_write_bool(&out, k & 1);
        value = written_item();
        cr_assert(value.type == VALUE_MAP && value.count == counts[i]);
    }
}

Test(value_write, the_shortest_forms_are_chosen)
{
    static const uint8_t golden[] = {
        0xdc, 0,    17,   0x00, 0x7f, 0xcc, 0x80, 0xcd, 0x01, 0x00, 0xce, 0,    1,    0,
        0,    0xff, 0xe0, 0xd0, 0xdf, 0xd1, 0xff, 0x7f, 0xc0, 0xc2, 0xc3, 0xcb, 0x3f, 0xf8,
        0,    0,    0,    0,    0,    0,    0xa2, 'h',  'i',  0xc4, 1,    0xff, 0x91, 0x81,
        0x01, 0x02, 0xd4, 5,    'e',  0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    };
    value_write_array(&out, 17);
    value_write_int(&out, 0);
    value_write_int(&out, 127);
    value_write_int(&out, 128);
    value_write_uint(&out, 256);
    value_write_int(&out, 65536);
    value_write_int(&out, -1);
    value_write_int(&out, -32);
    value_write_int(&out, -33);
    value_write_int(&out, -129);
    value_write_nil(&out);
    value_write_bool(&out, false);
    value_write_bool(&out, true);
    value_write_float(&out, 1.5);
    value_write_string(&out, BYTES("hi"));
    value_write_binary(&out, BYTES("\xff"));
    value_write_array(&out, 1);
    value_write_map(&out, 1);
    value_write_int(&out, 1);
    value_write_int(&out, 2);
    value_write_extension(&out, 5, BYTES("e"));
    value_write_uint(&out, UINT64_MAX);
    cr_assert_eq(out.size, sizeof(golden));
    cr_assert_eq(memcmp(out.at, golden, sizeof(golden)), 0);
}

static void write_sample(struct text *text)
{
    value_write_map(text, 3);
    value_write_string(
        text,
        BYTES("a string that is long enough to make the text grow more than once, and then some"));
    value_write_array(text, 3);
    value_write_nil(text);
    value_write_float(text, 0.25);
    value_write_extension(text, VALUE_EXTENSION_TENSOR,
                          BYTES("payload of an extension, payload of an extension"));
    value_write_string(text, BYTES("binary"));
    value_write_binary(
        text, BYTES("0123456789012345678901234567890123456789012345678901234567890123456789"));
    value_write_int(text, -5);
    value_write_uint(text, UINT64_MAX);
}

Test(value_write, a_limit_is_kept_and_shows_as_failed)
{
    write_sample(&out);
    cr_assert_not(out.failed);
    cr_assert_eq(value_check(text_bytes(&out), NULL), 0);
    for (size_t limit = 0; limit < out.size; limit++) {
        struct text small;
        text_init(&small, limit);
        write_sample(&small);
        cr_assert(small.failed, "limit %zu", limit);
        cr_assert_leq(small.size, limit);
        text_done(&small);
    }
}

Test(value_write, payloads_that_the_format_cannot_count_fail_without_being_read)
{
    struct bytes endless = bytes_of("", (size_t)UINT32_MAX + 1);
    for (int which = 0; which < 3; which++) {
        text_clear(&out);
        if (which == 0)
            value_write_string(&out, endless);
        else if (which == 1)
            value_write_binary(&out, endless);
        else
            value_write_extension(&out, 1, endless);
        cr_assert(out.failed);
        cr_assert_eq(out.size, 0);
    }
}

Test(value_write, every_refused_allocation_shows_as_failed)
{
    uint64_t nth = 1;
    for (;; nth++) {
        struct text text;
        text_init(&text, 1 << 16);
        mem_fail_at(nth);
        write_sample(&text);
        mem_fail_at(0);
        bool failed = text.failed;
        if (!failed)
            cr_assert_eq(value_check(text_bytes(&text), NULL), 0);
        text_done(&text);
        if (!failed)
            break;
    }
    cr_assert_gt(nth, 2);
    cr_assert_eq(mem_count().live, 0);
}

/* A random value of random shape, at most `depth` levels of containers. */
static void write_random(struct rng *rng, struct text *text, unsigned depth)
{
    uint64_t number = rng_next(rng);
    uint64_t choice = rng_below(rng, depth == 0 ? 8 : 10);
    uint32_t count = (uint32_t)rng_below(rng, 5);
    switch (choice) {
    case 0:
        value_write_nil(text);
        return;
    case 1:
        value_write_bool(text, number & 1);
        return;
    case 2:
        value_write_int(text, (int64_t)(number >> rng_below(rng, 64)));
        return;
    case 3:
        value_write_int(text, -(int64_t)(number >> (1 + rng_below(rng, 63))));
        return;
    case 4:
        value_write_uint(text, number);
        return;
    case 5:
        value_write_float(text, (double)number / 3);
        return;
    case 6:
        value_write_string(text, bytes_of(&number, rng_below(rng, 9)));
        return;
    case 7:
        value_write_extension(text, (int8_t)number, bytes_of(&number, rng_below(rng, 9)));
        return;
    case 8:
        value_write_array(text, count);
        break;
    default:
        value_write_map(text, count);
        count *= 2;
    }
    for (uint32_t i = 0; i < count; i++)
        write_random(rng, text, depth - 1);
}

Test(value_write, whatever_is_written_is_a_document_and_none_of_its_fronts_is)
{
    struct rng rng;
    rng_init(&rng, 41);
    for (int round = 0; round < 2000; round++) {
        text_clear(&out);
        write_random(&rng, &out, 5);
        cr_assert_eq(value_check(text_bytes(&out), NULL), 0, "round %d", round);
        for (size_t cut = 0; cut < out.size && cut < 200; cut++)
            cr_assert_eq(value_check(bytes_head(text_bytes(&out), cut), NULL), -1,
                         "round %d cut at %zu", round, cut);
    }
}
