/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle: calls through handles against a real instance, and what callbacks may do.
 *
 * Each test starts an instance of its own and ends it; a leak or a touched corpse shows under the
 * sanitizers.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>

#include <manta/manta.h>

static const double PATIENCE_S = 60;

static struct manta_instance *start(int port, const char *app)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_instance *instance = NULL;
    struct manta_error error = {0};
    char target[4200];
    options.http_port = port;
    options.proxies = 1;
    snprintf(target, sizeof target, "%s:%s", HANDLE_OBJECT, app);
    cr_assert_eq(manta_start(&options, &instance, &error), 0, "%s", error.text);
    cr_assert_eq(manta_run(instance, target, NULL, &error), 0, "%s", error.text);
    return instance;
}

static void end(struct manta_instance *instance)
{
    struct manta_error error = {0};
    cr_assert_eq(manta_shutdown(instance, &error), 0, "%s", error.text);
}

static struct manta_handle *handle_of(struct manta_instance *instance, const char *deployment)
{
    struct manta_handle *handle = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_get_deployment_handle(instance, "default", deployment, &handle, &error), 0,
                 "%s", error.text);
    return handle;
}

static struct manta_call *call_of(struct manta_handle *handle, struct manta_call_options options,
                                  struct manta_arg arg)
{
    struct manta_call *call = NULL;
    struct manta_error error = {0};
    cr_assert_eq(manta_call(handle, &options, &arg, 1, &call, &error), 0, "%s", error.text);
    return call;
}

static int64_t ask(struct manta_handle *handle, const char *method, struct manta_arg arg)
{
    struct manta_call *call =
        call_of(handle, (struct manta_call_options){MANTA_CALL_OPTIONS, .method = method}, arg);
    struct manta_error error = {0};
    int64_t number = -1;
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), 0, "%s", error.text);
    manta_value_int(manta_call_value(call), &number, NULL);
    manta_call_free(call);
    return number;
}

static const struct manta_call_options HOLD = {MANTA_CALL_OPTIONS, .method = "hold"};

/* ---- results ---- */

Test(handle, a_result_is_nil_before_it_is_there_and_outlives_the_instance)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct manta_call *hold = call_of(leaf, HOLD, manta_nil());
    cr_assert_eq(manta_value_type(manta_call_value(hold)), MANTA_NIL);
    cr_assert_eq(manta_call_wait(hold, 0.01, NULL), MANTA_ETIMEOUT);
    cr_assert_not(manta_call_over(hold));
    struct manta_call *sizes[2];
    for (int i = 0; i < 2; i++) {
        sizes[i] = call_of(leaf, (struct manta_call_options){MANTA_CALL_OPTIONS, .method = "large"},
                           manta_int(i ? 1000000 : 100));
        cr_assert_eq(manta_call_wait(sizes[i], PATIENCE_S, NULL), 0);
    }
    cr_assert_null(manta_disconnect(instance));
    cr_assert_eq(manta_call_wait(hold, PATIENCE_S, NULL), MANTA_ECLOSED);
    for (int i = 0; i < 2; i++) {
        const void *at;
        size_t size;
        cr_assert_eq(manta_value_binary(manta_call_value(sizes[i]), &at, &size, NULL), 0);
        cr_assert_eq(size, i ? 1000000 : 100);
        cr_assert_eq(((const char *)at)[size - 1], 'x');
        manta_call_free(sizes[i]);
    }
    struct manta_call *late = NULL;
    cr_assert_eq(manta_call(leaf, NULL, NULL, 0, &late, NULL), MANTA_ECLOSED);
    cr_assert_null(late);
    manta_call_free(hold);
    manta_handle_free(leaf);
}

Test(handle, no_number_is_no_time_limit)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct manta_call_options options = {MANTA_CALL_OPTIONS};
    options.timeout_s = (double)NAN;
    struct manta_call *call = call_of(leaf, options, manta_int(7));
    cr_assert_eq(manta_call_wait(call, (double)NAN, NULL), 0);
    manta_call_free(call);
    options.timeout_s = 0.02;
    options.method = "hold";
    call = call_of(leaf, options, manta_nil());
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, NULL), MANTA_ETIMEOUT);
    cr_assert(manta_call_over(call));
    manta_call_free(call);
    manta_handle_free(leaf);
    end(instance);
}

Test(handle, a_stream_gives_every_item_in_order)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "items", .stream = true};
    struct manta_call *call = call_of(leaf, options, manta_int(100000));
    struct manta_value item;
    struct manta_error error = {0};
    int64_t number, count = 0;
    int code;
    while ((code = manta_call_next(call, PATIENCE_S, &item, &error)) == 1) {
        cr_assert_eq(manta_value_int(&item, &number, NULL), 0);
        cr_assert_eq(number, count++);
    }
    cr_assert_eq(code, 0, "%s", error.text);
    cr_assert_eq(count, 100000);
    manta_call_free(call);
    manta_handle_free(leaf);
    end(instance);
}

/* ---- callbacks ---- */

struct seen {
    atomic_int count, code;
    struct manta_call *other; /* freed in the callback too */
    struct manta_handle *handle;
    struct manta_instance *instance;
};

static void on_done(struct manta_call *call, void *owner)
{
    struct seen *seen = owner;
    atomic_store(&seen->code, manta_call_wait(call, 0, NULL));
    manta_call_free(call);
    manta_call_free(seen->other);
    seen->other = NULL;
    manta_handle_free(seen->handle);
    seen->handle = NULL;
    atomic_fetch_add(&seen->count, 1);
}

static struct manta_call_options hold_with(struct seen *seen)
{
    struct manta_call_options options = HOLD;
    options.done = on_done;
    options.owner = seen;
    return options;
}

Test(handle, a_callback_may_free_its_call_another_and_the_handle)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct seen seen = {.handle = handle_of(instance, "leaf")};
    seen.other = call_of(leaf, HOLD, manta_nil());
    struct manta_call *call = call_of(seen.handle, hold_with(&seen), manta_nil());
    while (ask(leaf, "held", manta_nil()) < 2)
        ;
    manta_call_cancel(call);
    cr_assert_eq(seen.count, 1);
    cr_assert_eq(seen.code, MANTA_ECANCELLED);
    while (ask(leaf, "told", manta_nil()) < 2)
        ;
    manta_handle_free(leaf);
    end(instance);
}

Test(handle, the_end_of_an_instance_calls_every_callback_once)
{
    enum { COUNT = 10 };
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct seen seen[COUNT] = {0};
    struct manta_call *calls[COUNT];
    for (int i = 0; i < COUNT; i++)
        calls[i] = call_of(leaf, hold_with(&seen[i]), manta_nil());
    /* Each but the last takes its neighbour along, which then gets no callback. */
    for (int i = 0; i < COUNT - 1; i += 2)
        seen[i].other = calls[i + 1];
    cr_assert_null(manta_disconnect(instance));
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(seen[i].count, i % 2 == 0);
        if (i % 2 == 0)
            cr_assert_eq(seen[i].code, MANTA_ECLOSED);
    }
    manta_handle_free(leaf);
}

static void on_done_again(struct manta_call *call, void *owner)
{
    struct seen *seen = owner;
    struct manta_call_options options = hold_with(seen);
    struct manta_call *next = NULL;
    options.method = "echo";
    options.timeout_s = 10;
    atomic_store(&seen->code, manta_call(seen->handle, &options, (struct manta_arg[]){manta_int(1)},
                                         1, &next, NULL));
    cr_assert_eq(manta_call_wait(next, PATIENCE_S, NULL), MANTA_EINVALID);
    seen->handle = NULL;
    manta_call_free(call);
}

Test(handle, a_callback_may_call_but_not_wait)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *leaf = handle_of(instance, "leaf");
    struct seen seen = {.handle = leaf};
    struct manta_call_options options = hold_with(&seen);
    options.done = on_done_again;
    options.method = "echo";
    call_of(leaf, options, manta_int(1));
    while (!atomic_load(&seen.count))
        ask(leaf, "echo", manta_int(1));
    cr_assert_eq(seen.code, 0);
    manta_handle_free(leaf);
    end(instance);
}

static void on_done_leave(struct manta_call *call, void *owner)
{
    struct seen *seen = owner;
    manta_call_free(call);
    if (seen->code)
        atomic_store(&seen->code, manta_shutdown(seen->instance, NULL));
    else
        manta_disconnect(seen->instance);
    atomic_fetch_add(&seen->count, 1);
}

/* The instance ends behind the callback, on a thread of its own. */
Test(handle, a_callback_may_leave_the_instance)
{
    for (int i = 0; i < 2; i++) {
        struct seen seen = {.instance = start(-1, "pair"), .code = i};
        struct manta_handle *leaf = handle_of(seen.instance, "leaf");
        struct manta_call_options options = hold_with(&seen);
        options.done = on_done_leave;
        struct manta_call *call = call_of(leaf, options, manta_nil());
        manta_call_cancel(call);
        cr_assert_eq(seen.count, 1);
        cr_assert_eq(seen.code, i ? MANTA_EINVALID : 0);
        struct manta_call *late;
        while (manta_call(leaf, NULL, NULL, 0, &late, NULL) != MANTA_ECLOSED)
            manta_call_free(late);
        manta_handle_free(leaf);
    }
}

/* ---- parents ---- */

Test(handle, a_cancelled_parent_takes_its_calls_along_and_they_may_answer_it)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *front = handle_of(instance, "front"), *leaf = handle_of(instance, "leaf");
    /* On a busy machine the first ones are cancelled before they call: each has more time. */
    for (int i = 1; i <= 20 || ask(front, "ended", manta_nil()) < 1; i++) {
        struct manta_call *call = call_of(
            front, (struct manta_call_options){MANTA_CALL_OPTIONS, .method = "relay"}, manta_nil());
        manta_call_wait(call, 0.001 * i, NULL);
        manta_call_cancel(call);
        manta_call_free(call);
        cr_assert_lt(i, 500, "a cancelled parent's calls do not end");
    }
    /* It answers still, and nothing is left in it: the places are free. */
    for (int i = 0; i < 200; i++)
        ask(front, "ended", manta_nil());
    manta_handle_free(front);
    manta_handle_free(leaf);
    end(instance);
}

Test(handle, a_writer_that_waits_for_room_learns_that_its_reader_has_left)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *front = handle_of(instance, "front");
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "writes", .stream = true};
    struct manta_call *call = call_of(front, options, manta_nil());
    struct manta_value item;
    cr_assert_eq(manta_call_next(call, PATIENCE_S, &item, NULL), 1);
    manta_call_cancel(call);
    manta_call_free(call);
    while (ask(front, "ended", manta_nil()) < 1)
        ;
    manta_handle_free(front);
    end(instance);
}

/* ---- answers that cannot be sent ---- */

Test(handle, a_wrong_answer_is_the_deployments_failure)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_handle *front = handle_of(instance, "front");
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "wrong"};
    static const struct {
        const char *what;
        int seen, said;
    } cases[] = {{"status", MANTA_EUSER, MANTA_EINVALID},
                 {"type", MANTA_EUSER, MANTA_EINVALID},
                 {"value", MANTA_EUSER, MANTA_EINVALID},
                 {"headers", 0, MANTA_ELIMIT},
                 {"part", 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct manta_error error = {0};
        struct manta_call *call = call_of(front, options, manta_string(cases[i].what));
        cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), cases[i].seen, "%s: %s",
                     cases[i].what, error.text);
        manta_call_free(call);
        cr_assert_eq(ask(front, "wrong", manta_string("said")), cases[i].said, "%s", cases[i].what);
    }
    manta_handle_free(front);
    end(instance);
}

/* ---- HTTP ---- */

/* Sends, half a connection at a time, and returns the status of the answer; its body is in `body`.
 */
static int exchange(int port, const char *head, const char *content, char *body, size_t room)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char answer[4096];
    size_t size = 0;
    ssize_t got;
    int status = 0;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(descriptor, (struct sockaddr *)&address, sizeof address), 0);
    dprintf(descriptor,
            "%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: "
            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
            head, strlen(content), content);
    while (size < sizeof answer - 1 &&
           (got = read(descriptor, answer + size, sizeof answer - 1 - size)) > 0)
        size += (size_t)got;
    close(descriptor);
    answer[size] = 0;
    cr_assert_eq(sscanf(answer, "HTTP/1.1 %d", &status), 1, "%s", answer);
    char *end_of_head = strstr(answer, "\r\n\r\n");
    snprintf(body, room, "%s", end_of_head ? end_of_head + 4 : "");
    return status;
}

/* Far beyond what the arena of a request holds. */
Test(handle, a_large_json_body_is_read_as_a_value)
{
    if (getenv("MANTA_LOCAL_TESTING"))
        cr_skip_test("there is no HTTP in local testing");
    struct manta_instance *instance = start(0, "pair");
    enum { COUNT = 400000 };
    char *json = malloc(2 * COUNT + 2), body[200];
    json[0] = '[';
    for (int i = 0; i < COUNT; i++)
        memcpy(json + 1 + 2 * i, i < COUNT - 1 ? "1," : "1]", 2);
    json[2 * COUNT + 1] = 0;
    int port = manta_http_port(instance);
    cr_assert_eq(exchange(port, "POST /some/path", json, body, sizeof body), 200, "%s", body);
    cr_assert_str_eq(body, "400000");
    cr_assert_eq(exchange(port, "POST /", "{\"a\": 1}", body, sizeof body), 200);
    cr_assert_str_eq(body, "1");
    cr_assert_eq(exchange(port, "POST /", "{\"a\"", body, sizeof body), 400);
    free(json);
    end(instance);
}

/* ---- ends ---- */

Test(handle, a_replica_whose_check_hangs_ends_without_touching_the_state)
{
    struct manta_instance *instance = start(-1, "hanging");
    struct manta_handle *sick = handle_of(instance, "sick");
    cr_assert_eq(ask(sick, "__call__", manta_int(3)), 3);
    manta_handle_free(sick);
    end(instance);
}

Test(handle, the_status_replaces_what_a_pack_held_and_a_failure_leaves_it)
{
    struct manta_instance *instance = start(-1, "pair");
    struct manta_pack *pack = manta_pack_new();
    struct manta_value value, apps;
    struct manta_error error = {0};
    manta_pack_arg(pack, manta_int(1));
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(manta_status(instance, pack, &error), 0, "%s", error.text);
        cr_assert_eq(manta_pack_value(pack, &value, &error), 0, "%s", error.text);
        cr_assert_eq(manta_value_get(&value, "applications", &apps, &error), 0, "%s", error.text);
    }
    cr_assert_eq(manta_run(instance, NULL, NULL, &error), MANTA_EINVALID);
    manta_pack_free(pack);
    end(instance);
}
