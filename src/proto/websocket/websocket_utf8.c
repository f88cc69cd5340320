/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_utf8: is it UTF-8, when it comes in pieces?  (RFC 3629; neither surrogates nor long
 * forms.)
 */
#include "websocket.h"

/* What may follow a first byte; false: it is none. */
static bool begin(struct websocket_utf8 *utf8, uint8_t byte)
{
    *utf8 = (struct websocket_utf8){.least = 0x80, .most = 0xbf};
    if (byte < 0xc2 || byte > 0xf4)
        return false;
    utf8->left = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    if (byte == 0xe0)
        utf8->least = 0xa0;
    else if (byte == 0xed)
        utf8->most = 0x9f;
    else if (byte == 0xf0)
        utf8->least = 0x90;
    else if (byte == 0xf4)
        utf8->most = 0x8f;
    return true;
}

/* Past all ASCII at the start, eight at a time. */
static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end)
{
    uint64_t eight;
    while (end - at >= 8) {
        memcpy(&eight, at, 8);
        if (eight & 0x8080808080808080ull)
            break;
        at += 8;
    }
    while (at < end && *at < 0x80)
        at++;
    return at;
}

bool websocket_utf8_check(struct websocket_utf8 *utf8, struct bytes bytes)
{
    const uint8_t *at = bytes.at, *end = at + bytes.size;
    while (at < end) {
        if (!utf8->left) {
            at = skip_ascii(at, end);
            if (at < end && !begin(utf8, *at++))
                return false;
            continue;
        }
        if (*at < utf8->least || *at > utf8->most)
            return false;
        utf8->left--;
        utf8->least = 0x80;
        utf8->most = 0xbf;
        at++;
    }
    return true;
}
