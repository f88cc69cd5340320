/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_judge: which answers a request may get.
 *
 * Each answer needs a reason in what the world did: a failure of user code, the end of the replica
 * that had the request, a limit that is set, a time at which the application was not there.  Where
 * there is none, the answer is wrong, be it as polite as it may.  In a world without faults and
 * limits this leaves the planned answer alone.
 */
#include "world.h"

static bool has_limits(const struct world *world)
{
    return world->fault_on[FAULT_TIGHT_LIMITS];
}

/* A long body that went out in parts cannot be sent again once a replica has taken some of it. */
static bool may_be_unrepeatable(const struct world *world, const struct world_request *request)
{
    return request->body_size >= (uint64_t)world->settings.wire_stream_credit / 2 &&
           request->made_ns <= world->replica_ended_ns;
}

static bool was_missing(const struct world *world, const struct world_request *request)
{
    return request->made_ns <= world->apps[request->app].missing_ns;
}

static const char *judge_refusal(const struct world *world, const struct world_request *request)
{
    const struct world_app *app = &world->apps[request->app];
    bool reason = app->max_queued >= 0 || app->queue_changed || has_limits(world) ||
                  was_missing(world, request) || may_be_unrepeatable(world, request);
    return reason ? NULL : "nothing was full, and the application was there";
}

static bool died(const struct world_request *request)
{
    return request->taken_count > 0 && request->replica_ended;
}

static const char *judge_error(const struct world_request *request)
{
    if (request->taken_count == 0)
        return "user code never saw it: it should have been sent elsewhere";
    if (died(request) || request->nested_failed || request->model_failed ||
        request->plan == PLAN_FAIL || request->plan == PLAN_BREAK)
        return NULL;
    return "user code answered it well";
}

static bool timed_out(const struct world *world, const struct world_request *request)
{
    int64_t limit_ns = world->settings.http_request_timeout_ms * WORLD_MS;
    return limit_ns && sim_now_ns() - request->made_ns >= limit_ns;
}

static const char *judge_local(const struct world_request *request, int status)
{
    switch (request->kind) {
    case WORLD_MISSING:
        return status == 404 ? NULL : "nobody has that path";
    case WORLD_HEALTH:
    case WORLD_ROUTES:
        return status == 200 || status == 503 ? NULL : "the proxy answers that itself";
    default:
        return status >= 400 && status <= 505 ? NULL : "it was no HTTP";
    }
}

const char *world_judge_status(const struct world_client *client,
                               const struct world_request *request, int status)
{
    const struct world *world = client->world;
    if (request->kind != WORLD_NORMAL)
        return judge_local(request, status);
    if (status == request->status)
        return request->taken_count == 1 ? NULL : "user code never saw it";
    switch (status) {
    case 404:
        return was_missing(world, request) ? NULL : "the application was there";
    case 408:
        return client->excuse || timed_out(world, request) ? NULL : "it was not late";
    case 500:
        return judge_error(request);
    case 503:
        return judge_refusal(world, request);
    default:
        return "nobody planned that";
    }
}

const char *world_judge_loss(const struct world_client *client, const struct world_request *request)
{
    const struct world *world = client->world;
    if (client->excuse)
        return NULL;
    if (client->connected_ns <= world->descriptors_ns)
        return NULL; /* the proxy had to close it */
    bool broken = died(request) || request->plan == PLAN_BREAK || timed_out(world, request);
    if (client->in_answer)
        return broken ? NULL : "the answer broke off";
    return "there was no answer";
}

const char *world_judge_nested(const struct world *world, const struct world_request *request,
                               int code)
{
    switch (code) {
    case 0:
        return request->taken_count == 1 ? NULL : "user code never saw it";
    case ERROR_REPLICA_DIED:
        return died(request) ? NULL : "no replica died that had it";
    case ERROR_USER:
        return judge_error(request);
    case ERROR_NOT_FOUND:
        return was_missing(world, request) ? NULL : "the application was there";
    case ERROR_LIMIT:
    case ERROR_BUSY:
    case ERROR_UNAVAILABLE:
    case ERROR_CLOSED:
        return judge_refusal(world, request);
    default:
        return "nobody planned that";
    }
}
