/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side: framing of answers, and answers that are refused.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "http1_talk.h"

static enum http1_result parse(struct http1_answer_head *head, const char *input, bool head_request,
                               size_t *ret_size, struct http1_refusal *reterr)
{
    struct http1_limits limits = http1_talk_limits();
    return http1_answer_parse(head, bytes_of_string(input), head_request, &limits, ret_size,
                              reterr);
}

Test(http1_answer, framing_follows_status_method_and_fields)
{
    static const struct {
        const char *input;
        bool head_request;
        int status;
        enum http1_framing framing;
        uint64_t size;
        bool keep_alive;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, HTTP1_FRAMING_LENGTH, 5, true},
        {"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", false, 200, HTTP1_FRAMING_LENGTH, 5, true},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false, 200, HTTP1_FRAMING_CHUNKED,
         0, true},
        {"HTTP/1.1 200 OK\r\n\r\n", false, 200, HTTP1_FRAMING_CLOSE, 0, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 200, HTTP1_FRAMING_NONE, 0, true},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, HTTP1_FRAMING_NONE, 0, true},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 304, HTTP1_FRAMING_NONE,
         0, true},
        {"HTTP/1.1 100 Continue\r\n\r\n", false, 100, HTTP1_FRAMING_NONE, 0, true},
        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", false,
         101, HTTP1_FRAMING_NONE, 0, true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, 200, HTTP1_FRAMING_LENGTH, 5,
         false},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", false, 200,
         HTTP1_FRAMING_LENGTH, 5, true},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", false, 200,
         HTTP1_FRAMING_LENGTH, 5, false},
    };
    struct http1_answer_head head;
    struct http1_refusal refusal = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t size = 0;
        cr_assert_eq(parse(&head, rows[i].input, rows[i].head_request, &size, &refusal), HTTP1_DONE,
                     "%s: %s", rows[i].input, refusal.reason);
        cr_expect_eq(size, strlen(rows[i].input));
        cr_expect_eq(head.status, rows[i].status, "%s", rows[i].input);
        cr_expect_eq(head.framing, rows[i].framing, "%s", rows[i].input);
        cr_expect_eq(head.body_size, rows[i].size, "%s", rows[i].input);
        cr_expect_eq(head.keep_alive, rows[i].keep_alive, "%s", rows[i].input);
        for (size_t cut = 0; cut < strlen(rows[i].input); cut++) {
            struct http1_limits limits = http1_talk_limits();
            cr_expect_eq(http1_answer_parse(&head, bytes_of(rows[i].input, cut), false, &limits,
                                            &size, &refusal),
                         HTTP1_MORE, "%s cut at %zu", rows[i].input, cut);
        }
    }
}

Test(http1_answer, broken_answers_are_refused_as_bad_gateway)
{
    static const char *const rows[] = {
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 20/ OK\r\n\r\n",
        "HTTP/1.1 200xOK\r\n\r\n",
        "HTTP/1.1x200 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 600 High\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nX y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\rX",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    };
    struct http1_answer_head head;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http1_refusal refusal = {0};
        size_t size = 0;
        cr_expect_eq(parse(&head, rows[i], false, &size, &refusal), HTTP1_REFUSED, "%s", rows[i]);
        cr_expect_eq(refusal.status, 502, "%s: %d", rows[i], refusal.status);
        cr_expect_eq(parse(&head, rows[i], false, &size, NULL), HTTP1_REFUSED, "no reason wanted");
    }
}

Test(http1_answer, limits_hold)
{
    static const char input[] = "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n";
    struct http1_answer_head head;
    struct http1_refusal refusal = {0};
    size_t size = 0;

    for (size_t most = 1; most <= sizeof(input); most++) {
        struct http1_limits limits = {.line_size = 15, .head_size = most, .header_count = 2};
        cr_expect_eq(
            http1_answer_parse(&head, bytes_of_string(input), false, &limits, &size, &refusal),
            most >= sizeof(input) - 1 ? HTTP1_DONE : HTTP1_REFUSED, "head_size %zu", most);
    }
    for (uint32_t most = 0; most <= 3; most++) {
        struct http1_limits limits = {.line_size = 15, .head_size = 99, .header_count = most};
        cr_expect_eq(
            http1_answer_parse(&head, bytes_of_string(input), false, &limits, &size, &refusal),
            most >= 2 ? HTTP1_DONE : HTTP1_REFUSED, "header_count %u", most);
    }
}

Test(http1_answer, interim_answer_stands_before_the_final_one)
{
    const char *input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct http1_answer_head head;
    struct http1_refusal refusal = {0};
    size_t size = 0;

    cr_assert_eq(parse(&head, input, false, &size, &refusal), HTTP1_DONE);
    cr_expect_eq(head.status, 100);
    cr_assert_eq(parse(&head, input + size, false, &size, &refusal), HTTP1_DONE);
    cr_expect_eq(head.status, 200);
}
