/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manta deploy: makes what a file says the wanted state of a running instance.
 *
 * The file is read and checked as a whole; each application is built in a process of its own; then
 * all of them go to the controller as one target, which compares it with what runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_build.h"
#include "mem.h"

struct deploy {
    const char *path; /* "-": standard input */
    int wait;
    long timeout_s, build_timeout_s;
    const char *directory;
    struct deploy_file *file;
    struct build *builds;
    struct manta_instance *instance;
};

static int parse(struct deploy *deploy, int argument_count, char **arguments)
{
    static const struct option TABLE[] = {{"no-wait", no_argument, NULL, 'n'},
                                          {"timeout-s", required_argument, NULL, 't'},
                                          {"build-timeout-s", required_argument, NULL, 'b'},
                                          {"app-dir", required_argument, NULL, 'a'},
                                          {"as-ray-serve", no_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int option;
    opterr = 0;
    while ((option = getopt_long(argument_count, arguments, "", TABLE, NULL)) != -1)
        if (option == 'n')
            deploy->wait = 0;
        else if (option == 'a')
            deploy->directory = optarg;
        else if (option == 'r')
            setenv("MANTA_AS_RAY_SERVE", "1", 1); /* read where applications are built */
        else if (option != 't' && option != 'b')
            return cli_misused(&command_deploy, "unknown option or missing value");
        else if (!cli_number(optarg, 0, 86400,
                             option == 't' ? &deploy->timeout_s : &deploy->build_timeout_s))
            return cli_misused(&command_deploy, "--%stimeout-s is '%s', not 0 to 86400",
                               option == 't' ? "" : "build-", optarg);
    if (optind == argument_count)
        return cli_misused(&command_deploy, "say which file, or - for standard input");
    deploy->path = arguments[optind++];
    if (optind < argument_count)
        return cli_misused(&command_deploy,
                           "'%s': application arguments cannot be specified for a file; they stand "
                           "in it (args)",
                           arguments[optind]);
    return CLI_OK;
}

/* ---- the file ---- */

static int read_text(const char *path, struct text *out)
{
    uint8_t room[65536];
    ssize_t size;
    int descriptor = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    if (descriptor < 0) {
        cli_say("%s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    while ((size = read(descriptor, room, sizeof room)) > 0 && !out->failed)
        text_add(out, bytes_of(room, (size_t)size));
    if (size < 0)
        cli_say("%s: %s", path, strerror(errno));
    else if (out->failed)
        cli_say("%s: it has more than %d bytes", path, DEPLOY_FILE_SIZE_LIMIT);
    close(descriptor);
    return size < 0 || out->failed ? CLI_FAILED : CLI_OK;
}

static int read_file(struct deploy *deploy)
{
    struct text text, complaints;
    text_init(&text, DEPLOY_FILE_SIZE_LIMIT);
    text_init(&complaints, 1 << 20);
    int code = read_text(deploy->path, &text);
    if (code == CLI_OK) {
        deploy->file = deploy_file_read(text_bytes(&text),
                                        strcmp(deploy->path, "-") ? deploy->path : "standard input",
                                        &complaints);
        if (!deploy->file) {
            fputs(text_string(&complaints), stderr);
            cli_say("the file is wrong: nothing was changed");
            code = CLI_USAGE;
        }
    }
    text_done(&text);
    text_done(&complaints);
    return code;
}

/* ---- the instance ---- */

static int join(struct deploy *deploy)
{
    struct manta_error error = {0};
    if (manta_connect(NULL, &deploy->instance, &error) == 0)
        return CLI_OK;
    cli_fail(&error);
    if (error.code == MANTA_ENOTRUNNING)
        cli_say("start one first: `manta start` (in the foreground, or as a service: "
                "docs/service.md)");
    return CLI_FAILED;
}

/* Options of an instance count when it starts. */
static void compare_options(const struct deploy *deploy)
{
    const struct deploy_file *file = deploy->file;
    int port = manta_http_port(deploy->instance);
    if (file->no_http && port > 0)
        cli_say("warning: proxy_location is Disabled, but the instance listens on port %d; options "
                "of the instance count when it starts",
                port);
    else if (!file->no_http && file->http_port > 0 && port != file->http_port)
        cli_say("warning: http_options.port is %d, but the instance %s; options of the instance "
                "count when it starts",
                file->http_port, port > 0 ? "listens on another port" : "does not listen");
}

static void show_progress(void *owner, const char *line)
{
    (void)owner;
    cli_say("%s", line);
}

static void give_up(int number)
{
    static const char WORDS[] =
        "manta: not everything runs within --timeout-s; it goes on: see `manta status`\n";
    (void)number;
    if (write(STDERR_FILENO, WORDS, sizeof WORDS - 1) < 0)
        _exit(CLI_FAILED);
    _exit(CLI_FAILED);
}

static int apply(struct deploy *deploy, struct manta_error *error)
{
    uint32_t count = deploy->file->app_count;
    struct manta_apply_app *apps = mem_new((count + 1) * sizeof *apps);
    struct manta_apply_options options = {
        MANTA_APPLY_OPTIONS, .declarative = true, .progress = show_progress};
    for (uint32_t i = 0; i < count; i++) {
        struct build *build = &deploy->builds[i];
        struct bytes document = bytes_skip(text_bytes(&build->document), 1); /* behind the 'D' */
        apps[i] = (struct manta_apply_app){MANTA_APPLY_APP};
        apps[i].name = build->app->name;
        apps[i].route_prefix = build->app->route_prefix;
        if (build->failure.size)
            apps[i].build_failure = text_string(&build->failure);
        else
            apps[i].document = (struct manta_value){document.at, document.size};
    }
    options.no_wait = !deploy->wait;
    signal(SIGALRM, give_up);
    alarm((unsigned)(deploy->wait ? deploy->timeout_s : 0));
    int code = manta_apply(deploy->instance, &options, apps, count, error);
    alarm(0);
    mem_free(apps);
    return code;
}

/* ---- what came of it ---- */

static int print_app(const struct manta_value *apps, const struct deploy_file_app *app,
                     const struct deploy *deploy)
{
    struct manta_value found, status, message;
    const char *word = "", *text = "";
    size_t word_size = 0, text_size = 0;
    if (manta_value_get(apps, app->name, &found, NULL) < 0)
        return CLI_FAILED;
    if (manta_value_get(&found, "status", &status, NULL) == 0)
        manta_value_string(&status, &word, &word_size, NULL);
    if (manta_value_get(&found, "message", &message, NULL) == 0)
        manta_value_string(&message, &text, &text_size, NULL);
    int port = manta_http_port(deploy->instance);
    bool runs = word_size == 7 && !memcmp(word, "RUNNING", 7);
    if (runs && app->route_prefix && port > 0)
        cli_say("application '%s' is RUNNING at http://127.0.0.1:%d%s", app->name, port,
                app->route_prefix);
    else
        cli_say("application '%s' is %.*s%s%.*s", app->name, (int)word_size, word,
                text_size ? ": " : "", (int)text_size, text);
    return runs || !deploy->wait ? CLI_OK : CLI_FAILED;
}

/* The map of applications, in the pack. */
static int ask_status(const struct deploy *deploy, struct manta_pack *pack,
                      struct manta_value *ret_apps)
{
    struct manta_error error = {0};
    struct manta_value status;
    if (!pack || manta_status(deploy->instance, pack, &error) < 0 ||
        manta_pack_value(pack, &status, &error) < 0 ||
        manta_value_get(&status, "applications", ret_apps, &error) < 0)
        return cli_fail(&error);
    return CLI_OK;
}

static int is_in_file(const struct deploy_file *file, const char *name, size_t size)
{
    for (uint32_t i = 0; i < file->app_count; i++)
        if (strlen(file->apps[i].name) == size && !memcmp(file->apps[i].name, name, size))
            return 1;
    return 0;
}

/* What came with an earlier file and is not in this one. */
static void say_deleted(const struct deploy *deploy)
{
    struct manta_pack *pack = manta_pack_new();
    struct manta_value apps, key, app, source;
    const char *name, *word;
    size_t name_size, word_size;
    int64_t count = ask_status(deploy, pack, &apps) == CLI_OK ? manta_value_count(&apps) : 0;
    for (int64_t i = 0; i < count; i++)
        if (manta_value_pair(&apps, (size_t)i, &key, &app, NULL) == 0 &&
            manta_value_string(&key, &name, &name_size, NULL) == 0 &&
            manta_value_get(&app, "source", &source, NULL) == 0 &&
            manta_value_string(&source, &word, &word_size, NULL) == 0 && word_size == 11 &&
            !memcmp(word, "declarative", 11) && !is_in_file(deploy->file, name, name_size))
            cli_say("application '%.*s' is not in the file: it is deleted", (int)name_size, name);
    manta_pack_free(pack);
}

static int print_result(const struct deploy *deploy)
{
    struct manta_value apps;
    struct manta_pack *pack = manta_pack_new();
    int code = ask_status(deploy, pack, &apps);
    uint32_t count = code == CLI_OK ? deploy->file->app_count : 0;
    for (uint32_t i = 0; i < count; i++)
        if (!deploy->builds[i].failure.size &&
            print_app(&apps, &deploy->file->apps[i], deploy) != CLI_OK)
            code = CLI_FAILED; /* the others are told of too */
    manta_pack_free(pack);
    return code;
}

static int build(struct deploy *deploy)
{
    uint32_t count = deploy->file->app_count, failed = 0;
    struct build_options options = {.directory = deploy->directory,
                                    .limit_s = deploy->build_timeout_s};
    deploy->builds = mem_new((count + 1) * sizeof *deploy->builds);
    for (uint32_t i = 0; i < count; i++)
        deploy->builds[i].app = &deploy->file->apps[i];
    cli_build_all(deploy->builds, count, &options);
    for (uint32_t i = 0; i < count; i++) {
        const struct build *one = &deploy->builds[i];
        if (!one->failure.size)
            continue;
        failed++;
        cli_say("application '%s' (%s:%u) could not be built: %s", one->app->name, deploy->path,
                one->app->line, text_string(&one->failure));
    }
    return failed ? CLI_FAILED : CLI_OK;
}

static int run(struct deploy *deploy)
{
    struct manta_error error = {0};
    int code = read_file(deploy);
    if (code != CLI_OK || (code = join(deploy)) != CLI_OK)
        return code;
    compare_options(deploy);
    int built = build(deploy);
    say_deleted(deploy);
    code = apply(deploy, &error);
    if (code < 0 && code != MANTA_EDEPLOYFAILED)
        return cli_fail(&error);
    int result = print_result(deploy);
    return built != CLI_OK || result != CLI_OK || code < 0 ? CLI_FAILED : CLI_OK;
}

static int deploy_command(int argument_count, char **arguments)
{
    struct deploy deploy = {.wait = 1, .build_timeout_s = 300, .directory = "."};
    int code = parse(&deploy, argument_count, arguments);
    if (code == CLI_OK)
        code = run(&deploy);
    for (uint32_t i = 0; deploy.builds && i < deploy.file->app_count; i++) {
        text_done(&deploy.builds[i].document);
        text_done(&deploy.builds[i].failure);
    }
    mem_free(deploy.builds);
    deploy_file_free(deploy.file);
    manta_disconnect(deploy.instance);
    return code;
}

const struct command command_deploy = {
    .name = "deploy",
    .summary = "make what a file says run, and nothing else of earlier files",
    .help =
        "usage: manta deploy [options] FILE\n"
        "\n"
        "Makes the applications of FILE (Ray Serve's YAML or JSON; - for standard input) the wanted\n"
        "state of the running instance named by MANTA_INSTANCE (default: \"default\").  What does "
        "not\n"
        "differ from what runs is left alone; applications of an earlier file that are not in this "
        "one\n"
        "are drained and deleted; those that were run by `manta run` or serve.run stay.  An "
        "application\n"
        "that fails is DEPLOY_FAILED, what it was before serves on, and the others run.\n"
        "\n"
        "  --no-wait              return when the instance has accepted it\n"
        "  --timeout-s S          wait so long for everything to run (default: 0, for ever)\n"
        "  --build-timeout-s S    time for importing one application (default: 300; 0: no limit)\n"
        "  --app-dir DIRECTORY    where modules and shared objects are looked for (default: .)\n"
        "  --as-ray-serve         Python applications that import ray.serve get manta.serve\n"
        "\n"
        "exit status: 0 everything runs, 1 something does not, 2 the arguments or the file are "
        "wrong\n"
        "and nothing was changed\n"
        "\n"
        "example:\n"
        "  manta start &\n"
        "  manta deploy shop.yaml\n",
    .run = deploy_command,
};
