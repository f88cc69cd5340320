/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_file: the whole file: parsed, checked, taken apart into applications.
 *
 * First everything is checked (deploy_schema.c); only a document that is right in kind is taken
 * apart, so that the second half need not ask what a value is.
 */
#include "deploy_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "deploy_node.h"
#include "deploy_schema.h"
#include "map.h"
#include "mem.h"

enum { MEMORY_LIMIT = 256 << 20 };

struct deploy_file_memory {
    struct arena_blocks blocks;
    struct arena arena;
    bool failed;
};

static void *keep(struct deploy_file *file, size_t size)
{
    void *at = arena_try(&file->memory->arena, size ? size : 1);
    file->memory->failed |= !at;
    return at;
}

static char *keep_bytes(struct deploy_file *file, struct bytes bytes)
{
    char *at = arena_copy_string(&file->memory->arena, bytes);
    file->memory->failed |= !at;
    return at;
}

static struct deploy_file *file_new(void)
{
    struct deploy_file *file = mem_new(sizeof *file);
    file->memory = mem_new(sizeof *file->memory);
    arena_blocks_init(&file->memory->blocks, 1);
    arena_init(&file->memory->arena, &file->memory->blocks, MEMORY_LIMIT);
    file->http_port = -1;
    file->request_timeout_s = file->keep_alive_timeout_s = -1;
    return file;
}

struct deploy_file *deploy_file_free(struct deploy_file *file)
{
    if (!file)
        return NULL;
    arena_clear(&file->memory->arena);
    arena_blocks_done(&file->memory->blocks);
    mem_free(file->memory);
    return mem_free(file);
}

/* ---- values of a map that was checked ---- */

/* Null: not there, or nothing. */
static const yaml_node_t *find(const struct node_pairs *pairs, const char *key)
{
    const struct node_pair *pair = node_pairs_find(pairs, key);
    bool nothing = pair && pair->value->type == YAML_SCALAR_NODE &&
                   node_scalar(pair->value).kind == SCALAR_NULL;
    return pair && !nothing ? pair->value : NULL;
}

static const char *get_text(struct deploy_file *file, const struct node_pairs *pairs,
                            const char *key, const char *fallback)
{
    const yaml_node_t *node = find(pairs, key);
    return node ? keep_bytes(file, node_scalar(node).text) : fallback;
}

static double get_number(const struct node_pairs *pairs, const char *key, double fallback)
{
    const yaml_node_t *node = find(pairs, key);
    struct scalar scalar = node ? node_scalar(node) : (struct scalar){0};
    if (!node)
        return fallback;
    return scalar.kind == SCALAR_INT ? (double)scalar.integer : scalar.number;
}

static const char *get_json(struct node_reader *reader, struct deploy_file *file, yaml_node_t *node)
{
    struct text json;
    text_init(&json, 64 << 20);
    node_write_json(reader, node, &json);
    char *at = keep_bytes(file, text_bytes(&json));
    text_done(&json);
    return at;
}

/* ---- applications ---- */

static void take_override(struct node_reader *reader, struct deploy_file *file, yaml_node_t *node,
                          struct deploy_file_override *override)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    const struct node_pair *config = node_pairs_find(&pairs, "user_config");
    override->name = get_text(file, &pairs, "name", "");
    override->num_replicas = (int32_t)get_number(&pairs, "num_replicas", -1);
    override->max_ongoing_requests = (int32_t)get_number(&pairs, "max_ongoing_requests", 0);
    override->max_queued_requests = (int32_t)get_number(&pairs, "max_queued_requests", -2);
    override->graceful_shutdown_timeout_s = get_number(&pairs, "graceful_shutdown_timeout_s", -1);
    override->health_check_period_s = get_number(&pairs, "health_check_period_s", -1);
    override->health_check_timeout_s = get_number(&pairs, "health_check_timeout_s", -1);
    override->max_surge_percent = (int32_t)get_number(&pairs, "max_surge_percent", -1);
    override->rolling_update_percentage = get_number(&pairs, "rolling_update_percentage", -1);
    if (config)
        override->user_config = get_json(reader, file, config->value);
    node_pairs_done(&pairs);
}

static void take_overrides(struct node_reader *reader, struct deploy_file *file,
                           const struct node_pairs *pairs, struct deploy_file_app *app)
{
    const yaml_node_t *list = find(pairs, "deployments");
    uint32_t count = list ? node_count(list) : 0;
    app->overrides = keep(file, count * sizeof *app->overrides);
    for (uint32_t i = 0; app->overrides && i < count; i++)
        take_override(reader, file, node_item(reader, list, i), &app->overrides[i]);
    app->override_count = app->overrides ? count : 0;
}

/* As a command line has them: a boolean as it is written, nothing as an empty text. */
static void take_arguments(struct node_reader *reader, struct deploy_file *file,
                           const struct node_pairs *pairs, struct deploy_file_app *app)
{
    const struct node_pair *found = node_pairs_find(pairs, "args");
    struct node_pairs args = {0};
    if (found)
        node_pairs_read(reader, found->value, &args);
    app->arguments = keep(file, (args.count + 1) * sizeof *app->arguments);
    for (uint32_t i = 0; app->arguments && i < args.count; i++) {
        struct scalar scalar = node_scalar(args.at[i].value);
        char *argument = keep(file, args.at[i].name.size + scalar.text.size + 2);
        if (!argument)
            break;
        memcpy(argument, args.at[i].name.at, args.at[i].name.size);
        argument[args.at[i].name.size] = '=';
        if (scalar.kind != SCALAR_NULL && scalar.text.size)
            memcpy(argument + args.at[i].name.size + 1, scalar.text.at, scalar.text.size);
        app->arguments[i] = argument;
    }
    node_pairs_done(&args);
}

static void take_app(struct node_reader *reader, struct deploy_file *file, yaml_node_t *node,
                     struct deploy_file_app *app)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    app->line = (uint32_t)node->start_mark.line + 1;
    app->name = get_text(file, &pairs, "name", "default");
    app->import_path = get_text(file, &pairs, "import_path", "");
    const struct node_pair *route = node_pairs_find(&pairs, "route_prefix");
    app->route_prefix = get_text(file, &pairs, "route_prefix", route ? NULL : "/");
    app->is_library = schema_is_library(bytes_of_string(app->import_path));
    if (app->is_library) {
        schema_check_library(reader, &pairs);
        if (!reader->complaint_count) {
            take_arguments(reader, file, &pairs, app);
            take_overrides(reader, file, &pairs, app);
        }
    } else {
        app->json = get_json(reader, file, node);
    }
    node_pairs_done(&pairs);
}

static void check_import_path(struct node_reader *reader, const yaml_node_t *node,
                              const struct deploy_file_app *app)
{
    const char *path = app->import_path, *colon = strchr(path, ':');
    size_t size = strlen(path);
    bool good = app->is_library;
    if (!good && colon)
        good = colon != path && colon[1] && !strchr(colon + 1, ':');
    else if (!good)
        good = strchr(path, '.') && path[size - 1] != '.';
    if (!good)
        node_complain(reader, node,
                      "import_path '%.200s' is not module:application, module.application or "
                      "path/lib.so:application",
                      path);
}

static void check_route(struct node_reader *reader, const yaml_node_t *node, const char *route)
{
    if (!route)
        return;
    size_t size = strlen(route);
    if (route[0] != '/' || (size > 1 && route[size - 1] == '/') || strpbrk(route, "{}"))
        node_complain(reader, node,
                      "route_prefix '%.200s' does not begin with '/', ends with one, or has a '{' "
                      "or '}'",
                      route);
}

/* In Ray Serve's words, with the line of the second one. */
static void check_unique(struct node_reader *reader, const yaml_node_t *node, struct map *names,
                         struct map *routes, const struct deploy_file_app *app)
{
    const struct deploy_file_app *before = map_get_name(names, bytes_of_string(app->name));
    if (!app->name[0])
        node_complain(reader, node, "Application names must be nonempty.");
    else if (before)
        node_complain(reader, node,
                      "Found multiple configs for application \"%.200s\"; the first is in line %u.",
                      app->name, before->line);
    else if (map_try_put_name(names, bytes_of_string(app->name), (void *)app) != 0)
        node_complain(reader, node, "memory is exhausted");
    if (!app->route_prefix)
        return;
    before = map_get_name(routes, bytes_of_string(app->route_prefix));
    if (before)
        node_complain(reader, node,
                      "Found duplicate applications for route prefix \"%.200s\"; the first is in "
                      "line %u.",
                      app->route_prefix, before->line);
    else if (map_try_put_name(routes, bytes_of_string(app->route_prefix), (void *)app) != 0)
        node_complain(reader, node, "memory is exhausted");
}

static void take_apps(struct node_reader *reader, struct deploy_file *file, const yaml_node_t *list)
{
    struct map names, routes;
    uint32_t count = list ? node_count(list) : 0;
    if (count > DEPLOY_FILE_APP_LIMIT) {
        node_complain(reader, list, "more than %d applications", DEPLOY_FILE_APP_LIMIT);
        return;
    }
    file->apps = keep(file, count * sizeof *file->apps);
    map_init(&names, DEPLOY_FILE_APP_LIMIT);
    map_init(&routes, DEPLOY_FILE_APP_LIMIT);
    for (uint32_t i = 0; file->apps && i < count && !file->memory->failed; i++) {
        yaml_node_t *node = node_item(reader, list, i);
        size_t before = node_enter_index(reader, i);
        take_app(reader, file, node, &file->apps[i]);
        if (!file->memory->failed) {
            check_import_path(reader, node, &file->apps[i]);
            check_route(reader, node, file->apps[i].route_prefix);
            check_unique(reader, node, &names, &routes, &file->apps[i]);
            file->app_count = i + 1;
        }
        node_leave(reader, before);
    }
    map_done(&names);
    map_done(&routes);
}

/* ---- the instance ---- */

static void take_http(struct node_reader *reader, struct deploy_file *file, yaml_node_t *node)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    file->http_host = get_text(file, &pairs, "host", NULL);
    file->http_port = (int32_t)get_number(&pairs, "port", -1);
    file->request_timeout_s = get_number(&pairs, "request_timeout_s", -1);
    file->keep_alive_timeout_s = get_number(&pairs, "keep_alive_timeout_s", -1);
    file->has_start_options |= pairs.count > 0;
    node_pairs_done(&pairs);
}

static void take_logging(struct node_reader *reader, struct deploy_file *file, yaml_node_t *node)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    file->log_level = get_text(file, &pairs, "log_level", NULL);
    file->log_encoding = get_text(file, &pairs, "encoding", NULL);
    file->log_directory = get_text(file, &pairs, "logs_dir", NULL);
    node_pairs_done(&pairs);
}

static void take_whole(struct node_reader *reader, struct deploy_file *file, yaml_node_t *root)
{
    struct node_pairs pairs;
    node_pairs_read(reader, root, &pairs);
    const char *location = get_text(file, &pairs, "proxy_location", NULL);
    file->no_http = location && !strcmp(location, "Disabled");
    file->has_start_options = location != NULL;
    if (find(&pairs, "http_options"))
        take_http(reader, file, node_pairs_find(&pairs, "http_options")->value);
    if (find(&pairs, "logging_config"))
        take_logging(reader, file, node_pairs_find(&pairs, "logging_config")->value);
    size_t before = node_enter_key(reader, BYTES("applications"));
    take_apps(reader, file, find(&pairs, "applications"));
    node_leave(reader, before);
    node_pairs_done(&pairs);
}

/* ---- reading ---- */

static void complain_syntax(struct node_reader *reader, const yaml_parser_t *parser)
{
    reader->complaint_count++;
    text_print(reader->complaints, "%s:%zu: %s\n", reader->file, parser->problem_mark.line + 1,
               parser->problem ? parser->problem : "memory is exhausted");
}

/* Exactly one document. */
static bool load(struct node_reader *reader, struct bytes text)
{
    yaml_parser_t parser;
    yaml_document_t more;
    if (!yaml_parser_initialize(&parser)) {
        node_complain(reader, NULL, "memory is exhausted");
        return false;
    }
    yaml_parser_set_input_string(&parser, text.at ? text.at : (const uint8_t *)"", text.size);
    bool loaded = yaml_parser_load(&parser, &reader->document);
    if (!loaded)
        complain_syntax(reader, &parser);
    else if (!yaml_document_get_root_node(&reader->document))
        node_complain(reader, NULL, "it is empty; it needs the key 'applications'");
    else if (!yaml_parser_load(&parser, &more))
        complain_syntax(reader, &parser);
    else {
        const yaml_node_t *second = yaml_document_get_root_node(&more);
        if (second)
            node_complain(reader, second, "a second document begins here; a file has one");
        yaml_document_delete(&more);
    }
    yaml_parser_delete(&parser);
    return loaded;
}

struct deploy_file *deploy_file_read(struct bytes text, const char *name, struct text *complaints)
{
    struct node_reader reader = {.file = name, .complaints = complaints};
    if (text.size > DEPLOY_FILE_SIZE_LIMIT) {
        node_complain(&reader, NULL, "it has more than %d bytes", DEPLOY_FILE_SIZE_LIMIT);
        return NULL;
    }
    bool loaded = load(&reader, text);
    struct deploy_file *file = file_new();
    yaml_node_t *root = loaded ? yaml_document_get_root_node(&reader.document) : NULL;
    if (root && !reader.complaint_count)
        schema_check(&reader, root);
    if (root && !reader.complaint_count)
        take_whole(&reader, file, root);
    if (!reader.complaint_count && file->memory->failed)
        node_complain(&reader, NULL, "memory is exhausted");
    if (loaded)
        yaml_document_delete(&reader.document);
    return reader.complaint_count ? deploy_file_free(file) : file;
}
