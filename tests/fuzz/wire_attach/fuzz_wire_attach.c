/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for bodies with attachments, from anybody.
 *
 * The writer is the reader's oracle: the table of a body that is read is written again, byte for
 * byte; every slice lies in the body, behind the table, in order and apart.
 */
#include "ensure.h"
#include "wire_attach.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct wire_attach attach, again;
    uint8_t table[WIRE_ATTACH_TABLE_MOST];
    struct bytes body = bytes_of(at, size);
    if (wire_attach_read(&attach, body) < 0)
        return 0;
    size_t table_size = wire_attach_write(&attach, table);
    ensure(table_size <= size && memcmp(table, at, table_size) == 0);
    again = attach;
    ensure(wire_attach_layout(&again) == size);
    struct bytes value = wire_attach_value(&attach, body);
    const uint8_t *end = value.at + value.size;
    ensure(value.at == at + table_size && end <= at + size);
    for (uint16_t i = 0; i < attach.count; i++) {
        if (!wire_attach_is_inline(&attach.at[i]))
            continue;
        struct bytes slice = wire_attach_slice(&attach.at[i], body);
        ensure(slice.at >= end && slice.at + slice.size <= at + size);
        ensure((size_t)(slice.at - at) % WIRE_ATTACH_ALIGN == 0);
        end = slice.at + slice.size;
    }
    ensure(end == at + size || attach.count > 0);
    return 0;
}
