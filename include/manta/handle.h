/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/handle.h>: calling deployments.
 *
 *     struct manta_call *call;
 *     struct manta_arg   args[] = {manta_int(20), manta_string("x")};
 *     if (manta_call(handle, &(struct manta_call_options){MANTA_CALL_OPTIONS, .method = "scale"}, args, 2, &call, &error) == 0 &&
 *         manta_call_wait(call, 5.0, &error) == 0)
 *         manta_value_int(manta_call_value(call), &number, &error);
 *     manta_call_free(call);
 *
 * A handle may be used by any number of threads; a call by one at a time.  Waiting runs the network on the waiting thread;
 * a completion callback runs on some thread of Manta's and must not block.
 */
#ifndef MANTA_HANDLE_H
#define MANTA_HANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_handle;
struct manta_call;
struct manta_request;

/* Ends a handle; null is fine; returns null.  Its calls go on. */
MANTA_EXPORT struct manta_handle *manta_handle_free(struct manta_handle *handle);
/* What it calls, valid as long as the handle; the deployment is "" for an application's ingress. */
MANTA_EXPORT const char *manta_handle_application(const struct manta_handle *handle);
MANTA_EXPORT const char *manta_handle_deployment(const struct manta_handle *handle);

/* A field that travels beside a call's arguments; the callee reads it with manta_request_header. */
struct manta_call_field {
    const char *name, *value; /* zero-terminated, at most 65535 bytes; the name in lower case */
};

/* How one call is made. */
struct manta_call_options {
    size_t      size;       /* set by MANTA_CALL_OPTIONS */
    const char *method;     /* default null: the deployment's call */
    double      timeout_s;  /* default -1: none; the deadline travels with the call */
    const char *model_id;   /* default null */
    bool        stream;     /* default false; true: take items with manta_call_next */
    struct manta_request *parent; /* default null: the request this call is made for: its id and deadline are inherited, its cancellation cancels the call */
    void      (*done)(struct manta_call *call, void *owner); /* default null; called once when the call is over, unless freed before */
    void       *owner;      /* given to done and item */
    const char *request_id; /* default null; of a call that no request is the parent of */
    const struct manta_call_field *fields; /* default null: field_count of them, 16 KiB in all */
    size_t      field_count;
    void      (*item)(struct manta_call *call, void *owner); /* default null; called when a stream has an item to take and had none before */
};
#define MANTA_CALL_OPTIONS .size = sizeof(struct manta_call_options), .timeout_s = -1

/* A struct and a function may share a name, in C++ too; g++ -Wshadow alone wonders about it. */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
/* Begins a call; the arguments are copied.  Errors known at once (limits, memory, closed) are returned; everything else ends the call. options may be null. */
MANTA_EXPORT int manta_call(struct manta_handle *handle, const struct manta_call_options *options,
                            const struct manta_arg *args, size_t count, struct manta_call **ret_call,
                            struct manta_error *reterr);
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
/* Waits until a call is over (timeout_s negative: for ever): 0, the error it ended with, or MANTA_ETIMEOUT while it goes on. */
MANTA_EXPORT int manta_call_wait(struct manta_call *call, double timeout_s, struct manta_error *reterr);
/* Whether a call is over; waits for nothing. */
MANTA_EXPORT bool manta_call_over(struct manta_call *call);
/* The result of a call; valid until the call is freed; nil before it is over or after an error. */
MANTA_EXPORT const struct manta_value *manta_call_value(const struct manta_call *call);
/* The next item of a stream: 1, 0 at the end, or a negative code.  *ret_item is valid until the next manta_call_next or free. */
MANTA_EXPORT int manta_call_next(struct manta_call *call, double timeout_s, struct manta_value *ret_item, struct manta_error *reterr);
/* Ends a call with MANTA_ECANCELLED and tells the replica; the callee's own calls are cancelled with it. */
MANTA_EXPORT void manta_call_cancel(struct manta_call *call);
/* Frees a call, and cancels it when it is not over; null is fine; returns null. */
MANTA_EXPORT struct manta_call *manta_call_free(struct manta_call *call);

#ifdef __cplusplus
}
#endif
#endif
