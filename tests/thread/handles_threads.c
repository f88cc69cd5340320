/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles_threads: many threads call through one handle in every way at once.
 *
 * A plain main, so that it runs under ThreadSanitizer too: six threads of this program wait, cancel
 * and take completions, two replicas answer from four threads each.  Every answer is checked.
 *
 * usage: handles_threads path/to/libplus_one.so
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <manta/manta.h>

enum { THREAD_COUNT = 6, CALL_COUNT = 2000, WAIT_S = 60 };

static struct manta_handle *handle;

struct completions {
    atomic_int over, wrong;
};

static void fail(const struct manta_error *error)
{
    fprintf(stderr, "handles_threads: %d %s\n", error->code, error->text);
    exit(1);
}

static void on_done(struct manta_call *call, void *owner)
{
    struct completions *completions = owner;
    int64_t value = 0;
    if (manta_call_wait(call, 0, NULL) < 0 ||
        manta_value_int(manta_call_value(call), &value, NULL) < 0)
        atomic_fetch_add(&completions->wrong, 1);
    manta_call_free(call);
    atomic_fetch_add(&completions->over, 1);
}

static void call_and_wait(int64_t number, bool cancel)
{
    struct manta_error error = {0};
    struct manta_arg args[] = {manta_int(number)};
    struct manta_call *call;
    int64_t value;
    if (manta_call(handle, NULL, args, 1, &call, &error) < 0)
        fail(&error);
    if (!cancel) {
        if (manta_call_wait(call, WAIT_S, &error) < 0 ||
            manta_value_int(manta_call_value(call), &value, &error) < 0)
            fail(&error);
        if (value != number + 1) {
            fprintf(stderr, "handles_threads: %lld + 1 is not %lld\n", (long long)number,
                    (long long)value);
            exit(1);
        }
    }
    manta_call_free(call);
}

static void *run(void *owner)
{
    struct completions completions = {0};
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .done = on_done,
                                         .owner = &completions};
    struct manta_error error = {0};
    struct manta_call *call;
    int begun = 0;
    for (int64_t i = 0; i < CALL_COUNT; i++) {
        int64_t number = *(int *)owner * CALL_COUNT + i;
        struct manta_arg args[] = {manta_int(number)};
        if (i % 3 != 0) {
            call_and_wait(number, i % 7 == 0);
            continue;
        }
        if (manta_call(handle, &options, args, 1, &call, &error) < 0)
            fail(&error);
        begun++;
    }
    while (atomic_load(&completions.over) <
           begun) /* the last ones are on their way: ask, which lets them in */
        call_and_wait(1, false);
    if (atomic_load(&completions.wrong)) {
        fprintf(stderr, "handles_threads: %d completions failed\n",
                atomic_load(&completions.wrong));
        exit(1);
    }
    return NULL;
}

int main(int argument_count, char **arguments)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_instance *instance;
    struct manta_error error = {0};
    pthread_t threads[THREAD_COUNT];
    int numbers[THREAD_COUNT];
    char target[4200];
    if (argument_count != 2)
        return 2;
    options.http_port = -1;
    snprintf(target, sizeof(target), "%s:plus_one", arguments[1]);
    if (manta_start(&options, &instance, &error) < 0 ||
        manta_run(instance, target, NULL, &error) < 0 ||
        manta_get_app_handle(instance, "default", &handle, &error) < 0)
        fail(&error);
    for (int i = 0; i < THREAD_COUNT; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, run, &numbers[i]))
            return 1;
    }
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    manta_handle_free(handle);
    if (manta_shutdown(instance, &error) < 0)
        fail(&error);
    return 0;
}
