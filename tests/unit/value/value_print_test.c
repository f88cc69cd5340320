/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents as JSON: a table of what each becomes, and the limits that hold for all.
 */
#include <criterion/criterion.h>

#include "mem.h"
#include "value.h"

static const struct {
    struct bytes document;
    const char *json;
} rows[] = {
    {BYTES("\xc0"), "null"},
    {BYTES("\xc2"), "false"},
    {BYTES("\xc3"), "true"},
    {BYTES("\x05"), "5"},
    {BYTES("\xd0\x80"), "-128"},
    {BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808"},
    {BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"},
    {BYTES("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"), "1.0"},
    {BYTES("\xcb\x80\x00\x00\x00\x00\x00\x00\x00"), "-0.0"},
    {BYTES("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1"},
    {BYTES("\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34"), "0.30000000000000004"},
    {BYTES("\xcb\x7f\xef\xff\xff\xff\xff\xff\xff"), "1.7976931348623157e+308"},
    {BYTES("\xcb\x54\xb2\x49\xad\x25\x94\xc3\x7d"), "1e+100"},
    {BYTES("\xca\x3f\xc0\x00\x00"), "1.5"},
    {BYTES("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xca\xff\x80\x00\x00"), "null"},
    {BYTES("\xa0"), "\"\""},
    {BYTES("\xa7"
           "a\"b\\c\nd"),
     "\"a\\\"b\\\\c\\nd\""},
    {BYTES("\xa2\xc3\xa9"), "\"\xc3\xa9\""},
    {BYTES("\xa1\xff"), "\"\xef\xbf\xbd\""},
    {BYTES("\xc4\x00"), "\"\""},
    {BYTES("\xc4\x01"
           "f"),
     "\"Zg==\""},
    {BYTES("\xc4\x02"
           "fo"),
     "\"Zm8=\""},
    {BYTES("\xc4\x03"
           "foo"),
     "\"Zm9v\""},
    {BYTES("\xc4\x06"
           "foobar"),
     "\"Zm9vYmFy\""},
    {BYTES("\xc4\x03\xff\xfe\xfb"), "\"//77\""},
    {BYTES("\xd5\xfb"
           "fo"),
     "{\"ext\":-5,\"data\":\"Zm8=\"}"},
    {BYTES("\x90"), "[]"},
    {BYTES("\x80"), "{}"},
    {BYTES("\x93\x01\x92\x02\x03\x80"), "[1,[2,3],{}]"},
    {BYTES("\x82\xa1"
           "a\x01\xa1"
           "b\x91\xc0"),
     "{\"a\":1,\"b\":[null]}"},
    {BYTES("\x84\x01\x02\xc0\x03\xc3\x04\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x05"),
     "{\"1\":2,\"null\":3,\"true\":4,\"1.5\":5}"},
    {BYTES("\x81\xc4\x01"
           "f\x01"),
     "{\"Zg==\":1}"},
    {BYTES("\x81\x92\x01\xa1"
           "x\x02"),
     "{\"[1,\\\"x\\\"]\":2}"},
    {BYTES("\x81\x81\xa1"
           "k\x01\x02"),
     "{\"{\\\"k\\\":1}\":2}"},
    {BYTES("\x81\xd4\x01"
           "f\x02"),
     "{\"{\\\"ext\\\":1,\\\"data\\\":\\\"Zg==\\\"}\":2}"},
    {BYTES("\xc1"), "{\"broken_at\":0}"},
    {BYTES("\x92\x01"), "{\"broken_at\":0}"},
    {BYTES("\x92\x01\xa5"
           "abc"),
     "{\"broken_at\":2}"},
    {BYTES("\x01\x02"), "{\"broken_at\":1}"},
};

Test(value_print, each_document_has_its_json)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct text json;
        text_init(&json, 1000);
        value_print(rows[i].document, &json);
        cr_assert_str_eq(text_string(&json), rows[i].json, "row %zu: %s", i, text_string(&json));
        text_done(&json);
    }
}

Test(value_print, it_appends_to_what_is_there)
{
    struct text json;
    text_init(&json, 1000);
    text_add_string(&json, "value: ");
    value_print(BYTES("\x91\x01"), &json);
    cr_assert_str_eq(text_string(&json), "value: [1]");
    text_done(&json);
}

/* Each key in a key doubles the backslashes: only the text's limit keeps the output small. */
Test(value_print, maps_as_keys_of_maps_end_at_the_limit)
{
    uint8_t document[2 * VALUE_DEPTH_LIMIT + 1];
    memset(document, 0x81, VALUE_DEPTH_LIMIT);
    memset(document + VALUE_DEPTH_LIMIT, 0x01, VALUE_DEPTH_LIMIT + 1);
    cr_assert_eq(value_check(bytes_of(document, sizeof(document)), NULL), 0);
    struct text json;
    text_init(&json, 100000);
    value_print(bytes_of(document, sizeof(document)), &json);
    cr_assert(json.failed);
    cr_assert_leq(json.size, 100000);
    text_done(&json);
    cr_assert_eq(mem_count().live, 0);
}

Test(value_print, every_limit_below_what_is_needed_fails_and_the_exact_one_does_not)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t limit = 0; limit <= strlen(rows[i].json); limit++) {
            struct text json;
            text_init(&json, limit);
            value_print(rows[i].document, &json);
            cr_assert_eq(json.failed, limit < strlen(rows[i].json), "row %zu limit %zu", i, limit);
            text_done(&json);
        }
}

Test(value_print, every_refused_allocation_shows_as_failed)
{
    static const struct bytes document =
        BYTES("\x82\x92\x01\xd9\x40"
              "0123456789012345678901234567890123456789012345678901234567890123\x02"
              "\xa3key\xc4\x3c"
              "012345678901234567890123456789012345678901234567890123456789");
    uint64_t nth = 1;
    for (;; nth++) {
        struct text json;
        text_init(&json, 10000);
        mem_fail_at(nth);
        value_print(document, &json);
        mem_fail_at(0);
        bool failed = json.failed;
        text_done(&json);
        if (!failed)
            break;
    }
    cr_assert_gt(nth, 3);
    cr_assert_eq(mem_count().live, 0);
}
