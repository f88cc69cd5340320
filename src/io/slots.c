/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots: the pool: its regions, the free slots of each size, and those that came back from peers.
 *
 * One lock guards the lists and the counts; making a region and bringing pages in happen outside of
 * it, with the bytes reserved before.  A free list is last-in first-out: the slot given back last
 * is the one that the caches still hold.  Its region stays in use by that, and those behind it come
 * to rest and are given back.
 *
 * A region is retired when a peer that had one of its slots went away without giving it back: the
 * peer's process may still be reading.  None of its slots is given out again, so nobody ever sees
 * a slot change while he looks; the region goes when its last slot is back.
 *
 * The pool's struct outlives slot_pool_free until the last slot is back, because user code may hold
 * one for longer than the loop lives.
 */
#include "slots.h"

#include <errno.h>
#include <pthread.h>

#include "ensure.h"
#include "mem.h"
#include "poison.h"

enum { LARGE_STEPS = 8, LARGE_STEP_LEAST = 256 * 1024 };

struct slot_pool {
    struct slot_pool_config config;
    atomic_size_t bytes, used_bytes;
    atomic_uint returned_count;             /* on `returned` */
    atomic_bool pressed;                    /* somebody was refused: unused regions are to go now */
    pthread_mutex_t lock;                   /* guards all below */
    struct list regions;                    /* of our own */
    struct list free[SLOT_CLASS_COUNT + 1]; /* of slots, newest first; the last: of large ones */
    struct list returned;                   /* borrowed slots that nobody holds */
    uint32_t region_count;                  /* those being made included */
    uint32_t out_count;                     /* slots that somebody holds, borrowed ones included */
    uint32_t next_id;
    bool closed;
};

static void lock(struct slot_pool *pool)
{
    ensure(pthread_mutex_lock(&pool->lock) == 0);
}

static void unlock(struct slot_pool *pool)
{
    ensure(pthread_mutex_unlock(&pool->lock) == 0);
}

/* Under the lock, so that slot_pool_free ends it for good. */
static void wake(struct slot_pool *pool)
{
    if (!pool->closed && pool->config.wake)
        pool->config.wake(pool->config.owner);
}

/* ---- sizes ---- */

static uint32_t class_of(size_t size)
{
    uint32_t class = 0;
    for (size_t most = SLOT_LEAST; most < size && class < SLOT_CLASS_COUNT; most *= 2)
        class ++;
    return class;
}

/* An eighth more at most, so that the next body of about this size fits; 0: no such size. */
static size_t large_size(size_t size)
{
    size_t step = LARGE_STEP_LEAST;
    if (size > SIZE_MAX / 4)
        return 0;
    while (step * LARGE_STEPS * 2 <= size)
        step *= 2;
    return (size + step - 1) / step * step;
}

/* ---- regions of our own ---- */

static void region_lift(struct slot_region *region)
{
    poison_lift(region->memory.at, region->memory.size);
}

/* Nobody knows of it any more, and none of its slots is out. */
static void own_region_free(struct slot_region *region)
{
    ensure_tag(M1, region->used_count == 0 && list_empty(&region->told));
    atomic_fetch_sub_explicit(&region->pool->bytes, region->memory.size, memory_order_relaxed);
    region_lift(region);
    region_close(&region->memory);
    mem_free(region->slots);
    mem_free(region);
}

/* Off every list of the pool, which is locked. */
static void own_region_leave(struct slot_region *region)
{
    for (uint32_t i = 0; i < region->slot_count; i++)
        list_remove(&region->slots[i].link);
    list_remove(&region->link);
    region->pool->region_count--;
}

/* Bytes and a place for a region, before it is made; the lock is held. */
static bool reserve(struct slot_pool *pool, size_t size)
{
    size_t bytes = atomic_load_explicit(&pool->bytes, memory_order_relaxed);
    if (pool->closed || pool->region_count >= pool->config.region_limit ||
        size > pool->config.byte_limit || bytes > pool->config.byte_limit - size) {
        atomic_store(&pool->pressed, size <= pool->config.byte_limit); /* else nothing helps */
        wake(pool);
        return false;
    }
    pool->region_count++;
    atomic_fetch_add_explicit(&pool->bytes, size, memory_order_relaxed);
    return true;
}

static void unreserve(struct slot_pool *pool, size_t size)
{
    lock(pool);
    pool->region_count--;
    atomic_fetch_sub_explicit(&pool->bytes, size, memory_order_relaxed);
    atomic_store(&pool->pressed, true); /* the machine lacks something: what is unused goes */
    wake(pool);
    unlock(pool);
}

static struct slot_region *own_region_new(struct slot_pool *pool, size_t size, uint32_t slot_count)
{
    struct slot_region *region = mem_try(sizeof *region);
    struct slot *slots = mem_try(slot_count * sizeof *slots);
    if (!region || !slots || region_create(&region->memory, size) < 0) {
        mem_free(region);
        mem_free(slots);
        return NULL;
    }
    region->pool = pool;
    list_init(&region->told);
    region->slots = slots;
    region->slot_count = slot_count;
    for (uint32_t i = 0; i < slot_count; i++) {
        slots[i].region = region;
        slots[i].size = size / slot_count;
        slots[i].at = region->memory.at + i * slots[i].size;
    }
    poison_lay(region->memory.at, size);
    return region;
}

/* ---- taking ---- */

/* The free slot given back last; of large ones the tightest that is not much too large. */
static struct slot *find_free(struct slot_pool *pool, uint32_t class, size_t size)
{
    struct list_link *link;
    struct slot *best = NULL;
    if (class < SLOT_CLASS_COUNT) {
        link = list_first(&pool->free[class]);
        return link ? list_entry(link, struct slot, link) : NULL;
    }
    list_each (link, &pool->free[class]) {
        struct slot *slot = list_entry(link, struct slot, link);
        if (slot->size >= size && slot->size / 2 <= size && (!best || slot->size < best->size))
            best = slot;
    }
    return best;
}

/* It is the caller's from here on; the lock is held. */
static void take_out(struct slot_pool *pool, struct slot *slot)
{
    list_remove(&slot->link);
    slot->region->used_count++;
    slot->region->idle_ns = 0;
    pool->out_count++;
    ensure(atomic_load_explicit(&slot->references, memory_order_relaxed) == 0);
    atomic_store_explicit(&slot->references, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->used_bytes, slot->size, memory_order_relaxed);
}

static struct slot *take_new(struct slot_pool *pool, uint32_t class, size_t size)
{
    bool shared = class < SLOT_CLASS_COUNT;
    size_t region_size = shared ? SLOT_REGION_SIZE : large_size(size);
    uint32_t count = shared ? SLOT_REGION_SIZE / ((uint32_t)SLOT_LEAST << class) : 1;
    lock(pool);
    bool reserved = region_size > 0 && reserve(pool, region_size);
    unlock(pool);
    if (!reserved)
        return NULL;
    struct slot_region *region = own_region_new(pool, region_size, count);
    if (!region) {
        unreserve(pool, region_size);
        return NULL;
    }
    lock(pool);
    region->id = pool->next_id++;
    list_push_back(&pool->regions, &region->link);
    for (uint32_t i = count; i-- > 0;)
        list_push_front(&pool->free[class], &region->slots[i].link);
    take_out(pool, &region->slots[0]);
    wake(pool); /* whoever trims knows of a first region */
    unlock(pool);
    return &region->slots[0];
}

/* Of a large slot only the beginning: who writes the rest pays as he goes, and no loop stands still
 * for a body that is still on its way. */
static bool fill(struct slot *slot, size_t size)
{
    size_t wanted = size < SLOT_FILL_MOST ? size : SLOT_FILL_MOST;
    if (slot->filled >= wanted)
        return true;
    size_t offset = (size_t)(slot->at - slot->region->memory.at) + slot->filled;
    if (region_fill(&slot->region->memory, offset, wanted - slot->filled) < 0)
        return false;
    slot->filled = wanted;
    return true;
}

struct slot *slot_take(struct slot_pool *pool, size_t size)
{
    if (size == 0 || size > pool->config.byte_limit)
        return NULL;
    uint32_t class = class_of(size);
    lock(pool);
    struct slot *slot = pool->closed ? NULL : find_free(pool, class, size);
    if (slot)
        take_out(pool, slot);
    unlock(pool);
    if (!slot)
        slot = take_new(pool, class, size);
    if (!slot)
        return NULL;
    poison_lift(slot->at, slot->size);
    return fill(slot, size) ? slot : slot_unref(slot);
}

/* ---- giving back ---- */

struct slot *slot_ref(struct slot *slot)
{
    unsigned before = atomic_fetch_add_explicit(&slot->references, 1, memory_order_relaxed);
    ensure(before > 0 && before < UINT32_MAX);
    return slot;
}

/* The pool is closed: what nobody holds any more goes at once.  The lock is held. */
static void forget_at_once(struct slot *slot)
{
    struct slot_region *region = slot->region;
    if (region->borrowed) {
        mem_free(slot);
        slot_region_unref(region);
    } else if (region->used_count == 0) {
        own_region_leave(region);
        own_region_free(region);
    }
}

static void give_own(struct slot_pool *pool, struct slot *slot)
{
    struct slot_region *region = slot->region;
    ensure(region->used_count > 0);
    region->used_count--;
    atomic_fetch_sub_explicit(&pool->used_bytes, slot->size, memory_order_relaxed);
    /* Of a peer that was lost nobody knows whether it still reads, perhaps in this very process. */
    if (region->retired || pool->closed)
        return;
    poison_lay(slot->at, slot->size);
    list_push_front(&pool->free[class_of(slot->size)], &slot->link);
}

struct slot *slot_unref(struct slot *slot)
{
    if (!slot)
        return NULL;
    unsigned before = atomic_fetch_sub_explicit(&slot->references, 1, memory_order_acq_rel);
    ensure(before > 0);
    if (before > 1)
        return NULL;
    struct slot_pool *pool = slot->region->pool;
    lock(pool);
    ensure(pool->out_count > 0);
    pool->out_count--;
    if (!slot->region->borrowed)
        give_own(pool, slot);
    else if (!pool->closed) {
        list_push_back(&pool->returned, &slot->link);
        atomic_fetch_add_explicit(&pool->returned_count, 1, memory_order_release);
        if (pool->returned.length == 1)
            wake(pool);
    }
    bool last = pool->closed && pool->out_count == 0;
    if (pool->closed)
        forget_at_once(slot);
    unlock(pool);
    if (last) {
        pthread_mutex_destroy(&pool->lock);
        mem_free(pool);
    }
    return NULL;
}

void slot_abandon(struct slot *slot)
{
    struct slot_pool *pool = slot->region->pool;
    if (slot->region->borrowed) {
        atomic_store_explicit(&slot->abandoned, true, memory_order_relaxed);
        return;
    }
    lock(pool);
    if (!slot->region->retired) {
        slot->region->retired = true;
        for (uint32_t i = 0; i < slot->region->slot_count; i++)
            list_remove(&slot->region->slots[i].link);
    }
    unlock(pool);
}

/* ---- regions of peers ---- */

struct slot_region *slot_region_borrow(struct slot_pool *pool, int descriptor, size_t size,
                                       int *ret_code)
{
    struct slot_region *region = mem_try(sizeof *region);
    struct region memory;
    *ret_code = region_map(&memory, descriptor, size);
    if (*ret_code < 0) {
        mem_free(region);
        return NULL;
    }
    if (!region) {
        region_close(&memory);
        *ret_code = -ENOMEM;
        return NULL;
    }
    region->memory = memory;
    region->pool = pool;
    region->borrowed = true;
    region->references = 1;
    list_init(&region->told);
    lock(pool);
    region->id = pool->next_id++;
    unlock(pool);
    return region;
}

struct slot_region *slot_region_unref(struct slot_region *region)
{
    ensure(region->borrowed && region->references > 0);
    if (--region->references > 0)
        return NULL;
    ensure_tag(M1, list_empty(&region->told));
    region_close(&region->memory);
    return mem_free(region);
}

struct slot *slot_borrow(struct slot_region *region, uint64_t offset, uint64_t size, uint32_t loan,
                         void *origin)
{
    ensure(region->borrowed && offset <= region->memory.size &&
           size <= region->memory.size - offset);
    struct slot *slot = mem_try(sizeof *slot);
    if (!slot)
        return NULL;
    slot->region = region;
    region->references++;
    slot->at = region->memory.at + offset;
    slot->size = (size_t)size;
    slot->loan = loan;
    slot->origin = origin;
    atomic_store_explicit(&slot->references, 1, memory_order_relaxed);
    lock(region->pool);
    region->pool->out_count++;
    unlock(region->pool);
    return slot;
}

struct slot *slot_pool_returned(struct slot_pool *pool)
{
    if (atomic_load_explicit(&pool->returned_count, memory_order_acquire) == 0)
        return NULL; /* whoever brings one now wakes the loop for it */
    lock(pool);
    struct list_link *link = list_pop_front(&pool->returned);
    if (link)
        atomic_fetch_sub_explicit(&pool->returned_count, 1, memory_order_relaxed);
    unlock(pool);
    return link ? list_entry(link, struct slot, link) : NULL;
}

void slot_forget(struct slot *slot)
{
    struct slot_region *region = slot->region;
    ensure(region->borrowed && !list_linked(&slot->link) && !list_linked(&slot->origin_link));
    mem_free(slot);
    slot_region_unref(region);
}

/* ---- the pool ---- */

struct slot_pool *slot_pool_new(const struct slot_pool_config *config)
{
    struct slot_pool *pool = mem_try(sizeof *pool);
    if (!pool)
        return NULL;
    pool->config = *config;
    pool->next_id = 1;
    ensure(pthread_mutex_init(&pool->lock, NULL) == 0);
    list_init(&pool->regions);
    list_init(&pool->returned);
    for (uint32_t i = 0; i <= SLOT_CLASS_COUNT; i++)
        list_init(&pool->free[i]);
    return pool;
}

struct slot_pool *slot_pool_free(struct slot_pool *pool)
{
    struct list_link *link, *after;
    struct slot *slot;
    if (!pool)
        return NULL;
    while ((slot = slot_pool_returned(pool)) != NULL)
        slot_forget(slot);
    lock(pool);
    pool->closed = true;
    list_each_safe (link, after, &pool->regions) {
        struct slot_region *region = list_entry(link, struct slot_region, link);
        if (region->used_count > 0)
            continue;
        own_region_leave(region);
        own_region_free(region);
    }
    bool last = pool->out_count == 0;
    ensure_tag(M1, !last || atomic_load(&pool->bytes) == 0);
    unlock(pool);
    if (last) {
        pthread_mutex_destroy(&pool->lock);
        mem_free(pool);
    }
    return NULL;
}

size_t slot_pool_bytes(const struct slot_pool *pool)
{
    return atomic_load_explicit(&pool->bytes, memory_order_relaxed);
}

size_t slot_pool_used_bytes(const struct slot_pool *pool)
{
    return atomic_load_explicit(&pool->used_bytes, memory_order_relaxed);
}

bool slot_pool_pressed(const struct slot_pool *pool)
{
    return atomic_load_explicit(&pool->pressed, memory_order_relaxed);
}

bool slot_pool_trim(struct slot_pool *pool, int64_t now_ns, int64_t idle_ns,
                    void (*gone)(void *owner, struct slot_region *region), void *owner)
{
    struct list leaving;
    struct list_link *link, *after;
    list_init(&leaving);
    lock(pool);
    bool pressed = atomic_exchange(&pool->pressed, false);
    list_each_safe (link, after, &pool->regions) {
        struct slot_region *region = list_entry(link, struct slot_region, link);
        if (region->used_count > 0)
            continue;
        if (!region->idle_ns)
            region->idle_ns = now_ns;
        if (!pressed && !region->retired && now_ns - region->idle_ns < idle_ns)
            continue;
        own_region_leave(region);
        list_push_back(&leaving, &region->link);
    }
    bool more = !list_empty(&pool->regions);
    unlock(pool);
    while ((link = list_pop_front(&leaving)) != NULL) {
        struct slot_region *region = list_entry(link, struct slot_region, link);
        gone(owner, region);
        own_region_free(region);
    }
    return more;
}

void slot_pool_check(struct slot_pool *pool)
{
    struct list_link *link;
    size_t bytes = 0, used = 0;
    lock(pool);
    list_each (link, &pool->regions) {
        const struct slot_region *region = list_entry(link, struct slot_region, link);
        uint32_t out = 0, free = 0;
        for (uint32_t i = 0; i < region->slot_count; i++) {
            bool held = atomic_load(&((struct slot *)&region->slots[i])->references) > 0;
            out += held;
            free += list_linked(&region->slots[i].link);
            used += held ? region->slots[i].size : 0;
            ensure(!held || !list_linked(&region->slots[i].link));
        }
        ensure_tag(M1, out == region->used_count);
        ensure(free == (region->retired ? 0 : region->slot_count - out));
        bytes += region->memory.size;
    }
    ensure_tag(M1, used == slot_pool_used_bytes(pool));
    ensure_tag(M1, bytes == slot_pool_bytes(pool));
    ensure(pool->regions.length <= pool->region_count);
    unlock(pool);
}
