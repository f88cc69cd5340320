/* SPDX-License-Identifier: Apache-2.0 */
#include "websocket_talk.h"

#include <stdio.h>
#include <string.h>

#include "ensure.h"

enum { SAID_MOST = 1 << 24, SHOWN_MOST = 200 };

void websocket_talk_init(struct websocket_talk *talk, const struct websocket_config *config)
{
    *talk = (struct websocket_talk){.websocket = websocket_new(config)};
    ensure(talk->websocket);
    text_init(&talk->said, SAID_MOST);
    text_init(&talk->message, SAID_MOST);
}

void websocket_talk_done(struct websocket_talk *talk)
{
    talk->websocket = websocket_free(talk->websocket);
    text_done(&talk->said);
    text_done(&talk->message);
}

static void say(struct websocket_talk *talk, const char *what, struct bytes bytes)
{
    text_print(&talk->said, "%s %zu ", what, bytes.size);
    text_add_json(&talk->said, bytes_head(bytes, SHOWN_MOST));
    text_add_byte(&talk->said, '\n');
}

static void say_event(struct websocket_talk *talk, const struct websocket_event *event)
{
    char what[40];
    switch (event->type) {
    case WEBSOCKET_PART:
        text_add(&talk->message, event->bytes);
        if (event->last) {
            say(talk, event->text ? "text" : "binary", text_bytes(&talk->message));
            text_clear(&talk->message);
        }
        break;
    case WEBSOCKET_PING:
        say(talk, "ping", event->bytes);
        break;
    case WEBSOCKET_PONG:
        say(talk, "pong", event->bytes);
        break;
    default:
        snprintf(what, sizeof what, "%s %d", event->type == WEBSOCKET_CLOSE ? "close" : "refused",
                 event->code);
        say(talk, what, event->bytes);
        talk->over = true;
    }
}

void websocket_talk_hear(struct websocket_talk *talk, struct bytes bytes)
{
    struct websocket_event event;
    while (websocket_next(talk->websocket, &bytes, &event) != WEBSOCKET_MORE) {
        ensure(!talk->over);
        say_event(talk, &event);
    }
    ensure(talk->over || bytes.size == 0);
}

size_t websocket_talk_frame(uint8_t first, struct bytes payload, uint8_t *room)
{
    static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t *at = room;
    *at++ = first;
    if (payload.size < 126) {
        *at++ = (uint8_t)(0x80 | payload.size);
    } else if (payload.size < 65536) {
        *at++ = 0x80 | 126;
        *at++ = (uint8_t)(payload.size >> 8);
        *at++ = (uint8_t)payload.size;
    } else {
        *at++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            *at++ = (uint8_t)((uint64_t)payload.size >> shift);
    }
    memcpy(at, MASK, 4);
    at += 4;
    for (size_t i = 0; i < payload.size; i++)
        *at++ = payload.at[i] ^ MASK[i % 4];
    return (size_t)(at - room);
}
