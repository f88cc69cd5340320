/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors as bytes: what is written is read again, and nothing that leaves its place is accepted.
 */
#include <criterion/criterion.h>

#include <string.h>

#include "value.h"
#include "value_tensor.h"

static struct value_tensor image(void)
{
    struct value_tensor tensor = {.place = {0, 3, 0, 24},
                                  .kind = VALUE_TENSOR_FLOAT,
                                  .bits = 32,
                                  .lanes = 1,
                                  .ndim = 2,
                                  .shape = {2, 3}};
    value_tensor_compact(&tensor);
    return tensor;
}

static const char *refusal(const struct value_tensor *tensor)
{
    uint8_t payload[VALUE_TENSOR_SIZE_MOST];
    struct value_tensor read;
    const char *wrong = NULL;
    int code =
        value_tensor_read(&read, bytes_of(payload, value_tensor_write(tensor, payload)), &wrong);
    cr_assert_eq(code, wrong ? -1 : 0);
    return wrong;
}

Test(value_tensor, what_is_written_is_read_again)
{
    uint8_t payload[VALUE_TENSOR_SIZE_MOST];
    struct value_tensor tensor = image(), read = {0};
    const char *wrong;
    size_t size = value_tensor_write(&tensor, payload);
    cr_assert_eq(size, VALUE_TENSOR_HEAD + 2 * 16);
    cr_assert_eq(value_tensor_read(&read, bytes_of(payload, size), &wrong), 0);
    cr_assert_eq(read.place.owner, 3);
    cr_assert(read.shape[1] == 3 && read.strides[0] == 3 && read.strides[1] == 1);
}

Test(value_tensor, every_prefix_is_refused)
{
    uint8_t payload[VALUE_TENSOR_SIZE_MOST];
    struct value_tensor tensor = image(), read;
    const char *wrong;
    size_t size = value_tensor_write(&tensor, payload);
    for (size_t cut = 0; cut < size; cut++)
        cr_assert_eq(value_tensor_read(&read, bytes_of(payload, cut), &wrong), -1);
}

Test(value_tensor, a_tensor_may_not_leave_its_place)
{
    struct value_tensor tensor = image();
    tensor.place.size = 23;
    cr_assert_str_eq(refusal(&tensor), "it goes on behind its bytes");
    tensor = image();
    tensor.strides[0] = 4;
    cr_assert_str_eq(refusal(&tensor), "it goes on behind its bytes");
    tensor = image();
    tensor.strides[0] = -3;
    cr_assert_str_eq(refusal(&tensor), "it begins before its bytes");
    tensor.place.offset = 12; /* the second row first */
    tensor.place.size = 12;
    cr_assert_null(refusal(&tensor));
}

Test(value_tensor, impossible_shapes_are_refused)
{
    struct value_tensor tensor = image();
    tensor.shape[0] = -1;
    cr_assert_str_eq(refusal(&tensor), "its shape is impossible");
    tensor = image();
    tensor.shape[0] = INT64_MAX;
    tensor.strides[0] = INT64_MAX;
    cr_assert_str_eq(refusal(&tensor), "its shape is impossible");
    tensor = image();
    tensor.shape[0] = tensor.shape[1] = INT64_C(1) << 40;
    value_tensor_compact(&tensor);
    cr_assert_str_eq(refusal(&tensor), "its shape is impossible");
    tensor = image();
    tensor.strides[0] = INT64_MIN;
    cr_assert_str_eq(refusal(&tensor), "its shape is impossible");
}

Test(value_tensor, elements_are_whole_bytes_of_a_known_type)
{
    struct value_tensor tensor = image();
    tensor.bits = 12;
    cr_assert_str_eq(refusal(&tensor), "its elements do not fill whole bytes");
    tensor.lanes = 2; /* three bytes */
    tensor.place.size = 18;
    cr_assert_null(refusal(&tensor));
    tensor = image();
    tensor.lanes = 0;
    cr_assert_str_eq(refusal(&tensor), "its elements do not fill whole bytes");
    tensor = image();
    tensor.kind = 3;
    cr_assert_str_eq(refusal(&tensor), "its element type is unknown");
}

Test(value_tensor, an_empty_tensor_and_a_scalar_are_tensors)
{
    struct value_tensor tensor = image();
    tensor.shape[1] = 0;
    tensor.place.size = 0;
    cr_assert_null(refusal(&tensor));
    tensor = image();
    tensor.ndim = 0;
    tensor.place.size = 4;
    cr_assert_null(refusal(&tensor));
    tensor.place.size = 3;
    cr_assert_not_null(refusal(&tensor));
}

Test(value_tensor, values_outside_are_found_at_any_depth)
{
    struct text document;
    struct value_reader reader;
    struct value item;
    uint8_t place[VALUE_PLACE_SIZE] = {0};
    text_init(&document, 4096);
    value_write_array(&document, 2);
    value_write_map(&document, 1);
    value_write_string(&document, BYTES("a"));
    value_write_extension(&document, VALUE_EXTENSION_BUFFER, bytes_of(place, sizeof place));
    value_write_array(&document, 2);
    value_write_extension(&document, 9, BYTES("other"));
    value_write_extension(&document, VALUE_EXTENSION_TENSOR, BYTES("t"));
    value_read_init(&reader, text_bytes(&document));
    cr_assert(value_next_outside(&reader, &item) && item.extension == VALUE_EXTENSION_BUFFER);
    cr_assert_eq(item.bytes.size, VALUE_PLACE_SIZE);
    cr_assert(value_next_outside(&reader, &item) && item.extension == VALUE_EXTENSION_TENSOR);
    cr_assert_not(value_next_outside(&reader, &item));
    text_done(&document);
}
