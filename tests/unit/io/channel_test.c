/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels on real socket pairs: one end is a channel, the other a plain descriptor or a channel
 * too.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"
#include "mem.h"
#include "socket.h"

enum {
    FRAME_LIMIT = 256 * 1024,
    QUEUE_LIMIT = 512 * 1024,
    TURN_LIMIT = 256 * 1024,
    FRAMES_KEPT = 64
};

struct stage {
    struct loop *loop;
    struct channel_set set;
    struct channel channel;
    int peer;
    int events;       /* all that were told */
    int closed_told;  /* how often */
    bool keeps;       /* frames are kept by reference */
    bool ignores;     /* events are only noted */
    ssize_t received; /* the last answer of channel_receive */
    size_t frame_count, byte_count;
    uint32_t sum; /* of all payload bytes */
    struct buffer *kept[FRAMES_KEPT];
    struct bytes frames[FRAMES_KEPT];
    enum channel_taken taken;
};

static void take_all(struct stage *stage)
{
    struct bytes frame;
    while ((stage->taken = channel_take(&stage->channel, &frame)) == CHANNEL_FRAME) {
        if (stage->keeps && stage->frame_count < FRAMES_KEPT) {
            stage->kept[stage->frame_count] = buffer_ref(channel_buffer(&stage->channel));
            stage->frames[stage->frame_count] = frame;
        }
        for (size_t i = 16; i < frame.size; i++)
            stage->sum = stage->sum * 31 + frame.at[i];
        stage->frame_count++;
        stage->byte_count += frame.size;
    }
}

static void on_event(void *owner, struct channel *channel, int events)
{
    struct stage *stage = owner;
    stage->events |= events;
    stage->closed_told += (events & CHANNEL_CLOSED) != 0;
    if (stage->ignores)
        return;
    if (events & CHANNEL_READABLE)
        while ((stage->received = channel_receive(channel)) > 0)
            take_all(stage);
}

static struct stage *begin_with(size_t queue_limit)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    int ends[2];
    stage->loop = loop_new();
    cr_assert_not_null(stage->loop);
    cr_assert_eq(channel_set_init(&stage->set, stage->loop,
                                  &(struct channel_config){.frame_limit = FRAME_LIMIT,
                                                           .queue_limit = queue_limit,
                                                           .turn_limit = TURN_LIMIT,
                                                           .buffer_keep = 4}),
                 0);
    cr_assert_eq(socket_pair(ends), 0);
    cr_assert_eq(channel_open(&stage->channel, &stage->set, ends[0], on_event, stage), 0);
    stage->peer = ends[1];
    loop_run_once(stage->loop);
    return stage;
}

static struct stage *begin(void)
{
    return begin_with(QUEUE_LIMIT);
}

static void finish(struct stage *stage)
{
    channel_close(&stage->channel);
    for (int i = 0; i < FRAMES_KEPT; i++)
        buffer_unref(stage->kept[i]);
    cr_assert_eq(buffer_store_live_bytes(stage->set.buffers), 0);
    channel_set_done(&stage->set);
    loop_free(stage->loop);
    socket_close(stage->peer);
    free(stage);
}

/* A frame whose payload is made from `seed`; the sum is what take_all computes. */
static size_t make_frame(uint8_t *at, size_t payload, unsigned seed, uint32_t *sum)
{
    memset(at, 0, 16);
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(payload >> (8 * i));
    for (size_t i = 0; i < payload; i++) {
        at[16 + i] = (uint8_t)(seed + i * 7);
        *sum = *sum * 31 + at[16 + i];
    }
    return 16 + payload;
}

static void turns_until_quiet(struct stage *stage)
{
    for (int i = 0; i < 3; i++)
        loop_run_once(stage->loop);
}

static void write_all(int descriptor, const void *at, size_t size)
{
    struct iovec part = {.iov_base = (void *)at, .iov_len = size};
    cr_assert_eq(socket_write(descriptor, &part, 1), (ssize_t)size);
}

Test(channel, frames_split_at_every_byte_arrive_whole)
{
    uint8_t bytes[512];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 5, 1, &sum);
    size += make_frame(bytes + size, 0, 2, &sum);
    size += make_frame(bytes + size, 90, 3, &sum);
    for (size_t split = 0; split <= size; split++) {
        struct stage *stage = begin();
        if (split > 0)
            write_all(stage->peer, bytes, split);
        turns_until_quiet(stage);
        if (split < size)
            write_all(stage->peer, bytes + split, size - split);
        turns_until_quiet(stage);
        cr_assert_eq(stage->frame_count, 3, "split at %zu", split);
        cr_assert_eq(stage->sum, sum);
        finish(stage);
    }
}

Test(channel, one_byte_at_a_time_is_enough)
{
    struct stage *stage = begin();
    uint8_t bytes[64];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 33, 9, &sum);
    for (size_t i = 0; i < size; i++) {
        cr_assert_eq(stage->frame_count, 0);
        write_all(stage->peer, bytes + i, 1);
        turns_until_quiet(stage);
    }
    cr_assert_eq(stage->frame_count, 1);
    cr_assert_eq(stage->sum, sum);
    finish(stage);
}

/* Writes a stream of frames as fast as the channel takes it. */
static void pump(struct stage *stage, const uint8_t *bytes, size_t size)
{
    size_t sent = 0;
    while (sent < size || stage->byte_count < size) {
        if (sent < size) {
            struct iovec part = {.iov_base = (void *)(bytes + sent), .iov_len = size - sent};
            ssize_t rc = socket_write(stage->peer, &part, 1);
            cr_assert(rc > 0 || rc == -EAGAIN);
            sent += rc > 0 ? (size_t)rc : 0;
        }
        loop_run_once(stage->loop);
        cr_assert_neq(stage->taken, CHANNEL_BROKEN);
    }
}

static const size_t sizes[] = {0,           1,     100, 4096,  65536,          200000,
                               FRAME_LIMIT, 30000, 17,  65520, FRAME_LIMIT - 1};
enum { SIZE_COUNT = sizeof(sizes) / sizeof(sizes[0]) };

static size_t make_stream(uint8_t **ret_bytes, uint32_t *sum)
{
    size_t size = 0, at = 0;
    for (int i = 0; i < SIZE_COUNT; i++)
        size += 16 + sizes[i];
    *ret_bytes = malloc(size);
    for (int i = 0; i < SIZE_COUNT; i++)
        at += make_frame(*ret_bytes + at, sizes[i], (unsigned)i, sum);
    return size;
}

Test(channel, frames_of_all_sizes_up_to_the_limit_arrive)
{
    struct stage *stage = begin();
    uint8_t *bytes;
    uint32_t sum = 0;
    size_t size = make_stream(&bytes, &sum);
    pump(stage, bytes, size);
    cr_assert_eq(stage->frame_count, SIZE_COUNT);
    cr_assert_eq(stage->sum, sum);
    free(bytes);
    finish(stage);
}

Test(channel, kept_frames_stay_as_they_were)
{
    struct stage *stage = begin();
    uint8_t *bytes;
    uint32_t sum = 0;
    size_t size = make_stream(&bytes, &sum);
    stage->keeps = true;
    pump(stage, bytes, size);
    size_t at = 0;
    for (int i = 0; i < SIZE_COUNT; i++) {
        cr_assert(bytes_equal(stage->frames[i], bytes_of(bytes + at, 16 + sizes[i])), "frame %d",
                  i);
        at += 16 + sizes[i];
    }
    free(bytes);
    finish(stage);
}

Test(channel, small_kept_frames_share_a_buffer)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 100, 1, &sum);
    stage->keeps = true;
    for (int i = 0; i < 50; i++) {
        write_all(stage->peer, bytes, size);
        turns_until_quiet(stage);
    }
    cr_assert_eq(stage->frame_count, 50);
    for (int i = 1; i < 50; i++)
        cr_assert_eq(stage->kept[i], stage->kept[0]);
    finish(stage);
}

Test(channel, an_idle_channel_holds_no_buffer)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    turns_until_quiet(stage);
    cr_assert_eq(stage->frame_count, 1);
    cr_assert_eq(buffer_store_live_bytes(stage->set.buffers), 0);
    finish(stage);
}

Test(channel, a_channel_rests_once_the_last_frame_that_was_kept_is_given_back)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    stage->keeps = true;
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    turns_until_quiet(stage);
    cr_assert_gt(buffer_store_live_bytes(stage->set.buffers), 0);
    stage->kept[0] = buffer_unref(stage->kept[0]);
    turns_until_quiet(stage);
    cr_assert_eq(buffer_store_live_bytes(stage->set.buffers), 0);
    finish(stage);
}

Test(channel, a_frame_over_the_limit_breaks_the_channel)
{
    struct stage *stage = begin();
    uint8_t bytes[64];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 8, 1, &sum);
    memset(bytes + size, 0, 16);
    uint32_t payload = FRAME_LIMIT + 1;
    memcpy(bytes + size, &payload, 4);
    write_all(stage->peer, bytes, size + 16);
    turns_until_quiet(stage);
    cr_assert_eq(stage->frame_count, 1);
    cr_assert_eq(stage->taken, CHANNEL_BROKEN);
    finish(stage);
}

Test(channel, the_end_is_told_once_and_after_the_frames)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    socket_close(stage->peer);
    stage->peer = -1;
    turns_until_quiet(stage);
    turns_until_quiet(stage);
    cr_assert_eq(stage->frame_count, 1);
    cr_assert_eq(stage->received, -1);
    cr_assert_eq(stage->closed_told, 1);
    cr_assert_eq(stage->channel.error, 0);
    cr_assert_null(channel_put_room(&stage->channel, 10));
    finish(stage);
}

/* ---- out ---- */

static bool put(struct channel *channel, size_t payload, unsigned seed, uint32_t *sum)
{
    uint8_t *at = channel_put_room(channel, 16 + payload);
    if (!at)
        return false;
    channel_put_done(channel, make_frame(at, payload, seed, sum));
    return true;
}

Test(channel, output_of_a_turn_leaves_in_one_write)
{
    struct stage *stage = begin();
    uint32_t sum = 0;
    uint8_t bytes[256];
    for (unsigned i = 0; i < 3; i++)
        cr_assert(put(&stage->channel, 20, i, &sum));
    cr_assert_eq(channel_unsent(&stage->channel), 3 * 36);
    cr_assert_eq(socket_read(stage->peer, bytes, sizeof(bytes)), -EAGAIN);
    loop_run_once(stage->loop);
    cr_assert_eq(socket_read(stage->peer, bytes, sizeof(bytes)), 3 * 36);
    cr_assert_eq(channel_unsent(&stage->channel), 0);
    finish(stage);
}

static void on_event_stop(void *owner, struct channel *channel, int events)
{
    struct stage *stage = owner;
    on_event(stage, channel, events);
    loop_stop(stage->loop);
}

Test(channel, output_put_before_the_loop_runs_is_sent)
{
    struct stage *left = begin(), *right = calloc(1, sizeof(*right));
    uint32_t sum = 0;
    right->loop = left->loop;
    cr_assert_eq(channel_open(&right->channel, &left->set, left->peer, on_event_stop, right), 0);
    left->peer = -1;
    cr_assert(put(&left->channel, 20, 1, &sum));
    loop_run(left->loop);
    cr_assert_eq(right->frame_count, 1);
    channel_close(&right->channel);
    free(right);
    finish(left);
}

Test(channel, a_full_queue_refuses_and_tells_when_there_is_room)
{
    struct stage *stage = begin_with(256 * 1024);
    uint32_t sum = 0, read_sum = 0;
    unsigned count = 0;
    while (put(&stage->channel, 10000, count, &sum)) {
        loop_run_once(stage->loop);
        cr_assert_lt(++count, 10000u);
    }
    cr_assert_gt(count, 20u);
    cr_assert_leq(channel_unsent(&stage->channel), 256 * 1024u);
    turns_until_quiet(stage);
    cr_assert_not(stage->events & CHANNEL_ROOM);
    cr_assert_not_null(channel_put_room_always(&stage->channel, 1000));
    cr_assert_null(
        channel_put_room_always(&stage->channel, 320 * 1024 + 1 - channel_unsent(&stage->channel)));

    static uint8_t bytes[1 << 20];
    size_t got = 0, wanted = (size_t)count * 10016;
    uint8_t *all = malloc(wanted);
    while (got < wanted) {
        ssize_t rc = socket_read(stage->peer, bytes, 50000);
        cr_assert(rc > 0 || rc == -EAGAIN);
        if (rc > 0) {
            memcpy(all + got, bytes, (size_t)rc);
            got += (size_t)rc;
        }
        loop_run_once(stage->loop);
    }
    cr_assert(stage->events & CHANNEL_ROOM);
    for (unsigned i = 0; i < count; i++)
        for (size_t k = 16; k < 10016; k++)
            read_sum = read_sum * 31 + all[i * 10016 + k];
    cr_assert_eq(read_sum, sum);
    cr_assert(put(&stage->channel, 10000, 0, &sum));
    free(all);
    finish(stage);
}

Test(channel, an_empty_queue_takes_a_frame_of_any_size)
{
    struct stage *stage = begin_with(64 * 1024);
    uint32_t sum = 0;
    cr_assert(put(&stage->channel, 200000, 1, &sum));
    cr_assert_not(put(&stage->channel, 10, 1, &sum));
    finish(stage);
}

Test(channel, answers_that_arrived_before_a_failed_write_are_not_lost)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0, ignored = 0;
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    socket_close(stage->peer);
    stage->peer = -1;
    cr_assert(put(&stage->channel, 10, 1, &ignored));
    channel_flush(&stage->channel);
    cr_assert_null(channel_put_room(&stage->channel, 10));
    turns_until_quiet(stage);
    cr_assert_eq(stage->frame_count, 1);
    cr_assert_eq(stage->sum, sum);
    turns_until_quiet(stage);
    cr_assert_eq(stage->closed_told, 1);
    cr_assert_eq(stage->channel.error, -EPIPE);
    finish(stage);
}

Test(channel, two_channels_carry_a_megabyte_both_ways)
{
    struct stage *left = begin(), *right = calloc(1, sizeof(*right));
    right->set = left->set;
    cr_assert_eq(channel_open(&right->channel, &left->set, left->peer, on_event, right), 0);
    left->peer = -1;
    right->loop = left->loop;
    uint32_t left_sum = 0, right_sum = 0;
    unsigned left_put = 0, right_put = 0;
    while (left->frame_count < 300 || right->frame_count < 300) {
        while (left_put < 300 && put(&left->channel, 4000, left_put, &left_sum))
            left_put++;
        while (right_put < 300 && put(&right->channel, 5000, right_put, &right_sum))
            right_put++;
        loop_run_once(left->loop);
    }
    cr_assert_eq(left->sum, right_sum);
    cr_assert_eq(right->sum, left_sum);
    channel_close(&right->channel);
    free(right);
    finish(left);
}

Test(channel, steady_traffic_allocates_nothing)
{
    struct stage *stage = begin();
    static uint8_t bytes[4096];
    uint32_t sum = 0;
    size_t size = 0;
    for (unsigned i = 0; i < 10; i++)
        size += make_frame(bytes + size, 200, i, &sum);
    uint64_t before = 0;
    for (int i = 0; i < 200; i++) {
        static uint8_t back[8192];
        if (i == 20)
            before = mem_count().allocations;
        write_all(stage->peer, bytes, size);
        for (unsigned k = 0; k < 10; k++)
            cr_assert(put(&stage->channel, 300, k, &sum));
        loop_run_once(stage->loop);
        cr_assert_eq(socket_read(stage->peer, back, sizeof(back)), 3160);
    }
    cr_assert_eq(mem_count().allocations, before);
    finish(stage);
}

/* ---- back-pressure ---- */

Test(channel, a_paused_channel_reads_nothing_until_it_resumes)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    channel_pause(&stage->channel, true);
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    turns_until_quiet(stage);
    cr_assert_eq(stage->events, 0);
    cr_assert_eq(channel_receive(&stage->channel), 0);
    channel_pause(&stage->channel, false);
    turns_until_quiet(stage);
    cr_assert_eq(stage->frame_count, 1);
    finish(stage);
}

Test(channel, resuming_offers_frames_that_were_left)
{
    struct stage *stage = begin();
    uint8_t bytes[256];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 50, 1, &sum);
    size += make_frame(bytes + size, 50, 2, &sum);
    stage->ignores = true;
    write_all(stage->peer, bytes, size);
    turns_until_quiet(stage);
    cr_assert_gt(channel_receive(&stage->channel), 0);
    struct bytes frame;
    cr_assert_eq(channel_take(&stage->channel, &frame), CHANNEL_FRAME);
    channel_pause(&stage->channel, true);
    turns_until_quiet(stage);
    stage->events = 0;
    channel_pause(&stage->channel, false);
    turns_until_quiet(stage);
    cr_assert_eq(stage->events, CHANNEL_READABLE);
    cr_assert_eq(channel_take(&stage->channel, &frame), CHANNEL_FRAME);
    finish(stage);
}

Test(channel, a_turn_receives_no_more_than_its_limit)
{
    struct stage *stage = begin();
    static uint8_t bytes[QUEUE_LIMIT];
    uint32_t sum = 0;
    int room = 8 << 20;
    size_t at = 0;
    setsockopt(stage->peer, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    for (unsigned i = 0; i < 25; i++)
        at += make_frame(bytes + at, 16000, i, &sum);
    stage->set.turn_limit = 64 * 1024;
    struct iovec part = {.iov_base = bytes, .iov_len = at};
    cr_assert_gt(socket_write(stage->peer, &part, 1), 128 * 1024);
    loop_run_once(stage->loop);
    cr_assert_gt(stage->byte_count, 0);
    cr_assert_leq(stage->byte_count, 64 * 1024);
    finish(stage);
}

/* ---- descriptors ---- */

static int count_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < 256; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

Test(channel, a_descriptor_travels_with_its_frame)
{
    struct stage *left = begin(), *right = calloc(1, sizeof(*right));
    uint32_t sum = 0;
    struct stat here, there;
    cr_assert_eq(channel_open(&right->channel, &left->set, left->peer, on_event, right), 0);
    left->peer = -1;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), count = count_descriptors();
    cr_assert_eq(fstat(file, &here), 0);
    cr_assert(put(&left->channel, 10, 1, &sum));
    channel_put_descriptor(&left->channel, file);
    cr_assert(put(&left->channel, 20, 2, &sum));
    loop_run_once(left->loop);
    loop_run_once(left->loop);
    loop_run_once(left->loop);
    cr_assert_eq(right->frame_count, 2);
    cr_assert_eq(count_descriptors(), count, "one came, the sent one is closed");
    int came = channel_take_descriptor(&right->channel);
    cr_assert_geq(came, 0);
    cr_assert_eq(channel_take_descriptor(&right->channel), -1);
    cr_assert(fcntl(came, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(fstat(came, &there), 0);
    cr_assert_eq(here.st_ino, there.st_ino);
    socket_close(came);
    channel_close(&right->channel);
    free(right);
    finish(left);
}

Test(channel, descriptors_that_nobody_takes_do_not_pile_up)
{
    struct stage *stage = begin();
    uint8_t bytes[64];
    uint32_t sum = 0;
    size_t size = make_frame(bytes, 10, 1, &sum);
    int before = count_descriptors();
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(socket_write_with(stage->peer, &part, 1, 0), (ssize_t)size);
        turns_until_quiet(stage);
    }
    cr_assert_eq(stage->frame_count, 20);
    cr_assert_eq(count_descriptors(), before + CHANNEL_DESCRIPTOR_LIMIT);
    finish(stage);
}

/* Each frame's payload says the inode of the descriptor that goes with it. */
Test(channel, descriptors_that_wait_together_come_with_their_frames_in_order)
{
    struct stage *left = begin(), *right = calloc(1, sizeof(*right));
    uint32_t sum = 0;
    ino_t inodes[CHANNEL_DESCRIPTOR_LIMIT];
    struct stat file;
    int before = count_descriptors();
    cr_assert_eq(channel_open(&right->channel, &left->set, left->peer, on_event, right), 0);
    left->peer = -1;
    for (int round = 0; round < 3; round++) {
        right->frame_count = 0;
        for (int i = 0; i < CHANNEL_DESCRIPTOR_LIMIT; i++) {
            int descriptor = memfd_create("order", MFD_CLOEXEC);
            cr_assert_eq(fstat(descriptor, &file), 0);
            inodes[i] = file.st_ino;
            cr_assert(channel_has_descriptor_room(&left->channel));
            if (i % 3 == 1)
                cr_assert(put(&left->channel, 50, 1, &sum));
            channel_put_descriptor(&left->channel, descriptor);
            cr_assert(put(&left->channel, i == 5 ? 9000 : 4, 1, &sum));
        }
        cr_assert_not(channel_has_descriptor_room(&left->channel));
        for (int i = 0; i < 20; i++)
            loop_run_once(left->loop);
        cr_assert_eq(right->frame_count, CHANNEL_DESCRIPTOR_LIMIT + 3);
        for (int i = 0; i < CHANNEL_DESCRIPTOR_LIMIT; i++) {
            int came = channel_take_descriptor(&right->channel);
            cr_assert_geq(came, 0, "descriptor %d", i);
            cr_assert_eq(fstat(came, &file), 0);
            cr_assert_eq(file.st_ino, inodes[i], "descriptor %d", i);
            socket_close(came);
        }
        cr_assert_eq(channel_take_descriptor(&right->channel), -1);
        cr_assert(channel_has_descriptor_room(&left->channel));
    }
    channel_put_descriptor(&left->channel, memfd_create("left behind", MFD_CLOEXEC));
    cr_assert(put(&left->channel, 1, 1, &sum));
    channel_close(&left->channel);
    cr_assert_eq(count_descriptors(), before - 1, "what was not sent is closed with the channel");
    channel_close(&right->channel);
    free(right);
    finish(left);
}

static void on_event_close(void *owner, struct channel *channel, int events)
{
    struct stage *stage = owner;
    stage->events |= events;
    channel_close(channel);
    memset(channel, 0xAA, sizeof(*channel)); /* it may vanish in the call */
}

Test(channel, the_event_function_may_close_and_free_its_channel)
{
    struct stage *stage = begin();
    struct channel *other = calloc(1, sizeof(*other));
    int ends[2];
    cr_assert_eq(socket_pair(ends), 0);
    cr_assert_eq(channel_open(other, &stage->set, ends[0], on_event_close, stage), 0);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    turns_until_quiet(stage);
    cr_assert_eq(stage->events, CHANNEL_READABLE);
    free(other);
    socket_close(ends[1]);
    finish(stage);
}

/* ---- memory that lacks ---- */

Test(channel, output_that_finds_no_memory_is_told_when_to_try_again)
{
    struct stage *stage = begin();
    uint32_t sum = 0;
    mem_fail_at(1);
    cr_assert_not(put(&stage->channel, 100, 1, &sum));
    mem_fail_at(0);
    turns_until_quiet(stage);
    cr_assert(stage->events & CHANNEL_ROOM);
    cr_assert(put(&stage->channel, 100, 1, &sum));
    finish(stage);
}

Test(channel, input_that_finds_no_memory_ends_the_channel)
{
    struct stage *stage = begin();
    uint8_t bytes[128];
    uint32_t sum = 0;
    write_all(stage->peer, bytes, make_frame(bytes, 100, 1, &sum));
    mem_fail_at(1);
    turns_until_quiet(stage);
    mem_fail_at(0);
    cr_assert_eq(stage->received, -1);
    cr_assert_eq(stage->closed_told, 1);
    cr_assert_eq(stage->channel.error, -ENOMEM);
    finish(stage);
}

Test(channel, a_loop_or_a_channel_that_finds_no_memory_is_refused_whole)
{
    mem_fail_at(1);
    cr_assert_null(loop_new());
    mem_fail_at(0);

    struct stage *stage = begin();
    struct channel other = {0};
    int ends[2];
    uint64_t live = mem_count().live;
    cr_assert_eq(socket_pair(ends), 0);
    mem_fail_at(1);
    cr_assert_eq(channel_open(&other, &stage->set, ends[0], on_event, stage), -ENOMEM);
    mem_fail_at(0);
    cr_assert_not(channel_is_open(&other));
    cr_assert_eq(mem_count().live, live);
    cr_assert_eq(socket_read(ends[1], &ends, 1), 0, "its descriptor is closed");
    channel_close(&other);
    socket_close(ends[1]);
    finish(stage);
}
