/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of attachments: written, read, cut at every byte, and every lie that a peer may tell.
 */
#include <criterion/criterion.h>

#include "mem.h"
#include "wire_attach.h"

/* Two in regions, two inline, a value between. */
static struct wire_attach mixed(void)
{
    return (struct wire_attach){.count = 4,
                                .value_size = 13,
                                .at = {{.region = 7, .loan = 3, .offset = 4096, .size = 100000},
                                       {.region = WIRE_ATTACH_INLINE, .size = 65},
                                       {.region = 9, .loan = 0, .offset = 0, .size = 1},
                                       {.region = WIRE_ATTACH_INLINE, .size = 0}}};
}

static struct bytes written(struct wire_attach *attach, uint8_t **ret_memory)
{
    uint64_t size = wire_attach_layout(attach);
    *ret_memory = mem_new(size + 1);
    for (size_t i = 0; i < size; i++)
        (*ret_memory)[i] = (uint8_t)(i * 7);
    size_t table = wire_attach_write(attach, *ret_memory);
    cr_assert_eq(table, wire_attach_table_size(attach->count));
    return bytes_of(*ret_memory, size);
}

Test(wire_attach, what_was_written_is_read_again)
{
    struct wire_attach attach = mixed(), again;
    uint8_t *memory;
    struct bytes body = written(&attach, &memory);
    cr_assert_eq(wire_attach_read(&again, body), 0);
    cr_assert_eq(again.count, 4);
    cr_assert_not(again.flat);
    cr_assert_not(wire_attach_all_inline(&again));
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(again.at[i].region, attach.at[i].region);
        cr_assert_eq(again.at[i].loan, attach.at[i].loan);
        cr_assert_eq(again.at[i].offset, attach.at[i].offset);
        cr_assert_eq(again.at[i].size, attach.at[i].size);
    }
    struct bytes value = wire_attach_value(&again, body);
    cr_assert_eq(value.at, body.at + 8 + 4 * 24);
    cr_assert_eq(value.size, 13);
    struct bytes slice = wire_attach_slice(&again.at[1], body);
    cr_assert_eq((slice.at - body.at) % WIRE_ATTACH_ALIGN, 0);
    cr_assert_geq(slice.at, value.at + value.size);
    cr_assert_eq(slice.size, 65);
    cr_assert_eq(wire_attach_slice(&again.at[3], body).size, 0);
    mem_free(memory);
}

Test(wire_attach, a_flat_body_is_its_first_attachment)
{
    struct wire_attach attach = {.count = 1, .flat = true, .at = {{.region = 1, .size = 5}}}, again;
    uint8_t *memory;
    struct bytes body = written(&attach, &memory);
    cr_assert_eq(body.size, 32);
    cr_assert_eq(wire_attach_read(&again, body), 0);
    cr_assert(again.flat);
    cr_assert_eq(again.at[0].size, 5);
    memory[4] = 1; /* and a value */
    cr_assert_eq(wire_attach_read(&again, bytes_of(memory, 33)), -1);
    mem_free(memory);
}

Test(wire_attach, a_body_cut_at_any_byte_or_with_one_more_is_refused)
{
    struct wire_attach attach = mixed(), again;
    uint8_t *memory;
    struct bytes body = written(&attach, &memory);
    for (size_t size = 0; size < body.size; size++) {
        uint8_t *cut = mem_new(size + 1);
        memcpy(cut, memory, size);
        cr_assert_eq(wire_attach_read(&again, bytes_of(cut, size)), -1, "%zu bytes", size);
        mem_free(cut);
    }
    cr_assert_eq(wire_attach_read(&again, bytes_of(memory, body.size + 1)), -1);
    mem_free(memory);
}

/* One number of a good table changed. */
static int with(size_t at, const void *number, size_t size)
{
    struct wire_attach attach = mixed(), again;
    uint8_t *memory;
    struct bytes body = written(&attach, &memory);
    memcpy(memory + at, number, size);
    int code = wire_attach_read(&again, body);
    mem_free(memory);
    return code;
}
#define WITH(at, type, value) with((at), &(type){(value)}, sizeof(type))

Test(wire_attach, every_lie_is_refused)
{
    enum { ENTRY_0 = 8, ENTRY_1 = ENTRY_0 + 24, REGION = 0, LOAN = 4, OFFSET = 8, SIZE = 16 };
    cr_assert_eq(WITH(0, uint16_t, 4), 0, "the good one");
    cr_assert_eq(WITH(0, uint16_t, 0), -1, "no attachment");
    cr_assert_eq(WITH(0, uint16_t, 3), -1, "fewer than follow");
    cr_assert_eq(WITH(0, uint16_t, 5), -1, "more than follow");
    cr_assert_eq(WITH(0, uint16_t, WIRE_ATTACH_LIMIT + 1), -1);
    cr_assert_eq(WITH(0, uint16_t, UINT16_MAX), -1);
    cr_assert_eq(WITH(2, uint16_t, 2), -1, "a flag that nobody knows");
    cr_assert_eq(WITH(2, uint16_t, WIRE_ATTACH_FLAT), -1, "flat, with a value");
    cr_assert_eq(WITH(4, uint32_t, UINT32_MAX), -1, "a value beyond the body");
    cr_assert_eq(WITH(4, uint32_t, 200), -1);
    cr_assert_eq(WITH(ENTRY_0 + OFFSET, uint64_t, UINT64_MAX), -1, "the end overflows");
    cr_assert_eq(WITH(ENTRY_0 + SIZE, uint64_t, UINT64_MAX), -1);
    cr_assert_eq(WITH(ENTRY_0 + REGION, uint32_t, WIRE_ATTACH_INLINE), -1);
    cr_assert_eq(WITH(ENTRY_1 + LOAN, uint32_t, 1), -1, "nobody lends what is inline");
    cr_assert_eq(WITH(ENTRY_1 + OFFSET, uint64_t, 64), -1, "it would overlap the table");
    cr_assert_eq(WITH(ENTRY_1 + OFFSET, uint64_t, 192), -1);
    cr_assert_eq(WITH(ENTRY_1 + SIZE, uint64_t, UINT64_MAX), -1);
    cr_assert_eq(WITH(ENTRY_1 + SIZE, uint64_t, UINT64_MAX / 2), -1);
}

Test(wire_attach, a_body_of_as_many_as_there_may_be)
{
    struct wire_attach attach = {.count = WIRE_ATTACH_LIMIT, .value_size = 1}, again;
    uint8_t *memory;
    for (uint32_t i = 0; i < WIRE_ATTACH_LIMIT; i++)
        attach.at[i] = (struct wire_attachment){
            .region = i % 2 ? i : WIRE_ATTACH_INLINE, .loan = i % 2 ? i : 0, .size = i * 10};
    struct bytes body = written(&attach, &memory);
    cr_assert_eq(wire_attach_read(&again, body), 0);
    cr_assert_eq(memcmp(again.at, attach.at, sizeof attach.at), 0);
    mem_free(memory);
}
