/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_scope: a request's head as the dict that ASGI calls its scope.
 *
 * `path` is the decoded path with the prefix, `root_path` the prefix without a slash at its end, as
 * Ray Serve gives them.
 */
#include "native.h"

#include <string.h>

static PyObject *bytes_of(struct manta_taker_slice slice)
{
    return PyBytes_FromStringAndSize(slice.at ? slice.at : "", (Py_ssize_t)slice.size);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 2.1; what is no escape stays as it is. */
static PyObject *decode_path(struct manta_taker_slice path)
{
    if (!path.size || !memchr(path.at, '%', path.size))
        return PyUnicode_DecodeUTF8(path.at ? path.at : "", (Py_ssize_t)path.size, "replace");
    char *decoded = PyMem_Malloc(path.size);
    if (!decoded)
        return PyErr_NoMemory();
    size_t size = 0;
    for (size_t i = 0; i < path.size; i++) {
        int high = i + 2 < path.size && path.at[i] == '%' ? hex_digit(path.at[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(path.at[i + 2]) : -1;
        decoded[size++] = low >= 0 ? (char)(high << 4 | low) : path.at[i];
        i += low >= 0 ? 2 : 0;
    }
    PyObject *text = PyUnicode_DecodeUTF8(decoded, (Py_ssize_t)size, "replace");
    PyMem_Free(decoded);
    return text;
}

static PyObject *make_headers(const struct manta_request *request)
{
    struct manta_taker_slice name, value;
    size_t cursor = 0;
    PyObject *list = PyList_New(0);
    while (list && manta_taker_field(request, &cursor, &name, &value)) {
        PyObject *name_object = bytes_of(name), *value_object = bytes_of(value);
        PyObject *pair =
            name_object && value_object ? PyTuple_Pack(2, name_object, value_object) : NULL;
        if (!pair || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
        Py_XDECREF(name_object);
        Py_XDECREF(value_object);
    }
    return list;
}

/* Steals `value`, which may be null after a failure. */
static bool put(PyObject *dict, PyObject *key, PyObject *value)
{
    bool done = value && PyDict_SetItem(dict, key, value) == 0;
    Py_XDECREF(value);
    return done;
}

static struct manta_taker_slice root_path_of(struct manta_taker_slice prefix)
{
    while (prefix.size && prefix.at[prefix.size - 1] == '/')
        prefix.size--;
    return prefix;
}

static PyObject *text_of(struct manta_taker_slice slice)
{
    return PyUnicode_DecodeUTF8(slice.at ? slice.at : "", (Py_ssize_t)slice.size, "replace");
}

/* What the client offered in Sec-WebSocket-Protocol. */
static PyObject *make_subprotocols(const struct manta_request *request)
{
    static const char NAME[] = "sec-websocket-protocol";
    struct manta_taker_slice name, value;
    size_t cursor = 0;
    PyObject *list = PyList_New(0);
    while (list && manta_taker_field(request, &cursor, &name, &value)) {
        const char *at = value.at, *end = at ? at + value.size : at;
        bool is_it = name.size == sizeof NAME - 1 && !memcmp(name.at, NAME, name.size);
        while (is_it && list && at < end) {
            const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
            const char *next = comma ? comma + 1 : end;
            while (at < stop && (*at == ' ' || *at == '\t'))
                at++;
            while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
                stop--;
            PyObject *text = PyUnicode_DecodeLatin1(at, stop - at, NULL);
            if (!text || (stop > at && PyList_Append(list, text) < 0))
                Py_CLEAR(list);
            Py_XDECREF(text);
            at = next;
        }
    }
    return list;
}

/* A websocket may be refused by an answer of the application's own. */
static bool add_websocket(struct native_request *self, PyObject *scope)
{
    struct native_state *state = self->taker->state;
    const struct native_names *names = &state->names;
    return put(scope, names->type, Py_NewRef(state->text_websocket)) &&
           put(scope, names->scheme, Py_NewRef(state->text_ws)) &&
           put(scope, names->subprotocols, make_subprotocols(self->request)) &&
           put(scope, names->extensions, Py_BuildValue("{s:{}}", "websocket.http.response"));
}

PyObject *native_request_scope(struct native_request *self, PyObject *ignored)
{
    struct native_state *state = self->taker->state;
    const struct native_names *names = &state->names;
    struct manta_taker_head look;
    (void)ignored;
    manta_taker_look(self->request, &look);
    PyObject *version = look.http_minor ? state->text_1_1 : state->text_1_0;
    PyObject *scope = PyDict_New();
    bool made = scope && put(scope, names->type, Py_NewRef(state->text_http)) &&
                put(scope, names->asgi, PyDict_Copy(state->asgi_version)) &&
                put(scope, names->http_version, Py_NewRef(version)) &&
                (self->is_websocket || put(scope, names->method, text_of(look.method))) &&
                put(scope, names->scheme, Py_NewRef(state->text_http)) &&
                put(scope, names->path, decode_path(look.path)) &&
                put(scope, names->raw_path, bytes_of(look.path)) &&
                put(scope, names->query_string, bytes_of(look.query)) &&
                put(scope, names->root_path, text_of(root_path_of(look.route_prefix))) &&
                put(scope, names->headers, make_headers(self->request)) &&
                put(scope, names->client, Py_NewRef(Py_None)) &&
                put(scope, names->server, Py_NewRef(Py_None)) &&
                (!self->is_websocket || add_websocket(self, scope));
    if (!made)
        Py_CLEAR(scope);
    return scope;
}
