/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_node: libyaml's tree, read with the limits of deploy_file.h, and what is said about it.
 *
 * For the files of this folder only.
 */
#ifndef MANTA_PROTO_DEPLOY_NODE_H
#define MANTA_PROTO_DEPLOY_NODE_H

#include <yaml.h>

#include "deploy_file.h"
#include "deploy_scalar.h"

enum { NODE_PATH_SIZE = 512 };

struct node_reader {
    yaml_document_t document;
    const char *file;
    struct text *complaints;
    uint32_t complaint_count;
    uint32_t depth, values;
    bool exhausted;            /* a limit was told: nothing more is read */
    char path[NODE_PATH_SIZE]; /* where we are: "applications[0].name" */
};

struct node_pair {
    yaml_node_t *key, *value;
    struct bytes name; /* of the key */
};
struct node_pairs {
    struct node_pair *at;
    uint32_t count, capacity;
};

/* "FILE:LINE: PATH: ..." */
void node_complain(struct node_reader *reader, const yaml_node_t *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The path grows by ".key" or "[index]"; what they return goes to node_leave. */
size_t node_enter_key(struct node_reader *reader, struct bytes key);
size_t node_enter_index(struct node_reader *reader, uint32_t index);
void node_leave(struct node_reader *reader, size_t before);

/* What a tag that is not YAML's own would make of a value, nobody here knows. */
void node_check_tag(struct node_reader *reader, const yaml_node_t *node);

/* Counts the node against the limits; false: they are exhausted.  node_down at the end. */
bool node_up(struct node_reader *reader, const yaml_node_t *node);
void node_down(struct node_reader *reader);

/* The pairs of a map in their order, those of merged maps after its own.  To be done with. */
bool node_pairs_read(struct node_reader *reader, yaml_node_t *map, struct node_pairs *pairs);
void node_pairs_done(struct node_pairs *pairs);
const struct node_pair *node_pairs_find(const struct node_pairs *pairs, const char *name);

yaml_node_t *node_item(struct node_reader *reader, const yaml_node_t *sequence, uint32_t index);
uint32_t node_count(const yaml_node_t *sequence);
struct scalar node_scalar(const yaml_node_t *node); /* of a scalar node */
/* "a text", "a list": for complaints. */
const char *node_noun(const yaml_node_t *node);
/* Appends it as MessagePack. */
void node_write(struct node_reader *reader, yaml_node_t *node, struct text *out);
/* Appends it as JSON. */
void node_write_json(struct node_reader *reader, yaml_node_t *node, struct text *out);

#endif
