/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel_link: a link's life, and the borrower's half of it.
 *
 * Everything that the peer says is judged before it is used: a region is mapped only when its memfd
 * cannot shrink and has the size that was said; an attachment lies in a region that is mapped, and
 * whole in it (parcel_open).  What breaks this is a breach: link->reason, and the owner ends the
 * channel.
 *
 * Not to be able is no breach: without a descriptor, memory or room within our limits the region is
 * answered with an error, and nothing is lost.
 */
#include "parcel.h"

#include <errno.h>

#include "ensure.h"
#include "error.h"
#include "parcel_inner.h"
#include "socket.h"

int parcel_breach(struct parcel_link *link, const char *reason)
{
    link->reason = reason;
    return -1;
}

/* ---- telling ---- */

bool parcel_put(struct parcel_link *link, const uint8_t *frame, size_t size)
{
    uint8_t *at = channel_put_room_always(link->channel, size);
    if (!at)
        return false;
    memcpy(at, frame, size);
    channel_put_done(link->channel, size);
    return true;
}

bool parcel_put_release(struct parcel_link *link, uint32_t loan, bool abandoned)
{
    struct wire_slot_release frame = {.loan = loan, .abandoned = abandoned};
    uint8_t at[PARCEL_CONTROL_SIZE];
    ensure(wire_slot_release_size(&frame) <= sizeof at);
    return parcel_put(link, at, wire_slot_release_write(&frame, 0, 0, false, at));
}

/* Nobody here holds it and nobody is to be told: with the last slot goes the region. */
static void drop_slot(struct slot *slot)
{
    if (slot->region->references == 1)
        parcel_region_gone(slot->region);
    slot_forget(slot);
}

static bool put_releases(struct parcel_link *link)
{
    struct list_link *place;
    while ((place = list_first(&link->returned)) != NULL) {
        struct slot *slot = list_entry(place, struct slot, origin_link);
        bool abandoned = atomic_load_explicit(&slot->abandoned, memory_order_relaxed);
        if (!parcel_put_release(link, slot->loan, abandoned))
            return false;
        list_remove(place);
        drop_slot(slot);
    }
    return true;
}

/* What finds no room waits at the end of the line. */
void parcel_link_room(struct parcel_link *link)
{
    list_remove(&link->owing);
    if (!put_releases(link) || !parcel_put_gone(link))
        list_push_back(&link->desk->owing, &link->owing);
}

void parcel_forget(struct slot *slot)
{
    struct parcel_link *link = slot->origin;
    if (!link) {
        drop_slot(slot);
        return;
    }
    list_remove(&slot->origin_link);
    list_push_back(&link->returned, &slot->origin_link);
    if (!list_linked(&link->owing))
        list_push_back(&link->desk->owing, &link->owing);
}

/* ---- hearing ---- */

/* A code of the house for what region_map says when it is not the peer's fault; 0: it is. */
static int map_error(int code)
{
    if (code == -EPERM || code == -EMSGSIZE)
        return 0;
    return code == -ENOMEM ? ERROR_MEMORY : ERROR_LIMIT;
}

static int map_region(struct parcel_link *link, const struct wire_region *frame, int descriptor)
{
    const struct settings *settings = link->desk->settings;
    uint64_t limit = (uint64_t)settings->payload_map_limit;
    int code;
    if (map_count(&link->regions) >= (size_t)settings->payload_region_limit ||
        frame->size > limit || link->mapped_bytes > limit - frame->size) {
        socket_close(descriptor);
        return ERROR_LIMIT;
    }
    struct slot_region *region =
        slot_region_borrow(link->desk->pool, descriptor, (size_t)frame->size, &code);
    if (!region)
        return map_error(code);
    if (map_try_put(&link->regions, frame->region, region) < 0) {
        slot_region_unref(region);
        return ERROR_MEMORY;
    }
    link->mapped_bytes += frame->size;
    return 1;
}

static int take_region(struct parcel_link *link, const struct wire_header *header,
                       struct bytes payload)
{
    struct wire_region frame;
    uint8_t at[PARCEL_CONTROL_SIZE];
    if (wire_region_read(&frame, payload) < 0 || !(header->flags & WIRE_DESCRIPTOR) ||
        frame.size == 0 || frame.region == WIRE_ATTACH_INLINE)
        return parcel_breach(link, "a broken region frame");
    /* None: our own table of descriptors is full. */
    int descriptor = channel_take_descriptor(link->channel), code = ERROR_LIMIT;
    if (map_get(&link->regions, frame.region)) {
        socket_close(descriptor);
        return parcel_breach(link, "a region that is known already");
    }
    if (descriptor >= 0)
        code = map_region(link, &frame, descriptor);
    if (code == 0)
        return parcel_breach(link,
                             "a region that could shrink, or is not of the size that was said");
    struct wire_region_taken answer = {.region = frame.region, .code = code < 0 ? code : 0};
    ensure(wire_region_taken_size(&answer) <= sizeof at);
    if (!parcel_put(link, at, wire_region_taken_write(&answer, 0, 0, false, at)))
        return parcel_breach(link, "the peer does not read what it is told");
    return 0;
}

static void drop_region(struct parcel_link *link, struct slot_region *region)
{
    ensure(link->mapped_bytes >= region->memory.size);
    link->mapped_bytes -= region->memory.size;
    if (region->references == 1)
        parcel_region_gone(region);
    slot_region_unref(region);
}

static int take_region_gone(struct parcel_link *link, struct bytes payload)
{
    struct wire_region_gone frame;
    if (wire_region_gone_read(&frame, payload) < 0)
        return parcel_breach(link, "a broken region_gone frame");
    struct slot_region *region = map_get(&link->regions, frame.region);
    if (!region)
        return 0; /* we did not take it */
    if (region->references > 1)
        return parcel_breach(link, "a region went while something in it was lent");
    map_remove(&link->regions, frame.region);
    drop_region(link, region);
    return 0;
}

bool parcel_is_frame(uint8_t type)
{
    return type == WIRE_REGION_FRAME || type == WIRE_REGION_TAKEN_FRAME ||
           type == WIRE_REGION_GONE_FRAME || type == WIRE_SLOT_RELEASE_FRAME;
}

int parcel_link_frame(struct parcel_link *link, const struct wire_header *header,
                      struct bytes payload, bool *ret_progress)
{
    *ret_progress = false;
    switch (header->type) {
    case WIRE_REGION_FRAME:
        return take_region(link, header, payload);
    case WIRE_REGION_TAKEN_FRAME:
        *ret_progress = true;
        return parcel_take_region_taken(link, payload);
    case WIRE_REGION_GONE_FRAME:
        return take_region_gone(link, payload);
    case WIRE_SLOT_RELEASE_FRAME:
        return parcel_take_release(link, payload);
    default:
        ensure(!"a frame that no link knows");
        return -1;
    }
}

/* ---- life ---- */

void parcel_link_open(struct parcel_link *link, struct parcel_desk *desk, struct channel *channel)
{
    *link = (struct parcel_link){.desk = desk, .channel = channel, .loan_free = UINT32_MAX};
    map_init(&link->told, 2 * (size_t)UINT16_MAX);
    map_init(&link->regions, 2 * (size_t)UINT16_MAX);
    list_init(&link->gone);
    list_init(&link->borrowed);
    list_init(&link->returned);
    list_push_back(&desk->links, &link->link);
}

void parcel_link_greet(const struct parcel_link *link, struct wire_hello *hello)
{
    const struct settings *settings = link->desk->settings;
    hello->region_limit = (uint32_t)settings->payload_region_limit;
    hello->region_bytes = (uint64_t)settings->payload_map_limit;
}

void parcel_link_meet(struct parcel_link *link, const struct wire_hello *hello)
{
    uint32_t limit = (uint32_t)link->desk->settings->payload_region_limit;
    link->region_limit = hello->region_limit < limit ? hello->region_limit : limit;
    link->region_bytes = hello->region_bytes;
}

void parcel_link_close(struct parcel_link *link)
{
    struct list_link *place;
    struct map_entry *entry;
    if (!parcel_link_is_open(link))
        return;
    parcel_lend_close(link);
    while ((place = list_pop_front(&link->returned)) != NULL)
        drop_slot(list_entry(place, struct slot, origin_link));
    while ((place = list_pop_front(&link->borrowed)) != NULL)
        list_entry(place, struct slot, origin_link)->origin = NULL;
    map_each (entry, &link->regions) {
        struct slot_region *region = entry->value;
        map_remove(&link->regions, entry->number);
        drop_region(link, region);
    }
    map_done(&link->regions);
    list_remove(&link->owing);
    list_remove(&link->link);
    link->desk = NULL;
}

void parcel_link_check(const struct parcel_link *link)
{
    struct map_entry *entry;
    uint64_t told = 0, mapped = 0, lent = 0;
    uint32_t offered = 0, loans = 0;
    map_each (entry, &link->told) {
        const struct parcel_told *one = entry->value;
        told += one->size;
        offered += one->state == TOLD_OFFERED;
        ensure(list_linked(&one->region_link) && one->id == entry->number);
    }
    map_each (entry, &link->regions)
        mapped += ((const struct slot_region *)entry->value)->memory.size;
    for (uint32_t i = 0; i < link->loan_capacity; i++) {
        loans += link->loans[i].slot != NULL;
        lent += link->loans[i].slot ? link->loans[i].size : 0;
    }
    ensure(told == link->told_bytes && offered == link->offered_count);
    ensure_tag(M1, mapped == link->mapped_bytes);
    ensure_tag(M1, loans == link->loan_count && lent == link->lent_bytes);
}
