/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_model: the account, the effects, the events.
 */
#include "router_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

enum { STORY_LIMIT = 1 << 22, SILENCE_NS = 2000000000, MODEL_WAIT_NS = 30000000 };

static void hear(void *owner, const char *line)
{
    struct model *model = owner;
    text_add_string(&model->story, line);
    text_add_byte(&model->story, '\n');
}

static struct deployment_id deployment_id(uint32_t index)
{
    return (struct deployment_id){index + 1};
}

static struct replica_id replica_id(const struct model *model, uint32_t index)
{
    return (struct replica_id){model->replicas[index].id};
}

static struct model_replica *replica_by_id(struct model *model, struct replica_id id)
{
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        if (model->replicas[i].id == id.v)
            return &model->replicas[i];
    }
    cr_assert_fail("an effect names replica %llu, which nobody knows", (unsigned long long)id.v);
    return NULL;
}

static struct model_request *request_by_id(struct model *model, struct request_id id)
{
    struct model_request *request = &model->requests[pool_id_index(id.v)];
    cr_assert_eq(request->id.v, id.v);
    cr_assert_neq(request->state, MODEL_NONE);
    return request;
}

bool model_init(struct model *model, uint64_t seed, uint32_t deployment_count,
                uint32_t replica_count)
{
    memset(model, 0, sizeof(*model));
    model->trace = (struct trace){hear, model};
    struct router_config config = {.request_limit = MODEL_REQUESTS,
                                   .silence_limit_ns = SILENCE_NS,
                                   .model_wait_ns = MODEL_WAIT_NS,
                                   .trace = &model->trace};
    rng_init(&model->rng, seed);
    text_init(&model->story, STORY_LIMIT);
    pool_init(&model->pool, sizeof(uint32_t), MODEL_REQUESTS);
    model->now_ns = 1000000000;
    for (uint32_t i = 0; i < deployment_count; i++)
        model->deployments[i] = (struct model_deployment){
            .wanted = true, .available = true, .max_ongoing = 2, .max_queued = -1};
    for (uint32_t i = 0; i < replica_count; i++)
        model->replicas[i] = (struct model_replica){
            .id = ++model->replica_id, .deployment = i % deployment_count, .wanted = true};
    model->router = router_new(&config, seed);
    return model->router != NULL;
}

void model_done(struct model *model)
{
    router_free(model->router);
    router_effects_done(&model->effects);
    text_done(&model->story);
    pool_done(&model->pool);
}

uint32_t model_in_flight(const struct model *model, uint32_t replica)
{
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
        const struct model_request *request = &model->requests[i];
        if (request->state < MODEL_IN_FLIGHT)
            continue;
        if (replica == MODEL_REPLICAS || request->replica == replica)
            return i;
    }
    return MODEL_REQUESTS;
}

uint32_t model_waiting(const struct model *model, uint32_t deployment)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++)
        count += model->requests[i].state == MODEL_WAITING &&
                 model->requests[i].deployment == deployment;
    return count;
}

/* ---- effects ---- */

static void end_request(struct model *model, struct model_request *request)
{
    pool_give(&model->pool, request->object);
    *request = (struct model_request){0};
    model->ended++;
}

static bool routable(const struct model_replica *replica)
{
    return replica->connected && replica->in_snapshot && !replica->draining;
}

static uint32_t count_names(const struct model_replica *replica)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MODEL_NAMES; i++)
        count += replica->names[i];
    return count;
}

/* That nothing but its model can keep the request from this replica, and not even that. */
static bool fits(const struct model *model, const struct model_request *request,
                 const struct model_replica *replica)
{
    if (request->name == 0 || replica->names[request->name] ||
        model->now_ns - request->came_ns >= 2 * MODEL_WAIT_NS)
        return true;
    uint32_t fewest = UINT32_MAX; /* of all that may be routable */
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        const struct model_replica *other = &model->replicas[i];
        if (routable(other) && other->deployment == request->deployment)
            fewest = count_names(other) < fewest ? count_names(other) : fewest;
    }
    return count_names(replica) <= fewest;
}

static void perform_send(struct model *model, const struct router_effect *effect)
{
    struct model_request *request = request_by_id(model, effect->request);
    struct model_replica *replica = replica_by_id(model, effect->replica);
    cr_assert_eq(request->state, MODEL_WAITING);
    cr_assert(replica->in_snapshot && replica->deployment == request->deployment); /* R3 */
    cr_assert((replica->connected || replica->dying) && !replica->draining);
    cr_assert_lt(replica->in_flight,
                 model->deployments[request->deployment].told_max_ongoing); /* R2 */
    cr_assert(request->deadline_ns == 0 || request->deadline_ns > model->now_ns);
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++) {
        const struct model_request *other = &model->requests[i];
        if (other->state == MODEL_WAITING && other->deployment == request->deployment &&
            (other->name == 0 || other->name == request->name))
            cr_assert_geq(other->arrival, request->arrival, "a later request was sent first");
    }
    request->state = MODEL_IN_FLIGHT;
    request->replica = (uint32_t)(replica - model->replicas);
    replica->in_flight++;
}

static void perform_refuse(struct model *model, const struct router_effect *effect)
{
    struct model_request *request = request_by_id(model, effect->request);
    struct model_deployment *of = &model->deployments[request->deployment];
    cr_assert_eq(request->state, MODEL_WAITING); /* R1: not twice, not while a replica has it */
    switch (effect->code) {
    case ERROR_TIMEOUT:
        cr_assert(request->deadline_ns && request->deadline_ns <= model->now_ns);
        break;
    case ERROR_UNAVAILABLE:
        cr_assert(!of->told_available || !of->in_snapshot);
        break;
    case ERROR_NOT_FOUND:
        cr_assert(!of->in_snapshot);
        break;
    case ERROR_BUSY:
        cr_assert(of->told_max_queued >= 0 &&
                  model_waiting(model, request->deployment) > of->told_max_queued);
        break;
    default:
        cr_assert_eq(effect->code, ERROR_MEMORY);
    }
    end_request(model, request);
}

static void perform(struct model *model, const struct router_effect *effect)
{
    struct model_replica *replica;
    switch (effect->type) {
    case ROUTER_SEND:
        perform_send(model, effect);
        break;
    case ROUTER_REFUSE:
        perform_refuse(model, effect);
        break;
    case ROUTER_CONNECT:
        replica = replica_by_id(model, effect->replica);
        cr_assert(!replica->announced && replica->in_snapshot && effect->address.size > 0);
        replica->announced = true;
        break;
    case ROUTER_DISCONNECT:
        replica = replica_by_id(model, effect->replica);
        cr_assert(replica->announced && !replica->in_snapshot && replica->in_flight == 0);
        *replica = (struct model_replica){.id = ++model->replica_id,
                                          .deployment = replica->deployment,
                                          .wanted = replica->wanted};
        break;
    case ROUTER_PROBE:
        replica = replica_by_id(model, effect->replica);
        cr_assert(replica->connected || replica->dying);
        cr_assert(!replica->probed || model->now_ns - replica->probed_ns >= SILENCE_NS);
        replica->probed = true;
        replica->probed_ns = model->now_ns;
        replica->probes++;
        break;
    }
}

/* No request waits beside a replica that is idle by everybody's account. */
static void check_wakeups(const struct model *model)
{
    if (router_deadline_ns(model->router) == 1)
        return; /* an effect found no memory: it goes on at the next event */
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        const struct model_replica *replica = &model->replicas[i];
        bool idle = replica->connected && replica->in_snapshot && !replica->draining &&
                    replica->probes == 0 && replica->in_flight == 0 && replica->told == 0;
        for (uint32_t at = 0; at < MODEL_REQUESTS && idle; at++) {
            const struct model_request *request = &model->requests[at];
            cr_assert(
                request->state != MODEL_WAITING || request->deployment != replica->deployment ||
                    !fits(model, request, replica),
                "a request waits beside the idle replica %llu", (unsigned long long)replica->id);
        }
    }
}

static void settle(struct model *model)
{
    for (uint32_t i = 0; i < model->effects.count; i++)
        perform(model, &model->effects.at[i]);
    model->effects.count = 0;
    router_check(model->router);
    for (uint32_t i = 0; i < MODEL_DEPLOYMENTS; i++) {
        const struct model_deployment *deployment = &model->deployments[i];
        if (deployment->in_snapshot)
            cr_assert_eq(router_waiting(model->router, deployment_id(i)), model_waiting(model, i));
    }
    check_wakeups(model);
    cr_assert_eq(model->submitted - model->ended, model->pool.used_count);
}

/* ---- events ---- */

static struct bytes name_of(uint32_t name)
{
    static const char *const names[MODEL_NAMES] = {"", "a", "bert", "a-model-with-a-long-name",
                                                   "llama"};
    return bytes_of_string(names[name]);
}

bool model_submit(struct model *model, uint32_t deployment, int64_t deadline_ns)
{
    uint32_t *object = pool_take(&model->pool);
    if (!object)
        return false;
    struct request_id id = {pool_id(object)};
    struct model_request *request = &model->requests[pool_id_index(id.v)];
    struct router_submit submit = {
        .request = id, .deployment = deployment_id(deployment), .deadline_ns = deadline_ns};
    cr_assert_eq(request->state, MODEL_NONE);
    *request = (struct model_request){.id = id,
                                      .state = MODEL_WAITING,
                                      .arrival = ++model->arrival,
                                      .deployment = deployment,
                                      .deadline_ns = deadline_ns,
                                      .came_ns = model->now_ns,
                                      .object = object};
    model->submitted++;
    if (rng_chance(&model->rng, 1, 2))
        request->name = (uint32_t)rng_below(&model->rng, MODEL_NAMES);
    submit.model_id = name_of(request->name);
    if (router_submit(model->router, model->now_ns, &submit, &model->effects) != 0)
        end_request(model, request); /* the owner refuses it */
    settle(model);
    return true;
}

static bool in_flight(const struct model *model, uint32_t request)
{
    return request < MODEL_REQUESTS && model->requests[request].state >= MODEL_IN_FLIGHT;
}

static void hear_replica(struct model_replica *replica, uint32_t queue_length)
{
    if (queue_length == ROUTER_LENGTH_UNKNOWN)
        return;
    replica->told = queue_length;
    replica->probed = false;
}

bool model_accepted(struct model *model, uint32_t index, uint32_t queue_length)
{
    if (!in_flight(model, index))
        return false;
    struct model_request *request = &model->requests[index];
    hear_replica(&model->replicas[request->replica], queue_length);
    router_accepted(model->router, model->now_ns, request->id, queue_length, &model->effects);
    settle(model);
    return true;
}

bool model_finished(struct model *model, uint32_t index, uint32_t queue_length)
{
    if (!in_flight(model, index))
        return false;
    struct model_request *request = &model->requests[index];
    struct model_replica *replica = &model->replicas[request->replica];
    struct request_id id = request->id;
    hear_replica(replica, queue_length);
    replica->in_flight--;
    end_request(model, request);
    router_done(model->router, model->now_ns, id, queue_length, &model->effects);
    settle(model);
    return true;
}

bool model_rejected(struct model *model, uint32_t index, uint32_t queue_length, bool draining)
{
    if (!in_flight(model, index))
        return false;
    struct model_request *request = &model->requests[index];
    struct model_replica *replica = &model->replicas[request->replica];
    struct request_id id = request->id;
    hear_replica(replica, queue_length);
    replica->told = UINT32_MAX;
    replica->draining = replica->draining || draining;
    replica->in_flight--;
    if (request->state == MODEL_GIVEN_UP)
        end_request(model, request);
    else
        request->state = MODEL_WAITING;
    router_rejected(model->router, model->now_ns, id, queue_length, draining, &model->effects);
    settle(model);
    return true;
}

bool model_cancel(struct model *model, uint32_t index)
{
    struct model_request *request = &model->requests[index];
    if (request->state != MODEL_WAITING && request->state != MODEL_IN_FLIGHT)
        return false;
    bool out = request->state == MODEL_IN_FLIGHT;
    cr_assert_eq(router_cancel(model->router, model->now_ns, request->id, &model->effects), out);
    cr_assert(!router_cancel(model->router, model->now_ns, request->id, &model->effects));
    if (out)
        request->state = MODEL_GIVEN_UP;
    else
        end_request(model, request);
    settle(model);
    return true;
}

static void forget_names(struct model_replica *replica)
{
    replica->tells = false;
    memset(replica->names, 0, sizeof(replica->names));
}

bool model_names(struct model *model, uint32_t index, uint32_t bits)
{
    struct model_replica *replica = &model->replicas[index];
    struct bytes ids[MODEL_NAMES];
    uint32_t count = 0;
    if (!replica->connected)
        return false;
    forget_names(replica);
    replica->tells = true;
    for (uint32_t name = 1; name < MODEL_NAMES; name++) {
        replica->names[name] = bits >> name & 1;
        if (replica->names[name])
            ids[count++] = name_of(name);
    }
    router_models(model->router, model->now_ns, replica_id(model, index), ids, count,
                  &model->effects);
    settle(model);
    return true;
}

bool model_connect(struct model *model, uint32_t index)
{
    struct model_replica *replica = &model->replicas[index];
    if (!replica->announced || replica->connected || replica->in_flight > 0)
        return false;
    replica->connected = true;
    replica->draining = replica->probed = false;
    replica->told = 0;
    forget_names(replica);
    router_connected(model->router, model->now_ns, replica_id(model, index), &model->effects);
    settle(model);
    return true;
}

bool model_gone(struct model *model, uint32_t index, bool told_last)
{
    struct model_replica *replica = &model->replicas[index];
    uint64_t id = replica->id;
    if (!replica->connected)
        return false;
    replica->connected = false;
    replica->told = UINT32_MAX;
    forget_names(replica);
    if (told_last) {
        replica->dying = true;
        uint32_t request = model_in_flight(model, index);
        model_finished(model, request, ROUTER_LENGTH_UNKNOWN);
    }
    if (replica->id != id)
        return true; /* it had left the snapshot, and that was its last request */
    router_replica_gone(model->router, model->now_ns, replica_id(model, index), &model->effects);
    replica->probed = replica->draining = false;
    replica->probes = 0;
    settle(model);
    replica->dying = false;
    while (replica->id == id && replica->in_flight > 0) {
        uint32_t request = model_in_flight(model, index);
        if (rng_chance(&model->rng, 1, 2))
            model_finished(model, request, ROUTER_LENGTH_UNKNOWN);
        else
            model_rejected(model, request, ROUTER_LENGTH_UNKNOWN, false);
    }
    return true;
}

bool model_pong(struct model *model, uint32_t index, uint32_t queue_length)
{
    struct model_replica *replica = &model->replicas[index];
    if (replica->probes == 0 || !replica->connected)
        return false;
    replica->probes--;
    hear_replica(replica, queue_length);
    router_replica_alive(model->router, model->now_ns, replica_id(model, index), queue_length,
                         &model->effects);
    settle(model);
    return true;
}

bool model_snapshot(struct model *model)
{
    struct router_snapshot_app apps[] = {{{1}, BYTES("shop"), BYTES("/"), {1}}};
    struct router_snapshot_deployment deployments[MODEL_DEPLOYMENTS];
    struct router_snapshot_replica replicas[MODEL_REPLICAS];
    struct router_snapshot snapshot = {++model->version, apps, deployments, replicas, 1, 0, 0};
    for (uint32_t i = 0; i < MODEL_DEPLOYMENTS; i++) {
        const struct model_deployment *deployment = &model->deployments[i];
        if (deployment->wanted)
            deployments[snapshot.deployment_count++] =
                (struct router_snapshot_deployment){.id = deployment_id(i),
                                                    .app = BYTES("shop"),
                                                    .name = BYTES("d"),
                                                    .max_ongoing = deployment->max_ongoing,
                                                    .max_queued = deployment->max_queued,
                                                    .available = deployment->available};
    }
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        const struct model_replica *replica = &model->replicas[i];
        if (replica->wanted && model->deployments[replica->deployment].wanted)
            replicas[snapshot.replica_count++] = (struct router_snapshot_replica){
                replica_id(model, i), deployment_id(replica->deployment), BYTES("/socket")};
    }
    if (router_snapshot(model->router, model->now_ns, &snapshot, &model->effects) != 0) {
        model->version--;
        settle(model);
        return false;
    }
    for (uint32_t i = 0; i < MODEL_DEPLOYMENTS; i++) {
        struct model_deployment *deployment = &model->deployments[i];
        deployment->in_snapshot = deployment->wanted;
        deployment->told_available = deployment->available;
        deployment->told_max_ongoing = deployment->max_ongoing;
        deployment->told_max_queued = deployment->max_queued;
    }
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        struct model_replica *replica = &model->replicas[i];
        replica->in_snapshot = replica->wanted && model->deployments[replica->deployment].wanted;
    }
    cr_assert_eq(router_version(model->router), model->version); /* R4 */
    settle(model);
    return true;
}

void model_time(struct model *model, int64_t by_ns, bool late)
{
    int64_t until_ns = model->now_ns + by_ns, deadline;
    for (unsigned turns = 0; !late; turns++) {
        cr_assert_lt(turns, 10000, "the router asks to be woken without end");
        deadline = router_deadline_ns(model->router);
        if (deadline == 0 || deadline > until_ns)
            break;
        model->now_ns = deadline > model->now_ns ? deadline : model->now_ns;
        router_timer(model->router, model->now_ns, false, &model->effects);
        settle(model);
    }
    model->now_ns = until_ns;
    router_timer(model->router, model->now_ns, late, &model->effects);
    settle(model);
}

/* ---- rest ---- */

static void want_all(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_DEPLOYMENTS; i++) {
        struct model_deployment *deployment = &model->deployments[i];
        deployment->wanted = deployment->available = deployment->max_ongoing > 0;
    }
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++)
        model->replicas[i].wanted = model->replicas[i].id != 0;
}

static void answer_everything(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++)
        model_connect(model, i);
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++)
        model_pong(model, i, 0);
    for (uint32_t i = 0; i < MODEL_REQUESTS; i++)
        model_finished(model, i, 0);
}

void model_rest(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++) {
        if (model->replicas[i].draining)
            model_gone(model, i, false);
    }
    want_all(model);
    cr_assert(model_snapshot(model) || model_snapshot(model));
    for (unsigned rounds = 0; model->ended < model->submitted; rounds++) {
        cr_assert_lt(rounds, 1000, "%llu requests never end",
                     (unsigned long long)(model->submitted - model->ended));
        answer_everything(model);
        model_time(model, 10000000, false);
    }
    for (uint32_t i = 0; i < MODEL_DEPLOYMENTS; i++)
        model->deployments[i].wanted = false;
    cr_assert(model_snapshot(model) || model_snapshot(model));
    for (uint32_t i = 0; i < MODEL_REPLICAS; i++)
        cr_assert(!model->replicas[i].announced, "a CONNECT without its DISCONNECT");
    model_time(model, 10000000000, false);
    cr_assert_eq(router_deadline_ns(model->router), 0,
                 "at rest there is nothing to wait for"); /* M1 */
}
