/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: the inside of a manta_pack.
 */
#ifndef MANTA_API_PACK_H
#define MANTA_API_PACK_H

#include "error.h"
#include "text.h"

struct manta_buffer;

enum { PACK_LIMIT = 1 << 30 }; /* bytes of one value, packed or as JSON */

struct manta_pack {
    struct text document;       /* MessagePack so far */
    struct error error;         /* the first failure; sticks until clear */
    struct manta_buffer **held; /* buffers that the document refers to, a reference each */
    size_t held_count, held_room;
};

#endif
