/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: application targets, kept for the controller's next life.
 *
 *     store.h          what the controller asks for; the simulated world has another one behind it
 *     store.c          rows: applications, their deployments, the count of lives
 *     store_open.c     the file: opened, checked, put aside when it is broken
 *     store_schema.c   the tables, one migration after the other
 *     store_inside.h   what these three share
 *     store_none.c     nothing is kept, and SQLite is not linked: local testing
 *
 * One SQLite database (write-ahead log), controller.store.  A service's lies in its state directory
 * and is flushed to the disk with every commit: what was answered with success is found again after
 * the machine lost its power.  A private instance's lies in the runtime directory, outlives the
 * controller's process and not the instance, and is not flushed.
 *
 * A call blocks until the disk has answered (milliseconds; STORE_BUSY_MS when another process holds
 * the database, a maintainer's shell for example).  Requests do not pass the controller, so only
 * deploys and verdicts wait; a turn that became late by it judges nobody.
 *
 * What a disk may do: a write that fails (full, read only, locked) changes nothing and is the
 * error of the one who asked; `trouble` says so until a write succeeds.  A database that is broken
 * is renamed, what can be read of it is copied into a new one, and `notice` says so for as long as
 * the broken file lies there.  One of a newer version is refused and not touched.
 */
#ifndef MANTA_ROLE_STORE_H
#define MANTA_ROLE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "controller.h"
#include "error.h"

enum { STORE_PATH_SIZE = 4096, STORE_BUSY_MS = 200 };

struct store_config {
    const char *directory; /* null: nothing is kept */
    bool durable;          /* every commit reaches the disk before it is confirmed */
    uint32_t start;        /* how often the node has started a controller before this one */
    size_t size_limit;     /* bytes of one target */
};

struct sqlite3;

struct store {
    struct sqlite3 *database; /* null: nothing is kept */
    int lock;                 /* descriptor of controller.lock: one controller per store */
    char path[STORE_PATH_SIZE];
    /* A number above that of every earlier life, also of those whose count could not be written. */
    uint64_t life;
    size_t size_limit;
    bool open; /* a transaction is */
    int rc;    /* of its statements, the first that was not 0 */
    char notice[ERROR_TEXT_SIZE];  /* a broken store was put aside; empty: none */
    char trouble[ERROR_TEXT_SIZE]; /* why the last write failed; empty: it did not */
};

/* Counts a life.  ERROR_VERSION: written by a newer version.  After an error: store_close. */
int store_open(struct store *store, const struct store_config *config, struct error *reterr);
void store_close(struct store *store);
/* What is saved and deleted until store_commit is kept together, or none of it: then commit says so
 * and the others do not. */
void store_begin(struct store *store);
int store_commit(struct store *store, struct error *reterr);
/* 0: durable, as the configuration has it; or why it is not, and nothing changed. */
int store_save_app(struct store *store, const struct controller_app_target *target,
                   struct error *reterr);
int store_delete_app(struct store *store, struct application_id app, struct error *reterr);
/*
 * Every target that is kept, in the order of application ids; its slices live during the call.  One
 * that cannot be read is told with its error and a null target, and left where it is.
 */
void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner);

#endif
