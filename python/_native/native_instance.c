/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_instance: Instance: a whole instance of Manta, started or joined by this process.
 *
 * Everything that asks the controller blocks, without the interpreter.  Calls are finished by a
 * thread of the Python side that sits in drain().
 */
#include "native.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <manta/sys/deploy.h>

/* ---- life -------------------------------------------------------------------------------------- */

static void ring_bell(void *owner)
{
    struct native_instance *self = owner;
    uint64_t one = 1;
    while (write(self->bell, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static struct native_instance *allocate(PyTypeObject *type)
{
    struct native_instance *self = (struct native_instance *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->state = native_state_of(type);
    self->module = Py_NewRef(PyType_GetModule(type));
    self->bell = eventfd(0, EFD_CLOEXEC);
    self->handles = PyDict_New();
    self->ring = native_ring_new(ring_bell, self);
    if (self->bell < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else if (!self->ring)
        PyErr_NoMemory();
    if (self->bell < 0 || !self->ring || !self->handles)
        Py_CLEAR(self);
    return self;
}

struct launch {
    PyObject *function;
    PyThreadState *thread;
};

/* launch(path, arguments, parent_descriptor) -> the id of the process that became the node. */
static int launch_node(void *owner, const char *path, const char *const *arguments,
                       int parent_descriptor)
{
    struct launch *launch = owner;
    int pid = -1;
    PyEval_RestoreThread(launch->thread);
    PyObject *list = PyList_New(0);
    for (; list && *arguments; arguments++) {
        PyObject *word = PyUnicode_DecodeFSDefault(*arguments);
        if (!word || PyList_Append(list, word) < 0)
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    PyObject *path_object = list ? PyUnicode_DecodeFSDefault(path) : NULL;
    PyObject *result =
        path_object
            ? PyObject_CallFunction(launch->function, "OOi", path_object, list, parent_descriptor)
            : NULL;
    if (result)
        pid = (int)PyLong_AsLong(result);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(launch->function);
        pid = -1;
    }
    Py_XDECREF(result);
    Py_XDECREF(path_object);
    Py_XDECREF(list);
    launch->thread = PyEval_SaveThread();
    return pid;
}

static int start_instance(struct native_instance *self, const struct manta_start_options *options,
                          PyObject *function, struct manta_error *reterr)
{
    struct launch launch = {function, PyEval_SaveThread()};
    int code = function == Py_None
                   ? manta_start(options, &self->instance, reterr)
                   : manta_start_by(options, launch_node, &launch, &self->instance, reterr);
    PyEval_RestoreThread(launch.thread);
    return code;
}

/* start(http_host, http_port, request_timeout_s, keep_alive_timeout_s, proxies, log_level,
   log_encoding, log_directory, log_to_stderr, launch): a private instance. */
static PyObject *instance_start(PyObject *type, PyObject *args)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    PyObject *launch;
    int to_stderr;
    if (!PyArg_ParseTuple(args, "siddissz" "pO", &options.http_host, &options.http_port,
                          &options.request_timeout_s, &options.keep_alive_timeout_s,
                          &options.proxies, &options.log_level, &options.log_encoding,
                          &options.log_directory, &to_stderr, &launch))
        return NULL;
    options.log_to_stderr = to_stderr;
    struct native_instance *self = allocate((PyTypeObject *)type);
    if (!self)
        return NULL;
    if (start_instance(self, &options, launch, &error) == 0)
        return (PyObject *)self;
    native_raise_error(self->state, &error);
    Py_DECREF(self);
    return NULL;
}

/* join(name): the running one; None: MANTA_INSTANCE, else "default". */
static PyObject *instance_join(PyObject *type, PyObject *args)
{
    struct manta_error error = {0};
    const char *name;
    int code;
    if (!PyArg_ParseTuple(args, "z", &name))
        return NULL;
    struct native_instance *self = allocate((PyTypeObject *)type);
    if (!self)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    code = manta_connect(name, &self->instance, &error);
    Py_END_ALLOW_THREADS
    if (code == 0)
        return (PyObject *)self;
    native_raise_error(self->state, &error);
    Py_DECREF(self);
    return NULL;
}

static int instance_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct native_instance *self = (struct native_instance *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->module);
    Py_VISIT(self->handles);
    return 0;
}

static int instance_clear(PyObject *object)
{
    Py_CLEAR(((struct native_instance *)object)->handles);
    return 0;
}

static void instance_dealloc(PyObject *object)
{
    struct native_instance *self = (struct native_instance *)object;
    PyTypeObject *type = Py_TYPE(object);
    struct manta_instance *instance = self->instance;
    PyObject_GC_UnTrack(object);
    instance_clear(object);
    self->instance = NULL;
    if (instance) {
        Py_BEGIN_ALLOW_THREADS
        manta_disconnect(instance);
        Py_END_ALLOW_THREADS
    }
    if (self->bell >= 0)
        close(self->bell);
    native_ring_free(self->ring);
    Py_CLEAR(self->module);
    type->tp_free(object);
    Py_DECREF(type);
}

static bool is_open(struct native_instance *self)
{
    if (self->instance)
        return true;
    native_raise(self->state, MANTA_ECLOSED, "the instance has ended");
    return false;
}

/* ---- deploying --------------------------------------------------------------------------------- */

struct progress {
    PyObject *function;
    PyThreadState *thread;
};

/* On the thread that deploys, which has given up the interpreter. */
static void show_progress(void *owner, const char *line)
{
    struct progress *progress = owner;
    if (progress->function == Py_None)
        return;
    PyEval_RestoreThread(progress->thread);
    PyObject *result = PyObject_CallFunction(progress->function, "s", line);
    if (!result)
        PyErr_WriteUnraisable(progress->function);
    Py_XDECREF(result);
    progress->thread = PyEval_SaveThread();
}

/*
 * One deployment: (name, runner, code, options, user_config, version, num_replicas,
 * max_ongoing_requests, max_queued_requests, threads, graceful_shutdown_timeout_s,
 * health_check_period_s, health_check_timeout_s, stream_body,
 * max_surge_percent, rolling_update_percentage, max_constructor_retry_count, start_timeout_s).  Borrows all but `options`, which
 * becomes *document.
 */
static bool read_entry(struct native_state *state, PyObject *given, struct manta_deploy_entry *entry,
                       struct native_bytes *document)
{
    PyObject *options;
    Py_ssize_t code_size;
    const char *code;
    unsigned long long version;
    int stream_body;
    *entry = (struct manta_deploy_entry){MANTA_DEPLOY_ENTRY};
    document->alone = true;
    if (!PyArg_ParseTuple(given, "ssy#OzKiiiidddpidid", &entry->name, &entry->runner, &code, &code_size,
                          &options, &entry->user_config, &version, &entry->num_replicas,
                          &entry->max_ongoing_requests, &entry->max_queued_requests,
                          &entry->threads, &entry->graceful_shutdown_timeout_s,
                          &entry->health_check_period_s, &entry->health_check_timeout_s,
                          &stream_body, &entry->max_surge_percent,
                          &entry->rolling_update_percentage, &entry->max_constructor_retry_count,
                          &entry->start_timeout_s) ||
        !native_write(state, document, options))
        return false;
    entry->code = code_size ? code : NULL;
    entry->code_size = (size_t)code_size;
    entry->version = version;
    entry->stream_body = stream_body;
    entry->options = (struct manta_value){document->at, document->size};
    return true;
}

/* The bytes that a pack holds; they end with it. */
static PyObject *take_pack(struct native_state *state, struct manta_pack *pack, int code,
                           struct manta_error *error)
{
    struct manta_value value;
    if (code == 0)
        code = manta_pack_value(pack, &value, error);
    PyObject *bytes = code == 0 ? PyBytes_FromStringAndSize(value.at, (Py_ssize_t)value.size)
                                : native_raise_error(state, error);
    manta_pack_free(pack);
    return bytes;
}

PyObject *native_instance_document(PyObject *module, PyObject *args)
{
    struct native_state *state = PyModule_GetState(module);
    struct manta_deploy_options options = {MANTA_DEPLOY_OPTIONS};
    struct manta_error error = {0};
    PyObject *list, *found = NULL;
    if (!PyArg_ParseTuple(args, "ssO!", &options.name, &options.ingress, &PyList_Type, &list))
        return NULL;
    size_t count = (size_t)PyList_GET_SIZE(list), read = 0;
    struct manta_pack *pack = manta_pack_new();
    struct manta_deploy_entry *entries = PyMem_Calloc(count ? count : 1, sizeof *entries);
    struct native_bytes *documents = PyMem_Calloc(count ? count : 1, sizeof *documents);
    bool has_memory = pack && entries && documents;
    if (!has_memory)
        PyErr_NoMemory();
    while (has_memory && read < count &&
           read_entry(state, PyList_GET_ITEM(list, (Py_ssize_t)read), &entries[read],
                      &documents[read]))
        read++;
    if (has_memory && read == count)
        found = take_pack(state, pack, manta_deploy_document(&options, entries, count, pack, &error),
                          &error);
    else
        manta_pack_free(pack);
    for (size_t i = 0; documents && i < count; i++)
        native_bytes_done(&documents[i]);
    PyMem_Free(documents);
    PyMem_Free(entries);
    return found;
}

/* (name, route_prefix or None, document or None, build_failure or None); borrows all. */
static bool read_app(PyObject *given, struct manta_apply_app *app)
{
    const char *document;
    Py_ssize_t size;
    *app = (struct manta_apply_app){MANTA_APPLY_APP};
    if (!PyArg_ParseTuple(given, "szz#z", &app->name, &app->route_prefix, &document, &size,
                          &app->build_failure))
        return false;
    if (document)
        app->document = (struct manta_value){document, (size_t)size};
    return true;
}

static int apply_apps(struct native_instance *self, struct manta_apply_options *options,
                      PyObject *function, const struct manta_apply_app *apps, size_t count,
                      struct manta_error *reterr)
{
    struct progress progress = {.function = function};
    options->progress = show_progress;
    options->owner = &progress;
    progress.thread = PyEval_SaveThread();
    int code = manta_apply(self->instance, options, apps, count, reterr);
    PyEval_RestoreThread(progress.thread);
    return code;
}

/* apply(apps, declarative, wait, progress) */
static PyObject *instance_apply(PyObject *object, PyObject *args)
{
    struct native_instance *self = (struct native_instance *)object;
    struct manta_apply_options options = {MANTA_APPLY_OPTIONS};
    struct manta_error error = {0};
    PyObject *list, *function;
    int declarative, wait, code = -1;
    if (!PyArg_ParseTuple(args, "O!ppO", &PyList_Type, &list, &declarative, &wait, &function) ||
        !is_open(self))
        return NULL;
    options.declarative = declarative;
    options.no_wait = !wait;
    size_t count = (size_t)PyList_GET_SIZE(list), read = 0;
    struct manta_apply_app *apps = PyMem_Calloc(count ? count : 1, sizeof *apps);
    if (!apps)
        return PyErr_NoMemory();
    while (read < count && read_app(PyList_GET_ITEM(list, (Py_ssize_t)read), &apps[read]))
        read++;
    if (read == count)
        code = apply_apps(self, &options, function, apps, count, &error);
    PyMem_Free(apps);
    if (read < count)
        return NULL;
    if (code < 0)
        return native_raise_error(self->state, &error);
    Py_RETURN_NONE;
}

static PyObject *instance_delete(PyObject *object, PyObject *args)
{
    struct native_instance *self = (struct native_instance *)object;
    struct manta_error error = {0};
    const char *name;
    int code;
    if (!PyArg_ParseTuple(args, "s", &name) || !is_open(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    code = manta_delete(self->instance, name, &error);
    Py_END_ALLOW_THREADS
    if (code < 0)
        return native_raise_error(self->state, &error);
    Py_RETURN_NONE;
}

static PyObject *instance_status(PyObject *object, PyObject *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    struct manta_error error = {0};
    struct manta_value value;
    PyObject *status = NULL;
    int code;
    (void)unused;
    if (!is_open(self))
        return NULL;
    struct manta_pack *pack = manta_pack_new();
    if (!pack)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    code = manta_status(self->instance, pack, &error);
    Py_END_ALLOW_THREADS
    if (code == 0)
        code = manta_pack_value(pack, &value, &error);
    status = code == 0 ? native_read(self->state, value.at, value.size)
                       : native_raise_error(self->state, &error);
    manta_pack_free(pack);
    return status;
}

/* Ends the instance; calls that are out end with an error, which is in the ring when this returns. */
static PyObject *instance_shutdown(PyObject *object, PyObject *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    struct manta_instance *instance = self->instance;
    struct manta_error error = {0};
    int code;
    (void)unused;
    if (!is_open(self))
        return NULL;
    PyDict_Clear(self->handles);
    self->instance = NULL;
    Py_BEGIN_ALLOW_THREADS
    code = manta_shutdown(instance, &error);
    Py_END_ALLOW_THREADS
    if (code < 0)
        return native_raise_error(self->state, &error);
    Py_RETURN_NONE;
}

static PyObject *instance_disconnect(PyObject *object, PyObject *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    struct manta_instance *instance = self->instance;
    (void)unused;
    PyDict_Clear(self->handles);
    self->instance = NULL;
    Py_BEGIN_ALLOW_THREADS
    manta_disconnect(instance);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* ---- calls ------------------------------------------------------------------------------------- */

static struct manta_handle *find_handle(PyObject *owner, const char *app, const char *deployment)
{
    struct native_instance *self = (struct native_instance *)owner;
    struct manta_error error = {0};
    struct manta_handle *handle = NULL;
    struct manta_instance *instance = self->instance;
    int code;
    Py_BEGIN_ALLOW_THREADS
    code = manta_get_deployment_handle(instance, app, deployment, &handle, &error);
    Py_END_ALLOW_THREADS
    if (code < 0)
        native_raise_error(self->state, &error);
    return handle;
}

static PyObject *instance_call(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct native_instance *self = (struct native_instance *)object;
    if (!is_open(self))
        return NULL;
    return native_call_begin(self->state, object, self->ring, self->handles, find_handle, args,
                             count);
}

/* Waits until something is on the ring, and finishes it; False once stop() was called. */
static PyObject *instance_drain(PyObject *object, PyObject *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    uint64_t count;
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    while (read(self->bell, &count, sizeof count) < 0 && errno == EINTR)
        ;
    Py_END_ALLOW_THREADS
    native_call_drain(self->ring);
    return PyBool_FromLong(!self->ended);
}

static PyObject *instance_stop(PyObject *object, PyObject *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    (void)unused;
    self->ended = true;
    ring_bell(self);
    Py_RETURN_NONE;
}

static PyObject *get_http_port(PyObject *object, void *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    (void)unused;
    return is_open(self) ? PyLong_FromLong(manta_http_port(self->instance)) : NULL;
}

/* -1 for one that was joined. */
static PyObject *get_descriptor(PyObject *object, void *unused)
{
    struct native_instance *self = (struct native_instance *)object;
    (void)unused;
    return is_open(self) ? PyLong_FromLong(manta_instance_descriptor(self->instance)) : NULL;
}

static PyGetSetDef GETTERS[] = {{"http_port", get_http_port, NULL, NULL, NULL},
                                {"descriptor", get_descriptor, NULL, NULL, NULL},
                                {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef METHODS[] = {
    {"start", instance_start, METH_VARARGS | METH_CLASS, "A private instance."},
    {"join", instance_join, METH_VARARGS | METH_CLASS, "The running instance of that name."},
    {"apply", instance_apply, METH_VARARGS, "Makes applications the wanted state."},
    {"delete", instance_delete, METH_VARARGS, "Deletes an application and waits."},
    {"status", instance_status, METH_NOARGS, "The status, as a value."},
    {"shutdown", instance_shutdown, METH_NOARGS, "Ends the instance."},
    {"disconnect", instance_disconnect, METH_NOARGS, "Leaves it; a private one ends."},
    {"call", (PyCFunction)(void (*)(void))instance_call, METH_FASTCALL, "Begins a call."},
    {"drain", instance_drain, METH_NOARGS, "Waits for what calls have to tell."},
    {"stop", instance_stop, METH_NOARGS, "Ends drain()."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot SLOTS[] = {{Py_tp_traverse, instance_traverse},
                              {Py_tp_clear, instance_clear},
                              {Py_tp_dealloc, instance_dealloc},
                              {Py_tp_methods, METHODS},
                              {Py_tp_getset, GETTERS},
                              {0, NULL}};

PyType_Spec native_instance_spec = {.name = "manta._native.Instance",
                                    .basicsize = sizeof(struct native_instance),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                             Py_TPFLAGS_DISALLOW_INSTANTIATION |
                                             Py_TPFLAGS_IMMUTABLETYPE,
                                    .slots = SLOTS};
