/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd_target: the document of an application with many equal deployments, as a command sends it.
 */
#ifndef MANTA_BENCH_CROWD_TARGET_H
#define MANTA_BENCH_CROWD_TARGET_H

#include <stdint.h>

#include "text.h"

enum { CROWD_NAME_SIZE = 48 };

/* Writes application `app` with `count` deployments of `replicas` replicas each, all of version 1
 * but number `changed`, which gets `version`. */
void crowd_target_write(struct text *out, const char *app, uint32_t count, uint32_t replicas,
                        uint32_t changed, uint64_t version);

#endif
