/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_talk: see http1_talk.h.
 */
#include "http1_talk.h"

#include "ensure.h"
#include "settings.h"

enum { TRANSCRIPT_LIMIT = 16 << 20 };

struct http1_limits http1_talk_limits(void)
{
    struct settings settings;

    settings_init(&settings);
    return (struct http1_limits){
        .line_size = (size_t)settings.http_line_limit,
        .head_size = (size_t)settings.http_header_bytes_limit,
        .header_count = (uint32_t)settings.http_header_count_limit,
        .body_size = (uint64_t)settings.http_body_limit,
    };
}

void http1_talk_init(struct http1_talk *talk, const struct http1_limits *limits)
{
    talk->limits = *limits;
    talk->refusal = (struct http1_refusal){0};
    talk->scanned = 0;
    talk->taken = 0;
    talk->requests = 0;
    talk->in_body = false;
    text_init(&talk->said, TRANSCRIPT_LIMIT);
}

void http1_talk_done(struct http1_talk *talk)
{
    text_done(&talk->said);
}

static void check_inside(struct bytes slice, struct bytes input)
{
    if (slice.size > 0)
        ensure(slice.at >= input.at && slice.at + slice.size <= input.at + input.size);
}

static void say(struct http1_talk *talk, const char *what, struct bytes value, struct bytes input)
{
    check_inside(value, input);
    text_add_string(&talk->said, what);
    text_add(&talk->said, value);
}

static void say_head(struct http1_talk *talk, struct bytes input)
{
    const struct http1_head *head = &talk->head;

    ensure(head->header_count <= talk->limits.header_count &&
           head->header_count <= HTTP1_HEADER_COUNT_MOST);
    ensure(head->method_name.size > 0 && head->target.size > 0);
    ensure(head->path.size > 0 || head->method == HTTP1_CONNECT);
    ensure(head->body_kind == HTTP1_BODY_LENGTH || head->body_size == 0);
    ensure(head->body_size <= talk->limits.body_size);
    say(talk, "head ", head->method_name, input);
    say(talk, " target ", head->target, input);
    say(talk, " path ", head->path, input);
    say(talk, " query ", head->query, input);
    say(talk, " authority ", head->authority, input);
    say(talk, " protocol ", head->upgrade_protocol, input);
    text_print(
        &talk->said, " method %d safe %d minor %d body %d %llu keep %d expect %d upgrade %d\n",
        head->method, head->safe, head->minor, head->body_kind, (unsigned long long)head->body_size,
        head->keep_alive, head->expect_continue, head->upgrade);
    for (uint32_t i = 0; i < head->header_count; i++) {
        ensure(head->headers[i].name.size > 0);
        say(talk, "field ", head->headers[i].name, input);
        say(talk, "=", head->headers[i].value, input);
    }
}

static bool step_head(struct http1_talk *talk, struct bytes input)
{
    size_t size = 0;

    enum http1_result result =
        http1_head_parse(&talk->head, input, &talk->scanned, &talk->limits, &size, &talk->refusal);
    if (result != HTTP1_DONE) {
        ensure(result == HTTP1_MORE || talk->refusal.status != 0);
        return false;
    }
    ensure(size > 0 && size <= input.size && talk->scanned == 0);
    say_head(talk, bytes_head(input, size));
    http1_body_init(&talk->body, &talk->head, &talk->limits);
    talk->taken += size;
    talk->requests++;
    talk->in_body = true;
    text_add_string(&talk->said, "\nbody ");
    return true;
}

static bool step_body(struct http1_talk *talk, struct bytes input)
{
    struct bytes data = {0};
    struct http1_header trailer = {0};
    size_t consumed = 0;

    enum http1_body_event event = http1_body_next(&talk->body, input, &talk->limits, &consumed,
                                                  &data, &trailer, &talk->refusal);
    ensure(consumed <= input.size && talk->body.total <= talk->limits.body_size);
    talk->taken += consumed;
    switch (event) {
    case HTTP1_BODY_DATA:
        ensure(data.size > 0);
        say(talk, "", data, bytes_head(input, consumed));
        return true;
    case HTTP1_BODY_TRAILER:
        say(talk, "\ntrailer ", trailer.name, bytes_head(input, consumed));
        say(talk, "=", trailer.value, bytes_head(input, consumed));
        return true;
    case HTTP1_BODY_END:
        text_print(&talk->said, "\nend %llu\n", (unsigned long long)talk->body.total);
        talk->in_body = false;
        return true;
    case HTTP1_BODY_REFUSED:
        ensure(talk->refusal.status != 0);
        return false;
    case HTTP1_BODY_MORE:
    default:
        return false;
    }
}

void http1_talk_step(struct http1_talk *talk, struct bytes input)
{
    bool on = true;

    if (talk->refusal.status != 0)
        return;
    while (on) {
        struct bytes rest = bytes_skip(input, talk->taken);
        on = talk->in_body ? step_body(talk, rest) : step_head(talk, rest);
    }
    if (talk->refusal.status != 0)
        text_print(&talk->said, "\nrefused %d %s\n", talk->refusal.status, talk->refusal.reason);
}

bool http1_talk_whole(const struct http1_talk *talk, size_t size)
{
    return talk->refusal.status == 0 && !talk->in_body && talk->taken == size;
}
