/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: frames in and out of a stream socket.
 *
 * In.  Bytes are received behind those that are there, into a ref-counted buffer, so that a frame
 * is a slice and whoever keeps it keeps the buffer.  Many small frames share one buffer even while
 * some of them are kept, since only bytes behind in_end are ever written.  A buffer that is too
 * short for the frame that has begun is compacted when nobody else looks at it; else the frame's
 * first bytes move to a new one.  A channel with nothing unread and nobody looking gives its buffer
 * back at the end of the turn: idle channels hold none.
 *
 *     |  taken, perhaps kept by others  | unread: whole frames, a begun one | room |
 *     0                              in_start                            in_end   capacity
 *
 * Out.  Frames are put one behind the other into a block; the end of the turn writes it with one
 * system call.  When the kernel takes less, the channel is blocked: it waits until it is writable
 * and no turn tries before.
 *
 * Events are told from the readiness function, as its last act, or at the end of the turn from the
 * telling list: in both cases the channel may vanish in the call.
 *
 * Descriptors.  One travels with the first byte of its frame: a write ends before such a byte, or
 * begins with it.  When too many are on their way between processes (ETOOMANYREFS) the channel is
 * crowded and tries again after a moment; nothing behind it overtakes.
 */
#include "channel.h"

#include <errno.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "socket.h"

enum {
    FRAME_HEADER_SIZE = 16,
    CHANNEL_BUFFER_SIZE =
        68 * 1024 - (int)sizeof(struct buffer), /* a 64 KiB body with header and fields fits */
    CHANNEL_ROOM_LEAST = 4096, /* with less room at its end a buffer is not worth a system call */
    CHANNEL_OUT_FIRST = 4096,  /* first capacity of the output block */
    CHANNEL_OUT_KEPT = 256 * 1024, /* a larger block goes back when it is empty */
    CHANNEL_OVERDRAFT = 64 * 1024, /* of control frames, beyond queue_limit */
};
static const int64_t CROWD_PAUSE_NS = 10 * 1000000;

/* ---- the set ---- */

static void end_turn(void *owner);

static void crowd_leaves(void *owner)
{
    struct channel_set *set = owner;
    struct list_link *link;
    while ((link = list_pop_front(&set->crowded)) != NULL)
        list_push_back(&set->dirty, link);
}

int channel_set_init(struct channel_set *set, struct loop *loop,
                     const struct channel_config *config)
{
    ensure(config->frame_limit > 0 && config->queue_limit > 0 && config->turn_limit > 0);
    *set = (struct channel_set){.loop = loop,
                                .frame_limit = config->frame_limit,
                                .queue_limit = config->queue_limit,
                                .turn_limit = config->turn_limit};
    set->buffers = buffer_store_new(CHANNEL_BUFFER_SIZE, config->buffer_keep);
    if (!set->buffers)
        return -ENOMEM;
    list_init(&set->dirty);
    list_init(&set->telling);
    list_init(&set->resting);
    list_init(&set->crowded);
    loop_timer_init(loop, &set->crowd_timer, crowd_leaves, set);
    set->flush_turn = (struct loop_turn){.turn = end_turn, .owner = set};
    loop_turn_add_last(loop, &set->flush_turn);
    return 0;
}

void channel_set_done(struct channel_set *set)
{
    if (!set->loop)
        return;
    ensure(list_empty(&set->dirty) && list_empty(&set->telling) && list_empty(&set->resting) &&
           list_empty(&set->crowded));
    loop_timer_clear(&set->crowd_timer);
    loop_turn_remove(&set->flush_turn);
    set->buffers = buffer_store_free(set->buffers);
    set->loop = NULL;
}

void channel_set_flush(struct channel_set *set)
{
    struct list_link *link;
    while ((link = list_first(&set->dirty)) != NULL)
        channel_flush(list_entry(link, struct channel, dirty_link));
}

/* A channel at rest needs no buffer.  While somebody keeps a frame of it, it is asked again. */
static void rest(struct channel *channel)
{
    if (!channel->in || channel->in_start != channel->in_end)
        return;
    if (buffer_references(channel->in) == 1)
        channel->in = buffer_unref(channel->in);
    else
        list_push_back(&channel->set->resting, &channel->resting_link);
}

void channel_rest(struct channel *channel)
{
    if (channel->in && channel->in_start == channel->in_end && buffer_references(channel->in) == 1)
        channel->in = buffer_unref(channel->in);
}

static void end_turn(void *owner)
{
    struct channel_set *set = owner;
    struct list_link *link;

    channel_set_flush(set);
    /* What the told ones do is carried out in another turn: the roles' turn functions have had
     * theirs. */
    for (size_t left = set->telling.length;
         left > 0 && (link = list_pop_front(&set->telling)) != NULL; left--) {
        struct channel *channel = list_entry(link, struct channel, telling_link);
        int events = channel->told;
        if (channel->paused)
            events &= ~CHANNEL_READABLE;
        channel->told = 0;
        loop_turn_again(set->loop);
        if (events)
            channel->event(channel->owner, channel, events);
    }
    for (size_t left = set->resting.length; left > 0; left--) {
        link = list_pop_front(&set->resting);
        rest(list_entry(link, struct channel, resting_link));
    }
}

/* ---- life ---- */

static void watch_again(struct channel *channel)
{
    bool reads = !channel->paused && !channel->ended;
    loop_watch_change(&channel->watch,
                      (reads ? LOOP_READ : 0) | (channel->blocked ? LOOP_WRITE : 0));
}

/* To be told at the end of this turn, or of one that comes at once. */
static void tell(struct channel *channel, int event)
{
    channel->told |= event;
    if (list_linked(&channel->telling_link))
        return;
    list_push_back(&channel->set->telling, &channel->telling_link);
    loop_turn_again(channel->set->loop);
}

static void channel_ready(void *owner, int ready)
{
    struct channel *channel = owner;
    int events = 0;

    if ((ready & LOOP_WRITE) && channel->blocked) {
        channel->blocked = false;
        channel_flush(channel);
        watch_again(channel);
    }
    if ((ready & LOOP_READ) && !channel->paused && !channel->ended) {
        channel->turn_room = channel->set->turn_limit;
        events |= CHANNEL_READABLE;
    }
    if (channel->told & CHANNEL_ROOM) {
        channel->told &= ~CHANNEL_ROOM;
        events |= CHANNEL_ROOM;
    }
    if (events)
        channel->event(channel->owner, channel, events);
}

int channel_open(struct channel *channel, struct channel_set *set, int descriptor,
                 void (*event)(void *owner, struct channel *channel, int events), void *owner)
{
    ensure(event && descriptor >= 0);
    *channel =
        (struct channel){.set = set, .descriptor = descriptor, .event = event, .owner = owner};
    int rc =
        loop_watch_open(set->loop, &channel->watch, descriptor, LOOP_READ, channel_ready, channel);
    if (rc != 0) {
        socket_close(descriptor);
        channel->descriptor = -1;
    }
    return rc;
}

static void drop_output(struct channel *channel)
{
    for (uint32_t i = 0; i < channel->out_descriptor_count; i++)
        socket_close(channel->out_descriptors[i].descriptor);
    channel->out_descriptor_count = 0;
    channel->out = mem_free(channel->out);
    channel->out_start = channel->out_end = channel->out_capacity = 0;
    channel->blocked = channel->was_full = false;
    list_remove(&channel->dirty_link);
}

void channel_close(struct channel *channel)
{
    if (!channel->set || !channel_is_open(channel))
        return;
    loop_watch_close(&channel->watch);
    drop_output(channel);
    list_remove(&channel->telling_link);
    list_remove(&channel->resting_link);
    for (uint32_t i = 0; i < channel->in_descriptor_count; i++)
        socket_close(channel->in_descriptors[i]);
    channel->in_descriptor_count = 0;
    channel->in = buffer_unref(channel->in);
    channel->in_start = channel->in_end = 0;
    channel->ended = true;
    socket_close(channel->descriptor);
    channel->descriptor = -1;
}

static void end(struct channel *channel, int error)
{
    channel->ended = true;
    if (channel->error == 0)
        channel->error = error;
    drop_output(channel);
    watch_again(channel);
    tell(channel, CHANNEL_CLOSED);
}

/* ---- in ---- */

static uint32_t payload_size(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Bytes of the frame that begins at in_start, as far as is known. */
static size_t begun_size(const struct channel *channel)
{
    size_t unread = channel->in_end - channel->in_start;
    if (unread < sizeof(uint32_t))
        return FRAME_HEADER_SIZE;
    size_t size = payload_size(channel->in->data + channel->in_start);
    return FRAME_HEADER_SIZE +
           (size <= channel->set->frame_limit ? size : 0); /* else channel_take says broken */
}

/* Room for what follows in_end: the rest of the begun frame, and enough to be worth a system call.
 */
static int make_room(struct channel *channel)
{
    struct buffer *in = channel->in;
    size_t unread = channel->in_end - channel->in_start;
    size_t wanted = FRAME_HEADER_SIZE;
    if (in) {
        if (unread > 0)
            wanted = begun_size(channel);
        else if (buffer_references(in) == 1)
            channel->in_start = channel->in_end = 0;
        if (channel->in_start + wanted <= in->capacity &&
            in->capacity - channel->in_end >= CHANNEL_ROOM_LEAST)
            return 0;
        if (wanted <= in->capacity && buffer_references(in) == 1) {
            memmove(in->data, in->data + channel->in_start, unread);
            channel->in_start = 0;
            channel->in_end = unread;
            if (in->capacity > unread)
                return 0;
        }
        if (unread >= wanted)
            return -EAGAIN; /* a whole frame waits to be taken */
    }
    if (wanted < unread + CHANNEL_ROOM_LEAST)
        wanted = unread + CHANNEL_ROOM_LEAST;
    if (wanted < CHANNEL_BUFFER_SIZE)
        wanted = CHANNEL_BUFFER_SIZE;
    struct buffer *larger = buffer_try_new(channel->set->buffers, wanted);
    if (!larger)
        return -ENOMEM;
    if (unread > 0)
        memcpy(larger->data, in->data + channel->in_start, unread);
    buffer_unref(in);
    channel->in = larger;
    channel->in_start = 0;
    channel->in_end = unread;
    return 0;
}

ssize_t channel_receive(struct channel *channel)
{
    if (channel->ended)
        return -1;
    if (channel->turn_room == 0 || channel->paused)
        return 0;
    int rc = make_room(channel);
    if (rc == -EAGAIN)
        return 0;
    if (rc != 0) {
        end(channel, rc);
        return -1;
    }
    if (!list_linked(&channel->resting_link))
        list_push_back(&channel->set->resting, &channel->resting_link);

    size_t room = channel->in->capacity - channel->in_end;
    if (room > channel->turn_room)
        room = channel->turn_room;
    int descriptor;
    ssize_t got = socket_read_with(channel->descriptor, channel->in->data + channel->in_end, room,
                                   &descriptor);
    if (descriptor >= 0) {
        if (channel->in_descriptor_count < CHANNEL_DESCRIPTOR_LIMIT)
            channel->in_descriptors[channel->in_descriptor_count++] = descriptor;
        else
            socket_close(descriptor); /* a peer cannot fill our table */
    }
    if (got > 0) {
        channel->in_end += (size_t)got;
        /* A short read has emptied the socket, unless it ended at a descriptor; readiness tells
         * either way. */
        channel->turn_room = (size_t)got < room ? 0 : channel->turn_room - (size_t)got;
        return got;
    }
    channel->turn_room = 0;
    if (got == -EAGAIN && !channel->deaf)
        return 0;
    end(channel, (int)got);
    return -1;
}

enum channel_taken channel_take(struct channel *channel, struct bytes *ret_frame)
{
    size_t unread = channel->in_end - channel->in_start;
    if (unread < sizeof(uint32_t))
        return CHANNEL_NO_FRAME;
    const uint8_t *at = channel->in->data + channel->in_start;
    size_t size = payload_size(at);
    if (size > channel->set->frame_limit)
        return CHANNEL_BROKEN;
    if (unread < FRAME_HEADER_SIZE + size)
        return CHANNEL_NO_FRAME;
    *ret_frame = bytes_of(at, FRAME_HEADER_SIZE + size);
    channel->in_start += ret_frame->size;
    return CHANNEL_FRAME;
}

struct buffer *channel_buffer(struct channel *channel)
{
    ensure(channel->in);
    return channel->in;
}

int channel_take_descriptor(struct channel *channel)
{
    if (channel->in_descriptor_count == 0)
        return -1;
    int descriptor = channel->in_descriptors[0];
    channel->in_descriptor_count--;
    memmove(channel->in_descriptors, channel->in_descriptors + 1,
            channel->in_descriptor_count * sizeof(int));
    return descriptor;
}

void channel_pause(struct channel *channel, bool paused)
{
    if (!channel_is_open(channel) || channel->paused == paused)
        return;
    channel->paused = paused;
    watch_again(channel);
    if (!paused && !channel->ended && (channel->in_end > channel->in_start || channel->deaf)) {
        channel->turn_room = channel->set->turn_limit;
        tell(channel, CHANNEL_READABLE);
    }
}

/* ---- out ---- */

size_t channel_unsent(const struct channel *channel)
{
    return channel->out_end - channel->out_start;
}

static void slide_output(struct channel *channel, uint8_t *to)
{
    if (channel_unsent(channel) > 0)
        memmove(to, channel->out + channel->out_start, channel_unsent(channel));
    for (uint32_t i = 0; i < channel->out_descriptor_count; i++)
        channel->out_descriptors[i].at -= channel->out_start;
    channel->out_end -= channel->out_start;
    channel->out_start = 0;
}

/* Room for `size` more bytes in the block.  It grows by doubling and slides only when at least a
 * quarter is sent. */
static int grow_output(struct channel *channel, size_t size)
{
    if (channel->out_capacity - channel->out_end >= size)
        return 0;
    size_t needed = channel_unsent(channel) + size;
    if (needed <= channel->out_capacity && channel->out_start >= channel->out_capacity / 4) {
        slide_output(channel, channel->out);
        return 0;
    }
    size_t capacity = channel->out_capacity ? channel->out_capacity : CHANNEL_OUT_FIRST;
    while (capacity < needed || capacity == channel->out_capacity)
        capacity *= 2;
    uint8_t *larger = mem_try(capacity);
    if (!larger)
        return -ENOMEM;
    slide_output(channel, larger);
    mem_free(channel->out);
    channel->out = larger;
    channel->out_capacity = capacity;
    return 0;
}

static uint8_t *put_room(struct channel *channel, size_t size, size_t limit)
{
    if (!channel_is_open(channel) || channel->ended || channel->deaf)
        return NULL;
    size_t unsent = channel_unsent(channel);
    if ((unsent > 0 && unsent + size > limit) || grow_output(channel, size) != 0) {
        channel->was_full = true;
        if (unsent == 0)
            tell(channel, CHANNEL_ROOM); /* memory lacked: no write will tell that there is room */
        return NULL;
    }
    return channel->out + channel->out_end;
}

uint8_t *channel_put_room(struct channel *channel, size_t size)
{
    return put_room(channel, size, channel->set->queue_limit);
}

uint8_t *channel_put_room_always(struct channel *channel, size_t size)
{
    return put_room(channel, size, channel->set->queue_limit + CHANNEL_OVERDRAFT);
}

void channel_put_done(struct channel *channel, size_t size)
{
    ensure(size <= channel->out_capacity - channel->out_end);
    channel->out_end += size;
    if (size > 0 && !channel->blocked && !list_linked(&channel->dirty_link))
        list_push_back(&channel->set->dirty, &channel->dirty_link);
}

bool channel_has_descriptor_room(const struct channel *channel)
{
    return channel->out_descriptor_count < CHANNEL_DESCRIPTOR_LIMIT;
}

void channel_put_descriptor(struct channel *channel, int descriptor)
{
    uint32_t count = channel->out_descriptor_count;
    ensure(descriptor >= 0 && channel_has_descriptor_room(channel));
    ensure(count == 0 || channel->out_descriptors[count - 1].at < channel->out_end);
    if (!channel_is_open(channel) || channel->ended || channel->deaf) {
        socket_close(descriptor);
        return;
    }
    channel->out_descriptors[count] =
        (struct channel_passed){.descriptor = descriptor, .at = channel->out_end};
    channel->out_descriptor_count++;
}

/* Whether the next write takes a descriptor along. */
static bool passes_now(const struct channel *channel)
{
    return channel->out_descriptor_count > 0 &&
           channel->out_descriptors[0].at == channel->out_start;
}

/* Bytes of the next write: up to the byte that takes the next descriptor along. */
static size_t write_size(const struct channel *channel)
{
    uint32_t next = passes_now(channel) ? 1 : 0;
    if (next < channel->out_descriptor_count &&
        channel->out_descriptors[next].at < channel->out_end)
        return channel->out_descriptors[next].at - channel->out_start;
    return channel_unsent(channel);
}

static ssize_t write_output(struct channel *channel, size_t size)
{
    struct iovec part = {.iov_base = channel->out + channel->out_start, .iov_len = size};
    if (!passes_now(channel))
        return socket_write(channel->descriptor, &part, 1);
    ssize_t sent =
        socket_write_with(channel->descriptor, &part, 1, channel->out_descriptors[0].descriptor);
    if (sent > 0) {
        socket_close(channel->out_descriptors[0].descriptor);
        channel->out_descriptor_count--;
        memmove(channel->out_descriptors, channel->out_descriptors + 1,
                channel->out_descriptor_count * sizeof *channel->out_descriptors);
    }
    return sent;
}

/* Nothing can be sent any more; what arrived before is still received. */
static void write_failed(struct channel *channel, int error)
{
    drop_output(channel);
    channel->deaf = true;
    channel->error = error;
    watch_again(channel);
    if (!channel->paused && !channel->ended) {
        channel->turn_room = channel->set->turn_limit;
        tell(channel, CHANNEL_READABLE);
    }
}

/* Memory and news after bytes have left. */
static void output_shrank(struct channel *channel)
{
    if (channel_unsent(channel) == 0 && channel->out_descriptor_count == 0) {
        channel->out_start = channel->out_end = 0;
        if (channel->out_capacity > CHANNEL_OUT_KEPT) {
            channel->out = mem_free(channel->out);
            channel->out_capacity = 0;
        }
    }
    if (channel->was_full && channel_unsent(channel) <= channel->set->queue_limit / 2) {
        channel->was_full = false;
        tell(channel, CHANNEL_ROOM);
    }
}

/* Too many descriptors are on their way: others must be received first. */
static void wait_for_crowd(struct channel *channel)
{
    struct channel_set *set = channel->set;
    list_push_back(&set->crowded, &channel->dirty_link);
    if (!set->crowd_timer.due_ns)
        loop_timer_set(&set->crowd_timer, loop_now_ns(set->loop) + CROWD_PAUSE_NS);
}

void channel_flush(struct channel *channel)
{
    list_remove(&channel->dirty_link);
    if (!channel_is_open(channel) || channel->blocked)
        return;
    while (channel_unsent(channel) > 0 && !channel->blocked) {
        size_t asked = write_size(channel);
        ssize_t sent = write_output(channel, asked);
        if (sent == -ETOOMANYREFS) {
            wait_for_crowd(channel);
            break;
        }
        if (sent < 0 && sent != -EAGAIN) {
            write_failed(channel, (int)sent);
            return;
        }
        channel->out_start += sent > 0 ? (size_t)sent : 0;
        channel->blocked = sent < 0 || (size_t)sent < asked;
    }
    if (channel->blocked)
        watch_again(channel);
    output_shrank(channel);
}
