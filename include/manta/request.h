/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/request.h>: one request inside a deployment's code: what was asked, and the answer.
 *
 * A `struct manta_request *` is valid from the entry point's call until it is answered: by exactly one of manta_request_reply*,
 * manta_request_fail or manta_request_finish, from any thread, in the entry point or later.  After that the pointer is
 * dead.  An entry point that returns without answering may answer later; a request never answered counts against
 * max_ongoing_requests until the caller gives up.  Functions are safe from any thread, one at a time per request.
 */
#ifndef MANTA_REQUEST_H
#define MANTA_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <manta/error.h>
#include <manta/value.h>

#ifdef __cplusplus
extern "C" {
#endif

struct manta_request;
struct manta_replica;
struct manta_args;

/* ---- what was asked ----------------------------------------------------------------------------- */

/* It came over HTTP, not through a handle. */
MANTA_EXPORT bool manta_request_is_http(const struct manta_request *request);
/* HTTP method, or the name of the deployment's method ("__call__" when the caller named none). Zero-terminated, as are all strings here; valid until answered. Never null. */
MANTA_EXPORT const char *manta_request_method(struct manta_request *request);
MANTA_EXPORT const char *manta_request_path(struct manta_request *request);         /* "/predict/a", as sent, prefix included; "" for calls */
MANTA_EXPORT const char *manta_request_query(struct manta_request *request);        /* without "?" */
MANTA_EXPORT const char *manta_request_route_prefix(struct manta_request *request); /* "/predict" */
MANTA_EXPORT const char *manta_request_content_type(struct manta_request *request);
MANTA_EXPORT const char *manta_request_id(struct manta_request *request);           /* x-request-id */
MANTA_EXPORT const char *manta_request_model_id(struct manta_request *request);     /* serve_multiplexed_model_id, or "" */
/* First value of a header field in any case, or null. */
MANTA_EXPORT const char *manta_request_header(struct manta_request *request, const char *name);
/* The n-th header field; false past the end. */
MANTA_EXPORT bool manta_request_header_at(struct manta_request *request, size_t index, const char **ret_name, const char **ret_value);
/* The positional arguments of a call; empty for HTTP. */
MANTA_EXPORT const struct manta_args *manta_request_args(struct manta_request *request);
/* The whole body (HTTP) or the packed arguments (calls).  With .stream_body it is empty until the body is whole, then what manta_request_read has not taken. Borrowed until answered. */
MANTA_EXPORT const void *manta_request_body(struct manta_request *request, size_t *ret_size);
/* The body as JSON or MessagePack by its content type, as one value; valid until answered. */
MANTA_EXPORT int manta_request_value(struct manta_request *request, struct manta_value *ret_value, struct manta_error *reterr);
/*
 * Waits for the next bytes of a streamed body (.stream_body), at most timeout_s (negative: for ever): their number, 0 at the end of the
 * body, or MANTA_ETIMEOUT, MANTA_ECANCELLED (the client left).  Copies at most `room` bytes to `at`.
 */
MANTA_EXPORT int64_t manta_request_read(struct manta_request *request, void *at, size_t room, double timeout_s, struct manta_error *reterr);

/* The caller is gone or has cancelled: whatever is answered is dropped. */
MANTA_EXPORT bool manta_request_cancelled(struct manta_request *request);
/* Called once, on some thread of the replica, when that happens before the answer (at once if it has); it may not answer nor block. */
MANTA_EXPORT void manta_request_on_cancel(struct manta_request *request, void (*cancelled)(void *owner), void *owner);
/* Seconds until the deadline; infinity when there is none; negative when it passed. */
MANTA_EXPORT double manta_request_time_left_s(struct manta_request *request);
/* The replica that answers it. */
MANTA_EXPORT struct manta_replica *manta_request_replica(struct manta_request *request);

/* ---- the answer --------------------------------------------------------------------------------- */

/* Answers with one value. Returns 0, or MANTA_EANSWERED / MANTA_ECANCELLED / MANTA_ELIMIT, after which the request is as dead as after 0. */
MANTA_EXPORT int manta_request_reply_nil(struct manta_request *request);
MANTA_EXPORT int manta_request_reply_bool(struct manta_request *request, bool value);
MANTA_EXPORT int manta_request_reply_int(struct manta_request *request, int64_t value);
MANTA_EXPORT int manta_request_reply_float(struct manta_request *request, double value);
MANTA_EXPORT int manta_request_reply_string(struct manta_request *request, const char *string);
MANTA_EXPORT int manta_request_reply_binary(struct manta_request *request, const void *at, size_t size);
/* Answers with any value: a call gets it as it is, an HTTP client as text/plain (string), raw bytes (binary), nothing (nil) or JSON. */
MANTA_EXPORT int manta_request_reply_arg(struct manta_request *request, struct manta_arg value);
MANTA_EXPORT int manta_request_reply_pack(struct manta_request *request, const struct manta_pack *pack);
/* Answers an HTTP request: status 200..599, content type (null: none), body copied. */
MANTA_EXPORT int manta_request_reply_http(struct manta_request *request, int status, const char *content_type, const void *body, size_t size);
/* A header field of the answer, before it begins: MANTA_EINVALID for a bad name or value. */
MANTA_EXPORT int manta_request_add_header(struct manta_request *request, const char *name, const char *value, struct manta_error *reterr);
/* Answers that the request failed: callers get `code` and the text, an HTTP client the code's status and "Internal Server Error" for 500 (the text goes to the log). */
MANTA_EXPORT int manta_request_fail(struct manta_request *request, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * A streamed answer: begin once, write parts, finish.  An HTTP client gets the parts as they are; a caller with a stream
 * gets each part as one binary item (manta_request_write) or one value (manta_request_write_arg).
 *
 * manta_request_write copies the part and returns 0; or MANTA_EAGAIN and takes nothing when the client is slower than
 * the writer: then `room` (given at begin) is called once when there is room, or use manta_request_wait_room.
 * MANTA_ECANCELLED: nobody reads any more; finish.
 */
MANTA_EXPORT int manta_request_begin(struct manta_request *request, int status, const char *content_type,
                                     void (*room)(void *owner), void *owner, struct manta_error *reterr);
MANTA_EXPORT int manta_request_write(struct manta_request *request, const void *part, size_t size);
MANTA_EXPORT int manta_request_write_arg(struct manta_request *request, struct manta_arg value);
/* Blocks this thread until a write would be taken: 0, MANTA_ETIMEOUT, MANTA_ECANCELLED. */
MANTA_EXPORT int manta_request_wait_room(struct manta_request *request, double timeout_s);
/* Ends the answer: 0, or MANTA_ECANCELLED when nobody read to its end. */
MANTA_EXPORT int manta_request_finish(struct manta_request *request);

/* ---- arguments ----------------------------------------------------------------------------------- */

struct manta_handle;
/* How many arguments there are. */
MANTA_EXPORT size_t manta_args_count(const struct manta_args *args);
/* One argument: MANTA_EINVALID when there are fewer, MANTA_ETYPE when it is of another type; the text says which. */
MANTA_EXPORT int manta_args_value(const struct manta_args *args, size_t index, struct manta_value *ret_value, struct manta_error *reterr);
MANTA_EXPORT int manta_args_bool(const struct manta_args *args, size_t index, bool *ret_value, struct manta_error *reterr);
MANTA_EXPORT int manta_args_int(const struct manta_args *args, size_t index, int64_t *ret_value, struct manta_error *reterr);
MANTA_EXPORT int manta_args_float(const struct manta_args *args, size_t index, double *ret_value, struct manta_error *reterr);
/* A string argument: a zero-terminated copy that lives as long as the args. */
MANTA_EXPORT int manta_args_string(const struct manta_args *args, size_t index, const char **ret_value, struct manta_error *reterr);
/* A binary argument; it is borrowed from the args. */
MANTA_EXPORT int manta_args_binary(const struct manta_args *args, size_t index, const void **ret_at, size_t *ret_size, struct manta_error *reterr);
/* A bound deployment as a handle; the caller owns it (manta_handle_free). */
MANTA_EXPORT int manta_args_handle(const struct manta_args *args, size_t index, struct manta_handle **ret_handle, struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
