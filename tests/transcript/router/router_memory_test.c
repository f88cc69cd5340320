/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_memory: a warm router allocates nothing, and an effect for which memory lacks is put off,
 * not lost.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "router.h"

enum { REQUESTS = 64 };

static struct request_id request(uint64_t round, uint64_t index)
{
    return (struct request_id){(round + 1) << 32 | index};
}

static const struct deployment_id only = {1};

/* One deployment with two replicas, both connected. */
static struct router *new_router(struct router_effects *effects)
{
    struct router_config config = {
        .request_limit = REQUESTS, .silence_limit_ns = 1000000000, .model_wait_ns = 1000000000};
    struct router_snapshot_deployment deployment = {
        .id = {1}, .max_ongoing = 2, .max_queued = -1, .available = true};
    struct router_snapshot_replica replicas[] = {{{1}, {1}, BYTES("/1")}, {{2}, {1}, BYTES("/2")}};
    struct router_snapshot snapshot = {1, NULL, &deployment, replicas, 0, 1, 2};
    struct router *router = router_new(&config, 1);
    cr_assert_eq(router_snapshot(router, 1, &snapshot, effects), 0);
    router_connected(router, 1, (struct replica_id){1}, effects);
    router_connected(router, 1, (struct replica_id){2}, effects);
    effects->count = 0;
    return router;
}

static void submit_some(struct router *router, uint64_t count, int64_t deadline_ns,
                        struct router_effects *effects)
{
    for (uint64_t i = 0; i < count; i++) {
        struct router_submit submit = {
            .request = request(0, i), .deployment = only, .deadline_ns = deadline_ns};
        cr_assert_eq(router_submit(router, 2, &submit, effects), 0);
    }
}

/* Sixty-four requests come, are rejected, wait and are done, in turn `round` of their ids. */
static void busy_round(struct router *router, struct router_effects *effects, uint64_t round)
{
    int64_t now_ns = (int64_t)(round + 1) * 1000000000;
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct router_submit submit = {
            .request = request(round, i), .deployment = only, .deadline_ns = INT64_MAX};
        cr_assert_eq(router_submit(router, now_ns, &submit, effects), 0);
    }
    for (uint64_t i = 0; i < REQUESTS; i++)
        router_rejected(router, now_ns, request(round, i), 2, false, effects);
    router_timer(router, now_ns + 100000000, false, effects);
    for (uint64_t i = 0; i < 3 * REQUESTS; i++) {
        router_done(router, now_ns + 100000000, request(round, i % REQUESTS), 0, effects);
    }
    cr_assert_eq(router_waiting(router, only), 0);
    cr_assert_eq(router_in_flight(router, only), 0);
    effects->count = 0;
}

Test(router_memory, a_warm_router_allocates_nothing)
{
    struct router_effects effects = {0};
    struct router *router = new_router(&effects);
    busy_round(router, &effects, 0);
    uint64_t before = mem_count().allocations;
    for (uint64_t round = 1; round < 100; round++)
        busy_round(router, &effects, round);
    cr_assert_eq(mem_count().allocations, before);
    router_free(router);
    router_effects_done(&effects);
}

/* Requests for ten models; the replicas tell others in each round. */
static void busy_round_of_models(struct router *router, struct router_effects *effects,
                                 uint64_t round)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    int64_t now_ns = (int64_t)(round + 1) * 10000000000;
    struct bytes ids[5];
    for (uint64_t replica = 1; replica <= 2; replica++) {
        for (uint64_t i = 0; i < 5; i++)
            ids[i] = bytes_of_string(names[(round + i * replica) % 10]);
        router_models(router, now_ns, (struct replica_id){replica}, ids, 5, effects);
    }
    for (uint64_t i = 0; i < REQUESTS; i++) {
        struct router_submit submit = {.request = request(round, i),
                                       .deployment = only,
                                       .model_id = bytes_of_string(names[i % 10])};
        cr_assert_eq(router_submit(router, now_ns, &submit, effects), 0);
    }
    for (uint64_t i = 0; i < 20 * REQUESTS; i++) {
        router_done(router, now_ns, request(round, i % REQUESTS), 0, effects);
        router_check(router);
    }
    router_timer(router, now_ns + 3000000000, false, effects);
    for (uint64_t i = 0; i < 20 * REQUESTS; i++)
        router_done(router, now_ns + 3000000000, request(round, i % REQUESTS), 0, effects);
    cr_assert_eq(router_waiting(router, only), 0);
    cr_assert_eq(router_in_flight(router, only), 0);
    effects->count = 0;
}

Test(router_memory, a_warm_router_allocates_nothing_for_models)
{
    struct router_effects effects = {0};
    struct router *router = new_router(&effects);
    for (uint64_t round = 0; round < 10; round++)
        busy_round_of_models(router, &effects, round);
    uint64_t before = mem_count().allocations;
    for (uint64_t round = 10; round < 100; round++)
        busy_round_of_models(router, &effects, round);
    cr_assert_eq(mem_count().allocations, before);
    router_free(router);
    router_effects_done(&effects);
}

Test(router_memory, of_what_a_replica_tells_only_so_much_is_believed)
{
    static char names[2 * ROUTER_MODELS_LIMIT][8];
    static struct bytes ids[2 * ROUTER_MODELS_LIMIT];
    static char long_name[ROUTER_MODEL_ID_LIMIT + 1];
    struct router_effects effects = {0};
    struct router *router = new_router(&effects);
    struct text dump;
    memset(long_name, 'x', sizeof(long_name));
    for (uint32_t i = 0; i < 2 * ROUTER_MODELS_LIMIT; i++) {
        snprintf(names[i], sizeof(names[i]), "m%u", i);
        ids[i] = bytes_of_string(names[i]);
    }
    ids[0] = bytes_of(long_name, sizeof(long_name));
    ids[1] = (struct bytes){0};
    ids[2] = ids[3]; /* said twice */
    router_models(router, 3, (struct replica_id){1}, ids, 2 * ROUTER_MODELS_LIMIT, &effects);
    router_check(router);
    text_init(&dump, 1 << 16);
    router_dump(router, &dump);
    cr_assert(strstr(text_string(&dump), ", 1021 models: m3 m4"), "%.200s", text_string(&dump));
    struct router_submit submit = {
        .request = request(0, 0), .deployment = only, .model_id = ids[0]};
    cr_assert_eq(router_submit(router, 4, &submit, &effects), 0);
    router_check(router); /* an id that is too long is none */
    router_models(router, 5, (struct replica_id){1}, NULL, 0, &effects);
    router_models(router, 5, (struct replica_id){77}, ids, 5, &effects); /* of nobody we know */
    router_check(router);
    text_done(&dump);
    router_free(router);
    router_effects_done(&effects);
}

/* An empty list of effects whose first growth fails. */
static struct router_effects poor_list(void)
{
    mem_fail_at(1);
    return (struct router_effects){0};
}

/* The router said nothing, is whole, and asks to be woken at once. */
static void expect_stuck(const struct router *router, const struct router_effects *effects)
{
    mem_fail_at(0);
    cr_assert_eq(effects->count, 0);
    cr_assert_eq(router_deadline_ns(router), 1);
    router_check(router);
}

static void expect_effect(const struct router_effects *effects, uint32_t index,
                          enum router_effect_type type)
{
    cr_assert_lt(index, effects->count);
    cr_assert_eq(effects->at[index].type, type);
}

Test(router_memory, a_request_without_memory_for_its_refusal_never_came)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    struct router_effects poor = poor_list();
    struct router_submit submit = {.request = request(0, 1), .deployment = only};
    cr_assert_eq(router_submit(router, 2, &submit, &poor), ERROR_MEMORY);
    mem_fail_at(0);
    router_check(router);
    cr_assert_eq(router_waiting(router, only) + router_in_flight(router, only), 0);
    cr_assert_eq(router_submit(router, 2, &submit, &poor), 0);
    expect_effect(&poor, 0, ROUTER_SEND);
    router_free(router);
    router_effects_done(&first);
    router_effects_done(&poor);
}

Test(router_memory, refusals_at_a_deadline_are_put_off)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    submit_some(router, 10, 50, &first);
    struct router_effects poor = poor_list();
    router_timer(router, 60, false, &poor);
    expect_stuck(router, &poor);
    cr_assert_eq(router_waiting(router, only), 6);
    router_timer(router, 60, false, &poor);
    cr_assert_eq(poor.count, 6);
    for (uint32_t i = 0; i < 6; i++)
        cr_assert_eq(poor.at[i].request.v, request(0, 4 + i).v);
    router_check(router);
    router_free(router);
    router_effects_done(&first);
    router_effects_done(&poor);
}

Test(router_memory, a_send_is_put_off_to_the_next_event)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    submit_some(router, 6, 0, &first);
    struct router_effects poor = poor_list();
    router_done(router, 3, request(0, 0), 0, &poor);
    expect_stuck(router, &poor);
    router_accepted(router, 4, request(0, 1), ROUTER_LENGTH_UNKNOWN, &poor);
    expect_effect(&poor, 0, ROUTER_SEND);
    cr_assert_eq(poor.at[0].request.v, request(0, 4).v);
    cr_assert_neq(router_deadline_ns(router), 1);
    router_check(router);
    router_free(router);
    router_effects_done(&first);
    router_effects_done(&poor);
}

Test(router_memory, a_disconnect_is_put_off)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    submit_some(router, 1, 0, &first);
    struct router_snapshot nothing = {.version = 2};
    cr_assert_eq(router_snapshot(router, 3, &nothing, &first), 0);
    struct router_effects poor = poor_list();
    router_done(router, 4, request(0, 0), 0, &poor);
    expect_stuck(router, &poor);
    router_timer(router, 5, false, &poor);
    expect_effect(&poor, 0, ROUTER_DISCONNECT);
    cr_assert_eq(router_deadline_ns(router), 0);
    router_check(router);
    router_free(router);
    router_effects_done(&first);
    router_effects_done(&poor);
}

Test(router_memory, a_probe_is_put_off)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    submit_some(router, 1, 0, &first);
    struct router_effects poor = poor_list();
    router_timer(router, 300000000, false, &poor);
    expect_stuck(router, &poor);
    router_timer(router, 300000000, false, &poor);
    expect_effect(&poor, 0, ROUTER_PROBE);
    cr_assert_eq(poor.count, 1);
    router_free(router);
    router_effects_done(&first);
    router_effects_done(&poor);
}

Test(router_memory, a_snapshot_without_memory_leaves_the_old_one)
{
    struct router_effects first = {0};
    struct router *router = new_router(&first);
    struct router_snapshot_deployment rows[] = {
        {.id = {1}, .max_ongoing = 1, .max_queued = -1, .available = true},
        {.id = {2}, .max_ongoing = 1, .max_queued = -1, .available = true}};
    struct router_snapshot_replica replicas[] = {{{3}, {2}, BYTES("/3")}, {{4}, {1}, BYTES("/4")}};
    struct router_snapshot snapshot = {2, NULL, rows, replicas, 0, 2, 2};
    for (uint64_t nth = 1;; nth++) {
        struct router_effects effects = {0};
        mem_fail_at(nth);
        int code = router_snapshot(router, 3, &snapshot, &effects);
        bool all = mem_fail_at(0) != 0;
        router_check(router);
        cr_assert_eq(router_version(router), code == 0 ? 2 : 1);
        cr_assert_eq(effects.count, code == 0 ? 4 : 0);
        router_effects_done(&effects);
        if (all)
            break;
        cr_assert_eq(code, ERROR_MEMORY);
    }
    router_free(router);
    router_effects_done(&first);
}
