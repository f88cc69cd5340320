/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parent: how a process of an instance notices that its node is gone.
 *
 * The node gives every child the same end of a socket pair, whose number stands in the environment
 * (PARENT_VARIABLE), and keeps the other end to itself: when the node ends, however that happens,
 * the children read an end of file.  Nothing is ever sent over it.  (PDEATHSIG would speak of the
 * thread that forked.)
 */
#ifndef MANTA_IO_PARENT_H
#define MANTA_IO_PARENT_H

#include "loop.h"

#define PARENT_VARIABLE "MANTA_PARENT_DESCRIPTOR"

enum { PARENT_DESCRIPTOR = 9 /* its number in the children */ };

/* Zeroed before first use. */
struct parent {
    struct loop_watch watch;
    int descriptor;
    void (*ended)(void *owner);
    void *owner;
};

/*
 * The descriptor that the node gave, out of the environment and closed to what this process
 * executes; -1 when there is none (started by hand).  Called before there are threads.
 */
int parent_take_descriptor(void);
/* Calls `ended` once, when the node is gone.  A descriptor of -1 watches nothing.  0 or -errno. */
int parent_watch(struct parent *parent, struct loop *loop, int descriptor,
                 void (*ended)(void *owner), void *owner);
void parent_close(struct parent *parent);
/* Ends this process and everything in its process group, at once: after the node's end. */
_Noreturn void parent_follow(void);

#endif
