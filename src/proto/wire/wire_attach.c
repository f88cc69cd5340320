/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_attach: the table of attachments, written and read.
 *
 * There is one layout for given sizes, and reading takes nothing else: offsets of inline
 * attachments are computed again and compared.  So nothing overlaps, nothing points outside, and
 * what was read can be written again byte by byte.
 */
#include "wire_attach.h"

#include "ensure.h"

bool wire_attach_all_inline(const struct wire_attach *attach)
{
    for (uint16_t i = 0; i < attach->count; i++)
        if (!wire_attach_is_inline(&attach->at[i]))
            return false;
    return true;
}

uint64_t wire_attach_layout(struct wire_attach *attach)
{
    ensure(attach->count > 0 && attach->count <= WIRE_ATTACH_LIMIT);
    ensure(!attach->flat || attach->value_size == 0);
    uint64_t end = wire_attach_table_size(attach->count) + attach->value_size;
    for (uint16_t i = 0; i < attach->count; i++) {
        struct wire_attachment *at = &attach->at[i];
        if (!wire_attach_is_inline(at))
            continue;
        at->loan = 0;
        at->offset = (end + WIRE_ATTACH_ALIGN - 1) / WIRE_ATTACH_ALIGN * WIRE_ATTACH_ALIGN;
        if (at->size > UINT64_MAX / 2 || at->offset > UINT64_MAX / 2 - at->size)
            return UINT64_MAX;
        end = at->offset + at->size;
    }
    return end;
}

static uint8_t *put(uint8_t *at, const void *value, size_t size)
{
    memcpy(at, value, size);
    return at + size;
}

size_t wire_attach_write(const struct wire_attach *attach, uint8_t *at)
{
    uint8_t *end = at;
    uint16_t flags = attach->flat ? WIRE_ATTACH_FLAT : 0;
    ensure(attach->count > 0 && attach->count <= WIRE_ATTACH_LIMIT);
    end = put(end, &attach->count, sizeof attach->count);
    end = put(end, &flags, sizeof flags);
    end = put(end, &attach->value_size, sizeof attach->value_size);
    for (uint16_t i = 0; i < attach->count; i++) {
        const struct wire_attachment *one = &attach->at[i];
        end = put(end, &one->region, sizeof one->region);
        end = put(end, &one->loan, sizeof one->loan);
        end = put(end, &one->offset, sizeof one->offset);
        end = put(end, &one->size, sizeof one->size);
    }
    ensure((size_t)(end - at) == wire_attach_table_size(attach->count));
    return (size_t)(end - at);
}

static const uint8_t *take(const uint8_t *at, void *ret_value, size_t size)
{
    memcpy(ret_value, at, size);
    return at + size;
}

static void read_entries(struct wire_attach *attach, const uint8_t *at)
{
    for (uint16_t i = 0; i < attach->count; i++) {
        struct wire_attachment *one = &attach->at[i];
        at = take(at, &one->region, sizeof one->region);
        at = take(at, &one->loan, sizeof one->loan);
        at = take(at, &one->offset, sizeof one->offset);
        at = take(at, &one->size, sizeof one->size);
    }
}

/* What the layout says, and nothing else. */
static bool is_laid_out(const struct wire_attach *attach, uint64_t body_size)
{
    struct wire_attach again = *attach;
    if (wire_attach_layout(&again) != body_size)
        return false;
    for (uint16_t i = 0; i < attach->count; i++) {
        const struct wire_attachment *one = &attach->at[i];
        if (wire_attach_is_inline(one) && (one->offset != again.at[i].offset || one->loan != 0))
            return false;
        if (one->offset > UINT64_MAX - one->size)
            return false;
    }
    return true;
}

int wire_attach_read(struct wire_attach *ret_attach, struct bytes body)
{
    uint16_t flags;
    const uint8_t *at = body.at;
    if (body.size < WIRE_ATTACH_HEAD_SIZE)
        return -1;
    at = take(at, &ret_attach->count, sizeof ret_attach->count);
    at = take(at, &flags, sizeof flags);
    at = take(at, &ret_attach->value_size, sizeof ret_attach->value_size);
    ret_attach->flat = flags & WIRE_ATTACH_FLAT;
    if (ret_attach->count == 0 || ret_attach->count > WIRE_ATTACH_LIMIT ||
        (flags & ~WIRE_ATTACH_FLAT) || (ret_attach->flat && ret_attach->value_size > 0) ||
        body.size < wire_attach_table_size(ret_attach->count))
        return -1;
    read_entries(ret_attach, at);
    return is_laid_out(ret_attach, body.size) ? 0 : -1;
}

struct bytes wire_attach_value(const struct wire_attach *attach, struct bytes body)
{
    size_t table = wire_attach_table_size(attach->count);
    ensure(body.size >= table && body.size - table >= attach->value_size);
    return bytes_of(body.at + table, attach->value_size);
}

struct bytes wire_attach_slice(const struct wire_attachment *at, struct bytes body)
{
    ensure(wire_attach_is_inline(at));
    ensure(at->offset <= body.size && at->size <= body.size - at->offset);
    return bytes_of(body.at + at->offset, (size_t)at->size);
}
