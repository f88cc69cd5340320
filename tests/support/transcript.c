/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transcript: reads a story, plays it, writes it anew, compares.
 *
 * The story is rebuilt as it goes: comments, blank lines and inputs as they were, bars as the mind
 * speaks.  A story passes when what came out is what was there; the first line that differs is
 * shown.
 */
#include "transcript.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORY_LIMIT = 1 << 20, LINE_LIMIT = 1000, TIMER_LIMIT = 10000 };

static const char BAR[] = "  | ";

static bool read_story(const char *path, struct text *ret_story)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    char piece[4096];
    size_t size;
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0)
        text_add(ret_story, bytes_of(piece, size));
    bool whole = !ferror(file) && !ret_story->failed;
    fclose(file);
    return whole;
}

static bool write_story(const char *path, const struct text *story)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return false;
    bool whole = fwrite(text_string(story), 1, story->size, file) == story->size;
    return fclose(file) == 0 && whole;
}

/* ---- what the mind says ---- */

static void print_time(struct text *out, int64_t time_ns)
{
    if (time_ns % 1000000000 == 0)
        text_print(out, "%llds", (long long)(time_ns / 1000000000));
    else if (time_ns % 1000000 == 0 && time_ns < 1000000000)
        text_print(out, "%lldms", (long long)(time_ns / 1000000));
    else if (time_ns % 1000000 == 0)
        text_print(out, "%lld.%03llds", (long long)(time_ns / 1000000000),
                   (long long)(time_ns / 1000000 % 1000));
    else
        text_print(out, "%lld.%03lldms", (long long)(time_ns / 1000000),
                   (long long)(time_ns / 1000 % 1000));
}

static void say_line(struct transcript *transcript, const char *line, size_t size)
{
    text_add_string(&transcript->out, BAR);
    if (transcript->now_ns != transcript->line_ns) {
        text_add_string(&transcript->out, "at ");
        print_time(&transcript->out, transcript->now_ns);
        text_add_string(&transcript->out, ": ");
    }
    text_add(&transcript->out, bytes_of(line, size));
    text_add_byte(&transcript->out, '\n');
}

static void hear_trace(void *owner, const char *line)
{
    say_line(owner, line, strlen(line));
}

void transcript_say(struct transcript *transcript, const char *format, ...)
{
    char line[LINE_LIMIT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    say_line(transcript, line, strlen(line));
}

void transcript_say_text(struct transcript *transcript, struct bytes text)
{
    while (text.size > 0) {
        ptrdiff_t end = bytes_find(text, '\n');
        size_t size = end < 0 ? text.size : (size_t)end;
        say_line(transcript, (const char *)text.at, size);
        text = bytes_skip(text, size + 1);
    }
}

void transcript_fail(struct transcript *transcript, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: ", transcript->path, transcript->line_number);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    transcript->failed = true;
}

/* ---- words of an input line ---- */

struct transcript_words *transcript_cut(struct transcript_words *words, const char *line)
{
    memset(words, 0, sizeof(*words));
    snprintf(words->copy, sizeof(words->copy), "%s", line);
    char *rest = NULL;
    for (char *word = strtok_r(words->copy, " \t", &rest);
         word && words->count < TRANSCRIPT_WORD_LIMIT; word = strtok_r(NULL, " \t", &rest))
        words->at[words->count++] = word;
    return words;
}

const char *transcript_option(const struct transcript_words *words, const char *name)
{
    size_t size = strlen(name);
    for (int i = 0; i < words->count; i++) {
        if (strncmp(words->at[i], name, size) == 0 && words->at[i][size] == '=')
            return words->at[i] + size + 1;
    }
    return NULL;
}

bool transcript_has(const struct transcript_words *words, const char *word)
{
    for (int i = 0; i < words->count; i++) {
        if (strcmp(words->at[i], word) == 0)
            return true;
    }
    return false;
}

uint64_t transcript_number(const char *word, char letter)
{
    uint64_t number;
    if (!word || word[0] != letter || !bytes_to_u64(bytes_of_string(word + 1), &number))
        return 0;
    return number;
}

int64_t transcript_time_ns(const char *word)
{
    if (!word || word[0] < '0' || word[0] > '9')
        return -1;
    char *unit;
    double amount = strtod(word, &unit);
    double scale = strcmp(unit, "us") == 0   ? 1e3
                   : strcmp(unit, "ms") == 0 ? 1e6
                   : strcmp(unit, "s") == 0  ? 1e9
                   : strcmp(unit, "m") == 0  ? 60e9
                                             : 0;
    return scale > 0 ? (int64_t)(amount * scale + 0.5) : -1;
}

/* ---- playing a story ---- */

/* Moves the clock to `line_ns`, waking the mind each time it asked for on the way. */
static void pass_time(struct transcript *transcript, const struct transcript_mind *mind,
                      void *owner)
{
    for (int turn = 0; mind->deadline_ns && turn < TIMER_LIMIT; turn++) {
        int64_t deadline = mind->deadline_ns(owner);
        if (deadline == 0 || deadline > transcript->line_ns) {
            transcript->now_ns = transcript->line_ns;
            return;
        }
        if (deadline > transcript->now_ns)
            transcript->now_ns = deadline;
        mind->timer(owner);
    }
    if (mind->deadline_ns)
        transcript_fail(transcript, "the mind asks to be woken without end");
    transcript->now_ns = transcript->line_ns;
}

/* Cuts the comment and the time off the line; false: the time makes no sense. */
static bool take_time(struct transcript *transcript, char *line, char **ret_input)
{
    char *comment = strstr(line, " #");
    if (comment)
        *comment = 0;
    size_t size = strlen(line);
    while (size > 0 && line[size - 1] == ' ')
        line[--size] = 0;
    *ret_input = line;
    transcript->line_ns = transcript->now_ns;
    bool by = line[0] == '+', to = strncmp(line, "at ", 3) == 0;
    if (!by && !to)
        return true;
    char *word = line + (by ? 1 : 3);
    char *end = word + strcspn(word, " ");
    *ret_input = *end ? end + 1 : end;
    *end = 0;
    int64_t time = transcript_time_ns(word);
    if (time < 0 || (to && time < transcript->now_ns))
        return false;
    transcript->line_ns = by ? transcript->now_ns + time : time;
    return true;
}

static void play_line(struct transcript *transcript, const struct transcript_mind *mind,
                      void *owner, struct bytes line)
{
    char copy[LINE_LIMIT];
    char *input;
    if (line.size >= sizeof(copy)) {
        transcript_fail(transcript, "the line is too long");
        return;
    }
    snprintf(copy, sizeof(copy), "%.*s", BYTES_PRINT(line));
    if (!take_time(transcript, copy, &input)) {
        transcript_fail(transcript, "not a time, or one that has passed");
        return;
    }
    pass_time(transcript, mind, owner);
    if (*input && !mind->line(owner, input))
        transcript_fail(transcript, "not understood: %s", input);
}

static void play(struct transcript *transcript, const struct transcript_mind *mind,
                 struct bytes story)
{
    bool titled = false;
    void *owner = mind->begin(transcript);
    while (story.size > 0) {
        ptrdiff_t end = bytes_find(story, '\n');
        struct bytes line = bytes_head(story, end < 0 ? story.size : (size_t)end);
        story = bytes_skip(story, line.size + 1);
        transcript->line_number++;
        if (bytes_starts_with(line, BYTES("  |")))
            continue;
        text_add(&transcript->out, line);
        text_add_byte(&transcript->out, '\n');
        if (line.size > 0 && line.at[0] == '#')
            titled = titled || !bytes_starts_with(line, BYTES("# SPDX"));
        else if (line.size > 0 && titled)
            play_line(transcript, mind, owner, line);
        else if (line.size > 0)
            transcript_fail(transcript, "a story begins with a comment that says what it proves");
    }
    mind->end(owner);
}

static void show_difference(const char *path, struct bytes written, struct bytes played)
{
    for (int number = 1; written.size > 0 || played.size > 0; number++) {
        ptrdiff_t a = bytes_find(written, '\n'), b = bytes_find(played, '\n');
        struct bytes was = bytes_head(written, a < 0 ? written.size : (size_t)a);
        struct bytes is = bytes_head(played, b < 0 ? played.size : (size_t)b);
        if (!bytes_equal(was, is)) {
            fprintf(stderr, "%s:%d:\n  written: %.*s\n  played:  %.*s\n", path, number,
                    BYTES_PRINT(was), BYTES_PRINT(is));
            return;
        }
        written = bytes_skip(written, was.size + 1);
        played = bytes_skip(played, is.size + 1);
    }
}

static void play_once(struct transcript *transcript, const struct transcript_mind *mind,
                      const char *path, struct bytes story)
{
    memset(transcript, 0, sizeof(*transcript));
    transcript->path = path;
    transcript->trace.line = hear_trace;
    transcript->trace.owner = transcript;
    text_init(&transcript->out, STORY_LIMIT);
    play(transcript, mind, story);
    if (transcript->out.failed)
        transcript_fail(transcript, "the story is too long");
}

static bool tell(const char *path, const struct transcript_mind *mind, bool accept)
{
    struct text story;
    struct transcript first, second;
    text_init(&story, STORY_LIMIT);
    if (!read_story(path, &story)) {
        fprintf(stderr, "%s: cannot be read\n", path);
        text_done(&story);
        return false;
    }
    play_once(&first, mind, path, text_bytes(&story));
    play_once(&second, mind, path, text_bytes(&story));
    bool passed = !first.failed && !second.failed;
    struct bytes once = text_bytes(&first.out), again = text_bytes(&second.out);
    if (!bytes_equal(once, again)) {
        fprintf(stderr, "%s: told differently the second time (D1)\n", path);
        show_difference(path, once, again);
        passed = false;
    }
    if (!bytes_equal(text_bytes(&story), once)) {
        if (accept && passed)
            passed = write_story(path, &first.out);
        else
            show_difference(path, text_bytes(&story), once);
        passed = passed && accept;
    }
    text_done(&story);
    text_done(&first.out);
    text_done(&second.out);
    return passed;
}

int transcript_main(int argc, char **argv, const struct transcript_mind *mind)
{
    bool accept = argc > 1 && strcmp(argv[1], "--accept") == 0;
    int told = 0, failed = 0;
    for (int i = accept ? 2 : 1; i < argc; i++, told++)
        failed += !tell(argv[i], mind, accept);
    printf("%d stories, %d failed\n", told, failed);
    if (told == 0)
        fprintf(stderr, "usage: %s [--accept] story...\n", argv[0]);
    return failed > 0 || told == 0;
}
