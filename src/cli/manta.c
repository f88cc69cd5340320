/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta: the command line: finds the subcommand in the table and runs it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct command *const COMMANDS[] = {&command_run,    &command_start,  &command_deploy,
                                                 &command_status, &command_delete, &command_shutdown};
enum { COMMAND_COUNT = sizeof(COMMANDS) / sizeof(*COMMANDS) };

void cli_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("manta: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int cli_fail(const struct manta_error *error)
{
    cli_say("%s", error->text[0] ? error->text : manta_error_text(error->code));
    return CLI_FAILED;
}

int cli_misused(const struct command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "manta %s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nSee `manta %s --help`.\n", command->name);
    va_end(arguments);
    return CLI_USAGE;
}

int cli_number(const char *text, long least, long most, long *ret_number)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || end == text || *end || number < least || number > most)
        return 0;
    *ret_number = number;
    return 1;
}

int cli_start_option(const struct command *command, struct manta_start_options *start, int option,
                     const char *value)
{
    long number;
    switch (option) {
    case 'H':
        start->http_host = value;
        return CLI_OK;
    case 'p':
        if (!cli_number(value, -1, 65535, &number))
            return cli_misused(command, "--port is '%s', not a number from -1 to 65535", value);
        start->http_port = (int32_t)number;
        return CLI_OK;
    case 'P':
        if (!cli_number(value, 0, 64, &number))
            return cli_misused(command, "--proxies is '%s', not a number from 0 to 64", value);
        start->proxies = (int32_t)number;
        return CLI_OK;
    case 't':
        if (!cli_number(value, 0, 86400, &number))
            return cli_misused(command, "--request-timeout-s is '%s', not 0 to 86400", value);
        start->request_timeout_s = (double)number;
        return CLI_OK;
    case 'l':
        start->log_level = value;
        return CLI_OK;
    case 'd':
        start->log_directory = value;
        return CLI_OK;
    case 'e':
        start->log_to_stderr = true;
        return CLI_OK;
    default:
        return cli_misused(command, "unknown option or missing value");
    }
}

static void print_help(FILE *out)
{
    fputs("Manta serves models and functions over HTTP.\n"
          "\n"
          "usage: manta COMMAND [arguments]\n"
          "\n"
          "commands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", COMMANDS[i]->name, COMMANDS[i]->summary);
    fputs(
        "\n"
        "  manta COMMAND --help   says more about one of them\n"
        "  manta --version        prints the version\n"
        "\n"
        "environment:\n"
        "  MANTA_INSTANCE         name of the instance to join (default: \"default\" when it "
        "runs)\n"
        "  MANTA_LIBEXEC          directory of the role executables (default: beside the library)\n"
        "  MANTA_<SETTING>        overrides a setting, see docs/reference/settings.md\n"
        "\n"
        "exit status: 0 it went well, 1 it failed, 2 the arguments make no sense\n",
        out);
}

int main(int argument_count, char **arguments)
{
    const char *name = argument_count > 1 ? arguments[1] : NULL;
    if (!name || !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_help(name ? stdout : stderr);
        return name ? CLI_OK : CLI_USAGE;
    }
    if (!strcmp(name, "--version")) {
        printf("manta %s\n", manta_version());
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, COMMANDS[i]->name) != 0)
            continue;
        for (int n = 2; n < argument_count; n++)
            if (!strcmp(arguments[n], "--help") || !strcmp(arguments[n], "-h")) {
                fputs(COMMANDS[i]->help, stdout);
                return CLI_OK;
            }
        return COMMANDS[i]->run(argument_count - 1, arguments + 1);
    }
    cli_say("there is no command '%s'; see `manta --help`", name);
    return CLI_USAGE;
}
