/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life: deployments whose replicas start, live and end badly.
 *
 *     open_fails       open returns an error: "no model today"
 *     open_fails_first file=F times=N: open fails as often, over all replicas (F counts them)
 *     open_waits       file=F: open returns when F exists
 *     open_hangs       open never returns
 *     open_crashes     open ends the process by a signal
 *     call_crashes     /crash ends the process by a signal, /exit with status 3; everything else is
 * answered close_crashes    close ends the process by a signal sick             check_health fails
 * from /sick on, hangs from /hang on, is well again from /well on configured       answers with its
 * user_config; a config with "refuse" in it is refused
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <manta/manta.h>

#include "options.h"

/* Answers with the process, so that a test sees which replica it met. */
static void process_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_int(request, getpid());
}

/* ---- open --------------------------------------------------------------------------------- */

static int fail_to_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    (void)replica;
    (void)ret_state;
    return manta_error_set(reterr, MANTA_EUSER, "no model today");
}

MANTA_DEPLOYMENT(open_fails, .open = fail_to_open, .call = process_call);

MANTA_APPLICATION(open_fails)
{
    return bind_with_options(app, &open_fails);
}

static int fail_to_open_first(struct manta_replica *replica, void **ret_state,
                              struct manta_error *reterr)
{
    const struct manta_args *args = manta_replica_args(replica);
    const char *path;
    int64_t times;
    struct stat about;
    (void)ret_state;
    if (manta_args_string(args, 0, &path, reterr) < 0 ||
        manta_args_int(args, 1, &times, reterr) < 0)
        return MANTA_EINVALID;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || write(file, ".", 1) != 1 || fstat(file, &about) < 0)
        return manta_error_set(reterr, MANTA_ESYSTEM, "%s cannot be written", path);
    close(file);
    if (about.st_size > times)
        return 0;
    return manta_error_set(reterr, MANTA_EUSER, "failure %lld of %lld", (long long)about.st_size,
                           (long long)times);
}

MANTA_DEPLOYMENT(open_fails_first, .open = fail_to_open_first, .call = process_call);

MANTA_APPLICATION(open_fails_first)
{
    struct manta_deployment changed = options_of(app, &open_fails_first);
    return manta_bind(app, &changed, manta_string(manta_app_argument(app, "file", "")),
                      manta_int(atoll(manta_app_argument(app, "times", "1"))));
}

static int wait_to_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const char *path;
    (void)ret_state;
    if (manta_args_string(manta_replica_args(replica), 0, &path, reterr) < 0)
        return MANTA_EINVALID;
    while (access(path, F_OK) != 0)
        usleep(2000);
    return 0;
}

MANTA_DEPLOYMENT(open_waits, .open = wait_to_open, .call = process_call);

MANTA_APPLICATION(open_waits)
{
    struct manta_deployment changed = options_of(app, &open_waits);
    return manta_bind(app, &changed, manta_string(manta_app_argument(app, "file", "")));
}

static int hang_in_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    (void)replica;
    (void)ret_state;
    while (pause())
        ;
    return manta_error_set(reterr, MANTA_EINTERNAL, "the pause has ended");
}

MANTA_DEPLOYMENT(open_hangs, .open = hang_in_open, .call = process_call);

/* Not even its builder comes back. */
MANTA_APPLICATION(build_crashes)
{
    (void)app;
    abort();
}

MANTA_APPLICATION(open_hangs)
{
    return bind_with_options(app, &open_hangs);
}

static int crash_in_open(struct manta_replica *replica, void **ret_state,
                         struct manta_error *reterr)
{
    (void)replica;
    (void)ret_state;
    (void)reterr;
    abort();
}

MANTA_DEPLOYMENT(open_crashes, .open = crash_in_open, .call = process_call);

MANTA_APPLICATION(open_crashes)
{
    return bind_with_options(app, &open_crashes);
}

/* ---- call and close ------------------------------------------------------------------------- */

/* The last word of the path, or the first argument of a call. */
static bool path_is(struct manta_request *request, const char *end)
{
    const char *slash = strrchr(manta_request_path(request), '/'), *word;
    if (!manta_request_is_http(request))
        return manta_args_string(manta_request_args(request), 0, &word, NULL) == 0 &&
               !strcmp(word, end);
    return slash && !strcmp(slash + 1, end);
}

static void crash_in_call(void *state, struct manta_request *request)
{
    if (path_is(request, "crash"))
        abort();
    if (path_is(request, "exit"))
        _exit(3);
    process_call(state, request);
}

MANTA_DEPLOYMENT(call_crashes, .call = crash_in_call, .max_ongoing_requests = 100);

MANTA_APPLICATION(call_crashes)
{
    return bind_with_options(app, &call_crashes);
}

static void crash_in_close(void *state)
{
    (void)state;
    abort();
}

MANTA_DEPLOYMENT(close_crashes, .call = process_call, .close = crash_in_close);

MANTA_APPLICATION(close_crashes)
{
    return bind_with_options(app, &close_crashes);
}

/* ---- health --------------------------------------------------------------------------------- */

enum { WELL, SICK, HANGING, FLAPPING /* sick two times of three */ };
static atomic_int condition = WELL; /* one replica per process */
static atomic_int checks;

static void sick_call(void *state, struct manta_request *request)
{
    if (path_is(request, "sick"))
        condition = SICK;
    if (path_is(request, "hang"))
        condition = HANGING;
    if (path_is(request, "well"))
        condition = WELL;
    if (path_is(request, "flap"))
        condition = FLAPPING;
    if (path_is(request, "checks"))
        manta_request_reply_int(request, checks);
    else
        process_call(state, request);
}

static int sick_check_health(void *state, struct manta_error *reterr)
{
    (void)state;
    while (condition == HANGING)
        usleep(2000);
    bool sick = condition == SICK || (condition == FLAPPING && checks % 3 != 0);
    checks++;
    return sick ? manta_error_set(reterr, MANTA_EUSER, "not feeling well") : 0;
}

MANTA_DEPLOYMENT(sick, .call = sick_call, .check_health = sick_check_health,
                 .health_check_period_s = 0.05, .health_check_timeout_s = 0.2);

MANTA_APPLICATION(sick)
{
    return bind_with_options(app, &sick);
}

/* ---- user_config ----------------------------------------------------------------------------- */

struct configured {
    _Atomic(char *) config; /* replaced whole; old ones are kept, because a request may read one */
    atomic_int count;       /* of configurations so far */
};

static int configured_open(struct manta_replica *replica, void **ret_state,
                           struct manta_error *reterr)
{
    struct configured *configured = calloc(1, sizeof *configured);
    (void)replica;
    if (!configured)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory");
    *ret_state = configured;
    return 0;
}

static int configured_reconfigure(void *state, const char *user_config, struct manta_error *reterr)
{
    struct configured *configured = state;
    if (strstr(user_config, "refuse"))
        return manta_error_set(reterr, MANTA_EINVALID, "refused: %.100s", user_config);
    configured->config = strdup(user_config);
    configured->count++;
    return 0;
}

static void configured_call(void *state, struct manta_request *request)
{
    struct configured *configured = state;
    char text[600];
    const char *config = configured->config;
    snprintf(text, sizeof text, "%d %d %.500s", (int)getpid(), configured->count,
             config ? config : "never configured");
    manta_request_reply_string(request, text);
}

static void configured_close(void *state)
{
    struct configured *configured = state;
    free(configured->config);
    free(configured);
}

MANTA_DEPLOYMENT(configured, .open = configured_open, .close = configured_close,
                 .call = configured_call, .reconfigure = configured_reconfigure);

MANTA_APPLICATION(configured)
{
    return bind_with_options(app, &configured);
}
