/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_main: the program.
 *
 *     world --seed N [--story]         one seed; with its story on standard output
 *     world --seeds N [--from M]       N seeds, from M (or 1) on
 *     world --file FILE                the seeds of a file: a number at the begin of each line
 *     world --list-faults              what may happen in a world
 *
 * Each seed is lived through twice, in a process of its own, since what is wrong may end the
 * process: both stories must be the same, byte for byte (D1).  Of a seed that fails the end of its
 * story is printed, and the exit status is 1.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "defects.h"
#include "world.h"

enum { LAST_LINES = 60, LINE_SIZE = 1100, SEED_SECONDS = 240 };

static void tell_difference(uint64_t seed, uint32_t line)
{
    fprintf(stderr, "seed %llu: D1: two lives differ from line %u of the story on\n",
            (unsigned long long)seed, line);
    exit(1);
}

/* In a child. */
static _Noreturn void live(uint64_t seed, FILE *out)
{
    struct story first, second;
    alarm(SEED_SECONDS); /* a turn that does not end */
    world_run(seed, out, &first);
    if (!out) {
        world_run(seed, NULL, &second);
        uint32_t line = story_compare(&first, &second);
        if (line)
            tell_difference(seed, line);
        story_done(&second);
    }
    story_done(&first);
    exit(0);
}

/* 0: it went well.  With `out` the story is written there. */
static int run_child(uint64_t seed, FILE *out, bool quiet)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        if (quiet && !freopen("/dev/null", "w", stderr))
            _exit(2);
        live(seed, out);
    }
    if (waitpid(child, &status, 0) < 0) {
        perror("waitpid");
        exit(2);
    }
    return status;
}

/* The lines before the failure, from a second life that writes them down. */
static void print_end(uint64_t seed)
{
    static char lines[LAST_LINES][LINE_SIZE];
    uint32_t count = 0;
    FILE *story = tmpfile();
    if (!story)
        return;
    setvbuf(story, NULL, _IOLBF, LINE_SIZE);
    run_child(seed, story, true);
    rewind(story);
    while (fgets(lines[count % LAST_LINES], LINE_SIZE, story))
        count++;
    for (uint32_t i = count > LAST_LINES ? count - LAST_LINES : 0; i < count; i++)
        fprintf(stderr, "    %s", lines[i % LAST_LINES]);
    fclose(story);
}

static bool try_seed(uint64_t seed, bool shows_end)
{
    int status = run_child(seed, NULL, false);
    if (status == 0)
        return true;
    if (WIFSIGNALED(status))
        fprintf(stderr, "seed %llu: ended by signal %d (%s)\n", (unsigned long long)seed,
                WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (shows_end) {
        print_end(seed);
        fprintf(stderr, "seed %llu fails; its whole story: world --seed %llu --story\n",
                (unsigned long long)seed, (unsigned long long)seed);
    }
    return false;
}

static int try_range(uint64_t from, uint64_t count)
{
    uint64_t failed = 0;
    for (uint64_t seed = from; seed < from + count; seed++)
        failed += !try_seed(seed, failed < 3);
    printf("%llu seeds, %llu failed\n", (unsigned long long)count, (unsigned long long)failed);
    return failed ? 1 : 0;
}

static int try_file(const char *path)
{
    char line[LINE_SIZE];
    uint64_t count = 0, failed = 0;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof line, file)) {
        char *end;
        uint64_t seed = strtoull(line, &end, 10);
        if (end == line)
            continue; /* a comment */
        count++;
        failed += !try_seed(seed, true);
    }
    fclose(file);
    printf("%llu seeds, %llu failed\n", (unsigned long long)count, (unsigned long long)failed);
    return failed ? 1 : 0;
}

/* A world with a defect must be caught within `count` seeds. */
static int hunt(const char *name, uint64_t from, uint64_t count)
{
    if (!defects_choose(name)) {
        fprintf(stderr, "world: there is no defect '%s' in this program\n", name);
        return 2;
    }
    for (uint64_t seed = from; seed < from + count; seed++)
        if (!try_seed(seed, false)) {
            printf("%s is caught by seed %llu\n", name, (unsigned long long)seed);
            return 0;
        }
    printf("%s is not caught by %llu seeds\n", name, (unsigned long long)count);
    return 1;
}

static int list_faults(void)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        printf("%-17s %s\n", world_fault_name(fault), world_fault_sentence(fault));
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: world --seed N [--story] | --seeds N [--from M] | --file FILE |\n"
                    "       --list-faults | --defect NAME [--seeds N] | --list-defects\n");
    return 2;
}

int main(int argument_count, char **arguments)
{
    static const struct option table[] = {{"seed", required_argument, NULL, 's'},
                                          {"story", no_argument, NULL, 't'},
                                          {"seeds", required_argument, NULL, 'n'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"file", required_argument, NULL, 'F'},
                                          {"defect", required_argument, NULL, 'd'},
                                          {"list-faults", no_argument, NULL, 'l'},
                                          {"list-defects", no_argument, NULL, 'L'},
                                          {NULL, 0, NULL, 0}};
    uint64_t seed = 0, count = 0, from = 1;
    const char *path = NULL, *defect = NULL;
    bool one = false, story = false;
    int option;
    while ((option = getopt_long(argument_count, arguments, "", table, NULL)) != -1) {
        switch (option) {
        case 's':
            seed = strtoull(optarg, NULL, 10);
            one = true;
            break;
        case 't':
            story = true;
            break;
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            from = strtoull(optarg, NULL, 10);
            break;
        case 'F':
            path = optarg;
            break;
        case 'd':
            defect = optarg;
            break;
        case 'l':
            return list_faults();
        case 'L':
            return defects_list();
        default:
            return usage();
        }
    }
    if (defect)
        return hunt(defect, from, count ? count : 100);
    if (path)
        return try_file(path);
    if (one)
        return story ? run_child(seed, stdout, false) != 0 : !try_seed(seed, true);
    return count ? try_range(from, count) : usage();
}
