/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conversation: <manta/websocket.h>: messages of a request of the kind websocket.
 *
 *     body of the request (records) -> message, whole -> user code
 *     user code -> one record -> part of the answer;  close -> its trailers
 *
 * A message is put together when somebody asks for it; what nobody asks for stays in the taker's
 * window, and the client waits.
 */
#include "conversation.h"

#include <stdio.h>
#include <string.h>

#include <manta/websocket.h>

#include "call.h"
#include "door.h"
#include "ensure.h"
#include "keep.h"
#include "mem.h"
#include "request_inner.h"
#include "websocket.h"
#include "wire.h"

enum { STACK_RECORD = 8192, CLOSE_BLOCK = 192, MESSAGE_LEAST = 512 };

struct conversation {
    struct manta_websocket_events events;
    struct websocket_record_reader reader;
    uint8_t *message; /* as far as it has come; heap */
    size_t size, capacity;
    bool whole; /* `message` was given out: the next one begins anew */
};

bool manta_request_is_websocket(const struct manta_request *request)
{
    return request->taken->kind == WIRE_KIND_WEBSOCKET;
}

/* ---- accepting ---------------------------------------------------------------------------------
 */

static void free_conversation(void *owner)
{
    struct conversation *conversation = owner;
    mem_free(conversation->message);
    mem_free(conversation);
}

/* Is it one of a comma-separated list? */
static bool lists(struct bytes list, struct bytes wanted)
{
    while (list.size) {
        ptrdiff_t comma = bytes_find(list, ',');
        size_t size = comma < 0 ? list.size : (size_t)comma;
        if (bytes_equal(bytes_trim(bytes_head(list, size)), wanted))
            return true;
        list = bytes_skip(list, size + 1);
    }
    return false;
}

static bool was_offered(const struct manta_request *request, struct bytes wanted)
{
    struct bytes rest = request->taken->headers, name, value;
    while (wire_field_next(&rest, &name, &value))
        if (bytes_equal_nocase(name, BYTES("sec-websocket-protocol")) && lists(value, wanted))
            return true;
    return false;
}

static struct conversation *begin(struct manta_request *request,
                                  const struct manta_websocket_events *events)
{
    struct conversation *conversation = mem_try(sizeof *conversation);
    if (!conversation)
        return NULL;
    if (events)
        memcpy(&conversation->events, events,
               events->size < sizeof *events ? events->size : sizeof *events);
    if (!keep_hold(&request->keep, free_conversation, conversation)) {
        mem_free(conversation);
        return NULL;
    }
    request->room = conversation->events.room;
    request->room_owner = conversation->events.owner;
    return conversation;
}

int manta_websocket_accept(struct manta_request *request, const char *subprotocol,
                           const struct manta_websocket_events *events, struct manta_error *reterr)
{
    struct manta_replica *replica = request->replica;
    if (!manta_request_is_websocket(request))
        return manta_error_set(reterr, MANTA_EINVALID, "the client did not ask for a websocket");
    if (request->state == REQUEST_BEGUN)
        return manta_error_set(reterr, MANTA_EANSWERED, "the websocket was accepted already");
    if (subprotocol && !was_offered(request, bytes_of_string(subprotocol)))
        return manta_error_set(reterr, MANTA_EINVALID,
                               "the client did not offer the subprotocol '%.100s'", subprotocol);
    if (subprotocol) {
        int code = manta_request_add_header(request, "sec-websocket-protocol", subprotocol, reterr);
        if (code < 0)
            return code;
    }
    bool nested = runtime_enter(replica->runtime);
    request->conversation = begin(request, events);
    struct taker_answer answer = {.status = 101,
                                  .body_size = UINT64_MAX,
                                  .headers = bytes_of(request->headers, request->header_size)};
    int code = request->conversation ? taker_begin(replica->taker, request->taken, &answer)
                                     : MANTA_EMEMORY;
    request->state = code < 0 ? request->state : REQUEST_BEGUN;
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return code < 0 ? manta_error_set(reterr, code, "%s", error_text(code)) : 0;
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

void conversation_on_arrival(struct conversation *conversation)
{
    if (conversation->events.arrived)
        conversation->events.arrived(conversation->events.owner);
}

static bool grow(struct conversation *conversation, size_t more)
{
    size_t wanted = conversation->size + more;
    size_t capacity = conversation->capacity ? conversation->capacity : MESSAGE_LEAST;
    if (wanted <= conversation->capacity)
        return true;
    while (capacity < wanted)
        capacity *= 2;
    uint8_t *larger = mem_try_resize(conversation->message, conversation->capacity, capacity);
    if (!larger)
        return false;
    conversation->message = larger;
    conversation->capacity = capacity;
    return true;
}

/* A message that was given out; a large one's memory is not kept for the small ones behind it. */
static void forget(struct conversation *conversation)
{
    conversation->whole = false;
    conversation->size = 0;
    if (conversation->capacity <= STACK_RECORD)
        return;
    conversation->message = mem_free(conversation->message);
    conversation->capacity = 0;
}

/* 1: a message is whole; 0: more must come; negative: why there will be none. */
static int collect(struct manta_request *request)
{
    struct conversation *conversation = request->conversation;
    struct taker_request *taken = request->taken;
    size_t limit = (size_t)request->replica->runtime->settings.websocket_message_limit;
    struct bytes input = taken->body;
    struct websocket_record record = {0};
    int code = 0;
    if (conversation->whole)
        forget(conversation);
    while (!record.last &&
           (code = websocket_record_next(&conversation->reader, &input, &record)) == 1) {
        if (record.bytes.size > limit - conversation->size)
            code = -1;
        if (code < 0)
            break;
        if (!grow(conversation, record.bytes.size))
            return MANTA_EMEMORY; /* nothing is lost but the message: the conversation must end */
        if (record.bytes.size)
            memcpy(conversation->message + conversation->size, record.bytes.at, record.bytes.size);
        conversation->size += record.bytes.size;
    }
    taker_consume(request->replica->taker, taken, taken->body.size - input.size);
    conversation->whole = record.last;
    return code < 0 ? MANTA_EPROTOCOL : record.last;
}

static bool is_over(const struct taker_request *taken)
{
    return taken->cancelled || taken->body_ended;
}

static bool has_news(void *owner)
{
    struct taker_request *taken = ((struct manta_request *)owner)->taken;
    return taken->body.size || is_over(taken);
}

static void fill(struct manta_request *request, int whole, struct manta_websocket_message *message)
{
    const struct conversation *conversation = request->conversation;
    const struct taker_request *taken = request->taken;
    struct manta_websocket_message told = {.size_of = message->size_of};
    if (whole == 1) {
        told.kind = conversation->reader.kind == WEBSOCKET_KIND_TEXT ? MANTA_WEBSOCKET_TEXT
                                                                     : MANTA_WEBSOCKET_BINARY;
        told.size = conversation->size;
        told.at = told.size ? conversation->message : NULL;
    } else {
        told.kind = MANTA_WEBSOCKET_CLOSED;
        told.code = taken->close_code ? taken->close_code : WEBSOCKET_ABNORMAL;
        told.size = taken->close_reason.size;
        told.at = taken->close_reason.at;
    }
    memcpy(message, &told, message->size_of < sizeof told ? message->size_of : sizeof told);
}

int manta_websocket_receive(struct manta_request *request, struct manta_websocket_message *message,
                            double timeout_s, struct manta_error *reterr)
{
    struct runtime *runtime = request->replica->runtime;
    if (!request->conversation)
        return manta_error_set(reterr, MANTA_EINVALID, "the websocket has not been accepted");
    bool nested = runtime_enter(runtime), waited = true;
    int code;
    while ((code = collect(request)) == 0 && !is_over(request->taken) && waited) {
        if (nested && timeout_s != 0) {
            code = MANTA_EINVALID;
            break;
        }
        if (timeout_s == 0)
            door_flush(request->replica); /* credit; whoever asks again and again sends it later */
        else
            channel_set_flush(&runtime->channels);
        waited = timeout_s != 0 &&
                 helm_wait(runtime->helm, has_news, request, runtime_due_ns(runtime, timeout_s));
    }
    bool told = code > 0 || (code == 0 && is_over(request->taken));
    if (told)
        fill(request, code, message);
    runtime_leave(runtime, nested);
    if (told)
        return 0;
    if (code == 0 && timeout_s == 0)
        return MANTA_ETIMEOUT; /* every runner with an event loop hears it between two messages */
    if (code == 0)
        return manta_error_set(reterr, MANTA_ETIMEOUT, "no message came in %g s", timeout_s);
    return manta_error_set(reterr, code, "%s",
                           code == MANTA_EINVALID ? "a callback may not wait" : error_text(code));
}

/* ---- sending -----------------------------------------------------------------------------------
 */

static bool is_text(struct bytes bytes)
{
    struct websocket_utf8 utf8 = {0};
    return websocket_utf8_check(&utf8, bytes) && !utf8.left;
}

int manta_websocket_send(struct manta_request *request, enum manta_websocket_kind kind,
                         const void *at, size_t size)
{
    struct manta_replica *replica = request->replica;
    uint8_t stack[STACK_RECORD], *record = stack;
    if (!request->conversation ||
        (kind != MANTA_WEBSOCKET_TEXT && kind != MANTA_WEBSOCKET_BINARY) ||
        (kind == MANTA_WEBSOCKET_TEXT && !is_text(bytes_of(at, size))))
        return MANTA_EINVALID;
    if (size > UINT32_MAX)
        return MANTA_ELIMIT;
    size_t whole = WEBSOCKET_RECORD_HEAD + size;
    if (whole > sizeof stack && !(record = mem_try(whole)))
        return MANTA_EMEMORY;
    websocket_record_write_head(kind == MANTA_WEBSOCKET_TEXT ? WEBSOCKET_KIND_TEXT
                                                             : WEBSOCKET_KIND_BINARY,
                                true, size, record);
    if (size)
        memcpy(record + WEBSOCKET_RECORD_HEAD, at, size);
    bool nested = runtime_enter(replica->runtime);
    int code = taker_write(replica->taker, request->taken, bytes_of(record, whole));
    if (code == ERROR_AGAIN)
        request->room_wanted = true;
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    if (record != stack)
        mem_free(record);
    return code;
}

int manta_websocket_send_all(struct manta_request *request, enum manta_websocket_kind kind,
                             const void *at, size_t size, double timeout_s)
{
    int code;
    while ((code = manta_websocket_send(request, kind, at, size)) == MANTA_EAGAIN)
        if ((code = manta_request_wait_room(request, timeout_s)) < 0)
            break;
    return code;
}

static size_t write_close(int code, struct bytes reason, uint8_t block[CLOSE_BLOCK])
{
    char digits[16];
    int count = snprintf(digits, sizeof digits, "%d", code);
    size_t size =
        wire_field_write(block, CLOSE_BLOCK, WEBSOCKET_CLOSE_CODE, bytes_of(digits, (size_t)count));
    size_t more =
        wire_field_write(block + size, CLOSE_BLOCK - size, WEBSOCKET_CLOSE_REASON, reason);
    ensure(size && more);
    return size + more;
}

int manta_websocket_close(struct manta_request *request, int code, const char *reason,
                          struct manta_error *reterr)
{
    struct manta_replica *replica = request->replica;
    struct bytes words = bytes_of_string(reason);
    uint8_t block[CLOSE_BLOCK];
    if (!request->conversation)
        return manta_error_set(reterr, MANTA_EINVALID, "the websocket has not been accepted");
    if (code < 0 || !websocket_code_may_be_sent((unsigned)code))
        return manta_error_set(reterr, MANTA_EINVALID,
                               "%d is no close code: 1000 to 1003, 1007 to 1014, 3000 to 4999",
                               code);
    if (words.size > WEBSOCKET_REASON_MOST || !is_text(words))
        return manta_error_set(reterr, MANTA_EINVALID,
                               "a reason is UTF-8 of at most %d bytes, not %zu",
                               WEBSOCKET_REASON_MOST, words.size);
    size_t size = write_close(code, words, block);
    bool nested = runtime_enter(replica->runtime);
    bool gone = request->taken->cancelled;
    struct keep_block *kept = request_leave(request);
    taker_finish(replica->taker, request->taken, 0, bytes_of(block, size));
    keep_free(kept);
    door_flush(replica);
    runtime_leave(replica->runtime, nested);
    return gone ? manta_error_set(reterr, MANTA_ECANCELLED, "the client had ended it") : 0;
}
