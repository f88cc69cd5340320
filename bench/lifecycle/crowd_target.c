/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd_target: the document of an application with many equal deployments.
 *
 * Nobody loads the shared object that it names: the replicas of this bench are played.
 */
#include "crowd_target.h"

#include <stdio.h>

#include "mem.h"
#include "target.h"

struct deployment { /* what its row points into */
    struct text replica;
    char name[CROWD_NAME_SIZE];
};

static void write_replica(struct deployment *deployment, const char *app)
{
    struct target_replica document = {.app = bytes_of_string(app),
                                      .deployment = bytes_of_string(deployment->name),
                                      .args = BYTES("\x90"),
                                      .library = BYTES("/nowhere/libcrowd.so"),
                                      .symbol = BYTES("crowd"),
                                      .threads = 1,
                                      .max_ongoing_requests = 5,
                                      .max_batch_size = 1,
                                      .max_concurrent_batches = 1,
                                      .health_check_period_us = 10000000,
                                      .health_check_timeout_us = 30000000,
                                      .graceful_shutdown_timeout_us = 20000000};
    text_init(&deployment->replica, 1 << 20);
    target_write_replica(&deployment->replica, &document);
}

void crowd_target_write(struct text *out, const char *app, uint32_t count, uint32_t replicas,
                        uint32_t changed, uint64_t version)
{
    struct deployment *deployments = mem_new(count * sizeof *deployments);
    struct target_deployment *rows = mem_new(count * sizeof *rows);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(deployments[i].name, sizeof deployments[i].name, "deployment-%u", i);
        write_replica(&deployments[i], app);
        rows[i] = (struct target_deployment){TARGET_ROLLOUT_DEFAULTS,
                                             .name = bytes_of_string(deployments[i].name),
                                             .runner = BYTES("c"),
                                             .replica = text_bytes(&deployments[i].replica),
                                             .version = i == changed ? version : 1,
                                             .num_replicas = replicas,
                                             .max_ongoing_requests = 5,
                                             .max_queued_requests = -1,
                                             .graceful_shutdown_timeout_us = 20000000,
                                             .health_check_period_us = 10000000,
                                             .health_check_timeout_us = 30000000};
    }
    target_write_app(out, rows[0].name, rows, count);
    for (uint32_t i = 0; i < count; i++)
        text_done(&deployments[i].replica);
    mem_free(rows);
    mem_free(deployments);
}
