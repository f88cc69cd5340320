/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call: one call made through a handle; the inner face of <manta/handle.h>.
 */
#ifndef MANTA_API_CALL_H
#define MANTA_API_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include <manta/handle.h>

#include "bytes.h"
#include "dispatch.h"
#include "error.h"
#include "list.h"
#include "runtime.h"

/* An application's deployment, by name; the deployment's id is looked up at each call (it changes
 * when it is deleted and run again). */
struct manta_handle {
    struct runtime *runtime; /* a reference */
    char *app, *deployment;  /* deployment empty: the application's ingress */
};

struct message;

/* One item of a streamed answer: copied off the wire, or a message. */
struct call_item {
    struct list_link link;   /* on the call's items */
    struct parcel *parcel;   /* with buffers, or raw by reference; null: `data` is all */
    struct message *message; /* of the parcel of a value */
    struct bytes document;   /* of the message */
    bool broken;             /* the parcel is no value */
    bool attached;           /* `data` is the body of a parcel */
    size_t size;             /* bytes of `data` */
    size_t credit;           /* bytes to be granted when it is taken */
    uint8_t data[];
};

/* Guarded by the runtime's helm. */
struct manta_call {
    struct list_link link;               /* on the runtime's calls until it is over */
    struct list_link parent_link;        /* on the parent request's children */
    struct runtime *runtime;             /* a reference */
    struct dispatch_call *dispatch_call; /* null once it is over */
    bool over, stream, background;
    bool stream_typed;  /* items are MessagePack documents */
    bool item_open;     /* the last item goes on in the next part */
    bool in_done;       /* inside the done callback */
    bool freed;         /* manta_call_free inside done: freed behind it */
    struct error error; /* code 0 when it went well */
    /* One of these holds the result. */
    struct buffer *buffer;    /* a slice of the wire */
    struct message *message;  /* a value with buffers */
    struct manta_buffer *raw; /* a binary one, by reference; `copy` names it */
    uint8_t *copy;            /* anything else; also of the item that was taken */
    struct manta_value value; /* checked */
    struct list items;        /* of call_item, streamed and not taken */
    struct call_item *item;   /* the one that manta_call_next gave out */
    void (*done)(struct manta_call *call, void *owner);
    void (*item_came)(struct manta_call *call, void *owner);
    void *owner;
};

/* Each of these may end the call, and then its `done` may free it (helm held). */
/* An event of the dispatch for this call. */
void call_event(struct manta_call *call, const struct dispatch_event *event);
/* Ends it with ERROR_CLOSED. */
void call_close(struct manta_call *call);
/* Cancels it; `code` says why. */
void call_cancel(struct manta_call *call, int code);
/* call_result.c: what the answer brings, and its end. */
void call_result_keep(struct manta_call *call, const struct dispatch_event *event);
void call_result_free(struct manta_call *call);
/* A new item, or more of the last one.  False when memory lacks: the call is over then, and may be
 * gone. */
bool call_item_add(struct manta_call *call, const struct dispatch_event *event, bool begins);
/* 1 and the next item, 0 at the end, or how the stream ended. */
int call_item_take(struct manta_call *call, struct manta_value *ret_item, struct error *reterr);

/* A handle that shares the runtime. */
struct manta_handle *handle_new(struct runtime *runtime, struct bytes app, struct bytes deployment);

#endif
