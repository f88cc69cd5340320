/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/handle.h> against replicas that really run: results, errors, streams, cancellation,
 * deadlines.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "api_world.h"

/* Calls a method of the deployment; `stream` is for methods that answer in parts. */
static struct manta_call *call_method(struct manta_handle *handle, const char *method, bool stream,
                                      const struct manta_arg *args, size_t count)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = method, .stream = stream};
    return call_begin(handle, &options, args, count);
}

/* ---- results ----------------------------------------------------------------------------------
 */

Test(api_call, arguments_travel_there_and_back)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_arg args[] = {manta_nil(),      manta_bool(true),       manta_int(INT64_MIN),
                               manta_float(0.1), manta_string("\u00e9"), manta_binary("\0\1", 2)};
    struct manta_call *call = call_begin(echo, NULL, args, 6);
    cr_assert_str_eq(call_result(call), "[null,true,-9223372036854775808,0.1,\"\u00e9\",\"AAE=\"]");
    manta_call_free(call);
    call = call_begin(echo, NULL, NULL, 0);
    cr_assert_str_eq(call_result(call), "[]");
    cr_assert_str_eq(call_result(call), "[]", "waiting again is fine");
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, large_arguments_and_results_travel_whole)
{
    enum { SIZE = 3000000 };
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    uint8_t *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    struct manta_call *call =
        call_begin(echo, NULL, (struct manta_arg[]){manta_binary(bytes, SIZE)}, 1);
    struct manta_error error = {0};
    struct manta_value item;
    const void *at;
    size_t size;
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), 0, "%s", error.text);
    cr_assert_eq(manta_value_at(manta_call_value(call), 0, &item, NULL), 0);
    cr_assert_eq(manta_value_binary(&item, &at, &size, NULL), 0);
    cr_assert_eq(size, SIZE);
    cr_assert_eq(memcmp(at, bytes, SIZE), 0);
    manta_call_free(call);
    manta_handle_free(echo);
    free(bytes);
    world_end();
}

Test(api_call, methods_are_called_by_name)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *call = call_method(echo, "nil", false, NULL, 0);
    cr_assert_str_eq(call_result(call), "null");
    manta_call_free(call);
    call = call_method(echo, "page", false, NULL, 0);
    cr_assert_str_eq(call_result(call), "\"PHA+cGFnZQ==\"", "an HTTP answer comes as bytes");
    manta_call_free(call);
    struct manta_error error = call_failure(call_method(echo, "missing", false, NULL, 0));
    cr_assert_eq(error.code, MANTA_ENOTFOUND);
    cr_assert_not_null(strstr(error.text, "no method 'missing'"), "%s", error.text);
    cr_assert_not_null(strstr(error.text, "__call__, fail, count, nil"), "%s", error.text);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, many_calls_are_under_way_at_once)
{
    enum { COUNT = 500 };
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *calls[COUNT];
    char expected[32];
    for (int64_t i = 0; i < COUNT; i++)
        calls[i] = call_begin(echo, NULL, (struct manta_arg[]){manta_int(i)}, 1);
    for (int i = COUNT - 1; i >= 0; i--) {
        snprintf(expected, sizeof expected, "[%d]", i);
        cr_assert_str_eq(call_result(calls[i]), expected);
        manta_call_free(calls[i]);
    }
    manta_handle_free(echo);
    world_end();
}

Test(api_call, an_answer_may_come_from_another_thread)
{
    world_start();
    struct manta_handle *late = world_serve(OBJECT("answer") "late");
    for (int i = 0; i < 50; i++)
        cr_assert_str_eq(ask(late, ""), "\"late\"");
    manta_handle_free(late);
    world_end();
}

/* The second answer breaks off the first, and says whose mistake that was. */
Test(api_call, an_answer_given_twice_is_the_deployments_error)
{
    world_start();
    struct manta_handle *twice = world_serve(OBJECT("answer") "twice");
    for (int i = 0; i < 3; i++) {
        struct manta_error error = call_failure(call_word(twice, ""));
        cr_assert_eq(error.code, MANTA_EANSWERED, "%s", error.text);
        cr_assert_str_eq(error.text, "answered while a streamed answer was open");
    }
    manta_handle_free(twice);
    world_end();
}

/* Its caller is told when the deadline passes, and others of the deployment are served. */
Test(api_call, an_answer_that_never_comes_ends_with_the_deadline)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .timeout_s = 0.05};
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    world_start();
    struct manta_handle *never = world_serve(OBJECT("answer") "never");
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(manta_call(never, &options, NULL, 0, &call, &error), 0, "%s", error.text);
        cr_assert_eq(call_failure(call).code, MANTA_ETIMEOUT);
    }
    manta_handle_free(never);
    world_end();
}

Test(api_call, calls_are_batched_too)
{
    enum { COUNT = 30 };
    world_start();
    struct manta_handle *batch = world_serve(OBJECT("answer") "batch");
    struct manta_call *calls[COUNT];
    int total = 0;
    for (int i = 0; i < COUNT; i++)
        calls[i] = call_word(batch, "");
    for (int i = 0; i < COUNT; i++) {
        int place = 0, size = 0;
        cr_assert_eq(sscanf(call_result(calls[i]), "\"%d of %d\"", &place, &size), 2);
        cr_assert(1 <= place && place <= size && size <= 10);
        total += place == 1 ? size : 0;
        manta_call_free(calls[i]);
    }
    cr_assert_eq(total, COUNT, "every batch had a first one");
    manta_handle_free(batch);
    world_end();
}

/* ---- errors ------------------------------------------------------------------------------------
 */

Test(api_call, a_failure_arrives_with_code_and_text)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    static const int64_t CODES[][2] = {{MANTA_EINVALID, MANTA_EINVALID},
                                       {MANTA_EUSER, MANTA_EUSER},
                                       {MANTA_ENOTFOUND, MANTA_ENOTFOUND},
                                       {5, MANTA_EUSER},
                                       {-1000, MANTA_EUSER}};
    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        struct manta_arg args[] = {manta_int(CODES[i][0]), manta_string("no model \u00e9")};
        struct manta_error error = call_failure(call_method(echo, "fail", false, args, 2));
        cr_assert_eq(error.code, CODES[i][1], "%d", error.code);
        cr_assert_str_eq(error.text, "no model \u00e9");
    }
    manta_handle_free(echo);
    world_end();
}

Test(api_call, arguments_that_make_no_sense_begin_no_call)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *call = NULL;
    struct manta_error error = {0};
    struct manta_arg bound = {.type = MANTA_ARG_BOUND}, unknown = {.type = 55};
    cr_assert_eq(manta_call(echo, NULL, &bound, 1, &call, &error), MANTA_EINVALID);
    cr_assert_not_null(strstr(error.text, "constructor argument"), "%s", error.text);
    cr_assert_eq(manta_call(echo, NULL, &unknown, 1, &call, &error), MANTA_EINVALID);
    cr_assert_eq(manta_call(echo, NULL, &unknown, 1, &call, NULL), MANTA_EINVALID);
    cr_assert_null(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, handles_are_to_what_exists)
{
    struct manta_handle *handle = NULL;
    struct manta_error error = {0};
    world_start();
    cr_assert_eq(manta_get_app_handle(world.instance, "echo", &handle, &error), MANTA_ENOTFOUND);
    world_run(OBJECT("answer") "echo", NULL);
    cr_assert_eq(manta_get_deployment_handle(world.instance, "echo", "gate", &handle, &error),
                 MANTA_ENOTFOUND);
    cr_assert_not_null(strstr(error.text, "'gate'"), "%s", error.text);
    cr_assert_null(handle);
    cr_assert_eq(manta_get_deployment_handle(world.instance, "echo", "echo", &handle, &error), 0);
    cr_assert_str_eq(manta_handle_application(handle), "echo");
    cr_assert_str_eq(manta_handle_deployment(handle), "echo");
    cr_assert_str_eq(ask(handle, "x"), "[\"x\"]");
    manta_handle_free(handle);
    world_end();
}

Test(api_call, a_deleted_application_is_unavailable)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_error error = {0};
    struct manta_call *call = NULL;
    cr_assert_str_eq(ask(echo, "x"), "[\"x\"]");
    cr_assert_eq(manta_delete(world.instance, "echo", &error), 0, "%s", error.text);
    int code = manta_call(echo, NULL, NULL, 0, &call, &error);
    if (code == 0)
        error = call_failure(call);
    cr_assert_eq(error.code, MANTA_EUNAVAILABLE, "%s", error.text);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, the_death_of_a_replica_ends_what_it_held)
{
    if (world_is_local())
        cr_skip_test("a crash takes the program along");
    world_start();
    struct manta_handle *handle = world_serve(OBJECT("life") "call_crashes");
    struct manta_error error = call_failure(call_word(handle, "crash"));
    cr_assert_eq(error.code, MANTA_EREPLICADIED, "%d %s", error.code, error.text);
    /* Another one takes its place. */
    cr_assert_gt(atoi(ask(handle, "alive")), 0);
    manta_handle_free(handle);
    world_end();
}

Test(api_call, a_full_queue_is_said_at_once)
{
    static const char *const ARGUMENTS[] = {"max_ongoing_requests=1", "max_queued_requests=1",
                                            "graceful_shutdown_timeout_s=0", NULL};
    world_start();
    world_run(OBJECT("answer") "never", ARGUMENTS);
    struct manta_handle *never = world_handle("never");
    struct manta_error error = {0};
    struct manta_call *held = call_word(never, "held"), *others[4];
    int busy = 0, begun = 0;
    cr_assert_eq(manta_call_wait(held, 0.1, &error), MANTA_ETIMEOUT);
    for (int i = 0; i < 4; i++) {
        others[begun] = NULL;
        int code = manta_call(never, NULL, NULL, 0, &others[begun], &error);
        if (code == 0)
            code = manta_call_wait(others[begun], 0.1, &error);
        cr_assert(code == MANTA_EBUSY || code == MANTA_ETIMEOUT, "%s", error.text);
        busy += code == MANTA_EBUSY;
        begun += others[begun] != NULL;
    }
    cr_assert_geq(busy, 2, "one may wait; the rest is told to go");
    for (int i = 0; i < begun; i++)
        manta_call_free(others[i]);
    manta_call_free(held);
    manta_handle_free(never);
    world_end();
}

/* ---- streams ------------------------------------------------------------------------------------
 */

static void assert_next(struct manta_call *call, int64_t expected)
{
    struct manta_value item;
    struct manta_error error = {0};
    int64_t number = -1;
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, &error), 1, "%s", error.text);
    cr_assert_eq(manta_value_int(&item, &number, &error), 0, "%s", error.text);
    cr_assert_eq(number, expected);
}

Test(api_call, a_stream_comes_item_by_item_and_ends)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_arg args[] = {manta_int(5)};
    struct manta_call *call = call_method(echo, "count", true, args, 1);
    struct manta_value item = {"x", 1};
    for (int i = 0; i < 5; i++)
        assert_next(call, i);
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, NULL), 0);
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, NULL), 0, "the end is the end");
    cr_assert_eq(item.size, 1);
    cr_assert(manta_call_over(call));
    manta_call_free(call);
    call = call_method(echo, "count", true, (struct manta_arg[]){manta_int(0)}, 1);
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, NULL), 0, "an empty one");
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, a_stream_that_breaks_off_gives_its_items_first)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_arg args[] = {manta_int(3), manta_string("the paper is out")};
    struct manta_call *call = call_method(echo, "count", true, args, 2);
    struct manta_value item;
    struct manta_error error = {0};
    for (int i = 0; i < 3; i++)
        assert_next(call, i);
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, &error), MANTA_EUSER, "%s", error.text);
    cr_assert_str_eq(error.text, "the paper is out");
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), MANTA_EUSER);
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, a_long_stream_loses_nothing)
{
    enum { COUNT = 300000 };
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *call =
        call_method(echo, "count", true, (struct manta_arg[]){manta_int(COUNT)}, 1);
    struct manta_value item;
    for (int64_t i = 0; i < COUNT; i++)
        assert_next(call, i);
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, NULL), 0);
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, a_stream_that_is_left_frees_its_writer)
{
    world_start();
    static const char *const ARGUMENTS[] = {"threads=1", "max_ongoing_requests=1", NULL};
    world_run(OBJECT("answer") "echo", ARGUMENTS);
    struct manta_handle *echo = world_handle("echo");
    struct manta_arg args[] = {manta_int(1000000000)};
    for (int i = 0; i < 3; i++) {
        struct manta_call *call = call_method(echo, "count", true, args, 1);
        assert_next(call, 0);
        manta_call_free(call);
    }
    cr_assert_str_eq(ask(echo, "free again"), "[\"free again\"]");
    manta_handle_free(echo);
    world_end();
}

Test(api_call, only_a_stream_has_items)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *call = call_word(echo, "x");
    struct manta_value item;
    struct manta_error error = {0};
    cr_assert_eq(manta_call_next(call, 0, &item, &error), MANTA_EINVALID);
    cr_assert_not_null(strstr(error.text, ".stream"), "%s", error.text);
    manta_call_free(call);
    /* And a whole answer to a caller that wanted a stream is a stream of one. */
    struct manta_arg args[] = {manta_string("y")};
    call = call_method(echo, NULL, true, args, 1);
    char json[100];
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, &error), 1, "%s", error.text);
    manta_value_json(&item, json, sizeof json);
    cr_assert_str_eq(json, "[\"y\"]");
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, &error), 0);
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

/* ---- waiting and ending
 * -------------------------------------------------------------------------- */

Test(api_call, waiting_may_end_before_the_call)
{
    world_start();
    struct manta_handle *gate = world_serve(OBJECT("answer") "gate");
    struct manta_call *call = call_word(gate, "wait");
    struct manta_error error = {0};
    cr_assert_eq(manta_call_wait(call, 0, &error), MANTA_ETIMEOUT);
    cr_assert_eq(manta_call_wait(call, 0.02, &error), MANTA_ETIMEOUT);
    cr_assert_not(manta_call_over(call));
    ask_until(gate, "waiting", "1");
    cr_assert_str_eq(ask(gate, "open"), "1");
    cr_assert_str_eq(call_result(call), "\"through\"");
    manta_call_free(call);
    manta_handle_free(gate);
    world_end();
}

Test(api_call, a_deadline_ends_the_call_and_the_work)
{
    world_start();
    struct manta_handle *gate = world_serve(OBJECT("answer") "gate");
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    options.timeout_s = 0.05;
    struct manta_error error =
        call_failure(call_begin(gate, &options, (struct manta_arg[]){manta_string("wait")}, 1));
    cr_assert_eq(error.code, MANTA_ETIMEOUT);
    ask_until(gate, "waiting", "0");
    manta_handle_free(gate);
    world_end();
}

Test(api_call, a_deadline_is_known_where_the_work_is_done)
{
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    struct manta_call *call = call_method(echo, "time_left", false, NULL, 0);
    cr_assert_str_eq(call_result(call), "null");
    manta_call_free(call);
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "time_left"};
    options.timeout_s = 1000;
    call = call_begin(echo, &options, NULL, 0);
    double left_s = atof(call_result(call));
    cr_assert(left_s > 0 && left_s <= 1000, "%g", left_s);
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, cancelling_ends_the_call_and_the_work)
{
    world_start();
    struct manta_handle *gate = world_serve(OBJECT("answer") "gate");
    struct manta_call *call = call_word(gate, "wait");
    ask_until(gate, "waiting", "1");
    manta_call_cancel(call);
    cr_assert(manta_call_over(call));
    manta_call_cancel(call);
    cr_assert_eq(call_failure(call).code, MANTA_ECANCELLED);
    ask_until(gate, "waiting", "0");
    /* Freeing is cancelling, too. */
    call = call_word(gate, "wait");
    ask_until(gate, "waiting", "1");
    manta_call_free(call);
    ask_until(gate, "waiting", "0");
    manta_handle_free(gate);
    world_end();
}

Test(api_call, the_end_of_the_instance_ends_its_calls)
{
    static const char *const ARGUMENTS[] = {"graceful_shutdown_timeout_s=0", NULL};
    world_start();
    world_run(OBJECT("answer") "never", ARGUMENTS);
    struct manta_handle *never = world_handle("never");
    struct manta_call *call = call_word(never, "wait"), *another = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_shutdown(world.instance, &error), 0, "%s", error.text);
    world.instance = NULL;
    /* Calls and handles outlive the instance; they are only of no use any more. */
    int code = call_failure(call).code;
    cr_assert(code == MANTA_ECLOSED || code == MANTA_EREPLICADIED || code == MANTA_EUNAVAILABLE,
              "%d", code);
    cr_assert_eq(manta_call(never, NULL, NULL, 0, &another, &error), MANTA_ECLOSED);
    cr_assert_null(another);
    manta_handle_free(never);
    world_end();
}

/* ---- completion callbacks
 * ------------------------------------------------------------------------- */

struct finish {
    sem_t finished;
    atomic_int count;
    int wait_code;    /* of manta_call_wait inside the callback */
    bool over, frees; /* frees the call itself */
    char json[100];
};

static void on_done(struct manta_call *call, void *owner)
{
    struct finish *finish = owner;
    finish->count++;
    finish->over = manta_call_over(call);
    finish->wait_code = manta_call_wait(call, 1, NULL);
    manta_value_json(manta_call_value(call), finish->json, sizeof finish->json);
    if (finish->frees)
        manta_call_free(call);
    sem_post(&finish->finished);
}

static struct manta_call *call_with_done(struct manta_handle *handle, struct finish *finish,
                                         const char *word)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .done = on_done, .owner = finish};
    return call_begin(handle, &options, (struct manta_arg[]){manta_string(word)}, 1);
}

Test(api_call, done_is_called_once_without_anybody_waiting)
{
    struct finish finish = {0};
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    sem_init(&finish.finished, 0, 0);
    struct manta_call *call = call_with_done(echo, &finish, "x");
    sem_wait(&finish.finished);
    cr_assert(finish.over);
    cr_assert_eq(finish.wait_code, 0);
    cr_assert_str_eq(finish.json, "[\"x\"]");
    cr_assert_str_eq(call_result(call), "[\"x\"]");
    manta_call_free(call);
    /* Its call may be freed inside. */
    finish.frees = true;
    for (int i = 0; i < 100; i++) {
        call_with_done(echo, &finish, "y");
        sem_wait(&finish.finished);
    }
    cr_assert_eq(finish.count, 101);
    manta_handle_free(echo);
    world_end();
}

Test(api_call, done_is_not_called_for_a_call_that_was_freed)
{
    struct finish finish = {0};
    world_start();
    struct manta_handle *gate = world_serve(OBJECT("answer") "gate");
    sem_init(&finish.finished, 0, 0);
    manta_call_free(call_with_done(gate, &finish, "wait"));
    ask_until(gate, "waiting", "0");
    cr_assert_eq(finish.count, 0);
    /* A cancelled one is over, and says so. */
    struct manta_call *call = call_with_done(gate, &finish, "wait");
    manta_call_cancel(call);
    sem_wait(&finish.finished);
    cr_assert_eq(finish.wait_code, MANTA_ECANCELLED);
    manta_call_free(call);
    manta_handle_free(gate);
    world_end();
}

/* ---- several threads, one handle
 * ------------------------------------------------------------------- */

enum { THREAD_COUNT = 6, CALLS_EACH = 200 };

static void *caller_main(void *owner)
{
    struct manta_handle *handle = owner;
    for (int64_t i = 0; i < CALLS_EACH; i++) {
        struct manta_arg args[] = {manta_int(i)};
        struct manta_call *call = NULL;
        struct manta_value item;
        int64_t number = -1;
        if (manta_call(handle, NULL, args, 1, &call, NULL) < 0 ||
            manta_call_wait(call, PATIENCE_S, NULL) < 0 ||
            manta_value_at(manta_call_value(call), 0, &item, NULL) < 0 ||
            manta_value_int(&item, &number, NULL) < 0 || number != i)
            return owner; /* whatever is not null */
        manta_call_free(call);
    }
    return NULL;
}

Test(api_call, one_handle_serves_several_threads)
{
    pthread_t threads[THREAD_COUNT];
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    for (int i = 0; i < THREAD_COUNT; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, caller_main, echo), 0);
    for (int i = 0; i < THREAD_COUNT; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        cr_assert_null(wrong);
    }
    manta_handle_free(echo);
    world_end();
}

/* ---- options of an older header
 * ---------------------------------------------------------------------- */

Test(api_call, what_lies_behind_the_size_of_options_is_not_read)
{
    struct manta_call_options options;
    world_start();
    struct manta_handle *echo = world_serve(OBJECT("answer") "echo");
    /* A header that had only `method`: the rest is whatever lay on the stack. */
    memset(&options, 0xa5, sizeof options);
    options.size = offsetof(struct manta_call_options, timeout_s);
    options.method = "time_left";
    struct manta_call *call = call_begin(echo, &options, NULL, 0);
    cr_assert_str_eq(call_result(call), "null", "the default: no deadline");
    manta_call_free(call);
    options.size = 0;
    call = call_begin(echo, &options, (struct manta_arg[]){manta_int(1)}, 1);
    cr_assert_str_eq(call_result(call), "[1]", "the default: __call__");
    manta_call_free(call);
    /* A newer header has more behind: what is not known is not read either. */
    struct {
        struct manta_call_options options;
        char newer[64];
    } newer = {{MANTA_CALL_OPTIONS, .method = "nil"}, "unknown"};
    newer.options.size = sizeof newer;
    call = call_begin(echo, &newer.options, NULL, 0);
    cr_assert_str_eq(call_result(call), "null");
    manta_call_free(call);
    manta_handle_free(echo);
    world_end();
}
