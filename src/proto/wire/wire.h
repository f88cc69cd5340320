/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: the framed protocol between the processes of an instance, from tables/wire.def.
 *
 * For each frame of the table there is a struct wire_<name>, a wire_<name>_size, a
 * wire_<name>_write and a wire_<name>_read.  Writing goes into the caller's memory, which must hold
 * what _size said; reading gives slices of the frame.  Every length is checked before it is used.
 */
#ifndef MANTA_PROTO_WIRE_H
#define MANTA_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "wire.def"

enum {
    WIRE_HEADER_SIZE = 16,
    WIRE_VERSION_LEAST = 1,    /* lowest spoken here */
    WIRE_VERSION = 1,          /* highest spoken here */
    WIRE_MODELS_LIMIT = 1024,  /* models that a replica may tell of */
    WIRE_MODEL_ID_LIMIT = 200, /* bytes of the id of one */
    WIRE_MAGIC = 0x61746E4D,   /* "Mnta" */
    WIRE_TEXT_LIMIT = 65535,   /* bytes; longer texts are cut when written */
};

enum wire_frame {
    WIRE_NO_FRAME = 0,
#define WIRE_ENUM(number, name, NAME, body, since, sentence) WIRE_##NAME##_FRAME = number,
    WIRE_FRAMES(WIRE_ENUM) WIRE_FRAME_COUNT
#undef WIRE_ENUM
};

enum wire_role {
    WIRE_ROLE_NONE,
    WIRE_ROLE_NODE,
    WIRE_ROLE_CONTROLLER,
    WIRE_ROLE_PROXY,
    WIRE_ROLE_REPLICA,
    WIRE_ROLE_HANDLE,  /* any owner of handles */
    WIRE_ROLE_COMMAND, /* the command line, manta_run */
    WIRE_ROLE_COUNT
};
enum wire_request_kind {
    WIRE_KIND_CALL = 0,
    WIRE_KIND_HTTP = 1,
    WIRE_KIND_WEBSOCKET = 2, /* its bodies are websocket records; a status of 101 accepts it */
    WIRE_KIND_COUNT
};

#define WIRE_C_u8 uint8_t
#define WIRE_C_u16 uint16_t
#define WIRE_C_u32 uint32_t
#define WIRE_C_u64 uint64_t
#define WIRE_C_i32 int32_t
#define WIRE_C_i64 int64_t
#define WIRE_C_text struct bytes
#define WIRE_C_blob struct bytes

/*
 * struct wire_hello { uint32_t magic; ... struct bytes body; }; a frame without a body has an empty
 * one (writing ensures that, so structs are initialised whole).
 */
#define WIRE_MEMBER(type, name, since, sentence) WIRE_C_##type name;
/* clang-format off */
#define WIRE_STRUCT(number, name, NAME, has_body, since, sentence)                                 \
    struct wire_##name {                                                                           \
        WIRE_##NAME(WIRE_MEMBER)                                                                   \
        struct bytes body;                                                                         \
    };
/* clang-format on */
WIRE_FRAMES(WIRE_STRUCT)
#undef WIRE_STRUCT
#undef WIRE_MEMBER

struct wire_header {
    uint32_t size; /* payload bytes behind the header */
    uint8_t type;  /* enum wire_frame; may be one we do not know */
    uint8_t flags; /* enum wire_flag */
    uint64_t stream;
};

/* `at` holds WIRE_HEADER_SIZE bytes. */
void wire_header_read(struct wire_header *header, const uint8_t *at);
void wire_header_write(const struct wire_header *header, uint8_t *at);

/*
 * wire_x_size: header, fields and body, bytes.  wire_x_write: the whole frame, the body included
 * unless `body_apart`, in which case header.size counts it but the caller sends it behind; returns
 * bytes written.  Texts longer than 65535 bytes are cut.  wire_x_read: from a payload; 0, or -1
 * when a length points outside or the payload ends inside a field (every member is set even then:
 * the fields from the broken one on are zero).
 */
#define WIRE_DECLARE(number, name, NAME, has_body, since, sentence)                                \
    size_t wire_##name##_size(const struct wire_##name *frame);                                    \
    size_t wire_##name##_write(const struct wire_##name *frame, uint8_t flags, uint64_t stream,    \
                               bool body_apart, uint8_t *at);                                      \
    int wire_##name##_read(struct wire_##name *ret_frame, struct bytes payload);
WIRE_FRAMES(WIRE_DECLARE)
#undef WIRE_DECLARE

/* "request", or "unknown". */
const char *wire_frame_name(uint8_t type);
/* A line for traces, without its end: name, stream, flags, fields; texts cut, blobs as sizes. */
struct text;
void wire_print(const struct wire_header *header, struct bytes payload, struct text *out);

/*
 * Our hello, filled in: magic, versions, role, id, name, and the limits with the settings'
 * defaults.  The caller sets pid, taken_count and the limits that its own settings change.
 */
void wire_hello_fill(struct wire_hello *hello, enum wire_role role, uint64_t id, struct bytes name);
/*
 * What a process says to a node that was started after it, in one piece: a hello and a role_here.
 * The number of bytes; 0 when `size` is too small for them.
 */
size_t wire_return_write(const struct wire_role_here *here, uint32_t pid, uint8_t *ret_bytes,
                         size_t size);
/* The judgement of the peer's: 0 and the highest common version, or -1 with a constant reason. */
int wire_hello_check(const struct wire_hello *hello, uint16_t *ret_version,
                     const char **ret_reason);

/*
 * Field blocks (headers, trailers): append one (returns its size; 0 when room lacks or name or
 * value is longer than 65535), and walk.  A block carries any bytes: whoever writes a value as HTTP
 * checks it for line ends.
 */
size_t wire_field_write(uint8_t *at, size_t room, struct bytes name, struct bytes value);
/*
 * True and the next field, *rest moved on; false at the end, or where the block is broken, and then
 * rest->size > 0.
 */
bool wire_field_next(struct bytes *rest, struct bytes *ret_name, struct bytes *ret_value);
/* First field with this name in any case. */
bool wire_field_find(struct bytes block, struct bytes name, struct bytes *ret_value);

#endif
