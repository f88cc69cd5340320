/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_process: the processes of the proxies and of the controller: the real roles, begun and
 * ended as the node would do it.
 *
 * A killed process closes its descriptors and says nothing more; the functions that give its memory
 * back run in a doomed process, whose writes are lost.  The listening sockets are the node's, so
 * that who comes meanwhile waits.
 */
#include <signal.h>
#include <stdio.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"
#include "world.h"

static void narrate(void *owner, const char *line)
{
    sim_say("%s", line);
}

/* ---- proxies ---- */

void world_proxy_start(struct world_proxy *proxy)
{
    struct world *world = proxy->world;
    struct error error = {0};
    char name[SIM_NAME_SIZE];
    ensure(!proxy->living);
    snprintf(name, sizeof name, "proxy-%u", proxy->number);
    sim_process_begin(&proxy->process, name);
    proxy->living = true;
    proxy->trace = (struct trace){.line = narrate};
    proxy->proxy = mem_new(sizeof *proxy->proxy);
    proxy->proxy->settings = world->settings;
    struct proxy_options options = {.directory = "/sim",
                                    .controller = WORLD_CONTROLLER_PATH,
                                    .number = (int)proxy->number,
                                    .listen_descriptor =
                                        sim_share(world->listener, &proxy->process),
                                    .bond.descriptor = -1,
                                    .trace = &proxy->trace};
    sim_enter(&proxy->process);
    sim_say("begins");
    if (proxy_open(proxy->proxy, &options, rng_next(sim_rng()), &error) < 0)
        world_fail(world, "W3: a proxy cannot begin: %s", error.text);
    sim_leave();
}

static void proxy_restart(void *owner)
{
    world_proxy_start(owner);
}

void world_proxy_kill(struct world_proxy *proxy, int64_t back_after_ns)
{
    struct world *world = proxy->world;
    sim_event_clear(&proxy->restart);
    if (proxy->living) {
        int listener = proxy->proxy->listen_descriptor;
        world_clients_lose(world, &proxy->process);
        sim_enter(&proxy->process);
        sim_say("is gone: %s", proxy->process.ended ? "by itself" : "killed");
        proxy->process.doomed = true;
        proxy_close(proxy->proxy);
        socket_close(listener);
        sim_leave();
        sim_process_end(&proxy->process);
        proxy->proxy = mem_free(proxy->proxy);
        proxy->living = false;
    }
    if (back_after_ns >= 0)
        sim_event_set(&proxy->restart, world_node_ns(world) + back_after_ns, proxy_restart, proxy);
}

void world_proxy_terminate(struct world_proxy *proxy)
{
    world_clients_lose(proxy->world, &proxy->process);
    sim_process_signal(&proxy->process, SIGTERM);
}

/* ---- the controller ---- */

void world_controller_start(struct world *world)
{
    struct world_controller *controller = &world->controller;
    struct error error = {0};
    ensure(!controller->living);
    sim_process_begin(&controller->process, "controller");
    controller->living = true;
    controller->lives++;
    controller->conduct = mem_new(sizeof *controller->conduct);
    controller->conduct->settings = world->settings;
    struct conduct_options options = {
        .directory = "/sim",
        .node = "/sim/node",
        .listen_descriptor = sim_share(world->controller_listener, &controller->process),
        .bond.descriptor = -1,
        .engine = world_engine_new};
    sim_enter(&controller->process);
    sim_say("begins its life %u", controller->lives);
    if (conduct_open(controller->conduct, &options, rng_next(sim_rng()), &error) < 0)
        world_fail(world, "W3: the controller cannot begin: %s", error.text);
    sim_leave();
}

static void controller_restart(void *owner)
{
    world_controller_start(owner);
}

void world_controller_kill(struct world *world, int64_t back_after_ns)
{
    struct world_controller *controller = &world->controller;
    sim_event_clear(&controller->restart);
    if (controller->living) {
        sim_enter(&controller->process);
        sim_say("is gone");
        controller->process.doomed = true;
        conduct_close(controller->conduct);
        sim_leave();
        sim_process_end(&controller->process);
        controller->conduct = mem_free(controller->conduct);
        controller->living = false;
    }
    if (back_after_ns >= 0)
        sim_event_set(&controller->restart, world_node_ns(world) + back_after_ns,
                      controller_restart, world);
}
