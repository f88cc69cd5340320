/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_talk: a server without a socket: bytes in, a transcript out.
 *
 * It drives heads and bodies the way a connection does and writes down everything that it was told,
 * so that two ways of cutting the same bytes can be compared as strings.  On the way it checks what
 * holds for any input: slices lie inside the bytes given, nothing is consumed twice, limits hold.
 */
#ifndef MANTA_TESTS_HTTP1_TALK_H
#define MANTA_TESTS_HTTP1_TALK_H

#include "http1.h"
#include "text.h"

struct http1_talk {
    struct http1_limits limits;
    struct http1_head head; /* of the last request */
    struct http1_body body;
    struct http1_refusal refusal; /* status 0: nothing was refused */
    size_t scanned;
    size_t taken;      /* bytes that were consumed */
    unsigned requests; /* heads */
    bool in_body;
    struct text said; /* the transcript */
};

/* The limits of tables/settings.def. */
struct http1_limits http1_talk_limits(void);
void http1_talk_init(struct http1_talk *talk, const struct http1_limits *limits);
void http1_talk_done(struct http1_talk *talk);
/* `input` is everything that came so far, from the first byte on; it may lie elsewhere each time.
 */
void http1_talk_step(struct http1_talk *talk, struct bytes input);
/* All bytes are consumed and no request is half read. */
bool http1_talk_whole(const struct http1_talk *talk, size_t size);

#endif
