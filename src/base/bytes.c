/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes: what is too long to stand in the header.
 *
 * The hash folds 128-bit products: sixteen bytes a step, and a key of up to sixteen bytes is one
 * step and the finish.  It mixes well and is quick on short keys (names, ids); it keeps no secret,
 * so that maps with keys chosen by a peer must be bounded by a limit, which all of ours are.
 */
#include "bytes.h"

#include "ensure.h"

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (a.at[i] != b.at[i] && lower(a.at[i]) != lower(b.at[i]))
            return false;
    return true;
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.at, b.at, common) : 0;
    if (order != 0)
        return order < 0 ? -1 : 1;
    return a.size < b.size ? -1 : a.size > b.size;
}

static bool blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

struct bytes bytes_trim(struct bytes bytes)
{
    while (bytes.size && blank(bytes.at[0]))
        bytes = bytes_skip(bytes, 1);
    while (bytes.size && blank(bytes.at[bytes.size - 1]))
        bytes.size--;
    return bytes;
}

ptrdiff_t bytes_find(struct bytes bytes, uint8_t byte)
{
    const uint8_t *found = bytes.size ? memchr(bytes.at, byte, bytes.size) : NULL;
    return found ? found - bytes.at : -1;
}

bool bytes_to_u64(struct bytes bytes, uint64_t *ret_value)
{
    ensure(ret_value);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        unsigned digit = (unsigned)bytes.at[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (bytes.size == 0)
        return false;
    *ret_value = value;
    return true;
}

/* Odd numbers with as many ones as zeros, more or less; nothing else is asked of them. */
#define HASH_A UINT64_C(0x9E3779B97F4A7C15)
#define HASH_B UINT64_C(0xD1B54A32D192ED03)
#define HASH_C UINT64_C(0x8CB92BA72F3D8DD7)

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Little-endian on every machine, so that the hash may be stored. */
static uint64_t load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static uint64_t load32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

uint64_t bytes_hash(struct bytes bytes)
{
    const uint8_t *at = bytes.at;
    size_t left = bytes.size;
    uint64_t state = HASH_A ^ ((uint64_t)bytes.size * HASH_B);
    uint64_t first = 0, last = 0; /* the last 16 bytes or fewer; they may overlap each other */

    ensure(at || left == 0);
    for (; left > 16; at += 16, left -= 16)
        state =
            fold(load64(at) ^ HASH_B ^ state, load64(at + 8) ^ HASH_C ^ (state << 1 | state >> 63));
    if (left >= 8) {
        first = load64(at);
        last = load64(at + left - 8);
    } else if (left >= 4) {
        first = load32(at);
        last = load32(at + left - 4);
    } else if (left > 0) {
        first = (uint64_t)at[0] << 16 | (uint64_t)at[left / 2] << 8 | at[left - 1];
    }
    return fold(fold(first ^ HASH_B, last ^ HASH_C ^ state) ^ HASH_A, state ^ HASH_C);
}
