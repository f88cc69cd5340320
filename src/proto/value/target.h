/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target: the documents (MessagePack) that describe what should run.
 *
 * Two of them.  The application target travels from whoever deploys to the controller, inside a
 * DEPLOY frame:
 *
 *     {"ingress": str, "deployments": [deployment target, ...]}
 *
 * A deployment target holds what the controller judges by, and a replica document that only the
 * replica's executable reads:
 *
 *     {"name", "version" (u64 content hash), "num_replicas", "max_ongoing_requests",
 * "max_queued_requests", "graceful_shutdown_timeout_us", "health_check_period_us",
 * "health_check_timeout_us", "stream_body", "runner", "replica": bin}
 *
 * The replica document of a C deployment:
 *
 *     {"app", "deployment", "library" (absolute path), "symbol", "threads", "max_ongoing_requests",
 * "max_batch_size", "batch_wait_us", "max_concurrent_batches", "health_check_period_us",
 * "health_check_timeout_us", "graceful_shutdown_timeout_us", "stream_body", "user_config" (JSON
 * text or nil), "args": [values; a handle is extension VALUE_EXTENSION_HANDLE with a MessagePack
 * array [app, deployment]]}
 *
 * A whole target of several applications, as the controller gets it:
 *
 *     [{"name", "route_prefix" (empty: none), "document" (an application's, as above), or
 *       "build_failure": why there is none}]
 *
 * Of a deployment's row "max_surge_percent", "rolling_update_millionths",
 * "max_constructor_retry_count" and "start_timeout_us" are written only when they are not the
 * default.
 *
 * What other runners need beside or instead of library and symbol is written only when it is there:
 * "runner" (else it is "c"), "code" (binary) and "options" (any value).  The controller adds, when
 * it starts a replica, "configuration", "rank" and "world_size".
 *
 * The configuration of a deployment is what may change while its replicas run:
 *
 *     {"user_config", "max_ongoing_requests", "health_check_period_us", "health_check_timeout_us",
 * "graceful_shutdown_timeout_us"} as in the replica document, and "configuration" (a hash of
 * these), "rank", "world_size"
 *
 * Readers check types and ranges and name the key that is wrong.
 */
#ifndef MANTA_PROTO_TARGET_H
#define MANTA_PROTO_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "error.h"
#include "text.h"

enum {
    TARGET_DEPLOYMENT_LIMIT = 4096,         /* deployments of one application */
    TARGET_MAX_SURGE_DEFAULT = 100,         /* percent; Ray Serve's is 0 */
    TARGET_ROLLING_UPDATE_DEFAULT = 200000, /* millionths */
    TARGET_RETRY_DEFAULT = 20,
    TARGET_APP_LIMIT = 4096, /* applications of one whole target */
};

struct target_deployment {
    struct bytes name, runner, replica; /* replica: the replica document */
    uint64_t version;
    uint32_t num_replicas, max_ongoing_requests;
    int64_t max_queued_requests;
    int64_t graceful_shutdown_timeout_us, health_check_period_us, health_check_timeout_us;
    int64_t max_surge_percent, rolling_update_millionths, max_constructor_retry_count;
    int64_t start_timeout_us; /* 0: none of its own */
    bool stream_body;
};
#define TARGET_ROLLOUT_DEFAULTS                                                                    \
    .max_surge_percent = TARGET_MAX_SURGE_DEFAULT,                                                 \
    .rolling_update_millionths = TARGET_ROLLING_UPDATE_DEFAULT,                                    \
    .max_constructor_retry_count = TARGET_RETRY_DEFAULT

/* One application of a whole target. */
struct target_app {
    struct bytes name, route_prefix, document, build_failure; /* one of the last two */
};

struct target_replica {
    struct bytes app, deployment, library, symbol, user_config /* empty: none */,
        args /* an array document */;
    struct bytes runner, code, options; /* empty: it has none */
    uint32_t threads, max_ongoing_requests, max_batch_size, max_concurrent_batches;
    int64_t batch_wait_us, health_check_period_us, health_check_timeout_us,
        graceful_shutdown_timeout_us;
    int64_t max_models, model_load_timeout_us;
    int64_t configuration, rank, world_size; /* 0 before the controller has added them */
    bool stream_body;
};

struct target_configuration {
    struct bytes user_config; /* empty: none */
    uint32_t max_ongoing_requests;
    int64_t health_check_period_us, health_check_timeout_us, graceful_shutdown_timeout_us;
    int64_t configuration, rank, world_size;
};

void target_write_app(struct text *out, struct bytes ingress,
                      const struct target_deployment *deployments, uint32_t deployment_count);
/* Slices of `document`.  The head first (ingress and count), then each deployment by index. */
int target_read_app(struct bytes document, struct bytes *ret_ingress, uint32_t *ret_count,
                    struct error *reterr);
int target_read_deployment(struct bytes document, uint32_t index,
                           struct target_deployment *ret_deployment, struct error *reterr);
/* The same, one after the other from index 0 on, without a walk from the beginning for each: *rest
 * is kept from call to call. */
int target_next_deployment(struct bytes document, uint32_t index, struct bytes *rest,
                           struct target_deployment *ret_deployment, struct error *reterr);
void target_write_whole(struct text *out, const struct target_app *apps, uint32_t app_count);
int target_read_whole(struct bytes document, uint32_t *ret_count, struct error *reterr);
int target_read_whole_app(struct bytes document, uint32_t index, struct target_app *ret_app,
                          struct error *reterr);
void target_write_replica(struct text *out, const struct target_replica *replica);
int target_read_replica(struct bytes document, struct target_replica *ret_replica,
                        struct error *reterr);
/* The part of a replica document that may change while it runs, with its hash, which is never 0;
 * rank and world size are 0. */
int target_read_configuration_of(struct bytes replica_document,
                                 struct target_configuration *ret_configuration,
                                 struct error *reterr);
void target_write_configuration(struct text *out, const struct target_configuration *configuration);
int target_read_configuration(struct bytes document, struct target_configuration *ret_configuration,
                              struct error *reterr);
/* The replica document as it was, with what the controller adds behind it; checked before. */
void target_write_start(struct text *out, struct bytes replica_document, int64_t configuration,
                        int64_t rank, int64_t world_size);

#endif
