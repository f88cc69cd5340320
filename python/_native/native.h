/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native: the Python extension manta._native, over libmanta: what its files know of each other.
 *
 *     native_module.c    the module: its state, its functions
 *     native_write.c     Python values as MessagePack
 *     native_read.c      and back
 *     native_args.c      the arguments of a call
 *     native_large.c     arrays, large bytes and the buffers of pickles, by reference
 *     native_buffer.c    Buffer: such bytes as an object of Python's
 *     native_errors.c    Manta's errors as the module's exception
 *     native_taker.c     Taker: the replica of this process: turns, events, the end
 *     native_request.c   Request: one request of it, and its answer
 *     native_sender.c    ASGI's send of a request
 *     native_scope.c     a request's head as an ASGI scope
 *     native_websocket.c a request that is a websocket
 *     native_news.c      News: what one task awaits, told inside a turn
 *     native_ring.c      what Manta tells from threads that do not hold the interpreter
 *     native_call.c      Call: one call made through a handle
 *     native_instance.c  Instance: a whole instance, started or joined
 *
 * Types are heap types and everything else lives in the module's state, so that interpreters do not
 * share it.  Manta may call back on threads of its own while its lock is held: such functions never
 * touch the interpreter; they put what they know on a ring, which is drained with the interpreter
 * held.  Waits are made without it.
 *
 * "Borrowed" and "steals" are said where a reference moves; everything returned is new.
 */
#ifndef MANTA_NATIVE_H
#define MANTA_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include <manta/buffer.h>
#include <manta/error.h>
#include <manta/handle.h>
#include <manta/instance.h>
#include <manta/request.h>
#include <manta/sys/taker.h>
#include <manta/tensor.h>
#include <manta/value.h>

/* Names that are looked up often, made once. */
#define NATIVE_NAMES(X)                                                                            \
    X(set_result) X(set_error) X(push) X(full) X(type) X(asgi) X(http) X(http_version) X(method) X(scheme) \
    X(path) X(raw_path) X(query_string) X(root_path) X(headers) X(client) X(server) X(extensions)  \
    X(version) X(spec_version) X(base) X(flags) X(writeable) X(text) X(bytes) X(code) X(reason)    \
    X(subprotocols) X(status) X(body) X(more_body) X(ended) X(write_rest) X(step)    \
    X(call_soon)

struct native_names {
#define X(name) PyObject *name;
    NATIVE_NAMES(X)
#undef X
};

enum { NATIVE_ELEMENT_COUNT = 14 /* types of an array's elements */ };

struct native_state {
    PyTypeObject *taker_type, *request_type, *call_type, *instance_type, *buffer_type,
        *sender_type, *done_type, *news_type;
    PyObject *error;       /* Error(code, text) */
    PyObject *dumps;       /* as pickle.dumps, but code of the program itself by value */
    PyObject *pickle_dumps;
    PyObject *loads; /* as pickle.loads */
    PyObject *protocol, *buffer_callback_name, *buffers_name; /* 5, and names of arguments */
    PyObject *ndarray, *dtypes[NATIVE_ELEMENT_COUNT];         /* numpy's, once it was wanted */
    bool looked_for_numpy;
    struct manta_pack *pack; /* a scratch for one arg */
    PyObject *make_handle; /* app, deployment -> a handle, among constructor arguments */
    struct native_names names;
    PyObject *text_start, *text_body, *no_fields, *no_bytes; /* ASGI's messages of an answer */
    PyObject *done;                                          /* the only Done */
    PyObject *current_task, *cancelled_error; /* asyncio's, once somebody waits */
    PyObject *text_websocket, *text_ws, *text_receive, *text_disconnect;
    PyObject *text_http, *text_1_0, *text_1_1, *asgi_version; /* of every scope */
};

extern struct PyModuleDef native_module;
/* The state of the module that made the type; none of ours can be a base. */
struct native_state *native_state_of(PyTypeObject *type);

/* ---- values across the border ------------------------------------------------------------------ */

/* A MessagePack document that grows, and the buffers that it refers to.  Zeroed at first. */
struct native_bytes {
    struct native_state *state; /* set by native_write */
    bool alone;                 /* it refers to nothing: set at first where it is kept or compared */
    uint8_t *at;
    size_t size, capacity;
    struct manta_buffer **held; /* a reference each, until it is done with */
    size_t held_count, held_capacity;
};
void native_bytes_done(struct native_bytes *bytes);
/* Takes back what was written after it had this size and so many buffers. */
void native_bytes_back(struct native_bytes *bytes, size_t size, size_t held_count);
/* Appends a type byte with a big-endian number of `size` bytes; bytes.  False: MemoryError is set. */
bool native_put_head(struct native_bytes *out, uint8_t type, uint64_t number, int size);
bool native_put_bytes(struct native_bytes *out, const void *from, size_t size);

/* MessagePack extensions of ours. */
enum {
    NATIVE_PICKLE = 80,        /* a pickle */
    NATIVE_EXCEPTION = 81,     /* a pickle of the exception that ended a call */
    NATIVE_PICKLE_BESIDE = 82, /* a pickle, first item of an array: its buffers are the others */
    NATIVE_KEYWORDS = 83       /* nothing, first item of an array: keyword arguments are the other */
};

/*
 * Appends one value.  Plain values (None, bool, int, float, str, bytes, list, dict, of exactly these
 * types) are MessagePack, which every language reads and which gives back the same value; all others
 * are pickled.  False: an exception is set.
 */
bool native_write(struct native_state *state, struct native_bytes *out, PyObject *value);
/* Appends the pickle of an exception. */
bool native_write_exception(struct native_state *state, struct native_bytes *out, PyObject *error);
/* Sets ValueError: a document is none; always null. */
PyObject *native_broken(void);
/* A checked document as a value; null: an exception is set. */
PyObject *native_read(struct native_state *state, const void *at, size_t size);
/* Whether a document is the exception of a failed call; then *ret_error is it (new), or null with an
 * exception set. */
bool native_read_exception(struct native_state *state, const void *at, size_t size,
                           PyObject **ret_error);
/* Arguments of a call, each a value by itself; keyword arguments are one more at the end. */
struct native_args {
    struct native_bytes bytes;
    struct manta_arg *list; /* count of them, pointing into bytes */
    size_t count;
};
bool native_write_args(struct native_state *state, struct native_args *out, PyObject *args,
                       PyObject *kwargs);
void native_args_done(struct native_args *args);
/* What a call was given: a tuple (args, kwargs). */
PyObject *native_read_args(struct native_state *state, struct manta_request *request);

/* ---- native_large.c: values in memory that both sides map --------------------------------------- */

enum { NATIVE_LARGE = 65536 /* bytes that are worth it */ };

/* What became of a value that was to be written without a pickle. */
enum native_outcome { NATIVE_FAILED = -1 /* an exception is set */, NATIVE_NOT_PLAIN, NATIVE_WRITTEN };
/* Arrays and tensors; `bytes` of NATIVE_LARGE or more. */
enum native_outcome native_write_large(struct native_bytes *out, PyObject *value);
enum native_outcome native_write_large_bytes(struct native_bytes *out, PyObject *bytes);
bool native_write_pickle(struct native_bytes *out, int8_t extension, PyObject *value);
/* `buffers` is a list, or null. */
PyObject *native_read_pickle(struct native_state *state, const void *at, size_t size,
                             PyObject *buffers);
/* An array of numpy; Buffer where there is no numpy or no such element type. */
PyObject *native_read_tensor(struct native_state *state, const struct manta_tensor *tensor);
bool native_find_numpy(struct native_state *state);
/* The letter of an element in Python's buffer protocol; null: there is none. */
const char *native_format_of(const struct manta_tensor *tensor);

/* ---- native_buffer.c ---------------------------------------------------------------------------- */

/* Buffer over part of a buffer, whose reference it takes. */
PyObject *native_buffer_new(struct native_state *state, struct manta_buffer *take_buffer, size_t offset,
                            size_t size);
/* Buffer over a tensor (a reference of its own), and where in it index 0, 0, ... lies. */
PyObject *native_buffer_of_tensor(struct native_state *state, const struct manta_tensor *tensor,
                                  Py_ssize_t *ret_offset);
/* The buffer in which these bytes of `holder` lie, a reference, from now on read-only; null: none. */
struct manta_buffer *native_buffer_behind(struct native_state *state, PyObject *holder, const void *at,
                                          size_t size, size_t *ret_offset);
/* The tensor of a Buffer, borrowed; null: it is none. */
const struct manta_tensor *native_buffer_tensor(PyObject *object);
/* Sets state->error; always null. */
PyObject *native_raise(struct native_state *state, int code, const char *text);
PyObject *native_raise_error(struct native_state *state, const struct manta_error *error);
/* An instance of state->error, not raised. */
PyObject *native_make_error(struct native_state *state, int code, const char *text);

/* ---- native_ring.c ----------------------------------------------------------------------------- */

struct native_call;

/*
 * Calls that have something to tell, in the order in which they had.  Filled by any thread, without
 * the interpreter; drained with it.  `bell` wakes the one who drains.
 */
struct native_ring;
struct native_ring *native_ring_new(void (*bell)(void *owner), void *owner);
/* Nobody pushes any more. */
struct native_ring *native_ring_free(struct native_ring *ring);
/* Once for a call until it is popped. */
void native_ring_push(struct native_ring *ring, struct native_call *call);
struct native_call *native_ring_pop(struct native_ring *ring);
/* Takes a call off, if it is on it. */
void native_ring_remove(struct native_ring *ring, struct native_call *call);
/* While true, the bell is not rung: whoever drains is about to. */
void native_ring_hush(struct native_ring *ring, bool hushed);

/* ---- types ------------------------------------------------------------------------------------- */

struct native_taker {
    PyObject_HEAD
    struct native_state *state;
    PyObject *module; /* holds the state */
    struct manta_taker *taker; /* null once closed */
    struct manta_taker_thread *loop_thread;
    struct native_ring *ring;
    PyObject *handles; /* dict: (app, deployment) -> capsule */
    unsigned long loop_id; /* the thread that turns; 0: none yet */
    int64_t put_ns;        /* when that thread put something on its own, since the last turn; 0: not */
    bool held;             /* what it puts waits for the next turn */
    bool turning, drained;
    bool awake;            /* the loop runs handlers, or may: Manta's standby is armed */
    bool awake_while_open; /* no hook tells when the loop sleeps: awake while requests are open */
    size_t open_count;     /* requests that were begun and are not answered */
};

struct native_request {
    PyObject_HEAD
    struct manta_request *request; /* null once it is answered; until then it holds a reference to this */
    struct native_taker *taker;
    uint64_t number;
    bool is_http, is_websocket, stream, cancelled, begun;
    PyObject *on_cancel, *on_room, *on_body; /* called without arguments; null: nobody */
};

struct native_call {
    PyObject_HEAD
    struct native_state *state;
    PyObject *owner;         /* Taker or Instance */
    struct native_ring *ring;
    struct native_call *next; /* on the ring; guarded by it */
    bool queued;              /* on the ring; guarded by it */
    bool claimed;             /* one thread finishes it, or waits to; Python may run meanwhile */
    bool stream;
    struct manta_call *call; /* null once it is over; until then Manta holds a reference to this */
    PyObject *reply;
};

struct native_instance {
    PyObject_HEAD
    struct native_state *state;
    PyObject *module;
    struct manta_instance *instance; /* null once ended */
    struct native_ring *ring;
    PyObject *handles;
    int bell; /* eventfd */
    bool ended;
};

/* Before the loop's thread puts an answer, a part or a call: from the second one between two turns
 * on they are sent together. */
void native_taker_put(struct native_taker *taker, bool is_call);
/* A request was begun, or answered. */
void native_taker_count(struct native_taker *taker, int more);
/* Makes Request for a taken one; null: an exception is set and the request has been answered. */
struct native_request *native_request_new(struct native_taker *taker, struct manta_request *request);
bool native_request_is_open(struct native_request *self); /* false: an exception is set */
/* Manta's request is dead: None, or an exception for what went wrong. */
PyObject *native_request_answered(struct native_request *self, int code);
/* A sequence of pairs as header fields of the answer; *content_type is the one among them, or stays. */
bool native_request_add_fields(struct native_request *self, PyObject *fields, const char **content_type);
/* native_websocket.c: methods of Request. */
PyObject *native_websocket_accept(PyObject *object, PyObject *args);
PyObject *native_websocket_receive(PyObject *object, PyObject *unused);
PyObject *native_websocket_send(PyObject *object, PyObject *message);
PyObject *native_websocket_close(PyObject *object, PyObject *args);
/* reply_http(status, content_type, headers, body): the whole answer. */
PyObject *native_request_reply_http(PyObject *object, PyObject *const *args, Py_ssize_t count);
/* Begins a streamed answer, of values when the status is 0; false: an exception is set. */
bool native_request_begin(struct native_request *self, long status, const char *content_type,
                          PyObject *headers);
PyObject *native_request_finish(struct native_request *self);
/* The scope of an HTTP request. */
PyObject *native_request_scope(struct native_request *self, PyObject *ignored);
/* `method` of Taker and Instance: begins a call; see native_call.c for the arguments. */
PyObject *native_call_begin(struct native_state *state, PyObject *owner, struct native_ring *ring,
                            PyObject *handles,
                            struct manta_handle *(*find)(PyObject *owner, const char *app,
                                                         const char *deployment),
                            PyObject *const *args, Py_ssize_t count);
/* Takes everything off the ring and fills replies. */
void native_call_drain(struct native_ring *ring);

/* document(name, ingress, entries): what Instance.apply() takes, as bytes. */
PyObject *native_instance_document(PyObject *module, PyObject *args);
extern PyType_Spec native_taker_spec, native_request_spec, native_call_spec, native_instance_spec,
    native_buffer_spec, native_sender_spec, native_done_spec, native_news_spec;

#endif
