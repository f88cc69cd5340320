/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes: a borrowed slice of memory, passed by value.
 *
 * Parsers return slices of the caller's buffer instead of copies.  A slice owns nothing and lives
 * as long as what it points into; whoever wants to keep it copies it into an arena or a text.
 * The empty slice may have a null pointer.
 */
#ifndef MANTA_BASE_BYTES_H
#define MANTA_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *at; /* first byte; may be null when size is 0 */
    size_t size;       /* bytes */
};

/* A slice of a string literal, its terminator left out. */
#define BYTES(literal) ((struct bytes){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* For printf's "%.*s". */
#define BYTES_PRINT(bytes) (int)(bytes).size, (bytes).size ? (const char *)(bytes).at : ""

static inline struct bytes bytes_of(const void *at, size_t size)
{
    return (struct bytes){at, size};
}

static inline struct bytes bytes_of_string(const char *string)
{
    return (struct bytes){(const uint8_t *)string, string ? strlen(string) : 0};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.at, b.at, a.size) == 0);
}

/* The first `size` bytes, or all when there are fewer. */
static inline struct bytes bytes_head(struct bytes bytes, size_t size)
{
    return (struct bytes){bytes.at, size < bytes.size ? size : bytes.size};
}

/* What is left after `size` bytes; empty when there are fewer. */
static inline struct bytes bytes_skip(struct bytes bytes, size_t size)
{
    if (size >= bytes.size)
        return (struct bytes){bytes.at, 0};
    return (struct bytes){bytes.at + size, bytes.size - size};
}

static inline bool bytes_starts_with(struct bytes bytes, struct bytes prefix)
{
    return bytes.size >= prefix.size && bytes_equal(bytes_head(bytes, prefix.size), prefix);
}

/* Equal but for the case of ASCII letters (HTTP field names, tokens). */
bool bytes_equal_nocase(struct bytes a, struct bytes b);
/* -1, 0, 1 in unsigned byte order, the shorter first. */
int bytes_compare(struct bytes a, struct bytes b);
/* Without spaces and tabs at both ends (RFC 9110 5.6.3 OWS). */
struct bytes bytes_trim(struct bytes bytes);
/* Index of the first `byte`, or -1. */
ptrdiff_t bytes_find(struct bytes bytes, uint8_t byte);
/* Decimal digits only, no sign, no overflow; true and *ret_value on success. */
bool bytes_to_u64(struct bytes bytes, uint64_t *ret_value);
/* 64-bit hash, the same in every process and run.  It keeps no secret: bound what peers add. */
uint64_t bytes_hash(struct bytes bytes);

#endif
