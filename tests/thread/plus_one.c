/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plus_one: adds one, now and then slowly, so that the standby has to steer.
 */
#include <time.h>

#include <manta/manta.h>

static void plus_one_call(void *state, struct manta_request *request)
{
    struct timespec slow = {.tv_nsec = 6000000};
    struct manta_error error = {0};
    int64_t number;
    (void)state;
    if (manta_args_int(manta_request_args(request), 0, &number, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    if (number % 100 == 0)
        nanosleep(&slow, NULL);
    manta_request_reply_int(request, number + 1);
}

MANTA_DEPLOYMENT(plus_one, .call = plus_one_call, .max_ongoing_requests = 50, .threads = 4,
                 .num_replicas = 2);

MANTA_APPLICATION(plus_one)
{
    return manta_bind(app, &plus_one);
}
