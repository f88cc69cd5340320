/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router: the mind that decides which replica gets which request, and which request waits.
 *
 * Every owner of handles (a proxy, a program, a replica) has one.  It knows the newest routing
 * snapshot, how many requests it has out at each replica, the queue length that rode on each
 * replica's last answer, the models that each says it holds, and its own queue per deployment in
 * arrival order.  It decides with the
 * power of two choices on those lengths, never lets its own in-flight count at a replica exceed
 * max_ongoing (R2), never sends to a replica that the newest snapshot does not hold (R3), and wakes
 * the first waiting request the moment a slot frees: there is no back-off and no polling.
 *
 * A hot mind: one function per event.  Time and chance are arguments; decisions come back as
 * effects in a list that the caller performs in order.  Requests are known by id only.
 *
 *            submit          effect SEND              accepted answer
 *   (none) ----------> WAITING ----------> IN_FLIGHT ----------------> (none)
 *              |          ^  | cancel, deadline, refuse      |
 *              |          |  +--------------> (none)         |
 *              |          +----- rejected, replica gone before it was taken
 *              +--- refused: (none)
 */
#ifndef MANTA_CORE_ROUTER_H
#define MANTA_CORE_ROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "id.h"
#include "text.h"
#include "trace.h"

struct router;

struct router_config {
    uint32_t request_limit;   /* waiting and in flight together; past it LIMIT */
    int64_t silence_limit_ns; /* a replica that owes an answer or a pong for so long is not chosen
                                 until it answers */
    /* A request for a model waits up to once or twice this long (drawn at random) for a replica
     * that holds the model, or that holds the fewest; then it takes any.  0: it does not wait. */
    int64_t model_wait_ns;
    const struct trace *trace; /* null: off; must outlive the router */
};

/* What is believed of one replica; the wire has the same limits. */
enum { ROUTER_MODELS_LIMIT = 1024, ROUTER_MODEL_ID_LIMIT = 200 };

/* ---- the snapshot: what exists ---- */

struct router_snapshot_app {
    struct application_id id;
    struct bytes name, route_prefix; /* prefix empty: none */
    struct deployment_id ingress;
};
struct router_snapshot_deployment {
    struct deployment_id id;
    struct bytes app, name;
    uint32_t max_ongoing; /* >= 1 */
    int64_t max_queued;   /* -1: no limit */
    bool available;
    bool streams_body;
};
struct router_snapshot_replica {
    struct replica_id id;
    struct deployment_id deployment;
    struct bytes address;
};
struct router_snapshot {
    uint64_t version;
    const struct router_snapshot_app *apps;
    const struct router_snapshot_deployment *deployments;
    const struct router_snapshot_replica *replicas;
    uint32_t app_count, deployment_count, replica_count;
};

/* ---- effects ---- */

enum router_effect_type {
    ROUTER_SEND,    /* send `request` to `replica`; its state is IN_FLIGHT */
    ROUTER_REFUSE,  /* `request` is over with `code` (TIMEOUT, BUSY, UNAVAILABLE, NOT_FOUND, LIMIT,
                       MEMORY): answer it */
    ROUTER_CONNECT, /* a replica is new in the snapshot: connect to `address` (valid until the next
                       snapshot) */
    ROUTER_DISCONNECT, /* a replica is neither in the snapshot nor holds a request of ours: close
                          its channel and stop trying to connect; exactly one for each CONNECT */
    /* Ping `replica`; its pong comes back as router_replica_alive.  At most one between two signs
     * of life, and again each silence limit while it is silent.  The owner sends no pings of its
     * own: the router says when. */
    ROUTER_PROBE,
};
struct router_effect {
    enum router_effect_type type;
    struct request_id request;
    struct replica_id replica;
    int code;             /* of REFUSE: negative ERROR_ code */
    struct bytes address; /* of CONNECT */
};
/*
 * The caller's list, zeroed before first use; the caller performs the effects in order and sets
 * count to 0. Grows by itself.  When memory for that lacks, what does not fit is put off, not lost:
 * router_deadline_ns is then in the past and router_timer (or any other event) goes on.
 */
struct router_effects {
    struct router_effect *at;
    uint32_t count, capacity;
};
void router_effects_done(struct router_effects *effects);

/* ---- events ---- */

struct router *router_new(const struct router_config *config, uint64_t seed); /* null: memory */
struct router *router_free(struct router *router);

/* Swaps whole (R4: an older version is ignored).  0, or ERROR_MEMORY and the old one stays. Waiting
 * requests of vanished deployments are refused UNAVAILABLE; replicas that left are drained: nothing
 * more is sent. */
int router_snapshot(struct router *router, int64_t now_ns, const struct router_snapshot *snapshot,
                    struct router_effects *effects);
/* The connection to a replica stands (only now it is chosen). */
void router_connected(struct router *router, int64_t now_ns, struct replica_id replica,
                      struct router_effects *effects);

struct router_submit {
    struct request_id request;
    struct deployment_id deployment;
    int64_t deadline_ns;   /* 0: none */
    struct bytes model_id; /* empty: none, as is one longer than its limit; copied */
};
/*
 * Yields SEND or REFUSE for this request at once, or neither: it waits.  The index of the request's
 * id must be below request_limit, and the id must not be given out again before the router forgot
 * it: REFUSE, router_done, or router_cancel that returned false.  0, or ERROR_MEMORY when not even
 * a refusal could be noted: nothing happened.
 */
int router_submit(struct router *router, int64_t now_ns, const struct router_submit *submit,
                  struct router_effects *effects);
/* For `queue_length` when the replica did not say one: then the event is no sign of its life. */
#define ROUTER_LENGTH_UNKNOWN UINT32_MAX

/* The answer's head came: accepted; queue length as the replica says; may SEND waiting ones. */
void router_accepted(struct router *router, int64_t now_ns, struct request_id request,
                     uint32_t queue_length, struct router_effects *effects);
/* The request ended at its replica (answered whole, or failed there): the slot is free; may SEND
 * waiting ones. */
void router_done(struct router *router, int64_t now_ns, struct request_id request,
                 uint32_t queue_length, struct router_effects *effects);
/* The replica did not take it: back into the queue at its place of arrival, sent elsewhere when
 * possible.  When that makes the queue longer than max_queued, the youngest in it is refused BUSY.
 * `draining`: nothing more to that replica. */
void router_rejected(struct router *router, int64_t now_ns, struct request_id request,
                     uint32_t queue_length, bool draining, struct router_effects *effects);
/* The client is gone or cancelled: forgets the request wherever it is.  If it was in flight its
 * slot stays counted until router_done or router_rejected.  True when it was in flight (then send a
 * cancel). */
bool router_cancel(struct router *router, int64_t now_ns, struct request_id request,
                   struct router_effects *effects);
/*
 * The connection to a replica ended: nothing is sent there until router_connected.  Call this
 * first, then say for each request in flight there what becomes of it: router_rejected (it was not
 * taken) or router_done (it was).  (In the other order a freed slot would draw a waiting request to
 * the dead replica.)  A SEND to it that still stands in a list of effects is such a request too.
 */
void router_replica_gone(struct router *router, int64_t now_ns, struct replica_id replica,
                         struct router_effects *effects);
/* A pong: the replica lives, and this is its queue length. */
void router_replica_alive(struct router *router, int64_t now_ns, struct replica_id replica,
                          uint32_t queue_length, struct router_effects *effects);
/*
 * The replica says which models it holds now, all of them; with none it only says that it serves
 * many models.  What it said is believed until its next word or the end of the connection.  A
 * replica that never says anything is chosen without regard to models.
 */
void router_models(struct router *router, int64_t now_ns, struct replica_id replica,
                   const struct bytes *ids, uint32_t count, struct router_effects *effects);
/* Deadlines of waiting requests; how long they wait for their model; silence.  `late`: this turn
 * came too late, nobody is judged silent. */
void router_timer(struct router *router, int64_t now_ns, bool late, struct router_effects *effects);
int64_t router_deadline_ns(const struct router *router); /* 0: none */

/* ---- questions ---- */

/* Longest prefix (a prefix matches when it ends with '/', equals the path, or the next character is
 * '/'); *ret_prefix is valid until the next snapshot. */
bool router_route(const struct router *router, struct bytes path,
                  struct deployment_id *ret_deployment, struct bytes *ret_prefix,
                  struct bytes *ret_app);
bool router_find_deployment(const struct router *router, struct bytes app, struct bytes name,
                            struct deployment_id *ret_deployment);
bool router_find_app(const struct router *router, struct bytes app,
                     struct deployment_id *ret_ingress);
/* Null when unknown; valid until the next snapshot. */
const struct router_snapshot_deployment *router_deployment(const struct router *router,
                                                           struct deployment_id id);
uint64_t router_version(const struct router *router); /* 0: no snapshot yet */
/* Apps in the order of the snapshot, for /-/routes. */
uint32_t router_app_count(const struct router *router);
const struct router_snapshot_app *router_app_at(const struct router *router, uint32_t index);
uint32_t router_waiting(const struct router *router, struct deployment_id deployment);
uint32_t router_in_flight(const struct router *router, struct deployment_id deployment);
uint32_t router_ready_replicas(const struct router *router, struct deployment_id deployment);

void router_check(const struct router *router); /* R1 R2 R3 R4, M1 */
void router_dump(const struct router *router, struct text *out);

#endif
