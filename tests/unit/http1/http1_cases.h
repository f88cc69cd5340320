/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_cases: reads tests/conform/http1_cases.txt; the format is told there.
 */
#ifndef MANTA_TESTS_HTTP1_CASES_H
#define MANTA_TESTS_HTTP1_CASES_H

#include <stddef.h>
#include <stdint.h>

struct http1_case {
    char name[64], section[32];
    int status;        /* refused with it; 0: not refused */
    unsigned requests; /* of `ok`; 0: `more`, or refused */
    uint8_t *at;
    size_t size;
    unsigned line; /* in the file */
};

struct http1_cases {
    struct http1_case *at;
    size_t count;
};

/* Aborts with a line about what is wrong in the file. */
struct http1_cases http1_cases_read(const char *path);
void http1_cases_free(struct http1_cases *cases);

#endif
