/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_offer: the opening handshake (RFC 6455 4.2.1, 4.2.2) and what is agreed on compression
 * (RFC 7692 7.1).
 *
 * Of the compressions that a client offers the first that can be taken is; an offer with a
 * parameter that is unknown, twice there or out of range is none (7.1).
 */
#include <nettle/base64.h>
#include <nettle/sha1.h>
#include <stdio.h>

#include "ensure.h"
#include "websocket.h"

enum { KEY_SIZE = 24, NONCE_SIZE = 16, BITS_LEAST = 9, BITS_MOST = 15 };

/* ---- compression ----------------------------------------------------------------------------- */

/* What stands before the next `mark` outside of quotes; *rest moves behind it. */
static struct bytes split(struct bytes *rest, uint8_t mark)
{
    bool quoted = false;
    size_t size = 0;
    while (size < rest->size && (quoted || rest->at[size] != mark))
        quoted ^= rest->at[size++] == '"';
    struct bytes part = bytes_head(*rest, size);
    *rest = bytes_skip(*rest, size + 1);
    return bytes_trim(part);
}

static struct bytes unquote(struct bytes value)
{
    if (value.size >= 2 && value.at[0] == '"' && value.at[value.size - 1] == '"')
        return bytes_of(value.at + 1, value.size - 2);
    return value;
}

/* A window's size, 8 to 15 without a zero in front; 0: it is none. */
static uint8_t read_bits(struct bytes value)
{
    uint64_t bits;
    value = unquote(value);
    if (!bytes_to_u64(value, &bits) || value.at[0] == '0' || bits < 8 || bits > BITS_MOST)
        return 0;
    return (uint8_t)bits;
}

static uint8_t lesser(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* One parameter; false: the offer is declined. */
static bool take_parameter(struct bytes parameter, uint8_t wanted, unsigned *seen,
                           struct websocket_deflate *deflate)
{
    struct bytes value = parameter, name = split(&value, '=');
    bool given = bytes_find(parameter, '=') >= 0;
    unsigned which = 0;
    uint8_t bits = given ? read_bits(bytes_trim(value)) : BITS_MOST;
    if (bytes_equal_nocase(name, BYTES("server_no_context_takeover")) && !given) {
        deflate->server_forgets = true;
        which = 1;
    } else if (bytes_equal_nocase(name, BYTES("client_no_context_takeover")) && !given) {
        deflate->client_forgets = true;
        which = 2;
    } else if (bytes_equal_nocase(name, BYTES("server_max_window_bits")) && given) {
        /* zlib has no window of 8 bits. */
        deflate->server_bits = lesser(bits, wanted);
        which = bits >= BITS_LEAST ? 4 : 0;
    } else if (bytes_equal_nocase(name, BYTES("client_max_window_bits")) && bits) {
        deflate->client_bits = lesser(bits < BITS_LEAST ? BITS_LEAST : bits, wanted);
        which = 8;
    }
    bool first = which && !(*seen & which);
    *seen |= which;
    return first;
}

static bool take_extension(struct bytes extension, uint8_t wanted,
                           struct websocket_deflate *ret_deflate)
{
    struct websocket_deflate deflate = {
        .on = true, .client_bits = BITS_MOST, .server_bits = wanted};
    unsigned seen = 0;
    struct bytes rest = extension;
    if (!bytes_equal_nocase(split(&rest, ';'), BYTES("permessage-deflate")))
        return false;
    while (rest.size)
        if (!take_parameter(split(&rest, ';'), wanted, &seen, &deflate))
            return false;
    *ret_deflate = deflate;
    return true;
}

size_t websocket_extensions_write(const struct websocket_deflate *deflate,
                                  char ret_value[WEBSOCKET_EXTENSIONS_MOST])
{
    char server[40] = "", client[40] = "";
    if (!deflate->on)
        return 0;
    if (deflate->server_bits < BITS_MOST)
        snprintf(server, sizeof server, "; server_max_window_bits=%d", deflate->server_bits);
    if (deflate->client_bits < BITS_MOST)
        snprintf(client, sizeof client, "; client_max_window_bits=%d", deflate->client_bits);
    int size = snprintf(ret_value, WEBSOCKET_EXTENSIONS_MOST, "permessage-deflate%s%s%s%s", server,
                        client, deflate->server_forgets ? "; server_no_context_takeover" : "",
                        deflate->client_forgets ? "; client_no_context_takeover" : "");
    ensure(size > 0 && size < WEBSOCKET_EXTENSIONS_MOST);
    return (size_t)size;
}

/* ---- the handshake --------------------------------------------------------------------------- */

void websocket_offer_field(struct websocket_offer *offer, struct bytes name, struct bytes value,
                           uint8_t window_bits)
{
    if (bytes_equal_nocase(name, BYTES("sec-websocket-key"))) {
        offer->key = value;
        offer->key_count++;
    } else if (bytes_equal_nocase(name, BYTES("sec-websocket-version"))) {
        offer->version = value;
        offer->version_count++;
    } else if (window_bits && bytes_equal_nocase(name, BYTES("sec-websocket-extensions"))) {
        ensure(window_bits >= BITS_LEAST && window_bits <= BITS_MOST);
        while (value.size && !offer->deflate.on)
            take_extension(split(&value, ','), window_bits, &offer->deflate);
    }
}

static bool is_key(struct bytes key)
{
    struct base64_decode_ctx decoder;
    uint8_t nonce[BASE64_DECODE_LENGTH(KEY_SIZE)];
    size_t size = sizeof nonce;
    if (key.size != KEY_SIZE)
        return false;
    base64_decode_init(&decoder);
    return base64_decode_update(&decoder, &size, nonce, key.size, (const char *)key.at) &&
           base64_decode_final(&decoder) && size == NONCE_SIZE;
}

int websocket_offer_judge(const struct websocket_offer *offer, const char **ret_reason)
{
    *ret_reason = NULL;
    if (offer->version_count != 1)
        *ret_reason = "Sec-WebSocket-Version must be there once (RFC 6455 4.2.1)";
    else if (!bytes_equal(offer->version, BYTES("13")))
        *ret_reason = "Sec-WebSocket-Version must be 13 (RFC 6455 4.2.2)";
    if (*ret_reason)
        return offer->version_count == 1 ? 426 : 400;
    if (offer->key_count != 1)
        *ret_reason = "Sec-WebSocket-Key must be there once (RFC 6455 4.2.1)";
    else if (!is_key(offer->key))
        *ret_reason = "Sec-WebSocket-Key must be 16 bytes in base64 (RFC 6455 4.2.1)";
    return *ret_reason ? 400 : 0;
}

void websocket_offer_accept(const struct websocket_offer *offer,
                            uint8_t ret_accept[WEBSOCKET_ACCEPT_SIZE])
{
    static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    struct sha1_ctx hash;
    uint8_t digest[SHA1_DIGEST_SIZE];
    _Static_assert(BASE64_ENCODE_RAW_LENGTH(SHA1_DIGEST_SIZE) == WEBSOCKET_ACCEPT_SIZE,
                   "the value fits");
    sha1_init(&hash);
    sha1_update(&hash, offer->key.size, offer->key.at);
    sha1_update(&hash, sizeof GUID - 1, (const uint8_t *)GUID);
    sha1_digest(&hash, sizeof digest, digest);
    base64_encode_raw((char *)ret_accept, sizeof digest, digest);
}
