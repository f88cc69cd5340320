/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_websocket: the methods of Request for a websocket: ASGI's messages made here, at once.
 *
 * Nothing waits: who receives too early gets None and is told by on_body (or on_cancel); who sends too
 * fast gets False and is told by on_room.
 */
#include "native.h"

#include <manta/websocket.h>

static struct native_request *open_request(PyObject *object)
{
    struct native_request *self = (struct native_request *)object;
    return native_request_is_open(self) ? self : NULL;
}

/* websocket_accept(subprotocol, headers) */
PyObject *native_websocket_accept(PyObject *object, PyObject *args)
{
    struct native_request *self = open_request(object);
    struct manta_error error = {0};
    const char *subprotocol, *content_type = "";
    PyObject *given;
    if (!self || !PyArg_ParseTuple(args, "zO", &subprotocol, &given))
        return NULL;
    PyObject *fields = PySequence_Fast(given, "headers are no sequence");
    if (!fields)
        return NULL;
    bool added = native_request_add_fields(self, fields, &content_type);
    Py_DECREF(fields);
    if (!added)
        return NULL;
    /* As ASGI servers do, whatever the client offered. */
    if ((subprotocol && manta_request_add_header(self->request, "sec-websocket-protocol", subprotocol,
                                                 &error) < 0) ||
        manta_websocket_accept(self->request, NULL, NULL, &error) < 0)
        return native_raise_error(self->taker->state, &error);
    self->begun = true;
    Py_RETURN_NONE;
}

/* Steals `value`, which may be null after a failure. */
static bool put(PyObject *dict, PyObject *key, PyObject *value)
{
    bool done = dict && value && PyDict_SetItem(dict, key, value) == 0;
    Py_XDECREF(value);
    return done;
}

static PyObject *make_message(struct native_state *state,
                              const struct manta_websocket_message *message)
{
    const struct native_names *names = &state->names;
    const char *at = message->at ? message->at : "";
    PyObject *dict = PyDict_New();
    bool made;
    if (message->kind == MANTA_WEBSOCKET_CLOSED)
        made = put(dict, names->type, Py_NewRef(state->text_disconnect)) &&
               put(dict, names->code, PyLong_FromLong(message->code)) &&
               put(dict, names->reason, PyUnicode_DecodeUTF8(at, (Py_ssize_t)message->size, "replace"));
    else if (message->kind == MANTA_WEBSOCKET_TEXT)
        made = put(dict, names->type, Py_NewRef(state->text_receive)) &&
               put(dict, names->text, PyUnicode_DecodeUTF8(at, (Py_ssize_t)message->size, NULL));
    else
        made = put(dict, names->type, Py_NewRef(state->text_receive)) &&
               put(dict, names->bytes, PyBytes_FromStringAndSize(at, (Py_ssize_t)message->size));
    if (!made)
        Py_CLEAR(dict);
    return dict;
}

PyObject *native_websocket_receive(PyObject *object, PyObject *unused)
{
    struct native_request *self = open_request(object);
    struct manta_websocket_message message = {MANTA_WEBSOCKET_MESSAGE};
    struct manta_error error = {0};
    (void)unused;
    if (!self)
        return NULL;
    int code = manta_websocket_receive(self->request, &message, 0, &error);
    if (code == MANTA_ETIMEOUT)
        Py_RETURN_NONE;
    if (code < 0)
        return native_raise_error(self->taker->state, &error);
    return make_message(self->taker->state, &message);
}

PyObject *native_websocket_send(PyObject *object, PyObject *message)
{
    struct native_request *self = open_request(object);
    int code;
    if (!self)
        return NULL;
    if (PyUnicode_Check(message)) {
        Py_ssize_t size;
        const char *at = PyUnicode_AsUTF8AndSize(message, &size);
        if (!at)
            return NULL;
        code = manta_websocket_send(self->request, MANTA_WEBSOCKET_TEXT, at, (size_t)size);
    } else {
        Py_buffer view;
        if (PyObject_GetBuffer(message, &view, PyBUF_SIMPLE) < 0)
            return NULL;
        code = manta_websocket_send(self->request, MANTA_WEBSOCKET_BINARY, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
    }
    if (code == 0)
        Py_RETURN_TRUE;
    if (code == MANTA_EAGAIN)
        Py_RETURN_FALSE;
    if (code == MANTA_ECANCELLED)
        Py_RETURN_NONE;
    return native_raise(self->taker->state, code, NULL);
}

/* websocket_close(code, reason) */
PyObject *native_websocket_close(PyObject *object, PyObject *args)
{
    struct native_request *self = open_request(object);
    struct manta_error error = {0};
    int code;
    const char *reason;
    if (!self || !PyArg_ParseTuple(args, "iz", &code, &reason))
        return NULL;
    int result = manta_websocket_close(self->request, code, reason, &error);
    if (result == MANTA_EINVALID)
        return native_raise_error(self->taker->state, &error);
    return native_request_answered(self, result);
}
