/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_bench: nanoseconds per head, per chunk and per answer, on one core.
 *
 * Each row is the best of several rounds, because what disturbs a round only ever makes it longer.
 * Inputs are small enough to stay in the first cache, as they do in a proxy that has just received
 * them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http1.h"

enum { ROUNDS = 15, REPEATS = 200000 };

static const struct http1_limits limits = {
    .line_size = 16384, .head_size = 32768, .header_count = 100, .body_size = UINT64_MAX};

static const char wrk_head[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

static const char browser_head[] =
    "GET /static/app.js?v=20240601 HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/125.0 Safari/537.36\r\n"
    "Accept: "
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-US,en;q=0.9\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef\r\n"
    "\r\n";

static const char post_head[] =
    "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    "Content-Length: 42\r\nAccept: */*\r\n\r\n";

static const char chunks[] =
    "1a\r\nabcdefghijklmnopqrstuvwxyz\r\n10;a=b\r\n0123456789abcdef\r\n0\r\n\r\n";

static volatile uint64_t sink; /* keeps the compiler from leaving the work out */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void head_once(const void *input, size_t size)
{
    static struct http1_head head;
    struct http1_refusal refusal;
    size_t scanned = 0, taken = 0;

    if (http1_head_parse(&head, bytes_of(input, size), &scanned, &limits, &taken, &refusal) !=
        HTTP1_DONE)
        abort();
    sink += head.header_count + taken;
}

static void chunks_once(const void *input, size_t size)
{
    static const struct http1_head head = {.body_kind = HTTP1_BODY_CHUNKED};
    struct bytes rest = bytes_of(input, size), data = {0};
    struct http1_body body;
    struct http1_header trailer;
    struct http1_refusal refusal;
    size_t taken = 0;

    http1_body_init(&body, &head, &limits);
    while (http1_body_next(&body, rest, &limits, &taken, &data, &trailer, &refusal) ==
           HTTP1_BODY_DATA) {
        rest = bytes_skip(rest, taken);
        sink += data.size;
    }
    if (body.total != 42)
        abort();
}

static void answer_once(const void *headers, size_t size)
{
    struct http1_answer answer = {.status = 200,
                                  .minor = 1,
                                  .keep_alive = true,
                                  .body_size = 13,
                                  .date = BYTES("Sun, 06 Nov 1994 08:49:37 GMT"),
                                  .content_type = BYTES("text/plain"),
                                  .headers = bytes_of(headers, size)};
    enum http1_framing framing;
    uint8_t room[1024];

    sink += http1_write_answer(&answer, room, sizeof(room), &framing);
}

static void measure(const char *name, void (*once)(const void *input, size_t size),
                    const void *input, size_t size)
{
    uint64_t best = UINT64_MAX;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = now_ns();
        for (int i = 0; i < REPEATS; i++)
            once(input, size);
        uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    double each = (double)best / REPEATS;
    printf("%-28s %4zu B  %7.1f ns  %6.2f GB/s\n", name, size, each,
           each > 0 ? (double)size / each : 0);
}

int main(void)
{
    static const uint8_t block[] =
        "\x06\0\x04\0Servermine\x0d\0\x08\0Cache-Controlno-store\x04\0\x01\0Vary*";

    measure("head, wrk", head_once, wrk_head, sizeof(wrk_head) - 1);
    measure("head, POST of JSON", head_once, post_head, sizeof(post_head) - 1);
    measure("head, browser", head_once, browser_head, sizeof(browser_head) - 1);
    measure("body, two chunks", chunks_once, chunks, sizeof(chunks) - 1);
    measure("answer, no fields", answer_once, block, 0);
    measure("answer, three fields", answer_once, block, sizeof(block) - 1);
    return 0;
}
