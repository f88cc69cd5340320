/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta delete: drains applications and deletes them.
 */
#include <string.h>

#include "cli.h"

static int delete_command(int argument_count, char **arguments)
{
    struct manta_instance *instance;
    struct manta_error error = {0};
    int code = CLI_OK;
    for (int i = 1; i < argument_count; i++)
        if (arguments[i][0] == '-')
            return cli_misused(&command_delete, "unknown option '%s'", arguments[i]);
    if (argument_count < 2)
        return cli_misused(&command_delete, "say which application");
    if (manta_connect(NULL, &instance, &error) < 0)
        return cli_fail(&error);
    for (int i = 1; i < argument_count; i++) {
        error = (struct manta_error){0};
        if (manta_delete(instance, arguments[i], &error) < 0)
            code = cli_fail(&error);
        else
            cli_say("application '%s' is deleted", arguments[i]);
    }
    manta_disconnect(instance);
    return code;
}

const struct command command_delete = {
    .name = "delete",
    .summary = "drain and delete applications",
    .help = "usage: manta delete NAME...\n"
            "\n"
            "Deletes applications of the instance named by MANTA_INSTANCE (default: \"default\"), and "
            "waits\n"
            "until they are gone: accepted requests are finished within each deployment's\n"
            "graceful_shutdown_timeout_s.\n"
            "\n"
            "example:\n"
            "  manta delete shop\n",
    .run = delete_command,
};
