/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: what was asked: the reading half of <manta/request.h>.  The answering half is answer.c.
 *
 * Slices of the received frame become zero-terminated strings in the request's arena on first use,
 * so that a request whose path nobody reads pays nothing for it.
 */
#include <math.h>
#include <string.h>

#include "call.h"
#include "conversation.h"
#include "door.h"
#include "ensure.h"
#include "log.h"
#include "message.h"
#include "request_inner.h"
#include "value.h"
#include "wire.h"

static const double NS = 1e-9;

/* The parser's tree takes some twenty times the text of small numbers. */
enum { REQUEST_JSON_LIMIT = 16 << 20 };

struct manta_request *request_new(struct manta_replica *replica, struct taker_request *taken)
{
    struct manta_request *request = arena_try(&taken->arena, sizeof *request);
    if (!request)
        return NULL;
    request->taken = taken;
    request->replica = replica;
    request->keep = (struct keep){.arena = &taken->arena};
    request->args = (struct manta_args){.runtime = replica->runtime, .keep = &request->keep};
    list_init(&request->children);
    taken->owner = request;
    replica->held_count++;
    return request;
}

/* Zero-terminated copy of a slice; "" when memory lacks. */
static const char *request_string(struct manta_request *request, struct bytes bytes)
{
    if (!bytes.size)
        return "";
    const char *string = keep_find(&request->keep, bytes);
    if (string)
        return string;
    bool nested = runtime_enter(request->replica->runtime);
    string = keep_string(&request->keep, bytes);
    runtime_leave(request->replica->runtime, nested);
    return string ? string : "";
}

bool manta_request_is_http(const struct manta_request *request)
{
    return request->taken->kind != WIRE_KIND_CALL;
}

const char *manta_request_method(struct manta_request *request)
{
    return request_string(request, request->taken->method);
}

const char *manta_request_path(struct manta_request *request)
{
    return request_string(request, request->taken->path);
}

const char *manta_request_query(struct manta_request *request)
{
    return request_string(request, request->taken->query);
}

const char *manta_request_route_prefix(struct manta_request *request)
{
    return request_string(request, request->taken->route_prefix);
}

const char *manta_request_content_type(struct manta_request *request)
{
    return request_string(request, request->taken->content_type);
}

const char *manta_request_id(struct manta_request *request)
{
    return request_string(request, request->taken->request_id);
}

const char *manta_request_model_id(struct manta_request *request)
{
    return request_string(request, request->taken->model_id);
}

const char *manta_request_header(struct manta_request *request, const char *name)
{
    struct bytes value;
    if (!wire_field_find(request->taken->headers, bytes_of_string(name), &value))
        return NULL;
    return request_string(request, value);
}

bool manta_request_header_at(struct manta_request *request, size_t index, const char **ret_name,
                             const char **ret_value)
{
    struct bytes rest = request->taken->headers, name, value;
    for (size_t i = 0; wire_field_next(&rest, &name, &value); i++)
        if (i == index) {
            *ret_name = request_string(request, name);
            *ret_value = request_string(request, value);
            return true;
        }
    return false;
}

static bool is_array(struct bytes document)
{
    struct value_reader reader;
    struct value value;
    size_t offset;
    if (value_check(document, &offset) < 0)
        return false;
    value_read_init(&reader, document);
    return value_next(&reader, &value) && value.type == VALUE_ARRAY;
}

static void release_message(void *owner)
{
    message_free(owner);
}

/* A call's body as a document; one that came with buffers is opened at first. */
static struct bytes request_document(struct manta_request *request)
{
    struct message *message;
    struct error error = {0};
    if (!request->taken->parcel)
        return request->taken->body;
    if (request->opened)
        return request->document;
    bool nested = runtime_enter(request->replica->runtime);
    request->opened = true;
    if (message_open(request->taken->parcel, &message, &request->document, &error) < 0)
        log_request(LOG_WARNING, request->taken->request_id, "the arguments are refused: %s",
                    error.text);
    else if (!keep_hold(&request->keep, release_message, message)) {
        request->document = (struct bytes){0};
        message_free(message);
    }
    runtime_leave(request->replica->runtime, nested);
    return request->document;
}

/* The body of a call is checked once, when its arguments are first asked for. */
const struct manta_args *manta_request_args(struct manta_request *request)
{
    struct bytes body =
        request->taken->kind == WIRE_KIND_CALL ? request_document(request) : request->taken->body;
    if (request->taken->kind == WIRE_KIND_CALL && !request->args.document.size &&
        request->taken->body_ended && is_array(body))
        request->args.document = body;
    return &request->args;
}

const void *manta_request_body(struct manta_request *request, size_t *ret_size)
{
    struct taker_request *taken = request->taken;
    bool nested = runtime_enter(request->replica->runtime);
    /* A streamed body whose sender is gone has ended, but is not whole. */
    bool whole = taken->body_ended && !taken->body_error &&
                 !(taken->cancelled && request->replica->target.stream_body);
    struct bytes body = whole ? taken->body : (struct bytes){0};
    runtime_leave(request->replica->runtime, nested);
    *ret_size = body.size;
    return body.at;
}

int manta_request_body_buffer(struct manta_request *request, struct manta_buffer **ret_buffer,
                              struct manta_error *reterr)
{
    bool nested = runtime_enter(request->replica->runtime);
    struct manta_buffer *buffer = message_buffer(request->taken->parcel);
    runtime_leave(request->replica->runtime, nested);
    if (!buffer)
        return manta_error_set(reterr, MANTA_ENOTFOUND, "the body did not come by reference");
    *ret_buffer = buffer;
    return 0;
}

static bool content_is(struct bytes content_type, struct bytes wanted)
{
    ptrdiff_t semicolon = bytes_find(content_type, ';');
    if (semicolon >= 0)
        content_type = bytes_head(content_type, (size_t)semicolon);
    return bytes_equal_nocase(bytes_trim(content_type), wanted);
}

static int request_parse_json(struct manta_request *request, struct bytes body,
                              struct manta_error *reterr)
{
    struct manta_value packed;
    if (body.size > REQUEST_JSON_LIMIT)
        return manta_error_set(reterr, MANTA_ETOOLARGE,
                               "the body has %zu bytes, JSON has at most %d MiB: send MessagePack",
                               body.size, REQUEST_JSON_LIMIT >> 20);
    struct manta_pack *pack = manta_pack_new();
    if (!pack)
        return manta_error_set(reterr, MANTA_EMEMORY, "no memory for the body");
    int code = manta_pack_json(pack, (const char *)body.at, body.size, reterr);
    if (code == 0)
        code = manta_pack_value(pack, &packed, reterr);
    if (code == 0) {
        bool nested = runtime_enter(request->replica->runtime);
        void *copy = keep_memory(&request->keep, packed.size);
        runtime_leave(request->replica->runtime, nested);
        if (copy)
            request->value =
                (struct manta_value){memcpy(copy, packed.at, packed.size), packed.size};
        else
            code = manta_error_set(reterr, MANTA_EMEMORY, "no memory for a body of %zu bytes",
                                   body.size);
    }
    manta_pack_free(pack);
    return code;
}

int manta_request_value(struct manta_request *request, struct manta_value *ret_value,
                        struct manta_error *reterr)
{
    size_t offset, size;
    int code = 0;
    if (!request->value.at) {
        const void *at = manta_request_body(request, &size);
        struct bytes body = request->taken->kind == WIRE_KIND_CALL && request->taken->parcel
                                ? request_document(request)
                                : bytes_of(at, size);
        if (!content_is(request->taken->content_type, BYTES(VALUE_CONTENT_TYPE)))
            code = request_parse_json(request, body, reterr);
        else if (value_check(body, &offset) < 0)
            code = manta_error_set(reterr, MANTA_EINVALID, "the body is no MessagePack at byte %zu",
                                   offset);
        else
            request->value = (struct manta_value){body.at, body.size};
    }
    if (code == 0)
        *ret_value = request->value;
    return code;
}

/* ---- streamed bodies
 * ------------------------------------------------------------------------------ */

static bool request_can_read(void *owner)
{
    struct taker_request *taken = ((struct manta_request *)owner)->taken;
    return taken->body.size || taken->body_ended || taken->cancelled;
}

static int64_t request_read(struct manta_request *request, void *at, size_t room,
                            struct error *reterr)
{
    struct taker_request *taken = request->taken;
    if (taken->cancelled)
        return error_set(reterr, ERROR_CANCELLED, "the client has left");
    if (!taken->body.size && taken->body_error)
        return error_set(reterr, taken->body_error, "the body broke off");
    size_t size = taken->body.size < room ? taken->body.size : room;
    if (size) {
        memcpy(at, taken->body.at, size);
        taker_consume(request->replica->taker, taken, size);
        channel_set_flush(&request->replica->runtime->channels);
    }
    return (int64_t)size;
}

int64_t manta_request_read(struct manta_request *request, void *at, size_t room, double timeout_s,
                           struct manta_error *reterr)
{
    struct runtime *runtime = request->replica->runtime;
    struct error error = {0};
    int64_t size = -1;
    bool nested = runtime_enter(runtime);
    if (!request_can_read(request) && nested)
        error_set(&error, ERROR_INVALID, "a callback may not wait");
    else if (!request_can_read(request)) {
        channel_set_flush(&runtime->channels);
        if (!helm_wait(runtime->helm, request_can_read, request,
                       runtime_due_ns(runtime, timeout_s)))
            error_set(&error, ERROR_TIMEOUT, "no more of the body came in %g s", timeout_s);
    }
    if (!error.code)
        size = request_read(request, at, room, &error);
    runtime_leave(runtime, nested);
    return error.code ? runtime_error(reterr, &error) : size;
}

/* ---- cancellation and deadline
 * ------------------------------------------------------------------- */

bool manta_request_cancelled(struct manta_request *request)
{
    bool nested = runtime_enter(request->replica->runtime);
    bool cancelled = request->taken->cancelled;
    runtime_leave(request->replica->runtime, nested);
    return cancelled;
}

void manta_request_on_cancel(struct manta_request *request, void (*cancelled)(void *owner),
                             void *owner)
{
    struct runtime *runtime = request->replica->runtime;
    bool nested = runtime_enter(runtime);
    request->cancelled = cancelled;
    request->cancelled_owner = owner;
    if (request->taken->cancelled)
        request_on_cancelled(request);
    runtime_leave(runtime, nested);
}

void request_on_body(struct manta_request *request)
{
    if (request->conversation)
        conversation_on_arrival(request->conversation);
}

void request_on_cancelled(struct manta_request *request)
{
    void (*cancelled)(void *) = request->cancelled;
    struct list_link *link;
    struct list children;
    list_init(&children);
    while ((link = list_pop_front(&request->children)))
        list_push_back(&children, link);
    request->cancelled = NULL;
    if (cancelled)
        cancelled(request->cancelled_owner);
    /* A writer that waits for room learns it from its next write. */
    if (request->room_wanted)
        request_on_room(request);
    /* Not a word of the request from here on: it may be answered already, or by `done` of a call.
     */
    while ((link = list_pop_front(&children)))
        call_cancel(list_entry(link, struct manta_call, parent_link), ERROR_CANCELLED);
}

double manta_request_time_left_s(struct manta_request *request)
{
    struct runtime *runtime = request->replica->runtime;
    if (!request->taken->deadline_ns)
        return (double)INFINITY;
    bool nested = runtime_enter(runtime);
    double left = (double)(request->taken->deadline_ns - loop_refresh_now_ns(runtime->loop)) * NS;
    runtime_leave(runtime, nested);
    return left;
}

struct manta_replica *manta_request_replica(struct manta_request *request)
{
    return request->replica;
}

int request_adopt(struct manta_request *parent, struct manta_call *call,
                  struct dispatch_request *request)
{
    struct taker_request *taken = parent->taken;
    if (taken->cancelled)
        return ERROR_CANCELLED;
    request->request_id = taken->request_id;
    request->trace = taken->trace;
    if (taken->deadline_ns && (!request->deadline_ns || taken->deadline_ns < request->deadline_ns))
        request->deadline_ns = taken->deadline_ns;
    list_push_back(&parent->children, &call->parent_link);
    return 0;
}
