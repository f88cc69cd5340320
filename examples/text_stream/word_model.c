/* SPDX-License-Identifier: Apache-2.0 */
/*
 * word_model: training is sorting, asking is a binary search.
 *
 * The text becomes a ring of numbered words (its last word is followed by its first).  `order`
 * holds all positions of the ring, sorted by the word before them and then by the one before that.
 * The positions that follow one context are therefore neighbours in `order`, and drawing one of
 * them evenly is drawing the next word with the frequency it has in the text.
 */
#include "word_model.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct word_model {
    char *text;         /* copy of the text, cut into words by zeros */
    const char **names; /* word number -> word, in the order of the bytes */
    uint32_t *ring;     /* position -> word number */
    uint32_t *order;    /* positions by what precedes them */
    size_t count;       /* words of the text */
    size_t name_count;  /* different ones */
};

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

/* Cuts the text at blanks and returns where its words begin. */
static const char **cut_words(char *text, size_t *ret_count)
{
    size_t count = 0, size = strlen(text);
    const char **words = malloc((size / 2 + 1) * sizeof *words);
    if (!words)
        return NULL;
    for (char *at = text, *begin; *at;) {
        while (is_blank(*at))
            *at++ = 0;
        begin = at;
        while (*at && !is_blank(*at))
            at++;
        if (at == begin)
            break;
        words[count++] = begin;
        if (at - begin > WORD_SIZE_LIMIT)
            begin[WORD_SIZE_LIMIT] = 0;
    }
    *ret_count = count;
    return words;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The number of a word, or name_count when the text does not have it. */
static uint32_t name_number(const struct word_model *model, const char *word)
{
    const char **found =
        bsearch(&word, model->names, model->name_count, sizeof *model->names, compare_names);
    return (uint32_t)(found ? found - model->names : (ptrdiff_t)model->name_count);
}

/* Sorts a copy of the words and keeps one of each. */
static bool number_words(struct word_model *model, const char **words)
{
    model->names = malloc(model->count * sizeof *model->names);
    model->ring = malloc(model->count * sizeof *model->ring);
    model->order = malloc(model->count * sizeof *model->order);
    if (!model->names || !model->ring || !model->order)
        return false;
    memcpy(model->names, words, model->count * sizeof *model->names);
    qsort(model->names, model->count, sizeof *model->names, compare_names);
    for (size_t i = 0; i < model->count; i++)
        if (!i || strcmp(model->names[i], model->names[model->name_count - 1]) != 0)
            model->names[model->name_count++] = model->names[i];
    for (size_t i = 0; i < model->count; i++) {
        model->ring[i] = name_number(model, words[i]);
        model->order[i] = (uint32_t)i;
    }
    return true;
}

/* The word that stands `distance` places before a position. */
static uint32_t word_before(const struct word_model *model, size_t position, size_t distance)
{
    return model->ring[(position + model->count - distance) % model->count];
}

/* Compares what precedes a position with the last `length` words of a context. */
static int compare_context(const struct word_model *model, size_t position, const uint32_t *before,
                           size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint32_t word = word_before(model, position, i + 1);
        if (word != before[i])
            return word < before[i] ? -1 : 1;
    }
    return 0;
}

static int compare_positions(const void *left, const void *right, void *owner)
{
    const struct word_model *model = owner;
    size_t position = *(const uint32_t *)right;
    uint32_t before[2] = {word_before(model, position, 1), word_before(model, position, 2)};
    return compare_context(model, *(const uint32_t *)left, before, 2);
}

struct word_model *word_model_train(const char *text)
{
    struct word_model *model = calloc(1, sizeof *model);
    const char **words = NULL;
    bool trained = false;
    if (model && (model->text = strdup(text)) && (words = cut_words(model->text, &model->count)))
        trained = model->count >= 2 && model->count < UINT32_MAX && number_words(model, words);
    free(words);
    if (!trained)
        return word_model_free(model);
    qsort_r(model->order, model->count, sizeof *model->order, compare_positions, model);
    return model;
}

struct word_model *word_model_free(struct word_model *model)
{
    if (model) {
        free(model->text);
        free(model->names);
        free(model->ring);
        free(model->order);
        free(model);
    }
    return NULL;
}

size_t word_model_words(const struct word_model *model)
{
    return model->count;
}

size_t word_model_different_words(const struct word_model *model)
{
    return model->name_count;
}

/* ---- walking ------------------------------------------------------------------------------ */

/* SplitMix64: every seed, zero too, begins a good sequence. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

/* The first place in `order` whose context is not below (`after`: above) the given one. */
static size_t find_context(const struct word_model *model, const uint32_t *before, size_t length,
                           bool after)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int compared = compare_context(model, model->order[middle], before, length);
        if (compared < 0 || (after && compared == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void walk_step(struct word_walk *walk, uint32_t word)
{
    walk->before[1] = walk->before[0];
    walk->before[0] = word;
}

/* Somewhere a sentence ends, if the text has sentences. */
static void walk_begin_sentence(struct word_walk *walk)
{
    const struct word_model *model = walk->model;
    size_t position = next_random(&walk->random) % model->count;
    for (size_t i = 0; i < model->count; i++, position++) {
        const char *name = model->names[word_before(model, position, 1)];
        if (strchr(".!?", name[strlen(name) - 1]))
            break;
    }
    walk->before[0] = word_before(model, position, 1);
    walk->before[1] = word_before(model, position, 2);
}

void word_walk_begin(struct word_walk *walk, const struct word_model *model, const char *prompt,
                     uint64_t seed)
{
    char word[WORD_SIZE_LIMIT + 1];
    *walk = (struct word_walk){.model = model, .random = seed};
    walk_begin_sentence(walk);
    while (*prompt) {
        size_t size = 0;
        for (; *prompt && !is_blank(*prompt); prompt++)
            if (size < WORD_SIZE_LIMIT)
                word[size++] = *prompt;
        word[size] = 0;
        while (is_blank(*prompt))
            prompt++;
        uint32_t number = size ? name_number(model, word) : (uint32_t)model->name_count;
        if (number < model->name_count)
            walk_step(walk, number);
    }
}

const char *word_walk_next(struct word_walk *walk)
{
    const struct word_model *model = walk->model;
    size_t low = 0, high = 0;
    for (size_t length = 2; length > 0 && high - low < 2; length--) {
        low = find_context(model, walk->before, length, false);
        high = find_context(model, walk->before, length, true);
    }
    /* Every word of a ring is followed by another, so that one predecessor always decides. */
    size_t chosen = low + next_random(&walk->random) % (high - low);
    uint32_t word = model->ring[model->order[chosen]];
    walk_step(walk, word);
    return model->names[word];
}
