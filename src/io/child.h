/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: processes of ours: spawn, watch by pidfd, end, reap.
 *
 * Our own spawn, since libuv's hides the pid race and its signal handler would change dispositions of a library's
 * host.  A child lives in its own session (setsid), reads /dev/null, gets exactly the descriptors it is given (everything
 * else is closed by its exec), the soft NOFILE limit asked for, an oom_score_adj, default signal dispositions and no
 * core dumps by default.  When a child ends, what is left of its process group is killed.
 */
#ifndef MANTA_IO_CHILD_H
#define MANTA_IO_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "list.h"
#include "loop.h"

enum { CHILD_DESCRIPTOR_LIMIT = 64 }; /* given to one child */

struct child_descriptor {
    int source; /* here */
    int target; /* number in the child, >= 3 */
};

struct child_spawn {
    const char                    *path;        /* absolute executable */
    const char *const             *arguments;   /* argv, null-terminated */
    const char *const             *environment; /* null: ours */
    const char                    *directory;   /* null: ours */
    const struct child_descriptor *descriptors; /* beside 0, 1, 2 */
    size_t                         descriptor_count;
    int                            output, error_output; /* -1: inherit */
    uint64_t                       nofile_soft; /* 0: as ours was before it was raised */
    int                            oom_score_adj; /* 0: leave */
    bool                           core_dumps;
};

/* Zeroed before first use.  The exit function is called once, when the child is reaped and closed; it may free it. */
struct child {
    struct loop_watch watch; /* on the pidfd */
    struct list_link  link;  /* on the list of those that child_reap_orphans leaves alone */
    pid_t             pid;   /* 0 when none */
    int               pidfd; /* -1 when none */
    void            (*exit)(void *owner, struct child *child, int exit_code, int signal_number); /* exit_code -1 when by signal */
    void             *owner;
};

/* Starts and watches; without a loop it only starts, and the caller reaps.  A failed exec is reported here, not as an exit. */
int  child_start(struct child *child, struct loop *loop, const struct child_spawn *spawn,
                 void (*exit)(void *owner, struct child *child, int exit_code, int signal_number), void *owner,
                 struct error *reterr);
/*
 * Watches a process that is not (any more) our child: exit status unknown (exit_code -1, signal 0), unless it has
 * become ours because we adopt orphans.  ERROR_NOT_FOUND when there is none.
 */
int  child_adopt(struct child *child, struct loop *loop, pid_t pid,
                 void (*exit)(void *owner, struct child *child, int exit_code, int signal_number), void *owner,
                 struct error *reterr);
/* To the process; `whole_session` also to its process group, so that its descendants end with it. */
void child_signal(struct child *child, int signal_number, bool whole_session);
void child_close(struct child *child); /* stops watching; does not end the process */

/* When it started, in the kernel's ticks since the machine did: with it a process id means one process.  0: there is none. */
uint64_t child_start_time(pid_t pid);

/* This process: raise the soft NOFILE limit to the hard one (remembering the old for children). */
void child_raise_nofile(void);
/* Orphaned descendants become our children.  0 or -errno. */
int child_become_subreaper(void);
/*
 * Reaps dead children that no struct child knows, status as from waitpid; `reaped` may be null.  The exit of a known one
 * that stands before them is told at once.  Not in a process that has children of somebody else.
 */
void child_reap_orphans(void (*reaped)(void *owner, pid_t pid, int status), void *owner);

#endif
