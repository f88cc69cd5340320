/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_read: MessagePack as Python values.
 *
 * The bytes that are read came from libmanta, which has checked them; still nothing is read past the
 * end.
 */
#include "native.h"

#include <string.h>

/* Deeper than anything that native_write makes. */
enum { DEPTH_LIMIT = 68 };

/* ---- reading ----------------------------------------------------------------------------------- */

struct reader {
    struct native_state *state;
    const uint8_t *at, *end;
};

static PyObject *read_one(struct reader *reader, int depth);

PyObject *native_broken(void)
{
    PyErr_SetString(PyExc_ValueError, "a value is no MessagePack");
    return NULL;
}

static uint64_t get_number(const uint8_t *at, int size)
{
    uint64_t number = 0;
    for (int i = 0; i < size; i++)
        number = number << 8 | at[i];
    return number;
}

static bool has(const struct reader *reader, uint64_t size)
{
    return (uint64_t)(reader->end - reader->at) >= size;
}

/* A big-endian number of `size` bytes; false at the end. */
static bool take_number(struct reader *reader, int size, uint64_t *ret_number)
{
    if (!has(reader, (uint64_t)size))
        return false;
    *ret_number = get_number(reader->at, size);
    reader->at += size;
    return true;
}

static PyObject *read_text(struct reader *reader, uint64_t size)
{
    if (!has(reader, size))
        return native_broken();
    PyObject *text = PyUnicode_DecodeUTF8((const char *)reader->at, (Py_ssize_t)size, "replace");
    reader->at += size;
    return text;
}

static PyObject *read_binary(struct reader *reader, uint64_t size)
{
    if (!has(reader, size))
        return native_broken();
    PyObject *binary = PyBytes_FromStringAndSize((const char *)reader->at, (Py_ssize_t)size);
    reader->at += size;
    return binary;
}

static PyObject *read_list(struct reader *reader, uint64_t count, int depth)
{
    if (!has(reader, count) || depth > DEPTH_LIMIT)
        return native_broken();
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; list && i < count; i++) {
        PyObject *item = read_one(reader, depth + 1);
        if (item)
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_dict(struct reader *reader, uint64_t count, int depth)
{
    if (!has(reader, count) || depth > DEPTH_LIMIT)
        return native_broken();
    PyObject *dict = PyDict_New();
    for (uint64_t i = 0; dict && i < count; i++) {
        PyObject *key = read_one(reader, depth + 1);
        PyObject *item = key ? read_one(reader, depth + 1) : NULL;
        if (!item || PyDict_SetItem(dict, key, item) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(item);
    }
    return dict;
}

static PyObject *read_handle(struct reader *reader, const uint8_t *end, int depth)
{
    struct reader inner = {reader->state, reader->at, end};
    PyObject *name = read_one(&inner, depth + 1);
    if (!name || !PyList_Check(name) || PyList_GET_SIZE(name) != 2) {
        Py_XDECREF(name);
        return PyErr_Occurred() ? NULL : native_broken();
    }
    PyObject *handle =
        PyObject_CallFunctionObjArgs(reader->state->make_handle, PyList_GET_ITEM(name, 0),
                                     PyList_GET_ITEM(name, 1), NULL);
    Py_DECREF(name);
    return handle;
}

/* What libmanta keeps outside the document (a buffer), it gives as binary. */
static PyObject *read_outside(const uint8_t *begin, const uint8_t *end, int kind)
{
    struct manta_value value = {begin, (size_t)(end - begin)};
    struct manta_error error = {0};
    const void *at;
    size_t size;
    if (manta_value_binary(&value, &at, &size, &error) == 0)
        return PyBytes_FromStringAndSize(at, (Py_ssize_t)size);
    return PyErr_Format(PyExc_TypeError, "a value of MessagePack extension %d cannot be read: %s",
                        kind, error.text);
}

static PyObject *read_extension(struct reader *reader, const uint8_t *begin, uint64_t size,
                                int depth)
{
    enum { HANDLE = 2 };
    uint64_t kind;
    if (!take_number(reader, 1, &kind) || !has(reader, size))
        return native_broken();
    const uint8_t *end = reader->at + size;
    PyObject *value = NULL;
    if ((int8_t)kind == NATIVE_PICKLE) {
        PyObject *view = PyMemoryView_FromMemory((char *)reader->at, (Py_ssize_t)size, PyBUF_READ);
        value = view ? PyObject_CallOneArg(reader->state->loads, view) : NULL;
        Py_XDECREF(view);
    } else if (kind == HANDLE) {
        value = read_handle(reader, end, depth);
    } else {
        value = read_outside(begin, end, (int8_t)kind);
    }
    reader->at = end;
    return value;
}

static PyObject *read_float(struct reader *reader, int size)
{
    uint64_t bits;
    double number;
    float small;
    if (!take_number(reader, size, &bits))
        return native_broken();
    if (size == 8) {
        memcpy(&number, &bits, sizeof number);
        return PyFloat_FromDouble(number);
    }
    uint32_t low = (uint32_t)bits;
    memcpy(&small, &low, sizeof small);
    return PyFloat_FromDouble(small);
}

static PyObject *read_int(struct reader *reader, int size, bool is_signed)
{
    uint64_t bits;
    if (!take_number(reader, size, &bits))
        return native_broken();
    if (!is_signed)
        return PyLong_FromUnsignedLongLong(bits);
    int unused = 64 - 8 * size;
    return PyLong_FromLongLong((int64_t)(bits << unused) >> unused);
}

/* Types whose head is followed by a length of 1, 2 or 4 bytes. */
static PyObject *read_sized(struct reader *reader, const uint8_t *begin, uint8_t type, int depth)
{
    static const struct { uint8_t first; char kind; int width; } TABLE[] = {
        {0xc4, 'b', 1}, {0xc5, 'b', 2}, {0xc6, 'b', 4}, {0xc7, 'e', 1}, {0xc8, 'e', 2},
        {0xc9, 'e', 4}, {0xd9, 's', 1}, {0xda, 's', 2}, {0xdb, 's', 4}, {0xdc, 'l', 2},
        {0xdd, 'l', 4}, {0xde, 'd', 2}, {0xdf, 'd', 4}};
    uint64_t size;
    for (size_t i = 0; i < sizeof TABLE / sizeof *TABLE; i++) {
        if (TABLE[i].first != type)
            continue;
        if (!take_number(reader, TABLE[i].width, &size))
            return native_broken();
        switch (TABLE[i].kind) {
        case 'b':
            return read_binary(reader, size);
        case 's':
            return read_text(reader, size);
        case 'l':
            return read_list(reader, size, depth);
        case 'd':
            return read_dict(reader, size, depth);
        default:
            return read_extension(reader, begin, size, depth);
        }
    }
    return native_broken();
}

static PyObject *read_one(struct reader *reader, int depth)
{
    const uint8_t *begin = reader->at;
    if (!has(reader, 1))
        return native_broken();
    uint8_t type = *reader->at++;
    if (type < 0x80)
        return PyLong_FromLong(type);
    if (type >= 0xe0)
        return PyLong_FromLong((int8_t)type);
    if (type < 0x90)
        return read_dict(reader, type & 15, depth);
    if (type < 0xa0)
        return read_list(reader, type & 15, depth);
    if (type < 0xc0)
        return read_text(reader, type & 31);
    switch (type) {
    case 0xc0:
        Py_RETURN_NONE;
    case 0xc2:
        Py_RETURN_FALSE;
    case 0xc3:
        Py_RETURN_TRUE;
    case 0xca:
        return read_float(reader, 4);
    case 0xcb:
        return read_float(reader, 8);
    case 0xcc: case 0xcd: case 0xce: case 0xcf:
        return read_int(reader, 1 << (type - 0xcc), false);
    case 0xd0: case 0xd1: case 0xd2: case 0xd3:
        return read_int(reader, 1 << (type - 0xd0), true);
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
        return read_extension(reader, begin, UINT64_C(1) << (type - 0xd4), depth);
    default:
        return read_sized(reader, begin, type, depth);
    }
}

PyObject *native_read(struct native_state *state, const void *at, size_t size)
{
    struct reader reader = {state, at, (const uint8_t *)at + size};
    if (!size)
        Py_RETURN_NONE;
    return read_one(&reader, 0);
}

bool native_read_exception(struct native_state *state, const void *at, size_t size,
                           PyObject **ret_error)
{
    const uint8_t *bytes = at;
    if (size < 6 || bytes[0] != 0xc9 || (int8_t)bytes[5] != NATIVE_EXCEPTION)
        return false;
    PyObject *view = PyMemoryView_FromMemory((char *)bytes + 6, (Py_ssize_t)size - 6, PyBUF_READ);
    *ret_error = view ? PyObject_CallOneArg(state->loads, view) : NULL;
    Py_XDECREF(view);
    return true;
}
