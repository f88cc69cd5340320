/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_options: the arguments of manta-node, and what the machine offers.
 *
 *     manta-node --name NAME [--private] [--parent-descriptor N] [--http-host HOST] [--http-port N]
 *                [--proxies N] [--request-timeout-ms N] [--keep-alive-ms N] [--log-level WORD]
 *                [--log-encoding TEXT|JSON] [--log-directory PATH] [--log-to-stderr]
 *                [--zygote KEY --zygote-descriptor N --zygote-process PID]
 *
 * Written by libmanta, but also by people who start an instance as a service: what is wrong is
 * named.
 */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "node.h"

enum { GROUP_PATH_SIZE = 512, GROUP_DEPTH_LIMIT = 64, PROXIES_MOST = 4 };

/* ---- arguments ---- */

static int read_number(const char *option, const char *value, int64_t least, int64_t most,
                       int64_t *ret_number, struct error *reterr)
{
    char *end;
    long long number = strtoll(value, &end, 10);
    if (*value == 0 || *end != 0 || number < least || number > most)
        return error_set(reterr, ERROR_INVALID, "--%s: '%.40s' is no number from %lld to %lld",
                         option, value, (long long)least, (long long)most);
    *ret_number = number;
    return 0;
}

static int read_level(const char *value, int *ret_level, struct error *reterr)
{
    static const struct {
        const char *word;
        int level;
    } words[] = {{"DEBUG", LOG_DEBUG},
                 {"INFO", LOG_INFO},
                 {"WARNING", LOG_WARNING},
                 {"ERROR", LOG_ERROR},
                 {"CRITICAL", LOG_CRITICAL}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i].word) == 0) {
            *ret_level = words[i].level;
            return 0;
        }
    return error_set(reterr, ERROR_INVALID,
                     "--log-level: '%.40s' is none of DEBUG, INFO, WARNING, ERROR, CRITICAL",
                     value);
}

enum { OPTION_FIRST = 256 };
enum option_number {
    OPTION_NAME = OPTION_FIRST,
    OPTION_PARENT,
    OPTION_HOST,
    OPTION_PORT,
    OPTION_PROXIES,
    OPTION_TIMEOUT,
    OPTION_KEEP_ALIVE,
    OPTION_LEVEL,
    OPTION_ENCODING,
    OPTION_DIRECTORY,
    OPTION_STDERR,
    OPTION_PRIVATE,
    OPTION_ZYGOTE,
    OPTION_ZYGOTE_DESCRIPTOR,
    OPTION_ZYGOTE_PROCESS,
};

static const struct option option_table[] = {
    {"name", required_argument, NULL, OPTION_NAME},
    {"parent-descriptor", required_argument, NULL, OPTION_PARENT},
    {"http-host", required_argument, NULL, OPTION_HOST},
    {"http-port", required_argument, NULL, OPTION_PORT},
    {"proxies", required_argument, NULL, OPTION_PROXIES},
    {"request-timeout-ms", required_argument, NULL, OPTION_TIMEOUT},
    {"keep-alive-ms", required_argument, NULL, OPTION_KEEP_ALIVE},
    {"log-level", required_argument, NULL, OPTION_LEVEL},
    {"log-encoding", required_argument, NULL, OPTION_ENCODING},
    {"log-directory", required_argument, NULL, OPTION_DIRECTORY},
    {"log-to-stderr", no_argument, NULL, OPTION_STDERR},
    {"private", no_argument, NULL, OPTION_PRIVATE},
    {"zygote", required_argument, NULL, OPTION_ZYGOTE},
    {"zygote-descriptor", required_argument, NULL, OPTION_ZYGOTE_DESCRIPTOR},
    {"zygote-process", required_argument, NULL, OPTION_ZYGOTE_PROCESS},
    {NULL, 0, NULL, 0}};

static int read_numbers(struct node_options *options, int option, const char *value,
                        struct error *reterr)
{
    const char *name = option_table[option - OPTION_FIRST].name;
    int64_t number = 0;
    int *member = NULL;
    switch (option) {
    case OPTION_PARENT:
        member = &options->parent_descriptor;
        break;
    case OPTION_PORT:
        member = &options->http_port;
        break;
    case OPTION_PROXIES:
        member = &options->proxies;
        break;
    case OPTION_ZYGOTE_DESCRIPTOR:
        member = &options->zygote_descriptor;
        break;
    case OPTION_ZYGOTE_PROCESS:
        member = &options->zygote_process;
        break;
    case OPTION_TIMEOUT:
        return read_number(name, value, 0, 86400000, &options->request_timeout_ms, reterr);
    default:
        return read_number(name, value, 0, 86400000, &options->keep_alive_ms, reterr);
    }
    bool descriptor = option == OPTION_PARENT || option == OPTION_ZYGOTE_DESCRIPTOR;
    int64_t least = descriptor ? 3 : option == OPTION_PORT ? -1 : 0;
    int64_t most = option == OPTION_PROXIES          ? NODE_PROXY_LIMIT
                   : option == OPTION_ZYGOTE_PROCESS ? INT32_MAX
                                                     : 65535;
    int code = read_number(name, value, least, most, &number, reterr);
    if (code == 0)
        *member = (int)number;
    return code;
}

static int read_option(struct node_options *options, int option, const char *value,
                       struct error *reterr)
{
    switch (option) {
    case OPTION_NAME:
        options->name = value;
        return 0;
    case OPTION_HOST:
        options->http_host = value;
        return 0;
    case OPTION_LEVEL:
        return read_level(value, &options->log_level, reterr);
    case OPTION_ENCODING:
        options->log_encoding = value;
        if (strcmp(value, "TEXT") == 0 || strcmp(value, "JSON") == 0)
            return 0;
        return error_set(reterr, ERROR_INVALID, "--log-encoding: '%.40s' is neither TEXT nor JSON",
                         value);
    case OPTION_DIRECTORY:
        options->log_directory = value;
        return 0;
    case OPTION_STDERR:
        options->log_to_stderr = true;
        return 0;
    case OPTION_PRIVATE:
        options->is_private = true;
        return 0;
    case OPTION_ZYGOTE:
        options->zygote_key = value;
        return 0;
    case '?':
        return error_set(reterr, ERROR_INVALID,
                         "an argument is not known or lacks its value; see `manta --help`");
    default:
        return read_numbers(options, option, value, reterr);
    }
}

int node_options_read(struct node_options *options, int argument_count, char **arguments,
                      struct error *reterr)
{
    int option;
    *options = (struct node_options){.http_host = "127.0.0.1",
                                     .log_encoding = "TEXT",
                                     .parent_descriptor = -1,
                                     .zygote_descriptor = -1,
                                     .zygote_process = -1,
                                     .http_port = 8000,
                                     .log_level = LOG_INFO,
                                     .request_timeout_ms = -1,
                                     .keep_alive_ms = -1};
    optind = 0; /* glibc: begins anew */
    opterr = 0;
    while ((option = getopt_long(argument_count, arguments, "", option_table, NULL)) != -1) {
        int code = read_option(options, option, optarg, reterr);
        if (code < 0)
            return code;
    }
    if (optind < argument_count)
        return error_set(reterr, ERROR_INVALID, "'%.100s' is no option", arguments[optind]);
    if (!options->name)
        return error_set(reterr, ERROR_INVALID, "--name is missing");
    return 0;
}

/* ---- cores ---- */

/* "max 100000" or "150000 100000": processors, rounded up; 0: no limit, or no such file. */
static int quota_of(const char *path)
{
    char line[64] = "";
    long long quota = 0, period = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (!fgets(line, sizeof line, file))
        line[0] = 0;
    fclose(file);
    if (sscanf(line, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return 0;
    return (int)((quota + period - 1) / period);
}

/* The second version's hierarchy: "0::/path". */
static void read_group(char *ret_path, size_t size)
{
    char line[GROUP_PATH_SIZE];
    FILE *file = fopen("/proc/self/cgroup", "re");
    ret_path[0] = 0;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = 0;
            snprintf(ret_path, size, "%s", strcmp(line + 3, "/") == 0 ? "" : line + 3);
        }
    if (file)
        fclose(file);
}

/* A group's quota binds those below it; in a container its path may not be visible, its root is. */
static int quota_cores(void)
{
    char group[GROUP_PATH_SIZE], path[GROUP_PATH_SIZE + 64];
    int least = 0;
    read_group(group, sizeof group);
    for (int depth = 0; depth < GROUP_DEPTH_LIMIT; depth++) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        int cores = quota_of(path);
        if (cores > 0 && (least == 0 || cores < least))
            least = cores;
        char *slash = strrchr(group, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    return least;
}

int node_usable_cores(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = quota_cores();
    if (quota > 0 && quota < cores)
        cores = quota;
    return cores > 0 ? cores : 1;
}

int node_proxies_for_cores(int cores)
{
    if (cores <= 2)
        return 1;
    return cores / 2 < PROXIES_MOST ? cores / 2 : PROXIES_MOST;
}
