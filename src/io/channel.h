/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: a connection that carries frames both ways, read in bulk and flushed once per turn.
 *
 * It knows only the outer shape of a frame (16 bytes of header whose first four, little-endian, count what
 * follows); proto/wire gives frames their meaning.  Received frames are slices of a ref-counted buffer: valid until
 * the next channel_receive, or for as long as the caller holds a reference to channel_buffer.
 * A turn of its owner: channel_receive when readable; channel_take until it says no; put answers; the end of the turn
 * flushes (channels with something to send are on the set's dirty list, served in turn).
 */
#ifndef MANTA_IO_CHANNEL_H
#define MANTA_IO_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "bytes.h"
#include "list.h"
#include "loop.h"

/* What the channels of one loop share. */
struct channel_set {
    struct loop         *loop;
    struct buffer_store *buffers;     /* 64 KiB ones */
    struct list          dirty;       /* channels with unflushed output, first come first served */
    struct loop_turn     flush_turn;  /* registered LAST by channel_set_init's caller order: see channel_set_init */
    size_t               frame_limit; /* payload bytes accepted */
    size_t               queue_limit; /* unsent bytes per channel */
    size_t               turn_limit;  /* bytes received per channel and turn */
};

struct channel_config {
    size_t frame_limit, queue_limit, turn_limit;
    uint32_t buffer_keep; /* free 64 KiB buffers kept for reuse */
};

int  channel_set_init(struct channel_set *set, struct loop *loop, const struct channel_config *config);
void channel_set_done(struct channel_set *set); /* every channel is closed before */
/* Flushes every dirty channel now (the helm does this before it polls; loop turns do it by themselves). */
void channel_set_flush(struct channel_set *set);

enum channel_event { CHANNEL_READABLE = 1, CHANNEL_CLOSED = 2, CHANNEL_ROOM = 4 };

struct channel {
    struct channel_set *set;
    struct loop_watch   watch;
    struct list_link    dirty_link;
    int                 descriptor;      /* -1 when closed */
    struct buffer      *in;              /* received bytes */
    size_t              in_start, in_end;/* unread bytes of `in` */
    int                 in_descriptor;   /* came with the bytes, not yet taken; -1: none */
    uint8_t            *out;             /* unsent bytes, a ring or a sliding block; private to channel.c */
    size_t              out_start, out_end, out_capacity;
    int                 out_descriptor;  /* goes with the byte at out_descriptor_at; -1: none */
    size_t              out_descriptor_at;
    bool                paused;          /* reads stopped by channel_pause */
    bool                ended;           /* peer closed or an error: -errno in `error` */
    int                 error;
    bool                was_full;        /* somebody was refused room: CHANNEL_ROOM is due */
    void              (*event)(void *owner, struct channel *channel, int events);
    void               *owner;
};

/* Takes the descriptor over.  The event function is called from the loop, at most once per turn and event. */
int  channel_open(struct channel *channel, struct channel_set *set, int descriptor,
                  void (*event)(void *owner, struct channel *channel, int events), void *owner);
void channel_close(struct channel *channel); /* drops what is unsent; null watch and -1 descriptor after */
static inline bool channel_is_open(const struct channel *channel) { return channel->descriptor >= 0; }

/* Reads what is there, up to the turn's limit: bytes read, 0 when none, -1 when the channel ended (whole frames that arrived before can still be taken). */
ssize_t channel_receive(struct channel *channel);
enum channel_taken { CHANNEL_NO_FRAME = 0, CHANNEL_FRAME = 1, CHANNEL_BROKEN = -1 /* frame over the limit */ };
/* The next whole frame, header included. */
enum channel_taken channel_take(struct channel *channel, struct bytes *ret_frame);
/* The buffer that holds the frame just taken, to keep it by buffer_ref. */
struct buffer *channel_buffer(struct channel *channel);
/* The descriptor that came along, now the caller's; -1 when none. */
int  channel_take_descriptor(struct channel *channel);
/* Stops and resumes reading (back-pressure). */
void channel_pause(struct channel *channel, bool paused);

/*
 * Memory for `size` bytes of output, or null when the queue is full (then CHANNEL_ROOM comes later) or the channel
 * ended.  channel_put_done says how much of it was used; nothing else may happen between the two.  Control frames use
 * channel_put_room_always, which may pass the queue limit by at most 64 KiB in all.
 */
uint8_t *channel_put_room(struct channel *channel, size_t size);
uint8_t *channel_put_room_always(struct channel *channel, size_t size);
void     channel_put_done(struct channel *channel, size_t size);
/* Sends a descriptor with the first byte that is put after this call; it is closed once sent. */
void     channel_put_descriptor(struct channel *channel, int descriptor);
size_t   channel_unsent(const struct channel *channel);
/* Writes what the kernel takes now. */
void     channel_flush(struct channel *channel);

#endif
