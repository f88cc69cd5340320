/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: what a line looks like, and that nothing that happens to the sink reaches who prints.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef WITH_JANSSON
#include <jansson.h>
#endif

#include "log.h"
#include "mem.h"

static char directory[] = "/tmp/manta-log-XXXXXX";
static char path[64];

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/proxy.log", directory);
}

static void tear_down(void)
{
    char command[128];
    log_close();
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(log, .init = set_up, .fini = tear_down);

static struct log_config config_of(enum log_encoding encoding)
{
    return (struct log_config){.path = path,
                               .encoding = encoding,
                               .level = LOG_INFO,
                               .component = "proxy",
                               .component_id = "127.0.0.1",
                               .queue_limit = 1 << 20,
                               .rotate_size = 1 << 20,
                               .rotate_count = 3};
}

static void open_log(const struct log_config *config)
{
    struct error error = {0};
    cr_assert_eq(log_open(config, &error), 0, "%s", error.text);
}

static const char *read_file(const char *name)
{
    static char text[1 << 20];
    int file = open(name, O_RDONLY);
    ssize_t got = file >= 0 ? read(file, text, sizeof(text) - 1) : 0;
    text[got > 0 ? got : 0] = 0;
    close(file);
    return text;
}

static const char *close_and_read(void)
{
    log_close();
    return read_file(path);
}

Test(log, a_text_line_has_ray_serves_layout)
{
    struct log_config config = config_of(LOG_TEXT);
    int year, month, day, hour, minute, second, ms, length = 0;
    char level[16], id[64];
    open_log(&config);
    log_request(LOG_WARNING, BYTES("abc-1"), "GET %s %d", "/x", 200);
    log_print(LOG_INFO, "started");
    const char *text = close_and_read();
    cr_assert_eq(sscanf(text, "%15s %d-%d-%d %d:%d:%d,%3d proxy 127.0.0.1 %63s -- GET /x 200\n%n",
                        level, &year, &month, &day, &hour, &minute, &second, &ms, id, &length),
                 9, "%s", text);
    cr_assert_str_eq(level, "WARNING");
    cr_assert_str_eq(id, "abc-1");
    cr_assert_gt(length, 0);
    cr_assert_not_null(strstr(text + length, " proxy 127.0.0.1 -- started\n"));
    cr_assert_eq(strncmp(text + length, "INFO 20", 7), 0);
    struct stat file;
    cr_assert_eq(stat(path, &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
}

Test(log, lines_below_the_level_are_not_printed)
{
    struct log_config config = config_of(LOG_TEXT);
    cr_assert_not(log_enabled(LOG_CRITICAL));
    log_print(LOG_CRITICAL, "before it is open");
    config.level = LOG_WARNING;
    open_log(&config);
    cr_assert_not(log_enabled(LOG_INFO));
    cr_assert(log_enabled(LOG_WARNING));
    log_print(LOG_INFO, "quiet");
    log_print(LOG_ERROR, "loud");
    const char *text = close_and_read();
    cr_assert_null(strstr(text, "quiet"));
    cr_assert_null(strstr(text, "before"));
    cr_assert_not_null(strstr(text, "loud"));
}

Test(log, control_characters_of_a_client_act_on_no_terminal)
{
    struct log_config config = config_of(LOG_TEXT);
    open_log(&config);
    log_request(LOG_INFO, BYTES("id\r\x1b"), "one\x1b[31m\ttwo\nthree\x7f");
    const char *text = close_and_read();
    cr_assert_not_null(strstr(text, " id\\x0d\\x1b -- one\\x1b[31m\ttwo\nthree\\x7f\n"), "%s",
                       text);
}

Test(log, a_long_line_is_cut_and_a_middle_one_is_whole)
{
    struct log_config config = config_of(LOG_TEXT);
    char *long_line = malloc(100001), *middle = malloc(5001);
    memset(long_line, 'l', 100000);
    memset(middle, 'm', 5000);
    long_line[100000] = middle[5000] = 0;
    open_log(&config);
    log_print(LOG_INFO, "%s", middle);
    log_print(LOG_INFO, "%s", long_line);
    const char *text = close_and_read(), *rest = strchr(text, '\n');
    cr_assert_not_null(strstr(text, middle));
    cr_assert_not_null(rest);
    cr_assert_eq(strspn(strchr(rest, 'l'), "l"), 32 * 1024 - 1);
    cr_assert_eq(text[strlen(text) - 1], '\n');
    free(long_line);
    free(middle);
}

#ifdef WITH_JANSSON
Test(log, a_json_line_has_ray_serves_keys)
{
    struct log_config config = config_of(LOG_JSON);
    open_log(&config);
    log_request(LOG_ERROR, BYTES("abc-1"), "a \"quoted\" word\nand \xff");
    log_print(LOG_INFO, "no request");
    const char *text = close_and_read();
    json_error_t error;
    json_t *first = json_loads(text, JSON_DISABLE_EOF_CHECK, &error);
    cr_assert_not_null(first, "%s in %s", error.text, text);
    cr_assert_str_eq(json_string_value(json_object_get(first, "levelname")), "ERROR");
    cr_assert_str_eq(json_string_value(json_object_get(first, "message")),
                     "a \"quoted\" word\nand \xef\xbf\xbd");
    cr_assert_str_eq(json_string_value(json_object_get(first, "component_name")), "proxy");
    cr_assert_str_eq(json_string_value(json_object_get(first, "component_id")), "127.0.0.1");
    cr_assert_str_eq(json_string_value(json_object_get(first, "request_id")), "abc-1");
    cr_assert_eq(strlen(json_string_value(json_object_get(first, "asctime"))), 23);
    json_t *second = json_loads(strchr(text, '\n'), 0, &error);
    cr_assert_not_null(second, "%s", error.text);
    cr_assert_null(json_object_get(second, "request_id"));
    json_decref(first);
    json_decref(second);
}
#endif

Test(log, lines_of_usual_length_allocate_nothing)
{
    struct log_config config = config_of(LOG_JSON);
    open_log(&config);
    uint64_t before = mem_count().allocations;
    for (int i = 0; i < 100; i++)
        log_request(LOG_INFO, BYTES("abc-1"), "GET /path/%d 200 1.2ms", i);
    cr_assert_eq(mem_count().allocations, before);
}

/* ---- sinks that misbehave ---- */

Test(log, a_stuck_sink_blocks_nobody_and_the_gap_is_told)
{
    struct log_config config = config_of(LOG_TEXT);
    int ends[2], saved = dup(2);
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], 2), 2);
    config.path = NULL;
    config.queue_limit = 16 * 1024;
    open_log(&config);
    uint64_t printed = 0;
    while (log_dropped() == 0) { /* would hang here if printing waited for the pipe */
        log_print(LOG_INFO, "line %llu", (unsigned long long)printed++);
        cr_assert_lt(printed, 100000u);
    }
    for (int i = 0; i < 10; i++)
        log_print(LOG_INFO, "line %llu", (unsigned long long)printed++);
    uint64_t dropped = log_dropped();
    cr_assert_geq(dropped, 1);

    /* The reader wakes up. */
    static char text[1 << 20];
    size_t got = 0;
    while (!strstr(text, "were dropped here")) {
        log_print(LOG_INFO, "line again");
        ssize_t rc = read(ends[0], text + got, sizeof(text) - 1 - got);
        cr_assert_gt(rc, 0);
        got += (size_t)rc;
        text[got] = 0;
    }
    const char *gap = strstr(text, " log lines were dropped here");
    while (gap > text && gap[-1] >= '0' && gap[-1] <= '9')
        gap--;
    cr_assert_geq(strtoull(gap, NULL, 10), dropped);
    log_close();
    dup2(saved, 2);
    close(ends[0]);
    close(ends[1]);
}

Test(log, closing_does_not_wait_for_a_sink_that_never_takes_anything)
{
    struct log_config config = config_of(LOG_TEXT);
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(dup2(ends[1], 2), 2);
    config.path = NULL;
    config.queue_limit = 256 * 1024;
    open_log(&config);
    for (int i = 0; i < 5000; i++)
        log_print(LOG_INFO, "a line that fills the pipe");
    log_close(); /* its thread goes on waiting for the pipe */
    cr_assert_not(log_enabled(LOG_CRITICAL));
    config.path = path;
    open_log(&config);
    log_print(LOG_INFO, "a new log is not disturbed");
    cr_assert_not_null(strstr(close_and_read(), "not disturbed"));
}

Test(log, a_full_disk_loses_lines_and_counts_them)
{
    struct log_config config = config_of(LOG_TEXT);
    config.path = "/dev/full";
    open_log(&config);
    log_print(LOG_ERROR, "lost");
    log_print(LOG_ERROR, "lost too");
    log_close();
    cr_assert_eq(log_dropped(), 2);
}

Test(log, a_path_that_cannot_be_opened_is_an_error)
{
    struct log_config config = config_of(LOG_TEXT);
    struct error error = {0};
    config.path = "/nonexistent/x.log";
    cr_assert_eq(log_open(&config, &error), ERROR_SYSTEM);
    cr_assert_not_null(strstr(error.text, "/nonexistent/x.log"));
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    config.path = path;
    cr_assert_lt(log_open(&config, &error), 0);
}

/* ---- rotation ---- */

static int count_whole_lines(const char *text)
{
    int count = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        cr_assert_eq(strncmp(line, "INFO 2", 6), 0, "%.80s", line);
        cr_assert_not_null(strchr(line, '\n'));
        count++;
    }
    return count;
}

Test(log, files_are_rotated_between_lines)
{
    struct log_config config = config_of(LOG_TEXT);
    char older[80];
    int lines = 0;
    struct stat file;
    config.rotate_size = 4000;
    open_log(&config);
    for (int i = 0; i < 100; i++)
        log_print(LOG_INFO, "line number %03d of the log", i);
    const char *text = close_and_read();
    cr_assert_not_null(strstr(text, "line number 099"));
    lines += count_whole_lines(text);
    for (int i = 1; i <= 3; i++) {
        snprintf(older, sizeof(older), "%s.%d", path, i);
        if (stat(older, &file) == 0) {
            cr_assert_leq(file.st_size, 4000);
            lines += count_whole_lines(read_file(older));
        }
    }
    cr_assert_eq(lines, 100);
}

Test(log, the_oldest_file_is_given_up)
{
    struct log_config config = config_of(LOG_TEXT);
    char older[80];
    struct stat file;
    config.rotate_size = 1000;
    config.rotate_count = 2;
    open_log(&config);
    for (int i = 0; i < 200; i++)
        log_print(LOG_INFO, "line number %03d of the log", i);
    cr_assert_not_null(strstr(close_and_read(), "line number 199"));
    snprintf(older, sizeof(older), "%s.2", path);
    cr_assert_eq(stat(older, &file), 0);
    snprintf(older, sizeof(older), "%s.3", path);
    cr_assert_eq(stat(older, &file), -1);
}

Test(log, a_line_longer_than_a_file_is_written_whole)
{
    struct log_config config = config_of(LOG_TEXT);
    char line[1500], older[80];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = 0;
    config.rotate_size = 1000;
    open_log(&config);
    log_print(LOG_INFO, "short");
    log_print(LOG_INFO, "%s", line);
    log_close();
    cr_assert_not_null(strstr(read_file(path), line));
    snprintf(older, sizeof(older), "%s.1", path);
    cr_assert_not_null(strstr(read_file(older), "short\n"));
}

Test(log, it_goes_on_behind_what_is_there)
{
    struct log_config config = config_of(LOG_TEXT);
    for (int i = 0; i < 2; i++) {
        open_log(&config);
        log_print(LOG_INFO, "start %d", i);
        log_close();
    }
    const char *text = read_file(path);
    cr_assert_not_null(strstr(text, "start 0\n"));
    cr_assert_not_null(strstr(text, "start 1\n"));
}

/* ---- processes ---- */

Test(log, a_forked_child_writes_nothing_and_does_not_hang)
{
    struct log_config config = config_of(LOG_TEXT);
    open_log(&config);
    log_print(LOG_INFO, "parent");
    pid_t pid = fork();
    if (pid == 0) {
        log_print(LOG_ERROR, "child");
        log_close();
        _exit(log_enabled(LOG_CRITICAL));
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    const char *text = close_and_read();
    cr_assert_not_null(strstr(text, "parent"));
    cr_assert_null(strstr(text, "child"));
}
