/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_stage: see its header.
 */
#include "proxy_stage.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"
#include "socket.h"

enum { PATIENCE_SECONDS = 20, SILENT_TURNS = 50 };

/* ---- waiting ---- */

void stage_turns(struct stage *stage, int count)
{
    while (count-- > 0) {
        loop_run_once(stage->proxy.loop);
        proxy_check(&stage->proxy);
    }
}

static int64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

void stage_until(struct stage *stage, bool (*done)(void *owner), void *owner)
{
    int64_t give_up = seconds_now() + PATIENCE_SECONDS;
    for (uint32_t turn = 1; !done(owner); turn++) {
        if (turn % 8 == 0) {
            struct pollfd ready = {.fd = loop_descriptor(stage->proxy.loop), .events = POLLIN};
            int wait_ms = loop_timeout_ms(stage->proxy.loop);
            poll(&ready, 1, wait_ms < 0 || wait_ms > 20 ? 20 : wait_ms);
        }
        stage_turns(stage, 1);
        cr_assert_lt(seconds_now(), give_up, "nothing came of it");
    }
}

/* ---- lines ---- */

static void line_read(struct line *line)
{
    if (line->descriptor < 0 || line->ended)
        return;
    cr_assert_lt(line->size, sizeof line->in);
    ssize_t got =
        socket_read(line->descriptor, line->in + line->size, sizeof line->in - line->size);
    if (got > 0)
        line->size += (size_t)got;
    else if (got != -EAGAIN) {
        line->ended = true;
        line->reset = got < 0;
    }
}

static struct bytes line_rest(const struct line *line)
{
    return bytes_of(line->in + line->used, line->size - line->used);
}

static ssize_t line_write(struct line *line, struct bytes bytes)
{
    struct iovec part = {(void *)bytes.at, bytes.size};
    return socket_write(line->descriptor, &part, 1);
}

/* What cannot leave any more is dropped: the test looks at the connection's end. */
static void line_send(struct stage *stage, struct line *line, struct bytes bytes)
{
    for (int turn = 0; bytes.size; turn++) {
        ssize_t sent = line_write(line, bytes);
        if (sent > 0)
            bytes = bytes_skip(bytes, (size_t)sent);
        else if (sent != -EAGAIN)
            return;
        stage_turns(stage, 1);
        cr_assert_lt(turn, 1000000, "the peer does not read");
    }
}

static void line_close(struct line *line)
{
    socket_close(line->descriptor);
    line->descriptor = -1;
}

/* ---- the controller and the replica come up ---- */

static bool controller_came(void *owner)
{
    struct stage *stage = owner;
    int descriptor = socket_accept(stage->controller_listener);
    if (descriptor >= 0)
        stage->controller.descriptor = descriptor;
    return descriptor >= 0;
}

static bool replica_came(void *owner)
{
    struct stage *stage = owner;
    int descriptor = socket_accept(stage->replica_listener);
    if (descriptor >= 0)
        stage->replica.descriptor = descriptor;
    return descriptor >= 0;
}

static void controller_say_hello(struct stage *stage)
{
    uint8_t at[256];
    struct wire_hello hello = {0};
    wire_hello_fill(&hello, WIRE_ROLE_CONTROLLER, 0, BYTES("controller"));
    line_send(stage, &stage->controller, bytes_of(at, wire_hello_write(&hello, 0, 0, false, at)));
}

static void controller_publish(struct stage *stage)
{
    uint8_t at[2048];
    size_t size = 0;
    struct wire_snapshot snapshot = {
        .version = ++stage->version, .app_count = 1, .deployment_count = 1, .replica_count = 1};
    struct wire_snapshot_app app = {
        .id = 3, .name = BYTES("app"), .route_prefix = BYTES("/"), .ingress = STAGE_DEPLOYMENT};
    struct wire_snapshot_deployment deployment = {.id = STAGE_DEPLOYMENT,
                                                  .app = BYTES("app"),
                                                  .name = BYTES("model"),
                                                  .max_ongoing = 100,
                                                  .max_queued = -1,
                                                  .available = 1,
                                                  .streams_body = !stage->collects};
    struct wire_snapshot_replica replica = {
        .id = 1, .deployment = STAGE_DEPLOYMENT, .address = bytes_of_string(stage->replica_path)};
    struct wire_snapshot_end end = {.version = stage->version};
    size += wire_snapshot_write(&snapshot, 0, 0, false, at + size);
    size += wire_snapshot_app_write(&app, 0, 0, false, at + size);
    size += wire_snapshot_deployment_write(&deployment, 0, 0, false, at + size);
    size += wire_snapshot_replica_write(&replica, 0, 0, false, at + size);
    size += wire_snapshot_end_write(&end, 0, 0, false, at + size);
    line_send(stage, &stage->controller, bytes_of(at, size));
}

static void replica_say_hello(struct stage *stage)
{
    uint8_t at[256];
    struct wire_hello hello = {0};
    uint32_t marks = (uint32_t)stage->proxy.settings.request_limit;
    cr_assert_eq(page_create(&stage->marks, "taken", marks * sizeof(uint32_t)), 0);
    wire_hello_fill(&hello, WIRE_ROLE_REPLICA, 1, BYTES("model"));
    hello.taken_count = marks;
    hello.stream_credit = (uint32_t)stage->proxy.settings.wire_stream_credit;
    hello.frame_limit = (uint32_t)stage->proxy.settings.wire_frame_limit;
    struct iovec part = {at, wire_hello_write(&hello, WIRE_DESCRIPTOR, 0, false, at)};
    cr_assert_eq(socket_write_with(stage->replica.descriptor, &part, 1, stage->marks.descriptor),
                 (ssize_t)part.iov_len);
}

static bool replica_is_ready(void *owner)
{
    struct stage *stage = owner;
    struct deployment_id id = {STAGE_DEPLOYMENT};
    return router_ready_replicas(dispatch_router(stage->proxy.dispatch), id) == 1;
}

/* ---- the stage ---- */

static int listen_anywhere(void)
{
    struct error error = {0};
    int descriptor = socket_listen_tcp("127.0.0.1", 0, 64, &error);
    cr_assert_geq(descriptor, 0, "%s", error.text);
    return descriptor;
}

struct stage *stage_new(void)
{
    struct error error = {0};
    struct stage *stage = calloc(1, sizeof *stage);
    cr_assert_not_null(stage);
    stage->mem_live = mem_count().live;
    strcpy(stage->directory, "/tmp/manta-proxy-XXXXXX");
    cr_assert_not_null(mkdtemp(stage->directory));
    snprintf(stage->controller_path, sizeof stage->controller_path, "%s/controller.sock",
             stage->directory);
    snprintf(stage->replica_path, sizeof stage->replica_path, "%s/replica.sock", stage->directory);
    stage->controller.descriptor = stage->replica.descriptor = stage->marks.descriptor = -1;
    stage->listener = listen_anywhere();
    stage->controller_listener = socket_listen_unix(stage->controller_path, 8, &error);
    stage->replica_listener = socket_listen_unix(stage->replica_path, 8, &error);
    cr_assert(stage->controller_listener >= 0 && stage->replica_listener >= 0, "%s", error.text);
    settings_init(&stage->proxy.settings);
    stage->proxy.settings.request_limit = 64;
    stage->options = (struct proxy_options){.directory = stage->directory,
                                            .controller = stage->controller_path,
                                            .number = 1,
                                            .listen_descriptor = stage->listener};
    return stage;
}

void stage_start(struct stage *stage)
{
    struct error error = {0};
    cr_assert_eq(proxy_open(&stage->proxy, &stage->options, 1, &error), 0, "%s", error.text);
    stage_until(stage, controller_came, stage);
    controller_say_hello(stage);
    controller_publish(stage);
    stage_until(stage, replica_came, stage);
    replica_say_hello(stage);
    stage_until(stage, replica_is_ready, stage);
    struct wire_header header;
    replica_frame(stage, WIRE_HELLO_FRAME, &header);
}

struct stage *stage_serving(void)
{
    struct stage *stage = stage_new();
    stage_start(stage);
    return stage;
}

void stage_free(struct stage *stage)
{
    proxy_close(&stage->proxy);
    line_close(&stage->controller);
    line_close(&stage->replica);
    page_close(&stage->marks);
    socket_close(stage->listener);
    socket_unlisten_unix(stage->controller_listener, stage->controller_path);
    socket_unlisten_unix(stage->replica_listener, stage->replica_path);
    rmdir(stage->directory);
    cr_assert_eq(mem_count().live, stage->mem_live, "M1: memory is left");
    free(stage);
}

/* ---- clients ---- */

struct client *client_new(struct stage *stage)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(socket_local_port(stage->listener)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client *client = calloc(1, sizeof *client);
    cr_assert_not_null(client);
    client->stage = stage;
    client->line.descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(client->line.descriptor, (struct sockaddr *)&address, sizeof address), 0);
    fcntl(client->line.descriptor, F_SETFL, O_NONBLOCK);
    return client;
}

struct client *client_free(struct client *client)
{
    line_close(&client->line);
    free(client);
    return NULL;
}

void client_leave(struct client *client)
{
    line_close(&client->line);
    client->line.ended = true;
    stage_turns(client->stage, 5);
}

void client_send(struct client *client, struct bytes bytes)
{
    line_send(client->stage, &client->line, bytes);
}

void client_say(struct client *client, const char *text)
{
    client_send(client, bytes_of_string(text));
    stage_turns(client->stage, 3);
}

size_t client_send_some(struct client *client, struct bytes bytes)
{
    size_t all = 0;
    for (int idle = 0; bytes.size && idle < SILENT_TURNS;) {
        ssize_t sent = line_write(&client->line, bytes);
        stage_turns(client->stage, 1);
        if (sent > 0) {
            bytes = bytes_skip(bytes, (size_t)sent);
            all += (size_t)sent;
            idle = 0;
        } else {
            idle++;
        }
    }
    return all;
}

static bool client_has_head(void *owner)
{
    static const struct http1_limits LIMITS = {
        .line_size = 65536, .head_size = 1 << 20, .header_count = 250, .body_size = UINT64_MAX};
    struct client *client = owner;
    struct http1_refusal refusal;
    size_t size;
    line_read(&client->line);
    enum http1_result result = http1_answer_parse(&client->answer, line_rest(&client->line), false,
                                                  &LIMITS, &size, &refusal);
    cr_assert_neq(result, HTTP1_REFUSED, "%s", refusal.reason);
    if (result == HTTP1_DONE)
        client->line.used += size;
    client->whole = result == HTTP1_DONE;
    return result == HTTP1_DONE || client->line.ended;
}

struct body_wait {
    struct client *client;
    struct http1_body body;
};

static bool client_has_body(void *owner)
{
    static const struct http1_limits LIMITS = {
        .line_size = 65536, .head_size = 1 << 20, .header_count = 250, .body_size = UINT64_MAX};
    struct body_wait *wait = owner;
    struct client *client = wait->client;
    line_read(&client->line);
    for (;;) {
        struct http1_refusal refusal;
        struct http1_header trailer;
        struct bytes data;
        size_t consumed;
        enum http1_body_event event = http1_body_next(
            &wait->body, line_rest(&client->line), &LIMITS, &consumed, &data, &trailer, &refusal);
        cr_assert_neq(event, HTTP1_BODY_REFUSED, "%s", refusal.reason);
        client->line.used += consumed;
        if (event == HTTP1_BODY_DATA) {
            cr_assert_leq(client->body_size + data.size, sizeof client->body);
            memcpy(client->body + client->body_size, data.at, data.size);
            client->body_size += data.size;
        } else if (event == HTTP1_BODY_END)
            return true;
        else if (event == HTTP1_BODY_MORE) {
            client->whole = !client->line.ended || client->answer.framing == HTTP1_FRAMING_CLOSE;
            return client->line.ended;
        }
    }
}

bool client_answer(struct client *client, bool head_request)
{
    static const struct http1_limits LIMITS = {.body_size = UINT64_MAX};
    stage_until(client->stage, client_has_head, client);
    client->body_size = 0;
    if (!client->whole || head_request)
        return client->whole;
    struct body_wait wait = {.client = client};
    http1_body_init_answer(&wait.body, &client->answer, &LIMITS);
    stage_until(client->stage, client_has_body, &wait);
    return client->whole;
}

int client_status(struct client *client)
{
    cr_assert(client_answer(client, false), "the connection ended instead of an answer");
    return client->answer.status;
}

bool client_body_is(const struct client *client, const char *text)
{
    return bytes_equal(bytes_of(client->body, client->body_size), bytes_of_string(text));
}

struct bytes client_field(const struct client *client, const char *name)
{
    for (uint32_t i = 0; i < client->answer.header_count; i++)
        if (bytes_equal_nocase(client->answer.headers[i].name, bytes_of_string(name)))
            return client->answer.headers[i].value;
    return (struct bytes){0};
}

static bool client_has_continue(void *owner)
{
    struct client *client = owner;
    line_read(&client->line);
    return line_rest(&client->line).size >= HTTP1_CONTINUE.size || client->line.ended;
}

void client_expect_continue(struct client *client)
{
    stage_until(client->stage, client_has_continue, client);
    cr_assert(
        bytes_equal(bytes_head(line_rest(&client->line), HTTP1_CONTINUE.size), HTTP1_CONTINUE),
        "no 100 Continue came");
    client->line.used += HTTP1_CONTINUE.size;
}

struct expectation {
    struct client *client;
    size_t size;
};

static bool client_has_bytes(void *owner)
{
    struct expectation *expectation = owner;
    struct line *line = &expectation->client->line;
    line_read(line);
    return line_rest(line).size >= expectation->size || line->ended;
}

void client_expect(struct client *client, struct bytes bytes)
{
    struct expectation expectation = {client, bytes.size};
    stage_until(client->stage, client_has_bytes, &expectation);
    struct bytes rest = line_rest(&client->line);
    cr_assert_geq(rest.size, bytes.size, "only %zu of %zu bytes came", rest.size, bytes.size);
    for (size_t i = 0; i < bytes.size; i++)
        cr_assert_eq(rest.at[i], bytes.at[i], "byte %zu is %02x, not %02x", i, rest.at[i],
                     bytes.at[i]);
    client->line.used += bytes.size;
}

static bool client_has_empty_line(void *owner)
{
    struct client *client = owner;
    line_read(&client->line);
    struct bytes rest = line_rest(&client->line);
    return client->line.ended || memmem(rest.at, rest.size, "\r\n\r\n", 4);
}

const char *client_head(struct client *client)
{
    static char head[4096];
    stage_until(client->stage, client_has_empty_line, client);
    struct bytes rest = line_rest(&client->line);
    const uint8_t *end = memmem(rest.at, rest.size, "\r\n\r\n", 4);
    cr_assert_not_null(end, "no head came");
    size_t size = (size_t)(end - rest.at) + 4;
    cr_assert_lt(size, sizeof head);
    memcpy(head, rest.at, size);
    head[size] = 0;
    client->line.used += size;
    return head;
}

bool client_hears_nothing(struct client *client)
{
    for (int i = 0; i < SILENT_TURNS; i++) {
        stage_turns(client->stage, 1);
        line_read(&client->line);
    }
    return client->line.size == client->line.used && !client->line.ended;
}

static bool client_has_news(void *owner)
{
    struct client *client = owner;
    line_read(&client->line);
    return client->line.ended || client->line.size > client->line.used;
}

bool client_sees_end(struct client *client)
{
    stage_until(client->stage, client_has_news, client);
    return client->line.size == client->line.used;
}

/* ---- the replica ---- */

/* Credit is counted and pings are answered on the way. */
static bool replica_has_frame(void *owner)
{
    struct stage *stage = owner;
    struct wire_header header;
    struct wire_credit credit;
    line_read(&stage->replica);
    for (;;) {
        struct bytes rest = line_rest(&stage->replica);
        if (rest.size < WIRE_HEADER_SIZE)
            return stage->replica.ended;
        wire_header_read(&header, rest.at);
        if (rest.size < WIRE_HEADER_SIZE + header.size)
            return stage->replica.ended;
        if (header.type != WIRE_CREDIT_FRAME && header.type != WIRE_PING_FRAME)
            return true;
        if (header.type == WIRE_CREDIT_FRAME) {
            cr_assert_eq(
                wire_credit_read(&credit, bytes_of(rest.at + WIRE_HEADER_SIZE, header.size)), 0);
            stage->credited += credit.size;
        }
        stage->replica.used += WIRE_HEADER_SIZE + header.size;
    }
}

struct bytes replica_any_frame(struct stage *stage, struct wire_header *ret_header)
{
    struct line *line = &stage->replica;
    memmove(line->in, line->in + line->used, line->size - line->used);
    line->size -= line->used;
    line->used = 0;
    stage_until(stage, replica_has_frame, stage);
    cr_assert_not(line->ended, "the proxy has left the replica");
    struct bytes rest = line_rest(line);
    wire_header_read(ret_header, rest.at);
    line->used += WIRE_HEADER_SIZE + ret_header->size;
    return bytes_of(rest.at + WIRE_HEADER_SIZE, ret_header->size);
}

struct bytes replica_frame(struct stage *stage, enum wire_frame type,
                           struct wire_header *ret_header)
{
    struct bytes payload = replica_any_frame(stage, ret_header);
    cr_assert_eq(ret_header->type, type, "a %s came, not a %s", wire_frame_name(ret_header->type),
                 wire_frame_name(type));
    return payload;
}

uint64_t replica_request(struct stage *stage, struct wire_request *ret_request)
{
    struct wire_request request;
    struct wire_header header;
    struct bytes payload = replica_frame(stage, WIRE_REQUEST_FRAME, &header);
    cr_assert_eq(wire_request_read(ret_request ? ret_request : &request, payload), 0);
    return header.stream;
}

bool replica_hears_nothing(struct stage *stage)
{
    for (int i = 0; i < SILENT_TURNS; i++) {
        stage_turns(stage, 1);
        if (replica_has_frame(stage))
            return false;
    }
    return true;
}

void replica_say(struct stage *stage, const uint8_t *frame, size_t size)
{
    line_send(stage, &stage->replica, bytes_of(frame, size));
    stage_turns(stage, 3);
}

void replica_reply_with(struct stage *stage, uint64_t stream, const struct wire_reply *reply,
                        uint8_t flags)
{
    uint8_t *at = malloc(wire_reply_size(reply));
    cr_assert_not_null(at);
    replica_say(stage, at, wire_reply_write(reply, flags, stream, false, at));
    free(at);
}

void replica_reply(struct stage *stage, uint64_t stream, uint16_t status, const char *body)
{
    struct wire_reply reply = {.status = status,
                               .body_size = strlen(body),
                               .content_type = BYTES("text/plain"),
                               .body = bytes_of_string(body)};
    replica_reply_with(stage, stream, &reply, WIRE_END);
}

void replica_fail(struct stage *stage, uint64_t stream, int code, const char *text)
{
    struct wire_reply reply = {.code = code, .error = bytes_of_string(text)};
    replica_reply_with(stage, stream, &reply, WIRE_END);
}

void replica_begin(struct stage *stage, uint64_t stream, uint64_t body_size)
{
    struct wire_reply reply = {
        .status = 200, .body_size = body_size, .content_type = BYTES("text/plain")};
    replica_reply_with(stage, stream, &reply, 0);
}

void replica_part(struct stage *stage, uint64_t stream, struct bytes part, uint8_t flags)
{
    struct wire_part frame = {.body = part};
    uint8_t *at = malloc(wire_part_size(&frame));
    cr_assert_not_null(at);
    replica_say(stage, at, wire_part_write(&frame, flags, stream, false, at));
    free(at);
}

void replica_end(struct stage *stage, uint64_t stream, int code)
{
    uint8_t at[64];
    struct wire_half_close frame = {.code = code};
    replica_say(stage, at, wire_half_close_write(&frame, WIRE_END, stream, false, at));
}

void replica_credit(struct stage *stage, uint64_t stream, uint32_t size)
{
    uint8_t at[64];
    struct wire_credit frame = {.size = size};
    replica_say(stage, at, wire_credit_write(&frame, 0, stream, false, at));
}

struct bytes pattern(size_t size)
{
    static uint8_t at[STAGE_ROOM];
    cr_assert_leq(size, sizeof at);
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)('a' + i % 26);
    return bytes_of(at, size);
}
