/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_buffer: Buffer: bytes that the processes of the machine share, as Python sees them.
 *
 * It holds one reference to Manta's buffer and lends its bytes by the buffer protocol, so that an
 * array over it keeps the memory for as long as the array lives.  A received one is read-only.  One
 * that was made here is written until it is sent for the first time.
 *
 * With a tensor it also has its shape and strides, and speaks DLPack: for element types that numpy
 * has not, and for programs without numpy.
 */
#include "native.h"

#include <dlpack/dlpack.h>
#include <string.h>

enum { DIMENSIONS = MANTA_TENSOR_DIMENSIONS };

struct native_buffer {
    PyObject_HEAD
    struct manta_buffer *buffer; /* a reference */
    uint8_t *at;                 /* `size` bytes of it */
    Py_ssize_t size;
    bool writable;
    bool is_tensor;
    struct manta_tensor tensor; /* its buffer is the one above */
    const char *format;         /* struct's letter of an element; null: it has none */
    Py_ssize_t shape[DIMENSIONS], strides[DIMENSIONS]; /* in bytes */
};

/* ---- making ---- */

static struct native_buffer *allocate(PyTypeObject *type, struct manta_buffer *take_buffer)
{
    struct native_buffer *self = (struct native_buffer *)type->tp_alloc(type, 0);
    if (!self) {
        manta_buffer_free(take_buffer);
        return NULL;
    }
    self->buffer = take_buffer;
    self->at = (uint8_t *)(uintptr_t)manta_buffer_data(take_buffer);
    self->size = (Py_ssize_t)manta_buffer_size(take_buffer);
    return self;
}

PyObject *native_buffer_new(struct native_state *state, struct manta_buffer *take_buffer,
                            size_t offset, size_t size)
{
    struct native_buffer *self = allocate(state->buffer_type, take_buffer);
    if (self) {
        self->at += offset;
        self->size = (Py_ssize_t)size;
    }
    return (PyObject *)self;
}

/* Bytes from the first element in memory to the end of the last, and where index 0, 0, ... is. */
static void span(struct native_buffer *self, size_t element, Py_ssize_t *ret_offset)
{
    Py_ssize_t low = 0, high = (Py_ssize_t)element;
    for (uint32_t i = 0; i < self->tensor.ndim; i++) {
        Py_ssize_t reach = (self->shape[i] - 1) * self->strides[i];
        if (self->shape[i] == 0)
            low = high = 0;
        else if (reach < 0)
            low += reach;
        else
            high += reach;
        if (self->shape[i] == 0)
            break;
    }
    self->at = (uint8_t *)(uintptr_t)self->tensor.data + low;
    self->size = high - low;
    *ret_offset = -low;
}

PyObject *native_buffer_of_tensor(struct native_state *state, const struct manta_tensor *tensor,
                                  Py_ssize_t *ret_offset)
{
    struct native_buffer *self = allocate(state->buffer_type, manta_buffer_ref(tensor->buffer));
    if (!self)
        return NULL;
    size_t element = manta_tensor_element_size(tensor);
    self->is_tensor = true;
    self->tensor = *tensor;
    self->format = native_format_of(tensor);
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        self->shape[i] = (Py_ssize_t)tensor->shape[i];
        self->strides[i] = (Py_ssize_t)tensor->strides[i] * (Py_ssize_t)element;
    }
    span(self, element, ret_offset);
    return (PyObject *)self;
}

/* Buffer(size): to be written, and sent without a copy. */
static PyObject *buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct manta_buffer *buffer;
    struct manta_error error = {0};
    Py_ssize_t size;
    if ((kwargs && PyDict_GET_SIZE(kwargs)) || !PyArg_ParseTuple(args, "n", &size))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Buffer takes a size");
    if (manta_buffer_new(size < 0 ? 0 : (size_t)size, &buffer, &error) < 0)
        return native_raise_error(native_state_of(type), &error);
    struct native_buffer *self = allocate(type, buffer);
    if (self)
        self->writable = true;
    return (PyObject *)self;
}

static void buffer_dealloc(PyObject *object)
{
    struct native_buffer *self = (struct native_buffer *)object;
    PyTypeObject *type = Py_TYPE(object);
    manta_buffer_free(self->buffer);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- looked at ---- */

struct manta_buffer *native_buffer_behind(struct native_state *state, PyObject *holder,
                                          const void *at, size_t size, size_t *ret_offset)
{
    enum { LONGEST = 16 }; /* views of views */
    PyObject *found = Py_NewRef(holder);
    for (int i = 0; found && i < LONGEST && Py_TYPE(found) != state->buffer_type; i++) {
        PyObject *behind = PyMemoryView_Check(found)
                               ? Py_XNewRef(PyMemoryView_GET_BUFFER(found)->obj)
                               : PyObject_GetAttr(found, state->names.base);
        if (!behind)
            PyErr_Clear();
        Py_SETREF(found, behind);
    }
    if (!found || Py_TYPE(found) != state->buffer_type) {
        Py_XDECREF(found);
        return NULL;
    }
    struct native_buffer *self = (struct native_buffer *)found;
    const uint8_t *begin = manta_buffer_data(self->buffer);
    uintptr_t from = (uintptr_t)at - (uintptr_t)begin;
    size_t whole = manta_buffer_size(self->buffer);
    struct manta_buffer *buffer = NULL;
    if ((uintptr_t)at >= (uintptr_t)begin && from <= whole && size <= whole - from) {
        self->writable = false; /* it is being sent: from now on nobody writes */
        buffer = manta_buffer_ref(self->buffer);
        *ret_offset = from;
    }
    Py_DECREF(found);
    return buffer;
}

const struct manta_tensor *native_buffer_tensor(PyObject *object)
{
    struct native_buffer *self = (struct native_buffer *)object;
    return self->is_tensor ? &self->tensor : NULL;
}

static int buffer_lend(PyObject *object, Py_buffer *view, int flags)
{
    struct native_buffer *self = (struct native_buffer *)object;
    bool wants_shape = (flags & PyBUF_ND) == PyBUF_ND;
    if (!self->is_tensor || !wants_shape || !self->format)
        return PyBuffer_FillInfo(view, object, self->at, self->size, !self->writable, flags);
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "a received tensor is read-only");
        view->obj = NULL;
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES && !manta_tensor_is_compact(&self->tensor)) {
        PyErr_SetString(PyExc_BufferError, "the tensor is not contiguous");
        view->obj = NULL;
        return -1;
    }
    Py_ssize_t element = (Py_ssize_t)manta_tensor_element_size(&self->tensor);
    *view = (Py_buffer){.buf = (void *)(uintptr_t)self->tensor.data,
                        .obj = Py_NewRef(object),
                        .len = (Py_ssize_t)manta_tensor_count(&self->tensor) * element,
                        .itemsize = element,
                        .readonly = 1,
                        .ndim = (int)self->tensor.ndim,
                        .format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)self->format : NULL,
                        .shape = self->shape,
                        .strides = self->strides};
    return 0;
}

static Py_ssize_t buffer_length(PyObject *object)
{
    return ((struct native_buffer *)object)->size;
}

static PyObject *get_shape(PyObject *object, void *unused)
{
    struct native_buffer *self = (struct native_buffer *)object;
    (void)unused;
    if (!self->is_tensor)
        return Py_BuildValue("(n)", self->size);
    PyObject *shape = PyTuple_New((Py_ssize_t)self->tensor.ndim);
    for (uint32_t i = 0; shape && i < self->tensor.ndim; i++) {
        PyObject *number = PyLong_FromSsize_t(self->shape[i]);
        if (number)
            PyTuple_SET_ITEM(shape, i, number);
        else
            Py_CLEAR(shape);
    }
    return shape;
}

/* ---- DLPack ---- */

static const char DLPACK_NAME[] = "dltensor";

/* Of a capsule that nobody took: who takes one renames it. */
static void end_capsule(PyObject *capsule)
{
    if (!PyCapsule_IsValid(capsule, DLPACK_NAME))
        return;
    DLManagedTensor *managed = PyCapsule_GetPointer(capsule, DLPACK_NAME);
    if (managed && managed->deleter)
        managed->deleter(managed);
}

/* __dlpack__(*, stream=None, ...): the CPU has no streams, and nothing is copied. */
static PyObject *buffer_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
    struct native_buffer *self = (struct native_buffer *)object;
    struct manta_error error = {0};
    DLManagedTensor *managed;
    (void)args;
    (void)kwargs;
    if (!self->is_tensor) {
        PyErr_SetString(PyExc_BufferError, "the buffer is no tensor");
        return NULL;
    }
    if (manta_tensor_to_dlpack(&self->tensor, &managed, &error) < 0)
        return native_raise_error(native_state_of(Py_TYPE(object)), &error);
    PyObject *capsule = PyCapsule_New(managed, DLPACK_NAME, end_capsule);
    if (!capsule)
        managed->deleter(managed);
    return capsule;
}

static PyObject *buffer_device(PyObject *object, PyObject *unused)
{
    (void)object;
    (void)unused;
    return Py_BuildValue("(ii)", (int)kDLCPU, 0);
}

/* The tensor of whoever speaks DLPack, taken over without a copy. */
static PyObject *buffer_from_dlpack(PyObject *type, PyObject *producer)
{
    struct native_state *state = native_state_of((PyTypeObject *)type);
    struct manta_error error = {0};
    struct manta_tensor tensor;
    Py_ssize_t offset;
    PyObject *capsule = PyObject_CallMethod(producer, "__dlpack__", NULL);
    DLManagedTensor *managed = capsule ? PyCapsule_GetPointer(capsule, DLPACK_NAME) : NULL;
    PyObject *made = NULL;
    if (managed && manta_tensor_from_dlpack(managed, &tensor, &error) < 0) {
        native_raise_error(state, &error);
    } else if (managed) {
        PyCapsule_SetName(capsule, "used_dltensor");
        made = native_buffer_of_tensor(state, &tensor, &offset);
        manta_tensor_done(&tensor);
    }
    Py_XDECREF(capsule);
    return made;
}

/* ---- the type ---- */

static PyMethodDef METHODS[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))buffer_dlpack, METH_VARARGS | METH_KEYWORDS,
     "The tensor for a consumer of DLPack, who must not write to it."},
    {"__dlpack_device__", buffer_device, METH_NOARGS, "The CPU."},
    {"from_dlpack", buffer_from_dlpack, METH_O | METH_CLASS,
     "The tensor of whoever has __dlpack__, without a copy until it is sent."},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef GETTERS[] = {{"shape", get_shape, NULL, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_new, buffer_new},
                              {Py_tp_dealloc, buffer_dealloc},
                              {Py_tp_methods, METHODS},
                              {Py_tp_getset, GETTERS},
                              {Py_bf_getbuffer, buffer_lend},
                              {Py_sq_length, buffer_length},
                              {0, NULL}};

PyType_Spec native_buffer_spec = {.name = "manta._native.Buffer",
                                  .basicsize = sizeof(struct native_buffer),
                                  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                  .slots = SLOTS};
