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
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <time.h>

#include "ensure.h"
#include "helm.h"
#include "log.h"
#include "runner.h"

enum { FAILURE_LIMIT = 3 };

static const double END_WAIT_S = 1.0;

int runner_check_health(struct runner *runner, struct error *reterr)
{
    struct manta_error error = {0};
    if (!runner->deployment.check_health)
        return 0;
    int code = runner->deployment.check_health(runner->state, &error);
    if (code >= 0)
        return 0;
    return error_set(reterr, ERROR_USER, "check_health failed: %s",
                     error.text[0] ? error.text : error_text(code));
}

/* Lock held. */
static void count(struct runner *runner, bool good, const char *text)
{
    struct runner_health *health = &runner->health;
    if (good) {
        health->failure_count = 0;
        return;
    }
    log_print(LOG_WARNING, "health check failed (%d in a row): %s", health->failure_count + 1,
              text);
    if (++health->failure_count < FAILURE_LIMIT || health->stopping)
        return;
    pthread_mutex_unlock(&health->lock);
    manta_taker_unhealthy(runner->taker, text);
    pthread_mutex_lock(&health->lock);
}

static void *check_once(void *owner)
{
    struct runner *runner = owner;
    struct runner_health *health = &runner->health;
    struct error error = {0};
    int code = runner_check_health(runner, &error);
    pthread_mutex_lock(&health->lock);
    if (!health->counted)
        count(runner, code == 0, error.text);
    else if (code == 0)
        health->failure_count = 0;
    health->checking = false;
    pthread_cond_broadcast(&health->changed);
    pthread_mutex_unlock(&health->lock);
    return NULL;
}

static struct timespec after(double seconds)
{
    struct timespec due;
    double whole = floor(seconds);
    clock_gettime(CLOCK_MONOTONIC, &due);
    due.tv_sec += (time_t)whole;
    due.tv_nsec += (long)((seconds - whole) * 1e9);
    if (due.tv_nsec >= 1000000000) {
        due.tv_nsec -= 1000000000;
        due.tv_sec++;
    }
    return due;
}

/* Until the time has passed, the replica ends, or (`until_checked`) the check is over; false: the
 * time has passed.  Lock held. */
static bool rest(struct runner_health *health, double seconds, bool until_checked)
{
    struct timespec due = after(seconds);
    uint64_t changes = health->changes;
    while (!health->stopping && !(until_checked && !health->checking) &&
           (until_checked || changes == health->changes))
        if (pthread_cond_timedwait(&health->changed, &health->lock, &due) == ETIMEDOUT)
            return false;
    return true;
}

/* The check is over, or hangs still when the replica ends.  Lock held. */
static bool await_check(struct runner_health *health)
{
    struct timespec due = after(END_WAIT_S);
    while (health->checking &&
           pthread_cond_timedwait(&health->changed, &health->lock, &due) != ETIMEDOUT)
        ;
    return !health->checking;
}

static void check(struct runner *runner)
{
    struct runner_health *health = &runner->health;
    pthread_t checker;
    health->checking = true;
    health->counted = false;
    if (pthread_create(&checker, NULL, check_once, runner) != 0) {
        health->checking = false;
        log_print(LOG_WARNING, "no thread for the health check");
        return;
    }
    while (!rest(health, runner->document.health_check_timeout_s, true)) {
        health->counted = true;
        count(runner, false, "check_health did not return in time");
    }
    if (!await_check(health)) {
        pthread_detach(checker);
        health->hangs = true;
        return;
    }
    pthread_mutex_unlock(&health->lock);
    pthread_join(checker, NULL);
    pthread_mutex_lock(&health->lock);
}

static void *health_main(void *owner)
{
    struct runner *runner = owner;
    struct runner_health *health = &runner->health;
    pthread_mutex_lock(&health->lock);
    while (!health->stopping) {
        uint64_t changes = health->changes;
        rest(health, runner->document.health_check_period_s, false);
        if (!health->stopping && changes == health->changes)
            check(runner);
    }
    pthread_mutex_unlock(&health->lock);
    return NULL;
}

void runner_health_start(struct runner *runner)
{
    struct runner_health *health = &runner->health;
    sigset_t before;
    pthread_condattr_t monotonic;
    if (!runner->deployment.check_health)
        return;
    ensure(!health->running);
    pthread_mutex_init(&health->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&health->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    helm_block_signals(&before);
    health->running = pthread_create(&health->thread, NULL, health_main, runner) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!health->running)
        log_print(LOG_WARNING, "no thread for health checks");
}

void runner_health_change(struct runner *runner, double period_s, double timeout_s)
{
    struct runner_health *health = &runner->health;
    if (!health->running) {
        runner->document.health_check_period_s = period_s;
        runner->document.health_check_timeout_s = timeout_s;
        return;
    }
    pthread_mutex_lock(&health->lock);
    runner->document.health_check_period_s = period_s;
    runner->document.health_check_timeout_s = timeout_s;
    health->changes++;
    pthread_cond_broadcast(&health->changed);
    pthread_mutex_unlock(&health->lock);
}

/* A check that is inside user code holds the state: nothing may be taken apart under it. */
bool runner_health_stop(struct runner *runner)
{
    struct runner_health *health = &runner->health;
    if (!health->running)
        return true;
    pthread_mutex_lock(&health->lock);
    health->stopping = true;
    pthread_cond_broadcast(&health->changed);
    pthread_mutex_unlock(&health->lock);
    pthread_join(health->thread, NULL);
    health->running = false;
    if (health->hangs)
        return false; /* the lock is in its hands too */
    pthread_cond_destroy(&health->changed);
    pthread_mutex_destroy(&health->lock);
    return true;
}
