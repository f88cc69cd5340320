/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror: sends back what came, and says what it saw of it.
 *
 * The answer has the request's body and content type; its header fields name the method, the path
 * and the replica, and how many requests have entered this replica (x-reached): a request that was
 * refused before must not show there.  GET .../count answers that number as JSON and does not count
 * itself.  Nothing here asks for memory, so that the allocations of the run time can be counted.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <manta/manta.h>

#include "options.h"

static atomic_long reached;

static void mirror_call(void *state, struct manta_request *request)
{
    const char *path = manta_request_path(request);
    size_t length = strlen(path), size;
    char count[24];
    (void)state;
    if (length >= 6 && strcmp(path + length - 6, "/count") == 0) {
        manta_request_reply_int(request, atomic_load(&reached));
        return;
    }
    snprintf(count, sizeof count, "%ld", atomic_fetch_add(&reached, 1) + 1);
    manta_request_add_header(request, "x-reached", count, NULL);
    manta_request_add_header(request, "x-method", manta_request_method(request), NULL);
    manta_request_add_header(request, "x-path", path, NULL);
    manta_request_add_header(request, "x-query", manta_request_query(request), NULL);
    manta_request_add_header(request, "x-prefix", manta_request_route_prefix(request), NULL);
    manta_request_add_header(request, "x-replica",
                             manta_replica_id(manta_request_replica(request)), NULL);
    const void *body = manta_request_body(request, &size);
    const char *type = manta_request_content_type(request);
    manta_request_reply_http(request, 200, *type ? type : NULL, body, size);
}

MANTA_DEPLOYMENT(mirror, .call = mirror_call, .max_ongoing_requests = 100);

MANTA_APPLICATION(mirror)
{
    return bind_with_options(app, &mirror);
}
