/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_inner: the shapes that the sources of the replica mind share.
 *
 * A state is the list you are on: READY requests hang on `ready` (unbatched) or on their group
 * (batched), EXPIRED ones on `expired`, TAKEN ones on `taken`.  A group holds what may go into one
 * batch: one method, one model id.  Non-empty groups stand in `groups`, by the arrival of their
 * first request, which is also the order in which they fall due; those with enough for a whole
 * batch stand in `full` too.  Empty groups wait in `spare` for the next method or model.
 */
#ifndef MANTA_CORE_REPLICA_INNER_H
#define MANTA_CORE_REPLICA_INNER_H

#include "ensure.h"
#include "heap.h"
#include "list.h"
#include "replica.h"

enum {
    REPLICA_CHUNK_COUNT = 64,  /* requests that get their memory at once; they never move */
    REPLICA_BUCKET_COUNT = 64, /* of the table of groups; a power of two */
    REPLICA_SPARE_LIMIT = 64,  /* empty groups that are kept */
};

enum replica_request_state {
    REPLICA_REQUEST_NONE,    /* the slot is free */
    REPLICA_REQUEST_HELD,    /* on replica->held: accepted, its body is not whole */
    REPLICA_REQUEST_READY,   /* on replica->ready, or on group->requests */
    REPLICA_REQUEST_EXPIRED, /* on replica->expired: the deadline passed first */
    REPLICA_REQUEST_TAKEN, /* on replica->taken: with user code, or about to be answered TIMEOUT */
};

struct replica_request {
    struct list_link link; /* on the list of its state */
    struct heap_link due;  /* in replica->deadlines while HELD or READY with a deadline */
    struct request_id id;  /* whole id, as the owner knows it */
    enum replica_request_state state;
    bool cancelled;              /* TAKEN, and its sender wants no answer any more */
    bool batched;                /* HELD: what it will be */
    uint64_t method_hash;        /* HELD and batched */
    uint64_t arrival;            /* order of admission, or of release */
    int64_t came_ns;             /* time of admission */
    struct replica_group *group; /* READY and batched; else null */
};

struct replica_group {
    struct list_link link; /* on replica->buckets[], or replica->spare while empty */
    struct heap_link
        by_arrival; /* in replica->groups while not empty; key: came_ns of its first request */
    struct heap_link by_fullness; /* in replica->full while it holds a whole batch; key: arrival of
                                     its first request */
    struct list requests;         /* READY, in order of arrival */
    uint64_t method_hash;
    uint64_t hash;     /* of method and model */
    uint8_t *model_id; /* own copy; its memory is kept with the group */
    size_t model_id_size, model_id_capacity;
};

struct replica {
    uint32_t max_ongoing, batch_size, batch_concurrency;
    int64_t batch_wait_ns;
    const struct trace *trace;
    /* Requests by the index of their id. */
    struct replica_request **chunks;
    uint32_t chunk_count, chunk_capacity; /* chunks with memory; pointers */
    uint32_t ongoing;                     /* accepted and not answered */
    uint32_t overhang; /* of these, how many were inside when max_ongoing sank below them */
    uint64_t arrival;  /* of the newest request */
    struct list held;
    struct list ready;   /* unbatched, in order of arrival */
    struct list expired; /* not told yet */
    struct list taken;
    struct list buckets[REPLICA_BUCKET_COUNT]; /* non-empty groups by hash */
    struct list spare;                         /* empty groups */
    struct heap groups;                        /* non-empty ones */
    struct heap full;                          /* those with batch_size requests or more */
    struct heap deadlines;                     /* of READY requests */
    uint32_t group_count;                      /* all, the spare ones too */
    uint32_t ready_batched;                    /* READY requests in groups */
    uint32_t batches_out;                      /* batches in user code */
    int64_t seen_ns;                           /* the latest time of any call */
    int64_t drain_due_ns;                      /* when draining ends in any case */
    bool draining;
};

struct replica_name {
    char text[32];
};
/* "q3", or "q3.2" for the second owner of slot 3. */
struct replica_name replica_request_name(struct request_id id);

/* replica_batch.c */
/* Room for one more group in the heaps, and the group itself; null when memory lacks. */
struct replica_group *replica_group_for(struct replica *replica, uint64_t method_hash,
                                        struct bytes model_id);
void replica_group_add(struct replica *replica, struct replica_group *group,
                       struct replica_request *request);
/* Takes a READY request out of its group; the group goes to the spare ones when it was the last. */
void replica_group_remove(struct replica *replica, struct replica_request *request);
/* A group whose batch is due; null when none is, or when no more batches may be out. */
struct replica_group *replica_group_due(const struct replica *replica, int64_t now_ns);
/* When the next batch falls due because time passed; INT64_MAX: not by time. */
int64_t replica_group_due_ns(const struct replica *replica);
/* Limits changed: which groups hold a whole batch. */
void replica_groups_sort(struct replica *replica);
void replica_groups_done(struct replica *replica);
struct replica_request *replica_group_first(const struct replica_group *group);

/* replica.c */
struct replica_request *replica_slot(const struct replica *replica,
                                     uint32_t index); /* null: no memory there yet */

#endif
