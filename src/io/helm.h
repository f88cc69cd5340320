/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helm: several threads, one loop.
 *
 * A process that runs user code on threads (a replica, a program that embeds Manta) has one loop whose state --
 * channels, minds, dispatch -- is guarded by one lock, the helm.  Whoever waits for something steers: it runs
 * turns until its condition holds.  While it blocks in the kernel it does not hold the lock, so every other thread
 * can take the helm for a moment (submit a call, give an answer) without waiting for the network.  Only one thread
 * blocks in the kernel at a time; others that wait sleep on a condition and one of them takes over when the
 * steersman leaves.  A standby thread steers when nobody else does (all threads run user code), woken after a
 * few milliseconds, armed only while user code runs; at rest it sleeps without a timer.
 *
 * This is the one exception to "one thread per object".  Invariant: loop, channels, minds of a helm are only
 * touched with the helm held.  Tested under ThreadSanitizer.
 */
#ifndef MANTA_IO_HELM_H
#define MANTA_IO_HELM_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

struct helm;

enum { HELM_STANDBY_MS = 2 };

/* With a standby thread of its own (all signals blocked in it).  Null when the machine lacks something. */
struct helm *helm_new(struct loop *loop);
struct helm *helm_free(struct helm *helm); /* helm not held; ends the standby */

void helm_take(struct helm *helm);
bool helm_try(struct helm *helm);
/*
 * Gives the lock back; wakes the steersman when timers or watches changed since it began to wait.  Output put by this
 * thread is flushed by it before (channel_set_flush).  Not inside a turn: ready, timer and turn functions keep the helm.
 */
void helm_give(struct helm *helm);
bool helm_held(const struct helm *helm); /* by this thread; for ensure */

/*
 * For threads that are about to be created and run user code: blocks every signal in the caller,
 * except those that a fault of the thread raises in itself.  Blocked, they would end the process
 * behind the back of a handler that user code has for them (a virtual machine's, a crash report's).
 * The caller restores *ret_before by pthread_sigmask.
 */
void helm_block_signals(sigset_t *ret_before);

/*
 * Called with the helm held: runs turns, or sleeps while another thread steers, until done(owner) holds or
 * due_ns (monotonic, 0: never) passes.  Returns with the helm held; true when done.  Ends the turn first, so that what
 * this thread has put is sent.
 * `done` is called with the helm held, by whichever thread steers, and not again by others once it was true: it may
 * take what it waits for (assign work to its waiter) as long as it stays true then.  Inside a turn of this thread
 * nobody can wait: it is asked once.
 */
bool helm_wait(struct helm *helm, bool (*done)(void *owner), void *owner, int64_t due_ns);
/* Something that waiters wait for may have changed by a thread that does not steer (helm held). */
void helm_changed(struct helm *helm);

/*
 * Bracket user code: enter, helm_give, user code, helm_take, leave.  While somebody is inside and nobody steers, the
 * standby does.
 */
void helm_enter_user_code(struct helm *helm);
void helm_leave_user_code(struct helm *helm);
/* While `wanted` calls outnumber releases, the standby steers at once when nobody else does (async completions outstanding). */
void helm_steer_in_background(struct helm *helm, bool wanted);

/*
 * An attendant: an event loop of somebody else's that watches loop_descriptor for helm_timeout_ms and then calls helm_turn, in
 * place of a steersman.  `ring` (helm held, any thread) must wake it by a way of its own: what it waits for has changed, or
 * is done already.  The standby then runs turns only where the attendant came too late: user code is inside, something
 * is due, and nobody has attended to it.  A null `ring` ends it.  Helm held, all three.
 */
void helm_attend(struct helm *helm, void (*ring)(void *owner), void *owner);
int  helm_timeout_ms(struct helm *helm); /* as loop_timeout_ms */
void helm_turn(struct helm *helm);       /* one turn that waits for nothing; not inside another */

#endif
