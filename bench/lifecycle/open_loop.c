/* SPDX-License-Identifier: Apache-2.0 */
/*
 * open_loop: GET requests at a fixed rate, whether answers come or not, and what became of each.
 *
 *     open_loop --port P --path / --rate 500 --seconds 5 --patience 10 --out FILE
 *
 * A request is due at its time and goes out then, over an idle connection or a new one, so that
 * somebody who does not answer delays nobody and hides nothing.  Latency counts from when it was
 * due.  It says "began T" (CLOCK_MONOTONIC, nanoseconds) when the first is due, and writes a line
 * per request at the end, all times in nanoseconds of that clock:
 *
 *     due sent done outcome born word
 *
 * SIGTERM ends the sending; the answers that are out are still waited for.
 *
 * outcome is the status of a whole answer, or 0 when the connection ended before that, -1 when it
 * was refused, -2 when nothing had come when patience ended.  born is when its connection was made,
 * word the first word of the answer.  Nothing is sent twice.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MOST = 4096,
    ANSWER_MOST = 4096,
    WORD_SIZE = 24,
    EVENTS = 256,
    REQUESTS_MOST = 10000000
};
enum { BROKEN = 0, REFUSED = -1, UNANSWERED = -2 };
static const int64_t SECOND = 1000000000;

struct request {
    int64_t due, sent, done, born;
    int outcome;
    char word[WORD_SIZE];
};

struct connection {
    int descriptor;
    struct request *request; /* null: idle */
    bool connecting;
    int64_t born;
    size_t size;
    char in[ANSWER_MOST + 1];
};

static struct {
    int port, epoll;
    double rate, seconds, patience;
    const char *path, *out;
    struct request *requests;
    uint64_t count, due, sent, over; /* requests: in all, due so far, sent (or refused), over */
    struct connection *idle[CONNECTIONS_MOST];
    uint32_t idle_count, connection_count;
    char text[512];
    size_t text_size;
} loop;

static volatile sig_atomic_t ended; /* by SIGTERM */

static void on_end(int number)
{
    (void)number;
    ended = 1;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "open_loop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* ---- connections ---- */

static void request_over(struct request *request, int outcome)
{
    request->done = now();
    request->outcome = outcome;
    loop.over++;
}

static void connection_close(struct connection *connection, int outcome)
{
    for (uint32_t i = 0; i < loop.idle_count; i++)
        if (loop.idle[i] == connection) {
            loop.idle[i] = loop.idle[--loop.idle_count];
            break;
        }
    if (connection->request)
        request_over(connection->request, outcome);
    close(connection->descriptor);
    free(connection);
    loop.connection_count--;
}

static bool watch(struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    return epoll_ctl(loop.epoll, operation, connection->descriptor, &event) == 0;
}

static struct connection *connection_new(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)loop.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        die("memory");
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0)
        die("socket");
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    connection->born = now();
    loop.connection_count++;
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) < 0) {
        if (errno != EINPROGRESS) {
            connection_close(connection, REFUSED);
            return NULL;
        }
        connection->connecting = true;
    }
    if (!watch(connection, EPOLL_CTL_ADD, EPOLLIN | (connection->connecting ? EPOLLOUT : 0)))
        die("epoll_ctl");
    return connection;
}

/* So short a text is taken whole. */
static void connection_write(struct connection *connection)
{
    ssize_t sent = send(connection->descriptor, loop.text, loop.text_size, MSG_NOSIGNAL);
    if (sent != (ssize_t)loop.text_size)
        connection_close(connection, BROKEN);
}

/* ---- answers ---- */

static void keep_word(struct request *request, const char *body)
{
    size_t size = strcspn(body, " \r\n\",");
    snprintf(request->word, sizeof request->word, "%.*s", (int)size, body);
}

/* True: the answer is whole.  *ret_close: the connection ends behind it. */
static bool answer_whole(struct connection *connection, int *ret_status, bool *ret_close)
{
    char *end, *line, *length = NULL;
    connection->in[connection->size] = '\0';
    end = strstr(connection->in, "\r\n\r\n");
    if (!end || sscanf(connection->in, "HTTP/1.%*d %d", ret_status) != 1)
        return false;
    *ret_close = false;
    for (line = strstr(connection->in, "\r\n"); line && line < end; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = line + 15;
        if (strncasecmp(line, "connection: close", 17) == 0)
            *ret_close = true;
    }
    if (!length) {
        fprintf(stderr, "open_loop: an answer without content-length\n");
        exit(1);
    }
    size_t wanted = (size_t)(end + 4 - connection->in) + strtoul(length, NULL, 10);
    if (wanted > ANSWER_MOST) {
        fprintf(stderr, "open_loop: an answer of %zu bytes\n", wanted);
        exit(1);
    }
    if (connection->size < wanted)
        return false;
    keep_word(connection->request, end + 4);
    return true;
}

static void connection_read(struct connection *connection)
{
    int status;
    bool closes;
    ssize_t got = recv(connection->descriptor, connection->in + connection->size,
                       ANSWER_MOST - connection->size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        connection_close(connection, BROKEN);
        return;
    }
    connection->size += (size_t)got;
    if (!connection->request) {
        connection_close(connection, BROKEN); /* nobody asked: a server's last words */
        return;
    }
    if (!answer_whole(connection, &status, &closes))
        return;
    request_over(connection->request, status);
    connection->request = NULL;
    connection->size = 0;
    if (closes)
        connection_close(connection, BROKEN);
    else
        loop.idle[loop.idle_count++] = connection;
}

static void connection_event(struct connection *connection, uint32_t events)
{
    if (connection->connecting && (events & (EPOLLERR | EPOLLHUP))) {
        connection_close(connection, REFUSED);
    } else if (connection->connecting && (events & EPOLLOUT)) {
        connection->connecting = false;
        if (!watch(connection, EPOLL_CTL_MOD, EPOLLIN))
            die("epoll_ctl");
        connection_write(connection);
    } else if (!connection->connecting) {
        connection_read(connection);
    }
}

/* ---- sending ---- */

static void send_due(void)
{
    while (loop.sent < loop.due) {
        struct request *request = &loop.requests[loop.sent];
        if (!loop.idle_count && loop.connection_count == CONNECTIONS_MOST)
            return; /* it is late, and its latency says so */
        struct connection *connection =
            loop.idle_count ? loop.idle[--loop.idle_count] : connection_new();
        loop.sent++;
        request->sent = now();
        if (!connection) {
            request->born = request->sent;
            request_over(request, REFUSED);
            continue;
        }
        request->born = connection->born;
        connection->request = request;
        if (!connection->connecting)
            connection_write(connection);
    }
}

static int64_t due_at(int64_t began, uint64_t number)
{
    return began + (int64_t)((double)number * 1e9 / loop.rate);
}

static void run(int64_t began)
{
    struct epoll_event events[EVENTS];
    int64_t limit = began + (int64_t)((loop.seconds + loop.patience) * 1e9);
    while (loop.over < loop.count && now() < limit) {
        while (loop.due < loop.count && due_at(began, loop.due) <= now()) {
            loop.requests[loop.due].due = due_at(began, loop.due);
            loop.due++;
        }
        if (ended && loop.due < loop.count) {
            loop.count = loop.due;
            limit = now() + (int64_t)(loop.patience * 1e9);
        }
        int64_t next = loop.due < loop.count ? due_at(began, loop.due) : limit;
        int64_t wait = next - now();
        wait = wait > 0 ? wait : 0;
        struct timespec time = {.tv_sec = wait / SECOND, .tv_nsec = wait % SECOND};
        send_due();
        int count = epoll_pwait2(loop.epoll, events, EVENTS, &time, NULL);
        for (int i = 0; i < count; i++)
            connection_event(events[i].data.ptr, events[i].events);
    }
}

static void write_out(void)
{
    FILE *out = fopen(loop.out, "w");
    if (!out)
        die(loop.out);
    for (uint64_t i = 0; i < loop.count; i++) {
        const struct request *request = &loop.requests[i];
        bool over = request->done != 0;
        fprintf(out, "%lld %lld %lld %d %lld %s\n", (long long)request->due,
                (long long)request->sent, (long long)request->done,
                over ? request->outcome : UNANSWERED, (long long)request->born,
                request->word[0] ? request->word : "-");
    }
    if (fclose(out) != 0)
        die(loop.out);
}

/* ---- begin ---- */

static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                        {"path", required_argument, NULL, 'u'},
                                        {"rate", required_argument, NULL, 'r'},
                                        {"seconds", required_argument, NULL, 's'},
                                        {"patience", required_argument, NULL, 'w'},
                                        {"out", required_argument, NULL, 'o'},
                                        {NULL, 0, NULL, 0}};

static void parse(int argument_count, char **arguments)
{
    int option;
    loop.path = "/";
    loop.patience = 10;
    while ((option = getopt_long(argument_count, arguments, "", options, NULL)) != -1)
        switch (option) {
        case 'p':
            loop.port = atoi(optarg);
            break;
        case 'u':
            loop.path = optarg;
            break;
        case 'r':
            loop.rate = atof(optarg);
            break;
        case 's':
            loop.seconds = atof(optarg);
            break;
        case 'w':
            loop.patience = atof(optarg);
            break;
        case 'o':
            loop.out = optarg;
            break;
        default:
            exit(2);
        }
    double count = loop.rate * loop.seconds;
    if (loop.port <= 0 || !loop.out || count < 1 || count > REQUESTS_MOST) {
        fprintf(stderr, "open_loop: --port, --rate, --seconds and --out are needed\n");
        exit(2);
    }
    loop.count = (uint64_t)count;
}

int main(int argument_count, char **arguments)
{
    struct rlimit files = {CONNECTIONS_MOST + 64, CONNECTIONS_MOST + 64};
    parse(argument_count, arguments);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int size = snprintf(loop.text, sizeof loop.text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                        loop.path);
    loop.text_size = (size_t)size;
    loop.requests = calloc(loop.count, sizeof *loop.requests);
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!loop.requests || loop.epoll < 0 || size >= (int)sizeof loop.text)
        die("the beginning");
    signal(SIGTERM, on_end);
    int64_t began = now() + 10000000;
    printf("began %lld\n", (long long)began);
    fflush(stdout);
    run(began);
    write_out();
    return 0;
}
