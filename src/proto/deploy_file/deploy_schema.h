/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_schema: what may stand where in the file: one table per kind of map.
 *
 * For the files of this folder only.
 */
#ifndef MANTA_PROTO_DEPLOY_SCHEMA_H
#define MANTA_PROTO_DEPLOY_SCHEMA_H

#include "deploy_node.h"

/* Checks the whole document; what is wrong is complained about. */
void schema_check(struct node_reader *reader, yaml_node_t *root);
/* A deployment of a shared object has less to say than one of Python. */
void schema_check_library(struct node_reader *reader, const struct node_pairs *app);
/* Whether an import path names a shared object: "path/lib.so:application". */
bool schema_is_library(struct bytes import_path);

#endif
