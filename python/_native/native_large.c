/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_large: values whose bytes lie beside the document, in memory that both sides map.
 *
 * Arrays of numpy are tensors, which deployments in C read, too.  Bytes of NATIVE_LARGE or more go
 * by reference, and so do the buffers of a pickle (protocol 5, PEP 574): then the value is an array
 * of the pickle and its buffers.
 *
 *     array -> tensor             -> read-only array over the received memory
 *     bytes -> buffer             -> bytes, the one copy that its type demands
 *     other -> [pickle, buffers]  -> whatever it was, its arrays over the received memory
 *
 * What already lies in such memory (it was received, or manta.tensor.empty made it) is sent on as
 * it is.  Where there are more buffers than a message may have, the rest goes in the document.
 */
#include "native.h"

#include <string.h>

enum {
    MOST_REFERENCES = 60, /* of one message; libmanta refuses more than 64 */
    MOST_OF_A_PICKLE = 24,
    WORTH_LETTING_GO = 1 << 20 /* bytes that are copied without holding the interpreter */
};

/* ---- references ---- */

static bool hold(struct native_bytes *out, struct manta_buffer *take_buffer)
{
    if (out->held_count == out->held_capacity) {
        size_t capacity = out->held_capacity ? out->held_capacity * 2 : 4;
        struct manta_buffer **grown = PyMem_RawRealloc(out->held, capacity * sizeof *grown);
        if (!grown) {
            manta_buffer_free(take_buffer);
            PyErr_NoMemory();
            return false;
        }
        out->held = grown;
        out->held_capacity = capacity;
    }
    out->held[out->held_count++] = take_buffer;
    return true;
}

void native_bytes_back(struct native_bytes *out, size_t size, size_t held_count)
{
    while (out->held_count > held_count)
        manta_buffer_free(out->held[--out->held_count]);
    out->size = size;
}

/* The arg as libmanta writes it; its buffer is held by `out` already. */
static bool put_arg(struct native_bytes *out, struct manta_arg arg)
{
    struct manta_pack *pack = out->state->pack;
    struct manta_value value;
    struct manta_error error = {0};
    manta_pack_clear(pack);
    manta_pack_arg(pack, arg);
    bool put = manta_pack_value(pack, &value, &error) == 0;
    if (put)
        put = native_put_bytes(out, value.at, value.size);
    else
        native_raise_error(out->state, &error);
    manta_pack_clear(pack);
    return put;
}

/* A buffer with these bytes, held by `out`: the one in which they lie already, or a copy.  Null:
 * an exception is set. */
static struct manta_buffer *buffer_for(struct native_bytes *out, PyObject *holder, const void *at,
                                       size_t size, size_t *ret_offset)
{
    struct manta_error error = {0};
    struct manta_buffer *buffer = NULL;
    *ret_offset = 0;
    if (size >= NATIVE_LARGE)
        buffer = native_buffer_behind(out->state, holder, at, size, ret_offset);
    if (!buffer) {
        if (manta_buffer_new(size ? size : 1, &buffer, &error) < 0) {
            native_raise_error(out->state, &error);
            return NULL;
        }
        if (size >= WORTH_LETTING_GO) {
            Py_BEGIN_ALLOW_THREADS memcpy(manta_buffer_at(buffer), at, size);
            Py_END_ALLOW_THREADS
        } else if (size) {
            memcpy(manta_buffer_at(buffer), at, size);
        }
    }
    return hold(out, buffer) ? buffer : NULL;
}

static bool may_refer(const struct native_bytes *out)
{
    return !out->alone && out->held_count < MOST_REFERENCES;
}

/* One reference to these bytes, as a binary value. */
static bool put_reference(struct native_bytes *out, PyObject *holder, const void *at, size_t size)
{
    size_t offset;
    struct manta_buffer *buffer = buffer_for(out, holder, at, size, &offset);
    if (!buffer)
        return false;
    if (offset == 0)
        return put_arg(out, manta_by_reference_head(buffer, size));
    /* Only a tensor can begin in the middle: bytes are one of numbers of 8 bits. */
    struct manta_tensor tensor;
    struct manta_error error = {0};
    int64_t shape[1] = {(int64_t)size};
    if (manta_tensor_of(buffer, offset, MANTA_TENSOR_UINT, 8, shape, NULL, 1, &tensor, &error) <
        0) {
        native_raise_error(out->state, &error);
        return false;
    }
    bool put = put_arg(out, manta_tensor_arg(&tensor));
    manta_tensor_done(&tensor);
    return put;
}

enum native_outcome native_write_large_bytes(struct native_bytes *out, PyObject *bytes)
{
    if (!may_refer(out))
        return NATIVE_NOT_PLAIN;
    bool put = put_reference(out, bytes, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    return put ? NATIVE_WRITTEN : NATIVE_FAILED;
}

/* ---- tensors ---- */

/* Element types that numpy and Manta have both. */
static const struct element {
    const char *format; /* of the buffer protocol */
    const char *name;   /* numpy's */
    uint8_t kind, bits;
} ELEMENTS[] = {{"b", "int8", MANTA_TENSOR_INT, 8},
                {"h", "int16", MANTA_TENSOR_INT, 16},
                {"i", "int32", MANTA_TENSOR_INT, 32},
                {"q", "int64", MANTA_TENSOR_INT, 64},
                {"B", "uint8", MANTA_TENSOR_UINT, 8},
                {"H", "uint16", MANTA_TENSOR_UINT, 16},
                {"I", "uint32", MANTA_TENSOR_UINT, 32},
                {"Q", "uint64", MANTA_TENSOR_UINT, 64},
                {"e", "float16", MANTA_TENSOR_FLOAT, 16},
                {"f", "float32", MANTA_TENSOR_FLOAT, 32},
                {"d", "float64", MANTA_TENSOR_FLOAT, 64},
                {"Zf", "complex64", MANTA_TENSOR_COMPLEX, 64},
                {"Zd", "complex128", MANTA_TENSOR_COMPLEX, 128},
                {"?", "bool", MANTA_TENSOR_BOOL, 8}};
enum { ELEMENT_COUNT = sizeof ELEMENTS / sizeof *ELEMENTS };
_Static_assert((int)ELEMENT_COUNT == (int)NATIVE_ELEMENT_COUNT, "the state has a dtype for each");

static int element_of(uint8_t kind, uint8_t bits)
{
    for (int i = 0; i < ELEMENT_COUNT; i++)
        if (ELEMENTS[i].kind == kind && ELEMENTS[i].bits == bits)
            return i;
    return -1;
}

const char *native_format_of(const struct manta_tensor *tensor)
{
    int index = tensor->lanes == 1 ? element_of(tensor->kind, tensor->bits) : -1;
    return index < 0 ? NULL : ELEMENTS[index].format;
}

/* C's long is one of the others, which one the item's size says. */
static const struct element *element_of_view(const Py_buffer *view)
{
    const char *format = view->format ? view->format : "B";
    if (*format == 'l')
        format = view->itemsize == 8 ? "q" : "i";
    else if (*format == 'L')
        format = view->itemsize == 8 ? "Q" : "I";
    for (int i = 0; i < ELEMENT_COUNT; i++)
        if (!strcmp(ELEMENTS[i].format, format) && view->itemsize == ELEMENTS[i].bits / 8)
            return &ELEMENTS[i];
    return NULL;
}

/* What a tensor is when its first index runs fastest. */
static void fill_backward(const Py_buffer *view, int64_t *strides)
{
    int64_t next = 1;
    for (int i = 0; i < view->ndim; i++) {
        strides[i] = next;
        next *= view->shape[i];
    }
}

static enum native_outcome write_view(struct native_bytes *out, PyObject *array,
                                      const Py_buffer *view, const struct element *element)
{
    int64_t shape[MANTA_TENSOR_DIMENSIONS], strides[MANTA_TENSOR_DIMENSIONS];
    struct manta_tensor tensor;
    struct manta_error error = {0};
    size_t offset;
    bool forward = PyBuffer_IsContiguous(view, 'C');
    for (int i = 0; i < view->ndim; i++)
        shape[i] = view->shape[i];
    if (!forward)
        fill_backward(view, strides);
    struct manta_buffer *buffer = buffer_for(out, array, view->buf, (size_t)view->len, &offset);
    if (!buffer)
        return NATIVE_FAILED;
    if (manta_tensor_of(buffer, offset, (enum manta_tensor_kind)element->kind, element->bits, shape,
                        forward ? NULL : strides, (size_t)view->ndim, &tensor, &error) < 0) {
        native_raise_error(out->state, &error);
        return NATIVE_FAILED;
    }
    bool put = put_arg(out, manta_tensor_arg(&tensor));
    manta_tensor_done(&tensor);
    return put ? NATIVE_WRITTEN : NATIVE_FAILED;
}

/* An array made by manta.tensor.empty is written no more once it has been sent. */
static bool forbid_writing(struct native_state *state, PyObject *array)
{
    PyObject *flags = PyObject_GetAttr(array, state->names.flags);
    int done = flags ? PyObject_SetAttr(flags, state->names.writeable, Py_False) : -1;
    Py_XDECREF(flags);
    return done == 0;
}

static bool lies_in_buffer(struct native_state *state, PyObject *array)
{
    PyObject *base = PyObject_GetAttr(array, state->names.base);
    bool lies = base && Py_TYPE(base) == state->buffer_type;
    if (!base)
        PyErr_Clear();
    Py_XDECREF(base);
    return lies;
}

/*
 * Strided views are left to the pickle, which compacts them: they arrive as arrays that may be
 * written, as they always have.
 */
static enum native_outcome write_array(struct native_bytes *out, PyObject *array)
{
    Py_buffer view;
    if (PyObject_GetBuffer(array, &view, PyBUF_FULL_RO) < 0) {
        PyErr_Clear(); /* dates, records: numpy has no letters for them */
        return NATIVE_NOT_PLAIN;
    }
    const struct element *element = element_of_view(&view);
    bool fits = element && !view.suboffsets && view.ndim <= MANTA_TENSOR_DIMENSIONS &&
                PyBuffer_IsContiguous(&view, 'A');
    enum native_outcome outcome = fits ? write_view(out, array, &view, element) : NATIVE_NOT_PLAIN;
    bool readonly = view.readonly;
    PyBuffer_Release(&view);
    if (outcome == NATIVE_WRITTEN && !readonly && lies_in_buffer(out->state, array) &&
        !forbid_writing(out->state, array))
        return NATIVE_FAILED;
    return outcome;
}

static bool is_array(struct native_state *state, PyObject *value)
{
    static const char NAME[] = "numpy.ndarray";
    PyTypeObject *type = Py_TYPE(value);
    if (state->ndarray)
        return (PyObject *)type == state->ndarray;
    return !strcmp(type->tp_name, NAME) && native_find_numpy(state) &&
           (PyObject *)type == state->ndarray;
}

enum native_outcome native_write_large(struct native_bytes *out, PyObject *value)
{
    if (!may_refer(out))
        return NATIVE_NOT_PLAIN;
    if (Py_TYPE(value) == out->state->buffer_type && native_buffer_tensor(value)) {
        const struct manta_tensor *tensor = native_buffer_tensor(value);
        bool put =
            hold(out, manta_buffer_ref(tensor->buffer)) && put_arg(out, manta_tensor_arg(tensor));
        return put ? NATIVE_WRITTEN : NATIVE_FAILED;
    }
    return is_array(out->state, value) ? write_array(out, value) : NATIVE_NOT_PLAIN;
}

/* Looks for numpy once; without it tensors stay what they are.  False: it is not there. */
bool native_find_numpy(struct native_state *state)
{
    if (state->looked_for_numpy)
        return state->ndarray != NULL;
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *ndarray = numpy ? PyObject_GetAttrString(numpy, "ndarray") : NULL;
    PyObject *dtype = ndarray ? PyObject_GetAttrString(numpy, "dtype") : NULL;
    bool found = dtype != NULL;
    for (int i = 0; found && i < ELEMENT_COUNT; i++)
        found = (state->dtypes[i] = PyObject_CallFunction(dtype, "s", ELEMENTS[i].name)) != NULL;
    if (found)
        state->ndarray = Py_NewRef(ndarray);
    PyErr_Clear();
    Py_XDECREF(numpy);
    Py_XDECREF(ndarray);
    Py_XDECREF(dtype);
    state->looked_for_numpy = true;
    return found;
}

static PyObject *numbers_of(const int64_t *numbers, uint32_t count, int64_t factor)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i] * factor);
        if (number)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, number);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* numpy.ndarray(shape, dtype, buffer, offset, strides) */
static PyObject *make_array(struct native_state *state, const struct manta_tensor *tensor,
                            PyObject *dtype, PyObject *holder, Py_ssize_t offset)
{
    int64_t element = (int64_t)manta_tensor_element_size(tensor);
    PyObject *parts[5] = {numbers_of(tensor->shape, tensor->ndim, 1), Py_NewRef(dtype),
                          Py_NewRef(holder), PyLong_FromSsize_t(offset),
                          manta_tensor_is_compact(tensor)
                              ? Py_NewRef(Py_None)
                              : numbers_of(tensor->strides, tensor->ndim, element)};
    PyObject *array = parts[0] && parts[3] && parts[4]
                          ? PyObject_Vectorcall(state->ndarray, parts, 5, NULL)
                          : NULL;
    for (int i = 0; i < 5; i++)
        Py_XDECREF(parts[i]);
    return array;
}

/* A small one came with others in one piece of memory, which it shall not keep: read-only bytes. */
static PyObject *small_copy(PyObject *take_holder)
{
    Py_buffer view;
    if (PyObject_GetBuffer(take_holder, &view, PyBUF_SIMPLE) < 0) {
        Py_DECREF(take_holder);
        return NULL;
    }
    PyObject *copy = view.len < NATIVE_LARGE ? PyBytes_FromStringAndSize(view.buf, view.len)
                                             : Py_NewRef(take_holder);
    PyBuffer_Release(&view);
    Py_DECREF(take_holder);
    return copy;
}

PyObject *native_read_tensor(struct native_state *state, const struct manta_tensor *tensor)
{
    Py_ssize_t offset;
    PyObject *holder = native_buffer_of_tensor(state, tensor, &offset);
    int index = tensor->lanes == 1 ? element_of(tensor->kind, tensor->bits) : -1;
    if (!holder || index < 0 || !native_find_numpy(state))
        return holder;
    holder = small_copy(holder);
    if (!holder)
        return NULL;
    PyObject *array = make_array(state, tensor, state->dtypes[index], holder, offset);
    Py_DECREF(holder);
    return array;
}

/* ---- pickles ---- */

/* A pickle's buffers, as its writer meets them: true for those that stay in it. */
static PyObject *collect(PyObject *list, PyObject *given)
{
    Py_buffer view;
    if (PyObject_GetBuffer(given, &view, PyBUF_ANY_CONTIGUOUS) < 0) {
        PyErr_Clear();
        Py_RETURN_TRUE;
    }
    bool out_of_band = view.len >= NATIVE_LARGE && PyList_GET_SIZE(list) < MOST_OF_A_PICKLE;
    PyBuffer_Release(&view);
    if (!out_of_band)
        Py_RETURN_TRUE;
    return PyList_Append(list, given) < 0 ? NULL : Py_NewRef(Py_False);
}

static PyMethodDef COLLECT = {"collect", collect, METH_O, "A pickle's buffer_callback."};

static PyObject *call_dumps(struct native_state *state, PyObject *dumps, PyObject *value,
                            PyObject *callback)
{
    PyObject *args[3] = {value, state->protocol, callback};
    return PyObject_Vectorcall(dumps, args, 2, state->buffer_callback_name);
}

/* A pickle that names nothing of the program itself, which its reader would not find. */
static bool stands_alone(PyObject *pickle)
{
    return PyBytes_CheckExact(pickle) &&
           !memmem(PyBytes_AS_STRING(pickle), (size_t)PyBytes_GET_SIZE(pickle), "__main__",
                   strlen("__main__"));
}

/* The standard pickle, which is quick; by value where it cannot or must not. */
static PyObject *pickle_of(struct native_state *state, PyObject *value, PyObject *list)
{
    PyObject *callback = list ? PyCFunction_New(&COLLECT, list) : Py_NewRef(Py_None);
    if (!callback)
        return NULL;
    PyObject *pickle = call_dumps(state, state->pickle_dumps, value, callback);
    if (!pickle && !PyErr_ExceptionMatches(PyExc_Exception)) {
        Py_DECREF(callback);
        return NULL;
    }
    if (!pickle || !stands_alone(pickle)) {
        PyErr_Clear();
        Py_XDECREF(pickle);
        if (list)
            PyList_SetSlice(list, 0, PyList_GET_SIZE(list), NULL);
        pickle = call_dumps(state, state->dumps, value, callback);
    }
    Py_DECREF(callback);
    if (pickle && !PyBytes_CheckExact(pickle)) {
        PyErr_SetString(PyExc_TypeError, "dumps did not return bytes");
        Py_CLEAR(pickle);
    }
    return pickle;
}

static bool put_buffers(struct native_bytes *out, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        Py_buffer view;
        PyObject *item = PyList_GET_ITEM(list, i);
        if (PyObject_GetBuffer(item, &view, PyBUF_ANY_CONTIGUOUS) < 0)
            return false;
        bool put = put_reference(out, view.obj, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
        if (!put)
            return false;
    }
    return true;
}

bool native_write_pickle(struct native_bytes *out, int8_t extension, PyObject *value)
{
    uint8_t kind = (uint8_t)extension;
    bool beside = extension == NATIVE_PICKLE && !out->alone &&
                  out->held_count <= MOST_REFERENCES - MOST_OF_A_PICKLE;
    PyObject *list = beside ? PyList_New(0) : NULL;
    PyObject *pickle = !beside || list ? pickle_of(out->state, value, list) : NULL;
    bool put = pickle != NULL;
    Py_ssize_t count = list ? PyList_GET_SIZE(list) : 0;
    if (put && PyBytes_GET_SIZE(pickle) > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a value of more than 4 GiB");
        put = false;
    }
    if (put && count) {
        kind = NATIVE_PICKLE_BESIDE;
        put = native_put_head(out, 0xdc, (uint64_t)count + 1, 2);
    }
    put = put && native_put_head(out, 0xc9, (uint64_t)PyBytes_GET_SIZE(pickle), 4) &&
          native_put_bytes(out, &kind, 1) &&
          native_put_bytes(out, PyBytes_AS_STRING(pickle), (size_t)PyBytes_GET_SIZE(pickle)) &&
          (!count || put_buffers(out, list));
    Py_XDECREF(pickle);
    Py_XDECREF(list);
    return put;
}

PyObject *native_read_pickle(struct native_state *state, const void *at, size_t size,
                             PyObject *buffers)
{
    PyObject *view = PyMemoryView_FromMemory((char *)(uintptr_t)at, (Py_ssize_t)size, PyBUF_READ);
    PyObject *args[2] = {view, buffers};
    PyObject *value = NULL;
    if (view)
        value = PyObject_Vectorcall(state->loads, args, 1, buffers ? state->buffers_name : NULL);
    Py_XDECREF(view);
    return value;
}
