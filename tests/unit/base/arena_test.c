/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arenas: zeroed and aligned pieces, limits, blocks that come back warm, nothing left at rest (M1).
 */
#include "arena.h"

#include <signal.h>
#include <string.h>

#include "poison.h"
#include "torture.h"

static bool zero(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (at[i])
            return false;
    return true;
}

Test(arena, pieces_are_zero_and_aligned_even_from_a_used_block)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 4);
    arena_init(&arena, &blocks, 65536);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 70; size++) {
            uint8_t *piece = arena_try(&arena, size);
            cr_assert_not_null(piece);
            cr_assert_eq((uintptr_t)piece % 16, 0);
            cr_assert(zero(piece, size));
            memset(piece, 0xEE, size);
        }
        arena_clear(&arena);
    }
    arena_blocks_done(&blocks);
}

Test(arena, pieces_do_not_overlap)
{
    enum { COUNT = 500 };
    struct arena_blocks blocks;
    struct arena arena;
    uint8_t *pieces[COUNT];
    arena_blocks_init(&blocks, 4);
    arena_init(&arena, &blocks, 1 << 20);
    for (int i = 0; i < COUNT; i++) {
        pieces[i] = arena_try(&arena, (size_t)i % 90 + 1);
        memset(pieces[i], i % 251, (size_t)i % 90 + 1);
    }
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < i % 90 + 1; j++)
            cr_assert_eq(pieces[i][j], i % 251);
    arena_clear(&arena);
    arena_blocks_done(&blocks);
}

Test(arena, after_warm_up_a_request_allocates_nothing)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 2);
    arena_init(&arena, &blocks, 65536);
    cr_assert_not_null(arena_try(&arena, 4000));
    arena_clear(&arena);
    uint64_t before = mem_count().allocations;
    for (int request = 0; request < 100; request++) {
        cr_assert_not_null(arena_try(&arena, 1000));
        cr_assert_not_null(arena_try(&arena, 3000));
        cr_assert_eq(blocks.live_count, 1);
        arena_clear(&arena);
        cr_assert_eq(blocks.live_count, 0);
    }
    cr_assert_eq(mem_count().allocations, before);
    arena_blocks_done(&blocks);
}

Test(arena, the_limit_counts_what_was_handed_out)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 2);
    arena_init(&arena, &blocks, 1024);
    cr_assert_null(arena_try(&arena, 1025));
    cr_assert_not_null(arena_try(&arena, 1000));
    cr_assert_not_null(arena_try(&arena, 16));
    cr_assert_null(arena_try(&arena, 1));
    cr_assert_null(arena_try(&arena, 0), "even nothing has an address of its own");
    cr_assert_null(arena_try(&arena, SIZE_MAX));
    cr_assert_null(arena_try(&arena, SIZE_MAX - 8));
    arena_clear(&arena);
    cr_assert_not_null(arena_try(&arena, 1024), "the arena may be used again");
    arena_clear(&arena);
    arena_blocks_done(&blocks);
}

Test(arena, a_large_piece_does_not_waste_the_block_at_hand)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 2);
    arena_init(&arena, &blocks, 1 << 20);
    uint8_t *small = arena_try(&arena, 16);
    uint8_t *large = arena_try(&arena, 100000);
    uint8_t *next = arena_try(&arena, 16);
    cr_assert(small && large && next);
    cr_assert(zero(large, 100000));
    cr_assert(next > small && next < small + ARENA_BLOCK_SIZE, "it stands in the first block");
    cr_assert_eq(blocks.live_count, 2);
    arena_clear(&arena);
    cr_assert_eq(blocks.free_count, 1, "only ordinary blocks are kept");
    large = arena_try(&arena, 100000);
    small = arena_try(&arena, 16);
    cr_assert(large && small, "a large piece may come first too");
    arena_clear(&arena);
    arena_blocks_done(&blocks);
}

Test(arena, no_more_blocks_are_kept_than_allowed)
{
    struct arena_blocks blocks;
    struct arena arenas[5];
    uint64_t live = mem_count().live;
    arena_blocks_init(&blocks, 3);
    for (int i = 0; i < 5; i++) {
        arena_init(&arenas[i], &blocks, 1000);
        cr_assert_not_null(arena_try(&arenas[i], 1));
    }
    cr_assert_eq(blocks.live_count, 5);
    for (int i = 0; i < 5; i++)
        arena_clear(&arenas[i]);
    cr_assert_eq(blocks.free_count, 3);
    cr_assert_eq(mem_count().live - live, 3);
    arena_blocks_done(&blocks);
    cr_assert_eq(mem_count().live, live);
}

Test(arena, copies_end_with_zero_or_say_that_they_did_not_fit)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 1);
    arena_init(&arena, &blocks, 64);
    struct bytes path = arena_copy(&arena, BYTES("/v1/x"));
    cr_assert(bytes_equal(path, BYTES("/v1/x")));
    cr_assert_eq(path.at[path.size], 0);
    cr_assert_str_eq(arena_copy_string(&arena, bytes_of(NULL, 0)), "");
    char long_path[64] = "";
    cr_assert_null(arena_copy(&arena, bytes_of(long_path, 64)).at);
    cr_assert_null(arena_copy_string(&arena, bytes_of(long_path, 40)));
    cr_assert_null(arena_copy(&arena, bytes_of(long_path, SIZE_MAX)).at);
    arena_clear(&arena);
    arena_blocks_done(&blocks);
}

static bool one_request(void)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 2);
    arena_init(&arena, &blocks, 1 << 20);
    bool whole = true;
    for (int i = 0; i < 6; i++) {
        size_t used = arena.used;
        void *piece = arena_try(&arena, i % 2 ? 20000 : 5000);
        whole = whole && piece;
        if (!piece)
            cr_assert_eq(arena.used, used, "what was refused is not counted");
    }
    arena_clear(&arena);
    arena_blocks_done(&blocks);
    return whole;
}

Test(arena, any_failing_allocation_is_only_a_refusal)
{
    cr_assert_eq(torture(one_request), 6);
}

Test(arena, the_sanitizer_sees_what_is_not_handed_out)
{
#if POISON_ON
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 1);
    arena_init(&arena, &blocks, 4096);
    uint8_t *piece = arena_try(&arena, 5);
    cr_assert(!__asan_address_is_poisoned(piece + 4));
    cr_assert(__asan_address_is_poisoned(piece + 5));
    uint8_t *next = arena_try(&arena, 16);
    cr_assert(__asan_address_is_poisoned(next - 1), "a gap");
    cr_assert(__asan_address_is_poisoned(next + 16));
    arena_clear(&arena);
    cr_assert(__asan_address_is_poisoned(piece));
    arena_blocks_done(&blocks);
#else
    cr_skip_test("needs AddressSanitizer");
#endif
}

Test(arena, a_store_that_ends_under_an_arena_is_our_mistake, .signal = SIGABRT)
{
    struct arena_blocks blocks;
    struct arena arena;
    arena_blocks_init(&blocks, 1);
    arena_init(&arena, &blocks, 4096);
    cr_assert_not_null(arena_try(&arena, 1));
    arena_blocks_done(&blocks);
}
