/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: blocking frames over the controller's socket.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"
#include "wire.h"

enum { REPLY_LIMIT = 64 << 20, FRAME_ROOM = 1024 };

struct connection {
    int descriptor;
    int64_t due_ns;
    struct text in; /* received and not used */
    size_t used;    /* of `in` */
};

int64_t control_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int wait_for(struct connection *connection, short events, struct error *reterr)
{
    for (;;) {
        int timeout_ms = -1;
        if (connection->due_ns) {
            int64_t left = connection->due_ns - control_now_ns();
            if (left <= 0)
                return error_set(reterr, ERROR_TIMEOUT, "the controller did not answer in time");
            timeout_ms = (int)(left / 1000000 > 3600000 ? 3600000 : left / 1000000 + 1);
        }
        struct pollfd wanted = {.fd = connection->descriptor, .events = events};
        int ready = poll(&wanted, 1, timeout_ms);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return error_set(reterr, ERROR_SYSTEM, "poll: %s", strerror(errno));
    }
}

static int send_all(struct connection *connection, struct bytes bytes, struct error *reterr)
{
    while (bytes.size) {
        struct iovec part = {(void *)bytes.at, bytes.size};
        ssize_t sent = socket_write(connection->descriptor, &part, 1);
        if (sent > 0)
            bytes = bytes_skip(bytes, (size_t)sent);
        else if (sent == -EAGAIN) {
            if (wait_for(connection, POLLOUT, reterr) < 0)
                return reterr->code;
        } else if (sent < 0)
            return error_set(reterr, ERROR_CLOSED, "the controller left: %s", strerror((int)-sent));
    }
    return 0;
}

static int receive_more(struct connection *connection, struct error *reterr)
{
    uint8_t room[16384];
    for (;;) {
        ssize_t size = socket_read(connection->descriptor, room, sizeof room);
        if (size > 0) {
            text_add(&connection->in, bytes_of(room, (size_t)size));
            return connection->in.failed
                       ? error_set(reterr, ERROR_LIMIT, "the controller's answer is too large")
                       : 0;
        }
        if (size != -EAGAIN)
            return error_set(reterr, ERROR_CLOSED,
                             "the controller left before it answered; whether it did as asked is "
                             "not known: ask again");
        if (wait_for(connection, POLLIN, reterr) < 0)
            return reterr->code;
    }
}

/* The next whole frame; its payload is valid until the next call. */
static int receive_frame(struct connection *connection, struct wire_header *header,
                         struct bytes *payload, struct error *reterr)
{
    if (connection->used) {
        memmove(connection->in.at, connection->in.at + connection->used,
                connection->in.size - connection->used);
        connection->in.size -= connection->used;
        connection->used = 0;
    }
    for (;;) {
        struct bytes in = text_bytes(&connection->in);
        if (in.size >= WIRE_HEADER_SIZE) {
            wire_header_read(header, in.at);
            if (header->size > REPLY_LIMIT)
                return error_set(reterr, ERROR_PROTOCOL, "the controller sent a frame of %u bytes",
                                 header->size);
            if (in.size - WIRE_HEADER_SIZE >= header->size) {
                *payload = bytes_of(in.at + WIRE_HEADER_SIZE, header->size);
                connection->used = WIRE_HEADER_SIZE + header->size;
                return 0;
            }
        }
        if (receive_more(connection, reterr) < 0)
            return reterr->code;
    }
}

static int say_hello(struct connection *connection, struct error *reterr)
{
    struct wire_hello hello = {0};
    struct wire_header header;
    struct bytes payload;
    uint8_t room[FRAME_ROOM];
    uint16_t version;
    const char *reason;
    wire_hello_fill(&hello, WIRE_ROLE_COMMAND, 0, BYTES("command"));
    ensure(wire_hello_size(&hello) <= sizeof room);
    size_t size = wire_hello_write(&hello, 0, 0, false, room);
    if (send_all(connection, bytes_of(room, size), reterr) < 0 ||
        receive_frame(connection, &header, &payload, reterr) < 0)
        return reterr->code;
    if (header.type != WIRE_HELLO_FRAME || wire_hello_read(&hello, payload) < 0)
        return error_set(reterr, ERROR_PROTOCOL, "the controller did not say hello");
    if (wire_hello_check(&hello, &version, &reason) < 0)
        return error_set(reterr, ERROR_VERSION, "the controller cannot be understood: %s", reason);
    return 0;
}

static int take_outcome(struct bytes payload, struct text *out, struct error *reterr)
{
    struct wire_outcome outcome;
    if (wire_outcome_read(&outcome, payload) < 0)
        return error_set(reterr, ERROR_PROTOCOL, "the controller sent a broken outcome");
    if (out)
        text_add(out, outcome.body);
    if (outcome.code < 0)
        return error_set(reterr, outcome.code, "%.*s", BYTES_PRINT(outcome.text));
    return 0;
}

static void show_progress(const struct control_question *question, struct bytes payload)
{
    struct wire_progress progress;
    char line[512];
    if (!question->progress || wire_progress_read(&progress, payload) < 0)
        return;
    size_t size = progress.text.size < sizeof line - 1 ? progress.text.size : sizeof line - 1;
    memcpy(line, progress.text.at, size);
    line[size] = 0;
    question->progress(question->owner, line);
}

static int ask(struct connection *connection, const struct control_question *question,
               struct text *out, struct error *reterr)
{
    struct wire_header header;
    struct bytes payload;
    if (say_hello(connection, reterr) < 0 || send_all(connection, question->frame, reterr) < 0)
        return reterr->code;
    for (;;) {
        if (receive_frame(connection, &header, &payload, reterr) < 0)
            return reterr->code;
        if (header.type == WIRE_OUTCOME_FRAME)
            return take_outcome(payload, out, reterr);
        if (header.type == WIRE_PROGRESS_FRAME) {
            show_progress(question, payload);
            if (question->no_wait)
                return 0; /* it was stored: the first progress comes after that */
        }
    }
}

int control_ask(const char *socket_path, const struct control_question *question, int64_t due_ns,
                struct text *out, struct error *reterr)
{
    struct connection connection = {.due_ns = due_ns};
    connection.descriptor = socket_connect_unix(socket_path);
    if (connection.descriptor < 0)
        return error_set(reterr, ERROR_NOT_RUNNING, "no instance answers at %s", socket_path);
    text_init(&connection.in, REPLY_LIMIT + WIRE_HEADER_SIZE);
    int code = socket_check_peer(connection.descriptor, NULL) < 0
                   ? error_set(reterr, ERROR_PERMISSION, "%s belongs to another user", socket_path)
                   : ask(&connection, question, out, reterr);
    text_done(&connection.in);
    socket_close(connection.descriptor);
    return code;
}
