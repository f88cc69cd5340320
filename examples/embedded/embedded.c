/* SPDX-License-Identifier: Apache-2.0 */
/*
 * embedded: a program with a whole Manta instance inside its process tree.
 *
 *     embedded path/to/libmath.so path/to/libtext_stream.so
 *
 * It starts a private instance without HTTP, runs two applications of the neighbouring examples,
 * calls one from several threads and reads a stream from the other, and shuts down.  Had it
 * crashed, the instance would have ended with it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include <manta/manta.h>

enum { CALLER_COUNT = 4, CALLS_EACH = 500, WORD_COUNT = 12 };

struct caller {
    struct manta_handle *handle; /* one handle, shared by all threads */
    int64_t first;               /* x of the first call */
    int64_t sum;                 /* of the results */
    struct manta_error error;
};

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* One call from beginning to end. */
static int call_math(struct manta_handle *handle, int64_t x, int64_t *ret_result,
                     struct manta_error *reterr)
{
    struct manta_arg args[] = {manta_int(x)};
    struct manta_call *call;
    int code = manta_call(handle, NULL, args, 1, &call, reterr);
    if (code < 0)
        return code;
    code = manta_call_wait(call, 10.0, reterr);
    if (code == 0)
        code = manta_value_int(manta_call_value(call), ret_result, reterr);
    manta_call_free(call);
    return code;
}

static void *caller_main(void *owner)
{
    struct caller *caller = owner;
    int64_t result;
    for (int64_t x = caller->first; x < caller->first + CALLS_EACH; x++) {
        if (call_math(caller->handle, x, &result, &caller->error) < 0)
            return NULL;
        caller->sum += result;
    }
    return NULL;
}

/* All threads call x * 2 + 3 for x = 0, 1, 2 ...; the sum of the results is known beforehand. */
static int run_callers(struct manta_handle *handle, struct manta_error *reterr)
{
    const int64_t count = CALLER_COUNT * CALLS_EACH, expected = count * (count - 1) + 3 * count;
    struct caller callers[CALLER_COUNT] = {0};
    pthread_t threads[CALLER_COUNT];
    int started = 0, code = 0;
    int64_t sum = 0;
    double begin_s = clock_s();
    for (; started < CALLER_COUNT; started++) {
        callers[started].handle = handle;
        callers[started].first = started * CALLS_EACH;
        if (pthread_create(&threads[started], NULL, caller_main, &callers[started]) != 0)
            break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        sum += callers[i].sum;
        if (callers[i].error.code < 0)
            code = manta_error_set(reterr, callers[i].error.code, "%s", callers[i].error.text);
    }
    if (started < CALLER_COUNT)
        return manta_error_set(reterr, MANTA_ESYSTEM, "no more threads");
    if (code < 0)
        return code;
    double took_s = clock_s() - begin_s;
    printf("%" PRId64 " calls from %d threads: the results add up to %" PRId64 ", %.0f calls/s\n",
           count, CALLER_COUNT, sum, (double)count / took_s);
    if (sum != expected)
        return manta_error_set(reterr, MANTA_EINTERNAL, "they should add up to %" PRId64, expected);
    return 0;
}

/* A streamed answer comes item by item; reading slowly slows the writer down. */
static int read_stream(struct manta_handle *handle, struct manta_error *reterr)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .stream = true};
    struct manta_arg args[] = {manta_int(WORD_COUNT), manta_int(7)}; /* words, seed */
    struct manta_call *call;
    struct manta_value item;
    const char *word;
    size_t size;
    int more, words = 0;
    options.timeout_s = 10;
    int code = manta_call(handle, &options, args, 2, &call, reterr);
    if (code < 0)
        return code;
    printf("a stream:");
    while ((more = manta_call_next(call, -1, &item, reterr)) > 0) {
        more = manta_value_string(&item, &word, &size, reterr);
        if (more < 0)
            break;
        printf(" %.*s", (int)size, word);
        words++;
    }
    printf("\n");
    manta_call_free(call);
    if (more == 0 && words != WORD_COUNT)
        return manta_error_set(reterr, MANTA_EINTERNAL, "the stream had %d words", words);
    return more;
}

/* Runs one application under a name, without a route, and works with a handle to its ingress. */
static int serve(struct manta_instance *instance, const char *name, const char *library,
                 int (*work)(struct manta_handle *handle, struct manta_error *reterr),
                 struct manta_error *reterr)
{
    struct manta_run_options options = {MANTA_RUN_OPTIONS};
    struct manta_handle *handle;
    char target[4096];
    options.name = name;
    options.route_prefix = NULL; /* reached through handles only */
    snprintf(target, sizeof target, "%s:%s", library, name);
    int code = manta_run(instance, target, &options, reterr);
    if (code == 0)
        code = manta_get_app_handle(instance, name, &handle, reterr);
    if (code < 0)
        return code;
    printf("application '%s' runs\n", name);
    code = work(handle, reterr);
    manta_handle_free(handle);
    return code;
}

int main(int argument_count, char **arguments)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_instance *instance;
    struct manta_error error = {0};
    if (argument_count != 3) {
        fprintf(stderr, "usage: embedded path/to/libmath.so path/to/libtext_stream.so\n");
        return 2;
    }
    options.http_port = -1;
    if (manta_start(&options, &instance, &error) < 0) {
        fprintf(stderr, "embedded: the instance did not start: %s\n", error.text);
        return 1;
    }
    printf("an instance of Manta %s runs in this process tree\n", manta_version());
    int code = serve(instance, "math", arguments[1], run_callers, &error);
    if (code == 0)
        code = serve(instance, "text_stream", arguments[2], read_stream, &error);
    if (code < 0)
        fprintf(stderr, "embedded: %s\n", error.text);
    if (manta_shutdown(instance, &error) < 0) {
        fprintf(stderr, "embedded: the instance did not end in time: %s\n", error.text);
        return 1;
    }
    if (code == 0)
        printf("the instance has ended\n");
    return code < 0 ? 1 : 0;
}
