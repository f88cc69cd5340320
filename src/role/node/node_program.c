/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_program: what is executed for a replica.
 *
 * "c" is our own manta-replica; "python:/absolute/path" an interpreter, whose document may say more
 * of its process in the options:
 *
 *     "environment"           {name: value}: replaces what is there
 *     "environment_defaults"  {name: value}: where nothing is there
 *     "zygote"                {"key": its environment's name, "load": what it imports}
 *     "log"                   {"level", "encoding", "directory"}: where its log is not as the
 *                             instance's
 *
 * A value that refers to another variable ("${HOME}") is left to the interpreter.
 */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "mem.h"
#include "node.h"
#include "target.h"
#include "value.h"

static const char PYTHON[] = "python:"; /* a runner: the path of an interpreter follows */

bool node_program_knows(struct bytes runner)
{
    const size_t prefix = sizeof PYTHON - 1;
    if (bytes_equal(runner, BYTES("c")))
        return true;
    return runner.size > prefix + 1 && runner.size < NODE_PATH_SIZE &&
           bytes_equal(bytes_head(runner, prefix), BYTES("python:")) && runner.at[prefix] == '/' &&
           !memchr(runner.at, 0, runner.size);
}

const char *node_program_interpreter(const char *runner)
{
    const size_t prefix = sizeof PYTHON - 1;
    return strncmp(runner, PYTHON, prefix) == 0 ? runner + prefix : NULL;
}

/* ---- what the document says ---- */

static struct bytes find(struct bytes map, const char *key, enum value_type type)
{
    struct value found;
    if (!map.size || !value_map_find(map, bytes_of_string(key), &found) || found.type != type)
        return bytes_of(NULL, 0);
    return type == VALUE_MAP ? found.raw : found.bytes;
}

static void read_log(struct bytes map, struct node_surroundings *ret)
{
    struct value level;
    struct bytes encoding = find(map, "encoding", VALUE_STRING);
    struct bytes directory = find(map, "directory", VALUE_STRING);
    if (map.size && value_map_find(map, BYTES("level"), &level) && level.type == VALUE_INT &&
        level.integer > 0 && level.integer <= LOG_CRITICAL)
        ret->log_level = (int)level.integer;
    if (bytes_equal(encoding, BYTES("JSON")))
        ret->log_encoding = "JSON";
    else if (bytes_equal(encoding, BYTES("TEXT")))
        ret->log_encoding = "TEXT";
    if (directory.size && directory.size < NODE_PATH_SIZE && directory.at[0] == '/' &&
        !memchr(directory.at, 0, directory.size))
        ret->log_directory = directory;
}

void node_program_read(const struct node_order *order, struct node_surroundings *ret)
{
    struct target_replica target;
    struct error ignored;
    *ret = (struct node_surroundings){0};
    if (!node_program_interpreter(order->runner) ||
        target_read_replica(bytes_of(order->document.at, order->document.size), &target, &ignored) <
            0 ||
        !target.options.size || value_check(target.options, NULL) < 0)
        return; /* the replica itself says what is wrong with it */
    struct bytes zygote = find(target.options, "zygote", VALUE_MAP);
    ret->key = find(zygote, "key", VALUE_STRING);
    ret->load = find(zygote, "load", VALUE_STRING);
    read_log(find(target.options, "log", VALUE_MAP), ret);
    ret->variables = find(target.options, "environment", VALUE_MAP);
    ret->defaults = find(target.options, "environment_defaults", VALUE_MAP);
}

/* ---- what is executed ---- */

/* How the list of arguments begins. */
static size_t choose_program(struct node_program *program, const struct node *node,
                             const char *runner)
{
    const char *interpreter = node_program_interpreter(runner);
    if (!interpreter) {
        snprintf(program->path, sizeof program->path, "%s/manta-replica", node->libexec);
        program->list[0] = "manta-replica";
        return 1;
    }
    snprintf(program->path, sizeof program->path, "%s", interpreter);
    program->list[0] = program->path; /* an interpreter finds its home by it */
    program->list[1] = "-m";
    program->list[2] = "manta._private.replica_main";
    return 3;
}

/* The instance's way to log, with what the replica's document says else. */
static size_t add_log_arguments(struct node_program *program, const struct node *node,
                                const struct node_surroundings *given, size_t count)
{
    size_t end = count + node_log_arguments(node, program->list + count);
    snprintf(program->log_level, sizeof program->log_level, "%d", given->log_level);
    snprintf(program->log_directory, sizeof program->log_directory, "%.*s",
             BYTES_PRINT(given->log_directory));
    for (; count + 1 < end; count += 2)
        if (given->log_level && strcmp(program->list[count], "--log-level") == 0)
            program->list[count + 1] = program->log_level;
        else if (given->log_encoding && strcmp(program->list[count], "--log-encoding") == 0)
            program->list[count + 1] = given->log_encoding;
        else if (given->log_directory.size && strcmp(program->list[count], "--log-directory") == 0)
            program->list[count + 1] = program->log_directory;
    /* The last one, which has no value, sends everything to stderr. */
    return given->log_directory.size ? count : end;
}

void node_program_fill(struct node_program *program, const struct node_replica *replica)
{
    const struct node *node = replica->node;
    struct node_surroundings given;
    node_program_read(replica->order, &given);
    size_t count = choose_program(program, node, replica->order->runner);
    const char *ours[] = {"--instance",
                          node->instance.directory,
                          "--controller",
                          node->instance.controller_socket,
                          "--replica",
                          program->id,
                          "--version-hash",
                          program->version_hash,
                          "--document-descriptor",
                          "3"};
    memcpy(program->list + count, ours, sizeof ours);
    count += sizeof ours / sizeof *ours;
    count = add_log_arguments(program, node, &given, count);
    program->list[count] = NULL;
    snprintf(program->id, sizeof program->id, "%llu", (unsigned long long)replica->id);
    snprintf(program->version_hash, sizeof program->version_hash, "%llx",
             (unsigned long long)replica->order->version);
}

/* ---- the environment ---- */

/* Where `name` stands among the first `count`, or `count`. */
static size_t place_of(char *const *environment, size_t count, struct bytes name)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(environment[i]) > name.size && environment[i][name.size] == '=' &&
            memcmp(environment[i], name.at, name.size) == 0)
            return i;
    return count;
}

static bool is_plain(struct bytes name, struct bytes value)
{
    return name.size && !memchr(name.at, '=', name.size) && !memchr(name.at, 0, name.size) &&
           !(value.size && (memchr(value.at, '$', value.size) || memchr(value.at, 0, value.size)));
}

/* Where the next variable goes, and the memory of those that came from the document. */
struct variables {
    char **list;
    size_t count;
    char *free_at;
};

static void add_variable(struct variables *to, size_t place, struct bytes name, struct bytes value)
{
    to->list[place] = to->free_at;
    to->count += place == to->count;
    memcpy(to->free_at, name.at, name.size);
    to->free_at[name.size] = '=';
    if (value.size)
        memcpy(to->free_at + name.size + 1, value.at, value.size);
    to->free_at += name.size + value.size + 2;
    to->free_at[-1] = 0;
}

static void add_pairs(struct variables *to, struct bytes map, bool replace)
{
    struct value_reader reader;
    struct value head, name, value;
    value_read_init(&reader, map);
    if (!map.size || !value_next(&reader, &head))
        return;
    for (uint32_t i = 0; i < head.count; i++) {
        if (!value_next(&reader, &name) || !value_next(&reader, &value))
            return;
        if (name.type != VALUE_STRING || value.type != VALUE_STRING ||
            !is_plain(name.bytes, value.bytes))
            continue;
        size_t place = place_of(to->list, to->count, name.bytes);
        if (place == to->count || replace)
            add_variable(to, place, name.bytes, value.bytes);
    }
}

static uint32_t count_pairs(struct bytes map)
{
    struct value_reader reader;
    struct value head;
    value_read_init(&reader, map);
    return map.size && value_next(&reader, &head) ? head.count : 0;
}

char **node_program_environment(char *const *base, const struct node_surroundings *given)
{
    struct variables made = {0};
    size_t count = 0;
    while (base[count])
        count++;
    /* A name and a value have a byte each in the map at least, and get two more here. */
    size_t pairs = (size_t)count_pairs(given->variables) + count_pairs(given->defaults);
    size_t list_size = (count + pairs + 1) * sizeof *made.list;
    made.list = mem_new(list_size + given->variables.size + given->defaults.size + 2 * pairs);
    made.free_at = (char *)made.list + list_size;
    made.count = count;
    memcpy(made.list, base, count * sizeof *made.list);
    add_pairs(&made, given->variables, true);
    add_pairs(&made, given->defaults, false);
    made.list[made.count] = NULL;
    return made.list;
}
