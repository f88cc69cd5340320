/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_watch: an event loop that is not ours, as the attendant of the helm (helm.h).
 *
 * It watches an epoll descriptor that holds two others: the loop's, and a bell that only this door
 * reads.  The bell tells of what another thread has read off the network already (requests to take,
 * events), of a turn that is due earlier than the attendant thinks, and of whatever a runner rings
 * it for.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "door.h"
#include "ensure.h"

void door_ring(void *owner)
{
    struct manta_taker *leader = ((struct manta_taker *)owner)->leader;
    uint64_t one = 1;
    if (leader->bell < 0 || leader->rung)
        return;
    leader->rung = write(leader->bell, &one, sizeof one) == sizeof one;
}

static void read_bell(struct manta_taker *leader)
{
    uint64_t count;
    if (leader->rung && read(leader->bell, &count, sizeof count) == sizeof count)
        leader->rung = false;
}

static bool hold(int epoll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

int manta_taker_watch(struct manta_taker *taker, struct manta_error *reterr)
{
    struct manta_taker *leader = taker->leader;
    struct runtime *runtime = leader->replica.runtime;
    int code = 0;
    bool nested = runtime_enter(runtime);
    if (leader->descriptor < 0) {
        leader->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        leader->descriptor = epoll_create1(EPOLL_CLOEXEC);
        if (leader->bell >= 0 && leader->descriptor >= 0 &&
            hold(leader->descriptor, leader->bell) &&
            hold(leader->descriptor, loop_descriptor(runtime->loop))) {
            helm_attend(runtime->helm, door_ring, leader);
            door_ring(leader); /* what has come before */
        } else {
            code = manta_error_set(reterr, MANTA_ESYSTEM, "no descriptor to watch: %s",
                                   strerror(errno));
            door_unwatch(leader);
        }
    }
    runtime_leave(runtime, nested);
    return code;
}

/* Helm held. */
void door_unwatch(struct manta_taker *taker)
{
    if (taker->descriptor >= 0 && taker->bell >= 0)
        helm_attend(taker->replica.runtime->helm, NULL, NULL);
    if (taker->descriptor >= 0)
        close(taker->descriptor);
    if (taker->bell >= 0)
        close(taker->bell);
    taker->descriptor = taker->bell = -1;
}

int manta_taker_descriptor(const struct manta_taker *taker)
{
    return taker->leader->descriptor;
}

int manta_taker_timeout_ms(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    int timeout_ms = helm_timeout_ms(taker->replica.runtime->helm);
    runtime_leave(taker->replica.runtime, nested);
    return timeout_ms;
}

void manta_taker_turn(struct manta_taker *taker)
{
    struct manta_taker *leader = taker->leader;
    struct helm *helm = leader->replica.runtime->helm;
    if (helm_held(helm))
        return; /* inside a function that a turn has called */
    helm_take(helm);
    read_bell(leader);
    leader->turning = taker;
    helm_turn(helm);
    leader->turning = NULL;
    helm_give(helm);
}

void manta_taker_ring(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    door_ring(taker);
    runtime_leave(taker->replica.runtime, nested);
}
