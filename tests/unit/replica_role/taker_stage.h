/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_stage: one taker, and senders that a test plays frame by frame, on one loop in one thread.
 */
#ifndef TAKER_STAGE_H
#define TAKER_STAGE_H

#include "page.h"
#include "taker.h"
#include "wire.h"

struct stage {
    struct loop *loop;
    struct channel_set channels;
    struct settings settings;
    struct taker *taker;
    char directory[64], path[108];
    int woken;
};

/* A sender's end of a connection: raw bytes, so that it can lie. */
struct sender {
    struct stage *stage;
    int descriptor;
    uint8_t in[1 << 20];
    size_t in_size, used;
    struct page page;
    bool ended;
};

/* `config` may be null; loop, channels, settings and wake are the stage's. */
void stage_open(struct stage *stage, const struct taker_config *config);
void stage_close(struct stage *stage);
/* Turns until `done` holds; fails the test when nothing comes of it. */
void stage_until(struct stage *stage, bool (*done)(void *owner), void *owner);
void stage_turns(struct stage *stage, int count);

void sender_open(struct sender *sender, struct stage *stage); /* both hellos said */
void sender_connect(struct sender *sender, struct stage *stage);
void sender_close(struct sender *sender);
void sender_send(struct sender *sender, const void *at, size_t size);
/* The next frame; its payload is valid until the next call.  Fails the test when none comes. */
struct bytes sender_expect(struct sender *sender, uint8_t type, struct wire_header *ret_header);
bool sender_has_ended(struct sender *sender);
void sender_request(struct sender *sender, uint64_t stream, struct bytes body, uint8_t flags);
void sender_part(struct sender *sender, uint64_t stream, struct bytes body, uint8_t flags);
void sender_cancel(struct sender *sender, uint64_t stream);
void sender_credit(struct sender *sender, uint64_t stream, uint32_t size);
/* A stream id as a pool gives it. */
uint64_t stream_id(uint32_t index, uint32_t generation);

/* Takes exactly one request, waiting for it. */
struct taker_request *stage_take(struct stage *stage);
void stage_answer(struct stage *stage, struct taker_request *request, struct bytes body);

#endif
