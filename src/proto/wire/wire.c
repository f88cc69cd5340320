/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The encoders and decoders of every frame, and the judgement of a hello.
 *
 * Nothing here names a frame: tables/wire.def is expanded once for sizes, once for writing and once
 * for reading, and each field type has three small inline functions that the expansion calls.
 * Numbers are copied as they lie in memory, because every machine that this runs on is
 * little-endian (checked below).
 *
 * Reading keeps one flag instead of leaving early: a field that the rest of the payload cannot hold
 * turns the rest empty, and everything after it reads as zero.  When the rest was empty already,
 * the payload comes from an older peer that does not know the field, which is fine; when it was
 * not, the payload ends inside a field and is broken.  In a frame with a body that rule has no
 * force, since what an older peer sends behind its last field is its body: fields can never be
 * added to such a frame, and the table is held to that at compile time.
 */
#include "wire.h"

#include "ensure.h"
#include "settings.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "numbers are written as they lie in memory");

#define FIXED_FIELD(type, name, since, sentence)                                                   \
    _Static_assert((since) == 1,                                                                   \
                   #name " was added to a frame with a body: make a new frame instead");
#define FREE_FIELD(type, name, since, sentence)                                                    \
    _Static_assert((since) >= 1 && (since) <= WIRE_VERSION, #name " is newer than WIRE_VERSION");
#define FIELD_RULE_0 FREE_FIELD
#define FIELD_RULE_1 FIXED_FIELD
#define CHECK_FRAME(number, name, NAME, has_body, since, sentence)                                 \
    _Static_assert((since) <= WIRE_VERSION, #name " is newer than WIRE_VERSION");                  \
    _Static_assert((number) > 0 && (number) <= UINT8_MAX, #name " does not fit the type byte");    \
    WIRE_##NAME(FIELD_RULE_##has_body)
WIRE_FRAMES(CHECK_FRAME)
#undef CHECK_FRAME
#undef FIXED_FIELD
#undef FREE_FIELD

/* Header. */

void wire_header_read(struct wire_header *header, const uint8_t *at)
{
    memcpy(&header->size, at, 4);
    header->type = at[4];
    header->flags = at[5];
    memcpy(&header->stream, at + 8, 8);
}

void wire_header_write(const struct wire_header *header, uint8_t *at)
{
    memcpy(at, &header->size, 4);
    at[4] = header->type;
    at[5] = header->flags;
    at[6] = at[7] = 0;
    memcpy(at + 8, &header->stream, 8);
}

/* What is left of a payload. */
struct reader {
    struct bytes rest;
    bool broken; /* it ended inside a field */
};

/* The next `size` bytes, or null when there are fewer; then nothing is left. */
static inline const uint8_t *reader_take(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->rest.at;
    if (__builtin_expect(reader->rest.size < size, 0)) {
        reader->broken |= reader->rest.size > 0;
        reader->rest.size = 0;
        return NULL;
    }
    if (size > 0)
        reader->rest = (struct bytes){at + size, reader->rest.size - size};
    return at;
}

/* `size` bytes behind a length that was read: fewer is broken also when none are left. */
static inline struct bytes reader_take_slice(struct reader *reader, size_t size)
{
    const uint8_t *at = reader->rest.at;
    if (__builtin_expect(reader->rest.size < size, 0)) {
        reader->broken = true;
        reader->rest.size = 0;
        return (struct bytes){NULL, 0};
    }
    if (size > 0)
        reader->rest = (struct bytes){at + size, reader->rest.size - size};
    return (struct bytes){at, size};
}

/* Field types: size_x, put_x, take_x. */

#define NUMBER(type)                                                                               \
    static inline size_t size_##type(WIRE_C_##type value)                                          \
    {                                                                                              \
        return sizeof(value);                                                                      \
    }                                                                                              \
    static inline uint8_t *put_##type(uint8_t *at, WIRE_C_##type value)                            \
    {                                                                                              \
        memcpy(at, &value, sizeof(value));                                                         \
        return at + sizeof(value);                                                                 \
    }                                                                                              \
    static inline void take_##type(struct reader *reader, WIRE_C_##type *ret_value)                \
    {                                                                                              \
        const uint8_t *at = reader_take(reader, sizeof(*ret_value));                               \
        WIRE_C_##type value = 0;                                                                   \
        if (__builtin_expect(at != NULL, 1))                                                       \
            memcpy(&value, at, sizeof(value));                                                     \
        *ret_value = value;                                                                        \
    }
NUMBER(u8)
NUMBER(u16)
NUMBER(u32)
NUMBER(u64)
NUMBER(i32)
NUMBER(i64)
#undef NUMBER

static inline uint8_t *put_slice(uint8_t *at, struct bytes value)
{
    if (value.size > 0)
        memcpy(at, value.at, value.size);
    return at + value.size;
}

static inline size_t size_text(struct bytes value)
{
    return sizeof(uint16_t) + bytes_head(value, WIRE_TEXT_LIMIT).size;
}

static inline uint8_t *put_text(uint8_t *at, struct bytes value)
{
    value = bytes_head(value, WIRE_TEXT_LIMIT);
    return put_slice(put_u16(at, (uint16_t)value.size), value);
}

static inline void take_text(struct reader *reader, struct bytes *ret_value)
{
    uint16_t size;
    take_u16(reader, &size);
    *ret_value = reader_take_slice(reader, size);
}

static inline size_t size_blob(struct bytes value)
{
    return sizeof(uint32_t) + value.size;
}

static inline uint8_t *put_blob(uint8_t *at, struct bytes value)
{
    ensure(value.size <= UINT32_MAX);
    return put_slice(put_u32(at, (uint32_t)value.size), value);
}

static inline void take_blob(struct reader *reader, struct bytes *ret_value)
{
    uint32_t size;
    take_u32(reader, &size);
    *ret_value = reader_take_slice(reader, size);
}

/* Frames. */

#define SIZE_FIELD(type, name, since, sentence) size += size_##type(frame->name);
#define SIZE(number, name, NAME, has_body, since, sentence)                                        \
    size_t wire_##name##_size(const struct wire_##name *frame)                                     \
    {                                                                                              \
        size_t size = WIRE_HEADER_SIZE + frame->body.size;                                         \
        ensure((has_body) || frame->body.size == 0);                                               \
        WIRE_##NAME(SIZE_FIELD);                                                                   \
        return size;                                                                               \
    }
WIRE_FRAMES(SIZE)
#undef SIZE
#undef SIZE_FIELD

/* The header in front of the fields that end at `end`, and the body behind them. */
static inline size_t frame_write_end(struct wire_header header, uint8_t *at, uint8_t *end,
                                     struct bytes body, bool body_apart)
{
    size_t size = (size_t)(end - at) - WIRE_HEADER_SIZE + body.size;
    ensure(size <= UINT32_MAX);
    header.size = (uint32_t)size;
    wire_header_write(&header, at);
    if (!body_apart)
        end = put_slice(end, body);
    return (size_t)(end - at);
}

#define WRITE_FIELD(type, name, since, sentence) end = put_##type(end, frame->name);
#define WRITE(number, name, NAME, has_body, since, sentence)                                       \
    size_t wire_##name##_write(const struct wire_##name *frame, uint8_t flags, uint64_t stream,    \
                               bool body_apart, uint8_t *at)                                       \
    {                                                                                              \
        struct wire_header header = {.type = (number), .flags = flags, .stream = stream};          \
        uint8_t *end = at + WIRE_HEADER_SIZE;                                                      \
        ensure((has_body) || frame->body.size == 0);                                               \
        WIRE_##NAME(WRITE_FIELD);                                                                  \
        return frame_write_end(header, at, end, frame->body, body_apart);                          \
    }
WIRE_FRAMES(WRITE)
#undef WRITE
#undef WRITE_FIELD

#define READ_FIELD(type, name, since, sentence) take_##type(&reader, &ret_frame->name);
#define READ(number, name, NAME, has_body, since, sentence)                                        \
    int wire_##name##_read(struct wire_##name *ret_frame, struct bytes payload)                    \
    {                                                                                              \
        struct reader reader = {.rest = payload};                                                  \
        WIRE_##NAME(READ_FIELD);                                                                   \
        ret_frame->body = (has_body) ? reader.rest : (struct bytes){NULL, 0};                      \
        return reader.broken ? -1 : 0;                                                             \
    }
WIRE_FRAMES(READ)
#undef READ
#undef READ_FIELD

const char *wire_frame_name(uint8_t type)
{
    static const char *const names[WIRE_FRAME_COUNT] = {
#define NAME_ROW(number, name, NAME, has_body, since, sentence) [number] = #name,
        WIRE_FRAMES(NAME_ROW)
#undef NAME_ROW
    };
    const char *name = type < WIRE_FRAME_COUNT ? names[type] : NULL;
    return name ? name : "unknown";
}

/* Hello.  Its limits are settings: default, least and most come from their table. */

static const struct settings setting_defaults = {
#define SETTING(name, value, minimum, maximum, unit, sentence) .name = (value),
#include "settings.def"
#undef SETTING
};
static const struct settings setting_minima = {
#define SETTING(name, value, minimum, maximum, unit, sentence) .name = (minimum),
#include "settings.def"
#undef SETTING
};
static const struct settings setting_maxima = {
#define SETTING(name, value, minimum, maximum, unit, sentence) .name = (maximum),
#include "settings.def"
#undef SETTING
};

void wire_hello_fill(struct wire_hello *hello, enum wire_role role, uint64_t id, struct bytes name)
{
    ensure(role > WIRE_ROLE_NONE && role < WIRE_ROLE_COUNT);
    ensure((role == WIRE_ROLE_REPLICA) == (id != 0));
    *hello = (struct wire_hello){
        .magic = WIRE_MAGIC,
        .version_least = WIRE_VERSION_LEAST,
        .version_most = WIRE_VERSION,
        .role = (uint8_t)role,
        .id = id,
        .frame_limit = (uint32_t)setting_defaults.wire_frame_limit,
        .stream_credit = (uint32_t)setting_defaults.wire_stream_credit,
        .stream_limit = (uint32_t)setting_defaults.request_limit,
        .name = name,
    };
}

size_t wire_return_write(const struct wire_role_here *here, uint32_t pid, uint8_t *ret_bytes,
                         size_t size)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, (enum wire_role)here->role,
                    here->role == WIRE_ROLE_REPLICA ? here->number : 0, here->deployment);
    hello.pid = pid;
    if (wire_hello_size(&hello) + wire_role_here_size(here) > size)
        return 0;
    size_t used = wire_hello_write(&hello, WIRE_DESCRIPTOR, 0, false, ret_bytes);
    return used + wire_role_here_write(here, 0, 0, false, ret_bytes + used);
}

/* Null, or why these limits cannot be worked with. */
static const char *hello_limits_reason(const struct wire_hello *hello)
{
    if (hello->frame_limit < setting_minima.wire_frame_limit)
        return "the peer's frame limit is below 65536 bytes";
    if (hello->stream_credit < setting_minima.wire_stream_credit)
        return "the peer's stream credit is below 65536 bytes";
    /* Credit is added up in 32 bits: the first grant must leave room for more. */
    if (hello->stream_credit > setting_maxima.wire_stream_credit)
        return "the peer's stream credit is above 16 MiB";
    if (hello->taken_count > setting_maxima.request_limit)
        return "the peer has more taken marks than requests can be";
    if (hello->role == WIRE_ROLE_REPLICA && hello->stream_limit == 0)
        return "the replica takes no streams";
    return NULL;
}

/* Null, or why this is no peer for us. */
static const char *hello_reason(const struct wire_hello *hello)
{
    if (hello->magic != WIRE_MAGIC)
        return "the peer does not speak Manta's wire protocol";
    if (hello->version_least == 0 || hello->version_least > hello->version_most)
        return "the peer's range of wire versions is empty";
    if (hello->version_least > WIRE_VERSION)
        return "the peer speaks only newer versions of the wire protocol";
    if (hello->version_most < WIRE_VERSION_LEAST)
        return "the peer speaks only older versions of the wire protocol";
    if (hello->role == WIRE_ROLE_NONE || hello->role >= WIRE_ROLE_COUNT)
        return "the peer's role is unknown";
    if (hello->role == WIRE_ROLE_REPLICA && hello->id == 0)
        return "the replica has no id";
    return hello_limits_reason(hello);
}

int wire_hello_check(const struct wire_hello *hello, uint16_t *ret_version, const char **ret_reason)
{
    const char *reason = hello_reason(hello);
    if (reason) {
        *ret_version = 0;
        *ret_reason = reason;
        return -1;
    }
    *ret_version = hello->version_most < WIRE_VERSION ? hello->version_most : WIRE_VERSION;
    *ret_reason = NULL;
    ensure(*ret_version >= WIRE_VERSION_LEAST && *ret_version >= hello->version_least);
    return 0;
}
