/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_ends: how connections end: by the client's wish, by ours, by a drain, in the middle of an
 * answer.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "proxy_stage.h"

static uint64_t ask(struct stage *stage, struct client *client, const char *line)
{
    client_send(client, bytes_of_string(line));
    client_say(client, "\r\nHost: h\r\n\r\n");
    return replica_request(stage, NULL);
}

Test(proxy_ends, a_connection_that_the_client_will_not_use_again_closes_at_once)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.1\r\nConnection: close");
    replica_reply(stage, stream, 200, "ok");
    stage_turns(stage, 2);
    cr_assert_eq(stage->proxy.connections.used_count, 0);
    cr_assert_eq(client_status(client), 200);
    cr_assert_not(client->answer.keep_alive);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

/* The client of a broken framing may have more to send: an answer over unread bytes would be reset.
 */
Test(proxy_ends, a_refused_client_that_goes_on_sending_can_read_the_answer)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "GET / HTTP/1.1\r\n\r\n");
    for (int i = 0; i < 10; i++)
        client_send_some(client, pattern(50000));
    cr_assert_eq(client_status(client), 400);
    cr_assert(client_sees_end(client));
    cr_assert_not(client->line.reset);
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, a_connection_that_lingers_is_closed_when_its_time_is_over)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "GET / HTTP/1.1\r\n\r\n");
    cr_assert_eq(client_status(client), 400);
    cr_assert_eq(stage->proxy.phases[PHASE_LINGER].length, 1);
    cr_assert(client_sees_end(client));
    client_leave(client);
    stage_turns(stage, 3);
    cr_assert_eq(stage->proxy.connections.used_count, 0, "the client has left");
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, http_1_0_closes_unless_asked_to_keep)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.0\r\nConnection: keep-alive");
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive);
    stream = ask(stage, client, "GET / HTTP/1.0");
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, an_answer_of_unknown_length_ends_with_the_connection_for_http_1_0)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.0\r\nConnection: keep-alive");
    replica_begin(stage, stream, UINT64_MAX);
    replica_part(stage, stream, BYTES("one"), 0);
    replica_part(stage, stream, BYTES("two"), WIRE_END);
    cr_assert(client_answer(client, false));
    cr_assert_eq(client->answer.framing, HTTP1_FRAMING_CLOSE);
    cr_assert(client_body_is(client, "onetwo"));
    cr_assert_not(client->line.reset);
    client_free(client);
    stage_free(stage);
}

/* ---- answers that break ---- */

Test(proxy_ends, an_answer_that_breaks_off_looks_broken)
{
    struct stage *stage = stage_serving();
    uint64_t sizes[] = {UINT64_MAX, 100};
    for (int i = 0; i < 2; i++) {
        struct client *client = client_new(stage);
        uint64_t stream = ask(stage, client, "GET / HTTP/1.1");
        replica_begin(stage, stream, sizes[i]);
        replica_part(stage, stream, BYTES("part"), 0);
        replica_end(stage, stream, ERROR_USER);
        cr_assert_not(client_answer(client, false));
        cr_assert(client_body_is(client, "part"));
        client_free(client);
    }
    stage_free(stage);
}

Test(proxy_ends, an_answer_whose_length_is_wrong_breaks_off)
{
    struct stage *stage = stage_serving();
    const char *parts[] = {"too short", "longer than it was told to be"};
    for (int i = 0; i < 2; i++) {
        struct client *client = client_new(stage);
        struct wire_header header;
        uint64_t stream = ask(stage, client, "GET / HTTP/1.1");
        replica_begin(stage, stream, 20);
        replica_part(stage, stream, bytes_of_string(parts[i]), i == 0 ? WIRE_END : 0);
        cr_assert_not(client_answer(client, false));
        cr_assert_leq(client->body_size, 20);
        if (i == 1) {
            replica_frame(stage, WIRE_CANCEL_FRAME, &header);
            replica_end(stage, stream, ERROR_CANCELLED);
        }
        client_free(client);
    }
    stage_free(stage);
}

Test(proxy_ends, a_broken_answer_does_not_wait_for_the_rest_of_the_request)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, UINT64_MAX);
    replica_end(stage, stream, ERROR_USER);
    cr_assert_not(client_answer(client, false));
    client_free(client);
    stage_free(stage);
}

/* ---- draining ---- */

Test(proxy_ends, a_drain_closes_idle_connections_and_answers_the_rest)
{
    struct stage *stage = stage_serving();
    struct client *idle = client_new(stage), *busy = client_new(stage), *slow = client_new(stage);
    client_say(idle, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(idle), 200);
    uint64_t stream = ask(stage, busy, "GET / HTTP/1.1");
    client_say(slow, "GET / HTT");
    proxy_drain(&stage->proxy);
    cr_assert(client_sees_end(idle));
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(busy), 200);
    cr_assert_not(busy->answer.keep_alive);
    cr_assert(client_sees_end(busy));
    client_say(slow, "P/1.1\r\nHost: h\r\n\r\n");
    replica_reply(stage, replica_request(stage, NULL), 200, "ok");
    cr_assert_eq(client_status(slow), 200);
    cr_assert_not(slow->answer.keep_alive);
    client_free(idle);
    client_free(busy);
    client_free(slow);
    stage_turns(stage, 5);
    cr_assert_eq(stage->proxy.connections.used_count, 0);
    stage_free(stage);
}

Test(proxy_ends, a_drain_answers_every_request_that_was_taken)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t streams[3];
    for (int i = 0; i < 3; i++)
        streams[i] = ask(stage, client, "GET / HTTP/1.1");
    proxy_drain(&stage->proxy);
    for (int i = 0; i < 3; i++) {
        replica_reply(stage, streams[i], 200, "ok");
        cr_assert_eq(client_status(client), 200);
        cr_assert_eq(client->answer.keep_alive, i < 2);
    }
    cr_assert(client_sees_end(client));
    cr_assert_not(client->line.reset);
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, a_stream_that_began_before_the_drain_ends_whole)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.1");
    replica_begin(stage, stream, UINT64_MAX);
    replica_part(stage, stream, BYTES("one"), 0);
    proxy_drain(&stage->proxy);
    replica_part(stage, stream, BYTES("two"), WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "onetwo"));
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

/* ---- time limits ---- */

Test(proxy_ends, a_head_that_does_not_arrive_in_time_gets_408)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_head_timeout_ms = 20;
    stage_start(stage);
    struct client *client = client_new(stage);
    client_say(client, "GET / HT");
    cr_assert_eq(client_status(client), 408);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, a_body_that_does_not_arrive_in_time_gets_408_and_frees_the_replica)
{
    const char *heads[] = {"Content-Length: 10\r\n\r\nabc", "Content-Length: 100000\r\n\r\nabc"};
    for (int i = 0; i < 2; i++) {
        struct stage *stage = stage_new();
        struct wire_header header;
        stage->proxy.settings.http_progress_timeout_ms = 20;
        stage_start(stage);
        struct client *client = client_new(stage);
        client_send(client, BYTES("POST / HTTP/1.1\r\nHost: h\r\n"));
        client_say(client, heads[i]);
        uint64_t stream = i ? replica_request(stage, NULL) : 0;
        cr_assert_eq(client_status(client), 408);
        cr_assert_not(client->answer.keep_alive);
        if (i) {
            do
                replica_any_frame(stage, &header);
            while (header.type == WIRE_PART_FRAME);
            cr_assert_eq(header.type, WIRE_CANCEL_FRAME);
            replica_fail(stage, stream, ERROR_CANCELLED, "");
        }
        client_free(client);
        stage_free(stage);
    }
}

Test(proxy_ends, an_idle_connection_is_closed_without_a_word)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_keep_alive_ms = 20;
    stage_start(stage);
    struct client *client = client_new(stage), *fresh = client_new(stage);
    client_say(client, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_sees_end(client));
    cr_assert(client_sees_end(fresh));
    client_free(client);
    client_free(fresh);
    stage_free(stage);
}

Test(proxy_ends, without_keep_alive_each_connection_serves_one_request)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.http_keep_alive_ms = 0;
    stage_start(stage);
    struct client *client = client_new(stage);
    cr_assert(client_hears_nothing(client), "closed before its first request");
    client_say(client, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert_not(client->answer.keep_alive);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, a_client_that_takes_nothing_is_closed_and_its_request_cancelled)
{
    struct stage *stage = stage_new();
    struct wire_header header;
    stage->proxy.settings.http_progress_timeout_ms = 50;
    stage_start(stage);
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.1");
    replica_begin(stage, stream, UINT64_MAX);
    /* As much as the kernel takes, and then the window. */
    for (size_t sent = 0, room = (size_t)stage->proxy.settings.wire_stream_credit;
         stage->proxy.phases[PHASE_WRITE].length == 0; sent += 65536) {
        while (sent + 65536 > room + stage->credited)
            replica_hears_nothing(stage);
        replica_part(stage, stream, pattern(65536), 0);
    }
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(header.stream, stream);
    cr_assert_eq(stage->proxy.connections.used_count, 0);
    replica_end(stage, stream, ERROR_CANCELLED);
    client_free(client);
    stage_free(stage);
}

Test(proxy_ends, a_request_has_a_time_limit_of_its_own)
{
    struct stage *stage = stage_new();
    struct wire_header header;
    stage->proxy.settings.http_request_timeout_ms = 20;
    stage_start(stage);
    struct client *client = client_new(stage);
    uint64_t stream = ask(stage, client, "GET / HTTP/1.1");
    cr_assert_eq(client_status(client), 408);
    cr_assert(client->answer.keep_alive);
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    replica_fail(stage, stream, ERROR_CANCELLED, "");
    client_free(client);
    stage_free(stage);
}
