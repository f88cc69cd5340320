/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers: references, reuse, the live bytes that the budget counts.  Threads: buffer_threads.c.
 */
#include "buffer.h"

#include <signal.h>
#include <string.h>

#include "poison.h"
#include "torture.h"

Test(buffer, the_last_reference_gives_it_back)
{
    struct buffer_store *store = buffer_store_new(4096, 4);
    struct buffer *buffer = buffer_try_new(store, 100);
    cr_assert_eq(buffer->capacity, 4096);
    memset(buffer->data, 1, buffer->capacity);
    cr_assert_eq(buffer_ref(buffer), buffer);
    cr_assert_eq(buffer_references(buffer), 2);
    cr_assert_null(buffer_unref(buffer));
    cr_assert_eq(buffer_store_live_bytes(store), 4096);
    cr_assert_null(buffer_unref(buffer));
    cr_assert_eq(buffer_store_live_bytes(store), 0);
    cr_assert_null(buffer_unref(NULL));
    cr_assert_null(buffer_store_free(store));
    cr_assert_null(buffer_store_free(NULL));
}

Test(buffer, the_warmest_comes_back_first_and_costs_nothing)
{
    struct buffer_store *store = buffer_store_new(4096, 4);
    struct buffer *a = buffer_try_new(store, 4096), *b = buffer_try_new(store, 1);
    buffer_unref(a);
    buffer_unref(b);
    uint64_t before = mem_count().allocations;
    cr_assert_eq(buffer_try_new(store, 0), b);
    cr_assert_eq(buffer_try_new(store, 4096), a);
    cr_assert_eq(buffer_references(a), 1);
    cr_assert_eq(mem_count().allocations, before);
    buffer_unref(a);
    buffer_unref(b);
    buffer_store_free(store);
}

Test(buffer, larger_ones_go_back_to_the_heap)
{
    struct buffer_store *store = buffer_store_new(4096, 4);
    uint64_t live = mem_count().live;
    struct buffer *large = buffer_try_new(store, 4097);
    cr_assert_eq(large->capacity, 4097);
    cr_assert_eq(buffer_store_live_bytes(store), 4097);
    buffer_unref(large);
    cr_assert_eq(mem_count().live, live);
    cr_assert_null(buffer_try_new(store, SIZE_MAX));
    cr_assert_null(buffer_try_new(store, SIZE_MAX - 8));
    cr_assert_eq(buffer_store_live_bytes(store), 0);
    buffer_store_free(store);
}

Test(buffer, no_more_are_kept_than_allowed)
{
    struct buffer_store *store = buffer_store_new(64, 2);
    uint64_t live = mem_count().live;
    struct buffer *buffers[5];
    for (int i = 0; i < 5; i++)
        buffers[i] = buffer_try_new(store, 64);
    cr_assert_eq(buffer_store_live_bytes(store), 5 * 64);
    for (int i = 0; i < 5; i++)
        buffer_unref(buffers[i]);
    cr_assert_eq(mem_count().live - live, 2);
    buffer_store_free(store);
}

static struct buffer_store *tortured_store;

static bool three_buffers(void)
{
    struct buffer *buffers[3];
    bool whole = true;
    for (int i = 0; i < 3; i++) {
        size_t live = buffer_store_live_bytes(tortured_store);
        buffers[i] = buffer_try_new(tortured_store, i == 1 ? 1000 : 10);
        whole = whole && buffers[i];
        if (!buffers[i])
            cr_assert_eq(buffer_store_live_bytes(tortured_store), live);
    }
    for (int i = 0; i < 3; i++)
        buffer_unref(buffers[i]);
    return whole;
}

Test(buffer, any_failing_allocation_is_only_a_refusal)
{
    tortured_store = buffer_store_new(64, 0);
    cr_assert_eq(torture(three_buffers), 3);
    buffer_store_free(tortured_store);
}

Test(buffer, the_sanitizer_sees_buffers_that_were_given_back)
{
#if POISON_ON
    struct buffer_store *store = buffer_store_new(64, 1);
    struct buffer *buffer = buffer_try_new(store, 64);
    cr_assert(!__asan_address_is_poisoned(buffer->data));
    buffer_unref(buffer);
    cr_assert(__asan_address_is_poisoned(buffer->data));
    cr_assert(__asan_address_is_poisoned(buffer->data + 63));
    buffer = buffer_try_new(store, 64);
    cr_assert(!__asan_address_is_poisoned(buffer->data + 63));
    buffer_unref(buffer);
    buffer_store_free(store);
#else
    cr_skip_test("needs AddressSanitizer");
#endif
}

Test(buffer, a_store_that_ends_under_a_buffer_is_our_mistake, .signal = SIGABRT)
{
    struct buffer_store *store = buffer_store_new(64, 1);
    cr_assert_not_null(buffer_try_new(store, 1));
    buffer_store_free(store);
}
