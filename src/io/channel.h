/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: a connection that carries frames both ways, read in bulk and flushed once per turn.
 *
 * It knows only the outer shape of a frame (16 bytes of header whose first four, little-endian, count what
 * follows); proto/wire gives frames their meaning.  Received frames are slices of a ref-counted buffer: valid until
 * the next channel_receive or the end of the turn, or for as long as the caller holds a reference to channel_buffer.
 * A turn of its owner: channel_receive when readable; channel_take until it says no; put answers; the end of the turn
 * flushes (channels with something to send are on the set's dirty list, served in turn).
 *
 *     case CHANNEL_READABLE:
 *         while (channel_receive(channel) > 0)          at most turn_limit bytes, no needless system call
 *             while (channel_take(channel, &frame) == CHANNEL_FRAME)
 *                 ...
 *
 * The end of a channel is told as CHANNEL_CLOSED, once and after everything that arrived before was offered, also
 * to an owner who has seen the -1 of channel_receive and did not close it.  A failed write waits for the reader to reach
 * the end, so that answers which arrived before are not lost.
 */
#ifndef MANTA_IO_CHANNEL_H
#define MANTA_IO_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buffer.h"
#include "bytes.h"
#include "list.h"
#include "loop.h"

/* What the channels of one loop share. */
struct parcel_desk; /* src/parcel */
struct channel_set {
    struct loop         *loop;
    struct buffer_store *buffers;     /* standard ones hold a frame with a body of 64 KiB */
    struct list          dirty;       /* channels with output to flush, first come first served */
    struct list          telling;     /* channels with events that are told at the end of the turn */
    struct list          resting;     /* channels that received in this turn */
    struct list          crowded;     /* of dirty_link: too many descriptors are on their way for another */
    struct loop_timer    crowd_timer; /* they try again */
    struct parcel_desk  *parcels;     /* where bodies by reference are kept; null: none of these channels carries any */
    struct loop_turn     flush_turn;  /* among the loop's last ones: after every role's turn */
    size_t               frame_limit; /* payload bytes accepted */
    size_t               queue_limit; /* unsent bytes per channel */
    size_t               turn_limit;  /* bytes received per channel and turn */
};

struct channel_config {
    size_t frame_limit, queue_limit, turn_limit;
    uint32_t buffer_keep; /* free standard buffers kept for reuse */
};

int  channel_set_init(struct channel_set *set, struct loop *loop, const struct channel_config *config);
void channel_set_done(struct channel_set *set); /* every channel is closed before */
/* Flushes every dirty channel now (the helm does this before it polls; loop turns do it by themselves). */
void channel_set_flush(struct channel_set *set);

enum { CHANNEL_DESCRIPTOR_LIMIT = 8 }; /* that wait in a channel, in each direction */

enum channel_event { CHANNEL_READABLE = 1, CHANNEL_CLOSED = 2, CHANNEL_ROOM = 4 };

/* Zeroed before first use; the members are channel.c's, but for event and owner. */
struct channel {
    struct channel_set *set;
    struct loop_watch   watch;
    struct list_link    dirty_link;      /* on set->dirty */
    struct list_link    telling_link;    /* on set->telling */
    struct list_link    resting_link;    /* on set->resting */
    int                 descriptor;      /* -1 when closed */
    struct buffer      *in;              /* received bytes; null at rest */
    size_t              in_start, in_end;/* unread bytes of `in` */
    size_t              turn_room;       /* bytes that may still be received in this turn */
    int                 in_descriptors[CHANNEL_DESCRIPTOR_LIMIT]; /* came with the bytes, not yet taken */
    uint32_t            in_descriptor_count;
    uint8_t            *out;             /* unsent bytes, a block that grows */
    size_t              out_start, out_end, out_capacity;
    struct channel_passed {
        int    descriptor;
        size_t at;                       /* it goes with this byte of `out` */
    } out_descriptors[CHANNEL_DESCRIPTOR_LIMIT]; /* in the order of their bytes */
    uint32_t            out_descriptor_count;
    int                 told;            /* enum channel_event still to be told */
    int                 error;           /* why it ended: 0 by the peer, or -errno */
    bool                paused;          /* reads stopped by channel_pause */
    bool                blocked;         /* the kernel took no more: waits for LOOP_WRITE */
    bool                deaf;            /* a write failed: nothing is sent any more, `error` says why */
    bool                ended;           /* nothing will arrive any more */
    bool                was_full;        /* somebody was refused room: CHANNEL_ROOM is due */
    void              (*event)(void *owner, struct channel *channel, int events);
    void               *owner;
};

/*
 * Takes the descriptor over (closed when this fails: -errno).  The event function is called from the loop and may close
 * and free its channel.
 */
int  channel_open(struct channel *channel, struct channel_set *set, int descriptor,
                  void (*event)(void *owner, struct channel *channel, int events), void *owner);
void channel_close(struct channel *channel); /* drops what is unsent; null watch and -1 descriptor after */
static inline bool channel_is_open(const struct channel *channel) { return channel->descriptor >= 0; }

/*
 * Reads what is there, up to the turn's limit: bytes read, 0 when none, -1 when the channel ended (whole frames that
 * arrived before can still be taken).
 */
ssize_t channel_receive(struct channel *channel);
/*
 * Everything received was taken and nothing of it is looked at any more: its memory serves the next channel already in this
 * turn.  For owners of very many channels with small frames; without it the end of the turn does the same.
 */
void channel_rest(struct channel *channel);
enum channel_taken { CHANNEL_NO_FRAME = 0, CHANNEL_FRAME = 1, CHANNEL_BROKEN = -1 /* frame over the limit */ };
/* The next whole frame, header included. */
enum channel_taken channel_take(struct channel *channel, struct bytes *ret_frame);
/* The buffer that holds the frame just taken, to keep it by buffer_ref. */
struct buffer *channel_buffer(struct channel *channel);
/*
 * The oldest descriptor that came along, now the caller's; -1 when none.  A descriptor comes with the first byte of its
 * frame and nothing is received behind it in the same call: whoever takes all whole frames before he receives again
 * finds it when he takes its frame.
 */
int  channel_take_descriptor(struct channel *channel);
/* Stops and resumes reading (back-pressure).  After resuming CHANNEL_READABLE comes for frames not yet taken, too. */
void channel_pause(struct channel *channel, bool paused);

/*
 * Memory for `size` bytes of output, or null when the queue is full (then CHANNEL_ROOM comes later) or the channel
 * ended.  channel_put_done says how much of it was used; nothing else may happen between the two.  Control frames use
 * channel_put_room_always, which may pass the queue limit by at most 64 KiB in all.  An empty queue takes a frame of any
 * size.
 */
uint8_t *channel_put_room(struct channel *channel, size_t size);
uint8_t *channel_put_room_always(struct channel *channel, size_t size);
void     channel_put_done(struct channel *channel, size_t size);
/* False: as many descriptors as a channel holds wait to be sent. */
bool     channel_has_descriptor_room(const struct channel *channel);
/*
 * Sends a descriptor with the first byte that is put after this call, of which there must be one before the next
 * descriptor; it is closed once sent.
 */
void     channel_put_descriptor(struct channel *channel, int descriptor);
size_t   channel_unsent(const struct channel *channel);
/* Writes what the kernel takes now. */
void     channel_flush(struct channel *channel);

#endif
