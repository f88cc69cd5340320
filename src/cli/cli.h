/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli: one file per subcommand, one table (manta.c).  Uses nothing of Manta but <manta/manta.h>.
 */
#ifndef MANTA_CLI_H
#define MANTA_CLI_H

#include <stdio.h>

#include <manta/manta.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct command {
    const char *name;
    const char *summary; /* one line for `manta --help` */
    const char *help;    /* what `manta NAME --help` prints */
    int (*run)(int argument_count,
               char **arguments); /* arguments[0] is the name; returns the exit status */
};

extern const struct command command_delete, command_deploy, command_run, command_shutdown,
    command_start, command_status;

/* "manta: <text>" to stderr. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for an error, and CLI_FAILED. */
int cli_fail(const struct manta_error *error);
/* A usage error: what is wrong, and where help is; CLI_USAGE. */
int cli_misused(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A whole number within limits; false when `text` is none. */
int cli_number(const char *text, long least, long most, long *ret_number);

/* How an instance starts: rows for getopt_long, and what one of them says. */
#define CLI_START_OPTIONS                                                                          \
    {"host", required_argument, NULL, 'H'}, {"port", required_argument, NULL, 'p'},                \
        {"proxies", required_argument, NULL, 'P'},                                                 \
        {"request-timeout-s", required_argument, NULL, 't'},                                       \
        {"log-level", required_argument, NULL, 'l'}, {"log-dir", required_argument, NULL, 'd'},    \
    {                                                                                              \
        "log-to-stderr", no_argument, NULL, 'e'                                                    \
    }
int cli_start_option(const struct command *command, struct manta_start_options *start, int option,
                     const char *value);

/* Whether a target is "module:name", not a shared object. */
int cli_is_python(const char *target);
/* The interpreter; what it needs to find our package is put into the environment. */
const char *cli_python(void);
/* Becomes `python -m MODULE` with the arguments after the first; returns only when that fails. */
int cli_run_python(const char *module, int argument_count, char **arguments);

#endif
