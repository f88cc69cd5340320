/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_client: clients of the proxies: what they send, how fast, and when they leave.
 *
 *     not connected -> connected: makes requests, at most `depth` out at a time, until it made as
 *     many as it wanted -> done
 *
 * A connection that ends is opened again while there is more to ask.  What comes back is read in
 * world_answer.c.  All clients live in one process and on one loop; client_step does whatever is
 * due and says when it wants to be called next.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"
#include "world.h"

enum { PIECE_MOST = 16384, IN_MOST = 4 << 20, CONNECT_PAUSE_MS = 20, CONTINUE_WAIT_MS = 30 };

static void client_step(struct world_client *client);

/* ---- ends ---- */

void world_client_excuse(struct world_client *client, const char *excuse)
{
    if (!client->excuse)
        client->excuse = excuse;
}

void world_client_over(struct world_client *client, const char *how)
{
    ensure_tag(R1, client->sent_count > 0 && !client->sent[0]->over);
    sim_say("client %u: %u is over: %s", client->number, client->sent[0]->number, how);
    client->sent[0]->over = true;
    client->sent_count--;
    memmove(client->sent, client->sent + 1, client->sent_count * sizeof(client->sent[0]));
    client->idle_ns = sim_now_ns();
    client->next_request_ns = sim_now_ns() + client->think_ns;
}

static void disconnect(struct world_client *client, const char *how)
{
    while (client->sent_count) {
        client->world->answers_none++;
        world_client_over(client, how);
    }
    loop_watch_close(&client->watch);
    socket_close(client->descriptor);
    client->descriptor = -1;
    text_clear(&client->out);
    text_clear(&client->in);
    client->out_start = 0;
    client->in_answer = client->blocked = client->half_closes = false;
    client->body_left = 0;
    client->continue_ns = client->leave_ns = 0;
    client->excuse = NULL;
    client->ends = false;
    client->next_request_ns = sim_now_ns() + client->think_ns;
}

/* The other side ended it: the oldest request that is out needs a reason, those behind it none. */
static void lose(struct world_client *client, int error)
{
    struct world *world = client->world;
    bool whole = client->in_answer && error == 0 && world_answer_at_end(client);
    if (whole)
        client->excuse = "the answer said so";
    const char *wrong = client->sent_count ? world_judge_loss(client, client->sent[0]) : NULL;
    if (wrong)
        world_fail(world, "R1: client %u, request %u: the connection ended (%s): %s",
                   client->number, client->sent[0]->number,
                   error ? strerror(-error) : "end of file", wrong);
    disconnect(client, "the connection ended");
}

void world_clients_lose(struct world *world, const struct sim_process *server)
{
    struct list_link *link;
    list_each (link, &world->clients) {
        struct world_client *client = list_entry(link, struct world_client, link);
        if (client->descriptor >= 0 && sim_peer(client->descriptor) == server)
            world_client_excuse(client, "its proxy went");
    }
}

/* ---- requests ---- */

static void send_malformed(struct world_client *client, struct world_request *request)
{
    static const char *const texts[] = {"GET / HTTP/9.9\r\n\r\n",
                                        "\x16\x03\x01\x02\x00\x01\x00\x01",
                                        "GET /plain HTTP/1.1\r\n\r\n",
                                        "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                                        "Content-Length: 2\r\n\r\nab",
                                        "POST /plain HTTP/1.1\r\nHost: a\r\n"
                                        "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
                                        "GET /plain HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n"};
    uint32_t which = (uint32_t)world_between(client->world, 0, sizeof texts / sizeof texts[0] - 1);
    request->kind = WORLD_MALFORMED;
    request->body_size = 0;
    request->head_only = false;
    text_add_string(&client->out, texts[which]);
    world_client_excuse(client, "it sent what is no HTTP");
    client->ends = true;
}

static void write_target(struct text *out, const struct world *world,
                         const struct world_request *request)
{
    if (request->kind == WORLD_HEALTH)
        text_add_string(out, "/-/healthz");
    else if (request->kind == WORLD_ROUTES)
        text_add_string(out, "/-/routes");
    else if (request->kind == WORLD_MISSING)
        text_print(out, "/nobody/has/this?n=%u", request->number);
    else
        text_print(out, "%s%s?n=%u", world->apps[request->app].route,
                   request->number % 2 ? "" : "/below", request->number);
}

static void write_head(struct world_client *client, const struct world_request *request)
{
    struct text *out = &client->out;
    bool body = request->body_size > 0;
    text_add_string(out, request->head_only ? "HEAD " : body ? "POST " : "GET ");
    write_target(out, client->world, request);
    text_print(out, " HTTP/1.%d\r\nHost: sim\r\n", request->old ? 0 : 1);
    if (request->model)
        text_print(out, "serve_multiplexed_model_id: m%u\r\n", request->model);
    client->body_chunked = body && !request->old && request->number % 3 == 0;
    if (client->body_chunked)
        text_add_string(out, "Transfer-Encoding: chunked\r\n");
    else if (body)
        text_print(out, "Content-Length: %llu\r\n", (unsigned long long)request->body_size);
    if (body && !request->old && request->number % 7 == 0 && client->sent_count == 1) {
        text_add_string(out, "Expect: 100-continue\r\n");
        client->continue_ns = sim_now_ns() + CONTINUE_WAIT_MS * WORLD_MS;
    }
    if (client->made == client->wanted && request->number % 2)
        text_add_string(out, "Connection: close\r\n");
    client->ends |= request->old; /* nothing may follow */
    text_add_string(out, "\r\n");
}

/* A connection that was idle for about http_keep_alive_ms may be closing at this moment. */
static void excuse_idle(struct world_client *client)
{
    int64_t limit_ns = client->world->settings.http_keep_alive_ms * WORLD_MS;
    if (client->sent_count == 0 && sim_now_ns() - client->idle_ns + WORLD_SECOND / 2 >= limit_ns)
        world_client_excuse(client, "it was idle for long");
}

static void make_request(struct world_client *client)
{
    struct world *world = client->world;
    uint32_t app;
    do
        app = (uint32_t)world_between(world, 0, WORLD_APPS - 2);
    while (!world->apps[app].wanted && app != 0);
    excuse_idle(client);
    struct world_request *request = world_plan_request(world, client->number, app);
    client->sent[client->sent_count++] = request;
    client->made++;
    client->next_request_ns =
        sim_now_ns() + (client->sent_count < client->depth ? 0 : client->think_ns);
    if (world_one_in(world, client->malformed_one_in))
        send_malformed(client, request);
    else
        write_head(client, request);
    if (request->kind != WORLD_NORMAL && request->kind != WORLD_MALFORMED)
        request->nested = 0;
    client->body_number = request->number;
    client->body_at = 0;
    client->body_left = request->body_size;
    client->half_closes = world_one_in(world, client->half_closes_one_in);
    if (world_one_in(world, client->leaves_one_in))
        client->leave_ns = sim_now_ns() + world_between(world, 0, 60) * WORLD_MS;
    sim_say("client %u makes %u: kind %d of %s, plan %d, body %llu, answer %llu", client->number,
            request->number, request->kind, world->apps[request->app].name, request->plan,
            (unsigned long long)request->body_size, (unsigned long long)request->answer_size);
}

static bool wants_request(const struct world_client *client)
{
    return client->made < client->wanted && client->sent_count < client->depth &&
           !client->body_left && !client->half_closes && !client->ends;
}

/* ---- writing ---- */

static void add_body(struct world_client *client)
{
    uint8_t piece[PIECE_MOST];
    if (!client->body_left || client->continue_ns || client->out.size - client->out_start > 0)
        return;
    size_t size = client->body_left < PIECE_MOST ? (size_t)client->body_left : PIECE_MOST;
    if (client->body_chunked)
        size = (size_t)sim_between(1, (int64_t)size);
    world_body_fill(client->body_number, client->body_at, piece, size);
    if (client->body_chunked)
        text_print(&client->out, "%zx\r\n", size);
    text_add(&client->out, bytes_of(piece, size));
    client->body_at += size;
    client->body_left -= size;
    if (client->body_chunked)
        text_add_string(&client->out, client->body_left ? "\r\n" : "\r\n0\r\n\r\n");
}

static void client_write(struct world_client *client)
{
    while (!client->blocked && client->next_write_ns <= sim_now_ns()) {
        if (client->out_start == client->out.size) {
            text_clear(&client->out);
            client->out_start = 0;
            add_body(client);
        }
        size_t size = client->out.size - client->out_start;
        if (size == 0)
            break;
        if (client->write_piece && size > client->write_piece)
            size = client->write_piece;
        struct iovec part = {.iov_base = client->out.at + client->out_start, .iov_len = size};
        ssize_t sent = socket_write(client->descriptor, &part, 1);
        if (sent < 0 && sent != -EAGAIN) {
            /* What the proxy said before it closed is still to be read. */
            text_clear(&client->out);
            client->out_start = 0;
            client->body_left = 0;
            break;
        }
        client->blocked = sent < 0;
        client->out_start += sent > 0 ? (size_t)sent : 0;
        if (client->write_piece)
            client->next_write_ns = sim_now_ns() + client->piece_pause_ns + 1;
    }
    bool all_out = client->out_start == client->out.size && !client->body_left;
    if (!client->half_closes || !all_out)
        return;
    client->half_closes = false;
    if (client->sent_count == 0)
        return; /* it was answered before */
    sim_say("client %u closes its half", client->number);
    socket_shutdown_write(client->descriptor);
    world_client_excuse(client, "it closed its half");
    client->ends = true;
}

/* ---- reading ---- */

static bool client_read(struct world_client *client)
{
    uint8_t piece[PIECE_MOST];
    size_t size = client->read_piece ? client->read_piece : PIECE_MOST;
    ssize_t got = socket_read(client->descriptor, piece, size);
    if (got == -EAGAIN)
        return true;
    if (got <= 0) {
        lose(client, (int)got);
        return false;
    }
    text_add(&client->in, bytes_of(piece, (size_t)got));
    ensure(!client->in.failed);
    if (client->read_piece)
        client->next_read_ns = sim_now_ns() + client->piece_pause_ns + 1;
    world_answer_take(client);
    return true;
}

/* ---- steps ---- */

static void client_ready(void *owner, int events)
{
    struct world_client *client = owner;
    if (events & LOOP_WRITE)
        client->blocked = false;
    if ((events & LOOP_READ) && client->next_read_ns <= sim_now_ns() && !client_read(client)) {
        client_step(client);
        return;
    }
    client_step(client);
}

static bool client_connect(struct world_client *client)
{
    client->descriptor = sim_connect_tcp(WORLD_PORT);
    if (client->descriptor < 0)
        return false;
    client->connected_ns = client->idle_ns = sim_now_ns();
    client->next_write_ns = client->next_read_ns = 0;
    if (client->write_piece || client->read_piece)
        world_client_excuse(client, "it is slow");
    client->watch = (struct loop_watch){.handle = NULL};
    int code = loop_watch_open(client->world->clients_process.loop, &client->watch,
                               client->descriptor, LOOP_READ, client_ready, client);
    ensure(code == 0);
    return true;
}

static bool lost_patience(const struct world_client *client)
{
    return client->patience_ns && client->sent_count &&
           client->sent[0]->made_ns + client->patience_ns <= sim_now_ns();
}

static void earliest(int64_t *due_ns, int64_t at_ns)
{
    if (at_ns > sim_now_ns() && (*due_ns == 0 || at_ns < *due_ns))
        *due_ns = at_ns;
}

static void arm(struct world_client *client)
{
    int64_t due_ns = 0;
    bool writes = client->out.size > client->out_start || client->body_left;
    bool reads = client->next_read_ns <= sim_now_ns();
    if (wants_request(client))
        earliest(&due_ns, client->next_request_ns > sim_now_ns() ? client->next_request_ns
                                                                 : sim_now_ns() + 1);
    if (writes)
        earliest(&due_ns, client->next_write_ns);
    if (writes && client->continue_ns)
        earliest(&due_ns, client->continue_ns);
    if (!reads)
        earliest(&due_ns, client->next_read_ns);
    earliest(&due_ns, client->leave_ns);
    if (client->patience_ns && client->sent_count)
        earliest(&due_ns, client->sent[0]->made_ns + client->patience_ns);
    loop_timer_set(&client->timer, due_ns);
    loop_watch_change(&client->watch, (reads ? LOOP_READ : 0) | (client->blocked ? LOOP_WRITE : 0));
}

static void client_done(struct world_client *client)
{
    client->done = true;
    client->world->clients_done++;
    loop_timer_clear(&client->timer);
    sim_say("client %u is done", client->number);
}

static void client_step(struct world_client *client)
{
    if (client->done)
        return;
    if (client->descriptor < 0 && client->made == client->wanted) {
        client_done(client);
        return;
    }
    if (client->descriptor < 0) {
        if (client->next_request_ns > sim_now_ns() || !client_connect(client)) {
            int64_t retry_ns = sim_now_ns() + CONNECT_PAUSE_MS * WORLD_MS;
            loop_timer_set(&client->timer, client->next_request_ns > sim_now_ns()
                                               ? client->next_request_ns
                                               : retry_ns);
            return;
        }
    }
    if (client->continue_ns && client->continue_ns <= sim_now_ns())
        client->continue_ns = 0;
    while (wants_request(client) && client->next_request_ns <= sim_now_ns())
        make_request(client);
    client_write(client);
    bool leaves = (client->leave_ns && client->leave_ns <= sim_now_ns()) || lost_patience(client);
    bool idle = client->sent_count == 0 && !client->body_left &&
                (client->made == client->wanted || client->ends);
    if (leaves || idle) {
        disconnect(client, "the client left");
        client_step(client);
        return;
    }
    arm(client);
}

static void timer_fired(void *owner)
{
    client_step(owner);
}

/* ---- life ---- */

void world_clients_begin(struct world *world)
{
    list_init(&world->clients);
    sim_process_begin(&world->clients_process, "clients");
    sim_enter(&world->clients_process);
    struct loop *loop = loop_new();
    ensure(loop);
    for (uint32_t i = 1; i <= world->client_count; i++) {
        struct world_client *client = mem_new(sizeof *client);
        client->world = world;
        client->number = i;
        client->descriptor = -1;
        text_init(&client->out, IN_MOST);
        text_init(&client->in, IN_MOST);
        world_plan_client(world, client);
        loop_timer_init(loop, &client->timer, timer_fired, client);
        loop_timer_set(&client->timer, client->next_request_ns + 1);
        list_push_back(&world->clients, &client->link);
    }
    sim_leave();
}

void world_clients_end(struct world *world)
{
    struct list_link *link;
    sim_enter(&world->clients_process);
    while ((link = list_pop_front(&world->clients))) {
        struct world_client *client = list_entry(link, struct world_client, link);
        ensure(client->done && client->descriptor < 0);
        text_done(&client->out);
        text_done(&client->in);
        mem_free(client);
    }
    loop_free(world->clients_process.loop);
    sim_leave();
    sim_process_end(&world->clients_process);
}
