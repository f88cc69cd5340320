/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_python: applications that are Python's: the command hands itself over to the interpreter.
 *
 * The module manta._private.run_main understands the same options and says the same lines.  The
 * interpreter is MANTA_PYTHON, which the command of a Python environment sets to its own, else the
 * first python3 of PATH.  In a build directory the package lies beside us and is found there.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { WORD_LIMIT = 512 };

int cli_is_python(const char *target)
{
    static const char WORD[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
    size_t module = strspn(target, WORD);
    int shared = module >= 3 && strncmp(target + module - 3, ".so", 3) == 0;
    return module > 0 && target[module] == ':' && target[module + 1] && !shared &&
           target[module + 1 + strspn(target + module + 1, WORD)] == '\0';
}

/* BUILD/python, when this is BUILD/src/cli/manta and the package was built there. */
static int find_package(char *path, size_t size)
{
    char probe[PATH_MAX + 32];
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    if (length <= 0)
        return 0;
    path[length] = '\0';
    for (int i = 0; i < 3; i++) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return 0;
        *slash = '\0';
    }
    if (snprintf(probe, sizeof(probe), "%s/python/manta/__init__.py", path) >= (int)sizeof(probe) ||
        access(probe, R_OK) != 0 || strlen(path) + sizeof("/python") > size)
        return 0;
    strcat(path, "/python");
    return 1;
}

static void add_package(void)
{
    const char *before = getenv("PYTHONPATH");
    char path[PATH_MAX], both[2 * PATH_MAX];
    if (!find_package(path, sizeof(path)))
        return;
    int length = snprintf(both, sizeof(both), "%s%s%s", path, before && *before ? ":" : "",
                          before ? before : "");
    if (length < (int)sizeof(both))
        setenv("PYTHONPATH", both, 1);
}

/* The module lets it through when it can answer. */
static void hold_interrupt(int how)
{
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(how, &interrupt, NULL);
}

const char *cli_python(void)
{
    static int added;
    const char *python = getenv("MANTA_PYTHON");
    if (!added++)
        add_package();
    return python && *python ? python : "python3";
}

int cli_run_python(const char *module, int argument_count, char **arguments)
{
    const char *python = cli_python(), *words[WORD_LIMIT + 4];
    int count = 0;
    if (argument_count > WORD_LIMIT)
        return cli_misused(&command_run, "more than %d arguments", WORD_LIMIT);
    words[count++] = python;
    words[count++] = "-m";
    words[count++] = module;
    for (int i = 1; i < argument_count; i++)
        words[count++] = arguments[i];
    words[count] = NULL;
    /* An interpreter that is interrupted before it runs anything shows a trace of its own. */
    hold_interrupt(SIG_BLOCK);
    execvp(python, (char *const *)words);
    hold_interrupt(SIG_UNBLOCK);
    cli_say("the interpreter '%s' could not be run: %s (MANTA_PYTHON names another)", python,
            strerror(errno));
    return CLI_FAILED;
}
