/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_module: the module manta._native: its state, and the few functions that belong to no object.
 */
#include "native.h"

struct native_state *native_state_of(PyTypeObject *type)
{
    return PyModule_GetState(PyType_GetModule(type));
}

/* configure(dumps, make_handle): how code of the program itself travels, and what a handle is. */
static PyObject *module_configure(PyObject *module, PyObject *args)
{
    struct native_state *state = PyModule_GetState(module);
    PyObject *dumps, *make_handle;
    if (!PyArg_ParseTuple(args, "OO", &dumps, &make_handle))
        return NULL;
    Py_XSETREF(state->dumps, Py_NewRef(dumps));
    Py_XSETREF(state->make_handle, Py_NewRef(make_handle));
    Py_RETURN_NONE;
}

static PyObject *module_version(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(manta_version());
}

/* encode(value) and decode(bytes): the conversion by itself, for tests. */
static PyObject *module_encode(PyObject *module, PyObject *value)
{
    struct native_bytes bytes = {.alone = true};
    PyObject *result = NULL;
    if (native_write(PyModule_GetState(module), &bytes, value))
        result = PyBytes_FromStringAndSize((const char *)bytes.at, (Py_ssize_t)bytes.size);
    native_bytes_done(&bytes);
    return result;
}

static PyObject *module_decode(PyObject *module, PyObject *bytes)
{
    Py_buffer view;
    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *value = native_read(PyModule_GetState(module), view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return value;
}

static PyMethodDef METHODS[] = {
    {"configure", module_configure, METH_VARARGS, "How other values travel: dumps, make_handle."},
    {"version", module_version, METH_NOARGS, "The version of libmanta."},
    {"document", native_instance_document, METH_VARARGS, "An application for Instance.apply()."},
    {"encode", module_encode, METH_O, "A value as it travels."},
    {"decode", module_decode, METH_O, "The value that travelled."},
    {NULL, NULL, 0, NULL}};

/* ---- state ------------------------------------------------------------------------------------- */

static bool add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **ret_type)
{
    *ret_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *ret_type && PyModule_AddType(module, *ret_type) == 0;
}

static bool add_names(struct native_state *state)
{
#define X(name)                                                                                    \
    if (!(state->names.name = PyUnicode_InternFromString(#name)))                                  \
        return false;
    NATIVE_NAMES(X)
#undef X
    state->text_http = PyUnicode_InternFromString("http");
    state->text_1_0 = PyUnicode_InternFromString("1.0");
    state->text_1_1 = PyUnicode_InternFromString("1.1");
    state->asgi_version = Py_BuildValue("{s:s,s:s}", "version", "3.0", "spec_version", "2.4");
    state->text_start = PyUnicode_InternFromString("http.response.start");
    state->text_body = PyUnicode_InternFromString("http.response.body");
    state->no_fields = PyTuple_New(0);
    state->no_bytes = PyBytes_FromStringAndSize("", 0);
    state->done = PyType_GenericAlloc(state->done_type, 0);
    state->text_websocket = PyUnicode_InternFromString("websocket");
    state->text_ws = PyUnicode_InternFromString("ws");
    state->text_receive = PyUnicode_InternFromString("websocket.receive");
    state->text_disconnect = PyUnicode_InternFromString("websocket.disconnect");
    return state->text_websocket && state->text_ws && state->text_receive &&
           state->text_start && state->text_body && state->no_fields && state->no_bytes && state->done &&
           state->text_disconnect && state->text_http && state->text_1_0 && state->text_1_1 && state->asgi_version;
}

/* The pickles of a module that was not configured: the standard library's. */
static bool add_pickle(struct native_state *state)
{
    PyObject *pickle = PyImport_ImportModule("pickle");
    state->pickle_dumps = pickle ? PyObject_GetAttrString(pickle, "dumps") : NULL;
    state->dumps = Py_XNewRef(state->pickle_dumps);
    state->loads = pickle ? PyObject_GetAttrString(pickle, "loads") : NULL;
    state->make_handle = Py_NewRef(Py_None);
    state->protocol = PyLong_FromLong(5);
    state->buffer_callback_name = Py_BuildValue("(s)", "buffer_callback");
    state->buffers_name = Py_BuildValue("(s)", "buffers");
    state->pack = manta_pack_new();
    if (!state->pack)
        PyErr_NoMemory();
    Py_XDECREF(pickle);
    return state->dumps && state->loads && state->protocol && state->buffer_callback_name &&
           state->buffers_name && state->pack;
}

static bool add_codes(PyObject *module)
{
    static const struct { const char *name; int code; } CODES[] = {
        {"EINVALID", MANTA_EINVALID}, {"ENOTFOUND", MANTA_ENOTFOUND}, {"EEXISTS", MANTA_EEXISTS},
        {"EMEMORY", MANTA_EMEMORY}, {"ELIMIT", MANTA_ELIMIT}, {"EBUSY", MANTA_EBUSY},
        {"EUNAVAILABLE", MANTA_EUNAVAILABLE}, {"ETIMEOUT", MANTA_ETIMEOUT},
        {"ECANCELLED", MANTA_ECANCELLED}, {"EREPLICADIED", MANTA_EREPLICADIED},
        {"EUSER", MANTA_EUSER}, {"ELOAD", MANTA_ELOAD}, {"ECLOSED", MANTA_ECLOSED},
        {"EDEPLOYFAILED", MANTA_EDEPLOYFAILED}, {"ENOTRUNNING", MANTA_ENOTRUNNING},
        {"EANSWERED", MANTA_EANSWERED}, {"EINTERNAL", MANTA_EINTERNAL}};
    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++)
        if (PyModule_AddIntConstant(module, CODES[i].name, CODES[i].code) < 0)
            return false;
    return true;
}

static int module_exec(PyObject *module)
{
    struct native_state *state = PyModule_GetState(module);
    state->error = PyErr_NewExceptionWithDoc("manta._native.Error", "What Manta refused: code, text.",
                                             NULL, NULL);
    bool made = state->error && PyModule_AddObjectRef(module, "Error", state->error) == 0 &&
                add_type(module, &native_taker_spec, &state->taker_type) &&
                add_type(module, &native_request_spec, &state->request_type) &&
                add_type(module, &native_call_spec, &state->call_type) &&
                add_type(module, &native_instance_spec, &state->instance_type) &&
                add_type(module, &native_buffer_spec, &state->buffer_type) &&
                add_type(module, &native_sender_spec, &state->sender_type) &&
                add_type(module, &native_done_spec, &state->done_type) &&
                add_type(module, &native_news_spec, &state->news_type) &&
                add_names(state) && add_pickle(state) && add_codes(module);
    return made ? 0 : -1;
}

/* Every object of the state, for the three functions below. */
#define STATE_OBJECTS(X)                                                                           \
    X(taker_type) X(request_type) X(call_type) X(instance_type) X(buffer_type) X(error) X(dumps)   \
    X(pickle_dumps) X(loads) X(make_handle) X(protocol) X(buffer_callback_name) X(buffers_name)    \
    X(ndarray) X(text_http) X(text_1_0) X(text_1_1) X(asgi_version) X(text_websocket) X(text_ws)    \
    X(text_receive) X(text_disconnect) X(sender_type) X(done_type) X(done) X(text_start)            \
    X(text_body) X(no_fields) X(no_bytes) X(news_type)                         \
    X(current_task) X(cancelled_error)

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct native_state *state = PyModule_GetState(module);
#define X(name) Py_VISIT(state->name);
    STATE_OBJECTS(X)
#undef X
    return 0;
}

static int module_clear(PyObject *module)
{
    struct native_state *state = PyModule_GetState(module);
#define X(name) Py_CLEAR(state->name);
    STATE_OBJECTS(X)
#undef X
#define X(name) Py_CLEAR(state->names.name);
    NATIVE_NAMES(X)
#undef X
    for (int i = 0; i < NATIVE_ELEMENT_COUNT; i++)
        Py_CLEAR(state->dtypes[i]);
    state->pack = manta_pack_free(state->pack);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, module_exec}, {0, NULL}};

struct PyModuleDef native_module = {.m_base = PyModuleDef_HEAD_INIT,
                                    .m_name = "manta._native",
                                    .m_doc = "Manta's native run time, for manta's own modules.",
                                    .m_size = sizeof(struct native_state),
                                    .m_methods = METHODS,
                                    .m_slots = SLOTS,
                                    .m_traverse = module_traverse,
                                    .m_clear = module_clear,
                                    .m_free = module_free};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&native_module);
}
