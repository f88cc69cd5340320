/* SPDX-License-Identifier: Apache-2.0 */
/*
 * talker: websockets that do what the query says.
 *
 *     ?echo          comes back, from callbacks: no thread stays in it
 *     ?status=N      is refused with status N
 *     ?close=N       is accepted and closed with code N at the first message
 *     ?hold          is accepted and never receives, until the client is gone
 *     ?flood=N       N messages of 1,000 bytes as fast as the client reads them, then 1000
 *     ?protocol      accepts the subprotocol "chat"
 *     ?fail          is accepted, and user code fails
 *     /last          (a plain request) the code that the last conversation ended with, and how many
 * are open
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static atomic_int last_code, open_count;

struct talk {
    struct manta_request *request;
    long flood; /* messages still to be sent */
    int close;  /* code to close with at the first message; 0: echo */
    bool hold;
    struct manta_websocket_message kept; /* an echo that waits for room */
    void *kept_bytes;
};

static long number(struct manta_request *request, const char *key, long fallback)
{
    const char *at = strstr(manta_request_query(request), key);
    return at ? atol(at + strlen(key)) : fallback;
}

static void end(struct talk *talk, int code)
{
    struct manta_request *request = talk->request;
    free(talk->kept_bytes);
    free(talk);
    open_count--;
    manta_websocket_close(request, code, "", NULL);
}

/* False: it waits for room, or has ended. */
static bool send_kept(struct talk *talk)
{
    int code =
        manta_websocket_send(talk->request, talk->kept.kind, talk->kept_bytes, talk->kept.size);
    if (code == MANTA_EAGAIN)
        return false;
    free(talk->kept_bytes);
    talk->kept_bytes = NULL;
    return true;
}

static void on_arrival(void *owner)
{
    struct talk *talk = owner;
    struct manta_websocket_message message = {MANTA_WEBSOCKET_MESSAGE};
    if (talk->hold && !manta_request_cancelled(talk->request))
        return;
    while (!talk->kept_bytes && manta_websocket_receive(talk->request, &message, 0, NULL) == 0) {
        if (message.kind == MANTA_WEBSOCKET_CLOSED) {
            last_code = message.code;
            end(talk, 1000);
            return;
        }
        if (talk->close) {
            end(talk, talk->close);
            return;
        }
        talk->kept = message;
        talk->kept_bytes = malloc(message.size + 1);
        if (message.size)
            memcpy(talk->kept_bytes, message.at, message.size);
        send_kept(talk);
    }
}

static void on_room(void *owner)
{
    static const char BLOCK[1000] = "flood";
    struct talk *talk = owner;
    while (talk->flood > 0) {
        int code = manta_websocket_send(talk->request, MANTA_WEBSOCKET_BINARY, BLOCK, sizeof BLOCK);
        if (code == MANTA_EAGAIN)
            return;
        if (code < 0) {
            last_code = -code;
            end(talk, 1000);
            return;
        }
        if (--talk->flood == 0) {
            end(talk, 1000);
            return;
        }
    }
    if (talk->kept_bytes && send_kept(talk))
        on_arrival(talk);
}

static void talker_websocket(void *state, struct manta_request *request)
{
    struct manta_error error;
    long status = number(request, "status=", 0);
    const char *query = manta_request_query(request);
    (void)state;
    if (status) {
        manta_request_reply_http(request, (int)status, "text/plain", "refused", 7);
        return;
    }
    struct talk *talk = calloc(1, sizeof *talk);
    talk->request = request;
    talk->flood = number(request, "flood=", 0);
    talk->close = (int)number(request, "close=", 0);
    talk->hold = strstr(query, "hold");
    struct manta_websocket_events events = {MANTA_WEBSOCKET_EVENTS, .arrived = on_arrival,
                                            .room = on_room, .owner = talk};
    if (manta_websocket_accept(request, strstr(query, "protocol") ? "chat" : NULL, &events,
                               &error) < 0) {
        free(talk);
        manta_request_reply_http(request, 400, "text/plain", error.text, strlen(error.text));
        return;
    }
    if (strstr(query, "fail")) {
        free(talk);
        manta_request_fail(request, MANTA_EUSER, "as it was told");
        return;
    }
    open_count++;
    if (talk->flood)
        on_room(talk);
}

static void talker_call(void *state, struct manta_request *request)
{
    char text[64];
    (void)state;
    snprintf(text, sizeof text, "%d %d", atomic_load(&last_code), atomic_load(&open_count));
    manta_request_reply_string(request, text);
}

MANTA_DEPLOYMENT(talker_server, .call = talker_call, .websocket = talker_websocket,
                 .max_ongoing_requests = 1000);

MANTA_APPLICATION(talker)
{
    struct manta_deployment deployment = options_of(app, &talker_server);
    return manta_bind(app, &deployment, manta_string(manta_app_argument(app, "version", "1")));
}
