/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance: where an instance lives on this machine.
 *
 *     <runtime>/manta/<name>/   0700, owner checked: node.sock controller.sock replica-<id>.sock
 *                               metrics/ instance.json, and of a private instance controller.store
 *     <state>/manta/<name>/     0700: controller.store and logs of a service; a private instance
 *                               logs below its runtime directory
 *
 * <runtime> is $XDG_RUNTIME_DIR, else <TMPDIR or /tmp>/manta-<uid>.  <state> is $XDG_STATE_HOME,
 * else
 * ~/.local/state, for root /var/lib; root's logs lie in /var/log.
 */
#ifndef MANTA_IO_INSTANCE_H
#define MANTA_IO_INSTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

enum { INSTANCE_PATH_SIZE = 108 /* sun_path */, INSTANCE_NAME_SIZE = 40 };

struct instance {
    char name[INSTANCE_NAME_SIZE];
    char directory[INSTANCE_PATH_SIZE]; /* runtime */
    char node_socket[INSTANCE_PATH_SIZE];
    char controller_socket[INSTANCE_PATH_SIZE];
    char log_directory[4096];
    char state_directory[4096]; /* empty: a private instance has none */
};

enum instance_role { INSTANCE_CONTROLLER, INSTANCE_PROXY, INSTANCE_REPLICA };

struct instance_process {
    pid_t pid;
    uint64_t started; /* child_start_time: the pid may be another's later */
    enum instance_role role;
    uint64_t number; /* replica id, or the proxy's number; else 0 */
};

/* Paths only.  Names: [a-zA-Z0-9._-], at most 39 characters, no leading dot. */
int instance_locate(struct instance *instance, const char *name, bool private_instance,
                    struct error *reterr);
/* Makes the directories, checks owner and mode (a directory of somebody else is refused,
 * ERROR_PERMISSION). */
int instance_create(struct instance *instance, struct error *reterr);
/* Removes what the instance put into its runtime directory. */
void instance_remove(const struct instance *instance);
/* Removes what private instances of dead programs left in the directory beside this one. */
void instance_sweep(const struct instance *instance);
/* A fresh name for a private instance: "private-<pid>-<random>". */
void instance_private_name(char ret_name[INSTANCE_NAME_SIZE]);
/* Somebody answers on its node socket, or, in a service whose node is gone, on its controller's. */
bool instance_running(const struct instance *instance);
/* Somebody answers on its node socket. */
bool instance_has_node(const struct instance *instance);
void instance_replica_socket(const struct instance *instance, uint64_t replica,
                             char ret_path[INSTANCE_PATH_SIZE]);
/*
 * The living processes of its roles, whoever started them: known by their arguments, and by leading
 * a session of their own, which what they fork does not. 
 */
void instance_each_process(const struct instance *instance,
                           void (*found)(void *owner, const struct instance_process *process),
                           void *owner);
/* The names of the instances of this user that run, one space between two; "" when none does. */
void instance_list(char *ret_names, size_t size);
/* Directory of the role executables: MANTA_LIBEXEC, else beside libmanta or the running program,
 * else the install path. */
int instance_libexec(char *ret_path, size_t size, struct error *reterr);

#endif
