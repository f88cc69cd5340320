/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edges: where a picture changes, as a deployment that Python calls.
 *
 *     __call__(picture) -> edges     8-bit grey in, 8-bit grey out, two-dimensional tensors of one
 * shape
 *
 * Sobel's operator: for every pixel the steepest change around it. The picture is read where the
 * caller put it, and the answer is read where it is written here: neither travels through a socket.
 */
#include <math.h>
#include <stdio.h>

#include <manta/manta.h>

enum { EDGE = 1 }; /* pixels at the border that have not all neighbours: they stay black */

/* One row of the answer from three of the picture. */
static void sobel_row(const uint8_t *above, const uint8_t *row, const uint8_t *below, int64_t width,
                      uint8_t *edges)
{
    edges[0] = edges[width - 1] = 0;
    for (int64_t x = EDGE; x < width - EDGE; x++) {
        int across = above[x + 1] + 2 * row[x + 1] + below[x + 1] - above[x - 1] - 2 * row[x - 1] -
                     below[x - 1];
        int down =
            below[x - 1] + 2 * below[x] + below[x + 1] - above[x - 1] - 2 * above[x] - above[x + 1];
        float steepness = sqrtf((float)(across * across + down * down));
        edges[x] = steepness > 255 ? 255 : (uint8_t)steepness;
    }
}

static void sobel(const struct manta_tensor *picture, uint8_t *edges)
{
    const uint8_t *pixels = picture->data;
    int64_t height = picture->shape[0], width = picture->shape[1];
    for (int64_t x = 0; x < width; x++)
        edges[x] = edges[(height - 1) * width + x] = 0;
    for (int64_t y = EDGE; y < height - EDGE; y++) {
        const uint8_t *row = pixels + y * width;
        sobel_row(row - width, row, row + width, width, edges + y * width);
    }
}

static bool is_picture(const struct manta_tensor *tensor)
{
    return tensor->kind == MANTA_TENSOR_UINT && tensor->bits == 8 && tensor->ndim == 2 &&
           tensor->shape[0] > 2 * EDGE && tensor->shape[1] > 2 * EDGE &&
           manta_tensor_is_compact(tensor);
}

static void edges_call(void *state, struct manta_request *request)
{
    struct manta_value value;
    struct manta_tensor picture, answer;
    struct manta_error error = {0};
    void *pixels;
    (void)state;
    if (manta_args_value(manta_request_args(request), 0, &value, &error) < 0 ||
        manta_value_tensor(&value, &picture, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    if (!is_picture(&picture)) {
        manta_request_fail(request, MANTA_EINVALID,
                           "a picture is an array of uint8 with two dimensions of 3 and more");
        return;
    }
    if (manta_tensor_new(MANTA_TENSOR_UINT, 8, picture.shape, 2, &answer, &pixels, &error) < 0) {
        manta_request_fail(request, error.code, "%s", error.text);
        return;
    }
    sobel(&picture, pixels);
    manta_request_reply_arg(request, manta_tensor_arg(&answer));
    manta_tensor_done(&answer);
}

MANTA_DEPLOYMENT(edges, .call = edges_call, .num_replicas = 1);

MANTA_APPLICATION(edges)
{
    return manta_bind(app, &edges);
}
