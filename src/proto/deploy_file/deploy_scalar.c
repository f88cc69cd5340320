/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_scalar: what a word without quotes means.
 *
 * The forms are those of PyYAML's resolver: 0x1F, 0b101, 017 (octal), 1_000, a float only with a
 * point, and with a sign in its exponent.
 */
#include "deploy_scalar.h"

#include <stdlib.h>
#include <string.h>

enum { NUMBER_SIZE = 128 };

static bool is_one_of(struct bytes text, const char *words)
{
    for (const char *at = words; *at;) {
        size_t size = strcspn(at, " ");
        if (size == text.size && memcmp(at, text.at, size) == 0)
            return true;
        at += size + (at[size] == ' ');
    }
    return false;
}

/* Without underscores, zero-terminated; false when it is too long for a number. */
static bool copy_number(struct bytes text, char out[NUMBER_SIZE])
{
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.at[i] == '_')
            continue;
        if (size + 1 == NUMBER_SIZE || text.at[i] == 0)
            return false;
        out[size++] = (char)text.at[i];
    }
    out[size] = 0;
    return size > 0;
}

static size_t span(const char *at, const char *set)
{
    return strspn(at, set);
}

/* The base of a whole number, and where its digits begin; 0: it is none. */
static int base_of(const char *number, const char **ret_digits)
{
    const char *at = number + (*number == '-' || *number == '+');
    static const char HEX[] = "0123456789abcdefABCDEF";
    if (at[0] == '0' && at[1] == 'x' && span(at + 2, HEX) == strlen(at + 2) && at[2])
        return *ret_digits = at + 2, 16;
    if (at[0] == '0' && at[1] == 'b' && span(at + 2, "01") == strlen(at + 2) && at[2])
        return *ret_digits = at + 2, 2;
    *ret_digits = at;
    if (at[0] == '0' && at[1] && span(at, "01234567") == strlen(at))
        return 8;
    if (at[0] == '0' && at[1])
        return 0;
    return *at && span(at, "0123456789") == strlen(at) ? 10 : 0;
}

static bool read_int(const char *number, struct scalar *scalar)
{
    const char *digits;
    int base = base_of(number, &digits);
    bool negative = *number == '-';
    uint64_t most = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, value = 0;
    if (!base)
        return false;
    scalar->kind = SCALAR_INT;
    for (; *digits; digits++) {
        uint64_t digit = (uint64_t)(*digits <= '9' ? *digits - '0' : (*digits | 32) - 'a' + 10);
        if (value > (most - digit) / (uint64_t)base) {
            scalar->kind = SCALAR_TOO_LARGE;
            return true;
        }
        value = value * (uint64_t)base + digit;
    }
    scalar->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* 1. 1.5 .5 1.5e+3; not 15 and not 1e3. */
static bool is_float(const char *number)
{
    static const char DIGITS[] = "0123456789";
    const char *at = number + (*number == '-' || *number == '+');
    size_t before = span(at, DIGITS);
    at += before;
    if (*at != '.' || (before == 0 && at != number))
        return false; /* a sign needs a digit before the point */
    size_t after = span(++at, DIGITS);
    if (before + after == 0)
        return false;
    at += after;
    if (*at == 'e' || *at == 'E') {
        if (at[1] != '-' && at[1] != '+')
            return false;
        at += 2;
        if (!span(at, DIGITS))
            return false;
        at += span(at, DIGITS);
    }
    return *at == 0;
}

struct scalar scalar_read(struct bytes text, bool quoted)
{
    struct scalar scalar = {.kind = SCALAR_TEXT, .text = text};
    char number[NUMBER_SIZE];
    if (quoted)
        return scalar;
    if (text.size == 0 || is_one_of(text, "~ null Null NULL")) {
        scalar.kind = SCALAR_NULL;
    } else if (is_one_of(text, "yes Yes YES true True TRUE on On ON")) {
        scalar.kind = SCALAR_BOOL;
        scalar.boolean = true;
    } else if (is_one_of(text, "no No NO false False FALSE off Off OFF")) {
        scalar.kind = SCALAR_BOOL;
    } else if (is_one_of(text, ".inf .Inf .INF +.inf +.Inf +.INF")) {
        scalar.kind = SCALAR_FLOAT;
        scalar.number = strtod("inf", NULL);
    } else if (is_one_of(text, "-.inf -.Inf -.INF")) {
        scalar.kind = SCALAR_FLOAT;
        scalar.number = -strtod("inf", NULL);
    } else if (is_one_of(text, ".nan .NaN .NAN")) {
        scalar.kind = SCALAR_FLOAT;
        scalar.number = strtod("nan", NULL);
    } else if (text.at[0] != '_' && copy_number(text, number) && !read_int(number, &scalar) &&
               is_float(number)) {
        scalar.kind = SCALAR_FLOAT;
        scalar.number = strtod(number, NULL);
    }
    return scalar;
}
