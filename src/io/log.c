/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: a ring of bytes between those who print and one thread that writes.
 *
 * Who prints formats its line first, on its own stack, and holds the lock only while the bytes are
 * copied into the ring.  The thread writes straight from the ring without the lock: bytes between
 * `tail` and `head` are its own until it moves `tail`.  A sink that is stuck therefore stops
 * nothing but the thread; the ring fills and lines are dropped and counted, and the first line
 * after that says how many.
 *
 * The thread sleeps without a timer while nothing is printed.  When it is woken it gives further
 * lines a few milliseconds to gather, unless the line is an error or the ring is half full: a busy
 * process pays for a few hundred wake-ups a second, not for one per line.
 *
 * A fork: the child has no thread and must not touch the lock, so its log is closed by an atfork
 * handler.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ensure.h"
#include "mem.h"
#include "metrics.h"
#include "text.h"

enum {
    LOG_LINE_LIMIT = 32 * 1024,
    LOG_STACK_LINE = 2048,      /* messages up to this size need no heap */
    LOG_STACK_TEXT = 20 * 1024, /* such a message escaped, with names and ids */
    LOG_PATH_SIZE = 4096,
    LOG_NAME_SIZE = 256,
    LOG_GATHER_MS = 5,           /* for further lines, before the first is written */
    LOG_WRITE_SIZE = 256 * 1024, /* bytes at most in one write, so that `tail` moves on */
    LOG_CLOSE_MS = 1000,
    LOG_QUEUE_LEAST = 4096,
    NS_PER_MS = 1000000,
    NS_PER_SECOND = 1000000000,
};

struct log {
    /* Constant after log_open. */
    enum log_encoding encoding;
    bool to_file;
    char path[LOG_PATH_SIZE];
    char component[LOG_NAME_SIZE], component_id[LOG_NAME_SIZE];
    uint64_t rotate_size;
    uint32_t rotate_count;
    size_t capacity;
    char *ring;
    pthread_t thread;
    /* The thread's. */
    int sink; /* -1: could not be opened again */
    uint64_t sink_size;
    bool line_open; /* the last write ended inside a line: no rotation now */
    /* Guarded by `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t work;  /* CLOCK_MONOTONIC; the thread waits here */
    uint64_t head, tail;  /* bytes ever queued and ever written */
    uint64_t dropped_new; /* lines dropped and not yet told */
    bool asleep;          /* the thread waits for a first line */
    bool urgent;          /* gather no more */
    bool ends;            /* log_close was called */
    bool ended;           /* the thread is past its last write */
    bool forsaken;        /* log_close went without it: the thread frees everything */
};

static _Atomic(struct log *) current; /* null: closed */
static atomic_int current_level = LOG_CRITICAL + 1;
static atomic_uint_fast64_t dropped;

/* ---- the sink ---- */

static void open_sink(struct log *log)
{
    struct stat file;
    log->sink =
        open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (log->sink >= 0)
        log->sink_size = fstat(log->sink, &file) == 0 ? (uint64_t)file.st_size : 0;
}

/* path.1 is the newest of the old ones; the oldest is overwritten. */
static void rotate(struct log *log)
{
    char older[LOG_PATH_SIZE + 16], newer[LOG_PATH_SIZE + 16];
    for (uint32_t i = log->rotate_count; i > 0; i--) {
        snprintf(older, sizeof(older), "%s.%u", log->path, i);
        if (i > 1)
            snprintf(newer, sizeof(newer), "%s.%u", log->path, i - 1);
        else
            snprintf(newer, sizeof(newer), "%s", log->path);
        rename(newer, older); /* fails for those that do not exist yet */
    }
    int before = log->sink;
    open_sink(log);
    if (log->sink < 0)
        log->sink = before; /* rather too large a file than none */
    else
        close(before);
}

static uint64_t count_lines(const char *at, size_t size)
{
    uint64_t count = 0;
    for (const char *end = at + size;
         at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        count++;
    return count;
}

static void note_dropped(uint64_t lines)
{
    atomic_fetch_add(&dropped, lines);
    metric_add(log_dropped_total, lines);
}

/* How much of the bytes belongs into the file that is open: whole lines up to rotate_size. */
static size_t fitting(struct log *log, const char *at, size_t size)
{
    if (!log->to_file || log->sink_size + size <= log->rotate_size)
        return size;
    uint64_t room = log->rotate_size > log->sink_size ? log->rotate_size - log->sink_size : 0;
    const char *end = room > 0 ? memrchr(at, '\n', (size_t)room) : NULL;
    if (!end && log->sink_size > 0 && !log->line_open) {
        rotate(log);
        return log->sink_size == 0 ? fitting(log, at, size) : size;
    }
    if (!end)
        end = memchr(at, '\n', size); /* a line that is longer than a file, or the rest of one */
    return end ? (size_t)(end - at) + 1 : size;
}

/* One write, as long as the sink blocks; the bytes written, or -1 when it refuses them. */
static ssize_t write_some(struct log *log, const char *at, size_t size)
{
    for (;;) {
        ssize_t written = write(log->sink, at, size);
        if (written > 0)
            return written;
        if (written < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = log->sink,
                                  .events = POLLOUT}; /* somebody made our stderr nonblocking */
            poll(&wait, 1, -1);
        } else if (written == 0 || errno != EINTR) {
            return -1;
        }
    }
}

static void write_sink(struct log *log, const char *at, size_t size)
{
    if (log->to_file && log->sink < 0)
        open_sink(log);
    while (size > 0) {
        ssize_t written = write_some(log, at, fitting(log, at, size));
        if (written < 0) {
            note_dropped(count_lines(at, size));
            return;
        }
        log->line_open = at[written - 1] != '\n';
        log->sink_size += (uint64_t)written;
        at += written;
        size -= (size_t)written;
    }
}

/* ---- the thread ---- */

static struct timespec after_ms(int ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)ms * NS_PER_MS;
    at.tv_sec += at.tv_nsec / NS_PER_SECOND;
    at.tv_nsec %= NS_PER_SECOND;
    return at;
}

/* Lock held: until there is something to write and it is time to do so. */
static void wait_for_lines(struct log *log)
{
    log->asleep = true;
    while (log->head == log->tail && !log->ends)
        pthread_cond_wait(&log->work, &log->lock);
    log->asleep = false;
    struct timespec due = after_ms(LOG_GATHER_MS);
    while (!log->urgent && !log->ends && log->head - log->tail < log->capacity / 2)
        if (pthread_cond_timedwait(&log->work, &log->lock, &due) == ETIMEDOUT)
            break;
    log->urgent = false;
}

/* The ring's oldest bytes that lie in one piece. */
static size_t oldest(const struct log *log, const char **ret_at)
{
    size_t start = (size_t)(log->tail % log->capacity), size = (size_t)(log->head - log->tail);
    *ret_at = log->ring + start;
    if (size > log->capacity - start)
        size = log->capacity - start;
    return size < LOG_WRITE_SIZE ? size : LOG_WRITE_SIZE;
}

static void free_log(struct log *log)
{
    if (log->to_file && log->sink >= 0)
        close(log->sink);
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->work);
    mem_free(log->ring);
    mem_free(log);
}

static void *write_lines(void *owner)
{
    struct log *log = owner;
    pthread_mutex_lock(&log->lock);
    while (!log->ends || log->head > log->tail) {
        if (log->head == log->tail)
            wait_for_lines(log);
        const char *at;
        size_t size = oldest(log, &at);
        pthread_mutex_unlock(&log->lock);
        if (size > 0)
            write_sink(log, at, size);
        pthread_mutex_lock(&log->lock);
        log->tail += size;
    }
    log->ended = true;
    bool forsaken = log->forsaken;
    pthread_cond_broadcast(&log->work);
    pthread_mutex_unlock(&log->lock);
    if (forsaken)
        free_log(log);
    return NULL;
}

/* ---- lines ---- */

static const char *level_name(enum log_level level)
{
    if (level >= LOG_CRITICAL)
        return "CRITICAL";
    if (level >= LOG_ERROR)
        return "ERROR";
    if (level >= LOG_WARNING)
        return "WARNING";
    return level >= LOG_INFO ? "INFO" : "DEBUG";
}

/* The text of the current second; most lines of a busy process fall into the same one. */
static _Thread_local struct {
    time_t second;
    size_t length;
    char text[24];
} second_text;

/* "2026-01-31 12:34:56,789" as Python's logging prints it. */
static void print_time(char ret_time[32])
{
    struct timespec now;
    struct tm day;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second_text.second || !second_text.length) {
        localtime_r(&now.tv_sec, &day);
        second_text.length =
            strftime(second_text.text, sizeof(second_text.text), "%Y-%m-%d %H:%M:%S", &day);
        second_text.second = now.tv_sec;
    }
    memcpy(ret_time, second_text.text, second_text.length);
    unsigned ms = (unsigned)(now.tv_nsec / NS_PER_MS);
    char tail[5] = {',', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 0};
    memcpy(ret_time + second_text.length, tail, sizeof(tail));
}

/* What a client sent may be part of a message: no control character of it may act on a terminal. */
static void add_message(struct text *line, struct bytes message)
{
    size_t plain = 0;
    for (size_t i = 0; i < message.size; i++) {
        uint8_t byte = message.at[i];
        if ((byte >= 0x20 && byte != 0x7F) || byte == '\n' || byte == '\t')
            continue;
        text_add(line, bytes_of(message.at + plain, i - plain));
        text_print(line, "\\x%02x", byte);
        plain = i + 1;
    }
    text_add(line, bytes_skip(message, plain));
}

static void add_text_line(struct text *line, const struct log *log, enum log_level level,
                          struct bytes request_id, struct bytes message)
{
    char time[32];
    print_time(time);
    /* One line per request of a proxy: no printf here. */
    text_add_string(line, level_name(level));
    text_add_byte(line, ' ');
    text_add_string(line, time);
    text_add_byte(line, ' ');
    text_add_string(line, log->component);
    text_add_byte(line, ' ');
    text_add_string(line, log->component_id);
    text_add_byte(line, ' ');
    if (request_id.size > 0) {
        add_message(line, request_id);
        text_add_byte(line, ' ');
    }
    text_add_string(line, "-- ");
    add_message(line, message);
    text_add_byte(line, '\n');
}

static void add_json_field(struct text *line, const char *key, struct bytes value)
{
    text_print(line, ", \"%s\": ", key);
    text_add_json(line, value);
}

static void add_json_line(struct text *line, const struct log *log, enum log_level level,
                          struct bytes request_id, struct bytes message)
{
    char time[32];
    print_time(time);
    text_print(line, "{\"asctime\": \"%s\", \"levelname\": \"%s\"", time, level_name(level));
    add_json_field(line, "message", message);
    add_json_field(line, "component_name", bytes_of_string(log->component));
    add_json_field(line, "component_id", bytes_of_string(log->component_id));
    if (request_id.size > 0)
        add_json_field(line, "request_id", request_id);
    text_add_string(line, "}\n");
}

/* Lock held. */
static void copy_in(struct log *log, struct bytes line)
{
    size_t start = (size_t)(log->head % log->capacity), first = log->capacity - start;
    if (first > line.size)
        first = line.size;
    memcpy(log->ring + start, line.at, first);
    memcpy(log->ring, line.at + first, line.size - first);
    log->head += line.size;
}

static bool queue(struct log *log, struct bytes line, bool urgent)
{
    pthread_mutex_lock(&log->lock);
    bool fits = line.size <= log->capacity - (log->head - log->tail);
    if (fits)
        copy_in(log, line);
    else
        log->dropped_new++;
    if (urgent || log->head - log->tail >= log->capacity / 2)
        log->urgent = true;
    bool wakes = log->asleep || log->urgent;
    pthread_mutex_unlock(&log->lock);
    if (wakes)
        pthread_cond_signal(&log->work);
    return fits;
}

static void print_line(struct log *log, enum log_level level, struct bytes request_id,
                       struct bytes message)
{
    char small[LOG_STACK_TEXT];
    struct text line;
    bool fits = message.size <= LOG_STACK_LINE; /* six bytes for each one at most */
    if (fits)
        line = (struct text){.at = small, .capacity = sizeof(small), .limit = sizeof(small) - 1};
    else
        text_init(&line, LOG_STACK_TEXT + 6 * LOG_LINE_LIMIT);
    if (log->encoding == LOG_JSON)
        add_json_line(&line, log, level, request_id, message);
    else
        add_text_line(&line, log, level, request_id, message);
    if (line.failed || !queue(log, text_bytes(&line), level >= LOG_ERROR))
        note_dropped(1);
    if (!fits)
        text_done(&line);
}

static void print_whole(struct log *log, enum log_level level, struct bytes whole)
{
    struct text line;
    text_init(&line, 6 * LOG_LINE_LIMIT + 1);
    add_message(&line, whole.size > LOG_LINE_LIMIT ? bytes_head(whole, LOG_LINE_LIMIT) : whole);
    text_add_byte(&line, '\n');
    if (line.failed || !queue(log, text_bytes(&line), level >= LOG_ERROR))
        note_dropped(1);
    text_done(&line);
}

/* Once there is room again, the gap is told where it was. */
static void print_gap(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    uint64_t lines =
        log->capacity - (log->head - log->tail) > log->capacity / 2 ? log->dropped_new : 0;
    log->dropped_new -= lines;
    pthread_mutex_unlock(&log->lock);
    if (lines == 0)
        return;
    char message[128];
    int length = snprintf(message, sizeof(message),
                          "%llu log lines were dropped here because the sink was slow.",
                          (unsigned long long)lines);
    print_line(log, LOG_WARNING, (struct bytes){0}, bytes_of(message, (size_t)length));
}

static void print_list(enum log_level level, struct bytes request_id, const char *format,
                       va_list arguments) __attribute__((format(printf, 3, 0)));

static void print_list(enum log_level level, struct bytes request_id, const char *format,
                       va_list arguments)
{
    struct log *log = atomic_load_explicit(&current, memory_order_acquire);
    if (!log || !log_enabled(level))
        return;
    char small[LOG_STACK_LINE], *large = NULL;
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(small, sizeof(small), format, arguments);
    if (length >= (int)sizeof(small)) {
        size_t size = length < LOG_LINE_LIMIT ? (size_t)length + 1 : LOG_LINE_LIMIT;
        large = mem_try(size);
        if (large)
            vsnprintf(large, size, format, again);
        length = large ? (int)size - 1 : (int)sizeof(small) - 1;
    }
    va_end(again);
    if (length < 0)
        return;
    print_gap(log);
    print_line(log, level, bytes_head(request_id, LOG_NAME_SIZE),
               bytes_of(large ? large : small, (size_t)length));
    mem_free(large);
}

/* ---- public ---- */

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_print(enum log_level level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_list(level, (struct bytes){0}, format, arguments);
    va_end(arguments);
}

void log_request_line(enum log_level level, struct bytes request_id, struct bytes message)
{
    struct log *log = atomic_load_explicit(&current, memory_order_acquire);
    if (!log || !log_enabled(level))
        return;
    print_gap(log);
    print_line(log, level, request_id, message);
}

void log_line(enum log_level level, struct bytes line)
{
    struct log *log = atomic_load_explicit(&current, memory_order_acquire);
    if (!log || !log_enabled(level))
        return;
    print_gap(log);
    print_whole(log, level, line);
}

void log_request(enum log_level level, struct bytes request_id, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_list(level, request_id, format, arguments);
    va_end(arguments);
}

uint64_t log_dropped(void)
{
    return atomic_load(&dropped);
}

static void forget_in_forked_child(void)
{
    atomic_store(&current_level, LOG_CRITICAL + 1);
    atomic_store(&current, NULL);
}

static void register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, forget_in_forked_child);
}

static int start_thread(struct log *log)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&log->thread, NULL, write_lines, log);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void copy_name(char *ret_name, size_t size, const char *name)
{
    snprintf(ret_name, size, "%s", name ? name : "");
}

int log_open(const struct log_config *config, struct error *reterr)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_condattr_t monotonic;
    ensure(!atomic_load(&current));
    if (config->path && strlen(config->path) >= LOG_PATH_SIZE)
        return error_set(reterr, ERROR_INVALID, "the path of the log has more than %d characters",
                         LOG_PATH_SIZE - 1);
    struct log *log = mem_new(sizeof(*log));
    log->encoding = config->encoding;
    log->to_file = config->path != NULL;
    log->rotate_size = config->rotate_size ? config->rotate_size : UINT64_MAX;
    log->rotate_count = config->rotate_count ? config->rotate_count : 1;
    log->capacity = config->queue_limit > LOG_QUEUE_LEAST ? config->queue_limit : LOG_QUEUE_LEAST;
    log->sink = STDERR_FILENO;
    copy_name(log->path, sizeof(log->path), config->path);
    copy_name(log->component, sizeof(log->component), config->component);
    copy_name(log->component_id, sizeof(log->component_id), config->component_id);
    pthread_mutex_init(&log->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&log->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    log->ring = mem_try(log->capacity);

    int error = log->ring ? 0 : ENOMEM;
    if (error == 0 && log->to_file) {
        open_sink(log);
        error = log->sink < 0 ? errno : 0;
    }
    if (error == 0)
        error = start_thread(log);
    if (error != 0) {
        int code = error == EACCES ? ERROR_PERMISSION : ERROR_SYSTEM;
        code = error_set(reterr, code, "cannot log to %s: %s", log->to_file ? log->path : "stderr",
                         strerror(error));
        free_log(log);
        return code;
    }
    pthread_once(&once, register_fork_handler);
    atomic_store(&dropped, 0);
    atomic_store(&current, log);
    atomic_store(&current_level, (int)config->level);
    return 0;
}

void log_close(void)
{
    struct log *log = atomic_exchange(&current, NULL);
    atomic_store(&current_level, LOG_CRITICAL + 1);
    if (!log)
        return;
    struct timespec due = after_ms(LOG_CLOSE_MS);
    pthread_t thread = log->thread;
    pthread_mutex_lock(&log->lock);
    log->ends = true;
    pthread_cond_broadcast(&log->work);
    while (!log->ended)
        if (pthread_cond_timedwait(&log->work, &log->lock, &due) == ETIMEDOUT)
            break;
    bool ended = log->ended;
    log->forsaken = !ended;
    pthread_mutex_unlock(&log->lock);
    if (!ended) {
        pthread_detach(thread); /* stuck in its sink: it frees the log should it ever come back */
        return;
    }
    pthread_join(thread, NULL);
    free_log(log);
}
