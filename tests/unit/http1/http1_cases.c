/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_cases: see http1_cases.h.
 */
#include "http1_cases.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ensure.h"

enum { CASE_SIZE_MOST = 1 << 20 };

/* Where in the file we are, for complaints, and the bytes of the case so far. */
struct unescape {
    const char *at;
    uint8_t *out;
    size_t size;
    unsigned line;
};

_Noreturn static void complain(unsigned line, const char *what)
{
    fprintf(stderr, "http1_cases.txt:%u: %s\n", line, what);
    abort();
}

static void add(struct unescape *u, uint8_t byte)
{
    if (u->size == CASE_SIZE_MOST)
        complain(u->line, "the case is too long");
    u->out[u->size++] = byte;
}

/* One byte or, for \(, what follows N times; until ")" inside of one. */
static void unescape_until(struct unescape *u, char stop)
{
    while (*u->at && *u->at != '\n' && *u->at != stop) {
        if (*u->at != '\\') {
            add(u, (uint8_t)*u->at++);
            continue;
        }
        char what = u->at[1];
        u->at += 2;
        switch (what) {
        case 'r':
            add(u, '\r');
            break;
        case 'n':
            add(u, '\n');
            break;
        case 't':
            add(u, '\t');
            break;
        case '0':
            add(u, 0);
            break;
        case '\\':
            add(u, '\\');
            break;
        case 'x': {
            char digits[3] = {u->at[0], u->at[0] ? u->at[1] : 0, 0}, *end;
            add(u, (uint8_t)strtoul(digits, &end, 16));
            if (end != digits + 2)
                complain(u->line, "\\x needs two hex digits");
            u->at += 2;
            break;
        }
        case '(': {
            char *colon;
            unsigned long count = strtoul(u->at, &colon, 10);
            if (*colon != ':' || count == 0)
                complain(u->line, "\\( needs a number and a colon");
            size_t start = u->size;
            u->at = colon + 1;
            unescape_until(u, ')');
            if (*u->at++ != ')')
                complain(u->line, "\\( is not closed");
            size_t size = u->size - start;
            for (unsigned long i = 1; i < count; i++)
                for (size_t k = 0; k < size; k++)
                    add(u, u->out[start + k]);
            break;
        }
        default:
            complain(u->line, "unknown escape");
        }
    }
}

static const char *next_word(const char *at, char *word, size_t room, unsigned line)
{
    size_t size = strcspn(at, " \n");

    if (size == 0 || size >= room)
        complain(line, "a column is missing or too long");
    memcpy(word, at, size);
    word[size] = 0;
    return at + size + strspn(at + size, " ");
}

static void read_case(struct http1_case *test, const char *at, unsigned line, uint8_t *room)
{
    char expected[16];

    test->line = line;
    at = next_word(at, test->name, sizeof(test->name), line);
    at = next_word(at, test->section, sizeof(test->section), line);
    at = next_word(at, expected, sizeof(expected), line);
    if (isdigit((unsigned char)expected[0]))
        test->status = atoi(expected);
    else if (strcmp(expected, "ok") == 0)
        test->requests = 1;
    else if (strncmp(expected, "ok*", 3) == 0)
        test->requests = (unsigned)atoi(expected + 3);
    else if (strcmp(expected, "more") != 0)
        complain(line, "expected is a status, ok, ok*N or more");

    struct unescape u = {.at = at, .out = room, .line = line};
    unescape_until(&u, 0);
    test->size = u.size;
    test->at = malloc(u.size + 1);
    ensure(test->at);
    memcpy(test->at, room, u.size);
}

struct http1_cases http1_cases_read(const char *path)
{
    struct http1_cases cases = {0};
    FILE *file = fopen(path, "r");
    uint8_t *room = malloc(CASE_SIZE_MOST);
    char *text = NULL;
    size_t space = 0;

    ensure(file && room);
    for (unsigned line = 1; getline(&text, &space, file) > 0; line++) {
        if (text[0] == '#' || text[0] == '\n')
            continue;
        cases.at = realloc(cases.at, (cases.count + 1) * sizeof(*cases.at));
        ensure(cases.at);
        cases.at[cases.count] = (struct http1_case){0};
        read_case(&cases.at[cases.count++], text, line, room);
    }
    free(text);
    free(room);
    fclose(file);
    return cases;
}

void http1_cases_free(struct http1_cases *cases)
{
    for (size_t i = 0; i < cases->count; i++)
        free(cases->at[i].at);
    free(cases->at);
    *cases = (struct http1_cases){0};
}
