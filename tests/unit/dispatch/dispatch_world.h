/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_world: one dispatch among a scripted controller and scripted replicas, all on one loop.
 *
 * The peers are real: they listen on Unix sockets in a directory of the test's own and speak frames
 * through channels.  The test is their script: it waits for a frame (peer_take), says one
 * (peer_say_*), and waits for an event of the dispatch (world_event).  Waiting runs turns of the
 * loop until the thing is there; nothing sleeps. After each turn dispatch_check looks at every
 * invariant.
 */
#ifndef MANTA_TEST_DISPATCH_WORLD_H
#define MANTA_TEST_DISPATCH_WORLD_H

#include "channel.h"
#include "dispatch.h"
#include "loop.h"
#include "mem.h"
#include "metrics.h"
#include "page.h"
#include "settings.h"
#include "wire.h"

enum { WORLD_REPLICAS = 3, WORLD_DEPLOYMENT = 7, WORLD_PENDING = 4096, WORLD_PATH_SIZE = 96 };

struct peer_frame {
    struct wire_header header;
    struct bytes payload; /* own copy */
};

struct world;

/* A process that the dispatch connects to. */
struct peer {
    struct world *world;
    char path[WORLD_PATH_SIZE];
    int listener; /* -1: nobody listens */
    struct loop_watch watch;
    struct channel channel;
    struct page taken;
    uint32_t accepted_count;                  /* connections so far */
    struct peer_frame pending[WORLD_PENDING]; /* received, a ring */
    uint32_t first, last;
    struct bytes held; /* payload given out last */
    /* What its hello says; the test may lie. */
    uint8_t role;
    uint64_t id;
    uint32_t frame_limit, stream_credit, taken_count;
    bool silent; /* says no hello */
    bool without_page;
    bool reads_nothing; /* does not receive */
};

struct world_event {
    struct dispatch_event is; /* slices point to copies */
    uint8_t *copy;
};

struct world {
    char directory[WORLD_PATH_SIZE];
    struct loop *loop;
    struct channel_set channels;
    struct settings settings;
    struct dispatch *dispatch;
    struct peer controller;
    struct peer replicas[WORLD_REPLICAS];
    uint64_t version;
    bool woken;
    bool pauses; /* events are left where they are */
    struct world_event events[WORLD_PENDING];
    uint32_t first, last;
    struct world_event held; /* given out last */
    uint64_t fail_at;        /* which allocation of dispatch_new fails; 0: none */
    uint32_t max_ongoing;
    int64_t max_queued;
    uint64_t mem_live;   /* before it began */
    uint32_t open_count; /* descriptors, likewise */
};

/* Replicas 1..WORLD_REPLICAS with their sockets not yet listening, and a controller that listens.
 */
struct world *world_new(void);
/* With the dispatch; settings may be changed between the two. */
void world_start(struct world *world);
bool world_try_start(struct world *world, struct error *reterr); /* with fail_at */
/* With a snapshot of the first `replica_count` replicas, connected. */
struct world *world_serving(uint32_t replica_count);
/* Ends everything and checks that no memory is left. */
void world_free(struct world *world);

void world_turn(struct world *world);
bool world_until(struct world *world, bool (*done)(struct world *world));
/* A few turns in which nothing of interest may happen. */
void world_idle(struct world *world);
/* The next event, which must be of this type; valid until the next call. */
const struct dispatch_event *world_event(struct world *world, enum dispatch_event_type type);
const struct dispatch_event *world_any_event(struct world *world);
bool world_has_event(const struct world *world);
void world_drop_events(struct world *world); /* the one given out last, too */
/* END must come for this owner with this code. */
void world_ends(struct world *world, void *owner, int code);

/* A snapshot of these replicas (bit i: replicas[i]). */
void world_publish(struct world *world, uint32_t replica_bits);
void world_publish_unavailable(struct world *world);
/* Publishes, and waits until the dispatch has it. */
void world_serve(struct world *world, uint32_t replica_bits);
void world_await_ready(struct world *world, uint32_t count);

/* A call of the test's deployment. */
struct dispatch_request world_request(const char *body);
struct dispatch_call *world_call(struct world *world, void *owner);
struct dispatch_call *world_submit(struct world *world, const struct dispatch_request *request,
                                   void *owner);

/* ---- peers ---- */

void peer_listen(struct peer *peer);
void peer_deafen(struct peer *peer); /* stops listening */
void peer_hang_up(
    struct peer *peer); /* closes the connection; what was said before still arrives */
void peer_read_again(struct peer *peer); /* after reads_nothing */
bool peer_has_frame(const struct peer *peer);
/* The next frame, which must be of this type; its slices are valid until the next call. */
struct wire_header peer_take(struct peer *peer, enum wire_frame type, struct bytes *ret_payload);
enum wire_frame peer_next(struct peer *peer); /* which type comes next */
/* The stream of the next frame, which must be a request. */
uint64_t peer_take_request(struct peer *peer);
/* Whichever replica has the next request. */
struct peer *world_take_request(struct world *world, uint64_t *ret_stream);

void peer_say(struct peer *peer, const uint8_t *frame, size_t size);
void peer_say_hello(struct peer *peer);
void peer_say_reply(struct peer *peer, uint64_t stream, uint8_t flags, uint16_t status,
                    const char *body);
void peer_say_error(struct peer *peer, uint64_t stream, int code, const char *text);
void peer_say_part(struct peer *peer, uint64_t stream, uint8_t flags, struct bytes body);
void peer_say_half_close(struct peer *peer, uint64_t stream, int code, struct bytes trailers);
void peer_say_credit(struct peer *peer, uint64_t stream, uint32_t size);
void peer_say_reject(struct peer *peer, uint64_t stream, int code, uint32_t queue_length);
void peer_say_pong(struct peer *peer, uint64_t token);
void peer_mark_taken(struct peer *peer, uint64_t stream);

#endif
