/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target: one table per document, read by one writer and one reader.
 *
 * A row names the key, the kind and the member; a reader checks type and range and says which key
 * is wrong. Unknown keys are left alone (a newer writer), missing ones are errors.
 */
#include "target.h"

#include <stddef.h>
#include <string.h>

#include "ensure.h"
#include "value.h"

enum field_kind {
    FIELD_TEXT,
    FIELD_BINARY,
    FIELD_DOCUMENT, /* an array */
    FIELD_VALUE,    /* any */
    FIELD_U32,
    FIELD_U64,
    FIELD_I64,
    FIELD_BOOL
};

struct field {
    const char *key;
    enum field_kind kind;
    size_t offset; /* of the member */
    int64_t least, most;
    bool optional;    /* neither written nor wanted when empty or `fallback`; bytes and I64 */
    int64_t fallback; /* I64 */
};

#define FIELD(type, key, kind, least, most)                                                        \
    {                                                                                              \
#key, kind, offsetof(struct type, key), least, most, false, 0                              \
    }
#define OPTIONAL(type, key, kind, least, most)                                                     \
    {                                                                                              \
#key, kind, offsetof(struct type, key), least, most, true, 0                               \
    }
#define OPTIONAL_ELSE(type, key, least, most, fallback)                                            \
    {                                                                                              \
#key, FIELD_I64, offsetof(struct type, key), least, most, true, fallback                   \
    }

static const struct field DEPLOYMENT_FIELDS[] = {
    FIELD(target_deployment, name, FIELD_TEXT, 1, 128),
    FIELD(target_deployment, runner, FIELD_TEXT, 1, 4096),
    FIELD(target_deployment, replica, FIELD_BINARY, 1, INT32_MAX),
    FIELD(target_deployment, version, FIELD_U64, 0, INT64_MAX),
    FIELD(target_deployment, num_replicas, FIELD_U32, 0, 100000),
    FIELD(target_deployment, max_ongoing_requests, FIELD_U32, 1, 1000000),
    FIELD(target_deployment, max_queued_requests, FIELD_I64, -1, INT32_MAX),
    FIELD(target_deployment, graceful_shutdown_timeout_us, FIELD_I64, 0, INT64_MAX / 1000),
    FIELD(target_deployment, health_check_period_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_deployment, health_check_timeout_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_deployment, stream_body, FIELD_BOOL, 0, 1),
    OPTIONAL_ELSE(target_deployment, max_surge_percent, 0, 100, TARGET_MAX_SURGE_DEFAULT),
    OPTIONAL_ELSE(target_deployment, rolling_update_millionths, 1, 1000000,
                  TARGET_ROLLING_UPDATE_DEFAULT),
    OPTIONAL_ELSE(target_deployment, max_constructor_retry_count, 1, INT32_MAX,
                  TARGET_RETRY_DEFAULT),
    OPTIONAL(target_deployment, start_timeout_us, FIELD_I64, 0, INT64_MAX / 1000),
};

static const struct field REPLICA_FIELDS[] = {
    FIELD(target_replica, app, FIELD_TEXT, 1, 128),
    FIELD(target_replica, deployment, FIELD_TEXT, 1, 128),
    FIELD(target_replica, library, FIELD_TEXT, 0, 4095),
    FIELD(target_replica, symbol, FIELD_TEXT, 0, 255),
    FIELD(target_replica, user_config, FIELD_TEXT, 0, INT32_MAX),
    FIELD(target_replica, args, FIELD_DOCUMENT, 0, 0),
    FIELD(target_replica, threads, FIELD_U32, 1, 256),
    FIELD(target_replica, max_ongoing_requests, FIELD_U32, 1, 1000000),
    FIELD(target_replica, max_batch_size, FIELD_U32, 1, 4096),
    FIELD(target_replica, max_concurrent_batches, FIELD_U32, 1, 256),
    FIELD(target_replica, batch_wait_us, FIELD_I64, 0, INT64_MAX / 1000),
    FIELD(target_replica, health_check_period_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_replica, health_check_timeout_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_replica, graceful_shutdown_timeout_us, FIELD_I64, 0, INT64_MAX / 1000),
    FIELD(target_replica, stream_body, FIELD_BOOL, 0, 1),
    OPTIONAL(target_replica, runner, FIELD_TEXT, 1, 16),
    OPTIONAL(target_replica, code, FIELD_BINARY, 1, INT32_MAX),
    OPTIONAL(target_replica, options, FIELD_VALUE, 0, 0),
    OPTIONAL(target_replica, max_models, FIELD_I64, -1, INT32_MAX),
    OPTIONAL(target_replica, model_load_timeout_us, FIELD_I64, 0, INT64_MAX / 1000),
    OPTIONAL(target_replica, configuration, FIELD_I64, 0, INT64_MAX),
    OPTIONAL(target_replica, rank, FIELD_I64, 0, INT32_MAX),
    OPTIONAL(target_replica, world_size, FIELD_I64, 0, INT32_MAX),
};

static const struct field CONFIGURATION_FIELDS[] = {
    FIELD(target_configuration, user_config, FIELD_TEXT, 0, INT32_MAX),
    FIELD(target_configuration, max_ongoing_requests, FIELD_U32, 1, 1000000),
    FIELD(target_configuration, health_check_period_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_configuration, health_check_timeout_us, FIELD_I64, 1, INT64_MAX / 1000),
    FIELD(target_configuration, graceful_shutdown_timeout_us, FIELD_I64, 0, INT64_MAX / 1000),
    FIELD(target_configuration, configuration, FIELD_I64, 0, INT64_MAX),
    FIELD(target_configuration, rank, FIELD_I64, 0, INT32_MAX),
    FIELD(target_configuration, world_size, FIELD_I64, 0, INT32_MAX),
};

static const struct field APP_FIELDS[] = {
    FIELD(target_app, name, FIELD_TEXT, 1, 255),
    FIELD(target_app, route_prefix, FIELD_TEXT, 0, 4096),
    OPTIONAL(target_app, document, FIELD_BINARY, 1, INT32_MAX),
    OPTIONAL(target_app, build_failure, FIELD_TEXT, 1, INT32_MAX),
};

enum {
    APP_FIELD_COUNT = sizeof APP_FIELDS / sizeof *APP_FIELDS,
    DEPLOYMENT_FIELD_COUNT = sizeof DEPLOYMENT_FIELDS / sizeof *DEPLOYMENT_FIELDS,
    REPLICA_FIELD_COUNT = sizeof REPLICA_FIELDS / sizeof *REPLICA_FIELDS,
    CONFIGURATION_FIELD_COUNT = sizeof CONFIGURATION_FIELDS / sizeof *CONFIGURATION_FIELDS,
};

/* ---- writing
 * -------------------------------------------------------------------------------------- */

static void write_field(struct text *out, const struct field *field, const void *record)
{
    const void *member = (const char *)record + field->offset;
    value_write_string(out, bytes_of_string(field->key));
    switch (field->kind) {
    case FIELD_TEXT:
        value_write_string(out, *(const struct bytes *)member);
        break;
    case FIELD_BINARY:
        value_write_binary(out, *(const struct bytes *)member);
        break;
    case FIELD_DOCUMENT:
    case FIELD_VALUE:
        ensure(((const struct bytes *)member)->size > 0);
        text_add(out, *(const struct bytes *)member);
        break;
    case FIELD_U32:
        value_write_uint(out, *(const uint32_t *)member);
        break;
    case FIELD_U64:
        value_write_uint(out, *(const uint64_t *)member);
        break;
    case FIELD_I64:
        value_write_int(out, *(const int64_t *)member);
        break;
    case FIELD_BOOL:
        value_write_bool(out, *(const bool *)member);
        break;
    }
}

static bool field_is_there(const struct field *field, const void *record)
{
    const void *member = (const char *)record + field->offset;
    if (!field->optional)
        return true;
    return field->kind == FIELD_I64 ? *(const int64_t *)member != field->fallback
                                    : ((const struct bytes *)member)->size > 0;
}

static void write_fields(struct text *out, const struct field *fields, size_t count,
                         const void *record)
{
    uint32_t written = 0;
    for (size_t i = 0; i < count; i++)
        written += field_is_there(&fields[i], record);
    value_write_map(out, written);
    for (size_t i = 0; i < count; i++)
        if (field_is_there(&fields[i], record))
            write_field(out, &fields[i], record);
}

void target_write_app(struct text *out, struct bytes ingress,
                      const struct target_deployment *deployments, uint32_t deployment_count)
{
    ensure(deployment_count <= TARGET_DEPLOYMENT_LIMIT);
    value_write_map(out, 2);
    value_write_string(out, BYTES("ingress"));
    value_write_string(out, ingress);
    value_write_string(out, BYTES("deployments"));
    value_write_array(out, deployment_count);
    for (uint32_t i = 0; i < deployment_count; i++)
        write_fields(out, DEPLOYMENT_FIELDS, DEPLOYMENT_FIELD_COUNT, &deployments[i]);
}

void target_write_whole(struct text *out, const struct target_app *apps, uint32_t app_count)
{
    ensure(app_count <= TARGET_APP_LIMIT);
    value_write_array(out, app_count);
    for (uint32_t i = 0; i < app_count; i++)
        write_fields(out, APP_FIELDS, APP_FIELD_COUNT, &apps[i]);
}

void target_write_replica(struct text *out, const struct target_replica *replica)
{
    write_fields(out, REPLICA_FIELDS, REPLICA_FIELD_COUNT, replica);
}

void target_write_configuration(struct text *out, const struct target_configuration *configuration)
{
    write_fields(out, CONFIGURATION_FIELDS, CONFIGURATION_FIELD_COUNT, configuration);
}

/* The pairs of a map that was checked, without its head (MessagePack's fixmap, map 16, map 32). */
static struct bytes map_pairs(struct bytes map)
{
    size_t head = map.at[0] == 0xde ? 3 : map.at[0] == 0xdf ? 5 : 1;
    return bytes_skip(map, head);
}

void target_write_start(struct text *out, struct bytes replica_document, int64_t configuration,
                        int64_t rank, int64_t world_size)
{
    struct value_reader reader;
    struct value map;
    value_read_init(&reader, replica_document);
    bool read = value_next(&reader, &map);
    ensure(read && map.type == VALUE_MAP);
    value_write_map(out, map.count + 3);
    text_add(out, map_pairs(replica_document));
    value_write_string(out, BYTES("configuration"));
    value_write_int(out, configuration);
    value_write_string(out, BYTES("rank"));
    value_write_int(out, rank);
    value_write_string(out, BYTES("world_size"));
    value_write_int(out, world_size);
}

/* ---- reading
 * -------------------------------------------------------------------------------------- */

static int wrong(const struct field *field, const char *what, struct error *reterr)
{
    return error_set(reterr, ERROR_INVALID, "target: '%s' %s", field->key, what);
}

static int read_bytes(const struct field *field, const struct value *value, struct bytes *member,
                      struct error *reterr)
{
    enum value_type wanted = field->kind == FIELD_TEXT ? VALUE_STRING : VALUE_BINARY;
    if (value->type != wanted)
        return wrong(field, field->kind == FIELD_TEXT ? "is not a string" : "is not binary",
                     reterr);
    if ((int64_t)value->bytes.size < field->least || (int64_t)value->bytes.size > field->most)
        return wrong(field, value->bytes.size ? "is too long" : "is empty", reterr);
    *member = value->bytes;
    return 0;
}

static int read_number(const struct field *field, const struct value *value, void *member,
                       struct error *reterr)
{
    if (field->kind == FIELD_U64) {
        if (value->type != VALUE_UINT && (value->type != VALUE_INT || value->integer < 0))
            return wrong(field, "is not a number that is at least 0", reterr);
        *(uint64_t *)member =
            value->type == VALUE_UINT ? value->unsigned_integer : (uint64_t)value->integer;
        return 0;
    }
    if (value->type != VALUE_INT)
        return wrong(field, "is not a whole number", reterr);
    if (value->integer < field->least || value->integer > field->most)
        return error_set(reterr, ERROR_INVALID, "target: '%s' is %lld, not %lld to %lld",
                         field->key, (long long)value->integer, (long long)field->least,
                         (long long)field->most);
    if (field->kind == FIELD_U32)
        *(uint32_t *)member = (uint32_t)value->integer;
    else
        *(int64_t *)member = value->integer;
    return 0;
}

static int read_field(const struct field *field, struct bytes map, void *record,
                      struct error *reterr)
{
    void *member = (char *)record + field->offset;
    struct value value;
    if (!value_map_find(map, bytes_of_string(field->key), &value)) {
        if (!field->optional)
            return wrong(field, "is missing", reterr);
        if (field->kind == FIELD_I64)
            *(int64_t *)member = field->fallback;
        else
            *(struct bytes *)member = (struct bytes){0};
        return 0;
    }
    switch (field->kind) {
    case FIELD_TEXT:
    case FIELD_BINARY:
        return read_bytes(field, &value, member, reterr);
    case FIELD_DOCUMENT:
        if (value.type != VALUE_ARRAY)
            return wrong(field, "is not an array", reterr);
        *(struct bytes *)member = value.raw;
        return 0;
    case FIELD_VALUE:
        *(struct bytes *)member = value.raw;
        return 0;
    case FIELD_BOOL:
        if (value.type != VALUE_BOOL)
            return wrong(field, "is not true or false", reterr);
        *(bool *)member = value.boolean;
        return 0;
    default:
        return read_number(field, &value, member, reterr);
    }
}

static int read_fields(const struct field *fields, size_t count, struct bytes map, void *record,
                       struct error *reterr)
{
    for (size_t i = 0; i < count; i++) {
        int code = read_field(&fields[i], map, record, reterr);
        if (code < 0)
            return code;
    }
    return 0;
}

static int check_map(struct bytes document, const char *noun, struct error *reterr)
{
    struct value_reader reader;
    struct value value;
    size_t offset;
    if (value_check(document, &offset) < 0)
        return error_set(reterr, ERROR_INVALID, "%s: no MessagePack at byte %zu", noun, offset);
    value_read_init(&reader, document);
    if (!value_next(&reader, &value) || value.type != VALUE_MAP)
        return error_set(reterr, ERROR_INVALID, "%s: not a map", noun);
    return 0;
}

int target_read_app(struct bytes document, struct bytes *ret_ingress, uint32_t *ret_count,
                    struct error *reterr)
{
    struct value ingress, deployments;
    if (check_map(document, "application target", reterr) < 0)
        return ERROR_INVALID;
    if (!value_map_find(document, BYTES("ingress"), &ingress) || ingress.type != VALUE_STRING)
        return error_set(reterr, ERROR_INVALID, "target: 'ingress' is missing or not a string");
    if (!value_map_find(document, BYTES("deployments"), &deployments) ||
        deployments.type != VALUE_ARRAY)
        return error_set(reterr, ERROR_INVALID, "target: 'deployments' is missing or not an array");
    if (deployments.count > TARGET_DEPLOYMENT_LIMIT)
        return error_set(reterr, ERROR_LIMIT, "target: %u deployments, more than %d",
                         deployments.count, TARGET_DEPLOYMENT_LIMIT);
    *ret_ingress = ingress.bytes;
    *ret_count = deployments.count;
    return 0;
}

static int read_row(const struct value *item, uint32_t index,
                    struct target_deployment *ret_deployment, struct error *reterr)
{
    struct target_deployment deployment = {0};
    if (item->type != VALUE_MAP)
        return error_set(reterr, ERROR_INVALID, "target: deployment %u is not a map", index);
    int code =
        read_fields(DEPLOYMENT_FIELDS, DEPLOYMENT_FIELD_COUNT, item->raw, &deployment, reterr);
    if (code == 0)
        *ret_deployment = deployment;
    return code;
}

int target_read_deployment(struct bytes document, uint32_t index,
                           struct target_deployment *ret_deployment, struct error *reterr)
{
    struct value deployments, item;
    if (!value_map_find(document, BYTES("deployments"), &deployments) ||
        !value_array_at(deployments.raw, index, &item))
        return error_set(reterr, ERROR_INVALID, "target: deployment %u is not a map", index);
    return read_row(&item, index, ret_deployment, reterr);
}

int target_next_deployment(struct bytes document, uint32_t index, struct bytes *rest,
                           struct target_deployment *ret_deployment, struct error *reterr)
{
    struct value deployments, item = {0};
    struct value_reader reader;
    if (index == 0) {
        if (!value_map_find(document, BYTES("deployments"), &deployments))
            return error_set(reterr, ERROR_INVALID, "target: there are no deployments");
        value_read_init(&reader, deployments.raw);
        value_next(&reader, &deployments); /* it stands before the first row */
    } else {
        value_read_init(&reader, *rest);
    }
    struct value_reader behind = reader;
    if (!value_next(&reader, &item) || !value_skip(&behind))
        return error_set(reterr, ERROR_INVALID, "target: deployment %u is not a map", index);
    *rest = behind.rest;
    return read_row(&item, index, ret_deployment, reterr);
}

int target_read_whole(struct bytes document, uint32_t *ret_count, struct error *reterr)
{
    struct value_reader reader;
    struct value value;
    size_t offset;
    if (value_check(document, &offset) < 0)
        return error_set(reterr, ERROR_INVALID, "whole target: no MessagePack at byte %zu", offset);
    value_read_init(&reader, document);
    if (!value_next(&reader, &value) || value.type != VALUE_ARRAY)
        return error_set(reterr, ERROR_INVALID, "whole target: not an array");
    if (value.count > TARGET_APP_LIMIT)
        return error_set(reterr, ERROR_LIMIT, "whole target: %u applications, more than %d",
                         value.count, TARGET_APP_LIMIT);
    *ret_count = value.count;
    return 0;
}

int target_read_whole_app(struct bytes document, uint32_t index, struct target_app *ret_app,
                          struct error *reterr)
{
    struct value item;
    struct target_app app = {0};
    if (!value_array_at(document, index, &item) || item.type != VALUE_MAP)
        return error_set(reterr, ERROR_INVALID, "whole target: application %u is not a map", index);
    int code = read_fields(APP_FIELDS, APP_FIELD_COUNT, item.raw, &app, reterr);
    if (code == 0 && !app.document.size == !app.build_failure.size)
        code = error_set(
            reterr, ERROR_INVALID,
            "whole target: application %u has not either 'document' or 'build_failure'", index);
    if (code == 0)
        *ret_app = app;
    return code;
}

int target_read_replica(struct bytes document, struct target_replica *ret_replica,
                        struct error *reterr)
{
    struct target_replica replica = {0};
    int code = check_map(document, "replica document", reterr);
    if (code == 0)
        code = read_fields(REPLICA_FIELDS, REPLICA_FIELD_COUNT, document, &replica, reterr);
    if (code == 0)
        *ret_replica = replica;
    return code;
}

int target_read_configuration(struct bytes document, struct target_configuration *ret_configuration,
                              struct error *reterr)
{
    struct target_configuration configuration = {0};
    int code = check_map(document, "configuration", reterr);
    if (code == 0)
        code = read_fields(CONFIGURATION_FIELDS, CONFIGURATION_FIELD_COUNT, document,
                           &configuration, reterr);
    if (code == 0)
        *ret_configuration = configuration;
    return code;
}

int target_read_configuration_of(struct bytes replica_document,
                                 struct target_configuration *ret_configuration,
                                 struct error *reterr)
{
    struct target_replica replica;
    struct text text;
    if (target_read_replica(replica_document, &replica, reterr) < 0)
        return reterr->code;
    *ret_configuration = (struct target_configuration){
        .user_config = replica.user_config,
        .max_ongoing_requests = replica.max_ongoing_requests,
        .health_check_period_us = replica.health_check_period_us,
        .health_check_timeout_us = replica.health_check_timeout_us,
        .graceful_shutdown_timeout_us = replica.graceful_shutdown_timeout_us,
    };
    text_init(&text, INT32_MAX);
    target_write_configuration(&text, ret_configuration);
    int64_t hash = (int64_t)(bytes_hash(text_bytes(&text)) & INT64_MAX);
    int code = text.failed ? error_set(reterr, ERROR_MEMORY, "no memory for a configuration") : 0;
    text_done(&text);
    ret_configuration->configuration = hash ? hash : 1;
    return code;
}
