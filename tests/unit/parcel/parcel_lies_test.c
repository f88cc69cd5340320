/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lies: what a peer may say that is not so, or not yet, or not any more.  Each ends the channel,
 * with a word that tells why, and leaves nothing behind.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "parcel_stage.h"
#include "socket.h"

static struct party left;

static void begin(void)
{
    left = (struct party){0};
    stage_begin();
    party_begin(&left);
}

static void finish(void)
{
    turns(2);
    party_end(&left);
    stage_end();
}

TestSuite(parcel_lies, .init = begin, .fini = finish);

static int count_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

static void put(int descriptor, const uint8_t *frame, size_t size)
{
    struct iovec part = {(void *)frame, size};
    cr_assert_eq(socket_write(descriptor, &part, 1), (ssize_t)size);
}

static void put_region(int there, uint32_t number, uint64_t size, int memory, uint8_t flags)
{
    struct wire_region region = {.region = number, .size = size};
    uint8_t at[64];
    struct iovec part = {at, wire_region_write(&region, flags, 0, false, at)};
    if (memory >= 0)
        cr_assert_gt(socket_write_with(there, &part, 1, memory), 0);
    else
        cr_assert_gt(socket_write(there, &part, 1), 0);
}

static int sealed_memory(size_t size, int seals)
{
    int memory = memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    cr_assert_eq(ftruncate(memory, (off_t)size), 0);
    cr_assert_eq(fcntl(memory, F_ADD_SEALS, seals), 0);
    return memory;
}

static void put_attached(int there, uint32_t region, uint64_t offset, uint64_t size)
{
    struct wire_attach table = {
        .count = 1,
        .flat = true,
        .at = {{.region = region, .loan = 4, .offset = offset, .size = size}}};
    uint8_t body[64], frame[128];
    struct wire_part part = {.body = bytes_of(body, wire_attach_write(&table, body))};
    put(there, frame, wire_part_write(&part, WIRE_ATTACHED, 1, false, frame));
}

struct lie {
    struct end end;
    int there, before;
};

static struct lie lie_begin(void)
{
    struct lie lie = {.before = count_descriptors()};
    return lie;
}

static void expect_breach(struct end *end, int there, const char *word)
{
    turns(2);
    cr_assert(end->closed, "%s", word);
    cr_assert(end->link.reason && strstr(end->link.reason, word), "'%s' for '%s'",
              end->link.reason ? end->link.reason : "nothing", word);
    socket_close(there);
}

Test(parcel_lies, memory_that_could_shrink_ends_the_channel)
{
    struct lie lie = lie_begin();
    int there = end_join_alone(&lie.end, &left), memory = sealed_memory(MIB, F_SEAL_GROW);
    put_region(there, 1, MIB, memory, WIRE_DESCRIPTOR);
    expect_breach(&lie.end, there, "could shrink");
    close(memory);
    cr_assert_eq(count_descriptors(), lie.before);
}

Test(parcel_lies, memory_of_another_size_ends_the_channel)
{
    struct lie lie = lie_begin();
    int there = end_join_alone(&lie.end, &left);
    int memory = sealed_memory(MIB - 1, F_SEAL_GROW | F_SEAL_SHRINK);
    put_region(there, 1, MIB, memory, WIRE_DESCRIPTOR);
    expect_breach(&lie.end, there, "not of the size");
    close(memory);
    cr_assert_eq(count_descriptors(), lie.before);
}

Test(parcel_lies, a_region_that_is_known_ends_the_channel)
{
    struct end end;
    int there = end_join_alone(&end, &left),
        memory = sealed_memory(MIB, F_SEAL_GROW | F_SEAL_SHRINK);
    put_region(there, 1, MIB, memory, WIRE_DESCRIPTOR);
    put_region(there, 1, MIB, memory, WIRE_DESCRIPTOR);
    expect_breach(&end, there, "known already");
    close(memory);
}

Test(parcel_lies, a_region_without_a_descriptor_ends_the_channel_or_is_refused)
{
    struct end end;
    uint8_t in[256];
    int there = end_join_alone(&end, &left), none;
    put_region(there, 1, MIB, -1, WIRE_DESCRIPTOR); /* as if it had been lost on the way */
    turns(2);
    cr_assert_not(end.closed);
    struct wire_region_taken answer;
    ssize_t size = socket_read_with(there, in, sizeof in, &none);
    cr_assert_eq(
        wire_region_taken_read(&answer, bytes_skip(bytes_of(in, (size_t)size), WIRE_HEADER_SIZE)),
        0);
    cr_assert_eq(answer.code, ERROR_LIMIT);
    put_attached(there, 1, 0, 10);
    expect_breach(&end, there, "not told of");
    there = end_join_alone(&end, &left);
    put_region(there, 1, MIB, -1, 0);
    expect_breach(&end, there, "broken region");
}

Test(parcel_lies, attachments_outside_of_their_region_end_the_channel)
{
    static const uint64_t lies[][2] = {{MIB, 1}, {MIB + 1, 0},    {0, MIB + 1},
                                       {1, MIB}, {UINT64_MAX, 0}, {5, UINT64_MAX - 5}};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct end end;
        int there = end_join_alone(&end, &left);
        int memory = sealed_memory(MIB, F_SEAL_GROW | F_SEAL_SHRINK);
        put_region(there, 7, MIB, memory, WIRE_DESCRIPTOR);
        put_attached(there, 7, 0, MIB);
        turns(2);
        cr_assert_eq(end.kept_count, 1, "a good one");
        put_attached(there, 7, lies[i][0], lies[i][1]);
        expect_breach(&end, there, "beyond its region");
        end_drop(&end);
        close(memory);
    }
}

Test(parcel_lies, a_region_that_goes_while_it_is_lent_ends_the_channel)
{
    struct end end;
    int there = end_join_alone(&end, &left),
        memory = sealed_memory(MIB, F_SEAL_GROW | F_SEAL_SHRINK);
    uint8_t frame[64];
    struct wire_region_gone gone = {.region = 7};
    put_region(there, 7, MIB, memory, WIRE_DESCRIPTOR);
    put_attached(there, 7, 5, 100);
    turns(2);
    put(there, frame, wire_region_gone_write(&gone, 0, 0, false, frame));
    expect_breach(&end, there, "while something in it was lent");
    cr_assert_eq(end.kept[0]->value.at[99], 0, "and what it holds stays readable");
    end_drop(&end);
    close(memory);
}

Test(parcel_lies, giving_back_what_was_not_lent_ends_the_channel)
{
    for (uint32_t loan = 0; loan < 3; loan++) {
        struct end end;
        uint8_t frame[64];
        int there = end_join_alone(&end, &left);
        struct wire_slot_release release = {.loan = loan == 2 ? UINT32_MAX : loan};
        put(there, frame, wire_slot_release_write(&release, 0, 0, false, frame));
        expect_breach(&end, there, "not lent");
    }
}

Test(parcel_lies, an_answer_for_a_region_that_was_answered_ends_the_channel)
{
    struct end end;
    uint8_t frame[64];
    int there = end_join_alone(&end, &left);
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    struct wire_region_taken taken = {.region = parcel->pieces[0].slot->region->id};
    cr_assert_eq(parcel_lend(&end.link, parcel, &(struct parcel_form){0}), PARCEL_LATER);
    size_t size = wire_region_taken_write(&taken, 0, 0, false, frame);
    put(there, frame, size);
    turns(2);
    cr_assert_not(end.closed);
    put(there, frame, size);
    expect_breach(&end, there, "not offered");
    parcel_unref(parcel);
}

Test(parcel_lies, frames_cut_at_any_byte_end_the_channel_or_mean_zero)
{
    static const uint8_t types[] = {WIRE_REGION_FRAME, WIRE_REGION_TAKEN_FRAME,
                                    WIRE_REGION_GONE_FRAME, WIRE_SLOT_RELEASE_FRAME};
    for (size_t t = 0; t < sizeof types; t++)
        for (uint32_t size = 0; size < 14; size++) {
            struct end end;
            uint8_t frame[64] = {0};
            int there = end_join_alone(&end, &left);
            struct wire_header header = {.size = size, .type = types[t]};
            wire_header_write(&header, frame);
            memset(frame + WIRE_HEADER_SIZE, 0xFF, size);
            put(there, frame, WIRE_HEADER_SIZE + size);
            turns(2);
            if (!end.closed)
                end_close(&end);
            socket_close(there);
        }
    parcel_desk_check(left.desk);
}
