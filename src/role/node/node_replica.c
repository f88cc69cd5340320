/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_replica: the processes that run user code.
 *
 * They are the controller's to command and ours to watch: they outlive it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ensure.h"
#include "log.h"
#include "mem.h"
#include "node.h"
#include "page.h"
#include "parent.h"
#include "socket.h"

enum {
    DOCUMENT_DESCRIPTOR = 3,
    REPLICA_OOM_SCORE = 500, /* when memory is short, user code goes first */
};

static const char PYTHON[] = "python:"; /* a runner: the path of an interpreter follows */

/* ---- the end of one ---- */

void node_replica_forget(struct node_replica *replica)
{
    struct node *node = replica->node;
    list_remove(&replica->untold_link);
    map_remove(&node->replicas, replica->id);
    node_words_close(replica);
    mem_free(replica->app);
    mem_free(replica->deployment);
    mem_free(replica);
}

static void replica_exit(void *owner, struct child *child, int exit_code, int signal_number)
{
    struct node_replica *replica = owner;
    struct node *node = replica->node;
    char path[INSTANCE_PATH_SIZE];
    ensure(child == &replica->child && replica->running && node->replicas_running > 0);
    replica->running = replica->claimed = false;
    replica->exit_code = exit_code;
    replica->signal_number = signal_number;
    node->replicas_running--;
    node_words_take_last(replica);
    instance_replica_socket(&node->instance, replica->id, path);
    unlink(path); /* it removes its socket itself, unless it crashed */
    if (signal_number)
        log_print(LOG_INFO, "replica %llu of deployment '%s' ended by signal %d",
                  (unsigned long long)replica->id, replica->deployment, signal_number);
    else if (exit_code < 0)
        log_print(LOG_INFO, "replica %llu of deployment '%s' ended, how is not known",
                  (unsigned long long)replica->id, replica->deployment);
    else
        log_print(LOG_INFO, "replica %llu of deployment '%s' ended with exit code %d",
                  (unsigned long long)replica->id, replica->deployment, exit_code);
    list_push_back(&node->untold, &replica->untold_link);
    node_desk_tell_exits(node);
    if (node->untold.length > NODE_UNTOLD_LIMIT)
        node_replica_forget(
            list_entry(list_first(&node->untold), struct node_replica, untold_link));
    node_return_check(node);
    node_check_end(node);
}

/* A replica that is told twice to end politely does so at once: its controller says when. */
void node_replica_signal(struct node_replica *replica, bool kill)
{
    if (replica->running)
        child_signal(&replica->child, kill ? SIGKILL : SIGTERM, kill);
}

/* ---- the start of one ---- */

/*
 * What to execute for a runner, and how its arguments begin: "c" is our own,
 * "python:/absolute/path" an interpreter.  The number of arguments.
 */
static size_t choose_program(const struct node *node, struct bytes runner, char *path,
                             size_t path_size, const char **list)
{
    if (bytes_equal(runner, BYTES("c"))) {
        snprintf(path, path_size, "%s/manta-replica", node->libexec);
        list[0] = "manta-replica";
        return 1;
    }
    struct bytes interpreter = bytes_skip(runner, sizeof PYTHON - 1);
    snprintf(path, path_size, "%.*s", BYTES_PRINT(interpreter));
    list[0] = path; /* an interpreter finds its home by it */
    list[1] = "-m";
    list[2] = "manta._private.replica_main";
    return 3;
}

static int spawn_process(struct node_replica *replica, const struct wire_replica_start *start,
                         int document, int words, struct error *reterr)
{
    struct node *node = replica->node;
    char path[NODE_PATH_SIZE + 32], id[24], version_hash[24];
    const char *list[32];
    size_t count = choose_program(node, start->runner, path, sizeof path, list);
    const char *ours[] = {"--instance",
                          node->instance.directory,
                          "--controller",
                          node->instance.controller_socket,
                          "--replica",
                          id,
                          "--version-hash",
                          version_hash,
                          "--document-descriptor",
                          "3"};
    memcpy(list + count, ours, sizeof ours);
    count += sizeof ours / sizeof *ours;
    count += node_log_arguments(node, list + count);
    list[count] = NULL;
    snprintf(id, sizeof id, "%llu", (unsigned long long)replica->id);
    snprintf(version_hash, sizeof version_hash, "%llx", (unsigned long long)start->version);
    struct child_descriptor descriptors[] = {
        {.source = document, .target = DOCUMENT_DESCRIPTOR},
        {.source = node->lifeline[1], .target = PARENT_DESCRIPTOR},
        {.source = replica->words_descriptor, .target = PARENT_WORDS}};
    struct child_spawn spawn = {.path = path,
                                .arguments = list,
                                .environment = (const char *const *)node->replica_environment,
                                .descriptors = descriptors,
                                /* In a service it keeps its words for the next node. */
                                .descriptor_count = node->options.is_private ? 2 : 3,
                                .output = -1,
                                .error_output = words,
                                .oom_score_adj = REPLICA_OOM_SCORE};
    return child_start(&replica->child, node->loop, &spawn, replica_exit, replica, reterr);
}

/* The document lies in memory of its own; the new process has it when this returns. */
static int spawn_with_document(struct node_replica *replica, const struct wire_replica_start *start,
                               int words, struct error *reterr)
{
    struct page document;
    int code = page_create(&document, "manta-replica", start->body.size);
    if (code < 0)
        return error_set(reterr, ERROR_MEMORY, "no memory for the replica's document: %s",
                         strerror(-code));
    memcpy(document.at, start->body.at, start->body.size);
    code = spawn_process(replica, start, document.descriptor, words, reterr);
    page_close(&document);
    return code;
}

static int spawn(struct node_replica *replica, const struct wire_replica_start *start,
                 struct error *reterr)
{
    int words[2];
    if (pipe2(words, O_CLOEXEC) != 0)
        return error_set(reterr, ERROR_SYSTEM, "no pipe: %s", strerror(errno));
    fcntl(words[0], F_SETFL, O_NONBLOCK);
    replica->words_descriptor = words[0];
    int code = spawn_with_document(replica, start, words[1], reterr);
    socket_close(words[1]);
    if (code < 0)
        return code;
    replica->running = true;
    replica->pid = (uint32_t)replica->child.pid;
    replica->node->replicas_running++;
    node_words_take(replica, words[0]);
    return 0;
}

static bool is_runner(struct bytes runner)
{
    const size_t prefix = sizeof PYTHON - 1;
    if (bytes_equal(runner, BYTES("c")))
        return true;
    return runner.size > prefix + 1 && runner.size < NODE_PATH_SIZE &&
           bytes_equal(bytes_head(runner, prefix), BYTES("python:")) && runner.at[prefix] == '/' &&
           !memchr(runner.at, 0, runner.size);
}

static int check(const struct node *node, const struct wire_replica_start *start,
                 struct error *reterr)
{
    if (node->phase >= NODE_DRAINING)
        return error_set(reterr, ERROR_CLOSED, "the instance ends");
    if (start->replica == 0 || start->body.size == 0)
        return error_set(reterr, ERROR_INVALID, "a replica needs an id and a document");
    if (!is_runner(start->runner))
        return error_set(reterr, ERROR_INVALID,
                         "there is no runner '%.*s'; the runners are: c, python:/path/to/python",
                         BYTES_PRINT(bytes_head(start->runner, 200)));
    if (map_get(&node->replicas, start->replica))
        return error_set(reterr, ERROR_EXISTS, "replica %llu was started before",
                         (unsigned long long)start->replica);
    return 0;
}

static struct node_replica *replica_new(struct node *node, uint64_t id)
{
    struct node_replica *replica = mem_new(sizeof *replica);
    *replica = (struct node_replica){.node = node,
                                     .id = id,
                                     .child.pidfd = -1,
                                     .app = mem_copy_string("", 0),
                                     .deployment = mem_copy_string("", 0)};
    node_words_init(replica);
    return replica;
}

void node_replica_name(struct node_replica *replica, struct bytes app, struct bytes deployment)
{
    mem_free(replica->app);
    mem_free(replica->deployment);
    replica->app = mem_copy_string((const char *)app.at, app.size);
    replica->deployment = mem_copy_string((const char *)deployment.at, deployment.size);
}

struct node_replica *node_replica_adopt(struct node *node, uint64_t id, pid_t pid, uint64_t started)
{
    struct node_replica *replica = replica_new(node, id);
    if (map_try_put(&node->replicas, id, replica) < 0 ||
        !node_return_adopt(node, &replica->child, pid, started, replica_exit, replica)) {
        node_replica_forget(replica);
        return NULL;
    }
    replica->running = replica->claimed = true;
    replica->pid = (uint32_t)pid;
    node->replicas_running++;
    return replica;
}

int node_replica_start(struct node *node, const struct wire_replica_start *start,
                       struct node_replica **ret_replica, struct error *reterr)
{
    if (check(node, start, reterr) < 0)
        return reterr->code;
    struct node_replica *replica = replica_new(node, start->replica);
    node_replica_name(replica, start->app, start->deployment);
    int code = map_try_put(&node->replicas, replica->id, replica) < 0
                   ? error_set(reterr, ERROR_LIMIT, "the node has %zu replicas already",
                               map_count(&node->replicas))
                   : spawn(replica, start, reterr);
    if (code < 0) {
        node_replica_forget(replica);
        return code;
    }
    log_print(LOG_INFO, "replica %llu of deployment '%s' runs as process %u",
              (unsigned long long)replica->id, replica->deployment, replica->pid);
    *ret_replica = replica;
    return 0;
}
