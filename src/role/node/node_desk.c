/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_desk: node.sock, where the controller commands replicas.
 *
 * Whoever connects must be of this user and say hello as the controller; the newest one that did is
 * the controller, since an older connection can only be that of a dead one.  Others connect just to
 * see whether the instance lives.  A hello that brings a descriptor (WIRE_DESCRIPTOR) is that of a
 * process that an earlier node started; a role_here follows, and the connection then only tells it
 * that this node lives (node_return.c).
 *
 *     replica_start  ->  replica_here, when a zygote makes it perhaps later, or an outcome with
 *                        the error and a replica_exit; in both the stream is the replica's id
 *     replica_stop   ->  replica_exit once it is gone; at once for one that is not known
 *     replica_list   ->  a replica_here for each and one outcome, on stream 0
 *     instance_end
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "node.h"
#include "socket.h"

enum { DESK_BACKLOG = 64, DESK_PAUSE_MS = 50 };

static const int64_t NS_PER_MS = 1000000;

static void guest_free(struct node_guest *guest)
{
    struct node *node = guest->node;
    if (node->controller_guest == guest)
        node->controller_guest = NULL;
    list_remove(&guest->link);
    loop_timer_clear(&guest->timer);
    channel_close(&guest->channel);
    socket_close(guest->brought);
    mem_free(guest);
}

/* ---- what is said ---- */

/* False: there is no room now. */
static bool put_here(struct node_guest *guest, const struct node_replica *replica, uint64_t stream)
{
    struct wire_replica_here here = {.replica = replica->id,
                                     .pid = replica->pid,
                                     .app = bytes_of_string(replica->app),
                                     .deployment = bytes_of_string(replica->deployment)};
    uint8_t *room = channel_put_room_always(&guest->channel, wire_replica_here_size(&here));
    if (!room)
        return false;
    channel_put_done(&guest->channel, wire_replica_here_write(&here, 0, stream, false, room));
    return true;
}

static bool put_outcome(struct node_guest *guest, const struct error *error, uint64_t stream)
{
    struct wire_outcome outcome = {.code = error->code, .text = bytes_of_string(error->text)};
    uint8_t *room = channel_put_room_always(&guest->channel, wire_outcome_size(&outcome));
    if (!room)
        return false;
    channel_put_done(&guest->channel, wire_outcome_write(&outcome, 0, stream, false, room));
    return true;
}

static bool put_exit(struct node_guest *guest, const struct wire_replica_exit *gone)
{
    uint8_t *room = channel_put_room_always(&guest->channel, wire_replica_exit_size(gone));
    if (!room)
        return false;
    channel_put_done(&guest->channel, wire_replica_exit_write(gone, 0, gone->replica, false, room));
    return true;
}

void node_desk_tell_start(struct node *node, const struct node_replica *replica)
{
    struct node_guest *guest = node->controller_guest;
    if (guest && !put_here(guest, replica, replica->id))
        guest_free(guest); /* it asks for a list when it is back */
}

static bool put_failure(struct node_guest *guest, uint64_t replica, const struct error *error)
{
    struct wire_replica_exit gone = {.replica = replica, .exit_code = -1};
    return put_outcome(guest, error, replica) && put_exit(guest, &gone);
}

void node_desk_tell_failure(struct node *node, uint64_t replica, const struct error *error)
{
    struct node_guest *guest = node->controller_guest;
    if (guest && !put_failure(guest, replica, error))
        guest_free(guest);
}

/* From the first whole line on, when there was more. */
static struct bytes last_words(const struct node_replica *replica)
{
    struct bytes words = bytes_of(replica->words, replica->words_size);
    ptrdiff_t end = replica->words_cut ? bytes_find(words, '\n') : -1;
    return end >= 0 && (size_t)end + 1 < words.size ? bytes_skip(words, (size_t)end + 1) : words;
}

void node_desk_tell_exits(struct node *node)
{
    struct list_link *link;
    while (node->controller_guest && (link = list_first(&node->untold))) {
        struct node_replica *replica = list_entry(link, struct node_replica, untold_link);
        struct wire_replica_exit gone = {.replica = replica->id,
                                         .pid = replica->pid,
                                         .exit_code = replica->exit_code,
                                         .signal = replica->signal_number,
                                         .text = last_words(replica)};
        if (!put_exit(node->controller_guest, &gone))
            return; /* CHANNEL_ROOM brings us back */
        node_replica_forget(replica);
    }
}

/* ---- what is asked ---- */

static bool on_start(struct node_guest *guest, struct bytes payload)
{
    struct wire_replica_start start;
    struct node_replica *replica;
    struct error error = {0};
    if (wire_replica_start_read(&start, payload) < 0)
        return false;
    if (node_replica_start(guest->node, &start, &replica, &error) == 0)
        return replica->order || put_here(guest, replica, start.replica);
    log_print(LOG_ERROR, "replica %llu of deployment '%.*s' could not be started: %s",
              (unsigned long long)start.replica, BYTES_PRINT(start.deployment), error.text);
    return put_failure(guest, start.replica, &error);
}

static bool on_stop(struct node_guest *guest, struct bytes payload)
{
    struct wire_replica_stop stop;
    if (wire_replica_stop_read(&stop, payload) < 0)
        return false;
    struct node_replica *replica = map_get(&guest->node->replicas, stop.replica);
    struct wire_replica_exit gone = {.replica = stop.replica, .exit_code = -1};
    if (!replica)
        return put_exit(guest, &gone);
    node_replica_signal(replica, stop.kill);
    return true;
}

static bool on_list(struct node_guest *guest)
{
    struct map_entry *entry;
    struct error none = {0};
    guest->list_wanted = guest->node->returning;
    if (guest->list_wanted)
        return true; /* what is still to come would be missing */
    map_each (entry, &guest->node->replicas) {
        const struct node_replica *replica = entry->value;
        if ((replica->running || replica->order) && !put_here(guest, replica, 0))
            return false;
    }
    return put_outcome(guest, &none, 0);
}

void node_desk_tell_lists(struct node *node)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &node->guests) {
        struct node_guest *guest = list_entry(link, struct node_guest, link);
        if (guest->list_wanted && !on_list(guest))
            guest_free(guest);
    }
}

static bool put_hello(struct node_guest *guest)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_NODE, 0, bytes_of_string(guest->node->instance.name));
    hello.pid = (uint32_t)getpid();
    uint8_t *room = channel_put_room_always(&guest->channel, wire_hello_size(&hello));
    if (!room)
        return false;
    channel_put_done(&guest->channel, wire_hello_write(&hello, 0, 0, false, room));
    return true;
}

static bool on_hello(struct node_guest *guest, bool returns, struct bytes payload)
{
    struct node *node = guest->node;
    struct wire_hello hello;
    uint16_t version;
    const char *reason = "it is not the controller";
    if (wire_hello_read(&hello, payload) < 0 || wire_hello_check(&hello, &version, &reason) < 0 ||
        (!returns && hello.role != WIRE_ROLE_CONTROLLER)) {
        log_print(LOG_WARNING, "a connection to the node's socket is refused: %s", reason);
        return false;
    }
    guest->returns = returns;
    guest->brought = channel_take_descriptor(&guest->channel);
    if (returns)
        return true; /* it is answered when it has said which one it is */
    if (!put_hello(guest))
        return false;
    if (node->controller_guest)
        guest_free(node->controller_guest);
    node->controller_guest = guest;
    guest->greeted = true;
    loop_timer_clear(&guest->timer);
    node_on_controller(node);
    node_desk_tell_exits(node);
    return true;
}

/* What it says afterwards, if anything, is nothing to us. */
static bool on_return(struct node_guest *guest, uint8_t type, struct bytes payload)
{
    struct wire_role_here here;
    if (guest->greeted)
        return true;
    if (type != WIRE_ROLE_HERE_FRAME || wire_role_here_read(&here, payload) < 0 ||
        !node_return_take(guest, &here) || !put_hello(guest))
        return false;
    guest->greeted = true;
    loop_timer_clear(&guest->timer);
    node_return_check(guest->node);
    return true;
}

/* False: the peer broke the protocol, or cannot be answered. */
static bool on_frame(struct node_guest *guest, struct bytes frame)
{
    struct wire_header header;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (guest->returns)
        return on_return(guest, header.type, payload);
    if (!guest->greeted)
        return header.type == WIRE_HELLO_FRAME &&
               on_hello(guest, header.flags & WIRE_DESCRIPTOR, payload);
    switch (header.type) {
    case WIRE_REPLICA_START_FRAME:
        return on_start(guest, payload);
    case WIRE_REPLICA_STOP_FRAME:
        return on_stop(guest, payload);
    case WIRE_REPLICA_LIST_FRAME:
        return on_list(guest);
    case WIRE_INSTANCE_END_FRAME:
        node_end(guest->node, "the instance was shut down", guest->node->settings.drain_timeout_ms);
        return true;
    case WIRE_HELLO_FRAME:
        return false;
    default:
        return true; /* of a newer version */
    }
}

static bool take_frames(struct node_guest *guest)
{
    enum channel_taken taken;
    struct bytes frame;
    ssize_t size;
    do {
        size = channel_receive(&guest->channel);
        while ((taken = channel_take(&guest->channel, &frame)) == CHANNEL_FRAME)
            if (!on_frame(guest, frame)) {
                metric_add(peer_glitches_total, 1);
                return false;
            }
    } while (size > 0 && taken != CHANNEL_BROKEN);
    return size >= 0 && taken != CHANNEL_BROKEN;
}

static void guest_event(void *owner, struct channel *channel, int events)
{
    struct node_guest *guest = owner;
    struct node *node = guest->node;
    (void)channel;
    bool good = !(events & (CHANNEL_READABLE | CHANNEL_CLOSED)) || take_frames(guest);
    if (good && !(events & CHANNEL_CLOSED)) {
        if (events & CHANNEL_ROOM && node->controller_guest == guest)
            node_desk_tell_exits(node);
        return;
    }
    guest_free(guest);
}

/* ---- connections ---- */

static void hello_late(void *owner)
{
    guest_free(owner);
}

static void welcome(struct node *node, int descriptor)
{
    pid_t pid = 0;
    if (node->guests.length >= NODE_GUEST_LIMIT + (size_t)node->settings.replica_limit ||
        socket_check_peer(descriptor, &pid) < 0) {
        socket_close(descriptor);
        return;
    }
    struct node_guest *guest = mem_new(sizeof *guest);
    guest->node = node;
    guest->pid = pid;
    guest->brought = -1;
    loop_timer_init(node->loop, &guest->timer, hello_late, guest);
    if (channel_open(&guest->channel, &node->channels, descriptor, guest_event, guest) < 0) {
        mem_free(guest);
        return;
    }
    list_push_back(&node->guests, &guest->link);
    loop_timer_set(&guest->timer,
                   loop_now_ns(node->loop) + node->settings.wire_hello_timeout_ms * NS_PER_MS);
}

static void desk_again(void *owner)
{
    struct node *node = owner;
    loop_watch_change(&node->desk_watch, LOOP_READ);
}

static void desk_ready(void *owner, int events)
{
    struct node *node = owner;
    (void)events;
    for (int i = 0; i < NODE_GUEST_LIMIT; i++) {
        int descriptor = socket_accept(node->desk_watch.descriptor);
        if (descriptor == -EAGAIN)
            return;
        if (descriptor < 0) { /* descriptors or memory lack: whoever waits goes on waiting */
            loop_watch_change(&node->desk_watch, 0);
            loop_timer_set(&node->desk_timer, loop_now_ns(node->loop) + DESK_PAUSE_MS * NS_PER_MS);
            return;
        }
        welcome(node, descriptor);
    }
}

int node_desk_open(struct node *node, struct error *reterr)
{
    int descriptor = socket_listen_unix(node->instance.node_socket, DESK_BACKLOG, reterr);
    if (descriptor < 0)
        return error_set(reterr, reterr->code,
                         reterr->code == ERROR_EXISTS ? "instance '%s' runs already"
                                                      : "the socket of instance '%s' is not usable",
                         node->instance.name);
    loop_timer_init(node->loop, &node->desk_timer, desk_again, node);
    int code =
        loop_watch_open(node->loop, &node->desk_watch, descriptor, LOOP_READ, desk_ready, node);
    if (code < 0) {
        socket_close(descriptor);
        return error_set(reterr, ERROR_SYSTEM, "the node's socket cannot be watched");
    }
    return 0;
}

void node_desk_close(struct node *node)
{
    struct list_link *link;
    int descriptor = node->desk_watch.handle ? node->desk_watch.descriptor : -1;
    while ((link = list_first(&node->guests)))
        guest_free(list_entry(link, struct node_guest, link));
    loop_timer_clear(&node->desk_timer);
    loop_watch_close(&node->desk_watch);
    socket_close(descriptor);
}
