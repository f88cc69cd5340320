/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_answers: requests to a replica and its answers back, as HTTP.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "mem.h"
#include "proxy_stage.h"
#include "socket.h"

Test(proxy_answers, a_request_reaches_the_replica_and_its_answer_the_client)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_request request;
    client_say(client, "POST /a/b?q=1 HTTP/1.1\r\nHost: h\r\nContent-Type: text/x\r\nX-Request-Id: "
                       "id-1\r\nContent-Length: 4\r\n\r\nbody");
    uint64_t stream = replica_request(stage, &request);
    cr_assert(
        bytes_equal(request.method, BYTES("POST")) && bytes_equal(request.path, BYTES("/a/b")) &&
        bytes_equal(request.query, BYTES("q=1")) && bytes_equal(request.body, BYTES("body")) &&
        bytes_equal(request.content_type, BYTES("text/x")) &&
        bytes_equal(request.request_id, BYTES("id-1")));
    replica_reply(stage, stream, 201, "made");
    cr_assert_eq(client_status(client), 201);
    cr_assert(client_body_is(client, "made") && client->answer.keep_alive);
    cr_assert(bytes_equal(client_field(client, "x-request-id"), BYTES("id-1")));
    cr_assert(client_hears_nothing(client));
    client_free(client);
    stage_free(stage);
}

/* Which allocation fails does not matter: the proxy stays whole, and serves the next client. */
Test(proxy_answers, an_answer_for_which_memory_lacks_ends_its_connection_alone)
{
    for (uint64_t nth = 1; nth < 12; nth++) {
        struct stage *stage = stage_serving();
        struct client *client = client_new(stage), *other = client_new(stage);
        client_say(client, "GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
        uint64_t stream = replica_request(stage, NULL);
        page_mark_taken(&stage->marks, stream); /* or it would wait for another replica */
        struct wire_reply reply = {.status = 200, .body_size = 150000, .body = pattern(150000)};
        uint8_t *frame = malloc(wire_reply_size(&reply));
        size_t size = wire_reply_write(&reply, WIRE_END, stream, false, frame);
        struct iovec part = {frame, size};
        cr_assert_eq(socket_write(stage->replica.descriptor, &part, 1), (ssize_t)size);
        mem_fail_at(nth);
        stage_turns(stage, 20);
        mem_fail_at(0);
        free(frame);
        client_answer(client, false);
        client_leave(client);
        client_say(other, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        cr_assert_eq(client_status(other), 200);
        client_free(client);
        client_free(other);
        stage_free(stage);
    }
}

/* ---- what travels in fields ---- */

Test(proxy_answers, fields_reach_the_replica_but_for_those_of_the_connection)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_request request;
    struct bytes value;
    char long_name[400], text[900];
    memset(long_name, 'N', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    snprintf(
        text, sizeof text,
        "GET / HTTP/1.1\r\nHost: h\r\nX-Up: Value\r\nConnection: keep-alive, x-mine\r\nX-Mine: "
        "1\r\nTE: trailers\r\nAccept: a\r\nAccept: b\r\n%s: long\r\n\r\n",
        long_name);
    client_say(client, text);
    uint64_t stream = replica_request(stage, &request);
    cr_assert(wire_field_find(request.headers, BYTES("x-up"), &value) &&
              bytes_equal(value, BYTES("Value")));
    cr_assert_not(wire_field_find(request.headers, BYTES("x-mine"), &value));
    cr_assert_not(wire_field_find(request.headers, BYTES("connection"), &value));
    cr_assert_not(wire_field_find(request.headers, BYTES("te"), &value));
    memset(long_name, 'n', sizeof long_name - 1);
    cr_assert(wire_field_find(request.headers, bytes_of_string(long_name), &value));
    struct bytes rest = request.headers, name;
    int accepts = 0;
    while (wire_field_next(&rest, &name, &value))
        accepts += bytes_equal(name, BYTES("accept"));
    cr_assert_eq(accepts, 2);
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

static size_t add_field(uint8_t *at, size_t used, size_t room, struct bytes name,
                        struct bytes value)
{
    size_t size = wire_field_write(at + used, room - used, name, value);
    cr_assert_gt(size, 0);
    return used + size;
}

/* User code cannot break the framing, nor say what is ours to say. */
Test(proxy_answers, fields_of_user_code_pass_when_they_may)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint8_t fields[1024];
    size_t size = 0;
    size = add_field(fields, size, sizeof fields, BYTES("set-cookie"), BYTES("a=1"));
    size = add_field(fields, size, sizeof fields, BYTES("set-cookie"), BYTES("b=2"));
    size = add_field(fields, size, sizeof fields, BYTES("content-length"), BYTES("99"));
    size = add_field(fields, size, sizeof fields, BYTES("transfer-encoding"), BYTES("chunked"));
    size = add_field(fields, size, sizeof fields, BYTES("connection"), BYTES("close"));
    size = add_field(fields, size, sizeof fields, BYTES("x-split"), BYTES("a\r\nx-evil: 1"));
    size = add_field(fields, size, sizeof fields, BYTES("bad name"), BYTES("1"));
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    struct wire_reply reply = {.status = 200,
                               .body_size = 2,
                               .content_type = BYTES("text/plain\r\nx-evil: 2"),
                               .headers = bytes_of(fields, size),
                               .body = BYTES("ok")};
    replica_reply_with(stage, replica_request(stage, NULL), &reply, WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "ok") && client->answer.keep_alive);
    cr_assert_eq(client_field(client, "x-evil").size, 0);
    cr_assert_eq(client_field(client, "x-split").size, 0);
    int cookies = 0;
    for (uint32_t i = 0; i < client->answer.header_count; i++)
        cookies += bytes_equal(client->answer.headers[i].name, BYTES("set-cookie"));
    cr_assert_eq(cookies, 2);
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, many_and_long_fields_of_user_code_pass_whole)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    static uint8_t fields[200000];
    size_t size = 0;
    for (int i = 0; i < 3; i++)
        size = add_field(fields, size, sizeof fields, BYTES("x-long"), pattern(60000));
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    struct wire_reply reply = {
        .status = 200, .body_size = 2, .headers = bytes_of(fields, size), .body = BYTES("ok")};
    replica_reply_with(stage, replica_request(stage, NULL), &reply, WIRE_END);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client_field(client, "x-long").size, 60000);
    cr_assert(client_body_is(client, "ok"));
    client_free(client);
    stage_free(stage);
}

/* It is echoed, and written into logs. */
Test(proxy_answers, a_request_id_is_echoed_or_made)
{
    struct stage *stage = stage_serving();
    const char *given[] = {"plain-1", "odd \"{}\t;\xe2\x82\xac", ""};
    for (int i = 0; i < 4; i++) {
        struct client *client = client_new(stage);
        char text[512], longest[200];
        memset(longest, 'x', sizeof longest - 1);
        longest[sizeof longest - 1] = 0;
        const char *id = i < 3 ? given[i] : longest;
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: %s\r\n\r\n", id);
        client_say(client, text);
        replica_reply(stage, replica_request(stage, NULL), 200, "ok");
        cr_assert_eq(client_status(client), 200);
        struct bytes echoed = client_field(client, "x-request-id");
        if (i < 2)
            cr_assert(bytes_equal(echoed, bytes_of_string(id)));
        else
            cr_assert_eq(echoed.size, 36, "one that is missing or too long is made");
        client_free(client);
    }
    stage_free(stage);
}

/* ---- statuses and methods ---- */

Test(proxy_answers, head_and_statuses_without_content_carry_no_body)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "HEAD /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert(client_answer(client, true));
    cr_assert(bytes_equal(client_field(client, "content-length"), BYTES("7")));
    client_say(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    replica_reply(stage, replica_request(stage, NULL), 200, "not for HEAD");
    cr_assert(client_answer(client, true));
    uint16_t statuses[] = {204, 304};
    for (int i = 0; i < 2; i++) {
        client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        replica_reply(stage, replica_request(stage, NULL), statuses[i], "not for these");
        cr_assert_eq(client_status(client), statuses[i]);
        cr_assert_eq(client->body_size, 0);
    }
    cr_assert(client_hears_nothing(client), "a body came all the same");
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, a_stream_that_answers_head_is_paid_for_and_dropped)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit;
    client_say(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, UINT64_MAX);
    for (size_t sent = 0; sent < 4 * window; sent += 65536) {
        while (sent + 65536 > window + stage->credited)
            replica_hears_nothing(stage);
        replica_part(stage, stream, pattern(65536), 0);
    }
    replica_end(stage, stream, 0);
    cr_assert(client_answer(client, true));
    cr_assert(client_hears_nothing(client));
    client_say(client, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, a_failure_behind_a_whole_answer_breaks_nothing)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, UINT64_MAX);
    replica_end(stage, stream, ERROR_USER);
    cr_assert(client_answer(client, true));
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    stream = replica_request(stage, NULL);
    replica_begin(stage, stream, 1000);
    replica_part(stage, stream, pattern(1000), 0);
    replica_end(stage, stream, ERROR_USER);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, 1000);
    client_say(client, "GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200, "the connection goes on");
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, a_long_stream_passes_whole_at_the_pace_of_the_client)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    size_t window = (size_t)stage->proxy.settings.wire_stream_credit, sent = 0;
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, UINT64_MAX);
    for (; sent < 3 << 20; sent += 50000) {
        while (sent + 50000 > window + stage->credited)
            replica_hears_nothing(stage);
        replica_part(stage, stream, pattern(50000), 0);
    }
    replica_end(stage, stream, 0);
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, sent);
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, errors_become_statuses_and_user_words_of_a_500_stay_inside)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    static const struct {
        int code, status;
        const char *text, *body;
    } cases[] = {
        {ERROR_USER, 500, "secret trace", "Internal Server Error"},
        {ERROR_INVALID, 400, "no such field", "no such field"},
        {ERROR_UNAVAILABLE, 503, "gone", "gone"},
        {ERROR_CANCELLED, 499, "", "The request was cancelled."},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        replica_fail(stage, replica_request(stage, NULL), cases[i].code, cases[i].text);
        cr_assert_eq(client_status(client), cases[i].status);
        cr_assert(client_body_is(client, cases[i].body));
        cr_assert(client->answer.keep_alive);
    }
    client_free(client);
    stage_free(stage);
}

Test(proxy_answers, methods_that_no_replica_sees)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client->answer.keep_alive);
    client_say(client, "GET /-/routes HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "{\"/\":\"app\"}"));
    client_say(client, "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n");
    cr_assert_eq(client_status(client), 501);
    cr_assert_not(client->answer.keep_alive);
    client_say(client, "GET /tunnelled HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert(replica_hears_nothing(stage));
    client_free(client);
    stage_free(stage);
}

/* One byte at a time, and all at once: what the client gets does not depend on it. */
Test(proxy_answers, requests_may_come_in_any_pieces)
{
    static const char text[] = "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n"
                               "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nend"
                               "GET /c HTTP/1.1\r\nHost: h\r\n\r\n";
    for (size_t piece = 1; piece < sizeof text; piece = piece * 3) {
        struct stage *stage = stage_serving();
        struct client *client = client_new(stage);
        struct wire_header header;
        for (size_t at = 0; at < sizeof text - 1; at += piece) {
            client_send(client, bytes_head(bytes_of(text + at, sizeof text - 1 - at), piece));
            stage_turns(stage, 1);
        }
        for (int i = 0; i < 3; i++) {
            struct wire_request request;
            uint64_t stream = replica_request(stage, &request);
            cr_assert_eq(request.path.at[1], 'a' + i);
            while (i == 0) {
                struct wire_part part;
                struct bytes payload = replica_any_frame(stage, &header);
                if (header.type == WIRE_HALF_CLOSE_FRAME || (header.flags & WIRE_END))
                    break;
                cr_assert_eq(wire_part_read(&part, payload), 0);
            }
            replica_reply(stage, stream, 200, "ok");
            cr_assert_eq(client_status(client), 200);
        }
        cr_assert(client_hears_nothing(client));
        client_free(client);
        stage_free(stage);
    }
}
