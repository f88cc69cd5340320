/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: spawning without a copy of this process, and watching without SIGCHLD.
 *
 * Spawn.  clone(CLONE_VM | CLONE_VFORK) as posix_spawn does: no page tables are copied, however
 * large the process that embeds us is, no atfork handler of a foreign library runs, and a failed
 * exec leaves its errno in our memory. The price: until the exec the child shares our memory, so it
 * runs on a stack of its own, with all signals blocked until every handler is reset, and calls
 * nothing but system calls.  The kernel holds the spawning thread back until then.
 *
 * Descriptors.  All are first copied to numbers above every target, then copied down: a target may
 * be another's source.  Whatever else is open is marked close-on-exec, since a host program may
 * have been careless.
 *
 * Watch.  A pidfd becomes readable at the end of its process.  The status is first looked at
 * without reaping: as long as the dead process is there nobody else can get its number, so that its
 * process group can be killed safely.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ensure.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum {
    CHILD_STACK_SIZE = 64 * 1024,
    CHILD_REAP_LIMIT = 1000, /* dead processes per child_reap_orphans */
    STANDARD_COUNT = 3,
    FIRST_SIGNAL = 1,
    STAT_SIZE = 1024, /* of /proc/<pid>/stat */
    STAT_START_TIME = 22,
};

/* Guards `known`: child.h is used by one thread per loop, and a program may have several loops. */
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list known;                  /* struct child */
static atomic_uint_fast64_t nofile_before; /* soft limit before it was raised; 0: it was not */

/* What the new process needs to know, and where it says what went wrong. */
struct start {
    const struct child_spawn *spawn;
    int sources[STANDARD_COUNT + CHILD_DESCRIPTOR_LIMIT];
    int targets[STANDARD_COUNT + CHILD_DESCRIPTOR_LIMIT];
    size_t count;
    int first_free;     /* above every target */
    rlim_t nofile_soft; /* 0: leave */
    char oom_score_adj[8];
    int error;        /* errno of the step that failed; 0: none did */
    const char *step; /* which, for people */
};

/* ---- the new process, in our memory ---- */

#if defined(__clang__)
#define IN_NEW_PROCESS __attribute__((no_sanitize("address", "thread", "undefined")))
#else
#define IN_NEW_PROCESS                                                                             \
    __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

IN_NEW_PROCESS static bool failed(struct start *start, const char *step)
{
    start->error = errno;
    start->step = step;
    return false;
}

IN_NEW_PROCESS static bool place_descriptors(struct start *start)
{
    int high[STANDARD_COUNT + CHILD_DESCRIPTOR_LIMIT];
    for (size_t i = 0; i < start->count; i++)
        if ((high[i] = fcntl(start->sources[i], F_DUPFD_CLOEXEC, start->first_free)) < 0)
            return failed(start, "copy a descriptor");
    syscall(SYS_close_range, STANDARD_COUNT, ~0U,
            CLOSE_RANGE_CLOEXEC); /* older kernels: ours are close-on-exec */
    for (size_t i = 0; i < start->count; i++)
        if (dup2(high[i], start->targets[i]) < 0)
            return failed(start, "place a descriptor");
    return true;
}

IN_NEW_PROCESS static void reset_signals(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int i = FIRST_SIGNAL; i < NSIG; i++)
        sigaction(
            i, &standard,
            NULL); /* refused for SIGKILL, SIGSTOP and the C library's own: they are as wanted */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

IN_NEW_PROCESS static bool set_limits(struct start *start)
{
    struct rlimit limit;
    if (start->nofile_soft && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = start->nofile_soft < limit.rlim_max ? start->nofile_soft : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return failed(start, "limit the descriptors");
    }
    if (!start->spawn->core_dumps && getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &limit);
    }
    if (start->oom_score_adj[0]) {
        /* A wish: some containers forbid it. */
        int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (file >= 0) {
            ssize_t ignored = write(file, start->oom_score_adj, strlen(start->oom_score_adj));
            (void)ignored;
            close(file);
        }
    }
    return true;
}

IN_NEW_PROCESS static int run_new_process(void *argument)
{
    struct start *start = argument;
    const struct child_spawn *spawn = start->spawn;
    setsid();
    if (spawn->directory && chdir(spawn->directory) != 0)
        failed(start, "enter the directory");
    else if (place_descriptors(start) && set_limits(start)) {
        reset_signals();
        execve(spawn->path, (char *const *)spawn->arguments,
               spawn->environment ? (char *const *)spawn->environment : environ);
        failed(start, "run it");
    }
    _exit(127);
}

/* ---- spawn ---- */

static void give(struct start *start, int source, int target)
{
    start->sources[start->count] = source;
    start->targets[start->count++] = target;
    if (start->first_free <= target)
        start->first_free = target + 1;
}

static int prepare(struct start *start, const struct child_spawn *spawn, int null_descriptor,
                   struct error *reterr)
{
    if (spawn->descriptor_count > CHILD_DESCRIPTOR_LIMIT)
        return error_set(reterr, ERROR_LIMIT, "%zu descriptors for %s are more than %d",
                         spawn->descriptor_count, spawn->path, CHILD_DESCRIPTOR_LIMIT);
    *start = (struct start){.spawn = spawn, .first_free = STANDARD_COUNT};
    give(start, null_descriptor, 0);
    give(start, spawn->output >= 0 ? spawn->output : 1, 1);
    give(start, spawn->error_output >= 0 ? spawn->error_output : 2, 2);
    for (size_t i = 0; i < spawn->descriptor_count; i++) {
        ensure(spawn->descriptors[i].target >= STANDARD_COUNT);
        give(start, spawn->descriptors[i].source, spawn->descriptors[i].target);
    }
    start->nofile_soft =
        (rlim_t)(spawn->nofile_soft ? spawn->nofile_soft : atomic_load(&nofile_before));
    if (spawn->oom_score_adj)
        snprintf(start->oom_score_adj, sizeof(start->oom_score_adj), "%d", spawn->oom_score_adj);
    return 0;
}

/* The pid, or -errno of the clone. */
/*
 * ThreadSanitizer keeps its account of this thread in our memory: an exec in a process that shares
 * it leaves the thread unobserved from then on.  There the new process gets a copy, and a failed
 * exec shows as an exit.
 */
#ifdef __SANITIZE_THREAD__
enum { CHILD_MEMORY = 0 };
#else
enum { CHILD_MEMORY = CLONE_VM };
#endif

static pid_t clone_process(struct start *start, int *ret_pidfd)
{
    sigset_t all, before;
    void *stack = mmap(NULL, CHILD_STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -ENOMEM;
    /* No handler of ours may run in the new process, where it would see our memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t pid = clone(run_new_process, (char *)stack + CHILD_STACK_SIZE,
                      CHILD_MEMORY | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, start, ret_pidfd);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, CHILD_STACK_SIZE);
    return pid > 0 ? pid : -error;
}

static void reap(int pidfd)
{
    siginfo_t status;
    while (waitid(P_PIDFD, (id_t)pidfd, &status, WEXITED) != 0 && errno == EINTR)
        ;
}

static int spawn_failed(const struct start *start, struct error *reterr)
{
    const char *path = start->spawn->path;
    if (strcmp(start->step, "enter the directory") == 0)
        path = start->spawn->directory;
    int code = start->error == ENOENT   ? ERROR_NOT_FOUND
               : start->error == EACCES ? ERROR_PERMISSION
                                        : ERROR_SYSTEM;
    return error_set(reterr, code, "cannot start %s: cannot %s: %s", path, start->step,
                     strerror(start->error));
}

static void child_ready(void *owner, int events);

static int watch_process(struct child *child, struct loop *loop,
                         void (*exit)(void *owner, struct child *child, int exit_code,
                                      int signal_number),
                         void *owner)
{
    child->exit = exit;
    child->owner = owner;
    int rc = loop_watch_open(loop, &child->watch, child->pidfd, LOOP_READ, child_ready, child);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&known_lock);
    if (!known.head.next)
        list_init(&known);
    list_push_back(&known, &child->link);
    pthread_mutex_unlock(&known_lock);
    return 0;
}

int child_start(struct child *child, struct loop *loop, const struct child_spawn *spawn,
                void (*exit)(void *owner, struct child *child, int exit_code, int signal_number),
                void *owner, struct error *reterr)
{
    ensure(spawn->path && spawn->arguments && (exit || !loop));
    struct start start;
    int pidfd = -1, rc;
    *child = (struct child){.pidfd = -1};
    int null_descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_descriptor < 0)
        return error_set(reterr, ERROR_SYSTEM, "cannot open /dev/null: %s", strerror(errno));
    rc = prepare(&start, spawn, null_descriptor, reterr);
    if (rc != 0)
        goto done;
    pid_t pid = clone_process(&start, &pidfd);
    if (pid < 0) {
        rc = error_set(reterr, ERROR_SYSTEM, "cannot start %s: %s", spawn->path, strerror(-pid));
        goto done;
    }
    if (start.error != 0) {
        reap(pidfd);
        close(pidfd);
        rc = spawn_failed(&start, reterr);
        goto done;
    }
    child->pid = pid;
    child->pidfd = pidfd;
    rc = loop ? watch_process(child, loop, exit, owner) : 0;
    if (rc != 0) {
        child_signal(child, SIGKILL, true);
        reap(pidfd);
        close(pidfd);
        *child = (struct child){.pidfd = -1};
        rc = error_set(reterr, ERROR_SYSTEM, "cannot watch %s: %s", spawn->path, strerror(-rc));
    }
done:
    close(null_descriptor);
    return rc;
}

int child_adopt(struct child *child, struct loop *loop, pid_t pid,
                void (*exit)(void *owner, struct child *child, int exit_code, int signal_number),
                void *owner, struct error *reterr)
{
    ensure(exit);
    *child = (struct child){.pidfd = -1};
    int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return error_set(reterr, pid <= 0 || errno == ESRCH ? ERROR_NOT_FOUND : ERROR_SYSTEM,
                         "cannot watch process %d: %s", (int)pid,
                         pid > 0 ? strerror(errno) : "no process id");
    child->pid = pid;
    child->pidfd = pidfd;
    int rc = watch_process(child, loop, exit, owner);
    if (rc != 0) {
        close(pidfd);
        *child = (struct child){.pidfd = -1};
        return error_set(reterr, ERROR_SYSTEM, "cannot watch process %d: %s", (int)pid,
                         strerror(-rc));
    }
    return 0;
}

/* "pid (name, with anything in it) state ppid ...": the 22nd field. */
uint64_t child_start_time(pid_t pid)
{
    char path[32], line[STAT_SIZE];
    unsigned long long started = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int file = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t size = file >= 0 ? read(file, line, sizeof line - 1) : -1;
    if (file >= 0)
        close(file);
    line[size > 0 ? size : 0] = 0;
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < STAT_START_TIME; field++)
        at = strchr(at + 1, ' ');
    return at && sscanf(at, " %llu", &started) == 1 ? started : 0;
}

/* ---- signals ---- */

static int send_signal(const struct child *child, int signal_number)
{
    return (int)syscall(SYS_pidfd_send_signal, child->pidfd, signal_number, NULL, 0);
}

/* The group has the number of its leader, which is nobody else's while the leader or a member is
 * there. */
static void signal_group(const struct child *child, int signal_number)
{
    bool leader_there = send_signal(child, 0) == 0 || errno == EPERM;
    if (!leader_there && kill(child->pid, 0) == 0)
        return; /* the number is a new process's */
    kill(-child->pid, signal_number);
}

void child_signal(struct child *child, int signal_number, bool whole_session)
{
    if (child->pid <= 0)
        return;
    send_signal(child, signal_number);
    if (whole_session)
        signal_group(child, signal_number);
}

/* ---- the end ---- */

void child_close(struct child *child)
{
    loop_watch_close(&child->watch);
    pthread_mutex_lock(&known_lock);
    list_remove(&child->link);
    pthread_mutex_unlock(&known_lock);
    if (child->pid > 0 && child->pidfd >= 0)
        close(child->pidfd);
    child->pid = 0;
    child->pidfd = -1;
}

static void child_ready(void *owner, int events)
{
    struct child *child = owner;
    siginfo_t status = {.si_pid = 0};
    int exit_code = -1, signal_number = 0;

    if (waitid(P_PIDFD, (id_t)child->pidfd, &status, WEXITED | WNOHANG | WNOWAIT) == 0) {
        if (status.si_pid == 0)
            return; /* readable, and not dead after all */
        if (status.si_code == CLD_EXITED)
            exit_code = status.si_status;
        else
            signal_number = status.si_status;
    }
    signal_group(child, SIGKILL);
    if (status.si_pid != 0)
        reap(child->pidfd);
    void (*exit)(void *, struct child *, int, int) = child->exit;
    void *exit_owner = child->owner;
    child_close(child);
    exit(exit_owner, child, exit_code, signal_number);
}

/* ---- this process ---- */

void child_raise_nofile(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        atomic_store(&nofile_before, before);
}

int child_become_subreaper(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

static struct child *find_known(pid_t pid)
{
    struct child *found = NULL;
    struct list_link *link;
    pthread_mutex_lock(&known_lock);
    if (known.head.next)
        list_each (link, &known)
            if (list_entry(link, struct child, link)->pid == pid)
                found = list_entry(link, struct child, link);
    pthread_mutex_unlock(&known_lock);
    return found;
}

void child_reap_orphans(void (*reaped)(void *owner, pid_t pid, int status), void *owner)
{
    for (int i = 0; i < CHILD_REAP_LIMIT; i++) {
        siginfo_t at = {.si_pid = 0};
        if (waitid(P_ALL, 0, &at, WEXITED | WNOHANG | WNOWAIT) != 0 || at.si_pid == 0)
            return;
        struct child *child = find_known(at.si_pid);
        if (child) {
            child_ready(child, LOOP_READ);
            continue;
        }
        int status = 0;
        if (waitpid(at.si_pid, &status, WNOHANG) == at.si_pid && reaped)
            reaped(owner, at.si_pid, status);
    }
}
