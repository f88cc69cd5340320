/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client sends, as stories: the frames, and what is heard of them.  Every story is told
 * whole, byte by byte, and cut in two at every place, and must come out the same.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "websocket_talk.h"

enum { FIN = 0x80, RSV1 = 0x40, RSV2 = 0x20, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

struct frame {
    uint8_t first;
    struct bytes payload;
};

/* `frames` end with one whose first byte is 0xff. */
struct story {
    const char *name;
    struct frame frames[8];
    const char *heard;
};
#define F(first, literal)                                                                          \
    {                                                                                              \
        first,                                                                                     \
        {                                                                                          \
            (const uint8_t *)("" literal), sizeof(literal) - 1                                     \
        }                                                                                          \
    }
#define END                                                                                        \
    {                                                                                              \
        0xff,                                                                                      \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

static const struct story STORIES[] = {
    {"a message in one frame", {F(FIN | TEXT, "Hello"), END}, "text 5 \"Hello\"\n"},
    {"an empty message", {F(FIN | BINARY, ""), END}, "binary 0 \"\"\n"},
    {"three fragments, with a ping between",
     {F(TEXT, "a"), F(FIN | PING, "p"), F(0, "b"), F(FIN, "c"), END},
     "ping 1 \"p\"\ntext 3 \"abc\"\n"},
    {"fragments of nothing", {F(TEXT, ""), F(0, ""), F(FIN, ""), END}, "text 0 \"\"\n"},
    {"two messages",
     {F(FIN | TEXT, "a"), F(FIN | BINARY, "b"), END},
     "text 1 \"a\"\nbinary 1 \"b\"\n"},
    {"an unasked pong", {F(FIN | PONG, "x"), END}, "pong 1 \"x\"\n"},
    {"characters cut by fragments",
     {F(TEXT, "\xe2\x82"), F(FIN, "\xac"), END},
     "text 3 \"\xe2\x82\xac\"\n"},
    {"a close without a code", {F(FIN | CLOSE, ""), END}, "close 1005 0 \"\"\n"},
    {"a close with code and reason",
     {F(FIN | CLOSE, "\x03\xe8"
                     "bye"),
      END},
     "close 1000 3 \"bye\"\n"},
    {"what comes behind a close is not heard",
     {F(FIN | CLOSE, "\x0f\xa0"), F(FIN | TEXT, "x"), END},
     "close 4000 0 \"\"\n"},

    {"a continuation of nothing",
     {F(FIN, "x"), END},
     "refused 1002 25 \"a continuation of nothing\"\n"},
    {"a message inside a message",
     {F(TEXT, "a"), F(FIN | TEXT, "b"), END},
     "refused 1002 26 \"a message inside a message\"\n"},
    {"a reserved bit",
     {F(FIN | RSV2 | TEXT, "a"), END},
     "refused 1002 21 \"a reserved bit is set\"\n"},
    {"RSV1 without compression",
     {F(FIN | RSV1 | TEXT, "a"), END},
     "refused 1002 21 \"a reserved bit is set\"\n"},
    {"a reserved opcode",
     {F(FIN | 3, "a"), END},
     "refused 1002 26 \"an opcode that is reserved\"\n"},
    {"a reserved control opcode",
     {F(FIN | 11, ""), END},
     "refused 1002 26 \"an opcode that is reserved\"\n"},
    {"a ping in fragments",
     {F(PING, "a"), F(FIN, "b"), END},
     "refused 1002 20 \"a frame that is none\"\n"},
    {"half a close code", {F(FIN | CLOSE, "\x03"), END}, "refused 1002 17 \"half a close code\"\n"},
    {"a close code that is never sent",
     {F(FIN | CLOSE, "\x03\xed"), END},
     "refused 1002 33 \"a close code that may not be sent\"\n"},
    {"a close code of nobody",
     {F(FIN | CLOSE, "\x07\xd0"), END},
     "refused 1002 33 \"a close code that may not be sent\"\n"},
    {"a reason that is not UTF-8",
     {F(FIN | CLOSE, "\x03\xe8\xff"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"a reason that ends inside a character",
     {F(FIN | CLOSE, "\x03\xe8\xe2\x82"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"text that is not UTF-8",
     {F(FIN | TEXT, "ab\xff"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"text that is not, before its end",
     {F(TEXT, "ab\xc0"), F(0, "c"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"a surrogate",
     {F(FIN | TEXT, "\xed\xa0\x80"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"text that ends inside a character",
     {F(FIN | TEXT, "\xe2\x82"), END},
     "refused 1007 22 \"text that is not UTF-8\"\n"},
    {"binary may be anything", {F(FIN | BINARY, "\xff"), END}, NULL},
    {"more than the limit, in one frame",
     {F(FIN | TEXT, "0123456789abcdefg"), END},
     "refused 1009 22 \"the message is too big\"\n"},
    {"more than the limit, in fragments",
     {F(TEXT, "0123456789abcdef"), F(FIN, "g"), END},
     "refused 1009 22 \"the message is too big\"\n"},
    {"exactly the limit",
     {F(TEXT, "0123456789abcde"), F(FIN, "f"), END},
     "text 16 \"0123456789abcdef\"\n"},
};

static size_t write_story(const struct frame *frames, uint8_t *room)
{
    size_t size = 0;
    for (; frames->first != 0xff; frames++)
        size += websocket_talk_frame(frames->first, frames->payload, room + size);
    return size;
}

static void tell(const char *name, struct bytes bytes, size_t cut, size_t step, const char *heard)
{
    struct websocket_config config = {.message_limit = 16};
    struct websocket_talk talk;
    websocket_talk_init(&talk, &config);
    if (step)
        for (size_t at = 0; at < bytes.size; at += step)
            websocket_talk_hear(&talk, bytes_head(bytes_skip(bytes, at), step));
    else {
        websocket_talk_hear(&talk, bytes_head(bytes, cut));
        websocket_talk_hear(&talk, bytes_skip(bytes, cut));
    }
    if (heard)
        cr_expect_str_eq(text_string(&talk.said), heard, "%s, cut at %zu, steps of %zu", name, cut,
                         step);
    else
        cr_expect(!talk.over, "%s", name);
    websocket_talk_done(&talk);
}

static void tell_every_way(const char *name, struct bytes bytes, const char *heard)
{
    for (size_t cut = 0; cut <= bytes.size; cut++)
        tell(name, bytes, cut, 0, heard);
    tell(name, bytes, 0, 1, heard);
    tell(name, bytes, 0, 3, heard);
}

Test(websocket_frames, every_story_comes_out_the_same_however_it_is_cut)
{
    uint8_t room[512];
    for (size_t i = 0; i < sizeof STORIES / sizeof *STORIES; i++)
        tell_every_way(STORIES[i].name, bytes_of(room, write_story(STORIES[i].frames, room)),
                       STORIES[i].heard);
}

Test(websocket_frames, bytes_that_are_no_frames_are_refused)
{
    static const struct {
        const char *name;
        struct bytes bytes;
        const char *heard;
    } RAW[] = {
        {"no mask", BYTES("\x81\x01x"), "refused 1002 22 \"a frame without a mask\"\n"},
        {"a length of 126 in the long form", BYTES("\x82\xfe\x00\x7d\0\0\0\0x"),
         "refused 1002 20 \"a frame that is none\"\n"},
        {"a length of 2^63", BYTES("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0x"),
         "refused 1002 20 \"a frame that is none\"\n"},
        {"a ping of 126 bytes", BYTES("\x89\xfe\x00\x7e\0\0\0\0x"),
         "refused 1002 20 \"a frame that is none\"\n"},
        {"a message of 2^40 bytes", BYTES("\x82\xff\0\0\1\0\0\0\0\0\0\0\0\0x"),
         "refused 1009 22 \"the message is too big\"\n"},
    };
    for (size_t i = 0; i < sizeof RAW / sizeof *RAW; i++)
        tell_every_way(RAW[i].name, RAW[i].bytes, RAW[i].heard);
}

Test(websocket_frames, a_large_message_is_given_in_parts_and_never_held)
{
    enum { SIZE = 1 << 20 };
    static uint8_t payload[SIZE], frame[SIZE + 16];
    struct websocket_config config = {.message_limit = SIZE};
    struct websocket *websocket = websocket_new(&config);
    struct websocket_event event = {0};
    size_t got = 0;
    for (size_t i = 0; i < SIZE; i++)
        payload[i] = (uint8_t)(i * 7);
    struct bytes input =
        bytes_of(frame, websocket_talk_frame(FIN | BINARY, bytes_of(payload, SIZE), frame));
    while (websocket_next(websocket, &input, &event) == WEBSOCKET_PART) {
        cr_assert_leq(event.bytes.size, 8192);
        cr_assert(!memcmp(event.bytes.at, payload + got, event.bytes.size));
        got += event.bytes.size;
        cr_assert_eq(event.last, got == SIZE);
    }
    cr_expect_eq(got, SIZE);
    websocket_free(websocket);
}

Test(websocket_frames, what_is_written_is_what_the_standard_says)
{
    struct websocket *websocket = websocket_new(&(struct websocket_config){.message_limit = 1});
    uint8_t room[256];
    struct bytes long_reason;
    char reason[130];
    cr_expect_eq(websocket_write_piece(websocket, true, true, true, BYTES("Hello"), room), 7);
    cr_expect(!memcmp(room, "\x81\x05Hello", 7), "RFC 6455 5.7");
    cr_expect_eq(websocket_write_piece(websocket, true, false, false, BYTES("Hel"), room), 5);
    cr_expect(!memcmp(room, "\x01\x03Hel", 5));
    cr_expect_eq(websocket_write_ping(websocket, BYTES(""), room), 2);
    cr_expect(!memcmp(room, "\x89\0", 2), "between two pieces");
    cr_expect_eq(websocket_write_piece(websocket, true, true, false, BYTES("lo"), room), 4);
    cr_expect(!memcmp(room, "\x80\x02lo", 4));
    cr_expect_eq(websocket_write_piece(websocket, false, true, false, BYTES(""), room), 2);
    cr_expect(!memcmp(room, "\x82\0", 2));
    cr_expect_eq(websocket_write_close(websocket, WEBSOCKET_NO_CODE, BYTES("x"), room), 2);
    cr_expect(!memcmp(room, "\x88\0", 2), "1005 is never sent");
    cr_expect_eq(websocket_write_close(websocket, 4001, BYTES("no"), room), 6);
    cr_expect(!memcmp(room, "\x88\x04\x0f\xa1no", 6));
    memset(reason, 'a', sizeof reason);
    memcpy(reason + 122, "\xe2\x82\xac", 3); /* would be cut inside */
    long_reason = bytes_of(reason, sizeof reason);
    cr_expect_eq(websocket_write_close(websocket, 1000, long_reason, room), 4 + 122);
    websocket_free(websocket);
}

Test(websocket_frames, records_come_out_the_same_however_they_are_cut)
{
    uint8_t bytes[64];
    size_t size = 0;
    websocket_record_write_head(WEBSOCKET_KIND_TEXT, false, 3, bytes);
    memcpy(bytes + 5, "abc", 3);
    websocket_record_write_head(WEBSOCKET_KIND_TEXT, true, 0, bytes + 8);
    websocket_record_write_head(WEBSOCKET_KIND_BINARY, true, 4, bytes + 13);
    memcpy(bytes + 18, "\x03\xe8ok", 4);
    size = 22;
    for (size_t cut = 0; cut <= size; cut++) {
        struct websocket_record_reader reader = {0};
        struct websocket_record record;
        char said[64] = "";
        for (int half = 0; half < 2; half++) {
            struct bytes input = half ? bytes_of(bytes + cut, size - cut) : bytes_of(bytes, cut);
            while (websocket_record_next(&reader, &input, &record) == 1) {
                strncat(said, (const char *)record.bytes.at, record.bytes.size);
                strcat(said, record.last ? "." : "");
            }
        }
        cr_expect_str_eq(said, "abc.\x03\xe8ok.", "cut at %zu", cut);
    }
}

Test(websocket_frames, broken_records_are_noticed)
{
    static const struct bytes BROKEN[] = {
        BYTES("\x07\0\0\0\0"), /* a kind of nothing */
        BYTES("\x88\x02\0\0\0ab"),
        BYTES("\x01\x01\0\0\0a\x82\0\0\0\0"), /* a message of two kinds */
    };
    for (size_t i = 0; i < sizeof BROKEN / sizeof *BROKEN; i++) {
        struct websocket_record_reader reader = {0};
        struct websocket_record record;
        struct bytes input = BROKEN[i];
        int code;
        while ((code = websocket_record_next(&reader, &input, &record)) == 1)
            ;
        cr_expect_eq(code, -1, "%zu", i);
    }
}
