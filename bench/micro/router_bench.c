/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision of the router costs: nanoseconds per request from submit to done, and per route.
 *
 * Four ways through: a free replica (the common case), with two and with a hundred to choose from;
 * a queue, where each answer sends the next waiting request; and the same with deadlines.  Routes
 * are looked up among one and among a thousand applications.  Each number is the best of several
 * runs, because on a shared machine everything else is somebody else's time.
 *
 * Usage: router_bench [runs]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ensure.h"
#include "mem.h"
#include "router.h"

enum { REQUESTS = 1024, ROUNDS = 200, RUNS = 10, APPS = 1000, PATHS = 200000 };

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct request_id request(uint64_t index)
{
    return (struct request_id){(uint64_t)1 << 32 | index};
}

static struct router *new_router(uint32_t replica_count, uint32_t max_ongoing,
                                 struct router_effects *effects)
{
    struct router_config config = {.request_limit = REQUESTS, .silence_limit_ns = 2000000000};
    struct router_snapshot_deployment deployment = {
        .id = {1}, .max_ongoing = max_ongoing, .max_queued = -1, .available = true};
    struct router_snapshot_replica *replicas = mem_new(replica_count * sizeof(*replicas));
    for (uint32_t i = 0; i < replica_count; i++)
        replicas[i] = (struct router_snapshot_replica){{i + 1}, {1}, BYTES("/socket")};
    struct router_snapshot snapshot = {1, NULL, &deployment, replicas, 0, 1, replica_count};
    struct router *router = router_new(&config, 1);
    ensure(router && router_snapshot(router, 1, &snapshot, effects) == 0);
    for (uint32_t i = 0; i < replica_count; i++)
        router_connected(router, 1, (struct replica_id){i + 1}, effects);
    effects->count = 0;
    mem_free(replicas);
    return router;
}

/* REQUESTS come and end, `at_once` of them before the next; all the others wait. */
static void round_of(struct router *router, uint32_t at_once, int64_t deadline_ns, int64_t now_ns,
                     struct router_effects *effects)
{
    for (uint64_t begun = 0; begun < REQUESTS; begun += at_once) {
        for (uint64_t i = begun; i < begun + at_once; i++) {
            struct router_submit submit = {
                .request = request(i), .deployment = {1}, .deadline_ns = deadline_ns};
            router_submit(router, now_ns, &submit, effects);
        }
        for (uint64_t i = begun; i < begun + at_once; i++) {
            router_accepted(router, now_ns, request(i), 1, effects);
            router_done(router, now_ns, request(i), 0, effects);
        }
        effects->count = 0;
    }
}

static void bench(const char *what, uint32_t replica_count, uint32_t max_ongoing, uint32_t at_once,
                  int64_t deadline_ns, int runs)
{
    struct router_effects effects = {0};
    struct router *router = new_router(replica_count, max_ongoing, &effects);
    int64_t best = INT64_MAX;
    round_of(router, at_once, deadline_ns, 2, &effects);
    uint64_t allocations = mem_count().allocations;
    for (int run = 0; run < runs; run++) {
        int64_t begin = clock_ns();
        for (int i = 0; i < ROUNDS; i++)
            round_of(router, at_once, deadline_ns, 2 + i, &effects);
        int64_t spent = clock_ns() - begin;
        best = spent < best ? spent : best;
    }
    ensure(mem_count().allocations == allocations);
    printf("%-44s %7.1f ns\n", what, (double)best / ROUNDS / REQUESTS);
    router_check(router);
    router_free(router);
    router_effects_done(&effects);
}

static void bench_route(uint32_t app_count, int runs)
{
    static char names[APPS][32];
    static struct router_snapshot_app apps[APPS];
    struct router_config config = {.request_limit = 1};
    struct router_effects effects = {0};
    struct router *router = router_new(&config, 1);
    struct deployment_id deployment;
    struct bytes prefix, app;
    for (uint32_t i = 0; i < app_count; i++) {
        snprintf(names[i], sizeof(names[i]), "/api/v1/app%u", i);
        apps[i] =
            (struct router_snapshot_app){{i + 1}, BYTES("app"), bytes_of_string(names[i]), {1}};
    }
    struct router_snapshot snapshot = {.version = 1, .apps = apps, .app_count = app_count};
    ensure(router && router_snapshot(router, 1, &snapshot, &effects) == 0);
    struct bytes path = BYTES("/api/v1/app0/items/17/parts");
    int64_t best = INT64_MAX;
    for (int run = 0; run < runs; run++) {
        int64_t begin = clock_ns();
        for (int i = 0; i < PATHS; i++)
            ensure(router_route(router, path, &deployment, &prefix, &app));
        int64_t spent = clock_ns() - begin;
        best = spent < best ? spent : best;
    }
    printf("route among %-32u %7.1f ns\n", app_count, (double)best / PATHS);
    router_free(router);
    router_effects_done(&effects);
}

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : RUNS;
    if (runs < 1) {
        fprintf(stderr, "usage: %s [runs]\n", argv[0]);
        return 2;
    }
    bench("submit, accepted, done: one replica", 1, 5, 1, 0, runs);
    bench("  two replicas", 2, 5, 1, 0, runs);
    bench("  a hundred replicas, 64 at once", 100, 5, 64, 0, runs);
    bench("  a queue: 64 at once for one slot", 1, 1, 64, 0, runs);
    bench("  the same with deadlines", 1, 1, 64, INT64_MAX, runs);
    bench_route(1, runs);
    bench_route(APPS, runs);
    return 0;
}
