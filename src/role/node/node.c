/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node: the instance's place on this machine, its beginning and its end.
 *
 *     STARTING --controller said hello--> SERVING
 *         |                                  |  parent gone (private), signal, controller's word
 *         +----------------------------------+
 *                                            v
 *                      DRAINING --proxies gone, or time--> ENDING --all gone--> the loop stops
 *                          |                                 |
 *                          +------ a second signal ----------+--time--> KILLING
 *
 * In STARTING and SERVING roles are restarted.  In DRAINING the proxies were told to finish and
 * everybody else serves them; in ENDING the controller and the replicas were told too; in KILLING
 * nobody is asked any more.
 */
#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "parent.h"
#include "socket.h"
#include "text.h"

extern char **environ;

enum { NS_PER_MS = 1000000, DESCRIPTION_LIMIT = 4096, SWEEP_ROUNDS = 20, SWEEP_PAUSE_MS = 5 };

#define HTTP_PORT_MEMBER "\"http_port\":"

/* ---- words to who started us ---- */

static void tell(int descriptor, const char *line)
{
    struct iovec part = {(void *)line, strlen(line)};
    if (descriptor >= 0)
        socket_write(descriptor, &part, 1);
}

void node_tell_failure(int parent_descriptor, const struct error *error)
{
    char line[ERROR_TEXT_SIZE + 32];
    snprintf(line, sizeof line, "error %d %s", error->code, error->text);
    line[strcspn(line, "\n")] = 0; /* the protocol is one line */
    snprintf(line + strlen(line), sizeof line - strlen(line), "\n");
    tell(parent_descriptor, line);
}

/* ---- set-up ---- */

static void parent_ready(void *owner, int events)
{
    struct node *node = owner;
    char bytes[64];
    ssize_t size = socket_read(node->parent_link, bytes, sizeof bytes);
    (void)events;
    if (size > 0 || size == -EAGAIN)
        return;
    loop_watch_close(&node->parent_watch);
    if (node->options.is_private)
        node_end(node, "the program that started it is gone", node->settings.stop_grace_ms);
}

static void kill_all(struct node *node);

static void on_signal(void *owner, int signal_number)
{
    struct node *node = owner;
    if (signal_number == SIGCHLD) {
        node_zygotes_hear(node); /* of a child that is dead already, perhaps */
        child_reap_orphans(NULL, NULL);
        return;
    }
    if (node->signals++ > 0)
        kill_all(node);
    else
        node_end(node, signal_number == SIGINT ? "interrupted" : "told to end",
                 node->settings.drain_timeout_ms);
}

static void phase_over(void *owner);
static void signal_proxies(struct node *node, int signal_number);

static int open_loop(struct node *node, struct error *reterr)
{
    const struct settings *settings = &node->settings;
    /* A replica's document is a part of an application's target, which has its own limit. */
    struct channel_config config = {.frame_limit = (size_t)settings->target_size_limit + 65536,
                                    .queue_limit = (size_t)settings->wire_queue_limit,
                                    .turn_limit = (size_t)settings->wire_turn_limit,
                                    .buffer_keep = 2};
    node->loop = loop_new();
    if (!node->loop || channel_set_init(&node->channels, node->loop, &config) < 0)
        return error_set(reterr, ERROR_SYSTEM,
                         "no event loop: descriptors or memory are exhausted");
    loop_timer_init(node->loop, &node->phase_timer, phase_over, node);
    signal(SIGPIPE, SIG_IGN); /* our stderr's reader may leave */
    loop_on_signal(node->loop, SIGTERM, on_signal, node);
    loop_on_signal(node->loop, SIGINT, on_signal, node);
    loop_on_signal(node->loop, SIGCHLD, on_signal, node);
    child_raise_nofile();
    child_become_subreaper();
    return 0;
}

static int open_parent_link(struct node *node, struct error *reterr)
{
    node->parent_link = node->options.parent_descriptor;
    if (node->parent_link < 0)
        return 0;
    fcntl(node->parent_link, F_SETFD, FD_CLOEXEC);
    fcntl(node->parent_link, F_SETFL, O_NONBLOCK);
    int code = loop_watch_open(node->loop, &node->parent_watch, node->parent_link, LOOP_READ,
                               parent_ready, node);
    if (code < 0)
        return error_set(reterr, ERROR_SYSTEM, "cannot watch descriptor %d: %s", node->parent_link,
                         strerror(-code));
    return 0;
}

/* The one that an earlier node of this name had, by what it left; 0: none is known. */
static uint16_t former_port(const struct node *node)
{
    char path[NODE_PATH_SIZE], line[DESCRIPTION_LIMIT] = "";
    const char *at;
    int port = 0;
    snprintf(path, sizeof path, "%s/instance.json", node->instance.directory);
    FILE *file = fopen(path, "re");
    if (file && fgets(line, sizeof line, file) && (at = strstr(line, HTTP_PORT_MEMBER)) &&
        sscanf(at + strlen(HTTP_PORT_MEMBER), "%d", &port) != 1)
        port = 0;
    if (file)
        fclose(file);
    return port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

static int listen_http(struct node *node, struct error *reterr)
{
    const char *host = node->options.http_host;
    uint16_t port = (uint16_t)node->options.http_port;
    uint16_t former = port || node->options.is_private ? 0 : former_port(node);
    /* Any port will do, but clients know that one. */
    if (former)
        node->http_listener = socket_listen_tcp(host, former, NODE_LISTEN_BACKLOG, reterr);
    if (node->http_listener < 0)
        node->http_listener = socket_listen_tcp(host, port, NODE_LISTEN_BACKLOG, reterr);
    return node->http_listener < 0 ? reterr->code : 0;
}

/* A proxy may have kept it; another port than that one's was asked for, perhaps. */
static int open_http(struct node *node, struct error *reterr)
{
    const struct node_options *options = &node->options;
    bool moved = node->http_listener >= 0 && options->http_port > 0 &&
                 socket_local_port(node->http_listener) != options->http_port;
    node->http_port = -1;
    if (moved || options->http_port < 0) {
        socket_close(node->http_listener);
        node->http_listener = -1;
    }
    if (options->http_port < 0)
        return 0;
    if (node->http_listener < 0 && listen_http(node, reterr) < 0)
        return reterr->code;
    node->http_port = socket_local_port(node->http_listener);
    node->proxy_count =
        options->proxies ? options->proxies : node_proxies_for_cores(node_usable_cores());
    if (moved)
        signal_proxies(node, SIGTERM); /* each is started again, on the new port */
    return 0;
}

static int open_controller_socket(struct node *node, struct error *reterr)
{
    if (node->controller_listener < 0)
        node->controller_listener =
            socket_listen_unix(node->instance.controller_socket, NODE_LISTEN_BACKLOG, reterr);
    return node->controller_listener < 0 ? reterr->code : 0;
}

static int open_directory(struct node *node, struct error *reterr)
{
    const struct node_options *options = &node->options;
    struct instance *instance = &node->instance;
    if (instance_locate(instance, options->name, options->is_private, reterr) < 0)
        return reterr->code;
    if (options->log_directory)
        snprintf(instance->log_directory, sizeof instance->log_directory, "%s",
                 options->log_directory);
    if (instance_create(instance, reterr) < 0 || node_desk_open(node, reterr) < 0)
        return reterr->code;
    /* Nobody else answers on its node socket; in a service others may live nevertheless. */
    node->took_back = !options->is_private && node_return_finds(node);
    node->owns_directory = !node->took_back;
    return 0;
}

static int open_log(struct node *node, struct error *reterr)
{
    const struct settings *settings = &node->settings;
    char path[NODE_PATH_SIZE + 16];
    snprintf(path, sizeof path, "%s/node.log", node->instance.log_directory);
    struct log_config config = {
        .path = node->options.log_to_stderr ? NULL : path,
        .encoding = strcmp(node->options.log_encoding, "JSON") == 0 ? LOG_JSON : LOG_TEXT,
        .level = (enum log_level)node->options.log_level,
        .component = "node",
        .component_id = node->instance.name,
        .queue_limit = (size_t)settings->log_queue_limit,
        .rotate_size = (uint64_t)settings->log_rotate_size,
        .rotate_count = (uint32_t)settings->log_rotate_count};
    return log_open(&config, reterr);
}

/* Beside this program, as installed, unless somebody says where. */
static int find_libexec(struct node *node, struct error *reterr)
{
    char path[NODE_PATH_SIZE + 32];
    ssize_t size = readlink("/proc/self/exe", node->libexec, sizeof node->libexec - 1);
    char *slash = NULL;
    if (size > 0 && !getenv("MANTA_LIBEXEC")) {
        node->libexec[size] = 0;
        slash = strrchr(node->libexec, '/');
    }
    if (slash) {
        *slash = 0;
        snprintf(path, sizeof path, "%s/manta-controller", node->libexec);
        if (access(path, X_OK) == 0)
            return 0;
    }
    return instance_libexec(node->libexec, sizeof node->libexec, reterr);
}

/* Ours, with `added` ("NAME=value") in place of what has the same name. */
static char **make_environment(const char *const *added, size_t added_count)
{
    size_t count = 0, made = 0;
    while (environ[count])
        count++;
    char **environment = mem_new((count + added_count + 1) * sizeof *environment);
    for (size_t i = 0; i < count; i++) {
        bool replaced = false;
        for (size_t j = 0; j < added_count; j++) {
            size_t name = strcspn(added[j], "=") + 1;
            replaced = replaced || strncmp(environ[i], added[j], name) == 0;
        }
        if (!replaced)
            environment[made++] = environ[i];
    }
    for (size_t j = 0; j < added_count; j++)
        environment[made++] = (char *)added[j];
    return environment;
}

static void prepare_children(struct node *node)
{
    static char parent[40], words[40]; /* live as long as the environments */
    const char *added[5] = {parent};
    size_t count = 1;
    snprintf(parent, sizeof parent, PARENT_VARIABLE "=%d", PARENT_DESCRIPTOR);
    snprintf(words, sizeof words, PARENT_WORDS_VARIABLE "=%d", PARENT_WORDS);
    snprintf(node->log_level, sizeof node->log_level, "%d", node->options.log_level);
    if (!node->options.is_private) {
        snprintf(node->socket_variable, sizeof node->socket_variable, PARENT_SOCKET_VARIABLE "=%s",
                 node->instance.node_socket);
        added[count++] = node->socket_variable;
    }
    node->environment = make_environment(added, count);
    /* User code that joins an instance, or starts programs that do, means the one around it. */
    snprintf(node->instance_variable, sizeof node->instance_variable, "MANTA_INSTANCE=%s",
             node->instance.name);
    added[count] = node->instance_variable;
    added[count + 1] = words;
    node->replica_environment = make_environment(added, count + 1 + !node->options.is_private);
    if (node->options.request_timeout_ms >= 0) {
        snprintf(node->request_timeout, sizeof node->request_timeout,
                 "MANTA_HTTP_REQUEST_TIMEOUT_MS=%lld", (long long)node->options.request_timeout_ms);
        added[count++] = node->request_timeout;
    }
    if (node->options.keep_alive_ms >= 0) {
        snprintf(node->keep_alive, sizeof node->keep_alive, "MANTA_HTTP_KEEP_ALIVE_MS=%lld",
                 (long long)node->options.keep_alive_ms);
        added[count++] = node->keep_alive;
    }
    node->proxy_environment = make_environment(added, count);
}

static void init_roles(struct node *node)
{
    node_role_init(&node->controller, node, 0);
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        node_role_init(&node->proxies[i], node, i + 1);
}

static void start_roles(struct node *node)
{
    if (!node->controller.running)
        node_role_start(&node->controller);
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        if (i >= node->proxy_count)
            node_role_retire(&node->proxies[i]);
        else if (!node->proxies[i].running)
            node_role_start(&node->proxies[i]);
}

int node_begin(struct node *node, struct error *reterr)
{
    ensure(!node->returning);
    if (open_http(node, reterr) < 0 || open_controller_socket(node, reterr) < 0)
        return reterr->code;
    start_roles(node);
    node_desk_tell_lists(node);
    if (node->controller_guest)
        node_on_controller(node);
    return 0;
}

int node_open(struct node *node, const struct node_options *options, struct error *reterr)
{
    node->options = *options;
    node->http_listener = node->controller_listener = node->parent_link = -1;
    node->lifeline[0] = node->lifeline[1] = -1;
    list_init(&node->untold);
    list_init(&node->guests);
    list_init(&node->zygotes);
    settings_init(&node->settings);
    if (settings_read_environment(&node->settings, (const char *(*)(const char *))getenv, reterr) <
        0)
        return reterr->code;
    map_init(&node->replicas, 2 * (size_t)node->settings.replica_limit);
    if (open_loop(node, reterr) < 0 || open_parent_link(node, reterr) < 0 ||
        find_libexec(node, reterr) < 0 || open_directory(node, reterr) < 0 ||
        open_log(node, reterr) < 0)
        return reterr->code;
    int code = socket_pair(node->lifeline);
    if (code < 0)
        return error_set(reterr, ERROR_SYSTEM, "no socket pair: %s", strerror(-code));
    prepare_children(node);
    log_print(LOG_INFO, "instance '%s' of version %s starts in %s, process %d", node->instance.name,
              MANTA_VERSION, node->instance.directory, (int)getpid());
    init_roles(node);
    node_zygote_inherit(node);
    if (node->took_back)
        node_return_begin(node);
    return node->returning ? 0 : node_begin(node, reterr);
}

/* ---- serving ---- */

static int describe(const struct node *node, struct text *out)
{
    text_add_string(out, "{\"name\":");
    text_add_json(out, bytes_of_string(node->instance.name));
    text_print(out, ",\"pid\":%d,\"http_host\":", (int)getpid());
    text_add_json(out, bytes_of_string(node->options.http_host));
    text_print(out, "," HTTP_PORT_MEMBER "%d,\"version\":", node->http_port);
    text_add_json(out, BYTES(MANTA_VERSION));
    text_add_string(out, "}\n");
    return out->failed ? -1 : 0;
}

/* Whoever looks finds the whole description or none. */
static void write_description(const struct node *node)
{
    char path[NODE_PATH_SIZE], new_path[NODE_PATH_SIZE + 8];
    struct text line;
    snprintf(path, sizeof path, "%s/instance.json", node->instance.directory);
    snprintf(new_path, sizeof new_path, "%s.new", path);
    text_init(&line, DESCRIPTION_LIMIT);
    FILE *file = describe(node, &line) == 0 ? fopen(new_path, "we") : NULL;
    bool written = file && fputs(text_string(&line), file) >= 0;
    written = file && fclose(file) == 0 && written;
    if (!written || rename(new_path, path) != 0) {
        log_print(LOG_WARNING, "%s could not be written: %s", path, strerror(errno));
        unlink(new_path);
    }
    text_done(&line);
}

void node_on_controller(struct node *node)
{
    char line[32];
    if (node->phase != NODE_STARTING || node->returning)
        return;
    node->phase = NODE_SERVING;
    write_description(node);
    snprintf(line, sizeof line, "ready %d\n", node->http_port);
    tell(node->parent_link, line);
    if (node->http_port >= 0)
        log_print(LOG_INFO, "ready: HTTP on %s port %d, %d %s", node->options.http_host,
                  node->http_port, node->proxy_count, node->proxy_count == 1 ? "proxy" : "proxies");
    else
        log_print(LOG_INFO, "ready, without HTTP");
    instance_sweep(&node->instance);
}

/* ---- the end ---- */

static void set_phase(struct node *node, enum node_phase phase, int64_t limit_ms)
{
    node->phase = phase;
    loop_timer_set(&node->phase_timer, loop_refresh_now_ns(node->loop) + limit_ms * NS_PER_MS);
}

static bool proxies_run(const struct node *node)
{
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        if (node->proxies[i].running)
            return true;
    return false;
}

static void signal_proxies(struct node *node, int signal_number)
{
    for (int i = 0; i < NODE_PROXY_LIMIT; i++)
        node_role_signal(&node->proxies[i], signal_number);
}

static void signal_others(struct node *node, int signal_number)
{
    struct map_entry *entry;
    node_role_signal(&node->controller, signal_number);
    node_zygotes_signal(node, signal_number);
    map_each (entry, &node->replicas) {
        struct node_replica *replica = entry->value;
        if (replica->running) /* others come to nothing with their zygote */
            node_replica_signal(replica, signal_number == SIGKILL);
    }
}

static void end_others(struct node *node)
{
    set_phase(node, NODE_ENDING, node->settings.stop_grace_ms);
    signal_others(node, SIGTERM);
}

static void kill_all(struct node *node)
{
    set_phase(node, NODE_KILLING, node->settings.stop_grace_ms);
    signal_proxies(node, SIGKILL);
    signal_others(node, SIGKILL);
    node_check_end(node);
}

void node_end(struct node *node, const char *reason, int64_t drain_ms)
{
    if (node->phase >= NODE_DRAINING)
        return;
    log_print(LOG_INFO, "ending: %s", reason);
    node->returning = false;
    node->owns_directory = true; /* what is found and not known by now is gone with the rest */
    loop_timer_clear(&node->return_timer);
    set_phase(node, NODE_DRAINING, drain_ms);
    /* With the proxies' own copies closed, new connections are refused instead of left waiting. */
    socket_close(node->http_listener);
    node->http_listener = -1;
    signal_proxies(node, SIGTERM);
    node_check_end(node);
}

void node_check_end(struct node *node)
{
    if (node->phase == NODE_DRAINING && !proxies_run(node))
        end_others(node);
    if (node->phase >= NODE_ENDING && !proxies_run(node) && !node->controller.running &&
        node->replicas_running == 0 && node->zygotes_running == 0)
        loop_stop(node->loop);
}

static void phase_over(void *owner)
{
    struct node *node = owner;
    if (node->phase == NODE_DRAINING) {
        log_print(LOG_WARNING, "the proxies did not finish in time");
        signal_proxies(node, SIGKILL);
        end_others(node);
    } else if (node->phase == NODE_ENDING) {
        log_print(LOG_WARNING, "%u replicas did not end in time", node->replicas_running);
        kill_all(node);
    } else {
        log_print(LOG_ERROR, "processes that were killed are still there: the instance ends");
        loop_stop(node->loop);
    }
}

/* What descendants of replicas left their session; orphans became our children. */
static void sweep_orphans(void)
{
    for (int round = 0; round < SWEEP_ROUNDS; round++) {
        int pid, found = 0;
        FILE *file = fopen("/proc/thread-self/children", "re");
        while (file && fscanf(file, "%d", &pid) == 1) {
            kill(pid, SIGKILL);
            found++;
        }
        if (file)
            fclose(file);
        if (!found)
            return;
        usleep(SWEEP_PAUSE_MS * 1000);
        child_reap_orphans(NULL, NULL);
    }
}

static void forget_replicas(struct node *node)
{
    struct map_entry *entry;
    map_each (entry, &node->replicas) {
        struct node_replica *replica = entry->value;
        child_close(&replica->child); /* one that could not be killed */
        node_replica_forget(replica);
    }
    map_done(&node->replicas);
}

void node_close(struct node *node)
{
    if (node->loop) {
        sweep_orphans();
        node_desk_close(node);
        forget_replicas(node);
        node_zygotes_close(node);
        channel_set_done(&node->channels);
        loop_watch_close(&node->parent_watch);
        loop_timer_clear(&node->phase_timer);
        loop_timer_clear(&node->return_timer);
    }
    socket_close(node->http_listener);
    socket_close(node->controller_listener);
    socket_close(node->lifeline[0]);
    socket_close(node->lifeline[1]);
    if (node->owns_directory)
        instance_remove(&node->instance);
    log_print(LOG_INFO, "ended");
    log_close();
    node->environment = mem_free(node->environment);
    node->proxy_environment = mem_free(node->proxy_environment);
    node->replica_environment = mem_free(node->replica_environment);
    /* The link last: its end tells who started us that everything is gone. */
    socket_close(node->parent_link);
}
