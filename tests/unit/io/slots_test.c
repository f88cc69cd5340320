/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots and their regions: what is reused, what is given back, what a reader refuses, and what
 * happens when the machine lacks something.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "rng.h"
#include "slots.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

static int wakes;

static void note_wake(void *owner)
{
    (void)owner;
    wakes++;
}

static struct slot_pool *pool_of(size_t byte_limit, uint32_t region_limit)
{
    struct slot_pool *pool = slot_pool_new(&(struct slot_pool_config){
        .byte_limit = byte_limit, .region_limit = region_limit, .wake = note_wake});
    cr_assert_not_null(pool);
    return pool;
}

static uint32_t gone_count;

static void note_gone(void *owner, struct slot_region *region)
{
    (void)owner;
    (void)region;
    gone_count++;
}

static int count_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

/* ---- regions ---- */

Test(region, a_reader_sees_what_the_writer_wrote_and_cannot_write)
{
    struct region writer, reader;
    cr_assert_eq(region_create(&writer, MIB), 0);
    cr_assert_eq(region_fill(&writer, 4096, 100 * KIB), 0);
    memcpy(writer.at + 5000, "words", 5);
    cr_assert_eq(region_map(&reader, region_duplicate(&writer), MIB), 0);
    cr_assert(memcmp(reader.at + 5000, "words", 5) == 0);
    cr_assert_eq(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, reader.descriptor, 0),
                 MAP_FAILED);
    cr_assert_eq(mprotect(reader.at, MIB, PROT_READ | PROT_WRITE), -1);
    cr_assert_eq(ftruncate(writer.descriptor, 0), -1);
    cr_assert(fcntl(reader.descriptor, F_GETFD) & FD_CLOEXEC);
    region_close(&writer);
    cr_assert(memcmp(reader.at + 5000, "words", 5) == 0, "it outlives its writer");
    region_close(&reader);
    region_close(&reader);
}

Test(region, memory_that_could_shrink_is_refused)
{
    struct region reader;
    int before = count_descriptors();
    int open_end = memfd_create("shrinks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(open_end, MIB), 0);
    cr_assert_eq(region_map(&reader, open_end, MIB), -EPERM);
    cr_assert_null(reader.at);
    cr_assert_eq(region_map(&reader, open("/proc/self/exe", O_RDONLY | O_CLOEXEC), MIB), -EPERM);
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    cr_assert_eq(region_map(&reader, pipes[0], MIB), -EPERM);
    close(pipes[1]);
    cr_assert_eq(count_descriptors(), before, "refused ones are closed");
}

Test(region, memory_of_another_size_is_refused)
{
    struct region writer, reader;
    cr_assert_eq(region_create(&writer, MIB), 0);
    cr_assert_eq(region_map(&reader, region_duplicate(&writer), MIB + 4096), -EMSGSIZE);
    cr_assert_eq(region_map(&reader, region_duplicate(&writer), MIB - 4096), -EMSGSIZE);
    region_close(&writer);
}

/* ---- slots ---- */

Test(slots, the_slot_given_back_last_is_taken_first)
{
    struct slot_pool *pool = pool_of(64 * MIB, 16);
    struct slot *first = slot_take(pool, 64 * KIB), *second = slot_take(pool, 60 * KIB);
    cr_assert(first && second && first != second);
    cr_assert_eq(first->region, second->region);
    memset(first->at, 1, first->size);
    slot_unref(first);
    cr_assert_eq(slot_take(pool, 1), first);
    slot_pool_check(pool);
    slot_unref(second);
    slot_unref(first);
    cr_assert_eq(slot_take(pool, 64 * KIB), first);
    slot_unref(first);
    cr_assert_eq(slot_pool_used_bytes(pool), 0);
    slot_pool_free(pool);
}

Test(slots, sizes_share_regions_up_to_a_mebibyte_and_stand_alone_above)
{
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    for (size_t size = 1; size <= MIB; size *= 2) {
        struct slot *slot = slot_take(pool, size);
        cr_assert_geq(slot->size, size);
        cr_assert_leq(slot->size, size < SLOT_LEAST ? SLOT_LEAST : size);
        cr_assert_eq(slot->region->memory.size, SLOT_REGION_SIZE);
        memset(slot->at, 7, size);
        slot_unref(slot);
    }
    for (size_t size = MIB + 1; size < 60 * MIB; size += size / 3) {
        struct slot *slot = slot_take(pool, size);
        cr_assert_geq(slot->size, size);
        cr_assert_leq(slot->size - size, size / 4, "%zu for %zu", slot->size, size);
        cr_assert_eq(slot->region->slot_count, 1);
        slot->at[0] = slot->at[size - 1] = 9;
        slot_unref(slot);
    }
    slot_pool_check(pool);
    slot_pool_free(pool);
}

Test(slots, a_large_body_of_about_the_same_size_finds_the_slot_of_the_last)
{
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    struct slot *slot = slot_take(pool, 20 * MIB);
    slot_unref(slot);
    cr_assert_eq(slot_take(pool, 20 * MIB - 300 * KIB), slot);
    slot_unref(slot);
    cr_assert_eq(slot_take(pool, 19 * MIB), slot);
    struct slot *other = slot_take(pool, 2 * MIB);
    cr_assert_neq(other, slot);
    slot_unref(slot);
    cr_assert_neq((slot = slot_take(pool, 3 * MIB)), NULL);
    cr_assert_lt(slot->size, 4 * MIB, "not a slot that is much too large");
    slot_unref(slot);
    slot_unref(other);
    slot_pool_free(pool);
}

Test(slots, past_the_limit_of_bytes_there_is_none_and_what_is_unused_goes)
{
    struct slot_pool *pool = pool_of(10 * MIB, 64);
    struct slot *slot = slot_take(pool, 6 * MIB);
    cr_assert_not_null(slot);
    cr_assert_null(slot_take(pool, 20 * MIB));
    cr_assert_not(slot_pool_pressed(pool), "no trimming makes room for that");
    cr_assert_null(slot_take(pool, 6 * MIB));
    cr_assert(slot_pool_pressed(pool));
    slot_unref(slot);
    cr_assert_null(slot_take(pool, 8 * MIB), "the unused one is in the way");
    wakes = gone_count = 0;
    cr_assert_not(slot_pool_trim(pool, 1000, INT64_MAX / 2, note_gone, NULL));
    cr_assert_eq(gone_count, 1);
    slot = slot_take(pool, 8 * MIB);
    cr_assert_not_null(slot);
    cr_assert_gt(wakes, 0, "whoever trims is told of the first region");
    slot_unref(slot);
    slot_pool_free(pool);
}

Test(slots, past_the_limit_of_regions_there_is_none)
{
    struct slot_pool *pool = pool_of(1024 * MIB, 2);
    struct slot *small = slot_take(pool, 64 * KIB), *large = slot_take(pool, 2 * MIB);
    cr_assert(small && large);
    cr_assert_null(slot_take(pool, 2 * MIB));
    cr_assert_null(slot_take(pool, 128 * KIB));
    slot_unref(large);
    cr_assert_eq(slot_take(pool, 2 * MIB), large);
    slot_unref(large);
    slot_unref(small);
    slot_pool_free(pool);
}

Test(slots, without_descriptors_there_is_none)
{
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    struct rlimit before, limit;
    int next = dup(0);
    close(next);
    getrlimit(RLIMIT_NOFILE, &before);
    limit = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_null(slot_take(pool, 64 * KIB));
    cr_assert_eq(slot_pool_bytes(pool), 0);
    setrlimit(RLIMIT_NOFILE, &before);
    struct slot *slot = slot_take(pool, 64 * KIB);
    cr_assert_not_null(slot);
    slot_unref(slot);
    slot_pool_free(pool);
}

Test(slots, what_is_unused_for_long_is_given_back)
{
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    struct slot *kept = slot_take(pool, 64 * KIB), *idle = slot_take(pool, 2 * MIB);
    slot_unref(idle);
    gone_count = 0;
    cr_assert(slot_pool_trim(pool, 1000, 500, note_gone, NULL), "it is noticed");
    cr_assert(slot_pool_trim(pool, 1499, 500, note_gone, NULL));
    cr_assert_eq(gone_count, 0);
    cr_assert(slot_pool_trim(pool, 1500, 500, note_gone, NULL));
    cr_assert_eq(gone_count, 1);
    cr_assert_eq(slot_pool_bytes(pool), SLOT_REGION_SIZE);
    slot_unref(kept);
    slot_pool_trim(pool, 2000, 500, note_gone, NULL);
    kept = slot_take(pool, 64 * KIB); /* used again: the count begins anew */
    slot_unref(kept);
    cr_assert(slot_pool_trim(pool, 2600, 500, note_gone, NULL));
    cr_assert_not(slot_pool_trim(pool, 3100, 500, note_gone, NULL));
    cr_assert_eq(gone_count, 2);
    cr_assert_eq(slot_pool_bytes(pool), 0);
    slot_pool_free(pool);
}

Test(slots, what_a_lost_peer_may_still_read_is_never_written_again)
{
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    struct slot *lost = slot_take(pool, 64 * KIB), *beside = slot_take(pool, 64 * KIB);
    struct slot_region *region = lost->region;
    slot_abandon(lost);
    slot_unref(lost);
    struct slot *next = slot_take(pool, 64 * KIB);
    cr_assert_neq(next->region, region);
    slot_pool_check(pool);
    gone_count = 0;
    slot_pool_trim(pool, 1000, INT64_MAX / 2, note_gone, NULL);
    cr_assert_eq(gone_count, 0, "its neighbour is out");
    slot_unref(beside);
    slot_pool_trim(pool, 1001, INT64_MAX / 2, note_gone, NULL);
    cr_assert_eq(gone_count, 1);
    slot_unref(next);
    slot_pool_free(pool);
}

Test(slots, a_slot_may_outlive_its_pool)
{
    int before = count_descriptors();
    struct slot_pool *pool = pool_of(256 * MIB, 64);
    struct slot *own = slot_take(pool, 64 * KIB), *large = slot_take(pool, 3 * MIB);
    struct region theirs;
    int code;
    cr_assert_eq(region_create(&theirs, MIB), 0);
    struct slot_region *region = slot_region_borrow(pool, region_duplicate(&theirs), MIB, &code);
    cr_assert_not_null(region);
    struct slot *borrowed = slot_borrow(region, 100, 200, 3, NULL);
    slot_region_unref(region);
    slot_pool_free(pool);
    memset(own->at, 1, own->size);
    memset(large->at, 1, large->size);
    cr_assert_eq(borrowed->at[199], 0);
    slot_unref(own);
    slot_unref(borrowed);
    slot_unref(large);
    region_close(&theirs);
    cr_assert_eq(count_descriptors(), before);
}

Test(slots, a_hundred_thousand_bodies_leave_nothing_behind)
{
    struct slot_pool *pool = pool_of(64 * MIB, 64);
    struct slot *held[16] = {0};
    struct rng rng;
    size_t most = 0;
    int before = count_descriptors();
    rng_init(&rng, 1);
    for (int i = 0; i < 100000; i++) {
        struct slot **place = &held[rng_next(&rng) % 16];
        size_t size = SLOT_LEAST + (size_t)(rng_next(&rng) % (rng_next(&rng) % 8 ? MIB : 3 * MIB));
        slot_unref(*place);
        *place = slot_take(pool, size);
        if (*place)
            (*place)->at[size - 1] = (uint8_t)i;
        most = slot_pool_bytes(pool) > most ? slot_pool_bytes(pool) : most;
        if (slot_pool_pressed(pool))
            slot_pool_trim(pool, i + 1, 1000, note_gone, NULL);
    }
    slot_pool_check(pool);
    cr_assert_leq(most, 64 * MIB);
    for (int i = 0; i < 16; i++)
        slot_unref(held[i]);
    slot_pool_trim(pool, 1, 0, note_gone, NULL);
    cr_assert_eq(slot_pool_bytes(pool), 0);
    cr_assert_eq(count_descriptors(), before);
    slot_pool_free(pool);
}
