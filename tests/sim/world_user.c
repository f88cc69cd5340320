/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_user: user code: does with a request what its plan says, and looks at what it was given.
 *
 *     taken -> reads the body, calls the inner application -> service time -> answer, whole or in
 *     parts
 *
 * Here is where a request that is run twice would be seen (the rule of the taken marks), one more
 * than max_ongoing (R2), a batch that is too large (B1), and a body that is not the one that was
 * sent.
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "world.h"

enum { PART_MOST = 100000 /* may be more than a stream's window surely grants */ };

static void step(struct world_call *call);

static bool crashes(const struct world_call *call, enum world_crash where)
{
    struct world *world = call->replica->world;
    const struct world_request *known = call->known[0];
    if (known->crash != where || world->calm || call->replica->process.doomed)
        return call->replica->process.doomed;
    sim_say("user code of %u ends the process", known->number);
    call->replica->process.doomed = true;
    call->replica->signal_number = 11;
    return true;
}

static bool is_silent(const struct world_call *call)
{
    for (uint32_t i = 0; i < call->count; i++)
        if (call->known[i]->plan == PLAN_SILENT && !call->replica->world->calm)
            return true;
    return false;
}

/* ---- what comes in ---- */

static struct world_request *know(struct world_replica *replica,
                                  const struct taker_request *request)
{
    char text[32];
    unsigned number = 0;
    struct bytes from = request->kind == WIRE_KIND_HTTP ? request->query : request->request_id;
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(bytes_head(from, sizeof text - 1)));
    struct world_request *known =
        sscanf(text, "n=%u", &number) == 1 ? world_request_at(replica->world, number) : NULL;
    if (!known)
        world_fail(replica->world, "W2: user code got a request that nobody made: '%s'", text);
    return known;
}

static void check_whole_body(struct world_replica *replica, const struct taker_request *request,
                             const struct world_request *known)
{
    if (!request->body_ended || request->body_error)
        world_fail(replica->world, "W2: request %u was taken before its body was whole",
                   known->number);
    if (request->body.size != known->body_size)
        world_fail(replica->world, "W2: request %u has a body of %zu bytes, %llu were sent",
                   known->number, request->body.size, (unsigned long long)known->body_size);
    if (!world_body_equal(known->number, 0, request->body))
        world_fail(replica->world, "W2: request %u has another body than was sent", known->number);
}

static void check_model(struct world_replica *replica, const struct taker_request *request,
                        const struct world_request *known)
{
    char wanted[16] = "";
    if (known->model)
        snprintf(wanted, sizeof wanted, "m%u", known->model);
    if (!bytes_equal(request->model_id, bytes_of_string(wanted)))
        world_fail(replica->world, "W2: request %u for model '%s' came for '%.*s'", known->number,
                   wanted, BYTES_PRINT(request->model_id));
}

static void note_taken(struct world_replica *replica, const struct taker_request *request,
                       struct world_request *known)
{
    struct world *world = replica->world;
    sim_say("user code sees %u", known->number);
    known->taken_count++;
    if (known->taken_count > 1)
        world_fail(world, "R1: user code of r%llu sees request %u again, r%llu had it before",
                   (unsigned long long)replica->id, known->number,
                   (unsigned long long)known->taken_by);
    known->taken_by = replica->id;
    if (strcmp(world->apps[known->app].name, replica->options.name) != 0)
        world_fail(world, "W2: request %u for %s was given to %s", known->number,
                   world->apps[known->app].name, replica->options.name);
    check_model(replica, request, known);
    if (!replica->options.streams_body)
        check_whole_body(replica, request, known);
}

/* Of a streamed body: looks at what has come and gives it back. */
static void read_body(struct world_call *call)
{
    struct taker_request *request = call->requests[0];
    const struct world_request *known = call->known[0];
    struct world_replica *replica = call->replica;
    if (!world_body_equal(known->number, call->read, request->body))
        world_fail(replica->world, "W2: request %u has another body than was sent, near byte %llu",
                   known->number, (unsigned long long)call->read);
    call->read += request->body.size;
    if (request->body.size)
        taker_consume(replica->taker, request, request->body.size);
    if (request->body_ended && !request->body_error && !request->cancelled &&
        call->read != known->body_size)
        world_fail(replica->world, "W2: request %u has a body of %llu bytes, %llu were sent",
                   known->number, (unsigned long long)call->read,
                   (unsigned long long)known->body_size);
}

/* ---- calls of the inner application ---- */

static void begin_nested(struct world_call *call)
{
    struct world_replica *replica = call->replica;
    struct world *world = replica->world;
    struct world_request *known = call->known[0];
    struct world_request *nested = world_request_at(world, known->nested);
    struct bytes inner = bytes_of_string(world->apps[nested->app].name);
    struct dispatch_request request = {.kind = WIRE_KIND_CALL,
                                       .stream = nested->number % 3 == 0,
                                       .body_whole = true,
                                       .method = BYTES("__call__")};
    struct error error = {0};
    char id[32], model[16] = "";
    if (!router_find_deployment(dispatch_router(replica->dispatch), inner, inner,
                                &request.deployment)) {
        known->nested_failed = true;
        return;
    }
    uint8_t *body = mem_new((size_t)nested->body_size + 1);
    world_body_fill(nested->number, 0, body, (size_t)nested->body_size);
    snprintf(id, sizeof id, "n=%u", nested->number);
    request.request_id = bytes_of_string(id);
    if (nested->model)
        snprintf(model, sizeof model, "m%u", nested->model);
    request.model_id = bytes_of_string(model);
    request.body = bytes_of(body, (size_t)nested->body_size);
    request.body_size = nested->body_size;
    nested->made_ns = sim_now_ns();
    sim_say("user code of %u calls inner: %u", known->number, nested->number);
    call->written = 0;
    call->nested = dispatch_submit(replica->dispatch, &request, call, &error);
    mem_free(body);
    if (!call->nested) {
        const char *wrong = world_judge_nested(world, nested, error.code);
        if (wrong)
            world_fail(world, "W1: call %u: %s (%s)", nested->number, wrong, error.text);
        known->nested_failed = true;
    }
}

/* Bytes of the inner answer, of which `written` have come. */
static void check_nested_body(struct world_call *call, const struct world_request *nested,
                              struct bytes body)
{
    if (!world_body_equal(nested->number + WORLD_ANSWER_KEY, call->written, body))
        world_fail(call->replica->world, "W2: call %u has another answer than was given",
                   nested->number);
    call->written += body.size;
}

static void end_nested(struct world_call *call, struct world_request *nested, int code)
{
    struct world *world = call->replica->world;
    const char *wrong = world_judge_nested(world, nested, code);
    sim_say("call %u ends: %s", nested->number, code ? error_name(code) : "OK");
    if (nested->over)
        world_fail(world, "R1: call %u ends twice", nested->number);
    if (!wrong && code == 0 && call->written != nested->answer_size)
        wrong = "its answer has another length";
    if (wrong)
        world_fail(world, "W1: call %u, code %d: %s", nested->number, code, wrong);
    nested->over = true;
    call->known[0]->nested_failed |= code < 0;
    call->nested = NULL;
    call->written = 0;
    step(call);
}

void world_user_nested(struct world_replica *replica, const struct dispatch_event *event)
{
    struct world_call *call = event->owner;
    if (event->type == DISPATCH_ROOM)
        return;
    ensure_tag(R1, call->nested == event->call && call->nested);
    struct world_request *nested = world_request_at(replica->world, call->known[0]->nested);
    if (event->type == DISPATCH_REPLY || event->type == DISPATCH_DATA)
        check_nested_body(call, nested, event->body);
    if (event->type == DISPATCH_DATA)
        dispatch_grant(event->call, event->cost);
    if (event->type == DISPATCH_END || event->end)
        end_nested(call, nested, event->code);
}

/* ---- what goes out ---- */

static void fill_answer(const struct world_request *known, uint64_t at, uint8_t *to, size_t size)
{
    world_body_fill(known->number + WORLD_ANSWER_KEY, at, to, size);
}

static void answer_one(struct world_call *call, uint32_t index)
{
    const struct world_request *known = call->known[index];
    struct taker_answer answer = {.status = known->status,
                                  .content_type = BYTES("application/octet-stream")};
    uint8_t *body = NULL;
    bool fails = known->plan == PLAN_FAIL || known->plan == PLAN_BREAK || known->nested_failed ||
                 known->model_failed || call->requests[index]->body_error;
    if (fails) {
        answer.code = ERROR_USER;
        answer.status = 500;
        answer.text = BYTES("user code failed");
    } else {
        body = mem_new((size_t)known->answer_size + 1);
        fill_answer(known, 0, body, (size_t)known->answer_size);
        answer.body = bytes_of(body, (size_t)known->answer_size);
    }
    sim_say("user code answers %u: %s", known->number, fails ? "failure" : "well");
    taker_answer(call->replica->taker, call->requests[index], &answer);
    mem_free(body);
}

static void answer_all(struct world_call *call)
{
    struct world_replica *replica = call->replica;
    for (uint32_t i = 0; i < call->count; i++)
        answer_one(call, i);
    if (call->batched)
        taker_batch_done(replica->taker);
    crashes(call, CRASH_IN_ANSWER);
    world_replica_call_over(call);
}

static void finish(struct world_call *call, int code)
{
    sim_say("user code ends its answer to %u: %s", call->known[0]->number,
            code ? error_name(code) : "well");
    taker_finish(call->replica->taker, call->requests[0], code, (struct bytes){0});
    world_replica_call_over(call);
}

static void write_part(struct world_call *call)
{
    static uint8_t part[PART_MOST];
    const struct world_request *known = call->known[0];
    struct world_replica *replica = call->replica;
    uint64_t left = known->answer_size - call->written;
    uint64_t size = call->parts_left > 1 ? left / call->parts_left : left;
    size = size < PART_MOST ? size : PART_MOST;
    fill_answer(known, call->written, part, (size_t)size);
    int code =
        size ? taker_write(replica->taker, call->requests[0], bytes_of(part, (size_t)size)) : 0;
    if (code == ERROR_AGAIN) {
        sim_say("user code of %u waits for room for %llu bytes", known->number,
                (unsigned long long)size);
        call->waits_for_room = true;
        return;
    }
    if (code < 0) {
        finish(call, code);
        return;
    }
    call->written += size;
    call->parts_left -= call->parts_left > 1 ? 1 : 0;
    if (crashes(call, CRASH_IN_ANSWER))
        return;
    if (call->written == known->answer_size)
        finish(call, 0);
    else if (known->plan == PLAN_BREAK && call->parts_left == 1)
        finish(call, ERROR_USER);
    else
        loop_timer_set(&call->timer, sim_now_ns() + known->pause_ns + 1);
}

static void begin_answer(struct world_call *call)
{
    const struct world_request *known = call->known[0];
    struct taker_answer answer = {.status = known->status,
                                  .content_type = BYTES("application/octet-stream"),
                                  .body_size = known->number % 2 ? known->answer_size : UINT64_MAX};
    sim_say("user code begins its answer to %u", known->number);
    taker_begin(call->replica->taker, call->requests[0], &answer);
    call->begun = true;
    call->written = 0;
    call->parts_left = known->parts + 1;
    write_part(call);
}

/* ---- the way of a call ---- */

/* Whatever is due now. */
static void step(struct world_call *call)
{
    const struct world_request *known = call->known[0];
    const struct taker_request *request = call->requests[0];
    bool body_here = call->replica->options.streams_body ? request->body_ended : true;
    if (call->begun) {
        if (!call->waits_for_room)
            write_part(call);
        return;
    }
    if (!call->due || !world_models_take(call) || call->nested || is_silent(call) ||
        call->replica->process.doomed || !(body_here || known->answers_early))
        return;
    if (crashes(call, CRASH_BEFORE_ANSWER))
        return;
    bool in_parts = !call->batched && !known->nested_failed && !known->model_failed &&
                    !request->body_error &&
                    (known->plan == PLAN_STREAM || known->plan == PLAN_BREAK);
    if (in_parts)
        begin_answer(call);
    else
        answer_all(call);
}

/* A call that ends may leave the list, and its model may be what another one waits for: from the
 * start again until nobody moves. */
void world_user_go_on(struct world_replica *replica)
{
    struct list_link *link;
    bool again = true;
    while (again && !replica->process.doomed) {
        again = false;
        list_each (link, &replica->calls) {
            struct world_call *call = list_entry(link, struct world_call, link);
            if (!call->waits_for_model || !call->due || !world_models_take(call))
                continue;
            call->waits_for_model = false;
            step(call);
            again = true;
            break;
        }
    }
}

static void timer_fired(void *owner)
{
    struct world_call *call = owner;
    call->due = true;
    step(call);
}

void world_user_take(struct world_replica *replica, struct taker_request **requests, uint32_t count,
                     bool batched)
{
    struct world *world = replica->world;
    struct world_call *call = mem_new(sizeof *call);
    int64_t service_ns = 0;
    ensure(count <= WORLD_BATCH);
    if (count > (batched ? replica->options.batch_size : 1))
        world_fail(world, "B1: a batch of %u requests", count);
    call->replica = replica;
    call->count = count;
    call->batched = batched;
    for (uint32_t i = 0; i < count; i++) {
        call->requests[i] = requests[i];
        call->known[i] = know(replica, requests[i]);
        requests[i]->owner = call;
        note_taken(replica, requests[i], call->known[i]);
        if (call->known[i]->model != call->known[0]->model)
            world_fail(world, "B1: a batch for two models");
        if (call->known[i]->service_ns > service_ns)
            service_ns = call->known[i]->service_ns;
    }
    list_push_back(&replica->calls, &call->link);
    replica->running++;
    replica->taken += count;
    if (replica->taken > world_check_limit(replica))
        world_fail(world, "R2: %u requests in user code of r%llu, at most %u are allowed",
                   replica->taken, (unsigned long long)replica->id, world_check_limit(replica));
    loop_timer_init(replica->process.loop, &call->timer, timer_fired, call);
    if (crashes(call, CRASH_WHEN_TAKEN))
        return;
    if (call->known[0]->nested && replica->dispatch)
        begin_nested(call);
    loop_timer_set(&call->timer, sim_now_ns() + service_ns + 1);
    if (replica->options.streams_body)
        read_body(call);
}

static void cancelled(struct world_call *call)
{
    const struct world_request *known = call->known[0];
    if (call->batched || !known->heeds_cancel)
        return;
    sim_say("user code of %u heeds that it is cancelled", known->number);
    if (call->nested) {
        world_request_at(call->replica->world, known->nested)->over = true;
        dispatch_cancel(call->nested, ERROR_CANCELLED);
    }
    call->nested = NULL;
    if (call->begun) {
        finish(call, ERROR_CANCELLED);
        return;
    }
    struct taker_answer answer = {.code = ERROR_CANCELLED, .status = 499};
    taker_answer(call->replica->taker, call->requests[0], &answer);
    world_replica_call_over(call);
}

void world_user_event(struct world_replica *replica, const struct taker_event *event)
{
    struct world_call *call = event->request ? event->request->owner : NULL;
    bool writes_again = (event->type == TAKER_ROOM || event->type == TAKER_CANCELLED) && call &&
                        call->waits_for_room;
    if (writes_again) { /* and learns that way that it is cancelled */
        call->waits_for_room = false;
        step(call);
    } else if (event->type == TAKER_CANCELLED && call) {
        cancelled(call);
    } else if (event->type == TAKER_BODY && call && replica->options.streams_body) {
        read_body(call);
        step(call);
    }
}

void world_user_free(struct world_call *call)
{
    world_models_give_back(call);
    loop_timer_clear(&call->timer);
    list_remove(&call->link);
    mem_free(call);
}
