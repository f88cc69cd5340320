/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every frame of the table: what is written is read back; what is cut, at every place, is judged
 * rightly.
 *
 * Like the codecs these tests name no frame: the table is expanded into a `struct frame_case` per
 * frame, so a frame or field that is added is tested without a line here.  Only the golden bytes at
 * the end are about three frames: they are the wire format, written down by hand, and a change of
 * them is a change of the protocol. Payloads are read from blocks of exactly their size, so that
 * ASan sees a byte read too many.
 */
#include <criterion/criterion.h>
#include <signal.h>

#include "ensure.h"
#include "mem.h"
#include "rng.h"
#include "wire.h"

enum { FIELD_LIMIT = 32, ROUNDS = 50, TEXT_SIZE_LIMIT = 40, FRAME_ROOM = 64 * 1024 };

enum field_kind { FIELD_NUMBER, FIELD_TEXT, FIELD_BLOB };
#define KIND_u8 FIELD_NUMBER
#define KIND_u16 FIELD_NUMBER
#define KIND_u32 FIELD_NUMBER
#define KIND_u64 FIELD_NUMBER
#define KIND_i32 FIELD_NUMBER
#define KIND_i64 FIELD_NUMBER
#define KIND_text FIELD_TEXT
#define KIND_blob FIELD_BLOB

union any_frame {
#define MEMBER(number, name, NAME, has_body, since, sentence) struct wire_##name name;
    WIRE_FRAMES(MEMBER)
#undef MEMBER
};

/* Where the fields of one written payload begin; the last entry is where they end. */
struct layout {
    size_t count;
    size_t offset[FIELD_LIMIT + 1];
    enum field_kind kind[FIELD_LIMIT];
};

struct frame_case {
    const char *name;
    uint8_t number;
    bool has_body;
    void (*fill)(struct rng *rng, union any_frame *frame);
    size_t (*size)(const union any_frame *frame);
    size_t (*write)(const union any_frame *frame, uint8_t flags, uint64_t stream, bool body_apart,
                    uint8_t *at);
    int (*read)(union any_frame *ret_frame, struct bytes payload);
    void (*lay_out)(const union any_frame *frame, struct layout *ret_layout);
    /* True when the first `count` fields are equal, and all others of `b` zero. */
    bool (*fields_equal)(const union any_frame *a, const union any_frame *b, size_t count);
    struct bytes (*body)(const union any_frame *frame);
};

/* Random numbers with many small and many extreme ones; random slices of random bytes. */

static uint8_t noise[4096];

static void noise_fill(struct rng *rng)
{
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)rng_next(rng);
}

static uint64_t random_number(struct rng *rng)
{
    switch (rng_below(rng, 4)) {
    case 0:
        return rng_below(rng, 3);
    case 1:
        return UINT64_MAX - rng_below(rng, 3);
    default:
        return rng_next(rng);
    }
}

static struct bytes random_slice(struct rng *rng)
{
    size_t size = rng_chance(rng, 1, 4) ? 0 : rng_below(rng, TEXT_SIZE_LIMIT);
    return bytes_of(noise + rng_below(rng, sizeof(noise) - TEXT_SIZE_LIMIT), size);
}

#define FILL_NUMBER(type)                                                                          \
    static void fill_##type(struct rng *rng, WIRE_C_##type *ret_value)                             \
    {                                                                                              \
        *ret_value = (WIRE_C_##type)random_number(rng);                                            \
    }                                                                                              \
    static bool equal_##type(WIRE_C_##type a, WIRE_C_##type b)                                     \
    {                                                                                              \
        return a == b;                                                                             \
    }                                                                                              \
    static bool zero_##type(WIRE_C_##type a)                                                       \
    {                                                                                              \
        return a == 0;                                                                             \
    }                                                                                              \
    static size_t size_##type(WIRE_C_##type a)                                                     \
    {                                                                                              \
        return sizeof(a);                                                                          \
    }
FILL_NUMBER(u8)
FILL_NUMBER(u16)
FILL_NUMBER(u32)
FILL_NUMBER(u64)
FILL_NUMBER(i32)
FILL_NUMBER(i64)

#define FILL_SLICE(type, length_size)                                                              \
    static void fill_##type(struct rng *rng, struct bytes *ret_value)                              \
    {                                                                                              \
        *ret_value = random_slice(rng);                                                            \
    }                                                                                              \
    static bool equal_##type(struct bytes a, struct bytes b)                                       \
    {                                                                                              \
        return bytes_equal(a, b);                                                                  \
    }                                                                                              \
    static bool zero_##type(struct bytes a)                                                        \
    {                                                                                              \
        return a.size == 0;                                                                        \
    }                                                                                              \
    static size_t size_##type(struct bytes a)                                                      \
    {                                                                                              \
        return (length_size) + a.size;                                                             \
    }
FILL_SLICE(text, 2)
FILL_SLICE(blob, 4)

/* The table as functions of one shape. */

#define FILL_FIELD(type, field, since, sentence) fill_##type(rng, &frame->field);
#define LAY_FIELD(type, field, since, sentence)                                                    \
    layout->kind[layout->count] = KIND_##type;                                                     \
    layout->offset[layout->count + 1] = layout->offset[layout->count] + size_##type(frame->field); \
    layout->count++;
#define EQUAL_FIELD(type, field, since, sentence)                                                  \
    equal &= index++ < count ? equal_##type(a->field, b->field) : zero_##type(b->field);

#define FUNCTIONS(number, frame_name, NAME, has_body, since, sentence)                             \
    static void fill_frame_##frame_name(struct rng *rng, union any_frame *any)                     \
    {                                                                                              \
        struct wire_##frame_name *frame = &any->frame_name;                                        \
        memset(any, 0, sizeof(*any));                                                              \
        WIRE_##NAME(FILL_FIELD);                                                                   \
        frame->body = (has_body) ? random_slice(rng) : bytes_of(NULL, 0);                          \
    }                                                                                              \
    static size_t size_frame_##frame_name(const union any_frame *any)                              \
    {                                                                                              \
        return wire_##frame_name##_size(&any->frame_name);                                         \
    }                                                                                              \
    static size_t write_frame_##frame_name(const union any_frame *any, uint8_t flags,              \
                                           uint64_t stream, bool body_apart, uint8_t *at)          \
    {                                                                                              \
        return wire_##frame_name##_write(&any->frame_name, flags, stream, body_apart, at);         \
    }                                                                                              \
    static int read_frame_##frame_name(union any_frame *any, struct bytes payload)                 \
    {                                                                                              \
        memset(any, 0xEE, sizeof(*any));                                                           \
        return wire_##frame_name##_read(&any->frame_name, payload);                                \
    }                                                                                              \
    static void lay_out_frame_##frame_name(const union any_frame *any, struct layout *layout)      \
    {                                                                                              \
        const struct wire_##frame_name *frame = &any->frame_name;                                  \
        *layout = (struct layout){0};                                                              \
        (void)frame;                                                                               \
        WIRE_##NAME(LAY_FIELD);                                                                    \
        ensure(layout->count <= FIELD_LIMIT);                                                      \
    }                                                                                              \
    static bool equal_frame_##frame_name(const union any_frame *any_a,                             \
                                         const union any_frame *any_b, size_t count)               \
    {                                                                                              \
        const struct wire_##frame_name *a = &any_a->frame_name, *b = &any_b->frame_name;           \
        size_t index = 0;                                                                          \
        bool equal = true;                                                                         \
        (void)a, (void)b, (void)index;                                                             \
        WIRE_##NAME(EQUAL_FIELD);                                                                  \
        return equal;                                                                              \
    }                                                                                              \
    static struct bytes body_frame_##frame_name(const union any_frame *any)                        \
    {                                                                                              \
        return any->frame_name.body;                                                               \
    }
WIRE_FRAMES(FUNCTIONS)

static const struct frame_case cases[] = {
#define CASE(number, name, NAME, has_body, since, sentence)                                        \
    {#name,                                                                                        \
     number,                                                                                       \
     has_body,                                                                                     \
     fill_frame_##name,                                                                            \
     size_frame_##name,                                                                            \
     write_frame_##name,                                                                           \
     read_frame_##name,                                                                            \
     lay_out_frame_##name,                                                                         \
     equal_frame_##name,                                                                           \
     body_frame_##name},
    WIRE_FRAMES(CASE)
#undef CASE
};
enum { CASE_COUNT = sizeof(cases) / sizeof(cases[0]) };

/* A copy of exactly its size; the caller frees. */
static uint8_t *copy_exactly(const uint8_t *at, size_t size)
{
    uint8_t *copy = mem_new(size ? size : 1);
    memcpy(copy, at, size);
    return copy;
}

static int read_exactly(const struct frame_case *frame_case, union any_frame *ret_frame,
                        struct bytes payload, uint8_t **ret_memory)
{
    *ret_memory = copy_exactly(payload.at, payload.size);
    return frame_case->read(ret_frame, bytes_of(*ret_memory, payload.size));
}

struct written {
    union any_frame frame;
    struct layout layout;
    struct bytes payload;
    uint8_t memory[FRAME_ROOM];
};

static void write_random(const struct frame_case *frame_case, struct rng *rng,
                         struct written *written)
{
    noise_fill(rng);
    frame_case->fill(rng, &written->frame);
    frame_case->lay_out(&written->frame, &written->layout);
    size_t size = frame_case->write(&written->frame, 0, 0, false, written->memory);
    written->payload = bytes_of(written->memory + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE);
}

static struct written written; /* too large for a stack */

Test(wire_frame, every_frame_comes_back_as_it_was_written)
{
    struct rng rng;
    rng_init(&rng, 1);
    noise_fill(&rng);
    for (size_t i = 0; i < CASE_COUNT * ROUNDS; i++) {
        const struct frame_case *c = &cases[i % CASE_COUNT];
        uint8_t flags = (uint8_t)rng_next(&rng);
        uint64_t stream = random_number(&rng);
        union any_frame again;
        struct wire_header header;

        c->fill(&rng, &written.frame);
        c->lay_out(&written.frame, &written.layout);
        size_t size = c->write(&written.frame, flags, stream, false, written.memory);
        cr_assert_eq(size, c->size(&written.frame), "%s", c->name);
        wire_header_read(&header, written.memory);
        cr_assert_eq(header.size, size - WIRE_HEADER_SIZE, "%s", c->name);
        cr_assert_eq(header.type, c->number, "%s", c->name);
        cr_assert_eq(header.flags, flags, "%s", c->name);
        cr_assert_eq(header.stream, stream, "%s", c->name);
        cr_assert_eq(written.layout.offset[written.layout.count] + c->body(&written.frame).size,
                     header.size, "%s", c->name);

        cr_assert_eq(c->read(&again, bytes_of(written.memory + WIRE_HEADER_SIZE, header.size)), 0,
                     "%s", c->name);
        cr_assert(c->fields_equal(&written.frame, &again, written.layout.count), "%s", c->name);
        cr_assert(bytes_equal(c->body(&written.frame), c->body(&again)), "%s", c->name);
    }
}

Test(wire_frame, writing_stays_inside_the_size_it_said)
{
    struct rng rng;
    rng_init(&rng, 2);
    noise_fill(&rng);
    for (size_t i = 0; i < CASE_COUNT * ROUNDS; i++) {
        const struct frame_case *c = &cases[i % CASE_COUNT];
        c->fill(&rng, &written.frame);
        size_t size = c->size(&written.frame);
        uint8_t *memory = mem_new(size + 1);
        memory[size] = 0xA5;
        cr_assert_eq(c->write(&written.frame, 0, 0, false, memory), size, "%s", c->name);
        cr_assert_eq(memory[size], 0xA5, "%s", c->name);
        mem_free(memory);
    }
}

Test(wire_frame, a_body_sent_apart_is_counted_but_not_copied)
{
    struct rng rng;
    rng_init(&rng, 3);
    noise_fill(&rng);
    for (size_t i = 0; i < CASE_COUNT * ROUNDS; i++) {
        const struct frame_case *c = &cases[i % CASE_COUNT];
        struct wire_header header;
        c->fill(&rng, &written.frame);
        size_t whole = c->size(&written.frame), body_size = c->body(&written.frame).size;
        cr_assert_eq(c->write(&written.frame, 0, 0, true, written.memory), whole - body_size, "%s",
                     c->name);
        wire_header_read(&header, written.memory);
        cr_assert_eq(header.size, whole - WIRE_HEADER_SIZE, "%s", c->name);
    }
}

/* How many fields end at or before `size`; -1 when it lies inside a field. */
static int fields_before(const struct layout *layout, size_t size)
{
    for (size_t i = 0; i <= layout->count; i++)
        if (layout->offset[i] == size)
            return (int)i;
    return size > layout->offset[layout->count] ? (int)layout->count : -1;
}

Test(wire_frame, a_payload_cut_between_fields_is_an_older_peers_and_cut_inside_one_is_broken)
{
    struct rng rng;
    rng_init(&rng, 4);
    for (size_t i = 0; i < CASE_COUNT * 8; i++) {
        const struct frame_case *c = &cases[i % CASE_COUNT];
        write_random(c, &rng, &written);
        for (size_t size = 0; size <= written.payload.size; size++) {
            union any_frame again;
            uint8_t *memory;
            int fields = fields_before(&written.layout, size);
            int result = read_exactly(c, &again, bytes_head(written.payload, size), &memory);
            cr_assert_eq(result, fields < 0 ? -1 : 0, "%s cut at %zu", c->name, size);
            if (fields >= 0)
                cr_assert(c->fields_equal(&written.frame, &again, (size_t)fields), "%s cut at %zu",
                          c->name, size);
            mem_free(memory);
        }
    }
}

Test(wire_frame, fields_after_a_broken_one_are_zero)
{
    struct rng rng;
    rng_init(&rng, 5);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const struct frame_case *c = &cases[i];
        write_random(c, &rng, &written);
        for (size_t field = 0; field < written.layout.count; field++) {
            union any_frame again;
            size_t cut = written.layout.offset[field + 1] - 1;
            if (cut == written.layout.offset[field])
                continue; /* a field of one byte has no inside */
            cr_assert_eq(c->read(&again, bytes_head(written.payload, cut)), -1, "%s", c->name);
            cr_assert(c->fields_equal(&written.frame, &again, field), "%s field %zu", c->name,
                      field);
            cr_assert_eq(c->body(&again).size, 0, "%s", c->name);
        }
    }
}

Test(wire_frame, a_length_that_points_outside_is_refused)
{
    struct rng rng;
    int tried = 0;
    rng_init(&rng, 6);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const struct frame_case *c = &cases[i];
        write_random(c, &rng, &written);
        for (size_t field = 0; field < written.layout.count; field++) {
            size_t offset = written.layout.offset[field];
            size_t width = written.layout.kind[field] == FIELD_TEXT ? 2 : 4;
            if (written.layout.kind[field] == FIELD_NUMBER)
                continue;
            uint32_t behind = (uint32_t)(written.payload.size - offset - width);
            uint32_t lies[] = {behind + 1, width == 2 ? UINT16_MAX : UINT32_MAX,
                               width == 2 ? 0x8000 : 0x80000000};
            for (size_t k = 0; k < sizeof(lies) / sizeof(lies[0]); k++) {
                uint8_t *memory = copy_exactly(written.payload.at, written.payload.size);
                union any_frame again;
                memcpy(memory + offset, &lies[k], width);
                cr_assert_eq(c->read(&again, bytes_of(memory, written.payload.size)), -1, "%s",
                             c->name);
                mem_free(memory);
                tried++;
            }
        }
    }
    cr_assert_gt(tried, 60);
}

Test(wire_frame, what_a_newer_peer_adds_is_ignored_where_there_is_no_body)
{
    struct rng rng;
    int without_body = 0;
    rng_init(&rng, 7);
    for (size_t i = 0; i < CASE_COUNT; i++) {
        const struct frame_case *c = &cases[i];
        write_random(c, &rng, &written);
        size_t size = written.payload.size;
        memset(written.memory + WIRE_HEADER_SIZE + size, 0x77, 5);
        union any_frame again;
        cr_assert_eq(c->read(&again, bytes_of(written.payload.at, size + 5)), 0, "%s", c->name);
        cr_assert(c->fields_equal(&written.frame, &again, written.layout.count), "%s", c->name);
        cr_assert_eq(c->body(&again).size, c->has_body ? c->body(&written.frame).size + 5 : 0, "%s",
                     c->name);
        without_body += !c->has_body;
    }
    cr_assert_gt(without_body, 0);
}

Test(wire_frame, an_empty_payload_reads_as_zeroes)
{
    for (size_t i = 0; i < CASE_COUNT; i++) {
        union any_frame zero = {0}, again;
        cr_assert_eq(cases[i].read(&again, bytes_of(NULL, 0)), 0, "%s", cases[i].name);
        cr_assert(cases[i].fields_equal(&zero, &again, 0), "%s", cases[i].name);
        cr_assert_eq(cases[i].body(&again).size, 0, "%s", cases[i].name);
    }
}

Test(wire_frame, texts_are_cut_at_65535_bytes_and_blobs_are_not)
{
    static uint8_t long_text[70000];
    struct wire_request again, request = {
                                   .path = bytes_of(long_text, sizeof(long_text)),
                                   .query = bytes_of(long_text, WIRE_TEXT_LIMIT),
                                   .headers = bytes_of(long_text, sizeof(long_text)),
                                   .body = BYTES("body"),
                               };
    memset(long_text, 'x', sizeof(long_text));
    size_t size = wire_request_size(&request);
    uint8_t *memory = mem_new(size);
    cr_assert_eq(wire_request_write(&request, WIRE_END, 1, false, memory), size);
    cr_assert_eq(
        wire_request_read(&again, bytes_of(memory + WIRE_HEADER_SIZE, size - WIRE_HEADER_SIZE)), 0);
    cr_assert_eq(again.path.size, 65535);
    cr_assert_eq(again.query.size, 65535);
    cr_assert_eq(again.headers.size, sizeof(long_text));
    cr_assert(bytes_equal(again.body, BYTES("body")));
    mem_free(memory);
}

Test(wire_frame, a_body_on_a_frame_without_one_is_our_own_mistake, .signal = SIGABRT)
{
    uint8_t memory[64];
    struct wire_ping ping = {.token = 1, .body = BYTES("x")};
    wire_ping_write(&ping, 0, 0, false, memory);
}

Test(wire_frame, every_number_has_the_name_of_its_frame_and_others_are_unknown)
{
    cr_assert_str_eq(wire_frame_name(WIRE_NO_FRAME), "unknown");
    cr_assert_str_eq(wire_frame_name(WIRE_FRAME_COUNT), "unknown");
    cr_assert_str_eq(wire_frame_name(UINT8_MAX), "unknown");
    for (size_t i = 0; i < CASE_COUNT; i++)
        cr_assert_str_eq(wire_frame_name(cases[i].number), cases[i].name);
}

/*
 * The wire format itself.  What stands here was written by hand from the table's description, not
 * by the encoder.
 */

static void assert_golden(const uint8_t *at, size_t size, const uint8_t *golden, size_t golden_size)
{
    cr_assert_eq(size, golden_size, "%zu bytes, %zu expected", size, golden_size);
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(at[i], golden[i], "byte %zu is 0x%02x, 0x%02x expected", i, at[i], golden[i]);
}

Test(wire_frame, the_bytes_of_a_hello_do_not_change)
{
    /* clang-format off */
    static const uint8_t golden[] = {
        0x40, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,      /* 64 bytes, hello, DESCRIPTOR */
        'M', 'n', 't', 'a', 1, 0, 1, 0, 4,                      /* magic, versions, replica */
        0x39, 0x30, 0, 0, 0x08, 7, 6, 5, 4, 3, 2, 1,            /* pid 12345, id */
        0, 0, 4, 0, 0, 0, 2, 0, 0x00, 0x40, 0, 0, 0xF0, 0, 0, 0, /* limits, taken_count */
        13, 0, 'a', 'p', 'p', '#', 'd', 'e', 'p', '#', 'a', 'b', 'c', 'd', 'e',
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                     /* regions: none */
    };
    /* clang-format on */
    uint8_t memory[128];
    struct wire_hello hello = {
        .magic = WIRE_MAGIC,
        .version_least = 1,
        .version_most = 1,
        .role = WIRE_ROLE_REPLICA,
        .pid = 12345,
        .id = 0x0102030405060708,
        .frame_limit = 262144,
        .stream_credit = 131072,
        .stream_limit = 16384,
        .taken_count = 240,
        .name = BYTES("app#dep#abcde"),
    };
    size_t size = wire_hello_write(&hello, WIRE_DESCRIPTOR, 0, false, memory);
    assert_golden(memory, size, golden, sizeof(golden));
}

Test(wire_frame, the_bytes_of_a_request_do_not_change)
{
    /* clang-format off */
    static const uint8_t golden[] = {
        0x6A, 0, 0, 0, 2, 3, 0, 0, 0x2A, 0, 0, 0, 7, 0, 0, 0, /* 106 bytes, request, END|STREAM */
        9, 0, 0, 0, 0, 0, 0, 0,                               /* deployment */
        0x40, 0x42, 0x0F, 0, 0, 0, 0, 0,                      /* deadline: one second */
        1, 3, 1,                                              /* kind, priority, http_minor */
        5, 0, 0, 0, 0, 0, 0, 0,                               /* body_size */
        4, 0, 'P', 'O', 'S', 'T', 2, 0, '/', 'a',             /* method, path */
        3, 0, 'x', '=', '1', 1, 0, '/',                       /* query, route_prefix */
        10, 0, 't', 'e', 'x', 't', '/', 'p', 'l', 'a', 'i', 'n', /* content_type */
        3, 0, 'r', 'i', 'd', 2, 0, '0', '0',                  /* request_id, trace */
        0, 0, 2, 0, 'm', '1',                                 /* tenant, model_id */
        25, 0, 0, 0, 4, 0, 9, 0,                              /* headers: 25 bytes */
        'h', 'o', 's', 't', 'l', 'o', 'c', 'a', 'l', 'h', 'o', 's', 't',
        1, 0, 3, 0, 'k', 'v', '=', '1',                       /* headers: host and k */
        'h', 'e', 'l', 'l', 'o',
    };
    /* clang-format on */
    uint8_t headers[64], memory[256];
    size_t used = wire_field_write(headers, sizeof(headers), BYTES("host"), BYTES("localhost"));
    used += wire_field_write(headers + used, sizeof(headers) - used, BYTES("k"), BYTES("v=1"));
    struct wire_request request = {
        .deployment = 9,
        .deadline_us = 1000000,
        .kind = WIRE_KIND_HTTP,
        .priority = 3,
        .http_minor = 1,
        .body_size = 5,
        .method = BYTES("POST"),
        .path = BYTES("/a"),
        .query = BYTES("x=1"),
        .route_prefix = BYTES("/"),
        .content_type = BYTES("text/plain"),
        .request_id = BYTES("rid"),
        .trace = BYTES("00"),
        .model_id = BYTES("m1"),
        .headers = bytes_of(headers, used),
        .body = BYTES("hello"),
    };
    size_t size =
        wire_request_write(&request, WIRE_END | WIRE_STREAM, 0x000000070000002A, false, memory);
    assert_golden(memory, size, golden, sizeof(golden));
}

Test(wire_frame, the_bytes_of_a_reply_do_not_change)
{
    /* clang-format off */
    static const uint8_t golden[] = {
        0x2D, 0, 0, 0, 3, 1, 0, 0, 0x2A, 0, 0, 0, 7, 0, 0, 0, /* 45 bytes, reply, END, stream */
        0xF5, 0xFF, 0xFF, 0xFF, 0xF4, 0x01,                   /* code -11, status 500 */
        3, 0, 0, 0,                                           /* queue_length */
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,       /* body_size: not known */
        4, 0, 'a', '/', 'b', 'c', 6, 0, 0, 0, 1, 0, 1, 0, 'e', 'f', /* content_type, headers */
        4, 0, 'b', 'o', 'o', 'm',                             /* error */
        0xDE, 0xAD, 0xBE, 0xEF, 0x00,                         /* body */
    };
    /* clang-format on */
    uint8_t memory[128];
    static const uint8_t headers[] = {1, 0, 1, 0, 'e', 'f'},
                         body[] = {0xDE, 0xAD, 0xBE, 0xEF, 0x00};
    struct wire_reply reply = {
        .code = -11,
        .status = 500,
        .queue_length = 3,
        .body_size = UINT64_MAX,
        .content_type = BYTES("a/bc"),
        .headers = bytes_of(headers, sizeof(headers)),
        .error = BYTES("boom"),
        .body = bytes_of(body, sizeof(body)),
    };
    size_t size = wire_reply_write(&reply, WIRE_END, 0x000000070000002A, false, memory);
    assert_golden(memory, size, golden, sizeof(golden));
}
