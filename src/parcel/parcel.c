/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel: a body made, written as bytes, and opened again.
 *
 * What a parcel holds for itself lies in one buffer, counted against the process's byte budget:
 * the value and the small pieces, which travel in the frame, and large plain ones for which there
 * was no slot.
 */
#include "parcel.h"

#include "ensure.h"
#include "error.h"
#include "mem.h"
#include "parcel_inner.h"

static struct parcel *parcel_try(uint32_t count)
{
    struct parcel *parcel = mem_try(sizeof *parcel + count * sizeof *parcel->pieces);
    if (!parcel)
        return NULL;
    atomic_store_explicit(&parcel->references, 1, memory_order_relaxed);
    parcel->count = (uint16_t)count;
    return parcel;
}

struct parcel *parcel_ref(struct parcel *parcel)
{
    unsigned before = atomic_fetch_add_explicit(&parcel->references, 1, memory_order_relaxed);
    ensure(before > 0 && before < UINT32_MAX);
    return parcel;
}

struct parcel *parcel_unref(struct parcel *parcel)
{
    if (!parcel)
        return NULL;
    unsigned before = atomic_fetch_sub_explicit(&parcel->references, 1, memory_order_acq_rel);
    ensure(before > 0);
    if (before > 1)
        return NULL;
    for (uint16_t i = 0; i < parcel->count; i++)
        slot_unref(parcel->pieces[i].slot);
    buffer_unref(parcel->buffer);
    return mem_free(parcel);
}

/* ---- making ---- */

struct parcel *parcel_of_slot(struct slot *slot, size_t size)
{
    ensure(size > 0 && size <= slot->size);
    struct parcel *parcel = parcel_try(1);
    if (!parcel) {
        slot_unref(slot);
        return NULL;
    }
    parcel->flat = true;
    parcel->value = bytes_of(slot->at, size);
    parcel->pieces[0] = (struct parcel_piece){.slot = slot, .bytes = parcel->value};
    parcel->size = size;
    return parcel;
}

struct parcel *parcel_of_bytes(struct parcel_desk *desk, struct bytes bytes)
{
    if (!parcel_desk_wants(desk, bytes.size) || !parcel_desk_has_budget(desk, bytes.size))
        return NULL;
    struct slot *slot = slot_take(desk->pool, bytes.size);
    if (!slot)
        return NULL;
    memcpy(slot->at, bytes.at, bytes.size);
    return parcel_of_slot(slot, bytes.size);
}

/* The piece with a hold of its own on its bytes when they lie in a slot, or can. */
static void take_piece(struct parcel_desk *desk, struct parcel_piece *piece, bool wanted)
{
    if (piece->slot) {
        ensure(piece->bytes.at >= piece->slot->at &&
               piece->bytes.at + piece->bytes.size <= piece->slot->at + piece->slot->size);
        slot_ref(piece->slot);
        return;
    }
    if (!wanted || piece->bytes.size == 0 || !parcel_desk_has_budget(desk, piece->bytes.size) ||
        !(piece->slot = slot_take(desk->pool, piece->bytes.size)))
        return;
    memcpy(piece->slot->at, piece->bytes.at, piece->bytes.size);
    piece->bytes.at = piece->slot->at;
}

/* Copies what lies in plain memory behind one another.  0, or why not. */
static int keep_plain(struct parcel_desk *desk, struct parcel *parcel)
{
    size_t size = parcel->flat ? 0 : parcel->value.size;
    for (uint16_t i = 0; i < parcel->count; i++)
        size += parcel->pieces[i].slot ? 0 : parcel->pieces[i].bytes.size;
    if (size == 0)
        return 0;
    if (!parcel_desk_has_budget(desk, size))
        return ERROR_LIMIT;
    parcel->buffer = buffer_try_new(desk->channels->buffers, size);
    if (!parcel->buffer)
        return ERROR_MEMORY;
    uint8_t *at = parcel->buffer->data;
    if (!parcel->flat && parcel->value.size > 0) {
        memcpy(at, parcel->value.at, parcel->value.size);
        parcel->value.at = at;
        at += parcel->value.size;
    }
    for (uint16_t i = 0; i < parcel->count; i++) {
        struct bytes *bytes = &parcel->pieces[i].bytes;
        if (parcel->pieces[i].slot || bytes->size == 0)
            continue;
        memcpy(at, bytes->at, bytes->size);
        bytes->at = at;
        at += bytes->size;
    }
    return 0;
}

/* Plain pieces that are too many for a frame go into slots, the largest need first: all that are
 * larger than what a frame holds, then as many as it takes. */
static void keep_in_slots(struct parcel_desk *desk, struct parcel *parcel)
{
    size_t plain = parcel->flat ? 0 : parcel->value.size;
    for (uint16_t i = 0; i < parcel->count; i++) {
        struct parcel_piece *piece = &parcel->pieces[i];
        bool wanted = piece->bytes.size >
                      PARCEL_PLAIN_MOST - (plain < PARCEL_PLAIN_MOST ? plain : PARCEL_PLAIN_MOST);
        take_piece(desk, piece, wanted);
        plain += piece->slot ? 0 : piece->bytes.size;
    }
}

struct parcel *parcel_new(struct parcel_desk *desk, struct bytes value,
                          const struct parcel_piece *pieces, uint32_t count, int *ret_code)
{
    bool flat = value.size > PARCEL_PLAIN_MOST; /* then it is a piece itself */
    *ret_code = ERROR_LIMIT;
    if (count + flat > WIRE_ATTACH_LIMIT || value.size > UINT32_MAX / 2)
        return NULL;
    *ret_code = ERROR_MEMORY;
    struct parcel *parcel = parcel_try(count + flat);
    if (!parcel)
        return NULL;
    if (flat)
        parcel->pieces[0].bytes = value;
    for (uint32_t i = 0; i < count; i++)
        parcel->pieces[flat + i] = pieces[i];
    parcel->flat = flat;
    parcel->value = value;
    parcel->size = flat ? 0 : value.size;
    for (uint16_t i = 0; i < parcel->count; i++)
        parcel->size += parcel->pieces[i].bytes.size;
    keep_in_slots(desk, parcel);
    *ret_code = keep_plain(desk, parcel);
    if (*ret_code < 0)
        return parcel_unref(parcel);
    if (flat)
        parcel->value = parcel->pieces[0].bytes;
    return parcel;
}

/* ---- as bytes ---- */

void parcel_inline(const struct parcel *parcel, struct parcel_form *ret_form)
{
    struct wire_attach *table = &ret_form->table;
    ret_form->lent = false;
    ret_form->attached = parcel->count > 0 && !(parcel->flat && parcel->count == 1);
    ret_form->size = parcel->size;
    table->count = parcel->count;
    table->flat = parcel->flat;
    table->value_size = parcel->flat ? 0 : (uint32_t)parcel->value.size;
    for (uint16_t i = 0; i < parcel->count; i++)
        table->at[i] = (struct wire_attachment){.region = WIRE_ATTACH_INLINE,
                                                .size = parcel->pieces[i].bytes.size};
    if (ret_form->attached)
        ret_form->size = wire_attach_layout(table);
}

/* The window of a form that is being copied. */
struct window {
    uint8_t *to;
    uint64_t from, end; /* of the form */
    uint64_t at;        /* copied so far */
};

/* What of the window lies before `start` is padding; then come these bytes. */
static void window_put(struct window *window, uint64_t start, struct bytes bytes)
{
    uint64_t end = start + bytes.size;
    if (window->at < start && window->at < window->end) {
        uint64_t zeros = (start < window->end ? start : window->end) - window->at;
        memset(window->to + (window->at - window->from), 0, (size_t)zeros);
        window->at += zeros;
    }
    if (window->at < start || window->at >= end || window->at >= window->end)
        return;
    uint64_t most = end < window->end ? end : window->end;
    memcpy(window->to + (window->at - window->from), bytes.at + (window->at - start),
           (size_t)(most - window->at));
    window->at = most;
}

void parcel_copy(const struct parcel *parcel, const struct parcel_form *form, uint64_t from,
                 uint8_t *to, size_t size)
{
    struct window window = {.to = to, .from = from, .end = from + size, .at = from};
    uint8_t table[WIRE_ATTACH_TABLE_MOST];
    ensure(from <= form->size && size <= form->size - from);
    if (!form->attached) {
        window_put(&window, 0, parcel->value);
        ensure(window.at == window.end);
        return;
    }
    size_t table_size = wire_attach_table_size(form->table.count);
    if (from < table_size) {
        wire_attach_write(&form->table, table);
        window_put(&window, 0, bytes_of(table, table_size));
    }
    window_put(&window, table_size, bytes_head(parcel->value, form->table.value_size));
    for (uint16_t i = 0; i < parcel->count; i++)
        if (wire_attach_is_inline(&form->table.at[i]))
            window_put(&window, form->table.at[i].offset, parcel->pieces[i].bytes);
    ensure(window.at == window.end);
}

/* ---- opening ---- */

/* Judges every entry before anything is made of any. */
static const char *table_reason(const struct parcel_link *link, const struct wire_attach *table)
{
    for (uint16_t i = 0; i < table->count; i++) {
        const struct wire_attachment *at = &table->at[i];
        if (wire_attach_is_inline(at))
            continue;
        const struct slot_region *region = link ? map_get(&link->regions, at->region) : NULL;
        if (!region)
            return "an attachment lies in a region that was not told of";
        if (at->offset > region->memory.size || at->size > region->memory.size - at->offset)
            return "an attachment reaches beyond its region";
    }
    return NULL;
}

static bool open_piece(struct parcel_link *link, const struct wire_attachment *at,
                       struct bytes body, struct parcel_piece *ret_piece)
{
    if (wire_attach_is_inline(at)) {
        ret_piece->bytes = wire_attach_slice(at, body);
        return true;
    }
    struct slot_region *region = map_get(&link->regions, at->region);
    struct slot *slot = slot_borrow(region, at->offset, at->size, at->loan, link);
    if (!slot)
        return false;
    list_push_back(&link->borrowed, &slot->origin_link);
    *ret_piece = (struct parcel_piece){.slot = slot, .bytes = bytes_of(slot->at, slot->size)};
    return true;
}

/* Memory lacks: what was lent goes back unseen.  The pieces before `from` go back with their slots.
 */
static int give_back(struct parcel_link *link, const struct wire_attach *table, uint16_t from)
{
    for (uint16_t i = from; i < table->count; i++)
        if (!wire_attach_is_inline(&table->at[i]) &&
            !parcel_put_release(link, table->at[i].loan, false)) {
            link->reason = "the peer does not read what it is told";
            return ERROR_PROTOCOL;
        }
    return ERROR_MEMORY;
}

int parcel_open(struct parcel_link *link, struct bytes body, struct buffer *buffer,
                struct parcel **ret_parcel)
{
    struct wire_attach table;
    const char *reason = "a table of attachments is broken";
    if (wire_attach_read(&table, body) < 0 || (reason = table_reason(link, &table)) != NULL) {
        if (link)
            link->reason = reason;
        return ERROR_PROTOCOL;
    }
    struct parcel *parcel = parcel_try(table.count);
    if (!parcel)
        return link ? give_back(link, &table, 0) : ERROR_MEMORY;
    parcel->flat = table.flat;
    parcel->size = table.value_size;
    bool holds = table.value_size > 0;
    for (uint16_t i = 0; i < table.count; i++)
        holds |= wire_attach_is_inline(&table.at[i]);
    parcel->buffer = holds && buffer ? buffer_ref(buffer) : NULL;
    for (uint16_t i = 0; i < table.count; i++) {
        if (!open_piece(link, &table.at[i], body, &parcel->pieces[i])) {
            parcel_unref(parcel);
            return give_back(link, &table, i);
        }
        parcel->size += table.at[i].size;
    }
    parcel->value = table.flat ? parcel->pieces[0].bytes : wire_attach_value(&table, body);
    *ret_parcel = parcel;
    return 0;
}
