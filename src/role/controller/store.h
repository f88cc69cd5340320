/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: application targets, kept for the controller's next life.
 *
 * One file per application in the instance's directory, <id>.app.store, written whole under another
 * name and renamed.  They outlive the controller's process, not the machine: nothing is flushed to
 * the disk, and a private instance takes them along when it ends.  numbers.store counts the
 * controller's lives: every number given out in one life lies above all those of earlier ones.
 */
#ifndef MANTA_ROLE_STORE_H
#define MANTA_ROLE_STORE_H

#include <stdint.h>

#include "controller.h"
#include "error.h"
#include "text.h"

enum { STORE_PATH_SIZE = 4096 };

struct store {
    char directory[STORE_PATH_SIZE]; /* empty: nothing is kept */
    uint64_t life;                   /* 0: the first */
    size_t size_limit;               /* bytes of one target, written */
};

/* Counts a life.  A directory of null keeps nothing. */
int store_open(struct store *store, const char *directory, size_t size_limit, struct error *reterr);
/* 0, or why it is not durable. */
int store_save_app(const struct store *store, const struct controller_app_target *target,
                   struct error *reterr);
int store_delete_app(const struct store *store, struct application_id app, struct error *reterr);
/*
 * Every target that is kept, in the order of application ids; its slices live during the call.  One
 * that cannot be read is told with its error and a null target, and left where it is.
 */
void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner);

/* The document of a target, and back: slices of the document, and of `rows`, which holds
 * `row_limit` deployments. */
void store_write_target(struct text *out, const struct controller_app_target *target);
int store_read_target(struct bytes document, struct controller_app_target *ret_target,
                      struct controller_deployment_target *rows, uint32_t row_limit,
                      struct error *reterr);

#endif
