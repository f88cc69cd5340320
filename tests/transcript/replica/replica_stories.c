/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replica_stories: lets the replica mind take part in transcripts.
 *
 * The lines of a story, one event or question each:
 *
 *     limits max=5 batch=4 wait=10ms concurrent=2       at any time; else 5, 1, 0s, 1
 *     admit q1 q2 batched method=embed model=m for=5s
 *     admit q1 held model=m · release q1 model=m        its body comes in parts, and is whole
 *     busy · free                                       user code takes nothing; takes all that is
 * due (as at first) take room=8                                       takes once, also while busy
 *     answer q1 q2 · cancel q1 · batch done
 *     drain for=20s · drained
 *     show · due
 *
 * After every line, and whenever the mind asked to be woken, user code takes what is due, as the
 * role would; then every invariant is checked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ensure.h"
#include "mem.h"
#include "replica.h"
#include "transcript.h"

enum { ROOM = 64 };

struct world {
    struct transcript *transcript;
    struct replica *replica;
    bool busy; /* user code takes nothing */
};

static struct request_id request_of(const char *word)
{
    uint64_t number = transcript_number(word, 'q');
    return (struct request_id){number ? (uint64_t)1 << 32 | number : 0};
}

/* What a role does in each turn. */
static void turn(struct world *world)
{
    struct request_id requests[ROOM];
    int64_t now_ns = world->transcript->now_ns;
    bool batched;
    while (replica_expired(world->replica, now_ns, requests))
        ;
    while (replica_take(world->replica, now_ns, requests, world->busy ? 0 : ROOM, &batched) > 0)
        ;
    ensure(world->busy || !replica_due(world->replica, now_ns));
    replica_check(world->replica);
}

static bool limits(struct world *world, const struct transcript_words *words)
{
    const char *most = transcript_option(words, "max"), *size = transcript_option(words, "batch");
    const char *wait = transcript_option(words, "wait");
    const char *concurrent = transcript_option(words, "concurrent");
    struct replica_config config = {.max_ongoing = most ? (uint32_t)atoi(most) : 5,
                                    .batch_size = size ? (uint32_t)atoi(size) : 1,
                                    .batch_wait_ns = wait ? transcript_time_ns(wait) : 0,
                                    .batch_concurrency =
                                        concurrent ? (uint32_t)atoi(concurrent) : 1,
                                    .trace = &world->transcript->trace};
    if (!world->replica) {
        world->replica = replica_new(&config);
        return world->replica != NULL;
    }
    if (replica_reconfigure(world->replica, world->transcript->now_ns, &config) != 0)
        transcript_say(world->transcript, "invalid");
    return true;
}

static bool admit(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    const char *method = transcript_option(words, "method"),
               *model = transcript_option(words, "model");
    const char *duration = transcript_option(words, "for");
    struct replica_admit event = {.deadline_ns =
                                      duration ? now_ns + transcript_time_ns(duration) : 0,
                                  .batched = transcript_has(words, "batched"),
                                  .held = transcript_has(words, "held"),
                                  .method_hash = bytes_hash(bytes_of_string(method ? method : "")),
                                  .model_id = bytes_of_string(model ? model : "")};
    for (int i = 1; i < words->count; i++) {
        event.request = request_of(words->at[i]);
        if (event.request.v)
            replica_admit(world->replica, now_ns, &event);
    }
    return true;
}

static bool release(struct world *world, const struct transcript_words *words)
{
    const char *model = transcript_option(words, "model");
    struct request_id id = request_of(words->count > 1 ? words->at[1] : "");
    if (id.v)
        replica_release(world->replica, world->transcript->now_ns, id,
                        bytes_of_string(model ? model : ""));
    return id.v != 0;
}

static bool take(struct world *world, const struct transcript_words *words)
{
    struct request_id requests[ROOM];
    const char *room = transcript_option(words, "room");
    bool batched = false;
    uint32_t count = replica_take(world->replica, world->transcript->now_ns, requests,
                                  room ? (uint32_t)atoi(room) : ROOM, &batched);
    if (count == 0)
        transcript_say(world->transcript, "nothing is due");
    return true;
}

static bool end_requests(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    for (int i = 1; i < words->count; i++) {
        struct request_id id = request_of(words->at[i]);
        if (!id.v)
            return false;
        if (strcmp(words->at[0], "answer") == 0)
            replica_answered(world->replica, now_ns, id);
        else if (replica_cancel(world->replica, now_ns, id) == REPLICA_CANCEL_UNKNOWN)
            transcript_say(world->transcript, "unknown %s", words->at[i]);
    }
    return true;
}

static bool batch_done(struct world *world, const struct transcript_words *words)
{
    replica_batch_done(world->replica, world->transcript->now_ns);
    return transcript_has(words, "done");
}

static bool drain(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    if (strcmp(words->at[0], "drained") == 0) {
        transcript_say(world->transcript, replica_drained(world->replica, now_ns) ? "yes" : "no");
        return true;
    }
    const char *duration = transcript_option(words, "for");
    if (duration)
        replica_drain(world->replica, now_ns, now_ns + transcript_time_ns(duration));
    return duration != NULL;
}

static bool hands(struct world *world, const struct transcript_words *words)
{
    world->busy = strcmp(words->at[0], "busy") == 0;
    return words->count == 1;
}

static bool question(struct world *world, const struct transcript_words *words)
{
    int64_t due = replica_deadline_ns(world->replica);
    if (strcmp(words->at[0], "due") == 0) {
        transcript_say(world->transcript, due ? "in %lld us" : "never",
                       (long long)(due - world->transcript->now_ns) / 1000);
        return true;
    }
    struct text dump;
    text_init(&dump, 4096);
    replica_dump(world->replica, &dump);
    transcript_say_text(world->transcript, text_bytes(&dump));
    text_done(&dump);
    return true;
}

static const struct {
    const char *verb;
    bool (*happen)(struct world *world, const struct transcript_words *words);
} events[] = {
    {"limits", limits},       {"admit", admit},      {"take", take},   {"answer", end_requests},
    {"cancel", end_requests}, {"batch", batch_done}, {"drain", drain}, {"drained", drain},
    {"release", release},     {"busy", hands},       {"free", hands},  {"show", question},
    {"due", question},
};

static void *begin(struct transcript *transcript)
{
    struct world *world = mem_new(sizeof(*world));
    world->transcript = transcript;
    return world;
}

static bool line(void *owner, const char *input)
{
    struct world *world = owner;
    struct transcript_words words;
    const char *verb = transcript_cut(&words, input)->at[0];
    bool understood = false;
    if (!world->replica && strcmp(verb, "limits") != 0)
        return false;
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (strcmp(verb, events[i].verb) == 0)
            understood = events[i].happen(world, &words);
    }
    turn(world);
    return understood;
}

static int64_t deadline_ns(void *owner)
{
    struct world *world = owner;
    return world->replica ? replica_deadline_ns(world->replica) : 0;
}

static void timer(void *owner)
{
    turn(owner);
}

static void end(void *owner)
{
    struct world *world = owner;
    replica_free(world->replica);
    mem_free(world);
}

int main(int argc, char **argv)
{
    static const struct transcript_mind mind = {begin, line, deadline_ns, timer, end};
    return transcript_main(argc, argv, &mind);
}
