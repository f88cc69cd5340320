/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack: building composite values (manta_pack_*).
 *
 * A pack is a growing document.  It is judged once, when it is used: exactly one well-formed value,
 * or an error.
 */
#include <string.h>

#include <manta/value.h>

#include "args.h"
#include "mem.h"
#include "pack.h"
#include "shared.h"
#include "value.h"

struct manta_pack *manta_pack_new(void)
{
    struct manta_pack *pack = mem_try(sizeof *pack);
    if (pack)
        text_init(&pack->document, PACK_LIMIT);
    return pack;
}

static void let_go(struct manta_pack *pack)
{
    while (pack->held_count)
        manta_buffer_free(pack->held[--pack->held_count]);
}

struct manta_pack *manta_pack_free(struct manta_pack *pack)
{
    if (!pack)
        return NULL;
    let_go(pack);
    mem_free(pack->held);
    text_done(&pack->document);
    return mem_free(pack);
}

void manta_pack_clear(struct manta_pack *pack)
{
    let_go(pack);
    text_clear(&pack->document);
    pack->error = (struct error){0};
}

static int hold(struct manta_pack *pack, struct manta_buffer *buffer)
{
    if (pack->held_count == pack->held_room) {
        size_t room = pack->held_room ? 2 * pack->held_room : 8;
        struct manta_buffer **held = mem_try(room * sizeof(struct manta_buffer *));
        if (!held)
            return error_set(&pack->error, ERROR_MEMORY, "no memory for a pack");
        if (pack->held_count)
            memcpy(held, pack->held, pack->held_count * sizeof(struct manta_buffer *));
        mem_free(pack->held);
        pack->held = held;
        pack->held_room = room;
    }
    pack->held[pack->held_count++] = manta_buffer_ref(buffer);
    return 0;
}

/* Every buffer that the value appended last refers to stays as long as the pack. */
static void hold_all(struct manta_pack *pack, struct bytes appended)
{
    struct value_reader reader;
    struct value_place place;
    struct manta_buffer *buffer;
    struct value item;
    value_read_init(&reader, appended);
    while (!pack->error.code && value_next_outside(&reader, &item))
        if (shared_place(item.raw, &place, &buffer) == 0)
            hold(pack, buffer);
}

void manta_pack_arg(struct manta_pack *pack, struct manta_arg arg)
{
    size_t before = pack->document.size;
    if (pack->error.code || args_write_one(&pack->document, &arg, &pack->error) < 0)
        return;
    if (arg.type == MANTA_ARG_VALUE || arg.type == MANTA_ARG_BUFFER || arg.type == MANTA_ARG_TENSOR)
        hold_all(pack, bytes_of(pack->document.at + before, pack->document.size - before));
}

void manta_pack_array(struct manta_pack *pack, uint32_t count)
{
    value_write_array(&pack->document, count);
}

void manta_pack_map(struct manta_pack *pack, uint32_t count)
{
    value_write_map(&pack->document, count);
}

int manta_pack_value(const struct manta_pack *pack, struct manta_value *ret_value,
                     struct manta_error *reterr)
{
    size_t offset;
    if (pack->error.code)
        return manta_error_set(reterr, pack->error.code, "%s", pack->error.text);
    if (pack->document.failed)
        return manta_error_set(reterr, MANTA_EMEMORY,
                               "the pack is larger than 1 GiB or memory is exhausted");
    if (value_check(text_bytes(&pack->document), &offset) < 0)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "the pack is not exactly one value: see byte %zu of %zu", offset,
                               pack->document.size);
    *ret_value = (struct manta_value){pack->document.at, pack->document.size};
    return 0;
}
