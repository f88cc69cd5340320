/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perform: what the mind decided, done.
 *
 * Effects are performed in their order.  What one gives rise to at once (the store's confirmation,
 * a start that failed here) goes back to the mind when its list is done.  Readers are told of a new
 * snapshot before anything is done that only they could trip over: a drain, an end, or the outcome
 * for which somebody waits to send requests (R3).
 */
#include "conduct.h"
#include "ensure.h"
#include "log.h"
#include "target.h"
#include "value.h"

/* ---- bodies ---- */

void perform_write_body(struct text *out, struct bytes runner, struct bytes document)
{
    value_write_array(out, 2);
    value_write_string(out, runner);
    value_write_binary(out, document);
}

bool perform_read_body(struct bytes body, struct bytes *ret_runner, struct bytes *ret_document)
{
    struct value runner, document;
    if (value_check(body, NULL) < 0 || !value_array_at(body, 0, &runner) ||
        runner.type != VALUE_STRING || !value_array_at(body, 1, &document) ||
        document.type != VALUE_BINARY)
        return false;
    *ret_runner = runner.bytes;
    *ret_document = document.bytes;
    return true;
}

static bool is_map(struct bytes document)
{
    struct value_reader reader;
    struct value value;
    if (value_check(document, NULL) < 0)
        return false;
    value_read_init(&reader, document);
    return value_next(&reader, &value) && value.type == VALUE_MAP;
}

/* ---- effects ---- */

/* Effects of one transaction follow each other; the last of them commits it. */
static void store(struct conduct *conduct, const struct controller_effect *effect)
{
    struct error error = {0};
    if (!conduct->storing)
        store_begin(&conduct->store);
    conduct->storing = effect->more;
    if (effect->target)
        store_save_app(&conduct->store, effect->target, &error);
    else
        store_delete_app(&conduct->store, effect->app, &error);
    if (effect->more)
        return;
    if (store_commit(&conduct->store, &error) < 0)
        log_print(LOG_ERROR, "the target of application '%.*s' could not be stored: %s",
                  BYTES_PRINT(effect->app_name), error.text);
    conduct_follow_up(conduct, CONTROLLER_STORED, effect->token, (struct replica_id){0}, &error);
}

/* The stored document with what this replica alone is told. */
static int write_start(const struct controller_effect *effect, struct bytes *ret_runner,
                       struct text *out, struct error *reterr)
{
    struct bytes document;
    if (!perform_read_body(effect->body, ret_runner, &document) || !is_map(document))
        return error_set(reterr, ERROR_INVALID, "what is stored of the deployment is broken");
    target_write_start(out, document, (int64_t)effect->configuration, effect->rank,
                       effect->world_size);
    return out->failed ? error_set(reterr, ERROR_MEMORY, "no memory for a replica's document") : 0;
}

static void start(struct conduct *conduct, const struct controller_effect *effect)
{
    struct error error = {0};
    struct engine_start order = {.replica = effect->replica.v,
                                 .version = effect->version,
                                 .app = effect->app_name,
                                 .deployment = effect->deployment_name};
    struct text document;
    text_init(&document, INT32_MAX);
    int code = write_start(effect, &order.runner, &document, &error);
    order.body = text_bytes(&document);
    if (code == 0)
        code = conduct->engine->operations->start(conduct->engine, &order, &error);
    text_done(&document);
    if (code == 0) {
        log_print(LOG_INFO, "replica %llu of deployment '%.*s' is started",
                  (unsigned long long)effect->replica.v, BYTES_PRINT(effect->deployment_name));
        return;
    }
    log_print(LOG_ERROR, "replica %llu of deployment '%.*s' could not be started: %s",
              (unsigned long long)effect->replica.v, BYTES_PRINT(effect->deployment_name),
              error.text);
    conduct_follow_up(conduct, CONTROLLER_FAILED, 0, effect->replica, &error);
    conduct_follow_up(conduct, CONTROLLER_GONE, 0, effect->replica, &error);
}

static void stop(struct conduct *conduct, const struct controller_effect *effect)
{
    publish_flush(conduct);
    log_print(LOG_INFO, "replica %llu is told to end%s", (unsigned long long)effect->replica.v,
              effect->kill ? ", by force" : "");
    conduct->engine->operations->stop(conduct->engine, effect->replica.v, effect->kill);
}

static void drain(struct conduct *conduct, const struct controller_effect *effect)
{
    struct peer *peer = peer_of_replica(conduct, effect->replica);
    struct wire_drain frame = {
        .timeout_us = effect->timeout_ns > 0 ? (uint64_t)effect->timeout_ns / 1000 : 0};
    publish_flush(conduct);
    uint8_t *room = peer ? peer_room(peer, wire_drain_size(&frame)) : NULL;
    log_print(LOG_INFO, "replica %llu drains%s", (unsigned long long)effect->replica.v,
              room ? "" : ", told by a signal");
    if (room)
        channel_put_done(&peer->channel, wire_drain_write(&frame, 0, 0, false, room));
    else /* a replica that is told to end drains first */
        conduct->engine->operations->stop(conduct->engine, effect->replica.v, false);
}

/*
 * A replica that is away is told what it should be when it is back: the mind hears it is ready.
 * What cannot be told counts as refused, so that another replica begins with it.
 */
static void configure(struct conduct *conduct, const struct controller_effect *effect)
{
    struct peer *peer = peer_of_replica(conduct, effect->replica);
    struct target_configuration configuration;
    struct bytes runner, document;
    struct error error = {0};
    struct text body;
    if (!peer)
        return;
    if (!perform_read_body(effect->body, &runner, &document) ||
        target_read_configuration_of(document, &configuration, &error) < 0) {
        error_set(&error, ERROR_INVALID, "what is stored of the deployment is broken");
        conduct_follow_up(conduct, CONTROLLER_CONFIGURED, effect->token, effect->replica, &error);
        return;
    }
    configuration.configuration = (int64_t)effect->configuration;
    configuration.rank = effect->rank;
    configuration.world_size = effect->world_size;
    text_init(&body, INT32_MAX);
    target_write_configuration(&body, &configuration);
    struct wire_reconfigure frame = {.max_ongoing = effect->max_ongoing, .body = text_bytes(&body)};
    size_t size = wire_reconfigure_size(&frame);
    bool fits = !body.failed && size <= (size_t)conduct->settings.wire_frame_limit;
    uint8_t *room = fits ? peer_room(peer, size) : NULL;
    if (room)
        channel_put_done(&peer->channel,
                         wire_reconfigure_write(&frame, 0, effect->token, false, room));
    text_done(&body);
    if (fits)
        return;
    error_set(&error, ERROR_LIMIT, "the user_config is larger than a frame (wire_frame_limit)");
    conduct_follow_up(conduct, CONTROLLER_CONFIGURED, effect->token, effect->replica, &error);
}

static void end_instance(struct conduct *conduct)
{
    log_print(LOG_INFO, "everything is gone: the instance ends");
    publish_flush(conduct);
    /* Outcomes reach their readers before the node ends this process. */
    channel_set_flush(&conduct->channels);
    if (conduct->engine->operations->end_instance(conduct->engine))
        return;
    log_print(LOG_WARNING, "there is no node: the proxies are told to end, and this is the end");
    peers_end_proxies(conduct);
    conduct->alone = true;
    loop_stop(conduct->loop);
}

void perform(struct conduct *conduct, const struct controller_effect *effect)
{
    switch (effect->type) {
    case CONTROLLER_STORE:
        store(conduct, effect);
        return;
    case CONTROLLER_START:
        start(conduct, effect);
        return;
    case CONTROLLER_STOP:
        stop(conduct, effect);
        return;
    case CONTROLLER_DRAIN:
        drain(conduct, effect);
        return;
    case CONTROLLER_CONFIGURE:
        configure(conduct, effect);
        return;
    case CONTROLLER_PUBLISH:
        publish_note(conduct);
        return;
    case CONTROLLER_OUTCOME:
        publish_flush(conduct);
        question_outcome(conduct, effect->token, effect->code, effect->message);
        return;
    case CONTROLLER_PROGRESS:
        question_progress(conduct, effect->token, effect->message);
        return;
    case CONTROLLER_ENDED:
        end_instance(conduct);
        return;
    case CONTROLLER_EFFECT_COUNT:
        break;
    }
    ensure(!"an effect that nobody performs");
}
