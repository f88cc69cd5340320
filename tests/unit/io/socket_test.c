/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls on sockets, with the corners that socket.c promises to know.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "socket.h"

static int connect_tcp(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(descriptor, (struct sockaddr *)&address, sizeof(address)), 0);
    return descriptor;
}

static int option(int descriptor, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);
    cr_assert_eq(getsockopt(descriptor, level, name, &value, &size), 0);
    return value;
}

static void wait_readable(int descriptor)
{
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    cr_assert_eq(poll(&wait, 1, -1), 1);
}

static char directory[] = "/tmp/manta-socket-XXXXXX";
static char path[64];

static void make_directory(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s.sock", directory);
}

static void remove_directory(void)
{
    unlink(path);
    rmdir(directory);
}

/* ---- TCP ---- */

Test(socket, accepted_connections_are_nonblocking_prompt_and_kept_alive)
{
    struct error error = {0};
    int listener = socket_listen_tcp("127.0.0.1", 0, 16, &error);
    cr_assert_geq(listener, 0, "%s", error.text);
    cr_assert_eq(socket_accept(listener), -EAGAIN);
    uint16_t port = socket_local_port(listener);
    cr_assert_gt(port, 0);
    int client = connect_tcp(port);
    wait_readable(listener);
    int server = socket_accept(listener);
    cr_assert_geq(server, 0);
    cr_assert(option(server, IPPROTO_TCP, TCP_NODELAY));
    cr_assert(option(server, SOL_SOCKET, SO_KEEPALIVE));
    cr_assert(fcntl(server, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(server, F_GETFD) & FD_CLOEXEC);
    cr_assert(fcntl(listener, F_GETFD) & FD_CLOEXEC);

    char name[64], wanted[64];
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    getsockname(client, (struct sockaddr *)&own, &size);
    snprintf(wanted, sizeof(wanted), "127.0.0.1:%u", ntohs(own.sin_port));
    socket_peer_name(server, name, sizeof(name));
    cr_assert_str_eq(name, wanted);
    socket_close(server);
    close(client);
    socket_close(listener);
}

Test(socket, a_port_in_use_is_named)
{
    struct error error = {0};
    char wanted[64];
    int listener = socket_listen_tcp("localhost", 0, 16, &error);
    cr_assert_geq(listener, 0);
    uint16_t port = socket_local_port(listener);
    cr_assert_eq(socket_listen_tcp("127.0.0.1", port, 16, &error), ERROR_EXISTS);
    snprintf(wanted, sizeof(wanted), "port %u on 127.0.0.1 is in use", port);
    cr_assert_str_eq(error.text, wanted);
    cr_assert_eq(socket_listen_tcp("localhost", port, 16, &error), ERROR_EXISTS,
                 "not on another address of the same name instead");
    socket_close(listener);
    listener = socket_listen_tcp("127.0.0.1", port, 16, &error);
    cr_assert_geq(listener, 0, "a port just left can be used at once");
    socket_close(listener);
}

Test(socket, a_host_that_is_not_ours_is_refused)
{
    struct error error = {0};
    cr_assert_eq(socket_listen_tcp("192.0.2.1", 0, 16, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "192.0.2.1"));
    cr_assert_eq(socket_listen_tcp("not a host", 0, 16, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "not a host"));
}

Test(socket, full_descriptor_tables_show_in_accept_and_pass)
{
    struct error error = {0};
    int listener = socket_listen_tcp("127.0.0.1", 0, 16, &error);
    int client = connect_tcp(socket_local_port(listener));
    struct rlimit limit, none;
    wait_readable(listener);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int refused = socket_accept(listener);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(refused, -EMFILE);
    int server = socket_accept(listener);
    cr_assert_geq(server, 0);
    socket_close(server);
    close(client);
    socket_close(listener);
}

/* ---- Unix ---- */

Test(socket, a_unix_listener_is_for_its_user_alone, .init = make_directory,
     .fini = remove_directory)
{
    struct error error = {0};
    struct stat file;
    pid_t pid = 0;
    char name[16];
    umask(0);
    int listener = socket_listen_unix(path, 16, &error);
    cr_assert_geq(listener, 0, "%s", error.text);
    cr_assert_eq(stat(path, &file), 0);
    cr_assert_eq(file.st_mode & 0777, 0600);
    int client = socket_connect_unix(path);
    cr_assert_geq(client, 0);
    cr_assert_eq(socket_error(client), 0);
    int server = socket_accept(listener);
    cr_assert_geq(server, 0);
    cr_assert_eq(socket_check_peer(server, &pid), 0);
    cr_assert_eq(pid, getpid());
    socket_peer_name(server, name, sizeof(name));
    cr_assert_str_eq(name, "unix");
    cr_assert_eq(socket_local_port(listener), 0);
    socket_close(server);
    socket_close(client);
    socket_close(listener);
}

Test(socket, a_stale_path_is_replaced_and_a_living_one_is_not, .init = make_directory,
     .fini = remove_directory)
{
    struct error error = {0};
    int first = socket_listen_unix(path, 16, &error);
    cr_assert_geq(first, 0);
    cr_assert_eq(socket_listen_unix(path, 16, &error), ERROR_EXISTS);
    int client = socket_connect_unix(path);
    cr_assert_geq(client, 0, "the first one still listens");
    socket_close(client);
    socket_close(first);
    cr_assert_eq(socket_connect_unix(path), -ECONNREFUSED);
    int second = socket_listen_unix(path, 16, &error);
    cr_assert_geq(second, 0, "%s", error.text);
    socket_close(second);
}

Test(socket, a_file_that_is_no_socket_is_not_removed, .init = make_directory,
     .fini = remove_directory)
{
    struct error error = {0};
    struct stat file;
    close(open(path, O_WRONLY | O_CREAT, 0600));
    cr_assert_eq(socket_listen_unix(path, 16, &error), ERROR_EXISTS);
    cr_assert_eq(stat(path, &file), 0);
    cr_assert(S_ISREG(file.st_mode));
}

Test(socket, of_many_starters_exactly_one_listens, .init = make_directory, .fini = remove_directory)
{
    int results[2], gate[2];
    struct error error = {0};
    socket_close(socket_listen_unix(path, 16, &error)); /* stale */
    cr_assert_eq(pipe(results), 0);
    cr_assert_eq(pipe(gate), 0);
    for (int i = 0; i < 8; i++)
        if (fork() == 0) {
            char byte;
            close(gate[1]);
            char listens = socket_listen_unix(path, 16, &error) >= 0;
            if (write(results[1], &listens, 1) != 1 || read(gate[0], &byte, 1) != 0)
                _exit(1);
            _exit(0);
        }
    int listening = 0;
    for (int i = 0; i < 8; i++) {
        char listens;
        cr_assert_eq(read(results[0], &listens, 1), 1);
        listening += listens;
    }
    cr_assert_eq(listening, 1);
    close(gate[1]);
}

Test(socket, paths_that_cannot_be_are_refused)
{
    struct error error = {0};
    char long_path[200];
    memset(long_path, 'a', sizeof(long_path));
    long_path[0] = '/';
    long_path[sizeof(long_path) - 1] = 0;
    cr_assert_eq(socket_listen_unix(long_path, 16, &error), ERROR_INVALID);
    cr_assert_not_null(strstr(error.text, "107 characters"));
    cr_assert_eq(socket_connect_unix(long_path), -ENAMETOOLONG);
    cr_assert_eq(socket_connect_unix("/nonexistent/socket"), -ENOENT);
    cr_assert_lt(socket_listen_unix("/nonexistent/socket", 16, &error), 0);
}

/* ---- bytes ---- */

Test(socket, bytes_go_through_in_parts)
{
    int ends[2];
    char text[16] = "";
    struct iovec parts[] = {{.iov_base = (void *)"one ", .iov_len = 4},
                            {.iov_base = (void *)"two", .iov_len = 3}};
    cr_assert_eq(socket_pair(ends), 0);
    cr_assert_eq(socket_read(ends[1], text, sizeof(text)), -EAGAIN);
    cr_assert_eq(socket_write(ends[0], parts, 2), 7);
    cr_assert_eq(socket_read(ends[1], text, sizeof(text)), 7);
    cr_assert_str_eq(text, "one two");
    socket_shutdown_write(ends[0]);
    cr_assert_eq(socket_read(ends[1], text, sizeof(text)), 0);
    socket_close(ends[0]);
    cr_assert_eq(socket_write(ends[1], parts, 2), -EPIPE, "and no signal");
    socket_close(ends[1]);
    socket_close(-1);
}

Test(socket, a_full_socket_says_not_now)
{
    int ends[2];
    static char bytes[65536];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    ssize_t sent;
    cr_assert_eq(socket_pair(ends), 0);
    while ((sent = socket_write(ends[0], &part, 1)) > 0)
        ;
    cr_assert_eq(sent, -EAGAIN);
    socket_close(ends[0]);
    socket_close(ends[1]);
}

static int count_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < 256; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

Test(socket, one_descriptor_comes_along_and_further_ones_are_closed)
{
    int ends[2], came, sent[3] = {0, 1, 2};
    char byte;
    struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};
    cr_assert_eq(socket_pair(ends), 0);
    cr_assert_eq(socket_write_with(ends[0], &part, 1, 2), 1);
    cr_assert_eq(socket_read_with(ends[1], &byte, 1, &came), 1);
    cr_assert_gt(came, 2);
    cr_assert(fcntl(came, F_GETFD) & FD_CLOEXEC);
    close(came);

    char control[CMSG_SPACE(sizeof(sent))] = {0};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(sent));
    memcpy(CMSG_DATA(head), sent, sizeof(sent));
    int before = count_descriptors();
    cr_assert_eq(sendmsg(ends[0], &message, 0), 1);
    cr_assert_eq(socket_read_with(ends[1], &byte, 1, &came), 1);
    cr_assert_gt(came, 2);
    cr_assert_eq(count_descriptors(), before + 1);
    close(came);
    cr_assert_eq(socket_write(ends[0], &part, 1), 1);
    cr_assert_eq(socket_read_with(ends[1], &byte, 1, &came), 1);
    cr_assert_eq(came, -1);
    socket_close(ends[0]);
    socket_close(ends[1]);
}
