/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shout: a websocket in C.  Each text comes back in capitals; binary messages come back as they are; "bye" ends it.
 *
 *     manta run examples/libshout.so:shout
 *     python -m websockets ws://127.0.0.1:8000/
 *
 * A conversation stays on one thread for as long as it lasts, so that `threads` says how many there can be at once.  Where there are
 * many, an entry point returns instead and goes on from the callbacks of manta_websocket_accept.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

/* A plain request is told what this is. */
static void shout_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_string(request, "This is for websockets.\n");
}

static char *in_capitals(const struct manta_websocket_message *message)
{
    char *copy = malloc(message->size + 1);
    for (size_t i = 0; copy && i < message->size; i++)
        copy[i] = (char)toupper(((const unsigned char *)message->at)[i]);
    return copy;
}

/* Answers one message: 0 to go on. */
static int answer(struct manta_request *request, const struct manta_websocket_message *message)
{
    if (message->kind == MANTA_WEBSOCKET_BINARY)
        return manta_websocket_send_all(request, message->kind, message->at, message->size, 30);
    char *shouted = in_capitals(message);
    int code = shouted ? manta_websocket_send_all(request, message->kind, shouted, message->size, 30) : MANTA_EMEMORY;
    free(shouted);
    return code;
}

static void shout_websocket(void *state, struct manta_request *request)
{
    struct manta_websocket_message message = {MANTA_WEBSOCKET_MESSAGE};
    struct manta_error error;
    (void)state;
    if (manta_websocket_accept(request, NULL, NULL, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    while (manta_websocket_receive(request, &message, -1, NULL) == 0 && message.kind != MANTA_WEBSOCKET_CLOSED) {
        if (message.kind == MANTA_WEBSOCKET_TEXT && message.size == 3 && !memcmp(message.at, "bye", 3))
            break;
        if (answer(request, &message) < 0)
            break;
    }
    manta_websocket_close(request, 1000, "good bye", NULL);
}

MANTA_DEPLOYMENT(shout_server, .call = shout_call, .websocket = shout_websocket, .threads = 16, .max_ongoing_requests = 16);

MANTA_APPLICATION(shout)
{
    return manta_bind(app, &shout_server);
}
