/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_attach: a body with attachments (WIRE_ATTACHED).
 *
 * An attachment is a large piece of a body: it lies in memory that both sides have mapped, or
 * inline behind the value.  Such a body begins with a table, little-endian:
 *
 *     0       2       4            8
 *     | count | flags | value size | count times: region u32, loan u32, offset u64, size u64 |
 *     value ... | inline attachments, each aligned to 64 from the body's start, zeros between
 *
 * region UINT32_MAX: inline; then `offset` counts from the body's start, and is exactly where the
 * layout above puts it.  Else `offset` counts from the start of the region, and `loan` is the
 * number under which the receiver gives the piece back (slot_release), one for each attachment.
 *
 * WIRE_ATTACH_FLAT: there is no value of its own; attachment 0 is it (an HTTP body).
 *
 * A body of which something lies in a region travels whole in its frame; one that is all inline may
 * come in parts, like any long body.
 */
#ifndef MANTA_PROTO_WIRE_ATTACH_H
#define MANTA_PROTO_WIRE_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

enum {
    WIRE_ATTACH_LIMIT = 64, /* attachments of one body */
    WIRE_ATTACH_HEAD_SIZE = 8,
    WIRE_ATTACH_ENTRY_SIZE = 24,
    WIRE_ATTACH_ALIGN = 64,
    WIRE_ATTACH_TABLE_MOST = WIRE_ATTACH_HEAD_SIZE + WIRE_ATTACH_LIMIT * WIRE_ATTACH_ENTRY_SIZE,
};
#define WIRE_ATTACH_INLINE UINT32_MAX
enum wire_attach_flag { WIRE_ATTACH_FLAT = 1 };

struct wire_attachment {
    uint32_t region; /* in the sender's numbering, or WIRE_ATTACH_INLINE */
    uint32_t loan;   /* 0 when inline */
    uint64_t offset; /* in the region; inline: in the body */
    uint64_t size;
};

struct wire_attach {
    uint16_t count;
    bool flat;
    uint32_t value_size; /* 0 when flat */
    struct wire_attachment at[WIRE_ATTACH_LIMIT];
};

/* Bytes of the table. */
static inline size_t wire_attach_table_size(uint16_t count)
{
    return WIRE_ATTACH_HEAD_SIZE + (size_t)count * WIRE_ATTACH_ENTRY_SIZE;
}
static inline bool wire_attach_is_inline(const struct wire_attachment *at)
{
    return at->region == WIRE_ATTACH_INLINE;
}
/* True when nothing of it lies in a region. */
bool wire_attach_all_inline(const struct wire_attach *attach);
/*
 * Puts the inline attachments behind the value: sets their offsets (and loans), and returns the
 * size of the whole body; UINT64_MAX when it would not fit 64 bits.
 */
uint64_t wire_attach_layout(struct wire_attach *attach);
/* Writes the table; `at` holds wire_attach_table_size bytes.  Returns bytes written. */
size_t wire_attach_write(const struct wire_attach *attach, uint8_t *at);
/*
 * From a whole body: 0, or -1 when it is not exactly what the layout says (a count, flag, length or
 * offset that is wrong, bytes left over).  `ret_attach` is only meant when 0.
 */
int wire_attach_read(struct wire_attach *ret_attach, struct bytes body);
/* The value, or an inline attachment, of a body that wire_attach_read took. */
struct bytes wire_attach_value(const struct wire_attach *attach, struct bytes body);
struct bytes wire_attach_slice(const struct wire_attachment *at, struct bytes body);

#endif
