/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: a deployment with options from the command line, for every object in this folder.
 *
 *     manta run libanswer.so:gate num_replicas=3 max_ongoing_requests=1 name=door
 *
 * Every number of struct manta_deployment may be given by its own name; what is not given stays.
 */
#ifndef TEST_OPTIONS_H
#define TEST_OPTIONS_H

#include <stdlib.h>

#include <manta/manta.h>

static inline void option_number(struct manta_app *app, const char *key, int32_t *number)
{
    const char *text = manta_app_argument(app, key, NULL);
    if (text)
        *number = (int32_t)strtol(text, NULL, 10);
}

static inline void option_seconds(struct manta_app *app, const char *key, double *seconds)
{
    const char *text = manta_app_argument(app, key, NULL);
    if (text)
        *seconds = strtod(text, NULL);
}

/* The copy's strings are those of the command line, which outlive the builder. */
static inline struct manta_deployment options_of(struct manta_app *app,
                                                 const struct manta_deployment *deployment)
{
    struct manta_deployment changed = *deployment;
    option_number(app, "num_replicas", &changed.num_replicas);
    option_number(app, "max_ongoing_requests", &changed.max_ongoing_requests);
    option_number(app, "max_queued_requests", &changed.max_queued_requests);
    option_number(app, "threads", &changed.threads);
    option_number(app, "max_batch_size", &changed.max_batch_size);
    option_number(app, "max_concurrent_batches", &changed.max_concurrent_batches);
    option_seconds(app, "batch_wait_timeout_s", &changed.batch_wait_timeout_s);
    option_seconds(app, "graceful_shutdown_wait_loop_s", &changed.graceful_shutdown_wait_loop_s);
    option_seconds(app, "graceful_shutdown_timeout_s", &changed.graceful_shutdown_timeout_s);
    option_seconds(app, "health_check_period_s", &changed.health_check_period_s);
    option_seconds(app, "health_check_timeout_s", &changed.health_check_timeout_s);
    option_number(app, "max_models", &changed.max_models);
    option_seconds(app, "model_load_timeout_s", &changed.model_load_timeout_s);
    option_number(app, "max_surge_percent", &changed.max_surge_percent);
    option_seconds(app, "rolling_update_percentage", &changed.rolling_update_percentage);
    option_number(app, "max_constructor_retry_count", &changed.max_constructor_retry_count);
    option_seconds(app, "start_timeout_s", &changed.start_timeout_s);
    changed.name = manta_app_argument(app, "name", changed.name);
    changed.user_config = manta_app_argument(app, "user_config", changed.user_config);
    changed.stream_body = *manta_app_argument(app, "stream_body", "0") == '1';
    return changed;
}

static inline struct manta_arg bind_with_options(struct manta_app *app,
                                                 const struct manta_deployment *deployment)
{
    struct manta_deployment changed = options_of(app, deployment);
    return manta_bind(app, &changed);
}

#endif
