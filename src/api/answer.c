/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: the answering half of <manta/request.h>.
 *
 * A value becomes MessagePack for a caller with a handle, and what Ray Serve makes of it for an
 * HTTP client: a string is text/plain in UTF-8, bytes go raw, nil is empty, everything else is
 * JSON.  An answer is written straight into the session's channel with the helm held; when it is
 * flushed is the door's policy (door_flush).
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "door.h"
#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "message.h"
#include "models.h"
#include "pack.h"
#include "request_inner.h"
#include "value.h"
#include "wire.h"

enum {
    CONTENT_TYPE_LIMIT = 1024, /* bytes, so that it and the fields below leave room in a frame */
    HEADERS_LIMIT = 64 * 1024, /* bytes of the fields of an answer */
};

/* ---- the end of a request
 * -------------------------------------------------------------------------- */

/* The last moment of it: calls made for it may outlive it and only lose their parent; what it kept
 * on the heap is freed behind the answer, which may lie there. */
struct keep_block *request_leave(struct manta_request *request)
{
    struct list_link *link;
    while ((link = list_first(&request->children)))
        list_remove(link);
    ensure_tag(R1, request->replica->held_count > 0);
    request->replica->held_count--;
    if (request->replica->told == request)
        request->replica->told = NULL;
    if (request->models)
        models_release(request->replica->models, request->models);
    return keep_detach(&request->keep);
}

static int request_send(struct manta_request *request, struct taker_answer *answer)
{
    struct manta_replica *replica = request->replica;
    bool nested = runtime_enter(replica->runtime);
    int code;
    if (request->state == REQUEST_BEGUN) {
        /* One answer only: a second one breaks off the first. */
        request_abort(request, ERROR_ANSWERED, BYTES("answered while a streamed answer was open"));
        code = ERROR_ANSWERED;
    } else {
        answer->headers = bytes_of(request->headers, request->header_size);
        struct keep_block *kept = request_leave(request);
        code = taker_answer(replica->taker, request->taken, answer);
        keep_free(kept);
    }
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return code;
}

void request_abort(struct manta_request *request, int code, struct bytes text)
{
    struct manta_replica *replica = request->replica;
    struct keep_block *kept = request_leave(request);
    if (request->state == REQUEST_BEGUN)
        taker_break(replica->taker, request->taken, code, text);
    else
        taker_answer(replica->taker, request->taken,
                     &(struct taker_answer){
                         .code = code, .status = (uint16_t)error_http_status(code), .text = text});
    keep_free(kept);
}

int manta_request_fail(struct manta_request *request, int code, const char *format, ...)
{
    char text[ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (code >= 0 || code < ERROR_TOO_LARGE) /* the last of the table */
        code = ERROR_USER;
    struct manta_replica *replica = request->replica;
    bool nested = runtime_enter(replica->runtime);
    /* What the caller did wrong is no fault of the deployment's. */
    log_request(error_http_status(code) < 500 ? LOG_INFO : LOG_ERROR, request->taken->request_id,
                "%.*s failed: %s", BYTES_PRINT(request->taken->method), text);
    request_abort(request, code, bytes_of_string(text));
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return 0;
}

/* An answer that cannot be sent is the deployment's failure, whoever asked; `code` goes to it. */
static int request_refuse_answer(struct manta_request *request, int code, const char *text)
{
    manta_request_fail(request, ERROR_USER, "%s", text);
    return code;
}

/* ---- whole answers
 * ---------------------------------------------------------------------------------- */

/* The parcel of a document with buffers, which is left as it is. */
static int seal_document(struct manta_request *request, struct bytes document,
                         struct parcel **ret_parcel, struct error *reterr)
{
    struct manta_replica *replica = request->replica;
    struct text copy;
    text_init(&copy, PACK_LIMIT);
    text_add(&copy, document);
    bool nested = runtime_enter(replica->runtime);
    int code = copy.failed ? error_set(reterr, ERROR_MEMORY, "no memory for the answer")
                           : message_seal(taker_desk(replica->taker), &copy, ret_parcel, reterr);
    runtime_leave(replica->runtime, nested);
    text_done(&copy);
    return code;
}

/* `body`, or a parcel in its place. */
static int reply_http(struct manta_request *request, int status, const char *content_type,
                      struct bytes body, struct parcel *parcel)
{
    struct taker_answer answer = {.status = (uint16_t)status,
                                  .body_size = parcel ? parcel->size : body.size,
                                  .body = body,
                                  .parcel = parcel,
                                  .content_type = bytes_of_string(content_type)};
    if (status < 200 || status > 599)
        return request_refuse_answer(request, MANTA_EINVALID,
                                     "the answer has a status that is not one of 200 to 599");
    if (answer.content_type.size > CONTENT_TYPE_LIMIT)
        return request_refuse_answer(request, MANTA_EINVALID,
                                     "the answer has a content type of more than 1 KiB");
    return request_send(request, &answer);
}

int manta_request_reply_http(struct manta_request *request, int status, const char *content_type,
                             const void *body, size_t size)
{
    return reply_http(request, status, content_type, bytes_of(body, size), NULL);
}

int manta_request_reply_buffer(struct manta_request *request, int status, const char *content_type,
                               struct manta_buffer *buffer, size_t size)
{
    struct manta_replica *replica = request->replica;
    if (size > buffer->size)
        return request_refuse_answer(request, MANTA_EINVALID,
                                     "the answer has more bytes than its buffer");
    bool nested = runtime_enter(replica->runtime);
    struct parcel *parcel = message_seal_buffer(taker_desk(replica->taker), buffer, size);
    runtime_leave(replica->runtime, nested);
    int code = reply_http(request, status, content_type,
                          parcel ? (struct bytes){0} : bytes_of(buffer->at, size), parcel);
    parcel_unref(parcel);
    return code;
}

/* A document for a caller with a handle; one with buffers becomes a parcel. */
static int reply_document(struct manta_request *request, struct bytes document)
{
    struct taker_answer answer = {
        .content_type = BYTES(VALUE_CONTENT_TYPE), .body_size = document.size, .body = document};
    if (!shared_has_references(document))
        return request_send(request, &answer);
    struct error error = {0};
    int code = seal_document(request, document, &answer.parcel, &error);
    if (code < 0)
        return request_refuse_answer(request, code, error.text);
    answer.body = (struct bytes){0};
    answer.body_size = answer.parcel->size;
    struct parcel *parcel = answer.parcel;
    code = request_send(request, &answer);
    parcel_unref(parcel);
    return code;
}

/* One checked document for an HTTP client. */
static int reply_http_document(struct manta_request *request, struct bytes document)
{
    struct value_reader reader;
    struct value value;
    struct text json;
    value_read_init(&reader, document);
    if (!value_next(&reader, &value) || value.type == VALUE_NIL)
        return manta_request_reply_http(request, 200, "text/plain", "", 0);
    if (value.type == VALUE_STRING)
        return manta_request_reply_http(request, 200, "text/plain; charset=utf-8", value.bytes.at,
                                        value.bytes.size);
    if (value.type == VALUE_BINARY)
        return manta_request_reply_http(request, 200, "text/plain", value.bytes.at,
                                        value.bytes.size);
    struct manta_buffer *buffer;
    struct value_place place;
    if (value.type == VALUE_EXTENSION && value.extension == VALUE_EXTENSION_BUFFER &&
        shared_place(value.raw, &place, &buffer) == 0)
        return place.offset
                   ? manta_request_reply_http(request, 200, "text/plain", buffer->at + place.offset,
                                              place.size)
                   : manta_request_reply_buffer(request, 200, "text/plain", buffer, place.size);
    text_init(&json, PACK_LIMIT);
    shared_print(document, &json);
    int code =
        json.failed
            ? request_refuse_answer(request, MANTA_EMEMORY, "no memory for the JSON of the answer")
            : manta_request_reply_http(request, 200, "application/json", json.at, json.size);
    text_done(&json);
    return code;
}

/* Small scalars are the hot case: they are packed on the stack. */
static size_t pack_scalar(const struct manta_arg *arg, uint8_t at[9])
{
    uint64_t bits;
    switch (arg->type) {
    case MANTA_ARG_NIL:
        at[0] = 0xc0;
        return 1;
    case MANTA_ARG_BOOL:
        at[0] = arg->u.boolean ? 0xc3 : 0xc2;
        return 1;
    case MANTA_ARG_INT:
        at[0] = 0xd3;
        bits = (uint64_t)arg->u.integer;
        break;
    case MANTA_ARG_FLOAT:
        at[0] = 0xcb;
        memcpy(&bits, &arg->u.number, sizeof bits);
        break;
    default:
        return 0;
    }
    for (int i = 0; i < 8; i++)
        at[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    return 9;
}

int manta_request_reply_arg(struct manta_request *request, struct manta_arg arg)
{
    bool http = manta_request_is_http(request);
    struct error error = {0};
    struct text text;
    uint8_t scalar[9];
    size_t scalar_size = pack_scalar(&arg, scalar);
    if (http && arg.type == MANTA_ARG_STRING)
        return manta_request_reply_http(request, 200, "text/plain; charset=utf-8", arg.u.at,
                                        arg.size);
    if (http && arg.type == MANTA_ARG_BINARY)
        return manta_request_reply_http(request, 200, "text/plain", arg.u.at, arg.size);
    if (scalar_size)
        return http ? reply_http_document(request, bytes_of(scalar, scalar_size))
                    : reply_document(request, bytes_of(scalar, scalar_size));
    text_init(&text, PACK_LIMIT);
    int code = args_write_one(&text, &arg, &error);
    if (code < 0 || text.failed)
        code = request_refuse_answer(request, code < 0 ? code : MANTA_EMEMORY,
                                     code < 0 ? error.text : "no memory for the answer");
    else
        code = http ? reply_http_document(request, text_bytes(&text))
                    : reply_document(request, text_bytes(&text));
    text_done(&text);
    return code;
}

int manta_request_reply_pack(struct manta_request *request, const struct manta_pack *pack)
{
    struct manta_value value;
    struct manta_error error = {0};
    if (manta_pack_value(pack, &value, &error) < 0)
        return request_refuse_answer(request, error.code, error.text);
    struct bytes document = bytes_of(value.at, value.size);
    return manta_request_is_http(request) ? reply_http_document(request, document)
                                          : reply_document(request, document);
}

int manta_request_reply_nil(struct manta_request *request)
{
    return manta_request_reply_arg(request, manta_nil());
}

int manta_request_reply_bool(struct manta_request *request, bool value)
{
    return manta_request_reply_arg(request, manta_bool(value));
}

int manta_request_reply_int(struct manta_request *request, int64_t value)
{
    return manta_request_reply_arg(request, manta_int(value));
}

int manta_request_reply_float(struct manta_request *request, double value)
{
    return manta_request_reply_arg(request, manta_float(value));
}

int manta_request_reply_string(struct manta_request *request, const char *string)
{
    return manta_request_reply_arg(request, manta_string(string));
}

int manta_request_reply_binary(struct manta_request *request, const void *at, size_t size)
{
    return manta_request_reply_arg(request, manta_binary(at, size));
}

/* ---- header fields
 * ---------------------------------------------------------------------------------- */

static bool header_is_valid(struct bytes name, struct bytes value)
{
    static const char OTHERS[] = "!#$%&'*+-.^_`|~";
    if (!name.size || name.size > UINT16_MAX || value.size > UINT16_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.at[i];
        bool sign = (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z');
        if (!sign && (!byte || !strchr(OTHERS, byte)))
            return false;
    }
    for (size_t i = 0; i < value.size; i++)
        if ((value.at[i] < ' ' && value.at[i] != '\t') || value.at[i] == 127)
            return false;
    return true;
}

/* Doubles the block in the arena until the field fits. */
static bool header_append(struct manta_request *request, struct bytes name, struct bytes value)
{
    size_t needed = request->header_size + name.size + value.size + 4;
    if (needed > HEADERS_LIMIT)
        return false;
    if (needed > request->header_capacity) {
        size_t capacity = needed * 2;
        uint8_t *block = keep_memory(&request->keep, capacity);
        if (!block)
            return false;
        if (request->header_size)
            memcpy(block, request->headers, request->header_size);
        request->headers = block;
        request->header_capacity = capacity;
    }
    request->header_size +=
        wire_field_write(request->headers + request->header_size,
                         request->header_capacity - request->header_size, name, value);
    return true;
}

int manta_request_add_header(struct manta_request *request, const char *name, const char *value,
                             struct manta_error *reterr)
{
    struct bytes name_bytes = bytes_of_string(name), value_bytes = bytes_of_string(value);
    if (!header_is_valid(name_bytes, value_bytes))
        return manta_error_set(reterr, MANTA_EINVALID,
                               "'%.100s' cannot be a header field with that value (RFC 9110 5)",
                               name ? name : "");
    if (request->state == REQUEST_BEGUN)
        return manta_error_set(reterr, MANTA_EANSWERED, "the answer has begun");
    bool nested = runtime_enter(request->replica->runtime);
    bool added = header_append(request, name_bytes, value_bytes);
    runtime_leave(request->replica->runtime, nested);
    return added ? 0
                 : manta_error_set(reterr, MANTA_ELIMIT,
                                   "the header fields of the answer have more than 64 KiB");
}

/* ---- streamed answers
 * -------------------------------------------------------------------------------- */

int manta_request_begin(struct manta_request *request, int status, const char *content_type,
                        void (*room)(void *owner), void *owner, struct manta_error *reterr)
{
    struct manta_replica *replica = request->replica;
    if (status < 200 || status > 599)
        return manta_error_set(reterr, MANTA_EINVALID, "an answer has status 200 to 599, not %d",
                               status);
    if (request->state == REQUEST_BEGUN)
        return manta_error_set(reterr, MANTA_EANSWERED, "the answer has begun");
    if (bytes_of_string(content_type).size > CONTENT_TYPE_LIMIT)
        return manta_error_set(reterr, MANTA_EINVALID, "a content type of more than 1 KiB");
    bool nested = runtime_enter(replica->runtime);
    struct taker_answer answer = {.status = (uint16_t)status,
                                  .body_size = UINT64_MAX,
                                  .headers = bytes_of(request->headers, request->header_size),
                                  .content_type = bytes_of_string(content_type)};
    if (!manta_request_is_http(request)) /* its items are values, whatever is in them */
        answer.content_type = BYTES(VALUE_CONTENT_TYPE);
    int code = taker_begin(replica->taker, request->taken, &answer);
    request->state = code < 0 ? request->state : REQUEST_BEGUN;
    request->room = room;
    request->room_owner = owner;
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return code < 0 ? manta_error_set(reterr, code, "%s", error_text(code)) : 0;
}

/* `part`, or a parcel in its place. */
static int request_write(struct manta_request *request, struct bytes part, struct parcel *parcel)
{
    struct manta_replica *replica = request->replica;
    if (request->state != REQUEST_BEGUN)
        return MANTA_EINVALID;
    bool nested = runtime_enter(replica->runtime);
    int code = parcel ? taker_write_parcel(replica->taker, request->taken, parcel)
                      : taker_write(replica->taker, request->taken, part);
    if (code == ERROR_AGAIN)
        request->room_wanted = true;
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return code;
}

/* One item for a caller with a handle. */
static int write_document(struct manta_request *request, struct bytes document)
{
    struct error error = {0};
    struct parcel *parcel = NULL;
    if (!shared_has_references(document))
        return request_write(request, document, NULL);
    int code = seal_document(request, document, &parcel, &error);
    if (code == 0)
        code = request_write(request, (struct bytes){0}, parcel);
    parcel_unref(parcel);
    return code;
}

/* From where it lies, if that can be lent. */
static int write_buffer(struct manta_request *request, struct manta_buffer *buffer, size_t size)
{
    struct manta_replica *replica = request->replica;
    if (size > buffer->size)
        return MANTA_EINVALID;
    bool nested = runtime_enter(replica->runtime);
    struct parcel *parcel = message_seal_buffer(taker_desk(replica->taker), buffer, size);
    runtime_leave(replica->runtime, nested);
    int code = request_write(request, bytes_of(buffer->at, size), parcel);
    parcel_unref(parcel);
    return code;
}

int manta_request_write(struct manta_request *request, const void *part, size_t size)
{
    if (manta_request_is_http(request))
        return request_write(request, bytes_of(part, size), NULL);
    return manta_request_write_arg(request, manta_binary(part, size));
}

/* One value as one item: packed for callers, as text, bytes or a line of JSON for HTTP clients. */
int manta_request_write_arg(struct manta_request *request, struct manta_arg arg)
{
    struct error error = {0};
    struct text text, json;
    if (manta_request_is_http(request) &&
        (arg.type == MANTA_ARG_STRING || arg.type == MANTA_ARG_BINARY))
        return request_write(request, bytes_of(arg.u.at, arg.size), NULL);
    if (manta_request_is_http(request) && arg.type == MANTA_ARG_BUFFER) {
        return write_buffer(request, (struct manta_buffer *)arg.u.at, arg.size);
    }
    text_init(&text, PACK_LIMIT);
    text_init(&json, PACK_LIMIT);
    int code = args_write_one(&text, &arg, &error);
    if (code == 0 && manta_request_is_http(request)) {
        shared_print(text_bytes(&text), &json);
        text_add_byte(&json, '\n');
        code = json.failed ? ERROR_MEMORY : request_write(request, text_bytes(&json), NULL);
    } else if (code == 0) {
        code = text.failed ? ERROR_MEMORY : write_document(request, text_bytes(&text));
    }
    text_done(&text);
    text_done(&json);
    return code;
}

void request_on_room(struct manta_request *request)
{
    request->room_wanted = false;
    if (request->room)
        request->room(request->room_owner);
}

static bool request_has_room(void *owner)
{
    struct manta_request *request = owner;
    return !request->room_wanted || request->taken->cancelled;
}

int manta_request_wait_room(struct manta_request *request, double timeout_s)
{
    struct runtime *runtime = request->replica->runtime;
    bool nested = runtime_enter(runtime);
    if (nested) {
        runtime_leave(runtime, nested);
        return MANTA_EINVALID;
    }
    channel_set_flush(&runtime->channels);
    bool room =
        helm_wait(runtime->helm, request_has_room, request, runtime_due_ns(runtime, timeout_s));
    bool gone = request->taken->cancelled;
    runtime_leave(runtime, nested);
    return gone ? MANTA_ECANCELLED : room ? 0 : MANTA_ETIMEOUT;
}

int manta_request_finish(struct manta_request *request)
{
    struct manta_replica *replica = request->replica;
    if (request->state != REQUEST_BEGUN)
        return manta_request_reply_nil(request);
    bool nested = runtime_enter(replica->runtime);
    bool gone = request->taken->cancelled;
    struct keep_block *kept = request_leave(request);
    taker_finish(replica->taker, request->taken, 0, (struct bytes){0});
    keep_free(kept);
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return gone ? MANTA_ECANCELLED : 0;
}
