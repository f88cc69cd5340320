/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_check: every invariant of the replica mind, and how it looks.
 */
#include "pool.h"
#include "replica_inner.h"

static void check_group(const struct replica *replica, const struct replica_group *group)
{
    const struct list_link *link;
    uint64_t before = 0;
    ensure(!list_empty(&group->requests) && heap_linked(&group->by_arrival));
    ensure(heap_linked(&group->by_fullness) == (group->requests.length >= replica->batch_size));
    list_each (link, &group->requests) {
        const struct replica_request *request = list_entry(link, struct replica_request, link);
        ensure_tag(B1, request->group == group && request->arrival > before);
        ensure(request->state == REPLICA_REQUEST_READY);
        before = request->arrival;
    }
    const struct replica_request *first = replica_group_first(group);
    ensure_tag(B1, group->by_arrival.key == first->came_ns &&
                       group->by_arrival.order == first->arrival);
}

static void check_list(const struct list *list, enum replica_request_state state)
{
    const struct list_link *link;
    list_each (link, list) {
        const struct replica_request *request = list_entry(link, struct replica_request, link);
        ensure_tag(R1, request->state == state && !request->group);
        ensure(state == REPLICA_REQUEST_READY || state == REPLICA_REQUEST_HELD ||
               !heap_linked(&request->due));
        ensure(!request->cancelled || state == REPLICA_REQUEST_TAKEN);
    }
}

static uint64_t count_requests(const struct replica *replica)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < replica->chunk_capacity * REPLICA_CHUNK_COUNT; i++) {
        const struct replica_request *request = replica_slot(replica, i);
        if (!request || request->state == REPLICA_REQUEST_NONE)
            continue;
        ensure_tag(R1, list_linked(&request->link) && pool_id_index(request->id.v) == i);
        count++;
    }
    return count;
}

void replica_check(const struct replica *replica)
{
    uint64_t grouped = 0, groups = 0;
    for (int bucket = 0; bucket < REPLICA_BUCKET_COUNT; bucket++) {
        const struct list_link *link;
        list_each (link, &replica->buckets[bucket]) {
            const struct replica_group *group = list_entry(link, struct replica_group, link);
            check_group(replica, group);
            grouped += group->requests.length;
            groups++;
        }
    }
    check_list(&replica->held, REPLICA_REQUEST_HELD);
    check_list(&replica->ready, REPLICA_REQUEST_READY);
    check_list(&replica->expired, REPLICA_REQUEST_EXPIRED);
    check_list(&replica->taken, REPLICA_REQUEST_TAKEN);
    ensure(grouped == replica->ready_batched && groups == replica->groups.count);
    ensure(groups + replica->spare.length == replica->group_count &&
           replica->spare.length <= REPLICA_SPARE_LIMIT);
    ensure_tag(R1, replica->held.length + replica->ready.length + grouped +
                           replica->expired.length + replica->taken.length ==
                       replica->ongoing);
    ensure_tag(R1, count_requests(replica) == replica->ongoing);
    ensure_tag(R2,
               replica->ongoing <= replica->max_ongoing || replica->ongoing <= replica->overhang);
    ensure(replica->deadlines.count <= replica->held.length + replica->ready.length + grouped);
    heap_check(&replica->deadlines);
    heap_check(&replica->groups);
    heap_check(&replica->full);
    if (replica->ongoing == 0) /* at rest nothing is left over */
        ensure_tag(M1, replica->groups.count == 0 && replica->full.count == 0 &&
                           replica->deadlines.count == 0);
}

void replica_dump(const struct replica *replica, struct text *out)
{
    text_print(
        out, "%u of %u ongoing: %zu ready alone, %u ready in %u groups, %zu taken, %zu expired%s\n",
        replica->ongoing, replica->max_ongoing, replica->ready.length, replica->ready_batched,
        replica->groups.count, replica->taken.length, replica->expired.length,
        replica->draining ? "; draining" : "");
    text_print(out, "%u of %u batches out\n", replica->batches_out, replica->batch_concurrency);
}
