/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accessors: what a replica may ask about itself (manta_replica_*).
 */
#include <stdarg.h>
#include <stdio.h>

#include "door.h"
#include "log.h"
#include "mem.h"

const struct manta_args *manta_replica_args(const struct manta_replica *replica)
{
    return &replica->args;
}

const char *manta_replica_application(const struct manta_replica *replica)
{
    return replica->app;
}

const char *manta_replica_deployment(const struct manta_replica *replica)
{
    return replica->name;
}

const char *manta_replica_id(const struct manta_replica *replica)
{
    return replica->id;
}

const char *manta_replica_user_config(const struct manta_replica *replica)
{
    const char *text = atomic_load_explicit(&replica->user_config, memory_order_acquire);
    return *text ? text : "null";
}

int32_t manta_replica_rank(const struct manta_replica *replica)
{
    return atomic_load_explicit(&replica->rank, memory_order_relaxed);
}

int32_t manta_replica_world_size(const struct manta_replica *replica)
{
    return atomic_load_explicit(&replica->world_size, memory_order_relaxed);
}

void *manta_replica_state(const struct manta_replica *replica)
{
    return replica->state;
}

void manta_replica_log(struct manta_replica *replica, int level, const char *format, ...)
{
    char text[1024], *longer = NULL;
    va_list arguments;
    (void)replica;
    if (!log_enabled((enum log_level)level))
        return;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* A trace; without memory its beginning must do. */
    if (length >= (int)sizeof text && (longer = mem_try((size_t)length + 1))) {
        va_start(arguments, format);
        vsnprintf(longer, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    log_print((enum log_level)level, "%s", longer ? longer : text);
    mem_free(longer);
}
