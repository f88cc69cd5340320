/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request_inner: the inner face of <manta/request.h>: a taken request with what its answer needs.
 *
 * Lives in the arena of its taker_request and dies with it, in the answering function of the
 * taker.  Everything mutable is touched with the
 * helm held.
 */
#ifndef MANTA_API_REQUEST_INNER_H
#define MANTA_API_REQUEST_INNER_H

#include <stdbool.h>

#include <manta/request.h>

#include "args.h"
#include "dispatch.h"
#include "list.h"
#include "taker.h"

struct manta_call;
struct manta_replica;
struct conversation;
struct models_use;

enum request_state { REQUEST_TAKEN, REQUEST_BEGUN /* streamed answer */ };

struct manta_request {
    struct taker_request *taken;
    struct manta_replica *replica;
    enum request_state state;
    struct list children; /* calls made for it (parent_link) */
    struct manta_args args;
    struct keep keep; /* strings, and the body as a value: gone with the answer */
    uint8_t *headers; /* field block of the answer, in the arena */
    size_t header_size, header_capacity;
    bool opened;              /* a body that came with buffers was looked at */
    struct bytes document;    /* of that body; empty: it is refused */
    struct manta_value value; /* the body as a value, once asked for */
    void (*cancelled)(void *owner);
    void *cancelled_owner;
    void (*room)(void *owner);
    void *room_owner;
    bool room_wanted;                  /* a write was refused since the last room */
    void *owner;                       /* the runner's (manta_taker_set_owner) */
    struct models_use *models;         /* those that it holds */
    struct conversation *conversation; /* of a websocket that was accepted */
};

/* Makes the public request for a taken one (helm held); null: memory. */
struct manta_request *request_new(struct manta_replica *replica, struct taker_request *taken);
/* Lends the parent's id, trace and deadline to a call made for it; negative when it is cancelled
 * (helm held). */
int request_adopt(struct manta_request *parent, struct manta_call *call,
                  struct dispatch_request *request);
/* Events of the taker (helm held).  The request may be gone afterwards: callbacks may answer it. */
void request_on_cancelled(struct manta_request *request);
void request_on_room(struct manta_request *request);
void request_on_body(struct manta_request *request);
/* It is about to be answered: what it kept on the heap, to be freed behind the answer (helm held).
 */
struct keep_block *request_leave(struct manta_request *request);
/* Ends it with an error, whatever its state (helm held). */
void request_abort(struct manta_request *request, int code, struct bytes text);

#endif
