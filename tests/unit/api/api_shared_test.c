/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers and tensors in values: built, read, sent as a document with indices, and refused when
 * made up.
 */
#include <criterion/criterion.h>

#include <dlpack/dlpack.h>
#include <string.h>

#include <manta/manta.h>

#include "mem.h"
#include "pack.h"
#include "shared.h"
#include "value.h"

static struct manta_buffer *buffer_of(const char *words)
{
    struct manta_error error = {0};
    struct manta_buffer *buffer = NULL;
    cr_assert_eq(manta_buffer_new(strlen(words), &buffer, &error), 0, "%s", error.text);
    memcpy(manta_buffer_at(buffer), words, strlen(words));
    return buffer;
}

static struct manta_value value_of(const struct manta_pack *pack)
{
    struct manta_error error = {0};
    struct manta_value value;
    cr_assert_eq(manta_pack_value(pack, &value, &error), 0, "%s", error.text);
    return value;
}

static struct manta_pack *pack_of(struct manta_arg arg)
{
    struct manta_pack *pack = manta_pack_new();
    manta_pack_arg(pack, arg);
    return pack;
}

/* ---- buffers ---- */

Test(shared, a_buffer_is_a_binary_value_to_its_reader)
{
    struct manta_buffer *buffer = buffer_of("picture");
    struct manta_pack *pack = pack_of(manta_by_reference_head(buffer, 4));
    struct manta_value value = value_of(pack);
    const void *at;
    size_t size;
    cr_assert_eq(manta_value_type(&value), MANTA_BINARY);
    cr_assert_eq(manta_value_binary(&value, &at, &size, NULL), 0);
    cr_assert(at == manta_buffer_data(buffer) && size == 4, "not a copy");
    manta_pack_free(pack);
    manta_buffer_free(buffer);
}

Test(shared, a_pack_holds_what_it_refers_to)
{
    struct manta_buffer *buffer = buffer_of("picture"), *found;
    struct manta_pack *first = pack_of(manta_by_reference(buffer));
    struct manta_pack *second = pack_of(manta_packed(first));
    manta_buffer_free(buffer);
    manta_pack_free(first);
    struct manta_value value = value_of(second);
    size_t offset, size;
    cr_assert_eq(manta_value_buffer(&value, &found, &offset, &size, NULL), 0);
    cr_assert(offset == 0 && size == 7 && !memcmp(manta_buffer_data(found), "picture", 7));
    manta_pack_clear(second);
    cr_assert_str_eq(manta_buffer_at(found) ? "mine" : "", "mine");
    manta_buffer_free(found);
    manta_pack_free(second);
}

Test(shared, sizes_that_cannot_be_are_refused)
{
    struct manta_error error = {0};
    struct manta_buffer *buffer = buffer_of("four"), *none = NULL;
    struct manta_value value;
    cr_assert_eq(manta_buffer_new(0, &none, &error), MANTA_EINVALID);
    cr_assert_eq(manta_buffer_new(SIZE_MAX, &none, &error), MANTA_EINVALID);
    cr_assert_eq(manta_buffer_new((size_t)PTRDIFF_MAX / 2, &none, &error), MANTA_EINVALID);
    struct manta_pack *pack = pack_of(manta_by_reference_head(buffer, 5));
    cr_assert_eq(manta_pack_value(pack, &value, &error), MANTA_EINVALID);
    cr_assert(strstr(error.text, "more than the buffer has"), "%s", error.text);
    manta_pack_free(pack);
    manta_buffer_free(buffer);
}

/* ---- documents on their way ---- */

struct journey {
    struct text document;
    struct manta_buffer *buffers[SHARED_PIECE_LIMIT];
    uint32_t count;
};

static void depart(struct journey *journey, const struct manta_value *value)
{
    struct error error = {0};
    text_init(&journey->document, 1 << 20);
    text_add(&journey->document, bytes_of(value->at, value->size));
    cr_assert_eq(shared_collect(journey->document.at, journey->document.size, journey->buffers,
                                &journey->count, &error),
                 0, "%s", error.text);
}

static int arrive(struct journey *journey, uint32_t count, struct error *error)
{
    return shared_resolve(journey->document.at, journey->document.size, journey->buffers, count,
                          error);
}

Test(shared, a_document_travels_with_each_buffer_once)
{
    struct manta_buffer *red = buffer_of("red"), *blue = buffer_of("blue");
    struct manta_pack *pack = manta_pack_new();
    struct journey journey;
    struct error error = {0};
    manta_pack_array(pack, 3);
    manta_pack_arg(pack, manta_by_reference(red));
    manta_pack_arg(pack, manta_by_reference(blue));
    manta_pack_arg(pack, manta_by_reference_head(red, 1));
    struct manta_value value = value_of(pack), item;
    depart(&journey, &value);
    cr_assert(journey.count == 2 && journey.buffers[0] == red && journey.buffers[1] == blue);
    struct manta_value travelling = {journey.document.at, journey.document.size};
    const void *at;
    size_t size;
    cr_assert_eq(manta_value_at(&travelling, 0, &item, NULL), 0);
    cr_assert_eq(manta_value_binary(&item, &at, &size, NULL), MANTA_ETYPE, "it names no memory");
    cr_assert_eq(arrive(&journey, 2, &error), 0, "%s", error.text);
    cr_assert_eq(manta_value_at(&travelling, 2, &item, NULL), 0);
    cr_assert_eq(manta_value_binary(&item, &at, &size, NULL), 0);
    cr_assert(at == red->at && size == 1);
    text_done(&journey.document);
    manta_pack_free(pack);
    manta_buffer_free(red);
    manta_buffer_free(blue);
}

Test(shared, a_document_that_lies_is_refused)
{
    struct manta_buffer *buffer = buffer_of("four");
    struct manta_pack *pack = pack_of(manta_by_reference(buffer));
    struct manta_value value = value_of(pack);
    struct journey journey;
    struct error error = {0};
    depart(&journey, &value);
    cr_assert_eq(arrive(&journey, 0, &error), ERROR_PROTOCOL, "an index of nothing");
    /* The payload begins behind the head of the extension: its offset is the third number. */
    uint8_t *offset =
        (uint8_t *)journey.document.at + journey.document.size - VALUE_PLACE_SIZE + 16;
    *offset = 1;
    cr_assert_eq(arrive(&journey, 1, &error), ERROR_PROTOCOL, "beyond the buffer");
    *offset = 0;
    memset(offset + 8, 0xff, 8);
    cr_assert_eq(arrive(&journey, 1, &error), ERROR_PROTOCOL, "an enormous size");
    text_done(&journey.document);
    manta_pack_free(pack);
    manta_buffer_free(buffer);
}

Test(shared, what_comes_from_outside_names_no_memory)
{
    struct manta_buffer *buffer = buffer_of("secret");
    uint8_t payload[VALUE_PLACE_SIZE];
    struct value_place place = {1, (uint64_t)(uintptr_t)buffer, 0, 6};
    struct text document;
    struct error error = {0};
    const void *at;
    size_t size;
    uint32_t count;
    struct manta_buffer *buffers[SHARED_PIECE_LIMIT];
    text_init(&document, 4096);
    value_place_write(&place, payload);
    value_write_extension(&document, VALUE_EXTENSION_BUFFER, bytes_of(payload, sizeof payload));
    struct manta_value value = {document.at, document.size};
    cr_assert_eq(manta_value_binary(&value, &at, &size, NULL), MANTA_ETYPE);
    cr_assert_eq(shared_collect(document.at, document.size, buffers, &count, &error),
                 ERROR_INVALID);
    cr_assert_eq(shared_resolve(document.at, document.size, &buffer, 1, &error), ERROR_PROTOCOL);
    text_done(&document);
    manta_buffer_free(buffer);
}

Test(shared, a_value_refers_to_sixty_four_buffers_at_most)
{
    struct manta_buffer *buffers[SHARED_PIECE_LIMIT + 1], *found[SHARED_PIECE_LIMIT];
    struct manta_pack *pack = manta_pack_new();
    struct error error = {0};
    uint32_t count;
    manta_pack_array(pack, SHARED_PIECE_LIMIT + 1);
    for (int i = 0; i <= SHARED_PIECE_LIMIT; i++) {
        buffers[i] = buffer_of("x");
        manta_pack_arg(pack, manta_by_reference(buffers[i]));
        manta_buffer_free(buffers[i]);
    }
    cr_assert_eq(shared_collect(pack->document.at, pack->document.size, found, &count, &error),
                 ERROR_LIMIT);
    manta_pack_free(pack);
}

/* ---- tensors ---- */

static struct manta_tensor matrix(void)
{
    struct manta_error error = {0};
    struct manta_tensor tensor;
    void *data;
    int64_t shape[] = {2, 3};
    cr_assert_eq(manta_tensor_new(MANTA_TENSOR_FLOAT, 32, shape, 2, &tensor, &data, &error), 0,
                 "%s", error.text);
    for (int i = 0; i < 6; i++)
        ((float *)data)[i] = (float)i;
    return tensor;
}

Test(shared, a_tensor_is_read_where_it_lies)
{
    struct manta_tensor tensor = matrix(), read;
    struct manta_pack *pack = pack_of(manta_tensor_arg(&tensor));
    struct manta_value value = value_of(pack);
    cr_assert_eq(manta_value_type(&value), MANTA_TENSOR);
    cr_assert_eq(manta_value_tensor(&value, &read, NULL), 0);
    cr_assert(read.data == tensor.data && read.ndim == 2 && read.shape[1] == 3);
    cr_assert(manta_tensor_is_compact(&read) && manta_tensor_count(&read) == 6);
    cr_assert_eq(manta_tensor_element_size(&read), 4);
    manta_tensor_keep(&read);
    manta_pack_free(pack);
    manta_tensor_done(&tensor);
    cr_assert_eq(((const float *)read.data)[5], 5.0f);
    manta_tensor_done(&read);
}

Test(shared, a_window_of_a_buffer_is_a_tensor)
{
    struct manta_error error = {0};
    struct manta_tensor whole = matrix(), column, read;
    int64_t shape[] = {2}, strides[] = {3};
    cr_assert_eq(manta_tensor_of(whole.buffer, 4, MANTA_TENSOR_FLOAT, 32, shape, strides, 1,
                                 &column, &error),
                 0, "%s", error.text);
    struct manta_pack *pack = pack_of(manta_tensor_arg(&column));
    struct manta_value value = value_of(pack);
    cr_assert_eq(manta_value_tensor(&value, &read, NULL), 0);
    cr_assert_eq(((const float *)read.data)[read.strides[0]], 4.0f);
    cr_assert_not(manta_tensor_is_compact(&read));
    strides[0] = 6;
    cr_assert_eq(
        manta_tensor_of(whole.buffer, 4, MANTA_TENSOR_FLOAT, 32, shape, strides, 1, &read, &error),
        MANTA_EINVALID);
    cr_assert_eq(
        manta_tensor_new(MANTA_TENSOR_FLOAT, 32, shape, 17, &read, &(void *){NULL}, &error),
        MANTA_EINVALID);
    manta_pack_free(pack);
    manta_tensor_done(&column);
    manta_tensor_done(&whole);
}

Test(shared, what_is_no_tensor_is_said_to_be_none)
{
    struct manta_pack *pack = pack_of(manta_int(3));
    struct manta_value value = value_of(pack), nothing = {0};
    struct manta_tensor tensor;
    cr_assert_eq(manta_value_tensor(&value, &tensor, NULL), MANTA_ETYPE);
    cr_assert_eq(manta_value_tensor(&nothing, &tensor, NULL), MANTA_ETYPE);
    manta_pack_free(pack);
}

/* ---- DLPack ---- */

Test(shared, a_consumer_of_dlpack_holds_the_buffer)
{
    struct manta_tensor tensor = matrix();
    struct DLManagedTensor *managed;
    cr_assert_eq(manta_tensor_to_dlpack(&tensor, &managed, NULL), 0);
    manta_tensor_done(&tensor);
    cr_assert(managed->dl_tensor.ndim == 2 && managed->dl_tensor.dtype.code == kDLFloat);
    cr_assert_eq(managed->dl_tensor.shape[1], 3);
    cr_assert_eq(((float *)managed->dl_tensor.data)[4], 4.0f);
    managed->deleter(managed);
}

static int deleted;

static void count_deletion(DLManagedTensor *managed)
{
    (void)managed;
    deleted++;
}

Test(shared, a_producer_of_dlpack_is_told_when_nobody_holds_it)
{
    int16_t numbers[] = {1, 2, 3, 4, 5, 6};
    int64_t shape[] = {3, 2}, strides[] = {-2, 1};
    DLManagedTensor managed = {.dl_tensor = {.data = numbers,
                                             .byte_offset = 8,
                                             .device = {.device_type = kDLCPU},
                                             .ndim = 2,
                                             .dtype = {kDLInt, 16, 1},
                                             .shape = shape,
                                             .strides = strides},
                               .deleter = count_deletion};
    struct manta_error error = {0};
    struct manta_tensor tensor, read;
    cr_assert_eq(manta_tensor_from_dlpack(&managed, &tensor, &error), 0, "%s", error.text);
    cr_assert_null(manta_buffer_at(tensor.buffer), "nobody writes to it");
    struct manta_pack *pack = pack_of(manta_tensor_arg(&tensor));
    struct manta_value value = value_of(pack);
    manta_tensor_done(&tensor);
    cr_assert_eq(deleted, 0);
    cr_assert_eq(manta_value_tensor(&value, &read, NULL), 0);
    cr_assert_eq(((const int16_t *)read.data)[2 * read.strides[0] + 1], 2);
    manta_pack_free(pack);
    cr_assert_eq(deleted, 1);
    managed.dl_tensor.device.device_type = kDLCUDA;
    cr_assert_eq(manta_tensor_from_dlpack(&managed, &tensor, &error), MANTA_EINVALID);
    managed.dl_tensor.device.device_type = kDLCPU;
    managed.dl_tensor.ndim = -1;
    cr_assert_eq(manta_tensor_from_dlpack(&managed, &tensor, &error), MANTA_EINVALID);
    cr_assert_eq(deleted, 1, "it stays with the caller");
}

/* ---- JSON ---- */

static const char *json_of(struct manta_arg arg)
{
    static char text[256];
    struct manta_pack *pack = pack_of(arg);
    struct manta_value value = value_of(pack);
    manta_value_json(&value, text, sizeof text);
    manta_pack_free(pack);
    return text;
}

Test(shared, as_json_a_tensor_is_an_array_and_a_buffer_base64)
{
    struct manta_tensor tensor = matrix(), turned;
    struct manta_buffer *buffer = buffer_of("abc");
    int64_t shape[] = {3, 2}, strides[] = {1, 3};
    cr_assert_str_eq(json_of(manta_tensor_arg(&tensor)), "[[0.0,1.0,2.0],[3.0,4.0,5.0]]");
    cr_assert_eq(
        manta_tensor_of(tensor.buffer, 0, MANTA_TENSOR_FLOAT, 32, shape, strides, 2, &turned, NULL),
        0);
    cr_assert_str_eq(json_of(manta_tensor_arg(&turned)), "[[0.0,3.0],[1.0,4.0],[2.0,5.0]]");
    cr_assert_str_eq(json_of(manta_by_reference(buffer)), "\"YWJj\"");
    manta_tensor_done(&turned);
    manta_tensor_done(&tensor);
    manta_buffer_free(buffer);
}

Test(shared, every_number_has_its_json)
{
    static const struct {
        enum manta_tensor_kind kind;
        int bits;
        uint8_t bytes[8];
        const char *json;
    } NUMBERS[] = {
        {MANTA_TENSOR_INT, 8, {0xff}, "-1"},
        {MANTA_TENSOR_UINT, 8, {0xff}, "255"},
        {MANTA_TENSOR_INT, 16, {0xfe, 0xff}, "-2"},
        {MANTA_TENSOR_UINT, 64, {255, 255, 255, 255, 255, 255, 255, 255}, "18446744073709551615"},
        {MANTA_TENSOR_FLOAT, 16, {0x00, 0x3e}, "1.5"},
        {MANTA_TENSOR_FLOAT, 16, {0x01, 0x80}, "-5.9604644775390625e-08"},
        {MANTA_TENSOR_FLOAT, 16, {0x00, 0x7c}, "null"},
        {MANTA_TENSOR_BFLOAT, 16, {0x40, 0xc0}, "-3.0"},
        {MANTA_TENSOR_FLOAT, 64, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, "1.5"},
        {MANTA_TENSOR_BOOL, 8, {1}, "true"},
    };
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        struct manta_tensor scalar;
        void *data;
        cr_assert_eq(
            manta_tensor_new(NUMBERS[i].kind, NUMBERS[i].bits, NULL, 0, &scalar, &data, NULL), 0);
        memcpy(data, NUMBERS[i].bytes, (size_t)NUMBERS[i].bits / 8);
        cr_assert_str_eq(json_of(manta_tensor_arg(&scalar)), NUMBERS[i].json);
        manta_tensor_done(&scalar);
    }
}
