/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parent: how a process of an instance notices that its node is gone, and finds the next one.
 *
 * The node gives every child the same end of a socket pair, whose number stands in the environment
 * (PARENT_VARIABLE), and keeps the other end to itself: when the node ends, however that happens,
 * the children read an end of file.  Nothing is ever sent over it.  (PDEATHSIG would speak of the
 * thread that forked.)
 *
 * In a private instance that is their end.  In a service, where the node's socket stands in the
 * environment too, they serve on and try that socket until another node answers:
 *
 *     TIED --end of file--> AWAY --a node takes the greeting--> TIED
 *                            '--away_limit_ms--> `ended`
 *
 * Each greeting brings the node a descriptor that only its processes can keep for it: a listening
 * socket, or the end from which a replica's stderr is read.  While there is no node the replica
 * reads that itself, so that nothing that writes there ever waits or fails.
 */
#ifndef MANTA_IO_PARENT_H
#define MANTA_IO_PARENT_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "instance.h"
#include "loop.h"

#define PARENT_VARIABLE        "MANTA_PARENT_DESCRIPTOR"
#define PARENT_SOCKET_VARIABLE "MANTA_PARENT_SOCKET" /* of a service's node */
#define PARENT_WORDS_VARIABLE  "MANTA_WORDS_DESCRIPTOR"

enum {
    PARENT_DESCRIPTOR = 9, /* their numbers in the children */
    PARENT_WORDS = 8,
};

/* What the node gave. */
struct parent_bond {
    int descriptor;                  /* the end of the pair; -1: none (started by hand) */
    int words;                       /* where stderr is read; -1: not in this process */
    char socket[INSTANCE_PATH_SIZE]; /* the node's, of a service; else empty */
};

/* What is said to a node that comes later. */
struct parent_greeting {
    struct bytes bytes;
    int descriptor;         /* goes along, and stays the caller's; -1: none, or the bond's words */
    int64_t away_limit_ms;  /* without a node, after which `ended` is called; 0: never */
};

/* Zeroed before first use. */
struct parent {
    struct loop *loop;
    struct loop_watch watch;       /* on the pair, or on the connection to a later node */
    struct loop_watch words_watch; /* while there is no node */
    struct loop_timer timer;       /* AWAY: the next attempt */
    struct parent_bond bond;
    struct parent_greeting greeting; /* its bytes are a copy */
    bool welcomed;                   /* the node on the connection has answered */
    int64_t away_ns;                 /* since when there is no node; 0: there is one */
    int64_t pause_ms;                /* before the next attempt */
    void (*ended)(void *owner);
    void *owner;
};

/*
 * Out of the environment, and closed to what this process executes.  Called before there are
 * threads.
 */
void parent_take_bond(struct parent_bond *ret_bond);
/*
 * Calls `ended` once, when the node is gone for good.  Without a descriptor nothing is watched.  A
 * greeting of null: without a node this process does not stay.  0 or -errno.
 */
int parent_watch(struct parent *parent, struct loop *loop, const struct parent_bond *bond,
                 const struct parent_greeting *greeting, void (*ended)(void *owner), void *owner);
void parent_close(struct parent *parent);
/* Ends this process and everything in its process group, at once: after the node's end. */
_Noreturn void parent_follow(void);

#endif
