/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field blocks: written, walked, found, and cut at every place.
 */
#include <criterion/criterion.h>

#include "mem.h"
#include "rng.h"
#include "wire.h"

struct block {
    uint8_t at[1024];
    size_t size;
};

static void block_add(struct block *block, struct bytes name, struct bytes value)
{
    size_t size =
        wire_field_write(block->at + block->size, sizeof(block->at) - block->size, name, value);
    cr_assert_eq(size, 4 + name.size + value.size);
    block->size += size;
}

static struct block three_fields(void)
{
    struct block block = {.size = 0};
    block_add(&block, BYTES("host"), BYTES("localhost"));
    block_add(&block, BYTES("x-empty"), BYTES(""));
    block_add(&block, BYTES("Accept"), BYTES("*/*"));
    return block;
}

Test(wire_field, fields_come_back_in_order)
{
    struct block block = three_fields();
    struct bytes rest = bytes_of(block.at, block.size), name, value;
    cr_assert(wire_field_next(&rest, &name, &value));
    cr_assert(bytes_equal(name, BYTES("host")) && bytes_equal(value, BYTES("localhost")));
    cr_assert(wire_field_next(&rest, &name, &value));
    cr_assert(bytes_equal(name, BYTES("x-empty")) && value.size == 0);
    cr_assert(wire_field_next(&rest, &name, &value));
    cr_assert(bytes_equal(name, BYTES("Accept")) && bytes_equal(value, BYTES("*/*")));
    cr_assert_not(wire_field_next(&rest, &name, &value));
    cr_assert_eq(rest.size, 0, "the block ended well");
}

Test(wire_field, a_name_is_found_in_any_case_and_the_first_one_counts)
{
    struct block block = three_fields();
    struct bytes value, whole = bytes_of(block.at, block.size);
    cr_assert(wire_field_find(whole, BYTES("ACCEPT"), &value));
    cr_assert(bytes_equal(value, BYTES("*/*")));
    cr_assert(wire_field_find(whole, BYTES("X-Empty"), &value));
    cr_assert_eq(value.size, 0);
    cr_assert_not(wire_field_find(whole, BYTES("accep"), &value));
    cr_assert_not(wire_field_find(bytes_of(NULL, 0), BYTES("host"), &value));

    block_add(&block, BYTES("HOST"), BYTES("second"));
    cr_assert(wire_field_find(bytes_of(block.at, block.size), BYTES("host"), &value));
    cr_assert(bytes_equal(value, BYTES("localhost")));
}

Test(wire_field, a_block_cut_anywhere_stops_in_front_of_the_broken_field)
{
    struct block block = three_fields();
    size_t ends[] = {0, 17, 28, 41};
    cr_assert_eq(block.size, ends[3]);
    for (size_t size = 0; size <= block.size; size++) {
        uint8_t *memory = mem_new(size ? size : 1);
        memcpy(memory, block.at, size);
        struct bytes rest = bytes_of(memory, size), name, value;
        size_t whole = 0;
        while (wire_field_next(&rest, &name, &value))
            whole++;
        cr_assert_lt(whole, 4);
        cr_assert_eq(size - rest.size, ends[whole], "cut at %zu", size);
        cr_assert_eq(rest.size == 0, size == ends[whole],
                     "broken blocks leave something, cut at %zu", size);
        mem_free(memory);
    }
}

Test(wire_field, a_length_that_points_outside_is_not_followed)
{
    for (int which = 0; which < 2; which++) {
        struct block block = three_fields();
        struct bytes name, value, rest = bytes_of(block.at, block.size);
        block.at[which * 2] = 0xFF;
        block.at[which * 2 + 1] = 0xFF;
        cr_assert_not(wire_field_next(&rest, &name, &value));
        cr_assert_eq(rest.size, block.size);
        cr_assert_not(wire_field_find(bytes_of(block.at, block.size), BYTES("accept"), &value));
    }
}

Test(wire_field, nothing_is_written_where_room_lacks_or_a_length_does_not_fit)
{
    static uint8_t large[65536], target[200000];
    uint8_t at[16] = {0};
    cr_assert_eq(wire_field_write(at, 7, BYTES("ab"), BYTES("cd")), 0);
    cr_assert_eq(at[0], 0);
    cr_assert_eq(wire_field_write(at, 8, BYTES("ab"), BYTES("cd")), 8);
    cr_assert_eq(wire_field_write(at, 0, BYTES(""), BYTES("")), 0);
    cr_assert_eq(wire_field_write(at, 4, bytes_of(NULL, 0), bytes_of(NULL, 0)), 4);
    cr_assert_eq(wire_field_write(target, sizeof(target), bytes_of(large, 65536), BYTES("v")), 0);
    cr_assert_eq(wire_field_write(target, sizeof(target), BYTES("n"), bytes_of(large, 65536)), 0);
    cr_assert_eq(
        wire_field_write(target, sizeof(target), bytes_of(large, 65535), bytes_of(large, 65535)),
        131074);
}

Test(wire_field, random_blocks_end_and_stay_inside)
{
    struct rng rng;
    size_t fields = 0;
    rng_init(&rng, 11);
    for (int round = 0; round < 20000; round++) {
        size_t size = rng_below(&rng, 64);
        uint8_t *memory = mem_new(size + 1);
        for (size_t i = 0; i < size; i++)
            memory[i] = (uint8_t)(rng_chance(&rng, 3, 4) ? 0 : rng_below(&rng, 6));
        struct bytes rest = bytes_of(memory, size), name, value;
        while (wire_field_next(&rest, &name, &value)) {
            cr_assert(name.at >= memory && value.at + value.size <= memory + size);
            cr_assert(rest.at == value.at + value.size);
            fields++;
        }
        mem_free(memory);
    }
    cr_assert_gt(fields, 100);
}
