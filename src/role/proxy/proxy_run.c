/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_run: the proxy as a process: settings from the environment, the log, the metric page, a
 * seed.
 *
 * proxy.c knows none of these, so that it runs in the simulated world as it is.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "child.h"
#include "log.h"
#include "metrics.h"
#include "parent.h"
#include "proxy.h"
#include "wire.h"

enum { GREETING_SIZE = 512 };

static void proxy_open_log(struct proxy *proxy, const struct proxy_options *options)
{
    char path[4200], id[24];
    struct error error = {0};
    struct log_config config = {
        .path = path,
        .encoding =
            options->log_encoding && !strcmp(options->log_encoding, "JSON") ? LOG_JSON : LOG_TEXT,
        .level = (enum log_level)options->log_level,
        .component = "proxy",
        .component_id = id,
        .queue_limit = (size_t)proxy->settings.log_queue_limit,
        .rotate_size = (uint64_t)proxy->settings.log_rotate_size,
        .rotate_count = (uint32_t)proxy->settings.log_rotate_count};
    snprintf(id, sizeof id, "127.0.0.1-%d", options->number);
    snprintf(path, sizeof path, "%s/proxy_%d.log", options->log_directory, options->number);
    if (options->log_to_stderr)
        config.path = NULL;
    if (log_open(&config, &error) < 0)
        fprintf(stderr, "manta-proxy: %s\n", error.text);
}

/* Nobody else may serve on in its place. */
static void proxy_node_ended(void *owner)
{
    (void)owner;
    log_print(LOG_ERROR, "the node is gone");
    log_close();
    parent_follow();
}

/* In a service it serves on, and brings a later node the listening socket. */
static int watch_node(struct proxy *proxy, struct parent *parent,
                      const struct proxy_options *options, struct error *reterr)
{
    uint8_t bytes[GREETING_SIZE];
    struct wire_role_here here = {.role = WIRE_ROLE_PROXY,
                                  .number = (uint64_t)options->number,
                                  .started = child_start_time(getpid())};
    struct parent_greeting greeting = {.descriptor = options->listen_descriptor,
                                       .away_limit_ms = proxy->settings.node_away_limit_ms};
    greeting.bytes =
        bytes_of(bytes, wire_return_write(&here, (uint32_t)getpid(), bytes, sizeof bytes));
    int code = parent_watch(parent, proxy->loop, &options->bond, &greeting, proxy_node_ended, NULL);
    return code < 0 ? error_set(reterr, ERROR_SYSTEM, "the node cannot be watched") : 0;
}

int proxy_run(const struct proxy_options *options)
{
    static struct proxy proxy; /* one per process */
    struct parent parent = {0};
    struct error error = {0};
    char name[PROXY_NAME_SIZE];
    uint64_t seed = 0;
    settings_init(&proxy.settings);
    if (settings_read_environment(&proxy.settings, (const char *(*)(const char *))getenv, &error) <
        0) {
        fprintf(stderr, "manta-proxy: %s\n", error.text);
        return 2;
    }
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed = (uint64_t)options->number + 1;
    child_raise_nofile();
    proxy_open_log(&proxy, options);
    signal(SIGPIPE, SIG_IGN); /* the reader of our stderr may leave */
    if (proxy_open(&proxy, options, seed, &error) < 0 ||
        watch_node(&proxy, &parent, options, &error) < 0) {
        log_print(LOG_ERROR, "%s", error.text);
        fprintf(stderr, "manta-proxy: %s\n", error.text);
        return 1;
    }
    proxy_name(options, name);
    metrics_open(options->directory, name);
    log_print(LOG_INFO, "serving");
    loop_run(proxy.loop);
    parent_close(&parent);
    proxy_close(&proxy);
    metrics_close();
    log_print(LOG_INFO, "ended");
    log_close();
    return 0;
}
