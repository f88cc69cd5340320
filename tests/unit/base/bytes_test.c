/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices: comparison, trimming, numbers, and how well the hash mixes.
 */
#include "bytes.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

Test(bytes, the_empty_slice_may_be_null)
{
    struct bytes empty = {0};
    cr_assert(bytes_equal(empty, BYTES("")));
    cr_assert(bytes_equal_nocase(empty, BYTES("")));
    cr_assert_eq(bytes_compare(empty, BYTES("")), 0);
    cr_assert_eq(bytes_trim(empty).size, 0);
    cr_assert_eq(bytes_find(empty, 'x'), -1);
    cr_assert_eq(bytes_hash(empty), bytes_hash(BYTES("")));
    cr_assert(bytes_starts_with(BYTES("a"), empty));
    cr_assert_eq(bytes_of_string(NULL).size, 0);
}

Test(bytes, heads_and_rests_never_leave_the_slice)
{
    struct bytes path = BYTES("/api/v1");
    cr_assert(bytes_equal(bytes_head(path, 4), BYTES("/api")));
    cr_assert(bytes_equal(bytes_head(path, 99), path));
    cr_assert(bytes_equal(bytes_skip(path, 4), BYTES("/v1")));
    cr_assert_eq(bytes_skip(path, 99).size, 0);
    cr_assert(bytes_starts_with(path, BYTES("/api")));
    cr_assert(!bytes_starts_with(BYTES("/ap"), BYTES("/api")));
}

Test(bytes, case_is_ignored_for_ascii_letters_only)
{
    cr_assert(bytes_equal_nocase(BYTES("Content-Length"), BYTES("cONTENT-lENGTH")));
    cr_assert(!bytes_equal_nocase(BYTES("a"), BYTES("ab")));
    cr_assert(!bytes_equal_nocase(BYTES("@"), BYTES("`")),
              "they differ by the same bit as letters do");
    cr_assert(!bytes_equal_nocase(BYTES("["), BYTES("{")));
    cr_assert(!bytes_equal_nocase(BYTES("\xC3\x84"), BYTES("\xC3\xA4")), "umlauts are not ASCII");
}

Test(bytes, order_is_by_unsigned_bytes_then_by_length)
{
    cr_assert_eq(bytes_compare(BYTES("a"), BYTES("b")), -1);
    cr_assert_eq(bytes_compare(BYTES("\xFF"), BYTES("a")), 1);
    cr_assert_eq(bytes_compare(BYTES("a"), BYTES("aa")), -1);
    cr_assert_eq(bytes_compare(BYTES("aa"), BYTES("a")), 1);
    cr_assert_eq(bytes_compare(BYTES("a\0b"), BYTES("a\0b")), 0);
}

Test(bytes, trimming_takes_spaces_and_tabs_only)
{
    cr_assert(bytes_equal(bytes_trim(BYTES(" \t gzip, br\t ")), BYTES("gzip, br")));
    cr_assert(bytes_equal(bytes_trim(BYTES("\r\n")), BYTES("\r\n")));
    cr_assert_eq(bytes_trim(BYTES(" \t ")).size, 0);
}

Test(bytes, the_first_of_equal_bytes_is_found)
{
    cr_assert_eq(bytes_find(BYTES("key=a=b"), '='), 3);
    cr_assert_eq(bytes_find(BYTES("key"), '='), -1);
    cr_assert_eq(bytes_find(bytes_head(BYTES("key="), 3), '='), -1, "not past the end");
}

Test(bytes, numbers_are_digits_and_fit)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t value;
    } CASES[] = {
        {"0", true, 0},
        {"000000000000000000000000000017", true, 17},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"18446744073709551620", false, 0},
        {"99999999999999999999", false, 0},
        {"184467440737095516150", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
        {"1/", false, 0},
        {"1:", false, 0},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        uint64_t value = 42;
        bool good = bytes_to_u64(bytes_of_string(CASES[i].text), &value);
        cr_assert_eq(good, CASES[i].good, "\"%s\"", CASES[i].text);
        cr_assert_eq(value, good ? CASES[i].value : 42, "\"%s\" gave %" PRIu64, CASES[i].text,
                     value);
    }
}

Test(bytes, the_hash_is_the_same_in_every_process)
{
    /* Pinned: stores and other processes may keep it. */
    cr_assert_eq(bytes_hash(BYTES("")), UINT64_C(0x054A286539812224));
    cr_assert_eq(bytes_hash(BYTES("default")), UINT64_C(0xEF5646C638A9C7BC));
    cr_assert_eq(bytes_hash(BYTES("app#deployment#replica#17")), UINT64_C(0x40AEB413AA156FB1));
}

Test(bytes, the_hash_reads_every_byte_and_nothing_behind)
{
    for (size_t size = 0; size < 80; size++) {
        uint8_t *exact = malloc(size ? size : 1); /* the sanitizer watches both ends */
        memset(exact, 7, size);
        uint64_t hash = bytes_hash(bytes_of(exact, size));
        for (size_t i = 0; i < size; i++) {
            exact[i] ^= 1;
            cr_assert_neq(bytes_hash(bytes_of(exact, size)), hash, "byte %zu of %zu", i, size);
            exact[i] ^= 1;
        }
        free(exact);
    }
}

Test(bytes, a_flipped_bit_changes_half_of_the_hash)
{
    static const size_t SIZES[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100};
    for (size_t s = 0; s < sizeof(SIZES) / sizeof(SIZES[0]); s++) {
        uint8_t key[100];
        unsigned flips = 0, changed = 0;
        for (unsigned round = 0; round < 64; round++) {
            for (size_t i = 0; i < SIZES[s]; i++)
                key[i] = (uint8_t)(round * 31 + i * 7);
            uint64_t hash = bytes_hash(bytes_of(key, SIZES[s]));
            for (size_t bit = 0; bit < SIZES[s] * 8; bit++) {
                key[bit / 8] ^= (uint8_t)(1u << bit % 8);
                changed +=
                    (unsigned)__builtin_popcountll(hash ^ bytes_hash(bytes_of(key, SIZES[s])));
                key[bit / 8] ^= (uint8_t)(1u << bit % 8);
                flips++;
            }
        }
        double mean = (double)changed / flips;
        cr_assert(mean > 30.5 && mean < 33.5, "%zu bytes: %.2f bits of 64", SIZES[s], mean);
    }
}

Test(bytes, names_that_look_alike_spread_over_buckets)
{
    enum { KEYS = 4096, BUCKETS = 4096 };
    static unsigned low[BUCKETS], high[BUCKETS];
    for (int i = 0; i < KEYS; i++) {
        char name[40];
        int length = snprintf(name, sizeof(name), "app#deployment#replica#%d", i);
        uint64_t hash = bytes_hash(bytes_of(name, (size_t)length));
        low[hash % BUCKETS]++;
        high[hash >> 52]++;
    }
    unsigned empty_low = 0, empty_high = 0;
    for (int i = 0; i < BUCKETS; i++) {
        cr_assert_leq(low[i], 10);
        cr_assert_leq(high[i], 10);
        empty_low += low[i] == 0;
        empty_high += high[i] == 0;
    }
    /* Chance leaves 1/e of the buckets empty: 1507, with a deviation of 31. */
    cr_assert(empty_low > 1350 && empty_low < 1660, "%u", empty_low);
    cr_assert(empty_high > 1350 && empty_high < 1660, "%u", empty_high);
}
