/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: from a key to a pointer, iterated in the order of insertion.
 *
 * Two faces over one table: 64-bit keys (ids) and byte keys (names; the map keeps a copy).
 * Iteration order never depends on a hash or an address (determinism).  Bounded by a limit given at
 * init.
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
    struct list_link link;   /* on the map's order list */
    struct map_entry *chain; /* same bucket */
    uint64_t number;         /* the key of a number map, else the hash of the name */
    struct bytes name;       /* the key of a name map, zero-terminated copy */
    void *value;
};

struct map {
    struct map_entry **buckets;
    size_t bucket_count;
    size_t limit;
    struct list order; /* of map_entry, oldest first; order.length is the count */
};

#define map_each(entry, map)                                                                       \
    MAP_EACH_(entry, map, MAP_JOIN_(map_link_, __LINE__), MAP_JOIN_(map_next_, __LINE__))
/* The line makes the loop's own names unique, so that one map_each may stand inside another. */
#define MAP_JOIN_(word, line) MAP_JOIN_NOW_(word, line)
#define MAP_JOIN_NOW_(word, line) word##line
#define MAP_EACH_(entry, map, at, after)                                                           \
    for (struct list_link *at = (map)->order.head.next, *after = at->next;                         \
         at != &(map)->order.head && ((entry) = list_entry(at, struct map_entry, link));           \
         at = after, after = at->next)

void map_init(struct map *map, size_t limit);
void map_done(struct map *map); /* the values are the caller's */
static inline size_t map_count(const struct map *map)
{
    return map->order.length;
}

void *map_get(const struct map *map, uint64_t number); /* null when absent */
/* Adds, or replaces the value in its old place; -1: limit or memory.  The value is not null. */
int map_try_put(struct map *map, uint64_t number, void *value);
void *map_remove(struct map *map, uint64_t number); /* the value, or null */

void *map_get_name(const struct map *map, struct bytes name);
int map_try_put_name(struct map *map, struct bytes name, void *value);
void *map_remove_name(struct map *map, struct bytes name);

#endif
