/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_request: Request: what was asked of this replica, and the ways to answer it.
 *
 * Manta's request is dead once it is answered; this object may live longer and then answers nothing.
 * Until it is answered, Manta's side holds one reference, so that events always find it.
 *
 * All is called with the interpreter held, which makes it one thread at a time; only waiting for
 * room gives it up.
 */
#include "native.h"

#include <string.h>
#include <strings.h>

#include <structmember.h>

/* ---- life -------------------------------------------------------------------------------------- */

struct native_request *native_request_new(struct native_taker *taker, struct manta_request *request)
{
    struct manta_taker_head look;
    struct native_request *self = PyObject_GC_New(struct native_request, taker->state->request_type);
    if (!self) {
        manta_request_fail(request, MANTA_EMEMORY, "no memory for a request");
        return NULL;
    }
    manta_taker_look(request, &look);
    self->request = request;
    self->taker = (struct native_taker *)Py_NewRef((PyObject *)taker);
    self->number = manta_taker_number(request);
    self->is_http = look.is_http;
    self->is_websocket = look.is_websocket;
    self->stream = look.stream;
    self->cancelled = self->begun = false;
    self->on_cancel = self->on_room = self->on_body = NULL;
    manta_taker_set_owner(request, Py_NewRef((PyObject *)self));
    native_taker_count(taker, 1);
    PyObject_GC_Track((PyObject *)self);
    return self;
}

/* Manta's request is dead: gives back the reference that its side held. */
static void let_go(struct native_request *self)
{
    self->request = NULL;
    native_taker_count(self->taker, -1);
    Py_CLEAR(self->on_cancel);
    Py_CLEAR(self->on_room);
    Py_CLEAR(self->on_body);
    Py_DECREF(self);
}

static int request_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_request *self = (struct native_request *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->taker);
    Py_VISIT(self->on_cancel);
    Py_VISIT(self->on_room);
    Py_VISIT(self->on_body);
    return 0;
}

static int request_clear(PyObject *object)
{
    struct native_request *self = (struct native_request *)object;
    Py_CLEAR(self->on_cancel);
    Py_CLEAR(self->on_room);
    Py_CLEAR(self->on_body);
    return 0;
}

static void request_dealloc(PyObject *object)
{
    struct native_request *self = (struct native_request *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    request_clear(object);
    Py_CLEAR(self->taker);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static struct native_state *state_of(struct native_request *self)
{
    return self->taker->state;
}

bool native_request_is_open(struct native_request *self)
{
    if (self->request)
        return true;
    native_raise(state_of(self), MANTA_EANSWERED, "the request was answered already");
    return false;
}

/* ---- what was asked ---------------------------------------------------------------------------- */

static PyObject *text_of(struct manta_taker_slice slice)
{
    return PyUnicode_DecodeLatin1(slice.at ? slice.at : "", (Py_ssize_t)slice.size, NULL);
}

static PyObject *get_slice(PyObject *object, void *which)
{
    struct native_request *self = (struct native_request *)object;
    struct manta_taker_head look;
    if (!native_request_is_open(self))
        return NULL;
    manta_taker_look(self->request, &look);
    return text_of(*(struct manta_taker_slice *)((char *)&look + (uintptr_t)which));
}

static PyObject *get_flag(PyObject *object, void *which)
{
    return PyBool_FromLong(*(bool *)((char *)object + (uintptr_t)which));
}

static PyObject *get_number(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct native_request *)object)->number);
}

static PyObject *get_open(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct native_request *)object)->request != NULL);
}

static PyObject *request_args(PyObject *object, PyObject *unused)
{
    struct native_request *self = (struct native_request *)object;
    (void)unused;
    return native_request_is_open(self) ? native_read_args(state_of(self), self->request) : NULL;
}

static PyObject *request_body(PyObject *object, PyObject *unused)
{
    struct native_request *self = (struct native_request *)object;
    struct manta_taker_head look;
    (void)unused;
    if (!native_request_is_open(self))
        return NULL;
    manta_taker_look(self->request, &look);
    return PyBytes_FromStringAndSize(look.body.at, (Py_ssize_t)look.body.size);
}

/* The next bytes of a streamed body: bytes, b"" at its end, None when none have come. */
static PyObject *request_read(PyObject *object, PyObject *unused)
{
    enum { PIECE = 65536 };
    struct native_request *self = (struct native_request *)object;
    struct manta_error error = {0};
    (void)unused;
    if (!native_request_is_open(self))
        return NULL;
    PyObject *piece = PyBytes_FromStringAndSize(NULL, PIECE);
    if (!piece)
        return NULL;
    int64_t size = manta_request_read(self->request, PyBytes_AS_STRING(piece), PIECE, 0, &error);
    if (size >= 0) {
        _PyBytes_Resize(&piece, (Py_ssize_t)size);
        return piece;
    }
    Py_DECREF(piece);
    if (size == MANTA_ETIMEOUT)
        Py_RETURN_NONE;
    return native_raise_error(state_of(self), &error);
}

static bool same_name(struct manta_taker_slice name, const char *wanted, size_t size)
{
    return name.size == size && strncasecmp(name.at, wanted, size) == 0;
}

static PyObject *request_field(PyObject *object, PyObject *wanted)
{
    struct native_request *self = (struct native_request *)object;
    struct manta_taker_slice name, value;
    Py_ssize_t size;
    size_t cursor = 0;
    const char *at = PyUnicode_AsUTF8AndSize(wanted, &size);
    if (!at || !native_request_is_open(self))
        return NULL;
    while (manta_taker_field(self->request, &cursor, &name, &value))
        if (same_name(name, at, (size_t)size))
            return PyUnicode_DecodeUTF8(value.at ? value.at : "", (Py_ssize_t)value.size, "replace");
    Py_RETURN_NONE;
}

static PyObject *request_time_left(PyObject *object, PyObject *unused)
{
    struct native_request *self = (struct native_request *)object;
    (void)unused;
    if (!native_request_is_open(self))
        return NULL;
    return PyFloat_FromDouble(manta_request_time_left_s(self->request));
}

/* ---- answers ----------------------------------------------------------------------------------- */

PyObject *native_request_answered(struct native_request *self, int code)
{
    let_go(self);
    if (code == 0 || code == MANTA_ECANCELLED)
        Py_RETURN_NONE;
    return native_raise(state_of(self), code, NULL);
}

static PyObject *reply_document(struct native_request *self, struct native_bytes *bytes)
{
    struct manta_value value = {bytes->at, bytes->size};
    native_taker_put(self->taker, false);
    int code = manta_request_reply_arg(self->request, manta_copied(&value));
    native_bytes_done(bytes);
    return native_request_answered(self, code);
}

static PyObject *request_reply(PyObject *object, PyObject *value)
{
    struct native_request *self = (struct native_request *)object;
    struct native_bytes bytes = {0};
    if (!native_request_is_open(self))
        return NULL;
    if (!native_write(state_of(self), &bytes, value) || !native_request_is_open(self)) {
        native_bytes_done(&bytes);
        return NULL;
    }
    return reply_document(self, &bytes);
}

/* To callers that unpickle exceptions: the exception itself, also as the last item of a stream. */
static PyObject *request_reply_exception(PyObject *object, PyObject *error)
{
    struct native_request *self = (struct native_request *)object;
    struct native_bytes bytes = {0};
    if (!native_request_is_open(self))
        return NULL;
    if (!native_write_exception(state_of(self), &bytes, error) || !native_request_is_open(self)) {
        native_bytes_done(&bytes);
        return NULL;
    }
    if (!self->begun)
        return reply_document(self, &bytes);
    struct manta_value value = {bytes.at, bytes.size};
    while (manta_request_write_arg(self->request, manta_copied(&value)) == MANTA_EAGAIN)
        if (manta_request_wait_room(self->request, 1) < 0)
            break;
    native_bytes_done(&bytes);
    return native_request_answered(self, manta_request_finish(self->request));
}

static PyObject *request_fail(PyObject *object, PyObject *args)
{
    struct native_request *self = (struct native_request *)object;
    int code;
    const char *text;
    if (!PyArg_ParseTuple(args, "is", &code, &text) || !native_request_is_open(self))
        return NULL;
    native_taker_put(self->taker, false);
    manta_request_fail(self->request, code, "%s", text);
    return native_request_answered(self, 0);
}

/* A header's name or value: bytes or str without a zero byte; borrowed from the object. */
static const char *field_text(PyObject *object, Py_ssize_t *ret_size)
{
    if (PyBytes_Check(object)) {
        *ret_size = PyBytes_GET_SIZE(object);
        return PyBytes_AS_STRING(object);
    }
    if (PyUnicode_Check(object))
        return PyUnicode_AsUTF8AndSize(object, ret_size);
    PyErr_SetString(PyExc_TypeError, "a header is neither bytes nor str");
    return NULL;
}

/* Fields that frame the message are the server's own. */
static bool is_framing(const char *name, Py_ssize_t size)
{
    static const char *const OWN[] = {"content-length", "transfer-encoding", "connection",
                                      "keep-alive"};
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++)
        if ((size_t)size == strlen(OWN[i]) && !strncasecmp(name, OWN[i], (size_t)size))
            return true;
    return false;
}

static bool add_field(struct native_request *self, PyObject *pair, const char **content_type)
{
    struct manta_error error = {0};
    Py_ssize_t name_size, value_size;
    PyObject *both = PySequence_Fast(pair, "a header is not a pair");
    if (!both)
        return false;
    bool added = PySequence_Fast_GET_SIZE(both) == 2;
    if (!added)
        PyErr_SetString(PyExc_ValueError, "a header is not a pair");
    const char *name = added ? field_text(PySequence_Fast_GET_ITEM(both, 0), &name_size) : NULL;
    const char *value = name ? field_text(PySequence_Fast_GET_ITEM(both, 1), &value_size) : NULL;
    added = value != NULL;
    if (value && (strlen(name) != (size_t)name_size || strlen(value) != (size_t)value_size)) {
        PyErr_SetString(PyExc_ValueError, "a header has a zero byte");
        added = false;
    } else if (value && !*content_type && name_size == 12 && !strncasecmp(name, "content-type", 12)) {
        *content_type = value; /* lives in the pair, which the caller's list holds */
    } else if (value && !is_framing(name, name_size) &&
               manta_request_add_header(self->request, name, value, &error) < 0) {
        native_raise_error(state_of(self), &error);
        added = false;
    }
    Py_DECREF(both);
    return added;
}

/* `fields` is a sequence of pairs; *content_type is the one among them, or stays. */
bool native_request_add_fields(struct native_request *self, PyObject *fields, const char **content_type)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(fields);
    for (Py_ssize_t i = 0; i < count; i++)
        if (!add_field(self, PySequence_Fast_GET_ITEM(fields, i), content_type))
            return false;
    return true;
}

/* reply_http(status, content_type, headers, body): the whole answer. */
PyObject *native_request_reply_http(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct native_request *self = (struct native_request *)object;
    Py_buffer body;
    const char *content_type = NULL;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "reply_http takes status, content_type, headers, body");
        return NULL;
    }
    long status = PyLong_AsLong(args[0]);
    if ((status == -1 && PyErr_Occurred()) || !native_request_is_open(self))
        return NULL;
    if (args[1] != Py_None && !(content_type = PyUnicode_AsUTF8(args[1])))
        return NULL;
    PyObject *fields = PySequence_Fast(args[2], "headers are no sequence");
    if (!fields)
        return NULL;
    PyObject *result = NULL;
    if (native_request_add_fields(self, fields, &content_type) &&
        PyObject_GetBuffer(args[3], &body, PyBUF_SIMPLE) == 0) {
        native_taker_put(self->taker, false);
        int code = manta_request_reply_http(self->request, (int)status, content_type, body.buf,
                                            (size_t)body.len);
        PyBuffer_Release(&body);
        result = native_request_answered(self, code);
    }
    Py_DECREF(fields);
    return result;
}

/* begin(status, content_type, headers): a streamed answer; of values when the status is 0. */
bool native_request_begin(struct native_request *self, long status, const char *content_type,
                          PyObject *headers)
{
    struct manta_error error = {0};
    if ((status == -1 && PyErr_Occurred()) || !native_request_is_open(self))
        return false;
    PyObject *fields = PySequence_Fast(headers, "headers are no sequence");
    if (!fields)
        return false;
    bool added = native_request_add_fields(self, fields, &content_type);
    int code = added ? manta_request_begin(self->request, status ? (int)status : 200, content_type,
                                           NULL, NULL, &error)
                     : -1;
    Py_DECREF(fields);
    if (added && code < 0)
        native_raise_error(state_of(self), &error);
    self->begun = self->begun || (added && code == 0);
    return added && code == 0;
}

static PyObject *request_begin(PyObject *object, PyObject *args)
{
    int status;
    const char *content_type;
    PyObject *headers;
    if (!PyArg_ParseTuple(args, "izO", &status, &content_type, &headers) ||
        !native_request_begin((struct native_request *)object, status, content_type, headers))
        return NULL;
    Py_RETURN_NONE;
}

/* True: taken.  False: not now, on_room will be called.  Raises when nobody reads any more. */
static PyObject *wrote(struct native_request *self, int code)
{
    if (code == 0)
        Py_RETURN_TRUE;
    if (code == MANTA_EAGAIN)
        Py_RETURN_FALSE;
    return native_raise(state_of(self), code, NULL);
}

static PyObject *request_write(PyObject *object, PyObject *part)
{
    struct native_request *self = (struct native_request *)object;
    Py_buffer view;
    if (!native_request_is_open(self) || PyObject_GetBuffer(part, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    native_taker_put(self->taker, false);
    int code = view.len ? manta_request_write(self->request, view.buf, (size_t)view.len) : 0;
    PyBuffer_Release(&view);
    return wrote(self, code);
}

static PyObject *request_write_value(PyObject *object, PyObject *item)
{
    struct native_request *self = (struct native_request *)object;
    struct native_bytes bytes = {0};
    if (!native_request_is_open(self))
        return NULL;
    if (!native_write(state_of(self), &bytes, item) || !native_request_is_open(self)) {
        native_bytes_done(&bytes);
        return NULL;
    }
    struct manta_value value = {bytes.at, bytes.size};
    native_taker_put(self->taker, false);
    int code = manta_request_write_arg(self->request, manta_copied(&value));
    native_bytes_done(&bytes);
    return wrote(self, code);
}

/* Blocks this thread, which is not the loop's, until a write would be taken or nobody reads. */
static PyObject *request_wait_room(PyObject *object, PyObject *unused)
{
    struct native_request *self = (struct native_request *)object;
    struct manta_request *request = self->request;
    int code;
    (void)unused;
    if (!native_request_is_open(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    code = manta_request_wait_room(request, -1);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(code == 0);
}

PyObject *native_request_finish(struct native_request *self)
{
    if (!native_request_is_open(self))
        return NULL;
    native_taker_put(self->taker, false);
    return native_request_answered(self, manta_request_finish(self->request));
}

static PyObject *request_finish(PyObject *object, PyObject *unused)
{
    (void)unused;
    return native_request_finish((struct native_request *)object);
}

/* ---- the type ---------------------------------------------------------------------------------- */

#define SLICE(name)                                                                                \
    {#name, get_slice, NULL, NULL, (void *)offsetof(struct manta_taker_head, name)}
#define FLAG(name)                                                                                 \
    {#name, get_flag, NULL, NULL, (void *)offsetof(struct native_request, name)}

static PyGetSetDef GETTERS[] = {
    SLICE(method), SLICE(path), SLICE(query), SLICE(route_prefix), SLICE(content_type),
    SLICE(request_id), SLICE(model_id), FLAG(is_http), FLAG(is_websocket), FLAG(stream), FLAG(cancelled), FLAG(begun),
    {"number", get_number, NULL, NULL, NULL},
    {"open", get_open, NULL, "not answered yet", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef MEMBERS[] = {
    {"on_cancel", T_OBJECT, offsetof(struct native_request, on_cancel), 0, NULL},
    {"on_room", T_OBJECT, offsetof(struct native_request, on_room), 0, NULL},
    {"on_body", T_OBJECT, offsetof(struct native_request, on_body), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyObject *get_scope(PyObject *object, PyObject *unused)
{
    struct native_request *self = (struct native_request *)object;
    return native_request_is_open(self) ? native_request_scope(self, unused) : NULL;
}

static PyMethodDef METHODS[] = {
    {"scope", get_scope, METH_NOARGS, "The head as an ASGI scope."},
    {"args", request_args, METH_NOARGS, "The arguments of a call: (args, kwargs)."},
    {"body", request_body, METH_NOARGS, "The body, whole."},
    {"read", request_read, METH_NOARGS, "More of a streamed body: bytes, b'' at the end, or None."},
    {"field", request_field, METH_O, "The first header field of that name, or None."},
    {"time_left_s", request_time_left, METH_NOARGS, "Seconds until the deadline, or infinity."},
    {"reply", request_reply, METH_O, "Answers a call with a value."},
    {"reply_exception", request_reply_exception, METH_O, "Answers a call with an exception."},
    {"reply_http", (PyCFunction)(void (*)(void))native_request_reply_http, METH_FASTCALL,
     "Answers with status, content type, headers, body."},
    {"fail", request_fail, METH_VARARGS, "Answers that it failed: code, text."},
    {"begin", request_begin, METH_VARARGS, "Begins a streamed answer: status, type, headers."},
    {"write", request_write, METH_O, "A part of a streamed answer; False: not now."},
    {"write_value", request_write_value, METH_O, "One item of a stream of values; False: not now."},
    {"wait_room", request_wait_room, METH_NOARGS, "Blocks until write would take something."},
    {"finish", request_finish, METH_NOARGS, "Ends a streamed answer."},
    {"websocket_accept", native_websocket_accept, METH_VARARGS, "Accepts: subprotocol, headers."},
    {"websocket_receive", native_websocket_receive, METH_NOARGS, "The next ASGI message, or None."},
    {"websocket_send", native_websocket_send, METH_O,
     "str or bytes: True, False (not now), or None when the conversation is over."},
    {"websocket_close", native_websocket_close, METH_VARARGS, "Ends it: code, reason."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_traverse, request_traverse}, {Py_tp_clear, request_clear},
                              {Py_tp_dealloc, request_dealloc},   {Py_tp_getset, GETTERS},
                              {Py_tp_members, MEMBERS},           {Py_tp_methods, METHODS},
                              {0, NULL}};

PyType_Spec native_request_spec = {
    .name = "manta._native.Request",
    .basicsize = sizeof(struct native_request),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = SLOTS};
