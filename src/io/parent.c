/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parent: the end of a node, seen by its children, and their way to the next one.
 *
 * A child leads its own session, so that its process group holds its descendants; none of them may
 * outlive the process that the node knows.
 *
 * The connection over which a later node was greeted takes the place of the pair: its end says that
 * this node is gone too.  A node that does not want this process closes it, or kills the process;
 * either way it is tried again, less and less often.
 */
#include "parent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "socket.h"

enum { PAUSE_FIRST_MS = 20, PAUSE_LIMIT_MS = 250, WORDS_PIECE = 4096, WORDS_PIECES = 64 };

static const int64_t NS_PER_MS = 1000000;

/* ---- what the node gave ---- */

static int take_descriptor(const char *variable)
{
    const char *value = getenv(variable);
    int descriptor = value ? atoi(value) : -1;
    unsetenv(variable);
    if (descriptor <= STDERR_FILENO || fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    return descriptor;
}

void parent_take_bond(struct parent_bond *ret_bond)
{
    const char *path = getenv(PARENT_SOCKET_VARIABLE);
    *ret_bond = (struct parent_bond){.descriptor = take_descriptor(PARENT_VARIABLE),
                                     .words = take_descriptor(PARENT_WORDS_VARIABLE)};
    if (path && strlen(path) < sizeof ret_bond->socket)
        memcpy(ret_bond->socket, path, strlen(path) + 1);
    unsetenv(PARENT_SOCKET_VARIABLE);
}

/* ---- stderr while there is no node ---- */

static void words_ready(void *owner, int events)
{
    struct parent *parent = owner;
    char piece[WORDS_PIECE];
    ssize_t size = 1;
    (void)events;
    for (int i = 0; i < WORDS_PIECES && size > 0; i++)
        size = read(parent->bond.words, piece, sizeof piece);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
        loop_watch_close(&parent->words_watch);
}

static void read_words(struct parent *parent, bool wanted)
{
    if (parent->bond.words < 0 || wanted == (parent->words_watch.handle != NULL))
        return;
    if (!wanted)
        loop_watch_close(&parent->words_watch);
    else if (loop_watch_open(parent->loop, &parent->words_watch, parent->bond.words, LOOP_READ,
                             words_ready, parent) < 0)
        log_print(LOG_WARNING, "what is written to stderr cannot be read");
}

/* ---- without a node ---- */

static void end_for_good(struct parent *parent)
{
    void (*ended)(void *) = parent->ended;
    void *ended_owner = parent->owner;
    parent_close(parent);
    ended(ended_owner);
}

static void drop(struct parent *parent)
{
    loop_watch_close(&parent->watch);
    socket_close(parent->bond.descriptor);
    parent->bond.descriptor = -1;
}

static void try_later(struct parent *parent)
{
    int64_t now_ns = loop_refresh_now_ns(parent->loop);
    read_words(parent, true);
    if (!parent->away_ns)
        parent->away_ns = now_ns;
    loop_timer_set(&parent->timer, now_ns + parent->pause_ms * NS_PER_MS);
    parent->pause_ms =
        2 * parent->pause_ms < PAUSE_LIMIT_MS ? 2 * parent->pause_ms : PAUSE_LIMIT_MS;
}

static void node_gone(struct parent *parent)
{
    drop(parent);
    if (!parent->bond.socket[0] || !parent->greeting.bytes.size) {
        end_for_good(parent);
        return;
    }
    if (!parent->away_ns) {
        log_print(LOG_ERROR, "the node is gone: serving on without it");
        parent->pause_ms = PAUSE_FIRST_MS;
    }
    try_later(parent);
}

static void tie_ready(void *owner, int events)
{
    struct parent *parent = owner;
    char piece[512];
    int unwanted = -1;
    (void)events;
    ssize_t size = socket_read_with(parent->bond.descriptor, piece, sizeof piece, &unwanted);
    socket_close(unwanted);
    if (size == -EAGAIN)
        return;
    if (size <= 0) {
        node_gone(parent);
        return;
    }
    if (!parent->welcomed)
        log_print(LOG_INFO, "a node is here again");
    parent->welcomed = true;
    parent->away_ns = 0;
}

/* The descriptor goes with the first byte; a fresh socket takes a greeting whole. */
static bool greet(struct parent *parent, int connection)
{
    const struct parent_greeting *greeting = &parent->greeting;
    struct iovec part = {(void *)greeting->bytes.at, greeting->bytes.size};
    int brought = greeting->descriptor >= 0 ? greeting->descriptor : parent->bond.words;
    ssize_t sent = brought >= 0 ? socket_write_with(connection, &part, 1, brought)
                                : socket_write(connection, &part, 1);
    return sent == (ssize_t)greeting->bytes.size;
}

static void try_node(void *owner)
{
    struct parent *parent = owner;
    const int64_t limit_ns = parent->greeting.away_limit_ms * NS_PER_MS;
    if (limit_ns && loop_now_ns(parent->loop) - parent->away_ns >= limit_ns) {
        end_for_good(parent);
        return;
    }
    int connection = socket_connect_unix(parent->bond.socket);
    if (connection < 0 || socket_check_peer(connection, NULL) < 0) {
        socket_close(connection);
        try_later(parent);
        return;
    }
    read_words(parent, false); /* from here on it may be the node's to read */
    parent->welcomed = false;
    parent->bond.descriptor = connection;
    if (!greet(parent, connection) || loop_watch_open(parent->loop, &parent->watch, connection,
                                                      LOOP_READ, tie_ready, parent) < 0) {
        drop(parent);
        try_later(parent);
    }
}

/* ---- the public face ---- */

int parent_watch(struct parent *parent, struct loop *loop, const struct parent_bond *bond,
                 const struct parent_greeting *greeting, void (*ended)(void *owner), void *owner)
{
    ensure(ended);
    *parent = (struct parent){
        .loop = loop, .bond = *bond, .welcomed = true, .ended = ended, .owner = owner};
    loop_timer_init(loop, &parent->timer, try_node, parent);
    if (bond->descriptor < 0)
        return 0;
    if (greeting) {
        parent->greeting = *greeting;
        uint8_t *copy = mem_new(greeting->bytes.size);
        memcpy(copy, greeting->bytes.at, greeting->bytes.size);
        parent->greeting.bytes.at = copy;
    }
    return loop_watch_open(loop, &parent->watch, bond->descriptor, LOOP_READ, tie_ready, parent);
}

void parent_close(struct parent *parent)
{
    if (!parent->loop)
        return;
    loop_timer_clear(&parent->timer);
    read_words(parent, false);
    drop(parent);
    mem_free((void *)parent->greeting.bytes.at);
    *parent = (struct parent){.bond.descriptor = -1, .bond.words = parent->bond.words};
}

void parent_follow(void)
{
    if (getpgrp() == getpid())
        kill(0, SIGKILL);
    _exit(1);
}
