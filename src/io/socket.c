/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket: plain system calls, so that one place knows their corners.
 *
 * Which are: SIGPIPE is never raised (MSG_NOSIGNAL); EINTR never shows; options set on a listening
 * TCP socket pass on to the accepted ones on Linux, which saves two calls per connection; what an
 * accept says about a connection that died in the queue is no error of the listener; a Unix path
 * that nobody listens on any more still blocks a bind, and is removed under a lock on its
 * directory, so that of two starters only one does it.
 */
#include "socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ensure.h"

enum {
    DESCRIPTORS_PER_MESSAGE =
        16,              /* room for what a peer may send; the kernel closes what does not fit */
    ACCEPT_RETRIES = 16, /* dead connections skipped by one socket_accept */
};

static int set_option(int descriptor, int level, int option)
{
    int on = 1;
    return setsockopt(descriptor, level, option, &on, sizeof(on)) == 0 ? 0 : -errno;
}

/* ---- listening ---- */

static int bind_tcp(const struct addrinfo *address, int backlog)
{
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    set_option(descriptor, SOL_SOCKET, SO_REUSEADDR);
    set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE);
    set_option(descriptor, IPPROTO_TCP, TCP_NODELAY);
    if (bind(descriptor, address->ai_addr, address->ai_addrlen) != 0 ||
        listen(descriptor, backlog) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

/* The next address of the host may do. */
static bool not_here(int descriptor)
{
    return descriptor == -EADDRNOTAVAIL || descriptor == -EAFNOSUPPORT;
}

static int listen_failed(int error, const char *host, uint16_t port, struct error *reterr)
{
    const char *name = host && *host ? host : "every address";
    if (error == EADDRINUSE)
        return error_set(reterr, ERROR_EXISTS, "port %u on %s is in use", port, name);
    if (error == EACCES || error == EPERM)
        return error_set(reterr, ERROR_PERMISSION, "port %u on %s may not be used by this user",
                         port, name);
    if (not_here(-error))
        return error_set(reterr, ERROR_INVALID, "%s is no address of this machine", name);
    return error_set(reterr, ERROR_SYSTEM, "cannot listen on port %u of %s: %s", port, name,
                     strerror(error));
}

int socket_listen_tcp(const char *host, uint16_t port, int backlog, struct error *reterr)
{
    char service[8];
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    bool named = host && *host;
    snprintf(service, sizeof(service), "%u", port);
    int rc = getaddrinfo(named ? host : NULL, service, &wanted, &found);
    if (rc != 0)
        return error_set(reterr, ERROR_INVALID, "%s is no host name or address: %s",
                         named ? host : "\"\"", gai_strerror(rc));
    /* "localhost" is both: clients that try only one try 127.0.0.1. */
    static const int families[] = {AF_INET, AF_INET6};
    int descriptor = -EADDRNOTAVAIL;
    for (int i = 0; i < 2; i++)
        for (const struct addrinfo *at = found; at && not_here(descriptor); at = at->ai_next)
            if (at->ai_family == families[i])
                descriptor = bind_tcp(at, backlog);
    freeaddrinfo(found);
    return descriptor >= 0 ? descriptor : listen_failed(-descriptor, host, port, reterr);
}

static int unix_address(const char *path, struct sockaddr_un *ret_address)
{
    size_t length = strlen(path);
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length == 0 || length >= sizeof(ret_address->sun_path))
        return -ENAMETOOLONG;
    memcpy(ret_address->sun_path, path, length);
    return 0;
}

/* The lock serializes starters: between the bind and the listen of one, another would take the path
 * for stale. */
static int lock_directory_of(const char *path)
{
    char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];
    snprintf(copy, sizeof(copy), "%s", path);
    int descriptor = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    while (flock(descriptor, LOCK_EX) != 0)
        if (errno != EINTR) {
            int error = errno;
            close(descriptor);
            return -error;
        }
    return descriptor;
}

/* A connect to any other file is refused as well. */
static bool is_socket(const char *path)
{
    struct stat file;
    return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}

static int bind_unix(const struct sockaddr_un *address, int backlog)
{
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int rc = bind(descriptor, (const struct sockaddr *)address, sizeof(*address));
    if (rc != 0 && errno == EADDRINUSE) {
        int living = socket_connect_unix(address->sun_path);
        if (living >= 0)
            close(living);
        if (living == -ECONNREFUSED && is_socket(address->sun_path) &&
            unlink(address->sun_path) == 0)
            rc = bind(descriptor, (const struct sockaddr *)address, sizeof(*address));
        else
            errno = EADDRINUSE;
    }
    /* Nobody can connect before the listen, so there is no moment with a wider mode. */
    if (rc != 0 || chmod(address->sun_path, 0600) != 0 || listen(descriptor, backlog) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int socket_listen_unix(const char *path, int backlog, struct error *reterr)
{
    struct sockaddr_un address;
    if (unix_address(path, &address) != 0)
        return error_set(reterr, ERROR_INVALID, "the socket path %s has more than %zu characters",
                         path, sizeof(address.sun_path) - 1);
    int lock = lock_directory_of(path);
    if (lock < 0)
        return error_set(reterr, ERROR_SYSTEM, "cannot open the directory of %s: %s", path,
                         strerror(-lock));
    int descriptor = bind_unix(&address, backlog);
    close(lock);
    if (descriptor >= 0)
        return descriptor;
    if (descriptor == -EADDRINUSE)
        return error_set(reterr, ERROR_EXISTS, "another process listens on %s", path);
    return error_set(reterr, descriptor == -EACCES ? ERROR_PERMISSION : ERROR_SYSTEM,
                     "cannot listen on %s: %s", path, strerror(-descriptor));
}

int socket_adopt(int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

/* The path goes first: who still finds it is in the queue and sees the end, nobody finds it stale.
 */
void socket_unlisten_unix(int descriptor, const char *path)
{
    unlink(path);
    socket_close(descriptor);
}

int socket_open_reserve(void)
{
    int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return descriptor >= 0 ? descriptor : -errno;
}

uint16_t socket_local_port(int descriptor)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (getsockname(descriptor, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return 0;
}

/* ---- connections ---- */

int socket_accept(int listener)
{
    for (int i = 0; i < ACCEPT_RETRIES; i++) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0)
            return descriptor;
        switch (errno) {
        case EINTR:
        case ECONNABORTED:
        case EPROTO: /* accept(2): errors of the connection that waited, treated as if it had not
                        been there */
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH:
            break;
        case EWOULDBLOCK:
            return -EAGAIN;
        default:
            return -errno;
        }
    }
    return -EAGAIN;
}

int socket_connect_unix(const char *path)
{
    struct sockaddr_un address;
    if (unix_address(path, &address) != 0)
        return -ENAMETOOLONG;
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int rc;
    while ((rc = connect(descriptor, (struct sockaddr *)&address, sizeof(address))) != 0 &&
           errno == EINTR)
        ;
    if (rc != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int socket_error(int descriptor)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

int socket_check_peer(int descriptor, pid_t *ret_pid)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return -errno;
    if (ret_pid)
        *ret_pid = peer.pid;
    return peer.uid == geteuid() || peer.uid == 0 ? 0 : -EPERM;
}

int socket_pair(int ret_descriptors[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_descriptors) == 0
               ? 0
               : -errno;
}

/* ---- bytes ---- */

ssize_t socket_read(int descriptor, void *at, size_t size)
{
    ssize_t got;
    while ((got = recv(descriptor, at, size, 0)) < 0 && errno == EINTR)
        ;
    return got >= 0 ? got : -errno;
}

/* Keeps the first descriptor of a message, closes the others. */
static int take_descriptor(struct msghdr *message)
{
    int kept = -1;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (kept < 0)
                kept = descriptor;
            else
                close(descriptor);
        }
    }
    return kept;
}

ssize_t socket_read_with(int descriptor, void *at, size_t size, int *ret_descriptor)
{
    union {
        char bytes[CMSG_SPACE(DESCRIPTORS_PER_MESSAGE * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec part = {.iov_base = at, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got;
    *ret_descriptor = -1;
    while ((got = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return -errno;
    if (message.msg_controllen > 0)
        *ret_descriptor = take_descriptor(&message);
    return got;
}

static ssize_t send_message(int descriptor, struct msghdr *message)
{
    ssize_t sent;
    while ((sent = sendmsg(descriptor, message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return sent >= 0 ? sent : -errno;
}

ssize_t socket_write(int descriptor, const struct iovec *parts, int part_count)
{
    ensure(part_count > 0 && part_count <= IOV_MAX);
    if (part_count == 1) { /* the common case: the kernel copies no message header */
        ssize_t sent;
        while ((sent = send(descriptor, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)) < 0 &&
               errno == EINTR)
            ;
        return sent >= 0 ? sent : -errno;
    }
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = part_count};
    return send_message(descriptor, &message);
}

ssize_t socket_write_with(int descriptor, const struct iovec *parts, int part_count,
                          int sent_descriptor)
{
    ensure(part_count > 0 && part_count <= IOV_MAX && sent_descriptor >= 0);
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = (struct iovec *)parts,
                             .msg_iovlen = part_count,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(part), &sent_descriptor, sizeof(int));
    return send_message(descriptor, &message);
}

void socket_shutdown_write(int descriptor)
{
    shutdown(descriptor, SHUT_WR);
}

void socket_close(int descriptor)
{
    if (descriptor >= 0)
        close(descriptor); /* EINTR: Linux has closed it nevertheless */
}

void socket_peer_name(int descriptor, char *ret_name, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    char host[INET6_ADDRSTRLEN];
    ensure(size > 0);
    if (getpeername(descriptor, (struct sockaddr *)&address, &length) != 0) {
        snprintf(ret_name, size, "unknown");
    } else if (address.ss_family == AF_INET) {
        const struct sockaddr_in *at = (struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &at->sin_addr, host, sizeof(host));
        snprintf(ret_name, size, "%s:%u", host, ntohs(at->sin_port));
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *at = (struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &at->sin6_addr, host, sizeof(host));
        snprintf(ret_name, size, "[%s]:%u", host, ntohs(at->sin6_port));
    } else {
        snprintf(ret_name, size, "unix");
    }
}
