/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads at one log.  A plain program, so that it runs under ThreadSanitizer.
 *
 * The queue is small and the file is read back: every line is whole, the lines of a thread are in
 * order, and those that are missing were counted.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ensure.h"
#include "log.h"

enum { THREAD_COUNT = 4, LINES_EACH = 5000 };

static void *print_lines(void *owner)
{
    for (int i = 0; i < LINES_EACH; i++)
        log_print(LOG_INFO, "thread %d line %d end", (int)(intptr_t)owner, i);
    return NULL;
}

int main(void)
{
    char path[] = "/tmp/manta-log-threads-XXXXXX", line[256];
    pthread_t threads[THREAD_COUNT];
    int last[THREAD_COUNT], lines = 0;
    struct error error;
    close(mkstemp(path));
    ensure(log_open(&(struct log_config){.path = path,
                                         .level = LOG_INFO,
                                         .component = "test",
                                         .component_id = "1",
                                         .queue_limit = 65536,
                                         .rotate_size = 1 << 30,
                                         .rotate_count = 1},
                    &error) == 0);
    for (int i = 0; i < THREAD_COUNT; i++) {
        last[i] = -1;
        pthread_create(&threads[i], NULL, print_lines, (void *)(intptr_t)i);
    }
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    log_close();

    FILE *file = fopen(path, "r");
    while (fgets(line, sizeof(line), file)) {
        int thread, number, length = 0;
        const char *message = strstr(line, "-- ");
        ensure(message);
        if (strstr(message, "were dropped here"))
            continue;
        ensure(sscanf(message, "-- thread %d line %d end\n%n", &thread, &number, &length) == 2 &&
               length > 0);
        ensure(thread >= 0 && thread < THREAD_COUNT && number > last[thread]);
        last[thread] = number;
        lines++;
    }
    fclose(file);
    unlink(path);
    printf("%d lines, %d dropped\n", lines, (int)log_dropped());
    ensure(lines + (int)log_dropped() >= THREAD_COUNT * LINES_EACH);
    return 0;
}
