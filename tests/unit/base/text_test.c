/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts: growth within a limit, whole appends or none, and JSON as another program reads it.
 */
#include "text.h"

#include <signal.h>
#include <stdlib.h>
#ifdef WITH_JANSSON
#include <jansson.h>
#endif

#include "rng.h"
#include "torture.h"

Test(text, an_empty_text_is_an_empty_string)
{
    struct text text;
    text_init(&text, 100);
    cr_assert_str_eq(text_string(&text), "");
    cr_assert_eq(text_bytes(&text).size, 0);
    text_clear(&text);
    text_add(&text, bytes_of(NULL, 0));
    cr_assert_str_eq(text_string(&text), "");
    text_done(&text);
}

Test(text, appends_follow_each_other)
{
    struct text text;
    text_init(&text, 1000);
    text_add_string(&text, "replica ");
    text_print(&text, "%d of %s", 3, "shop");
    text_add_byte(&text, '\n');
    text_add(&text, BYTES("a\0b"));
    cr_assert_eq(text.size, 21);
    cr_assert_eq(memcmp(text.at, "replica 3 of shop\na\0b", 22), 0);
    cr_assert(!text.failed);
    text_clear(&text);
    cr_assert_str_eq(text_string(&text), "");
    text_add_string(&text, "again");
    cr_assert_str_eq(text_string(&text), "again");
    text_done(&text);
}

Test(text, the_limit_is_exact_for_every_kind_of_append)
{
    for (int kind = 0; kind < 3; kind++)
        for (size_t size = 195; size <= 205; size++) {
            struct text text;
            char word[300];
            text_init(&text, 202);
            text_add_string(&text, "ab");
            memset(word, 'w', size);
            word[size] = '\0';
            if (kind == 0)
                text_add(&text, bytes_of(word, size));
            else if (kind == 1)
                text_print(&text, "%s", word);
            else
                text_add_json(&text, bytes_of(word, size - 2)); /* and its two quotes */
            cr_assert_eq(text.failed, size > 200, "kind %d size %zu", kind, size);
            cr_assert_eq(text.size, size > 200 ? 2 : size + 2);
            cr_assert_eq(strlen(text.at), text.size, "terminated, and nothing half done");
            cr_assert_leq(text.capacity, 203);
            text_done(&text);
        }
}

Test(text, after_a_refusal_nothing_more_is_added_until_it_is_cleared)
{
    struct text text;
    text_init(&text, 10);
    text_add_string(&text, "12345");
    text_add_string(&text, "678901");
    text_add_byte(&text, 'x');
    text_print(&text, "%d", 1);
    text_add_json(&text, BYTES(""));
    cr_assert(text.failed);
    cr_assert_str_eq(text.at, "12345");
    text_clear(&text);
    cr_assert(!text.failed);
    text_add_string(&text, "1234567890");
    cr_assert(!text.failed);
    cr_assert_str_eq(text.at, "1234567890");
    text_done(&text);
}

Test(text, printing_grows_as_often_as_needed)
{
    struct text text;
    text_init(&text, 100000);
    for (int i = 0; i < 5000; i++)
        text_print(&text, "%04d,", i);
    cr_assert_eq(text.size, 25000);
    for (int i = 0; i < 5000; i++)
        cr_assert_eq(atoi(text.at + i * 5), i);
    text_done(&text);
}

static void expect_json(struct bytes input, const char *expected)
{
    struct text text;
    text_init(&text, 1000);
    text_add_json(&text, input);
    cr_assert_str_eq(text_string(&text), expected);
    text_done(&text);
}

Test(text, json_escapes_what_it_must)
{
    expect_json(BYTES(""), "\"\"");
    expect_json(BYTES("plain"), "\"plain\"");
    expect_json(BYTES("say \"hi\" \\ /"), "\"say \\\"hi\\\" \\\\ /\"");
    expect_json(BYTES("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    expect_json(BYTES("\0\x1F\x7F"), "\"\\u0000\\u001f\\u007f\"");
    expect_json(BYTES("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"),
                "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"");
}

#define R "\xEF\xBF\xBD" /* U+FFFD */

Test(text, json_replaces_what_is_not_utf8)
{
    expect_json(BYTES("\x80"), "\"" R "\"");                        /* a continuation alone */
    expect_json(BYTES("\xC0\xAF"), "\"" R R "\"");                  /* overlong slash */
    expect_json(BYTES("\xC1\xBF"), "\"" R R "\"");                  /* overlong */
    expect_json(BYTES("\xE0\x9F\xBF"), "\"" R R R "\"");            /* overlong, three bytes */
    expect_json(BYTES("\xED\xA0\x80"), "\"" R R R "\"");            /* a surrogate */
    expect_json(BYTES("\xED\x9F\xBF"), "\"\xED\x9F\xBF\"");         /* the last before them */
    expect_json(BYTES("\xEE\x80\x80"), "\"\xEE\x80\x80\"");         /* the first behind them */
    expect_json(BYTES("\xF0\x8F\xBF\xBF"), "\"" R R R R "\"");      /* overlong, four bytes */
    expect_json(BYTES("\xF4\x8F\xBF\xBF"), "\"\xF4\x8F\xBF\xBF\""); /* the last character */
    expect_json(BYTES("\xF4\x90\x80\x80"), "\"" R R R R "\"");      /* past it */
    expect_json(BYTES("\xF5\xFF"), "\"" R R "\"");                  /* never leads */
    expect_json(BYTES("a\xE2\x82z"), "\"a" R "z\""); /* cut short: one for the front */
    expect_json(BYTES("\xE2\x82"), "\"" R "\"");     /* cut by the end */
    expect_json(BYTES("\xF0\x9F\x98"), "\"" R "\"");
    expect_json(BYTES("\xF0\x9F\x98\""), "\"" R "\\\"\"");
    expect_json(BYTES("\xC3\xC3\xA4"), "\"" R "\xC3\xA4\"");
}

#ifdef WITH_JANSSON
/* What another program reads; null when it finds the JSON malformed. */
static char *read_back(struct bytes input, size_t *ret_size)
{
    struct text text;
    text_init(&text, 10000);
    text_add_json(&text, input);
    cr_assert(!text.failed);
    json_t *value = json_loadb(text.at, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    text_done(&text);
    if (!json_is_string(value))
        return NULL;
    *ret_size = json_string_length(value);
    char *copy = malloc(*ret_size + 1);
    memcpy(copy, json_string_value(value), *ret_size);
    json_decref(value);
    return copy;
}

Test(text, another_program_reads_back_every_character)
{
    for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 61) {
        uint8_t bytes[4];
        size_t size = 0;
        if (c >= 0xD800 && c <= 0xDFFF)
            continue;
        if (c < 0x80)
            bytes[size++] = (uint8_t)c;
        else if (c < 0x800)
            bytes[size++] = (uint8_t)(0xC0 | c >> 6);
        else if (c < 0x10000)
            bytes[size++] = (uint8_t)(0xE0 | c >> 12);
        else
            bytes[size++] = (uint8_t)(0xF0 | c >> 18);
        if (c >= 0x10000)
            bytes[size++] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
        if (c >= 0x800)
            bytes[size++] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        if (c >= 0x80)
            bytes[size++] = (uint8_t)(0x80 | (c & 0x3F));
        size_t back_size = 0;
        char *back = read_back(bytes_of(bytes, size), &back_size);
        cr_assert_not_null(back, "U+%04X", c);
        cr_assert(bytes_equal(bytes_of(back, back_size), bytes_of(bytes, size)), "U+%04X", c);
        free(back);
    }
}

Test(text, another_program_accepts_the_json_of_any_bytes)
{
    /* Bytes drawn from those where the rules of UTF-8 turn. */
    static const uint8_t EDGES[] = {0x00, 0x22, 0x5C, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                    0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED,
                                    0xEE, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF};
    struct rng rng;
    rng_init(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[12];
        size_t size = rng_below(&rng, sizeof(bytes) + 1), back_size = 0;
        for (size_t i = 0; i < size; i++)
            bytes[i] = EDGES[rng_below(&rng, sizeof(EDGES))];
        char *back = read_back(bytes_of(bytes, size), &back_size);
        cr_assert_not_null(back, "round %d", round);
        free(back);
    }
}

#endif /* WITH_JANSSON */

static bool a_status_page(void)
{
    struct text text;
    text_init(&text, 100000);
    for (int i = 0; i < 50; i++) {
        size_t before = text.size;
        text_print(&text, "%s%d: ", i ? ", " : "", i);
        if (text.failed)
            cr_assert_eq(text.size, before);
        before = text.size;
        text_add_json(&text, BYTES("a deployment's \"name\" \xE2\x82\xAC"));
        if (text.failed)
            cr_assert_eq(text.size, before);
    }
    bool whole = !text.failed;
    text_done(&text);
    return whole;
}

Test(text, without_memory_an_append_is_refused_whole)
{
    cr_assert_gt(torture(a_status_page), 3);
}

Test(text, adding_a_text_to_itself_is_our_mistake, .signal = SIGABRT)
{
    struct text text;
    text_init(&text, 100);
    text_add_string(&text, "abc");
    text_add(&text, text_bytes(&text));
}
