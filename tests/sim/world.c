/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: one life of a simulated world.
 *
 *     begin -> deploy, traffic and faults -> calm -> everybody is answered, what runs is what is
 *     wanted (rest) -> shut down -> everything is given back
 *
 * After every step what took a turn is checked.  Rest must come within a bounded simulated time
 * after the faults stop; who still waits then is a hang.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "ensure.h"
#include "mem.h"
#include "world.h"

enum { STEPS_MOST = 4000000 };
static const int64_t REST_NS = 120 * 1000000000LL; /* from calm to rest, from shutdown to the end */

void world_fail(const struct world *world, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim_say("WRONG: %s", text);
    fflush(NULL);
    fprintf(stderr, "seed %llu, at %.6f s: %s\n", (unsigned long long)world->seed,
            (double)sim_now_ns() / 1e9, text);
    exit(1);
}

/* ---- steps ---- */

struct run {
    struct world *world;
    uint32_t steps;
    int64_t until_ns; /* INT64_MAX: not known yet */
    const char *what; /* for which it waits */
};

static void hang(struct run *run, const char *why)
{
    struct world *world = run->world;
    for (uint32_t i = 1; i < world->request_count; i++) {
        const struct world_request *request = world->requests[i];
        if (!request->over && request->kind != WORLD_NESTED)
            fprintf(stderr, "  request %u of client %u to %s is not over (seen %u times)\n", i,
                    request->client, world->apps[request->app].name, request->taken_count);
    }
    struct list_link *link;
    list_each (link, &world->clients) {
        const struct world_client *client = list_entry(link, struct world_client, link);
        if (!client->done)
            fprintf(stderr, "  client %u made %u of %u, %u are out, %llu bytes of a body left\n",
                    client->number, client->made, client->wanted, client->sent_count,
                    (unsigned long long)client->body_left);
    }
    world_fail(world, "%s, so there is no %s", why ? why : "R1: it does not end", run->what);
}

static void step(struct run *run)
{
    struct world *world = run->world;
    bool any;
    int64_t until_ns = run->until_ns == INT64_MAX ? sim_now_ns() + REST_NS : run->until_ns;
    if (++run->steps > STEPS_MOST)
        hang(run, "so many turns");
    struct sim_process *process = sim_step(until_ns, &any);
    if (!any)
        hang(run, world_check_rest(world));
    if (!process)
        return;
    world_check_turn(world, process);
    world_node_reap(world, process);
}

/* ---- phases ---- */

static struct sim_config configuration(struct world *world)
{
    bool slow = world->fault_on[FAULT_SLOW_NETWORK], small = world->fault_on[FAULT_SMALL_BUFFERS];
    struct sim_config config = {.capacity_least = small ? 2304 : 212992,
                                .capacity_most = small ? 16384 : 212992,
                                .story = &world->story,
                                .tap = world_tap_bytes,
                                .owner = world->tap};
    config.local_delay_ns = slow ? world_between(world, 0, 5 * WORLD_MS) : 50000;
    config.client_delay_ns = slow ? world_between(world, 0, 50 * WORLD_MS) : WORLD_MS;
    config.turn_cost_ns = world_between(world, 1000, 200000);
    config.latency_ns = world_between(world, 1000, 100000);
    config.short_one_in =
        world->fault_on[FAULT_SHORT_IO] ? (uint32_t)world_between(world, 2, 8) : 0;
    return config;
}

static void say_faults(const struct world *world)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        if (world->fault_on[fault])
            sim_say("in this world: %s", world_fault_name(fault));
}

static void begin(struct world *world)
{
    world_plan(world);
    world->tap = world_tap_new(world);
    world->check = world_check_new(world);
    world->store = world_store_new();
    world_now = world;
    struct sim_config config = configuration(world);
    sim_begin(&config, world->seed);
    say_faults(world);
    world_node_begin(world);
    world_controller_start(world);
    for (uint32_t i = 0; i < world->proxy_count; i++) {
        world->proxies[i] = (struct world_proxy){.world = world, .number = i + 1};
        world_proxy_start(&world->proxies[i]);
    }
    world_command_begin(world);
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        if (world->apps[i].wanted)
            world_command_deploy(world, i);
    world_clients_begin(world);
    world_faults_begin(world);
}

static void live(struct world *world)
{
    struct run run = {.world = world, .until_ns = INT64_MAX, .what = "rest"};
    while (!world->calm || world_check_rest(world)) {
        step(&run);
        if (world->calm && run.until_ns == INT64_MAX)
            run.until_ns = sim_now_ns() + REST_NS;
    }
    sim_say("at rest: %u good answers, %u others, %u without", world->answers_good,
            world->answers_other, world->answers_none);
}

static bool proxies_live(const struct world *world)
{
    for (uint32_t i = 0; i < world->proxy_count; i++)
        if (world->proxies[i].living)
            return true;
    return false;
}

static void end(struct world *world)
{
    struct run run = {
        .world = world, .until_ns = sim_now_ns() + REST_NS, .what = "end of the instance"};
    world_command_shut_down(world);
    while (!world->ending)
        step(&run);
    for (uint32_t i = 0; i < world->proxy_count; i++)
        world_proxy_terminate(&world->proxies[i]);
    while (proxies_live(world))
        step(&run);
    world_faults_end(world);
    world_controller_kill(world, -1);
    world_command_end(world);
    world_clients_end(world);
    world_node_end(world);
    sim_end();
}

static void give_back(struct world *world)
{
    world_store_free(world->store);
    world_check_free(world->check);
    world_tap_free(world->tap);
    for (uint32_t i = 1; i < world->request_count; i++)
        mem_free(world->requests[i]);
    mem_free(world->requests);
    world_now = NULL;
}

void world_run(uint64_t seed, FILE *out, struct story *ret_story)
{
    uint64_t live_before = mem_count().live;
    struct world *world = mem_new(sizeof *world);
    world->seed = seed;
    world->story.out = out;
    rng_init(&world->rng, seed);
    begin(world);
    live(world);
    end(world);
    give_back(world);
    *ret_story = world->story;
    if (mem_count().live != live_before + 1)
        world_fail(world, "M1: %llu pieces of memory were not given back",
                   (unsigned long long)(mem_count().live - live_before - 1));
    mem_free(world);
}
