/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text_stream: a streaming text generator: a small language model that answers word by word.
 *
 *     GET /?n=200&seed=7&prompt=the+harbour&pause_ms=50
 *
 * The model itself is word_model.c.  This file is the deployment around it: `open` trains it on the
 * text that the application was built with, `call` writes one word after the other into a streamed
 * answer, as fast as the client reads and no faster, and ends when the client leaves.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <manta/manta.h>

#include "word_model.h"

enum {
    WORDS_DEFAULT = 60,
    WORDS_LIMIT = 10000000,
    PAUSE_LIMIT_MS = 10000,
    PROMPT_LIMIT = 512,
    TEXT_LIMIT = 512 << 10
};

/* ---- what is asked for -------------------------------------------------------------------- */

struct wish {
    int64_t word_count, seed, pause_ms;
    char prompt[PROMPT_LIMIT];
};

static const struct wish WISH_DEFAULTS = {.word_count = WORDS_DEFAULT, .seed = 1};

/* The text of one query parameter ("n=5"), decoded; false when it is absent. */
static bool query_find(const char *query, const char *key, char *at, size_t room)
{
    size_t length = strlen(key), size = 0;
    while (query && (strncmp(query, key, length) != 0 || query[length] != '=')) {
        query = strchr(query, '&');
        query = query ? query + 1 : NULL;
    }
    if (!query)
        return false;
    for (query += length + 1; *query && *query != '&' && size + 1 < room; query++) {
        unsigned byte;
        if (*query == '%' && sscanf(query + 1, "%2x", &byte) == 1 && query[1] && query[2]) {
            at[size++] = (char)byte;
            query += 2;
        } else {
            at[size++] = *query == '+' ? ' ' : *query;
        }
    }
    at[size] = 0;
    return true;
}

static int query_number(const char *query, const char *key, int64_t *number,
                        struct manta_error *reterr)
{
    char text[32], *end;
    if (!query_find(query, key, text, sizeof text))
        return 0;
    errno = 0;
    *number = strtoll(text, &end, 10);
    if (*end || end == text || errno)
        return manta_error_set(reterr, MANTA_EINVALID, "%s=%s is not a whole number", key, text);
    return 0;
}

/* From HTTP by the query; from a handle by arguments: words, seed, prompt. */
static int read_wish(struct manta_request *request, struct wish *wish, struct manta_error *reterr)
{
    const struct manta_args *args = manta_request_args(request);
    const char *query = manta_request_query(request), *prompt;
    int code = 0;
    *wish = WISH_DEFAULTS;
    if (manta_request_is_http(request)) {
        if (query_number(query, "n", &wish->word_count, reterr) < 0 ||
            query_number(query, "seed", &wish->seed, reterr) < 0 ||
            query_number(query, "pause_ms", &wish->pause_ms, reterr) < 0)
            return MANTA_EINVALID;
        query_find(query, "prompt", wish->prompt, sizeof wish->prompt);
    } else {
        if (manta_args_count(args) > 0)
            code = manta_args_int(args, 0, &wish->word_count, reterr);
        if (code == 0 && manta_args_count(args) > 1)
            code = manta_args_int(args, 1, &wish->seed, reterr);
        if (code == 0 && manta_args_count(args) > 2 &&
            (code = manta_args_string(args, 2, &prompt, reterr)) == 0)
            snprintf(wish->prompt, sizeof wish->prompt, "%s", prompt);
    }
    if (code == 0 && (wish->word_count < 1 || wish->word_count > WORDS_LIMIT))
        code = manta_error_set(reterr, MANTA_EINVALID, "n must be 1 to %d words", WORDS_LIMIT);
    if (code == 0 && (wish->pause_ms < 0 || wish->pause_ms > PAUSE_LIMIT_MS))
        code = manta_error_set(reterr, MANTA_EINVALID, "pause_ms must be 0 to %d", PAUSE_LIMIT_MS);
    return code;
}

/* ---- a pause that ends when the client leaves ---------------------------------------------- */

struct pause {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool cancelled; /* guarded by lock */
};

static void pause_end(void *owner)
{
    struct pause *pause = owner;
    pthread_mutex_lock(&pause->lock);
    pause->cancelled = true;
    pthread_cond_signal(&pause->changed);
    pthread_mutex_unlock(&pause->lock);
}

static void pause_for(struct pause *pause, int64_t ms)
{
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    due.tv_sec += ms / 1000;
    due.tv_nsec += ms % 1000 * 1000000;
    if (due.tv_nsec >= 1000000000) {
        due.tv_nsec -= 1000000000;
        due.tv_sec++;
    }
    pthread_mutex_lock(&pause->lock);
    while (!pause->cancelled)
        if (pthread_cond_clockwait(&pause->changed, &pause->lock, CLOCK_MONOTONIC, &due) ==
            ETIMEDOUT)
            break;
    pthread_mutex_unlock(&pause->lock);
}

/* ---- the answer --------------------------------------------------------------------------- */

/* An HTTP client reads words with spaces between them, a caller gets one string per item. */
static int write_part(struct manta_request *request, const char *word)
{
    char part[WORD_SIZE_LIMIT + 2];
    if (!manta_request_is_http(request))
        return manta_request_write_arg(request, manta_string(word));
    int size = snprintf(part, sizeof part, "%s ", word);
    return manta_request_write(request, part, (size_t)size);
}

/* Back-pressure: a write that finds no room took nothing, and is repeated when there is some. */
static int write_word(struct manta_request *request, const char *word)
{
    int code = write_part(request, word);
    while (code == MANTA_EAGAIN) {
        code = manta_request_wait_room(request, -1);
        if (code == 0)
            code = write_part(request, word);
    }
    return code;
}

static void stream_words(const struct word_model *model, struct manta_request *request,
                         const struct wish *wish)
{
    struct pause pause = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct word_walk walk;
    int code = 0;
    word_walk_begin(&walk, model, wish->prompt, (uint64_t)wish->seed);
    manta_request_on_cancel(request, pause_end, &pause);
    for (int64_t i = 0; i < wish->word_count && code == 0; i++) {
        if (i && wish->pause_ms)
            pause_for(&pause, wish->pause_ms);
        code = write_word(request, word_walk_next(&walk));
    }
    if (code == 0 && manta_request_is_http(request))
        manta_request_write(request, "\n", 1);
    /* Also when the client has left: this is what ends the request.  `pause` is not used after it.
     */
    manta_request_finish(request);
}

static void writer_call(void *state, struct manta_request *request)
{
    struct manta_error error = {0};
    struct wish wish;
    char seed[24];
    int code = read_wish(request, &wish, &error);
    if (code < 0) {
        manta_request_fail(request, code, "%s", error.text);
        return;
    }
    snprintf(seed, sizeof seed, "%" PRId64, wish.seed);
    manta_request_add_header(request, "x-seed", seed, NULL);
    /* Null for callers: the parts are values, not text. */
    const char *type = manta_request_is_http(request) ? "text/plain; charset=utf-8" : NULL;
    code = manta_request_begin(request, 200, type, NULL, NULL, &error);
    if (code < 0)
        manta_request_fail(request, code, "%s", error.text);
    else
        stream_words(state, request, &wish);
}

static int writer_open(struct manta_replica *replica, void **ret_state, struct manta_error *reterr)
{
    const char *text;
    int code = manta_args_string(manta_replica_args(replica), 0, &text, reterr);
    if (code < 0)
        return code;
    struct word_model *model = word_model_train(text);
    if (!model)
        return manta_error_set(reterr, MANTA_EUSER,
                               "the text has no two words, or memory is exhausted");
    manta_replica_log(replica, 20, "trained on %zu words, %zu of them different",
                      word_model_words(model), word_model_different_words(model));
    *ret_state = model;
    return 0;
}

static void writer_close(void *state)
{
    word_model_free(state);
}

/* A thread writes one stream at a time, and a stream takes as long as its reader likes. */
MANTA_DEPLOYMENT(writer, .open = writer_open, .close = writer_close, .call = writer_call,
                 .threads = 16, .max_ongoing_requests = 16);

/* ---- the application ----------------------------------------------------------------------- */

/* The whole file, zero-terminated; null when it cannot be read or is too large. */
static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = file ? malloc(TEXT_LIMIT + 1) : NULL;
    size_t size = text ? fread(text, 1, TEXT_LIMIT + 1, file) : 0;
    bool whole = file && !ferror(file) && size && size <= TEXT_LIMIT;
    if (file)
        fclose(file);
    if (!whole) {
        free(text);
        return NULL;
    }
    text[size] = 0;
    return text;
}

#ifndef TEXT_STREAM_TEXT
#define TEXT_STREAM_TEXT "harbour.txt"
#endif

/*
 * manta run libtext_stream.so:text_stream text=path/to/any.txt
 *
 * The text itself is the constructor argument, not its path: replicas need no file, and another
 * text is another version of the deployment, so that running the application again replaces them.
 */
MANTA_APPLICATION(text_stream)
{
    const char *path = manta_app_argument(app, "text", TEXT_STREAM_TEXT);
    char *text = read_file(path);
    if (!text)
        return manta_app_fail(app, "the text '%s' cannot be read, is empty or exceeds %d bytes",
                              path, TEXT_LIMIT);
    struct manta_arg bound = manta_bind(app, &writer, manta_string(text));
    free(text);
    return bound;
}
