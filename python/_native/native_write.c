/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_write: Python values as MessagePack.
 *
 * Plain values travel as MessagePack, so that deployments in C read them and so that no pickle is
 * made for the usual arguments.  "Plain" is narrow on purpose: only exact types whose MessagePack
 * gives the very same value back (a tuple would come back as a list, a subclass as its base). Where
 * a value is not plain, what was written of it is taken back and it is pickled whole.
 */
#include "native.h"

#include <string.h>

enum { DEPTH_LIMIT = 60, SMALLEST = 256 };

/* ---- bytes ---- */

void native_bytes_done(struct native_bytes *bytes)
{
    native_bytes_back(bytes, 0, 0);
    PyMem_RawFree(bytes->held);
    PyMem_RawFree(bytes->at);
    *bytes = (struct native_bytes){0};
}

/* Room for `size` bytes more at the end; null: MemoryError is set. */
static uint8_t *reserve(struct native_bytes *out, size_t size)
{
    if (out->capacity - out->size < size) {
        size_t capacity = out->capacity ? out->capacity : SMALLEST;
        while (capacity - out->size < size)
            capacity *= 2;
        uint8_t *grown = PyMem_RawRealloc(out->at, capacity);
        if (!grown) {
            PyErr_NoMemory();
            return NULL;
        }
        out->at = grown;
        out->capacity = capacity;
    }
    return out->at + out->size;
}

static void put_number(uint8_t *at, uint64_t number, int size)
{
    for (int i = 0; i < size; i++)
        at[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
}

bool native_put_head(struct native_bytes *out, uint8_t type, uint64_t number, int size)
{
    uint8_t *at = reserve(out, 9);
    if (!at)
        return false;
    at[0] = type;
    put_number(at + 1, number, size);
    out->size += 1 + (size_t)size;
    return true;
}

bool native_put_bytes(struct native_bytes *out, const void *from, size_t size)
{
    uint8_t *at = reserve(out, size);
    if (!at)
        return false;
    if (size)
        memcpy(at, from, size);
    out->size += size;
    return true;
}

/* ---- writing ---- */

static enum native_outcome put_plain(struct native_bytes *out, PyObject *value, int depth);

static enum native_outcome done(bool put)
{
    return put ? NATIVE_WRITTEN : NATIVE_FAILED;
}

static enum native_outcome put_int(struct native_bytes *out, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow)
        return NATIVE_NOT_PLAIN;
    if (number == -1 && PyErr_Occurred())
        return NATIVE_FAILED;
    if (number >= -32 && number < 128)
        return done(native_put_head(out, (uint8_t)number, 0, 0));
    if (number >= INT32_MIN && number <= INT32_MAX)
        return done(native_put_head(out, 0xd2, (uint64_t)number, 4));
    return done(native_put_head(out, 0xd3, (uint64_t)number, 8));
}

static enum native_outcome put_sized(struct native_bytes *out, uint8_t type8, const void *at,
                                     Py_ssize_t size)
{
    if (size > UINT32_MAX)
        return NATIVE_NOT_PLAIN;
    bool small = size < 256;
    bool head = small ? native_put_head(out, type8, (uint64_t)size, 1)
                      : native_put_head(out, (uint8_t)(type8 + 2), (uint64_t)size, 4);
    return done(head && native_put_bytes(out, at, (size_t)size));
}

static enum native_outcome put_text(struct native_bytes *out, PyObject *value)
{
    Py_ssize_t size;
    const char *at = PyUnicode_AsUTF8AndSize(value, &size);
    if (!at) { /* lone surrogates */
        PyErr_Clear();
        return NATIVE_NOT_PLAIN;
    }
    if (size < 32)
        return done(native_put_head(out, (uint8_t)(0xa0 | size), 0, 0) &&
                    native_put_bytes(out, at, (size_t)size));
    return put_sized(out, 0xd9, at, size);
}

static enum native_outcome put_binary(struct native_bytes *out, PyObject *value)
{
    enum native_outcome large = PyBytes_GET_SIZE(value) < NATIVE_LARGE
                                    ? NATIVE_NOT_PLAIN
                                    : native_write_large_bytes(out, value);
    return large != NATIVE_NOT_PLAIN
               ? large
               : put_sized(out, 0xc4, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
}

static enum native_outcome put_list(struct native_bytes *out, PyObject *value, int depth)
{
    Py_ssize_t count = PyList_GET_SIZE(value);
    if (count > UINT32_MAX)
        return NATIVE_NOT_PLAIN;
    if (!(count < 16 ? native_put_head(out, (uint8_t)(0x90 | count), 0, 0)
                     : native_put_head(out, 0xdd, (uint64_t)count, 4)))
        return NATIVE_FAILED;
    for (Py_ssize_t i = 0; i < count; i++) {
        enum native_outcome one = put_plain(out, PyList_GET_ITEM(value, i), depth + 1);
        if (one != NATIVE_WRITTEN)
            return one;
    }
    return NATIVE_WRITTEN;
}

static enum native_outcome put_dict(struct native_bytes *out, PyObject *value, int depth)
{
    Py_ssize_t count = PyDict_GET_SIZE(value), position = 0;
    PyObject *key, *item;
    if (count > UINT32_MAX)
        return NATIVE_NOT_PLAIN;
    if (!(count < 16 ? native_put_head(out, (uint8_t)(0x80 | count), 0, 0)
                     : native_put_head(out, 0xdf, (uint64_t)count, 4)))
        return NATIVE_FAILED;
    while (PyDict_Next(value, &position, &key, &item)) {
        if (!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key))
            return NATIVE_NOT_PLAIN;
        enum native_outcome one = put_plain(out, key, depth + 1);
        if (one == NATIVE_WRITTEN)
            one = put_plain(out, item, depth + 1);
        if (one != NATIVE_WRITTEN)
            return one;
    }
    return NATIVE_WRITTEN;
}

static enum native_outcome put_plain(struct native_bytes *out, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None)
        return done(native_put_head(out, 0xc0, 0, 0));
    if (type == &PyUnicode_Type)
        return put_text(out, value);
    if (type == &PyLong_Type)
        return put_int(out, value);
    if (type == &PyBool_Type)
        return done(native_put_head(out, value == Py_True ? 0xc3 : 0xc2, 0, 0));
    if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(value);
        uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        return done(native_put_head(out, 0xcb, bits, 8));
    }
    if (type == &PyBytes_Type)
        return put_binary(out, value);
    if (depth >= DEPTH_LIMIT)
        return NATIVE_NOT_PLAIN;
    if (type == &PyList_Type)
        return put_list(out, value, depth);
    if (type == &PyDict_Type)
        return put_dict(out, value, depth);
    return native_write_large(out, value);
}

bool native_write(struct native_state *state, struct native_bytes *out, PyObject *value)
{
    size_t begin = out->size, held = out->held_count;
    out->state = state;
    enum native_outcome plain = put_plain(out, value, 0);
    if (plain != NATIVE_NOT_PLAIN)
        return plain == NATIVE_WRITTEN;
    native_bytes_back(out, begin, held);
    return native_write_pickle(out, NATIVE_PICKLE, value);
}

bool native_write_exception(struct native_state *state, struct native_bytes *out, PyObject *error)
{
    out->state = state;
    return native_write_pickle(out, NATIVE_EXCEPTION, error);
}
