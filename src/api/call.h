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

/* One item of a streamed answer, copied off the wire. */
struct call_item {
    struct list_link link; /* on the call's items */
    size_t size;
    uint8_t data[];
};

/* Guarded by the runtime's helm. */
struct manta_call {
    struct list_link link;               /* on the runtime's calls until it is over */
    struct list_link parent_link;        /* on the parent request's children */
    struct runtime *runtime;             /* a reference */
    struct dispatch_call *dispatch_call; /* null once it is over */
    bool over, stream, background;
    bool stream_typed;        /* items are MessagePack documents */
    bool item_open;           /* the last item goes on in the next part */
    bool in_done;             /* inside the done callback */
    bool freed;               /* manta_call_free inside done: freed behind it */
    struct error error;       /* code 0 when it went well */
    struct buffer *buffer;    /* holds result when it is a slice of the wire */
    uint8_t *copy;            /* holds it otherwise */
    struct manta_value value; /* checked */
    struct list items;        /* of call_item, streamed and not taken */
    struct call_item *item;   /* the one that manta_call_next gave out */
    void (*done)(struct manta_call *call, void *owner);
    void *owner;
};

/* Each of these may end the call, and then its `done` may free it (helm held). */
/* An event of the dispatch for this call. */
void call_event(struct manta_call *call, const struct dispatch_event *event);
/* Ends it with ERROR_CLOSED. */
void call_close(struct manta_call *call);
/* Cancels it; `code` says why. */
void call_cancel(struct manta_call *call, int code);
/* A handle that shares the runtime. */
struct manta_handle *handle_new(struct runtime *runtime, struct bytes app, struct bytes deployment);

#endif
