/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_inner: what the files of the taker share.
 *
 *     taker.c          life, take, events, the turn
 *     taker_session.c  connections of senders and the frames they send
 *     taker_body.c     bodies of requests
 *     taker_answer.c   answers as frames, metered by credit
 *     taker_parcel.c   answers by reference
 *     taker_control.c  the connection to the controller
 *     taker_models.c   which models user code holds, told to every sender
 */
#ifndef MANTA_ROLE_TAKER_INNER_H
#define MANTA_ROLE_TAKER_INNER_H

#include "list.h"
#include "page.h"
#include "pool.h"
#include "replica.h"
#include "taker.h"
#include "wire.h"

enum { SESSION_LIMIT = 4096, SESSION_NAME_SIZE = 64 };

/* A connection of a sender. */
struct session {
    struct list_link link; /* on taker->sessions */
    struct taker *taker;
    struct list_link
        refused_link; /* on taker->refused: rejected for lack of room since it was told of some */
    struct channel channel;
    struct page page; /* taken marks of its requests */
    struct parcel_link parcels;
    struct request **slots; /* by the index of the sender's id: its newest request; null: none */
    uint32_t slot_count;
    struct list requests;   /* of request.session_link: every one of it, answered or not */
    struct list unsent;     /* of request.unsent_link: answers that wait for credit or room */
    bool greeted;           /* its hello came and was good */
    bool models_owed;       /* it must hear which models there are, when its channel has room */
    bool closing;           /* closed at the end of the frame that is being handled */
    uint32_t stream_credit; /* what each answer may send before the first credit frame */
    size_t frame_limit;     /* payload bytes that it accepts */
    char name[SESSION_NAME_SIZE];
};

enum { CLOSE_ABNORMAL = 1006 }; /* RFC 6455 7.1.5: there was no close */

enum request_phase {
    REQUEST_RECEIVING, /* admitted and held; its body is not whole */
    REQUEST_READY,     /* in the mind's queue */
    REQUEST_TAKEN,     /* with user code */
    REQUEST_ANSWERED,  /* user code is done; the rest of the answer leaves as credit comes */
};

enum request_event { EVENT_CANCELLED = 1, EVENT_ROOM = 2, EVENT_BODY = 4 };

/* A request inside the taker; the public struct comes first. */
struct request {
    struct taker_request public;
    struct taker *taker;
    struct session *session; /* null: the sender is gone */
    struct list_link session_link, unsent_link, event_link;
    uint64_t stream; /* the sender's id */
    enum request_phase phase;
    int events;                  /* enum request_event not yet pulled */
    struct buffer *frame;        /* holds the slices of the request frame */
    struct buffer *body;         /* collected body */
    size_t body_start, body_end; /* of `body` */
    size_t body_credit;          /* what the sender may still send */
    size_t body_owed;            /* consumed and not yet granted */
    uint64_t credit;             /* body bytes of the answer that may be sent now */
    bool attached;               /* the body comes in parts and is one with attachments */
    bool begun;                  /* the head of a streamed answer is sent */
    bool returned;               /* its entry point has */
    bool room_wanted;            /* a write was refused */
    struct buffer *rest;         /* of an answer, or of a part: body bytes not sent yet */
    struct parcel *out;          /* of an answer, instead of `rest` */
    struct bytes head; /* of an answer whose head waits with its body: the frame; in the arena */
    size_t rest_start, rest_end; /* of `rest`, or of the bytes of `out` */
    bool rest_attached;          /* the next part begins an item with attachments */
    struct bytes trailers;       /* ANSWERED: of the end that follows a part's rest; in the arena */
};

struct taker {
    struct taker_config config;
    char *app, *deployment;
    char path[108]; /* of the listening socket */
    struct replica *mind;
    struct pool requests; /* struct request */
    struct parcel_desk *desk;
    struct arena_blocks arena_blocks;
    struct list sessions;
    struct list refused;   /* of session.refused_link */
    struct list events;    /* of request.event_link */
    int listen_descriptor; /* -1: none */
    struct loop_watch listener;
    struct loop_timer accept_timer; /* set while descriptors lack */
    struct loop_turn turn;
    struct loop_timer timer; /* batches, deadlines, drain */
    int64_t running_since_ns;
    bool has_closing; /* some session is broken and waits for the end of the turn */
    bool drained_told;
    /* What the controller told and user code does not have yet, and what it has and is at. */
    struct configuration {
        uint8_t *at; /* null: none */
        size_t size;
        uint64_t hash;
        uint32_t rank, world_size; /* rank plus one */
    } next, current;
    uint64_t telling; /* stream of the outcome that the controller waits for; 0: none */
    uint8_t *models;  /* what user code holds, as a field block; null: nobody said */
    size_t models_size, models_capacity;
    /* The controller. */
    struct channel controller;
    struct loop_timer reconnect;
    bool controller_open, controller_greeted;
    enum {
        REPORT_NOTHING,
        REPORT_READY,
        REPORT_FAILED
    } report; /* said at once and after every reconnection */
    int failed_code;
    char failed_text[512];
};

/* taker.c */
void request_free(struct request *request);
void request_tell(struct request *request, enum request_event event);
/* User code has it, and its caller has given up. */
void request_give_up(struct request *request);
void taker_apply_drain(struct taker *taker, int64_t timeout_ns);

/* taker_session.c */
void session_accept(struct taker *taker);
void session_close(struct session *session);
void session_end_broken(struct session *session); /* at the end of the turn */
/* At the end of a turn: those that broke while another's frame was handled. */
void session_close_broken(struct taker *taker);
/* A place is free: the senders that were rejected are told, so that what waits there moves at once.
 */
void session_tell_refused(struct taker *taker);
/* A control frame that must not be lost; false: the session is broken and will be closed. */
uint8_t *session_room(struct session *session, size_t size);

/* taker_body.c */
/* User code reads the body as it comes.  One with attachments is waited for in any case. */
bool body_is_streamed(const struct request *request);
void body_begin(struct request *request); /* admitted: its body is judged, and begins */
void body_set_parcel(struct request *request, struct parcel *parcel); /* null is fine */
int body_collect(struct request *request, struct bytes part);         /* 0, or why not */
void body_grant(struct request *request, size_t size);
void body_end(struct request *request, int code);
/* An admitted request whose body cannot be had: answered, never given to user code. */
void body_refuse(struct request *request, int code);

/* taker_parcel.c */
/* The whole answer as a parcel; takes the reference over. */
int answer_parcel(struct request *request, const struct taker_answer *answer,
                  struct parcel *parcel);
enum answer_put {
    ANSWER_PUT,   /* all of it: the request may go */
    ANSWER_WAITS, /* for room, or for the sender's word */
    ANSWER_BEGUN, /* the head; the bytes follow in parts */
};
enum answer_put answer_put_parcel(struct request *request, const struct wire_reply *reply);
enum answer_put answer_put_head(struct request *request); /* the head that waited */
void answer_copy(const struct request *request, uint8_t *at,
                 size_t size); /* of `out`, from rest_start */
/* A large part of an HTTP answer, copied into a slot and lent: 0; ERROR_AGAIN; ERROR_UNAVAILABLE: it
 * is to go through the socket. */
int answer_lend_part(struct request *request, struct bytes part);

/* taker_answer.c */
size_t answer_part_size(const struct request *request);
struct wire_reply answer_reply(const struct request *request, const struct taker_answer *answer);
/* User code is done with it: it hears nothing of it any more. */
void answer_enter_answered(struct request *request);
int answer_write(struct request *request, struct bytes part, bool attached);
/* The error as whatever ends the answer now; nothing when the sender is gone. */
void answer_last_word(struct request *request, int code, struct bytes text);
/* The same, and the request is gone. */
void answer_error(struct request *request, int code, struct bytes text);
void answer_continue(struct request *request); /* credit or room came */

/* taker_models.c */
/* Tells a sender what is there when it is owed that; again when its channel has room. */
void session_tell_models(struct session *session);

/* taker_control.c */
void control_open(struct taker *taker);
void control_close(struct taker *taker);
void control_say_configured(struct taker *taker, int code, struct bytes text);
/* Of a RECONFIGURE: 0 when its outcome follows, or what is wrong with it. */
int configure_begin(struct taker *taker, uint32_t max_ongoing, struct bytes body,
                    struct error *reterr);
struct replica_config configure_mind(const struct taker_config *config);
bool configure_due(const struct taker *taker);
struct bytes configure_next(struct taker *taker);
void configure_free(struct taker *taker);

#endif
