/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parcels by themselves: how they are made, what they look like as bytes, and opened again.
 */
#include <criterion/criterion.h>

#include "error.h"
#include "mem.h"
#include "parcel_stage.h"
#include "rng.h"

static struct party party;

static void begin(void)
{
    party = (struct party){0};
    stage_begin();
    party_begin(&party);
}

static void finish(void)
{
    party_end(&party);
    stage_end();
}

TestSuite(parcel, .init = begin, .fini = finish);

static uint8_t *fill(size_t size, uint8_t seed)
{
    uint8_t *at = mem_new(size + 1);
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(seed + i * 7 + i / 251);
    return at;
}

Test(parcel, of_bytes_is_flat_and_in_a_slot_from_64_kib_on)
{
    uint8_t *bytes = fill(100 * KIB, 3);
    cr_assert_null(parcel_of_bytes(party.desk, bytes_of(bytes, 64 * KIB - 1)));
    struct parcel *parcel = parcel_of_bytes(party.desk, bytes_of(bytes, 100 * KIB));
    cr_assert(parcel->flat && parcel->count == 1 && parcel->pieces[0].slot);
    cr_assert(looks_like(parcel->value, 100 * KIB, 3));
    cr_assert_eq(parcel->size, 100 * KIB);
    parcel_unref(parcel_ref(parcel));
    cr_assert(looks_like(parcel->value, 100 * KIB, 3));
    parcel_unref(parcel);
    mem_free(bytes);
}

/* Written whole and in windows of many sizes, it is the same; opened, it has the same pieces. */
static void check_inline(const struct parcel *parcel)
{
    struct parcel_form form;
    struct parcel *again;
    parcel_inline(parcel, &form);
    cr_assert_not(form.lent);
    uint8_t *whole = mem_new((size_t)form.size + 1), *pieced = mem_new((size_t)form.size + 1);
    memset(whole, 0xEE, (size_t)form.size);
    parcel_copy(parcel, &form, 0, whole, (size_t)form.size);
    for (size_t step = 1; step < 70000; step = step * 3 + 1) {
        memset(pieced, 0xDD, (size_t)form.size);
        for (size_t at = 0; at < form.size; at += step)
            parcel_copy(parcel, &form, at, pieced + at,
                        form.size - at < step ? (size_t)form.size - at : step);
        cr_assert_eq(memcmp(whole, pieced, (size_t)form.size), 0, "in steps of %zu", step);
    }
    if (!form.attached) {
        cr_assert(bytes_equal(bytes_of(whole, (size_t)form.size), parcel->value));
    } else {
        cr_assert_eq(parcel_open(NULL, bytes_of(whole, (size_t)form.size), NULL, &again), 0);
        cr_assert(bytes_equal(again->value, parcel->value));
        cr_assert_eq(again->count, parcel->count);
        cr_assert_eq(again->size, parcel->size);
        cr_assert_eq(again->flat, parcel->flat);
        for (int i = 0; i < parcel->count; i++)
            cr_assert(bytes_equal(again->pieces[i].bytes, parcel->pieces[i].bytes));
        parcel_unref(again);
    }
    mem_free(whole);
    mem_free(pieced);
}

Test(parcel, a_value_with_pieces_of_every_size_survives_the_way_through_bytes)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1000, 30000, 70000, 0, 200000, 3};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    struct parcel_piece pieces[COUNT] = {0};
    int code;
    for (int i = 0; i < COUNT; i++)
        pieces[i].bytes = bytes_of(fill(sizes[i], (uint8_t)i), sizes[i]);
    pieces[7].slot = slot_take(parcel_desk_slots(party.desk), 70000);
    memcpy(pieces[7].slot->at + 7, pieces[7].bytes.at, 60000);
    uint8_t *plain = (uint8_t *)pieces[7].bytes.at;
    pieces[7].bytes = bytes_of(pieces[7].slot->at + 7, 60000);
    for (size_t value = 0; value < 100000; value = value * 5 + 11) {
        uint8_t *bytes = fill(value, 99);
        struct parcel *parcel =
            parcel_new(party.desk, bytes_of(bytes, value), pieces, COUNT, &code);
        cr_assert_not_null(parcel);
        cr_assert(looks_like(parcel->value, value, 99));
        cr_assert_eq(parcel->flat, value > 32 * KIB);
        check_inline(parcel);
        parcel_unref(parcel);
        mem_free(bytes);
    }
    slot_unref(pieces[7].slot);
    pieces[7].bytes.at = plain;
    for (int i = 0; i < COUNT; i++)
        mem_free((uint8_t *)pieces[i].bytes.at);
}

Test(parcel, a_value_alone_needs_no_table)
{
    int code;
    uint8_t *bytes = fill(200 * KIB, 5);
    struct parcel *small = parcel_new(party.desk, bytes_of(bytes, 100), NULL, 0, &code);
    struct parcel *large = parcel_new(party.desk, bytes_of(bytes, 200 * KIB), NULL, 0, &code);
    struct parcel_form form;
    parcel_inline(small, &form);
    cr_assert(!form.attached && form.size == 100);
    parcel_inline(large, &form);
    cr_assert(!form.attached && form.size == 200 * KIB && large->pieces[0].slot);
    check_inline(small);
    check_inline(large);
    parcel_unref(small);
    parcel_unref(large);
    mem_free(bytes);
}

Test(parcel, what_does_not_fit_a_frame_goes_into_slots)
{
    struct parcel_piece pieces[40] = {0};
    uint8_t *bytes = fill(3000, 1);
    int code, plain = 0;
    for (int i = 0; i < 40; i++)
        pieces[i].bytes = bytes_of(bytes, 3000);
    struct parcel *parcel = parcel_new(party.desk, BYTES("v"), pieces, 40, &code);
    for (int i = 0; i < 40; i++)
        plain += parcel->pieces[i].slot ? 0 : 3000;
    cr_assert_gt(plain, 0);
    cr_assert_leq(plain, 32 * KIB);
    check_inline(parcel);
    parcel_unref(parcel);
    mem_free(bytes);
}

Test(parcel, too_many_pieces_are_refused)
{
    struct parcel_piece pieces[WIRE_ATTACH_LIMIT + 1] = {0};
    int code;
    cr_assert_null(parcel_new(party.desk, BYTES("v"), pieces, WIRE_ATTACH_LIMIT + 1, &code));
    cr_assert_eq(code, ERROR_LIMIT);
    uint8_t *bytes = fill(64 * KIB, 1); /* the value needs a place, too */
    cr_assert_null(
        parcel_new(party.desk, bytes_of(bytes, 64 * KIB), pieces, WIRE_ATTACH_LIMIT, &code));
    cr_assert_eq(code, ERROR_LIMIT);
    mem_free(bytes);
}

Test(parcel, without_a_slot_the_bytes_are_kept_within_the_budget)
{
    struct parcel_piece piece = {0};
    int code;
    uint8_t *bytes = fill(2 * MIB, 1);
    party.settings.process_byte_budget = 3 * MIB;
    party.settings.payload_byte_limit = 0;
    struct party small = {.settings = party.settings};
    party_begin(&small);
    piece.bytes = bytes_of(bytes, 2 * MIB);
    struct parcel *one = parcel_new(small.desk, BYTES("v"), &piece, 1, &code);
    cr_assert_not_null(one);
    cr_assert_null(one->pieces[0].slot);
    check_inline(one);
    cr_assert_null(parcel_new(small.desk, BYTES("v"), &piece, 1, &code));
    cr_assert_eq(code, ERROR_LIMIT);
    parcel_unref(one);
    party_end(&small);
    mem_free(bytes);
}

Test(parcel, a_body_in_parts_may_point_nowhere)
{
    struct wire_attach table = {.count = 1, .at = {{.region = 1, .size = 10}}};
    uint8_t bytes[64];
    struct parcel *parcel;
    size_t size = wire_attach_write(&table, bytes);
    cr_assert_eq(parcel_open(NULL, bytes_of(bytes, size), NULL, &parcel), ERROR_PROTOCOL);
}
