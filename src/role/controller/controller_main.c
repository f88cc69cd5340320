/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta-controller: the executable.  The node starts it:
 *
 *     manta-controller --instance DIRECTORY --node SOCKET --listen-descriptor N [--store DIRECTORY]
 *                      [--start N] [--log-...]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "conduct.h"
#include "log.h"
#include "parent.h"

static int read_options(struct conduct_options *options, int argument_count, char **arguments)
{
    static const struct option table[] = {{"instance", required_argument, NULL, 'i'},
                                          {"node", required_argument, NULL, 'n'},
                                          {"listen-descriptor", required_argument, NULL, 'd'},
                                          {"store", required_argument, NULL, 'S'},
                                          {"start", required_argument, NULL, 'c'},
                                          {"log-directory", required_argument, NULL, 'l'},
                                          {"log-level", required_argument, NULL, 'L'},
                                          {"log-encoding", required_argument, NULL, 'E'},
                                          {"log-to-stderr", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int option;
    *options = (struct conduct_options){
        .listen_descriptor = -1, .log_level = LOG_INFO, .log_encoding = "TEXT"};
    while ((option = getopt_long(argument_count, arguments, "", table, NULL)) != -1) {
        switch (option) {
        case 'i':
            options->directory = optarg;
            break;
        case 'n':
            options->node = optarg;
            break;
        case 'd':
            options->listen_descriptor = atoi(optarg);
            break;
        case 'S':
            options->store_directory = optarg;
            break;
        case 'c':
            options->start = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options->log_directory = optarg;
            break;
        case 'L':
            options->log_level = atoi(optarg);
            break;
        case 'E':
            options->log_encoding = optarg;
            break;
        case 's':
            options->log_to_stderr = true;
            break;
        default:
            return -1;
        }
    }
    if (!options->log_directory)
        options->log_directory = options->directory;
    return options->directory && options->node && options->listen_descriptor >= 0 ? 0 : -1;
}

int main(int argument_count, char **arguments)
{
    struct conduct_options options;
    struct parent_bond bond;
    parent_take_bond(&bond);
    if (read_options(&options, argument_count, arguments) < 0) {
        fprintf(stderr, "manta-controller is started by manta-node; see `manta --help`\n");
        return 2;
    }
    options.bond = bond;
    options.engine = engine_local_new;
    return conduct_run(&options);
}
