/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference: large values between real processes: they arrive whole, are passed on, are kept, and
 * outlive whoever made them.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include <manta/manta.h>

enum { LARGE = 3000000 };
static const double PATIENCE_S = 60;

static struct manta_instance *instance;
static struct manta_handle *first, *second;

static void begin(void)
{
    struct manta_start_options options = {MANTA_START_OPTIONS};
    struct manta_error error = {0};
    options.http_port = -1;
    cr_assert_eq(manta_start(&options, &instance, &error), 0, "%s", error.text);
    cr_assert_eq(manta_run(instance, REFERENCE_OBJECT ":references", NULL, &error), 0, "%s",
                 error.text);
    cr_assert_eq(manta_get_deployment_handle(instance, "default", "first", &first, &error), 0);
    cr_assert_eq(manta_get_deployment_handle(instance, "default", "second", &second, &error), 0);
}

static void end(void)
{
    struct manta_error error = {0};
    manta_handle_free(first);
    manta_handle_free(second);
    cr_assert_eq(manta_shutdown(instance, &error), 0, "%s", error.text);
}

TestSuite(reference, .init = begin, .fini = end);

/* A finished call, to be freed. */
static struct manta_call *ask(struct manta_handle *handle, const char *method, struct manta_arg arg)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = method};
    struct manta_error error = {0};
    struct manta_call *call;
    cr_assert_eq(manta_call(handle, &options, &arg, 1, &call, &error), 0, "%s", error.text);
    cr_assert_eq(manta_call_wait(call, PATIENCE_S, &error), 0, "%s: %s", method, error.text);
    return call;
}

static int64_t number_of(struct manta_call *take_call)
{
    int64_t number = -1;
    struct manta_error error = {0};
    cr_assert_eq(manta_value_int(manta_call_value(take_call), &number, &error), 0, "%s",
                 error.text);
    manta_call_free(take_call);
    return number;
}

static struct bytes_seen {
    const uint8_t *at;
    size_t size;
} bytes_of(const struct manta_value *value)
{
    struct bytes_seen seen;
    struct manta_error error = {0};
    cr_assert_eq(manta_value_binary(value, (const void **)&seen.at, &seen.size, &error), 0, "%s",
                 error.text);
    return seen;
}

static bool is_pattern(struct bytes_seen seen, int64_t seed, size_t size)
{
    for (size_t i = 0; i < seen.size; i++)
        if (seen.at[i] != (uint8_t)(seed + (int64_t)i * 7))
            return false;
    return seen.size == size;
}

static int64_t pattern_sum(size_t size)
{
    int64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += (uint8_t)(i * 7);
    return sum;
}

static struct manta_buffer *pattern(size_t size)
{
    struct manta_buffer *buffer;
    struct manta_error error = {0};
    cr_assert_eq(manta_buffer_new(size, &buffer, &error), 0, "%s", error.text);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)manta_buffer_at(buffer))[i] = (uint8_t)(i * 7);
    return buffer;
}

Test(reference, values_of_every_size_come_back_as_they_went)
{
    static const size_t SIZES[] = {1,         1000,   32 * 1024, 64 * 1024 - 1,
                                   64 * 1024, 100000, 1 << 20,   LARGE};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        struct manta_buffer *buffer = pattern(SIZES[i]);
        struct manta_call *by_reference = ask(first, NULL, manta_by_reference(buffer));
        struct manta_call *by_copy =
            ask(first, NULL, manta_binary(manta_buffer_data(buffer), SIZES[i]));
        manta_buffer_free(buffer);
        cr_assert(is_pattern(bytes_of(manta_call_value(by_reference)), 0, SIZES[i]), "%zu",
                  SIZES[i]);
        cr_assert(is_pattern(bytes_of(manta_call_value(by_copy)), 0, SIZES[i]), "%zu", SIZES[i]);
        manta_call_free(by_reference);
        manta_call_free(by_copy);
    }
}

Test(reference, what_one_deployment_made_another_reads)
{
    struct manta_call *made = ask(first, "make", manta_int(LARGE));
    struct manta_value value = *manta_call_value(made);
    struct manta_buffer *buffer;
    cr_assert_eq(manta_value_buffer(&value, &buffer, NULL, NULL, NULL), 0, "it came by reference");
    cr_assert_null(manta_buffer_at(buffer), "nobody writes to what was received");
    cr_assert_eq(number_of(ask(second, "sum", manta_copied(&value))), pattern_sum(LARGE));
    manta_call_free(made);
    cr_assert_eq(number_of(ask(second, "sum", manta_by_reference(buffer))), pattern_sum(LARGE));
    cr_assert_eq(number_of(ask(first, "sum", manta_by_reference_head(buffer, 70000))),
                 pattern_sum(70000));
    manta_buffer_free(buffer);
}

Test(reference, a_value_outlives_the_process_that_made_it)
{
    struct manta_call *made = ask(first, "make", manta_int(LARGE)), *died;
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = "die"};
    struct manta_error error = {0};
    cr_assert_eq(manta_call(first, &options, NULL, 0, &died, &error), 0);
    cr_assert_eq(manta_call_wait(died, PATIENCE_S, &error), MANTA_EREPLICADIED, "%s", error.text);
    cr_assert(is_pattern(bytes_of(manta_call_value(made)), 0, LARGE));
    cr_assert_eq(number_of(ask(second, "sum", manta_copied(manta_call_value(made)))),
                 pattern_sum(LARGE), "and can be passed on");
    manta_call_free(died);
    manta_call_free(made);
}

Test(reference, a_replica_keeps_what_it_was_sent)
{
    struct manta_buffer *buffer = pattern(LARGE);
    cr_assert_eq(number_of(ask(first, "keep", manta_by_reference(buffer))), 0);
    manta_buffer_free(buffer);
    for (int i = 0; i < 20; i++) /* the memory would be used again, were it not kept */
        manta_call_free(ask(first, NULL, manta_by_reference(buffer = pattern(LARGE)))),
            manta_buffer_free(buffer);
    buffer = pattern(70000);
    cr_assert_eq(number_of(ask(first, "keep", manta_by_reference(buffer))), pattern_sum(LARGE));
    manta_buffer_free(buffer);
}

Test(reference, many_buffers_in_one_value)
{
    enum { COUNT = 40 };
    struct manta_pack *pack = manta_pack_new();
    manta_pack_array(pack, COUNT);
    for (int i = 0; i < COUNT; i++) {
        struct manta_buffer *buffer = pattern((size_t)(i * 5000 + 1));
        manta_pack_arg(pack, manta_by_reference(buffer));
        manta_buffer_free(buffer);
    }
    struct manta_call *call = ask(second, NULL, manta_packed(pack));
    struct manta_value item;
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(manta_value_at(manta_call_value(call), (size_t)i, &item, NULL), 0);
        cr_assert(is_pattern(bytes_of(&item), 0, (size_t)(i * 5000 + 1)), "buffer %d", i);
    }
    manta_call_free(call);
    manta_pack_free(pack);
}

Test(reference, a_large_text_beside_buffers)
{
    static char words[200000];
    struct manta_buffer *buffer = pattern(LARGE);
    struct manta_pack *pack = manta_pack_new();
    const char *at;
    size_t size;
    memset(words, 'w', sizeof words - 1);
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, manta_string(words));
    manta_pack_arg(pack, manta_by_reference(buffer));
    struct manta_call *call = ask(first, NULL, manta_packed(pack));
    struct manta_value item;
    cr_assert_eq(manta_value_at(manta_call_value(call), 0, &item, NULL), 0);
    cr_assert_eq(manta_value_string(&item, &at, &size, NULL), 0);
    cr_assert(size == sizeof words - 1 && at[size - 1] == 'w');
    cr_assert_eq(manta_value_at(manta_call_value(call), 1, &item, NULL), 0);
    cr_assert(is_pattern(bytes_of(&item), 0, LARGE));
    manta_call_free(call);
    manta_pack_free(pack);
    manta_buffer_free(buffer);
}

Test(reference, small_tensors_are_aligned)
{
    static const int64_t SHAPE[] = {3};
    struct manta_tensor tensor, back;
    struct manta_error error = {0};
    void *data;
    cr_assert_eq(manta_tensor_new(MANTA_TENSOR_FLOAT, 64, SHAPE, 1, &tensor, &data, &error), 0);
    memset(data, 0, 24);
    for (size_t length = 0; length < 70; length++) { /* what stands before it moves it about */
        char words[80] = {0};
        struct manta_pack *pack = manta_pack_new();
        struct manta_value item;
        memset(words, 'w', length);
        manta_pack_array(pack, 2);
        manta_pack_arg(pack, manta_string(words));
        manta_pack_arg(pack, manta_tensor_arg(&tensor));
        struct manta_call *call = ask(first, NULL, manta_packed(pack));
        cr_assert_eq(manta_value_at(manta_call_value(call), 1, &item, NULL), 0);
        cr_assert_eq(manta_value_tensor(&item, &back, &error), 0, "%s", error.text);
        cr_assert_eq((uintptr_t)back.data % 64, 0, "behind %zu letters", length);
        manta_call_free(call);
        manta_pack_free(pack);
    }
    manta_tensor_done(&tensor);
}

Test(reference, tensors_both_ways)
{
    struct manta_tensor tensor, doubled;
    struct manta_error error = {0};
    int64_t shape[] = {300, 400};
    void *data;
    cr_assert_eq(manta_tensor_new(MANTA_TENSOR_FLOAT, 32, shape, 2, &tensor, &data, &error), 0);
    for (int i = 0; i < 300 * 400; i++)
        ((float *)data)[i] = (float)i;
    struct manta_call *call = ask(first, "scale", manta_tensor_arg(&tensor));
    cr_assert_eq(manta_value_tensor(manta_call_value(call), &doubled, &error), 0, "%s", error.text);
    cr_assert(doubled.shape[0] == 300 && doubled.shape[1] == 400);
    cr_assert_eq(((const float *)doubled.data)[119999], 239998.0f);
    manta_call_free(call);
    manta_tensor_done(&tensor);
}

static void read_stream(const char *method, int64_t count, int64_t size)
{
    struct manta_call_options options = {MANTA_CALL_OPTIONS, .method = method, .stream = true};
    struct manta_arg args[] = {manta_int(count), manta_int(size)};
    struct manta_error error = {0};
    struct manta_value item;
    struct manta_call *call;
    int64_t seen = 0;
    int code;
    cr_assert_eq(manta_call(first, &options, args, 2, &call, &error), 0);
    while ((code = manta_call_next(call, PATIENCE_S, &item, &error)) == 1) {
        cr_assert(is_pattern(bytes_of(&item), seen, (size_t)size), "item %d", (int)seen);
        seen++;
    }
    cr_assert_eq(code, 0, "%s", error.text);
    cr_assert_eq(seen, count);
    manta_call_free(call);
}

Test(reference, a_stream_of_large_values)
{
    read_stream("items", 50, 1 << 20);
    read_stream("items", 200, 50000);
    read_stream("items", 1000, 10);
    read_stream("raw", 100, 1000);
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

Test(reference, nothing_grows)
{
    int before = 0;
    for (int i = 0; i < 600; i++) {
        struct manta_buffer *buffer = pattern((size_t)(1 + i * 7919 % 400000));
        manta_call_free(ask(i % 2 ? first : second, NULL, manta_by_reference(buffer)));
        manta_buffer_free(buffer);
        if (i == 300)
            before = open_descriptors();
    }
    cr_assert_leq(open_descriptors(), before + 2);
}

Test(reference, a_value_that_is_too_much_is_refused_here)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_call *call = NULL;
    struct manta_error error = {0};
    manta_pack_array(pack, 65);
    for (int i = 0; i < 65; i++) {
        struct manta_buffer *buffer = pattern(1);
        manta_pack_arg(pack, manta_by_reference(buffer));
        manta_buffer_free(buffer);
    }
    struct manta_arg arg = manta_packed(pack);
    cr_assert_eq(manta_call(first, NULL, &arg, 1, &call, &error), MANTA_ELIMIT);
    cr_assert_null(call);
    manta_pack_free(pack);
}
