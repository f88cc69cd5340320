/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access: one line per request in the proxy's log, in Ray Serve's layout (behaviour 7.5):
 * "<METHOD> <route> <status> <latency> ms".  The proxy's own endpoints are left out.
 */
#include <string.h>

#include "log.h"
#include "proxy.h"

enum { LINE_SIZE = 192 }; /* method and route are bounded by their members */

static size_t add_string(char *at, const char *string)
{
    size_t size = strlen(string);
    memcpy(at, string, size);
    return size;
}

static size_t add_number(char *at, uint64_t number)
{
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (size_t i = 0; i < count; i++)
        at[i] = digits[count - 1 - i];
    return count;
}

/* By hand: this runs once per request. */
void access_log(const struct exchange *exchange)
{
    _Static_assert(sizeof exchange->method_name + sizeof exchange->route + 60 < LINE_SIZE,
                   "every line fits");
    const struct proxy *proxy = exchange->connection->proxy;
    char line[LINE_SIZE], *at = line;
    if (!proxy->access_log || !exchange->route[0] || !log_enabled(LOG_INFO))
        return;
    int64_t spent_ns = loop_now_ns(proxy->loop) - exchange->begin_ns;
    uint64_t us = spent_ns > 0 ? (uint64_t)spent_ns / 1000 : 0;
    at += add_string(at, exchange->method_name);
    *at++ = ' ';
    at += add_string(at, exchange->route);
    *at++ = ' ';
    at += add_number(at, exchange->status);
    *at++ = ' ';
    at += add_number(at, us / 1000);
    *at++ = '.';
    at += add_number(at, us % 1000 / 100);
    at += add_string(at, "ms");
    log_request_line(LOG_INFO, bytes_of(exchange->request_id, exchange->request_id_size),
                     bytes_of(line, (size_t)(at - line)));
}
