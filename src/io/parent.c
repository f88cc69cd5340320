/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parent: the end of a node, seen by its children.
 *
 * A child leads its own session, so that its process group holds its descendants; none of them may
 * outlive the node.
 */
#include "parent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "ensure.h"
#include "socket.h"

int parent_take_descriptor(void)
{
    const char *value = getenv(PARENT_VARIABLE);
    int descriptor = value ? atoi(value) : -1;
    unsetenv(PARENT_VARIABLE);
    if (descriptor <= STDERR_FILENO || fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    return descriptor;
}

static void parent_ready(void *owner, int events)
{
    struct parent *parent = owner;
    char byte;
    ssize_t size = socket_read(parent->descriptor, &byte, sizeof byte);
    (void)events;
    if (size > 0 || size == -EAGAIN)
        return;
    void (*ended)(void *) = parent->ended;
    void *ended_owner = parent->owner;
    parent_close(parent);
    ended(ended_owner);
}

int parent_watch(struct parent *parent, struct loop *loop, int descriptor,
                 void (*ended)(void *owner), void *owner)
{
    ensure(ended);
    *parent = (struct parent){.descriptor = descriptor, .ended = ended, .owner = owner};
    if (descriptor < 0)
        return 0;
    return loop_watch_open(loop, &parent->watch, descriptor, LOOP_READ, parent_ready, parent);
}

void parent_close(struct parent *parent)
{
    if (!parent->watch.handle)
        return;
    loop_watch_close(&parent->watch);
    socket_close(parent->descriptor);
    parent->descriptor = -1;
}

void parent_follow(void)
{
    if (getpgrp() == getpid())
        kill(0, SIGKILL);
    _exit(1);
}
