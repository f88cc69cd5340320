/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conduct: the controller's process: it reads the world, asks its mind and does what the mind says.
 *
 *     controller_main.c  arguments, and the life of the process
 *     conduct_run.c      the process: settings, log, metric page, signals
 *     conduct.c          the loop: events into the mind, one after the other; its deadline
 *     perform.c          effects, in order
 *     peer.c             connections to controller.sock: hello, frames, heartbeats
 *     question.c         deploy, delete, status and shutdown, and who waits for their outcome
 *     publish.c          routing snapshots to their readers
 *     status_page.c      the status as one MessagePack document
 *     store.h            targets that must be found again after a restart
 *
 * One thread.  Peers come in four kinds: readers of snapshots (proxies and other owners of
 * handles), replicas, and commands; which one a connection is, its hello says.
 */
#ifndef MANTA_ROLE_CONDUCT_H
#define MANTA_ROLE_CONDUCT_H

#include <stdbool.h>
#include <stdint.h>

#include "channel.h"
#include "controller.h"
#include "engine.h"
#include "list.h"
#include "loop.h"
#include "map.h"
#include "parent.h"
#include "settings.h"
#include "store.h"
#include "text.h"
#include "wire.h"

enum {
    CONDUCT_PEER_LIMIT = 131072,      /* connections */
    CONDUCT_SNAPSHOT_LIMIT = 1 << 28, /* bytes of an encoded snapshot */
    CONDUCT_STATUS_LIMIT = 1 << 26,   /* bytes of a status; commands accept no longer answer */
    CONDUCT_PEER_NAME_SIZE = 64,
};

struct conduct_options {
    const char *directory;       /* of the instance; null: no target is kept */
    const char *store_directory; /* of a service; null: the store ends with the instance */
    uint32_t start;              /* how often the node started a controller before this one */
    const char *node, *log_directory, *log_encoding;
    int listen_descriptor, log_level;
    struct parent_bond bond; /* of the process to its node */
    bool log_to_stderr;
    /* Where replicas run: engine_local_new, or another with its shape. */
    struct engine *(*engine)(struct loop *loop, struct channel_set *channels, const char *node,
                             void (*wake)(void *owner), void *owner, struct error *reterr);
};

struct conduct;

struct peer {
    struct list_link link;        /* on conduct->peers */
    struct list_link reader_link; /* on conduct->readers, once it subscribed */
    struct list_link ping_link;   /* on conduct->pinged, when it is a replica */
    struct conduct *conduct;
    struct channel channel;
    struct loop_timer timer; /* until its hello */
    enum wire_role role;     /* NONE: its hello has not come */
    uint32_t pid;
    uint64_t replica; /* its id, when it is one */
    char name[CONDUCT_PEER_NAME_SIZE];
    struct list questions; /* struct question that it waits for */
    uint64_t sent_version; /* of the snapshot put last */
    bool behind;           /* there was no room for the newest snapshot */
    int64_t pinged_ns;     /* since when it owes a pong; 0: it owes none */
    bool owing;            /* the mind was told that it owes one */
    bool silent;           /* and that it has for long was logged */
    bool broken;           /* it does not take what it must: closed at the end of the turn */
};

/* Somebody waits for the outcome of an operation. */
struct question {
    struct list_link link; /* on peer->questions */
    struct peer *peer;
    uint64_t token, stream;
};

/* An event that a performed effect gave rise to; given to the mind once its list is done. */
struct follow_up {
    struct list_link link; /* on conduct->follow_ups */
    enum controller_event_type type;
    uint64_t token;
    struct replica_id replica;
    int code;
    char text[ERROR_TEXT_SIZE];
};

struct conduct {
    struct conduct_options options;
    struct settings settings;
    struct loop *loop;
    struct channel_set channels;        /* of peers */
    struct channel_set engine_channels; /* the node's: what is put there is never refused */
    struct controller *mind;
    struct controller_effects effects;
    struct list follow_ups; /* of struct follow_up */
    bool performing;
    bool storing; /* between two STORE effects of one transaction */
    bool loaded;   /* the mind was told everything that ran before */
    bool alone;    /* the instance has ended, and there is no node to tidy up */
    bool restored; /* there were stored targets */
    struct engine *engine;
    struct store store;
    struct trace trace;
    struct loop_timer mind_timer, ping_timer;
    struct loop_turn turn;
    struct loop_watch listener;
    struct loop_timer accept_timer; /* set while no connection can be accepted */

    struct list peers;    /* struct peer */
    struct list readers;  /* those that subscribed */
    bool broken_due;      /* some peer is broken */
    struct map replicas;  /* struct peer by replica id: the newest connection of each */
    struct list pinged;   /* struct peer of replicas, the one that was pinged last at the end */
    struct map questions; /* struct question by token */
    uint64_t token_last;

    struct text snapshot;      /* encoded, of snapshot_version */
    uint64_t snapshot_version; /* 0: nothing was published by this process */
    bool publish_due;          /* readers have not been told of the newest version */
};

/* conduct_run.c: the process; returns its exit status. */
int conduct_run(const struct conduct_options *options);

/* conduct.c: `settings` are filled in by the caller, the rest is zeroed. */
int conduct_open(struct conduct *conduct, const struct conduct_options *options, uint64_t seed,
                 struct error *reterr);
void conduct_close(struct conduct *conduct);
/* Steps the mind and performs what it says, and what follows from that. */
void conduct_take(struct conduct *conduct, const struct controller_event *event);
/* While effects are performed: to be taken afterwards. */
void conduct_follow_up(struct conduct *conduct, enum controller_event_type type, uint64_t token,
                       struct replica_id replica, const struct error *error);

/* perform.c */
void perform(struct conduct *conduct, const struct controller_effect *effect);
/* What the mind keeps as a deployment's body: which runner, and the replica document. */
void perform_write_body(struct text *out, struct bytes runner, struct bytes document);
bool perform_read_body(struct bytes body, struct bytes *ret_runner, struct bytes *ret_document);

/* peer.c */
int peers_open(struct conduct *conduct, struct error *reterr);
void peers_close(struct conduct *conduct);
void peers_close_broken(struct conduct *conduct);
/* Room for a frame that must arrive; null marks the peer as broken. */
uint8_t *peer_room(struct peer *peer, size_t size);
struct peer *peer_of_replica(const struct conduct *conduct, struct replica_id replica);
void peers_ping(void *conduct);
/* Tells them to finish what they have: nobody else is there to do it. */
void peers_end_proxies(struct conduct *conduct);

/* question.c: false when the peer broke the protocol. */
bool question_take(struct peer *peer, const struct wire_header *header, struct bytes payload);
void question_progress(struct conduct *conduct, uint64_t token, const char *line);
void question_outcome(struct conduct *conduct, uint64_t token, int code, const char *message);
/* The peer is gone: what it asked for goes on, and nobody is told. */
void questions_drop(struct peer *peer);

/* publish.c */
/* Encodes the mind's routing snapshot: rows that are published, and an end. */
void publish_encode(const struct controller *mind, struct text *out);
void publish_note(struct conduct *conduct);  /* there is a new version */
void publish_flush(struct conduct *conduct); /* readers are told now */
void publish_to(struct peer *peer);          /* the newest, unless it has that */

/* status_page.c */
struct status_names {
    const struct list *peers; /* struct peer: the proxies are told by name */
    const struct store *store;
    int64_t now_ns, wall_ns; /* the same moment on both clocks */
    bool detail;             /* replicas too */
};
void status_write(const struct controller *mind, const struct status_names *names,
                  struct text *out);

#endif
