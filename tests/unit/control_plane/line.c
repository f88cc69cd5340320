/* SPDX-License-Identifier: Apache-2.0 */
/*
 * line: poll, read, write.
 */
#include "line.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "socket.h"

enum { QUIET_TURNS = 8, LOOK_MS = 1 };

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

uint8_t *line_room(size_t size)
{
    static uint8_t *room;
    static size_t capacity;
    if (capacity < size) {
        free(room);
        room = malloc(size);
        capacity = size;
    }
    return room;
}

void line_take_over(struct line *line, int descriptor, void (*turn)(void *owner), void *owner)
{
    cr_assert_geq(descriptor, 0);
    *line = (struct line){.descriptor = descriptor, .turn = turn, .owner = owner};
    line->in = malloc(LINE_ROOM);
}

void line_connect(struct line *line, const char *path, void (*turn)(void *owner), void *owner)
{
    int descriptor = socket_connect_unix(path);
    cr_assert_geq(descriptor, 0, "cannot connect to %s: %s", path, strerror(-descriptor));
    line_take_over(line, descriptor, turn, owner);
}

void line_close(struct line *line)
{
    socket_close(line->descriptor);
    line->descriptor = -1;
    free(line->in);
    line->in = NULL;
}

static void wait_for(struct line *line, short events)
{
    struct pollfd wanted = {.fd = line->descriptor, .events = events};
    if (line->turn)
        line->turn(line->owner);
    poll(&wanted, 1, line->turn ? LOOK_MS : LINE_WAIT_MS);
}

void line_put(struct line *line, struct bytes bytes)
{
    int64_t due_ms = now_ms() + LINE_WAIT_MS;
    while (bytes.size) {
        struct iovec part = {(void *)bytes.at, bytes.size};
        ssize_t sent = socket_write(line->descriptor, &part, 1);
        if (sent == -EPIPE)
            return; /* what it said is read by line_await_end */
        if (sent > 0)
            bytes = bytes_skip(bytes, (size_t)sent);
        else
            wait_for(line, POLLOUT);
        cr_assert_lt(now_ms(), due_ms, "the peer does not read");
    }
}

void line_hello(struct line *line, enum wire_role role, uint64_t id, const char *name)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, role, id, bytes_of_string(name));
    uint8_t *room = line_room(wire_hello_size(&hello));
    line_put(line, bytes_of(room, wire_hello_write(&hello, 0, 0, false, room)));
}

static bool next_frame(struct line *line)
{
    memmove(line->in, line->in + line->used, line->size - line->used);
    line->size -= line->used;
    line->used = 0;
    if (line->size < WIRE_HEADER_SIZE)
        return false;
    wire_header_read(&line->header, line->in);
    cr_assert_leq(line->header.size + WIRE_HEADER_SIZE, LINE_ROOM);
    if (line->size < WIRE_HEADER_SIZE + line->header.size)
        return false;
    line->payload = bytes_of(line->in + WIRE_HEADER_SIZE, line->header.size);
    line->used = WIRE_HEADER_SIZE + line->header.size;
    return true;
}

/* Bytes received, 0 at the end, or -errno. */
static ssize_t receive(struct line *line)
{
    ssize_t size = socket_read(line->descriptor, line->in + line->size, LINE_ROOM - line->size);
    if (size > 0)
        line->size += (size_t)size;
    return size;
}

void line_take(struct line *line)
{
    int64_t due_ms = now_ms() + LINE_WAIT_MS;
    while (!next_frame(line)) {
        ssize_t size = receive(line);
        cr_assert(size > 0 || size == -EAGAIN, "the peer left");
        if (size == -EAGAIN)
            wait_for(line, POLLIN);
        cr_assert_lt(now_ms(), due_ms, "the peer says nothing");
    }
}

void line_await(struct line *line, enum wire_frame type)
{
    do
        line_take(line);
    while (line->header.type != type);
}

void line_await_end(struct line *line)
{
    int64_t due_ms = now_ms() + LINE_WAIT_MS;
    ssize_t size;
    while ((size = receive(line)) != 0 && size != -ECONNRESET) {
        line->size = line->used = 0;
        if (size == -EAGAIN)
            wait_for(line, POLLIN);
        cr_assert_lt(now_ms(), due_ms, "the peer does not leave");
    }
}

bool line_has_frame(struct line *line)
{
    struct line look;
    for (int i = 0; i < QUIET_TURNS && line->turn; i++)
        line->turn(line->owner);
    while (receive(line) > 0)
        ;
    look = *line;
    look.in = malloc(LINE_ROOM);
    memcpy(look.in, line->in, line->size);
    bool found = next_frame(&look);
    free(look.in);
    return found;
}
