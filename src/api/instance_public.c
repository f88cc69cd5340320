/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance_public: <manta/instance.h>: starting, joining and ending instances.
 *
 * manta_start runs the node and waits for its word over a socket pair, the parent link.  The link
 * stays open: when this program ends, however that happens, a private instance sees the end of file
 * and ends with it; when the node ends, this side sees it (manta_instance_descriptor).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>
#include <manta/instance.h>
#include <manta/sys/deploy.h>

#include "child.h"
#include "control.h"
#include "instance_inner.h"
#include "log.h"
#include "mem.h"
#include "socket.h"
#include "wire.h"

enum {
    START_WAIT_MS = 30000,
    END_WAIT_MS = 10000,
    FAILED_WAIT_MS = 2000,
    NODE_LINK = 3, /* the number of its end of the parent link */
};

static const struct manta_start_options START_DEFAULTS = {MANTA_START_OPTIONS};

/* ---- starting the node
 * --------------------------------------------------------------------------------- */

/* Who starts the node's process, if not this library. */
struct launch {
    manta_launch_function *function;
    void *owner;
};

/* Arguments as text; the array points into the struct. */
struct node_arguments {
    char executable[4096], port[16], proxies[16], timeout[24], keep_alive[24], link[16];
    const char *list[32];
};

static void fill_arguments(struct node_arguments *arguments, const struct manta_instance *instance,
                           const struct manta_start_options *options, int link)
{
    size_t count = 0;
    const char **list = arguments->list;
    snprintf(arguments->link, sizeof arguments->link, "%d", link);
    snprintf(arguments->port, sizeof arguments->port, "%d", options->http_port);
    snprintf(arguments->proxies, sizeof arguments->proxies, "%d", options->proxies);
    snprintf(arguments->timeout, sizeof arguments->timeout, "%.0f",
             options->request_timeout_s * 1000);
    snprintf(arguments->keep_alive, sizeof arguments->keep_alive, "%.0f",
             options->keep_alive_timeout_s * 1000);
    list[count++] = "manta-node";
    list[count++] = "--name";
    list[count++] = instance->place.name;
    list[count++] = "--parent-descriptor";
    list[count++] = arguments->link;
    list[count++] = "--http-host";
    list[count++] = options->http_host ? options->http_host : "127.0.0.1";
    list[count++] = "--http-port";
    list[count++] = arguments->port;
    list[count++] = "--proxies";
    list[count++] = arguments->proxies;
    list[count++] = "--request-timeout-ms";
    list[count++] = arguments->timeout;
    list[count++] = "--keep-alive-ms";
    list[count++] = arguments->keep_alive;
    list[count++] = "--log-level";
    list[count++] = options->log_level ? options->log_level : "INFO";
    list[count++] = "--log-encoding";
    list[count++] = options->log_encoding ? options->log_encoding : "TEXT";
    if (options->log_directory) {
        list[count++] = "--log-directory";
        list[count++] = options->log_directory;
    }
    if (options->log_to_stderr)
        list[count++] = "--log-to-stderr";
    if (instance->owned)
        list[count++] = "--private";
    list[count] = NULL;
}

/* The process id, or an error. */
static int spawn_node(const struct node_arguments *arguments, int link, struct error *reterr)
{
    struct child child = {0};
    struct child_descriptor parent = {.source = link, .target = NODE_LINK};
    struct child_spawn spawn = {.path = arguments->executable,
                                .arguments = arguments->list,
                                .descriptors = &parent,
                                .descriptor_count = 1,
                                .output = -1,
                                .error_output = -1};
    if (child_start(&child, NULL, &spawn, NULL, NULL, reterr) < 0)
        return reterr->code;
    int pid = (int)child.pid;
    child_close(&child);
    return pid;
}

static int launch_node(const struct node_arguments *arguments, int link,
                       const struct launch *launch, struct error *reterr)
{
    int pid = launch->function(launch->owner, arguments->executable, arguments->list, link);
    return pid > 0 ? pid : error_set(reterr, ERROR_SYSTEM, "the node could not be launched");
}

static int start_node(struct manta_instance *instance, const struct manta_start_options *options,
                      const struct launch *launch, struct error *reterr)
{
    struct node_arguments arguments;
    int pair[2];
    char directory[4000];
    if (instance_libexec(directory, sizeof directory, reterr) < 0)
        return reterr->code;
    snprintf(arguments.executable, sizeof arguments.executable, "%s/manta-node", directory);
    int code = socket_pair(pair);
    if (code < 0)
        return error_set(reterr, ERROR_SYSTEM, "no socket pair: %s", strerror(-code));
    fill_arguments(&arguments, instance, options, launch->function ? pair[1] : NODE_LINK);
    forks_keep(&instance->at_fork, pair[0]); /* what is forked on the way shall not have our end */
    int pid = launch->function ? launch_node(&arguments, pair[1], launch, reterr)
                               : spawn_node(&arguments, pair[1], reterr);
    socket_close(pair[1]);
    if (pid < 0) {
        forks_drop(&instance->at_fork);
        socket_close(pair[0]);
        return pid;
    }
    instance->node = pid;
    instance->link = pair[0];
    return 0;
}

/* "ready <port>" or "error <code> <text>", a line. */
static int await_node(struct manta_instance *instance, struct error *reterr)
{
    char line[ERROR_TEXT_SIZE + 64];
    size_t size = 0;
    int64_t due = control_now_ns() + START_WAIT_MS * 1000000LL;
    int code = 0, offset = 0;
    while (size < sizeof line - 1 && !memchr(line, '\n', size)) {
        struct pollfd wanted = {.fd = instance->link, .events = POLLIN};
        int64_t left_ms = (due - control_now_ns()) / 1000000;
        if (left_ms <= 0)
            return error_set(reterr, ERROR_TIMEOUT, "the instance did not start within %d s",
                             START_WAIT_MS / 1000);
        if (poll(&wanted, 1, (int)left_ms) < 0 && errno != EINTR)
            return error_set(reterr, ERROR_SYSTEM, "poll: %s", strerror(errno));
        ssize_t got = socket_read(instance->link, line + size, sizeof line - 1 - size);
        if (got == -EAGAIN)
            continue;
        if (got <= 0)
            return error_set(reterr, ERROR_SYSTEM,
                             "the node ended while it started; see the messages above");
        size += (size_t)got;
    }
    line[size] = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "ready %d", &instance->http_port) == 1)
        return 0;
    if (sscanf(line, "error %d %n", &code, &offset) == 1 && code < 0)
        return error_set(reterr, code, "%s", line + offset);
    return error_set(reterr, ERROR_PROTOCOL, "the node said '%.100s'", line);
}

/* ---- ending
 * ---------------------------------------------------------------------------------------------- */

/* The link ends when the node does.  False: not within `wait_ms`. */
static bool await_end(struct manta_instance *instance, int wait_ms)
{
    struct pollfd link = {.fd = instance->link, .events = POLLIN};
    int64_t due = control_now_ns() + wait_ms * 1000000LL;
    char rest[256];
    for (;;) {
        ssize_t got = socket_read(instance->link, rest, sizeof rest);
        if (got == 0 || (got < 0 && got != -EAGAIN))
            return true;
        int64_t left_ms = (due - control_now_ns()) / 1000000;
        if (left_ms <= 0)
            return false;
        poll(&link, 1, (int)left_ms + 1);
    }
}

/* The node has ended, or is about to. */
static void reap_node(pid_t node, const struct instance *place, bool owned)
{
    waitpid(node, NULL, 0);
    if (owned)
        instance_remove(place); /* in case the node was killed */
}

struct reaper {
    pid_t node;
    bool owned;
    struct instance place;
};

static void *reap_main(void *owner)
{
    struct reaper *reaper = owner;
    reap_node(reaper->node, &reaper->place, reaper->owned);
    mem_free(reaper);
    return NULL;
}

/* A thread that nobody waits for and that no signal of the program's interrupts.  False: there is
 * none to be had. */
static bool start_thread(void *(*main)(void *owner), void *owner)
{
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t before;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    helm_block_signals(&before);
    bool started = pthread_create(&thread, &detached, main, owner) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return started;
}

/* A private node ends when its link is closed.  Its last status is taken whenever that is, without
 * anybody waiting for it. */
static void leave_node(struct manta_instance *instance)
{
    forks_drop(&instance->at_fork);
    bool ended = instance->node && instance->link >= 0 && await_end(instance, 0);
    if (instance->link >= 0)
        socket_close(instance->link);
    instance->link = -1;
    if (ended) { /* at once: the program may be about to end, and its threads with it */
        reap_node(instance->node, &instance->place, instance->owned);
        instance->node = 0;
    }
    struct reaper *reaper = instance->node ? mem_try(sizeof *reaper) : NULL;
    if (reaper) {
        *reaper = (struct reaper){instance->node, instance->owned, instance->place};
        if (!start_thread(reap_main, reaper))
            mem_free(reaper); /* its status waits for the end of the program */
    }
    instance->node = 0;
}

static void *end_inside_main(void *inside)
{
    return inside_end(inside);
}

/* Ends by itself, without anybody waiting for it. */
static void leave_inside(struct inside *inside)
{
    if (inside && !start_thread(end_inside_main, inside))
        inside_end(inside);
}

static struct manta_instance *instance_free(struct manta_instance *instance)
{
    if (instance->runtime) {
        helm_take(instance->runtime->helm);
        runtime_close(instance->runtime);
        helm_leave_user_code(instance->runtime->helm);
        helm_give(instance->runtime->helm);
        runtime_unref(instance->runtime);
    }
    leave_node(instance);
    leave_inside(instance->inside);
    return mem_free(instance);
}

static void *free_main(void *instance)
{
    return instance_free(instance);
}

/* Is this thread inside a callback?  Then the instance cannot end under it, but behind it, on
 * another thread. */
static bool instance_ends_behind(struct manta_instance *instance)
{
    if (!instance->runtime || !helm_held(instance->runtime->helm))
        return false;
    start_thread(free_main, instance);
    return true;
}

/* ---- opening
 * --------------------------------------------------------------------------------------------- */

static int open_runtime(struct manta_instance *instance, struct error *reterr)
{
    char name[64];
    snprintf(name, sizeof name, "handle-%d", (int)getpid());
    instance->runtime =
        runtime_new(instance->place.controller_socket, WIRE_ROLE_HANDLE, name, reterr);
    if (!instance->runtime)
        return reterr->code;
    /* The program's own code is user code: the standby steers while nobody waits for a call. */
    helm_take(instance->runtime->helm);
    helm_enter_user_code(instance->runtime->helm);
    helm_give(instance->runtime->helm);
    return 0;
}

static int check_options(const struct manta_start_options *options, struct error *reterr)
{
    if (options->http_port < -1 || options->http_port > 65535)
        return error_set(reterr, ERROR_INVALID,
                         "http_port is %d, not -1 (none), 0 (any) or 1 to 65535",
                         options->http_port);
    if (options->proxies < 0 || options->proxies > 64)
        return error_set(reterr, ERROR_INVALID, "proxies is %d, not 0 (by cores) to 64",
                         options->proxies);
    if (!(options->request_timeout_s >= 0 && options->request_timeout_s <= 86400))
        return error_set(reterr, ERROR_INVALID, "request_timeout_s must be 0 (none) to 86400");
    if (!(options->keep_alive_timeout_s >= 0 && options->keep_alive_timeout_s <= 86400))
        return error_set(reterr, ERROR_INVALID, "keep_alive_timeout_s must be 0 to 86400");
    return 0;
}

/* Ray Serve's variable counts too. */
static bool wants_local_testing(const struct manta_start_options *options)
{
    static const char *const names[] = {"MANTA_LOCAL_TESTING",
                                        "RAY_SERVE_FORCE_LOCAL_TESTING_MODE"};
    bool wanted = options->local_testing;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        wanted |= value && *value && strcmp(value, "0") != 0;
    }
    return wanted;
}

static int level_of(const char *name)
{
    static const struct {
        const char *name;
        int level;
    } levels[] = {{"DEBUG", LOG_DEBUG},
                  {"INFO", LOG_INFO},
                  {"WARNING", LOG_WARNING},
                  {"ERROR", LOG_ERROR},
                  {"CRITICAL", LOG_CRITICAL}};
    for (size_t i = 0; name && i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i].name, name) == 0)
            return levels[i].level;
    return LOG_INFO;
}

/* Local testing: everything is inside this process. */
static int start_inside(struct manta_instance *instance, const struct manta_start_options *options,
                        struct error *reterr)
{
    struct inside_options inside = {.log_directory = options->log_directory,
                                    .log_level = level_of(options->log_level),
                                    .log_to_stderr = options->log_to_stderr,
                                    .log_json = options->log_encoding &&
                                                strcmp(options->log_encoding, "JSON") == 0};
    char name[INSTANCE_NAME_SIZE];
    instance->owned = true;
    instance->http_port = -1;
    instance_private_name(name);
    if (check_options(options, reterr) < 0 ||
        instance_locate(&instance->place, name, true, reterr) < 0 ||
        inside_start(&instance->place, &inside, &instance->inside, reterr) < 0)
        return reterr->code;
    return open_runtime(instance, reterr);
}

static int start_by(const struct manta_start_options *given, const struct launch *launch,
                    struct manta_instance **ret_instance, struct manta_error *reterr)
{
    struct manta_start_options options = START_DEFAULTS;
    struct error error = {0};
    char name[INSTANCE_NAME_SIZE];
    take_options(&options, sizeof options, given, given ? given->size : 0);
    struct manta_instance *instance = mem_try(sizeof *instance);
    if (!instance)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for an instance");
    instance->link = -1;
    instance->forks = forks_seen();
    if (wants_local_testing(&options)) {
        if (start_inside(instance, &options, &error) == 0) {
            *ret_instance = instance;
            return 0;
        }
        instance_free(instance);
        return runtime_error(reterr, &error);
    }
    instance->owned = !options.name;
    if (!options.name)
        instance_private_name(name);
    if (check_options(&options, &error) == 0 &&
        instance_locate(&instance->place, options.name ? options.name : name, instance->owned,
                        &error) == 0) {
        if (!instance->owned && instance_has_node(&instance->place)) {
            instance_free(instance);
            return manta_connect(options.name, ret_instance, reterr);
        }
        if (start_node(instance, &options, launch, &error) == 0 &&
            await_node(instance, &error) == 0 &&
            open_runtime(instance, &error) == 0) {
            *ret_instance = instance;
            return 0;
        }
    }
    if (instance->node) {
        kill(instance->node, SIGTERM); /* what did not come up as a service would stay otherwise */
        (void)await_end(instance, FAILED_WAIT_MS); /* so that nothing of it is left behind */
    }
    instance_free(instance);
    return runtime_error(reterr, &error);
}

int manta_start(const struct manta_start_options *options, struct manta_instance **ret_instance,
                struct manta_error *reterr)
{
    return start_by(options, &(struct launch){0}, ret_instance, reterr);
}

int manta_start_by(const struct manta_start_options *options, manta_launch_function *launch,
                   void *owner, struct manta_instance **ret_instance, struct manta_error *reterr)
{
    if (!launch)
        return manta_error_set(reterr, MANTA_EINVALID, "no function is given that launches");
    return start_by(options, &(struct launch){launch, owner}, ret_instance, reterr);
}

/* ---- joining
 * ---------------------------------------------------------------------------------------------- */

static int read_port(const struct instance *place)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/instance.json", place->directory);
    json_t *root = json_load_file(path, 0, NULL);
    json_t *port = json_object_get(root, "http_port");
    int found = json_is_integer(port) ? (int)json_integer_value(port) : -1;
    json_decref(root);
    return found;
}

static void count_process(void *owner, const struct instance_process *process)
{
    (void)process;
    ++*(unsigned *)owner;
}

/* Says which ones do run, since the one of `manta run` has a name of its own. */
static void refuse_absent(const char *name, struct error *reterr)
{
    struct instance place;
    char names[320];
    unsigned count = 0;
    if (instance_locate(&place, name, false, reterr) == 0)
        instance_each_process(&place, count_process, &count);
    instance_list(names, sizeof names);
    if (count)
        error_set(reterr, ERROR_NOT_RUNNING,
                  "instance '%s' has lost its node and its controller; %u of its processes serve "
                  "on: start its node again, by the same name",
                  name, count);
    else if (names[0])
        error_set(reterr, ERROR_NOT_RUNNING,
                  "no instance '%s' is running; set MANTA_INSTANCE to one that is: %s", name,
                  names);
    else
        error_set(reterr, ERROR_NOT_RUNNING, "no instance '%s' is running", name);
}

int manta_connect(const char *name, struct manta_instance **ret_instance,
                  struct manta_error *reterr)
{
    struct error error = {0};
    struct manta_instance *instance = mem_try(sizeof *instance);
    if (!instance)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for an instance");
    instance->link = -1;
    instance->forks = forks_seen();
    if (!name)
        name = getenv("MANTA_INSTANCE");
    if (!name || !*name)
        name = "default";
    if (instance_locate(&instance->place, name, false, &error) == 0 &&
        !instance_running(&instance->place))
        refuse_absent(name, &error);
    if (!error.code && open_runtime(instance, &error) == 0) {
        instance->http_port = read_port(&instance->place);
        *ret_instance = instance;
        return 0;
    }
    instance_free(instance);
    return runtime_error(reterr, &error);
}

struct manta_instance *manta_disconnect(struct manta_instance *instance)
{
    if (!instance || instance_is_foreign(instance) || instance_ends_behind(instance))
        return NULL;
    return instance_free(instance);
}

int manta_http_port(const struct manta_instance *instance)
{
    return instance->http_port;
}

int manta_instance_descriptor(const struct manta_instance *instance)
{
    return instance->link;
}

/* ---- ending in order
 * ---------------------------------------------------------------------------------------- */

int manta_shutdown(struct manta_instance *instance, struct manta_error *reterr)
{
    struct wire_shutdown frame = {0};
    struct error error = {0};
    uint8_t room[64];
    struct control_question question = {.type = WIRE_SHUTDOWN_FRAME};
    if (!instance)
        return 0;
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (instance_ends_behind(instance))
        return manta_error_set(reterr, MANTA_EINVALID, "a callback may not wait for the end");
    question.frame = bytes_of(room, wire_shutdown_write(&frame, 0, 0, false, room));
    int code = control_ask(instance->place.controller_socket, &question, 0, NULL, &error);
    /* The controller may be gone before its word arrives: what counts is that the node has ended.
     */
    if (code == ERROR_CLOSED)
        code = 0;
    if (code == 0 && instance->node && !await_end(instance, END_WAIT_MS))
        code = error_set(&error, ERROR_TIMEOUT, "the instance has not ended within %d s",
                         END_WAIT_MS / 1000);
    if (code == 0 && instance->node) {
        reap_node(instance->node, &instance->place, instance->owned);
        instance->node = 0;
    }
    struct inside *inside = instance->inside;
    instance->inside = NULL;
    instance_free(instance);
    inside_end(inside);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}
