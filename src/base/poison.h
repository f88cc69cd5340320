/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poison: memory that is ours but that nobody may touch now.
 *
 * The allocators of this folder hand out pieces of larger blocks, which AddressSanitizer cannot see
 * by itself.  They mark what is free as poisoned, so that a use after free or past the end of a
 * piece stops the test at the spot.  Without the sanitizer both words do nothing.
 */
#ifndef MANTA_BASE_POISON_H
#define MANTA_BASE_POISON_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_ON 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(POISON_ON)
#define POISON_ON 1
#endif
#ifndef POISON_ON
#define POISON_ON 0
#endif

#if POISON_ON
#include <sanitizer/asan_interface.h>
#endif

/* Nobody may read or write these bytes until poison_lift. */
static inline void poison_lay(const void *at, size_t size)
{
#if POISON_ON
    __asan_poison_memory_region(at, size);
#else
    (void)at;
    (void)size;
#endif
}

static inline void poison_lift(const void *at, size_t size)
{
#if POISON_ON
    __asan_unpoison_memory_region(at, size);
#else
    (void)at;
    (void)size;
#endif
}

#endif
