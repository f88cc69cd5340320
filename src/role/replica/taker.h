/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker: a replica's server side, and the door through which user code takes work and answers.
 *
 * The taker owns the replica's listening socket, one session per connection (a proxy, a handle
 * owner), the replica mind, and the connection to the controller.  It knows no user code: whoever
 * runs it (the C runner; later a Python one) takes requests, answers them, and pulls events.  It
 * runs on a borrowed loop; every function is called with that loop's helm held where there is one.
 *
 *     session frames -> mind admits -> taker_take -> user code -> taker_answer / begin, write,
 * finish / fail -> frames
 *
 * Before a request is returned by taker_take its taken mark is set in the session's page (page.h),
 * so that its sender knows after a crash that user code may have seen it.  Pings, rejections,
 * cancels and drains are answered here, whatever user code does.
 */
#ifndef MANTA_ROLE_TAKER_H
#define MANTA_ROLE_TAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "bytes.h"
#include "channel.h"
#include "error.h"
#include "loop.h"
#include "parcel.h"
#include "settings.h"
#include "trace.h"

struct taker;

struct taker_config {
    struct loop *loop;
    struct channel_set *channels;
    const struct settings *settings;
    const char *controller_socket; /* path; null: none (tests) */
    uint64_t replica;              /* id */
    uint64_t version;              /* content hash, for adoption */
    uint64_t configuration;        /* the same of what may change while it runs */
    uint32_t rank, world_size;     /* its rank plus one; 0: not known */
    struct bytes app, deployment;  /* names; copied */
    uint32_t max_ongoing, batch_size, batch_concurrency;
    int64_t batch_wait_ns;
    bool batched;              /* requests to "__call__" come in batches */
    bool streams_body;         /* take a request before its body is whole */
    const struct trace *trace; /* for the mind; null: off; must outlive the taker */
    void (*wake)(void *owner); /* something to take, or an event: called at most once until both say
                                  there is nothing */
    void *owner;
};

struct taker *taker_new(const struct taker_config *config, struct error *reterr);
struct taker *taker_free(struct taker *taker);
/* Requests to "__call__" come in batches, or do not.  Before taker_listen. */
void taker_set_batched(struct taker *taker, bool batched);
/* Binds its Unix socket and serves.  Requests are admitted from here on. */
int taker_listen(struct taker *taker, const char *path, struct error *reterr);
/* Tells the controller: ready, or failed to start (again after every reconnection). */
void taker_report_ready(struct taker *taker);
void taker_report_failed(struct taker *taker, int code, struct bytes text);
void taker_report_health(struct taker *taker, bool healthy, struct bytes text);
/* True once every frame for the controller has left (before exiting after a failure). */
bool taker_reports_sent(const struct taker *taker);

/* ---- requests ---------------------------------------------------------------------------------
 */

/* One request, from taker_take until its answer ended.  Slices live as long as it does. */
struct taker_request {
    uint64_t id;  /* local, of the mind */
    uint8_t kind; /* enum wire_request_kind */
    uint8_t http_minor;
    bool stream;         /* the caller takes the answer in parts */
    bool cancelled;      /* the caller wants nothing any more */
    bool body_ended;     /* no more body comes */
    int body_error;      /* why it ended early, or 0 */
    int64_t deadline_ns; /* monotonic; 0: none */
    uint64_t body_size;  /* whole length, UINT64_MAX: not known */
    struct bytes method, path, query, route_prefix, content_type, request_id, trace, model_id,
        headers;
    struct bytes
        body; /* whole; with streams_body: what has come and was not consumed by taker_consume */
    /* The body came with pieces, or by reference: `body` is its value and lies in here.  It may be
     * kept for longer than the request by parcel_ref, and given back from any thread.  Null: `body`
     * is all. */
    struct parcel *parcel;
    struct arena arena; /* for its taker: freed with the request */
    void *owner;        /* for its taker */
    /* A websocket (WIRE_KIND_WEBSOCKET) that was cancelled: what its client closed with, 0: it had
     * not been accepted.  What came before is still in `body`. */
    uint16_t close_code;
    struct bytes close_reason;
};

/* Up to `room` requests as one call of user code (one, or a batch); 0 when nothing is due. */
uint32_t taker_take(struct taker *taker, struct taker_request **ret_requests, uint32_t room,
                    bool *ret_batched);
/* The batch function returned. */
void taker_batch_done(struct taker *taker);
/*
 * The entry point that was given the request with this id has returned.  Whether it was answered is
 * not asked: an answer may come later, or never.  From now on its place is free once its caller has
 * given up, so that requests that nobody answers do not fill the replica for ever.
 */
void taker_returned(struct taker *taker, uint64_t id);
/* User code of `request` entered / left: for "how long has it been running" in pongs. */
void taker_running(struct taker *taker, int64_t since_ns /* 0: nothing runs */);

struct taker_answer {
    int code;           /* 0, or the negative error that ended it */
    uint16_t status;    /* HTTP; 0 for calls */
    uint64_t body_size; /* of taker_begin: UINT64_MAX when not known */
    struct bytes content_type, headers, text;
    struct bytes body;
    /* The whole body instead of `body` (taker_answer), by reference where that can be; the taker
     * takes a reference of its own.  To an HTTP request only a flat one. */
    struct parcel *parcel;
};
/* The whole answer; the request is gone afterwards.  A body larger than a frame's part leaves in
   parts as credit comes: the taker keeps the copy it needs within the byte budget; ERROR_LIMIT past
   it (then the caller gets that error). */
int taker_answer(struct taker *taker, struct taker_request *request,
                 const struct taker_answer *answer);
/* A streamed answer: head, parts, end. */
int taker_begin(struct taker *taker, struct taker_request *request,
                const struct taker_answer *answer);
/* Takes all of `part` or nothing: ERROR_AGAIN (TAKER_ROOM comes later), ERROR_CANCELLED,
 * ERROR_LIMIT (larger than what is left of the process's byte budget), ERROR_MEMORY.  Of a part
 * that is larger than what may be sent now a copy is kept, and no other part is taken before it has
 * left. */
int taker_write(struct taker *taker, struct taker_request *request, struct bytes part);
/* The same for an item that is a parcel. */
int taker_write_parcel(struct taker *taker, struct taker_request *request, struct parcel *parcel);
/* Ends it; code != 0: broken off.  The request is gone afterwards. */
void taker_finish(struct taker *taker, struct taker_request *request, int code,
                  struct bytes trailers);
/* Breaks it off with the words that tell why.  What is kept is not sent; the request is gone
 * afterwards. */
void taker_break(struct taker *taker, struct taker_request *request, int code, struct bytes text);
/* streams_body: forget `size` consumed bytes of request->body and grant their credit. */
void taker_consume(struct taker *taker, struct taker_request *request, size_t size);

/* ---- events -----------------------------------------------------------------------------------
 */

enum taker_event_type {
    TAKER_NONE,
    TAKER_CANCELLED, /* request->cancelled became true after it was taken */
    TAKER_ROOM,      /* taker_write may go on */
    TAKER_BODY,      /* more of a streamed body came, or it ended */
    TAKER_CONFIGURE, /* a new configuration: body (target_configuration), valid until
                      * taker_configured, which must follow; max_ongoing is applied already */
    TAKER_DRAINED,   /* nothing is left, or the time is up: end the process */
};
struct taker_event {
    enum taker_event_type type;
    struct taker_request *request;
    struct bytes body;
};
bool taker_next(struct taker *taker, struct taker_event *ret_event);
/* What CONFIGURE told is in force (code 0), or why not; the controller hears of it. */
void taker_configured(struct taker *taker, int code, struct bytes text);
/* Begins to drain by itself (SIGTERM): as the controller's DRAIN. */
void taker_drain(struct taker *taker, int64_t timeout_ns);
/*
 * Says which models user code holds or loads now, the one used last first: ids of 1 to
 * WIRE_MODEL_ID_LIMIT bytes, of which the first WIRE_MODELS_LIMIT count.  Every sender hears it
 * before the answers that are given after this.  Said once before taker_listen, perhaps with none,
 * it makes senders look for replicas that hold a request's model.  0, or ERROR_MEMORY.
 */
int taker_models(struct taker *taker, const struct bytes *ids, size_t count);
uint32_t taker_ongoing(const struct taker *taker);
/* Where answers are born that need no copy: parcel_desk_slots, parcel_new.  Stands as long as the
 * taker does. */
struct parcel_desk *taker_desk(const struct taker *taker);
void taker_check(const struct taker *taker);

#endif
