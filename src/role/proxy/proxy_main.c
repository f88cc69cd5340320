/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta-proxy: the executable.  The node starts it:
 *
 *     manta-proxy --instance DIRECTORY --controller SOCKET --number N --listen-descriptor N
 * [--log-...]
 *
 * Settings (time limits among them) come from the environment, MANTA_<NAME>.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "parent.h"
#include "proxy.h"

int main(int argument_count, char **arguments)
{
    static const struct option table[] = {{"instance", required_argument, NULL, 'i'},
                                          {"controller", required_argument, NULL, 'c'},
                                          {"number", required_argument, NULL, 'n'},
                                          {"listen-descriptor", required_argument, NULL, 'd'},
                                          {"log-directory", required_argument, NULL, 'l'},
                                          {"log-level", required_argument, NULL, 'L'},
                                          {"log-encoding", required_argument, NULL, 'E'},
                                          {"log-to-stderr", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    struct proxy_options options = {.listen_descriptor = -1, .log_level = 20};
    int option;
    parent_take_bond(&options.bond);
    while ((option = getopt_long(argument_count, arguments, "", table, NULL)) != -1) {
        switch (option) {
        case 'i':
            options.directory = optarg;
            break;
        case 'c':
            options.controller = optarg;
            break;
        case 'n':
            options.number = atoi(optarg);
            break;
        case 'd':
            options.listen_descriptor = atoi(optarg);
            break;
        case 'l':
            options.log_directory = optarg;
            break;
        case 'L':
            options.log_level = atoi(optarg);
            break;
        case 'E':
            options.log_encoding = optarg;
            break;
        case 's':
            options.log_to_stderr = true;
            break;
        default:
            return 2;
        }
    }
    if (!options.directory || !options.controller) {
        fprintf(stderr, "manta-proxy is started by manta-node; see `manta --help`\n");
        return 2;
    }
    if (!options.log_directory)
        options.log_directory = options.directory;
    return proxy_run(&options);
}
