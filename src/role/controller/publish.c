/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish: routing snapshots to their readers.
 *
 * A snapshot is encoded once per version and sent whole to everybody.  Several versions of one turn
 * become one.  A reader that does not read gets no copy of every version: when its queue has no
 * room it is behind, and gets the newest one when there is room again.
 */
#include "conduct.h"
#include "ensure.h"
#include "log.h"

/* ---- encoding ---- */

/* Room for a frame at the end of the text, counted as used; null past its limit. */
static uint8_t *add(struct text *out, size_t size)
{
    static const uint8_t zeros[4096];
    size_t begin = out->size;
    while (size > 0) {
        size_t part = size < sizeof zeros ? size : sizeof zeros;
        text_add(out, bytes_of(zeros, part));
        size -= part;
    }
    return out->failed ? NULL : (uint8_t *)out->at + begin;
}

static void add_app(struct text *out, const struct controller_app_view *view)
{
    struct wire_snapshot_app row = {.id = view->id.v,
                                    .name = view->name,
                                    .route_prefix = view->route_prefix,
                                    .ingress = view->ingress.v};
    uint8_t *room = add(out, wire_snapshot_app_size(&row));
    if (room)
        wire_snapshot_app_write(&row, 0, 0, false, room);
}

static void add_deployment(struct text *out, const struct controller_deployment_view *view)
{
    struct wire_snapshot_deployment row = {.id = view->id.v,
                                           .app = view->app,
                                           .name = view->name,
                                           .max_ongoing = view->max_ongoing,
                                           .max_queued = view->max_queued,
                                           .available = view->available,
                                           .streams_body = view->streams_body};
    uint8_t *room = add(out, wire_snapshot_deployment_size(&row));
    if (room)
        wire_snapshot_deployment_write(&row, 0, 0, false, room);
}

static void add_replica(struct text *out, const struct controller_snapshot_row *view)
{
    struct wire_snapshot_replica row = {
        .id = view->replica.v, .deployment = view->deployment.v, .address = view->address};
    uint8_t *room = add(out, wire_snapshot_replica_size(&row));
    if (room)
        wire_snapshot_replica_write(&row, 0, 0, false, room);
}

/* Rows, all of one kind after the other; counted in *head. */
static void add_rows(const struct controller *mind, struct wire_snapshot *head, struct text *out)
{
    struct controller_app_view app;
    struct controller_deployment_view deployment;
    struct controller_snapshot_row row;
    for (uint32_t i = 0; controller_app_at(mind, i, &app); i++)
        if (app.published) {
            add_app(out, &app);
            head->app_count++;
        }
    for (uint32_t i = 0; controller_deployment_at(mind, i, &deployment); i++)
        if (deployment.published) {
            add_deployment(out, &deployment);
            head->deployment_count++;
        }
    while (controller_snapshot_at(mind, head->replica_count, &row)) {
        add_replica(out, &row);
        head->replica_count++;
    }
}

void publish_encode(const struct controller *mind, struct text *out)
{
    struct wire_snapshot head = {.version = controller_version(mind)};
    struct wire_snapshot_end end = {.version = head.version};
    size_t begin = out->size;
    if (!add(out, wire_snapshot_size(&head)))
        return;
    add_rows(mind, &head, out);
    uint8_t *room = add(out, wire_snapshot_end_size(&end));
    if (!room)
        return;
    wire_snapshot_end_write(&end, 0, 0, false, room);
    /* The counts have a fixed size: the head is written where room was kept. */
    wire_snapshot_write(&head, 0, 0, false, (uint8_t *)out->at + begin);
}

/* ---- readers ---- */

void publish_note(struct conduct *conduct)
{
    conduct->publish_due = true;
}

void publish_to(struct peer *peer)
{
    struct conduct *conduct = peer->conduct;
    struct bytes snapshot = text_bytes(&conduct->snapshot);
    if (conduct->snapshot_version == 0 || peer->sent_version >= conduct->snapshot_version)
        return;
    uint8_t *room = channel_put_room(&peer->channel, snapshot.size);
    peer->behind = room == NULL;
    if (!room)
        return;
    memcpy(room, snapshot.at, snapshot.size);
    channel_put_done(&peer->channel, snapshot.size);
    peer->sent_version = conduct->snapshot_version;
}

void publish_flush(struct conduct *conduct)
{
    struct list_link *link;
    if (!conduct->publish_due)
        return;
    conduct->publish_due = false;
    text_clear(&conduct->snapshot);
    publish_encode(conduct->mind, &conduct->snapshot);
    if (conduct->snapshot.failed) {
        conduct->snapshot_version = 0;
        log_print(LOG_ERROR, "the routing snapshot is too large to be published");
        return;
    }
    ensure(controller_version(conduct->mind) > conduct->snapshot_version);
    conduct->snapshot_version = controller_version(conduct->mind);
    list_each (link, &conduct->readers)
        publish_to(list_entry(link, struct peer, reader_link));
}
