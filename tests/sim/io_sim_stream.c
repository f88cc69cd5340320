/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sim_stream: the bytes of a connection on their way.
 *
 * Each end has a bounded buffer `in` of segments with a time of arrival: a write appends to that of
 * the peer, a read takes what has arrived.  Segments never overtake each other.
 *
 *     end A: in <- [....][..] arrival times <- writes of B        (and the other way round)
 *
 * What Linux does at the ends of life is done here too: bytes written before an end still arrive;
 * who is closed with unread bytes leaves ECONNRESET behind them to the peer of a connection, else
 * an end of file; writing to somebody who is gone is EPIPE, at once between processes of one
 * machine, over TCP only once the news has arrived; a descriptor travels with a byte, and a read
 * stops before the bytes of the next one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "ensure.h"
#include "io_sim_inside.h"
#include "mem.h"

/* ---- life ---- */

static struct sim_stream *stream_new(bool local)
{
    const struct sim_config *config = sim_configuration();
    struct sim_stream *stream = mem_new(sizeof *stream);
    stream->object = (struct sim_object){.kind = SIM_STREAM, .references = 1};
    list_init(&stream->in);
    stream->capacity =
        (size_t)sim_between((int64_t)config->capacity_least, (int64_t)config->capacity_most);
    stream->end_ns = SIM_NEVER;
    stream->room_ns = sim_now_ns();
    stream->delay_ns = sim_between(0, local ? config->local_delay_ns : config->client_delay_ns);
    stream->local = local;
    return stream;
}

struct sim_stream *sim_stream_pair(bool local, uint32_t number, const char *name)
{
    struct sim_stream *a = stream_new(local), *b = stream_new(local);
    a->peer = b;
    b->peer = a;
    a->connector = true;
    a->number = b->number = number;
    snprintf(a->name, sizeof a->name, "%s", name);
    snprintf(b->name, sizeof b->name, "%s", name);
    return a;
}

static void drop_segment(struct sim_stream *stream, struct sim_segment *segment)
{
    list_remove(&segment->link);
    stream->in_size -= segment->size - segment->start;
    if (segment->passed)
        sim_object_unref(segment->passed);
    mem_free(segment);
}

static void drop_segments(struct sim_stream *stream)
{
    struct list_link *link;
    while ((link = list_first(&stream->in)))
        drop_segment(stream, list_entry(link, struct sim_segment, link));
}

/* When something sent now arrives: never before what was sent earlier. */
static int64_t arrival_ns(struct sim_stream *to)
{
    int64_t at_ns = sim_now_ns() + sim_between(0, to->delay_ns);
    if (at_ns < to->last_ns)
        at_ns = to->last_ns;
    return to->last_ns = at_ns;
}

static void send_end(struct sim_stream *to, int error)
{
    if (to->end_ns != SIM_NEVER)
        return;
    to->end_ns = arrival_ns(to);
    to->end_error = error;
}

void sim_stream_free(struct sim_stream *stream)
{
    struct sim_stream *peer = stream->peer;
    if (peer) {
        send_end(peer, list_empty(&stream->in) ? 0 : -ECONNRESET);
        peer->peer = NULL;
    }
    drop_segments(stream);
    mem_free(stream);
}

void sim_stream_shut(struct sim_stream *stream)
{
    stream->write_shut = true;
    if (stream->peer)
        send_end(stream->peer, 0);
}

/* What has not arrived is lost; half the time also what was not read (kernels differ). */
static void cut(struct sim_stream *stream)
{
    struct list_link *link, *after;
    bool all = sim_one_in(2);
    list_each_safe (link, after, &stream->in) {
        struct sim_segment *segment = list_entry(link, struct sim_segment, link);
        if (all || segment->at_ns > sim_now_ns())
            drop_segment(stream, segment);
    }
    stream->end_ns = sim_now_ns();
    stream->end_error = -ECONNRESET;
}

void sim_stream_reset(struct sim_stream *stream)
{
    struct sim_stream *peer = stream->peer;
    cut(stream);
    stream->peer = NULL;
    if (!peer)
        return;
    cut(peer);
    peer->peer = NULL;
}

/* ---- readiness ---- */

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Before that nothing that came is seen. */
static int64_t held_until_ns(const struct sim_stream *stream)
{
    const struct sim_stream *peer = stream->peer;
    int64_t until_ns = stream->stalled_until_ns;
    if (!stream->local)
        return until_ns;
    if (stream->process)
        until_ns = latest(until_ns, stream->process->isolated_until_ns);
    if (peer && peer->process)
        until_ns = latest(until_ns, peer->process->isolated_until_ns);
    return until_ns;
}

int64_t sim_stream_read_ns(const struct sim_stream *stream)
{
    int64_t at_ns = stream->end_ns;
    if (!list_empty(&stream->in))
        at_ns = list_entry(stream->in.head.next, struct sim_segment, link)->at_ns;
    return at_ns == SIM_NEVER ? SIM_NEVER : latest(at_ns, held_until_ns(stream));
}

/* The peer is gone and this end may know. */
static bool write_fails(const struct sim_stream *stream)
{
    return stream->write_shut ||
           (!stream->peer && (stream->local || stream->end_ns <= sim_now_ns()));
}

int64_t sim_stream_write_ns(const struct sim_stream *stream)
{
    if (!stream->peer)
        return stream->local ? stream->last_ns : stream->end_ns;
    return stream->peer->room_ns;
}

/* A peer that took some leaves room once a third of its buffer is free, as Linux tells it. */
static void note_room(struct sim_stream *stream)
{
    bool room = stream->in_size + stream->capacity / 3 < stream->capacity;
    if (room && stream->room_ns == SIM_NEVER)
        stream->room_ns = sim_now_ns();
    else if (stream->in_size >= stream->capacity)
        stream->room_ns = SIM_NEVER;
}

/* ---- writing ---- */

static size_t size_of(const struct iovec *parts, int part_count)
{
    size_t size = 0;
    for (int i = 0; i < part_count; i++)
        size += parts[i].iov_len;
    return size;
}

static void gather(uint8_t *at, size_t size, const struct iovec *parts)
{
    for (; size > 0; parts++) {
        size_t part = parts->iov_len < size ? parts->iov_len : size;
        if (part)
            memcpy(at, parts->iov_base, part);
        at += part;
        size -= part;
    }
}

ssize_t sim_stream_write(struct sim_stream *stream, const struct iovec *parts, int part_count,
                         struct sim_object *passed)
{
    const struct sim_config *config = sim_configuration();
    size_t size = size_of(parts, part_count);
    struct sim_stream *to = stream->peer;
    ensure(stream->process == sim_current());
    if (stream->process->doomed)
        return (ssize_t)size; /* it never came to that */
    if (write_fails(stream))
        return stream->end_error && !stream->write_shut ? stream->end_error : -EPIPE;
    if (!to)
        return (ssize_t)size; /* the news is still on its way */
    if (to->in_size >= to->capacity)
        return -EAGAIN;
    size_t room = to->capacity - to->in_size;
    size_t taken = size < room ? size : room;
    if (taken > 1 && sim_one_in(config->short_one_in))
        taken = (size_t)sim_between(1, (int64_t)taken - 1);
    if (taken == 0)
        return 0;
    struct sim_segment *segment = mem_new(sizeof *segment + taken);
    segment->at_ns = arrival_ns(to);
    segment->size = taken;
    segment->passed = passed ? sim_object_ref(passed) : NULL;
    gather(segment->at, taken, parts);
    list_push_back(&to->in, &segment->link);
    to->in_size += taken;
    if (taken < size && to->in_size < to->capacity)
        to->room_ns = sim_now_ns(); /* cut short by chance, not for lack of room */
    else
        note_room(to);
    if (stream->local && config->tap)
        config->tap(config->owner, stream, stream->connector, bytes_of(segment->at, taken));
    return (ssize_t)taken;
}

/* ---- reading ---- */

/* What follows belongs to another message when it brings a descriptor. */
static bool may_go_on(const struct sim_segment *segment, size_t taken)
{
    return segment->at_ns <= sim_now_ns() && (taken == 0 || !segment->passed);
}

ssize_t sim_stream_read(struct sim_stream *stream, void *at, size_t size,
                        struct sim_object **ret_passed)
{
    struct list_link *link;
    size_t taken = 0;
    *ret_passed = NULL;
    ensure(stream->process == sim_current() && size > 0);
    if (held_until_ns(stream) > sim_now_ns())
        return -EAGAIN;
    if (size > 1 && sim_one_in(sim_configuration()->short_one_in))
        size = (size_t)sim_between(1, (int64_t)(size < 4096 ? size : 4096));
    while (taken < size && (link = list_first(&stream->in))) {
        struct sim_segment *segment = list_entry(link, struct sim_segment, link);
        if (!may_go_on(segment, taken))
            break;
        size_t part = segment->size - segment->start;
        part = part < size - taken ? part : size - taken;
        memcpy((uint8_t *)at + taken, segment->at + segment->start, part);
        if (segment->passed)
            *ret_passed = segment->passed; /* the reference goes along */
        segment->passed = NULL;
        segment->start += part;
        stream->in_size -= part;
        taken += part;
        if (segment->start == segment->size)
            drop_segment(stream, segment);
    }
    note_room(stream);
    if (taken > 0)
        return (ssize_t)taken;
    if (list_empty(&stream->in) && stream->end_ns <= sim_now_ns())
        return stream->end_error;
    return -EAGAIN;
}
