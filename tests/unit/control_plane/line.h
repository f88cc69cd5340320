/* SPDX-License-Identifier: Apache-2.0 */
/*
 * line: the far end of a connection, for tests: blocking frames over a Unix socket.
 *
 * Waiting has an end only so that a broken test fails instead of hanging.  Where the near end lives
 * in the same thread, `turn` runs it between two looks.
 */
#ifndef MANTA_TEST_LINE_H
#define MANTA_TEST_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "wire.h"

enum { LINE_WAIT_MS = 20000, LINE_ROOM = 1 << 20 };

struct line {
    int descriptor;            /* -1: closed */
    void (*turn)(void *owner); /* null: the near end runs by itself */
    void *owner;
    uint8_t *in;
    size_t size, used;
    struct wire_header header; /* of the frame taken last */
    struct bytes payload;      /* valid until the next */
};

void line_connect(struct line *line, const char *path, void (*turn)(void *owner), void *owner);
void line_take_over(struct line *line, int descriptor, void (*turn)(void *owner), void *owner);
void line_close(struct line *line);
void line_put(struct line *line, struct bytes bytes);
void line_hello(struct line *line, enum wire_role role, uint64_t id, const char *name);
/* The next frame; fails the test when none comes. */
void line_take(struct line *line);
/* The next frame of this type; others are passed over. */
void line_await(struct line *line, enum wire_frame type);
/* The peer closes: frames before that are passed over. */
void line_await_end(struct line *line);
/* True when a whole frame waits; `turn` is run until nothing moves any more. */
bool line_has_frame(struct line *line);

/* line_say(&line, drain, .timeout_us = 5): one frame on stream `stream_`. */
#define line_say_on(line, stream_, frame_name, ...)                                                \
    do {                                                                                           \
        struct wire_##frame_name frame_ = {__VA_ARGS__};                                           \
        uint8_t *room_ = line_room(wire_##frame_name##_size(&frame_));                             \
        line_put(line,                                                                             \
                 bytes_of(room_, wire_##frame_name##_write(&frame_, 0, stream_, false, room_)));   \
    } while (0)
#define line_say(line, ...) line_say_on(line, 0, __VA_ARGS__)
uint8_t *line_room(size_t size); /* valid until the next call */

#endif
