/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta start: a service in the foreground, until it is told to end.
 *
 * The service is an instance with a name; other commands find it by that.  It outlives this command
 * where that is killed, and the next `manta start` of the name takes it back (docs/service.md).
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"

static const char DEFAULT_NAME[] = "default";

static int parse(struct manta_start_options *start, int argument_count, char **arguments)
{
    static const struct option TABLE[] = {{"name", required_argument, NULL, 'n'},
                                          CLI_START_OPTIONS,
                                          {"http-host", required_argument, NULL, 'H'},
                                          {"http-port", required_argument, NULL, 'p'},
                                          {NULL, 0, NULL, 0}};
    int option, code;
    opterr = 0;
    while ((option = getopt_long(argument_count, arguments, "", TABLE, NULL)) != -1)
        if (option == 'n')
            start->name = optarg;
        else if ((code = cli_start_option(&command_start, start, option, optarg)) != CLI_OK)
            return code;
    if (optind < argument_count)
        return cli_misused(&command_start, "'%s' is too much; applications are for `manta deploy`",
                           arguments[optind]);
    return CLI_OK;
}

/* A signal, or the end of the instance. */
static int await_end(const struct manta_instance *instance, int signals)
{
    struct pollfd wanted[2] = {{.fd = signals, .events = POLLIN},
                               {.fd = manta_instance_descriptor(instance), .events = POLLIN}};
    while (poll(wanted, 2, -1) < 0)
        ;
    return (wanted[0].revents & POLLIN) != 0;
}

static int stay(struct manta_instance *instance, const char *name, const sigset_t *ends,
                int signals)
{
    struct manta_error error = {0};
    struct signalfd_siginfo taken;
    if (!await_end(instance, signals)) {
        manta_disconnect(instance);
        if (manta_connect(name, &instance, NULL) == 0) { /* its controller is there */
            manta_disconnect(instance);
            cli_say("the node of instance '%s' is gone; the rest serves on: start it again", name);
            return CLI_FAILED;
        }
        cli_say("instance '%s' has ended", name);
        return CLI_OK;
    }
    if (read(signals, &taken, sizeof taken) < 0)
        return CLI_FAILED;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, ends, NULL);
    cli_say("ending; once more to end at once");
    return manta_shutdown(instance, &error) < 0 ? cli_fail(&error) : CLI_OK;
}

static int start_command(int argument_count, char **arguments)
{
    struct manta_start_options start = {MANTA_START_OPTIONS};
    struct manta_instance *instance;
    struct manta_error error = {0};
    sigset_t ends;
    const char *named = getenv("MANTA_INSTANCE");
    start.name = named && *named ? named : DEFAULT_NAME;
    int code = parse(&start, argument_count, arguments);
    if (code != CLI_OK)
        return code;
    if (manta_connect(start.name, &instance, NULL) == 0) {
        manta_disconnect(instance);
        cli_say("instance '%s' runs already", start.name);
        return CLI_FAILED;
    }
    cli_python(); /* replicas of Python find the package as this command does */
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0 || manta_start(&start, &instance, &error) < 0)
        return signals < 0 ? CLI_FAILED : cli_fail(&error);
    int port = manta_http_port(instance);
    if (port > 0)
        cli_say("instance '%s' listens at http://%s:%d", start.name, start.http_host, port);
    else
        cli_say("instance '%s' runs, without HTTP", start.name);
    return stay(instance, start.name, &ends, signals);
}

const struct command command_start = {
    .name = "start",
    .summary = "run a service in the foreground, for `manta deploy`",
    .help =
        "usage: manta start [options]\n"
        "\n"
        "Runs an instance with a name and without applications, and stays until Ctrl-C or SIGTERM, "
        "then\n"
        "drains and ends it.  Applications come by `manta deploy`, `manta run` and serve.run, and "
        "are\n"
        "there again when the instance is started anew.\n"
        "\n"
        "  --name NAME              of the instance (default: MANTA_INSTANCE, else default)\n"
        "  --host HOST              to listen on (default: 127.0.0.1)\n"
        "  --port PORT              to listen on (default: 8000; 0: any free one; -1: no HTTP)\n"
        "  --proxies N              proxy processes (default: 0, by the number of cores)\n"
        "  --request-timeout-s S    answer 408 after so long (default: 0, never)\n"
        "  --log-level LEVEL        DEBUG, INFO, WARNING or ERROR (default: INFO)\n"
        "  --log-dir DIRECTORY      where log files go (default: the instance's directory)\n"
        "  --log-to-stderr          log lines come here instead\n"
        "\n"
        "--http-host and --http-port are Ray Serve's names of --host and --port.\n"
        "\n"
        "example:\n"
        "  manta start --port 8080\n",
    .run = start_command,
};
