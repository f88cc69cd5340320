/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_websockets: handshakes, what goes both ways, who waits for whom, and every way to end.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "proxy_stage.h"
#include "socket.h"
#include "websocket_talk.h"

enum { FIN = 0x80, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9 };

#define HANDSHAKE(fields)                                                                          \
    "GET /chat?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, "          \
    "Upgrade\r\n"                                                                                  \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" fields "\r\n"
#define GOOD HANDSHAKE("Sec-WebSocket-Version: 13\r\n")

static void client_frame(struct client *client, uint8_t first, struct bytes payload)
{
    static uint8_t room[STAGE_ROOM / 2 + 16];
    cr_assert_leq(payload.size, STAGE_ROOM / 2);
    client_send(client, bytes_of(room, websocket_talk_frame(first, payload, room)));
}

static void replica_accept(struct stage *stage, uint64_t stream)
{
    uint8_t block[64];
    size_t size =
        wire_field_write(block, sizeof block, BYTES("sec-websocket-protocol"), BYTES("chat"));
    struct wire_reply reply = {
        .status = 101, .body_size = UINT64_MAX, .headers = bytes_of(block, size)};
    replica_reply_with(stage, stream, &reply, 0);
}

static void replica_record(struct stage *stage, uint64_t stream, enum websocket_kind kind,
                           bool last, struct bytes bytes)
{
    static uint8_t record[STAGE_ROOM / 2];
    websocket_record_write_head(kind, last, bytes.size, record);
    if (bytes.size)
        memcpy(record + WEBSOCKET_RECORD_HEAD, bytes.at, bytes.size);
    replica_part(stage, stream, bytes_of(record, WEBSOCKET_RECORD_HEAD + bytes.size), 0);
}

static void replica_close(struct stage *stage, uint64_t stream, const char *code,
                          const char *reason)
{
    uint8_t block[256], at[512];
    size_t size =
        wire_field_write(block, sizeof block, WEBSOCKET_CLOSE_CODE, bytes_of_string(code));
    size += wire_field_write(block + size, sizeof block - size, WEBSOCKET_CLOSE_REASON,
                             bytes_of_string(reason));
    struct wire_half_close frame = {.trailers = bytes_of(block, size)};
    replica_say(stage, at, wire_half_close_write(&frame, WIRE_END, stream, false, at));
}

static void expect_record(struct stage *stage, uint64_t stream, uint8_t kind, const char *text)
{
    struct wire_header header;
    struct wire_part part;
    struct bytes payload = replica_frame(stage, WIRE_PART_FRAME, &header);
    cr_assert_eq(wire_part_read(&part, payload), 0);
    cr_assert_eq(header.stream, stream);
    cr_assert_eq(part.body.size, WEBSOCKET_RECORD_HEAD + strlen(text));
    cr_assert_eq(part.body.at[0], kind);
    cr_assert(bytes_equal(bytes_skip(part.body, WEBSOCKET_RECORD_HEAD), bytes_of_string(text)));
}

static void expect_cancel(struct stage *stage, uint64_t stream, int code, const char *reason)
{
    struct wire_header header;
    struct wire_cancel cancel;
    struct bytes payload = replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(wire_cancel_read(&cancel, payload), 0);
    cr_assert_eq(header.stream, stream);
    cr_expect_eq(cancel.close_code, code, "%d", cancel.close_code);
    cr_expect(bytes_equal(cancel.reason, bytes_of_string(reason)), "%.*s",
              BYTES_PRINT(cancel.reason));
}

/* An open websocket: its stream. */
static uint64_t converse(struct stage *stage, struct client *client)
{
    client_say(client, GOOD);
    uint64_t stream = replica_request(stage, NULL);
    replica_accept(stage, stream);
    client_head(client);
    return stream;
}

static void end(struct stage *stage, struct client *client, uint64_t stream)
{
    replica_end(stage, stream, ERROR_CANCELLED); /* the last word on what was cancelled */
    stage_turns(stage, 3);
    client_free(client);
    stage_turns(stage, 3);
    cr_expect_eq(stage->proxy.dialogue_count, 0);
    stage_free(stage);
}

/* ---- the handshake ---- */

Test(proxy_websockets, a_handshake_is_a_request_of_its_own_kind_and_101_accepts_it)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_request request;
    struct bytes value;
    client_say(client, HANDSHAKE("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n"
                                 "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    uint64_t stream = replica_request(stage, &request);
    cr_expect_eq(request.kind, WIRE_KIND_WEBSOCKET);
    cr_expect(bytes_equal(request.path, BYTES("/chat")));
    cr_expect(bytes_equal(request.query, BYTES("a=b")));
    cr_expect(wire_field_find(request.headers, BYTES("sec-websocket-protocol"), &value));
    cr_expect(wire_field_find(request.headers, BYTES("upgrade"), &value), "user code may look");
    replica_accept(stage, stream);
    const char *head = client_head(client);
    cr_expect(strstr(head, "HTTP/1.1 101 Switching Protocols\r\n") == head);
    cr_expect(strstr(head, "\r\nupgrade: websocket\r\nconnection: upgrade\r\n"));
    cr_expect(strstr(head, "\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    cr_expect(strstr(head, "\r\nsec-websocket-extensions: permessage-deflate; "
                           "server_max_window_bits=12\r\n"));
    cr_expect(strstr(head, "\r\nsec-websocket-protocol: chat\r\n"));
    cr_expect(strstr(head, "\r\nx-request-id: "));
    client_leave(client);
    expect_cancel(stage, stream, 1006, "");
    end(stage, client, stream);
}

static void refuse(const char *request, int status, const char *field)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, request);
    cr_expect_eq(client_status(client), status);
    if (field)
        cr_expect(client_field(client, field).size > 0, "%s", field);
    cr_expect(client_sees_end(client));
    cr_expect(replica_hears_nothing(stage));
    client_free(client);
    stage_free(stage);
}

Test(proxy_websockets, a_handshake_that_is_none_is_refused_here)
{
    refuse(HANDSHAKE("Sec-WebSocket-Version: 8\r\n"), 426, "sec-websocket-version");
    refuse(HANDSHAKE("Sec-WebSocket-Version: 8\r\n"), 426, "upgrade");
    refuse(HANDSHAKE(""), 400, NULL);
    refuse(
        HANDSHAKE("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        400, NULL);
    refuse(HANDSHAKE("Sec-WebSocket-Version: 13\r\nContent-Length: 2\r\n") "ab", 400, NULL);
    refuse("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
           400, NULL);
}

Test(proxy_websockets, other_upgrades_and_other_methods_stay_ordinary_requests)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    struct wire_request request;
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    uint64_t stream = replica_request(stage, &request);
    cr_expect_eq(request.kind, WIRE_KIND_HTTP);
    replica_reply(stage, stream, 200, "ok");
    cr_expect_eq(client_status(client), 200);
    client_say(client, "POST / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                       "Content-Length: 0\r\n\r\n");
    stream = replica_request(stage, &request);
    cr_expect_eq(request.kind, WIRE_KIND_HTTP);
    replica_reply(stage, stream, 200, "ok");
    cr_expect_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

/* What the client sent behind its handshake could be taken for a request. */
Test(proxy_websockets, an_answer_that_is_no_101_goes_to_the_client_and_ends_the_connection)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, GOOD "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    replica_reply(stage, stream, 403, "no");
    cr_expect_eq(client_status(client), 403);
    cr_expect(client_body_is(client, "no"));
    cr_expect(client_sees_end(client));
    expect_cancel(stage, stream, 0, ""); /* no body comes any more */
    cr_expect(replica_hears_nothing(stage));
    client_free(client);
    stage_free(stage);
}

Test(proxy_websockets, a_client_that_leaves_before_it_is_accepted_cancels)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, GOOD);
    uint64_t stream = replica_request(stage, NULL);
    client_leave(client);
    expect_cancel(stage, stream, 0, "");
    end(stage, client, stream);
}

Test(proxy_websockets, a_handshake_waits_for_the_answers_before_it)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n" GOOD);
    uint64_t stream = replica_request(stage, NULL);
    cr_expect(replica_hears_nothing(stage));
    replica_reply(stage, stream, 200, "first");
    cr_expect_eq(client_status(client), 200);
    stream = replica_request(stage, NULL);
    replica_accept(stage, stream);
    cr_expect(strstr(client_head(client), " 101 "));
    client_leave(client);
    expect_cancel(stage, stream, 1006, "");
    end(stage, client, stream);
}

/* ---- both ways ---- */

Test(proxy_websockets, messages_go_both_ways_and_pings_are_answered_here)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    client_frame(client, FIN | TEXT, BYTES("Hello"));
    expect_record(stage, stream, WEBSOCKET_KIND_TEXT | WEBSOCKET_RECORD_LAST, "Hello");
    client_frame(client, BINARY, BYTES("a"));
    expect_record(stage, stream, WEBSOCKET_KIND_BINARY, "a");
    client_frame(client, FIN | PING, BYTES("are you there"));
    client_expect(client, BYTES("\x8a\x0d"
                                "are you there"));
    client_frame(client, FIN, BYTES(""));
    expect_record(stage, stream, WEBSOCKET_KIND_BINARY | WEBSOCKET_RECORD_LAST, "");
    replica_record(stage, stream, WEBSOCKET_KIND_TEXT, true, BYTES("Hi"));
    client_expect(client, BYTES("\x81\x02Hi"));
    replica_record(stage, stream, WEBSOCKET_KIND_BINARY, false, BYTES("ab"));
    replica_record(stage, stream, WEBSOCKET_KIND_BINARY, true, BYTES("c"));
    client_expect(client, BYTES("\x02\x02"
                                "ab\x80\x01"
                                "c"));
    client_frame(client, FIN | CLOSE, BYTES("\x0f\xa1why"));
    client_expect(client, BYTES("\x88\x02\x0f\xa1"));
    expect_cancel(stage, stream, 4001, "why");
    cr_expect(client_sees_end(client));
    end(stage, client, stream);
}

Test(proxy_websockets, what_a_client_sends_with_its_handshake_waits_for_the_acceptance)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint8_t frame[32];
    size_t size = websocket_talk_frame(FIN | TEXT, BYTES("early"), frame);
    client_say(client, GOOD);
    client_send(client, bytes_of(frame, size));
    uint64_t stream = replica_request(stage, NULL);
    cr_expect(replica_hears_nothing(stage));
    replica_accept(stage, stream);
    expect_record(stage, stream, WEBSOCKET_KIND_TEXT | WEBSOCKET_RECORD_LAST, "early");
    client_head(client);
    client_leave(client);
    expect_cancel(stage, stream, 1006, "");
    end(stage, client, stream);
}

/* 256 KiB are the credit of a stream. */
Test(proxy_websockets, a_replica_that_does_not_receive_stops_its_client)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    static uint8_t frame[1 << 20];
    struct wire_header header;
    struct wire_part part;
    size_t size = websocket_talk_frame(FIN | BINARY, pattern(1000000), frame), taken = 0, sent;
    sent = client_send_some(client, bytes_of(frame, size));
    stage_turns(stage, 50);
    sent += client_send_some(client, bytes_skip(bytes_of(frame, size), sent));
    stage_turns(stage, 50);
    size_t got = 0;
    struct bytes payload;
    while (got < 262144 - 16) { /* what there is credit for, less than one record's head */
        payload = replica_frame(stage, WIRE_PART_FRAME, &header);
        cr_assert_eq(wire_part_read(&part, payload), 0);
        got += part.body.size;
    }
    cr_expect_leq(got, 262144);
    cr_expect(replica_hears_nothing(stage));
    cr_expect_eq(stage->proxy.phases[PHASE_BUSY].length, 1, "it is neither read nor pinged");
    replica_credit(stage, stream, 100000);
    while (taken < 90000) {
        payload = replica_frame(stage, WIRE_PART_FRAME, &header);
        cr_assert_eq(wire_part_read(&part, payload), 0);
        taken += part.body.size;
    }
    client_leave(client);
    replica_credit(stage, stream, 4000000);
    while (replica_any_frame(stage, &header), header.type == WIRE_PART_FRAME)
        ;
    cr_expect_eq(header.type, WIRE_CANCEL_FRAME);
    end(stage, client, stream);
}

Test(proxy_websockets, a_client_that_does_not_read_stops_its_replica)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    size_t sent = 0;
    stage->credited = 0;
    while (sent < 8 << 20 && sent + 50005 <= stage->credited + 262144) {
        replica_record(stage, stream, WEBSOCKET_KIND_BINARY, true, pattern(50000));
        sent += 50005;
        stage_turns(stage, 5);
        replica_hears_nothing(stage); /* counts the credit */
    }
    cr_expect_lt(sent, 8u << 20, "credit stopped it");
    size_t before = stage->credited;
    for (size_t at = 0; at < 10; at++) {
        client_expect(client, BYTES("\x82\x7e\xc3\x50"));
        client_expect(client, pattern(50000));
    }
    replica_hears_nothing(stage);
    cr_expect_gt(stage->credited, before, "and goes on as the client reads");
    client_leave(client);
    expect_cancel(stage, stream, 1006, "");
    end(stage, client, stream);
}

/* ---- ends ---- */

static void breach(uint8_t first, struct bytes payload, const char *closed, int code,
                   const char *reason)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    client_frame(client, first, payload);
    client_expect(client, bytes_of_string(closed));
    expect_cancel(stage, stream, code, reason);
    cr_expect(client_sees_end(client));
    end(stage, client, stream);
}

Test(proxy_websockets, what_breaks_the_protocol_ends_it_with_the_right_code)
{
    breach(FIN | 0x40 | TEXT, BYTES("a"),
           "\x88\x17\x03\xea"
           "a reserved bit is set",
           1002, "a reserved bit is set");
    breach(FIN | TEXT, BYTES("\xff"),
           "\x88\x18\x03\xef"
           "text that is not UTF-8",
           1007, "text that is not UTF-8");
    breach(FIN | 5, BYTES("a"),
           "\x88\x1c\x03\xea"
           "an opcode that is reserved",
           1002, "an opcode that is reserved");
}

Test(proxy_websockets, a_message_beyond_the_limit_ends_it_with_1009)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.websocket_message_limit = 10;
    stage_start(stage);
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    client_frame(client, FIN | TEXT, BYTES("0123456789a"));
    client_expect(client, BYTES("\x88\x18\x03\xf1the message is too big"));
    expect_cancel(stage, stream, 1009, "the message is too big");
    end(stage, client, stream);
}

Test(proxy_websockets, user_code_closes_and_the_client_is_given_time_to_close_too)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    replica_record(stage, stream, WEBSOCKET_KIND_TEXT, true, BYTES("bye"));
    replica_close(stage, stream, "4002", "enough");
    client_expect(client, BYTES("\x81\x03"
                                "bye\x88\x08\x0f\xa2"
                                "enough"));
    stage_turns(stage, 5);
    cr_expect_eq(stage->proxy.phases[PHASE_CLOSING].length, 1);
    expect_cancel(stage, stream, 0, ""); /* no message comes any more */
    client_frame(client, FIN | TEXT, BYTES("one more"));
    cr_expect(replica_hears_nothing(stage), "nobody is there to hear it");
    client_frame(client, FIN | CLOSE, BYTES("\x0f\xa2"));
    cr_expect(client_sees_end(client));
    client_free(client);
    stage_turns(stage, 3);
    stage_free(stage);
}

Test(proxy_websockets, a_client_that_never_closes_is_left)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.websocket_close_timeout_ms = 20;
    stage_start(stage);
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    replica_close(stage, stream, "1000", "");
    client_expect(client, BYTES("\x88\x02\x03\xe8"));
    cr_expect(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_websockets, user_code_that_fails_is_told_as_1011_and_one_that_just_ends_as_1000)
{
    static const struct {
        int code;
        const char *close;
    } ENDS[] = {{ERROR_USER, "\x88\x02\x03\xf3"}, {0, "\x88\x02\x03\xe8"}};
    for (int i = 0; i < 2; i++) {
        struct stage *stage = stage_serving();
        struct client *client = client_new(stage);
        uint64_t stream = converse(stage, client);
        replica_end(stage, stream, ENDS[i].code);
        client_expect(client, bytes_of(ENDS[i].close, 4));
        client_free(client);
        stage_turns(stage, 3);
        stage_free(stage);
    }
}

Test(proxy_websockets, a_replica_that_says_nonsense_is_told_as_1011)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    replica_part(stage, stream, BYTES("\x77\x01\0\0\0x"), 0);
    client_expect(client, BYTES("\x88\x02\x03\xf3"));
    expect_cancel(stage, stream, 1011, "");
    end(stage, client, stream);
}

static void replica_leave(struct stage *stage, uint64_t stream)
{
    uint8_t at[64];
    struct wire_leave leave = {0};
    replica_say(stage, at, wire_leave_write(&leave, 0, stream, false, at));
}

#define RESTART BYTES("\x88\x11\x03\xf4service restart")

Test(proxy_websockets, a_replica_that_drains_sends_its_clients_elsewhere_with_1012)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    replica_leave(stage, stream);
    client_expect(client, RESTART);
    expect_cancel(stage, stream, 1012, "service restart");
    client_frame(client, FIN | CLOSE, BYTES("\x03\xf4"));
    cr_expect(client_sees_end(client));
    end(stage, client, stream);
}

Test(proxy_websockets, one_that_is_accepted_while_the_replica_drains_is_closed_at_once)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    client_say(client, GOOD);
    uint64_t stream = replica_request(stage, NULL);
    replica_leave(stage, stream);
    cr_expect(client_hears_nothing(client), "user code decides first");
    replica_accept(stage, stream);
    cr_expect(strstr(client_head(client), " 101 "));
    client_expect(client, RESTART);
    expect_cancel(stage, stream, 1012, "service restart");
    end(stage, client, stream);
}

Test(proxy_websockets, a_proxy_that_drains_closes_them_with_1012_and_ends)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    proxy_drain(&stage->proxy);
    client_expect(client, RESTART);
    expect_cancel(stage, stream, 1012, "service restart");
    client_frame(client, FIN | CLOSE, BYTES("\x03\xf4"));
    cr_expect(client_sees_end(client));
    stage_turns(stage, 3);
    cr_expect_eq(stage->proxy.connections.used_count, 0);
    end(stage, client, stream);
}

Test(proxy_websockets, a_silent_client_is_pinged_and_one_that_does_not_answer_is_gone)
{
    struct stage *stage = stage_new();
    stage->proxy.settings.websocket_ping_interval_ms = 30;
    stage->proxy.settings.websocket_ping_timeout_ms = 30;
    stage_start(stage);
    struct client *client = client_new(stage);
    uint64_t stream = converse(stage, client);
    client_expect(client, BYTES("\x89\0"));
    client_frame(client, FIN | 10, BYTES(""));
    client_expect(client, BYTES("\x89\0"));
    client_expect(client, BYTES("\x88\x15\x03\xf3no answer to a ping"));
    expect_cancel(stage, stream, 1006, "");
    cr_expect(client_sees_end(client));
    end(stage, client, stream);
}

Test(proxy_websockets, a_replica_that_dies_is_told_as_1011)
{
    struct stage *stage = stage_serving();
    struct client *client = client_new(stage);
    converse(stage, client);
    socket_close(stage->replica.descriptor);
    stage->replica.descriptor = -1;
    client_expect(client, BYTES("\x88\x02\x03\xf3"));
    client_free(client);
    stage_turns(stage, 3);
    stage_free(stage);
}
