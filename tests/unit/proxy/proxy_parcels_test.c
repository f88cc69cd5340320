/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_parcels: large bodies by reference: requests that are received into a slot, answers that
 * are written from where the replica has them, and everybody who leaves in between.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy_stage.h"
#include "region.h"
#include "socket.h"
#include "wire_attach.h"

enum { KIB = 1024, MIB = 1024 * 1024, REGION = 5 };

/* Of a deployment that takes its bodies whole. */
static struct stage *collecting_stage(void)
{
    struct stage *stage = stage_new();
    stage->collects = true;
    stage_start(stage);
    return stage;
}

static void say_head(struct client *client, const char *line, size_t length, const char *fields)
{
    char text[512];
    snprintf(text, sizeof text, "%s\r\nHost: h\r\nContent-Length: %zu\r\n%s\r\n", line, length,
             fields);
    client_say(client, text);
}

static size_t used_bytes(struct stage *stage)
{
    return slot_pool_used_bytes(parcel_desk_slots(dispatch_desk(stage->proxy.dispatch)));
}

/* A body that comes in parts, as this replica takes no regions; it is whole and right. */
static void expect_body(struct stage *stage, uint64_t stream, size_t size)
{
    static uint8_t body[STAGE_ROOM];
    struct wire_header header = {0};
    struct wire_part part;
    size_t got = 0;
    while (got < size) {
        struct bytes payload = replica_frame(stage, WIRE_PART_FRAME, &header);
        cr_assert_eq(wire_part_read(&part, payload), 0);
        cr_assert_leq(got + part.body.size, size);
        memcpy(body + got, part.body.at, part.body.size);
        got += part.body.size;
        replica_credit(stage, stream, (uint32_t)part.body.size);
    }
    cr_assert(header.flags & WIRE_END);
    cr_assert(bytes_equal(bytes_of(body, size), pattern(size)));
}

/* ---- requests ---- */

Test(proxy_parcels, a_large_body_is_received_whole_before_a_replica_hears_of_it)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct wire_request request;
    for (size_t size = 64 * KIB + 1; size < 3 * MIB; size = size * 3 + 7) {
        say_head(client, "POST /a/path?q=1 HTTP/1.1", size, "X-Field: kept\r\n");
        client_send(client, bytes_head(pattern(size), size / 2));
        cr_assert(replica_hears_nothing(stage), "a slow client holds a place at the replica");
        cr_assert_geq(used_bytes(stage), size);
        client_send(client, bytes_skip(pattern(size), size / 2));
        uint64_t stream = replica_request(stage, &request);
        struct bytes value;
        cr_assert(bytes_equal(request.path, BYTES("/a/path")));
        cr_assert(bytes_equal(request.query, BYTES("q=1")));
        cr_assert(wire_field_find(request.headers, BYTES("x-field"), &value));
        cr_assert(bytes_equal(value, BYTES("kept")));
        cr_assert_eq(request.body_size, size);
        expect_body(stage, stream, size);
        replica_reply(stage, stream, 200, "ok");
        cr_assert_eq(client_status(client), 200);
        cr_assert(client->answer.keep_alive);
        stage_turns(stage, 2);
        cr_assert_eq(used_bytes(stage), 0);
    }
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, head_body_and_the_next_request_may_come_in_one_piece)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    static uint8_t all[200 * KIB];
    size_t body = 70000;
    int head = snprintf((char *)all, 200,
                        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", body);
    memcpy(all + head, pattern(body).at, body);
    int next = snprintf((char *)all + head + body, 100, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    client_send(client, bytes_of(all, (size_t)head + body + (size_t)next));
    uint64_t stream = replica_request(stage, NULL);
    expect_body(stage, stream, body);
    replica_reply(stage, stream, 200, "first");
    cr_assert_eq(client_status(client), 200);
    struct wire_request request;
    stream = replica_request(stage, &request);
    cr_assert(bytes_equal(request.path, BYTES("/next")));
    replica_reply(stage, stream, 200, "second");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "second"));
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_leaves_inside_its_body_was_never_heard_of)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    say_head(client, "POST / HTTP/1.1", MIB, "");
    client_send(client, pattern(300 * KIB));
    cr_assert_geq(used_bytes(stage), MIB);
    client_leave(client);
    stage_turns(stage, 3);
    cr_assert_eq(used_bytes(stage), 0);
    cr_assert(replica_hears_nothing(stage));
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_leaves_behind_its_body_cancels_the_request)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct wire_header header;
    say_head(client, "POST / HTTP/1.1", 100 * KIB, "");
    client_send(client, pattern(100 * KIB));
    uint64_t stream = replica_request(stage, NULL);
    expect_body(stage, stream, 100 * KIB);
    client_leave(client);
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(header.stream, stream);
    stage_turns(stage, 2);
    cr_assert_eq(used_bytes(stage), 0);
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_asks_is_told_to_go_on)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    say_head(client, "POST / HTTP/1.1", MIB, "Expect: 100-continue\r\n");
    client_expect_continue(client);
    client_send(client, pattern(MIB));
    uint64_t stream = replica_request(stage, NULL);
    expect_body(stage, stream, MIB);
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, an_old_client_is_answered_and_its_connection_ends)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct wire_request request;
    say_head(client, "POST / HTTP/1.0", 100 * KIB, "");
    client_send(client, pattern(100 * KIB));
    uint64_t stream = replica_request(stage, &request);
    cr_assert_eq(request.http_minor, 0);
    expect_body(stage, stream, 100 * KIB);
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_sees_end(client));
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_body_that_does_not_arrive_in_time_gets_408_and_its_slot_is_free)
{
    struct stage *stage = stage_new();
    stage->collects = true;
    stage->proxy.settings.http_progress_timeout_ms = 20;
    stage_start(stage);
    struct client *client = client_new(stage);
    say_head(client, "POST / HTTP/1.1", MIB, "");
    client_send(client, pattern(100 * KIB));
    cr_assert_eq(client_status(client), 408);
    stage_turns(stage, 3);
    cr_assert_eq(used_bytes(stage), 0);
    cr_assert(replica_hears_nothing(stage));
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_request_whose_time_is_up_in_its_body_gets_408)
{
    struct stage *stage = stage_new();
    stage->collects = true;
    stage->proxy.settings.http_request_timeout_ms = 1;
    stage_start(stage);
    struct client *client = client_new(stage);
    say_head(client, "POST / HTTP/1.1", 3 * MIB, "");
    for (int i = 0; i < 2000 && used_bytes(stage) == 0; i++)
        stage_turns(stage, 1);
    client_send_some(client, pattern(3 * MIB));
    cr_assert_eq(client_status(client), 408);
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_body_without_a_route_is_answered_at_once)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    say_head(client, "POST /-/routes HTTP/1.1", 200 * KIB, "");
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(used_bytes(stage), 0);
    client_send(client, pattern(200 * KIB)); /* dropped */
    say_head(client, "POST / HTTP/1.1", 0, "");
    uint64_t stream = replica_request(stage, NULL);
    replica_reply(stage, stream, 200, "ok");
    cr_assert_eq(client_status(client), 200);
    client_free(client);
    stage_free(stage);
}

/* The replica answers each body that is whole and right, however it comes, until so many are. */
static void serve(struct stage *stage, struct client **clients, size_t *sent, size_t size,
                  uint32_t count)
{
    uint64_t streams[8];
    size_t got[8] = {0};
    uint32_t known = 0;
    for (uint32_t answered = 0; answered < count;) {
        struct wire_header header;
        struct wire_part part = {0};
        for (uint32_t i = 0; i < count; i++)
            if (sent[i] < size)
                sent[i] += client_send_some(clients[i], bytes_skip(pattern(size), sent[i]));
        struct bytes payload = replica_any_frame(stage, &header);
        uint32_t which = 0;
        while (which < known && streams[which] != header.stream)
            which++;
        if (header.type == WIRE_REQUEST_FRAME) {
            cr_assert_eq(which, known);
            streams[known++] = header.stream;
        } else if (header.type == WIRE_PART_FRAME) {
            cr_assert_eq(wire_part_read(&part, payload), 0);
            cr_assert_leq(got[which] + part.body.size, size);
            cr_assert(bytes_equal(
                part.body, bytes_head(bytes_skip(pattern(size), got[which]), part.body.size)));
            got[which] += part.body.size;
            replica_credit(stage, header.stream, (uint32_t)part.body.size);
        } else {
            cr_assert_eq(header.type, WIRE_HALF_CLOSE_FRAME);
        }
        if (header.type == WIRE_HALF_CLOSE_FRAME || (header.flags & WIRE_END)) {
            cr_assert_eq(got[which], size);
            replica_reply(stage, header.stream, 200, "ok");
            answered++;
        }
    }
}

Test(proxy_parcels, uploads_that_fill_the_budget_are_streamed_and_all_end)
{
    enum { COUNT = 6, SIZE = 400 * KIB };
    struct stage *stage = stage_new();
    stage->collects = true;
    stage->proxy.settings.process_byte_budget = 2 * MIB;
    stage_start(stage);
    struct client *clients[COUNT];
    size_t sent[COUNT];
    for (int i = 0; i < COUNT; i++) {
        clients[i] = client_new(stage);
        say_head(clients[i], "POST / HTTP/1.1", SIZE, "");
        sent[i] = client_send_some(clients[i], bytes_head(pattern(SIZE), 100 * KIB));
        cr_assert_eq(replica_hears_nothing(stage), i < 2, "half of the budget is for slots");
    }
    serve(stage, clients, sent, SIZE, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(client_status(clients[i]), 200);
        client_free(clients[i]);
    }
    stage_turns(stage, 3);
    cr_assert_eq(used_bytes(stage), 0);
    stage_free(stage);
}

/* ---- answers ---- */

/* The replica's side of a region: told, and mapped by the proxy. */
static struct region lend_region(struct stage *stage, size_t size)
{
    struct region region;
    uint8_t at[64];
    struct wire_region frame = {.region = REGION, .size = size};
    struct wire_header header;
    struct wire_region_taken taken;
    cr_assert_eq(region_create(&region, size), 0);
    memcpy(region.at, pattern(size).at, size);
    struct iovec part = {at, wire_region_write(&frame, WIRE_DESCRIPTOR, 0, false, at)};
    cr_assert_eq(socket_write_with(stage->replica.descriptor, &part, 1, region.descriptor),
                 (ssize_t)part.iov_len);
    struct bytes payload = replica_frame(stage, WIRE_REGION_TAKEN_FRAME, &header);
    cr_assert_eq(wire_region_taken_read(&taken, payload), 0);
    cr_assert_eq(taken.code, 0);
    return region;
}

static void reply_lent(struct stage *stage, uint64_t stream, uint32_t loan, uint64_t offset,
                       uint64_t size)
{
    uint8_t table[64];
    struct wire_attach attach = {
        .count = 1,
        .flat = true,
        .at = {{.region = REGION, .loan = loan, .offset = offset, .size = size}}};
    struct wire_reply reply = {.status = 200,
                               .body_size = size,
                               .content_type = BYTES("text/plain"),
                               .body = bytes_of(table, wire_attach_write(&attach, table))};
    replica_reply_with(stage, stream, &reply, WIRE_END | WIRE_ATTACHED);
}

static uint32_t expect_release(struct stage *stage)
{
    struct wire_header header;
    struct wire_slot_release release;
    struct bytes payload = replica_frame(stage, WIRE_SLOT_RELEASE_FRAME, &header);
    cr_assert_eq(wire_slot_release_read(&release, payload), 0);
    cr_assert_eq(release.abandoned, 0);
    return release.loan;
}

static void expect_answer(struct client *client, size_t offset, size_t size)
{
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(client->body_size, size);
    cr_assert(
        bytes_equal(bytes_of(client->body, size), bytes_skip(pattern(offset + size), offset)));
}

Test(proxy_parcels, an_answer_is_written_from_where_the_replica_has_it_and_given_back)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, 3 * MIB);
    for (uint32_t i = 0; i < 5; i++) {
        client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        uint64_t stream = replica_request(stage, NULL);
        reply_lent(stage, stream, i, i * 1000, 600 * KIB + i);
        expect_answer(client, i * 1000, 600 * KIB + i);
        cr_assert(client->answer.keep_alive);
        cr_assert_eq(expect_release(stage), i);
    }
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_reads_slowly_keeps_the_slot_until_its_last_byte)
{
    struct stage *stage = collecting_stage();
    int small = 128 * KIB; /* the kernel takes less than what the client is sent */
    setsockopt(stage->listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, STAGE_ROOM - 4096);
    setsockopt(client->line.descriptor, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    reply_lent(stage, replica_request(stage, NULL), 1, 0, STAGE_ROOM - 4096);
    stage_turns(stage, 20);
    cr_assert(replica_hears_nothing(stage), "it is not given back while the client reads");
    expect_answer(client, 0, STAGE_ROOM - 4096);
    cr_assert_eq(expect_release(stage), 1);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_leaves_inside_its_answer_gives_the_slot_back)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, STAGE_ROOM - 4096);
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    reply_lent(stage, replica_request(stage, NULL), 1, 0, STAGE_ROOM - 4096);
    stage_turns(stage, 5);
    client_leave(client);
    cr_assert_eq(expect_release(stage), 1);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_left_before_its_answer_gives_the_slot_back)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, MIB);
    struct wire_header header;
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    client_leave(client);
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    reply_lent(stage, stream, 7, 0, MIB);
    cr_assert_eq(expect_release(stage), 7);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, a_head_gets_the_length_and_no_body)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, MIB);
    client_say(client, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    reply_lent(stage, replica_request(stage, NULL), 1, 0, MIB);
    cr_assert(client_answer(client, true));
    cr_assert(bytes_equal(client_field(client, "content-length"), BYTES("1048576")));
    cr_assert_eq(expect_release(stage), 1);
    cr_assert(client_hears_nothing(client));
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, an_old_client_gets_it_and_its_connection_ends)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, MIB);
    client_say(client, "GET / HTTP/1.0\r\n\r\n");
    reply_lent(stage, replica_request(stage, NULL), 1, 0, MIB);
    expect_answer(client, 0, MIB);
    cr_assert(client_sees_end(client));
    cr_assert_eq(expect_release(stage), 1);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, pipelined_answers_keep_their_order)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, 3 * MIB);
    uint64_t streams[4];
    client_say(client, "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
                       "GET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
    for (int i = 0; i < 4; i++)
        streams[i] = replica_request(stage, NULL);
    reply_lent(stage, streams[1], 1, 1000, MIB);
    reply_lent(stage, streams[2], 2, 2000, MIB + 5);
    replica_reply(stage, streams[3], 200, "the last");
    cr_assert(client_hears_nothing(client), "the first is not answered");
    reply_lent(stage, streams[0], 0, 0, 100 * KIB);
    expect_answer(client, 0, 100 * KIB);
    expect_answer(client, 1000, MIB);
    expect_answer(client, 2000, MIB + 5);
    cr_assert_eq(client_status(client), 200);
    cr_assert(client_body_is(client, "the last"));
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(expect_release(stage), i);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

/* ---- streamed answers ---- */

static void part_lent(struct stage *stage, uint64_t stream, uint32_t loan, uint64_t offset,
                      uint64_t size)
{
    uint8_t table[64];
    struct wire_attach attach = {
        .count = 1,
        .flat = true,
        .at = {{.region = REGION, .loan = loan, .offset = offset, .size = size}}};
    replica_part(stage, stream, bytes_of(table, wire_attach_write(&attach, table)), WIRE_ATTACHED);
}

static uint64_t begin_stream(struct stage *stage, struct client *client, const char *minor,
                             uint64_t body_size)
{
    char text[64];
    snprintf(text, sizeof text, "GET / HTTP/1.%s\r\nHost: h\r\n\r\n", minor);
    client_say(client, text);
    uint64_t stream = replica_request(stage, NULL);
    replica_begin(stage, stream, body_size);
    return stream;
}

/* What an answer of "ab", a lent part, "cd" and another lent part is. */
static void expect_mixture(const struct client *client, size_t first, size_t second)
{
    cr_assert_eq(client->body_size, first + second + 4);
    struct bytes body = bytes_of(client->body, client->body_size);
    cr_assert(bytes_starts_with(body, BYTES("ab")));
    body = bytes_skip(body, 2);
    cr_assert(bytes_starts_with(body, pattern(first)));
    body = bytes_skip(body, first);
    cr_assert(bytes_starts_with(body, BYTES("cd")));
    cr_assert(bytes_equal(bytes_skip(body, 2), pattern(second)));
}

static void say_mixture(struct stage *stage, uint64_t stream, size_t first, size_t second)
{
    replica_part(stage, stream, BYTES("ab"), 0);
    part_lent(stage, stream, 1, 0, first);
    replica_part(stage, stream, BYTES("cd"), 0);
    part_lent(stage, stream, 2, 0, second);
    replica_end(stage, stream, 0);
}

Test(proxy_parcels, large_parts_of_a_streamed_answer_are_written_from_where_they_lie)
{
    static const struct {
        const char *minor;
        bool with_length;
    } CASES[] = {{"1", false}, {"1", true}, {"0", false}, {"0", true}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct stage *stage = collecting_stage();
        struct client *client = client_new(stage);
        struct region region = lend_region(stage, 3 * MIB);
        size_t first = 700 * KIB, second = 64 * KIB + 1;
        uint64_t stream = begin_stream(stage, client, CASES[i].minor,
                                       CASES[i].with_length ? first + second + 4 : UINT64_MAX);
        say_mixture(stage, stream, first, second);
        cr_assert_eq(client_status(client), 200);
        expect_mixture(client, first, second);
        cr_assert_eq(expect_release(stage), 1);
        cr_assert_eq(expect_release(stage), 2);
        client_free(client);
        region_close(&region);
        stage_free(stage);
    }
}

Test(proxy_parcels, a_client_that_reads_slowly_keeps_the_slots_of_a_stream)
{
    struct stage *stage = collecting_stage();
    int small = 128 * KIB;
    setsockopt(stage->listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, 3 * MIB);
    setsockopt(client->line.descriptor, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    uint64_t stream = begin_stream(stage, client, "1", UINT64_MAX);
    part_lent(stage, stream, 1, 0, MIB);
    part_lent(stage, stream, 2, 0, 2 * MIB);
    replica_end(stage, stream, 0);
    stage_turns(stage, 20);
    cr_assert(replica_hears_nothing(stage), "a slot comes back before the client reads");
    cr_assert_eq(client_status(client), 200);
    cr_assert_eq(expect_release(stage), 1);
    cr_assert_eq(expect_release(stage), 2);
    cr_assert_eq(client->body_size, 3 * MIB);
    cr_assert(bytes_starts_with(bytes_of(client->body, client->body_size), pattern(MIB)));
    cr_assert(bytes_equal(bytes_of(client->body + MIB, 2 * MIB), pattern(2 * MIB)));
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

/* A part that is lent costs its bytes of credit, up to half of the window. */
Test(proxy_parcels, a_replica_that_lends_more_than_it_was_given_credit_for_is_left)
{
    struct stage *stage = collecting_stage();
    int small = 128 * KIB;
    setsockopt(stage->listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, 3 * MIB);
    setsockopt(client->line.descriptor, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    uint64_t stream = begin_stream(stage, client, "1", UINT64_MAX);
    for (uint32_t i = 0; i < 3; i++)
        part_lent(stage, stream, i, 0, MIB);
    cr_assert_not(client_answer(client, false), "it does not break off");
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, a_client_that_leaves_a_streamed_answer_gives_all_its_slots_back)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, STAGE_ROOM - 4096);
    uint64_t stream = begin_stream(stage, client, "1", UINT64_MAX);
    part_lent(stage, stream, 1, 0, STAGE_ROOM - 4096);
    part_lent(stage, stream, 2, 0, STAGE_ROOM - 4096);
    stage_turns(stage, 5);
    client_leave(client);
    struct wire_header header;
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    uint32_t given = expect_release(stage);
    cr_assert_eq(given + expect_release(stage), 3);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, large_parts_behind_an_unanswered_request_wait_for_their_turn)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, 3 * MIB);
    client_say(client, "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t first = replica_request(stage, NULL), second = replica_request(stage, NULL);
    replica_begin(stage, second, UINT64_MAX);
    say_mixture(stage, second, 100 * KIB, 70 * KIB);
    cr_assert(client_hears_nothing(client), "the first is not answered");
    replica_begin(stage, first, UINT64_MAX);
    part_lent(stage, first, 3, 0, MIB);
    replica_end(stage, first, 0);
    cr_assert_eq(client_status(client), 200);
    cr_assert(bytes_equal(bytes_of(client->body, client->body_size), pattern(MIB)));
    cr_assert_eq(client_status(client), 200);
    expect_mixture(client, 100 * KIB, 70 * KIB);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

Test(proxy_parcels, pipelined_answers_that_nobody_waits_for_go_back)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, MIB);
    client_say(client, "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    replica_request(stage, NULL);
    reply_lent(stage, replica_request(stage, NULL), 1, 0, MIB);
    stage_turns(stage, 3);
    client_leave(client);
    struct wire_header header;
    replica_frame(stage, WIRE_CANCEL_FRAME, &header);
    cr_assert_eq(expect_release(stage), 1);
    client_free(client);
    region_close(&region);
    stage_free(stage);
}

static bool link_is_down(void *owner)
{
    struct stage *stage = owner;
    struct deployment_id id = {STAGE_DEPLOYMENT};
    return router_ready_replicas(dispatch_router(stage->proxy.dispatch), id) == 0;
}

Test(proxy_parcels, a_replica_that_dies_behind_its_answer_is_not_missed)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, STAGE_ROOM - 4096);
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    reply_lent(stage, replica_request(stage, NULL), 1, 0, STAGE_ROOM - 4096);
    stage_turns(stage, 3);
    socket_close(stage->replica.descriptor);
    stage->replica.descriptor = -1;
    region_close(&region);
    stage_until(stage, link_is_down, stage);
    expect_answer(client, 0, STAGE_ROOM - 4096);
    client_free(client);
    stage_free(stage);
}

Test(proxy_parcels, a_replica_that_lies_about_its_answer_is_left_and_the_client_told)
{
    struct stage *stage = collecting_stage();
    struct client *client = client_new(stage);
    struct region region = lend_region(stage, MIB);
    client_say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    uint64_t stream = replica_request(stage, NULL);
    page_mark_taken(&stage->marks, stream);
    reply_lent(stage, stream, 1, 1, MIB);
    cr_assert_eq(client_status(client), 500);
    cr_assert(link_is_down(stage));
    client_free(client);
    region_close(&region);
    stage_free(stage);
}
