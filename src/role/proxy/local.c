/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local: the answers that the proxy gives itself, in Ray Serve's words (behaviour 7.2 to 7.4).
 */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "metrics.h"
#include "proxy.h"
#include "text.h"

static const struct bytes PLAIN = {(const uint8_t *)"text/plain; charset=utf-8", 25};

static void answer_text(struct exchange *exchange, uint16_t status, struct bytes text)
{
    exchange_answer(exchange, status, PLAIN, (struct bytes){0}, text);
}

/* Empty when this proxy is fit to serve. */
static struct bytes unfit_reason(const struct proxy *proxy)
{
    if (proxy->draining)
        return BYTES("This node is being drained.");
    if (!proxy->populated)
        return BYTES("Route table is not populated yet.");
    return (struct bytes){0};
}

static void answer_routes(struct exchange *exchange)
{
    const struct router *router = dispatch_router(exchange->connection->proxy->dispatch);
    struct text json;
    bool first = true;
    text_init(&json, 16 << 20);
    text_add_byte(&json, '{');
    for (uint32_t i = 0; i < router_app_count(router); i++) {
        const struct router_snapshot_app *app = router_app_at(router, i);
        if (!app->route_prefix.size)
            continue;
        if (!first)
            text_add_byte(&json, ',');
        first = false;
        text_add_json(&json, app->route_prefix);
        text_add_byte(&json, ':');
        text_add_json(&json, app->name);
    }
    text_add_byte(&json, '}');
    exchange_answer(exchange, json.failed ? 500 : 200, BYTES("application/json"), (struct bytes){0},
                    text_bytes(&json));
    text_done(&json);
}

bool local_answer(struct exchange *exchange, struct bytes path)
{
    bool health = bytes_equal(path, BYTES("/-/healthz"));
    if (!health && !bytes_equal(path, BYTES("/-/routes")))
        return false;
    struct bytes reason = unfit_reason(exchange->connection->proxy);
    if (reason.size)
        answer_text(exchange, 503, reason);
    else if (health)
        answer_text(exchange, 200, BYTES("success"));
    else
        answer_routes(exchange);
    return true;
}

void local_not_found(struct exchange *exchange, struct bytes path)
{
    struct text text;
    text_init(&text, 4096);
    text_print(&text, "Path '%.*s' not found. Ping http://.../-/routes for available routes.",
               (int)(path.size < 2048 ? path.size : 2048), (const char *)path.at);
    answer_text(exchange, 404, text_bytes(&text));
    text_done(&text);
}

/* What the text of an error may tell a client: our own verdicts, never what user code said. */
void local_error(struct exchange *exchange, int code, struct bytes text)
{
    struct proxy *proxy = exchange->connection->proxy;
    int status = error_http_status(code);
    char own[160];
    if (status == 499) {
        answer_text(exchange, 499, BYTES("The request was cancelled."));
        return;
    }
    if (code == ERROR_TIMEOUT) {
        int size = snprintf(own, sizeof own, "Request %.*s timed out after %gs.",
                            exchange->request_id_size, exchange->request_id,
                            (double)proxy->settings.http_request_timeout_ms / 1000);
        answer_text(exchange, 408, bytes_of(own, (size_t)size));
        return;
    }
    if (status >= 500 && status != 503) {
        log_request(LOG_ERROR, bytes_of(exchange->request_id, exchange->request_id_size),
                    "%s %s: %s: %.*s", exchange->method_name, exchange->route, error_name(code),
                    BYTES_PRINT(text));
        answer_text(exchange, (uint16_t)status, BYTES("Internal Server Error"));
        return;
    }
    if (code == ERROR_BUSY)
        text = BYTES("Request dropped due to backpressure: the queue of the deployment is full.");
    else if (!text.size)
        text = bytes_of_string(error_text(code));
    if (status == 503)
        metric_add(requests_refused_total, 1);
    answer_text(exchange, (uint16_t)status, text);
}

void local_refused(struct exchange *exchange, int status, const char *reason)
{
    exchange->keep_alive = false;
    answer_text(exchange, (uint16_t)status, bytes_of_string(reason));
}
