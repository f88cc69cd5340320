/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica that is no C runner: a program with an event loop of its own (epoll) on the public door.
 *
 * Its "language" is the first argument of a request.  Its document's code says how it begins: "good",
 * or "bad" to fail.  With "--and" and the arguments of another one, the program is two replicas on one
 * loop, the second beside the first.  What it was told beside work it writes to stderr, which the test does not read.
 */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <manta/manta.h>
#include <manta/sys/taker.h>

enum { ROOM = 8, ITEMS = 3 };

static struct {
    struct manta_taker *taker; /* whose turn it is */
    struct manta_taker_thread *thread;
    struct manta_request *waiting;  /* of "wait", until it is cancelled */
    struct manta_request *streaming; /* of "flood" */
    int batches, cancels, flood, reconfigures;
} door;

/* A configuration with "later" in it is answered when "configured" is asked for. */
static void configure(const struct manta_taker_configuration *configuration)
{
    const char *text = configuration->user_config ? configuration->user_config : "";
    door.reconfigures += configuration->user_config_changed || configuration->rank_changed;
    if (!strstr(text, "later"))
        manta_taker_configured(door.taker, strstr(text, "refuse") ? "refused as asked" : NULL);
}

/* ---- the language --------------------------------------------------------------------------- */

static void say_facts(struct manta_request *request)
{
    struct manta_replica *replica = manta_taker_replica(door.taker);
    struct manta_taker_document document = {.size = sizeof document};
    struct manta_pack *pack = manta_pack_new();
    int64_t first = 0;
    manta_taker_describe(door.taker, &document);
    manta_args_int(manta_replica_args(replica), 0, &first, NULL);
    manta_pack_array(pack, 8);
    manta_pack_arg(pack, manta_string(manta_replica_application(replica)));
    manta_pack_arg(pack, manta_string(manta_replica_deployment(replica)));
    manta_pack_arg(pack, manta_string(manta_replica_id(replica)));
    manta_pack_arg(pack, manta_string(document.runner));
    manta_pack_arg(pack, manta_binary(document.code, document.code_size));
    manta_pack_arg(pack, manta_int(first));
    manta_pack_arg(pack, manta_string(document.user_config));
    manta_pack_arg(pack, manta_int(document.max_ongoing_requests));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

/* Writes until there is no room; goes on when told of some. */
static void flood(void)
{
    static char part[4096];
    while (door.flood < 64) {
        if (manta_request_write(door.streaming, part, sizeof part) == MANTA_EAGAIN)
            return;
        door.flood++;
    }
    manta_request_finish(door.streaming);
    door.streaming = NULL;
}

static void stream(struct manta_request *request)
{
    manta_request_begin(request, 200, NULL, NULL, NULL, NULL);
    for (int i = 0; i < ITEMS; i++)
        manta_request_write_arg(request, manta_int(i));
    manta_request_finish(request);
}

/* Keeps this thread busy; what must go on meanwhile is the standby's. */
static void work(double seconds)
{
    struct timespec pause = {.tv_nsec = (long)(seconds * 1e9)};
    manta_taker_enter(door.thread);
    nanosleep(&pause, NULL);
    manta_taker_leave(door.thread);
}

/* Holds two models, in its own way; the answer is what an empty id is refused with. */
static void hold(struct manta_request *request)
{
    static const char *const HELD[] = {"llama", "bert"}, *const WRONG[] = {"llama", ""};
    struct manta_error error = {0};
    if (manta_taker_tell_models(door.taker, HELD, 2, &error) < 0)
        manta_request_fail(request, error.code, "%s", error.text);
    else
        manta_request_reply_int(request, manta_taker_tell_models(door.taker, WRONG, 2, NULL));
}

static void run(struct manta_request *request)
{
    const char *word = "";
    manta_args_string(manta_request_args(request), 0, &word, NULL);
    if (strcmp(word, "facts") == 0)
        say_facts(request);
    else if (strcmp(word, "hold") == 0)
        hold(request);
    else if (strcmp(word, "stream") == 0)
        stream(request);
    else if (strcmp(word, "fail") == 0)
        manta_request_fail(request, MANTA_EUSER, "as asked");
    else if (strcmp(word, "work") == 0) {
        work(0.3);
        manta_request_reply_string(request, "worked");
    } else if (strcmp(word, "cancels") == 0)
        manta_request_reply_int(request, door.cancels);
    else if (strcmp(word, "batches") == 0)
        manta_request_reply_int(request, door.batches);
    else if (strcmp(word, "configuration") == 0) {
        char text[200];
        const struct manta_replica *replica = manta_taker_replica(door.taker);
        snprintf(text, sizeof text, "%d %s rank %d of %d", door.reconfigures,
                 manta_replica_user_config(replica), (int)manta_replica_rank(replica),
                 (int)manta_replica_world_size(replica));
        manta_request_reply_string(request, text);
    } else if (strcmp(word, "configured") == 0) {
        manta_taker_configured(door.taker, NULL);
        manta_request_reply_nil(request);
    } else if (strcmp(word, "unwell") == 0) {
        manta_taker_unhealthy(door.taker, "unwell as asked");
        manta_request_reply_nil(request);
    } else if (strcmp(word, "wait") == 0) {
        door.waiting = request;
        manta_taker_set_owner(request, &door);
    } else if (strcmp(word, "flood") == 0) {
        door.streaming = request;
        door.flood = 0;
        manta_request_begin(request, 200, NULL, NULL, NULL, NULL);
        flood();
    } else
        manta_request_reply_string(request, word);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void take_all(void)
{
    struct manta_request *requests[ROOM];
    uint64_t numbers[ROOM];
    size_t count;
    bool batched;
    while ((count = manta_taker_take(door.taker, requests, ROOM, &batched)) > 0) {
        for (size_t i = 0; i < count; i++)
            numbers[i] = manta_taker_number(requests[i]);
        for (size_t i = 0; i < count; i++)
            run(requests[i]);
        for (size_t i = 0; i < count; i++)
            manta_taker_returned(door.taker, numbers[i]);
        door.batches += batched;
        if (batched)
            manta_taker_batch_returned(door.taker);
    }
    manta_taker_flush(door.taker);
}

static bool take_events(void)
{
    struct manta_taker_event event;
    bool goes_on = true;
    while (manta_taker_next(door.taker, &event)) {
        fprintf(stderr, "event %d\n", event.type);
        if (event.type == MANTA_TAKER_CANCELLED) {
            door.cancels++;
            if (event.request == door.waiting && event.owner == &door) {
                manta_request_reply_nil(door.waiting);
                door.waiting = NULL;
            }
        } else if (event.type == MANTA_TAKER_HAS_ROOM && event.request == door.streaming) {
            flood();
        } else if (event.type == MANTA_TAKER_CONFIGURE) {
            configure(&event.configuration);
        } else if (event.type == MANTA_TAKER_DRAINED) {
            goes_on = false;
        }
    }
    return goes_on;
}

struct place {
    struct manta_taker *taker;
    struct manta_taker_thread *thread;
};

static int shorter(int timeout_ms, int other_ms)
{
    return timeout_ms < 0 || (other_ms >= 0 && other_ms < timeout_ms) ? other_ms : timeout_ms;
}

/* The one that was opened first ends last.  False: one did not end well. */
static bool end_place(struct place *place)
{
    manta_taker_thread_free(place->thread);
    bool good = manta_taker_close(place->taker);
    *place = (struct place){0};
    return good;
}

static int serve(struct place places[2])
{
    struct epoll_event wanted = {.events = EPOLLIN}, ready;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool good = true, drained[2] = {false, places[1].taker == NULL};
    /* Those on one loop have one descriptor. */
    epoll_ctl(epoll, EPOLL_CTL_ADD, manta_taker_descriptor(places[0].taker), &wanted);
    while (places[0].taker) {
        int timeout_ms = -1;
        for (int i = 0; i < 2; i++)
            if (places[i].taker)
                timeout_ms = shorter(timeout_ms, manta_taker_timeout_ms(places[i].taker));
        epoll_wait(epoll, &ready, 1, timeout_ms);
        for (int i = 0; i < 2; i++) {
            if (!places[i].taker)
                continue;
            door.taker = places[i].taker;
            door.thread = places[i].thread;
            manta_taker_turn(door.taker);
            take_all();
            drained[i] = !take_events() || drained[i];
        }
        if (places[1].taker && drained[1])
            good = end_place(&places[1]) && good;
        if (drained[0] && !places[1].taker)
            good = end_place(&places[0]) && good;
    }
    close(epoll);
    return good ? 0 : 3;
}

/* 0, or the program's exit status. */
static int open_place(struct place *place, int argument_count, char **arguments,
                      struct manta_taker *beside)
{
    struct manta_taker_options options = {MANTA_TAKER_OPTIONS};
    struct manta_taker_document document = {.size = sizeof document};
    struct manta_error error = {0};
    options.events = true;
    options.beside = beside;
    if (manta_taker_open(argument_count, arguments, &options, &place->taker, &error) < 0) {
        fprintf(stderr, "door_replica: %s\n", error.text);
        return 1;
    }
    manta_taker_describe(place->taker, &document);
    if (document.code_size == 3 && memcmp(document.code, "bad", 3) == 0) {
        manta_taker_failed(place->taker, MANTA_EUSER, "bad as asked");
        manta_taker_close(place->taker);
        return 1;
    }
    manta_taker_set_batched(place->taker, document.max_batch_size > 1);
    if (manta_taker_watch(place->taker, &error) < 0 ||
        manta_taker_ready(place->taker, &error) < 0) {
        fprintf(stderr, "door_replica: %s\n", error.text);
        return 1;
    }
    place->thread = manta_taker_thread_new(place->taker);
    return 0;
}

int main(int argument_count, char **arguments)
{
    struct place places[2] = {{0}};
    int first = 1;
    while (first < argument_count && strcmp(arguments[first], "--and") != 0)
        first++;
    int code = open_place(&places[0], first, arguments, NULL);
    if (code == 0 && first < argument_count) {
        arguments[first] = arguments[0]; /* in the place of "--and" */
        code = open_place(&places[1], argument_count - first, arguments + first, places[0].taker);
    }
    return code ? code : serve(places);
}
