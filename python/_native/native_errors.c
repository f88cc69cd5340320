/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_errors: Manta's errors as the module's exception.
 */
#include "native.h"

#include <string.h>

PyObject *native_make_error(struct native_state *state, int code, const char *text)
{
    PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *error = words ? PyObject_CallFunction(state->error, "iO", code, words) : NULL;
    Py_XDECREF(words);
    return error;
}

PyObject *native_raise(struct native_state *state, int code, const char *text)
{
    PyObject *error = native_make_error(state, code, text && *text ? text : manta_error_text(code));
    if (error)
        PyErr_SetObject(state->error, error);
    Py_XDECREF(error);
    return NULL;
}

PyObject *native_raise_error(struct native_state *state, const struct manta_error *error)
{
    return native_raise(state, error->code, error->text);
}
