/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_run: the proxy as a process: settings from the environment, the log, the metric page, a
 * seed.
 *
 * proxy.c knows none of these, so that it runs in the simulated world as it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "child.h"
#include "log.h"
#include "metrics.h"
#include "parent.h"
#include "proxy.h"

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
    if (proxy_open(&proxy, options, seed, &error) < 0) {
        log_print(LOG_ERROR, "%s", error.text);
        fprintf(stderr, "manta-proxy: %s\n", error.text);
        return 1;
    }
    parent_watch(&parent, proxy.loop, options->parent_descriptor, proxy_node_ended, NULL);
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
