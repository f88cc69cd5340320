/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_random: chance against the mind.
 *
 * Users deploy, redeploy, delete and give whole targets at random; constructors fail, processes die, hang and are
 * unhealthy or silent, the store fails, events come twice and turns too late, the controller
 * restarts.  The world checks every step.  Then faults stop, every application gets a version that
 * works, and the world must come to rest with actual equal to target (C5).  The same seed says the
 * same (D1).
 */
#include <criterion/criterion.h>

#include "controller_world.h"
#include "ensure.h"
#include "error.h"

enum { APPS = WORLD_APP_LIMIT, STEPS = 20000 };

static uint64_t some_version(struct world *world)
{
    static const uint64_t versions[] = {1, 2, 3, 1, 2, 3, WORLD_BAD, WORLD_FLAKY, WORLD_CRASHING};
    return versions[rng_below(&world->rng, sizeof(versions) / sizeof(versions[0]))];
}

static void draw_target(struct world *world, struct world_target *target)
{
    *target = (struct world_target){.app = (uint32_t)rng_below(&world->rng, APPS)};
    target->route = (uint32_t)rng_below(&world->rng, 6);
    target->row_count = 1 + (uint32_t)rng_below(&world->rng, 3);
    uint32_t first = (uint32_t)rng_below(&world->rng, 4);
    for (uint32_t i = 0; i < target->row_count; i++)
        target->rows[i] = (struct world_row){
            .name = (first + i) % 5,
            .version = some_version(world),
            .replicas = (uint32_t)rng_below(&world->rng, 5),
            .max_ongoing = 1 + (uint32_t)rng_below(&world->rng, 3),
            .surge = 50 * (uint32_t)rng_below(&world->rng, 3),
        };
}

static void some_unhealthy(struct world *world)
{
    struct world_process *process = world_running(world, (uint32_t)rng_below(&world->rng, 64));
    if (!process)
        return;
    struct controller_event event = {.type = CONTROLLER_HEALTH,
                                     .replica = {process->id},
                                     .healthy = rng_chance(&world->rng, 1, 4),
                                     .text = BYTES("not well")};
    world_step(world, &event);
}

/* One is stopped, another goes on; long stops are ended by the health limits. */
static void some_silent(struct world *world)
{
    struct world_process *process = world_running(world, (uint32_t)rng_below(&world->rng, 64));
    if (!process)
        return;
    struct controller_event event = {
        .type = rng_chance(&world->rng, 2, 3) ? CONTROLLER_OWES : CONTROLLER_ANSWERS,
        .replica = {process->id},
        .since_ns = world->now_ns - (int64_t)rng_below(&world->rng, 1000000000),
        .late = rng_chance(&world->rng, 1, 10)};
    world_step(world, &event);
}

/* Words about replicas that may not exist. */
static void nonsense(struct world *world)
{
    static const enum controller_event_type types[] = {
        CONTROLLER_FAILED, CONTROLLER_GONE, CONTROLLER_HEALTH, CONTROLLER_OWES, CONTROLLER_ANSWERS};
    struct controller_event event = {.type = types[rng_below(&world->rng, 5)],
                                     .text = BYTES("nonsense")};
    event.replica.v = world->started_last + 1 + rng_below(&world->rng, 5);
    world_step(world, &event);
}

/* Some of the applications, each once; now and then one that could not be built. */
static void whole_target(struct world *world)
{
    struct world_target targets[APPS];
    uint32_t count = 0;
    for (uint32_t app = 0; app < APPS; app++) {
        if (rng_chance(&world->rng, 1, 2))
            continue;
        draw_target(world, &targets[count]);
        targets[count].app = app;
        targets[count].unbuilt = rng_chance(&world->rng, 1, 8);
        if (targets[count].unbuilt)
            targets[count].row_count = 0;
        count++;
    }
    world_apply(world, targets, count, rng_chance(&world->rng, 3, 4));
}

static void user_acts(struct world *world, uint64_t dice)
{
    struct world_target target;
    draw_target(world, &target);
    if (dice < 8)
        whole_target(world);
    else if (dice < 30)
        world_deploy(world, &target);
    else if (dice < 36)
        world_delete(world, target.app);
    else if (dice < 37)
        world_delete(world, WORLD_APP_LIMIT);
}

static void live(struct world *world, uint32_t steps)
{
    world->faults =
        (struct world_faults){.store_failure = 50, .double_event = 50, .stuck_end = 100};
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t dice = rng_below(&world->rng, 1000);
        struct world_process *process;
        if (dice < 37) {
            user_acts(world, dice);
        } else if (dice < 67) {
            process = world_running(world, (uint32_t)rng_below(&world->rng, 64));
            if (process)
                world_kill(world, process, 9);
        } else if (dice < 87) {
            some_unhealthy(world);
        } else if (dice < 97) {
            nonsense(world);
        } else if (dice < 101) {
            world_restart(world);
        } else if (dice < 161) {
            some_silent(world);
        } else {
            world_pass_time(world, dice < 171);
        }
    }
}

/* Everybody gets a version that works; routes that cannot clash. */
static void deploy_good(struct world *world)
{
    world->faults = (struct world_faults){0};
    for (uint32_t app = 0; app < APPS; app++) {
        struct world_target target;
        draw_target(world, &target);
        target.app = app;
        target.route = 0;
        for (uint32_t i = 0; i < target.row_count; i++)
            target.rows[i].version = WORLD_GOOD + rng_below(&world->rng, 3);
        world_deploy(world, &target);
    }
}

static uint64_t run(uint64_t seed, uint32_t steps)
{
    struct world *world = world_new(seed);
    live(world, steps);
    deploy_good(world);
    world_rest(world, INT64_C(600) * 1000000000);
    world_check_rest(world);
    world_shutdown(world);
    world_rest(world, INT64_C(60) * 1000000000);
    cr_assert(world->ended);
    cr_assert_eq(world->codes[world->token_last], 0);
    uint64_t fingerprint = world->fingerprint;
    world_free(world);
    return fingerprint;
}

Test(controller_random, a_long_life_full_of_faults_ends_at_the_target, .timeout = 300)
{
    run(1, STEPS);
}

Test(controller_random, many_short_lives_end_at_the_target, .timeout = 300)
{
    for (uint64_t seed = 2; seed < 1000; seed++)
        run(seed, 300);
}

Test(controller_random, the_same_seed_tells_the_same_story, .timeout = 300)
{
    for (uint64_t seed = 1000; seed < 1010; seed++)
        cr_assert_eq(run(seed, 1000), run(seed, 1000));
    cr_assert_neq(run(1000, 1000), run(1001, 1000));
}
