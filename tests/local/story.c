/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program, three ways: with the deployments of the program itself inside it, with those of a
 * shared object inside it, and with those of the shared object in processes of their own.  What it
 * sees is the same each time.
 *
 *     MANTA_LOCAL_TESTING=1 story :                 the program's own
 *     MANTA_LOCAL_TESTING=1 story_alone lib.so:     a shared object, here
 *     story_alone lib.so:                           a shared object, in processes
 *
 * A plain main, so that it runs under sanitizers and valgrind.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { THREADS = 3, CALLS = 200 };

static const double PATIENCE_S = 60;
static const char *library; /* "lib.so:" or ":" */
static struct manta_instance *instance;

static void expect(bool holds, const char *what, const struct manta_error *error)
{
    if (holds)
        return;
    fprintf(stderr, "story: %s (%d %s)\n", what, error ? error->code : 0, error ? error->text : "");
    exit(1);
}

static int run_app(const char *application, const char *argument, struct manta_error *reterr)
{
    char target[4096];
    const char *const arguments[] = {argument, NULL};
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    options.name = application;
    options.route_prefix = NULL;
    options.arguments = arguments;
    snprintf(target, sizeof target, "%s%s", library, application);
    return manta_run(instance, target, &options, reterr);
}

static struct manta_handle *handle_of(const char *app, const char *deployment)
{
    struct manta_error error = {0};
    struct manta_handle *handle = NULL;
    expect(manta_get_deployment_handle(instance, app, deployment, &handle, &error) == 0,
           "a handle is there", &error);
    return handle;
}

static struct manta_call *begin(struct manta_handle *handle, const char *method, int64_t number,
                                double timeout_s, bool stream)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    struct manta_error error = {0};
    struct manta_arg arg = manta_int(number);
    struct manta_call *call = NULL;
    options.method = method;
    options.timeout_s = timeout_s;
    options.stream = stream;
    expect(manta_call(handle, &options, &arg, 1, &call, &error) == 0, "a call begins", &error);
    return call;
}

static int64_t ask(struct manta_handle *handle, const char *method, int64_t number)
{
    struct manta_error error = {0};
    int64_t value = 0;
    struct manta_call *call = begin(handle, method, number, -1, false);
    expect(manta_call_wait(call, PATIENCE_S, &error) == 0, "a call ends well", &error);
    expect(manta_value_int(manta_call_value(call), &value, &error) == 0, "with a number", &error);
    manta_call_free(call);
    return value;
}

static int failure(struct manta_call *call, const char *word)
{
    struct manta_error error = {0};
    int code = manta_call_wait(call, PATIENCE_S, &error);
    expect(code < 0 && strstr(error.text, word), word, &error);
    manta_call_free(call);
    return code;
}

/* ---- chapters -------------------------------------------------------------------------------- */

static void calls_and_composition(void)
{
    struct manta_handle *front = handle_of("story", "");
    expect(ask(front, NULL, 5) == 16, "the front asks the model", NULL);
    expect(ask(front, "batch", 0) == 16, "four calls are one batch", NULL);
    manta_handle_free(front);
}

static void errors(void)
{
    struct manta_handle *front = handle_of("story", "");
    struct manta_error error = {0};
    struct manta_arg word = manta_string("five");
    struct manta_call *call = NULL;
    expect(manta_call(front, NULL, &word, 1, &call, &error) == 0, "a call begins", &error);
    expect(failure(call, "argument 0") == MANTA_ETYPE, "a word is no number", NULL);
    call = begin(front, "sing", 1, -1, false);
    expect(failure(call, "no method 'sing'; it has: __call__, batch") == MANTA_ENOTFOUND,
           "an unknown method", NULL);
    manta_handle_free(front);
    expect(run_app("bad", NULL, &error) == MANTA_EDEPLOYFAILED &&
               strstr(error.text, "no weights at hand"),
           "a constructor's words", &error);
    expect(run_app("missing", NULL, &error) == MANTA_ENOTFOUND, "no such application", &error);
}

static void streams(void)
{
    struct manta_handle *model = handle_of("story", "model");
    struct manta_error error = {0};
    struct manta_value item;
    struct manta_call *call = begin(model, "count", 1000, -1, true);
    int64_t expected = 0, value = 0;
    while (manta_call_next(call, PATIENCE_S, &item, &error) == 1) {
        manta_value_int(&item, &value, NULL);
        expect(value == expected++, "items come in order", NULL);
    }
    expect(expected == 1000 && !error.code, "all of them", &error);
    manta_call_free(call);
    call = begin(model, "count", 1000000000, -1, true);
    expect(manta_call_next(call, PATIENCE_S, &item, &error) == 1, "the first of many", &error);
    manta_call_free(call); /* the writer sees that nobody reads */
    manta_handle_free(model);
}

static void cancellation_and_deadlines(void)
{
    struct manta_handle *model = handle_of("story", "model");
    struct manta_call *call = begin(model, "hold", 0, -1, false);
    manta_call_cancel(call);
    expect(failure(call, "") == MANTA_ECANCELLED, "a cancelled call", NULL);
    call = begin(model, "hold", 0, 0.02, false);
    expect(failure(call, "") == MANTA_ETIMEOUT, "a call out of time", NULL);
    while (ask(model, "cancels", 0) < 1)
        ;
    manta_handle_free(model);
}

static void *many_calls(void *handle)
{
    for (int64_t i = 0; i < CALLS; i++)
        expect(ask(handle, NULL, i) == 3 * i + 1, "many calls", NULL);
    return NULL;
}

static void threads(void)
{
    pthread_t others[THREADS];
    struct manta_handle *front = handle_of("story", "");
    for (int i = 0; i < THREADS; i++)
        pthread_create(&others[i], NULL, many_calls, front);
    for (int i = 0; i < THREADS; i++)
        pthread_join(others[i], NULL);
    manta_handle_free(front);
}

static void statuses(void)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_error error = {0};
    struct manta_value status, apps, app, word;
    const char *at = NULL;
    size_t size = 0;
    expect(manta_status(instance, pack, &error) == 0, "there is a status", &error);
    expect(manta_pack_value(pack, &status, &error) == 0 &&
               manta_value_get(&status, "applications", &apps, &error) == 0 &&
               manta_value_get(&apps, "story", &app, &error) == 0 &&
               manta_value_get(&app, "status", &word, &error) == 0 &&
               manta_value_string(&word, &at, &size, &error) == 0,
           "it tells of the application", &error);
    expect(size == 7 && memcmp(at, "RUNNING", 7) == 0, "which runs", NULL);
    manta_pack_free(pack);
}

/* A call after manta_run reaches what was run. */
static void replacing(void)
{
    struct manta_error error = {0};
    struct manta_handle *model = handle_of("story", "model");
    for (int64_t factor = 4; factor < 8; factor++) {
        char argument[32];
        snprintf(argument, sizeof argument, "factor=%d", (int)factor);
        expect(run_app("story", argument, &error) == 0, "another model takes over", &error);
        expect(ask(model, NULL, 1) == factor, "and answers at once", NULL);
    }
    manta_handle_free(model);
}

static void deleting(void)
{
    struct manta_error error = {0};
    struct manta_handle *front = handle_of("story", "");
    struct manta_call *call = NULL;
    expect(manta_delete(instance, "story", &error) == 0, "it is deleted", &error);
    int code = manta_call(front, NULL, NULL, 0, &call, &error);
    if (code == 0)
        code = failure(call, "");
    expect(code == MANTA_EUNAVAILABLE, "and cannot be called", &error);
    manta_handle_free(front);
}

int main(int argument_count, char **arguments)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    library = argument_count > 1 ? arguments[1] : ":";
    options.http_port = -1;
    expect(manta_start(&options, &instance, &error) == 0, "it starts", &error);
    expect(run_app("story", NULL, &error) == 0, "the application runs", &error);
    calls_and_composition();
    errors();
    streams();
    cancellation_and_deadlines();
    threads();
    statuses();
    replacing();
    deleting();
    expect(manta_shutdown(instance, &error) == 0, "it ends", &error);
    return 0;
}
