/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stages: three deployments that pass pictures on, each telling how long its own code took.
 *
 *     make(size)        -> [picture, nanoseconds]
 *     turn(picture)     -> [another picture, nanoseconds]     reads every byte, writes every byte
 *     measure(picture)  -> [sum, nanoseconds]                 reads every byte
 */
#include <string.h>
#include <time.h>

#include <manta/manta.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void reply(struct manta_request *request, struct manta_arg result, int64_t begin_ns)
{
    struct manta_pack *pack = manta_pack_new();
    if (!pack) {
        manta_request_fail(request, MANTA_EMEMORY, "no memory for the answer");
        return;
    }
    manta_pack_array(pack, 2);
    manta_pack_arg(pack, result);
    manta_pack_arg(pack, manta_int(now_ns() - begin_ns));
    manta_request_reply_pack(request, pack);
    manta_pack_free(pack);
}

static void make_call(void *state, struct manta_request *request)
{
    int64_t begin_ns = now_ns(), size;
    struct manta_error error = {0};
    struct manta_buffer *picture;
    (void)state;
    if (manta_args_int(manta_request_args(request), 0, &size, &error) < 0 ||
        manta_buffer_new((size_t)size, &picture, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    memset(manta_buffer_at(picture), (int)(begin_ns & 0x7f), (size_t)size);
    reply(request, manta_by_reference(picture), begin_ns);
    manta_buffer_free(picture);
}

static void turn_call(void *state, struct manta_request *request)
{
    int64_t begin_ns = now_ns();
    struct manta_error error = {0};
    struct manta_buffer *turned;
    const void *picture;
    size_t size;
    (void)state;
    if (manta_args_binary(manta_request_args(request), 0, &picture, &size, &error) < 0 ||
        manta_buffer_new(size, &turned, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    memcpy(manta_buffer_at(turned), picture, size);
    reply(request, manta_by_reference(turned), begin_ns);
    manta_buffer_free(turned);
}

static void measure_call(void *state, struct manta_request *request)
{
    int64_t begin_ns = now_ns(), sum = 0;
    struct manta_error error = {0};
    const void *picture;
    size_t size;
    (void)state;
    if (manta_args_binary(manta_request_args(request), 0, &picture, &size, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)picture)[i];
    reply(request, manta_int(sum), begin_ns);
}

MANTA_DEPLOYMENT(make, .call = make_call);
MANTA_DEPLOYMENT(turn, .call = turn_call);
MANTA_DEPLOYMENT(measure, .call = measure_call);

static void head_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_nil(request);
}

/* Never asked: it holds the three together. */
MANTA_DEPLOYMENT(head, .call = head_call);

MANTA_APPLICATION(stages)
{
    return manta_bind(app, &head, manta_bind(app, &make), manta_bind(app, &turn),
                      manta_bind(app, &measure));
}
