/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_stage: one proxy between clients, a replica and a controller that a test plays byte by byte
 * and frame by frame, on one loop in one thread.
 *
 * The peers are raw sockets, so that they can lie, stop reading and leave.  Whoever waits runs
 * turns of the proxy's loop until the thing is there; after each turn proxy_check looks at every
 * invariant.
 */
#ifndef MANTA_TEST_PROXY_STAGE_H
#define MANTA_TEST_PROXY_STAGE_H

#include "http1.h"
#include "metrics.h"
#include "page.h"
#include "proxy.h"
#include "wire.h"

enum { STAGE_DEPLOYMENT = 7, STAGE_ROOM = 4 << 20 };

/* A connection whose bytes are collected. */
struct line {
    int descriptor; /* -1: none */
    uint8_t in[STAGE_ROOM];
    size_t size, used; /* bytes of `in`; those that were taken */
    bool ended;        /* end of file came */
    bool reset;        /* the kernel dropped it */
};

struct stage {
    struct proxy proxy;
    struct proxy_options options;
    char directory[64], controller_path[96], replica_path[96];
    int listener, controller_listener, replica_listener;
    struct line controller, replica;
    struct page marks;
    size_t credited; /* bytes of credit that the proxy has given for answers */
    uint64_t version;
    bool collects;     /* the deployment takes bodies whole, not as they come */
    uint64_t mem_live; /* before it began */
};

/* A client of the proxy, and the answer that it read last. */
struct client {
    struct stage *stage;
    struct line line;
    struct http1_answer_head answer; /* slices of line.in */
    uint8_t body[STAGE_ROOM];
    size_t body_size;
    bool whole; /* of the answer: its framing was kept to the end */
};

/* Settings may be changed between stage_new and stage_start. */
struct stage *stage_new(void);
/* Opens the proxy, publishes an application at "/" and connects the replica. */
void stage_start(struct stage *stage);
struct stage *stage_serving(void);
/* Closes the proxy and checks that nothing is left. */
void stage_free(struct stage *stage);
void stage_turns(struct stage *stage, int count);
/* Turns until `done` holds; fails the test when nothing comes of it. */
void stage_until(struct stage *stage, bool (*done)(void *owner), void *owner);

/* ---- clients ---- */

struct client *client_new(struct stage *stage);
struct client *client_free(struct client *client);
void client_leave(struct client *client); /* closes its end */
void client_say(struct client *client, const char *text);
void client_send(struct client *client, struct bytes bytes); /* all of it, while the proxy reads */
/* As much as fits into the socket's buffers now. */
size_t client_send_some(struct client *client, struct bytes bytes);
/* The next answer, its body included: true when it is whole, false when the connection ended
 * inside. */
bool client_answer(struct client *client, bool head_request);
int client_status(struct client *client); /* of the next answer, which must be whole */
bool client_body_is(const struct client *client, const char *text);
/* Field of the answer, or empty. */
struct bytes client_field(const struct client *client, const char *name);
void client_expect_continue(struct client *client); /* exactly a 100 Continue comes next */
/* Exactly these bytes come next. */
void client_expect(struct client *client, struct bytes bytes);
/* What comes next up to an empty line, as text; valid until the next call. */
const char *client_head(struct client *client);
/* Nothing comes in a good many turns. */
bool client_hears_nothing(struct client *client);
/* The proxy ends the connection, and nothing comes before. */
bool client_sees_end(struct client *client);

/* ---- the replica ---- */

/* The next frame but for credit and pings; valid until the next call. */
struct bytes replica_any_frame(struct stage *stage, struct wire_header *ret_header);
struct bytes replica_frame(struct stage *stage, enum wire_frame type,
                           struct wire_header *ret_header); /* which must be of this type */
/* A request must come next: its stream. */
uint64_t replica_request(struct stage *stage, struct wire_request *ret_request);
bool replica_hears_nothing(struct stage *stage);
void replica_say(struct stage *stage, const uint8_t *frame, size_t size);
void replica_reply(struct stage *stage, uint64_t stream, uint16_t status, const char *body);
void replica_reply_with(struct stage *stage, uint64_t stream, const struct wire_reply *reply,
                        uint8_t flags);
void replica_fail(struct stage *stage, uint64_t stream, int code, const char *text);
/* A streamed answer: the head (UINT64_MAX: length not known), parts, the end. */
void replica_begin(struct stage *stage, uint64_t stream, uint64_t body_size);
void replica_part(struct stage *stage, uint64_t stream, struct bytes part, uint8_t flags);
void replica_end(struct stage *stage, uint64_t stream, int code);
void replica_credit(struct stage *stage, uint64_t stream, uint32_t size);

/* `size` bytes of a pattern; static. */
struct bytes pattern(size_t size);

#endif
