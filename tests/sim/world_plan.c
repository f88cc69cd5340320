/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_plan: what chance decides before something happens: which faults a world has, its settings,
 * its applications, its clients, and what user code does with each request.
 *
 * Plans come from a generator of their own, so that the first plans of a seed stay what they are
 * however often the kernel asks for chance.
 */
#include "mem.h"
#include "world.h"

enum { REQUESTS_FIRST = 256, BODY_MOST = 300000, PIECE_LEAST = 64 };

int64_t world_between(struct world *world, int64_t least, int64_t most)
{
    return least + (int64_t)rng_below(&world->rng, (uint64_t)(most - least) + 1);
}

bool world_one_in(struct world *world, uint32_t count)
{
    return count && rng_chance(&world->rng, 1, count);
}

uint64_t world_size(struct world *world, uint64_t most)
{
    switch (world_between(world, 0, 9)) {
    case 0:
        return 0;
    case 1:
        return (uint64_t)world_between(world, 1, (int64_t)most);
    case 2:
        return (uint64_t)world_between(world, 1, (int64_t)(most / 8 + 1));
    default:
        return (uint64_t)world_between(world, 1, 2000);
    }
}

/* ---- the world ---- */

static void plan_faults(struct world *world)
{
    uint32_t one_in = (uint32_t)world_between(world, 2, 8);
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        world->fault_on[fault] = world_one_in(world, one_in);
    if (world_one_in(world, 16)) /* a world without any must serve everybody */
        for (int fault = 0; fault < FAULT_COUNT; fault++)
            world->fault_on[fault] = false;
    /* A whole target is there to lack something. */
    world->fault_on[FAULT_DELETE] |= world->fault_on[FAULT_WHOLE_TARGET];
    world->fault_pause_ns = world_between(world, 5, 300) * WORLD_MS;
}

static void plan_settings(struct world *world)
{
    struct settings *settings = &world->settings;
    bool tight = world->fault_on[FAULT_TIGHT_LIMITS];
    settings_init(settings);
    settings->request_limit = tight ? world_between(world, 4, 24) : 256;
    settings->http_connection_limit = tight ? world_between(world, 2, 8) : 1024;
    settings->http_pipeline_limit = tight ? world_between(world, 1, 4) : 32;
    settings->process_byte_budget = tight ? world_between(world, 1 << 20, 4 << 20) : 512 << 20;
    settings->wire_part_size = world_one_in(world, 2) ? 65536 : world_between(world, 1024, 65536);
    settings->wire_stream_credit = world_between(world, 65536, 262144);
    settings->wire_queue_limit = world_one_in(world, 2) ? 4 << 20 : 65536;
    settings->wire_turn_limit = world_one_in(world, 2) ? 262144 : world_between(world, 4096, 65536);
    settings->http_keep_alive_ms = world_between(world, 1000, 90000);
    settings->http_head_timeout_ms = world_between(world, 3000, 10000);
    settings->http_progress_timeout_ms = world_between(world, 3000, 30000);
    settings->drain_timeout_ms = world_between(world, 500, 5000);
    settings->adopt_grace_ms = 3000;
    if (world->fault_on[FAULT_REQUEST_TIMEOUT])
        settings->http_request_timeout_ms = world_between(world, 100, 3000);
}

static void plan_app(struct world *world, uint32_t index)
{
    static const struct {
        const char *name, *route;
    } names[WORLD_APPS] = {{"plain", "/plain"},
                           {"batch", "/batch"},
                           {"stream", "/s/tream"},
                           {"many", "/many"},
                           {"inner", ""}};
    struct world_app *app = &world->apps[index];
    /* One after the other: in what order an initializer asks for chance is the compiler's choice.
     */
    *app = (struct world_app){.name = names[index].name, .route = names[index].route};
    app->version = 1;
    app->wanted = true;
    app->calls = index == 0;
    app->batched = index == 1;
    app->streams_body = index == 2;
    app->models = index == 3 ? (uint32_t)world_between(world, 1, WORLD_MODELS - 1) : 0;
    app->replicas = (uint32_t)world_between(world, 1, 3);
    app->max_ongoing = (uint32_t)world_between(world, 1, 8);
    app->max_queued = world_one_in(world, 3) ? world_between(world, 1, 4) : -1;
    app->grace_ns = world_between(world, 100, 3000) * WORLD_MS;
    app->batch_size = 1;
    app->batch_concurrency = (uint32_t)world_between(world, 1, 2);
    app->slots = (uint32_t)world_between(world, 1, app->max_ongoing);
}

/* Batches are small and wait long enough that many become full. */
static void plan_batches(struct world *world, struct world_app *app)
{
    app->replicas = (uint32_t)world_between(world, 1, 2);
    app->max_ongoing = (uint32_t)world_between(world, 2, WORLD_BATCH);
    app->slots = (uint32_t)world_between(world, 1, 4);
    app->batch_size = (uint32_t)world_between(world, 2, world_one_in(world, 3) ? 8 : 3);
    app->batch_wait_ns = world_between(world, 0, 60) * WORLD_MS;
}

void world_plan(struct world *world)
{
    plan_faults(world);
    plan_settings(world);
    for (uint32_t i = 0; i < WORLD_APPS; i++)
        plan_app(world, i);
    plan_batches(world, &world->apps[1]);
    /* Three of them need not be there. */
    if (world_one_in(world, 3))
        world->apps[1].wanted = false;
    if (world_one_in(world, 3))
        world->apps[2].wanted = false;
    if (world_one_in(world, 3))
        world->apps[3].wanted = false;
    world->proxy_count = (uint32_t)world_between(world, 1, WORLD_PROXIES);
    world->busy = world_one_in(world, 4);
    world->client_count =
        (uint32_t)world_between(world, world->busy ? 8 : 1, world->busy ? 24 : 16);
    world->faults_end_ns = world_between(world, 300, 6000) * WORLD_MS;
}

/* ---- clients ---- */

void world_plan_client(struct world *world, struct world_client *client)
{
    bool slow = world->fault_on[FAULT_CLIENT_SLOW] && world_one_in(world, 2);
    bool leaves = world->fault_on[FAULT_CLIENT_LEAVES] && world_one_in(world, 2);
    bool malformed = world->fault_on[FAULT_CLIENT_MALFORMED] && world_one_in(world, 2);
    client->wanted = (uint32_t)world_between(world, 1, world->busy ? 30 : 12);
    client->depth = world_one_in(world, 2) ? 1 : (uint32_t)world_between(world, 1, WORLD_PIPELINE);
    client->think_ns = world_between(world, 0, world->busy ? 10 : 100) * WORLD_MS;
    client->patience_ns = world_one_in(world, 3) ? world_between(world, 50, 3000) * WORLD_MS : 0;
    client->write_piece = slow ? (size_t)world_between(world, PIECE_LEAST, 4096) : 0;
    client->read_piece = slow ? (size_t)world_between(world, PIECE_LEAST, 4096) : 0;
    /* At least 50 KB a second, so that the longest body ends. */
    client->piece_pause_ns = slow ? world_between(world, 0, PIECE_LEAST * 20000) : 0;
    client->leaves_one_in = leaves ? (uint32_t)world_between(world, 2, 20) : 0;
    client->half_closes_one_in = leaves ? (uint32_t)world_between(world, 2, 10) : 0;
    client->malformed_one_in = malformed ? 4 : 0;
    client->next_request_ns = sim_now_ns() + world_between(world, 0, 1500) * WORLD_MS;
}

/* ---- requests ---- */

struct world_request *world_request_at(struct world *world, uint64_t number)
{
    return number < world->request_count ? world->requests[number] : NULL;
}

static struct world_request *request_new(struct world *world)
{
    if (world->request_count == world->request_capacity) {
        uint32_t capacity = world->request_capacity ? world->request_capacity * 2 : REQUESTS_FIRST;
        struct world_request **larger = mem_new(capacity * sizeof(*larger));
        if (world->request_count)
            memcpy(larger, world->requests, world->request_count * sizeof(*larger));
        mem_free(world->requests);
        world->requests = larger;
        world->request_capacity = capacity;
    }
    if (world->request_count == 0)
        world->requests[world->request_count++] = NULL;
    struct world_request *request = mem_new(sizeof *request);
    request->number = world->request_count;
    world->requests[world->request_count++] = request;
    return request;
}

static void plan_user(struct world *world, struct world_request *request)
{
    request->service_ns = world_one_in(world, 8) ? world_between(world, 0, 400 * WORLD_MS)
                                                 : world_between(world, 0, 5 * WORLD_MS);
    request->pause_ns = world_between(world, 0, 5 * WORLD_MS);
    request->answer_size = world_size(world, BODY_MOST);
    request->status = world_one_in(world, 6) ? 201 : 200;
    request->parts = (uint32_t)world_between(world, 0, 8);
    request->heeds_cancel = !world_one_in(world, 3);
    request->answers_early = world_one_in(world, 6);
    request->plan = world_one_in(world, 4) ? PLAN_STREAM : PLAN_WHOLE;
    if (request->plan == PLAN_STREAM && world_one_in(world, 3)) /* more than a window */
        request->answer_size = (uint64_t)world_between(world, BODY_MOST / 2, BODY_MOST);
    if (world->fault_on[FAULT_USER_FAILS] && world_one_in(world, 6))
        request->plan = world_one_in(world, 2) ? PLAN_FAIL : PLAN_BREAK;
    if (world->fault_on[FAULT_USER_SILENT] && world_one_in(world, 20))
        request->plan = PLAN_SILENT;
    if (world->fault_on[FAULT_USER_CRASH] && world_one_in(world, 15))
        request->crash = (enum world_crash)world_between(world, CRASH_WHEN_TAKEN, CRASH_IN_ANSWER);
}

/* Some are asked for more often than others.  A deployment without models does not mind the name,
 * but its batches are of one. */
static uint32_t plan_model(struct world *world, const struct world_app *app)
{
    if (world_one_in(world, app->models || app->batched ? 8 : 50))
        return app->models || app->batched ? 0 : 1;
    if (app->batched)
        return world_one_in(world, 2) ? (uint32_t)world_between(world, 1, 2) : 0;
    if (!app->models)
        return 0;
    return (uint32_t)world_between(world, 1, world_one_in(world, 2) ? WORLD_MODELS : 2);
}

struct world_request *world_plan_request(struct world *world, uint32_t client, uint32_t app)
{
    struct world_request *request = request_new(world);
    request->client = client;
    request->app = app;
    request->made_ns = sim_now_ns();
    plan_user(world, request);
    if (world->apps[app].batched && request->plan != PLAN_FAIL && request->plan != PLAN_SILENT)
        request->plan = PLAN_WHOLE;
    request->model = plan_model(world, &world->apps[app]);
    if (!client) {
        request->kind = WORLD_NESTED;
        request->body_size = world_size(world, BODY_MOST);
        return request;
    }
    if (world_one_in(world, 3))
        request->body_size = world_size(world, BODY_MOST);
    request->head_only = request->body_size == 0 && world_one_in(world, 10);
    request->old = world_one_in(world, 20);
    if (world_one_in(world, 25))
        request->kind = (enum world_kind)world_between(world, WORLD_MISSING, WORLD_ROUTES);
    if (world->apps[app].calls && world_one_in(world, 3)) {
        struct world_request *nested = world_plan_request(world, 0, WORLD_APPS - 1);
        request->nested = nested->number;
    }
    return request;
}
