/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_pipeline: several requests of one connection at once (RFC 9112 9.3).
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proxy_stage.h"

static const char GET[] = "GET /%s HTTP/1.1\r\nHost: h\r\n\r\n";

static void say_get(struct client *client, const char *path)
{
    char text[256];
    snprintf(text, sizeof text, GET, path);
    client_say(client, text);
}

Test(proxy_pipeline, safe_requests_run_side_by_side_and_are_answered_in_order)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    say_get(client, "a");
    say_get(client, "b");
    uint64_t first = replica_request(stage, NULL);
    uint64_t second = replica_request(stage, NULL);
    replica_reply(stage, second, 200, "b");
    cr_assert(client_hears_nothing(client));
    replica_reply(stage, first, 200, "a");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "a"));
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "b"));
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, a_safe_request_waits_for_the_unsafe_one_before_it)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
                       "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t first = replica_request(stage, NULL);
    cr_assert(replica_hears_nothing(stage), "the GET overtook the POST");
    replica_reply(stage, first, 200, "a");
    struct wire_request request;
    uint64_t second = replica_request(stage, &request);
    cr_assert(bytes_equal(request.path, BYTES("/b")));
    replica_reply(stage, second, 200, "b");
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "b"));
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, an_unsafe_request_waits_for_all_before_it)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    say_get(client, "a");
    client_say(client, "DELETE /b HTTP/1.1\r\nHost: h\r\n\r\n");
    say_get(client, "c");
    uint64_t first = replica_request(stage, NULL);
    cr_assert(replica_hears_nothing(stage));
    replica_reply(stage, first, 200, "a");
    uint64_t second = replica_request(stage, NULL);
    cr_assert(replica_hears_nothing(stage));
    replica_reply(stage, second, 200, "b");
    replica_reply(stage, replica_request(stage, NULL), 200, "c");
    const char *bodies[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(client_status(client), 200);
        cr_assert(client_body_is(client, bodies[i]));
    }
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, nothing_behind_a_request_with_close_is_looked_at)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
                       "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    cr_assert(replica_hears_nothing(stage));
    replica_reply(stage, stream, 200, "a");
    cr_assert_eq(client_status(client), 200);
    cr_assert_not(client->answer.keep_alive);
    cr_assert(client_sees_end(client));
    cr_assert_not(client->line.reset);
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, a_refused_request_is_answered_behind_those_before_it)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    say_get(client, "a");
    client_say(client, "GARBAGE\r\n\r\n");
    replica_reply(stage, replica_request(stage, NULL), 200, "a");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive, "only the last answer may say close");
    cr_assert_eq(client_status(client), 400);
    cr_assert_not(client->answer.keep_alive);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

/* Its user code may hold the very place at a replica that the first one waits for. */
Test(proxy_pipeline, an_answer_in_parts_behind_an_unanswered_request_goes_on)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit;
    say_get(client, "a");
    say_get(client, "b");
    uint64_t first = replica_request(stage, NULL);
    uint64_t second = replica_request(stage, NULL);
    replica_begin(stage, second, UINT64_MAX);
    for (size_t sent = 0; sent < window; sent += 65536)
        replica_part(stage, second, pattern(65536), 0);
    while (stage->credited < window)
        replica_hears_nothing(stage);
    replica_reply(stage, first, 200, "a");
    cr_assert_eq(client_status(client), 200);
    replica_part(stage, second, (struct bytes){0}, WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, window);
    cr_assert_eq(memcmp(client->body, pattern(65536).at, 65536), 0);
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, past_its_limit_such_an_answer_pays_its_credit_when_it_leaves)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_pending_limit = 65536;
    stage_start(stage);
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit;
    say_get(client, "a");
    say_get(client, "b");
    uint64_t first = replica_request(stage, NULL);
    uint64_t second = replica_request(stage, NULL);
    replica_begin(stage, second, UINT64_MAX);
    for (size_t sent = 0; sent < window; sent += 65536)
        replica_part(stage, second, pattern(65536), 0);
    cr_assert(replica_hears_nothing(stage));
    cr_assert_eq(stage->credited, 0, "more may come before anything has left");
    replica_reply(stage, first, 200, "a");
    cr_assert_eq(client_status(client), 200);
    replica_part(stage, second, (struct bytes){0}, WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, window);
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, past_its_limit_such_an_answer_does_not_wait_for_ever)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_pending_limit = 65536;
    stage->proxy.settings.http_progress_timeout_ms = 50;
    stage_start(stage);
    struct client *client = client_new(stage);
    say_get(client, "a");
    say_get(client, "b");
    replica_request(stage, NULL);
    uint64_t second = replica_request(stage, NULL);
    replica_begin(stage, second, UINT64_MAX);
    for (int i = 0; i < 3; i++)
        replica_part(stage, second, pattern(65536), 0);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, a_second_stream_flows_when_the_first_has_ended)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit;
    say_get(client, "a");
    say_get(client, "b");
    uint64_t first = replica_request(stage, NULL);
    uint64_t second = replica_request(stage, NULL);
    replica_begin(stage, second, UINT64_MAX);
    for (size_t sent = 0; sent < window; sent += 65536)
        replica_part(stage, second, pattern(65536), 0);
    replica_reply(stage, first, 200, "a");
    cr_assert_eq(client_status(client), 200);
    while (stage->credited < window)
        replica_hears_nothing(stage);
    replica_part(stage, second, pattern(65536), WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, window + 65536);
    client_free(client);
    stage_free(stage);
}

Test(proxy_pipeline, past_the_limit_requests_wait_in_the_connection)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_pipeline_limit = 2;
    stage_start(stage);
    struct client *client = client_new(stage);
    for (int i = 0; i < 5; i++)
        say_get(client, "a");
    uint64_t streams[2] = {replica_request(stage, NULL), replica_request(stage, NULL)};
    cr_assert(replica_hears_nothing(stage));
    for (int i = 0; i < 5; i++) {
        replica_reply(stage, streams[i % 2], 200, "x");
        cr_assert_eq(client_status(client), 200);
        if (i < 3)
            streams[i % 2] = replica_request(stage, NULL);
    }
    client_free(client);
    stage_free(stage);
}

/* One client cannot take the places of all: the others are told, not dropped. */
Test(proxy_pipeline, with_no_place_for_requests_left_a_client_gets_503)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.request_limit = 4;
    stage_start(stage);
    struct client *greedy = client_new(stage), *modest = client_new(stage);
    for (int i = 0; i < 6; i++)
        say_get(greedy, "a");
    uint64_t streams[4];
    for (int i = 0; i < 4; i++)
        streams[i] = replica_request(stage, NULL);
    cr_assert(replica_hears_nothing(stage));
    say_get(modest, "b");
    cr_assert_eq(client_status(modest), 503);
    cr_assert(modest->answer.keep_alive);
    for (int i = 0; i < 4; i++) {
        replica_reply(stage, streams[i], 200, "x");
        cr_assert_eq(client_status(greedy), 200);
    }
    for (int i = 0; i < 2; i++)
        replica_reply(stage, replica_request(stage, NULL), 200, "x");
    cr_assert_eq(client_status(greedy), 200);
    cr_assert_eq(client_status(greedy), 200);
    client_free(greedy);
    client_free(modest);
    stage_free(stage);
}

Test(proxy_pipeline, a_client_that_leaves_cancels_all_its_requests)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_get(client, "a");
    say_get(client, "b");
    uint64_t streams[2] = {replica_request(stage, NULL), replica_request(stage, NULL)};
    client_leave(client);
    for (int i = 0; i < 2; i++) {
        replica_frame(stage, WIRE_CANCEL_FRAME, &header);
        cr_assert(header.stream == streams[0] || header.stream == streams[1]);
    }
    cr_assert_eq(stage->proxy.connections.used_count, 0);
    for (int i = 0; i < 2; i++)
        replica_fail(stage, streams[i], ERROR_CANCELLED, "");
    client_free(client);
    stage_free(stage);
}
