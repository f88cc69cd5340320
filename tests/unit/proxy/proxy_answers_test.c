/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_answers: requests to a replica and its answers back, as HTTP.
 */
#include <criterion/criterion.h>
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
