/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime: what a process that holds handles has once per instance it knows: settings, a loop under
 * a helm, channels, and a dispatch that is made when the first handle is.
 *
 * A replica has one, and so has a program that started or joined an instance.  Everything in it is
 * touched with the helm held.  User callbacks (done, cancelled, room) run with the helm held by
 * this thread: API functions called from inside them see that (runtime_enter returns nested) and
 * must not wait.
 */
#ifndef MANTA_API_RUNTIME_H
#define MANTA_API_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "dispatch.h"
#include "error.h"
#include "helm.h"
#include "list.h"
#include "loop.h"
#include "settings.h"

struct runtime {
    atomic_uint references;
    struct settings settings;
    struct loop *loop;
    struct helm *helm;
    struct channel_set channels;
    struct parcel_desk *desk;  /* where buffers come from and how they travel */
    struct dispatch *dispatch; /* null until the first handle */
    struct loop_turn turn;     /* pulls the dispatch's events */
    struct list calls;         /* struct manta_call, not over */
    bool pulling;              /* inside runtime_pull */
    bool closed;               /* no new calls */
    unsigned forks;            /* forks_seen when it was made */
    uint8_t role;              /* enum wire_role */
    char name[96];             /* for hellos */
    char controller_socket[108];
};

/* One reference. Settings come from the table and the environment. */
struct runtime *runtime_new(const char *controller_socket, uint8_t role, const char *name,
                            struct error *reterr);
struct runtime *runtime_ref(struct runtime *runtime);
struct runtime *
runtime_unref(struct runtime *runtime); /* helm not held; null is fine; returns null */
/* Gives back a reference that is not the last one (helm held or not). */
void runtime_drop(struct runtime *runtime);
/* Was it made before a fork of this process?  Then nothing of it may be touched (forks.h). */
bool runtime_is_foreign(const struct runtime *runtime);
/* The dispatch, made on first use (helm held). */
struct dispatch *runtime_dispatch(struct runtime *runtime, struct error *reterr);

/* Takes the helm unless this thread holds it already; the answer goes to runtime_leave. */
bool runtime_enter(struct runtime *runtime);
void runtime_leave(struct runtime *runtime, bool nested);
/* Takes every event of the dispatch and completes calls (helm held). */
void runtime_pull(struct runtime *runtime);
/* Ends every call with ERROR_CLOSED and refuses new ones (helm held). */
void runtime_close(struct runtime *runtime);
/* The moment `timeout_s` from now, for waits and deadlines; 0, which is never, when it is negative,
 * more than a human life or no number (helm held). */
int64_t runtime_due_ns(struct runtime *runtime, double timeout_s);

struct manta_error;
/* Copies an inner error into a public one (null is fine) and returns the code. */
int runtime_error(struct manta_error *reterr, const struct error *error);

#endif
