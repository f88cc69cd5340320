/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_sender: Sender: ASGI's `send` of one HTTP request, and Done, what it gives.
 *
 *     sender({"type": "http.response.start", ...})    keeps status and headers until the body begins
 *     sender({"type": "http.response.body", ...})     answers, or writes a part
 *
 * Applications await what they get.  A part that Manta takes at once needs no coroutine: they get Done,
 * which is one that is over already.  Where the client is slower than the application they get a
 * coroutine of the exchange (manta._private.replica_http), which waits for room.
 */
#include "native.h"

#include <stddef.h>
#include <structmember.h>

/* ---- Done ---- */

static PySendResult done_send(PyObject *self, PyObject *value, PyObject **ret_result)
{
    (void)self;
    (void)value;
    *ret_result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* The end of an iterator without a value: an await gives None. */
static PyObject *done_next(PyObject *self)
{
    (void)self;
    return NULL;
}

static PyObject *done_send_method(PyObject *self, PyObject *value)
{
    (void)self;
    (void)value;
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static PyObject *done_throw(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "throw takes an exception");
        return NULL;
    }
    if (PyExceptionInstance_Check(args[0]))
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    else
        PyErr_SetObject(args[0], count > 1 ? args[1] : NULL);
    return NULL;
}

static PyObject *done_close(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *done_self(PyObject *self)
{
    return Py_NewRef(self);
}

/* With these it is a coroutine for whoever asks (collections.abc.Coroutine), asyncio for one. */
static PyMethodDef DONE_METHODS[] = {
    {"send", done_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))done_throw, METH_FASTCALL, NULL},
    {"close", done_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot DONE_SLOTS[] = {{Py_am_await, done_self},  {Py_am_send, done_send},
                                   {Py_tp_iter, done_self},   {Py_tp_iternext, done_next},
                                   {Py_tp_methods, DONE_METHODS}, {0, NULL}};

PyType_Spec native_done_spec = {.name = "manta._native.Done",
                                .basicsize = sizeof(PyObject),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                                         Py_TPFLAGS_IMMUTABLETYPE,
                                .slots = DONE_SLOTS};

/* ---- Sender ---- */

struct native_sender {
    PyObject_HEAD
    vectorcallfunc call;
    struct native_request *request;
    PyObject *exchange;
    PyObject *status, *headers; /* null: the response was not started */
};

static PyObject *is_done(struct native_sender *self)
{
    return Py_NewRef(self->request->taker->state->done);
}

/* message[key], borrowed; `otherwise`, which may be null, where there is none. */
static PyObject *look_up(PyObject *message, PyObject *key, PyObject *otherwise)
{
    PyObject *found = PyDict_GetItemWithError(message, key);
    return found || PyErr_Occurred() ? found : otherwise;
}

static PyObject *start(struct native_sender *self, PyObject *message)
{
    struct native_state *state = self->request->taker->state;
    if (self->status) {
        PyErr_SetString(PyExc_RuntimeError, "The response has been started before.");
        return NULL;
    }
    PyObject *status = look_up(message, state->names.status, NULL);
    if (!status) {
        if (!PyErr_Occurred())
            PyErr_SetObject(PyExc_KeyError, state->names.status);
        return NULL;
    }
    PyObject *headers = look_up(message, state->names.headers, state->no_fields);
    if (!headers)
        return NULL;
    self->headers = Py_NewRef(headers == Py_None ? state->no_fields : headers);
    self->status = Py_NewRef(status);
    return is_done(self);
}

static PyObject *ended(struct native_sender *self)
{
    struct native_state *state = self->request->taker->state;
    PyObject *told = PyObject_CallMethodNoArgs(self->exchange, state->names.ended);
    if (!told)
        return NULL;
    Py_DECREF(told);
    return is_done(self);
}

/* A part: Done; a coroutine when there is no room; null: an exception is set. */
static PyObject *write_part(struct native_sender *self, PyObject *body, bool more)
{
    struct native_state *state = self->request->taker->state;
    Py_buffer view;
    if (PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    native_taker_put(self->request->taker, false);
    int code = view.len ? manta_request_write(self->request->request, view.buf, (size_t)view.len) : 0;
    PyBuffer_Release(&view);
    if (code == MANTA_EAGAIN)
        return PyObject_CallMethodObjArgs(self->exchange, state->names.write_rest, body,
                                          more ? Py_True : Py_False, NULL);
    if (code == MANTA_ECANCELLED) {
        PyErr_SetString(PyExc_OSError, "The client has left.");
        return NULL;
    }
    if (code < 0)
        return native_raise(state, code, NULL);
    if (more)
        return is_done(self);
    PyObject *finished = native_request_finish(self->request);
    Py_XDECREF(finished);
    return finished ? ended(self) : NULL;
}

static PyObject *send_body(struct native_sender *self, PyObject *message)
{
    struct native_request *request = self->request;
    struct native_state *state = request->taker->state;
    if (!self->status) {
        PyErr_SetString(PyExc_RuntimeError, "A body came before the response was started.");
        return NULL;
    }
    PyObject *body = look_up(message, state->names.body, state->no_bytes);
    PyObject *more_body = body ? look_up(message, state->names.more_body, Py_False) : NULL;
    int more = more_body ? PyObject_IsTrue(more_body) : -1;
    if (more < 0)
        return NULL;
    if (!request->request)
        return is_done(self);
    if (!request->begun && !more) {
        PyObject *args[4] = {self->status, Py_None, self->headers, body};
        PyObject *replied = native_request_reply_http((PyObject *)request, args, 4);
        Py_XDECREF(replied);
        return replied ? ended(self) : NULL;
    }
    if (!request->begun && !native_request_begin(request, PyLong_AsLong(self->status), NULL, self->headers))
        return NULL;
    return write_part(self, body, more);
}

static PyObject *sender_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *names)
{
    struct native_sender *self = (struct native_sender *)object;
    struct native_state *state = self->request->taker->state;
    PyObject *message = PyVectorcall_NARGS(flags) == 1 && !names ? args[0] : NULL;
    if (!message || !PyDict_Check(message)) {
        PyErr_SetString(PyExc_TypeError, "send takes one message, a dict");
        return NULL;
    }
    PyObject *type = look_up(message, state->names.type, Py_None);
    int is_body = type ? PyObject_RichCompareBool(type, state->text_body, Py_EQ) : -1;
    if (is_body > 0)
        return send_body(self, message);
    int is_start = is_body < 0 ? -1 : PyObject_RichCompareBool(type, state->text_start, Py_EQ);
    if (is_start < 0)
        return NULL;
    return is_start ? start(self, message) : is_done(self); /* other messages are extensions' */
}

/* Sender(request, exchange) */
static PyObject *sender_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct native_state *state = native_state_of(type);
    PyObject *request, *exchange;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!O", state->request_type, &request, &exchange))
        return NULL;
    struct native_sender *self = (struct native_sender *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->call = sender_call;
    self->request = (struct native_request *)Py_NewRef(request);
    self->exchange = Py_NewRef(exchange);
    return (PyObject *)self;
}

static int sender_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_sender *self = (struct native_sender *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->request);
    Py_VISIT(self->exchange);
    Py_VISIT(self->status);
    Py_VISIT(self->headers);
    return 0;
}

/* The request stays: whoever still calls the sender finds it. */
static int sender_clear(PyObject *object)
{
    struct native_sender *self = (struct native_sender *)object;
    Py_CLEAR(self->exchange);
    Py_CLEAR(self->status);
    Py_CLEAR(self->headers);
    return 0;
}

static void sender_dealloc(PyObject *object)
{
    struct native_sender *self = (struct native_sender *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    sender_clear(object);
    Py_CLEAR(self->request);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMemberDef SENDER_MEMBERS[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct native_sender, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot SENDER_SLOTS[] = {
    {Py_tp_new, sender_new},           {Py_tp_dealloc, sender_dealloc},
    {Py_tp_traverse, sender_traverse}, {Py_tp_clear, sender_clear},
    {Py_tp_call, PyVectorcall_Call},   {Py_tp_members, SENDER_MEMBERS},
    {0, NULL}};

PyType_Spec native_sender_spec = {.name = "manta._native.Sender",
                                  .basicsize = sizeof(struct native_sender),
                                  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                           Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
                                  .slots = SENDER_SLOTS};
