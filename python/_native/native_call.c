/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_call: Call: one call that this process makes through a handle.
 *
 * It fills a reply (manta._private.reply) when its answer comes.  Manta tells of that on whichever
 * thread reads the network; the call goes onto its owner's ring and is finished by the one who
 * drains it with the interpreter held.  Until then Manta's side holds a reference to the object.
 */
#include "native.h"

#include <string.h>

/* ---- told by Manta, without the interpreter ---------------------------------------------------- */

static void call_told(struct manta_call *call, void *owner)
{
    struct native_call *self = owner;
    (void)call;
    native_ring_push(self->ring, self);
}

/* ---- finishing --------------------------------------------------------------------------------- */

/* Calls reply.<name>(value); steals `value`.  Whatever goes wrong there is told and forgotten. */
static bool tell(struct native_call *self, PyObject *name, PyObject *value)
{
    PyObject *told = value ? PyObject_CallMethodOneArg(self->reply, name, value) : NULL;
    bool wanted = told != Py_False;
    if (!told)
        PyErr_WriteUnraisable(self->reply);
    Py_XDECREF(told);
    Py_XDECREF(value);
    return wanted;
}

/* The exception that is set, as a value. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace && value)
        PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

/* It is over: Manta's call is freed, and with it the reference of its side. */
static void finish(struct native_call *self)
{
    manta_call_free(self->call); /* nothing is told of it any more */
    self->call = NULL;
    native_ring_remove(self->ring, self);
    Py_CLEAR(self->reply);
    Py_DECREF(self);
}

static void end_with_error(struct native_call *self, const struct manta_error *error)
{
    tell(self, self->state->names.set_error,
         native_make_error(self->state, error->code, error->text));
    finish(self);
}

/* A value that came, into the reply; true when it ended the call. */
static bool take_value(struct native_call *self, const struct manta_value *value, PyObject *name)
{
    PyObject *object = NULL;
    if (native_read_exception(self->state, value->at, value->size, &object)) {
        tell(self, self->state->names.set_error, object ? object : take_exception());
        return true;
    }
    object = native_read(self->state, value->at, value->size);
    if (!object) {
        tell(self, self->state->names.set_error, take_exception());
        return true;
    }
    return !tell(self, name, object);
}

/* The reader is behind: what it has not read pays no credit, so the sender waits, too. */
static bool reader_is_full(struct native_call *self)
{
    PyObject *full = PyObject_GetAttr(self->reply, self->state->names.full);
    if (!full)
        PyErr_Clear();
    Py_XDECREF(full);
    return full == Py_True;
}

static void drain_stream(struct native_call *self)
{
    struct manta_error error = {0};
    struct manta_value item;
    int code;
    if (reader_is_full(self))
        return; /* resume() puts it on the ring again */
    while ((code = manta_call_next(self->call, 0, &item, &error)) == 1) {
        if (take_value(self, &item, self->state->names.push)) {
            finish(self);
            return;
        }
        if (reader_is_full(self))
            return;
    }
    if (code == MANTA_ETIMEOUT && !manta_call_over(self->call))
        return;
    if (code == MANTA_ETIMEOUT) { /* it ended in between */
        native_ring_push(self->ring, self);
        return;
    }
    if (code < 0) {
        end_with_error(self, &error);
        return;
    }
    tell(self, self->state->names.set_result, Py_NewRef(Py_None));
    finish(self);
}

static void drain_call(struct native_call *self)
{
    struct manta_error error = {0};
    if (!manta_call_over(self->call))
        return;
    if (manta_call_wait(self->call, 0, &error) < 0) {
        end_with_error(self, &error);
        return;
    }
    take_value(self, manta_call_value(self->call), self->state->names.set_result);
    finish(self);
}

void native_call_drain(struct native_ring *ring)
{
    struct native_call *self;
    while ((self = native_ring_pop(ring))) {
        if (!self->call || self->claimed)
            continue;
        self->claimed = true;
        Py_INCREF(self);
        if (self->stream)
            drain_stream(self);
        else
            drain_call(self);
        self->claimed = false;
        Py_DECREF(self);
    }
}

/* ---- beginning --------------------------------------------------------------------------------- */

enum { FIELD_LIMIT = 16 };

/* What call(...) is given, in this order. */
struct wanted {
    const char *app, *deployment, *method, *model_id, *request_id;
    PyObject *args, *kwargs, *fields, *parent, *reply;
    int stream;
    double timeout_s;
};

static bool read_wanted(PyObject *const *args, Py_ssize_t count, struct wanted *wanted)
{
    const char **texts[] = {&wanted->app, &wanted->deployment, &wanted->method, &wanted->model_id,
                            &wanted->request_id};
    if (count != 12) {
        PyErr_SetString(PyExc_TypeError,
                        "call takes app, deployment, method, model_id, request_id, args, kwargs, "
                        "fields, parent, stream, timeout_s, reply");
        return false;
    }
    for (int i = 0; i < 5; i++)
        if (!(*texts[i] = PyUnicode_AsUTF8(args[i])))
            return false;
    wanted->args = args[5];
    wanted->kwargs = args[6];
    wanted->fields = args[7];
    wanted->parent = args[8];
    wanted->stream = PyObject_IsTrue(args[9]);
    wanted->timeout_s = PyFloat_AsDouble(args[10]);
    wanted->reply = args[11];
    if (wanted->stream < 0 || (wanted->timeout_s == -1 && PyErr_Occurred()))
        return false;
    if (PyTuple_Check(wanted->args) && PyDict_Check(wanted->kwargs) &&
        PyTuple_Check(wanted->fields) && PyTuple_GET_SIZE(wanted->fields) <= FIELD_LIMIT)
        return true;
    PyErr_SetString(PyExc_TypeError, "args and fields are tuples, kwargs is a dict");
    return false;
}

/* Pairs of str, borrowed. */
static bool read_fields(PyObject *tuple, struct manta_call_field *fields)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(tuple, i), "ss", &fields[i].name, &fields[i].value))
            return false;
    return true;
}

static const char HANDLE_NAME[] = "manta handle";

static void free_handle(PyObject *capsule)
{
    manta_handle_free(PyCapsule_GetPointer(capsule, HANDLE_NAME));
}

/* The capsule of the handle, kept by name, so that a call looks nothing up; the caller holds it for
 * as long as it uses the handle, since another thread may leave the instance meanwhile.  Null: an
 * exception is set. */
static PyObject *handle_for(struct native_state *state, PyObject *owner, PyObject *handles,
                            const struct wanted *wanted,
                            struct manta_handle *(*find)(PyObject *, const char *, const char *))
{
    PyObject *key = PyUnicode_FromFormat("%s#%s", wanted->app, wanted->deployment);
    PyObject *kept = key ? PyDict_GetItemWithError(handles, key) : NULL;
    if (kept) {
        Py_DECREF(key);
        return Py_NewRef(kept);
    }
    struct manta_handle *handle =
        key && !PyErr_Occurred() ? find(owner, wanted->app, wanted->deployment) : NULL;
    PyObject *capsule = handle ? PyCapsule_New(handle, HANDLE_NAME, free_handle) : NULL;
    if (!handle && !PyErr_Occurred())
        native_raise(state, MANTA_EMEMORY, "no memory for a handle");
    if (handle && !capsule)
        manta_handle_free(handle);
    /* Another thread may have been faster while this one looked; its handle is in use already. */
    kept = capsule ? PyDict_SetDefault(handles, key, capsule) : NULL;
    Py_XINCREF(kept);
    Py_XDECREF(capsule);
    Py_XDECREF(key);
    return kept;
}

static bool begin(struct native_call *self, struct manta_handle *handle,
                  const struct wanted *wanted, const struct manta_call_field *fields,
                  struct native_args *args)
{
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    struct manta_request *parent = NULL;
    if (wanted->parent != Py_None && Py_TYPE(wanted->parent) == self->state->request_type)
        parent = ((struct native_request *)wanted->parent)->request;
    struct manta_call_options options = {MANTA_CALL_OPTIONS,
                                         .method = wanted->method,
                                         .model_id = *wanted->model_id ? wanted->model_id : NULL,
                                         .request_id = wanted->request_id,
                                         .fields = fields,
                                         .field_count = (size_t)PyTuple_GET_SIZE(wanted->fields),
                                         .stream = wanted->stream != 0,
                                         .parent = parent,
                                         .done = call_told,
                                         .item = call_told,
                                         .owner = self};
    options.timeout_s = wanted->timeout_s;
    int code;
    if (Py_TYPE(self->owner) == self->state->taker_type)
        native_taker_put((struct native_taker *)self->owner, true);
    Py_INCREF(self); /* for Manta's side, which may tell of it before this returns */
    Py_BEGIN_ALLOW_THREADS
    code = manta_call(handle, &options, args->list, args->count, &call, &error);
    Py_END_ALLOW_THREADS
    if (code < 0) {
        Py_DECREF(self);
        native_raise_error(self->state, &error);
        return false;
    }
    self->call = call;
    /* What was told before this line was dropped by the one who drains. */
    if (self->stream || manta_call_over(call))
        native_ring_push(self->ring, self);
    return true;
}

PyObject *native_call_begin(struct native_state *state, PyObject *owner, struct native_ring *ring,
                            PyObject *handles,
                            struct manta_handle *(*find)(PyObject *owner, const char *app,
                                                         const char *deployment),
                            PyObject *const *given, Py_ssize_t count)
{
    struct manta_call_field fields[FIELD_LIMIT];
    struct wanted wanted;
    struct native_args args;
    if (!read_wanted(given, count, &wanted) || !read_fields(wanted.fields, fields))
        return NULL;
    PyObject *capsule = handle_for(state, owner, handles, &wanted, find);
    if (!capsule || !native_write_args(state, &args, wanted.args, wanted.kwargs)) {
        Py_XDECREF(capsule);
        return NULL;
    }
    struct native_call *self = PyObject_GC_New(struct native_call, state->call_type);
    if (self) {
        self->state = state;
        self->owner = Py_NewRef(owner);
        self->ring = ring;
        self->next = NULL;
        self->queued = self->claimed = false;
        self->stream = wanted.stream != 0;
        self->call = NULL;
        self->reply = Py_NewRef(wanted.reply);
        PyObject_GC_Track((PyObject *)self);
        struct manta_handle *handle = PyCapsule_GetPointer(capsule, HANDLE_NAME);
        if (!begin(self, handle, &wanted, fields, &args))
            Py_CLEAR(self);
    }
    native_args_done(&args);
    Py_DECREF(capsule);
    return (PyObject *)self;
}

/* ---- the type ---------------------------------------------------------------------------------- */

static PyObject *call_cancel(PyObject *object, PyObject *unused)
{
    struct native_call *self = (struct native_call *)object;
    (void)unused;
    if (self->call)
        manta_call_cancel(self->call);
    Py_RETURN_NONE;
}

/* The reader of a stream has caught up. */
static PyObject *call_resume(PyObject *object, PyObject *unused)
{
    struct native_call *self = (struct native_call *)object;
    (void)unused;
    if (self->call)
        native_ring_push(self->ring, self);
    Py_RETURN_NONE;
}

/*
 * wait(timeout_s or None): reads the network on this thread until the call is over or the time is,
 * and fills the reply.  Returns at once when another thread waits already, or in a callback.
 */
static PyObject *call_wait(PyObject *object, PyObject *timeout)
{
    static const double SLICE_S = 0.1; /* after which signals are looked at */
    struct native_call *self = (struct native_call *)object;
    double left = timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
    bool forever = timeout == Py_None, interrupted = false;
    int code = MANTA_ETIMEOUT;
    if (PyErr_Occurred())
        return NULL;
    if (!self->call || self->claimed || self->stream)
        Py_RETURN_NONE;
    self->claimed = true; /* from here on nobody else frees self->call */
    while (code == MANTA_ETIMEOUT && !interrupted && (forever || left > 0)) {
        double slice = forever || left > SLICE_S ? SLICE_S : left;
        Py_BEGIN_ALLOW_THREADS
        manta_call_wait(self->call, slice, NULL);
        code = manta_call_over(self->call) ? 0 : MANTA_ETIMEOUT;
        Py_END_ALLOW_THREADS
        left -= slice;
        interrupted = PyErr_CheckSignals() < 0;
    }
    Py_INCREF(self);
    /* Filling the reply runs Python, and so perhaps the thread that drains: the claim keeps it off. */
    drain_call(self);
    self->claimed = false;
    if (self->call && manta_call_over(self->call))
        native_ring_push(self->ring, self); /* it ended just now, and nobody was told */
    Py_DECREF(self);
    if (interrupted)
        return NULL;
    Py_RETURN_NONE;
}

static int call_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_call *self = (struct native_call *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->owner);
    Py_VISIT(self->reply);
    return 0;
}

static int call_clear(PyObject *object)
{
    struct native_call *self = (struct native_call *)object;
    if (!self->call)
        Py_CLEAR(self->reply);
    return 0;
}

static void call_dealloc(PyObject *object)
{
    struct native_call *self = (struct native_call *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->reply);
    Py_CLEAR(self->owner);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef METHODS[] = {
    {"resume", call_resume, METH_NOARGS, "Takes more items of a stream."},
    {"wait", call_wait, METH_O, "Waits on this thread, at most so many seconds or None."},
    {"cancel", call_cancel, METH_NOARGS, "Gives up; the reply ends with an error."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_traverse, call_traverse},
                              {Py_tp_clear, call_clear},
                              {Py_tp_dealloc, call_dealloc},
                              {Py_tp_methods, METHODS},
                              {0, NULL}};

PyType_Spec native_call_spec = {.name = "manta._native.Call",
                                .basicsize = sizeof(struct native_call),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                         Py_TPFLAGS_DISALLOW_INSTANTIATION |
                                         Py_TPFLAGS_IMMUTABLETYPE,
                                .slots = SLOTS};
