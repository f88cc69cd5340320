/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew: the application whose life is measured: each replica answers with its word and its process.
 *
 *     manta run libcrew.so:crew word=a num_replicas=2 work_us=1000 open_ms=50 refuse=1
 *
 * word says which version answered; work_us is how long a request lies in user code, so that a kill
 * finds some there; open_ms is how long a replica takes to begin; with refuse=1 it never does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <manta/manta.h>

struct crew {
    char answer[64];
    int64_t work_us;
};

static int crew_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const struct manta_args *args = manta_replica_args(replica);
    const char *word;
    int64_t work_us, open_ms, refuse;
    if (manta_args_string(args, 0, &word, reterr) < 0 ||
        manta_args_int(args, 1, &work_us, reterr) < 0 ||
        manta_args_int(args, 2, &open_ms, reterr) < 0 ||
        manta_args_int(args, 3, &refuse, reterr) < 0)
        return MANTA_EINVALID;
    usleep((useconds_t)open_ms * 1000);
    if (refuse)
        return manta_error_set(reterr, MANTA_EUSER, "this version refuses to begin");
    struct crew *crew = calloc(1, sizeof *crew);
    if (!crew)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory");
    snprintf(crew->answer, sizeof crew->answer, "%.40s %d", word, (int)getpid());
    crew->work_us = work_us;
    *ret_state = crew;
    return 0;
}

static void crew_close(void *state)
{
    free(state);
}

static void crew_call(void *state, struct manta_request *request)
{
    const struct crew *crew = state;
    if (crew->work_us)
        usleep((useconds_t)crew->work_us);
    manta_request_reply_http(request, 200, "text/plain", crew->answer, strlen(crew->answer));
}

MANTA_DEPLOYMENT(crew, .open = crew_open, .close = crew_close, .call = crew_call, .threads = 8,
                 .max_ongoing_requests = 32);

static int64_t number(struct manta_app *app, const char *key, const char *otherwise)
{
    return atoll(manta_app_argument(app, key, otherwise));
}

MANTA_APPLICATION(crew)
{
    struct manta_deployment changed = crew;
    changed.num_replicas = (int32_t)number(app, "num_replicas", "2");
    changed.max_ongoing_requests = (int32_t)number(app, "max_ongoing_requests", "32");
    changed.user_config = manta_app_argument(app, "user_config", NULL);
    return manta_bind(app, &changed, manta_string(manta_app_argument(app, "word", "a")),
                      manta_int(number(app, "work_us", "0")),
                      manta_int(number(app, "open_ms", "0")),
                      manta_int(number(app, "refuse", "0")));
}
