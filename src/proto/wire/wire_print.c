/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frame as one line for traces: "request stream=7 flags=END deployment=3 ... method=\"GET\"
 * body=(5 bytes)".
 *
 * Generated from the table like the decoders, and by way of them: what is printed is what
 * wire_x_read understood.  Texts are cut and blobs and bodies shown by size, so that a line stays
 * short whatever the peer sent, and a trace does not carry the users' payloads.
 */
#include "wire.h"

#include <inttypes.h>

#include "text.h"

enum { PRINT_TEXT_LIMIT = 64 /* bytes of a text that are shown */ };

static void print_unsigned(struct text *out, const char *name, uint64_t value)
{
    text_print(out, " %s=%" PRIu64, name, value);
}

static void print_signed(struct text *out, const char *name, int64_t value)
{
    text_print(out, " %s=%" PRId64, name, value);
}

static void print_text(struct text *out, const char *name, struct bytes value)
{
    text_print(out, " %s=", name);
    text_add_json(out, bytes_head(value, PRINT_TEXT_LIMIT));
    if (value.size > PRINT_TEXT_LIMIT)
        text_print(out, "(%zu bytes)", value.size);
}

static void print_blob(struct text *out, const char *name, struct bytes value)
{
    text_print(out, " %s=(%zu bytes)", name, value.size);
}

#define print_u8 print_unsigned
#define print_u16 print_unsigned
#define print_u32 print_unsigned
#define print_u64 print_unsigned
#define print_i32 print_signed
#define print_i64 print_signed

#define PRINT_FIELD(type, name, since, sentence) print_##type(out, #name, frame.name);
#define PRINT(number, name, NAME, has_body, since, sentence)                                       \
    static void print_frame_##name(struct bytes payload, struct text *out)                         \
    {                                                                                              \
        struct wire_##name frame;                                                                  \
        int broken = wire_##name##_read(&frame, payload);                                          \
        WIRE_##NAME(PRINT_FIELD);                                                                  \
        if (has_body)                                                                              \
            print_blob(out, "body", frame.body);                                                   \
        if (broken)                                                                                \
            text_add_string(out, " (broken)");                                                     \
    }
WIRE_FRAMES(PRINT)
#undef PRINT
#undef PRINT_FIELD

static void print_flags(struct text *out, uint8_t flags)
{
    static const char *const names[] = {"END", "STREAM", "DESCRIPTOR"};
    const char *separator = " flags=";
    for (unsigned bit = 0; bit < 8; bit++) {
        if (!(flags & (1u << bit)))
            continue;
        text_add_string(out, separator);
        if (bit < sizeof(names) / sizeof(names[0]))
            text_add_string(out, names[bit]);
        else
            text_print(out, "0x%x", 1u << bit);
        separator = "|";
    }
}

void wire_print(const struct wire_header *header, struct bytes payload, struct text *out)
{
    text_add_string(out, wire_frame_name(header->type));
    print_unsigned(out, "stream", header->stream);
    print_flags(out, header->flags);
    switch (header->type) {
#define CASE(number, name, NAME, has_body, since, sentence)                                        \
    case number:                                                                                   \
        print_frame_##name(payload, out);                                                          \
        break;
        WIRE_FRAMES(CASE)
#undef CASE
    default:
        print_unsigned(out, "type", header->type);
        print_blob(out, "payload", payload);
    }
}
