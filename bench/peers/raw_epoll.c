/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_epoll: the least an HTTP/1.1 server can do, to measure Manta against.
 *
 * One thread, level-triggered epoll, one recv per readiness, one send for everything that was
 * asked.  It does not parse: every empty line (CR LF CR LF) counts as a request without a body and
 * gets the same answer.  The answer can be made as long as another server's, so that the kernel
 * moves the same bytes. It listens on a loopback port, as the ceiling itself, or on a Unix socket,
 * as what nginx and HAProxy stand in front of.
 *
 *     raw_epoll --port N | --unix PATH [--answer-size N]
 *
 * It is not a server for anything else: no time-outs, no limits but the number of descriptors, and
 * a client that does not read its answers is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ANSWER_LIMIT = 4096,
    PIPELINE_LIMIT =
        64, /* requests answered with one send; more in one read close the connection */
    READ_SIZE = 16384,
    EVENT_COUNT = 256,
    DESCRIPTOR_LIMIT = 65536,
    BACKLOG = 4096,
};

/* Bytes of "\r\n\r\n" that the end of the last read matched, by descriptor. */
static unsigned char matched[DESCRIPTOR_LIMIT];

static char answers[PIPELINE_LIMIT * ANSWER_LIMIT]; /* the answer, as often as it may be needed */
static size_t answer_size;

static void die(const char *what)
{
    fprintf(stderr, "raw_epoll: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The answer is padded to `size` bytes by a field; 0 leaves it as short as it is. */
static void make_answers(size_t size)
{
    static const char start[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n";
    static const char field[] = "x-padding: ";
    static const char end[] = "\r\n\r\nok";
    char answer[ANSWER_LIMIT];
    size_t padding = 0;

    answer_size = strlen(start) + strlen(field) + strlen(end);
    if (size > sizeof(answer)) {
        errno = EMSGSIZE;
        die("--answer-size");
    }
    if (size > answer_size) {
        padding = size - answer_size;
        answer_size = size;
    }
    char *at = stpcpy(stpcpy(answer, start), field);
    memset(at, '-', padding);
    memcpy(at + padding, end, strlen(end));
    for (size_t i = 0; i < PIPELINE_LIMIT; i++)
        memcpy(answers + i * answer_size, answer, answer_size);
}

static int listen_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
        die("listening on the port");
    return fd;
}

static int listen_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(address.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, BACKLOG) < 0)
        die(path);
    return fd;
}

static void accept_clients(int listener, int epoll)
{
    for (;;) {
        int on = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= DESCRIPTOR_LIMIT || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
            close(fd);
            continue;
        }
        matched[fd] = 0;
        /* Fails on a Unix socket, where there is nothing to switch off. */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
}

/* Empty lines in `bytes`; one may have begun in an earlier read. */
static size_t count_requests(int fd, const char *bytes, size_t size)
{
    static const char end[] = "\r\n\r\n";
    unsigned char state = matched[fd];
    size_t count = 0;

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == end[state])
            state++;
        else
            state = bytes[i] == '\r';
        if (state == 4) {
            state = 0;
            count++;
        }
    }
    matched[fd] = state;
    return count;
}

static bool serve_client(int fd)
{
    char bytes[READ_SIZE];
    ssize_t got = recv(fd, bytes, sizeof(bytes), 0);

    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    size_t count = count_requests(fd, bytes, (size_t)got);
    if (count > PIPELINE_LIMIT)
        return false;
    size_t size = count * answer_size;
    return size == 0 || send(fd, answers, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void serve(int listener)
{
    struct epoll_event events[EVENT_COUNT];
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENT_COUNT, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_clients(listener, epoll);
            else if (!serve_client(fd))
                close(fd);
        }
    }
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    int listener = -1;
    size_t size = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            listener = listen_port(atoi(argv[i + 1]));
        else if (strcmp(argv[i], "--unix") == 0)
            listener = listen_path(argv[i + 1]);
        else if (strcmp(argv[i], "--answer-size") == 0)
            size = (size_t)strtoul(argv[i + 1], NULL, 10);
    }
    if (listener < 0) {
        fputs("usage: raw_epoll --port N | --unix PATH [--answer-size N]\n", stderr);
        return 2;
    }
    raise_descriptor_limit();
    make_answers(size);
    serve(listener);
}
