/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_return: a service whose node died, taken over by this one.
 *
 *     find ----> claim ----> it says hello and role_here ----> taken back
 *                  |'------> it ends ------------------------> started again, later
 *                  '-------> node_return_ms without a word --> killed
 *
 * Finding reads the processes of the machine (instance.h), so that there is no list that could be
 * out of date.  From its claim on a process is watched by its descriptor, which is opened first and
 * then compared with the time at which the process started: a number that has become another's is
 * left alone.  What it keeps for the node comes with its hello (parent.h).
 *
 * Until the last claimed one has spoken or is gone, this node starts nothing of its own, answers no
 * list of replicas and is not ready; the service serves meanwhile.  Who speaks later, or in a place
 * that is taken, is not of this service any more and is killed: there is never a second controller,
 * proxy or replica of a number.
 */
#include <signal.h>
#include <sys/socket.h>

#include "ensure.h"
#include "log.h"
#include "node.h"
#include "socket.h"

static const int64_t NS_PER_MS = 1000000;

/* ---- one process ---- */

bool node_return_adopt(struct node *node, struct child *child, pid_t pid, uint64_t started,
                       void (*exit)(void *owner, struct child *child, int exit_code,
                                    int signal_number),
                       void *owner)
{
    struct error error = {0};
    if (child_adopt(child, node->loop, pid, exit, owner, &error) < 0) {
        log_print(LOG_WARNING, "%s", error.text);
        return false;
    }
    if (started && child_start_time(pid) == started)
        return true;
    child_close(child);
    return false;
}

static void nobody_cares(void *owner, struct child *child, int exit_code, int signal_number)
{
    (void)owner, (void)child, (void)exit_code, (void)signal_number;
}

static void kill_stranger(struct node *node, pid_t pid, uint64_t started, const char *why)
{
    struct child child = {0};
    if (!node_return_adopt(node, &child, pid, started, nobody_cares, NULL))
        return;
    log_print(LOG_WARNING, "process %d is killed: %s", (int)pid, why);
    child_signal(&child, SIGKILL, true);
    child_close(&child);
}

/* Null: there is no place for such a one. */
static struct node_role *role_of(struct node *node, bool controller, uint64_t number)
{
    if (controller)
        return &node->controller;
    return number >= 1 && number <= NODE_PROXY_LIMIT ? &node->proxies[number - 1] : NULL;
}

/* ---- finding and claiming ---- */

static void found_one(void *owner, const struct instance_process *process)
{
    bool *found = owner;
    (void)process;
    *found = true;
}

bool node_return_finds(struct node *node)
{
    bool found = false;
    instance_each_process(&node->instance, found_one, &found);
    return found;
}

static void claim(void *owner, const struct instance_process *process)
{
    struct node *node = owner;
    if (process->role == INSTANCE_REPLICA) {
        if (map_get(&node->replicas, process->number))
            kill_stranger(node, process->pid, process->started, "there are two of this replica");
        else
            node_replica_adopt(node, process->number, process->pid, process->started);
        return;
    }
    struct node_role *role = role_of(node, process->role == INSTANCE_CONTROLLER, process->number);
    if (!role || role->running)
        kill_stranger(node, process->pid, process->started, "there are two of this role");
    else
        node_role_adopt(role, process->pid, process->started);
}

static uint32_t count_claimed(const struct node *node)
{
    struct map_entry *entry;
    uint32_t count = node->controller.claimed;
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        count += node->proxies[i].claimed;
    map_each (entry, &node->replicas)
        count += ((const struct node_replica *)entry->value)->claimed;
    return count;
}

/* The kernel does not let them go: whatever they are, this node goes on without their word. */
static void drop_claims(struct node *node)
{
    struct map_entry *entry;
    log_print(LOG_ERROR, "%u processes of an earlier node cannot be killed", count_claimed(node));
    node->controller.claimed = false;
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        node->proxies[i].claimed = false;
    map_each (entry, &node->replicas)
        ((struct node_replica *)entry->value)->claimed = false;
    node_return_check(node);
}

/* They are gone when their descriptors say so. */
static void kill_silent(void *owner)
{
    struct node *node = owner;
    struct map_entry *entry;
    if (node->killed_silent) {
        drop_claims(node);
        return;
    }
    node->killed_silent = true;
    loop_timer_set(&node->return_timer,
                   loop_now_ns(node->loop) + node->settings.stop_grace_ms * NS_PER_MS);
    log_print(LOG_WARNING, "%u processes of an earlier node are silent: they are killed",
              count_claimed(node));
    if (node->controller.claimed)
        node_role_signal(&node->controller, SIGKILL);
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        if (node->proxies[i].claimed)
            node_role_signal(&node->proxies[i], SIGKILL);
    map_each (entry, &node->replicas)
        if (((const struct node_replica *)entry->value)->claimed)
            node_replica_signal(entry->value, true);
}

void node_return_begin(struct node *node)
{
    ensure(!node->options.is_private && !node->returning);
    node->returning = true;
    instance_each_process(&node->instance, claim, node);
    loop_timer_init(node->loop, &node->return_timer, kill_silent, node);
    loop_timer_set(&node->return_timer,
                   loop_refresh_now_ns(node->loop) + node->settings.node_return_ms * NS_PER_MS);
    log_print(LOG_INFO, "the service lives without a node: %u of its processes are taken back",
              count_claimed(node));
    node->returning = count_claimed(node) > 0;
}

void node_return_check(struct node *node)
{
    struct error error = {0};
    if (!node->returning || count_claimed(node) > 0)
        return;
    node->returning = false;
    loop_timer_clear(&node->return_timer);
    log_print(LOG_INFO, "%u replicas were taken back", node->replicas_running);
    if (node_begin(node, &error) == 0)
        return;
    node->failed = error.code;
    log_print(LOG_CRITICAL, "%s", error.text);
    node_tell_failure(node->parent_link, &error);
    loop_stop(node->loop);
}

/* ---- what they say ---- */

static bool is_listening(int descriptor, int domain)
{
    int listening = 0, found = 0;
    socklen_t size = sizeof listening, found_size = sizeof found;
    return descriptor >= 0 &&
           getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 &&
           getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &found, &found_size) == 0 && listening &&
           (domain == AF_UNIX) == (found == AF_UNIX);
}

/* Of several proxies the first: they all have the same one. */
static void take_listener(struct node_guest *guest, int *place, int domain)
{
    if (*place >= 0 || !is_listening(guest->brought, domain))
        return;
    socket_adopt(guest->brought);
    *place = guest->brought;
    guest->brought = -1;
}

static bool take_replica(struct node_guest *guest, const struct wire_role_here *here)
{
    struct node *node = guest->node;
    struct node_replica *replica = map_get(&node->replicas, here->number);
    if (!replica && node->returning)
        replica = node_replica_adopt(node, here->number, guest->pid, here->started);
    if (!replica || !replica->running || replica->pid != (uint32_t)guest->pid) {
        kill_stranger(node, guest->pid, here->started, "a replica that nobody knows any more");
        return false;
    }
    replica->claimed = false;
    node_replica_name(replica, here->app, here->deployment);
    node_words_take(replica, guest->brought);
    guest->brought = -1;
    return true;
}

static bool take_role(struct node_guest *guest, const struct wire_role_here *here)
{
    struct node *node = guest->node;
    bool controller = here->role == WIRE_ROLE_CONTROLLER;
    struct node_role *role = role_of(node, controller, here->number);
    if (role && !role->running && node->returning)
        node_role_adopt(role, guest->pid, here->started);
    if (!role || !role->running || role->child.pid != guest->pid) {
        kill_stranger(node, guest->pid, here->started, "its place is another's by now");
        return false;
    }
    role->claimed = false;
    if (node->returning)
        take_listener(guest, controller ? &node->controller_listener : &node->http_listener,
                      controller ? AF_UNIX : AF_UNSPEC);
    return true;
}

bool node_return_take(struct node_guest *guest, const struct wire_role_here *here)
{
    struct node *node = guest->node;
    if (node->options.is_private || node->phase >= NODE_DRAINING || guest->pid <= 0)
        return false;
    /* Who connected may be gone, and its number another's. */
    if (!here->started || child_start_time(guest->pid) != here->started) {
        log_print(LOG_WARNING, "process %d is not the one that it says", (int)guest->pid);
        return false;
    }
    switch (here->role) {
    case WIRE_ROLE_REPLICA:
        return take_replica(guest, here);
    case WIRE_ROLE_CONTROLLER:
    case WIRE_ROLE_PROXY:
        return take_role(guest, here);
    default:
        return false;
    }
}
