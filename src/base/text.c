/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text: growth by doubling up to the limit, and two ways to write: as it is, and as JSON.
 *
 * An append is whole or nothing, also the JSON form, which is written in pieces: it goes back to
 * where it began when a piece is refused.
 */
#include "text.h"

#include <stdint.h>
#include <stdio.h>

#include "ensure.h"
#include "mem.h"

enum { FIRST_CAPACITY = 64 };

void text_init(struct text *text, size_t limit)
{
    ensure(limit <= SIZE_MAX / 2);
    *text = (struct text){.limit = limit};
}

void text_done(struct text *text)
{
    mem_free(text->at);
    *text = (struct text){.limit = text->limit};
}

void text_clear(struct text *text)
{
    text->size = 0;
    text->failed = false;
    if (text->at)
        text->at[0] = '\0';
}

/* Room for `size` more bytes and the terminator; false, and failed, when there is none. */
static bool make_room(struct text *text, size_t size)
{
    ensure(text->size <= text->limit);
    if (text->failed)
        return false;
    text->failed = true;
    if (size > text->limit - text->size)
        return false;
    size_t needed = text->size + size + 1;
    if (needed > text->capacity) {
        size_t capacity = text->capacity ? text->capacity * 2 : FIRST_CAPACITY;
        if (capacity > text->limit + 1)
            capacity = text->limit + 1;
        if (capacity < needed)
            capacity = needed;
        char *at = mem_try_resize(text->at, text->capacity, capacity);
        if (!at)
            return false;
        text->at = at;
        text->capacity = capacity;
    }
    ensure(text->size + size < text->capacity);
    text->failed = false;
    return true;
}

void text_add(struct text *text, struct bytes bytes)
{
    /* A slice of the text itself would dangle when the text grows. */
    ensure(!text->at || bytes.size == 0 || bytes.at + bytes.size <= (uint8_t *)text->at ||
           bytes.at >= (uint8_t *)text->at + text->capacity);
    if (!make_room(text, bytes.size))
        return;
    if (bytes.size)
        memcpy(text->at + text->size, bytes.at, bytes.size);
    text->size += bytes.size;
    text->at[text->size] = '\0';
}

void text_add_string(struct text *text, const char *string)
{
    text_add(text, bytes_of_string(string));
}

void text_add_byte(struct text *text, char byte)
{
    text_add(text, bytes_of(&byte, 1));
}

void text_print(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_print_list(text, format, arguments);
    va_end(arguments);
}

void text_print_list(struct text *text, const char *format, va_list arguments)
{
    if (text->failed)
        return;
    size_t room = text->capacity - text->size;
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(room ? text->at + text->size : NULL, room, format, arguments);
    if (length < 0) {
        text->failed = true;
    } else if ((size_t)length >= room) {
        if (text->at)
            text->at[text->size] = '\0'; /* what the first attempt left behind */
        if (make_room(text, (size_t)length))
            vsnprintf(text->at + text->size, (size_t)length + 1, format, again);
    }
    if (!text->failed)
        text->size += (size_t)length;
    va_end(again);
    ensure(text->size <= text->limit);
}

/*
 * The length of the well-formed UTF-8 sequence at the front (Unicode, table 3-7), or 0.  *ret_bad
 * is then how many bytes one U+FFFD stands for: the longest front of a sequence that could have
 * been.
 */
static size_t utf8_length(struct bytes bytes, size_t *ret_bad)
{
    uint8_t lead = bytes.at[0], low = 0x80, high = 0xBF;
    size_t length = 1;
    *ret_bad = 1;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0; /* a continuation, an overlong form, or past U+10FFFF */
    length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead == 0xE0)
        low = 0xA0; /* no overlong forms */
    if (lead == 0xED)
        high = 0x9F; /* no surrogates */
    if (lead == 0xF0)
        low = 0x90; /* no overlong forms */
    if (lead == 0xF4)
        high = 0x8F; /* not past U+10FFFF */
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xBF) {
        if (i >= bytes.size || bytes.at[i] < low || bytes.at[i] > high)
            return 0;
        *ret_bad = i + 1;
    }
    return length;
}

/* One byte that may not stand as it is between the quotes (RFC 8259 7). */
static void add_escape(struct text *text, uint8_t byte)
{
    static const char SHORT_FORMS[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: byte, letter */
    for (size_t i = 0; i + 1 < sizeof(SHORT_FORMS); i += 2)
        if (byte == (uint8_t)SHORT_FORMS[i]) {
            text_add(text, bytes_of((char[]){'\\', SHORT_FORMS[i + 1]}, 2));
            return;
        }
    text_print(text, "\\u%04x", byte);
}

static bool plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x7F && byte != '"' && byte != '\\';
}

void text_add_json(struct text *text, struct bytes bytes)
{
    size_t before = text->size;
    text_add_byte(text, '"');
    while (bytes.size && !text->failed) {
        size_t run = 0, bad = 0;
        while (run < bytes.size && plain(bytes.at[run]))
            run++;
        text_add(text, bytes_head(bytes, run));
        bytes = bytes_skip(bytes, run);
        if (bytes.size == 0)
            break;
        size_t length = utf8_length(bytes, &bad);
        if (length == 0)
            text_add_string(text, "\xEF\xBF\xBD");
        else if (length == 1)
            add_escape(text, bytes.at[0]);
        else
            text_add(text, bytes_head(bytes, length));
        bytes = bytes_skip(bytes, length ? length : bad);
    }
    text_add_byte(text, '"');
    if (text->failed && text->size > before) {
        text->size = before;
        text->at[before] = '\0';
    }
}
