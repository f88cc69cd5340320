/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket: what a client sends: frames become parts of messages.
 *
 * wslay reads frames: lengths, masks, the limits of control frames.  Whether a frame may come where
 * it comes, what its bytes are and how many of them a message may have is judged here (RFC 6455 5.4
 * to 5.6, 7.4, 8.1).  A length is judged when the first byte behind it is here.
 */
#include "websocket_inner.h"

#include <string.h>

#include "ensure.h"
#include "mem.h"

/* ---- life ------------------------------------------------------------------------------------ */

static ssize_t on_read(uint8_t *at, size_t room, int flags, void *owner)
{
    struct websocket *websocket = owner;
    struct bytes here = bytes_head(*websocket->input, room);
    (void)flags;
    if (here.size == 0)
        return -1; /* wslay takes it as "not now" */
    memcpy(at, here.at, here.size);
    *websocket->input = bytes_skip(*websocket->input, here.size);
    return (ssize_t)here.size;
}

/* A compressed piece is moved up to its header in the same room. */
static ssize_t on_write(const uint8_t *at, size_t size, int flags, void *owner)
{
    struct websocket *websocket = owner;
    (void)flags;
    memmove(websocket->out, at, size);
    websocket->out += size;
    return (ssize_t)size;
}

struct websocket *websocket_new(const struct websocket_config *config)
{
    struct wslay_frame_callbacks calls = {on_write, on_read, NULL};
    struct websocket *websocket = mem_try(sizeof *websocket);
    if (!websocket)
        return NULL;
    websocket->config = *config;
    if (wslay_frame_context_init(&websocket->frames, &calls, websocket) != 0)
        return mem_free(websocket);
    return websocket;
}

struct websocket *websocket_free(struct websocket *websocket)
{
    if (!websocket)
        return NULL;
    wslay_frame_context_free(websocket->frames);
    squeezer_free(websocket->squeezer);
    return mem_free(websocket);
}

/* ---- verdicts -------------------------------------------------------------------------------- */

static enum websocket_event_type refuse(struct websocket *websocket, unsigned code,
                                        const char *reason, struct websocket_event *ret_event)
{
    ensure(websocket_code_may_be_sent(code));
    websocket->ended = true;
    *ret_event = (struct websocket_event){
        .type = WEBSOCKET_REFUSED, .code = (uint16_t)code, .bytes = bytes_of_string(reason)};
    return WEBSOCKET_REFUSED;
}

static enum websocket_event_type too_big(struct websocket *websocket,
                                         struct websocket_event *ret_event)
{
    return refuse(websocket, WEBSOCKET_TOO_BIG, "the message is too big", ret_event);
}

static enum websocket_event_type not_utf8(struct websocket *websocket,
                                          struct websocket_event *ret_event)
{
    return refuse(websocket, WEBSOCKET_BAD_PAYLOAD, "text that is not UTF-8", ret_event);
}

/* Why a frame may not begin here; null: it may. */
static const char *find_breach(const struct websocket *websocket,
                               const struct wslay_frame_iocb *frame)
{
    bool control = wslay_is_ctrl_frame(frame->opcode);
    bool begins = frame->opcode == WSLAY_TEXT_FRAME || frame->opcode == WSLAY_BINARY_FRAME;
    uint8_t squeezed = websocket->config.deflate.on && begins ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE;
    if (!frame->mask)
        return "a frame without a mask";
    if (frame->rsv & ~squeezed)
        return "a reserved bit is set";
    if (control && frame->opcode > WSLAY_PONG)
        return "an opcode that is reserved";
    if (!control && !begins && frame->opcode != WSLAY_CONTINUATION_FRAME)
        return "an opcode that is reserved";
    if (begins && websocket->in_message)
        return "a message inside a message";
    if (frame->opcode == WSLAY_CONTINUATION_FRAME && !websocket->in_message)
        return "a continuation of nothing";
    return NULL;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* The first bytes of a frame are here. */
static enum websocket_event_type begin_frame(struct websocket *websocket,
                                             const struct wslay_frame_iocb *frame,
                                             struct websocket_event *ret_event)
{
    const char *breach = find_breach(websocket, frame);
    if (breach)
        return refuse(websocket, WEBSOCKET_PROTOCOL_ERROR, breach, ret_event);
    websocket->in_frame = true;
    websocket->frame_left = frame->payload_length;
    websocket->opcode = frame->opcode;
    websocket->fin = frame->fin;
    websocket->control_size = 0;
    if (wslay_is_ctrl_frame(frame->opcode))
        return WEBSOCKET_MORE;
    if (frame->opcode != WSLAY_CONTINUATION_FRAME) {
        websocket->in_message = true;
        websocket->text = frame->opcode == WSLAY_TEXT_FRAME;
        websocket->squeezed = wslay_get_rsv1(frame->rsv);
        websocket->message_size = 0;
        websocket->utf8 = (struct websocket_utf8){0};
    }
    uint64_t room = websocket->config.message_limit - websocket->message_size;
    if (!websocket->squeezed && frame->payload_length > room)
        return too_big(websocket, ret_event);
    return WEBSOCKET_MORE;
}

static enum websocket_event_type end_control(struct websocket *websocket,
                                             struct websocket_event *ret_event)
{
    struct bytes payload = bytes_of(websocket->control, websocket->control_size);
    struct websocket_utf8 utf8 = {0};
    websocket->in_frame = false;
    if (websocket->opcode != WSLAY_CONNECTION_CLOSE) {
        *ret_event = (struct websocket_event){
            .type = websocket->opcode == WSLAY_PING ? WEBSOCKET_PING : WEBSOCKET_PONG,
            .bytes = payload};
        return ret_event->type;
    }
    unsigned code = WEBSOCKET_NO_CODE;
    if (payload.size == 1)
        return refuse(websocket, WEBSOCKET_PROTOCOL_ERROR, "half a close code", ret_event);
    if (payload.size >= 2)
        code = (unsigned)payload.at[0] << 8 | payload.at[1];
    if (payload.size >= 2 && !websocket_code_may_be_sent(code))
        return refuse(websocket, WEBSOCKET_PROTOCOL_ERROR, "a close code that may not be sent",
                      ret_event);
    payload = bytes_skip(payload, 2);
    if (!websocket_utf8_check(&utf8, payload) || utf8.left)
        return not_utf8(websocket, ret_event);
    websocket->ended = true;
    *ret_event =
        (struct websocket_event){.type = WEBSOCKET_CLOSE, .code = (uint16_t)code, .bytes = payload};
    return WEBSOCKET_CLOSE;
}

/* Bytes of a message as its reader wants them; MORE: there is nothing to tell. */
static enum websocket_event_type give_part(struct websocket *websocket, struct bytes bytes,
                                           bool last, struct websocket_event *ret_event)
{
    uint64_t room = websocket->config.message_limit - websocket->message_size;
    struct bytes within = bytes_head(bytes, room < SIZE_MAX ? (size_t)room : SIZE_MAX);
    websocket->message_size += within.size;
    if (websocket->text && !websocket_utf8_check(&websocket->utf8, within))
        return not_utf8(websocket, ret_event);
    if (within.size < bytes.size)
        return too_big(websocket, ret_event);
    if (last && websocket->text && websocket->utf8.left)
        return not_utf8(websocket, ret_event);
    if (last)
        websocket->in_message = false;
    if (!last && !bytes.size)
        return WEBSOCKET_MORE;
    *ret_event = (struct websocket_event){
        .type = WEBSOCKET_PART, .text = websocket->text, .last = last, .bytes = bytes};
    return WEBSOCKET_PART;
}

static enum websocket_event_type give_inflated(struct websocket *websocket,
                                               struct websocket_event *ret_event)
{
    struct bytes bytes;
    switch (squeezer_take(websocket->squeezer, &bytes)) {
    case SQUEEZER_BYTES:
        return give_part(websocket, bytes, false, ret_event);
    case SQUEEZER_DONE:
        websocket->inflating = false;
        return give_part(websocket, bytes, true, ret_event);
    case SQUEEZER_EMPTY:
        websocket->inflating = false;
        return WEBSOCKET_MORE;
    default:
        return refuse(websocket, WEBSOCKET_BAD_PAYLOAD, "compressed bytes that are broken",
                      ret_event);
    }
}

static enum websocket_event_type take_payload(struct websocket *websocket, struct bytes bytes,
                                              struct websocket_event *ret_event)
{
    ensure(bytes.size <= websocket->frame_left);
    websocket->frame_left -= bytes.size;
    bool whole = websocket->frame_left == 0;
    if (wslay_is_ctrl_frame(websocket->opcode)) {
        ensure(websocket->control_size + bytes.size <= sizeof websocket->control);
        if (bytes.size)
            memcpy(websocket->control + websocket->control_size, bytes.at, bytes.size);
        websocket->control_size = (uint8_t)(websocket->control_size + bytes.size);
        return whole ? end_control(websocket, ret_event) : WEBSOCKET_MORE;
    }
    websocket->in_frame = !whole;
    bool last = whole && websocket->fin;
    if (!websocket->squeezed)
        return give_part(websocket, bytes, last, ret_event);
    if (!websocket->squeezer && !(websocket->squeezer = squeezer_new(&websocket->config.deflate)))
        return refuse(websocket, WEBSOCKET_INTERNAL_ERROR, "memory is exhausted", ret_event);
    if (!squeezer_put(websocket->squeezer, bytes, last))
        return refuse(websocket, WEBSOCKET_INTERNAL_ERROR, "memory is exhausted", ret_event);
    websocket->inflating = true;
    return WEBSOCKET_MORE;
}

enum websocket_event_type websocket_next(struct websocket *websocket, struct bytes *input,
                                         struct websocket_event *ret_event)
{
    struct wslay_frame_iocb frame;
    enum websocket_event_type type = WEBSOCKET_MORE;
    *ret_event = (struct websocket_event){.type = WEBSOCKET_MORE};
    websocket->input = input;
    while (type == WEBSOCKET_MORE && !websocket->ended) {
        if (websocket->inflating) {
            type = give_inflated(websocket, ret_event);
            continue;
        }
        frame = (struct wslay_frame_iocb){0};
        ssize_t size = wslay_frame_recv(websocket->frames, &frame);
        if (size == WSLAY_ERR_WANT_READ)
            break;
        if (size < 0) {
            type = refuse(websocket, WEBSOCKET_PROTOCOL_ERROR, "a frame that is none", ret_event);
            continue;
        }
        if (!websocket->in_frame)
            type = begin_frame(websocket, &frame, ret_event);
        if (type == WEBSOCKET_MORE)
            type = take_payload(websocket, bytes_of(frame.data, (size_t)size), ret_event);
    }
    websocket->input = NULL;
    return type;
}
