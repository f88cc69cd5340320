/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access: one line per request in the proxy's log, in Ray Serve's layout (behaviour 7.5):
 * "<METHOD> <route> <status> <latency> ms".  The proxy's own endpoints are left out.
 */
#include "log.h"
#include "proxy.h"

void access_log(const struct exchange *exchange)
{
    const struct proxy *proxy = exchange->connection->proxy;
    if (!proxy->access_log || !exchange->route[0])
        return;
    int64_t us = (loop_now_ns(proxy->loop) - exchange->begin_ns) / 1000;
    log_request(LOG_INFO, bytes_of(exchange->request_id, exchange->request_id_size),
                "%s %s %u %lld.%lldms", exchange->method_name, exchange->route, exchange->status,
                (long long)(us / 1000), (long long)(us % 1000 / 100));
}
