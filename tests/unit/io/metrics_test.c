/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metric pages: counted here, read from the file as another process would.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics.h"

static char directory[] = "/tmp/manta-metrics-XXXXXX";
static char path[64], metrics[64];

static void make_directory(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(metrics, sizeof(metrics), "%s/metrics", directory);
    snprintf(path, sizeof(path), "%s/metrics/proxy.page", directory);
}

static void remove_directory(void)
{
    unlink(path);
    rmdir(metrics);
    rmdir(directory);
}

TestSuite(metrics, .init = make_directory, .fini = remove_directory);

Test(metrics, counts_before_the_page_are_kept_and_later_ones_are_seen_at_once)
{
    uint64_t values[METRIC_COUNT];
    struct stat file;
    metric_add(http_requests_total, 3);
    cr_assert_eq(metrics_open(directory, "proxy"), 0);
    metric_add(http_requests_total, 4);
    metric_set(requests_waiting, 9);
    cr_assert_eq(metrics_read(path, values), 0);
    cr_assert_eq(values[METRIC_http_requests_total], 7);
    cr_assert_eq(values[METRIC_requests_waiting], 9);
    cr_assert_eq(values[METRIC_log_dropped_total], 0);
    cr_assert_eq(stat(path, &file), 0);
    cr_assert_eq(file.st_mode & 077, 0);
    metrics_close();
    cr_assert_eq(metric_get(http_requests_total), 7);
    metric_add(http_requests_total, 1);
    cr_assert_eq(metrics_read(path, values), -ENOENT);
}

Test(metrics, a_page_left_behind_is_replaced)
{
    uint64_t values[METRIC_COUNT];
    cr_assert_eq(mkdir(metrics, 0700), 0);
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    cr_assert_eq(metrics_read(path, values), -ELOOP);
    cr_assert_eq(metrics_open(directory, "proxy"), 0);
    cr_assert_eq(metrics_read(path, values), 0);
    metrics_close();
}

static void write_page(const uint32_t header[4], const uint64_t *cells, size_t count)
{
    mkdir(metrics, 0700);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_eq(write(file, header, 16), 16);
    cr_assert_eq(write(file, cells, count * 8), (ssize_t)(count * 8));
    close(file);
}

Test(metrics, a_page_of_an_older_or_newer_table_is_read_as_far_as_it_goes)
{
    uint64_t values[METRIC_COUNT], cells[METRIC_COUNT + 5];
    for (int i = 0; i < METRIC_COUNT + 5; i++)
        cells[i] = (uint64_t)i + 100;
    write_page((uint32_t[]){0x7274654D, 1, 2, 1}, cells, 2);
    cr_assert_eq(metrics_read(path, values), 0);
    cr_assert_eq(values[1], 101);
    cr_assert_eq(values[2], 0);
    write_page((uint32_t[]){0x7274654D, 1, METRIC_COUNT + 5, 1}, cells, METRIC_COUNT + 5);
    cr_assert_eq(metrics_read(path, values), 0);
    cr_assert_eq(values[METRIC_COUNT - 1], METRIC_COUNT - 1 + 100);
    write_page((uint32_t[]){0x7274654D, 1, 1000000, 1}, cells, 1);
    cr_assert_eq(metrics_read(path, values), 0);
    cr_assert_eq(values[0], 100);
    cr_assert_eq(values[1], 0, "a count that lies");
}

Test(metrics, other_files_are_no_pages)
{
    uint64_t values[METRIC_COUNT], cells[1] = {1};
    write_page((uint32_t[]){0x12345678, 1, 1, 1}, cells, 1);
    cr_assert_eq(metrics_read(path, values), -EBADMSG);
    write_page((uint32_t[]){0x7274654D, 2, 1, 1}, cells, 1);
    cr_assert_eq(metrics_read(path, values), -EBADMSG);
    cr_assert_eq(truncate(path, 8), 0);
    cr_assert_eq(metrics_read(path, values), -EBADMSG);
    cr_assert_eq(metrics_read("/nonexistent", values), -ENOENT);
}

Test(metrics, a_directory_that_is_not_there_is_an_error_and_counting_goes_on)
{
    cr_assert_eq(metrics_open("/nonexistent", "proxy"), -ENOENT);
    metric_add(accept_full_total, 2);
    cr_assert_eq(metric_get(accept_full_total), 2);
}
