/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem: the one door to the heap.
 *
 * Everything in the house allocates here, so that tests can count allocations, and can make the
 * n-th one fail.  The plain forms die on exhaustion (small, internal, bounded sizes); the try_
 * forms return null and must be checked (sizes that came from outside, after a comparison with a
 * limit).  All memory comes zeroed, but that of mem_try_raw.  Thread-safe.
 */
#ifndef MANTA_BASE_MEM_H
#define MANTA_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_new(size_t size);                                     /* dies on exhaustion */
void *mem_try(size_t size) __attribute__((warn_unused_result)); /* null on exhaustion */
/* The same, not zeroed: for large memory of which nothing is read before it is written. */
void *mem_try_raw(size_t size) __attribute__((warn_unused_result));
/* Grows or shrinks; new bytes are zero.  Null on exhaustion, and then `old` stays valid. */
void *mem_try_resize(void *old, size_t old_size, size_t new_size)
    __attribute__((warn_unused_result));
char *mem_copy_string(const char *string, size_t length); /* adds the terminator; dies */
void *mem_free(void *memory);                             /* null is fine; returns null */

struct mem_count {
    uint64_t allocations; /* calls that returned memory since the process began */
    uint64_t live;        /* of these, not yet freed */
};
struct mem_count mem_count(void);

/*
 * Test door: the `nth` allocation from now on (1 = the next) fails; 0 turns it off.  Plain forms
 * still die. Returns what was left of the countdown before: 0 when that failure happened, or none
 * was set.
 */
uint64_t mem_fail_at(uint64_t nth);

#endif
