/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_args: the arguments of a call on their way.
 *
 * Each argument is a value by itself, as in Ray Serve: an object given twice arrives as two.  So a
 * deployment in C reads those that it can read, whatever the others are.  Keyword arguments come
 * last, as an array of a mark and a map.
 */
#include "native.h"

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

/* [mark, {name: value}]: an array of two, an extension of one byte, a map. */
static bool put_keywords(struct native_state *state, struct native_bytes *out, PyObject *kwargs)
{
    static const uint8_t MARK[] = {0x92, 0xd4, NATIVE_KEYWORDS, 0};
    Py_ssize_t position = 0;
    PyObject *name, *value;
    bool put = native_put_bytes(out, MARK, sizeof MARK) &&
               native_put_head(out, 0xdf, (uint64_t)PyDict_GET_SIZE(kwargs), 4);
    while (put && PyDict_Next(kwargs, &position, &name, &value))
        put = native_write(state, out, name) && native_write(state, out, value);
    return put;
}

bool native_write_args(struct native_state *state, struct native_args *out, PyObject *args,
                       PyObject *kwargs)
{
    size_t positional = (size_t)PyTuple_GET_SIZE(args);
    *out = (struct native_args){.count = positional + (PyDict_GET_SIZE(kwargs) > 0)};
    size_t *begins = PyMem_RawMalloc((out->count + 1) * sizeof *begins);
    out->list = PyMem_RawMalloc((out->count + 1) * sizeof *out->list);
    bool put = begins && out->list;
    if (!put)
        PyErr_NoMemory();
    for (size_t i = 0; put && i < out->count; i++) {
        begins[i] = out->bytes.size;
        put = i < positional
                  ? native_write(state, &out->bytes, PyTuple_GET_ITEM(args, (Py_ssize_t)i))
                  : put_keywords(state, &out->bytes, kwargs);
    }
    if (put) {
        begins[out->count] = out->bytes.size;
        point(out, begins);
    }
    PyMem_RawFree(begins);
    if (!put)
        native_args_done(out);
    return put;
}
