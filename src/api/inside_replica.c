/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside_replica: the engine of an instance inside the program: replicas as threads.
 *
 *     STARTS -> RUNS (its taker is known) -> OVER (the thread is about to end)
 *
 * The controller's thread owns the engine and the list of replicas; what a replica's own thread
 * shares with it is guarded by the replica's lock.  A replica that is to end by force and does not
 * return within a second is left alone: the controller is told that it is gone, and the thread frees
 * what is its own if it ever comes back.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "door.h"
#include "ensure.h"
#include "inside.h"
#include "log.h"
#include "mem.h"
#include "runner.h"

enum { REPLICA_LIMIT = 4096, KILL_WAIT_S = 1 };

struct inside_replica {
    struct list_link link; /* on engine->replicas; the controller's thread's, as all up to `lock` */
    uint64_t id, version;
    struct instance place;
    uint8_t *document; /* until the thread has it */
    size_t document_size;
    struct manta_deployment own; /* of the program itself, if has_own */
    bool has_own, told;          /* STARTED was told */
    int64_t kill_due_ns;         /* left alone then; 0: nobody wants that */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct loop *loop;         /* woken when it is over; null: it was left alone */
    struct manta_taker *taker; /* while it can be told to end */
    bool drains, stops;        /* told to end, or by force */
    bool over;
    int exit_code;
    char text[ERROR_TEXT_SIZE]; /* why it did not begin */
};

struct inside_engine {
    struct engine engine;
    struct inside *inside;
    struct loop *loop;
    void (*wake)(void *owner);
    void *owner;
    struct list replicas;  /* struct inside_replica */
    struct list unknown;   /* struct unknown: stopped, and not there */
    struct loop_timer timer;
    bool listing;
    struct inside_replica *taken; /* whose text the last event points to */
};

struct unknown {
    struct list_link link;
    uint64_t id;
};

/* ---- runners that user code is still in
 * ------------------------------------------------------------- */

/* They stay where they are, for ever; reachable, so that whoever looks for leaks finds their owner. */
struct left {
    struct left *next;
    struct runner *runner;
};

static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;
static struct left *left_list;

static void leave_runner(struct runner *runner)
{
    struct left *left = mem_new(sizeof *left);
    left->runner = runner;
    pthread_mutex_lock(&left_lock);
    left->next = left_list;
    left_list = left;
    pthread_mutex_unlock(&left_lock);
}

/* ---- a replica's thread
 * ----------------------------------------------------------------------------- */

static void replica_free(struct inside_replica *replica)
{
    pthread_cond_destroy(&replica->changed);
    pthread_mutex_destroy(&replica->lock);
    mem_free(replica->document);
    mem_free(replica);
}

/* From here on the engine can tell it to end. */
static void show_taker(struct inside_replica *replica, struct manta_taker *taker)
{
    pthread_mutex_lock(&replica->lock);
    replica->taker = taker;
    if (taker && replica->stops)
        manta_taker_stop(taker);
    else if (taker && replica->drains)
        manta_taker_drain(taker);
    pthread_mutex_unlock(&replica->lock);
}

static void finish(struct inside_replica *replica, int code)
{
    pthread_mutex_lock(&replica->lock);
    bool left = !replica->loop;
    replica->over = true;
    replica->exit_code = code < 0 ? 1 : 0;
    pthread_cond_broadcast(&replica->changed);
    if (replica->loop)
        loop_wake(replica->loop);
    pthread_mutex_unlock(&replica->lock);
    if (left)
        replica_free(replica);
}

static int replica_live(struct inside_replica *replica, struct error *reterr)
{
    struct door_config config = {.directory = replica->place.directory,
                                 .controller = replica->place.controller_socket,
                                 .replica = replica->id,
                                 .version = replica->version,
                                 .document = replica->document,
                                 .document_size = replica->document_size};
    struct manta_taker *taker;
    struct runner *runner = mem_try(sizeof *runner);
    if (!runner)
        return error_set(reterr, ERROR_MEMORY, "no memory for a replica");
    replica->document = NULL;
    if (door_open(&config, &taker, reterr) < 0) {
        mem_free(runner);
        return reterr->code;
    }
    if (replica->has_own)
        runner->own = &replica->own;
    show_taker(replica, taker);
    int code = runner_live(runner, taker);
    show_taker(replica, NULL);
    if (runner_close(runner))
        mem_free(runner);
    else
        leave_runner(runner);
    return code;
}

static void *replica_main(void *owner)
{
    struct inside_replica *replica = owner;
    struct error error = {0};
    int code = replica_live(replica, &error);
    snprintf(replica->text, sizeof replica->text, "%s", error.text);
    finish(replica, code);
    return NULL;
}

/* ---- starting and stopping
 * -------------------------------------------------------------------------- */

static struct inside_engine *engine_of(struct engine *engine)
{
    return (struct inside_engine *)((char *)engine - offsetof(struct inside_engine, engine));
}

static int start_thread(struct inside_replica *replica, struct error *reterr)
{
    sigset_t before;
    pthread_condattr_t monotonic;
    pthread_mutex_init(&replica->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&replica->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    helm_block_signals(&before);
    int rc = pthread_create(&replica->thread, NULL, replica_main, replica);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? error_set(reterr, ERROR_SYSTEM, "no thread for a replica: %s", strerror(rc)) : 0;
}

static int inside_begin(struct engine *from, const struct engine_start *start, struct error *reterr)
{
    struct inside_engine *engine = engine_of(from);
    if (!bytes_equal(start->runner, BYTES("c")))
        return error_set(reterr, ERROR_INVALID, "local testing runs deployments in C, not '%.*s'",
                         BYTES_PRINT(bytes_head(start->runner, 40)));
    if (engine->replicas.length >= REPLICA_LIMIT)
        return error_set(reterr, ERROR_LIMIT, "too many replicas");
    struct inside_replica *replica = mem_new(sizeof *replica);
    replica->id = start->replica;
    replica->version = start->version;
    replica->place = engine->inside->place;
    replica->loop = engine->loop;
    replica->document = mem_new(start->body.size ? start->body.size : 1);
    replica->document_size = start->body.size;
    memcpy(replica->document, start->body.at, start->body.size);
    replica->has_own = inside_find(engine->inside, start->version, &replica->own);
    if (start_thread(replica, reterr) < 0) {
        replica_free(replica);
        return reterr->code;
    }
    list_push_back(&engine->replicas, &replica->link);
    loop_turn_again(engine->loop); /* STARTED is due */
    return 0;
}

static void tell_to_end(struct inside_replica *replica, bool kill)
{
    pthread_mutex_lock(&replica->lock);
    replica->drains = true;
    replica->stops |= kill;
    if (replica->taker && kill)
        manta_taker_stop(replica->taker);
    else if (replica->taker)
        manta_taker_drain(replica->taker);
    pthread_mutex_unlock(&replica->lock);
}

static void inside_stop(struct engine *from, uint64_t id, bool kill)
{
    struct inside_engine *engine = engine_of(from);
    struct list_link *link;
    list_each (link, &engine->replicas) {
        struct inside_replica *replica = list_entry(link, struct inside_replica, link);
        if (replica->id != id)
            continue;
        tell_to_end(replica, kill);
        if (kill && !replica->kill_due_ns)
            replica->kill_due_ns = loop_now_ns(engine->loop) + KILL_WAIT_S * 1000000000LL;
        if (kill && !engine->timer.due_ns)
            loop_timer_set(&engine->timer, replica->kill_due_ns);
        return;
    }
    struct unknown *unknown = mem_new(sizeof *unknown);
    unknown->id = id;
    list_push_back(&engine->unknown, &unknown->link);
    loop_turn_again(engine->loop);
}

/* The thread is joined (true), or left alone and the replica its; it is off the list. */
static bool replica_leave(struct inside_replica *replica)
{
    uint64_t id = replica->id;
    list_remove(&replica->link);
    pthread_mutex_lock(&replica->lock);
    bool over = replica->over;
    replica->loop = NULL;
    if (!over)
        pthread_detach(replica->thread);
    pthread_mutex_unlock(&replica->lock);
    if (!over) {
        log_print(LOG_WARNING, "replica %llu does not return from user code: it is left alone",
                  (unsigned long long)id);
        return false;
    }
    pthread_join(replica->thread, NULL);
    return true;
}

static bool is_over(struct inside_replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    bool over = replica->over;
    pthread_mutex_unlock(&replica->lock);
    return over;
}

/* ---- events
 * ----------------------------------------------------------------------------------------- */

static void on_timer(void *owner)
{
    struct inside_engine *engine = owner;
    struct list_link *link;
    int64_t next = 0;
    list_each (link, &engine->replicas) {
        int64_t due = list_entry(link, struct inside_replica, link)->kill_due_ns;
        if (due > loop_now_ns(engine->loop) && (!next || due < next))
            next = due;
    }
    loop_timer_set(&engine->timer, next); /* the turn behind it asks for events */
}

static bool next_unknown(struct inside_engine *engine, struct engine_event *ret_event)
{
    struct list_link *link = list_pop_front(&engine->unknown);
    if (!link)
        return false;
    struct unknown *unknown = list_entry(link, struct unknown, link);
    *ret_event = (struct engine_event){
        .type = ENGINE_GONE, .replica = unknown->id, .exit_code = -1, .text = BYTES("")};
    mem_free(unknown);
    return true;
}

static bool next_of(struct inside_engine *engine, struct inside_replica *replica,
                    struct engine_event *ret_event)
{
    *ret_event = (struct engine_event){.replica = replica->id, .pid = (uint32_t)getpid()};
    if (!replica->told) {
        replica->told = true;
        ret_event->type = ENGINE_STARTED;
        return true;
    }
    if (!is_over(replica) &&
        (!replica->kill_due_ns || replica->kill_due_ns > loop_now_ns(engine->loop)))
        return false;
    ret_event->type = ENGINE_GONE;
    ret_event->exit_code = -1;
    ret_event->signal_number = SIGKILL;
    if (replica_leave(replica)) {
        ret_event->exit_code = replica->exit_code;
        ret_event->signal_number = 0;
        ret_event->text = bytes_of_string(replica->text);
        engine->taken = replica;
    }
    return true;
}

static bool inside_next(struct engine *from, struct engine_event *ret_event)
{
    struct inside_engine *engine = engine_of(from);
    struct list_link *link;
    if (engine->taken)
        replica_free(engine->taken);
    engine->taken = NULL;
    if (next_unknown(engine, ret_event))
        return true;
    list_each (link, &engine->replicas)
        if (next_of(engine, list_entry(link, struct inside_replica, link), ret_event))
            return true;
    if (!engine->listing)
        return false;
    engine->listing = false;
    *ret_event = (struct engine_event){.type = ENGINE_LISTED};
    return true;
}

static void inside_list(struct engine *from)
{
    struct inside_engine *engine = engine_of(from);
    engine->listing = true; /* nothing ran before this program */
    loop_turn_again(engine->loop);
}

static bool inside_end_instance(struct engine *from)
{
    loop_stop(engine_of(from)->loop);
    return true;
}

/* ---- life
 * ------------------------------------------------------------------------------------------- */

static void await_over(struct inside_replica *replica)
{
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    due.tv_sec += KILL_WAIT_S;
    pthread_mutex_lock(&replica->lock);
    while (!replica->over &&
           pthread_cond_timedwait(&replica->changed, &replica->lock, &due) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&replica->lock);
}

static struct engine *inside_free_engine(struct engine *from)
{
    struct inside_engine *engine = engine_of(from);
    struct list_link *link;
    list_each (link, &engine->replicas)
        tell_to_end(list_entry(link, struct inside_replica, link), true);
    while ((link = list_first(&engine->replicas))) {
        struct inside_replica *replica = list_entry(link, struct inside_replica, link);
        await_over(replica);
        if (replica_leave(replica))
            replica_free(replica);
    }
    if (engine->taken)
        replica_free(engine->taken);
    while ((link = list_pop_front(&engine->unknown)))
        mem_free(list_entry(link, struct unknown, link));
    loop_timer_clear(&engine->timer);
    mem_free(engine);
    return NULL;
}

struct engine *inside_engine_new(struct loop *loop, struct channel_set *channels, const char *node,
                                 void (*wake)(void *owner), void *owner, struct error *reterr)
{
    static const struct engine_operations operations = {.start = inside_begin,
                                                        .stop = inside_stop,
                                                        .list = inside_list,
                                                        .end_instance = inside_end_instance,
                                                        .next = inside_next,
                                                        .free = inside_free_engine};
    struct inside_engine *engine = mem_try(sizeof *engine);
    (void)channels, (void)node;
    if (!engine) {
        error_set(reterr, ERROR_MEMORY, "no memory for an engine");
        return NULL;
    }
    engine->engine.operations = &operations;
    engine->inside = (struct inside *)((char *)owner - offsetof(struct inside, conduct));
    engine->loop = loop;
    engine->wake = wake; /* never needed: every turn asks */
    engine->owner = owner;
    list_init(&engine->replicas);
    list_init(&engine->unknown);
    loop_timer_init(loop, &engine->timer, on_timer, engine);
    return &engine->engine;
}
