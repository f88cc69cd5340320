/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links: lending and giving back, on and on to a third, and everything that a peer may lack, forget
 * or lie about.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "error.h"
#include "mem.h"
#include "parcel_stage.h"
#include "socket.h"

static struct party left, right;
static struct end a, b;

static void begin(void)
{
    left = right = (struct party){0};
    settings_init(&left.settings);
    left.settings.payload_idle_ms = 50;
    stage_begin();
    party_begin(&left);
    party_begin(&right);
    ends_join(&a, &left, &b, &right);
}

static void finish(void)
{
    turns(3);
    end_drop(&a);
    end_drop(&b);
    turns(3);
    end_close(&a);
    end_close(&b);
    turns(2);
    party_end(&left);
    party_end(&right);
    stage_end();
}

TestSuite(parcel_link, .init = begin, .fini = finish);

static int count_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

/* Until its own regions are given back; payload_idle_ms is short in these tests. */
static void wait_for_idle(struct party *party)
{
    for (int i = 0; i < 5000 && slot_pool_bytes(parcel_desk_slots(party->desk)) > 0; i++) {
        turns(1);
        usleep(1000); /* the loop's clock is the machine's */
    }
    cr_assert_eq(slot_pool_bytes(parcel_desk_slots(party->desk)), 0);
}

static void check(void)
{
    parcel_desk_check(left.desk);
    parcel_desk_check(right.desk);
}

/* ---- lending ---- */

Test(parcel_link, the_receiver_reads_where_the_sender_wrote)
{
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert_eq(b.kept_count, 1);
    cr_assert(looks_like(b.kept[0]->value, MIB, 1));
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), MIB, "it is held for b");
    check();
    end_drop(&b);
    turns(2);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    cr_assert_eq(a.link.lent_bytes, 0);
    check();
}

Test(parcel_link, a_region_is_told_once_and_one_slot_serves_many_bodies)
{
    for (int i = 0; i < 1000; i++) {
        struct parcel *parcel = flat_parcel(&left, 64 * KIB, (uint8_t)i);
        cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
        parcel_unref(parcel);
        turns(2);
        cr_assert(looks_like(b.kept[0]->value, 64 * KIB, (uint8_t)i));
        end_drop(&b);
        turns(1);
    }
    cr_assert_eq(map_count(&b.link.regions), 1);
    cr_assert_eq(slot_pool_bytes(parcel_desk_slots(left.desk)), SLOT_REGION_SIZE);
    check();
}

Test(parcel_link, both_sides_lend_and_a_slot_may_be_lent_twice)
{
    struct parcel *parcel = flat_parcel(&left, 100 * KIB, 1), *other = flat_parcel(&right, MIB, 2);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    cr_assert_eq(end_send(&b, other), PARCEL_LENT);
    parcel_unref(parcel);
    parcel_unref(other);
    turns(3);
    cr_assert(b.kept_count == 2 && a.kept_count == 1);
    parcel_unref(b.kept[1]);
    b.kept_count = 1;
    turns(3);
    cr_assert(looks_like(b.kept[0]->value, 100 * KIB, 1));
    cr_assert_neq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    cr_assert(looks_like(a.kept[0]->value, MIB, 2));
    check();
}

Test(parcel_link, a_value_with_tensors_arrives_with_its_pieces)
{
    struct parcel_piece pieces[3] = {{.bytes = BYTES("a small one")}};
    int code;
    uint8_t *bytes = mem_new(MIB);
    memset(bytes, 7, MIB);
    pieces[1].bytes = bytes_of(bytes, MIB);
    pieces[2].slot = slot_take(parcel_desk_slots(left.desk), 300 * KIB);
    memset(pieces[2].slot->at, 8, 300 * KIB);
    pieces[2].bytes = bytes_of(pieces[2].slot->at + 5, 1000);
    struct parcel *parcel = parcel_new(left.desk, BYTES("the value"), pieces, 3, &code);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    slot_unref(pieces[2].slot);
    turns(3);
    struct parcel *came = b.kept[0];
    cr_assert(bytes_equal(came->value, BYTES("the value")));
    cr_assert_eq(came->count, 3);
    cr_assert(bytes_equal(came->pieces[0].bytes, BYTES("a small one")));
    cr_assert(bytes_equal(came->pieces[1].bytes, bytes_of(bytes, MIB)));
    cr_assert(came->pieces[2].bytes.size == 1000 && came->pieces[2].bytes.at[999] == 8);
    mem_free(bytes);
    check();
}

Test(parcel_link, what_could_not_be_put_is_taken_back)
{
    struct parcel *parcel = flat_parcel(&left, 100 * KIB, 1);
    struct parcel_form form;
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    turns(2);
    cr_assert_eq(parcel_lend(&a.link, parcel, &form), PARCEL_LENT);
    cr_assert_eq(a.link.loan_count, 2);
    parcel_unlend(&a.link, &form);
    cr_assert_eq(a.link.loan_count, 1);
    parcel_unref(parcel);
    check();
}

/* ---- on to a third ---- */

Test(parcel_link, what_was_lent_to_us_is_lent_on_and_held_until_the_third_lets_go)
{
    struct party third = {0};
    struct end c, d;
    party_begin(&third);
    ends_join(&c, &right, &d, &third);
    struct parcel *parcel = flat_parcel(&left, MIB, 5);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert_eq(end_send(&c, b.kept[0]), PARCEL_LENT);
    end_drop(&b);
    turns(4);
    cr_assert(looks_like(d.kept[0]->value, MIB, 5));
    cr_assert_eq(slot_pool_bytes(parcel_desk_slots(right.desk)), 0, "nothing was copied");
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), MIB,
                 "held through the middle");
    parcel_desk_check(third.desk);
    check();
    end_drop(&d);
    turns(4);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    check();
    /* The region goes: the one in the middle tells the third. */
    cr_assert_eq(map_count(&d.link.regions), 1);
    wait_for_idle(&left);
    turns(4);
    cr_assert_eq(map_count(&b.link.regions), 0);
    cr_assert_eq(map_count(&d.link.regions), 0);
    end_close(&c);
    end_close(&d);
    party_end(&third);
}

Test(parcel_link, a_body_may_come_back_to_the_one_who_made_it)
{
    struct parcel *parcel = flat_parcel(&left, MIB, 6);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert_eq(end_send(&b, b.kept[0]), PARCEL_LENT);
    end_drop(&b);
    turns(3);
    cr_assert(looks_like(a.kept[0]->value, MIB, 6));
    end_drop(&a);
    turns(4);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    check();
}

Test(parcel_link, a_third_that_goes_away_holding_it_is_told_to_the_one_who_made_it)
{
    struct party third = {0};
    struct end c, d;
    party_begin(&third);
    ends_join(&c, &right, &d, &third);
    struct parcel *parcel = flat_parcel(&left, 100 * KIB, 5);
    struct slot_region *region = parcel->pieces[0].slot->region;
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert_eq(end_send(&c, b.kept[0]), PARCEL_LENT);
    end_drop(&b);
    turns(3);
    end_close(&c);
    turns(3);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    cr_assert(region->retired, "the third may still be reading");
    cr_assert(looks_like(d.kept[0]->value, 100 * KIB, 5));
    end_drop(&d);
    end_close(&d);
    turns(2);
    party_end(&third);
}

/* ---- regions that go ---- */

Test(parcel_link, a_region_that_is_idle_is_forgotten_on_both_sides)
{
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    int before = count_descriptors();
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    end_drop(&b);
    cr_assert_eq(count_descriptors(), before + 1);
    wait_for_idle(&left);
    turns(2);
    cr_assert_eq(map_count(&b.link.regions), 0);
    cr_assert_eq(map_count(&a.link.told), 0);
    cr_assert_eq(count_descriptors(), before - 1);
    check();
    parcel = flat_parcel(&left, MIB, 2);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert(looks_like(b.kept[0]->value, MIB, 2));
}

/* ---- peers that go, or keep ---- */

Test(parcel_link, a_peer_that_goes_away_holding_slots_leaves_nothing_behind)
{
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
    turns(2);
    end_close(&b);
    turns(3);
    cr_assert(a.closed);
    cr_assert(looks_like(b.kept[0]->value, MIB, 1), "who holds it may go on reading");
    cr_assert(looks_like(parcel->value, MIB, 1));
    parcel_unref(parcel);
    turns(1);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    end_drop(&b);
    turns(1);
    parcel = flat_parcel(&left, MIB, 2);
    parcel_unref(parcel);
}

Test(parcel_link, a_peer_that_is_killed_holding_slots_leaves_nothing_behind)
{
    struct end here;
    int there = end_join_alone(&here, &left), before = count_descriptors();
    pid_t pid = fork();
    if (pid == 0) { /* maps nothing, answers well, never gives back, and waits */
        uint8_t in[4096], out[128];
        int descriptor;
        close(here.channel.descriptor);
        for (;;) {
            ssize_t size = socket_read_with(there, in, sizeof in, &descriptor);
            if (size >= (ssize_t)WIRE_HEADER_SIZE && in[4] == WIRE_REGION_FRAME) {
                struct wire_region_taken taken = {.region = 1};
                memcpy(&taken.region, in + WIRE_HEADER_SIZE, 4);
                struct iovec part = {out, wire_region_taken_write(&taken, 0, 0, false, out)};
                socket_write(there, &part, 1);
            }
        }
    }
    socket_close(there);
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    cr_assert_eq(parcel_lend(&here.link, parcel, &(struct parcel_form){0}), PARCEL_LATER);
    for (int i = 0; i < 5000 && !here.progress; i++) {
        turns(1);
        usleep(1000);
    }
    cr_assert_eq(end_send(&here, parcel), PARCEL_LENT);
    parcel_unref(parcel);
    turns(2);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), MIB);
    kill(pid, SIGKILL);
    cr_assert_eq(waitpid(pid, NULL, 0), pid);
    for (int i = 0; i < 5000 && !here.closed; i++) {
        turns(1);
        usleep(1000);
    }
    cr_assert(here.closed);
    cr_assert_eq(slot_pool_used_bytes(parcel_desk_slots(left.desk)), 0);
    wait_for_idle(&left);
    cr_assert_leq(count_descriptors(), before);
    check();
}

Test(parcel_link, a_peer_that_gives_nothing_back_gets_its_bodies_through_the_socket)
{
    left.settings.payload_peer_limit = 3 * MIB;
    for (int i = 0; i < 6; i++) {
        struct parcel *parcel = flat_parcel(&left, MIB, (uint8_t)i);
        cr_assert_eq(end_send(&a, parcel), i < 3 ? PARCEL_LENT : PARCEL_INLINE, "body %d", i);
        parcel_unref(parcel);
        turns(4);
    }
    turns(40);
    cr_assert_eq(b.bytes, 6 * MIB);
    check();
    end_drop(&b);
    turns(3);
    struct parcel *parcel = flat_parcel(&left, MIB, 9);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT, "once it has given back");
    parcel_unref(parcel);
}

Test(parcel_link, a_peer_that_takes_no_regions_gets_its_bodies_through_the_socket)
{
    struct end c, d;
    struct party refuses = {0};
    settings_init(&refuses.settings);
    refuses.settings.payload_map_limit = MIB;
    party_begin(&refuses);
    ends_join(&c, &left, &d, &refuses);
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    cr_assert_eq(end_send(&c, parcel), PARCEL_INLINE, "it has said that it maps no more than this");
    c.link.region_bytes = UINT64_MAX; /* and when we have not understood */
    cr_assert_eq(end_send(&c, parcel), PARCEL_INLINE);
    cr_assert_eq(end_send(&c, parcel), PARCEL_INLINE);
    turns(20);
    cr_assert_eq(d.bytes, 3 * MIB);
    cr_assert_not(d.closed);
    parcel_unref(parcel);
    end_close(&c);
    end_close(&d);
    party_end(&refuses);
}

/* ---- descriptors ---- */

static void limit_descriptors(struct rlimit *before, int spare)
{
    struct rlimit limit;
    int next = dup(0);
    close(next);
    getrlimit(RLIMIT_NOFILE, before);
    limit = (struct rlimit){.rlim_cur = (rlim_t)(next + spare), .rlim_max = before->rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(parcel_link, without_descriptors_bodies_go_through_the_socket)
{
    struct rlimit before;
    struct parcel *parcel = flat_parcel(&left, MIB, 1);
    limit_descriptors(&before, 0);
    cr_assert_eq(end_send(&a, parcel), PARCEL_INLINE, "none to send");
    setrlimit(RLIMIT_NOFILE, &before);
    turns(40);
    struct parcel *other = flat_parcel(&left, 3 * MIB, 2);
    cr_assert_eq(parcel_lend(&a.link, other, &(struct parcel_form){0}), PARCEL_LATER);
    turns(1); /* it is in the socket */
    limit_descriptors(&before, 0);
    cr_assert_eq(end_send(&a, other), PARCEL_INLINE, "the peer had none to receive it with");
    setrlimit(RLIMIT_NOFILE, &before);
    cr_assert_eq(end_send(&a, parcel), PARCEL_LENT, "there are some again");
    parcel_unref(parcel);
    parcel_unref(other);
    turns(20);
    cr_assert_eq(b.bytes, 1 * MIB + 3 * MIB + 1 * MIB);
    cr_assert_not(b.closed);
    check();
}

/* ---- many ---- */

Test(parcel_link, thousands_of_bodies_leave_memory_and_descriptors_as_they_were)
{
    int before = 0;
    size_t bytes = 0;
    for (int i = 0; i < 6000; i++) {
        size_t size = 64 * KIB + (size_t)(i * 7919 % (i % 50 ? 200 * KIB : 2 * MIB));
        struct slot *slot = slot_take(parcel_desk_slots(left.desk), size);
        slot->at[0] = slot->at[size - 1] = (uint8_t)i;
        struct parcel *parcel = parcel_of_slot(slot, size);
        cr_assert_eq(end_send(&a, parcel), PARCEL_LENT);
        parcel_unref(parcel);
        turns(i % 3);
        if (b.kept_count >= 8)
            end_drop(&b);
        if (i == 3000) {
            before = count_descriptors();
            bytes = slot_pool_bytes(parcel_desk_slots(left.desk));
        }
    }
    cr_assert_leq(count_descriptors(), before + 2);
    cr_assert_leq(slot_pool_bytes(parcel_desk_slots(left.desk)), bytes + 8 * MIB);
    turns(3);
    cr_assert_eq(b.count, 6000);
    check();
}
