/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map: chained buckets, a power of two of them, under a list that keeps the order.
 *
 * The table doubles when it holds as many entries as buckets.  When there is no memory for that it
 * goes on with longer chains: only the first table and the entry itself can make a put fail.  An
 * entry of a name map is one allocation, the name behind the entry.
 */
#include "map.h"

#include <stdbool.h>

#include "ensure.h"
#include "mem.h"

enum { FIRST_BUCKETS = 8 };

void map_init(struct map *map, size_t limit)
{
    *map = (struct map){.limit = limit};
    list_init(&map->order);
}

void map_done(struct map *map)
{
    struct map_entry *entry;
    map_each (entry, map) {
        list_remove(&entry->link);
        mem_free(entry);
    }
    ensure(map_count(map) == 0);
    mem_free(map->buckets);
    map_init(map, map->limit);
}

/* Ids are counted up and have their sense in few bits: spread them over the word. */
static uint64_t spread(uint64_t number)
{
    number = (number ^ number >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    number = (number ^ number >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return number ^ number >> 32;
}

static struct map_entry **bucket_of(const struct map *map, uint64_t number)
{
    ensure(map->bucket_count && (map->bucket_count & (map->bucket_count - 1)) == 0);
    return &map->buckets[spread(number) & (map->bucket_count - 1)];
}

/* The place that points to the entry, or to the null at the end of its chain. */
static struct map_entry **place_of(const struct map *map, uint64_t number, const struct bytes *name)
{
    struct map_entry **place = bucket_of(map, number);
    for (; *place; place = &(*place)->chain) {
        struct map_entry *entry = *place;
        if (entry->number == number && (!name || bytes_equal(entry->name, *name)))
            break;
    }
    return place;
}

/* -1 only when there is no table at all. */
static int buckets_grow(struct map *map)
{
    size_t count = map->bucket_count ? map->bucket_count * 2 : FIRST_BUCKETS;
    if (map->bucket_count > map_count(map))
        return 0;
    struct map_entry **buckets = mem_try(count * sizeof(*buckets));
    if (!buckets)
        return map->buckets ? 0 : -1;
    mem_free(map->buckets);
    map->buckets = buckets;
    map->bucket_count = count;
    struct map_entry *entry;
    map_each (entry, map) {
        struct map_entry **bucket = bucket_of(map, entry->number);
        entry->chain = *bucket;
        *bucket = entry;
    }
    return 0;
}

static void *get(const struct map *map, uint64_t number, const struct bytes *name)
{
    if (map_count(map) == 0)
        return NULL;
    const struct map_entry *entry = *place_of(map, number, name);
    return entry ? entry->value : NULL;
}

static int try_put(struct map *map, uint64_t number, const struct bytes *name, void *value)
{
    ensure(value); /* a null could not be told from an absent entry */
    struct map_entry *old = map_count(map) ? *place_of(map, number, name) : NULL;
    if (old) {
        old->value = value;
        return 0;
    }
    if (map_count(map) >= map->limit || buckets_grow(map) != 0)
        return -1;
    struct map_entry *entry = mem_try(sizeof(*entry) + (name ? name->size + 1 : 0));
    if (!entry)
        return -1;
    entry->number = number;
    entry->value = value;
    if (name) {
        if (name->size)
            memcpy(entry + 1, name->at, name->size);
        entry->name = bytes_of(entry + 1, name->size);
    }
    struct map_entry **bucket = bucket_of(map, number);
    entry->chain = *bucket;
    *bucket = entry;
    list_push_back(&map->order, &entry->link);
    return 0;
}

static void *take_out(struct map *map, uint64_t number, const struct bytes *name)
{
    if (map_count(map) == 0)
        return NULL;
    struct map_entry **place = place_of(map, number, name);
    struct map_entry *entry = *place;
    if (!entry)
        return NULL;
    void *value = entry->value;
    *place = entry->chain;
    list_remove(&entry->link);
    mem_free(entry);
    return value;
}

void *map_get(const struct map *map, uint64_t number)
{
    return get(map, number, NULL);
}

int map_try_put(struct map *map, uint64_t number, void *value)
{
    return try_put(map, number, NULL, value);
}

void *map_remove(struct map *map, uint64_t number)
{
    return take_out(map, number, NULL);
}

void *map_get_name(const struct map *map, struct bytes name)
{
    return get(map, bytes_hash(name), &name);
}

int map_try_put_name(struct map *map, struct bytes name, void *value)
{
    return try_put(map, bytes_hash(name), &name, value);
}

void *map_remove_name(struct map *map, struct bytes name)
{
    return take_out(map, bytes_hash(name), &name);
}
