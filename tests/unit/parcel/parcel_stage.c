/* SPDX-License-Identifier: Apache-2.0 */
#include "parcel_stage.h"

#include <criterion/criterion.h>

#include "error.h"
#include "mem.h"
#include "socket.h"

struct loop *stage_loop;

void stage_begin(void)
{
    stage_loop = loop_new();
    cr_assert_not_null(stage_loop);
}

void stage_end(void)
{
    stage_loop = loop_free(stage_loop);
}

void turns(int count)
{
    while (count-- > 0)
        loop_run_once(stage_loop);
}

void party_begin(struct party *party)
{
    struct channel_config config = {.frame_limit = 256 * KIB,
                                    .queue_limit = 4 * MIB,
                                    .turn_limit = 256 * KIB,
                                    .buffer_keep = 4};
    if (!party->settings.wire_frame_limit)
        settings_init(&party->settings);
    cr_assert_eq(channel_set_init(&party->set, stage_loop, &config), 0);
    party->desk = parcel_desk_ref(&party->set, &party->settings);
    cr_assert_not_null(party->desk);
}

void party_end(struct party *party)
{
    parcel_desk_check(party->desk);
    party->desk = parcel_desk_unref(party->desk);
    cr_assert_eq(buffer_store_live_bytes(party->set.buffers), 0);
    channel_set_done(&party->set);
}

static void keep(struct end *end, struct parcel *parcel)
{
    cr_assert_lt(end->kept_count, STAGE_KEPT);
    end->kept[end->kept_count++] = parcel;
}

static int take(struct end *end, struct bytes frame)
{
    struct wire_header header;
    struct wire_part part;
    struct parcel *parcel;
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    bool progress = false;
    wire_header_read(&header, frame.at);
    if (parcel_is_frame(header.type)) {
        int code = parcel_link_frame(&end->link, &header, payload, &progress);
        end->progress |= progress;
        return code;
    }
    cr_assert_eq(header.type, WIRE_PART_FRAME);
    cr_assert_eq(wire_part_read(&part, payload), 0);
    end->count++;
    if (!(header.flags & WIRE_ATTACHED)) {
        end->bytes += part.body.size;
        return 0;
    }
    int code = parcel_open(&end->link, part.body, channel_buffer(&end->channel), &parcel);
    if (code == 0) {
        end->bytes += parcel->size;
        keep(end, parcel);
    }
    return code;
}

void end_close(struct end *end)
{
    parcel_link_close(&end->link);
    if (channel_is_open(&end->channel))
        channel_close(&end->channel);
    end->closed = true;
}

static void on_event(void *owner, struct channel *channel, int events)
{
    struct end *end = owner;
    struct bytes frame;
    ssize_t size = 0;
    if (events & CHANNEL_ROOM)
        parcel_link_room(&end->link);
    if (!(events & (CHANNEL_READABLE | CHANNEL_CLOSED)))
        return;
    do {
        size = channel_receive(channel);
        while (channel_take(channel, &frame) == CHANNEL_FRAME) {
            int code = take(end, frame);
            if (code == 0)
                continue;
            end->code = code;
            if (code != ERROR_MEMORY) {
                end_close(end);
                return;
            }
        }
    } while (size > 0);
    if (size < 0)
        end_close(end);
}

static void end_begin(struct end *end, struct party *party, int descriptor)
{
    *end = (struct end){.party = party};
    cr_assert_eq(channel_open(&end->channel, &party->set, descriptor, on_event, end), 0);
    parcel_link_open(&end->link, party->desk, &end->channel);
}

void ends_join(struct end *a, struct party *of_a, struct end *b, struct party *of_b)
{
    int ends[2];
    struct wire_hello hello = {0};
    cr_assert_eq(socket_pair(ends), 0);
    end_begin(a, of_a, ends[0]);
    end_begin(b, of_b, ends[1]);
    parcel_link_greet(&b->link, &hello);
    parcel_link_meet(&a->link, &hello);
    parcel_link_greet(&a->link, &hello);
    parcel_link_meet(&b->link, &hello);
}

int end_join_alone(struct end *end, struct party *party)
{
    int ends[2];
    struct wire_hello hello = {0};
    cr_assert_eq(socket_pair(ends), 0);
    end_begin(end, party, ends[0]);
    parcel_link_greet(&end->link, &hello);
    parcel_link_meet(&end->link, &hello);
    return ends[1];
}

void end_drop(struct end *end)
{
    for (uint32_t i = 0; i < end->kept_count; i++)
        parcel_unref(end->kept[i]);
    end->kept_count = 0;
}

static void put_inline(struct end *end, const struct parcel *parcel, const struct parcel_form *form)
{
    for (uint64_t at = 0; at < form->size;) {
        size_t size = form->size - at < 64 * KIB ? (size_t)(form->size - at) : 64 * KIB;
        uint8_t *bytes = mem_new(size);
        parcel_copy(parcel, form, at, bytes, size);
        struct wire_part part = {.body = bytes_of(bytes, size)};
        uint8_t *room = channel_put_room(&end->channel, wire_part_size(&part));
        if (room) {
            channel_put_done(&end->channel, wire_part_write(&part, 0, 1, false, room));
            at += size;
        } else {
            turns(2);
        }
        mem_free(bytes);
    }
}

enum parcel_way end_send(struct end *end, const struct parcel *parcel)
{
    struct parcel_form form;
    enum parcel_way way;
    while ((way = parcel_lend(&end->link, parcel, &form)) == PARCEL_LATER) {
        end->progress = false;
        for (int i = 0; i < 100 && !end->progress; i++)
            turns(1);
        cr_assert(end->progress, "the peer has said nothing");
    }
    if (way == PARCEL_INLINE) {
        put_inline(end, parcel, &form);
        return way;
    }
    cr_assert(form.attached && form.lent);
    uint8_t *bytes = mem_new(form.size);
    parcel_copy(parcel, &form, 0, bytes, (size_t)form.size);
    struct wire_part part = {.body = bytes_of(bytes, (size_t)form.size)};
    uint8_t *room = channel_put_room(&end->channel, wire_part_size(&part));
    cr_assert_not_null(room);
    channel_put_done(&end->channel, wire_part_write(&part, WIRE_ATTACHED, 1, false, room));
    mem_free(bytes);
    return way;
}

static uint8_t byte_of(size_t i, uint8_t seed)
{
    return (uint8_t)(seed + i * 7 + i / 251);
}

struct parcel *flat_parcel(struct party *party, size_t size, uint8_t seed)
{
    struct slot *slot = slot_take(parcel_desk_slots(party->desk), size);
    cr_assert_not_null(slot);
    for (size_t i = 0; i < size; i++)
        slot->at[i] = byte_of(i, seed);
    return parcel_of_slot(slot, size);
}

bool looks_like(struct bytes bytes, size_t size, uint8_t seed)
{
    if (bytes.size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (bytes.at[i] != byte_of(i, seed))
            return false;
    return true;
}
