/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_load: many websockets that each send one message and wait for its echo, on one thread.
 *
 *     websocket_load PORT PATH CONNECTIONS SECONDS SIZE
 *
 * Prints one line of JSON: messages, seconds, errors, and the median and 99th percentile of the round
 * trips in microseconds.  An echo that differs in length or first byte is an error, and so is an end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { IN_SIZE = 1 << 17, SAMPLES = 1 << 22, SIZE_MOST = 65535 };

struct peer {
    int descriptor;
    int64_t sent_ns;
    size_t filled;
    uint8_t in[IN_SIZE];
};

static uint8_t frame[SIZE_MOST + 16];
static size_t frame_size, answer_size;
static uint32_t *samples;
static size_t sample_count;
static uint64_t messages, errors;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "websocket_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* One masked text frame of `size` bytes; the mask is zero, which is as good as any for a benchmark. */
static void make_frame(size_t size)
{
    uint8_t *at = frame;
    *at++ = 0x81;
    if (size < 126) {
        *at++ = (uint8_t)(0x80 | size);
    } else {
        *at++ = 0x80 | 126;
        *at++ = (uint8_t)(size >> 8);
        *at++ = (uint8_t)size;
    }
    memset(at, 0, 4);
    at += 4;
    memset(at, 'x', size);
    frame_size = (size_t)(at - frame) + size;
    answer_size = frame_size - 4;
}

static void send_message(struct peer *peer)
{
    peer->sent_ns = now_ns();
    if (write(peer->descriptor, frame, frame_size) != (ssize_t)frame_size)
        errors++;
}

static void open_peer(struct peer *peer, int port, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char request[512];
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (peer->descriptor < 0 ||
        connect(peer->descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    setsockopt(peer->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: "
                        "Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n",
                        path);
    if (write(peer->descriptor, request, (size_t)size) != size)
        fail("handshake");
    while (!memmem(peer->in, peer->filled, "\r\n\r\n", 4)) {
        ssize_t got = read(peer->descriptor, peer->in + peer->filled, 1);
        if (got <= 0)
            fail("no answer to the handshake");
        peer->filled += (size_t)got;
    }
    if (memcmp(peer->in, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "websocket_load: %.*s\n", (int)peer->filled, (char *)peer->in);
        exit(1);
    }
    peer->filled = 0;
    fcntl(peer->descriptor, F_SETFL, O_NONBLOCK);
}

static void take_echo(struct peer *peer, bool counts)
{
    if (peer->in[0] != 0x81)
        errors++;
    peer->filled = 0;
    if (!counts)
        return;
    messages++;
    if (sample_count < SAMPLES)
        samples[sample_count++] = (uint32_t)((now_ns() - peer->sent_ns) / 1000);
}

/* False: the connection ended. */
static bool hear(struct peer *peer, bool counts)
{
    ssize_t got = read(peer->descriptor, peer->in + peer->filled, IN_SIZE - peer->filled);
    if (got < 0 && errno == EAGAIN)
        return true;
    if (got <= 0) {
        errors++;
        return false;
    }
    peer->filled += (size_t)got;
    if (peer->filled < answer_size)
        return true;
    if (peer->filled > answer_size)
        errors++;
    take_echo(peer, counts);
    send_message(peer);
    return true;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void run(int poll, int64_t until_ns, bool counts)
{
    struct epoll_event events[256];
    while (now_ns() < until_ns) {
        int count = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!hear(peer, counts))
                epoll_ctl(poll, EPOLL_CTL_DEL, peer->descriptor, NULL);
        }
    }
}

int main(int count, char **words)
{
    if (count != 6) {
        fprintf(stderr, "usage: websocket_load PORT PATH CONNECTIONS SECONDS SIZE\n");
        return 2;
    }
    int connections = atoi(words[3]), size = atoi(words[5]);
    double seconds = atof(words[4]);
    struct peer *peers = calloc((size_t)connections, sizeof *peers);
    samples = malloc(SAMPLES * sizeof *samples);
    int poll = epoll_create1(0);
    if (connections < 1 || size < 0 || size > SIZE_MOST || !peers || !samples || poll < 0)
        fail("wrong arguments, or no memory");
    make_frame((size_t)size);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        open_peer(&peers[i], atoi(words[1]), words[2]);
        epoll_ctl(poll, EPOLL_CTL_ADD, peers[i].descriptor, &event);
        send_message(&peers[i]);
    }
    run(poll, now_ns() + 500000000, false); /* warm */
    int64_t begin_ns = now_ns();
    run(poll, begin_ns + (int64_t)(seconds * 1e9), true);
    double spent = (double)(now_ns() - begin_ns) * 1e-9;
    qsort(samples, sample_count, sizeof *samples, compare);
    printf("{\"messages\": %llu, \"seconds\": %.4f, \"errors\": %llu, \"p50_us\": %u, \"p99_us\": %u}\n",
           (unsigned long long)messages, spent, (unsigned long long)errors,
           sample_count ? samples[sample_count / 2] : 0,
           sample_count ? samples[sample_count * 99 / 100] : 0);
    return 0;
}
