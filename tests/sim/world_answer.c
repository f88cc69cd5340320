/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_answer: what comes back to a client.
 *
 * Answers are read with the engine that the roles use (http1's client side), in the order of the
 * requests.  A byte that belongs to no request is a second answer (R1); a byte of a body that is
 * not the one that user code gave is somebody else's.
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "world.h"

static const struct http1_limits limits = {
    .line_size = 65536, .head_size = 262144, .header_count = 100, .body_size = UINT64_MAX};

static bool is_good(const struct world_client *client, const struct world_request *request)
{
    return request->kind == WORLD_NORMAL && client->head.status == request->status;
}

static void skip(struct world_client *client, size_t size)
{
    struct text *in = &client->in;
    ensure(size <= in->size);
    if (size == 0)
        return;
    memmove(in->at, in->at + size, in->size - size);
    in->size -= size;
}

static void answer_over(struct world_client *client)
{
    const struct world_request *request = client->sent[0];
    struct world *world = client->world;
    char how[48];
    bool good = is_good(client, request);
    if (good && !request->head_only && client->body_seen != request->answer_size)
        world_fail(world, "W2: client %u, request %u: %llu bytes of an answer of %llu",
                   client->number, request->number, (unsigned long long)client->body_seen,
                   (unsigned long long)request->answer_size);
    *(good ? &world->answers_good : &world->answers_other) += 1;
    snprintf(how, sizeof how, "answered with %d", client->head.status);
    client->in_answer = false;
    if (!client->head.keep_alive) {
        world_client_excuse(client, "an answer said so");
        client->ends = true;
        client->body_left = 0;
    }
    /* The rest of a body that nobody waited for may end the connection. */
    if ((client->sent_count == 1 && client->body_left) ||
        (request->answers_early && request->body_size))
        world_client_excuse(client, "it was answered early");
    world_client_over(client, how);
}

/* False: more must come. */
static bool take_head(struct world_client *client)
{
    struct world *world = client->world;
    struct http1_refusal refusal;
    size_t size;
    const struct world_request *request = client->sent[0];
    if (client->sent_count == 0)
        world_fail(world, "R1: client %u got %zu bytes that answer nothing: %.*s", client->number,
                   client->in.size, (int)(client->in.size < 40 ? client->in.size : 40),
                   client->in.at);
    switch (http1_answer_parse(&client->head, text_bytes(&client->in), request->head_only, &limits,
                               &size, &refusal)) {
    case HTTP1_MORE:
        return false;
    case HTTP1_REFUSED:
        world_fail(world, "W3: client %u, request %u: the answer is no HTTP: %s", client->number,
                   request->number, refusal.reason);
    default:
        break;
    }
    skip(client, size);
    if (client->head.status == 100) {
        client->continue_ns = 0;
        return true;
    }
    const char *wrong = world_judge_status(client, request, client->head.status);
    if (wrong)
        world_fail(world, "W1: client %u, request %u: an answer of %d: %s", client->number,
                   request->number, client->head.status, wrong);
    http1_body_init_answer(&client->body, &client->head, &limits);
    client->in_answer = true;
    client->body_seen = 0;
    return true;
}

static void check_body(struct world_client *client, struct bytes part)
{
    const struct world_request *request = client->sent[0];
    if (is_good(client, request) &&
        !world_body_equal(request->number + WORLD_ANSWER_KEY, client->body_seen, part))
        world_fail(client->world, "W2: client %u, request %u: another body than user code gave",
                   client->number, request->number);
    client->body_seen += part.size;
}

static bool take_body(struct world_client *client)
{
    struct http1_refusal refusal;
    struct http1_header trailer;
    struct bytes part = {0};
    size_t consumed = 0;
    switch (http1_body_next(&client->body, text_bytes(&client->in), &limits, &consumed, &part,
                            &trailer, &refusal)) {
    case HTTP1_BODY_DATA:
        check_body(client, part);
        skip(client, consumed);
        return true;
    case HTTP1_BODY_TRAILER:
        skip(client, consumed);
        return true;
    case HTTP1_BODY_END:
        skip(client, consumed);
        answer_over(client);
        return client->in.size > 0;
    case HTTP1_BODY_REFUSED:
        world_fail(client->world, "W3: client %u, request %u: the body is no HTTP: %s",
                   client->number, client->sent[0]->number, refusal.reason);
    default:
        skip(client, consumed);
        return false;
    }
}

void world_answer_take(struct world_client *client)
{
    bool more = true;
    while (more)
        more = client->in_answer ? take_body(client) : client->in.size > 0 && take_head(client);
}

bool world_answer_at_end(struct world_client *client)
{
    const struct world_request *request = client->sent[0];
    if (client->head.framing != HTTP1_FRAMING_CLOSE)
        return false;
    if (is_good(client, request) && client->body_seen != request->answer_size)
        return false;
    answer_over(client);
    return true;
}
