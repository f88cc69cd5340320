/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica: the mind inside a replica: which requests are accepted, in which batches user code gets
 * them, when draining is over.
 *
 * It alone judges max_ongoing_requests (R2): routers guess, this one knows.  Accepted requests that
 * user code has not taken wait in arrival order; taking forms batches of at most batch_size, at the
 * latest batch_wait after the first of them came (B1), of one method and one model id each.  Hot
 * mind: one function per event.
 *
 *   admit -> REJECTED
 *   admit -> HELD --release--> READY
 *   admit -> READY --take--> TAKEN --answered--> (none)
 *              |               ^ |
 *              |               | +--cancel--> TAKEN, cancelled (answered later)
 *              +--deadline--> EXPIRED --expired--> TAKEN (answer TIMEOUT)
 *              +--cancel--> (none; never taken)
 */
#ifndef MANTA_CORE_REPLICA_H
#define MANTA_CORE_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "id.h"
#include "text.h"
#include "trace.h"

struct replica;

struct replica_config {
    uint32_t max_ongoing;       /* requests accepted and not yet answered; >= 1 */
    uint32_t batch_size;        /* 1: no batching */
    int64_t batch_wait_ns;      /* from the first request of a batch */
    uint32_t batch_concurrency; /* batches in user code at once; >= 1 */
    const struct trace *trace;
};

struct replica *replica_new(const struct replica_config *config); /* null: memory */
struct replica *replica_free(struct replica *replica);
/* New limits; what is inside stays.  0, or ERROR_INVALID (a limit of 0, a negative wait) and
 * nothing changes. */
int replica_reconfigure(struct replica *replica, int64_t now_ns,
                        const struct replica_config *config);

enum replica_verdict { REPLICA_ACCEPTED, REPLICA_REJECTED_FULL, REPLICA_REJECTED_DRAINING };
struct replica_admit {
    struct request_id request; /* local id, not the sender's */
    int64_t deadline_ns;       /* 0: none */
    bool batched;              /* goes to the batch entry point */
    bool held;                 /* its body is not whole: not taken before replica_release */
    uint64_t method_hash;      /* batches hold one method */
    struct bytes model_id;     /* batches hold one model; copied */
};
/* When memory lacks the request is rejected as if the replica were full: another one may have room.
 */
enum replica_verdict replica_admit(struct replica *replica, int64_t now_ns,
                                   const struct replica_admit *admit);

/* The body of a held request is whole: it is READY, behind those that came meanwhile.  `model_id` as
 * when it was admitted: of a held request it is not kept. */
void replica_release(struct replica *replica, int64_t now_ns, struct request_id request,
                     struct bytes model_id);

/*
 * Up to `room` requests for user code, as one call: an unbatched one alone, or one batch.  0 when
 * nothing is due. What it returns is TAKEN.  *ret_batched says which entry point; a batch counts
 * until replica_batch_done.  Of what is due, what came first goes first.  Requests whose deadline
 * passed while READY are not given to user code: they come from replica_expired.  Call both until
 * they say no, after every event and when replica_deadline_ns is reached.
 */
uint32_t replica_take(struct replica *replica, int64_t now_ns, struct request_id *ret_requests,
                      uint32_t room, bool *ret_batched);
/* The next request whose deadline passed before user code took it (answer TIMEOUT, then
 * replica_answered); false when none. */
bool replica_expired(struct replica *replica, int64_t now_ns, struct request_id *ret_request);
/* Something may be due for replica_take now. */
bool replica_due(const struct replica *replica, int64_t now_ns);
/*
 * When replica_take, replica_expired or replica_drained would have more to say because time passed;
 * 0: not before the next event.  What was due at the last call is not said again: whoever had no
 * room to take it knows.
 */
int64_t replica_deadline_ns(const struct replica *replica);

/* The request was answered whole: its place is free.  Unknown ids are ignored (a cancelled READY
 * one is forgotten). */
void replica_answered(struct replica *replica, int64_t now_ns, struct request_id request);
/* A batch of user code returned (concurrency). */
void replica_batch_done(struct replica *replica, int64_t now_ns);

enum replica_cancel {
    REPLICA_CANCEL_UNKNOWN,
    REPLICA_CANCEL_DROPPED /* was held or READY: gone, user code never saw it */,
    REPLICA_CANCEL_NOTED /* is TAKEN: tell user code */
};
enum replica_cancel replica_cancel(struct replica *replica, int64_t now_ns,
                                   struct request_id request);

/* No more admissions; drained once nothing is accepted and unanswered, or `due_ns` passed. */
void replica_drain(struct replica *replica, int64_t now_ns, int64_t due_ns);
bool replica_draining(const struct replica *replica);
bool replica_drained(const struct replica *replica, int64_t now_ns);

uint32_t
replica_ongoing(const struct replica *replica);        /* the queue length that rides on answers */
uint32_t replica_ready(const struct replica *replica); /* of these, not taken */
void replica_check(const struct replica *replica);
void replica_dump(const struct replica *replica, struct text *out);

#endif
