/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_look: a request as it came, for runners that make their own objects of it: slices of what
 * was received, no copies.  And handles by name, which such a runner's users make at any time.
 */
#include "call.h"
#include "door.h"
#include "request_inner.h"
#include "wire.h"

static struct manta_taker_slice slice_of(struct bytes bytes)
{
    return (struct manta_taker_slice){(const char *)bytes.at, bytes.size};
}

void manta_taker_look(const struct manta_request *request, struct manta_taker_head *ret_head)
{
    const struct taker_request *taken = request->taken;
    *ret_head = (struct manta_taker_head){
        .is_http = taken->kind != WIRE_KIND_CALL,
        .is_websocket = taken->kind == WIRE_KIND_WEBSOCKET,
        .stream = taken->stream,
        .http_minor = taken->http_minor,
        .method = slice_of(taken->method),
        .path = slice_of(taken->path),
        .query = slice_of(taken->query),
        .route_prefix = slice_of(taken->route_prefix),
        .content_type = slice_of(taken->content_type),
        .request_id = slice_of(taken->request_id),
        .model_id = slice_of(taken->model_id),
        .body = slice_of(taken->body),
    };
}

bool manta_taker_field(const struct manta_request *request, size_t *cursor,
                       struct manta_taker_slice *ret_name, struct manta_taker_slice *ret_value)
{
    struct bytes all = request->taken->headers, name, value;
    struct bytes rest = bytes_skip(all, *cursor < all.size ? *cursor : all.size);
    if (!wire_field_next(&rest, &name, &value))
        return false;
    *cursor = all.size - rest.size;
    *ret_name = slice_of(name);
    *ret_value = slice_of(value);
    return true;
}

struct manta_handle *manta_taker_handle(struct manta_taker *taker, const char *app,
                                        const char *deployment)
{
    return handle_new(taker->replica.runtime, bytes_of_string(app), bytes_of_string(deployment));
}
