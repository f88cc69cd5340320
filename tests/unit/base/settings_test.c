/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings: defaults and limits of every row, the environment, and messages that say what is
 * allowed.
 */
#include "settings.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct row {
    const char *name;
    int64_t value, minimum, maximum;
    const char *unit, *sentence;
};

static const struct row ROWS[] = {
#define SETTING(name, value, minimum, maximum, unit, sentence)                                     \
    {#name, value, minimum, maximum, unit, sentence},
#include "settings.def"
#undef SETTING
};
enum { ROW_COUNT = sizeof(ROWS) / sizeof(ROWS[0]) };

/* The members lie in the order of the table. */
static int64_t member(const struct settings *settings, size_t row)
{
    cr_assert_eq(sizeof(*settings), ROW_COUNT * sizeof(int64_t));
    return ((const int64_t *)(const void *)settings)[row];
}

static int set_number(struct settings *settings, const char *name, int64_t value,
                      struct error *reterr)
{
    char digits[32];
    snprintf(digits, sizeof(digits), "%" PRId64, value);
    return settings_set(settings, bytes_of_string(name), bytes_of_string(digits), reterr);
}

Test(settings, every_row_has_its_default_and_both_limits)
{
    struct settings settings;
    settings_init(&settings);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &ROWS[i];
        struct error error;
        cr_assert_eq(member(&settings, i), row->value, "%s", row->name);
        cr_assert_eq(set_number(&settings, row->name, row->minimum, &error), 0, "%s", row->name);
        cr_assert_eq(member(&settings, i), row->minimum, "%s", row->name);
        cr_assert_eq(set_number(&settings, row->name, row->maximum, &error), 0, "%s", row->name);
        cr_assert_eq(member(&settings, i), row->maximum, "%s", row->name);
        cr_assert_eq(set_number(&settings, row->name, row->minimum - 1, &error), ERROR_INVALID);
        cr_assert_eq(set_number(&settings, row->name, row->maximum + 1, &error), ERROR_INVALID);
        cr_assert_eq(error.code, ERROR_INVALID);
        cr_assert_eq(member(&settings, i), row->maximum, "%s: a refused value changes nothing",
                     row->name);
    }
}

Test(settings, a_message_names_the_setting_the_value_and_what_is_allowed)
{
    struct settings settings;
    struct error error;
    settings_init(&settings);
    cr_assert_eq(settings_set(&settings, BYTES("wire_frame_limit"), BYTES("12"), &error),
                 ERROR_INVALID);
    cr_assert_str_eq(
        error.text,
        "wire_frame_limit: \"12\" is not allowed: it takes a whole number from 65536 to "
        "16777216 (bytes)");
    cr_assert_eq(settings_set(&settings, BYTES("wire_fame_limit"), BYTES("12"), &error),
                 ERROR_INVALID);
    cr_assert_str_eq(error.text, "there is no setting \"wire_fame_limit\"");
}

Test(settings, only_whole_numbers_are_numbers)
{
    static const char *const BAD[] = {"",
                                      "-",
                                      "--1",
                                      "-1",
                                      "1.5",
                                      "1e3",
                                      "0x400",
                                      " 5",
                                      "5 ",
                                      "yes",
                                      "10ms",
                                      "9223372036854775808",
                                      "18446744073709551617",
                                      "99999999999999999999"};
    struct settings settings, before;
    struct error error;
    settings_init(&settings);
    before = settings;
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        cr_assert_eq(
            settings_set(&settings, BYTES("http_keep_alive_ms"), bytes_of_string(BAD[i]), &error),
            ERROR_INVALID, "\"%s\"", BAD[i]);
        cr_assert_not_null(strstr(error.text, BAD[i]));
    }
    cr_assert_eq(memcmp(&settings, &before, sizeof(before)), 0);
    cr_assert_eq(settings_set(&settings, BYTES("http_keep_alive_ms"), BYTES("0007"), &error), 0);
    cr_assert_eq(settings.http_keep_alive_ms, 7);
}

Test(settings, a_strange_name_or_value_does_not_flood_the_message)
{
    struct settings settings;
    struct error error;
    char junk[4000];
    memset(junk, 'j', sizeof(junk));
    settings_init(&settings);
    cr_assert_eq(settings_set(&settings, bytes_of(junk, sizeof(junk)), BYTES("1"), &error),
                 ERROR_INVALID);
    cr_assert_lt(strlen(error.text), 200);
    cr_assert_eq(
        settings_set(&settings, BYTES("request_limit"), bytes_of(junk, sizeof(junk)), &error),
        ERROR_INVALID);
    cr_assert_lt(strlen(error.text), 300);
    cr_assert_not_null(strstr(error.text, "262144"), "what is allowed still stands there");
    cr_assert_eq(settings_set(&settings, BYTES("request_limi"), BYTES("1"), NULL), ERROR_INVALID);
    cr_assert_eq(settings_set(&settings, BYTES(""), BYTES("1"), NULL), ERROR_INVALID);
}

static const char *const *environment; /* pairs of name and value, then null */

static const char *look_up(const char *name)
{
    for (const char *const *pair = environment; pair && *pair; pair += 2)
        if (strcmp(*pair, name) == 0)
            return pair[1];
    return NULL;
}

Test(settings, the_environment_overrides_defaults)
{
    static const char *const PAIRS[] = {"MANTA_REQUEST_LIMIT",
                                        "100",
                                        "MANTA_LOG_ROTATE_COUNT",
                                        "9",
                                        "MANTA_UNRELATED",
                                        "x",
                                        "request_limit",
                                        "5",
                                        NULL};
    struct settings settings;
    struct error error;
    environment = PAIRS;
    settings_init(&settings);
    cr_assert_eq(settings_read_environment(&settings, look_up, &error), 0);
    cr_assert_eq(settings.request_limit, 100);
    cr_assert_eq(settings.log_rotate_count, 9);
    cr_assert_eq(settings.wire_part_size, 65536);
}

static const char *shouted; /* a name in upper case with its prefix */

static const char *only_shouted(const char *name)
{
    return strcmp(name, shouted) == 0 ? "no number" : NULL;
}

Test(settings, every_row_is_read_from_the_environment)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char name[100];
        struct settings settings;
        struct error error;
        int length = snprintf(name, sizeof(name), "MANTA_%s", ROWS[i].name);
        for (int c = 0; c < length; c++)
            name[c] = (char)toupper((unsigned char)name[c]);
        shouted = name;
        settings_init(&settings);
        cr_assert_eq(settings_read_environment(&settings, only_shouted, &error), ERROR_INVALID,
                     "%s", name);
        cr_assert_eq(strncmp(error.text, name, (size_t)length), 0,
                     "the message names the variable: %s", error.text);
    }
}

Test(settings, one_bad_variable_leaves_everything_as_it_was)
{
    static const char *const PAIRS[] = {"MANTA_HTTP_CONNECTION_LIMIT", "10",
                                        "MANTA_LOG_ROTATE_COUNT", "1000", NULL};
    struct settings settings;
    struct error error;
    environment = PAIRS;
    settings_init(&settings);
    cr_assert_eq(settings_read_environment(&settings, look_up, &error), ERROR_INVALID);
    cr_assert_eq(settings.http_connection_limit, 16384);
}

Test(settings, every_row_says_what_it_is)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        size_t length = strlen(ROWS[i].sentence);
        cr_assert(length > 10 && ROWS[i].sentence[length - 1] == '.',
                  "%s: a sentence ends with a stop", ROWS[i].name);
        cr_assert_gt(strlen(ROWS[i].unit), 0);
    }
}
