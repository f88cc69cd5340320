/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_check: what is true between two turns, looked at connection by connection.
 *
 * The one that matters most is about sleep: a connection that is neither read nor waits until it
 * can write must be waited for by somebody else, a replica or the byte budget, or it would never be
 * looked at again.
 */
#include "ensure.h"
#include "proxy.h"

static void check_buffers(const struct connection *connection)
{
    size_t unread = connection->in_end - connection->in_start;
    ensure(connection->in_start <= connection->in_end);
    ensure(connection->in_end <= (connection->in ? connection->in->capacity : 0));
    ensure(connection->out_start <= connection->out_end);
    ensure(connection->out_end <= (connection->out ? connection->out->capacity : 0));
    ensure(connection->held <= unread);
    ensure(connection->held == 0 || connection->in_body);
}

/* How many exchanges it has. */
static size_t check_exchanges(const struct connection *connection)
{
    const struct list_link *link;
    list_each (link, &connection->exchanges) {
        const struct exchange *exchange = list_entry(link, struct exchange, link);
        ensure(exchange->connection == connection);
        ensure_tag(R1, !exchange->over || !exchange->call);
        ensure_tag(R1, exchange->over || exchange->call || exchange->slot ||
                           (exchange->dialogue && exchange->dialogue->close_sent));
        ensure(!exchange->dialogue || connection->exchanges.length == 1);
        ensure(!exchange->slot || (!exchange->call && !exchange->over && exchange->head));
        ensure(!exchange->tail || exchange->pending);
        ensure(list_empty(&exchange->segments) || connection->tail);
        ensure(!exchange->over || exchange->answered);
        ensure(!exchange->pending || link != connection->exchanges.head.next);
        ensure(!exchange->discard || !exchange->call);
    }
    ensure(!connection->in_body || !list_empty(&connection->exchanges));
    return connection->exchanges.length;
}

static bool waits_for_replica(const struct connection *connection)
{
    const struct list_link *link;
    list_each (link, &connection->exchanges)
        if (list_entry(link, struct exchange, link)->call)
            return true;
    return false;
}

static size_t check_connection(const struct proxy *proxy, const struct connection *connection)
{
    ensure(connection->proxy == proxy && !connection->closed && connection->descriptor >= 0);
    ensure(!list_linked(&connection->dirty_link));
    check_buffers(connection);
    ensure(connection->reading == ((connection->watch.events & LOOP_READ) != 0));
    ensure(connection->blocked == ((connection->watch.events & LOOP_WRITE) != 0));
    ensure(connection->blocked == (connection_unsent(connection) > 0));
    ensure(!connection->tail || connection->tail_start < connection->tail->value.size);
    ensure(connection->reading || connection->blocked || list_linked(&connection->starved_link) ||
           waits_for_replica(connection));
    return check_exchanges(connection);
}

void proxy_check(const struct proxy *proxy)
{
    size_t connections = 0, exchanges = 0;
    for (enum phase phase = 0; phase < PHASE_COUNT; phase++) {
        const struct list *list = &proxy->phases[phase];
        const struct list_link *link;
        int64_t before_ns = 0;
        list_each (link, list) {
            const struct connection *connection = list_entry(link, struct connection, phase_link);
            ensure(connection->phase == phase);
            ensure(connection->phase_ns >= before_ns); /* the first is the oldest */
            before_ns = connection->phase_ns;
            exchanges += check_connection(proxy, connection);
        }
        ensure(phase == PHASE_BUSY || list_empty(list) || proxy->timer.due_ns);
        connections += list->length;
    }
    ensure(list_empty(&proxy->dirty) && list_empty(&proxy->closed));
    ensure_tag(M1, connections == proxy->connections.used_count);
    ensure_tag(M1, exchanges == proxy->exchanges.used_count);
}
