/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a C replica takes from its start to its first answer: the program plays node, controller
 * and caller for a manta-replica of its own and prints the milliseconds, one number for each start.
 *
 *     here                                  manta-replica
 *      | posix_spawn  ---- clock starts ----> loads, opens, checks
 *      | <------------- HELLO, REPLICA_READY |
 *      | connect, HELLO, REQUEST ----------> |
 *      | <------------------------- REPLY    |  clock stops
 *
 * Usage: replica_start_bench LIBEXEC LIBRARY DEPLOYMENT [times]
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "target.h"
#include "text.h"
#include "wire.h"

enum { TIMES = 20, FRAME_ROOM = 65536, DEPLOYMENT_ID = 1, REPLICA_ID = 1, PATIENCE_S = 10 };

static uint8_t frame[FRAME_ROOM];

_Noreturn static void give_up(const char *what)
{
    fprintf(stderr, "replica_start_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        give_up(path);
    }
    strcpy(address.sun_path, path);
    return address;
}

static void be_patient(int descriptor)
{
    struct timeval limit = {.tv_sec = PATIENCE_S};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static void receive(int descriptor, void *at, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(descriptor, (uint8_t *)at + done, size - done, 0);
        if (got <= 0)
            give_up("the replica left or is silent");
        done += (size_t)got;
    }
}

/* Passes over frames until one of the wanted type; its payload stands at the start of `frame`. */
static struct bytes await(int descriptor, enum wire_frame wanted)
{
    struct wire_header header;
    do {
        receive(descriptor, frame, WIRE_HEADER_SIZE);
        wire_header_read(&header, frame);
        if (header.size > sizeof frame) {
            errno = EMSGSIZE;
            give_up("a frame of the replica");
        }
        receive(descriptor, frame, header.size);
        if (header.type == WIRE_REPLICA_FAILED_FRAME) {
            fprintf(stderr, "replica_start_bench: the replica failed to start\n");
            exit(1);
        }
    } while (header.type != wanted);
    return bytes_of(frame, header.size);
}

static void say(int descriptor, size_t size)
{
    if (send(descriptor, frame, size, MSG_NOSIGNAL) != (ssize_t)size)
        give_up("send");
}

static void say_hello(int descriptor, enum wire_role role)
{
    struct wire_hello hello = {.magic = WIRE_MAGIC,
                               .version_least = WIRE_VERSION_LEAST,
                               .version_most = WIRE_VERSION,
                               .role = (uint8_t)role,
                               .pid = (uint32_t)getpid(),
                               .frame_limit = 262144,
                               .stream_credit = 262144,
                               .stream_limit = 16384,
                               .name = BYTES("bench")};
    say(descriptor, wire_hello_write(&hello, 0, 0, false, frame));
}

static int make_document(const char *library, const char *deployment)
{
    struct text document;
    struct target_replica target = {.app = BYTES("default"),
                                    .deployment = bytes_of_string(deployment),
                                    .library = bytes_of_string(library),
                                    .symbol = bytes_of_string(deployment),
                                    .args = BYTES("\x90"),
                                    .threads = 1,
                                    .max_ongoing_requests = 5,
                                    .max_batch_size = 1,
                                    .max_concurrent_batches = 1,
                                    .health_check_period_us = 10000000,
                                    .health_check_timeout_us = 30000000,
                                    .graceful_shutdown_timeout_us = 20000000};
    text_init(&document, 4096);
    target_write_replica(&document, &target);
    int descriptor = memfd_create("document", MFD_CLOEXEC);
    struct bytes bytes = text_bytes(&document);
    if (descriptor < 0 || write(descriptor, bytes.at, bytes.size) != (ssize_t)bytes.size)
        give_up("the replica's document");
    text_done(&document);
    return descriptor;
}

static pid_t spawn(const char *libexec, const char *directory, const char *controller, int document)
{
    extern char **environ;
    char program[4096];
    posix_spawn_file_actions_t actions;
    pid_t pid = 0;
    snprintf(program, sizeof program, "%s/manta-replica", libexec);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, document, 3);
    const char *const arguments[] = {
        program,    "--instance",      directory, "--controller",
        controller, "--replica",       "1",       "--document-descriptor",
        "3",        "--log-directory", directory, NULL};
    errno = posix_spawn(&pid, program, &actions, NULL, (char *const *)arguments, environ);
    if (errno)
        give_up(program);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static int connect_to(struct bytes path)
{
    char text[256];
    snprintf(text, sizeof text, "%.*s", BYTES_PRINT(path));
    struct sockaddr_un address = address_of(text);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        give_up(text);
    be_patient(descriptor);
    return descriptor;
}

static void ask(int descriptor)
{
    struct wire_request request = {.deployment = DEPLOYMENT_ID,
                                   .kind = WIRE_KIND_HTTP,
                                   .http_minor = 1,
                                   .method = BYTES("GET"),
                                   .path = BYTES("/"),
                                   .route_prefix = BYTES("/"),
                                   .request_id = BYTES("first")};
    say(descriptor, wire_request_write(&request, WIRE_END, 1, false, frame));
    struct wire_reply reply;
    if (wire_reply_read(&reply, await(descriptor, WIRE_REPLY_FRAME)) < 0 || reply.status != 200) {
        fprintf(stderr, "replica_start_bench: the answer is no 200\n");
        exit(1);
    }
}

static double measure(int listener, const char *libexec, const char *directory,
                      const char *controller, int document)
{
    struct wire_replica_ready ready;
    double begin = now_ms();
    pid_t pid = spawn(libexec, directory, controller, document);
    int control = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (control < 0)
        give_up("the replica does not come");
    be_patient(control);
    say_hello(control, WIRE_ROLE_CONTROLLER);
    if (wire_replica_ready_read(&ready, await(control, WIRE_REPLICA_READY_FRAME)) < 0)
        give_up("replica_ready");
    int session = connect_to(ready.address);
    say_hello(session, WIRE_ROLE_PROXY);
    ask(session);
    double end = now_ms();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(control);
    close(session);
    return end - begin;
}

int main(int argument_count, char **arguments)
{
    char directory[] = "/tmp/manta-bench-XXXXXX", controller[64], command[96];
    if (argument_count < 4) {
        fprintf(stderr, "usage: replica_start_bench LIBEXEC LIBRARY DEPLOYMENT [times]\n");
        return 2;
    }
    int times = argument_count > 4 ? atoi(arguments[4]) : TIMES;
    if (!mkdtemp(directory))
        give_up("a temporary directory");
    snprintf(controller, sizeof controller, "%s/controller.sock", directory);
    struct sockaddr_un address = address_of(controller);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
        give_up(controller);
    be_patient(listener);
    int document = make_document(arguments[2], arguments[3]);
    for (int i = 0; i < times; i++)
        printf("%.3f\n", measure(listener, arguments[1], directory, controller, document));
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) == 0 ? 0 : 1;
}
