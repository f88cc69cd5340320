/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta status: what runs, for people (YAML-like, Ray Serve's words) or for programs (--json).
 */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static void print_scalar(const struct manta_value *value)
{
    size_t size = manta_value_json(value, NULL, 0);
    char *text = malloc(size + 1);
    if (!text)
        return;
    manta_value_json(value, text, size + 1);
    fputs(text, stdout);
    free(text);
}

static void print_key(const struct manta_value *key)
{
    const char *at;
    size_t size;
    if (manta_value_string(key, &at, &size, NULL) == 0)
        printf("%.*s", (int)size, at);
    else
        print_scalar(key);
}

static void print_value(const struct manta_value *value, int depth);

static void print_map(const struct manta_value *value, int64_t count, int depth)
{
    struct manta_value key, item;
    for (int64_t i = 0; i < count; i++) {
        if (manta_value_pair(value, (size_t)i, &key, &item, NULL) < 0)
            return;
        printf("%*s", depth * 2, "");
        print_key(&key);
        putchar(':');
        print_value(&item, depth + 1);
    }
}

static void print_array(const struct manta_value *value, int64_t count, int depth)
{
    struct manta_value item;
    for (int64_t i = 0; i < count; i++) {
        if (manta_value_at(value, (size_t)i, &item, NULL) < 0)
            return;
        printf("%*s-", depth * 2, "");
        print_value(&item, depth + 1);
    }
}

static void print_value(const struct manta_value *value, int depth)
{
    int64_t count = manta_value_count(value);
    enum manta_type type = manta_value_type(value);
    if (count <= 0) {
        putchar(' ');
        print_scalar(value);
        putchar('\n');
        return;
    }
    putchar('\n');
    if (type == MANTA_MAP)
        print_map(value, count, depth);
    else
        print_array(value, count, depth);
}

static int print_status(const struct manta_value *status, int as_json)
{
    if (as_json) {
        print_scalar(status);
        putchar('\n');
    } else {
        print_map(status, manta_value_count(status), 0);
    }
    return CLI_OK;
}

static int status_command(int argument_count, char **arguments)
{
    struct manta_instance *instance;
    struct manta_value status;
    struct manta_error error = {0};
    int as_json = 0, code = CLI_OK;
    for (int i = 1; i < argument_count; i++) {
        if (strcmp(arguments[i], "--json") != 0)
            return cli_misused(&command_status, "unknown argument '%s'", arguments[i]);
        as_json = 1;
    }
    if (manta_connect(NULL, &instance, &error) < 0)
        return cli_fail(&error);
    struct manta_pack *pack = manta_pack_new();
    if (!pack || manta_status(instance, pack, &error) < 0 ||
        manta_pack_value(pack, &status, &error) < 0)
        code = cli_fail(&error);
    else
        code = print_status(&status, as_json);
    manta_pack_free(pack);
    manta_disconnect(instance);
    return code;
}

const struct command command_status = {
    .name = "status",
    .summary = "say what runs and how it is",
    .help =
        "usage: manta status [--json]\n"
        "\n"
        "Prints the applications, deployments and proxies of the instance named by MANTA_INSTANCE\n"
        "(default: \"default\"), in Ray Serve's words.\n"
        "\n"
        "  --json    one JSON document instead of lines\n",
    .run = status_command,
};
