/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_orders: all orders of five events.
 *
 * From one place in the middle of life (an application that runs, another that still starts) every
 * choice of five different happenings in every order, each step checked; then faults stop, both
 * applications get a version that works, and the world must come to rest at its target.
 */
#include <criterion/criterion.h>

#include "controller_world.h"
#include "ensure.h"

enum { HAPPENINGS = 10, CHOSEN = 5, ORDERS = 120 };

static struct world_target target_of(uint32_t app, uint64_t version, uint32_t replicas)
{
    struct world_target target = {.app = app, .route = app + 1, .row_count = 2};
    target.rows[0] = (struct world_row){.version = version, .replicas = replicas, .max_ongoing = 1};
    target.rows[1] = (struct world_row){.name = 1, .version = 1, .replicas = 1, .max_ongoing = 1};
    return target;
}

static struct world_process *starting(struct world *world)
{
    for (uint32_t i = 0; i < world->process_top; i++)
        if (world->processes[i].id && world->processes[i].state == WORLD_STARTING)
            return world->processes + i;
    return NULL;
}

static void one_is_unhealthy(struct world *world)
{
    struct world_process *process = world_running(world, 0);
    struct controller_event event = {.type = CONTROLLER_HEALTH};
    event.replica.v = process ? process->id : 77;
    world_step(world, &event);
}

static void one_fails_to_start(struct world *world)
{
    struct world_process *process = starting(world);
    struct controller_event event = {.type = CONTROLLER_FAILED, .text = BYTES("no")};
    event.replica.v = process ? process->id : 77;
    if (process)
        process->due_ns = 0; /* it says nothing more */
    world_step(world, &event);
}

static void one_dies(struct world *world)
{
    struct world_process *process = world_running(world, 1);
    if (!process)
        process = starting(world);
    if (process)
        world_kill(world, process, 11);
}

static void happen(struct world *world, int happening)
{
    struct world_target target;
    switch (happening) {
    case 0:
        target = target_of(0, 2, 3);
        world_deploy(world, &target);
        break;
    case 1:
        target = target_of(0, WORLD_BAD, 1);
        world_deploy(world, &target);
        break;
    case 2:
        target = target_of(1, 1, 1); /* app 1 again, fewer */
        target.row_count = 1;
        world_deploy(world, &target);
        break;
    case 3:
        world_delete(world, 0);
        break;
    case 4:
        world_store_answers(world);
        break;
    case 5:
        one_dies(world);
        break;
    case 6:
        one_is_unhealthy(world);
        break;
    case 7:
        one_fails_to_start(world);
        break;
    case 8:
        world_pass_time(world, false);
        break;
    case 9:
        world_restart(world);
        break;
    }
}

/* The order with this number: the happenings that are left, one digit of the number at a time. */
static void play(const int *chosen, int order)
{
    struct world *world = world_new((uint64_t)order + 1);
    struct world_target first = target_of(0, 1, 2), second = target_of(1, 1, 2);
    int left[CHOSEN];
    world_deploy(world, &first);
    world_rest(world, INT64_C(60) * 1000000000);
    world_deploy(world, &second);
    world_store_answers(world);
    memcpy(left, chosen, sizeof(left));
    for (int count = CHOSEN; count > 0; order /= count, count--) {
        int pick = order % count;
        happen(world, left[pick]);
        left[pick] = left[count - 1];
    }
    world_deploy(world, &first);
    world_deploy(world, &second);
    world_rest(world, INT64_C(600) * 1000000000);
    world_check_rest(world);
    world_free(world);
}

/* How many of the bits are set; the happenings they stand for. */
static int choose(uint32_t bits, int *chosen)
{
    int count = 0;
    for (int i = 0; i < HAPPENINGS; i++)
        if (bits >> i & 1 && count++ < CHOSEN)
            chosen[count - 1] = i;
    return count;
}

Test(controller_orders, five_events_in_every_order_end_at_the_target, .timeout = 600)
{
    int chosen[CHOSEN], choices = 0;
    for (uint32_t bits = 0; bits < 1u << HAPPENINGS; bits++) {
        if (choose(bits, chosen) != CHOSEN)
            continue;
        choices++;
        for (int order = 0; order < ORDERS; order++)
            play(chosen, order);
    }
    cr_assert_eq(choices, 252);
}
