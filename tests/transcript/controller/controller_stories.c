/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller_stories: lets the controller mind take part in transcripts.
 *
 * The lines of a story, one event or question each; "oN" is the token of whoever waits, '...' a
 * text:
 *
 *     settings start_timeout_ms=5000 seed=7 replicas_from=9       first line only
 *     target app/model version=2 replicas=2 max=5 o1              one deployment
 *     target app a@1x2 b@3x1,max=4,queue=8,grace=5s ingress=a route=/x o1    several
 *     restored app ... id=3                                       the same, from the store
 *     whole o1 / target app/model version=2 / target ... / failed app 'trace'   a whole target
 *     several o1 / target ... / target ...                        the same, nothing is deleted
 *     stored · stored s2 · stored SYSTEM 'disk full'              the oldest store, or that one
 *     delete app o2 · delete all o2 · shutdown o3 within=5s
 *     started r1 pid=7 · ready r1 r2 · failed r2 'no file' · gone r1 signal=11 'last words'
 *     adopt r4 app/model@2 [config=7] [rank=1/2] [silent] [draining] · loaded version=9
 *     unhealthy r1 'text' · healthy r1
 *     configured r1 r2 · refused r1 'text'                        what it was told last
 *     owes r1 r2 for=500ms · owes r1 asleep · answers r1          no pong; found in a late turn
 *     time · sleep ... late                                       a turn; no turns until a late one
 *     ranks                                                       starts show them from now on
 *     show · replicas · dump
 *
 * Behind the bar: changes of status as the mind narrates them, then the effects in order.  After
 * each line every invariant is checked, and that the list keeps its promises: PUBLISH first and
 * with the next version (R4), STORE last, no START of what was not stored (C1), no DRAIN of what is
 * published (R3).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller.h"
#include "ensure.h"
#include "error.h"
#include "mem.h"
#include "transcript.h"

enum {
    ROW_LIMIT = 16,
    WHOLE_LIMIT = 4,
    STORE_LIMIT = 64,
    NAME_SIZE = 40,
    TEXT_SIZE = 8192,
    TOLD_LIMIT = 64
};
/* A configuration is made as the role makes it: another number for another max, too. */
enum { CONFIG_STEP = 1000000 };

struct world {
    struct transcript *transcript;
    struct controller *controller;
    struct controller_effects effects;
    struct trace trace;
    struct settings settings;
    uint64_t seed, version, replicas_from;
    uint64_t stores[STORE_LIMIT]; /* tokens not answered, oldest first */
    uint32_t store_count;
    uint64_t told[TOLD_LIMIT]; /* token of the last CONFIGURE, by replica */
    bool asleep;               /* no turn comes by itself */
    bool ranks;                /* starts show them */
    char routes[TEXT_SIZE];    /* as last told */
    char quoted[TEXT_SIZE];    /* the text of the line */
};

/* Moves of replicas show in the effects; what is left are statuses. */
static void hear(void *owner, const char *line)
{
    struct world *world = owner;
    if (!strstr(line, " -> ") && strncmp(line, "publish ", 8) != 0)
        world->transcript->trace.line(world->transcript->trace.owner, line);
}

/* One line behind the bar, whatever the texts in it hold. */
static void __attribute__((format(printf, 2, 3))) say(struct world *world, const char *format, ...)
{
    char line[TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    for (char *at = line; (at = strchr(at, '\n'));)
        *at = '|';
    transcript_say(world->transcript, "%s", line);
}

static struct replica_id replica_of(const char *word)
{
    return (struct replica_id){transcript_number(word, 'r')};
}

/* ---- effects ---- */

static void print_routes(struct world *world, char *line, size_t size)
{
    struct controller_app_view app;
    struct controller_deployment_view row;
    size_t at = 0;
    line[0] = 0;
    for (uint32_t i = 0; controller_app_at(world->controller, i, &app); i++) {
        if (app.published)
            at += (size_t)snprintf(line + at, size - at, " %.*s>%.*s.d%llu",
                                   BYTES_PRINT(app.route_prefix), BYTES_PRINT(app.name),
                                   (unsigned long long)app.ingress.v);
    }
    for (uint32_t i = 0; controller_deployment_at(world->controller, i, &row); i++) {
        at += (size_t)snprintf(line + at, size - at, " d%llu=%.*s/%.*s[max=%u,queue=%lld%s]",
                               (unsigned long long)row.id.v, BYTES_PRINT(row.app),
                               BYTES_PRINT(row.name), row.max_ongoing, (long long)row.max_queued,
                               row.available ? "" : ",down");
    }
}

static void say_snapshot(struct world *world)
{
    struct controller_snapshot_row row;
    char line[TEXT_SIZE];
    size_t at = 0;
    line[0] = 0;
    for (uint32_t i = 0; controller_snapshot_at(world->controller, i, &row); i++)
        at += (size_t)snprintf(line + at, sizeof(line) - at, " r%llu",
                               (unsigned long long)row.replica.v);
    say(world, "publish %llu:%s", (unsigned long long)world->version, at ? line : " nobody");
    print_routes(world, line, sizeof(line));
    if (strcmp(line, world->routes) == 0)
        return;
    snprintf(world->routes, sizeof(world->routes), "%s", line);
    say(world, "  routes:%s", line[0] ? line : " none");
}

static void say_store(struct world *world, const struct controller_effect *effect)
{
    char line[TEXT_SIZE];
    size_t at = (size_t)snprintf(line, sizeof(line), "store s%llu %.*s",
                                 (unsigned long long)effect->token, BYTES_PRINT(effect->app_name));
    for (uint32_t i = 0; effect->target && i < effect->target->deployment_count; i++) {
        const struct controller_deployment_target *row = effect->target->deployments + i;
        at += (size_t)snprintf(line + at, sizeof(line) - at, " d%llu=%.*s@%llux%u",
                               (unsigned long long)row->id.v, BYTES_PRINT(row->name),
                               (unsigned long long)row->version, row->replicas);
    }
    say(world, "%s%s%s%s", line, effect->target ? "" : " deleted",
        effect->target && effect->target->declarative ? " declarative" : "",
        effect->more ? " and" : "");
    if (effect->more)
        return;
    ensure(world->store_count < STORE_LIMIT);
    world->stores[world->store_count++] = effect->token;
}

static bool is_published(const struct world *world, struct replica_id id)
{
    struct controller_snapshot_row row;
    for (uint32_t i = 0; controller_snapshot_at(world->controller, i, &row); i++)
        if (replica_id_equal(row.replica, id))
            return true;
    return false;
}

static void say_start(struct world *world, const struct controller_effect *effect)
{
    char rank[32] = "";
    if (world->ranks)
        snprintf(rank, sizeof(rank), " rank %u of %u", effect->rank, effect->world_size);
    say(world, "start r%llu %.*s/%.*s@%llu%s", (unsigned long long)effect->replica.v,
        BYTES_PRINT(effect->app_name), BYTES_PRINT(effect->deployment_name),
        (unsigned long long)effect->version, rank);
}

static void say_effect(struct world *world, const struct controller_effect *effect, uint32_t place)
{
    unsigned long long replica = (unsigned long long)effect->replica.v;
    unsigned long long token = (unsigned long long)effect->token;
    switch (effect->type) {
    case CONTROLLER_STORE:
        say_store(world, effect);
        break;
    case CONTROLLER_START:
        say_start(world, effect);
        ensure(bytes_starts_with(effect->body, BYTES("body of ")));
        break;
    case CONTROLLER_STOP:
        say(world, "stop r%llu%s", replica, effect->kill ? " by force" : "");
        break;
    case CONTROLLER_DRAIN:
        say(world, "drain r%llu within %lld ms", replica, (long long)effect->timeout_ns / 1000000);
        ensure_tag(R3, !is_published(world, effect->replica));
        break;
    case CONTROLLER_CONFIGURE:
        say(world, "configure r%llu config=%llu max=%u rank %u of %u", replica,
            (unsigned long long)(effect->configuration / CONFIG_STEP), effect->max_ongoing,
            effect->rank, effect->world_size);
        ensure(effect->token && effect->replica.v < TOLD_LIMIT && effect->body.size);
        world->told[effect->replica.v] = effect->token;
        break;
    case CONTROLLER_PUBLISH:
        ensure_tag(R4, place == 0 && controller_version(world->controller) == world->version + 1);
        world->version++;
        say_snapshot(world);
        break;
    case CONTROLLER_OUTCOME:
        say(world, "outcome o%llu %s%s%s", token, effect->code ? error_name(effect->code) : "OK",
            effect->message[0] ? ": " : "", effect->message);
        break;
    case CONTROLLER_PROGRESS:
        say(world, "progress o%llu %s", token, effect->message);
        break;
    case CONTROLLER_ENDED:
        say(world, "ended");
        break;
    case CONTROLLER_EFFECT_COUNT:
        break;
    }
}

static void step(struct world *world, const struct controller_event *event)
{
    bool storing = false;
    controller_step(world->controller, world->transcript->now_ns, event, &world->effects);
    for (uint32_t i = 0; i < world->effects.count; i++) {
        const struct controller_effect *effect = world->effects.at + i;
        ensure_tag(C1, !storing || effect->type == CONTROLLER_STORE);
        storing = effect->type == CONTROLLER_STORE;
        say_effect(world, effect, i);
    }
    controller_check(world->controller);
}

/* ---- targets ---- */

struct rows {
    struct controller_deployment_target at[ROW_LIMIT];
    char names[ROW_LIMIT][NAME_SIZE], bodies[ROW_LIMIT][NAME_SIZE + 8];
    struct controller_app_target target;
    char app[NAME_SIZE], route[NAME_SIZE + 1];
};

static struct controller_deployment_target *add_row(struct rows *rows, const char *name)
{
    uint32_t at = rows->target.deployment_count++;
    ensure(at < ROW_LIMIT);
    snprintf(rows->names[at], NAME_SIZE, "%s", name);
    snprintf(rows->bodies[at], sizeof(rows->bodies[at]), "body of %s", name);
    rows->at[at] = (struct controller_deployment_target){
        .name = bytes_of_string(rows->names[at]),
        .version = 1,
        .replicas = 1,
        .max_ongoing = 5,
        .max_queued = -1,
        .rollout = {.max_surge_percent = 100, .share_millionths = 200000},
        .graceful_shutdown_timeout_ns = 20 * INT64_C(1000000000),
        .health_check_period_ns = 10 * INT64_C(1000000000),
        .health_check_timeout_ns = 30 * INT64_C(1000000000),
        .body = bytes_of_string(rows->bodies[at]),
    };
    return rows->at + at;
}

static bool set_option(struct controller_deployment_target *row, const char *option)
{
    if (strncmp(option, "version=", 8) == 0)
        row->version = strtoull(option + 8, NULL, 10);
    else if (strncmp(option, "replicas=", 9) == 0)
        row->replicas = (uint32_t)strtoul(option + 9, NULL, 10);
    else if (strncmp(option, "max=", 4) == 0)
        row->max_ongoing = (uint32_t)strtoul(option + 4, NULL, 10);
    else if (strncmp(option, "config=", 7) == 0)
        row->configuration = strtoull(option + 7, NULL, 10) * CONFIG_STEP;
    else if (strncmp(option, "surge=", 6) == 0)
        row->rollout.max_surge_percent = (uint32_t)strtoul(option + 6, NULL, 10);
    else if (strncmp(option, "share=", 6) == 0)
        row->rollout.share_millionths = (uint32_t)(strtod(option + 6, NULL) * 1e6 + 0.5);
    else if (strncmp(option, "retries=", 8) == 0)
        row->rollout.retry_limit = (uint32_t)strtoul(option + 8, NULL, 10);
    else if (strncmp(option, "start=", 6) == 0)
        row->rollout.start_timeout_ns = transcript_time_ns(option + 6);
    else if (strncmp(option, "queue=", 6) == 0)
        row->max_queued = strtoll(option + 6, NULL, 10);
    else if (strncmp(option, "grace=", 6) == 0)
        row->graceful_shutdown_timeout_ns = transcript_time_ns(option + 6);
    else if (strncmp(option, "period=", 7) == 0)
        row->health_check_period_ns = transcript_time_ns(option + 7);
    else if (strncmp(option, "timeout=", 8) == 0)
        row->health_check_timeout_ns = transcript_time_ns(option + 8);
    else if (strncmp(option, "id=", 3) == 0)
        row->id.v = strtoull(option + 3, NULL, 10);
    else
        return false;
    return true;
}

/* name@VERSIONxREPLICAS,option=value,... */
static bool add_deployment(struct rows *rows, char *word)
{
    char *rest = NULL, *name = strtok_r(word, ",", &rest), *version = strchr(name, '@');
    char *replicas = version ? strchr(version, 'x') : NULL;
    if (!version)
        return false;
    *version = 0;
    struct controller_deployment_target *row = add_row(rows, name);
    row->version = strtoull(version + 1, NULL, 10);
    row->replicas = replicas ? (uint32_t)strtoul(replicas + 1, NULL, 10) : 1;
    for (char *option; (option = strtok_r(NULL, ",", &rest));)
        if (!set_option(row, option))
            return false;
    return true;
}

static bool read_target(struct rows *rows, struct transcript_words *words)
{
    struct controller_deployment_target *row = NULL;
    char *name = words->count > 1 ? strchr(words->at[1], '/') : NULL;
    const char *route = transcript_option(words, "route"),
               *ingress = transcript_option(words, "ingress");
    memset(rows, 0, sizeof(*rows));
    if (words->count < 2)
        return false;
    if (name) {
        *name++ = 0;
        row = add_row(rows, name);
    }
    snprintf(rows->app, NAME_SIZE, "%s", strcmp(words->at[1], "''") == 0 ? "" : words->at[1]);
    snprintf(rows->route, sizeof(rows->route), "%s%s", route ? route : "/", route ? "" : rows->app);
    for (int i = 2; i < words->count; i++) {
        char *word = words->at[i];
        bool known = strncmp(word, "route=", 6) == 0 || strncmp(word, "ingress=", 8) == 0 ||
                     transcript_number(word, 'o') > 0;
        if (!known && !(row && set_option(row, word)) && !add_deployment(rows, word))
            return false;
    }
    for (uint32_t i = 0; i < rows->target.deployment_count; i++)
        rows->at[i].configuration += rows->at[i].max_ongoing;
    rows->target.name = bytes_of_string(rows->app);
    rows->target.route_prefix =
        bytes_of_string(strcmp(rows->route, "none") == 0 ? "" : rows->route);
    rows->target.deployments = rows->at;
    rows->target.ingress = ingress ? bytes_of_string(ingress) : rows->at[0].name;
    return true;
}

/* ---- lines ---- */

static uint64_t token_of(const struct transcript_words *words)
{
    for (int i = 1; i < words->count; i++)
        if (transcript_number(words->at[i], 'o'))
            return transcript_number(words->at[i], 'o');
    return 0;
}

static bool play_target(struct world *world, struct transcript_words *words)
{
    struct rows rows;
    struct controller_event event = {.type = CONTROLLER_DEPLOY, .target = &rows.target};
    if (!read_target(&rows, words))
        return false;
    event.token = token_of(words);
    event.stored = strcmp(words->at[0], "restored") == 0;
    step(world, &event);
    return true;
}

/* whole o1 / target ... / failed app 'trace' */
static bool play_whole(struct world *world, struct transcript_words *words)
{
    struct rows *rows = mem_new(WHOLE_LIMIT * sizeof(*rows));
    struct controller_app_target targets[WHOLE_LIMIT];
    struct controller_event event = {.type = CONTROLLER_APPLY, .targets = targets};
    bool good = true;
    event.token = token_of(words);
    event.declarative = strcmp(words->at[0], "whole") == 0;
    for (int i = 1; good && i < words->count; i++) {
        struct transcript_words part = {0};
        if (strcmp(words->at[i], "/") != 0)
            continue;
        while (i + 1 < words->count && strcmp(words->at[i + 1], "/") != 0)
            part.at[part.count++] = words->at[++i];
        struct rows *row = rows + event.target_count;
        bool failed = part.count == 2 && strcmp(part.at[0], "failed") == 0;
        good = event.target_count < WHOLE_LIMIT && read_target(row, &part);
        row->target.declarative = event.declarative;
        if (failed)
            row->target.build_failure = bytes_of_string(world->quoted);
        targets[event.target_count++] = row->target;
    }
    if (good)
        step(world, &event);
    mem_free(rows);
    return good;
}

static bool play_stored(struct world *world, struct transcript_words *words)
{
    uint64_t token = words->count > 1 ? transcript_number(words->at[1], 's') : 0;
    struct controller_event event = {.type = CONTROLLER_STORED,
                                     .text = bytes_of_string(world->quoted)};
    const char *code = words->count > 1 ? words->at[words->count - 1] : "";
    uint32_t place = 0;
    while (token && place < world->store_count && world->stores[place] != token)
        place++;
    if (place >= world->store_count)
        return false;
    event.token = world->stores[place];
    memmove(world->stores + place, world->stores + place + 1,
            (--world->store_count - place) * sizeof(world->stores[0]));
    event.code = strcmp(code, "SYSTEM") == 0 ? ERROR_SYSTEM : 0;
    step(world, &event);
    return true;
}

static bool play_delete(struct world *world, struct transcript_words *words)
{
    if (words->count < 2)
        return false;
    bool all = strcmp(words->at[1], "all") == 0;
    struct controller_event event = {.type = CONTROLLER_DELETE,
                                     .app = bytes_of_string(all ? "" : words->at[1]),
                                     .token = token_of(words)};
    step(world, &event);
    return true;
}

static bool play_shutdown(struct world *world, struct transcript_words *words)
{
    const char *within = transcript_option(words, "within");
    struct controller_event event = {.type = CONTROLLER_SHUTDOWN, .token = token_of(words)};
    event.timeout_ns = within ? transcript_time_ns(within) : 0;
    step(world, &event);
    return true;
}

/* One step for each replica named, as a round of pings finds them. */
static bool play_owes(struct world *world, struct transcript_words *words)
{
    const char *span = transcript_option(words, "for");
    for (int i = 1; i < words->count; i++) {
        struct controller_event event = {
            .type = strcmp(words->at[0], "owes") == 0 ? CONTROLLER_OWES : CONTROLLER_ANSWERS,
            .replica = replica_of(words->at[i]),
            .since_ns = world->transcript->now_ns - (span ? transcript_time_ns(span) : 0),
            .late = transcript_has(words, "asleep")};
        if (!replica_id_none(event.replica))
            step(world, &event);
    }
    return words->count > 1;
}

static void read_ending(struct controller_event *event, const struct transcript_words *words)
{
    const char *code = transcript_option(words, "exit"),
               *number = transcript_option(words, "signal");
    event->exit_code = code ? atoi(code) : number || transcript_has(words, "unknown") ? -1 : 0;
    event->signal_number = number ? atoi(number) : 0;
}

/* ready, started, failed, gone, unhealthy, healthy: one step for each replica named. */
static bool play_replica(struct world *world, struct transcript_words *words)
{
    static const struct {
        const char *word;
        enum controller_event_type type;
    } kinds[] = {{"ready", CONTROLLER_READY},      {"started", CONTROLLER_STARTED},
                 {"failed", CONTROLLER_FAILED},    {"gone", CONTROLLER_GONE},
                 {"unhealthy", CONTROLLER_HEALTH}, {"healthy", CONTROLLER_HEALTH}};
    const char *pid = transcript_option(words, "pid");
    int kind = 0, told = 0;
    while (kind < 6 && strcmp(words->at[0], kinds[kind].word) != 0)
        kind++;
    for (int i = 1; kind < 6 && i < words->count; i++) {
        struct controller_event event = {.type = kinds[kind].type,
                                         .replica = replica_of(words->at[i])};
        char address[NAME_SIZE];
        if (replica_id_none(event.replica))
            continue;
        snprintf(address, sizeof(address), "/run/%s", words->at[i]);
        if (event.type == CONTROLLER_READY)
            event.address = bytes_of_string(address);
        event.pid = pid ? atoi(pid) : 0;
        event.text = bytes_of_string(world->quoted);
        event.code = ERROR_USER;
        event.healthy = strcmp(words->at[0], "healthy") == 0;
        event.draining = transcript_has(words, "draining");
        read_ending(&event, words);
        step(world, &event);
        told++;
    }
    return told > 0;
}

/* adopt r4 app/model@2 */
static bool play_adopt(struct world *world, struct transcript_words *words)
{
    char *name = words->count > 2 ? strchr(words->at[2], '/') : NULL;
    char *version = name ? strchr(name, '@') : NULL;
    if (!name)
        return false;
    *name++ = 0;
    if (version)
        *version++ = 0;
    const char *config = transcript_option(words, "config"),
               *rank = transcript_option(words, "rank");
    bool silent = transcript_has(words, "silent");
    struct controller_event event = {
        .type = CONTROLLER_ADOPT,
        .replica = replica_of(words->at[1]),
        .app = bytes_of_string(words->at[2]),
        .deployment = bytes_of_string(name),
        .version = version ? strtoull(version, NULL, 10) : 0,
        .configuration = silent ? 0 : strtoull(config ? config : "0", NULL, 10) * CONFIG_STEP + 5,
        .rank = rank ? (uint32_t)atoi(rank) + 1 : 0,
        .world_size = rank && strchr(rank, '/') ? (uint32_t)atoi(strchr(rank, '/') + 1) : 0,
        .address = silent ? (struct bytes){0} : BYTES("/run/adopted"),
        .draining = transcript_has(words, "draining"),
        .pid = 1000,
    };
    step(world, &event);
    return true;
}

/* configured, refused: one step for each replica named. */
static bool play_configured(struct world *world, struct transcript_words *words)
{
    int told = 0;
    for (int i = 1; i < words->count; i++) {
        struct controller_event event = {.type = CONTROLLER_CONFIGURED,
                                         .replica = replica_of(words->at[i]),
                                         .text = bytes_of_string(world->quoted)};
        if (replica_id_none(event.replica) || event.replica.v >= TOLD_LIMIT)
            continue;
        event.token = world->told[event.replica.v];
        event.code = strcmp(words->at[0], "refused") == 0 ? ERROR_USER : 0;
        step(world, &event);
        told++;
    }
    return told > 0;
}

static bool play_ranks(struct world *world, struct transcript_words *words)
{
    world->ranks = true;
    return true;
}

static bool play_loaded(struct world *world, struct transcript_words *words)
{
    const char *version = transcript_option(words, "version");
    struct controller_event event = {.type = CONTROLLER_LOADED};
    event.version = version ? strtoull(version, NULL, 10) : 0;
    if (event.version > world->version)
        world->version = event.version;
    step(world, &event);
    return true;
}

static bool play_sleep(struct world *world, struct transcript_words *words)
{
    world->asleep = true;
    return true;
}

static bool play_time(struct world *world, struct transcript_words *words)
{
    world->asleep = false;
    struct controller_event event = {.type = CONTROLLER_TIME,
                                     .late = strcmp(words->at[0], "late") == 0};
    step(world, &event);
    return true;
}

static bool play_show(struct world *world, struct transcript_words *words)
{
    struct controller_app_view app;
    struct controller_deployment_view row;
    for (uint32_t i = 0; controller_app_at(world->controller, i, &app); i++)
        say(world, "%.*s %s%s%.*s", BYTES_PRINT(app.name), application_status_word(app.status),
            app.message.size ? ": " : "", BYTES_PRINT(app.message));
    for (uint32_t i = 0; controller_deployment_at(world->controller, i, &row); i++)
        say(world, "%.*s/%.*s %s %s %u of %u%s%.*s", BYTES_PRINT(row.app), BYTES_PRINT(row.name),
            deployment_status_word(row.status), deployment_trigger_word(row.trigger),
            row.replica_count[REPLICA_STATE_RUNNING], row.target_replicas,
            row.message.size ? ": " : "", BYTES_PRINT(row.message));
    return true;
}

static bool play_replicas(struct world *world, struct transcript_words *words)
{
    struct controller_replica_view row;
    for (uint32_t i = 0; controller_replica_at(world->controller, i, &row); i++)
        say(world, "r%llu d%llu@%llu %s pid %d at '%.*s'%s", (unsigned long long)row.id.v,
            (unsigned long long)row.deployment.v, (unsigned long long)row.version,
            row.updating ? "UPDATING" : replica_state_word(row.state), (int)row.pid,
            BYTES_PRINT(row.address), row.silent ? " silent" : "");
    return true;
}

static bool play_dump(struct world *world, struct transcript_words *words)
{
    struct text out;
    text_init(&out, TEXT_SIZE);
    controller_dump(world->controller, &out);
    transcript_say_text(world->transcript, text_bytes(&out));
    text_done(&out);
    return true;
}

static void begin_mind(struct world *world)
{
    struct controller_config config = {
        .settings = world->settings, .trace = &world->trace, .replica_last = world->replicas_from};
    controller_free(world->controller);
    world->controller = controller_new(&config, world->seed);
    ensure(world->controller);
}

static bool play_settings(struct world *world, struct transcript_words *words)
{
    struct error error = {0};
    for (int i = 1; i < words->count; i++) {
        char *value = strchr(words->at[i], '=');
        if (!value)
            return false;
        *value++ = 0;
        if (strcmp(words->at[i], "seed") == 0)
            world->seed = strtoull(value, NULL, 10);
        else if (strcmp(words->at[i], "replicas_from") == 0)
            world->replicas_from = strtoull(value, NULL, 10);
        else if (settings_set(&world->settings, bytes_of_string(words->at[i]),
                              bytes_of_string(value), &error) != 0)
            return false;
    }
    begin_mind(world);
    return true;
}

/* Cuts '...' out of the line. */
static void take_quoted(struct world *world, char *line)
{
    char *first = strchr(line, '\''), *last = strrchr(line, '\'');
    world->quoted[0] = 0;
    if (!first || last <= first + 1)
        return;
    *last = 0;
    snprintf(world->quoted, sizeof(world->quoted), "%s", first + 1);
    *first = 0;
    for (char *at = world->quoted; (at = strstr(at, "\\n"));) {
        *at = '\n';
        memmove(at + 1, at + 2, strlen(at + 2) + 1);
    }
}

static bool story_line(void *owner, const char *line)
{
    static const struct {
        const char *word;
        bool (*play)(struct world *, struct transcript_words *);
    } kinds[] = {
        {"settings", play_settings},
        {"target", play_target},
        {"restored", play_target},
        {"stored", play_stored},
        {"delete", play_delete},
        {"shutdown", play_shutdown},
        {"ready", play_replica},
        {"started", play_replica},
        {"failed", play_replica},
        {"gone", play_replica},
        {"unhealthy", play_replica},
        {"healthy", play_replica},
        {"adopt", play_adopt},
        {"loaded", play_loaded},
        {"time", play_time},
        {"late", play_time},
        {"show", play_show},
        {"replicas", play_replicas},
        {"dump", play_dump},
        {"sleep", play_sleep},
        {"owes", play_owes},
        {"answers", play_owes},
        {"configured", play_configured},
        {"refused", play_configured},
        {"ranks", play_ranks},
        {"whole", play_whole},
        {"several", play_whole},
    };
    struct world *world = owner;
    struct transcript_words words;
    char copy[1024];
    snprintf(copy, sizeof(copy), "%s", line);
    take_quoted(world, copy);
    transcript_cut(&words, copy);
    for (size_t i = 0; words.count && i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(words.at[0], kinds[i].word) == 0)
            return kinds[i].play(world, &words);
    return false;
}

static void *story_begin(struct transcript *transcript)
{
    struct world *world = mem_new(sizeof(*world));
    world->transcript = transcript;
    world->trace = (struct trace){.line = hear, .owner = world};
    world->seed = 1;
    settings_init(&world->settings);
    begin_mind(world);
    return world;
}

static int64_t story_deadline(void *owner)
{
    struct world *world = owner;
    return world->asleep ? 0 : controller_deadline_ns(world->controller);
}

static void story_timer(void *owner)
{
    struct controller_event event = {.type = CONTROLLER_TIME};
    step(owner, &event);
}

static void story_end(void *owner)
{
    struct world *world = owner;
    controller_free(world->controller);
    controller_effects_done(&world->effects);
    mem_free(world);
    ensure_tag(M1, mem_count().live <= 3); /* the texts of the transcript itself */
}

int main(int argc, char **argv)
{
    const struct transcript_mind mind = {.begin = story_begin,
                                         .line = story_line,
                                         .deadline_ns = story_deadline,
                                         .timer = story_timer,
                                         .end = story_end};
    return transcript_main(argc, argv, &mind);
}
