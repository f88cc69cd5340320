/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: from a key to a pointer, iterated in the order of insertion.
 *
 * Two faces over one table: 64-bit keys (ids) and byte keys (names; the map keeps a copy).  Iteration
 * order never depends on a hash or an address (determinism).  Bounded by a limit given at init.
 *
 *     struct map_entry *entry;
 *     map_each (entry, &map) { entry->number, entry->name, entry->value }
 *
 * The current entry may be removed inside map_each; no other may.  A map is of one face for life.
 */
#ifndef MANTA_BASE_MAP_H
#define MANTA_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "list.h"

struct map_entry {
    struct list_link  link;   /* on the map's order list */
    struct map_entry *chain;  /* same bucket */
    uint64_t          number; /* the key of a number map, else the hash of the name */
    struct bytes      name;   /* the key of a name map, zero-terminated copy */
    void             *value;
};

struct map {
    struct map_entry **buckets;
    size_t             bucket_count;
    size_t             limit;
    struct list        order;  /* of map_entry, oldest first; order.length is the count */
};

#define map_each(entry, map)                                                                          \
    for (struct list_link *map_link_ = (map)->order.head.next, *map_next_ = map_link_->next;          \
         map_link_ != &(map)->order.head && ((entry) = list_entry(map_link_, struct map_entry, link)); \
         map_link_ = map_next_, map_next_ = map_link_->next)

void map_init(struct map *map, size_t limit);
void map_done(struct map *map); /* the values are the caller's */
static inline size_t map_count(const struct map *map)
{
    return map->order.length;
}

void *map_get(const struct map *map, uint64_t number);                      /* null when absent */
/* Adds, or replaces the value in its old place; -1: limit or memory.  The value is not null. */
int   map_try_put(struct map *map, uint64_t number, void *value);
void *map_remove(struct map *map, uint64_t number);                         /* the value, or null */

void *map_get_name(const struct map *map, struct bytes name);
int   map_try_put_name(struct map *map, struct bytes name, void *value);
void *map_remove_name(struct map *map, struct bytes name);

#endif
