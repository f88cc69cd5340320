/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance: names and directories, and who may use them.
 *
 * The runtime directory holds the sockets, and whoever can write there can pose as the instance. So
 * every directory from <runtime>/manta on (from <runtime> on when it lies below /tmp) must be a
 * real directory of this user that nobody else can write to; symbolic links are refused.
 */
#include "instance.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "ensure.h"
#include "socket.h"

enum {
    LIBEXEC_LEVELS =
        4, /* directories above libmanta or the program in which libexec/manta is looked for */
    PATH_LIMIT = 4096,
    SWEEP_LIMIT = 1024, /* directories looked at by one sweep */
};

#ifndef MANTA_LIBEXEC_DIRECTORY
#define MANTA_LIBEXEC_DIRECTORY "/usr/local/libexec/manta"
#endif

static int print_path(char *ret_path, size_t size, struct error *reterr, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int print_path(char *ret_path, size_t size, struct error *reterr, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(ret_path, size, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < size)
        return 0;
    return error_set(
        reterr, ERROR_INVALID,
        "the path %.200s... has more than %zu characters; set XDG_RUNTIME_DIR or TMPDIR to a "
        "shorter directory, or use a shorter instance name",
        ret_path, size - 1);
}

static const char *environment_path(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] == '/'
               ? value
               : NULL; /* relative ones are to be ignored (XDG base directories) */
}

static int check_name(const char *name, struct error *reterr)
{
    size_t length = strlen(name);
    if (length == 0 || length >= INSTANCE_NAME_SIZE || name[0] == '.' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != length)
        return error_set(reterr, ERROR_INVALID,
                         "\"%.60s\" is no instance name: letters, digits, '.', '_' and '-', at "
                         "most %d, no leading dot",
                         name, INSTANCE_NAME_SIZE - 1);
    return 0;
}

/* <runtime>; `ret_shared` when the directory above it is everybody's. */
static int runtime_root(char *ret_path, size_t size, bool *ret_shared, struct error *reterr)
{
    const char *root = environment_path("XDG_RUNTIME_DIR"), *temporary = environment_path("TMPDIR");
    *ret_shared = root == NULL;
    if (root)
        return print_path(ret_path, size, reterr, "%s", root);
    return print_path(ret_path, size, reterr, "%s/manta-%u", temporary ? temporary : "/tmp",
                      (unsigned)geteuid());
}

static int log_directory(struct instance *instance, bool private_instance, struct error *reterr)
{
    char *path = instance->log_directory;
    size_t size = sizeof(instance->log_directory);
    const char *state = environment_path("XDG_STATE_HOME"), *home = environment_path("HOME");
    if (private_instance)
        return print_path(path, size, reterr, "%s/logs", instance->directory);
    if (geteuid() == 0)
        return print_path(path, size, reterr, "/var/log/manta/%s", instance->name);
    if (state)
        return print_path(path, size, reterr, "%s/manta/%s/logs", state, instance->name);
    if (home)
        return print_path(path, size, reterr, "%s/.local/state/manta/%s/logs", home,
                          instance->name);
    return error_set(reterr, ERROR_INVALID,
                     "neither XDG_STATE_HOME nor HOME says where logs may be kept");
}

static int state_directory(struct instance *instance, bool private_instance, struct error *reterr)
{
    char *path = instance->state_directory;
    size_t size = sizeof(instance->state_directory);
    const char *state = environment_path("XDG_STATE_HOME"), *home = environment_path("HOME");
    if (private_instance)
        return 0;
    if (state)
        return print_path(path, size, reterr, "%s/manta/%s", state, instance->name);
    if (geteuid() == 0)
        return print_path(path, size, reterr, "/var/lib/manta/%s", instance->name);
    if (home)
        return print_path(path, size, reterr, "%s/.local/state/manta/%s", home, instance->name);
    return error_set(reterr, ERROR_INVALID,
                     "neither XDG_STATE_HOME nor HOME says where applications may be stored");
}

int instance_locate(struct instance *instance, const char *name, bool private_instance,
                    struct error *reterr)
{
    char root[PATH_LIMIT];
    bool shared;
    ensure(name);
    *instance = (struct instance){.name = ""};
    int rc = check_name(name, reterr);
    if (rc != 0)
        return rc;
    memcpy(instance->name, name, strlen(name) + 1);
    if ((rc = runtime_root(root, sizeof(root), &shared, reterr)) != 0 ||
        (rc = print_path(instance->directory, sizeof(instance->directory), reterr, "%s/manta/%s",
                         root, name)) != 0)
        return rc;
    /* The longest path that will lie in it, so that no later one fails. */
    char longest[INSTANCE_PATH_SIZE];
    if ((rc = print_path(longest, sizeof(longest), reterr, "%s/replica-%llu.sock",
                         instance->directory, (unsigned long long)UINT64_MAX)) != 0 ||
        (rc = print_path(instance->node_socket, sizeof(instance->node_socket), reterr,
                         "%s/node.sock", instance->directory)) != 0 ||
        (rc = print_path(instance->controller_socket, sizeof(instance->controller_socket), reterr,
                         "%s/controller.sock", instance->directory)) != 0 ||
        (rc = state_directory(instance, private_instance, reterr)) != 0)
        return rc;
    return log_directory(instance, private_instance, reterr);
}

void instance_replica_socket(const struct instance *instance, uint64_t replica,
                             char ret_path[INSTANCE_PATH_SIZE])
{
    snprintf(ret_path, INSTANCE_PATH_SIZE, "%.*s/replica-%llu.sock", INSTANCE_PATH_SIZE - 32,
             instance->directory, (unsigned long long)replica);
}

void instance_private_name(char ret_name[INSTANCE_NAME_SIZE])
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint32_t)getpid() * 2654435761u;
    snprintf(ret_name, INSTANCE_NAME_SIZE, "private-%d-%08x", (int)getpid(), random);
}

/* ---- directories ---- */

/* Ours alone: made when it is missing, else checked. */
static int own_directory(const char *path, struct error *reterr)
{
    struct stat file;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_set(reterr, errno == EACCES ? ERROR_PERMISSION : ERROR_SYSTEM,
                         "cannot make the directory %s: %s", path, strerror(errno));
    if (lstat(path, &file) != 0)
        return error_set(reterr, ERROR_SYSTEM, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISDIR(file.st_mode))
        return error_set(reterr, ERROR_PERMISSION,
                         "%s is %s where a directory of this user is needed: remove it, or set "
                         "XDG_RUNTIME_DIR to "
                         "another directory",
                         path, S_ISLNK(file.st_mode) ? "a symbolic link" : "a file");
    if (file.st_uid != geteuid())
        return error_set(reterr, ERROR_PERMISSION,
                         "%s belongs to user %u, not to this one (%u): remove it, or set "
                         "XDG_RUNTIME_DIR to another "
                         "directory",
                         path, (unsigned)file.st_uid, (unsigned)geteuid());
    if ((file.st_mode & 077) != 0 && chmod(path, 0700) != 0)
        return error_set(reterr, ERROR_PERMISSION,
                         "others may enter %s and its mode cannot be changed: %s", path,
                         strerror(errno));
    return 0;
}

/* Every missing directory of the path, with the user's own mask; the last one is ours alone. */
static int make_path(const char *path, struct error *reterr)
{
    char part[PATH_LIMIT];
    int rc = print_path(part, sizeof(part), reterr, "%s", path);
    if (rc != 0)
        return rc;
    for (char *at = part + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = 0;
        if (mkdir(part, 0755) != 0 && errno != EEXIST && errno != EROFS)
            return error_set(reterr, errno == EACCES ? ERROR_PERMISSION : ERROR_SYSTEM,
                             "cannot make the directory %s: %s", part, strerror(errno));
        *at = '/';
    }
    return own_directory(path, reterr);
}

int instance_create(struct instance *instance, struct error *reterr)
{
    char root[PATH_LIMIT], path[PATH_LIMIT];
    bool shared;
    int rc = runtime_root(root, sizeof(root), &shared, reterr);
    if (rc == 0 && shared)
        rc = own_directory(root, reterr);
    if (rc == 0)
        rc = print_path(path, sizeof(path), reterr, "%s/manta", root);
    if (rc == 0)
        rc = own_directory(path, reterr);
    if (rc == 0)
        rc = own_directory(instance->directory, reterr);
    if (rc == 0)
        rc = print_path(path, sizeof(path), reterr, "%s/metrics", instance->directory);
    if (rc == 0)
        rc = own_directory(path, reterr);
    if (rc == 0)
        rc = make_path(instance->log_directory, reterr);
    if (rc == 0 && instance->state_directory[0])
        rc = make_path(instance->state_directory, reterr);
    return rc;
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

static bool is_runtime_file(const char *name)
{
    return ends_with(name, ".sock") || strncmp(name, "controller.", 11) == 0 ||
           strcmp(name, "instance.json") == 0;
}

static bool is_metric_page(const char *name)
{
    return ends_with(name, ".page");
}

static bool is_log(const char *name)
{
    return strstr(name, ".log") != NULL;
}

/* Removes what `ours` names, then the directory if nothing else is in it.  Follows no links. */
static void remove_directory(const char *path, bool (*ours)(const char *name))
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    if (!directory) {
        socket_close(descriptor);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (ours(entry->d_name))
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    rmdir(path);
}

void instance_remove(const struct instance *instance)
{
    char path[PATH_LIMIT];
    ensure(instance->directory[0] == '/');
    snprintf(path, sizeof(path), "%s/metrics", instance->directory);
    remove_directory(path, is_metric_page);
    snprintf(path, sizeof(path), "%s/logs", instance->directory);
    if (strcmp(path, instance->log_directory) == 0)
        remove_directory(path, is_log);
    remove_directory(instance->directory, is_runtime_file);
}

static bool answers(const char *path)
{
    int descriptor = socket_connect_unix(path);
    socket_close(descriptor);
    return descriptor >= 0 || descriptor == -EAGAIN; /* EAGAIN: so busy that its queue is full */
}

bool instance_has_node(const struct instance *instance)
{
    return answers(instance->node_socket);
}

bool instance_running(const struct instance *instance)
{
    return answers(instance->node_socket) || answers(instance->controller_socket);
}

void instance_list(char *ret_names, size_t size)
{
    struct instance any;
    struct error ignored;
    size_t used = 0;
    ret_names[0] = 0;
    if (instance_locate(&any, "any", true, &ignored) != 0)
        return;
    *strrchr(any.directory, '/') = 0;
    DIR *directory = opendir(any.directory);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct instance found;
        if (instance_locate(&found, entry->d_name, true, &ignored) != 0 ||
            !instance_running(&found))
            continue;
        int length =
            snprintf(ret_names + used, size - used, "%s%s", used ? " " : "", entry->d_name);
        if (length < 0 || (size_t)length >= size - used) {
            ret_names[used] = 0;
            break;
        }
        used += (size_t)length;
    }
    closedir(directory);
}

/* The program that started it is gone, and nobody answers: a node that is just starting has a
 * living program. */
static bool is_left_over(const char *name, struct instance *ret_instance)
{
    int pid, length = 0;
    if (sscanf(name, "private-%d-%n", &pid, &length) != 1 || length == 0 || pid <= 0)
        return false;
    return kill(pid, 0) != 0 && errno == ESRCH &&
           instance_locate(ret_instance, name, true, NULL) == 0 && !instance_running(ret_instance);
}

void instance_sweep(const struct instance *instance)
{
    char path[PATH_LIMIT];
    struct instance other;
    snprintf(path, sizeof(path), "%s", instance->directory);
    *strrchr(path, '/') = 0;
    DIR *directory = opendir(path);
    const struct dirent *entry;
    for (int i = 0; directory && i < SWEEP_LIMIT && (entry = readdir(directory)) != NULL; i++)
        if (is_left_over(entry->d_name, &other))
            instance_remove(&other);
    if (directory)
        closedir(directory);
}

/* ---- processes ---- */

/* What follows `option` among the arguments; null when it is not there. */
static const char *argument(const char *arguments, size_t size, const char *option)
{
    const char *end = arguments + size;
    bool here = false;
    for (const char *at = arguments; at < end; at += strlen(at) + 1) {
        if (here)
            return at;
        here = strcmp(at, option) == 0;
    }
    return NULL;
}

/* Zero-ended strings, and an end of their own; 0 bytes when it is gone or not ours to read. */
static size_t read_arguments(pid_t pid, char *ret_arguments, size_t room)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file >= 0 ? read(file, ret_arguments, room - 1) : -1;
    socket_close(file);
    ret_arguments[size > 0 ? size : 0] = 0;
    return size > 0 ? (size_t)size : 0;
}

static bool has_role(const char *arguments, size_t size, struct instance_process *ret_process)
{
    const char *slash = strrchr(arguments, '/'), *program = slash ? slash + 1 : arguments;
    const char *number = NULL;
    if (strcmp(program, "manta-controller") == 0) {
        ret_process->role = INSTANCE_CONTROLLER;
        return true;
    }
    if (strcmp(program, "manta-proxy") == 0) {
        ret_process->role = INSTANCE_PROXY;
        number = argument(arguments, size, "--number");
    } else { /* its program is the runner's: an interpreter, perhaps */
        ret_process->role = INSTANCE_REPLICA;
        number = argument(arguments, size, "--replica");
    }
    ret_process->number = number ? strtoull(number, NULL, 10) : 0;
    return ret_process->number != 0;
}

static bool is_process_of(const struct instance *instance, pid_t pid,
                          struct instance_process *ret_process)
{
    char arguments[PATH_LIMIT];
    *ret_process = (struct instance_process){.pid = pid, .started = child_start_time(pid)};
    size_t size = read_arguments(pid, arguments, sizeof(arguments));
    const char *directory = size ? argument(arguments, size, "--instance") : NULL;
    return directory && strcmp(directory, instance->directory) == 0 && getsid(pid) == pid &&
           has_role(arguments, size, ret_process) &&
           child_start_time(pid) == ret_process->started; /* the same one all the while */
}

void instance_each_process(const struct instance *instance,
                           void (*found)(void *owner, const struct instance_process *process),
                           void *owner)
{
    struct instance_process process;
    const struct dirent *entry;
    DIR *directory = opendir("/proc");
    while (directory && (entry = readdir(directory)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 0 && pid != getpid() && is_process_of(instance, pid, &process))
            found(owner, &process);
    }
    if (directory)
        closedir(directory);
}

/* ---- executables ---- */

/* A directory whose programs only root or this user could have put there. */
static bool is_trusted_directory(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 && S_ISDIR(file.st_mode) &&
           (file.st_uid == 0 || file.st_uid == geteuid()) && (file.st_mode & S_IWOTH) == 0;
}

/* libexec/manta in the directory of `file`, or in one above it. */
static bool find_libexec(const char *file, char *ret_path, size_t size)
{
    char directory[PATH_LIMIT];
    if (!realpath(file, directory))
        return false;
    for (int i = 0; i < LIBEXEC_LEVELS; i++) {
        char *slash = strrchr(directory, '/');
        if (!slash)
            return false;
        *slash = 0;
        int length = snprintf(ret_path, size, "%s/libexec/manta", directory);
        if (length > 0 && (size_t)length < size && is_trusted_directory(ret_path))
            return true;
    }
    return false;
}

int instance_libexec(char *ret_path, size_t size, struct error *reterr)
{
    Dl_info here;
    const char *asked = getenv("MANTA_LIBEXEC");
    if (asked && *asked) {
        if (access(asked, R_OK | X_OK) != 0)
            return error_set(reterr, ERROR_NOT_FOUND, "MANTA_LIBEXEC names %s: %s", asked,
                             strerror(errno));
        return print_path(ret_path, size, reterr, "%s", asked);
    }
    if (dladdr((void *)(uintptr_t)instance_libexec, &here) != 0 && here.dli_fname &&
        find_libexec(here.dli_fname, ret_path, size))
        return 0;
    if (find_libexec("/proc/self/exe", ret_path, size))
        return 0;
    if (is_trusted_directory(MANTA_LIBEXEC_DIRECTORY))
        return print_path(ret_path, size, reterr, "%s", MANTA_LIBEXEC_DIRECTORY);
    return error_set(reterr, ERROR_NOT_FOUND,
                     "the programs of Manta are neither beside this program nor in %s: set "
                     "MANTA_LIBEXEC to their "
                     "directory",
                     MANTA_LIBEXEC_DIRECTORY);
}
