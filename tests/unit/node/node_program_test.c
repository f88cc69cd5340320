/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a replica's document says of its process: program, arguments, environment, zygote, log.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "instance.h"
#include "log.h"
#include "mem.h"
#include "node.h"
#include "page.h"
#include "target.h"
#include "value.h"

static void write_pair(struct text *out, const char *key, const char *value)
{
    value_write_string(out, bytes_of_string(key));
    value_write_string(out, bytes_of_string(value));
}

/* The options of a Python replica. */
static void write_options(struct text *out)
{
    value_write_map(out, 4);
    value_write_string(out, BYTES("environment"));
    value_write_map(out, 4);
    write_pair(out, "FLAVOUR", "sweet");
    write_pair(out, "PATH", "/new");
    write_pair(out, "REFERS", "${FLAVOUR}");
    write_pair(out, "WRONG=NAME", "x");
    value_write_string(out, BYTES("environment_defaults"));
    value_write_map(out, 2);
    write_pair(out, "OMP_NUM_THREADS", "3");
    write_pair(out, "HOME", "/nobody");
    value_write_string(out, BYTES("zygote"));
    value_write_map(out, 2);
    write_pair(out, "key", "abc");
    write_pair(out, "load", "{}");
    value_write_string(out, BYTES("log"));
    value_write_map(out, 3);
    value_write_string(out, BYTES("level"));
    value_write_int(out, LOG_DEBUG);
    write_pair(out, "encoding", "JSON");
    write_pair(out, "directory", "/var/log/app");
}

static struct node node;
static struct node_order order;
static struct node_replica replica;

static void make_replica(const char *runner, struct bytes options)
{
    static const uint8_t no_arguments[] = {0x90};
    struct text document;
    struct target_replica target = {.app = BYTES("app"),
                                    .deployment = BYTES("model"),
                                    .runner = BYTES("python"),
                                    .code = BYTES("x"),
                                    .options = options,
                                    .args = bytes_of(no_arguments, 1),
                                    .threads = 1,
                                    .max_ongoing_requests = 5,
                                    .max_batch_size = 1,
                                    .max_concurrent_batches = 1,
                                    .health_check_period_us = 1000000,
                                    .health_check_timeout_us = 1000000};
    text_init(&document, 1 << 20);
    target_write_replica(&document, &target);
    cr_assert_not(document.failed);
    cr_assert_eq(page_create(&order.document, "test", document.size), 0);
    memcpy(order.document.at, document.at, document.size);
    text_done(&document);
    order.runner = (char *)runner;
    order.version = 0xbeef;
    snprintf(node.instance.directory, sizeof node.instance.directory, "/run/here");
    snprintf(node.instance.log_directory, sizeof node.instance.log_directory, "/run/here/logs");
    snprintf(node.log_level, sizeof node.log_level, "20");
    snprintf(node.libexec, sizeof node.libexec, "/libexec");
    node.options.log_encoding = "TEXT";
    replica = (struct node_replica){.node = &node, .id = 7, .order = &order};
}

static void make_python(void)
{
    struct text options;
    text_init(&options, 1 << 16);
    write_options(&options);
    make_replica("python:/usr/bin/python3", text_bytes(&options));
    text_done(&options);
}

static const char *after(const char *const *list, const char *option)
{
    for (; *list; list++)
        if (strcmp(*list, option) == 0)
            return list[1];
    return NULL;
}

static const char *variable(char *const *environment, const char *name)
{
    size_t size = strlen(name);
    const char *found = NULL;
    for (; *environment; environment++)
        if (strncmp(*environment, name, size) == 0 && (*environment)[size] == '=') {
            cr_assert_null(found, "%s is there once", name);
            found = *environment + size + 1;
        }
    return found;
}

Test(node_program, runners_are_ours_and_interpreters_with_whole_paths)
{
    cr_assert(node_program_knows(BYTES("c")));
    cr_assert(node_program_knows(BYTES("python:/usr/bin/python3")));
    cr_assert_not(node_program_knows(BYTES("python:python3")));
    cr_assert_not(node_program_knows(BYTES("python:")));
    cr_assert_not(node_program_knows(BYTES("python:/a\0b")));
    cr_assert_not(node_program_knows(BYTES("java")));
    cr_assert_null(node_program_interpreter("c"));
}

Test(node_program, a_c_replica_has_the_instances_log_and_no_zygote)
{
    struct node_program program;
    struct node_surroundings given;
    make_replica("c", bytes_of(NULL, 0));
    node_program_read(&order, &given);
    node_program_fill(&program, &replica);
    cr_assert_str_eq(program.path, "/libexec/manta-replica");
    cr_assert_str_eq(program.list[0], "manta-replica");
    cr_assert_str_eq(after(program.list, "--replica"), "7");
    cr_assert_str_eq(after(program.list, "--version-hash"), "beef");
    cr_assert_str_eq(after(program.list, "--log-directory"), "/run/here/logs");
    cr_assert_eq(given.key.size, 0);
}

Test(node_program, a_python_replica_has_what_its_document_says)
{
    struct node_program program;
    struct node_surroundings given;
    make_python();
    node.options.log_to_stderr = true;
    node_program_read(&order, &given);
    node_program_fill(&program, &replica);
    cr_assert(bytes_equal(given.key, BYTES("abc")));
    cr_assert(bytes_equal(given.load, BYTES("{}")));
    cr_assert_str_eq(program.path, "/usr/bin/python3");
    cr_assert_str_eq(program.list[2], "manta._private.replica_main");
    cr_assert_str_eq(after(program.list, "--log-level"), "10");
    cr_assert_str_eq(after(program.list, "--log-encoding"), "JSON");
    cr_assert_str_eq(after(program.list, "--log-directory"), "/var/log/app");
    for (const char **word = program.list; *word; word++)
        cr_assert_str_neq(*word, "--log-to-stderr", "it has a file of its own");
}

Test(node_program, variables_replace_and_defaults_do_not)
{
    char path[] = "PATH=/old", home[] = "HOME=/me", longer[] = "FLAVOURS=many";
    char *base[] = {path, home, longer, NULL};
    struct node_surroundings given;
    make_python();
    node_program_read(&order, &given);
    char **environment = node_program_environment(base, &given);
    cr_assert_str_eq(variable(environment, "PATH"), "/new");
    cr_assert_str_eq(variable(environment, "HOME"), "/me");
    cr_assert_str_eq(variable(environment, "FLAVOUR"), "sweet");
    cr_assert_str_eq(variable(environment, "FLAVOURS"), "many");
    cr_assert_str_eq(variable(environment, "OMP_NUM_THREADS"), "3");
    cr_assert_null(variable(environment, "REFERS"), "the interpreter's affair");
    cr_assert_null(variable(environment, "WRONG"));
    cr_assert_str_eq(base[0], "PATH=/old", "the node's own stays");
    mem_free(environment);
}

Test(node_program, documents_that_make_no_sense_say_nothing)
{
    static const uint8_t broken[] = {0xdf, 0xff, 0xff, 0xff, 0xff};
    struct node_surroundings given;
    char *base[] = {NULL};
    make_replica("python:/usr/bin/python3", bytes_of(broken, sizeof broken));
    node_program_read(&order, &given);
    cr_assert_eq(given.key.size, 0);
    char **environment = node_program_environment(base, &given);
    cr_assert_null(environment[0]);
    mem_free(environment);
    /* Wrong types: a text where a map is expected, a number where a text is. */
    struct text options;
    text_init(&options, 4096);
    value_write_map(&options, 3);
    write_pair(&options, "environment", "text");
    value_write_string(&options, BYTES("zygote"));
    value_write_map(&options, 1);
    value_write_string(&options, BYTES("key"));
    value_write_int(&options, 7);
    value_write_string(&options, BYTES("log"));
    value_write_map(&options, 2);
    value_write_string(&options, BYTES("level"));
    value_write_int(&options, 1000);
    write_pair(&options, "directory", "relative/path");
    make_replica("python:/usr/bin/python3", text_bytes(&options));
    node_program_read(&order, &given);
    cr_assert(given.key.size == 0 && given.variables.size == 0 && given.log_level == 0 &&
              given.log_directory.size == 0);
    text_done(&options);
}
