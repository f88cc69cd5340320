/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: the rows of settings.def, found by name.
 *
 * There are some tens of rows and they are read once per process: a plain search is enough.  Where
 * values come from (a file, the environment, a frame) is the caller's affair; checking them is
 * ours.
 */
#include "settings.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "ensure.h"

struct row {
    const char *name;
    size_t offset; /* of the member in struct settings */
    int64_t value; /* default */
    int64_t minimum, maximum;
    const char *unit;
};

static const struct row ROWS[] = {
#define SETTING(name, value, minimum, maximum, unit, sentence)                                     \
    {#name, offsetof(struct settings, name), value, minimum, maximum, unit},
#include "settings.def"
#undef SETTING
};

enum {
    ROW_COUNT = sizeof(ROWS) / sizeof(ROWS[0]),
    SHOWN_LIMIT = 80, /* bytes of a strange name or value that a message repeats */
    NAME_SIZE = 80,   /* an environment variable's name and its terminator */
};

static int64_t *member(struct settings *settings, const struct row *row)
{
    ensure(row->offset + sizeof(int64_t) <= sizeof(*settings));
    return (int64_t *)(void *)((char *)settings + row->offset);
}

void settings_init(struct settings *settings)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &ROWS[i];
        ensure(row->minimum <= row->value && row->value <= row->maximum);
        *member(settings, row) = row->value;
    }
}

/* Decimal digits, perhaps with a minus in front. */
static bool to_i64(struct bytes bytes, int64_t *ret_value)
{
    bool negative = bytes.size && bytes.at[0] == '-';
    uint64_t amount = 0;
    if (!bytes_to_u64(negative ? bytes_skip(bytes, 1) : bytes, &amount) || amount > INT64_MAX)
        return false;
    *ret_value = negative ? -(int64_t)amount : (int64_t)amount;
    return true;
}

/* `called` is how the caller's source names the setting. */
static int set_row(struct settings *settings, const struct row *row, const char *called,
                   struct bytes value, struct error *reterr)
{
    int64_t number = 0;
    bool whole = to_i64(value, &number);
    if (!whole || number < row->minimum || number > row->maximum)
        return error_set(reterr, ERROR_INVALID,
                         "%s: \"%.*s\" is not allowed: it takes a whole number from %" PRId64
                         " to %" PRId64 " (%s)",
                         called, BYTES_PRINT(bytes_head(value, SHOWN_LIMIT)), row->minimum,
                         row->maximum, row->unit);
    *member(settings, row) = number;
    return 0;
}

int settings_set(struct settings *settings, struct bytes name, struct bytes value,
                 struct error *reterr)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (bytes_equal(bytes_of_string(ROWS[i].name), name))
            return set_row(settings, &ROWS[i], ROWS[i].name, value, reterr);
    return error_set(reterr, ERROR_INVALID, "there is no setting \"%.*s\"",
                     BYTES_PRINT(bytes_head(name, SHOWN_LIMIT)));
}

static void environment_name(const struct row *row, char name[NAME_SIZE])
{
    int length = snprintf(name, NAME_SIZE, "MANTA_%s", row->name);
    ensure(length > 0 && length < NAME_SIZE);
    for (char *at = name; *at; at++)
        if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - 'a' + 'A');
}

int settings_read_environment(struct settings *settings, const char *(*get)(const char *name),
                              struct error *reterr)
{
    struct settings wanted = *settings;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char name[NAME_SIZE];
        environment_name(&ROWS[i], name);
        const char *value = get(name);
        if (!value)
            continue;
        int code = set_row(&wanted, &ROWS[i], name, bytes_of_string(value), reterr);
        if (code < 0)
            return code;
    }
    *settings = wanted; /* all or nothing */
    return 0;
}
