/* SPDX-License-Identifier: Apache-2.0 */
/*
 * door_open: a replica's beginning and end: arguments, document, log, reports to the controller.
 *
 *     manta-replica --instance DIRECTORY --controller SOCKET --replica ID --document-descriptor N
 * [--log-...]
 *
 * is what the node runs.  Whatever fails before the taker stands can only be told to stderr, whose
 * last words the node keeps; what fails later is reported.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "door.h"
#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "wire.h"

enum { DOCUMENT_LIMIT = 64 << 20, REPORT_WAIT_S = 2, MAX_MODELS_DEFAULT = 3 };

/* ---- arguments and document
 * --------------------------------------------------------------------- */

struct arguments {
    const char *directory, *controller, *log_directory, *log_level, *log_encoding;
    uint64_t replica, version;
    int document_descriptor;
    bool log_to_stderr;
};

static int read_arguments(struct arguments *ret, int argument_count, char **arguments)
{
    static const struct option table[] = {{"instance", required_argument, NULL, 'i'},
                                          {"controller", required_argument, NULL, 'c'},
                                          {"replica", required_argument, NULL, 'r'},
                                          {"version-hash", required_argument, NULL, 'v'},
                                          {"document-descriptor", required_argument, NULL, 'd'},
                                          {"log-directory", required_argument, NULL, 'l'},
                                          {"log-level", required_argument, NULL, 'L'},
                                          {"log-encoding", required_argument, NULL, 'E'},
                                          {"log-to-stderr", no_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int option;
    *ret = (struct arguments){.document_descriptor = -1};
    optind = 0; /* begins anew */
    while ((option = getopt_long(argument_count, arguments, "", table, NULL)) != -1) {
        switch (option) {
        case 'i':
            ret->directory = optarg;
            break;
        case 'c':
            ret->controller = optarg;
            break;
        case 'r':
            ret->replica = strtoull(optarg, NULL, 10);
            break;
        case 'v':
            ret->version = strtoull(optarg, NULL, 16);
            break;
        case 'd':
            ret->document_descriptor = atoi(optarg);
            break;
        case 'l':
            ret->log_directory = optarg;
            break;
        case 'L':
            ret->log_level = optarg;
            break;
        case 'E':
            ret->log_encoding = optarg;
            break;
        case 's':
            ret->log_to_stderr = true;
            break;
        default:
            return -1;
        }
    }
    return ret->directory && ret->controller && ret->replica && ret->document_descriptor >= 0 ? 0
                                                                                              : -1;
}

static int read_document(int descriptor, uint8_t **ret_at, size_t *ret_size, struct error *reterr)
{
    struct stat about;
    if (fstat(descriptor, &about) < 0 || about.st_size <= 0 || about.st_size > DOCUMENT_LIMIT)
        return error_set(reterr, ERROR_INVALID, "the replica's document is missing or too large");
    size_t size = (size_t)about.st_size;
    uint8_t *at = mem_try(size);
    if (!at)
        return error_set(reterr, ERROR_MEMORY, "no memory for the replica's document");
    for (size_t done = 0; done < size;) {
        ssize_t part = pread(descriptor, at + done, size - done, (off_t)done);
        if (part <= 0) {
            mem_free(at);
            return error_set(reterr, ERROR_SYSTEM, "the replica's document could not be read: %s",
                             strerror(errno));
        }
        done += (size_t)part;
    }
    close(descriptor);
    *ret_at = at;
    *ret_size = size;
    return 0;
}

/* ---- a replica, wherever it runs
 * ---------------------------------------------------------------- */

static int fill_replica(struct manta_taker *taker, struct error *reterr)
{
    struct manta_replica *replica = &taker->replica;
    const struct target_replica *target = &replica->target;
    if (target_read_replica(bytes_of(replica->document, replica->document_size), &replica->target,
                            reterr) < 0)
        return reterr->code;
    snprintf(replica->id, sizeof replica->id, "%llu", (unsigned long long)taker->number);
    snprintf(replica->app, sizeof replica->app, "%.*s", BYTES_PRINT(target->app));
    snprintf(replica->name, sizeof replica->name, "%.*s", BYTES_PRINT(target->deployment));
    replica->user_config =
        mem_copy_string((const char *)target->user_config.at, target->user_config.size);
    replica->rank = target->world_size ? (int32_t)target->rank : -1;
    replica->world_size = (int32_t)target->world_size;
    return 0;
}

static int open_runtime(struct manta_taker *taker, const struct door_config *config,
                        struct error *reterr)
{
    struct manta_replica *replica = &taker->replica;
    char name[96];
    snprintf(name, sizeof name, "%.30s#%.30s#%s", replica->app, replica->name, replica->id);
    replica->runtime = config->beside ? runtime_ref(config->beside->replica.runtime)
                                      : runtime_new(config->controller ? config->controller : "",
                                                    WIRE_ROLE_HANDLE, name, reterr);
    replica->args = (struct manta_args){
        .document = replica->target.args, .runtime = replica->runtime, .keep = &replica->keep};
    return replica->runtime ? 0 : reterr->code;
}

static int open_taker(struct manta_taker *taker, const struct door_config *from,
                      struct error *reterr)
{
    struct manta_replica *replica = &taker->replica;
    const struct target_replica *target = &replica->target;
    struct taker_config config = {.loop = replica->runtime->loop,
                                  .channels = &replica->runtime->channels,
                                  .settings = &replica->runtime->settings,
                                  .controller_socket =
                                      taker->controller[0] ? taker->controller : NULL,
                                  .replica = from->replica,
                                  .version = from->version,
                                  .configuration = (uint64_t)target->configuration,
                                  .rank = target->world_size ? (uint32_t)target->rank + 1 : 0,
                                  .world_size = (uint32_t)target->world_size,
                                  .app = target->app,
                                  .deployment = target->deployment,
                                  .max_ongoing = target->max_ongoing_requests,
                                  .batch_size = target->max_batch_size,
                                  .batch_concurrency = target->max_concurrent_batches,
                                  .batch_wait_ns = target->batch_wait_us * 1000,
                                  .streams_body = target->stream_body,
                                  .wake = door_wake,
                                  .owner = taker};
    bool nested = runtime_enter(replica->runtime);
    replica->taker = taker_new(&config, reterr);
    runtime_leave(replica->runtime, nested);
    return replica->taker ? 0 : reterr->code;
}

static void door_free(struct manta_taker *taker)
{
    struct manta_replica *replica = &taker->replica;
    if (replica->runtime) {
        bool nested = runtime_enter(replica->runtime);
        if (taker->leader == taker)
            door_unwatch(taker);
        parent_close(&taker->parent);
        taker_free(replica->taker);
        keep_free(keep_detach(&replica->keep));
        arena_clear(&replica->arena);
        runtime_leave(replica->runtime, nested);
        runtime_unref(replica->runtime);
    }
    arena_blocks_done(&replica->arena_blocks);
    list_remove(&taker->follower_link);
    mem_free((void *)atomic_load(&replica->user_config));
    mem_free(replica->old_user_config);
    mem_free(replica->document);
    mem_free(taker);
}

int door_open(const struct door_config *config, struct manta_taker **ret_taker,
              struct error *reterr)
{
    struct manta_taker *taker = mem_try(sizeof *taker);
    struct instance instance = {0};
    if (!taker) {
        mem_free(config->document);
        return error_set(reterr, ERROR_MEMORY, "no memory for a replica");
    }
    taker->replica.document = config->document;
    taker->replica.document_size = config->document_size;
    taker->leader = config->beside ? config->beside->leader : taker;
    taker->number = config->replica;
    taker->version = config->version;
    taker->events = config->events;
    taker->bell = taker->descriptor = -1;
    arena_blocks_init(&taker->replica.arena_blocks, 4);
    arena_init(&taker->replica.arena, &taker->replica.arena_blocks, 1 << 20);
    taker->replica.keep = (struct keep){.arena = &taker->replica.arena};
    list_init(&taker->threads);
    list_init(&taker->followers);
    snprintf(instance.directory, sizeof instance.directory, "%s", config->directory);
    if (config->controller)
        snprintf(taker->controller, sizeof taker->controller, "%s", config->controller);
    instance_replica_socket(&instance, config->replica, taker->socket);
    if (fill_replica(taker, reterr) < 0 || open_runtime(taker, config, reterr) < 0 ||
        open_taker(taker, config, reterr) < 0) {
        door_free(taker);
        return reterr->code;
    }
    if (config->beside) {
        bool nested = runtime_enter(taker->replica.runtime);
        list_push_back(&taker->leader->followers, &taker->follower_link);
        runtime_leave(taker->replica.runtime, nested);
    }
    *ret_taker = taker;
    return 0;
}

/* ---- a replica that is a process
 * ----------------------------------------------------------------- */

/* Bytes that are not safe in a file name become '_' (Ray Serve's rule). */
static void open_log(const struct manta_replica *replica, const struct arguments *arguments)
{
    const struct settings *settings = &replica->runtime->settings;
    const char *encoding = arguments->log_encoding;
    char component[280], path[4200], file[340];
    struct error error = {0};
    snprintf(component, sizeof component, "%s_%s", replica->app, replica->name);
    snprintf(file, sizeof file, "replica_%s_%s.log", component, replica->id);
    for (char *at = file; *at; at++)
        if (*at <= ' ' || *at > '~' || strchr("<>:\"/\\|?*", *at))
            *at = '_';
    snprintf(path, sizeof path, "%s/%s",
             arguments->log_directory ? arguments->log_directory : arguments->directory, file);
    struct log_config config = {
        .path = arguments->log_to_stderr ? NULL : path,
        .encoding = encoding && !strcmp(encoding, "JSON") ? LOG_JSON : LOG_TEXT,
        .level = arguments->log_level ? (enum log_level)atoi(arguments->log_level) : LOG_INFO,
        .component = component,
        .component_id = replica->id,
        .queue_limit = (size_t)settings->log_queue_limit,
        .rotate_size = (uint64_t)settings->log_rotate_size,
        .rotate_count = (uint32_t)settings->log_rotate_count};
    if (log_open(&config, &error) < 0)
        fprintf(stderr, "manta-replica: %s\n", error.text);
}

static void on_terminate(void *owner, int signal_number)
{
    struct manta_taker *taker = owner;
    struct list_link *link;
    (void)signal_number;
    if (taker->terminated++)
        _exit(1);
    manta_taker_drain(taker);
    list_each (link, &taker->followers)
        manta_taker_drain(list_entry(link, struct manta_taker, follower_link));
}

/* Nobody could end it later: it ends now, and what user code started with it. */
static void node_ended(void *owner)
{
    (void)owner;
    log_print(LOG_ERROR, "the node is gone");
    log_close();
    parent_follow();
}

/* In a service it serves on without a node, and brings a later one what is read of its stderr. */
static void watch_node(struct manta_taker *taker, const struct parent_bond *bond)
{
    const struct manta_replica *replica = &taker->replica;
    struct runtime *runtime = replica->runtime;
    uint8_t bytes[1024];
    struct wire_role_here here = {.role = WIRE_ROLE_REPLICA,
                                  .number = taker->number,
                                  .started = child_start_time(getpid()),
                                  .app = bytes_of_string(replica->app),
                                  .deployment = bytes_of_string(replica->name)};
    struct parent_greeting greeting = {.descriptor = -1,
                                       .away_limit_ms = runtime->settings.node_away_limit_ms};
    size_t size = wire_return_write(&here, (uint32_t)getpid(), bytes, sizeof bytes);
    greeting.bytes = bytes_of(bytes, size);
    parent_watch(&taker->parent, runtime->loop, bond, &greeting, node_ended, taker);
}

static void become_process(struct manta_taker *taker, const struct arguments *arguments,
                           const struct parent_bond *bond, bool keep_signals)
{
    struct runtime *runtime = taker->replica.runtime;
    char page[64];
    if (taker->leader == taker) {
        taker->process = true;
        open_log(&taker->replica, arguments);
        snprintf(page, sizeof page, "replica-%s", taker->replica.id);
        metrics_open(arguments->directory, page);
    }
    helm_take(runtime->helm);
    if (!keep_signals && taker->leader == taker)
        loop_on_signal(runtime->loop, SIGTERM, on_terminate, taker);
    if (taker->leader == taker)
        watch_node(taker, bond);
    helm_give(runtime->helm);
}

int manta_taker_open(int argument_count, char **arguments, const struct manta_taker_options *given,
                     struct manta_taker **ret_taker, struct manta_error *reterr)
{
    struct manta_taker_options options = {MANTA_TAKER_OPTIONS};
    struct arguments said;
    struct error error = {0};
    struct manta_taker *taker = NULL;
    struct parent_bond bond;
    parent_take_bond(&bond); /* there are no threads yet */
    if (given)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (read_arguments(&said, argument_count, arguments) < 0)
        return manta_error_set(reterr, MANTA_EINVALID,
                               "a replica is started by manta-node; see `manta --help`");
    struct door_config config = {.beside = options.beside,
                                 .directory = said.directory,
                                 .controller = said.controller,
                                 .replica = said.replica,
                                 .version = said.version,
                                 .events = options.events};
    if (read_document(said.document_descriptor, &config.document, &config.document_size, &error) <
            0 ||
        door_open(&config, &taker, &error) < 0)
        return runtime_error(reterr, &error);
    become_process(taker, &said, &bond, options.keep_signals);
    *ret_taker = taker;
    return 0;
}

/* ---- what the document says
 * ---------------------------------------------------------------------- */

struct manta_replica *manta_taker_replica(struct manta_taker *taker)
{
    return &taker->replica;
}

void manta_taker_set_state(struct manta_taker *taker, void *state)
{
    taker->replica.state = state;
}

/* The taker's own memory is touched by nobody else yet, or the strings are there. */
static const char *string_of(struct manta_taker *taker, struct bytes bytes)
{
    if (!bytes.size)
        return "";
    bool nested = runtime_enter(taker->replica.runtime);
    const char *string = keep_string(&taker->replica.keep, bytes);
    runtime_leave(taker->replica.runtime, nested);
    return string ? string : "";
}

static double seconds(int64_t us)
{
    return (double)us * 1e-6;
}

void manta_taker_describe(const struct manta_taker *taker, struct manta_taker_document *document)
{
    static const uint8_t NIL = 0xc0;
    struct manta_taker *keeper = (struct manta_taker *)taker; /* strings are made on first use */
    const struct target_replica *target = &taker->replica.target;
    struct manta_taker_document whole = {
        .size = document->size,
        .runner = target->runner.size ? string_of(keeper, target->runner) : "c",
        .library = string_of(keeper, target->library),
        .symbol = string_of(keeper, target->symbol),
        .code = target->code.size ? target->code.at : NULL,
        .code_size = target->code.size,
        .args = {target->args.at, target->args.size},
        .options = {target->options.size ? target->options.at : &NIL,
                    target->options.size ? target->options.size : 1},
        .user_config = *atomic_load(&taker->replica.user_config)
                           ? atomic_load(&taker->replica.user_config)
                           : NULL,
        .threads = (int32_t)target->threads,
        .max_ongoing_requests = (int32_t)target->max_ongoing_requests,
        .max_batch_size = (int32_t)target->max_batch_size,
        .max_concurrent_batches = (int32_t)target->max_concurrent_batches,
        .batch_wait_timeout_s = seconds(target->batch_wait_us),
        .health_check_period_s = seconds(target->health_check_period_us),
        .health_check_timeout_s = seconds(target->health_check_timeout_us),
        .graceful_shutdown_timeout_s = seconds(target->graceful_shutdown_timeout_us),
        .stream_body = target->stream_body,
        .max_models = target->max_models ? (int32_t)target->max_models : MAX_MODELS_DEFAULT,
        .model_load_timeout_s = seconds(target->model_load_timeout_us),
    };
    memcpy(document, &whole, document->size < sizeof whole ? document->size : sizeof whole);
}

void manta_taker_set_batched(struct manta_taker *taker, bool batched)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker_set_batched(taker->replica.taker, batched);
    runtime_leave(taker->replica.runtime, nested);
}

/* ---- reports
 * -------------------------------------------------------------------------------------- */

int manta_taker_ready(struct manta_taker *taker, struct manta_error *reterr)
{
    struct manta_replica *replica = &taker->replica;
    struct error error = {0};
    bool nested = runtime_enter(replica->runtime);
    int code = taker_listen(replica->taker, taker->socket, &error);
    if (code == 0) {
        taker_report_ready(replica->taker);
        channel_set_flush(&replica->runtime->channels);
    }
    runtime_leave(replica->runtime, nested);
    if (code < 0)
        return runtime_error(reterr, &error);
    log_print(LOG_INFO, "ready: deployment '%s' of application '%s'", replica->name, replica->app);
    return 0;
}

static bool reports_are_sent(void *owner)
{
    return taker_reports_sent(((struct manta_taker *)owner)->replica.taker);
}

void manta_taker_failed(struct manta_taker *taker, int code, const char *text)
{
    struct runtime *runtime = taker->replica.runtime;
    log_print(LOG_ERROR, "replica %s of deployment '%s' failed to start: %s", taker->replica.id,
              taker->replica.name, text);
    bool nested = runtime_enter(runtime);
    taker_report_failed(taker->replica.taker, code < 0 ? code : ERROR_USER, bytes_of_string(text));
    channel_set_flush(&runtime->channels);
    helm_wait(runtime->helm, reports_are_sent, taker,
              loop_refresh_now_ns(runtime->loop) + REPORT_WAIT_S * 1000000000LL);
    runtime_leave(runtime, nested);
}

static void report_health(struct manta_taker *taker, bool healthy, const char *text)
{
    struct runtime *runtime = taker->replica.runtime;
    bool nested = runtime_enter(runtime);
    taker_report_health(taker->replica.taker, healthy, bytes_of_string(text));
    channel_set_flush(&runtime->channels);
    runtime_leave(runtime, nested);
}

void manta_taker_healthy(struct manta_taker *taker)
{
    report_health(taker, true, "");
}

void manta_taker_unhealthy(struct manta_taker *taker, const char *text)
{
    report_health(taker, false, text);
}

/* ---- the end
 * -------------------------------------------------------------------------------------- */

void manta_taker_drain(struct manta_taker *taker)
{
    struct manta_replica *replica = &taker->replica;
    bool nested = runtime_enter(replica->runtime);
    loop_refresh_now_ns(replica->runtime->loop);
    taker_drain(replica->taker, replica->target.graceful_shutdown_timeout_us * 1000);
    loop_turn_again(replica->runtime->loop); /* it may be drained already: the turn finds out */
    runtime_leave(replica->runtime, nested);
}

void manta_taker_end_calls(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    runtime_close(taker->replica.runtime);
    runtime_leave(taker->replica.runtime, nested);
}

/* What the process has once ends with the taker that opened it. */
static void end_process(bool process)
{
    log_print(LOG_INFO, "ended");
    if (!process)
        return;
    log_close();
    metrics_close();
}

void manta_taker_log_line(struct manta_taker *taker, int level, const char *line, size_t size)
{
    (void)taker; /* there is one log in a process */
    log_line((enum log_level)level, bytes_of(line, size));
}

void manta_taker_keep(struct manta_taker *taker)
{
    bool nested = runtime_enter(taker->replica.runtime);
    taker->kept = true;
    runtime_leave(taker->replica.runtime, nested);
}

/*
 * When user code has not answered a request in the time it had it may still touch what is its: then
 * nothing is taken apart.
 */
bool manta_taker_close(struct manta_taker *taker)
{
    if (!taker)
        return true;
    struct manta_replica *replica = &taker->replica;
    bool process = taker->process;
    bool nested = runtime_enter(replica->runtime);
    if (taker->leader == taker)
        runtime_close(replica->runtime);
    size_t held = replica->held_count;
    bool kept = taker->kept || held > 0;
    ensure(kept || (list_empty(&taker->threads) && list_empty(&taker->followers)));
    if (kept) {
        /* A run time may keep it because its own threads know it: nobody needs to hear of that. */
        log_print(held ? LOG_WARNING : LOG_DEBUG, "ends with %zu requests not answered%s", held,
                  taker->kept ? ", memory left to user code" : "");
        channel_set_flush(&replica->runtime->channels);
        unlink(taker->socket);
    }
    runtime_leave(replica->runtime, nested);
    if (!kept)
        door_free(taker);
    end_process(process);
    return !kept;
}
