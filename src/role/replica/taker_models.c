/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taker_models: tells every sender which models user code holds.
 *
 * Always the whole set, so that a word that was never sent does no harm.  A sender whose channel is
 * full is told when there is room again, and then only how it is by then: whoever does not read
 * costs one mark, not one frame per change.
 */
#include "ensure.h"
#include "mem.h"
#include "taker_inner.h"

enum { FIELD_HEAD = 4 /* of each id in the block */, FRAME_HEAD = 64 /* and what stands before */ };

/* The part of the block that fits into one frame of this sender; whole fields. */
static struct bytes head_that_fits(const struct session *session)
{
    struct bytes all = bytes_of(session->taker->models, session->taker->models_size);
    struct bytes rest = all, id, empty;
    size_t size = 0;
    while (wire_field_next(&rest, &id, &empty) &&
           all.size - rest.size + FRAME_HEAD <= session->frame_limit)
        size = all.size - rest.size;
    return bytes_head(all, size);
}

void session_tell_models(struct session *session)
{
    if (!session->models_owed || !session->taker->models || !session->greeted)
        return;
    struct wire_models frame = {.ids = head_that_fits(session)};
    uint8_t *room = channel_put_room(&session->channel, wire_models_size(&frame));
    if (!room)
        return; /* when the channel has room again */
    channel_put_done(&session->channel, wire_models_write(&frame, 0, 0, false, room));
    session->models_owed = false;
}

static int reserve(struct taker *taker, size_t size)
{
    if (taker->models && size <= taker->models_capacity)
        return 0;
    size_t capacity = taker->models_capacity ? taker->models_capacity : 256;
    while (capacity < size)
        capacity *= 2;
    uint8_t *models = mem_try_resize(taker->models, taker->models_capacity, capacity);
    if (!models)
        return ERROR_MEMORY;
    taker->models = models;
    taker->models_capacity = capacity;
    return 0;
}

int taker_models(struct taker *taker, const struct bytes *ids, size_t count)
{
    struct list_link *link;
    size_t size = 0;
    if (count > WIRE_MODELS_LIMIT)
        count = WIRE_MODELS_LIMIT;
    for (size_t i = 0; i < count; i++) {
        ensure(ids[i].size > 0 && ids[i].size <= WIRE_MODEL_ID_LIMIT);
        size += FIELD_HEAD + ids[i].size;
    }
    if (reserve(taker, size) < 0)
        return ERROR_MEMORY;
    taker->models_size = 0;
    for (size_t i = 0; i < count; i++)
        taker->models_size += wire_field_write(taker->models + taker->models_size,
                                               taker->models_capacity - taker->models_size, ids[i],
                                               (struct bytes){0});
    ensure(taker->models_size == size);
    list_each (link, &taker->sessions) {
        struct session *session = list_entry(link, struct session, link);
        session->models_owed = true;
        session_tell_models(session);
    }
    return 0;
}
