/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <manta/model.h>: many models in one replica.
 *
 *     static int iris_load(void *state, const char *model_id, void **ret_model, struct manta_error *reterr);
 *     static void iris_unload(void *state, const char *model_id, void *model);
 *
 *     static void iris_call(void *state, struct manta_request *request)
 *     {
 *         void *model;
 *         struct manta_error error;
 *         if (manta_model_get(request, &model, &error) < 0)
 *             manta_request_fail(request, error.code, "%s", error.text);
 *         ...
 *     }
 *
 *     MANTA_DEPLOYMENT(iris, .call = iris_call, .load_model = iris_load, .unload_model = iris_unload, .max_models = 8);
 *
 * A request names its model in the header `serve_multiplexed_model_id`, or in the `model_id` of a call's options.  Whoever
 * sends it prefers replicas that hold the model, then those that hold the fewest, as Ray Serve does; requests of a batch
 * are all for one model.
 *
 * A replica holds at most `max_models`.  What is asked for and not there is loaded on the thread that asks; when the replica is
 * full, the model that was not used for the longest time is unloaded first.  A model is held by the requests that got it until
 * they are answered and never unloaded before; when all are held, the next one waits.  Of those who ask for one model at the
 * same time one loads it and the others wait; different models are loaded side by side by different threads.  A model
 * that could not be loaded is not remembered: all who waited for it get its error, and the next one tries again.
 */
#ifndef MANTA_MODEL_H
#define MANTA_MODEL_H

#include <manta/deployment.h>
#include <manta/error.h>
#include <manta/request.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The model that the request names, loaded if need be; it is the caller's to use until the request is answered.  May wait,
 * at most until the request's deadline (MANTA_ETIMEOUT) or until its caller has given up (MANTA_ECANCELLED).  MANTA_EINVALID: it
 * names none.  MANTA_EUSER: the deployment has no load_model.  What load_model returned when it failed, with its text.  Any thread but
 * that of a callback of the library, where a model that is not there yet is refused (MANTA_EINVALID).
 */
MANTA_EXPORT int manta_model_get(struct manta_request *request, void **ret_model, struct manta_error *reterr);
/* The same for another model than the request's own: an id of 1 to 200 bytes.  MANTA_ELIMIT: the request would hold more than max_models. */
MANTA_EXPORT int manta_model_load(struct manta_request *request, const char *model_id, void **ret_model,
                                  struct manta_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
