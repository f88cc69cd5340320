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


/* ---- the end of one ---- */

static void order_free(struct node_replica *replica);

void node_replica_forget(struct node_replica *replica)
{
    struct node *node = replica->node;
    list_remove(&replica->untold_link);
    node_zygote_release(replica);
    order_free(replica);
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
    node_zygote_release(replica);
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

/* Nobody has asked its zygote for it yet. */
static void end_before_start(struct node_replica *replica)
{
    struct node *node = replica->node;
    node_zygote_release(replica);
    order_free(replica);
    replica->exit_code = -1;
    list_push_back(&node->untold, &replica->untold_link);
    node_desk_tell_exits(node);
}

/* A replica that is told twice to end politely does so at once: its controller says when. */
void node_replica_signal(struct node_replica *replica, bool kill)
{
    if (replica->running)
        child_signal(&replica->child, kill ? SIGKILL : SIGTERM, kill);
    else if (replica->order && node_zygote_is_forking(replica))
        replica->unwanted = true; /* it ends when it is here */
    else if (replica->order)
        end_before_start(replica);
}

/* ---- the start of one ---- */

static void order_free(struct node_replica *replica)
{
    struct node_order *order = replica->order;
    replica->order = NULL;
    if (!order)
        return;
    page_close(&order->document);
    socket_close(order->words);
    mem_free(order->runner);
    mem_free(order);
}

/* The document lies in memory of its own, which the new process gets; its stderr is a pipe. */
static int order_new(struct node_replica *replica, const struct wire_replica_start *start,
                     struct error *reterr)
{
    struct node_order *order = replica->order = mem_new(sizeof *order);
    int words[2];
    *order = (struct node_order){.version = start->version, .words = -1};
    order->runner = mem_copy_string((const char *)start->runner.at, start->runner.size);
    int code = page_create(&order->document, "manta-replica", start->body.size);
    if (code < 0)
        return error_set(reterr, ERROR_MEMORY, "no memory for the replica's document: %s",
                         strerror(-code));
    memcpy(order->document.at, start->body.at, start->body.size);
    if (pipe2(words, O_CLOEXEC) != 0)
        return error_set(reterr, ERROR_SYSTEM, "no pipe: %s", strerror(errno));
    fcntl(words[0], F_SETFL, O_NONBLOCK);
    replica->words_descriptor = words[0];
    order->words = words[1];
    return 0;
}

static void replica_runs(struct node_replica *replica, const char *how)
{
    replica->running = true;
    replica->pid = (uint32_t)replica->child.pid;
    replica->node->replicas_running++;
    order_free(replica);
    node_words_take(replica, replica->words_descriptor);
    log_print(LOG_INFO, "replica %llu of deployment '%s' runs as process %u%s",
              (unsigned long long)replica->id, replica->deployment, replica->pid, how);
}

static int spawn(struct node_replica *replica, char *const *environment, struct error *reterr)
{
    struct node *node = replica->node;
    struct node_order *order = replica->order;
    struct node_program program;
    struct child_descriptor descriptors[] = {
        {.source = order->document.descriptor, .target = DOCUMENT_DESCRIPTOR},
        {.source = node->lifeline[1], .target = PARENT_DESCRIPTOR},
        {.source = replica->words_descriptor, .target = PARENT_WORDS}};
    node_program_fill(&program, replica);
    struct child_spawn spawn = {.path = program.path,
                                .arguments = program.list,
                                .environment = (const char *const *)environment,
                                .descriptors = descriptors,
                                /* In a service it keeps its words for the next node. */
                                .descriptor_count = node->options.is_private ? 2 : 3,
                                .output = -1,
                                .error_output = order->words,
                                .oom_score_adj = REPLICA_OOM_SCORE};
    return child_start(&replica->child, node->loop, &spawn, replica_exit, replica, reterr);
}

int node_replica_execute(struct node_replica *replica, struct error *reterr)
{
    struct node_surroundings given;
    node_program_read(replica->order, &given);
    char **environment = node_program_environment(replica->node->replica_environment, &given);
    int code = spawn(replica, environment, reterr);
    mem_free(environment);
    if (code == 0)
        replica_runs(replica, "");
    return code;
}

void node_replica_run(struct node_replica *replica, pid_t pid)
{
    struct node *node = replica->node;
    struct error error = {0};
    if (child_adopt(&replica->child, node->loop, pid, replica_exit, replica, &error) < 0) {
        node_replica_give_up(replica, &error);
        return;
    }
    replica_runs(replica, ", forked");
    node_desk_tell_start(node, replica);
    if (replica->unwanted || node->phase >= NODE_DRAINING)
        node_replica_signal(replica, true);
}

void node_replica_give_up(struct node_replica *replica, const struct error *error)
{
    struct node *node = replica->node;
    uint64_t id = replica->id;
    log_print(LOG_ERROR, "replica %llu of deployment '%s' could not be started: %s",
              (unsigned long long)id, replica->deployment, error->text);
    node_replica_forget(replica);
    node_desk_tell_failure(node, id, error);
}

static int start_order(struct node_replica *replica, const struct wire_replica_start *start,
                       struct error *reterr)
{
    struct node_surroundings given;
    if (order_new(replica, start, reterr) < 0)
        return reterr->code;
    node_program_read(replica->order, &given);
    return node_zygote_take(replica, &given) ? 0 : node_replica_execute(replica, reterr);
}

static int check(const struct node *node, const struct wire_replica_start *start,
                 struct error *reterr)
{
    if (node->phase >= NODE_DRAINING)
        return error_set(reterr, ERROR_CLOSED, "the instance ends");
    if (start->replica == 0 || start->body.size == 0)
        return error_set(reterr, ERROR_INVALID, "a replica needs an id and a document");
    if (!node_program_knows(start->runner))
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
                   : start_order(replica, start, reterr);
    if (code < 0) {
        node_replica_forget(replica);
        return code;
    }
    *ret_replica = replica;
    return 0;
}
