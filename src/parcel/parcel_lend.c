/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel_lend: the lender's half of a link.
 *
 *     region:  not told --offer--> OFFERED --region_taken--> KNOWN, or REFUSED      any --> gone
 *
 * Nothing points into a region before the peer has said that it is mapped: a peer without
 * descriptors or memory says so, and bodies go through the socket instead of being lost.  A slot
 * that is lent is counted against what the peer may hold; a peer that gives nothing back gets its
 * bodies through the socket, too.
 *
 * A loan is a number in the link's table.  Numbers are reused, the one given back last first.
 */
#include "ensure.h"
#include "error.h"
#include "mem.h"
#include "metrics.h"
#include "parcel_inner.h"
#include "socket.h"

enum { LOANS_FIRST = 16 };
#define NO_LOAN UINT32_MAX

/* ---- regions ---- */

static void told_remove(struct parcel_told *told)
{
    struct parcel_link *link = told->link;
    map_remove(&link->told, told->id);
    ensure(link->told_bytes >= told->size);
    link->told_bytes -= told->size;
    if (told->state == TOLD_OFFERED)
        link->offered_count--;
    list_remove(&told->region_link);
}

static bool put_region(struct parcel_link *link, const struct slot_region *region)
{
    uint8_t at[PARCEL_CONTROL_SIZE];
    struct wire_region frame = {.region = region->id, .size = region->memory.size};
    ensure(wire_region_size(&frame) <= sizeof at);
    if (!channel_has_descriptor_room(link->channel))
        return false;
    int descriptor = region_duplicate(&region->memory);
    if (descriptor < 0)
        return false;
    size_t size = wire_region_write(&frame, WIRE_DESCRIPTOR, 0, false, at);
    uint8_t *room = channel_put_room_always(link->channel, size);
    if (!room) {
        socket_close(descriptor);
        return false;
    }
    channel_put_descriptor(link->channel, descriptor);
    memcpy(room, at, size);
    channel_put_done(link->channel, size);
    return true;
}

/* Null: it cannot be offered now. */
static struct parcel_told *offer(struct parcel_link *link, struct slot_region *region)
{
    uint64_t size = region->memory.size;
    if (map_count(&link->told) >= link->region_limit || size > link->region_bytes ||
        link->told_bytes > link->region_bytes - size)
        return NULL;
    struct parcel_told *told = mem_try(sizeof *told);
    if (!told || map_try_put(&link->told, region->id, told) < 0)
        return mem_free(told);
    if (!put_region(link, region)) {
        map_remove(&link->told, region->id);
        return mem_free(told);
    }
    *told = (struct parcel_told){.link = link, .size = size, .id = region->id};
    link->told_bytes += size;
    link->offered_count++;
    list_push_back(&region->told, &told->region_link);
    return told;
}

int parcel_take_region_taken(struct parcel_link *link, struct bytes payload)
{
    struct wire_region_taken frame;
    if (wire_region_taken_read(&frame, payload) < 0 || frame.code > 0)
        return parcel_breach(link, "a broken region_taken");
    struct parcel_told *told = map_get(&link->told, frame.region);
    if (!told)
        return 0; /* it went meanwhile */
    if (told->state != TOLD_OFFERED)
        return parcel_breach(link, "an answer for a region that was not offered");
    told->state = frame.code == 0 ? TOLD_KNOWN : TOLD_REFUSED;
    link->offered_count--;
    return 0;
}

bool parcel_put_gone(struct parcel_link *link)
{
    struct list_link *place;
    while ((place = list_first(&link->gone)) != NULL) {
        struct parcel_told *told = list_entry(place, struct parcel_told, gone_link);
        struct wire_region_gone frame = {.region = told->id};
        uint8_t at[PARCEL_CONTROL_SIZE];
        ensure(wire_region_gone_size(&frame) <= sizeof at);
        if (!parcel_put(link, at, wire_region_gone_write(&frame, 0, 0, false, at)))
            return false;
        list_remove(place);
        mem_free(told);
    }
    return true;
}

void parcel_region_gone(struct slot_region *region)
{
    struct list_link *place;
    while ((place = list_first(&region->told)) != NULL) {
        struct parcel_told *told = list_entry(place, struct parcel_told, region_link);
        struct parcel_link *link = told->link;
        told_remove(told);
        list_push_back(&link->gone, &told->gone_link);
        parcel_link_room(link);
    }
}

/* ---- loans ---- */

static bool grow_loans(struct parcel_link *link)
{
    uint32_t old = link->loan_capacity, capacity = old ? 2 * old : LOANS_FIRST;
    struct parcel_loan *loans =
        mem_try_resize(link->loans, old * sizeof *loans, capacity * sizeof *loans);
    if (!loans)
        return false;
    for (uint32_t i = capacity; i-- > old;) {
        loans[i].next_free = link->loan_free;
        link->loan_free = i;
    }
    link->loans = loans;
    link->loan_capacity = capacity;
    return true;
}

static bool has_loans(struct parcel_link *link, uint32_t count)
{
    if (link->loan_count + count > PARCEL_LOAN_LIMIT)
        return false;
    while (link->loan_capacity - link->loan_count < count)
        if (!grow_loans(link))
            return false;
    return true;
}

static uint32_t lend(struct parcel_link *link, const struct parcel_piece *piece)
{
    uint32_t number = link->loan_free;
    ensure(number < link->loan_capacity && !link->loans[number].slot);
    struct parcel_loan *loan = &link->loans[number];
    link->loan_free = loan->next_free;
    link->loan_count++;
    link->lent_bytes += piece->bytes.size;
    *loan = (struct parcel_loan){.slot = slot_ref(piece->slot), .size = piece->bytes.size};
    return number;
}

static void end_loan(struct parcel_link *link, uint32_t number, bool abandoned)
{
    struct parcel_loan *loan = &link->loans[number];
    struct slot *slot = loan->slot;
    ensure(slot && link->loan_count > 0 && link->lent_bytes >= loan->size);
    link->lent_bytes -= loan->size;
    link->loan_count--;
    *loan = (struct parcel_loan){.next_free = link->loan_free};
    link->loan_free = number;
    if (abandoned)
        slot_abandon(slot);
    slot_unref(slot);
}

int parcel_take_release(struct parcel_link *link, struct bytes payload)
{
    struct wire_slot_release frame;
    if (wire_slot_release_read(&frame, payload) < 0 || frame.loan >= link->loan_capacity ||
        !link->loans[frame.loan].slot)
        return parcel_breach(link, "a release of what was not lent");
    end_loan(link, frame.loan, frame.abandoned != 0);
    return 0;
}

void parcel_lend_close(struct parcel_link *link)
{
    struct map_entry *entry;
    struct list_link *place;
    for (uint32_t i = 0; i < link->loan_capacity; i++)
        if (link->loans[i].slot)
            end_loan(link, i, true); /* the peer's process may still be reading */
    link->loans = mem_free(link->loans);
    link->loan_capacity = 0;
    map_each (entry, &link->told) {
        struct parcel_told *told = entry->value;
        told_remove(told);
        mem_free(told);
    }
    map_done(&link->told);
    while ((place = list_pop_front(&link->gone)) != NULL)
        mem_free(list_entry(place, struct parcel_told, gone_link));
}

/* ---- sending ---- */

/* The state of the regions that the parcel lies in: what may be done with it now. */
static enum parcel_way ask_regions(struct parcel_link *link, const struct parcel *parcel)
{
    enum parcel_way way = PARCEL_LENT;
    for (uint16_t i = 0; i < parcel->count; i++) {
        if (!parcel->pieces[i].slot)
            continue;
        struct slot_region *region = parcel->pieces[i].slot->region;
        struct parcel_told *told = map_get(&link->told, region->id);
        if (!told)
            told = offer(link, region);
        /* Without room for another descriptor: those on their way will be answered. */
        if (!told && (link->offered_count == 0 || channel_has_descriptor_room(link->channel)))
            return PARCEL_INLINE;
        if (told && told->state == TOLD_REFUSED)
            return PARCEL_INLINE;
        if (!told || told->state == TOLD_OFFERED)
            way = PARCEL_LATER;
    }
    return way;
}

static bool within_limits(struct parcel_link *link, const struct parcel *parcel,
                          uint32_t *ret_count)
{
    uint64_t limit = (uint64_t)link->desk->settings->payload_peer_limit, size = link->lent_bytes;
    *ret_count = 0;
    for (uint16_t i = 0; i < parcel->count; i++) {
        if (!parcel->pieces[i].slot)
            continue;
        size += parcel->pieces[i].bytes.size;
        *ret_count += 1;
    }
    return *ret_count > 0 && size <= limit;
}

/* The table as if everything in a slot were lent already; false: too much else for a frame. */
static bool lay_out(const struct parcel *parcel, struct parcel_form *form)
{
    parcel_inline(parcel, form);
    for (uint16_t i = 0; i < parcel->count; i++) {
        const struct parcel_piece *piece = &parcel->pieces[i];
        if (piece->slot)
            form->table.at[i] = (struct wire_attachment){
                .region = piece->slot->region->id,
                .offset = (uint64_t)(piece->bytes.at - piece->slot->region->memory.at),
                .size = piece->bytes.size};
    }
    form->attached = form->lent = true;
    form->size = wire_attach_layout(&form->table);
    return form->size <= PARCEL_LENT_MOST;
}

enum parcel_way parcel_lend(struct parcel_link *link, const struct parcel *parcel,
                            struct parcel_form *ret_form)
{
    enum parcel_way way = PARCEL_INLINE;
    uint32_t count;
    if (link->region_limit > 0 && within_limits(link, parcel, &count) &&
        lay_out(parcel, ret_form) && has_loans(link, count))
        way = ask_regions(link, parcel);
    if (way != PARCEL_LENT) {
        parcel_inline(parcel, ret_form);
        if (way == PARCEL_INLINE && parcel->size >= SLOT_LEAST)
            metric_add(payload_copied_total, 1);
        return way;
    }
    for (uint16_t i = 0; i < parcel->count; i++)
        if (parcel->pieces[i].slot)
            ret_form->table.at[i].loan = lend(link, &parcel->pieces[i]);
    metric_add(payload_lent_total, 1);
    return PARCEL_LENT;
}

void parcel_unlend(struct parcel_link *link, const struct parcel_form *form)
{
    ensure(form->lent);
    for (uint16_t i = 0; i < form->table.count; i++)
        if (!wire_attach_is_inline(&form->table.at[i]))
            end_loan(link, form->table.at[i].loan, false);
}

size_t parcel_cost(size_t frame_size, uint64_t size, size_t window)
{
    size_t most = size < window / 2 ? (size_t)size : window / 2;
    return frame_size > most ? frame_size : most;
}
