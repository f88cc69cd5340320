/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_fault: faults: when they happen, to whom, and how they are healed.
 *
 * Those of the plan (user code, clients, settings, the network) lie in what was planned; here are
 * those that strike at a moment: at random intervals one of the kinds that the seed chose, on a
 * random victim.  They stop at a time (calm); from then on nothing is broken any more and whatever
 * still is comes back.
 */
#include <signal.h>

#include "ensure.h"
#include "world.h"

const char *world_fault_name(int fault)
{
    static const char *const names[] = {
#define FAULT(name, sentence) #name,
#include "faults.def"
#undef FAULT
    };
    return names[fault];
}

const char *world_fault_sentence(int fault)
{
    static const char *const sentences[] = {
#define FAULT(name, sentence) sentence,
#include "faults.def"
#undef FAULT
    };
    return sentences[fault];
}

/* ---- victims ---- */

static struct world_replica *some_replica(struct world *world)
{
    if (list_empty(&world->replicas))
        return NULL;
    int64_t left = world_between(world, 0, (int64_t)world->replicas.length - 1);
    struct list_link *link = world->replicas.head.next;
    while (left-- > 0)
        link = link->next;
    return list_entry(link, struct world_replica, link);
}

static struct world_proxy *some_proxy(struct world *world)
{
    struct world_proxy *proxy =
        &world->proxies[world_between(world, 0, (int64_t)world->proxy_count - 1)];
    return proxy->living ? proxy : NULL;
}

static struct world_client *some_client(struct world *world)
{
    int64_t left = world_between(world, 0, (int64_t)world->clients.length - 1);
    struct list_link *link = world->clients.head.next;
    while (left-- > 0)
        link = link->next;
    struct world_client *client = list_entry(link, struct world_client, link);
    return client->descriptor >= 0 ? client : NULL;
}

/* Mostly short, sometimes past the limits on silence and lateness. */
static int64_t some_while_ns(struct world *world)
{
    return world_one_in(world, 3) ? world_between(world, 400, 4000) * WORLD_MS
                                  : world_between(world, 1, 300) * WORLD_MS;
}

/* ---- to replicas and links ---- */

static void crash_replica(struct world *world)
{
    struct world_replica *replica = some_replica(world);
    if (!replica)
        return;
    sim_say("fault: r%llu crashes", (unsigned long long)replica->id);
    world_replica_crash(replica);
}

static void stop(struct world *world, struct sim_process *process)
{
    int64_t while_ns = some_while_ns(world);
    sim_say("fault: %s stands still for %lld ms", process->name, (long long)(while_ns / WORLD_MS));
    sim_process_stop(process, sim_now_ns() + while_ns);
}

static void hang_replica(struct world *world)
{
    struct world_replica *replica = some_replica(world);
    if (replica)
        stop(world, &replica->process);
}

static void sicken(struct world *world)
{
    struct world_replica *replica = some_replica(world);
    if (replica && replica->is_serving && !replica->process.ended)
        world_replica_say_health(replica, world_one_in(world, 4));
}

static void stall_link(struct world *world)
{
    struct world_replica *replica = some_replica(world);
    int64_t while_ns = some_while_ns(world);
    if (replica && sim_stall(&replica->process, sim_now_ns() + while_ns))
        sim_say("fault: a link of r%llu stalls for %lld ms", (unsigned long long)replica->id,
                (long long)(while_ns / WORLD_MS));
}

/* ---- to clients ---- */

static void stall_client(struct world *world)
{
    struct world_client *client = some_client(world);
    if (!client)
        return;
    sim_say("fault: the connection of client %u stalls", client->number);
    sim_stall_descriptor(client->descriptor, sim_now_ns() + some_while_ns(world));
    world_client_excuse(client, "its connection stalled");
}

static void reset_client(struct world *world)
{
    struct world_client *client = some_client(world);
    if (!client)
        return;
    sim_say("fault: the connection of client %u is reset", client->number);
    sim_reset(client->descriptor);
    world_client_excuse(client, "its connection was reset");
}

/* ---- to the controller and the proxies ---- */

static void lose_controller(struct world *world)
{
    if (!world->controller.living)
        return;
    sim_say("fault: the controller is lost");
    world_controller_kill(world, world_one_in(world, 2) ? 0 : some_while_ns(world));
}

static void cut_link(struct world *world)
{
    if (world->controller.living && sim_cut(&world->controller.process))
        sim_say("fault: a connection to the controller is cut");
}

/* The controller, a proxy or a replica, as it comes. */
static struct sim_process *some_process(struct world *world)
{
    struct world_replica *replica = some_replica(world);
    struct world_proxy *proxy = some_proxy(world);
    switch (world_between(world, 0, 2)) {
    case 0:
        return world->controller.living ? &world->controller.process : NULL;
    case 1:
        return proxy ? &proxy->process : NULL;
    default:
        return replica ? &replica->process : NULL;
    }
}

static void part(struct world *world)
{
    struct sim_process *process = some_process(world);
    int64_t while_ns = some_while_ns(world);
    if (!process)
        return;
    sim_say("fault: %s is cut off for %lld ms", process->name, (long long)(while_ns / WORLD_MS));
    sim_process_isolate(process, sim_now_ns() + while_ns);
}

static void fill_disk(struct world *world)
{
    int64_t while_ns = some_while_ns(world);
    sim_say("fault: the disk is full for %lld ms", (long long)(while_ns / WORLD_MS));
    world->disk_full_until_ns = sim_now_ns() + while_ns;
}

static void lose_node(struct world *world)
{
    int64_t while_ns = some_while_ns(world);
    if (world_node_ns(world) > sim_now_ns())
        return;
    sim_say("fault: the node is lost, another comes after %lld ms",
            (long long)(while_ns / WORLD_MS));
    world->node_away_until_ns = sim_now_ns() + while_ns;
}

static void jump_clock(struct world *world)
{
    int64_t by_s = world_one_in(world, 2) ? world_between(world, -5, 5)
                                          : world_between(world, -300000, 300000);
    sim_say("fault: the wall clock jumps by %lld s", (long long)by_s);
    sim_wall_jump(by_s * WORLD_SECOND);
}

static void hang_controller(struct world *world)
{
    if (world->controller.living)
        stop(world, &world->controller.process);
}

static void crash_proxy(struct world *world)
{
    struct world_proxy *proxy = some_proxy(world);
    if (!proxy)
        return;
    sim_say("fault: %s crashes", proxy->process.name);
    world_proxy_kill(proxy, world_between(world, 0, 100) * WORLD_MS);
}

static void restart_proxy(struct world *world)
{
    struct world_proxy *proxy = some_proxy(world);
    if (!proxy)
        return;
    sim_say("fault: %s is told to end", proxy->process.name);
    world_proxy_terminate(proxy);
}

static void hang_proxy(struct world *world)
{
    struct world_proxy *proxy = some_proxy(world);
    if (proxy)
        stop(world, &proxy->process);
}

static void take_descriptors(struct world *world)
{
    struct world_proxy *proxy = some_proxy(world);
    if (!proxy)
        return;
    proxy->process.descriptor_limit =
        proxy->process.descriptor_count + (uint32_t)world_between(world, 0, 2);
    sim_say("fault: %s has room for %u descriptors", proxy->process.name,
            proxy->process.descriptor_limit);
    world->descriptors_ns = INT64_MAX;
}

static void give_descriptors(struct world *world)
{
    if (world->descriptors_ns != INT64_MAX)
        return;
    for (uint32_t i = 0; i < world->proxy_count; i++)
        world->proxies[i].process.descriptor_limit = UINT32_MAX;
    sim_say("there are descriptors again");
    world->descriptors_ns = sim_now_ns();
}

static void stall_clock(struct world *world)
{
    int64_t while_ns = some_while_ns(world);
    struct list_link *link;
    sim_say("fault: the machine stands still for %lld ms", (long long)(while_ns / WORLD_MS));
    for (uint32_t i = 0; i < world->proxy_count; i++)
        if (world->proxies[i].living)
            sim_process_stop(&world->proxies[i].process, sim_now_ns() + while_ns);
    if (world->controller.living)
        sim_process_stop(&world->controller.process, sim_now_ns() + while_ns);
    sim_process_stop(&world->clients_process, sim_now_ns() + while_ns);
    list_each (link, &world->replicas)
        sim_process_stop(&list_entry(link, struct world_replica, link)->process,
                         sim_now_ns() + while_ns);
}

/* ---- of operators ---- */

static struct world_app *some_app(struct world *world)
{
    return &world->apps[world_between(world, 0, WORLD_APPS - 1)];
}

static void deploy(struct world *world, const struct world_app *app)
{
    world_command_deploy(world, (uint32_t)(app - world->apps));
}

static void redeploy(struct world *world)
{
    struct world_app *app = some_app(world);
    if (!app->wanted)
        return;
    app->version++;
    deploy(world, app);
}

static void reconfigure(struct world *world)
{
    struct world_app *app = some_app(world);
    if (!app->wanted)
        return;
    app->config++;
    deploy(world, app);
}

static void rescale(struct world *world)
{
    struct world_app *app = some_app(world);
    if (!app->wanted)
        return;
    app->replicas = (uint32_t)world_between(world, 1, 4);
    app->max_ongoing = (uint32_t)world_between(world, 1, 8);
    if (world_one_in(world, 3)) {
        app->max_queued = world_one_in(world, 3) ? -1 : world_between(world, 1, 8);
        app->queue_changed = true;
    }
    deploy(world, app);
}

static void delete_or_bring_back(struct world *world)
{
    struct world_app *app = some_app(world);
    app->wanted = !app->wanted;
    deploy(world, app);
}

/* ---- when ---- */

static const struct {
    enum world_fault fault;
    void (*strike)(struct world *world);
} strikes[] = {
    {FAULT_REPLICA_CRASH, crash_replica},
    {FAULT_REPLICA_HANG, hang_replica},
    {FAULT_LINK_STALL, stall_link},
    {FAULT_REPLICA_SICK, sicken},
    {FAULT_LINK_CUT, cut_link},
    {FAULT_PARTITION, part},
    {FAULT_DISK_FULL, fill_disk},
    {FAULT_NODE_LOST, lose_node},
    {FAULT_CLOCK_JUMP, jump_clock},
    {FAULT_CLIENT_STALL, stall_client},
    {FAULT_CLIENT_RESET, reset_client},
    {FAULT_CONTROLLER_LOST, lose_controller},
    {FAULT_CONTROLLER_HANG, hang_controller},
    {FAULT_PROXY_CRASH, crash_proxy},
    {FAULT_PROXY_RESTART, restart_proxy},
    {FAULT_PROXY_HANG, hang_proxy},
    {FAULT_CLOCK_STALL, stall_clock},
    {FAULT_REDEPLOY, redeploy},
    {FAULT_RECONFIGURE, reconfigure},
    {FAULT_RESCALE, rescale},
    {FAULT_DELETE, delete_or_bring_back},
    {FAULT_DESCRIPTORS, take_descriptors},
};
enum { STRIKES = sizeof strikes / sizeof strikes[0] };

static void fault_due(void *owner)
{
    struct world *world = owner;
    uint32_t count = 0, chosen;
    give_descriptors(world);
    for (uint32_t i = 0; i < STRIKES; i++)
        count += world->fault_on[strikes[i].fault];
    if (count == 0)
        return;
    chosen = (uint32_t)world_between(world, 1, count);
    for (uint32_t i = 0; i < STRIKES; i++)
        if (world->fault_on[strikes[i].fault] && --chosen == 0)
            strikes[i].strike(world);
    sim_event_set(&world->fault_event,
                  sim_now_ns() + world_between(world, 0, 2 * world->fault_pause_ns), fault_due,
                  world);
}

/* User code that would never answer ends with its process, as an operator would end it. */
static void end_silent(struct world *world)
{
    struct list_link *link, *after, *at;
    list_each_safe (link, after, &world->replicas) {
        struct world_replica *replica = list_entry(link, struct world_replica, link);
        bool silent = false;
        list_each (at, &replica->calls) {
            const struct world_call *call = list_entry(at, struct world_call, link);
            for (uint32_t i = 0; i < call->count; i++)
                silent |= call->known[i]->plan == PLAN_SILENT;
        }
        if (silent)
            world_replica_crash(replica);
    }
}

/* The one fault of calm: nothing else ends this replica. */
static void sicken_one(void *owner)
{
    struct world *world = owner;
    struct list_link *link;
    list_each (link, &world->replicas) {
        struct world_replica *replica = list_entry(link, struct world_replica, link);
        if (replica->is_serving && !replica->sick) {
            world_replica_say_health(replica, false);
            return;
        }
    }
}

static void become_calm(void *owner)
{
    struct world *world = owner;
    sim_say("calm: no more faults");
    sim_event_clear(&world->fault_event);
    give_descriptors(world);
    end_silent(world);
    if (world->fault_on[FAULT_REPLICA_SICK])
        sim_event_set(&world->fault_event, sim_now_ns() + WORLD_SECOND / 2, sicken_one, world);
    world->calm = true;
    world->calm_ns = sim_now_ns();
    /* What failed for good, or never began, comes back with a version that does not. */
    for (uint32_t i = 0; i < WORLD_APPS; i++) {
        world->apps[i].version +=
            world->fault_on[FAULT_START_FAILS] || world->fault_on[FAULT_START_HANGS];
        world->apps[i].config += world->fault_on[FAULT_RECONFIGURE_FAILS];
        world_command_deploy(world, i);
    }
}

void world_faults_begin(struct world *world)
{
    sim_event_set(&world->fault_event,
                  sim_now_ns() + world_between(world, 0, 2 * world->fault_pause_ns), fault_due,
                  world);
    sim_event_set(&world->calm_event, sim_now_ns() + world->faults_end_ns, become_calm, world);
}

void world_faults_end(struct world *world)
{
    sim_event_clear(&world->fault_event);
    sim_event_clear(&world->calm_event);
}
