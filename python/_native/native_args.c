/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_args: the arguments of a call on their way, and where they arrive.
 */
#include "native.h"

/* ---- writing ----------------------------------------------------------------------------------- */

void native_args_done(struct native_args *args)
{
    native_bytes_done(&args->bytes);
    PyMem_RawFree(args->list);
    *args = (struct native_args){0};
}

/* Offsets become pointers only now: the bytes do not move any more. */
static void point(struct native_args *out, const size_t *begins)
{
    for (size_t i = 0; i < out->count; i++) {
        struct manta_value value = {out->bytes.at + begins[i], begins[i + 1] - begins[i]};
        out->list[i] = manta_copied(&value);
    }
}

static enum native_outcome put_positional(struct native_args *out, PyObject *args, size_t *begins)
{
    for (size_t i = 0; i < out->count; i++) {
        begins[i] = out->bytes.size;
        enum native_outcome one = native_write_plain(&out->bytes, PyTuple_GET_ITEM(args, (Py_ssize_t)i));
        if (one != NATIVE_WRITTEN)
            return one;
    }
    begins[out->count] = out->bytes.size;
    return NATIVE_WRITTEN;
}

static bool put_as_one(struct native_state *state, struct native_args *out, PyObject *args,
                       PyObject *kwargs, size_t *begins)
{
    PyObject *both = PyTuple_Pack(2, args, kwargs);
    out->bytes.size = 0;
    out->count = 1;
    bool put = both && native_write_pickle(state, &out->bytes, NATIVE_PICKLE, both);
    begins[0] = 0;
    begins[1] = out->bytes.size;
    Py_XDECREF(both);
    return put;
}

bool native_write_args(struct native_state *state, struct native_args *out, PyObject *args,
                       PyObject *kwargs)
{
    *out = (struct native_args){.count = (size_t)PyTuple_GET_SIZE(args)};
    size_t room = out->count + 2;
    size_t *begins = PyMem_RawMalloc(room * sizeof *begins);
    out->list = PyMem_RawMalloc(room * sizeof *out->list);
    bool put = begins && out->list;
    if (!put)
        PyErr_NoMemory();
    enum native_outcome plain = put && !PyDict_GET_SIZE(kwargs) ? put_positional(out, args, begins)
                                                          : NATIVE_NOT_PLAIN;
    if (put && plain == NATIVE_NOT_PLAIN)
        put = put_as_one(state, out, args, kwargs, begins);
    else
        put = put && plain == NATIVE_WRITTEN;
    if (put)
        point(out, begins);
    PyMem_RawFree(begins);
    if (!put)
        native_args_done(out);
    return put;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static bool is_pickled_args(const uint8_t *at, size_t size)
{
    return size > 7 && at[0] == 0x91 && at[1] == 0xc9 && (int8_t)at[6] == NATIVE_PICKLE;
}

PyObject *native_read_args(struct native_state *state, const void *at, size_t size)
{
    if (is_pickled_args(at, size)) {
        PyObject *both = native_read(state, (const uint8_t *)at + 1, size - 1);
        if (both && PyTuple_CheckExact(both) && PyTuple_GET_SIZE(both) == 2)
            return both;
        Py_XDECREF(both);
        return PyErr_Occurred() ? NULL : native_broken();
    }
    PyObject *list = native_read(state, at, size);
    PyObject *args = NULL, *kwargs = NULL, *both = NULL;
    if (list && PyList_CheckExact(list)) {
        args = PyList_AsTuple(list);
        kwargs = PyDict_New();
        both = args && kwargs ? PyTuple_Pack(2, args, kwargs) : NULL;
    } else if (list) {
        native_broken();
    }
    Py_XDECREF(list);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return both;
}
