/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_scalar: a YAML scalar as a value, by the rules of YAML 1.1 that PyYAML's safe_load follows.
 *
 * Not followed, because no field of the file has such values: dates and sexagesimal numbers stay
 * texts.
 */
#ifndef MANTA_PROTO_DEPLOY_SCALAR_H
#define MANTA_PROTO_DEPLOY_SCALAR_H

#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"

enum scalar_kind {
    SCALAR_NULL,
    SCALAR_BOOL,
    SCALAR_INT,
    SCALAR_FLOAT,
    SCALAR_TEXT,
    SCALAR_TOO_LARGE /* a whole number past 64 bits */
};

struct scalar {
    enum scalar_kind kind;
    bool boolean;
    int64_t integer;
    double number;
    struct bytes text; /* as written */
};

/* `quoted`: it stood in quotes, or in a block: always a text. */
struct scalar scalar_read(struct bytes text, bool quoted);

#endif
