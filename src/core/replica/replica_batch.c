/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_batch: which requests go to user code together, and when.
 *
 * A batch is due when its group holds batch_size requests, when batch_wait has passed since the
 * first of them came, or at once when there is no wait or the replica drains.  At most
 * batch_concurrency batches are in user code.  Within a group the order is the order of arrival;
 * between groups, the one whose first request came first goes first (B1).
 */
#include <string.h>

#include "bytes.h"
#include "mem.h"
#include "replica_inner.h"

enum { MODEL_ID_LEAST = 64 }; /* bytes, so that a group fits nearly every model when used anew */

static const uint64_t SPREAD = 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio */

static struct list *bucket_of(struct replica *replica, uint64_t hash)
{
    return &replica->buckets[(hash * SPREAD) >> 58 & (REPLICA_BUCKET_COUNT - 1)];
}

struct replica_request *replica_group_first(const struct replica_group *group)
{
    ensure(group->requests.length > 0);
    return list_entry(group->requests.head.next, struct replica_request, link);
}

static void group_free(struct replica *replica, struct replica_group *group)
{
    ensure(replica->group_count > 0 && list_empty(&group->requests));
    list_remove(&group->link);
    mem_free(group->model_id);
    mem_free(group);
    replica->group_count--;
}

/* An empty group that is on no list; null when memory lacks. */
static struct replica_group *group_new(struct replica *replica)
{
    struct list_link *link = list_pop_front(&replica->spare);
    if (link)
        return list_entry(link, struct replica_group, link);
    if (heap_reserve(&replica->groups, replica->group_count + 1) != 0 ||
        heap_reserve(&replica->full, replica->group_count + 1) != 0)
        return NULL;
    struct replica_group *group = mem_try(sizeof(*group));
    if (!group)
        return NULL;
    list_init(&group->requests);
    replica->group_count++;
    return group;
}

static int name_group(struct replica_group *group, uint64_t method_hash, struct bytes model_id,
                      uint64_t hash)
{
    if (model_id.size > group->model_id_capacity) {
        size_t capacity = model_id.size > MODEL_ID_LEAST ? model_id.size : MODEL_ID_LEAST;
        uint8_t *copy = mem_try_resize(group->model_id, group->model_id_capacity, capacity);
        if (!copy)
            return -1;
        group->model_id = copy;
        group->model_id_capacity = capacity;
    }
    if (model_id.size)
        memcpy(group->model_id, model_id.at, model_id.size);
    group->model_id_size = model_id.size;
    group->method_hash = method_hash;
    group->hash = hash;
    return 0;
}

struct replica_group *replica_group_for(struct replica *replica, uint64_t method_hash,
                                        struct bytes model_id)
{
    uint64_t hash = bytes_hash(model_id) ^ method_hash * SPREAD;
    struct list *bucket = bucket_of(replica, hash);
    struct list_link *link;
    list_each (link, bucket) {
        struct replica_group *group = list_entry(link, struct replica_group, link);
        if (group->hash == hash && group->method_hash == method_hash &&
            bytes_equal(bytes_of(group->model_id, group->model_id_size), model_id))
            return group;
    }
    struct replica_group *group = group_new(replica);
    if (!group)
        return NULL;
    if (name_group(group, method_hash, model_id, hash) != 0) {
        list_push_front(&replica->spare, &group->link);
        return NULL;
    }
    list_push_back(bucket, &group->link);
    return group;
}

/* Where the group stands in the heaps follows from its first request and its length. */
static void sort_group(struct replica *replica, struct replica_group *group)
{
    heap_remove(&replica->groups, &group->by_arrival);
    heap_remove(&replica->full, &group->by_fullness);
    if (list_empty(&group->requests))
        return;
    struct replica_request *first = replica_group_first(group);
    heap_put(&replica->groups, &group->by_arrival, first->came_ns, first->arrival);
    if (group->requests.length >= replica->batch_size)
        heap_put(&replica->full, &group->by_fullness, (int64_t)first->arrival, 0);
}

void replica_group_add(struct replica *replica, struct replica_group *group,
                       struct replica_request *request)
{
    list_push_back(&group->requests, &request->link);
    request->group = group;
    replica->ready_batched++;
    if (group->requests.length == 1 || group->requests.length == replica->batch_size)
        sort_group(replica, group);
}

/* An empty group waits for the next name. */
static void spare_group(struct replica *replica, struct replica_group *group)
{
    ensure(list_empty(&group->requests) && !heap_linked(&group->by_arrival) &&
           !heap_linked(&group->by_fullness));
    list_remove(&group->link);
    list_push_front(&replica->spare, &group->link);
    if (replica->spare.length > REPLICA_SPARE_LIMIT)
        group_free(replica, list_entry(list_last(&replica->spare), struct replica_group, link));
}

void replica_group_remove(struct replica *replica, struct replica_request *request)
{
    struct replica_group *group = request->group;
    bool first = replica_group_first(group) == request;
    ensure(request->link.list == &group->requests && replica->ready_batched > 0);
    list_remove(&request->link);
    request->group = NULL;
    replica->ready_batched--;
    if (first || group->requests.length + 1 == replica->batch_size)
        sort_group(replica, group);
    if (list_empty(&group->requests))
        spare_group(replica, group);
}

struct replica_group *replica_group_due(const struct replica *replica, int64_t now_ns)
{
    if (replica->batches_out >= replica->batch_concurrency || replica->groups.count == 0)
        return NULL;
    struct replica_group *oldest =
        heap_entry(heap_first(&replica->groups), struct replica_group, by_arrival);
    if (replica->draining ||
        replica_group_first(oldest)->came_ns + replica->batch_wait_ns <= now_ns)
        return oldest;
    if (replica->full.count == 0)
        return NULL;
    return heap_entry(heap_first(&replica->full), struct replica_group, by_fullness);
}

int64_t replica_group_due_ns(const struct replica *replica)
{
    if (replica->batches_out >= replica->batch_concurrency || replica->groups.count == 0 ||
        replica->draining)
        return INT64_MAX;
    /* The first that is not due already: usually the first of all. */
    int64_t due = INT64_MAX;
    for (uint32_t i = 0; i < replica->groups.count; i++) {
        int64_t at = replica->groups.at[i]->key + replica->batch_wait_ns;
        if (at > replica->seen_ns && at < due)
            due = at;
        if (i == 0 && due != INT64_MAX)
            return due;
    }
    return due;
}

void replica_groups_sort(struct replica *replica)
{
    for (int bucket = 0; bucket < REPLICA_BUCKET_COUNT; bucket++) {
        struct list_link *link;
        list_each (link, &replica->buckets[bucket])
            sort_group(replica, list_entry(link, struct replica_group, link));
    }
}

void replica_groups_done(struct replica *replica)
{
    for (int bucket = 0; bucket < REPLICA_BUCKET_COUNT; bucket++) {
        struct list_link *link;
        while ((link = list_first(&replica->buckets[bucket])) != NULL) {
            struct replica_group *group = list_entry(link, struct replica_group, link);
            while (list_pop_front(&group->requests))
                ;
            group_free(replica, group);
        }
    }
    struct list_link *link;
    while ((link = list_first(&replica->spare)) != NULL)
        group_free(replica, list_entry(link, struct replica_group, link));
    heap_done(&replica->groups);
    heap_done(&replica->full);
}
