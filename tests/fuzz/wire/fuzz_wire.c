/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target for the wire: one frame, header and payload, from anybody.
 *
 * The encoder is the decoder's oracle.  What a decoder accepts is written again: the bytes must be
 * the ones that were read (as far as both reach: an older peer's payload is shorter, a newer one's
 * longer), and must read as the same frame.  Field blocks, the hello's judgement and the trace line
 * get the same input.
 */
#include "ensure.h"
#include "mem.h"
#include "text.h"
#include "wire.h"

enum { LINE_LIMIT = 64 * 1024, FIELD_ROOM = 4 + 65535 + 65535 };

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static bool same_number(uint64_t a, uint64_t b)
{
    return a == b;
}

#define same_u8 same_number
#define same_u16 same_number
#define same_u32 same_number
#define same_u64 same_number
#define same_i32 same_number
#define same_i64 same_number
#define same_text bytes_equal
#define same_blob bytes_equal

static void walk_block(struct bytes block)
{
    struct bytes rest = block, name, value, found;
    uint8_t *again = mem_new(FIELD_ROOM);
    while (rest.size > 0) {
        const uint8_t *field = rest.at;
        if (!wire_field_next(&rest, &name, &value))
            break;
        size_t size = wire_field_write(again, FIELD_ROOM, name, value);
        ensure(bytes_equal(bytes_of(again, size), bytes_of(field, (size_t)(rest.at - field))));
        ensure(wire_field_find(block, name, &found));
    }
    mem_free(again);
}

static void judge_hello(const struct wire_hello *hello)
{
    uint16_t version;
    const char *reason;
    if (wire_hello_check(hello, &version, &reason) == 0)
        ensure(version >= hello->version_least && version <= hello->version_most && !reason);
    else
        ensure(reason && reason[0]);
}

#define SAME_FIELD(type, field, since, sentence) ensure(same_##type(frame.field, again.field));
#define CHECK(number, name, NAME, has_body, since, sentence)                                       \
    static void check_##name(const struct wire_header *header, struct bytes payload)               \
    {                                                                                              \
        struct wire_##name frame, again;                                                           \
        if (wire_##name##_read(&frame, payload) < 0)                                               \
            return;                                                                                \
        size_t size = wire_##name##_size(&frame), payload_size = size - WIRE_HEADER_SIZE;          \
        uint8_t *memory = mem_new(size);                                                           \
        ensure(wire_##name##_write(&frame, header->flags, header->stream, false, memory) == size); \
        struct bytes written = bytes_of(memory + WIRE_HEADER_SIZE, payload_size);                  \
        ensure(bytes_equal(bytes_head(written, payload.size), bytes_head(payload, payload_size))); \
        ensure(wire_##name##_read(&again, written) == 0);                                          \
        WIRE_##NAME(SAME_FIELD);                                                                   \
        ensure(bytes_equal(frame.body, again.body));                                               \
        mem_free(memory);                                                                          \
    }
WIRE_FRAMES(CHECK)

static void check_frame_of_type(const struct wire_header *header, struct bytes payload)
{
    switch (header->type) {
#define CASE(number, name, NAME, has_body, since, sentence)                                        \
    case number:                                                                                   \
        check_##name(header, payload);                                                             \
        break;
        WIRE_FRAMES(CASE)
#undef CASE
    default:
        ensure(strcmp(wire_frame_name(header->type), "unknown") == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size)
{
    struct wire_header header;
    struct wire_hello hello;
    struct wire_request request;
    struct text line;
    if (size < WIRE_HEADER_SIZE)
        return 0;
    wire_header_read(&header, at);
    struct bytes payload = bytes_of(at + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE);
    check_frame_of_type(&header, payload);
    if (wire_hello_read(&hello, payload) == 0)
        judge_hello(&hello);
    if (wire_request_read(&request, payload) == 0)
        walk_block(request.headers);
    walk_block(payload);
    text_init(&line, LINE_LIMIT);
    wire_print(&header, payload, &line);
    ensure(!line.failed && bytes_find(text_bytes(&line), '\n') < 0);
    text_done(&line);
    return 0;
}
