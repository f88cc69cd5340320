/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replies: every kind of answer, chosen by the last part of the path.
 *
 *     /nil /bool /int /float /string /binary /map    one value
 *     /http?status=N                                 status, header fields and a body of its own
 *     /headers                                       the request's header fields as JSON
 *     /large?size=N                                  N bytes of a pattern, of known length
 *     /stream?size=N                                 the same in parts, with chunks or until the end
 *     /fail?code=N                                   the code's error, with a text for the log only
 *
 * The pattern's byte at offset n is n * 31 / 7 (mod 251), so that a lost or doubled part shows.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <manta/manta.h>

enum { PART_SIZE = 50000 };

static void fill(unsigned char *at, size_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)((offset + i) * 31 / 7 % 251);
}

static long number(struct manta_request *request, const char *key, long fallback)
{
    const char *at = strstr(manta_request_query(request), key);
    return at ? atol(at + strlen(key)) : fallback;
}

static void reply_map(struct manta_request *request)
{
    struct manta_pack *pack = manta_pack_new();
    manta_pack_map(pack, 2);
    manta_pack_arg(pack, manta_string("name"));
    manta_pack_arg(pack, manta_string("m\xc3\xa4nta \"ray\"\n"));
    manta_pack_arg(pack, manta_string("values"));
    manta_pack_array(pack, 3);
    manta_pack_arg(pack, manta_int(-1));
    manta_pack_arg(pack, manta_float(0.5));
    manta_pack_arg(pack, manta_nil());
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

static void reply_headers(struct manta_request *request)
{
    struct manta_pack *pack = manta_pack_new();
    const char *name, *value;
    uint32_t count = 0;
    while (manta_request_header_at(request, count, &name, &value))
        count++;
    manta_pack_array(pack, count);
    for (uint32_t i = 0; i < count; i++) {
        manta_request_header_at(request, i, &name, &value);
        manta_pack_array(pack, 2);
        manta_pack_arg(pack, manta_string(name));
        manta_pack_arg(pack, manta_string(value));
    }
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

static void reply_http(struct manta_request *request)
{
    manta_request_add_header(request, "X-Colour", "blue", NULL);
    manta_request_add_header(request, "x-colour", "green", NULL);
    manta_request_reply_http(request, (int)number(request, "status=", 200), "text/html", "<p>", 3);
}

static void reply_large(struct manta_request *request)
{
    size_t size = (size_t)number(request, "size=", 0);
    unsigned char *at = malloc(size + 1);
    if (!at) {
        manta_request_fail(request, MANTA_EMEMORY, "no memory for %zu bytes", size);
        return;
    }
    fill(at, 0, size);
    manta_request_reply_http(request, 200, "application/octet-stream", at, size);
    free(at);
}

/* part=: bytes of each part */
static void reply_stream(struct manta_request *request)
{
    size_t size = (size_t)number(request, "size=", 0), done = 0;
    size_t most = (size_t)number(request, "part=", PART_SIZE);
    unsigned char *part = malloc(most + 1);
    int code = part ? manta_request_begin(request, 200, "application/octet-stream", NULL, NULL, NULL)
                    : MANTA_EMEMORY;
    while (code == 0 && done < size) {
        size_t step = size - done < most ? size - done : most;
        fill(part, done, step);
        while ((code = manta_request_write(request, part, step)) == MANTA_EAGAIN)
            if ((code = manta_request_wait_room(request, -1)) < 0)
                break;
        done += step;
    }
    manta_request_finish(request);
    free(part);
}

static void replies_call(void *state, struct manta_request *request)
{
    const char *name = strrchr(manta_request_path(request), '/') + 1;
    (void)state;
    if (strcmp(name, "nil") == 0)
        manta_request_reply_nil(request);
    else if (strcmp(name, "bool") == 0)
        manta_request_reply_bool(request, true);
    else if (strcmp(name, "int") == 0)
        manta_request_reply_int(request, INT64_MIN);
    else if (strcmp(name, "float") == 0)
        manta_request_reply_float(request, 0.1);
    else if (strcmp(name, "string") == 0)
        manta_request_reply_string(request, "gr\xc3\xbc\xc3\x9f dich");
    else if (strcmp(name, "binary") == 0)
        manta_request_reply_binary(request, "\0\xff\r\n\0", 5);
    else if (strcmp(name, "map") == 0)
        reply_map(request);
    else if (strcmp(name, "http") == 0)
        reply_http(request);
    else if (strcmp(name, "headers") == 0)
        reply_headers(request);
    else if (strcmp(name, "large") == 0)
        reply_large(request);
    else if (strcmp(name, "stream") == 0)
        reply_stream(request);
    else if (strcmp(name, "fail") == 0)
        manta_request_fail(request, (int)number(request, "code=", MANTA_EUSER), "a secret text");
    else
        manta_request_reply_http(request, 404, "text/plain", "no such answer", 14);
}

MANTA_DEPLOYMENT(replies, .call = replies_call, .threads = 4, .max_ongoing_requests = 64);

MANTA_APPLICATION(replies)
{
    return manta_bind(app, &replies);
}
