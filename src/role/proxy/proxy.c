/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy: set-up, the turn, time limits, and the drain at the end.  What belongs to the process and
 * not to the proxy (environment, log, metric page, seed) is proxy_run.c's.
 *
 * A turn: connections and channels that are ready have been read; here the dispatch's events are
 * turned into answers and every connection that has something to write is written once.  The
 * channels are flushed behind it.
 */
#include "proxy.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "socket.h"
#include "wire.h"

static const int64_t MS = 1000000;
enum { LENIENT_MS = 100 };

struct bytes proxy_date(struct proxy *proxy)
{
    int64_t now_s = loop_wall_ns(proxy->loop) / 1000000000;
    if (now_s != proxy->date_s) {
        http1_date(now_s, proxy->date);
        proxy->date_s = now_s;
    }
    return bytes_of(proxy->date, 29);
}

/* Bytes in buffers are counted where they are held: what clients sent and are sent, and what
 * channels and slots hold. */
bool proxy_has_budget(const struct proxy *proxy)
{
    size_t held = buffer_store_live_bytes(proxy->buffers) +
                  buffer_store_live_bytes(proxy->channels.buffers) +
                  slot_pool_used_bytes(parcel_desk_slots(dispatch_desk(proxy->dispatch)));
    return held < (size_t)proxy->settings.process_byte_budget;
}

/* ---- the turn
 * --------------------------------------------------------------------------------------- */

/* A connection whose only answer is whole writes it now, so that one warm buffer serves many;
 * others gather what comes in this turn. */
static void proxy_event(const struct dispatch_event *event)
{
    struct exchange *exchange = event->owner;
    struct connection *connection = exchange->connection;
    exchange_event(exchange, event);
    struct list_link *only = list_first(&connection->exchanges);
    if (connection->closed || connection->exchanges.length != 1 ||
        !list_entry(only, struct exchange, link)->over)
        return;
    list_remove(&connection->dirty_link);
    connection_flush(connection);
}

static void proxy_take_events(struct proxy *proxy)
{
    struct dispatch_event event;
    while (dispatch_next(proxy->dispatch, &event)) {
        if (event.type != DISPATCH_SNAPSHOT) {
            proxy_event(&event);
            continue;
        }
        proxy->populated =
            proxy->populated || router_app_count(dispatch_router(proxy->dispatch)) > 0;
        listener_begin(proxy);
    }
}

/* Writing may end exchanges, which lets parsed requests begin, which may dirty connections again:
 * bounded by the pipeline. */
static void proxy_flush(struct proxy *proxy)
{
    struct list_link *link;
    while ((link = list_pop_front(&proxy->dirty)))
        connection_flush(list_entry(link, struct connection, dirty_link));
    while ((link = list_first(&proxy->closed)))
        connection_free(list_entry(link, struct connection, phase_link));
}

static int64_t phase_limit_ns(const struct proxy *proxy, enum phase phase)
{
    switch (phase) {
    case PHASE_IDLE:
        if (proxy->settings.http_keep_alive_ms)
            return proxy->settings.http_keep_alive_ms * MS;
        return proxy->settings.http_head_timeout_ms * MS; /* for its only request */
    case PHASE_HEAD:
        return proxy->settings.http_head_timeout_ms * MS;
    case PHASE_BODY:
    case PHASE_WRITE:
        return proxy->settings.http_progress_timeout_ms * MS;
    case PHASE_OPEN:
        return proxy->settings.websocket_ping_interval_ms * MS;
    case PHASE_PING:
        return proxy->settings.websocket_ping_timeout_ms * MS;
    case PHASE_CLOSING:
        return proxy->settings.websocket_close_timeout_ms * MS;
    case PHASE_LINGER:
        return LINGER_MS * MS;
    default:
        return 0;
    }
}

/* The timer may fire too early, never too late. */
static void proxy_arm(struct proxy *proxy)
{
    int64_t due = 0;
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        struct list_link *link = list_first(&proxy->phases[phase]);
        if (!link || phase == PHASE_BUSY)
            continue;
        int64_t at = list_entry(link, struct connection, phase_link)->phase_ns +
                     phase_limit_ns(proxy, phase);
        due = !due || at < due ? at : due;
    }
    if (due && due < proxy->lenient_until_ns)
        due = proxy->lenient_until_ns;
    if (due && (!proxy->timer.due_ns || proxy->timer.due_ns > due))
        loop_timer_set(&proxy->timer, due);
}

/* Connections that were not read for lack of budget are read again as far as it goes, in turn. */
static void proxy_feed_starved(struct proxy *proxy)
{
    size_t count = proxy->starved.length;
    while (count-- && proxy_has_budget(proxy))
        connection_feed(list_entry(list_first(&proxy->starved), struct connection, starved_link));
}

static void proxy_turn(void *owner)
{
    struct proxy *proxy = owner;
    do {
        proxy->woken = false;
        proxy_take_events(proxy);
        proxy_flush(proxy);
    } while (proxy->woken);
    proxy_feed_starved(proxy);
    proxy_arm(proxy);
    if (proxy->draining)
        proxy_check_drained(proxy);
}

static void proxy_on_timer(void *owner)
{
    struct proxy *proxy = owner;
    int64_t now = loop_now_ns(proxy->loop);
    if (loop_turn_late(proxy->loop, proxy->settings.late_turn_ms)) {
        /* We were away ourselves: whoever was silent meanwhile gets one more moment. */
        metric_add(turns_late_total, 1);
        proxy->lenient_until_ns = now + LENIENT_MS * MS; /* proxy_arm sets the timer */
        return;
    }
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        struct list_link *link;
        int64_t limit = phase_limit_ns(proxy, phase);
        while (phase != PHASE_BUSY && (link = list_first(&proxy->phases[phase]))) {
            struct connection *connection = list_entry(link, struct connection, phase_link);
            if (connection->phase_ns + limit > now)
                break;
            connection_timeout(connection);
            if (!connection->closed && connection->phase == phase)
                connection_enter(connection,
                                 PHASE_BUSY); /* it is answering; its flush settles it */
        }
    }
}

/* Every turn takes the events; those that come up while it writes are taken in the same turn. */
static void proxy_wake(void *owner)
{
    struct proxy *proxy = owner;
    proxy->woken = true;
}

/* ---- the end
 * ---------------------------------------------------------------------------------------- */

void proxy_check_drained(struct proxy *proxy)
{
    if (proxy->connections.used_count == 0)
        loop_stop(proxy->loop);
}

static void proxy_drain_over(void *owner)
{
    struct proxy *proxy = owner;
    log_print(LOG_WARNING, "drain: %u connections did not end in time",
              proxy->connections.used_count);
    loop_stop(proxy->loop);
}

static void proxy_leave_dialogues(struct proxy *proxy)
{
    struct list_link *link, *after;
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++)
        list_each_safe (link, after, &proxy->phases[phase]) {
            struct exchange *dialogue =
                dialogue_of(list_entry(link, struct connection, phase_link));
            if (dialogue)
                dialogue_leave(dialogue);
        }
}

void proxy_drain(struct proxy *proxy)
{
    struct list_link *link, *after;
    if (proxy->draining)
        return;
    proxy->draining = true;
    listener_close(proxy);
    list_each_safe (link, after, &proxy->phases[PHASE_IDLE])
        connection_close(list_entry(link, struct connection, phase_link));
    proxy_leave_dialogues(proxy);
    loop_timer_set(&proxy->drain_timer,
                   loop_now_ns(proxy->loop) + proxy->settings.drain_timeout_ms * MS);
    log_print(LOG_INFO, "draining: %u connections", proxy->connections.used_count);
}

static void proxy_on_signal(void *owner, int signal_number)
{
    struct proxy *proxy = owner;
    (void)signal_number;
    if (proxy->draining)
        loop_stop(proxy->loop);
    proxy_drain(proxy);
}

/* ---- set-up
 * ----------------------------------------------------------------------------------------- */

static int proxy_open_loop(struct proxy *proxy, struct error *reterr)
{
    const struct settings *settings = &proxy->settings;
    struct channel_config config = {.frame_limit = (size_t)settings->wire_frame_limit,
                                    .queue_limit = (size_t)settings->wire_queue_limit,
                                    .turn_limit = (size_t)settings->wire_turn_limit,
                                    .buffer_keep = 16};
    proxy->loop = loop_new();
    if (!proxy->loop || channel_set_init(&proxy->channels, proxy->loop, &config) < 0)
        return error_set(reterr, ERROR_SYSTEM,
                         "no event loop: descriptors or memory are exhausted");
    proxy->turn = (struct loop_turn){.turn = proxy_turn, .owner = proxy};
    loop_turn_add(proxy->loop, &proxy->turn);
    loop_timer_init(proxy->loop, &proxy->timer, proxy_on_timer, proxy);
    loop_timer_init(proxy->loop, &proxy->drain_timer, proxy_drain_over, proxy);
    loop_on_signal(proxy->loop, SIGTERM, proxy_on_signal, proxy);
    return 0;
}

static void proxy_prepare(struct proxy *proxy)
{
    const struct settings *settings = &proxy->settings;
    proxy->limits =
        (struct http1_limits){.line_size = (size_t)settings->http_line_limit,
                              .head_size = (size_t)settings->http_header_bytes_limit,
                              .header_count = (uint32_t)settings->http_header_count_limit,
                              .body_size = (uint64_t)settings->http_body_limit};
    proxy->buffers = buffer_store_new(CONNECTION_IN_SIZE, 64);
    proxy->scratch = mem_new(SCRATCH_SIZE);
    pool_init(&proxy->connections, sizeof(struct connection),
              (uint32_t)settings->http_connection_limit);
    /* Past request_limit only the first of a connection, so that each client can be told. */
    pool_init(&proxy->exchanges, sizeof(struct exchange),
              (uint32_t)(settings->request_limit + settings->http_connection_limit));
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++)
        list_init(&proxy->phases[phase]);
    list_init(&proxy->dirty);
    list_init(&proxy->starved);
    list_init(&proxy->closed);
    proxy->access_log = settings->http_access_log;
}

int proxy_open(struct proxy *proxy, const struct proxy_options *options, uint64_t seed,
               struct error *reterr)
{
    char name[PROXY_NAME_SIZE];
    proxy_prepare(proxy);
    rng_init(&proxy->rng, seed);
    proxy->listen_descriptor = options->listen_descriptor;
    proxy->reserve_descriptor = -1;
    if (proxy_open_loop(proxy, reterr) < 0)
        return reterr->code;
    proxy_name(options, name);
    struct dispatch_config config = {.loop = proxy->loop,
                                     .channels = &proxy->channels,
                                     .settings = &proxy->settings,
                                     .controller_socket = options->controller,
                                     .role = WIRE_ROLE_PROXY,
                                     .name = name,
                                     .seed = seed,
                                     .trace = options->trace,
                                     .takes_parcels = true,
                                     .wake = proxy_wake,
                                     .owner = proxy};
    proxy->dispatch = dispatch_new(&config, reterr);
    if (!proxy->dispatch)
        return reterr->code;
    return listener_open(proxy, reterr);
}

void proxy_name(const struct proxy_options *options, char ret_name[PROXY_NAME_SIZE])
{
    snprintf(ret_name, PROXY_NAME_SIZE, "proxy-%d", options->number);
}

void proxy_close(struct proxy *proxy)
{
    struct list_link *link, *after;
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++)
        list_each_safe (link, after, &proxy->phases[phase])
            connection_close(list_entry(link, struct connection, phase_link));
    proxy_flush(proxy);
    listener_close(proxy);
    proxy->dispatch = dispatch_free(proxy->dispatch);
    if (proxy->loop) {
        loop_timer_clear(&proxy->timer);
        loop_timer_clear(&proxy->drain_timer);
        loop_turn_remove(&proxy->turn);
        channel_set_done(&proxy->channels);
        proxy->loop = loop_free(proxy->loop);
    }
    ensure_tag(M1, proxy->connections.used_count == 0 && proxy->exchanges.used_count == 0);
    pool_done(&proxy->connections);
    pool_done(&proxy->exchanges);
    proxy->buffers = buffer_store_free(proxy->buffers);
    proxy->scratch = mem_free(proxy->scratch);
}
