/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_talk: what the engine makes of a client's bytes, as lines that do not depend on how the
 * bytes were cut: one for each whole message, control frame and verdict.
 */
#ifndef MANTA_TEST_WEBSOCKET_TALK_H
#define MANTA_TEST_WEBSOCKET_TALK_H

#include "text.h"
#include "websocket.h"

struct websocket_talk {
    struct websocket *websocket;
    struct text said, message;
    bool over; /* closed or refused */
};

void websocket_talk_init(struct websocket_talk *talk, const struct websocket_config *config);
void websocket_talk_done(struct websocket_talk *talk);
void websocket_talk_hear(struct websocket_talk *talk, struct bytes bytes);
/* A client's frame with a mask: its size.  `first`: the bits of the first byte. */
size_t websocket_talk_frame(uint8_t first, struct bytes payload, uint8_t *room);

#endif
