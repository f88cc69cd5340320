/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bad_starts: deployments that do not come to stand.
 *
 *     crashing      open writes to address zero, as long as the file of the argument `until` is missing
 *     exiting       open ends the process with status 7
 *     stuck         open connects to the Unix socket of the argument `gate`, and never returns
 *     half          one good deployment and one that crashes
 *     no_builder    the builder itself refuses
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <manta/manta.h>

static void *volatile nowhere; /* null, but no compiler knows it */

static void call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_string(request, "standing");
}

static int open_crashing(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const char *until = "";
    manta_args_string(manta_replica_args(replica), 0, &until, reterr);
    *ret_state = NULL;
    if (*until && access(until, F_OK) == 0)
        return 0;
    fprintf(stderr, "about to fall\n");
    fflush(stderr);
    *(volatile char *)nowhere = 0;
    return 0;
}

static int open_exiting(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    (void)replica, (void)ret_state, (void)reterr;
    _exit(7);
}

static int open_stuck(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *gate;
    *ret_state = NULL;
    if (manta_args_string(manta_replica_args(replica), 0, &gate, reterr) < 0)
        return reterr->code;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", gate);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        return manta_error_set(reterr, MANTA_ESYSTEM, "there is no gate at %s", gate);
    for (;;)
        pause();
}

MANTA_DEPLOYMENT(crashing, .open = open_crashing, .call = call);
MANTA_DEPLOYMENT(exiting, .open = open_exiting, .call = call);
MANTA_DEPLOYMENT(stuck, .open = open_stuck, .call = call);
MANTA_DEPLOYMENT(good, .call = call);

MANTA_APPLICATION(crashing)
{
    return manta_bind(app, &crashing, manta_string(manta_app_argument(app, "until", "")));
}

MANTA_APPLICATION(exiting)
{
    return manta_bind(app, &exiting);
}

MANTA_APPLICATION(stuck)
{
    return manta_bind(app, &stuck, manta_string(manta_app_argument(app, "gate", "")));
}

MANTA_APPLICATION(half)
{
    struct manta_arg fallen = manta_bind(app, &crashing, manta_string(""));
    return manta_bind(app, &good, fallen);
}

MANTA_APPLICATION(no_builder)
{
    return manta_app_fail(app, "the builder wants none of this: %s",
                          manta_app_argument(app, "why", "no reason"));
}
