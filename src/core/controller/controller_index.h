/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_index: objects by id, in the order of their ids.
 *
 * One sorted row of (id, pointer).  Ids are given out counting up, so that an insertion is nearly
 * always an append; finding is a binary search, the n-th object is one look, and walking is in id
 * order without a hash.  A removal moves what lies behind it: 16 bytes an object, and rare.  Owns
 * nothing that it points to.
 */
#ifndef MANTA_CORE_CONTROLLER_INDEX_H
#define MANTA_CORE_CONTROLLER_INDEX_H

#include <stdint.h>

struct controller_index_row {
    uint64_t id;  /* never 0 */
    void *object; /* never null */
};
struct controller_index {
    struct controller_index_row *at;
    uint32_t count, capacity;
};

void controller_index_done(struct controller_index *index);
/* Null when absent. */
void *controller_index_find(const struct controller_index *index, uint64_t id);
/* The id must be absent (insert), present (remove). */
void controller_index_insert(struct controller_index *index, uint64_t id, void *object);
void controller_index_remove(struct controller_index *index, uint64_t id);

#endif
