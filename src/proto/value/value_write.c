/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing values: msgpack-c's packer, appending to a text.
 *
 * The packer chooses the shortest form of each number and length.  The text remembers a refused
 * append, so the packer's own return codes are not looked at: one flag says at the end whether the
 * document is whole.
 */
#include "value.h"

#include <msgpack/pack.h>

#include "ensure.h"

static int text_write(void *owner, const char *at, size_t size)
{
    struct text *out = owner;
    ensure(out && (at || size == 0));
    text_add(out, bytes_of(at, size));
    return out->failed ? -1 : 0;
}

static msgpack_packer packer_of(struct text *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, text_write);
    return packer;
}

/* MessagePack counts payloads in 32 bits; a longer one fails the text. */
static bool fits(struct text *out, struct bytes value)
{
    if (value.size > UINT32_MAX)
        out->failed = true;
    return value.size <= UINT32_MAX;
}

void value_write_nil(struct text *out)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_nil(&packer);
}

void value_write_bool(struct text *out, bool value)
{
    msgpack_packer packer = packer_of(out);
    if (value)
        msgpack_pack_true(&packer);
    else
        msgpack_pack_false(&packer);
}

void value_write_int(struct text *out, int64_t value)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_int64(&packer, value);
}

void value_write_uint(struct text *out, uint64_t value)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_uint64(&packer, value);
}

void value_write_float(struct text *out, double value)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_double(&packer, value);
}

void value_write_string(struct text *out, struct bytes value)
{
    msgpack_packer packer = packer_of(out);
    if (fits(out, value))
        msgpack_pack_str_with_body(&packer, value.at, value.size);
}

void value_write_binary(struct text *out, struct bytes value)
{
    msgpack_packer packer = packer_of(out);
    if (fits(out, value))
        msgpack_pack_bin_with_body(&packer, value.at, value.size);
}

void value_write_array(struct text *out, uint32_t count)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_array(&packer, count);
}

void value_write_map(struct text *out, uint32_t count)
{
    msgpack_packer packer = packer_of(out);
    msgpack_pack_map(&packer, count);
}

void value_write_extension(struct text *out, int8_t type, struct bytes value)
{
    msgpack_packer packer = packer_of(out);
    if (fits(out, value))
        msgpack_pack_ext_with_body(&packer, value.at, value.size, type);
}
