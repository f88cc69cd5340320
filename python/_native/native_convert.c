/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_convert: values and errors between Python and MessagePack.
 *
 * Plain values travel as MessagePack, so that deployments in C read them and so that no pickle is
 * made for the usual arguments.  "Plain" is narrow on purpose: only exact types whose MessagePack
 * gives the very same value back (a tuple would come back as a list, a subclass as its base).  Where
 * a value is not plain, what was written of it is taken back and it is pickled whole.
 *
 * The bytes that are read came from libmanta, which has checked them; still nothing is read past the
 * end.
 */
#include "native.h"

#include <string.h>

enum { DEPTH_LIMIT = 60, SMALLEST = 256 };

/* ---- bytes ------------------------------------------------------------------------------------- */

void native_bytes_done(struct native_bytes *bytes)
{
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

static uint64_t get_number(const uint8_t *at, int size)
{
    uint64_t number = 0;
    for (int i = 0; i < size; i++)
        number = number << 8 | at[i];
    return number;
}

static bool put_head(struct native_bytes *out, uint8_t type, uint64_t number, int size)
{
    uint8_t *at = reserve(out, 9);
    if (!at)
        return false;
    at[0] = type;
    put_number(at + 1, number, size);
    out->size += 1 + (size_t)size;
    return true;
}

static bool put_bytes(struct native_bytes *out, const void *from, size_t size)
{
    uint8_t *at = reserve(out, size);
    if (!at)
        return false;
    if (size)
        memcpy(at, from, size);
    out->size += size;
    return true;
}

/* ---- writing ----------------------------------------------------------------------------------- */

enum outcome { FAILED = -1, NOT_PLAIN = 0, WRITTEN = 1 };

static enum outcome put_plain(struct native_bytes *out, PyObject *value, int depth);

static enum outcome done(bool put)
{
    return put ? WRITTEN : FAILED;
}

static enum outcome put_int(struct native_bytes *out, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow)
        return NOT_PLAIN;
    if (number == -1 && PyErr_Occurred())
        return FAILED;
    if (number >= -32 && number < 128)
        return done(put_head(out, (uint8_t)number, 0, 0));
    if (number >= INT32_MIN && number <= INT32_MAX)
        return done(put_head(out, 0xd2, (uint64_t)number, 4));
    return done(put_head(out, 0xd3, (uint64_t)number, 8));
}

static enum outcome put_sized(struct native_bytes *out, uint8_t type8, const void *at, Py_ssize_t size)
{
    if (size > UINT32_MAX)
        return NOT_PLAIN;
    bool small = size < 256;
    bool head = small ? put_head(out, type8, (uint64_t)size, 1)
                      : put_head(out, (uint8_t)(type8 + 2), (uint64_t)size, 4);
    return done(head && put_bytes(out, at, (size_t)size));
}

static enum outcome put_text(struct native_bytes *out, PyObject *value)
{
    Py_ssize_t size;
    const char *at = PyUnicode_AsUTF8AndSize(value, &size);
    if (!at) { /* lone surrogates */
        PyErr_Clear();
        return NOT_PLAIN;
    }
    if (size < 32)
        return done(put_head(out, (uint8_t)(0xa0 | size), 0, 0) &&
                    put_bytes(out, at, (size_t)size));
    return put_sized(out, 0xd9, at, size);
}

static enum outcome put_list(struct native_bytes *out, PyObject *value, int depth)
{
    Py_ssize_t count = PyList_GET_SIZE(value);
    if (count > UINT32_MAX)
        return NOT_PLAIN;
    if (!(count < 16 ? put_head(out, (uint8_t)(0x90 | count), 0, 0)
                     : put_head(out, 0xdd, (uint64_t)count, 4)))
        return FAILED;
    for (Py_ssize_t i = 0; i < count; i++) {
        enum outcome one = put_plain(out, PyList_GET_ITEM(value, i), depth + 1);
        if (one != WRITTEN)
            return one;
    }
    return WRITTEN;
}

static enum outcome put_dict(struct native_bytes *out, PyObject *value, int depth)
{
    Py_ssize_t count = PyDict_GET_SIZE(value), position = 0;
    PyObject *key, *item;
    if (count > UINT32_MAX)
        return NOT_PLAIN;
    if (!(count < 16 ? put_head(out, (uint8_t)(0x80 | count), 0, 0)
                     : put_head(out, 0xdf, (uint64_t)count, 4)))
        return FAILED;
    while (PyDict_Next(value, &position, &key, &item)) {
        if (!PyUnicode_CheckExact(key) && !PyLong_CheckExact(key))
            return NOT_PLAIN;
        enum outcome one = put_plain(out, key, depth + 1);
        if (one == WRITTEN)
            one = put_plain(out, item, depth + 1);
        if (one != WRITTEN)
            return one;
    }
    return WRITTEN;
}

static enum outcome put_plain(struct native_bytes *out, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (value == Py_None)
        return done(put_head(out, 0xc0, 0, 0));
    if (type == &PyUnicode_Type)
        return put_text(out, value);
    if (type == &PyLong_Type)
        return put_int(out, value);
    if (type == &PyBool_Type)
        return done(put_head(out, value == Py_True ? 0xc3 : 0xc2, 0, 0));
    if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(value);
        uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        return done(put_head(out, 0xcb, bits, 8));
    }
    if (type == &PyBytes_Type)
        return put_sized(out, 0xc4, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    if (depth >= DEPTH_LIMIT)
        return NOT_PLAIN;
    if (type == &PyList_Type)
        return put_list(out, value, depth);
    if (type == &PyDict_Type)
        return put_dict(out, value, depth);
    return NOT_PLAIN;
}

static bool put_pickle(struct native_state *state, struct native_bytes *out, int8_t extension,
                       PyObject *value)
{
    PyObject *pickle = PyObject_CallOneArg(state->dumps, value);
    if (pickle && !PyBytes_Check(pickle))
        PyErr_SetString(PyExc_TypeError, "dumps did not return bytes");
    bool put = pickle && PyBytes_Check(pickle);
    if (put && PyBytes_GET_SIZE(pickle) > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a value of more than 4 GiB");
        put = false;
    }
    if (put) {
        uint8_t kind = (uint8_t)extension;
        put = put_head(out, 0xc9, (uint64_t)PyBytes_GET_SIZE(pickle), 4) &&
              put_bytes(out, &kind, 1) &&
              put_bytes(out, PyBytes_AS_STRING(pickle), (size_t)PyBytes_GET_SIZE(pickle));
    }
    Py_XDECREF(pickle);
    return put;
}

bool native_write(struct native_state *state, struct native_bytes *out, PyObject *value)
{
    size_t begin = out->size;
    enum outcome plain = put_plain(out, value, 0);
    if (plain != NOT_PLAIN)
        return plain == WRITTEN;
    out->size = begin;
    return put_pickle(state, out, NATIVE_PICKLE, value);
}

bool native_write_exception(struct native_state *state, struct native_bytes *out, PyObject *error)
{
    return put_pickle(state, out, NATIVE_EXCEPTION, error);
}

/* ---- arguments --------------------------------------------------------------------------------- */

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

static enum outcome put_positional(struct native_args *out, PyObject *args, size_t *begins)
{
    for (size_t i = 0; i < out->count; i++) {
        begins[i] = out->bytes.size;
        enum outcome one = put_plain(&out->bytes, PyTuple_GET_ITEM(args, (Py_ssize_t)i), 0);
        if (one != WRITTEN)
            return one;
    }
    begins[out->count] = out->bytes.size;
    return WRITTEN;
}

static bool put_as_one(struct native_state *state, struct native_args *out, PyObject *args,
                       PyObject *kwargs, size_t *begins)
{
    PyObject *both = PyTuple_Pack(2, args, kwargs);
    out->bytes.size = 0;
    out->count = 1;
    bool put = both && put_pickle(state, &out->bytes, NATIVE_PICKLE, both);
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
    enum outcome plain = put && !PyDict_GET_SIZE(kwargs) ? put_positional(out, args, begins)
                                                          : NOT_PLAIN;
    if (put && plain == NOT_PLAIN)
        put = put_as_one(state, out, args, kwargs, begins);
    else
        put = put && plain == WRITTEN;
    if (put)
        point(out, begins);
    PyMem_RawFree(begins);
    if (!put)
        native_args_done(out);
    return put;
}

/* ---- reading ----------------------------------------------------------------------------------- */

struct reader {
    struct native_state *state;
    const uint8_t *at, *end;
};

static PyObject *read_one(struct reader *reader, int depth);

static PyObject *broken(void)
{
    PyErr_SetString(PyExc_ValueError, "a value is no MessagePack");
    return NULL;
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
        return broken();
    PyObject *text = PyUnicode_DecodeUTF8((const char *)reader->at, (Py_ssize_t)size, "replace");
    reader->at += size;
    return text;
}

static PyObject *read_binary(struct reader *reader, uint64_t size)
{
    if (!has(reader, size))
        return broken();
    PyObject *binary = PyBytes_FromStringAndSize((const char *)reader->at, (Py_ssize_t)size);
    reader->at += size;
    return binary;
}

static PyObject *read_list(struct reader *reader, uint64_t count, int depth)
{
    if (!has(reader, count) || depth > DEPTH_LIMIT + 8)
        return broken();
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
    if (!has(reader, count) || depth > DEPTH_LIMIT + 8)
        return broken();
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
        return PyErr_Occurred() ? NULL : broken();
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
        return broken();
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
        return broken();
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
        return broken();
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
            return broken();
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
    return broken();
}

static PyObject *read_one(struct reader *reader, int depth)
{
    const uint8_t *begin = reader->at;
    if (!has(reader, 1))
        return broken();
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
        return PyErr_Occurred() ? NULL : broken();
    }
    PyObject *list = native_read(state, at, size);
    PyObject *args = NULL, *kwargs = NULL, *both = NULL;
    if (list && PyList_CheckExact(list)) {
        args = PyList_AsTuple(list);
        kwargs = PyDict_New();
        both = args && kwargs ? PyTuple_Pack(2, args, kwargs) : NULL;
    } else if (list) {
        broken();
    }
    Py_XDECREF(list);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return both;
}

/* ---- errors ------------------------------------------------------------------------------------ */

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
