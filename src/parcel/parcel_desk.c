/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel_desk: what the links of one process share.
 *
 * Borrowed slots come back on any thread; the pool wakes the loop, and the desk's turn hands each
 * to the link it came from, which tells its owner.  Regions that nobody used for a while go in a
 * timer that is set only while there are any, so that an idle process sleeps.
 */
#include "parcel.h"

#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "parcel_inner.h"

static const int64_t NS_PER_MS = 1000000;

static void desk_wake(void *owner)
{
    struct parcel_desk *desk = owner;
    loop_wake(desk->channels->loop);
}

static void on_gone(void *owner, struct slot_region *region)
{
    (void)owner;
    parcel_region_gone(region);
}

/* Half of what a region may be idle, so that it is given back between that and half as much more.
 */
static void trim(struct parcel_desk *desk)
{
    int64_t now_ns = loop_now_ns(desk->channels->loop);
    int64_t idle_ns = desk->settings->payload_idle_ms * NS_PER_MS;
    bool more = slot_pool_trim(desk->pool, now_ns, idle_ns, on_gone, desk);
    loop_timer_set(&desk->timer, more ? now_ns + idle_ns / 2 + 1 : 0);
    metric_set(payload_bytes, slot_pool_bytes(desk->pool));
}

static void timer_fired(void *owner)
{
    trim(owner);
}

void parcel_desk_settle(struct parcel_desk *desk)
{
    struct list_link *link;
    struct slot *slot;
    while ((slot = slot_pool_returned(desk->pool)) != NULL)
        parcel_forget(slot);
    for (size_t left = desk->owing.length; left > 0; left--) {
        link = list_first(&desk->owing);
        if (link)
            parcel_link_room(list_entry(link, struct parcel_link, owing));
    }
}

static void desk_turn(void *owner)
{
    struct parcel_desk *desk = owner;
    parcel_desk_settle(desk);
    if (slot_pool_pressed(desk->pool) ||
        (slot_pool_bytes(desk->pool) > 0 && desk->timer.due_ns == 0))
        trim(desk);
}

struct parcel_desk *parcel_desk_ref(struct channel_set *channels, const struct settings *settings)
{
    if (channels->parcels) {
        channels->parcels->references++;
        return channels->parcels;
    }
    struct parcel_desk *desk = mem_try(sizeof *desk);
    if (!desk)
        return NULL;
    desk->channels = channels;
    desk->settings = settings;
    desk->references = 1;
    list_init(&desk->links);
    list_init(&desk->owing);
    struct slot_pool_config config = {
        .byte_limit = (size_t)settings->payload_byte_limit,
        .region_limit = (uint32_t)settings->payload_region_limit,
        .wake = desk_wake,
        .owner = desk,
    };
    desk->pool = slot_pool_new(&config);
    if (!desk->pool)
        return mem_free(desk);
    desk->turn = (struct loop_turn){.turn = desk_turn, .owner = desk};
    loop_turn_add(channels->loop, &desk->turn);
    loop_timer_init(channels->loop, &desk->timer, timer_fired, desk);
    channels->parcels = desk;
    return desk;
}

struct parcel_desk *parcel_desk_unref(struct parcel_desk *desk)
{
    if (!desk)
        return NULL;
    ensure(desk->references > 0);
    if (--desk->references > 0)
        return NULL;
    ensure(list_empty(&desk->links) && list_empty(&desk->owing));
    loop_turn_remove(&desk->turn);
    loop_timer_clear(&desk->timer);
    desk->pool = slot_pool_free(desk->pool);
    desk->channels->parcels = NULL;
    return mem_free(desk);
}

struct slot_pool *parcel_desk_slots(struct parcel_desk *desk)
{
    return desk->pool;
}

bool parcel_desk_wants(const struct parcel_desk *desk, uint64_t size)
{
    return size >= SLOT_LEAST && size <= (uint64_t)desk->settings->payload_byte_limit;
}

bool parcel_desk_has_budget(const struct parcel_desk *desk, uint64_t size)
{
    uint64_t budget = (uint64_t)desk->settings->process_byte_budget;
    uint64_t held =
        buffer_store_live_bytes(desk->channels->buffers) + slot_pool_used_bytes(desk->pool);
    return size <= budget && held <= budget - size;
}

void parcel_desk_check(struct parcel_desk *desk)
{
    struct list_link *link;
    slot_pool_check(desk->pool);
    list_each (link, &desk->links)
        parcel_link_check(list_entry(link, struct parcel_link, link));
}
