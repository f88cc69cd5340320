/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json: JSON in and out of values.  Parsing is jansson's; printing is value_print.
 */
#include <jansson.h>
#include <string.h>

#include <manta/value.h>

#include "pack.h"
#include "shared.h"
#include "value.h"

size_t manta_value_json(const struct manta_value *value, char *at, size_t room)
{
    struct text text;
    text_init(&text, PACK_LIMIT);
    if (value->size)
        shared_print(bytes_of(value->at, value->size), &text);
    else
        text_add_string(&text, "null");
    if (room) {
        size_t copied = text.size < room - 1 ? text.size : room - 1;
        memcpy(at, text_string(&text), copied);
        at[copied] = 0;
    }
    size_t size = text.size;
    text_done(&text);
    return size;
}

/* jansson has bounded the depth, so this recursion is bounded too. */
static void pack_json(struct text *out, json_t *json)
{
    const char *key;
    json_t *item;
    size_t index;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value_write_map(out, (uint32_t)json_object_size(json));
        json_object_foreach(json, key, item)
        {
            value_write_string(out, bytes_of_string(key));
            pack_json(out, item);
        }
        break;
    case JSON_ARRAY:
        value_write_array(out, (uint32_t)json_array_size(json));
        json_array_foreach(json, index, item) pack_json(out, item);
        break;
    case JSON_STRING:
        value_write_string(out, bytes_of(json_string_value(json), json_string_length(json)));
        break;
    case JSON_INTEGER:
        value_write_int(out, json_integer_value(json));
        break;
    case JSON_REAL:
        value_write_float(out, json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        value_write_bool(out, json_is_true(json));
        break;
    case JSON_NULL:
        value_write_nil(out);
        break;
    }
}

/* How many arrays and objects lie inside each other; what is deeper than `limit` counts as one
 * more. */
static int json_depth(json_t *json, int limit)
{
    const char *key;
    json_t *item;
    size_t index;
    int deepest = 0;
    if (!json_is_object(json) && !json_is_array(json))
        return 0;
    if (limit == 0)
        return 1;
    if (json_is_object(json))
        json_object_foreach(json, key, item)
        {
            int depth = json_depth(item, limit - 1);
            deepest = depth > deepest ? depth : deepest;
        }
    else
        json_array_foreach(json, index, item)
        {
            int depth = json_depth(item, limit - 1);
            deepest = depth > deepest ? depth : deepest;
        }
    return deepest + 1;
}

int manta_pack_json(struct manta_pack *pack, const char *json, size_t size,
                    struct manta_error *reterr)
{
    json_error_t why;
    json_t *root =
        json_loadb(json, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!root)
        return manta_error_set(reterr, MANTA_EINVALID, "no JSON at line %d, column %d: %s",
                               why.line, why.column, why.text);
    int code = 0;
    if (json_depth(root, VALUE_DEPTH_LIMIT) > VALUE_DEPTH_LIMIT)
        code = manta_error_set(reterr, MANTA_EINVALID, "the JSON is nested deeper than %d",
                               VALUE_DEPTH_LIMIT);
    else
        pack_json(&pack->document, root);
    json_decref(root);
    return code;
}
