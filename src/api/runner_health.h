/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_health, and the rest of the runner's inner face: what runner.c and runner_main.c share.
 */
#ifndef MANTA_API_RUNNER_HEALTH_H
#define MANTA_API_RUNNER_HEALTH_H

#include "runner.h"

/* One check now, on this thread, helm not held: 0 or the user's code. */
int runner_check_health(struct manta_replica *replica, struct error *reterr);
/* Checks every health_check_period on a thread of its own; reports unhealthy after three failures
 * in a row. */
void runner_health_start(struct manta_replica *replica);
/* False: a check has not returned after a second, and holds the replica's state. */
bool runner_health_stop(struct manta_replica *replica);

void runner_on_event(struct manta_replica *replica, const struct taker_event *event);
int runner_serve(struct manta_replica *replica, struct error *reterr);

#endif
