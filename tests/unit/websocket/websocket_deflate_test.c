/* SPDX-License-Identifier: Apache-2.0 */
/*
 * permessage-deflate: the RFC's own examples, both directions against each other, bombs, and what
 * is broken; and the handshake that agrees on it.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "websocket_talk.h"

enum { FIN = 0x80, RSV1 = 0x40, TEXT = 1, BINARY = 2 };

static struct websocket_config squeezing(uint64_t limit)
{
    return (struct websocket_config){.deflate = {.on = true, .client_bits = 15, .server_bits = 15},
                                     .message_limit = limit};
}

static void expect_heard(const struct bytes *payloads, const uint8_t *firsts, size_t count,
                         uint64_t limit, const char *heard)
{
    uint8_t frames[512];
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += websocket_talk_frame(firsts[i], payloads[i], frames + size);
    for (size_t cut = 0; cut <= size; cut++) {
        struct websocket_config config = squeezing(limit);
        struct websocket_talk talk;
        websocket_talk_init(&talk, &config);
        websocket_talk_hear(&talk, bytes_of(frames, cut));
        websocket_talk_hear(&talk, bytes_of(frames + cut, size - cut));
        cr_expect_str_eq(text_string(&talk.said), heard, "cut at %zu", cut);
        websocket_talk_done(&talk);
    }
}
#define HEARD(limit, heard, firsts, ...)                                                           \
    expect_heard((struct bytes[]){__VA_ARGS__}, (uint8_t[])firsts,                                 \
                 sizeof((struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes), limit, heard)
#define LIST(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

Test(websocket_deflate, the_examples_of_the_standard_are_understood)
{
    HEARD(99, "text 5 \"Hello\"\n", LIST(FIN | RSV1 | TEXT), BYTES("\xf2\x48\xcd\xc9\xc9\x07\x00"));
    HEARD(99, "text 5 \"Hello\"\n", LIST(RSV1 | TEXT, FIN), BYTES("\xf2\x48\xcd"),
          BYTES("\xc9\xc9\x07\x00"));
    /* The second uses the first's window. */
    HEARD(99, "text 5 \"Hello\"\ntext 5 \"Hello\"\n", LIST(FIN | RSV1 | TEXT, FIN | RSV1 | TEXT),
          BYTES("\xf2\x48\xcd\xc9\xc9\x07\x00"), BYTES("\xf2\x00\x11\x00\x00"));
    /* Not compressed inside. */
    HEARD(99, "text 5 \"Hello\"\n", LIST(FIN | RSV1 | TEXT),
          BYTES("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"));
    /* A final block. */
    HEARD(99, "text 5 \"Hello\"\n", LIST(FIN | RSV1 | TEXT),
          BYTES("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"));
    HEARD(99, "text 0 \"\"\n", LIST(FIN | RSV1 | TEXT), BYTES("\x00"));
    /* A message may also be sent as it is. */
    HEARD(99, "text 2 \"ab\"\n", LIST(FIN | TEXT), BYTES("ab"));
}

Test(websocket_deflate, what_cannot_be_inflated_is_refused)
{
    HEARD(99, "refused 1007 32 \"compressed bytes that are broken\"\n", LIST(FIN | RSV1 | TEXT),
          BYTES("\xff\xff\xff"));
    HEARD(99, "refused 1002 21 \"a reserved bit is set\"\n", LIST(RSV1 | TEXT, FIN | RSV1),
          BYTES("\xf2\x48\xcd"), BYTES("\xc9\xc9\x07\x00"));
    HEARD(99, "refused 1002 21 \"a reserved bit is set\"\n", LIST(FIN | RSV1 | 9), BYTES(""));
    HEARD(4, "refused 1009 22 \"the message is too big\"\n", LIST(FIN | RSV1 | TEXT),
          BYTES("\xf2\x48\xcd\xc9\xc9\x07\x00"));
}

/* Our own compressor is the other's partner. */
Test(websocket_deflate, what_is_compressed_in_pieces_comes_back)
{
    enum { SIZE = 100000 };
    static uint8_t text[SIZE], frame[2 * SIZE], masked[2 * SIZE];
    struct websocket_config config = squeezing(SIZE);
    struct websocket *writer = websocket_new(&config);
    struct websocket_talk talk;
    websocket_talk_init(&talk, &config);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (uint8_t)('a' + i * i % 13);
    for (int round = 0; round < 3; round++) {
        for (size_t at = 0; at <= SIZE; at += 20000) {
            bool last = at == SIZE; /* an empty piece at the end */
            struct bytes piece = bytes_head(bytes_of(text + at, SIZE - at), 20000);
            cr_assert_leq(websocket_write_room(writer, true, piece.size), sizeof frame);
            size_t size = websocket_write_piece(writer, true, last, true, piece, frame);
            size_t head = (frame[1] & 127) < 126 ? 2 : 4;
            size = websocket_talk_frame(frame[0], bytes_of(frame + head, size - head), masked);
            websocket_talk_hear(&talk, bytes_of(masked, size));
        }
        cr_expect(bytes_starts_with(text_bytes(&talk.said), BYTES("text 100000 ")), "%s",
                  text_string(&talk.said));
        text_clear(&talk.said);
    }
    websocket_talk_done(&talk);
    websocket_free(writer);
}

Test(websocket_deflate, a_bomb_is_refused_before_it_is_large)
{
    enum { SIZE = 1 << 20, LIMIT = 20000 };
    static uint8_t zeros[SIZE], frame[SIZE + SIZE / 2], masked[SIZE];
    struct websocket_config config = squeezing(SIZE), narrow = squeezing(LIMIT);
    struct websocket *writer = websocket_new(&config), *reader = websocket_new(&narrow);
    struct websocket_event event;
    size_t heard = 0;
    cr_assert_leq(websocket_write_room(writer, true, SIZE), sizeof frame);
    size_t size = websocket_write_piece(writer, false, true, true, bytes_of(zeros, SIZE), frame);
    cr_assert_lt(size, 10000);
    struct bytes input =
        bytes_of(masked, websocket_talk_frame(frame[0], bytes_of(frame + 4, size - 4), masked));
    while (websocket_next(reader, &input, &event) == WEBSOCKET_PART)
        heard += event.bytes.size;
    cr_expect_eq(event.type, WEBSOCKET_REFUSED);
    cr_expect_eq(event.code, WEBSOCKET_TOO_BIG);
    cr_expect_leq(heard, LIMIT);
    websocket_free(writer);
    websocket_free(reader);
}

static const char *agreed(const char *value, uint8_t bits)
{
    static char told[WEBSOCKET_EXTENSIONS_MOST];
    struct websocket_offer offer = {0};
    websocket_offer_field(&offer, BYTES("Sec-WebSocket-Extensions"), bytes_of_string(value), bits);
    told[websocket_extensions_write(&offer.deflate, told)] = 0;
    return told;
}

Test(websocket_deflate, the_first_offer_that_can_be_taken_is)
{
    cr_expect_str_eq(agreed("permessage-deflate", 15), "permessage-deflate");
    cr_expect_str_eq(agreed("permessage-deflate; client_max_window_bits", 12),
                     "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12");
    cr_expect_str_eq(agreed("Permessage-Deflate; server_max_window_bits=\"10\"", 12),
                     "permessage-deflate; server_max_window_bits=10");
    cr_expect_str_eq(
        agreed("permessage-deflate;server_no_context_takeover;client_no_context_takeover", 15),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    cr_expect_str_eq(agreed("x-webkit-deflate-frame, permessage-deflate; nonsense, "
                            "permessage-deflate; client_max_window_bits=9",
                            15),
                     "permessage-deflate; client_max_window_bits=9");
    static const char *const DECLINED[] = {"",
                                           "permessage-deflate; server_max_window_bits",
                                           "permessage-deflate; server_max_window_bits=8",
                                           "permessage-deflate; server_max_window_bits=16",
                                           "permessage-deflate; server_max_window_bits=010",
                                           "permessage-deflate; client_max_window_bits=7",
                                           "permessage-deflate; server_no_context_takeover=1",
                                           "permessage-deflate; client_max_window_bits; "
                                           "client_max_window_bits=10",
                                           "permessage-deflate;;"};
    for (size_t i = 0; i < sizeof DECLINED / sizeof *DECLINED; i++)
        cr_expect_str_eq(agreed(DECLINED[i], 15), "", "%s", DECLINED[i]);
    cr_expect_str_eq(agreed("permessage-deflate", 0), "", "none is wanted");
}

static int judge(const char *key, const char *version, const char **ret_reason)
{
    struct websocket_offer offer = {0};
    if (key)
        websocket_offer_field(&offer, BYTES("SEC-WEBSOCKET-KEY"), bytes_of_string(key), 0);
    if (version)
        websocket_offer_field(&offer, BYTES("sec-websocket-version"), bytes_of_string(version), 0);
    return websocket_offer_judge(&offer, ret_reason);
}

Test(websocket_deflate, a_handshake_is_judged)
{
    const char *reason;
    struct websocket_offer offer = {.key = BYTES("dGhlIHNhbXBsZSBub25jZQ==")};
    uint8_t accept[WEBSOCKET_ACCEPT_SIZE];
    websocket_offer_accept(&offer, accept);
    cr_expect(!memcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof accept), "RFC 6455 1.3");
    cr_expect_eq(judge("dGhlIHNhbXBsZSBub25jZQ==", "13", &reason), 0);
    cr_expect_eq(judge("dGhlIHNhbXBsZSBub25jZQ==", "8", &reason), 426);
    cr_expect_eq(judge("dGhlIHNhbXBsZSBub25jZQ==", NULL, &reason), 400);
    cr_expect_eq(judge(NULL, "13", &reason), 400);
    cr_expect_eq(judge("", "13", &reason), 400);
    cr_expect_eq(judge("dGhlIHNhbXBsZSBub25jZQ=!", "13", &reason), 400);
    cr_expect_eq(judge("dGhlIHNhbXBsZSBub25jZTE=", "13", &reason), 400, "17 bytes");
}
