/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_control: a replica's connection to the controller.
 *
 * It says ready or failed, again after every reconnection, so that a new controller learns what
 * runs (adoption); it answers pings; it obeys drain and reconfigure.  The controller's absence
 * changes nothing for requests.
 */
#include <stdio.h>
#include <string.h>

#include "ensure.h"
#include "metrics.h"
#include "socket.h"
#include "taker_inner.h"

enum { TEXT_LIMIT = 4096 /* of why a configuration is refused; the controller keeps its end */ };

static void control_event(void *owner, struct channel *channel, int events);

static void control_retry(struct taker *taker)
{
    control_close(taker);
    loop_timer_set(&taker->reconnect, loop_now_ns(taker->config.loop) +
                                          taker->config.settings->reconnect_ms * 1000000);
}

static void control_connect(void *owner)
{
    struct taker *taker = owner;
    struct wire_hello hello = {0};
    loop_refresh_now_ns(taker->config.loop);
    int descriptor = socket_connect_unix(taker->config.controller_socket);
    if (descriptor < 0 || channel_open(&taker->controller, taker->config.channels, descriptor,
                                       control_event, taker) < 0) {
        taker->controller.descriptor = -1;
        control_retry(taker);
        return;
    }
    taker->controller_open = true;
    wire_hello_fill(&hello, WIRE_ROLE_REPLICA, taker->config.replica, taker->config.deployment);
    uint8_t *room = channel_put_room_always(&taker->controller, wire_hello_size(&hello));
    if (room)
        channel_put_done(&taker->controller, wire_hello_write(&hello, 0, 0, false, room));
}

void control_open(struct taker *taker)
{
    loop_timer_init(taker->config.loop, &taker->reconnect, control_connect, taker);
    if (taker->config.controller_socket)
        control_connect(taker);
}

void control_close(struct taker *taker)
{
    loop_timer_clear(&taker->reconnect);
    if (taker->controller_open)
        channel_close(&taker->controller);
    taker->controller_open = taker->controller_greeted = false;
    taker->telling = 0;
}

/* ---- reports
 * -----------------------------------------------------------------------------------------------
 */

static void control_say_ready(struct taker *taker)
{
    struct wire_replica_ready ready = {.replica = taker->config.replica,
                                       .address = bytes_of_string(taker->path),
                                       .version = taker->config.version,
                                       .app = taker->config.app,
                                       .deployment = taker->config.deployment,
                                       .draining = replica_draining(taker->mind),
                                       .configuration = taker->config.configuration,
                                       .rank = taker->config.rank,
                                       .world_size = taker->config.world_size};
    uint8_t *room = channel_put_room_always(&taker->controller, wire_replica_ready_size(&ready));
    if (room)
        channel_put_done(&taker->controller, wire_replica_ready_write(&ready, 0, 0, false, room));
}

static void control_say_failed(struct taker *taker)
{
    struct wire_replica_failed failed = {.replica = taker->config.replica,
                                         .code = taker->failed_code,
                                         .text = bytes_of_string(taker->failed_text)};
    uint8_t *room = channel_put_room_always(&taker->controller, wire_replica_failed_size(&failed));
    if (room)
        channel_put_done(&taker->controller, wire_replica_failed_write(&failed, 0, 0, false, room));
}

/* What the controller should know, once it has said hello. */
static void control_say(struct taker *taker)
{
    if (!taker->controller_greeted)
        return;
    if (taker->report == REPORT_READY)
        control_say_ready(taker);
    else if (taker->report == REPORT_FAILED)
        control_say_failed(taker);
}

void taker_report_ready(struct taker *taker)
{
    taker->report = REPORT_READY;
    control_say(taker);
}

void taker_report_failed(struct taker *taker, int code, struct bytes text)
{
    taker->report = REPORT_FAILED;
    taker->failed_code = code;
    snprintf(taker->failed_text, sizeof taker->failed_text, "%.*s", BYTES_PRINT(text));
    control_say(taker);
}

void taker_report_health(struct taker *taker, bool healthy, struct bytes text)
{
    struct wire_report report = {
        .ongoing = replica_ongoing(taker->mind), .healthy = healthy, .text = text};
    if (!taker->controller_greeted)
        return;
    uint8_t *room = channel_put_room_always(&taker->controller, wire_report_size(&report));
    if (room)
        channel_put_done(&taker->controller,
                         wire_report_write(&report, 0, taker->config.replica, false, room));
}

void control_say_configured(struct taker *taker, int code, struct bytes text)
{
    size_t skip =
        text.size > TEXT_LIMIT ? text.size - TEXT_LIMIT : 0; /* an exception's end names it */
    struct wire_outcome outcome = {.code = code, .text = bytes_skip(text, skip)};
    if (!taker->controller_greeted || !taker->telling)
        return;
    uint8_t *room = channel_put_room_always(&taker->controller, wire_outcome_size(&outcome));
    if (room)
        channel_put_done(&taker->controller,
                         wire_outcome_write(&outcome, 0, taker->telling, false, room));
    taker->telling = 0;
}

bool taker_reports_sent(const struct taker *taker)
{
    if (taker->report == REPORT_NOTHING)
        return true;
    return taker->controller_greeted && channel_unsent(&taker->controller) == 0;
}

/* ---- frames
 * -------------------------------------------------------------------------------------------------
 */

static bool control_on_hello(struct taker *taker, struct bytes payload)
{
    struct wire_hello hello;
    uint16_t version;
    const char *reason;
    if (wire_hello_read(&hello, payload) < 0 || wire_hello_check(&hello, &version, &reason) < 0 ||
        hello.role != WIRE_ROLE_CONTROLLER)
        return false;
    taker->controller_greeted = true;
    control_say(taker);
    return true;
}

static bool control_on_ping(struct taker *taker, struct bytes payload)
{
    struct wire_ping ping;
    if (wire_ping_read(&ping, payload) < 0)
        return false;
    struct wire_pong pong = {.token = ping.token, .queue_length = replica_ongoing(taker->mind)};
    if (taker->running_since_ns)
        pong.running_ms =
            (uint32_t)((loop_now_ns(taker->config.loop) - taker->running_since_ns) / 1000000);
    uint8_t *room = channel_put_room_always(&taker->controller, wire_pong_size(&pong));
    if (room)
        channel_put_done(&taker->controller, wire_pong_write(&pong, 0, 0, false, room));
    return true;
}

static bool control_on_reconfigure(struct taker *taker, const struct wire_header *header,
                                   struct bytes payload)
{
    struct wire_reconfigure frame;
    struct error error = {0};
    if (wire_reconfigure_read(&frame, payload) < 0)
        return false;
    taker->telling = header->stream;
    int code = configure_begin(taker, frame.max_ongoing, frame.body, &error);
    if (code < 0)
        control_say_configured(taker, code, bytes_of_string(error.text));
    return true;
}

static bool control_on_frame(struct taker *taker, struct bytes frame)
{
    struct wire_header header;
    struct wire_drain drain;
    wire_header_read(&header, frame.at);
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    if (!taker->controller_greeted && header.type != WIRE_HELLO_FRAME)
        return false;
    switch (header.type) {
    case WIRE_HELLO_FRAME:
        return control_on_hello(taker, payload);
    case WIRE_PING_FRAME:
        return control_on_ping(taker, payload);
    case WIRE_DRAIN_FRAME:
        if (wire_drain_read(&drain, payload) < 0)
            return false;
        taker_apply_drain(taker, drain.timeout_us < INT64_MAX / 2000
                                     ? (int64_t)drain.timeout_us * 1000
                                     : INT64_MAX / 2);
        return true;
    case WIRE_RECONFIGURE_FRAME:
        return control_on_reconfigure(taker, &header, payload);
    default:
        return true;
    }
}

static void control_event(void *owner, struct channel *channel, int events)
{
    struct taker *taker = owner;
    struct bytes frame;
    enum channel_taken taken = CHANNEL_NO_FRAME;
    bool good = !(events & CHANNEL_CLOSED);
    if (events & (CHANNEL_READABLE | CHANNEL_CLOSED)) {
        good = channel_receive(channel) >= 0 && good;
        while ((taken = channel_take(channel, &frame)) == CHANNEL_FRAME)
            if (!control_on_frame(taker, frame)) {
                metric_add(peer_glitches_total, 1);
                good = false;
                break;
            }
    }
    if (!good || taken == CHANNEL_BROKEN)
        control_retry(taker);
}
