/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forks: a program that forks after it began to use Manta.
 *
 * The child has the parent's memory and descriptors, but none of its threads; locks may be held by
 * threads that are not there.  So whatever was made before the fork is dead in the child: calls on it
 * give MANTA_ECLOSED and touch nothing, ending it does nothing.  The child may start or join an
 * instance of its own.  Descriptors whose end of file means that the parent is gone are closed in it.
 */
#ifndef MANTA_API_FORKS_H
#define MANTA_API_FORKS_H

#include "list.h"

#define FORKS_TEXT                                                                                 \
    "this process is a fork of the one that uses the instance: start or join one here"

/* Forks between the first process that asked and this one: what has another number was made before
 * one. */
unsigned forks_seen(void);

/* A descriptor that the child of a fork shall not have. */
struct forks_descriptor {
    struct list_link link;
    int descriptor;
};
void forks_keep(struct forks_descriptor *kept, int descriptor);
void forks_drop(struct forks_descriptor *kept); /* before it is closed; may not have been kept */

#endif
