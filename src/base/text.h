/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text: a growing byte string that cannot be made without a maximum.
 *
 * Always zero-terminated, may hold any byte.  An append that would pass the limit, or for which
 * memory lacks, appends nothing and sets `failed`, which stays set until text_clear; while it is
 * set nothing more is appended.  A writer makes many appends and asks once; what stands there is
 * then the whole front of what was meant, without holes.
 */
#ifndef MANTA_BASE_TEXT_H
#define MANTA_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"

struct text {
    char *at;        /* null until the first append */
    size_t size;     /* bytes, terminator left out */
    size_t capacity; /* bytes allocated */
    size_t limit;    /* bytes at most, terminator left out */
    bool failed;     /* an append was refused since text_clear */
};

void text_init(struct text *text, size_t limit);
void text_done(struct text *text);
void text_clear(struct text *text); /* empty, keeps its memory, failed = false */
void text_add(struct text *text, struct bytes bytes);
void text_add_string(struct text *text, const char *string);
void text_add_byte(struct text *text, char byte);
void text_print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_print_list(struct text *text, const char *format, va_list arguments);
/* The string as a JSON string with quotes; bytes that are not UTF-8 become U+FFFD. */
void text_add_json(struct text *text, struct bytes bytes);
static inline struct bytes text_bytes(const struct text *text)
{
    return bytes_of(text->at, text->size);
}
/* Never null. */
static inline const char *text_string(const struct text *text)
{
    return text->at ? text->at : "";
}

#endif
