/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door to the heap: zeroed memory, honest counts, and the failure that a test asks for.
 */
#include <signal.h>
#include <string.h>

#include "poison.h"
#include "torture.h"

static bool all_zero(const char *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

Test(mem, new_memory_is_zero)
{
    /* Dirty what the heap will hand out again. */
    for (int i = 0; i < 8; i++) {
        char *dirty = mem_new(100);
        memset(dirty, 0x5A, 100);
        mem_free(dirty);
    }
    char *memory = mem_new(100);
    cr_assert(all_zero(memory, 100));
    mem_free(memory);
}

Test(mem, growing_keeps_the_old_bytes_and_zeroes_the_new_ones)
{
    char *memory = mem_try_resize(NULL, 0, 4);
    cr_assert_not_null(memory);
    memcpy(memory, "abcd", 4);
    memory = mem_try_resize(memory, 4, 5000);
    cr_assert_eq(memcmp(memory, "abcd", 4), 0);
    cr_assert(all_zero(memory + 4, 4996));
    memory = mem_try_resize(memory, 5000, 2);
    cr_assert_eq(memcmp(memory, "ab", 2), 0);
    mem_free(memory);
}

Test(mem, counts_say_what_lives)
{
    struct mem_count before = mem_count();
    void *a = mem_new(1), *b = mem_try(0);
    cr_assert_not_null(b, "no bytes are a valid allocation too");
    a = mem_try_resize(a, 1, 1000);
    struct mem_count during = mem_count();
    cr_assert_eq(during.allocations - before.allocations, 3);
    cr_assert_eq(during.live - before.live, 2);
    cr_assert_null(mem_free(a));
    cr_assert_null(mem_free(b));
    cr_assert_null(mem_free(NULL));
    cr_assert_eq(mem_count().live, before.live);
}

Test(mem, exactly_the_nth_allocation_fails)
{
    uint64_t made = mem_count().allocations;
    mem_fail_at(3);
    void *first = mem_try(8), *second = mem_try(8), *third = mem_try(8), *fourth = mem_try(8);
    cr_assert(first && second && !third && fourth);
    cr_assert_eq(mem_count().allocations - made, 3, "a refusal is no allocation");
    cr_assert_eq(mem_fail_at(0), 0, "the failure happened");
    mem_free(first);
    mem_free(second);
    mem_free(fourth);
}

Test(mem, a_countdown_that_was_not_used_up_is_told)
{
    mem_fail_at(5);
    mem_free(mem_try(1));
    cr_assert_eq(mem_fail_at(0), 4);
    cr_assert_eq(mem_fail_at(0), 0);
}

Test(mem, a_refused_resize_leaves_the_old_memory)
{
    char *memory = mem_new(4);
    memcpy(memory, "abcd", 4);
    mem_fail_at(1);
    cr_assert_null(mem_try_resize(memory, 4, 8));
    cr_assert_eq(memcmp(memory, "abcd", 4), 0);
    mem_free(memory);
}

Test(mem, what_no_machine_has_is_refused)
{
#if POISON_ON
    cr_skip_test("AddressSanitizer ends the process here, as it is told to");
#else
    volatile size_t size = SIZE_MAX / 2; /* volatile: or the compiler warns, rightly */
    cr_assert_null(mem_try(size));
#endif
}

Test(mem, a_copied_string_ends_with_zero)
{
    char *copy = mem_copy_string("replica#1", 7);
    cr_assert_str_eq(copy, "replica");
    mem_free(copy);
    copy = mem_copy_string(NULL, 0);
    cr_assert_str_eq(copy, "");
    mem_free(copy);
}

Test(mem, the_plain_form_dies_when_memory_lacks, .signal = SIGABRT)
{
    mem_fail_at(1);
    mem_new(16);
}
