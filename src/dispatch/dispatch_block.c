/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_block: bytes of a call in one growing ref-counted block: a body kept for a retry, an
 * answer being collected.
 *
 * Doubles, so that collecting is linear; comes from the store of the channels, so that ordinary
 * sizes are reused. Every byte is counted against the process's budget: what peers and users make
 * us keep is bounded in all, not only call by call.
 */
#include "dispatch_inner.h"
#include "ensure.h"

bool dispatch_block_grow(struct dispatch *dispatch, struct dispatch_block *block, size_t more,
                         size_t limit)
{
    if (more > limit || block->size > limit - more)
        return false;
    size_t wanted = block->size + more;
    size_t old = block->buffer ? block->buffer->capacity : 0;
    if (wanted <= old)
        return true;
    size_t size = wanted < 2 * old ? 2 * old : wanted;
    struct buffer *grown =
        buffer_try_new(dispatch->config.channels->buffers, size < limit ? size : limit);
    if (!grown)
        return false;
    ensure(grown->capacity >= wanted && dispatch->held_bytes >= old);
    if (dispatch->held_bytes - old + grown->capacity >
        (uint64_t)dispatch->config.settings->process_byte_budget) {
        buffer_unref(grown);
        return false;
    }
    if (block->size)
        memcpy(grown->data, block->buffer->data, block->size);
    dispatch->held_bytes += grown->capacity - old;
    buffer_unref(block->buffer);
    block->buffer = grown;
    return true;
}

void dispatch_block_add(struct dispatch_block *block, struct bytes bytes)
{
    ensure(bytes.size == 0 || bytes.size <= block->buffer->capacity - block->size);
    if (bytes.size)
        memcpy(block->buffer->data + block->size, bytes.at, bytes.size);
    block->size += bytes.size;
}

struct buffer *dispatch_block_take(struct dispatch *dispatch, struct dispatch_block *block)
{
    struct buffer *buffer = block->buffer;
    if (buffer) {
        ensure_tag(M1, dispatch->held_bytes >= buffer->capacity);
        dispatch->held_bytes -= buffer->capacity;
    }
    *block = (struct dispatch_block){0};
    return buffer;
}

void dispatch_block_drop(struct dispatch *dispatch, struct dispatch_block *block)
{
    buffer_unref(dispatch_block_take(dispatch, block));
}
