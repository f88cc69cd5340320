/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_configure: what may change while a replica runs, from the controller's word to its answer.
 *
 *     RECONFIGURE -> next -> TAKER_CONFIGURE: user code is at it (current) -> taker_configured
 *                                                            -> in force, and the outcome
 *
 * User code is at one configuration at a time; of those that come meanwhile the last one counts.
 * The limits of admission are in force at once.  An outcome belongs to the connection on which it
 * was asked for: whoever comes after a lost one hears by "ready" what is in force, and asks again.
 */
#include "ensure.h"
#include "mem.h"
#include "taker_inner.h"
#include "target.h"

struct replica_config configure_mind(const struct taker_config *config)
{
    return (struct replica_config){.max_ongoing = config->max_ongoing,
                                   .batch_size = config->batch_size ? config->batch_size : 1,
                                   .batch_wait_ns = config->batch_wait_ns,
                                   .batch_concurrency =
                                       config->batch_concurrency ? config->batch_concurrency : 1,
                                   .trace = config->trace};
}

static void drop(struct configuration *configuration)
{
    mem_free(configuration->at);
    *configuration = (struct configuration){0};
}

static int keep(struct configuration *configuration, struct bytes body,
                const struct target_configuration *target)
{
    uint8_t *copy = mem_try(body.size);
    if (!copy)
        return ERROR_MEMORY;
    memcpy(copy, body.at, body.size);
    drop(configuration);
    *configuration = (struct configuration){.at = copy,
                                            .size = body.size,
                                            .hash = (uint64_t)target->configuration,
                                            .rank = (uint32_t)target->rank + 1,
                                            .world_size = (uint32_t)target->world_size};
    return 0;
}

int configure_begin(struct taker *taker, uint32_t max_ongoing, struct bytes body,
                    struct error *reterr)
{
    struct replica_config config = configure_mind(&taker->config);
    struct target_configuration target;
    if (target_read_configuration(body, &target, reterr) < 0)
        return reterr->code;
    config.max_ongoing = max_ongoing;
    int code = replica_reconfigure(taker->mind, loop_now_ns(taker->config.loop), &config);
    if (code == 0)
        code = keep(&taker->next, body, &target);
    if (code < 0)
        return error_set(reterr, code, "%s", error_text(code));
    taker->config.max_ongoing = max_ongoing;
    return 0;
}

bool configure_due(const struct taker *taker)
{
    return taker->next.at && !taker->current.at;
}

struct bytes configure_next(struct taker *taker)
{
    ensure(configure_due(taker));
    taker->current = taker->next;
    taker->next = (struct configuration){0};
    return bytes_of(taker->current.at, taker->current.size);
}

void taker_configured(struct taker *taker, int code, struct bytes text)
{
    ensure(taker->current.at);
    if (code == 0) {
        taker->config.configuration = taker->current.hash;
        taker->config.rank = taker->current.rank;
        taker->config.world_size = taker->current.world_size;
    } else {
        drop(&taker->next); /* nobody knows what state user code is in */
    }
    bool same = taker->next.hash == taker->current.hash &&
                taker->next.rank == taker->current.rank &&
                taker->next.world_size == taker->current.world_size;
    if (same) /* asked for again by another controller */
        drop(&taker->next);
    drop(&taker->current);
    if (!taker->next.at)
        control_say_configured(taker, code, text);
}

void configure_free(struct taker *taker)
{
    drop(&taker->next);
    drop(&taker->current);
}
