/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots under threads: workers take, write, share and give back, while the loop's thread trims and
 * hears of borrowed ones that came back.  A plain main, for ThreadSanitizer.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "rng.h"
#include "slots.h"

enum { THREADS = 4, ROUNDS = 4000, BORROWED = 2000, KIB = 1024 };

static struct slot_pool *pool;
static struct slot *borrowed[BORROWED];
static atomic_uint finished;

static void nothing(void *owner)
{
    (void)owner;
}

static void gone(void *owner, struct slot_region *region)
{
    (void)owner;
    (void)region;
}

static void *work(void *owner)
{
    unsigned number = (unsigned)(uintptr_t)owner;
    struct rng rng;
    rng_init(&rng, number);
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t size = 64 * KIB + rng_next(&rng) % (512 * KIB);
        struct slot *slot = slot_take(pool, size);
        if (slot) {
            memset(slot->at, (int)number, 256);
            slot->at[size - 1] = (uint8_t)number;
            slot_ref(slot);
            slot_unref(slot);
            for (int k = 0; k < 256; k++)
                ensure(slot->at[k] == number);
            slot_unref(slot);
        }
        if (i < BORROWED / THREADS)
            slot_unref(borrowed[number * (BORROWED / THREADS) + i]);
    }
    atomic_fetch_add(&finished, 1);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    struct region theirs;
    int code;
    pool = slot_pool_new(
        &(struct slot_pool_config){.byte_limit = 32 << 20, .region_limit = 16, .wake = nothing});
    ensure(pool && region_create(&theirs, 4096) == 0);
    struct slot_region *region = slot_region_borrow(pool, region_duplicate(&theirs), 4096, &code);
    ensure(region != NULL);
    for (uint32_t i = 0; i < BORROWED; i++)
        borrowed[i] = slot_borrow(region, i, 1, i, NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        ensure(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    uint32_t returned = 0;
    for (int64_t now = 1; atomic_load(&finished) < THREADS || returned < BORROWED; now++) {
        struct slot *slot;
        while ((slot = slot_pool_returned(pool)) != NULL) {
            slot_forget(slot);
            returned++;
        }
        slot_pool_trim(pool, now, 3, gone, NULL);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    slot_pool_check(pool);
    ensure(slot_pool_used_bytes(pool) == 0 && region->references == 1);
    slot_region_unref(region);
    region_close(&theirs);
    slot_pool_free(pool);
    puts("ok");
    return 0;
}
