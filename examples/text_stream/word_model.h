/* SPDX-License-Identifier: Apache-2.0 */
/*
 * word_model: a language model of words, learned from one text.
 *
 * A word is followed by what followed its two predecessors somewhere in the text; where the text
 * leaves no choice after two, one predecessor decides (a trigram model that backs off to bigrams).
 * The same text, prompt and seed give the same words.  A trained model is never changed, so that
 * any number of threads may walk through it, each with a walk of its own.
 */
#ifndef WORD_MODEL_H
#define WORD_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { WORD_SIZE_LIMIT = 64 }; /* bytes; longer words of a text are cut there */

struct word_model;

/* Null: the text has fewer than two words, or memory is exhausted. */
struct word_model *word_model_train(const char *text);
struct word_model *word_model_free(struct word_model *model); /* null is fine; returns null */
size_t word_model_words(const struct word_model *model);
size_t word_model_different_words(const struct word_model *model);

/* One walk through the model, in the caller's memory. */
struct word_walk {
    const struct word_model *model;
    uint64_t random;
    uint32_t before[2]; /* word numbers: [0] is the last one, [1] the one before it */
};

/* Goes on from the last words of the prompt as far as the text has them, else from the beginning of
 * a sentence. */
void word_walk_begin(struct word_walk *walk, const struct word_model *model, const char *prompt,
                     uint64_t seed);
/* The next word; valid as long as the model. */
const char *word_walk_next(struct word_walk *walk);

#endif
