/* SPDX-License-Identifier: Apache-2.0 */
/*
 * defects_taker: mistakes of a replica.
 *
 * The linker leads calls between files of the roles through these wrappers (--wrap, meson.build);
 * each passes the call on unchanged unless its defect was chosen.  So the roles are the same
 * libraries here as everywhere, and a defect is a few lines that read like the mistake somebody
 * might make.
 */
#include "defects.h"
#include "dispatch_inner.h"
#include "taker_inner.h"
#include "world.h"

/* ---- the replica's mind ---- */

struct replica *__real_replica_new(const struct replica_config *config);
struct replica *__wrap_replica_new(const struct replica_config *config);
struct replica *__wrap_replica_new(const struct replica_config *config)
{
    struct replica_config wrong = *config;
    wrong.max_ongoing += defect_is(DEFECT_ONE_TOO_MANY);
    wrong.batch_size += defect_is(DEFECT_LARGE_BATCH);
    return __real_replica_new(&wrong);
}

void __real_replica_release(struct replica *replica, int64_t now_ns, struct request_id request,
                            struct bytes model_id);
void __wrap_replica_release(struct replica *replica, int64_t now_ns, struct request_id request,
                            struct bytes model_id);
void __wrap_replica_release(struct replica *replica, int64_t now_ns, struct request_id request,
                            struct bytes model_id)
{
    if (defect_is(DEFECT_MIXED_BATCH))
        model_id = (struct bytes){0};
    if (!defect_now(DEFECT_LOST_RELEASE, 5))
        __real_replica_release(replica, now_ns, request, model_id);
}

int __real_taker_models(struct taker *taker, const struct bytes *ids, size_t count);
int __wrap_taker_models(struct taker *taker, const struct bytes *ids, size_t count);
int __wrap_taker_models(struct taker *taker, const struct bytes *ids, size_t count)
{
    return count && defect_is(DEFECT_LOST_MODELS) ? 0 : __real_taker_models(taker, ids, count);
}

/* ---- taking ---- */

static struct {
    uint32_t life;
    const struct taker *taker;
    uint64_t id; /* 0: none */
} given;         /* TWO_OWNERS: to one of them */

static uint32_t give_again(struct taker *taker, struct taker_request **ret_requests)
{
    struct request *request = pool_find(&taker->requests, given.id);
    given.id = 0;
    if (!request || request->phase != REQUEST_TAKEN)
        return 0;
    ret_requests[0] = &request->public;
    return 1;
}

static void forget_mark(const struct taker_request *public)
{
    const struct request *request = (const struct request *)(const void *)public;
    if (request->session && request->session->page.at)
        ((uint32_t *)request->session->page.at)[(uint32_t)request->stream] = 0;
}

uint32_t __real_taker_take(struct taker *taker, struct taker_request **ret_requests, uint32_t room,
                           bool *ret_batched);
uint32_t __wrap_taker_take(struct taker *taker, struct taker_request **ret_requests, uint32_t room,
                           bool *ret_batched);
uint32_t __wrap_taker_take(struct taker *taker, struct taker_request **ret_requests, uint32_t room,
                           bool *ret_batched)
{
    if (given.life == defects_life() && given.taker == taker && given.id != 0) {
        *ret_batched = false;
        if (give_again(taker, ret_requests))
            return 1;
    }
    uint32_t count = __real_taker_take(taker, ret_requests, room, ret_batched);
    for (uint32_t i = 0; i < count; i++)
        if (defect_is(DEFECT_LOST_MARK))
            forget_mark(ret_requests[i]);
    if (count == 1 && !*ret_batched && defect_now(DEFECT_TWO_OWNERS, 7)) {
        given.life = defects_life();
        given.taker = taker;
        given.id = ret_requests[0]->id;
    }
    return count;
}

static bool is_away(const struct world_proxy *proxy, const struct loop_timer *timer)
{
    const struct dispatch *dispatch = proxy->living ? proxy->proxy->dispatch : NULL;
    return dispatch && timer == &dispatch->controller.timer &&
           dispatch->controller.state == CONTROLLER_AWAY;
}

void __real_loop_timer_set(struct loop_timer *timer, int64_t due_ns);
void __wrap_loop_timer_set(struct loop_timer *timer, int64_t due_ns);
void __wrap_loop_timer_set(struct loop_timer *timer, int64_t due_ns)
{
    struct list_link *link;
    if (defect_is(DEFECT_FORGOTTEN_TIMER))
        list_each (link, &world_now->replicas)
            if (timer == &list_entry(link, struct world_replica, link)->taker->timer)
                return;
    if (defect_is(DEFECT_NO_RETURN) && due_ns)
        for (uint32_t i = 0; i < world_now->proxy_count; i++)
            if (is_away(&world_now->proxies[i], timer))
                return;
    __real_loop_timer_set(timer, due_ns);
}

/* ---- answers ---- */

int __real_taker_answer(struct taker *taker, struct taker_request *request,
                        const struct taker_answer *answer);
int __wrap_taker_answer(struct taker *taker, struct taker_request *request,
                        const struct taker_answer *answer);
int __wrap_taker_answer(struct taker *taker, struct taker_request *request,
                        const struct taker_answer *answer)
{
    return defect_now(DEFECT_LOST_ANSWER, 10) ? 0 : __real_taker_answer(taker, request, answer);
}

void __real_request_tell(struct request *request, enum request_event event);
void __wrap_request_tell(struct request *request, enum request_event event);
void __wrap_request_tell(struct request *request, enum request_event event)
{
    if (event != EVENT_ROOM || !defect_now(DEFECT_LOST_ROOM, 2))
        __real_request_tell(request, event);
}
