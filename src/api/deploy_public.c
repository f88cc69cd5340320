/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deploy_public: <manta/sys/deploy.h>: from descriptions of deployments to a target document.
 *
 * What a shared object's builder does by manta_bind (bind.c) is given here as data.  The numbers
 * are checked with the limits of the target's table when the controller reads it; what would make
 * no target at all is checked here, by name.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <manta/sys/deploy.h>

#include "instance_inner.h"
#include "mem.h"
#include "runtime.h"
#include "target.h"
#include "value.h"

static const uint8_t EMPTY_ARRAY = 0x90; /* MessagePack */
static const double DURATION_LIMIT_S = 1e9;

enum { NAME_LIMIT = 128 };

static int refuse(const struct manta_deploy_entry *entry, const char *what, struct error *reterr)
{
    return error_set(reterr, ERROR_INVALID, "deployment '%.128s': %s",
                     entry->name ? entry->name : "", what);
}

static bool is_duration(double seconds, bool zero_too)
{
    return seconds <= DURATION_LIMIT_S && (zero_too ? seconds >= 0 : seconds > 0);
}

static int check_numbers(const struct manta_deploy_entry *entry, struct error *reterr)
{
    if (entry->num_replicas < 0)
        return refuse(entry, "num_replicas is negative", reterr);
    if (entry->max_ongoing_requests < 1 || entry->max_ongoing_requests > 1000000)
        return refuse(entry, "max_ongoing_requests is not 1 to 1000000", reterr);
    if (entry->max_queued_requests < -1)
        return refuse(entry, "max_queued_requests is neither -1 nor a number of requests", reterr);
    if (entry->threads < 1 || entry->threads > 256)
        return refuse(entry, "threads is not 1 to 256", reterr);
    if (!is_duration(entry->graceful_shutdown_timeout_s, true))
        return refuse(entry, "graceful_shutdown_timeout_s is not 0 to 1e9", reterr);
    if (!is_duration(entry->health_check_period_s, false) ||
        !is_duration(entry->health_check_timeout_s, false))
        return refuse(entry, "the periods of the health check are not above 0, up to 1e9", reterr);
    if (entry->max_surge_percent < 0 || entry->max_surge_percent > 100)
        return refuse(entry, "max_surge_percent is not 0 to 100", reterr);
    if (!(entry->rolling_update_percentage > 0 && entry->rolling_update_percentage <= 1))
        return refuse(entry, "rolling_update_percentage is not above 0, up to 1", reterr);
    if (entry->max_constructor_retry_count < 1)
        return refuse(entry, "max_constructor_retry_count is not at least 1", reterr);
    if (!is_duration(entry->start_timeout_s, true))
        return refuse(entry, "start_timeout_s is not 0 to 1e9", reterr);
    if (entry->version > INT64_MAX)
        return refuse(entry, "version is not below 2^63", reterr);
    return 0;
}

static int check_document(const struct manta_deploy_entry *entry, const struct manta_value *value,
                          const char *what, struct error *reterr)
{
    size_t offset;
    if (value->size && value_check(bytes_of(value->at, value->size), &offset) < 0)
        return refuse(entry, what, reterr);
    return 0;
}

/* As Ray Serve has it: any text without '#', which separates the parts of a replica's full name. */
static bool is_name(const char *name)
{
    size_t length = name ? strlen(name) : 0;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7F || name[i] == '#')
            return false;
    return length >= 1 && length <= NAME_LIMIT;
}

static int check_entry(const struct manta_deploy_entry *entry, struct error *reterr)
{
    if (!is_name(entry->name))
        return refuse(entry, "a name has 1 to 128 bytes, no control characters and no '#'", reterr);
    if (!entry->runner || strncmp(entry->runner, "python:/", 8) != 0 ||
        strlen(entry->runner) > 4000)
        return refuse(entry, "the runner is not python:/path/of/an/interpreter", reterr);
    if (!entry->code != !entry->code_size)
        return refuse(entry, "code and code_size do not fit", reterr);
    if (entry->args.size && manta_value_type(&entry->args) != MANTA_ARRAY)
        return refuse(entry, "args is no array", reterr);
    if (check_document(entry, &entry->args, "args is no MessagePack", reterr) < 0 ||
        check_document(entry, &entry->options, "options is no MessagePack", reterr) < 0)
        return reterr->code;
    return check_numbers(entry, reterr);
}

static int64_t to_us(double seconds)
{
    return (int64_t)(seconds * 1e6 + 0.5);
}

static int64_t to_us_above_zero(double seconds)
{
    int64_t us = to_us(seconds);
    return us ? us : 1;
}

static struct bytes runner_kind(const struct manta_deploy_entry *entry)
{
    return bytes_of(entry->runner, strcspn(entry->runner, ":"));
}

static struct target_replica replica_target(const char *app, const struct manta_deploy_entry *entry)
{
    return (struct target_replica){
        .app = bytes_of_string(app),
        .deployment = bytes_of_string(entry->name),
        .runner = runner_kind(entry),
        .user_config = bytes_of_string(entry->user_config),
        .code = bytes_of(entry->code, entry->code_size),
        .options = bytes_of(entry->options.at, entry->options.size),
        .args = entry->args.size ? bytes_of(entry->args.at, entry->args.size)
                                 : bytes_of(&EMPTY_ARRAY, 1),
        .threads = (uint32_t)entry->threads,
        .max_ongoing_requests = (uint32_t)entry->max_ongoing_requests,
        .max_batch_size = 1,
        .max_concurrent_batches = 1,
        .health_check_period_us = to_us_above_zero(entry->health_check_period_s),
        .health_check_timeout_us = to_us_above_zero(entry->health_check_timeout_s),
        .graceful_shutdown_timeout_us = to_us(entry->graceful_shutdown_timeout_s),
        .stream_body = entry->stream_body,
    };
}

static struct target_deployment deployment_target(const struct manta_deploy_entry *entry,
                                                  const struct target_replica *replica,
                                                  struct bytes document)
{
    return (struct target_deployment){
        .name = bytes_of_string(entry->name),
        .runner = bytes_of_string(entry->runner),
        .replica = document,
        .version = entry->version,
        .num_replicas = (uint32_t)entry->num_replicas,
        .max_ongoing_requests = replica->max_ongoing_requests,
        .max_queued_requests = entry->max_queued_requests,
        .graceful_shutdown_timeout_us = replica->graceful_shutdown_timeout_us,
        .health_check_period_us = replica->health_check_period_us,
        .health_check_timeout_us = replica->health_check_timeout_us,
        .max_surge_percent = entry->max_surge_percent,
        .rolling_update_millionths = to_us_above_zero(entry->rolling_update_percentage),
        .max_constructor_retry_count = entry->max_constructor_retry_count,
        .start_timeout_us = to_us(entry->start_timeout_s),
        .stream_body = entry->stream_body,
    };
}

/* Entries of an older caller are smaller than ours: what they lack has its default. */
static struct manta_deploy_entry entry_at(const struct manta_deploy_entry *entries, size_t index)
{
    struct manta_deploy_entry entry = {MANTA_DEPLOY_ENTRY};
    const char *at = (const char *)entries + index * entries->size;
    memcpy(&entry, at, entries->size < sizeof entry ? entries->size : sizeof entry);
    return entry;
}

static int write_target(const struct manta_deploy_options *options,
                        const struct manta_deploy_entry *entries, size_t count, struct text *out,
                        struct error *reterr)
{
    struct target_deployment *targets = mem_try(count * sizeof *targets);
    struct text *documents = mem_try(count * sizeof *documents);
    size_t made = 0;
    bool has_ingress = false;
    while (targets && documents && made < count) {
        struct manta_deploy_entry entry = entry_at(entries, made);
        if (check_entry(&entry, reterr) < 0)
            break;
        struct target_replica replica = replica_target(options->name, &entry);
        text_init(&documents[made], INSTANCE_TARGET_LIMIT);
        target_write_replica(&documents[made], &replica);
        out->failed |= documents[made].failed;
        targets[made] = deployment_target(&entry, &replica, text_bytes(&documents[made]));
        has_ingress = has_ingress || !strcmp(entry.name, options->ingress);
        made++;
    }
    if (made < count && !reterr->code)
        error_set(reterr, ERROR_MEMORY, "no memory for the application's target");
    if (!reterr->code && !has_ingress)
        error_set(reterr, ERROR_INVALID, "the ingress '%.128s' is none of the deployments",
                  options->ingress);
    if (!reterr->code)
        target_write_app(out, bytes_of_string(options->ingress), targets, (uint32_t)count);
    if (!reterr->code && out->failed)
        error_set(reterr, ERROR_LIMIT, "the application's code and arguments are too large");
    while (made > 0)
        text_done(&documents[--made]);
    mem_free(documents);
    mem_free(targets);
    return reterr->code;
}

static int check_options(const struct manta_deploy_options *options, size_t count,
                         struct manta_error *reterr)
{
    if (!options->name || !*options->name)
        return manta_error_set(reterr, MANTA_EINVALID, "an application needs a name");
    if (!options->ingress || !count || count > TARGET_DEPLOYMENT_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "an application needs an ingress and 1 to %d deployments",
                               TARGET_DEPLOYMENT_LIMIT);
    return 0;
}

int manta_deploy_document(const struct manta_deploy_options *given,
                          const struct manta_deploy_entry *entries, size_t count,
                          struct manta_pack *pack, struct manta_error *reterr)
{
    struct manta_deploy_options options = {MANTA_DEPLOY_OPTIONS};
    struct error error = {0};
    struct text document;
    take_options(&options, sizeof options, given, given ? given->size : 0);
    if (check_options(&options, count, reterr) < 0)
        return MANTA_EINVALID;
    text_init(&document, INSTANCE_TARGET_LIMIT);
    int code = write_target(&options, entries, count, &document, &error);
    return apply_give_document(pack, &document, code) < 0 ? runtime_error(reterr, &error) : 0;
}

int manta_deploy(struct manta_instance *instance, const struct manta_deploy_options *given,
                 const struct manta_deploy_entry *entries, size_t count, struct manta_error *reterr)
{
    struct manta_deploy_options options = {MANTA_DEPLOY_OPTIONS};
    struct error error = {0};
    struct text document;
    take_options(&options, sizeof options, given, given ? given->size : 0);
    if (instance_is_foreign(instance))
        return manta_error_set(reterr, MANTA_ECLOSED, FORKS_TEXT);
    if (instance->inside)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "local testing runs deployments of C only: this process has no %s",
                               count ? entries->runner : "runner");
    if (check_options(&options, count, reterr) < 0)
        return MANTA_EINVALID;
    text_init(&document, INSTANCE_TARGET_LIMIT);
    int code = write_target(&options, entries, count, &document, &error);
    if (code == 0) {
        struct manta_run_options run = {MANTA_RUN_OPTIONS, .no_wait = options.no_wait,
                                        .progress = options.progress, .owner = options.owner};
        run.name = options.name;
        run.route_prefix = options.route_prefix;
        code = instance_deploy(instance, &run, text_bytes(&document), &error);
    }
    text_done(&document);
    return code < 0 ? runtime_error(reterr, &error) : 0;
}
