/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_configure: a new configuration, between the taker and user code.
 *
 * What is Manta's own is in force as soon as it came: the limits, what manta_replica_user_config
 * and its like say.  Then user code is told: by a thread of the runner that comes for work, so that
 * user code runs side by side with no more of itself than it does anyway, or by an event.  A
 * user_config that was replaced stays where it is until the next one is, because user code may look
 * at it.
 */
#include <string.h>

#include "door.h"
#include "ensure.h"
#include "log.h"
#include "mem.h"

static double seconds(int64_t us)
{
    return (double)us * 1e-6;
}

/* False: it is the same. */
static bool replace_user_config(struct manta_replica *replica, struct bytes text)
{
    const char *now = atomic_load(&replica->user_config);
    if (bytes_equal(bytes_of_string(now), text))
        return false;
    mem_free(replica->old_user_config);
    replica->old_user_config = (char *)now;
    atomic_store_explicit(&replica->user_config, mem_copy_string((const char *)text.at, text.size),
                          memory_order_release);
    return true;
}

static void apply(struct manta_replica *replica, const struct target_configuration *told,
                  struct manta_taker_configuration *ret_configuration)
{
    struct target_replica *target = &replica->target;
    int32_t rank = told->world_size ? (int32_t)told->rank : -1;
    bool new_config = replace_user_config(replica, told->user_config);
    bool new_rank = atomic_exchange(&replica->rank, rank) != rank;
    atomic_store(&replica->world_size, (int32_t)told->world_size);
    target->max_ongoing_requests = told->max_ongoing_requests;
    target->health_check_period_us = told->health_check_period_us;
    target->health_check_timeout_us = told->health_check_timeout_us;
    target->graceful_shutdown_timeout_us = told->graceful_shutdown_timeout_us;
    const char *user_config = atomic_load(&replica->user_config);
    *ret_configuration = (struct manta_taker_configuration){
        .size = sizeof *ret_configuration,
        .user_config_changed = new_config,
        .rank_changed = new_rank,
        .user_config = *user_config ? user_config : NULL,
        .rank = rank,
        .world_size = (int32_t)told->world_size,
        .max_ongoing_requests = (int32_t)told->max_ongoing_requests,
        .health_check_period_s = seconds(told->health_check_period_us),
        .health_check_timeout_s = seconds(told->health_check_timeout_us),
        .graceful_shutdown_timeout_s = seconds(told->graceful_shutdown_timeout_us),
    };
}

static void bring(struct manta_replica *replica, struct bytes body,
                  struct manta_taker_configuration *ret_configuration)
{
    struct target_configuration told;
    struct error error = {0};
    int code = target_read_configuration(body, &told, &error);
    ensure(code == 0); /* the taker has looked at it */
    apply(replica, &told, ret_configuration);
}

void door_configure(struct manta_taker *taker, struct bytes body, struct manta_taker_event *event)
{
    if (taker->events) {
        bring(&taker->replica, body, &event->configuration);
        return;
    }
    ensure(!taker->configuration.size);
    taker->configuration = body;
}

bool door_configure_due(const struct manta_taker *taker)
{
    return taker->configuration.size > 0 && !taker->configuring;
}

void door_configure_run(struct manta_taker_thread *thread)
{
    struct manta_taker *taker = thread->taker;
    struct helm *helm = taker->replica.runtime->helm;
    struct manta_taker_configuration configuration;
    struct manta_error error = {0};
    int code = 0;
    taker->configuring = true;
    bring(&taker->replica, taker->configuration, &configuration);
    taker->configuration = (struct bytes){0};
    if (taker->configure) {
        door_thread_begin(thread);
        helm_give(helm);
        code = taker->configure(taker->configure_owner, &configuration, &error);
        helm_take(helm);
        door_thread_end(thread);
    }
    taker->configuring = false;
    if (code < 0 && !error.text[0])
        manta_error_set(&error, code, "%s", manta_error_text(code));
    if (code < 0)
        log_print(LOG_ERROR, "reconfigure failed: %s", error.text);
    taker_configured(taker->replica.taker, code < 0 ? ERROR_USER : 0, bytes_of_string(error.text));
    channel_set_flush(&taker->replica.runtime->channels);
}

void manta_taker_set_configure(struct manta_taker *taker, manta_taker_configure_function *configure,
                               void *owner)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker->configure = configure;
    taker->configure_owner = owner;
    runtime_leave(taker->replica.runtime, nested);
}

void manta_taker_configured(struct manta_taker *taker, const char *text)
{
    struct runtime *runtime = taker->replica.runtime;
    if (text)
        log_print(LOG_ERROR, "reconfigure failed: %s", text);
    bool nested = runtime_enter(runtime);
    taker_configured(taker->replica.taker, text ? ERROR_USER : 0, bytes_of_string(text));
    channel_set_flush(&runtime->channels);
    runtime_leave(runtime, nested);
}
