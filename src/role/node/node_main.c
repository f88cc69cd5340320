/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta-node: the executable.
 *
 * Whatever keeps the instance from starting goes back over the parent link as one line; without a
 * link it is printed.
 */
#include <stdio.h>

#include "node.h"

static int fail(const struct node_options *options, const struct error *error)
{
    if (options->parent_descriptor >= 0)
        node_tell_failure(options->parent_descriptor, error);
    else
        fprintf(stderr, "manta-node: %s\n", error->text);
    return error->code == ERROR_INVALID ? 2 : 1;
}

int main(int argument_count, char **arguments)
{
    static struct node node; /* one per process */
    struct node_options options;
    struct error error = {0};
    if (node_options_read(&options, argument_count, arguments, &error) < 0)
        return fail(&options, &error);
    if (node_open(&node, &options, &error) < 0) {
        int status = fail(&options, &error);
        node_close(&node);
        return status;
    }
    loop_run(node.loop);
    int code = node.failed;
    node_close(&node);
    return code < 0 ? 1 : 0;
}
