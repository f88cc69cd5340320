/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica: admission, the ready queue, expiry, cancelling and draining.
 *
 * Requests lie in a table by the index of their id, in chunks that are made when first used and
 * kept: after warm-up nothing here allocates.  What batches are is in replica_batch.c.
 */
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "pool.h"
#include "replica_inner.h"

struct replica_name replica_request_name(struct request_id id)
{
    struct replica_name name;
    unsigned index = pool_id_index(id.v), generation = pool_id_generation(id.v);
    if (generation <= 1)
        snprintf(name.text, sizeof(name.text), "q%u", index);
    else
        snprintf(name.text, sizeof(name.text), "q%u.%u", index, generation);
    return name;
}

static bool config_sound(const struct replica_config *config)
{
    return config->max_ongoing >= 1 && config->batch_size >= 1 && config->batch_concurrency >= 1 &&
           config->batch_wait_ns >= 0;
}

static void configure(struct replica *replica, const struct replica_config *config)
{
    replica->max_ongoing = config->max_ongoing;
    replica->batch_size = config->batch_size;
    replica->batch_wait_ns = config->batch_wait_ns;
    replica->batch_concurrency = config->batch_concurrency;
    replica->trace = config->trace && config->trace->line ? config->trace : NULL;
    replica->overhang = replica->ongoing > replica->max_ongoing ? replica->ongoing : 0;
}

struct replica *replica_new(const struct replica_config *config)
{
    ensure(config_sound(config));
    struct replica *replica = mem_try(sizeof(*replica));
    if (!replica)
        return NULL;
    configure(replica, config);
    list_init(&replica->held);
    list_init(&replica->ready);
    list_init(&replica->expired);
    list_init(&replica->taken);
    list_init(&replica->spare);
    for (int bucket = 0; bucket < REPLICA_BUCKET_COUNT; bucket++)
        list_init(&replica->buckets[bucket]);
    return replica;
}

struct replica *replica_free(struct replica *replica)
{
    if (!replica)
        return NULL;
    replica_groups_done(replica);
    heap_done(&replica->deadlines);
    for (uint32_t i = 0; i < replica->chunk_capacity; i++)
        mem_free(replica->chunks[i]);
    mem_free(replica->chunks);
    return mem_free(replica);
}

static void see(struct replica *replica, int64_t now_ns)
{
    if (now_ns > replica->seen_ns)
        replica->seen_ns = now_ns;
}

int replica_reconfigure(struct replica *replica, int64_t now_ns,
                        const struct replica_config *config)
{
    see(replica, now_ns);
    if (!config_sound(config))
        return ERROR_INVALID;
    configure(replica, config);
    replica_groups_sort(replica);
    if (replica->trace)
        trace_print(replica->trace, "limits: %u ongoing, batches of %u, %u at once",
                    replica->max_ongoing, replica->batch_size, replica->batch_concurrency);
    return 0;
}

/* ---- the table of requests ---- */

struct replica_request *replica_slot(const struct replica *replica, uint32_t index)
{
    uint32_t chunk = index / REPLICA_CHUNK_COUNT;
    if (chunk >= replica->chunk_capacity || !replica->chunks[chunk])
        return NULL;
    return &replica->chunks[chunk][index % REPLICA_CHUNK_COUNT];
}

static struct replica_request *find(const struct replica *replica, struct request_id id)
{
    struct replica_request *request = replica_slot(replica, pool_id_index(id.v));
    return request && request->state != REPLICA_REQUEST_NONE && request_id_equal(request->id, id)
               ? request
               : NULL;
}

/* Memory for the slot of `index`, and in `deadlines` for every slot; false when it lacks. */
static bool grow(struct replica *replica, uint32_t index)
{
    uint32_t chunk = index / REPLICA_CHUNK_COUNT;
    if (chunk >= replica->chunk_capacity) {
        uint64_t capacity = replica->chunk_capacity ? replica->chunk_capacity : 4;
        while (capacity <= chunk)
            capacity *= 2;
        struct replica_request **chunks = mem_try_resize(
            replica->chunks, replica->chunk_capacity * sizeof(*chunks), capacity * sizeof(*chunks));
        if (!chunks)
            return false;
        replica->chunks = chunks;
        replica->chunk_capacity = (uint32_t)capacity;
    }
    if (heap_reserve(&replica->deadlines, (replica->chunk_count + 1) * REPLICA_CHUNK_COUNT) != 0)
        return false;
    replica->chunks[chunk] = mem_try(REPLICA_CHUNK_COUNT * sizeof(struct replica_request));
    if (!replica->chunks[chunk])
        return false;
    replica->chunk_count++;
    return true;
}

/* A HELD or READY request that leaves its queue, for whatever comes next. */
static void leave_queue(struct replica *replica, struct replica_request *request)
{
    ensure(request->state == REPLICA_REQUEST_READY || request->state == REPLICA_REQUEST_HELD);
    if (request->group)
        replica_group_remove(replica, request);
    else
        list_remove(&request->link);
    heap_remove(&replica->deadlines, &request->due);
    ensure(!list_linked(&request->link));
}

static void forget(struct replica *replica, struct replica_request *request)
{
    if (request->state == REPLICA_REQUEST_READY || request->state == REPLICA_REQUEST_HELD)
        leave_queue(replica, request);
    list_remove(&request->link);
    request->state = REPLICA_REQUEST_NONE;
    request->id = (struct request_id){0};
    request->cancelled = false;
    ensure(replica->ongoing > 0);
    replica->ongoing--;
    if (replica->overhang > replica->ongoing)
        replica->overhang = replica->ongoing;
}

/* ---- admission ---- */

static enum replica_verdict reject(const struct replica *replica, struct request_id id,
                                   const char *why, enum replica_verdict verdict)
{
    if (replica->trace)
        trace_print(replica->trace, "reject %s %s (%u of %u)", replica_request_name(id).text, why,
                    replica->ongoing, replica->max_ongoing);
    return verdict;
}

enum replica_verdict replica_admit(struct replica *replica, int64_t now_ns,
                                   const struct replica_admit *admit)
{
    ensure(!request_id_none(admit->request));
    see(replica, now_ns);
    if (replica->draining)
        return reject(replica, admit->request, "draining", REPLICA_REJECTED_DRAINING);
    if (replica->ongoing >= replica->max_ongoing)
        return reject(replica, admit->request, "full", REPLICA_REJECTED_FULL);
    uint32_t index = pool_id_index(admit->request.v);
    struct replica_group *group = NULL;
    if (!replica_slot(replica, index) && !grow(replica, index))
        return reject(replica, admit->request, "without memory", REPLICA_REJECTED_FULL);
    if (admit->batched && !admit->held &&
        !(group = replica_group_for(replica, admit->method_hash, admit->model_id)))
        return reject(replica, admit->request, "without memory", REPLICA_REJECTED_FULL);
    struct replica_request *request = replica_slot(replica, index);
    ensure(request->state == REPLICA_REQUEST_NONE && !list_linked(&request->link) &&
           !heap_linked(&request->due));
    request->id = admit->request;
    request->state = admit->held ? REPLICA_REQUEST_HELD : REPLICA_REQUEST_READY;
    request->batched = admit->batched;
    request->method_hash = admit->method_hash;
    request->arrival = ++replica->arrival;
    request->came_ns = now_ns;
    replica->ongoing++;
    if (admit->held)
        list_push_back(&replica->held, &request->link);
    else if (group)
        replica_group_add(replica, group, request);
    else
        list_push_back(&replica->ready, &request->link);
    if (admit->deadline_ns)
        heap_put(&replica->deadlines, &request->due, admit->deadline_ns, request->arrival);
    ensure_tag(R2, replica->ongoing <= replica->max_ongoing);
    if (replica->trace)
        trace_print(replica->trace, "accept %s (%u of %u)", replica_request_name(request->id).text,
                    replica->ongoing, replica->max_ongoing);
    return REPLICA_ACCEPTED;
}

/* When memory lacks for a group the request goes to user code alone. */
void replica_release(struct replica *replica, int64_t now_ns, struct request_id id,
                     struct bytes model_id)
{
    see(replica, now_ns);
    struct replica_request *request = find(replica, id);
    if (!request || request->state != REPLICA_REQUEST_HELD)
        return;
    struct replica_group *group =
        request->batched ? replica_group_for(replica, request->method_hash, model_id) : NULL;
    list_remove(&request->link);
    request->state = REPLICA_REQUEST_READY;
    request->arrival = ++replica->arrival;
    request->came_ns = now_ns;
    if (group)
        replica_group_add(replica, group, request);
    else
        list_push_back(&replica->ready, &request->link);
    if (replica->trace)
        trace_print(replica->trace, "release %s", replica_request_name(id).text);
}

/* ---- user code takes ---- */

static void expire(struct replica *replica, int64_t now_ns)
{
    struct heap_link *first;
    while ((first = heap_first(&replica->deadlines)) != NULL && first->key <= now_ns) {
        struct replica_request *request = heap_entry(first, struct replica_request, due);
        leave_queue(replica, request);
        request->state = REPLICA_REQUEST_EXPIRED;
        list_push_back(&replica->expired, &request->link);
    }
}

static struct request_id give(struct replica *replica, struct replica_request *request)
{
    leave_queue(replica, request);
    request->state = REPLICA_REQUEST_TAKEN;
    list_push_back(&replica->taken, &request->link);
    return request->id;
}

/* One line, cut when the batch is long. */
static void narrate_batch(const struct replica *replica, const struct request_id *requests,
                          uint32_t count)
{
    char names[200] = "";
    size_t size = 0;
    if (!replica->trace)
        return;
    for (uint32_t i = 0; i < count && size < sizeof(names) - 1; i++)
        size += (size_t)snprintf(names + size, sizeof(names) - size, " %s",
                                 replica_request_name(requests[i]).text);
    trace_print(replica->trace, "take batch of %u:%s", count, names);
}

static uint32_t take_batch(struct replica *replica, struct replica_group *group,
                           struct request_id *ret_requests, uint32_t room)
{
    uint32_t count = room < replica->batch_size ? room : replica->batch_size;
    if (count > group->requests.length)
        count = (uint32_t)group->requests.length;
    for (uint32_t i = 0; i < count; i++)
        ret_requests[i] =
            give(replica,
                 replica_group_first(group)); /* the last may send the group to the spare ones */
    replica->batches_out++;
    ensure_tag(B1, count >= 1 && count <= replica->batch_size &&
                       replica->batches_out <= replica->batch_concurrency);
    narrate_batch(replica, ret_requests, count);
    return count;
}

uint32_t replica_take(struct replica *replica, int64_t now_ns, struct request_id *ret_requests,
                      uint32_t room, bool *ret_batched)
{
    see(replica, now_ns);
    expire(replica, now_ns);
    if (room == 0)
        return 0;
    struct list_link *link = list_first(&replica->ready);
    struct replica_request *alone = link ? list_entry(link, struct replica_request, link) : NULL;
    struct replica_group *group = replica_group_due(replica, now_ns);
    if (!alone && !group)
        return 0;
    *ret_batched = !alone || (group && replica_group_first(group)->arrival < alone->arrival);
    if (*ret_batched)
        return take_batch(replica, group, ret_requests, room);
    ret_requests[0] = give(replica, alone);
    if (replica->trace)
        trace_print(replica->trace, "take %s", replica_request_name(ret_requests[0]).text);
    return 1;
}

bool replica_expired(struct replica *replica, int64_t now_ns, struct request_id *ret_request)
{
    see(replica, now_ns);
    expire(replica, now_ns);
    struct list_link *link = list_pop_front(&replica->expired);
    if (!link)
        return false;
    struct replica_request *request = list_entry(link, struct replica_request, link);
    request->state = REPLICA_REQUEST_TAKEN;
    list_push_back(&replica->taken, link);
    *ret_request = request->id;
    if (replica->trace)
        trace_print(replica->trace, "expire %s", replica_request_name(request->id).text);
    return true;
}

bool replica_due(const struct replica *replica, int64_t now_ns)
{
    return !list_empty(&replica->ready) || replica_group_due(replica, now_ns) != NULL;
}

int64_t replica_deadline_ns(const struct replica *replica)
{
    int64_t due = replica_group_due_ns(replica);
    const struct heap_link *first = heap_first(&replica->deadlines);
    if (first && first->key < due)
        due = first->key;
    if (replica->draining && replica->drain_due_ns > replica->seen_ns &&
        replica->drain_due_ns < due)
        due = replica->drain_due_ns;
    if (!list_empty(&replica->expired))
        due = replica->seen_ns;
    if (due == INT64_MAX)
        return 0;
    return due > 0 ? due : 1;
}

/* ---- how requests end ---- */

void replica_answered(struct replica *replica, int64_t now_ns, struct request_id id)
{
    see(replica, now_ns);
    struct replica_request *request = find(replica, id);
    if (!request)
        return;
    forget(replica, request);
    if (replica->trace && replica->draining && replica->ongoing == 0)
        trace_print(replica->trace, "drained");
}

void replica_batch_done(struct replica *replica, int64_t now_ns)
{
    see(replica, now_ns);
    ensure_tag(B1, replica->batches_out > 0);
    replica->batches_out--;
}

enum replica_cancel replica_cancel(struct replica *replica, int64_t now_ns, struct request_id id)
{
    see(replica, now_ns);
    struct replica_request *request = find(replica, id);
    if (!request || request->cancelled)
        return REPLICA_CANCEL_UNKNOWN;
    if (request->state == REPLICA_REQUEST_TAKEN) {
        request->cancelled = true;
        if (replica->trace)
            trace_print(replica->trace, "note that %s is cancelled", replica_request_name(id).text);
        return REPLICA_CANCEL_NOTED;
    }
    if (replica->trace)
        trace_print(replica->trace, "drop %s", replica_request_name(id).text);
    forget(replica, request);
    return REPLICA_CANCEL_DROPPED;
}

void replica_drain(struct replica *replica, int64_t now_ns, int64_t due_ns)
{
    see(replica, now_ns);
    if (!replica->draining && replica->trace)
        trace_print(replica->trace, replica->ongoing ? "drain: %u to answer" : "drained",
                    replica->ongoing);
    replica->draining = true;
    replica->drain_due_ns = due_ns;
}

bool replica_draining(const struct replica *replica)
{
    return replica->draining;
}

bool replica_drained(const struct replica *replica, int64_t now_ns)
{
    return replica->draining && (replica->ongoing == 0 || now_ns >= replica->drain_due_ns);
}

uint32_t replica_ongoing(const struct replica *replica)
{
    return replica->ongoing;
}

uint32_t replica_ready(const struct replica *replica)
{
    return (uint32_t)replica->ready.length + replica->ready_batched;
}
