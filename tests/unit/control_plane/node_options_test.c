/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What manta-node understands of its arguments, and what it says about those that it does not.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "node.h"

enum { ARGUMENTS = 32 };

static int read_line(const char *line, struct node_options *options, struct error *error)
{
    static char copy[512];
    static char program[] = "manta-node";
    char *list[ARGUMENTS] = {program};
    int count = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *at = strtok(copy, " "); at; at = strtok(NULL, " "))
        list[count++] = at;
    *error = (struct error){0};
    return node_options_read(options, count, list, error);
}

Test(node_options, everything_that_the_library_says_is_understood)
{
    struct node_options options;
    struct error error;
    int code = read_line("--name private-1 --parent-descriptor 3 --http-host ::1 --http-port 0 "
                         "--proxies 2 --request-timeout-ms 1500 --keep-alive-ms 90000 "
                         "--log-level WARNING --log-encoding JSON --log-directory /var/log/x "
                         "--log-to-stderr --private",
                         &options, &error);
    cr_assert_eq(code, 0, "%s", error.text);
    cr_assert_str_eq(options.name, "private-1");
    cr_assert_eq(options.parent_descriptor, 3);
    cr_assert_str_eq(options.http_host, "::1");
    cr_assert_eq(options.http_port, 0);
    cr_assert_eq(options.proxies, 2);
    cr_assert_eq(options.request_timeout_ms, 1500);
    cr_assert_eq(options.keep_alive_ms, 90000);
    cr_assert_eq(options.log_level, LOG_WARNING);
    cr_assert_str_eq(options.log_encoding, "JSON");
    cr_assert_str_eq(options.log_directory, "/var/log/x");
    cr_assert(options.log_to_stderr && options.is_private);
}

Test(node_options, a_name_is_enough_for_a_service)
{
    struct node_options options;
    struct error error;
    cr_assert_eq(read_line("--name default", &options, &error), 0);
    cr_assert_eq(options.parent_descriptor, -1);
    cr_assert_eq(options.http_port, 8000);
    cr_assert_eq(options.request_timeout_ms, -1);
    cr_assert_not(options.is_private);
}

Test(node_options, what_is_wrong_is_named)
{
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"", "--name"},
        {"--name x --http-port 70000", "--http-port"},
        {"--name x --http-port eighty", "eighty"},
        {"--name x --http-port -2", "--http-port"},
        {"--name x --proxies 65", "--proxies"},
        {"--name x --parent-descriptor 2", "--parent-descriptor"},
        {"--name x --request-timeout-ms -1", "--request-timeout-ms"},
        {"--name x --keep-alive-ms 1.5", "1.5"},
        {"--name x --log-level LOUD", "LOUD"},
        {"--name x --log-encoding XML", "XML"},
        {"--name x --colour", "not known"},
        {"--name", "not known"},
        {"--name x stray", "stray"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct node_options options;
        struct error error;
        cr_assert_eq(read_line(cases[i].line, &options, &error), ERROR_INVALID, "%s",
                     cases[i].line);
        cr_assert(strstr(error.text, cases[i].word), "%s: %s", cases[i].line, error.text);
    }
}

Test(node_options, half_of_the_cores_get_a_proxy_and_never_more_than_four)
{
    static const int proxies[] = {
        [1] = 1, [2] = 1, [3] = 1, [4] = 2, [5] = 2, [6] = 3, [8] = 4, [9] = 4, [64] = 4};
    for (int cores = 1; cores <= 64; cores++)
        if (proxies[cores])
            cr_assert_eq(node_proxies_for_cores(cores), proxies[cores], "%d cores", cores);
}

Test(node_options, there_is_at_least_one_usable_core)
{
    cr_assert_geq(node_usable_cores(), 1);
}
