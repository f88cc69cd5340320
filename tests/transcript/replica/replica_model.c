/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_model: the plain account and its questions.
 */
#include "replica_model.h"

#include <criterion/criterion.h>
#include <string.h>

static void hear(void *owner, const char *line)
{
    struct model *model = owner;
    text_add_string(&model->story, line);
    text_add_byte(&model->story, '\n');
}

bool model_init(struct model *model, uint64_t seed, const struct replica_config *config)
{
    memset(model, 0, sizeof(*model));
    model->trace = (struct trace){hear, model};
    model->config = *config;
    model->config.trace = &model->trace;
    model->now_ns = 1000000000;
    rng_init(&model->rng, seed);
    text_init(&model->story, 1 << 22);
    pool_init(&model->pool, sizeof(uint32_t), MODEL_REQUESTS);
    model->replica = replica_new(&model->config);
    return model->replica != NULL;
}

void model_done(struct model *model)
{
    replica_free(model->replica);
    text_done(&model->story);
    pool_done(&model->pool);
}

/* ---- questions to the account ---- */

static bool expired(const struct model *model, const struct model_request *request)
{
    return request->state == MODEL_READY && request->deadline_ns &&
           request->deadline_ns <= model->now_ns;
}

static uint32_t count_state(const struct model *model, enum model_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++)
        count += model->requests[i].state == state;
    return count;
}

static uint32_t ongoing(const struct model *model)
{
    return count_state(model, MODEL_READY) + count_state(model, MODEL_TAKEN);
}

static bool together(const struct model_request *a, const struct model_request *b)
{
    return a->batched && b->batched && a->method == b->method &&
           strcmp(a->model_id, b->model_id) == 0;
}

/* The READY, not expired requests that would go with `first`, itself included, by arrival; returns
 * how many. */
static uint32_t group_of(const struct model *model, const struct model_request *first,
                         const struct model_request *ret_group[MODEL_REQUESTS])
{
    uint32_t count = 0;
    for (uint64_t arrival = 1; arrival <= model->arrival; arrival++) {
        for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
            const struct model_request *request = &model->requests[i];
            if (request->state == MODEL_READY && request->arrival == arrival &&
                !expired(model, request) && (request == first || together(first, request)))
                ret_group[count++] = request;
        }
    }
    return count;
}

/* When the batch of the group falls due by itself; what has come later than `first` does not
 * matter. */
static bool batch_due(const struct model *model, const struct model_request *first, uint32_t count)
{
    return model->draining || count >= model->config.batch_size ||
           first->came_ns + model->config.batch_wait_ns <= model->now_ns;
}

/* What one take should give: the due one with the oldest first request; returns how many. */
static uint32_t should_take(const struct model *model, uint32_t room,
                            struct request_id *ret_requests, bool *ret_batched)
{
    const struct model_request *group[MODEL_REQUESTS], *best = NULL;
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
        const struct model_request *request = &model->requests[i];
        if (request->state != MODEL_READY || expired(model, request))
            continue;
        uint32_t count = group_of(model, request, group);
        bool due = !request->batched || (group[0] == request && batch_due(model, request, count) &&
                                         model->batches_out < model->config.batch_concurrency);
        if (due && (!best || request->arrival < best->arrival))
            best = request;
    }
    if (!best || room == 0)
        return 0;
    uint32_t count = group_of(model, best, group);
    uint32_t most = best->batched ? model->config.batch_size : 1;
    count = count < most ? count : most;
    count = count < room ? count : room;
    for (uint32_t i = 0; i < count; i++)
        ret_requests[i] = group[i]->id;
    *ret_batched = best->batched;
    return count;
}

/* The earliest time after now at which something falls due; 0: never. */
static int64_t next_due(const struct model *model)
{
    const struct model_request *group[MODEL_REQUESTS];
    int64_t due = INT64_MAX;
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
        const struct model_request *request = &model->requests[i];
        if (request->state != MODEL_READY)
            continue;
        if (request->deadline_ns && request->deadline_ns < due)
            due = request->deadline_ns;
        if (!request->batched || model->draining ||
            model->batches_out >= model->config.batch_concurrency)
            continue;
        group_of(model, request, group);
        int64_t wait = request->came_ns + model->config.batch_wait_ns;
        if (group[0] == request && wait > model->now_ns && wait < due)
            due = wait;
    }
    if (model->draining && model->drain_due_ns > model->now_ns && model->drain_due_ns < due)
        due = model->drain_due_ns;
    return due == INT64_MAX ? 0 : due;
}

static void compare(const struct model *model)
{
    replica_check(model->replica);
    cr_assert_eq(replica_ongoing(model->replica), ongoing(model));
    cr_assert_eq(replica_draining(model->replica), model->draining);
    bool drained = model->draining && (ongoing(model) == 0 || model->now_ns >= model->drain_due_ns);
    cr_assert_eq(replica_drained(model->replica, model->now_ns), drained);
    cr_assert_eq(model->accepted - model->ended, ongoing(model)); /* R1 */
}

/* ---- events ---- */

static void end_request(struct model *model, struct model_request *request)
{
    pool_give(&model->pool, request->object);
    *request = (struct model_request){0};
    model->ended++;
}

bool model_admit(struct model *model, const struct replica_admit *like)
{
    uint32_t *object = pool_take(&model->pool);
    if (!object)
        return false;
    static const char *const models[] = {"", "a", "b"};
    struct replica_admit admit = *like;
    const char *model_id = models[rng_below(&model->rng, 3)];
    admit.request = (struct request_id){pool_id(object)};
    admit.model_id = bytes_of_string(model_id);
    enum replica_verdict expected = model->draining ? REPLICA_REJECTED_DRAINING
                                    : ongoing(model) >= model->config.max_ongoing
                                        ? REPLICA_REJECTED_FULL
                                        : REPLICA_ACCEPTED;
    enum replica_verdict verdict = replica_admit(model->replica, model->now_ns, &admit);
    bool for_memory =
        model->memory_fails && verdict == REPLICA_REJECTED_FULL && expected == REPLICA_ACCEPTED;
    cr_assert(verdict == expected || for_memory);
    if (verdict != REPLICA_ACCEPTED) {
        pool_give(&model->pool, object);
    } else {
        model->requests[pool_id_index(admit.request.v)] =
            (struct model_request){.id = admit.request,
                                   .state = MODEL_READY,
                                   .arrival = ++model->arrival,
                                   .came_ns = model->now_ns,
                                   .deadline_ns = admit.deadline_ns,
                                   .batched = admit.batched,
                                   .method = admit.method_hash,
                                   .model_id = model_id,
                                   .object = object};
        model->accepted++;
    }
    compare(model);
    return true;
}

bool model_take(struct model *model, uint32_t room)
{
    struct request_id expected[MODEL_REQUESTS], taken[MODEL_REQUESTS];
    bool expect_batched = false, batched = false;
    uint32_t expected_count = should_take(model, room, expected, &expect_batched);
    cr_assert(expected_count == 0 || replica_due(model->replica, model->now_ns));
    uint32_t count = replica_take(model->replica, model->now_ns, taken, room, &batched);
    cr_assert_eq(count, expected_count);
    cr_assert(count == 0 || batched == expect_batched);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert_eq(taken[i].v, expected[i].v);
        model->requests[pool_id_index(taken[i].v)].state = MODEL_TAKEN;
    }
    model->batches_out += count > 0 && batched;
    compare(model);
    return count > 0;
}

static void tell_expired(struct model *model)
{
    struct request_id id;
    while (replica_expired(model->replica, model->now_ns, &id)) {
        struct model_request *request = &model->requests[pool_id_index(id.v)];
        cr_assert_eq(request->id.v, id.v);
        cr_assert(expired(model, request), "told too early, or twice");
        request->state = MODEL_TAKEN;
    }
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++)
        cr_assert(!expired(model, &model->requests[i]), "an expired request was not told");
}

void model_turn(struct model *model)
{
    while (model_take(model, MODEL_REQUESTS))
        ;
    tell_expired(model);
    cr_assert_eq(replica_deadline_ns(model->replica), next_due(model));
}

void model_busy(struct model *model, int64_t by_ns)
{
    model->now_ns += by_ns;
    if (rng_chance(&model->rng, 1, 2))
        return; /* nobody looks at all */
    model_take(model, 0);
    tell_expired(model);
    cr_assert_eq(replica_deadline_ns(model->replica), next_due(model));
}

bool model_answer(struct model *model, uint32_t index)
{
    struct model_request *request = &model->requests[index];
    if (request->state == MODEL_NONE)
        return false;
    struct request_id id = request->id;
    end_request(model, request);
    replica_answered(model->replica, model->now_ns, id);
    replica_answered(model->replica, model->now_ns, id); /* a doubled word changes nothing */
    compare(model);
    return true;
}

bool model_cancel(struct model *model, uint32_t index)
{
    struct model_request *request = &model->requests[index];
    struct request_id id = request->id;
    if (request->state == MODEL_NONE)
        return false;
    enum replica_cancel expected = request->state == MODEL_READY ? REPLICA_CANCEL_DROPPED
                                   : request->cancelled          ? REPLICA_CANCEL_UNKNOWN
                                                                 : REPLICA_CANCEL_NOTED;
    cr_assert_eq(replica_cancel(model->replica, model->now_ns, id), expected);
    request->cancelled = true;
    if (expected == REPLICA_CANCEL_DROPPED)
        end_request(model, request);
    compare(model);
    return true;
}

bool model_batch_done(struct model *model)
{
    if (model->batches_out == 0)
        return false;
    model->batches_out--;
    replica_batch_done(model->replica, model->now_ns);
    compare(model);
    return true;
}

void model_drain(struct model *model, int64_t for_ns)
{
    model->draining = true;
    model->drain_due_ns = model->now_ns + for_ns;
    replica_drain(model->replica, model->now_ns, model->drain_due_ns);
    compare(model);
}

void model_reconfigure(struct model *model, const struct replica_config *config)
{
    model->config = *config;
    model->config.trace = &model->trace;
    cr_assert_eq(replica_reconfigure(model->replica, model->now_ns, &model->config), 0);
    compare(model);
}

void model_time(struct model *model, int64_t by_ns)
{
    int64_t until_ns = model->now_ns + by_ns, deadline;
    model_turn(model);
    while ((deadline = replica_deadline_ns(model->replica)) != 0 && deadline <= until_ns) {
        cr_assert_gt(deadline, model->now_ns);
        model->now_ns = deadline;
        model_turn(model);
    }
    model->now_ns = until_ns;
    model_turn(model);
}

void model_rest(struct model *model)
{
    for (unsigned rounds = 0; ongoing(model) > 0 || model->batches_out > 0; rounds++) {
        cr_assert_lt(rounds, 1000, "requests never end");
        model_time(model, 10000000);
        while (model_batch_done(model))
            ;
        for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
            if (model->requests[i].state == MODEL_TAKEN)
                model_answer(model, i);
        }
    }
    cr_assert_eq(model->accepted, model->ended);
    model_time(model, 1000000000);
    cr_assert_eq(replica_deadline_ns(model->replica), 0,
                 "at rest there is nothing to wait for"); /* M1 */
}
