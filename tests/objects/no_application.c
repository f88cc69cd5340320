/* SPDX-License-Identifier: Apache-2.0 */
/*
 * no_application: a deployment that nobody binds.
 */
#include <manta/manta.h>

static void alone_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

MANTA_DEPLOYMENT(alone, .call = alone_call);
