/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conduct_stage: one controller among a scripted engine and scripted peers, in one thread.
 *
 * The peers are lines (line.h) to its real socket; the engine writes down what it was told and says
 * what the test tells it to.  Waiting runs turns of the loop.
 */
#ifndef MANTA_TEST_CONDUCT_STAGE_H
#define MANTA_TEST_CONDUCT_STAGE_H

#include "conduct.h"
#include "line.h"
#include "target.h"

enum {
    STAGE_ORDERS = 256,
    STAGE_TEXT = 64,
    STAGE_ROWS = 8 /* of a snapshot that are remembered */
};

enum order_kind { ORDER_START, ORDER_STOP, ORDER_LIST, ORDER_END };

struct order {
    enum order_kind kind;
    uint64_t replica, version;
    bool kill;
    char app[STAGE_TEXT], deployment[STAGE_TEXT], runner[STAGE_TEXT], body[STAGE_TEXT];
};

struct stage {
    char directory[64], path[96];
    bool open;
    struct conduct conduct;
    struct order orders[STAGE_ORDERS];        /* what the engine was told, a ring */
    struct target_replica told[STAGE_ORDERS]; /* the newest start of a replica, but its slices */
    uint32_t first, last;
    struct engine_event events[STAGE_ORDERS]; /* what it says */
    uint32_t event_first, event_last;
    int start_code;     /* of the next starts: an error of the engine's own */
    bool lists_nothing; /* the answer to list is the test's to give */
};

extern struct stage stage;

/* One instance directory per test; the controller is opened and has listed nothing. */
void stage_begin(void);
void stage_end(void);
void stage_open(void);
void stage_close(void); /* as if it died: what it stored stays */
void stage_turn(void *owner);

/* The next order of this kind; others are passed over. */
struct order stage_await_order(enum order_kind kind);
/* The replica document that stage_deploy gives its deployments; text_done is the caller's. */
void stage_write_document(struct text *out, const char *deployment, uint32_t max_ongoing);
bool stage_has_order(enum order_kind kind);
void stage_say(const struct engine_event *event);

/* Peers, greeted. */
struct line stage_peer(enum wire_role role, uint64_t id, const char *name);
/* A replica's connection that says it is ready. */
struct line stage_ready(uint64_t replica, const char *deployment, uint64_t version);
/* A DEPLOY with these deployments; the first is the ingress. */
struct stage_deployment {
    const char *name;
    uint64_t version;
    uint32_t replicas;
};
void stage_deploy(struct line *command, const char *app, const char *route,
                  const struct stage_deployment *deployments, uint32_t count);
/* An APPLY, declarative, of these applications with one deployment each. */
struct stage_app {
    const char *name, *route, *build_failure; /* null: it has its deployment */
    struct stage_deployment deployment;
};
void stage_apply(struct line *command, const struct stage_app *apps, uint32_t count);
/* Passes over progress; its text is `text` in the line's memory. */
struct wire_outcome stage_outcome(struct line *command);

/* A snapshot as a reader got it. */
struct stage_snapshot {
    uint64_t version;
    uint32_t apps, deployments, replicas;
    uint64_t deployment_ids[STAGE_ROWS], replica_ids[STAGE_ROWS];
    char names[STAGE_ROWS][STAGE_TEXT], addresses[STAGE_ROWS][STAGE_TEXT];
};
struct stage_snapshot stage_snapshot(struct line *reader);

#endif
