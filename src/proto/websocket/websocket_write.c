/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_write: what a client is sent: pieces of messages as frames, each whole and unmasked
 * (RFC 6455 5.1), so that control frames find their place between two of them.
 */
#include "ensure.h"
#include "websocket_inner.h"

static size_t write_frame(struct websocket *websocket, uint8_t opcode, bool fin, uint8_t rsv,
                          struct bytes payload, uint8_t *room)
{
    struct wslay_frame_iocb frame = {.fin = fin,
                                     .rsv = rsv,
                                     .opcode = opcode,
                                     .payload_length = payload.size,
                                     .data = payload.at,
                                     .data_length = payload.size};
    websocket->out = room;
    ssize_t sent = wslay_frame_send(websocket->frames, &frame);
    ensure(sent == (ssize_t)payload.size);
    return (size_t)(websocket->out - room);
}

static bool squeezes(const struct websocket *websocket)
{
    return websocket->config.deflate.on;
}

size_t websocket_write_room(struct websocket *websocket, bool squeeze, size_t size)
{
    if (websocket->writing)
        squeeze = websocket->write_squeezed;
    if (squeeze && squeezes(websocket) && !websocket->squeezer)
        websocket->squeezer = squeezer_new(&websocket->config.deflate);
    if (squeeze && websocket->squeezer)
        size = squeezer_bound(websocket->squeezer, size);
    return WEBSOCKET_FRAME_HEAD_MOST + size;
}

size_t websocket_write_piece(struct websocket *websocket, bool text, bool last, bool squeeze,
                             struct bytes piece, uint8_t *room)
{
    uint8_t opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, rsv = WSLAY_RSV_NONE;
    if (websocket->writing) {
        opcode = WSLAY_CONTINUATION_FRAME;
    } else {
        websocket->write_squeezed = squeeze && websocket->squeezer;
        rsv = websocket->write_squeezed ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE;
    }
    websocket->writing = !last;
    if (websocket->write_squeezed) {
        uint8_t *at = room + WEBSOCKET_FRAME_HEAD_MOST;
        size_t size = squeezer_squeeze(websocket->squeezer, piece, last, at);
        if (size == SIZE_MAX)
            return 0;
        piece = bytes_of(at, size);
    }
    return write_frame(websocket, opcode, last, rsv, piece, room);
}

size_t websocket_write_ping(struct websocket *websocket, struct bytes payload, uint8_t *room)
{
    ensure(payload.size <= WEBSOCKET_CONTROL_MOST);
    return write_frame(websocket, WSLAY_PING, true, WSLAY_RSV_NONE, payload, room);
}

size_t websocket_write_pong(struct websocket *websocket, struct bytes payload, uint8_t *room)
{
    ensure(payload.size <= WEBSOCKET_CONTROL_MOST);
    return write_frame(websocket, WSLAY_PONG, true, WSLAY_RSV_NONE, payload, room);
}

size_t websocket_write_close(struct websocket *websocket, unsigned code, struct bytes reason,
                             uint8_t *room)
{
    uint8_t payload[WEBSOCKET_CONTROL_MOST];
    size_t size = 0;
    if (websocket_code_may_be_sent(code)) {
        reason = bytes_head(reason, WEBSOCKET_REASON_MOST + 1);
        while (reason.size > WEBSOCKET_REASON_MOST ||
               (reason.size == WEBSOCKET_REASON_MOST && (reason.at[reason.size] & 0xc0) == 0x80))
            reason.size--;
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        if (reason.size)
            memcpy(payload + 2, reason.at, reason.size);
        size = 2 + reason.size;
    }
    return write_frame(websocket, WSLAY_CONNECTION_CLOSE, true, WSLAY_RSV_NONE,
                       bytes_of(payload, size), room);
}
