/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a large body costs from one process to another: through a channel with slots, and through
 * the socket, for comparison.
 *
 * A producer and a consumer (a fork) hold the two ends of a socket pair and speak the frames of
 * src/parcel; messages are part frames.  The consumer reads every byte, answers each message with a
 * credit frame and gives the body back.  Four messages are in flight where throughput is measured;
 * one where it is the time until the consumer holds a body (both read the same monotonic clock).
 *
 *     in place    the body is born in a slot: the producer touches it once in each cache line, as
 * if it made it one copy    from the producer's own memory into a slot socket      the peer takes
 * no regions: parts of 64 KiB
 *
 * The best of several runs, because on a shared machine everything else is somebody else's time.
 *
 * Usage: payload_bench [runs]
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ensure.h"
#include "mem.h"
#include "parcel.h"
#include "socket.h"

enum { RUNS = 21, WINDOW = 4, MIB = 1 << 20, HUNDRED_MB = 100 * 1000 * 1000, LINE = 64 };
static const uint64_t THROUGHPUT_BYTES = 1ull << 28; /* in one run */
static const int64_t NS_PER_S = 1000000000;

enum way { IN_PLACE, ONE_COPY, SOCKET };

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Keeps the compiler from dropping work whose result nobody reads. */
static void use(const void *result)
{
    __asm__ volatile("" : : "r"(result) : "memory");
}

/* ---- one end ---- */

struct end {
    struct loop *loop;
    struct channel_set channels;
    struct settings settings;
    struct parcel_desk *desk;
    struct channel channel;
    struct parcel_link link;
    uint64_t message_size; /* the consumer's: bytes of the message that is coming in parts */
    uint64_t message_got;
    bool reads;        /* the consumer's: every byte */
    int64_t held_ns;   /* when the consumer held the last one: in its credit frame's stream id */
    uint32_t answered; /* the producer's: messages that the consumer has answered */
    bool ended;
};

static void put(struct end *end, const uint8_t *frame, size_t size)
{
    uint8_t *room = channel_put_room_always(&end->channel, size);
    ensure(room);
    memcpy(room, frame, size);
    channel_put_done(&end->channel, size);
}

static uint64_t sum_of(struct bytes bytes)
{
    uint64_t sum = 0, word;
    size_t at = 0;
    for (; at + sizeof word <= bytes.size; at += sizeof word) {
        memcpy(&word, bytes.at + at, sizeof word);
        sum += word;
    }
    return sum;
}

static void consume(struct end *end, struct bytes bytes)
{
    if (!end->reads)
        return;
    uint64_t sum = sum_of(bytes);
    use(&sum);
}

static void answer(struct end *end, int64_t held_ns)
{
    uint8_t at[64];
    struct wire_credit credit = {.size = 1};
    put(end, at, wire_credit_write(&credit, 0, (uint64_t)held_ns, false, at));
}

static void take_message(struct end *end, const struct wire_header *header, struct bytes payload)
{
    struct wire_part part;
    struct parcel *parcel;
    ensure(wire_part_read(&part, payload) == 0);
    if (header->flags & WIRE_ATTACHED) {
        ensure(parcel_open(&end->link, part.body, channel_buffer(&end->channel), &parcel) == 0);
        int64_t held_ns = now_ns();
        consume(end, parcel->value);
        parcel_unref(parcel);
        answer(end, held_ns);
        return;
    }
    consume(end, part.body);
    end->message_got += part.body.size;
    if (!(header->flags & WIRE_END))
        return;
    answer(end, now_ns());
    end->message_got = 0;
}

static void take(struct end *end, struct bytes frame)
{
    struct wire_header header;
    struct bytes payload = bytes_skip(frame, WIRE_HEADER_SIZE);
    bool progress;
    wire_header_read(&header, frame.at);
    if (parcel_is_frame(header.type)) {
        ensure(parcel_link_frame(&end->link, &header, payload, &progress) == 0);
    } else if (header.type == WIRE_CREDIT_FRAME) {
        end->held_ns = (int64_t)header.stream;
        end->answered++;
    } else {
        take_message(end, &header, payload);
    }
}

static void on_event(void *owner, struct channel *channel, int events)
{
    struct end *end = owner;
    struct bytes frame;
    ssize_t size;
    (void)events;
    do {
        size = channel_receive(channel);
        while (channel_take(channel, &frame) == CHANNEL_FRAME)
            take(end, frame);
    } while (size > 0);
    if (size < 0) {
        end->ended = true;
        loop_stop(end->loop);
    }
}

static void end_open(struct end *end, int descriptor, bool takes_regions)
{
    struct channel_config config = {
        .frame_limit = 256 * 1024, .queue_limit = 4 << 20, .turn_limit = 1 << 20, .buffer_keep = 8};
    struct wire_hello hello = {0};
    memset(end, 0, sizeof *end);
    settings_init(&end->settings);
    end->loop = loop_new();
    ensure(end->loop && channel_set_init(&end->channels, end->loop, &config) == 0);
    end->desk = parcel_desk_ref(&end->channels, &end->settings);
    ensure(end->desk);
    ensure(channel_open(&end->channel, &end->channels, descriptor, on_event, end) == 0);
    parcel_link_open(&end->link, end->desk, &end->channel);
    if (takes_regions)
        parcel_link_greet(&end->link, &hello); /* both sides have the same settings */
    parcel_link_meet(&end->link, &hello);
}

static void end_close(struct end *end)
{
    parcel_link_close(&end->link);
    channel_close(&end->channel);
    parcel_desk_unref(end->desk);
    channel_set_done(&end->channels);
    loop_free(end->loop);
}

static _Noreturn void run_consumer(int descriptor, bool takes_regions, bool reads)
{
    struct end end;
    end_open(&end, descriptor, takes_regions);
    end.reads = reads;
    loop_run(end.loop);
    end_close(&end);
    _exit(0);
}

/* ---- the producer ---- */

struct producer {
    struct end end;
    pid_t consumer;
    uint8_t *own; /* memory that bodies are copied from */
    enum way way;
    uint32_t sent;
};

static void producer_open(struct producer *producer, enum way way, size_t size, bool reads)
{
    int ends[2];
    ensure(socket_pair(ends) == 0);
    memset(producer, 0, sizeof *producer);
    producer->way = way;
    producer->consumer = fork();
    ensure(producer->consumer >= 0);
    if (producer->consumer == 0) {
        socket_close(ends[0]);
        run_consumer(ends[1], way != SOCKET, reads);
    }
    socket_close(ends[1]);
    end_open(&producer->end, ends[0], way != SOCKET);
    producer->own = mem_new(size);
    memset(producer->own, 1, size);
}

static void producer_close(struct producer *producer)
{
    end_close(&producer->end);
    mem_free(producer->own);
    ensure(waitpid(producer->consumer, NULL, 0) == producer->consumer);
}

static void turn(struct producer *producer)
{
    struct pollfd ready = {.fd = loop_descriptor(producer->end.loop), .events = POLLIN};
    channel_set_flush(&producer->end.channels);
    poll(&ready, 1, loop_timeout_ms(producer->end.loop));
    loop_run_once(producer->end.loop);
    ensure(!producer->end.ended);
}

/* Until at most so many messages are in flight. */
static void wait_for(struct producer *producer, uint32_t most)
{
    while (producer->sent - producer->end.answered > most)
        turn(producer);
}

static void send_in_parts(struct producer *producer, size_t size)
{
    struct channel *channel = &producer->end.channel;
    for (size_t at = 0; at < size;) {
        size_t most = size - at < 65536 ? size - at : 65536;
        struct wire_part part = {.body = bytes_of(producer->own + at, most)};
        uint8_t *room = channel_put_room(channel, wire_part_size(&part));
        if (!room) {
            turn(producer);
            continue;
        }
        at += most;
        channel_put_done(channel,
                         wire_part_write(&part, at == size ? WIRE_END : 0, 1, false, room));
    }
}

static struct parcel *make_body(struct producer *producer, size_t size)
{
    struct slot *slot;
    if (producer->way == ONE_COPY)
        return parcel_of_bytes(producer->end.desk, bytes_of(producer->own, size));
    while (!(slot = slot_take(parcel_desk_slots(producer->end.desk), size)))
        turn(producer);
    for (size_t at = 0; at < size; at += LINE)
        slot->at[at]++;
    return parcel_of_slot(slot, size);
}

static void send_parcel(struct producer *producer, const struct parcel *parcel)
{
    struct end *end = &producer->end;
    struct parcel_form form;
    enum parcel_way way;
    while ((way = parcel_lend(&end->link, parcel, &form)) == PARCEL_LATER)
        turn(producer);
    ensure(way == PARCEL_LENT);
    uint8_t body[256], frame[512];
    ensure(form.size <= sizeof body);
    parcel_copy(parcel, &form, 0, body, (size_t)form.size);
    struct wire_part part = {.body = bytes_of(body, (size_t)form.size)};
    put(end, frame, wire_part_write(&part, WIRE_ATTACHED, 1, false, frame));
}

static void send_one(struct producer *producer, size_t size)
{
    producer->sent++;
    if (producer->way == SOCKET) {
        send_in_parts(producer, size);
    } else {
        struct parcel *parcel = make_body(producer, size);
        ensure(parcel);
        send_parcel(producer, parcel);
        parcel_unref(parcel);
    }
    channel_set_flush(&producer->end.channels);
}

/* ---- what is measured ---- */

static double throughput(enum way way, size_t size, int runs)
{
    struct producer producer;
    uint32_t count = (uint32_t)(THROUGHPUT_BYTES / size);
    double best = 0;
    producer_open(&producer, way, size, true);
    for (int run = 0; run < runs; run++) {
        int64_t start = now_ns();
        for (uint32_t i = 0; i < count; i++) {
            wait_for(&producer, WINDOW - 1);
            send_one(&producer, size);
        }
        wait_for(&producer, 0);
        double rate = (double)count * (double)size / (double)(now_ns() - start);
        best = rate > best ? rate : best;
    }
    producer_close(&producer);
    return best;
}

struct hold {
    double first_ms, best_ms;
};

/* From the moment that the body is wanted (one copy: its bytes lie elsewhere; in place: it is made)
 * until the consumer has it. */
static struct hold time_to_hold(enum way way, size_t size, int runs)
{
    struct producer producer;
    struct hold hold = {0, 1e9};
    producer_open(&producer, way, size, false);
    for (int run = 0; run < runs; run++) {
        struct parcel *parcel = way == IN_PLACE ? make_body(&producer, size) : NULL;
        int64_t start = now_ns();
        if (parcel) {
            producer.sent++;
            send_parcel(&producer, parcel);
            parcel_unref(parcel);
        } else {
            send_one(&producer, size);
        }
        wait_for(&producer, 0);
        double ms = (double)(producer.end.held_ns - start) / 1e6;
        hold.first_ms = run == 0 ? ms : hold.first_ms;
        hold.best_ms = ms < hold.best_ms ? ms : hold.best_ms;
    }
    producer_close(&producer);
    return hold;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"in place", "one copy", "socket"};
    static const size_t sizes[] = {64 * 1024, MIB, 16 * MIB};
    int runs = argc > 1 ? atoi(argv[1]) : RUNS;
    if (runs < 1 || runs > 1000) {
        fprintf(stderr, "usage: %s [runs, 1 to 1000]\n", argv[0]);
        return 2;
    }
    printf("GB/s, the consumer reads every byte, %d in flight\n%-10s %8s %8s %8s\n", WINDOW, "",
           "64 KiB", "1 MiB", "16 MiB");
    for (enum way way = IN_PLACE; way <= SOCKET; way++) {
        printf("%-10s", names[way]);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            printf(" %8.1f", throughput(way, sizes[i], runs));
            fflush(stdout);
        }
        printf("\n");
    }
    printf("\nms until the consumer holds 100 MB\n%-10s %8s %8s\n", "", "first", "warm");
    for (enum way way = IN_PLACE; way <= SOCKET; way++) {
        struct hold hold = time_to_hold(way, HUNDRED_MB, runs);
        printf("%-10s %8.2f %8.2f\n", names[way], hold.first_ms, hold.best_ms);
    }
    return 0;
}
