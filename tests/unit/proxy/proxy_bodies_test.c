/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_bodies: bodies of requests: whole, streamed, asked for, unwanted.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proxy_stage.h"

/* A head with these fields; the body follows by itself. */
static void say_head(struct client *client, const char *line, const char *fields)
{
    char text[512];
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", line, fields);
    client_say(client, text);
}

Test(proxy_bodies, a_small_body_is_waited_for)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_request request;
    say_head(client, "POST /", "Content-Length: 10\r\n");
    client_say(client, "01234");
    cr_assert(replica_hears_nothing(stage), "a slow client holds a place at the replica");
    client_say(client, "56789");
    uint64_t stream = replica_request(stage, &request);
    cr_assert(bytes_equal(request.body, BYTES("0123456789")));
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

static size_t take_parts(struct stage *stage, size_t wanted)
{
    struct wire_header header = {0};
    struct wire_part part;
    size_t size = 0;
    while (size < wanted && !(header.flags & WIRE_END)) {
        struct bytes payload = replica_frame(stage, WIRE_PART_FRAME, &header);
        cr_assert_eq(wire_part_read(&part, payload), 0);
        size += part.body.size;
    }
    return size;
}

Test(proxy_bodies, a_large_body_is_streamed_as_credit_allows)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit, size = 3 * window;
    char length[64];
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", size);
    say_head(client, "POST /", length);
    uint64_t stream = replica_request(stage, NULL);
    size_t sent = client_send_some(client, pattern(size));
    cr_assert_eq(take_parts(stage, window), window);
    cr_assert(replica_hears_nothing(stage), "the proxy sends without credit");
    for (size_t taken = window; taken < size; taken += window) {
        replica_credit(stage, stream, (uint32_t)window);
        if (sent < size)
            sent += client_send_some(client, bytes_skip(pattern(size), sent));
        cr_assert_eq(take_parts(stage, window), window);
    }
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive);
    client_free(client);
    stage_free(stage);
}

/* Both uploads go through one channel: what one leaves no room for must come later, for both. */
Test(proxy_bodies, a_channel_that_others_filled_stops_nobody_for_ever)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.wire_queue_limit = 65536;
    stage_start(stage);
    enum { COUNT = 6, SIZE = 200000 };
    struct client *clients[COUNT];
    uint64_t streams[COUNT];
    size_t sent[COUNT] = {0}, arrived = 0;
    for (int i = 0; i < COUNT; i++) {
        clients[i] = client_new(stage);
        say_head(clients[i], "POST /", "Content-Length: 200000\r\n");
        streams[i] = replica_request(stage, NULL);
        /* Answers that begin keep no copy of the request: parts go straight into the channel. */
        replica_begin(stage, streams[i], UINT64_MAX);
    }
    sent[0] = client_send_some(clients[0], pattern(100));
    for (int i = 1; i < COUNT; i++)
        sent[i] = client_send_some(clients[i], pattern(SIZE));
    /* The first has sent nothing since the channel is full; now it is looked at for another reason.
     */
    replica_part(stage, streams[0], BYTES("x"), 0);
    while (arrived < (size_t)COUNT * SIZE) {
        struct wire_header header;
        struct wire_part part = {0};
        struct bytes payload = replica_any_frame(stage, &header);
        if (header.type == WIRE_PART_FRAME)
            cr_assert_eq(wire_part_read(&part, payload), 0);
        arrived += part.body.size;
        for (int i = 0; i < COUNT; i++)
            if (sent[i] < SIZE)
                sent[i] += client_send_some(clients[i], pattern(SIZE - sent[i]));
    }
    for (int i = 0; i < COUNT; i++) {
        replica_part(stage, streams[i], (struct bytes){0}, WIRE_END);
        cr_assert_eq(client_status(clients[i]), 200);
        client_free(clients[i]);
    }
    stage_free(stage);
}

/* ---- 100 Continue ---- */

Test(proxy_bodies, a_client_that_asks_is_told_to_go_on)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    const char *fields[] = {"Expect: 100-continue\r\nContent-Length: 4\r\n",
                            "Expect: 100-continue\r\nContent-Length: 100000\r\n",
                            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"};
    for (int i = 0; i < 3; i++) {
        say_head(client, "PUT /", fields[i]);
        client_expect_continue(client);
        cr_assert(client_hears_nothing(client), "told once");
        if (i == 0)
            client_say(client, "body");
        else if (i == 1)
            client_send(client, pattern(100000));
        else
            client_say(client, "4\r\nbody\r\n0\r\n\r\n");
        uint64_t stream = replica_request(stage, NULL);
        struct wire_header header;
        if (i > 0) {
            take_parts(stage, i == 1 ? 100000 : 4);
            replica_frame(stage, WIRE_HALF_CLOSE_FRAME, &header);
        }
        replica_reply(stage, stream, 200, "ok");
        cr_assert_eq(client_status(client), 200);
        cr_assert(client->answer.keep_alive);
    }
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_client_that_does_not_wait_is_not_told)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client,
               "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbo");
    cr_assert(client_hears_nothing(client));
    client_say(client, "dy");
    replica_reply(stage, replica_request(stage, NULL), 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_client_of_http_1_0_is_never_told)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    cr_assert(client_hears_nothing(client));
    client_say(client, "body");
    replica_reply(stage, replica_request(stage, NULL), 200, "ok");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_client_that_asks_behind_another_request_is_told_in_its_turn)
{
    const char *fields[] = {"Expect: 100-continue\r\nContent-Length: 4\r\n",
                            "Expect: 100-continue\r\nContent-Length: 100000\r\n"};
    for (int i = 0; i < 2; i++) {
        for (int safe = 0; safe < 2; safe++) {
            struct stage *stage = stage_serving();
            struct client *client = client_new(stage);
            say_head(client, "GET /a", "");
            say_head(client, safe ? "GET /b" : "PUT /b", fields[i]);
            uint64_t first = replica_request(stage, NULL);
            cr_assert(client_hears_nothing(client), "a 100 would be taken for the first one's");
            replica_reply(stage, first, 200, "a");
            cr_assert_eq(client_status(client), 200);
            client_expect_continue(client);
            client_send(client, pattern(i == 0 ? 4 : 100000));
            uint64_t second = replica_request(stage, NULL);
            if (i == 1)
                take_parts(stage, 100000);
            replica_reply(stage, second, 200, "b");
            cr_assert_eq(client_status(client), 200);
            cr_assert(client_body_is(client, "b"));
            client_free(client);
            stage_free(stage);
        }
    }
}

/* It may still send the body, or not: what comes behind cannot be understood. */
Test(proxy_bodies, a_client_that_asks_and_is_refused_must_come_again)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    say_head(client, "PUT /-/healthz", "Expect: 100-continue\r\nContent-Length: 100000\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert_not(client->answer.keep_alive);
    say_head(client, "GET /smuggled", "");
    cr_assert(replica_hears_nothing(stage));
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

/* ---- unwanted bodies ---- */

Test(proxy_bodies, a_short_unwanted_body_is_dropped_and_is_no_request)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    char body[100001], fields[64];
    memset(body, 'x', sizeof body - 1);
    body[100000] = 0;
    memcpy(body, "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n", 35);
    snprintf(fields, sizeof fields, "Content-Length: 100000\r\n");
    say_head(client, "POST /-/healthz", fields);
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive);
    client_send(client, bytes_of(body, 100000));
    say_head(client, "GET /next", "");
    struct wire_request request;
    uint64_t stream = replica_request(stage, &request);
    cr_assert(bytes_equal(request.path, BYTES("/next")));
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_short_unwanted_chunked_body_is_dropped_too)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    say_head(client, "POST /-/healthz", "Transfer-Encoding: chunked\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive);
    client_say(client, "23\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n");
    say_head(client, "GET /next", "");
    struct wire_request request;
    uint64_t stream = replica_request(stage, &request);
    cr_assert(bytes_equal(request.path, BYTES("/next")));
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_long_unwanted_body_ends_the_connection_behind_a_readable_answer)
{
    struct stage *stage = stage_serving();
    const char *fields[] = {"Content-Length: 3000000\r\n", "Transfer-Encoding: chunked\r\n"};
    for (int i = 0; i < 2; i++) {
        struct client *client = client_new(stage);
        say_head(client, "POST /-/healthz", fields[i]);
        if (i == 1)
            client_say(client, "2DC6C0\r\n");
        client_send_some(client, pattern(3000000));
        cr_assert_eq(client_status(client), 200);
        cr_assert_eq(client->answer.keep_alive, i == 1, "a length is known in advance");
        cr_assert(client_sees_end(client));
        client_free(client);
    }
    cr_assert(replica_hears_nothing(stage));
    stage_free(stage);
}

Test(proxy_bodies, an_answer_before_the_body_says_whether_the_connection_goes_on)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_head(client, "POST /", "Content-Length: 3000000\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_reply(stage, stream, 403, "no");
    cr_assert_eq(client_status(client), 403);
    cr_assert_not(client->answer.keep_alive);
    cr_assert(client_sees_end(client));
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_body_that_breaks_the_framing_is_refused_and_its_request_cancelled)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_head(client, "POST /", "Transfer-Encoding: chunked\r\n");
    uint64_t stream = replica_request(stage, NULL);
    client_say(client, "zz\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 400);
    cr_assert_not(client->answer.keep_alive);
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(header.stream, stream);
    replica_fail(stage, stream, ERROR_CANCELLED, "");
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_body_that_breaks_inside_an_answer_breaks_the_answer)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_head(client, "POST /", "Transfer-Encoding: chunked\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, UINT64_MAX);
    replica_part(stage, stream, BYTES("first"), 0);
    client_say(client, "zz\r\n");
    cr_assert_not(client_answer(client, false), "the answer looks whole");
    cr_assert_not(client->line.reset);
    cr_assert(client_body_is(client, "first"));
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    replica_end(stage, stream, ERROR_CANCELLED);
    client_free(client);
    stage_free(stage);
}

Test(proxy_bodies, a_client_that_leaves_inside_its_body_cancels_the_request)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_head(client, "POST /", "Content-Length: 100000\r\n");
    uint64_t stream = replica_request(stage, NULL);
    client_send(client, pattern(1000));
    client_leave(client);
    replica_frame(stage, WIRE_PART_FRAME, &header);
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(header.stream, stream);
    replica_fail(stage, stream, ERROR_CANCELLED, "");
    client_free(client);
    stage_free(stage);
}
