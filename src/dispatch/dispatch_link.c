/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch_link: the connection to one replica.
 *
 *     RESERVED --CONNECT--> PAUSED <--> HELLO --> READY      any --DISCONNECT--> ENDED
 *                              ^          |         |
 *                              +----------+---------+  cannot connect, bad or late hello, breach,
 * end of file
 *
 * While the snapshot holds the replica a lost link is tried again after a pause.  On a Unix socket
 * connecting is done or refused at once, so that waiting for the hello is the only slow step.
 * Everything that arrives is handled in dispatch_next; the channel's function in the loop only
 * notes that there is something.
 *
 * When a link ends, everything that the replica still said is read first.  Then its page of marks
 * tells for each call that is left whether user code may have seen it.
 */
#include "dispatch_inner.h"
#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"

static const int64_t NS_PER_MS = 1000000;

bool dispatch_put_control(struct channel *channel, const uint8_t *frame, size_t size)
{
    uint8_t *at = channel_put_room_always(channel, size);
    if (!at)
        return false;
    memcpy(at, frame, size);
    channel_put_done(channel, size);
    return true;
}

static bool is_open(const struct dispatch_link *link)
{
    return link->state == LINK_HELLO || link->state == LINK_READY;
}

static void set_timer(struct dispatch_link *link, int64_t after_ms)
{
    loop_timer_set(&link->timer, dispatch_now_ns(link->dispatch) + after_ms * NS_PER_MS);
}

/* ---- connecting ---- */

static void link_room(struct dispatch_link *link)
{
    struct list_link *place;

    parcel_link_room(&link->parcels);
    link->full = false;
    while (!link->full && (place = list_first(&link->backlog)))
        dispatch_request_pump(list_entry(place, struct dispatch_call, backlog));
    if (link->full)
        return;
    list_each (place, &link->flying)
        dispatch_call_room(list_entry(place, struct dispatch_call, place));
}

static void link_event(void *owner, struct channel *channel, int events)
{
    struct dispatch_link *link = owner;

    ensure(channel == &link->channel);
    if (events & CHANNEL_ROOM && link->state == LINK_READY)
        link_room(link);
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)) || link->state == LINK_ENDED)
        return;
    link->receive_due = true;
    if (!list_linked(&link->ready))
        list_push_back(&link->dispatch->ready, &link->ready);
    dispatch_signal(link->dispatch);
}

static void link_pause(struct dispatch_link *link)
{
    link->state = LINK_PAUSED;
    set_timer(link, link->dispatch->config.settings->reconnect_ms);
}

static bool put_hello(struct dispatch_link *link)
{
    const struct dispatch *dispatch = link->dispatch;
    const struct settings *settings = dispatch->config.settings;
    struct wire_hello hello;

    wire_hello_fill(&hello, dispatch->config.role, 0, bytes_of_string(dispatch->name));
    hello.frame_limit = (uint32_t)settings->wire_frame_limit;
    hello.stream_credit = (uint32_t)settings->wire_stream_credit;
    hello.stream_limit = (uint32_t)settings->request_limit;
    if (dispatch->config.takes_parcels)
        parcel_link_greet(&link->parcels, &hello);
    size_t size = wire_hello_size(&hello);
    uint8_t *at = channel_put_room(&link->channel, size);
    if (!at)
        return false;
    channel_put_done(&link->channel, wire_hello_write(&hello, 0, 0, false, at));
    return true;
}

static void link_try(struct dispatch_link *link)
{
    int descriptor = socket_connect_unix(link->address);
    if (descriptor < 0 || channel_open(&link->channel, link->dispatch->config.channels, descriptor,
                                       link_event, link) < 0) {
        link_pause(link);
        return;
    }
    link->receive_due = link->over = link->full = false;
    parcel_link_open(&link->parcels, link->dispatch->desk, &link->channel);
    if (!put_hello(link)) {
        parcel_link_close(&link->parcels);
        channel_close(&link->channel);
        link_pause(link);
        return;
    }
    link->state = LINK_HELLO;
    set_timer(link, link->dispatch->config.settings->wire_hello_timeout_ms);
}

/* ---- the end ---- */

/* The router hears first that the replica is gone, so that no slot freed here draws a waiting
 * request to it. */
static void return_calls(struct dispatch_link *link)
{
    struct dispatch *dispatch = link->dispatch;
    struct list_link *place;

    router_replica_gone(dispatch->router, dispatch_now_ns(dispatch), link->replica,
                        &dispatch->effects);
    while ((place = list_first(&link->flying)))
        dispatch_call_lose(list_entry(place, struct dispatch_call, place));
    while ((place = list_first(&link->ghosts)))
        dispatch_call_lose(list_entry(place, struct dispatch_call, place));
    ensure_tag(R1, list_empty(&link->backlog) && list_empty(&link->awaiting));
}

static void link_end(struct dispatch_link *link)
{
    bool stood = link->state == LINK_READY;

    ensure(is_open(link));
    list_remove(&link->ready);
    link_pause(link);
    if (stood)
        return_calls(link);
    page_close(&link->taken);
    parcel_link_close(&link->parcels);
    channel_close(&link->channel);
    dispatch_perform(link->dispatch);
}

static void link_breach(struct dispatch_link *link)
{
    metric_add(peer_glitches_total, 1);
    link_end(link);
}

static void timer_fired(void *owner)
{
    struct dispatch_link *link = owner;
    if (link->state == LINK_PAUSED)
        link_try(link);
    else if (link->state == LINK_HELLO)
        link_breach(link); /* it was silent for too long */
}

/* ---- what arrives ---- */

/* The page must hold a mark for every request that we can ever send: what it cannot say would look
 * untaken. */
static int take_page(struct dispatch_link *link, const struct wire_hello *hello)
{
    int descriptor = channel_take_descriptor(&link->channel);
    if (descriptor < 0)
        return -1;
    if (hello->taken_count < link->dispatch->calls.limit ||
        hello->taken_count > DISPATCH_TAKEN_LIMIT) {
        socket_close(descriptor);
        return -1;
    }
    return page_map(&link->taken, descriptor, (size_t)hello->taken_count * sizeof(uint32_t));
}

static int take_hello(struct dispatch_link *link, struct bytes frame)
{
    struct dispatch *dispatch = link->dispatch;
    const struct settings *settings = dispatch->config.settings;
    const char *reason;
    struct wire_header header;
    struct wire_hello hello;
    uint16_t version;

    wire_header_read(&header, frame.at);
    if (header.type != WIRE_HELLO_FRAME || header.stream != 0 ||
        wire_hello_read(&hello, bytes_skip(frame, WIRE_HEADER_SIZE)) < 0 ||
        wire_hello_check(&hello, &version, &reason) < 0 || hello.role != WIRE_ROLE_REPLICA ||
        hello.id != link->replica.v || socket_check_peer(link->channel.descriptor, NULL) < 0 ||
        take_page(link, &hello) < 0)
        return -1;
    ensure(hello.frame_limit > DISPATCH_CONTROL_SIZE);
    link->frame_limit = hello.frame_limit;
    link->stream_credit = hello.stream_credit;
    link->part_limit = (size_t)settings->wire_part_size;
    if (link->part_limit > hello.frame_limit - DISPATCH_CONTROL_SIZE)
        link->part_limit = hello.frame_limit - DISPATCH_CONTROL_SIZE;
    parcel_link_meet(&link->parcels, &hello);
    link->state = LINK_READY;
    loop_timer_clear(&link->timer);
    router_connected(dispatch->router, dispatch_now_ns(dispatch), link->replica,
                     &dispatch->effects);
    return 0;
}

/* False when there is nothing to read in this turn; then `over` says whether there ever will be. */
static bool link_receive(struct dispatch_link *link)
{
    if (!link->receive_due)
        return false;
    ssize_t size = channel_receive(&link->channel);
    link->receive_due = size > 0; /* until the socket is empty or the turn's share is taken */
    link->over = size < 0;
    return size > 0;
}

void dispatch_link_next(struct dispatch_link *link, struct dispatch_event *ret_event)
{
    struct dispatch *dispatch = link->dispatch;
    struct bytes frame;

    while (is_open(link)) {
        enum channel_taken taken = channel_take(&link->channel, &frame);
        if (taken == CHANNEL_NO_FRAME && link_receive(link))
            continue;
        if (taken == CHANNEL_NO_FRAME)
            break;
        int code = taken == CHANNEL_BROKEN     ? -1
                   : link->state == LINK_HELLO ? take_hello(link, frame)
                                               : dispatch_frame_take(link, frame, ret_event);
        if (code < 0) {
            link_breach(link);
            return;
        }
        dispatch_perform(dispatch);
        if (ret_event->type != DISPATCH_NONE)
            return;
    }
    list_remove(&link->ready);
    if (link->over && is_open(link))
        link_end(link);
}

/* ---- what the router and the snapshot ask for ---- */

struct dispatch_link *dispatch_link_find(struct dispatch *dispatch, struct replica_id replica)
{
    return map_get(&dispatch->links, replica.v);
}

/* Memory is found before the router swaps snapshots, so that its CONNECT cannot fail for the lack
 * of it. */
int dispatch_link_reserve(struct dispatch *dispatch, struct replica_id replica,
                          struct bytes address)
{
    if (dispatch_link_find(dispatch, replica))
        return 0;
    struct dispatch_link *link = mem_try(sizeof *link);
    if (!link)
        return ERROR_MEMORY;
    link->dispatch = dispatch;
    link->replica = replica;
    link->channel.descriptor = -1;
    link->taken.descriptor = -1;
    list_init(&link->flying);
    list_init(&link->ghosts);
    list_init(&link->backlog);
    list_init(&link->awaiting);
    loop_timer_init(dispatch->config.loop, &link->timer, timer_fired, link);
    link->address = mem_try(address.size + 1);
    if (!link->address || map_try_put(&dispatch->links, replica.v, link) < 0) {
        dispatch_link_free(link);
        return ERROR_MEMORY;
    }
    memcpy(link->address, address.at, address.size);
    return 0;
}

void dispatch_link_drop_reserved(struct dispatch *dispatch)
{
    struct map_entry *entry;
    map_each (entry, &dispatch->links) {
        struct dispatch_link *link = entry->value;
        if (link->state != LINK_RESERVED)
            continue;
        map_remove(&dispatch->links, link->replica.v);
        dispatch_link_free(link);
    }
}

void dispatch_link_connect(struct dispatch *dispatch, struct replica_id replica)
{
    struct dispatch_link *link = dispatch_link_find(dispatch, replica);
    ensure(link != NULL);
    if (link->state == LINK_RESERVED)
        link_try(link);
}

/* A slice of the channel's buffer may be in the owner's hands: the link is freed by the next
 * dispatch_next. */
void dispatch_link_disconnect(struct dispatch *dispatch, struct replica_id replica)
{
    struct dispatch_link *link = map_remove(&dispatch->links, replica.v);
    ensure_tag(R3, link != NULL && list_empty(&link->flying));
    loop_timer_clear(&link->timer);
    list_remove(&link->ready);
    link->state = LINK_ENDED;
    list_push_back(&dispatch->ended, &link->ended);
    dispatch_signal(dispatch);
}

void dispatch_link_ping(struct dispatch *dispatch, struct replica_id replica)
{
    struct dispatch_link *link = dispatch_link_find(dispatch, replica);
    struct wire_ping ping = {.token = (uint64_t)dispatch_now_ns(dispatch)};
    uint8_t at[DISPATCH_CONTROL_SIZE];

    if (!link || link->state != LINK_READY)
        return;
    ensure(wire_ping_size(&ping) <= sizeof at);
    /* No room: the replica does not read, which is what the router will learn from its silence. */
    dispatch_put_control(&link->channel, at, wire_ping_write(&ping, 0, 0, false, at));
}

void dispatch_link_reap(struct dispatch *dispatch)
{
    struct list_link *place;
    while ((place = list_first(&dispatch->ended)))
        dispatch_link_free(list_entry(place, struct dispatch_link, ended));
}

void dispatch_link_free(struct dispatch_link *link)
{
    ensure_tag(M1, list_empty(&link->flying) && list_empty(&link->ghosts) &&
                       list_empty(&link->backlog) && list_empty(&link->awaiting));
    list_remove(&link->ready);
    list_remove(&link->ended);
    loop_timer_clear(&link->timer);
    parcel_link_close(&link->parcels);
    if (channel_is_open(&link->channel))
        channel_close(&link->channel);
    page_close(&link->taken);
    mem_free(link->address);
    mem_free(link);
}

void dispatch_link_check(const struct dispatch_link *link)
{
    ensure(channel_is_open(&link->channel) == is_open(link));
    ensure(parcel_link_is_open(&link->parcels) == is_open(link));
    if (is_open(link))
        parcel_link_check(&link->parcels);
    ensure(link->state != LINK_PAUSED || link->timer.due_ns != 0);
    ensure(link->state != LINK_HELLO || link->timer.due_ns != 0);
    ensure_tag(R3, link->state == LINK_READY ||
                       (list_empty(&link->flying) && list_empty(&link->ghosts)));
    ensure(link->ready.list == NULL || link->ready.list == &link->dispatch->ready);
    ensure(link->state != LINK_READY || link->taken.at != NULL);
}
