/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every case of tests/conform/http1_cases.txt: the outcome is the expected one, and it is the same,
 * byte for byte of the transcript, whole, one byte at a time, and cut in two at every position.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "http1_cases.h"
#include "http1_talk.h"

enum {
    LONG_CASE =
        3000, /* longer ones are not cut at every position, but at their ends and here and there */
    LONG_STEP = 211,
    LONG_ENDS = 70,
};

static void talk_in_pieces(struct http1_talk *talk, const struct http1_case *test, size_t first)
{
    /* A block of exactly the size, so that the sanitizer sees a byte read too far. */
    uint8_t *part = malloc(first + 1);

    memcpy(part + 1, test->at, first);
    http1_talk_step(talk, bytes_of(part + 1, first));
    free(part);
    http1_talk_step(talk, bytes_of(test->at, test->size));
}

static void talk_by_bytes(struct http1_talk *talk, const struct http1_case *test)
{
    uint8_t *room = calloc(1, test->size + 1);

    for (size_t i = 0; i < test->size; i++) {
        room[i] = test->at[i];
        http1_talk_step(talk, bytes_of(room, i + 1));
    }
    if (test->size == 0)
        http1_talk_step(talk, bytes_of(room, 0));
    free(room);
}

static void check_same(struct http1_talk *talk, const struct http1_talk *whole,
                       const struct http1_case *test, const char *how, size_t where)
{
    cr_expect(talk->refusal.status == whole->refusal.status &&
                  talk->refusal.reason == whole->refusal.reason,
              "%s (line %u) %s %zu: %d %s, whole: %d %s", test->name, test->line, how, where,
              talk->refusal.status, talk->refusal.status ? talk->refusal.reason : "",
              whole->refusal.status, whole->refusal.status ? whole->refusal.reason : "");
    cr_expect(talk->requests == whole->requests && talk->taken == whole->taken &&
                  talk->in_body == whole->in_body,
              "%s (line %u) %s %zu: stopped elsewhere", test->name, test->line, how, where);
    cr_expect(bytes_equal(text_bytes(&talk->said), text_bytes(&whole->said)),
              "%s (line %u) %s %zu:\n%s\nwhole:\n%s", test->name, test->line, how, where,
              text_string(&talk->said), text_string(&whole->said));
    http1_talk_done(talk);
}

static void check_case(const struct http1_case *test)
{
    static struct http1_talk whole, talk;
    struct http1_limits limits = http1_talk_limits();

    http1_talk_init(&whole, &limits);
    http1_talk_step(&whole, bytes_of(test->at, test->size));
    cr_expect_eq(whole.refusal.status, test->status, "%s (line %u): %d %s, expected %d", test->name,
                 test->line, whole.refusal.status, whole.refusal.status ? whole.refusal.reason : "",
                 test->status);
    if (test->status == 0)
        cr_expect_eq(http1_talk_whole(&whole, test->size) ? whole.requests : 0, test->requests,
                     "%s (line %u): %u requests, taken %zu of %zu", test->name, test->line,
                     whole.requests, whole.taken, test->size);

    http1_talk_init(&talk, &limits);
    talk_by_bytes(&talk, test);
    check_same(&talk, &whole, test, "by bytes", 1);
    size_t at = 0;
    while (at < test->size) {
        http1_talk_init(&talk, &limits);
        talk_in_pieces(&talk, test, at);
        check_same(&talk, &whole, test, "cut at", at);
        bool ends =
            test->size <= LONG_CASE || at < LONG_ENDS || at + LONG_ENDS + LONG_STEP > test->size;
        at += ends ? 1 : LONG_STEP;
    }
    http1_talk_done(&whole);
}

Test(http1_cases, every_case_ends_as_expected_however_it_is_cut, .timeout = 300)
{
    struct http1_cases cases = http1_cases_read(HTTP1_CASES);

    cr_assert(cases.count >= 400, "only %zu cases", cases.count);
    for (size_t i = 0; i < cases.count; i++)
        check_case(&cases.at[i]);
    http1_cases_free(&cases);
}

/* Whole and byte by byte under these limits; what comes out is not the point, but that it is one.
 */
static void check_cut_under(const struct http1_case *test, const struct http1_limits *limits)
{
    static struct http1_talk whole, talk;

    http1_talk_init(&whole, limits);
    http1_talk_step(&whole, bytes_of(test->at, test->size));
    http1_talk_init(&talk, limits);
    talk_by_bytes(&talk, test);
    check_same(&talk, &whole, test, "by bytes under limits near",
               limits->line_size + limits->head_size);
    http1_talk_done(&whole);
}

Test(http1_cases, no_limit_makes_the_outcome_depend_on_the_cut, .timeout = 300)
{
    enum { CASE_MOST = 300, LIMIT_MOST = 100 };
    struct http1_cases cases = http1_cases_read(HTTP1_CASES);

    for (size_t i = 0; i < cases.count; i++) {
        if (cases.at[i].size > CASE_MOST)
            continue;
        for (size_t most = 0; most <= LIMIT_MOST; most++) {
            struct http1_limits lines = {most, CASE_MOST, 100, CASE_MOST};
            struct http1_limits heads = {CASE_MOST, most, (uint32_t)most % 4, most % 8};
            check_cut_under(&cases.at[i], &lines);
            check_cut_under(&cases.at[i], &heads);
        }
    }
    http1_cases_free(&cases);
}

Test(http1_cases, every_name_stands_once)
{
    struct http1_cases cases = http1_cases_read(HTTP1_CASES);

    for (size_t i = 0; i < cases.count; i++)
        for (size_t k = 0; k < i; k++)
            cr_expect_str_neq(cases.at[i].name, cases.at[k].name, "line %u and line %u",
                              cases.at[i].line, cases.at[k].line);
    http1_cases_free(&cases);
}
