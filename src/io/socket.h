/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket: the system calls on sockets, one function each, nonblocking and close-on-exec throughout.
 *
 * Negative results are -errno; -EAGAIN means "not now".  (Second implementation: tests/sim/io_sim.c.)
 */
#ifndef MANTA_IO_SOCKET_H
#define MANTA_IO_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "error.h"

/* Listening sockets.  TCP: SO_REUSEADDR, never SO_REUSEPORT; `host` may be a name or a number; port 0 picks one. */
int socket_listen_tcp(const char *host, uint16_t port, int backlog, struct error *reterr);
/* A stale path (nobody answers) is replaced; a living one is ERROR_EXISTS.  Mode 0600. */
int socket_listen_unix(const char *path, int backlog, struct error *reterr);
/* One that another process made and passed on: nonblocking and close-on-exec from here on.  0 or -errno. */
int socket_adopt(int descriptor);
/* Closes what socket_listen_unix opened and removes its path. */
void socket_unlisten_unix(int descriptor, const char *path);
uint16_t socket_local_port(int descriptor);
/* A descriptor of no use, held back to be given up when they run out; or -errno. */
int socket_open_reserve(void);

/* One connection, or -errno.  TCP_NODELAY and SO_KEEPALIVE are set on TCP ones. */
int socket_accept(int listener);
/* Unix, nonblocking; may return a descriptor that is still connecting (writable when done, see socket_error). */
int socket_connect_unix(const char *path);
int socket_error(int descriptor); /* SO_ERROR: 0 or -errno */
/* Uid of the peer of a Unix socket equals ours, or is root's: 0, else -EPERM.  *ret_pid may be null. */
int socket_check_peer(int descriptor, pid_t *ret_pid);
int socket_pair(int ret_descriptors[2]);

/* Bytes, 0 at end of file, or -errno. */
ssize_t socket_read(int descriptor, void *at, size_t size);
/* With at most one descriptor that came along (*ret_descriptor = -1 when none; further ones are closed). */
ssize_t socket_read_with(int descriptor, void *at, size_t size, int *ret_descriptor);
ssize_t socket_write(int descriptor, const struct iovec *parts, int part_count);
ssize_t socket_write_with(int descriptor, const struct iovec *parts, int part_count, int sent_descriptor);
void    socket_shutdown_write(int descriptor);
void    socket_close(int descriptor);
/* "127.0.0.1:52114" or "unix"; for access logs. */
void    socket_peer_name(int descriptor, char *ret_name, size_t size);

#endif
