/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON into values and out again, as a user meets it: what RFC 8259 allows, what it does not, and
 * where.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* Parses and prints; the caller frees the text. */
static char *through(const char *json, size_t size)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_value value;
    struct manta_error error = {0};
    cr_assert_eq(manta_pack_json(pack, json, size, &error), 0, "%s: %s", json, error.text);
    cr_assert_eq(manta_pack_value(pack, &value, &error), 0, "%s: %s", json, error.text);
    size_t length = manta_value_json(&value, NULL, 0);
    char *text = malloc(length + 1);
    cr_assert_eq(manta_value_json(&value, text, length + 1), length);
    cr_assert_eq(strlen(text), length);
    manta_pack_free(pack);
    return text;
}

Test(api_json, what_is_well_formed_comes_out_as_the_same_value)
{
    static const char *const CASES[][2] = {
        {"null", "null"},
        {" true ", "true"},
        {"\t\r\n false", "false"},
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"1.0", "1.0"},
        {"1e5", "100000.0"},
        {"1E-2", "0.01"},
        {"0.1", "0.1"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"\"\"", "\"\""},
        {"\"a\\\"b\\\\c\\/d\"", "\"a\\\"b\\\\c/d\""},
        {"\"\\b\\f\\n\\r\\t\"", "\"\\b\\f\\n\\r\\t\""},
        {"\"\\u00e9\"", "\"\u00e9\""},
        {"\"\\ud83d\\ude00\"", "\"\U0001F600\""},
        {"\"\u00fcber\"", "\"\u00fcber\""},
        {"[]", "[]"},
        {"[1, [2, [3]], {}]", "[1,[2,[3]],{}]"},
        {"{}", "{}"},
        {"{\"a\": {\"b\": [null]}, \"\": 1}", "{\"a\":{\"b\":[null]},\"\":1}"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char *text = through(CASES[i][0], strlen(CASES[i][0]));
        cr_assert_str_eq(text, CASES[i][1], "%s became %s", CASES[i][0], text);
        free(text);
    }
}

Test(api_json, the_order_of_keys_is_kept)
{
    char *text = through("{\"z\":1,\"a\":2,\"m\":3}", 19);
    cr_assert_str_eq(text, "{\"z\":1,\"a\":2,\"m\":3}");
    free(text);
}

Test(api_json, a_string_may_hold_a_zero)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_value value;
    const char *at = NULL;
    size_t size = 0;
    cr_assert_eq(manta_pack_json(pack, "\"a\\u0000b\"", 10, NULL), 0);
    cr_assert_eq(manta_pack_value(pack, &value, NULL), 0);
    cr_assert_eq(manta_value_string(&value, &at, &size, NULL), 0);
    cr_assert_eq(size, 3);
    cr_assert_eq(memcmp(at, "a\0b", 3), 0);
    manta_pack_free(pack);
}

/* Text, where it is wrong (0: not checked), and a word of the error. */
struct broken {
    const char *json;
    int line, column;
    const char *word;
};

Test(api_json, what_is_not_well_formed_is_refused_with_line_and_column)
{
    static const struct broken CASES[] = {
        {"", 1, 0, "end of file"},
        {"   ", 1, 3, "end of file"},
        {"nul", 1, 3, "invalid token"},
        {"tru e", 1, 0, "invalid token"},
        {"[1,", 1, 3, "end of file"},
        {"[1,]", 1, 4, "']'"},
        {"[1 2]", 1, 0, "']' expected"},
        {"{\"a\" 1}", 1, 0, "':' expected"},
        {"{\"a\":1,}", 1, 0, "string"},
        {"{a:1}", 1, 0, "string"},
        {"{\"a\":\n  1,\n  \"b\" 2}", 3, 0, "':' expected"},
        {"[1] 2", 1, 0, "end of file expected"},
        {"1 x", 1, 0, "end of file expected"},
        {"'a'", 1, 1, "invalid token"},
        {"\"a", 1, 0, "premature end"},
        {"\"a\nb\"", 1, 0, "newline"},
        {"\"\\x\"", 1, 0, "escape"},
        {"\"\\u12\"", 1, 0, "escape"},
        {"\"\\ud800\"", 1, 0, "Unicode"},
        {"\"\\udc00\"", 1, 0, "Unicode"},
        {"\"\xff\"", 1, 0, "unable to decode"},
        {"\"\xc0\x80\"", 1, 0, "unable to decode"},
        {"\"\xed\xa0\x80\"", 1, 0, "unable to decode"},
        {"01", 1, 0, ""},
        {"+1", 1, 0, "invalid token"},
        {".5", 1, 0, "invalid token"},
        {"1.", 1, 0, ""},
        {"1e", 1, 0, ""},
        {"0x10", 1, 0, ""},
        {"NaN", 1, 0, "invalid token"},
        {"Infinity", 1, 0, "invalid token"},
        {"9223372036854775808", 1, 0, "too big"},
        {"1e999", 1, 0, "overflow"},
        {"{\"a\":1,\"a\":2}", 1, 0, "duplicate"},
        {"// no\n1", 1, 0, "invalid token"},
        {"\xef\xbb\xbf"
         "1",
         1, 0, ""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const struct broken *broken = &CASES[i];
        struct manta_pack *pack = manta_pack_new();
        struct manta_value value;
        struct manta_error error = {0};
        int line = -1, column = -1;
        int code = manta_pack_json(pack, broken->json, strlen(broken->json), &error);
        cr_assert_eq(code, MANTA_EINVALID, "%s was accepted", broken->json);
        cr_assert_eq(sscanf(error.text, "no JSON at line %d, column %d", &line, &column), 2,
                     "%s: %s", broken->json, error.text);
        cr_assert_eq(line, broken->line, "%s: %s", broken->json, error.text);
        if (broken->column)
            cr_assert_eq(column, broken->column, "%s: %s", broken->json, error.text);
        cr_assert_not_null(strstr(error.text, broken->word), "%s: %s", broken->json, error.text);
        /* What was refused left nothing behind. */
        manta_pack_arg(pack, manta_int(1));
        cr_assert_eq(manta_pack_value(pack, &value, NULL), 0, "%s", broken->json);
        cr_assert_eq(manta_pack_json(pack, broken->json, strlen(broken->json), NULL),
                     MANTA_EINVALID);
        manta_pack_free(pack);
    }
}

/* `depth` arrays inside each other, around `inner`. */
static char *nested_json(size_t depth, const char *inner)
{
    char *json = malloc(2 * depth + strlen(inner) + 1);
    memset(json, '[', depth);
    strcpy(json + depth, inner);
    memset(json + depth + strlen(inner), ']', depth);
    json[2 * depth + strlen(inner)] = 0;
    return json;
}

Test(api_json, nesting_ends_at_64)
{
    static const char *const INNER[] = {"", "1", "{}"};
    for (size_t i = 0; i < sizeof INNER / sizeof *INNER; i++)
        for (size_t depth = 62; depth <= 66; depth++) {
            char *json = nested_json(depth, INNER[i]);
            struct manta_pack *pack = manta_pack_new();
            struct manta_value value;
            struct manta_error error = {0};
            bool fits = depth + (strcmp(INNER[i], "{}") == 0) <= 64;
            int code = manta_pack_json(pack, json, strlen(json), &error);
            cr_assert_eq(code, fits ? 0 : MANTA_EINVALID, "%zu around '%s': %s", depth, INNER[i],
                         error.text);
            if (fits)
                cr_assert_eq(manta_pack_value(pack, &value, &error), 0, "%s", error.text);
            else
                cr_assert_not_null(strstr(error.text, "deeper than 64"), "%s", error.text);
            manta_pack_free(pack);
            free(json);
        }
}

Test(api_json, nesting_of_a_million_is_refused_and_not_followed)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_error error = {0};
    char *json = nested_json(1000000, "");
    cr_assert_eq(manta_pack_json(pack, json, strlen(json), &error), MANTA_EINVALID);
    manta_pack_free(pack);
    free(json);
}

Test(api_json, json_is_one_value_among_others_of_a_pack)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_value value;
    char json[64];
    manta_pack_array(pack, 2);
    cr_assert_eq(manta_pack_json(pack, "{\"a\":1}", 7, NULL), 0);
    manta_pack_arg(pack, manta_string("b"));
    cr_assert_eq(manta_pack_value(pack, &value, NULL), 0);
    manta_value_json(&value, json, sizeof json);
    cr_assert_str_eq(json, "[{\"a\":1},\"b\"]");
    manta_pack_free(pack);
}

Test(api_json, too_little_room_gets_the_beginning_and_the_length)
{
    struct manta_value value = {"\xa5hello", 6};
    char at[8] = "unused!";
    cr_assert_eq(manta_value_json(&value, NULL, 0), 7);
    cr_assert_eq(manta_value_json(&value, at, 1), 7);
    cr_assert_str_eq(at, "");
    cr_assert_eq(manta_value_json(&value, at, 4), 7);
    cr_assert_str_eq(at, "\"he");
    cr_assert_eq(manta_value_json(&value, at, 7), 7);
    cr_assert_str_eq(at, "\"hello");
    cr_assert_eq(manta_value_json(&value, at, 8), 7);
    cr_assert_str_eq(at, "\"hello\"");
}

Test(api_json, what_json_lacks_is_shown_the_nearest_way)
{
    static const struct {
        struct manta_value value;
        const char *json;
    } CASES[] = {
        {{0}, "null"},
        {{"\xc4\x03\x00\xff\x10", 5}, "\"AP8Q\""},
        {{"\xcb\x7f\xf8\0\0\0\0\0\0", 9}, "null"},
        {{"\xcb\x7f\xf0\0\0\0\0\0\0", 9}, "null"},
        {{"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9}, "18446744073709551615"},
        {{"\x81\x01\x02", 3}, "{\"1\":2}"},
        {{"\xd4\x01\x07", 3}, "{\"ext\":1,\"data\":\"Bw==\"}"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char json[100];
        manta_value_json(&CASES[i].value, json, sizeof json);
        cr_assert_str_eq(json, CASES[i].json);
    }
}
