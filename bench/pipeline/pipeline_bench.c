/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pipeline of three deployments costs above its user code, with pictures of ten megabytes.
 *
 * The program embeds an instance, runs stages.c and sends pictures through it, one at a time: each
 * answer is the next stage's argument, by reference.  The time of a picture less what the stages
 * say that their own code took, by three, is the time above the user code; medians are printed.
 *
 * Usage: pipeline_bench STAGES.so [bytes] [rounds]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <manta/manta.h>

enum { STAGE_COUNT = 3, WARM_ROUNDS = 20 };

static struct manta_error error;

_Noreturn static void give_up(const char *what)
{
    fprintf(stderr, "pipeline_bench: %s: %s\n", what, error.text);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The stage's result, valid until *ret_call is freed; what its code took is added to *user_ns. */
static struct manta_value ask(struct manta_handle *handle, struct manta_arg arg,
                              struct manta_call **ret_call, int64_t *user_ns)
{
    struct manta_value result, took;
    int64_t took_ns;
    if (manta_call(handle, NULL, &arg, 1, ret_call, &error) < 0 ||
        manta_call_wait(*ret_call, 30, &error) < 0 ||
        manta_value_at(manta_call_value(*ret_call), 0, &result, &error) < 0 ||
        manta_value_at(manta_call_value(*ret_call), 1, &took, &error) < 0 ||
        manta_value_int(&took, &took_ns, &error) < 0)
        give_up("a stage");
    *user_ns += took_ns;
    return result;
}

/* Nanoseconds above the user code, for each stage. */
static int64_t send_one(struct manta_handle **handles, int64_t size, int64_t *ret_user_ns)
{
    struct manta_call *calls[STAGE_COUNT];
    int64_t user_ns = 0, begin_ns = now_ns();
    struct manta_value value = ask(handles[0], manta_int(size), &calls[0], &user_ns);
    for (int i = 1; i < STAGE_COUNT; i++)
        value = ask(handles[i], manta_copied(&value), &calls[i], &user_ns);
    int64_t took_ns = now_ns() - begin_ns;
    for (int i = 0; i < STAGE_COUNT; i++)
        manta_call_free(calls[i]);
    *ret_user_ns = user_ns;
    return (took_ns - user_ns) / STAGE_COUNT;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int main(int argument_count, char **arguments)
{
    static const char *const NAMES[STAGE_COUNT] = {"make", "turn", "measure"};
    struct manta_start_options start = {MANTA_START_OPTIONS};
    struct manta_instance *instance;
    struct manta_handle *handles[STAGE_COUNT];
    char target[4096];
    if (argument_count < 2) {
        fprintf(stderr, "usage: pipeline_bench STAGES.so [bytes] [rounds]\n");
        return 2;
    }
    int64_t size = argument_count > 2 ? atoll(arguments[2]) : 10000000;
    int rounds = argument_count > 3 ? atoi(arguments[3]) : 200;
    int64_t *above = calloc((size_t)rounds, sizeof *above),
            *user = calloc((size_t)rounds, sizeof *user);
    if (!above || !user)
        give_up("no memory");
    start.http_port = -1;
    snprintf(target, sizeof target, "%s:stages", arguments[1]);
    if (manta_start(&start, &instance, &error) < 0 || manta_run(instance, target, NULL, &error) < 0)
        give_up("the instance");
    for (int i = 0; i < STAGE_COUNT; i++)
        if (manta_get_deployment_handle(instance, "default", NAMES[i], &handles[i], &error) < 0)
            give_up(NAMES[i]);
    for (int i = 0; i < WARM_ROUNDS; i++)
        send_one(handles, size, &user[0]);
    for (int i = 0; i < rounds; i++)
        above[i] = send_one(handles, size, &user[i]);
    qsort(above, (size_t)rounds, sizeof *above, compare);
    qsort(user, (size_t)rounds, sizeof *user, compare);
    printf("pipeline of %d stages, %" PRId64
           " bytes, %d rounds: %.0f us above the user code for each "
           "stage (p99 %.0f us; target 200), user code of all %.0f us\n",
           STAGE_COUNT, size, rounds, (double)above[rounds / 2] / 1e3,
           (double)above[rounds * 99 / 100] / 1e3, (double)user[rounds / 2] / 1e3);
    for (int i = 0; i < STAGE_COUNT; i++)
        manta_handle_free(handles[i]);
    free(above);
    free(user);
    return manta_shutdown(instance, &error) < 0 ? 1 : 0;
}
