/* SPDX-License-Identifier: Apache-2.0 */
/*
 * versions: descriptors that today's header does not make: of a newer one, longer, too short.
 */
#include <manta/manta.h>

static void versions_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

MANTA_DEPLOYMENT(newer, .call = versions_call, .header_version = MANTA_HEADER_VERSION + 1);
MANTA_DEPLOYMENT(longer, .call = versions_call, .size = sizeof(struct manta_deployment) + 8);
MANTA_DEPLOYMENT(shorter, .call = versions_call, .size = offsetof(struct manta_deployment, stream_body));
MANTA_DEPLOYMENT(handmade, .call = versions_call, .size = 0, .header_version = 0);

MANTA_APPLICATION(newer)
{
    return manta_bind(app, &newer);
}

MANTA_APPLICATION(longer)
{
    return manta_bind(app, &longer);
}

MANTA_APPLICATION(shorter)
{
    return manta_bind(app, &shorter);
}

MANTA_APPLICATION(handmade)
{
    return manta_bind(app, &handmade);
}
