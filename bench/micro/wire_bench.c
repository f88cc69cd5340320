/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request and a reply cost on the wire: nanoseconds per encode, per decode, and for both.
 *
 * The frames are the ones of the hot path: an HTTP GET with a browser's dozen fields, a call with a
 * small JSON body, and the answers to them.  Bodies are counted but not copied (they go apart, by
 * vector), as in a channel.  Each number is the best of many short runs, because on a shared
 * machine everything else is somebody else's time.
 *
 * Usage: wire_bench [runs]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "wire.h"

enum { ITERATIONS = 20000, RUNS = 60, FRAME_ROOM = 8192 };

static uint8_t frame[FRAME_ROOM];

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Keeps the compiler from dropping work whose result nobody reads. */
static void use(const void *result)
{
    __asm__ volatile("" : : "r"(result) : "memory");
}

static size_t fields(uint8_t *at, size_t room, const char *const (*pairs)[2], size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += wire_field_write(at + used, room - used, bytes_of_string(pairs[i][0]),
                                 bytes_of_string(pairs[i][1]));
    return used;
}

static struct wire_request http_request(uint8_t *headers, size_t room)
{
    static const char *const pairs[][2] = {
        {"host", "localhost:8000"},
        {"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101"},
        {"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        {"accept-language", "en-US,en;q=0.5"},
        {"accept-encoding", "gzip, deflate, br, zstd"},
        {"connection", "keep-alive"},
        {"cookie", "session=0123456789abcdef0123456789abcdef"},
        {"upgrade-insecure-requests", "1"},
        {"sec-fetch-dest", "document"},
        {"sec-fetch-mode", "navigate"},
        {"sec-fetch-site", "none"},
        {"priority", "u=0, i"},
    };
    return (struct wire_request){
        .deployment = 12,
        .deadline_us = 30000000,
        .kind = WIRE_KIND_HTTP,
        .http_minor = 1,
        .method = BYTES("GET"),
        .path = BYTES("/api/items/4711"),
        .query = BYTES("verbose=1"),
        .route_prefix = BYTES("/api"),
        .request_id = BYTES("6f1c4f0e-2f3b-4a54-9d0c-3a6b5d1e7c90"),
        .headers =
            bytes_of(headers, fields(headers, room, pairs, sizeof(pairs) / sizeof(pairs[0]))),
    };
}

static struct wire_request call_request(void)
{
    return (struct wire_request){
        .deployment = 12,
        .kind = WIRE_KIND_CALL,
        .body_size = 64,
        .method = BYTES("predict"),
        .content_type = BYTES("application/json"),
        .request_id = BYTES("6f1c4f0e-2f3b-4a54-9d0c-3a6b5d1e7c90"),
        .body = BYTES("{\"prompt\":\"a body of sixty-four bytes, as calls often are.......\"}"),
    };
}

static struct wire_reply http_reply(uint8_t *headers, size_t room)
{
    static const char *const pairs[][2] = {{"cache-control", "no-store"}, {"x-model", "resnet-50"}};
    return (struct wire_reply){
        .status = 200,
        .queue_length = 3,
        .body_size = 27,
        .content_type = BYTES("application/json"),
        .headers =
            bytes_of(headers, fields(headers, room, pairs, sizeof(pairs) / sizeof(pairs[0]))),
        .body = BYTES("{\"id\":4711,\"name\":\"an item\"}"),
    };
}

struct cost {
    double encode_ns, decode_ns;
};

static double least(double a, double b)
{
    return a < b ? a : b;
}

#define MEASURE(name)                                                                              \
    static struct cost measure_##name(const struct wire_##name *value, int runs)                   \
    {                                                                                              \
        struct cost cost = {1e9, 1e9};                                                             \
        struct wire_##name again;                                                                  \
        size_t size = 0;                                                                           \
        for (int run = 0; run < runs; run++) {                                                     \
            int64_t start = now_ns();                                                              \
            for (int i = 0; i < ITERATIONS; i++) {                                                 \
                use(value);                                                                        \
                size = wire_##name##_write(value, WIRE_END, (uint64_t)i, true, frame);             \
                use(frame);                                                                        \
            }                                                                                      \
            int64_t middle = now_ns();                                                             \
            struct bytes payload = bytes_of(frame + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE);    \
            for (int i = 0; i < ITERATIONS; i++) {                                                 \
                use(frame);                                                                        \
                if (wire_##name##_read(&again, payload) < 0)                                       \
                    abort();                                                                       \
                use(&again);                                                                       \
            }                                                                                      \
            cost.encode_ns = least(cost.encode_ns, (double)(middle - start) / ITERATIONS);         \
            cost.decode_ns = least(cost.decode_ns, (double)(now_ns() - middle) / ITERATIONS);      \
        }                                                                                          \
        return cost;                                                                               \
    }
MEASURE(request)
MEASURE(reply)

static void print(const char *what, struct cost cost)
{
    printf("%-14s encode %6.1f ns   decode %6.1f ns   both %6.1f ns\n", what, cost.encode_ns,
           cost.decode_ns, cost.encode_ns + cost.decode_ns);
}

int main(int argc, char **argv)
{
    uint8_t request_headers[2048], reply_headers[256];
    int runs = argc > 1 ? atoi(argv[1]) : RUNS;
    struct wire_request http = http_request(request_headers, sizeof(request_headers)),
                        call = call_request();
    struct wire_reply answer = http_reply(reply_headers, sizeof(reply_headers));
    if (runs < 1 || runs > 100000) {
        fprintf(stderr, "usage: %s [runs, 1 to 100000]\n", argv[0]);
        return 2;
    }
    print("http request", measure_request(&http, runs));
    print("call request", measure_request(&call, runs));
    print("http reply", measure_reply(&answer, runs));
    return 0;
}
