/* SPDX-License-Identifier: Apache-2.0 */
/*
 * question: what commands ask for, and who waits for the answer.
 *
 * Deploy, delete and shutdown become events with a token; the mind's progress and its one outcome
 * carry the token back.  A status is answered at once.  Whoever leaves before the outcome has
 * nevertheless asked: the operation goes on.
 */
#include <stdio.h>
#include <string.h>

#include "conduct.h"
#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "target.h"
#include "value.h"

enum { BODY_OVERHEAD = 64 /* bytes of a body beside its document */ };

/* ---- answers ---- */

static void put_outcome(struct peer *peer, uint64_t stream, int code, const char *text,
                        struct bytes body)
{
    struct wire_outcome outcome = {.code = code, .text = bytes_of_string(text), .body = body};
    uint8_t *room = peer_room(peer, wire_outcome_size(&outcome));
    if (room)
        channel_put_done(&peer->channel, wire_outcome_write(&outcome, 0, stream, false, room));
}

static void question_free(struct question *question)
{
    map_remove(&question->peer->conduct->questions, question->token);
    list_remove(&question->link);
    mem_free(question);
}

void question_progress(struct conduct *conduct, uint64_t token, const char *line)
{
    struct question *question = map_get(&conduct->questions, token);
    struct wire_progress progress = {.text = bytes_of_string(line)};
    if (!question)
        return;
    uint8_t *room = peer_room(question->peer, wire_progress_size(&progress));
    if (room)
        channel_put_done(&question->peer->channel,
                         wire_progress_write(&progress, 0, question->stream, false, room));
}

void question_outcome(struct conduct *conduct, uint64_t token, int code, const char *message)
{
    struct question *question = map_get(&conduct->questions, token);
    if (code < 0)
        log_print(LOG_WARNING, "an operation failed: %s", message[0] ? message : error_text(code));
    if (!question)
        return;
    if (code < 0 && !message[0])
        message = error_text(code);
    /* Who asked and reads snapshots too waits for this one: then it sees what was done. */
    struct text version;
    text_init(&version, 16);
    value_write_uint(&version, conduct->snapshot_version);
    put_outcome(question->peer, question->stream, code, message, text_bytes(&version));
    text_done(&version);
    question_free(question);
}

void questions_drop(struct peer *peer)
{
    struct list_link *link;
    while ((link = list_first(&peer->questions)))
        question_free(list_entry(link, struct question, link));
}

/* A token for an operation of this peer; 0 when it is answered already. */
static uint64_t question_new(struct peer *peer, uint64_t stream)
{
    struct conduct *conduct = peer->conduct;
    struct question *question = mem_new(sizeof *question);
    *question = (struct question){.peer = peer, .token = ++conduct->token_last, .stream = stream};
    if (map_try_put(&conduct->questions, question->token, question) < 0) {
        mem_free(question);
        put_outcome(peer, stream, ERROR_LIMIT, "too many operations are under way",
                    (struct bytes){0});
        return 0;
    }
    list_push_back(&peer->questions, &question->link);
    return question->token;
}

/* ---- deploy ---- */

static int fill_row(struct controller_deployment_target *row,
                    const struct target_deployment *deployment, struct error *reterr)
{
    struct target_configuration configuration;
    if (target_read_configuration_of(deployment->replica, &configuration, reterr) < 0)
        return reterr->code;
    *row = (struct controller_deployment_target){
        .name = deployment->name,
        .version = deployment->version,
        .configuration = (uint64_t)configuration.configuration,
        .replicas = deployment->num_replicas,
        .max_ongoing = deployment->max_ongoing_requests,
        .max_queued = deployment->max_queued_requests,
        .graceful_shutdown_timeout_ns = deployment->graceful_shutdown_timeout_us * 1000,
        .health_check_period_ns = deployment->health_check_period_us * 1000,
        .health_check_timeout_ns = deployment->health_check_timeout_us * 1000,
        .rollout = {.max_surge_percent = (uint32_t)deployment->max_surge_percent,
                    .share_millionths = (uint32_t)deployment->rolling_update_millionths,
                    .retry_limit = (uint32_t)deployment->max_constructor_retry_count,
                    .start_timeout_ns = deployment->start_timeout_us * 1000},
        .streams_body = deployment->stream_body};
    return 0;
}

/* Deployments and, in one text, their bodies; slices of both. */
static int read_rows(struct bytes document, struct controller_deployment_target *rows,
                     uint32_t count, struct text *bodies, struct error *reterr)
{
    struct bytes rest = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct target_deployment deployment;
        if (target_next_deployment(document, i, &rest, &deployment, reterr) < 0 ||
            fill_row(rows + i, &deployment, reterr) < 0)
            return error_set(reterr, reterr->code, "deployment %u: %s", i, reterr->text);
        size_t begin = bodies->size;
        perform_write_body(bodies, deployment.runner, deployment.replica);
        rows[i].body.size = bodies->size - begin;
    }
    if (bodies->failed)
        return error_set(reterr, ERROR_MEMORY, "no memory for the application's target");
    size_t begin = 0; /* where they are is known only now: the text grew */
    for (uint32_t i = 0; i < count; i++) {
        rows[i].body.at = (const uint8_t *)bodies->at + begin;
        begin += rows[i].body.size;
    }
    return 0;
}

static void deploy(struct peer *peer, uint64_t stream, const struct wire_deploy *frame,
                   struct controller_app_target *target)
{
    uint64_t token = question_new(peer, stream);
    struct controller_event event = {
        .type = CONTROLLER_DEPLOY, .token = token, .target = target, .app = frame->app};
    if (!token)
        return;
    const char *noun = target->deployment_count == 1 ? "deployment" : "deployments";
    char line[64];
    log_print(LOG_INFO, "deploy: application '%.*s', %u %s, route prefix '%.*s'",
              BYTES_PRINT(frame->app), target->deployment_count, noun,
              BYTES_PRINT(frame->route_prefix));
    conduct_take(peer->conduct, &event);
    /* It is stored by now, or the question has its outcome: who does not wait for more may go. */
    snprintf(line, sizeof line, "deploying %u %s", target->deployment_count, noun);
    question_progress(peer->conduct, token, line);
}

/* A target's rows and the bodies that they point to. */
struct reading {
    struct controller_deployment_target *rows;
    struct text bodies;
};

static void reading_done(struct reading *reading)
{
    text_done(&reading->bodies);
    mem_free(reading->rows);
}

/* An application's document; to be done with also after an error. */
static int read_document(struct bytes document, struct controller_app_target *target,
                         struct reading *reading, struct error *reterr)
{
    *reading = (struct reading){0};
    text_init(&reading->bodies, 0);
    int code = target_read_app(document, &target->ingress, &target->deployment_count, reterr);
    if (code < 0)
        return code;
    text_init(&reading->bodies, document.size + (size_t)target->deployment_count * BODY_OVERHEAD);
    reading->rows = mem_try((target->deployment_count + 1) * sizeof *reading->rows);
    if (!reading->rows)
        return error_set(reterr, ERROR_MEMORY, "no memory for the application's target");
    target->deployments = reading->rows;
    return read_rows(document, reading->rows, target->deployment_count, &reading->bodies, reterr);
}

static bool on_deploy(struct peer *peer, uint64_t stream, struct bytes payload)
{
    struct wire_deploy frame;
    struct error error = {0};
    struct reading reading;
    if (wire_deploy_read(&frame, payload) < 0)
        return false;
    struct controller_app_target target = {.name = frame.app, .route_prefix = frame.route_prefix};
    int code = read_document(frame.body, &target, &reading, &error);
    if (code < 0)
        put_outcome(peer, stream, code, error.text, (struct bytes){0});
    else
        deploy(peer, stream, &frame, &target);
    reading_done(&reading);
    return true;
}

/* ---- a whole target ---- */

static void apply(struct peer *peer, uint64_t stream, const struct wire_apply *frame,
                  const struct controller_app_target *targets, uint32_t count)
{
    uint64_t token = question_new(peer, stream);
    struct controller_event event = {.type = CONTROLLER_APPLY,
                                     .token = token,
                                     .targets = targets,
                                     .target_count = count,
                                     .declarative = frame->declarative != 0};
    char line[64];
    if (!token)
        return;
    log_print(LOG_INFO, "apply: %u application%s%s", count, count == 1 ? "" : "s",
              event.declarative ? ", declared" : "");
    conduct_take(peer->conduct, &event);
    snprintf(line, sizeof line, "deploying %u application%s", count, count == 1 ? "" : "s");
    question_progress(peer->conduct, token, line); /* as of a deploy */
}

static int read_whole(const struct wire_apply *frame, uint32_t count,
                      struct controller_app_target *targets, struct reading *readings,
                      uint32_t *ret_read, struct error *reterr)
{
    for (uint32_t i = 0; i < count; i++) {
        struct target_app app;
        if (target_read_whole_app(frame->body, i, &app, reterr) < 0)
            return reterr->code;
        targets[i] = (struct controller_app_target){.name = app.name,
                                                    .route_prefix = app.route_prefix,
                                                    .declarative = frame->declarative != 0,
                                                    .build_failure = app.build_failure};
        readings[i] = (struct reading){0};
        text_init(&readings[i].bodies, 0);
        *ret_read = i + 1;
        if (app.document.size && read_document(app.document, &targets[i], &readings[i], reterr) < 0)
            return error_set(reterr, reterr->code, "application '%.*s': %s",
                             BYTES_PRINT(bytes_head(app.name, 100)), reterr->text);
    }
    return 0;
}

static bool on_apply(struct peer *peer, uint64_t stream, struct bytes payload)
{
    struct wire_apply frame;
    struct error error = {0};
    uint32_t count = 0, read = 0;
    if (wire_apply_read(&frame, payload) < 0)
        return false;
    int code = target_read_whole(frame.body, &count, &error);
    struct controller_app_target *targets = mem_try((count + 1) * sizeof *targets);
    struct reading *readings = mem_try((count + 1) * sizeof *readings);
    if (code == 0 && (!targets || !readings))
        code = error_set(&error, ERROR_MEMORY, "no memory for the whole target");
    if (code == 0)
        code = read_whole(&frame, count, targets, readings, &read, &error);
    if (code < 0)
        put_outcome(peer, stream, code, error.text, (struct bytes){0});
    else
        apply(peer, stream, &frame, targets, count);
    for (uint32_t i = 0; i < read; i++)
        reading_done(readings + i);
    mem_free(targets);
    mem_free(readings);
    return true;
}

/* ---- the others ---- */

static bool on_delete(struct peer *peer, uint64_t stream, struct bytes payload)
{
    struct wire_delete frame;
    if (wire_delete_read(&frame, payload) < 0)
        return false;
    struct controller_event event = {
        .type = CONTROLLER_DELETE, .token = question_new(peer, stream), .app = frame.app};
    if (!event.token)
        return true;
    log_print(LOG_INFO, "delete: %s'%.*s'", frame.app.size ? "application " : "all applications ",
              BYTES_PRINT(frame.app));
    conduct_take(peer->conduct, &event);
    return true;
}

static bool on_shutdown(struct peer *peer, uint64_t stream, struct bytes payload)
{
    struct wire_shutdown frame;
    if (wire_shutdown_read(&frame, payload) < 0)
        return false;
    struct controller_event event = {.type = CONTROLLER_SHUTDOWN,
                                     .token = question_new(peer, stream),
                                     .timeout_ns = frame.timeout_us < INT64_MAX / 1000
                                                       ? (int64_t)frame.timeout_us * 1000
                                                       : INT64_MAX / 2};
    if (!event.token)
        return true;
    log_print(LOG_INFO, "shutdown");
    conduct_take(peer->conduct, &event);
    return true;
}

static bool on_status(struct peer *peer, uint64_t stream, struct bytes payload)
{
    struct wire_status frame;
    struct text page;
    const struct conduct *conduct = peer->conduct;
    if (wire_status_read(&frame, payload) < 0)
        return false;
    struct status_names names = {.peers = &conduct->peers,
                                 .store = &conduct->store,
                                 .now_ns = loop_now_ns(conduct->loop),
                                 .wall_ns = loop_wall_ns(conduct->loop),
                                 .detail = frame.detail != 0};
    text_init(&page, CONDUCT_STATUS_LIMIT);
    status_write(conduct->mind, &names, &page);
    if (page.failed)
        put_outcome(peer, stream, ERROR_LIMIT, "the status is too large", (struct bytes){0});
    else
        put_outcome(peer, stream, 0, "", text_bytes(&page));
    text_done(&page);
    return true;
}

bool question_take(struct peer *peer, const struct wire_header *header, struct bytes payload)
{
    switch (header->type) {
    case WIRE_DEPLOY_FRAME:
        return on_deploy(peer, header->stream, payload);
    case WIRE_APPLY_FRAME:
        return on_apply(peer, header->stream, payload);
    case WIRE_DELETE_FRAME:
        return on_delete(peer, header->stream, payload);
    case WIRE_SHUTDOWN_FRAME:
        return on_shutdown(peer, header->stream, payload);
    case WIRE_STATUS_FRAME:
        return on_status(peer, header->stream, payload);
    default:
        return false;
    }
}
