/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared: buffers, and their places in documents (<manta/buffer.h>; tensors are tensor.c).
 *
 * Buffers of this process come from the payload pool while it gives any, else from the heap.
 * Everything about a buffer but its reference count is written once, before anybody else sees it.
 */
#include "shared.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ensure.h"
#include "mem.h"
#include "value.h"

static const size_t BUFFER_LIMIT = ((size_t)1 << 40) - 1;

/* ---- buffers ---- */

struct manta_buffer *shared_wrap(struct bytes bytes, bool written_here,
                                 void (*release)(void *owner), void *owner)
{
    struct manta_buffer *buffer = mem_try(sizeof *buffer);
    if (!buffer)
        return NULL;
    *buffer = (struct manta_buffer){.references = 1,
                                    .at = (uint8_t *)bytes.at,
                                    .size = bytes.size,
                                    .written_here = written_here,
                                    .release = release,
                                    .owner = owner};
    return buffer;
}

static void release_slot(void *owner)
{
    slot_unref(owner);
}

struct manta_buffer *shared_wrap_slot(struct slot *take_slot, struct bytes bytes, bool written_here)
{
    ensure(bytes.at >= take_slot->at && bytes.at + bytes.size <= take_slot->at + take_slot->size);
    struct manta_buffer *buffer = shared_wrap(bytes, written_here, release_slot, take_slot);
    if (!buffer) {
        slot_unref(take_slot);
        return NULL;
    }
    buffer->slot = take_slot;
    return buffer;
}

/* ---- the pool ---- */

/* A program may hold several instances, each with a pool: buffers come from the latest that is
 * left. */
enum { POOL_LIMIT = 16 };
static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot_pool *pools[POOL_LIMIT];
static uint32_t pool_count;

void shared_use_pool(struct slot_pool *pool)
{
    pthread_mutex_lock(&pools_lock);
    if (pool_count < POOL_LIMIT) /* beyond it buffers are copied when they are sent */
        pools[pool_count++] = pool;
    pthread_mutex_unlock(&pools_lock);
}

void shared_leave_pool(struct slot_pool *pool)
{
    uint32_t kept = 0;
    pthread_mutex_lock(&pools_lock);
    for (uint32_t i = 0; i < pool_count; i++)
        if (pools[i] != pool)
            pools[kept++] = pools[i];
    pool_count = kept;
    pthread_mutex_unlock(&pools_lock);
}

static struct manta_buffer *from_pool(size_t size)
{
    struct slot *slot = NULL;
    pthread_mutex_lock(&pools_lock);
    if (pool_count > 0 && size >= SLOT_LEAST / 2)
        slot = slot_take(pools[pool_count - 1], size);
    pthread_mutex_unlock(&pools_lock);
    return slot ? shared_wrap_slot(slot, bytes_of(slot->at, size), true) : NULL;
}

struct manta_buffer *shared_new_plain(size_t size)
{
    size_t rounded = (size + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
    void *at = aligned_alloc(SHARED_ALIGNMENT, rounded);
    struct manta_buffer *buffer = at ? shared_wrap(bytes_of(at, size), true, free, at) : NULL;
    if (!buffer)
        free(at);
    return buffer;
}

int manta_buffer_new(size_t size, struct manta_buffer **ret_buffer, struct manta_error *reterr)
{
    if (size == 0 || size > BUFFER_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "a buffer has 1 byte to 1 TiB less one, not %zu bytes", size);
    struct manta_buffer *pooled = from_pool(size);
    if (pooled) {
        *ret_buffer = pooled;
        return 0;
    }
    struct manta_buffer *buffer = shared_new_plain(size);
    if (!buffer)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for a buffer of %zu bytes", size);
    *ret_buffer = buffer;
    return 0;
}

struct manta_buffer *manta_buffer_ref(struct manta_buffer *buffer)
{
    uint32_t before = atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    ensure(before > 0 && before < UINT32_MAX);
    return buffer;
}

struct manta_buffer *manta_buffer_free(struct manta_buffer *buffer)
{
    if (!buffer)
        return NULL;
    uint32_t before = atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel);
    ensure(before > 0);
    if (before > 1)
        return NULL;
    buffer->release(buffer->owner);
    return mem_free(buffer);
}

void *manta_buffer_at(struct manta_buffer *buffer)
{
    return buffer->written_here ? buffer->at : NULL;
}

const void *manta_buffer_data(const struct manta_buffer *buffer)
{
    return buffer->at;
}

size_t manta_buffer_size(const struct manta_buffer *buffer)
{
    return buffer->size;
}

/* ---- cookies ---- */

static uint64_t cookie_of(uint64_t owner)
{
    static atomic_uint_fast64_t secret;
    uint64_t mine = atomic_load(&secret);
    if (!mine) {
        uint64_t fresh = 0, none = 0;
        if (getrandom(&fresh, sizeof fresh, 0) != sizeof fresh || fresh == 0)
            fresh = (uint64_t)(uintptr_t)&secret;
        mine = atomic_compare_exchange_strong(&secret, &none, fresh) ? fresh : none;
    }
    uint64_t mixed = (mine ^ owner) * 0x9E3779B97F4A7C15u;
    return (mixed ^ (mixed >> 29)) | 1; /* never 0, which is what a document on its way has */
}

static struct value_place place_of(struct manta_buffer *buffer, size_t offset, size_t size)
{
    uint64_t owner = (uint64_t)(uintptr_t)buffer;
    return (struct value_place){cookie_of(owner), owner, offset, size};
}

static struct manta_buffer *buffer_of(const struct value_place *place)
{
    return place->cookie == cookie_of(place->owner) ? (struct manta_buffer *)(uintptr_t)place->owner
                                                    : NULL;
}

/* ---- writing ---- */

int shared_write_buffer(struct text *out, const struct manta_arg *arg, struct error *reterr)
{
    uint8_t payload[VALUE_PLACE_SIZE];
    struct manta_buffer *buffer = (struct manta_buffer *)(uintptr_t)arg->u.at;
    if (!buffer || arg->size > buffer->size)
        return error_set(reterr, ERROR_INVALID, "%zu bytes are more than the buffer has",
                         arg->size);
    struct value_place place = place_of(buffer, 0, arg->size);
    value_place_write(&place, payload);
    value_write_extension(out, VALUE_EXTENSION_BUFFER, bytes_of(payload, sizeof payload));
    return 0;
}

int shared_write_tensor(struct text *out, const struct manta_arg *arg, struct error *reterr)
{
    const struct manta_tensor *tensor = arg->u.at;
    uint8_t payload[VALUE_TENSOR_SIZE_MOST];
    const char *wrong;
    if (!tensor || !tensor->buffer || tensor->ndim > MANTA_TENSOR_DIMENSIONS)
        return error_set(reterr, ERROR_INVALID, "a tensor has no buffer or too many dimensions");
    size_t offset = (size_t)((uintptr_t)tensor->data - (uintptr_t)tensor->buffer->at);
    if (offset > tensor->buffer->size)
        return error_set(reterr, ERROR_INVALID, "a tensor does not lie in its buffer");
    struct value_tensor written = {
        .place = place_of(tensor->buffer, offset, tensor->buffer->size - offset),
        .kind = tensor->kind,
        .bits = tensor->bits,
        .lanes = tensor->lanes,
        .ndim = tensor->ndim};
    memcpy(written.shape, tensor->shape, sizeof written.shape);
    memcpy(written.strides, tensor->strides, sizeof written.strides);
    struct bytes bytes = bytes_of(payload, value_tensor_write(&written, payload));
    if (value_tensor_read(&written, bytes, &wrong) < 0)
        return error_set(reterr, ERROR_INVALID, "a tensor is refused: %s", wrong);
    value_write_extension(out, VALUE_EXTENSION_TENSOR, bytes);
    return 0;
}

struct manta_arg manta_by_reference(struct manta_buffer *buffer)
{
    return manta_by_reference_head(buffer, buffer->size);
}

struct manta_arg manta_by_reference_head(struct manta_buffer *buffer, size_t size)
{
    return (struct manta_arg){.type = MANTA_ARG_BUFFER, .u.at = buffer, .size = size};
}

/* ---- reading ---- */

int shared_place(struct bytes document, struct value_place *ret_place,
                 struct manta_buffer **ret_buffer)
{
    struct value_reader reader;
    struct value item;
    value_read_init(&reader, document);
    if (!document.size || !value_next(&reader, &item) || item.type != VALUE_EXTENSION ||
        (item.extension != VALUE_EXTENSION_BUFFER && item.extension != VALUE_EXTENSION_TENSOR) ||
        value_place_read(ret_place, item.bytes) < 0)
        return ERROR_TYPE;
    *ret_buffer = buffer_of(ret_place);
    return *ret_buffer ? 0 : ERROR_TYPE;
}

int manta_value_buffer(const struct manta_value *value, struct manta_buffer **ret_buffer,
                       size_t *ret_offset, size_t *ret_size, struct manta_error *reterr)
{
    struct value_place place;
    struct manta_buffer *buffer;
    if (shared_place(bytes_of(value->at, value->size), &place, &buffer) < 0)
        return manta_error_set(reterr, MANTA_ENOTFOUND, "the value did not come by reference");
    if (ret_offset)
        *ret_offset = place.offset;
    if (ret_size)
        *ret_size = place.size;
    *ret_buffer = manta_buffer_ref(buffer);
    return 0;
}

/* ---- documents on their way ---- */

bool shared_has_references(struct bytes document)
{
    struct value_reader reader;
    struct value item;
    value_read_init(&reader, document);
    return value_next_outside(&reader, &item);
}

/* The index of `buffer` among those collected, itself added when it is new; -1: too many. */
static int64_t index_of(struct manta_buffer *buffer, struct manta_buffer **buffers, uint32_t *count)
{
    for (uint32_t i = 0; i < *count; i++)
        if (buffers[i] == buffer)
            return i;
    if (*count == SHARED_PIECE_LIMIT)
        return -1;
    buffers[*count] = buffer;
    return (*count)++;
}

/* `payload` is a slice of a document that may be changed. */
static void replace_place(struct bytes payload, const struct value_place *place)
{
    value_place_write(place, (uint8_t *)(uintptr_t)payload.at);
}

int shared_collect(void *document, size_t size, struct manta_buffer **buffers, uint32_t *ret_count,
                   struct error *reterr)
{
    struct value_reader reader;
    struct value_place place;
    struct value item;
    uint32_t count = 0;
    value_read_init(&reader, bytes_of(document, size));
    while (value_next_outside(&reader, &item)) {
        struct manta_buffer *buffer =
            value_place_read(&place, item.bytes) == 0 ? buffer_of(&place) : NULL;
        if (!buffer)
            return error_set(reterr, ERROR_INVALID,
                             "a value refers to a buffer that is not this process's");
        int64_t index = index_of(buffer, buffers, &count);
        if (index < 0)
            return error_set(reterr, ERROR_LIMIT, "a value refers to more than %d buffers",
                             SHARED_PIECE_LIMIT);
        place.cookie = 0;
        place.owner = (uint64_t)index;
        replace_place(item.bytes, &place);
    }
    *ret_count = count;
    return 0;
}

/* What is wrong with a reference that came from outside; null: nothing. */
static const char *judge(const struct value *item, const struct value_place *place,
                         struct manta_buffer *const *buffers, uint32_t count)
{
    struct value_tensor tensor;
    const char *wrong = NULL;
    if (place->cookie != 0 || place->owner >= count)
        return "it names no buffer of the message";
    size_t room = buffers[place->owner]->size;
    if (place->offset > room || place->size > room - place->offset)
        return "it goes beyond its buffer";
    if (item->extension == VALUE_EXTENSION_TENSOR)
        (void)value_tensor_read(&tensor, item->bytes, &wrong);
    else if (item->bytes.size != VALUE_PLACE_SIZE)
        wrong = "it has the wrong length";
    return wrong;
}

int shared_resolve(void *document, size_t size, struct manta_buffer *const *buffers, uint32_t count,
                   struct error *reterr)
{
    struct value_reader reader;
    struct value_place place;
    struct value item;
    value_read_init(&reader, bytes_of(document, size));
    while (value_next_outside(&reader, &item)) {
        const char *wrong = value_place_read(&place, item.bytes) < 0
                                ? "it is cut short"
                                : judge(&item, &place, buffers, count);
        if (wrong)
            return error_set(reterr, ERROR_PROTOCOL, "a value by reference is refused: %s", wrong);
        place = place_of(buffers[place.owner], place.offset, place.size);
        replace_place(item.bytes, &place);
    }
    return 0;
}
