/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: the table's answers, and how a text is made.
 */
#include "error.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

Test(error, every_row_of_the_table_answers)
{
#define ERROR(number, name, text, http, grpc)                                                      \
    cr_assert_eq(ERROR_##name, -(number));                                                         \
    cr_assert_str_eq(error_name(ERROR_##name), #name);                                             \
    cr_assert_str_eq(error_text(ERROR_##name), text);                                              \
    cr_assert_eq(error_http_status(ERROR_##name), http);                                           \
    cr_assert_eq(error_grpc_status(ERROR_##name), grpc);                                           \
    cr_assert(http >= 400 && http <= 599, "%s", #name);                                            \
    cr_assert(grpc >= 1 && grpc <= 16, "%s", #name);
#include "errors.def"
#undef ERROR
}

Test(error, success_and_strange_codes_answer_too)
{
    cr_assert_str_eq(error_name(0), "OK");
    cr_assert_eq(error_http_status(0), 200);
    cr_assert_eq(error_grpc_status(0), 0);
    cr_assert_str_eq(error_name(-9999), "UNKNOWN");
    cr_assert_eq(error_http_status(-9999), 500);
    cr_assert_eq(error_grpc_status(-9999), 2);
    cr_assert_str_eq(error_name(1), "UNKNOWN", "codes are negative");
}

Test(error, setting_one_gives_its_code)
{
    struct error error = {0};
    cr_assert_eq(error_set(&error, ERROR_NOT_FOUND, "no deployment \"%s\"", "text"),
                 ERROR_NOT_FOUND);
    cr_assert_eq(error.code, ERROR_NOT_FOUND);
    cr_assert_str_eq(error.text, "no deployment \"text\"");
    cr_assert_eq(error_set(NULL, ERROR_LIMIT, "nobody wants to know %d", 1), ERROR_LIMIT);
}

Test(error, words_may_be_put_in_front_of_the_old_text)
{
    struct error error;
    error_set(&error, ERROR_LOAD, "symbol is missing");
    error_set(&error, error.code, "while loading %s: %s", "x.so", error.text);
    cr_assert_str_eq(error.text, "while loading x.so: symbol is missing");
    cr_assert_eq(error.code, ERROR_LOAD);
}

Test(error, a_long_text_is_cut_at_a_whole_character)
{
    static const char *const CHARACTERS[] = {"x", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < 4; c++)
        for (size_t shift = 0; shift < 4; shift++) {
            char text[2 * ERROR_TEXT_SIZE] = "";
            size_t length = strlen(CHARACTERS[c]);
            memset(text, '.', shift);
            for (size_t at = shift; at + length < sizeof(text); at += length)
                memcpy(text + at, CHARACTERS[c], length);
            struct error error;
            error_set(&error, ERROR_USER, "%s", text);
            size_t size = strlen(error.text);
            cr_assert_eq((size - shift) % length, 0, "%zu bytes of %zu-byte characters", size,
                         length);
            cr_assert_gt(size, ERROR_TEXT_SIZE - 1 - length);
            cr_assert_eq(memcmp(error.text, text, size), 0);
        }
}

Test(error, a_text_that_just_fits_is_whole)
{
    char text[ERROR_TEXT_SIZE];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct error error;
    error_set(&error, ERROR_USER, "%s", text);
    cr_assert_str_eq(error.text, text);
}

Test(error, a_positive_code_is_our_mistake, .signal = SIGABRT)
{
    error_set(NULL, 2, "a number without its minus");
}
