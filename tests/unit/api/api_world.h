/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_world: a real instance for one test, and short words for calls.
 *
 * A test calls world_start, works with `world`, and world_end: whatever fails on the way fails the
 * test with Manta's own text.  Every world has a runtime directory of its own.
 */
#ifndef API_WORLD_H
#define API_WORLD_H

#include <criterion/criterion.h>
#include <string.h>

#include <manta/manta.h>

#define OBJECT(name) TEST_OBJECTS "/lib" name ".so:"
enum { PATIENCE_S = 60 }; /* for what must happen; only a broken build waits so long */

struct world {
    char directory[32]; /* XDG_RUNTIME_DIR */
    struct manta_instance *instance;
};
extern struct world world;

/* The directory alone, for tests that start by themselves. */
void world_prepare(void);
/* And a private instance without HTTP. */
void world_start(void);
/* Shuts it down if that has not happened, and expects that nothing is left. */
void world_end(void);
/* Everything runs inside this program (MANTA_LOCAL_TESTING): what needs processes is skipped. */
bool world_is_local(void);
/* How many instances have a directory. */
int world_instances(void);

/* Runs "path:application" under the application's own name; `arguments` ends with null, or is null.
 */
void world_run(const char *target, const char *const *arguments);
struct manta_handle *world_handle(const char *app);
/* world_run and world_handle. */
struct manta_handle *world_serve(const char *target);

/* Begins a call that must begin; options may be null. */
struct manta_call *call_begin(struct manta_handle *handle, const struct manta_call_options *options,
                              const struct manta_arg *args, size_t count);
/* One string as the argument. */
struct manta_call *call_word(struct manta_handle *handle, const char *word);
/* Waits for the end that must be good, and gives the result as JSON, in a buffer of its own for the
 * last result. */
const char *call_result(struct manta_call *call);
/* Waits for the end that must be bad, frees the call and returns the error. */
struct manta_error call_failure(struct manta_call *call);
/* call_word and call_result, freed: what the deployment says to one word. */
const char *ask(struct manta_handle *handle, const char *word);
/* Asks again until the answer is the expected one. */
void ask_until(struct manta_handle *handle, const char *word, const char *expected);

#endif
