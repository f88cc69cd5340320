/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta shutdown: drains every application and ends the instance.
 */
#include <string.h>
#include <unistd.h>

#include "cli.h"

static int is_confirmed(void)
{
    char answer[16] = "";
    if (!isatty(STDIN_FILENO)) {
        cli_say("this ends every application of the instance: say --yes");
        return 0;
    }
    fputs("This ends every application of the instance. Continue? [y/N] ", stderr);
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int shutdown_command(int argument_count, char **arguments)
{
    struct manta_instance *instance;
    struct manta_error error = {0};
    int yes = 0;
    for (int i = 1; i < argument_count; i++) {
        if (strcmp(arguments[i], "--yes") != 0 && strcmp(arguments[i], "-y") != 0)
            return cli_misused(&command_shutdown, "unknown argument '%s'", arguments[i]);
        yes = 1;
    }
    if (manta_connect(NULL, &instance, &error) < 0)
        return cli_fail(&error);
    if (!yes && !is_confirmed()) {
        manta_disconnect(instance);
        return CLI_FAILED;
    }
    return manta_shutdown(instance, &error) < 0 ? cli_fail(&error) : CLI_OK;
}

const struct command command_shutdown = {
    .name = "shutdown",
    .summary = "drain and end an instance",
    .help = "usage: manta shutdown [--yes]\n"
            "\n"
            "Deletes every application of the instance named by MANTA_INSTANCE (default: "
            "\"default\"):\n"
            "accepted requests are finished within each deployment's graceful_shutdown_timeout_s,\n"
            "then the instance ends.\n"
            "\n"
            "  --yes, -y    do not ask\n",
    .run = shutdown_command,
};
