/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/value.h> and <manta/error.h> as a user meets them: values in, values out, through
 * libmanta.
 */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { TYPE_COUNT = MANTA_EXTENSION + 1 };

/* One document of every type, in the order of enum manta_type. */
static const struct manta_value SAMPLES[TYPE_COUNT] = {
    [MANTA_NIL] = {"\xc0", 1},
    [MANTA_BOOL] = {"\xc3", 1},
    [MANTA_INT] = {"\x07", 1},
    [MANTA_FLOAT] = {"\xcb\x3f\xe0\0\0\0\0\0\0", 9},
    [MANTA_STRING] = {"\xa2hi", 3},
    [MANTA_BINARY] = {"\xc4\x02\0\xff", 4},
    [MANTA_ARRAY] = {"\x92\x01\x02", 3},
    [MANTA_MAP] = {"\x81\xa1k\x05", 4},
    [MANTA_HANDLE] = {"\xd5\x02\x91\xa1", 4}, /* its inside is not looked at here */
    [MANTA_EXTENSION] = {"\xd4\x01\x00", 3},
};
/* What the errors call them. */
static const char *const TYPE_WORDS[TYPE_COUNT] = {
    "nil",    "a bool",   "an int", "a float",      "a string",
    "binary", "an array", "a map",  "an extension", "an extension"};

/* The only value of a pack that a test has filled. */
static struct manta_value value_of(struct manta_pack *pack)
{
    struct manta_value value = {0};
    struct manta_error error = {0};
    cr_assert_eq(manta_pack_value(pack, &value, &error), 0, "%s", error.text);
    return value;
}

static struct manta_pack *pack_of(struct manta_arg arg)
{
    struct manta_pack *pack = manta_pack_new();
    cr_assert_not_null(pack);
    manta_pack_arg(pack, arg);
    return pack;
}

/* ---- reading ------------------------------------------------------------------------------ */

Test(api_values, every_sample_has_its_type)
{
    for (int type = 0; type < TYPE_COUNT; type++)
        cr_assert_eq(manta_value_type(&SAMPLES[type]), type, "sample %d", type);
}

Test(api_values, a_zeroed_value_is_nil)
{
    struct manta_value value = {0}, item = {0};
    cr_assert_eq(manta_value_type(&value), MANTA_NIL);
    cr_assert_eq(manta_value_count(&value), MANTA_ETYPE);
    cr_assert_not(manta_value_next(&value, &item));
    cr_assert_null(item.at);
}

/* Calls each reading function on a value; the result, and whether the output was touched. */
enum reader {
    READ_BOOL,
    READ_INT,
    READ_FLOAT,
    READ_STRING,
    READ_BINARY,
    READ_FLOATS,
    READ_AT,
    READ_PAIR,
    READ_GET,
    READER_COUNT
};

static int read_by(enum reader reader, const struct manta_value *value, bool *ret_touched,
                   struct manta_error *reterr)
{
    bool boolean = true;
    int64_t integer = 1234567;
    double number = 1.25, numbers[4] = {0};
    const char *string = "before";
    const void *binary = "before";
    size_t size = 99;
    struct manta_value key = {"k", 1}, item = {"i", 1};
    int code = 1;
    switch (reader) {
    case READ_BOOL:
        code = manta_value_bool(value, &boolean, reterr);
        *ret_touched = !boolean;
        break;
    case READ_INT:
        code = manta_value_int(value, &integer, reterr);
        *ret_touched = integer != 1234567;
        break;
    case READ_FLOAT:
        code = manta_value_float(value, &number, reterr);
        *ret_touched = number != 1.25;
        break;
    case READ_STRING:
        code = manta_value_string(value, &string, &size, reterr);
        *ret_touched = strcmp(string, "before") || size != 99;
        break;
    case READ_BINARY:
        code = manta_value_binary(value, &binary, &size, reterr);
        *ret_touched = strcmp(binary, "before") || size != 99;
        break;
    case READ_FLOATS:
        code = manta_value_floats(value, numbers, 4, &size, reterr);
        *ret_touched = size != 99;
        break;
    case READ_AT:
        code = manta_value_at(value, 0, &item, reterr);
        *ret_touched = item.size != 1;
        break;
    case READ_PAIR:
        code = manta_value_pair(value, 0, &key, &item, reterr);
        *ret_touched = key.size != 1 || item.size != 1;
        break;
    case READ_GET:
        code = manta_value_get(value, "k", &item, reterr);
        *ret_touched = item.size != 1;
        break;
    default:
        cr_assert_fail("no such reader");
    }
    return code;
}

Test(api_values, reading_as_another_type_fails_and_touches_nothing)
{
    static const bool FITS[READER_COUNT][TYPE_COUNT] = {
        [READ_BOOL] = {[MANTA_BOOL] = true},
        [READ_INT] = {[MANTA_INT] = true},
        [READ_FLOAT] = {[MANTA_INT] = true, [MANTA_FLOAT] = true},
        [READ_STRING] = {[MANTA_STRING] = true},
        [READ_BINARY] = {[MANTA_BINARY] = true},
        [READ_FLOATS] = {[MANTA_ARRAY] = true},
        [READ_AT] = {[MANTA_ARRAY] = true},
        [READ_PAIR] = {[MANTA_MAP] = true},
        [READ_GET] = {[MANTA_MAP] = true},
    };
    for (int reader = 0; reader < READER_COUNT; reader++)
        for (int type = 0; type < TYPE_COUNT; type++) {
            struct manta_error error = {0};
            bool touched = false;
            int code = read_by(reader, &SAMPLES[type], &touched, &error);
            cr_assert_eq(code, FITS[reader][type] ? 0 : MANTA_ETYPE, "reader %d of type %d: %d",
                         reader, type, code);
            cr_assert_eq(error.code, code);
            if (code == 0)
                continue;
            cr_assert_not(touched, "reader %d of type %d", reader, type);
            cr_assert_not_null(strstr(error.text, TYPE_WORDS[type]), "%s", error.text);
            cr_assert_eq(read_by(reader, &SAMPLES[type], &touched, NULL), MANTA_ETYPE);
        }
}

Test(api_values, an_int_beyond_64_bits_reads_as_a_float_only)
{
    struct manta_value value = {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9};
    struct manta_error error = {0};
    int64_t integer = 5;
    double number = 0;
    cr_assert_eq(manta_value_type(&value), MANTA_INT);
    cr_assert_eq(manta_value_int(&value, &integer, &error), MANTA_ETYPE);
    cr_assert_eq(integer, 5);
    cr_assert_not_null(strstr(error.text, "64 bits"), "%s", error.text);
    cr_assert_eq(manta_value_float(&value, &number, &error), 0);
    cr_assert_eq(number, 18446744073709551615.0);
}

/* ---- in and out again ---------------------------------------------------------------------- */

Test(api_values, ints_come_back)
{
    static const int64_t NUMBERS[] = {0,          1,         -1,        127,        128,
                                      -32,        -33,       -128,      -129,       255,
                                      256,        65535,     65536,     INT32_MAX,  INT32_MIN,
                                      UINT32_MAX, INT64_MAX, INT64_MIN, 4294967296, -4294967297};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        struct manta_pack *pack = pack_of(manta_int(NUMBERS[i]));
        struct manta_value value = value_of(pack);
        int64_t number = 0;
        cr_assert_eq(manta_value_int(&value, &number, NULL), 0);
        cr_assert_eq(number, NUMBERS[i]);
        manta_pack_free(pack);
    }
}

Test(api_values, floats_come_back_bit_by_bit)
{
    static const double NUMBERS[] = {0.0,     -0.0,         0.1,    DBL_MAX,
                                     DBL_MIN, DBL_TRUE_MIN, -1e300, 1.0 / 3};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        struct manta_pack *pack = pack_of(manta_float(NUMBERS[i]));
        struct manta_value value = value_of(pack);
        double number = 1;
        cr_assert_eq(manta_value_type(&value), MANTA_FLOAT);
        cr_assert_eq(manta_value_float(&value, &number, NULL), 0);
        cr_assert_eq(memcmp(&number, &NUMBERS[i], sizeof number), 0);
        manta_pack_free(pack);
    }
    struct manta_pack *pack = pack_of(manta_float((double)NAN));
    struct manta_value value = value_of(pack);
    double number = 1;
    cr_assert_eq(manta_value_float(&value, &number, NULL), 0);
    cr_assert(isnan(number));
    manta_pack_free(pack);
}

Test(api_values, strings_and_binaries_of_every_size_class_come_back)
{
    static const size_t SIZES[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    char *bytes = malloc(65537);
    for (size_t i = 0; i < 65536; i++)
        bytes[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        const char *string = NULL;
        const void *binary = NULL;
        size_t size = 1;
        char kept = bytes[SIZES[i]];
        bytes[SIZES[i]] = 0;
        struct manta_pack *pack = pack_of(manta_string(bytes));
        struct manta_value value = value_of(pack);
        cr_assert_eq(manta_value_string(&value, &string, &size, NULL), 0);
        cr_assert_eq(size, SIZES[i]);
        cr_assert_eq(memcmp(string, bytes, size), 0);
        manta_pack_clear(pack);
        manta_pack_arg(pack, manta_binary(bytes, SIZES[i]));
        value = value_of(pack);
        cr_assert_eq(manta_value_binary(&value, &binary, &size, NULL), 0);
        cr_assert_eq(size, SIZES[i]);
        cr_assert_eq(memcmp(binary, bytes, size), 0);
        manta_pack_free(pack);
        bytes[SIZES[i]] = kept;
    }
    free(bytes);
}

Test(api_values, a_null_string_is_nil_and_an_empty_one_is_not)
{
    cr_assert_eq(manta_string(NULL).type, MANTA_ARG_NIL);
    struct manta_pack *pack = pack_of(manta_string(""));
    struct manta_value value = value_of(pack);
    cr_assert_eq(manta_value_type(&value), MANTA_STRING);
    manta_pack_free(pack);
}

Test(api_values, args_and_values_keep_their_size_for_ever)
{
    cr_assert_eq(sizeof(struct manta_arg), 24);
    cr_assert_eq(sizeof(struct manta_value), 16);
    cr_assert_eq(sizeof(struct manta_error), 516);
}

/* ---- arrays and maps ----------------------------------------------------------------------- */

/* {"a": [1, 2.5, "x"], "b": {}, 7: nil} */
static struct manta_pack *nested_pack(void)
{
    struct manta_pack *pack = manta_pack_new();
    manta_pack_map(pack, 3);
    manta_pack_arg(pack, manta_string("a"));
    manta_pack_array(pack, 3);
    manta_pack_arg(pack, manta_int(1));
    manta_pack_arg(pack, manta_float(2.5));
    manta_pack_arg(pack, manta_string("x"));
    manta_pack_arg(pack, manta_string("b"));
    manta_pack_map(pack, 0);
    manta_pack_arg(pack, manta_int(7));
    manta_pack_arg(pack, manta_nil());
    return pack;
}

Test(api_values, a_nested_value_is_walked_by_index_and_by_key)
{
    struct manta_pack *pack = nested_pack();
    struct manta_value map = value_of(pack), list, item, key;
    struct manta_error error = {0};
    double number;
    int64_t integer;
    cr_assert_eq(manta_value_count(&map), 3);
    cr_assert_eq(manta_value_get(&map, "a", &list, &error), 0);
    cr_assert_eq(manta_value_count(&list), 3);
    cr_assert_eq(manta_value_at(&list, 1, &item, &error), 0);
    cr_assert_eq(manta_value_float(&item, &number, NULL), 0);
    cr_assert_eq(number, 2.5);
    cr_assert_eq(manta_value_pair(&map, 2, &key, &item, &error), 0);
    cr_assert_eq(manta_value_int(&key, &integer, NULL), 0);
    cr_assert_eq(integer, 7);
    cr_assert_eq(manta_value_type(&item), MANTA_NIL);
    cr_assert_eq(manta_value_get(&map, "b", &item, &error), 0);
    cr_assert_eq(manta_value_count(&item), 0);
    manta_pack_free(pack);
}

Test(api_values, what_is_not_there_is_not_found)
{
    struct manta_pack *pack = nested_pack();
    struct manta_value map = value_of(pack), list, item = {0}, key = {0};
    struct manta_error error = {0};
    cr_assert_eq(manta_value_get(&map, "a", &list, NULL), 0);
    cr_assert_eq(manta_value_get(&map, "c", &item, &error), MANTA_ENOTFOUND);
    cr_assert_str_eq(error.text, "the map has no 'c'");
    cr_assert_eq(manta_value_get(&map, "", &item, &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_value_get(&map, "aa", &item, &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_value_at(&list, 3, &item, &error), MANTA_ENOTFOUND);
    cr_assert_str_eq(error.text, "the array has 3 items, none at 3");
    cr_assert_eq(manta_value_at(&list, (size_t)1 << 32, &item, &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_value_pair(&map, 3, &key, &item, &error), MANTA_ENOTFOUND);
    cr_assert_eq(manta_value_pair(&map, SIZE_MAX / 2 + 1, &key, &item, &error), MANTA_ENOTFOUND);
    cr_assert_null(item.at);
    cr_assert_null(key.at);
    manta_pack_free(pack);
}

static bool same(const struct manta_value *left, const struct manta_value *right)
{
    return left->at == right->at && left->size == right->size;
}

Test(api_values, next_walks_the_items_that_at_and_pair_find)
{
    struct manta_pack *pack = nested_pack();
    struct manta_value map = value_of(pack), list, item = {0}, key, found;
    size_t index = 0;
    cr_assert_eq(manta_value_get(&map, "a", &list, NULL), 0);
    for (; manta_value_next(&list, &item); index++) {
        cr_assert_eq(manta_value_at(&list, index, &found, NULL), 0);
        cr_assert(same(&item, &found));
    }
    cr_assert_eq(index, 3);
    cr_assert_not(manta_value_next(&list, &item), "the end is the end");
    item = (struct manta_value){0};
    for (index = 0; manta_value_next(&map, &item); index++) {
        cr_assert_eq(manta_value_pair(&map, index, &key, &found, NULL), 0);
        cr_assert(same(&item, &key));
        cr_assert(manta_value_next(&map, &item));
        cr_assert(same(&item, &found));
    }
    cr_assert_eq(index, 3);
    manta_pack_free(pack);
}

Test(api_values, next_finds_nothing_in_what_is_neither_array_nor_map)
{
    for (int type = 0; type < TYPE_COUNT; type++) {
        struct manta_value item = {0};
        if (type != MANTA_ARRAY && type != MANTA_MAP)
            cr_assert_not(manta_value_next(&SAMPLES[type], &item), "type %d", type);
    }
    struct manta_value empty = {"\x90", 1}, item = {0};
    cr_assert_not(manta_value_next(&empty, &item));
}

Test(api_values, floats_of_nested_arrays_come_row_by_row)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_error error = {0};
    double numbers[6] = {0};
    size_t count = 99;
    cr_assert_eq(manta_pack_json(pack, "[[1, 2.5], [], [[-3], 4]]", 25, &error), 0);
    struct manta_value value = value_of(pack);
    cr_assert_eq(manta_value_floats(&value, numbers, 6, &count, &error), 0);
    cr_assert_eq(count, 4);
    cr_assert(numbers[0] == 1 && numbers[1] == 2.5 && numbers[2] == -3 && numbers[3] == 4);
    cr_assert_eq(manta_value_floats(&value, numbers, 4, &count, &error), 0);
    count = 99;
    cr_assert_eq(manta_value_floats(&value, numbers, 3, &count, &error), MANTA_ELIMIT);
    cr_assert_eq(count, 99);
    manta_pack_clear(pack);
    cr_assert_eq(manta_pack_json(pack, "[1, [\"2\"]]", 10, &error), 0);
    value = value_of(pack);
    cr_assert_eq(manta_value_floats(&value, numbers, 6, &count, &error), MANTA_ETYPE);
    cr_assert_str_eq(error.text, "the value is a string, not a number");
    manta_pack_free(pack);
}

Test(api_values, many_items_are_walked_in_one_pass)
{
    enum { COUNT = 100000 };
    struct manta_pack *pack = manta_pack_new();
    manta_pack_array(pack, COUNT);
    for (int i = 0; i < COUNT; i++)
        manta_pack_arg(pack, manta_int(i));
    struct manta_value list = value_of(pack), item = {0};
    int64_t expected = 0, number = -1;
    for (; manta_value_next(&list, &item); expected++) {
        cr_assert_eq(manta_value_int(&item, &number, NULL), 0);
        cr_assert_eq(number, expected);
    }
    cr_assert_eq(expected, COUNT);
    manta_pack_free(pack);
}

/* ---- packs ---------------------------------------------------------------------------------- */

static void assert_no_value(struct manta_pack *pack, const char *why)
{
    struct manta_value value = {"x", 1};
    struct manta_error error = {0};
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID, "%s", why);
    cr_assert_not_null(strstr(error.text, "exactly one value"), "%s", error.text);
    cr_assert_eq(value.size, 1, "outputs are untouched on failure");
    cr_assert_eq(manta_pack_value(pack, &value, NULL), MANTA_EINVALID);
}

Test(api_values, a_pack_is_exactly_one_value)
{
    struct manta_pack *pack = manta_pack_new();
    assert_no_value(pack, "empty");
    manta_pack_array(pack, 2);
    assert_no_value(pack, "two items are announced and missing");
    manta_pack_arg(pack, manta_int(1));
    assert_no_value(pack, "one is missing");
    manta_pack_arg(pack, manta_int(2));
    value_of(pack);
    manta_pack_arg(pack, manta_int(3));
    assert_no_value(pack, "one too many");
    manta_pack_clear(pack);
    manta_pack_map(pack, 1);
    manta_pack_arg(pack, manta_int(1));
    assert_no_value(pack, "a key without a value");
    manta_pack_free(pack);
}

Test(api_values, a_failure_sticks_to_a_pack_until_it_is_cleared)
{
    struct manta_pack *pack = manta_pack_new(), *broken = manta_pack_new();
    struct manta_value value;
    struct manta_error error = {0};
    manta_pack_arg(pack, (struct manta_arg){.type = 99});
    manta_pack_arg(pack, manta_int(1));
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID);
    cr_assert_str_eq(error.text, "an argument has the unknown type 99");
    manta_pack_clear(pack);
    manta_pack_arg(pack, manta_int(1));
    value_of(pack);
    /* What is not one value cannot be put into another. */
    manta_pack_array(broken, 1);
    manta_pack_clear(pack);
    manta_pack_arg(pack, manta_packed(broken));
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID);
    cr_assert_not_null(strstr(error.text, "packed value"), "%s", error.text);
    /* Nor can what belongs into manta_bind alone. */
    manta_pack_clear(pack);
    manta_pack_arg(pack, (struct manta_arg){.type = MANTA_ARG_BOUND});
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID);
    cr_assert_not_null(strstr(error.text, "constructor argument"), "%s", error.text);
    manta_pack_clear(pack);
    manta_pack_arg(pack, manta_end());
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID);
    manta_pack_free(pack);
    manta_pack_free(broken);
}

Test(api_values, packs_and_values_go_into_packs)
{
    struct manta_pack *inner = nested_pack(), *outer = manta_pack_new();
    struct manta_value map = value_of(inner), list, value;
    char json[200];
    cr_assert_eq(manta_value_get(&map, "a", &list, NULL), 0);
    manta_pack_array(outer, 2);
    manta_pack_arg(outer, manta_packed(inner));
    manta_pack_arg(outer, manta_copied(&list));
    value = value_of(outer);
    manta_value_json(&value, json, sizeof json);
    cr_assert_str_eq(json, "[{\"a\":[1,2.5,\"x\"],\"b\":{},\"7\":null},[1,2.5,\"x\"]]");
    manta_pack_free(inner);
    manta_pack_free(outer);
}

Test(api_values, a_copied_zeroed_value_is_refused)
{
    struct manta_value nothing = {0}, value;
    struct manta_pack *pack = pack_of(manta_copied(&nothing));
    cr_assert_eq(manta_pack_value(pack, &value, NULL), MANTA_EINVALID);
    manta_pack_free(pack);
}

Test(api_values, values_nest_64_deep_and_no_deeper)
{
    for (int depth = 64; depth <= 65; depth++) {
        struct manta_pack *pack = manta_pack_new();
        struct manta_value value;
        for (int i = 0; i < depth; i++)
            manta_pack_array(pack, 1);
        manta_pack_arg(pack, manta_int(1));
        cr_assert_eq(manta_pack_value(pack, &value, NULL), depth == 64 ? 0 : MANTA_EINVALID, "%d",
                     depth);
        manta_pack_free(pack);
    }
}

Test(api_values, ending_nothing_is_fine)
{
    cr_assert_null(manta_pack_free(NULL));
    cr_assert_null(manta_handle_free(NULL));
    cr_assert_null(manta_call_free(NULL));
    cr_assert_null(manta_disconnect(NULL));
}

/* ---- errors --------------------------------------------------------------------------------- */

Test(api_values, every_code_has_a_text_of_its_own)
{
    for (int code = 0; code >= MANTA_ETOOLARGE; code--) {
        const char *text = manta_error_text(code);
        cr_assert(text && *text, "code %d", code);
        for (int other = 0; other > code; other--)
            cr_assert_str_neq(text, manta_error_text(other), "codes %d and %d", code, other);
    }
    cr_assert_str_eq(manta_error_text(MANTA_ETIMEOUT), "the deadline passed");
    cr_assert_not_null(manta_error_text(1));
    cr_assert_not_null(manta_error_text(-1000));
    cr_assert_not_null(manta_error_text(INT32_MIN));
}

Test(api_values, an_error_is_filled_cut_and_returned)
{
    struct manta_error error = {0};
    char large[2000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    cr_assert_eq(manta_error_set(&error, MANTA_EUSER, "no model at %s", "here"), MANTA_EUSER);
    cr_assert_eq(error.code, MANTA_EUSER);
    cr_assert_str_eq(error.text, "no model at here");
    cr_assert_eq(manta_error_set(NULL, MANTA_EUSER, "unwanted"), MANTA_EUSER);
    manta_error_set(&error, MANTA_EUSER, "%s", large);
    cr_assert_eq(strlen(error.text), sizeof error.text - 1);
}

Test(api_values, the_version_is_a_version)
{
    int major, minor, patch;
    cr_assert_eq(sscanf(manta_version(), "%d.%d.%d", &major, &minor, &patch), 3);
}
