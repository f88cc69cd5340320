/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inside: the controller of an instance inside the program, on a thread of its own.
 *
 * conduct.c knows nothing of processes, so it runs here as it is.  What conduct_run.c gives it in a
 * process -- settings, a seed, the log -- it gets here; targets are kept in memory.
 */
#include "inside.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ensure.h"
#include "helm.h"
#include "log.h"
#include "mem.h"
#include "socket.h"

enum { BACKLOG = 128 };

/* ---- the log: one per process, of the first that wants one
 * ------------------------------------------ */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned log_users;

static void log_begin(const struct inside_options *options, const struct settings *settings)
{
    char path[4200];
    struct error ignored = {0};
    pthread_mutex_lock(&log_lock);
    if (log_users++ == 0 && (options->log_to_stderr || options->log_directory)) {
        snprintf(path, sizeof path, "%s/local_testing.log",
                 options->log_directory ? options->log_directory : "");
        struct log_config config = {.path = options->log_to_stderr ? NULL : path,
                                    .encoding = options->log_json ? LOG_JSON : LOG_TEXT,
                                    .level = (enum log_level)options->log_level,
                                    .component = "local_testing",
                                    .component_id = "local_testing",
                                    .queue_limit = (size_t)settings->log_queue_limit,
                                    .rotate_size = (uint64_t)settings->log_rotate_size,
                                    .rotate_count = (uint32_t)settings->log_rotate_count};
        if (log_open(&config, &ignored) < 0)
            fprintf(stderr, "manta: %s\n", ignored.text);
    }
    pthread_mutex_unlock(&log_lock);
}

static void log_end(void)
{
    pthread_mutex_lock(&log_lock);
    ensure(log_users > 0);
    if (--log_users == 0)
        log_close();
    pthread_mutex_unlock(&log_lock);
}

/* ---- the controller's thread
 * ------------------------------------------------------------------------- */

static void turn(void *owner)
{
    struct inside *inside = owner;
    pthread_mutex_lock(&inside->lock);
    bool ends = inside->ends;
    pthread_mutex_unlock(&inside->lock);
    if (ends)
        loop_stop(inside->conduct.loop);
}

static void say(struct inside *inside, int state)
{
    pthread_mutex_lock(&inside->lock);
    inside->state = state;
    pthread_cond_broadcast(&inside->changed);
    pthread_mutex_unlock(&inside->lock);
}

static void *controller_main(void *owner)
{
    struct inside *inside = owner;
    struct conduct *conduct = &inside->conduct;
    uint64_t seed = 0;
    struct conduct_options options = {.listen_descriptor = -1,
                                      .bond.descriptor = -1,
                                      .log_encoding = "TEXT",
                                      .engine = inside_engine_new};
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed = (uint64_t)(uintptr_t)inside;
    options.listen_descriptor =
        socket_listen_unix(inside->place.controller_socket, BACKLOG, &inside->error);
    bool open = options.listen_descriptor >= 0 &&
                conduct_open(conduct, &options, seed, &inside->error) == 0;
    if (open) {
        inside->turn = (struct loop_turn){.turn = turn, .owner = inside};
        loop_turn_add(conduct->loop, &inside->turn);
        say(inside, INSIDE_RUNS);
        loop_run(conduct->loop);
        loop_turn_remove(&inside->turn);
    }
    say(inside, INSIDE_OVER); /* nobody wakes the loop any more */
    if (options.listen_descriptor >= 0) {
        if (!conduct->listener.handle)
            socket_close(options.listen_descriptor);
        conduct_close(conduct);
    }
    return NULL;
}

/* ---- life
 * -------------------------------------------------------------------------------------------- */

static struct inside *inside_free(struct inside *inside)
{
    struct list_link *link;
    while ((link = list_pop_front(&inside->own)))
        mem_free(list_entry(link, struct inside_own, link));
    instance_remove(&inside->place);
    pthread_cond_destroy(&inside->changed);
    pthread_mutex_destroy(&inside->lock);
    return mem_free(inside);
}

static int start_thread(struct inside *inside, struct error *reterr)
{
    sigset_t before;
    helm_block_signals(&before);
    int rc = pthread_create(&inside->thread, NULL, controller_main, inside);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        return error_set(reterr, ERROR_SYSTEM, "no thread for the controller: %s", strerror(rc));
    pthread_mutex_lock(&inside->lock);
    while (inside->state == INSIDE_BEGINS)
        pthread_cond_wait(&inside->changed, &inside->lock);
    bool runs = inside->state == INSIDE_RUNS;
    pthread_mutex_unlock(&inside->lock);
    if (runs)
        return 0;
    pthread_join(inside->thread, NULL);
    *reterr = inside->error;
    return reterr->code;
}

int inside_start(const struct instance *place, const struct inside_options *options,
                 struct inside **ret_inside, struct error *reterr)
{
    struct inside *inside = mem_try(sizeof *inside);
    if (!inside)
        return error_set(reterr, ERROR_MEMORY, "no memory for an instance");
    inside->place = *place;
    pthread_mutex_init(&inside->lock, NULL);
    pthread_cond_init(&inside->changed, NULL);
    list_init(&inside->own);
    settings_init(&inside->conduct.settings);
    if (settings_read_environment(&inside->conduct.settings,
                                  (const char *(*)(const char *))getenv, reterr) < 0 ||
        instance_create(&inside->place, reterr) < 0) {
        inside_free(inside);
        return reterr->code;
    }
    instance_sweep(&inside->place);
    log_begin(options, &inside->conduct.settings);
    if (start_thread(inside, reterr) < 0) {
        log_end();
        inside_free(inside);
        return reterr->code;
    }
    *ret_inside = inside;
    return 0;
}

struct inside *inside_end(struct inside *inside)
{
    if (!inside)
        return NULL;
    pthread_mutex_lock(&inside->lock);
    inside->ends = true;
    if (inside->state == INSIDE_RUNS)
        loop_wake(inside->conduct.loop);
    pthread_mutex_unlock(&inside->lock);
    pthread_join(inside->thread, NULL);
    log_end();
    return inside_free(inside);
}

/* ---- deployments of the program itself
 * -------------------------------------------------------------- */

static struct inside_own *own_of(struct inside *inside, uint64_t version)
{
    struct list_link *link;
    list_each (link, &inside->own) {
        struct inside_own *own = list_entry(link, struct inside_own, link);
        if (own->version == version)
            return own;
    }
    return NULL;
}

int inside_keep(struct inside *inside, uint64_t version, const struct manta_deployment *deployment)
{
    struct inside_own *own = mem_try(sizeof *own);
    if (!own)
        return ERROR_MEMORY;
    own->version = version;
    own->deployment = *deployment;
    own->deployment.name = own->deployment.symbol; /* the document says the name */
    own->deployment.user_config = NULL;            /* and this */
    pthread_mutex_lock(&inside->lock);
    if (own_of(inside, version))
        mem_free(own);
    else
        list_push_back(&inside->own, &own->link);
    pthread_mutex_unlock(&inside->lock);
    return 0;
}

bool inside_find(struct inside *inside, uint64_t version, struct manta_deployment *ret_own)
{
    pthread_mutex_lock(&inside->lock);
    const struct inside_own *own = own_of(inside, version);
    if (own)
        *ret_own = own->deployment;
    pthread_mutex_unlock(&inside->lock);
    return own != NULL;
}
