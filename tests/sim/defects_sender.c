/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects_sender: mistakes of whoever sends requests: of a proxy, and of a handle in a replica; and
 * of a connection that forgets whose it is.  How they come in between stands in defects_taker.c.
 */
#include <stdio.h>
#include <string.h>

#include "defects.h"
#include "dispatch_inner.h"
#include "io_sim_inside.h"
#include "proxy.h"
#include "world.h"

enum { ROUTERS_MOST = 64, ROWS_MOST = 64, LATE_SIZE = 4096 };

/* ---- requests ---- */

void __real_dispatch_request_start(struct dispatch_call *call, struct dispatch_link *link);
void __wrap_dispatch_request_start(struct dispatch_call *call, struct dispatch_link *link);
void __wrap_dispatch_request_start(struct dispatch_call *call, struct dispatch_link *link)
{
    __real_dispatch_request_start(call, link);
    if (call->link && call->sent && call->frame.size && defect_now(DEFECT_DOUBLE_REQUEST, 10)) {
        call->sent = false;
        dispatch_request_pump(call);
    }
}

void __real_dispatch_call_return(struct dispatch_call *call, uint32_t queue_length, bool draining);
void __wrap_dispatch_call_return(struct dispatch_call *call, uint32_t queue_length, bool draining);
void __wrap_dispatch_call_return(struct dispatch_call *call, uint32_t queue_length, bool draining)
{
    struct dispatch *dispatch = call->dispatch;
    struct request_id id = {dispatch_call_id(call)};
    if (!defect_is(DEFECT_EARLY_FAILURE) || call->side != CALL_OPEN) {
        __real_dispatch_call_return(call, queue_length, draining);
        return;
    }
    dispatch_call_land(call);
    router_done(dispatch->router, dispatch_now_ns(dispatch), id, queue_length, &dispatch->effects);
    dispatch_call_over(call, ERROR_REPLICA_DIED);
}

void __real_dispatch_call_release(struct dispatch_call *call);
void __wrap_dispatch_call_release(struct dispatch_call *call);
void __wrap_dispatch_call_release(struct dispatch_call *call)
{
    if (!defect_now(DEFECT_KEPT_CALL, 20))
        __real_dispatch_call_release(call);
}

size_t __real_dispatch_write(struct dispatch_call *call, struct bytes part, bool end);
size_t __wrap_dispatch_write(struct dispatch_call *call, struct bytes part, bool end);
size_t __wrap_dispatch_write(struct dispatch_call *call, struct bytes part, bool end)
{
    bool cut = part.size > 1 && defect_now(DEFECT_CUT_BODY, 10);
    size_t taken = __real_dispatch_write(call, bytes_skip(part, cut), end);
    return taken + cut;
}

/* ---- snapshots ---- */

/* IGNORED_DRAIN: rows that each router was ever told. */
static struct told {
    const struct router *router;
    struct router_snapshot_replica rows[ROWS_MOST];
    char addresses[ROWS_MOST][64];
    uint32_t count;
} told[ROUTERS_MOST];
static uint32_t told_life;

static struct told *find_told(const struct router *router)
{
    struct told *free_one = NULL;
    if (told_life != defects_life())
        memset(told, 0, sizeof told);
    told_life = defects_life();
    for (int i = 0; i < ROUTERS_MOST; i++) {
        if (told[i].router == router)
            return &told[i];
        if (!told[i].router && !free_one)
            free_one = &told[i];
    }
    if (free_one)
        free_one->router = router;
    return free_one ? free_one : &told[0];
}

static void add_row(struct told *at, const struct router_snapshot_replica *row)
{
    for (uint32_t i = 0; i < at->count; i++)
        if (replica_id_equal(at->rows[i].id, row->id))
            return;
    if (at->count == ROWS_MOST)
        return;
    snprintf(at->addresses[at->count], sizeof at->addresses[0], "%.*s", BYTES_PRINT(row->address));
    at->rows[at->count] = *row;
    at->rows[at->count].address = bytes_of_string(at->addresses[at->count]);
    at->count++;
}

static void keep_rows(const struct router *router, struct router_snapshot *snapshot)
{
    struct told *at = find_told(router);
    if (router_version(router) == 0)
        at->count = 0;
    for (uint32_t i = 0; i < snapshot->replica_count; i++)
        add_row(at, &snapshot->replicas[i]);
    snapshot->replicas = at->rows;
    snapshot->replica_count = at->count;
}

int __real_router_snapshot(struct router *router, int64_t now_ns,
                           const struct router_snapshot *snapshot, struct router_effects *effects);
int __wrap_router_snapshot(struct router *router, int64_t now_ns,
                           const struct router_snapshot *snapshot, struct router_effects *effects);
int __wrap_router_snapshot(struct router *router, int64_t now_ns,
                           const struct router_snapshot *snapshot, struct router_effects *effects)
{
    struct router_snapshot wrong = *snapshot;
    struct router_snapshot_deployment longer[WORLD_APPS];
    if (defect_now(DEFECT_LOST_SNAPSHOT, 4))
        return 0;
    if (defect_is(DEFECT_IGNORED_DRAIN))
        keep_rows(router, &wrong);
    for (uint32_t i = 0; i < snapshot->deployment_count && i < WORLD_APPS; i++) {
        longer[i] = snapshot->deployments[i];
        longer[i].max_queued += longer[i].max_queued >= 0;
    }
    if (defect_is(DEFECT_LONG_QUEUE) && snapshot->deployment_count <= WORLD_APPS)
        wrong.deployments = longer;
    return __real_router_snapshot(router, now_ns, &wrong, effects);
}

/* ---- the proxy and its clients ---- */

void __real_exchange_granted(struct exchange *exchange);
void __wrap_exchange_granted(struct exchange *exchange);
void __wrap_exchange_granted(struct exchange *exchange)
{
    if (exchange->ungranted && defect_now(DEFECT_LOST_CREDIT, 3))
        exchange->ungranted = 0;
    __real_exchange_granted(exchange);
}

void __real_exchange_write_end(struct exchange *exchange, struct bytes trailers);
void __wrap_exchange_write_end(struct exchange *exchange, struct bytes trailers);
void __wrap_exchange_write_end(struct exchange *exchange, struct bytes trailers)
{
    const struct bytes another = BYTES("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    __real_exchange_write_end(exchange, trailers);
    if (!exchange->over || !defect_now(DEFECT_TWO_ANSWERS, 20))
        return;
    uint8_t *room = connection_room(exchange->connection, exchange, another.size);
    if (room) {
        memcpy(room, another.at, another.size);
        connection_wrote(exchange->connection, exchange, another.size);
    }
}

static bool in_proxy(void)
{
    return sim_current() && strncmp(sim_current()->name, "proxy", 5) == 0;
}

void __real_socket_close(int descriptor);
void __wrap_socket_close(int descriptor);
void __wrap_socket_close(int descriptor)
{
    if (!in_proxy() || descriptor < 0 || !defect_now(DEFECT_KEPT_DESCRIPTOR, 10))
        __real_socket_close(descriptor);
}

/* ---- connections ---- */

/* LATE_ANSWER: a whole answer that went to a proxy. */
static struct {
    uint32_t life;
    uint32_t connection; /* that it was for */
    char name[2 * SIM_NAME_SIZE + 4];
    uint8_t at[LATE_SIZE];
    size_t size; /* 0: none */
} late;

/* Looks at the frames of one write; false: they do not end with it. */
static bool keep_answer(const struct sim_stream *stream, const uint8_t *at, size_t size)
{
    struct wire_header header;
    while (size >= WIRE_HEADER_SIZE) {
        wire_header_read(&header, at);
        size_t whole = WIRE_HEADER_SIZE + (size_t)header.size;
        if (whole > size)
            return false;
        if (header.type == WIRE_REPLY_FRAME && (header.flags & WIRE_END) && late.size == 0) {
            late.connection = stream->number;
            snprintf(late.name, sizeof late.name, "%s", stream->name);
            memcpy(late.at, at, whole);
            late.size = whole;
        }
        at += whole;
        size -= whole;
    }
    return size == 0;
}

ssize_t __real_sim_stream_write(struct sim_stream *stream, const struct iovec *parts,
                                int part_count, struct sim_object *passed);
ssize_t __wrap_sim_stream_write(struct sim_stream *stream, const struct iovec *parts,
                                int part_count, struct sim_object *passed);
ssize_t __wrap_sim_stream_write(struct sim_stream *stream, const struct iovec *parts,
                                int part_count, struct sim_object *passed)
{
    uint8_t at[LATE_SIZE];
    size_t size = 0;
    ssize_t sent = __real_sim_stream_write(stream, parts, part_count, passed);
    if (!defect_is(DEFECT_LATE_ANSWER) || !stream->local || stream->connector || sent <= 0 ||
        strncmp(stream->name, "proxy", 5) != 0 || stream->process->doomed)
        return sent;
    if (late.life != defects_life())
        late.size = 0;
    late.life = defects_life();
    for (int i = 0; i < part_count && size + parts[i].iov_len <= sizeof at; i++) {
        memcpy(at + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    bool whole = size == (size_t)sent && keep_answer(stream, at, size);
    if (whole && late.size && late.connection < stream->number &&
        strcmp(late.name, stream->name) == 0) {
        struct iovec again = {.iov_base = late.at, .iov_len = late.size};
        __real_sim_stream_write(stream, &again, 1, NULL);
        late.size = 0;
    }
    return sent;
}
