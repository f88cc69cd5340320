/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_news: News: what one task awaits until something has happened.
 *
 * A future in the eyes of asyncio, whose tell() takes the waiting task's next step at once instead of on
 * the loop's next round: what is done for all requests of a turn leaves together at its end.  Told from
 * inside another task, which asyncio does not nest, it leaves the step to the loop.
 */
#include "native.h"

#include <structmember.h>

struct native_news {
    PyObject_HEAD
    struct native_state *state;
    PyObject *loop, *callback, *variables; /* of the waiting task; null: nobody waits */
    char blocking, told, cancelled;
};

/* asyncio is there already where somebody has a loop. */
static bool find_asyncio(struct native_state *state)
{
    if (state->current_task)
        return true;
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    state->cancelled_error = asyncio ? PyObject_GetAttrString(asyncio, "CancelledError") : NULL;
    state->current_task =
        state->cancelled_error ? PyObject_GetAttrString(asyncio, "current_task") : NULL;
    Py_XDECREF(asyncio);
    return state->current_task;
}

static PyObject *news_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *loop;
    if ((kwargs && PyDict_GET_SIZE(kwargs)) || !PyArg_ParseTuple(args, "O", &loop))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "News takes a loop");
    struct native_news *self = PyObject_GC_New(struct native_news, type);
    if (!self)
        return NULL;
    self->state = native_state_of(type);
    self->loop = Py_NewRef(loop);
    self->callback = self->variables = NULL;
    self->blocking = self->told = self->cancelled = 0;
    PyObject_GC_Track((PyObject *)self);
    if (!find_asyncio(self->state))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int news_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_news *self = (struct native_news *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->variables);
    return 0;
}

static int news_clear(PyObject *object)
{
    struct native_news *self = (struct native_news *)object;
    Py_CLEAR(self->loop);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->variables);
    return 0;
}

static void news_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    news_clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

/* ---- told --------------------------------------------------------------------------------------- */

/* The waiting task's next step. */
static PyObject *news_step(PyObject *object, PyObject *unused)
{
    struct native_news *self = (struct native_news *)object;
    PyObject *callback = self->callback, *variables = self->variables, *result = NULL;
    (void)unused;
    self->callback = self->variables = NULL;
    if (callback && (!variables || PyContext_Enter(variables) == 0)) {
        result = PyObject_CallOneArg(callback, object);
        if (variables && PyContext_Exit(variables) < 0)
            Py_CLEAR(result);
    } else if (!callback) {
        result = Py_NewRef(Py_None);
    }
    Py_XDECREF(callback);
    Py_XDECREF(variables);
    return result;
}

static PyObject *leave_to_loop(PyObject *object)
{
    struct native_news *self = (struct native_news *)object;
    PyObject *step = PyObject_GetAttr(object, self->state->names.step);
    PyObject *result =
        step ? PyObject_CallMethodOneArg(self->loop, self->state->names.call_soon, step) : NULL;
    Py_XDECREF(step);
    if (!result)
        return NULL;
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static PyObject *news_tell(PyObject *object, PyObject *unused)
{
    struct native_news *self = (struct native_news *)object;
    if (self->told)
        Py_RETURN_NONE;
    self->told = 1;
    if (!self->callback)
        Py_RETURN_NONE;
    PyObject *task = PyObject_CallOneArg(self->state->current_task, self->loop);
    if (!task)
        return NULL;
    bool nested = task != Py_None;
    Py_DECREF(task);
    return nested ? leave_to_loop(object) : news_step(object, unused);
}

/* ---- a future ----------------------------------------------------------------------------------- */

/* What `await` does with it: itself until it is told, then None. */
static PyObject *news_next(PyObject *object)
{
    struct native_news *self = (struct native_news *)object;
    if (self->told)
        return NULL;
    self->blocking = 1;
    return Py_NewRef(object);
}

static PyObject *news_get_loop(PyObject *object, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(((struct native_news *)object)->loop);
}

static PyObject *news_add_done_callback(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *NAMES[] = {(char *)"", (char *)"context", NULL};
    struct native_news *self = (struct native_news *)object;
    PyObject *callback, *variables = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O", NAMES, &callback, &variables))
        return NULL;
    Py_XSETREF(self->callback, Py_NewRef(callback));
    Py_XSETREF(self->variables, variables == Py_None ? NULL : Py_NewRef(variables));
    Py_RETURN_NONE;
}

static PyObject *news_result(PyObject *object, PyObject *unused)
{
    struct native_news *self = (struct native_news *)object;
    (void)unused;
    if (!self->cancelled)
        Py_RETURN_NONE;
    PyErr_SetNone(self->state->cancelled_error);
    return NULL;
}

/* A task that is cancelled steps from the loop, never inside the one that cancels it. */
static PyObject *news_cancel(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *NAMES[] = {(char *)"msg", NULL};
    struct native_news *self = (struct native_news *)object;
    PyObject *ignored;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", NAMES, &ignored))
        return NULL;
    if (self->told)
        Py_RETURN_FALSE;
    self->told = self->cancelled = 1;
    PyObject *left = leave_to_loop(object);
    if (!left)
        return NULL;
    Py_DECREF(left);
    Py_RETURN_TRUE;
}

static PyObject *news_done(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct native_news *)object)->told);
}

static PyObject *news_cancelled(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct native_news *)object)->cancelled);
}

/* ---- the type ----------------------------------------------------------------------------------- */

static PyMemberDef MEMBERS[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(struct native_news, blocking), 0, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef METHODS[] = {
    {"tell", news_tell, METH_NOARGS, "It has happened: the waiting task goes on, at once where it may."},
    {"step", news_step, METH_NOARGS, "The waiting task's next step, from the loop."},
    {"get_loop", news_get_loop, METH_NOARGS, "The loop of the task that awaits it."},
    {"add_done_callback", (PyCFunction)(void (*)(void))news_add_done_callback,
     METH_VARARGS | METH_KEYWORDS, "Who waits: one."},
    {"result", news_result, METH_NOARGS, "None, or CancelledError."},
    {"cancel", (PyCFunction)(void (*)(void))news_cancel, METH_VARARGS | METH_KEYWORDS,
     "The task that waits is cancelled."},
    {"done", news_done, METH_NOARGS, "It was told, or cancelled."},
    {"cancelled", news_cancelled, METH_NOARGS, "It was cancelled."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_new, news_new},         {Py_tp_traverse, news_traverse},
                              {Py_tp_clear, news_clear},     {Py_tp_dealloc, news_dealloc},
                              {Py_am_await, PyObject_SelfIter}, {Py_tp_iter, PyObject_SelfIter},
                              {Py_tp_iternext, news_next},   {Py_tp_methods, METHODS},
                              {Py_tp_members, MEMBERS},      {0, NULL}};

PyType_Spec native_news_spec = {.name = "manta._native.News",
                                .basicsize = sizeof(struct native_news),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                         Py_TPFLAGS_IMMUTABLETYPE,
                                .slots = SLOTS};
