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
#include "value.h"

struct manta_pack *manta_pack_new(void)
{
    struct manta_pack *pack = mem_try(sizeof *pack);
    if (pack)
        text_init(&pack->document, PACK_LIMIT);
    return pack;
}

struct manta_pack *manta_pack_free(struct manta_pack *pack)
{
    if (pack)
        text_done(&pack->document);
    return mem_free(pack);
}

void manta_pack_clear(struct manta_pack *pack)
{
    text_clear(&pack->document);
    pack->error = (struct error){0};
}

void manta_pack_arg(struct manta_pack *pack, struct manta_arg arg)
{
    if (!pack->error.code)
        args_write_one(&pack->document, &arg, &pack->error);
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
