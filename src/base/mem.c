/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem: counting and failing on request, over the C library's heap.
 *
 * The counters are relaxed atomics: they order nothing, they only add up.  The countdown of the
 * test door is read on every allocation and is zero outside of tests, so that it costs one load.
 * The allocator itself (glibc, or what is preloaded) is not chosen here.
 */
#include "mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ensure.h"

static atomic_uint_fast64_t allocated; /* calls that returned memory */
static atomic_uint_fast64_t freed;     /* of these, given back */
static atomic_int_fast64_t failure_in; /* allocations until one fails; 0: off */

/* True for the one allocation that a test asked to fail. */
static bool must_fail(void)
{
    int_fast64_t left = atomic_load_explicit(&failure_in, memory_order_relaxed);
    while (left > 0)
        if (atomic_compare_exchange_weak_explicit(&failure_in, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return left == 1;
    return false;
}

static _Noreturn void die(size_t size)
{
    fprintf(stderr, "memory is exhausted: %zu bytes were asked for\n", size);
    fflush(stderr);
    abort();
}

void *mem_try(size_t size)
{
    if (must_fail())
        return NULL;
    void *memory = calloc(1, size ? size : 1);
    if (memory)
        atomic_fetch_add_explicit(&allocated, 1, memory_order_relaxed);
    return memory;
}

void *mem_try_raw(size_t size)
{
    if (must_fail())
        return NULL;
    void *memory = malloc(size ? size : 1);
    if (memory)
        atomic_fetch_add_explicit(&allocated, 1, memory_order_relaxed);
    return memory;
}

void *mem_new(size_t size)
{
    void *memory = mem_try(size);
    if (!memory)
        die(size);
    return memory;
}

void *mem_try_resize(void *old, size_t old_size, size_t new_size)
{
    ensure(new_size > 0);
    ensure(old || old_size == 0);
    if (!old)
        return mem_try(new_size);
    if (must_fail())
        return NULL;
    uint8_t *memory = realloc(old, new_size);
    if (!memory)
        return NULL;
    if (new_size > old_size)
        memset(memory + old_size, 0, new_size - old_size);
    atomic_fetch_add_explicit(&allocated, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&freed, 1, memory_order_relaxed);
    return memory;
}

char *mem_copy_string(const char *string, size_t length)
{
    ensure(string || length == 0);
    ensure(length < SIZE_MAX);
    char *copy = mem_new(length + 1);
    if (length)
        memcpy(copy, string, length);
    return copy;
}

void *mem_free(void *memory)
{
    if (memory)
        atomic_fetch_add_explicit(&freed, 1, memory_order_relaxed);
    free(memory);
    return NULL;
}

struct mem_count mem_count(void)
{
    /* Frees first: with other threads at work `live` may be too high for a moment, never negative.
     */
    uint64_t gone = atomic_load_explicit(&freed, memory_order_acquire);
    uint64_t made = atomic_load_explicit(&allocated, memory_order_acquire);
    return (struct mem_count){.allocations = made, .live = made >= gone ? made - gone : 0};
}

uint64_t mem_fail_at(uint64_t nth)
{
    ensure(nth <= INT64_MAX);
    int_fast64_t left =
        atomic_exchange_explicit(&failure_in, (int_fast64_t)nth, memory_order_relaxed);
    ensure(left >= 0);
    return (uint64_t)left;
}
