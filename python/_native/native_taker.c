/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_taker: Taker: the replica that this process is.
 *
 * An event loop of Python's watches its descriptor and calls turn(), which reads everything that has
 * come, tells events, finishes calls, hands over each request, and sends all answers at once.
 *
 * While the loop runs anything at all, between awake() and asleep(), and between enter() and leave()
 * of other threads, Manta knows that user code may hold the interpreter: a standby thread answers for
 * it then.
 */
#include "native.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* What Manta knows of a thread that has entered: made once, ended with the thread. */
static pthread_key_t entered_key;
static pthread_once_t entered_once = PTHREAD_ONCE_INIT;
static atomic_bool entered_over; /* the taker is closed, and its threads with it */

static void end_thread(void *thread)
{
    if (!atomic_load(&entered_over))
        manta_taker_thread_free(thread);
}

static void make_key(void)
{
    pthread_key_create(&entered_key, end_thread);
}

/* ---- life -------------------------------------------------------------------------------------- */

static void ring_taker(void *owner)
{
    manta_taker_ring(owner);
}

static int open_taker(struct native_taker *self, PyObject *list)
{
    enum { LIMIT = 64 };
    char *arguments[LIMIT + 1] = {NULL};
    struct manta_error error = {0};
    struct manta_taker_options options = {MANTA_TAKER_OPTIONS, .events = true};
    Py_ssize_t count = PyList_GET_SIZE(list);
    if (count > LIMIT) {
        PyErr_SetString(PyExc_ValueError, "too many arguments");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(arguments[i] = (char *)PyUnicode_AsUTF8(PyList_GET_ITEM(list, i))))
            return -1;
    if (manta_taker_open((int)count, arguments, &options, &self->taker, &error) < 0) {
        native_raise_error(self->state, &error);
        return -1;
    }
    self->ring = native_ring_new(ring_taker, self->taker);
    self->loop_thread = manta_taker_thread_new(self->taker);
    if (self->ring && self->loop_thread)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *taker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *list;
    if ((kwargs && PyDict_GET_SIZE(kwargs)) || !PyArg_ParseTuple(args, "O!", &PyList_Type, &list))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Taker takes a list");
    struct native_taker *self = (struct native_taker *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->state = native_state_of(type);
    self->module = Py_NewRef(PyType_GetModule(type));
    self->handles = PyDict_New();
    if (!self->handles || open_taker(self, list) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int taker_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_taker *self = (struct native_taker *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->module);
    Py_VISIT(self->handles);
    return 0;
}

static int taker_clear(PyObject *object)
{
    struct native_taker *self = (struct native_taker *)object;
    Py_CLEAR(self->handles);
    return 0;
}

/* A taker ends with its process: requests may still point to it, so its memory is left. */
static void taker_dealloc(PyObject *object)
{
    struct native_taker *self = (struct native_taker *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    taker_clear(object);
    Py_CLEAR(self->module);
    type->tp_free(object);
    Py_DECREF(type);
}

static bool is_open(struct native_taker *self)
{
    if (self->taker)
        return true;
    native_raise(self->state, MANTA_ECLOSED, "the taker is closed");
    return false;
}

/* ---- the document ------------------------------------------------------------------------------ */

static PyObject *taker_document(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    struct manta_taker_document document = {.size = sizeof document};
    (void)unused;
    if (!is_open(self))
        return NULL;
    manta_taker_describe(self->taker, &document);
    struct manta_replica *replica = manta_taker_replica(self->taker);
    PyObject *options = native_read(self->state, document.options.at, document.options.size);
    PyObject *args = native_read(self->state, document.args.at, document.args.size);
    PyObject *result = NULL;
    if (options && args)
        result = Py_BuildValue(
            "{s:s,s:s,s:s,s:s,s:s,s:s,s:y#,s:O,s:O,s:z,s:i,s:i,s:d,s:d,s:d,s:N,s:i,s:i}", "application",
            manta_replica_application(replica), "deployment", manta_replica_deployment(replica),
            "id", manta_replica_id(replica), "runner", document.runner, "library", document.library,
            "symbol", document.symbol, "code", (const char *)document.code,
            (Py_ssize_t)document.code_size, "options", options, "args", args, "user_config",
            document.user_config, "threads", document.threads, "max_ongoing_requests",
            document.max_ongoing_requests, "health_check_period_s", document.health_check_period_s,
            "health_check_timeout_s", document.health_check_timeout_s,
            "graceful_shutdown_timeout_s", document.graceful_shutdown_timeout_s, "stream_body",
            PyBool_FromLong(document.stream_body), "rank", manta_replica_rank(replica),
            "world_size", manta_replica_world_size(replica));
    Py_XDECREF(options);
    Py_XDECREF(args);
    return result;
}

/* ---- what the loop does between turns ----------------------------------------------------------- */

static void wake_up(struct native_taker *self)
{
    if (!self->awake && self->loop_thread) {
        self->awake = true;
        manta_taker_enter(self->loop_thread);
    }
}

static void fall_asleep(struct native_taker *self)
{
    if (self->awake && self->loop_thread) {
        self->awake = false;
        manta_taker_leave(self->loop_thread);
    }
}

void native_taker_count(struct native_taker *self, int more)
{
    self->open_count += (size_t)more;
    if (self->awake_while_open && !self->open_count && !self->turning &&
        self->loop_id == PyThread_get_thread_ident())
        fall_asleep(self);
}

/* The loop is about to wait for events, or has done so. */
static PyObject *taker_asleep(PyObject *object, PyObject *unused)
{
    (void)unused;
    fall_asleep((struct native_taker *)object);
    Py_RETURN_NONE;
}

static PyObject *taker_awake(PyObject *object, PyObject *unused)
{
    (void)unused;
    wake_up((struct native_taker *)object);
    Py_RETURN_NONE;
}

void native_taker_put(struct native_taker *self, bool is_call)
{
    static const int64_t BURST_NS = 100000;
    struct timespec at;
    if (self->turning && !is_call)
        return; /* the turn keeps answers anyway */
    if (self->held || !self->taker || self->loop_id != PyThread_get_thread_ident())
        return;
    clock_gettime(CLOCK_MONOTONIC, &at);
    int64_t now = at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
    if (self->put_ns && now - self->put_ns < BURST_NS) {
        self->held = true;
        manta_taker_hold(self->taker);
    }
    self->put_ns = now;
}

/* ---- a turn ------------------------------------------------------------------------------------ */

/* Calls a listener of a request, which is kept as it is; what it raises is told and forgotten. */
static void call_listener(PyObject *listener)
{
    if (!listener || listener == Py_None)
        return;
    Py_INCREF(listener);
    PyObject *result = PyObject_CallNoArgs(listener);
    if (!result)
        PyErr_WriteUnraisable(listener);
    Py_XDECREF(result);
    Py_DECREF(listener);
}

static void tell_request(const struct manta_taker_event *event)
{
    struct native_request *request = event->owner;
    if (!request || !event->request || !request->request)
        return;
    Py_INCREF(request);
    if (event->type == MANTA_TAKER_CANCELLED) {
        request->cancelled = true;
        call_listener(request->on_cancel);
    } else if (event->type == MANTA_TAKER_HAS_ROOM) {
        call_listener(request->on_room);
    } else {
        call_listener(request->on_body);
    }
    Py_DECREF(request);
}

static PyObject *read_configuration(const struct manta_taker_configuration *configuration)
{
    return Py_BuildValue("{s:z,s:O,s:O,s:i,s:i,s:i,s:d,s:d,s:d}", "user_config",
                         configuration->user_config, "user_config_changed",
                         configuration->user_config_changed ? Py_True : Py_False, "rank_changed",
                         configuration->rank_changed ? Py_True : Py_False, "rank",
                         configuration->rank, "world_size", configuration->world_size,
                         "max_ongoing_requests", configuration->max_ongoing_requests,
                         "health_check_period_s", configuration->health_check_period_s,
                         "health_check_timeout_s", configuration->health_check_timeout_s,
                         "graceful_shutdown_timeout_s",
                         configuration->graceful_shutdown_timeout_s);
}

/* tell(name, value) for what is of no request. */
static void tell_replica(PyObject *tell, const char *name,
                         const struct manta_taker_configuration *configuration)
{
    PyObject *object = configuration ? read_configuration(configuration) : Py_NewRef(Py_None);
    PyObject *result = object ? PyObject_CallFunction(tell, "sO", name, object) : NULL;
    if (!result)
        PyErr_WriteUnraisable(tell);
    Py_XDECREF(object);
    Py_XDECREF(result);
}

static void take_events(struct native_taker *self, PyObject *tell)
{
    struct manta_taker_event event;
    while (manta_taker_next(self->taker, &event)) {
        switch (event.type) {
        case MANTA_TAKER_CONFIGURE:
            tell_replica(tell, "configure", &event.configuration);
            break;
        case MANTA_TAKER_DRAINED:
            self->drained = true;
            tell_replica(tell, "drained", NULL);
            break;
        default:
            tell_request(&event);
        }
    }
}

/* begin(request) starts the handler; when it raises, the request has failed. */
static void hand_over(struct native_taker *self, PyObject *begin, struct manta_request *taken)
{
    struct native_request *request = native_request_new(self, taken);
    PyObject *result = request ? PyObject_CallOneArg(begin, (PyObject *)request) : NULL;
    if (!result)
        PyErr_WriteUnraisable(begin);
    if (!result && request && request->request) {
        PyObject *failed =
            PyObject_CallMethod((PyObject *)request, "fail", "is", MANTA_EINTERNAL,
                                "the request could not be begun; see the replica's log");
        Py_XDECREF(failed);
        PyErr_Clear();
    }
    Py_XDECREF(result);
    Py_XDECREF(request);
}

static void take_requests(struct native_taker *self, PyObject *begin)
{
    struct manta_request *requests[MANTA_TAKER_ROOM];
    size_t count;
    bool batched;
    if (manta_taker_ended(self->taker))
        return;
    while ((count = manta_taker_take(self->taker, requests, MANTA_TAKER_ROOM, &batched)) > 0)
        for (size_t i = 0; i < count; i++)
            hand_over(self, begin, requests[i]);
}

/* turn(begin, tell) -> milliseconds until the next one is due by time; -1: none. */
static PyObject *taker_turn(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct native_taker *self = (struct native_taker *)object;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "turn takes begin and tell");
        return NULL;
    }
    if (!is_open(self))
        return NULL;
    if (self->turning)
        return PyLong_FromLong(-1); /* from within a handler: the turn goes on */
    bool slept = !self->awake;
    self->turning = true;
    native_ring_hush(self->ring, true);
    manta_taker_turn(self->taker);
    self->put_ns = 0;
    wake_up(self);
    take_events(self, args[1]);
    native_call_drain(self->ring);
    take_requests(self, args[0]);
    native_ring_hush(self->ring, false);
    native_call_drain(self->ring);
    self->turning = self->held = false;
    self->put_ns = 0;
    manta_taker_flush(self->taker);
    if (slept && !(self->awake_while_open && self->open_count))
        fall_asleep(self);
    return PyLong_FromLong(manta_taker_timeout_ms(self->taker));
}

static PyObject *taker_flush(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    (void)unused;
    if (!is_open(self))
        return NULL;
    self->held = false;
    self->put_ns = 0;
    manta_taker_flush(self->taker);
    return PyLong_FromLong(manta_taker_timeout_ms(self->taker));
}

/* ---- small ones -------------------------------------------------------------------------------- */

/* watch(tells): whether the loop calls asleep() and awake(). */
static PyObject *taker_watch(PyObject *object, PyObject *tells)
{
    struct native_taker *self = (struct native_taker *)object;
    struct manta_error error = {0};
    if (!is_open(self))
        return NULL;
    if (manta_taker_watch(self->taker, &error) < 0)
        return native_raise_error(self->state, &error);
    self->awake_while_open = !PyObject_IsTrue(tells);
    self->loop_id = PyThread_get_thread_ident();
    return PyLong_FromLong(manta_taker_descriptor(self->taker));
}

static PyObject *taker_ready(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    struct manta_error error = {0};
    (void)unused;
    if (!is_open(self))
        return NULL;
    if (manta_taker_ready(self->taker, &error) < 0)
        return native_raise_error(self->state, &error);
    Py_RETURN_NONE;
}

static PyObject *taker_failed(PyObject *object, PyObject *args)
{
    struct native_taker *self = (struct native_taker *)object;
    int code;
    const char *text;
    if (!PyArg_ParseTuple(args, "is", &code, &text) || !is_open(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    manta_taker_failed(self->taker, code, text);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* health(None) is well; health(text) is why not. */
static PyObject *taker_health(PyObject *object, PyObject *args)
{
    struct native_taker *self = (struct native_taker *)object;
    const char *text;
    if (!PyArg_ParseTuple(args, "z", &text) || !is_open(self))
        return NULL;
    if (text)
        manta_taker_unhealthy(self->taker, text);
    else
        manta_taker_healthy(self->taker);
    Py_RETURN_NONE;
}

/* configured(None): what "configure" told is in force; configured(text): why not. */
static PyObject *taker_configured(PyObject *object, PyObject *args)
{
    struct native_taker *self = (struct native_taker *)object;
    const char *text;
    if (!PyArg_ParseTuple(args, "z", &text) || !is_open(self))
        return NULL;
    manta_taker_configured(self->taker, text);
    Py_RETURN_NONE;
}

static PyObject *taker_drain(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    (void)unused;
    if (!is_open(self))
        return NULL;
    manta_taker_drain(self->taker);
    Py_RETURN_NONE;
}

static PyObject *taker_close(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    bool freed = true;
    (void)unused;
    if (self->taker) {
        Py_CLEAR(self->handles);
        fall_asleep(self);
        manta_taker_thread_free(self->loop_thread);
        self->loop_thread = NULL;
        struct manta_taker *taker = self->taker;
        atomic_store(&entered_over, true);
        manta_taker_keep(taker); /* idle threads of the pool are known to it; the process ends now */
        Py_BEGIN_ALLOW_THREADS
        manta_taker_end_calls(taker);
        freed = manta_taker_close(taker);
        Py_END_ALLOW_THREADS
        self->taker = NULL;
    }
    return PyBool_FromLong(freed);
}

/* log(level, text): one line into the replica's log. */
static PyObject *taker_log(PyObject *object, PyObject *args)
{
    struct native_taker *self = (struct native_taker *)object;
    int level;
    const char *text;
    if (!PyArg_ParseTuple(args, "is", &level, &text) || !is_open(self))
        return NULL;
    manta_replica_log(manta_taker_replica(self->taker), level, "%s", text);
    Py_RETURN_NONE;
}

static PyObject *taker_log_line(PyObject *object, PyObject *args)
{
    struct native_taker *self = (struct native_taker *)object;
    int level;
    const char *text;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "is#", &level, &text, &size) || !is_open(self))
        return NULL;
    manta_taker_log_line(self->taker, level, text, (size_t)size);
    Py_RETURN_NONE;
}

static PyObject *taker_enter(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    (void)unused;
    if (!is_open(self))
        return NULL;
    pthread_once(&entered_once, make_key);
    struct manta_taker_thread *thread = pthread_getspecific(entered_key);
    if (!thread) {
        thread = manta_taker_thread_new(self->taker);
        if (!thread || pthread_setspecific(entered_key, thread) != 0) {
            manta_taker_thread_free(thread);
            return PyErr_NoMemory();
        }
    }
    manta_taker_enter(thread);
    Py_RETURN_NONE;
}

static PyObject *taker_leave(PyObject *object, PyObject *unused)
{
    struct native_taker *self = (struct native_taker *)object;
    struct manta_taker_thread *thread = pthread_getspecific(entered_key);
    (void)unused;
    if (self->taker && thread)
        manta_taker_leave(thread);
    Py_RETURN_NONE;
}

static struct manta_handle *find_handle(PyObject *owner, const char *app, const char *deployment)
{
    return manta_taker_handle(((struct native_taker *)owner)->taker, app, deployment);
}

static PyObject *taker_call(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct native_taker *self = (struct native_taker *)object;
    if (!is_open(self))
        return NULL;
    return native_call_begin(self->state, object, self->ring, self->handles, find_handle, args,
                             count);
}

/* models(ids): which ones this replica holds or loads, the one used last first. */
static PyObject *taker_models(PyObject *object, PyObject *given)
{
    enum { LIMIT = 1024 };
    struct native_taker *self = (struct native_taker *)object;
    struct manta_error error = {0};
    const char *ids[LIMIT];
    PyObject *list = PySequence_Fast(given, "models takes a list");
    if (!list || !is_open(self)) {
        Py_XDECREF(list);
        return NULL;
    }
    Py_ssize_t count = PySequence_Fast_GET_SIZE(list), read = 0;
    while (read < count && read < LIMIT &&
           (ids[read] = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(list, read))))
        read++;
    bool complete = read == count || read == LIMIT;
    int code = complete ? manta_taker_tell_models(self->taker, ids, (size_t)read, &error) : 0;
    Py_DECREF(list);
    if (!complete)
        return NULL;
    if (code < 0)
        return native_raise_error(self->state, &error);
    Py_RETURN_NONE;
}

static PyObject *get_drained(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct native_taker *)object)->drained);
}

static PyGetSetDef GETTERS[] = {{"drained", get_drained, NULL, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef METHODS[] = {
    {"document", taker_document, METH_NOARGS, "What the replica's document says."},
    {"watch", taker_watch, METH_O, "The descriptor that an event loop shall watch; whether it tells of its sleep."},
    {"asleep", taker_asleep, METH_NOARGS, "The loop is about to wait for events."},
    {"awake", taker_awake, METH_NOARGS, "The loop goes on."},
    {"turn", (PyCFunction)(void (*)(void))taker_turn, METH_FASTCALL, "One turn of the network."},
    {"flush", taker_flush, METH_NOARGS, "Sends what was put since the last flush."},
    {"ready", taker_ready, METH_NOARGS, "User code stands: requests may come."},
    {"failed", taker_failed, METH_VARARGS, "User code could not be constructed: code, text."},
    {"health", taker_health, METH_VARARGS, "None: well; a text: why not."},
    {"configured", taker_configured, METH_VARARGS, "A configuration is in force: None, or why not."},
    {"drain", taker_drain, METH_NOARGS, "Takes nothing new, and ends."},
    {"close", taker_close, METH_NOARGS, "Ends it; False when requests are held."},
    {"log", taker_log, METH_VARARGS, "A line into the replica's log: level, text."},
    {"log_line", taker_log_line, METH_VARARGS, "A line that is formatted: level, text."},
    {"enter", taker_enter, METH_NOARGS, "User code begins on this thread."},
    {"leave", taker_leave, METH_NOARGS, "User code ends on this thread."},
    {"call", (PyCFunction)(void (*)(void))taker_call, METH_FASTCALL, "Begins a call."},
    {"models", taker_models, METH_O, "Which models user code holds or loads."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_new, taker_new},         {Py_tp_traverse, taker_traverse},
                              {Py_tp_clear, taker_clear},     {Py_tp_dealloc, taker_dealloc},
                              {Py_tp_methods, METHODS},       {Py_tp_getset, GETTERS},
                              {0, NULL}};

PyType_Spec native_taker_spec = {.name = "manta._native.Taker",
                                 .basicsize = sizeof(struct native_taker),
                                 .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                          Py_TPFLAGS_IMMUTABLETYPE,
                                 .slots = SLOTS};
