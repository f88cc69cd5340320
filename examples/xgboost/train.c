/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train_digits: trains the model that the deployment in digits.c serves.
 *
 *     train_digits digits.csv MODEL HELD_OUT.csv
 *
 * Every line of the data is 64 pixels and the digit that they show.  The lines are shuffled with a
 * fixed seed; four fifths of them train, the rest is held out: it measures the accuracy here, and
 * it is written to a file, so that whoever asks the server afterwards asks about images that the
 * model has never seen.  The same data gives the same model.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xgboost/c_api.h>

#include "digits.h"

enum { ROW_LIMIT = 100000, ROUND_COUNT = 100, SEED = 1 };

struct row {
    float pixels[PIXEL_COUNT];
    float digit;
};

struct table {
    struct row *rows;
    size_t count;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "train_digits: %s: %s\n", what, why);
    exit(1);
}

static void must(int code, const char *what)
{
    if (code != 0)
        die(what, XGBGetLastError());
}

/* ---- the data ----------------------------------------------------------------------------- */

/* One line: PIXEL_COUNT + 1 numbers with commas between them. */
static int parse_row(const char *line, struct row *row)
{
    for (int i = 0; i <= PIXEL_COUNT; i++) {
        char *end;
        long number = strtol(line, &end, 10);
        int last = i == PIXEL_COUNT;
        if (end == line || number < 0 || number > (last ? DIGIT_COUNT - 1 : PIXEL_LIMIT) ||
            *end != (last ? '\n' : ','))
            return -1;
        *(last ? &row->digit : &row->pixels[i]) = (float)number;
        line = end + 1;
    }
    return 0;
}

static struct table read_table(const char *path)
{
    struct table table = {.rows = malloc(ROW_LIMIT * sizeof *table.rows)};
    char line[1024];
    FILE *file = fopen(path, "r");
    if (!file || !table.rows)
        die(path, "cannot be read");
    while (fgets(line, sizeof line, file)) {
        if (table.count == ROW_LIMIT || parse_row(line, &table.rows[table.count]) < 0) {
            fprintf(stderr, "%s:%zu: not %d pixels (0 to %d) and a digit\n", path, table.count + 1,
                    PIXEL_COUNT, PIXEL_LIMIT);
            exit(1);
        }
        table.count++;
    }
    fclose(file);
    if (table.count < 100)
        die(path, "has fewer than 100 rows");
    return table;
}

/* SplitMix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

/* Fisher and Yates. */
static void shuffle(struct table table)
{
    uint64_t random = SEED;
    for (size_t i = table.count - 1; i > 0; i--) {
        size_t other = next_random(&random) % (i + 1);
        struct row row = table.rows[i];
        table.rows[i] = table.rows[other];
        table.rows[other] = row;
    }
}

static void write_table(const char *path, struct table table)
{
    FILE *file = fopen(path, "w");
    if (!file)
        die(path, "cannot be written");
    for (size_t i = 0; i < table.count; i++) {
        for (int pixel = 0; pixel < PIXEL_COUNT; pixel++)
            fprintf(file, "%.0f,", (double)table.rows[i].pixels[pixel]);
        fprintf(file, "%.0f\n", (double)table.rows[i].digit);
    }
    if (fclose(file) != 0)
        die(path, "cannot be written");
}

/* ---- the model ---------------------------------------------------------------------------- */

static DMatrixHandle matrix_of(struct table table)
{
    DMatrixHandle matrix;
    float *pixels = malloc(table.count * PIXEL_COUNT * sizeof *pixels);
    float *digits = malloc(table.count * sizeof *digits);
    if (!pixels || !digits)
        die("memory", "exhausted");
    for (size_t i = 0; i < table.count; i++) {
        memcpy(pixels + i * PIXEL_COUNT, table.rows[i].pixels, sizeof table.rows[i].pixels);
        digits[i] = table.rows[i].digit;
    }
    must(XGDMatrixCreateFromMat(pixels, table.count, PIXEL_COUNT, NAN, &matrix), "the matrix");
    must(XGDMatrixSetFloatInfo(matrix, "label", digits, table.count), "the labels");
    free(pixels);
    free(digits);
    return matrix;
}

static BoosterHandle train(DMatrixHandle matrix)
{
    static const char *const PARAMETERS[][2] = {{"objective", "multi:softprob"},
                                                {"num_class", "10"},
                                                {"tree_method", "hist"},
                                                {"max_depth", "5"},
                                                {"eta", "0.3"},
                                                {"subsample", "0.8"},
                                                {"colsample_bytree", "0.5"},
                                                {"seed", "1"},
                                                {"nthread", "1"}};
    BoosterHandle booster;
    must(XGBoosterCreate(&matrix, 1, &booster), "the booster");
    for (size_t i = 0; i < sizeof PARAMETERS / sizeof *PARAMETERS; i++)
        must(XGBoosterSetParam(booster, PARAMETERS[i][0], PARAMETERS[i][1]), PARAMETERS[i][0]);
    for (int round = 0; round < ROUND_COUNT; round++)
        must(XGBoosterUpdateOneIter(booster, round, matrix), "training");
    return booster;
}

static double accuracy_of(BoosterHandle booster, DMatrixHandle matrix, struct table table)
{
    static const char CONFIG[] = "{\"type\":0,\"training\":false,\"iteration_begin\":0,"
                                 "\"iteration_end\":0,\"strict_shape\":true}";
    const bst_ulong *shape;
    const float *probabilities;
    bst_ulong dimensions;
    size_t right = 0;
    must(XGBoosterPredictFromDMatrix(booster, matrix, CONFIG, &shape, &dimensions, &probabilities),
         "predicting");
    if (dimensions != 2 || shape[0] != table.count || shape[1] != DIGIT_COUNT)
        die("predicting", "the result has another shape");
    for (size_t i = 0; i < table.count; i++, probabilities += DIGIT_COUNT) {
        int best = 0;
        for (int digit = 1; digit < DIGIT_COUNT; digit++)
            best = probabilities[digit] > probabilities[best] ? digit : best;
        right += best == (int)table.rows[i].digit;
    }
    return (double)right / (double)table.count;
}

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 4) {
        fprintf(stderr, "usage: train_digits digits.csv MODEL HELD_OUT.csv\n");
        return 2;
    }
    struct table all = read_table(arguments[1]);
    shuffle(all);
    size_t cut = all.count - all.count / 5;
    struct table training = {all.rows, cut}, held_out = {all.rows + cut, all.count - cut};
    DMatrixHandle training_matrix = matrix_of(training), held_out_matrix = matrix_of(held_out);
    double begin_s = clock_s();
    BoosterHandle booster = train(training_matrix);
    printf("trained on %zu images, %d rounds, in %.1f s\n", training.count, ROUND_COUNT,
           clock_s() - begin_s);
    printf("accuracy on %zu images held out: %.1f %%\n", held_out.count,
           100 * accuracy_of(booster, held_out_matrix, held_out));
    must(XGBoosterSaveModel(booster, arguments[2]), arguments[2]);
    write_table(arguments[3], held_out);
    XGBoosterFree(booster);
    XGDMatrixFree(training_matrix);
    XGDMatrixFree(held_out_matrix);
    free(all.rows);
    return 0;
}
