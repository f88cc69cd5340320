/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_words: what a replica writes to stderr.
 *
 * It goes on to our stderr, and its end is kept: it is the best that can be said about a crash.
 * While our stderr takes nothing, nothing is read either, as if the replica wrote to it itself.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "node.h"
#include "socket.h"

enum {
    WORDS_PIECE = 4096, /* PIPE_BUF: what a ready pipe takes without waiting */
    WORDS_PAUSE_MS = 20,
    WORDS_AFTER_END = 64, /* pieces read after the process ended */
};

static const int64_t NS_PER_MS = 1000000;

static void keep_words(struct node_replica *replica, const char *at, size_t size)
{
    if (size > NODE_WORDS_SIZE) {
        at += size - NODE_WORDS_SIZE;
        size = NODE_WORDS_SIZE;
        replica->words_cut = true;
    }
    if (replica->words_size + size > NODE_WORDS_SIZE) {
        size_t over = replica->words_size + size - NODE_WORDS_SIZE;
        memmove(replica->words, replica->words + over, replica->words_size - over);
        replica->words_size -= over;
        replica->words_cut = true;
    }
    memcpy(replica->words + replica->words_size, at, size);
    replica->words_size += size;
}

void node_words_close(struct node_replica *replica)
{
    loop_watch_close(&replica->words_watch);
    loop_timer_clear(&replica->words_timer);
    socket_close(replica->words_descriptor);
    replica->words_descriptor = -1;
}

static bool stderr_takes(void)
{
    struct pollfd wanted = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&wanted, 1, 0) != 0;
}

/* One piece, on to our own stderr: bytes, 0 when there is none now, -1 at the end. */
static ssize_t pass_words(struct node_replica *replica, bool show)
{
    char piece[WORDS_PIECE];
    ssize_t size = read(replica->words_descriptor, piece, sizeof piece);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (size <= 0)
        return -1;
    keep_words(replica, piece, (size_t)size);
    if (show) {
        ssize_t ignored = write(STDERR_FILENO, piece, (size_t)size);
        (void)ignored; /* who does not want it does not get it */
    }
    return size;
}

static void words_ready(void *owner, int events)
{
    struct node_replica *replica = owner;
    (void)events;
    if (!stderr_takes()) {
        loop_watch_change(&replica->words_watch, 0);
        loop_timer_set(&replica->words_timer,
                       loop_now_ns(replica->node->loop) + WORDS_PAUSE_MS * NS_PER_MS);
        return;
    }
    if (pass_words(replica, true) < 0)
        node_words_close(replica);
}

static void words_again(void *owner)
{
    struct node_replica *replica = owner;
    loop_watch_change(&replica->words_watch, LOOP_READ);
}

void node_words_take(struct node_replica *replica, int descriptor)
{
    loop_watch_close(&replica->words_watch);
    if (replica->words_descriptor != descriptor)
        socket_close(replica->words_descriptor);
    replica->words_descriptor = descriptor;
    if (descriptor >= 0 && loop_watch_open(replica->node->loop, &replica->words_watch, descriptor,
                                           LOOP_READ, words_ready, replica) < 0)
        node_words_close(replica); /* it runs; its words are lost */
}

void node_words_take_last(struct node_replica *replica)
{
    if (replica->words_descriptor < 0)
        return;
    for (int i = 0; i < WORDS_AFTER_END; i++)
        if (pass_words(replica, stderr_takes()) <= 0)
            break;
    node_words_close(replica);
}

void node_words_init(struct node_replica *replica)
{
    replica->words_descriptor = -1;
    loop_timer_init(replica->node->loop, &replica->words_timer, words_again, replica);
}
