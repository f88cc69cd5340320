/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_zygote: warm interpreters, one for each environment that replicas ask for.
 *
 *            .------------------ it died, pause -----------------.
 *            v                                                   |
 *     AWAY --start--> LOADING --warm--> WARM --asked--> forks ---'
 *                        |               |
 *        unfit, or died  |               |  nobody needs it, for zygote_idle_ms
 *                        v               v
 *                      UNFIT           ENDING
 *
 * A replica whose document names a zygote waits for it on `waiting`, is asked for on `forking`, and
 * runs when it has said "here".  It is forked twice and so becomes our child: it is watched like
 * every other, and lives on when its zygote dies.  A zygote that must not fork (threads of its own,
 * a module that cannot be imported, a device that is open) says why; its replicas are then started
 * in interpreters of their own, where the user meets the same trouble in its usual place.
 *
 * A key names everything that may differ between two environments, the contents of the
 * application's modules too: changed code asks for another zygote.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "node.h"
#include "socket.h"

enum {
    ZYGOTE_DESCRIPTOR = 7, /* its end of the pair */
    ZYGOTE_OOM_SCORE = 500,
    ZYGOTE_DEATH_LIMIT = 3, /* without a fork between them */
    ZYGOTE_LOAD_LIMIT = 65536,
    ZYGOTE_ROOM = 1500, /* for the arguments of a replica, which it shows instead of its own */
    FORKS_AT_ONCE = 4,
    PAUSE_MS = 50,
    HEARD_LIMIT = 256, /* words at a time */
};

static const int64_t NS_PER_MS = 1000000;

static struct node_replica *first_of(struct list *list)
{
    struct list_link *link = list_first(list);
    return link ? list_entry(link, struct node_replica, fork_link) : NULL;
}

static bool ends(const struct node *node)
{
    return node->phase >= NODE_DRAINING;
}

static void set_timer_ms(struct node_zygote *zygote, int64_t ms)
{
    loop_timer_set(&zygote->timer, loop_refresh_now_ns(zygote->node->loop) + ms * NS_PER_MS);
}

/* What it is waited for, if anything. */
static void choose_timer(struct node_zygote *zygote)
{
    const struct settings *settings = &zygote->node->settings;
    if (zygote->state == ZYGOTE_AWAY)
        return; /* its start is set */
    if (!zygote->running && zygote->socket >= 0)
        return; /* dead, and what it was forking has a while to say so */
    if (zygote->state == ZYGOTE_WARM && !list_empty(&zygote->forking))
        set_timer_ms(zygote, settings->zygote_fork_timeout_ms);
    else if ((zygote->state == ZYGOTE_WARM || zygote->state == ZYGOTE_UNFIT) && !zygote->users)
        set_timer_ms(zygote, settings->zygote_idle_ms);
    else
        loop_timer_clear(&zygote->timer);
}

/* ---- one that is not needed ---- */

static void zygote_free(struct node_zygote *zygote)
{
    struct node *node = zygote->node;
    struct map_entry *entry;
    ensure(list_empty(&zygote->waiting) && list_empty(&zygote->forking));
    map_each (entry, &node->replicas) {
        struct node_replica *replica = entry->value;
        if (replica->zygote == zygote)
            replica->zygote = NULL;
    }
    loop_timer_clear(&zygote->timer);
    loop_watch_close(&zygote->watch);
    socket_close(zygote->socket);
    if (zygote->running)
        child_close(&zygote->child);
    list_remove(&zygote->link);
    mem_free(zygote->interpreter);
    mem_free(zygote->load);
    mem_free(zygote->environment);
    mem_free(zygote);
}

static void hang_up(struct node_zygote *zygote)
{
    loop_watch_close(&zygote->watch);
    socket_close(zygote->socket);
    zygote->socket = -1;
}

/* Freed when it is gone. */
static void retire(struct node_zygote *zygote)
{
    if (!zygote->running) {
        zygote_free(zygote);
        return;
    }
    zygote->state = ZYGOTE_ENDING;
    hang_up(zygote);
    child_signal(&zygote->child, SIGTERM, false);
    set_timer_ms(zygote, zygote->node->settings.stop_grace_ms);
}

/* ---- replicas in its hands ---- */

/* By themselves, then. */
static void give_back(struct node_zygote *zygote, struct list *list)
{
    struct node_replica *replica;
    struct error error = {0};
    while ((replica = first_of(list))) {
        list_remove(&replica->fork_link);
        if (ends(zygote->node) || replica->unwanted)
            error_set(&error, ERROR_CLOSED, "the replica was not wanted any more");
        else if (node_replica_execute(replica, &error) == 0) {
            node_desk_tell_start(zygote->node, replica);
            continue;
        }
        node_replica_give_up(replica, &error);
    }
}

static void become_unfit(struct node_zygote *zygote, const char *reason)
{
    zygote->state = ZYGOTE_UNFIT;
    log_print(LOG_WARNING, "zygote %.12s cannot fork: %s; its replicas get interpreters of their own",
              zygote->key, reason);
    give_back(zygote, &zygote->forking);
    give_back(zygote, &zygote->waiting);
    choose_timer(zygote);
}

static void ask_forks(struct node_zygote *zygote)
{
    struct node_replica *replica;
    while (zygote->running && zygote->state == ZYGOTE_WARM &&
           zygote->forking.length < FORKS_AT_ONCE &&
           (replica = first_of(&zygote->waiting))) {
        int code = node_zygote_send_fork(zygote, replica);
        if (code < 0) {
            log_print(LOG_ERROR, "zygote %.12s cannot be asked: %s", zygote->key, strerror(-code));
            child_signal(&zygote->child, SIGKILL, false);
            break; /* they wait for what comes after it */
        }
        list_remove(&replica->fork_link);
        list_push_back(&zygote->forking, &replica->fork_link);
    }
    choose_timer(zygote);
}

static struct node_replica *find_forking(struct node_zygote *zygote, uint64_t id)
{
    struct node_replica *replica = map_get(&zygote->node->replicas, id);
    struct list_link *link;
    list_each (link, &zygote->forking)
        if (replica && link == &replica->fork_link)
            return replica;
    return NULL;
}

static void on_here(struct node_zygote *zygote, uint64_t id, pid_t pid)
{
    struct node_replica *replica = find_forking(zygote, id);
    zygote->deaths = 0;
    if (!replica) { /* a child of ours that nobody waits for */
        kill(pid, SIGKILL);
        return;
    }
    list_remove(&replica->fork_link);
    node_replica_run(replica, pid);
    ask_forks(zygote);
}

static void on_failed(struct node_zygote *zygote, const struct node_zygote_word *word)
{
    struct node_replica *replica = find_forking(zygote, word->replica);
    struct list alone;
    if (!replica)
        return;
    log_print(LOG_WARNING, "replica %llu was not forked: %s; it gets an interpreter of its own",
              (unsigned long long)word->replica, word->text);
    list_init(&alone);
    list_remove(&replica->fork_link);
    list_push_back(&alone, &replica->fork_link);
    give_back(zygote, &alone);
    ask_forks(zygote);
}

/* ---- its process ---- */

static void start(struct node_zygote *zygote);

/* Nothing more will be heard of it. */
static void settle(struct node_zygote *zygote, const char *how)
{
    struct node_replica *replica;
    hang_up(zygote);
    if (ends(zygote->node)) {
        give_back(zygote, &zygote->forking);
        give_back(zygote, &zygote->waiting);
        zygote->state = ZYGOTE_ENDING;
    }
    if (zygote->state == ZYGOTE_ENDING) {
        zygote_free(zygote);
        return;
    }
    if (zygote->state == ZYGOTE_UNFIT)
        return;
    if (zygote->state == ZYGOTE_LOADING || ++zygote->deaths >= ZYGOTE_DEATH_LIMIT) {
        become_unfit(zygote, how);
        return;
    }
    log_print(LOG_ERROR, "zygote %.12s ended: %s; it is started again", zygote->key, how);
    while ((replica = first_of(&zygote->forking))) {
        list_remove(&replica->fork_link);
        list_push_front(&zygote->waiting, &replica->fork_link);
    }
    zygote->state = ZYGOTE_AWAY;
    set_timer_ms(zygote, PAUSE_MS);
}

/* False: it has ended, and so has all that it was forking. */
static bool hear(struct node_zygote *zygote)
{
    struct node_zygote_word word;
    for (int i = 0; i < HEARD_LIMIT && zygote->socket >= 0 && node_zygote_hear(zygote, &word); i++)
        switch (word.type) {
        case ZYGOTE_SAYS_WARM:
            if (zygote->state != ZYGOTE_LOADING)
                break;
            zygote->state = ZYGOTE_WARM;
            log_print(LOG_INFO, "zygote %.12s is warm after %lld ms", zygote->key,
                      (long long)((loop_refresh_now_ns(zygote->node->loop) - zygote->started_ns) /
                                  NS_PER_MS));
            ask_forks(zygote);
            break;
        case ZYGOTE_SAYS_UNFIT:
            if (zygote->state == ZYGOTE_LOADING)
                become_unfit(zygote, word.text);
            break;
        case ZYGOTE_SAYS_HERE:
            on_here(zygote, word.replica, word.pid);
            break;
        case ZYGOTE_SAYS_FAILED:
            on_failed(zygote, &word);
            break;
        case ZYGOTE_SAYS_END:
            return false;
        case ZYGOTE_SAYS_NOTHING:
            break;
        }
    return zygote->socket >= 0;
}

static void link_ready(void *owner, int events)
{
    struct node_zygote *zygote = owner;
    (void)events;
    if (hear(zygote))
        return;
    loop_watch_close(&zygote->watch);
    if (!zygote->running)
        settle(zygote, "it ended"); /* else its exit is about to be told */
}

static void zygote_exit(void *owner, struct child *child, int exit_code, int signal_number)
{
    struct node_zygote *zygote = owner;
    struct node *node = zygote->node;
    char how[64];
    ensure(child == &zygote->child && zygote->running && node->zygotes_running > 0);
    zygote->running = false;
    node->zygotes_running--;
    if (signal_number)
        snprintf(how, sizeof how, "signal %d", signal_number);
    else
        snprintf(how, sizeof how, "exit code %d", exit_code);
    /* What it was forking may still speak; who does not within the grace never can. */
    if (zygote->socket >= 0 && hear(zygote) && !list_empty(&zygote->forking) && !ends(node))
        set_timer_ms(zygote, node->settings.stop_grace_ms);
    else
        settle(zygote, how);
    node_check_end(node);
}

static void give_up_forks(struct node_zygote *zygote)
{
    shutdown(zygote->socket, SHUT_RD); /* from here on nobody can say "here" */
    hear(zygote);
    settle(zygote, "what it forked said nothing");
}

static void timer_fired(void *owner)
{
    struct node_zygote *zygote = owner;
    if (zygote->state == ZYGOTE_AWAY) {
        if (!ends(zygote->node))
            start(zygote);
    } else if (!zygote->running && zygote->socket >= 0) {
        give_up_forks(zygote);
    } else if (zygote->state == ZYGOTE_ENDING || !list_empty(&zygote->forking)) {
        log_print(LOG_WARNING, "zygote %.12s does not answer: it is killed", zygote->key);
        child_signal(&zygote->child, SIGKILL, true);
    } else if (!zygote->users) {
        log_print(LOG_INFO, "zygote %.12s is not needed any more", zygote->key);
        retire(zygote);
    }
}

static int spawn(struct node_zygote *zygote, int theirs, struct error *reterr)
{
    struct node *node = zygote->node;
    char room[ZYGOTE_ROOM + 1], number[8];
    memset(room, '-', ZYGOTE_ROOM);
    room[ZYGOTE_ROOM] = 0;
    snprintf(number, sizeof number, "%d", ZYGOTE_DESCRIPTOR);
    const char *list[] = {zygote->interpreter,       "-m",
                          "manta._private.zygote_main", "--instance",
                          node->instance.directory,  "--zygote",
                          zygote->key,               "--descriptor",
                          number,                    room,
                          NULL};
    struct child_descriptor descriptor = {.source = theirs, .target = ZYGOTE_DESCRIPTOR};
    struct child_spawn spawn = {.path = zygote->interpreter,
                                .arguments = list,
                                .environment = (const char *const *)zygote->environment,
                                .descriptors = &descriptor,
                                .descriptor_count = 1,
                                .output = -1,
                                .error_output = -1,
                                .oom_score_adj = ZYGOTE_OOM_SCORE};
    return child_start(&zygote->child, node->loop, &spawn, zygote_exit, zygote, reterr);
}

static int watch_link(struct node_zygote *zygote)
{
    return loop_watch_open(zygote->node->loop, &zygote->watch, zygote->socket, LOOP_READ,
                           link_ready, zygote);
}

static void start(struct node_zygote *zygote)
{
    struct error error = {0};
    int theirs = -1;
    zygote->state = ZYGOTE_LOADING;
    zygote->started_ns = loop_refresh_now_ns(zygote->node->loop);
    int code = node_zygote_pair(&zygote->socket, &theirs);
    if (code == 0)
        code = watch_link(zygote);
    if (code < 0)
        error_set(&error, ERROR_SYSTEM, "no sockets: %s", strerror(-code));
    else if ((code = spawn(zygote, theirs, &error)) == 0) {
        zygote->running = true;
        zygote->node->zygotes_running++;
        code = node_zygote_send_load(zygote);
        error_set(&error, ERROR_SYSTEM, "it cannot be told what to load: %s", strerror(-code));
    }
    socket_close(theirs);
    if (code == 0) {
        log_print(LOG_INFO, "zygote %.12s runs as process %d", zygote->key, (int)zygote->child.pid);
        return;
    }
    hang_up(zygote);
    if (zygote->running)
        child_signal(&zygote->child, SIGKILL, true);
    become_unfit(zygote, error.text);
}

/* ---- which one ---- */

static struct node_zygote *zygote_new(struct node *node, struct bytes key)
{
    struct node_zygote *zygote = mem_new(sizeof *zygote);
    *zygote = (struct node_zygote){.node = node, .socket = -1, .child.pidfd = -1};
    snprintf(zygote->key, sizeof zygote->key, "%.*s", BYTES_PRINT(key));
    list_init(&zygote->waiting);
    list_init(&zygote->forking);
    loop_timer_init(node->loop, &zygote->timer, timer_fired, zygote);
    list_push_back(&node->zygotes, &zygote->link);
    return zygote;
}

static struct node_zygote *find(struct node *node, struct bytes key)
{
    struct list_link *link;
    list_each (link, &node->zygotes) {
        struct node_zygote *zygote = list_entry(link, struct node_zygote, link);
        if (zygote->state != ZYGOTE_ENDING && bytes_equal(bytes_of_string(zygote->key), key))
            return zygote;
    }
    return NULL;
}

/* Room for one more: the one that was used longest ago and is not needed makes it. */
static bool make_room(struct node *node)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &node->zygotes) {
        struct node_zygote *zygote = list_entry(link, struct node_zygote, link);
        if (node->zygotes.length < (size_t)node->settings.zygote_limit)
            break;
        if (!zygote->users && zygote->state != ZYGOTE_ENDING)
            retire(zygote);
    }
    return node->zygotes.length < (size_t)node->settings.zygote_limit;
}

/* How its process is started, should that be needed. */
static void learn(struct node_zygote *zygote, const char *interpreter,
                  const struct node_surroundings *given)
{
    if (zygote->load)
        return;
    zygote->interpreter = mem_copy_string(interpreter, strlen(interpreter));
    zygote->load = mem_copy_string((const char *)given->load.at, given->load.size);
    zygote->environment = node_program_environment(zygote->node->replica_environment, given);
}

bool node_zygote_take(struct node_replica *replica, const struct node_surroundings *given)
{
    struct node *node = replica->node;
    const char *interpreter = node_program_interpreter(replica->order->runner);
    if (!interpreter || !node->settings.zygote || given->key.size == 0 ||
        given->key.size >= NODE_ZYGOTE_KEY_SIZE || given->load.size >= ZYGOTE_LOAD_LIMIT)
        return false;
    struct node_zygote *zygote = find(node, given->key);
    bool fresh = !zygote;
    if (fresh && !make_room(node)) {
        log_print(LOG_INFO, "there are %lld zygotes: replica %llu gets an interpreter of its own",
                  (long long)node->settings.zygote_limit, (unsigned long long)replica->id);
        return false;
    }
    if (fresh)
        zygote = zygote_new(node, given->key);
    learn(zygote, interpreter, given);
    list_remove(&zygote->link);
    list_push_back(&node->zygotes, &zygote->link);
    replica->zygote = zygote;
    zygote->users++;
    if (fresh)
        start(zygote);
    if (zygote->state == ZYGOTE_UNFIT) {
        choose_timer(zygote);
        return false;
    }
    list_push_back(&zygote->waiting, &replica->fork_link);
    ask_forks(zygote);
    return true;
}

bool node_zygote_is_forking(const struct node_replica *replica)
{
    return replica->zygote && find_forking(replica->zygote, replica->id);
}

void node_zygote_release(struct node_replica *replica)
{
    struct node_zygote *zygote = replica->zygote;
    list_remove(&replica->fork_link);
    replica->zygote = NULL;
    if (!zygote)
        return;
    ensure(zygote->users > 0);
    zygote->users--;
    if (!zygote->users && zygote->state != ZYGOTE_AWAY && zygote->state != ZYGOTE_ENDING)
        choose_timer(zygote);
}

/* ---- all of them ---- */

void node_zygotes_hear(struct node *node)
{
    struct list_link *link, *after;
    list_each_safe (link, after, &node->zygotes)
        hear(list_entry(link, struct node_zygote, link));
}

void node_zygotes_signal(struct node *node, int signal_number)
{
    struct list_link *link;
    list_each (link, &node->zygotes) {
        struct node_zygote *zygote = list_entry(link, struct node_zygote, link);
        if (zygote->running)
            child_signal(&zygote->child, signal_number, signal_number == SIGKILL);
    }
}

void node_zygotes_close(struct node *node)
{
    struct list_link *link;
    while ((link = list_first(&node->zygotes))) {
        struct node_zygote *zygote = list_entry(link, struct node_zygote, link);
        list_init(&zygote->waiting); /* the replicas are forgotten by now */
        list_init(&zygote->forking);
        zygote_free(zygote);
    }
}

void node_zygote_inherit(struct node *node)
{
    const struct node_options *options = &node->options;
    struct error error = {0};
    if (options->zygote_descriptor < 0 || !options->zygote_key)
        return;
    struct node_zygote *zygote = zygote_new(node, bytes_of_string(options->zygote_key));
    zygote->socket = options->zygote_descriptor;
    zygote->started_ns = loop_refresh_now_ns(node->loop);
    zygote->state = ZYGOTE_LOADING;
    if (child_adopt(&zygote->child, node->loop, options->zygote_process, zygote_exit, zygote,
                    &error) == 0) {
        zygote->running = true;
        node->zygotes_running++;
    }
    if (!zygote->running || socket_adopt(zygote->socket) < 0 || watch_link(zygote) < 0) {
        log_print(LOG_WARNING, "the zygote that was forked before is not usable: %s", error.text);
        retire(zygote);
        return;
    }
    choose_timer(zygote);
}
