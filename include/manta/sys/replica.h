/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/sys/replica.h>: the door of the executable manta-replica into libmanta.
 *
 * The weaker promise: everything below <manta/sys/> may change with any release; user programs need
 * none of it.
 */
#ifndef MANTA_SYS_REPLICA_H
#define MANTA_SYS_REPLICA_H

#include <manta/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs a replica of a C deployment as the node's arguments say; returns the process's exit status.
 */
MANTA_EXPORT int manta_replica_main(int argument_count, char **arguments);

#ifdef __cplusplus
}
#endif
#endif
