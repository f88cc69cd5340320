/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noop: the smallest deployment: one function that answers every request with the same 13 bytes.
 *
 * It does no work of its own, so that what it measures is what Manta costs; the bench runs it.
 */
#include <manta/manta.h>

static const char HELLO[] = "Hello, world!";

static void noop_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_http(request, 200, "text/plain", HELLO, sizeof HELLO - 1);
}

/*
 * The default of 5 ongoing requests keeps a slow function from hoarding requests that another
 * replica could begin.  This one takes no time: what is accepted is answered in the same turn, so
 * holding many costs nothing, and turning the sixth away would only make its sender wait.
 */
MANTA_DEPLOYMENT(noop, .call = noop_call, .max_ongoing_requests = 1000);

MANTA_APPLICATION(noop)
{
    return manta_bind(app, &noop);
}
