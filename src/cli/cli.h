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

extern const struct command command_run, command_status, command_shutdown;

/* "manta: <text>" to stderr. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for an error, and CLI_FAILED. */
int cli_fail(const struct manta_error *error);
/* A usage error: what is wrong, and where help is; CLI_USAGE. */
int cli_misused(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A whole number within limits; false when `text` is none. */
int cli_number(const char *text, long least, long most, long *ret_number);

/* Whether a target is "module:name", not a shared object. */
int cli_is_python(const char *target);
/* Becomes `python -m MODULE` with the arguments after the first; returns only when that fails. */
int cli_run_python(const char *module, int argument_count, char **arguments);

#endif
