/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call_result: what the answer to a call brings, kept until the call is freed.
 *
 * A unary result is a slice of the received buffer, kept by a reference and checked once, or a
 * message when buffers came with it.  A streamed result is a list of items; taking one gives its
 * bytes back as credit, so that the slower side sets the pace.
 */
#include "call.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "message.h"
#include "pack.h"
#include "value.h"

/* ---- one result ---- */

/* Keeps `body` alive: by reference when it lies in a received buffer, else by copy. */
static bool keep_bytes(struct manta_call *call, struct buffer *buffer, struct bytes body,
                       struct manta_value *ret_value)
{
    if (buffer) {
        call->buffer = buffer_ref(buffer);
    } else {
        mem_free(call->copy);
        call->copy = mem_try(body.size ? body.size : 1);
        if (!call->copy)
            return false;
        if (body.size)
            memcpy(call->copy, body.at, body.size);
        body.at = call->copy;
    }
    *ret_value = (struct manta_value){body.at, body.size};
    return true;
}

/* Bytes that are not MessagePack (an HTTP style answer to a call) are given as one binary value. */
static bool keep_binary(struct manta_call *call, struct bytes body, struct manta_value *ret_value)
{
    struct text text;
    text_init(&text, PACK_LIMIT);
    value_write_binary(&text, body);
    bool kept = !text.failed && keep_bytes(call, NULL, text_bytes(&text), ret_value);
    text_done(&text);
    return kept;
}

/* The same where they lie; false when there is nothing to refer to. */
static bool keep_raw(struct manta_call *call, struct parcel *parcel, struct manta_value *ret_value)
{
    struct text text;
    struct error error = {0};
    struct manta_buffer *raw = message_buffer(parcel);
    if (!raw)
        return false;
    struct manta_arg arg = manta_by_reference(raw);
    text_init(&text, PACK_LIMIT);
    bool kept = shared_write_buffer(&text, &arg, &error) == 0 && !text.failed &&
                keep_bytes(call, NULL, text_bytes(&text), ret_value);
    text_done(&text);
    manta_buffer_free(call->raw);
    call->raw = raw;
    return kept;
}

static int keep_message(struct manta_call *call, struct parcel *parcel, struct error *reterr)
{
    struct bytes document;
    int code = message_open(parcel, &call->message, &document, reterr);
    if (code == 0)
        call->value = (struct manta_value){document.at, document.size};
    return code;
}

void call_result_keep(struct manta_call *call, const struct dispatch_event *event)
{
    bool typed = bytes_equal(event->content_type, BYTES(VALUE_CONTENT_TYPE));
    struct error error = {0};
    size_t offset;
    if (typed && event->parcel) {
        if (keep_message(call, event->parcel, &error) < 0)
            error_set(&call->error, error.code, "the answer of the deployment is refused: %s",
                      error.text);
    } else if (typed && value_check(event->body, &offset) < 0)
        error_set(&call->error, ERROR_PROTOCOL,
                  "the answer of the deployment is no MessagePack at byte %zu", offset);
    else if (typed ? !keep_bytes(call, event->buffer, event->body, &call->value)
                   : !keep_raw(call, event->parcel, &call->value) &&
                         !keep_binary(call, event->body, &call->value))
        error_set(&call->error, ERROR_MEMORY, "no memory for the answer");
}

/* ---- items ---- */

static struct call_item *item_free(struct call_item *item)
{
    if (!item)
        return NULL;
    message_free(item->message);
    parcel_unref(item->parcel);
    return mem_free(item);
}

void call_result_free(struct manta_call *call)
{
    struct list_link *link;
    while ((link = list_pop_front(&call->items)))
        item_free(list_entry(link, struct call_item, link));
    item_free(call->item);
    buffer_unref(call->buffer);
    message_free(call->message);
    manta_buffer_free(call->raw);
    mem_free(call->copy);
}

/* A part with pieces is an item by itself. */
static struct call_item *item_of_parcel(struct manta_call *call, struct parcel *parcel)
{
    struct error error = {0};
    struct call_item *item = mem_try(sizeof *item);
    if (!item)
        return NULL;
    item->parcel = parcel_ref(parcel);
    if (call->stream_typed && message_open(parcel, &item->message, &item->document, &error) < 0)
        item->broken = true;
    return item;
}

/* `old` and what comes behind it; `old` is gone when it went well. */
static struct call_item *item_of_bytes(struct call_item *old, struct bytes part)
{
    size_t old_size = old ? old->size : 0;
    struct call_item *item = mem_try(sizeof *item + old_size + part.size);
    if (!item)
        return NULL;
    item->size = old_size + part.size;
    if (old) {
        item->attached = old->attached;
        item->credit = old->credit;
        memcpy(item->data, old->data, old_size);
        list_remove(&old->link);
        mem_free(old);
    }
    if (part.size)
        memcpy(item->data + old_size, part.at, part.size);
    return item;
}

bool call_item_add(struct manta_call *call, const struct dispatch_event *event, bool begins)
{
    struct list_link *last = begins ? NULL : list_last(&call->items);
    struct call_item *item =
        event->parcel
            ? item_of_parcel(call, event->parcel)
            : item_of_bytes(last ? list_entry(last, struct call_item, link) : NULL, event->body);
    if (!item) {
        call_cancel(call, ERROR_MEMORY);
        return false;
    }
    item->attached |= event->attached;
    item->credit += event->cost;
    list_push_back(&call->items, &item->link);
    helm_changed(call->runtime->helm);
    return true;
}

/* A body that came in parts and has a table at its beginning. */
static int open_attached(struct manta_call *call, struct call_item *item, struct error *reterr)
{
    struct parcel *parcel;
    struct buffer *buffer = buffer_try_new(call->runtime->channels.buffers, item->size);
    if (!buffer)
        return error_set(reterr, ERROR_MEMORY, "no memory for an item");
    memcpy(buffer->data, item->data, item->size);
    int code = parcel_open(NULL, bytes_of(buffer->data, item->size), buffer, &parcel);
    buffer_unref(buffer);
    if (code < 0)
        return error_set(reterr, code, "an item of the stream is damaged");
    code = message_open(parcel, &item->message, &item->document, reterr);
    parcel_unref(parcel);
    return code;
}

/* Raw bytes are given as a binary value. */
static int give_raw(struct manta_call *call, struct manta_value *ret_item, struct error *reterr)
{
    struct call_item *item = call->item;
    if (keep_raw(call, item->parcel, ret_item) ||
        keep_binary(call, item->parcel ? item->parcel->value : bytes_of(item->data, item->size),
                    ret_item))
        return 0;
    return error_set(reterr, ERROR_MEMORY, "no memory for an item");
}

static int give_item(struct manta_call *call, struct manta_value *ret_item, struct error *reterr)
{
    struct call_item *item = call->item;
    struct bytes data = bytes_of(item->data, item->size);
    size_t offset;
    if (item->broken)
        return error_set(reterr, ERROR_PROTOCOL, "an item of the stream is damaged");
    if (!call->stream_typed)
        return give_raw(call, ret_item, reterr);
    if (item->attached && !item->message && open_attached(call, item, reterr) < 0)
        return reterr->code;
    if (item->message)
        data = item->document;
    else if (value_check(data, &offset) < 0)
        return error_set(reterr, ERROR_PROTOCOL,
                         "an item of the stream is no MessagePack at byte %zu", offset);
    *ret_item = (struct manta_value){data.at, data.size};
    return 0;
}

int call_item_take(struct manta_call *call, struct manta_value *ret_item, struct error *reterr)
{
    struct list_link *link = list_pop_front(&call->items);
    if (!link && call->error.code) {
        *reterr = call->error;
        return call->error.code;
    }
    if (!link)
        return 0;
    item_free(call->item);
    call->item = list_entry(link, struct call_item, link);
    if (call->dispatch_call) {
        dispatch_grant(call->dispatch_call, call->item->credit);
        channel_set_flush(&call->runtime->channels);
    }
    int code = give_item(call, ret_item, reterr);
    return code < 0 ? code : 1;
}
