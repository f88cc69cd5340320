/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_health: calls check_health in Ray Serve's rhythm.
 *
 * A thread of its own, so that a check that hangs delays no request; a check that runs longer than
 * health_check_timeout counts as failed, and again each time that passes.  The third failure in a
 * row is reported, and every further one, since a report may be lost; what follows is the
 * controller's decision.  Deployments without check_health have no such thread: their life signs
 * are pongs.
 */
#include "runner_health.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "ensure.h"
#include "log.h"

enum { FAILURE_LIMIT = 3, END_WAIT_MS = 1000 };

/* Guards what the checker and the watcher of its time limit share. */
struct health {
    struct manta_replica *replica;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping;
    int64_t begun_ns;  /* the running check began; 0: none runs */
    bool counted;      /* the running check was already counted as failed */
    int failure_count; /* in a row */
};

static struct health health = {.lock = PTHREAD_MUTEX_INITIALIZER}; /* one replica per process */

int runner_check_health(struct manta_replica *replica, struct error *reterr)
{
    struct manta_error error = {0};
    if (!replica->deployment.check_health)
        return 0;
    int code = replica->deployment.check_health(replica->state, &error);
    if (code >= 0)
        return 0;
    return error_set(reterr, ERROR_USER, "check_health failed: %s",
                     error.text[0] ? error.text : error_text(code));
}

static void health_report(bool healthy, const char *text)
{
    struct manta_replica *replica = health.replica;
    bool nested = runtime_enter(replica->runtime);
    taker_report_health(replica->taker, healthy, bytes_of_string(text));
    channel_set_flush(&replica->runtime->channels);
    runtime_leave(replica->runtime, nested);
}

/* Lock held. */
static void health_count(bool good, const char *text)
{
    if (good) {
        health.failure_count = 0;
        return;
    }
    log_print(LOG_WARNING, "health check failed (%d in a row): %s", health.failure_count + 1, text);
    if (++health.failure_count < FAILURE_LIMIT || health.stopping)
        return;
    pthread_mutex_unlock(&health.lock);
    health_report(false, text);
    pthread_mutex_lock(&health.lock);
}

static void *health_check_once(void *owner)
{
    struct error error = {0};
    int code = runner_check_health(health.replica, &error);
    (void)owner;
    pthread_mutex_lock(&health.lock);
    if (!health.counted)
        health_count(code == 0, error.text);
    else if (code == 0)
        health.failure_count = 0;
    health.begun_ns = 0;
    pthread_cond_broadcast(&health.changed);
    pthread_mutex_unlock(&health.lock);
    return NULL;
}

static void add_us(struct timespec *time, int64_t us)
{
    time->tv_sec += us / 1000000;
    time->tv_nsec += us % 1000000 * 1000;
    if (time->tv_nsec >= 1000000000) {
        time->tv_nsec -= 1000000000;
        time->tv_sec++;
    }
}

/* Waits until `us` passed, the state changed to what `stop` names, or the replica ends. Lock held.
 */
static bool health_wait(int64_t us, bool until_checked)
{
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    add_us(&due, us);
    while (!health.stopping && !(until_checked && !health.begun_ns))
        if (pthread_cond_timedwait(&health.changed, &health.lock, &due) == ETIMEDOUT)
            return false;
    return true;
}

static void health_round(const struct target_replica *target)
{
    pthread_t checker;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    health.begun_ns = 1;
    health.counted = false;
    if (pthread_create(&checker, &detached, health_check_once, NULL) != 0) {
        health.begun_ns = 0;
        log_print(LOG_WARNING, "no thread for the health check");
    }
    pthread_attr_destroy(&detached);
    while (!health_wait(target->health_check_timeout_us, true)) {
        health.counted = true;
        health_count(false, "check_health did not return in time");
    }
}

static void *health_main(void *owner)
{
    const struct target_replica *target = &((struct manta_replica *)owner)->target;
    pthread_mutex_lock(&health.lock);
    while (!health.stopping) {
        health_wait(target->health_check_period_us, false);
        if (!health.stopping)
            health_round(target);
    }
    pthread_mutex_unlock(&health.lock);
    return NULL;
}

void runner_health_start(struct manta_replica *replica)
{
    sigset_t before;
    pthread_condattr_t monotonic;
    if (!replica->deployment.check_health)
        return;
    ensure(!health.replica);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&health.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    health.replica = replica;
    helm_block_signals(&before);
    replica->health_running =
        pthread_create(&replica->health_thread, NULL, health_main, replica) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!replica->health_running)
        log_print(LOG_WARNING, "no thread for health checks");
}

/* A check that is inside user code holds the state: nothing may be taken apart under it. */
bool runner_health_stop(struct manta_replica *replica)
{
    struct timespec due;
    if (!replica->health_running)
        return true;
    pthread_mutex_lock(&health.lock);
    health.stopping = true;
    pthread_cond_broadcast(&health.changed);
    pthread_mutex_unlock(&health.lock);
    pthread_join(replica->health_thread, NULL);
    replica->health_running = false;

    clock_gettime(CLOCK_MONOTONIC, &due);
    add_us(&due, END_WAIT_MS * 1000);
    pthread_mutex_lock(&health.lock);
    while (health.begun_ns &&
           pthread_cond_timedwait(&health.changed, &health.lock, &due) != ETIMEDOUT)
        ;
    bool ended = !health.begun_ns;
    pthread_mutex_unlock(&health.lock);
    return ended;
}
