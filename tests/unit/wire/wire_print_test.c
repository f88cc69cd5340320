/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as lines for traces: exact for some, always one line and bounded for all.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mem.h"
#include "rng.h"
#include "text.h"
#include "wire.h"

enum { LINE_LIMIT = 16 * 1024 };

static void assert_line(const uint8_t *frame, size_t size, const char *expected)
{
    struct wire_header header;
    struct text line;
    text_init(&line, LINE_LIMIT);
    wire_header_read(&header, frame);
    wire_print(&header, bytes_of(frame + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE), &line);
    cr_assert_str_eq(text_string(&line), expected);
    text_done(&line);
}

Test(wire_print, a_frame_shows_its_name_stream_flags_and_fields)
{
    uint8_t memory[256];
    struct wire_reply reply = {.code = -8,
                               .status = 408,
                               .queue_length = 2,
                               .body_size = UINT64_MAX,
                               .content_type = BYTES("text/plain"),
                               .headers = BYTES("abc"),
                               .error = BYTES("too \"late\"\n"),
                               .body = BYTES("12345")};
    size_t size = wire_reply_write(&reply, WIRE_END, 42, false, memory);
    assert_line(memory, size,
                "reply stream=42 flags=END code=-8 status=408 queue_length=2 "
                "body_size=18446744073709551615 "
                "content_type=\"text/plain\" headers=(3 bytes) error=\"too \\\"late\\\"\\n\" "
                "body=(5 bytes)");
}

Test(wire_print, a_frame_without_fields_and_flags_is_its_name_and_stream)
{
    uint8_t memory[WIRE_HEADER_SIZE];
    struct wire_replica_list list = {{0}};
    size_t size = wire_replica_list_write(&list, 0, 0, false, memory);
    assert_line(memory, size, "replica_list stream=0");
}

Test(wire_print, long_texts_are_cut)
{
    char letters[100], expected[200];
    uint8_t memory[256];
    struct wire_progress progress = {.text = bytes_of(letters, sizeof(letters))};
    memset(letters, 'a', sizeof(letters));
    size_t size = wire_progress_write(&progress, 0, 3, false, memory);
    snprintf(expected, sizeof(expected), "progress stream=3 text=\"%.64s\"(100 bytes)", letters);
    assert_line(memory, size, expected);
}

Test(wire_print, unknown_frames_and_flags_are_shown_as_numbers)
{
    uint8_t memory[WIRE_HEADER_SIZE + 3] = {0};
    struct wire_header header = {.size = 3, .type = 200, .flags = 0xFF, .stream = 1};
    wire_header_write(&header, memory);
    assert_line(memory, sizeof(memory),
                "unknown stream=1 flags=END|STREAM|DESCRIPTOR|0x8|0x10|0x20|0x40|0x80 type=200 "
                "payload=(3 bytes)");
}

Test(wire_print, a_broken_payload_is_marked)
{
    uint8_t memory[WIRE_HEADER_SIZE + 3] = {3, 0, 0, 0, WIRE_CREDIT_FRAME};
    assert_line(memory, sizeof(memory), "credit stream=0 size=0 (broken)");
}

Test(wire_print, any_payload_of_any_type_is_one_short_line)
{
    struct rng rng;
    struct text line;
    text_init(&line, LINE_LIMIT);
    rng_init(&rng, 12);
    for (int round = 0; round < 20000; round++) {
        size_t size = rng_below(&rng, 200);
        uint8_t *memory = mem_new(size + 1);
        struct wire_header header = {.size = (uint32_t)size, .type = (uint8_t)rng_below(&rng, 40)};
        for (size_t i = 0; i < size; i++)
            memory[i] = (uint8_t)rng_below(&rng, rng_chance(&rng, 1, 2) ? 3 : 256);
        text_clear(&line);
        wire_print(&header, bytes_of(memory, size), &line);
        cr_assert_not(line.failed);
        cr_assert_eq(bytes_find(text_bytes(&line), '\n'), -1);
        mem_free(memory);
    }
    text_done(&line);
}

Test(wire_print, lack_of_memory_shows_in_the_text)
{
    uint8_t memory[256];
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_PROXY, 0,
                    BYTES("a name long enough that the line has to grow a few times"));
    size_t size = wire_hello_write(&hello, 0, 0, false, memory);
    struct wire_header header;
    wire_header_read(&header, memory);
    uint64_t nth = 1;
    for (;; nth++) {
        struct text line;
        text_init(&line, LINE_LIMIT);
        mem_fail_at(nth);
        wire_print(&header, bytes_of(memory + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE), &line);
        mem_fail_at(0);
        bool failed = line.failed;
        text_done(&line);
        if (!failed)
            break;
    }
    cr_assert_gt(nth, 2, "some allocations were refused before it passed");
    cr_assert_eq(mem_count().live, 0);
}
