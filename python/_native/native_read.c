/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_read: MessagePack as Python values.
 *
 * The bytes that are read came from libmanta, which has checked them; still nothing is read past
 * the end.
 */
#include "native.h"

#include <string.h>

/* Deeper than anything that native_write makes. */
enum { DEPTH_LIMIT = 68 };

/* ---- reading ---- */

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

/* Whether the next value is one of our extensions with a length of 4 bytes. */
static bool begins_with(const struct reader *reader, uint8_t extension)
{
    return has(reader, 6) && reader->at[0] == 0xc9 && reader->at[5] == extension;
}

/*
 * A pickle's buffer: not a copy of its bytes but what holds them.  In the document it is an
 * extension of a few bytes: 0xc7, size, type, payload.
 */
static PyObject *read_buffer(struct reader *reader, int depth)
{
    size_t whole = has(reader, 3) && reader->at[0] == 0xc7 ? 3u + reader->at[1] : 0;
    struct manta_value value = {reader->at, whole};
    struct manta_error error = {0};
    struct manta_buffer *buffer;
    size_t offset, size;
    if (!whole || !has(reader, whole) || manta_value_type(&value) != MANTA_BINARY ||
        manta_value_buffer(&value, &buffer, &offset, &size, &error) < 0)
        return read_one(reader, depth);
    reader->at += whole;
    return native_buffer_new(reader->state, buffer, offset, size);
}

/* [pickle, buffers...] */
static PyObject *read_beside(struct reader *reader, uint64_t count, int depth)
{
    uint64_t size = get_number(reader->at + 1, 4);
    const uint8_t *pickle = reader->at + 6;
    reader->at = pickle;
    if (!has(reader, size))
        return native_broken();
    reader->at += size;
    PyObject *buffers = PyList_New(0), *value = NULL;
    for (uint64_t i = 1; buffers && i < count; i++) {
        PyObject *buffer = read_buffer(reader, depth + 1);
        if (!buffer || PyList_Append(buffers, buffer) < 0)
            Py_CLEAR(buffers);
        Py_XDECREF(buffer);
    }
    if (buffers)
        value = native_read_pickle(reader->state, pickle, size, buffers);
    Py_XDECREF(buffers);
    return value;
}

static PyObject *read_list(struct reader *reader, uint64_t count, int depth)
{
    if (!has(reader, count) || depth > DEPTH_LIMIT)
        return native_broken();
    if (count && begins_with(reader, NATIVE_PICKLE_BESIDE))
        return read_beside(reader, count, depth);
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
    PyObject *handle = PyObject_CallFunctionObjArgs(
        reader->state->make_handle, PyList_GET_ITEM(name, 0), PyList_GET_ITEM(name, 1), NULL);
    Py_DECREF(name);
    return handle;
}

/* What lies outside the document: a tensor, or a buffer's bytes, whose type demands a copy. */
static PyObject *read_outside(struct native_state *state, const uint8_t *begin, const uint8_t *end,
                              int kind)
{
    struct manta_value value = {begin, (size_t)(end - begin)};
    struct manta_tensor tensor;
    struct manta_error error = {0};
    const void *at;
    size_t size;
    if (manta_value_tensor(&value, &tensor, &error) == 0)
        return native_read_tensor(state, &tensor);
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
    if ((int8_t)kind == NATIVE_PICKLE)
        value = native_read_pickle(reader->state, reader->at, size, NULL);
    else if (kind == HANDLE)
        value = read_handle(reader, end, depth);
    else
        value = read_outside(reader->state, begin, end, (int8_t)kind);
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
    static const struct {
        uint8_t first;
        char kind;
        int width;
    } TABLE[] = {{0xc4, 'b', 1}, {0xc5, 'b', 2}, {0xc6, 'b', 4}, {0xc7, 'e', 1}, {0xc8, 'e', 2},
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
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return read_int(reader, 1 << (type - 0xcc), false);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return read_int(reader, 1 << (type - 0xd0), true);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
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
    *ret_error = native_read_pickle(state, bytes + 6, size - 6, NULL);
    return true;
}

/* ---- arguments ---- */

/* Where the arguments lie, one behind the other, and how many; false: they were refused. */
static bool find_args(struct manta_request *request, struct reader *reader, size_t *ret_count)
{
    struct manta_taker_head look;
    struct manta_value first, last;
    struct manta_error error = {0};
    const struct manta_args *args = manta_request_args(request);
    size_t count = manta_args_count(args);
    *ret_count = count;
    if (!count) {
        manta_taker_look(request, &look);
        return look.body.size <= 1; /* an empty array */
    }
    if (manta_args_value(args, 0, &first, &error) < 0 ||
        manta_args_value(args, count - 1, &last, &error) < 0)
        return false;
    reader->at = first.at;
    reader->end = (const uint8_t *)last.at + last.size;
    return true;
}

/* Keyword arguments, when that is what comes: null without an exception when it is not. */
static PyObject *read_keywords(struct reader *reader)
{
    static const uint8_t MARK[] = {0x92, 0xd4, NATIVE_KEYWORDS, 0};
    if (!has(reader, sizeof MARK) || memcmp(reader->at, MARK, sizeof MARK))
        return NULL;
    reader->at += sizeof MARK;
    PyObject *found = read_one(reader, 0);
    if (found && !PyDict_CheckExact(found)) {
        Py_DECREF(found);
        return native_broken();
    }
    return found;
}

PyObject *native_read_args(struct native_state *state, struct manta_request *request)
{
    struct reader reader = {.state = state};
    size_t count;
    if (!find_args(request, &reader, &count))
        return native_broken();
    PyObject *args = PyList_New(0), *kwargs = NULL, *both = NULL;
    for (size_t i = 0; args && i < count; i++) {
        if (i + 1 == count && (kwargs = read_keywords(&reader)))
            break;
        PyObject *one = PyErr_Occurred() ? NULL : read_one(&reader, 0);
        if (!one || PyList_Append(args, one) < 0)
            Py_CLEAR(args);
        Py_XDECREF(one);
    }
    PyObject *tuple = args ? PyList_AsTuple(args) : NULL;
    if (!kwargs && tuple)
        kwargs = PyDict_New();
    if (tuple && kwargs)
        both = PyTuple_Pack(2, tuple, kwargs);
    Py_XDECREF(args);
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return both;
}
