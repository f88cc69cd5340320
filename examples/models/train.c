/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train_pairs: trains the models that the deployment in pairs.c serves.
 *
 *     train_pairs digits.csv FOLDER 3-8 1-7 ...
 *
 * Every line of the data is 64 pixels and the digit that they show.  Each model sees only the images of its two
 * digits, and of those not every fifth: they measure its accuracy here, and are written to FOLDER/3-8.csv for whoever
 * asks the server afterwards.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xgboost/c_api.h>

#include "pairs.h"

enum { ROW_LIMIT = 100000, ROUND_COUNT = 30 };

struct rows {
    float (*pixels)[PIXEL_COUNT];
    int *digits;
    size_t count;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "train_pairs: %s: %s\n", what, why);
    exit(1);
}

static void must(int code, const char *what)
{
    if (code != 0)
        die(what, XGBGetLastError());
}

/* ---- the data ----------------------------------------------------------------------------- */

static struct rows new_rows(void)
{
    struct rows rows = {.pixels = malloc(ROW_LIMIT * sizeof *rows.pixels), .digits = malloc(ROW_LIMIT * sizeof(int))};
    if (!rows.pixels || !rows.digits)
        die("memory", "exhausted");
    return rows;
}

static void free_rows(struct rows rows)
{
    free(rows.pixels);
    free(rows.digits);
}

static bool parse_row(const char *line, float *pixels, int *ret_digit)
{
    for (int i = 0; i <= PIXEL_COUNT; i++) {
        char *end;
        long number = strtol(line, &end, 10);
        if (end == line || number < 0 || number > (i == PIXEL_COUNT ? 9 : PIXEL_LIMIT) || *end != (i == PIXEL_COUNT ? '\n' : ','))
            return false;
        if (i == PIXEL_COUNT)
            *ret_digit = (int)number;
        else
            pixels[i] = (float)number;
        line = end + 1;
    }
    return true;
}

static struct rows read_rows(const char *path)
{
    struct rows rows = new_rows();
    char line[1024];
    FILE *file = fopen(path, "r");
    if (!file)
        die(path, "cannot be read");
    for (; rows.count < ROW_LIMIT && fgets(line, sizeof line, file); rows.count++)
        if (!parse_row(line, rows.pixels[rows.count], &rows.digits[rows.count]))
            die(path, "a line is not 64 pixels (0 to 16) and a digit");
    fclose(file);
    return rows;
}

/* The images of the two digits: every fifth of them goes to *ret_held_out, the others to *ret_training. */
static void part(struct rows all, int first, int second, struct rows *ret_training, struct rows *ret_held_out)
{
    size_t seen = 0;
    *ret_training = new_rows();
    *ret_held_out = new_rows();
    for (size_t i = 0; i < all.count; i++) {
        if (all.digits[i] != first && all.digits[i] != second)
            continue;
        struct rows *rows = seen++ % 5 == 4 ? ret_held_out : ret_training;
        memcpy(rows->pixels[rows->count], all.pixels[i], sizeof all.pixels[i]);
        rows->digits[rows->count++] = all.digits[i];
    }
    if (ret_training->count == 0 || ret_held_out->count == 0)
        die("the data", "has too few images of these two");
}

static void write_rows(const char *path, struct rows rows)
{
    FILE *file = fopen(path, "w");
    if (!file)
        die(path, "cannot be written");
    for (size_t i = 0; i < rows.count; i++) {
        for (int pixel = 0; pixel < PIXEL_COUNT; pixel++)
            fprintf(file, "%.0f,", (double)rows.pixels[i][pixel]);
        fprintf(file, "%d\n", rows.digits[i]);
    }
    if (fclose(file) != 0)
        die(path, "cannot be written");
}

/* ---- the models --------------------------------------------------------------------------- */

static DMatrixHandle matrix_of(struct rows rows, int second)
{
    DMatrixHandle matrix;
    float *labels = malloc(rows.count * sizeof *labels);
    if (!labels)
        die("memory", "exhausted");
    for (size_t i = 0; i < rows.count; i++)
        labels[i] = rows.digits[i] == second;
    must(XGDMatrixCreateFromMat(rows.pixels[0], rows.count, PIXEL_COUNT, NAN, &matrix), "the matrix");
    must(XGDMatrixSetFloatInfo(matrix, "label", labels, rows.count), "the labels");
    free(labels);
    return matrix;
}

static double accuracy_of(BoosterHandle booster, DMatrixHandle matrix, struct rows rows, int second)
{
    static const char CONFIG[] = "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\"strict_shape\":false}";
    const bst_ulong *shape;
    const float *probabilities;
    bst_ulong dimensions;
    size_t right = 0;
    must(XGBoosterPredictFromDMatrix(booster, matrix, CONFIG, &shape, &dimensions, &probabilities), "predicting");
    for (size_t i = 0; i < rows.count; i++)
        right += (probabilities[i] > 0.5f) == (rows.digits[i] == second);
    return (double)right / (double)rows.count;
}

static void train(struct rows all, const char *folder, const char *id)
{
    static const char *const PARAMETERS[][2] = {
        {"objective", "binary:logistic"}, {"tree_method", "hist"}, {"max_depth", "3"}, {"eta", "0.3"}, {"seed", "1"}, {"nthread", "1"}};
    char path[PATH_ROOM];
    int first, second;
    struct rows training, held_out;
    BoosterHandle booster;
    if (!pair_read(id, &first, &second))
        die(id, "is not two digits, as 3-8");
    part(all, first, second, &training, &held_out);
    DMatrixHandle training_matrix = matrix_of(training, second), held_out_matrix = matrix_of(held_out, second);
    must(XGBoosterCreate(&training_matrix, 1, &booster), "the booster");
    for (size_t i = 0; i < sizeof PARAMETERS / sizeof *PARAMETERS; i++)
        must(XGBoosterSetParam(booster, PARAMETERS[i][0], PARAMETERS[i][1]), PARAMETERS[i][0]);
    for (int round = 0; round < ROUND_COUNT; round++)
        must(XGBoosterUpdateOneIter(booster, round, training_matrix), "training");
    printf("%s: trained on %zu images, right about %.1f %% of %zu others\n", id, training.count,
           100 * accuracy_of(booster, held_out_matrix, held_out, second), held_out.count);
    snprintf(path, sizeof path, "%s/%s.ubj", folder, id);
    must(XGBoosterSaveModel(booster, path), path);
    snprintf(path, sizeof path, "%s/%s.csv", folder, id);
    write_rows(path, held_out);
    XGBoosterFree(booster);
    XGDMatrixFree(training_matrix);
    XGDMatrixFree(held_out_matrix);
    free_rows(training);
    free_rows(held_out);
}

int main(int argument_count, char **arguments)
{
    if (argument_count < 4) {
        fprintf(stderr, "usage: train_pairs digits.csv FOLDER PAIR...\n");
        return 2;
    }
    struct rows all = read_rows(arguments[1]);
    for (int i = 3; i < argument_count; i++)
        train(all, arguments[2], arguments[i]);
    free_rows(all);
    return 0;
}
