/* SPDX-License-Identifier: Apache-2.0 */
/*
 * puppet: a deployment that a test leads by the hand, one byte a step.
 *
 * A request with ?gate=PATH connects to the Unix socket PATH, where the test listens, and says
 *
 *     entered <replica id> <process id> <request id>\n
 *
 * Then it does what it is told:
 *
 *     a  answers the replica's id                     f  fails
 *     c  crashes (writes to address zero)             x  ends the process with status 3
 *     n  returns from the entry point and never answers
 *     l  returns from the entry point; another thread goes on here
 *     s  begins a streamed answer                     e  finishes it
 *     w  writes a part of 64 KiB when there is room; says "wrote\n", or "gone\n"
 *     W  writes parts until no room came for half a second; says "full <bytes>\n"
 *     h  raises SIGSEGV with a handler of its own for it; says "handled 11\n"
 *     k  starts a process that never ends; says "child <process id>\n"
 *     t  writes 256 KiB of lines to stderr, the last of them "well then"; says "talked <bytes>\n"
 *     b  says "body <bytes>\n", the size of the body that came
 *     r  reads a streamed body (stream_body=1) to its end; says "read <bytes> <sum>\n" (sum of its bytes mod 2^32)
 *
 * When the caller leaves it says "cancelled\n".  So a test knows at every moment where each request
 * is, and nobody sleeps.  Without a gate the answer is the replica's id.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <manta/manta.h>

#include "options.h"

enum { PART_SIZE = 65536, TALK_LINES = 4096 };

static void *volatile nowhere; /* null, but no compiler knows it */
static volatile sig_atomic_t handled;

struct puppet {
    struct manta_request *request;
    int gate;
    size_t written;
};

static void say(int gate, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(int gate, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (send(gate, line, (size_t)size, MSG_NOSIGNAL) < 0)
        perror("puppet: the gate is gone");
}

static int reach_gate(struct manta_request *request)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *at = strstr(manta_request_query(request), "gate=");
    if (!at)
        return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s", (int)strcspn(at + 5, "&"), at + 5);
    int gate = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (gate >= 0 && connect(gate, (struct sockaddr *)&address, sizeof address) == 0)
        return gate;
    close(gate);
    return -1;
}

/* May run on any thread at any time before the answer; the gate stays open until then. */
static void on_cancel(void *owner)
{
    say(((struct puppet *)owner)->gate, "cancelled\n");
}

static void write_part(struct puppet *puppet)
{
    static const char part[PART_SIZE];
    int code;
    while ((code = manta_request_write(puppet->request, part, PART_SIZE)) == MANTA_EAGAIN)
        if (manta_request_wait_room(puppet->request, -1) < 0)
            break;
    puppet->written += code == 0 ? PART_SIZE : 0;
    say(puppet->gate, code == 0 ? "wrote\n" : "gone\n");
}

static void write_until_full(struct puppet *puppet)
{
    static const char part[PART_SIZE];
    for (;;) {
        int code = manta_request_write(puppet->request, part, PART_SIZE);
        if (code == 0)
            puppet->written += PART_SIZE;
        else if (code != MANTA_EAGAIN || manta_request_wait_room(puppet->request, 0.5) < 0)
            break;
    }
    say(puppet->gate, "full %zu\n", puppet->written);
}

static void read_body(struct puppet *puppet)
{
    unsigned char room[16384];
    uint32_t sum = 0;
    size_t total = 0;
    int64_t size;
    while ((size = manta_request_read(puppet->request, room, sizeof room, -1, NULL)) > 0) {
        total += (size_t)size;
        for (int64_t i = 0; i < size; i++)
            sum += room[i];
    }
    say(puppet->gate, size < 0 ? "broken %zu %u\n" : "read %zu %u\n", total, (unsigned)sum);
}

static void end(struct puppet *puppet)
{
    close(puppet->gate);
    free(puppet);
}

static void *go_on(void *owner);

static void on_fault(int number)
{
    handled = number;
}

/* Bytes that were taken; a line each, so that none is cut by another process's. */
static size_t talk(void)
{
    static const char line[] = "a word, and a word, and a word, and a word, and a word, a word\n";
    size_t taken = 0;
    for (int i = 0; i < TALK_LINES; i++) {
        ssize_t size = write(STDERR_FILENO, line, sizeof line - 1);
        taken += size > 0 ? (size_t)size : 0;
    }
    ssize_t size = write(STDERR_FILENO, "well then\n", 10);
    return taken + (size > 0 ? (size_t)size : 0);
}

/* Steps that leave the request alive. */
static void step(struct puppet *puppet, char word)
{
    struct sigaction counting = {.sa_handler = on_fault};
    pid_t child;
    size_t size;
    switch (word) {
    case 's':
        manta_request_begin(puppet->request, 200, "application/octet-stream", NULL, NULL, NULL);
        break;
    case 'w':
        write_part(puppet);
        break;
    case 'W':
        write_until_full(puppet);
        break;
    case 'b':
        manta_request_body(puppet->request, &size);
        say(puppet->gate, "body %zu\n", size);
        break;
    case 'r':
        read_body(puppet);
        break;
    case 'c':
        *(volatile char *)nowhere = 0;
        break;
    case 'h':
        sigaction(SIGSEGV, &counting, NULL);
        raise(SIGSEGV);
        say(puppet->gate, "handled %d\n", handled);
        break;
    case 'k':
        if ((child = fork()) == 0)
            for (;;)
                pause();
        say(puppet->gate, "child %d\n", (int)child);
        break;
    case 't':
        say(puppet->gate, "talked %zu\n", talk());
        break;
    case 'x':
        _exit(3);
    default:
        say(puppet->gate, "what?\n");
    }
}

/* Obeys until the request is answered, forgotten, or somebody else's. */
static void obey(struct puppet *puppet)
{
    pthread_t thread;
    char word;
    for (;;) {
        if (recv(puppet->gate, &word, 1, 0) != 1)
            word = 'f';
        switch (word) {
        case 'a':
            manta_request_reply_string(puppet->request,
                                       manta_replica_id(manta_request_replica(puppet->request)));
            end(puppet);
            return;
        case 'f':
            manta_request_fail(puppet->request, MANTA_EUSER, "failed as it was told");
            end(puppet);
            return;
        case 'e':
            manta_request_finish(puppet->request);
            end(puppet);
            return;
        case 'n':
            return; /* for ever: its memory and its gate stay */
        case 'l':
            if (pthread_create(&thread, NULL, go_on, puppet) != 0)
                abort();
            pthread_detach(thread);
            return;
        default:
            step(puppet, word);
        }
    }
}

static void *go_on(void *owner)
{
    obey(owner);
    return NULL;
}

static void puppet_call(void *state, struct manta_request *request)
{
    const char *replica = manta_replica_id(manta_request_replica(request));
    int gate = reach_gate(request);
    (void)state;
    if (gate < 0) {
        manta_request_reply_string(request, replica);
        return;
    }
    struct puppet *puppet = calloc(1, sizeof *puppet);
    *puppet = (struct puppet){.request = request, .gate = gate};
    say(gate, "entered %s %d %s\n", replica, (int)getpid(), manta_request_id(request));
    manta_request_on_cancel(request, on_cancel, puppet);
    obey(puppet);
}

MANTA_DEPLOYMENT(puppet, .call = puppet_call, .threads = 16, .max_ongoing_requests = 16,
                 .health_check_period_s = 1);

MANTA_APPLICATION(puppet)
{
    return bind_with_options(app, &puppet);
}
