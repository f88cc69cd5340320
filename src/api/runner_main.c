/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_main: the life of a replica's process: arguments, document, open, check, serve, close.
 *
 *     manta-replica --instance DIRECTORY --controller SOCKET --replica ID --document-descriptor N
 * [--log-...]
 *
 * The node starts it.  Whatever fails before it serves is reported to the controller with its text
 * and ends the process with status 1.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <manta/sys/replica.h>

#include "ensure.h"
#include "library.h"
#include "log.h"
#include "mem.h"
#include "metrics.h"
#include "parent.h"
#include "instance.h"
#include "runner_health.h"
#include "wire.h"

enum { DOCUMENT_LIMIT = 64 << 20, REPORT_WAIT_S = 2 };

struct runner_options {
    const char *directory, *controller, *log_directory, *log_level, *log_encoding;
    uint64_t replica, version;
    int document_descriptor;
    int parent_descriptor; /* parent.h; -1: none */
    bool log_to_stderr;
};

static int parse_options(struct runner_options *options, int argument_count, char **arguments)
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
    options->document_descriptor = -1;
    optind = 1;
    while ((option = getopt_long(argument_count, arguments, "", table, NULL)) != -1) {
        switch (option) {
        case 'i':
            options->directory = optarg;
            break;
        case 'c':
            options->controller = optarg;
            break;
        case 'r':
            options->replica = strtoull(optarg, NULL, 10);
            break;
        case 'v':
            options->version = strtoull(optarg, NULL, 16);
            break;
        case 'd':
            options->document_descriptor = atoi(optarg);
            break;
        case 'l':
            options->log_directory = optarg;
            break;
        case 'L':
            options->log_level = optarg;
            break;
        case 'E':
            options->log_encoding = optarg;
            break;
        case 's':
            options->log_to_stderr = true;
            break;
        default:
            return -1;
        }
    }
    return options->directory && options->controller && options->replica &&
                   options->document_descriptor >= 0
               ? 0
               : -1;
}

static int read_document(struct manta_replica *replica, int descriptor, struct error *reterr)
{
    struct stat about;
    if (fstat(descriptor, &about) < 0 || about.st_size <= 0 || about.st_size > DOCUMENT_LIMIT)
        return error_set(reterr, ERROR_INVALID, "the replica's document is missing or too large");
    replica->document = mem_new((size_t)about.st_size);
    replica->document_size = (size_t)about.st_size;
    for (size_t done = 0; done < replica->document_size;) {
        ssize_t size =
            pread(descriptor, replica->document + done, replica->document_size - done, (off_t)done);
        if (size <= 0)
            return error_set(reterr, ERROR_SYSTEM, "the replica's document could not be read: %s",
                             strerror(errno));
        done += (size_t)size;
    }
    close(descriptor);
    return target_read_replica(bytes_of(replica->document, replica->document_size),
                               &replica->target, reterr);
}

static void name_replica(struct manta_replica *replica, uint64_t id)
{
    snprintf(replica->id, sizeof replica->id, "%llu", (unsigned long long)id);
    snprintf(replica->app, sizeof replica->app, "%.*s", BYTES_PRINT(replica->target.app));
    snprintf(replica->name, sizeof replica->name, "%.*s", BYTES_PRINT(replica->target.deployment));
    replica->user_config = mem_copy_string((const char *)replica->target.user_config.at,
                                           replica->target.user_config.size);
}

/* Bytes that are not safe in a file name become '_' (Ray Serve's rule). */
static void open_log(const struct manta_replica *replica, const struct runner_options *options)
{
    char component[280], path[4200], file[340];
    struct error error = {0};
    snprintf(component, sizeof component, "%s_%s", replica->app, replica->name);
    snprintf(file, sizeof file, "replica_%s_%s.log", component, replica->id);
    for (char *at = file; *at; at++)
        if (*at <= ' ' || *at > '~' || strchr("<>:\"/\\|?*", *at))
            *at = '_';
    snprintf(path, sizeof path, "%s/%s",
             options->log_directory ? options->log_directory : options->directory, file);
    struct log_config config = {
        .path = options->log_to_stderr ? NULL : path,
        .encoding =
            options->log_encoding && !strcmp(options->log_encoding, "JSON") ? LOG_JSON : LOG_TEXT,
        .level = options->log_level ? (enum log_level)atoi(options->log_level) : LOG_INFO,
        .component = component,
        .component_id = replica->id,
        .queue_limit = (size_t)replica->runtime->settings.log_queue_limit,
        .rotate_size = (uint64_t)replica->runtime->settings.log_rotate_size,
        .rotate_count = (uint32_t)replica->runtime->settings.log_rotate_count};
    if (log_open(&config, &error) < 0)
        fprintf(stderr, "manta-replica: %s\n", error.text);
}

static int open_runtime(struct manta_replica *replica, const struct runner_options *options,
                        struct error *reterr)
{
    char name[96];
    snprintf(name, sizeof name, "%.30s#%.30s#%s", replica->app, replica->name, replica->id);
    replica->runtime = runtime_new(options->controller, WIRE_ROLE_HANDLE, name, reterr);
    return replica->runtime ? 0 : reterr->code;
}

static void runner_wake(void *owner)
{
    struct manta_replica *replica = owner;
    struct taker_event event;
    while (taker_next(replica->taker, &event))
        runner_on_event(replica, &event);
    helm_changed(replica->runtime->helm);
}

static int open_taker(struct manta_replica *replica, const struct runner_options *options,
                      struct error *reterr)
{
    const struct target_replica *target = &replica->target;
    struct taker_config config = {.loop = replica->runtime->loop,
                                  .channels = &replica->runtime->channels,
                                  .settings = &replica->runtime->settings,
                                  .controller_socket = options->controller,
                                  .replica = options->replica,
                                  .version = options->version,
                                  .app = target->app,
                                  .deployment = target->deployment,
                                  .max_ongoing = target->max_ongoing_requests,
                                  .batch_size = target->max_batch_size,
                                  .batch_concurrency = target->max_concurrent_batches,
                                  .batch_wait_ns = target->batch_wait_us * 1000,
                                  .batched = replica->deployment.call_batch != NULL,
                                  .streams_body = target->stream_body,
                                  .wake = runner_wake,
                                  .owner = replica};
    replica->taker = taker_new(&config, reterr);
    return replica->taker ? 0 : reterr->code;
}

/* Before the taker, so that the batch entry point is known; its errors are reported once the taker
 * stands. */
static int load(struct manta_replica *replica, struct error *reterr)
{
    char path[4096], symbol[256];
    if (replica->target.library.size >= sizeof path || replica->target.symbol.size >= sizeof symbol)
        return error_set(reterr, ERROR_INVALID,
                         "the path of the shared object or the symbol is too long");
    snprintf(path, sizeof path, "%.*s", BYTES_PRINT(replica->target.library));
    snprintf(symbol, sizeof symbol, "%.*s", BYTES_PRINT(replica->target.symbol));
    if (library_open(path, &replica->library, reterr) < 0)
        return reterr->code;
    return library_deployment(replica->library, symbol, &replica->deployment, reterr);
}

/* Constructor, first user_config, first health check: helm not held; the standby steers meanwhile.
 */
static int construct(struct manta_replica *replica, struct error *reterr)
{
    const struct manta_deployment *deployment = &replica->deployment;
    struct manta_error error = {0};
    helm_take(replica->runtime->helm);
    helm_enter_user_code(replica->runtime->helm);
    helm_give(replica->runtime->helm);
    int code = deployment->open ? deployment->open(replica, &replica->state, &error) : 0;
    replica->opened = code >= 0;
    if (code >= 0 && replica->target.user_config.size && deployment->reconfigure)
        code = deployment->reconfigure(replica->state, replica->user_config, &error);
    if (code < 0)
        error_set(reterr, ERROR_USER, "%s", error.text[0] ? error.text : manta_error_text(code));
    else
        code = runner_check_health(replica, reterr);
    helm_take(replica->runtime->helm);
    helm_leave_user_code(replica->runtime->helm);
    helm_give(replica->runtime->helm);
    return code < 0 ? reterr->code : 0;
}

static int listen_and_report(struct manta_replica *replica, const struct runner_options *options,
                             struct error *reterr)
{
    struct instance instance = {0};
    snprintf(instance.directory, sizeof instance.directory, "%s", options->directory);
    instance_replica_socket(&instance, options->replica, replica->socket);
    helm_take(replica->runtime->helm);
    int code = taker_listen(replica->taker, replica->socket, reterr);
    if (code == 0) {
        taker_report_ready(replica->taker);
        channel_set_flush(&replica->runtime->channels);
    }
    helm_give(replica->runtime->helm);
    return code;
}

static bool reports_are_sent(void *owner)
{
    return taker_reports_sent(((struct manta_replica *)owner)->taker);
}

static void report_failure(struct manta_replica *replica, const struct error *error)
{
    log_print(LOG_ERROR, "replica %s of deployment '%s' failed to start: %s", replica->id,
              replica->name, error->text);
    if (!replica->taker)
        return;
    helm_take(replica->runtime->helm);
    taker_report_failed(replica->taker, error->code, bytes_of_string(error->text));
    channel_set_flush(&replica->runtime->channels);
    helm_wait(replica->runtime->helm, reports_are_sent, replica,
              loop_refresh_now_ns(replica->runtime->loop) + REPORT_WAIT_S * 1000000000LL);
    helm_give(replica->runtime->helm);
}

static void on_terminate(void *owner, int signal_number)
{
    static int count;
    struct manta_replica *replica = owner;
    (void)signal_number;
    if (count++)
        _exit(1);
    taker_drain(replica->taker, replica->target.graceful_shutdown_timeout_us * 1000);
}

/* Nobody could end it later: it ends now, and what user code started with it. */
static void node_ended(void *owner)
{
    (void)owner;
    log_print(LOG_ERROR, "the node is gone");
    log_close();
    parent_follow();
}

static bool is_stopping(struct manta_replica *replica)
{
    helm_take(replica->runtime->helm);
    bool stopping = replica->stopping;
    helm_give(replica->runtime->helm);
    return stopping;
}

static int run(struct manta_replica *replica, const struct runner_options *options,
               struct error *reterr)
{
    int load_code = load(replica, reterr);
    struct error load_error = *reterr;
    if (open_taker(replica, options, reterr) < 0)
        return reterr->code;
    if (load_code < 0) {
        *reterr = load_error;
        return load_code;
    }
    helm_take(replica->runtime->helm);
    loop_on_signal(replica->runtime->loop, SIGTERM, on_terminate, replica);
    static struct parent parent; /* one per process */
    parent_watch(&parent, replica->runtime->loop, options->parent_descriptor, node_ended, replica);
    helm_give(replica->runtime->helm);
    if (construct(replica, reterr) < 0)
        return reterr->code;
    if (is_stopping(replica))
        return 0; /* it was told to end while it was being constructed */
    if (listen_and_report(replica, options, reterr) < 0)
        return reterr->code;
    log_print(LOG_INFO, "ready: deployment '%s' of application '%s'", replica->name, replica->app);
    runner_health_start(replica);
    int code = runner_serve(replica, reterr);
    replica->check_hangs = !runner_health_stop(replica);
    return code;
}

/*
 * Calls that are out end first, while the state that their callbacks use is there.  When user code
 * has not answered a request in the time it had, or hangs in a check, it may still touch what is
 * its: the process then ends without taking anything apart.
 */
static void end(struct manta_replica *replica, int status)
{
    struct helm *helm = replica->runtime->helm;
    helm_take(helm);
    runtime_close(replica->runtime);
    helm_give(helm);
    if (replica->opened && replica->deployment.close && !replica->check_hangs)
        replica->deployment.close(replica->state);
    helm_take(helm);
    bool held = replica->held_count > 0 || replica->check_hangs;
    if (held) {
        log_print(LOG_WARNING, "ends with %u requests not answered%s", replica->held_count,
                  replica->check_hangs ? " and check_health running" : "");
        channel_set_flush(&replica->runtime->channels);
        unlink(replica->socket);
    } else {
        taker_free(replica->taker);
        keep_free(keep_detach(&replica->keep));
        arena_clear(&replica->arena);
    }
    helm_give(helm);
    if (!held)
        runtime_unref(replica->runtime);
    log_print(LOG_INFO, "ended");
    log_close();
    metrics_close();
    if (held)
        _exit(status);
}

int manta_replica_main(int argument_count, char **arguments)
{
    static struct manta_replica replica; /* one per process */
    struct runner_options options = {0};
    struct error error = {0};
    options.parent_descriptor = parent_take_descriptor(); /* there are no threads yet */
    if (parse_options(&options, argument_count, arguments) < 0) {
        fprintf(stderr, "manta-replica is started by manta-node; see `manta --help`\n");
        return 2;
    }
    if (read_document(&replica, options.document_descriptor, &error) < 0) {
        fprintf(stderr, "manta-replica: %s\n", error.text);
        return 1;
    }
    name_replica(&replica, options.replica);
    arena_blocks_init(&replica.arena_blocks, 4);
    arena_init(&replica.arena, &replica.arena_blocks, 1 << 20);
    if (open_runtime(&replica, &options, &error) < 0) {
        fprintf(stderr, "manta-replica: %s\n", error.text);
        return 1;
    }
    replica.keep = (struct keep){.arena = &replica.arena};
    replica.args = (struct manta_args){
        .document = replica.target.args, .runtime = replica.runtime, .keep = &replica.keep};
    open_log(&replica, &options);
    char page[64];
    snprintf(page, sizeof page, "replica-%s", replica.id);
    metrics_open(options.directory, page);
    int code = run(&replica, &options, &error);
    if (code < 0)
        report_failure(&replica, &error);
    end(&replica, code < 0 ? 1 : 0);
    return code < 0 ? 1 : 0;
}
