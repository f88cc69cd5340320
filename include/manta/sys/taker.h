/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/sys/taker.h>: the door through which a run time of user code takes work and answers it.
 *
 * A replica is a process that the node starts with arguments and a document.  What calls the user's
 * functions in it is a *runner*: Manta's own for C (manta_replica_main) is one, an extension of an
 * interpreter another.  This is what a runner stands on: it reads the document, makes the network's
 * side of the replica (the taker), and from then on takes requests.  They are ordinary `struct
 * manta_request`s: everything of <manta/request.h> reads, answers, streams and cancels them, and
 * everything of <manta/handle.h> makes calls on their behalf.
 *
 *     manta_taker_open -> load and construct user code -> manta_taker_ready
 *                              | it fails                      |
 *                              v                               v
 *                       manta_taker_failed       take, run, answer ... until drained
 *                              |                               |
 *                              +-------> manta_taker_close <---+
 *
 * There are two ways to take.  A runner with *threads* lets each of them wait:
 *
 *     thread = manta_taker_thread_new(taker);
 *     while ((count = manta_taker_wait(thread, requests, room, &batched, -1, NULL)) > 0)
 *         ... run the user's code on the `count` requests: one, or a batch
 *     manta_taker_thread_free(thread);
 *
 * A waiting thread reads the network itself; nothing is handed from one thread to another.  A runner
 * with an *event loop* of its own watches one descriptor and takes what has come:
 *
 *     manta_taker_watch(taker);
 *     when manta_taker_descriptor(taker) is readable, or manta_taker_timeout_ms(taker) has passed:
 *         manta_taker_turn(taker);
 *         while (manta_taker_next(taker, &event)) ...
 *         while ((count = manta_taker_take(taker, requests, room, &batched)) > 0) ...
 *         manta_taker_flush(taker);
 *
 * While user code keeps the loop's thread (or the interpreter's lock) busy, somebody has to answer
 * pings, reject what is too much and note cancels: a standby thread of Manta's does, from 2 ms on,
 * when the code runs between manta_taker_enter and manta_taker_leave.
 *
 * THREADS.  Every function may be called by any thread unless it says otherwise.  Functions that
 * Manta calls (`done` of a call, `cancelled` and `room` of a request) run on whichever thread reads
 * the network, the standby included, while the lock of the taker is held: they must not wait for
 * anything that another thread holds while it calls Manta, such as an interpreter's lock.  They put
 * what they learn into a queue of the runner's and call manta_taker_ring.
 *
 * The weaker promise: everything below <manta/sys/> may change with any release.
 */
#ifndef MANTA_SYS_TAKER_H
#define MANTA_SYS_TAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/deployment.h>
#include <manta/error.h>
#include <manta/request.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_taker;
struct manta_taker_thread;

/* ---- life -------------------------------------------------------------------------------------- */

/* How a taker opens. */
struct manta_taker_options {
    size_t size;                /* set by MANTA_TAKER_OPTIONS */
    bool events;                /* default false: cancels, room and the like are acted upon and not told;
                                   true: they wait for manta_taker_next */
    bool keep_signals;          /* default false: SIGTERM drains, a second one ends the process; true: the
                                   runner handles it and calls manta_taker_drain */
    struct manta_taker *beside; /* default null; else the new one shares loop, lock and handles' network
                                   with this taker of the same process, which must be closed after it */
};
#define MANTA_TAKER_OPTIONS .size = sizeof(struct manta_taker_options)

/*
 * Opens the taker of the replica that the node's arguments tell of: reads the replica's document,
 * opens the log and the connection to the controller.  `options` may be null.  Before the process has
 * other threads; the arguments must be those of `main`, and the program is called
 * as the node calls manta-replica.  MANTA_EINVALID: not the arguments of a node, or a document that
 * is none; MANTA_ESYSTEM, MANTA_EMEMORY.  Nobody has heard of these: write the text to stderr and
 * exit with status 1, which the controller shows.
 */
MANTA_EXPORT int manta_taker_open(int argument_count, char **arguments, const struct manta_taker_options *options,
                                  struct manta_taker **ret_taker, struct manta_error *reterr);
/* The replica, for manta_replica_*; borrowed, valid until manta_taker_close. */
MANTA_EXPORT struct manta_replica *manta_taker_replica(struct manta_taker *taker);
/* What manta_replica_state gives: the runner's affair, null at first. */
MANTA_EXPORT void manta_taker_set_state(struct manta_taker *taker, void *state);

/* What the replica's document says.  Everything in it is borrowed from the taker until manta_taker_close. */
struct manta_taker_document {
    size_t             size;        /* set by the caller: sizeof; members beyond it are left alone */
    const char        *runner;      /* which runner it was written for: "c", ... */
    const char        *library;     /* path of a shared object or module; "" when there is none */
    const char        *symbol;      /* what to find in it; "" when there is none */
    const void        *code;        /* anything the runner understands (a pickle); null when there is none */
    size_t             code_size;   /* bytes of `code` */
    struct manta_value args;        /* the constructor's arguments, one array, checked (manta_replica_args reads it) */
    struct manta_value options;     /* the runner's own options, any value, checked; nil when there are none */
    const char        *user_config; /* JSON; null when there is none */
    int32_t            threads;     /* 1 to 256 */
    int32_t            max_ongoing_requests;
    int32_t            max_batch_size;
    int32_t            max_concurrent_batches;
    double             batch_wait_timeout_s;
    double             health_check_period_s;
    double             health_check_timeout_s;
    double             graceful_shutdown_timeout_s;
    bool               stream_body; /* requests come before their body is whole */
    int32_t            max_models;  /* -1: no limit */
    double             model_load_timeout_s; /* 0: none */
};
/* Fills in the caller's struct; its `size` is set before. */
MANTA_EXPORT void manta_taker_describe(const struct manta_taker *taker, struct manta_taker_document *document);

/* Requests to __call__ come in batches (manta_taker_wait and _take say so); off at first.  Before manta_taker_ready. */
MANTA_EXPORT void manta_taker_set_batched(struct manta_taker *taker, bool batched);
/*
 * What may change while the replica runs (Ray Serve's reconfigure).  What is new is in force in the
 * replica already (manta_replica_user_config, _rank, _world_size).
 */
struct manta_taker_configuration {
    size_t      size;                 /* set by the taker: sizeof */
    bool        user_config_changed;
    bool        rank_changed;
    const char *user_config;          /* JSON; null when there is none */
    int32_t     rank, world_size;     /* -1 and 0 when the controller gives none */
    int32_t     max_ongoing_requests; /* in force already */
    double      health_check_period_s;
    double      health_check_timeout_s;
    double      graceful_shutdown_timeout_s;
};
/* User code takes it: 0, or the code of why not; then the replica is replaced. */
typedef int (manta_taker_configure_function)(void *owner, const struct manta_taker_configuration *configuration,
                                             struct manta_error *reterr);
/*
 * A runner with threads: called by one of them in manta_taker_wait, between two requests of that thread, so that user code
 * runs side by side with no more of itself than it does anyway.  Before manta_taker_ready; null, and user code is told nothing.
 */
MANTA_EXPORT void manta_taker_set_configure(struct manta_taker *taker, manta_taker_configure_function *configure, void *owner);
/* A runner with an event loop: MANTA_TAKER_CONFIGURE was brought into force (text null), or why not.  Once for each. */
MANTA_EXPORT void manta_taker_configured(struct manta_taker *taker, const char *text);
/* User code stands: listens, and tells the controller.  Requests come from now on.  Once. */
MANTA_EXPORT int manta_taker_ready(struct manta_taker *taker, struct manta_error *reterr);
/*
 * User code could not be loaded or constructed: logs the text, tells the controller why (code: a
 * negative MANTA_E, usually MANTA_EUSER or MANTA_ELOAD) and waits until that is sent, at most 2
 * seconds.  Close, and exit with status 1.
 */
MANTA_EXPORT void manta_taker_failed(struct manta_taker *taker, int code, const char *text);
/* Tells the controller of the user's health check: well, or why not (the replica is then replaced). */
MANTA_EXPORT void manta_taker_healthy(struct manta_taker *taker);
MANTA_EXPORT void manta_taker_unhealthy(struct manta_taker *taker, const char *text);
/* Takes nothing new and ends what runs within graceful_shutdown_timeout_s, as when the controller says so. */
MANTA_EXPORT void manta_taker_drain(struct manta_taker *taker);
/* True once it is drained, or stopped: time for manta_taker_close. */
MANTA_EXPORT bool manta_taker_ended(struct manta_taker *taker);
/* Ends the waits of all threads at once; they return 0. */
MANTA_EXPORT void manta_taker_stop(struct manta_taker *taker);
/* Ends every call that is out, with MANTA_ECLOSED, while what their `done` uses is still there.  Also done by close. */
MANTA_EXPORT void manta_taker_end_calls(struct manta_taker *taker);
/* User code hangs somewhere and may come back to what is the taker's: close will leave its memory. */
MANTA_EXPORT void manta_taker_keep(struct manta_taker *taker);
/*
 * Ends the taker, its sockets and (the one that was opened first) the log.  Its threads, and the takers beside it, ended
 * before.  True: everything is freed.  False: user code holds requests that it has not answered, or manta_taker_keep was
 * called: the memory is left, since it may still be touched, and the process should end by _exit.  Null is fine.
 */
MANTA_EXPORT bool manta_taker_close(struct manta_taker *take_taker);

/*
 * A line into the replica's log, formatted by the runner; manta_replica_log formats its own.  level: 10 debug, 20 info,
 * 30 warning, 40 error; below the log's own level nothing is written.
 */
MANTA_EXPORT void manta_taker_log_line(struct manta_taker *taker, int level, const char *line, size_t size);

/* ---- models ------------------------------------------------------------------------------------ */

/*
 * manta_model_get of the requests loads and unloads by these from now on (<manta/model.h>); `unload` may be null.  They are given the state
 * of manta_taker_set_state and run on whichever thread needs a model.  Before manta_taker_ready, once: MANTA_EMEMORY.
 */
MANTA_EXPORT int manta_taker_set_models(struct manta_taker *taker, manta_load_model_function *load,
                                        manta_unload_model_function *unload, int32_t max_models, double load_timeout_s,
                                        struct manta_error *reterr);
/*
 * Unloads all, before the state goes.  False: a request that is not answered holds one, or one is still being loaded; then the
 * state must stay, and close will leave the memory (manta_taker_keep).
 */
MANTA_EXPORT bool manta_taker_end_models(struct manta_taker *taker);
/*
 * For a runner that holds models itself, instead of the above: tells those who send requests which ones there are or are being
 * loaded, the one used last first, whenever that changes; once before manta_taker_ready, perhaps with none.  Of the ids, 1 to
 * 200 bytes each, the first 1024 count.  Leaves at once.  MANTA_EINVALID: an id is empty or too long; MANTA_EMEMORY.
 */
MANTA_EXPORT int manta_taker_tell_models(struct manta_taker *taker, const char *const *ids, size_t count,
                                         struct manta_error *reterr);

/* ---- threads ----------------------------------------------------------------------------------- */

enum { MANTA_TAKER_ROOM = 256 /* requests that one take gives at most */ };

/* What the taker knows of one thread; used by that thread alone.  Null: memory. */
MANTA_EXPORT struct manta_taker_thread *manta_taker_thread_new(struct manta_taker *taker);
/* Ends it, and what it was running as by manta_taker_wait; null is fine; returns null. */
MANTA_EXPORT struct manta_taker_thread *manta_taker_thread_free(struct manta_taker_thread *take_thread);
/*
 * The work of a thread, over and over: what was given before counts as returned; answers that were
 * given are sent; then the thread waits until there is work or the taker has ended, at most
 * timeout_s seconds (negative: for ever).  The number of requests, up to `room`: one, or with
 * *ret_batched a batch; they count as running until the next call.  0: ended (manta_taker_ended),
 * or MANTA_ETIMEOUT in *reterr.
 *
 * Answers of user code that is quick (less than 50 us on average) are sent together when the thread
 * waits, or when the oldest is 50 us old; all others at once.
 */
MANTA_EXPORT size_t manta_taker_wait(struct manta_taker_thread *thread, struct manta_request **ret_requests, size_t room,
                                     bool *ret_batched, double timeout_s, struct manta_error *reterr);
/*
 * User code begins and ends on this thread by other ways than manta_taker_wait (a constructor, a
 * handler on an event loop): the standby steers in between, and pongs say for how long.  Not nested.
 */
MANTA_EXPORT void manta_taker_enter(struct manta_taker_thread *thread);
MANTA_EXPORT void manta_taker_leave(struct manta_taker_thread *thread);

/* ---- event loops ------------------------------------------------------------------------------- */

/* An event loop will watch the descriptor: Manta's own threads leave the network to it. 0, or MANTA_ESYSTEM. */
MANTA_EXPORT int manta_taker_watch(struct manta_taker *taker, struct manta_error *reterr);
/* Readable when a turn is due; for poll, epoll or an event loop, level-triggered.  -1 before manta_taker_watch. */
MANTA_EXPORT int manta_taker_descriptor(const struct manta_taker *taker);
/* Milliseconds until a turn is due by time; -1: none, 0: now.  Asked again after every turn and flush. */
MANTA_EXPORT int manta_taker_timeout_ms(struct manta_taker *taker);
/* One turn: reads all that is there and fires what is due, `done` of calls too; waits for nothing. */
MANTA_EXPORT void manta_taker_turn(struct manta_taker *taker);
/* Makes the descriptor readable.  Any thread, also inside a function that Manta calls. */
MANTA_EXPORT void manta_taker_ring(struct manta_taker *taker);
/*
 * Requests for one call of user code, up to `room`: one, or with *ret_batched a batch; 0 when none is
 * due.  Waits for nothing.  Until the next manta_taker_flush the answers of this thread are kept.
 */
MANTA_EXPORT size_t manta_taker_take(struct manta_taker *taker, struct manta_request **ret_requests, size_t room,
                                     bool *ret_batched);
/* The number of a request, which outlives it: for manta_taker_returned.  Never 0. */
MANTA_EXPORT uint64_t manta_taker_number(const struct manta_request *request);
/* manta_request_method as it came: not zero-terminated, nothing is copied. */
MANTA_EXPORT const char *manta_taker_method(const struct manta_request *request, size_t *ret_length);
/*
 * The function that was given this request is over, whether it answered or not.  From now on its place is free once its
 * caller has given up, so that requests that nobody answers do not fill the replica.
 */
MANTA_EXPORT void manta_taker_returned(struct manta_taker *taker, uint64_t number);
/* The function that was given a batch is over: the next may come. */
MANTA_EXPORT void manta_taker_batch_returned(struct manta_taker *taker);
/*
 * What this thread, which turns, puts from now on (answers, parts, calls) is kept until the next turn or flush and then sent in one
 * go; a turn is due at once.  For user code that runs between turns and has more to send than one thing.
 */
MANTA_EXPORT void manta_taker_hold(struct manta_taker *taker);
/* Sends everything that was put since the last flush or turn, in one go. */
MANTA_EXPORT void manta_taker_flush(struct manta_taker *taker);

/* What came, as it came: slices that are not zero-terminated, valid until the request is answered. */
struct manta_taker_slice {
    const char *at; /* null when size is 0 */
    size_t size;
};
struct manta_taker_head {
    bool is_http;
    bool stream; /* the caller takes the answer in parts */
    int http_minor;
    struct manta_taker_slice method, path, query, route_prefix, content_type, request_id, model_id, body;
    bool is_websocket; /* <manta/websocket.h>; is_http too */
};
/* The head of a request, and its body as far as it has come, without a copy. */
MANTA_EXPORT void manta_taker_look(const struct manta_request *request, struct manta_taker_head *ret_head);
/* Walks the header fields; *cursor is 0 at first.  False at the end. */
MANTA_EXPORT bool manta_taker_field(const struct manta_request *request, size_t *cursor,
                                    struct manta_taker_slice *ret_name, struct manta_taker_slice *ret_value);
/* A handle to any deployment of the instance, as those among the constructor's arguments; the caller owns it.  Null: memory. */
MANTA_EXPORT struct manta_handle *manta_taker_handle(struct manta_taker *taker, const char *app, const char *deployment);

/* A pointer of the runner's that goes with a request; null at first. */
MANTA_EXPORT void manta_taker_set_owner(struct manta_request *request, void *owner);
MANTA_EXPORT void *manta_taker_owner(const struct manta_request *request);

enum manta_taker_event_type {
    MANTA_TAKER_NONE,
    MANTA_TAKER_CANCELLED, /* nobody wants the request any more; its own calls are cancelled already */
    MANTA_TAKER_HAS_ROOM,  /* manta_request_write of it may go on */
    MANTA_TAKER_BODY,      /* more of a streamed body came, or it ended (stream_body) */
    MANTA_TAKER_CONFIGURE, /* configuration; answered by manta_taker_configured */
    MANTA_TAKER_DRAINED    /* nothing is left, or the time is up: close */
};
/* What happened beside work. */
struct manta_taker_event {
    enum manta_taker_event_type type;
    struct manta_request *request; /* of the first three; null when one of its functions has answered it meanwhile */
    void                 *owner;   /* of the first three: manta_taker_owner of the request */
    struct manta_taker_configuration configuration; /* of CONFIGURE; borrowed until manta_taker_configured */
};
/* The next event (options.events); false when there is none. */
MANTA_EXPORT bool manta_taker_next(struct manta_taker *taker, struct manta_taker_event *ret_event);

#ifdef __cplusplus
}
#endif
#endif
