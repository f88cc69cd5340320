/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_role: the controller and the proxies, for as long as the instance lives.
 *
 * One that dies is started again: at once the first time, after a pause that doubles when it dies
 * young, so that a broken installation costs no processor.  The listening sockets stay here, so
 * that between two lives connections wait in their queues.
 */
#include <signal.h>
#include <stdio.h>

#include "ensure.h"
#include "log.h"
#include "node.h"
#include "parent.h"

enum { ROLE_LISTENER = 3 /* its number in the child */, EXIT_HOPELESS = 2 /* conduct_run.c */ };

static const int64_t NS_PER_MS = 1000000;
static const int64_t PAUSE_FIRST_MS = 50, PAUSE_LIMIT_MS = 1000;

static const char *role_name(const struct node_role *role, char ret_name[24])
{
    if (role->number == 0)
        snprintf(ret_name, 24, "the controller");
    else
        snprintf(ret_name, 24, "proxy %d", role->number);
    return ret_name;
}

size_t node_log_arguments(const struct node *node, const char **list)
{
    size_t count = 0;
    list[count++] = "--log-directory";
    list[count++] = node->instance.log_directory;
    list[count++] = "--log-level";
    list[count++] = node->log_level;
    list[count++] = "--log-encoding";
    list[count++] = node->options.log_encoding;
    if (node->options.log_to_stderr)
        list[count++] = "--log-to-stderr";
    return count;
}

/* ---- start ---- */

static void role_exit(void *owner, struct child *child, int exit_code, int signal_number);

static int spawn_role(struct node_role *role, const char *program, const char **list, int listener,
                      struct error *reterr)
{
    struct node *node = role->node;
    char path[NODE_PATH_SIZE + 32];
    snprintf(path, sizeof path, "%s/%s", node->libexec, program);
    struct child_descriptor descriptors[] = {
        {.source = listener, .target = ROLE_LISTENER},
        {.source = node->lifeline[1], .target = PARENT_DESCRIPTOR}};
    struct child_spawn spawn = {
        .path = path,
        .arguments = list,
        .environment =
            (const char *const *)(role->number ? node->proxy_environment : node->environment),
        .descriptors = descriptors,
        .descriptor_count = 2,
        .output = -1,
        .error_output = -1};
    return child_start(&role->child, node->loop, &spawn, role_exit, role, reterr);
}

static int start_controller(struct node_role *role, struct error *reterr)
{
    const struct node *node = role->node;
    char start[12];
    const char *list[24] = {"manta-controller",
                            "--instance",
                            node->instance.directory,
                            "--node",
                            node->instance.node_socket,
                            "--listen-descriptor",
                            "3",
                            "--start",
                            start};
    size_t count = 9;
    snprintf(start, sizeof start, "%u", role->starts++);
    if (node->instance.state_directory[0]) {
        list[count++] = "--store";
        list[count++] = node->instance.state_directory;
    }
    count += node_log_arguments(node, list + count);
    list[count] = NULL;
    return spawn_role(role, list[0], list, node->controller_listener, reterr);
}

static int start_proxy(struct node_role *role, struct error *reterr)
{
    const struct node *node = role->node;
    char number[12];
    const char *list[24] = {"manta-proxy",
                            "--instance",
                            node->instance.directory,
                            "--controller",
                            node->instance.controller_socket,
                            "--number",
                            number,
                            "--listen-descriptor",
                            "3"};
    size_t count = 9;
    snprintf(number, sizeof number, "%d", role->number);
    count += node_log_arguments(node, list + count);
    list[count] = NULL;
    return spawn_role(role, list[0], list, node->http_listener, reterr);
}

static void role_died(struct node_role *role, const char *how);

void node_role_start(struct node_role *role)
{
    struct error error = {0};
    char name[24];
    ensure(!role->running && role->node->phase < NODE_DRAINING);
    role->started_ns = loop_refresh_now_ns(role->node->loop);
    int code = role->number ? start_proxy(role, &error) : start_controller(role, &error);
    if (code < 0) {
        role_died(role, error.text);
        return;
    }
    role->running = true;
    log_print(LOG_INFO, "%s runs as process %d", role_name(role, name), (int)role->child.pid);
}

bool node_role_adopt(struct node_role *role, pid_t pid, uint64_t started)
{
    struct node *node = role->node;
    char name[24];
    ensure(!role->running);
    if (!node_return_adopt(node, &role->child, pid, started, role_exit, role))
        return false;
    role->running = role->claimed = true;
    role->started_ns = loop_refresh_now_ns(node->loop);
    log_print(LOG_INFO, "%s is found as process %d", role_name(role, name), (int)pid);
    return true;
}

void node_role_retire(struct node_role *role)
{
    role->retired = true;
    node_role_signal(role, SIGTERM);
}

static void start_again(void *owner)
{
    struct node_role *role = owner;
    if (role->node->phase < NODE_DRAINING)
        node_role_start(role);
}

void node_role_init(struct node_role *role, struct node *node, int number)
{
    *role = (struct node_role){.node = node, .number = number, .child.pidfd = -1};
    loop_timer_init(node->loop, &role->again, start_again, role);
}

/* ---- death ---- */

/* Without a controller nothing works; who waits for the instance hears why.  What serves already is
 * not ended for it. */
static bool give_up(struct node_role *role, const char *how)
{
    struct node *node = role->node;
    struct error error = {0};
    char name[24];
    if (role->number != 0 || node->phase != NODE_STARTING || node->took_back)
        return false;
    if (++role->deaths < NODE_START_ATTEMPTS && !role->hopeless)
        return false;
    node->failed = error_set(&error, ERROR_SYSTEM, "%s does not start: %s; see %s",
                             role_name(role, name), how, node->instance.log_directory);
    node_tell_failure(node->parent_link, &error);
    log_print(LOG_ERROR, "%s", error.text);
    node_end(node, "it could not start", node->settings.stop_grace_ms);
    return true;
}

static void role_died(struct node_role *role, const char *how)
{
    struct node *node = role->node;
    char name[24];
    int64_t now_ns = loop_refresh_now_ns(node->loop);
    if (now_ns - role->started_ns >= PAUSE_LIMIT_MS * NS_PER_MS)
        role->pause_ms = 0;
    log_print(LOG_ERROR, "%s ended: %s; it is started again%s", role_name(role, name), how,
              role->pause_ms ? " after a pause" : "");
    if (give_up(role, how))
        return;
    loop_timer_set(&role->again, now_ns + role->pause_ms * NS_PER_MS);
    role->pause_ms = role->pause_ms ? 2 * role->pause_ms : PAUSE_FIRST_MS;
    if (role->pause_ms > PAUSE_LIMIT_MS)
        role->pause_ms = PAUSE_LIMIT_MS;
}

static void role_exit(void *owner, struct child *child, int exit_code, int signal_number)
{
    struct node_role *role = owner;
    char how[64];
    ensure(child == &role->child);
    role->running = role->claimed = false;
    role->hopeless = exit_code == EXIT_HOPELESS;
    if (signal_number)
        snprintf(how, sizeof how, "signal %d", signal_number);
    else if (exit_code >= 0)
        snprintf(how, sizeof how, "exit code %d", exit_code);
    else
        snprintf(how, sizeof how, "how is not known");
    if (role->node->phase >= NODE_DRAINING)
        node_check_end(role->node);
    else if (role->node->returning)
        node_return_check(role->node); /* which starts it, in its time */
    else if (!role->retired)
        role_died(role, how);
}

void node_role_signal(struct node_role *role, int signal_number)
{
    loop_timer_clear(&role->again);
    if (role->running)
        child_signal(&role->child, signal_number, signal_number == SIGKILL);
}
