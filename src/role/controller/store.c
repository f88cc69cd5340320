/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: targets as files.
 *
 * A target is written as a MessagePack map, a deployment in it as a map that one table describes,
 * for the writer and the reader.
 */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ensure.h"
#include "mem.h"
#include "target.h"
#include "value.h"

enum { STORE_APPS_LIMIT = 100000, NUMBERS_SIZE = 32, NAME_SIZE = 64 };

/* ---- documents ---- */

enum field_kind { FIELD_BYTES, FIELD_U32, FIELD_U64, FIELD_I64, FIELD_BOOL };

static const struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
} fields[] = {
#define FIELD(kind, member)                                                                        \
    {                                                                                              \
#member, kind, offsetof(struct controller_deployment_target, member)                       \
    }
    FIELD(FIELD_BYTES, name),
    FIELD(FIELD_U64, id),
    FIELD(FIELD_U64, version),
    FIELD(FIELD_U32, replicas),
    FIELD(FIELD_U32, max_ongoing),
    FIELD(FIELD_I64, max_queued),
    FIELD(FIELD_I64, graceful_shutdown_timeout_ns),
    FIELD(FIELD_I64, health_check_period_ns),
    FIELD(FIELD_I64, health_check_timeout_ns),
    FIELD(FIELD_BOOL, streams_body),
    FIELD(FIELD_BYTES, body),
#undef FIELD
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields };

static void write_field(struct text *out, const struct field *field, const void *row)
{
    const void *member = (const char *)row + field->offset;
    value_write_string(out, bytes_of_string(field->key));
    switch (field->kind) {
    case FIELD_BYTES:
        value_write_binary(out, *(const struct bytes *)member);
        return;
    case FIELD_U32:
        value_write_uint(out, *(const uint32_t *)member);
        return;
    case FIELD_U64:
        value_write_uint(out, *(const uint64_t *)member);
        return;
    case FIELD_I64:
        value_write_int(out, *(const int64_t *)member);
        return;
    case FIELD_BOOL:
        value_write_bool(out, *(const bool *)member);
        return;
    }
}

static void write_bytes(struct text *out, const char *key, struct bytes bytes)
{
    value_write_string(out, bytes_of_string(key));
    value_write_binary(out, bytes);
}

void store_write_target(struct text *out, const struct controller_app_target *target)
{
    value_write_map(out, 5);
    value_write_string(out, BYTES("id"));
    value_write_uint(out, target->id.v);
    write_bytes(out, "name", target->name);
    write_bytes(out, "route_prefix", target->route_prefix);
    write_bytes(out, "ingress", target->ingress);
    value_write_string(out, BYTES("deployments"));
    value_write_array(out, target->deployment_count);
    for (uint32_t i = 0; i < target->deployment_count; i++) {
        value_write_map(out, FIELD_COUNT);
        for (size_t j = 0; j < FIELD_COUNT; j++)
            write_field(out, &fields[j], target->deployments + i);
    }
}

static bool read_unsigned(const struct value *value, uint64_t *ret_number)
{
    if (value->type != VALUE_UINT && (value->type != VALUE_INT || value->integer < 0))
        return false;
    *ret_number = value->type == VALUE_UINT ? value->unsigned_integer : (uint64_t)value->integer;
    return true;
}

static bool read_field(const struct field *field, struct bytes map, void *row)
{
    void *member = (char *)row + field->offset;
    struct value value;
    uint64_t number;
    if (!value_map_find(map, bytes_of_string(field->key), &value))
        return false;
    switch (field->kind) {
    case FIELD_BYTES:
        *(struct bytes *)member = value.bytes;
        return value.type == VALUE_BINARY;
    case FIELD_U32:
        if (!read_unsigned(&value, &number) || number > UINT32_MAX)
            return false;
        *(uint32_t *)member = (uint32_t)number;
        return true;
    case FIELD_U64:
        return read_unsigned(&value, (uint64_t *)member);
    case FIELD_I64:
        *(int64_t *)member = value.integer;
        return value.type == VALUE_INT;
    case FIELD_BOOL:
        *(bool *)member = value.boolean;
        return value.type == VALUE_BOOL;
    }
    return false;
}

static bool read_bytes(struct bytes map, const char *key, struct bytes *ret_bytes)
{
    struct value value;
    if (!value_map_find(map, bytes_of_string(key), &value) || value.type != VALUE_BINARY)
        return false;
    *ret_bytes = value.bytes;
    return true;
}

static int broken(const char *key, struct error *reterr)
{
    return error_set(reterr, ERROR_INVALID, "a stored target is broken: '%s' is missing or wrong",
                     key);
}

static int read_rows(const struct value *list, struct controller_deployment_target *rows,
                     struct error *reterr)
{
    struct value_reader reader;
    struct value item;
    value_read_init(&reader, list->raw);
    value_next(&reader, &item); /* the array itself */
    for (uint32_t i = 0; i < list->count; i++) {
        rows[i] = (struct controller_deployment_target){0};
        if (!value_next(&reader, &item) || item.type != VALUE_MAP)
            return broken("deployments", reterr);
        for (size_t j = 0; j < FIELD_COUNT; j++)
            if (!read_field(&fields[j], item.raw, rows + i))
                return broken(fields[j].key, reterr);
        for (uint32_t k = 0; k < 2 * item.count; k++)
            value_skip(&reader);
    }
    return 0;
}

int store_read_target(struct bytes document, struct controller_app_target *ret_target,
                      struct controller_deployment_target *rows, uint32_t row_limit,
                      struct error *reterr)
{
    struct controller_app_target target = {.deployments = rows};
    struct value value;
    size_t offset;
    if (value_check(document, &offset) < 0)
        return error_set(reterr, ERROR_INVALID, "a stored target is broken at byte %zu", offset);
    if (!value_map_find(document, BYTES("id"), &value) || !read_unsigned(&value, &target.id.v))
        return broken("id", reterr);
    if (!read_bytes(document, "name", &target.name))
        return broken("name", reterr);
    if (!read_bytes(document, "route_prefix", &target.route_prefix))
        return broken("route_prefix", reterr);
    if (!read_bytes(document, "ingress", &target.ingress))
        return broken("ingress", reterr);
    if (!value_map_find(document, BYTES("deployments"), &value) || value.type != VALUE_ARRAY ||
        value.count > row_limit)
        return broken("deployments", reterr);
    target.deployment_count = value.count;
    int code = read_rows(&value, rows, reterr);
    if (code == 0)
        *ret_target = target;
    return code;
}

/* ---- files ---- */

static int failed(const char *what, const char *path, struct error *reterr)
{
    return error_set(reterr, ERROR_SYSTEM, "%s cannot be %s: %s", path, what, strerror(errno));
}

static int write_file(const struct store *store, const char *name, struct bytes bytes,
                      struct error *reterr)
{
    char path[STORE_PATH_SIZE + NAME_SIZE + 8], new_path[STORE_PATH_SIZE + NAME_SIZE + 16];
    snprintf(path, sizeof path, "%s/%s", store->directory, name);
    snprintf(new_path, sizeof new_path, "%s/new.store", store->directory);
    int descriptor = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return failed("made", new_path, reterr);
    while (bytes.size) {
        ssize_t size = write(descriptor, bytes.at, bytes.size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0) {
            failed("written", new_path, reterr);
            close(descriptor);
            unlink(new_path);
            return ERROR_SYSTEM;
        }
        bytes = bytes_skip(bytes, (size_t)size);
    }
    close(descriptor);
    return rename(new_path, path) == 0 ? 0 : failed("replaced", path, reterr);
}

/* Null when it is not there, is too large or cannot be read (errno); else the caller frees it. */
static uint8_t *read_file(const char *path, size_t limit, size_t *ret_size)
{
    struct stat file;
    size_t done = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0)
        return NULL;
    errno = EFBIG;
    bool good = fstat(descriptor, &file) == 0 && file.st_size >= 0 && (size_t)file.st_size <= limit;
    uint8_t *at = good ? mem_try((size_t)file.st_size + 1) : NULL;
    while (at && done < (size_t)file.st_size) {
        ssize_t size = read(descriptor, at + done, (size_t)file.st_size - done);
        if (size <= 0)
            break;
        done += (size_t)size;
    }
    close(descriptor);
    *ret_size = done;
    return at;
}

int store_open(struct store *store, const char *directory, size_t size_limit, struct error *reterr)
{
    char path[STORE_PATH_SIZE + NAME_SIZE], line[NUMBERS_SIZE];
    size_t size = 0;
    *store = (struct store){.size_limit = size_limit + 65536};
    if (!directory)
        return 0;
    if (strlen(directory) >= sizeof store->directory)
        return error_set(reterr, ERROR_INVALID, "the directory's path is too long");
    snprintf(store->directory, sizeof store->directory, "%s", directory);
    snprintf(path, sizeof path, "%s/numbers.store", directory);
    uint8_t *before = read_file(path, sizeof line, &size);
    if (before)
        store->life = strtoull((const char *)before, NULL, 10) + 1;
    mem_free(before);
    int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)store->life);
    return write_file(store, "numbers.store", bytes_of(line, (size_t)length), reterr);
}

int store_save_app(const struct store *store, const struct controller_app_target *target,
                   struct error *reterr)
{
    char name[NAME_SIZE];
    struct text document;
    ensure(target->id.v != 0);
    if (!store->directory[0])
        return 0;
    text_init(&document, store->size_limit);
    store_write_target(&document, target);
    snprintf(name, sizeof name, "%llu.app.store", (unsigned long long)target->id.v);
    int code = document.failed ? error_set(reterr, ERROR_MEMORY,
                                           "the target of application '%.*s' is too large",
                                           BYTES_PRINT(bytes_head(target->name, 100)))
                               : write_file(store, name, text_bytes(&document), reterr);
    text_done(&document);
    return code;
}

int store_delete_app(const struct store *store, struct application_id app, struct error *reterr)
{
    char path[STORE_PATH_SIZE + NAME_SIZE];
    if (!store->directory[0])
        return 0;
    snprintf(path, sizeof path, "%s/%llu.app.store", store->directory, (unsigned long long)app.v);
    return unlink(path) == 0 || errno == ENOENT ? 0 : failed("removed", path, reterr);
}

/* ---- all of them ---- */

struct ids {
    uint64_t *at;
    size_t count, capacity;
};

static void add_id(struct ids *ids, uint64_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? 2 * ids->capacity : 16;
        ids->at =
            mem_try_resize(ids->at, ids->capacity * sizeof *ids->at, capacity * sizeof *ids->at);
        ensure(ids->at);
        ids->capacity = capacity;
    }
    ids->at[ids->count++] = id;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void find_ids(const struct store *store, struct ids *ids)
{
    DIR *directory = opendir(store->directory);
    const struct dirent *entry;
    while (directory && ids->count < STORE_APPS_LIMIT && (entry = readdir(directory))) {
        char *end;
        unsigned long long id = strtoull(entry->d_name, &end, 10);
        if (end != entry->d_name && strcmp(end, ".app.store") == 0)
            add_id(ids, id);
    }
    if (directory)
        closedir(directory);
    if (ids->count)
        qsort(ids->at, ids->count, sizeof *ids->at, compare_ids);
}

void store_each(const struct store *store,
                void (*take)(void *owner, const struct controller_app_target *target,
                             const struct error *error),
                void *owner)
{
    struct ids ids = {0};
    if (!store->directory[0])
        return;
    struct controller_deployment_target *rows = mem_new(TARGET_DEPLOYMENT_LIMIT * sizeof *rows);
    find_ids(store, &ids);
    for (size_t i = 0; i < ids.count; i++) {
        char path[STORE_PATH_SIZE + NAME_SIZE];
        struct controller_app_target target;
        struct error error = {0};
        size_t size = 0;
        snprintf(path, sizeof path, "%s/%llu.app.store", store->directory,
                 (unsigned long long)ids.at[i]);
        uint8_t *document = read_file(path, store->size_limit, &size);
        int code = document ? store_read_target(bytes_of(document, size), &target, rows,
                                                TARGET_DEPLOYMENT_LIMIT, &error)
                            : failed("read", path, &error);
        take(owner, code == 0 ? &target : NULL, &error);
        mem_free(document);
    }
    mem_free(rows);
    mem_free(ids.at);
}
