/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy: from client connections to the dispatch and back; one thread, one loop.
 *
 *     listener.c           accepts
 *     connection.c         what a client sends: a phase with a time limit
 *     connection_output.c  what it is sent
 *     exchange.c           one request: a call of the dispatch, or an answer of our own
 *     exchange_slot.c      a large body on its way in
 *     exchange_answer.c    and its answer
 *     upgrade.c            the handshake of a websocket
 *     dialogue.c           an accepted one: what its client says, and how it ends
 *     dialogue_answer.c    and what the replica says
 *     local.c              answers of our own: errors, /-/healthz, /-/routes
 *     access.c             the access log
 *     proxy_check.c        invariants
 *
 * A connection is on exactly one phase list (a state is the list you are on), in the order of
 * entering it; since each phase has one time limit, the first of a list is the next to run out, and
 * one timer serves all.
 */
#ifndef MANTA_ROLE_PROXY_H
#define MANTA_ROLE_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"
#include "channel.h"
#include "dispatch.h"
#include "http1.h"
#include "list.h"
#include "parent.h"
#include "loop.h"
#include "parcel.h"
#include "pool.h"
#include "rng.h"
#include "settings.h"
#include "websocket.h"

enum phase {
    PHASE_IDLE, /* between requests: http_keep_alive_ms */
    PHASE_HEAD, /* part of a head is here: http_head_timeout_ms since its first byte */
    PHASE_BODY, /* waiting for the client's body: http_progress_timeout_ms since its last byte */
    PHASE_BUSY, /* waiting for a replica: no limit here, the dispatch has the request's deadline */
    /* The client does not take what we write, or what may not be written yet has become too much:
     * http_progress_timeout_ms since it last took some. */
    PHASE_WRITE,
    PHASE_OPEN,    /* a websocket: websocket_ping_interval_ms since the client's last byte */
    PHASE_PING,    /* it was pinged: websocket_ping_timeout_ms */
    PHASE_CLOSING, /* it was sent a close: websocket_close_timeout_ms until its own */
    PHASE_LINGER,  /* answered and closing: waiting for the client's end, LINGER_MS */
    PHASE_COUNT
};

enum {
    LINGER_MS = 2000,
    CONNECTION_IN_SIZE = 16384, /* first read buffer; grows to the head's limit */
    OUT_HIGH = 262144, /* unsent bytes of a connection above which no more is produced for it */
    REQUEST_ID_SIZE = 128,
    DISCARD_LIMIT =
        1 << 20 /* rest of an unwanted body that is read and dropped to keep a connection */
};

struct proxy;
struct connection;

struct proxy_options {
    const char *directory, *controller, *log_directory, *log_encoding;
    int number, listen_descriptor, log_level;
    struct parent_bond bond; /* of the process to its node */
    bool log_to_stderr;
    const struct trace *trace; /* for the router; null: off */
};
enum { PROXY_NAME_SIZE = 32 };

/* A websocket, from the client's handshake to the end; its exchange is the only one of its
 * connection. */
struct dialogue {
    struct websocket *engine; /* null until the replica accepts */
    struct websocket_deflate deflate;
    uint8_t accept[WEBSOCKET_ACCEPT_SIZE]; /* the answer to the client's key */
    bool leaves;                           /* the replica drains */
    bool pinged;                           /* since the client's last byte */
    bool close_sent;                       /* nothing is written behind it */
    bool part_held;                        /* `part` waits for room at the replica */
    struct websocket_event part;           /* its bytes are the engine's */
    struct buffer *rest; /* of a record that the replica's channel took only in part */
    size_t rest_start, rest_end;
    struct websocket_record_reader reader; /* of what the replica says */
};

/* One request and its answer; on its connection's list in the order of arrival. */
/* Bytes of an answer, and a large part to be written behind them from where it lies. */
struct output_segment {
    struct list_link link; /* on exchange->segments */
    struct buffer *bytes;
    size_t size;
    struct parcel *parcel; /* null: nothing yet */
    size_t cost;           /* credit that goes back when the parcel has left */
};

struct exchange {
    struct list_link link;
    struct connection *connection;
    struct dispatch_call *call; /* null: not sent, or over */
    int64_t begin_ns;
    enum http1_method method;
    uint8_t minor;
    bool safe;                  /* may run beside its neighbours */
    bool keep_alive;            /* the connection may go on behind it */
    bool body_done;             /* the request's body is whole, or nobody wants it */
    bool discard;               /* the rest of the body is dropped */
    bool expects;               /* the client waits for 100 Continue */
    bool answered;              /* the head of the answer is written */
    bool over;                  /* the answer is whole */
    bool broken;                /* the answer broke off: the connection must close behind it */
    enum http1_framing framing; /* of the answer */
    uint16_t status;
    size_t ungranted;     /* answer bytes written to `out` whose credit is not given back yet */
    uint64_t answer_left; /* of HTTP1_FRAMING_LENGTH: bytes that must still come */
    struct slot *slot;    /* the body is received here, and sent on when it is whole */
    size_t slot_size, slot_filled;
    struct dialogue *dialogue; /* it asks for a websocket, or is one; null: neither */
    bool tells_upgrade;        /* the answer names the protocol to upgrade to */
    struct buffer *head; /* with `slot`: the request's head is parsed again when it is sent on */
    size_t head_start, head_size;
    struct list segments;   /* struct output_segment: what waits behind the connection's tail */
    struct buffer *pending; /* the answer so far, while earlier exchanges are not over */
    struct parcel *tail;    /* its body, behind `pending` */
    size_t pending_size;
    char request_id[REQUEST_ID_SIZE];
    uint8_t request_id_size;
    char method_name[16];
    char route[96]; /* for the access log: the matched prefix */
};

struct connection {
    struct list_link phase_link;
    struct list_link starved_link;
    struct list_link dirty_link; /* has something to write in this turn, or to parse */
    struct proxy *proxy;
    struct loop_watch watch;
    int descriptor;
    enum phase phase;
    int64_t phase_ns; /* entered, or last progress in it */
    struct buffer *in;
    size_t in_start, in_end;
    size_t scanned; /* of http1_head_parse */
    size_t needed;  /* bytes of `in` that must be there before it is worth parsing again */
    size_t held;    /* body bytes at in_start that the engine has given out and the exchange has no
                       room for */
    struct http1_body body; /* of the newest exchange */
    struct list exchanges;  /* oldest first: the first one writes */
    struct buffer *out;
    size_t out_start, out_end;
    struct parcel *tail; /* an answer's body, to be written behind `out` from where it lies */
    size_t tail_start, tail_cost;
    bool reading;       /* LOOP_READ asked for */
    bool blocked;       /* the kernel took less than we had: LOOP_WRITE asked for */
    bool in_body;       /* the newest exchange's body is not whole */
    bool closing;       /* no further request is parsed; closes when the last answer has left */
    bool client_closes; /* the client said that the newest request is its last */
    bool linger;        /* read and drop before closing */
    bool continued;     /* 100 Continue was said for the head at in_start */
    bool waits;         /* the head at in_start is whole: it begins when no exchange is before it */
    bool closed;        /* descriptor is shut; freed, with its exchanges, at the end of the turn */
};

struct proxy {
    struct loop *loop;
    struct channel_set channels;
    struct dispatch *dispatch;
    struct settings settings;
    struct http1_limits limits;
    struct buffer_store *buffers;
    struct pool connections, exchanges;
    struct list phases[PHASE_COUNT];
    struct list dirty;
    struct list starved; /* of starved_link: not read because the byte budget is used up */
    struct list closed;  /* phase_link of closed connections */
    struct loop_turn turn;
    struct loop_timer timer;
    int64_t lenient_until_ns; /* no time limit runs out before */
    struct loop_watch listener;
    int listen_descriptor, reserve_descriptor;
    bool accepting, draining, populated;
    bool waiting; /* for the first snapshot, before anything is accepted */
    struct loop_timer accept_timer, drain_timer;
    struct rng rng;
    char date[30];
    int64_t date_s;
    struct http1_head head; /* scratch of the parser */
    uint8_t *scratch;       /* field block of a request: SCRATCH_SIZE */
    int exit_code;
    bool access_log;
    bool woken;              /* the dispatch has events */
    uint32_t dialogue_count; /* accepted ones */
};
enum { SCRATCH_SIZE = 131072 };

/* proxy_run.c */
int proxy_run(const struct proxy_options *options);

/* proxy.c */
/* `proxy` is zeroed but for its settings.  The listening descriptor stays the caller's.  0 or an
 * error code; proxy_close is due in both cases. */
int proxy_open(struct proxy *proxy, const struct proxy_options *options, uint64_t seed,
               struct error *reterr);
void proxy_close(struct proxy *proxy);
void proxy_name(const struct proxy_options *options, char ret_name[PROXY_NAME_SIZE]);
void proxy_drain(struct proxy *proxy);
void proxy_check_drained(struct proxy *proxy);
struct bytes proxy_date(struct proxy *proxy);
bool proxy_has_budget(const struct proxy *proxy);

/* listener.c */
int listener_open(struct proxy *proxy, struct error *reterr);
void listener_close(struct proxy *proxy);
void listener_resume(struct proxy *proxy); /* room again */
void listener_begin(struct proxy *proxy);  /* the first snapshot is here, or is not waited for */

/* connection.c */
void connection_open(struct proxy *proxy, int descriptor);
void connection_process(struct connection *connection); /* parses and forwards what has come */
void connection_close(struct connection *connection);
void connection_lost(struct connection *connection); /* the client left, or its connection broke */
void connection_free(struct connection *connection);
void connection_dirty(struct connection *connection);
void connection_enter(struct connection *connection, enum phase phase);
/* Moves to the phase that its state asks for; `progress` renews the time of a phase that counts
 * from the last byte. */
void connection_settle(struct connection *connection, bool progress);
void connection_timeout(struct connection *connection);
/* 100 Continue, when the client waits for it and nothing is to be written before. */
void connection_say_continue(struct connection *connection, struct exchange *exchange);
struct bytes connection_input(const struct connection *connection);
/* Reads only while somebody has use, and the process room, for the bytes. */
void connection_watch(struct connection *connection);
void connection_feed(struct connection *connection); /* there may be room again */

/* connection_output.c */
void connection_flush(struct connection *connection);
/* Appends to what is to be written; false (and the connection is closed) when memory lacks. */
uint8_t *connection_room(struct connection *connection, struct exchange *exchange, size_t size);
void connection_wrote(struct connection *connection, struct exchange *exchange, size_t size);
size_t connection_unsent(const struct connection *connection);
/* A large part of the oldest exchange's answer, from where it lies; takes the reference over.  What
 * the exchange writes behind it waits until it has left; `cost` goes back as credit then. */
void connection_write_tail(struct connection *connection, struct exchange *exchange,
                           struct parcel *parcel, size_t cost);

/* exchange.c */
struct exchange *exchange_new(struct connection *connection);
void exchange_free(struct exchange *exchange);
/* `body` is all of it when `whole`, else empty, and exchange_body follows. */
void exchange_begin(struct exchange *exchange, const struct http1_head *head, struct bytes body,
                    bool whole);
/* Body bytes; returns how many were used (fewer: wait for room). */
size_t exchange_body(struct exchange *exchange, struct bytes data);
/* False: there is none, and the connection is made dirty when there is some. */
bool exchange_has_body_room(struct exchange *exchange);
void exchange_body_end(struct exchange *exchange);
void exchange_event(struct exchange *exchange, const struct dispatch_event *event);
/* Nobody wants the answer any more: the call ends, the exchange stays. */
void exchange_drop_call(struct exchange *exchange, int code);
/* Its turn to write has come: what was pending moves to the connection. */
void exchange_promote(struct exchange *exchange);
void exchange_granted(struct exchange *exchange);
/* Of a large part that has left. */
void exchange_granted_part(struct exchange *exchange, size_t cost);
void exchange_drop_segments(struct exchange *exchange);

/* A whole head, and the route that it has now. */
void exchange_submit(struct exchange *exchange, const struct http1_head *head,
                     struct deployment_id deployment, struct bytes prefix, struct bytes body,
                     struct parcel *parcel, bool whole);

/* exchange_slot.c */
/* A place for the body, where that is what the deployment wants and there is one. */
bool exchange_take_slot(struct exchange *exchange, const struct http1_head *head,
                        struct deployment_id deployment);
/* Its head lies there, and stays. */
void exchange_keep_head(struct exchange *exchange, struct buffer *buffer, size_t start,
                        size_t size);
/* Where the next bytes of the body are to be received, and that `size` of them were. */
uint8_t *exchange_slot_room(struct exchange *exchange, size_t *ret_size);
void exchange_slot_filled(struct exchange *exchange, size_t size);
void exchange_send_slot(struct exchange *exchange); /* the body is whole */
void exchange_drop_slot(struct exchange *exchange);

/* exchange_answer.c */
void exchange_write_head(struct exchange *exchange, uint16_t status, uint64_t body_size,
                         struct bytes content_type, struct bytes headers);
void exchange_write_body(struct exchange *exchange, struct bytes part);
/* A large one is written from where it lies; `cost`: of its credit, 0: of a whole answer. */
void exchange_write_parcel(struct exchange *exchange, struct parcel *parcel, size_t cost);
void exchange_write_end(struct exchange *exchange, struct bytes trailers);
void exchange_break(struct exchange *exchange);
/* Before the head of an answer that will be whole, and at the end of any: nobody wants the rest of
 * the request's body. */
void exchange_leave_body(struct exchange *exchange);
/* A whole small answer of our own. */
void exchange_answer(struct exchange *exchange, uint16_t status, struct bytes content_type,
                     struct bytes headers, struct bytes body);

/* upgrade.c */
bool upgrade_is_asked(const struct http1_head *head);
/* The handshake of a request for this deployment: refused here, or sent on as a websocket. */
void upgrade_begin(struct exchange *exchange, const struct http1_head *head,
                   struct deployment_id deployment, struct bytes prefix, bool has_body);
/* The replica accepts it (a reply of status 101). */
void upgrade_accept(struct exchange *exchange, struct bytes headers);
/* It answers with something else, or is not asked any more. */
void upgrade_drop(struct exchange *exchange);

/* dialogue.c */
/* The connection's dialogue when it has been accepted; null: it speaks HTTP. */
struct exchange *dialogue_of(const struct connection *connection);
void dialogue_hear(struct exchange *exchange); /* bytes of the client are here, or there is room */
bool dialogue_has_room(struct exchange *exchange);
enum phase dialogue_phase(const struct exchange *exchange);
void dialogue_timeout(struct exchange *exchange); /* its phase ran out */
void dialogue_leave(struct exchange *exchange);   /* the replica, or the proxy, is to end */
void dialogue_lose(struct exchange *exchange);    /* the client is gone */
/* Nobody hears the client any more; `code` is what the replica is told. */
void dialogue_drop_call(struct exchange *exchange, uint16_t code, struct bytes reason);

/* dialogue_answer.c */
void dialogue_tell(struct exchange *exchange, struct bytes part); /* the replica says so */
void dialogue_end(struct exchange *exchange, const struct dispatch_event *event); /* and ends */
void dialogue_close(struct exchange *exchange, unsigned code, struct bytes reason);
/* The connection ends behind what is written. */
void dialogue_finish(struct exchange *exchange);

/* local.c */
/* Answers /-/healthz and /-/routes; false for other paths. */
bool local_answer(struct exchange *exchange, struct bytes path);
void local_not_found(struct exchange *exchange, struct bytes path);
void local_error(struct exchange *exchange, int code, struct bytes text);
void local_refused(struct exchange *exchange, int status, const char *reason);

/* access.c */
void access_log(const struct exchange *exchange);

/* proxy_check.c */
void proxy_check(const struct proxy *proxy); /* every invariant, between two turns */

#endif
