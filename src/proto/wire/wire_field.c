/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Field blocks: HTTP header and trailer fields as the wire carries them.
 *
 * A block is a run of fields: u16 name length, u16 value length, name, value; little-endian,
 * nothing between them.  It is written once by whoever parsed the HTTP head and walked in place by
 * whoever needs it.  A block from a peer may be broken anywhere: the walk stops in front of the
 * broken field and leaves it in `rest`. What names and values may contain is the business of the
 * HTTP side.
 */
#include "wire.h"

#include "ensure.h"

enum { FIELD_HEAD_SIZE = 4 };

size_t wire_field_write(uint8_t *at, size_t room, struct bytes name, struct bytes value)
{
    if (name.size > UINT16_MAX || value.size > UINT16_MAX)
        return 0;
    size_t size = FIELD_HEAD_SIZE + name.size + value.size;
    if (size > room)
        return 0;
    uint16_t lengths[2] = {(uint16_t)name.size, (uint16_t)value.size};
    memcpy(at, lengths, FIELD_HEAD_SIZE);
    if (name.size > 0)
        memcpy(at + FIELD_HEAD_SIZE, name.at, name.size);
    if (value.size > 0)
        memcpy(at + FIELD_HEAD_SIZE + name.size, value.at, value.size);
    return size;
}

bool wire_field_next(struct bytes *rest, struct bytes *ret_name, struct bytes *ret_value)
{
    if (rest->size < FIELD_HEAD_SIZE)
        return false;
    uint16_t lengths[2];
    memcpy(lengths, rest->at, FIELD_HEAD_SIZE);
    size_t size = FIELD_HEAD_SIZE + (size_t)lengths[0] + lengths[1];
    if (size > rest->size)
        return false;
    *ret_name = bytes_of(rest->at + FIELD_HEAD_SIZE, lengths[0]);
    *ret_value = bytes_of(rest->at + FIELD_HEAD_SIZE + lengths[0], lengths[1]);
    *rest = bytes_of(rest->at + size, rest->size - size);
    ensure(ret_value->at + ret_value->size == rest->at);
    return true;
}

bool wire_field_find(struct bytes block, struct bytes name, struct bytes *ret_value)
{
    struct bytes field_name, field_value;
    while (wire_field_next(&block, &field_name, &field_value)) {
        if (!bytes_equal_nocase(field_name, name))
            continue;
        *ret_value = field_value;
        return true;
    }
    return false;
}
