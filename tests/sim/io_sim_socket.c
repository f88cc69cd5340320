/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_socket: socket.h on the simulated kernel: descriptors, listeners, connecting.
 *
 * One table of descriptors for all processes, each row with its owner, so that nobody uses what is
 * not his and a count at the end shows what was left open.  Numbers begin where no real one lies: a
 * real system call on one of them fails.
 *
 * Listening sockets are known by path or port.  A connection stands as soon as it is asked for and
 * waits in the queue of the listener until it is accepted; what is written meanwhile waits with it.
 */
#include "socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "io_sim_inside.h"
#include "mem.h"

enum { BACKLOG_MOST = 4096 };

struct waiting { /* a connection that is not accepted yet */
    struct list_link link;
    struct sim_stream *stream; /* the end that accept gives out */
    int64_t at_ns;
};

struct listener {
    struct sim_object object;
    struct list_link link; /* on sockets.listeners */
    char path[SIM_PATH_SIZE];
    uint16_t port;
    int backlog;
    struct list queue;        /* struct waiting */
    char name[SIM_NAME_SIZE]; /* of the process that made it */
};

struct row {
    struct sim_object *object; /* null: free */
    struct sim_process *process;
};

static struct {
    struct row *rows;
    uint32_t count, capacity; /* rows in use or used before */
    uint32_t open_count;
    uint32_t connection_count; /* made so far */
    struct list listeners;
} sockets;

/* ---- descriptors ---- */

void sim_sockets_begin(void)
{
    memset(&sockets, 0, sizeof sockets);
    list_init(&sockets.listeners);
}

void sim_sockets_end(void)
{
    ensure_tag(M1, sockets.open_count == 0);
    ensure_tag(M1, list_empty(&sockets.listeners));
    sockets.rows = mem_free(sockets.rows);
}

struct sim_object *sim_object_ref(struct sim_object *object)
{
    object->references++;
    return object;
}

static void listener_free(struct listener *listener);

void sim_object_unref(struct sim_object *object)
{
    ensure(object->references > 0);
    if (--object->references > 0)
        return;
    if (object->kind == SIM_STREAM)
        sim_stream_free((struct sim_stream *)object);
    else if (object->kind == SIM_LISTENER)
        listener_free((struct listener *)object);
    else
        mem_free(object);
}

static uint32_t free_row(void)
{
    uint32_t index = 0;
    while (index < sockets.count && sockets.rows[index].object)
        index++;
    if (index == sockets.capacity) {
        uint32_t capacity = sockets.capacity ? sockets.capacity * 2 : 64;
        struct row *larger = mem_new(capacity * sizeof *larger);
        if (sockets.count)
            memcpy(larger, sockets.rows, sockets.count * sizeof *larger);
        mem_free(sockets.rows);
        sockets.rows = larger;
        sockets.capacity = capacity;
    }
    if (index == sockets.count)
        sockets.count++;
    return index;
}

int sim_descriptor_open(struct sim_object *object, struct sim_process *process)
{
    ensure(process);
    if (process->descriptor_count >= process->descriptor_limit)
        return -EMFILE;
    uint32_t index = free_row();
    sockets.rows[index] = (struct row){.object = object, .process = process};
    sockets.open_count++;
    process->descriptor_count++;
    if (object->kind == SIM_STREAM)
        ((struct sim_stream *)object)->process = process;
    return (int)index + SIM_FIRST_DESCRIPTOR;
}

static struct row *row_of(int descriptor)
{
    uint32_t index = (uint32_t)(descriptor - SIM_FIRST_DESCRIPTOR);
    ensure(descriptor >= SIM_FIRST_DESCRIPTOR && index < sockets.count);
    struct row *row = &sockets.rows[index];
    ensure(row->object); /* open */
    return row;
}

struct sim_object *sim_descriptor_object(int descriptor, enum sim_kind kind)
{
    struct row *row = row_of(descriptor);
    ensure(!sim_current() || row->process == sim_current());
    return row->object->kind == kind ? row->object : NULL;
}

void sim_descriptor_close(int descriptor)
{
    struct row *row = row_of(descriptor);
    struct sim_object *object = row->object;
    ensure(!sim_current() || row->process == sim_current());
    row->process->descriptor_count--;
    sockets.open_count--;
    *row = (struct row){.object = NULL};
    sim_object_unref(object);
}

static struct sim_stream *stream_of(int descriptor)
{
    return (struct sim_stream *)sim_descriptor_object(descriptor, SIM_STREAM);
}

static struct listener *listener_of(int descriptor)
{
    return (struct listener *)sim_descriptor_object(descriptor, SIM_LISTENER);
}

/* ---- readiness ---- */

static int64_t listener_ready_ns(const struct listener *listener)
{
    if (list_empty(&listener->queue))
        return SIM_NEVER;
    return list_entry(listener->queue.head.next, struct waiting, link)->at_ns;
}

int64_t sim_descriptor_ready_ns(int descriptor, int events, int *ret_events)
{
    const struct sim_object *object = row_of(descriptor)->object;
    int64_t read_ns = SIM_NEVER, write_ns = SIM_NEVER, now_ns = sim_now_ns();
    if (object->kind == SIM_LISTENER) {
        read_ns = listener_ready_ns((const struct listener *)object);
    } else if (object->kind == SIM_STREAM) {
        read_ns = sim_stream_read_ns((const struct sim_stream *)object);
        write_ns = sim_stream_write_ns((const struct sim_stream *)object);
    }
    read_ns = events & LOOP_READ ? read_ns : SIM_NEVER;
    write_ns = events & LOOP_WRITE ? write_ns : SIM_NEVER;
    *ret_events = (read_ns <= now_ns ? LOOP_READ : 0) | (write_ns <= now_ns ? LOOP_WRITE : 0);
    return read_ns < write_ns ? read_ns : write_ns;
}

/* ---- listening ---- */

static void listener_free(struct listener *listener)
{
    struct list_link *link;
    while ((link = list_pop_front(&listener->queue))) {
        struct waiting *waiting = list_entry(link, struct waiting, link);
        sim_object_unref(&waiting->stream->object);
        mem_free(waiting);
    }
    list_remove(&listener->link);
    mem_free(listener);
}

static struct listener *find_listener(const char *path, uint16_t port)
{
    struct list_link *link;
    list_each (link, &sockets.listeners) {
        struct listener *listener = list_entry(link, struct listener, link);
        if (path ? strcmp(listener->path, path) == 0 : port && listener->port == port)
            return listener;
    }
    return NULL;
}

static int listener_new(const char *path, uint16_t port, int backlog)
{
    struct listener *listener = mem_new(sizeof *listener);
    listener->object = (struct sim_object){.kind = SIM_LISTENER, .references = 1};
    listener->port = port;
    listener->backlog = backlog < BACKLOG_MOST ? backlog : BACKLOG_MOST;
    list_init(&listener->queue);
    snprintf(listener->path, sizeof listener->path, "%s", path);
    snprintf(listener->name, sizeof listener->name, "%s", sim_current()->name);
    list_push_back(&sockets.listeners, &listener->link);
    int descriptor = sim_descriptor_open(&listener->object, sim_current());
    if (descriptor < 0)
        listener_free(listener);
    return descriptor;
}

int socket_listen_tcp(const char *host, uint16_t port, int backlog, struct error *reterr)
{
    if (find_listener(NULL, port))
        return error_set(reterr, ERROR_EXISTS, "port %u is in use", port);
    int descriptor = listener_new("", port, backlog);
    return descriptor >= 0 ? descriptor : error_set(reterr, ERROR_SYSTEM, "no descriptor");
}

int socket_listen_unix(const char *path, int backlog, struct error *reterr)
{
    ensure(strlen(path) < SIM_PATH_SIZE);
    if (find_listener(path, 0))
        return error_set(reterr, ERROR_EXISTS, "another process listens on %s", path);
    int descriptor = listener_new(path, 0, backlog);
    return descriptor >= 0 ? descriptor : error_set(reterr, ERROR_SYSTEM, "no descriptor");
}

int socket_adopt(int descriptor)
{
    return listener_of(descriptor) ? 0 : -EBADF;
}

void socket_unlisten_unix(int descriptor, const char *path)
{
    sim_descriptor_close(descriptor);
}

int sim_listen_tcp(uint16_t port)
{
    return socket_listen_tcp("", port, BACKLOG_MOST, NULL);
}

uint16_t socket_local_port(int descriptor)
{
    const struct listener *listener = listener_of(descriptor);
    return listener ? listener->port : 0;
}

int socket_open_reserve(void)
{
    struct sim_object *reserve = mem_new(sizeof *reserve);
    *reserve = (struct sim_object){.kind = SIM_RESERVE, .references = 1};
    int descriptor = sim_descriptor_open(reserve, sim_current());
    if (descriptor < 0)
        mem_free(reserve);
    return descriptor;
}

int sim_share(int descriptor, struct sim_process *with)
{
    return sim_descriptor_open(sim_object_ref(row_of(descriptor)->object), with);
}

/* ---- connecting ---- */

/* A path whose listener died refuses just as one that nobody made. */
static int connect_to(struct listener *listener, bool local)
{
    char name[2 * SIM_NAME_SIZE + 4];
    if (sim_current()->descriptor_count >= sim_current()->descriptor_limit)
        return -EMFILE;
    if (!listener)
        return -ECONNREFUSED;
    if (listener->queue.length >= (size_t)listener->backlog)
        return -EAGAIN;
    snprintf(name, sizeof name, "%s>%s", sim_current()->name, listener->name);
    struct sim_stream *stream = sim_stream_pair(local, ++sockets.connection_count, name);
    struct waiting *waiting = mem_new(sizeof *waiting);
    waiting->stream = stream->peer;
    waiting->at_ns = sim_now_ns() + sim_between(0, stream->delay_ns);
    struct list_link *last = list_last(&listener->queue);
    if (last && list_entry(last, struct waiting, link)->at_ns > waiting->at_ns)
        waiting->at_ns = list_entry(last, struct waiting, link)->at_ns;
    list_push_back(&listener->queue, &waiting->link);
    return sim_descriptor_open(&stream->object, sim_current());
}

int socket_connect_unix(const char *path)
{
    return connect_to(find_listener(path, 0), true);
}

int sim_connect_tcp(uint16_t port)
{
    return connect_to(find_listener(NULL, port), false);
}

int socket_accept(int descriptor)
{
    struct listener *listener = listener_of(descriptor);
    ensure(listener);
    struct sim_process *process = sim_current();
    if (process->descriptor_count >= process->descriptor_limit)
        return -EMFILE;
    if (listener_ready_ns(listener) > sim_now_ns())
        return -EAGAIN;
    struct waiting *waiting = list_entry(list_pop_front(&listener->queue), struct waiting, link);
    int accepted = sim_descriptor_open(&waiting->stream->object, process);
    ensure(accepted >= 0);
    mem_free(waiting);
    return accepted;
}

int socket_error(int descriptor)
{
    const struct sim_stream *stream = stream_of(descriptor);
    return stream && stream->end_ns <= sim_now_ns() ? stream->end_error : 0;
}

int socket_check_peer(int descriptor, pid_t *ret_pid)
{
    const struct sim_stream *stream = stream_of(descriptor);
    ensure(stream && stream->local);
    if (ret_pid)
        *ret_pid = stream->peer && stream->peer->process ? (pid_t)stream->peer->process->number : 0;
    return 0;
}

int socket_pair(int ret_descriptors[2])
{
    struct sim_stream *stream =
        sim_stream_pair(true, ++sockets.connection_count, sim_current()->name);
    ret_descriptors[0] = sim_descriptor_open(&stream->object, sim_current());
    ret_descriptors[1] = sim_descriptor_open(&stream->peer->object, sim_current());
    ensure(ret_descriptors[0] >= 0 && ret_descriptors[1] >= 0);
    return 0;
}

/* ---- bytes ---- */

/* A process without room for another descriptor never sees the one that came. */
ssize_t socket_read_with(int descriptor, void *at, size_t size, int *ret_descriptor)
{
    struct sim_object *passed;
    ssize_t got = sim_stream_read(stream_of(descriptor), at, size, &passed);
    *ret_descriptor = -1;
    if (!passed)
        return got;
    int opened = sim_descriptor_open(passed, sim_current());
    if (opened < 0)
        sim_object_unref(passed);
    else
        *ret_descriptor = opened;
    return got;
}

ssize_t socket_read(int descriptor, void *at, size_t size)
{
    int passed;
    ssize_t got = socket_read_with(descriptor, at, size, &passed);
    socket_close(passed);
    return got;
}

ssize_t socket_write(int descriptor, const struct iovec *parts, int part_count)
{
    return sim_stream_write(stream_of(descriptor), parts, part_count, NULL);
}

ssize_t socket_write_with(int descriptor, const struct iovec *parts, int part_count,
                          int sent_descriptor)
{
    return sim_stream_write(stream_of(descriptor), parts, part_count,
                            row_of(sent_descriptor)->object);
}

void socket_shutdown_write(int descriptor)
{
    sim_stream_shut(stream_of(descriptor));
}

void socket_close(int descriptor)
{
    if (descriptor >= 0)
        sim_descriptor_close(descriptor);
}

void socket_peer_name(int descriptor, char *ret_name, size_t size)
{
    const struct sim_stream *stream = stream_of(descriptor);
    snprintf(ret_name, size, "%s", stream->local ? "unix" : "10.0.0.1:1");
}

/* ---- what the world does to connections ---- */

struct sim_process *sim_peer(int descriptor)
{
    const struct sim_stream *stream = (struct sim_stream *)row_of(descriptor)->object;
    ensure(stream->object.kind == SIM_STREAM);
    return stream->peer ? stream->peer->process : NULL;
}

void sim_reset(int descriptor)
{
    sim_stream_reset((struct sim_stream *)row_of(descriptor)->object);
}

static void stall(struct sim_stream *stream, int64_t until_ns)
{
    if (stream->stalled_until_ns < until_ns)
        stream->stalled_until_ns = until_ns;
}

void sim_stall_descriptor(int descriptor, int64_t until_ns)
{
    struct sim_stream *stream = (struct sim_stream *)row_of(descriptor)->object;
    stall(stream, until_ns);
    if (stream->peer && sim_one_in(2))
        stall(stream->peer, until_ns);
}

/* A random local connection of the process, perhaps only of those that it accepted; -1: none. */
static int some_connection(const struct sim_process *process, bool accepted)
{
    uint32_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t chosen = count ? (uint32_t)sim_between(1, count) : 0;
        for (uint32_t i = 0, seen = 0; i < sockets.count; i++) {
            const struct row *row = &sockets.rows[i];
            const struct sim_stream *stream = (struct sim_stream *)row->object;
            if (!row->object || row->process != process || row->object->kind != SIM_STREAM ||
                !stream->local || (accepted && (stream->connector || !stream->peer)))
                continue;
            if (pass == 0)
                count++;
            else if (++seen == chosen)
                return (int)i + SIM_FIRST_DESCRIPTOR;
        }
    }
    return -1;
}

bool sim_stall(struct sim_process *process, int64_t until_ns)
{
    int descriptor = some_connection(process, false);
    if (descriptor >= 0)
        sim_stall_descriptor(descriptor, until_ns);
    return descriptor >= 0;
}

bool sim_cut(struct sim_process *process)
{
    int descriptor = some_connection(process, true);
    if (descriptor >= 0)
        sim_reset(descriptor);
    return descriptor >= 0;
}

const char *sim_stream_name(const void *stream)
{
    return ((const struct sim_stream *)stream)->name;
}

uint32_t sim_stream_number(const void *stream)
{
    return ((const struct sim_stream *)stream)->number;
}
