/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: the table of errors.def as functions, and the one way to fill a struct error.
 *
 * Codes also arrive from peers, so that a code outside the table is no mistake of ours: it reads as
 * UNKNOWN, 500 and gRPC's 2 (UNKNOWN).
 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"

enum { UNKNOWN_HTTP = 500, UNKNOWN_GRPC = 2 };

/* The size of `text` cut back so that it does not end within a UTF-8 sequence. */
static size_t whole_characters(const char *text, size_t size)
{
    size_t lead = size;
    for (int back = 0; back < 4 && lead > 0; back++) {
        unsigned char byte = (unsigned char)text[--lead];
        if ((byte & 0xC0) == 0x80)
            continue;
        size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        return lead + length > size ? lead : size;
    }
    return size; /* no UTF-8 anyway */
}

int error_set(struct error *reterr, int code, const char *format, ...)
{
    ensure(code <= 0);
    if (!reterr)
        return code;
    /* Formatted aside: the arguments may point into the old text, to put words in front of it. */
    char line[ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    size_t size = length < 0 ? 0 : (size_t)length;
    if (size >= sizeof(line))
        size = whole_characters(line, sizeof(line) - 1);
    ensure(size < sizeof(reterr->text));
    memcpy(reterr->text, line, size);
    reterr->text[size] = '\0';
    reterr->code = code;
    return code;
}

const char *error_name(int code)
{
    switch (code) {
    case ERROR_OK:
        return "OK";
#define ERROR(number, name, text, http, grpc)                                                      \
    case -(number):                                                                                \
        return #name;
#include "errors.def"
#undef ERROR
    }
    return "UNKNOWN";
}

const char *error_text(int code)
{
    switch (code) {
    case ERROR_OK:
        return "no error";
#define ERROR(number, name, text, http, grpc)                                                      \
    case -(number):                                                                                \
        return text;
#include "errors.def"
#undef ERROR
    }
    return "an error that this version does not know";
}

int error_http_status(int code)
{
    switch (code) {
    case ERROR_OK:
        return 200;
#define ERROR(number, name, text, http, grpc)                                                      \
    case -(number):                                                                                \
        return http;
#include "errors.def"
#undef ERROR
    }
    return UNKNOWN_HTTP;
}

int error_grpc_status(int code)
{
    switch (code) {
    case ERROR_OK:
        return 0;
#define ERROR(number, name, text, http, grpc)                                                      \
    case -(number):                                                                                \
        return grpc;
#include "errors.def"
#undef ERROR
    }
    return UNKNOWN_GRPC;
}
