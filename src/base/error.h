/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: what went wrong, as a value.
 *
 * Codes come from tables/errors.def: one row gives the number, the public name, a text, the HTTP
 * and the gRPC status.  A function that can fail returns 0 or a negative code and may fill a
 * caller-owned `struct error` with details (what, where).  Errors pass up unchanged; one place, a
 * role, logs them.
 */
#ifndef MANTA_BASE_ERROR_H
#define MANTA_BASE_ERROR_H

enum error_code {
    ERROR_OK = 0,
#define ERROR(number, name, text, http, grpc) ERROR_##name = -(number),
#include "errors.def"
#undef ERROR
};

enum { ERROR_TEXT_SIZE = 512 };

struct error {
    int code;                   /* 0 or a negative ERROR_ code */
    char text[ERROR_TEXT_SIZE]; /* one impersonal line (more with a trace), zero-terminated */
};

/*
 * Fills *reterr (null is fine) and returns the code, so that a caller writes return error_set(...).
 * A text that is too long is cut at a whole character.  The arguments may point into *reterr: a
 * caller may put words in front.
 */
int error_set(struct error *reterr, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The table's columns.  The name is the public one without its prefix: "NOT_FOUND". */
const char *error_name(int code);
const char *error_text(int code);
int error_http_status(int code);
int error_grpc_status(int code);

#endif
