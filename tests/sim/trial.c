/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial: forks, lives, and reads what was said.
 *
 * The child's stderr goes into an unnamed file: the world's words, a role's assertion, or a
 * sanitizer's report.  A turn that does not end is ended by an alarm.
 */
#include "trial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum { LAST_LINES = 60, LINE_SIZE = 1100, SEED_SECONDS = 240 };

/* ---- in the child ---- */

static void live_again(const struct trial *trial, const struct story *first)
{
    struct story second;
    defects_begin();
    world_run(trial->seed, NULL, &second);
    uint32_t line = story_compare(first, &second);
    if (line) {
        fprintf(stderr, "seed %llu: D1: two lives differ from line %u of the story on\n",
                (unsigned long long)trial->seed, line);
        exit(1);
    }
    story_done(&second);
}

static _Noreturn void live(const struct trial *trial)
{
    struct story first;
    alarm(SEED_SECONDS);
    defects_choose(trial->defect);
    defects_begin();
    world_run(trial->seed, trial->story, &first);
    if (trial->twice)
        live_again(trial, &first);
    if (trial->tells_hash)
        printf("seed %llu: %u lines, hash %016llx\n", (unsigned long long)trial->seed, first.count,
               (unsigned long long)story_hash(&first));
    story_done(&first);
    exit(0);
}

/* ---- in the parent ---- */

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

static int run_child(const struct trial *trial, FILE *words)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        if (dup2(fileno(words), STDERR_FILENO) < 0)
            _exit(2);
        live(trial);
    }
    if (waitpid(child, &status, 0) < 0)
        die("waitpid");
    return status;
}

/* The line that matters, with the seed in front. */
static void choose_line(const struct trial *trial, struct trial_verdict *verdict)
{
    const char *at = verdict->words, *end;
    char one[TRIAL_LINE_SIZE] = "";
    while ((end = strchr(at, '\n'))) {
        snprintf(one, sizeof one, "%.*s", (int)(end - at), at);
        if (verdict->broken != INVARIANT_NONE && invariant_in(one) == verdict->broken)
            break;
        at = end + 1;
    }
    one[strcspn(one, "\r")] = '\0';
    if (strncmp(one, "seed ", 5) == 0)
        snprintf(verdict->line, sizeof verdict->line, "%s", one);
    else
        snprintf(verdict->line, sizeof verdict->line, "seed %llu: %.400s",
                 (unsigned long long)trial->seed, one);
}

void trial_run(const struct trial *trial, struct trial_verdict *ret_verdict)
{
    FILE *words = tmpfile();
    if (!words)
        die("tmpfile");
    int status = run_child(trial, words);
    rewind(words);
    size_t size = fread(ret_verdict->words, 1, TRIAL_WORDS_SIZE - 2, words);
    fclose(words);
    if (size > 0 && ret_verdict->words[size - 1] != '\n')
        ret_verdict->words[size++] = '\n';
    ret_verdict->words[size] = '\0';
    ret_verdict->good = status == 0;
    ret_verdict->broken = invariant_in(ret_verdict->words);
    if (size == 0 && WIFSIGNALED(status))
        snprintf(ret_verdict->words, TRIAL_WORDS_SIZE, "seed %llu: ended by signal %d (%s)\n",
                 (unsigned long long)trial->seed, WTERMSIG(status), strsignal(WTERMSIG(status)));
    choose_line(trial, ret_verdict);
}

void trial_print_end(const struct trial *trial, FILE *out)
{
    static char lines[LAST_LINES][LINE_SIZE];
    uint32_t count = 0;
    struct trial narrated = {.seed = trial->seed, .defect = trial->defect, .story = tmpfile()};
    struct trial_verdict verdict;
    if (!narrated.story)
        return;
    setvbuf(narrated.story, NULL, _IOLBF, LINE_SIZE); /* an abort loses no line */
    trial_run(&narrated, &verdict);
    rewind(narrated.story);
    while (fgets(lines[count % LAST_LINES], LINE_SIZE, narrated.story))
        count++;
    for (uint32_t i = count > LAST_LINES ? count - LAST_LINES : 0; i < count; i++)
        fprintf(out, "    %s", lines[i % LAST_LINES]);
    fclose(narrated.story);
}
