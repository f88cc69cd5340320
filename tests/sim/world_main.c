/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world_main: the program: which seeds are tried, and what is said about them.
 *
 * Each seed is lived through twice (trial.c).  Of one that fails the end of its story is printed,
 * and the exit status is 1; it is 2 when the question was wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "seeds.h"
#include "trial.h"
#include "world.h"

enum { SEEDS = 1000, HUNT_SEEDS = 40 };

struct order {
    uint64_t seed, from, count; /* count 0: not said */
    const char *path;
    uint32_t jobs; /* 0: one a processor */
    enum defect defect;
    bool one, all_defects, quiet, hashes;
};

/* ---- seeds ---- */

static int try_seeds(const struct order *order)
{
    struct seeds_order wanted = {.path = order->path,
                                 .from = order->from,
                                 .count = order->count,
                                 .jobs = order->jobs,
                                 .defect = order->defect,
                                 .tells_hashes = order->hashes};
    if (order->one) {
        wanted.from = order->seed;
        wanted.count = 1;
    } else if (!order->count && !order->path) {
        wanted.count = SEEDS;
    }
    return seeds_try(&wanted);
}

static int narrate(const struct order *order)
{
    struct trial trial = {
        .seed = order->seed, .defect = order->defect, .story = stdout, .twice = true};
    struct trial_verdict verdict;
    setvbuf(stdout, NULL, _IOLBF, 0); /* an abort loses no line */
    trial_run(&trial, &verdict);
    fputs(verdict.words, stderr);
    if (!verdict.good)
        fprintf(stderr, "    %s: %s\n", invariant_tag(verdict.broken),
                invariant_sentence(verdict.broken));
    return verdict.good ? 0 : 1;
}

/* ---- defects ---- */

/* The seed goes well when no mistake is made; else the world's word on the defect is worth nothing.
 */
static bool is_clean(uint64_t seed)
{
    static uint64_t clean_from, clean_to; /* known already */
    struct trial_verdict verdict;
    if (seed >= clean_from && seed < clean_to)
        return true;
    trial_run(&(struct trial){.seed = seed, .twice = true}, &verdict);
    if (!verdict.good) {
        fprintf(stderr, "without any defect:\n%s", verdict.words);
        return false;
    }
    if (seed != clean_to)
        clean_from = seed;
    clean_to = seed + 1;
    return true;
}

/* True: some seed breaks the invariant that the defect is about. */
static bool hunt(const struct order *order, enum defect defect)
{
    struct trial_verdict verdict;
    uint64_t count = order->count ? order->count : HUNT_SEEDS, others = 0;
    const char *tag = invariant_tag(defect_invariant(defect));
    for (uint64_t seed = order->from; seed < order->from + count; seed++) {
        struct trial trial = {.seed = seed, .defect = defect, .twice = true};
        if (!is_clean(seed))
            return false;
        trial_run(&trial, &verdict);
        others += !verdict.good && verdict.broken != defect_invariant(defect);
        if (verdict.good || verdict.broken != defect_invariant(defect))
            continue;
        printf("%-16s %s\n    %s\n", defect_name(defect), defect_sentence(defect), verdict.line);
        if (!order->all_defects && !order->quiet) {
            trial_print_end(&trial, stdout);
            printf("%s: %s\n", tag, invariant_sentence(defect_invariant(defect)));
        }
        return true;
    }
    printf("%-16s %s\n    NOT CAUGHT: of %llu seeds none broke %s, %llu broke something else\n",
           defect_name(defect), defect_sentence(defect), (unsigned long long)count, tag,
           (unsigned long long)others);
    return false;
}

static int hunt_all(const struct order *order)
{
    int missed = 0;
    for (int defect = DEFECT_NONE + 1; defect < DEFECT_COUNT; defect++)
        missed += !hunt(order, (enum defect)defect);
    printf("%d defects, %d not caught\n", DEFECT_COUNT - 1, missed);
    return missed ? 1 : 0;
}

/* ---- lists ---- */

static int list_faults(void)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        printf("%-17s %s\n", world_fault_name(fault), world_fault_sentence(fault));
    return 0;
}

static int list_defects(void)
{
    for (int i = DEFECT_NONE + 1; i < DEFECT_COUNT; i++)
        printf("%-17s %s  %s\n", defect_name((enum defect)i),
               invariant_tag(defect_invariant((enum defect)i)), defect_sentence((enum defect)i));
    return 0;
}

static int list_invariants(void)
{
    for (int i = INVARIANT_NONE + 1; i < INVARIANT_COUNT; i++)
        printf("%s  %s\n", invariant_tag((enum invariant)i), invariant_sentence((enum invariant)i));
    return 0;
}

static int help(void)
{
    fputs(
        "world: a whole Manta in one thread, on a simulated clock, kernel and disk, with faults\n"
        "\n"
        "A seed decides everything that happens: the settings, the applications, the clients and\n"
        "what they ask, when which process crashes.  After the faults have stopped everybody must\n"
        "be answered and what runs must be what is wanted.  A seed that fails fails always.\n"
        "\n"
        "Which seeds (default: --seeds 1000); each is lived through twice, and the stories "
        "compared:\n"
        "  --seed N            this one, with its story on standard output\n"
        "  --seeds N           so many\n"
        "  --from N            the first of them (default: 1)\n"
        "  --file FILE         those of a file: a number at the begin of a line, then a reason\n"
        "  --jobs N            so many seeds side by side (default: one a processor)\n"
        "  --quiet             with --seed or --defect: no story\n"
        "  --hashes            tells length and hash of each story\n"
        "\n"
        "Mistakes made on purpose, to see that the world notices (program world_with_defects):\n"
        "  --defect NAME       looks for a seed that catches it, and prints the end of that "
        "story;\n"
        "                      with --seed the story of that seed with the defect\n"
        "  --defects           all of them; each must be caught by one of 40 seeds (or --seeds N)\n"
        "\n"
        "Lists:\n"
        "  --list-faults       what may happen in a world\n"
        "  --list-invariants   what must be true in every world\n"
        "  --list-defects      the mistakes, and the invariant that each of them breaks\n"
        "\n"
        "Exit status: 0 all is well, 1 something failed or was not caught, 2 the options are "
        "wrong.\n"
        "tests/sim/README.md explains the story.\n",
        stdout);
    return 0;
}

/* ---- options ---- */

static int refuse(const char *what, const char *word)
{
    fprintf(stderr, "world: %s '%s'; --help tells what there is\n", what, word);
    return 2;
}

static bool read_number(const char *text, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *text != '-';
}

static enum defect find_defect(const char *name)
{
    for (int i = DEFECT_NONE + 1; i < DEFECT_COUNT; i++)
        if (strcasecmp(defect_name((enum defect)i), name) == 0)
            return (enum defect)i;
    return DEFECT_NONE;
}

static int obey(const struct order *order)
{
    bool makes_mistakes = order->all_defects || order->defect != DEFECT_NONE;
    if (makes_mistakes && !defects_linked()) {
        fputs("world: this program makes no mistakes; world_with_defects does\n", stderr);
        return 2;
    }
    if (order->all_defects)
        return hunt_all(order);
    if (order->one && !order->quiet && !order->hashes)
        return narrate(order);
    if (makes_mistakes && !order->one)
        return hunt(order, order->defect) ? 0 : 1;
    return try_seeds(order);
}

static const struct option options[] = {
    {"seed", required_argument, NULL, 's'},   {"seeds", required_argument, NULL, 'n'},
    {"from", required_argument, NULL, 'f'},   {"file", required_argument, NULL, 'F'},
    {"jobs", required_argument, NULL, 'j'},   {"quiet", no_argument, NULL, 'q'},
    {"hashes", no_argument, NULL, 'H'},       {"defect", required_argument, NULL, 'd'},
    {"defects", no_argument, NULL, 'D'},      {"list-faults", no_argument, NULL, 'l'},
    {"list-defects", no_argument, NULL, 'L'}, {"list-invariants", no_argument, NULL, 'I'},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};

/* False: it is no good option. */
static bool take_option(struct order *order, int option)
{
    uint64_t number;
    switch (option) {
    case 'j':
        if (!read_number(optarg, &number) || number == 0 || number > SEEDS_JOBS_MOST)
            return false;
        order->jobs = (uint32_t)number;
        return true;
    case 's':
        order->one = true;
        return read_number(optarg, &order->seed);
    case 'n':
        return read_number(optarg, &order->count) && order->count > 0;
    case 'f':
        return read_number(optarg, &order->from);
    case 'F':
        order->path = optarg;
        return true;
    case 'd':
        order->defect = find_defect(optarg);
        return order->defect != DEFECT_NONE;
    case 'D':
        return order->all_defects = true;
    case 'q':
        return order->quiet = true;
    case 'H':
        return order->hashes = true;
    default:
        return false;
    }
}

int main(int argument_count, char **arguments)
{
    struct order order = {.from = 1};
    int option;
    while ((option = getopt_long(argument_count, arguments, "h", options, NULL)) != -1) {
        switch (option) {
        case 'l':
            return list_faults();
        case 'L':
            return list_defects();
        case 'I':
            return list_invariants();
        case 'h':
            return help();
        case '?':
            return 2;
        default:
            if (!take_option(&order, option))
                return refuse(option == 'd' ? "there is no defect" : "this is no number:", optarg);
        }
    }
    if (optind < argument_count)
        return refuse("there is no argument", arguments[optind]);
    return obey(&order);
}
