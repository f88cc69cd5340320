/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router_stories: lets the router mind take part in transcripts.
 *
 * The lines of a story, one event or question each:
 *
 *     limits requests=4 silence=2s models=1s seed=7  first line only; else 64, 2s, 1s, 1
 *     snapshot 3: shop=/shop>d1 d1[max=2,queue=4,down] r1 r2 d2 r3      replicas belong to the
 * deployment before them connected r1 r2 · gone r1 · pong r1 len=3 submit q1 q2 d1 for=5s model=m ·
 * accepted q1 len=1 · done q1 len=0 · rejected q1 len=2 draining · cancel q1 · models r1 a b · late
 * a timer event in a turn that came too late show · route /a/b · find shop d1 · app shop · due
 *
 * After every line the effects are compared with what was narrated, and every invariant is checked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ensure.h"
#include "error.h"
#include "mem.h"
#include "router.h"
#include "transcript.h"

enum { ROW_LIMIT = 64, NARRATION_LIMIT = 4096 };

struct world {
    struct transcript *transcript;
    struct router *router;
    struct router_effects effects;
    struct trace trace;
    struct text
        deeds; /* the narrated lines that tell an effect, since the last line of the story */
};

static void hear(void *owner, const char *line)
{
    struct world *world = owner;
    static const char *const verbs[] = {"send ", "refuse ", "connect ", "disconnect ", "probe "};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strncmp(line, verbs[i], strlen(verbs[i])) == 0) {
            text_add_string(&world->deeds, line);
            text_add_byte(&world->deeds, '\n');
        }
    }
    world->transcript->trace.line(world->transcript->trace.owner, line);
}

static struct request_id request_of(const char *word)
{
    uint64_t number = transcript_number(word, 'q');
    return (struct request_id){number ? (uint64_t)1 << 32 | number : 0};
}

static struct replica_id replica_of(const char *word)
{
    return (struct replica_id){transcript_number(word, 'r')};
}

/* ---- effects and narration tell the same ---- */

static void describe(const struct router_effect *effect, char *line, size_t size)
{
    unsigned request = (unsigned)effect->request.v;
    unsigned long long replica = (unsigned long long)effect->replica.v;
    switch (effect->type) {
    case ROUTER_SEND:
        snprintf(line, size, "send q%u to r%llu", request, replica);
        break;
    case ROUTER_REFUSE:
        snprintf(line, size, "refuse q%u %s", request, error_name(effect->code));
        break;
    case ROUTER_CONNECT:
        snprintf(line, size, "connect r%llu of d", replica);
        break;
    case ROUTER_DISCONNECT:
        snprintf(line, size, "disconnect r%llu", replica);
        break;
    case ROUTER_PROBE:
        snprintf(line, size, "probe r%llu", replica);
        break;
    }
}

static void settle_effects(struct world *world)
{
    struct bytes deeds = text_bytes(&world->deeds);
    for (uint32_t i = 0; i < world->effects.count; i++) {
        char line[128];
        ptrdiff_t end = bytes_find(deeds, '\n');
        describe(&world->effects.at[i], line, sizeof(line));
        if (end < 0 || !bytes_starts_with(deeds, bytes_of_string(line))) {
            transcript_fail(world->transcript, "effect not narrated: %s", line);
            break;
        }
        deeds = bytes_skip(deeds, (size_t)end + 1);
    }
    if (deeds.size > 0 && !world->transcript->failed)
        transcript_fail(world->transcript, "narrated without effect: %.*s", BYTES_PRINT(deeds));
    world->effects.count = 0;
    text_clear(&world->deeds);
    router_check(world->router);
}

/* ---- the snapshot line ---- */

struct rows {
    struct router_snapshot_app apps[ROW_LIMIT];
    struct router_snapshot_deployment deployments[ROW_LIMIT];
    struct router_snapshot_replica replicas[ROW_LIMIT];
    char names[ROW_LIMIT][32];
    struct router_snapshot snapshot;
};

/* d1[max=2,queue=4,down] */
static bool add_deployment(struct rows *rows, char *word)
{
    char *options = strchr(word, '[');
    if (options)
        *options++ = 0;
    uint32_t at = rows->snapshot.deployment_count++;
    struct router_snapshot_deployment *row = &rows->deployments[at];
    row->id.v = transcript_number(word, 'd');
    row->app = BYTES("shop");
    row->name = bytes_of_string(word);
    row->max_ongoing = 1;
    row->max_queued = -1;
    row->available = true;
    char *rest = NULL;
    for (char *option = options ? strtok_r(options, ",]", &rest) : NULL; option;
         option = strtok_r(NULL, ",]", &rest)) {
        if (strncmp(option, "max=", 4) == 0)
            row->max_ongoing = (uint32_t)atoi(option + 4);
        else if (strncmp(option, "queue=", 6) == 0)
            row->max_queued = atoi(option + 6);
        else if (strcmp(option, "down") == 0)
            row->available = false;
        else
            return false;
    }
    return row->id.v != 0;
}

static bool add_replica(struct rows *rows, const char *word)
{
    uint32_t at = rows->snapshot.replica_count++;
    struct router_snapshot_replica *row = &rows->replicas[at];
    row->id = replica_of(word);
    if (rows->snapshot.deployment_count)
        row->deployment = rows->deployments[rows->snapshot.deployment_count - 1].id;
    snprintf(rows->names[at], sizeof(rows->names[at]), "/%s", word);
    row->address = bytes_of_string(rows->names[at]);
    return row->id.v != 0;
}

/* shop=/shop>d1 */
static bool add_app(struct rows *rows, char *word)
{
    char *prefix = strchr(word, '='), *ingress = strchr(word, '>');
    if (!prefix || !ingress)
        return false;
    *prefix++ = 0;
    *ingress++ = 0;
    uint32_t at = rows->snapshot.app_count++;
    rows->apps[at] = (struct router_snapshot_app){.id = {at + 1},
                                                  .name = bytes_of_string(word),
                                                  .route_prefix = bytes_of_string(prefix),
                                                  .ingress = {transcript_number(ingress, 'd')}};
    return true;
}

static bool take_snapshot(struct world *world, const struct transcript_words *words)
{
    static struct rows rows;
    if (words->count < 2)
        return false;
    memset(&rows, 0, sizeof(rows));
    rows.snapshot.version = (uint64_t)atoll(words->at[1]);
    rows.snapshot.apps = rows.apps;
    rows.snapshot.deployments = rows.deployments;
    rows.snapshot.replicas = rows.replicas;
    for (int i = 2; i < words->count; i++) {
        char *word = words->at[i];
        bool sound = strchr(word, '>')              ? add_app(&rows, word)
                     : transcript_number(word, 'r') ? add_replica(&rows, word)
                                                    : add_deployment(&rows, word);
        if (!sound)
            return false;
    }
    int code =
        router_snapshot(world->router, world->transcript->now_ns, &rows.snapshot, &world->effects);
    ensure(code == 0);
    memset(rows.names, 'x', sizeof(rows.names)); /* the router has copies of all it keeps */
    return true;
}

/* ---- events ---- */

static bool submit(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    const char *duration = transcript_option(words, "for"),
               *model = transcript_option(words, "model");
    struct router_submit event = {.deadline_ns =
                                      duration ? now_ns + transcript_time_ns(duration) : 0,
                                  .model_id = bytes_of_string(model ? model : "")};
    for (int i = 1; i < words->count; i++)
        event.deployment.v += transcript_number(words->at[i], 'd');
    for (int i = 1; i < words->count; i++) {
        event.request = request_of(words->at[i]);
        if (event.request.v && router_submit(world->router, now_ns, &event, &world->effects) != 0)
            return false;
    }
    return event.deployment.v != 0;
}

static uint32_t length_of(const struct transcript_words *words)
{
    const char *length = transcript_option(words, "len");
    return length ? (uint32_t)atoi(length) : ROUTER_LENGTH_UNKNOWN;
}

static bool request_event(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    const char *verb = words->at[0];
    bool draining = transcript_has(words, "draining");
    for (int i = 1; i < words->count; i++) {
        struct request_id id = request_of(words->at[i]);
        if (!id.v)
            continue;
        if (strcmp(verb, "accepted") == 0)
            router_accepted(world->router, now_ns, id, length_of(words), &world->effects);
        else if (strcmp(verb, "done") == 0)
            router_done(world->router, now_ns, id, length_of(words), &world->effects);
        else if (strcmp(verb, "rejected") == 0)
            router_rejected(world->router, now_ns, id, length_of(words), draining, &world->effects);
        else if (router_cancel(world->router, now_ns, id, &world->effects))
            transcript_say(world->transcript, "tell its replica");
    }
    return true;
}

static bool replica_event(struct world *world, const struct transcript_words *words)
{
    int64_t now_ns = world->transcript->now_ns;
    const char *verb = words->at[0];
    for (int i = 1; i < words->count; i++) {
        struct replica_id id = replica_of(words->at[i]);
        if (!id.v)
            continue;
        if (strcmp(verb, "connected") == 0)
            router_connected(world->router, now_ns, id, &world->effects);
        else if (strcmp(verb, "gone") == 0)
            router_replica_gone(world->router, now_ns, id, &world->effects);
        else
            router_replica_alive(world->router, now_ns, id, length_of(words), &world->effects);
    }
    return true;
}

/* models r1 llama bert */
static bool models(struct world *world, const struct transcript_words *words)
{
    struct bytes ids[TRANSCRIPT_WORD_LIMIT];
    uint32_t count = 0;
    if (words->count < 2)
        return false;
    for (int i = 2; i < words->count; i++)
        ids[count++] = bytes_of_string(words->at[i]);
    router_models(world->router, world->transcript->now_ns, replica_of(words->at[1]), ids, count,
                  &world->effects);
    return true;
}

static bool late(struct world *world, const struct transcript_words *words)
{
    router_timer(world->router, world->transcript->now_ns, true, &world->effects);
    return words->count == 1;
}

/* ---- questions ---- */

static void show(struct world *world)
{
    struct text dump;
    text_init(&dump, 1 << 16);
    router_dump(world->router, &dump);
    transcript_say_text(world->transcript, text_bytes(&dump));
    text_done(&dump);
}

static void say_deployment(struct world *world, bool found, struct deployment_id id)
{
    const struct router_snapshot_deployment *row =
        found ? router_deployment(world->router, id) : NULL;
    if (!found)
        transcript_say(world->transcript, "nothing");
    else
        transcript_say(world->transcript, "d%llu%s", (unsigned long long)id.v,
                       row ? "" : " (gone)");
}

static bool question(struct world *world, const struct transcript_words *words)
{
    const char *verb = words->at[0];
    struct deployment_id id = {0};
    struct bytes prefix, app;
    if (strcmp(verb, "show") == 0) {
        show(world);
    } else if (strcmp(verb, "due") == 0) {
        transcript_say(
            world->transcript, router_deadline_ns(world->router) ? "in %lld us" : "never",
            (long long)(router_deadline_ns(world->router) - world->transcript->now_ns) / 1000);
    } else if (strcmp(verb, "route") == 0 && words->count == 2) {
        bool found = router_route(world->router, bytes_of_string(words->at[1]), &id, &prefix, &app);
        if (found)
            transcript_say(world->transcript, "%.*s of %.*s: d%llu", BYTES_PRINT(prefix),
                           BYTES_PRINT(app), (unsigned long long)id.v);
        else
            transcript_say(world->transcript, "nothing");
    } else if (strcmp(verb, "find") == 0 && words->count == 3) {
        bool found = router_find_deployment(world->router, bytes_of_string(words->at[1]),
                                            bytes_of_string(words->at[2]), &id);
        say_deployment(world, found, id);
    } else if (strcmp(verb, "app") == 0 && words->count == 2) {
        bool found = router_find_app(world->router, bytes_of_string(words->at[1]), &id);
        say_deployment(world, found, id);
    } else {
        return false;
    }
    return true;
}

/* ---- the mind's part ---- */

static void renew(struct world *world, const struct router_config *limits, uint64_t seed)
{
    struct router_config config = *limits;
    config.trace = &world->trace;
    router_free(world->router);
    world->router = router_new(&config, seed);
    ensure(world->router);
}

static bool limits(struct world *world, const struct transcript_words *words)
{
    const char *requests = transcript_option(words, "requests");
    const char *silence = transcript_option(words, "silence"),
               *seed = transcript_option(words, "seed");
    const char *model_wait = transcript_option(words, "models");
    struct router_config config = {
        .request_limit = requests ? (uint32_t)atoi(requests) : 64,
        .silence_limit_ns = transcript_time_ns(silence ? silence : "2s"),
        .model_wait_ns = transcript_time_ns(model_wait ? model_wait : "1s"),
    };
    renew(world, &config, seed ? (uint64_t)atoll(seed) : 1);
    return true;
}

static void *begin(struct transcript *transcript)
{
    struct world *world = mem_new(sizeof(*world));
    world->transcript = transcript;
    world->trace = (struct trace){hear, world};
    text_init(&world->deeds, NARRATION_LIMIT * 64);
    renew(world,
          &(struct router_config){
              .request_limit = 64, .silence_limit_ns = 2000000000, .model_wait_ns = 1000000000},
          1);
    return world;
}

static const struct {
    const char *verb;
    bool (*happen)(struct world *world, const struct transcript_words *words);
} events[] = {
    {"limits", limits},          {"snapshot", take_snapshot},  {"submit", submit},
    {"accepted", request_event}, {"done", request_event},      {"rejected", request_event},
    {"cancel", request_event},   {"connected", replica_event}, {"gone", replica_event},
    {"pong", replica_event},     {"models", models},           {"late", late},
};

static bool line(void *owner, const char *input)
{
    struct world *world = owner;
    struct transcript_words words;
    const char *verb = transcript_cut(&words, input)->at[0];
    bool understood = false, known = false;
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]) && !known; i++) {
        known = strcmp(verb, events[i].verb) == 0;
        if (known)
            understood = events[i].happen(world, &words);
    }
    if (!known)
        understood = question(world, &words);
    settle_effects(world);
    return understood;
}

static int64_t deadline_ns(void *owner)
{
    struct world *world = owner;
    return router_deadline_ns(world->router);
}

static void timer(void *owner)
{
    struct world *world = owner;
    router_timer(world->router, world->transcript->now_ns, false, &world->effects);
    settle_effects(world);
}

static void end(void *owner)
{
    struct world *world = owner;
    router_free(world->router);
    router_effects_done(&world->effects);
    text_done(&world->deeds);
    mem_free(world);
}

int main(int argc, char **argv)
{
    static const struct transcript_mind mind = {begin, line, deadline_ns, timer, end};
    return transcript_main(argc, argv, &mind);
}
