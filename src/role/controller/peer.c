/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer: connections to controller.sock.
 *
 * The first frame in both directions is a hello; what a peer may say afterwards depends on what it
 * is.  A peer's frames are taken one after the other, and each event that they make is finished
 * before the next; a peer is freed only by its own event or at the end of the turn, so that what is
 * performed meanwhile may speak to every peer.
 *
 * Heartbeats: every ping_period_ms each replica is asked for a pong.  The mind is told of those
 * that have not answered the last time, or whose connection is gone, in every round, and of the
 * first answer after that; what it means is the mind's to say, and a death the engine's to tell.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "conduct.h"
#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"

enum { ACCEPTS_PER_TURN = 256, ACCEPT_PAUSE_MS = 100, PINGS_AT_ONCE = 64, PING_PARTS = 32 };

static const int64_t NS_PER_MS = 1000000;

static void peer_free(struct peer *peer)
{
    struct conduct *conduct = peer->conduct;
    if (peer->replica && map_get(&conduct->replicas, peer->replica) == peer)
        map_remove(&conduct->replicas, peer->replica);
    if (peer->role == WIRE_ROLE_PROXY || peer->role == WIRE_ROLE_REPLICA)
        log_print(LOG_INFO, "%s (process %u) left", peer->name, peer->pid);
    questions_drop(peer);
    list_remove(&peer->link);
    list_remove(&peer->reader_link);
    list_remove(&peer->ping_link);
    loop_timer_clear(&peer->timer);
    channel_close(&peer->channel);
    mem_free(peer);
}

/* Its newest connection is gone: it is dead, or frozen, or will be back at once. */
static void tell_away(struct conduct *conduct, struct replica_id replica)
{
    struct controller_event event = {
        .type = CONTROLLER_OWES, .replica = replica, .since_ns = loop_now_ns(conduct->loop)};
    if (!replica_id_none(replica) && !peer_of_replica(conduct, replica))
        conduct_take(conduct, &event);
}

struct peer *peer_of_replica(const struct conduct *conduct, struct replica_id replica)
{
    return map_get(&conduct->replicas, replica.v);
}

uint8_t *peer_room(struct peer *peer, size_t size)
{
    uint8_t *room = peer->broken ? NULL : channel_put_room_always(&peer->channel, size);
    if (!room)
        peer->broken = peer->conduct->broken_due = true;
    return room;
}

void peers_close_broken(struct conduct *conduct)
{
    struct list_link *link, *after;
    if (!conduct->broken_due)
        return;
    conduct->broken_due = false;
    list_each_safe (link, after, &conduct->peers) {
        struct peer *peer = list_entry(link, struct peer, link);
        if (!peer->broken)
            continue;
        struct replica_id replica = {peer->replica};
        log_print(LOG_WARNING, "%s (process %u) does not take what it is told: it is left",
                  peer->name, peer->pid);
        peer_free(peer);
        tell_away(conduct, replica);
    }
}

/* ---- hello ---- */

static bool put_hello(struct peer *peer)
{
    struct wire_hello hello;
    wire_hello_fill(&hello, WIRE_ROLE_CONTROLLER, 0, BYTES("controller"));
    hello.pid = (uint32_t)getpid();
    uint8_t *room = peer_room(peer, wire_hello_size(&hello));
    if (!room)
        return false;
    channel_put_done(&peer->channel, wire_hello_write(&hello, 0, 0, false, room));
    return true;
}

/* Its older connection, if there is one, is that of a broken link: it will end by itself. */
static bool enter_replica(struct peer *peer, const struct wire_hello *hello)
{
    struct conduct *conduct = peer->conduct;
    if (hello->id == 0)
        return false;
    peer->replica = hello->id;
    peer->owing = true; /* an older connection may have owed an answer: the first one is told */
    snprintf(peer->name, sizeof peer->name, "replica %llu", (unsigned long long)hello->id);
    list_push_back(&conduct->pinged, &peer->ping_link);
    return map_try_put(&conduct->replicas, peer->replica, peer) == 0;
}

static bool on_hello(struct peer *peer, struct bytes payload)
{
    struct wire_hello hello;
    uint16_t version;
    const char *reason = "its role is not one that speaks to the controller";
    bool good = wire_hello_read(&hello, payload) == 0 &&
                wire_hello_check(&hello, &version, &reason) == 0 &&
                (hello.role == WIRE_ROLE_PROXY || hello.role == WIRE_ROLE_HANDLE ||
                 hello.role == WIRE_ROLE_REPLICA || hello.role == WIRE_ROLE_COMMAND);
    if (!good) {
        log_print(LOG_WARNING, "a connection is refused: %s", reason);
        return false;
    }
    peer->role = hello.role;
    if (hello.pid)
        peer->pid = hello.pid;
    snprintf(peer->name, sizeof peer->name, "%.*s",
             BYTES_PRINT(bytes_head(hello.name, sizeof peer->name - 1)));
    loop_timer_clear(&peer->timer);
    if (peer->role == WIRE_ROLE_REPLICA && !enter_replica(peer, &hello))
        return false;
    if (peer->role == WIRE_ROLE_PROXY || peer->role == WIRE_ROLE_REPLICA)
        log_print(LOG_INFO, "%s (process %u) is here", peer->name, peer->pid);
    return put_hello(peer);
}

/* ---- readers ---- */

static bool on_subscribe(struct peer *peer, struct bytes payload)
{
    struct wire_subscribe subscribe;
    if (wire_subscribe_read(&subscribe, payload) < 0)
        return false;
    if (!list_linked(&peer->reader_link))
        list_push_back(&peer->conduct->readers, &peer->reader_link);
    publish_to(peer);
    return true;
}

/* ---- replicas ---- */

static bool on_ready(struct peer *peer, struct bytes payload)
{
    struct wire_replica_ready ready;
    if (wire_replica_ready_read(&ready, payload) < 0 || ready.replica != peer->replica ||
        ready.address.size == 0)
        return false;
    struct controller_event event = {.type = CONTROLLER_READY,
                                     .replica = {ready.replica},
                                     .app = ready.app,
                                     .deployment = ready.deployment,
                                     .version = ready.version,
                                     .address = ready.address,
                                     .pid = (int32_t)peer->pid,
                                     .draining = ready.draining != 0,
                                     .configuration = ready.configuration,
                                     .rank = ready.rank,
                                     .world_size = ready.world_size};
    log_print(LOG_INFO, "replica %llu of deployment '%.*s' is ready",
              (unsigned long long)ready.replica, BYTES_PRINT(ready.deployment));
    conduct_take(peer->conduct, &event);
    return true;
}

static bool on_failed(struct peer *peer, struct bytes payload)
{
    struct wire_replica_failed failed;
    if (wire_replica_failed_read(&failed, payload) < 0 || failed.replica != peer->replica)
        return false;
    struct controller_event event = {.type = CONTROLLER_FAILED,
                                     .replica = {failed.replica},
                                     .code = failed.code,
                                     .text = failed.text};
    log_print(LOG_WARNING, "replica %llu failed: %.*s", (unsigned long long)failed.replica,
              BYTES_PRINT(failed.text));
    conduct_take(peer->conduct, &event);
    return true;
}

static bool on_report(struct peer *peer, struct bytes payload)
{
    struct wire_report report;
    if (wire_report_read(&report, payload) < 0)
        return false;
    struct controller_event event = {.type = CONTROLLER_HEALTH,
                                     .replica = {peer->replica},
                                     .healthy = report.healthy != 0,
                                     .text = report.text};
    if (!event.healthy)
        log_print(LOG_WARNING, "replica %llu is unhealthy: %.*s", (unsigned long long)peer->replica,
                  BYTES_PRINT(report.text));
    conduct_take(peer->conduct, &event);
    return true;
}

static bool on_pong(struct peer *peer)
{
    struct controller_event event = {.type = CONTROLLER_ANSWERS, .replica = {peer->replica}};
    bool told = peer->owing;
    if (peer->silent)
        log_print(LOG_INFO, "%s answers again", peer->name);
    peer->silent = peer->owing = false;
    peer->pinged_ns = 0;
    if (told)
        conduct_take(peer->conduct, &event);
    return true;
}

/* Of a reconfigure. */
static bool on_outcome(struct peer *peer, uint64_t token, struct bytes payload)
{
    struct wire_outcome outcome;
    if (wire_outcome_read(&outcome, payload) < 0)
        return false;
    struct controller_event event = {.type = CONTROLLER_CONFIGURED,
                                     .replica = {peer->replica},
                                     .token = token,
                                     .code = outcome.code < 0 ? outcome.code : 0,
                                     .text = outcome.text};
    if (outcome.code < 0)
        log_print(LOG_WARNING, "%s refuses its new configuration: %.*s", peer->name,
                  BYTES_PRINT(outcome.text));
    conduct_take(peer->conduct, &event);
    return true;
}

static bool replica_frame(struct peer *peer, const struct wire_header *header, struct bytes payload)
{
    switch (header->type) {
    case WIRE_REPLICA_READY_FRAME:
        return on_ready(peer, payload);
    case WIRE_REPLICA_FAILED_FRAME:
        return on_failed(peer, payload);
    case WIRE_REPORT_FRAME:
        return on_report(peer, payload);
    case WIRE_PONG_FRAME:
        return on_pong(peer);
    case WIRE_OUTCOME_FRAME:
        return on_outcome(peer, header->stream, payload);
    default:
        return false;
    }
}

static bool put_pong(struct peer *peer, struct bytes payload)
{
    struct wire_ping ping;
    if (wire_ping_read(&ping, payload) < 0)
        return false;
    struct wire_pong pong = {.token = ping.token};
    uint8_t *room = peer_room(peer, wire_pong_size(&pong));
    if (room)
        channel_put_done(&peer->channel, wire_pong_write(&pong, 0, 0, false, room));
    return room != NULL;
}

static bool reader_frame(struct peer *peer, uint8_t type, struct bytes payload)
{
    switch (type) {
    case WIRE_SUBSCRIBE_FRAME:
        return on_subscribe(peer, payload);
    case WIRE_PING_FRAME:
        return put_pong(peer, payload);
    case WIRE_PONG_FRAME:
        return true;
    default:
        return false;
    }
}

/* ---- frames ---- */

static bool on_frame(struct peer *peer, struct bytes frame)
{
    struct wire_header header;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (header.type >= WIRE_FRAME_COUNT)
        return peer->role != WIRE_ROLE_NONE; /* of a newer version */
    switch (peer->role) {
    case WIRE_ROLE_NONE:
        return header.type == WIRE_HELLO_FRAME && on_hello(peer, payload);
    case WIRE_ROLE_REPLICA:
        return replica_frame(peer, &header, payload);
    case WIRE_ROLE_COMMAND:
        return question_take(peer, &header, payload);
    default:
        return reader_frame(peer, header.type, payload);
    }
}

static bool take_frames(struct peer *peer)
{
    enum channel_taken taken;
    struct bytes frame;
    ssize_t size;
    do {
        size = channel_receive(&peer->channel);
        while ((taken = channel_take(&peer->channel, &frame)) == CHANNEL_FRAME)
            if (!on_frame(peer, frame)) {
                metric_add(peer_glitches_total, 1);
                log_print(LOG_WARNING, "%s (process %u) broke the protocol: it is left",
                          peer->name[0] ? peer->name : "a peer", peer->pid);
                return false;
            }
    } while (size > 0 && taken != CHANNEL_BROKEN);
    return size >= 0 && taken != CHANNEL_BROKEN;
}

static void peer_event(void *owner, struct channel *channel, int events)
{
    struct peer *peer = owner;
    struct conduct *conduct = peer->conduct;
    ensure(channel == &peer->channel);
    bool good = !(events & (CHANNEL_READABLE | CHANNEL_CLOSED)) || take_frames(peer);
    struct replica_id replica = {peer->replica};
    if (!good || events & CHANNEL_CLOSED) {
        peer_free(peer);
        tell_away(conduct, replica);
    } else {
        channel_rest(&peer->channel);
        if (events & CHANNEL_ROOM && peer->behind)
            publish_to(peer);
    }
}

/* ---- heartbeats ---- */

/* It has not answered the ping of an earlier round. */
static void miss(struct peer *peer, int64_t now_ns)
{
    struct conduct *conduct = peer->conduct;
    const struct settings *settings = &conduct->settings;
    struct controller_event event = {.type = CONTROLLER_OWES,
                                     .replica = {peer->replica},
                                     .since_ns = peer->pinged_ns,
                                     .late = loop_turn_late(conduct->loop, settings->late_turn_ms)};
    if (event.late)
        peer->pinged_ns = now_ns;
    peer->owing = true;
    if (!peer->silent && now_ns - peer->pinged_ns >= settings->silence_limit_ms * NS_PER_MS) {
        peer->silent = true;
        log_print(LOG_WARNING, "%s (process %u) has been silent for %lld ms", peer->name, peer->pid,
                  (long long)((now_ns - peer->pinged_ns) / NS_PER_MS));
    }
    conduct_take(conduct, &event);
}

static void ping(struct peer *peer, int64_t now_ns)
{
    struct wire_ping frame = {.token = (uint64_t)now_ns};
    if (peer->pinged_ns) {
        miss(peer, now_ns);
        return;
    }
    uint8_t *room = peer_room(peer, wire_ping_size(&frame));
    if (!room)
        return;
    channel_put_done(&peer->channel, wire_ping_write(&frame, 0, 0, false, room));
    peer->pinged_ns = now_ns;
}

/* A part of many at a time, so that nothing else waits for thousands of pings and pongs. */
void peers_ping(void *owner)
{
    struct conduct *conduct = owner;
    int64_t now_ns = loop_now_ns(conduct->loop);
    size_t count = conduct->pinged.length;
    size_t parts = 1 + count / PINGS_AT_ONCE;
    parts = parts < PING_PARTS ? parts : PING_PARTS;
    for (size_t left = (count + parts - 1) / parts; left > 0; left--) {
        struct list_link *link = list_pop_front(&conduct->pinged);
        struct peer *peer = list_entry(link, struct peer, ping_link);
        list_push_back(&conduct->pinged, link);
        if (map_get(&conduct->replicas, peer->replica) == peer) /* else it is back already */
            ping(peer, now_ns);
    }
    loop_timer_set(&conduct->ping_timer,
                   now_ns + conduct->settings.ping_period_ms * NS_PER_MS / (int64_t)parts);
}

/* ---- the end of a service without a node ---- */

static void nobody_cares(void *owner, struct child *child, int exit_code, int signal_number)
{
    (void)owner, (void)child, (void)exit_code, (void)signal_number;
}

void peers_end_proxies(struct conduct *conduct)
{
    struct list_link *link;
    struct error error;
    list_each (link, &conduct->peers) {
        const struct peer *peer = list_entry(link, struct peer, link);
        struct child child = {0};
        if (peer->role != WIRE_ROLE_PROXY ||
            child_adopt(&child, conduct->loop, (pid_t)peer->pid, nobody_cares, NULL, &error) < 0)
            continue;
        child_signal(&child, SIGTERM, false);
        child_close(&child);
    }
}

/* ---- connections ---- */

static void hello_late(void *owner)
{
    peer_free(owner);
}

static void welcome(struct conduct *conduct, int descriptor)
{
    pid_t pid = 0;
    if (conduct->peers.length >= CONDUCT_PEER_LIMIT || socket_check_peer(descriptor, &pid) < 0) {
        socket_close(descriptor);
        return;
    }
    struct peer *peer = mem_new(sizeof *peer);
    *peer = (struct peer){.conduct = conduct, .pid = (uint32_t)pid};
    list_init(&peer->questions);
    loop_timer_init(conduct->loop, &peer->timer, hello_late, peer);
    if (channel_open(&peer->channel, &conduct->channels, descriptor, peer_event, peer) < 0) {
        mem_free(peer);
        return;
    }
    list_push_back(&conduct->peers, &peer->link);
    loop_timer_set(&peer->timer, loop_now_ns(conduct->loop) +
                                     conduct->settings.wire_hello_timeout_ms * NS_PER_MS);
}

static void accept_again(void *owner)
{
    struct conduct *conduct = owner;
    loop_watch_change(&conduct->listener, LOOP_READ);
}

static void listener_ready(void *owner, int events)
{
    struct conduct *conduct = owner;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int descriptor = socket_accept(conduct->listener.descriptor);
        if (descriptor == -EAGAIN)
            return;
        if (descriptor < 0) { /* descriptors or memory: those who wait go on waiting */
            metric_add(accept_full_total, 1);
            loop_watch_change(&conduct->listener, 0);
            loop_timer_set(&conduct->accept_timer,
                           loop_now_ns(conduct->loop) + ACCEPT_PAUSE_MS * NS_PER_MS);
            return;
        }
        welcome(conduct, descriptor);
    }
}

int peers_open(struct conduct *conduct, struct error *reterr)
{
    int descriptor = conduct->options.listen_descriptor;
    loop_timer_init(conduct->loop, &conduct->accept_timer, accept_again, conduct);
    if (socket_adopt(descriptor) < 0)
        return error_set(reterr, ERROR_INVALID, "descriptor %d is not open", descriptor);
    int code = loop_watch_open(conduct->loop, &conduct->listener, descriptor, LOOP_READ,
                               listener_ready, conduct);
    return code < 0 ? error_set(reterr, ERROR_SYSTEM, "descriptor %d cannot be watched: %s",
                                descriptor, strerror(-code))
                    : 0;
}

void peers_close(struct conduct *conduct)
{
    struct list_link *link;
    while ((link = list_first(&conduct->peers)))
        peer_free(list_entry(link, struct peer, link));
    if (!conduct->listener.handle)
        return;
    int descriptor = conduct->listener.descriptor;
    loop_timer_clear(&conduct->accept_timer);
    loop_watch_close(&conduct->listener);
    socket_close(descriptor);
}
