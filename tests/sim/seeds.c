/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seeds: many seeds, tried on all processors.
 *
 * The seeds lie in one list, and each of some processes (jobs) takes the next one that nobody took,
 * from a counter that they share; so none is idle while there is work.  What a job says goes into a
 * file of its own, and those are shown one behind the other at the end: words never mix.
 */
#include "seeds.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trial.h"

enum { LINE_SIZE = 512, FILE_SEEDS = 4096, STORIES_SHOWN = 3 };

struct shared { /* between the jobs */
    _Atomic uint64_t next, tried, failed;
};

/* ---- the list ---- */

static uint64_t of_file[FILE_SEEDS];
static uint32_t of_file_count;

/* A seed stands at the begin of its line; other lines are comments. */
static int read_file(const char *path)
{
    char line[LINE_SIZE], *end;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return -1;
    }
    while (of_file_count < FILE_SEEDS && fgets(line, sizeof line, file)) {
        of_file[of_file_count] = strtoull(line, &end, 10);
        of_file_count += end != line;
    }
    fclose(file);
    if (of_file_count == FILE_SEEDS)
        fprintf(stderr, "world: of %s only the first %d seeds are tried\n", path, FILE_SEEDS);
    return 0;
}

static uint64_t seed_at(const struct seeds_order *order, uint64_t place)
{
    return place < of_file_count ? of_file[place] : order->from + (place - of_file_count);
}

/* ---- a job ---- */

static void try_one(const struct seeds_order *order, uint64_t seed, struct shared *shared)
{
    struct trial trial = {
        .seed = seed, .defect = order->defect, .twice = true, .tells_hash = order->tells_hashes};
    struct trial_verdict verdict;
    trial_run(&trial, &verdict);
    shared->tried++;
    if (verdict.good)
        return;
    fputs(verdict.words, stderr);
    fprintf(stderr, "    %s: %s\n", invariant_tag(verdict.broken),
            invariant_sentence(verdict.broken));
    if (shared->failed++ < STORIES_SHOWN) {
        trial_print_end(&trial, stderr);
        fprintf(stderr, "seed %llu fails; its whole story: world --seed %llu\n",
                (unsigned long long)seed, (unsigned long long)seed);
    }
}

static void work(const struct seeds_order *order, struct shared *shared)
{
    uint64_t place, count = of_file_count + order->count;
    while ((place = shared->next++) < count)
        try_one(order, seed_at(order, place), shared);
}

/* ---- all of them ---- */

static uint32_t count_processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : (uint32_t)CPU_COUNT(&set);
}

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

struct job {
    pid_t process;
    FILE *words;
};

static void begin(struct job *job, const struct seeds_order *order, struct shared *shared)
{
    job->words = tmpfile();
    if (!job->words)
        die("tmpfile");
    fflush(NULL);
    job->process = fork();
    if (job->process < 0)
        die("fork");
    if (job->process > 0)
        return;
    if (dup2(fileno(job->words), STDERR_FILENO) < 0)
        _exit(2);
    work(order, shared);
    fflush(NULL);
    _exit(0);
}

/* False: it did not come to its end. */
static bool await(struct job *job)
{
    char piece[4096];
    int status;
    size_t size;
    while (waitpid(job->process, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    rewind(job->words);
    while ((size = fread(piece, 1, sizeof piece, job->words)) > 0)
        fwrite(piece, 1, size, stderr);
    fclose(job->words);
    if (status != 0)
        fprintf(stderr, "world: a process that tried seeds ended with status %#x\n", status);
    return status == 0;
}

int seeds_try(const struct seeds_order *order)
{
    static struct job jobs[SEEDS_JOBS_MOST];
    uint32_t count = order->jobs ? order->jobs : count_processors();
    bool whole = true;
    if (order->path && read_file(order->path) < 0)
        return 2;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    count = count < SEEDS_JOBS_MOST ? count : SEEDS_JOBS_MOST;
    for (uint32_t i = 0; i < count; i++)
        begin(&jobs[i], order, shared);
    for (uint32_t i = 0; i < count; i++)
        whole &= await(&jobs[i]);
    printf("%llu seeds, %llu failed\n", (unsigned long long)shared->tried,
           (unsigned long long)shared->failed);
    return !whole ? 2 : shared->failed ? 1 : 0;
}
