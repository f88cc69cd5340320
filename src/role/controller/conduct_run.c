/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conduct_run: the controller as a process: settings from the environment, the log, the metric
 * page, signals, the node's end, a seed.  Its exit status is 2 when another attempt would find the
 * same: a wrong setting, a store that is not for this version.
 *
 * conduct.c knows none of these, so that it runs in the simulated world as it is.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "conduct.h"
#include "instance.h"
#include "log.h"
#include "metrics.h"
#include "parent.h"
#include "wire.h"

enum { GREETING_SIZE = 512 };

static void open_log(const struct conduct_options *options, const struct settings *settings)
{
    char path[STORE_PATH_SIZE];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/controller.log", options->log_directory);
    struct log_config config = {.path = options->log_to_stderr ? NULL : path,
                                .encoding = strcmp(options->log_encoding, "JSON") == 0 ? LOG_JSON
                                                                                       : LOG_TEXT,
                                .level = (enum log_level)options->log_level,
                                .component = "controller",
                                .component_id = "controller",
                                .queue_limit = (size_t)settings->log_queue_limit,
                                .rotate_size = (uint64_t)settings->log_rotate_size,
                                .rotate_count = (uint32_t)settings->log_rotate_count};
    if (log_open(&config, &error) < 0)
        fprintf(stderr, "manta-controller: %s\n", error.text);
}

static void on_signal(void *owner, int signal_number)
{
    struct conduct *conduct = owner;
    (void)signal_number;
    loop_stop(conduct->loop);
}

static void node_ended(void *owner)
{
    struct conduct *conduct = owner;
    log_print(LOG_ERROR, "the node is gone");
    loop_stop(conduct->loop);
}

/* In a service it serves on without a node, and brings a later one the listening socket. */
static int watch_world(struct conduct *conduct, struct parent *parent, struct error *reterr)
{
    uint8_t bytes[GREETING_SIZE];
    struct wire_role_here here = {.role = WIRE_ROLE_CONTROLLER,
                                  .started = child_start_time(getpid())};
    struct parent_greeting greeting = {.descriptor = conduct->options.listen_descriptor,
                                       .away_limit_ms = conduct->settings.node_away_limit_ms};
    signal(SIGPIPE, SIG_IGN); /* the reader of our stderr may leave */
    loop_on_signal(conduct->loop, SIGTERM, on_signal, conduct);
    loop_on_signal(conduct->loop, SIGINT, on_signal, conduct);
    greeting.bytes =
        bytes_of(bytes, wire_return_write(&here, (uint32_t)getpid(), bytes, sizeof bytes));
    return parent_watch(parent, conduct->loop, &conduct->options.bond, &greeting, node_ended,
                        conduct) < 0
               ? error_set(reterr, ERROR_SYSTEM, "the node cannot be watched")
               : 0;
}

/* The node's part, unless one has come meanwhile. */
static void clear_up(const struct conduct_options *options)
{
    struct instance instance = {.name = ""};
    snprintf(instance.directory, sizeof instance.directory, "%s", options->directory);
    snprintf(instance.node_socket, sizeof instance.node_socket, "%s", options->node);
    if (!instance_has_node(&instance))
        instance_remove(&instance);
}

int conduct_run(const struct conduct_options *options)
{
    static struct conduct conduct; /* one per process */
    struct parent parent = {0};
    struct error error = {0};
    uint64_t seed = 0;
    settings_init(&conduct.settings);
    if (settings_read_environment(&conduct.settings, (const char *(*)(const char *))getenv,
                                  &error) < 0) {
        fprintf(stderr, "manta-controller: %s\n", error.text);
        return 2;
    }
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed = (uint64_t)time(NULL);
    child_raise_nofile();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of the store's */
    open_log(options, &conduct.settings);
    if (conduct_open(&conduct, options, seed, &error) < 0 ||
        watch_world(&conduct, &parent, &error) < 0) {
        log_print(LOG_CRITICAL, "%s", error.text);
        log_close();
        fprintf(stderr, "manta-controller: %s\n", error.text);
        return error.code == ERROR_VERSION || error.code == ERROR_INVALID ? 2 : 1;
    }
    metrics_open(options->directory, "controller");
    log_print(LOG_INFO, "controls the instance in %s%s", options->directory,
              conduct.store.life ? ", again" : "");
    loop_run(conduct.loop);
    parent_close(&parent);
    conduct_close(&conduct);
    metrics_close();
    if (conduct.alone)
        clear_up(options);
    log_print(LOG_INFO, "ended");
    log_close();
    return 0;
}
