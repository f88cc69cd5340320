/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_snapshot: the connection to the controller; rows become snapshots.
 *
 *     AWAY --timer--> HELLO --its hello--> STANDS      both fall back to AWAY
 *
 * A snapshot comes as one frame that says how many rows follow, the rows, and an end.  The rows are
 * gathered in one arena and given to the router whole; what is not whole, or not what was
 * announced, never reaches it. While the controller is away calls go on by the last snapshot; a
 * reader that comes back says which version it has.
 *
 * All of this happens in the channel's function in the loop, since nothing of it is for the owner
 * but the fact that a new snapshot is in force.  Nothing here closes a link in that moment
 * (dispatch_link.c).
 */
#include "dispatch_inner.h"
#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"

static const int64_t NS_PER_MS = 1000000;

static struct dispatch *dispatch_of(struct dispatch_controller *controller)
{
    return (struct dispatch *)(void *)((char *)controller - offsetof(struct dispatch, controller));
}

static void set_timer(struct dispatch_controller *controller, int64_t after_ms)
{
    loop_timer_set(&controller->timer,
                   dispatch_now_ns(dispatch_of(controller)) + after_ms * NS_PER_MS);
}

/* ---- rows ---- */

static void drop_rows(struct dispatch_controller *controller)
{
    controller->open = false;
    controller->apps = mem_free(controller->apps);
    controller->deployments = mem_free(controller->deployments);
    controller->replicas = mem_free(controller->replicas);
    controller->app_count = controller->deployment_count = controller->replica_count = 0;
    arena_clear(&controller->texts);
}

/* The slice outlives its frame.  False: the snapshot is too large, or memory lacks. */
static bool keep_text(struct dispatch_controller *controller, struct bytes *text)
{
    if (text->size == 0)
        return true;
    *text = arena_copy(&controller->texts, *text);
    return text->at != NULL;
}

static int open_snapshot(struct dispatch_controller *controller, struct bytes payload)
{
    struct wire_snapshot snapshot;

    if (wire_snapshot_read(&snapshot, payload) < 0 || snapshot.app_count > DISPATCH_ROW_LIMIT ||
        snapshot.deployment_count > DISPATCH_ROW_LIMIT ||
        snapshot.replica_count > DISPATCH_ROW_LIMIT)
        return -1;
    drop_rows(controller); /* one that was not finished is overtaken */
    controller->open = true;
    controller->version = snapshot.version;
    controller->app_limit = snapshot.app_count;
    controller->deployment_limit = snapshot.deployment_count;
    controller->replica_limit = snapshot.replica_count;
    controller->apps = mem_try((snapshot.app_count + 1) * sizeof *controller->apps);
    controller->deployments =
        mem_try((snapshot.deployment_count + 1) * sizeof *controller->deployments);
    controller->replicas = mem_try((snapshot.replica_count + 1) * sizeof *controller->replicas);
    return controller->apps && controller->deployments && controller->replicas ? 0 : -1;
}

static int add_app(struct dispatch_controller *controller, struct bytes payload)
{
    struct wire_snapshot_app row;

    if (!controller->open || controller->app_count == controller->app_limit ||
        wire_snapshot_app_read(&row, payload) < 0 || !keep_text(controller, &row.name) ||
        !keep_text(controller, &row.route_prefix))
        return -1;
    controller->apps[controller->app_count++] =
        (struct router_snapshot_app){.id = {row.id},
                                     .name = row.name,
                                     .route_prefix = row.route_prefix,
                                     .ingress = {row.ingress}};
    return 0;
}

static int add_deployment(struct dispatch_controller *controller, struct bytes payload)
{
    struct wire_snapshot_deployment row;

    if (!controller->open || controller->deployment_count == controller->deployment_limit ||
        wire_snapshot_deployment_read(&row, payload) < 0 || !keep_text(controller, &row.app) ||
        !keep_text(controller, &row.name))
        return -1;
    controller->deployments[controller->deployment_count++] = (struct router_snapshot_deployment){
        .id = {row.id},
        .app = row.app,
        .name = row.name,
        .max_ongoing = row.max_ongoing,
        .max_queued = row.max_queued,
        .available = row.available != 0,
        .streams_body = row.streams_body != 0,
    };
    return 0;
}

static int add_replica(struct dispatch_controller *controller, struct bytes payload)
{
    struct wire_snapshot_replica row;

    if (!controller->open || controller->replica_count == controller->replica_limit ||
        wire_snapshot_replica_read(&row, payload) < 0 || !keep_text(controller, &row.address))
        return -1;
    controller->replicas[controller->replica_count++] = (struct router_snapshot_replica){
        .id = {row.id}, .deployment = {row.deployment}, .address = row.address};
    return 0;
}

/* Links first: once the router swapped, its CONNECT must find one. */
static int swap(struct dispatch_controller *controller)
{
    struct dispatch *dispatch = dispatch_of(controller);
    struct router_snapshot snapshot = {
        .version = controller->version,
        .apps = controller->apps,
        .deployments = controller->deployments,
        .replicas = controller->replicas,
        .app_count = controller->app_count,
        .deployment_count = controller->deployment_count,
        .replica_count = controller->replica_count,
    };
    uint64_t before = router_version(dispatch->router);
    int code = 0;

    for (uint32_t i = 0; code == 0 && i < snapshot.replica_count; i++)
        if (!replica_id_none(snapshot.replicas[i].id))
            code = dispatch_link_reserve(dispatch, snapshot.replicas[i].id,
                                         snapshot.replicas[i].address);
    if (code == 0)
        code = router_snapshot(dispatch->router, dispatch_now_ns(dispatch), &snapshot,
                               &dispatch->effects);
    dispatch_perform(dispatch);
    dispatch_link_drop_reserved(
        dispatch); /* rows that the router did not want, or none when it could not swap */
    if (router_version(dispatch->router) != before) {
        dispatch->snapshot_due = true;
        dispatch_signal(dispatch);
    }
    return code;
}

/* Without memory the controller is left and asked again after the pause, with the version that is
 * in force. */
static int close_snapshot(struct dispatch_controller *controller, struct bytes payload)
{
    struct wire_snapshot_end end;

    if (!controller->open || wire_snapshot_end_read(&end, payload) < 0 ||
        end.version != controller->version || controller->app_count != controller->app_limit ||
        controller->deployment_count != controller->deployment_limit ||
        controller->replica_count != controller->replica_limit)
        return -1;
    int code = swap(controller);
    drop_rows(controller);
    return code;
}

/* ---- frames ---- */

static int put_subscribe(struct dispatch_controller *controller)
{
    uint8_t at[DISPATCH_CONTROL_SIZE];
    struct wire_subscribe subscribe = {.version = router_version(dispatch_of(controller)->router)};
    ensure(wire_subscribe_size(&subscribe) <= sizeof at);
    size_t size = wire_subscribe_write(&subscribe, 0, 0, false, at);
    return dispatch_put_control(&controller->channel, at, size) ? 0 : -1;
}

static int take_hello(struct dispatch_controller *controller, uint8_t type, struct bytes payload)
{
    const char *reason;
    struct wire_hello hello;
    uint16_t version;

    if (type != WIRE_HELLO_FRAME || wire_hello_read(&hello, payload) < 0 ||
        wire_hello_check(&hello, &version, &reason) < 0 || hello.role != WIRE_ROLE_CONTROLLER ||
        socket_check_peer(controller->channel.descriptor, NULL) < 0)
        return -1;
    controller->state = CONTROLLER_STANDS;
    loop_timer_clear(&controller->timer);
    return put_subscribe(controller);
}

static int take_ping(struct dispatch_controller *controller, struct bytes payload)
{
    uint8_t at[DISPATCH_CONTROL_SIZE];
    struct wire_ping ping;

    if (wire_ping_read(&ping, payload) < 0)
        return -1;
    struct wire_pong pong = {.token = ping.token};
    ensure(wire_pong_size(&pong) <= sizeof at);
    return dispatch_put_control(&controller->channel, at, wire_pong_write(&pong, 0, 0, false, at))
               ? 0
               : -1;
}

static int take_frame(struct dispatch_controller *controller, struct bytes frame)
{
    struct wire_header header;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);

    if (header.type >= WIRE_FRAME_COUNT)
        return 0; /* of a newer version */
    if (controller->state == CONTROLLER_HELLO)
        return take_hello(controller, header.type, payload);
    switch (header.type) {
    case WIRE_SNAPSHOT_FRAME:
        return open_snapshot(controller, payload);
    case WIRE_SNAPSHOT_APP_FRAME:
        return add_app(controller, payload);
    case WIRE_SNAPSHOT_DEPLOYMENT_FRAME:
        return add_deployment(controller, payload);
    case WIRE_SNAPSHOT_REPLICA_FRAME:
        return add_replica(controller, payload);
    case WIRE_SNAPSHOT_END_FRAME:
        return close_snapshot(controller, payload);
    case WIRE_PING_FRAME:
        return take_ping(controller, payload);
    case WIRE_PONG_FRAME:
        return 0;
    default:
        return -1;
    }
}

/* ---- the connection ---- */

static void leave(struct dispatch_controller *controller)
{
    if (channel_is_open(&controller->channel))
        channel_close(&controller->channel);
    drop_rows(controller);
    controller->state = CONTROLLER_AWAY;
    set_timer(controller, dispatch_of(controller)->config.settings->reconnect_ms);
}

/* 0, or -1: it cannot be listened to any more. */
static int take_frames(struct dispatch_controller *controller)
{
    struct bytes frame;
    enum channel_taken taken;

    while ((taken = channel_take(&controller->channel, &frame)) == CHANNEL_FRAME) {
        int code = take_frame(controller, frame);
        if (code == 0)
            continue;
        if (code != ERROR_MEMORY)
            metric_add(peer_glitches_total, 1);
        return -1;
    }
    if (taken == CHANNEL_BROKEN)
        metric_add(peer_glitches_total, 1);
    return taken == CHANNEL_BROKEN ? -1 : 0;
}

static void controller_event(void *owner, struct channel *channel, int events)
{
    struct dispatch_controller *controller = owner;
    ssize_t size;

    ensure(channel == &controller->channel && controller->state != CONTROLLER_AWAY);
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)))
        return;
    do { /* until the socket is empty or the turn's share is taken; what came before an end counts
          */
        size = channel_receive(channel);
        if (take_frames(controller) < 0 || size < 0) {
            leave(controller);
            break;
        }
    } while (size > 0);
    dispatch_settle(dispatch_of(controller));
}

static int put_hello(struct dispatch_controller *controller)
{
    const struct dispatch *dispatch = dispatch_of(controller);
    struct wire_hello hello;

    wire_hello_fill(&hello, dispatch->config.role, 0, bytes_of_string(dispatch->name));
    hello.frame_limit = (uint32_t)dispatch->config.settings->wire_frame_limit;
    uint8_t *at = channel_put_room(&controller->channel, wire_hello_size(&hello));
    if (!at)
        return -1;
    channel_put_done(&controller->channel, wire_hello_write(&hello, 0, 0, false, at));
    return 0;
}

static void timer_fired(void *owner)
{
    struct dispatch_controller *controller = owner;
    const struct dispatch_config *config = &dispatch_of(controller)->config;

    if (controller->state == CONTROLLER_HELLO) {
        metric_add(peer_glitches_total, 1); /* it was silent for too long */
        leave(controller);
        return;
    }
    ensure(controller->state == CONTROLLER_AWAY);
    int descriptor = socket_connect_unix(controller->address);
    if (descriptor < 0 ||
        channel_open(&controller->channel, config->channels, descriptor, controller_event,
                     controller) < 0 ||
        put_hello(controller) < 0) {
        leave(controller);
        return;
    }
    controller->state = CONTROLLER_HELLO;
    set_timer(controller, config->settings->wire_hello_timeout_ms);
}

void dispatch_controller_init(struct dispatch *dispatch)
{
    struct dispatch_controller *controller = &dispatch->controller;

    controller->state = CONTROLLER_AWAY;
    controller->channel.descriptor = -1;
    arena_blocks_init(&controller->blocks, 0); /* snapshots are rare */
    arena_init(&controller->texts, &controller->blocks, DISPATCH_ROW_BYTES_LIMIT);
    loop_timer_init(dispatch->config.loop, &controller->timer, timer_fired, controller);
}

int dispatch_controller_start(struct dispatch *dispatch)
{
    struct dispatch_controller *controller = &dispatch->controller;
    size_t length = strlen(dispatch->config.controller_socket);

    controller->address = mem_try(length + 1);
    if (!controller->address)
        return ERROR_MEMORY;
    memcpy(controller->address, dispatch->config.controller_socket, length);
    timer_fired(controller);
    return 0;
}

void dispatch_controller_done(struct dispatch *dispatch)
{
    struct dispatch_controller *controller = &dispatch->controller;

    if (channel_is_open(&controller->channel))
        channel_close(&controller->channel);
    drop_rows(controller);
    arena_blocks_done(&controller->blocks);
    loop_timer_clear(&controller->timer);
    controller->address = mem_free(controller->address);
}
