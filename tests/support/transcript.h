/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transcript: runs stories against a mind and compares what it says with what is written.
 *
 * A story is a text file.  Its first comment after the licence line is its title: what it proves.
 *
 *     # A freed slot wakes the first in line.
 *     submit q3 d1
 *       | wait q3 behind 0
 *     +2s done q1                    # two seconds later; timers that fall due on the way are fired
 *       | send q3 to r1 (0 of 1)
 *
 * Input lines stand flush left; "+2s" or "at 2s" before them moves the clock (us, ms, s, m).  A "#"
 * behind a space begins a comment.  What the mind says stands behind a bar; what it says on the way
 * to the time of the line is marked "at 1.5s: ".  `--accept` rewrites the bars, and the reviewer
 * reads the difference.
 *
 * Each story is run twice, and both runs must say the same, byte for byte (D1).
 */
#ifndef MANTA_TESTS_TRANSCRIPT_H
#define MANTA_TESTS_TRANSCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "text.h"
#include "trace.h"

struct transcript {
    int64_t now_ns;     /* the clock of the story; begins at 0 */
    int64_t line_ns;    /* the time of the input line */
    struct text out;    /* the story as it should be written */
    struct trace trace; /* give it to the mind: its lines go behind the bar */
    const char *path;   /* of the story, for messages */
    int line_number;    /* of the input line */
    bool failed;
};

/* How a kind of mind takes part.  `owner` is what `begin` returned. */
struct transcript_mind {
    void *(*begin)(struct transcript *transcript);
    /* One input line without its time and comment; false: not understood. */
    bool (*line)(void *owner, const char *line);
    /* When the mind wants to be woken (0: never), and waking it at transcript->now_ns. */
    int64_t (*deadline_ns)(void *owner);
    void (*timer)(void *owner);
    void (*end)(void *owner);
};

/* The whole main of a test: [--accept] story...  Returns the exit status. */
int transcript_main(int argc, char **argv, const struct transcript_mind *mind);
/* One line behind the bar. */
void transcript_say(struct transcript *transcript, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The text line by line, each behind a bar. */
void transcript_say_text(struct transcript *transcript, struct bytes text);
/* The story is wrong: message with file and line; the run fails. */
void transcript_fail(struct transcript *transcript, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* An input line cut at its spaces. */
enum { TRANSCRIPT_WORD_LIMIT = 64 };
struct transcript_words {
    char copy[1024];
    char *at[TRANSCRIPT_WORD_LIMIT];
    int count;
};
struct transcript_words *transcript_cut(struct transcript_words *words, const char *line);
/* The value of a word "name=value"; null when there is none. */
const char *transcript_option(const struct transcript_words *words, const char *name);
bool transcript_has(const struct transcript_words *words, const char *word);
/* The number in "q17" when the letter fits; 0 otherwise. */
uint64_t transcript_number(const char *word, char letter);
/* "1.5s", "20ms", "3us", "2m"; -1 when it is not a time. */
int64_t transcript_time_ns(const char *word);

#endif
