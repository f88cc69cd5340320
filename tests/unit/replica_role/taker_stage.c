/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_stage: see its header.
 */
#include "taker_stage.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "socket.h"

enum { TURN_LIMIT = 200000 };

static void on_wake(void *owner)
{
    ((struct stage *)owner)->woken++;
}

void stage_open(struct stage *stage, const struct taker_config *given)
{
    struct error error = {0};
    struct taker_config config = given ? *given : (struct taker_config){.max_ongoing = 4};
    *stage = (struct stage){0};
    settings_init(&stage->settings);
    stage->loop = loop_new();
    struct channel_config channels = {.frame_limit = (size_t)stage->settings.wire_frame_limit,
                                      .queue_limit = (size_t)stage->settings.wire_queue_limit,
                                      .turn_limit = (size_t)stage->settings.wire_turn_limit,
                                      .buffer_keep = 4};
    cr_assert_eq(channel_set_init(&stage->channels, stage->loop, &channels), 0);
    config.loop = stage->loop;
    config.channels = &stage->channels;
    config.settings = &stage->settings;
    config.replica = 7;
    config.app = BYTES("app");
    config.deployment = BYTES("model");
    config.wake = on_wake;
    config.owner = stage;
    stage->taker = taker_new(&config, &error);
    cr_assert_not_null(stage->taker, "%s", error.text);
    snprintf(stage->directory, sizeof(stage->directory), "/tmp/manta-taker-XXXXXX");
    cr_assert_not_null(mkdtemp(stage->directory));
    snprintf(stage->path, sizeof(stage->path), "%s/replica.sock", stage->directory);
    cr_assert_eq(taker_listen(stage->taker, stage->path, &error), 0, "%s", error.text);
}

void stage_close(struct stage *stage)
{
    taker_check(stage->taker);
    taker_free(stage->taker);
    channel_set_done(&stage->channels);
    loop_free(stage->loop);
    cr_assert_eq(access(stage->path, F_OK), -1, "the socket's path is left behind");
    rmdir(stage->directory);
}

void stage_turns(struct stage *stage, int count)
{
    while (count-- > 0) {
        loop_run_once(stage->loop);
        taker_check(stage->taker);
    }
}

void stage_until(struct stage *stage, bool (*done)(void *owner), void *owner)
{
    for (int i = 0; i < TURN_LIMIT; i++) {
        if (done(owner))
            return;
        stage_turns(stage, 1);
    }
    cr_assert_fail("nothing came of it in %d turns", TURN_LIMIT);
}

/* ---- senders ---- */

uint64_t stream_id(uint32_t index, uint32_t generation)
{
    return (uint64_t)generation << 32 | index;
}

void sender_connect(struct sender *sender, struct stage *stage)
{
    *sender = (struct sender){.stage = stage, .page = {.descriptor = -1}};
    sender->descriptor = socket_connect_unix(stage->path);
    cr_assert_geq(sender->descriptor, 0);
}

void sender_open(struct sender *sender, struct stage *stage)
{
    struct wire_hello hello = {0};
    struct wire_header header;
    uint8_t room[256];
    sender_connect(sender, stage);
    wire_hello_fill(&hello, WIRE_ROLE_PROXY, 0, BYTES("proxy-1"));
    sender_send(sender, room, wire_hello_write(&hello, 0, 0, false, room));
    struct bytes payload = sender_expect(sender, WIRE_HELLO_FRAME, &header);
    cr_assert_eq(wire_hello_read(&hello, payload), 0);
    cr_assert_eq(hello.role, WIRE_ROLE_REPLICA);
    cr_assert_eq(hello.id, 7);
    cr_assert_not_null(sender->page.at, "no page of taken marks came with the hello");
}

void sender_close(struct sender *sender)
{
    page_close(&sender->page);
    if (sender->descriptor >= 0)
        socket_close(sender->descriptor);
    sender->descriptor = -1;
}

void sender_send(struct sender *sender, const void *at, size_t size)
{
    struct bytes rest = bytes_of(at, size);
    for (int i = 0; rest.size && i < TURN_LIMIT; i++) {
        struct iovec part = {(void *)rest.at, rest.size};
        ssize_t sent = socket_write(sender->descriptor, &part, 1);
        if (sent > 0)
            rest = bytes_skip(rest, (size_t)sent);
        else if (sent != -EAGAIN)
            return; /* the taker has closed: the test looks at that */
        stage_turns(sender->stage, 1);
    }
}

static void sender_receive(struct sender *sender)
{
    int came;
    ssize_t size = socket_read_with(sender->descriptor, sender->in + sender->in_size,
                                    sizeof(sender->in) - sender->in_size, &came);
    if (size > 0)
        sender->in_size += (size_t)size;
    else if (size != -EAGAIN)
        sender->ended = true;
    if (size > 0 && came >= 0)
        cr_assert_eq(page_map(&sender->page, came,
                              (size_t)sender->stage->settings.request_limit * sizeof(uint32_t)),
                     0);
}

struct bytes sender_expect(struct sender *sender, uint8_t type, struct wire_header *header)
{
    memmove(sender->in, sender->in + sender->used, sender->in_size - sender->used);
    sender->in_size -= sender->used;
    sender->used = 0;
    for (int i = 0; i < TURN_LIMIT; i++) {
        if (sender->in_size >= WIRE_HEADER_SIZE) {
            wire_header_read(header, sender->in);
            if (sender->in_size >= WIRE_HEADER_SIZE + header->size) {
                sender->used = WIRE_HEADER_SIZE + header->size;
                cr_assert_eq(header->type, type, "a %s came, not a %s",
                             wire_frame_name(header->type), wire_frame_name(type));
                return bytes_of(sender->in + WIRE_HEADER_SIZE, header->size);
            }
        }
        cr_assert_not(sender->ended, "the connection ended instead of a %s", wire_frame_name(type));
        stage_turns(sender->stage, 1);
        sender_receive(sender);
    }
    cr_assert_fail("no %s came", wire_frame_name(type));
    return (struct bytes){0};
}

bool sender_has_ended(struct sender *sender)
{
    for (int i = 0; i < TURN_LIMIT / 10 && !sender->ended; i++) {
        stage_turns(sender->stage, 1);
        sender->in_size = 0;
        sender_receive(sender);
    }
    return sender->ended;
}

void sender_request(struct sender *sender, uint64_t stream, struct bytes body, uint8_t flags)
{
    struct wire_request request = {.deployment = 1,
                                   .body_size = flags & WIRE_END ? body.size : UINT64_MAX,
                                   .method = BYTES("__call__"),
                                   .request_id = BYTES("id-1"),
                                   .body = body};
    uint8_t *room = malloc(wire_request_size(&request));
    sender_send(sender, room, wire_request_write(&request, flags, stream, false, room));
    free(room);
}

void sender_part(struct sender *sender, uint64_t stream, struct bytes body, uint8_t flags)
{
    struct wire_part part = {.body = body};
    uint8_t *room = malloc(wire_part_size(&part));
    sender_send(sender, room, wire_part_write(&part, flags, stream, false, room));
    free(room);
}

void sender_cancel(struct sender *sender, uint64_t stream)
{
    struct wire_cancel cancel = {.code = ERROR_CANCELLED};
    uint8_t room[64];
    sender_send(sender, room, wire_cancel_write(&cancel, 0, stream, false, room));
}

void sender_credit(struct sender *sender, uint64_t stream, uint32_t size)
{
    struct wire_credit credit = {.size = size};
    uint8_t room[64];
    sender_send(sender, room, wire_credit_write(&credit, 0, stream, false, room));
}

/* ---- user code ---- */

struct taker_request *stage_take(struct stage *stage)
{
    struct taker_request *taken;
    bool batched;
    for (int i = 0; i < TURN_LIMIT; i++) {
        if (taker_take(stage->taker, &taken, 1, &batched) == 1)
            return taken;
        stage_turns(stage, 1);
    }
    cr_assert_fail("nothing to take");
    return NULL;
}

void stage_answer(struct stage *stage, struct taker_request *request, struct bytes body)
{
    taker_answer(stage->taker, request,
                 &(struct taker_answer){.body_size = body.size, .body = body});
}
