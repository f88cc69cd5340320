/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_node: maps with merges, aliases, complaints with line and path, JSON.
 *
 * An alias is the node that it names, found again; what it stands for counts each time it is read,
 * so that a small file cannot become a large one, and a node inside itself ends at the depth limit.
 */
#include "deploy_node.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "map.h"
#include "mem.h"
#include "value.h"

/* ---- complaints ---- */

void node_complain(struct node_reader *reader, const yaml_node_t *node, const char *format, ...)
{
    va_list arguments;
    if (reader->complaint_count > DEPLOY_FILE_COMPLAINT_LIMIT)
        return;
    if (reader->complaint_count++ == DEPLOY_FILE_COMPLAINT_LIMIT) {
        text_print(reader->complaints, "%s: and more\n", reader->file);
        return;
    }
    text_print(reader->complaints, "%s:%zu: %s%s", reader->file,
               node ? node->start_mark.line + 1 : 1, reader->path, reader->path[0] ? ": " : "");
    va_start(arguments, format);
    text_print_list(reader->complaints, format, arguments);
    va_end(arguments);
    text_add_byte(reader->complaints, '\n');
}

/* Control characters of a key would break the line of a complaint. */
static void append_path(struct node_reader *reader, size_t before, const char *word, size_t size)
{
    snprintf(reader->path + before, NODE_PATH_SIZE - before, "%.*s", (int)(size < 80 ? size : 80),
             word);
    for (char *at = reader->path + before; *at; at++)
        if ((unsigned char)*at < 0x20)
            *at = '?';
}

size_t node_enter_key(struct node_reader *reader, struct bytes key)
{
    size_t before = strlen(reader->path), at = before;
    if (at && at + 1 < NODE_PATH_SIZE) {
        reader->path[at++] = '.';
        reader->path[at] = 0;
    }
    append_path(reader, at, (const char *)key.at, key.size);
    return before;
}

size_t node_enter_index(struct node_reader *reader, uint32_t index)
{
    size_t before = strlen(reader->path);
    char word[16];
    int size = snprintf(word, sizeof word, "[%u]", index);
    append_path(reader, before, word, (size_t)size);
    return before;
}

void node_leave(struct node_reader *reader, size_t before)
{
    reader->path[before] = 0;
}

/* ---- limits ---- */

void node_check_tag(struct node_reader *reader, const yaml_node_t *node)
{
    static const char *const KNOWN[] = {"str", "int", "float", "bool", "null", "map", "seq",
                                        "timestamp"};
    static const char PREFIX[] = "tag:yaml.org,2002:";
    const char *tag = (const char *)node->tag;
    size_t size = sizeof PREFIX - 1;
    for (size_t i = 0; tag && i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (strncmp(tag, PREFIX, size) == 0 && strcmp(tag + size, KNOWN[i]) == 0)
            return;
    if (tag)
        node_complain(reader, node, "the tag '%.80s' is not known here", tag);
}

bool node_up(struct node_reader *reader, const yaml_node_t *node)
{
    reader->depth++;
    reader->values++;
    if (reader->exhausted)
        return false;
    if (reader->depth > DEPLOY_FILE_DEPTH_LIMIT)
        node_complain(reader, node, "more than %d levels, or a value that contains itself",
                      DEPLOY_FILE_DEPTH_LIMIT);
    else if (reader->values > DEPLOY_FILE_VALUE_LIMIT)
        node_complain(reader, node, "more than %d values, aliases (*) counted as what they name",
                      DEPLOY_FILE_VALUE_LIMIT);
    else
        return true;
    reader->exhausted = true;
    return false;
}

void node_down(struct node_reader *reader)
{
    reader->depth--;
}

/* ---- kinds ---- */

struct scalar node_scalar(const yaml_node_t *node)
{
    struct bytes text = bytes_of(node->data.scalar.value, node->data.scalar.length);
    return scalar_read(text, node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE);
}

const char *node_noun(const yaml_node_t *node)
{
    static const char *const NOUNS[] = {
        [SCALAR_NULL] = "nothing",  [SCALAR_BOOL] = "true or false", [SCALAR_INT] = "a number",
        [SCALAR_FLOAT] = "a number", [SCALAR_TEXT] = "a text",
        [SCALAR_TOO_LARGE] = "a number that is too large"};
    if (node->type == YAML_MAPPING_NODE)
        return "a map";
    if (node->type == YAML_SEQUENCE_NODE)
        return "a list";
    return NOUNS[node_scalar(node).kind];
}

uint32_t node_count(const yaml_node_t *sequence)
{
    return (uint32_t)(sequence->data.sequence.items.top - sequence->data.sequence.items.start);
}

yaml_node_t *node_item(struct node_reader *reader, const yaml_node_t *sequence, uint32_t index)
{
    return yaml_document_get_node(&reader->document, sequence->data.sequence.items.start[index]);
}

/* ---- maps ---- */

static bool add_pair(struct node_pairs *pairs, const struct node_pair *pair)
{
    if (pairs->count == pairs->capacity) {
        uint32_t capacity = pairs->capacity ? 2 * pairs->capacity : 8;
        struct node_pair *grown = mem_try_resize(pairs->at, pairs->capacity * sizeof *grown,
                                                 capacity * sizeof *grown);
        if (!grown)
            return false;
        pairs->at = grown;
        pairs->capacity = capacity;
    }
    pairs->at[pairs->count++] = *pair;
    return true;
}

void node_pairs_done(struct node_pairs *pairs)
{
    mem_free(pairs->at);
    *pairs = (struct node_pairs){0};
}

const struct node_pair *node_pairs_find(const struct node_pairs *pairs, const char *name)
{
    for (uint32_t i = 0; i < pairs->count; i++)
        if (bytes_equal(pairs->at[i].name, bytes_of_string(name)))
            return &pairs->at[i];
    return NULL;
}

/* A key must be what JSON has as a key: a text, or a number as a text. */
static bool read_key(struct node_reader *reader, struct node_pair *pair)
{
    if (pair->key->type != YAML_SCALAR_NODE) {
        node_complain(reader, pair->key, "a key is %s; keys are texts", node_noun(pair->key));
        return false;
    }
    struct scalar scalar = node_scalar(pair->key);
    pair->name = scalar.text;
    if (scalar.kind == SCALAR_TEXT || scalar.kind == SCALAR_INT)
        return true;
    node_complain(reader, pair->key, "the key '%.*s' is %s; put it into quotes",
                  BYTES_PRINT(bytes_head(scalar.text, 80)), node_noun(pair->key));
    return false;
}

static bool is_merge(const struct node_pair *pair)
{
    return pair->key->type == YAML_SCALAR_NODE &&
           pair->key->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           bytes_equal(bytes_of(pair->key->data.scalar.value, pair->key->data.scalar.length),
                       BYTES("<<"));
}

static bool read_pairs(struct node_reader *reader, yaml_node_t *map, struct node_pairs *pairs,
                       struct map *names, bool merged);

static bool merge_one(struct node_reader *reader, yaml_node_t *map, struct node_pairs *pairs,
                      struct map *names)
{
    bool good = map->type == YAML_MAPPING_NODE;
    if (!good)
        node_complain(reader, map, "a merge (<<) takes maps, not %s", node_noun(map));
    bool deep = node_up(reader, map);
    good = good && deep && read_pairs(reader, map, pairs, names, true);
    node_down(reader);
    return good;
}

static bool merge(struct node_reader *reader, yaml_node_t *value, struct node_pairs *pairs,
                  struct map *names)
{
    if (value->type != YAML_SEQUENCE_NODE)
        return merge_one(reader, value, pairs, names);
    for (uint32_t i = 0; i < node_count(value); i++)
        if (!merge_one(reader, node_item(reader, value, i), pairs, names))
            return false;
    return true;
}

static bool read_pair(struct node_reader *reader, struct node_pair *pair, struct node_pairs *pairs,
                      struct map *names, bool merged)
{
    reader->values += merged; /* a merge costs what it brings */
    if (!read_key(reader, pair))
        return false;
    if (map_get_name(names, pair->name)) {
        if (merged)
            return true; /* what the map says itself counts */
        node_complain(reader, pair->key, "the key '%.*s' is there twice",
                      BYTES_PRINT(bytes_head(pair->name, 80)));
        return false;
    }
    if (map_try_put_name(names, pair->name, pair) == 0 && add_pair(pairs, pair))
        return true;
    node_complain(reader, pair->key, "memory is exhausted");
    return false;
}

static bool read_pairs(struct node_reader *reader, yaml_node_t *map, struct node_pairs *pairs,
                       struct map *names, bool merged)
{
    const yaml_node_pair_t *first = map->data.mapping.pairs.start, *end = map->data.mapping.pairs.top;
    bool good = true;
    for (int merges = 0; merges < 2; merges++) /* its own first */
        for (const yaml_node_pair_t *at = first; at < end; at++) {
            struct node_pair pair = {.key = yaml_document_get_node(&reader->document, at->key),
                                     .value = yaml_document_get_node(&reader->document, at->value)};
            if (is_merge(&pair) != merges)
                continue;
            good &= merges ? merge(reader, pair.value, pairs, names)
                           : read_pair(reader, &pair, pairs, names, merged);
            if (reader->exhausted)
                return false;
        }
    return good;
}

bool node_pairs_read(struct node_reader *reader, yaml_node_t *map, struct node_pairs *pairs)
{
    struct map names;
    *pairs = (struct node_pairs){0};
    map_init(&names, DEPLOY_FILE_VALUE_LIMIT);
    bool good = read_pairs(reader, map, pairs, &names, false);
    map_done(&names);
    return good;
}

/* ---- out ---- */

static void write_scalar(struct node_reader *reader, const yaml_node_t *node, struct text *out)
{
    struct scalar scalar = node_scalar(node);
    switch (scalar.kind) {
    case SCALAR_NULL:
        value_write_nil(out);
        return;
    case SCALAR_BOOL:
        value_write_bool(out, scalar.boolean);
        return;
    case SCALAR_INT:
        value_write_int(out, scalar.integer);
        return;
    case SCALAR_FLOAT:
        if (!isfinite(scalar.number))
            node_complain(reader, node, "'%.*s' is no number of JSON; put it into quotes",
                          BYTES_PRINT(scalar.text));
        value_write_float(out, scalar.number);
        return;
    case SCALAR_TOO_LARGE:
        node_complain(reader, node, "'%.*s' is larger than 64 bits; put it into quotes",
                      BYTES_PRINT(bytes_head(scalar.text, 80)));
        value_write_nil(out);
        return;
    case SCALAR_TEXT:
        value_write_string(out, scalar.text);
        return;
    }
}

static void write_map(struct node_reader *reader, yaml_node_t *node, struct text *out)
{
    struct node_pairs pairs;
    node_pairs_read(reader, node, &pairs);
    value_write_map(out, pairs.count);
    for (uint32_t i = 0; i < pairs.count; i++) {
        size_t before = node_enter_key(reader, pairs.at[i].name);
        value_write_string(out, pairs.at[i].name);
        node_write(reader, pairs.at[i].value, out);
        node_leave(reader, before);
    }
    node_pairs_done(&pairs);
}

void node_write(struct node_reader *reader, yaml_node_t *node, struct text *out)
{
    node_check_tag(reader, node);
    if (!node_up(reader, node)) {
        value_write_nil(out);
    } else if (node->type == YAML_MAPPING_NODE) {
        write_map(reader, node, out);
    } else if (node->type == YAML_SEQUENCE_NODE) {
        value_write_array(out, node_count(node));
        for (uint32_t i = 0; i < node_count(node); i++) {
            size_t before = node_enter_index(reader, i);
            node_write(reader, node_item(reader, node, i), out);
            node_leave(reader, before);
        }
    } else {
        write_scalar(reader, node, out);
    }
    node_down(reader);
}

void node_write_json(struct node_reader *reader, yaml_node_t *node, struct text *out)
{
    struct text document;
    text_init(&document, 64 << 20);
    node_write(reader, node, &document);
    if (document.failed)
        node_complain(reader, node, "it is too large");
    else
        value_print(text_bytes(&document), out);
    text_done(&document);
}
