/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/websocket.h>: a websocket inside a deployment's code (RFC 6455).
 *
 * A client that asks for a websocket comes as a request to the deployment's `websocket` entry point:
 *
 *     static void chat_websocket(void *state, struct manta_request *request)
 *     {
 *         struct manta_websocket_message message = {MANTA_WEBSOCKET_MESSAGE};
 *         if (manta_websocket_accept(request, NULL, NULL, NULL) < 0) ...
 *         while (manta_websocket_receive(request, &message, -1, NULL) == 0 && message.kind != MANTA_WEBSOCKET_CLOSED)
 *             manta_websocket_send_all(request, message.kind, message.at, message.size, -1);
 *         manta_websocket_close(request, 1000, "", NULL);
 *     }
 *     MANTA_DEPLOYMENT(chat, .call = chat_call, .websocket = chat_websocket, .threads = 16);
 *
 * What the client asked for is read as of any request (path, header fields, ...).  Before it is accepted it may be refused by any
 * answer of <manta/request.h>: manta_request_reply_http(request, 403, ...).  From then on it is a conversation until
 * manta_websocket_close, after which the request is dead; it counts against max_ongoing_requests for as long.
 *
 * An entry point may stay in the conversation, on one of the deployment's `threads`, or return and go on from the callbacks of
 * manta_websocket_accept.  One thread at a time per request.
 *
 * Frames, pings, compression and limits are Manta's affair.  A client that does not read makes
 * manta_websocket_send say MANTA_EAGAIN; a deployment that does not receive makes the client wait.
 */
#ifndef MANTA_WEBSOCKET_H
#define MANTA_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>
#include <manta/request.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The client asks for a websocket; manta_request_is_http is true of it too. */
MANTA_EXPORT bool manta_request_is_websocket(const struct manta_request *request);

/* Called on some thread of the replica; they may not block. */
struct manta_websocket_events {
    size_t size;                  /* set by MANTA_WEBSOCKET_EVENTS */
    void (*arrived)(void *owner); /* manta_websocket_receive may have something, or the client is gone; null: nobody asks */
    void (*room)(void *owner);    /* manta_websocket_send may go on after MANTA_EAGAIN; null: nobody asks */
    void *owner;
};
#define MANTA_WEBSOCKET_EVENTS .size = sizeof(struct manta_websocket_events)

/*
 * Accepts it: status 101, with the header fields of manta_request_add_header.  `subprotocol` is one that the client offered in
 * Sec-WebSocket-Protocol, or null for none.  `events` may be null.  0; MANTA_EINVALID: it is no websocket, or the subprotocol was not
 * offered; MANTA_EANSWERED: it was accepted already; MANTA_EMEMORY, MANTA_ELIMIT.
 */
MANTA_EXPORT int manta_websocket_accept(struct manta_request *request, const char *subprotocol,
                                        const struct manta_websocket_events *events, struct manta_error *reterr);

/* What a message is. */
enum manta_websocket_kind {
    MANTA_WEBSOCKET_TEXT = 1,   /* UTF-8, not zero-terminated */
    MANTA_WEBSOCKET_BINARY = 2,
    MANTA_WEBSOCKET_CLOSED = 8  /* the conversation is over: code and reason */
};
/* What manta_websocket_receive fills in. */
struct manta_websocket_message {
    size_t size_of;                 /* set by MANTA_WEBSOCKET_MESSAGE */
    enum manta_websocket_kind kind;
    int code;                       /* CLOSED: the client's code, 1005: it told none, 1006: it vanished, 1012: the replica drains, ... */
    const void *at;                 /* bytes of the message, or the reason; valid until the next receive, null when size is 0 */
    size_t size;
};
#define MANTA_WEBSOCKET_MESSAGE .size_of = sizeof(struct manta_websocket_message)

/*
 * The next message of the client, whole; waits for it at most timeout_s seconds (negative: for ever, 0: not at all).  After CLOSED it
 * says CLOSED again.  0; MANTA_ETIMEOUT (with 0 seconds *reterr is left as it was); MANTA_EMEMORY; MANTA_EINVALID: not accepted, or a callback that may not wait.
 */
MANTA_EXPORT int manta_websocket_receive(struct manta_request *request, struct manta_websocket_message *message, double timeout_s,
                                         struct manta_error *reterr);
/*
 * A message to the client, text (UTF-8) or binary; copied.  0; MANTA_EAGAIN: taken not at all, the client reads too slowly;
 * MANTA_ECANCELLED: the conversation is over; MANTA_EINVALID: not accepted, a wrong kind, text that is not UTF-8; MANTA_ELIMIT: larger
 * than the replica may hold; MANTA_EMEMORY.
 */
MANTA_EXPORT int manta_websocket_send(struct manta_request *request, enum manta_websocket_kind kind, const void *at, size_t size);
/* The same; waits for room at most timeout_s seconds (negative: for ever): also MANTA_ETIMEOUT. */
MANTA_EXPORT int manta_websocket_send_all(struct manta_request *request, enum manta_websocket_kind kind, const void *at, size_t size,
                                          double timeout_s);
/*
 * Ends the conversation behind what was sent, and the request with it.  Code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; reason: UTF-8,
 * at most 123 bytes, null for none.  0; MANTA_ECANCELLED: the client had ended it.  MANTA_EINVALID: a wrong code or reason, or not
 * accepted; then the request lives on.
 */
MANTA_EXPORT int manta_websocket_close(struct manta_request *request, int code, const char *reason, struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
