/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args: argument lists as documents.
 *
 * A call's body, and a replica's constructor arguments, are one MessagePack array; a bound
 * deployment in it is the extension VALUE_EXTENSION_HANDLE holding the array [app, deployment].
 */
#ifndef MANTA_API_ARGS_H
#define MANTA_API_ARGS_H

#include <stddef.h>

#include <manta/request.h>
#include <manta/value.h>

#include "bytes.h"
#include "error.h"
#include "keep.h"
#include "runtime.h"
#include "text.h"

struct manta_args {
    struct bytes document;   /* a checked array; empty: no arguments */
    struct runtime *runtime; /* for handles and for its helm, which guards `keep` */
    struct keep *keep;       /* for zero-terminated strings */
};

/* Appends one arg as a value; ERROR_INVALID for a bound deployment (see bind.c) or a bad type. */
int args_write_one(struct text *out, const struct manta_arg *arg, struct error *reterr);
/* Appends the array of `count` args. */
int args_write(struct text *out, const struct manta_arg *args, size_t count, struct error *reterr);

#endif
