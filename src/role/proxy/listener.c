/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: one accept per wake-up from the listening socket that the node holds and all proxies
 * share.
 *
 * Running out of descriptors never spins: a descriptor kept in reserve is given up to accept one
 * connection and close it at once, so that its client is told rather than left waiting; then
 * accepting pauses for a moment.  At the connection limit the rest wait in the kernel's queue until
 * one closes.
 *
 * Nothing is accepted before the first snapshot: a proxy that was just started would say "not
 * found" to what its neighbours serve, while in the queue the connection waits some milliseconds.
 * When the controller is away the wait has an end.
 */
#include <errno.h>

#include "log.h"
#include "metrics.h"
#include "proxy.h"
#include "socket.h"

enum { PAUSE_MS = 50, FIRST_SNAPSHOT_MS = 2000 };

static bool listener_full(const struct proxy *proxy)
{
    return proxy->connections.used_count >= (uint32_t)proxy->settings.http_connection_limit;
}

static void listener_watch(struct proxy *proxy)
{
    bool wanted =
        !proxy->draining && !proxy->waiting && !listener_full(proxy) && !proxy->accept_timer.due_ns;
    if (wanted != proxy->accepting && proxy->listener.handle)
        loop_watch_change(&proxy->listener, wanted ? LOOP_READ : 0);
    proxy->accepting = wanted;
}

static void listener_pause(struct proxy *proxy)
{
    metric_add(accept_full_total, 1);
    loop_timer_set(&proxy->accept_timer, loop_now_ns(proxy->loop) + PAUSE_MS * 1000000LL);
    listener_watch(proxy);
}

static void listener_out_of_descriptors(struct proxy *proxy)
{
    if (proxy->reserve_descriptor >= 0) {
        socket_close(proxy->reserve_descriptor);
        int descriptor = socket_accept(proxy->listen_descriptor);
        if (descriptor >= 0)
            socket_close(descriptor);
    }
    proxy->reserve_descriptor = socket_open_reserve();
    listener_pause(proxy);
}

static void listener_ready(void *owner, int events)
{
    struct proxy *proxy = owner;
    (void)events;
    int descriptor = socket_accept(proxy->listen_descriptor);
    if (descriptor >= 0)
        connection_open(proxy, descriptor);
    else if (descriptor == -EMFILE || descriptor == -ENFILE)
        listener_out_of_descriptors(proxy);
    else if (descriptor == -ENOMEM || descriptor == -ENOBUFS)
        listener_pause(proxy);
    /* Anything else (another proxy was quicker, the client is gone) is over already. */
    if (listener_full(proxy)) {
        metric_add(accept_full_total, 1);
        listener_watch(proxy);
    }
}

static void listener_pause_over(void *owner)
{
    struct proxy *proxy = owner;
    proxy->waiting = false;
    if (proxy->reserve_descriptor < 0)
        proxy->reserve_descriptor = socket_open_reserve();
    listener_watch(proxy);
}

void listener_resume(struct proxy *proxy)
{
    if (!proxy->accepting)
        listener_watch(proxy);
}

void listener_begin(struct proxy *proxy)
{
    if (!proxy->waiting)
        return;
    proxy->waiting = false;
    loop_timer_clear(&proxy->accept_timer);
    listener_watch(proxy);
}

int listener_open(struct proxy *proxy, struct error *reterr)
{
    loop_timer_init(proxy->loop, &proxy->accept_timer, listener_pause_over, proxy);
    proxy->reserve_descriptor = socket_open_reserve();
    if (proxy->listen_descriptor < 0)
        return 0;
    proxy->waiting = true;
    if (loop_watch_open(proxy->loop, &proxy->listener, proxy->listen_descriptor, 0, listener_ready,
                        proxy) < 0)
        return error_set(reterr, ERROR_SYSTEM, "the listening socket cannot be watched");
    loop_timer_set(&proxy->accept_timer,
                   loop_refresh_now_ns(proxy->loop) + FIRST_SNAPSHOT_MS * 1000000LL);
    return 0;
}

void listener_close(struct proxy *proxy)
{
    if (proxy->listener.handle)
        loop_watch_close(&proxy->listener);
    proxy->accepting = false;
    loop_timer_clear(&proxy->accept_timer);
    socket_close(proxy->reserve_descriptor);
    proxy->reserve_descriptor = -1;
}
