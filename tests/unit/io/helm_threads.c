/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads at one helm, on a real channel.  A plain program, so that it runs under
 * ThreadSanitizer.
 *
 * Every story ends because of what it waits for; a lost wake-up shows as a hang, which the test's
 * time limit ends. The peer of the channel is a thread of its own with blocking reads: it answers
 * every request and every ping.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "ensure.h"
#include "helm.h"
#include "socket.h"

enum {
    FRAME_SIZE = 24, /* header, u32 kind, u32 number */
    THREAD_COUNT = 6,
    CALLS_EACH = 2000,
    WORKER_COUNT = 3,
    REQUEST_COUNT = 4000,
    REQUEST_WINDOW = 16,
    CALL_LIMIT = THREAD_COUNT * CALLS_EACH,
};

enum kind { REQUEST = 1, REPLY, PING, PONG };

struct world {
    struct loop *loop;
    struct helm *helm;
    struct channel_set channels;
    struct channel channel;
    int peer;
    void (*frame)(struct world *world, enum kind kind, uint32_t number); /* helm held */
    /* guarded by the helm */
    bool replied[CALL_LIMIT];
    uint32_t queue[REQUEST_COUNT]; /* requests that no worker has */
    uint32_t queue_first, queue_count;
    uint32_t answered, pings;
    bool stops;
    sem_t told;
};

static void sem_take(sem_t *sem)
{
    while (sem_wait(sem) != 0)
        ;
}

/* ---- frames ---- */

static void make_frame(uint8_t *at, enum kind kind, uint32_t number)
{
    uint32_t words[6] = {FRAME_SIZE - 16, 0, 0, 0, kind, number};
    memcpy(at, words, sizeof(words));
}

/* Helm held. */
static void put(struct world *world, enum kind kind, uint32_t number)
{
    uint8_t *at = channel_put_room(&world->channel, FRAME_SIZE);
    ensure(at);
    make_frame(at, kind, number);
    channel_put_done(&world->channel, FRAME_SIZE);
}

static void on_event(void *owner, struct channel *channel, int events)
{
    struct world *world = owner;
    struct bytes frame;
    ensure(helm_held(world->helm));
    if (!(events & CHANNEL_READABLE))
        return;
    while (channel_receive(channel) > 0)
        while (channel_take(channel, &frame) == CHANNEL_FRAME) {
            uint32_t words[6];
            ensure(frame.size == FRAME_SIZE);
            memcpy(words, frame.at, sizeof(words));
            world->frame(world, words[4], words[5]);
        }
}

static struct world *begin(void (*frame)(struct world *world, enum kind kind, uint32_t number))
{
    struct world *world = calloc(1, sizeof(*world));
    int ends[2];
    world->loop = loop_new();
    world->helm = helm_new(world->loop);
    world->frame = frame;
    sem_init(&world->told, 0, 0);
    ensure(world->helm && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    world->peer = ends[1];
    helm_take(world->helm);
    ensure(channel_set_init(&world->channels, world->loop,
                            &(struct channel_config){.frame_limit = 65536,
                                                     .queue_limit = 1 << 22,
                                                     .turn_limit = 65536,
                                                     .buffer_keep = 4}) == 0);
    ensure(channel_open(&world->channel, &world->channels, ends[0], on_event, world) == 0);
    helm_give(world->helm);
    return world;
}

static void finish(struct world *world)
{
    helm_take(world->helm);
    channel_close(&world->channel);
    channel_set_done(&world->channels);
    helm_give(world->helm);
    helm_free(world->helm);
    loop_free(world->loop);
    close(world->peer);
    sem_destroy(&world->told);
    free(world);
}

static bool peer_read(struct world *world, enum kind *ret_kind, uint32_t *ret_number)
{
    uint32_t words[6];
    size_t got = 0;
    while (got < sizeof(words)) {
        ssize_t rc = read(world->peer, (char *)words + got, sizeof(words) - got);
        if (rc <= 0)
            return false;
        got += (size_t)rc;
    }
    *ret_kind = words[4];
    *ret_number = words[5];
    return true;
}

static void peer_write(struct world *world, enum kind kind, uint32_t number)
{
    uint8_t bytes[FRAME_SIZE];
    make_frame(bytes, kind, number);
    ensure(write(world->peer, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes));
}

/* Answers requests by replies, pings by pongs, until the channel is closed. */
static void *echo(void *owner)
{
    struct world *world = owner;
    enum kind kind;
    uint32_t number;
    while (peer_read(world, &kind, &number))
        peer_write(world, kind == REQUEST ? REPLY : PONG, number);
    return NULL;
}

static void end_echo(struct world *world, pthread_t peer)
{
    shutdown(world->peer, SHUT_RDWR);
    pthread_join(peer, NULL);
}

/* ---- callers that wait for replies of their own ---- */

static void note_reply(struct world *world, enum kind kind, uint32_t number)
{
    ensure(kind == REPLY && number < CALL_LIMIT && !world->replied[number]);
    world->replied[number] = true;
}

struct caller {
    struct world *world;
    uint32_t first;
    pthread_t thread;
};

struct one_call {
    struct world *world;
    uint32_t number;
};

static bool is_replied(void *owner)
{
    struct one_call *one = owner;
    ensure(helm_held(one->world->helm));
    return one->world->replied[one->number];
}

static void *make_calls(void *owner)
{
    struct caller *caller = owner;
    struct helm *helm = caller->world->helm;
    for (uint32_t i = 0; i < CALLS_EACH; i++) {
        struct one_call one = {caller->world, caller->first + i};
        helm_take(helm);
        put(caller->world, REQUEST, one.number);
        if (i % 3 == 0) { /* send it, and do something else before the wait */
            channel_set_flush(&caller->world->channels);
            helm_give(helm);
            helm_take(helm);
        }
        ensure(helm_wait(helm, is_replied, &one, 0));
        ensure(helm_held(helm) && is_replied(&one));
        helm_give(helm);
    }
    return NULL;
}

static void callers_share_a_loop(bool background)
{
    struct world *world = begin(note_reply);
    struct caller callers[THREAD_COUNT];
    pthread_t peer;
    pthread_create(&peer, NULL, echo, world);
    helm_take(world->helm);
    if (background)
        helm_steer_in_background(world->helm, true);
    helm_give(world->helm);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        callers[i] = (struct caller){.world = world, .first = i * CALLS_EACH};
        pthread_create(&callers[i].thread, NULL, make_calls, &callers[i]);
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(callers[i].thread, NULL);
    helm_take(world->helm);
    for (uint32_t i = 0; i < CALL_LIMIT; i++)
        ensure(world->replied[i]);
    if (background)
        helm_steer_in_background(world->helm, false);
    helm_give(world->helm);
    end_echo(world, peer);
    finish(world);
}

/* ---- workers that take what arrives ---- */

static void take_request(struct world *world, enum kind kind, uint32_t number)
{
    if (kind == PING) {
        world->pings++;
        put(world, PONG, number);
        return;
    }
    ensure(kind == REQUEST && world->queue_count < REQUEST_COUNT);
    world->queue[(world->queue_first + world->queue_count++) % REQUEST_COUNT] = number;
}

struct worker {
    struct world *world;
    pthread_t thread;
    bool has;
    uint32_t number;
};

/* Assigns a request to its waiter, whoever asks. */
static bool has_work(void *owner)
{
    struct worker *worker = owner;
    struct world *world = worker->world;
    if (!worker->has && world->queue_count > 0) {
        worker->has = true;
        worker->number = world->queue[world->queue_first];
        world->queue_first = (world->queue_first + 1) % REQUEST_COUNT;
        world->queue_count--;
    }
    return worker->has || world->stops;
}

static void *work(void *owner)
{
    struct worker *worker = owner;
    struct world *world = worker->world;
    helm_take(world->helm);
    for (;;) {
        ensure(helm_wait(world->helm, has_work, worker, 0));
        if (!worker->has)
            break;
        worker->has = false;
        helm_enter_user_code(world->helm);
        helm_give(world->helm);
        for (volatile uint32_t i = 0; i < worker->number % 997; i++)
            ; /* the user's code */
        helm_take(world->helm);
        helm_leave_user_code(world->helm);
        put(world, REPLY, worker->number);
        world->answered++;
    }
    channel_set_flush(&world->channels);
    helm_give(world->helm);
    return NULL;
}

static void workers_answer_what_arrives(void)
{
    struct world *world = begin(take_request);
    struct worker workers[WORKER_COUNT] = {0};
    static bool seen[REQUEST_COUNT];
    uint32_t sent = 0, got = 0, number;
    enum kind kind;
    for (int i = 0; i < WORKER_COUNT; i++) {
        workers[i].world = world;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    while (got < REQUEST_COUNT) {
        while (sent < REQUEST_COUNT && sent - got < REQUEST_WINDOW)
            peer_write(world, REQUEST, sent++);
        ensure(peer_read(world, &kind, &number) && kind == REPLY && !seen[number]);
        seen[number] = true;
        got++;
    }
    helm_take(world->helm);
    ensure(world->answered == REQUEST_COUNT);
    world->stops = true;
    helm_changed(world->helm);
    helm_give(world->helm);
    for (int i = 0; i < WORKER_COUNT; i++)
        pthread_join(workers[i].thread, NULL);
    finish(world);
}

/* ---- the standby ---- */

static void *run_user_code(void *owner)
{
    struct world *world = owner;
    helm_take(world->helm);
    helm_enter_user_code(world->helm);
    helm_give(world->helm);
    sem_take(&world->told); /* user code that ends when the peer has heard a pong */
    helm_take(world->helm);
    helm_leave_user_code(world->helm);
    helm_give(world->helm);
    return NULL;
}

static void pings_are_answered_while_all_threads_run_user_code(void)
{
    struct world *world = begin(take_request);
    for (uint32_t i = 0; i < 20; i++) {
        pthread_t threads[2];
        enum kind kind;
        uint32_t number;
        for (int k = 0; k < 2; k++)
            pthread_create(&threads[k], NULL, run_user_code, world);
        peer_write(world, PING, i);
        ensure(peer_read(world, &kind, &number) && kind == PONG && number == i);
        sem_post(&world->told);
        sem_post(&world->told);
        for (int k = 0; k < 2; k++)
            pthread_join(threads[k], NULL);
    }
    finish(world);
}

/* A worker waits for its request while the standby may be steering for another thread's user code.
 */
static void waiters_take_over_from_the_standby(void)
{
    struct world *world = begin(take_request);
    struct worker worker = {.world = world};
    pthread_t busy;
    enum kind kind;
    uint32_t number;
    pthread_create(&busy, NULL, run_user_code, world);
    peer_write(world, PING, 7); /* the standby steers from here on */
    ensure(peer_read(world, &kind, &number) && kind == PONG);
    pthread_create(&worker.thread, NULL, work, &worker);
    for (uint32_t i = 0; i < 500; i++) {
        peer_write(world, REQUEST, i);
        ensure(peer_read(world, &kind, &number) && kind == REPLY && number == i);
    }
    helm_take(world->helm);
    world->stops = true;
    helm_changed(world->helm);
    helm_give(world->helm);
    pthread_join(worker.thread, NULL);
    sem_post(&world->told);
    pthread_join(busy, NULL);
    finish(world);
}

static void tell_reply(struct world *world, enum kind kind, uint32_t number)
{
    ensure(kind == REPLY);
    sem_post(&world->told);
}

static void replies_come_in_the_background(void)
{
    struct world *world = begin(tell_reply);
    pthread_t peer;
    pthread_create(&peer, NULL, echo, world);
    for (uint32_t i = 0; i < 500; i++) {
        helm_take(world->helm);
        helm_steer_in_background(world->helm, true);
        put(world, REQUEST, i);
        channel_set_flush(&world->channels);
        helm_give(world->helm);
        sem_take(&world->told); /* this thread never steers */
        helm_take(world->helm);
        helm_steer_in_background(world->helm, false);
        helm_give(world->helm);
    }
    end_echo(world, peer);
    finish(world);
}

/* ---- news for a steersman that waits ---- */

struct news {
    struct world *world;
    struct loop_watch watch;
    struct loop_timer timer;
    int ends[2];
    bool came, stops;
    uint32_t round;
};

static bool news_came(void *owner)
{
    struct news *news = owner;
    return news->came || news->stops;
}

static void note_ready(void *owner, int events)
{
    struct news *news = owner;
    loop_watch_close(&news->watch);
    news->came = true;
}

static void note_fired(void *owner)
{
    ((struct news *)owner)->came = true;
}

static void *steer_for_news(void *owner)
{
    struct news *news = owner;
    struct helm *helm = news->world->helm;
    helm_take(helm);
    while (!news->stops) {
        ensure(helm_wait(helm, news_came, news, 0));
        if (news->came)
            sem_post(&news->world->told);
        news->came = false;
    }
    helm_give(helm);
    return NULL;
}

/* Each round another thread opens a watch, sets a timer, or changes what is waited for: the
 * steersman must hear. */
static void a_waiting_steersman_hears_all_news(void)
{
    struct news news = {.world = begin(note_reply)};
    struct helm *helm = news.world->helm;
    pthread_t steersman;
    ensure(socket_pair(news.ends) == 0);
    loop_timer_init(news.world->loop, &news.timer, note_fired, &news);
    ensure(write(news.ends[1], "x", 1) == 1);
    pthread_create(&steersman, NULL, steer_for_news, &news);
    for (uint32_t i = 0; i < 3000; i++) {
        helm_take(helm);
        if (i % 3 == 0)
            ensure(loop_watch_open(news.world->loop, &news.watch, news.ends[0], LOOP_READ,
                                   note_ready, &news) == 0);
        else if (i % 3 == 1)
            loop_timer_set(&news.timer, loop_refresh_now_ns(news.world->loop) + 1);
        else {
            news.came = true;
            helm_changed(helm);
        }
        helm_give(helm);
        sem_take(&news.world->told);
    }
    helm_take(helm);
    news.stops = true;
    helm_changed(helm);
    helm_give(helm);
    pthread_join(steersman, NULL);
    socket_close(news.ends[0]);
    socket_close(news.ends[1]);
    finish(news.world);
}

static bool never(void *owner)
{
    return false;
}

static void *wait_a_moment(void *owner)
{
    struct world *world = owner;
    helm_take(world->helm);
    for (int i = 1; i <= 20; i++) {
        int64_t due_ns = loop_refresh_now_ns(world->loop) + i * 200000;
        ensure(!helm_wait(world->helm, never, NULL, due_ns));
        ensure(loop_refresh_now_ns(world->loop) >= due_ns);
    }
    helm_give(world->helm);
    return NULL;
}

static void waits_end_when_they_are_due(void)
{
    struct world *world = begin(note_reply);
    pthread_t threads[THREAD_COUNT];
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_create(&threads[i], NULL, wait_a_moment, world);
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    finish(world);
}

/* ---- inside a turn ---- */

static void wait_inside(void *owner)
{
    struct news *news = owner;
    ensure(!helm_wait(news->world->helm, never, NULL, 0));
    news->came = true;
}

static void inside_a_turn_nobody_waits(void)
{
    struct news news = {.world = begin(note_reply)};
    struct helm *helm = news.world->helm;
    helm_take(helm);
    loop_timer_init(news.world->loop, &news.timer, wait_inside, &news);
    loop_timer_set(&news.timer, 1);
    ensure(helm_wait(helm, news_came, &news, 0));
    helm_give(helm);
    finish(news.world);
}

/* ---- fairness ---- */

struct race {
    struct world *world;
    struct loop_turn turn;
    bool over;
};

static void always_busy(void *owner)
{
    struct race *race = owner;
    loop_turn_again(race->world->loop);
}

static bool race_is_over(void *owner)
{
    return ((struct race *)owner)->over;
}

static void *steer_a_race(void *owner)
{
    struct race *race = owner;
    helm_take(race->world->helm);
    ensure(helm_wait(race->world->helm, race_is_over, race, 0));
    helm_give(race->world->helm);
    return NULL;
}

static void a_busy_steersman_lets_others_pass(void)
{
    struct race race = {.world = begin(note_reply)};
    struct helm *helm = race.world->helm;
    pthread_t steersman;
    race.turn = (struct loop_turn){.turn = always_busy, .owner = &race};
    helm_take(helm);
    loop_turn_add(race.world->loop, &race.turn);
    helm_give(helm);
    pthread_create(&steersman, NULL, steer_a_race, &race);
    for (int i = 0; i < 200; i++) {
        helm_take(helm);
        ensure(helm_held(helm));
        race.over = i == 199;
        helm_give(helm);
    }
    pthread_join(steersman, NULL);
    helm_take(helm);
    loop_turn_remove(&race.turn);
    helm_give(helm);
    finish(race.world);
}

int main(void)
{
    const struct {
        const char *name;
        void (*story)(void);
    } stories[] = {
        {"waits_end_when_they_are_due", waits_end_when_they_are_due},
        {"a_waiting_steersman_hears_all_news", a_waiting_steersman_hears_all_news},
        {"inside_a_turn_nobody_waits", inside_a_turn_nobody_waits},
        {"a_busy_steersman_lets_others_pass", a_busy_steersman_lets_others_pass},
        {"pings_are_answered_while_all_threads_run_user_code",
         pings_are_answered_while_all_threads_run_user_code},
        {"waiters_take_over_from_the_standby", waiters_take_over_from_the_standby},
        {"replies_come_in_the_background", replies_come_in_the_background},
        {"workers_answer_what_arrives", workers_answer_what_arrives},
    };
    for (size_t i = 0; i < sizeof(stories) / sizeof(stories[0]); i++) {
        printf("%s\n", stories[i].name);
        fflush(stdout);
        stories[i].story();
    }
    for (int background = 0; background < 2; background++) {
        printf("callers_share_a_loop%s\n", background ? "_in_the_background" : "");
        fflush(stdout);
        callers_share_a_loop(background);
    }
    return 0;
}
