/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner_life: a C replica from its document to its end.
 */
#include <stdio.h>
#include <unistd.h>

#include <manta/sys/replica.h>

#include "library.h"
#include "log.h"
#include "mem.h"
#include "runner.h"

static int load(struct runner *runner, struct error *reterr)
{
    if (runner->own)
        return library_check_deployment(runner->own, &runner->deployment, reterr);
    if (library_open(runner->document.library, &runner->library, reterr) < 0)
        return reterr->code;
    return library_deployment(runner->library, runner->document.symbol, &runner->deployment,
                              reterr);
}

/* Constructor, first user_config, first health check; the standby steers meanwhile. */
static int construct(struct runner *runner, struct error *reterr)
{
    const struct manta_deployment *deployment = &runner->deployment;
    struct manta_error error = {0};
    struct manta_taker_thread *thread = manta_taker_thread_new(runner->taker);
    if (!thread)
        return error_set(reterr, ERROR_MEMORY, "no memory for a thread");
    manta_taker_enter(thread);
    int code = deployment->open ? deployment->open(runner->replica, &runner->state, &error) : 0;
    runner->opened = code >= 0;
    manta_taker_set_state(runner->taker, runner->state);
    if (code >= 0 && runner->document.user_config && deployment->reconfigure)
        code = deployment->reconfigure(runner->state, runner->document.user_config, &error);
    if (code < 0)
        error_set(reterr, ERROR_USER, "%s", error.text[0] ? error.text : manta_error_text(code));
    else
        code = runner_check_health(runner, reterr);
    manta_taker_leave(thread);
    manta_taker_thread_free(thread);
    return code < 0 ? reterr->code : 0;
}

static int listen(struct runner *runner, struct error *reterr)
{
    struct manta_error error = {0};
    int code = manta_taker_ready(runner->taker, &error);
    return code < 0 ? error_set(reterr, code, "%s", error.text) : 0;
}

/* Before the first sender comes, so that each hears that there are models. */
static int open_models(struct runner *runner, struct error *reterr)
{
    struct manta_error error = {0};
    if (!runner->deployment.load_model)
        return 0;
    int code = manta_taker_set_models(runner->taker, runner->deployment.load_model,
                                      runner->deployment.unload_model, runner->document.max_models,
                                      runner->document.model_load_timeout_s, &error);
    return code < 0 ? error_set(reterr, code, "%s", error.text) : 0;
}

/* On a thread that came for work: nobody is in this thread's share of user code. */
static int configure(void *owner, const struct manta_taker_configuration *configuration,
                     struct manta_error *reterr)
{
    struct runner *runner = owner;
    runner_health_change(runner, configuration->health_check_period_s,
                         configuration->health_check_timeout_s);
    bool changed = configuration->user_config_changed || configuration->rank_changed;
    if (!changed || !configuration->user_config || !runner->deployment.reconfigure)
        return 0; /* Ray Serve's rule: user code hears of a rank only if there is a user_config */
    return runner->deployment.reconfigure(runner->state, configuration->user_config, reterr);
}

static int run(struct runner *runner, struct error *reterr)
{
    if (load(runner, reterr) < 0)
        return reterr->code;
    manta_taker_set_batched(runner->taker, runner->deployment.call_batch != NULL);
    manta_taker_set_configure(runner->taker, configure, runner);
    if (construct(runner, reterr) < 0)
        return reterr->code;
    if (open_models(runner, reterr) < 0)
        return reterr->code;
    if (manta_taker_ended(runner->taker))
        return 0; /* it was told to end while it was being constructed */
    if (listen(runner, reterr) < 0)
        return reterr->code;
    runner_health_start(runner);
    int code = runner_serve(runner, reterr);
    runner->hangs = !runner_health_stop(runner);
    if (runner->hangs)
        manta_taker_keep(runner->taker);
    return code;
}

/*
 * Calls that are out end first, while the state that their callbacks use is there; then models.  A
 * check or a load that hangs keeps the state.
 */
bool runner_close(struct runner *runner)
{
    manta_taker_end_calls(runner->taker);
    if (!runner->hangs)
        runner->hangs = !manta_taker_end_models(runner->taker);
    if (runner->opened && runner->deployment.close && !runner->hangs)
        runner->deployment.close(runner->state);
    return manta_taker_close(runner->taker);
}

int runner_live(struct runner *runner, struct manta_taker *taker)
{
    struct error error = {0};
    runner->taker = taker;
    runner->replica = manta_taker_replica(taker);
    runner->document.size = sizeof runner->document;
    manta_taker_describe(taker, &runner->document);
    int code = run(runner, &error);
    if (code < 0)
        manta_taker_failed(taker, error.code, error.text);
    return code;
}

int manta_replica_main(int argument_count, char **arguments)
{
    struct runner *runner = mem_new(sizeof *runner);
    struct manta_taker *taker = NULL;
    struct manta_error error = {0};
    if (manta_taker_open(argument_count, arguments, NULL, &taker, &error) < 0) {
        fprintf(stderr, "manta-replica: %s\n", error.text);
        mem_free(runner);
        return 1;
    }
    int code = runner_live(runner, taker);
    if (!runner_close(runner))
        _exit(code < 0 ? 1 : 0);
    mem_free(runner);
    return code < 0 ? 1 : 0;
}
