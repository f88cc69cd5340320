/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_inner: the shapes that the sources of the router mind share.
 *
 * A state is the list you are on.  A request that the router knows hangs on exactly one list:
 * `waiting` of its deployment, in order of arrival, or `requests` of the replica that has it.  A
 * replica of the newest snapshot hangs on one list of its deployment, one per place:
 *
 *     APART     no connection                             --- router_connected --->  by the numbers
 *     OPEN      can take a request                        also in the array `open`, for choosing at
 * random FULL      holds max_ongoing requests of ours        an answer of ours opens it CROWDED
 * full by what it last said of others       its next word opens it, or patience (below) SILENT left
 * a probe unanswered                   any sign of life opens it DRAINING  said that it drains
 * nothing but the snapshot without it LEAVING   is not in the snapshot any more; on router->leaving
 * until our last request there has ended
 *
 * router_settle is the only function that moves a replica: it derives the place from the facts.  It
 * follows that no request waits while a replica of its deployment is OPEN (unless memory for an
 * effect lacked: `stuck`).  But a *picky* request, one that still insists on its model, waits on
 * its model's line while no replica that holds the model is OPEN and none that holds the fewest is.
 *
 * What a replica said of others gets old while nobody of ours talks to it.  So while requests wait,
 * a CROWDED replica is asked again after a patience of 5 ms that doubles up to 80 ms each time it
 * is still full: with a probe when it holds requests of ours, with the next waiting request itself
 * when it holds none.
 */
#ifndef MANTA_CORE_ROUTER_INNER_H
#define MANTA_CORE_ROUTER_INNER_H

#include "ensure.h"
#include "heap.h"
#include "list.h"
#include "rng.h"
#include "router.h"

enum {
    ROUTER_CHUNK_COUNT = 256, /* requests that get their memory at once; they never move */
};
static const int64_t ROUTER_PATIENCE_LEAST_NS = 5 * 1000 * 1000;
static const int64_t ROUTER_PATIENCE_MOST_NS = 80 * 1000 * 1000;
/* Numbers of others that are older than this count as none when two replicas are compared. */
static const int64_t ROUTER_KNOWLEDGE_NS = 1000 * 1000 * 1000;

enum router_request_state {
    ROUTER_REQUEST_NONE,      /* the slot is free */
    ROUTER_REQUEST_WAITING,   /* on deployment->waiting, or on model->waiting while it is picky */
    ROUTER_REQUEST_IN_FLIGHT, /* on replica->requests */
    ROUTER_REQUEST_GIVEN_UP,  /* on replica->requests; its client is gone */
};

struct router_request {
    struct list_link link; /* on the list of its state */
    struct heap_link due;  /* in router->deadlines while it waits and has a deadline or is picky */
    struct request_id id;  /* whole id, as the owner knows it */
    enum router_request_state state;
    uint64_t arrival; /* order of submission; a returned request goes back to it */
    struct router_deployment *deployment;
    struct router_replica *replica; /* null while waiting */
    int64_t deadline_ns;            /* 0: none */
    struct router_model *model;     /* null: none */
    struct router_holding *holding; /* counts it while it is in flight; null: nobody does */
    int64_t since_ns;               /* of submission */
    int64_t window_ns;              /* until when it insists on its model; 0: not drawn yet */
    bool relaxed;                   /* takes any replica */
};

/* Waiting requests in order of arrival. */
struct router_line {
    struct list requests;
    struct router_request *returned; /* the last one put back, a hint where to look; may be null */
};

/* An id that somebody holds or some request names, of one deployment. */
struct router_model {
    struct list_link link;   /* in its bucket of the router, or on router->spare_models */
    struct heap_link wanted; /* in deployment->wanted while its line is not empty; key: arrival of
                                the first */
    struct router_deployment *deployment;
    struct router_line waiting; /* the picky ones */
    struct router_holding **holders;
    uint32_t holder_count, holder_capacity;
    uint32_t request_count; /* requests that name it */
    uint64_t hash;
    uint8_t *id; /* own copy; its memory is kept with the model */
    size_t id_size, id_capacity;
};

/* That a replica holds a model. */
struct router_holding {
    struct list_link link; /* on replica->holdings, or router->spare_holdings */
    struct router_replica *replica;
    struct router_model *model;
    uint32_t index;     /* in model->holders */
    uint32_t in_flight; /* our requests for the model there */
    bool told;          /* the replica said so; else presumed because of in_flight */
    bool fresh;         /* in the set that is being read */
};

enum router_place {
    ROUTER_PLACE_APART,
    ROUTER_PLACE_OPEN,
    ROUTER_PLACE_FULL,
    ROUTER_PLACE_CROWDED,
    ROUTER_PLACE_SILENT,
    ROUTER_PLACE_DRAINING,
    ROUTER_PLACE_COUNT, /* places of a deployment; the next is the router's */
    ROUTER_PLACE_LEAVING = ROUTER_PLACE_COUNT,
};

struct router_replica {
    struct list_link link; /* deployment->places[place], or router->leaving */
    struct heap_link due;  /* in router->replica_dues: not later than router_replica_due_ns */
    struct replica_id id;
    struct router_deployment *deployment;
    struct list requests; /* ours, in flight there; its length is "in flight" */
    struct list holdings; /* models that it holds */
    uint32_t told_count;  /* of these, those it told */
    enum router_place place;
    uint32_t open_index; /* in deployment->open while OPEN */
    /* What it said. */
    uint32_t others;     /* requests of other senders there, by its last word */
    int64_t told_ns;     /* when that was */
    int64_t patience_ns; /* how long its last word is believed while requests wait; 0: the least */
    int64_t quiet_ns;  /* its last sign of life, or when it began to owe one, whichever is later */
    int64_t probed_ns; /* when the last probe was sent */
    /* Facts. */
    bool tells;       /* it said which models it holds, perhaps none */
    bool asked;       /* while CROWDED: by a probe or a request, and it has not said yet */
    bool probed;      /* a probe was sent since its last sign of life */
    bool in_snapshot; /* the newest */
    bool announced;   /* CONNECT was said, DISCONNECT was not */
    bool connected;
    bool draining; /* it said so */
    bool silent;   /* judged */
};

struct router_deployment {
    struct list_link link; /* router->deployments, or router->vanished */
    struct deployment_id id;
    const struct router_snapshot_deployment *row; /* in the newest snapshot; null: vanished */
    uint32_t max_ongoing;                         /* of the row, at least 1 */
    uint32_t in_flight;                           /* requests on `requests` of its replicas */
    uint32_t replica_count;                       /* replicas that point here */
    struct list places[ROUTER_PLACE_COUNT];       /* its replicas in the newest snapshot */
    struct router_line waiting;   /* its requests that no replica has and any may get */
    struct heap wanted;           /* models with picky requests, by the arrival of their first */
    uint32_t picky_count;         /* requests that wait on the lines of models */
    uint32_t model_count;         /* models that point here */
    uint32_t teller_count;        /* replicas that tell their models */
    uint32_t fewest;              /* models told by the routable replica that told the fewest */
    bool fewest_stale;            /* and it must be counted anew */
    bool shifted;                 /* since the last flush who holds the fewest may have changed */
    struct router_replica **open; /* the OPEN replicas, in any order; in the block */
    uint32_t open_count, open_capacity;
    uint64_t overhang; /* requests that waited when a snapshot lowered max_queued; they stay */
};

/* From a 64-bit key to pointers; the same key may stand more than once.  Open addressing; built
 * once, never grown. */
struct router_slot {
    uint64_t key; /* 0: free */
    void *value;  /* null: taken out */
};
struct router_index {
    struct router_slot *slots;
    uint64_t mask; /* slots - 1 */
};

/* Everything that is copied out of one snapshot, in one piece of memory. */
struct router_block {
    uint64_t version;
    uint32_t app_count, deployment_count, replica_count;
    struct router_snapshot_app *apps;
    struct router_snapshot_deployment *deployments;
    struct router_snapshot_replica *replicas;
    struct router_deployment *
        *live_deployments; /* of the rows; null: a row that says nothing new or sound */
    struct router_replica **live_replicas; /* likewise */
    struct router_replica **open;          /* room for every deployment's array */
    struct router_index by_deployment;     /* id to struct router_deployment, those of the rows */
    struct router_index by_replica;        /* id to struct router_replica, those that leave too */
    struct router_index by_name;           /* app and name to a deployment row */
    struct router_index by_app;            /* name to an app row */
    struct router_index by_prefix;         /* route prefix to an app row */
    uint64_t prefix_sizes;                 /* bit n % 64: there is a prefix of n bytes */
    size_t prefix_longest;
};

struct router {
    uint32_t request_limit;
    int64_t silence_limit_ns;
    int64_t model_wait_ns;
    const struct trace *trace;
    struct rng rng;
    struct router_block *block; /* null: no snapshot yet */
    /* Requests by the index of their id. */
    struct router_request **chunks;
    uint32_t chunk_count, chunk_capacity;  /* chunks with memory; pointers */
    uint32_t known_count;                  /* requests that are not NONE */
    uint64_t arrival;                      /* of the newest request */
    struct list deployments;               /* of the snapshot, in its order */
    struct list vanished;                  /* not in the snapshot, requests still out */
    struct list leaving;                   /* replicas */
    uint32_t waiting_count, replica_count; /* of all deployments; of all replicas known */
    struct heap deadlines;                 /* of waiting requests, and the ends of pickiness */
    struct heap replica_dues;              /* when to look at a replica again */
    struct list *buckets;                  /* models by hash; null: none yet */
    uint32_t bucket_count, model_count;
    struct list spare_models, spare_holdings;
    int64_t sign_ns; /* the last sign of life of any replica */
    bool stuck;      /* an effect found no memory: go on at the next event */
};

struct router_name {
    char text[32];
};
/* "q3", or "q3.2" for the second owner of slot 3. */
struct router_name router_request_name(struct request_id id);

/* router_effect.c */
int router_effects_reserve(struct router_effects *effects, uint32_t more); /* 0, or -1: memory */
/* Each adds its effect and narrates it; false when memory lacks: nothing happened, and the router
 * is stuck. */
bool router_say_send(struct router *router, struct router_request *request,
                     struct router_replica *replica, struct router_effects *effects);
bool router_say_refuse(struct router *router, struct request_id request, int code,
                       struct router_effects *effects);
bool router_say_connect(struct router *router, struct router_replica *replica, struct bytes address,
                        struct router_effects *effects);
bool router_say_disconnect(struct router *router, struct router_replica *replica,
                           struct router_effects *effects);
bool router_say_probe(struct router *router, struct router_replica *replica,
                      struct router_effects *effects);

/* router_place.c: replicas and where they stand */
static inline uint32_t router_held(const struct router_replica *replica)
{
    return (uint32_t)replica->requests.length;
}
/* Moves a replica to the place that the facts say, and arms its timer. */
void router_settle(struct router *router, struct router_replica *replica);
/* A new connection, or none: what the replica said before means nothing. */
void router_reset(struct router *router, struct router_replica *replica, int64_t now_ns);
/* The replica said its number: a sign of life.  Nothing happens when nobody said one, or the
 * connection is lost. */
void router_learn(struct router *router, int64_t now_ns, struct router_replica *replica,
                  uint32_t queue_length);
/* Its last word was "full": when it was asked for it, the next question comes twice as late. */
void router_lose_patience(struct router_replica *replica);
/* The last word of a CROWDED replica is too old: asks again. */
void router_ask(struct router *router, int64_t now_ns, struct router_replica *replica,
                struct router_effects *effects);
/* A request wants a replica and none is OPEN: asks one whose last word is too old, sees that the
 * others are asked in time. */
void router_hunt(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                 struct router_effects *effects);
/* Says DISCONNECT and frees it when it leaves and holds nothing of ours. */
void router_release(struct router *router, struct router_replica *replica,
                    struct router_effects *effects);

/* router_choose.c: the better of two that are OPEN and fit the request's model; null when none
 * does. */
struct router_replica *router_choose(struct router *router, int64_t now_ns,
                                     struct router_deployment *deployment,
                                     const struct router_request *request);

/* router_holding.c: which replica holds which model */
/* Made when it is not there; null when memory lacks. */
struct router_model *router_model_for(struct router *router, struct router_deployment *deployment,
                                      struct bytes id);
/* When nobody holds it and no request names it. */
void router_model_release(struct router *router, struct router_model *model);
/* The request goes to this replica: it will hold the model. */
void router_presume(struct router *router, struct router_request *request,
                    struct router_replica *replica);
/* It is there no longer: what the replica told counts again. */
void router_presume_no_more(struct router *router, struct router_request *request);
void router_hear_models(struct router *router, struct router_replica *replica,
                        const struct bytes *ids, uint32_t count);
/* What it told means nothing any more. */
void router_forget_models(struct router *router, struct router_replica *replica);
/* Who is routable, or how many models one told, has changed. */
void router_shift(struct router_deployment *deployment);
/* Told models of the routable replica that has the fewest; UINT32_MAX when none is routable. */
uint32_t router_fewest(struct router_deployment *deployment);
void router_models_done(struct router *router);

/* router_queue.c: requests and where they wait */
struct router_request *router_slot(const struct router *router,
                                   uint32_t index); /* null: no memory there yet */
struct router_request *router_find(const struct router *router, struct request_id id);
/* Null when memory lacks. */
struct router_request *router_remember(struct router *router, const struct router_submit *submit,
                                       struct router_deployment *deployment);
void router_forget(struct router *router, struct router_request *request);
/* At its place of arrival, on the line where it belongs. */
void router_wait(struct router *router, int64_t now_ns, struct router_request *request);
/* It has insisted on its model long enough. */
void router_relax(struct router *router, int64_t now_ns, struct router_request *request,
                  struct router_effects *effects);
static inline size_t router_waits(const struct router_deployment *deployment)
{
    return deployment->waiting.requests.length + deployment->picky_count;
}
/* False when memory lacks: then it waits or is as it was. */
bool router_send(struct router *router, int64_t now_ns, struct router_request *request,
                 struct router_replica *replica, struct router_effects *effects);
void router_land(struct router *router,
                 struct router_request *request); /* its replica has it no longer */
/* Ends a waiting request; false when memory lacks. */
bool router_refuse(struct router *router, struct router_request *request, int code,
                   struct router_effects *effects);
/* Derives what should happen to the waiting requests of a deployment from the facts.  `replica`:
 * the only one that may have become better; null: any may have. */
void router_flush(struct router *router, int64_t now_ns, struct router_deployment *deployment,
                  struct router_replica *replica, struct router_effects *effects);
/* Goes on where an effect found no memory. */
void router_unstick(struct router *router, int64_t now_ns, struct router_effects *effects);

/* router_time.c */
int64_t router_replica_due_ns(const struct router *router,
                              const struct router_replica *replica); /* 0: never */
void router_arm(struct router *router, struct router_replica *replica);

/* router_snapshot.c */
void router_release_deployment(struct router *router,
                               struct router_deployment *deployment); /* when vanished and empty */

/* router_table.c */
void router_index_put(struct router_index *index, uint64_t key, void *value);
/* The next value with this key; *cursor is 0 at first.  Null: no more. */
void *router_index_next(const struct router_index *index, uint64_t key, uint64_t *cursor);
void router_index_drop(struct router_index *index, uint64_t key, const void *value);
uint64_t router_name_key(struct bytes app, struct bytes name);
uint64_t router_prefix_key(struct bytes prefix);
static inline void *router_index_get(const struct router_index *index, uint64_t key)
{
    uint64_t cursor = 0;
    return router_index_next(index, key, &cursor);
}

#endif
