/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta run: runs an application and stays until it is told to end.
 *
 * Without a running instance it starts a private one, which ends with this process.  Signals are
 * taken from a descriptor, so that nothing happens inside a handler: the first SIGINT or SIGTERM
 * drains and ends, a second one ends at once.  While the application starts, which may take for ever,
 * a thread looks out for them.
 */
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"

enum { ARGUMENT_LIMIT = 256 };

struct run {
    struct manta_start_options start;
    struct manta_run_options options;
    const char *target;
    const char *arguments[ARGUMENT_LIMIT + 1];
    struct manta_instance *instance;
    int joined; /* an instance that was running before */
    int blocking;
    const char *pythons; /* an option that is for module:application alone; null: none */
    int signals; /* signalfd */
    int started; /* eventfd: the application runs, or has failed */
};

static int take_option(struct run *run, int option, const char *value)
{
    switch (option) {
    case 'n':
        run->options.name = value;
        return CLI_OK;
    case 'r':
        run->options.route_prefix = *value ? value : NULL;
        return CLI_OK;
    case 'b':
        run->blocking = 1;
        return CLI_OK;
    case 'B':
        run->blocking = 0;
        return CLI_OK;
    case 's':
        run->pythons = "--as-ray-serve";
        return CLI_OK;
    case 'R':
        run->pythons = "--reload";
        return CLI_OK;
    case 'a':
        return CLI_OK; /* Python's, which reads the arguments again */
    default:
        return cli_start_option(&command_run, &run->start, option, value);
    }
}

static int parse(struct run *run, int argument_count, char **arguments)
{
    static const struct option TABLE[] = {{"name", required_argument, NULL, 'n'},
                                          {"route-prefix", required_argument, NULL, 'r'},
                                          CLI_START_OPTIONS,
                                          {"blocking", no_argument, NULL, 'b'},
                                          {"non-blocking", no_argument, NULL, 'B'},
                                          {"app-dir", required_argument, NULL, 'a'},
                                          {"as-ray-serve", no_argument, NULL, 's'},
                                          {"reload", no_argument, NULL, 'R'},
                                          {NULL, 0, NULL, 0}};
    int option, code, count = 0;
    opterr = 0;
    while ((option = getopt_long(argument_count, arguments, "", TABLE, NULL)) != -1)
        if ((code = take_option(run, option, optarg)) != CLI_OK)
            return code;
    if (optind == argument_count)
        return cli_misused(&command_run,
                           "say what to run: path/to/lib.so:application or module:application");
    run->target = arguments[optind++];
    for (; optind < argument_count; optind++) {
        if (!strchr(arguments[optind], '=') || count == ARGUMENT_LIMIT)
            return cli_misused(&command_run, "'%s' is not key=value", arguments[optind]);
        run->arguments[count++] = arguments[optind];
    }
    run->options.arguments = run->arguments;
    return CLI_OK;
}

static void show_progress(void *owner, const char *line)
{
    (void)owner;
    cli_say("%s", line);
}

static int start(struct run *run, struct manta_error *error)
{
    struct manta_error ignored;
    if (manta_connect(NULL, &run->instance, &ignored) == 0) {
        run->joined = 1;
        return 0;
    }
    if (getenv("MANTA_INSTANCE") && *getenv("MANTA_INSTANCE")) {
        *error = ignored;
        return ignored.code;
    }
    if (!run->blocking)
        return manta_error_set(
            error, MANTA_ENOTRUNNING,
            "--non-blocking needs a running instance: a private one would end with this command");
    return manta_start(&run->start, &run->instance, error);
}

static void say_where(const struct run *run)
{
    int port = manta_http_port(run->instance);
    const char *host = run->start.http_host ? run->start.http_host : "127.0.0.1";
    const char *prefix = run->options.route_prefix;
    if (port > 0 && prefix)
        cli_say("application '%s' is running at http://%s:%d%s", run->options.name, host, port,
                prefix);
    else
        cli_say("application '%s' is running, not reachable over HTTP", run->options.name);
}

/* True when a signal came, false when a private instance ended by itself. */
static int await_end(const struct run *run)
{
    struct pollfd wanted[2] = {{.fd = run->signals, .events = POLLIN},
                               {.fd = manta_instance_descriptor(run->instance), .events = POLLIN}};
    while (poll(wanted, 2, -1) < 0)
        ;
    return (wanted[0].revents & POLLIN) != 0;
}

static void set_ends(sigset_t *ends)
{
    sigemptyset(ends);
    sigaddset(ends, SIGINT);
    sigaddset(ends, SIGTERM);
}

/* Takes the signal that is waiting, and lets a second one end the process at once. */
static void take_signal(const struct run *run, sigset_t *ends)
{
    struct signalfd_siginfo taken;
    if (read(run->signals, &taken, sizeof(taken)) < 0)
        return;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, ends, NULL);
}

static int stay(struct run *run, sigset_t *ends)
{
    struct manta_error error = {0};
    int code;
    if (!await_end(run)) {
        cli_say("the instance has ended");
        manta_disconnect(run->instance);
        return CLI_FAILED;
    }
    take_signal(run, ends);
    cli_say("ending; once more to end at once");
    if (run->joined) {
        code = manta_delete(run->instance, run->options.name, &error);
        manta_disconnect(run->instance);
    } else {
        code = manta_shutdown(run->instance, &error);
    }
    return code < 0 ? cli_fail(&error) : CLI_OK;
}

/*
 * A signal while the application starts: a private instance ends with this process; from one that
 * was joined the application is deleted, which ends the waiting, unless it was not to be waited for.
 */
static void *await_interruption(void *owner)
{
    struct run *run = owner;
    struct pollfd wanted[2] = {{.fd = run->signals, .events = POLLIN},
                               {.fd = run->started, .events = POLLIN}};
    sigset_t ends;
    while (poll(wanted, 2, -1) < 0)
        ;
    if (wanted[1].revents & POLLIN)
        return NULL;
    cli_say("interrupted before the application was running");
    if (!run->joined || !run->blocking)
        _exit(CLI_FAILED);
    set_ends(&ends);
    take_signal(run, &ends);
    manta_delete(run->instance, run->options.name, NULL);
    return NULL;
}

/* manta_run, which an interruption may end. */
static int run_application(struct run *run, struct manta_error *error)
{
    pthread_t thread;
    uint64_t one = 1;
    run->started = eventfd(0, EFD_CLOEXEC);
    if (run->started < 0 || pthread_create(&thread, NULL, await_interruption, run) != 0)
        return manta_error_set(error, MANTA_ESYSTEM, "descriptors or threads are exhausted");
    int code = manta_run(run->instance, run->target, &run->options, error);
    if (write(run->started, &one, sizeof(one)) < 0)
        _exit(CLI_FAILED);
    pthread_join(thread, NULL);
    close(run->started);
    return code;
}

/* getopt sorts the words; whoever reads them again wants them as they were. */
static char **copy_words(int count, char **words)
{
    char **copy = calloc((size_t)count + 1, sizeof(*copy));
    if (copy)
        memcpy(copy, words, (size_t)count * sizeof(*copy));
    return copy;
}

static int run_command(int argument_count, char **arguments)
{
    struct run run = {.start = {MANTA_START_OPTIONS},
                      .options = {MANTA_RUN_OPTIONS, .progress = show_progress},
                      .blocking = 1};
    struct manta_error error = {0};
    sigset_t ends;
    char **given = copy_words(argument_count, arguments);
    int code = given ? parse(&run, argument_count, arguments) : CLI_FAILED;
    if (code != CLI_OK)
        return code;
    if (cli_is_python(run.target))
        return cli_run_python("manta._private.run_main", argument_count, given);
    if (run.pythons)
        return cli_misused(&command_run, "%s is for module:application, not for '%s'", run.pythons,
                           run.target);
    set_ends(&ends);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    run.signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (start(&run, &error) < 0)
        return cli_fail(&error);
    if (run_application(&run, &error) < 0) {
        cli_fail(&error);
        if (run.joined)
            manta_disconnect(run.instance);
        else
            manta_shutdown(run.instance, NULL);
        return CLI_FAILED;
    }
    say_where(&run);
    if (run.blocking)
        return stay(&run, &ends);
    manta_disconnect(run.instance);
    return CLI_OK;
}

const struct command command_run = {
    .name = "run",
    .summary = "run an application of a shared object or a Python module",
    .help =
        "usage: manta run [options] path/to/lib.so:application [key=value ...]\n"
        "       manta run [options] module:application [key=value ...]\n"
        "\n"
        "Runs the application and stays until Ctrl-C, then drains and ends it.  Joins the "
        "instance\n"
        "named by MANTA_INSTANCE, else a running \"default\", else starts a private one that ends\n"
        "with this command.  key=value arguments reach the application's builder.\n"
        "\n"
        "  --name NAME              of the application (default: default)\n"
        "  --route-prefix PREFIX    HTTP path (default: /); \"\" makes it unreachable over HTTP\n"
        "  --host HOST              to listen on (default: 127.0.0.1)\n"
        "  --port PORT              to listen on (default: 8000; 0: any free one; -1: no HTTP)\n"
        "  --proxies N              proxy processes (default: 0, by the number of cores)\n"
        "  --request-timeout-s S    answer 408 after so long (default: 0, never)\n"
        "  --log-level LEVEL        DEBUG, INFO, WARNING or ERROR (default: INFO)\n"
        "  --log-dir DIRECTORY      where log files go (default: the instance's directory)\n"
        "  --log-to-stderr          log lines come here instead\n"
        "  --non-blocking           return when the application runs (needs a running instance)\n"
        "  --app-dir DIRECTORY      where Python modules are looked for first (default: .)\n"
        "  --reload                 a Python application is loaded again when its files change\n"
        "  --as-ray-serve           a Python application that imports ray.serve gets manta.serve\n"
        "\n"
        "example:\n"
        "  manta run --port 8080 ./libmath.so:math\n"
        "  curl http://127.0.0.1:8080/?x=4\n",
    .run = run_command,
};
