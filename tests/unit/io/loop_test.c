/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns, watches and timers of a loop, on real descriptors.
 *
 * Every wait is for a condition: the loop is stopped by what the test waits for, never by time
 * alone.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "socket.h"

struct stage {
    struct loop *loop;
    int ends[2]; /* socket pair; the watch is on ends[0] */
    struct loop_watch watch, other;
    struct loop_timer timers[64];
    struct loop_turn turns[4];
    char said[256];
    size_t said_length;
    int calls, limit;
};

static void say(struct stage *stage, char letter)
{
    cr_assert_lt(stage->said_length, sizeof(stage->said) - 1);
    stage->said[stage->said_length++] = letter;
    stage->said[stage->said_length] = 0;
}

static struct stage *begin(void)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    stage->loop = loop_new();
    cr_assert_not_null(stage->loop);
    cr_assert_eq(socket_pair(stage->ends), 0);
    return stage;
}

static void finish(struct stage *stage)
{
    loop_watch_close(&stage->watch);
    loop_watch_close(&stage->other);
    cr_assert_null(loop_free(stage->loop));
    socket_close(stage->ends[0]);
    socket_close(stage->ends[1]);
    free(stage);
}

static void send_byte(struct stage *stage)
{
    cr_assert_eq(write(stage->ends[1], "x", 1), 1);
}

static void on_ready(void *owner, int events)
{
    struct stage *stage = owner;
    say(stage, (char)('0' + events));
    if (++stage->calls >= stage->limit)
        loop_stop(stage->loop);
}

Test(loop, a_ready_descriptor_is_told_until_it_is_read)
{
    struct stage *stage = begin();
    stage->limit = 3;
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_READ, on_ready, stage), 0);
    send_byte(stage);
    loop_run(stage->loop);
    cr_assert_str_eq(stage->said, "111");
    finish(stage);
}

Test(loop, both_directions_are_told_apart)
{
    struct stage *stage = begin();
    stage->limit = 1;
    cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_READ | LOOP_WRITE,
                                 on_ready, stage),
                 0);
    loop_run(stage->loop);
    send_byte(stage);
    loop_run(stage->loop);
    loop_watch_change(&stage->watch, LOOP_READ);
    loop_run(stage->loop);
    cr_assert_str_eq(stage->said, "231");
    finish(stage);
}

Test(loop, a_watch_without_events_is_silent_and_comes_back)
{
    struct stage *stage = begin();
    stage->limit = 1;
    cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, stage->ends[0], 0, on_ready, stage),
                 0);
    send_byte(stage);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->calls, 0);
    loop_watch_change(&stage->watch, LOOP_READ);
    loop_watch_change(&stage->watch, 0);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->calls, 0);
    loop_watch_change(&stage->watch, LOOP_READ);
    loop_run(stage->loop);
    cr_assert_eq(stage->calls, 1);
    finish(stage);
}

Test(loop, the_end_of_a_peer_reads_as_ready)
{
    struct stage *stage = begin();
    char byte;
    stage->limit = 1;
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_READ, on_ready, stage), 0);
    socket_close(stage->ends[1]);
    stage->ends[1] = -1;
    loop_run(stage->loop);
    cr_assert_eq(socket_read(stage->ends[0], &byte, 1), 0);
    finish(stage);
}

Test(loop, what_cannot_be_watched_is_refused)
{
    struct stage *stage = begin();
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, file, LOOP_READ, on_ready, stage),
                 -EPERM);
    cr_assert_null(stage->watch.handle);
    cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, -1, LOOP_READ, on_ready, stage),
                 -EBADF);
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_READ, on_ready, stage), 0);
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->other, stage->ends[0], LOOP_READ, on_ready, stage),
        -EEXIST);
    close(file);
    finish(stage);
}

static void on_ready_close_both(void *owner, int events)
{
    struct stage *stage = owner;
    stage->calls++;
    loop_watch_close(&stage->watch);
    loop_watch_close(&stage->other);
    memset(&stage->watch, 0xAA, sizeof(stage->watch)); /* its owner may vanish at once */
    memset(&stage->other, 0xAA, sizeof(stage->other));
    loop_stop(stage->loop);
}

Test(loop, a_watch_closed_while_others_are_told_is_not_called)
{
    struct stage *stage = begin();
    for (int i = 0; i < 100; i++) {
        memset(&stage->watch, 0, sizeof(stage->watch));
        memset(&stage->other, 0, sizeof(stage->other));
        cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_WRITE,
                                     on_ready_close_both, stage),
                     0);
        cr_assert_eq(loop_watch_open(stage->loop, &stage->other, stage->ends[1], LOOP_WRITE,
                                     on_ready_close_both, stage),
                     0);
        loop_run(stage->loop);
        cr_assert_eq(stage->calls, i + 1);
    }
    memset(&stage->watch, 0, sizeof(stage->watch));
    memset(&stage->other, 0, sizeof(stage->other));
    finish(stage);
}

static void on_ready_reopen(void *owner, int events)
{
    struct stage *stage = owner;
    int fresh[2];
    loop_watch_close(&stage->watch);
    socket_close(stage->ends[0]);
    socket_close(stage->ends[1]);
    cr_assert_eq(socket_pair(fresh), 0);
    memcpy(stage->ends, fresh, sizeof(fresh));
    cr_assert_eq(loop_watch_open(stage->loop, &stage->watch, fresh[0], LOOP_READ, on_ready, stage),
                 0);
    say(stage, 'r');
}

Test(loop, a_number_used_again_in_the_same_turn_is_a_new_descriptor)
{
    struct stage *stage = begin();
    int first = stage->ends[0];
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->watch, first, LOOP_READ, on_ready_reopen, stage), 0);
    send_byte(stage);
    loop_run_once(stage->loop); /* tells the kernel, which answers at once or in the next turn */
    loop_run_once(stage->loop);
    cr_assert_str_eq(stage->said, "r");
    cr_assert_eq(stage->ends[0], first);
    stage->limit = 1;
    send_byte(stage);
    loop_run(stage->loop);
    cr_assert_str_eq(stage->said, "r1");
    finish(stage);
}

/* ---- timers ---- */

struct numbered {
    struct stage *stage;
    int number;
};

static void on_timer(void *owner)
{
    struct numbered *numbered = owner;
    say(numbered->stage, (char)('a' + numbered->number));
    if (++numbered->stage->calls == numbered->stage->limit)
        loop_stop(numbered->stage->loop);
}

Test(loop, timers_fire_in_the_order_of_their_due_times)
{
    static const int due_ms[] = {5, 1, 9, 3, 3, 0, 7, 1};
    struct stage *stage = begin();
    struct numbered numbered[8];
    int64_t now_ns = loop_refresh_now_ns(stage->loop);
    stage->limit = 8;
    for (int i = 0; i < 8; i++) {
        numbered[i] = (struct numbered){stage, i};
        loop_timer_init(stage->loop, &stage->timers[i], on_timer, &numbered[i]);
        loop_timer_set(&stage->timers[i], now_ns + due_ms[i] * 1000000 + 1);
    }
    loop_run(stage->loop);
    cr_assert_str_eq(stage->said, "fbhdeagc");
    cr_assert_geq(loop_now_ns(stage->loop), now_ns + 9 * 1000000);
    finish(stage);
}

Test(loop, timers_can_be_cleared_and_moved_anywhere_in_the_heap)
{
    struct stage *stage = begin();
    struct numbered numbered[64];
    int64_t now_ns = loop_refresh_now_ns(stage->loop);
    unsigned random = 1;
    for (int i = 0; i < 64; i++) {
        numbered[i] = (struct numbered){stage, i % 26};
        loop_timer_init(stage->loop, &stage->timers[i], on_timer, &numbered[i]);
    }
    int64_t due_ns[64] = {0};
    for (int i = 0; i < 5000; i++) {
        int at = (int)((random = random * 1103515245 + 12345) >> 16) % 64;
        if ((random >> 8) % 3 == 0) {
            loop_timer_clear(&stage->timers[at]);
            due_ns[at] = 0;
        } else {
            due_ns[at] = now_ns - 1000 + (random >> 10) % 1000;
            loop_timer_set(&stage->timers[at], due_ns[at]);
        }
    }
    int set = 0;
    for (int i = 0; i < 64; i++)
        set += due_ns[i] != 0;
    cr_assert_gt(set, 10);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->calls, set);
    for (int i = 0; i < 64; i++)
        cr_assert_eq(stage->timers[i].due_ns, 0);
    finish(stage);
}

static void on_timer_again(void *owner)
{
    struct stage *stage = owner;
    stage->calls++;
    loop_timer_set(&stage->timers[0], 1);
}

Test(loop, a_timer_that_sets_itself_to_the_past_does_not_stop_the_turn)
{
    struct stage *stage = begin();
    loop_timer_init(stage->loop, &stage->timers[0], on_timer_again, stage);
    loop_timer_set(&stage->timers[0], 1);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->calls, 1);
    cr_assert_eq(loop_timeout_ms(stage->loop), 0);
    loop_run_once(stage->loop);
    cr_assert_eq(stage->calls, 2);
    finish(stage);
}

static void stop_at_once(void *owner)
{
    loop_stop(((struct stage *)owner)->loop);
}

static void set_timer_to_the_past(void *owner)
{
    struct stage *stage = owner;
    if (++stage->calls == 3)
        loop_timer_set(&stage->timers[0], 1);
    else if (stage->calls < 3)
        loop_turn_again(stage->loop);
}

Test(loop, a_timer_that_a_turn_sets_to_the_past_ends_the_wait, .timeout = 30)
{
    struct stage *stage = begin();
    loop_timer_init(stage->loop, &stage->timers[0], stop_at_once, stage);
    stage->turns[0] = (struct loop_turn){.turn = set_timer_to_the_past, .owner = stage};
    loop_turn_add(stage->loop, &stage->turns[0]);
    loop_run(stage->loop);
    cr_assert_geq(stage->calls, 3);
    cr_assert_eq(stage->timers[0].due_ns, 0);
    loop_turn_remove(&stage->turns[0]);
    finish(stage);
}

static void on_timer_late(void *owner)
{
    struct stage *stage = owner;
    say(stage, loop_turn_late(stage->loop, 20) ? 'l' : 'p');
    say(stage, loop_turn_late(stage->loop, 3600 * 1000) ? 'l' : 'p');
}

Test(loop, a_turn_that_comes_late_says_so)
{
    struct stage *stage = begin();
    loop_timer_init(stage->loop, &stage->timers[0], on_timer_late, stage);
    int64_t begun_ns = loop_refresh_now_ns(stage->loop);
    loop_timer_set(&stage->timers[0], begun_ns + 1000000);
    /* The timer passes while this thread does something else. */
    struct timespec now;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec * (int64_t)1000000000 + now.tv_nsec < begun_ns + 30 * 1000000);
    loop_run_once(stage->loop);
    cr_assert_str_eq(stage->said, "lp");
    finish(stage);
}

Test(loop, a_turn_that_nobody_waits_for_is_never_late)
{
    struct stage *stage = begin();
    loop_run_once(stage->loop);
    cr_assert_not(loop_turn_late(stage->loop, 1));
    finish(stage);
}

Test(loop, the_time_out_for_a_foreign_poller_follows_the_timers)
{
    struct stage *stage = begin();
    loop_run_once(stage->loop);
    cr_assert_eq(loop_timeout_ms(stage->loop), -1);
    uint64_t changes = loop_changes(stage->loop);
    loop_timer_init(stage->loop, &stage->timers[0], on_timer_again, stage);
    int64_t now_ns = loop_refresh_now_ns(stage->loop);
    loop_timer_set(&stage->timers[0], now_ns + (int64_t)3600 * 1000000000);
    cr_assert_neq(loop_changes(stage->loop), changes);
    int timeout_ms = loop_timeout_ms(stage->loop);
    cr_assert(timeout_ms > 3500 * 1000 && timeout_ms <= 3600 * 1000);

    changes = loop_changes(stage->loop);
    loop_timer_set(&stage->timers[0], now_ns + (int64_t)7200 * 1000000000);
    cr_assert_eq(loop_changes(stage->loop), changes, "a later timer needs no waking");
    cr_assert_eq(
        loop_watch_open(stage->loop, &stage->watch, stage->ends[0], LOOP_READ, on_ready, stage), 0);
    cr_assert_neq(loop_changes(stage->loop), changes);
    cr_assert_eq(loop_timeout_ms(stage->loop), 0, "libuv has to hear of the watch first");
    loop_run_once(stage->loop);
    cr_assert_gt(loop_timeout_ms(stage->loop), 0);
    finish(stage);
}

/* ---- turns ---- */

static void on_turn_a(void *owner)
{
    say(owner, 'a');
}

static void on_turn_z(void *owner)
{
    say(owner, 'z');
}

static void on_turn_b(void *owner)
{
    struct stage *stage = owner;
    say(stage, 'b');
    loop_turn_remove(&stage->turns[2]);
    loop_turn_remove(&stage->turns[1]);
}

Test(loop, turn_functions_run_in_order_with_the_last_ones_last)
{
    struct stage *stage = begin();
    void (*const functions[])(void *) = {on_turn_z, on_turn_b, on_turn_a, on_turn_a};
    for (int i = 0; i < 4; i++) {
        stage->turns[i] = (struct loop_turn){.turn = functions[i], .owner = stage};
        if (i == 0)
            loop_turn_add_last(stage->loop, &stage->turns[i]);
        else
            loop_turn_add(stage->loop, &stage->turns[i]);
    }
    loop_run_once(stage->loop); /* b takes itself and the first a away */
    loop_run_once(stage->loop);
    cr_assert_str_eq(stage->said, "bazaz");
    loop_end_turn(stage->loop);
    cr_assert_str_eq(stage->said, "bazazaz");
    loop_turn_remove(&stage->turns[0]);
    loop_turn_remove(&stage->turns[3]);
    loop_turn_remove(&stage->turns[3]);
    finish(stage);
}

static void on_turn_stop(void *owner)
{
    loop_stop(((struct stage *)owner)->loop);
}

static void *wake(void *owner)
{
    loop_wake(owner);
    return NULL;
}

Test(loop, another_thread_wakes_a_waiting_turn)
{
    struct stage *stage = begin();
    pthread_t thread;
    stage->turns[0] = (struct loop_turn){.turn = on_turn_stop, .owner = stage};
    loop_run_once(stage->loop);
    loop_turn_add(stage->loop, &stage->turns[0]);
    pthread_create(&thread, NULL, wake, stage->loop);
    loop_run(stage->loop); /* nothing else would end its wait */
    pthread_join(thread, NULL);
    loop_turn_remove(&stage->turns[0]);
    finish(stage);
}

static void on_signal(void *owner, int signal_number)
{
    struct stage *stage = owner;
    stage->calls = signal_number;
    loop_stop(stage->loop);
}

Test(loop, a_signal_is_an_event)
{
    struct stage *stage = begin();
    cr_assert_eq(loop_on_signal(stage->loop, SIGUSR1, on_signal, stage), 0);
    cr_assert_neq(loop_on_signal(stage->loop, SIGKILL, on_signal, stage), 0);
    raise(SIGUSR1);
    loop_run(stage->loop);
    cr_assert_eq(stage->calls, SIGUSR1);
    finish(stage);
}

Test(loop, a_signal_for_a_forked_child_is_the_childs)
{
    struct stage *stage = begin();
    int status = 0;
    cr_assert_eq(loop_on_signal(stage->loop, SIGTERM, on_signal, stage), 0);
    cr_assert_eq(loop_on_signal(stage->loop, SIGUSR1, on_signal, stage), 0);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGTERM);
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    raise(SIGUSR1); /* the next event, when there was none before it */
    loop_run(stage->loop);
    cr_assert_eq(stage->calls, SIGUSR1);
    finish(stage);
}
