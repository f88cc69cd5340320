/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unresolved: needs a function that no library has, so that the loader refuses it.
 */
#include <manta/manta.h>

void a_function_that_nobody_has(void);

static void unresolved_call(void *state, struct manta_request *request)
{
    (void)state;
    a_function_that_nobody_has();
    manta_request_reply_nil(request);
}

MANTA_DEPLOYMENT(unresolved, .call = unresolved_call);

MANTA_APPLICATION(unresolved)
{
    return manta_bind(app, &unresolved);
}
