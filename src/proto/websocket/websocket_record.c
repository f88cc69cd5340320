/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_record: messages between a proxy and a replica, read from parts that are cut anywhere.
 */
#include "ensure.h"
#include "websocket.h"

/* Here, because replicas ask too, and have no frames. */
bool websocket_code_may_be_sent(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

void websocket_record_write_head(enum websocket_kind kind, bool last, size_t size,
                                 uint8_t at[WEBSOCKET_RECORD_HEAD])
{
    ensure(size <= UINT32_MAX);
    at[0] = (uint8_t)(kind | (last ? WEBSOCKET_RECORD_LAST : 0));
    for (int i = 0; i < 4; i++)
        at[1 + i] = (uint8_t)(size >> 8 * i);
}

/* A head is whole: may this record come here? */
static bool begin(struct websocket_record_reader *reader)
{
    uint8_t kind = reader->head[0] & (uint8_t)~WEBSOCKET_RECORD_LAST;
    reader->left = 0;
    for (int i = 0; i < 4; i++)
        reader->left |= (uint32_t)reader->head[1 + i] << 8 * i;
    if (reader->inside)
        return kind == reader->kind;
    reader->kind = kind;
    return kind == WEBSOCKET_KIND_TEXT || kind == WEBSOCKET_KIND_BINARY;
}

int websocket_record_next(struct websocket_record_reader *reader, struct bytes *input,
                          struct websocket_record *ret_record)
{
    while (reader->head_size < WEBSOCKET_RECORD_HEAD) {
        if (!input->size)
            return 0;
        reader->head[reader->head_size++] = *input->at;
        *input = bytes_skip(*input, 1);
        if (reader->head_size == WEBSOCKET_RECORD_HEAD && !begin(reader))
            return -1;
    }
    struct bytes piece = bytes_head(*input, reader->left);
    if (reader->left && !piece.size)
        return 0;
    *input = bytes_skip(*input, piece.size);
    reader->left -= (uint32_t)piece.size;
    bool last = reader->left == 0 && reader->head[0] & WEBSOCKET_RECORD_LAST;
    *ret_record = (struct websocket_record){.kind = reader->kind,
                                            .first = !reader->inside,
                                            .last = last,
                                            .left = reader->left,
                                            .bytes = piece};
    reader->inside = !last;
    if (reader->left == 0)
        reader->head_size = 0;
    return 1;
}
