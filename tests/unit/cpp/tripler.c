/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A deployment in C, for a graph of both languages.
 */
#include <manta/manta.h>

static void tripler_call(void *state, struct manta_request *request)
{
    struct manta_error error;
    int64_t number;
    (void)state;
    if (manta_args_int(manta_request_args(request), 0, &number, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_int(request, number * 3);
}

MANTA_DEPLOYMENT(tripler, .call = tripler_call);
