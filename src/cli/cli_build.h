/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_build: applications of a deploy file built side by side, each in a process of its own.
 *
 * What one of them does there (a crash, an exit, a hang) is its own failure and nobody else's.
 */
#ifndef MANTA_CLI_BUILD_H
#define MANTA_CLI_BUILD_H

#include <manta/sys/deploy.h>

#include "deploy_file.h"

struct build {
    struct deploy_file_app *app;
    struct text document; /* what came out of it */
    struct text failure;  /* or why nothing did */
    int pid, descriptor;  /* -1: over, or not begun */
    int64_t due_ns;       /* 0: never */
};

struct build_options {
    const char *directory; /* where modules and shared objects are looked for */
    int64_t limit_s;       /* of one build; 0: none */
};

/* All of them, a few at a time; says on the way what begins.  Each has a document or a failure. */
void cli_build_all(struct build *builds, uint32_t count, const struct build_options *options);

#endif
