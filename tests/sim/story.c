/* SPDX-License-Identifier: Apache-2.0 */
/*
 * story: lines are formatted even when nobody reads them, since their hashes are compared (D1).
 *
 * The memory is malloc's own, not base/mem.h's: the story outlives the world, whose memory is
 * counted.
 */
#include "story.h"

#include <stdarg.h>
#include <stdlib.h>

#include "bytes.h"
#include "ensure.h"

enum { STORY_LINE_SIZE = 1024, STORY_LINES_FIRST = 1024, STORY_LINES_MOST = 1 << 24 };

static void keep_hash(struct story *story, uint64_t hash)
{
    if (story->count == story->capacity) {
        uint32_t capacity = story->capacity ? story->capacity * 2 : STORY_LINES_FIRST;
        ensure(capacity <= STORY_LINES_MOST);
        uint64_t *hashes = realloc(story->hashes, capacity * sizeof(*hashes));
        ensure(hashes);
        story->hashes = hashes;
        story->capacity = capacity;
    }
    story->hashes[story->count++] = hash;
}

void story_say(struct story *story, int64_t now_ns, const char *who, const char *format, ...)
{
    char line[STORY_LINE_SIZE];
    va_list arguments;
    int size = snprintf(line, sizeof line, "%lld.%06lld %s%s", (long long)(now_ns / 1000000000),
                        (long long)(now_ns / 1000 % 1000000), who ? who : "", who ? ": " : "");
    va_start(arguments, format);
    size += vsnprintf(line + size, sizeof line - (size_t)size, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof line)
        size = sizeof line - 1;
    keep_hash(story, bytes_hash(bytes_of(line, (size_t)size)));
    if (story->out)
        fprintf(story->out, "%s\n", line);
}

uint32_t story_compare(const struct story *story, const struct story *other)
{
    uint32_t common = story->count < other->count ? story->count : other->count;
    for (uint32_t i = 0; i < common; i++)
        if (story->hashes[i] != other->hashes[i])
            return i + 1;
    return story->count == other->count ? 0 : common + 1;
}

uint64_t story_hash(const struct story *story)
{
    return bytes_hash(bytes_of(story->hashes, story->count * sizeof(*story->hashes)));
}

void story_done(struct story *story)
{
    free(story->hashes);
    *story = (struct story){.out = story->out};
}
