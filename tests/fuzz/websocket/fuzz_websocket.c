/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_websocket: any bytes.  The first says what they are taken for:
 *
 *     frames     what a client sends, with and without compression: the transcript is the same
 * whole, byte by byte and cut somewhere records    what a replica sends: the same pieces however
 * they are cut offer      the value of Sec-WebSocket-Extensions: what is agreed can be offered and
 * agreed again
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "websocket_talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct websocket_config config_of(uint8_t choice)
{
    return (struct websocket_config){.deflate = {.on = choice & 1,
                                                 .client_bits = choice & 2 ? 15 : 9,
                                                 .server_bits = 12,
                                                 .client_forgets = choice & 4},
                                     .message_limit = choice & 8 ? 1 << 16 : 40};
}

static void hear(struct websocket_talk *talk, const struct websocket_config *config,
                 struct bytes bytes, size_t step, size_t cut)
{
    websocket_talk_init(talk, config);
    websocket_talk_hear(talk, bytes_head(bytes, cut));
    bytes = bytes_skip(bytes, cut);
    for (size_t at = 0; at < bytes.size; at += step)
        websocket_talk_hear(talk, bytes_head(bytes_skip(bytes, at), step));
}

static void check_frames(struct bytes bytes, uint8_t choice, size_t cut)
{
    struct websocket_config config = config_of(choice);
    struct websocket_talk whole, other;
    hear(&whole, &config, bytes, bytes.size + 1, 0);
    for (int way = 0; way < 2; way++) {
        hear(&other, &config, bytes, way ? 1 : bytes.size + 1, way ? 0 : cut);
        bool same = bytes_equal(text_bytes(&whole.said), text_bytes(&other.said));
        if (!same)
            fprintf(stderr, "whole:\n%s\nother:\n%s\n", text_string(&whole.said),
                    text_string(&other.said));
        ensure(same);
        websocket_talk_done(&other);
    }
    websocket_talk_done(&whole);
}

/* The bytes of all messages, and where they end. */
static int read_records(struct bytes bytes, size_t step, struct text *out)
{
    struct websocket_record_reader reader = {0};
    struct websocket_record record;
    int code = 0;
    for (size_t at = 0; at < bytes.size && code >= 0; at += step) {
        struct bytes input = bytes_head(bytes_skip(bytes, at), step);
        while ((code = websocket_record_next(&reader, &input, &record)) == 1) {
            text_add(out, record.bytes);
            if (record.last)
                text_add_byte(out, '\n');
        }
    }
    return code;
}

static void check_records(struct bytes bytes)
{
    struct text whole, other;
    text_init(&whole, 1 << 24);
    text_init(&other, 1 << 24);
    int code = read_records(bytes, bytes.size + 1, &whole);
    ensure(code == read_records(bytes, 1, &other));
    ensure(bytes_equal(text_bytes(&whole), text_bytes(&other)));
    text_done(&whole);
    text_done(&other);
}

static void check_offer(struct bytes value)
{
    struct websocket_offer offer = {0}, again = {0};
    char told[WEBSOCKET_EXTENSIONS_MOST];
    websocket_offer_field(&offer, BYTES("sec-websocket-extensions"), value, 12);
    size_t size = websocket_extensions_write(&offer.deflate, told);
    websocket_offer_field(&again, BYTES("sec-websocket-extensions"), bytes_of(told, size), 15);
    ensure(again.deflate.on == offer.deflate.on);
    ensure(again.deflate.client_bits == offer.deflate.client_bits &&
           again.deflate.server_bits == offer.deflate.server_bits &&
           again.deflate.client_forgets == offer.deflate.client_forgets &&
           again.deflate.server_forgets == offer.deflate.server_forgets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bytes bytes = bytes_of(data + 2, size - 2);
    if (data[0] < 0xc0)
        check_frames(bytes, data[0], data[1] < bytes.size ? data[1] : bytes.size);
    else if (data[0] < 0xe0)
        check_records(bytes);
    else
        check_offer(bytes);
    return 0;
}
