/* SPDX-License-Identifier: Apache-2.0 */
/*
 * older_header: a deployment as an object built against the first header has it.
 *
 * The struct below is <manta/deployment.h> as it was before models: a copy that stays as it is, whatever the header
 * becomes.  Nothing lies behind the descriptor: the page after it cannot be read, so that whoever believes today's size
 * is found out.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <manta/error.h>
#include <manta/request.h>
#include <manta/value.h>

struct manta_replica;
struct manta_app;
struct manta_method;

struct manta_deployment {
    size_t size;
    uint32_t header_version;
    const char *symbol;
    const char *name;
    int (*open)(struct manta_replica *replica, void **ret_state, struct manta_error *reterr);
    void (*close)(void *state);
    void (*call)(void *state, struct manta_request *request);
    void (*call_batch)(void *state, struct manta_request **requests, size_t count);
    const struct manta_method *methods;
    size_t method_count;
    int (*reconfigure)(void *state, const char *user_config, struct manta_error *reterr);
    int (*check_health)(void *state, struct manta_error *reterr);
    int32_t num_replicas;
    int32_t max_ongoing_requests;
    int32_t max_queued_requests;
    int32_t threads;
    int32_t max_batch_size;
    int32_t max_concurrent_batches;
    double batch_wait_timeout_s;
    double graceful_shutdown_wait_loop_s;
    double graceful_shutdown_timeout_s;
    double health_check_period_s;
    double health_check_timeout_s;
    const char *user_config;
    bool stream_body;
};

struct manta_arg manta_bind_array(struct manta_app *app, const struct manta_deployment *deployment,
                                  const struct manta_arg *args, size_t count);

static void older_call(void *state, struct manta_request *request)
{
    (void)state;
    manta_request_reply_string(request, "as ever");
}

static const struct manta_deployment original = {
    .size = sizeof original,
    .header_version = 1,
    .symbol = "older",
    .name = "older",
    .call = older_call,
    .num_replicas = 1,
    .max_ongoing_requests = 5,
    .max_queued_requests = -1,
    .threads = 1,
    .max_batch_size = 10,
    .max_concurrent_batches = 1,
    .batch_wait_timeout_s = 0.01,
    .graceful_shutdown_wait_loop_s = 2,
    .graceful_shutdown_timeout_s = 20,
    .health_check_period_s = 10,
    .health_check_timeout_s = 30,
};

extern MANTA_EXPORT const struct manta_deployment *manta_deployment_older;
MANTA_EXPORT const struct manta_deployment *manta_deployment_older;

/* The descriptor at the very end of a page that nothing follows. */
__attribute__((constructor)) static void place(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0)
        abort();
    void *at = pages + page - sizeof original;
    memcpy(at, &original, sizeof original);
    manta_deployment_older = at;
}

MANTA_EXPORT struct manta_arg manta_application_older(struct manta_app *app);
MANTA_EXPORT struct manta_arg manta_application_older(struct manta_app *app)
{
    return manta_bind_array(app, manta_deployment_older, NULL, 0);
}
