/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library: the shared objects that hold deployments and applications.
 *
 * Symbols are found by the names that MANTA_DEPLOYMENT and MANTA_APPLICATION export.  A descriptor
 * of an older header is shorter: it is copied into today's struct, whose missing members get their
 * defaults.  A newer one is refused.
 */
#ifndef MANTA_API_LIBRARY_H
#define MANTA_API_LIBRARY_H

#include <stdint.h>

#include <manta/deployment.h>

#include "bytes.h"
#include "error.h"

typedef struct manta_arg(library_builder)(struct manta_app *app);

/* dlopen (now, local): ERROR_LOAD with what the loader says; ERROR_NOT_FOUND when there is no such
 * file. `path` without a slash is taken as ./path. */
int library_open(const char *path, void **ret_library, struct error *reterr);
void library_close(void *library); /* null is fine */
/* A checked copy with defaults for what an older header lacks: ERROR_NOT_FOUND, ERROR_VERSION,
 * ERROR_INVALID (names the member). */
int library_deployment(void *library, const char *symbol, struct manta_deployment *ret_deployment,
                       struct error *reterr);
/* ERROR_NOT_FOUND lists the applications that the file has. */
int library_application(void *library, const char *path, const char *name,
                        library_builder **ret_builder, struct error *reterr);
/* An application of the program itself, if the program exports it. */
int library_own_application(const char *name, library_builder **ret_builder, struct error *reterr);
/* Copies and checks a descriptor however it was found (see library_deployment). */
int library_check_deployment(const struct manta_deployment *given,
                             struct manta_deployment *ret_deployment, struct error *reterr);
/* Content hash of the file, and hashing of more bytes into it (xxHash). */
int library_hash(const char *path, uint64_t *ret_hash, struct error *reterr);
uint64_t library_hash_more(uint64_t hash, struct bytes bytes);

#endif
